"""The objective of a whole population: of its subjects, or of its sites where these have random effects of their own."""

from __future__ import annotations

import jax.numpy as jnp

from nlme.language.anatomy import Anatomy
from nlme.language.layout import Layout
from nlme.language.model import Model
from nlme.language.ragged import Ragged, threaded
from nlme.marginal.base import Method
from nlme.marginal.processes import gathered, own_part
from nlme.marginal.sites import evaluate_sites
from nlme.marginal.subjects import Evaluation, evaluate_each
from nlme.parameters.inventory import Inventory


def evaluate_population(
    method: Method,
    layout: Layout,
    inventory: Inventory,
    model: Model,
    u,
    starts,
    gradient: bool = True,
    second_order=None,
    tolerance: float | None = None,
) -> Evaluation:
    """``evaluate_subjects`` of everybody in the layout, by all processes where its subjects are divided over several."""
    division = layout.division
    if division is None:
        return evaluate_subjects(
            method, layout.anatomy, inventory, model, layout.arrays, u, starts, gradient, second_order, tolerance
        )
    second_order = None if second_order is None else own_part(division, second_order)
    starts = own_part(division, starts)
    at = evaluate_subjects(
        method, layout.anatomy, inventory, model, division.arrays, u, starts, gradient, second_order, tolerance
    )
    return gathered(division, at, u)


def evaluate_subjects(
    method: Method,
    anatomy: Anatomy,
    inventory: Inventory,
    model: Model,
    arrays: Ragged,
    u,
    starts,
    gradient: bool = True,
    second_order=None,
    tolerance: float | None = None,
) -> Evaluation:
    """Every subject's objective (and gradient) at the unconstrained parameters ``u``; of sites, where they have random effects.

    ``starts`` (N, q) begin the modes; ``second_order`` (N, q, q), an evaluation's nearby, quickens their search, and so does a
    ``tolerance`` above the method's ``inner_tolerance``.
    """
    starts = jnp.asarray(starts)
    second_order = jnp.zeros((len(starts), anatomy.inner, anatomy.inner)) if second_order is None else jnp.asarray(second_order)
    tolerance = jnp.asarray(method.inner_tolerance if tolerance is None else tolerance, float)
    if anatomy.by_site:
        return evaluate_sites(method, anatomy, inventory, model, arrays, u, starts, gradient, second_order, tolerance)
    return threaded(evaluate_each, arrays, method, anatomy, inventory, model, u, starts, second_order, tolerance, gradient)
