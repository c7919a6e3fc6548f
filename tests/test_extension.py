"""Classes from files of users: what is loaded, what is refused, and what is never executed."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from gossamer.errors import ErrorCode, GossamerError
from gossamer.extension import find_origin, is_reference, load_class, load_classes, shorten_reference
from gossamer.files import sha256_hexdigest


class Shape:
    """The base class of these tests."""


HEAD = "from test_extension import Shape\n"
CIRCLE = HEAD + "class Circle(Shape):\n    sides = 1\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(sys.modules, "test_extension", sys.modules[__name__])
    return tmp_path


def write(folder: Path, text: str, name: str = "mine.py") -> Path:
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "expected", "short"),
    [
        ("./mine.py:Circle", True, "mine.py:Circle"),
        ("/a/b/mine.py", True, "mine.py"),
        ("C:\\a\\mine.py:Circle", True, None),
        ("softmax", False, "softmax"),
        ("mine.py:not a class", False, "mine.py:not a class"),
        ("mine.pyx:Circle", False, "mine.pyx:Circle"),
    ],
)
def test_references_are_told_from_names(text: str, expected: bool, short: str | None) -> None:
    assert is_reference(text) is expected
    if short is not None:
        assert shorten_reference(text) == short


def test_a_class_is_loaded_with_its_origin(folder: Path) -> None:
    path = write(folder, CIRCLE)
    circle = load_class(f"{path}:Circle", Shape)
    assert (circle.__name__, circle.sides) == ("Circle", 1)  # type: ignore[attr-defined]
    origin = find_origin(circle)
    assert (origin.path, origin.class_name) == (path.resolve(), "Circle")
    assert origin.sha256 == sha256_hexdigest(CIRCLE.encode())
    assert load_class(origin.reference, Shape, sha256=origin.sha256) is circle


def test_the_only_class_needs_no_name(folder: Path) -> None:
    assert load_class(str(write(folder, CIRCLE)), Shape).__name__ == "Circle"


def test_relative_paths_start_at_the_working_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, CIRCLE)
    monkeypatch.chdir(folder)
    assert find_origin(load_class("./mine.py:Circle", Shape)).path == (folder / "mine.py").resolve()


def test_nothing_is_written_beside_the_file(folder: Path) -> None:
    load_class(str(write(folder, CIRCLE)), Shape)
    assert [path.name for path in folder.iterdir()] == ["mine.py"]


def test_a_changed_file_gives_a_new_class(folder: Path) -> None:
    before = load_class(str(write(folder, CIRCLE)), Shape)
    after = load_class(str(write(folder, CIRCLE.replace("1", "2"))), Shape)
    assert (before.sides, after.sides) == (1, 2)  # type: ignore[attr-defined]


def test_a_module_that_is_imported_keeps_its_classes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(folder, CIRCLE, "imported_circle.py")
    monkeypatch.syspath_prepend(folder)
    import imported_circle  # type: ignore[import-not-found]

    assert load_class(str(path), Shape) is imported_circle.Circle
    path.write_text(CIRCLE.replace("1", "3"))
    assert load_class(str(path), Shape) is not imported_circle.Circle


TWO = CIRCLE + "class Square(Shape):\n    sides = 4\n"
ABSTRACT = HEAD + (
    "from abc import ABC, abstractmethod\nclass Circle(Shape, ABC):\n    @abstractmethod\n    def area(self): ...\n"
)


@pytest.mark.parametrize(
    ("text", "suffix"),
    [
        (CIRCLE, ":Circel"),
        (HEAD + "class Circle:\n    pass\n", ":Circle"),
        (HEAD + "Circle = 3\n", ":Circle"),
        (HEAD, ""),
        (TWO, ""),
        (ABSTRACT, ":Circle"),
        ("1 / 0", ":Circle"),
        ("class Circle(", ":Circle"),
        ("import sys\nsys.exit(0)", ":Circle"),
        ("import there_is_no_such_module", ":Circle"),
    ],
)
def test_what_cannot_be_loaded_is_refused(folder: Path, text: str, suffix: str) -> None:
    path = write(folder, text)
    with pytest.raises(GossamerError) as caught:
        load_class(f"{path}{suffix}", Shape)
    assert caught.value.code is ErrorCode.CONFIG
    assert caught.value.where == str(path)
    assert "\n" not in str(caught.value)


def test_the_failing_line_is_named(folder: Path) -> None:
    with pytest.raises(GossamerError, match="line 2"):
        load_class(str(write(folder, "x = 1\nx / 0\n")), Shape)


def test_a_missing_file_is_refused(folder: Path) -> None:
    with pytest.raises(GossamerError) as caught:
        load_class(f"{folder / 'none.py'}:Circle", Shape)
    assert caught.value.code is ErrorCode.MISSING


def test_all_classes_of_a_file_are_listed_in_their_order(folder: Path) -> None:
    assert [cls.__name__ for cls in load_classes(write(folder, TWO), Shape)] == ["Circle", "Square"]
    with pytest.raises(GossamerError) as caught:
        load_classes(write(folder, HEAD), Shape)
    assert caught.value.code is ErrorCode.CONFIG


def marked(folder: Path, name: str = "mine.py") -> tuple[Path, Path]:
    """A file that leaves a mark when it is executed, and the mark."""
    mark = folder.parent / f"{folder.name}-executed"
    return write(folder, f"open({str(mark)!r}, 'w').close()\n{CIRCLE}", name), mark


def refused(reference: str, sha256: str | None, opened: Path) -> ErrorCode:
    with pytest.raises(GossamerError) as caught:
        load_class(reference, Shape, sha256=sha256, opened_folder=opened)
    return caught.value.code


def digest(path: Path) -> str:
    return sha256_hexdigest(path.read_bytes())


def test_a_folder_never_has_its_own_code_executed(folder: Path) -> None:
    run = folder / "run"
    (run / "deep").mkdir(parents=True)
    for inside in (run, run / "deep"):
        path, mark = marked(inside)
        assert refused(f"{path}:Circle", digest(path), run) is ErrorCode.SECURITY
        assert not mark.exists()


def indirect(folder: Path, run: Path) -> Iterable[str]:
    """References that reach a file by a detour."""
    (folder / "link.py").symlink_to(run / "mine.py")
    (folder / "same").symlink_to(run)
    return (str(folder / "link.py"), str(folder / "same" / "mine.py"), f"{run}/../run/mine.py", "run/mine.py")


def test_detours_to_code_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = folder / "run"
    run.mkdir()
    path, mark = marked(run)
    monkeypatch.chdir(folder)
    for reference in indirect(folder, run):
        assert refused(f"{reference}:Circle", digest(path), folder / "elsewhere") is ErrorCode.SECURITY
    assert not mark.exists()


def test_a_configuration_names_code_with_its_digest(folder: Path) -> None:
    path, mark = marked(folder)
    run = folder / "run"
    assert refused(f"{path}:Circle", None, run) is ErrorCode.SECURITY
    assert refused(f"{path}:Circle", "0" * 64, run) is ErrorCode.INTEGRITY
    assert not mark.exists()
    assert load_class(f"{path}:Circle", Shape, sha256=digest(path), opened_folder=run).__name__ == "Circle"
    assert mark.exists()


def test_classes_that_no_file_defines_have_no_origin() -> None:
    class Local:
        pass

    for cls in (Local, type("Made", (), {"__module__": "__main__"}), type("Made", (), {"__module__": "nowhere"})):
        with pytest.raises(GossamerError) as caught:
            find_origin(cls)
        assert caught.value.code is ErrorCode.UNSUPPORTED
