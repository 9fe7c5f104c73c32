"""Dosing records against NONMEM ADVAN2 (mrgsolve's nmtests): 18 scenarios, and a covariate that varies in time."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from reference import case

import nlme

DOSING = case("dosing_events_nonmem")
VARYING = case("timevarying_covariate_nonmem")
CL, V, KA = 1.1, 20.0, 1.5


def ode(ind, **rules):
    def rhs(t, a):
        absorbed = KA * a.depot
        return {"depot": -absorbed, "central": absorbed - ind.cl / V * a.central}

    return nlme.ODE(rhs, states=("depot", "central"), **rules)


def closed(ind, **rules):
    return nlme.pk.OneCompartmentOral(cl=ind.cl, v=V, ka=KA, **rules)


class Dosing(nlme.Model):
    """Lag, bioavailability and duration (of RATE = -2) of doses into central come from the data set."""

    sd: nlme.Scalar = nlme.positive(1.0)
    covariates = {"lagt": "h", "bioav": "", "dur2": "h"}
    form = staticmethod(closed)

    def individual(self, eta, cov):
        return dict(cl=jnp.asarray(CL), lag=cov.lagt, f=cov.bioav, duration=cov.dur2)

    def dynamics(self, ind):
        return self.form(ind, lag={"central": ind.lag}, bioavailability={"central": ind.f}, duration={"central": ind.duration})

    def observe(self, ind, state, t):
        return {"cp": nlme.additive(1000.0 * state.central / V, self.sd)}


class DosingODE(Dosing):
    form = staticmethod(ode)


class Varying(nlme.Model):
    """CL = 1.1 (WT / 70)^0.75; the weight of a record holds over the interval that ends there."""

    sd: nlme.Scalar = nlme.positive(1.0)
    covariates = {"wt": "kg"}
    form = staticmethod(closed)

    def individual(self, eta, cov):
        return dict(cl=CL * (cov.wt / 70.0) ** 0.75)

    def dynamics(self, ind):
        return self.form(ind)

    def observe(self, ind, state, t):
        return {"cp": nlme.additive(1000.0 * state.central / V, self.sd)}


class VaryingODE(Varying):
    form = staticmethod(ode)


def records(case, covariates):
    table = case.table()
    data = table.drop(columns=[c for c in table if c.endswith("_NONMEM")])
    data["DV"] = table.CP_NONMEM.where(table.EVID == 0)
    return table, nlme.read_nonmem(data, covariates=covariates, time_varying="auto")


@pytest.fixture(scope="module", params=[Dosing, pytest.param(DosingODE, marks=pytest.mark.slow)], ids=["closed form", "ODE"])
def dosing(request):
    table, population = records(DOSING, ["lagt", "bioav", "dur2"])
    return table.assign(CP=nlme.predict(request.param(), population)["cp"].to_numpy())


@pytest.mark.parametrize("scenario", [int(k) for k in DOSING.facts["scenarios"]])
def test_scenario(dosing, scenario):
    """Every record of the scenario, doses too."""
    rows = dosing[(dosing.ID == scenario) & (dosing.EVID != 1)]
    allowed = np.maximum(2e-4 * rows.CP_NONMEM, np.where(rows.CP_NONMEM < 100, 0.05, 0.0))
    worst = (rows.CP - rows.CP_NONMEM).abs() / np.maximum(allowed, 1e-9)
    assert len(rows) > 30 and worst.max() <= 1.0, rows[worst > 1.0][["TIME", "EVID", "CP", "CP_NONMEM"]]


@pytest.mark.parametrize("form", [Varying, VaryingODE], ids=["closed form", "ODE"])
def test_covariate_that_varies_in_time(form):
    table, population = records(VARYING, ["wt"])
    found = nlme.predict(form(), population)
    rows = (table.EVID == 0).to_numpy()
    np.testing.assert_allclose(found["cp"][rows], table.CP_NONMEM[rows], rtol=2e-4)
