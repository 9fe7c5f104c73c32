"""The records as NONMEM takes them: observations on the scale on which they are normal, limits beside them, infusions by RATE."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from nlme.errors import DataError
from nlme.exchange.nonmem.likelihoods import NORMAL, PROGRAM, SCALED
from nlme.exchange.outline import Endpoint, Outline
from nlme.exchange.rows import rows_of
from nlme.language import symbols as s
from nlme.observation.transforms import TRANSFORMS

if TYPE_CHECKING:
    import pandas as pd

_SCALES = {"lognormal": "log", "logitnormal": "logit", "boxcox": "box-cox", "yeojohnson": "yeo-johnson"}
QUANTIFIED, BELOW, BELOW_FROM, ABOVE, ABOVE_TO = range(5)  # CENS


@dataclass
class Records:
    """The rows, and what the code has to know of them.

    Attributes
    ----------
    frame : columns of ``rows_of``, with DV, CENS, LLOQ and LIM2 as NONMEM gets them, and TPREV
    shift : what NONMEM's objective is more than the model's: twice the logarithms of the slopes of the scales
    limits : endpoint -> its limit, where it is one number
    censorings : endpoint -> the values of CENS among its records
    modelled : (compartment, rate or duration) that the records ask the model for
    durations : compartments whose infusions are given by their duration, from the data
    repeated : endpoints of which a subject has several records
    """

    frame: pd.DataFrame
    shift: float = 0.0
    limits: dict[str, float] = field(default_factory=dict)
    censorings: dict[str, set[int]] = field(default_factory=dict)
    modelled: set[tuple[int, str]] = field(default_factory=set)
    durations: set[int] = field(default_factory=set)
    repeated: set[str] = field(default_factory=set)


def records_of(outline: Outline) -> Records:
    """The records of the outline's population.

    Raises
    ------
    DataError
        A value that cannot be brought to its scale, by subject and time.
    """
    frame = rows_of(outline, PROGRAM)
    frame["LLOQ"], frame["LIM2"], frame["TPREV"] = 0.0, 0.0, -1.0
    made = Records(frame)
    for k, endpoint in enumerate(outline.endpoints):
        at = np.flatnonzero(frame["ENDPOINT"] == k)
        if endpoint.kind in NORMAL:
            _censor(made, outline, endpoint, at)
            _rescale(made, endpoint, at)
        elif np.any(frame["CENS"].to_numpy()[at] != 0):
            raise DataError(f"The endpoint {endpoint.name!r} has records with CENS, and its distribution is {endpoint.kind}.")
        _previous(made, endpoint, at)
    if outline.anatomy.states:
        _infusions(made, outline)
    return made


# -- censored values -------------------------------------------------------------------------------------------------


def _censor(made: Records, outline: Outline, endpoint: Endpoint, at: np.ndarray) -> None:
    """CENS, LLOQ and LIM2 of an endpoint's records; records that M1 leaves out become none (MDV = 1)."""
    frame = made.frame
    cens, dv, limit = (frame[c].to_numpy(dtype=float)[at] for c in ("CENS", "DV", "LIMIT"))
    low, high = (_limit_of(outline, endpoint, name, frame, at) for name in ("lloq", "uloq"))
    below, above = cens > 0.5, cens < -0.5
    if not endpoint.censoring:
        frame.loc[at, "CENS"] = 0
        return
    below |= np.zeros(len(at), bool) if low is None else (cens == 0) & (dv < low)
    above |= np.zeros(len(at), bool) if high is None else (cens == 0) & (dv > high)
    if endpoint.censoring == "M1":
        out = at[below | above]
        frame.loc[out, ["MDV", "DVID", "CENS"]] = [1, 0, 0]
        frame.loc[out, "DV"] = np.nan
        frame.loc[out, "ENDPOINT"] = -1
        return
    bound = np.where(below, dv if low is None else low, np.where(above, dv if high is None else high, dv))
    other = np.isfinite(limit)
    kind = np.select([below & ~other, below, above & ~other, above], [BELOW, BELOW_FROM, ABOVE, ABOVE_TO], QUANTIFIED)
    frame.loc[at, "CENS"], frame.loc[at, "LLOQ"] = kind, bound
    frame.loc[at, "LIM2"] = np.where(other & (kind != QUANTIFIED), limit, 0.0)
    made.censorings[endpoint.name] = set(kind.tolist()) - {QUANTIFIED}


def _limit_of(outline: Outline, endpoint: Endpoint, name: str, frame: pd.DataFrame, at: np.ndarray) -> np.ndarray | None:
    """A limit of the model's at every record; None where it gives none."""
    formula = endpoint.parts.get(name)
    if formula is None:
        return None
    known = {symbol: f"cov.{key[4:]}" for key, symbol in outline.equations.symbols.items() if key.startswith("cov.")}
    strange = [x for x in formula.free_symbols if x not in known]
    if strange and not (through := _through_individual(outline, formula)):
        raise outline.refuse(f"{name} of the endpoint {endpoint.name!r} is no number and no covariate.", PROGRAM)
    formula = through if strange else formula
    columns = {symbol: frame[column].to_numpy()[at] for symbol, column in known.items() if symbol in formula.free_symbols}
    run = s.compiled(list(columns), formula, {})
    return np.array([run([float(c[i]) for c in columns.values()]) for i in range(len(at))])


def _through_individual(outline: Outline, formula):
    """A limit that ``individual`` hands on from a covariate; None for anything else."""
    found = outline.equations
    by = {found.symbols[f"ind.{name}"]: x for name, x in found.individual.items()}
    made = s.replaced(formula, by)
    covariates = {x for key, x in found.symbols.items() if key.startswith("cov.")}
    return made if made.free_symbols <= covariates else None


# -- scales ----------------------------------------------------------------------------------------------------------


def _rescale(made: Records, endpoint: Endpoint, at: np.ndarray) -> None:
    """DV and limits on the endpoint's scale."""
    frame = made.frame
    at = at[frame["MDV"].to_numpy()[at] == 0]
    kind = frame["CENS"].to_numpy()[at]
    dv = frame["DV"].to_numpy(dtype=float)[at]
    quantified = kind == QUANTIFIED
    if endpoint.kind in SCALED:
        shape = [float(endpoint.parts[part]) for part in SCALED[endpoint.kind]]
        row = TRANSFORMS[_SCALES[endpoint.kind]]
        low, high = (float(b) for b in row.bounds(shape))
        outside = quantified & ~((dv > low) & (dv < high))
        if outside.any():
            k = at[np.flatnonzero(outside)[0]]
            raise DataError(
                f"Subject {frame['SUBJECT'][k]}, time {frame['TIME'][k]:g}: {endpoint.name} is {frame['DV'][k]:g}, which has no place "
                f"on the scale of a {endpoint.kind} error ({low:g} to {high:g}), on which the data are written."
            )
        with np.errstate(all="ignore"):
            for column, where in (
                ("DV", quantified),
                ("LLOQ", kind != QUANTIFIED),
                ("LIM2", np.isin(kind, (BELOW_FROM, ABOVE_TO))),
            ):
                values = frame[column].to_numpy(dtype=float)[at]
                z = np.asarray(row.forward(values, shape), dtype=float)
                frame.loc[at[where], column] = z[where]
            made.shift += 2.0 * float(np.sum(np.asarray(row.log_slope(dv[quantified], shape), dtype=float)))
    frame.loc[at[quantified], "LLOQ"] = frame["DV"].to_numpy(dtype=float)[at[quantified]]
    frame.loc[at[~quantified], "DV"] = frame["LLOQ"].to_numpy(dtype=float)[at[~quantified]]
    own = np.unique(frame["LLOQ"].to_numpy(dtype=float)[at[~quantified]])
    dv = frame["DV"].to_numpy(dtype=float)[at[quantified]]
    if len(own) == 1 and (not dv.size or dv.min() >= own[0]):
        made.limits[endpoint.name] = float(own[0])


# -- events ----------------------------------------------------------------------------------------------------------


def _previous(made: Records, endpoint: Endpoint, at: np.ndarray) -> None:
    """TPREV: when the endpoint's record before was, -1 for the first of a subject and the first after a reset."""
    frame = made.frame
    subject, time, evid = frame["ID"].to_numpy(), frame["TIME"].to_numpy(dtype=float), frame["EVID"].to_numpy()
    epoch = np.cumsum(np.isin(evid, (3, 4)))
    before = np.full(len(at), -1.0)
    for k in range(1, len(at)):
        a, b = at[k - 1], at[k]
        if subject[a] == subject[b] and epoch[a] == epoch[b]:
            before[k] = time[a]
            made.repeated.add(endpoint.name)
    frame.loc[at, "TPREV"] = before


def _infusions(made: Records, outline: Outline) -> None:
    """RATE of infusions that the data give by their duration; what is asked of the model."""
    frame = made.frame
    rate, amt, duration = (frame[c].to_numpy(dtype=float).copy() for c in ("RATE", "AMT", "DUR"))
    cmt, states = frame["CMT"].to_numpy(dtype=int), outline.anatomy.states
    dose = np.isin(frame["EVID"].to_numpy(), (1, 4))
    scaled = {states.index(state) + 1 for state in outline.equations.bioavailability}
    for code, word in ((-1.0, "rate"), (-2.0, "duration")):
        made.modelled |= {(int(c), word) for c in np.unique(cmt[dose & (rate == code)])}
    given = dose & (duration > 0) & (rate == 0)
    # a bioavailability scales the rate of what is given by its duration, and the duration of what is given by its rate
    by_model = given & np.isin(cmt, sorted(scaled))
    rate[given & ~by_model] = amt[given & ~by_model] / duration[given & ~by_model]
    rate[by_model] = -2.0
    made.durations = set(cmt[by_model].tolist())
    if twice := made.durations & {c for c, word in made.modelled if word == "duration"}:
        state = states[min(twice) - 1]
        raise outline.refuse(
            f"infusions into {state} have their duration from the data and from the model, and a bioavailability.", PROGRAM
        )
    frame["RATE"] = rate
