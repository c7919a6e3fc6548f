"""TransUNet's lists: slices become the volume they came from, and cases stay whole."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from gossamer.data.layouts import open_dataset
from gossamer.data.layouts.synapse import CLASS_NAMES, is_synapse, open_synapse
from gossamer.errors import ErrorCode, GossamerError

SIZE = (7, 5)


def planes(case: int, slices: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(case)
    pixels = random.random((slices, *SIZE)).astype(np.float32)
    return pixels, random.integers(0, 9, (slices, *SIZE)).astype(np.float32)


def synapse(root: Path, lists: str = "lists/lists_Synapse", cases: int = 8) -> Path:
    """Training cases 1..cases of case+1 slices in mixed order, and test cases 21 and 22."""
    for folder in ("train_npz", "test_vol_h5", lists):
        (root / folder).mkdir(parents=True, exist_ok=True)
    names = []
    for case in range(1, cases + 1):
        pixels, labels = planes(case, case + 1)
        for number in range(case + 1):
            name = f"case{case:04d}_slice{number:03d}"
            np.savez(root / f"train_npz/{name}.npz", image=pixels[number], label=labels[number])
            names.append(name)
    np.random.default_rng(1).shuffle(names)
    (root / lists / "train.txt").write_text("\n".join(names) + "\n")
    for case in (21, 22):
        volume(root, case, *planes(case, 3))
    (root / lists / "test_vol.txt").write_text("case0021\ncase0022\n")
    return root


def volume(root: Path, case: int, pixels: Any, labels: Any) -> None:
    with h5py.File(root / f"test_vol_h5/case{case:04d}.npy.h5", "w") as file:
        file["image"], file["label"] = pixels, labels


def read_all(root: Path) -> None:
    dataset = open_synapse(root, 0)
    dataset.require_trainable()
    for sample in dataset.samples:
        dataset.read(sample)


def fault(root: Path) -> str:
    """The one line of what opening the folder, or else reading its cases, refuses."""
    with pytest.raises(GossamerError) as caught:
        read_all(root)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(str(root), "")


@pytest.mark.parametrize("lists", ["lists/lists_Synapse", "lists_Synapse", "."])
def test_lists_are_found_and_slices_stacked_in_order(lists: str, tmp_path: Path) -> None:
    assert not is_synapse(tmp_path)
    dataset = open_dataset(synapse(tmp_path, lists), task="segment")
    assert dataset.layout == "synapse"
    assert dataset.classes == CLASS_NAMES
    assert (dataset.volumes, dataset.overlapping) == (True, False)
    assert len(dataset.samples) == 10
    for sample in dataset.samples:
        case = int(sample.id[-4:])
        pixels, labels = planes(case, 3 if case > 20 else case + 1)
        read = dataset.read(sample)
        assert read.image.axes == ("slices", "rows", "columns")
        np.testing.assert_array_equal(read.image.array, pixels)
        np.testing.assert_array_equal(read.labels.indices(), labels)


def test_splits_are_by_case(tmp_path: Path) -> None:
    dataset = open_synapse(synapse(tmp_path), 0)
    assert dataset.faults == ()
    assert {sample.patient for sample in dataset.split("test")} == {"case0021", "case0022"}
    assert len(dataset.split("val")) == 1
    assert len(dataset.split("train")) == 7
    assert len({sample.patient for sample in dataset.samples}) == 10
    texts = " ".join(map(str, dataset.notes))
    assert "names are those published" in texts
    assert "15% of train was drawn with seed 0 (by patient)" in texts


def test_a_gap_between_slices_is_noted(tmp_path: Path) -> None:
    root = synapse(tmp_path)
    file = root / "lists/lists_Synapse/train.txt"
    file.write_text(file.read_text().replace("case0003_slice001\n", ""))
    dataset = open_synapse(root, 0)
    assert any("case0003 has 3 slices, numbered up to 3" in str(note) for note in dataset.notes)


def listed(text: str, name: str = "train.txt") -> Callable[[Path], Any]:
    return lambda root: (root / "lists/lists_Synapse" / name).write_text(text)


def sliced(**arrays: Any) -> Callable[[Path], Any]:
    """Write another slice 0 of case 1; a key of None is left out."""
    pixels, labels = planes(1, 2)
    both = {"image": pixels[0], "label": labels[0], **arrays}
    kept = {key: value for key, value in both.items() if value is not None}
    return lambda root: np.savez(root / "train_npz/case0001_slice000.npz", **kept)


def wrong_volume(change: Callable[[Any], Any]) -> Callable[[Path], Any]:
    def write(root: Path) -> None:
        with h5py.File(root / "test_vol_h5/case0021.npy.h5", "r+") as file:
            change(file)

    return write


def replaced(key: str, value: Any) -> Callable[[Any], None]:
    def change(file: Any) -> None:
        del file[key]
        if value is not None:
            file[key] = value

    return change


def cut(path: str, end: int) -> Callable[[Path], Any]:
    return lambda root: (root / path).write_bytes((root / path).read_bytes()[:end])


VOLUME = "test_vol_h5/case0021.npy.h5"
FAULTS: list[tuple[str, Callable[[Path], Any], str, str]] = [
    ("empty list", listed("\n"), "E-MISSING", "train.txt"),
    ("no slice number", listed("case0001\n"), "E-SYNTAX", "'case0001'"),
    ("path", listed("../case0001_slice000\n"), "E-SECURITY", "'../case0001_slice000'"),
    ("path of a volume", listed("/etc/case\n", "test_vol.txt"), "E-SECURITY", "'/etc/case'"),
    ("twice", listed("case0001_slice000\ncase0001_slice000\n"), "E-LABEL", "'case0001_slice000'"),
    ("the same slice", listed("case0001_slice000\ncase0001_slice00\n"), "E-LABEL", "slice 0 of case0001"),
    ("in train and test", listed("case0001\n", "test_vol.txt"), "E-MISSING", "case0001.npy.h5"),
    ("slice missing", lambda root: (root / "train_npz/case0002_slice001.npz").unlink(), "E-MISSING", "slice001"),
    ("volume missing", lambda root: (root / VOLUME).unlink(), "E-MISSING", "case0021"),
    ("key missing", sliced(label=None), "E-LABEL", "label"),
    ("objects", sliced(image=np.array([{}], object)), "E-SECURITY", "case0001_slice000.npz"),
    ("other shape", sliced(label=np.zeros((5, 7))), "E-GEOMETRY", "(5, 7)"),
    ("other shape than its neighbours", sliced(image=np.zeros((5, 7)), label=np.zeros((5, 7))), "E-GEOMETRY",
     "(5, 7)"),
    ("3-D slice", sliced(image=np.zeros((2, *SIZE)), label=np.zeros((2, *SIZE))), "E-LABEL", "2 axes"),
    ("NaN", sliced(image=np.full(SIZE, np.nan)), "E-VALUE", "35 of 35 pixels"),
    ("class 9", sliced(label=np.full(SIZE, 9)), "E-LABEL", "the value 9"),
    ("half a class", sliced(label=np.full(SIZE, 0.5)), "E-LABEL", "the value 0.5"),
    ("cut slice", cut("train_npz/case0001_slice000.npz", 200), "E-FORMAT", "npz"),
    ("cut volume", cut(VOLUME, 2000), "E-TRUNCATED", "case0021.npy.h5"),
    ("no volume", lambda root: (root / VOLUME).write_bytes(b"volume"), "E-FORMAT", "case0021.npy.h5"),
    ("key missing in a volume", wrong_volume(replaced("label", None)), "E-LABEL", "label"),
    ("text in a volume", wrong_volume(replaced("image", "text")), "E-SECURITY", "case0021.npy.h5:image"),
    ("a group", wrong_volume(lambda file: (replaced("image", None)(file), file.create_group("image"))), "E-SYNTAX",
     "case0021.npy.h5:image"),
    ("another file", wrong_volume(replaced("image", h5py.ExternalLink("case0022.npy.h5", "image"))), "E-SECURITY",
     "case0021.npy.h5:image"),
    ("2-D volume", wrong_volume(replaced("image", np.zeros(SIZE))), "E-LABEL", "3 axes"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "code", "text"), [pytest.param(*rest, id=title) for title, *rest in FAULTS])
def test_what_contradicts_itself_is_refused_in_one_line(
    change: Callable[[Path], Any], code: str, text: str, tmp_path: Path
) -> None:
    change(synapse(tmp_path))
    line = fault(tmp_path)
    assert line.startswith(code)
    assert text in line


def test_a_case_in_train_and_test_is_a_fault(tmp_path: Path) -> None:
    root = synapse(tmp_path)
    volume(root, 1, *planes(1, 3))
    listed("case0001\n", "test_vol.txt")(root)
    open_faults = open_synapse(root, 0).faults
    assert any(one.code.label == "E-LABEL" and "'case0001'" in one.problem for one in open_faults)


def test_data_kept_in_other_files_are_refused(tmp_path: Path) -> None:
    root = synapse(tmp_path)
    (root / "secret").write_bytes(bytes(4 * 3 * 7 * 5))

    def outside(file: Any) -> None:
        del file["image"]
        file.create_dataset("image", (3, *SIZE), "f4", external=[(str(root / "secret"), 0, h5py.h5f.UNLIMITED)])

    wrong_volume(outside)(root)
    assert "E-SECURITY" in fault(root)


def test_without_h5py_the_remedy_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = open_synapse(synapse(tmp_path), 0)
    assert dataset.read(dataset.split("train")[0]).image.channels == 1
    original = builtins.__import__

    def without(name: str, *rest: Any, **named: Any) -> Any:
        if name == "h5py":
            raise ImportError(name)
        return original(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(GossamerError) as caught:
        dataset.read(dataset.split("test")[0])
    assert caught.value.code is ErrorCode.CODEC
    assert "[hdf5]" in caught.value.remedy
