"""Posteriors of networks with many weights, without a Markov chain that leaves the whole posterior as it is.

Each gives draws x = (parameters and weights, unconstrained), for which random effects are then drawn as for any other
(``nlme.posterior.marginal``):

* **sgld**: chains by stochastic gradients (``nlme.posterior.langevin``);
* **laplace**: x ~ N(x^, H^-1), x^ the mode and H of ``nlme.posterior.metric``.  The draws are as good as the normal density is, of which
  the importance weights log p(x) - log N(x; x^, H^-1) speak; learned functions are looked at through the linearised network
  (``nlme.posterior.functions``);
* **ensemble**: the modes that searches from weights drawn from the prior end in, each as often as the others; what is no weight is
  drawn given them, normal with its own exact Hessian.  The spread of the members is no posterior.

Sources: MacKay (1992), Neural Comput 4:448 (Laplace); Lakshminarayanan, Pritzel & Blundell (2017), NeurIPS 30, arXiv:1612.01474
(ensembles); Wilson & Izmailov (2020), NeurIPS 33, arXiv:2002.08791 (what they have to do with posteriors).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nlme.errors import FitError, ModelError
from nlme.fitting.maximum_posterior import MinusTwiceLogPrior
from nlme.fitting.monte_carlo import UNRELIABLE, pareto_k
from nlme.language.layout import Layout
from nlme.marginal.base import Method
from nlme.parameters.inventory import Inventory
from nlme.parameters.priors import Priors
from nlme.posterior.langevin import SGLD, spread_inflation
from nlme.posterior.marginal import Marginal, Place
from nlme.posterior.sampler import Draws
from nlme.search.batch import run_fits
from nlme.search.problem import Problem

KINDS = ("nuts", "sgld", "laplace", "ensemble")
CHAINS = {"nuts": 4, "sgld": 4, "laplace": 1, "ensemble": 20}
_CLOSE = 1e-4  # expected further decrease of the objective at which a member's search ends
_APART = 10.0  # of objectives, above which the worst member deserves a word: a density lower by a factor of 150
_OFF = 0.1  # of the variance
_UNSETTLED = 0.1  # gain in log density
_LONGEST = 600  # evaluations of a member


class Drawn(NamedTuple):
    """Draws: what ``positions`` of a density found, ``sample_stats``, and words on what they are."""

    w: dict[str, np.ndarray]
    stats: dict[str, np.ndarray]
    words: list[str]
    about: np.ndarray | None = None  # where networks are linearised, to look at their functions


def kind_of(weights: str | SGLD, prior: Priors) -> tuple[str, SGLD | None]:
    """Which approximation of weights is asked for, and the options of SGLD.

    Raises
    ------
    ModelError
        No such one; a model without free weights.
    """
    kind = "sgld" if isinstance(weights, SGLD) else weights
    if kind not in KINDS:
        raise ModelError(f"weights is one of {', '.join(map(repr, KINDS))}, or nlme.SGLD(...); got {weights!r}.")
    if kind != "nuts" and not prior.of_weights.any():
        raise ModelError(f"weights={weights!r} is for networks, and the model has no free weights of any: leave it out.")
    return kind, (weights if isinstance(weights, SGLD) else SGLD()) if kind == "sgld" else None


def laplace(density: Marginal, chains: int, draws: int, key) -> Drawn:
    """Draws of the normal approximation, all independent."""
    density.settle()
    w = np.asarray(jax.random.normal(key, (chains, draws, *density.shapes["population"])))
    found = density.positions({"population": w})
    logs = (found["log_density"] + 0.5 * np.sum(np.square(w), axis=-1)).reshape(1, -1)
    k = float(pareto_k(logs)[0]) if logs.size >= 25 else float("nan")
    share = np.exp(logs - logs.max())
    share = float(np.sum(share) ** 2 / np.sum(np.square(share)) / logs.size)
    words = (
        "Laplace approximation: parameters and weights are normal around one mode, between weights by the generalised Gauss-Newton "
        "matrix. The draws are independent, so R-hat and ESS have nothing to say. `learned_functions` are those of the network linearised "
        "at the mode; simulations from draws of the weights, which are not, are wider."
    )
    if k < UNRELIABLE:
        words += f" Importance weights against the posterior have a Pareto k of {k:.2f}: the approximation is near it."
    else:
        words += (
            f" Importance weights against the posterior have a Pareto k of {k:.2f}, above {UNRELIABLE}, and leave {100 * share:.2g} % of the "
            f"draws: the approximation is not the posterior. Trust bands of functions inside the region visited, no more."
        )
    told = [words]
    if density.distance() > _UNSETTLED:
        told.insert(
            0,
            f"The search for the mode did not end there: a step would still gain {density.distance():.2g} of log density, and nothing that "
            f"is normal around this point can be trusted. Begin at a fit (fit.model), or train the equations first (shooting=).",
        )
    return Drawn(found, {"lp": found["log_density"]}, told, np.asarray(density.place.x)[: found["u"].shape[-1]])


def ensemble(
    density: Marginal,
    prior: Priors,
    layout: Layout,
    method: Method,
    priors: Mapping[str, Any],
    fixed: Iterable[str],
    members: int,
    draws: int,
    key,
    progress: bool | None,
) -> Drawn:
    """Draws around the modes of ``members`` searches.

    Raises
    ------
    ModelError
        Priors whose scales are learned; a mixture, or random effects of sites.
    FitError
        No search ended anywhere.
    """
    model = layout.model
    inventory = Inventory(model, fixed)
    problem = Problem(method, model, layout, inventory, MinusTwiceLogPrior(model, priors, inventory.fixed))
    of_starts, of_draws = jax.random.split(key)
    u = np.array(prior.drawn(of_starts, members))
    own = np.asarray(prior.unconstrained(model))
    u[:, ~prior.of_weights] = own[~prior.of_weights]
    begun = jax.jit(jax.vmap(lambda u: inventory.unconstrained(prior.model_and_density(u)[0])))(u)
    modes = np.zeros((layout.n_subjects, layout.anatomy.inner))
    fits = run_fits(
        problem,
        np.asarray(begun),
        starts=modes,
        tolerance=_CLOSE,
        max_evaluations=_LONGEST,
        progress=progress,
        title=f"{type(model).__name__}, members",
    ).whole()
    ended = np.flatnonzero(fits.converged)
    if not len(ended):
        raise FitError(f"No member of the ensemble found a mode: {fits.failures}. Fit the model first, and begin there.")
    size, others = prior.size, np.flatnonzero(~prior.of_weights)
    places = []
    for r in ended:
        x = np.asarray(prior.unconstrained(problem.at(fits.u[r])))
        centre, root = density.conditional(x)
        spread = np.zeros((size, size))
        spread[np.ix_(others, others)] = root
        motion = np.zeros((*modes.shape, size))
        places.append(Place(*map(jnp.asarray, (centre, spread, modes, motion))))
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *places)
    w = np.asarray(jax.random.normal(of_draws, (len(ended), draws, size)))
    found = density.positions({"population": w}, stacked)
    apart = float(np.ptp(fits.objective[ended]))
    words = (
        f"Ensemble of {len(ended)} modes, from {members} searches, each with the same weight; other "
        f"parameters are drawn given the weights, normal with their own Hessian. Its spread is that of the searches and no posterior: "
        f"bands need not cover what they say, so compare with weights='nuts' or 'sgld' where these can be run. R-hat compares members, "
        f"which differ by construction."
    )
    if apart > _APART:
        words += (
            f" The members' objectives (penalty included) differ by up to {apart:.1f}: the worst are not where the posterior is."
        )
    return Drawn(found, {"lp": found["log_density"]}, [words])


def words_of_sgld(kept: Draws, how: SGLD) -> str:
    """What draws by stochastic gradients are, and what the step cost."""
    inflation = spread_inflation(kept.w["population"], kept.w["gradient"])
    drawn = "all subjects" if how.subjects is None else f"{how.subjects} subjects"
    advice = (
        " Take a smaller step."
        if inflation > _OFF
        else " They have not been everywhere yet: run longer."
        if inflation < -_OFF
        else ""
    )
    return (
        f"Weights and parameters were sampled by preconditioned stochastic gradient Langevin dynamics without a Metropolis step ({drawn}, "
        f"step {how.step:g}): by Stein's identity the draws' variance is {abs(100 * inflation):.1f} % too {'large' if inflation > 0 else 'small'} "
        f"on average.{advice}"
    )
