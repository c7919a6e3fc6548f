"""Segment one large image with every small preset, each in a fresh process, and print time and peak memory.

Example: python benchmarks/large_image.py --side 4096 --window 256

Weights are fresh, since memory and time do not depend on them.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time

PRESETS = (
    "transunet_small",
    "setr_naive_small",
    "setr_pup_small",
    "setr_mla_small",
    "cvt_small",
    "apformer_small",
    "sadnn_segmenter_small",
    "sumnet_small",
    "unet_16",
    "monai_unet",
)


def segment(preset: str, side: int, window: int) -> dict[str, float]:
    """Return seconds and peak resident bytes of segmenting a noisy image of ``side`` x ``side`` pixels."""
    import numpy as np

    import gossamer
    from gossamer.data.image import Image
    from gossamer.data.transforms import Preprocessing, ScaleIntensity, Standardize
    from gossamer.inference.segmentation import SegmentationPredictor, SlidingWindow
    from gossamer.training.run_predictor import wrap_network

    generator = np.random.default_rng(0)
    image = Image(generator.integers(0, 255, (side, side), dtype=np.uint8), ("rows", "columns"), "noise")
    network = gossamer.create_model(preset, image_size=(window, window), in_channels=1, num_classes=3)
    steps = Preprocessing((ScaleIntensity(0, 255, "uint8"), Standardize(0.5, 0.3)))
    model = SegmentationPredictor(
        network=wrap_network(network),
        preprocessing=steps,
        windows=SlidingWindow((window, window)),
        classes=("a", "b"),
    )
    begin = time.perf_counter()
    labels = model.predict(image)
    assert labels.spatial_shape == (side, side)
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": time.perf_counter() - begin, "peak_bytes": peak}


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=4096)
    parser.add_argument("--window", type=int, default=256)
    parser.add_argument("--presets", nargs="+", default=PRESETS)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(segment(options.presets[0], options.side, options.window)))
        return
    print(f"one image of {options.side} x {options.side} pixels, windows of {options.window}, half of which overlap")
    print("| network | peak memory of the process, GiB | seconds |")
    print("|---|---|---|")
    for preset in options.presets:
        command = [sys.executable, __file__, "--child", "--side", str(options.side), "--window", str(options.window)]
        finished = subprocess.run([*command, "--presets", preset], check=True, capture_output=True, text=True)
        figures = json.loads(finished.stdout)
        print(f"| {preset} | {figures['peak_bytes'] / 2**30:.2f} | {figures['seconds']:.0f} |", flush=True)


if __name__ == "__main__":
    main()
