"""What stands for a concentration below the limit of quantification, by where it lies in its profile."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nlme.errors import DataError, name_error
from nlme.noncompartmental.profiles import Samples

#: where -> what stands there unless said otherwise
BELOW = {"before": "zero", "between": "missing", "first after": "missing", "after": "missing"}
_MEANINGS = ("zero", "missing", "half", "limit")


def require_below(below: Any) -> dict[str, Any]:
    """The rules, completed; one word is for all places.

    Raises
    ------
    DataError
        A place or a rule that there is not.
    """
    given = dict(below) if isinstance(below, Mapping) else {} if below is None else dict.fromkeys(BELOW, below)
    for place, rule in given.items():
        if place not in BELOW:
            raise DataError("below=: " + name_error("place", str(place), BELOW, "nlme.nca"))
        number = isinstance(rule, (int, float)) and not isinstance(rule, bool) and np.isfinite(rule) and rule >= 0
        if not number and rule not in _MEANINGS:
            raise DataError(f"below= {place}: one of {', '.join(_MEANINGS)} or a concentration; got {rule!r}.")
    return BELOW | given


def substituted(samples: Samples, rules: Mapping[str, Any], who: str):
    """(time, concentration, measured): samples with the rules' values for those below the limit, the missing ones left out.

    What is put in counts in the areas; ``measured`` marks the concentrations that were measured and are above zero.

    Raises
    ------
    DataError
        Two samples at one time.
    """
    positive = ~samples.below & (samples.value > 0)
    seen = np.flatnonzero(positive)
    first, last = (seen[0], seen[-1]) if len(seen) else (len(positive), len(positive))
    conc = samples.value.copy()
    for k in np.flatnonzero(samples.below):
        place = "before" if k < first else "between" if k < last else "first after" if k == last + 1 else "after"
        conc[k] = _value(rules[place], samples.limit[k])
    kept = ~np.isnan(conc)
    time = samples.time[kept]
    if np.any(np.diff(time) == 0):
        at = time[:-1][np.diff(time) == 0][0]
        raise DataError(
            f"{who[0].upper()}{who[1:]}: two concentrations {at:g} after the dose; average replicates, or leave one out."
        )
    return time, conc[kept], positive[kept]


def _value(rule: Any, limit: float) -> float:
    if isinstance(rule, str):
        return {"zero": 0.0, "missing": np.nan, "half": 0.5 * limit, "limit": limit}[rule]
    return float(rule)
