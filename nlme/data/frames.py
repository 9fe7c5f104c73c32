"""The way back: a population as a NONMEM table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

    from nlme.data.population import Population

# field of a subject -> NONMEM column, for columns that are only written where they say something
_WHEN_USED = {"rate": "RATE", "duration": "DUR", "ii": "II", "addl": "ADDL", "ss": "SS", "cens": "CENS", "occasion": "OCC"}


def population_frame(population: Population) -> pd.DataFrame:
    """One row per record, NONMEM's names first, then covariates, then the columns that nothing reads."""
    import pandas as pd

    subjects = population.subjects

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
        codes = [population.dvid[e] if e >= 0 else None for e in whole("endpoint")]
        columns["DVID"] = codes if any(isinstance(d, str) for d in population.dvid) else np.array(codes, dtype=float)
    columns |= used
    if np.any(~np.isnan(whole("limit"))):
        columns["LIMIT"] = whole("limit")

    for name, info in population.covariates.items():
        values = np.concatenate([s.covariates[name] for s in subjects]) if subjects else np.zeros(0)
        if info.categories:
            values = [None if np.isnan(v) else info.categories[int(v)] for v in values]
        columns.setdefault(info.column or name, values)
    for name in subjects[0].extra if subjects else ():
        columns.setdefault(name, np.concatenate([s.extra[name] for s in subjects]))

    frame = pd.DataFrame(columns)
    frame.attrs["nlme"] = {
        "covariates": {n: i.unit for n, i in population.covariates.items()},
        "time_varying": [n for n, i in population.covariates.items() if not i.constant],
        "categories": {n: list(i.categories) for n, i in population.covariates.items() if i.categories},
        "interpolation": {n: i.interpolation for n, i in population.covariates.items() if i.interpolation != "nocb"},
        "dvid": None if population.dvid is None else dict(zip(population.dvid, population.endpoints, strict=True)),
        "endpoints": list(population.endpoints),
    }
    return frame
