"""A Fit made of plain values, for tests of tables, pictures and pages that must not wait for an estimation.

The numbers have the shape of theophylline: twelve subjects, eleven samples each, one compartment with first-order
absorption. Everything is drawn once from a fixed seed; nothing here is an oracle for anything.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd

from nlme.parameters.domains import POSITIVE, REAL

TIMES = np.array([0.0, 0.25, 0.5, 1.0, 2.0, 3.5, 5.0, 7.0, 9.0, 12.0, 24.0])
NAMES = ("ka", "cl", "v")
SINGULAR = "The information matrix is singular: v and f cannot be told apart."


class Theophylline:
    """Theophylline after one oral dose: one compartment, first-order absorption.

    Boeckmann, Sheiner & Beal (1994), NONMEM Users Guide, part V.
    """

    def __init__(self, ka, cl, v):
        self.ka, self.cl, self.v = ka, cl, v


def concentration(time, dose, ka, cl, v):
    """mg/L after one oral dose (mg) at time 0."""
    k = cl / v
    return dose * ka / (v * (ka - k)) * (np.exp(-k * time) - np.exp(-ka * time))


def _subject(key, wt, sex, dose, dv, endpoints):
    n = 1 + len(TIMES) * endpoints
    time = np.concatenate([[0.0], np.tile(TIMES, endpoints)])
    first = np.arange(n) == 0
    return SimpleNamespace(
        id=key,
        time=time,
        clock=time,
        is_dose=first,
        evid=np.where(first, 1, 0),
        amt=np.where(first, dose, 0.0),
        rate=np.zeros(n),
        duration=np.zeros(n),
        ii=np.zeros(n),
        addl=np.zeros(n, int),
        ss=np.zeros(n, int),
        dv=np.concatenate([[np.nan], dv]),
        endpoint=np.where(first, -1, np.concatenate([[0], np.repeat(np.arange(endpoints), len(TIMES))])),
        mdv=np.where(first, 1, 0),
        cens=np.zeros(n, int),
        covariates={"wt": np.full(n, wt), "sex": np.full(n, sex)},
        is_observation=~first,
    )


class _Population(list):
    """The part of nlme.Population that a report reads."""

    def __init__(self, subjects, endpoints):
        super().__init__(subjects)
        self.endpoints = endpoints
        self.covariates = {
            "wt": SimpleNamespace(name="wt", unit="kg", constant=True, categories=None),
            "sex": SimpleNamespace(name="sex", unit=None, constant=True, categories=("female", "male")),
        }
        self.ids = tuple(subject.id for subject in subjects)
        self.subjects = tuple(subjects)
        self.n_observations = int(sum(subject.is_observation.sum() for subject in subjects))
        self.hash = "3f" * 32
        self.dvid = tuple(range(1, len(endpoints) + 1)) if len(endpoints) > 1 else None

    def filter(self, keep):
        return _Population([subject for subject in self if keep(subject)], self.endpoints)

    def subject(self, identity):
        return next(subject for subject in self if subject.id == identity)

    def summary(self, units=None):
        return [("subjects", str(len(self))), ("observations", str(self.n_observations))]


def _row(name, value, kind="fixed effect", **rest):
    known = dict(
        label="",
        unit="",
        fixed=False,
        domain="positive",
        random_effect=None,
        transform=None,
        range=REAL if kind in ("covariance", "weight") else POSITIVE,
    )
    return SimpleNamespace(name=name, value=value, kind=kind, **{**known, **rest})


def _parameters(weights):
    rows = [
        _row("ka", 1.48, label="Absorption rate", unit="1/h"),
        _row("cl", 2.786, label="Clearance", unit="L/h"),
        _row("v", 32.0, label="Volume", unit="L"),
        _row("f", 1.0, label="Bioavailability", fixed=True),
        _row("omega.ka", 0.391, "variance", label="Variance of eta ka", random_effect="ka", transform="log-normal"),
        _row("omega.cl", 0.0646, "variance", label="Variance of eta cl", random_effect="cl", transform="log-normal"),
        _row("omega.v,cl", 0.0112, "covariance", label="Covariance of eta v and eta cl", domain="covariance"),
        _row("omega.v", 0.0158, "variance", label="Variance of eta v", random_effect="v", transform="normal"),
        _row("add", 0.275, label="Additive error, 100 % of LLOQ", unit="mg/L"),
        _row("prop", 0.134, label="Proportional error"),
    ]
    return rows + [_row(f"net.layers[0].w[{k}]", 0.01 * k, "weight", domain="real") for k in range(weights)]


def _covariance(rows, rng, singular):
    free = [row for row in rows if not row.fixed]
    names = [row.name for row in free]
    factor = np.eye(len(names)) + 0.2 * rng.standard_normal((len(names), len(names)))
    matrix = factor @ factor.T
    sd = np.sqrt(np.diag(matrix))
    correlation = matrix / np.outer(sd, sd)
    se = np.array([0.08 + 0.17 * rng.random() for _ in free]) * np.abs([row.value or 1.0 for row in free])
    if singular:
        se[:] = np.nan
    frame = lambda values: pd.DataFrame(values, index=names, columns=names)  # noqa: E731
    return SimpleNamespace(
        matrix=frame(correlation * np.outer(se, se)),
        standard_errors=pd.Series(se, index=names),
        correlation=frame(correlation * (np.nan if singular else 1.0)),
        condition_number=np.nan if singular else float(np.linalg.cond(correlation)),
        kind="sandwich",
        of_kinks="",
        verdict=SINGULAR if singular else "ok",
        missing=SINGULAR if singular else "",
        R=frame(matrix),
        S=frame(matrix),
        curvature=np.full(matrix.shape, np.nan),  # in the unconstrained parameters, of which the stand-in knows nothing
    )


def theophylline_fit(endpoints=("conc",), subjects=12, weights=0, problems=False, seed=7):
    """The stand-in.

    Parameters
    ----------
    endpoints : names; each further endpoint is the first one a hundred times as large
    subjects : how many
    weights : how many network weights the model is to have
    problems : a fit that went wrong: unconverged, singular information, names that need escaping
    """
    rng = np.random.default_rng(seed)
    rows = _parameters(weights)
    value = {row.name: row.value for row in rows}
    omega = np.sqrt([value["omega.ka"], value["omega.cl"], value["omega.v"]])
    eta = 0.93 * omega * rng.standard_normal((subjects, 3))
    typical = np.array([value["ka"], value["cl"], value["v"]])
    people, predictions = [], []
    for k in range(subjects):
        key = f"<{k + 1}>" if problems else k + 1
        dose = 4.0 * (wt := rng.normal(70, 9))
        individual = typical * np.exp(eta[k])
        columns = {"DV": [], "PRED": [], "IPRED": [], "ENDPOINT": []}
        for e, endpoint in enumerate(endpoints):
            scale = 100.0**e
            ipred = scale * concentration(TIMES, dose, *individual)
            noise = np.hypot(0.275 * scale, 0.134 * ipred) * rng.standard_normal(len(TIMES))
            columns["DV"].append(np.maximum(ipred + noise, 0.0))
            columns["PRED"].append(scale * concentration(TIMES, dose, *typical))
            columns["IPRED"].append(ipred)
            columns["ENDPOINT"].extend([endpoint] * len(TIMES))
        joined = {name: np.concatenate(columns[name]) for name in ("DV", "PRED", "IPRED")}
        people.append(_subject(key, wt, float(k % 2), dose, joined["DV"], len(endpoints)))
        n = len(joined["DV"])
        predictions.append(
            pd.DataFrame({"ID": [key] * n, "TIME": np.tile(TIMES, len(endpoints)), "ENDPOINT": columns["ENDPOINT"], **joined})
        )
    predictions = pd.concat(predictions, ignore_index=True)
    predictions["RES"] = predictions.DV - predictions.PRED
    predictions["IRES"] = predictions.DV - predictions.IPRED
    scale = 100.0 ** predictions.ENDPOINT.map(endpoints.index).to_numpy()
    spread = np.hypot(0.275 * scale, 0.134 * predictions.IPRED)
    predictions["WRES"] = predictions.RES / np.hypot(spread, 0.25 * predictions.PRED)
    predictions["IWRES"] = predictions.IRES / spread
    predictions["CPRED"] = predictions.PRED
    predictions["CWRES"] = predictions.WRES
    ids = pd.Index([subject.id for subject in people], name="ID")
    steps = np.arange(18)
    converged = np.ones(subjects, bool)
    message = [""] * subjects
    if problems:
        converged[2], message[2] = False, "the mode search stopped at 60 iterations with gradient 3e-2"
    fit = SimpleNamespace(
        method="FOCEI()",
        model=Theophylline(*typical),
        start=Theophylline(1.0, 3.0, 30.0),
        population=_Population(people, tuple(endpoints)),
        objective=104.322,
        objective_full=346.92,
        aic=362.92,
        bic=385.98,
        n_parameters=sum(not row.fixed for row in rows),
        converged=not problems,
        verdict="The search stopped before it converged." if problems else "Converged: no direction improves the objective.",
        messages=["1 of 12 subjects has no mode: <3> & others", "Covariance of the estimates: singular"] if problems else [],
        eta=pd.DataFrame(eta, index=ids, columns=list(NAMES)),
        modes=dict(zip(NAMES, eta.T, strict=True)),
        eta_met=pd.DataFrame(eta, columns=NAMES),
        shrinkage=pd.Series(100 * (1 - eta.std(axis=0, ddof=1) / omega), index=list(NAMES)),
        epsilon_shrinkage=9.13,
        subjects=pd.DataFrame(
            {
                "n_observations": len(TIMES) * len(endpoints),
                "objective": rng.normal(8.7, 4, subjects),
                "converged": converged,
                "gradient": np.where(converged, 1e-9, 3e-2),
                "message": message,
            },
            index=ids,
        ),
        history=pd.DataFrame(
            {
                "iteration": steps,
                "objective": 104.322 + 60 * np.exp(-0.7 * steps),
                "gradient": 50 * np.exp(-0.9 * steps),
                "elapsed": 0.01 * steps,
            }
        ),
        timings={"compile": 3.21, "search": 0.152, "total": 3.36},
        versions={"nlme": "0.1.0", "jax": "0.10.2", "python": "3.11.7"},
        data_hash="3f" * 32,
        parameters=rows,
        covariance=_covariance(rows, rng, problems),
        predictions=predictions,
        individual=pd.DataFrame(typical * np.exp(eta), index=ids, columns=list(NAMES)),
    )
    return fit
