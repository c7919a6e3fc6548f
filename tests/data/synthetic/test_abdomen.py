"""The phantom of the abdomen is deterministic, smooth from slice to slice, and not trivial."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gossamer.data import open_dataset
from gossamer.data.synthetic.abdomen import CLASSES, draw_study, write_abdomen

SIZE = (60, 76)


@pytest.fixture(scope="module")
def studies() -> list[tuple[np.ndarray, np.ndarray]]:
    """Eight studies of four cases: pictures ``(slices, rows, columns)`` and masks with the classes first."""
    drawn = [draw_study(0, case, day, slices=12, size=SIZE) for case in range(1, 5) for day in (0, 3)]
    return [(np.stack([s.picture for s in study]), np.stack([s.masks for s in study], axis=1)) for study in drawn]


def test_a_slice_is_a_function_of_its_numbers(studies: list[tuple[np.ndarray, np.ndarray]]) -> None:
    again = draw_study(0, 1, 0, slices=12, size=SIZE)
    np.testing.assert_array_equal(again[4].picture, studies[0][0][4])
    np.testing.assert_array_equal(again[4].masks, studies[0][1][:, 4])
    assert again[4].picture.dtype == np.uint16
    for other in (studies[1], studies[2]):
        assert not np.array_equal(other[0][4], again[4].picture)
        assert not np.array_equal(other[1][:, 4], again[4].masks)


def test_organs_are_there_overlap_and_leave_slices_empty(studies: list[tuple[np.ndarray, np.ndarray]]) -> None:
    for _, masks in studies:
        assert masks.any(axis=(1, 2, 3)).all()
        assert not masks[:, 0].any()
        assert not masks[:, -1].any()
    shares = np.mean([masks.mean(axis=(1, 2, 3)) for _, masks in studies], axis=0)
    assert np.all((shares > 0.008) & (shares < 0.08)), shares
    overlap = np.mean([(masks.sum(axis=0) > 1).mean() for _, masks in studies])
    assert 0.001 < overlap < 0.02


def test_organs_change_smoothly(studies: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """Neighbouring slices share more of an organ than slices three apart."""
    for k, name in enumerate(CLASSES):
        shared = {1: [], 3: []}
        for _, masks in studies:
            for step, found in shared.items():
                for a, b in zip(masks[k], masks[k, step:], strict=False):
                    if a.any() and b.any():
                        found.append((a & b).sum() / (a | b).sum())
        assert np.mean(shared[1]) > 1.3 * np.mean(shared[3]), name
        assert np.mean(shared[1]) > 0.3, name


def test_no_threshold_finds_an_organ(studies: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """The best range of brightness, chosen with the truth in hand, stays far below what a network can reach."""
    for k, name in enumerate(CLASSES):
        pixels = np.concatenate([(p / np.percentile(p, 99)).ravel() for p, _ in studies])
        truth = np.concatenate([m[k].ravel() for _, m in studies])
        edges = np.quantile(pixels[truth], np.linspace(0, 1, 12))
        best = 0.0
        for low in edges:
            for high in edges[edges > low]:
                guess = (pixels >= low) & (pixels <= high)
                best = max(best, 2 * (guess & truth).sum() / (guess.sum() + truth.sum()))
        assert best < 0.35, (name, best)


def test_a_written_phantom_is_a_data_set(tmp_path: Path) -> None:
    write_abdomen(tmp_path / "a", cases=3, days=2, slices=6, size=(36, 44), seed=5)
    dataset = open_dataset(tmp_path / "a", task="segment")
    assert (dataset.layout, dataset.classes, dataset.faults) == ("rle_csv", CLASSES, ())
    assert any("run lengths count along rows: the perimeter" in note.text for note in dataset.notes)
    assert len(dataset.samples) == 6
    assert {sample.patient for sample in dataset.samples} == {"case1", "case2", "case3"}
    for sample in dataset.samples:
        case, day = (int(part[k:]) for part, k in zip(sample.id.split("_"), (4, 3), strict=True))
        found = dataset.read(sample)
        assert found.image.spacing_mm == (3.0, 9.09, 9.09)
        for index, drawn in enumerate(draw_study(5, case, day, slices=6, size=(36, 44))):
            np.testing.assert_array_equal(found.image.array[index], drawn.picture)
            np.testing.assert_array_equal(found.labels.planes[:, index], drawn.masks)


def test_a_square_phantom_says_its_order(tmp_path: Path) -> None:
    write_abdomen(tmp_path, cases=1, days=1, slices=4, size=(40, 40))
    assert (tmp_path / "rle_order.txt").read_text() == "rows\n"
    assert open_dataset(tmp_path, task="segment").faults == ()
