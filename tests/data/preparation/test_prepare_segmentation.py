"""What segmentation trains on: window, spacing and scale chosen from the training cases, masks never interpolated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from gossamer.data import Image, LabelledCase, Sample, SegmentationDataset
from gossamer.data.label_map import LabelMap
from gossamer.data.preparation.segmentation import (
    SegmentationSurvey,
    choose_image_size,
    choose_spacing,
    encode_labels,
    fit_preprocessing,
    prepare_split,
    survey_dataset,
)
from gossamer.data.transforms import Preprocessing, Respace
from gossamer.errors import ErrorCode, GossamerError, Note
from recorded_progress import RecordedProgress

SURVEY = SegmentationSurvey((30, 40), (37, 61), 5, 1, "int16", 0.0, 1000.0, (1.0, 1.0), False)


def case(
    seed: int,
    shape: tuple[int, ...] = (3, 20, 28),
    spacing: tuple[float, ...] | None = (3.0, 1.0, 1.0),
    dtype: str = "int16",
    classes: int = 2,
    overlapping: bool = False,
) -> LabelledCase:
    """A volume or picture of noise with the classes painted brighter and brighter."""
    generator = np.random.default_rng(seed)
    spatial = shape[:3] if len(shape) != 3 or spacing is None or len(spacing) == 3 else shape[:2]
    names = tuple(f"class {number}" for number in range(classes))
    codes = np.kron(
        generator.integers(0, classes + 1, [-(-size // 4) for size in spatial]), np.ones([4] * len(spatial))
    )
    codes = codes[tuple(slice(size) for size in spatial)]
    planes = np.stack([(codes >= k if overlapping else codes == k) for k in range(1, classes + 1)])
    noise = generator.normal(0, 5, shape)
    array = (100 + 100 * codes.reshape(*spatial, *[1] * (len(shape) - len(spatial))) + noise).astype(dtype)
    axes = ("slices", "rows", "columns")[-len(spatial) :] + ("channels",) * (len(shape) - len(spatial))
    notes = (Note(ErrorCode.VALUE, f"case {seed}", "a note"),) if seed == 1 else ()
    image = Image(array, axes, f"case {seed}", spacing_mm=spacing, notes=notes)
    return LabelledCase(image, LabelMap(planes, names, overlapping, f"case {seed}"))


def dataset(
    cases: Sequence[LabelledCase], normalize: str = "dataset", splits: Sequence[str] = ()
) -> SegmentationDataset:
    """Cases in memory, all of them for training unless ``splits`` says otherwise."""
    splits = splits or ["train"] * len(cases)
    return SegmentationDataset(
        source="memory",
        layout="memory",
        classes=cases[0].labels.classes,
        samples=tuple(Sample(str(number), (), split) for number, split in enumerate(splits)),
        overlapping=cases[0].labels.overlapping,
        volumes=True,
        reader=lambda sample: cases[int(sample.id)],
        normalize=normalize,
    )


def fitted(data: SegmentationDataset) -> Preprocessing:
    return fit_preprocessing(data, survey_dataset(data))


def names(preprocessing: Preprocessing) -> list[str]:
    return [step.name for step in preprocessing.steps]


@pytest.mark.parametrize(
    ("largest", "multiple", "wanted"),
    [
        ((37, 61), 8, (40, 64)),
        ((37, 61), 1, (37, 61)),
        ((32, 64), 16, (32, 64)),
        ((9, 300), 16, (16, 160)),
        ((257, 161), 32, (160, 160)),
    ],
)
def test_the_window_is_the_largest_slice_a_multiple_and_no_more_than_160(
    largest: tuple[int, int], multiple: int, wanted: tuple[int, int]
) -> None:
    assert choose_image_size(replace(SURVEY, largest=largest), multiple) == wanted


def test_the_window_grows_where_slices_are_brought_to_a_finer_spacing() -> None:
    found = replace(SURVEY, largest=(30, 45), spacing_mm=(2.0, 1.0), spacings_differ=True)
    assert choose_spacing(found) == (1.0, 1.0)
    assert choose_image_size(found, 8) == (64, 48)
    assert choose_image_size(replace(found, spacings_differ=False), 8) == (32, 48)


@pytest.mark.parametrize(
    ("spacings", "median", "differ"),
    [
        ([(3.0, 1.0, 1.0), (5.0, 1.0, 1.0)], (1.0, 1.0), False),
        ([(3.0, 1.0, 1.04), (3.0, 1.0, 1.04)], (1.0, 1.04), False),
        ([(3.0, 1.0, 1.06), (3.0, 1.0, 1.06)], (1.0, 1.06), True),
        ([(3.0, 1.0, 1.0), (3.0, 1.0, 1.0), (3.0, 2.0, 2.0)], (1.0, 1.0), True),
        ([(3.0, 1.0, 1.0), None, (3.0, 2.0, 2.0)], None, False),
    ],
)
def test_cases_are_brought_to_one_spacing_where_it_is_known_and_must_have_one_where_they_differ(
    spacings: list[tuple[float, ...] | None], median: tuple[float, float] | None, differ: bool
) -> None:
    data = dataset([case(number, spacing=spacing) for number, spacing in enumerate(spacings)])
    found = survey_dataset(data)
    assert found.spacing_mm == pytest.approx(median)
    assert found.spacings_differ is differ
    wanted = (
        []
        if median is None
        else [Respace(*((min(median),) * 2 if differ else median), required=differ, tolerance=1.05)]
    )
    for normalize in ("dataset", "case", "slice"):
        steps = fitted(dataset([data.read(sample) for sample in data.samples], normalize)).steps
        assert [step for step in steps if isinstance(step, Respace)] == wanted


def test_an_image_of_another_hospital_comes_to_the_spacing_that_all_training_images_share() -> None:
    steps = fitted(dataset([case(number) for number in range(3)]))
    assert steps.network_stack(case(0).image).shape == (3, 1, 20, 28)
    assert steps.network_stack(case(0, spacing=(3.0, 1.02, 1.02)).image).shape == (3, 1, 20, 28)
    assert steps.network_stack(case(0, spacing=(3.0, 2.0, 0.5)).image).shape == (3, 1, 40, 14)


def test_the_survey_of_volumes_and_of_pictures() -> None:
    found = survey_dataset(dataset([case(0, (5, 20, 28)), case(1, (3, 24, 16)), case(2, (4, 22, 20))]))
    assert (found.shape, found.largest, found.slices, found.channels) == ((22, 20), (24, 28), 4, 1)
    assert found.stored == "int16"
    assert found.low < 110
    assert 290 < found.high < 330
    colours = survey_dataset(dataset([case(0, (20, 28, 3), (1.0, 1.0), "uint8")]))
    assert (colours.channels, colours.slices, colours.low, colours.high) == (3, 1, 0, 255)
    two = survey_dataset(dataset([case(0, (3, 20, 28, 2))]))
    assert two.channels == 2


def test_values_on_one_scale_are_standardized_over_the_training_split() -> None:
    cases = [case(number, (2 + number, 20, 28)) for number in range(3)]
    bright = LabelledCase(cases[0].image.with_array(cases[0].image.array * 50), cases[0].labels)
    data = dataset([*cases, bright], splits=["train"] * 3 + ["val"])
    steps = fitted(data)
    assert names(steps) == ["channels", "scale_intensity", "respace", "standardize"]
    prepared = prepare_split(data, data.split("train"), steps)
    pixels = np.concatenate([part.slices.ravel() for part in prepared.cases]).astype(np.float64)
    assert pixels.mean() == pytest.approx(0, abs=2e-3)
    assert pixels.std() == pytest.approx(1, abs=2e-3)
    assert steps == fitted(dataset(cases)), "other splits do not count"
    assert type(steps.steps[-1].mean) is type(steps.steps[-1].std) is float, "a config is written as plain numbers"


def test_values_without_a_common_scale_are_standardized_by_case_or_slice() -> None:
    cases = [case(number) for number in range(3)]
    scaled = [LabelledCase(c.image.with_array(c.image.array * (k + 1)), c.labels) for k, c in enumerate(cases)]
    for normalize in ("case", "slice"):
        data = dataset(scaled, normalize)
        steps = fitted(data)
        assert names(steps) == ["channels", "respace", "standardize_each"]
        assert steps.steps[-1].over == normalize
        for prepared in prepare_split(data, data.samples, steps).cases:
            parts = prepared.slices if normalize == "slice" else [prepared.slices]
            for part in parts:
                assert part.astype(np.float64).mean() == pytest.approx(0, abs=2e-3)
                assert part.astype(np.float64).std() == pytest.approx(1, abs=2e-3)


def test_what_a_case_becomes() -> None:
    cases = [case(0), case(1, (5, 24, 16, 2)), case(2, (7, 20, 28, 2))]
    data = dataset(cases[1:])
    shown = RecordedProgress()
    prepared = prepare_split(data, data.samples, fitted(data), shown)
    assert shown.steps == {"reading the train split": [(1, 2), (2, 2)]}
    assert [part.slices.shape for part in prepared.cases] == [(5, 2, 24, 16), (7, 2, 20, 28)]
    assert {part.slices.dtype for part in prepared.cases} == {np.dtype(np.float16)}
    assert prepared.fingerprints == tuple(c.image.fingerprint() for c in cases[1:])
    assert prepared.samples == data.samples
    assert [note.where for note in prepared.notes] == ["case 1"]
    for part, given in zip(prepared.cases, cases[1:], strict=True):
        np.testing.assert_array_equal(part.codes, given.labels.indices())


def test_masks_follow_a_new_spacing_by_the_nearest_pixel() -> None:
    """Where masks and images go different ways, their borders part."""
    for overlapping in (False, True):
        cases = [case(number, (2, 40, 30), (3.0, 2.0, 1.0), classes=3, overlapping=overlapping) for number in (0, 2)]
        data = dataset(cases, "case")
        prepared = prepare_split(data, data.samples, fitted(data))
        for part, given in zip(prepared.cases, cases, strict=True):
            assert part.slices.shape == (2, 1, 80, 30)
            assert part.codes.shape == (2, 80, 30)
            np.testing.assert_array_equal(part.codes, encode_labels(given.labels).repeat(2, axis=1))
            levels = encode_labels(given.labels).astype(np.float64)
            levels = np.log2(levels + 1) if overlapping else levels  # nested classes: bits 1, 11, 111
            levels = levels.repeat(2, axis=1)
            assert np.corrcoef(levels.ravel(), part.slices.astype(np.float64).ravel())[0, 1] > 0.97


def test_codes_are_numbers_or_bits() -> None:
    planes = np.random.default_rng(0).random((12, 2, 5, 7)) < 0.3
    for count, kind in ((1, "uint8"), (8, "uint8"), (9, "uint16"), (12, "uint16")):
        codes = encode_labels(LabelMap(planes[:count], tuple(map(str, range(count))), True, "test"))
        assert codes.dtype == kind
        for number in range(count):
            np.testing.assert_array_equal(codes >> number & 1, planes[number])
    numbers = np.random.default_rng(1).integers(0, 4, (2, 5, 7))
    codes = encode_labels(LabelMap.from_indices(numbers, ("a", "b", "c"), "test"))
    np.testing.assert_array_equal(codes, numbers)
    np.testing.assert_array_equal(
        encode_labels(LabelMap.from_indices(numbers[0], ("a", "b", "c"), "test")), numbers[:1]
    )


def test_more_classes_than_bits_are_refused() -> None:
    most = dataset([case(0, classes=16, overlapping=True)])
    assert prepare_split(most, most.samples, fitted(most)).cases[0].codes.dtype == np.uint16
    many = dataset([case(0, classes=17, overlapping=True)])
    with pytest.raises(GossamerError, match=r"17 .*16") as caught:
        prepare_split(many, many.samples, Preprocessing(()))
    assert caught.value.code is ErrorCode.UNSUPPORTED


def test_constant_images_have_no_scale() -> None:
    given = case(0)
    for values in (np.zeros((3, 20, 28), "int16"), np.full((3, 20, 28), 7, "uint8")):
        data = dataset([LabelledCase(given.image.with_array(values), given.labels)])
        with pytest.raises(GossamerError, match=r"constant|the value 0") as caught:
            fitted(data)
        assert caught.value.code is ErrorCode.VALUE
        assert np.all(fitted(replace(data, normalize="case")).network_stack(data.read(data.samples[0]).image) == 0)


def test_values_of_different_types_share_no_scale() -> None:
    cases = [case(0), case(1, dtype="float32")]
    pictures = replace(dataset(cases), volumes=False)
    with pytest.raises(GossamerError, match=r"float32 \(case 1\), int16 \(case 0\)") as caught:
        survey_dataset(pictures)
    assert caught.value.code is ErrorCode.VALUE
    assert survey_dataset(replace(pictures, normalize="case")).channels == 1
    assert survey_dataset(dataset(cases)).channels == 1, "Hounsfield units mean the same whatever type holds them"


def test_a_case_without_slices_is_refused() -> None:
    with pytest.raises(GossamerError) as caught:
        survey_dataset(dataset([case(number, (number, 20, 28), overlapping=True) for number in (3, 0)]))
    assert caught.value.code is ErrorCode.MISSING
