"""Weights that others have published: read, recognised by their names, and loaded into our networks.

``FAMILIES`` is the table of the forms that are known, one file each. To add one: a file with its names and shapes, and
one line here.
"""

from __future__ import annotations

from gossamer.pretrained import hugging_face_vit, soft_released, timm_vit, transunet_released
from gossamer.pretrained.family import Family

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (timm_vit.FAMILY, hugging_face_vit.FAMILY, soft_released.FAMILY, transunet_released.FAMILY)
}

__all__ = ["FAMILIES", "Family"]
