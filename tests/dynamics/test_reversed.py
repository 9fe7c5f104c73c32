"""One pass back through the steps has the derivatives that the jets carry forward, whatever the equations are."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from states import TIGHT, model_of, population_of

import nlme
from nlme.dynamics.propagate import propagate
from nlme.jets.jet import Columns
from nlme.language.anatomy import anatomy_of
from nlme.language.layout import lay_out
from nlme.language.solution import _Solver


def algebraic(ind):
    def rhs(t, a):
        return {"x": -ind.k * a.z, "z": a.z + ind.b * a.z**3 - a.x}

    return nlme.ODE(rhs, ("x", "z"), algebraic=("z",), lag=ind.lag)


def vector(ind):
    def rhs(t, a):
        return {"x": -ind.k * a.x + ind.b * a.x[::-1] ** 2}

    return nlme.ODE(rhs, {"x": 2}, {"x": jnp.array([0.1, 0.3])}, lag=ind.lag)


@pytest.mark.slow
@pytest.mark.parametrize(("structure", "solver"), [(algebraic, None), (vector, "stiff")])
def test_backwards(structure, solver):
    model = model_of({"k": 0.8, "b": 0.6, "lag": 0.3}, structure)
    anatomy = anatomy_of(model)
    (part,) = lay_out(model, population_of([[dict(time=0.0, amt=1.0)]], [0.1, 1.0, 2.5])).arrays.parts
    data = jax.tree.map(lambda x: x[0], part.data)
    tolerances = nlme.Tolerances(TIGHT.relative, TIGHT.absolute, solver=solver)
    at = _Solver(model, anatomy, data.covariates, data.timeline, tolerances)
    z = at._inputs(model, jnp.zeros(3))
    columns = Columns(len(z))

    def states(z):
        found, status = propagate(at._structure_at, z[:, None], Columns(), data.timeline, tolerances, reversible=True)
        return found.value, status

    back, status = jax.jit(jax.jacrev(states, has_aux=True))(z)
    forward, _ = jax.jit(
        lambda z: propagate(at._structure_at, columns.seed(z, jnp.ones(len(z))), columns, data.timeline, tolerances)
    )(z)
    assert status == 0
    np.testing.assert_allclose(np.moveaxis(np.asarray(back), -1, 0), forward.first, rtol=1e-6, atol=1e-8)


@pytest.mark.slow
def test_steps_do_not_grow_with_the_weights():
    """Two states driven by a network of 10 or 1,000 weights: a weight costs two operations before the steps, and none within."""
    model = model_of({"k": 0.8, "lag": 0.3}, lambda ind: nlme.ODE(lambda t, a: {"x": -a.x, "y": a.x**2}, ("x", "y"), lag=ind.lag))
    (part,) = lay_out(model, population_of([[dict(time=0.0, amt=1.0)]], [0.1, 1.0])).arrays.parts
    timeline = jax.tree.map(lambda x: x[0], part.data.timeline)

    def size(count):
        def structure_at(z, row, t=None):
            def rhs(t, a):
                out = jnp.sum(jnp.tanh(z.reshape(-1, 2) @ jnp.stack([a.x, a.y])))
                return {"x": -a.x, "y": out}

            return nlme.ODE(rhs, ("x", "y"))

        def states(z):
            return propagate(structure_at, z[:, None], Columns(), timeline, TIGHT, reversible=True)[0].value.sum()

        return len(str(jax.make_jaxpr(jax.grad(states))(jnp.ones(count))).splitlines())

    assert size(1000) < size(10) + 3 * 990
