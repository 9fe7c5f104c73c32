"""States of one system at given times as a function of its inputs, by the library's solver, with its two kinds of derivatives.

A fit never asks for this: ``nlme.fit`` and ``nlme.predict`` make these calls themselves.  A page that looks at derivatives does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

import nlme
from nlme.dynamics.propagate import propagate
from nlme.jets.jet import Columns
from nlme.language.layout import lay_out


def one_subject(times, values: Mapping[str, np.ndarray] | None = None) -> nlme.Population:
    """One subject that starts at 0 and is seen at ``times`` (T,); ``values``: what was seen (T,), by endpoint."""
    values = values or {"y": np.zeros(len(times))}
    kinds = len(values)
    time = np.r_[0.0, np.repeat(np.asarray(times, float), kinds)]
    evid = np.r_[2, np.zeros(kinds * len(times), int)]
    dv = np.r_[np.nan, np.stack(list(values.values()), axis=1).ravel()]
    endpoint = np.r_[-1, np.tile(np.arange(kinds), len(times))]
    subject = nlme.Subject(1, time, dv=dv, evid=evid, mdv=evid > 0, endpoint=endpoint)
    return nlme.Population((subject,), endpoints=tuple(values))


def states_at(structure_of: Callable, times, ode: nlme.Tolerances, z) -> Callable:
    """``states(z, directions=None, reversible=False)``: the states (T, s) at ``times``.

    With ``directions`` (m, d) their derivatives (d, T, s) are integrated and controlled with them (forward sensitivities), and
    come as a second value.  With ``reversible`` JAX may differentiate the states in reverse: an adjoint pass back through the
    steps, from checkpoints, at the sizes that the states alone have chosen.

    Parameters
    ----------
    structure_of : ``structure_of(z)`` returns the ``nlme.ODE`` for inputs z (m,)
    times : (T,), above 0, where the solution starts
    z : any inputs, with which to see what the structure is like
    """
    structure = structure_of(z)

    class Bare(nlme.Model):
        sd: nlme.Scalar = nlme.positive(1.0)

        def individual(self, eta, cov):
            return dict(sd=self.sd)

        def dynamics(self, ind):
            return structure

        def observe(self, ind, state, t):
            return {"y": nlme.additive(jnp.sum(state[structure.names[0]]), ind.sd)}

    (part,) = lay_out(Bare(), one_subject(times)).arrays.parts
    timeline = jax.tree.map(lambda x: x[0], part.data.timeline)

    def states(z, directions=None, reversible=False):
        columns = Columns(0 if directions is None else directions.shape[1])
        packed = z[:, None] if directions is None else jnp.concatenate([z[:, None], directions], axis=1)
        jet, _ = propagate(lambda z, row, t=None: structure_of(z), packed, columns, timeline, ode, reversible)
        return jet.value if directions is None else (jet.value, jet.first)

    return states
