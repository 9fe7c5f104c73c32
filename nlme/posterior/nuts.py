"""Bayesian estimation: the joint posterior of population parameters and random effects by the No-U-Turn sampler.

    p(theta, b | y)  proportional to  p(theta) prod_i N(b_i; 0, I) prod_j p(y_ij | theta, eta_i = L b_i),   Omega = L L'

Population parameters are in the unconstrained coordinates of ``nlme.parameters.priors``; random effects are non-centred as far as
the data leave them open, so that a small Omega makes no funnel, and the sampler moves in coordinates that whiten both together
(``nlme.posterior.coordinates``), with a diagonal mass matrix adapted there.

Sources: Hoffman & Gelman (2014), J Mach Learn Res 15:1593 (NUTS, in the implementation of NumPyro: Phan, Pradhan & Jankowiak
2019, arXiv:1912.11554).
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from nlme.dynamics.solvers import Tolerances
from nlme.errors import FitError, ModelError
from nlme.language.density import effects_from
from nlme.language.effects import effect_transforms
from nlme.language.layout import Layout, lay_out
from nlme.language.model import Model, require_model
from nlme.language.ragged import over_subjects
from nlme.marginal.joint import Failures, log_joint, pointwise, potential
from nlme.neural.correction import numbers_of, with_numbers
from nlme.parameters.covariance import Covariance
from nlme.parameters.domains import require_whole
from nlme.parameters.inventory import Inventory
from nlme.parameters.priors import Priors
from nlme.posterior.coordinates import Coordinates, coordinates
from nlme.search.progress import Progress
from nlme.versions import versions

if TYPE_CHECKING:
    from arviz import InferenceData

_CHUNK = 25  # iterations between two lines of progress
_SPREADS = (2.0, 1.0, 0.25, 0.0)  # distance from the mode within which chains start, in about standard deviations
_HUGE = 1e12  # above the energy of any point worth starting from


def sample(
    model: Model,
    population,
    priors: Mapping[str, Any],
    *,
    key,
    warmup: int = 1000,
    draws: int = 1000,
    chains: int = 4,
    fixed: Iterable[str] = (),
    target_acceptance: float = 0.8,
    max_tree_depth: int | tuple[int, int] = 10,
    ode: Tolerances = Tolerances(),
    progress: bool | None = None,
) -> InferenceData:
    """Draws from the posterior of a model's parameters and of every subject's random effects.

    Interrupting (Ctrl-C) while draws are kept returns those so far, and says so.

    Parameters
    ----------
    model : the model; the search for the mode, around which the chains start, begins at its values
    population : the data
    priors : name -> NumPyro distribution for every free parameter, see :mod:`nlme.parameters.priors`; none is assumed
    key : seed, an int or a JAX key
    warmup, draws, chains : iterations of adaptation, iterations kept, and number of chains, which run side by side
    fixed : names of parameters to hold at the model's values
    target_acceptance : a higher one makes smaller, safer steps (raise it when transitions diverge)
    max_tree_depth : a transition takes at most 2^depth - 1 steps; a pair gives the depth in warm-up and afterwards
    ode : tolerances of the ODE solver
    progress : show a line of progress; by default where the output is a terminal or a notebook

    Returns
    -------
    arviz.InferenceData
        ``posterior``: population parameters by name on the natural scale, ``omega.sd`` (and ``omega.correlation``) of the random
        effects, ``eta`` (subject, random_effect); ``log_likelihood`` of every observation; ``sample_stats``; ``observed_data``
        and ``constant_data`` (ID, TIME, ENDPOINT).  ``attrs["messages"]`` says in words what is wrong with the sampling, if
        anything (a warning repeats it); ``attrs["failed_solves"]`` counts the points visited where the model could not be
        solved (an ODE), which are treated as impossible.

    Raises
    ------
    ModelError
        A prior is missing or does not fit its parameter; the model does not fit the data.
    FitError
        The density is not finite around the model's values.
    """
    model = require_model(model)
    for name, count in (("warmup", warmup), ("draws", draws), ("chains", chains)):
        require_whole("nlme.sample", name, count, 1)
    layout = lay_out(model, population)
    model = layout.model
    prior = Priors(model, priors, fixed)
    if not prior.size:
        raise ModelError("Every parameter is fixed, so there is nothing to sample.")
    layout.anatomy.require_variability(model, "nlme.sample")
    if layout.anatomy.mixture:
        raise ModelError("nlme.sample has no mixtures of subpopulations; nlme.fit has: FOCEI, Laplace, AGQ.")
    key = jax.random.key(key) if isinstance(key, (int, np.integer)) else key
    starting, key = jax.random.split(key)
    clock = time.perf_counter()
    failures = None if layout.anatomy.linear else Failures()  # closed forms cannot fail
    at = jax.jit(lambda: coordinates(prior, layout, model, ode))()

    def log_density(w):
        u, y = at(w)
        here, density = prior.model_and_density(u[: prior.size])
        b, jacobian = at.standard_of_all(layout, here, u[prior.size :], y)
        likelihood, status = log_joint(here, layout.anatomy, layout.arrays, b, 1, ode)
        return density + jacobian + likelihood, status

    energy = potential(log_density, failures)
    with _Line(progress, f"{type(model).__name__}, NUTS") as show:
        sampler = _Sampler(energy, warmup, target_acceptance, max_tree_depth)
        sampler.begin(lambda key, spread: _starting_point(at, key, spread), starting, key, chains)
        compiled = time.perf_counter()
        sampler.run(warmup, show, "warm-up")
        failed_in_warmup, half = failures.take() if failures else 0, time.perf_counter()
        kept = sampler.run(draws, show, "sampling", interruptible=True)
        failed, end = failures.take() if failures else 0, time.perf_counter()
        kept = kept._replace(w=_positions(prior, layout, at, kept.w))
        messages = _messages(kept, prior, draws, np.ravel(max_tree_depth)[-1], failed)
        found = _inference_data(model, prior, layout, ode, kept)
    found.attrs.update(
        model=type(model).__name__,
        standardisation=json.dumps(numbers_of(model)),
        parameters=_declared(model, population, prior, layout),
        messages=messages,
        failed_solves=failed,
        failed_solves_in_warmup=failed_in_warmup,
        seconds_before=round(compiled - clock, 2),  # compilation and the search for the mode
        seconds_in_warmup=round(half - compiled, 2),
        seconds_in_sampling=round(end - half, 2),
        data_hash=population.hash,
        **{f"version_{name}": version for name, version in versions().items()},
    )
    if messages:
        warnings.warn("nlme.sample:\n" + "\n".join(f"  {m}" for m in messages), stacklevel=2)
    return found


def posterior_models(model: Model, posterior: InferenceData) -> Model:
    """The model at every draw: ``model`` with a leading axis of chains x draws on each of its parameters.

    Use it under ``eqx.filter_vmap``: ``eqx.filter_vmap(lambda m: m.cl / m.v)(posterior_models(model, posterior))``.

    Raises
    ------
    ModelError
        The posterior is of another model: it has no parameter in common with this one.
    """
    draws = posterior.posterior
    model = with_numbers(model, json.loads(posterior.attrs.get("standardisation", "{}")))
    names, columns = [], []
    inventory = Inventory(model)
    for entry in inventory.entries:
        name = ".".join(entry.path)
        if entry.size > 1 and not isinstance(entry.get(model), Covariance) and name in draws:
            values = np.asarray(draws[name])
            names += entry.names
            columns += list(values.reshape(-1, entry.size).T)
            continue
        for element in entry.names:
            if element in draws:
                names.append(element)
                columns.append(np.asarray(draws[element]).reshape(-1))
    if not names:
        raise ModelError(f"{type(model).__name__} has no parameter of this posterior ({', '.join(map(str, draws.data_vars))}).")
    free = Inventory(model, fixed=[n for n in inventory.all_names if n not in names])
    order = [names.index(n) for n in free.names]
    return jax.vmap(lambda vector: free.at_natural(model, vector))(jnp.asarray(np.stack(columns, axis=1)[:, order]))


def _declared(model: Model, population, prior: Priors, layout: Layout) -> str:
    """What the model says of its parameters, as JSON: name, label, unit, kind, and how the effect of a variance enters."""
    rows = prior.inventory.rows(model, effect_transforms(model, population, layout.anatomy))
    kept = ("name", "label", "unit", "kind", "transform")
    return json.dumps([{name: getattr(row, name) for name in kept} for row in rows if not row.fixed])


class _Line(Progress):
    """Progress told in words."""

    def __call__(self, text: str) -> None:
        self._write(f"{self._title}: {text}, {time.perf_counter() - self._start:.1f} s")


class _Draws(NamedTuple):
    """What is kept of every iteration: (iterations, chains, ...), on the host with chains first."""

    w: dict
    energy: Any
    potential: Any
    steps: Any
    acceptance: Any
    diverging: Any
    step_size: Any


class _Sampler:
    """NumPyro's NUTS over all chains at once, run some iterations at a time by one compiled program."""

    def __init__(self, energy: Callable, warmup: int, target_acceptance: float, max_tree_depth: int | tuple[int, int]):
        from numpyro.infer import NUTS

        kernel = NUTS(
            potential_fn=energy,
            step_size=0.1,  # where adaptation begins; the coordinates are about standard normal
            target_accept_prob=target_acceptance,
            max_tree_depth=max_tree_depth,
        )
        self._initial = lambda keys, z: kernel.init(keys, warmup, z, (), {})

        def keep(state) -> _Draws:
            return _Draws(
                state.z,
                state.energy,
                state.potential_energy,
                state.num_steps,
                state.accept_prob,
                state.diverging,
                state.adapt_state.step_size,
            )

        @jax.jit
        def advance(state, count):
            def one(k, carry):
                state, kept = carry
                state = kernel.sample(state, (), {})
                return state, jax.tree.map(lambda rows, row: rows.at[k].set(row), kept, keep(state))

            empty = jax.tree.map(lambda x: jnp.zeros((_CHUNK, *x.shape), x.dtype), keep(state))
            return jax.lax.fori_loop(0, count, one, (state, empty))

        self._advance = advance

    def begin(self, starting_point: Callable, starting, key, chains: int) -> None:
        """Start every chain at ``starting_point(key, spread)``, at the widest spread that all of them can leave.

        Raises
        ------
        FitError
            Not even the centre has a finite density.
        """
        from numpyro.infer.util import ParamInfo

        @jax.jit
        def first(starting, key, spread):
            start = jax.vmap(starting_point, (0, None))(jax.random.split(starting, chains), spread)
            # The energy of the start is not computed but taken as huge, so that the first transition leaves it: computing it
            # would mean to compile the density, which is most of a program's compile time, once more.
            unknown = ParamInfo(start, jnp.full(chains, _HUGE, dtype=jnp.float64), jax.tree.map(jnp.zeros_like, start))
            return self._initial(jax.random.split(key, chains), unknown)

        for spread in _SPREADS:
            state, _ = self._advance(first(starting, key, spread), 1)
            if np.all(np.asarray(state.potential_energy) < _HUGE):
                self._state = state
                return
        raise FitError(
            "The posterior density is not finite near the model's own values. nlme.evaluate(model, population) names the subjects "
            "and records that stand in the way."
        )

    def run(self, iterations: int, show: _Line, phase: str, interruptible: bool = False) -> _Draws:
        pieces, done, diverged = [], 0, 0
        try:
            while done < iterations:
                count = min(_CHUNK, iterations - done)
                self._state, kept = self._advance(self._state, count)
                pieces.append(jax.tree.map(lambda x: np.asarray(x)[:count], kept))  # noqa: B023 (used at once)
                done += count
                diverged += int(pieces[-1].diverging.sum())
                step = float(np.mean(pieces[-1].step_size[-1]))
                show(f"{phase} {done}/{iterations}, step size {step:.3g}" + (f", {diverged} diverging" if diverged else ""))
        except KeyboardInterrupt:
            if not (interruptible and pieces):
                raise
        return jax.tree.map(lambda *x: np.moveaxis(np.concatenate(x), 0, 1), *pieces)


def _starting_point(at: Coordinates, key, spread) -> dict:
    """A point within ``spread`` of the centre, in every coordinate."""
    shapes = {"population": at.u.shape} | ({"effects": at.y.shape} if at.y.size else {})
    keys = jax.random.split(key, len(shapes))
    return {
        name: spread * jax.random.uniform(k, shape, minval=-1.0, maxval=1.0)
        for k, (name, shape) in zip(keys, shapes.items(), strict=True)
    }


def _positions(prior: Priors, layout: Layout, at: Coordinates, w: dict) -> dict[str, np.ndarray]:
    """Unconstrained parameters u (chains, draws, P) and standardised random effects b (chains, draws, N, q) of all draws."""

    def one(w):
        u, y = at(w)
        u, shared = u[: prior.size], u[prior.size :]
        return {"u": u, "b": at.standard_of_all(layout, prior.model_and_density(u)[0], shared, y)[0]}

    return jax.tree.map(np.asarray, jax.jit(jax.vmap(jax.vmap(one)))(w))


def _messages(kept: _Draws, prior: Priors, wanted: int, max_tree_depth: int, failed: int) -> list[str]:
    """What is wrong with the sampling, in words, most serious first."""
    from numpyro.diagnostics import effective_sample_size, split_gelman_rubin

    found = []
    chains, draws = kept.diverging.shape
    if draws < wanted:
        found.append(f"Sampling was interrupted after {draws} of {wanted} draws.")
    diverged = int(kept.diverging.sum())
    if diverged:
        found.append(
            f"{diverged} of {chains * draws} transitions diverged: the posterior has places the sampler cannot enter, and the draws "
            f"may miss them. Raise target_acceptance (0.95), start nearer (at a fit), or reconsider priors that allow absurd values."
        )
    weights = np.concatenate([np.full(site.size, "weight" in site.entry.kinds) for site in prior.sites])
    coordinates = {
        "population parameters": kept.w["u"][:, :, ~weights],
        "random effects": kept.w["b"].reshape(chains, draws, -1),
    }
    for what, values in coordinates.items():
        if draws < 4 or not values.shape[-1]:
            continue
        with np.errstate(invalid="ignore", divide="ignore"):  # a coordinate that never moved is worth no draw at all
            disagreement = float(np.max(split_gelman_rubin(values)))
            size = float(np.min(np.nan_to_num(effective_sample_size(values))))
        if not disagreement <= 1.01:
            found.append(
                f"The chains do not agree on the {what} yet (largest split R-hat {disagreement:.3f}; 1.01 is the usual limit): "
                f"run longer."
            )
        if not size >= 100 * chains:
            found.append(
                f"The draws of the {what} are worth only {size:.0f} independent ones at worst (100 for each chain are usually "
                f"wanted): quantiles are rough."
            )
    if chains == 1:
        found.append("One chain cannot show whether others would go elsewhere; run several.")
    change = np.sum(np.diff(kept.energy, axis=1) ** 2, axis=1) / np.sum(
        (kept.energy - kept.energy.mean(1, keepdims=True)) ** 2, axis=1
    )
    if np.min(change) < 0.3:
        found.append(f"The energy moves slowly (lowest E-BFMI {np.min(change):.2f}, below 0.3): the tails may be explored badly.")
    full = int((kept.steps >= 2**max_tree_depth - 1).sum())
    if full:
        found.append(f"{full} transitions stopped at max_tree_depth = {max_tree_depth}: sampling is slow, not wrong.")
    if failed:
        found.append(f"At {failed} points visited the ODE could not be solved; they counted as impossible.")
    return found


def _inference_data(model: Model, prior: Priors, layout: Layout, ode: Tolerances, kept: _Draws) -> InferenceData:
    import arviz

    variables, likelihood = _at_draws(model, prior, layout, ode, kept)
    subjects = list(layout.population)
    who, place, record = _observations(layout)
    endpoints = layout.anatomy.endpoints if len(layout.population.endpoints) == 1 else layout.population.endpoints
    posterior, coords, dims = {}, {"subject": [s.id for s in subjects], "random_effect": list(layout.anatomy.effects)}, {}
    for name, (values, dim, labels) in variables.items():
        posterior[name] = values
        if dim is not None:
            dims[name] = dim
            coords.update(labels)
    steps = kept.steps
    return arviz.from_dict(
        posterior=posterior,
        log_likelihood={"DV": likelihood[:, :, who, place]},
        sample_stats={
            "lp": -kept.potential,
            "energy": kept.energy,
            "diverging": kept.diverging,
            "acceptance_rate": kept.acceptance,
            "step_size": kept.step_size,
            "n_steps": steps,
            "tree_depth": np.ceil(np.log2(steps + 1)).astype(int),
        },
        observed_data={"DV": layout.observed[who, place]},
        constant_data={
            "ID": np.array([subjects[i].id for i in who]),
            "TIME": np.array([subjects[i].time[j] for i, j in zip(who, record, strict=True)], dtype=float),
            "ENDPOINT": np.array([endpoints[int(subjects[i].endpoint[j])] for i, j in zip(who, record, strict=True)]),
        },
        coords={**coords, "observation": np.arange(len(who))},
        dims={**dims, **dict.fromkeys(("DV", "ID", "TIME", "ENDPOINT"), ["observation"])},
    )


def _observations(layout: Layout) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(subject, sample, record) of every observation, in the order of the data file."""
    who, place = np.nonzero(layout.positions >= 0)
    record = layout.positions[who, place]
    order = np.lexsort((record, who))
    return who[order], place[order], record[order]


def _at_draws(model: Model, prior: Priors, layout: Layout, ode: Tolerances, kept: _Draws):
    """Posterior variables as name -> (values, dims, coords), and log likelihoods (chains, draws, N, T)."""
    inventory = prior.inventory
    entries = [e for e in inventory.entries if not all(n in inventory.fixed for n in e.names)]

    def at(w):
        (one, _), b = prior.model_and_density(w["u"]), w["b"]
        eta = jax.vmap(lambda b: effects_from(layout.anatomy, one, b))(b)
        _, terms = over_subjects(lambda data, b: ((), pointwise(one, layout.anatomy, data, b, 0, ode)[0]), layout.arrays, b)
        spreads = {
            ".".join(e.path): (e.get(one).sd, e.get(one).correlation) for e in entries if isinstance(e.get(one), Covariance)
        }
        return [e.natural(one) for e in entries], spreads, eta, terms

    # one draw of all chains at a time: 1,000 draws at once would need 1,000 times the memory of a solve
    by_draw = jax.tree.map(lambda x: jnp.moveaxis(jnp.asarray(x), 0, 1), kept.w)
    found = eqx.filter_jit(lambda w: jax.lax.map(jax.vmap(at), w))(by_draw)
    natural, spreads, eta, terms = jax.tree.map(lambda x: np.moveaxis(np.asarray(x), 0, 1), found)

    variables: dict[str, tuple] = {}
    for entry, values in zip(entries, natural, strict=True):
        field, name = entry.get(model), ".".join(entry.path)
        if not isinstance(field, Covariance) and entry.size > 1:
            dim = f"{name}_element"
            variables[name] = (values, [dim], {dim: list(entry.names)})
            continue
        for k, element in enumerate(entry.names):
            if element not in inventory.fixed:
                variables[element] = (values[:, :, k], None, None)
        if isinstance(field, Covariance):
            sd, correlation = spreads[name]
            dim = "random_effect" if field.names == layout.anatomy.effects else f"{name}_effect"
            variables[f"{name}.sd"] = (sd, [dim], {dim: list(field.names)})
            pairs = [(i, j) for i, j in field.positions() if i != j]
            if pairs:
                labels = [f"{field.names[i]},{field.names[j]}" for i, j in pairs]
                rows, columns = zip(*pairs, strict=True)
                variables[f"{name}.correlation"] = (correlation[:, :, rows, columns], [f"{name}_pair"], {f"{name}_pair": labels})
    if layout.anatomy.effects:
        variables["eta"] = (eta, ["subject", "random_effect"], {})
    return variables, terms
