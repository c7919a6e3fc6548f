"""Compare forecast and measured peak memory of an evaluation, for eleven pairs of network and image size.

Example: python benchmarks/memory_forecast.py --threads 1

Each network runs in fresh processes: once with the default allocator, once with one that returns freed memory at
once. The forecast is that of the latter; the table shows how much more the default allocator keeps.
"""

from __future__ import annotations

import argparse
import fnmatch

import torch

from gossamer.nn.models import model_config
from gossamer.profiling.memory import bare_process_bytes, forecast_memory, measure_peak_memory

# Batches make the activations large relative to the memory of libraries.
PAIRS = (
    ("vit_tiny", "softmax", (640, 512), 4),
    ("vit_tiny", "sequence_norm", (1024, 768), 4),
    ("vit_small", "kv", (384, 384), 8),
    ("soft_tiny", None, (448, 448), 2),
    ("resnet_50", None, (384, 384), 4),
    ("sadnn_classifier_small", None, (512, 512), 4),
    ("unet_32", None, (384, 256), 4),
    ("setr_pup_small", "softmax", (384, 384), 4),
    ("transunet_small", "kv", (384, 384), 4),
    ("cvt_13", "softmax", (256, 256), 4),
    ("apformer_small", None, (384, 384), 4),
)
MIB = 2**20


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default="*")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    bare = bare_process_bytes()
    if bare is None:
        raise SystemExit("this system does not report the memory of a process")
    print(
        f"bare process {bare / MIB:.0f} MiB, {arguments.threads} threads; MiB of forecast, measured, measured/forecast"
    )
    print("| network | size | rise in a call | whole process | rise, allocator as it is | whole, allocator as it is |")
    print("|---|---|---|---|---|---|")
    for name, attention, size, batch in PAIRS:
        if not fnmatch.fnmatch(name, arguments.only):
            continue
        model = model_config(name, attention=attention, image_size=size)
        forecast = forecast_memory(model, batch=batch)
        returning, usual = (
            measure_peak_memory(model, batch=batch, threads=arguments.threads, returning=kind) for kind in (True, False)
        )
        if forecast is None or returning is None or usual is None:
            print(f"| {name} | | unavailable | | | |")
            continue
        rise, whole = forecast.forward_bytes, forecast.process_bytes(bare)
        cells = [
            f"{wanted / MIB:.0f}, {found / MIB:.0f}, {found / wanted:.2f}"
            for wanted, found in (
                (rise, returning.forward_bytes),
                (whole, returning.process_bytes),
                (rise, usual.forward_bytes),
                (whole, usual.process_bytes),
            )
        ]
        kind = f"{name} {attention or ''}".strip()
        print(f"| {kind} | {batch} of {size[0]}x{size[1]} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
