"""Bootstrap: replicates against closed forms and against loops of single fits."""

from __future__ import annotations

import dataclasses

import numpy as np
import one_way
import pytest

import nlme
from nlme import datasets
from nlme.models.phenobarbital import Phenobarbital
from nlme.models.theophylline import Theophylline
from nlme.search.batch import run_fits
from nlme.uncertainty.redraw import redrawn_observations


@pytest.fixture(scope="module")
def fit():
    return nlme.fit(one_way.OneWay(), one_way.population_of(one_way.values()), progress=False)


@pytest.fixture(scope="module")
def boot(fit):
    return nlme.bootstrap(fit, 40, key=1, tolerance=1e-11)


def test_replicates_are_the_closed_form_estimates(fit, boot):
    y, estimates = one_way.values(), boot.replicates[["mu", "omega.mu", "sd"]].to_numpy()
    compared = 0
    for weights, found, good in zip(boot.weights, estimates, boot.fits.converged, strict=True):
        try:
            mu, w2, s2 = one_way.estimates(y, weights)
        except AssertionError:
            continue
        assert good
        np.testing.assert_allclose(found, [mu, w2, np.sqrt(s2)], rtol=1e-6)
        compared += 1
    assert compared > 30


def test_statistics_are_those_of_the_replicates(fit, boot):
    mu = boot.weights @ one_way.values().mean(axis=1) / one_way.N
    assert boot.standard_errors["mu"] == pytest.approx(mu.std(ddof=1), rel=1e-6)
    assert boot.bias["mu"] == pytest.approx(mu.mean() - one_way.values().mean(), abs=1e-6)
    np.testing.assert_allclose(boot.interval(0.8).loc["mu"], np.quantile(mu, [0.1, 0.9]), rtol=1e-6)
    assert "40 replicates" in repr(boot)


def test_subjects_are_drawn_with_replacement_and_by_key(fit, boot):
    assert (boot.weights.sum(axis=1) == one_way.N).all()
    assert (boot.weights == 0).any() and (boot.weights > 1).any()
    again = nlme.bootstrap(fit, 40, key=1, tolerance=1e-11)
    np.testing.assert_array_equal(again.replicates["mu"], boot.replicates["mu"])
    assert not np.array_equal(nlme.bootstrap(fit, 40, key=2).weights, boot.weights)


def test_strata_are_resampled_within(fit):
    arm = np.array([s.covariates["arm"][0] for s in fit.population])
    weights = nlme.bootstrap(fit, 40, key=1, stratify="arm").weights
    for value in (0.0, 1.0):
        assert (weights[:, arm == value].sum(axis=1) == (arm == value).sum()).all()
        assert np.unique(weights[:, arm == value], axis=0).shape[0] > 10  # of 35 multisets of four: they really are resampled


@pytest.mark.slow
def test_parametric_replicates_are_fits_of_simulated_trials(fit):
    boot = nlme.bootstrap(fit, 40, key=5, parametric=True, tolerance=1e-11)
    import jax

    (observed,) = redrawn_observations(fit, 40, jax.random.key(5))
    assert observed.shape == (40, one_way.N, one_way.EACH)
    compared = 0
    for y, found in zip(observed, boot.replicates[["mu", "omega.mu", "sd"]].to_numpy(), strict=True):
        try:
            mu, w2, s2 = one_way.estimates(y)
        except AssertionError:
            continue
        np.testing.assert_allclose(found, [mu, w2, np.sqrt(s2)], rtol=1e-6)
        compared += 1
    assert compared > 30
    total = float(fit.model.omega.matrix[0, 0] + fit.model.sd**2)
    assert observed.var() == pytest.approx(total, rel=0.25)  # new random effects and new errors, 480 subjects


def test_failures_are_counted_and_shown(fit):
    boot = nlme.bootstrap(fit, 40, key=1, max_evaluations=2)
    assert boot.n_failed == 40
    assert list(boot.failures.values()) == [40] and "limit of evaluations" in next(iter(boot.failures))
    assert len(boot.replicates) == 40 and not boot.replicates["converged"].any()
    assert "40 of 40 replicates left out" in repr(boot)


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        (dict(replicates=1), nlme.ModelError, "at least 2"),
        (dict(replicates=2.5), nlme.ModelError, "whole number"),
        (dict(stratify="arn"), nlme.DataError, "Did you mean 'arm'"),
        (dict(stratify="arm", parametric=True), nlme.DataError, "resampled subjects"),
    ],
)
def test_what_cannot_be_bootstrapped_is_said(fit, options, error, sentence):
    with pytest.raises(error, match=sentence):
        nlme.bootstrap(fit, key=1, **options)


def test_a_penalised_fit_needs_its_penalty(fit):
    with pytest.raises(nlme.FitError, match="penalised"):
        nlme.bootstrap(dataclasses.replace(fit, penalty=0.3), key=1)


def _again(population, counts):
    """Every subject as often as it was drawn."""
    copies = [dataclasses.replace(s, id=f"{s.id}.{k}") for s, n in zip(population, counts, strict=True) for k in range(int(n))]
    return dataclasses.replace(population, subjects=tuple(copies))


def _compare_with_loop(fit, boot, rows):
    for r in rows:
        # from the estimates and no other start: theophylline has a second optimum, where absorption and elimination are exchanged
        again = _again(fit.population, boot.weights[r])
        single = nlme.fit(fit.model, again, fit.method, tolerance=1e-10, starts=0, progress=False)
        assert single.converged == boot.fits.converged[r]
        if single.converged:
            # searches that promise less than 1e-10 more are each within sqrt(2e-10) = 1.4e-5 standard errors of the optimum
            apart = np.abs(boot.fits.natural[r] - [row.value for row in single.parameters])
            assert np.all(apart <= 5e-5 * boot.standard_errors.to_numpy()), apart
            assert boot.fits.objective[r] == pytest.approx(single.objective, abs=1e-6)


@pytest.fixture(scope="module")
def phenobarbital():
    return nlme.fit(Phenobarbital(), datasets.load("phenobarbital"), progress=False)


@pytest.mark.slow
def test_a_few_replicates_against_single_fits(phenobarbital):
    boot = nlme.bootstrap(phenobarbital, 12, key=3, tolerance=1e-10)
    _compare_with_loop(phenobarbital, boot, range(3))


@pytest.mark.slow
@pytest.mark.parametrize("model", [Theophylline(), Phenobarbital()], ids=lambda model: type(model).__name__)
def test_two_hundred_replicates_against_single_fits(model):
    fit = nlme.fit(model, datasets.load(type(model).__name__.lower()), progress=False)
    boot = nlme.bootstrap(fit, 200, key=3, tolerance=1e-10)
    assert boot.n_failed < 10
    _compare_with_loop(fit, boot, np.flatnonzero(boot.fits.converged))


def test_a_parameter_that_is_not_free_stays(fit):
    u = np.repeat(np.asarray(fit.inventory.unconstrained(fit.model))[None], 2, axis=0)
    u[:, 0] += [0.05, -0.05]
    free = np.ones(u.shape, bool)
    free[:, 0] = False
    found = run_fits(fit.problem(), u, starts=fit.b, free=free, tolerance=1e-11)
    for row in found.natural:
        _, w2, s2 = one_way.estimates(one_way.values(), mu=row[0])
        np.testing.assert_allclose(row[1:], [w2, np.sqrt(s2)], rtol=1e-6)
    np.testing.assert_array_equal(found.u[:, 0], u[:, 0])


def test_its_table_and_that_of_its_fit(fit, boot, tmp_path):
    for form in ("markdown", "html", "latex", "rtf"):
        text = getattr(boot, f"to_{form}")(tmp_path / form)
        assert "omega.mu" in text.replace("\\", "") and "percentiles of" in text
    assert boot.to_csv().splitlines()[0] == "parameter,estimate,mean,median,bias,SE,lower,upper"
    shown = nlme.table(fit, intervals=boot, level=0.8)
    np.testing.assert_array_equal(shown[["lower", "upper"]], boot.interval(0.8))
    np.testing.assert_array_equal(shown["se"], boot.standard_errors)
    assert f"percentiles of {40 - boot.n_failed} of 40 replicates" in " ".join(shown.notes)


def test_without_replicates_that_converged_there_are_no_statistics(boot):
    lost = dataclasses.replace(boot, fits=dataclasses.replace(boot.fits, status=np.full_like(boot.fits.status, 2)))
    with pytest.raises(nlme.FitError, match="0 of 40 replicates converged"):
        lost.interval()
    assert "40 of 40 replicates left out" in repr(lost)


class Rate(nlme.Model):
    """Events at a constant hazard."""

    rate: nlme.Scalar = nlme.positive(0.2)

    def individual(self, eta, cov):
        return dict(rate=self.rate)

    def observe(self, ind, state, t):
        return {"event": nlme.time_to_event(ind.rate, ind.rate * t)}


def _events(times, happened):
    people = [
        nlme.Subject(i + 1, np.array([t]), dv=np.array([float(d)])) for i, (t, d) in enumerate(zip(times, happened, strict=True))
    ]
    return nlme.fit(Rate(), nlme.Population(tuple(people), ("event",)), starts=0, progress=False)


def test_times_of_events_are_not_redrawn_at_the_records_they_gave():
    """At the records of others' events the error would be half as large again."""
    random = np.random.default_rng(2)
    drawn = random.exponential(5.0, 40)
    fit = _events(np.minimum(drawn, 10.0), drawn < 10.0)
    with pytest.raises(nlme.DataError, match="end where an event came"):
        nlme.bootstrap(fit, 10, key=1, parametric=True, progress=False)


def test_what_cannot_be_resampled_is_said():
    """One subject; who is alone in a stratum; a parameter at its bound."""
    with pytest.raises(nlme.DataError, match="there is one"):
        nlme.bootstrap(_events([2.0], [1]), 10, key=1, progress=False)
    people = [
        nlme.Subject(i, np.array([t]), dv=np.array([1.0]), covariates={"site": np.array([float(i == 7)])})
        for i, t in enumerate([1.0, 2.0, 4.0, 1.5, 6.0, 3.0, 2.5, 8.0])
    ]
    covariates = {"site": nlme.data.covariates.CovariateInfo("site")}
    fit = nlme.fit(Rate(), nlme.Population(tuple(people), ("event",), covariates), starts=0, progress=False)
    (said,) = nlme.bootstrap(fit, 10, key=1, stratify="site", progress=False).messages
    assert said.startswith("Subject 7 had no others to be exchanged with")
    never = nlme.bootstrap(_events(np.arange(1.0, 9.0), np.zeros(8)), 10, key=1, progress=False)
    assert any(message.startswith("rate at a bound in the fit") for message in never.messages)
