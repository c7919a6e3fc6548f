"""The check finds each fault that it promises to find, and goes on behind it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile
from PIL import Image as PillowImage

import gossamer
from gossamer.data import check_dataset, open_dataset
from gossamer.errors import ErrorCode
from recorded_progress import RecordedProgress


def write(path: Path, seed: int, dtype: type = np.uint8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.random.default_rng(seed).integers(0, 200, (8, 10), dtype=dtype)
    PillowImage.fromarray(array).save(path)


def tree(root: Path) -> Path:
    for split, count in (("train", 6), ("val", 3), ("test", 3)):
        for name in ("a", "b"):
            for index in range(count):
                write(root / split / name / f"{index}.png", hash((split, name, index)) % 2**32)
    return root


def test_a_sound_data_set(tmp_path: Path) -> None:
    found = check_dataset(open_dataset(tree(tmp_path)))
    assert found.faults == ()
    assert found.sizes == {"8x10": 24}
    assert found.values == {"uint8 grey": 24}
    assert found.splits["train"].classes == {"a": 6, "b": 6}
    assert found.splits["train"].patients is None
    assert found.value_range is not None
    assert 0 <= found.value_range[0] < found.value_range[1] < 200
    assert found.to_dict()["task"] == "classification"


def test_unreadable_files_are_all_found(tmp_path: Path) -> None:
    tree(tmp_path)
    (tmp_path / "train/a/0.png").write_text("not a picture")
    whole = (tmp_path / "val/b/1.png").read_bytes()
    (tmp_path / "val/b/1.png").write_bytes(whole[:-30])
    found = check_dataset(open_dataset(tmp_path))
    assert {fault.code for fault in found.faults} == {ErrorCode.FORMAT, ErrorCode.TRUNCATED}
    assert found.sizes == {"8x10": 22}


def test_equal_images_within_and_across_splits(tmp_path: Path) -> None:
    tree(tmp_path)
    picture = (tmp_path / "train/a/0.png").read_bytes()
    (tmp_path / "train/a/1.png").write_bytes(picture)
    other = (tmp_path / "train/b/0.png").read_bytes()
    (tmp_path / "test/a/2.png").write_bytes(other)
    found = check_dataset(open_dataset(tmp_path))
    assert found.duplicates_within == (("train/a/0.png", "train/a/1.png"),)
    assert found.duplicates_across == (("train/b/0.png", "test/a/2.png"),)
    (contradiction,) = found.notes
    assert contradiction.code is ErrorCode.LABEL
    assert "train/b/0.png, test/a/2.png" in contradiction.text


def test_values_that_are_not_finite_and_mixed_types(tmp_path: Path) -> None:
    tree(tmp_path)
    array = np.ones((8, 10), np.float32)
    array[0, 0] = np.nan
    tifffile.imwrite(tmp_path / "train/a/9.tif", array, photometric="minisblack")
    found = check_dataset(open_dataset(tmp_path))
    assert [fault.code for fault in found.faults] == [ErrorCode.VALUE]
    assert found.values == {"uint8 grey": 24, "float32 grey": 1}
    assert [note.code for note in found.notes if note.where == str(tmp_path)] == [ErrorCode.VALUE]


def test_missing_labels_and_shared_patients_come_from_the_manifest(tmp_path: Path) -> None:
    for index in range(6):
        write(tmp_path / f"{index}.png", index)
    rows = ["0.png,a,p,train", "1.png,b,q,train", "2.png,,r,train", "3.png,b,p,test", "4.png,a,s,val", "5.png,b,t,val"]
    (tmp_path / "manifest.csv").write_text("path,label,patient,split\n" + "\n".join(rows))
    found = check_dataset(open_dataset(tmp_path))
    assert [fault.code for fault in found.faults] == [ErrorCode.LABEL, ErrorCode.LABEL]
    assert "row 4" in found.faults[0].problem
    assert "'p'" in found.faults[1].problem


def test_progress_is_told(tmp_path: Path) -> None:
    shown = RecordedProgress()
    check_dataset(open_dataset(tree(tmp_path)), progress=shown)
    assert shown.steps == {"reading images": [(number, 24) for number in range(1, 25)]}


def masked(root: Path) -> Path:
    for index in range(12):
        write(root / "images" / f"{index:02d}.png", index)
        values = np.zeros((8, 10), np.uint8)
        values[2:4, :5] = 1
        values[6, : 10 if index % 2 else 0] = 2
        (root / "masks").mkdir(exist_ok=True)
        PillowImage.fromarray(values).save(root / "masks" / f"{index:02d}.png")
    splits = ["train"] * 6 + ["val"] * 2 + ["test"] * 4
    (root / "index.csv").write_text("id,split\n" + "".join(f"{i:02d},{s}\n" for i, s in enumerate(splits)))
    (root / "classes.json").write_text('{"1": "box", "2": "line"}')
    return root


def test_masks_are_counted(tmp_path: Path) -> None:
    found = check_dataset(open_dataset(masked(tmp_path)))
    assert (found.task, found.faults, found.sizes) == ("segmentation", (), {"8x10": 12})
    assert found.splits["train"].classes == {"box": 6, "line": 3}
    assert found.splits["test"].images == 4
    assert found.masks is not None
    assert found.masks.slices == 12
    assert found.masks.pixel_shares == {"box": 10 / 80, "line": 5 / 80}
    assert (found.masks.shared, found.masks.spacing_mm) == (0.0, None)
    assert found.to_dict()["masks"]["pixel_shares"]["line"] == 0.0625


def test_every_case_that_cannot_be_read_is_found(tmp_path: Path) -> None:
    masked(tmp_path)
    (tmp_path / "images/00.png").write_text("not a picture")
    PillowImage.fromarray(np.zeros((8, 11), np.uint8)).save(tmp_path / "masks/01.png")
    PillowImage.fromarray(np.full((8, 10), 9, np.uint8)).save(tmp_path / "masks/02.png")
    (tmp_path / "images/09.png").write_bytes((tmp_path / "images/03.png").read_bytes())
    found = check_dataset(open_dataset(tmp_path))
    codes = [ErrorCode.FORMAT, ErrorCode.GEOMETRY, ErrorCode.LABEL]
    assert [fault.code for fault in found.faults] == codes
    assert found.masks is not None
    assert found.masks.slices == 9
    assert found.duplicates_across == (("images/03.png", "images/09.png"),)


def test_volumes_and_shared_pixels_are_counted(tmp_path: Path) -> None:
    from gossamer.data.synthetic.abdomen import write_abdomen

    found = check_dataset(open_dataset(write_abdomen(tmp_path / "a", cases=3, days=1, slices=6, size=(36, 44))))
    assert (found.task, found.sizes) == ("segmentation of overlapping classes", {"6x36x44": 3})
    assert found.masks is not None
    assert found.masks.slices == 18
    assert 0 < found.masks.shared < 0.05
    assert found.masks.spacing_mm == ((3.0, 3.0), (9.09, 9.09), (9.09, 9.09))


def test_strict_check_fails_for_images_equal_across_splits(tmp_path: Path) -> None:
    tree(tmp_path)
    assert gossamer.check_data(tmp_path, strict=True).ok
    (tmp_path / "test/b/2.png").write_bytes((tmp_path / "train/b/0.png").read_bytes())
    assert gossamer.check_data(tmp_path).ok
    assert not gossamer.check_data(str(tmp_path), strict=True).ok


def test_check_shows_itself_as_text_and_html(tmp_path: Path) -> None:
    found = gossamer.check_data(masked(tmp_path))
    assert found.to_dict()["ok"] is True
    shown = repr(found)
    for word in ("segmentation", "train", "box", "12.50%", "8x10 (12)"):
        assert word in shown
    assert found._repr_html_().count("<table>") == 3


def test_long_lists_of_findings_are_cut(tmp_path: Path) -> None:
    tree(tmp_path)
    for name in ("a", "b"):
        for index in range(6):
            write(tmp_path / "train" / name / f"{index}.png", index)
            (tmp_path / "test" / name / f"{index}.png").write_text("not a picture")
    for index in range(3):
        (tmp_path / "val" / "a" / f"{index}.png").write_text("not a picture")
    found = gossamer.check_data(tmp_path)
    assert len(found.faults) == 15
    assert sum(row[0] == "fault" for row in found.summary_tables()[-1].rows) == 13
