"""The objective and what is made of it (-2 log L, AIC, BIC) as text, with the Monte-Carlo error that they share."""

from __future__ import annotations

from nlme.tables.numbers import fixed_point, significant

DECIMALS = 3


def criterion(fit, value: float) -> str:
    """``value``, of the objective's kind, with equally many decimals everywhere; ``± error`` where the objective was found by
    importance sampling (also at the end of SAEM)."""
    found = getattr(fit, "monte_carlo", None)
    return fixed_point(value, DECIMALS) + (f" ± {significant(found.error, 2)}" if found is not None else "")


def said_of_error(fit) -> str:
    """What ``±`` is; nothing where there is none."""
    if getattr(fit, "monte_carlo", None) is None:
        return ""
    return "± of the objective, AIC and BIC: standard error by importance sampling, in each difference between models."
