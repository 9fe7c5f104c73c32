"""Learned terms read back: a saturable function is found as one, with probabilities, and stands as a model of its own."""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
import learned_effect
import numpy as np
import pandas as pd
import pytest

import nlme
from nlme.discovery.discover import _alike, _whitened
from nlme.discovery.terms import Expression, Term, polynomials, saturating
from nlme.errors import ModelError
from nlme.learning.curves import outputs_of
from nlme.learning.spread import covariance_of, standard_errors
from nlme.parameters.inventory import Inventory
from nlme.simulation.visited import visited


class Effect(nlme.Model):
    """An effect that depends on concentration in an unknown way."""

    e0: nlme.Scalar = nlme.real(2.0)
    net: nlme.MLP = nlme.mlp(inputs=("c",), outputs=1, width=4, depth=1, key=0, center=1.5, scale=1.0)
    omega: nlme.Covariance = nlme.covariance(e0=0.05)
    sd: nlme.Scalar = nlme.positive(0.1)
    covariates = {"c": "mg/L"}

    def individual(self, eta, cov):
        return dict(effect=self.e0 + self.net(cov.c)[0] + eta.e0)

    def observe(self, ind, state, t):
        return {"y": nlme.additive(ind.effect, self.sd)}


def population(truth, n=60, sd=0.05):
    rng = np.random.default_rng(5)
    rows = []
    for i in range(n):
        c, eta = rng.uniform(0.05, 4.0), 0.1 * rng.normal()
        rows += [{"ID": i + 1, "TIME": float(t), "DV": truth(c) + eta + sd * rng.normal(), "c": c} for t in (1, 2, 3)]
    return nlme.read_nonmem(pd.DataFrame(rows), covariates={"c": "mg/L"})


@pytest.fixture(scope="module")
def saturable():
    data = population(lambda c: 1.0 + 3.0 * c / (0.6 + c))
    return data, nlme.fit(Effect(), data, penalty=nlme.L2(0.3), progress=False, starts=0)


@pytest.mark.slow
def test_a_saturable_term_is_found_and_its_model_fits_better_than_the_network(saturable):
    data, fit = saturable
    found = nlme.discover(fit)
    assert found.probabilities["c / (half + c)"] > 0.5 and found.misfit < 0.5
    assert "c / (" in found.text and "c / (" in repr(found) and "probability" in found.to_markdown()
    model = found.model()
    assert isinstance(model.net, Expression)
    assert float(model.net(jnp.asarray(1.0))[0]) == pytest.approx(eval(found.text, {"c": 1.0}), rel=1e-2)
    again = nlme.fit(model, data, progress=False)  # e0 takes the constant over
    assert again.objective < fit.objective + 4.0 and again.n_parameters < fit.n_parameters
    half = next(float(h) for h in again.model.net.halves)
    assert half == pytest.approx(0.6, rel=0.4)


@pytest.mark.slow
def test_the_misfit_is_that_at_the_inputs_visited(saturable):
    """Of a straight line, in standard errors point by point."""
    data, fit = saturable
    line = nlme.discover(fit, library=[t for t in nlme.discover(fit).terms if t.text(("c",), "half") == "c"], most=1)
    x = visited(fit)["net"]
    (y, slopes), (slope,) = outputs_of(fit, "net", x), (float(c) for c in line.expression.coefficients)
    spread = covariance_of(fit)
    error = np.sqrt(standard_errors(slopes, spread)[:, 0] ** 2 + (0.01 * np.std(y)) ** 2)
    expected = np.sqrt(np.mean(((slope * x[:, 0] - y[:, 0]) / error) ** 2))
    assert line.misfit == pytest.approx(expected, rel=1e-6) and line.misfit > 0.1


@pytest.mark.slow
def test_a_straight_line_is_found_as_one():
    fit = nlme.fit(Effect(), population(lambda c: 1.0 + 0.8 * c), penalty=nlme.L2(0.3), progress=False, starts=0)
    found = nlme.discover(fit, draws=40)
    assert found.probabilities["c"] > 0.6
    assert [term.text(("c",), "half") for term in found.expression.terms] == ["c"]  # e0 is the constant
    assert float(found.expression.coefficients[0]) == pytest.approx(0.8, abs=0.08)


def test_expressions_are_their_text_and_their_derivatives_are_right():
    terms = (Term((0, 0)), Term((1, 2)), Term((0, 0), 0, 0.5, 2))
    own = Expression((1.5, -2.0, 3.0), (0.7,), terms, ("a", "b"), ())
    assert own.text == "1.5 - 2 * a * b**2 + 3 * a**2 / (0.7**2 + a**2)"
    value = own(jnp.asarray(1.3), jnp.asarray(0.4))[0]
    assert float(value) == pytest.approx(eval(own.text, {"a": 1.3, "b": 0.4}))


def test_an_expression_without_halves_stands_in_a_model():
    """Of polynomials alone nothing saturates: the field of the halves is empty."""
    own = Expression((jnp.asarray(1.5), jnp.asarray(-2.0)), (), (Term((0,)), Term((1,))), ("c",), ())
    model = eqx.tree_at(lambda m: m.net, Effect(), own)
    inventory = Inventory(model)
    assert inventory.names[1:3] == ["net.coefficients[0]", "net.coefficients[1]"]
    np.testing.assert_allclose(inventory.natural(inventory.at_natural(model, inventory.natural(model))), inventory.natural(model))
    assert float(inventory.unconstrained(model)[1]) == 1.5


def test_libraries():
    assert [t.powers for t in polynomials(2, 2)] == [(0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2)]
    asked = np.array([[1.0, -1.0], [2.0, 1.0], [3.0, 2.0]])
    assert {t.saturating for t in saturating(asked)} == {0} and all(1.0 <= t.half <= 3.0 for t in saturating(asked))


@pytest.mark.slow
def test_what_cannot_be_discovered_is_said(saturable):
    _, fit = saturable
    with pytest.raises(ModelError, match="too many"):
        nlme.discover(fit, degree=40, most=5)
    with pytest.raises(ModelError, match="network"):
        nlme.discover(fit, "other")


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 3])
def test_probabilities_are_those_of_the_data(seed):
    """1 - 0.5 x + 0.2 x^2 of 60 people, seen twice: BIC on the data gives that set 0.7 to 0.8, also where a penalty has bent the network."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(0.2, 4.0, 60)
    y = 1.0 - 0.5 * x + 0.2 * x**2 + 0.05 * rng.normal(size=60) + 0.1 * rng.normal(size=(2, 60))
    frame = pd.DataFrame({"ID": np.repeat(np.arange(60), 2), "TIME": np.tile([1.0, 2.0], 60), "x": np.repeat(x, 2)})
    data = nlme.read_nonmem(frame.assign(DV=y.T.ravel(), EVID=0), covariates=["x"])
    found = nlme.discover(
        nlme.fit(learned_effect.Effect(omega={"e": 0.0025}, sd=0.1), data, penalty=nlme.L2(0.05), progress=False)
    )
    assert found.sets[0][0] == ("1", "x", "x**2") and found.sets[0][1] > 0.5


def test_terms_that_are_one_at_all_inputs_visited_are_said():
    """Of x and z = 2 x only x is tried, and which of them it is stays open."""
    columns = np.array([[1.0, 1.0, 2.0, 1.0], [1.0, 2.0, 4.0, 4.0], [1.0, 3.0, 6.0, 9.0]])
    assert _alike(columns) == {2: 1}
    assert _alike(np.column_stack([columns, -columns[:, 3]])) == {2: 1, 4: 3}


def test_a_function_counts_evenly_where_its_form_holds_it():
    """Variances of a function of three free directions among ten, one next to unknown: the seven others count with the median."""
    directions, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(10, 10)))
    variances = np.r_[300.0, 0.011, 0.010, np.zeros(7)]
    covariance = (directions * variances) @ directions.T
    floor = 1e-4 * np.std(directions[:, 0]) ** 2
    columns, _ = _whitened(covariance, directions[:, 0], directions, directions.T)
    expected = 1.0 / (np.maximum(variances, 0.011) + floor)
    np.testing.assert_allclose(np.sort(np.sum(columns**2, axis=0)), np.sort(expected), rtol=1e-6)
