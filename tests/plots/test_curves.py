"""The curves of the individual fits are the fit's own predictions between its observations; times of events have none."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import nlme
from nlme import Scalar, plots
from nlme.plots.curves import endpoints_with_curves, fine_curves
from nlme.plots.style import INK
from nlme.reporting import interactive, sections

TIMES = (1.0, 3.0, 8.0, 20.0)


class OneCompartment(nlme.Model):
    cl: Scalar = nlme.positive(3.0)
    v: Scalar = nlme.positive(30.0)
    omega: nlme.Covariance = nlme.covariance(cl=0.1)
    prop: Scalar = nlme.positive(0.1)

    def individual(self, eta, cov):
        return dict(cl=self.cl * jnp.exp(eta.cl), v=self.v)

    def dynamics(self, ind):
        return nlme.pk.OneCompartment(cl=ind.cl, v=ind.v)

    def observe(self, ind, state, t):
        return {"conc": nlme.proportional(state.central / ind.v, prop=self.prop)}


class Mixed(OneCompartment):
    """A third eliminates slowly: by their data the first subject does, which is not the commonest kind."""

    ratio: Scalar = nlme.bounded(0.3, 0.05, 0.95)
    kind: nlme.Mixture = nlme.mixture(slow=0.3, fast=0.7)

    def individual(self, eta, cov):
        return dict(cl=self.cl * self.kind.choose(slow=self.ratio, fast=1.0) * jnp.exp(eta.cl), v=self.v)


class Occasions(OneCompartment):
    between: nlme.Covariance = nlme.covariance(v_occ=0.1, per="occasion")

    def individual(self, eta, cov):
        return dict(cl=self.cl * jnp.exp(eta.cl), v=self.v * jnp.exp(eta.v_occ))


class Weighed(OneCompartment):
    covariates = {"wt": "kg"}

    def individual(self, eta, cov):
        return dict(cl=self.cl * jnp.exp(eta.cl) * cov.wt / 70, v=self.v)


class Saturable(OneCompartment):
    def dynamics(self, ind):
        return nlme.ODE(lambda t, a: {"central": -ind.cl * a["central"] / (a["central"] / ind.v + 5.0)}, states=("central",))


class Noisy(OneCompartment):
    def dynamics(self, ind):
        return nlme.ODE(lambda t, a: {"central": -ind.cl / ind.v * a["central"]}, ("central",), diffusion={"central": 5.0})


class Counted(OneCompartment):
    def observe(self, ind, state, t):
        return {"conc": nlme.poisson(state.central / ind.v)}


class Relapsing(OneCompartment):
    """Beside the concentration, times of events at a hazard that it lowers."""

    def dynamics(self, ind):
        def rhs(t, a):
            return {"central": -ind.cl / ind.v * a["central"], "cumulated": 0.1 / (1.0 + a["central"] / ind.v)}

        return nlme.ODE(rhs, states=("central", "cumulated"))

    def observe(self, ind, state, t):
        conc = state.central / ind.v
        event = nlme.time_to_event(0.1 / (1.0 + conc), state.cumulated, repeated=True)
        return {"conc": nlme.proportional(conc, prop=self.prop), "relapse": event}


def _population(model: type[nlme.Model]):
    rows = []
    for i in range(1, 4):
        for occasion in (1, 2):
            begin, cl = 100.0 * (occasion - 1), 0.9 if i == 1 else 3.0
            of = dict(ID=i, OCC=occasion, wt=60.0 + 10 * i, DVID=1)
            rows.append(of | dict(TIME=begin, AMT=300.0, EVID=1, DV=np.nan))
            for k, t in enumerate(TIMES):
                conc = 10 * np.exp(-cl / 30 * t) * (1.05 if k % 2 else 0.95)
                seen = dict(TIME=begin + t, AMT=0.0, EVID=0, wt=60.0 + 10 * i + 5 * k)
                rows.append(of | seen | dict(DV=np.round(conc) if model is Counted else conc))
                rows += [of | seen | dict(DVID=2, DV=float(k == 1))] if model is Relapsing else []
    given = {"covariates": {"wt": "kg"}, "time_varying": ["wt"]} if model is Weighed else {}
    given |= {"dvid": {1: "conc", 2: "relapse"}} if model is Relapsing else {}
    used = {Occasions: ["OCC"], Weighed: ["wt"], Relapsing: ["DVID"]}.get(model, [])
    frame = pd.DataFrame(rows)
    return nlme.read_nonmem(frame.drop(columns=[c for c in ("OCC", "wt", "DVID") if c not in used]), **given)


@pytest.mark.parametrize(
    ("model", "method"),
    [
        (Mixed, nlme.FOCEI()),
        (Weighed, nlme.NaivePooled()),
        pytest.param(Occasions, nlme.FO(), marks=pytest.mark.slow),
        pytest.param(Saturable, nlme.FOCEI(), marks=pytest.mark.slow),
        pytest.param(Noisy, nlme.FOCEI(), marks=pytest.mark.slow),
        pytest.param(Counted, nlme.Laplace(), marks=pytest.mark.slow),
    ],
)
def test_a_curve_passes_through_the_predictions(model, method):
    at = nlme.evaluate(model(), _population(model), method)
    curve = fine_curves(at, at.population.filter(lambda s: s.id != 2))["conc"]
    joined = at.predictions.merge(curve, on=["ID", "TIME"], suffixes=("", "_curve"))
    assert len(joined) == 2 * 2 * len(TIMES)
    for name in ("PRED", "IPRED"):
        np.testing.assert_allclose(joined[f"{name}_curve"], joined[name], rtol=1e-6, atol=1e-9)
    if model is Mixed:  # otherwise the law would be no law of subpopulations
        assert list(at.membership["likeliest"]) == ["slow", "fast", "fast"]


@pytest.fixture(scope="module")
def relapsing():
    return nlme.evaluate(Relapsing(), _population(Relapsing), nlme.Laplace())


@pytest.mark.slow
def test_beside_another_endpoint_times_of_events_have_no_panels(relapsing):
    assert endpoints_with_curves(relapsing) == ["conc"]
    assert {axes.get_ylabel() for axes in plots.individual_fits(relapsing, columns=3, fine=False).axes} == {"conc", ""}


class Dropout(nlme.Model):
    rate: Scalar = nlme.positive(0.05)

    def individual(self, eta, cov):
        return dict(rate=self.rate)

    def observe(self, ind, state, t):
        return {"dropout": nlme.time_to_event(ind.rate, ind.rate * t)}


@pytest.fixture(scope="module")
def dropout():
    time = np.round(-np.log(np.linspace(0.05, 0.95, 20)) / 0.05, 2)
    rows = [dict(ID=i, TIME=t, DV=dv) for i, end in enumerate(time, 1) for t, dv in ((0.0, 0), (min(end, 26.0), int(end < 26)))]
    return nlme.evaluate(Dropout(), nlme.read_nonmem(pd.DataFrame(rows)), nlme.Laplace())


def test_nothing_but_times_of_events_is_no_picture_of_individuals(dropout):
    for draw in (plots.individual_fits, plots.individual_fit_pages):
        with pytest.raises(nlme.DataError, match="dropout: times of events have no curve.*nlme.vpc"):
            draw(dropout)


def test_the_report_shows_survival_in_their_place(dropout):
    """The curve is Kaplan and Meier's: here nobody leaves before the end but by the event, so it is the fraction still there."""
    blocks = sections.events(dropout, {"time": "weeks"}, 0)
    line = next(one for one in blocks[1].figure.axes[0].lines if one.get_color() == INK)
    ends, left = np.array([(s.time[-1], s.dv[-1]) for s in dropout.population]).T
    there = [1.0 - np.mean((left == 1) & (ends <= t)) for t in line.get_xdata()]
    np.testing.assert_allclose(line.get_ydata(), there, atol=1e-12)
    assert blocks[1].figure.axes[0].get_xlabel() == "Time (weeks)" and "Survival of dropout" in blocks[1].caption
    assert not sections.individuals(dropout, None, None)
    (view,) = interactive.observations(dropout, None)
    assert not view.html and "times of events" in view.text
    checked = sections.events(dropout, None, 100)
    assert len(checked) == 1 and "predictive checks" in checked[0].text
