"""Bytes that live at once, counted from shapes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from gossamer.profiling.live_bytes import LiveBytes, OverLimitError, convolution_workspace


def test_what_ended_is_no_longer_counted() -> None:
    with FakeTensorMode(), torch.no_grad(), LiveBytes() as counter:
        a = torch.zeros(5, 7, dtype=torch.float64)
        b = a + 1
        del a
        c = b.view(7, 5)  # the same storage
        d = c * 2
        del b, c, d
        torch.zeros(11)
    assert counter.peak == 2 * 5 * 7 * 8


def test_views_of_weights_are_not_new() -> None:
    with FakeTensorMode(), torch.no_grad():
        linear, x = torch.nn.Linear(13, 3), torch.zeros(2, 13)
        with LiveBytes() as counter:
            linear(x)
    assert counter.peak == 2 * 3 * 4


def test_convolutions_take_copies_in_blocks_of_channels() -> None:
    def workspace(
        images: torch.Tensor, weight: torch.Tensor, stride: tuple[int, int] = (1, 1), padding: tuple[int, int] = (1, 1)
    ) -> int:
        out = F.conv2d(images, weight, stride=stride, padding=padding)
        return convolution_workspace(
            images, weight, None, list(stride), list(padding), [1, 1], False, [0, 0], 1, out=out
        )

    # Many channels: blocked images and filters, beside a blocked result that takes the place of the plain one.
    images, weight = torch.zeros(2, 20, 40, 24), torch.zeros(8, 20, 3, 3)
    assert workspace(images, weight) == 4 * (2 * 32 * 40 * 24 + 8 * 20 * 9 + 2 * (16 - 8) * 40 * 24)
    # Few channels: the plain result beside the blocked one.
    assert workspace(torch.zeros(2, 3, 40, 24), torch.zeros(16, 3, 3, 3)) == 4 * 2 * 16 * 40 * 24


def test_the_peak_holds_a_workspace_only_where_asked_for() -> None:
    peaks = []
    for workspaces in (False, True):
        with FakeTensorMode(), torch.no_grad():
            layer, images = torch.nn.Conv2d(3, 16, 3, padding=1), torch.zeros(2, 3, 40, 24)
            with LiveBytes(workspaces=workspaces) as counter:
                layer(images)
        peaks.append(counter.peak)
    out = 4 * 2 * 16 * 40 * 24
    assert peaks == [out, 2 * out]


def test_questions_about_content_are_answered_on_request() -> None:
    with FakeTensorMode(), torch.no_grad():
        kept = torch.zeros(2, 5, dtype=torch.bool)
        with LiveBytes(assume_dense=True):
            assert bool(kept.all())
        with LiveBytes(), pytest.raises(DataDependentOutputException):
            bool(kept.all())


def test_a_count_ends_at_its_limit() -> None:
    with FakeTensorMode(), torch.no_grad(), LiveBytes(limit=3 * 7 * 4) as counter:
        made = [torch.zeros(7) for _ in range(3)]
        with pytest.raises(OverLimitError):
            torch.zeros(7)
    assert len(made) == 3
    assert counter.peak == 4 * 7 * 4
