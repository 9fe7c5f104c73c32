"""When a person's time began: earlier times and doses change nothing after, or are refused."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

import nlme


class Turnover(nlme.Model):
    kin: nlme.Scalar = nlme.positive(2.0)
    k: nlme.Scalar = nlme.positive(0.2)
    omega: nlme.Covariance = nlme.covariance(k=0.04)
    add: nlme.Scalar = nlme.positive(0.3)
    initial = 1.0

    def individual(self, eta, cov):
        return dict(kin=self.kin, k=self.k * jnp.exp(eta.k))

    def dynamics(self, ind):
        return nlme.ODE(lambda t, a: {"x": ind.kin - ind.k * a.x}, ("x",), initial={"x": self.initial})

    def observe(self, ind, state, t):
        return {"y": nlme.additive(state.x, self.add)}


class Filling(Turnover):
    """Empty at the beginning, and filling from then on."""

    initial = 0.0


class Washout(Turnover):
    """Nothing until a dose comes."""

    def dynamics(self, ind):
        return nlme.ODE(lambda t, a: {"x": -ind.k * a.x}, ("x",))


class ClosedForm(Turnover):
    def dynamics(self, ind):
        return nlme.pk.OneCompartment(cl=ind.k, v=1.0)

    def observe(self, ind, state, t):
        return {"y": nlme.additive(state.central, self.add)}


def people():
    """Their first record is at 3, a sample."""
    time = np.array([3.0, 4.0, 6.0, 6.5, 9.0])
    dv = np.where(time == 6.5, np.nan, 10.0 - 9.0 * np.exp(-0.2 * (time - 3.0)))
    subject = dict(
        time=time, dv=dv, evid=(time == 6.5).astype(int), amt=(time == 6.5).astype(float), cmt=(time == 6.5).astype(int)
    )
    return nlme.Population((nlme.Subject(1, **subject), nlme.Subject(2, **subject)), ("y",))


@pytest.mark.parametrize("model", [Turnover(), Filling()], ids=["an initial value", "an inflow"])
def test_earlier_times_are_refused_where_they_would_move_the_beginning(model):
    words = "Subject 1: asked for at time 0, and its time began at 3"
    with pytest.raises(nlme.DataError, match=words):
        nlme.predict(model, people().with_times([0.0, 3.0, 5.0]))
    with pytest.raises(nlme.DataError, match=words):
        nlme.predict(model, people().with_doses(nlme.dose(1)))
    with pytest.raises(nlme.DataError, match=words):  # whatever was asked for before
        nlme.simulate(model, people().with_times([3.0, 5.0]).with_doses(nlme.dose(1)), key=1, eta="typical")
    with pytest.raises(nlme.DataError, match=words):
        nlme.forecast(model, people(), times=[0.0, 12.0], key=1)


def test_from_the_beginning_on_it_is_the_persons_own():
    for times in ([3.0, 5.0, 6.0], [5.0, 6.0]):
        found = nlme.predict(Turnover(), people().with_times(times)).groupby("ID").x.apply(list)[1]
        exact = 10.0 - 9.0 * np.exp(-0.2 * (np.array(times) - 3.0))
        np.testing.assert_allclose(found[: len(times)], exact, rtol=1e-6)
    whole = nlme.Population(tuple(s for s in people()), ("y",)).with_times([4.0]).with_times([3.5, 5.0])
    assert whole.subjects[0].course.time[0] == 3.0


@pytest.mark.parametrize("model", [Washout(), ClosedForm()], ids=["equations", "closed form"])
def test_states_at_rest_may_be_asked_for_at_any_time(model):
    early, late = (nlme.predict(model, people().with_times(times)) for times in ([0.0, 1.0, 7.0, 9.0], [7.0, 9.0]))
    np.testing.assert_allclose(early[early.TIME >= 6.5].y, late[late.TIME >= 6.5].y, rtol=1e-9)
    assert (early[early.TIME < 6.5].y == 0.0).all()


def test_people_without_a_past_begin_with_what_is_asked_for():
    design = nlme.virtual(2, key=1).with_times([2.0, 4.0]).with_doses(nlme.dose(1, time=1.0)).with_times([0.0, 5.0])
    found = nlme.predict(Turnover(), design)
    assert found.x.iloc[0] == 1.0  # at 0, where their time begins
