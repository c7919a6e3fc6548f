"""Calibration sees the training split and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_graphs import write

from gossamer.data import ClassificationDataset, LabelledCase, Sample, SegmentationDataset
from gossamer.data.image import Image
from gossamer.data.label_map import LabelMap
from gossamer.data.windows import add_neighbours, blend_bands
from gossamer.errors import ErrorCode, GossamerError
from gossamer.inference.bundle import open_bundle
from gossamer.inference.segmentation import bundle_predictor
from gossamer.inference.tasks import bundle_predictor as any_predictor
from gossamer.quantization import classification, segmentation
from gossamer.quantization.calibrate import CalibrationBatches, draw_calibration_data
from made_bundles import write_segmenter

SIZES = {"train": 137, "val": 19, "test": 23}


def in_memory(seen: list[Sample], **sizes: int) -> ClassificationDataset:
    """Images whose pixels all hold their own number."""
    samples = tuple(Sample(f"{split}/{k}", (k % 2,), split) for split, size in sizes.items() for k in range(size))
    number = {sample.id: index for index, sample in enumerate(samples)}

    def read(sample: Sample) -> Image:
        seen.append(sample)
        return Image(np.full((16, 24), 100 * number[sample.id], np.uint16), ("rows", "columns"), sample.id)

    return ClassificationDataset("memory", "manifest", ("a", "b"), samples, multi_label=False, reader=read)


def test_only_training_images_are_read_each_once(tmp_path: Path) -> None:
    seen: list[Sample] = []
    dataset = in_memory(seen, **SIZES)
    bundle = open_bundle(write(tmp_path / "bundle", dataset), threads=1)
    found = draw_calibration_data(classification, any_predictor(bundle), dataset, 130, seed=4)
    assert {sample.split for sample in seen} == {"train"}
    assert [sample.id for sample in seen] == list(found.samples)
    assert len(set(found.samples)) == 130
    assert found.windows.shape == (130, 1, 16, 24)
    assert (found.noun, found.notes) == ("images", ())
    stored = np.array([100 * int(name.split("/")[1]) for name in found.samples])
    np.testing.assert_allclose(found.windows[:, 0, 3, 7], (stored / 65535 - 0.4) / 0.2, rtol=1e-4)


def test_the_sample_follows_the_seed(tmp_path: Path) -> None:
    dataset = in_memory([], **SIZES)
    bundle = open_bundle(write(tmp_path / "bundle", dataset), threads=1)
    draws = [
        draw_calibration_data(classification, any_predictor(bundle), dataset, 128, seed).samples for seed in (0, 0, 1)
    ]
    assert draws[0] == draws[1] != draws[2]


def test_fewer_than_128_are_refused_unless_there_are_no_more(tmp_path: Path) -> None:
    seen: list[Sample] = []
    dataset = in_memory(seen, train=60, val=19)
    bundle = open_bundle(write(tmp_path / "bundle", dataset), threads=1)
    with pytest.raises(GossamerError) as caught:
        draw_calibration_data(classification, any_predictor(bundle), dataset, 127)
    assert (caught.value.code, caught.value.where) == (ErrorCode.CONFIG, "images")
    assert seen == []
    found = draw_calibration_data(classification, any_predictor(bundle), dataset, 128)
    assert len(found.windows) == 60
    assert [note.code for note in found.notes] == [ErrorCode.MISSING]
    assert "60 of 128 images" in found.notes[0].text


def volumes(slices: int = 3, cases: int = 5) -> SegmentationDataset:
    """Volumes of 30 rows, which a window covers with zeros to spare, or 60 columns, of several windows."""
    samples = tuple(Sample(f"{split}{k}", (), split) for split in ("train", "val") for k in range(cases))

    def read(sample: Sample) -> LabelledCase:
        generator = np.random.default_rng(list(sample.id.encode()))
        pixels = generator.integers(0, 200, (slices, 21, 60)).astype(np.uint8)
        image = Image(pixels, ("slices", "rows", "columns"), sample.id)
        planes = np.zeros((2, slices, 21, 60), bool)
        return LabelledCase(image, LabelMap(planes, ("liver", "large bowel"), False, sample.id))

    return SegmentationDataset(
        "memory", "paired_folders", ("liver", "large bowel"), samples, overlapping=False, volumes=True, reader=read
    )


@pytest.mark.parametrize("count", [9, 20])
def test_windows_are_those_that_evaluation_sees(tmp_path: Path, count: int) -> None:
    bundle = open_bundle(write_segmenter(tmp_path / "bundle", stack=3), threads=1)
    dataset = volumes()
    found, samples = segmentation.draw_inputs(bundle_predictor(bundle), dataset, "train", count, seed=2)
    assert found.shape == (count, 3, 24, 40)
    assert set(samples) == {f"train{k}" for k in range(5)}
    met: list[bytes] = []

    def keep(windows: np.ndarray) -> np.ndarray:
        met.extend(window.tobytes() for window in windows)
        return windows[:, :1]

    for sample in dataset.split("train"):
        stack = bundle_predictor(bundle).preprocessing.network_stack(dataset.read(sample).image)
        for _ in blend_bands(
            add_neighbours(stack, 3), bundle.manifest.input.window, keep, bundle.manifest.input.overlap
        ):
            pass
    drawn = [window.tobytes() for window in found]
    assert len(set(drawn)) == count
    assert set(drawn) <= set(met)


def test_all_windows_are_drawn_where_there_are_few(tmp_path: Path) -> None:
    bundle = open_bundle(write_segmenter(tmp_path / "bundle", stack=3), threads=1)
    found = draw_calibration_data(segmentation, any_predictor(bundle), volumes(), 128)
    assert len(found.windows) == 5 * 3 * 2  # cases, slices, places along the columns
    assert "30 of 128 windows" in found.notes[0].text


def test_batches_hold_every_window_once_and_start_again() -> None:
    windows = np.arange(10, dtype=np.float32).reshape(10, 1, 1, 1)
    batches = CalibrationBatches(windows, "images")
    read = list(iter(batches.get_next, None))
    assert [len(batch["images"]) for batch in read] == [4, 4, 2]
    np.testing.assert_array_equal(np.concatenate([batch["images"] for batch in read]), windows)
    batches.set_range(1, 2)
    np.testing.assert_array_equal(batches.get_next()["images"], windows[4:8])  # type: ignore[index]
    assert batches.get_next() is None
