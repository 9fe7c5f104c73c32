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


def between_quartiles(draws: np.ndarray) -> float:
    return float(np.subtract(*np.quantile(draws, [0.75, 0.25])))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pair", "method"), [("theophylline", nlme.AGQ(3)), ("phenobarbital", nlme.AGQ(5)), ("occasions", nlme.FOCEI())]
)
def test_joint_and_marginal_draws_have_one_law(pair, method):
    """Means within four Monte-Carlo errors (and what FOCEI, no exact integral, moves: 0.15 standard deviations), interquartile ranges
    within 15 % or three Monte-Carlo errors: standard deviations of variances are those of a few draws far out."""
    model, population = PAIRS[pair].model(), PAIRS[pair].data()
    priors = nlme.weakly_informative(model)
    joint = parameters_of(quietly(model, population, priors, key=1, warmup=500, draws=1000))
    how = dict(random_effects="marginal", method=method, warmup=300, draws=300)
    marginal = parameters_of(quietly(model, population, priors, key=2, **how))
    assert joint.keys() == marginal.keys() and len(joint) > 5
    for name, ours in joint.items():
        other, spread = marginal[name], ours.std()
        effective = effective_sample_size(ours), effective_sample_size(other)
        error = np.sqrt(ours.var() / effective[0] + other.var() / effective[1])
        allowed = 4 * error + (0.15 * spread if isinstance(method, nlme.FOCEI) else 0.0)
        assert abs(ours.mean() - other.mean()) < allowed, (name, ours.mean(), other.mean(), error)
        of_range = 1.17 * np.sqrt(1 / effective[0] + 1 / effective[1])  # relative, of a normal law: 1.573 sd of 1.349 sd
        assert between_quartiles(other) == pytest.approx(between_quartiles(ours), rel=max(0.15, 3 * of_range)), name
