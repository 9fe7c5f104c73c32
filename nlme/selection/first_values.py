"""Starting values of a structure: from concentrations at a glance, and from the estimates of another structure.

At a glance, of each subject's first dose D (medians over subjects): V = D / Cmax; k the slope of log C over the last three observations;
CL = k V; ka = 3 / tmax, of those whose peak is not the first that was seen; km the median concentration.  Orders of magnitude are all that
is wanted: a fit whose search ends in trouble begins elsewhere by itself (``nlme.search.several``).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nlme.data.population import Population
from nlme.errors import DataError
from nlme.selection.grammar import Candidate

_VARIANCE, _OCCASION = 0.1, 0.03


def first_values(population: Population) -> dict[str, float]:
    """Values of every parameter that a structure may have.

    Raises
    ------
    DataError
        No subject has a dose and positive observations after it.
    """
    rows = [row for s in population if (row := _of_subject(s)) is not None]
    if not rows:
        raise DataError("structure_search: no subject has a dose and positive observations after it.")
    volume, rate, _, middle = np.median(rows, axis=0)
    peaks = np.array(rows)[:, 2]
    peak = float(np.median(peaks[np.isfinite(peaks)])) if np.isfinite(peaks).any() else 0.1 / rate
    cl = volume * rate
    found = {"cl": cl, "v": volume, "q": cl, "v2": volume, "q3": 0.3 * cl, "v3": 3.0 * volume}
    found |= {"ka": 3.0 / peak, "duration": peak, "mtt": 0.5 * peak, "n": 2.0, "lag": 0.15 * peak}
    found |= {"km": middle, "vmax": 2.0 * cl * middle, "add": 0.1 * middle, "prop": 0.2}
    return {name: float(value) for name, value in found.items()}


def _of_subject(s) -> tuple[float, float, float, float] | None:
    """(volume, rate of elimination, time of the peak, median concentration); the peak is not known (NaN) where it is seen first."""
    doses = np.flatnonzero(s.is_dose & (s.amt > 0))
    seen = np.flatnonzero(s.is_observation & (s.dv > 0))
    if not len(doses):
        return None
    first = doses[0]
    later = s.time[doses[1]] if len(doses) > 1 else np.inf
    seen = seen[s.time[seen] > s.time[first]]
    if not len(seen):
        return None
    early = seen[s.time[seen] <= later] if np.any(s.time[seen] <= later) else seen
    top = early[np.argmax(s.dv[early])]
    peak = float(s.time[top] - s.time[first]) if top != early[0] else np.nan
    middle = float(np.median(s.dv[seen]))
    last = seen[-3:]
    slope = 0.0
    if len(last) > 1 and np.ptp(s.time[last]) > 0:
        slope = -float(np.polyfit(s.time[last], np.log(s.dv[last]), 1)[0])
    span = float(s.time[seen[-1]] - s.time[first])
    return float(s.amt[first] / s.dv[top]), slope if slope > 0 else 1.0 / span, peak, middle


def values_for(
    candidate: Candidate, first: Mapping[str, float], known: Mapping[str, float], whose: Candidate | None
) -> dict[str, float]:
    """Starting values of a candidate: those ``known`` of another structure (``whose`` they are), and for what it has not got some
    that leave the other's predictions about as they are."""
    found = dict(first) | {name: known[name] for name in (*candidate.individual, *candidate.errors) if name in known}
    if whose is not None and known:
        found |= {name: value for name, value in _bridges(candidate, found, known).items() if name not in known}
    for name in candidate.varying:
        found[f"omega.{name}"] = max(known.get(f"omega.{name}", _VARIANCE), 1e-3)
    for name in candidate.moving:
        found[f"occ.{name}_occ"] = max(known.get(f"occ.{name}_occ", _OCCASION), 1e-3)
    found["correlation"] = _correlation(candidate, known)
    return found


def _bridges(candidate: Candidate, values: Mapping[str, float], known: Mapping[str, float]) -> dict[str, float]:
    """What a parameter is begun at that the known structure has not got."""
    middle = values["km"]
    cl = known["cl"] if "cl" in known else known["vmax"] / (known["km"] + middle)
    found = {"cl": cl, "q": cl, "v2": 0.5 * values["v"], "q3": 0.3 * cl, "v3": values["v"]}
    found["vmax"] = (2.0 if candidate.elimination == "michaelis-menten" else 0.3) * cl * middle
    if "km" in known:
        del found["vmax"]
        found["cl"] *= 0.3 if candidate.elimination == "mixed" else 1.0
    time = known.get("mtt", known.get("duration", 1.0 / known["ka"] if "ka" in known else values["duration"]))
    found |= {"ka": 2.0 / time, "duration": 2.0 * time, "mtt": 0.5 * time, "lag": 0.1 * time}
    return found


def _correlation(candidate: Candidate, known: Mapping[str, float]) -> float:
    if not candidate.correlated:
        return 0.0
    name = candidate.varying[0]
    pair = known.get(f"omega.v,{name}", known.get(f"omega.{name},v"))
    if pair is None:
        return 0.1
    return float(np.clip(pair / np.sqrt(known[f"omega.{name}"] * known["omega.v"]), -0.95, 0.95))
