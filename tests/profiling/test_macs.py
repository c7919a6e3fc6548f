"""The counter agrees with hand counts, and refuses rather than report zero."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from gossamer.errors import ErrorCode, GossamerError
from gossamer.profiling.macs import count_macs


class Function(nn.Module):
    def __init__(self, function: object) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)  # type: ignore[operator]


def test_linear_and_convolution() -> None:
    assert count_macs(nn.Linear(7, 11), torch.zeros(5, 7)).total == 5 * 7 * 11
    convolution = nn.Conv2d(3, 5, (3, 2), stride=2)
    assert count_macs(convolution, torch.zeros(1, 3, 9, 10)).total == 4 * 5 * 3 * 5 * 3 * 2
    grouped = nn.Conv2d(6, 6, 3, groups=6, padding=1)
    assert count_macs(grouped, torch.zeros(1, 6, 8, 9)).total == 8 * 9 * 6 * 9


def test_fused_attention_is_counted() -> None:
    attention = Function(lambda x: nn.functional.scaled_dot_product_attention(x, x, x))
    assert count_macs(attention, torch.zeros(2, 3, 13, 4)).total == 2 * 3 * 2 * 13 * 13 * 4


@pytest.mark.parametrize(
    "module",
    [
        nn.TransformerEncoderLayer(8, 2, batch_first=True),
        Function(torch.linalg.inv),
        Function(lambda x: torch.cdist(x, x)),
    ],
)
def test_an_operator_without_a_formula_is_an_error(module: nn.Module) -> None:
    with pytest.raises(GossamerError) as caught:
        count_macs(module, torch.eye(8).expand(2, 8, 8))
    assert (caught.value.code, caught.value.where) == (ErrorCode.UNSUPPORTED, "count_macs")


def test_training_mode_is_restored() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5)).train()
    count_macs(model, torch.zeros(1, 3))
    assert model.training
