"""``gossamer import-weights``: published weights as the weights of a network of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from gossamer.api.environment import require_training_packages
from gossamer.cli.output import Common
from gossamer.summary import Result


def import_weights(
    file: Path,
    /,
    *,
    out: Path,
    model: str | None = None,
    attention: str | None = None,
    image_size: str | None = None,
    num_classes: int | None = None,
    in_channels: int | None = None,
    trust_pickle: Annotated[bool, Parameter(negative="")] = False,
    common: Common = Common(),
) -> Result:
    """Import published weights into a network of Gossamer.

    The names in the file decide which weights they are: ViT and DeiT of timm and Hugging Face, SOFT as released,
    TransUNet of its authors. Every tensor is used, adapted, or left out for a stated reason; any other tensor is an
    error. OUT gets config.json, model.safetensors, and import.json with an account of every tensor.

    Example: gossamer import-weights model.safetensors --model vit_small --out vit_small_imagenet/

    Args:
        file: Safetensors file, or a pickled state dict with --trust-pickle.
        out: New or empty folder.
        model: Network that the weights are for, listed by gossamer models (default: the one preset that fits).
        attention: The network's own mechanism; convert to another one after the import.
        image_size: Rows x columns in pixels, to which positions are resampled (default: that of the file).
        num_classes: Number of classes; the classifier is fresh if the file has another number (default: that of the
            file).
        in_channels: Number of channels of an image (default: that of the file).
        trust_pickle: Read a pickle, which can run code; use it only for files whose authors you trust.
        common: Options of every verb.
    """
    require_training_packages("import-weights")
    from gossamer.api.import_weights import import_weights as import_file

    return import_file(
        file,
        out,
        model=model,
        attention=attention,
        image_size=image_size,
        in_channels=in_channels,
        num_classes=num_classes,
        trust_pickle=trust_pickle,
    )
