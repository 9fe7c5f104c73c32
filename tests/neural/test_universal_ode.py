"""A network inside the right-hand side: the FOCEI objective's gradient in its weights, against central differences."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from learned_elimination import Universal

import nlme
from nlme.language.layout import lay_out
from nlme.marginal.objective import evaluate_subjects
from nlme.parameters.inventory import Inventory

TIGHT = nlme.FOCEI(inner_tolerance=1e-22, ode=nlme.Tolerances(relative=1e-11, absolute=1e-13))


def population() -> nlme.Population:
    random = np.random.default_rng(2)
    subjects = []
    for i, n in enumerate((4, 2, 3)):
        t = np.r_[0.0, np.sort(random.uniform(0.5, 12.0, n))]
        y = 8.0 * np.exp(-0.12 * t + 0.2 * random.normal(size=n + 1))
        subjects.append(nlme.Subject(id=i + 1, time=t, evid=[1] + [0] * n, amt=[80.0] + [0.0] * n, dv=np.where(t > 0, y, np.nan)))
    return nlme.Population(tuple(subjects))


@pytest.mark.slow
def test_gradient_of_the_objective_in_the_weights():
    model = Universal()
    layout, inventory = lay_out(model, population()), Inventory(model)
    u = np.asarray(inventory.unconstrained(model))

    def at(u):
        return evaluate_subjects(TIGHT, layout.anatomy, inventory, model, layout.arrays, jnp.asarray(u), jnp.zeros((3, 1)))

    def slope(k, h):
        step = h * np.eye(len(u))[k]
        return (np.asarray(at(u + step).value).sum() - np.asarray(at(u - step).value).sum()) / (2 * h)

    found = np.asarray(at(u).gradient).sum(0)
    weights = [k for k, name in enumerate(inventory.names) if name.startswith("net.")]
    assert len(weights) == model.net.size == 7
    assert np.all(np.abs(found[weights]) > 1e-3)  # every weight matters here, or agreement would show nothing
    for k in weights:
        expected = (4 * slope(k, 1e-3) - slope(k, 2e-3)) / 3
        np.testing.assert_allclose(found[k], expected, rtol=1e-5, err_msg=inventory.names[k])
