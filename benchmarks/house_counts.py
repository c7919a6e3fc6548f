"""Count what makes a code base hard to read, in one or more source trees.

Example: python benchmarks/house_counts.py src/gossamer
Example: python benchmarks/house_counts.py ../older/src/gossamer src/gossamer --list entries

Five counts, each with the places where it was found (``--list`` prints them):

entries: ``Args``, ``Attributes`` and similar docstring entries that cannot be read alone, since they begin with a
    preposition, a relative pronoun or a possessive that leans on the parameter's name ("of segmentation", "its peak").
functions: module-level functions whose name is one word.
imports: imports inside of functions.
branches: questions which task a model or a data set has, outside of the task objects (files named ``tasks.py``).
predictors: classes that bundle a loaded network with its preprocessing.
"""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Iterator
from pathlib import Path

LEANING = frozenset(
    """
    of that which whose its their to from by in on at for with within without under over above below between beside
    where when as than into per via after before during about against until since towards whom what how
    """.split()  # noqa: SIM905
)
"""First words of an entry that lean on the parameter's name. ``whether`` is not one: it states a condition in full."""
SECTIONS = ("Args:", "Attributes:", "Returns:", "Yields:", "Raises:")
COUNTED = ("Args:", "Attributes:")
ENTRY = re.compile(r"^(\*{0,2}[A-Za-z_][\w, *]*?)(?: \([^)]*\))?: +(\S.*)$")
TASKS = frozenset({"classify", "segment"})
TASK_TYPES = re.compile(r"Segment|Classif|Mask|(?<!h5py\.)\bDataset")
TASK_PARTS = re.compile(r"\.(masks|classifier|inference)\b|\binference\b")
NETWORK_FIELDS = frozenset({"network", "engine", "classifier", "probabilities"})
INPUT_FIELDS = frozenset({"preprocessing", "masks"})


def docstring_entries(docstring: str) -> Iterator[tuple[str, str]]:
    """Yield name and text of each entry of the sections that describe parameters and attributes."""
    counted, indent = False, None
    for line in docstring.splitlines():
        text = line.strip()
        if text in SECTIONS or (text.endswith(":") and " " not in text and line == line.lstrip()):
            counted, indent = text in COUNTED, None
            continue
        if not counted or not text:
            continue
        margin = len(line) - len(line.lstrip())
        indent = margin if indent is None else indent
        if margin < indent:
            counted = False
        elif margin == indent and (found := ENTRY.match(text)):
            yield found[1], found[2]


def leans(text: str) -> bool:
    """Return whether an entry's first word leans on the parameter's name."""
    first = re.match(r"[A-Za-z']+", text)
    return first is not None and first[0].lower() in LEANING


def is_task_branch(node: ast.AST) -> bool:
    """Return whether an expression asks for a task: by its name, by a type, or by a part that one task lacks."""
    if isinstance(node, ast.Compare):
        values = [node.left, *node.comparators]
        if any(isinstance(value, ast.Constant) and value.value in TASKS for value in values):
            return True
        compared_with_none = any(isinstance(value, ast.Constant) and value.value is None for value in values)
        return compared_with_none and TASK_PARTS.search(ast.unparse(node)) is not None
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance":
        return TASK_TYPES.search(ast.unparse(node.args[1])) is not None
    return False


def is_predictor(node: ast.AST) -> bool:
    """Return whether a class is a loaded network: it has fields for the network and for what comes before it."""
    if not isinstance(node, ast.ClassDef):
        return False
    fields = {
        item.target.id for item in node.body if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
    }
    return bool(fields & NETWORK_FIELDS) and bool(fields & INPUT_FIELDS)


def count_tree(root: Path) -> dict[str, tuple[list[str], int]]:
    """Return the places of each count, and of how many they are found.

    Args:
        root: Folder of a Python package.
    """
    found: dict[str, list[str]] = {name: [] for name in ("entries", "functions", "imports", "branches", "predictors")}
    totals = dict.fromkeys(found, 0)
    for path in sorted(root.rglob("*.py")):
        tree = ast.parse(path.read_text())
        name = path.relative_to(root)
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                for entry, text in docstring_entries(ast.get_docstring(node) or ""):
                    totals["entries"] += 1
                    if leans(text):
                        found["entries"].append(f"{name}: {entry}: {text}")
            if isinstance(node, ast.Import | ast.ImportFrom):
                totals["imports"] += 1
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                inner = (child for child in ast.walk(node) if isinstance(child, ast.Import | ast.ImportFrom))
                found["imports"] += [f"{name}:{child.lineno}: {ast.unparse(child)}" for child in inner]
            if is_task_branch(node) and path.name != "tasks.py":
                found["branches"].append(f"{name}:{getattr(node, 'lineno', 0)}")
            if is_predictor(node):
                found["predictors"].append(f"{name}:{node.name}")  # type: ignore[attr-defined]
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                totals["functions"] += 1
                if "_" not in node.name.strip("_"):
                    found["functions"].append(f"{name}:{node.lineno}: {node.name}")
        found["imports"] = list(dict.fromkeys(found["imports"]))
    return {key: (places, totals[key]) for key, places in found.items()}


def main() -> None:
    """Print the counts of each tree as a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trees", nargs="+", type=Path, help="folders of Python packages")
    parser.add_argument("--list", choices=("entries", "functions", "imports", "branches", "predictors"))
    options = parser.parse_args()
    for tree in options.trees:
        print(tree)
        for key, (places, total) in count_tree(tree).items():
            share = f" of {total}, {len(places) / total:.0%}" if total else ""
            print(f"  {key:12}{len(places):5}{share}")
            if options.list == key:
                print(*(f"    {place}" for place in places), sep="\n")


if __name__ == "__main__":
    main()
