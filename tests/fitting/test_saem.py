"""SAEM: the maximum where it is known, the same by seed, what is found to shift random effects, interrupts and refusals."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nlme
from nlme.fitting.saem import iteration, search
from nlme.language.layout import lay_out
from nlme.parameters.inventory import Inventory

QUICK = dict(exploration=(100, 100), smoothing=(60, 60), annealing=20, samples=20)


class Line(nlme.Model):
    """Linear in its random effects: FOCEI is exact, with an effect of a covariate and a correlated pair."""

    level: nlme.Scalar = nlme.real(1.0)
    slope: nlme.Scalar = nlme.real(-0.1)
    effect: nlme.Scalar = nlme.real(0.1)
    sd: nlme.Scalar = nlme.positive(1.0)
    omega: nlme.Covariance = nlme.covariance(level=1.0, slope=0.3, correlation={("level", "slope"): 0.1})
    covariates = {"x": ""}

    def individual(self, eta, cov):
        return dict(level=self.level + self.effect * cov.x + eta.level, slope=self.slope + eta.slope)

    def observe(self, ind, state, t):
        return {"y": nlme.additive(ind.level + ind.slope * t, self.sd)}


class Oral(nlme.Model):
    """ka has no random effect; the typical volume also stands in the absorption; q's is a probability."""

    cl: nlme.Scalar = nlme.positive(2.0)
    v: nlme.Scalar = nlme.positive(30.0)
    ka: nlme.Scalar = nlme.positive(1.5)
    exponent: nlme.Scalar = nlme.real(0.75)
    f: nlme.Scalar = nlme.probability(0.6)
    omega: nlme.Covariance = nlme.covariance(cl=0.1, v=0.1, f=0.2)
    add: nlme.Scalar = nlme.positive(0.3)
    covariates = {"x": ""}

    def individual(self, eta, cov):
        logit = jnp.log(self.f / (1 - self.f)) + eta.f
        cl = self.cl * jnp.exp(self.exponent * cov.x + eta.cl)
        return dict(cl=cl, v=self.v * jnp.exp(eta.v), ka=self.ka * self.v / 30.0, f=1 / (1 + jnp.exp(-logit)))

    def observe(self, ind, state, t):
        profile = jnp.exp(-ind.cl / ind.v * t) - jnp.exp(-ind.ka * t)
        return {"y": nlme.additive(100 * ind.f / ind.v * profile, self.add)}


@pytest.fixture(scope="module")
def population():
    random = np.random.default_rng(5)
    subjects = []
    for i in range(40):
        time, x = np.sort(random.uniform(0, 4, 5)), random.normal()
        level, slope = random.multivariate_normal([2.0 + 0.5 * x, -0.3], [[0.6, 0.1], [0.1, 0.2]])
        dv = level + slope * time + 0.5 * random.normal(size=5)
        subjects.append(nlme.Subject(id=i + 1, time=time, dv=dv, covariates={"x": np.full(5, x)}))
    return nlme.Population(tuple(subjects))


@pytest.mark.slow
def test_the_maximum_of_a_linear_model(population):
    exact = nlme.fit(Line(), population)
    fit = nlme.fit(Line(), population, nlme.SAEM(chains=5, smoothing=(300, 300), samples=20))
    assert fit.by(nlme.FOCEI()).objective == pytest.approx(exact.objective, abs=0.1)  # it is exact here
    assert fit.undetermined == ()
    assert nlme.evaluate(Line(), population).objective > exact.objective + 20


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_parameter_of_a_linear_model(population, seed):
    exact = nlme.fit(Line(), population)
    fit = nlme.fit(Line(), population, nlme.SAEM(seed=seed))
    assert fit.converged
    for row, truth in zip(fit.parameters, exact.parameters, strict=True):
        assert row.value == pytest.approx(truth.value, rel=0.02), row.name


class Visits(nlme.Model):
    """A level that also varies between occasions, and one that shifts on the second."""

    level: nlme.Scalar = nlme.real(3.0)
    second: nlme.Scalar = nlme.real(0.0)
    slope: nlme.Scalar = nlme.real(0.1)
    omega: nlme.Covariance = nlme.covariance(base=0.5, slope=0.1)
    visit: nlme.Covariance = nlme.covariance(base_visit=0.5, per="occasion")
    sd: nlme.Scalar = nlme.positive(1.0)
    covariates = {"late": ""}

    def individual(self, eta, cov):
        return dict(base=self.level + self.second * cov.late + eta.base + eta.base_visit, slope=self.slope + eta.slope)

    def observe(self, ind, state, t):
        return {"y": nlme.additive(ind.base + ind.slope * t, self.sd)}


@pytest.fixture(scope="module")
def visits():
    """60 subjects on three occasions, a quarter of them only on two."""
    random = np.random.default_rng(1)
    subjects = []
    for i in range(60):
        occasion = np.repeat([1, 2, 3] if i % 4 else [1, 2], 3)
        t = np.arange(len(occasion)) * 1.0
        own, slope, by_visit = 0.8 * random.normal(), 0.3 + 0.2 * random.normal(), 0.6 * random.normal(size=3)
        y = 5.0 + 0.7 * (occasion == 2) + own + by_visit[occasion - 1] + slope * t + 0.4 * random.normal(size=len(t))
        late = (occasion == 2) * 1.0
        subjects.append(nlme.Subject(id=i + 1, time=t, dv=y, occasion=occasion, evid=np.zeros(len(t)), covariates={"late": late}))
    return nlme.Population(tuple(subjects))


@pytest.mark.slow
def test_occasions(visits):
    """A linear model, where FO is exact: every parameter within 2 %.  What belongs to all occasions is found to shift the
    subject's effects, what belongs to one the occasions'.
    """
    exact = nlme.fit(Visits(), visits, nlme.FO())
    fit = nlme.fit(Visits(), visits, nlme.SAEM())
    assert fit.converged
    for row, truth in zip(fit.parameters, exact.parameters, strict=True):
        assert row.value == pytest.approx(truth.value, rel=0.02), row.name
    inventory, layout = Inventory(Visits()), lay_out(Visits(), visits)
    parts = search.parts_of(nlme.SAEM(), layout, inventory, Visits())
    assert {inventory.names[k] for k in parts.shifts} == {"level", "second", "slope"}


@pytest.mark.slow
def test_both_phases_are_one_program(population, monkeypatch):
    """Exploration, annealing, smoothing and the end at held parameters differ in numbers; a second fit compiles nothing at all."""
    traced, real = [], iteration.iterate
    monkeypatch.setattr(iteration, "iterate", lambda *args: traced.append(1) or real(*args))
    nlme.fit(Line(sd=1.1), population, nlme.SAEM(chains=3, **QUICK))
    assert len(traced) == 1
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, *_, **__: compiled.append(name) if "compile" in name else None
    )
    nlme.fit(Line(sd=1.2), population, nlme.SAEM(chains=3, **QUICK))
    assert len(traced) == 1 and not [name for name in compiled if "backend_compile" in name]


@pytest.mark.slow
def test_same_seed_same_numbers(population):
    first, again, other = (nlme.fit(Line(), population, nlme.SAEM(seed=s, **QUICK)) for s in (1, 1, 2))
    assert first.history["level"].tolist() == again.history["level"].tolist()
    assert first.model.level == again.model.level != other.model.level


@pytest.mark.slow
def test_fixed_parameters_stay(population):
    fit = nlme.fit(Line(), population, nlme.SAEM(**QUICK), fixed=["omega", "level"])
    np.testing.assert_allclose(fit.model.omega.matrix, Line().omega.matrix, rtol=1e-15)  # made anew from standard deviations
    assert fit.model.level == 1.0 and fit.model.slope != Line().slope


@pytest.mark.parametrize(
    ("model", "shifts", "residual"),
    [(Line(), {"level", "slope", "effect"}, {"sd"}), (Oral(), {"cl", "exponent", "f"}, {"add"})],
    ids=["normal", "log-normal and logit-normal"],
)
def test_what_shifts_random_effects_is_found(model, shifts, residual, population):
    inventory, layout = Inventory(model), lay_out(model, population)
    parts = search.parts_of(nlme.SAEM(), layout, inventory, model)
    names = inventory.names
    assert {names[k] for k in parts.shifts} == shifts
    assert {names[k] for k, only in zip(parts.others, parts.residual, strict=True) if only} == residual
    assert {names[k] for k in parts.omega} == {n for n in names if n.startswith("omega")}


@pytest.mark.slow
def test_an_interrupt_returns_what_there_is(population, monkeypatch):
    calls, real = [], search.advance

    def interrupted(*args):
        calls.append(1)
        if len(calls) > 3:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(search, "advance", interrupted)
    fit = nlme.fit(Line(), population, nlme.SAEM(**QUICK))
    assert len(fit.history) == 30 and not fit.converged and "interrupted" in fit.verdict
    assert fit.model.level == pytest.approx(fit.history["level"][-25:].mean())


def test_the_error_of_a_mean_of_independent_directions():
    """Directions of a known covariance V: the mean of K has V / K, and the loss is tr(I V) / K, whatever the coordinates."""
    random = np.random.default_rng(3)
    root, scores = random.normal(size=(4, 4)), random.normal(size=(7, 4))
    information = scores.T @ scores
    directions, change = random.normal(size=(40, 3000, 4)) @ root.T, random.normal(size=(4, 4))
    losses = [search.expected_loss(search.batch_errors(x), information) for x in directions]
    assert np.mean(losses) == pytest.approx(np.trace(information @ root @ root.T) / 3000, rel=0.1)
    back = np.linalg.inv(change)
    moved = search.expected_loss(search.batch_errors(directions[0] @ change.T), back.T @ information @ back)
    assert moved == pytest.approx(losses[0], rel=1e-9)


class Still(Line):
    def random(self):
        return None

    def individual(self, eta, cov):
        return dict(level=self.level, slope=self.slope)


def test_refusals(population, tmp_path):
    with pytest.raises(nlme.ModelError, match="SAEM draws random effects"):
        nlme.fit(Still(), population, nlme.SAEM(), fixed=["omega", "effect"])
    with pytest.raises(nlme.ModelError, match="checkpoint= is for fits by nlme.SAEM"):
        nlme.fit(Line(), population, nlme.FOCEI(), checkpoint=tmp_path / "x")
    with pytest.raises(nlme.ModelError, match="exponent is above 1/2"):
        nlme.SAEM(exponent=0.5)
    (tmp_path / "x").write_bytes(b"no checkpoint")
    with pytest.raises(nlme.FitError, match="is not a checkpoint"):
        nlme.fit(Line(), population, nlme.SAEM(), checkpoint=tmp_path / "x")


@pytest.mark.slow
def test_a_checkpoint_of_another_fit_is_refused(population, tmp_path):
    nlme.fit(Line(), population, nlme.SAEM(**QUICK), checkpoint=tmp_path / "x")
    with pytest.raises(nlme.FitError, match="another fit"):
        nlme.fit(Line(), population, nlme.SAEM(seed=5, **QUICK), checkpoint=tmp_path / "x")
