"""The deep covariate model that ships, on its data, beside the model with the published covariate effect."""

from __future__ import annotations

import pytest

import nlme
from nlme import datasets
from nlme.models.quinidine import Quinidine
from nlme.models.quinidine_deep import PENALTY, QuinidineDeep


@pytest.mark.slow
def test_the_network_explains_more_than_glycoprotein_alone():
    """Regression of both objectives; the penalty is reported apart."""
    data = datasets.load("quinidine")
    base = nlme.fit(Quinidine(), data, nlme.FOCEI(), progress=False)
    deep = nlme.fit(QuinidineDeep(), data, nlme.FOCEI(), penalty=PENALTY, progress=False)
    assert base.converged and deep.converged
    assert base.objective == pytest.approx(148.897, abs=0.01)
    assert deep.objective == pytest.approx(83.693, abs=0.05)
    assert deep.penalty == pytest.approx(7.692, abs=0.05)
    assert deep.penalty == pytest.approx(float(PENALTY(deep.model)), rel=1e-6)
