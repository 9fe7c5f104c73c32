"""Bayesian estimation by the No-U-Turn sampler: the posterior of population parameters and every subject's random effects.

Two ways to the same posterior:

* **joint** (``nlme.posterior.joint``): parameters and random effects are sampled together;
* **marginal** (``nlme.posterior.marginal``): parameters alone, the random effects integrated out by a method (FOCEI, Laplace, AGQ)
  and drawn afterwards.  It knows mixtures, is as good as the method's approximation, and says how good that is.

Population parameters are in the unconstrained coordinates of ``nlme.parameters.priors``; both move in coordinates that are about
standard normal, with a diagonal mass matrix adapted there.

Sources: Hoffman & Gelman (2014), J Mach Learn Res 15:1593 (NUTS, in the implementation of NumPyro: Phan, Pradhan & Jankowiak
2019, arXiv:1912.11554).
"""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from nlme.digest import behaviour_of
from nlme.dynamics.solvers import Tolerances
from nlme.errors import ModelError
from nlme.keys import key_of
from nlme.language.effects import effect_transforms
from nlme.language.layout import Layout, lay_out
from nlme.language.model import Model, require_model
from nlme.marginal.base import Method
from nlme.marginal.foce import FOCEI
from nlme.marginal.joint import Failures
from nlme.marginal.quadrature import ImportanceSampling
from nlme.neural.correction import numbers_of
from nlme.parameters.domains import require_whole
from nlme.parameters.priors import Priors, describe
from nlme.posterior.approximations import CHAINS, Drawn, ensemble, kind_of, laplace, words_of_sgld
from nlme.posterior.chains import Chains, Settings, run_chains
from nlme.posterior.convergence import messages_of, messages_of_transitions
from nlme.posterior.draws import scalars
from nlme.posterior.functions import add_functions, judged, learned_functions
from nlme.posterior.inference_data import add_by_subject, inference_data, scale_names
from nlme.posterior.joint import Joint
from nlme.posterior.langevin import SGLD
from nlme.posterior.marginal import Marginal, approximation, approximation_messages
from nlme.posterior.models import values_of
from nlme.posterior.sampler import Line
from nlme.search.checkpoint import Checkpoint, fingerprint
from nlme.versions import now, versions

if TYPE_CHECKING:
    from arviz import InferenceData

_ASIDE = 0.1  # of the unconstrained scale: a point at which the priors are looked at


def sample(
    model: Model,
    population,
    priors: Mapping[str, Any],
    *,
    key,
    random_effects: str | None = None,
    weights: str | SGLD = "nuts",
    method: Method | None = None,
    warmup: int = 1000,
    draws: int = 1000,
    chains: int | None = None,
    fixed: Iterable[str] = (),
    target_acceptance: float = 0.8,
    max_tree_depth: int | tuple[int, int] = 10,
    ode: Tolerances | None = None,
    checkpoint: str | os.PathLike | None = None,
    checkpoint_every: float = 30.0,
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
    random_effects : "joint", sampled with the parameters; or "marginal", integrated by ``method`` while the parameters are sampled and
        drawn afterwards given them (effects of sites are sampled with the parameters).  Mixtures need "marginal".  By default "joint"
        with ``weights="nuts"`` and "marginal" with the others, which know nothing else
    weights : of networks with more of them than NUTS can move, some hundreds: "sgld" (or ``nlme.SGLD(...)`` with its options), chains by
        stochastic gradients; "laplace", a normal approximation around one mode; "ensemble", the modes of several searches.  All are
        approximations (:mod:`nlme.posterior.approximations`); the messages say how far to trust them
    method : nlme.FOCEI() (the default), FOCE, Laplace, AGQ or FO, for "marginal" only
    warmup, draws, chains : iterations of adaptation, iterations kept, and number of chains, which run side by side, by default 4;
        of "laplace" 1, without warm-up; of "ensemble" the members, by default 20, with ``draws`` of what is no weight around each
    fixed : names of parameters to hold at the model's values
    target_acceptance : a higher one makes smaller, safer steps (raise it when transitions diverge)
    max_tree_depth : a transition takes at most 2^depth - 1 steps; a pair gives the depth in warm-up and afterwards
    ode : tolerances of the ODE solver; for "marginal" those of the method
    checkpoint : a file in which the state is kept, at most every ``checkpoint_every`` seconds.  The same call finds it again after a
        kill, or after an interruption, and goes on to the same draws; a run that ended is read from it
    progress : show a line of progress; by default where the output is a terminal or a notebook

    Returns
    -------
    arviz.InferenceData
        ``posterior``: population parameters by name on the natural scale, ``omega.sd`` (and ``omega.correlation``) of the random
        effects, ``eta`` (subject, random_effect), in a mixture ``subpopulation``; ``log_likelihood`` of every observation (DV), and by
        subject ``conditional`` on its random effects, of a marginal run also ``marginal``, by the method; ``sample_stats``;
        ``observed_data`` and ``constant_data`` (ID, TIME, ENDPOINT).  Of a marginal run ``approximation`` has by subject what the
        method's approximation is worth (:mod:`nlme.posterior.marginal`).  ``attrs["messages"]`` says in words what is wrong with the
        sampling, if anything (a warning repeats it); ``attrs["failed_solves"]`` counts the points visited where the model could not
        be solved (an ODE), which are treated as impossible.  Networks are judged by their functions: ``learned_functions`` has the
        values of each at inputs that the data visited, and ``attrs["learned_functions"]`` their R-hat and effective draws.

    Raises
    ------
    ModelError
        A prior is missing or does not fit its parameter; the model does not fit the data; a mixture sampled jointly, or a method
        that integrates no random effects.
    FitError
        The density is not finite around the model's values; the checkpoint is of another run.
    """
    model = require_model(model)
    for name, count in (("warmup", warmup), ("draws", draws)):
        require_whole("nlme.sample", name, count, 1)
    if not 0.0 < target_acceptance < 1.0:
        raise ModelError(f"nlme.sample: target_acceptance is a share between 0 and 1, such as 0.8; got {target_acceptance!r}.")
    depths = max_tree_depth if isinstance(max_tree_depth, tuple) and len(max_tree_depth) == 2 else (max_tree_depth,)
    for depth in depths:
        require_whole("nlme.sample", "max_tree_depth", depth, 1)
    layout = lay_out(model, population)
    model = layout.model
    prior = Priors(model, priors, fixed)
    if not prior.size:
        raise ModelError("Every parameter is fixed, so there is nothing to sample.")
    layout.anatomy.require_variability(model, "nlme.sample")
    kind, langevin = kind_of(weights, prior)
    chains = CHAINS[kind] if chains is None else chains
    require_whole("nlme.sample", "chains", chains, 1)
    method = _integrating(kind, random_effects, method, layout, ode)
    settings = _settings(key, method, weights, draws, chains, ode) | (dict(warmup=warmup) if kind in ("nuts", "sgld") else {})
    settings |= dict(target_acceptance=target_acceptance, max_tree_depth=repr(max_tree_depth)) if kind == "nuts" else {}
    key = key_of(key)
    tolerances = method.ode if method else ode or Tolerances()
    if method is None:
        density = Joint(prior, layout, model, tolerances)
    else:
        density = Marginal(method, prior, layout, model, jax.random.fold_in(key, 1))
    if kind in ("laplace", "ensemble"):
        if checkpoint is not None:
            raise ModelError(f"checkpoint= keeps the state of chains; weights={kind!r} has none.")
        begin = time.perf_counter()
        if kind == "laplace":
            made = laplace(density, chains, draws, key)
        else:
            made = ensemble(density, prior, layout, method, priors, fixed, chains, draws, key, progress)
        timings = {"seconds_before": round(time.perf_counter() - begin, 2)}
    else:
        steps, kept_in = Settings(warmup, draws, chains, target_acceptance, max_tree_depth, langevin), None
        if checkpoint is not None:
            told = _fingerprint(model, prior, population, method, priors, steps, ode, key)
            kept_in = Checkpoint(checkpoint, told, checkpoint_every)
        failures = None if layout.anatomy.linear else Failures()  # closed forms cannot fail
        with Line(progress, f"{type(model).__name__}, {'NUTS' if langevin is None else 'SGLD'}") as show:
            ran = run_chains(density, steps, key, failures, show, kept_in)
            w = density.positions(ran.kept.w)
        made, timings = Drawn(w, _noted(ran, w), _words_of_steps(ran, steps)), _timed(ran)
    w = made.w
    functions = learned_functions(prior, layout, tolerances, w, made.stats["lp"], made.about)
    messages = list(made.words)
    found = inference_data(model, prior, layout, tolerances, w, made.stats)
    attributes = _attributes(model, population, prior, layout, method, priors)
    if kind in ("nuts", "sgld"):
        messages += messages_of(
            ran.kept._replace(w=w), _judged(found, json.loads(attributes["parameters"])), draws, functions, ran.failed
        )
    add_functions(found, functions)
    if method is not None and layout.anatomy.effects:
        worth = approximation(w["ratio"], w["effective"])
        add_by_subject(found, "approximation", worth, population.ids)
        messages += approximation_messages(method, population.ids, worth)
    found.attrs.update(attributes, messages=messages, weights=kind, settings=json.dumps(settings), date=now(), **timings)
    if functions:
        found.attrs["learned_functions"] = judged(functions, kind in ("nuts", "sgld"))
    if messages:
        warnings.warn("nlme.sample:\n" + "\n".join(f"  {m}" for m in messages), stacklevel=2)
    return found


def _noted(ran: Chains, w: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """``sample_stats``."""
    kept = ran.kept
    if "gradient" in kept.w:  # of stochastic ones the density is not known on the way
        return {"lp": w["log_density"], "step_size": kept.step_size, "n_steps": kept.steps}
    return {
        "lp": -kept.potential,
        "energy": kept.energy,
        "diverging": kept.diverging,
        "acceptance_rate": kept.acceptance,
        "step_size": kept.step_size,
        "n_steps": kept.steps,
        "tree_depth": np.ceil(np.log2(kept.steps + 1)).astype(int),
    }


def _settings(key, method: Method | None, weights, draws: int, chains: int, ode) -> dict[str, Any]:
    """Arguments of the call as they would be written again."""
    if not isinstance(key, (int, np.integer)):
        key = f"jax.random.wrap_key_data(jnp.array({np.asarray(jax.random.key_data(key_of(key))).tolist()}, dtype='uint32'))"
    found = dict(key=str(key), random_effects=repr("joint" if method is None else "marginal"))
    found |= {} if method is None else dict(method=f"nlme.{method!r}")
    found |= {} if ode is None else dict(ode=f"nlme.{ode!r}")
    written = repr(weights) if isinstance(weights, str) else f"nlme.{weights!r}"
    return found | dict(weights=written, draws=draws, chains=chains)


def _judged(found: InferenceData, declared: list[dict[str, Any]]) -> np.ndarray:
    """(chains, draws, P) of the population's numbers by which chains are judged: all but weights, which permute."""
    drawn = scalars(found)
    names = [one["name"] for one in declared if one["kind"] != "weight" and one["name"] in drawn]
    size = found.posterior.sizes
    return np.stack([drawn[name] for name in names], axis=-1) if names else np.zeros((size["chain"], size["draw"], 0))


def _words_of_steps(ran: Chains, settings: Settings) -> list[str]:
    if settings.langevin is not None:
        return [words_of_sgld(ran.kept, settings.langevin)]
    return messages_of_transitions(ran.kept, np.ravel(settings.max_tree_depth)[-1])


def _timed(ran: Chains) -> dict[str, Any]:
    before, warmup, sampling = (round(x, 2) for x in ran.seconds)
    return dict(
        failed_solves=ran.failed,
        failed_solves_in_warmup=ran.failed_in_warmup,
        seconds_before=before,  # compilation and the search for the mode
        seconds_in_warmup=warmup,
        seconds_in_sampling=sampling,
    )


def _integrating(
    kind: str, random_effects: str | None, method: Method | None, layout: Layout, ode: Tolerances | None
) -> Method | None:
    """The method that integrates the random effects; None where they are sampled."""
    if random_effects is None:
        random_effects = "joint" if kind == "nuts" else "marginal"
    if random_effects not in ("joint", "marginal"):
        raise ModelError(f"random_effects is 'joint' or 'marginal'; got {random_effects!r}.")
    if kind != "nuts" and not layout.anatomy.effects:
        if method is not None:
            raise ModelError(f"{method!r} integrates random effects, and the model has none: leave it out.")
        return FOCEI(ode=ode or Tolerances())  # without random effects: the likelihood itself
    if kind != "nuts" and random_effects == "joint":
        raise ModelError(f"weights={kind!r} integrates the random effects: random_effects='marginal', or leave it out.")
    if random_effects == "joint":
        if method is not None:
            raise ModelError(f"{method!r} integrates the random effects: it needs random_effects='marginal'.")
        if layout.anatomy.mixture:
            raise ModelError(
                "nlme.sample does not sample subpopulations with the parameters; it integrates them: random_effects='marginal'."
            )
        return None
    if not layout.anatomy.effects:
        raise ModelError("The model has no random effects to integrate: random_effects='joint' samples its parameters.")
    method = FOCEI() if method is None else method() if isinstance(method, type) else method
    if not isinstance(method, Method) or not method.individuals or isinstance(method, ImportanceSampling):
        raise ModelError(f"random_effects='marginal' takes nlme.FOCEI(), FOCE(), Laplace(), AGQ(...) or FO(); got {method!r}.")
    if ode is not None:
        raise ModelError("The solver's tolerances belong to the method: nlme.FOCEI(ode=nlme.Tolerances(...)).")
    method.require(layout.anatomy)
    return method


def _fingerprint(model: Model, prior: Priors, population, method, priors, settings: Settings, ode, key) -> str:
    """What the draws depend on."""
    beside = jnp.asarray(prior.unconstrained(model)) + _ASIDE
    words = sorted((name, describe(one)) for name, one in priors.items())
    seen = np.asarray(prior.model_and_density(beside)[1]), np.asarray(jax.random.key_data(key))
    return fingerprint(model, prior.inventory, population, method, words, settings, ode, *seen)


def _attributes(
    model: Model, population, prior: Priors, layout: Layout, method: Method | None, priors: Mapping[str, Any]
) -> dict[str, Any]:
    return dict(
        model=type(model).__name__,
        random_effects="joint" if method is None else repr(method),
        standardisation=json.dumps(numbers_of(model)),
        parameters=_declared(model, population, prior, layout),
        held=json.dumps(values_of(model, prior.inventory.fixed)),
        priors=json.dumps({name: describe(one) for name, one in priors.items()}),
        behaviour=behaviour_of(model),
        data_hash=population.hash,
        **{f"version_{name}": version for name, version in versions().items()},
    )


def _declared(model: Model, population, prior: Priors, layout: Layout) -> str:
    """What the model says of its parameters, as JSON: name, label, unit, kind, and how the effect of a variance enters."""
    rows = prior.inventory.rows(model, effect_transforms(model, population, layout.anatomy))
    kept = ("name", "label", "unit", "kind", "transform")
    told = [{name: getattr(row, name) for name in kept} for row in rows if not row.fixed]
    for name, labels in prior.scale_labels.items():
        for own, label in zip(scale_names(name, labels), labels, strict=True):
            told.append({"name": own, "label": f"Scale of weights, {label}", "unit": "", "kind": "scale", "transform": None})
    return json.dumps(told)
