"""Every observation model: its density against scipy, its mass, its draws, its derivatives, alone and inside a population model.

The population model observes with several rows of the table at once, and has one subject per row, so that each objective, mode
and gradient is that of one observation model.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from every_observation import NAMES, NORMAL, Everything, EverythingByEquations, population_of
from observations import TABLE
from scipy import integrate, stats

import nlme
from nlme.language.anatomy import anatomy_of
from nlme.language.layout import lay_out
from nlme.marginal.base import Subject
from nlme.marginal.curvature import curvature_at
from nlme.marginal.joint import pointwise
from nlme.marginal.objective import evaluate_subjects
from nlme.observation.base import Record, log_density
from nlme.parameters.inventory import Inventory

F = 1.3


@functools.lru_cache
def _density(name):
    def at(y, f, p):
        none = jnp.asarray(jnp.nan)
        return log_density(TABLE[name].build(f, p).terms(Record(y, jnp.zeros(()), none)))

    return jax.jit(jax.vmap(at, (0, None, None))), at


@pytest.mark.parametrize("name", TABLE)
def test_log_density_is_scipys(name):
    row = TABLE[name]
    for f in (0.4, F):
        ours = _density(name)[0](jnp.array(row.values, float), f, jnp.array(row.parameters))
        theirs = [np.squeeze(row.log_density(y, f, row.parameters)) for y in row.values]
        np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", TABLE)
def test_density_has_mass_one(name):
    row, p = TABLE[name], jnp.array(TABLE[name].parameters)
    density = _density(name)[0]
    if isinstance(row.range, range):
        total = np.exp(density(jnp.array(row.range, float), F, p)).sum()
    else:
        lower, upper = row.range
        points = None if np.isinf(lower) else [F]
        total, _ = integrate.quad(
            lambda y: float(np.exp(density(jnp.array([y]), F, p)[0])), lower, upper, points=points, limit=200
        )
    # of Box-Cox and Yeo-Johnson data the transform cannot reach a tail of the normal distribution
    beyond = {"Box-Cox": stats.norm.cdf(-(F**0.4) / 0.4 / 0.2), "Yeo-Johnson": 0.0}.get(name, 0.0)
    assert total == pytest.approx(1.0 - beyond, abs=1e-8)


@pytest.mark.parametrize("name", TABLE)
def test_draws_have_the_distribution(name):
    row, p, count = TABLE[name], jnp.array(TABLE[name].parameters), 4000
    drawn = jax.jit(jax.vmap(lambda normal, key: row.build(jnp.asarray(F), p).sample(normal, key)))
    normal, keys = jax.random.normal(jax.random.key(1), (count,)), jax.random.split(jax.random.key(2), count)
    y = np.asarray(drawn(normal, keys))
    if isinstance(row.range, range):
        expected = count * np.exp([np.squeeze(row.log_density(k, F, row.parameters)) for k in row.range])
        often = expected > 5
        observed = np.array(
            [(y == k).sum() for k in np.array(row.range)[often]] + [np.isin(y, np.array(row.range)[~often]).sum()]
        )
        expected = np.r_[expected[often], expected[~often].sum()]
        keep = expected > 1e-9
        assert stats.chisquare(observed[keep], expected[keep] * count / expected[keep].sum()).pvalue > 1e-3
        assert observed.sum() == count
        return
    grid = np.linspace(*(np.quantile(y, [0, 1]) + np.array([-3.0, 3.0])), 4001)
    grid = grid[(grid > row.range[0]) & (grid < row.range[1])]
    mass = np.exp(_density(name)[0](jnp.array(grid), F, p))
    cdf = integrate.cumulative_simpson(mass, x=grid, initial=0.0)
    assert stats.kstest(y, lambda x: np.interp(x, grid, cdf)).pvalue > 1e-3


@pytest.mark.parametrize("name", TABLE)
def test_derivatives_in_prediction_and_parameters_are_central_differences(name):
    row = TABLE[name]
    x = jnp.array([F, *row.parameters])
    y = jnp.array(row.values, float)[-1]

    def value(x):
        return _density(name)[1](y, x[0], x[1:])

    @jax.jit
    def both(x):  # the derivatives, and central differences of the function and of its gradient
        h = 1e-5 * jnp.eye(len(x))
        slope, bend = ((jax.vmap(f)(x + h) - jax.vmap(f)(x - h)) / 2e-5 for f in (value, jax.grad(value)))
        return (jax.grad(value)(x), jax.hessian(value)(x)), (slope, bend)

    ours, differences = both(x)
    np.testing.assert_allclose(ours[0], differences[0], rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(ours[1], differences[1], rtol=1e-6, atol=1e-7)


OTHER_SHAPES = [pytest.param(lam, marks=pytest.mark.slow) for lam in (0.0, 1e-9, 1e-3, 1.0, 2.0 - 1e-9)]


@pytest.mark.slow
@pytest.mark.parametrize("lam", [2.0, *OTHER_SHAPES])
def test_shapes_are_smooth_through_their_limits(lam):
    def value(lam, y, build):
        return log_density(build(jnp.asarray(F), 0.3, lam).terms(Record(y, jnp.zeros(()), jnp.asarray(jnp.nan))))

    for build, y in ((nlme.boxcox, 2.0), (nlme.yeojohnson, 2.0), (nlme.yeojohnson, -0.7)):
        at = jnp.asarray(lam)
        first, second = jax.grad(value)(at, y, build), jax.grad(jax.grad(value))(at, y, build)
        h = 1e-4
        around = [float(value(at + k * h, y, build)) for k in (-1, 0, 1)]
        assert first == pytest.approx((around[2] - around[0]) / (2 * h), rel=1e-6, abs=1e-6)
        assert second == pytest.approx((around[2] - 2 * around[1] + around[0]) / h**2, rel=1e-4, abs=1e-4)


# population models that observe by several rows

GROUPS = 4
SOME = ("log-normal", "Poisson", "event (event)", "M3 (censored)", "memory")
MODELS = {
    "formula, a few rows": Everything(names=SOME[1:4]),
    **{f"formula, rows {k} of {GROUPS}": Everything(names=tuple(NAMES[k::GROUPS])) for k in range(GROUPS)},
    "ODE": EverythingByEquations(names=SOME),
}
TIGHT = dict(inner_tolerance=1e-22, ode=nlme.Tolerances(relative=1e-11, absolute=1e-13))


@pytest.fixture(
    scope="module", params=[n if n == "formula, a few rows" else pytest.param(n, marks=pytest.mark.slow) for n in MODELS]
)
def model(request):
    return MODELS[request.param]


@pytest.fixture(scope="module")
def layout(model):
    return lay_out(model, population_of(model.names))


B = jnp.array([0.3, -0.4])


def _jets(model, layout):
    """Phi's derivatives at B for every subject: by jets, by the differentiable path, and by JAX from the log densities."""
    method, anatomy = nlme.Laplace(**TIGHT), layout.anatomy

    def plain(b, data):
        return -jnp.sum(pointwise(model, anatomy, data, b, 2, method.ode)[0]) + 0.5 * b @ b

    @jax.jit
    def of_subject(data):
        jets = curvature_at(method, anatomy, data, model, B)
        subject = Subject(method, anatomy, data, model, B, 2)
        normal = jnp.sum(jnp.where(data.mask, subject.moments(model, B).normal, False))
        value = plain(B, data) - 0.5 * jnp.log(2 * jnp.pi) * normal
        by_jax = (value, jax.grad(plain)(B, data), jax.hessian(plain)(B, data))
        return jets, subject.curvature(model, B), by_jax

    return [of_subject(layout.subject(i)[0]) for i in range(layout.n_subjects)]


@pytest.mark.slow
def test_jets_of_phi_are_its_derivatives(model, layout):
    for name, (jets, differentiable, by_jax) in zip(model.names, _jets(model, layout), strict=True):
        for ours in (jets, differentiable):
            np.testing.assert_allclose(ours.value, by_jax[0], rtol=1e-9, atol=1e-10, err_msg=name)
            np.testing.assert_allclose(ours.gradient, by_jax[1], rtol=1e-8, atol=1e-9, err_msg=name)
            np.testing.assert_allclose(ours.hessian, by_jax[2], rtol=1e-7, atol=1e-8, err_msg=name)
            np.testing.assert_allclose(ours.expected, jets.expected, rtol=1e-9, err_msg=name)
            assert np.linalg.eigvalsh(ours.expected).min() >= 1.0 - 1e-9


def _laplace(model, layout):
    method, inventory = nlme.Laplace(**TIGHT), Inventory(model)
    starts = np.zeros((layout.n_subjects, 2))

    def at(u, gradient):
        return evaluate_subjects(method, layout.anatomy, inventory, model, layout.arrays, u, starts, gradient=gradient)

    u, h = inventory.unconstrained(model), 1e-4
    differences = []
    for k in range(len(inventory)):
        out = [np.asarray(at(u.at[k].add(step * h), False).value) for step in (-2, -1, 1, 2)]
        differences.append((out[0] - 8 * out[1] + 8 * out[2] - out[3]) / (12 * h))
    return at(u, True), np.array(differences).T


@pytest.mark.slow
def test_laplace_finds_every_mode_and_its_gradient_is_exact(model, layout):
    at, differences = _laplace(model, layout)
    assert np.asarray(at.converged).all()
    for name, ours, theirs in zip(model.names, np.asarray(at.gradient), differences, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=2e-7, err_msg=name)


@pytest.mark.slow
def test_objectives_do_not_depend_on_how_the_model_is_written():
    population = population_of(SOME)
    values = [
        nlme.evaluate(form(names=SOME), population, nlme.Laplace(**TIGHT)).values for form in (Everything, EverythingByEquations)
    ]
    np.testing.assert_allclose(*values, rtol=1e-8)


@pytest.mark.parametrize("method", [nlme.FO, nlme.FOCE, nlme.FOCEI])
def test_methods_that_linearise_refuse_what_is_not_normal(method):
    for name in NAMES:
        anatomy = anatomy_of(Everything(names=(name,)))
        if name in NORMAL:
            method().require(anatomy)
            continue
        with pytest.raises(nlme.ModelError, match=r"linearises .* nlme\.Laplace\(\)") as refused:
            method().require(anatomy)
        assert name in str(refused.value)


def test_a_fit_by_a_method_that_linearises_is_refused_at_once():
    names = ("additive", "binary, logit")
    with pytest.raises(nlme.ModelError, match="FOCEI linearises .*binary, logit"):
        nlme.fit(Everything(names=names), population_of(names))


def test_describe_names_every_distribution_and_what_its_parts_depend_on():
    rows = str(nlme.describe(Everything())).split("Observations")[1].splitlines()
    for name, law in zip(NAMES, anatomy_of(Everything()).laws, strict=True):
        (row,) = [line for line in rows if line.strip().startswith(f"{name}  ") and law.words in line]
        assert "spread" in row and "k, " in row
