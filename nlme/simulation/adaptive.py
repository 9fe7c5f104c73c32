"""Adaptive dosing: rules that read the simulated observations and change the doses that follow.

A decision is made at time t from the subject's simulated (noisy) observations at the records before the first dose that it governs; it
holds for the doses from t on until the next decision changes it.  Every subject's whole course is solved again after each decision with
the amounts as they then are, by one compiled program: shapes never change.  Random effects and residual errors are those of
``nlme.simulate`` with the same key, whatever the rule does: a rule that changes nothing gives its numbers, draw by draw.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from nlme.data.by_subject import for_each
from nlme.dynamics.solvers import Tolerances
from nlme.errors import DataError, ModelError
from nlme.fitting.applied import require_alike
from nlme.fitting.result import Evaluated
from nlme.keys import key_of
from nlme.language.model import Model
from nlme.parameters.domains import require_whole
from nlme.simulation.amended import Doses
from nlme.simulation.parameters import drawn_parameters
from nlme.simulation.predict import model_of
from nlme.simulation.records import Design, Records, system_keys
from nlme.simulation.region import simulated_class, watch
from nlme.simulation.simulate import Batch, People, Table, batches
from nlme.tables.shown import Panel, Shown, numbers_shown

WORDS = ("hold", "stop", "leave")


@dataclasses.dataclass(frozen=True)
class Decision:
    """What a rule decides; what is None or False stays as it is.

    Attributes
    ----------
    amount : of each dose from now on
    every : give every so many-th of the planned doses from now on (2: the interval is doubled; 1: all of them)
    hold : no dose until the next decision, then on as before
    stop : no further dose
    leave : no further dose and no further observation: the subject drops out
    why : a word for the ledger
    """

    amount: Any = None
    every: Any = None
    hold: Any = False
    stop: Any = False
    leave: Any = False
    why: Any = ""


@dataclasses.dataclass(frozen=True)
class Seen:
    """What a rule sees of one subject (or, ``vectorised``, of all: arrays with leading axes of replicates and subjects, R and N).

    Attributes
    ----------
    replicate, id : which
    time : of the decision
    number : how manieth decision of the subject, from 0 on
    times : endpoint -> (T,) times of its observations so far; vectorised (N, T), of all its observations
    values : endpoint -> (T,) what was observed; vectorised (R, N, T), NaN where it has not been observed yet
    covariates : name -> value at the time of the decision; vectorised (R, N)
    amount : of the doses as decided last, at first of the next one planned
    every : likewise
    """

    replicate: Any
    id: Any
    time: Any
    number: int
    times: Mapping[str, np.ndarray]
    values: Mapping[str, np.ndarray]
    covariates: Mapping[str, Any]
    amount: Any
    every: Any

    def last(self, endpoint: str | None = None) -> Any:
        """The last observation of an endpoint (the only one by default); NaN where there is none yet."""
        values = self.values[endpoint or next(iter(self.values))]
        if np.ndim(values) == 1:
            return float(values[-1]) if len(values) else float("nan")
        known = np.isfinite(values)
        at = values.shape[-1] - 1 - np.argmax(known[..., ::-1], axis=-1)
        return np.where(known.any(axis=-1), np.take_along_axis(values, at[..., None], axis=-1)[..., 0], np.nan)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Adaptive(Shown):
    """A simulation with decisions.

    Attributes
    ----------
    frame : as ``nlme.simulate`` gives it, without what subjects who left would have shown
    ledger : DataFrame, one row a decision: REPLICATE, ID, TIME, SEEN (observations so far), LAST.endpoint (the last of each), DECISION ("" where
        nothing changed), AMOUNT and EVERY before and after, WHY
    doses : DataFrame: REPLICATE, ID, TIME, AMT of every dose planned; 0 where it was not given
    """

    frame: Any
    ledger: Any
    doses: Any

    @property
    def messages(self) -> list[str]:
        return self.frame.messages

    @property
    def summary(self):
        """DataFrame by time of decision: subjects asked, and how many of each decision there were."""
        table = self.ledger.assign(DECISION=self.ledger["DECISION"].replace("", "no change"))
        return table.groupby(["TIME", "DECISION"]).size().unstack(fill_value=0)

    def _exact(self):
        return self.ledger

    def _panels(self) -> list[Panel]:
        given = self.doses[self.doses["AMT"] > 0]
        notes = [f"{len(self.ledger):,} decisions; {len(given):,} of {len(self.doses):,} planned doses given.", *self.messages]
        return [numbers_shown(self.summary.astype(float), "Adaptive dosing: decisions by time", notes, index="Time")]


def adaptive(
    model: Model | Evaluated,
    population=None,
    *,
    rule: Callable,
    decisions: Any,
    key,
    eta="new",
    replicates: int = 1,
    uncertainty=None,
    noise: bool = True,
    vectorised: bool = False,
    into: str | None = None,
    ode: Tolerances | None = None,
) -> Adaptive:
    """Simulation in which a rule reads each subject's simulated observations and decides on its doses: titration, therapeutic drug
    monitoring, stopping, dropout.

    Parameters
    ----------
    model, key, eta, replicates, uncertainty, noise, ode : as of :func:`nlme.simulate`; ``eta="new"`` by default
    population : with the doses as planned and the records at which is observed; a fit's own by default
    rule : function of a :class:`Seen` that returns None (no change), an amount, "hold", "stop", "leave", or an ``nlme.Decision``.  It is called
        for every subject and replicate in turn; ``vectorised``: once a decision, with arrays (R, N), and returns a Decision of such
    decisions : times, a dict from ID to times, or a function of the subject
    into : name of the compartment whose doses the rule governs; the only one that is dosed by default

    Raises
    ------
    DataError
        No doses to govern, times that are none, a rule that returns something else, a negative amount.
    ModelError
        The rule raised an error: for whom, when, and what.
    """
    population = model.population if population is None and isinstance(model, Evaluated) else population
    if population is None:
        raise DataError("adaptive needs a population: nlme.adaptive(model, population, rule=..., decisions=[...], key=1).")
    require_whole("nlme.adaptive", "replicates", replicates, 1)
    if not callable(rule):
        raise DataError(f"rule is a function of what is seen; got {rule!r}.")
    require_alike(model, population)
    design = Design(model_of(model), population)
    ode = ode or (model.method.ode if isinstance(model, Evaluated) else Tolerances())
    key = key_of(key)
    people = People(model, design, eta, drawn_parameters(model, uncertainty, replicates, key))
    watched = watch(model, design)
    rules = [Rule(rule, vectorised, np.arange(len(population)))]
    times = decision_times(decisions, population)
    course = Course(people, Governed(design, Doses(design, into)), times, rules, noise, ode, watched)
    parts, begin = [], 0
    for batch in batches(design, replicates, key, people, ode):
        parts.append(course.run(batch, begin))
        begin += batch.count
    left = np.concatenate([part.left for part in parts])
    frame = course.table.frame([part.columns for part in parts])
    frame = frame[frame["TIME"].to_numpy() <= left[:, course.subject].ravel()].reset_index(drop=True)
    made = simulated_class()(frame)
    made.parameters, made.remarks = people.parameters, people.messages
    made.extrapolates = None if watched is None else watched.table(replicates)
    return Adaptive(made, *course.tables(parts))


def decision_times(decisions: Any, population) -> np.ndarray:
    """(N, K) times of decisions in order, infinite where a subject has fewer."""
    rows = []
    for s, given in zip(population, for_each("decisions", decisions, population), strict=True):
        try:
            at = np.unique(np.atleast_1d(np.asarray(given, dtype=float)).ravel())
        except (TypeError, ValueError):
            raise DataError(f"decisions are times; got {given!r} for subject {s.id!r}.") from None
        if not np.all(np.isfinite(at)):
            raise DataError(f"decisions are finite times; got {given!r} for subject {s.id!r}.")
        rows.append(at)
    most = max(map(len, rows))
    if not most:
        raise DataError("decisions= has no time.")
    return np.stack([np.r_[at, np.full(most - len(at), np.inf)] for at in rows])


@dataclasses.dataclass(frozen=True)
class Rule:
    """A rule, how it is asked, and for which subjects."""

    function: Callable
    vectorised: bool
    subjects: np.ndarray


@dataclasses.dataclass(frozen=True)
class Governed:
    """The subjects of a design, and the doses that rules govern.

    Where every replicate has people of its own, ``doses`` are those of all who may be taken, by ``groups`` (P,) of people with doses at the
    same times; subject i is always one of the group of the ``seats[i]``-th of them.
    """

    design: Design
    doses: Doses
    seats: np.ndarray | None = None
    groups: np.ndarray | None = None

    def _of(self, values: np.ndarray) -> np.ndarray:
        return values if self.seats is None else values[self.seats]

    @property
    def time(self) -> np.ndarray:
        return self._of(self.doses.time)

    @property
    def before(self) -> np.ndarray:
        return self._of(self.doses.before)

    @property
    def steady(self) -> np.ndarray:
        return self._of(self.doses.steady)

    @property
    def population(self):
        return self.doses.design.population

    def planned(self, replicates: int, who: np.ndarray | None) -> np.ndarray:
        """(R, N, D)"""
        planned = self.doses.planned
        return np.broadcast_to(planned, (replicates, *planned.shape)) if who is None else planned[who]


@dataclasses.dataclass(frozen=True)
class Decided:
    """What became of some replicates: columns of the table, the ledger's columns by decision, amounts (R, N, D) and when each subject left."""

    columns: dict[str, np.ndarray]
    ledger: list[dict[str, np.ndarray]]
    amounts: np.ndarray
    left: np.ndarray


class Course:
    """Decisions, one after another, at ``times`` (N, K); ``watched`` is shown what networks are asked at."""

    def __init__(
        self,
        people: People,
        governed: Governed,
        times: np.ndarray,
        rules: Sequence[Rule],
        noise: bool,
        ode: Tolerances,
        watched=None,
    ):
        self.people, self.governed, self.times, self.rules, self.watched = people, governed, times, rules, watched
        self.noise, self.ode, self.design = noise, ode, governed.design
        self.table = Table(self.design)
        self.subject, self.record, self.endpoint = self.table.places
        self.when = self.design.column("time")[self.table.row]
        early = np.flatnonzero(times.min(axis=1) < governed.steady)
        if len(early):
            i = early[0]
            raise DataError(
                f"Subject {self.design.population.ids[i]!r}: a decision at {times[i].min():g} comes before the dose at steady state at "
                f"{governed.steady[i]:g}, which is reached as planned. Decide from then on, or write the doses out."
            )
        self.shown = {name: self._padded(which) for which, name in enumerate(self.design.endpoints)}
        steps = range(times.shape[1])
        self.known, self.covariates = ([of(k) for k in steps] for of in (self._known, self._covariates))

    def _padded(self, which: int) -> tuple[np.ndarray, np.ndarray]:
        """(N, T) rows of the table with this endpoint, -1 where a subject has fewer, and their times."""
        own = [np.flatnonzero((self.subject == i) & (self.endpoint == which)) for i in range(len(self.times))]
        rows = np.full((len(own), max(1, *map(len, own))), -1)
        for i, at in enumerate(own):
            rows[i, : len(at)] = at
        return rows, np.where(rows >= 0, self.when[np.maximum(rows, 0)], np.nan)

    def _known(self, k: int) -> np.ndarray:
        """(N, rows of the table) which rows decision k of each subject can look at: records before its first dose from then on."""
        at = self.times[:, k]
        later = np.where(self.governed.time >= at[:, None], self.governed.before, np.iinfo(int).max)
        first = np.where(np.isfinite(at), later.min(axis=1), 0)
        own = self.subject[None] == np.arange(len(at))[:, None]
        return own & (self.when[None] <= at[:, None]) & (self.record[None] < first[:, None])

    def run(self, batch: Batch, begin: int, who: np.ndarray | None = None) -> Decided:
        """Some replicates, of which ``begin`` came before; ``who`` (R, N) is in them where everyone has people of its own."""
        replicates, n = len(batch.errors), len(self.times)
        state = _State(self.governed.planned(replicates, who), self.governed.time)
        ledger, left = [], np.full((replicates, n), np.inf)
        eta = np.broadcast_to(batch.eta, (replicates, *batch.eta.shape[1:]))
        members = None if batch.members is None else np.broadcast_to(batch.members, (replicates, n))
        paths = system_keys(self.design.anatomy, batch.errors) if self.noise else None
        held = self.governed.doses.held(replicates, who)

        def solved():
            arrays = held.given(state.amounts)
            at = Records(self.design, self.people.model, eta, self.ode, members, batch.drawn, arrays, paths)
            return at, self.table.columns(eta, at, batch.errors if self.noise else None, replicates)

        for k, (known, covariates) in enumerate(zip(self.known, self.covariates, strict=True)):
            dv = solved()[1]["DV"]
            active = np.isfinite(self.times[:, k])[None] & ~np.isfinite(left)
            before = state.current(self.times[:, k])
            told = {name: np.broadcast_to(x if who is None else x[who], (replicates, n)) for name, x in covariates.items()}
            decided, words = self._ask(k, dv[: batch.count], known, active, before, told, begin)
            state.apply(self.times[:, k], decided, active)
            left = np.where(active & decided["leave"], self.times[None, :, k], left)
            after = state.current(self.times[:, k])
            ledger.append(self._rows(k, dv, known, active[: batch.count], before, after, words, begin))
        at, columns = solved()
        if self.watched is not None:
            used = [None if x is None else x[: batch.count] for x in (eta, at.states, members)]
            self.watched.see(*used, batch.drawn)
        some = {name: x[: batch.count] for name, x in columns.items()}
        return Decided(some, ledger, state.amounts[: batch.count], left[: batch.count])

    def _ask(self, k: int, dv, known, active, before, covariates, begin: int):
        """What is decided, arrays (R, N), and why; replicates that fill up the batch, beyond those of ``dv``, are left alone."""
        found = {name: np.full(active.shape, np.nan) for name in ("amount", "every")}
        found |= {name: np.zeros(active.shape, bool) for name in WORDS}
        words = np.full(active.shape, "", dtype=object)
        for rule in self.rules:
            if not np.isfinite(self.times[rule.subjects, k]).any():
                continue
            if rule.vectorised:
                self._ask_together(rule, k, dv, known, before, covariates, begin, found)
            else:
                self._ask_each(rule, k, dv, known, active, before, covariates, begin, found, words)
        return found, words

    def _ask_each(self, rule: Rule, k: int, dv, known, active, before, covariates, begin: int, found, words) -> None:
        ids, count = self.design.population.ids, len(dv)
        for i in rule.subjects[active[:, rule.subjects].any(axis=0)]:
            rows = {name: r[i][(r[i] >= 0) & known[i, np.maximum(r[i], 0)]] for name, (r, _) in self.shown.items()}
            times = {name: self.when[at] for name, at in rows.items()}
            for r in np.flatnonzero(active[:count, i]):
                told = {name: float(v[r, i]) for name, v in covariates.items()}
                seen = {name: dv[r, at] for name, at in rows.items()}
                who = f"Subject {ids[i]!r}, replicate {begin + r + 1}, decision at {self.times[i, k]:g}"
                own = float(before[0][r, i]), float(before[1][r, i])
                given = Seen(begin + r + 1, ids[i], float(self.times[i, k]), k, times, seen, told, *own)
                answer = _decision(_asked(rule.function, given, who), who)
                for name in ("amount", "every"):
                    value = getattr(answer, name)
                    found[name][r, i] = np.nan if value is None else _amount(name, value, who)
                for name in WORDS:
                    found[name][r, i] = _numbers(name, getattr(answer, name), (), bool, who)
                words[r, i] = str(answer.why)

    def _ask_together(self, rule: Rule, k: int, dv, known, before, covariates, begin: int, found) -> None:
        """The same of a rule that decides for all its subjects at once."""
        values, times, own, count = {}, {}, rule.subjects, len(dv)
        for name, (rows, when) in self.shown.items():
            rows = rows[own]
            values[name] = np.where((rows >= 0) & self._at(known[own], rows), dv[:, np.maximum(rows, 0)], np.nan)
            times[name] = when[own]
        ids, replicate = np.array(self.design.population.ids, dtype=object)[own], begin + 1 + np.arange(count)
        told = {name: x[:count, own] for name, x in covariates.items()}
        given = [x[:count, own] for x in before[:2]]
        seen = Seen(replicate, ids, self.times[own, k], k, times, values, told, *given)
        at = np.unique(self.times[own, k][np.isfinite(self.times[own, k])])
        when = f"{at[0]:g}" + (f" to {at[-1]:g}" if len(at) > 1 else "")
        who = f"{len(own)} subjects together, replicates {begin + 1} to {begin + count}, decision at {when}"
        for name, decided in _arrays(_decision(_asked(rule.function, seen, who), who), (count, len(own)), who).items():
            found[name][:count, own] = decided

    def _at(self, known: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return np.take_along_axis(known, np.maximum(rows, 0), axis=1)

    def _covariates(self, k: int) -> dict[str, np.ndarray]:
        """name -> (N,) values at the decision, of all whose doses there are."""
        population, seats = self.governed.population, self.governed.seats
        times = self.times[:, k]
        if seats is not None:
            groups = self.governed.groups
            times = dict(zip(groups[seats].tolist(), times.tolist(), strict=True))
            times = np.array([times[group] for group in groups.tolist()])
        return {
            name: np.array(
                [
                    s.history.beside(np.array([min(t, 1e300)]), s.history.covariates[name], info.interpolation, True)[0]
                    for s, t in zip(population, times, strict=True)
                ]
            )
            for name, info in population.covariates.items()
        }

    def _rows(self, k: int, dv, known, active, before, after, words, begin: int) -> dict[str, np.ndarray]:
        """The ledger of one decision as columns."""
        r, i = np.nonzero(active)
        ids = self.design.population.ids
        seen = {}
        for name, (rows, _) in self.shown.items():
            can = (rows >= 0) & self._at(known, rows)
            last = np.where(can.any(axis=1), can.shape[1] - 1 - np.argmax(can[:, ::-1], axis=1), 0)
            place = np.take_along_axis(rows, last[:, None], axis=1)[:, 0]
            seen[f"LAST.{name}"] = np.where(can.any(axis=1)[i], dv[r, np.maximum(place, 0)[i]], np.nan)
        return {
            "REPLICATE": begin + 1 + r,
            "ID": np.array(ids, dtype=object)[i],
            "TIME": self.times[i, k],
            "SEEN": known.sum(axis=1)[i],
            **seen,
            "AMOUNT.BEFORE": before[0][r, i],
            "AMOUNT.AFTER": after[0][r, i],
            "EVERY.BEFORE": before[1][r, i],
            "EVERY.AFTER": after[1][r, i],
            "DECISION": after[2][r, i],
            "WHY": words[r, i],
        }

    def tables(self, parts: Sequence[Decided]):
        """The ledger and the doses of all replicates."""
        import pandas as pd

        ids, amounts = list(self.design.population.ids), np.concatenate([part.amounts for part in parts])
        columns = [row for part in parts for row in part.ledger]
        ledger = pd.DataFrame({name: np.concatenate([c[name] for c in columns]) for name in columns[0]})
        ledger["ID"] = ledger["ID"].infer_objects()
        order = np.lexsort((ledger["TIME"], pd.Categorical(ledger["ID"], categories=ids).codes, ledger["REPLICATE"]))
        time = self.governed.time
        r, i, d = np.nonzero(np.broadcast_to(np.isfinite(time), amounts.shape))
        doses = pd.DataFrame({"REPLICATE": r + 1, "ID": pd.Index(ids).take(i), "TIME": time[i, d], "AMT": amounts[r, i, d]})
        return ledger.iloc[order].reset_index(drop=True), doses


class _State:
    """The amounts of every replicate's doses (R, N, D), and what was decided last."""

    def __init__(self, planned: np.ndarray, time: np.ndarray):
        self._planned, self._time = planned, time
        self.amounts = planned.copy()
        self._amount = np.full(planned.shape[:2], np.nan)  # NaN: as planned
        self._every = np.ones(planned.shape[:2])
        self._anchor = np.zeros(planned.shape[:2], int)  # the dose from which every so many-th is counted
        self._stopped = np.zeros(planned.shape[:2], bool)
        self._said = np.full(planned.shape[:2], "", dtype=object)

    def current(self, at: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Amount and interval (in planned doses) in force, and what was decided last in words, (R, N) each."""
        following = self._following(at)
        planned = np.take_along_axis(
            self._planned, np.broadcast_to(following[None, :, None], (*self._planned.shape[:2], 1)), axis=2
        )[..., 0]
        amount = np.where(self._stopped, 0.0, np.where(np.isnan(self._amount), planned, self._amount))
        return amount, self._every.copy(), self._said.copy()

    def _following(self, at: np.ndarray) -> np.ndarray:
        """(N,) the first planned dose from a time on; the last one after all."""
        later = self._time >= at[:, None]
        return np.where(later.any(axis=1), np.argmax(later, axis=1), np.maximum(np.sum(np.isfinite(self._time), axis=1) - 1, 0))

    def apply(self, at: np.ndarray, decided: dict[str, np.ndarray], active: np.ndarray) -> None:
        amount, every = (np.where(active, decided[name], np.nan) for name in ("amount", "every"))
        hold, stop, leave = (active & decided[name] for name in WORDS)
        anew = ~np.isnan(amount) & (amount != self.current(at)[0])
        other = ~np.isnan(every) & (every != self._every)
        self._said = np.select(
            [leave, stop, hold, anew & other, anew, other],
            ["leave", "stop", "hold", "amount and interval", "amount", "interval"],
            default="",
        ).astype(object)
        self._amount = np.where(np.isnan(amount), self._amount, amount)
        self._every = np.where(np.isnan(every), self._every, every)
        self._anchor = np.where(other, self._following(at), self._anchor)
        self._stopped |= stop | leave
        later = self._time >= at[:, None]  # (N, D)
        given = np.where(np.isnan(self._amount)[..., None], self._planned, self._amount[..., None])
        number = np.arange(self._time.shape[1]) - self._anchor[..., None]
        silent = (number % self._every[..., None].astype(int) != 0) | (self._stopped | hold)[..., None]
        whole = np.where(silent, 0.0, given)
        self.amounts = np.where(later[None] & active[..., None], whole, self.amounts)


def _asked(function: Callable, seen: Seen, who: str) -> Any:
    """What the user's rule answers."""
    try:
        return function(seen)
    except Exception as error:
        there = [*(f.name for f in dataclasses.fields(Seen)), "last()"]
        raise ModelError(
            f"{who}: the rule raised {type(error).__name__}: {error}. It sees {', '.join(there)}; covariates: "
            f"{', '.join(seen.covariates) or 'none'} (seen.covariates['wt']); times and values of: {', '.join(seen.values)}."
        ) from error


def _decision(answer: Any, who: str) -> Decision:
    if isinstance(answer, Decision):
        return answer
    if answer is None:
        return Decision()
    if isinstance(answer, str) and answer in WORDS:
        return Decision(**{answer: True})
    if isinstance(answer, (int, float, np.number)) and not isinstance(answer, bool):
        return Decision(amount=float(answer))
    raise DataError(f"{who}: the rule returns None, an amount, 'hold', 'stop', 'leave' or an nlme.Decision; got {answer!r}.")


def _numbers(name: str, value: Any, shape: tuple[int, ...], kind: type, who: str) -> np.ndarray:
    """What is decided on as an array of this shape."""
    try:
        return np.broadcast_to(np.asarray(value, kind), shape)
    except (TypeError, ValueError):
        form = "one number" if not shape else f"one number or an array {shape}, of replicates and subjects"
        raise DataError(f"{who}: the {name} decided on is {form}; got {value!r}.") from None


def _amount(name: str, value: Any, who: str) -> float:
    value = float(_numbers(name, value, (), float, who))
    if not np.isfinite(value) or value < 0:
        raise DataError(f"{who}: the {name} decided on is {value:g}; it is a number from 0 on.")
    if name == "every" and (value != int(value) or value < 1):
        raise DataError(
            f"{who}: every={value:g}; it is a whole number from 1 on: every so many-th of the planned doses is given."
        )
    return value


def _arrays(answer: Decision, shape: tuple[int, int], who: str) -> dict[str, np.ndarray]:
    """A vectorised decision as arrays (R, N)."""
    found = {}
    for name in ("amount", "every"):
        value = getattr(answer, name)
        given = np.full(shape, np.nan) if value is None else _numbers(name, value, shape, float, who)
        bad = np.isfinite(given) & ((given < 0) | ((name == "every") & ((given < 1) | (given != np.floor(given)))))
        if bad.any() or np.isinf(given).any():
            raise DataError(
                f"{who}: {name} = {given[bad | np.isinf(given)][0]:g}; amounts are numbers from 0 on, every a whole number from 1 on."
            )
        found[name] = given
    return found | {name: _numbers(name, getattr(answer, name), shape, bool, who) for name in WORDS}
