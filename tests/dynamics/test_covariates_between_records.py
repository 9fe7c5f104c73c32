"""What holds between two records of a covariate that varies: the next value, the last, or the line between them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import nlme
from nlme.language.layout import lay_out
from nlme.marginal.objective import evaluate_subjects
from nlme.parameters.inventory import Inventory

TIME, X = np.array([0.0, 1.0, 3.0, 4.0]), np.array([0.0, 1.0, 3.0, 0.0])
RECORDS = pd.DataFrame(
    dict(ID=np.repeat([1, 2], 4), TIME=np.r_[TIME, TIME], AMT=[10.0, 0, 0, 0] * 2, EVID=[1, 0, 0, 0] * 2,
         DV=[0.0, 7.0, 4.0, 3.0] * 2, X=np.r_[X, 0.5 * X], G=["a", "b", "b", "a"] * 2)
)  # fmt: skip


class Eliminated(nlme.Model):
    """Rate constant k (1 + slope x(t)); with x linear between records its integral is a trapezium."""

    k: nlme.Scalar = nlme.positive(0.2)
    slope: nlme.Scalar = nlme.real(0.5)
    sd: nlme.Scalar = nlme.positive(1.0)
    omega: nlme.Covariance = nlme.covariance(k=0.1)
    covariates = {"x": ""}

    def individual(self, eta, cov):
        return dict(k=self.k * jnp.exp(eta.k) * (1 + self.slope * cov.x))

    def dynamics(self, ind):
        return nlme.ODE(lambda t, a: {"central": -ind.k * a.central}, ("central",))

    def observe(self, ind, state, t):
        return {"y": nlme.additive(state.central, self.sd)}


class Closed(Eliminated):
    def dynamics(self, ind):
        return nlme.pk.OneCompartment(cl=ind.k, v=1.0)


def read(interpolation=None, **options):
    return nlme.read_nonmem(RECORDS, covariates=["x"], time_varying="x", interpolation=interpolation, **options)


def exposure(how, x):
    """Integral of x over each interval between records."""
    length = np.diff(TIME)
    return length * {"nocb": x[1:], "locf": x[:-1], "linear": 0.5 * (x[1:] + x[:-1])}[how]


@pytest.mark.parametrize("how", ["nocb", "locf", "linear"])
def test_values(how):
    found = nlme.predict(Eliminated(), read(how))["central"].to_numpy().reshape(2, 4)
    for x, values in zip((X, 0.5 * X), found, strict=True):
        logs = np.cumsum(np.r_[0.0, 0.2 * (np.diff(TIME) + 0.5 * exposure(how, x))])
        np.testing.assert_allclose(values, 10.0 * np.exp(-logs), rtol=1e-8)


def test_next_value_is_the_default():
    assert read().covariates["x"].interpolation == "nocb"
    np.testing.assert_array_equal(nlme.predict(Eliminated(), read()), nlme.predict(Eliminated(), read("nocb")))


@pytest.mark.slow
@pytest.mark.parametrize("how", [pytest.param("nocb", marks=pytest.mark.slow), "locf"])
def test_closed_form_agrees(how):
    ode, closed = (nlme.evaluate(model(), read(how), nlme.FOCEI()).objective for model in (Eliminated, Closed))
    assert closed == pytest.approx(ode, abs=1e-6)


@pytest.mark.slow
def test_gradient_of_the_objective_along_a_line():
    model, inventory = Eliminated(), Inventory(Eliminated())
    layout = lay_out(model, read("linear"))
    method = nlme.FOCEI(inner_tolerance=1e-22, ode=nlme.Tolerances(relative=1e-11, absolute=1e-13))
    u = np.asarray(inventory.unconstrained(model))

    def at(u):
        return evaluate_subjects(method, layout.anatomy, inventory, model, layout.arrays, jnp.asarray(u), jnp.zeros((2, 1)))

    gradient = np.asarray(at(u).gradient)
    for k in range(len(u)):
        step = 1e-4 * np.eye(len(u))[k]
        expected = (np.asarray(at(u + step).value) - np.asarray(at(u - step).value)) / 2e-4
        np.testing.assert_allclose(gradient[:, k], expected, rtol=1e-5, atol=1e-6, err_msg=inventory.names[k])


def test_a_closed_form_refuses_a_line():
    with pytest.raises(nlme.ModelError, match="'x' is interpolated linearly.*nlme.ODE"):
        nlme.evaluate(Closed(), read("linear"))


def test_new_records_get_the_value_that_holds():
    at = [0.5, 2.0, 9.0]
    for how, expected in {"nocb": [1.0, 3.0, 0.0], "locf": [0.0, 1.0, 0.0], "linear": [0.5, 2.0, 0.0]}.items():
        subject = read(how).with_times(at)[0]
        np.testing.assert_allclose(subject.covariates["x"][-3:], expected)


def test_travels_with_the_data():
    population = read({"x": "linear"})
    assert "linear between records" in repr(population)
    again = nlme.read_nonmem(population.to_frame(), covariates=["x"], time_varying="x")
    assert again == population and again.hash == population.hash
    assert population.hash != read("locf").hash


@pytest.mark.parametrize(
    ("interpolation", "said"),
    [("spline", "'spline'.*'nocb', 'locf', 'linear'"), ({"z": "locf"}, "'z'.*x"), ({"g": "linear"}, "'g' has categories")],
    ids=["unknown word", "unknown covariate", "categories"],
)
def test_bad_requests_are_refused(interpolation, said):
    with pytest.raises(nlme.DataError, match=said):
        nlme.read_nonmem(
            RECORDS, covariates=["x", "g"], time_varying=["x", "g"], categories={"g": ["a", "b"]}, interpolation=interpolation
        )


@pytest.mark.slow
def test_the_jet_in_the_effects_is_that_of_the_likelihood():
    """The search for modes and the likelihood see the same curvature."""
    from nlme.marginal.base import Subject
    from nlme.marginal.curvature import curvature_at

    model = Eliminated()
    layout = lay_out(model, read("linear"))
    data, _ = layout.subject(0)
    b = jnp.asarray([0.3])
    quick = jax.jit(lambda b: curvature_at(nlme.FOCEI(), layout.anatomy, data, model, b))(b)
    full = jax.jit(lambda b: Subject(nlme.FOCEI(), layout.anatomy, data, model, b, 2).curvature(model, b))(b)
    for name in ("value", "gradient", "hessian", "expected"):
        np.testing.assert_allclose(getattr(quick, name), getattr(full, name), rtol=1e-8, err_msg=name)
