"""Cross-validation: its scores are those of fits made one by one; a network that learns noise is said not to pay."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import nlme
from nlme.errors import DataError, ModelError


class Curve(nlme.Model):
    """A level that depends on x in a way that a network is to find; z says nothing."""

    level: nlme.Scalar = nlme.real(1.0)
    net: nlme.MLP = nlme.mlp(inputs=("x",), outputs=1, width=3, depth=1, key=0)
    omega: nlme.Covariance = nlme.covariance(level=0.2)
    sd: nlme.Scalar = nlme.positive(0.3)
    covariates = {"x": "", "z": ""}

    def individual(self, eta, cov):
        return dict(level=self.level + self.net(cov.x)[0] + eta.level)

    def observe(self, ind, state, t):
        return {"y": nlme.additive(ind.level, self.sd)}


class Noise(Curve):
    """The same network on what says nothing."""

    def individual(self, eta, cov):
        return dict(level=self.level + self.net(cov.z)[0] + eta.level)


@pytest.fixture(scope="module")
def population():
    rng = np.random.default_rng(4)
    rows = []
    for i in range(30):
        x, z, eta = rng.normal(), rng.normal(), 0.3 * rng.normal()
        for t in (1.0, 2.0, 3.0):
            rows.append(
                {"ID": i + 1, "TIME": t, "DV": 1.0 + 1.5 * np.sin(x) + eta + 0.3 * rng.normal(), "x": x, "z": z, "study": i % 6}
            )
    return nlme.read_nonmem(pd.DataFrame(rows), covariates=["x", "z", "study"])


@pytest.fixture(scope="module")
def found(population):
    return nlme.cross_validate(
        Curve(), population, penalties=(nlme.L2(1.0), nlme.L2(1e4)), folds=3, progress=False, tolerance=1e-7
    )


@pytest.mark.slow
def test_scores_are_those_of_fits_to_the_other_folds(found, population):
    fold = 1
    ids = {i for i, f in zip(population.ids, found.folds, strict=True) if f == fold}
    fit = nlme.fit(found.model, population.filter(lambda s: s.id not in ids), penalty=nlme.L2(1.0), progress=False)
    left = nlme.evaluate(fit.model, population.filter(lambda s: s.id in ids))
    assert found.held_out[0][found.folds == fold].sum() == pytest.approx(left.objective, abs=2e-3)


@pytest.mark.slow
def test_a_network_that_finds_something_pays_and_one_on_noise_does_not(found, population):
    assert found.pays and found.best == nlme.L2(1.0) and found.gain > 3.0
    assert "The networks pay" in " ".join(found.messages) and "weakest" in " ".join(found.messages)
    noise = nlme.cross_validate(Noise(), population, penalties=(nlme.L2(0.01), None), folds=3, progress=False)
    assert not noise.pays and "do not pay" in noise.messages[0]
    # nearly no penalty fits the noise of those it sees
    assert noise.in_sample[0] < noise.plain_in_sample and noise.scores[0] > noise.plain.sum()


@pytest.mark.slow
def test_a_penalty_without_bound_is_the_model_without_the_network(population):
    found = nlme.cross_validate(Curve(), population, penalties=(nlme.L2(1e9),), folds=3, progress=False, tolerance=1e-7)
    np.testing.assert_allclose(found.held_out[0], found.plain, atol=1e-3)


@pytest.mark.slow
def test_groups_are_never_divided_and_folds_are_even(population):
    found = nlme.cross_validate(Curve(), population, penalties=(nlme.L2(10.0),), folds=3, by="study", progress=False)
    study = np.array([s.covariates["study"][0] for s in population])
    assert all(len(np.unique(found.folds[study == k])) == 1 for k in np.unique(study))
    assert np.bincount(found.folds).tolist() == [10, 10, 10]
    rest, part = nlme.split(population, 0.3, by="study", seed=1)
    assert len(rest) + len(part) == 30 and not set(rest.ids) & set(part.ids) and len(part) == 10
    assert len(np.unique([s.covariates["study"][0] for s in part])) == 2


@pytest.mark.slow
def test_a_fit_takes_the_penalty_that_predicts_best(population, tmp_path):
    fit = nlme.fit(Curve(), population, penalty="cross-validated", progress=False)
    assert "chosen by cross-validation" in fit.validation[0] and "The networks pay" in " ".join(fit.validation)
    assert fit.penalty > 0 and "cross-validation" in repr(fit.audit)
    fit.save(tmp_path / "fit.nlme")
    assert nlme.load(tmp_path / "fit.nlme", model=Curve).validation == fit.validation


def test_its_table(found):
    assert list(found.table.index) == ["L2(strength=1.0, on=None)", "L2(strength=10000.0, on=None)", "without the networks"]
    assert found.table["from the best"].iloc[0] == 0.0
    assert "held-out" in found.to_markdown() and "held-out" in repr(found)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"folds": 31}, "from 2 to the number of subjects, 30"),
        ({"folds": 1}, "from 2 to"),
        ({"by": "site"}, "site"),
        ({"by": "study", "folds": 7}, "values of study, 6"),
    ],
)
def test_what_cannot_be_divided_is_said(population, options, words):
    with pytest.raises(DataError, match=words):
        nlme.cross_validate(Curve(), population, progress=False, **options)


def test_what_is_no_penalty_is_said(population):
    with pytest.raises(ModelError, match="cross-validated"):
        nlme.fit(Curve(), population, penalty="validated", progress=False)
    for penalties in ([], [5], "L2", nlme.L2(1.0)):
        with pytest.raises(ModelError, match="penalties= is a list"):
            nlme.cross_validate(Curve(), population, penalties=penalties, progress=False)
    with pytest.raises(ModelError, match="SAEM"):
        nlme.cross_validate(Curve(), population, nlme.SAEM())
    with pytest.raises(DataError, match="between 0 and 1"):
        nlme.split(population, 1.5)


@pytest.mark.slow
def test_held_out_predictions_are_those_of_the_fit_that_has_not_seen_the_subject(found, population):
    fold, table = 1, found.predictions()
    ids = {i for i, f in zip(population.ids, found.folds, strict=True) if f == fold}
    fit = nlme.fit(found.model, population.filter(lambda s: s.id not in ids), penalty=found.best, progress=False)
    part = population.filter(lambda s: s.id in ids)
    expected = nlme.predict(fit.model, part)
    own = table[table.ID.isin(ids)]
    np.testing.assert_allclose(own.PRED.to_numpy(), expected["y"].to_numpy(), atol=1e-3)
    np.testing.assert_array_equal(table.DV, np.concatenate([s.dv for s in population]))
    assert list(dict.fromkeys(table.ID)) == list(population.ids)
    plain = found.predictions(without=True)
    assert plain.PRED.round(10).nunique() == found.folds.max() + 1  # nothing tells subjects apart
    picture = nlme.plots.held_out(found, units={"y": "mg/L"})
    assert [axes.get_title() for axes in picture.axes] == ["held out", "held out, without the networks"]
