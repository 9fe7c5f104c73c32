"""The terminal slope: a straight line through the logarithms of the last concentrations.

    log c = intercept - lambda_z t,      adjusted R2 = 1 - (1 - R2) (n - 1) / (n - 2)

By itself it takes the last n >= 3 measured points after Cmax with the largest adjusted R2; where a larger n comes within 1e-4 of the
largest, that (Phoenix WinNonlin's "best fit").  After an intravenous bolus Cmax itself may be among them, after an infusion only
points after its end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from nlme.errors import DataError

LEAST = 3  # points of a line
_AS_GOOD = 1e-4  # of adjusted R2


@dataclass(frozen=True)
class Line:
    """A terminal line; ``used`` marks its points among the samples, times are counted from the dose."""

    lambda_z: float
    intercept: float
    r2: float
    used: Bool[np.ndarray, " n"]
    lower: float
    upper: float

    @property
    def points(self) -> int:
        return int(self.used.sum())

    @property
    def adjusted(self) -> float:
        """Adjusted R2."""
        return 1.0 - (1.0 - self.r2) * (self.points - 1) / (self.points - 2)

    @property
    def half_life(self) -> float:
        return float(np.log(2.0) / self.lambda_z)

    def at(self, time) -> Any:
        """The line's concentration at a time after the dose."""
        return np.exp(self.intercept - self.lambda_z * np.asarray(time))


def line_through(time: Float[np.ndarray, " n"], conc: Float[np.ndarray, " n"], used: Bool[np.ndarray, " n"]) -> Line:
    """The least-squares line of log concentration through the marked points."""
    x, y = time[used], np.log(conc[used])
    dx, dy = x - x.mean(), y - y.mean()
    slope = float(dx @ dy / (dx @ dx))
    spread = float(dy @ dy)
    r2 = slope**2 * float(dx @ dx) / spread if spread > 0 else 0.0
    return Line(-slope, float(y.mean() - slope * x.mean()), min(r2, 1.0), used, float(x.min()), float(x.max()))


def best_line(time, conc, allowed: Bool[np.ndarray, " n"]) -> Line | str:
    """The best line through the last allowed points, or why there is none."""
    places = np.flatnonzero(allowed)
    if len(places) < LEAST:
        return f"{_counted(len(places))} after Cmax, and a line needs {LEAST}"
    lines = []
    for n in range(LEAST, len(places) + 1):
        used = np.zeros(len(time), dtype=bool)
        used[places[-n:]] = True
        lines.append(line_through(time, conc, used))
    falling = [line for line in lines if line.lambda_z > 0]
    if not falling:
        return "the concentrations after Cmax do not fall"
    best = max(line.adjusted for line in falling)
    return max((line for line in falling if line.adjusted >= best - _AS_GOOD), key=lambda line: line.points)


def asked_line(time, conc, measured: Bool[np.ndarray, " n"], asked: Sequence[float], who: str) -> Line | str:
    """The line through points that the user names: ``(from, to)`` or the times of at least three samples.

    Raises
    ------
    DataError
        A time at which there is no measured concentration.
    """
    if len(asked) == 2:
        used = measured & (time >= asked[0] - _same(asked[0])) & (time <= asked[1] + _same(asked[1]))
        if used.sum() < LEAST:
            return f"{_counted(int(used.sum()))} from {asked[0]:g} to {asked[1]:g}, and a line needs {LEAST}"
    else:
        used = np.zeros(len(time), dtype=bool)
        for at in asked:
            found = measured & (np.abs(time - at) <= _same(at))
            if not found.any():
                shown = ", ".join(f"{t:g}" for t in time[measured])
                raise DataError(
                    f"lambda_z: {who} has no measured concentration {at:g} after the dose; it has: {shown or 'none'}."
                )
            used |= found
    line = line_through(time, conc, used)
    return line if line.lambda_z > 0 else "the concentrations of the points asked for do not fall"


def asked_by_profile(lambda_z: Any, ids: Sequence) -> Mapping[Any, tuple[float, ...]]:
    """What the user asks for, by ID, by (ID, dose), or for all (None).

    Raises
    ------
    DataError
        An ID that is not there, or points that are neither a range nor at least three times.
    """
    if lambda_z is None:
        return {}
    given = lambda_z if isinstance(lambda_z, Mapping) else {None: lambda_z}
    known, found = {str(i): i for i in ids}, {}
    for key, points in given.items():
        who = key[0] if isinstance(key, tuple) else key
        if who is not None and str(who) not in known:
            raise DataError(f"lambda_z: no subject {who!r}; the population has: {', '.join(map(str, ids[:20]))}.")
        try:
            values = tuple(float(t) for t in points)
        except (TypeError, ValueError):
            values = ()
        if len(values) < 2 or not np.all(np.isfinite(values)) or (len(values) == 2 and values[0] >= values[1]):
            raise DataError(
                f"lambda_z: {'all subjects' if who is None else f'subject {who}'}: say (from, to), or the times of {LEAST} or more "
                f"samples, in time after the dose; got {points!r}."
            )
        name = None if who is None else str(who)
        found[(name, int(key[1])) if isinstance(key, tuple) else name] = values
    return found


def _same(time: float) -> float:
    return 1e-9 * max(1.0, abs(time))


def _counted(n: int) -> str:
    return f"{n} measured point{'' if n == 1 else 's'}"
