"""The posterior of population parameters alone, the random effects integrated out, as a density to sample.

    p(theta | y)  proportional to  p(theta) prod_i L_i(theta),       -2 log L_i the objective of a method (FOCEI, Laplace, AGQ ...)

with the objective's own gradient, exact through the modes.  Effects that subjects share (of a site) are sampled with the
parameters, and those of the subjects integrated given them:

    p(theta, z_1 .. z_S | y)  proportional to  p(theta) prod_s N(z_s; 0, I) prod_(i in s) L_i(theta, z_s)

The chains move in x = x^ + H^(-1/2) w, x = (u, z), around the mode x^ of this density with its Hessian H there, by central
differences of the gradient.

**The random effects** of every draw are then drawn given its parameters, by importance (``nlme.posterior.proposals``), and so is an
estimate of L_i itself.  r_i = L_i / (the method's L_i) over the draws says what the method's approximation costs: weights r_i whose
tail has a Pareto k above 0.7, or that vary much, mean that the posterior is the method's and not the model's.

Sources: Margossian et al. (2020), Hamiltonian Monte Carlo using an adjoint-differentiated Laplace approximation, NeurIPS 33
(arXiv:2004.12550); Vehtari et al. (2024), J Mach Learn Res 25:72 (Pareto k).
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nlme.dynamics.solvers import SOLVED
from nlme.fitting.monte_carlo import UNRELIABLE, pareto_k
from nlme.language.density import effects_from, moments
from nlme.language.layout import Layout
from nlme.language.model import Model
from nlme.language.ragged import over_subjects
from nlme.language.solution import expand
from nlme.marginal.base import Method
from nlme.marginal.joint import potential
from nlme.marginal.quadrature import ImportanceSampling
from nlme.marginal.subjects import one_subject
from nlme.parameters.priors import Priors
from nlme.posterior.proposals import one_draw

_NODES = 48  # from which one draw of a subject's random effects is taken
_APART = 1e-3  # of central differences of the gradient
_LEAST = 1e-2  # curvature in a direction of which neither data nor prior say anything
_WORSE = 1e12  # than any point worth going to
_FURTHEST = 4.0  # standard deviations that a mode is followed
_NOTICED = 0.5  # standard deviation of log r_i over the draws


class Place(NamedTuple):
    """Where the coordinates are."""

    x: Float[Array, " G"]
    spread: Float[Array, "G G"]  # H^(-1/2)
    b: Float[Array, "N q"]  # the modes at x,
    motion: Float[Array, "N q G"]  # and how they move with x, to first order

    def at(self, w: Float[Array, " G"]) -> Float[Array, " G"]:
        return self.x + self.spread @ w

    def starts(self, x: Float[Array, " G"]) -> Float[Array, "N q"]:
        """Where searches for the modes begin."""
        return self.b + jnp.clip(self.motion @ (x - self.x), -_FURTHEST, _FURTHEST)


class Marginal:
    """See ``nlme.posterior.chains.Density``."""

    def __init__(self, method: Method, prior: Priors, layout: Layout, model: Model, key):
        self._method, self._prior, self._layout, self._model, self._key = method, prior, layout, model, key
        anatomy = layout.anatomy
        self._shared = 0 if layout.sites is None else len(layout.sites) * anatomy.by_site
        self._site_of = None if layout.sites is None else jnp.asarray(layout.sites.of)
        self._size = prior.size + self._shared

    def settle(self, place=None) -> None:
        self.place = self._found() if place is None else Place(*map(jnp.asarray, place))
        self.shapes = {"population": self.place.x.shape}

    def log_density(self, w: dict):
        return self._at(self.place.at(w["population"]), self.place.starts)

    def _at(self, x, starts):
        """(log density, status) at x; ``starts(x)`` begin the searches for the modes."""
        likelihood, status = self._log_likelihood(x, starts)
        z = x[self._prior.size :]
        return self._prior.model_and_density(x[: self._prior.size])[1] - 0.5 * z @ z + likelihood, status

    def _log_likelihood(self, x, starts):
        """sum_i log L_i (without n/2 log 2 pi) and the worst ending of the solves, with the method's own gradient."""

        @jax.custom_vjp
        def value(x):
            return forward(x)[0]

        def forward(x):
            objective, slope, _, status = self._each(x, starts(x))
            return (-0.5 * jnp.sum(objective), jnp.max(status)), -0.5 * jnp.sum(slope, axis=0)

        value.defvjp(forward, lambda slope, upstream: (upstream[0] * slope,))
        return value(x)

    def _each(self, x, starts):
        """Objective, its gradient in x, mode and status of every subject."""
        tolerance = jnp.asarray(self._method.inner_tolerance)

        def of_subject(data, start, site):
            def objective(x):
                model, held = self._told(x, data, site)
                nothing = jnp.zeros((len(start), len(start)))
                (value, _), mode = one_subject(self._method, self._layout.anatomy, model, held, start, nothing, tolerance)
                b, _, _, found, status, _, _, _ = mode
                # a mode that was not found makes no objective
                return value, (b, jnp.where(found, status, jnp.maximum(status, SOLVED + 1)))

            (value, (b, status)), slope = jax.value_and_grad(objective, has_aux=True)(x)
            return (value, slope, b, status), ()

        return over_subjects(of_subject, self._layout.arrays, starts, self._sites())[0]

    def _sites(self):
        return jnp.zeros(self._layout.n_subjects, int) if self._site_of is None else self._site_of

    def _told(self, x, data, site):
        """The model at x, and the subject's data with its site's effects held."""
        model, _ = self._prior.model_and_density(x[: self._prior.size])
        if self._site_of is None:
            return model, data
        z = x[self._prior.size :].reshape(-1, self._layout.anatomy.by_site)
        return model, dataclasses.replace(data, shared=z[site])

    def _found(self) -> Place:
        """The mode by BFGS, and the Hessian there."""
        from scipy.optimize import minimize

        starts = jnp.zeros((self._layout.n_subjects, self._layout.anatomy.inner))
        minus = jax.jit(jax.value_and_grad(potential(lambda x: self._at(x, lambda x: starts))))

        def at(x):
            value, slope = minus(jnp.asarray(x))
            value = float(value)
            return (value, np.asarray(slope)) if np.isfinite(value) else (_WORSE, np.zeros(len(x)))

        first = np.concatenate([np.asarray(self._prior.unconstrained(self._model)), np.zeros(self._shared)])
        x = minimize(at, first, jac=True, method="BFGS", options={"gtol": 1e-3, "maxiter": 200}).x
        steps = _APART * np.eye(len(x))
        rows = np.stack([(at(x + h)[1] - at(x - h)[1]) / (2.0 * _APART) for h in steps])
        values, vectors = np.linalg.eigh(0.5 * (rows + rows.T))
        spread = vectors / np.sqrt(np.maximum(values, _LEAST))
        return Place(jnp.asarray(x), jnp.asarray(spread), *jax.jit(self._modes)(jnp.asarray(x), starts))

    def _modes(self, x, starts):
        """Every subject's mode at x (N, q), and its derivative (N, q, G)."""
        tolerance, q = jnp.asarray(self._method.inner_tolerance), starts.shape[1]

        def of_subject(data, start, site):
            def mode(x):
                (_, b), _ = one_subject(
                    self._method, self._layout.anatomy, *self._told(x, data, site), start, jnp.zeros((q, q)), tolerance
                )
                return b

            b, pull = jax.vjp(mode, x)
            return (b, jax.vmap(pull)(jnp.eye(q))[0]), ()

        return over_subjects(of_subject, self._layout.arrays, starts, self._sites())[0]

    def positions(self, w: dict) -> dict[str, np.ndarray]:
        """Of all draws: unconstrained parameters u (chains, draws, P), standardised random effects b (chains, draws, N, q) drawn given
        them, subpopulations ``member`` (chains, draws, N), the method's log L_i ``marginal`` and log r_i ``ratio`` (chains, draws, N).
        """
        size, anatomy, place = self._prior.size, self._layout.anatomy, self.place
        sampling = ImportanceSampling(_NODES, ode=self._method.ode)
        tolerance = jnp.asarray(self._method.inner_tolerance)
        nothing = jnp.zeros((anatomy.inner, anatomy.inner))

        def one(w, key):
            x = place.at(w["population"])
            starts = place.starts(x)

            def of_subject(data, start, site, key):
                model, held = self._told(x, data, site)
                (value, _), mode = one_subject(self._method, anatomy, model, held, start, nothing, tolerance)
                drawn = one_draw(sampling, anatomy, model, held, mode[0], key)
                b = drawn.b if self._site_of is None else held.standard(drawn.b)
                values = b, drawn.member, -0.5 * value, drawn.log_likelihood + 0.5 * value, drawn.effective
                return values, ()

            keys = jax.random.split(key, self._layout.n_subjects)
            b, member, marginal, ratio, effective = over_subjects(of_subject, self._layout.arrays, starts, self._sites(), keys)[0]
            return {"u": x[:size], "b": b, "member": member, "marginal": marginal, "ratio": ratio, "effective": effective}

        by_draw = jax.tree.map(lambda x: jnp.moveaxis(jnp.asarray(x), 0, 1), w)
        keys = jax.random.split(self._key, w["population"].shape[1::-1])
        found = eqx.filter_jit(lambda w, keys: jax.lax.map(lambda given: jax.vmap(one)(*given), (w, keys)))(by_draw, keys)
        found = jax.tree.map(lambda x: np.moveaxis(np.asarray(x), 0, 1), found)
        first = jnp.asarray(found["u"][0, 0]), jnp.asarray(found["b"][0, 0])
        found["marginal"] = found["marginal"] - 0.5 * np.log(2.0 * np.pi) * self._n_normal(*first)
        return found

    def _n_normal(self, u, b) -> np.ndarray:
        """(N,) samples whose 1/2 log 2 pi an objective leaves out: those with a normal density on some scale."""
        anatomy = self._layout.anatomy
        model, _ = self._prior.model_and_density(u)

        def of_subject(data, b):
            eta = effects_from(anatomy, model, b)
            solution = expand(model, anatomy, eta, data.covariates, data.timeline, 0, self._method.ode)(model, eta)
            return jnp.sum(data.mask & moments(model, anatomy, data, solution).normal), ()

        if all(law.normal and not law.censoring for law in anatomy.laws):
            return (self._layout.positions >= 0).sum(axis=1)
        return np.asarray(jax.jit(lambda b: over_subjects(of_subject, self._layout.arrays, b)[0])(b))


def approximation(ratio: np.ndarray, effective: np.ndarray) -> dict[str, np.ndarray]:
    """What the method's approximation and the draws of random effects are worth, by subject (N,): Pareto k and standard deviation of
    the ratios over the draws, and the least number of nodes that counted; from (chains, draws, N)."""
    logs = ratio.reshape(-1, ratio.shape[-1])
    return {
        "pareto_k": pareto_k(logs.T),
        "log_ratio_sd": np.std(logs, axis=0),
        "effective_nodes": np.median(effective.reshape(logs.shape), axis=0),
    }


def approximation_messages(method: Method, ids, found: dict[str, np.ndarray]) -> list[str]:
    """What speaks against the approximation, in words."""
    heavy = [(i, k) for i, k in zip(ids, found["pareto_k"], strict=True) if not k < UNRELIABLE]
    loose = [(i, sd) for i, sd in zip(ids, found["log_ratio_sd"], strict=True) if not sd < _NOTICED]
    messages = []
    if heavy:
        listed = ", ".join(f"{i} (k = {k:.2f})" for i, k in heavy[:5]) + (" ..." if len(heavy) > 5 else "")
        messages.append(
            f"{method!r} is a poor approximation for {_subjects(heavy)}: against importance sampling its likelihood has weights with "
            f"tails too heavy to correct it (Pareto k above {UNRELIABLE}): {listed}. Use nlme.AGQ or random_effects='joint'."
        )
    if loose:
        listed = ", ".join(f"{i} ({sd:.2g})" for i, sd in loose[:5]) + (" ..." if len(loose) > 5 else "")
        messages.append(
            f"The error of {method!r} changes over the draws by more than {_NOTICED} (standard deviation of its log likelihood) for "
            f"{_subjects(loose)}: {listed}. The posterior may lean towards where the error is large; compare with "
            f"random_effects='joint' or nlme.AGQ."
        )
    return messages


def _subjects(rows: list) -> str:
    return f"{len(rows)} subject{'s' if len(rows) > 1 else ''}"
