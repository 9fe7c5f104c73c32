"""Likelihoods without a maximum: 0 predicted as 0 exactly under an error that can go to zero, against counting and the normal density."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import nlme


class Oral(nlme.Model):
    cl: nlme.Scalar = nlme.positive(1.0)
    v: nlme.Scalar = nlme.positive(10.0)
    omega: nlme.Covariance = nlme.covariance(cl=0.1)
    add: nlme.Scalar = nlme.positive(0.1)
    prop: nlme.Scalar = nlme.positive(0.1)

    def individual(self, eta, cov):
        return dict(cl=self.cl * jnp.exp(eta.cl), v=self.v)

    def dynamics(self, ind):
        return nlme.pk.OneCompartmentOral(cl=ind.cl, v=ind.v, ka=1.0)

    def observe(self, ind, state, t):
        return {"conc": nlme.combined(state.central / ind.v, add=self.add, prop=self.prop)}


class Alone(Oral):
    """Its error has an additive part only, which the other observations need."""

    def observe(self, ind, state, t):
        return {"conc": nlme.additive(state.central / ind.v, self.add + 0.0 * self.prop)}


@pytest.fixture(scope="module")
def drawn():
    """Ten people; four of them have a sample of 0 before the dose."""
    rows = []
    for i in range(1, 11):
        rows += [dict(ID=i, TIME=0.0, EVID=0, MDV=0, AMT=0.0, DV=0.0)] * (i <= 4)
        rows += [dict(ID=i, TIME=0.0, EVID=1, MDV=1, AMT=100.0, DV=np.nan)]
        rows += [dict(ID=i, TIME=t, EVID=0, MDV=0, AMT=0.0, DV=1.0) for t in (0.5, 1, 2, 4, 8, 12, 24, 36, 48, 60, 72)]
    frame = pd.DataFrame(rows)
    told = nlme.simulate(Oral(), nlme.read_nonmem(frame), key=1, eta="new")
    seen = frame.EVID == 0
    frame.loc[seen, "DV"] = np.where(frame.TIME[seen] == 0, 0.0, told.DV.to_numpy())
    return frame


@pytest.mark.parametrize("method", [nlme.FOCEI(), nlme.FO()])
def test_a_local_maximum_is_called_so(drawn, method):
    fit = nlme.fit(Oral(), nlme.read_nonmem(drawn), method, progress=False)
    assert fit.converged and fit.unbounded == {"add": 4}
    assert "no maximum: 4 observations of 0" in fit.verdict and "as add goes to 0" in fit.verdict
    deep = [
        nlme.evaluate(Oral.from_fit(dict(fit.estimates) | {"add": add}), nlme.read_nonmem(drawn), method).objective
        for add in (1e-12, 1e-14)
    ]
    assert deep[0] - deep[1] == pytest.approx(2 * 4 * np.log(100.0), rel=1e-6)


@pytest.mark.slow
def test_by_saem(drawn):
    fit = nlme.fit(Oral(), nlme.read_nonmem(drawn), nlme.SAEM(seed=1), progress=False)
    assert fit.unbounded == {"add": 4} and "no maximum: 4 observations of 0" in fit.verdict


def test_a_search_that_went_there_says_so(drawn):
    fit = nlme.fit(Oral(add=1e-7), nlme.read_nonmem(drawn), progress=False, starts=0)
    assert not fit.converged and fit.verdict.startswith("Do not use as it is: The likelihood has no maximum: 4 observations of 0")
    assert "The search went there" in fit.verdict and "does not depend on it" not in str(fit.audit)


def test_what_has_a_maximum_is_not_called_so(drawn):
    without = drawn[~((drawn.TIME == 0) & (drawn.EVID == 0))]
    assert not nlme.fit(Oral(), nlme.read_nonmem(without), progress=False).unbounded
    assert not nlme.fit(Alone(), nlme.read_nonmem(drawn), fixed="prop", progress=False).unbounded
    assert not nlme.fit(Oral(add=0.05), nlme.read_nonmem(drawn), fixed="add", progress=False).unbounded


def test_it_is_saved(drawn, tmp_path):
    fit = nlme.fit(Oral(), nlme.read_nonmem(drawn), nlme.FO(), progress=False)
    fit.save(tmp_path / "fit.nlme")
    assert nlme.load(tmp_path / "fit.nlme", Oral).unbounded == {"add": 4}
