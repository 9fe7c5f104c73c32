"""From a density to kept draws: warm-up and sampling, with a checkpoint from which a killed run goes on to the same draws."""

from __future__ import annotations

import time
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from nlme.marginal.joint import Failures, potential
from nlme.posterior.langevin import SGLD, Langevin
from nlme.posterior.sampler import Draws, Line, Nuts, Sampler, joined, starting_point
from nlme.search.checkpoint import Checkpoint


class Settings(NamedTuple):
    """How long and how carefully to sample."""

    warmup: int
    draws: int
    chains: int
    target_acceptance: float
    max_tree_depth: int | tuple[int, int]
    langevin: SGLD | None = None  # instead of NUTS


class Density(Protocol):
    """What is sampled, in coordinates in which it is about standard normal."""

    shapes: dict[str, tuple[int, ...]]  # of the coordinates w
    place: Any  # pytree of arrays: where the coordinates are

    def settle(self, place: Any | None) -> None:
        """Find the place of the coordinates, or take that of an earlier run (its arrays, in order)."""

    def log_density(self, w: dict) -> tuple[Any, Any]:
        """(log density, status of the solves) at w."""


class Chains(NamedTuple):
    """What came of it; ``seconds`` before warm-up, in warm-up, in sampling, of this run."""

    kept: Draws
    failed_in_warmup: int
    failed: int
    seconds: tuple[float, float, float]


def run_chains(
    density: Density, settings: Settings, key, failures: Failures | None, show: Line, checkpoint: Checkpoint | None
) -> Chains:
    """Sample ``density``.  Interrupted while draws are kept, it returns those so far.

    Raises
    ------
    FitError
        The density is not finite around the centre; the checkpoint is of another run.
    """
    clock = time.perf_counter()
    starting, key = jax.random.split(key)
    saved = checkpoint.read() if checkpoint else None
    density.settle(None if saved is None else _several(saved, "place"))
    energy = potential(density.log_density, failures)
    if settings.langevin is None:
        sampler = Sampler(Nuts(energy, settings.warmup, settings.target_acceptance, settings.max_tree_depth))
    else:
        sampler = Sampler(Langevin(density, energy, settings.langevin, settings.warmup))
    beginning = (lambda key, spread: starting_point(density.shapes, key, spread)), starting, key, settings.chains
    warmed, pieces, missed = 0, [], np.zeros(2, int)
    if saved is None:
        sampler.begin(*beginning)
    else:
        sampler.go_on(*beginning, _several(saved, "state"))
        warmed, missed = int(saved["warmed"]), saved["missed"]
        if warmed == settings.warmup and "draws/0" in saved:
            pieces = [_draws_of(saved)]
    compiled = time.perf_counter()

    def note(phase: int, warmed: int, pieces: list[Draws], always: bool = False):
        if failures:
            missed[phase] += failures.take()
        if checkpoint and (always or checkpoint.due):
            checkpoint.write(_numbers(density, sampler, warmed, missed, pieces))

    rest = settings.warmup - warmed
    sampler.run(rest, show, "warm-up", lambda so_far: note(0, warmed + sum(len(p.energy) for p in so_far), []), [])
    note(0, settings.warmup, pieces, always=not pieces)
    half = time.perf_counter()
    try:
        sampler.run(settings.draws, show, "sampling", lambda so_far: note(1, settings.warmup, so_far), pieces)
    except KeyboardInterrupt:
        if not pieces:
            raise
    note(1, settings.warmup, pieces, always=True)
    end = time.perf_counter()
    return Chains(joined(pieces), int(missed[0]), int(missed[1]), (compiled - clock, half - compiled, end - half))


def _numbers(density: Density, sampler: Sampler, warmed: int, missed: np.ndarray, pieces: list[Draws]) -> dict[str, np.ndarray]:
    found = {"warmed": np.asarray(warmed), "missed": missed}
    found |= {f"state/{k}": x for k, x in enumerate(sampler.numbers)}
    found |= {f"place/{k}": np.asarray(x) for k, x in enumerate(jax.tree.leaves(density.place))}
    if pieces:
        pieces[:] = [jax.tree.map(lambda *x: np.concatenate(x), *pieces)]
        names = sorted(pieces[0].w)
        found |= {f"w/{name}": pieces[0].w[name] for name in names}
        found |= {f"draws/{k}": x for k, x in enumerate(pieces[0][1:])}
    return found


def _several(saved: dict[str, np.ndarray], kind: str) -> list[np.ndarray]:
    count = sum(name.startswith(f"{kind}/") for name in saved)
    return [saved[f"{kind}/{k}"] for k in range(count)]


def _draws_of(saved: dict[str, np.ndarray]) -> Draws:
    w = {name.removeprefix("w/"): x for name, x in saved.items() if name.startswith("w/")}
    return Draws(w, *_several(saved, "draws"))
