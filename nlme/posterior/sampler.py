"""Markov chains side by side, run some iterations at a time by one compiled program; their kernel, by default NumPyro's NUTS.

Its whole state, the keys of its random numbers among it, is arrays: what it had when a run was stopped goes on to the same draws.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from nlme.errors import FitError
from nlme.marginal.joint import potential
from nlme.search.progress import Progress

CHUNK = 25  # iterations between two lines of progress
_SPREADS = (2.0, 1.0, 0.25, 0.0)  # distance from the mode within which chains start, in about standard deviations
_HUGE = 1e12  # above the energy of any point worth starting from


class Line(Progress):
    """Progress told in words."""

    def __call__(self, text: str) -> None:
        self._write(f"{self._title}: {text}, {time.perf_counter() - self._start:.1f} s")


class Draws(NamedTuple):
    """What is kept of every iteration: (iterations, chains, ...), on the host with chains first."""

    w: dict
    energy: Any
    potential: Any
    steps: Any
    acceptance: Any
    diverging: Any
    step_size: Any


class Kernel(Protocol):
    """How all chains take a step together; its state is a pytree of arrays."""

    def initial(self, keys, start: dict) -> Any:
        """The state at ``start`` (chains, ...), with a key for each chain."""

    def step(self, state) -> Any:
        """The state one iteration later."""

    def keep(self, state) -> Draws:
        """What is kept of it."""


class Nuts:
    """NumPyro's No-U-Turn sampler of one density; ``energy`` maps a pytree z of arrays to minus its logarithm."""

    def __init__(self, energy: Callable, warmup: int, target_acceptance: float, max_tree_depth: int | tuple[int, int]):
        from numpyro.infer import NUTS

        self._warmup = warmup
        self._kernel = NUTS(
            potential_fn=energy,
            step_size=0.1,  # where adaptation begins; the coordinates are about standard normal
            target_accept_prob=target_acceptance,
            max_tree_depth=max_tree_depth,
        )

    def initial(self, keys, start: dict):
        from numpyro.infer.util import ParamInfo

        # The energy of the start is not computed but taken as huge, so that the first transition leaves it: computing it
        # would mean to compile the density, which is most of a program's compile time, once more.
        huge = jnp.full(len(keys), _HUGE, dtype=jnp.float64)
        return self._kernel.init(keys, self._warmup, ParamInfo(start, huge, jax.tree.map(jnp.zeros_like, start)), (), {})

    def step(self, state):
        return self._kernel.sample(state, (), {})

    def keep(self, state) -> Draws:
        return Draws(
            state.z,
            state.energy,
            state.potential_energy,
            state.num_steps,
            state.accept_prob,
            state.diverging,
            state.adapt_state.step_size,
        )


class Sampler:
    """The chains of one kernel."""

    def __init__(self, kernel: Kernel):
        self._kernel = kernel

        @jax.jit
        def advance(state, count):
            def one(k, carry):
                state, kept = carry
                state = kernel.step(state)
                return state, jax.tree.map(lambda rows, row: rows.at[k].set(row), kept, kernel.keep(state))

            empty = jax.tree.map(lambda x: jnp.zeros((CHUNK, *x.shape), x.dtype), kernel.keep(state))
            return jax.lax.fori_loop(0, count, one, (state, empty))

        self._advance = advance

    def begin(self, starting_point: Callable, starting, key, chains: int) -> None:
        """Start every chain at ``starting_point(key, spread)``, at the widest spread that all of them can leave.

        Raises
        ------
        FitError
            Not even the centre has a finite density.
        """
        first = jax.jit(self._first(starting_point, chains))
        for spread in _SPREADS:
            state, kept = self._advance(first(starting, key, spread), 1)
            if np.all(np.asarray(kept.potential[0]) < _HUGE):
                self._state = state
                return
        raise FitError(
            "The posterior density is not finite near the model's own values. nlme.evaluate(model, population) names the subjects "
            "and records that stand in the way."
        )

    def _first(self, starting_point: Callable, chains: int) -> Callable:
        def first(starting, key, spread):
            start = jax.vmap(starting_point, (0, None))(jax.random.split(starting, chains), spread)
            return self._kernel.initial(jax.random.split(key, chains), start)

        return first

    def go_on(self, starting_point: Callable, starting, key, chains: int, numbers: list[np.ndarray]) -> None:
        """Instead of ``begin`` with the same arguments: go on from the state whose ``numbers`` these are."""
        like = jax.eval_shape(self._first(starting_point, chains), starting, key, 0.0)
        leaves = [
            _as_key(x) if _is_key(shape) else jnp.asarray(x) for x, shape in zip(numbers, jax.tree.leaves(like), strict=True)
        ]
        self._state = jax.tree.unflatten(jax.tree.structure(like), leaves)

    @property
    def numbers(self) -> list[np.ndarray]:
        """All that the next iteration depends on."""
        return [np.asarray(jax.random.key_data(x) if _is_key(x) else x) for x in jax.tree.leaves(self._state)]

    def run(self, iterations: int, show: Line, phase: str, after: Callable[[list[Draws]], None], pieces: list[Draws]) -> None:
        """Lengthen ``pieces`` (iterations, chains, ...) to so many iterations in all; ``after`` is told of every new one."""
        done, diverged = sum(len(p.energy) for p in pieces), sum(int(p.diverging.sum()) for p in pieces)
        while done < iterations:
            count = min(CHUNK, iterations - done)
            self._state, kept = self._advance(self._state, count)
            pieces.append(jax.tree.map(lambda x: np.asarray(x)[:count], kept))  # noqa: B023 (used at once)
            done += count
            diverged += int(pieces[-1].diverging.sum())
            step = float(np.mean(pieces[-1].step_size[-1]))
            after(pieces)
            show(f"{phase} {done}/{iterations}, step size {step:.3g}" + (f", {diverged} diverging" if diverged else ""))


def joined(pieces: list[Draws]) -> Draws:
    """All pieces, chains first."""
    return jax.tree.map(lambda *x: np.moveaxis(np.concatenate(x), 0, 1), *pieces)


def _is_key(x) -> bool:
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def _as_key(data: np.ndarray):
    return jax.random.wrap_key_data(jnp.asarray(data))


def starting_point(shapes: dict[str, tuple[int, ...]], key, spread) -> dict:
    """A point within ``spread`` of the centre, in every coordinate."""
    keys = jax.random.split(key, len(shapes))
    return {
        name: spread * jax.random.uniform(k, shape, minval=-1.0, maxval=1.0)
        for k, (name, shape) in zip(keys, shapes.items(), strict=True)
    }


def one_chain(density, settings, key, start: dict | None = None):
    """(w (D, ...), how many transitions diverged) of one chain of a ``density`` (``nlme.posterior.chains``), to be called in a program;
    begun at ``start``, by default somewhere about the centre."""
    from numpyro.infer import NUTS
    from numpyro.infer.util import ParamInfo

    kernel = NUTS(
        potential_fn=potential(density.log_density),
        step_size=0.1,
        target_accept_prob=settings.target_acceptance,
        max_tree_depth=settings.max_tree_depth,
    )
    starting, key = jax.random.split(key)
    start = starting_point(density.shapes, starting, 1.0) if start is None else start
    unknown = ParamInfo(start, jnp.asarray(_HUGE), jax.tree.map(jnp.zeros_like, start))
    state = kernel.init(key, settings.warmup, unknown, (), {})

    def step(state, _):
        state = kernel.sample(state, (), {})
        return state, (state.z, state.diverging)

    # one loop holds the only copy of the density, to keep compilation short
    _, (w, diverging) = jax.lax.scan(step, state, length=settings.warmup + settings.draws)
    return jax.tree.map(lambda x: x[settings.warmup :], w), jnp.sum(diverging[settings.warmup :])
