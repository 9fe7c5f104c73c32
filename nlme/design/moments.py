"""Moments of the observations of a design, and their derivatives in the population parameters.

With the model linearised in the random effects at eta^ (zero for FO, draws of them for FOCE),

    y ~ N( E, V ),    E = f(eta^) - G eta^,    V = G Omega G' + diag(R(eta^)),    G = df/deta,

every sample has a row: E_j, the row j of a = G L (Omega = L L'), R_j, and the derivatives of these in the P parameters.  Samples
are independent given the random effects, so that any choice of samples is a choice of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from nlme.data.population import Population
from nlme.dynamics.solvers import SENTENCES, SOLVED, Tolerances
from nlme.errors import DataError, ModelError
from nlme.keys import key_of
from nlme.language.anatomy import Anatomy
from nlme.language.density import moments
from nlme.language.layout import Layout, lay_out
from nlme.language.model import Model, require_model
from nlme.language.ragged import over_subjects
from nlme.language.solution import Expansion
from nlme.marginal.foce import FOCEI
from nlme.parameters.inventory import Inventory

_PLACEHOLDERS = (1.0, 0.5)  # one of them is within the range of every continuous endpoint


@dataclass(frozen=True)
class Rows:
    """Rows of n samples: mean, a = G L, residual variance, and their derivatives in the parameters."""

    mean: Float[np.ndarray, " n"]
    a: Float[np.ndarray, "n q"]
    variance: Float[np.ndarray, " n"]
    d_mean: Float[np.ndarray, "n P"]
    d_a: Float[np.ndarray, "n q P"]
    d_variance: Float[np.ndarray, "n P"]

    def where(self, chosen) -> Rows:
        return Rows(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class Question:
    """A model and the parameters that are to be estimated.

    ``etas`` (M, q) are the points at which it is linearised.
    """

    model: Model
    anatomy: Anatomy
    inventory: Inventory
    etas: Float[np.ndarray, "M q"]

    @property
    def values(self) -> np.ndarray:
        return np.asarray(self.inventory.natural(self.model))


def blank_records(population: Population, placeholder: float) -> Population:
    """A population whose observations hold no values: only its design counts."""

    def blank(s):
        dv = np.where(s.is_observation, placeholder, s.dv)
        return replace(s, dv=dv, cens=np.zeros(len(s), dtype=int), limit=np.full(len(s), np.nan))

    return replace(population, subjects=tuple(blank(s) for s in population))


def laid_out(model: Model, make: Callable[[float], Population]) -> Layout:
    """The layout of ``make(placeholder)``, a population with observations of this value.

    Raises
    ------
    ModelError, DataError
        The model does not fit the design.
    """
    for placeholder in _PLACEHOLDERS[:-1]:
        try:
            return lay_out(require_model(model), make(placeholder))
        except DataError:
            continue
    return lay_out(require_model(model), make(_PLACEHOLDERS[-1]))


def question(layout: Layout, fixed: Sequence[str], linearisation: str, draws: int, key) -> Question:
    """What is asked of a design.

    Raises
    ------
    ModelError
        An endpoint that is not normal on any scale, residuals that depend on one another, subpopulations, random effects above the
        subject; nothing to estimate; no such linearisation.
    """
    model, anatomy = layout.model, layout.anatomy
    anatomy.require_certain("An information matrix of a design", model)
    FOCEI().require(anatomy)
    linked = [name for name, law in zip(anatomy.endpoints, anatomy.laws, strict=True) if law.link]
    for found, words in (
        (linked, f"endpoint {', '.join(linked)} has residuals that depend on one another"),
        (anatomy.mixture, "the model has subpopulations"),
        (anatomy.above, f"the model has random effects per {anatomy.above}"),
    ):
        if found:
            raise ModelError(f"The information of a design is not known for this model: {words}.")
    inventory = Inventory(model, fixed)
    inventory = Inventory(model, inventory.with_blocks([*inventory.fixed, *inventory.without_variance(model)]))
    if not len(inventory):
        raise ModelError("Every parameter is fixed: there is nothing to estimate.")
    effects = len(anatomy.effects)
    if linearisation == "FO":
        etas = np.zeros((1, effects))
    elif linearisation == "FOCE":
        etas = _draws(model, anatomy, effects, draws, key)
    else:
        raise ModelError(f"linearisation is 'FO' or 'FOCE'; got {linearisation!r}.")
    return Question(model, anatomy, inventory, etas)


def _draws(model: Model, anatomy: Anatomy, effects: int, draws: int, key) -> np.ndarray:
    if key is None or isinstance(draws, bool) or not isinstance(draws, int) or draws < 1:
        raise ModelError("linearisation='FOCE' averages over draws of the random effects: draws=100, key=jax.random.key(1).")
    key = key_of(key)
    factor = np.asarray(anatomy.cholesky(model))
    if np.any(np.diagonal(factor) <= 0):
        raise ModelError("linearisation='FOCE' needs variances above 0; one of the model's is 0.")
    return np.asarray(jax.random.normal(key, (draws, effects))) @ factor.T


def rows_of(asked: Question, layout: Layout) -> list[list[Rows]]:
    """Rows of every subject of the layout (samples in the order of its records), for every point of linearisation.

    Raises
    ------
    ModelError
        A sample whose prediction has no distribution (a proportional error and a prediction of 0), or the equations not solved.
    """
    count = layout.n_subjects
    found: list[list[Rows]] = [[] for _ in range(count)]
    for eta in asked.etas:
        etas = jnp.broadcast_to(jnp.asarray(eta), (count, len(eta)))
        solved, arrays = _program(asked.anatomy, asked.inventory, asked.model, jnp.asarray(asked.values), layout.arrays, etas)
        _require_solved(np.asarray(solved), layout)
        arrays = [np.asarray(x) for x in arrays]
        for i in range(count):
            own = layout.positions[i]
            order = np.flatnonzero(own >= 0)
            order = order[np.argsort(own[order])]
            _require_distribution(arrays[0][i, order], layout, i, own[order])
            found[i].append(Rows(*(x[i, order] for x in arrays[1:])))
    return found


@eqx.filter_jit
def _program(anatomy, inventory, model, p, arrays, etas):
    def of_subject(data, eta):
        def at(p):
            there = inventory.at_natural(model, p)
            effects = len(eta)
            factor = anatomy.cholesky(there)
            solution = Expansion(there, anatomy, eta, data.covariates, data.timeline, 2, Tolerances())

            def normal(eta):
                m = moments(there, anatomy, data, solution(there, eta))
                return (m.mean, m.variance), m

            (mean, variance), push, m = jax.linearize(normal, eta, has_aux=True)
            slopes = jax.vmap(lambda d: push(d)[0], out_axes=-1)(jnp.eye(effects)) if effects else jnp.zeros((len(mean), 0))
            return (mean - slopes @ eta, slopes @ factor, variance), (m.alone > 0.0, m.status)

        values, (known, status) = at(p)
        derivatives = jax.jacfwd(lambda p: at(p)[0])(p)
        return status, (known, *values, *derivatives)

    return over_subjects(of_subject, arrays, etas)


def _require_solved(status: np.ndarray, layout: Layout) -> None:
    for i in np.flatnonzero(status != SOLVED):
        words = SENTENCES.get(int(status[i]), "")
        raise ModelError(f"The model's equations could not be solved for {layout.population.ids[i]}: {words}.")


def _require_distribution(known: np.ndarray, layout: Layout, i: int, records: np.ndarray) -> None:
    for j in records[~known]:
        raise ModelError(
            f"The sample at time {layout.population[i].time[j]:g} of {layout.population.ids[i]} has no distribution: its residual "
            "variance is 0 (a proportional error and a prediction of 0). Leave it out, sample later, or add an additive error."
        )
