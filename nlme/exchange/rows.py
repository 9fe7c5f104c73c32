"""The records of a population as a table of numbers, as programs of NONMEM's tradition take them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nlme.data.designs import with_course
from nlme.errors import DataError
from nlme.exchange.outline import Endpoint, Outline
from nlme.language import symbols

if TYPE_CHECKING:
    import pandas as pd

_LARGEST = 10_000_000  # of an ID that is kept


def rows_of(outline: Outline, program: str) -> pd.DataFrame:
    """One row for each record; every column is there, whether it says anything or not.

    ID (a number), SUBJECT (the ID as the data have it), TIME, AMT, RATE, DUR, II, ADDL, SS, CMT (0: not given), EVID, MDV, DV (NaN: none), ENDPOINT
    (position among the model's, -1: none), DVID (0: none), CENS, LIMIT, OCC, and the covariates of the model by its names for them.

    Raises
    ------
    DataError
        A covariate without a value, a compartment that the model does not have.
    """
    import pandas as pd

    subjects = [with_course(s)[0] for s in outline.population]
    ids = _numbers([s.id for s in subjects])
    endpoint_of = np.array([*outline.endpoint_of, -1])

    def whole(name):
        return np.concatenate([getattr(s, name) for s in subjects])

    lengths = [len(s) for s in subjects]
    endpoint = np.where(whole("endpoint") >= 0, endpoint_of[whole("endpoint")], -1)
    observed = (whole("evid") == 0) & (whole("mdv") == 0) & (endpoint >= 0)
    dose = np.isin(whole("evid"), (1, 4))
    repeats = dose & ((whole("addl") != 0) | (whole("ss") != 0))
    codes = np.array([*(e.code for e in outline.endpoints), 0])
    frame = {
        "ID": np.repeat(ids, lengths),
        "SUBJECT": np.repeat(np.array([str(s.id) for s in subjects], dtype=object), lengths),
        "TIME": whole("time"), "AMT": np.where(dose, whole("amt"), 0.0), "RATE": np.where(dose, whole("rate"), 0.0),
        "DUR": np.where(dose, whole("duration"), 0.0), "II": np.where(repeats, whole("ii"), 0.0),
        "ADDL": np.where(dose, whole("addl"), 0), "SS": np.where(dose, whole("ss"), 0),
        "CMT": np.concatenate([_compartments(outline, s, program) for s in subjects]),
        "EVID": whole("evid"), "MDV": np.where(observed, 0, 1), "DV": np.where(observed, whole("dv"), np.nan),
        "ENDPOINT": np.where(observed, endpoint, -1), "DVID": np.where(observed, codes[endpoint], 0),
        "CENS": np.where(observed, whole("cens"), 0), "LIMIT": whole("limit"), "OCC": whole("occasion"),
    }  # fmt: skip
    made = pd.DataFrame(frame)
    for name in outline.anatomy.covariates:
        values = np.concatenate([s.covariates[name] for s in subjects])
        if (at := np.flatnonzero(~np.isfinite(values))).size:
            raise DataError(f"Subject {made['SUBJECT'][at[0]]}, time {made['TIME'][at[0]]:g}: {name} has no value.")
        made[f"cov.{name}"] = values
    return made


def with_predictions(frame: pd.DataFrame) -> np.ndarray:
    """EVID of the rows, 2 where only a prediction is asked for."""
    return np.where((frame["EVID"] == 0) & (frame["MDV"] != 0), 2, frame["EVID"])


def put_at_limits(frame: pd.DataFrame, outline: Outline, endpoint: Endpoint, program: str) -> None:
    """DV of the endpoint's censored records is its limit, and CENS says on which side they are.

    Raises
    ------
    ModelError
        A limit that is a formula.
    """
    at = frame["ENDPOINT"] == outline.endpoints.index(endpoint)
    for which, sign in (("lloq", 1), ("uloq", -1)):
        limit = endpoint.parts.get(which)
        if limit is None:
            continue
        if not symbols.is_number(limit):
            raise outline.refuse(f"{which} of the endpoint {endpoint.name!r} is no number.", program)
        beyond = at & ((frame["CENS"] == sign) | (frame["CENS"] == 0) & (sign * frame["DV"] < sign * float(limit)))
        frame.loc[beyond, ["CENS", "DV"]] = [sign, float(limit)]


def _numbers(ids: list) -> np.ndarray:
    """IDs as they are where they are numbers of a usual size, else counted from 1."""
    plain = all(isinstance(i, int | np.integer) and 0 < i < _LARGEST for i in ids)
    return np.array(ids if plain else range(1, len(ids) + 1), dtype=int)


def _compartments(outline: Outline, subject, program: str) -> np.ndarray:
    """Numbers of the compartments of a subject's records, names resolved."""
    states, out = outline.anatomy.states, np.array(subject.cmt, dtype=int)
    for k, name in enumerate(subject.cmt_name):
        if name is None or not (subject.is_dose[k] or subject.is_switch[k]):
            continue
        if name not in states:
            raise outline.refuse(
                f"subject {subject.id}: a dose goes to {name!r}, and the states are {', '.join(states)}.", program
            )
        out[k] = states.index(name) + 1
    # the structure's first state takes the doses that name none
    return np.where(subject.is_dose, np.where(out == 0, 1, out), np.where(subject.is_switch, out, 0))


def written(frame: pd.DataFrame) -> str:
    """The rows as CSV: whole numbers as such, others by the shortest decimals that are the same floats, "." for none."""
    columns = [[_cell(v) for v in frame[name]] for name in frame]
    lines = [",".join(frame.columns), *(",".join(row) for row in zip(*columns, strict=True))]
    return "\n".join(lines) + "\n"


def _cell(value) -> str:
    if isinstance(value, str):
        return value
    value = float(value)
    if np.isnan(value):
        return "."
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)
