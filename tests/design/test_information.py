"""Information matrices: published numbers of PFIM and PopED, exact ones of linear models, what is refused."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nlme
from nlme import Scalar
from nlme.data.subject import Subject
from nlme.errors import DataError, ModelError


class Warfarin(nlme.Model):
    """Warfarin by mouth, the example of Nyberg et al. (2015), doi:10.1111/bcp.12352."""

    cl: Scalar = nlme.positive(0.15, unit="L/h")
    v: Scalar = nlme.positive(8.0, unit="L")
    ka: Scalar = nlme.positive(1.0, unit="1/h")
    omega: nlme.Covariance = nlme.covariance(cl=0.07, v=0.02, ka=0.6)
    prop: Scalar = nlme.positive(0.1)

    def individual(self, eta, cov):
        return dict(cl=self.cl * jnp.exp(eta.cl), v=self.v * jnp.exp(eta.v), ka=self.ka * jnp.exp(eta.ka))

    def dynamics(self, ind):
        return nlme.pk.OneCompartmentOral(cl=ind.cl, v=ind.v, ka=ind.ka)

    def observe(self, ind, state, t):
        return {"conc": nlme.proportional(state.central / ind.v, self.prop)}


class Mean(nlme.Model):
    """A number that differs from subject to subject, seen with an error."""

    mu: Scalar = nlme.real(3.0)
    omega: nlme.Covariance = nlme.covariance(mu=0.5)
    sd: Scalar = nlme.positive(0.8)

    def individual(self, eta, cov):
        return dict(mu=self.mu + eta.mu)

    def observe(self, ind, state, t):
        return {"y": nlme.additive(ind.mu, self.sd)}


TIMES = [0.5, 1, 2, 6, 24, 36, 72, 120]
GROUP = nlme.Group(32, TIMES, nlme.dose(70))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "published"),
    [
        # RSE %, of the residual error as a variance; PopED, tests/testthat/test_evaluate.fim.R, commit 2b198893
        ("reduced", [4.7, 2.8, 13.9, 25.6, 30.3, 25.8, 11.2]),
        ("full", [3.6, 2.6, 4.8, 26.3, 30.9, 26.5, 12.4]),
    ],
)
def test_warfarin_as_published(form, published):
    found = nlme.information(Warfarin(), GROUP, form=form).rse.to_numpy() * np.array([1, 1, 1, 1, 1, 1, 2])
    assert np.round(found, 1) == pytest.approx(published, abs=1e-9)


def test_subjects_of_a_data_set_are_a_design_and_groups_add_up():
    times = [1, 2, 3, 4]
    one = nlme.information(Mean(), nlme.Group(32, times))
    two = nlme.information(Mean(), nlme.Design([nlme.Group(30, times), nlme.Group(2, times)]))
    assert np.allclose(one.values, two.values, rtol=1e-12) and two.efficiency(one) == pytest.approx(1.0)
    twice = nlme.information(Mean(), nlme.Group(64, times))
    assert twice.efficiency(one) == pytest.approx(2.0) and np.allclose(one.rse / twice.rse, np.sqrt(2))
    observed = nlme.Population([Subject(i, times, dv=[0.1, -2.0, 7.0, 1.0], cens=[0, 1, 0, 0]) for i in range(32)], ("y",))
    assert np.allclose(nlme.information(Mean(), observed).values, one.values, rtol=1e-12)


@pytest.mark.parametrize("form", ["reduced", "full"])
@pytest.mark.parametrize("linearisation", [dict(linearisation="FO"), dict(linearisation="FOCE", draws=3, key=jax.random.key(1))])
def test_a_linear_model_is_exact(form, linearisation):
    """n values of each of N subjects: V = sd^2 I + w J, eigenvalues sd^2 (n - 1 times) and sd^2 + n w."""
    n, subjects, w, sd = 4, 10, 0.5, 0.8
    found = nlme.information(Mean(), nlme.Group(subjects, [1, 2, 3, 4]), form=form, **linearisation).matrix
    own, whole = sd**2, sd**2 + n * w
    exact = {
        ("mu", "mu"): n / whole,
        ("omega.mu", "omega.mu"): 0.5 * n**2 / whole**2,
        ("omega.mu", "sd"): 0.5 * n * 2 * sd / whole**2,
        ("sd", "sd"): 0.5 * 4 * sd**2 * ((n - 1) / own**2 + 1 / whole**2),
        ("mu", "sd"): 0.0,
    }
    for (a, b), value in exact.items():
        assert found.loc[a, b] == pytest.approx(subjects * value, rel=1e-10, abs=1e-12), (a, b)


def test_what_a_design_does_not_determine_is_said():
    found = nlme.information(Mean(), nlme.Group(10, [1]))
    assert found.standard_errors.isna().all() and np.isneginf(found.log_det)
    assert "omega.mu" in found.messages[0] and "sd" in found.messages[0] and "mu" in repr(found)
    held = nlme.information(Mean(), nlme.Group(10, [1]), fixed="sd")
    assert held.names == ["mu", "omega.mu"] and held.standard_errors["mu"] == pytest.approx(np.sqrt((0.64 + 0.5) / 10))
    with pytest.raises(ModelError, match="does not determine"):
        nlme.information(Mean(), nlme.Group(10, [1, 2])).efficiency(found)


def test_the_table_is_read_and_written():
    found = nlme.information(Mean(), nlme.Group(10, [1, 2]))
    assert list(found.table.columns) == ["value", "unit", "se", "rse"] and "mu" in found.to_csv()
    assert "RSE %" in repr(found) and "10 subjects" in repr(found)


class Growing(Mean):
    def observe(self, ind, state, t):
        return {"y": nlme.proportional(ind.mu * t, self.sd)}


class Count(Mean):
    def observe(self, ind, state, t):
        return {"y": nlme.poisson(jnp.exp(ind.mu))}


class Linked(Mean):
    def observe(self, ind, state, t):
        return {"y": nlme.ar1(nlme.additive(ind.mu, self.sd), 0.5)}


class Weighed(Mean):
    covariates = {"wt": "kg"}

    def individual(self, eta, cov):
        return dict(mu=self.mu * cov.wt / 70 + eta.mu)


@pytest.mark.parametrize(
    ("model", "design", "options", "words"),
    [
        (Count(), nlme.Group(10, [1, 2]), {}, "poisson|normal error"),
        (Linked(), nlme.Group(10, [1, 2]), {}, "depend on one another"),
        (Weighed(), nlme.Group(10, [1, 2]), {}, "wt"),
        (Mean(), nlme.Group(10, {"z": [1, 2]}), {}, "endpoint 'z'.*y"),
        (Mean(), nlme.Group(10, [1, 2]), dict(form="block"), "reduced"),
        (Mean(), nlme.Group(10, [1, 2]), dict(linearisation="SAEM"), "FOCE"),
        (Mean(), nlme.Group(10, [1, 2]), dict(linearisation="FOCE"), "key="),
        (Mean(), nlme.Group(10, [1, 2]), dict(fixed=["mu", "omega", "sd"]), "nothing to estimate"),
        (Mean(), nlme.Group(10, [1, 2]), dict(fixed="nu"), "mu"),
        (Mean(), [1, 2, 3], {}, "Design"),
        (Growing(), nlme.Group(10, [0, 1, 2]), {}, "time 0 of 1 has no distribution"),
    ],
)
def test_refusals(model, design, options, words):
    with pytest.raises((DataError, ModelError), match=words):
        nlme.information(model, design, **options)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: nlme.Group(0, [1]), "1 or more"),
        (lambda: nlme.Group(2.5, [1]), "1 or more"),
        (lambda: nlme.Group(3, []), "no sample"),
        (lambda: nlme.Group(3, [-1]), "from 0 on"),
        (lambda: nlme.Group(3, "now"), "numbers"),
        (lambda: nlme.Group(3, [1], 100), "regimen"),
        (lambda: nlme.Group(3, [1], covariates={"sex": "f"}), "sex"),
        (lambda: nlme.Design([]), "groups"),
        (lambda: nlme.Design([nlme.Group(3, [1], name="a"), nlme.Group(3, [1], name="a")]), "called 'a'"),
        (lambda: nlme.Design([nlme.Group(3, [1]), nlme.Group(3, [1], covariates={"wt": 70})]), "wt"),
    ],
)
def test_designs_that_are_none(make, words):
    with pytest.raises(DataError, match=words):
        make()


class Decay(nlme.Model):
    """100 / v exp(-k t) with k log-normal."""

    k: Scalar = nlme.positive(0.25)
    v: Scalar = nlme.positive(10.0)
    omega: nlme.Covariance = nlme.covariance(k=0.2)
    prop: Scalar = nlme.positive(0.1)

    def individual(self, eta, cov):
        return dict(k=self.k * jnp.exp(eta.k), v=self.v)

    def observe(self, ind, state, t):
        return {"conc": nlme.proportional(100 / ind.v * jnp.exp(-ind.k * t), self.prop)}


@pytest.mark.parametrize("form", ["reduced", "full"])
@pytest.mark.parametrize("options", [{}, dict(linearisation="FOCE", draws=4, key=3)])
def test_a_nonlinear_model_by_central_differences(form, options):
    """Mean and variance written out: E = f(eta^) - f'(eta^) eta^, V = f' w f' + diag((prop f)^2), at eta^ held."""
    times = np.array([0.5, 2.0, 7.0])
    found = nlme.information(Decay(), nlme.Group(7, times), form=form, **options)

    def moments(p, eta):
        k, v, w, prop = p
        f = 100 / v * np.exp(-k * np.exp(eta) * times)
        slope = -k * np.exp(eta) * times * f
        return f - slope * eta, w * np.outer(slope, slope) + np.diag((prop * f) ** 2)

    p = np.array([0.25, 10.0, 0.2, 0.1])
    exact = np.zeros((4, 4))
    for (eta,) in found.asked.etas:
        steps = 1e-5 * np.diag(p)
        pairs = [(moments(p + h, eta), moments(p - h, eta), 2 * h.sum()) for h in steps]
        d_e = [(up[0] - down[0]) / size for up, down, size in pairs]
        d_v = [(up[1] - down[1]) / size * (form == "full" or k > 1) for k, (up, down, size) in enumerate(pairs)]
        inverse = np.linalg.inv(moments(p, eta)[1])
        for a in range(4):
            for b in range(4):
                exact[a, b] += d_e[a] @ inverse @ d_e[b] + 0.5 * np.trace(inverse @ d_v[a] @ inverse @ d_v[b])
    exact *= 7 / len(found.asked.etas)
    scale = np.sqrt(np.diagonal(exact))
    assert np.allclose(found.values / np.outer(scale, scale), exact / np.outer(scale, scale), atol=1e-7)
