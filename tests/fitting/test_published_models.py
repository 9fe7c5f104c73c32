"""The models that ship with the library, on the data sets that ship with it, against what others published for them."""

from __future__ import annotations

import dataclasses
import importlib
import math

import jax.numpy as jnp
import numpy as np
import pytest

import nlme
from nlme import datasets
from nlme.language.layout import lay_out
from nlme.language.model import covariate_units

NAMES = ["theophylline", "phenobarbital", "indomethacin", "quinidine", "remifentanil"]


def published(name: str):
    return getattr(importlib.import_module(f"nlme.models.{name}"), name.capitalize())()


@pytest.mark.parametrize("name", NAMES)
def test_every_number_has_an_origin(name):
    """The docstring says reference, population, units, and has a line of origin for every parameter."""
    text = importlib.import_module(f"nlme.models.{name}").__doc__
    for part in ("Reference", "Population", "Units", "| origin"):
        assert part in text
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("|")]
    listed = {word for cell in cells for word in cell.replace(",", " ").split()}
    for field in dataclasses.fields(published(name)):
        assert field.name in listed or f"{field.name}.cl" in listed, f"{field.name} is not in the table of origin"


@pytest.mark.parametrize("name", NAMES)
def test_fits_its_data(name):
    """Every name, unit and compartment is there; ``lay_out`` refuses what is not."""
    population = datasets.load(name)
    layout = lay_out(published(name), population)
    assert layout.n_observations == population.n_observations
    for covariate, unit in covariate_units(published(name)).items():
        assert (population.covariates[covariate].unit or "") == unit


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_describes_its_data(name):
    """At the published values every mode is found, and the weighted residuals have about the size that they should have."""
    found = nlme.evaluate(published(name), datasets.load(name), nlme.FOCEI())
    assert found.subjects.converged.all()
    assert 0.7 < np.std(found.predictions.CWRES) < 1.5


@pytest.fixture(scope="module")
def theophylline():
    return nlme.fit(published("theophylline"), datasets.load("theophylline"), nlme.FOCEI(), progress=False)


def test_theophylline(theophylline):
    """Theophylline as shipped with R, combined error with variances added."""
    assert theophylline.converged
    assert theophylline.objective == pytest.approx(104.322, abs=0.002)
    found = {row.name: row.value for row in theophylline.parameters}
    expected = {"ka": 1.480, "cl": 2.786, "v": 32.00, "add": 0.275, "prop": 0.134}
    expected |= {"omega.ka": 0.391, "omega.cl": 0.0646, "omega.v": 0.0158}
    assert found == pytest.approx(expected, rel=0.003)


@pytest.mark.slow
def test_phenobarbital():
    """NONMEM 7.4.2, FOCE with interaction, the same model: 586.2760563 (pharmpy's pheno_real)."""
    fit = nlme.fit(published("phenobarbital"), datasets.load("phenobarbital"), nlme.FOCEI(), progress=False)
    assert fit.converged
    assert fit.objective == pytest.approx(586.2760563, abs=0.001)
    found = {row.name: row.value for row in fit.parameters}
    expected = {"cl": 0.00469555, "v": 0.984258, "asphyxia": 0.15892, "prop": math.sqrt(0.013241)}
    assert found == pytest.approx(expected | {"omega.cl": 0.0293508, "omega.v": 0.027906}, rel=0.005)


# R package nlme 3.1, output of its book scripts (tests/extras/scripts.Rout.save; three digits are printed): Lindstrom & Bates'
# likelihood is FOCE's when the error is additive.  The printed digits of the parameters leave a few tenths open.


class Biexponential(nlme.Model):
    """fm1Indom.nlme (ch06.R): random effects on A1, lrc1 and A2."""

    a1: nlme.Scalar = nlme.positive(2.828)
    lrc1: nlme.Scalar = nlme.real(0.774)
    a2: nlme.Scalar = nlme.positive(0.461)
    lrc2: nlme.Scalar = nlme.real(-1.344)
    omega: nlme.Covariance = nlme.covariance(a1=0.571**2, lrc1=0.158**2, a2=0.112**2)
    sd: nlme.Scalar = nlme.positive(0.0815)

    def individual(self, eta, cov):
        return dict(a1=self.a1 + eta.a1, k1=jnp.exp(self.lrc1 + eta.lrc1), a2=self.a2 + eta.a2, k2=jnp.exp(self.lrc2))

    def dynamics(self, ind):
        # the bolus of 25 decays at k1; the second exponential is written out in `observe`
        return nlme.pk.OneCompartment(cl=ind.k1, v=jnp.asarray(1.0))

    def observe(self, ind, state, t):
        return {"conc": nlme.additive(ind.a1 * state.central / 25.0 + ind.a2 * jnp.exp(-ind.k2 * t), self.sd)}


class Phenobarb(nlme.Model):
    """fm1Pheno.nlme (ch06.R)."""

    lcl: nlme.Scalar = nlme.real(-5.093)
    lv: nlme.Scalar = nlme.real(0.343)
    omega: nlme.Covariance = nlme.covariance(cl=0.44**2, v=0.45**2)
    sd: nlme.Scalar = nlme.positive(2.79)

    def individual(self, eta, cov):
        return dict(cl=jnp.exp(self.lcl + eta.cl), v=jnp.exp(self.lv + eta.v))

    def dynamics(self, ind):
        return nlme.pk.OneCompartment(cl=ind.cl, v=ind.v)

    def observe(self, ind, state, t):
        return {"conc": nlme.additive(state.central / ind.v, self.sd)}


class QuinidineBook(nlme.Model):
    """fm2Quin.nlme (ch08.R): steady state, multiple doses and a covariate that varies in time."""

    lcl: nlme.Scalar = nlme.real(3.12)
    glyco: nlme.Scalar = nlme.real(-0.50)
    lv: nlme.Scalar = nlme.real(5.27)
    lka: nlme.Scalar = nlme.real(-0.84)
    omega: nlme.Covariance = nlme.covariance(cl=0.271**2)
    sd: nlme.Scalar = nlme.positive(0.651)
    covariates = {"glyco": "g/L"}

    def individual(self, eta, cov):
        cl = jnp.exp(self.lcl + self.glyco * cov.glyco + eta.cl)
        return dict(cl=cl, v=jnp.exp(self.lv), ka=jnp.exp(self.lka))

    def dynamics(self, ind):
        return nlme.pk.OneCompartmentOral(cl=ind.cl, v=ind.v, ka=ind.ka)

    def observe(self, ind, state, t):
        return {"conc": nlme.additive(state.central / ind.v, self.sd)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "name", "log_likelihood", "tolerance"),
    [
        (Biexponential(), "indomethacin", 54.6, 0.06),
        (Phenobarb(), "phenobarbital", -505.0, 0.6),
        pytest.param(QuinidineBook(), "quinidine", -439.0, 0.5, marks=pytest.mark.slow),
    ],
    ids=["indomethacin", "phenobarbital", "quinidine"],
)
def test_log_likelihood_of_r_nlme(model, name, log_likelihood, tolerance):
    found = nlme.evaluate(model, datasets.load(name), nlme.FOCE())
    assert -0.5 * found.objective_full == pytest.approx(log_likelihood, abs=tolerance)


@pytest.fixture(scope="module")
def remifentanil():
    return nlme.fit(published("remifentanil"), datasets.load("remifentanil"), nlme.FOCEI(), progress=False)


@pytest.mark.slow
def test_modes_that_end_on_the_way(remifentanil):
    """Two subjects have two modes, and others one that ends on the way of the search, at 3281: it stood there for 40 minutes."""
    assert remifentanil.converged and remifentanil.objective == pytest.approx(3258.0766, abs=0.001)
    assert len(remifentanil.history) < 200 and any("Two modes" in message for message in remifentanil.messages)


@pytest.mark.slow
@pytest.mark.xfail(
    strict=True,
    reason="the search converges at 3258.08, where q2, q3 and v3 are 6, 12 and 15 % off; other minima are within 1 of it",
)
def test_remifentanil(remifentanil):
    """The estimates are those of the paper (Minto 1997, same data): fixed effects within 5 %, most of all clearance.

    The slow compartment is seen for few minutes, so that its volume is only known to some 10 %.
    """
    found = {row.name: row.value for row in remifentanil.parameters}
    paper = {"cl": 2.6, "v1": 5.1, "q2": 2.05, "v2": 9.82, "q3": 0.076}
    assert {name: found[name] for name in paper} == pytest.approx(paper, rel=0.05)
    assert found["v3"] == pytest.approx(5.42, rel=0.10)
    assert np.sqrt(found["omega.cl"]) == pytest.approx(0.14, abs=0.02)
