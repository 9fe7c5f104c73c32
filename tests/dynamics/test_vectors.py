"""States that are vectors: a partial differential equation by the method of lines, the same system element by element."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from states import TIGHT, model_of, population_of, states_of

import nlme
from nlme.dynamics.dense import inverted
from nlme.language.layout import lay_out
from nlme.marginal.objective import evaluate_subjects
from nlme.parameters.inventory import Inventory

NOTHING = [[dict(time=0.0, evid=2)]]
STIFF = nlme.Tolerances(relative=1e-9, absolute=1e-11, solver="stiff")


def diffusion(points: int):
    """u_t = d u_xx on (0, 1), 0 at both ends, sin(pi x) at first: exp(-pi^2 d t) sin(pi x)."""
    dx = 1.0 / (points + 1)
    x = dx * jnp.arange(1, points + 1)

    def of(ind):
        def rhs(t, a):
            u = jnp.pad(a.u, 1)
            return {"u": ind.d * (u[2:] - 2.0 * u[1:-1] + u[:-2]) / dx**2}

        return nlme.ODE(rhs, {"u": points}, {"u": jnp.sin(jnp.pi * x)})

    return of, x


@pytest.mark.slow
def test_diffusion():
    """The lines are solved exactly, derivatives too; they are of order 2 in the distance of the points."""
    times, d, errors = np.array([0.05, 0.3]), 0.3, []
    for points, order in ((31, 0), (64, 2)):
        of, x = diffusion(points)
        x = np.asarray(x)
        found = [y[0] for y in states_of(model_of({"d": d}, of), population_of(NOTHING, times), order, STIFF)()]
        dx = x[0]
        rate = (4.0 / dx**2 * np.sin(np.pi * dx / 2) ** 2 * d * times)[:, None]
        lines = np.exp(-rate) * np.sin(np.pi * x)
        np.testing.assert_allclose(found[0], lines, atol=1e-9)
        if order:
            np.testing.assert_allclose(found[1][..., 0], -rate * lines, atol=1e-9)
            np.testing.assert_allclose(found[2][..., 0, 0], (rate**2 - rate) * lines, atol=1e-8)
        exact = np.exp(-(np.pi**2) * d * times)[:, None] * np.sin(np.pi * x)
        errors.append((dx, np.abs(found[0] - exact).max()))
    (coarse, large), (fine, small) = errors
    assert abs(np.log(large / small) / np.log(coarse / fine) - 2.0) < 0.05


class Slab(nlme.Model):
    """A drug diffuses through a layer of 64 points with a loss; it is seen at the far end."""

    d: nlme.Scalar = nlme.positive(0.3)
    k: nlme.Scalar = nlme.positive(0.5)
    omega: nlme.Covariance = nlme.covariance(d=0.1)
    sd: nlme.Scalar = nlme.positive(0.02)

    def individual(self, eta, cov):
        return dict(d=self.d * jnp.exp(eta.d), k=self.k)

    def dynamics(self, ind):
        of, _ = diffusion(64)
        inside = of(ind)

        def rhs(t, a):
            into = ind.k * a.skin
            return {"skin": -into, "u": inside.rhs(t, a)["u"].at[0].add(64.0 * into)}

        return nlme.ODE(rhs, {"skin": 1, "u": 64})

    def observe(self, ind, state, t):
        return {"far": nlme.additive(state.u[60], self.sd)}


@pytest.mark.slow
def test_gradient_of_focei():
    """One subject, against central differences."""
    model, inventory = Slab(), Inventory(Slab())
    layout = lay_out(model, population_of([[dict(time=0.0, amt=1.0)]], [0.2, 0.5, 1.5]))
    method = nlme.FOCEI(inner_tolerance=1e-20, ode=STIFF)
    u = np.asarray(inventory.unconstrained(model))

    def at(u):
        return evaluate_subjects(method, layout.anatomy, inventory, model, layout.arrays, jnp.asarray(u), jnp.zeros((1, 1)))

    gradient = np.asarray(at(u).gradient)[0]
    for k in range(2):
        step = 1e-4 * np.eye(len(u))[k]
        expected = (np.asarray(at(u + step).value)[0] - np.asarray(at(u - step).value)[0]) / 2e-4
        np.testing.assert_allclose(gradient[k], expected, rtol=1e-5, err_msg=inventory.names[k])


def chain(vector: bool):
    """Absorption into a chain of three, with a saturable loss at its end."""

    def of(ind):
        def rhs(t, a):
            c = a.c if vector else jnp.stack([a["c0"], a["c1"], a["c2"]])
            out = jnp.stack([ind.k * c[0], ind.k * c[1], ind.v * c[2] / (1.0 + c[2])])
            slopes = jnp.concatenate([jnp.zeros(1), out[:-1]]) - out
            slopes = slopes.at[0].add(ind.ka * a.depot)
            parts = {"c": slopes} if vector else {f"c{k}": slopes[k] for k in range(3)}
            return {"depot": -ind.ka * a.depot} | parts

        states = {"depot": 1, "c": 3} if vector else ("depot", "c0", "c1", "c2")
        start = {"c": jnp.array([0.0, 0.0, 0.5])} if vector else {"c2": 0.5}
        return nlme.ODE(rhs, states, start, lag=ind.lag)

    return of


@pytest.mark.slow
@pytest.mark.parametrize("solver", [None, "auto"])
def test_agrees_element_by_element(solver):
    """Doses into a vector, a lag, an infusion, a reset: states and first derivatives."""
    records = [
        dict(time=0.0, amt=5.0), dict(time=1.0, amt=2.0, cmt=3, duration=1.5), dict(time=6.0, amt=3.0, evid=4),
        dict(time=7.0, amt=1.0, cmt=4),
    ]  # fmt: skip
    population = population_of([records], [0.0, 0.5, 2.0, 4.0, 6.5, 9.0])
    typical = dict(ka=1.1, k=0.7, v=0.9, lag=0.2)
    tight = nlme.Tolerances(TIGHT.relative, TIGHT.absolute, solver=solver)
    expected = states_of(model_of(typical, chain(False)), population, 1)()
    found = states_of(model_of(typical, chain(True)), population, 1, tight)()
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-9)


def test_inverse():
    """Against numpy, of matrices side by side that need rows exchanged."""
    matrices = np.random.default_rng(1).normal(size=(7, 7, 3))
    matrices[0, 0], matrices[3, 3, 1] = 0.0, 0.0
    found = np.asarray(inverted(jnp.asarray(matrices)))
    for k in range(3):
        np.testing.assert_allclose(found[..., k], np.linalg.inv(matrices[..., k]), rtol=1e-10)


def of(rhs, states, initial=None, **options):
    return model_of({"k": 1.0}, lambda ind: nlme.ODE(rhs, states, initial, **options))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: nlme.ODE(lambda t, a: {}, {"u": 0}), "the length of 'u' is a whole number from 1 on; got 0"),
        (lambda: nlme.ODE(lambda t, a: {}, {"u[1]": 2}), "cannot name a state"),
        (lambda: nlme.ODE(lambda t, a: {}, {"u": 3}, algebraic=("u",)), "vectors are solved neither|every state is algebraic"),
        (lambda: nlme.describe(of(lambda t, a: {"u": a.u[:2]}, {"u": 3})), r"'u' is a vector of 3.*shape \(2,\)"),
        (lambda: nlme.describe(of(lambda t, a: {"u": a.u}, {"u": 3}, {"u": jnp.ones(2)})), r"'u' is a vector of 3.*shape \(2,\)"),
        (lambda: nlme.describe(of(lambda t, a: {"v": a.u}, {"u": 3})), "rhs returns no rate for u"),
    ],
)
def test_refused(build, message):
    with pytest.raises(nlme.ModelError, match=message):
        build()


def test_elements_are_compartments():
    told = str(nlme.describe(Slab))
    assert "1 = skin, 2 = u[0]" in told and "65 = u[63]" in told
