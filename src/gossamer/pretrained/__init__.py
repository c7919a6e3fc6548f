"""Weights that others have published: read, recognized by their names, and loaded into our networks.

Owns the schemes of names and the safe reading of files of others. Does not own training or writing folders.
``FAMILIES`` is the table of the known schemes, one file each. To add one: a file with its names and shapes, and one
line here.
"""

from __future__ import annotations

from gossamer.pretrained import hugging_face_vit, soft_released, timm_vit, transunet_released
from gossamer.pretrained.family import WeightFamily

FAMILIES: dict[str, WeightFamily] = {
    family.name: family
    for family in (timm_vit.FAMILY, hugging_face_vit.FAMILY, soft_released.FAMILY, transunet_released.FAMILY)
}

__all__ = ["FAMILIES", "WeightFamily"]
