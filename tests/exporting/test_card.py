"""The model card states what the manifest states."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gossamer import config
from gossamer.data.transforms import STEPS, Channels, Preprocessing, Respace, ScaleIntensity, StandardizeEach
from gossamer.exporting.card import describe_step, render_card
from gossamer.inference.manifest import InputSpec, Manifest, OutputSpec, Parity

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
def test_every_step_is_described_with_its_numbers(name: str) -> None:
    step = config.from_json(STEPS[name], EXAMPLES[name], "step")
    words = describe_step(step)
    assert words.endswith(".")
    assert type(step).__name__ not in words
    for value in EXAMPLES[name].values():
        expected = {3: "three"}.get(value, value) if name == "channels" else value
        assert str(expected) in words.lower()


def test_the_card_has_the_facts_of_the_manifest(manifest: Manifest) -> None:
    card = render_card(manifest)
    for words in (
        "cvt_small with kv attention", "liver, spleen", "gossamer predict BUNDLE", "not a medical device",
        "32x48 pixels", "2 neighbouring slices", "rows and columns of that size", "1.5 mm between rows",
        "9 cases of the test split", "over 8 patients", "| Dice | 0.910 | 0.850 to 0.950 | 0.000 |",
        "| 95th percentile Hausdorff distance, mm (lower is better) | 3.250 | – to – | – |", "4 images", "2.5e-06",
        "99.9980 % of decisions", "a probability: 0.0001", "| 12.50 ms | measured | wall clock |", "weights: CC BY 4.0",
        "data: not stated", "spleens (20 train, 5 val, 9 test), seed 7", "`abc`",
    ):  # fmt: skip
        assert words in card, words
    assert max(len(line) for line in card.splitlines() if not line.startswith(("|", "1.", "2.", "3."))) <= 130


def test_metrics_of_the_validation_split_are_marked(manifest: Manifest) -> None:
    assert "optimistic" not in render_card(manifest)
    card = render_card(replace(manifest, source={**manifest.source, "evaluated": "val"}))
    assert "5 cases of the val split" in card
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
                  "stored as uint8", "Not measured", "- layers: 12", "loss of quality was limited",
                  "largest probability is predicted", "does not change predictions"):  # fmt: skip
        assert words in card, words


def test_thresholds_of_several_labels_apply(manifest: Manifest) -> None:
    thresholds = {"rule": "f1", "labels": ["liver", "spleen"], "values": [0.25, 0.75], "kept": []}
    output = OutputSpec(classes=("liver", "spleen"), multi_label=True, thresholds=thresholds)
    card = render_card(replace(manifest, task="classify", output=output))
    assert "| spleen | 0.75 |" in card
    assert "above its threshold" in card
    assert "does not change predictions" not in card


def test_quantization_is_a_table_and_a_list(manifest: Manifest) -> None:
    drop = {"value": 0.001447, "low": -0.002, "high": None}
    lost = {
        "split": "val", "metric": "brier", "samples": 78, "groups": 61, "float32": 0.1, "int8": 0.101447,
        "drop": drop, "sqnr_db": None, "flips": 0.0128,
    }  # fmt: skip
    record = {
        "rung": "mixed", "products": {"Conv": 20, "Gemm": 1}, "products_in_float32": ["stem", "head"],
        "executed_by_onnxruntime_here": {}, "share_of_weights": 0.9991, "max_drop": 0.005, "validation": lost,
        "test": None, "bytes": {"float32": 12 * 2**20, "int8": 3 * 2**20, "ratio": 0.25}, "speed": ["a: 1 ms", "b: 2"],
    }  # fmt: skip
    card = render_card(replace(manifest, precision="int8", quantization=record))
    for words in (
        "- scheme: mixed", "float32 network: 20 Conv, 1 Gemm", "in float32: stem, head", "quantized: none", ": 99.9%",
        "3.0 MiB, 12.0 MiB in float32", "a: 1 ms; b: 2", "validation split: 0.005", "There is no test split",
        "| validation | 78 | 61 | Brier score (lower is better) | 0.1000 | 0.1014 | 0.0014 (-0.0020 to –)",
        "– | 1.28% |",
    ):  # fmt: skip
        assert words in card, words
    assert not set('{}[]"') & set(card.split("## Quantization")[1])
    both = render_card(replace(manifest, precision="int8", quantization={**record, "test": {**lost, "flips": 0.5}}))
    assert "| test | 78 |" in both
    assert "no test split" not in both
