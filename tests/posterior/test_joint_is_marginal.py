"""One posterior two ways: random effects sampled with the parameters, and integrated by quadrature while these are sampled."""

from __future__ import annotations

import numpy as np
import pytest
from normal_means import quietly
from numpyro.diagnostics import effective_sample_size
from scattered import PAIRS

import nlme


def parameters_of(found) -> dict[str, np.ndarray]:
    """(chains, draws) of every population parameter."""
    columns = {}
    for name, drawn in found.posterior.data_vars.items():
        if "subject" not in drawn.dims:
            flat = drawn.values.reshape(*drawn.shape[:2], -1)
            columns |= {f"{name}[{k}]": flat[..., k] for k in range(flat.shape[-1])}
    return columns


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pair", "method"), [("theophylline", nlme.AGQ(3)), ("phenobarbital", nlme.AGQ(5)), ("occasions", nlme.FOCEI())]
)
def test_joint_and_marginal_draws_have_one_law(pair, method):
    """Means within four Monte-Carlo errors (and what FOCEI, no exact integral, moves: 0.15 standard deviations), spreads within 15 %."""
    model, population = PAIRS[pair].model(), PAIRS[pair].data()
    priors = nlme.weakly_informative(model)
    joint = parameters_of(quietly(model, population, priors, key=1, warmup=500, draws=1000))
    how = dict(random_effects="marginal", method=method, warmup=300, draws=300)
    marginal = parameters_of(quietly(model, population, priors, key=2, **how))
    assert joint.keys() == marginal.keys() and len(joint) > 5
    for name, ours in joint.items():
        other, spread = marginal[name], ours.std()
        error = np.sqrt(ours.var() / effective_sample_size(ours) + other.var() / effective_sample_size(other))
        allowed = 4 * error + (0.15 * spread if isinstance(method, nlme.FOCEI) else 0.0)
        assert abs(ours.mean() - other.mean()) < allowed, (name, ours.mean(), other.mean(), error)
        assert other.std() == pytest.approx(spread, rel=0.15), name
