"""A model's numbers are never words, and a covariate has the unit that the model takes it in: what is not so is said."""

from __future__ import annotations

import enum

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import nlme
from nlme.language.anatomy import anatomy_of


class Base(nlme.Model):
    cl: nlme.Scalar = nlme.positive(2.0)
    omega: nlme.Covariance = nlme.covariance(cl=0.1)
    sd: nlme.Scalar = nlme.positive(1.0)
    covariates = {"sex": "", "wt": "kg"}

    def individual(self, eta, cov):
        return dict(cl=self.cl * jnp.exp(eta.cl), sex=cov.sex)

    def dynamics(self, ind):
        return nlme.pk.OneCompartment(cl=ind.cl, v=30.0)

    def observe(self, ind, state, t):
        return {"cp": nlme.additive(state.central / 30.0, self.sd)}


class Sex(enum.Enum):
    MALE = "male"


class InIndividual(Base):
    def individual(self, eta, cov):
        return dict(cl=jnp.where(cov.sex == "male", self.cl, 1.0) * jnp.exp(eta.cl))


class Turned(Base):
    def individual(self, eta, cov):
        sex = cov["sex"]
        return dict(cl=(1.0 if "male" != sex else self.cl) * jnp.exp(eta.cl))


class AmongWords(Base):
    def individual(self, eta, cov):
        return dict(cl=(self.cl if cov.sex in ("m", "male") else 1.0) * jnp.exp(eta.cl))


class Matched(Base):
    def individual(self, eta, cov):
        match cov.sex:
            case "male":
                factor = 1.0
            case _:
                factor = 2.0
        return dict(cl=factor * self.cl * jnp.exp(eta.cl))


class Enumerated(Base):
    def individual(self, eta, cov):
        return dict(cl=(self.cl if cov.sex == Sex.MALE else 1.0) * jnp.exp(eta.cl))


class OfEffects(Base):
    def individual(self, eta, cov):
        return dict(cl=(self.cl if eta.cl == "male" else 1.0) * jnp.exp(eta.cl))


class InDynamics(Base):
    def dynamics(self, ind):
        return nlme.pk.OneCompartment(cl=jnp.where(ind.sex == "male", ind.cl, 1.0), v=30.0)


class InEquations(Base):
    def dynamics(self, ind):
        return nlme.ODE(lambda t, a: {"central": -a.central * jnp.where(ind.sex == "male", ind.cl, 1.0) / 30.0}, ("central",))


class InObserve(Base):
    def observe(self, ind, state, t):
        return {"cp": nlme.additive(state.central / jnp.where(ind.sex == "male", 30.0, 20.0), self.sd)}


def population(**options):
    rows = [(0.0, 100.0, 1, np.nan), (1.0, 0.0, 0, 3.0)]
    table = pd.DataFrame(rows, columns=["TIME", "AMT", "EVID", "DV"]).assign(ID=1, SEX="female", WT=70.0)
    return nlme.read_nonmem(
        table, **{"covariates": {"sex": None, "wt": "kg"}, "categories": {"sex": ["male", "female"]}, **options}
    )


@pytest.mark.parametrize("model", [InIndividual, Turned, AmongWords, Matched, Enumerated])
def test_a_covariate_is_not_compared_with_a_word(model):
    with pytest.raises(
        nlme.ModelError, match=r"(?s)individual: cov.sex is compared with .*0 for 'male', 1 for 'female'.*test_told.py, line"
    ):
        nlme.predict(model(), population())
    with pytest.raises(nlme.ModelError, match=r"cov.sex is compared with .*categories=\{'sex'"):
        anatomy_of(model())


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (OfEffects, "eta.cl"),
        (InDynamics, "dynamics: ind.sex"),
        (InEquations, "dynamics: ind.sex"),
        (InObserve, "observe: ind.sex"),
    ],
)
def test_other_numbers_neither(model, words):
    with pytest.raises(nlme.ModelError, match=words + " is compared with 'male', but it is a number"):
        nlme.predict(model(), population())


def test_comparisons_with_numbers_are_as_ever():
    class Right(Base):
        form = "closed"

        def individual(self, eta, cov):
            assert self.form == "closed"
            men = jnp.where(cov.sex == 0, 1.0, jnp.where(cov.sex != jnp.asarray(1), 9.0, 2.0))
            return dict(cl=self.cl * men * jnp.array([1.0, 3.0])[cov.sex.astype(int)] * jnp.exp(eta.cl), sex=cov.sex)

    found = nlme.predict(Right(), population())
    assert found["cp"].iloc[1] == pytest.approx(100 / 30 * np.exp(-12.0 / 30))


def test_a_number_is_not_looked_up_in_a_dict():
    class LookedUp(Base):
        def individual(self, eta, cov):
            return dict(cl=self.cl * {"male": 1.0}[cov.sex] * jnp.exp(eta.cl))

    with pytest.raises(nlme.ModelError, match="cannot be looked up in a dict.*jnp.where"):
        nlme.predict(LookedUp(), population())


@pytest.mark.parametrize(
    ("unit", "fits"), [("kg", True), ("KG", True), ("kilograms", True), (None, True), ("-", True), ("g", False), ("lb", False)]
)
def test_units_are_compared_where_both_are_known(unit, fits):
    data = population(covariates={"sex": None, "wt": unit})
    if fits:
        assert anatomy_of(Base()).covariates == ("sex", "wt")
        nlme.predict(Base(), data)
    else:
        with pytest.raises(nlme.ModelError, match=f"covariate 'wt' in kg, and the data have it in {unit}. Convert the column"):
            nlme.predict(Base(), data)
