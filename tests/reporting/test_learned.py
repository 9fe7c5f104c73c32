"""What a report says of a fit with a penalised network: how much of it the data determine, and whether it pays."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from learned_effect import Effect, noisy_people

import nlme
from nlme.reporting.account import summary
from nlme.reporting.blocks import Pairs, Paragraph


@pytest.fixture(scope="module")
def fit():
    return nlme.fit(Effect(), noisy_people(), penalty=nlme.L2(3.0), starts=0, progress=False)


def test_effective_parameters_are_those_of_the_hessian(fit):
    """tr H^-1 (H - P) with H from R, which the report makes in any case."""
    (figures,) = (block for block in summary(fit) if isinstance(block, Pairs))
    said = dict(figures.rows)["Effective parameters (what the penalty leaves to the data)"]
    hessian, penalty = 2.0 * fit.covariance.curvature, fit.penalty_slopes[1]
    assert float(said) == pytest.approx(len(hessian) - np.trace(np.linalg.solve(hessian, penalty)), abs=0.051)
    assert "(from R)" in fit.audit["effective parameters"].sentence
    without = [block for block in summary(dataclasses.replace(fit, penalty=0.0, penalty_slopes=None)) if isinstance(block, Pairs)]
    assert not any("Effective" in name for name, _ in without[0].rows)


def test_what_cross_validation_said_is_in_the_summary(fit):
    said = dataclasses.replace(
        fit, validation=("Penalty L2(3.0), chosen by cross-validation.", "The networks do not pay: so it is.")
    )
    found = [block.text for block in summary(said) if isinstance(block, Paragraph)]
    assert any("chosen by cross-validation. The networks do not pay" in text for text in found)
