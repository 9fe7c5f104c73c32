"""The covariate search: its fits are those made one by one, it finds the truth, and what it found is an ordinary model."""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from levels_by_covariates import CANDIDATES, Level, data
from scipy.stats import chi2

import nlme
from nlme.errors import DataError, FitError, ModelError
from nlme.language.relations import relation
from nlme.selection.candidates import recorded_values
from nlme.typing import Named


@pytest.fixture(scope="module")
def base():
    return nlme.fit(Level(), data(), progress=False)


@pytest.fixture(scope="module")
def found(base):
    return nlme.scm(base, CANDIDATES, progress=False)


def test_the_truth_is_found(found):
    chosen = {(r.parameter, r.covariate) for r in found.relations}
    assert {("level", "wt"), ("level", "arm")} <= chosen
    assert sum(r.covariate == "wt" and r.parameter == "level" for r in found.relations) == 1  # one shape of several


@pytest.mark.slow
def test_the_objective_is_that_of_the_chosen_model_fitted_alone(base, found):
    alone = nlme.fit(found.model, base.population, progress=False)
    assert nlme.evaluate(found.model, base.population).objective == pytest.approx(found.objective, abs=1e-6)
    assert alone.objective == pytest.approx(found.objective, abs=2e-3)


def test_every_row_of_the_first_step_is_a_likelihood_ratio_test(base, found):
    first = found.steps[found.steps.step == 1]
    assert len(first) == 7
    np.testing.assert_allclose(first.change, first.objective - base.objective)
    np.testing.assert_allclose(first.p, chi2.sf(np.maximum(-first.change, 0.0), first.df), rtol=1e-8, atol=1e-300)
    assert first.chosen.sum() == 1 and first.loc[first.chosen, "p"].item() == first.p.min()
    assert (first.change <= 0.01).all()


@pytest.mark.slow
def test_one_candidate_written_by_hand_has_the_same_objective(base, found):
    class ByHand(Level):
        exponent: nlme.Scalar = nlme.real(0.0)
        covariates = {"wt": ""}

        def individual(self, eta, cov):
            return dict(level=self.level * (cov.wt / center) ** self.exponent * jnp.exp(eta.level), slope=self.slope)

    center = float(np.median([s.covariates["wt"][0] for s in base.population]))
    fit = nlme.fit(ByHand(), base.population, progress=False)
    row = found.steps[(found.steps.step == 1) & (found.steps.relation == "wt on level, power")]
    assert row.objective.item() == pytest.approx(fit.objective, abs=2e-3)


def test_the_text_is_the_model(base, found):
    space = {"nlme": nlme, "jnp": jnp, "Level": Level, "Scalar": nlme.Scalar}
    text = found.source
    exec(text[text.rindex("class LevelWithCovariates") :], space)
    written = space["model"]
    assert set(written.__dataclass_fields__) == set(found.model.__dataclass_fields__)
    added = [name for one in found.relations for name in one.coefficients]
    assert added
    for name in added:
        assert float(getattr(written, name)) == pytest.approx(float(getattr(found.model, name)), rel=1e-12)
    # it stands where the search does, and knows the units of its covariates
    assert nlme.evaluate(space["model"], base.population).objective == pytest.approx(found.objective, abs=1e-6)
    eta, cov = Named({"level": 0.1}), Named({"wt": 60.0, "age": 33.0, "sex": 1.0, "arm": 2.0})
    for name, value in found.model.individual(eta, cov).items():
        assert float(written.individual(eta, cov)[name]) == pytest.approx(float(value), rel=1e-12)


def with_one_of_a_kind():
    """Forty people of whom one has a level of its own kind, which the covariate ``rare`` names."""
    rng, rows = np.random.default_rng(11), []
    for i in range(40):
        level = 2.0 * (6.0 if i == 6 else 1.0) * np.exp(0.2 * rng.normal())
        rows += [
            {"ID": i + 1, "TIME": t, "DV": level + 0.5 * t + 0.15 * rng.normal(), "rare": int(i == 6)} for t in (0.0, 1.0, 3.0)
        ]
    return nlme.read_nonmem(pd.DataFrame(rows), covariates={"rare": "group"}, categories={"rare": ["no", "yes"]})


@pytest.mark.slow
def test_a_category_that_a_fold_does_not_have_is_not_known_there():
    """Held out, its one person is predicted as everybody else, whatever is known of it from all of the data."""
    base = nlme.fit(Level(), with_one_of_a_kind(), progress=False)
    found = nlme.scm(base, {"level": ["rare"]}, criterion="cross-validation", folds=5, seed=0, progress=False)
    folds, expected = np.random.default_rng(0).permutation(np.arange(40) % 5), 0.0
    (name,) = found.relations[0].coefficients
    begun = eqx.tree_at(lambda m: getattr(m, name), found.model, jnp.asarray(0.0))
    for f in range(5):
        seen, left = (base.population.filter(lambda s, f=f, out=out: (folds[int(s.id) - 1] == f) == out) for out in (False, True))
        fixed = (name,) if f == folds[6] else ()
        expected += nlme.evaluate(nlme.fit(begun, seen, fixed=fixed, progress=False).model, left).objective
    assert found.steps.score.iloc[0] == pytest.approx(expected, abs=0.05)
    assert found.steps.score.iloc[0] - found.objective > 30.0  # that person costs what a stranger does


@pytest.mark.slow
def test_its_fit_opens_again_with_its_model(found, tmp_path):
    found.fit.save(tmp_path / "scm.nlme")
    again = nlme.load(tmp_path / "scm.nlme", model=found.model)
    assert again.objective == found.fit.objective and again.model.wt_on_level_power == found.fit.model.wt_on_level_power
    with pytest.raises(nlme.ModelError, match="made by the library .*model=found.model"):
        nlme.load(tmp_path / "scm.nlme")


def test_bic_and_cross_validation_leave_noise_out(base):
    few = {"level": {"wt": "power", "age": "linear"}}
    bic = nlme.scm(base, few, criterion="bic", progress=False)
    assert [str(r) for r in bic.relations] == ["wt on level, power"]
    held = nlme.scm(base, few, criterion="cross-validation", folds=4, progress=False)
    assert "wt on level, power" in [str(r) for r in held.relations]


def test_a_search_goes_on_from_its_steps(base, tmp_path, found):
    first = nlme.scm(base, CANDIDATES, progress=False, checkpoint=tmp_path / "scm")
    again = nlme.scm(base, CANDIDATES, progress=False, checkpoint=tmp_path / "scm")
    pd.testing.assert_frame_equal(first.steps, again.steps)
    assert first.relations == found.relations


@pytest.mark.slow
def test_a_hockey_stick_is_at_least_as_good_as_the_line_that_it_holds(base):
    found = nlme.scm(base, {"level": {"wt": ("linear", "hockey-stick")}}, forward=1e-12, progress=False)
    line, stick = found.steps.objective
    assert stick <= line + 1e-3
    one = relation("cl", "wt", "hockey-stick", np.array([1.0, 1.3, 3.6]), None)
    for side, declared in enumerate(one.declarations):  # any steeper slope away from zero is allowed
        domain = declared.metadata["nlme"].domain
        assert (domain.lower, domain.upper)[side] == pytest.approx((-1e3 / 0.3, 1e3 / 2.3)[side])


@pytest.mark.parametrize("shape", ["linear", "exponential", "power", "hockey-stick"])
def test_shapes_are_one_at_their_center_and_at_zero(shape):
    values = np.array([40.0, 60.0, 70.0, 90.0, 120.0])
    one = relation("cl", "wt", shape, values, None)
    nothing = tuple(0.0 for _ in one.coefficients)
    np.testing.assert_allclose([one.factor(nothing, x) for x in values], 1.0)
    assert float(one.factor(tuple(0.01 for _ in nothing), 70.0)) == pytest.approx(1.0)


@pytest.mark.parametrize("shape, side", [("linear", 0), ("linear", 1), ("hockey-stick", 0), ("hockey-stick", 1)])
def test_no_coefficient_within_its_bounds_makes_a_factor_negative(shape, side):
    values = np.array([40.0, 60.0, 70.0, 90.0, 120.0])
    one = relation("cl", "wt", shape, values, None)
    domains = [declared.metadata["nlme"].domain for declared in one.declarations]
    thetas = tuple((0.999 * d.lower, 0.999 * d.upper)[side] for d in domains)
    factors = [float(one.factor(thetas, x)) for x in values]
    assert min(factors) > 0.0 and min(factors) < 0.01


def test_bounds_hold_at_every_record():
    """Of a covariate that changes in time: 90 to 110 at the first records, to 210 later; a category that comes later is one too."""
    first, later = np.array([90.0, 100.0, 110.0]), np.array([90.0, 100.0, 110.0, 60.0, 210.0])
    one = relation("cl", "cr", "linear", first, None, later)
    domain = one.declarations[0].metadata["nlme"].domain
    assert one.center == 100.0 and (domain.lower, domain.upper) == pytest.approx((-1 / 110, 1 / 40))
    kinds = relation("cl", "on", "categories", np.array([0.0, 0.0, 1.0]), None, np.array([0.0, 1.0, 2.0]))
    assert kinds.codes == (1.0, 2.0) and len(kinds.coefficients) == 2
    with pytest.raises(ModelError, match="positive values, and the lowest is 0"):
        relation("cl", "cr", "power", first, None, np.array([90.0, 0.0]))


def test_a_search_looks_at_every_record():
    rows = [{"ID": i, "TIME": t, "DV": 1.0, "cr": 90.0 + 10 * i + 50 * t} for i in range(3) for t in (0.0, 1.0, 2.0)]
    people = nlme.read_nonmem(pd.DataFrame(rows), covariates=["cr"], time_varying=["cr"])
    np.testing.assert_array_equal(recorded_values(people, "cr"), [row["cr"] for row in rows])
    still = nlme.read_nonmem(pd.DataFrame(rows).assign(cr=[row["ID"] for row in rows]), covariates=["cr"])
    np.testing.assert_array_equal(recorded_values(still, "cr"), [0.0, 1.0, 2.0])


def test_categories_whose_words_are_alike_have_names_of_their_own():
    values = np.array([0.0, 1.0, 1.0, 2.0])
    one = relation("cl", "band", "categories", values, ("< 60", "60", "> 60"))
    assert len(set(one.coefficients)) == 2 and all(name.isidentifier() for name in one.coefficients)


@pytest.mark.slow
def test_a_model_and_its_data_are_fitted_first(base):
    alone = nlme.scm(Level(), {"level": ["age"]}, base.population, progress=False)
    assert alone.steps.change.iloc[0] == pytest.approx(nlme.scm(base, {"level": ["age"]}).steps.change.iloc[0], abs=2e-3)
    with pytest.raises(ModelError, match="needs a population"):
        nlme.scm(Level(), {"level": ["age"]})
    with pytest.raises(FitError, match="takes population from the fit"):
        nlme.scm(base, {"level": ["age"]}, base.population)


def test_what_cannot_be_is_refused(base):
    with pytest.raises(ModelError, match="no relation: {'level': \\[\\]}"):
        nlme.scm(base, {"level": []})
    with pytest.raises(ModelError, match="No individual parameter named 'vl'"):
        nlme.scm(base, {"vl": ["wt"]})
    with pytest.raises(DataError, match="No covariate named 'weight'"):
        nlme.scm(base, {"level": ["weight"]})
    with pytest.raises(ModelError, match="its shape is 'categories'"):
        nlme.scm(base, {"level": {"arm": "linear"}})
    with pytest.raises(ModelError, match="No shape named 'quadratic'"):
        nlme.scm(base, {"level": {"wt": "quadratic"}})
    with pytest.raises(FitError, match="forward=5"):
        nlme.scm(base, {"level": ["wt"]}, forward=5)
