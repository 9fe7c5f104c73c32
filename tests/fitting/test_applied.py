"""A fit applied to other data: words and units of its covariates are those of its own data, or it is not applied."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import nlme

WORDS = {"sex": ["male", "female"]}


class Line(nlme.Model):
    base: nlme.Scalar = nlme.positive(2.0)
    female: nlme.Scalar = nlme.positive(1.5)
    omega: nlme.Covariance = nlme.covariance(base=0.1)
    sd: nlme.Scalar = nlme.positive(0.3)
    covariates = ("wt", "sex")

    def individual(self, eta, cov):
        return dict(base=self.base * self.female**cov.sex * jnp.exp(eta.base) * cov.wt / 70.0)

    def observe(self, ind, state, t):
        return {"y": nlme.additive(ind.base, self.sd)}


def read(words=WORDS, unit="kg", sex=("male", "female")):
    rows = [dict(ID=i, TIME=t, DV=2.0 + 0.1 * i, wt=70.0, sex=sex[i % 2]) for i in (1, 2, 3, 4) for t in (1.0, 2.0)]
    return nlme.read_nonmem(pd.DataFrame(rows), covariates={"wt": unit, "sex": None}, categories=words)


@pytest.fixture(scope="module")
def fit():
    return nlme.evaluate(Line(), read())


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (
            dict(words={"sex": ["female", "male"]}),
            r"male, female in the fit's data and female, male in these.*categories=\{'sex'",
        ),
        (dict(words={"sex": ["other", "male", "female"]}), "male, female in the fit's data and other, male, female"),
        (
            dict(words={"sex": ["male", "female", "other"]}, sex=("male", "other")),
            "Subject 1 has sex = 'other', of which the fit",
        ),
        (dict(unit="g"), "'wt' is in kg in the fit's data and in g in these"),
    ],
)
def test_other_words_and_other_units_are_refused(fit, data, said):
    other = read(**data)
    uses = [
        lambda: nlme.predict(fit, other),
        lambda: nlme.simulate(fit, other, key=1, eta="new"),
        lambda: nlme.vpc(fit, other, key=1, replicates=20),
        lambda: nlme.npde(fit, other, key=1, replicates=20),
        lambda: nlme.forecast(fit, other, times=[5.0], key=1, draws=20),
        lambda: nlme.individual_posterior(fit, other, key=1, draws=20),
        lambda: nlme.trial(fit, nlme.arm("a", nlme.dose(1.0), n=4), population=other, times=[1.0], key=1),
    ]
    for use in uses:
        with pytest.raises(nlme.DataError, match=said):
            use()


def test_what_means_the_same_is_taken(fit):
    expected = nlme.predict(fit)["y"].to_numpy()
    same = (dict(), dict(words={"sex": ["male", "female", "other"]}), dict(unit="KG"), dict(unit=None))
    for data in same:
        np.testing.assert_allclose(nlme.predict(fit, read(**data))["y"], expected, rtol=1e-12)
    # a model says nothing of what its numbers were called
    nlme.predict(fit.model, read(words={"sex": ["female", "male"]}))
