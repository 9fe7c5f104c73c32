"""Simulation-based calibration: whether posteriors of this model on this design mean what they say.

For s = 1..S:    theta_s ~ prior,   y_s ~ p(y | theta_s) on the design,   theta_s1 .. theta_sL ~ p(theta | y_s)  by NUTS
                 rank_s = number of draws below theta_s

Where model, sampler and priors agree, every rank is uniform on 0 .. L.  It is tested by chi-square in equal bins,

    X^2 = sum_b (n_b - S / B)^2 / (S / B),     p = P(chi2_(B - 1) > X^2)

A U of ranks: posteriors too narrow; a hill: too wide; a slope: biased.  All simulations are sampled side by side, a batch at a time, by
one compiled program.

Sources: Talts, Betancourt, Simpson, Vehtari & Gelman (2018), arXiv:1804.06788; Modrak et al. (2025), Bayesian Analysis 20:461,
doi:10.1214/23-BA1404.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from nlme.data.population import Population
from nlme.dynamics.solvers import Tolerances
from nlme.errors import ModelError
from nlme.execution.executors import carried_out, require_executor
from nlme.keys import key_of
from nlme.language.layout import Layout, lay_out
from nlme.language.model import Model, require_model
from nlme.parameters.domains import require_whole
from nlme.parameters.priors import Priors
from nlme.posterior.chains import Settings
from nlme.posterior.joint import Joint
from nlme.posterior.sampler import Line, one_chain
from nlme.search.checkpoint import Checkpoint, fingerprint
from nlme.uncertainty.predictive import simulated_values

if TYPE_CHECKING:
    import pandas as pd

_LEVEL = 0.01
_FEW = 50  # effective draws below which ranks are rough


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Calibration:
    """Ranks of the truths among the draws.

    Attributes
    ----------
    ranks : DataFrame (S, parameters), 0 .. L
    truths : DataFrame (S, parameters), what was simulated
    draws : L
    bins : of the test
    table : DataFrame by parameter: chi_square, p, mean_rank (L / 2 if calibrated), effective (draws, the least of all simulations)
    diverging : (S,) transitions that diverged
    """

    ranks: pd.DataFrame
    truths: pd.DataFrame
    draws: int
    bins: int
    table: pd.DataFrame
    diverging: np.ndarray

    @property
    def calibrated(self) -> bool:
        """Whether no parameter's ranks are other than uniform, at 0.01 divided by their number (Bonferroni)."""
        return bool((self.table.p > _LEVEL / len(self.table)).all())

    @property
    def messages(self) -> list[str]:
        found = []
        bad = self.table[self.table.p <= _LEVEL / len(self.table)]
        if len(bad):
            listed = ", ".join(
                f"{name} (p = {row.p:.2g}, mean rank {row.mean_rank:.0f} of {self.draws})" for name, row in bad.iterrows()
            )
            found.append(
                f"Ranks are not uniform for {listed}: posteriors of this model on this design are not to be believed there."
            )
        lost = int((self.diverging > 0).sum())
        if lost:
            found.append(f"Transitions diverged in {lost} of {len(self.ranks)} simulations ({int(self.diverging.sum())} in all).")
        least = min(_FEW, (self.draws + 1) // 2)
        few = self.table[self.table.effective < least]
        if len(few):
            found.append(
                f"Fewer than {least} draws count in the worst simulation for {', '.join(few.index)}: raise warmup or thin."
            )
        return found

    def __repr__(self) -> str:
        verdict = "uniform" if self.calibrated else "NOT uniform"
        head = (
            f"Ranks of {len(self.ranks)} simulated truths among {self.draws} draws each: {verdict} (chi-square, {self.bins} bins)"
        )
        return "\n".join([head, self.table.to_string(), *(f"  ! {m}" for m in self.messages)])


def calibrate(
    model: Model,
    design: Population,
    priors: Mapping[str, Any],
    *,
    key,
    simulations: int = 200,
    draws: int = 99,
    thin: int = 4,
    warmup: int = 400,
    bins: int = 20,
    limit: float | None = None,
    fixed: Iterable[str] = (),
    target_acceptance: float = 0.85,
    batch: int = 25,
    ode: Tolerances = Tolerances(),
    progress: bool | None = None,
    checkpoint: str | os.PathLike | None = None,
    executor: Any = None,
) -> Calibration:
    """Simulation-based calibration of a model's posterior on a design.

    Parameters
    ----------
    model : the model; its values matter for what is ``fixed``
    design : subjects with doses, covariates and observation records; the observed values are replaced by simulated ones
    priors : as of :func:`nlme.sample`; parameters are drawn from them, within their domains
    key : seed, an int or a JAX key
    simulations, draws, thin, warmup : data sets, draws kept of each posterior, iterations for each, and iterations of adaptation
    bins : of the chi-square test; divides draws + 1
    limit : simulated values below it become censored at it (the model's error must be ``nlme.censored``)
    fixed : names of parameters held at the model's values
    batch : simulations sampled side by side
    ode : tolerances of the ODE solver
    progress : show a line of progress
    checkpoint : file in which finished batches are kept; where it exists the calibration goes on from it, to the same result
    executor : who samples the batches, as of :func:`nlme.bootstrap`

    Raises
    ------
    ModelError
        Numbers that do not fit each other; a mixture; priors that do not fit.
    FitError
        The checkpoint is not one, or belongs to another calibration.
    """
    import pandas as pd
    from scipy.stats import chisquare

    require_executor(executor)
    for name, count in (("simulations", simulations), ("draws", draws), ("thin", thin), ("warmup", warmup), ("batch", batch)):
        require_whole("nlme.calibrate", name, count, 1)
    if bins < 2 or (draws + 1) % bins:
        raise ModelError(f"nlme.calibrate: draws + 1 ranks are put in bins of equal size; {draws} + 1 is no multiple of {bins}.")
    layout = lay_out(require_model(model), design)
    layout.anatomy.require_variability(layout.model, "nlme.calibrate")
    if layout.anatomy.mixture:
        raise ModelError("nlme.calibrate samples jointly, and nlme.sample has mixtures by random_effects='marginal' only.")
    prior = Priors(layout.model, priors, fixed)
    key = key_of(key)
    of_truth, of_data, of_chains = jax.random.split(key, 3)
    u = prior.drawn(of_truth, simulations)
    truths = jax.vmap(lambda u: prior.model_and_density(u)[0])(jnp.asarray(u))
    settings = Settings(warmup, draws * thin, 1, target_acceptance, 10)
    each, tasks = jax.random.split(of_data, simulations), {}
    for k, begin in enumerate(range(0, simulations, batch)):
        rows = np.minimum(np.arange(begin, begin + batch), simulations - 1)  # of the last batch some more than once
        own = jax.tree.map(lambda x: x[rows] if eqx.is_array(x) else x, truths)  # noqa: B023 (used at once)
        tasks[k] = _Task(own, u[rows], each[rows], jax.random.split(jax.random.fold_in(of_chains, begin), batch))
    file, found = None, {}
    if checkpoint is not None:
        told = (settings, limit, batch, ode, np.asarray(u), np.asarray(jax.random.key_data(key)))
        file = Checkpoint(checkpoint, fingerprint(layout.model, prior.inventory, design, "calibration", *told), 0.0)
        found = _batches_in(file.read() or {})
    work = _Work(design, layout, prior, settings, ode, limit)
    with Line(progress, "Calibration") as show:
        for k, result in carried_out(work, {k: task for k, task in tasks.items() if k not in found}, executor):
            found[k] = result
            if file is not None:
                file.write({f"{j}/{i}": x for j, part in found.items() for i, x in enumerate(part)})
            show(f"{min(len(found) * batch, simulations)}/{simulations} data sets")
    drawn, diverging = (np.concatenate(x)[:simulations] for x in zip(*(found[k] for k in tasks), strict=True))
    names, natural = prior.inventory.names, jax.jit(jax.vmap(lambda u: prior.inventory.natural(prior.model_and_density(u)[0])))
    truth, values = np.asarray(natural(jnp.asarray(u))), np.asarray(jax.vmap(natural)(jnp.asarray(drawn)))
    ranks = np.sum(values[:, thin - 1 :: thin] < truth[:, None], axis=1)
    counts = np.stack([np.bincount(r * bins // (draws + 1), minlength=bins) for r in ranks.T])
    tests = [chisquare(c) for c in counts]
    table = {"chi_square": [t.statistic for t in tests], "p": [t.pvalue for t in tests]}
    table |= {"mean_rank": ranks.mean(axis=0), "effective": _effective(values)}
    frames = [pd.DataFrame(x, columns=names, index=pd.RangeIndex(1, simulations + 1, name="simulation")) for x in (ranks, truth)]
    return Calibration(*frames, draws, bins, pd.DataFrame(table, index=names), diverging)


class _Task(NamedTuple):
    """A batch of simulations: the truths as models, their unconstrained parameters (S, P), and keys of the data and of the chains."""

    truths: Model
    u: np.ndarray
    data: jax.Array
    chains: jax.Array


@dataclasses.dataclass(eq=False)
class _Work:
    """Draws (S, D, P) of the posteriors of a batch of simulations, and how many of their transitions diverged (S,)."""

    design: Population
    layout: Layout
    prior: Priors
    settings: Settings
    ode: Tolerances
    limit: float | None

    def __call__(self, task: _Task) -> tuple[np.ndarray, np.ndarray]:
        arrays = [_simulated(task.truths, s, self.design, task.data[s], self.limit) for s in range(len(task.u))]
        stacked = jax.tree.map(lambda *x: np.stack(x), *arrays)
        return jax.tree.map(np.asarray, self._sampled(stacked, jnp.asarray(task.u), task.chains))

    @functools.cached_property
    def _sampled(self):
        return _sampler(self.layout, self.prior, self.settings, self.ode)


def _batches_in(saved: Mapping[str, np.ndarray]) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    return {int(name[:-2]): (x, saved[f"{name[:-2]}/1"]) for name, x in saved.items() if name.endswith("/0")}


def _simulated(truths: Model, s: int, design: Population, key, limit: float | None):
    """The arrays of one simulated data set."""
    model = jax.tree.map(lambda x: x[s] if eqx.is_array(x) else x, truths)
    values = simulated_values(model, design, None, "new", 1, key)[0]
    if np.isnan(values).any():
        raise ModelError(
            "nlme.calibrate: after its only event a subject has no further observation, and all simulated data sets have the records of "
            "the design; give every subject one observation of a time to event."
        )
    subjects = []
    for own, part in zip(design, np.split(values, np.cumsum([s.n_observations for s in design])[:-1]), strict=True):
        dv, cens, below = own.dv.copy(), np.zeros(len(own), int), np.zeros(len(part), bool)
        if limit is not None:
            below = part < limit
        dv[own.is_observation] = np.where(below, limit, part)
        cens[own.is_observation] = below
        subjects.append(dataclasses.replace(own, dv=dv, cens=cens, limit=np.full(len(own), np.nan)))
    return lay_out(model, dataclasses.replace(design, subjects=tuple(subjects))).arrays


def _sampler(layout: Layout, prior: Priors, settings: Settings, ode: Tolerances):
    """The program that samples the posteriors of a batch of data sets: (u (S, D, P), transitions that diverged (S,)) from their arrays, the
    truths' u (S, P), near which searches for modes begin, and keys."""

    def one(arrays, u, key):
        density = Joint(prior, dataclasses.replace(layout, arrays=arrays), prior.model_and_density(u)[0], ode)
        density.settle()
        w, diverging = one_chain(density, settings, key)
        return jax.vmap(lambda w: density.place(w)[0][: prior.size])(w), diverging

    return jax.jit(jax.vmap(one))


def _effective(values: np.ndarray) -> np.ndarray:
    """(P,) effective draws of each parameter, the least of all simulations."""
    from numpyro.diagnostics import effective_sample_size

    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.min([np.nan_to_num(effective_sample_size(one[None])) for one in values], axis=0)
    return np.clip(found, 0.0, values.shape[1])  # of few draws the estimate of the autocorrelations is beyond what can be
