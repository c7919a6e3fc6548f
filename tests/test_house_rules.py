"""The rules of the house, as far as a program can check them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import gossamer
from gossamer.cli.main import VERBS, build_app, read_summary
from gossamer.data.layouts import LAYOUTS
from gossamer.data.transforms import STEPS
from gossamer.errors import ErrorCode
from gossamer.nn.attention import MECHANISMS
from gossamer.nn.models import MODELS, PRESETS
from tested_by import TESTED_BY

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "gossamer"
FILES = sorted(SOURCE.rglob("*.py"))
FORBIDDEN_MODULES = {"pickle", "joblib", "dill", "shelve", "marshal"}
FORBIDDEN_CALLS = {"eval", "exec", "compile"}
MAY_UNPICKLE = SOURCE / "pretrained" / "unpickle.py"
"""The one file that calls ``torch.load``: a child process, which nothing imports."""


def trees() -> list[tuple[Path, ast.Module]]:
    return [(path, ast.parse(path.read_text())) for path in FILES]


def test_no_file_is_longer_than_400_lines() -> None:
    assert [path.name for path in FILES if len(path.read_text().splitlines()) > 400] == []


def test_there_is_no_drawer_for_everything() -> None:
    names = {part for path in FILES for part in path.relative_to(SOURCE).with_suffix("").parts}
    assert names & {"utils", "helpers", "common", "misc", "util", "helper"} == set()


def test_only_the_command_line_prints() -> None:
    offenders = [
        path.name
        for path, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
        and "cli" not in path.parts
    ]
    assert offenders == []


def test_nothing_that_can_run_code_from_data() -> None:
    for path, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
                assert not {module.split(".")[0] for module in modules} & FORBIDDEN_MODULES, path
            if isinstance(node, ast.Call):
                if isinstance(node.func, ast.Name):
                    assert node.func.id not in FORBIDDEN_CALLS, path
                if isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name):
                    called = (node.func.value.id, node.func.attr)
                    assert called != ("yaml", "load"), path
                    if called == ("torch", "load"):
                        assert path == MAY_UNPICKLE
                        (careful,) = [keyword.value for keyword in node.keywords if keyword.arg == "weights_only"]
                        assert isinstance(careful, ast.Constant), path
                        assert careful.value is True, path
                for keyword in node.keywords:
                    if keyword.arg == "allow_pickle":
                        assert isinstance(keyword.value, ast.Constant), path
                        assert keyword.value.value is False, path


def test_nothing_imports_what_unpickles() -> None:
    child = re.compile(r"import.*\bunpickle\b|\bpublished\.unpickle\b")
    assert [path for path in FILES if child.search(path.read_text())] == []
    runs_it = [path.name for path in FILES if '"unpickle.py"' in path.read_text()]
    assert runs_it == ["quarantine.py"]


def test_no_exception_is_swallowed() -> None:
    for path, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.ExceptHandler):
                assert node.type is not None, f"{path}: bare except"
                assert not all(isinstance(line, ast.Pass) for line in node.body), f"{path}: except that does nothing"


def test_every_error_code_is_raised_somewhere() -> None:
    text = (
        "\n".join(path.read_text() for path in FILES if path.name != "errors.py") + (SOURCE / "errors.py").read_text()
    )
    assert [code.name for code in ErrorCode if f"ErrorCode.{code.name}" not in text] == []


@pytest.mark.parametrize("table", [MECHANISMS, MODELS, STEPS])
def test_tables_are_keyed_by_the_names_of_their_classes(table: dict[str, type]) -> None:
    assert {kind.name: kind for kind in table.values()} == table  # type: ignore[attr-defined]


def test_tables_are_complete() -> None:
    def files(folder: str, besides: set[str]) -> set[str]:
        return {path.stem for path in (SOURCE / folder).glob("*.py")} - besides - {"__init__"}

    # A paper may hold a mechanism and its variant in one file.
    assert {"gossamer.nn.attention." + name for name in files("nn/attention", {"base", "external"})} == {
        kind.__module__ for kind in MECHANISMS.values()
    }
    assert files("nn/models", {"base"}) == {type(preset).__module__.rsplit(".", 1)[-1] for preset in PRESETS.values()}
    assert files("data/layouts", set()) == set(LAYOUTS)
    verbs = {name.replace("_", "-") for name in files("cli", {"main", "output", "numbers"})}
    assert verbs == set(VERBS)


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_has_a_summary_an_example_and_a_place_in_the_docs(verb: str) -> None:
    path, name = VERBS[verb].split(":")
    tree = ast.parse((SOURCE / Path(*path.split(".")[1:])).with_suffix(".py").read_text())
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    group = name == "app"
    documented = [node for node in functions.values() if node.decorator_list] if group else [functions[name]]
    assert read_summary(VERBS[verb]).endswith(".")
    for function in documented:
        assert f"Example: gossamer {verb}" in (ast.get_docstring(function) or "")
    pages = [page for page in (ROOT / "docs").rglob("*.md") if page.name != "cli.md"]
    assert any(f"gossamer {verb}" in page.read_text() for page in pages)


def test_verbs_have_the_common_options() -> None:
    app = build_app()
    for verb in VERBS:
        command = app[verb]
        targets = [command] if verb != "data" else [command["check"], command["phantom"]]
        for target in targets:
            names = {name for argument in target.assemble_argument_collection() for name in argument.names}
            assert {"--json", "--debug"} <= names, verb


def test_public_names_are_there_and_documented() -> None:
    page = (ROOT / "docs" / "python.md").read_text()
    for name in set(gossamer.__all__) - {"__version__"}:
        assert getattr(gossamer, name).__doc__, name
        assert f"gossamer.{name}" in page, name


def test_docs_name_every_mechanism_preset_layout_and_code() -> None:
    text = "\n".join(path.read_text() for path in (ROOT / "docs").rglob("*.md"))
    for name in (*MECHANISMS, *PRESETS, *LAYOUTS, *(code.label for code in ErrorCode)):
        assert name in text, name


def test_links_in_the_documents_lead_somewhere() -> None:
    for document in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)", document.read_text()):
            if "://" not in target:
                assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_the_lock_pins_what_the_metadata_allow() -> None:
    lock = dict(
        line.lower().replace("_", "-").split("==")
        for name in ("requirements.lock", "requirements-dev.lock")
        for line in (ROOT / name).read_text().splitlines()
        if line and line[0] not in "#"
    )
    assert lock["torch"] == "2.13.0"
    assert not {"torchvision", "timm"} & set(lock)
    metadata = (ROOT / "pyproject.toml").read_text()
    wanted = re.findall(r'^\s+"([a-z-]+)>=', metadata, re.MULTILINE) + re.findall(r'\["([a-z-]+)>=', metadata)
    # The second engine of bundles is large and never needed; nothing that make does installs it.
    assert set(wanted) - {"openvino"} <= set(lock)


def test_every_module_has_a_test_file() -> None:
    tests = ROOT / "tests"
    modules = {path.relative_to(SOURCE).as_posix() for path in FILES if path.name not in ("__init__.py", "__main__.py")}
    mirrored = {name for name in modules if (tests / name).with_name(f"test_{Path(name).name}").is_file()}
    assert modules - mirrored == set(TESTED_BY)
    assert [name for name in set(TESTED_BY.values()) if not (tests / name).is_file()] == []
