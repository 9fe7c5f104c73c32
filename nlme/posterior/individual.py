"""What is known of each subject's random effects given its data, at fixed population parameters: draws, not only a mode.

    p(eta | y, theta)  proportional to  p(y | theta, eta) N(eta; 0, Omega)

**Importance sampling.**  Nodes b_k of ``nlme.ImportanceSampling`` around the mode (two multivariate t and the random effects' own
distribution) with weights w_k; draws are nodes taken by systematic resampling, so that node k comes up D w_k / sum w times to within
one.  What they are worth is told by subject: how many nodes count, (sum w)^2 / sum w^2, and the Pareto k of the weights' tail.

**NUTS** for the subjects whose k is above 0.7: a posterior of a shape that no such proposal covers.

Sources: Vehtari et al. (2024), J Mach Learn Res 25:72 (Pareto k); Kitagawa (1996), J Comput Graph Stat 5:1,
doi:10.1080/10618600.1996.10474692 (systematic resampling); Hoffman & Gelman (2014), J Mach Learn Res 15:1593.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import logsumexp

from nlme.dynamics.solvers import SOLVED, Tolerances
from nlme.errors import FitError, ModelError
from nlme.fitting.applied import require_alike
from nlme.fitting.monte_carlo import UNRELIABLE, pareto_k
from nlme.fitting.result import Evaluated
from nlme.keys import key_of
from nlme.language.anatomy import MEMBER, OCCASION, Anatomy, rows_of
from nlme.language.layout import Layout, anatomy_for, lay_out
from nlme.language.model import Model, require_model
from nlme.language.ragged import Ragged, over_subjects, threaded
from nlme.marginal.joint import by_subpopulation
from nlme.marginal.kinks import beginnings
from nlme.marginal.quadrature import ImportanceSampling
from nlme.parameters.domains import require_whole
from nlme.parameters.inventory import Inventory
from nlme.posterior.chains import Settings
from nlme.posterior.draws import effective_size, r_hat
from nlme.posterior.proposals import proposals
from nlme.posterior.sampler import one_chain

if TYPE_CHECKING:
    import pandas as pd

_FEW = 100  # effective draws: the Monte-Carlo error of a mean is a tenth of the standard deviation
_NODES, _LEAST = 4, 1000  # for each draw, and in all
_CHAINS, _WARMUP, _KEPT = 4, 400, 100  # of NUTS; draws that a chain makes at least, to be judged by


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class IndividualPosterior:
    """Draws of every subject's random effects given its data, at the model's own parameters.

    Attributes
    ----------
    model, population : at which parameters, given which data
    eta : (N, D, q) random effects
    members : (N, D) subpopulation in a mixture; None without
    quality : DataFrame by subject: how its draws were made ("importance", "NUTS", or without samples "prior"), ``nodes``, how many of them count
        (``effective``; by NUTS the effective draws of the worst random effect), ``pareto_k`` of the importance weights, and of NUTS
        the largest split R-hat and the number of divergences
    """

    model: Model
    population: Any
    eta: np.ndarray
    members: np.ndarray | None
    quality: pd.DataFrame
    anatomy: Anatomy

    @property
    def effects(self) -> tuple[str, ...]:
        return self.anatomy.effects

    @property
    def draws(self):
        """DataFrame of all draws: ID, DRAW, one column per random effect; in a mixture SUBPOPULATION."""
        import pandas as pd

        n, d, _ = self.eta.shape
        frame = {"ID": np.repeat(np.array(self.population.ids, dtype=object), d), "DRAW": np.tile(np.arange(1, d + 1), n)}
        frame |= {name: self.eta[:, :, k].ravel() for k, name in enumerate(self.effects)}
        if self.members is not None:
            frame["SUBPOPULATION"] = np.array(self.anatomy.subpopulations, dtype=object)[self.members.ravel()]
        return pd.DataFrame(frame)

    @property
    def mean(self):
        """DataFrame: mean of every random effect by subject."""
        return self._by_subject(self.eta.mean(axis=1))

    @property
    def sd(self):
        """DataFrame: standard deviation of every random effect by subject."""
        return self._by_subject(self.eta.std(axis=1, ddof=1))

    def _by_subject(self, values: np.ndarray):
        import pandas as pd

        return pd.DataFrame(values, index=pd.Index(self.population.ids, name="ID"), columns=list(self.effects))

    @functools.cached_property
    def individual(self):
        """DataFrame of the individual parameters of all draws: ID, with occasions OCC, DRAW, one column per parameter.

        Covariates that change are those of the first record (of the subject, of the occasion).
        """
        import pandas as pd

        anatomy, population, frames = self.anatomy, list(self.population), []
        for i, subject in enumerate(population):
            for j in np.unique(subject.occasion, return_index=True)[1] if anatomy.by_occasion else [0]:
                found = _individual_at(self.model, anatomy, subject, int(j), self.eta[i], self._members_of(i))
                own = {"ID": subject.id} | ({"OCC": int(subject.occasion[j])} if anatomy.by_occasion else {})
                frames.append(pd.DataFrame(own | {"DRAW": np.arange(1, len(self.eta[i]) + 1)} | found))
        return pd.concat(frames, ignore_index=True)

    def _members_of(self, i: int) -> np.ndarray:
        return np.zeros(self.eta.shape[1]) if self.members is None else self.members[i]

    @property
    def messages(self) -> list[str]:
        """Problems in words, most serious first."""
        table, found = self.quality, []
        apart = table[(table.r_hat > 1.01) | (table.divergences > 0)]
        if len(apart):
            found.append(f"NUTS did not settle for {_listed(apart, 'r_hat', 'R-hat {:.3f}')}: its draws are not to be relied on.")
        few = table[table.effective < _FEW]
        if len(few):
            found.append(f"Fewer than {_FEW} draws count for {_listed(few, 'effective', '{:.0f}')}. Ask for more draws.")
        return found

    def __repr__(self) -> str:
        n, d, _ = self.eta.shape
        by_nuts = int((self.quality.how == "NUTS").sum())
        worst = self.quality.effective
        lines = [
            f"{type(self.model).__name__}: {d} draws of the random effects of {n} subject{'s' if n > 1 else ''}, {by_nuts} by NUTS, "
            f"effectively at least {worst.min():.0f} (subject {worst.idxmin()})"
        ]
        return "\n".join(lines + [f"  ! {m}" for m in self.messages])


def _listed(table, column: str, form: str) -> str:
    listed = ", ".join(f"{i} ({form.format(v)})" for i, v in table[column].head(5).items()) + (" ..." if len(table) > 5 else "")
    return f"{len(table)} subject{'s' if len(table) > 1 else ''}: {listed}"


def individual_posterior(
    model: Model | Evaluated, population=None, *, draws: int = 1000, key, ode: Tolerances | None = None
) -> IndividualPosterior:
    """Draws from the posterior of every subject's random effects at fixed population parameters.

    The parameters count as known: with a fit those estimated, with a model its own values (a published model's).  A subject without
    samples has the random effects' own distribution.

    Parameters
    ----------
    model : a fit or a model
    population : the subjects with their data; a fit's own by default
    draws : for each subject
    key : seed, an int or a JAX key
    ode : tolerances of the ODE solver; by default those of the fit's method

    Raises
    ------
    ModelError
        A model without random effects, or whose subjects share those of a site.
    FitError
        No node of a subject has a density: the model cannot be solved there, or does not allow its data.
    """
    require_whole("nlme.individual_posterior", "draws", draws, 1)
    own, population, ode = told(model, population, ode, "nlme.individual_posterior")
    anatomy = anatomy_for(own, population)
    require_own_effects(own, anatomy, "nlme.individual_posterior")
    key = key_of(key)
    seen = np.array([s.is_observation.any() for s in population])
    if seen.all():
        starts = model.b if isinstance(model, Evaluated) and population is model.population else None
        return drawn_given(lay_out(own, population), starts, draws, key, ode)
    unseen = _drawn_unseen(own, population, anatomy, draws, jax.random.fold_in(key, 1))
    if not seen.any():
        return unseen
    found = drawn_given(lay_out(own, population[np.flatnonzero(seen)]), None, draws, key, ode)
    return _put_in(unseen, found, np.flatnonzero(seen))


def _drawn_unseen(model: Model, population, anatomy: Anatomy, draws: int, key) -> IndividualPosterior:
    """Random effects of subjects of whom nothing is known."""
    import pandas as pd

    n, (effects, kinds) = len(population), jax.random.split(key)
    eta = np.asarray(jax.random.normal(effects, (n, draws, len(anatomy.effects)))) @ np.asarray(anatomy.cholesky(model)).T
    members = None
    if anatomy.mixture:
        shares = getattr(model, anatomy.mixture).shares
        members = np.array(jax.random.choice(kinds, len(shares), (n, draws), p=shares))
    index = pd.Index(population.ids, name="ID")
    quality = dict(how="prior", nodes=draws, effective=float(draws), pareto_k=np.nan, r_hat=np.nan, divergences=0)
    return IndividualPosterior(model, population, eta, members, pd.DataFrame(quality, index=index), anatomy)


def _put_in(whole: IndividualPosterior, part: IndividualPosterior, where: np.ndarray) -> IndividualPosterior:
    """``whole`` with the draws of some of its subjects; an occasion that these have not is new to them."""
    import pandas as pd

    for k, name in enumerate(part.effects):
        whole.eta[where, :, whole.effects.index(name)] = part.eta[:, :, k]
    if part.members is not None:
        whole.members[where] = part.members
    rest = whole.quality.drop(index=part.quality.index)
    quality = pd.concat([part.quality, rest]).loc[list(whole.population.ids)]
    return dataclasses.replace(whole, model=part.model, quality=quality)


def told(model, population, ode: Tolerances | None, verb: str):
    """(model, population, tolerances) of a fit or of a model."""
    if isinstance(model, Evaluated):
        population = model.population if population is None else population
        require_alike(model, population)
        return model.model, population, ode or model.method.ode
    if population is None:
        raise ModelError(f"{verb} of a model needs its subjects: {verb}(model, population, ...).")
    return require_model(model), population, ode or Tolerances()


def require_own_effects(model: Model, anatomy: Anatomy, verb: str) -> None:
    """Refuse what has no posterior subject by subject."""
    anatomy.require_variability(model, verb)
    if anatomy.by_site:
        raise ModelError(
            f"{verb} takes subject by subject, and here subjects share the effects of their {anatomy.above} "
            f"({', '.join(anatomy.shared)}). nlme.sample draws both together."
        )
    if not anatomy.effects:
        raise ModelError(f"{type(model).__name__} has no random effects, so there is nothing to know of them given the data.")


def drawn_given(layout: Layout, starts: np.ndarray | None, draws: int, key, ode: Tolerances) -> IndividualPosterior:
    """The draws for all subjects of ``layout``; searches for modes begin at ``starts`` (N, q), if any are known."""
    import pandas as pd

    anatomy, model, n = layout.anatomy, layout.model, layout.n_subjects
    method = ImportanceSampling(max(_LEAST, _NODES * draws), ode=ode)
    if starts is None:
        starts = beginnings(method, model, layout, Inventory(model))
    placing, choosing, chains = jax.random.split(key, 3)
    numbers = jax.random.bits(placing, (n,))
    found, centre, scatter = threaded(_proposals, layout.arrays, method, anatomy, model, jnp.asarray(starts), numbers)
    nodes, logs = (np.asarray(x) for x in found)
    _require_density(layout, logs)
    members, nodes = len(nodes[0]), nodes.reshape(n, -1, anatomy.inner)
    flat = logs.reshape(n, -1)
    weights = np.exp(flat - logsumexp(flat, axis=1, keepdims=True))
    random = np.random.default_rng(np.asarray(jax.random.key_data(choosing)).ravel())
    chosen = np.stack([_systematic(row, draws, random) for row in weights])
    standard = np.take_along_axis(nodes, chosen[..., None], axis=1)
    member = chosen // (flat.shape[1] // members)
    quality = {
        "how": np.full(n, "importance", dtype=object),
        "nodes": np.full(n, flat.shape[1]),
        "effective": 1.0 / np.sum(weights**2, axis=1),
        "pareto_k": pareto_k(logsumexp(logs, axis=1)),
        "r_hat": np.full(n, np.nan),
        "divergences": np.zeros(n, int),
    }
    bad = ~(quality["pareto_k"] < UNRELIABLE)
    if bad.any():
        own = [np.unique(part.members)[bad[np.unique(part.members)]] for part in layout.arrays.parts]
        who = np.concatenate(own)
        density = _Effects(layout.some(own), model, centre[who], scatter[who], anatomy, ode)
        standard[who], member[who], by_nuts = _by_nuts(density, _quantiles(standard[who], _CHAINS), draws, chains)
        for name, values in by_nuts.items():
            quality[name][who] = values
    eta = standard @ np.asarray(anatomy.cholesky(model)).T
    table = pd.DataFrame(quality, index=pd.Index(layout.population.ids, name="ID"))
    return IndividualPosterior(model, layout.population, eta, member if anatomy.mixture else None, table, anatomy)


def _proposals(arrays, method: ImportanceSampling, anatomy, model: Model, starts, numbers):
    """(nodes with their weights, mean, standard deviations) of every subject."""

    def of_subject(data, start, number):
        found = proposals(method, anatomy, model, data, start, number)
        flat = found.logs.reshape(-1)
        nodes = found.nodes.reshape(len(flat), -1)
        share = jax.nn.softmax(flat)
        mean = share @ nodes
        # of a subject whose weights are poor this is rough, but always positive
        scatter = jnp.sqrt(jnp.maximum(share @ (nodes - mean) ** 2, 1e-4))
        return (found, mean, scatter), ()

    return over_subjects(of_subject, arrays, starts, numbers)[0]


def _require_density(layout: Layout, logs: np.ndarray) -> None:
    lost = np.flatnonzero(~np.isfinite(logs.max(axis=(1, 2))))
    if len(lost):
        listed = ", ".join(str(layout.population.ids[i]) for i in lost[:5]) + (" ..." if len(lost) > 5 else "")
        raise FitError(
            f"The density of the random effects is nowhere a finite number for {len(lost)} of {layout.n_subjects} subjects: {listed}. "
            "nlme.evaluate(model, population) names the records that stand in the way."
        )


def _systematic(weights: np.ndarray, draws: int, random: np.random.Generator) -> np.ndarray:
    """(D,) positions, each as often as its weight says to within one, in random order."""
    points = (np.arange(draws) + random.uniform()) / draws
    edges = np.cumsum(weights)
    return random.permutation(np.searchsorted(edges / edges[-1], points, side="right").clip(0, len(weights) - 1))


class _Effects(eqx.Module):
    """The density of the standardised random effects of some subjects together, in coordinates about ``centre`` (n, q)."""

    arrays: Ragged
    model: Model
    centre: jax.Array
    scatter: jax.Array
    anatomy: Anatomy = eqx.field(static=True)
    ode: Tolerances = eqx.field(static=True)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"effects": self.centre.shape}

    def standard(self, w: dict):
        return self.centre + self.scatter * w["effects"]

    def by_subpopulation(self, b, order: int):
        """(n, M) log density of every subject's data, in each subpopulation."""

        def of_subject(data, b):
            return by_subpopulation(self.model, self.anatomy, data, b, order, self.ode)[1], ()

        return over_subjects(of_subject, self.arrays, b)[0]

    def log_density(self, w: dict):
        b = self.standard(w)
        return jnp.sum(jax.scipy.special.logsumexp(self.by_subpopulation(b, 1), axis=1)) - 0.5 * jnp.sum(b**2), jnp.asarray(
            SOLVED
        )


def _quantiles(b: np.ndarray, count: int) -> np.ndarray:
    """(count, n, q) of the draws (n, D, q) of every subject those from the least to the largest of the effect that varies most: of a
    density with two modes some about each, so that chains begun there tell by their R-hat."""
    n, draws, _ = b.shape
    widest = np.argmax(b.std(axis=1), axis=1)
    order = np.argsort(np.take_along_axis(b, widest[:, None, None], axis=2)[:, :, 0], axis=1, kind="stable")
    places = order[:, np.linspace(0, draws - 1, count).astype(int)]
    return np.moveaxis(np.take_along_axis(b, places[:, :, None], axis=1), 1, 0)


@eqx.filter_jit
def _chains(density: _Effects, starts, settings: Settings, key):
    """(standardised effects (chains, draws, n, q), divergences); the chains begin at ``starts`` (chains, n, q)."""

    def chain(start, key):
        return one_chain(density, settings, key, {"effects": (start - density.centre) / density.scatter})

    w, diverging = jax.vmap(chain)(starts, jax.random.split(key, settings.chains))
    return density.standard(w), jnp.sum(diverging)


@eqx.filter_jit
def _members(density: _Effects, b, key):
    """(D, n) subpopulations, given the standardised effects (D, n, q)."""
    return jax.random.categorical(key, jax.lax.map(lambda b: density.by_subpopulation(b, 0), b))


def _by_nuts(density: _Effects, starts: np.ndarray, draws: int, key):
    """Standardised effects (n, D, q) and members (n, D) of the subjects of ``density``, all sampled side by side from ``starts``
    (chains, n, q), and their quality."""
    key, choosing = jax.random.split(key)
    found, diverging = _chains(
        density, jnp.asarray(starts), Settings(_WARMUP, max(-(-draws // _CHAINS), _KEPT), _CHAINS, 0.9, 8), key
    )
    b = np.asarray(found)
    quality = dict(how="NUTS", nodes=0, effective=effective_size(b).min(axis=-1), r_hat=r_hat(b).max(axis=-1))
    quality["divergences"] = int(diverging)
    flat = b.reshape(-1, *b.shape[2:])  # of all chains in turn
    flat = flat[np.linspace(0, len(flat) - 1, draws).astype(int)]
    members = np.zeros(flat.shape[:2], int)
    if density.anatomy.mixture:
        members = np.asarray(_members(density, jnp.asarray(flat), choosing))
    return np.moveaxis(flat, 1, 0), members.T, quality


@eqx.filter_jit
def _rows(model, anatomy, eta, cov, members):
    def of_draw(eta, k):
        given = {**cov, MEMBER: k[None]} if anatomy.mixture else cov
        return {name: x[0] for name, x in rows_of(model, anatomy, eta, given, 1).items()}

    return jax.vmap(of_draw)(eta, members)


def _individual_at(model: Model, anatomy, subject, record: int, eta: np.ndarray, members: np.ndarray) -> dict[str, np.ndarray]:
    cov = {name: np.asarray(value)[None] for name, value in anatomy.told_at(subject, record).items()}
    if anatomy.by_occasion:
        cov[OCCASION] = np.array([float(anatomy.occasions.index(str(subject.occasion[record])))])
    found = _rows(model, anatomy, jnp.asarray(eta), cov, jnp.asarray(members, float))
    return {name: np.asarray(x) for name, x in found.items()}
