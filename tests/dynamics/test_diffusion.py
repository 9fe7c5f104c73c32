"""Stochastic equations: densities against filters in NumPy, marginals against the exact one, derivatives, draws, and what is refused."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from kalman import System, innovations, minus_two_log_density
from scipy import stats

import nlme
from nlme.dynamics.diffusion import Filtered, parted, semidefinite_factor, triangle
from nlme.language.layout import lay_out
from nlme.marginal.objective import evaluate_subjects
from nlme.parameters.inventory import Inventory

TIGHT = nlme.Tolerances(relative=1e-12, absolute=1e-13)
CONC, AMOUNT = 1, 2


class Oral(nlme.Model):
    """First-order absorption and elimination, noise in both compartments, two endpoints."""

    cl: nlme.Scalar = nlme.positive(1.2)
    v: nlme.Scalar = nlme.positive(10.0)
    ka: nlme.Scalar = nlme.positive(0.8)
    sigma: nlme.Scalar = nlme.positive(4.0)
    noise: nlme.Scalar = nlme.positive(1.5)
    omega: nlme.Covariance = nlme.covariance(cl=0.09, v=0.04)
    add: nlme.Scalar = nlme.positive(0.3)
    prop: nlme.Scalar = nlme.positive(0.1)
    sd: nlme.Scalar = nlme.positive(2.0)

    def individual(self, eta, cov):
        return dict(cl=self.cl * jnp.exp(eta.cl), v=self.v * jnp.exp(eta.v))

    def diffusion(self):
        return dict(central=self.sigma, depot=self.noise)

    def dynamics(self, ind):
        def rhs(t, a):
            return dict(depot=-self.ka * a.depot, central=self.ka * a.depot - ind.cl / ind.v * a.central)

        return nlme.ODE(rhs, ("depot", "central"), diffusion=self.diffusion())

    def observe(self, ind, state, t):
        conc = nlme.combined(state.central / ind.v, self.add, self.prop)
        return {"conc": conc, "amount": nlme.additive(state.depot, self.sd)}


def oral(row=None, cl=1.2, v=10.0, ka=0.8, sigma=4.0, noise=1.5):
    return System(np.array([noise, sigma]), matrix=np.array([[-ka, 0.0], [ka, -cl / v]]))


def observed_oral(x, row, v=10.0, add=0.3, prop=0.1, sd=2.0):
    if row.DVID == AMOUNT:
        return row.DV, x[0], sd**2, np.array([1.0, 0.0])
    f = x[1] / v
    return row.DV, f, add**2 + (prop * f) ** 2, np.array([0.0, 1.0 / v])


def frame(rows) -> pd.DataFrame:
    """Rows (ID, TIME, EVID, AMT, RATE, CMT, DV, DVID)."""
    return pd.DataFrame(rows, columns=["ID", "TIME", "EVID", "AMT", "RATE", "CMT", "DV", "DVID"])


def dose(i, t, amt, cmt=1, rate=0.0, evid=1):
    return (i, t, evid, amt, rate, cmt, np.nan, 1)


def record(i, t, dv, dvid=CONC):
    return (i, t, 0, 0.0, 0.0, 1, dv, dvid)


def events(i, scale):
    """A bolus, an infusion with records while it goes on, a reset, a dose that resets; both endpoints at one time."""
    rows = [dose(i, 0.0, 100.0), record(i, 0.5, 2.7), record(i, 0.5, 60.0, AMOUNT), record(i, 1.0, 5.0), record(i, 2.0, 5.4)]
    rows += [dose(i, 3.0, 50.0, cmt=2, rate=25.0), record(i, 4.0, 9.1), record(i, 6.0, 8.0), record(i, 6.0, 1.5, AMOUNT)]
    rows += [(i, 7.0, 3, 0.0, 0.0, 1, np.nan, 1), record(i, 7.2, 0.2), dose(i, 7.5, 60.0), record(i, 8.0, 2.0)]
    rows += [record(i, 8.0, 39.0, AMOUNT), dose(i, 10.0, 80.0, evid=4), record(i, 11.0, 4.1), record(i, 14.0, 5.9)]
    return [(*row[:6], row[6] * scale, row[7]) for row in rows]


@functools.cache
def data() -> pd.DataFrame:
    return frame([row for i, scale in ((1, 1.0), (2, 0.8), (3, 1.3)) for row in events(i, scale)])


def read(table: pd.DataFrame, dvid=None, **options) -> nlme.Population:
    return nlme.read_nonmem(table, dvid=dvid or {CONC: "conc", AMOUNT: "amount"}, **options)


def subjects_of(table: pd.DataFrame):
    return [list(rows.itertuples()) for _, rows in table.groupby("ID")]


def alone(model, population, ode=TIGHT):
    """(N,) -2 log p of every subject at eta = 0."""
    return nlme.evaluate(model, population, nlme.NaivePooled(ode=ode)).values


# what is followed


def test_the_equations_of_the_covariance():
    """dP/dt = A P + P A' + Q, with A of a non-linear f."""

    def rhs(t, a):
        return dict(x=-jnp.sin(a.x) * a.y, y=a.x**2 - t * a.y)

    filtered = Filtered(nlme.ODE(rhs, ("x", "y"), initial=dict(y=2.0), diffusion=dict(y=0.7)))
    assert filtered.states == ("x", "y", "cov(x, x)", "cov(y, x)", "cov(y, y)")
    np.testing.assert_array_equal(filtered.start(), [0.0, 2.0, 0.0, 0.0, 0.0])
    x, P, t = np.array([0.4, 1.3]), np.array([[2.0, 0.3], [0.3, 1.1]]), 0.6
    A = np.array([[-np.cos(x[0]) * x[1], -np.sin(x[0])], [2 * x[0], -t]])
    expected = A @ P + P @ A.T + np.diag([0.0, 0.49])
    found = filtered.flow(t, (*x, 2.0, 0.3, 1.1))
    np.testing.assert_allclose(found[:2], [-np.sin(0.4) * 1.3, 0.16 - 0.78], rtol=1e-14)
    np.testing.assert_allclose(found[2:], [expected[i, j] for i, j in triangle(2)], rtol=1e-14)


@pytest.mark.parametrize("rank", [0, 1, 2, 3])
def test_the_factor_of_a_singular_covariance(rank):
    root = np.random.default_rng(rank).normal(size=(3, 3)) @ np.diag([1.0] * rank + [0.0] * (3 - rank))
    P = root @ root.T
    states = [*np.zeros(3), *(P[i, j] for i, j in triangle(3))]
    factor = np.array(semidefinite_factor(parted(jnp.array(states), 3)[1]))
    np.testing.assert_allclose(factor @ factor.T, P, atol=1e-7)
    assert not np.triu(factor, 1).any()


# the density


@pytest.mark.slow
def test_linear_equations_against_the_exact_filter():
    """Boluses, an infusion, resets and two endpoints, by matrix exponentials (Van Loan)."""
    expected = [minus_two_log_density(innovations(rows, oral, observed_oral, (0.0, 0.0))) for rows in subjects_of(data())]
    np.testing.assert_allclose(alone(Oral(), read(data())), expected, rtol=1e-10)


@pytest.mark.slow
def test_predictions_are_one_step_ahead():
    fit = nlme.evaluate(Oral(), read(data()), nlme.FOCEI(ode=TIGHT))
    found, eta = fit.predictions, fit.eta
    for k, rows in enumerate(subjects_of(data())):
        cl, v = 1.2 * np.exp(eta.cl.iloc[k]), 10.0 * np.exp(eta.v.iloc[k])
        step = functools.partial(observed_oral, v=v)
        z, m, R = innovations(rows, lambda row, cl=cl, v=v: oral(cl=cl, v=v), step, (0.0, 0.0)).T
        own = found[found.ID == k + 1]
        np.testing.assert_allclose(own.IPRED, m, rtol=1e-9)
        np.testing.assert_allclose(own.IWRES, (z - m) / np.sqrt(R), rtol=1e-8, atol=1e-9)


@pytest.mark.slow
def test_without_noise_it_is_the_ordinary_equations():
    class Quiet(Oral):
        def diffusion(self):
            return dict(central=0.0, depot=0.0)

    class Certain(Oral):
        def diffusion(self):
            return None

    for method in (nlme.NaivePooled(ode=TIGHT), nlme.FOCEI(ode=TIGHT)):
        found, expected = (nlme.evaluate(model, read(data()), method).values for model in (Quiet(), Certain()))
        np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_an_endpoint_that_looks_at_no_state_is_as_without_noise():
    class Blind(Oral):
        def observe(self, ind, state, t):
            return {"conc": nlme.additive(ind.cl, 0.3), "amount": nlme.additive(ind.v, 0.3)}

    people, model, expected = read(data()), Blind(), 0.0
    for s in people:
        for k, mean in enumerate((float(model.cl), float(model.v))):
            y = s.dv[s.is_observation & (s.endpoint == people.endpoints.index(("conc", "amount")[k]))]
            expected += np.sum((y - mean) ** 2 / 0.09 + np.log(0.09))
    assert nlme.evaluate(model, people, nlme.NaivePooled()).objective == pytest.approx(expected, rel=1e-12)


class Saturable(nlme.Model):
    """Michaelis-Menten elimination with log-normal observations and a rate of elimination that wanders."""

    vmax: nlme.Scalar = nlme.positive(8.0)
    km: nlme.Scalar = nlme.positive(20.0)
    sigma: nlme.Scalar = nlme.positive(0.2)
    omega: nlme.Covariance = nlme.covariance(vmax=0.06)
    sd: nlme.Scalar = nlme.positive(0.15)

    def individual(self, eta, cov):
        return dict(vmax=self.vmax * jnp.exp(eta.vmax))

    def dynamics(self, ind):
        def rhs(t, a):
            return dict(central=-ind.vmax * jnp.exp(a.drift) * a.central / (self.km + a.central), drift=-0.1 * a.drift)

        return nlme.ODE(rhs, ("central", "drift"), diffusion=dict(drift=self.sigma, central=0.5))

    def observe(self, ind, state, t):
        return {"conc": nlme.lognormal(state.central / 5.0, self.sd)}


def saturable(row=None, vmax=8.0, km=20.0, sigma=0.2):
    def f(x):
        return np.array([-vmax * np.exp(x[1]) * x[0] / (km + x[0]), -0.1 * x[1]])

    def jacobian(x):
        slope = -vmax * np.exp(x[1]) * km / (km + x[0]) ** 2
        return np.array([[slope, -vmax * np.exp(x[1]) * x[0] / (km + x[0])], [0.0, -0.1]])

    return System(np.array([0.5, sigma]), f=f, jacobian=jacobian)


def observed_saturable(x, row, sd=0.15):
    return np.log(row.DV), np.log(x[0] / 5.0), sd**2, np.array([1.0 / x[0], 0.0])


@functools.cache
def saturable_data() -> pd.DataFrame:
    times, values = [0.5, 1.0, 2.0, 4.0, 6.0, 13.0, 15.0, 20.0], [19.0, 18.1, 17.5, 14.0, 12.5, 22.0, 20.0, 14.1]
    rows = [dose(1, 0.0, 100.0), dose(1, 12.0, 80.0)] + [record(1, t, y) for t, y in zip(times, values, strict=True)]
    return frame(sorted(rows, key=lambda row: row[1]))


@pytest.mark.slow
def test_nonlinear_equations_against_another_filter():
    expected = minus_two_log_density(innovations(subjects_of(saturable_data())[0], saturable, observed_saturable, (0.0, 0.0)))
    expected += 2.0 * np.log(saturable_data().DV.dropna()).sum()  # the data's own scale
    found = alone(Saturable(), read(saturable_data(), {CONC: "conc"}))
    np.testing.assert_allclose(found, [expected], rtol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("between", ["nocb", "linear"])
def test_parameters_that_change(between):
    """A covariate on clearance that jumps from record to record, or changes all the time."""

    power = 2 if between == "nocb" else 1

    class Weighed(Oral):
        covariates = {"wt": ""}

        def individual(self, eta, cov):
            return dict(cl=self.cl * cov.wt**power * jnp.exp(eta.cl), v=self.v * cov.wt * jnp.exp(eta.v))

    table = data().query("ID == 1 and TIME < 7").copy()
    table["wt"] = 1.0 + 0.05 * table.TIME
    rows = list(table.itertuples())

    def at(row):
        if between == "nocb":
            return oral(cl=1.2 * row.wt**2, v=10.0 * row.wt)
        return oral()  # clearance and volume grow alike

    expected = minus_two_log_density(innovations(rows, at, lambda x, row: observed_oral(x, row, v=10.0 * row.wt), (0.0, 0.0)))
    population = read(table, covariates=["wt"], time_varying=["wt"], interpolation={"wt": between})
    np.testing.assert_allclose(alone(Weighed(), population), [expected], rtol=1e-10)


@pytest.mark.slow
def test_steady_state_is_that_of_the_process():
    """Elimination alone: P = sigma^2 / 2k before and after a dose at steady state."""
    k, v, sigma = 0.12, 10.0, 4.0

    class Central(Oral):
        def dynamics(self, ind):
            return nlme.ODE(
                lambda t, a: dict(central=-ind.cl / ind.v * a.central), ("central",), diffusion=dict(central=self.sigma)
            )

        def observe(self, ind, state, t):
            return {"conc": nlme.additive(state.central / ind.v, self.add)}

    table = frame([dose(1, 0.0, 100.0), record(1, 1.0, 11.0)]).assign(SS=[1, 0], II=[12.0, 0.0])
    mean = 100.0 * np.exp(-k) / (1.0 - np.exp(-12.0 * k)) / v
    R = sigma**2 / (2.0 * k) / v**2 + 0.09
    found = alone(Central(), read(table, {CONC: "conc"}))
    np.testing.assert_allclose(found, [(11.0 - mean) ** 2 / R + np.log(R)], rtol=1e-8)


class Wandering(nlme.Model):
    """dx = -k x dt + sigma dw (Ornstein & Uhlenbeck), two random effects."""

    k: nlme.Scalar = nlme.positive(0.2)
    v: nlme.Scalar = nlme.positive(5.0)
    sigma: nlme.Scalar = nlme.positive(3.0)
    omega: nlme.Covariance = nlme.covariance(k=0.1, v=0.05)
    add: nlme.Scalar = nlme.positive(0.4)
    prop: nlme.Scalar = nlme.positive(0.1)

    def individual(self, eta, cov):
        return dict(k=self.k * jnp.exp(eta.k), v=self.v * jnp.exp(eta.v))

    def dynamics(self, ind):
        return nlme.ODE(lambda t, a: dict(x=-ind.k * a.x), ("x",), diffusion=dict(x=self.sigma))

    def observe(self, ind, state, t):
        return {"conc": nlme.combined(state.x / ind.v, self.add, self.prop)}


WANDERED = {
    1: ([0.5, 1.0, 2.0, 4.0, 8.0], [18.0, 17.0, 13.1, 9.3, 3.6]),
    2: ([0.5, 1.5, 3.0, 6.0, 10.0], [24.5, 20.9, 17.2, 9.0, 6.4]),
    3: ([1.0, 2.0, 5.0, 9.0], [14.2, 10.9, 4.3, 2.9]),
}


def wandered() -> nlme.Population:
    rows = [[dose(i, 0.0, 100.0), *map(functools.partial(record, i), *series)] for i, series in WANDERED.items()]
    return read(frame([row for own in rows for row in own]), {CONC: "conc"})


@functools.cache
def simulated(count: int, times: tuple[float, ...]) -> nlme.Population:
    """Data of so many people that the model makes at its own values."""
    rows = [row for i in range(1, count + 1) for row in (dose(i, 0.0, 100.0), *(record(i, t, 1.0) for t in times))]
    drawn = nlme.simulate(Wandering(), read(frame(rows), {CONC: "conc"}), key=3, eta="new", as_data=True)
    return nlme.read_nonmem(drawn.drop(columns="REPLICATE"), dvid={1: "conc"})


def by_formula(theta, eta, subject, interaction=None):
    """(y - m, log R) of every record by the closed solution, written for JAX; R where ``interaction`` is None, else given."""
    k, v, sigma, add, prop = theta[0] * jnp.exp(eta[0]), theta[1] * jnp.exp(eta[1]), *theta[2:]
    x, P, time, rest, logs = 100.0, 0.0, 0.0, [], []
    for t, y in zip(*WANDERED[subject], strict=True):
        decay = jnp.exp(-k * (t - time))
        x, P, time = x * decay, P * decay**2 + sigma**2 * (1 - decay**2) / (2 * k), t
        R = P / v**2 + add**2 + (prop * x / v) ** 2
        gain, e = P / v / R, y - x / v
        rest.append(e)
        logs.append(jnp.log(R))
        x, P = x + gain * e, P - gain**2 * R
    return jnp.stack(rest), jnp.stack(logs)


@functools.cache
def marginals_by_formula(method: str) -> np.ndarray:
    """(3,) objectives from JAX's own derivatives of the closed solution, the mode by Newton's method."""
    theta, omega = jnp.array([0.2, 5.0, 3.0, 0.4, 0.1]), jnp.sqrt(jnp.array([0.1, 0.05]))
    found = []
    for subject in WANDERED:

        def parts(b, subject=subject):
            e, logs = by_formula(theta, omega * b, subject)
            return e, (by_formula(theta, jnp.zeros(2), subject)[1] if method == "FOCE" else logs)

        def phi(b, parts=parts):
            e, logs = parts(b)
            return 0.5 * jnp.sum(e**2 / jnp.exp(logs) + logs) + 0.5 * b @ b

        b = jnp.zeros(2)
        step = jax.jit(lambda b, phi=phi: b - jnp.linalg.solve(jax.hessian(phi)(b), jax.grad(phi)(b)))
        for _ in range(30):
            b = step(b)
        assert np.abs(jax.grad(phi)(b)).max() < 1e-10
        a, c = jax.jacfwd(parts)(b)
        H = jax.hessian(phi)(b)
        if method != "Laplace":
            H = (a / jnp.exp(parts(b)[1])[:, None]).T @ a + 0.5 * c.T @ c + jnp.eye(2)
        found.append(2.0 * phi(b) + jnp.linalg.slogdet(H)[1])
    return np.array(found)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["FOCE", "FOCEI", "Laplace"])
def test_marginals_against_the_closed_solution(method):
    found = nlme.evaluate(Wandering(), wandered(), getattr(nlme, method)(ode=TIGHT, inner_tolerance=1e-20))
    np.testing.assert_allclose(found.values, marginals_by_formula(method), rtol=1e-9)


@pytest.mark.slow
def test_the_integral_over_the_random_effects():
    """Adaptive quadrature by the library against Gauss-Legendre quadrature of the closed solution's density."""
    found = nlme.evaluate(Wandering(), wandered(), nlme.AGQ(15, ode=TIGHT)).values
    theta, sd = jnp.array([0.2, 5.0, 3.0, 0.4, 0.1]), np.sqrt([0.1, 0.05])
    for k, subject in enumerate(WANDERED):

        @jax.jit
        @jax.vmap
        def density(b, subject=subject, objective=found[k]):
            e, logs = by_formula(theta, sd * b, subject)
            return jnp.exp(-0.5 * (jnp.sum(e**2 / jnp.exp(logs) + logs) + b @ b - objective)) / (2.0 * jnp.pi)

        x, w = np.polynomial.legendre.leggauss(400)
        grid = np.stack(np.meshgrid(7 * x, 7 * x, indexing="ij"), axis=-1).reshape(-1, 2)
        whole = 49.0 * np.sum(np.outer(w, w).ravel() * np.asarray(density(jnp.asarray(grid))))
        np.testing.assert_allclose(-2.0 * np.log(whole), 0.0, atol=1e-6)


@pytest.mark.slow
def test_importance_sampling_is_that_integral():
    found, exact = (nlme.evaluate(Wandering(), wandered(), way).values for way in (nlme.ImportanceSampling(2000), nlme.AGQ(15)))
    np.testing.assert_allclose(found, exact, atol=0.06)


def require_the_gradient(model, population, method):
    """Every subject's gradient against central differences."""
    layout, inventory = lay_out(model, population), Inventory(model)
    u, starts = np.asarray(inventory.unconstrained(model)), jnp.zeros((len(population), len(layout.anatomy.effects)))
    way = getattr(nlme, method)(inner_tolerance=1e-22, ode=nlme.Tolerances(relative=1e-11, absolute=1e-13))

    def at(u):
        found = evaluate_subjects(way, layout.anatomy, inventory, model, layout.arrays, jnp.asarray(u), starts)
        assert bool(found.converged.all()) and not np.asarray(found.status).any()
        return np.asarray(found.value), np.asarray(found.gradient)

    gradient = at(u)[1]
    for k in range(len(u)):

        def slope(h, k=k):
            step = h * np.eye(len(u))[k]
            return (at(u + step)[0] - at(u - step)[0]) / (2 * h)

        expected = (4 * slope(5e-4) - slope(1e-3)) / 3
        np.testing.assert_allclose(gradient[:, k], expected, rtol=1e-6, atol=1e-6, err_msg=inventory.names[k])


@pytest.mark.slow
@pytest.mark.parametrize("method", ["FO", "FOCE", "FOCEI", "Laplace"])
def test_gradient_of_the_objective(method):
    require_the_gradient(Wandering(), wandered(), method)


# censored records


class Limited(Wandering):
    def observe(self, ind, state, t):
        return {"conc": nlme.censored(nlme.additive(state.x / ind.v, self.add))}


@pytest.mark.slow
def test_gradient_with_censored_records():
    table = frame([dose(1, 0.0, 100.0), record(1, 2.0, 13.0), record(1, 4.0, 8.0), record(1, 6.0, 7.5), record(1, 9.0, 3.0)])
    population = read(table.assign(CENS=[0, 0, 1, 0, 1]), {CONC: "conc"})
    require_the_gradient(Limited(), population, "Laplace")


@pytest.mark.slow
def test_a_censored_record_is_known_to_be_below():
    """M3: its probability, and the moments of a truncated normal distribution for what follows."""
    table = frame([dose(1, 0.0, 100.0), record(1, 4.0, 8.0), record(1, 6.0, 7.5)]).assign(CENS=[0, 1, 0])
    found = alone(Limited(), read(table, {CONC: "conc"}))
    k, v, sigma, add = 0.2, 5.0, 3.0, 0.4

    def moved(x, P, dt):
        return x * np.exp(-k * dt), P * np.exp(-2 * k * dt) + sigma**2 * (1 - np.exp(-2 * k * dt)) / (2 * k)

    x, P = moved(100.0, 0.0, 4.0)
    m, R = x / v, P / v**2 + add**2
    below = stats.truncnorm(-np.inf, (8.0 - m) / np.sqrt(R), loc=m, scale=np.sqrt(R))
    gain = P / v / R
    x, P = x + gain * (below.mean() - m), P - gain**2 * (R - below.var())
    x, P = moved(x, P, 2.0)
    expected = -2.0 * stats.norm.logcdf((8.0 - m) / np.sqrt(R))
    m, R = x / v, P / v**2 + add**2
    np.testing.assert_allclose(found, [expected + (7.5 - m) ** 2 / R + np.log(R)], rtol=1e-8)


# draws


@pytest.mark.slow
def test_draws_of_linear_equations_have_the_exact_moments():
    """Means, variances and the correlation of neighbours of 4,000 paths, within 4 standard errors."""
    times = np.array([0.5, 1.0, 2.0, 4.0, 8.0])
    population = read(frame([dose(1, 0.0, 100.0), *(record(1, t, 1.0) for t in times)]), {CONC: "conc"})
    drawn = nlme.simulate(Wandering(), population, key=1, eta="typical", replicates=4000)
    x, y = (drawn[name].to_numpy().reshape(4000, -1) for name in ("IPRED", "DV"))
    mean, variance = 20.0 * np.exp(-0.2 * times), 9.0 / 25.0 * (1 - np.exp(-0.4 * times)) / 0.4
    np.testing.assert_array_less(np.abs(x.mean(axis=0) - mean), 4.0 * np.sqrt(variance / 4000))
    np.testing.assert_array_less(np.abs(x.var(axis=0) / variance - 1.0), 4.0 * np.sqrt(2.0 / 4000))
    together = np.mean((x - mean)[:, 1:] * (x - mean)[:, :-1], axis=0)
    expected = variance[:-1] * np.exp(-0.2 * np.diff(times))
    np.testing.assert_array_less(np.abs(together - expected), 4.0 * np.sqrt(2.0 * variance[1:] * variance[:-1] / 4000))
    error = 0.16 + 0.01 * (mean**2 + variance)
    np.testing.assert_array_less(np.abs(np.var(y - x, axis=0) / error - 1.0), 5.0 * np.sqrt(2.0 / 4000))


@pytest.mark.slow
def test_draws_of_nonlinear_equations_against_small_steps():
    """Michaelis-Menten with a wandering rate, against Euler & Maruyama's method with steps of 1/200."""
    times, paths = [1.0, 4.0, 10.0], 4000
    population = read(frame([dose(1, 0.0, 100.0), *(record(1, t, 1.0) for t in times)]), {CONC: "conc"})

    class Wild(Saturable):
        sigma: nlme.Scalar = nlme.positive(0.4)

        def observe(self, ind, state, t):
            return {"conc": nlme.additive(state.central / 5.0, self.sd)}

    drawn = nlme.simulate(Wild(), population, key=2, eta="typical", replicates=paths)
    found = drawn["IPRED"].to_numpy().reshape(paths, -1)
    rng, h, count = np.random.default_rng(5), 1 / 200, 20_000
    x, expected = np.tile([100.0, 0.0], (count, 1)), []
    for k in range(2000):
        slope = np.stack([-8.0 * np.exp(x[:, 1]) * x[:, 0] / (20.0 + x[:, 0]), -0.1 * x[:, 1]], axis=1)
        x = x + h * slope + np.sqrt(h) * np.array([0.5, 0.4]) * rng.normal(size=x.shape)
        if (k + 1) * h in times:
            expected.append(x[:, 0] / 5.0)
    for own, other in zip(found.T, expected, strict=True):
        error = np.sqrt(own.var() / paths + other.var() / count)
        assert abs(own.mean() - other.mean()) < 4.0 * error
        assert abs(own.var() / other.var() - 1.0) < 4.0 * np.sqrt(2.0 / paths + 2.0 / count)


@pytest.mark.slow
def test_checks_by_simulation_have_the_distribution_of_the_truth():
    """Prediction distribution errors of data that the model made are standard normal, and its bands hold what was seen."""
    population = simulated(30, (0.5, 1.0, 2.0, 4.0, 6.0, 10.0, 14.0))
    errors = nlme.npde(Wandering(), population, key=1, replicates=500)
    assert errors.tests.loc["global", "NPDE"] > 0.01
    bands = nlme.vpc(Wandering(), population, key=1, replicates=200).table
    inside = (bands.OBSERVED >= bands.LOWER) & (bands.OBSERVED <= bands.UPPER)
    assert inside.mean() > 0.75


@pytest.mark.slow
def test_a_path_to_where_an_endpoint_has_no_value():
    """Noise takes an amount below 0, where there is no log-normal distribution."""

    class Wild(Wandering):
        def observe(self, ind, state, t):
            return {"conc": nlme.lognormal(state.x / ind.v, self.add)}

    population = read(frame([dose(1, 0.0, 100.0), record(1, 30.0, 1.0)]), {CONC: "conc"})
    with pytest.raises(nlme.FitError, match="System noise takes subject 1 at time 30 to where endpoint 'conc' has no value"):
        nlme.simulate(Wild(), population, key=1, eta="typical", replicates=64)


@pytest.mark.slow
def test_without_noise_nothing_is_drawn():
    population = wandered()
    quiet = nlme.simulate(Wandering(), population, key=1, eta="typical", noise=False)
    expected = nlme.predict(Wandering(), population).query("EVID == 0")["conc"]
    np.testing.assert_allclose(quiet["IPRED"], expected, rtol=1e-9)
    one, other = (nlme.simulate(Wandering(), population, key=key, eta="typical")["IPRED"] for key in (1, 2))
    assert (np.abs(one - other) > 1e-3).all()


@pytest.mark.slow
def test_a_fit_finds_the_noise_that_was_simulated():
    population, truth = simulated(30, (0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0)), Wandering()
    start = dataclasses.replace(truth, sigma=jnp.asarray(1.0), k=jnp.asarray(0.3))
    fit = nlme.fit(start, population, nlme.FOCEI())
    error = float(fit.covariance.of_kind("R").standard_errors["sigma"])
    assert abs(fit.estimates["sigma"] - 3.0) < 3.0 * error and error < 0.6


# what is refused


def wandering_with(**options):
    return nlme.ODE(lambda t, a: dict(x=-a.x), ("x",), **options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(diffusion=2.0), "diffusion is a dict from states to standard deviations"),
        (dict(diffusion=dict(y=1.0)), "No state named 'y'"),
        (dict(diffusion=dict(x=-1.0)), "standard deviation of at least 0"),
        (dict(diffusion=dict(x=lambda t, a: a.x)), "got a function.*its logarithm"),
        (dict(diffusion=dict(x=jnp.ones(2))), "one number"),
    ],
)
def test_what_diffusion_cannot_be(options, words):
    with pytest.raises(nlme.ModelError, match=words):
        wandering_with(**options)


def test_what_it_is_not_combined_with():
    noise = dict(diffusion=dict(x=1.0))
    with pytest.raises(nlme.ModelError, match="not combined with algebraic equations"):
        nlme.ODE(lambda t, a: dict(x=-a.x, z=a.z - a.x), ("x", "z"), algebraic=("z",), **noise)
    with pytest.raises(nlme.ModelError, match="not combined with delays"):
        nlme.ODE(lambda t, a, past: dict(x=-past.tau.x), ("x",), delays=dict(tau=1.0), **noise)
    with pytest.raises(nlme.ModelError, match="not combined with states that are vectors"):
        nlme.ODE(lambda t, a: dict(x=-a.x, u=-a.u), {"x": 1, "u": 3}, **noise)
    with pytest.raises(nlme.ModelError, match="transit_chain"):
        nlme.pk.transit(wandering_with(**noise), n=2.0, mtt=1.0)


@pytest.mark.parametrize(
    "law",
    [
        lambda f: nlme.poisson(f),
        lambda f: nlme.student_t(f, 1.0, 4.0),
        lambda f: nlme.ar1(nlme.additive(f, 1.0), 2.0),
        lambda f: nlme.censored(nlme.additive(f, 1.0), "M4"),
    ],
)
def test_endpoints_without_a_filter(law):
    class Other(Wandering):
        def observe(self, ind, state, t):
            return {"conc": law(state.x)}

    with pytest.raises(nlme.ModelError, match="the states have diffusion: their filter takes residual error models"):
        lay_out(Other(), wandered())


def test_records_that_the_filter_does_not_follow():
    rows = [dose(1, 0.0, 100.0), dose(1, 12.0, 100.0), record(1, 13.0, 9.0)]
    table = frame(rows).assign(SS=[0, 2, 0], II=[0.0, 12.0, 0.0])
    with pytest.raises(nlme.ModelError, match="SS = 2 adds a steady state"):
        lay_out(Wandering(), read(table, {CONC: "conc"}))
    off = frame([dose(1, 0.0, 100.0), (1, 2.0, 2, 0.0, 0.0, -1, np.nan, 1), record(1, 3.0, 9.0)])
    with pytest.raises(nlme.ModelError, match="switches 'x' off"):
        lay_out(Wandering(), read(off, {CONC: "conc"}))


def test_who_knows_nothing_of_system_noise():
    words = "diffusion of x"
    with pytest.raises(nlme.ModelError, match=words):
        nlme.information(Wandering(), wandered())
    with pytest.raises(nlme.ModelError, match="moves by a stochastic equation"):
        nlme.to_nonmem(Wandering(), population=wandered())
    with pytest.raises(nlme.ModelError, match=words):
        nlme.forecast(Wandering(), wandered(), times=[24.0], key=1)
