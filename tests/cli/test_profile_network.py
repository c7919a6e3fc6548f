"""``gossamer profile`` of a preset: growth with the image size, and a training step."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gossamer.cli.main import run
from made_bundles import write_classifier

PRESET = ["profile", "vit_nano", "--attention", "kv", "--patch-size", "8", "--image-size", "24x40", "--threads", "1"]


def test_growth_and_a_training_step(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*PRESET, "--growth", "64x48,24x40", "--training", "--batch", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [size["image_size"] for size in found["growth"]["sizes"]] == [[24, 40], [64, 48]]
    assert found["growth"]["exponents"]["macs"]["how"] == "computed"
    assert found["cost"]["train_step"]["how"] == "measured"
    assert found["cost"]["peak_memory_forecast"]["unit"] == "bytes"


def test_growth_is_a_table_with_its_exponents(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gossamer.profiling.network.measure_peak_memory", lambda *_, **__: None)
    monkeypatch.setattr("gossamer.profiling.network.bare_process_bytes", lambda: None)
    assert run([*PRESET, "--growth", "64x48,24x40"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "64x48" in text
    assert "MACs: cost ~ pixels^" in text
    assert "tensors: cost ~ pixels^" in text
    assert {"tensors,", "process,"} <= set(text.split())  # the headings
    assert "latency: cost ~ pixels^" in text


@pytest.mark.parametrize(
    ("sizes", "problem"),
    [
        ("24x40", "--growth: "),
        ("24x40,ax3", "--growth: 'ax3'"),
        ("24x40,28x28", "--growth: "),
    ],
)
def test_wrong_sizes_are_refused_before_measuring(
    sizes: str, problem: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(*_: object, **__: object) -> None:
        raise AssertionError("measured first")

    monkeypatch.setattr("gossamer.profiling.network.profile_model", measured)
    assert run([*PRESET, "--growth", sizes, "--training"]) == 78
    assert problem in capsys.readouterr().err


@pytest.mark.parametrize("option", [["--training"], ["--growth", "24x40,64x48"]])
def test_a_bundle_has_no_growth(option: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["profile", str(write_classifier(tmp_path / "chest")), *option]) == 78
    assert f"{option[0]}: " in capsys.readouterr().err
