"""Quadrature and importance sampling: exact where the integral is known, of one opinion where it is not."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from scipy.integrate import quad
from scipy.stats import norm

import nlme
from nlme.language.layout import lay_out
from nlme.linalg import raised
from nlme.marginal.objective import evaluate_subjects
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
        return nlme.Subject(id=i, time=np.r_[0.0, TIMES], evid=[1, 0, 0], amt=[10.0, 0, 0], dv=np.r_[np.nan, y])

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


@pytest.mark.slow
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


@pytest.mark.slow
def test_nodes_converge_to_the_integral():
    exact = integral(Decay(), decays())
    errors = [
        np.abs(nlme.evaluate(Decay(), decays(), nlme.AGQ(n)).subjects["objective"].to_numpy() - exact).max() for n in (1, 5, 40)
    ]
    assert errors[0] > 0.02 and errors[1] < errors[0] / 4 and errors[2] < 1e-5


@pytest.mark.slow
def test_importance_sampling_finds_the_integral():
    found = nlme.evaluate(Decay(), decays(), nlme.ImportanceSampling(20_000))
    assert found.monte_carlo.error < 0.03
    assert abs(found.objective - integral(Decay(), decays()).sum()) < 4 * found.monte_carlo.error
    assert f"± {found.monte_carlo.error:.3g}" in repr(found)


@pytest.mark.slow
def test_one_node_is_the_conditional_method_with_interaction():
    one, focei = (nlme.evaluate(Decay(), decays(), m).subjects["objective"] for m in (nlme.AGQ(1), nlme.FOCEI()))
    np.testing.assert_allclose(one, focei, rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("form", [Decay, pytest.param(DecayODE, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", [nlme.AGQ, pytest.param(nlme.ImportanceSampling, marks=pytest.mark.slow)])
def test_gradient(form, kind):
    """Nodes move with the parameters, and their motion is in the gradient."""
    tight = dict(inner_tolerance=1e-22, ode=nlme.Tolerances(relative=1e-11, absolute=1e-13, solver="explicit"))
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


@pytest.mark.slow
def test_draws_of_subjects_are_their_own_and_reproducible():
    from nlme.fitting.monte_carlo import monte_carlo

    twin = decays()[0]
    pair = nlme.Population((twin, nlme.Subject(id=9, time=twin.time, evid=twin.evid, amt=twin.amt, dv=twin.dv)))
    one, again = (nlme.evaluate(Decay(), pair, nlme.ImportanceSampling(50)) for _ in range(2))
    np.testing.assert_array_equal(one.values, again.values)
    assert one.values[0] != one.values[1]
    spread = monte_carlo(one.method, one.model, one.layout, one.b)
    assert (spread.effective > 1).all() and (spread.effective <= 50).all()


@pytest.mark.slow
def test_importance_sampling_sees_what_the_mode_does_not():
    """Beyond the mode the density is flat (all the drug is gone, and the datum two sd away): most of the integral, out to 20."""

    class Wide(Decay):
        omega: nlme.Covariance = nlme.covariance(k=400.0)

    late = nlme.Population((nlme.Subject(id=5, time=[0.0, 4.0], evid=[1, 0], amt=[10.0, 0.0], dv=[np.nan, 0.02]),))

    def density(eta):
        return norm.pdf(0.02, 10.0 * np.exp(-float(Wide().k) * np.exp(eta) * 4.0), 0.01) * norm.pdf(eta, 0.0, 20.0)

    pieces = sum(quad(density, a, b, epsabs=0, epsrel=1e-11, limit=400)[0] for a, b in [(-100, 0), (0, 2), (2, 5), (5, 200)])
    found = nlme.evaluate(Wide(sd=0.01), late, nlme.ImportanceSampling(2000))
    assert found.monte_carlo.error < 0.15 and not found.messages
    assert abs(found.objective - (-2 * np.log(pieces) - np.log(2 * np.pi))) < 4 * found.monte_carlo.error


class Square(nlme.Model):
    """Two modes, at -2 and 2, that a search started from zero cannot both find."""

    sd: nlme.Scalar = nlme.positive(0.3)
    omega: nlme.Covariance = nlme.covariance(m=1.0)

    def individual(self, eta, cov):
        return {"m": 0.01 + eta.m}

    def observe(self, ind, state, t):
        return {"y": nlme.additive(ind.m**2, self.sd)}


@pytest.mark.slow
def test_bad_weights_are_said():
    """The few draws that land in the other mode are most of the sum: the tail of the weights betrays it (of seeds 0 to 11, ten have
    such draws and say so; where none lands there nothing can be seen)."""
    one = nlme.Population((nlme.Subject(id=5, time=[0.0, 1.0], dv=[4.0, 4.1]),))
    found = nlme.evaluate(Square(), one, nlme.ImportanceSampling(500, seed=1))
    assert any("Pareto k" in m and "5 (k =" in m for m in found.messages)


def test_too_many_nodes_are_refused():
    with pytest.raises(nlme.ModelError, match=r"200\^2 = 40,000"):
        nlme.evaluate(Mean(), lines(), nlme.AGQ(200))
    for bad in (lambda: nlme.AGQ(0), lambda: nlme.ImportanceSampling(1), lambda: nlme.ImportanceSampling(degrees=0.0)):
        with pytest.raises(nlme.ModelError):
            bad()


class Blind(nlme.Model):
    """Nearly certain answers and values below a limit: what a score's outer product places nodes wrongly for."""

    base: nlme.Scalar = nlme.real(-2.0)
    sd: nlme.Scalar = nlme.positive(0.3)
    omega: nlme.Covariance = nlme.covariance(ill=4.0, level=0.5)

    def individual(self, eta, cov):
        return {"p": jax.nn.sigmoid(self.base + eta.ill), "level": eta.level}

    def observe(self, ind, state, t):
        return {
            "answer": nlme.binary(ind.p),
            "y": nlme.censored(nlme.additive(ind.level, self.sd), lloq=-0.5),
        }


@pytest.mark.slow
def test_quadrature_of_answers_and_of_values_below_a_limit():
    """15 nodes give the integral, by scipy in both effects apart, and one node its Laplace approximation (no states: exact Hessian)."""
    data = pd.DataFrame(
        {"ID": np.repeat([1, 2], 6), "TIME": np.tile(np.arange(6.0), 2), "DV": [0, 0, 0, 0, 0, -9, 1, 0, 1, 0, 0.2, -9],
         "DVID": np.tile(["answer"] * 4 + ["y"] * 2, 2)}
    )  # fmt: skip
    data["CENS"] = (data["DV"] == -9).astype(int)
    data.loc[[4], "DV"] = 0.1
    population = nlme.read_nonmem(data)
    model = Blind()
    exact = []
    for subject in (data[data.ID == i] for i in (1, 2)):
        answers = subject[subject.DVID == "answer"].DV.to_numpy()
        seen = float(subject.DV.iloc[4])

        def of_answers(eta, answers=answers):
            p = 1 / (1 + np.exp(2.0 - eta))
            return np.prod(np.where(answers == 1, p, 1 - p)) * norm.pdf(eta, 0, 2)

        def of_levels(eta, seen=seen):
            return norm.pdf(seen, eta, 0.3) * norm.cdf((-0.5 - eta) / 0.3) * norm.pdf(eta, 0, np.sqrt(0.5))

        product = quad(of_answers, -20, 20, epsrel=1e-11)[0] * quad(of_levels, -8, 8, epsrel=1e-11)[0]
        exact.append(-2 * np.log(product) - np.log(2 * np.pi))
    np.testing.assert_allclose(nlme.evaluate(model, population, nlme.AGQ(15)).values, exact, atol=1e-3)
    one, laplace = (nlme.evaluate(model, population, m).values for m in (nlme.AGQ(1), nlme.Laplace()))
    np.testing.assert_allclose(one, laplace, rtol=1e-9)


def test_raised_eigenvalues():
    """As they are where they are large; the derivative against central differences, with a repeated eigenvalue among them."""
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]
    matrix = jnp.asarray(rotation * [3.0, 1.0, 1.0, -2.0] @ rotation.T)
    direction = np.random.default_rng(1).normal(size=(4, 4))
    direction = jnp.asarray(direction + direction.T)
    np.testing.assert_allclose(np.linalg.eigvalsh(raised(matrix, 0.25)), [0.25, 1, 1, 3], atol=1e-12)
    slope = jax.jvp(lambda m: raised(m, 0.25), (matrix,), (direction,))[1]
    up, down = (raised(matrix + h * direction, 0.25) for h in (1e-5, -1e-5))
    np.testing.assert_allclose(slope, (up - down) / 2e-5, atol=1e-7)
