"""What all pages share: the origin of a page, commands and paths."""

from __future__ import annotations

import datetime
from pathlib import Path

from gossamer.report.page import PageOrigin, format_command, shorten_paths, show_path


def test_command_has_options_as_they_are_typed(tmp_path: Path) -> None:
    command = format_command(
        "train", tmp_path / "my data", model="vit_nano", image_size=(48, 64), recompute=False, epochs=None, out="runs/a"
    )
    assert command == "gossamer train 'my data' --model vit_nano --image-size 48x64 --no-recompute --out runs/a"


def test_command_of_a_verb_in_a_group() -> None:
    command = format_command("data phantom", "chest", nodule_radius=(0.05, 0.1), sizes=["a", "b"], strict=True)
    assert command == "gossamer data phantom chest --nodule-radius 0.05 0.1 --sizes a,b --strict"


def test_absolute_paths_are_shortened() -> None:
    assert show_path(Path("/home/someone/data/chest")) == "chest"
    assert show_path("data/chest") == "data/chest"
    assert shorten_paths("gossamer train '/home/some one/chest' --out runs/a") == "gossamer train chest --out runs/a"


def test_origin_has_the_date_of_today() -> None:
    assert PageOrigin().date == datetime.date.today()
