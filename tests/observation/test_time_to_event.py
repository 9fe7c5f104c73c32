"""Times of events: NONMEM's Weibull case, hazards from an ODE's state, repeated and interval-censored events, draws, refusals."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from reference import case
from scipy import stats

import nlme
from nlme.language.layout import lay_out
from nlme.marginal.objective import evaluate_subjects
from nlme.observation.base import not_normal
from nlme.observation.sequence import LINKS, Course, Past
from nlme.parameters.inventory import Inventory


class Weibull(nlme.Model):
    """H(t) = (t / scale)^shape."""

    log_scale: nlme.Scalar = nlme.real(3.0)
    log_shape: nlme.Scalar = nlme.real(0.693)

    def individual(self, eta, cov):
        return dict(scale=jnp.exp(self.log_scale), shape=jnp.exp(self.log_shape))

    def observe(self, ind, state, t):
        cumulative = (t / ind.scale) ** ind.shape
        return {"event": nlme.time_to_event(cumulative * ind.shape / t, cumulative)}


class Frailty(Weibull):
    omega: nlme.Covariance = nlme.covariance(shape=0.2)

    def individual(self, eta, cov):
        return dict(scale=jnp.exp(self.log_scale), shape=jnp.exp(self.log_shape + eta.shape))


def _at(form, parameters):
    values = dict(zip(("log_scale", "log_shape"), parameters["THETA"], strict=True))
    if "OMEGA_lower" in parameters:
        values["omega"] = {"shape": parameters["OMEGA_lower"][0][0]}
    return form(**values)


FORMS = {"no_frailty": Weibull, "frailty": Frailty}


@pytest.mark.parametrize("name", ["no_frailty", pytest.param("frailty", marks=pytest.mark.slow)])
def test_weibull_objectives_and_estimates_against_nonmem(name):
    found = case("tte_weibull_nonmem")
    reference, population = found.reference(name), nlme.read_nonmem(found.table())
    start = _at(FORMS[name], reference["at_initial"]["parameters"])
    final = reference["at_final"]
    for model, where in ((start, reference["at_initial"]), (_at(FORMS[name], final["parameters"]), final)):
        at = nlme.evaluate(model, population, nlme.Laplace())
        assert at.objective == pytest.approx(where["objective"], abs=1e-5)
        assert at.objective_full == at.objective
    fit = nlme.fit(start, population, nlme.Laplace(), progress=False)
    assert fit.converged
    assert final["objective"] - 1e-3 < fit.objective <= final["objective"] + 1e-5
    expected = [*final["parameters"]["THETA"], *(x for row in final["parameters"].get("OMEGA_lower", []) for x in row)]
    assert [row.value for row in fit.parameters] == pytest.approx(expected, rel=5e-3)
    if name == "no_frailty":
        # with frailty NONMEM's standard errors are of none of the matrices R, S and sandwich, which differences of its own
        # objective confirm here (the tests of gradients); without it they agree
        assert fit.covariance.standard_errors.to_numpy() == pytest.approx(reference["standard_errors"]["THETA"], rel=0.05)


def test_without_random_effects_every_method_gives_the_likelihood():
    found = case("tte_weibull_nonmem")
    population = nlme.read_nonmem(found.table())
    table = found.table()
    h = stats.weibull_min(np.exp(0.693), scale=np.exp(3.0))
    expected = -2.0 * np.where(table.DV == 1, h.logpdf(table.TIME), h.logsf(table.TIME)).sum()
    for method in (nlme.FO(), nlme.FOCEI(), nlme.Laplace()):
        assert nlme.evaluate(Weibull(), population, method).objective == pytest.approx(expected, abs=1e-8)


class Joint(nlme.Model):
    """A drug that is eliminated lowers the hazard of events, which is integrated beside it."""

    k: nlme.Scalar = nlme.positive(0.3)
    base: nlme.Scalar = nlme.positive(0.2)
    effect: nlme.Scalar = nlme.positive(0.8)
    add: nlme.Scalar = nlme.positive(0.3)
    omega: nlme.Covariance = nlme.covariance(k=0.1, base=0.2)
    repeated = True

    def individual(self, eta, cov):
        return dict(k=self.k * jnp.exp(eta.k), base=self.base * jnp.exp(eta.base))

    def hazard(self, ind, conc):
        return ind.base * jnp.exp(-self.effect * conc)

    def dynamics(self, ind):
        return nlme.ODE(
            lambda t, a: {"central": -ind.k * a.central, "risk": self.hazard(ind, a.central)}, states=("central", "risk")
        )

    def observe(self, ind, state, t):
        event = nlme.time_to_event(self.hazard(ind, state.central), state.risk, repeated=self.repeated)
        return {"conc": nlme.additive(state.central, self.add), "event": event}


class JointOnce(Joint):
    repeated = False


def _records(rows) -> nlme.Population:
    table = pd.DataFrame(rows, columns=["ID", "TIME", "EVID", "AMT", "DV", "DVID"])
    return nlme.read_nonmem(table, dvid={1: "conc", 2: "event"})


ROWS = [
    (1, 0.0, 1, 2.0, np.nan, 1), (1, 1.0, 0, 0, 1.3, 1), (1, 2.5, 0, 0, 1, 2), (1, 4.0, 0, 0, 0.7, 1),
    (1, 6.0, 0, 0, 2, 2), (1, 9.0, 0, 0, 0, 2),
]  # fmt: skip


@pytest.mark.slow
def test_joint_model_of_concentrations_and_repeated_events():
    from scipy.integrate import quad

    population, model = _records(ROWS), Joint()
    at = nlme.evaluate(model, population, nlme.Laplace(ode=nlme.Tolerances(relative=1e-10, absolute=1e-12)))
    assert bool(at.subjects.converged.all())

    def phi(b):
        k, base = 0.3 * np.exp(np.sqrt(0.1) * b[0]), 0.2 * np.exp(np.sqrt(0.2) * b[1])

        def conc(t):
            return 2.0 * np.exp(-k * t)

        def h(t):
            return base * np.exp(-0.8 * conc(t))

        gained = [quad(h, *ends, epsabs=1e-13)[0] for ends in ((0, 2.5), (2.5, 6.0), (6.0, 9.0))]
        events = np.log(h(2.5)) - gained[0] + np.log(-np.expm1(-gained[1])) - gained[2]
        normal = sum(0.5 * ((y - conc(t)) / 0.3) ** 2 + np.log(0.3) for t, y in ((1.0, 1.3), (4.0, 0.7)))
        return normal - events + 0.5 * b @ b

    b, step = at.b[0], 1e-3 * np.eye(2)
    gradient = [(phi(b + e) - phi(b - e)) / 2e-3 for e in step]
    np.testing.assert_allclose(gradient, 0.0, atol=1e-5)
    hessian = [[(phi(b + e + d) - phi(b + e - d) - phi(b - e + d) + phi(b - e - d)) / 4e-6 for d in step] for e in step]
    assert at.objective == pytest.approx(2 * phi(b) + np.linalg.slogdet(np.array(hessian))[1], abs=1e-5)


@pytest.mark.slow
def test_predictions_and_weighted_residuals_of_a_joint_model():
    table = nlme.evaluate(Joint(), _records(ROWS), nlme.Laplace()).predictions
    events = table.ENDPOINT == "event"
    assert table.CWRES[events].isna().all() and table.CWRES[~events].notna().all()
    assert (np.diff(table.IPRED[events]) > 0).all()  # expected number of events


@pytest.mark.slow
def test_a_reset_starts_the_hazard_again():
    rows = [(1, 0.0, 1, 2.0, np.nan, 1), (1, 3.0, 0, 0, 0, 2), (1, 3.0, 4, 2.0, np.nan, 1), (1, 6.0, 0, 0, 0, 2)]
    value = nlme.evaluate(Joint(omega={"k": 1e-12, "base": 1e-12}), _records(rows), nlme.Laplace()).objective
    once = nlme.evaluate(Joint(omega={"k": 1e-12, "base": 1e-12}), _records(rows[:2]), nlme.Laplace()).objective
    assert value == pytest.approx(2 * once, rel=1e-6)


@pytest.mark.slow
def test_simulated_events_follow_the_cumulative_hazard():
    grid = np.arange(0.5, 6.01, 0.5)
    rows = [r for i in range(1, 1501) for r in [(i, 0.0, 1, 2.0, np.nan, 1), *((i, t, 0, 0, 0, 2) for t in grid)]]
    population = _records(rows)
    for model in (Joint(), JointOnce()):
        drawn = nlme.simulate(model, population, key=4, eta="typical")
        drawn = drawn[drawn.ENDPOINT == "event"]
        counts = drawn.groupby("TIME").DV.apply(lambda y: (y == 2).sum()).to_numpy()
        expected = drawn.groupby("TIME").IPRED.first().to_numpy()  # H, or the survival exp(-H)
        if model.repeated:
            p = -np.expm1(-np.diff(expected, prepend=0.0))
            at_risk = np.full(len(grid), 1500.0)
        else:
            p = 1.0 - expected / np.r_[1.0, expected[:-1]]
            at_risk = drawn.groupby("TIME").DV.apply(lambda y: y.notna().sum()).to_numpy().astype(float)
            assert (at_risk == 1500 - np.r_[0, np.cumsum(counts)[:-1]]).all()
        z = (counts - at_risk * p) / np.sqrt(at_risk * p * (1 - p))
        assert np.sum(z**2) < stats.chi2.ppf(0.999, len(grid))


def test_what_cannot_be_a_time_of_an_event_is_refused():
    with pytest.raises(nlme.DataError, match=r"after the subject's event .*repeated=True.* Rows 5, 6"):
        nlme.evaluate(JointOnce(), _records(ROWS), nlme.Laplace())
    wrong = [*ROWS[:-1], (1, 9.0, 0, 0, 3, 2)]
    with pytest.raises(nlme.DataError, match="not a whole number 0 to 2.* Row 6"):
        nlme.evaluate(Joint(), _records(wrong), nlme.Laplace())
    table = pd.DataFrame(ROWS, columns=["ID", "TIME", "EVID", "AMT", "DV", "DVID"]).assign(CENS=[0, 0, 0, 0, 1, 0])
    with pytest.raises(nlme.DataError, match="censored .*DV = 2"):
        nlme.evaluate(Joint(), nlme.read_nonmem(table, dvid={1: "conc", 2: "event"}), nlme.Laplace())
    with pytest.raises(nlme.ModelError, match=r"FOCEI linearises .*'event' \(time to repeated events\)"):
        nlme.fit(Joint(), _records(ROWS), nlme.FOCEI())


class ByPower(nlme.Model):
    """A Weibull hazard written with powers of time, which have no derivatives at time 0."""

    rate: nlme.Scalar = nlme.positive(0.5)
    shape: nlme.Scalar = nlme.positive(1.5)
    omega: nlme.Covariance = nlme.covariance(rate=0.2)

    def individual(self, eta, cov):
        return dict(rate=self.rate * jnp.exp(eta.rate))

    def observe(self, ind, state, t):
        x = ind.rate * t
        return {"event": nlme.time_to_event(self.shape * ind.rate * x ** (self.shape - 1), x**self.shape)}


def _events(*rows) -> nlme.Population:
    return nlme.read_nonmem(pd.DataFrame(rows, columns=["ID", "TIME", "DV"]))


@pytest.mark.parametrize("shape", [0.8, 1.5])
def test_a_record_where_the_risk_begins_adds_nothing(shape):
    def at(first):
        data = _events((1, first, 0.0), (1, 2.0, 1.0), (2, first, 0.0), (2, 3.0, 0.0))
        return nlme.evaluate(ByPower(shape=shape), data, nlme.Laplace())

    assert at(0.0).objective_full == pytest.approx(at(1e-9).objective_full, abs=1e-8 if shape > 1 else 1e-6)


class Falling(ByPower):
    def observe(self, ind, state, t):
        return {"event": nlme.time_to_event(ind.rate, -ind.rate * t)}


@pytest.mark.parametrize("dv", [0.0, 1.0, 2.0])
def test_a_cumulative_hazard_that_falls_makes_everything_impossible(dv):
    with pytest.raises(nlme.FitError, match="impossible under the model"):
        nlme.evaluate(Falling(), _events((1, 2.0, dv)), nlme.Laplace())


class Steady(nlme.Model):
    """A hazard that grows with time, h = 2 rate t, beside a drug that doses and resets are records of."""

    rate: nlme.Scalar = nlme.positive(0.02)
    repeated: bool = eqx.field(static=True, default=False)

    def individual(self, eta, cov):
        return dict(rate=self.rate)

    def dynamics(self, ind):
        return nlme.pk.OneCompartment(cl=1.0 + 0 * ind.rate, v=10.0)

    def observe(self, ind, state, t):
        event = nlme.time_to_event(2 * ind.rate * t, ind.rate * t**2, repeated=self.repeated)
        return {"conc": nlme.additive(state.central / 10.0, 1.0), "event": event}


class SteadyState(Steady):
    """The same, integrated from the first record on."""

    def dynamics(self, ind):
        return nlme.ODE(lambda t, a: {"central": -0.1 * a.central, "risk": 2 * ind.rate * t}, ("central", "risk"))

    def observe(self, ind, state, t):
        event = nlme.time_to_event(2 * ind.rate * t, state.risk, repeated=self.repeated)
        return {"conc": nlme.additive(state.central / 10.0, 1.0), "event": event}


def _visits(*people) -> nlme.Population:
    """Of everybody (time, DV) of visits, and (time, word) of what has no DV."""
    known = {"start": (2, 0.0, 0), "reset": (3, 0.0, 0), "reset and dose": (4, 5.0, 0), "steady state": (1, 5.0, 1)}
    table = []
    for i, rows in enumerate(people, start=1):
        for t, what in rows:
            evid, amt, ss = known.get(what, (0, 0.0, 0))
            table.append((i, t, evid, amt, ss, 12.0 * ss, np.nan if evid else what, 2))
    table = pd.DataFrame(table, columns=["ID", "TIME", "EVID", "AMT", "SS", "II", "DV", "DVID"])
    return nlme.read_nonmem(table, dvid={1: "conc", 2: "event"})


START = (0.0, "start")
RESETS = (
    [START, (3.0, 0), (4.0, "reset"), (6.0, 1)],
    [START, (3.0, 0), (3.0, "reset and dose"), (6.0, 1)],
    [START, (1.0, "reset"), (3.0, 0), (4.0, "reset"), (5.0, "reset and dose"), (6.0, 2)],
    [(0.0, "reset and dose"), (3.0, 0), (6.0, 1)],
    [START, (3.0, 0), (6.0, 1), (7.0, "reset")],
)


@pytest.mark.parametrize("model", [Steady, SteadyState])
def test_the_risk_goes_on_over_a_reset(model):
    """Whatever the reset does to H: exp(-H(6)) h(6), and what is known of an interval is 1 - exp(-(H(6) - H(3)))."""
    gained = 0.02 * np.diff([0.0, 9.0, 36.0])
    exact, interval = np.log(0.24) - gained[1], np.log(-np.expm1(-gained[1]))
    at = nlme.evaluate(model(), _visits(*RESETS), nlme.Laplace())
    expected = -2 * (np.array([exact, exact, interval, exact, exact]) - gained[0])
    np.testing.assert_allclose(at.subjects.objective, expected, atol=1e-6)
    np.testing.assert_allclose(at.predictions.PRED, np.tile(np.exp(-0.02 * np.array([9.0, 36.0])), 5), atol=1e-8)
    whole = nlme.predict(model(), _visits(*RESETS))
    np.testing.assert_allclose(whole.event, np.exp(-0.02 * whole.TIME**2), atol=1e-8)


def test_a_formula_counts_once_at_a_steady_state():
    rows = [START, (3.0, 0), (4.0, "steady state"), (6.0, 1)]
    expected = -2 * (np.log(0.24) - 0.02 * 36.0)
    assert nlme.evaluate(Steady(), _visits(rows), nlme.Laplace()).objective == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("model", [Steady, SteadyState])
def test_a_time_set_back_begins_a_second_course(model):
    """H(3) of the first and H(6) of the second; nothing in between."""
    rows = [START, (3.0, 0), (0.0, "reset and dose"), (2.0, 0), (6.0, 1)]
    at = nlme.evaluate(model(), _visits(rows), nlme.Laplace())
    assert at.objective == pytest.approx(-2 * (np.log(0.24) - 0.02 * (9.0 + 36.0)), abs=1e-6)


@pytest.mark.parametrize("shape", [0.8, 1.5])
def test_gradients_where_powers_of_time_begin_again(shape):
    table = pd.DataFrame(
        [(1, 0.0, 2, np.nan), (1, 3.0, 0, 0.0), (1, 0.0, 3, np.nan), (1, 2.0, 0, 1.0)], columns=["ID", "TIME", "EVID", "DV"]
    )
    model, population = ByPower(shape=shape), nlme.read_nonmem(table)
    layout, inventory = lay_out(model, population), Inventory(model)
    u, h = inventory.unconstrained(model), 1e-4

    def at(u, gradient=False):
        way = nlme.Laplace(inner_tolerance=1e-22)
        return evaluate_subjects(way, layout.anatomy, inventory, model, layout.arrays, u, np.zeros((1, 1)), gradient=gradient)

    ours = np.asarray(at(u, True).gradient)[0]
    out = [[float(np.sum(at(u.at[k].add(step * h)).value)) for step in (-1, 1)] for k in range(len(inventory))]
    np.testing.assert_allclose(ours, np.diff(out)[:, 0] / (2 * h), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("repeated", [False, True])
@pytest.mark.parametrize("model", [Steady, SteadyState])
def test_simulated_events_know_no_reset(model, repeated):
    rows = [START, (3.0, 0), (4.0, "reset"), (6.0, 0)]
    drawn = nlme.simulate(model(repeated=repeated), _visits(rows), key=3, eta="typical", replicates=2000)
    drawn = drawn[drawn.ENDPOINT == "event"]
    late = drawn.DV[drawn.TIME == 6.0].dropna()
    p = -np.expm1(-0.02 * 27.0)
    assert abs((late == 2).mean() - p) < 4 * np.sqrt(p * (1 - p) / len(late))
    expected = 0.02 * 36.0 if repeated else np.exp(-0.02 * 36.0)
    assert drawn.IPRED[drawn.TIME == 6.0].iloc[0] == pytest.approx(expected, abs=1e-8)


def test_an_event_where_its_state_begins_is_refused():
    with pytest.raises(nlme.DataError, match=r"Subject 1, row 1: .* TIME 7.2.*EVID = 2 at TIME 0"):
        nlme.evaluate(SteadyState(), _visits([(7.2, 1)]), nlme.Laplace())
    at = nlme.evaluate(SteadyState(), _visits([START, (7.2, 1)]), nlme.Laplace())
    assert at.objective == pytest.approx(-2 * (np.log(0.04 * 7.2) - 0.02 * 7.2**2), abs=1e-6)


def test_events_have_no_residual():
    table = nlme.evaluate(Steady(), _visits([START, (3.0, 0), (6.0, 1)]), nlme.Laplace()).predictions
    assert table[["RES", "IRES"]].isna().all(axis=None) and table.PRED.notna().all()


@pytest.mark.parametrize("as_data", [False, True])
def test_a_simulated_only_event_can_be_read_again(as_data):
    people = _visits([START, (3.0, 0), (6.0, 0), (9.0, 0)])
    drawn = nlme.simulate(Steady(rate=0.05), people, key=2, eta="typical", replicates=20, as_data=as_data)
    lost = drawn.DV.isna() & (drawn.EVID == 0)
    assert lost.any() and (drawn.MDV[lost] == 1).all()
    found = []
    for _, one in drawn.groupby("REPLICATE"):
        again = nlme.read_nonmem(one.drop(columns="REPLICATE"), dvid={1: "conc", 2: "event"})
        objective = nlme.evaluate(Steady(rate=0.05), again, nlme.Laplace()).objective
        known = one[(one.EVID == 0) & (one.MDV == 0)]
        gained = 0.05 * np.diff(np.r_[0.0, known.TIME] ** 2)
        found.append(objective + 2 * np.where(known.DV == 2, np.log(-np.expm1(-gained)), -gained).sum())
    np.testing.assert_allclose(found, 0.0, atol=1e-8)


T = np.arange(7.0)
KNOWN = {
    "none": {2: 0, 3: 0},
    "exact": {1: 0, 3: 1},
    "interval": {1: 0, 4: 2},
}


@pytest.mark.parametrize("link", ["event", "events"])
@pytest.mark.parametrize("known", KNOWN.values(), ids=KNOWN)
def test_what_is_drawn_given_known_records(link, known):
    """Probability of an event since the record before, and of none so far (the number so far), enumerated from the Poisson process."""
    total = 0.1 * T**2
    is_known, y = np.isin(T, list(known)), np.array([known.get(k, 0.0) for k in T])
    own = jnp.ones(len(T), bool)  # steps, of which a hazard knows nothing
    past = Past(jnp.asarray(is_known), own, jnp.asarray(y), not_normal(jnp.zeros(len(T))))
    course = Course(jnp.asarray(T), jnp.zeros(len(T), int), jnp.zeros(len(T)))
    keys = jax.random.split(jax.random.key(1), 20_000)
    all_of_them = jnp.ones(len(T), bool)
    drawn = np.asarray(jax.vmap(lambda k: LINKS[link].drive(jnp.asarray(total), all_of_them, course, past, k))(keys))
    random = np.random.default_rng(4)
    counts = random.poisson(np.diff(total, prepend=0.0), (400_000, len(T)))
    exact = [k for k, value in known.items() if value == 1]
    before = -1
    for k in sorted(known):
        own = counts[:, before + 1 : k + 1].sum(axis=1)
        counts, before = counts[own > 0 if known[k] == 2 else own == 0], k
    counts[:, exact] += 1
    if link == "event":
        past_it = np.cumsum(counts > 0, axis=1) - (counts > 0) > 0
        expected = np.where(past_it, np.nan, counts > 0)
    else:
        expected = counts > 0
    for k in range(len(T)):
        ours, theirs = drawn[:, k][~np.isnan(drawn[:, k])] == 2, expected[:, k][~np.isnan(expected[:, k].astype(float))]
        assert np.isnan(drawn[:, k]).mean() == pytest.approx(np.isnan(expected[:, k].astype(float)).mean(), abs=0.02)
        if len(theirs) > 100:
            assert ours.mean() == pytest.approx(theirs.mean(), abs=0.03)
    predicted = LINKS[link].prediction(jnp.zeros(len(T)), jnp.asarray(total), course, past)
    so_far = np.cumsum(counts, axis=1)
    np.testing.assert_allclose(predicted, (so_far == 0).mean(axis=0) if link == "event" else so_far.mean(axis=0), atol=0.02)
