"""A checkpoint is taken up only by the computation that it is of: all that a result depends on is in its fingerprint."""

from __future__ import annotations

import numpy as np
import pytest
from normal_means import Means, groups

import nlme
from nlme.language.layout import lay_out
from nlme.parameters.inventory import Inventory
from nlme.search.checkpoint import fingerprint_of
from nlme.search.problem import Problem


def problem(model, penalty=None):
    return Problem(nlme.FO(), model, lay_out(model, groups()), Inventory(model), penalty)


def test_penalties_count_whoever_holds_them():
    def small(model):
        return 0.01 * model.mu**2

    def large(model):
        return 1000.0 * model.mu**2

    alone = problem(Means())
    found = {
        fingerprint_of(alone),
        fingerprint_of(alone, penalties=[small]),
        fingerprint_of(alone, penalties=[large]),
        fingerprint_of(alone, penalties=[small, large]),
        fingerprint_of(alone, penalties=[large, small]),
    }
    assert len(found) == 5 and fingerprint_of(problem(Means(), small)) == fingerprint_of(alone, penalties=[small])


def made(shift):
    class Shifted(Means):
        def individual(self, eta, cov):
            return dict(mu=self.mu + shift + eta.mu)

    return Shifted()


def test_what_a_class_was_made_with_counts():
    assert fingerprint_of(problem(made(0.0))) == fingerprint_of(problem(made(0.0))) != fingerprint_of(problem(made(1.0)))


def test_cross_validation_does_not_go_on_with_another_penalty(tmp_path):
    class Learned(nlme.Model):
        level: nlme.Scalar = nlme.positive(2.0)
        net: nlme.MLP = nlme.mlp(inputs=("x",), outputs=1, width=2, depth=1, key=1)
        omega: nlme.Covariance = nlme.covariance(level=0.1)
        sd: nlme.Scalar = nlme.positive(0.5)
        covariates = ("x",)

        def individual(self, eta, cov):
            return dict(level=self.level + self.net(cov.x)[0] + eta.level)

        def observe(self, ind, state, t):
            return {"y": nlme.additive(ind.level, self.sd)}

    random = np.random.default_rng(3)
    people = nlme.Population(
        tuple(
            nlme.Subject(id=i, time=np.arange(2.0), dv=2.0 + x + 0.3 * random.normal(size=2), covariates={"x": x})
            for i, x in enumerate(np.linspace(-1.0, 1.0, 8))
        )
    )

    def scored(strength, **more):
        return nlme.cross_validate(
            Learned(), people, nlme.FO(), penalties=[nlme.L2(strength)], folds=2, progress=False, **more
        ).scores

    first = scored(0.01, checkpoint=tmp_path / "cv")
    np.testing.assert_array_equal(scored(0.01, checkpoint=tmp_path / "cv"), first)
    with pytest.raises(nlme.FitError, match="checkpoint of another fit"):
        scored(1000.0, checkpoint=tmp_path / "cv")
