"""Training aids: their fixed-step equations are the fit's, their objective has the right slope, and they lead to where a fit succeeds."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

import nlme
from nlme import Scalar
from nlme.errors import ModelError
from nlme.fitting.evaluated import inventory_of
from nlme.language.layout import lay_out
from nlme.search.problem import Problem
from nlme.search.progress import Progress
from nlme.training.aids import GrowingHorizon, MultipleShooting, PredictionError, beginning
from nlme.training.collocation import Collocation, _slopes
from nlme.training.segments import segments_of


class Absorbed(nlme.Model):
    """One compartment with saturable elimination, a depot, and bioavailability."""

    ka: Scalar = nlme.positive(1.0)
    vmax: Scalar = nlme.positive(3.0)
    v: Scalar = nlme.positive(10.0)
    f: Scalar = nlme.positive(0.8)
    omega: nlme.Covariance = nlme.covariance(v=0.1)
    sd: Scalar = nlme.positive(0.1)
    covariates = {"wt": "kg"}

    def individual(self, eta, cov):
        return dict(ka=self.ka, vmax=self.vmax, v=self.v * cov.wt / 70 * jnp.exp(eta.v), f=self.f)

    def dynamics(self, ind):
        def rhs(t, a):
            c = a.central / ind.v
            return dict(depot=-ind.ka * a.depot, central=ind.ka * a.depot - ind.vmax * c / (1.0 + c))

        return nlme.ODE(rhs, ("depot", "central"), initial={"central": 2.0}, bioavailability={"depot": ind.f})

    def observe(self, ind, state, t):
        return {"conc": nlme.additive(state.central / ind.v, self.sd)}


def dosed() -> nlme.Population:
    """Boluses repeated by ADDL, an infusion, a changing covariate, a reset, and observations between."""
    time = np.array([0.0, 1.0, 3.0, 5.0, 6.0, 8.0, 12.0, 13.0, 15.0, 20.0, 20.0, 21.0, 24.0])
    n = len(time)
    evid, amt, rate, addl, ii = (np.zeros(n) for _ in range(5))
    cmt = np.ones(n, int)
    evid[0], amt[0], addl[0], ii[0] = 1, 100.0, 2, 4.0
    evid[4], amt[4], rate[4], cmt[4] = 1, 30.0, 10.0, 2
    evid[9] = 3
    evid[10], amt[10] = 1, 50.0
    wt = np.where(time < 10, 60.0, 80.0)
    dv = np.where(evid == 0, 1.0 + 0.1 * np.arange(n), np.nan)
    made = [
        nlme.Subject(k, time, dv=dv, evid=evid, amt=amt * k, rate=rate, addl=addl, ii=ii, cmt=cmt, covariates={"wt": wt + k})
        for k in (1, 2)
    ]
    return nlme.Population(tuple(made), endpoints=("conc",))


def problem(model, population, method=None, fixed=()) -> Problem:
    method = method or nlme.FOCEI()
    return Problem(method, model, lay_out(model, population), inventory_of(method, model, fixed), None)


@pytest.mark.slow
def test_states_are_those_of_the_fit():
    model, population = Absorbed(), dosed()
    whole = problem(model, population)
    segments = segments_of(whole.layout, model, 1)
    equations, unknown = beginning(whole, segments, False)
    central = equations.states(unknown)[..., 1]
    exact = nlme.evaluate(model, population, nlme.NaivePooled()).predictions
    seen = segments.endpoint >= 0
    v = 10.0 * segments.told[..., 0] / 70
    assert np.allclose((central / v)[seen], exact["PRED"].to_numpy(), rtol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("parts", [1, 3])
def test_slope_is_a_central_difference(parts):
    whole = problem(Absorbed(), dosed())
    aid = MultipleShooting(parts) if parts > 1 else PredictionError()
    equations, unknown = aid._begun(whole)
    setting = list(aid.settings(equations))[1][1]
    unknown = unknown._replace(b=unknown.b + 0.1)
    _, slope = equations.objective(unknown, setting)
    for name in unknown._fields:
        value = np.asarray(getattr(unknown, name))
        for place in list(np.ndindex(value.shape))[:6]:
            ends = []
            for step in (1e-5, -1e-5):
                moved = value.copy()
                moved[place] += step
                ends.append(float(equations.objective(unknown._replace(**{name: jnp.asarray(moved)}), setting)[0]))
            assert np.isclose(getattr(slope, name)[place], (ends[0] - ends[1]) / 2e-5, rtol=1e-4, atol=1e-4), (name, place)


@pytest.mark.slow
def test_segments_that_meet_are_one_solution():
    """With the nodes on the solution there are no gaps, and the objective is that of one segment."""
    whole = problem(Absorbed(), dosed())
    one, unknown = beginning(whole, segments_of(whole.layout, whole.model, 1), False)
    several, apart = MultipleShooting(3)._begun(whole)
    states, segments = one.states(unknown), several.segments
    closing = np.flatnonzero(segments.closes >= 0)
    nodes = [
        states[segments.owner[q], np.searchsorted(one.segments.time[segments.owner[q]], segments.time[q, -1], side="right") - 1]
        for q in closing
    ]
    apart = apart._replace(nodes=jnp.asarray(np.array(nodes) / several.scale))
    loose = list(MultipleShooting(3).settings(several))[-1][1]
    alone = list(GrowingHorizon(2).settings(one))[-1][1]
    assert np.isclose(several.objective(apart, loose)[0], one.objective(unknown, alone)[0], rtol=1e-4)


class Oscillator(nlme.Model):
    """A pendulum whose restoring force is a network."""

    net: nlme.MLP = nlme.mlp(inputs=1, outputs=1, width=6, depth=1, key=3)
    sd: Scalar = nlme.positive(0.1)

    def individual(self, eta, cov):
        return dict(length=1.0)

    def dynamics(self, ind):
        def rhs(t, a):
            return {"angle": a.speed, "speed": self.net(a.angle)[0]}

        return nlme.ODE(rhs, ("angle", "speed"), initial={"angle": 1.2, "speed": 0.0})

    def observe(self, ind, state, t):
        return {"angle": nlme.additive(state.angle, self.sd), "speed": nlme.additive(state.speed, self.sd)}


def swinging(periods: float, points: int, noise: float = 0.03) -> nlme.Population:
    from scipy.integrate import solve_ivp

    t = np.linspace(0.0, periods * 6.9, points + 1)
    found = solve_ivp(lambda t, a: [a[1], -np.sin(a[0])], (0.0, t[-1]), [1.2, 0.0], t_eval=t, rtol=1e-10, atol=1e-10).y
    rng = np.random.default_rng(2)
    dv = np.r_[np.nan, (found[:, 1:].T + noise * rng.normal(size=(points, 2))).ravel()]
    time = np.r_[0.0, np.repeat(t[1:], 2)]
    evid, endpoint = np.r_[2, np.zeros(2 * points, int)], np.r_[-1, np.tile([0, 1], points)]
    subject = nlme.Subject(1, time, dv=dv, evid=evid, mdv=evid > 0, endpoint=endpoint)
    return nlme.Population((subject,), endpoints=("angle", "speed"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "aid",
    [
        MultipleShooting(10),
        *(pytest.param(a, marks=pytest.mark.slow) for a in (GrowingHorizon(6), PredictionError(), Collocation())),
    ],
    ids=lambda a: type(a).__name__,
)
def test_force_of_a_pendulum_is_found(aid):
    """Three periods: every aid leads to the sine."""
    population = swinging(3.0, 45)
    whole = problem(Oscillator(), population, nlme.NaivePooled())
    model, told = aid.trained(whole, 800, Progress(False, ""))
    angles = np.linspace(-1.1, 1.1, 23)
    force = np.array([float(model.net(jnp.asarray(x))[0]) for x in angles])
    assert np.max(np.abs(force + np.sin(angles))) < 0.15, told
    assert all("objective" in words for words in told)


@pytest.mark.slow
def test_interrupted_training_keeps_the_best():
    """Ctrl-C in the third iteration: the values so far, and no further stage."""
    whole = problem(Oscillator(), swinging(1.0, 20), nlme.NaivePooled())

    class Stops(Progress):
        def __call__(self, iteration, objective, gradient):
            if iteration == 3:
                raise KeyboardInterrupt

    model, told = GrowingHorizon(4).trained(whole, 100, Stops(False, ""))
    assert len(told) == 1 and "interrupted" in told[0] and not np.allclose(model.net.weights[-1], 0.0)


def test_slopes_of_the_data():
    _, time, _, states, rates = _slopes(problem(Oscillator(), swinging(1.0, 60, noise=0.0), nlme.NaivePooled()), 60)
    inner = slice(3, -3)
    assert np.allclose(rates[inner, 0], states[inner, 1], atol=0.05)
    assert np.allclose(rates[inner, 1], -np.sin(states[inner, 0]), atol=0.05)


def test_hidden_state_is_refused_by_collocation():
    with pytest.raises(ModelError, match="one|no dose|every state"):
        Collocation().trained(problem(Absorbed(), dosed()), 10, Progress(False, ""))


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: MultipleShooting(1), "at least 2"),
        (lambda: MultipleShooting(4, gaps=(0.1, 0.3)), "falling"),
        (lambda: GrowingHorizon(True), "whole number"),
        (lambda: PredictionError(gains=()), "falling"),
        (lambda: Collocation(points=2), "at least 5"),
    ],
)
def test_options_out_of_range(make, words):
    with pytest.raises(ModelError, match=words):
        make()


def test_closed_forms_are_refused():
    from nlme.models.theophylline import Theophylline

    with pytest.raises(ModelError, match="nlme.ODE"):
        nlme.fit(Theophylline(), nlme.datasets.load("theophylline"), shooting=MultipleShooting(4))
    with pytest.raises(ModelError, match="MultipleShooting"):
        nlme.fit(Theophylline(), nlme.datasets.load("theophylline"), shooting="multiple")
