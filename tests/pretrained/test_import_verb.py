"""``gossamer import-weights``: the folder, the report, and one line where something is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import official_names as names
import pytest
import safetensors.torch
import torch

import gossamer
from gossamer import load_model
from gossamer.cli.main import run
from gossamer.errors import ErrorCode, GossamerError
from gossamer.files import sha256_hexdigest
from gossamer.pretrained import published_file

SHAPES = names.timm_vit(128, 6, side=3, classes=7)
"""Of ``vit_nano``."""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("published") / "model.safetensors"
    safetensors.torch.save_file(names.drawn(SHAPES), path)
    return path


def call(file: Path, out: Path, *options: str, model: str = "vit_nano") -> int:
    return run(["import-weights", str(file), "--model", model, "--out", str(out), *options])


def test_the_folder_is_a_model_and_says_where_it_comes_from(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "imported"
    assert call(file, out, "--image-size", "64x96", "--in-channels", "1", "--num-classes", "2") == 0
    assert {path.name for path in out.iterdir()} == {"config.json", "model.safetensors", "import.json"}
    assert [path.name for path in out.parent.iterdir()] == ["imported"]
    model = load_model(out)
    assert (model.config.image_size, model.config.in_channels, model.config.num_classes) == ((64, 96), 1, 2)
    assert model(torch.zeros(3, 1, 64, 96)).shape == (3, 2)
    report = json.loads((out / "import.json").read_text())
    assert report["family"] == "timm_vit"
    assert report["source"]["sha256"] == sha256_hexdigest(file.read_bytes())
    assert [entry["name"] for entry in report["theirs"]] == sorted(SHAPES)
    assert report["counts"] == {
        "used": len(SHAPES) - 4,
        "adapted": 2,
        "left out": 2,
        "loaded": len(SHAPES) - 2,
        "fresh": 2,
    }
    printed = capsys.readouterr().out
    for text in ("SHA-256", "resampled from 3x3 to 4x6", "head.weight: other classes", "classifier.weight", "heads"):
        assert text in printed


def test_what_is_left_out_is_as_in_the_file(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(file, tmp_path / "a", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["image_size"], answer["in_channels"], answer["num_classes"]) == ([48, 48], 3, 7)
    assert answer["counts"]["used"] == len(SHAPES)
    assert answer["counts"]["fresh"] == answer["counts"]["left out"] == 0
    # The same file gives the same bytes.
    (tmp_path / "b").mkdir()
    assert call(file, tmp_path / "b") == 0
    first, second = ((tmp_path / name / "model.safetensors").read_bytes() for name in "ab")
    assert first == second


def test_a_pickle_needs_trust(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    weights, pickled = names.drawn(SHAPES), tmp_path / "model.pth"
    torch.save(weights, pickled)
    assert call(pickled, tmp_path / "a") == 77
    assert "E-SECURITY" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()
    monkeypatch.setattr(published_file, "read_pickle", lambda data, path: (weights, ("as if a child had read it",)))
    assert call(pickled, tmp_path / "a", "--trust-pickle") == 0
    assert call(file, tmp_path / "b") == 0
    first, second = ((tmp_path / name / "model.safetensors").read_bytes() for name in "ab")
    assert first == second
    report = json.loads((tmp_path / "a" / "import.json").read_text())
    assert report["source"]["form"] == "pickle"
    assert "as if a child had read it" in report["notes"]


def as_it_is(file: Path, folder: Path) -> Path:
    return file


def truncated(file: Path, folder: Path) -> Path:
    (folder / "cut.safetensors").write_bytes(file.read_bytes()[:-4])
    return folder / "cut.safetensors"


def unknown(file: Path, folder: Path) -> Path:
    safetensors.torch.save_file(names.drawn(SHAPES | {"gate": (3,)}), folder / "more.safetensors")
    return folder / "more.safetensors"


@pytest.mark.parametrize(
    ("make", "options", "model", "status", "code", "where"),
    [
        (truncated, [], "vit_nano", 65, "E-TRUNCATED", "cut.safetensors"),
        (unknown, [], "vit_nano", 65, "E-UNSUPPORTED", "more.safetensors"),
        (as_it_is, [], "vit_tiny", 78, "E-CONFIG", "model.safetensors"),
        (as_it_is, [], "unet", 78, "E-CONFIG", "model.safetensors"),
        (as_it_is, [], "vit_nanno", 78, "E-CONFIG", "model"),
        (as_it_is, ["--image-size", "50"], "vit_nano", 78, "E-CONFIG", "image_size"),
        (as_it_is, ["--image-size", "wide"], "vit_nano", 78, "E-CONFIG", "image_size"),
        (as_it_is, ["--num-classes", "0"], "vit_nano", 78, "E-CONFIG", "num_classes"),
        (as_it_is, ["--attention", "soft"], "vit_nano", 65, "E-UNSUPPORTED", "attention"),
        (as_it_is, ["--attention", "sotf"], "vit_nano", 65, "E-UNSUPPORTED", "attention"),
        (lambda file, folder: folder / "absent", [], "vit_nano", 66, "E-MISSING", "absent"),
    ],
)
def test_one_line_and_nothing_written(
    make: Callable[[Path, Path], Path],
    options: list[str],
    model: str,
    status: int,
    code: str,
    where: str,
    file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = make(file, tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert call(given, tmp_path / "out", *options, model=model) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith(f"gossamer: {code}: ")
    assert where in captured.err.split(": ")[2].replace("-", "_")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_with_something_in_it_is_left_alone(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert call(file, tmp_path) == 73
    assert "E-OUTPUT" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_python_gives_what_the_verb_gives(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(file, tmp_path / "verb", "--image-size", "64x96", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    report = gossamer.import_weights(file, tmp_path / "verb2", model="vit_nano", image_size=(64, 96))
    assert json.loads(json.dumps(report.to_dict())) == answer | {"out": str(tmp_path / "verb2")}
    assert capsys.readouterr().out == ""
    assert "vit_nano" in repr(report)
    for name in ("config.json", "model.safetensors", "import.json"):
        assert (tmp_path / "verb" / name).read_bytes() == (tmp_path / "verb2" / name).read_bytes()


def test_the_one_preset_that_fits_is_found(file: Path, tmp_path: Path) -> None:
    assert gossamer.import_weights(file, tmp_path / "found").model == "vit_nano"
    both = tmp_path / "soft.safetensors"
    safetensors.torch.save_file(names.drawn(names.soft((64, 128, 320, 512), (1, 2, 3, 2), (2, 4, 10, 16))), both)
    with pytest.raises(GossamerError) as caught:
        gossamer.import_weights(both, tmp_path / "soft")
    assert caught.value.code is ErrorCode.CONFIG
    assert "soft_norm_tiny_official" in caught.value.problem
    assert not (tmp_path / "soft").exists()
