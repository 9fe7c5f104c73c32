"""Full random effects with missing covariates: the joint normal likelihood of what is known, in a linear model where it is exact."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from covariate_lines import TIMES, Line, data
from scipy.optimize import approx_fprime
from scipy.stats import multivariate_normal

import nlme
from nlme.data.designs import observed_first
from nlme.errors import DataError, FitError, ModelError
from nlme.language.joint_normal import with_observed_covariates
from nlme.language.layout import lay_out
from nlme.parameters.covariance import build
from nlme.parameters.inventory import Inventory
from nlme.selection.frem_missing import fitted_with_missing

COLUMNS = ("wt", "age", "sex_m")
DESIGN = np.stack([np.ones(4), TIMES], axis=1)


def with_gaps():
    """Weight is missing in every fourth subject, sex in every fifth."""
    frame = data().to_frame()
    for name, every in (("wt", 4), ("sex", 5)):
        frame[name] = frame[name].astype(object)
        frame.loc[frame["ID"] % every == 1, name] = None
    frame.attrs = {}
    return nlme.read_nonmem(frame, covariates=["wt", "age", "sex"], categories={"sex": ["f", "m"]}, fill={"wt": -99, "sex": -99})


def table_of(population):
    x = np.array([[s.covariates[name][0] for name in ("wt", "age", "sex")] for s in population], float)
    return np.where(x == -99, np.nan, x)


def exact(population, level, slope, sd, mean, joint):
    """-2 log p(y, what is known of x)."""
    whole = np.zeros((7, 7))
    whole[:4, :4] = DESIGN @ joint[:2, :2] @ DESIGN.T + sd**2 * np.eye(4)
    whole[:4, 4:] = DESIGN @ joint[:2, 2:]
    whole[4:, :4], whole[4:, 4:] = whole[:4, 4:].T, joint[2:, 2:]
    middle, total = np.r_[DESIGN @ [level, slope], mean], 0.0
    for s, row in zip(population, table_of(population), strict=True):
        known = np.r_[np.ones(4, bool), np.isfinite(row)]
        seen = np.r_[s.dv, row][known]
        total -= 2.0 * multivariate_normal.logpdf(seen, middle[known], whole[np.ix_(known, known)])
    return total


def test_the_objective_is_that_of_what_is_known():
    population, factor = with_gaps(), np.tril(np.random.default_rng(1).normal(size=(5, 5)))
    scale = np.diag([0.3, 0.15, 12.0, 9.0, 0.5])
    joint = scale @ (0.2 * factor @ factor.T + np.eye(5)) @ scale
    mean, table = np.array([71.0, 41.0, 0.4]), table_of(population)
    columns = {name: (m, s) for name, m, s in zip(COLUMNS, mean, np.nanstd(table, axis=0), strict=True)}
    omega = build((("level", "slope", *COLUMNS), joint))
    model = with_observed_covariates(Line(level=2.1, slope=0.45, sd=0.17), "omega", omega, columns)
    subjects = [
        observed_first(s, 1 + np.flatnonzero(k), x[k]) for s, x, k in zip(population, table, np.isfinite(table), strict=True)
    ]
    seen = nlme.Population(tuple(subjects), ("y", *COLUMNS), population.covariates)
    assert seen[0].n_observations == 4 + 1 and seen[1].n_observations == 4 + 3  # subject 1 has neither weight nor sex
    at = nlme.evaluate(model, seen)
    assert at.objective_full == pytest.approx(exact(population, 2.1, 0.45, 0.17, mean, joint), abs=1e-5)


def test_refused():
    population = with_gaps()
    with pytest.raises(DataError, match="'wt' is 70, which stands for missing, in every subject"):
        every = nlme.read_nonmem(data(5).to_frame().assign(wt=70.0), covariates=["wt"])
        nlme.frem(Line(), ["wt"], every, missing=70.0, progress=False)
    for method in (nlme.AGQ(3), nlme.SAEM()):
        with pytest.raises(FitError, match="wt, sex are missing in some subjects, .* does not integrate well"):
            _asked_of(Line(), population, method)

    halves = table_of(population)
    halves[:30, 0], halves[30:, 1] = np.nan, np.nan
    with pytest.raises(ModelError, match="wt and age are known together in nobody"):
        _asked_of(Line(), population, table=halves)

    class Reads(Line):
        covariates = ("wt",)

        def individual(self, eta, cov):
            return dict(level=self.level + 0.01 * cov.wt + eta.level, slope=self.slope + eta.slope)

    with pytest.raises(ModelError, match="Reads reads wt"):
        _asked_of(Reads(), population)

    class Together(Line):
        omega: nlme.Covariance = nlme.covariance(("level", "slope"), [[0.05, 0.01], [0.01, 0.02]])

    with pytest.raises(ModelError, match="slope is correlated with level"):
        _asked_of(Together(), population, effects=("level",))

    class Called(Line):
        def individual(self, eta, cov):
            return dict(level=self.level + eta.level, slope=self.slope + eta.slope, age=1.0)

    with pytest.raises(ModelError, match="'age' would be a random effect and an endpoint"):
        _asked_of(Called(), population)


def _asked_of(model, population, method=None, effects=("level", "slope"), table=None):
    """What the joint fit of a base model with these data says, which need not be fitted for it."""
    base = SimpleNamespace(
        model=model,
        population=population,
        method=method or nlme.FOCEI(),
        layout=lay_out(model, population),
        inventory=Inventory(model),
    )
    fitted_with_missing(base, effects, COLUMNS, ("wt", "age", "sex"), table_of(population) if table is None else table, False)


@pytest.fixture(scope="module")
def found():
    return nlme.frem(Line(), ["wt", "age", "sex"], with_gaps(), missing=-99, progress=False)


@pytest.mark.slow
def test_the_fit_is_the_maximum_of_what_is_known(found):
    model, population = found.fit.model, with_gaps()
    assert found.fit.converged and list(found.missing) == [15, 0, 12]
    own = float(model.level), float(model.slope), float(model.sd), found.mean
    assert found.fit.objective_full == pytest.approx(exact(population, *own, found.joint.to_numpy()), abs=1e-5)
    lower = np.linalg.cholesky(found.joint.to_numpy())
    places = np.tril_indices(5)

    def objective(p):
        factor = lower.copy()
        factor[places] *= np.exp(p[6:])  # each element by a factor
        level, slope, sd = np.array(own[:3]) * np.exp(p[:3])
        return exact(population, level, slope, sd, found.mean * np.exp(p[3:6]), factor @ factor.T)

    slope = approx_fprime(np.zeros(21), objective, 1e-6)
    assert np.max(np.abs(slope)) < 0.2  # of an objective of some 800 to 1: the search ended where its gradient did
    assert np.all(found.errors > 0) and "Missing: wt in 15 of 60, sex_m in 12 of 60 subjects" in repr(found)


@pytest.mark.slow
def test_of_complete_data_both_ways_say_the_same(found):
    whole = nlme.frem(Line(), ["wt", "age", "sex"], data(), missing=-99, progress=False)
    assert not whole.missing.any()
    base = nlme.fit(Line(), data(), progress=False)
    table = table_of(base.population)
    _, mean, joint, errors = fitted_with_missing(base, ("level", "slope"), COLUMNS, ("wt", "age", "sex"), table, False)
    np.testing.assert_allclose(mean, whole.mean, rtol=1e-4)
    scale = np.sqrt(np.diagonal(whole.joint.to_numpy()))
    np.testing.assert_allclose(joint / np.outer(scale, scale), whole.joint / np.outer(scale, scale), atol=2e-3)
    np.testing.assert_allclose(errors, whole.errors, rtol=0.1)  # sandwiches of two parametrisations


@pytest.mark.slow
def test_its_model_is_an_ordinary_one(found, tmp_path):
    """Where all covariates are known it gives the typical value that the joint distribution has."""
    x = np.array([60.0, 45.0, 1.0])
    ind = found.model.individual(nlme.Named({"level": 0.0, "slope": 0.0}), nlme.Named({"wt": x[0], "age": x[1], "sex": x[2]}))
    joint = found.joint.to_numpy()
    shift = joint[:2, 2:] @ np.linalg.solve(joint[2:, 2:], x - found.mean)
    expected = np.array([float(found.fit.model.level), float(found.fit.model.slope)]) + shift
    np.testing.assert_allclose([float(ind["level"]), float(ind["slope"])], expected, rtol=1e-10)
    assert np.isfinite(nlme.evaluate(found.given(["age"]), data()).objective)
    found.fit.save(tmp_path / "joint.nlme")
    again = nlme.load(tmp_path / "joint.nlme", found.fit.model)
    assert again.objective == found.fit.objective
