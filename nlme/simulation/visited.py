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
from nlme.language.anatomy import individual_row, observation_row, structure_of
from nlme.language.model import Model
from nlme.language.parameter_rows import told_by
from nlme.neural.network import LearnedTerm
from nlme.simulation.records import Design, Records
from nlme.typing import Named

_AT_ONCE = 250  # of them
_MOST = 5000  # records looked at; of more, evenly spaced ones


class _Recorder:
    """In a network's place: answers as it does, and keeps what it was asked."""

    def __init__(self, network: LearnedTerm):
        self._network, self.seen = network, []

    def __call__(self, *values, **named):
        x = self._network.gather(*values, **named)
        self.seen.append(x)
        return self._network(x)

    def outputs_at(self, x):
        self.seen.append(x)
        return self._network.outputs_at(x)

    def __getattr__(self, name: str):
        return getattr(self._network, name)


def networks_of(model: Model) -> dict[str, LearnedTerm]:
    """The networks of a model by field ("net", "terms.net")."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(model, is_leaf=_is_network)
    return {_name(path): leaf for path, leaf in leaves if _is_network(leaf)}


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
    found = networks_of(model)
    if not found:
        raise ModelError(f"{type(model).__name__} has no network (nlme.mlp) among its fields.")
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
        values = values | {name: x[i] for name, x in features.items()}
        recorders: dict[str, _Recorder] = {}

        def recorder(path, leaf):
            return recorders.setdefault(_name(path), _Recorder(leaf)) if _is_network(leaf) else leaf

        asking = jax.tree_util.tree_map_with_path(recorder, model, is_leaf=_is_network)
        ind = individual_row(*anatomy.at(asking, eta, values))
        structure = structure_of(asking, ind)
        if hasattr(structure, "rhs"):
            structure.rhs(t, Named(dict(zip(anatomy.states, state, strict=True)), "state", "The ODE"))
        observation_row(asking, ind, anatomy.states, state, t)
        return {name: jnp.stack(r.seen) for name, r in recorders.items() if r.seen}

    # not all records at once: each of them takes its subject's features
    return jax.lax.map(at, (who, eta, values, states, time), batch_size=_AT_ONCE)


def _values(design: Design, members: np.ndarray | None) -> dict[str, np.ndarray]:
    """Covariates, occasion and subpopulation at every record."""
    anatomy = design.anatomy
    told = np.concatenate([told_by(subject, anatomy) for subject in design.population])
    if anatomy.mixture:
        told = np.column_stack([told, np.asarray(members)[design.subject]])
    return dict(zip(anatomy.table, told.T, strict=True))


def _is_network(leaf) -> bool:
    return isinstance(leaf, LearnedTerm)


def _name(path) -> str:
    return ".".join(str(getattr(key, "name", getattr(key, "key", getattr(key, "idx", key)))) for key in path)
