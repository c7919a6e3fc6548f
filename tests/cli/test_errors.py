"""Bad input gets one clear line and the exit status of the contract; nothing is written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from gossamer.cli.main import run

SMALL = ["--model", "vit_nano", "--epochs", "1"]


def write(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PillowImage.fromarray(np.random.default_rng(seed).integers(0, 255, (16, 16), dtype=np.uint8)).save(path)


def classes(root: Path, *names: str) -> Path:
    for name in names:
        for index in range(10):
            write(root / name / f"{index}.png", index)
    return root


def missing(root: Path) -> tuple[Path, list[str]]:
    return root / "absent", []


def empty(root: Path) -> tuple[Path, list[str]]:
    return root, []


def truncated(root: Path) -> tuple[Path, list[str]]:
    classes(root, "a", "b")
    path = root / "b" / "4.png"
    path.write_bytes(path.read_bytes()[:-40])
    return root, []


def text_named_png(root: Path) -> tuple[Path, list[str]]:
    classes(root, "a", "b")
    (root / "a" / "2.png").write_text("the patient has no fever")
    return root, []


def one_class(root: Path) -> tuple[Path, list[str]]:
    return classes(root, "a"), []


def unknown_label(root: Path) -> tuple[Path, list[str]]:
    classes(root / "train", "a", "b")
    classes(root / "val", "a", "b")
    classes(root / "test", "a", "c")
    return root, []


def patch(root: Path) -> tuple[Path, list[str]]:
    return classes(root, "a", "b"), ["--image-size", "97x64", "--patch-size", "16"]


def keys(root: Path) -> tuple[Path, list[str]]:
    np.savez(root / "a.npz", images=np.zeros((3, 4, 4)))
    return root / "a.npz", []


def objects(root: Path) -> tuple[Path, list[str]]:
    np.savez(root / "a.npz", train_images=np.array([{}], object), train_labels=np.zeros((1, 1)))
    return root / "a.npz", []


def not_an_archive(root: Path) -> tuple[Path, list[str]]:
    (root / "a.npz").write_bytes(b"PK\x03\x04 nothing")
    return root / "a.npz", []


def size(root: Path) -> tuple[Path, list[str]]:
    return classes(root, "a", "b"), ["--image-size", "large"]


def model(root: Path) -> tuple[Path, list[str]]:
    return classes(root, "a", "b"), ["--model", "vit_tinny"]


def attention(root: Path) -> tuple[Path, list[str]]:
    return classes(root, "a", "b"), ["--attention", "sequence_nrom"]


def epochs(root: Path) -> tuple[Path, list[str]]:
    return classes(root, "a", "b"), ["--epochs", "0"]


def threads(root: Path) -> tuple[Path, list[str]]:
    return classes(root, "a", "b"), ["--threads", "5000"]


def seed(root: Path) -> tuple[Path, list[str]]:
    return classes(root, "a", "b"), ["--seed", "-1"]


@pytest.mark.parametrize(
    ("make", "status", "code", "text"),
    [
        (missing, 66, "E-MISSING", "no such file or folder"),
        (empty, 66, "E-MISSING", "the folder is empty"),
        (truncated, 65, "E-TRUNCATED", "b/4.png"),
        (text_named_png, 65, "E-FORMAT", "a/2.png"),
        (one_class, 65, "E-LABEL", "only one class"),
        (unknown_label, 65, "E-LABEL", "'c'"),
        (patch, 78, "E-CONFIG", "112x64"),
        (keys, 65, "E-LABEL", "train_images"),
        (objects, 77, "E-SECURITY", "train_images"),
        (not_an_archive, 65, "E-FORMAT", "not an npz archive"),
        (size, 78, "E-CONFIG", "224x224"),
        (model, 78, "E-CONFIG", "did you mean vit_tiny"),
        (attention, 78, "E-CONFIG", "did you mean sequence_norm"),
        (epochs, 78, "E-CONFIG", "0 is not positive"),
        (seed, 78, "E-CONFIG", "negative"),
        (threads, 78, "E-CONFIG", "5000 is more than"),
    ],
)
def test_training_refuses(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    make: Callable[[Path], tuple[Path, list[str]]],
    status: int,
    code: str,
    text: str,
) -> None:
    (tmp_path / "data").mkdir()
    data, options = make(tmp_path / "data")
    out = tmp_path / "run"
    found = run(["train", str(data), "--out", str(out), *options])
    captured = capsys.readouterr()
    line = captured.err.splitlines()[-1]
    assert found == status, captured.err
    assert line.startswith(f"gossamer: {code}: ")
    assert text in line
    assert "; " in line
    assert "Traceback" not in captured.err
    assert captured.out == ""
    assert not out.exists()


def test_a_run_folder_that_exists_is_not_touched(
    phantom: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in trained.iterdir()}
    assert run(["train", str(phantom), "--out", str(trained), *SMALL]) == 73
    assert f"--resume {trained}" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in trained.iterdir()} == before


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["trian"], "train"),
        (["train", "x", "--atention", "softmax"], "--attention"),
        (["train", "x", "--epochs", "many"], "--epochs"),
        (["train", "x", "--stem", "conv"], "stem"),
        (["data", "chekc", "x"], "check"),
        (["evaluate"], "RUN"),
    ],
)
def test_misspelt_words_get_the_nearest_right_one(
    arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("gossamer: usage: ")
    assert text in captured.err
    assert len(captured.err.splitlines()) == 1


def test_errors_are_json_when_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "check", str(tmp_path / "absent"), "--json"]) == 66
    captured = capsys.readouterr()
    error = json.loads(captured.out)["error"]
    assert error["code"] == "E-MISSING"
    assert error["remedy"]


def test_what_train_wants(tmp_path: Path, trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train"]) == 78
    assert "E-CONFIG: gossamer train: " in capsys.readouterr().err
    assert run(["train", "--resume", str(tmp_path)]) == 66
    assert "not a run folder" in capsys.readouterr().err
    assert run(["train", "--resume", str(trained), "--epochs", "9"]) == 78
    assert "E-CONFIG" in capsys.readouterr().err


def test_data_that_changed_since_the_run_began(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    copy = tmp_path / "run"
    shutil.copytree(trained, copy)
    config = (copy / "config.yaml").read_text()
    (copy / "config.yaml").write_text(config.replace("data_fingerprint: ", "data_fingerprint: f"))
    assert run(["train", "--resume", str(copy)]) == 65
    assert "E-INTEGRITY" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("learning_rate:", "lerning_rate:", "did you mean learning_rate"),
        ("epochs: 2", "epochs: two", "epochs"),
        ("seed: 0", "seed: !!python/object:os.system 0", "tag"),
        ("seed: 0", "seed: &a 0", "anchor"),
        ("name: vit", "name: vitt", "did you mean vit"),
        ("name: standardize", "name: standardise", "did you mean standardize"),
    ],
)
def test_a_config_that_was_edited_badly(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, text: str
) -> None:
    text_before = (trained / "config.yaml").read_text()
    assert old in text_before
    (tmp_path / "config.yaml").write_text(text_before.replace(old, new, 1))
    assert run(["train", "--resume", str(tmp_path)]) == 78
    assert text in capsys.readouterr().err


def test_weights_that_were_altered(
    trained: Path, tmp_path: Path, phantom: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    copy = tmp_path / "run"
    shutil.copytree(trained, copy)
    data = bytearray((copy / "model.safetensors").read_bytes())
    data[-1000] ^= 1
    (copy / "model.safetensors").write_bytes(data)
    assert run(["evaluate", str(copy), str(phantom)]) == 65
    assert "E-INTEGRITY" in capsys.readouterr().err


def test_a_fault_of_ours_is_one_line_with_the_trace_in_a_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import gossamer.api.doctor

    def fail() -> None:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(gossamer.api.doctor, "describe_machine", fail)
    assert run(["doctor"]) == 70
    line = capsys.readouterr().err
    assert "E-BUG" in line
    assert "planted" in line
    trace = Path(line.split()[-1])
    assert "ZeroDivisionError" in trace.read_text()
    trace.unlink()


def test_predictions_need_a_place_before_they_are_made(
    trained: Path, phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_bytes(b"")
    for out, text in (("file/x", "is a file, not a folder"), ("no/dir/x.csv", f"there is no folder {tmp_path / 'no'}")):
        assert run(["predict", str(trained), str(phantom), "--out", str(tmp_path / out)]) == 73
        assert text in capsys.readouterr().err
    assert run(["predict", str(trained), str(phantom), "--rle-order", "columns"]) == 78
    assert "--rle-order: is an option of segmentation" in capsys.readouterr().err


def test_memory_that_is_not_there_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import gossamer.api.import_weights

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 32212254720 bytes.")

    monkeypatch.setattr(gossamer.api.import_weights, "read_published", fail)
    assert run(["import-weights", "a", "--model", "vit_tiny", "--out", str(tmp_path / "new")]) == 75
    line = capsys.readouterr().err
    assert "30.0 GiB" in line
    assert line.endswith("; use a smaller --image-size\n")
