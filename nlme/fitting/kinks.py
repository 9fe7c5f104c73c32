"""Which times that parameters move may pass samples: there the likelihood has kinks.

Where a dose begins (a lag), an infusion ends (its duration or rate) or the equations change (event times), a prediction is continuous
in time and its derivative is not.  As the parameter moves that time past a sample, the derivative of the likelihood jumps,
and its second derivatives at the estimate, R, hold between two samples only; the scores, S, are those of the likelihood all the same.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from nlme.language.anatomy import rows_of, structure_of
from nlme.language.layout import Layout
from nlme.language.model import Model
from nlme.language.ragged import over_subjects
from nlme.parameters.inventory import Inventory

_WORDS = {"lag": "the lag", "duration": "the end of an infusion", "rate": "the end of an infusion"}


def moving_times(model: Model, layout: Layout, inventory: Inventory) -> str:
    """The times that estimated parameters or random effects move, in words; nothing where none does."""
    anatomy = layout.anatomy
    rules = [rule for rule in anatomy.rules if rule in _WORDS]
    if not (rules or anatomy.event_times or anatomy.delays):
        return ""
    moved = np.asarray(_moved(tuple(rules), anatomy, inventory, model, layout.arrays))
    words = [_WORDS[rule] for rule in rules] + ["an event time", "a delay"]
    return " or ".join(dict.fromkeys(word for word, moves in zip(words, moved, strict=True) if moves))


@eqx.filter_jit
def _moved(rules: tuple[str, ...], anatomy, inventory: Inventory, model: Model, arrays):
    """(len(rules) + 2,) whether any subject's value of each rule depends on a parameter or a random effect; last, its event times and
    its delays."""

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
        return jnp.stack([jnp.any(by_u != 0) | jnp.any(by_eta != 0) for by_u, by_eta in slopes]), ()

    return jnp.any(over_subjects(of_subject, arrays)[0], axis=0)
