"""The entry point: finds the verb, runs it, and turns whatever goes wrong into one line and an exit status."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import tempfile
import traceback
import warnings
from pathlib import Path
from typing import Any

from cyclopts import App, CycloptsError

from gossamer import __version__
from gossamer.cli.output import Answer
from gossamer.errors import ErrorCode, GossamerError
from gossamer.files import replace_nonfinite

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
    "compare": "gossamer.cli.compare:compare",
    "doctor": "gossamer.cli.doctor:doctor",
    "demo": "gossamer.cli.demo:demo",
}

SUMMARIES: dict[str, str] = {
    "train": "Train a network on labelled images, evaluate it and write a report.",
    "evaluate": "Evaluate a trained run or a bundle on labelled images.",
    "predict": "Predict images with a trained run or a bundle: their classes, or their masks.",
    "profile": "Measure what a network costs: parameters, MACs, latency, memory.",
    "plan": "List what can meet a limit of latency and memory on this machine.",
    "export": "Write a trained run as a bundle that runs without PyTorch.",
    "quantize": "Write a run or a bundle as a bundle in 8 bits, if it loses little.",
    "data": "Look at data: check a data set, or write a phantom.",
    "models": "List networks and attention mechanisms.",
    "import-weights": "Read weights that others have published into one of our networks.",
    "compare": "Train networks with several mechanisms alike, measure them side by side, and say which to take.",
    "doctor": "Say what this machine offers, what is missing, and how to get it.",
    "demo": "Train networks and their softmax twins on phantoms, and compare them.",
}

SMALLER: dict[str, str] = {
    "train": "--batch-size or --image-size",
    "compare": "--batch-size or --image-size",
    "profile": "--batch or --image-size",
    "plan": "--image-sizes",
    "import-weights": "--image-size",
    "data": "--image-size",
}
"""Options of a verb that decide how much memory it takes; the others take images as they come."""


def build_app(asked: str | None = None) -> App:
    """Return the command line.

    Verbs are imported when they are used, so that help is quick: their summaries stand here, and only the help of the
    verb that is asked for is read from its own file.
    """
    app = App(
        name="gossamer",
        version=f"gossamer {__version__}",
        help="Compute-efficient transformers for medical images.\n\nStart with: gossamer train DATA",
        help_format="plaintext",
    )
    for verb, path in VERBS.items():
        if verb == asked:
            app.command(path, name=verb)
        else:
            app.command(path, name=verb, help=SUMMARIES[verb])
    return app


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(run(arguments))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit status."""
    debug, as_json = "--debug" in arguments, "--json" in arguments
    # Threads that wait for each other should sleep: spinning costs many times the work once a core is shared.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if not debug:
        warnings.simplefilter("ignore")
    try:
        answer = build_app(arguments[0] if arguments else None)(
            arguments, exit_on_error=False, print_error=False, result_action="return_value"
        )
        if isinstance(answer, Answer):
            _show(answer, as_json=as_json)
            return answer.exit_status
        return 0
    except CycloptsError as error:
        return _fail("usage", str(error), USAGE_STATUS, {"code": "usage", "problem": str(error)}, as_json=as_json)
    except GossamerError as error:
        if debug:
            traceback.print_exc()
        return _fail(None, str(error), error.code.exit_status, error.to_json(), as_json=as_json)
    except KeyboardInterrupt:
        return _fail(None, "stopped by SIGINT", 128 + signal.SIGINT, {"code": "signal"}, as_json=as_json)
    except BrokenPipeError:
        # The reader of our output has gone; there is nobody left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except Exception as error:
        if debug:
            raise
        return _fail_unexpected(error, arguments[0] if arguments else "", as_json=as_json)


def _show(answer: Answer, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(replace_nonfinite(answer.data), allow_nan=False))
    elif answer.text is not None:
        from rich.console import Console

        Console(highlight=False, soft_wrap=not sys.stdout.isatty()).print(answer.text)


def _fail(kind: str | None, message: str, status: int, data: dict[str, Any], *, as_json: bool) -> int:
    line = f"gossamer: {kind}: {message}" if kind else f"gossamer: {message}"
    print(" ".join(line.split()), file=sys.stderr)
    if as_json:
        print(json.dumps({"error": data}))
    return status


def _out_of_memory(error: Exception, verb: str) -> GossamerError:
    """Return the line for a piece of memory that was not to be had: its size, what is free, what to make smaller."""
    from gossamer.profiling.machine import available_memory_bytes

    asked = re.search(r"allocate (\d+) bytes", str(error))  # of torch; numpy gives units
    named = re.search(r"allocate ([\d.]+ [KMGTPE]iB)", str(error))
    piece = f"{int(asked[1]) / 2**30:.1f} GiB" if asked else named[1] if named else "more memory than there is"
    free = available_memory_bytes()
    left = "" if free is None else f", {free / 2**30:.1f} GiB are free"
    remedy = f"use a smaller {SMALLER.get(verb, 'number of --threads, or smaller images')}"
    return GossamerError(ErrorCode.BUSY, "memory", f"one piece of {piece} was asked for{left}", remedy)


def _fail_unexpected(error: Exception, verb: str, *, as_json: bool) -> int:
    if isinstance(error, MemoryError) or "allocate memory" in str(error):
        failure = _out_of_memory(error, verb)
    else:
        trace = Path(tempfile.mkstemp(prefix="gossamer-", suffix=".txt")[1])
        trace.write_text("".join(traceback.format_exception(error)))
        problem = f"{type(error).__name__}: {str(error)[:200]}"
        failure = GossamerError(ErrorCode.BUG, "gossamer", problem, f"this is our fault: please report it with {trace}")
    return _fail(None, str(failure), failure.code.exit_status, failure.to_json(), as_json=as_json)
