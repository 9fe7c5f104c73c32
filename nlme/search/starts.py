"""Where a search could begin: points at which the typical subject predicts the data, whatever the starting values.

Every observation is taken for one of the typical subject's, and the residual variances are right up to a factor k_e for each
endpoint e, which is profiled out:

    pooled(theta) = sum_e n_e log k_e + sum_j [ log g_j - 2 l_j ],      k_e = 1/n_e sum_(j of e) (z_j - m_j)^2 / g_j

(l_j as in ``nlme.marginal.base``; n_e normal observations).  It needs no random effects and no scale of the errors, and costs a
solution of the dynamics.  It is computed at many points scattered about given centres, and minimised from the best of them (by
differences: one small program is all there is to compile) in the parameters that the predictions depend on.  The errors are then
scaled to the residuals, and random effects get a spread of 30 % of whatever they move.

Networks begin at each of these points with weights drawn anew, of the size that the model's own have.

In a mixture every subject is taken for one of the subpopulation whose part is the least (the criterion of k-means, where it has local
minima as well), and the shares begin equal.
"""

from __future__ import annotations

import dataclasses
import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from nlme.dynamics.solvers import SOLVED
from nlme.language.anatomy import individual_row, named, structure_of
from nlme.language.density import moments
from nlme.language.ragged import over_subjects
from nlme.language.solution import expand
from nlme.search.problem import Problem, padded
from nlme.search.quasi_newton import SEARCHING, Answer, Search, absorb, begin
from nlme.structure.compartments import OneCompartmentOral, ThreeCompartmentOral, TwoCompartmentOral
from nlme.typing import Named

_ABSORBING = tuple(form.__name__ for form in (OneCompartmentOral, TwoCompartmentOral, ThreeCompartmentOral))
_ROWS = 256  # points of the compiled program, where there are not more
_POINTS = 192  # looked at
_DESCENTS = 8  # of the best of them from which the pooled criterion is minimised
_ROUNDS = 40  # of those searches
_DECADE = np.log(10.0)  # standard deviation of the points, in logarithms
_APART = 0.3  # of a logarithm, that two minima of the criterion differ by in some parameter
_ELSEWHERE = 1.0  # the same of starts that are none
_SPREAD = 0.3  # of individual parameters, by each random effect
_LARGER = 10.0
_LEAST = 1e-12  # factor on the residual variances
_STEP = 1e-4  # of differences
_TOLERANCE = 1e-2
_ASSIGNED = 20  # times, at most, that subjects of a mixture change their subpopulation while the factors settle
_SAME = 0.1  # criteria of two minima of a mixture that differ in the names of its subpopulations alone


@dataclasses.dataclass(frozen=True)
class Pooled:
    """The parts of the criterion at R points, by subject and endpoint (R, N, E); as they come in a mixture, by subpopulation (R, N, K, E)."""

    squares: np.ndarray  # (z - m)^2 / g
    logs: np.ndarray  # log g
    rest: np.ndarray  # -2 l
    count: np.ndarray
    mark: np.ndarray  # (R,) a number that changes with any prediction

    def in_subpopulations(self) -> Pooled:
        """The parts (R, N, E) of every subject in the subpopulation to which the criterion is the least."""
        parts = self.squares, self.logs, self.rest, self.count
        factor = _factor(self.squares.sum(axis=2), self.count.sum(axis=2))
        for _ in range(_ASSIGNED):
            found = np.argmin(self.by_subject(factor[:, None, None, :]), axis=2)  # where one is no number, that one
            chosen = Pooled(*(np.take_along_axis(x, found[:, :, None, None], axis=2)[:, :, 0] for x in parts), self.mark)
            if np.array_equal(chosen.factor, factor, equal_nan=True):
                break
            factor = chosen.factor
        return chosen

    @property
    def factor(self) -> np.ndarray:
        """(R, E) k_e."""
        return _factor(self.squares, self.count)

    @property
    def value(self) -> np.ndarray:
        """(R,) the criterion."""
        spread = np.sum(self.count.sum(axis=1) * np.log(self.factor), axis=1)
        return spread + (self.logs + self.rest).sum(axis=(1, 2))

    def at(self, rows: slice) -> Pooled:
        return Pooled(*(getattr(self, f.name)[rows] for f in dataclasses.fields(self)))

    def by_subject(self, factor: np.ndarray) -> np.ndarray:
        """(R, N) each subject's part of it while the factors (E,) stand still."""
        with np.errstate(divide="ignore", invalid="ignore"):  # predictions that are the observations
            return (self.squares / factor + self.logs + self.rest).sum(axis=-1)


def _factor(squares: np.ndarray, count: np.ndarray) -> np.ndarray:
    """(R, E) k_e."""
    n = count.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(n > 0, np.maximum(squares.sum(axis=1) / n, _LEAST), 1.0)


class Typical:
    """The typical subject's side of a problem.

    Attributes
    ----------
    structural, errors : positions among the free parameters of those that predictions depend on, and of those that only residual
        variances do
    drawn : positions of every array of weights that does not begin at zero
    """

    def __init__(self, problem: Problem, centres: list[np.ndarray], seed: int):
        self.problem, self._rng = problem, np.random.default_rng(seed)
        names, kinds = problem.inventory.names, problem.inventory.kinds
        real = np.array([domain.name == "real" for domain in problem.inventory.ranges], bool)
        # logarithms of parameters are real ones of the size of 1, whatever the unit of their starting value
        self._unit = np.where(real, problem.every.scales[problem.inventory.free], 1.0)
        self._wide = np.where(real, 1.0, _DECADE)
        self._wider = np.where(real, np.maximum(1.0, 1.0 / self._unit), _DECADE)
        own = np.flatnonzero([kind == "fixed effect" for kind in kinds])
        weights = [k for k, kind in enumerate(kinds) if kind == "weight"]
        arrays = itertools.groupby(weights, lambda k: names[k].rpartition("[")[0])  # net.weights[0] of net.weights[0][1,2]
        self.drawn = [own for _, places in arrays if np.any(problem.start[own := np.array(list(places))])]
        self._of_kind = {kind: np.flatnonzero([k == kind for k in kinds]) for kind in ("variance", "covariance", "share")}
        self.structural = self.errors = np.zeros(0, int)
        self.centres = [np.asarray(u, float) for u in centres]
        for u in [*self.centres, *self._about(self.centres[0], own, 20)]:  # where predictions are numbers
            moved = self.pooled(self._each(u, own))
            if np.isfinite(moved.value).all():
                changes = (moved.logs[1:] - moved.logs[0]).sum(axis=1) / _STEP
                self.structural = own[moved.mark[1:] != moved.mark[0]]
                self.errors = own[(moved.mark[1:] == moved.mark[0]) & np.any(changes != 0.0, axis=1)]
                break
        self.centres = [self._balanced(u) for u in self.centres]

    def pooled(self, points: np.ndarray) -> Pooled:
        problem, count = self.problem, len(points)
        parts = _parts(
            problem.every,
            problem.model,
            problem.layout.arrays,
            problem.layout.anatomy,
            problem.method.ode,
            jnp.asarray(problem.among_all(padded(points, _ROWS))),
            jnp.asarray(count),
        )
        return Pooled(*(np.asarray(part)[:count] for part in parts)).in_subpopulations()

    def starts(self, count: int) -> list[np.ndarray]:
        """At most ``count`` points (P,) from which searches should begin, best first."""
        if not len(self.structural):
            return [self._complete(self._with_other_weights(self.centres[0])) for _ in range(count if self.drawn else 0)]
        share = -(-_POINTS // len(self.centres))
        points = np.concatenate([self._about(u, self.structural, share) for u in self.centres])
        values = self.pooled(points).value
        good = [k for k in np.argsort(np.where(np.isfinite(values), values, np.inf), kind="stable") if np.isfinite(values[k])]
        minima = self._apart(self._named_once(self._descended(self._apart(points[good], _DESCENTS))), count)
        # the criterion's minima are few, and the objective may have others: their counterparts, then good points far from them
        other = [u for u in map(self._flip_flopped, minima) if u is not None]
        if other:
            minima = self._apart(
                np.array([v for pair in itertools.zip_longest(minima, other) for v in pair if v is not None]), count
            )
        if self.drawn and len(minima):  # networks have more minima than the typical subject's structure has
            chosen = [self._with_other_weights(u) for u in itertools.islice(itertools.cycle(minima), count)]
        else:
            chosen = self._apart(np.concatenate([minima, points[good]]), count, _ELSEWHERE, len(minima))
        return [self._complete(u) for u in chosen]

    def _with_other_weights(self, u: np.ndarray) -> np.ndarray:
        """The point with networks as they begin, their weights drawn anew: zeros (no correction, no offset) stay, others keep their size."""
        u = u.copy()
        for leaf in self.drawn:
            size = np.sqrt(np.mean(np.square(self.problem.start[leaf])))
            u[leaf] = size * self._rng.normal(size=len(leaf))
        return u

    def _flip_flopped(self, u: np.ndarray) -> np.ndarray | None:
        """The point with the rates of absorption and elimination exchanged, at which the same is predicted: ka cl/v -> cl/v ka,
        v -> cl/ka, of one compartment in the first subject; None where the structure is another."""

        def rates(u):
            found = _absorption(self.problem, u)
            return None if found is None else np.log(np.maximum(found, 1e-300))

        now = rates(u)
        if now is None or not np.isfinite(now).all():
            return None
        ka, cl, v = now
        wanted = np.array([cl - v, cl, cl - ka]) - now
        jacobian = np.array([(rates(moved) - now) / _STEP for moved in self._each(u, self.structural)[1:]]).T
        move = np.linalg.lstsq(jacobian, wanted, rcond=1e-6)[0]
        if not np.allclose(jacobian @ move, wanted, atol=0.1) or np.max(np.abs(move * self._unit[self.structural])) > 20.0:
            return None
        found = u.copy()
        found[self.structural] += move
        return found

    def with_larger_errors(self, u: np.ndarray) -> np.ndarray:
        """The start with error parameters so that its residual variances are ``_LARGER`` times as large, equally from each part."""
        u = self._balanced(u)
        shares, _ = self._shares(u)
        u[self.errors] += np.linalg.lstsq(shares, np.full(len(shares), np.log(_LARGER)), rcond=1e-6)[0]
        return u

    def _about(self, centre: np.ndarray, which: np.ndarray, count: int) -> np.ndarray:
        """(count, P) points, the centre the first of them; some near, some far."""
        points = np.repeat(centre[None], count, axis=0)
        size = self._rng.uniform(0.2, 1.5, (count, 1)) * (np.arange(count) > 0)[:, None]
        wide = np.where(np.arange(count)[:, None] % 2 > 0, self._wider[which], self._wide[which])
        points[:, which] += size * wide * self._rng.normal(size=(count, len(which)))
        return points

    def _each(self, u: np.ndarray, which: np.ndarray) -> np.ndarray:
        """The point, and those a step off it in each of the parameters."""
        points = np.repeat(u[None], 1 + len(which), axis=0)
        points[1 + np.arange(len(which)), which] += _STEP
        return points

    def _apart(self, points: np.ndarray, count: int, apart: float = _APART, kept: int = 0) -> np.ndarray:
        """The first ``count`` of the points that are ``apart`` from those before them, the first ``kept`` in any case."""
        chosen = list(points[:kept])
        for u in points[kept:]:
            if len(chosen) >= count:
                break
            if all(np.max(np.abs(u - other)[self.structural]) > apart for other in chosen):
                chosen.append(u)
        return np.array(chosen)

    def _descended(self, points: np.ndarray) -> np.ndarray:
        """(K, P) where the criterion is lowest near each of the points, the lowest first."""
        if not len(points):
            return points
        own = self.structural
        searches = [begin(u[own], self.problem.farthest[own]) for u in points]
        for _ in range(_ROUNDS):
            going = [k for k, search in enumerate(searches) if search.status == SEARCHING]
            if not going:
                break
            trials = np.array([self._with(points[k], searches[k]) for k in going])
            at = self.pooled(np.concatenate([self._each(u, own) for u in trials]))
            size = 1 + len(own)
            for place, k in enumerate(going):
                rows = slice(place * size, (place + 1) * size)
                parts = at.at(rows).by_subject(at.factor[place * size])
                with np.errstate(invalid="ignore"):  # of what is impossible there
                    scores = (parts[1:] - parts[0]).T / _STEP
                absorb(searches[k], Answer(float(at.value[rows][0]), scores.sum(axis=0), scores), _TOLERANCE, 10 * _ROUNDS)
        found = np.array(points)
        found[:, own] = [search.x for search in searches]
        return found[np.argsort([search.value for search in searches], kind="stable")]

    def _named_once(self, points: np.ndarray) -> np.ndarray:
        """In a mixture, the points without those at which its subpopulations have changed names."""
        if not self.problem.layout.anatomy.mixture or not len(points):
            return points
        values, kept = self.pooled(points).value, []
        for k, value in enumerate(values):
            if all(abs(value - values[j]) > _SAME for j in kept):
                kept.append(k)
        return points[kept]

    def _with(self, u: np.ndarray, search: Search) -> np.ndarray:
        trial = u.copy()
        trial[self.structural] = search.proposal
        return trial

    def _shares(self, u: np.ndarray) -> tuple[np.ndarray, Pooled]:
        """(E, errors) mean of d log g_j / d log of each error parameter, and the criterion's parts at the point."""
        at = self.pooled(self._each(u, self.errors))
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.nan_to_num((at.logs[1:] - at.logs[0]).sum(axis=1).T / _STEP / at.count[0].sum(axis=0)[:, None]), at

    def _balanced(self, u: np.ndarray) -> np.ndarray:
        """The point with parts of a residual variance, additive and proportional, of equal weight."""
        u = u.copy()
        if len(self.errors) < 2:
            return u
        for _ in range(3):
            shares, at = self._shares(u)
            if not np.isfinite(at.value[0]):
                return u
            whole = shares.sum(axis=1, keepdims=True)
            parts = np.sum(shares > 0.0, axis=1, keepdims=True)
            with np.errstate(divide="ignore", invalid="ignore"):
                wanted = np.where((shares > 0.0) & (whole > 0.0), np.log(whole / parts / shares) / whole, 0.0)
            u[self.errors] += np.clip(np.nan_to_num(wanted).sum(axis=0), -20.0, 20.0)
        return u

    def _complete(self, u: np.ndarray) -> np.ndarray:
        """The point with errors of the size of its residuals and random effects of moderate size."""
        u = self._balanced(u)
        if len(self.errors):
            shares, at = self._shares(u)
            known = at.count[0].sum(axis=0) > 0
            wanted = np.log(at.factor[0][known])
            u[self.errors] += np.clip(np.linalg.lstsq(shares[known], wanted, rcond=1e-6)[0], -20.0, 20.0)
        u[self._of_kind["covariance"]] = u[self._of_kind["share"]] = 0.0
        sizes = self._sizes(u)
        for k in self._of_kind["variance"]:
            u[k] = sizes.get(self.problem.inventory.names[k].rsplit(".", 1)[-1], u[k])
        return u

    def _sizes(self, u: np.ndarray) -> dict[str, float]:
        """Random effect -> log of the standard deviation by which it moves some individual parameter by 30 %, in the first subject."""
        return {word: float(np.log(_SPREAD / s)) for word, s in relative_slopes(self.problem, u).items() if s > 0}


def relative_slopes(problem: Problem, u: np.ndarray) -> dict[str, float]:
    """Random effect -> largest |d log p / d eta| of any individual parameter p, in the first subject."""
    anatomy = problem.layout.anatomy
    if not anatomy.words:
        return {}
    slopes = np.abs(np.asarray(_relative_slopes(problem.at(u), anatomy, _covariates(problem))))
    slopes = np.max(np.where(np.isfinite(slopes), slopes, 0.0), axis=0, initial=0.0)
    return dict(zip(anatomy.words, slopes.tolist(), strict=True))


def absorbs_slowly(problem: Problem, u: np.ndarray) -> bool:
    """Whether the typical first subject's absorption is slower than some elimination or exchange, with which it may have changed places:
    of the closed forms, and of linear equations y' = K y with a state into which nothing flows."""
    anatomy = problem.layout.anatomy
    values = jnp.asarray(problem.among_all(u))
    if anatomy.structure in _ABSORBING:
        ka, *rates = np.asarray(_rates_of(problem.every, problem.model, anatomy, _covariates(problem), values))
        return bool(ka < max(rates))
    if not anatomy.exponential:
        return False
    matrix = np.asarray(_matrix_of(problem.every, problem.model, anatomy, _covariates(problem), values))
    if not np.isfinite(matrix).all():
        return False
    for d in range(len(matrix)):
        others = np.delete(np.arange(len(matrix)), d)
        if not np.any(matrix[d, others]) and np.any(matrix[others, d]):
            rest = np.linalg.eigvals(-matrix[np.ix_(others, others)]).real
            if -matrix[d, d] < rest.max(initial=0.0):
                return True
    return False


def _absorption(problem: Problem, u: np.ndarray) -> np.ndarray | None:
    """(ka, cl, v) of the typical first subject; None unless its structure is one compartment with first-order absorption."""
    anatomy = problem.layout.anatomy
    if anatomy.structure != OneCompartmentOral.__name__:
        return None
    return np.asarray(
        _absorption_of(problem.every, problem.model, anatomy, _covariates(problem), jnp.asarray(problem.among_all(u)))
    )


def _typical_structure(inventory, model, anatomy, cov, u):
    """The dynamics at random effects of zero."""
    here = inventory.at_unconstrained(model, u)
    eta = named("random effect", anatomy.words, list(jnp.zeros(len(anatomy.words))))
    return structure_of(here, individual_row(here, eta, Named(cov, "covariate")))


@eqx.filter_jit
def _absorption_of(inventory, model, anatomy, cov, u):
    structure = _typical_structure(inventory, model, anatomy, cov, u)
    return jnp.stack([jnp.asarray(x, float) for x in (structure.ka, structure.cl, structure.v)])


@eqx.filter_jit
def _rates_of(inventory, model, anatomy, cov, u):
    """(ka, eigenvalues of the disposition) of a closed form."""
    structure = _typical_structure(inventory, model, anatomy, cov, u)
    return jnp.stack([jnp.asarray(x, float) for x in (structure.ka, *structure.eigenvalues)])


@eqx.filter_jit
def _matrix_of(inventory, model, anatomy, cov, u):
    """(s, s) K of linear equations."""
    structure = _typical_structure(inventory, model, anatomy, cov, u)
    return jax.jacfwd(lambda y: structure.flow_vector(jnp.asarray(0.0), y))(jnp.zeros(len(anatomy.states)))


def _covariates(problem: Problem) -> dict:
    """Of the first subject's first record."""
    subject = next(iter(problem.layout.population))
    return {name: jnp.asarray(value) for name, value in problem.layout.anatomy.told_at(subject).items()}


@eqx.filter_jit
def _relative_slopes(model, anatomy, cov):
    def table(eta):
        ind = individual_row(model, named("random effect", anatomy.words, list(eta)), Named(cov, "covariate"))
        return jnp.stack([jnp.asarray(x, float) for x in ind.values()])

    zero = jnp.zeros(len(anatomy.words))
    return jax.jacfwd(table)(zero) / jnp.abs(table(zero))[:, None]


@eqx.filter_jit
def _parts(inventory, model, arrays, anatomy, ode, points, count):
    """The parts of the criterion at the first ``count`` points, see ``Pooled``; one program for any number of them."""
    kinds = max(1, len(anatomy.subpopulations))

    def at(u):
        here = inventory.at_unconstrained(model, u)

        def alone(data):
            eta = jnp.zeros(len(anatomy.effects))
            solution = expand(here, anatomy, eta, data.covariates, data.known, 0, ode)(here, eta)
            m = moments(here, anatomy, data, solution)
            normal = data.mask & m.normal
            parts = (
                jnp.where(normal, jnp.square(m.transformed - m.mean) / m.variance, 0.0),
                jnp.where(normal, jnp.log(m.variance), 0.0),
                jnp.where(data.mask, -2.0 * m.log_factor, 0.0),
                normal.astype(float),
            )
            # states that a failed solve has left half way have a density, too
            parts = tuple(jnp.where(solution.status == SOLVED, part, jnp.nan) for part in parts)
            mark = jnp.sum(jnp.where(data.mask, m.prediction * jnp.sin(1.0 + jnp.arange(len(m.mean))), 0.0))
            return *(jnp.stack([jnp.sum(x[a:b]) for a, b in data.spans]) for x in parts), mark

        def of_subject(data):
            if not anatomy.mixture:
                return tuple(x[None] for x in alone(data)), ()
            return jax.vmap(lambda k: alone(data.belonging(k)))(jnp.arange(kinds, dtype=float)), ()

        (*parts, mark), _ = over_subjects(of_subject, arrays)
        return *parts, jnp.sum(mark)

    rows, subjects = len(points), arrays.back.shape[0]
    nothing = (*(jnp.zeros((rows, subjects, kinds, len(anatomy.endpoints))),) * 4, jnp.zeros(rows))

    def write(k, found):
        return tuple(all_of.at[k].set(one) for all_of, one in zip(found, at(points[k]), strict=True))

    return jax.lax.fori_loop(0, count, write, nothing)
