"""The gradient of every marginal under every kind of structure, with covariates that are constant or vary, against central
differences of the objective; the derivative of the mode against differences of modes.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nlme
from nlme.language.layout import lay_out
from nlme.marginal import subjects
from nlme.marginal.base import Subject
from nlme.marginal.mode import find_mode, with_derivative
from nlme.marginal.objective import evaluate_subjects
from nlme.parameters.inventory import Inventory

TIGHT = dict(inner_tolerance=1e-22, ode=nlme.Tolerances(relative=1e-11, absolute=1e-13))
METHODS = {"FO": nlme.FO(**TIGHT), "FOCE": nlme.FOCE(**TIGHT), "FOCEI": nlme.FOCEI(**TIGHT), "Laplace": nlme.Laplace(**TIGHT)}


class Closed(nlme.Model):
    """Oral doses; correlated random effects on clearance and volume, one more on absorption; a covariate on clearance."""

    cl: nlme.Scalar = nlme.positive(1.4)
    v: nlme.Scalar = nlme.positive(8.0)
    ka: nlme.Scalar = nlme.positive(0.9)
    slope: nlme.Scalar = nlme.real(0.3)
    add: nlme.Scalar = nlme.positive(0.3)
    prop: nlme.Scalar = nlme.positive(0.2)
    omega: nlme.Covariance = nlme.covariance(cl=0.09, v=0.06, ka=0.2, correlation={("cl", "v"): 0.4})
    covariates = {"x": ""}

    def individual(self, eta, cov):
        return dict(cl=self.cl * jnp.exp(self.slope * cov.x + eta.cl), v=self.v * jnp.exp(eta.v), ka=self.ka * jnp.exp(eta.ka))

    def dynamics(self, ind):
        return nlme.pk.OneCompartmentOral(cl=ind.cl, v=ind.v, ka=ind.ka)

    def observe(self, ind, state, t):
        return {"y": nlme.combined(state.central / ind.v, add=self.add, prop=self.prop)}


class Equations(Closed):
    """Saturable elimination, its constant used in the equations directly and not through ``individual``."""

    km: nlme.Scalar = nlme.positive(6.0)

    def dynamics(self, ind):
        def rhs(t, a):
            absorbed, c = ind.ka * a.depot, a.central / ind.v
            return {"depot": -absorbed, "central": absorbed - ind.cl * self.km * c / (self.km + c)}

        return nlme.ODE(rhs, states=("depot", "central"))


class Formula(Closed):
    def dynamics(self, ind):
        return None

    def observe(self, ind, state, t):
        k = ind.cl / ind.v
        f = 60.0 * ind.ka / ind.v / (ind.ka - k) * (jnp.exp(-k * t) - jnp.exp(-ind.ka * t))
        return {"y": nlme.combined(f, add=self.add, prop=self.prop)}


FORMS = {"closed form": Closed, "ODE": Equations, "formula": Formula}


def population(form: type, varying: bool) -> nlme.Population:
    """Three subjects with different times; observations by the model's own size."""
    random = np.random.default_rng(8)
    subjects = []
    for i, n in enumerate((5, 3, 6)):
        t = np.sort(random.uniform(0.3, 14.0, n))
        y = 4.0 * np.exp(-0.15 * t) * np.exp(0.2 * random.normal(size=n))
        dose = [] if form is Formula else [0.0]
        times = np.r_[dose, t]
        x = random.normal(size=len(times)) if varying else np.full(len(times), random.normal())
        subjects.append(
            nlme.Subject(
                id=i + 1,
                time=times,
                evid=np.r_[[1] * len(dose), [0] * n],
                amt=np.r_[[60.0] * len(dose), [0.0] * n],
                dv=np.r_[[np.nan] * len(dose), y],
                covariates={"x": x},
            )
        )
    return nlme.Population(tuple(subjects))


QUICK = {("closed form", False, method) for method in METHODS if method not in ("FOCE", "Laplace")}
CASES = [
    pytest.param(
        form,
        varying,
        method,
        id=f"{form}-{'varying' if varying else 'constant'}-{method}",
        marks=[] if (form, varying, method) in QUICK else [pytest.mark.slow],
    )
    for form in FORMS
    for varying in (False, True)
    for method in METHODS
]


@pytest.mark.slow
@pytest.mark.parametrize(("form", "varying", "method"), CASES)
def test_gradient_of_the_objective(form, varying, method):
    model = FORMS[form]()
    layout = lay_out(model, population(FORMS[form], varying))
    inventory = Inventory(model)
    u = np.asarray(inventory.unconstrained(model))
    starts = jnp.zeros((3, 3))

    def at(u):
        found = evaluate_subjects(METHODS[method], layout.anatomy, inventory, model, layout.arrays, jnp.asarray(u), starts)
        assert bool(found.converged.all()) and not np.asarray(found.status).any()
        return np.asarray(found.value), np.asarray(found.gradient)

    gradient = at(u)[1]
    for k in range(len(u)):

        def slope(h, k=k):
            step = h * np.eye(len(u))[k]
            return (at(u + step)[0] - at(u - step)[0]) / (2 * h)

        expected = (4 * slope(5e-4) - slope(1e-3)) / 3
        np.testing.assert_allclose(gradient[:, k], expected, rtol=1e-6, atol=1e-6, err_msg=inventory.names[k])


@functools.cache
def mode_of(form: str):
    """Compiled: (mode, derivative of the differentiable mode) of the first subject, in the unconstrained parameters."""
    model, method = FORMS[form](), METHODS["FOCEI"]
    layout = lay_out(model, population(FORMS[form], True))
    data, _ = layout.subject(0)
    inventory = Inventory(model)

    def found(u):
        at = inventory.at_unconstrained(model, u)
        return find_mode(lambda b: Subject(method, layout.anatomy, data, at, b, 2).curvature(at, b), jnp.zeros(3), 1e-24, 100)

    def differentiable(u, mode, hessian):
        at = inventory.at_unconstrained(model, u)
        subject = Subject(method, layout.anatomy, data, at, mode, 2)
        return with_derivative(lambda b: subject.gradient(subject.slopes(at, b), b), mode, hessian)

    return jax.jit(found), jax.jit(differentiable), jax.jit(jax.jacrev(differentiable)), inventory.unconstrained(model)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["closed form", pytest.param("ODE", marks=pytest.mark.slow)])
def test_derivative_of_the_mode(form):
    """One Newton step from the mode, mode and Hessian held constant: value and implicit derivative of the mode."""
    find, value, derivative, u = mode_of(form)
    mode = find(u)
    assert bool(mode.converged)
    np.testing.assert_allclose(value(u, mode.b, mode.hessian), mode.b, atol=1e-10)
    found = np.asarray(derivative(u, mode.b, mode.hessian))
    h = 1e-4
    for k in range(len(u)):
        step = h * jnp.eye(len(u))[k]
        expected = (np.asarray(find(u + step).b) - np.asarray(find(u - step).b)) / (2 * h)
        np.testing.assert_allclose(found[:, k], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["FOCEI", "Laplace"])
def test_modes_are_followed_and_searched_by_slopes(method):
    """Under differential equations: the modes' derivative is a central difference; a start that follows it ends sooner than one
    that does not; with the last evaluation's second_order first derivatives end every search.  None of it changes what is found.
    """
    model = Equations()
    layout = lay_out(model, population(Equations, True))
    inventory = Inventory(model)
    u = np.asarray(inventory.unconstrained(model))

    def at(u, starts, second_order=None, method=METHODS[method]):
        found = evaluate_subjects(
            method, layout.anatomy, inventory, model, layout.arrays, jnp.asarray(u), starts, second_order=second_order
        )
        assert bool(found.converged.all())
        return jax.tree.map(np.asarray, found)

    here = at(u, np.zeros((3, 3)))
    assert np.abs(here.second_order).max() > 0.01
    h = 1e-4
    for k in range(len(u)):
        step = h * np.eye(len(u))[k]
        expected = (at(u + step, here.b).b - at(u - step, here.b).b) / (2 * h)
        np.testing.assert_allclose(here.motion[:, :, k], expected, rtol=2e-5, atol=2e-6, err_msg=inventory.names[k])
    move = 0.05 * np.random.default_rng(2).normal(size=len(u))
    usual = type(METHODS[method])()
    kinds = {
        "cold": at(u + move, np.zeros((3, 3)), method=usual),
        "warm": at(u + move, here.b, here.second_order, method=usual),
        "followed": at(u + move, here.followed(move), here.second_order, method=usual),
    }
    counts = {name: int(found.iterations.sum()) for name, found in kinds.items()}
    assert counts["followed"] < counts["warm"] < counts["cold"]
    assert kinds["followed"].iterations.max() <= subjects._BY_SLOPES
    for found in kinds.values():
        np.testing.assert_allclose(found.b, kinds["cold"].b, atol=1e-6)
        np.testing.assert_allclose(found.value, kinds["cold"].value, rtol=1e-8)
