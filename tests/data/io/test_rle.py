"""Run lengths: there and back exactly, in both orders, and no bad run is taken."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gossamer.data.io import rle
from gossamer.errors import ErrorCode, GossamerError

MASKS = hnp.arrays(bool, st.tuples(st.integers(1, 13), st.integers(1, 17)))
ORDERS = st.sampled_from(rle.ORDERS)


@settings(max_examples=200, deadline=None)
@given(MASKS, ORDERS)
def test_a_mask_comes_back(mask: np.ndarray, order: rle.Order) -> None:
    np.testing.assert_array_equal(rle.decode_rle(rle.encode_rle(mask, order), mask.shape, order, "t"), mask)


@st.composite
def canonical(draw: st.DrawFn) -> tuple[str, tuple[int, int]]:
    """Return ascending runs that do not touch, and a shape that holds them."""
    gaps = draw(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), max_size=8))
    position, words = draw(st.integers(0, 5)), []
    for gap, length in gaps:
        words += [position + gap, length]
        position += gap + length
    columns = draw(st.integers(1, 11))
    rows = max(1, -(-position // columns)) + draw(st.integers(0, 3))
    return " ".join(map(str, words)), (rows, columns)


@settings(max_examples=200, deadline=None)
@given(canonical(), ORDERS)
def test_a_canonical_text_comes_back(case: tuple[str, tuple[int, int]], order: rle.Order) -> None:
    text, shape = case
    assert rle.encode_rle(rle.decode_rle(text, shape, order, "t"), order) == text


def test_orders_by_hand() -> None:
    rows = rle.decode_rle("2 3", (2, 3), "rows", "t")
    np.testing.assert_array_equal(rows, [[False, True, True], [True, False, False]])
    columns = rle.decode_rle("2 3", (2, 3), "columns", "t")
    np.testing.assert_array_equal(columns, [[False, True, False], [True, True, False]])
    assert rle.encode_rle(rows, "columns") == "2 2 5 1"


def test_runs_in_any_order_and_runs_that_touch() -> None:
    expected = np.arange(100).reshape(10, 10)
    np.testing.assert_array_equal(
        rle.decode_rle("50 5 1 5", (10, 10), "rows", "t"), ((expected >= 49) & (expected < 54)) | (expected < 5)
    )
    assert rle.encode_rle(rle.decode_rle(" 1 2  3 2\n", (10, 10), "rows", "t"), "rows") == "1 4"
    assert rle.decode_rle("1 100", (10, 10), "columns", "t").all()


@pytest.mark.parametrize("text", ["", "  "])
def test_an_empty_field_is_an_empty_mask(text: str) -> None:
    mask = rle.decode_rle(text, (3, 5), "rows", "t")
    assert mask.shape == (3, 5)
    assert mask.dtype == bool
    assert not mask.any()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("90 50", "run 90 50: the picture of 10x10 has 100 pixels"),
        ("100 2", "100 pixels"),
        ("-5 3", "run -5 3"),
        ("10 -3", "run 10 -3"),
        ("0 3", "run 0 3"),
        ("10 0", "run 10 0"),
        ("1 10 5 10", "run 5 10: it overlaps"),
        ("5 10 1 10", "run 5 10: it overlaps"),
        ("1 10 10 2", "run 10 2: it overlaps"),
        ("3 4 3 4", "overlaps"),
        ("1 99999999999", "100 pixels"),
        ("1 " + "9" * 400, "beyond the 100 pixels"),
        ("9223372036854775807 9223372036854775807", "beyond"),
        ("1.0 3.0", "'1.0'"),
        ("1,5 3", "'1,5'"),
        ("٣ 3", "'٣'"),
        ("nan", "'nan'"),
        ("-1", "1 numbers"),
        ("1 2 3", "3 numbers"),
    ],
)
def test_bad_runs_are_refused_with_their_place(text: str, words: str) -> None:
    for order in rle.ORDERS:
        with pytest.raises(GossamerError) as caught:
            rle.decode_rle(text, (10, 10), order, "train.csv: row 7 (case1_day0_slice_0003)")
        assert caught.value.code is ErrorCode.LABEL
        assert words in str(caught.value)
        assert "row 7 (case1_day0_slice_0003)" in str(caught.value)
        assert len(str(caught.value)) < 250
