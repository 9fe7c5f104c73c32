"""Objectives and residuals at fixed parameters against NONMEM (Wang 2007, J Pharmacokinet Pharmacodyn 34:575, tables 1 and 2).

Every error model is one endpoint, and the ten subjects come once for each, so that one compiled program per method and
structure covers them all; a subject's objective knows nothing of the others.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from reference import case

import nlme

CASE = case("wang2007_objective_functions")
SD = np.sqrt(0.1)
ERRORS = {
    "additive": lambda f, sd: nlme.additive(f, sd),
    "proportional": lambda f, sd: nlme.proportional(f, sd),
    "power_0.5": lambda f, sd: nlme.power(f, sd, 0.5),
    "combined1": lambda f, sd: nlme.combined(f, sd, sd, form="sd"),
    "combined2": lambda f, sd: nlme.combined(f, sd, sd),
    "lognormal": lambda f, sd: nlme.lognormal(f, sd),
    "lognormal_on_log_data": lambda f, sd: nlme.additive(jnp.log(f), sd),
}
EXPECTED = {r["error_model"]: r["objective"] for r in CASE.facts["references"]}
LAPLACE = CASE.facts["independent_check_not_an_oracle"]["laplace_full_hessian"]
METHODS = {"FO": nlme.FO(), "FOCE": nlme.FOCE(), "FOCEI": nlme.FOCEI(), "Laplace": nlme.Laplace()}
LONG = ("FOCE", "Laplace")
TOLERANCE = 0.0015


class Wang(nlme.Model):
    """f = 10 exp(-ke t), ke = 0.5 exp(eta), observed with every error model at once."""

    ke: nlme.Scalar = nlme.positive(0.5)
    sd: nlme.Scalar = nlme.positive(SD)
    omega: nlme.Covariance = nlme.covariance(ke=0.04)

    def individual(self, eta, cov):
        return dict(ke=self.ke * jnp.exp(eta.ke))

    def dynamics(self, ind):
        return nlme.pk.OneCompartment(cl=ind.ke, v=jnp.asarray(1.0))

    def observe(self, ind, state, t):
        return {name: error(state.central, self.sd) for name, error in ERRORS.items()}


class WangODE(Wang):
    def dynamics(self, ind):
        return nlme.ODE(lambda t, a: {"central": -ind.ke * a.central}, states=("central",))


@pytest.fixture(scope="module")
def population():
    copies = []
    for k, name in enumerate(ERRORS, start=1):
        table = CASE.table()
        table = table.assign(ID=table.ID + 100 * k, DVID=k)
        if name == "lognormal_on_log_data":
            table["DV"] = np.log(table.DV.where(table.EVID == 0))
        copies.append(table)
    return nlme.read_nonmem(pd.concat(copies), dvid=dict(enumerate(ERRORS, start=1)))


@pytest.fixture(scope="module", params=["closed form", pytest.param("ODE", marks=pytest.mark.slow)])
def model(request):
    return Wang() if request.param == "closed form" else WangODE()


@pytest.fixture(scope="module", params=[pytest.param(m, marks=[pytest.mark.slow] * (m in LONG)) for m in METHODS])
def method(request):
    return request.param


@pytest.fixture(scope="module")
def evaluated(model, method, population):
    return nlme.evaluate(model, population, METHODS[method])


def by_error(evaluated) -> dict[str, float]:
    """Objective of the ten subjects of each error model."""
    subjects = evaluated.subjects
    return {name: subjects.objective[subjects.index // 100 == k].sum() for k, name in enumerate(ERRORS, start=1)}


def test_objective_of_every_error_model(evaluated, method):
    expected = LAPLACE if method == "Laplace" else {name: EXPECTED[name][method] for name in ERRORS}
    found = {name: value for name, value in by_error(evaluated).items() if name in expected}
    assert found == pytest.approx(expected, abs=TOLERANCE)
    assert evaluated.subjects.converged.all()


# our column: NONMEM's.  With INTER, NONMEM's WRES differs from the first-order one, which it prints as NWRES.
COLUMNS = {
    "PRED": "PRED",
    "IPRED": "IPRE",
    "RES": "RES",
    "IRES": "IRES",
    "WRES": "NWRES",
    "IWRES": "IWRES",
    "CPRED": "CPRED",
    "CWRES": "CWRES",
}


@pytest.fixture(scope="module")
def focei(model, population):
    return nlme.evaluate(model, population, nlme.FOCEI())


def test_residuals_against_nonmem_table(focei):
    ours = focei.predictions[lambda p: p.ENDPOINT == "proportional"]
    theirs = CASE.table("nonmem_table_prop_focei.csv")
    assert len(ours) == len(theirs) == 20
    np.testing.assert_array_equal(ours.TIME, theirs.TIME)
    for column, name in COLUMNS.items():
        np.testing.assert_allclose(ours[column], theirs[name], rtol=1e-4, atol=1e-5, err_msg=column)


def test_modes_and_subject_objectives_against_nonmem_table(focei):
    theirs = CASE.table("nonmem_table_prop_focei.csv").drop_duplicates("ID")
    proportional = list(ERRORS).index("proportional") + 1
    mine = focei.subjects.index // 100 == proportional
    np.testing.assert_allclose(focei.eta.ke[mine], theirs.ETA1, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(focei.subjects.objective[mine], theirs.OBJI, rtol=1e-4)
