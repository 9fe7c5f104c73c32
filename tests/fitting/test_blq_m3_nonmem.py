"""104 of 500 concentrations below the limit (M3), 100 subjects: NONMEM 7.4.3 by importance sampling and by Laplace's method.

Laplace's objective by subject is in ``tests/observation/test_censoring.py``.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from reference import case, lower, lower_elements

import nlme

CASE = case("blq_m3_nonmem")
EFFECTS = ("cl", "v1", "q", "v2")


class Tutorial(nlme.Model):
    cl: nlme.Scalar = nlme.real(2.0)
    v1: nlme.Scalar = nlme.real(2.0)
    q: nlme.Scalar = nlme.real(2.0)
    v2: nlme.Scalar = nlme.real(2.0)
    sd: nlme.Scalar = nlme.positive(0.5)
    omega: nlme.Covariance = nlme.covariance(EFFECTS, 0.2 * np.eye(4) + 0.01 * (1 - np.eye(4)))

    def individual(self, eta, cov):
        return {name: jnp.exp(getattr(self, name) + eta[name]) for name in EFFECTS}

    def dynamics(self, ind):
        return nlme.pk.TwoCompartment(cl=ind.cl, v1=ind.v1, q=ind.q, v2=ind.v2)

    def observe(self, ind, state, t):
        return {"y": nlme.censored(nlme.additive(jnp.log(state.central / ind.v1), self.sd), lloq=-3.5)}


def at(name: str, place: str) -> Tutorial:
    printed = CASE.reference(name)[place]["parameters"]
    return Tutorial(*printed["THETA"], omega=lower(printed["OMEGA_lower"]))


def flat(numbers: dict) -> np.ndarray:
    return np.array([*numbers["THETA"], *lower_elements(numbers["OMEGA_lower"])], float)


@pytest.fixture(scope="module")
def population():
    return nlme.read_nonmem(CASE.table())


def away(fit, printed) -> dict[str, float]:
    """Distance from NONMEM's estimates in its standard errors."""
    z = ([row.value for row in fit.parameters] - flat(printed["at_final"]["parameters"])) / flat(printed["standard_errors"])
    return dict(zip(fit.inventory.all_names, z.round(3), strict=True))


@pytest.mark.slow
def test_objective_by_importance_sampling(population):
    """Subject 32 has two modes and half of the error; it is said."""
    printed = CASE.reference("importance_sampling_em")["at_final"]["objective"]
    found = nlme.evaluate(at("importance_sampling_em", "at_final"), population, nlme.ImportanceSampling(20_000))
    assert found.monte_carlo.error < 0.2
    assert found.objective == pytest.approx(printed, abs=0.5)
    assert any("Pareto k" in message for message in found.messages)


@pytest.mark.slow
def test_fit_by_importance_sampling(population):
    """From NONMEM's starting values: fixed effects within 0.15 standard errors, variances within the noise of both sets of draws."""
    printed = CASE.reference("importance_sampling_em")
    fit = nlme.fit(at("importance_sampling_em", "at_initial"), population, nlme.ImportanceSampling(2000), progress=False)
    assert fit.converged, fit.verdict
    assert fit.objective == pytest.approx(printed["at_final"]["objective"], abs=0.5)
    z = away(fit, printed)
    assert max(abs(z[name]) for name in (*EFFECTS, "sd")) < 0.15, z
    assert max(map(abs, z.values())) < 0.4, z


@pytest.mark.slow
def test_fit_by_quadrature(population):
    """The integral without draws: NONMEM's estimates lie within 0.15 standard errors of it, but for omega.v1 (0.18)."""
    printed = CASE.reference("importance_sampling_em")
    fit = nlme.fit(at("importance_sampling_em", "at_final"), population, nlme.AGQ(points=8), progress=False)
    assert fit.converged, fit.verdict
    assert fit.objective == pytest.approx(printed["at_final"]["objective"], abs=0.5)
    z = away(fit, printed)
    assert max(abs(value) for name, value in z.items() if name != "omega.v1") < 0.15, z
    assert abs(z["omega.v1"]) < 0.2, z
