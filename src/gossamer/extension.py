"""Classes of a user, loaded from one Python file outside of the package: ``./mine.py:MyConfig``.

Loading runs the file, so a reference is only followed where a user typed it, or where a configuration that Gossamer
wrote names the file by its absolute path and its SHA-256. The file is read once: what is hashed is what is executed,
and no bytecode is written next to it. ``docs/decisions/0015-mechanisms-of-users.md`` has the reasons.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import re
import sys
from dataclasses import dataclass
from functools import cache
from importlib.abc import SourceLoader
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from gossamer.config import suggest_nearest
from gossamer.errors import ErrorCode, GossamerError
from gossamer.files import read_bytes, sha256_hexdigest

Base = TypeVar("Base")

_REFERENCE = re.compile(r"(?P<file>.+\.py)(?::(?P<class>[A-Za-z_]\w*))?", re.DOTALL)
_MODULE_PREFIX = "gossamer_extension_"


@dataclass(frozen=True)
class ClassOrigin:
    """The file that a class of a user comes from.

    Attributes:
        path: Absolute path of the file, without symbolic links.
        class_name: Name of the class in the file.
        sha256: SHA-256 of the file when it was loaded, as hexadecimal digits.
    """

    path: Path
    class_name: str
    sha256: str

    @property
    def reference(self) -> str:
        """The text that ``load_class`` takes."""
        return f"{self.path}:{self.class_name}"


def is_reference(text: str) -> bool:
    """Return whether a text names a Python file, or a class in one."""
    return _REFERENCE.fullmatch(text) is not None


def shorten_reference(text: str) -> str:
    """Return a reference without its folders, for people; any other text as it is."""
    found = _REFERENCE.fullmatch(text)
    if found is None:
        return text
    file = Path(found["file"]).name
    return file if found["class"] is None else f"{file}:{found['class']}"


def describe_reference(text: str) -> str:
    """Return what people read in place of a mechanism's name or JSON: references without folders and digests.

    Nothing is executed. Any other text stays as it is.
    """
    try:
        data = json.loads(text)
    except ValueError:
        return shorten_reference(text)
    if not isinstance(data, dict) or not is_reference(str(data.get("name"))):
        return text
    shown = {key: value for key, value in data.items() if key != "sha256"}
    shown["name"] = shorten_reference(str(data["name"]))
    return json.dumps(shown) if len(shown) > 1 else shown["name"]


def load_class(
    reference: str, base: type[Base], *, sha256: str | None = None, opened_folder: Path | None = None
) -> type[Base]:
    """Return the class that a reference names; the file is executed.

    Args:
        reference: ``FILE.py:CLASS``, or ``FILE.py`` where the file defines one subclass of ``base``.
        base: Class that it must inherit.
        sha256: SHA-256 that the file must have (default: any).
        opened_folder: Folder whose configuration holds the reference; None for a reference that a user typed. A
            configuration must name the file by its absolute path and its SHA-256, and the file must not be part of the
            folder: opening a folder never executes code that came with it.

    Raises:
        GossamerError: ``E-MISSING`` for a file that does not exist; ``E-SECURITY`` for a file inside of
            ``opened_folder``; ``E-INTEGRITY`` for another SHA-256; ``E-CONFIG`` for a file that raises, a class that is
            missing, or one that does not inherit ``base``.
    """
    found = _REFERENCE.fullmatch(reference)
    if found is None:
        raise GossamerError(ErrorCode.CONFIG, reference, "does not name a Python file", "write FILE.py:CLASS")
    path = Path(found["file"]).expanduser()
    if opened_folder is not None:
        _require_safe(path, sha256, opened_folder)
    path = path.resolve()
    return _pick_class(_load_module(path, sha256), found["class"], base, path)


def load_classes(path: Path, base: type[Base]) -> list[type[Base]]:
    """Return the concrete subclasses of ``base`` that a file defines, in their order; the file is executed.

    Raises:
        GossamerError: The errors of ``load_class``; ``E-CONFIG`` where the file defines none.
    """
    path = path.expanduser().resolve()
    found = find_subclasses(_load_module(path), base)
    if not found:
        problem = f"defines no concrete subclass of {base.__name__}"
        raise GossamerError(ErrorCode.CONFIG, path, problem, f"inherit {base.__name__} and define its methods")
    return found


def find_subclasses(module: ModuleType, base: type[Base]) -> list[type[Base]]:
    """Return the concrete subclasses of ``base`` that a module itself defines, in their order."""
    return [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, base)
        and value.__module__ == module.__name__
        and not inspect.isabstract(value)
    ]


@cache
def find_origin(cls: type) -> ClassOrigin:
    """Return the file that a class of a user comes from, so that a configuration can name it.

    The digest of a class that was not loaded by ``load_class`` is that of its file at the first call.

    Raises:
        GossamerError: ``E-UNSUPPORTED`` for a class that no file of its own defines: one of a notebook, of an
            interactive session, of the script that is running, or inside of a function.
    """
    module = sys.modules.get(cls.__module__)
    file = getattr(module, "__file__", None)
    if file is None or not file.endswith(".py") or cls.__module__ == "__main__" or cls.__qualname__ != cls.__name__:
        problem = f"{cls.__qualname__} is not at the top level of a module, so no saved configuration could name it"
        remedy = "define it in a .py file of its own and import it"
        raise GossamerError(ErrorCode.UNSUPPORTED, cls.__name__, problem, remedy)
    path = Path(file).resolve()
    loader = getattr(module, "__loader__", None)
    digest = loader.sha256 if isinstance(loader, _ReadLoader) else sha256_hexdigest(read_bytes(path))
    return ClassOrigin(path, cls.__name__, digest)


class _ReadLoader(SourceLoader):
    """Loads the bytes that were read, so that a file cannot change between its digest and its execution."""

    def __init__(self, path: Path, data: bytes, sha256: str) -> None:
        self.path = path
        self.data = data
        self.sha256 = sha256

    def get_filename(self, fullname: str) -> str:
        return str(self.path)

    def get_data(self, path: str) -> bytes:  # type: ignore[override]
        return self.data


def _require_safe(path: Path, sha256: str | None, opened_folder: Path) -> None:
    """Raise unless a configuration may have this file executed.

    Raises:
        GossamerError: ``E-SECURITY``.
    """
    where, remedy = opened_folder, "open only folders from people you trust, and restore this one from a backup"
    if sha256 is None or not path.is_absolute() or path != path.resolve():
        problem = f"names the code {path} without its absolute path and SHA-256"
        raise GossamerError(ErrorCode.SECURITY, where, problem, remedy)
    if path.is_relative_to(opened_folder.resolve()):
        problem = f"names code inside of itself, {path.name}, which is never executed"
        raise GossamerError(ErrorCode.SECURITY, where, problem, remedy)


def _load_module(path: Path, sha256: str | None = None) -> ModuleType:
    """Return the module of a file, which is read once; it is executed unless it is imported already.

    Raises:
        GossamerError: ``E-MISSING``; ``E-INTEGRITY`` for another SHA-256 than ``sha256``; ``E-CONFIG`` for a file that
            raises.
    """
    data = read_bytes(path)
    digest = sha256_hexdigest(data)
    if sha256 is not None and digest != sha256:
        problem = f"has changed: its SHA-256 begins with {digest[:12]}, {sha256[:12]} was recorded"
        raise GossamerError(ErrorCode.INTEGRITY, path, problem, "restore the file, or train a new run with it")
    return _imported_module(path, digest) or _execute(path, data, digest)


def _imported_module(path: Path, digest: str) -> ModuleType | None:
    """Return the module of a file that is imported already, so that its classes stay the same objects."""
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name == "__main__" or not isinstance(file, str) or Path(file).name != path.name:
            continue
        classes = [value for value in vars(module).values() if isinstance(value, type) and value.__module__ == name]
        if classes and Path(file).resolve() == path and _is_current(classes[0], digest):
            return module
    return None


def _is_current(cls: type, digest: str) -> bool:
    """Return whether a class was made from the file as it is now."""
    try:
        return find_origin(cls).sha256 == digest
    except GossamerError:
        return False


def _execute(path: Path, data: bytes, digest: str) -> ModuleType:
    """Return a new module made of a file's bytes.

    Raises:
        GossamerError: ``E-CONFIG``, for a file that raises.
    """
    name = _MODULE_PREFIX + sha256_hexdigest(f"{path}\n{digest}".encode())[:16]
    spec = importlib.util.spec_from_loader(name, _ReadLoader(path, data, digest), origin=str(path))
    assert spec is not None
    assert spec.loader is not None
    spec.has_location = True
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and type checkers look a class's module up there
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # whatever a user's file may raise
        del sys.modules[name]
        line = _failing_line(error, path)
        problem = f"raises {type(error).__name__}{line}: {error}"
        raise GossamerError(ErrorCode.CONFIG, path, problem, "run it with python to see where") from error
    return module


def _failing_line(error: BaseException, path: Path) -> str:
    """Return the line of a file in which an error was raised, in words."""
    if isinstance(error, SyntaxError):
        return f" in line {error.lineno}"
    numbers, trace = [], error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            numbers.append(trace.tb_lineno)
        trace = trace.tb_next
    return f" in line {numbers[-1]}" if numbers else ""


def _pick_class(module: ModuleType, name: str | None, base: type[Base], path: Path) -> type[Base]:
    """Return the class of this name, or the only one.

    Raises:
        GossamerError: ``E-CONFIG``.
    """
    known = find_subclasses(module, base)
    names = [cls.__name__ for cls in known]
    if name is None:
        if len(known) == 1:
            return known[0]
        problem = f"defines {len(known)} subclasses of {base.__name__}"
        raise GossamerError(
            ErrorCode.CONFIG, path, problem, f"name one of them, such as {path.name}:{(names or ['MyConfig'])[0]}"
        )
    found = vars(module).get(name)
    if found is None:
        remedy = suggest_nearest(name, names) if names else f"define a subclass of {base.__name__} in it"
        raise GossamerError(ErrorCode.CONFIG, path, f"does not define {name!r}", remedy)
    if not (isinstance(found, type) and issubclass(found, base)):
        raise GossamerError(
            ErrorCode.CONFIG, path, f"{name} is not a subclass of {base.__name__}", f"inherit {base.__name__}"
        )
    if inspect.isabstract(found):
        missing = ", ".join(sorted(found.__abstractmethods__))  # type: ignore[attr-defined]
        raise GossamerError(ErrorCode.CONFIG, path, f"{name} does not define {missing}", f"define {missing}")
    return found
