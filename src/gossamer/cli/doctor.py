"""``gossamer doctor``: this machine and the installed packages."""

from __future__ import annotations

from gossamer.cli.output import Common
from gossamer.summary import Result


def doctor(*, common: Common = Common()) -> Result:
    """Check this machine's hardware and the installed packages.

    Example: gossamer doctor --json

    Args:
        common: Options of every verb.
    """
    from gossamer.api.doctor import check_environment

    return check_environment()
