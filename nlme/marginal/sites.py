"""A level above the subject: the random effects of sites (studies, centres) integrated out around those of their subjects.

Subjects i of site s share eta_s = L z_s, z_s ~ N(0, I), and are independent given it.  With o_i(z) the objective (-2 log L) of
subject i by any method, its own random effects integrated out and z held,

    o_s = -2 log int N(z; 0, I) exp( -1/2 sum_(i in s) o_i(z) ) dz

is found by adaptive Gauss-Hermite quadrature, n nodes for each effect, at z_k = z^ + C x_k:

    g(z) = 1/2 sum_i o_i(z) + z'z/2,      z^ the minimum of g,      C C' = (d2g/dz2)^-1  at z^
    o_s  = -2 log sum_k exp( v_k - g(z_k) ),      v_k = log w_k + x_k'x_k/2 + log det C

w_k the weights for N(0, I).  z^ is found by Newton's method from exact slopes do_i/dz, the Hessian by their central differences.
The gradient is that at held nodes,

    do_s/du = sum_k p_sk sum_i do_i(z_k)/du,      p_sk = exp( v_k - g(z_k) + o_s/2 )

exact but for what the nodes' places still matter, which is the quadrature's own error.  FO linearises, and FOCE takes the
residual variance, where the subject's own effects are zero and its site's are z.  The unit of independence is the site:
objective and gradient have one row for each.

Sources: Pinheiro & Bates (1995), doi:10.1080/10618600.1995.10474663; Rabe-Hesketh, Skrondal & Pickles (2005), J Econometrics
128:301, doi:10.1016/j.jeconom.2004.08.017 (nested levels).
"""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import logsumexp

from nlme.errors import ModelError
from nlme.language.anatomy import Anatomy
from nlme.language.model import Model
from nlme.language.ragged import CHUNK, Ragged, over_subjects, threaded
from nlme.marginal.base import Method
from nlme.marginal.quadrature import hermite
from nlme.marginal.subjects import Evaluation, one_subject
from nlme.parameters.inventory import Inventory

_DECREMENT = 1e-3  # g'H^-1 g from which one more Newton step ends a site's search: nodes need no better place
_ITERATIONS = 50
_LONGEST = 3.0  # step, in standard deviations of the sites
_APART = 0.1  # of the central differences, in standard deviations of z given the data
_LEAST = 0.25  # eigenvalue of a Hessian that places nodes, the effects' own distribution having 1
_NEGLIGIBLE = 1e-10  # probability of a node, below which it does not matter whether modes were found there
_MOST = 600  # nodes


class _Centre(NamedTuple):
    """Where the sites' effects are most likely, and how the subjects' modes move with them."""

    z: np.ndarray  # (S, s)
    factor: np.ndarray  # (S, s, s) C
    at: np.ndarray  # (S, s) the last point looked at, about which
    b: np.ndarray  # (N, q) are the subjects' modes,
    slope: np.ndarray  # (N, q, s) their derivatives,
    second_order: np.ndarray  # (N, q, q) and what quickens their search
    decrement: np.ndarray  # (S,) g'H^-1 g there
    noise: np.ndarray  # (S,) below which differences of g say nothing
    count: int

    @property
    def found(self) -> np.ndarray:
        """(S,) whether the last step ended the search."""
        return self.decrement <= _DECREMENT + self.noise

    def starts(self, z: np.ndarray, site_of: np.ndarray) -> np.ndarray:
        """(N, K, q) where the subjects' modes will be about, at ``z`` (S, K, s)."""
        return self.b[:, None] + np.einsum("nqs,nks->nkq", self.slope, (z - self.at[:, None])[site_of])


def require_sites(method: Method, anatomy: Anatomy) -> None:
    """Refuse a method that does not know a level above the subject.

    Raises
    ------
    ModelError
        Importance sampling, SAEM or pooled data; a number of nodes that is even, below 3, or too large.
    """
    if not anatomy.by_site:
        return
    if not method.sites:
        raise ModelError(
            f"{type(method).__name__} has no random effects above the subject, and this model has some per {anatomy.above} "
            f"({', '.join(anatomy.shared)}). Use nlme.FOCEI(), nlme.FOCE(), nlme.Laplace() or nlme.AGQ()."
        )
    n = method.site_points
    if not isinstance(n, int) or n < 3 or n % 2 == 0:
        raise ModelError(f"{type(method).__name__}: site_points is an odd whole number of at least 3; got {n!r}.")
    if n**anatomy.by_site > _MOST:
        fits = int(_MOST ** (1.0 / anatomy.by_site))
        raise ModelError(
            f"{anatomy.by_site} random effects per {anatomy.above} ({', '.join(anatomy.shared)}) need {n}^{anatomy.by_site} = "
            f"{n**anatomy.by_site:,} nodes; the limit is {_MOST}. "
            + (f"Take site_points={fits - 1 + fits % 2}." if fits >= 3 else "Declare fewer effects on this level.")
        )


def evaluate_sites(
    method: Method,
    anatomy: Anatomy,
    inventory: Inventory,
    model: Model,
    arrays: Ragged,
    u,
    starts,
    gradient: bool,
    second_order,
    tolerance,
) -> Evaluation:
    """Every site's objective (and gradient), see ``nlme.marginal.objective.evaluate_subjects``.

    The last columns of ``starts`` and of the modes are the sites' effects, the same for all subjects of one.

    Raises
    ------
    ModelError
        A method that knows no level above the subject, or a call inside another compiled program.
    """
    require_sites(method, anatomy)
    if any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves((u, starts, arrays))):
        raise ModelError(
            f"Computations that run many evaluations side by side do not know random effects per {anatomy.above}; "
            "nlme.evaluate and nlme.fit do."
        )
    site_of = np.asarray(arrays.site_of)
    add = _Sums(site_of)

    def at_nodes(z, start, second_order, wanted):
        rows = jnp.asarray(z[site_of]), jnp.asarray(start), jnp.asarray(second_order)
        found = threaded(_at_nodes, arrays, method, anatomy, inventory, model, u, *rows, tolerance, wanted)
        return jax.tree.map(np.asarray, found)

    centre = _centre(at_nodes, add, np.asarray(starts), np.asarray(second_order), anatomy, float(tolerance))
    grid, log_weights = hermite(method.site_points, anatomy.by_site)
    z = centre.z[:, None] + np.einsum("sij,kj->ski", centre.factor, grid)
    found = at_nodes(z, centre.starts(z, site_of), centre.second_order, "parameters" if gradient else "value")
    joint = 0.5 * add(found.value) + 0.5 * np.sum(z**2, axis=2)
    with np.errstate(invalid="ignore"):
        terms = log_weights + np.linalg.slogdet(centre.factor)[1][:, None] - joint
        total = logsumexp(terms, axis=1)
        share = np.exp(terms - total[:, None])[site_of]
    counts = ~(share < _NEGLIGIBLE)
    parts = np.einsum("nk,nkp->np", share, np.where(counts[..., None], found.slope, 0.0)) if gradient else None
    middle = len(grid) // 2
    searched = centre.found[site_of]
    lost = np.where(searched, 0.0, centre.decrement[site_of])
    return Evaluation(
        value=-2.0 * total,
        gradient=add(parts) if gradient else None,
        b=np.concatenate([found.b[:, middle], centre.z[site_of]], axis=1),
        decrement=np.maximum(np.max(np.where(counts, found.decrement, 0.0), axis=1), lost),
        iterations=np.maximum(np.max(found.iterations, axis=1), np.where(searched, 0, centre.count)),
        converged=np.all(found.converged | ~counts, axis=1) & searched,
        status=np.max(np.where(counts, found.status, 0), axis=1),
        membership=np.ones((len(site_of), 1)),
        joint=found.joint[:, middle],
        second_order=found.second_order[:, middle],
        given=np.where(np.all(np.isfinite(found.value) | ~counts, axis=1), found.value[:, middle], np.nan),
        parts=parts,
    )


class _Sums:
    """Sums over the subjects of every site."""

    def __init__(self, site_of: np.ndarray):
        self.site_of, self.count = site_of, int(site_of.max()) + 1
        self._order = np.argsort(site_of, kind="stable")
        self._edges = np.r_[0, np.flatnonzero(np.diff(site_of[self._order])) + 1]

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        return np.add.reduceat(rows[self._order], self._edges, axis=0)


def _centre(at_nodes, add: _Sums, starts: np.ndarray, second_order: np.ndarray, anatomy: Anatomy, tolerance: float) -> _Centre:
    """Newton's method for the minimum of every site's g, all sites at once, each with a line search of its own."""
    q, s = anatomy.inner, anatomy.by_site
    site_of, count = add.site_of, add.count
    z = np.zeros((count, s))
    z[site_of] = starts[:, q:]
    noise = tolerance * np.bincount(site_of)  # of g, as closely as the subjects' modes are searched
    value, step, hessian = np.full(count, np.inf), np.zeros((count, s)), np.tile(np.eye(s), (count, 1, 1))
    b = starts[:, :q]
    centre = _Centre(z, hessian, z, b, np.zeros((*b.shape, s)), second_order, np.full(count, np.inf), noise, 0)
    for iteration in range(1, _ITERATIONS + 1):
        z = centre.z
        h = _APART / np.sqrt(np.einsum("sii->si", hessian))
        points = z[:, None] + np.concatenate([np.zeros((count, 1, s)), _diagonals(h), -_diagonals(h)], axis=1)
        found = at_nodes(points, centre.starts(points, site_of), centre.second_order, "sites")
        here = 0.5 * add(found.value[:, 0]) + 0.5 * np.sum(z**2, axis=1)
        slopes = 0.5 * add(found.slope) + points
        gradient, curved = np.nan_to_num(slopes[:, 0]), _hessian(slopes[:, 1:], h)
        fine = np.isfinite(here) & np.isfinite(slopes[:, 0]).all(axis=1)
        fine &= here <= value + noise + 1e-9 * (1.0 + np.abs(value))
        move = -np.linalg.solve(curved, gradient[..., None])[..., 0]
        length = np.linalg.norm(move, axis=1, keepdims=True)
        move *= np.minimum(1.0, _LONGEST / np.maximum(length, 1e-300))
        motion = [(found.b[:, 1 + k] - found.b[:, 1 + s + k]) / (2.0 * h[site_of, k, None]) for k in range(s)]

        value, hessian = _where(fine, here, value), _where(fine, curved, hessian)
        step, at = _where(fine, move, 0.25 * step), _where(fine, z, centre.at)
        of_subject = fine[site_of]
        centre = _Centre(
            at + step,
            np.linalg.cholesky(np.linalg.inv(hessian)),
            at,
            _where(of_subject, found.b[:, 0], centre.b),
            _where(of_subject, np.stack(motion, axis=-1), centre.slope),
            _where(of_subject, found.second_order[:, 0], centre.second_order),
            _where(fine, np.einsum("si,sij,sj->s", gradient, np.linalg.inv(curved), gradient), centre.decrement),
            noise,
            iteration,
        )
        if not np.isfinite(value).all() or np.all(centre.found) or np.all(np.abs(step) < 1e-12):
            break
    return centre


def _hessian(slopes: np.ndarray, h: np.ndarray) -> np.ndarray:
    """Second derivatives (S, s, s) from slopes at points ``h`` to both sides (S, 2s, s), made positive definite."""
    s = h.shape[1]
    found = (slopes[:, :s] - slopes[:, s:]) / (2.0 * h[:, :, None])
    values, vectors = np.linalg.eigh(np.nan_to_num(0.5 * (found + found.swapaxes(1, 2)), nan=1.0))
    return np.einsum("sij,sj,skj->sik", vectors, np.maximum(values, _LEAST), vectors)


def _where(rows: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.where(rows.reshape(rows.shape + (1,) * (a.ndim - 1)), a, b)


def _diagonals(h: np.ndarray) -> np.ndarray:
    return np.einsum("si,ij->sij", h, np.eye(h.shape[1]))


class _AtNodes(NamedTuple):
    """Every subject (N) at every node (K) of its site."""

    value: np.ndarray  # (N, K)
    slope: np.ndarray | None  # (N, K, s) in z, or (N, K, P) in the parameters
    b: np.ndarray  # (N, K, q)
    decrement: np.ndarray
    iterations: np.ndarray
    converged: np.ndarray
    status: np.ndarray
    joint: np.ndarray
    second_order: np.ndarray  # (N, K, q, q)


@eqx.filter_jit
def _at_nodes(arrays: Ragged, method, anatomy, inventory, model, u, z, starts, second_order, tolerance, wanted: str) -> _AtNodes:
    def of_subject(data, z, starts, second_order):
        def objective(u, z, start):
            here = inventory.at_unconstrained(model, u)
            (value, _), mode = one_subject(
                method, anatomy, here, dataclasses.replace(data, shared=z), start, second_order, tolerance
            )
            return value, mode

        def of_node(given):
            z, start = given
            if wanted == "value":
                (value, mode), slope = objective(u, z, start), None
            else:
                by = 0 if wanted == "parameters" else 1
                (value, mode), slope = jax.value_and_grad(objective, by, has_aux=True)(u, z, start)
            b, decrement, count, found, status, _, joint, after = mode
            return _AtNodes(value, slope, b, decrement, count, found, status, joint, after)

        return (jax.vmap(of_node) if together else functools.partial(jax.lax.map, of_node))((z, starts)), ()

    # side by side, closed forms are quicker while all fits memory; numerical solutions would wait for the slowest at every step
    together = anatomy.linear and z.shape[1] * sum(part.data.observed.size for part in arrays.parts) < CHUNK
    return over_subjects(of_subject, arrays, z, starts, second_order)[0]
