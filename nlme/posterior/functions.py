"""Learned functions at posterior draws: what a network's weights are judged by.

Units of a network can change places and signs, so that weights of equal networks differ; the function that they make does not.
Its values are taken at inputs that the data visited, those at every observation at the likeliest draw, of which at most 60 are
used, evenly spaced in the order of the first input.

Draws of a Laplace approximation are looked at through the network linearised at the mode u^, f(x; u^) + df/du (u - u^): the
Gauss-Newton matrix is the Hessian of that model, and in the network itself its draws reach where the density is next to nothing
(Immer, Korzepa & Bauer 2021, AISTATS 130:703, arXiv:2008.08400).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from nlme.dynamics.solvers import Tolerances
from nlme.language.asked import calls_at
from nlme.language.density import effects_from
from nlme.language.layout import Layout
from nlme.language.ragged import over_subjects
from nlme.language.solution import expand
from nlme.neural.correction import labels
from nlme.neural.term import learned_terms
from nlme.parameters.priors import Priors
from nlme.posterior.draws import LEAST, worth

if TYPE_CHECKING:
    from arviz import InferenceData

POINTS = 60
GROUP = "learned_functions"


class Learned(NamedTuple):
    """One network: where it was asked, and what it answered at every draw."""

    inputs: Float[np.ndarray, "M n"]
    values: Float[np.ndarray, "C D M outputs"]
    named: tuple[tuple[str, ...], tuple[str, ...]]  # its inputs and outputs

    @property
    def moving(self) -> Float[np.ndarray, "C D V"]:
        """The values that differ between draws: an output may vanish at an input whatever the weights are."""
        flat = self.values.reshape(*self.values.shape[:2], -1)
        return flat[..., np.ptp(flat, axis=(0, 1)) > 0]


def learned_functions(
    prior: Priors, layout: Layout, ode: Tolerances, w: dict, lp: np.ndarray, about: Float[np.ndarray, " P"] | None = None
) -> dict[str, Learned]:
    """Network -> its function at the draws ``w`` (u, b and, in a mixture, member; leading axes chains, draws), whose log density is
    ``lp`` (chains, draws), linearised at u = ``about`` if that is given; networks without free weights are left out."""
    moving = {name for name in learned_terms(layout.model) if any(n.startswith(f"{name}.") for n in prior.inventory.names)}
    if not moving:
        return {}
    best = np.unravel_index(int(np.argmax(lp)), lp.shape)
    member = w["member"][best] if layout.anatomy.mixture else np.zeros(layout.n_subjects, int)
    asked = _asked(prior, layout, ode, *map(jnp.asarray, (w["u"][best], w["b"][best], member)))
    inputs = {name: _some(asked[name]) for name in sorted(moving) if name in asked}

    def at(u):
        terms = learned_terms(prior.model_and_density(u)[0])
        return {name: jax.vmap(terms[name].outputs_at)(jnp.asarray(x)) for name, x in inputs.items()}

    def about_a_mode(u):
        value, slope = jax.jvp(at, (jnp.asarray(about),), (u - about,))
        return jax.tree.map(jnp.add, value, slope)

    one = at if about is None else about_a_mode
    values = jax.jit(lambda u: jax.lax.map(jax.vmap(one), u))(jnp.asarray(w["u"]))
    terms = learned_terms(layout.model)
    return {
        name: Learned(
            x,
            np.asarray(values[name]),
            (labels(terms[name].inputs, x.shape[1]), labels(terms[name].outputs, values[name].shape[-1], "output")),
        )
        for name, x in inputs.items()
    }


def _asked(prior: Priors, layout: Layout, ode: Tolerances, u, b, member) -> dict[str, np.ndarray]:
    """Network -> (calls, inputs) what it is asked at the observations."""
    anatomy = layout.anatomy

    def of_subject(data, b, member):
        data = data.belonging(member.astype(float)) if anatomy.mixture else data
        model, _ = prior.model_and_density(u)
        eta = effects_from(anatomy, model, b)
        solution = expand(model, anatomy, eta, data.covariates, data.known, 0, ode)(model, eta)

        def at(row, state, t):
            found = calls_at(model, anatomy, eta, anatomy.row(data.covariates, row), state, t)
            return {name: jnp.stack([jnp.stack(call) for call in calls]) for name, calls in found.items()}

        return (), jax.vmap(at)(data.timeline.sample_row, solution.states, data.timeline.sample_time)

    _, found = jax.jit(lambda b, member: over_subjects(of_subject, layout.arrays, b, member))(b, member)
    real = layout.positions >= 0
    return {name: (y := np.asarray(x)[real]).reshape(-1, y.shape[-1]) for name, x in found.items()}


def _some(asked: Float[np.ndarray, "K n"]) -> Float[np.ndarray, "M n"]:
    different = np.unique(asked[np.isfinite(asked).all(axis=1)], axis=0)
    return different[np.unique(np.linspace(0, len(different) - 1, min(len(different), POINTS)).astype(int))]


def add_functions(found: InferenceData, functions: dict[str, Learned]) -> None:
    """The functions as a group of their own: ``net`` (chain, draw, net_point, net_output) and ``net_inputs`` (net_point, net_input)."""
    import arviz

    if not functions:
        return
    values, dims, coords = {}, {}, {}
    for name, one in functions.items():
        point, out = f"{name}_point", f"{name}_output"
        values[name], dims[name] = one.values, [point, out]
        coords |= {point: np.arange(len(one.inputs)), out: list(one.named[1])}
    data = arviz.dict_to_dataset(values, coords=coords, dims=dims)
    for name, one in functions.items():
        data = data.assign_coords({f"{name}_input": list(one.named[0])})
        data[f"{name}_inputs"] = ((f"{name}_point", f"{name}_input"), one.inputs)
    found.add_groups({GROUP: data})


def judged(functions: dict[str, Learned], chains: bool) -> str:
    """What the draws of each function are worth, as JSON: points, and of ``chains`` the largest R-hat and least effective size."""
    found = {}
    for name, one in functions.items():
        found[name] = {"points": len(one.inputs)}
        if chains and one.values.shape[1] >= LEAST and one.moving.shape[-1]:
            r_hat, size = worth(one.moving)
            found[name] |= {"r_hat": r_hat, "ess": size}
    return json.dumps(found)
