"""A posterior made by hand: draws of some parameters, all others at the model's values, as ``nlme.sample`` returns it."""

from __future__ import annotations

import json

import numpy as np

from nlme.parameters.inventory import Inventory


def posterior_of(model, population, draws, chains: int = 1, **attributes):
    """``draws`` by name, (chains x D,) each; random effects of zero."""
    import arviz

    inventory = Inventory(model)
    size = len(next(iter(draws.values())))
    own = dict(zip(inventory.all_names, np.asarray(inventory.natural(model)), strict=True))
    columns = {name: np.reshape(draws.get(name, np.full(size, value)), (chains, -1)) for name, value in own.items()}
    told = [{"name": r.name, "label": r.label, "unit": r.unit, "kind": r.kind, "transform": None} for r in inventory.rows(model)]
    return arviz.from_dict(
        posterior=columns,
        sample_stats={"lp": np.arange(float(size)).reshape(chains, -1), "diverging": np.zeros((chains, size // chains), bool)},
        attrs=dict(parameters=json.dumps(told), model=type(model).__name__, data_hash=population.hash) | attributes,
    )
