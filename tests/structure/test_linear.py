"""Linear systems by matrix exponential: against scipy's, the closed forms and NONMEM's events."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import case
from scipy.linalg import expm
from scipy.stats import gamma
from states import model_of, population_of, states_of
from structures import STRUCTURES

import nlme
from nlme.jets.jet import Columns
from nlme.structure.assembly import as_linear

CHAIN = ("a", "b", "c", "d")
# name -> (flows, drives): between four states
SYSTEMS = {
    "chain with equal rates": ({("a", "b"): 2.0, ("b", "c"): 2.0, ("c", "d"): 2.0, ("d", None): 2.0}, {}),
    "cycle (complex eigenvalues)": ({("a", "b"): 1.0, ("b", "c"): 1.0, ("c", "a"): 1.0, ("c", None): 0.2}, {("b", "d"): 0.3}),
    "stiff": ({("a", "b"): 3e3, ("b", "c"): 1e3, ("c", "b"): 5e2, ("b", None): 0.1, ("c", "d"): 1e-3}, {}),
    "nothing moves": ({("a", "b"): 0.0}, {}),
    "driven": ({("a", None): 0.4, ("b", None): 7.0}, {("a", "b"): 7.0, ("b", "c"): 1.0, ("a", "d"): 30.0}),
}


def matrix(flows, drives) -> np.ndarray:
    k = np.zeros((4, 4))
    for (come, to), rate in flows.items():
        k[CHAIN.index(come), CHAIN.index(come)] -= rate
        if to is not None:
            k[CHAIN.index(to), CHAIN.index(come)] += rate
    for (come, to), rate in drives.items():
        k[CHAIN.index(to), CHAIN.index(come)] += rate
    return k


@pytest.mark.parametrize("name", SYSTEMS)
def test_exponential_is_scipys(name):
    flows, drives = SYSTEMS[name]
    system = nlme.pk.Linear(CHAIN, flows, drives)
    amounts, rates = (3.0, 1.0, 0.5, 2.0), (0.5, 0.0, 2.0, 1.0)
    times = np.array([0.0, 1e-6, 0.3, 2.0, 17.0, 100.0])
    found = np.array(system.advance(tuple(map(jnp.asarray, amounts)), rates, jnp.asarray(times)))
    augmented = np.zeros((5, 5))
    augmented[:4, :4], augmented[:4, 4] = matrix(flows, drives), rates
    fastest = np.abs(augmented[:4, :4]).sum(axis=0).max()
    for t, ours in zip(times, found.T, strict=True):
        expected = (expm(augmented * t) @ np.r_[amounts, 1.0])[:4]
        # rounding grows with the fastest rate times t, in scipy's squarings as in ours
        np.testing.assert_allclose(ours, expected, rtol=1e-12 + 2e-15 * fastest * t, atol=1e-13, err_msg=f"t = {t}")
    np.testing.assert_allclose(system.flow(0.0, amounts), matrix(flows, drives) @ amounts, rtol=1e-12)


def test_equal_rates_are_the_gamma_distribution():
    k = 1.7
    chain = nlme.pk.Linear(CHAIN, {("a", "b"): k, ("b", "c"): k, ("c", "d"): k, ("d", None): k})
    times = np.array([1e-3, 0.1, 1.0, 5.0, 30.0])
    for n, amount in enumerate(chain.advance((1.0, 0.0, 0.0, 0.0), None, jnp.asarray(times))):
        np.testing.assert_allclose(amount, gamma.pdf(times, n + 1, scale=1 / k) / k, rtol=1e-12)  # every element, however small


def test_second_derivatives_at_equal_rates():
    """Each rate of the chain moved on its own, away from equality: central differences of the value."""

    def last(rates):
        chain = nlme.pk.Linear(CHAIN, dict(zip([("a", "b"), ("b", "c"), ("c", "d"), ("d", None)], rates, strict=True)))
        return chain.advance((1.0, 0.0, 0.0, 0.0), None, jnp.asarray(2.3))[3]

    at, h = jnp.full(4, 1.7), 1e-3
    hessian = jax.jit(jax.jacfwd(jax.jacfwd(last)))(at)
    value = jax.jit(last)
    for i, e in enumerate(np.eye(4) * h):
        for j, f in enumerate(np.eye(4) * h):
            difference = (value(at + e + f) - value(at + e - f) - value(at - e + f) + value(at - e - f)) / (4 * h * h)
            assert hessian[i, j] == pytest.approx(float(difference), abs=1e-6)


# the closed forms' jets are slow to compile, not ours
HEAVY = ("TwoCompartment", "TwoCompartmentOral", "ThreeCompartment", "ThreeCompartmentOral")


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in HEAVY)) for n in STRUCTURES])
def test_closed_forms_values_and_derivatives(name):
    """To 1e-10 of the largest size, bolus and infusion, with first and second derivatives in every parameter."""
    row = STRUCTURES[name]
    times = jnp.array([0.0, 0.05, 1.0, 6.0, 48.0])
    n = len(row.states)
    columns = Columns.of_order(2, len(row.parameters))
    p = jnp.array(list(row.parameters.values()))

    def jet(make):
        def moved(p):
            structure = make(row.closed(dict(zip(row.parameters, p, strict=True))))
            return jnp.stack(structure.advance(tuple(10.0 * (k + 1.0) for k in range(n)), (2.0,) * n, times))

        return jax.jit(lambda p: columns.parts(moved, columns.seed(p, p)))(p)

    ours, theirs = jet(as_linear), jet(lambda s: s)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10 * float(jnp.max(jnp.abs(b))))


DOSES = [
    [dict(time=0.0, amt=100.0), dict(time=3.0, amt=50.0)],
    [dict(time=0.0, amt=100.0, rate=40.0), dict(time=5.0, amt=30.0, duration=2.0, cmt=2)],
    [dict(time=0.5, amt=100.0, rate=-2.0, addl=2, ii=1.5)],
    [dict(time=0.0, amt=60.0, ss=1, ii=6.0, addl=1)],
    [dict(time=0.0, amt=60.0, rate=7.0, ss=1, ii=6.0)],
    [dict(time=0.0, amt=60.0), dict(time=2.0, amt=20.0, ss=2, ii=8.0)],
    [dict(time=0.0, amt=100.0), dict(time=2.0, amt=60.0, evid=4)],
]


@pytest.mark.slow
@pytest.mark.parametrize("order", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_every_kind_of_dose_as_the_closed_form(order):
    """With lag, bioavailability and modelled duration: values, first and second derivatives in all parameters."""

    def closed(ind):
        rules = dict(lag=ind.lag, bioavailability=ind.f, duration=ind.duration)
        return nlme.pk.OneCompartmentOral(cl=ind.cl, v=ind.v, ka=ind.ka, **rules)

    typical = dict(cl=1.3, v=9.0, ka=0.8, lag=0.4, f=0.9, duration=2.2)
    # steady states are many systems to compile; their values are held against NONMEM below
    regimens = [doses for doses in DOSES if order == 2 or not any("ss" in record for record in doses)]
    population = population_of(regimens, [0.0, 1.0, 2.5, 6.5, 13.0])
    ours, theirs = (
        states_of(model_of(typical, make), population, order)() for make in (lambda ind: as_linear(closed(ind)), closed)
    )
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9 * np.abs(b).max())


class Dosing(nlme.Model):
    """ADVAN2 with lag, bioavailability and duration of doses into central from the data set."""

    sd: nlme.Scalar = nlme.positive(1.0)
    covariates = {"lagt": "h", "bioav": "", "dur2": "h"}

    def individual(self, eta, cov):
        return dict(cl=jnp.asarray(1.1), lag=cov.lagt, f=cov.bioav, duration=cov.dur2)

    def dynamics(self, ind):
        flows = {("depot", "central"): 1.5, ("central", None): ind.cl / 20.0}
        rules = dict(lag={"central": ind.lag}, bioavailability={"central": ind.f}, duration={"central": ind.duration})
        return nlme.pk.Linear(("depot", "central"), flows, **rules)

    def observe(self, ind, state, t):
        return {"cp": nlme.additive(50.0 * state.central, self.sd)}


class Varying(Dosing):
    covariates = {"wt": "kg"}

    def individual(self, eta, cov):
        return dict(cl=1.1 * (cov.wt / 70.0) ** 0.75)

    def dynamics(self, ind):
        return nlme.pk.Linear(("depot", "central"), {("depot", "central"): 1.5, ("central", None): ind.cl / 20.0})


@pytest.mark.parametrize("model, name", [(Dosing, "dosing_events_nonmem"), (Varying, "timevarying_covariate_nonmem")])
def test_nonmem(model, name):
    """Dosing records of every kind, and a covariate that varies in time, against NONMEM's ADVAN2."""
    table = case(name).table()
    data = table.drop(columns=[c for c in table if c.endswith("_NONMEM")])
    data["DV"] = table.CP_NONMEM.where(table.EVID == 0)
    population = nlme.read_nonmem(data, covariates=list(model.covariates), time_varying="auto")
    rows = (table.EVID != 1).to_numpy()
    found, expected = nlme.predict(model(), population).cp[rows], table.CP_NONMEM[rows]
    assert (np.abs(found - expected) <= np.maximum(2e-4 * expected, 0.05 * (expected < 100))).all()


@pytest.mark.slow
def test_reverse_is_forward():
    def total(p):
        system = nlme.pk.Linear(CHAIN, {("a", "b"): p[0], ("b", "c"): p[1], ("c", "b"): p[2], ("c", None): p[3]})
        return sum(x.sum() for x in system.advance((p[4], 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), jnp.array([0.5, 3.0])))

    p = jnp.array([1.0, 2.0, 0.5, 0.7, 10.0])
    np.testing.assert_allclose(jax.grad(total)(p), jax.jacfwd(total)(p), rtol=1e-11)


def test_a_step_too_long_is_not_a_number():
    system = nlme.pk.Linear(("a",), {("a", None): 1.0})
    (short,), (long,) = (system.advance((1.0,), None, jnp.asarray(t)) for t in (1e6, 1e9))
    assert short == 0.0 and np.isnan(long)


def test_states_that_nothing_reaches_cost_nothing():
    system = nlme.pk.Linear(CHAIN, {("a", "b"): 1.0, ("b", "c"): 1.0, ("c", "d"): 1.0})
    program = str(jax.make_jaxpr(lambda t: system.advance((0.0, 0.0, 1.0, 0.0), None, t))(jnp.ones(3)))
    assert "f64[2,2]" in program and "f64[4,4]" not in program
    moved = system.advance((0.0, 0.0, 1.0, 0.0), None, jnp.asarray(1.0))
    np.testing.assert_allclose(moved, [0.0, 0.0, np.exp(-1.0), 1.0 - np.exp(-1.0)], rtol=1e-13)


@pytest.mark.parametrize(
    "flows, drives, message",
    [
        ({("dep", "central"): 1.0}, None, "No state named 'dep'.*depot, central"),
        ({("depot", "centre"): 1.0}, None, "Did you mean 'central'"),
        ({("depot", "depot"): 1.0}, None, "from a state to itself"),
        ({(None, "depot"): 1.0}, None, "constant production"),
        ({"depot": 1.0}, None, "pairs"),
        ([1.0], None, "a dict such as"),
        ({}, {("depot", None): 1.0}, "No state named 'None'"),
    ],
)
def test_messages(flows, drives, message):
    with pytest.raises(nlme.ModelError, match=message):
        nlme.pk.Linear(("depot", "central"), flows, drives)
