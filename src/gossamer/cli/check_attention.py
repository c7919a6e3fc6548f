"""``gossamer check-attention``: the promises of an attention mechanism."""

from __future__ import annotations

from gossamer.api.environment import require_training_packages, set_torch_threads
from gossamer.cli.output import Answer, Common


def check_attention(attention: str, /, *, threads: int | None = None, common: Common = Common()) -> Answer:
    """Check an attention mechanism, from a file or from Gossamer: results, masks, gradients, cost, export.

    The fast form must equal the dense form, real tokens must not depend on padding, gradients must equal finite
    differences, the closed form of the cost must equal the operations that run, and ONNX Runtime must give what PyTorch
    gives. A mechanism may refuse masks, prefix tokens or export with a reason. The exit status is 65 if a check failed.

    Example: gossamer check-attention ./mine.py

    Args:
        attention: Python file with one or more configs, one of its classes such as ./mine.py:MyConfig, name of a
            mechanism of gossamer models, or JSON such as '{"name": "./mine.py", "window": 3}'.
        threads: Number of CPU threads (default: all available).
        common: Options of every verb.
    """
    require_training_packages("check-attention")
    set_torch_threads(threads)
    from gossamer.api import attention as api

    report = api.check_attention(attention, progress=True)
    return Answer(report.to_dict(), report.summary_tables(), 0 if report.passed else 65)
