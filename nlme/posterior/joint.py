"""The joint posterior of population parameters and random effects, as a density to sample.

    p(theta, b | y)  proportional to  p(theta) prod_i N(b_i; 0, I) prod_j p(y_ij | theta, eta_i = L b_i),   Omega = L L'

in the coordinates of ``nlme.posterior.coordinates``.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from nlme.dynamics.solvers import Tolerances
from nlme.language.layout import Layout
from nlme.language.model import Model
from nlme.marginal.joint import log_joint
from nlme.parameters.priors import Priors
from nlme.posterior.coordinates import coordinates


class Joint:
    """See ``nlme.posterior.chains.Density``."""

    def __init__(self, prior: Priors, layout: Layout, model: Model, ode: Tolerances):
        self._prior, self._layout, self._model, self._ode = prior, layout, model, ode

    def settle(self, place=None) -> None:
        def found():
            return coordinates(self._prior, self._layout, self._model, self._ode)

        if place is None:
            self.place = jax.jit(found)()
        else:
            self.place = jax.tree.unflatten(jax.tree.structure(jax.eval_shape(found)), [jnp.asarray(x) for x in place])
        shapes = {"population": self.place.u.shape}
        self.shapes = shapes | ({"effects": self.place.y.shape} if self.place.y.size else {})

    def log_density(self, w: dict):
        prior, layout = self._prior, self._layout
        u, y = self.place(w)
        here, density = prior.model_and_density(u[: prior.size])
        b, jacobian = self.place.standard_of_all(layout, here, u[prior.size :], y)
        likelihood, status = log_joint(here, layout.anatomy, layout.arrays, b, 1, self._ode)
        return density + jacobian + likelihood, status

    def positions(self, w: dict) -> dict[str, np.ndarray]:
        """Unconstrained parameters u (chains, draws, P) and standardised random effects b (chains, draws, N, q) of all draws."""
        prior = self._prior

        def one(w):
            u, y = self.place(w)
            u, shared = u[: prior.size], u[prior.size :]
            return {"u": u, "b": self.place.standard_of_all(self._layout, prior.model_and_density(u)[0], shared, y)[0]}

        return jax.tree.map(np.asarray, jax.jit(jax.vmap(jax.vmap(one)))(w))
