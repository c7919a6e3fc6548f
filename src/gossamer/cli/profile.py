"""``gossamer profile``: what a network costs on this machine, and where the time of a prediction goes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from gossamer.cli.output import Answer, Common, print_input_errors


def profile(
    model: str,
    /,
    *images: Path,
    attention: str | None = None,
    image_size: str | None = None,
    patch_size: int | None = None,
    in_channels: int | None = None,
    num_classes: int | None = None,
    batch: int = 1,
    growth: str | None = None,
    training: bool = False,
    engine: Literal["onnxruntime", "openvino"] | None = None,
    threads: int | None = None,
    common: Common = Common(),
) -> Answer:
    """Measure what a network costs: parameters, MACs, latency, memory.

    MODEL is a preset of gossamer models, a run folder, or a bundle. A bundle needs no PyTorch; its energy is measured
    too, and which engine is faster here. With IMAGES, a run or a bundle predicts them as gossamer predict would, keeps
    nothing, and the time of each stage is shown: reading, preprocessing, network, postprocessing and writing.

    Example: gossamer profile vit_small --attention sequence_norm --image-size 224x224

    Example: gossamer profile bundles/chest new-images/ --threads 2

    Example: gossamer profile vit_tiny --attention softmax --growth 64x64,128x128,256x256

    Args:
        model: Preset, run folder or bundle.
        images: Images, or folders of images, that a run or a bundle predicts.
        attention: Attention mechanism of a preset, by name or as JSON.
        image_size: Rows x columns of a preset's input.
        patch_size: Side of a patch of a preset, in pixels.
        in_channels: Number of image channels of a preset.
        num_classes: Number of logits of a preset.
        batch: Number of images in one timed call.
        growth: Image sizes, separated by commas, at which the cost of a preset or a run is measured.
        training: Measure a training step of a preset or a run too.
        engine: Engine of a bundle (default: all that are installed, in turns; onnxruntime for IMAGES).
        threads: Number of CPU threads (default: all available).
        common: Options of every verb.
    """
    from gossamer.api.profile import profile as profile_any

    result = profile_any(
        model,
        images,
        attention=attention,
        image_size=image_size,
        patch_size=patch_size,
        in_channels=in_channels,
        num_classes=num_classes,
        batch=batch,
        growth=growth,
        training=training,
        engine=engine,
        threads=threads,
        progress=True,
    )
    status = print_input_errors(() if result.prediction is None else result.prediction.errors)
    return Answer(result.to_dict(), result.summary_tables(), status)
