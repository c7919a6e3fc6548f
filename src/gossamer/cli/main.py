"""The entry point: finds the verb, runs it, and turns every failure into one line and an exit status."""

from __future__ import annotations

import ast
import json
import os
import re
import signal
import sys
import tempfile
import traceback
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cyclopts import App, CycloptsError

from gossamer import __version__
from gossamer.cli.output import Answer, print_answer
from gossamer.errors import ErrorCode, GossamerError, is_out_of_memory
from gossamer.summary import Result

USAGE_STATUS = 2

VERBS: dict[str, str] = {
    "train": "gossamer.cli.train:train",
    "evaluate": "gossamer.cli.evaluate:evaluate",
    "predict": "gossamer.cli.predict:predict",
    "profile": "gossamer.cli.profile:profile",
    "plan": "gossamer.cli.plan:plan",
    "export": "gossamer.cli.export:export",
    "quantize": "gossamer.cli.quantize:quantize",
    "data": "gossamer.cli.data:app",
    "models": "gossamer.cli.models:models",
    "import-weights": "gossamer.cli.import_weights:import_weights",
    "check-attention": "gossamer.cli.check_attention:check_attention",
    "compare": "gossamer.cli.compare:compare",
    "doctor": "gossamer.cli.doctor:doctor",
    "demo": "gossamer.cli.demo:demo",
}

MEMORY_OPTIONS: dict[str, str] = {
    "train": "--batch-size or --image-size",
    "compare": "--batch-size or --image-size",
    "profile": "--batch or --image-size",
    "plan": "--image-sizes",
    "import-weights": "--image-size",
    "data": "--image-size",
}
"""Options of each verb that decide how much memory it takes. Verbs without an entry take images at their own size."""


def build_app(verb: str | None = None) -> App:
    """Return the command line.

    A verb's module is imported when the verb runs, so that help is fast and needs no PyTorch. The summary of a verb is
    the first line of its docstring, read from the source without importing it.

    Args:
        verb: Verb that will run; the summaries of the others are then not read (default: None, all are read).
    """
    app = App(
        name="gossamer",
        version=f"gossamer {__version__}",
        help="Compute-efficient transformers for medical images.\n\nStart with: gossamer train DATA",
        help_format="plaintext",
    )
    for name, path in VERBS.items():
        if name == verb:
            format_of_help = {} if path.endswith(":app") else {"help_format": "rst"}  # an App has its own
            app.command(path, name=name, **format_of_help)
        else:
            app.command(path, name=name, help="" if verb in VERBS else read_summary(path))
    app.register_install_completion_command(help="Install completion of verbs and options for this shell.")
    return app


def read_summary(path: str) -> str:
    """Return the first line of a verb's docstring.

    Args:
        path: Module and function of the verb, such as ``gossamer.cli.train:train``. A group of verbs is an ``App``,
            whose module's docstring is read.
    """
    module, name = path.split(":")
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    return (ast.get_docstring(functions.get(name, tree)) or "").split("\n", maxsplit=1)[0]


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(run(arguments))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit status."""
    debug, as_json = "--debug" in arguments, "--json" in arguments
    # Threads that wait for each other sleep: spinning costs many times the work once a core is shared.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if not debug:
        warnings.simplefilter("ignore")
    try:
        answer = build_app(arguments[0] if arguments else None)(
            arguments, exit_on_error=False, print_error=False, result_action="return_value"
        )
        if isinstance(answer, Result):
            answer = Answer(answer.to_dict(), answer.summary_tables())
        if isinstance(answer, Answer):
            print_answer(answer, as_json=as_json)
            return answer.exit_status
        return 0
    except CycloptsError as error:
        return print_failure(
            "usage", str(error), USAGE_STATUS, {"code": "usage", "problem": str(error)}, as_json=as_json
        )
    except GossamerError as error:
        if debug:
            traceback.print_exc()
        error = name_option(error, arguments)
        return print_failure(None, str(error), error.code.exit_status, error.to_json(), as_json=as_json)
    except KeyboardInterrupt:
        return print_failure(None, "stopped by SIGINT", 128 + signal.SIGINT, {"code": "signal"}, as_json=as_json)
    except BrokenPipeError:
        # The reader of standard output has closed it, so no message can be shown there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except Exception as error:
        if debug:
            raise
        return print_unexpected(error, arguments[0] if arguments else "", as_json=as_json)


def name_option(error: GossamerError, arguments: list[str]) -> GossamerError:
    """Return the error with the option of the command line in place of the parameter of the Python function.

    Args:
        error: Error of a function, whose ``where`` may be a parameter such as ``max_drop``.
        arguments: Arguments of the command.
    """
    option = "--" + error.where.replace("_", "-")
    if not error.where.isidentifier() or not arguments or option not in option_names(arguments):
        return error
    return GossamerError(error.code, option, error.problem, error.remedy)


def option_names(arguments: list[str]) -> set[str]:
    """Return the options of the verb that a command runs; none where there is no such verb."""
    if arguments[0] not in VERBS:
        return set()
    command = build_app(arguments[0])[arguments[0]]
    inner = [argument for argument in arguments[1:2] if argument in command]
    command = command[inner[0]] if inner else command
    if command.default_command is None:
        return set()
    return {name for argument in command.assemble_argument_collection() for name in argument.names}


def print_failure(kind: str | None, message: str, status: int, data: dict[str, Any], *, as_json: bool) -> int:
    """Print one line on standard error, with ``--json`` also an object on standard output, and return the status."""
    line = f"gossamer: {kind}: {message}" if kind else f"gossamer: {message}"
    print(" ".join(line.split()), file=sys.stderr)
    if as_json:
        print(json.dumps({"error": data}))
    return status


def memory_error(error: Exception, verb: str) -> GossamerError:
    """Return the error for an allocation that failed: its size, the free memory and what to make smaller."""
    from gossamer.profiling.machine import available_memory_bytes

    in_bytes = re.search(r"allocate (\d+) bytes", str(error))  # torch's message; numpy's has a unit
    in_words = re.search(r"allocate ([\d.]+ [KMGTPE]iB)", str(error))
    size = f"{int(in_bytes[1]) / 2**30:.1f} GiB" if in_bytes else in_words[1] if in_words else "more than there is"
    free = available_memory_bytes()
    available = "" if free is None else f"; {free / 2**30:.1f} GiB are free"
    remedy = f"use a smaller {MEMORY_OPTIONS.get(verb, 'number of --threads, or smaller images')}"
    return GossamerError(ErrorCode.BUSY, "memory", f"an allocation of {size} failed{available}", remedy)


def print_unexpected(error: Exception, verb: str, *, as_json: bool) -> int:
    """Print an exception that is not ours as one line, keep its traceback in a file, and return the exit status."""
    if is_out_of_memory(error):
        failure = memory_error(error, verb)
    else:
        trace = Path(tempfile.mkstemp(prefix="gossamer-", suffix=".txt")[1])
        trace.write_text("".join(traceback.format_exception(error)))
        problem = f"{type(error).__name__}: {str(error)[:200]}"
        remedy = f"this is a bug in Gossamer: please report it and attach {trace}"
        failure = GossamerError(ErrorCode.BUG, "gossamer", problem, remedy)
    return print_failure(None, str(failure), failure.code.exit_status, failure.to_json(), as_json=as_json)
