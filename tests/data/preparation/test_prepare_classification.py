"""Preprocessing is fitted on the training split alone, and labels are matched by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from gossamer.data import open_dataset
from gossamer.data.preparation.classification import (
    ClassificationSurvey,
    choose_image_size,
    fit_preprocessing,
    prepare_split,
    survey_dataset,
)
from gossamer.errors import ErrorCode, GossamerError


def write(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PillowImage.fromarray(array).save(path)


def test_prepared_training_images_are_standardized(phantom: Path) -> None:
    dataset = open_dataset(phantom)
    found = survey_dataset(dataset)
    assert (found.shape, found.same_shape, found.channels, found.stored) == ((16, 16), True, 1, "uint16")
    assert 0 < found.low < found.high <= 4095
    steps = fit_preprocessing(dataset, found, (16, 16))
    train = prepare_split(dataset, dataset.split("train"), steps, dataset.classes)
    assert train.images.shape == (len(dataset.split("train")), 1, 16, 16)
    assert abs(float(train.images.mean())) < 1e-3
    assert abs(float(train.images.std()) - 1) < 1e-3
    np.testing.assert_array_equal(train.targets.sum(axis=1), 1)


def test_other_splits_do_not_influence_the_preprocessing(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for name in "ab":
            for index in range(3):
                values = generator.integers(0, 1000 if split == "train" else 60000, (8, 8), dtype=np.uint16)
                write(tmp_path / split / name / f"{index}.png", values)
    dataset = open_dataset(tmp_path)
    assert survey_dataset(dataset).high < 1000


def test_images_of_other_proportions_are_fitted_and_padded(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for name in "ab":
        for index in range(10):
            shape = (20, 40) if index % 2 else (30, 30)
            write(tmp_path / name / f"{index}.png", generator.integers(0, 255, shape, dtype=np.uint8))
    dataset = open_dataset(tmp_path)
    found = survey_dataset(dataset)
    assert not found.same_shape
    steps = fit_preprocessing(dataset, found, (32, 32))
    wide = next(sample for sample in dataset.samples if dataset.read(sample).array.shape == (20, 40))
    array = steps.network_input(dataset.read(wide))[0]
    np.testing.assert_array_equal(array[:8], 0)
    assert array[8:24].std() > 0.1


def test_mixed_types_and_constant_images_are_refused(tmp_path: Path) -> None:
    for name in "ab":
        for index in range(10):
            write(tmp_path / name / f"{index}.png", np.zeros((8, 8), np.uint16))
    with pytest.raises(GossamerError) as caught:
        survey_dataset(open_dataset(tmp_path))
    assert "all pixels" in str(caught.value)
    for index in range(10):
        write(tmp_path / "a" / f"{index}.png", np.zeros((8, 8), np.uint8))
    with pytest.raises(GossamerError) as caught:
        survey_dataset(open_dataset(tmp_path))
    assert "uint8" in str(caught.value)


def test_labels_are_matched_by_name(phantom: Path) -> None:
    dataset = open_dataset(phantom)
    steps = fit_preprocessing(dataset, survey_dataset(dataset), (8, 8))
    samples = dataset.split("val")
    swapped = prepare_split(dataset, samples, steps, ("nodule", "clear"))
    plain = prepare_split(dataset, samples, steps, ("clear", "nodule"))
    np.testing.assert_array_equal(swapped.targets, plain.targets[:, ::-1])
    with pytest.raises(GossamerError) as caught:
        prepare_split(dataset, samples, steps, ("clear", "mass"))
    assert caught.value.code is ErrorCode.LABEL
    assert "'nodule'" in str(caught.value)


@pytest.mark.parametrize(
    ("shape", "multiple", "wanted"),
    [
        ((28, 28), None, (28, 28)),
        ((30, 61), None, (32, 60)),
        ((512, 512), None, (224, 224)),
        ((2000, 1000), None, (224, 112)),
        ((100, 100), None, (96, 96)),
        ((28, 28), 7, (28, 28)),
    ],
)
def test_image_size(shape: tuple[int, int], multiple: int | None, wanted: tuple[int, int]) -> None:
    found = ClassificationSurvey(shape, same_shape=True, channels=1, stored="uint8", low=0, high=255)
    assert choose_image_size(found, multiple) == wanted
