"""Bands of learned functions where something is special: bounds, inputs that go together, two values, weights that were held."""

from __future__ import annotations

import numpy as np
import optax
import pandas as pd
import pytest
from learned_effect import Effect
from scipy.stats import norm

import nlme
from nlme.neural.network import build

MIDDLE = norm.ppf(0.95)


def of(inputs=("x",), **o):
    class Own(Effect):
        covariates = {"x": "", "z": ""}
        net: nlme.MLP = nlme.mlp(**(dict(inputs=inputs, outputs=1, width=3, depth=1, key=0) | o))

    return Own()


def population(z=None, n: int = 30, truth=lambda x, z: 0.4 + 0.3 * np.sin(x)):
    rng = np.random.default_rng(4)
    x = rng.uniform(-2.0, 2.0, n)
    z = 2.0 * x if z is None else z(x, rng)
    y = truth(x, z) + 0.2 * rng.normal(size=n) + 0.2 * rng.normal(size=(3, n))
    frame = pd.DataFrame({"ID": np.repeat(np.arange(n), 3), "TIME": np.tile([1.0, 2.0, 3.0], n), "DV": y.T.ravel(), "EVID": 0})
    return nlme.read_nonmem(frame.assign(x=np.repeat(x, 3), z=np.repeat(z, 3)), covariates=["x", "z"])


def fitted(model, data, **o):
    return nlme.fit(model, data, **(dict(penalty=nlme.L2(0.3), starts=0, progress=False) | o))


@pytest.mark.slow
def test_a_band_is_of_the_hessian_whatever_was_looked_at_before():
    """A straight line: generalised least squares at the estimated variances, before and after fit.covariance was asked for."""
    data = population()
    fit = fitted(of(depth=0), data, penalty=None)
    fresh = nlme.learned_curves(fit, points=5)
    fit.covariance  # noqa: B018
    (curve,), again = fresh.curves, nlme.learned_curves(fit, points=5).curves[0]
    np.testing.assert_allclose(curve.upper, again.upper, rtol=1e-12)
    v = np.linalg.inv(fit.estimates["omega.e"] * np.ones((3, 3)) + fit.estimates["sd"] ** 2 * np.eye(3))
    rows = [np.tile([1.0, s.covariates["x"][0]], (3, 1)) for s in data]
    covariance = np.linalg.inv(sum(r.T @ v @ r for r in rows))
    exact = np.sqrt(np.einsum("xi,ij,xj->x", at := np.column_stack([np.ones(5), curve.x]), covariance, at))
    np.testing.assert_allclose((curve.upper - curve.y) / MIDDLE, exact, rtol=5e-3)
    assert "Hessian" in fresh.words


@pytest.mark.slow
@pytest.mark.parametrize("output", ["positive", (-0.5, 1.5)])
def test_a_band_stays_where_the_output_may_be(output):
    fit = fitted(
        of(output=output, width=4), population(truth=lambda x, z: 0.02 + 0.5 * np.maximum(x, 0.0)), penalty=nlme.L2(0.05)
    )
    (curve,) = nlme.learned_curves(fit).curves
    low, high = (0.0, np.inf) if output == "positive" else output
    assert (
        (low < curve.lower).all()
        and (curve.lower < curve.y).all()
        and (curve.y < curve.upper).all()
        and (curve.upper < high).all()
    )


def test_ends_are_symmetric_on_the_scale_of_the_correction():
    """Beside differences of the output in its correction: half-widths that are small give the ordinary ends."""
    y, half, x = np.array([[0.2], [1.0]]), np.full((2, 1), 1e-6), np.ones((2, 1))
    for output in ("real", "positive", (-0.5, 1.5)):
        net = build(inputs=("x",), outputs=1, width=2, depth=1, key=0, output=output)
        lower, upper = net.output.band(y, half, x)
        np.testing.assert_allclose([y - lower, upper - y], [half, half], rtol=1e-4)
    positive = build(inputs=("x",), outputs=1, width=2, depth=1, key=0, output="positive", vanishing="x").output
    lower, upper = positive.band(np.array([[-2.0], [0.0]]), np.array([[2.0], [0.0]]), np.array([[-1.0], [0.0]]))
    np.testing.assert_allclose([lower[0, 0], upper[0, 0]], [-2.0 * np.e, -2.0 / np.e])
    assert lower[1, 0] == upper[1, 0] == 0.0


@pytest.mark.slow
def test_inputs_that_go_together_leave_a_curve_open():
    """z = 2 x at every subject: nothing is known of x at a given z, and the band says so."""
    fit = fitted(of(("x", "z"), depth=0), population(), penalty=None)
    found = nlme.learned_curves(fit, points=5)
    assert all(np.isinf(c.upper[[0, -1]]).all() for c in found.curves) and "open" in found.words
    read = nlme.discover(fit, degree=1)  # at the inputs visited the function is known, of what it is made is not
    assert read.same["z"] == "x" and "which of them it is" in repr(read)
    figure = nlme.plots.learned(fit)
    assert all(np.isfinite(axes.get_ylim()).all() for axes in figure.axes)


@pytest.mark.slow
def test_an_input_of_two_values_is_one_of_them():
    """z is 0 or 1: its own curve is two points, and others are asked about at the more common one."""
    data = population(lambda x, rng: (rng.uniform(size=len(x)) < 0.7).astype(float), truth=lambda x, z: x * (2.0 * z - 1.0))
    fit = fitted(of(("x", "z"), width=5), data)
    by_x, by_z = nlme.learned_curves(fit, points=9).curves
    np.testing.assert_allclose(by_x.y, [float(fit.model.net(x, 1.0)[0]) for x in by_x.x], rtol=1e-9)
    assert list(by_z.x) == [0.0, 1.0]


@pytest.mark.slow
def test_weights_that_training_left_are_counted_and_have_no_band():
    """Early stopping: 10 weights are parameters of these data as they would be in a search, and nothing is known of their errors."""
    how = nlme.Minibatches(optax.adam(0.02), subjects=16, held_out=0.25, epochs=10)
    data = population(n=40)
    early, whole = (fitted(of(), data, penalty=None, optimiser=o) for o in (how, None))
    assert early.n_parameters == whole.n_parameters == len(early.inventory) + 10
    found = nlme.learned_curves(early)
    assert found.curves[0].lower is None and "were held" in found.words
    with pytest.raises(nlme.FitError, match="held"):
        nlme.discover(early)
