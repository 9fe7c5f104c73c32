"""Numerical predictive checks: how many observations lie outside of prediction intervals, and how many should.

The interval of level c of an observation is that between the (1 - c)/2 and (1 + c)/2 quantiles of its simulated values.
The share of the observations below and above it, and the interval of that share, come from the replicates, each taken for the
data in its turn.
Source: the NPC of PsN (Lindbom, Pihlgren & Jonsson 2005, doi:10.1016/j.cmpb.2005.04.005).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from nlme.diagnostics.percentiles import percentiles
from nlme.diagnostics.replicated import replicated
from nlme.errors import DataError
from nlme.parameters.domains import is_numeric, is_probability
from nlme.tables.numbers import fixed_point
from nlme.tables.shown import Panel, Shown

if TYPE_CHECKING:
    import pandas as pd

LEVELS = (0, 20, 40, 50, 60, 80, 90, 95)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class NPC(Shown):
    """A numerical predictive check.

    Attributes
    ----------
    table : DataFrame by prediction interval (%, index): % of the observations BELOW and ABOVE it, each with the % EXPECTED and
        the interval LOWER to UPPER of it
    endpoint, n, replicates, level : what was checked, observations, replicates, level of the intervals of the percentages
    messages : of the simulation, in words
    """

    table: pd.DataFrame
    endpoint: str
    n: int
    replicates: int
    level: float
    messages: tuple[str, ...] = ()

    @property
    def outside(self) -> list[str]:
        """Sentences for the percentages outside of their intervals."""
        return [
            f"{row[side]:.1f} % of the observations lie {side.lower()} their {interval:g} % prediction interval; expected "
            f"{row[f'{side} EXPECTED']:.1f} ({row[f'{side} LOWER']:.1f} to {row[f'{side} UPPER']:.1f})."
            for interval, row in self.table.iterrows()
            for side in ("BELOW", "ABOVE")
            if not row[f"{side} LOWER"] <= row[side] <= row[f"{side} UPPER"]
        ]

    def plot(self, **options):
        """The picture of :func:`nlme.plots.npc`."""
        from nlme.plots.predictive import npc

        return npc(self, **options)

    def _panels(self):
        title = f"Numerical predictive check of {self.endpoint}, {self.replicates} replicates (% of {self.n} observations)"
        rows = [
            [f"{level:g} %", *(fixed_point(v, 1) for v in row)]
            for level, row in zip(self.table.index, self.table.to_numpy(), strict=True)
        ]
        notes = self.outside or (f"Every percentage lies within its {100 * self.level:g} % interval.",)
        return [Panel(title, ["Interval", *self.table.columns], rows, (*notes, *self.messages))]

    def _exact(self):
        return self.table


def npc(
    model,
    population=None,
    *,
    key=None,
    replicates: int = 1000,
    endpoint: str | None = None,
    intervals: Sequence[float] = LEVELS,
    level: float = 0.95,
    lloq=None,
    uloq=None,
    simulations=None,
    uncertainty=None,
    ode=None,
) -> NPC:
    """Coverage of prediction intervals: observed, expected, and the interval of what is expected.

    Parameters
    ----------
    model, population, key, replicates, endpoint, simulations, uncertainty, ode : as in :func:`nlme.npde`
    intervals : prediction intervals in %; 0 is the median
    level : of the intervals of the percentages
    lloq, uloq : limits of quantification; values beyond them, observed and simulated, rank below (above) all others

    Raises
    ------
    DataError
        No key, intervals that are no percentages, a level outside of 0 to 1.
    ModelError
        The endpoint is not continuous.
    """
    import pandas as pd

    asked = np.asarray(intervals, dtype=float).ravel() if is_numeric(intervals) else np.empty(0)
    if not len(asked) or not ((asked >= 0) & (asked < 100)).all():
        raise DataError(f"intervals={intervals!r}: they are percentages from 0 to below 100, such as (50, 80, 95).")
    if not is_probability(level):
        raise DataError(f"level={level!r}: it is between 0 and 1, such as 0.95.")
    options = dict(
        key=key, replicates=replicates, lloq=lloq, uloq=uloq, simulations=simulations, uncertainty=uncertainty, ode=ode
    )
    checked = replicated("npc", model, population, endpoint, **options)
    observed, drawn = checked.observed, checked.drawn
    rows = []
    for interval in asked / 100.0:
        low, high = percentiles(drawn.T, np.array([0.5 - interval / 2, 0.5 + interval / 2]))
        row = {}
        for side, seen, made in (("BELOW", observed < low, drawn < low), ("ABOVE", observed > high, drawn > high)):
            shares = 100.0 * made.mean(axis=1)
            lower, upper = np.quantile(shares, [0.5 - level / 2, 0.5 + level / 2])
            row |= {side: 100.0 * seen.mean(), f"{side} EXPECTED": shares.mean(), f"{side} LOWER": lower, f"{side} UPPER": upper}
        rows.append(row)
    table = pd.DataFrame(rows, index=pd.Index(asked, name="INTERVAL"))
    return NPC(table, checked.endpoint, len(observed), len(drawn), level, checked.messages)
