"""Dosing regimens as values: ``dose(100, into="depot").every(24, n=7)``, and sums of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nlme.errors import DataError

Amount = float | Callable[[Any], float]


@dataclass(frozen=True)
class Dose:
    """One dose record: ``amount`` into compartment ``into`` (name, number, or None: where doses go by default) at ``time``.

    ``rate`` and ``duration`` of 0 mean a bolus; ``additional`` more doses follow, ``interval`` apart.  ``amount``, ``rate``
    and ``duration`` may be functions of the subject.
    """

    amount: Amount
    into: str | int | None = None
    rate: Amount = 0.0
    duration: Amount = 0.0
    time: float = 0.0
    ss: int = 0
    interval: float = 0.0
    additional: int = 0


@dataclass(frozen=True)
class Regimen:
    """A set of dose records; ``+`` joins regimens."""

    doses: tuple[Dose, ...]

    def every(self, interval: float, n: int | None = None) -> Regimen:
        """Each dose n times in all, ``interval`` apart; for a steady-state dose, the interval of the doses that led to it.

        Raises
        ------
        DataError
            An interval that is not positive, or no ``n`` for a dose that is not at steady state.
        """
        interval = _number("interval", interval)
        if interval <= 0:
            raise DataError(f"every({interval:g}): the dosing interval must be positive.")
        if n is None and not all(d.ss for d in self.doses):
            raise DataError(f"every({interval:g}): how many doses in all? For example every({interval:g}, n=7).")
        n = 1 if n is None else n
        if n != int(n) or n < 1:
            raise DataError(f"every({interval:g}, n={n!r}): n is the number of doses in all, a whole number from 1 on.")
        if any(d.additional for d in self.doses):
            raise DataError("every() was called twice; add regimens instead: dose(...).every(...) + dose(...).every(...).")
        return Regimen(tuple(replace(d, interval=interval, additional=int(n) - 1) for d in self.doses))

    def delayed(self, by: float) -> Regimen:
        """The same regimen, starting later by ``by``."""
        return Regimen(tuple(replace(d, time=_time(d.time + by)) for d in self.doses))

    @property
    def end(self) -> float:
        """When a next dose would be due: one interval after the last dose; at the dose itself where none says its interval."""
        return max((d.time + d.interval * (d.additional + 1) for d in self.doses), default=0.0)

    def then(self, other: Regimen, gap: float | None = None) -> Regimen:
        """``other`` after this regimen: it begins when the next dose would be due, and ``gap`` later.

        ``dose(400).then(dose(100).every(12, n=6), gap=12)`` is a loading dose with maintenance from 12 on;
        ``dose(100).every(24, n=5).then(dose(100).every(24, n=5), gap=48)`` leaves two days out.

        Raises
        ------
        DataError
            The last dose has no interval, and no ``gap`` says when to go on; a gap that is no number from 0 on.
        """
        if not isinstance(other, Regimen):
            raise DataError(f"then() takes the regimen that follows, dose(...).every(...); got {other!r}.")
        last = [d for d in self.doses if d.time + d.interval * (d.additional + 1) == self.end]
        if gap is None and not any(d.interval for d in last):
            raise DataError(
                "then(): the dose before has no interval, so say how long after it to go on: dose(400).then(..., gap=12)."
            )
        return self + other.delayed(self.end + (0.0 if gap is None else _time(gap)))

    def __add__(self, other: Regimen) -> Regimen:
        if not isinstance(other, Regimen):
            return NotImplemented
        return Regimen(tuple(sorted(self.doses + other.doses, key=lambda d: d.time)))

    def records(self, subject) -> dict[str, Any]:
        """The regimen for one subject as columns of dose records (EVID 1).

        Raises
        ------
        DataError
            A function of the subject that gives no positive amount, or a steady-state dose without an interval.
        """
        columns: dict[str, list] = {k: [] for k in ("time", "amt", "rate", "duration", "ii", "addl", "ss", "cmt")}
        names = []
        for d in self.doses:
            amount, rate, duration = (_value(w, getattr(d, w), subject) for w in ("amount", "rate", "duration"))
            endless = d.ss and amount == 0 and rate > 0
            if d.ss and not d.interval and not endless:
                raise DataError("A dose at steady state needs its interval: dose(..., ss=True).every(24).")
            if not endless and not amount > 0:
                raise DataError(f"Subject {subject.id!r}: the amount of a dose must be positive, got {amount:g}.")
            # the interval of a single dose says when a next one would be due (``end``), and repeats nothing in a record
            interval = d.interval if d.additional or d.ss else 0.0
            row = (d.time, amount, rate, duration, interval, d.additional, d.ss, d.into if isinstance(d.into, int) else 0)
            for key, value in zip(columns, row, strict=True):
                columns[key].append(value)
            names.append(d.into if isinstance(d.into, str) else None)
        m = len(names)
        return {**columns, "cmt_name": names, "evid": np.ones(m, dtype=int), "mdv": np.ones(m, dtype=int)}

    def __repr__(self) -> str:
        return " + ".join(_shown(d) for d in self.doses) or "no doses"


def _shown(d: Dose) -> str:
    def text(value):
        return getattr(value, "__name__", "function") if callable(value) else f"{value:g}"

    words = [text(d.amount)]
    words += [f"into={d.into!r}"] if d.into is not None else []
    words += [f"{w}={text(getattr(d, w))}" for w in ("rate", "duration", "time") if callable(getattr(d, w)) or getattr(d, w)]
    words += [f"ss={'True' if d.ss == 1 else d.ss}"] if d.ss else []
    every = f".every({d.interval:g}, n={d.additional + 1})" if d.interval else ""
    return f"dose({', '.join(words)}){every}"


def _number(what: str, value: Any) -> float:
    try:
        out = float(value)
    except (TypeError, ValueError):
        raise DataError(f"dose: {what} must be a number, got {value!r}.") from None
    if not np.isfinite(out):
        raise DataError(f"dose: {what} must be a finite number, got {value!r}.")
    return out


def _time(value: Any) -> float:
    time = _number("time", value)
    if time < 0:
        raise DataError(f"dose: time must not be negative, got {time:g}.")
    return time


def _value(what: str, value: Amount, subject) -> float:
    return _number(f"{what} for subject {subject.id!r}", value(subject)) if callable(value) else float(value)


def dose(
    amount: Amount,
    into: str | int | None = None,
    *,
    rate: Amount | None = None,
    duration: Amount | None = None,
    time: float = 0.0,
    ss: bool | int = False,
) -> Regimen:
    """One dose, as the start of a regimen.

    Parameters
    ----------
    amount
        Amount in the data set's unit, or a function of the subject: ``lambda s: 5 * s.covariates["wt"][0]``.
    into
        Name or number of the compartment; left out, the structure's default.
    rate, duration
        An infusion, by one of the two (number or function of the subject); -1 and -2 as ``rate`` mean that the model has the
        rate or the duration.  Neither: a bolus.
    time
        Time of the (first) dose.
    ss
        True: the subject is at steady state under this dose; say its interval with ``.every``.

    Returns
    -------
    Regimen
        Repeat it with ``.every(24, n=7)``, add others to it, give it to ``Population.with_doses``.

    Raises
    ------
    DataError
        Numbers that cannot be a dose, or both ``rate`` and ``duration``.

    Examples
    --------
    >>> dose(100, into="depot").every(24, n=7) + dose(50, duration=2, time=200)
    dose(100, into='depot').every(24, n=7) + dose(50, duration=2, time=200)
    """
    if rate is not None and duration is not None:
        raise DataError("dose: give the rate or the duration of an infusion, not both.")
    numbered = isinstance(into, (int, np.integer)) and not isinstance(into, bool) and into >= 1
    if into is not None and not numbered and not (isinstance(into, str) and into):
        raise DataError(f"dose: into must be the name or the number (from 1 on) of a compartment, got {into!r}.")
    if int(ss) not in (0, 1, 2):
        raise DataError(f"dose: ss must be True, False or 2, got {ss!r}.")
    values = {"amount": amount, "rate": 0.0 if rate is None else rate, "duration": 0.0 if duration is None else duration}
    for what, value in values.items():
        if callable(value):
            continue
        values[what] = _number(what, value)
        modelled = what == "rate" and values[what] in (-1.0, -2.0)
        if values[what] < 0 and not modelled:
            raise DataError(f"dose: {what} must not be negative, got {values[what]:g}.")
    for what, given in (("rate", rate), ("duration", duration)):
        if given is not None and values[what] == 0:
            raise DataError(f"dose: {what} is 0; leave it out for a bolus.")
    endless = ss and not callable(values["rate"]) and values["rate"] > 0
    if not callable(amount) and values["amount"] == 0 and not endless:
        raise DataError("dose: the amount must be positive, got 0.")
    into = into if into is None or isinstance(into, str) else int(into)
    return Regimen((Dose(into=into, time=_time(time), ss=int(ss), **values),))
