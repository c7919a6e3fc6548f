"""``gossamer models``: networks and attention mechanisms."""

from __future__ import annotations

from gossamer.api.environment import require_training_packages
from gossamer.cli.output import Common
from gossamer.summary import Result


def models(pattern: str = "*", /, *, common: Common = Common()) -> Result:
    """List networks and attention mechanisms.

    Parameters and multiply-accumulates are those of the published size with the network's own attention mechanism.

    Example: gossamer models "vit_*"

    Args:
        pattern: Shell pattern of the names.
        common: Options of every verb.
    """
    require_training_packages("models")
    from gossamer.api.models import describe_models

    return describe_models(pattern)
