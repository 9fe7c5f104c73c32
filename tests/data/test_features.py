"""Features: arrays that a subject has once go where the subject goes, and a model reads them as it reads covariates."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import nlme
from nlme.errors import DataError, ModelError

COUNT, GENES = 12, 5
DIRECTION = np.array([0.5, -0.3, 0.0, 0.2, 0.1])


class Level(nlme.Model):
    """A level that one covariate and a known combination of genes shift."""

    covariates = {"x": "", "genes": (GENES,), "image": (2, 3)}
    level: nlme.Scalar = nlme.real(1.0)
    slope: nlme.Scalar = nlme.real(0.5)
    omega: nlme.Covariance = nlme.covariance(level=0.2)
    sd: nlme.Scalar = nlme.positive(0.3)

    def individual(self, eta, cov):
        shift = self.slope * (cov.genes @ DIRECTION) + 0.1 * jnp.sum(cov.image[0]) + 0.2 * cov.x
        return dict(level=self.level + shift + eta.level)

    def observe(self, ind, state, t):
        return {"y": nlme.additive(ind.level, self.sd)}


class Scalars(Level):
    """The same with what the features come to as covariates."""

    covariates = ("x", "genes_on_direction", "image_sum")

    def individual(self, eta, cov):
        shift = self.slope * cov.genes_on_direction + 0.1 * cov.image_sum + 0.2 * cov.x
        return dict(level=self.level + shift + eta.level)


def population(changing: bool = True):
    rng = np.random.default_rng(3)
    genes, image = rng.normal(size=(COUNT, GENES)), rng.normal(size=(COUNT, 2, 3))
    rows = []
    for i in range(COUNT):
        eta, x = 0.4 * rng.normal(), rng.normal()
        for t in (1.0, 2.0, 3.0)[: 2 + i % 2]:
            shown = x + (t if changing and i % 3 == 0 else 0.0)
            fixed = {"genes_on_direction": genes[i] @ DIRECTION, "image_sum": image[i, 0].sum()}
            dv = 1.0 + 0.5 * fixed["genes_on_direction"] + 0.1 * fixed["image_sum"] + 0.2 * shown + eta + 0.3 * rng.normal()
            rows.append({"ID": i + 1, "TIME": t, "DV": dv, "x": shown} | fixed)
    read = nlme.read_nonmem(
        pd.DataFrame(rows), covariates=["x", "genes_on_direction", "image_sum"], time_varying=["x"] if changing else []
    )
    return read, genes, image


@pytest.fixture(scope="module")
def data():
    plain, genes, image = population()
    return plain.with_features("genes", genes).with_features("image", image), genes, image


@pytest.fixture(scope="module")
def fit(data):
    return nlme.fit(Level(), data[0], progress=False)


@pytest.mark.slow
def test_features_say_what_the_same_numbers_as_covariates_say(data, fit):
    by_scalars = nlme.fit(Scalars(), data[0], progress=False)
    assert fit.objective == pytest.approx(by_scalars.objective, abs=1e-8)
    assert fit.model.slope == pytest.approx(float(by_scalars.model.slope), abs=1e-6)
    np.testing.assert_allclose(fit.individual["level"], by_scalars.individual["level"], atol=1e-6)
    np.testing.assert_allclose(
        nlme.simulate(fit, key=1, eta="new", replicates=2).DV,
        nlme.simulate(by_scalars, key=1, eta="new", replicates=2).DV,
        atol=1e-5,
    )


def test_features_are_held_once_whatever_the_records(data):
    from nlme.language.layout import lay_out

    population, genes, _ = data
    for part in lay_out(Level(), population).arrays.parts:
        held = np.asarray(part.data.covariates["genes"])
        assert held.shape[1:] == (1, GENES) and part.data.timeline.rows > 1
        np.testing.assert_array_equal(held[:, 0], genes[np.asarray(part.members)])


def test_features_go_where_the_subject_goes(data):
    population, genes, image = data
    assert population.features == {"genes": (GENES,), "image": (2, 3)}
    kept = population.filter(lambda s: s.id > 6)
    np.testing.assert_array_equal(kept["9"].features["genes"], genes[8])
    for other in (population.with_doses(nlme.dose(1.0)), population.with_times([0.5, 4.0]), *nlme.split(population, 0.25)):
        for subject in other:
            np.testing.assert_array_equal(subject.features["image"], image[subject.id - 1])
    again = nlme.Population(kept.subjects + population[:3].subjects, covariates=population.covariates)
    np.testing.assert_array_equal(again[-1].features["genes"], genes[2])
    assert "features genes" in repr(population) and "2 x 3 numbers" in repr(population)


@pytest.mark.slow
def test_bootstrap_and_cross_validation_take_them_along(data, fit):
    found = nlme.bootstrap(fit, replicates=3, key=1, progress=False)
    assert len(found.fits.u) == 3 and np.isfinite(found.fits.u).all()
    scores = nlme.cross_validate(Level(), data[0], folds=3, progress=False)
    assert np.isfinite(scores.scores).all()


def test_a_saved_fit_has_them(fit, tmp_path):
    fit.save(tmp_path / "fit.nlme")
    again = nlme.load(tmp_path / "fit.nlme", model=Level)
    assert again.population == fit.population and again.data_hash == fit.data_hash
    np.testing.assert_array_equal(again.population[4].features["image"], fit.population[4].features["image"])


def test_hash_and_equality_see_them(data):
    population, genes, _ = data
    other = population.with_features("genes", genes + (np.arange(COUNT) == 7)[:, None] * 1e-12)
    assert other.hash != population.hash and other != population
    assert population.with_features("genes", genes.copy()) == population


@pytest.mark.parametrize("form", ["dict", "frame", "series", "list"])
def test_rows_by_id(form):
    plain, genes, _ = population()
    order = list(np.random.default_rng(0).permutation(COUNT))
    given = {
        "dict": {str(i + 1): genes[i] for i in order},
        "frame": pd.DataFrame(genes[order], index=[i + 1 for i in order]),
        "series": pd.Series([genes[i] for i in order], index=[i + 1 for i in order]),
        "list": [row.tolist() for row in genes],
    }[form]
    np.testing.assert_array_equal(plain.with_features("genes", given)[3].features["genes"], genes[3])


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("x", np.zeros((COUNT, 2)), "'x' is a covariate"),
        ("genes", np.zeros((COUNT - 1, 2)), "11 rows for 12 subjects"),
        ("genes", np.zeros(COUNT), "is a covariate: put it into the data"),
        ("genes", np.where(np.arange(COUNT * 2).reshape(COUNT, 2) == 5, np.nan, 1.0), r"subject 3 has 1 value missing.*\[1\]"),
        ("genes", [[1.0, 2.0]] * 11 + [[1.0]], "subject 12 has \\(1,\\)"),
        ("genes", {i: np.zeros(2) for i in range(1, 12)}, "nothing is given for subject 12"),
        ("genes", [["a", "b"]] * COUNT, "no numbers"),
        ("my genes", np.zeros((COUNT, 2)), "is no name"),
        ("genes", 3.0, "one row for each subject"),
    ],
)
def test_refused(name, values, said):
    with pytest.raises(DataError, match=said):
        population()[0].with_features(name, values)


def test_a_model_that_asks_for_other_features_is_refused(data):
    with pytest.raises(ModelError, match="needs the features 'genes'.*with_features"):
        nlme.evaluate(Level(), population()[0])
    with pytest.raises(ModelError, match="shape \\(5,\\), and the data have shape \\(4,\\)"):
        nlme.evaluate(Level(), data[0].with_features("genes", data[1][:, :4]))
    number = type("Number", (Level,), {"covariates": ("x", "genes", "image"), "__module__": __name__})
    with pytest.raises(ModelError):
        nlme.evaluate(number(), data[0])
    shape = type("Shape", (Level,), {"covariates": {"x": "", "genes": (0,)}, "__module__": __name__})
    with pytest.raises(ModelError, match="shape of one subject's array"):
        nlme.describe(shape())


def test_described(data):
    shown = str(nlme.describe(Level()))
    assert "array (5,)" in shown and "cov.image" in shown
