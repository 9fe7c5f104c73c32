"""Where a network was asked: its inputs at every record of a fit, at the subjects' own random effects.

Beyond these values its output is what its form, its penalty or its prior make of it, and nothing that was seen.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from nlme.errors import ModelError, name_error
from nlme.fitting.result import Evaluated
from nlme.language.asked import asked_at
from nlme.language.model import Model
from nlme.language.parameter_rows import told_by
from nlme.neural.term import learned_terms
from nlme.simulation.records import Design, Records

_MOST = 5000  # records looked at; of more, evenly spaced ones


def visited(fit: Evaluated, network: str | None = None) -> dict[str, np.ndarray]:
    """Network -> (M, inputs) its inputs at the records of the fit's population, by the model at the estimate.

    A network of covariates or random effects is asked once in a parameter row, one in the equations at the states of each record (the
    solver asked it between them as well), one in ``observe`` at the records too. Rows that are alike are given once.

    Raises
    ------
    ModelError
        The model has no network, or none of that name.
    """
    model, anatomy = fit.model, fit.layout.anatomy
    found = learned_terms(model)
    if not found:
        raise ModelError(f"{type(model).__name__} has no network or other learned term (nlme.mlp, nlme.splines, ...) among its fields.")
    if network is not None and network not in found:
        raise ModelError(name_error("network", network, found, type(model).__name__))
    design, eta = Design(model, fit.population), fit.eta.to_numpy()
    states = Records(design, model, eta[None], fit.method.ode, fit.members[None]).states[0]
    count = len(design.subject)
    rows = np.unique(np.linspace(0, count - 1, min(count, _MOST)).astype(int))
    values = {name: x[rows] for name, x in _values(fit, design).items()}
    asked = _asked(model, anatomy, eta[design.subject[rows]], values, states[rows], design.column("time")[rows])
    return {name: np.unique(np.asarray(asked[name]), axis=0) for name in found if name in asked and network in (None, name)}


@eqx.filter_jit
def _asked(model: Model, anatomy, eta, values, states, time):
    def at(eta, values, state, t):
        found = asked_at(model, anatomy, eta, values, state, t)
        return {name: jnp.stack([jnp.stack(call) for call in calls]) for name, calls in found.items()}

    found = jax.vmap(at)(eta, values, states, time)
    return {name: x.reshape(-1, x.shape[-1]) for name, x in found.items()}


def _values(fit: Evaluated, design: Design) -> dict[str, np.ndarray]:
    """Covariates, occasion and subpopulation at every record."""
    anatomy = fit.layout.anatomy
    told = np.concatenate([told_by(subject, anatomy) for subject in fit.population])
    if anatomy.mixture:
        told = np.column_stack([told, fit.members[design.subject]])
    return dict(zip(anatomy.table, told.T, strict=True))
