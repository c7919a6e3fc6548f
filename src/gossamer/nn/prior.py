"""APFormer's self-supervised prior of attention matrices (SSA, Lin et al., arXiv 2206.14413)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from gossamer.nn.precision import widen


def self_supervised_prior(matrix: Float[Tensor, "batch heads tokens tokens"]) -> Float[Tensor, ""]:
    """Return APFormer's prior (SSA) of attention matrices: nearly symmetric, and its sharpest row not flat.

    ``0.8 max(SmoothL1(n A, n A^T), 0.1) + 0.2 mean(10 max(min_i e_i - 0.9, 0))`` with e_i the entropy of row i over
    its largest possible value; 0.28 for a uniform matrix, 0.08 for the identity.
    """
    count = matrix.shape[-1]
    matrix = widen(matrix)
    symmetry = F.smooth_l1_loss(count * matrix, count * matrix.transpose(-2, -1)).clamp(min=0.1)
    # The logarithm of a clamped weight: that of a zero would have the gradient NaN.
    logarithm = matrix.clamp(min=torch.finfo(matrix.dtype).tiny).log()
    entropy = -(matrix * logarithm).sum(dim=-1) / math.log(max(count, 2))
    flatness = 10.0 * (entropy.amin(dim=-1) - 0.9).clamp(min=0.0)
    return 0.8 * symmetry + 0.2 * flatness.mean()
