"""Covariance of the estimates from the curvature of the objective and from the scores of the subjects.

    R = 1/2 d2 OFV / dp dp'        S = 1/4 sum_i (d OFV_i/dp) (d OFV_i/dp)'       OFV = -2 log L
    sandwich = R^-1 S R^-1 (the default, as in NONMEM)       R: R^-1       S: S^-1

with p the estimated parameters on their natural scale; an element of Omega off the diagonal is one parameter.  R comes from
central differences of the exact gradient in the unconstrained parameters u, brought to p by the chain rule, the term with the
gradient included:  d2/dp2 = J^-T (d2/du2 - sum_k g_k d2p_k/du2) J^-1,  J = dp/du,  g = J^-T d/du.

A parameter at a bound is known there.  Its coordinate in u is held, not its p: a correlation that is 1 stays 1 while the variances that
it belongs to vary, and with them the covariance.  What is inverted are the rows and columns F of the others in u,

    C = J_F V J_F',        V = R_F^-1 S_F R_F^-1 in u,        J_F the columns F of J

which is the above where nothing is held, and does not need J^-1, which has no value where something is.

Source: NONMEM Users Guide Part II, D.2.5; White (1982), doi:10.2307/1912526.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from nlme.errors import FitError
from nlme.parameters.inventory import Inventory

_STEP = 1e-3  # of the central differences, in unconstrained (log-like) parameters, at most
_SHARE = 0.03  # of a parameter's error, all others known, that a step is where that is less
_SUITS = 1e-5, 0.3  # steps whose rounding and curvature do no harm, in the same unit
_TRIALS = 6
KINDS = ("sandwich", "R", "S")


@dataclasses.dataclass(frozen=True)
class CovarianceOfEstimates:
    """Covariance matrix of the estimates on the natural scale.

    ``curvature`` and ``products`` are R and S in the unconstrained parameters (J' R J and J' S J), ``jacobian`` is J, all (P, P);
    ``kind`` says which of the three forms ``matrix`` is.  Parameters that stand at a bound (``held``) count as known there: theirs
    are no errors of estimation, and the others' are those given them.  ``kinks`` are the times moved by parameters
    (``nlme.fitting.kinks``) for whose sake ``kind`` is "S" where that can be had.
    """

    names: tuple[str, ...]
    curvature: np.ndarray
    products: np.ndarray
    jacobian: np.ndarray
    kind: str = "sandwich"
    held: tuple[str, ...] = ()
    kinks: str = ""

    def of_kind(self, kind: str) -> CovarianceOfEstimates:
        """The same with another form: "sandwich", "R" or "S"."""
        if kind not in KINDS:
            raise FitError(f"kind must be one of {', '.join(KINDS)}; got {kind!r}.")
        return dataclasses.replace(self, kind=kind)

    @functools.cached_property
    def unconstrained(self) -> np.ndarray:
        """(P, P) in the unconstrained parameters, 0 for those that are held; NaN where it cannot be had."""
        size = len(self.names)
        lost = np.full((size, size), np.nan)
        if not (self._s_regular if self.kind == "S" else self._r_positive):
            return lost
        with np.errstate(all="ignore"):
            try:
                inverse = np.linalg.inv(self._s if self.kind == "S" else self._r)
            except np.linalg.LinAlgError:
                return lost
            found = np.zeros((size, size))
            found[self._block] = inverse @ self._s @ inverse if self.kind == "sandwich" else inverse
            return found

    @functools.cached_property
    def _values(self) -> np.ndarray:
        free = self._free
        found = self.jacobian[:, free] @ self.unconstrained[self._block] @ self.jacobian[:, free].T
        held = np.setdiff1d(np.arange(len(self.names)), free)
        found[held] = found[:, held] = np.nan
        return found

    @functools.cached_property
    def _free(self) -> list[int]:
        return _free(self.names, self.held)

    @functools.cached_property
    def _block(self):
        return np.ix_(self._free, self._free)

    @property
    def _r(self) -> np.ndarray:
        return self.curvature[self._block]

    @property
    def _s(self) -> np.ndarray:
        return self.products[self._block]

    @functools.cached_property
    def information_r(self) -> np.ndarray:
        """(P, P) R; NaN where a parameter is at the end of what a number can hold."""
        return self._natural(self.curvature)

    @functools.cached_property
    def information_s(self) -> np.ndarray:
        """(P, P) S."""
        return self._natural(self.products)

    def _natural(self, form: np.ndarray) -> np.ndarray:
        try:
            inverse = np.linalg.inv(self.jacobian)
        except np.linalg.LinAlgError:
            return np.full(form.shape, np.nan)
        return inverse.T @ form @ inverse

    @functools.cached_property
    def _scaled_eigenvalues(self) -> np.ndarray:
        diagonal = np.sqrt(np.abs(np.diagonal(self._r)))
        diagonal = np.where(diagonal > 0, diagonal, 1.0)
        scaled = self._r / np.outer(diagonal, diagonal)
        if not np.all(np.isfinite(scaled)):
            return np.full(len(diagonal), np.nan)
        return np.linalg.eigvalsh(scaled)

    @property
    def _r_positive(self) -> bool:
        values = self._scaled_eigenvalues
        return bool(len(values) and np.all(np.isfinite(values)) and values.min() > 1e-10 * max(values.max(), 1.0))

    @property
    def _s_regular(self) -> bool:
        return bool(np.all(np.isfinite(self._s))) and np.linalg.matrix_rank(self._s) == len(self._s)

    @property
    def matrix(self):
        """DataFrame (P, P)."""
        return self._frame(self._values)

    @property
    def R(self):
        return self._frame(self.information_r)

    @property
    def S(self):
        return self._frame(self.information_s)

    @property
    def standard_errors(self):
        """Series by parameter name; NaN where the matrix could not be had (``verdict`` says why)."""
        import pandas as pd

        with np.errstate(invalid="ignore"):
            return pd.Series(np.sqrt(np.diagonal(self._values)), index=list(self.names), name="SE")

    @property
    def correlation(self):
        with np.errstate(invalid="ignore", divide="ignore"):
            sd = np.sqrt(np.diagonal(self._values))
            return self._frame(self._values / np.outer(sd, sd))

    @property
    def condition_number(self) -> float:
        """Largest over smallest eigenvalue of the correlation matrix of the estimates; above 1,000 is a warning sign."""
        values = np.asarray(self.correlation)[self._block]
        if not len(values) or not np.all(np.isfinite(values)):
            return float("inf")
        eigenvalues = np.linalg.eigvalsh(values)
        return float(eigenvalues[-1] / eigenvalues[0]) if eigenvalues[0] > 0 else float("inf")

    @property
    def missing(self) -> str:
        """Why some parameters have no standard error, in words; nothing where all have one."""
        lost = [name for name, se in self.standard_errors.items() if not np.isfinite(se)]
        if not lost:
            return ""
        if set(lost) <= set(self.held):
            return f"No standard error: {', '.join(lost)} (at a bound, taken as known by the others)."
        if not np.isfinite(self._values).any():
            return self.verdict
        return f"No standard error: {', '.join(lost)} (the {self.kind} matrix has no positive variance there)."

    @property
    def verdict(self) -> str:
        """Whether the matrix can be believed, in words."""
        if len(self.held) == len(self.names):
            return f"No standard errors: every estimate stands at a bound ({', '.join(self.held)})."
        if self.kind == "S" and not self._s_regular:
            lost = (
                "No standard errors: the S matrix is singular (fewer subjects than parameters, or parameters without influence)."
            )
            return lost + self.of_kinks
        if self.kind != "S" and not self._r_positive:
            return self._flat_sentence() + self.of_kinks
        condition = self.condition_number
        known = f" {', '.join(self.held)} at a bound: without error, taken as known by the others." if self.held else ""
        if condition > 1000:
            return (
                f"Obtained ({self.kind}), but the estimates are strongly correlated: condition number {condition:.3g} (> 1000)."
                + known
                + self.of_kinks
            )
        return f"Obtained ({self.kind}); condition number {condition:.3g}.{known}{self.of_kinks}"

    @property
    def of_kinks(self) -> str:
        """What kinks of the likelihood mean for the standard errors, in a sentence with a space before it; nothing without any."""
        if not self.kinks:
            return ""
        bend = f" The likelihood has kinks where {self.kinks} passes a sample, and its second derivatives (R, the sandwich) may mislead there: "
        if self.kind == "S" and self._s_regular:
            return bend + "these standard errors come from the scores alone (S); nlme.bootstrap(fit) needs neither."
        return bend + "nlme.bootstrap(fit) needs none."

    def _flat_sentence(self) -> str:
        values = self._scaled_eigenvalues
        if not np.all(np.isfinite(values)):
            return "No standard errors: the second derivatives of the objective are not finite here."
        diagonal = np.sqrt(np.maximum(np.abs(np.diagonal(self._r)), 1e-300))
        _, vectors = np.linalg.eigh(self._r / np.outer(diagonal, diagonal))
        weights, names = np.abs(vectors[:, 0]), [name for name in self.names if name not in self.held]
        along = [names[k] for k in np.argsort(-weights) if weights[k] > 0.3]
        return (
            f"No standard errors: the information matrix is not positive definite (smallest scaled eigenvalue {values.min():.2g}); "
            f"the data do not determine {' and '.join(along)} here. Fix or remove a parameter, or see whether one is at its bound."
        )

    def _frame(self, values):
        import pandas as pd

        return pd.DataFrame(values, index=list(self.names), columns=list(self.names))

    def __repr__(self) -> str:
        return f"CovarianceOfEstimates(kind={self.kind!r}, {len(self.names)} parameters): {self.verdict}"


def natural_jacobian(inventory: Inventory, model) -> np.ndarray:
    """(P, P) derivatives dp/du of the natural parameters in the unconstrained ones, at the model's values."""

    def natural(v):
        return inventory.natural(inventory.at_unconstrained(model, v))

    return np.asarray(jax.jit(jax.jacfwd(natural))(inventory.unconstrained(model)))


def covariance_of_estimates(
    inventory: Inventory,
    model,
    gradients: Callable[[jax.Array], np.ndarray],
    u: jax.Array,
    penalty: tuple[np.ndarray, np.ndarray] | None = None,
    kind: str = "sandwich",
    held: tuple[str, ...] = (),
    kinks: str = "",
) -> CovarianceOfEstimates:
    """R and S at ``u``.

    ``gradients(u)`` gives the gradient of every subject's objective in the unconstrained parameters, (N, P); ``penalty`` gradient
    and Hessian there of what was added to their sum, which R includes.
    """
    size = len(inventory)
    scores = gradients(u)
    linear = inventory.linear
    known = 0.25 * np.sum(scores**2, axis=0)
    hessian = np.array([_differences(gradients, u, k, known[k], linear[k]) for k in range(size)]).reshape(size, size)
    hessian = 0.5 * (hessian + hessian.T)
    slope = scores.sum(axis=0)
    if penalty is not None:
        slope, hessian = slope + penalty[0], hessian + penalty[1]

    def natural(v):
        return inventory.natural(inventory.at_unconstrained(model, v))

    jacobian, free = natural_jacobian(inventory, model), _free(inventory.names, held)
    g = _natural_slope(jacobian[:, free], slope[free])
    second = np.asarray(jax.jit(jax.jacfwd(jax.jacrev(lambda v, g: natural(v) @ g)))(u, g))
    names = tuple(inventory.names)
    return CovarianceOfEstimates(names, 0.5 * (hessian - second), 0.25 * scores.T @ scores, jacobian, kind, held, kinks)


def _differences(gradients: Callable[[jax.Array], np.ndarray], u: jax.Array, k: int, known: float, linear: bool) -> np.ndarray:
    """(P,) d2 OFV / du du_k by central differences, with a step that suits what they find.

    The unit of a real parameter (``linear``) is the size of its value, which may be far from that of its error: the time of an event on
    a clock that began long before, a difference that happens to be nearly nothing.  ``known`` is the parameter's S_kk.
    """
    step = min(_STEP, _SHARE / np.sqrt(known)) if known > 0 else _STEP
    found = None
    for _ in range(_TRIALS):
        move = jnp.zeros(len(u)).at[k].set(step)
        column = (gradients(u + move).sum(axis=0) - gradients(u - move).sum(axis=0)) / (2 * step)
        if found is not None and not np.all(np.isfinite(column)):
            break
        found, curvature = column, max(0.5 * column[k], known)
        if not (np.isfinite(curvature) and curvature > 0):
            break
        error = 1.0 / np.sqrt(curvature)
        wanted = _SHARE * error if linear else min(_STEP, _SHARE * error)
        if step <= _SUITS[1] * error and (step >= _SUITS[0] * error or step >= wanted):
            break
        step = wanted
    return found


def _free(names, held) -> list[int]:
    return [k for k, name in enumerate(names) if name not in held]


def _natural_slope(jacobian: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """The smallest g with J_F' g = slope, in units of what moves the parameters: of the slope along a bound, nothing."""
    size = np.max(np.abs(jacobian), axis=1, initial=0.0)
    size = np.where(size > 0, size, 1.0)
    if not (np.all(np.isfinite(jacobian)) and np.all(np.isfinite(slope))):
        return np.full(len(jacobian), np.nan)
    return np.linalg.lstsq((jacobian / size[:, None]).T, slope, rcond=None)[0] / size
