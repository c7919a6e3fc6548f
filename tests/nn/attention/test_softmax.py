"""The baseline takes masks; the contract tests compare it with its definition."""

from __future__ import annotations

from gossamer.api.attention_checks import check_token_mask
from gossamer.api.attention_samples import CheckSize
from gossamer.nn.attention import SoftmaxConfig


def test_token_masks_are_taken() -> None:
    check_token_mask(SoftmaxConfig(), CheckSize(12, 3, (1, 11)))
