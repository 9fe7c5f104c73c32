"""The way back: a population as a NONMEM table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nlme.data.columns import NAMES
from nlme.data.designs import with_course
from nlme.data.numerals import EXACT

if TYPE_CHECKING:
    import pandas as pd

    from nlme.data.population import Population

# field of a subject -> NONMEM column, for columns that are only written where they say something
_WHEN_USED = {"rate": "RATE", "duration": "DUR", "ii": "II", "addl": "ADDL", "ss": "SS", "cens": "CENS", "occasion": "OCC"}


def population_frame(population: Population) -> pd.DataFrame:
    """One row per record, NONMEM's names first, then covariates, then the columns that nothing reads.

    A subject whose course its records do not tell has rows that do (COVONLY = 1, EVID = 2), before the records of the same time.
    """
    import pandas as pd

    told = [with_course(s) for s in population.subjects]
    subjects = [s for s, _ in told]

    def whole(name):
        return np.concatenate([getattr(s, name) for s in subjects]) if subjects else np.zeros(0)

    columns: dict = {"ID": [s.id for s in subjects for _ in range(len(s))]}
    columns |= {"TIME": whole("time"), "DV": whole("dv"), "AMT": whole("amt")}
    used = {column: whole(name) for name, column in _WHEN_USED.items()}
    used = {column: values for column, values in used.items() if np.any(values != 0)}
    columns |= {c: used.pop(c) for c in ("RATE", "DUR") if c in used}
    columns |= {"EVID": whole("evid"), "MDV": whole("mdv")}
    names = [n for s in subjects for n in s.cmt_name]
    if any(n is not None for n in names):
        columns["CMT"] = [n if n is not None else (int(c) if c else None) for n, c in zip(names, whole("cmt"), strict=True)]
    elif np.any(whole("cmt") != 0):
        columns["CMT"] = whole("cmt")
    columns |= {c: used.pop(c) for c in ("II", "ADDL", "SS") if c in used}
    if population.dvid is not None:
        columns["DVID"] = _codes([population.dvid[e] if e >= 0 else None for e in whole("endpoint")])
    columns |= used
    if np.any(~np.isnan(whole("limit"))):
        columns["LIMIT"] = whole("limit")
    if any(s.course is not None for s in population.subjects):
        columns["COVONLY"] = np.concatenate([own for _, own in told]).astype(np.int64)

    own = {}
    for name, info in population.covariates.items():
        values = np.concatenate([s.covariates[name] for s in subjects]) if subjects else np.zeros(0)
        if info.categories:
            values = [None if np.isnan(v) else info.categories[int(v)] for v in values]
        column = info.column or name
        own[name] = f"{column}_COV" if column.upper() in NAMES else column
        columns[own[name]] = values
    for name in subjects[0].extra if subjects else ():
        columns.setdefault(name, np.concatenate([s.extra[name] for s in subjects]))

    frame = pd.DataFrame(columns)
    frame.attrs["nlme"] = _known(population, own) | {"allow": _allowed(population, frame)}
    return frame


def of_records(frame: pd.DataFrame) -> np.ndarray:
    """Which rows of a population's frame are its records; the others tell a subject's course."""
    return frame["COVONLY"].to_numpy() == 0 if "COVONLY" in frame else np.ones(len(frame), bool)


def _known(population: Population, own: dict[str, str]) -> dict:
    """What a table does not say."""
    infos, subjects = population.covariates, population.subjects
    text = [n for n in (subjects[0].extra if subjects else ()) if any(isinstance(v, str) for s in subjects for v in s.extra[n])]
    return {
        "covariates": {n: i.unit for n, i in infos.items()},
        "columns": own,
        "time_varying": [n for n, i in infos.items() if not i.constant],
        "categories": {n: list(i.categories) for n, i in infos.items() if i.categories},
        "interpolation": {n: i.interpolation for n, i in infos.items() if i.interpolation != "nocb"},
        "dvid": None if population.dvid is None else dict(zip(population.dvid, population.endpoints, strict=True)),
        "endpoints": list(population.endpoints),
        "text": [*(["ID"] if any(isinstance(s.id, str) for s in subjects) else []), *text],
    }


def _allowed(population: Population, frame: pd.DataFrame) -> list[str]:
    """Rules that the population breaks on purpose."""
    twins = frame.duplicated([c for c in frame.columns if c in NAMES and c != "OCC"]).any()
    named = (("duplicated record", twins), ("no observations at all", len(frame) and not population.n_observations))
    return [rule for rule, broken in named if broken]


def _codes(codes: list) -> list | np.ndarray:
    """Codes as numbers, where these are exact."""
    usual = all(c is None or (not isinstance(c, str) and abs(c) < EXACT) for c in codes)
    return np.array(codes, dtype=float) if usual else codes
