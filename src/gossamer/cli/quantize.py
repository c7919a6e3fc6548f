"""``gossamer quantize``: a run or a float32 bundle as an int8 bundle within an accuracy limit."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from gossamer.api.environment import require_training_packages
from gossamer.cli.output import Common
from gossamer.summary import Result


@Parameter(name="*")
@dataclass(frozen=True)
class QuantizeArguments:
    """Options of ``gossamer quantize``.

    Attributes:
        max_drop: Largest allowed degradation of the metric on the validation split, 0 or more.
        metric: Metric whose degradation is limited (default: auroc for classification, dice for segmentation).
        data: Folder of the training data (default: the folder in the config of a run; required for a bundle).
        scheme: Only scheme to try; --rung is its earlier name (default: all, in order).
        range: Range of activations: all values (minmax), or without outliers (percentile).
        images: Number of calibration images or windows of the training split, 128 or more.
        keep_ends: Keep the first and the last layer in float32.
        sensitivities: Measure and plot the sensitivity of all layers even if mixed precision is not needed.
        weight_bits: Bits of the weights: 7 for processors on which sums of int8 products overflow, else 8
            (default: chosen for this processor).
        licence_weights: Licence of the weights of a run, for the model card.
        licence_data: Licence of the training data of a run, for the model card.
        threads: Number of CPU threads (default: all available).
    """

    max_drop: float = 0.005
    metric: str | None = None
    data: Path | None = None
    scheme: Annotated[Literal["dynamic", "static", "mixed"] | None, Parameter(alias="--rung")] = None
    range: Literal["minmax", "percentile"] = "minmax"
    images: int = 256
    keep_ends: bool = False
    sensitivities: bool = False
    weight_bits: Literal[7, 8] | None = None
    licence_weights: str | None = None
    licence_data: str | None = None
    threads: int | None = None


def quantize(
    source: Path,
    /,
    *,
    out: Path,
    options: QuantizeArguments = QuantizeArguments(),
    common: Common = Common(),
) -> Result:
    """Quantize a run or a bundle to int8 within an accuracy limit.

    Weights of convolutions and matrix products become int8 after training; LayerNorm, softmax, GELU and statistics over
    tokens stay in float32. The schemes dynamic, static and mixed precision are tried in this order until the metric
    drops by at most MAX_DROP on the validation split. Calibration uses the training split, and the test split is used
    once, for the chosen scheme. If no scheme stays within the limit, only a report, OUT.report, is written, and the
    command fails.

    Example: gossamer quantize runs/chest --out bundles/chest-int8 --max-drop 0.005

    Example: gossamer quantize bundles/chest --data chest/ --out bundles/chest-int8

    Args:
        source: Folder of a run, or of a float32 bundle.
        out: Folder of the int8 bundle, new or empty.
        options: Options of quantization.
        common: Options of every verb.
    """
    require_training_packages("quantize")
    from gossamer.api.quantize import quantize as quantize_model

    values = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
    return quantize_model(source, out, **values, progress=True)
