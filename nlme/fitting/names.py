"""Names for fits that come in a list."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def named_fits(fits: Iterable[Any]) -> dict[str, Any]:
    """Fits by the class of their model and what was fixed."""
    found: dict[str, Any] = {}
    for fit in fits:
        stem = type(getattr(fit, "model", fit)).__name__ + (
            f", {', '.join(fit.fixed)} fixed" if getattr(fit, "fixed", ()) else ""
        )
        name, k = stem, 2
        while name in found:
            name, k = f"{stem} ({k})", k + 1
        found[name] = fit
    return found
