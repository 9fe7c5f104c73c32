"""Counterfactuals: what another regimen would have done to the same people.

Every person keeps its own random effects, of which draws are taken given its data (``nlme.simulation.individual_draws``), and (with
``uncertainty=``) so are the parameters.  Draw d of person i under regimen A and under the baseline B differ in nothing but the doses:

    difference_id = m(A; theta_d, eta_id) - m(B; theta_d, eta_id),        ratio_id = m(A; ...) / m(B; ...)

with m a measure of ``nlme.exposure`` on the noise-free course.  A person's interval holds ``level`` of its draws.  The population's mean
difference (geometric mean of ratios) is taken over the persons within each draw.  The mode alone (``individuals="mode"``) is one point of a
person's distribution and says nothing of how sure it is.

Sources: Rubin (1974), doi:10.1037/h0037350 (potential outcomes of the same unit); Pearl (2009), Causality, ch. 7 (abduction, action,
prediction).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from nlme.data.population import Population
from nlme.data.regimen import Regimen
from nlme.dynamics.solvers import Tolerances
from nlme.errors import DataError, FitError, name_error
from nlme.fitting.evaluated import Evaluated
from nlme.keys import key_of
from nlme.parameters.domains import is_probability, require_whole
from nlme.simulation.exposure import Courses, _interval, _measures
from nlme.simulation.individual_draws import individual_draws, modes_at
from nlme.simulation.parameters import Uncertain, drawn_parameters
from nlme.simulation.predict import effects_among, members_of
from nlme.simulation.records import Design, Records
from nlme.simulation.region import watch
from nlme.tables.shown import Panel, Shown, numbers_shown

INDIVIDUALS = ("draws", "mode")
BASELINE = "baseline"


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Counterfactual(Shown):
    """The same people under other regimens.

    Attributes
    ----------
    persons : DataFrame by SCENARIO, MEASURE and ID: median under the baseline and under the scenario, difference and ratio with lower and upper
    population : DataFrame by SCENARIO and MEASURE: means over persons and draws under the baseline and under the scenario, their difference
        and the geometric mean ratio, each with lower and upper (of the draws' means over the persons)
    courses : DataFrame SCENARIO, ID, TIME: median, lower, upper of the course
    draws : DataFrame REPLICATE, SCENARIO, ID and the measures, one row a draw
    extrapolates : DataFrame of where a network is asked outside of what the data visited, with SCENARIO; None without networks
    words, messages : where the draws come from, and what there is to say
    """

    persons: Any
    population: Any
    courses: Any
    draws: Any
    level: float
    endpoint: str
    words: str
    extrapolates: Any = None
    messages: list[str] = dataclasses.field(default_factory=list)

    def _exact(self):
        return self.persons.reset_index()

    def _panels(self) -> list[Panel]:
        table = self.population.copy()
        table.index = [f"{scenario}: {measure}" for scenario, measure in table.index]
        count = self.persons.index.get_level_values("ID").nunique()
        notes = [
            f"{count} persons, each under both; intervals hold {self.level:.0%}. {self.words}",
            "Baseline, value and difference: arithmetic means over the persons; ratio: geometric mean of the persons' ratios.",
            *self.messages,
        ]
        return [numbers_shown(table, "Counterfactual: against the baseline", notes, index="Scenario")]


def counterfactual(
    fit: Evaluated,
    regimens: Any,
    *,
    times: Any,
    key,
    baseline: Regimen | Population | None = None,
    measures: Any = ("cmax", "auc", "ctrough"),
    interval: tuple[float, float] | None = None,
    endpoint: str | None = None,
    draws: int = 200,
    uncertainty=None,
    individuals: str = "draws",
    level: float = 0.9,
    rule: str = "linear",
    ode: Tolerances | None = None,
) -> Counterfactual:
    """Paired differences between regimens in the people of a fit, with intervals.

    Parameters
    ----------
    fit : of :func:`nlme.fit` (or an evaluation)
    regimens : a regimen (``nlme.dose``), a population of the same people, or a dict from name to one of these
    times : at which the courses are wanted, numbers or a function of the subject; they are looked at before and after every dose between
        these, too
    key : seed, an int or a JAX key
    baseline : what they are compared with; the doses in the data by default
    measures, interval, rule : as of :func:`nlme.exposure`
    endpoint : by default the only one
    draws : of every person's random effects
    uncertainty : of the parameters, as of :func:`nlme.simulate`: draw d has a vector of its own, and the person's effects given it
    individuals : "draws" of each person's distribution, or "mode", which has no uncertainty of its own
    level : of the intervals

    Raises
    ------
    DataError
        No regimen, times that do not cover the interval, an unknown endpoint or measure.
    ModelError
        A model without random effects, or whose subjects share those of a site.
    FitError
        An uncertainty that the fit does not have.
    """
    if not isinstance(fit, Evaluated):
        raise FitError(f"counterfactual takes a fit, whose people have data of their own; got {type(fit).__name__}.")
    if individuals not in INDIVIDUALS:
        raise DataError(f"individuals is 'draws' or 'mode'; got {individuals!r}.")
    if not is_probability(level):
        raise DataError(f"level is a probability between 0 and 1, for example 0.9; got {level!r}.")
    require_whole("nlme.counterfactual", "draws", draws, 2)
    scenarios, asked = _scenarios(fit, regimens, baseline, times), _measures(measures)
    key = key_of(key)
    uncertain = drawn_parameters(fit, uncertainty, draws, key)
    people = _people(fit, individuals, draws, key, uncertain)
    found, courses, said, watched = {}, {}, list(people.messages), {}
    for name, population in scenarios.items():
        design = Design(fit.model, population)
        design.anatomy.require_certain("A comparison of courses", fit.model)
        which = _endpoint(design, endpoint)
        course, outside = _courses(fit, design, population, people, which, ode or fit.method.ode)
        whole = (float(course.first.max()), float(course.last.min())) if interval is None else _interval(interval, "interval")
        found[name] = {m: _values(course, what, whole, rule) for m, what in asked.items()}
        courses[name] = course
        if outside is not None:
            watched[name] = outside
    for m, (what, _, own) in asked.items():
        if what in ("auc", "cavg"):
            said += [
                f"{name}: {w}" for name in courses for w in courses[name].roughness(m, *(whole if own is None else own), rule)
            ]
    out = _outside(watched)
    said += [] if out is None or not len(out) else [_warning(out)]
    ids, shape = list(fit.population.ids), (people.count, len(fit.population))
    return Counterfactual(
        _persons(found, ids, shape, level),
        _population(found, shape, level),
        _bands(courses, ids, shape, level),
        _frame(found, ids, shape),
        level,
        which,
        people.words,
        out,
        said,
    )


def _scenarios(fit: Evaluated, regimens: Any, baseline: Any, times: Any) -> dict[str, Population]:
    given = dict(regimens) if isinstance(regimens, Mapping) else {"scenario": regimens}
    if not given:
        raise DataError("counterfactual: regimens= has none.")
    if BASELINE in given:
        raise DataError(f"counterfactual: a scenario is called {BASELINE!r}; give it as baseline=.")
    found = {}
    for name, one in {BASELINE: fit.population if baseline is None else baseline, **given}.items():
        if isinstance(one, Regimen):
            one = fit.population.with_doses(one)
        if not isinstance(one, Population):
            raise DataError(
                f"counterfactual: {name!r} is a regimen, nlme.dose(...), or a population of the same people; got {one!r}."
            )
        if one.ids != fit.population.ids:
            raise DataError(f"counterfactual: {name!r} must have the people of the fit, in their order.")
        found[str(name)] = _followed(one, times)
    return found


def _followed(population: Population, times: Any) -> Population:
    """The people looked at at these times, and before and after every dose between them, where a course may jump."""

    def with_doses(s):
        asked, given = s.time[s.evid == 2], s.time[s.is_dose]
        between = given[(given >= asked.min(initial=np.inf)) & (given <= asked.max(initial=-np.inf))]
        return np.union1d(asked, between)

    spread = population.with_times(times, ties="observation first")
    for s in spread:
        if not (s.evid == 2).any():
            raise DataError(f"counterfactual: times= has none for subject {s.id!r}; give those at which the courses are wanted.")
    return population.with_times({s.id: with_doses(s) for s in spread}, ties="both")


@dataclasses.dataclass(frozen=True, eq=False)
class _People:
    """Random effects (D, N, q) of the fit's people, their subpopulations (D, N), and the parameters of each draw."""

    eta: np.ndarray
    members: np.ndarray | None
    uncertain: Uncertain | None
    names: list[str]
    words: str
    messages: list[str]

    @property
    def count(self) -> int:
        return len(self.eta)


def _people(fit: Evaluated, individuals: str, draws: int, key, uncertain: Uncertain | None) -> _People:
    said = [] if uncertain is None else list(uncertain.messages)
    sure = "the estimates are taken as known" if uncertain is None else f"parameters from the {uncertain.words}"
    names = list(fit.effects)
    members = members_of(fit, fit.population)
    if individuals == "mode":
        eta = fit.eta.to_numpy()[None]
        if uncertain is not None:
            eta, more = modes_at(fit, uncertain.drawn)
            said += more
        members = None if members is None else np.tile(members, (len(eta), 1))
        return _People(eta, members, uncertain, names, f"Random effects at their modes; {sure}.", said)
    if uncertain is not None and uncertain.people is not None:
        eta, members = uncertain.people.among(fit, fit.population)
        return _People(eta, members, uncertain, names, f"Random effects and {sure}.", said)
    found = individual_draws(fit, draws, key, None if uncertain is None else uncertain.drawn)
    members = None if members is None else found.members
    words = f"{draws} draws of each person's random effects given its data; {sure}."
    return _People(found.eta, members, uncertain, names, words, said + found.messages)


def _endpoint(design: Design, endpoint: str | None) -> str:
    if endpoint is None and len(design.endpoints) > 1:
        raise DataError(f"The model has the endpoints {', '.join(design.endpoints)}: say endpoint=.")
    if endpoint is not None and endpoint not in design.endpoints:
        raise DataError(name_error("endpoint", endpoint, design.endpoints))
    return endpoint or design.endpoints[0]


def _courses(fit: Evaluated, design: Design, population, people: _People, endpoint: str, ode: Tolerances):
    """The courses of every draw and person, and where networks are asked outside of the data."""
    import pandas as pd

    eta = effects_among(fit, population, people.eta, fit.population.ids, people.names)
    size, parts, watched = design.batch(people.count), [], watch(fit, design)
    for begin in range(0, people.count, size):
        rows = np.minimum(begin + np.arange(size), people.count - 1)
        count = min(size, people.count - begin)
        members = None if people.members is None else people.members[rows]
        drawn = None if people.uncertain is None else people.uncertain.drawn.some(rows)
        at = Records(design, fit.model, eta[rows], ode, members, drawn)
        parts.append(at.outputs[endpoint][:count])
        if watched is not None:
            watched.see(eta[rows][:count], at.states[:count], members, drawn)
    asked = design.column("evid") == 2
    values, subject = np.concatenate(parts)[:, asked], design.subject[asked]
    lengths = np.bincount(subject, minlength=len(population))
    place = np.arange(len(subject)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    time = np.full((len(population), lengths.max()), np.nan)
    value = np.full((people.count, *time.shape), np.nan)
    time[subject, place], value[:, subject, place] = design.column("time")[asked], values
    ids = np.tile(np.array(population.ids, dtype=object), people.count)
    who = pd.DataFrame({"REPLICATE": np.repeat(np.arange(1, people.count + 1), len(population)), "ID": ids})
    flat = Courses(who, np.tile(time, (people.count, 1)), value.reshape(-1, time.shape[1]))
    return flat, None if watched is None else watched.table(people.count)


def _values(course: Courses, what: tuple, whole: tuple[float, float], rule: str) -> np.ndarray:
    word, level, own = what
    a, b = whole if own is None else own
    course.covered(a, b, True)
    return course.each(word, a, b) if callable(word) else course.measure(word, level, a, b, rule)


def _persons(found: dict, ids: list, shape: tuple[int, int], level: float):
    import pandas as pd

    tails, rows = [(1 - level) / 2, (1 + level) / 2], []
    for name in [name for name in found if name != BASELINE]:
        for measure, values in found[name].items():
            there, base = values.reshape(shape), found[BASELINE][measure].reshape(shape)
            with np.errstate(divide="ignore", invalid="ignore"):
                ratio = np.where(base != 0, there / base, np.nan)
            columns = {"baseline": np.median(base, axis=0), "value": np.median(there, axis=0)}
            for word, paired in (("difference", there - base), ("ratio", ratio)):
                columns[word] = np.median(paired, axis=0)
                columns[f"{word}.lower"], columns[f"{word}.upper"] = np.quantile(paired, tails, axis=0)
            rows.append(pd.DataFrame({"SCENARIO": name, "MEASURE": measure, "ID": ids} | columns))
    return pd.concat(rows).set_index(["SCENARIO", "MEASURE", "ID"])


def _population(found: dict, shape: tuple[int, int], level: float):
    import pandas as pd

    tails, rows = [(1 - level) / 2, (1 + level) / 2], []
    for name in [name for name in found if name != BASELINE]:
        for measure, values in found[name].items():
            there, base = values.reshape(shape), found[BASELINE][measure].reshape(shape)
            difference = (there - base).mean(axis=1)
            positive = bool(np.all(base > 0) and np.all(there > 0))
            ratio = np.exp(np.log(there / base).mean(axis=1)) if positive else np.full(shape[0], np.nan)
            row = {"SCENARIO": name, "MEASURE": measure, "baseline": base.mean(), "value": there.mean()}
            for word, paired, middle in (
                ("difference", difference, difference.mean()),
                ("ratio", ratio, np.exp(np.log(ratio).mean())),
            ):
                low, high = np.quantile(paired, tails)
                row |= {word: middle, f"{word}.lower": low, f"{word}.upper": high}
            rows.append(row)
    return pd.DataFrame(rows).set_index(["SCENARIO", "MEASURE"])


def _bands(courses: dict[str, Courses], ids: list, shape: tuple[int, int], level: float):
    import pandas as pd

    tails, parts = [(1 - level) / 2, 0.5, (1 + level) / 2], []
    for name, course in courses.items():
        low, middle, high = np.quantile(course.value.reshape(*shape, -1), tails, axis=0)
        time = course.time[: shape[1]]
        real = np.isfinite(time)
        who = np.broadcast_to(np.array(ids, dtype=object)[:, None], time.shape)[real]
        parts.append(
            pd.DataFrame(
                {"SCENARIO": name, "ID": who, "TIME": time[real], "median": middle[real], "lower": low[real], "upper": high[real]}
            )
        )
    return pd.concat(parts, ignore_index=True)


def _frame(found: dict, ids: list, shape: tuple[int, int]):
    import pandas as pd

    parts = []
    for name, measures in found.items():
        who = {
            "REPLICATE": np.repeat(np.arange(1, shape[0] + 1), shape[1]),
            "SCENARIO": name,
            "ID": np.tile(np.array(ids, dtype=object), shape[0]),
        }
        parts.append(pd.DataFrame(who | measures))
    return pd.concat(parts, ignore_index=True)


def _outside(watched: dict):
    import pandas as pd

    if not watched:
        return None
    return pd.concat([table.assign(SCENARIO=name) for name, table in watched.items()], ignore_index=True)


def _warning(out) -> str:
    scenarios, networks = ", ".join(dict.fromkeys(out.SCENARIO)), ", ".join(dict.fromkeys(out.network))
    return (
        f"{networks} is asked outside of what the data visited for {out.ID.nunique()} persons (under {scenarios}): there it is what its "
        f"form makes of it. .extrapolates lists where."
    )
