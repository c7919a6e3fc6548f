"""A phantom is drawn on request, and refused before anything is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import gossamer
from gossamer.errors import ErrorCode, GossamerError


@pytest.mark.parametrize(("kind", "count", "images"), [("chest", 20, 20), ("abdomen", 73, 96)])
def test_drawn_phantom_is_a_sound_data_set(tmp_path: Path, kind: Any, count: int, images: int) -> None:
    drawn = gossamer.draw_phantom(tmp_path / "p", kind=kind, count=count, image_size="24x28")
    assert drawn.to_dict() == {"folder": str(tmp_path / "p"), "images": images}
    assert str(images) in repr(drawn)
    found = gossamer.check_data(tmp_path / "p")
    assert found.ok
    assert {size.removeprefix("12x") for size in found.sizes} == {"24x28"}


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"kind": "heart"}, "kind"),
        ({"count": 19}, "count"),
        ({"kind": "abdomen", "count": 71}, "count"),
        ({"image_size": "24y28"}, "image_size"),
    ],
)
def test_wrong_options_are_refused_and_nothing_is_written(tmp_path: Path, options: Any, where: str) -> None:
    with pytest.raises(GossamerError) as caught:
        gossamer.draw_phantom(tmp_path / "p", **options)
    assert (caught.value.code, caught.value.where) == (ErrorCode.CONFIG, where)
    assert list(tmp_path.iterdir()) == []


def test_folder_with_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(GossamerError) as caught:
        gossamer.draw_phantom(tmp_path)
    assert caught.value.code is ErrorCode.OUTPUT
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]
