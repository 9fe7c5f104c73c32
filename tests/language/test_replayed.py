"""Many weights inside an ODE: one pass back through the steps gives the derivative that the jet in every weight gives."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nlme
from nlme.language import solution
from nlme.language.layout import lay_out
from nlme.marginal.joint import log_joint
from nlme.marginal.objective import evaluate_subjects
from nlme.parameters.inventory import Inventory

TIGHT = nlme.Tolerances(relative=1e-11, absolute=1e-13)


class Learned(nlme.Model):
    """Oral doses, elimination by a small network of the concentration, a lag that moves the dose."""

    ka: nlme.Scalar = nlme.positive(0.9)
    lag: nlme.Scalar = nlme.positive(0.4)
    v: nlme.Scalar = nlme.positive(8.0)
    net: nlme.MLP = nlme.mlp(inputs=("c",), outputs=1, width=2, depth=1, key=1)
    sd: nlme.Scalar = nlme.positive(0.4)
    omega: nlme.Covariance = nlme.covariance(v=0.1)
    covariates = {"x": ""}

    def individual(self, eta, cov):
        return dict(ka=self.ka * jnp.exp(0.3 * cov.x), v=self.v * jnp.exp(eta.v), lag=self.lag)

    def dynamics(self, ind):
        def rhs(t, a):
            c = a.central / ind.v
            absorbed = ind.ka * a.depot
            return {"depot": -absorbed, "central": absorbed - jnp.exp(self.net(c)[0]) * c}

        return nlme.ODE(rhs, ("depot", "central"), lag=ind.lag)

    def observe(self, ind, state, t):
        return {"y": nlme.additive(state.central / ind.v, self.sd)}


def population(varying: bool, steady: bool = False) -> nlme.Population:
    random = np.random.default_rng(3)

    def subject(i, t):
        n = len(t) + 2
        x = random.normal(size=n) if varying else np.full(n, random.normal())
        return nlme.Subject(
            id=i, time=np.r_[0.0, t, 9.0], evid=np.r_[1, 0 * t, 1].astype(int), amt=np.r_[60.0, 0 * t, 20.0],
            dv=np.r_[np.nan, 4.0 * np.exp(-0.15 * t), np.nan], covariates={"x": x},
            ss=np.r_[int(steady), 0 * t, 0].astype(int), ii=np.r_[12.0 * steady, 0 * t, 0.0],
        )  # fmt: skip

    return nlme.Population((subject(1, np.array([0.5, 2.0, 6.0])), subject(2, np.array([1.0, 8.0]))))


def model() -> Learned:
    start = Learned()
    inventory = Inventory(start)
    u = np.asarray(inventory.unconstrained(start))
    return inventory.at_unconstrained(start, jnp.asarray(u + 0.1 * np.random.default_rng(1).normal(size=len(u))))


@pytest.fixture
def taken(monkeypatch):
    """Which way was taken, by name."""
    seen = []
    for kind in (solution.Replayed, solution.Expansion):
        begin = kind.__init__
        monkeypatch.setattr(
            kind, "__init__", lambda self, *a, begin=begin, kind=kind: (seen.append(kind.__name__), begin(self, *a))[1]
        )
    return seen


CASES = [(nlme.FO, False), (nlme.FOCEI, False), (nlme.FOCEI, True)]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "varying"), CASES)
def test_gradient_of_the_objective(monkeypatch, taken, kind, varying):
    at, people = model(), population(varying)
    layout, inventory = lay_out(at, people), Inventory(at)
    u = inventory.unconstrained(at)

    def gradient(passes, iterations):  # another limit of iterations is another program, so that nothing is reused
        monkeypatch.setattr(solution, "_PASSES", passes)
        method = kind(inner_tolerance=1e-22, inner_iterations=iterations, ode=TIGHT)
        found = evaluate_subjects(method, layout.anatomy, inventory, at, layout.arrays, u, jnp.zeros((2, 1)))
        assert bool(found.converged.all())
        return found

    jets = gradient(10**6, 90)
    assert set(taken) == {"Expansion"}
    back = gradient(0, 91)
    assert "Replayed" in taken
    np.testing.assert_allclose(back.value, jets.value, rtol=1e-9)
    # an element that is small because large terms cancel is known to the digits of those
    np.testing.assert_allclose(back.gradient, jets.gradient, rtol=1e-6, atol=1e-8 * np.abs(jets.gradient).max())


@pytest.mark.slow
def test_gradient_of_the_joint_density(monkeypatch, taken):
    at, people = model(), population(False)
    layout, inventory = lay_out(at, people), Inventory(at)
    b = jnp.asarray([[0.3], [-0.8]])

    def gradient(passes):
        monkeypatch.setattr(solution, "_PASSES", passes)

        def density(u, b):
            return log_joint(inventory.at_unconstrained(at, u), layout.anatomy, layout.arrays, b, 1, TIGHT)[0]

        return jax.jit(jax.grad(density, (0, 1)))(inventory.unconstrained(at), b)

    jets = gradient(10**6)
    assert set(taken) == {"Expansion"}
    back = gradient(0)
    assert "Replayed" in taken
    for ours, theirs in zip(back, jets, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-7, atol=1e-6)  # of 28


@pytest.mark.slow
def test_gradient_through_a_steady_state(monkeypatch, taken):
    """Of states after a dose in steady state, and of their derivatives in the random effects."""
    at, people = model(), population(False, steady=True)
    layout, inventory = lay_out(at, people), Inventory(at)
    data, _ = layout.subject(0)
    eta = jnp.array([0.3])

    def gradient(passes):
        monkeypatch.setattr(solution, "_PASSES", passes)

        def looked_at(u):
            moved = inventory.at_unconstrained(at, u)
            found = solution.expand(moved, layout.anatomy, eta, data.covariates, data.timeline, 2, TIGHT)

            def weighted(eta):
                central = found(moved, eta).states[:, 1]  # the state that is observed
                return jnp.sum(central * jnp.arange(1.0, 1.0 + len(central)))

            return weighted(eta) + jnp.sum(jax.grad(weighted)(eta))

        return jax.jit(jax.grad(looked_at))(inventory.unconstrained(at))

    jets = gradient(10**6)
    assert set(taken) == {"Expansion"}
    back = gradient(0)
    assert "Replayed" in taken
    np.testing.assert_allclose(back, jets, rtol=1e-7, atol=1e-7 * np.abs(jets).max())


@pytest.mark.slow
def test_small_networks_keep_their_jet_and_large_ones_do_not():
    """The choice is made by the number of columns."""
    people = population(False)

    def kind(width):
        at = type("Wide", (Learned,), {"__annotations__": {"net": nlme.MLP}, "net": nlme.mlp(
            inputs=("c",), outputs=1, width=width, depth=1, key=1)})()  # fmt: skip
        layout = lay_out(at, people)
        data, _ = layout.subject(0)
        found = []

        def expanded(eta):
            found.append(type(solution.expand(at, layout.anatomy, eta, data.covariates, data.timeline, 2, TIGHT)))
            return eta

        jax.eval_shape(expanded, jnp.zeros(1))
        return found[0]

    assert kind(2) is solution.Expansion
    assert kind(16) is solution.Replayed
