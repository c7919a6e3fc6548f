"""Measure the cost of SOFT at several resolutions: the linear form and the released one, whose landmarks grow.

Example: python benchmarks/soft_resolution.py --sizes 224 448 672 896 --presets soft_tiny soft_tiny_official

Each network is built for 224 x 224 pixels and sees one image of each size, in evaluation, on one thread, in a fresh
process. Multiply-accumulates include Newton's iteration. Weights are fresh, since costs do not depend on them.
The released form takes minutes at 896 pixels.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time

PRESETS = ("soft_tiny", "soft_tiny_official")
BUILT_FOR = 224
CALLS, LONG_S = 5, 20.0
"""Calls that the median is taken of; one that takes longer than ``LONG_S`` is not repeated."""


def measure(preset: str, side: int) -> dict[str, float]:
    """Return multiply-accumulates, seconds and peak resident bytes of one image of ``side`` x ``side`` pixels."""
    import torch

    import gossamer

    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = gossamer.create_model(preset, image_size=(BUILT_FOR, BUILT_FOR)).eval()
    images = torch.randn(1, 3, side, side)
    seconds: list[float] = []
    with torch.inference_mode():
        while len(seconds) < CALLS + 1:
            begin = time.perf_counter()
            network(images)
            seconds.append(time.perf_counter() - begin)
            if seconds[-1] > LONG_S:
                break
    # The first call warms up, unless it is the only one.
    median = statistics.median(seconds[1:] or seconds)
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"macs": network.cost((side, side)).macs, "seconds": median, "peak_bytes": peak}


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=(224, 448, 672, 896))
    parser.add_argument("--presets", nargs="+", default=PRESETS)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options.presets[0], options.sizes[0])))
        return
    first = options.sizes[0]
    print(f"each `times` is over the figure at {first} x {first}; memory is the peak of the process")
    print("| network | pixels | area, times | GMACs | times | seconds | times | memory, MiB |")
    print("|---|---|---|---|---|---|---|---|")
    for preset in options.presets:
        base: dict[str, float] = {}
        for side in options.sizes:
            command = [sys.executable, __file__, "--child", "--presets", preset, "--sizes", str(side)]
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            finished = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
            found = json.loads(finished.stdout)
            base = base or found
            columns = [
                preset,
                f"{side} x {side}",
                f"{(side / first) ** 2:.1f}",
                f"{found['macs'] / 1e9:.2f}",
                f"{found['macs'] / base['macs']:.1f}",
                f"{found['seconds']:.3g}",
                f"{found['seconds'] / base['seconds']:.1f}",
                f"{found['peak_bytes'] / 2**20:.0f}",
            ]
            print(f"| {' | '.join(columns)} |", flush=True)


if __name__ == "__main__":
    main()
