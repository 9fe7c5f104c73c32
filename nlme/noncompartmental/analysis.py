"""``nlme.nca``: every profile of a population analysed, as one table."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nlme.data.population import Population, values_by_subject
from nlme.errors import DataError, name_error
from nlme.noncompartmental.areas import RULES, require_rule
from nlme.noncompartmental.below import require_below
from nlme.noncompartmental.parameters import PARAMETERS, Analysed, Settings, analysed, partial_name, require_partial
from nlme.noncompartmental.profiles import ROUTES, Profile, profiles_of
from nlme.noncompartmental.summary import statistics
from nlme.noncompartmental.terminal import asked_by_profile
from nlme.noncompartmental.units import Units
from nlme.tables.numbers import fixed_point
from nlme.tables.shown import Panel, Shown, numbers_shown

if TYPE_CHECKING:
    import pandas as pd

_FAR = 20.0  # per cent extrapolated, above which an area says more of the terminal line than of the data
_POOR = 0.8  # adjusted R2
_PANELS = 4  # groups of the summary that are printed
_NAMED = 6  # subjects, and doses of one, that a message names
_ALIKE = 0.02  # two intervals, taken from actual times


@dataclass(frozen=True, eq=False, repr=False)
class NCA(Shown):
    """A non-compartmental analysis.  It prints its summary; ``to_csv`` writes the table, one row for each profile.

    Attributes
    ----------
    population : whose
    endpoint : of what
    profiles : what was found of each profile, with its curve and terminal line
    units : units of time, concentration and dose
    settings : rule, values below the limit, points of terminal lines, as asked for
    without : IDs of the subjects without a dose that has a sample after it; they have no row
    """

    population: Population
    endpoint: str
    profiles: tuple[Analysed, ...]
    given_units: Units
    settings: Settings
    without: tuple = ()

    @functools.cached_property
    def table(self) -> pd.DataFrame:
        """One row for each profile, in time after its dose: ID, PROFILE (number of the dose), KIND (single, multiple, steady state),
        ROUTE, TIME (of the dose), DOSE, DURATION, TAU, the parameters under WinNonlin's names, REASON (what is missing, and why)."""
        import pandas as pd

        rows = [self._row(found) for found in self.profiles]
        return pd.DataFrame(rows, columns=["ID", *_SAYS, *self.parameters, "REASON"])

    @functools.cached_property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters that some profile has, in the order of the table."""
        partial = [partial_name(*pair) for pair in self.settings.partial]
        known = {name for found in self.profiles for name in found.values}
        return tuple(name for name in [*PARAMETERS, *partial] if name in known or name in partial)

    @functools.cached_property
    def units(self) -> dict[str, str]:
        """Unit of each column of the table; "" where it is not known or there is none."""
        kinds = {name: PARAMETERS.get(name, ("auc", ""))[0] for name in self.parameters}
        kinds |= {"TIME": "time", "DOSE": "dose", "DURATION": "time", "TAU": "time"}
        return {name: self.given_units.unit(kind) for name, kind in kinds.items()}

    @property
    def reasons(self) -> pd.DataFrame:
        """What is missing, or was put in, and why: ID, PROFILE, WHAT, REASON."""
        import pandas as pd

        rows = [
            (found.profile.id, found.profile.number, what, why)
            for found in self.profiles
            for what, why in [*found.reasons, *(("", note) for note in found.notes)]
        ]
        rows += [(i, 0, "all", _NOTHING) for i in self.without]
        return pd.DataFrame(rows, columns=["ID", "PROFILE", "WHAT", "REASON"])

    @property
    def drawable(self) -> tuple[Analysed, ...]:
        """The profiles that have a concentration to draw."""
        return tuple(found for found in self.profiles if found.curve is not None)

    @functools.cached_property
    def messages(self) -> tuple[str, ...]:
        """What to know before these numbers are used."""
        said = [
            (self._where(lambda v: v.get("AUC_%Extrap_obs", 0) > _FAR), f"more than {_FAR:g} % of AUCINF is extrapolated"),
            (self._where(lambda v: v.get("Rsq_adjusted", 1) < _POOR), f"adjusted R2 of the terminal line is under {_POOR:g}"),
        ]
        missing = [found.profile for found in self.profiles if found.reasons]
        said.append((self._by_subject(missing), "some parameters are missing, see .reasons"))
        said.append(([f"subject {i}" for i in self.without], _NOTHING))
        return tuple(f"{_begun(_first(who))}: {words}." for who, words in said if who)

    def summary(self, by: str | None = None) -> pd.DataFrame:
        """Statistics of every parameter over the subjects.

        Columns: parameter, unit, n, missing, mean, sd, cv (100 sd / mean), median, min, max, geomean = exp(mean log),
        geocv = 100 sqrt(exp(var log) - 1), both only where all values are positive.

        Parameters
        ----------
        by : a column of the table (DOSE, KIND) or a covariate that is constant in every subject; where subjects have several
            profiles, by their number, too

        Raises
        ------
        DataError
            No such column or covariate, or one that changes in time.
        """
        frame = self.table
        groups = ["PROFILE"] if frame["PROFILE"].nunique() > 1 and by != "PROFILE" else []
        if by is not None:
            frame = frame if by in frame.columns else frame.assign(**{by: self._covariate(by)})
            groups = [by, *groups]
        return statistics(frame, self.parameters, self.units, groups)

    def _covariate(self, name: str) -> list:
        values = dict(zip(self.population.ids, values_by_subject(self.population, name, "by", "group"), strict=True))
        words = self.population.covariates[name].categories
        return [words[int(values[i])] if words else values[i] for i in self.table["ID"]]

    def _row(self, found: Analysed) -> dict[str, Any]:
        p = found.profile
        says = (p.number, found.kind, p.dose.route, p.dose.time, p.dose.amount, p.dose.duration, p.interval or np.nan)
        return {"ID": p.id, **dict(zip(_SAYS, says, strict=True)), **found.values, "REASON": found.reason}

    def _where(self, holds) -> list[str]:
        return self._by_subject([found.profile for found in self.profiles if holds(found.values)])

    def _by_subject(self, which: Iterable[Profile]) -> list[str]:
        """Each subject once, with the doses of these profiles where it has others."""
        numbers: dict[Any, list[str]] = {}
        for profile in which:
            numbers.setdefault(profile.id, []).append(str(profile.number))
        count = Counter(found.profile.id for found in self.profiles)
        doses = lambda own: f"dose{'s' if len(own) > 1 else ''} {_first(own)}"  # noqa: E731
        return [f"subject {i}" + (f" ({doses(own)})" if count[i] > 1 or own != ["1"] else "") for i, own in numbers.items()]

    def _panels(self) -> list[Panel]:
        frame = self.summary()
        title = f"Non-compartmental analysis of {self.endpoint}: {len(self.table)} profiles of {len(self.population)} subjects"
        notes = [f"Areas: {RULES[self.settings.rule]}.", *self.messages]
        if "PROFILE" not in frame:
            return [self._panel(frame, title, notes)]
        numbers = sorted(frame["PROFILE"].unique())
        shown = [self._panel(frame[frame["PROFILE"] == n], f"After dose {n}", []) for n in numbers[:_PANELS]]
        if len(numbers) > _PANELS:
            notes.insert(
                0, f"Of {len(numbers)} dose numbers with a profile the first {_PANELS} are shown; summary() has them all."
            )
        return [shown[0]._replace(title=f"{title}\n{shown[0].title}"), *shown[1:-1], shown[-1]._replace(notes=notes)]

    def _panel(self, frame: pd.DataFrame, title: str, notes: list[str]) -> Panel:
        """The parameters that somebody has."""
        frame = frame[frame["n"] > 0]
        shown = frame[["n", "mean", "sd", "cv", "median", "min", "max", "geomean", "geocv"]]
        shown = shown.assign(n=shown["n"].astype(str), **{c: [_percent(v) for v in shown[c]] for c in ("cv", "geocv")})
        shown.index = [
            name + (f" ({unit})" if unit else "") for name, unit in zip(frame["parameter"], frame["unit"], strict=True)
        ]
        shown.columns = ["n", "Mean", "SD", "CV %", "Median", "Min", "Max", "Geo mean", "Geo CV %"]
        return numbers_shown(shown, title, notes)

    def _exact(self) -> pd.DataFrame:
        return self.table.set_index("ID")


_NOTHING = "no dose with a sample after it"
_SAYS = ("PROFILE", "KIND", "ROUTE", "TIME", "DOSE", "DURATION", "TAU")


def nca(
    population: Population,
    endpoint: str | None = None,
    *,
    route: str | Mapping[Any, str] | None = None,
    rule: str = "linear-up log-down",
    lambda_z: Any = None,
    partial: Iterable[tuple[float, float]] = (),
    tau: float | None = None,
    steady_state: int | None = None,
    lloq: float | None = None,
    below: Mapping[str, Any] | str | float | None = None,
    units: Mapping[str, str] | None = None,
) -> NCA:
    """Non-compartmental analysis of every profile: areas, terminal slope, clearance, volumes, residence times, accumulation.

    A profile is what was sampled from one dose to the next; results are those of Phoenix WinNonlin under its names.  Formulas stand
    in ``nlme.noncompartmental``: ``profiles``, ``parameters``, ``areas``, ``terminal``.

    Parameters
    ----------
    population
        Data with doses (amounts, RATE or DUR of infusions, ADDL, II, SS).
    endpoint
        Which of several.
    route
        "extravascular" or "intravenous" for all doses, or a dict by compartment (the doses' CMT).  Infusions are intravenous unless
        it says otherwise; a dose that is given at once needs it.
    rule
        "linear-up log-down", "linear" or "linear log" (linear to Tmax, logarithmic after).
    lambda_z
        Points of the terminal line where they are not to be found: ``(from, to)`` or three or more times of samples, after the dose;
        a dict by ID, or by (ID, dose), says it for some.
    partial
        Partial areas, ``[(0, 12), (0, 24)]`` in time after the dose.
    tau
        Dosing interval; otherwise II, else the time between doses.
    steady_state
        Number of the dose from which on subjects are at steady state; otherwise SS says it.
    lloq
        Limit of quantification: values under it are below the limit, besides those with CENS 1 (whose DV is the limit).
    below
        What stands there: "zero", "missing", "half" (of the limit), "limit" or a concentration; for all, or by place
        ``{"before": "zero", "between": "missing", "first after": "missing", "after": "missing"}`` (these are the defaults): before
        the first measured concentration, between two, the first one after the last, later ones.
    units
        ``{"time": "h", "conc": "mg/L", "dose": "mg"}``; see ``nlme.noncompartmental.units``.

    Returns
    -------
    NCA
        ``.table``, ``.summary()``, ``.units``, ``.reasons``, ``.messages``.

    Raises
    ------
    DataError
        Several endpoints and none asked for, a dose whose route is not known, two samples at one time, a negative concentration, an
        option that means nothing; the subject is named.
    """
    if not isinstance(population, Population):
        raise DataError(f"nca needs a Population (nlme.read_nonmem), got {type(population).__name__}.")
    chosen = _endpoint(population, endpoint)
    known = Units.of(units, chosen)
    settings = Settings(
        require_rule(rule), require_below(below), asked_by_profile(lambda_z, population.ids), require_partial(partial),
        _whole(steady_state), known.factor,
    )  # fmt: skip
    routes = _require_route(route)
    tau, lloq = _positive("tau", tau), _positive("lloq", lloq)
    found: list[Analysed] = []
    for subject in population:
        own = profiles_of(subject, population.endpoints.index(chosen), routes, tau, lloq)
        found += _with_accumulation([analysed(profile, settings) for profile in own])
    without = [i for i in population.ids if i not in {a.profile.id for a in found}]
    if not found:
        raise DataError(
            f"No subject has a dose with a sample of {chosen!r} after it. Add doses to the data (AMT, EVID 1), or "
            "population.with_doses(nlme.dose(320))."
        )
    return NCA(population, chosen, tuple(found), known, settings, tuple(without))


def _with_accumulation(found: list[Analysed]) -> list[Analysed]:
    """Ratios of later profiles to that of the first dose."""
    first = next((a for a in found if a.profile.begins), None)
    for later in found:
        if first is None or later is first or later.kind == "single" or "AUC_TAU" not in later.values:
            continue
        a, b = first.profile, later.profile
        if "AUC_TAU" not in first.values:
            later.reasons.append(("AR_AUC", f"dose {a.number} has no AUC_TAU"))
        elif not (np.isclose(a.dose.amount, b.dose.amount) and np.isclose(a.interval, b.interval, rtol=_ALIKE)):
            later.reasons.append(("AR_AUC and AR_Cmax", f"dose {a.number} has another amount or interval"))
        else:
            later.values["AR_AUC"] = later.values["AUC_TAU"] / first.values["AUC_TAU"]
            later.values["AR_Cmax"] = later.values["Cmax"] / first.values["Cmax"]
    return found


def _endpoint(population: Population, asked: str | None) -> str:
    if asked is None and len(population.endpoints) == 1:
        return population.endpoints[0]
    if asked is None:
        raise DataError(f"Which endpoint is analysed? The population has: {', '.join(population.endpoints)}.")
    if asked not in population.endpoints:
        raise DataError(name_error("endpoint", str(asked), population.endpoints, "The population"))
    return asked


def _require_route(route: Any) -> Any:
    given = route.values() if isinstance(route, Mapping) else () if route is None else (route,)
    for value in given:
        if value not in ROUTES:
            raise DataError(f"route: {' or '.join(map(repr, ROUTES))}, or one for each compartment of the doses; got {value!r}.")
    return route


def _positive(name: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not 0 < value < np.inf:
        raise DataError(f"{name}: a number above 0, got {value!r}.")
    return float(value)


def _whole(steady_state: Any) -> int | None:
    if steady_state is None:
        return None
    whole = isinstance(steady_state, (int, np.integer)) and not isinstance(steady_state, bool)
    if not whole or steady_state < 1:
        raise DataError(f"steady_state: the number of the dose from which on it holds (1, 2, ...), got {steady_state!r}.")
    return int(steady_state)


def _first(names: list[str]) -> str:
    """At most six of them."""
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")


def _begun(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]


def _percent(value: float) -> str:
    return fixed_point(float(value))
