"""Visual predictive checks: what was observed beside what the model says would have been, as a table.

For every stratum and bin of time, each quantity below of the n observations in it, and its median and central interval over R
simulated replicates of the same records:

| endpoint                      | quantities                                                                                    |
|-------------------------------|-----------------------------------------------------------------------------------------------|
| continuous                    | percentiles; where there is a limit of quantification, the fraction below (above) it           |
| categories                    | the fraction in each category                                                                 |
| counts                        | the mean, or the fraction in each of up to six classes of counts                              |
| time to an event, or several  | Kaplan-Meier survival, or the mean cumulative count, on a grid of times                        |

Sources: Holford (2005), PAGE 14, abstract 738; Karlsson & Holford (2008), PAGE 17, abstract 1434; Bergstrand et al. (2011),
doi:10.1208/s12248-011-9255-z.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from nlme.diagnostics.event_vpc import event_table
from nlme.diagnostics.percentiles import band, percentiles
from nlme.diagnostics.placed import Placed, corrected_values, place
from nlme.diagnostics.prediction_correction import CORRECTIONS
from nlme.diagnostics.replicated import Replicated, endpoint_of, observed_of, required_key, subjects_of, whole
from nlme.errors import DataError, ModelError
from nlme.observation.base import Law
from nlme.parameters.domains import is_numeric, is_probability
from nlme.tables.numbers import significant
from nlme.tables.shown import Panel, Shown

if TYPE_CHECKING:
    import pandas as pd

KINDS = ("continuous", "categorical", "count", "event", "events")
COLUMNS = ("STRATUM", "BIN", "FROM", "TO", "TIME", "N", "QUANTITY", "OBSERVED", "EXPECTED", "LOWER", "UPPER")
BELOW, ABOVE, MEAN = "below limit", "above limit", "mean"
_CLASSES = 6  # of counts


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class VPC(Shown):
    """A visual predictive check.

    Attributes
    ----------
    table : DataFrame, one row per stratum, bin and quantity: FROM, TO (edges of the bin), TIME (median in the bin), N, QUANTITY,
        OBSERVED, and of the simulations EXPECTED (median), LOWER, UPPER.  -inf: below the limit of quantification
    observations : DataFrame of what was compared: ID, TIME, DV, CENS, X (TIME or time after dose), STRATUM, BIN, SHOWN (DV, or
        corrected; the limit of what lies beyond one)
    kind : "continuous", "categorical", "count", "event" or "events"
    quantities, strata : in order
    level : of the bands
    time : "time" or "tad"
    correction : "", or how it is prediction-corrected
    limit : the lower limit of quantification where it is one number, else NaN
    messages : what was left out, in words
    parameters : rows of the fit's parameters, whose units name that of time; empty of a model
    """

    table: pd.DataFrame
    observations: pd.DataFrame
    endpoint: str
    kind: str
    quantities: tuple[str, ...]
    strata: tuple[str, ...]
    level: float
    replicates: int
    time: str = "time"
    correction: str = ""
    limit: float = np.nan
    messages: tuple[str, ...] = ()
    parameters: tuple = ()

    @property
    def beyond(self) -> tuple[str, ...]:
        """The quantities that are fractions beyond a limit of quantification."""
        return tuple(name for name in self.quantities if name in (BELOW, ABOVE))

    @property
    def inside(self) -> float:
        """Share of the observed quantities that lie within their bands; about ``level`` where the model is right."""
        found = self.table
        return float(((found["OBSERVED"] >= found["LOWER"]) & (found["OBSERVED"] <= found["UPPER"])).mean())

    def plot(self, units: Mapping[str, str] | None = None, **options):
        """The picture of :func:`nlme.plots.vpc`."""
        from nlme.plots.predictive import vpc

        return vpc(self, units=units, **options)

    def _panels(self):
        what = f"{'Prediction-corrected v' if self.correction else 'V'}isual predictive check of {self.endpoint}"
        title = f"{what}, {self.replicates} replicates, {100 * self.level:g} % bands"
        shown = [name for name in COLUMNS if name != "STRATUM" or len(self.strata) > 1]
        text = ("STRATUM", "QUANTITY")
        rows = [
            [v if n in text else f"{v:d}" if n in ("BIN", "N") else _cell(v) for n, v in zip(shown, row, strict=True)]
            for row in self.table[shown].itertuples(index=False)
        ]
        note = f"{100 * self.inside:.0f} % of the observed quantities lie within their bands."
        return [Panel(title, shown, rows, (note, *self.messages), tuple(shown.index(n) for n in text if n in shown))]

    def _exact(self):
        return self.table


def _cell(value: float) -> str:
    return {-np.inf: "< limit", np.inf: "> limit"}.get(value) or significant(value)


def vpc(
    model,
    population=None,
    *,
    key=None,
    replicates: int = 1000,
    endpoint: str | None = None,
    bins: str | int | Sequence[float] = "auto",
    percentiles: Sequence[float] = (5, 50, 95),
    level: float = 0.90,
    prediction_corrected: bool | str = False,
    variability_corrected: bool = False,
    lower_bound: float = 0.0,
    stratify: str | Sequence[str] | Mapping | None = None,
    time: str = "time",
    lloq=None,
    uloq=None,
    censored: str = "rank",
    kind: str | None = None,
    counts: str = "mean",
    simulations=None,
    uncertainty=None,
    ode=None,
) -> VPC:
    """A visual predictive check as a table, and its picture by ``.plot()``.

    Parameters
    ----------
    model : a fit, a model with its own values, or, with ``simulations``, the population alone
    population : the data; a fit's own by default
    key : seed, an int or a JAX key
    replicates : simulated data sets
    endpoint : which, where there are several
    bins : "auto" (by the times of the data, see :mod:`nlme.diagnostics.binning`), a number of bins, or their edges
    percentiles : of a continuous endpoint
    level : of the bands
    prediction_corrected : True or "proportional", or "additive" for data on a log scale (see
        :mod:`nlme.diagnostics.prediction_correction`)
    variability_corrected : also bring the variability of every record to that of its bin
    lower_bound : lowest value that a prediction can have, of the correction
    stratify : columns whose values are looked at apart: a name, several, or {"wt": [60, 80]} with the points that cut it
    time : "time", or "tad" for the time after the last dose
    lloq, uloq : limits of quantification, a number or the name of a column; by default those of the model or of the censored
        records
    censored : values beyond a limit, observed and simulated, "rank" below (above) all others, or are left out ("omit")
    kind : of an endpoint whose density is the model's own (``nlme.loglik``): "continuous", "categorical" or "count"
    counts : of a count, "mean" or "distribution"
    simulations : replicates made elsewhere, as :func:`nlme.npde` takes them
    uncertainty : of the parameters, as of :func:`nlme.simulate`: each replicate has a vector of its own.  A posterior's check is
        ``nlme.vpc(model, population, uncertainty=posterior, key=1)``, ``model`` the one that was sampled, and corrects by the
        predictions of :func:`nlme.posterior_estimate`
    ode : tolerances of the ODE solver; by default those of the fit's method

    Raises
    ------
    DataError
        No key, an unknown word, bins without observations, a stratum that the data do not have.
    ModelError
        A correction or simulations that this kind of endpoint does not have.
    """
    how = _correction(prediction_corrected, variability_corrected)
    _require(time, level, percentiles, censored, counts)
    model, population = subjects_of(model, population, simulations, uncertainty)
    endpoint, law = endpoint_of(model, population, endpoint)
    kind = _kind(law, kind, endpoint)
    if kind != "continuous" and how:
        raise ModelError(f"Prediction correction is for continuous endpoints; {endpoint} is {law.words}.")
    simulating = dict(ode=ode, uncertainty=uncertainty)
    settings = dict(endpoint=endpoint, kind=kind, level=level, replicates=replicates, time=time, correction=how)
    settings["parameters"] = tuple(getattr(model, "parameters", ()))
    if kind in ("event", "events"):
        if simulations is not None or time != "time":
            raise ModelError(f'{endpoint} is {law.words}: its check simulates events itself, in time="time".')
        count = whole("replicates", replicates, 2)
        return VPC(
            **settings, **event_table(model, population, endpoint, law, required_key(key), count, level, stratify, **simulating)
        )
    if how and model is None:
        raise ModelError("Prediction correction needs a fit or a model, whose typical subject it predicts.")
    found = place(observed_of(model, population, endpoint, law, lloq, uloq), stratify, time, bins)
    placed = found.simulated(key=key, replicates=replicates, simulations=simulations, **simulating)
    settings["replicates"] = len(placed.drawn)
    if how:
        placed = corrected_values(placed, how, variability_corrected, lower_bound)
    if censored == "omit" and (placed.checked.censored != 0).all():
        raise DataError(f'censored="omit" leaves no observation of {endpoint}: all lie beyond a limit of quantification.')
    measures = _measures(kind, law, placed.checked, percentiles, censored, counts)
    return VPC(
        **settings,
        **_compared(placed, measures, level),
        limit=_one_limit(placed.checked),
        messages=(*placed.messages, *placed.checked.messages),
    )


def _measures(kind: str, law: Law, checked: Replicated, shares, censored: str, counts: str) -> dict:
    """Quantities -> function of values (..., n) that gives one row (...) for each."""
    dv = checked.rows["DV"].to_numpy(dtype=float)
    if kind == "categorical":
        first, last = law.whole if law.whole else (dv.min(), dv.max())
        return {(f"P({k})",): _fraction_of(k, k) for k in range(int(first), int(last) + 1)}
    if kind == "count":
        return {(MEAN,): lambda values: values.mean(axis=-1)[None]} if counts == "mean" else _classes(dv)
    shares = np.ravel(np.asarray(shares, dtype=float))
    found = {tuple(f"{p:g} %" for p in shares): _percentiles(shares / 100.0, censored)}
    if np.isfinite(checked.lower).any():
        found[(BELOW,)] = lambda values: np.isneginf(values).mean(axis=-1)[None]
    if np.isfinite(checked.upper).any():
        found[(ABOVE,)] = lambda values: np.isposinf(values).mean(axis=-1)[None]
    return found


def _percentiles(shares: np.ndarray, censored: str):
    return lambda values: percentiles(values if censored == "rank" else np.where(np.isinf(values), np.nan, values), shares)


def _fraction_of(low: float, high: float):
    return lambda values: ((values >= low) & (values <= high)).mean(axis=-1)[None]


def _classes(dv: np.ndarray) -> dict:
    """Classes of counts that hold about equally many of the observed ones."""
    ends = np.unique(np.floor(np.quantile(dv, np.linspace(0, 1, _CLASSES)[:-1])))
    starts = np.unique(np.append(0.0, ends + 1.0)) if ends[0] == 0 else np.unique(np.append(0.0, ends))
    found = {}
    for low, after in zip(starts, [*starts[1:], np.inf], strict=True):
        word = f"≥ {low:g}" if np.isinf(after) else f"{low:g}" if after == low + 1 else f"{low:g}-{after - 1:g}"
        found[(f"P({word})",)] = _fraction_of(low, after - 1.0)
    return found


def _compared(placed: Placed, measures: dict, level: float) -> dict:
    """The table and the observations behind it."""
    import pandas as pd

    rows = []
    for s, stratum in enumerate(placed.strata):
        for b in np.unique(placed.bins[placed.stratum == s]):
            own = (placed.stratum == s) & (placed.bins == b)
            edges = placed.edges[s]
            head = (stratum, int(b) + 1, edges[b], edges[b + 1], float(np.median(placed.x[own])), int(own.sum()))
            for names, of in measures.items():
                lower, middle, upper = band(np.moveaxis(of(placed.drawn[:, own]), 0, -1), level)
                columns = zip(names, of(placed.observed[own]), middle, lower, upper, strict=True)
                rows += [(*head, name, *map(float, numbers)) for name, *numbers in columns]
    checked = placed.checked
    limit = np.where(checked.censored < 0, checked.lower, checked.upper)
    shown = checked.rows.assign(
        X=placed.x,
        STRATUM=np.array(placed.strata, dtype=object)[placed.stratum],
        BIN=placed.bins + 1,
        SHOWN=np.where(checked.censored == 0, placed.observed, limit),
    )
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return dict(
        table=table, observations=shown, quantities=tuple(name for names in measures for name in names), strata=placed.strata
    )


def _one_limit(checked: Replicated) -> float:
    found = np.unique(checked.lower)
    return float(found[0]) if len(found) == 1 and np.isfinite(found[0]) else np.nan


def _kind(law: Law, asked: str | None, endpoint: str) -> str:
    if law.of_events:
        own = law.link
    elif law.whole is not None:
        own = "categorical" if np.isfinite(law.whole[1]) else "count"
    else:
        own = "continuous"
    open_ = law.words in ("given", "a density of the model's own")
    if asked is None or asked == own:
        return own
    if asked not in ("continuous", "categorical", "count") or not open_:
        raise DataError(f"kind={asked!r}: {endpoint} is {law.words}, which is {own}.")
    return asked


def _correction(prediction_corrected, variability_corrected: bool) -> str:
    how = {True: "proportional", False: "", None: ""}.get(prediction_corrected, prediction_corrected)
    if how and how not in CORRECTIONS:
        raise DataError(
            f"prediction_corrected={prediction_corrected!r}: it is True, False, {' or '.join(map(repr, CORRECTIONS))}."
        )
    if variability_corrected and not how:
        raise DataError("variability_corrected goes with prediction_corrected=True.")
    return how


def _require(time: str, level: float, shares, censored: str, counts: str) -> None:
    for name, word, known in (
        ("time", time, ("time", "tad")),
        ("censored", censored, ("rank", "omit")),
        ("counts", counts, ("mean", "distribution")),
    ):
        if word not in known:
            raise DataError(f"{name}={word!r}: it is one of {', '.join(map(repr, known))}.")
    if not is_probability(level):
        raise DataError(f"level={level!r}: the level of the bands is between 0 and 1, such as 0.9.")
    given = np.asarray(shares, dtype=float).ravel() if is_numeric(shares) else np.empty(0)
    if not len(given) or not ((given > 0) & (given < 100)).all() or len(np.unique(given)) < len(given):
        raise DataError(f"percentiles={shares!r}: they are different numbers between 0 and 100, such as (5, 50, 95).")
