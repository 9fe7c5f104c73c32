"""Several models side by side: one row per parameter, one column per fit, and what decides between them above."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pandas as pd

from nlme.errors import FitError
from nlme.fitting.names import named_fits
from nlme.reporting.criteria import criterion
from nlme.tables.numbers import MISSING, alike, fixed_point, significant
from nlme.tables.shown import Panel, Shown

QUANTITIES = ("estimate", "fixed", "se", "rse_percent", "lower", "upper")


def side_by_side(fits: Mapping[str, Any] | Iterable[Any], intervals: Any, level: float, table_of: Callable) -> ModelTable:
    """The parameter tables of several fits as one; ``table_of`` (a fit, its intervals) makes each.

    ``intervals`` is one word for all, or a dict from fit to its intervals.

    Raises
    ------
    FitError
        No fits, something that is no fit, or intervals of a fit that is not among them.
    """
    named = {str(name): fit for name, fit in fits.items()} if isinstance(fits, Mapping) else named_fits(list(fits))
    if not named:
        raise FitError("table got no fits; give a dict, {'base': fit, 'final': other}, or a list of them.")
    given = intervals if isinstance(intervals, Mapping) else dict.fromkeys(named, intervals)
    unknown = [name for name in given if name not in named]
    if unknown:
        raise FitError(f"intervals= names {unknown[0]!r}, which is none of the fits: {', '.join(named)}.")
    for name, fit in named.items():
        if not hasattr(fit, "parameters") or not hasattr(fit, "objective"):
            raise FitError(f"table puts fits side by side; {name!r} is {type(fit).__name__}.")
    tables = {name: table_of(fit, given.get(name, "default")) for name, fit in named.items()}
    order = list(dict.fromkeys(parameter for one in tables.values() for parameter in one.index))
    columns = {(name, quantity): one[quantity].reindex(order) for name, one in tables.items() for quantity in QUANTITIES}
    frame = ModelTable(pd.DataFrame(columns, index=pd.Index(order, name="parameter")))
    frame.words = {p: _words(p, tables.values()) for p in order}
    frame.statistics = pd.DataFrame({name: _statistics(fit) for name, fit in named.items()})
    frame.interval = f"{100 * level:.6g} % CI" if not (isinstance(intervals, str) and intervals == "default") else ""
    frame.notes = _notes(named, tables, frame)
    return frame


def _words(parameter: str, tables: Iterable[pd.DataFrame]) -> tuple[str, str]:
    """Label and unit of a parameter; all units where the models disagree."""
    rows = [one.loc[parameter] for one in tables if parameter in one.index]
    labels = [row["label"] for row in rows if row["label"]]
    return (labels[0] if labels else ""), "; ".join(dict.fromkeys(row["unit"] for row in rows if row["unit"]))


def _statistics(fit) -> dict[str, str]:
    """What stands above the parameters of each fit, as text with equally many decimals."""
    known = hasattr(fit, "aic")
    return {
        "Method": repr(fit.method),
        "Objective": criterion(fit, fit.objective),
        "Parameters estimated": str(fit.n_parameters) if known else MISSING,
        "AIC": criterion(fit, fit.aic) if known else MISSING,
        "BIC": criterion(fit, fit.bic) if known else MISSING,
    }


def _notes(named: dict[str, Any], tables: dict[str, pd.DataFrame], frame: ModelTable) -> tuple[str, ...]:
    what = "estimate [interval]" if frame.interval else "estimate (RSE %)"
    notes = [f"{what[0].upper()}{what[1:]}; {MISSING}: not in the model."]
    hashes = {fit.population.hash for fit in named.values()}
    if len(hashes) > 1:
        notes.append("The fits are of different data: their objectives cannot be compared.")
    methods = {repr(fit.method) for fit in named.values()}
    if len(methods) > 1:
        notes.append(
            "The fits are by different methods: their objectives differ by the methods, too (fit.by(...) puts them on one scale)."
        )
    shown = ("SE", "CI") if frame.interval else ("SE",)
    said = {name: {topic: note for topic, note in one.said.items() if _concerns(topic, shown)} for name, one in tables.items()}
    for note in dict.fromkeys(note for own in said.values() for note in own.values()):
        holders = [name for name, own in said.items() if note in own.values()]
        notes.append(note if len(holders) == len(said) else f"{', '.join(holders)}: {note}")
    return tuple(notes)


def _concerns(topic: str, shown: tuple[str, ...]) -> bool:
    """Whether a note is about something that this table shows."""
    always = ("verdict", "objective", "missing", "priors", "penalty", "unused", "weights")
    return topic in (*shown, *always) or topic.startswith(("rest", "refits"))


class ModelTable(Shown, pd.DataFrame):
    """Several fits side by side: a DataFrame indexed by parameter, its columns (fit, quantity) at full precision.

    Attributes
    ----------
    statistics : DataFrame, one column per fit: method, objective, parameters, AIC, BIC, as text
    words : parameter -> label and unit
    interval : how the intervals are headed, where they are shown instead of the relative standard errors
    notes : what to mind
    """

    _metadata = ["statistics", "words", "interval", "notes"]
    statistics: Any = None
    words: dict[str, tuple[str, str]] = {}
    interval: str = ""
    notes: tuple[str, ...] = ()

    @property
    def _constructor(self):
        return pd.DataFrame

    def _exact(self) -> pd.DataFrame:
        flat = pd.DataFrame(self)
        return flat.set_axis([f"{name} {quantity}" for name, quantity in flat.columns], axis=1)

    def _panels(self) -> list[Panel]:
        names = list(dict.fromkeys(name for name, _ in self.columns))
        rows = [
            [what, "", "", *values]
            for what, values in zip(self.statistics.index, self.statistics[names].to_numpy().tolist(), strict=True)
        ]
        for parameter in self.index:
            rows.append([parameter, *self.words[parameter], *(self._cell(parameter, name) for name in names)])
        header = ["Parameter", "Label", "Unit", *names]
        kept = [k for k in range(len(header)) if k not in (1, 2) or any(row[k] for row in rows)]
        rows = [[row[k] for k in kept] for row in rows]
        left = [k for k, column in enumerate(kept) if column < 3]
        return [Panel(self.interval and f"Estimates with {self.interval}", [header[k] for k in kept], rows, self.notes, left)]

    def _cell(self, parameter: str, name: str) -> str:
        row = self.loc[parameter, name]
        if pd.isna(row["estimate"]):
            return MISSING
        estimate = significant(float(row["estimate"]))
        if row["fixed"]:
            return f"{estimate} (fixed)"
        if self.interval:
            ends = [float(row["lower"]), float(row["upper"])]
            return estimate if pd.isna(ends).all() else f"{estimate} [{alike(ends[0], estimate)}, {alike(ends[1], estimate)}]"
        return estimate if pd.isna(row["rse_percent"]) else f"{estimate} ({fixed_point(float(row['rse_percent']))})"

    def __repr__(self) -> str:
        return Shown.__repr__(self)

    __str__ = __repr__
