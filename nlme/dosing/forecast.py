"""Bayesian forecasting: what a few samples say of one patient, and what follows at later times or under further doses.

    eta_d ~ p(eta | y of this patient, theta),  d = 1..D          (``nlme.posterior.individual``)
    f_jd = prediction at time t_j with eta_d,   y_jd ~ p(y_j | f_jd)

Bands are quantiles over d: of f, where the patient's own curve is; of y, where a new observation would be.  The population
parameters theta are those of the model, as published or estimated; their uncertainty is not in the bands.

An endpoint whose records have a memory goes on from the patient's own: y_jd is drawn from p(y_j | y, f_jd).  Residuals that are
correlated in time start from the last residual there was (between two samples, from both).  Of an event f_jd is the probability of none
by t_j given what is known, exp(-(H(t_j) - H(t_i))) after a last record t_i without one; of repeated events the number expected by t_j,
those known counted; and y_jd says whether there is one since the record before, known or asked for.

Sources: Sheiner, Beal, Rosenberg & Marathe (1979), Clin Pharmacol Ther 26:294, doi:10.1002/cpt1979263294 (forecasting from feedback
of plasma concentrations); Maier, de Wiljes, Hartung, Kloft & Huisinga (2022), CPT Pharmacometrics Syst Pharmacol 11:484,
doi:10.1002/psp4.12770 (the full posterior instead of its mode).
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from nlme.data.designs import records_to_predict, redesigned
from nlme.data.population import Population
from nlme.data.regimen import Regimen
from nlme.dynamics.solvers import Tolerances
from nlme.errors import DataError, FitError
from nlme.fitting.result import Evaluated
from nlme.keys import key_of
from nlme.language.model import Model
from nlme.parameters.domains import require_whole
from nlme.posterior.individual import IndividualPosterior, individual_posterior, told
from nlme.simulation.records import Design, Records
from nlme.simulation.region import outside_of, outside_said

if TYPE_CHECKING:
    import pandas as pd


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Forecast:
    """What is expected of each patient.

    Attributes
    ----------
    frame : DataFrame, one row per patient, time and endpoint, two at a dose: ID TIME ENDPOINT; AT_DOSE "before", "after" or "";
        MEDIAN LOWER UPPER of the patient's own prediction;
        DV_LOWER DV_UPPER of a new observation (NaN after the only event)
    level : of the bands
    curves : (D, rows) predictions of every draw, in the rows of ``frame``
    posterior : the draws of the patient's random effects, with what they are worth
    observed : DataFrame of the samples that were used: ID TIME ENDPOINT DV
    extrapolates : DataFrame with REPLICATE (of some of the draws), ID, TIME and network of the records at which a network of the fit is
        asked outside of what its data visited; None where there is no network or no fit
    """

    frame: pd.DataFrame
    level: float
    curves: np.ndarray
    posterior: IndividualPosterior
    observed: pd.DataFrame
    extrapolates: pd.DataFrame | None = None

    @property
    def table(self) -> pd.DataFrame:
        return self.frame

    @property
    def messages(self) -> list[str]:
        """What speaks against the forecast, in words."""
        return [*outside_said(self.extrapolates, "forecast"), *self.posterior.messages]

    def __repr__(self) -> str:
        samples = ", ".join(f"{i}: {int((self.observed.ID == i).sum())}" for i in self.posterior.population.ids[:5])
        more = " ..." if len(self.posterior.population) > 5 else ""
        head = (
            f"Forecast from samples of {samples}{more}; medians and {100 * self.level:.6g} % bands of {len(self.curves)} draws, of the "
            f"patient's prediction and of a new observation (DV)"
        )
        return "\n".join([head, self.frame.to_string(index=False), *(f"  ! {m}" for m in self.messages)])


def forecast(
    model: Model | Evaluated,
    patient: Population,
    *,
    times,
    key,
    doses: Regimen | None = None,
    draws: int = 1000,
    level: float = 0.9,
    ode: Tolerances | None = None,
) -> Forecast:
    """The posterior of a patient's parameters from a few samples, and bands for what comes.

    Parameters
    ----------
    model : a model with its own values (a published one), or a fit
    patient : one patient or several, with the doses and samples so far
    times : when to predict: numbers, a dict from ID to numbers, or a function of the subject; at a dose before it and after it
    key : seed, an int or a JAX key
    doses : further doses, at times on the patient's clock, none before the last sample: ``nlme.dose(100, time=48).every(24, n=3)``
    draws : of each patient's random effects
    level : of the bands
    ode : tolerances of the ODE solver

    Raises
    ------
    DataError
        Times or doses that cannot be placed; a level that is no probability.
    ModelError, FitError
        As :func:`nlme.individual_posterior`.
    """
    require_whole("nlme.forecast", "draws", draws, 2)
    if not 0.0 < level < 1.0:
        raise DataError(f"nlme.forecast: level is a probability between 0 and 1, for example 0.9; got {level!r}.")
    if not isinstance(patient, Population):
        raise DataError(f"nlme.forecast: the patient is a Population, as nlme.read_nonmem returns; got {type(patient).__name__}.")
    key = key_of(key)
    eta_key, errors, fresh = jax.random.split(key, 3)
    own, _, tolerances = told(model, patient, ode, "nlme.forecast")
    design = Design(own, with_asked(with_further(patient, doses), times))
    design.anatomy.require_certain("nlme.forecast", own)
    found = individual_posterior(own, patient, draws=draws, key=eta_key, ode=tolerances)
    eta = effects_later(found, design, fresh)
    predicted, observed, outside = _at_records(model, design, own, eta, found.members, tolerances, errors)
    return Forecast(*_bands(design, predicted, observed, level), found, _observed(patient, design.endpoints), outside)


def with_further(patient: Population, doses: Regimen | None) -> Population:
    """The patient with further doses beside those in the data.

    Raises
    ------
    DataError
        No regimen; a dose before the patient's last sample, which shows that it was not given.
    """
    if doses is None:
        return patient
    if not isinstance(doses, Regimen):
        raise DataError(f"Further doses are a regimen: nlme.dose(100, time=48).every(24, n=3); got {doses!r}.")

    def of(s):
        records, last = doses.records(s), max(s.time[s.is_observation], default=-np.inf)
        if min(records["time"], default=np.inf) < last:
            raise DataError(
                f"Subject {s.id!r}: a further dose at {min(records['time']):g} comes before the last sample at {last:g}, which was taken "
                "without it. A dose that was given belongs into the patient's data; further ones are at the last sample or later."
            )
        return redesigned(s, np.ones(len(s), bool), records, "dose first", "further doses", patient.covariates)

    return dataclasses.replace(patient, subjects=tuple(map(of, patient)))


def with_asked(patient: Population, times) -> Population:
    """The patient with all that was done and observed, and records to predict (EVID 2) at ``times`` in place of those there were.

    At the time of a dose there are two, one before it and one after it; one at the time of a sample comes after it.
    """

    def of(s, at):
        kept = (s.evid != 2) | s.is_switch
        s = redesigned(s, kept, records_to_predict(at[:0]), "observation first", *which)  # ADDL written out
        done = np.isin(at, s.time[s.is_dose | s.is_switch | (s.evid == 3)])
        again = ~done | np.isin(at, s.time[s.is_dose])
        s = redesigned(s, np.ones(len(s), bool), records_to_predict(at[done]), "observation first", *which)
        return redesigned(s, np.ones(len(s), bool), records_to_predict(at[again]), "dose first", *which)

    which = "nlme.forecast", patient.covariates
    asked = (s.time[(s.evid == 2) & ~s.is_switch] for s in patient.with_times(times))
    return dataclasses.replace(patient, subjects=tuple(map(of, patient, asked)))


def effects_later(found: IndividualPosterior, design: Design, key) -> np.ndarray:
    """(D, N, q) the drawn random effects in the order of the design; those of an occasion that had no data are new draws."""
    anatomy, n = design.anatomy, len(found.population)
    known = {name: found.eta[:, :, k] for k, name in enumerate(found.effects)}
    if all(name in known for name in anatomy.effects):
        return np.stack([known[name] for name in anatomy.effects], axis=-1).swapaxes(0, 1)
    draws = found.eta.shape[1]
    new = np.array(jax.random.normal(key, (draws, n, len(anatomy.effects)))) @ np.asarray(anatomy.cholesky(found.model)).T
    for k, name in enumerate(anatomy.effects):
        if name in known:
            new[:, :, k] = known[name].T
    return new


def _at_records(fit, design: Design, model: Model, eta: np.ndarray, members, ode: Tolerances, key):
    """Endpoint -> (D, n) predictions and new observations at every record, given the patient's own observations, and where networks of
    the fit are asked outside of what its data visited."""
    names, draws = design.endpoints, len(eta)
    known = [design.observations(name) for name in names]
    asked = [design.column("evid") == 2] * len(names)
    size, parts = design.batch(draws), []
    keys = jax.random.split(key, (-(-draws // size), size, len(names)))
    outside = None
    for k, begin in enumerate(range(0, draws, size)):
        rows = np.minimum(np.arange(begin, begin + size), draws - 1)  # of the last batch some more than once
        kinds = None if members is None else members.T[rows]
        at = Records(design, model, eta[rows], ode, kinds, known=known)
        parts.append((at.outputs, at.draw(names, asked, keys[k])))
        if not begin:
            outside = outside_of(fit, design, eta[rows], kinds, ode, at)
    return *({name: np.concatenate([p[way][name] for p in parts])[:draws] for name in names} for way in (0, 1)), outside


def _bands(design: Design, predicted: dict[str, Any], observed: dict[str, Any], level: float):
    """(frame, level, curves)."""
    import pandas as pd

    rows, tails = design.column("evid") == 2, [0.5 - 0.5 * level, 0.5 + 0.5 * level]
    frames, curves = [], []
    for name in design.endpoints:
        own, new = predicted[name][:, rows], observed[name][:, rows]
        if not np.isfinite(own).all():
            raise FitError(f"The prediction of {name!r} is not a finite number for some draws; look at the times and the model.")
        low, middle, high = np.quantile(own, [tails[0], 0.5, tails[1]], axis=0)
        some = np.isfinite(new).any(axis=0)
        new_low, new_high = np.full((2, new.shape[1]), np.nan)
        new = new[:, some]
        whole = np.isfinite(new).all()  # np.nanquantile goes column by column
        new_low[some], new_high[some] = (np.quantile if whole else np.nanquantile)(new, tails, axis=0)
        frames.append(
            pd.DataFrame(
                {
                    "ID": design.ids[rows],
                    "TIME": design.column("time")[rows],
                    "ENDPOINT": name,
                    "MEDIAN": middle,
                    "LOWER": low,
                    "UPPER": high,
                    "DV_LOWER": new_low,
                    "DV_UPPER": new_high,
                }
            )
        )
        curves.append(own)
    frame = pd.concat(frames, ignore_index=True)
    keys = ["ID", "TIME", "ENDPOINT"]
    twice, again = frame.duplicated(keys, keep=False), frame.duplicated(keys)
    frame.insert(3, "AT_DOSE", np.where(twice, np.where(again, "after", "before"), ""))
    return frame, level, np.concatenate(curves, axis=1)


def _observed(patient: Population, endpoints: tuple[str, ...]):
    """The samples, their endpoints called as the model calls them (where both have one the names need not agree)."""
    import pandas as pd

    names = endpoints if len(endpoints) == len(patient.endpoints) == 1 else patient.endpoints
    rows = [
        {"ID": s.id, "TIME": float(s.time[j]), "ENDPOINT": names[max(int(s.endpoint[j]), 0)], "DV": float(s.dv[j])}
        for s in patient
        for j in np.flatnonzero(s.is_observation)
    ]
    return pd.DataFrame(rows, columns=["ID", "TIME", "ENDPOINT", "DV"])
