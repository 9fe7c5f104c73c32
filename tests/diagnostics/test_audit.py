"""The audit: each check seen to pass where all is well and to speak where something is wrong."""

from __future__ import annotations

import dataclasses

import numpy as np
import one_way
import pandas as pd
import pytest
from learned_level import LearnedLevel

import nlme
from nlme.neural.network import build


@pytest.fixture(scope="module")
def population():
    return one_way.population_of(one_way.values())


@pytest.fixture(scope="module")
def fit(population):
    return nlme.fit(one_way.OneWay(), population, progress=False)


@pytest.mark.slow
def test_a_sound_fit_has_no_problem(fit):
    audit = nlme.audit(fit, starts=3, samples=200)
    assert audit.problems == []
    assert set(audit.table["verdict"]) <= {"fine", "remark"}
    assert audit["exact gradient"].figure < 1e-6
    assert audit["tolerances"].figure == pytest.approx(0.0, abs=1e-9)
    assert audit["approximation"].figure == pytest.approx(0.0, abs=0.3)  # FOCEI is exact here
    assert audit["several starts"].sentence.startswith("3 of 3")
    assert "R" in audit["information"].sentence


@pytest.mark.slow
@pytest.mark.parametrize(("points", "verdict"), [(1, "remark"), (25, "fine")])
def test_quadrature_is_judged_by_importance_sampling(points, verdict):
    """Binary data of people who differ much: the modes' curvature says little, many nodes say all."""

    class Often(nlme.Model):
        level: nlme.Scalar = nlme.real(0.5)
        omega: nlme.Covariance = nlme.covariance(level=9.0)

        def individual(self, eta, cov):
            return dict(level=self.level + eta.level)

        def observe(self, ind, state, t):
            return {"y": nlme.binary(logit=ind.level)}

    random = np.random.default_rng(3)
    seen = [(random.random(3) < 1 / (1 + np.exp(-0.5 - 3.0 * random.normal()))).astype(float) for _ in range(60)]
    people = nlme.Population(tuple(nlme.Subject(id=i + 1, time=np.arange(3.0), dv=y) for i, y in enumerate(seen)))
    fit = nlme.fit(Often(), people, nlme.AGQ(points), progress=False)
    check = nlme.audit(fit, starts=0, samples=2000)["approximation"]
    assert check.verdict == verdict, check.sentence


def test_quick_checks_come_with_every_fit(fit):
    assert [check.name for check in fit.audit.checks if check.verdict == "problem"] == []
    assert len(fit.audit.table) == 10
    assert repr(fit.audit).splitlines()[0] == fit.verdict == "Converged; no problems found by the quick checks."
    assert "scores" in dataclasses.replace(fit).audit["information"].sentence  # before the covariance was asked for


def test_a_search_cut_short_is_a_problem_and_comes_first(population):
    audit = nlme.fit(one_way.OneWay(mu=5.0), population, max_evaluations=2, progress=False).audit
    assert audit["search"].verdict == "problem"
    assert audit["gradient at the end"].verdict == "problem" and audit["gradient at the end"].figure > 0.1
    verdicts = audit.table["verdict"].tolist()
    assert verdicts == sorted(verdicts, key=["problem", "remark", "not judged", "fine"].index)
    assert repr(audit).splitlines()[2].strip().startswith("!")


def test_a_flat_direction_is_named(population):
    class Twice(one_way.OneWay):
        """mu and more only appear as their sum."""

        more: nlme.Scalar = nlme.real(1.0)

        def individual(self, eta, cov):
            return dict(level=self.mu + self.more + eta.mu)

    check = nlme.fit(Twice(), population, progress=False).audit["information"]
    assert check.verdict == "problem"
    assert "mu and more" in check.sentence or "more and mu" in check.sentence


def test_random_effects_away_from_zero_are_seen(population):
    check = nlme.fit(one_way.OneWay(mu=6.0), population, fixed="mu", progress=False).audit["mean of the random effects"]
    assert check.verdict == "remark" and check.figure < 0.01 and "mu has mean" in check.sentence


def test_a_variance_at_zero_is_at_its_bound():
    y = one_way.values()
    y = y - y.mean(axis=1, keepdims=True) + 10.0 + 0.01 * np.arange(one_way.N)[:, None]
    fit = nlme.fit(one_way.OneWay(), one_way.population_of(y), progress=False)
    check = fit.audit["bounds"]
    assert check.verdict == "remark" and "omega.mu" in check.sentence and "no variability of mu" in check.sentence
    assert fit.converged and check.sentence in fit.verdict


def test_an_optimum_missed_is_found_by_other_starts(fit):
    worse = dataclasses.replace(fit, values=fit.values + 1.0)
    found = nlme.multistart(worse, 3, key=1)
    assert found.gain == pytest.approx(one_way.N, abs=1e-3)
    assert "lower" in found.verdict


class Quadratic(nlme.Model):
    a: nlme.Scalar = nlme.real(10.0)
    b: nlme.Scalar = nlme.real(2.0)
    c: nlme.Scalar = nlme.real(0.5)
    omega: nlme.Covariance = nlme.covariance(("a", "b", "c"), [[1.0], [0.1, 0.5], [0.1, 0.1, 0.3]])
    sd: nlme.Scalar = nlme.positive(0.5)

    def individual(self, eta, cov):
        return dict(a=self.a + eta.a, b=self.b + eta.b, c=self.c + eta.c)

    def observe(self, ind, state, t):
        return {"y": nlme.additive(ind.a + ind.b * t + ind.c * t**2, self.sd)}


@pytest.mark.slow
def test_a_covariance_of_three_effects_of_which_two_vary_is_an_edge_and_no_flatness():
    random, t = np.random.default_rng(3), np.array([0.0, 0.5, 1.0, 1.5, 2.0, 3.0])
    made = []
    for i in range(30):
        x, z = random.normal(size=2)
        y = 10 + x + (2 + 0.7 * z) * t + (0.5 + 0.4 * x - 0.3 * z) * t**2 + 0.5 * random.normal(size=6)
        made.append(nlme.Subject(id=i, time=t, dv=y, evid=np.zeros(6, int)))
    fit = nlme.fit(Quadratic(), nlme.Population(tuple(made)), progress=False)
    assert np.linalg.eigvalsh(np.asarray(fit.model.omega.correlation))[0] < 1e-5
    assert fit.converged and "The covariance of a, b and c is singular" in fit.verdict
    assert fit.starts.reached > 1


class Shifted(LearnedLevel):
    """With a straight line for its network."""

    net: nlme.MLP = nlme.mlp(inputs=("x",), outputs=1, width=1, depth=0, key=0)


def test_a_constant_that_a_parameter_and_a_network_share_is_said():
    random = np.random.default_rng(1)
    x, own = np.linspace(-1, 1, 20), 0.4 * random.normal(size=20)
    rows = [(i + 1, t, 1 + 0.5 * x[i] + own[i] + 0.3 * random.normal(), x[i]) for i in range(20) for t in (1.0, 2.0)]
    people = nlme.read_nonmem(pd.DataFrame(rows, columns=["ID", "TIME", "DV", "x"]), covariates=["x"])
    fit = nlme.fit(Shifted(), people, starts=0, progress=False)
    assert any(
        "level and net.biases[0][0] together only" in m or "net.biases[0][0] and level together only" in m for m in fit.messages
    )
    penalised = nlme.fit(Shifted(), people, penalty=nlme.L2(0.5), starts=0, progress=False)
    assert "as far as the penalty lets it" in penalised.audit["information"].sentence
    held = nlme.fit(Shifted(), people, fixed=["level"], starts=0, progress=False)
    without = Shifted(net=build(inputs=("x",), outputs=1, width=2, depth=0, key=1, constant=False))
    about = nlme.fit(without, people, penalty=nlme.L2(0.5), starts=0, progress=False)
    assert not any("together only" in message for one in (held, about) for message in one.messages)
    assert about.covariance.standard_errors["level"] < 0.2 < penalised.covariance.standard_errors["level"]


def test_a_network_that_is_not_shown_to_pay_is_a_remark():
    random = np.random.default_rng(1)
    rows = [(i + 1, t, random.normal(), float(i)) for i in range(8) for t in (1.0, 2.0)]
    people = nlme.read_nonmem(pd.DataFrame(rows, columns=["ID", "TIME", "DV", "x"]), covariates=["x"])
    fit = nlme.fit(Shifted(), people, fixed=["level", "net"], starts=0, progress=False)
    for words, said in (
        ("The networks are not shown to pay: 0.1 (± 0.2) lower.", True),
        ("The networks pay: 9 (± 1) lower.", False),
    ):
        assert any(words in message for message in dataclasses.replace(fit, validation=(words,)).messages) == said
