"""Attention mechanisms in one's own code: ``gossamer.create_attention`` and ``gossamer.check_attention``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from gossamer.api import attention_checks as checks
from gossamer.api.attention_samples import CheckError, CheckSize, RefusalError
from gossamer.api.progress import choose_progress
from gossamer.arguments import checked_arguments
from gossamer.checks import require
from gossamer.exporting.export_onnx import describe_cause
from gossamer.extension import is_reference, load_classes
from gossamer.nn.attention import Attention, AttentionConfig, AttentionLike, attention_config
from gossamer.nn.attention.base import Grid
from gossamer.progress import Progress
from gossamer.summary import Result, SummaryTable

Outcome = Literal["passed", "failed", "refused"]

SIZES = (
    CheckSize(12, 3, (5, 4)),
    CheckSize(16, 4, (3, 7), num_prefix_tokens=1),
    CheckSize(6, 1, (1, 1)),
    CheckSize(20, 5, (7, 9), num_prefix_tokens=2),
)
SMALL = CheckSize(4, 2, (2, 3), num_prefix_tokens=1)
MEDIUM = CheckSize(12, 3, (5, 7), num_prefix_tokens=1)
PLAIN = CheckSize(16, 4, (4, 6))
MANY_TOKENS = CheckSize(16, 2, (32, 32))
COUNTED = (
    CheckSize(16, 4, (3, 5)),
    CheckSize(16, 4, (7, 11), num_prefix_tokens=1),
    CheckSize(16, 4, (1, 2), num_prefix_tokens=2),
    CheckSize(16, 4, (40, 41), num_prefix_tokens=1),
)
OTHER_GRIDS = ((3, 7), (11, 13))
PADDINGS = (0.0, 1e6, float("nan"), float("inf"))
REQUIRED = "dense form"
"""Name of the one check that a mechanism may not refuse at every size."""


@dataclass(frozen=True)
class AttentionCheck:
    """One promise of a mechanism, checked.

    Attributes:
        mechanism: Name of the mechanism.
        check: Name of the check.
        outcome: ``passed``; ``failed``; or ``refused``, where the mechanism says that it does not support it.
        detail: Numbers of a check that passed or failed; reason of a refusal.
    """

    mechanism: str
    check: str
    outcome: Outcome
    detail: str


@dataclass(frozen=True, repr=False)
class AttentionReport(Result):
    """Result of ``check_attention``.

    Attributes:
        checks: Every check of every mechanism.
    """

    checks: tuple[AttentionCheck, ...]

    @property
    def passed(self) -> bool:
        """Whether no check failed; refusals are allowed."""
        return all(check.outcome != "failed" for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """Return the checks as data."""
        return {"passed": self.passed, "checks": [vars(check) for check in self.checks]}

    def summary_tables(self) -> tuple[SummaryTable, ...]:
        """Return one table for each mechanism."""
        names = dict.fromkeys(check.mechanism for check in self.checks)
        return tuple(self._mechanism_table(name) for name in names)

    def _mechanism_table(self, name: str) -> SummaryTable:
        own = [check for check in self.checks if check.mechanism == name]
        outcomes = [check.outcome for check in own]
        counts = ", ".join(f"{outcomes.count(outcome)} {outcome}" for outcome in dict.fromkeys(outcomes))
        rows = tuple((check.check, check.outcome, check.detail) for check in own)
        return SummaryTable(f"{name}: {counts}", ("check", "outcome", "detail"), rows, text_columns=(0, 1, 2))


@checked_arguments
def create_attention(
    attention: AttentionLike,
    dim: int,
    num_heads: int,
    *,
    grid: Grid | None = None,
    num_prefix_tokens: int = 0,
    qkv_bias: bool = True,
    dropout: float = 0.0,
) -> Attention:
    """Return one attention layer with fresh weights, a ``torch.nn.Module``, for use in one's own network.

    It is called with tokens (batch, tokens, dim), the grid of the tokens and, optionally, a mask that is True for real
    tokens, and returns tokens of the same shape::

        layer = gossamer.create_attention("kv", dim=64, num_heads=4)
        attended = layer(tokens, (8, 8))

    The number of tokens is ``num_prefix_tokens + rows * columns``, prefix tokens first, then the grid row by row. The
    grid of a call may differ from ``grid``.

    Args:
        attention: Name of a mechanism (``gossamer.nn.attention.MECHANISMS``), class in a file such as
            ``./mine.py:MyConfig``, JSON object with parameters, or config.
        dim: Width of a token.
        num_heads: Number of heads, a divisor of ``dim`` unless the mechanism has a head width of its own.
        grid: ``(rows, columns)`` of tokens that the layer is built for (default: unknown). ``soft``, ``soft_norm``,
            ``local`` and ``adaptive`` depend on it.
        num_prefix_tokens: Number of tokens before those of the grid, such as a class token.
        qkv_bias: Whether the projections of queries, keys and values have a bias.
        dropout: Probability of dropout after the output projection.

    Raises:
        GossamerError: ``E-CONFIG``, for a mechanism that does not exist, a number that does not fit, or a missing grid;
            ``E-UNSUPPORTED``, where the mechanism refuses such a layer.
    """
    for name, number, least in (
        ("dim", dim, 1),
        ("num_heads", num_heads, 1),
        ("num_prefix_tokens", num_prefix_tokens, 0),
    ):
        require(number >= least, name, f"{number} is less than {least}", f"use {least} or more")
    require(0 <= dropout < 1, "dropout", f"{dropout} is not in [0, 1)", "use a fraction, such as 0.1")
    if grid is not None:
        fits = len(grid) == 2 and all(isinstance(side, int) and side > 0 for side in grid)
        require(fits, "grid", f"{grid} is not a grid", "give (rows, columns), each 1 or more")
    return attention_config(attention).build(
        dim, num_heads, grid=grid, num_prefix_tokens=num_prefix_tokens, qkv_bias=qkv_bias, dropout=dropout
    )


@checked_arguments
def check_attention(attention: AttentionLike | Path, *, progress: bool | Progress | None = None) -> AttentionReport:
    """Check that an attention mechanism does what Gossamer expects of one.

    The fast form equals the dense form, real tokens do not depend on padding, gradients equal finite differences, the
    closed form of the cost equals the operations that run, ONNX Runtime gives what PyTorch gives, half precision stays
    finite, and more. A check takes sizes of up to 1,641 tokens; together they take less than a minute.

    Args:
        attention: File with one or more configs, class in a file such as ``./mine.py:MyConfig``, name of a mechanism,
            JSON object with parameters, config, or its class.
        progress: True to show progress, or an object with the methods of ``gossamer.progress.Progress`` (default:
            silent).

    Raises:
        GossamerError: ``E-MISSING``, ``E-CONFIG`` where the mechanism cannot be found or loaded.
    """
    mechanisms = _find_mechanisms(attention)
    shown, found = choose_progress(progress), []
    for mechanism in mechanisms:
        calls = _plan_checks(mechanism)
        with shown.track_steps(f"checking {mechanism.name}") as update:
            for done, (name, variants) in enumerate(calls):
                update(done, len(calls))
                found.append(_run_check(mechanism, name, variants))
            update(len(calls), len(calls))
    return AttentionReport(tuple(found))


def _find_mechanisms(attention: AttentionLike | Path) -> list[AttentionConfig]:
    """Return the configs to check: all of a file, or one.

    Raises:
        GossamerError: The errors of ``attention_config``.
    """
    text = str(attention) if isinstance(attention, Path) else attention
    if isinstance(text, str) and is_reference(text) and text.endswith(".py"):
        return [attention_config(kind) for kind in load_classes(Path(text), AttentionConfig)]
    return [attention_config(text)]


def _plan_checks(mechanism: AttentionConfig) -> list[tuple[str, list[Callable[[], str]]]]:
    """Return the names of the checks and, for each, one call for every size."""

    def calls(check: Callable[..., str], sizes: Iterable[CheckSize], *others: Any) -> list[Callable[[], str]]:
        return [partial(check, mechanism, size, *others) for size in sizes]

    return [
        (REQUIRED, calls(checks.check_dense_form, SIZES)),
        ("other grids", [call for grid in OTHER_GRIDS for call in calls(checks.check_dense_form, SIZES[:1], grid)]),
        ("float32", calls(checks.check_float32, [MEDIUM])),
        ("prefix tokens", calls(checks.check_prefix_tokens, [MEDIUM])),
        ("token mask", [call for value in PADDINGS for call in calls(checks.check_token_mask, [MEDIUM], value)]),
        ("gradients", calls(checks.check_gradients, [SMALL])),
        ("gradients of the dense form", calls(checks.check_gradients_of_definition, [MEDIUM])),
        ("cost", calls(checks.check_cost, COUNTED)),
        ("batch", calls(checks.check_batch_independence, [PLAIN])),
        ("dropout", calls(checks.check_dropout, [MEDIUM])),
        ("state", calls(checks.check_state_dict, [PLAIN])),
        ("config", calls(checks.check_config, [PLAIN])),
        ("refusals", calls(checks.check_refusals, [MEDIUM])),
        ("bfloat16", calls(checks.check_half_precision, [MANY_TOKENS], torch.bfloat16)),
        ("float16", calls(checks.check_half_precision, [MANY_TOKENS], torch.float16)),
        ("ONNX", calls(checks.check_export, [PLAIN], (9, 6))),
    ]


def _run_check(mechanism: AttentionConfig, name: str, calls: list[Callable[[], str]]) -> AttentionCheck:
    """Return the outcome of a check at all its sizes: the first failure, or the last success, or the refusal."""
    details, refusals = [], []
    for call in calls:
        try:
            details.append(call())
        except RefusalError as refusal:
            refusals.append(str(refusal))
        except CheckError as failure:
            return AttentionCheck(mechanism.name, name, "failed", str(failure))
        except Exception as error:  # whatever a user's code may raise
            detail = f"{type(error).__name__}: {describe_cause(error)}"
            return AttentionCheck(mechanism.name, name, "failed", detail)
    if details:
        return AttentionCheck(mechanism.name, name, "passed", details[-1])
    outcome: Outcome = "failed" if name == REQUIRED else "refused"
    return AttentionCheck(mechanism.name, name, outcome, refusals[-1])
