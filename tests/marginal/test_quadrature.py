"""Quadrature and importance sampling: exact where the integral is known, of one opinion where it is not."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

import nlme
from nlme.estimation.objective import evaluate_subjects
from nlme.language.layout import lay_out
from nlme.parameters.inventory import Inventory


class Mean(nlme.Model):
    """Linear in its random effects: every method is exact."""

    level: nlme.Scalar = nlme.real(2.0)
    slope: nlme.Scalar = nlme.real(-0.3)
    sd: nlme.Scalar = nlme.positive(0.5)
    omega: nlme.Covariance = nlme.covariance(level=0.5, slope=0.1, correlation={("level", "slope"): 0.3})

    def individual(self, eta, cov):
        return dict(level=self.level + eta.level, slope=self.slope + eta.slope)

    def observe(self, ind, state, t):
        return {"y": nlme.additive(ind.level + ind.slope * t, self.sd)}


class Decay(nlme.Model):
    """One random effect, far from linear: two observations and a large variance."""

    k: nlme.Scalar = nlme.positive(0.4)
    sd: nlme.Scalar = nlme.positive(0.8)
    omega: nlme.Covariance = nlme.covariance(k=0.9)

    def individual(self, eta, cov):
        return dict(k=self.k * jnp.exp(eta.k))

    def dynamics(self, ind):
        return nlme.pk.OneCompartment(cl=ind.k, v=1.0)

    def observe(self, ind, state, t):
        return {"y": nlme.additive(state.central, self.sd)}


class DecayODE(Decay):
    def dynamics(self, ind):
        return nlme.ODE(lambda t, a: {"central": -ind.k * a.central}, ("central",))


TIMES = np.array([1.0, 3.0])


def lines(seed=3):
    random = np.random.default_rng(seed)
    times = [np.sort(random.uniform(0, 5, n)) for n in (1, 3, 5)]
    return nlme.Population(tuple(nlme.Subject(id=i, time=t, dv=2 + random.normal(size=len(t))) for i, t in enumerate(times, 1)))


def decays():
    def subject(i, y):
        return nlme.Subject(
            id=i, time=np.r_[0.0, TIMES], evid=[1, 0, 0], amt=[10.0, 0, 0], dv=np.r_[np.nan, y]
        )

    return nlme.Population((subject(1, [7.0, 3.5]), subject(2, [2.0, 0.3]), subject(3, [9.4, 8.8])))


def integral(model, population) -> np.ndarray:
    """-2 log L of every subject without the constant, by scipy's adaptive quadrature."""
    sd, omega = float(model.sd), float(np.sqrt(model.omega.matrix[0, 0]))
    out = []
    for s in population:
        y = s.dv[1:]

        def density(eta, y=y):
            f = 10.0 * np.exp(-float(model.k) * np.exp(eta) * TIMES)
            return np.prod(norm.pdf(y, f, sd)) * norm.pdf(eta, 0.0, omega)

        value = quad(density, -8 * omega, 8 * omega, epsabs=0, epsrel=1e-11, limit=400, points=[-1, 0, 1])[0]
        out.append(-2 * np.log(value) - len(y) * np.log(2 * np.pi))
    return np.array(out)


@pytest.mark.parametrize("method", [nlme.AGQ(1), nlme.AGQ(4)], ids=repr)
def test_linear_models_are_exact(method):
    exact = nlme.evaluate(Mean(), lines(), nlme.FO()).subjects["objective"]
    np.testing.assert_allclose(nlme.evaluate(Mean(), lines(), method).subjects["objective"], exact, rtol=1e-9)


@pytest.mark.slow
def test_importance_sampling_of_a_linear_model_is_within_its_error():
    """The proposal is not the posterior (t against normal), so there is an error, and it is the one stated, in 60 subjects."""
    many = nlme.Population(
        tuple(nlme.Subject(id=20 * i + k, time=s.time, dv=s.dv) for i, s in enumerate(lines(), 1) for k in range(20))
    )
    exact = nlme.evaluate(Mean(), many, nlme.FO()).values
    found = nlme.evaluate(Mean(), many, nlme.ImportanceSampling(400))
    z = (found.values - exact) / found.monte_carlo.errors
    assert 0.8 < np.std(z) < 1.25 and abs(np.mean(z)) < 0.45
    assert found.monte_carlo.error == pytest.approx(np.sqrt(np.sum(found.monte_carlo.errors**2)), rel=1e-12)
    assert abs(found.objective - exact.sum()) < 3 * found.monte_carlo.error
    assert found.monte_carlo.pareto_k.max() < 0.7 and not found.messages


def test_nodes_converge_to_the_integral():
    exact = integral(Decay(), decays())
    errors = [
        np.abs(nlme.evaluate(Decay(), decays(), nlme.AGQ(n)).subjects["objective"].to_numpy() - exact).max() for n in (1, 5, 40)
    ]
    assert errors[0] > 0.02 and errors[1] < errors[0] / 4 and errors[2] < 1e-5


def test_importance_sampling_finds_the_integral():
    found = nlme.evaluate(Decay(), decays(), nlme.ImportanceSampling(20_000))
    assert found.monte_carlo.error < 0.03
    assert abs(found.objective - integral(Decay(), decays()).sum()) < 4 * found.monte_carlo.error
    assert f"± {found.monte_carlo.error:.3g}" in repr(found)


def test_one_node_is_the_conditional_method_with_interaction():
    one, focei = (nlme.evaluate(Decay(), decays(), m).subjects["objective"] for m in (nlme.AGQ(1), nlme.FOCEI()))
    np.testing.assert_allclose(one, focei, rtol=1e-12)


@pytest.mark.parametrize("form", [Decay, DecayODE])
@pytest.mark.parametrize("kind", [nlme.AGQ, nlme.ImportanceSampling])
def test_gradient(form, kind):
    """Nodes move with the parameters, and their motion is in the gradient."""
    tight = dict(inner_tolerance=1e-22, ode=nlme.Tolerances(relative=1e-11, absolute=1e-13))
    method = kind(points=3, **tight) if kind is nlme.AGQ else kind(samples=20, **tight)
    model, inventory = form(), Inventory(form())
    layout = lay_out(model, decays())
    u = np.asarray(inventory.unconstrained(model))

    def at(u):
        return evaluate_subjects(method, layout.anatomy, inventory, model, layout.arrays, jnp.asarray(u), jnp.zeros((3, 1)))

    gradient = np.asarray(at(u).gradient)
    for k in range(len(u)):
        step = 1e-4 * np.eye(len(u))[k]
        expected = (np.asarray(at(u + step).value) - np.asarray(at(u - step).value)) / 2e-4
        np.testing.assert_allclose(gradient[:, k], expected, rtol=2e-6, atol=1e-6, err_msg=inventory.names[k])


def test_draws_of_subjects_are_their_own_and_reproducible():
    from nlme.estimation.monte_carlo import monte_carlo

    twin = decays()[0]
    pair = nlme.Population((twin, nlme.Subject(id=9, time=twin.time, evid=twin.evid, amt=twin.amt, dv=twin.dv)))
    one, again = (nlme.evaluate(Decay(), pair, nlme.ImportanceSampling(50)) for _ in range(2))
    np.testing.assert_array_equal(one.values, again.values)
    assert one.values[0] != one.values[1]
    spread = monte_carlo(one.method, one.model, one.layout, one.b)
    assert (spread.effective > 1).all() and (spread.effective <= 50).all()


def test_bad_weights_are_said():
    """Two modes, one of them unseen from the other: the tail of the weights betrays it."""
    flat = nlme.Population((nlme.Subject(id=5, time=[0.0, 4.0], evid=[1, 0], amt=[10.0, 0.0], dv=[np.nan, 0.02]),))

    class Wide(Decay):
        omega: nlme.Covariance = nlme.covariance(k=400.0)

    found = nlme.evaluate(Wide(sd=0.01), flat, nlme.ImportanceSampling(500))
    assert any("Pareto k" in m and "5 (k =" in m for m in found.messages)


def test_too_many_nodes_are_refused():
    with pytest.raises(nlme.ModelError, match=r"200\^2 = 40,000"):
        nlme.evaluate(Mean(), lines(), nlme.AGQ(200))
    for bad in (lambda: nlme.AGQ(0), lambda: nlme.ImportanceSampling(1), lambda: nlme.ImportanceSampling(degrees=0.0)):
        with pytest.raises(nlme.ModelError):
            bad()
