"""The posterior of population parameters alone, the random effects integrated out, as a density to sample.

    p(theta | y)  proportional to  p(theta) prod_i L_i(theta),       -2 log L_i the objective of a method (FOCEI, Laplace, AGQ ...)

with the objective's own gradient, exact through the modes.  Effects that subjects share (of a site) are sampled with the
parameters, and those of the subjects integrated given them:

    p(theta, z_1 .. z_S | y)  proportional to  p(theta) prod_s N(z_s; 0, I) prod_(i in s) L_i(theta, z_s)

The chains move in x = x^ + H^(-1/2) w, x = (u, z), around the mode x^ of this density with its Hessian H there: by central
differences of the gradient, and between weights of networks by the generalised Gauss-Newton matrix (``nlme.posterior.metric``).

**The random effects** of every draw are then drawn given its parameters, by importance (``nlme.posterior.proposals``), and so is an
estimate of L_i itself.  r_i = L_i / (the method's L_i) over the draws says what the method's approximation costs: weights r_i whose
tail has a Pareto k above 0.7, or that vary much, mean that the posterior is the method's and not the model's.

Sources: Margossian et al. (2020), Hamiltonian Monte Carlo using an adjoint-differentiated Laplace approximation, NeurIPS 33
(arXiv:2004.12550); Vehtari et al. (2024), J Mach Learn Res 25:72 (Pareto k).
"""

from __future__ import annotations

import dataclasses
import functools
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
from nlme.posterior.metric import CLOSE, descended, gauss_newton, joined, outer_products, rows_by_differences, spread_of
from nlme.posterior.proposals import one_draw

_TURNS = 5  # of two searches for a mode
_MANY = 100  # coordinates, above which a mode is searched with limited memory
_NODES = 48  # from which one draw of a subject's random effects is taken
_WORSE = 1e12  # than any point worth going to
_FURTHEST = 4.0  # standard deviations that a mode is followed, or a step goes
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
        self.place = self.around(self.mode()) if place is None else Place(*map(jnp.asarray, place))
        self.shapes = {"population": self.place.x.shape}

    def log_density(self, w: dict):
        return self._at(self.place.at(w["population"]), self.place.starts)

    @property
    def of_weights(self) -> np.ndarray:
        """(G,) which of x are weights of networks."""
        return np.concatenate([self._prior.of_weights, np.zeros(self._shared, bool)])

    @property
    def n_subjects(self) -> int:
        return self._layout.n_subjects

    @property
    def class_sizes(self) -> list[int]:
        """Subjects of every size class."""
        return [len(np.unique(part.members)) for part in self._layout.arrays.parts]

    def parted(self, x, starts, drawn: list):
        """d log p / dx in three parts: of the prior (G,), and of each of the subjects ``drawn`` from every size class (n, G) with their
        places in the population; ``starts(x)`` begin the searches for everybody's modes."""
        arrays, who = self._layout.drawn(drawn)
        objective, slope, _, status = self._each(x, starts(x)[who], arrays, self._sites()[who])
        return jax.grad(self._log_prior)(x), jnp.where(status[:, None] == SOLVED, -0.5 * slope, jnp.nan), who

    def _at(self, x, starts):
        """(log density, status) at x; ``starts(x)`` begin the searches for the modes."""
        likelihood, status = self._log_likelihood(x, starts)
        return self._log_prior(x) + likelihood, status

    def _log_prior(self, x):
        z = x[self._prior.size :]
        return self._prior.model_and_density(x[: self._prior.size])[1] - 0.5 * z @ z

    def _log_likelihood(self, x, starts):
        """sum_i log L_i (without n/2 log 2 pi) and the worst ending of the solves, with the method's own gradient."""

        @jax.custom_vjp
        def value(x):
            return forward(x)[0]

        def forward(x):
            objective, slope, _, status = self._each(x, starts(x), self._layout.arrays, self._sites())
            return (-0.5 * jnp.sum(objective), jnp.max(status)), -0.5 * jnp.sum(slope, axis=0)

        value.defvjp(forward, lambda slope, upstream: (upstream[0] * slope,))
        return value(x)

    def _each(self, x, starts, arrays, sites):
        """Objective, its gradient in x, mode and status of every subject of ``arrays``."""
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

        return over_subjects(of_subject, arrays, starts, sites)[0]

    def _sites(self):
        return jnp.zeros(self._layout.n_subjects, int) if self._site_of is None else self._site_of

    def _told(self, x, data, site):
        """The model at x, and the subject's data with its site's effects held."""
        model, _ = self._prior.model_and_density(x[: self._prior.size])
        if self._site_of is None:
            return model, data
        z = x[self._prior.size :].reshape(-1, self._layout.anatomy.by_site)
        return model, dataclasses.replace(data, shared=z[site])

    @functools.cached_property
    def _minus(self):
        """x -> minus the log density and its gradient, finite everywhere, as a search wants it."""
        starts = jnp.zeros((self._layout.n_subjects, self._layout.anatomy.inner))
        minus = jax.jit(jax.value_and_grad(potential(lambda x: self._at(x, lambda x: starts))))

        def at(x):
            value, slope = minus(jnp.asarray(x))
            value = float(value)
            return (value, np.asarray(slope)) if np.isfinite(value) else (_WORSE, np.zeros(len(x)))

        return at

    def mode(self) -> np.ndarray:
        """The mode nearest to the model's own values: by BFGS, and where there are weights on from there by Levenberg-Marquardt steps,
        for which their Gauss-Newton matrix is made; in turns, until a step promises nothing more: what stops one, a valley that bends or
        a Hessian that is none, the other goes through."""
        from scipy.optimize import minimize

        x = np.concatenate([np.asarray(self._prior.unconstrained(self._model)), np.zeros(self._shared)])
        if len(x) > _MANY:
            how = {"method": "L-BFGS-B", "options": {"gtol": 1e-3, "maxiter": 2000, "maxfun": 4000, "maxcor": 30}}
        else:
            how = {"method": "BFGS", "options": {"gtol": 1e-3, "maxiter": 200}}
        for _ in range(_TURNS):
            x = minimize(self._minus, x, jac=True, **how).x
            if not self.of_weights.any():
                break
            x, promised = descended(self._minus, self._hessian, x)
            if promised < CLOSE:
                break
        return x

    def around(self, x: np.ndarray) -> Place:
        """Coordinates with their centre at ``x``."""
        return Place(jnp.asarray(x), jnp.asarray(spread_of(self._hessian(x))), *self._moved(jnp.asarray(x)))

    def distance(self) -> float:
        """Gain in log density that a step from the centre of the coordinates to the mode still promises."""
        return 0.5 * float(np.sum(np.square(np.asarray(self.place.spread).T @ self._minus(np.asarray(self.place.x))[1])))

    def _hessian(self, x: np.ndarray) -> np.ndarray:
        """(G, G), between weights the Gauss-Newton matrix."""
        weights = self.of_weights
        rows = rows_by_differences(self._minus, x, np.flatnonzero(~weights))
        return joined(rows, self._information_of_weights(jnp.asarray(x)), weights) if weights.any() else rows

    @functools.cached_property
    def _moved(self):
        """x -> every subject's mode there (N, q), and its derivative (N, q, G)."""
        starts = jnp.zeros((self._layout.n_subjects, self._layout.anatomy.inner))
        if not starts.size:
            return lambda x: (starts, jnp.zeros((*starts.shape, len(x))))
        return jax.jit(lambda x: self._modes(x, starts))

    def conditional(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(mode, spread) of what is no weight given the weights of x: one step of Newton's method, of at most ``_FURTHEST`` standard
        deviations, and the Hessian's inverse root."""
        others = np.flatnonzero(~self.of_weights)
        spread = spread_of(rows_by_differences(self._minus, x, others)[:, others])
        step = -spread.T @ self._minus(x)[1][others]
        centre = x.copy()
        centre[others] += spread @ step * min(1.0, _FURTHEST / max(float(np.linalg.norm(step)), _FURTHEST))
        return centre, spread

    def _information_of_weights(self, x) -> np.ndarray:
        """(W, W) expected information of data and prior in the weights alone."""
        own = np.flatnonzero(self.of_weights)
        ones = jnp.zeros_like(x).at[own].set(1.0)  # priors of weights do not depend on each other
        prior = -jax.jvp(jax.grad(self._log_prior), (x,), (ones,))[1][own]
        return np.asarray(self._information(x, self._moved(x)[0])) + np.diag(np.maximum(np.asarray(prior), 0.0))

    @functools.cached_property
    def _information(self):
        """(x, modes) -> what the data have of the weights (W, W)."""
        own, anatomy, ode = np.flatnonzero(self.of_weights), self._layout.anatomy, self._method.ode

        def by_scores(x, b):  # a sum of densities is not linearised
            return outer_products(-0.5 * self._each(x, b, self._layout.arrays, self._sites())[1][:, own])

        def linearised(x, b):
            def of_subject(data, b, site):
                return gauss_newton(lambda w: self._told(x.at[own].set(w), data, site), anatomy, x[own], b, ode), ()

            return jnp.sum(over_subjects(of_subject, self._layout.arrays, b, self._sites())[0], axis=0)

        return jax.jit(by_scores if anatomy.mixture else linearised)

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

    def positions(self, w: dict, places: Place | None = None) -> dict[str, np.ndarray]:
        """Of all draws: unconstrained parameters u (chains, draws, P), standardised random effects b (chains, draws, N, q) drawn given
        them, subpopulations ``member`` (chains, draws, N), the method's log L_i ``marginal`` and log r_i ``ratio`` (chains, draws, N).

        ``places``, with a leading axis over chains, are where the w of each chain are, by default all at the density's own place.
        """
        size, anatomy = self._prior.size, self._layout.anatomy
        chains = w["population"].shape[0]
        if places is None:
            places = jax.tree.map(lambda x: jnp.broadcast_to(x, (chains, *x.shape)), self.place)
        sampling = ImportanceSampling(_NODES, ode=self._method.ode)
        tolerance = jnp.asarray(self._method.inner_tolerance)
        nothing = jnp.zeros((anatomy.inner, anatomy.inner))

        def one(place, w, key):
            x = place.at(w)
            starts = place.starts(x)

            def of_subject(data, start, site, key):
                model, held = self._told(x, data, site)
                (value, _), mode = one_subject(self._method, anatomy, model, held, start, nothing, tolerance)
                if not anatomy.inner:
                    b = start if self._site_of is None else held.standard(start)
                    return (b, jnp.zeros((), int), -0.5 * value, jnp.zeros(()), jnp.asarray(1.0 * _NODES)), ()
                drawn = one_draw(sampling, anatomy, model, held, mode[0], key)
                b = drawn.b if self._site_of is None else held.standard(drawn.b)
                values = b, drawn.member, -0.5 * value, drawn.log_likelihood + 0.5 * value, drawn.effective
                return values, ()

            keys = jax.random.split(key, self._layout.n_subjects)
            b, member, marginal, ratio, effective = over_subjects(of_subject, self._layout.arrays, starts, self._sites(), keys)[0]
            found = {"u": x[:size], "b": b, "member": member, "marginal": marginal, "ratio": ratio, "effective": effective}
            return found | {"log_prior": self._log_prior(x)}

        by_draw = jnp.moveaxis(jnp.asarray(w["population"]), 0, 1)
        keys = jax.random.split(self._key, by_draw.shape[:2])

        @eqx.filter_jit
        def every(places, w, keys):
            return jax.lax.map(lambda given: jax.vmap(one)(places, *given), (w, keys))

        found = jax.tree.map(lambda x: np.moveaxis(np.asarray(x), 0, 1), every(places, by_draw, keys))
        found["log_density"] = found.pop("log_prior") + found["marginal"].sum(axis=-1)
        first = jnp.asarray(found["u"][0, 0]), jnp.asarray(found["b"][0, 0])
        found["marginal"] = found["marginal"] - 0.5 * np.log(2.0 * np.pi) * self._n_normal(*first)
        return found

    def _n_normal(self, u, b) -> np.ndarray:
        """(N,) samples whose 1/2 log 2 pi an objective leaves out: those with a normal density on some scale."""
        anatomy = self._layout.anatomy
        model, _ = self._prior.model_and_density(u)

        def of_subject(data, b):
            eta = effects_from(anatomy, model, b)
            solution = expand(model, anatomy, eta, data.covariates, data.known, 0, self._method.ode)(model, eta)
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
