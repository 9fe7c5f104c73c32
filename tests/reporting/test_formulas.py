"""Equations of a report: numbers that a reader can take in, and no line wider than the page."""

from __future__ import annotations

import io

import jax.numpy as jnp
import numpy as np
import pytest

import nlme
from nlme import Scalar
from nlme.language.typeset import decimal
from nlme.reporting import word
from nlme.reporting.blocks import Document, Formulas, Section
from nlme.reporting.formulas import DIGITS, LONGEST, SHORTENED, formulas, shortened
from nlme.reporting.web import page

pytest.importorskip("sympy")


@pytest.mark.parametrize("value", [*10.0 ** np.arange(-12, 9) * 1.23456789012345, 0.1, 2.5, 99999.95, 0.30000000000000004])
def test_a_number_keeps_its_value_to_six_digits(value):
    text = shortened(decimal(value))
    assert float(text) == pytest.approx(value, rel=0.5 * 10.0 ** (1 - DIGITS))
    mantissa = text.partition("e")[0]
    assert len(mantissa.replace(".", "").lstrip("0")) <= max(DIGITS, len(mantissa.partition(".")[0]))


@pytest.mark.parametrize("text", ["0.75", "70", "x_0.123456789", "net.weights[0, 1]", "12.5·cl_i^2", "1e-05", "<mn>2.5</mn>"])
def test_what_is_short_or_no_number_stays(text):
    assert shortened(text) == text


class Spline(nlme.Model):
    """The effect of weight is a natural cubic spline, written out."""

    v: Scalar = nlme.positive(30.0)
    by_weight: nlme.Splines = nlme.splines(inputs=("wt",), outputs=1, knots=(50.1234567, 61.0, 70.5, 90.0))
    prop: Scalar = nlme.positive(0.1)
    covariates = {"wt": "kg"}

    def individual(self, eta, cov):
        return dict(cl=jnp.exp(self.by_weight(cov)[0]), v=self.v * 0.123456789012)

    def dynamics(self, ind):
        return nlme.pk.OneCompartment(cl=ind.cl, v=ind.v)

    def observe(self, ind, state, t):
        return {"conc": nlme.proportional(state.central / ind.v, prop=self.prop)}


@pytest.fixture(scope="module")
def equations():
    return nlme.equations(Spline())


def test_a_long_formula_is_text_and_a_short_one_mathematics(equations):
    found, notes = formulas(equations)
    clearance, volume = found["Individual parameters"]
    assert len(clearance.text) > LONGEST and not clearance.mathml and clearance.text.startswith("cl_i = exp(")
    assert not volume.text and "<mn>0.123457</mn>" in volume.mathml and notes == (*equations.notes, SHORTENED)
    written = page(Document("x", (), (Section("model", "The model", [Formulas(equations)]),)))
    assert '<p class="formula text">cl_i = exp(' in written and "0.1234567" not in written and SHORTENED in written


def test_in_word_it_is_text_as_well(equations):
    document = pytest.importorskip("docx").Document
    pytest.importorskip("mathml2omml")
    written = word.document(Document("x", (), (Section("model", "The model", [Formulas(equations)]),)))
    lines = [one for one in document(io.BytesIO(written)).paragraphs if one.style.name == "Equation"]
    assert [bool(one.text) for one in lines] == [True, *[False] * (len(lines) - 1)] and lines[0].text.startswith("cl_i = exp(")
    assert all("oMath" in one._p.xml for one in lines[1:])


def test_numbers_that_are_short_have_no_note():
    class Plain(nlme.Model):
        cl: Scalar = nlme.positive(1.0)

        def individual(self, eta, cov):
            return dict(cl=self.cl * 0.75)

        def observe(self, ind, state, t):
            return {"y": nlme.additive(ind.cl * t, 1.0)}

    found, notes = formulas(nlme.equations(Plain()))
    assert SHORTENED not in notes and not any(one.text for rows in found.values() for one in rows)
