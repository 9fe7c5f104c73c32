"""augment: the sequential likelihood is the marginal one where that is Gaussian; what is learned is found again, and what is noise is not."""

from __future__ import annotations

import pickle

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import nlme
from nlme.errors import ModelError
from nlme.learning.evidence import evidence_of
from nlme.learning.regression import by_subject

COUNT = 80


class Line(nlme.Model):
    """A straight line with random effects on both of its numbers: Gaussian throughout."""

    level: nlme.Scalar = nlme.real(1.0)
    slope: nlme.Scalar = nlme.real(0.5)
    omega: nlme.Covariance = nlme.covariance(("level", "slope"), [[0.5], [0.05, 0.2]])
    sd: nlme.Scalar = nlme.positive(0.3)

    def individual(self, eta, cov):
        return dict(level=self.level + eta.level, slope=self.slope + eta.slope)

    def observe(self, ind, state, t):
        return {"y": nlme.additive(ind.level + ind.slope * t, self.sd)}


@pytest.fixture(scope="module")
def population():
    rng, rows, genes = np.random.default_rng(4), [], np.random.default_rng(5).normal(size=(COUNT, 60))
    hidden = rng.normal(size=COUNT)
    genes[:, :20] += 3.0 * hidden[:, None]
    for i in range(COUNT):
        x, z = rng.normal(), rng.normal()
        level, slope = 1.0 + np.sin(1.5 * x) + 0.2 * rng.normal(), 0.5 + 0.3 * hidden[i] + 0.2 * rng.normal()
        for t in (0.0, 1.0, 2.0, 3.0)[: (4, 4, 1, 4)[i % 4]]:
            rows.append({"ID": i + 1, "TIME": t, "DV": level + slope * t + 0.3 * rng.normal(), "x": x, "z": z})
    read = nlme.read_nonmem(pd.DataFrame(rows), covariates=["x", "z"])
    return read.with_features("genes", genes).with_features("image", genes[:, :16].reshape(-1, 4, 4))


@pytest.fixture(scope="module")
def fit(population):
    return nlme.fit(Line(), population, progress=False)


@pytest.fixture(scope="module")
def found(fit):
    return nlme.augment(fit, dict(width=4), inputs=("x", "z"), starts=2, strengths=(1.0, 3.0, 10.0), folds=4)


@pytest.mark.slow
def test_evidence_is_the_likelihood_of_a_gaussian_model(fit):
    """-2 log L of the evidence under other typical values and another Omega differs from the model's own by one constant."""
    evidence = evidence_of(fit)
    start, differences = fit.model, []
    for level, slope, omega in (
        (0.0, 0.0, start.omega),
        (0.3, -0.2, start.omega.replace({"level": 0.1, "slope": 0.4, "slope,level": 0.0})),
    ):
        model = eqx.tree_at(lambda m: (m.level, m.slope, m.omega), start, (start.level + level, start.slope + slope, omega))
        unit = omega.__class__(omega.sd / evidence.omega.sd, omega.factor, omega.names, omega.blocks)
        f = np.tile(np.array([level, slope]) / evidence.sd, (COUNT, 1))
        own = np.asarray(by_subject(jnp.asarray(f), unit, jnp.asarray(evidence.h), jnp.asarray(evidence.A)))
        differences.append(nlme.evaluate(model, fit.population).values - own)
    np.testing.assert_allclose(differences[0], differences[1], rtol=1e-6, atol=1e-6)


@pytest.mark.slow
def test_a_subject_without_information_says_nothing(fit):
    one = [s.n_observations == 1 for s in fit.population]
    values = np.linalg.eigvalsh(evidence_of(fit).A)
    assert np.allclose(values[one, 0], 0.0, atol=1e-9) and (values[:, 0] > -1e-9).all()


@pytest.mark.slow
def test_a_network_is_found_and_pays(found, fit):
    assert found.pays and found.gain > 3 * found.gain_error
    assert found.explained["level"] > 0.7
    x = np.linspace(-1.5, 1.5, 20)
    level = np.array([float(found.model.shift({"x": v, "z": 0.0})["level"]) for v in x])
    truth = np.sin(1.5 * x)
    assert np.std(level - truth) < 0.15
    refit = nlme.fit(found.model, fit.population, fixed=["shift"], progress=False)
    assert refit.objective < fit.objective - 50
    weights = [row.name for row in refit.parameters if row.kind == "weight"]
    assert weights and refit.n_parameters == fit.n_parameters + len(weights)  # they come from these data as well
    assert refit.aic == pytest.approx(refit.objective_full + 2 * (fit.n_parameters + len(weights)))
    assert nlme.compare({"base": fit, "augmented": refit}).table.parameters.to_dict() == {
        "base": fit.n_parameters,
        "augmented": refit.n_parameters,
    }
    other = nlme.fit(found.model, fit.population[:-1], fixed=["shift"], progress=False, max_evaluations=3, starts=0)
    assert other.n_parameters == fit.n_parameters  # of weights that others have taught, nothing is asked


def test_terms_are_chosen_and_pay(fit):
    found = nlme.augment(fit, "linear", inputs=("x", "z", "genes"), components=2, folds=4)
    assert found.pays and found.best[0] == "linear" and found.explained["slope"] > 0.4
    assert found.model.shift.term.form == "level: x; slope: genes_1"
    assert "Terms chosen: level: x; slope: genes_1." in repr(found)
    none = nlme.augment(fit, "linear", inputs=("z",), folds=4)
    assert not none.pays and none.gain < 1.0


@pytest.mark.slow
def test_noise_does_not_pay(fit):
    noise = nlme.augment(fit, dict(width=4), inputs=("z",), starts=1, strengths=(1.0, 100.0), folds=4)
    assert noise.gain < 1.0 and not noise.pays and any(doubt in repr(noise) for doubt in ("does not pay", "is not shown to pay"))


@pytest.mark.slow
def test_a_shift_without_terms_is_a_model(fit, tmp_path):
    none = nlme.augment(fit, "linear", inputs=("z",), folds=4)
    assert none.model.shift.term.form == "none"
    refit = nlme.fit(none.model, fit.population, fixed=["shift"], progress=False)
    assert refit.objective == pytest.approx(fit.objective, abs=1e-5)
    refit.save(tmp_path / "fit.nlme")
    opened = nlme.load(tmp_path / "fit.nlme", model=Line)
    assert opened.objective == refit.objective and opened.n_parameters == refit.n_parameters


@pytest.mark.slow
def test_wide_features_are_projected(fit, tmp_path):
    wide = nlme.augment(fit, "quadratic", inputs=("x", "genes"), to="slope", components=3, folds=4)
    assert wide.pays and wide.explained["slope"] > 0.4 and set(wide.explained) == {"slope"}
    assert wide.model.covariates == {"x": "", "genes": (60,)}
    refit = nlme.fit(wide.model, fit.population, fixed=["shift"], progress=False, max_evaluations=20)
    refit.save(tmp_path / "fit.nlme")  # with the directions
    opened = nlme.load(tmp_path / "fit.nlme", model=Line)
    assert nlme.evaluate(opened.model, opened.population).objective == pytest.approx(refit.objective, abs=1e-6)
    again = nlme.augment(fit, "quadratic", inputs=("x", "genes"), to="slope", components=3, folds=4, reduce="random")
    assert np.isfinite(again.scores).all()


@pytest.mark.slow
def test_an_encoder_of_images_is_trained_with_the_network(fit, tmp_path):
    class Summed(eqx.Module):
        weight: jax.Array

        def __call__(self, image):
            return jnp.tanh(jnp.sum(self.weight * image))[None]

    made = nlme.augment(
        fit,
        dict(width=2),
        inputs=("image",),
        encoders={"image": lambda key: Summed(0.1 * jax.random.normal(key, (4, 4)))},
        to=("slope",),
        starts=1,
        strengths=(0.3, 1.0),
        folds=3,
    )
    assert made.pays and made.explained["slope"] > 0.3
    refit = nlme.fit(made.model, fit.population, fixed=["shift"], progress=False)
    refit.save(tmp_path / "fit.nlme")
    with pytest.raises(ModelError, match="give the model itself"):
        nlme.load(tmp_path / "fit.nlme", model=Line)
    again = nlme.load(tmp_path / "fit.nlme", model=made.model)
    assert again.objective == refit.objective


@pytest.mark.slow
def test_the_model_is_like_any_other(found, fit, tmp_path):
    refit = nlme.fit(found.model, fit.population, fixed=["shift"], progress=False)
    refit.save(tmp_path / "fit.nlme")
    again = nlme.load(tmp_path / "fit.nlme", model=Line)
    assert again.objective == refit.objective and nlme.evaluate(again.model, fit.population).objective == pytest.approx(
        refit.objective
    )
    shown = str(nlme.describe(refit.model))
    assert "cov.x" in shown and "network weights" in shown
    simulated = nlme.simulate(refit, key=1, eta="new", replicates=2)
    assert np.isfinite(simulated.DV).all()
    assert nlme.learned_curves(refit, bands=None).curves


def test_what_was_learned_pickles(fit, found):
    """Its class is in no file: a pickle says how it is made."""
    again = pickle.loads(pickle.dumps(found))
    assert type(again.model) is type(found.model) and repr(again) == repr(found)
    at, before = (nlme.evaluate(one.model, fit.population, nlme.FO()).objective for one in (again, found))
    assert at == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (dict(inputs=("y",)), "No covariate named 'y'"),
        (dict(inputs=("x",), to=("cl",)), "'cl'"),
        (dict(inputs=("x", "x")), "different names"),
        (dict(inputs=("x",), reduce="svd"), "reduce is"),
        (dict(inputs=("x",), strengths=(-1.0,)), "at least 0"),
        (dict(inputs=("x",), encoders={"x": None}), "features"),
    ],
)
def test_refused(fit, options, said):
    with pytest.raises(ModelError, match=said):
        nlme.augment(fit, **options)
