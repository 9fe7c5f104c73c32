"""Starts from the data: they predict it from whatever values the model brings; and when others than the first are tried."""

from __future__ import annotations

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from scattered import Elimination, one_person, scattered
from scipy.optimize import minimize
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

import nlme
from nlme import datasets
from nlme.language.layout import lay_out
from nlme.models.theophylline import Theophylline
from nlme.parameters.inventory import Inventory
from nlme.search.minimise import minimise
from nlme.search.problem import Problem
from nlme.search.quasi_newton import CONVERGED
from nlme.search.starts import Typical, absorbs_slowly


def problem_of(model, data, method=None):
    return Problem(method or nlme.FOCEI(), model, lay_out(model, data), Inventory(model))


@pytest.fixture(scope="module")
def theophylline():
    return datasets.load("theophylline")


@pytest.fixture(scope="module")
def typical(theophylline):
    problem = problem_of(Theophylline(ka=20.0, cl=0.2, v=400.0, add=0.01, prop=3.0), theophylline)
    return Typical(problem, [problem.start], 0)


def test_what_predictions_depend_on_is_seen(typical):
    names = np.array(typical.problem.inventory.names)
    assert set(names[typical.structural]) == {"ka", "cl", "v"} and set(names[typical.errors]) == {"add", "prop"}


@pytest.mark.slow
def test_the_criterion_is_that_of_pooled_data_with_errors_of_the_right_size(typical, theophylline):
    """By its definition, and never more than the objective of pooled data, to which the factor is not given."""
    problem = typical.problem
    u = np.asarray(problem.inventory.unconstrained(Theophylline()))
    found = typical.pooled(u[None])
    at = nlme.evaluate(problem.at(u), theophylline, nlme.NaivePooled())
    predicted = at.predictions.PRED.to_numpy()
    g = 0.433**2 + (0.054 * predicted) ** 2
    k = np.mean((at.predictions.DV - predicted) ** 2 / g)
    assert found.factor[0, 0] == pytest.approx(k, rel=1e-10)
    assert found.value[0] == pytest.approx(len(g) * np.log(k) + np.sum(np.log(g)), rel=1e-10)
    assert found.value[0] + len(g) < at.objective


def test_starts_predict_the_data_and_hold_both_orders_of_the_rates(typical):
    """Absorption and elimination exchanged predict the same: both are among the starts."""
    starts = typical.starts(6)
    models = [typical.problem.at(u) for u in starts]
    kinetics = [(float(m.ka), float(m.cl / m.v)) for m in models]
    assert any(1.0 < ka < 3.0 and 0.05 < k < 0.15 for ka, k in kinetics)
    assert any(1.0 < k < 3.0 and 0.05 < ka < 0.15 for ka, k in kinetics)
    first = models[0]
    assert 2.0 < float(first.cl) < 4.0
    np.testing.assert_allclose(np.sqrt(first.omega.natural()), 0.3, rtol=1e-6)
    # additive and proportional error of the size of the residuals, each half of their variance
    predicted = nlme.predict(first, typical.problem.layout.population)
    predicted = predicted[predicted.EVID == 0]["conc"].to_numpy()
    dv = np.concatenate([s.dv[s.is_observation] for s in typical.problem.layout.population])
    variance = float(first.add) ** 2 + (float(first.prop) * predicted) ** 2
    assert np.mean((dv - predicted) ** 2 / variance) == pytest.approx(1.0, abs=0.1)


def test_starting_values(theophylline):
    model = nlme.starting_values(Theophylline(ka=30.0, cl=0.1, v=3.0), theophylline)
    assert isinstance(model, Theophylline) and 2.0 < float(model.cl) < 4.0
    held = nlme.starting_values(Theophylline(ka=3.0, cl=0.1, v=3.0), theophylline, fixed="ka")
    assert float(held.ka) == 3.0


def test_starting_values_where_nothing_is_predicted_are_refused(theophylline):
    class Nowhere(Theophylline):
        def individual(self, eta, cov):
            return {name: np.nan * value for name, value in super().individual(eta, cov).items()}

    with pytest.raises(nlme.FitError, match="none gives predictions"):
        nlme.starting_values(Nowhere(), theophylline)


def test_random_effects_of_any_scale_get_a_spread_of_thirty_per_cent():
    class Additive(nlme.Model):
        k: nlme.Scalar = nlme.positive(0.004)
        sd: nlme.Scalar = nlme.positive(0.1)
        omega: nlme.Covariance = nlme.covariance(k=5.0)

        def individual(self, eta, cov):
            return dict(k=self.k + eta.k)

        def observe(self, ind, state, t):
            return {"y": nlme.additive(10.0 - ind.k * t, self.sd)}

    rng, t = np.random.default_rng(0), np.linspace(0.0, 500.0, 6)
    people = [nlme.Subject(i, t, dv=10.0 - 0.01 * t + 0.1 * rng.normal(size=6), evid=np.zeros(6, int)) for i in range(1, 9)]
    model = nlme.starting_values(Additive(), nlme.Population(tuple(people)))
    assert float(model.k) == pytest.approx(0.01, rel=0.1)
    assert float(model.omega.natural()[0]) == pytest.approx((0.3 * float(model.k)) ** 2, rel=1e-6)


@pytest.mark.slow
def test_a_clean_search_near_its_start_is_the_only_one(theophylline):
    fit = nlme.fit(Theophylline(), theophylline, progress=False)
    assert fit.starts.tried == 1 and fit.starts.reason == "" and fit.objective == pytest.approx(104.322, abs=1e-3)
    assert "gave no reason" in repr(fit.starts)


class Written(Theophylline):
    """The same as equations."""

    def dynamics(self, ind):
        def rhs(t, a):
            return dict(depot=-ind.ka * a.depot, central=ind.ka * a.depot - ind.cl / ind.v * a.central)

        return nlme.ODE(rhs, states=("depot", "central"))


@pytest.mark.parametrize("form", [Theophylline, Written])
def test_slow_absorption_is_seen(form, theophylline):
    for values, slow in ((dict(ka=1.5, cl=3.0, v=30.0), False), (dict(ka=0.1, cl=3.0, v=2.0), True)):
        problem = problem_of(form(**values), theophylline)
        assert absorbs_slowly(problem, problem.start) is slow


@pytest.mark.parametrize(("ka", "slow"), [(5.0, False), (0.2, True)])
def test_slow_absorption_beside_a_quick_distribution_is_seen(ka, slow, theophylline):
    class Two(Theophylline):
        def dynamics(self, ind):
            return nlme.pk.TwoCompartmentOral(cl=ind.cl, v1=ind.v, q=10.0, v2=60.0, ka=ind.ka)

    problem = problem_of(Two(ka=ka, cl=3.0, v=30.0), theophylline)
    assert absorbs_slowly(problem, problem.start) is slow


class Logs(Theophylline):
    """Parameters as logarithms, as Monolix and nlmixr2 have them; one starts near 0, so that its unit is small."""

    ka: nlme.Scalar = nlme.real(0.05)
    cl: nlme.Scalar = nlme.real(1.0)
    v: nlme.Scalar = nlme.real(3.5)

    def individual(self, eta, cov):
        return dict(ka=jnp.exp(self.ka + eta.ka), cl=jnp.exp(self.cl + eta.cl), v=jnp.exp(self.v + eta.v))


def test_starts_of_logarithms_reach_as_far_as_those_of_positive_parameters(theophylline):
    problem = problem_of(Logs(), theophylline)
    typical = Typical(problem, [problem.start], 0)
    points = typical._about(problem.start, typical.structural, 96)
    moved = (points - problem.start) * problem.every.scales[problem.inventory.free]
    spread = np.std(moved[:, [problem.inventory.names.index(name) for name in ("ka", "cl", "v")]], axis=0)
    assert np.all(spread > 0.5)
    kinetics = [np.exp([float(m.ka), float(m.cl) - float(m.v)]) for m in map(problem.at, typical.starts(6))]
    assert any(ka > k for ka, k in kinetics) and any(ka < k for ka, k in kinetics)


def test_a_random_effect_beyond_all_measure_has_run_away(theophylline):
    from nlme.search.several import ran_away

    def found(model):
        problem = problem_of(model, theophylline)
        return problem, SimpleNamespace(search=SimpleNamespace(x=problem.start, ended=np.zeros(len(problem.start), int)))

    assert ran_away(*found(Theophylline(omega={"cl": 1e13}))) == ["omega.cl"]
    assert ran_away(*found(Theophylline(omega={"cl": 1e3}))) == []


def test_a_direction_without_curvature_is_a_reason_to_try_others(theophylline):
    """A parameter that nothing depends on, and one that the data do not tell from another."""
    from nlme.search.several import reason_for_others

    class Product(Theophylline):
        more: nlme.Scalar = nlme.positive(1.0)

        def individual(self, eta, cov):
            return super().individual(eta, cov) | dict(ka=self.ka * self.more * jnp.exp(eta.ka))

    for form, word in ((Theophylline, ""), (Product, "do not determine")):
        problem = problem_of(form(), theophylline)
        found = minimise(problem, tolerance=1e-3)
        found.search.status = CONVERGED
        assert (word in reason_for_others(problem, found)) if word else not reason_for_others(problem, found)


@pytest.mark.slow
def test_the_other_order_of_the_rates_is_tried_where_absorption_is_found_slow(theophylline):
    start = Theophylline(ka=0.087, cl=2.77, v=1.9)
    fit = nlme.fit(start, theophylline, progress=False)
    assert fit.converged and "absorption is slower" in fit.starts.reason
    assert fit.starts.tried > 3 and np.nanmin(fit.starts.objectives) == pytest.approx(fit.objective, abs=0.01)
    assert np.any(np.abs(fit.starts.objectives - 104.322) < 0.01)


@pytest.mark.parametrize("variance", [1e-8, 1e-12, 1e-20])
def test_a_variance_started_at_nothing_grows(variance, theophylline):
    fit = nlme.fit(Theophylline(omega={"cl": variance}), theophylline, progress=False)
    assert fit.converged and fit.objective == pytest.approx(104.322, abs=1e-3)


def test_far_from_its_start_others_are_tried_and_the_lowest_counts(theophylline):
    """The lowest minimum has the order of the rates exchanged; the other is said."""
    fit = nlme.fit(Theophylline(ka=20.0, cl=0.3, v=300.0), theophylline, progress=False)
    assert fit.converged and fit.objective == pytest.approx(103.083, abs=1e-3)
    assert fit.starts.tried > 3 and "ended far from its start" in fit.starts.reason
    assert fit.starts.reached >= 1 and len(fit.starts.table) == fit.starts.tried
    assert any("another minimum is only 1.2" in remark for remark in fit.audit.remarks)
    alone = nlme.fit(Theophylline(ka=20.0, cl=0.3, v=300.0), theophylline, starts=0, progress=False)
    assert alone.starts.tried == 1 and alone.objective >= fit.objective - 1e-3


@pytest.mark.slow
def test_starts_that_cannot_be_evaluated_are_no_end():
    """From where the objective is no number others are tried; only if they fail, too, it is an error."""

    class Rooted(Elimination):
        def individual(self, eta, cov):
            import jax.numpy as jnp

            return dict(vmax=self.vmax + 0.0 * jnp.sqrt(4.0 - self.km), km=self.km)

    fit = nlme.fit(Rooted(km=50.0), one_person(), nlme.NaivePooled(), progress=False)
    assert fit.converged and "not finite at the starting values" in fit.starts.reason
    with pytest.raises(nlme.FitError, match="starting values"):
        nlme.fit(Rooted(km=50.0), one_person(), nlme.NaivePooled(), starts=0, progress=False)


@pytest.mark.slow
def test_a_parameter_that_ran_away_is_named(theophylline):
    """The limit of large ka: the objective no longer depends on it, and the search from there says so."""

    class Second(Theophylline):
        """A rate beside the right one, which only does harm: it runs off to infinity, where it has no part."""

        more: nlme.Scalar = nlme.positive(10.0)

        def individual(self, eta, cov):
            found = super().individual(eta, cov)
            return {**found, "cl": found["cl"] * (1.0 + 1.0 / self.more)}

    fit = nlme.fit(Second(cl=3.3), theophylline, fixed=["cl", "v"], starts=0, progress=False)
    assert not fit.converged and fit.ran_away == ("more",) and "Ran away: more" in fit.verdict
    assert nlme.audit(fit, starts=0, samples=0).headline == fit.verdict
    stuck = nlme.fit(Theophylline(ka=1e6), theophylline, starts=0, progress=False)
    assert not stuck.converged
    rescued = nlme.fit(Theophylline(ka=1e6), theophylline, progress=False)
    assert rescued.converged and rescued.objective < 104.323


@pytest.mark.parametrize("seed", [pytest.param(0, marks=pytest.mark.slow), 1, 2, 3])
def test_one_person_from_scattered_starts(seed):
    fit = nlme.fit(scattered(Elimination(), 40 + seed), one_person(), nlme.NaivePooled(), progress=False)
    assert fit.converged and fit.objective == pytest.approx(-31.164, abs=2e-3) and fit.search_status == CONVERGED


class Three(nlme.Model):
    """Three kinds of people, each y = level + eta + error: the likelihood is known exactly."""

    none: nlme.Scalar = nlme.real(1.0)
    some: nlme.Scalar = nlme.real(4.0)
    much: nlme.Scalar = nlme.real(9.0)
    kind: nlme.Mixture = nlme.mixture(none=0.3, some=0.4, much=0.3)
    omega: nlme.Covariance = nlme.covariance(level=0.4)
    sd: nlme.Scalar = nlme.positive(1.0)

    def individual(self, eta, cov):
        return dict(level=self.kind.choose(none=self.none, some=self.some, much=self.much) + eta.level)

    def observe(self, ind, state, t):
        return {"y": nlme.additive(ind.level, self.sd)}


def three_kinds():
    random = np.random.default_rng(204)
    level = np.array([1.0, 4.0, 9.0])[random.choice(3, p=[0.3, 0.4, 0.3], size=40)] + 0.63 * random.normal(size=40)
    return level[:, None] + random.normal(size=(40, 4))


def population_of(values):
    time = np.arange(values.shape[1], dtype=float)
    return nlme.Population(tuple(nlme.Subject(id=i + 1, time=time, dv=y, covariates={}) for i, y in enumerate(values)))


def test_in_a_mixture_the_criterion_takes_every_subject_for_one_of_the_nearest_kind():
    values, model = three_kinds(), Three(none=0.0, some=5.0, much=8.0)
    problem = problem_of(model, population_of(values))
    typical = Typical(problem, [problem.start], 0)
    assert set(np.array(problem.inventory.names)[typical.structural]) == {"none", "some", "much"}
    squares = np.square(values[:, :, None] - np.array([0.0, 5.0, 8.0])).sum(axis=1).min(axis=1)
    n = values.size
    found = typical.pooled(problem.start[None])
    np.testing.assert_allclose(found.factor[0, 0], squares.sum() / n)
    assert found.value[0] == pytest.approx(n * np.log(squares.sum() / n))


@pytest.mark.parametrize("seed", [1, 2, 5, 7])
def test_kinds_that_have_merged_are_not_the_answer(seed):
    """The best of EM from the truth, by SciPy with the exact likelihood; three searches of four merge two kinds, 12 higher."""
    values = three_kinds()

    def objective(x):
        levels, shares = x[:3], np.exp(np.append(x[3:5], 0.0))
        covariance = np.exp(x[5]) + np.exp(2 * x[6]) * np.eye(4)
        terms = [multivariate_normal(np.full(4, m), covariance).logpdf(values) for m in levels]
        return -2 * np.sum(logsumexp(np.stack(terms, axis=1) + np.log(shares / shares.sum()), axis=1)) - 160 * np.log(2 * np.pi)

    best = minimize(objective, [1.0, 4.0, 9.0, 0.0, 0.3, np.log(0.4), 0.0], method="BFGS").fun
    fit = nlme.fit(scattered(Three(), seed), population_of(values), nlme.FOCEI(), progress=False)
    assert fit.converged and fit.objective == pytest.approx(best, abs=1e-3)
    assert fit.starts.tried >= 8


def test_networks_begin_elsewhere_with_weights_drawn_anew(theophylline):
    """Zeros stay (no correction, no offset), others keep their size; every start has others."""
    from nlme.models.indomethacin_ude import IndomethacinUDE

    problem = problem_of(IndomethacinUDE(), datasets.load("indomethacin"))
    names = problem.inventory.names
    starts = np.array(Typical(problem, [problem.start], 0).starts(6))
    assert len(starts) == 6
    weights = np.array([kind == "weight" for kind in problem.inventory.kinds])
    zero = weights & (problem.start == 0.0)
    assert zero.any() and not starts[:, zero].any()
    drawn = starts[:, weights & ~zero]
    assert len(np.unique(drawn, axis=0)) == 6, names
    assert 0.5 < np.std(drawn) / np.std(problem.start[weights & ~zero]) < 2.0
