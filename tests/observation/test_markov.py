"""Markov chains of categories: the density, what is predicted and what is drawn, against the enumeration of every path."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import nlme
from nlme.language.layout import lay_out
from nlme.marginal.objective import evaluate_subjects
from nlme.observation.sequence import LINKS, Course, Moves, Past
from nlme.parameters.inventory import Inventory

T, K, FIRST = 6, 3, 1


class Sleep(nlme.Model):
    """Awake (0) or asleep (1), beside a level that has nothing to do with it."""

    falls: nlme.Scalar = nlme.real(-1.0)
    stays: nlme.Scalar = nlme.real(1.5)
    start: nlme.Scalar = nlme.real(0.3)
    omega: nlme.Covariance = nlme.covariance(falls=0.3)

    def individual(self, eta, cov):
        return dict(falls=self.falls + eta.falls, stays=self.stays)

    def observe(self, ind, state, t):
        after = nlme.binary(logit=ind.falls + 0.1 * t), nlme.binary(logit=ind.stays - 0.05 * t)
        return {"stage": nlme.markov(nlme.binary(logit=self.start), after)}


class Both(Sleep):
    """The same beside two other endpoints."""

    def observe(self, ind, state, t):
        return super().observe(ind, state, t) | {"level": nlme.additive(ind.falls, 0.5), "grade": nlme.binary(logit=ind.stays)}


def _logistic(x):
    return 1.0 / (1.0 + np.exp(-x))


def _trial(count=20, times=10):
    design = nlme.virtual(count, key=1).with_times(np.arange(float(times)))
    return nlme.read_nonmem(pd.DataFrame(nlme.simulate(Sleep(), design, key=2, eta="new", as_data=True)))


def _log_density(y, t, eta):
    """log p of one subject's course at the random effects ``eta`` (n,)."""
    total = np.zeros_like(eta)
    for j, (now, at) in enumerate(zip(y, t, strict=True)):
        before = None if j == 0 else y[j - 1]
        p = _logistic(0.3 if before is None else 1.5 - 0.05 * at if before == 1 else -1.0 + eta + 0.1 * at) + 0.0 * eta
        total += np.log(p if now == 1 else 1.0 - p)
    return total


# -- the density -----------------------------------------------------------------------------------------------------------


def test_the_likelihood_is_the_product_of_transitions():
    """-2 log L by quadrature of the formula written out, 60 nodes."""
    population = _trial()
    node, weight = np.polynomial.hermite_e.hermegauss(60)
    courses = [_log_density(s.dv, s.time, np.sqrt(0.3) * node) for s in population]
    exact = -2.0 * sum(np.log(np.sum(weight * np.exp(one)) / weight.sum()) for one in courses)
    found = nlme.evaluate(Sleep(), population, nlme.AGQ(9))
    assert found.objective_full == pytest.approx(exact, abs=1e-6)
    given = found.predictions.groupby("ID").nth(0)["PRED"]
    np.testing.assert_allclose(given, _logistic(0.3))  # of a first record


def test_the_record_before_is_of_the_same_endpoint_and_time():
    """Other endpoints between the records change nothing, and a chain begins anew where time does."""
    stage, t = np.array([1.0, 0.0, 1.0, 1.0]), np.array([0.0, 1.0, 2.0, 3.0])

    def objective(model, dv, time, endpoint, names, **columns):
        subject = nlme.Subject(1, np.asarray(time, float), dv=np.asarray(dv, float), endpoint=np.asarray(endpoint), **columns)
        zero = nlme.evaluate(model, nlme.Population((subject,), names), nlme.AGQ(30), fixed=["omega.falls"])
        return zero.objective_full

    alone = objective(Sleep(), stage, t, np.zeros(4, int), ("stage",))
    values = np.column_stack([stage, np.full(4, 0.2), np.ones(4)]).ravel()
    mixed = objective(Both(), values, np.repeat(t, 3), np.tile([0, 1, 2], 4), ("stage", "level", "grade"))
    node, weight = np.polynomial.hermite_e.hermegauss(200)
    eta = np.sqrt(0.3) * node
    others = -0.5 * 4 * (((0.2 + 1.0 - eta) / 0.5) ** 2 + np.log(2 * np.pi * 0.25)) + 4 * np.log(_logistic(1.5))

    def exact(course):
        return -2.0 * np.log(np.sum(weight * np.exp(course)) / weight.sum())

    assert alone == pytest.approx(exact(_log_density(stage, t, eta)), abs=1e-8)
    assert mixed == pytest.approx(exact(_log_density(stage, t, eta) + others), abs=1e-7)
    table = pd.DataFrame({"ID": 1, "TIME": [0.0, 1.0, 0.0, 1.0], "DV": stage, "EVID": [0, 0, 0, 0]})
    reset = pd.concat([table[:2], pd.DataFrame({"ID": [1], "TIME": [0.0], "DV": [np.nan], "EVID": [3]}), table[2:]])
    again = nlme.evaluate(Sleep(), nlme.read_nonmem(reset), nlme.AGQ(30))
    parts = _log_density(stage[:2], t[:2], eta) + _log_density(stage[2:], t[:2], eta)
    assert again.objective_full == pytest.approx(exact(parts), abs=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("method", [nlme.Laplace(inner_tolerance=1e-22), nlme.AGQ(3, inner_tolerance=1e-22)], ids=repr)
def test_the_gradient_meets_central_differences(method):
    model, few = Sleep(), _trial(4, 6)
    layout, inventory = lay_out(model, few), Inventory(model)

    def at(u, gradient=False):
        starts = np.zeros((4, 1))
        return evaluate_subjects(method, layout.anatomy, inventory, model, layout.arrays, u, starts, gradient=gradient)

    u, h = inventory.unconstrained(model), 1e-4
    ours = np.asarray(at(u, True).gradient)
    for k in range(len(inventory)):
        out = [np.asarray(at(u.at[k].add(step * h)).value) for step in (-2, -1, 1, 2)]
        np.testing.assert_allclose(ours[:, k], (out[0] - 8 * out[1] + 8 * out[2] - out[3]) / (12 * h), rtol=1e-6, atol=1e-7)


@pytest.mark.slow
def test_a_fit_recovers_the_chain():
    truth = dict(falls=-1.0, stays=1.5, start=0.3)
    fit = nlme.fit(Sleep(falls=0.0, stays=0.0, start=0.0), _trial(200, 15), nlme.Laplace(), progress=False)
    assert fit.converged
    for name, value in truth.items():
        row = nlme.table(fit).loc[name]
        assert abs(row.estimate - value) < 3.5 * row.se


def test_what_is_impossible_is_impossible_and_what_is_sure_costs_nothing():
    class Absorbing(Sleep):
        def observe(self, ind, state, t):
            return {"stage": nlme.markov(nlme.binary(0.5), (nlme.binary(logit=ind.falls), nlme.binary(1.0)))}

    def of(dv):
        subject = nlme.Subject(1, np.arange(float(len(dv))), dv=np.array(dv, float))
        return nlme.evaluate(Absorbing(), nlme.Population((subject,), ("stage",)), nlme.AGQ(5))

    assert of([0, 0, 1, 1, 1]).objective_full == pytest.approx(of([0, 0, 1]).objective_full, abs=1e-9)
    with pytest.raises(nlme.FitError, match="subject 1"):
        of([0, 1, 0])


# -- the link, against every path --------------------------------------------------------------------------------------------


def _chain(seed):
    random = np.random.default_rng(seed)
    probability = random.dirichlet(np.ones(K), size=(T, K + 1))
    probability[2, 1, 0], probability[2, 1] = 0.0, probability[2, 1] / probability[2, 1, 1:].sum() * (np.arange(K) > 0)
    steps = np.array([True, True, False, True, True, True])
    known = np.array([False, True, False, False, False, True])
    y = np.array([0.0, FIRST + 1, 0.0, 0.0, 0.0, FIRST + 2])
    ahead = np.zeros(T)
    return probability, steps, known, y, ahead


def _paths(probability, steps, known, y, ahead):
    """Every course of the steps that holds what is known, with its probability."""
    at = np.flatnonzero(steps)
    for path in itertools.product(range(K), repeat=len(at)):
        p, last = 1.0, None
        for t, now in zip(at, path, strict=True):
            begins = last is None or ahead[t] != ahead[last[0]]
            p *= probability[t, 0, now] if begins else probability[t, 1 + last[1], now]
            p *= 1.0 if not known[t] or y[t] == FIRST + now else 0.0
            last = t, now
        yield dict(zip(at, path, strict=True)), p


def _given(probability, steps, known, y, ahead):
    carried = Moves(jnp.log(probability), jnp.full(T, float(FIRST)))
    course = Course(jnp.arange(float(T)), jnp.zeros(T, int), jnp.asarray(ahead))
    return carried, course, Past(jnp.asarray(known), jnp.asarray(steps), jnp.asarray(y), None)  # the terms are not looked at


@pytest.mark.parametrize("restart", [None, 4, 2], ids=["one time", "again at a step", "again at a reset record"])
def test_predictions_are_those_of_every_path(restart):
    chain = _chain(3)
    if restart is not None:
        chain[-1][restart:] = 10.0
    probability, steps, known, y, ahead = chain
    found = LINKS["markov"].prediction(jnp.zeros(T), *_given(*chain))
    paths = list(_paths(*chain))
    total = sum(p for _, p in paths)
    for t in np.flatnonzero(steps & ~known):
        assert found[t] == pytest.approx(sum(p * (FIRST + path[t]) for path, p in paths) / total, rel=1e-10)
    # a record that is no step: from the step before, whatever comes
    assert found[2] == pytest.approx(float(probability[2, 0 if restart == 2 else 2] @ (FIRST + np.arange(K))), rel=1e-10)


@pytest.mark.parametrize("restart", [None, 2], ids=["one time", "again at a reset record"])
def test_draws_are_of_the_chain_given_what_is_known(restart):
    chain = _chain(5)
    if restart is not None:
        chain[-1][restart:] = 10.0
    carried, course, past = _given(*chain)
    keys = jax.random.split(jax.random.key(1), 40_000)
    drawn = (
        np.asarray(jax.vmap(lambda key: LINKS["markov"].drive(carried, past.steps, course, past, key))(keys)).astype(int) - FIRST
    )
    unknown = np.flatnonzero(chain[1] & ~chain[2])
    total, counts = 0.0, {}
    for path, p in _paths(*chain):
        own = tuple(path[t] for t in unknown)
        counts[own] = counts.get(own, 0.0) + p
        total += p
    seen = pd.Series(map(tuple, drawn[:, unknown].tolist())).value_counts(normalize=True)
    for own, p in counts.items():
        assert seen.get(own, 0.0) == pytest.approx(p / total, abs=0.012)
    assert not set(seen.index) - {own for own, p in counts.items() if p > 0}


# -- whole courses -----------------------------------------------------------------------------------------------------------


def test_simulated_courses_have_the_transitions():
    design = nlme.virtual(1, key=1).with_times(np.arange(8.0))
    table = nlme.simulate(Sleep(), design, key=3, eta="typical", replicates=20_000)
    drawn, predicted = (table[name].to_numpy().reshape(20_000, 8) for name in ("DV", "IPRED"))
    np.testing.assert_allclose(drawn.mean(axis=0), predicted[0], atol=0.015)  # of no record before
    for t in (1, 4, 7):
        for before, expected in ((0, _logistic(-1.0 + 0.1 * t)), (1, _logistic(1.5 - 0.05 * t))):
            assert drawn[drawn[:, t - 1] == before, t].mean() == pytest.approx(expected, abs=0.02)


def test_courses_begin_anew_at_a_reset():
    """Two periods of the same times: the reset, no step itself, ends the first chain in simulations, predictions and the likelihood."""

    class Sure(Sleep):
        def observe(self, ind, state, t):
            return {"stage": nlme.markov(nlme.binary(0.9), (nlme.binary(0.001), nlme.binary(0.001)))}

    one = [dict(TIME=0.0, EVID=0, DV=1.0), dict(TIME=1.0, EVID=0, DV=0.0)]
    rows = pd.DataFrame([*one, dict(TIME=0.0, EVID=3, DV=np.nan), *one]).assign(ID=1)
    population = nlme.read_nonmem(rows)
    table = nlme.simulate(Sure(), population, key=1, eta="typical", replicates=4000)
    np.testing.assert_allclose(table.DV.to_numpy().reshape(4000, 4).mean(axis=0), [0.9, 0.001, 0.9, 0.001], atol=0.02)
    np.testing.assert_allclose(nlme.predict(Sure(), population).stage, [0.9, 0.001, 0.9, 0.9, 0.001], rtol=1e-12)
    exact = -2.0 * 2 * (np.log(0.9) + np.log1p(-0.001))
    assert nlme.evaluate(Sure(), population, nlme.AGQ(3)).objective_full == pytest.approx(exact, rel=1e-9)


def test_a_forecast_goes_on_from_the_last_record():
    population = nlme.Population((nlme.Subject(1, np.arange(3.0), dv=np.array([0.0, 1.0, 1.0])),), ("stage",))
    found = nlme.forecast(Sleep(), population, times=[3.0, 4.0], key=1).frame
    stays, falls = _logistic(1.5 - 0.15), _logistic(-1.0 + 0.4)
    assert found.MEDIAN.iloc[0] == pytest.approx(stays)
    # the next but one: asleep still, or awake in between, of which the random effect decides
    assert stays * _logistic(1.5 - 0.2) < found.MEDIAN.iloc[1] < 1.0
    assert found.MEDIAN.iloc[1] == pytest.approx(stays * _logistic(1.5 - 0.2) + (1 - stays) * falls, abs=0.03)


# -- what is refused ---------------------------------------------------------------------------------------------------------


def test_categories_that_differ_are_refused():
    two, three = nlme.binary(0.5), nlme.ordered(logits=(1.0, 0.0))
    for given, words in (
        ((two, (two,)), "initial has 2 categories, 0 to 1, and transitions has 1"),
        ((two, (two, three)), r"transitions\[1\] has the categories 0 to 2, and initial 0 to 1"),
        ((two, two), "transitions has 1 distributions"),
        ((0.5, (two, two)), "initial is nlme.binary"),
        ((three, (three, three, nlme.ordered(logits=(1.0, 0.0), first=1))), "categories 1 to 3, and initial 0 to 2"),
    ):
        with pytest.raises(nlme.ModelError, match=words):
            nlme.markov(*given)


def test_methods_and_programs_that_have_no_chain_say_so():
    population = _trial(3, 4)
    with pytest.raises(nlme.ModelError, match="linearises a normal error model"):
        nlme.fit(Sleep(), population, progress=False)
    fit = nlme.evaluate(Sleep(), population, nlme.Laplace())
    for write in (nlme.to_nonmem, nlme.to_nlmixr2, nlme.to_monolix):
        with pytest.raises(nlme.ModelError, match="'stage' is a Markov chain, whose records depend on the one before"):
            write(fit)
