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
from nlme.language.asked import calls_at
from nlme.language.model import Model
from nlme.language.parameter_rows import told_by
from nlme.neural.term import learned_terms
from nlme.simulation.records import Design, Records

_AT_ONCE = 250  # of them
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
    model = fit.model
    found = learned_terms(model)
    if not found:
        raise ModelError(
            f"{type(model).__name__} has no network or other learned term (nlme.mlp, nlme.splines, ...) among its fields."
        )
    if network is not None and network not in found:
        raise ModelError(name_error("network", network, found, type(model).__name__))
    design, eta = Design(model, fit.population), fit.eta.to_numpy()
    states = Records(design, model, eta[None], fit.method.ode, fit.members[None]).states[0]
    count = len(design.subject)
    rows = np.unique(np.linspace(0, count - 1, min(count, _MOST)).astype(int))
    asked = asked_at(model, design, eta[design.subject], states, fit.members, rows)
    asked = {name: x.reshape(-1, x.shape[-1]) for name, x in asked.items()}
    return {name: np.unique(asked[name], axis=0) for name in found if name in asked and network in (None, name)}


def asked_at(model: Model, design: Design, eta, states, members, rows) -> dict[str, np.ndarray]:
    """Network -> (M, calls, inputs) what it is asked at M of the design's records: ``rows``, with random effects ``eta`` and states of
    every record (n, ...)."""
    anatomy = design.anatomy
    values = {name: x[rows] for name, x in _values(design, members).items()}
    features = {name: np.stack([s.features[name] for s in design.population]) for name in anatomy.features}
    given = (design.subject[rows], eta[rows], values, states[rows], design.column("time")[rows])
    return {name: np.asarray(x) for name, x in _asked(model, anatomy, features, *given).items()}


@eqx.filter_jit
def _asked(model: Model, anatomy, features, who, eta, values, states, time):
    def at(record):
        i, eta, values, state, t = record
        found = calls_at(model, anatomy, eta, values | {name: x[i] for name, x in features.items()}, state, t)
        return {name: jnp.stack([jnp.stack(call) for call in calls]) for name, calls in found.items()}

    # not all records at once: each of them takes its subject's features
    return jax.lax.map(at, (who, eta, values, states, time), batch_size=_AT_ONCE)


def _values(design: Design, members: np.ndarray | None) -> dict[str, np.ndarray]:
    """Covariates, occasion and subpopulation at every record."""
    anatomy = design.anatomy
    told = np.concatenate([told_by(subject, anatomy) for subject in design.population])
    if anatomy.mixture:
        told = np.column_stack([told, np.asarray(members)[design.subject]])
    return dict(zip(anatomy.table, told.T, strict=True))
