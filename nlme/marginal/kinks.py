"""Which times that parameters move may pass samples: there the likelihood has kinks.

Where a dose begins (a lag), an infusion ends (its duration or rate) or the equations change (event times), a prediction is continuous
in time and its derivative is not.  As the parameter moves that time past a sample, the derivative of the likelihood jumps,
and its second derivatives at the estimate, R, hold between two samples only; the scores, S, are those of the likelihood all the same.
Where no sample is within the error of such a time, none of this is felt (``clear_of_samples``).

Before such a time a prediction does not depend on it at all (0 until the lag is over), so that the density of a subject's random effects
is flat there, and a search for its mode that begins on that side sees no reason to leave.  ``beginnings`` looks along every random effect
that moves a time before a search begins.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from nlme.dynamics.dosing import doses
from nlme.dynamics.solvers import Tolerances
from nlme.language.anatomy import rows_of, structure_of
from nlme.language.layout import Layout
from nlme.language.model import Model
from nlme.language.ragged import over_subjects, threaded
from nlme.marginal.base import Method
from nlme.marginal.joint import by_subpopulation
from nlme.parameters.inventory import Inventory

_WORDS = {"lag": "the lag", "duration": "the end of an infusion", "rate": "the end of an infusion"}
_ALONG = np.arange(-6, 7) / 2.0  # standard deviations of a random effect at which its density is looked at
_CLEAR = 4.0  # standard errors of a time, within which no sample may be
_GAIN = 2.0  # in the log density, for which a search begins elsewhere than at zero


def moving_times(model: Model, layout: Layout, inventory: Inventory) -> str:
    """The times that estimated parameters or random effects move, in words; nothing where none does."""
    anatomy = layout.anatomy
    rules = [rule for rule in anatomy.rules if rule in _WORDS]
    if not (rules or anatomy.event_times or anatomy.delays):
        return ""
    by_u, by_eta = _moved(tuple(rules), anatomy, inventory, model, layout.arrays)
    moved = np.asarray(by_u) | np.asarray(by_eta).any(axis=-1)
    words = [_WORDS[rule] for rule in rules] + ["an event time", "a delay"]
    return " or ".join(dict.fromkeys(word for word, moves in zip(words, moved, strict=True) if moves))


def clear_of_samples(model: Model, layout: Layout, inventory: Inventory, spread: np.ndarray) -> bool:
    """Whether every time that parameters move is further from every sample of its subject than

        4 sqrt(g' C g),     g = dt/du,  C the covariance ``spread`` (P, P) of the unconstrained parameters.

    Not where random effects move it, at steady state, or with delays or covariates that change linearly, whose times are not looked at.
    """
    anatomy, rules = layout.anatomy, tuple(rule for rule in layout.anatomy.rules if rule in _WORDS)
    timelines = [part.data.timeline for part in layout.arrays.parts]
    if anatomy.delays or any(t.steady or t.drift for t in timelines) or not np.all(np.isfinite(spread)):
        return False
    if np.asarray(_moved(rules, anatomy, inventory, model, layout.arrays)[1]).any():
        return False
    nearest = threaded(_nearest, layout.arrays, anatomy, inventory, model, jnp.asarray(spread))
    return bool(np.asarray(nearest).min() > _CLEAR)


@eqx.filter_jit
def _nearest(arrays, anatomy, inventory: Inventory, model: Model, spread):
    """(N,) the least distance of a sample from a time that parameters move, in standard errors of that time."""

    def of_subject(data):
        timeline = data.timeline

        def structure_at(u, row):
            own = inventory.at_unconstrained(model, u)
            rows = rows_of(own, anatomy, jnp.zeros(len(anatomy.effects)), data.covariates, timeline.rows)
            return structure_of(own, {name: value[row] for name, value in rows.items()})

        def times(u):
            return doses(structure_at, u, timeline).time

        u = inventory.unconstrained(model)
        slopes = jax.jacfwd(times)(u)
        variance = jnp.sum((slopes @ spread) * slopes, axis=1)
        apart = jnp.abs(times(u)[:, None] - timeline.sample_clock)
        error = jnp.sqrt(jnp.where(variance > 0, variance, 1.0))[:, None]
        counts = jnp.any(slopes != 0, axis=1)[:, None] & data.mask
        return (), jnp.min(jnp.where(counts, apart / error, jnp.inf), initial=jnp.inf)

    return over_subjects(of_subject, arrays)[1]


def beginnings(method: Method, model: Model, layout: Layout, inventory: Inventory) -> np.ndarray:
    """(N, q) standardised random effects where searches for the modes begin if nothing is known of these.

    Zero, and along each random effect eta_k that moves a time the likeliest of b + t L_k / |L_k|, t from -3 to 3, one after the
    other.  Zero for a method that searches for no modes.
    """
    anatomy = layout.anatomy
    none, rules = np.zeros((layout.n_subjects, len(anatomy.effects))), tuple(rule for rule in anatomy.rules if rule in _WORDS)
    if not (method.searches and method.individuals and (rules or anatomy.event_times)) or anatomy.by_site:
        return none
    moving = np.asarray(_moved(rules, anatomy, inventory, model, layout.arrays)[1])[: len(rules) + 1].any(axis=0)
    rows = np.asarray(anatomy.cholesky(model))[moving]
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    directions = (rows / np.where(length > 0, length, 1.0))[length[:, 0] > 0]
    if not len(directions):
        return none
    return np.asarray(threaded(_likeliest, layout.arrays, anatomy, method.ode, model, jnp.asarray(none), jnp.asarray(directions)))


def _likeliest(arrays, anatomy, ode: Tolerances, model: Model, b, directions):
    def of_subject(data, b):
        def density(b):
            _, by_kind = by_subpopulation(model, anatomy, data, b, 0, ode)
            return jax.scipy.special.logsumexp(by_kind) - 0.5 * b @ b

        def along(b, direction):
            places = b + jnp.asarray(_ALONG)[:, None] * direction
            found = jax.lax.map(density, places)
            best = jnp.argmax(found)
            # where nothing is gained the middle stays: searches begin as they always did
            return jnp.where(found[best] > found[len(_ALONG) // 2] + _GAIN, places[best], b), None

        return jax.lax.scan(along, b, directions)[0], ()

    return over_subjects(of_subject, arrays, b)[0]


@eqx.filter_jit
def _moved(rules: tuple[str, ...], anatomy, inventory: Inventory, model: Model, arrays):
    """(len(rules) + 2,) whether any subject's value of each rule depends on a parameter, and (len(rules) + 2, q) on each random effect;
    last, its event times and its delays."""

    def of_subject(data):
        def times(u, eta):
            rows = rows_of(inventory.at_unconstrained(model, u), anatomy, eta, data.covariates, data.timeline.rows)

            def of_row(ind):
                structure = structure_of(inventory.at_unconstrained(model, u), ind)
                own = [[jnp.asarray(t, float) for t in times] for times in (structure.event_times, structure.delays.values())]
                of_rules = (jnp.ravel(structure.rule_vector(rule, 0.0)) for rule in rules)
                return [*of_rules, *(jnp.stack(times) if times else jnp.zeros(1) for times in own)]

            return jax.vmap(of_row)(rows)

        slopes = jax.jacfwd(times, (0, 1))(inventory.unconstrained(model), jnp.full(len(anatomy.effects), 0.1))
        by_u = jnp.stack([jnp.any(u != 0) for u, _ in slopes])
        by_eta = jnp.stack([jnp.any(eta != 0, axis=tuple(range(eta.ndim - 1))) for _, eta in slopes])
        return (by_u, by_eta), ()

    return jax.tree.map(lambda moves: jnp.any(moves, axis=0), over_subjects(of_subject, arrays)[0])
