"""The precision of statistics, kernels and inverses: float32 or wider, whatever the tokens and autocast are in."""

from __future__ import annotations

import torch
from torch import Tensor


def working_dtype(values: Tensor) -> torch.dtype:
    """Return float32, or the type of the values where that is wider."""
    return torch.promote_types(values.dtype, torch.float32)


def widen(values: Tensor) -> Tensor:
    """Return the values in float32 or wider."""
    return values.to(working_dtype(values))
