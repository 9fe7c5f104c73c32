"""A maximum at an end of a parameter's range: SAEM says so, as the other methods do, and the rest has its standard errors."""

from __future__ import annotations

import numpy as np
import pytest

import nlme


class Line(nlme.Model):
    """y = a + eta + b t: linear and normal, so that FOCEI is exact."""

    a: nlme.Scalar = nlme.real(10.0)
    b: nlme.Scalar = nlme.real(-1.0)
    omega: nlme.Covariance = nlme.covariance(a=1.0)
    add: nlme.Scalar = nlme.positive(1.0)

    def individual(self, eta, cov):
        return dict(a=self.a + eta.a, b=self.b)

    def observe(self, ind, state, t):
        return {"y": nlme.additive(ind.a + ind.b * t, self.add)}


class Bounded(Line):
    """Its slope, -0.8 in the data, may not be below -0.5."""

    b: nlme.Scalar = nlme.bounded(-0.3, -0.5, 1.0)


class Combined(Line):
    """With a part of the error that the data do not have."""

    prop: nlme.Scalar = nlme.positive(0.1)

    def observe(self, ind, state, t):
        return {"y": nlme.combined(ind.a + ind.b * t, add=self.add, prop=self.prop)}


@pytest.fixture(scope="module")
def people():
    random, time = np.random.default_rng(8), np.arange(5.0)
    return nlme.Population(
        tuple(
            nlme.Subject(
                id=i + 1, time=time, dv=10 + 1.1 * random.normal() - 0.8 * time + 0.6 * random.normal(size=5), covariates={}
            )
            for i in range(25)
        )
    )


@pytest.mark.parametrize("model, name", [(Bounded(), "b"), (Combined(), "prop")])
def test_the_end_is_said_and_the_others_have_standard_errors(model, name, people):
    exact = nlme.fit(model, people, nlme.FOCEI(), progress=False)
    found = nlme.fit(model, people, nlme.SAEM(), progress=False, starts=0)
    assert name in exact.ended and found.ended == {name: -1}
    assert found.converged and f"{name} = " in found.verdict and "lower bound" in found.verdict
    assert nlme.evaluate(found.model, people, nlme.FOCEI()).objective == pytest.approx(exact.objective, abs=0.01)
    errors, right = found.covariance.standard_errors, exact.covariance.standard_errors
    assert np.isnan(errors[name])
    others = [n for n in errors.index if n != name]
    np.testing.assert_allclose(errors[others], right[others], rtol=0.1)


def test_a_parameter_inside_its_range_has_not_ended(people):
    assert nlme.fit(Line(), people, nlme.SAEM(), progress=False, starts=0).ended == {}
