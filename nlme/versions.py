"""Which versions computed a result."""

from __future__ import annotations

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
