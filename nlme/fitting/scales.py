"""Random effects that reach the data through learned terms alone: their variance and the terms' weights are one scale.

    f(w eta),  eta ~ N(0, omega^2)      is      f((w omega) z),  z ~ N(0, 1)

for every omega, so that the likelihood cannot say what omega is, and a penalty on w would drive it to infinity.  Such a variance
is held where the model has it; 1 is what starting weights and penalties are made for.

Where such a term starts as no correction, f = 0 w z, the likelihood does not depend on z, and by the symmetry of z its slope in w is zero: no
search by slopes leaves that point.  ``drawn_apart`` starts these weights elsewhere.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from nlme.language.anatomy import Anatomy
from nlme.language.asked import effects_through_terms
from nlme.language.model import Model
from nlme.parameters.covariance import Covariance
from nlme.parameters.inventory import Inventory

_APART = 0.3


def held_scales(model: Model, anatomy: Anatomy, fixed: Iterable[str], priors: Mapping[str, Any] | None = None) -> tuple[str, ...]:
    """Names of the variances that a fit holds: free ones of such effects, of which neither a prior nor a correlation is given."""
    inventory = Inventory(model, fixed)
    told = set(priors or ())
    found = []
    for name, terms in scales(model, anatomy).items():
        field, _, effect = name.rpartition(".")
        free = name not in inventory.fixed and any(n.startswith(f"{term}.") for term in terms for n in inventory.names)
        if free and inventory.with_blocks({name}) == {name} and not told & {name, field, f"{field}.sd", f"{field}.sd.{effect}"}:
            found.append(name)
    return tuple(found)


def scales(model: Model, anatomy: Anatomy) -> dict[str, tuple[str, ...]]:
    """Name of a variance -> the terms through which alone its random effect reaches the data."""
    through = effects_through_terms(model, anatomy)
    fields = (
        {".".join(e.path): e.get(model) for e in Inventory(model).entries if isinstance(e.get(model), Covariance)}
        if through
        else {}
    )
    return {f"{at}.{effect}": through[effect] for at, own in fields.items() for effect in own.names if effect in through}


def drawn_apart(model: Model, anatomy: Anatomy, inventory: Inventory) -> tuple[Model, tuple[str, ...]]:
    """The model with the weights that are zero in such terms drawn from N(0, 0.3^2 / inputs of the layer), and what was done in words."""
    through, said = effects_through_terms(model, anatomy), []
    for k, term in enumerate(dict.fromkeys(name for names in through.values() for name in names)):
        if not any(name.startswith(f"{term}.") for name in inventory.names):
            continue

        def of(m, path=tuple(term.split("."))):
            return functools.reduce(getattr, path, m)

        leaves, shape = jax.tree.flatten(of(model))
        keys = jax.random.split(jax.random.fold_in(jax.random.key(0), k), len(leaves))
        silent = [eqx.is_inexact_array(x) and x.ndim > 1 and not np.any(np.asarray(x)) for x in leaves]
        if not any(silent):
            continue
        drawn = [
            _APART / math.sqrt(math.prod(x.shape[1:])) * jax.random.normal(key, x.shape, jnp.float64) if zero else x
            for x, key, zero in zip(leaves, keys, silent, strict=True)
        ]
        model = eqx.tree_at(of, model, jax.tree.unflatten(shape, drawn))
        effects = ", ".join(word for word, names in through.items() if term in names)
        said.append(
            f"{term} began with weights drawn at random in place of zeros: {effects} reach the data through it alone, and at zero "
            "nothing depends on them, so that no slope leads away."
        )
    return model, tuple(said)


def said_of_scales(model: Model, anatomy: Anatomy, inventory: Inventory) -> tuple[list[str], bool]:
    """What there is to say of them, and whether any is free."""
    values = dict(
        zip(inventory.all_names, np.concatenate([np.asarray(e.natural(model)) for e in inventory.entries]), strict=True)
    )
    found, free = [], False
    for name, terms in scales(model, anatomy).items():
        why = (
            f"{name.rpartition('.')[2]} reaches the data through {' and '.join(terms)} alone, whose weights are on the same scale"
        )
        if name in inventory.fixed:
            advice = "" if values[name] == 1.0 else " Declare it as 1, for which starting weights and penalties are made."
            found.append(f"{name} is held at {values[name]:.4g}: {why}.{advice}")
        elif any(n.startswith(f"{term}.") for term in terms for n in inventory.names):
            free = True
            found.append(f"{name} is not determined: {why}. Start it at 1 and fix it, fixed=[{name!r}].")
    return found, free
