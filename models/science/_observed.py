"""Data of a system whose equations are known: its model simulated at given times, with a fixed seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

import nlme


def observed(
    truth: nlme.Model, people: Sequence[Mapping[str, float]], times, endpoints: Sequence[str], key: int = 1, **options
) -> nlme.Population:
    """Every endpoint at every time, with the errors of ``truth``; the states begin at time 0.

    ``people`` has each one's covariates, which are their starting values as a rule.
    """
    rows = [
        {"ID": k + 1, "TIME": t, "EVID": 2 if t < 0 else 0, "DVID": e + 1, "DV": np.nan if t < 0 else 1.0, **person}
        for k, person in enumerate(people)
        for t, e in [(-1.0, 0), *((t, e) for t in times for e in range(len(endpoints)))]
    ]
    frame, read = pd.DataFrame(rows), dict(covariates=list(people[0]), dvid=dict(enumerate(endpoints, 1)))
    frame["TIME"] = np.maximum(frame["TIME"], 0.0)
    told = nlme.simulate(truth, nlme.read_nonmem(frame, **read), key=key, eta="new", as_data=True, **options)
    return nlme.read_nonmem(told.drop(columns="REPLICATE"), **read)


def columns(population: nlme.Population, subject: int, endpoint: str) -> tuple[np.ndarray, np.ndarray]:
    """Times and values of one endpoint of one subject."""
    own = population.subjects[subject]
    mine = (own.endpoint == population.endpoints.index(endpoint)) & (own.evid == 0)
    return own.time[mine], own.dv[mine]


def coefficient(found, term: str) -> float:
    """That of a term in the expression found; not a number where the expression has another."""
    texts = [one.text(found.expression.inputs, "half") for one in found.expression.terms]
    return float(found.expression.coefficients[texts.index(term)]) if term in texts else float("nan")
