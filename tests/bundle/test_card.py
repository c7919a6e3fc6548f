"""The card says what the manifest says, in words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gossamer import config
from gossamer.bundle.card import render_card, step_in_words
from gossamer.data.transforms import STEPS, Channels, Preprocessing, Respace, ScaleIntensity, StandardizeEach
from gossamer.runtime.manifest import InputSpec, Manifest, OutputSpec, Parity

EXAMPLES = {
    "channels": {"count": 3},
    "resize": {"rows": 24, "columns": 40},
    "fit_within": {"rows": 24, "columns": 40},
    "respace": {"rows_mm": 1.5, "columns_mm": 0.75},
    "pad": {"rows": 24, "columns": 40, "value": -1.5},
    "scale_intensity": {"low": -160, "high": 240, "stored": "int16"},
    "standardize": {"mean": 0.25, "std": 0.125},
    "standardize_each": {"over": "slice", "percent": 0.5},
}


@pytest.fixture
def manifest() -> Manifest:
    return Manifest(
        gossamer="0.1.0",
        created="2026-01-02T03:04:05+00:00",
        task="segment",
        preset="cvt_small",
        attention="kv",
        input=InputSpec(channels=1, window=(32, 48), dynamic=False, multiple=16, stack=3, overlap=0.5),
        output=OutputSpec(classes=("liver", "spleen"), multi_label=False),
        preprocessing=Preprocessing((Channels(1), Respace(1.5, 1.5), StandardizeEach())).to_json(),
        layout="decathlon",
        parity=Parity(images=4, logits=1.5e-5, probabilities=2.5e-6, decisions=0.99998, tolerance=1e-4),
        quality={
            "dice": {"value": 0.91, "low": 0.85, "high": 0.95, "trivial": 0.0},
            "hd95": {"value": 3.25, "low": None, "high": None, "trivial": None},
        },
        cost={"latency_p50": {"value": 12.5, "unit": "ms", "how": "measured", "detail": "wall clock"}},
        source={
            "name": "spleens", "seed": 7, "samples": {"train": 20, "val": 5, "test": 9}, "fingerprint": "abc",
            "evaluated": "test", "groups": 8, "distance_unit": "mm",
        },
        licence={"weights": "CC BY 4.0", "data": None},
    )  # fmt: skip


@pytest.mark.parametrize("name", sorted(STEPS))
def test_every_step_has_words_with_its_numbers(name: str) -> None:
    step = config.from_json(STEPS[name], EXAMPLES[name], "step")
    words = step_in_words(step)
    assert words.endswith(".")
    assert type(step).__name__ not in words
    for value in EXAMPLES[name].values():
        said = {3: "three"}.get(value, value) if name == "channels" else value
        assert str(said) in words.lower()


def test_the_card_holds_what_a_reader_asks(manifest: Manifest) -> None:
    card = render_card(manifest)
    for words in (
        "cvt_small with kv attention", "liver, spleen", "gossamer predict BUNDLE", "not a medical device",
        "32x48 pixels", "each with its 2 neighbours", "rows and columns of that size", "1.5 mm down",
        "Of 9 cases of the test split", "over 8 patients", "| Dice | 0.910 | 0.850 to 0.950 | 0.000 |",
        "| 95th percentile Hausdorff distance, mm (lower is better) | 3.250 | – to – | – |", "4 images", "2.5e-06",
        "99.9980 % of decisions", "differ by 0.0001", "| 12.50 ms | measured | wall clock |", "weights: CC BY 4.0",
        "data: not stated", "spleens (20 train, 5 val, 9 test), seed 7", "`abc`",
    ):  # fmt: skip
        assert words in card, words
    assert max(len(line) for line in card.splitlines() if not line.startswith(("|", "1.", "2.", "3."))) <= 130


def test_figures_of_the_validation_split_are_called_optimistic(manifest: Manifest) -> None:
    assert "optimistic" not in render_card(manifest)
    card = render_card(replace(manifest, source={**manifest.source, "evaluated": "val"}))
    assert "Of 5 cases of the val split" in card
    assert "optimistic" in card


def test_a_classifier_has_thresholds_and_a_stored_type(manifest: Manifest) -> None:
    thresholds = {"rule": "youden", "labels": ["effusion"], "values": [0.125], "kept": []}
    steps = Preprocessing((Channels(3), ScaleIntensity(0, 255, "uint8")))
    card = render_card(
        replace(
            manifest,
            task="classify",
            input=InputSpec(channels=3, window=(24, 40), dynamic=True, multiple=8, stored="uint8"),
            output=OutputSpec(classes=("none", "effusion"), multi_label=False, thresholds=thresholds),
            preprocessing=steps.to_json(),
            attention=None,
            parity=replace(manifest.parity, tolerance=None),  # type: ignore[type-var]
            quality={},
            precision="int8",
            quantization={"method": "static", "layers": 12},
        )
    )
    for words in ("cvt_small, int8", "| effusion | 0.125 |", "sensitivity + specificity", "any multiple of 8",
                  "stored as uint8", "Not measured", "- layers: 12", "a loss of quality was limited"):  # fmt: skip
        assert words in card, words
