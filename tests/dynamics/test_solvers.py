"""The solvers between two events: order of convergence, stiff systems, derivatives, two independent libraries."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import nlme
from nlme.dynamics import solvers
from nlme.dynamics.batching import OfSubject, batch_last
from nlme.dynamics.explicit import DOP853, TSIT5, Explicit
from nlme.dynamics.rosenbrock import RODAS5P, Rosenbrock
from nlme.dynamics.solvers import NOT_FINITE, SOLVED, SOLVERS, STEP_LIMIT, Pace, integrate
from nlme.dynamics.system import System
from nlme.jets.jet import Columns

METHODS = {"explicit": Explicit(TSIT5), "explicit8": Explicit(DOP853), "stiff": Rosenbrock(RODAS5P)}


def solve(rhs, initial, parameters, times, order: int = 0, **options):
    """Packed jets (T, s, C) in the parameters at ``times[1:]`` of dy/dt = rhs(t, y, p), the status and the last pace.

    Several rows of parameters are solved at once, each with its own steps.
    """
    parameters = jnp.asarray(parameters, float)
    columns = Columns.of_order(order, parameters.shape[-1])
    tolerances = nlme.Tolerances(**options)

    def interval(p, carry, ends):
        state, pace, status = carry
        begin, end = ends
        length = end - begin
        slopes = OfSubject(lambda t, y, p: tuple(map(jnp.asarray, rhs(t, y, p))), length, (length,) * len(state), p)

        def move(slopes, inputs, begin, length, state, pace):
            def flow(u, y, p):
                return tuple(length * slope for slope in slopes(begin + u * length, tuple(y), p))

            system = System.with_all_columns(columns, flow, (inputs,), len(state))
            return integrate(system, state, pace._replace(step=pace.step / length), length > 0.0, tolerances)

        inputs = columns.unpack(columns.seed(p, jnp.ones(len(p))))
        state, pace, ended = batch_last(move, slopes, inputs, begin, length, state, pace)
        status = jnp.maximum(status, ended)
        return (state, pace._replace(step=pace.step * length), status), jnp.stack([jet.packed() for jet in state])

    def run(p):
        start = tuple(columns.unpack(columns.constant(y)) for y in initial)
        times_ = jnp.asarray(times, float)
        carry = (start, Pace.first(), jnp.asarray(SOLVED))
        (_, pace, status), states = jax.lax.scan(functools.partial(interval, p), carry, (times_[:-1], times_[1:]))
        return states, status, pace

    states, status, pace = jax.jit(run if parameters.ndim == 1 else jax.vmap(run))(parameters)
    return np.asarray(states), int(np.max(status)), pace


def radau(rhs, initial, parameters, times, method="Radau"):
    """The same by scipy at 1e-12."""
    found = solve_ivp(
        lambda t, y: np.array([float(r) for r in rhs(t, y, parameters)]),
        (times[0], times[-1]), initial, method=method, t_eval=times[1:], rtol=1e-12, atol=1e-16,
    )  # fmt: skip
    assert found.success
    return found.y.T


def predator(t, y, p):
    prey, hunter = y
    return p[0] * prey - p[1] * prey * hunter + 0.3 * jnp.sin(3 * t), -p[2] * hunter + prey * hunter


@pytest.mark.parametrize(
    ("name", "order", "steps"),
    [
        ("explicit", 5, 20),
        pytest.param("explicit8", 8, 5, marks=pytest.mark.slow),
        pytest.param("stiff", 5, 20, marks=pytest.mark.slow),
    ],
)
def test_order_of_convergence_of_values_and_derivatives(name, order, steps):
    """Halving fixed steps divides the error by 2^order, of the solution and of its first and second derivatives."""
    columns = Columns.of_order(2, 3)
    packed = columns.seed(jnp.array([1.5, 1.0, 3.0]), jnp.ones(3))
    system, method = System.with_all_columns(columns, predator, (columns.unpack(packed),), 2), METHODS[name]
    start = tuple(columns.unpack(columns.constant(y)) for y in (1.0, 1.2))

    @jax.jit
    def fixed(steps):
        def step(k, carry):
            state, memory = carry
            trial = method.step(system, k / steps, state, memory, 1.0 / steps)
            return trial.state, trial.memory

        state, _ = jax.lax.fori_loop(0, steps, step, (start, method.begin(system, start)))
        return jnp.stack([jet.packed() for jet in state])

    exact = fixed(60 * steps if order < 8 else 12 * steps)
    coarse, fine = (np.abs(fixed(n) - exact).max(axis=0) for n in (steps, 2 * steps))
    for part in (slice(0, 1), slice(1, 4), slice(4, None)):
        assert np.log2(coarse[part].max() / fine[part].max()) > order - 0.35


def robertson(t, y, p):
    a, b, c = y
    slow, fast, between = p[0] * a, p[1] * b * b, p[2] * b * c
    return -slow + between, slow - between - fast, fast


def hires(t, y, p):
    """Schafer (1975); Hairer & Wanner II, IV.10."""
    y1, y2, y3, y4, y5, y6, y7, y8 = y
    bind = p[0] * y6 * y8
    return (
        -1.71 * y1 + 0.43 * y2 + 8.32 * y3 + 0.0007,
        1.71 * y1 - 8.75 * y2,
        -10.03 * y3 + 0.43 * y4 + 0.035 * y5,
        8.32 * y2 + 1.71 * y3 - 1.12 * y4,
        -1.745 * y5 + 0.43 * y6 + 0.43 * y7,
        -bind + 0.69 * y4 + 1.71 * y5 - 0.43 * y6 + 0.69 * y7,
        bind - 1.81 * y7,
        -bind + 1.81 * y7,
    )


def binding(t, y, p):
    """Target-mediated disposition, full model, with binding in seconds and elimination in days."""
    free, target, complex_ = y
    bound = p[0] * free * target - p[1] * complex_
    return -0.3 * free - bound, 1.0 - 0.5 * target - bound, bound - 0.2 * complex_


STIFF = {
    "Robertson": (robertson, (1.0, 0.0, 0.0), (0.04, 3e7, 1e4), (0.0, 0.4, 4.0, 40.0, 400.0, 4000.0)),
    "HIRES": (hires, (1.0, 0, 0, 0, 0, 0, 0, 0.0057), (280.0,), (0.0, 1.0, 20.0, 321.8122)),
    "target-mediated": (binding, (100.0, 2.0, 0.0), (5e4, 500.0), (0.0, 1.0, 10.0, 20.0, 40.0)),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("problem", "solver"),
    [
        ("Robertson", "auto"),
        ("target-mediated", "stiff"),
        pytest.param("HIRES", "stiff", marks=pytest.mark.slow),
        pytest.param("HIRES", "auto", marks=pytest.mark.slow),
        pytest.param("Robertson", "stiff", marks=pytest.mark.slow),
        pytest.param("target-mediated", "auto", marks=pytest.mark.slow),
    ],
)
def test_stiff_problems_against_radau(problem, solver):
    rhs, initial, p, times = STIFF[problem]
    ours, status, pace = solve(rhs, initial, p, times, solver=solver, relative=1e-9, absolute=1e-14)
    assert status == SOLVED
    exact = radau(rhs, initial, p, times)
    np.testing.assert_allclose(ours[..., 0], exact, rtol=3e-7, atol=1e-11)
    if solver == "auto":
        assert pace.stiff == 1.0


def test_auto_stays_explicit_where_nothing_is_stiff():
    times = np.linspace(0.0, 10.0, 6)
    explicit, _, _ = solve(predator, (1.0, 1.2), (1.5, 1.0, 3.0), times)
    auto, _, pace = solve(predator, (1.0, 1.2), (1.5, 1.0, 3.0), times, solver="auto")
    assert pace.stiff < 0.5
    np.testing.assert_array_equal(auto, explicit)


@pytest.mark.slow
def test_subjects_side_by_side_are_each_alone(monkeypatch):
    """Under vmap the explicit solver's arrays have the subjects last; each subject's steps and derivatives stay its own."""
    parameters, times = np.array([[1.5, 1.0, 3.0], [0.4, 0.7, 1.0], [2.5, 1.2, 0.8]]), (0.0, 1.0, 4.0)
    walk, shapes = solvers._walk, []
    monkeypatch.setattr(solvers, "_walk", lambda *a, **k: shapes.append((a[2].shape, a[3][0].second.shape)) or walk(*a, **k))
    together, status, pace = solve(predator, (1.0, 1.2), parameters, times, order=2)
    assert shapes[-1] == ((3,), (6, 3))
    assert status == SOLVED and len(set(np.asarray(pace.step))) == 3
    for p, found in zip(parameters, together, strict=True):
        alone, _, _ = solve(predator, (1.0, 1.2), p, times, order=2)
        np.testing.assert_allclose(found, alone, rtol=1e-9, atol=1e-11)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("solver", "problem"),
    [
        ("explicit", "predator"),
        pytest.param("explicit8", "predator", marks=pytest.mark.slow),
        pytest.param("stiff", "target-mediated", marks=pytest.mark.slow),
    ],
)
def test_first_and_second_derivatives_are_central_differences(solver, problem):
    rhs, initial, p, times = STIFF.get(problem, (predator, (1.0, 1.2), (1.5, 1.0, 3.0), (0.0, 1.0, 4.0)))
    times = times[:3]
    p = np.array(p)
    options = dict(solver=solver, relative=1e-10, absolute=1e-13)
    ours, status, _ = solve(rhs, initial, p, times, order=2, **options)
    assert status == SOLVED
    n = len(p)
    columns = Columns.of_order(2, n)

    h = 1e-4 * p
    moved, status, _ = solve(rhs, initial, np.concatenate([p + np.diag(h), p - np.diag(h)]), times, order=1, **options)
    assert status == SOLVED
    for k in range(n):
        difference = (moved[k] - moved[n + k]) / (2 * h[k])
        scale = np.abs(difference).max(axis=0)
        pairs = [columns.pairs.index((min(j, k), max(j, k))) for j in range(n)]
        mine = np.concatenate([ours[..., [1 + k]], ours[..., [1 + n + q for q in pairs]]], axis=-1)
        assert (np.abs(mine - difference) <= 1e-5 * scale + 1e-14).all()


@pytest.mark.slow
def test_diffrax_at_the_same_tolerance():
    import diffrax

    p = jnp.array([1.5, 1.0, 3.0])
    times = np.array([0.0, 1.0, 3.0, 6.0])
    theirs = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, p: predator(t, y, p)),
        diffrax.Dopri8(), 0.0, 6.0, 0.001, (jnp.asarray(1.0), jnp.asarray(1.2)), p,
        saveat=diffrax.SaveAt(ts=jnp.asarray(times[1:])),
        stepsize_controller=diffrax.PIDController(rtol=1e-10, atol=1e-10, jump_ts=jnp.asarray(times[1:])),
    )  # fmt: skip
    theirs = np.stack(theirs.ys, axis=-1)
    for solver in SOLVERS:
        ours, status, _ = solve(predator, (1.0, 1.2), p, times, solver=solver, relative=1e-10, absolute=1e-10)
        assert status == SOLVED
        np.testing.assert_allclose(ours[..., 0], theirs, rtol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["explicit", pytest.param("explicit8", marks=pytest.mark.slow), "stiff"])
def test_gradient_in_a_piecewise_constant_parameter(solver):
    """The trap of differentiating through adaptive steps: a parameter that jumps at 1, 2 and 3."""

    def rhs(t, y, p):
        prey, hunter = y
        k = jnp.clip(jnp.floor(t), 0, 3).astype(int)
        return p[k] * prey - 1.0 * prey * hunter, -3.0 * hunter + prey * hunter

    p = np.array([1.5, 1.9, 1.2, 1.6])
    times = np.array([0.0, 1.0, 2.0, 3.0, 4.0])
    ours = solve(rhs, (1.0, 1.0), p, times, order=1, solver=solver, relative=1e-10)[0]

    y = np.r_[1.0, 1.0, np.zeros(8)]
    for k in range(4):

        def variational(t, y, k=k):
            prey, hunter, s = y[0], y[1], y[2:].reshape(2, 4)
            jacobian = np.array([[p[k] - hunter, -prey], [hunter, prey - 3.0]])
            forced = jacobian @ s
            forced[0, k] += prey
            return np.r_[p[k] * prey - prey * hunter, -3.0 * hunter + prey * hunter, forced.ravel()]

        y = solve_ivp(variational, (k, k + 1), y, method="DOP853", rtol=1e-12, atol=1e-13).y[:, -1]
        np.testing.assert_allclose(ours[k, :, 1:], y[2:].reshape(2, 4), rtol=1e-6, atol=1e-7)


def test_failures_have_a_status():
    _, status, _ = solve(lambda t, y, p: (y[0] * y[0],), (1.0,), (1.0,), (0.0, 2.0))  # a pole at t = 1
    assert status in (STEP_LIMIT, NOT_FINITE)
    _, status, _ = solve(lambda t, y, p: (p[0] * y[0],), (1.0,), (-1e6,), (0.0, 2.0), max_steps=100)
    assert status == STEP_LIMIT


@pytest.mark.parametrize("solver", ["explicit", "explicit8"])
def test_a_stiff_system_ends_an_explicit_solve(solver):
    """After some 500 steps at the limit of stability, not at the limit of steps, and only where it is stability that limits them."""
    _, status, _ = solve(lambda t, y, p: (p[0] * (y[0] - jnp.cos(t)),), (2.0,), (-1e6,), (0.0, 2.0), solver=solver)
    assert status == solvers.STIFF
    many = {"solver": solver, "relative": 1e-12, "absolute": 1e-14}
    states, status, _ = solve(lambda t, y, p: (p[0] * y[1], -p[0] * y[0]), (0.0, 1.0), (1.0,), (0.0, 60.0), **many)
    assert status == SOLVED  # thousands of steps, none of them at the limit
    np.testing.assert_allclose(states[0, :, 0], [np.sin(60.0), np.cos(60.0)], atol=1e-8)


@pytest.mark.slow
def test_stiffness_is_said_with_its_remedy():
    """A fit is refused in words at a start where the system is stiff."""

    class Model(nlme.Model):
        k: nlme.Scalar = nlme.positive(1e6)
        sd: nlme.Scalar = nlme.positive(1.0)

        def individual(self, eta, cov):
            return {"k": self.k}

        def dynamics(self, ind):
            return nlme.ODE(lambda t, a: {"y": ind.k * (jnp.cos(t) - a.y)}, ("y",))

        def observe(self, ind, state, t):
            return {"y": nlme.additive(state.y, self.sd)}

    subject = nlme.Subject(id=7, time=[0.0, 5.0, 9.0], evid=[1, 0, 0], amt=[1.0, 0.0, 0.0], cmt=[1, 1, 1], dv=[np.nan, 1.0, 2.0])
    with pytest.raises(nlme.FitError, match=r"subject 7: between times 0 and 5 .* stiff.*solver='auto'"):
        nlme.evaluate(Model(), nlme.Population((subject,)), nlme.FO())
    found = nlme.evaluate(Model(), nlme.Population((subject,)), nlme.FO(ode=nlme.Tolerances(solver="auto")))
    assert np.isfinite(found.objective)


def test_options_are_checked():
    with pytest.raises(nlme.ModelError, match="explicit8"):
        nlme.Tolerances(solver="lsoda")
    with pytest.raises(nlme.ModelError, match="positive"):
        nlme.Tolerances(relative=0.0)
