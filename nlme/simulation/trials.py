"""Simulated clinical trials: arms, recruitment, dropout and endpoints, thousands of trials in one program.

Each trial recruits its own people from a population (without replacement where it is large enough, else with), puts them at random into
arms, draws their random effects and residual errors anew, and (with ``uncertainty=``) has parameters of its own.  A subject leaves at a time

    T ~ exponential(hazard),        probability p by time t:  hazard = -log(1 - p) / t

or at the event of a time-to-event endpoint of the model, and is not observed afterwards: the event came since the record before the one
that tells of it, at which nothing else is seen any more.  In an arm with a ``rule`` doses change with what
has been observed (``nlme.simulation.adaptive``), and a subject leaves when the rule says so.

Arms are compared with the first by the difference of the means of an endpoint over those who have one (completers), and Welch's test;
the share of all trials in which its two-sided p is below alpha is the power.  Where neither arm has any variance Welch's t has no
value: p is 1 where the means are equal (nobody responds) and 0 where they differ (everybody under one, nobody under the other).  A trial
with fewer than two who have the endpoint in either arm has no test, and counts as one that shows no difference.

Sources: Holford, Ma & Ploeger (2010), Clin Pharmacol Ther 88:166, doi:10.1038/clpt.2010.114 (clinical trial simulation); Welch (1947),
doi:10.1093/biomet/34.1-2.28.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from scipy.special import stdtr

from nlme.data.population import Population
from nlme.data.regimen import Regimen
from nlme.dynamics.solvers import Tolerances
from nlme.errors import DataError, ModelError, name_error
from nlme.execution.executors import carried_out, in_order, require_executor
from nlme.fitting.applied import require_alike
from nlme.fitting.result import Evaluated
from nlme.keys import key_of
from nlme.language.model import Model
from nlme.neural.term import learned_terms
from nlme.parameters.domains import is_numeric, is_probability, require_whole
from nlme.simulation.adaptive import Course, Decided, Governed, Rule
from nlme.simulation.amended import Doses
from nlme.simulation.exposure import Exposure, exposure
from nlme.simulation.parameters import drawn_parameters
from nlme.simulation.predict import model_of
from nlme.simulation.records import Design, Records, system_keys
from nlme.simulation.simulate import Batch, People, Share, Table, divided
from nlme.tables.shown import Panel, Shown, numbers_shown

_RECRUITING, _LEAVING = 0x72656372, 0x64726F70  # streams of random numbers beside those of effects and errors


@dataclasses.dataclass(frozen=True)
class Arm:
    """One arm: its name, its regimen (None: no dose), how many people, its own dropout, and its rule with the times at which it decides."""

    name: str
    regimen: Regimen | None
    n: int
    dropout: Any = None
    rule: Callable | None = None
    decisions: np.ndarray | None = None
    vectorised: bool = False


def arm(
    name: str,
    regimen: Regimen | None,
    n: int,
    *,
    dropout: Any = None,
    rule: Callable | None = None,
    decisions: Any = None,
    vectorised: bool = False,
) -> Arm:
    """An arm of ``n`` people under ``regimen`` (None for no dose).

    Parameters
    ----------
    dropout : as of :func:`trial`, for this arm alone
    rule, vectorised : what changes the doses with what has been observed, as of :func:`nlme.adaptive`: titration, stopping, withdrawal
    decisions : times at which it is asked

    Raises
    ------
    DataError
        No name, no regimen, a number of people that is none, a rule without times, times without a rule.
    """
    if not isinstance(name, str) or not name:
        raise DataError(f"arm: its name is a text, '100 mg'; got {name!r}.")
    if regimen is not None and not isinstance(regimen, Regimen):
        raise DataError(f"arm {name!r}: its regimen is nlme.dose(...) or None; got {regimen!r}.")
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1:
        raise DataError(f"arm {name!r}: n is a number of people from 1 on; got {n!r}.")
    if (rule is None) != (decisions is None):
        raise DataError(f"arm {name!r}: rule= and decisions= go together: what is decided, and when.")
    if rule is None:
        return Arm(name, regimen, int(n), dropout)
    if not callable(rule):
        raise DataError(f"arm {name!r}: its rule is a function of what is seen; got {rule!r}.")
    if regimen is None:
        raise DataError(f"arm {name!r}: a rule changes doses, and there are none.")
    try:
        at = np.unique(np.atleast_1d(np.asarray(decisions, float)).ravel())
    except (TypeError, ValueError):
        at = np.array([np.nan])
    if not len(at) or not np.all(np.isfinite(at)):
        raise DataError(f"arm {name!r}: decisions are times, [24, 72]; got {decisions!r}.")
    return Arm(name, regimen, int(n), dropout, rule, at, vectorised)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Trials(Shown):
    """Simulated trials.

    Attributes
    ----------
    frame : DataFrame: REPLICATE (the trial), ARM, ID (within the trial), PERSON (the ID in the population recruited from), TIME, ENDPOINT, IPRED, DV;
        without what those who left would have shown
    arms : the arms
    left : (trials, subjects) when each subject leaves or would, after the last observation too; infinite if it never does; of an endpoint,
        immediately before the record that tells of the event
    last : time of the last observation
    ledger : DataFrame of what rules decided, as of :func:`nlme.adaptive`, with ARM; None where no arm has one
    doses : DataFrame: REPLICATE, ARM, ID, TIME, AMT of every planned dose before its subject left, 0 where it was not given; None likewise
    parameters : DataFrame by REPLICATE of the parameters of each trial; None without uncertainty
    messages : what there is to say, in words
    """

    frame: Any
    arms: tuple[Arm, ...]
    left: np.ndarray
    last: float
    ledger: Any = None
    doses: Any = None
    parameters: Any = None
    messages: list[str] = dataclasses.field(default_factory=list)

    @property
    def trials(self) -> int:
        return len(self.left)

    def exposure(self, measures: Any, **options) -> Exposure:
        """:func:`nlme.exposure` of the trials; those who left within an interval have no measure of it."""
        return exposure(self, measures, **{"incomplete": "omit"} | options)

    def summarise(
        self,
        endpoints: Any,
        *,
        values: str = "DV",
        alpha: float = 0.05,
        level: float = 0.9,
        endpoint: str | None = None,
        **options,
    ):
        """DataFrame by endpoint and arm: n (who have one, median over trials), mean and sd (median over trials), lower and upper (they
        hold ``level`` of the trials' means); against the first arm: difference with its own lower and upper, and power, the share of all
        trials with p below alpha.  Without variance in both arms p is 1 where the means are equal, else 0; a trial with fewer than two
        who have the measure in either arm has no test and is none with p below alpha (NaN where no trial has a test).

        Parameters
        ----------
        endpoints : measures as of :func:`nlme.exposure`; a function that returns 0 or 1 makes a responder rate
        values : "DV" as observed, or "IPRED"
        alpha : of the two-sided test
        options : further ones of :func:`nlme.exposure`
        """
        import pandas as pd

        for what, number in (("alpha", alpha), ("level", level)):
            if not is_probability(number):
                raise DataError(f"{what} is a probability between 0 and 1; got {number!r}.")
        found = self.exposure(endpoints, values=values, endpoint=endpoint, **options)
        rows = []
        for name in found.measures:
            grouped = found.frame.groupby(["REPLICATE", "ARM"], sort=False, observed=True)[name]
            moments = {k: grouped.agg(k).unstack("ARM") for k in ("count", "mean", "var")}
            first = self.arms[0].name
            for one in self.arms:
                rows.append({"MEASURE": name, "ARM": one.name} | _compared(moments, one.name, first, alpha, level))
        return pd.DataFrame(rows).set_index(["MEASURE", "ARM"])

    def _exact(self):
        return self.frame

    def _panels(self) -> list[Panel]:
        import pandas as pd

        edges = np.cumsum([0, *(one.n for one in self.arms)])
        gone = [100 * (self.left[:, a:b] < self.last).mean() for a, b in zip(edges[:-1], edges[1:], strict=True)]
        table = pd.DataFrame({"n": [float(one.n) for one in self.arms], "left, %": gone}, index=[one.name for one in self.arms])
        notes = [f"{one.name}: {one.regimen!r}" + ("" if one.rule is None else ", with a rule") for one in self.arms]
        if self.ledger is not None:
            changed, given = self.ledger["DECISION"] != "", self.doses["AMT"] > 0
            notes.append(
                f"{changed.sum():,} of {len(changed):,} decisions changed something; {given.sum():,} of {len(given):,} planned doses given."
            )
        notes += self.messages
        return [numbers_shown(table, f"{self.trials:,} simulated trials", notes, index="Arm")]


def _compared(moments: dict[str, Any], name: str, first: str, alpha: float, level: float) -> dict[str, float]:
    tail = (1 - level) / 2
    count, mean, var = (moments[k][name].to_numpy(float) for k in ("count", "mean", "var"))
    row = {"n": np.median(count), "mean": np.nanmedian(mean), "sd": np.nanmedian(np.sqrt(var))}
    row["lower"], row["upper"] = np.nanquantile(mean, [tail, 1 - tail])
    if name == first:
        return row
    n0, m0, v0 = (moments[k][first].to_numpy(float) for k in ("count", "mean", "var"))
    difference = mean - m0
    row["difference"] = np.nanmedian(difference)
    row["difference.lower"], row["difference.upper"] = np.nanquantile(difference, [tail, 1 - tail])
    with np.errstate(divide="ignore", invalid="ignore"):
        a, b = var / count, v0 / n0
        t = difference / np.sqrt(a + b)
        freedom = (a + b) ** 2 / (a**2 / (count - 1) + b**2 / (n0 - 1))
        p = 2 * stdtr(freedom, -np.abs(t))
    # to rounding: means of one value over arms of different sizes can differ in the last bit, and so can a value from their mean
    rounding = 1e-12 * np.maximum(np.abs(mean), np.abs(m0))
    p = np.where(np.maximum(var, v0) <= rounding**2, (np.abs(difference) <= rounding).astype(float), p)
    row["power"] = np.mean(p < alpha) if np.isfinite(p).any() else np.nan
    return row


def trial(
    model: Model | Evaluated,
    arms: Sequence[Arm],
    population: Population,
    *,
    times: Any,
    key,
    trials: int = 1000,
    uncertainty=None,
    dropout: Any = None,
    noise: bool = True,
    into: str | None = None,
    ode: Tolerances | None = None,
    executor: Any = None,
) -> Trials:
    """Trials with parallel arms.

    Parameters
    ----------
    model : a model with its own values, or a fit
    arms : of :func:`arm`
    population : the people from whom each trial recruits, as ``nlme.virtual`` makes them or of a data set (its records do not count)
    times : of the observations; every endpoint of the model is observed at each, at the time of a dose before it and after it
    key : seed, an int or a JAX key
    trials : how many
    uncertainty : of the parameters, as of :func:`nlme.simulate`: each trial has a vector of its own
    dropout : {"hazard": 0.01}, {"probability": 0.2, "by": 84} or {"endpoint": "event"}, a time-to-event endpoint of the model
    noise, ode, executor : as of :func:`nlme.simulate`
    into : name of the compartment whose doses rules govern; the only one that is dosed by default

    Raises
    ------
    DataError
        No arms or two of one name, no people, another form of dropout; a rule that returns no decision.
    ModelError
        A number of trials that is none; a model whose subjects share the random effects of a site.
    """
    require_executor(executor)
    arms = tuple(arms) if isinstance(arms, (list, tuple)) else (arms,)
    if not arms or not all(isinstance(one, Arm) for one in arms):
        raise DataError("trial: arms are made with nlme.arm('100 mg', nlme.dose(100).every(24, n=7), n=50).")
    names = [one.name for one in arms]
    if len(set(names)) < len(names):
        raise DataError(f"trial: two arms have the same name ({', '.join(names)}).")
    if not isinstance(population, Population) or not len(population):
        raise DataError("trial: population is who is recruited, nlme.virtual(...) or a data set.")
    require_whole("nlme.trial", "trials", trials, 1)
    require_alike(model, population)
    own = model_of(model)
    pool = _pool(arms, population, times)
    among = Design(own, pool)
    if among.anatomy.by_site:
        raise ModelError(
            f"trial: {type(own).__name__} has random effects of a {among.anatomy.above}, and who of a trial shares them is not known."
        )
    for one in arms:
        _require_dropout(dropout if one.dropout is None else one.dropout, among.endpoints)
    slots = np.concatenate([np.arange(one.n) % len(population) + k * len(population) for k, one in enumerate(arms)])
    seats = tuple(dataclasses.replace(pool[int(s)], id=i + 1) for i, s in enumerate(slots))
    design = Design(own, dataclasses.replace(pool, subjects=seats))
    ode = ode or (model.method.ode if isinstance(model, Evaluated) else Tolerances())
    key = key_of(key)
    people = People(model, design, "new", drawn_parameters(model, uncertainty, trials, key))
    who = _recruited(jax.random.fold_in(key, _RECRUITING), trials, [one.n for one in arms], len(population))
    table = Table(design)
    arm_of = np.repeat(np.arange(len(arms)), [one.n for one in arms])
    places = who + arm_of * len(population)
    course = None
    if any(one.rule is not None for one in arms):
        groups = np.repeat(np.arange(len(arms)), len(population))
        governed = Governed(design, Doses(among, into), arm_of * len(population), groups)
        course = _course(arms, arm_of, governed, people, noise, ode)
    work = _Work(among, design, people, table, places, ode, noise, course)
    tasks = dict(enumerate(divided(design, trials, key, people.members is not None)))
    parts = list(in_order(carried_out(work, tasks, executor)))
    columns = [part.columns for part in parts]
    said = list(people.messages)
    if learned_terms(own):
        said.append(
            "Whether the trials ask a network outside of what its data visited is not looked at here; nlme.simulate says it."
        )
    left = _leaving(jax.random.fold_in(key, _LEAVING), arms, dropout, trials, table, design, columns)
    ledger = doses = None
    if course is not None:
        left = np.minimum(left, np.concatenate([part.left for part in parts]))
        ledger, doses = (_while_there(x, left, arms, arm_of) for x in course.tables(parts))
    return Trials(
        _framed(table, columns, left, arms, arm_of, population, who, dropout),
        arms,
        left,
        float(design.column("time").max()),
        ledger,
        doses,
        people.parameters,
        said,
    )


def _course(arms, arm_of: np.ndarray, governed: Governed, people: People, noise: bool, ode: Tolerances) -> Course:
    """The decisions of the arms that have a rule."""
    times = np.full((len(arm_of), max(len(one.decisions) for one in arms if one.rule is not None)), np.inf)
    rules = []
    for k, one in enumerate(arms):
        if one.rule is None:
            continue
        seats = np.flatnonzero(arm_of == k)
        times[seats, : len(one.decisions)] = one.decisions
        rules.append(Rule(one.rule, one.vectorised, seats))
    return Course(people, governed, times, rules, noise, ode)


def _while_there(table, left: np.ndarray, arms, arm_of: np.ndarray):
    """The rows of a table of decisions or doses before its subject left, with its arm."""
    import pandas as pd

    seat = table["ID"].to_numpy(int) - 1
    table.insert(1, "ARM", pd.Categorical.from_codes(arm_of[seat], [one.name for one in arms], ordered=True))
    return table[table["TIME"].to_numpy() <= left[table["REPLICATE"].to_numpy() - 1, seat]].reset_index(drop=True)


@dataclasses.dataclass(frozen=True, eq=False)
class _Work:
    """What is seen in some trials: called with a share of them.

    ``among`` holds everybody in every arm, ``recruits`` (trials, n) who of them is in each seat of ``design``; ``course`` are the decisions of
    rules, if there are any.
    """

    among: Design
    design: Design
    people: People
    table: Table
    recruits: np.ndarray
    ode: Tolerances
    noise: bool
    course: Course | None

    def __call__(self, share: Share) -> _Seen | Decided:
        drawn = self.people.drawn(share.rows)
        eta = self.people.effects(share.rows, share.draws, drawn)
        members = self.people.belonging(share.rows, share.shares, drawn, len(share.rows))
        if self.course is not None:
            batch = Batch(eta, members, drawn, None, share.errors, share.count)
            part = self.course.run(batch, int(share.rows[0]), self.recruits[share.rows])
            return dataclasses.replace(part, columns=_observed(part.columns))
        arrays = self.among.layout.recruited(self.recruits[share.rows].ravel())
        paths = system_keys(self.design.anatomy, share.errors) if self.noise else None
        at = Records(self.design, self.people.model, eta, self.ode, members, drawn, arrays, paths)
        return _Seen(_observed(self.table.columns(eta, at, share.errors if self.noise else None, share.count)))


class _Seen(NamedTuple):
    columns: dict[str, np.ndarray]


def _observed(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: columns[name] for name in ("IPRED", "DV")}


def _pool(arms: tuple[Arm, ...], population: Population, times: Any) -> Population:
    """Everybody in every arm, one arm after another."""
    subjects = []
    for one in arms:
        regimen = Regimen(()) if one.regimen is None else one.regimen
        subjects += list(population.with_doses(regimen).with_times(times, ties="both"))
    return dataclasses.replace(population, subjects=tuple(dataclasses.replace(s, id=i + 1) for i, s in enumerate(subjects)))


def _recruited(key, trials: int, sizes: list[int], people: int) -> np.ndarray:
    """(trials, n) who is recruited."""
    total = sum(sizes)
    if total > people:
        return np.asarray(jax.random.randint(key, (trials, total), 0, people))
    keys = jax.random.split(key, trials)
    return np.asarray(jax.jit(jax.vmap(lambda k: jax.random.permutation(k, people)[:total]))(keys))


def _require_dropout(given: Any, endpoints: Sequence[str]) -> None:
    form = "dropout is {'hazard': 0.01}, {'probability': 0.2, 'by': 84} or {'endpoint': 'event'}"
    if given is None:
        return
    if not isinstance(given, Mapping) or set(given) not in ({"hazard"}, {"probability", "by"}, {"endpoint"}):
        raise DataError(f"{form}; got {given!r}.")
    if "endpoint" in given and given["endpoint"] not in endpoints:
        raise DataError("dropout: " + name_error("endpoint", str(given["endpoint"]), endpoints))
    if not all(is_numeric(value) and np.ndim(value) == 0 for name, value in given.items() if name != "endpoint"):
        raise DataError(f"{form}, of numbers; got {given!r}.")
    if "hazard" in given and not (np.isfinite(given["hazard"]) and given["hazard"] >= 0):
        raise DataError(f"{form}; a hazard is a number from 0 on, got {given['hazard']!r}.")
    if "probability" in given and not (0 <= given["probability"] < 1 and given["by"] > 0):
        raise DataError(f"{form}; a probability is from 0 to 1 and its time positive, got {given!r}.")


def _leaving(key, arms, dropout, trials: int, table: Table, design: Design, parts) -> np.ndarray:
    """(trials, n) when each subject leaves."""
    numbers = np.asarray(jax.random.exponential(key, (trials, design.layout.n_subjects)))
    left, begin = np.full(numbers.shape, np.inf), 0
    for one in arms:
        own = slice(begin, begin + one.n)
        begin += one.n
        given = dropout if one.dropout is None else one.dropout
        if given is None:
            continue
        if "endpoint" in given:
            left[:, own] = _events(given["endpoint"], table, design, parts)[:, own]
            continue
        hazard = given["hazard"] if "hazard" in given else -math.log1p(-given["probability"]) / given["by"]
        left[:, own] = numbers[:, own] / hazard if hazard > 0 else np.inf
    return left


def _events(endpoint: str, table: Table, design: Design, parts) -> np.ndarray:
    """(trials, n) immediately before the record that tells of the first event of an endpoint, since the one before which it came."""
    subject, _, which = table.places
    own = np.flatnonzero(which == design.endpoints.index(endpoint))
    dv = np.concatenate([part["DV"][:, own] for part in parts])
    time = np.where(dv > 0, design.column("time")[table.row[own]], np.inf)
    first = np.full((len(dv), design.layout.n_subjects), np.inf)
    np.minimum.at(first, (slice(None), subject[own]), time)
    return np.nextafter(first, -np.inf, where=np.isfinite(first), out=first)


def _framed(table: Table, parts, left, arms, arm_of, population, who, dropout):
    import pandas as pd

    frame, (subject, _, _) = table.frame(parts), table.places
    codes = np.tile(arm_of[subject], len(left))
    frame.insert(1, "ARM", pd.Categorical.from_codes(codes, [one.name for one in arms], ordered=True))
    frame.insert(3, "PERSON", pd.Index(population.ids).take(who[:, subject].ravel()))
    time, gone = frame["TIME"].to_numpy(), left[:, subject].ravel()
    leaving = np.array([((dropout if one.dropout is None else one.dropout) or {}).get("endpoint", "") for one in arms])
    tells = (frame["ENDPOINT"].to_numpy(str) == leaving[codes]) & (frame["DV"].to_numpy() > 0)
    kept = (time <= gone) | (tells & (time <= np.nextafter(gone, np.inf)))
    frame = frame.drop(columns=["EVID", "MDV", "DVID"])
    return frame if kept.all() else frame[kept].reset_index(drop=True)
