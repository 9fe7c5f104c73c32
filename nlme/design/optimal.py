"""``nlme.optimal_design``: sampling times within windows that make the information matrix's determinant largest.

    maximise  log det M(t) / P    over the times t of all samples,    low <= t <= high

from the design given and from random ones, by sequential quadratic programming with the exact derivative of the criterion
(``nlme.design.criterion``); then, if times are to be rounded, by exchange of one sample at a time on the grid.  What is reported is
computed anew from the model at the times found.

Sources: Atkinson, Donev & Tobias (2007), Optimum Experimental Designs, with SAS, ch. 11; Retout, Comets, Samson & Mentre (2007),
Stat Med 26:5162, doi:10.1002/sim.2910; Kraft (1988), DFVLR-FB 88-28 (SLSQP).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from scipy.optimize import minimize

from nlme.design.criterion import Criterion, criterion_of
from nlme.design.groups import Design, Group
from nlme.design.information import Information, information, model_in, require_form
from nlme.errors import DataError
from nlme.keys import key_of
from nlme.tables.numbers import fixed_point
from nlme.tables.shown import Panel, Shown

_UNITS = 30.0  # that the longest window has in a search
_MOST = 200  # iterations of one search
_ERROR = 2e-3  # of log det / P, above which it is said
_ALIKE = 1e-3  # of log det / P: starts that end within it found the same


@dataclass(frozen=True, eq=False, repr=False)
class OptimalDesign(Shown):
    """A design whose sampling times were searched for.  It prints them, with the standard errors to expect before and after.

    Attributes
    ----------
    design : the design found
    information : its information matrix
    initial : that of the design begun from
    rounding : D-efficiency of the rounded times relative to those found before; 1 without rounding
    criteria : log det M / P at the end of every start, the best first
    apart : the least time between two samples that was asked for
    error : of log det M / P by splines, at the design found
    """

    design: Design
    information: Information
    initial: Information
    rounding: float
    criteria: tuple[float, ...]
    apart: float
    error: float

    @property
    def efficiency(self) -> float:
        """D-efficiency of the design found relative to the one begun from: how many times as many subjects that would need."""
        return np.inf if np.isneginf(self.initial.log_det) else self.information.efficiency(self.initial)

    @property
    def messages(self) -> tuple[str, ...]:
        """What to know before the design is used."""
        said = list(self.information.messages)
        for group in self.design.groups:
            for name, times in group.times.items():
                close = [t for t, gap in zip(times, np.diff(times), strict=False) if gap < 1e-3 * max(times[-1], 1e-12)]
                if close and not self.apart:
                    where = ", ".join(dict.fromkeys(f"{t:.4g}" for t in close))
                    said.append(
                        f"Group {group.name}{f', {name}' if name else ''}: samples coincide at {where}; apart= keeps them apart."
                    )
        if self.error > _ERROR:
            said.append(
                f"The splines of the search were off by {100 * np.expm1(self.error):.1f} % at the design found (a lag or another "
                "sudden change within the windows): its times are near the optimum only, its errors are right."
            )
        found = sum(c >= self.criteria[0] - _ALIKE for c in self.criteria)
        if found == 1 and len(self.criteria) > 1:
            said.append(
                f"Only one of {len(self.criteria)} starts ended at the best design: try more, starts={2 * len(self.criteria)}."
            )
        return tuple(said)

    def _panels(self) -> list[Panel]:
        header = ["Group", "Subjects", "Samples", "Times"]
        rows = [
            [group.name, str(group.size), name or "all", ", ".join(f"{t:.4g}" for t in times)]
            for group in self.design.groups
            for name, times in group.times.items()
        ]
        notes = [f"D-efficiency relative to the design begun from: {self.efficiency:.3f}."]
        if self.rounding != 1.0:
            notes.append(f"Rounding leaves {100 * self.rounding:.1f} % of the efficiency of the times found.")
        first = Panel("Optimal design", header, rows, [*notes, *self.messages], left=(0, 2, 3))
        errors = [
            [name, fixed_point(before), fixed_point(after)]
            for name, before, after in zip(self.information.names, self.initial.rse, self.information.rse, strict=True)
        ]
        words = f"Expected RSE %, {self.information.form} information matrix, {self.information.linearisation} linearisation"
        return [first, Panel(words, ["Parameter", "Begun from", "Found"], errors)]

    def _exact(self):
        import pandas as pd

        rows = [
            (group.name, group.size, name, t)
            for group in self.design.groups
            for name, times in group.times.items()
            for t in times
        ]
        return pd.DataFrame(rows, columns=["group", "size", "endpoint", "time"]).set_index("group")


def optimal_design(
    model: Any,
    design: Design | Group,
    windows: Any,
    *,
    apart: float = 0.0,
    round_to: float | Sequence[float] | None = None,
    starts: int = 8,
    key: Any = 1,
    form: str = "reduced",
    linearisation: str = "FO",
    fixed: Iterable[str] = (),
    draws: int = 20,
) -> OptimalDesign:
    """Sampling times within windows from which the parameters are known best (D-optimal).

    Parameters
    ----------
    model : a model with the values expected, or a fit
    design : the design to begin from: its groups, doses, numbers of subjects and of samples stay
    windows
        ``(0.5, 120)`` for every sample, a list of one pair for each sample, or a dict of these by group (by endpoint within it, or
        by endpoint alone); groups and endpoints that it leaves out keep their times
    apart : least time between two samples of one endpoint
    round_to : times are multiples of this, or one of these times
    starts : searches; the first begins from the design, the others from random times
    key : seed or ``jax.random.key`` of the random times (and of the draws of FOCE)
    form, linearisation, fixed, draws : as in :func:`nlme.information`

    Raises
    ------
    DataError
        Windows that are no windows, hold no time to round to, or are too narrow for samples so far apart.
    ModelError
        As in :func:`nlme.information`; a window in which a prediction has no distribution.
    """
    require_form(form)
    design = Design([design]) if isinstance(design, Group) else design
    if not isinstance(design, Design):
        raise DataError(f"optimal_design(model, design, windows): a Design or a Group; got {type(design).__name__}.")
    bounds = _bounds(design, windows)
    key = key_of(key)
    options = dict(form=form, linearisation=linearisation, fixed=fixed, draws=draws, key=key)
    feasible = _Feasible(design, bounds, apart, round_to)
    initial = information(model, design, **options)
    scale = np.sqrt(np.diagonal(initial.values))
    scale = np.where(scale > 0, scale, 1.0)
    criterion = criterion_of(model_in(model), design, feasible.spans, initial.asked, form, scale)
    ends = [_search(criterion, feasible, begin) for begin in feasible.begins(starts, key)]
    ends.sort(key=lambda end: -end[0])
    found = ends[0][1]
    chosen = feasible.rounded(criterion, found)
    result = design.with_times(feasible.by_group(chosen))
    last = information(model, result, **options)
    share = 1.0 if round_to is None else float(np.exp(criterion.value(chosen) - criterion.value(found)))
    error = (
        abs((last.log_det - 2 * np.log(scale).sum()) / len(scale) - criterion.value(chosen)) if np.isfinite(last.log_det) else 0.0
    )
    return OptimalDesign(result, last, initial, share, tuple(value for value, _ in ends), apart, float(error))


def _search(criterion: Criterion, feasible: _Feasible, begin: np.ndarray) -> tuple[float, np.ndarray]:
    unit = feasible.unit  # the search's first step is its gradient: in seconds it would be none at all

    def worse(x):
        value, slope = criterion.value_and_slope(unit * x)
        return -value, -unit * slope

    found = minimize(
        worse, begin / unit, jac=True, method="SLSQP", bounds=[(a / unit, b / unit) for a, b in feasible.bounds],
        constraints=feasible.constraints, options={"maxiter": _MOST, "ftol": 1e-9},
    )  # fmt: skip
    times = feasible.clipped(unit * found.x)
    return criterion.value(times), times


def _bounds(design: Design, windows: Any) -> list[tuple[float, float]]:
    """A window for every sample, group by group, endpoint by endpoint."""
    windows = _by_text(windows)
    names = {group.name for group in design.groups} | {name for group in design.groups for name in group.times}
    for key in _keys(windows):
        if key not in names:
            raise DataError(f"windows=: no group or endpoint {key!r}; the design has {', '.join(sorted(n for n in names if n))}.")
    out = []
    for group in design.groups:
        for name, times in group.times.items():
            found = windows
            for part in (group.name, name):
                if isinstance(found, Mapping):
                    found = found.get(part, found if part == group.name else None)
            out += (
                [(t, t) for t in times] if found is None or isinstance(found, Mapping) else _pairs(found, len(times), group.name)
            )
    return out


def _by_text(windows: Any) -> Any:
    """Names as text: a group without a name is called "1"."""
    if not isinstance(windows, Mapping):
        return windows
    return {str(name): _by_text(inner) for name, inner in windows.items()}


def _keys(windows: Any) -> list:
    if not isinstance(windows, Mapping):
        return []
    return [key for name, inner in windows.items() for key in [name, *_keys(inner)]]


def _pairs(given: Any, count: int, who: str) -> list[tuple[float, float]]:
    try:
        pairs = np.asarray(given, dtype=float)
    except (TypeError, ValueError):
        pairs = np.zeros(0)
    if pairs.shape == (2,):
        pairs = np.tile(pairs, (count, 1))
    if pairs.shape != (count, 2) or not np.all(np.isfinite(pairs)) or np.any(pairs[:, 0] > pairs[:, 1]) or np.any(pairs < 0):
        raise DataError(
            f"windows=: group {who} needs (from, to), or one such pair for each of its {count} samples; got {given!r}."
        )
    return [(float(a), float(b)) for a, b in pairs]


class _Feasible:
    """The times that a design may have."""

    def __init__(self, design: Design, bounds: list[tuple[float, float]], apart: float, round_to: Any):
        if isinstance(apart, bool) or not isinstance(apart, (int, float)) or not 0 <= apart < np.inf:
            raise DataError(f"apart: a time of 0 or more, got {apart!r}.")
        self.design, self.bounds, self.apart = design, bounds, float(apart)
        self.low, self.high = np.array(bounds).T
        counts = [len(times) for group in design.groups for times in group.times.values()]
        self.edges = np.r_[0, np.cumsum(counts)]
        self.spans = []
        blocks = iter(self.blocks)
        for group in design.groups:
            own = [next(blocks) for _ in group.times]
            self.spans.append({e: (self.low[s].min(), self.high[s].max()) for e, s in zip(group.times, own, strict=True)})
        self.allowed = None if round_to is None else [self._grid(a, b, round_to) for a, b in bounds]
        for block in self.blocks:
            earliest = self._earliest(block)
            if np.any(earliest > self.high[block] + 1e-9 * self.unit):
                raise DataError(f"windows=: too narrow for {len(earliest)} samples that are {apart:g} apart.")

    @property
    def unit(self) -> float:
        """Of the times in a search: a share of the longest window, whatever the data count in."""
        longest = float(np.max(self.high - self.low))
        return longest / _UNITS if longest > 0 else 1.0

    @property
    def blocks(self) -> list[slice]:
        """The samples of each group and endpoint."""
        return [slice(a, b) for a, b in zip(self.edges[:-1], self.edges[1:], strict=True)]

    @property
    def constraints(self) -> list[dict]:
        """Linear constraints that keep neighbours apart, in the ``unit`` of the search."""
        if not self.apart:
            return []
        pairs = [(k, k + 1) for block in self.blocks for k in range(block.start, block.stop - 1)]
        matrix = np.zeros((len(pairs), len(self.low)))
        for row, (a, b) in enumerate(pairs):
            matrix[row, a], matrix[row, b] = -1.0, 1.0
        return [{"type": "ineq", "fun": lambda x: matrix @ x - self.apart / self.unit, "jac": lambda x: matrix}] if pairs else []

    def _grid(self, low: float, high: float, round_to: Any) -> np.ndarray:
        if np.ndim(round_to) == 0:
            step = float(round_to)
            if not step > 0:
                raise DataError(f"round_to: a step above 0, or a list of times; got {round_to!r}.")
            found = step * np.arange(np.ceil(low / step - 1e-9), np.floor(high / step + 1e-9) + 1) + 0.0  # no -0
        else:
            found = np.unique(np.asarray(round_to, dtype=float))
            found = found[(found >= low) & (found <= high)]
        if low == high:
            return np.array([low])
        if not len(found):
            raise DataError(f"round_to={round_to!r}: no such time in the window from {low:g} to {high:g}.")
        return found

    def _earliest(self, block: slice) -> np.ndarray:
        """The earliest times that the samples can have one after another."""
        found, last = [], -np.inf
        for low in self.low[block]:
            last = max(low, last + self.apart)
            found.append(last)
        return np.array(found)

    def clipped(self, t: np.ndarray) -> np.ndarray:
        """Times within their windows and apart, as near as they come in turn."""
        t = np.clip(t, self.low, self.high)
        for block in self.blocks:
            for k in range(block.start + 1, block.stop):
                t[k] = min(max(t[k], t[k - 1] + self.apart) if self.apart else t[k], self.high[k])
            for k in range(block.stop - 2, block.start - 1, -1):
                t[k] = max(min(t[k], t[k + 1] - self.apart) if self.apart else t[k], self.low[k])
        return t

    def begins(self, starts: int, key) -> list[np.ndarray]:
        """The design's own times, then random ones: half of them evenly, half crowding towards early times."""
        if isinstance(starts, bool) or not isinstance(starts, int) or starts < 1:
            raise DataError(f"starts: how many searches, 1 or more; got {starts!r}.")
        given = np.concatenate([times for group in self.design.groups for times in group.times.values()])
        out = [self.clipped(given)]
        for k in range(1, starts):
            share = np.asarray(jax.random.uniform(jax.random.fold_in(key, k), (len(self.low),)))
            drawn = self.low + (self.high - self.low) * share ** (1 if k % 2 else 3)
            for block in self.blocks:
                alike = len(np.unique(self.low[block])) == len(np.unique(self.high[block])) == 1
                drawn[block] = np.sort(drawn[block]) if alike else drawn[block]
            out.append(self.clipped(drawn))
        return out

    def by_group(self, times: np.ndarray) -> list[dict[str, list[float]]]:
        """The times of each group by endpoint."""
        blocks = iter(self.blocks)
        return [{name: sorted(times[next(blocks)].tolist()) for name in group.times} for group in self.design.groups]

    def rounded(self, criterion: Criterion, times: np.ndarray) -> np.ndarray:
        """The nearest allowed times, exchanged one at a time for neighbours while that gains."""
        if self.allowed is None:
            return times
        place = np.array([int(np.argmin(np.abs(grid - t))) for grid, t in zip(self.allowed, times, strict=True)])
        if self.apart and (place := self._spread(place)) is None:
            raise DataError(f"round_to: no times of the grid are {self.apart:g} apart near the optimum; allow a finer grid.")
        value = criterion.value(self._at(place))
        gained = True
        while gained:
            gained = False
            for k in range(len(place)):
                for step in (-2, -1, 1, 2):
                    other = place.copy()
                    other[k] += step
                    if not 0 <= other[k] < len(self.allowed[k]) or not self._apart(self._at(other)):
                        continue
                    found = criterion.value(self._at(other))
                    if found > value + 1e-10:
                        place, value, gained = other, found, True
        return self._at(place)

    def _at(self, place: np.ndarray) -> np.ndarray:
        return np.array([grid[k] for grid, k in zip(self.allowed, place, strict=True)])

    def _apart(self, times: np.ndarray) -> bool:
        return all(np.all(np.diff(np.sort(times[block])) >= self.apart - 1e-9 * self.unit) for block in self.blocks)

    def _spread(self, place: np.ndarray) -> np.ndarray | None:
        """Places from which neighbours are apart, later ones moved on; None if the grid does not have them."""
        place = place.copy()
        for block in self.blocks:
            for k in range(block.start + 1, block.stop):
                while self.allowed[k][place[k]] < self.allowed[k - 1][place[k - 1]] + self.apart - 1e-9:
                    place[k] += 1
                    if place[k] == len(self.allowed[k]):
                        return None
        return place
