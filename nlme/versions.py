"""Which versions computed a result, and when."""

from __future__ import annotations

import datetime
import platform
from importlib.metadata import PackageNotFoundError, version


def versions() -> dict[str, str]:
    """Versions of what computed a result."""
    found = {"python": platform.python_version()}
    for name in ("nlme", "jax", "jaxlib", "equinox", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found


def now() -> str:
    """The time in words that sort: '2026-03-01 14:05 UTC'."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
