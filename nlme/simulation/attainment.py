"""Probability of target attainment: how many subjects meet a target, with how sure that is.

    P_r = share of the subjects of replicate r whose measure meets the target        P = their mean over the replicates

Subjects without the measure (they left within its interval, or it does not exist for them) neither meet the target nor miss it: the shares
are of those who have it.

The band holds ``level`` of the P_r: over simulated trials it is what trials of this size will show; with ``uncertainty=`` it has the
uncertainty of the parameters in it.  With one replicate it is Wilson's interval of a proportion.

With minimal inhibitory concentrations (``mic``) the measure is divided by each of them (AUC/MIC, Cmax/MIC), and the expected fraction
of response is sum_m P(m) f(m), f their distribution.  Sources: Mouton et al. (2005), J Antimicrob Chemother 55:601,
doi:10.1093/jac/dki079 (definitions); Wilson (1927), doi:10.1080/01621459.1927.10502953.
"""

from __future__ import annotations

import dataclasses
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import ndtri

from nlme.errors import DataError, name_error
from nlme.parameters.domains import is_numeric, is_probability
from nlme.simulation.exposure import Exposure, _by
from nlme.tables.shown import Panel, Shown, numbers_shown

_SIGNS = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Attainment(Shown):
    """Probabilities of target attainment.

    Attributes
    ----------
    table : DataFrame: the columns grouped by, MIC if given, probability, lower, upper, n (subjects who have the measure, in all
        replicates)
    target, words : what the target is, and what the band is
    response : expected fraction of response by group, where the MICs have a distribution; else None
    messages : how many have no measure, in words
    """

    table: Any
    target: str
    words: str
    response: Any = None
    messages: list[str] = dataclasses.field(default_factory=list)

    def _exact(self):
        return self.table

    def _panels(self) -> list[Panel]:
        names = [c for c in self.table.columns if c not in ("probability", "lower", "upper", "n")]
        shown = self.table.copy()
        shown.index = [
            " ".join(f"{x:g}" if isinstance(x, float) else str(x) for x in row) or "all"
            for row in shown[names].itertuples(index=False)
        ]
        notes = [f"Band: {self.words}."]
        if self.response is not None:
            notes += [f"Expected fraction of response: {', '.join(f'{k} {v:.3f}' for k, v in self.response.items())}."]
        notes += self.messages
        return [
            numbers_shown(
                shown[["probability", "lower", "upper", "n"]],
                f"Target attainment: {self.target}",
                notes,
                index=" ".join(names) or " ",
            )
        ]


def attainment(
    exposure: Exposure,
    target: Any,
    *,
    by: str | Sequence[str] | None = None,
    mic: Mapping[float, float] | Sequence[float] | None = None,
    level: float = 0.9,
) -> Attainment:
    """How probable it is that a subject meets a target.

    Parameters
    ----------
    exposure : of :func:`nlme.exposure`
    target : ("auc", ">", 400), ("ctrough", 10, 20) for from 10 to 20, or a function of the exposure's table that returns a Boolean per row
        (of pandas' type "boolean" it may be NA in the rows that do not count)
    by : columns to group by (ARM, SCENARIO, a covariate); arms and scenarios by default
    mic : minimal inhibitory concentrations, by which the measure is divided, or a dict of them with their frequencies
    level : of the band

    Raises
    ------
    DataError
        An unknown measure, a target of another form, a level that is no probability.
    """
    import pandas as pd

    if not isinstance(exposure, Exposure):
        raise DataError(f"attainment takes what nlme.exposure returns; got {type(exposure).__name__}.")
    if not is_probability(level):
        raise DataError(f"level is a probability between 0 and 1, for example 0.9; got {level!r}.")
    by = _by(exposure.frame, by)
    meets, words, measure = _target(exposure, target)
    mics = None if mic is None else _mics(mic, measure)
    rows, count = [], exposure.frame["REPLICATE"].nunique()
    for m in [None] if mics is None else mics:
        met = meets(exposure.frame, 1.0 if m is None else m)
        table = exposure.frame[[*by, "REPLICATE"]].assign(met=met)
        for key, own in table.groupby(by, sort=False, observed=True) if by else [((), table)]:
            rows.append([*(key if isinstance(key, tuple) else (key,)), *([] if m is None else [m]), *_band(own, level, count)])
    columns = [*by, *([] if mics is None else ["MIC"]), "probability", "lower", "upper", "n"]
    found = pd.DataFrame(rows, columns=columns)
    band = f"{level:.0%} of {count} replicates" if count > 1 else f"{level:.0%} interval of a proportion (Wilson)"
    return Attainment(
        found,
        words if mics is None else words.replace(measure, f"{measure}/MIC", 1),
        band,
        _response(found, by, mic),
        _absent(exposure, measure, table),
    )


def _absent(exposure: Exposure, measure: str, table) -> list[str]:
    """How many subjects have no measure, and what became of them."""
    total, lost = len(table), int(table["met"].isna().sum())
    if lost:
        return [f"{lost:,} of {total:,} (subjects of all replicates) have no {measure or 'answer'} and are left out."]
    lacking = int(exposure.frame[list(exposure.measures)].isna().any(axis=1).sum()) if not measure else 0
    # a comparison with NaN is False: who wrote the target may not have meant that as a failure
    return [f"{lacking:,} of {total:,} lack a measure, and count as the target answered."] if lacking else []


def _band(own, level: float, replicates: int) -> tuple[float, float, float, int]:
    own = own.dropna(subset=["met"])
    shares, n = own.groupby("REPLICATE")["met"].mean(), len(own)
    if not n:
        return math.nan, math.nan, math.nan, 0
    if replicates > 1:
        tail = (1 - level) / 2
        return float(shares.mean()), float(shares.quantile(tail)), float(shares.quantile(1 - tail)), n
    p, z = float(shares.iloc[0]), float(ndtri((1 + level) / 2))
    centre, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return p, max(0.0, (centre - half) / (1 + z * z / n)), min(1.0, (centre + half) / (1 + z * z / n)), n


def _target(exposure: Exposure, target: Any) -> tuple[Callable, str, str]:
    """A function of (table, MIC) that says 1, 0 or (without the measure) NaN, the target in words, and the measure."""
    import pandas as pd

    if callable(target):

        def given(table, m):
            found = target(table)
            if str(getattr(found, "dtype", "")) != "boolean":  # which pandas alone has
                found = np.asarray(found)
            kind, shape = str(found.dtype), np.shape(found)
            if shape != (len(table),) or kind not in ("bool", "boolean"):
                raise DataError(
                    f"The target must return a Boolean for each of {len(table)} rows; it returned {kind} of shape {shape}."
                )
            return pd.array(found, dtype="boolean").to_numpy(float, na_value=np.nan)

        return given, getattr(target, "__name__", "target"), ""
    form = "a target is written ('auc', '>', 400), ('ctrough', 10, 20) or as a function of the table"
    if isinstance(target, str) or not isinstance(target, Sequence) or len(target) != 3:
        raise DataError(f"{form}; got {target!r}.")
    measure, second, third = target
    if measure not in exposure.measures:
        raise DataError(name_error("measure", str(measure), exposure.measures, "The exposure"))
    if isinstance(second, str) and second not in _SIGNS:
        raise DataError(f"{form}; {second!r} is none of {', '.join(_SIGNS)}.")
    numbers = [third] if isinstance(second, str) else [second, third]
    if not all(is_numeric(x) and np.ndim(x) == 0 and not np.isnan(x) for x in numbers):
        raise DataError(f"{form}, with numbers to compare with; got {target!r}.")

    def answered(met: Callable) -> Callable:
        return lambda table, m: met(table[measure] / m).astype(float).where(table[measure].notna())

    if isinstance(second, str):
        return answered(lambda x: _SIGNS[second](x, float(third))), f"{measure} {second} {float(third):g}", measure
    low, high = float(second), float(third)
    if not low < high:
        raise DataError(f"The target {target!r}: the first number must be below the second.")
    return answered(lambda x: (x >= low) & (x <= high)), f"{measure} from {low:g} to {high:g}", measure


def _mics(mic: Any, measure: str) -> list[float]:
    if not measure:
        raise DataError("mic= divides a measure, and the target is a function: let it divide by itself.")
    values = [float(m) for m in mic] if np.iterable(mic) and is_numeric(list(mic)) else []
    if not values or not all(np.isfinite(m) and m > 0 for m in values):
        raise DataError(f"mic= are positive concentrations; got {mic!r}.")
    return values


def _response(found, by: list[str], mic: Any):
    if not isinstance(mic, Mapping):
        return None
    shares = np.array(list(mic.values()))
    if not is_numeric(shares) or np.any(shares < 0) or not shares.sum() > 0:
        raise DataError(f"mic=: frequencies are numbers from 0 on; got {dict(mic)!r}.")
    weight = found["MIC"].map(dict(zip(map(float, mic), shares / shares.sum(), strict=True)))
    weighted = found.assign(probability=found["probability"] * weight)
    return (
        weighted.groupby(by, sort=False)["probability"].sum(min_count=1)
        if by
        else weighted[["probability"]].sum(min_count=1).rename({"probability": "all"})
    )
