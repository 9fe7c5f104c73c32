"""Profile likelihood: what the objective becomes when one parameter is held and all others are fitted again.

    d(p) = min OFV given p  -  OFV at the estimate,        interval { p : d(p) <= c },  c the chi-square quantile (3.84 for 95 %)

The signed root r(p) = sign(p - p^) sqrt(d(p)) is nearly linear in p, so each end r = +-sqrt(c) is found by secant steps in r from
the standard error on.  The points of all parameters and both ends are fitted in one batch, with the held values fixed.

Source: Venzon & Moolgavkar (1988), J R Stat Soc C 37:87, doi:10.2307/2347496.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from nlme.errors import FitError, name_error
from nlme.fitting.result import Fit, require_fit
from nlme.parameters.domains import is_probability
from nlme.search.batch import lanes_of, refuse_sites, run_fits
from nlme.search.checkpoint import Checkpoint, folder_of, onwards
from nlme.search.quasi_newton import SEARCHING
from nlme.tables.shown import Panel, Shown, numbers_shown
from nlme.uncertainty.coordinates import covariance_of_search

_ROUNDS = 12
_CLOSE = 1e-3  # of d at an end
_FARTHEST = 40.0  # from the estimate, in unconstrained (log-like) parameters; of a real one, in its error if that is more
_FIRST = 2.0  # largest first step, and
_OTHERS = 1.0  # largest move of the others with it, in the same unit; a real parameter has none


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Profile(Shown):
    """Profile likelihood intervals; ``nlme.table(fit, intervals=profile)`` has them in the parameter table.

    Attributes
    ----------
    fit : the fit profiled
    level : of the intervals
    points : DataFrame, one row per refit: parameter, value, increase of the objective, converged, message, the other estimates
    intervals : DataFrame by parameter: estimate, lower, upper (-inf, inf or the domain's end where the data set no limit)
    messages : what could not be found or is strange, in words
    """

    fit: Fit
    level: float
    points: object
    intervals: object
    messages: list[str]

    def interval(self, level: float = 0.95):
        """DataFrame by parameter with columns lower and upper.

        Raises
        ------
        FitError
            Another level than that of the profile.
        """
        if level != self.level:
            has = f"The profile has {100 * self.level:g} % intervals"
            raise FitError(f"{has}; for {100 * level:g} % profile again with level={level!r}.")
        return self.intervals[["lower", "upper"]]

    @property
    def words(self) -> str:
        """What the intervals are."""
        from scipy.stats import chi2

        return f"profile likelihood, where the objective has risen by {chi2.ppf(self.level, 1):.3g}"

    def _exact(self):
        return self.intervals.rename_axis("parameter")

    def _panels(self) -> list[Panel]:
        title = f"{type(self.fit.model).__name__}, {self.fit.method!r}: profile likelihood"
        return [numbers_shown(self.intervals, title, [f"{100 * self.level:g} % interval: {self.words}.", *self.messages])]

    def __repr__(self) -> str:
        lines = [f"Profile likelihood of {type(self.fit.model).__name__}, {self.fit.method!r}: {100 * self.level:g} % intervals"]
        lines += [f"  ! {message}" for message in self.messages]
        return "\n".join([*lines, self.intervals.to_string(float_format=lambda x: f"{x:.5g}")])


class _End:
    """The search for one end of one interval on the line of the search."""

    def __init__(self, index: int, side: int, centre: float, step: float, farthest: float):
        self.index, self.side, self.centre, self.step, self.farthest = index, side, centre, step, farthest
        self.offsets, self.roots, self.increases = [0.0], [0.0], [0.0]  # offset >= 0 in the direction of ``side``
        self.trial: float | None = step
        self.sentence, self.unlimited, self.interrupted = "", False, False

    def absorb(self, increase: float, converged: bool, target: float) -> None:
        if not converged:
            # nearer to what is known to work
            last = self.offsets[-1]
            self.trial = 0.5 * (last + self.trial)
            if self.trial - last < 1e-6 * max(self.step, last):
                self.trial, self.sentence = None, "the refits beyond did not converge"
            return
        self.offsets.append(self.trial)
        self.increases.append(increase)
        self.roots.append(np.sqrt(max(increase, 0.0)))
        if abs(increase - target) < _CLOSE:
            self.trial = None
            return
        order = np.argsort(self.offsets)
        x, r = np.array(self.offsets)[order], np.array(self.roots)[order]
        above = np.flatnonzero(r > np.sqrt(target))
        if len(above):  # bracketed: linear in r, kept away from the ends
            k = int(above[0])
            share = (np.sqrt(target) - r[k - 1]) / (r[k] - r[k - 1])
            self.trial = x[k - 1] + float(np.clip(share, 0.02, 0.98)) * (x[k] - x[k - 1])
        else:
            slope = (r[-1] - r[-2]) / (x[-1] - x[-2])
            wanted = x[-1] + (np.sqrt(target) - r[-1]) / slope if slope > 0 else np.inf
            self.trial = float(min(wanted, 3.0 * x[-1]))
            if self.trial > self.farthest:
                self.trial, self.unlimited = None, True
                self.sentence = f"the objective rises by no more than {max(self.increases):.3g}, however far it goes"

    def found(self, target: float) -> float | None:
        """Offset of the end, or None."""
        if self.interrupted:
            return None
        best = int(np.argmin(np.abs(np.array(self.increases) - target)))
        return self.offsets[best] if abs(self.increases[best] - target) < 0.02 else None


def profile(
    fit: Fit,
    parameters: Iterable[str] | str | None = None,
    *,
    level: float = 0.95,
    penalty=None,
    tolerance: float = 1e-8,
    max_evaluations: int = 300,
    progress: bool | None = None,
    checkpoint: str | os.PathLike | None = None,
    executor: Any = None,
) -> Profile:
    """Profile likelihood intervals of a fit's parameters.

    Parameters
    ----------
    fit : a converged fit
    parameters : names; by default all estimated ones but covariances and network weights
    level : of the intervals
    penalty, tolerance, max_evaluations, progress : as in :func:`nlme.fit`, for every refit
    checkpoint : folder in which every round of refits is kept; where it exists the profile goes on from it
    executor : who does the refits, as of :func:`nlme.bootstrap`

    Interrupting (Ctrl-C) returns the limits found so far, and says which were not; before any refit has converged it goes through.

    Raises
    ------
    FitError
        No parameter, an unknown, fixed or correlated-block one, a level outside 0 to 1, a penalised fit without its penalty, a checkpoint that is
        none.
    """
    require_fit(fit, "profile")
    from scipy.stats import chi2

    if not is_probability(level):
        raise FitError(f"level is a probability between 0 and 1, for example 0.95; got {level!r}.")
    refuse_sites(fit.layout.anatomy)
    problem = fit.problem(penalty)
    names, target = list(fit.inventory.names), float(chi2.ppf(level, 1))
    chosen = _chosen(fit, parameters)
    covariance = covariance_of_search(fit)
    centre = np.asarray(fit.inventory.unconstrained(fit.model))
    spread = np.sqrt(np.diagonal(covariance))
    # the unit of a real parameter is the size of its value, which may be nothing beside its error
    real = fit.inventory.linear
    first = np.where(real, 1.96 * spread, np.minimum(1.96 * spread, _FIRST))
    first[spread == 0] = _FIRST  # at a bound
    farthest = np.where(real, _FARTHEST * np.maximum(1.0, spread), _FARTHEST)
    others = np.where(real, np.inf, _OTHERS)
    ends = [_End(k, side, centre[k], first[k], farthest[k]) for k in chosen for side in (-1, 1)]
    lanes = lanes_of(problem, len(ends))  # of every round, so that their program is one
    rows: list[dict] = []
    folder, interrupted = _folder_at(level, checkpoint), False
    for count in range(_ROUNDS):
        active = [end for end in ends if end.trial is not None]
        if not active:
            break
        u = np.repeat(centre[None], len(active), axis=0)
        free = np.ones(u.shape, bool)
        for r, end in enumerate(active):
            k, move = end.index, end.side * end.trial
            # where the others are expected if the objective is a parabola
            along = covariance[k] / covariance[k, k] * move if spread[k] > 0 else np.zeros(len(centre))
            u[r] += np.clip(along, -others, others)
            u[r, k] = centre[k] + move
            free[r, k] = False
        try:
            found = run_fits(
                problem, u, starts=fit.near_modes, free=free, tolerance=tolerance, max_evaluations=max_evaluations, progress=progress,
                title=f"profile of {type(fit.model).__name__}", executor=executor, lanes=lanes,
                checkpoint=None if folder is None else folder / f"round_{count + 1:02d}.npz",
            )  # fmt: skip
        except KeyboardInterrupt:  # before a refit of this round had ended
            interrupted = True
            break
        increases = found.objective - fit.objective - fit.penalty
        for r, end in enumerate(active):
            if found.status[r] == SEARCHING:  # says nothing of its end of the interval
                continue
            good = bool(found.converged[r])
            rows.append(
                {"parameter": names[end.index], "value": found.natural[r, end.index], "increase": increases[r], "converged": good}
                | {"message": "" if good else found.sentence(r)}
                | dict(zip(names, found.natural[r], strict=True))
            )
            end.absorb(float(increases[r]), good, target)
        interrupted = found.interrupted
        if interrupted:
            break
    if interrupted:
        if not any(row["converged"] for row in rows):
            raise KeyboardInterrupt
        for end in ends:
            end.interrupted = end.trial is not None
    return _assembled(fit, level, target, ends, rows, folder=folder)


def _folder_at(level: float, checkpoint: str | os.PathLike | None) -> Path | None:
    """The folder of the rounds, which differ from the second on where the level does.

    Raises
    ------
    FitError
        It is that of a profile at another level.
    """
    folder = folder_of(checkpoint)
    if folder is None:
        return None
    file = Checkpoint(folder / "level.npz", "level of a profile", 0.0)
    saved = file.read()
    if saved is None:
        file.write({"level": np.asarray(level)})
    elif float(saved["level"]) != level:
        raise FitError(
            f"checkpoint={str(checkpoint)!r} is that of a profile with level={float(saved['level'])!r}; this one has level={level!r}. "
            "Name another folder, or delete it."
        )
    return folder


def _chosen(fit: Fit, parameters) -> list[int]:
    names, kinds = list(fit.inventory.names), fit.inventory.kinds
    if parameters is None:
        parameters = [name for name, kind in zip(names, kinds, strict=True) if kind not in ("covariance", "weight")]
    wanted = [parameters] if isinstance(parameters, str) else list(parameters) if np.iterable(parameters) else [parameters]
    if not wanted:
        raise FitError(
            "profile: there is no parameter to profile; name some that this fit estimated, no covariance or weight of a network."
        )
    for name in wanted:
        if name in fit.inventory.fixed:
            raise FitError(f"profile: {name} is fixed in this fit, so it has no profile.")
        if name not in names:
            raise FitError("profile: " + name_error("parameter", str(name), names))
        if kinds[names.index(name)] == "covariance":
            raise FitError(
                f"profile: {name} cannot be held while its correlated block is fitted again. Profile the variances, or bootstrap."
            )
    return [names.index(name) for name in wanted]


def _assembled(fit: Fit, level: float, target: float, ends: list[_End], rows: list[dict], *, folder: Path | None) -> Profile:
    import pandas as pd

    names = list(fit.inventory.names)
    estimate = np.asarray(fit.inventory.natural(fit.model))
    points = pd.DataFrame(rows)
    messages = []
    lowest = points.loc[points["converged"], "increase"].min()
    if lowest < -0.01:
        best = points.loc[points["increase"].where(points["converged"]).idxmin()]
        messages.append(
            f"With {best['parameter']} held at {best['value']:.4g} the objective is {-lowest:.3f} lower than the fit's: the fit "
            f"is not at its minimum. Fit again from there before believing these intervals."
        )
    if left := [f"{names[end.index]} ({'lower' if end.side < 0 else 'upper'})" for end in ends if end.interrupted]:
        messages.append(
            f"The profile was interrupted (Ctrl-C) before these limits were found: {', '.join(left)}.{onwards(folder)}"
        )
    table = {}
    domains = {name: entry.declaration.domain for entry in fit.inventory.entries for name in entry.names}
    for end in ends:
        name = names[end.index]
        offset = end.found(target)
        row = table.setdefault(name, {"estimate": estimate[end.index]})
        column = "lower" if end.side < 0 else "upper"
        if offset is None:
            lower, upper = (0.0, np.inf) if domains[name].name == "covariance" else (domains[name].lower, domains[name].upper)
            row[column] = (lower if end.side < 0 else upper) if end.unlimited else np.nan
            if end.interrupted:
                continue
            why = end.sentence or f"not found in {_ROUNDS} rounds"
            messages.append(f"{name} has no {column} limit at {100 * level:g} %: {why}.")
            continue
        own = points[(points["parameter"] == name) & points["converged"]]
        row[column] = _value_at(fit, end, offset, own)
    intervals = pd.DataFrame(table).T[["estimate", "lower", "upper"]]
    return Profile(fit, level, points.sort_values(["parameter", "value"], ignore_index=True), intervals, messages)


def _value_at(fit: Fit, end: _End, offset: float, own) -> float:
    """Natural value of the held parameter at an offset that was fitted."""
    u = np.asarray(fit.inventory.unconstrained(fit.model)).copy()
    u[end.index] = end.centre + end.side * offset
    return float(np.asarray(fit.inventory.natural(fit.inventory.at_unconstrained(fit.model, u)))[end.index])
