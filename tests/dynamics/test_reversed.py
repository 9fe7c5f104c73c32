"""One pass back through the steps has the derivatives that the jets carry forward, whatever the equations are."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from states import TIGHT, model_of, population_of

import nlme
from nlme.dynamics.propagate import propagate
from nlme.dynamics.solvers import BACKWARDS
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


@pytest.mark.parametrize("algebraic", [(), ("z",)])
def test_backwards_past_a_subject_that_is_through(algebraic):
    """Side by side each has the derivatives that it has alone, though one is done with a fifth of the other's steps."""

    def structure_at(z, row=None, t=None):
        def rhs(t, a):
            rest = a.z + a.z**3 - a.x
            return {"x": -z[0] * a.z, "z": rest if algebraic else -200.0 * rest}

        return nlme.ODE(rhs, ("x", "z"), dict(x=z[1]), algebraic=algebraic)

    (part,) = lay_out(model_of({"k": 0.8}, lambda ind: structure_at((ind.k, 1.0))), population_of([[]], [0.1, 2.5])).arrays.parts
    timeline = jax.tree.map(lambda x: x[0], part.data.timeline)

    def last(z, absolute=1e-11, columns=None):
        packed, kind = (z[:, None], Columns()) if columns is None else (columns.seed(z, jnp.ones(2)), columns)
        tolerances = nlme.Tolerances(100 * absolute, absolute, solver="stiff")
        state, status = propagate(structure_at, packed, kind, timeline, tolerances, reversible=columns is None)
        return (state.value[-1, 0], status) if columns is None else state.first[:, -1, 0]

    z = jnp.array([[0.8, 1.0], [0.8, 1e-3]])
    together, status = jax.jit(jax.vmap(jax.grad(last, has_aux=True)))(z)
    forward = jax.jit(jax.vmap(lambda z: last(z, columns=Columns(2))))(z)
    np.testing.assert_allclose(together, forward, rtol=1e-6)
    assert not status.any()
    if not algebraic:  # 700 steps
        assert jax.jit(lambda z: last(z, 1e-13))(z[0])[1] == BACKWARDS


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
