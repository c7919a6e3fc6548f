"""Write the reference of the command line from the parser: every verb, argument and option with its description.

Example: python scripts/write_cli_reference.py docs/reference/cli.md
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from gossamer.cli.main import VERBS, build_app
from gossamer.files import write_text

HEAD = """# Command line

Every verb has `--help`, `--json` (one JSON object on standard output and nothing else there) and `--debug` (the
traceback of an error). [Error codes](errors.md) lists the exit statuses. This page is generated from the parser.
"""


def cli_reference() -> str:
    """Return the reference as Markdown."""
    pages = [build_app(verb)[verb].generate_docs(output_format="markdown", heading_level=2) for verb in VERBS]
    pages = [re.sub(r"## Table of Contents\n.*?(?=\n#|\Z)", "", page, flags=re.DOTALL) for page in pages]
    # The parser names the module that started Python (-m pytest, for example) in the usage of nested verbs.
    pages = [re.sub(r"(?<=```console\n)(.*?)(?: -m \w+)?(?= \[|\n| --)", r"gossamer \1", page) for page in pages]
    escaped = "\n".join(escape_line(line) for line in "\n\n".join(pages).splitlines())
    return f"{HEAD}\n{escaped.strip()}\n"


def escape_line(line: str) -> str:
    """Return a line whose placeholders such as ``<data>`` stay text, and whose examples stand in code."""
    if (example := re.match(r"^\s*Example: (.*)$", line)) is not None:
        return f"    {example[1]}"
    parts = line.split("`")
    return "`".join(part.replace("<", "&lt;") if number % 2 == 0 else part for number, part in enumerate(parts))


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path)
    write_text(parser.parse_args().page, cli_reference())


if __name__ == "__main__":
    main()
