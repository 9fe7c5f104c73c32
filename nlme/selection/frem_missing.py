"""The full random effects model where covariates are missing in some subjects: covariates as observations, as NONMEM has it.

    -2 log p(y, x_known) = -2 log integral p(y | eta) prod_{j known} N(x_j; mu_j + xi_j, s_j^2) N((eta, xi); 0, Omega) d(eta, xi)

with s_j a ten-thousandth of the column's standard deviation, so that Omega_xx is larger by one part in 10^8 at most than that of covariates
seen without error.  Every subject counts with what is known of it, which is right where what is missing depends only on what is known.
"""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from nlme.data.designs import observed_first
from nlme.data.population import Population
from nlme.errors import FitError, ModelError
from nlme.fitting.fit import fit as fit_model
from nlme.fitting.result import Fit
from nlme.language.joint_normal import observed_means, with_observed_covariates
from nlme.marginal.first_order import FO
from nlme.marginal.foce import FOCEI
from nlme.marginal.laplace import Laplace
from nlme.parameters.covariance import Covariance, build
from nlme.selection.candidates import omega_field


def fitted_with_missing(
    base: Fit,
    effects: tuple[str, ...],
    columns: tuple[str, ...],
    of: tuple[str, ...],
    table: np.ndarray,
    progress: bool | None,
) -> tuple[Fit, np.ndarray, np.ndarray, np.ndarray]:
    """The joint fit; mu (C,) of the columns, Omega (q + C, q + C) of effects and columns, standard errors (q, C) of the shifts.

    Parameters
    ----------
    base : the fit without covariates
    of : the covariate of each column
    table : (N, C), NaN where a covariate is missing
    """
    _require(base, effects, columns, of, table)
    known = np.isfinite(table)
    mean, sd = np.nanmean(table, axis=0), np.nanstd(table, axis=0)
    told = {c: (m, s) for c, m, s in zip(columns, mean, sd, strict=True)}
    omega = _with_columns(base.model.random().in_one_block(effects), effects, columns, _spread(table, mean, sd))
    start = with_observed_covariates(base.model, omega_field(base.model), omega, told)
    fit = fit_model(start, _observed(base, columns, table, known), base.method, fixed=base.inventory.fixed, progress=progress)
    places = [fit.model.random().names.index(name) for name in (*effects, *columns)]
    joint = np.asarray(fit.model.random().matrix)[np.ix_(places, places)]
    return fit, observed_means(fit.model), joint, _errors(fit, places, len(effects))


def _require(base: Fit, effects: tuple[str, ...], columns: tuple[str, ...], of: tuple[str, ...], table: np.ndarray) -> None:
    missing = dict.fromkeys(c for c, lost in zip(of, np.isnan(table).any(axis=0), strict=True) if lost)
    where = f"nlme.frem: {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing in some subjects"
    if not isinstance(base.method, (FO, FOCEI, Laplace)):
        raise FitError(
            f"{where}, so that covariates are observations with a very small error, which {base.method!r} does not integrate well. "
            "Take nlme.FOCEI(), nlme.FOCE(), nlme.FO() or nlme.Laplace()."
        )
    read = [name for name in missing if name in base.layout.anatomy.covariates]
    if read:
        raise ModelError(
            f"{where}, and {type(base.model).__name__} reads {', '.join(read)}: its individual parameters would not be known."
        )
    known = np.isfinite(table)
    apart = np.argwhere(np.triu((known.T.astype(int) @ known) == 0))
    if len(apart):
        one, other = (columns[k] for k in apart[0])
        raise ModelError(
            f"{where}, and {one} and {other} are known together in nobody, so that the data say nothing of their covariance. Leave one out."
        )
    omega = base.model.random()
    together = {omega.names[k] for block in omega.blocks if {omega.names[k] for k in block} & set(effects) for k in block}
    if together != set(effects):
        raise ModelError(
            f"{where}; {', '.join(sorted(together - set(effects)))} is correlated with {', '.join(effects)}: give all of them as effects=, "
            "or declare them in blocks of their own."
        )
    taken = set(columns) & {*omega.names, *base.layout.anatomy.endpoints, *base.layout.anatomy.individual}
    if taken:
        raise ModelError(
            f"{where}; {taken.pop()!r} would be a random effect and an endpoint, and the model has one called so; rename the column."
        )


def _spread(table: np.ndarray, mean: np.ndarray, sd: np.ndarray) -> np.ndarray:
    """(C, C) a covariance of the columns to begin with: their own variances, correlations as if what is missing were the mean."""
    z = np.where(np.isfinite(table), (table - mean) / sd, 0.0)
    correlation = z.T @ z / len(z)
    np.fill_diagonal(correlation, 1.0)
    return 0.9 * np.outer(sd, sd) * correlation + 0.1 * np.diag(sd**2)


def _with_columns(omega: Covariance, effects: tuple[str, ...], columns: tuple[str, ...], spread: np.ndarray) -> Covariance:
    """``omega`` with the columns in the block of ``effects``."""
    matrix, blocks = np.asarray(omega.matrix), []
    for block in omega.blocks:
        names, own = tuple(omega.names[k] for k in block), matrix[np.ix_(block, block)]
        if set(names) & set(effects):
            empty = np.zeros((len(names), len(columns)))
            names, own = (*names, *columns), np.block([[own, empty], [empty.T, spread]])
        blocks.append((names, own))
    return build(*blocks, per=omega.per)


def _observed(base: Fit, columns: tuple[str, ...], table: np.ndarray, known: np.ndarray) -> Population:
    """The population with the columns as endpoints, observed at every subject's first record where they are known."""
    population, endpoints = base.population, base.layout.anatomy.endpoints
    own = endpoints if len(endpoints) == len(population.endpoints) == 1 else population.endpoints  # one of each: names may differ
    subjects = tuple(
        observed_first(s, len(own) + np.flatnonzero(there), row[there])
        for s, row, there in zip(population, table, known, strict=True)
    )
    return replace(population, subjects=subjects, endpoints=(*own, *columns), dvid=None)


def _errors(fit: Fit, places: list[int], q: int) -> np.ndarray:
    """(q, C) standard errors of B = Omega_ex Omega_xx^-1: D C D', D = dB/dp, C the covariance of the estimates p."""

    def slopes(p):
        omega = fit.inventory.at_natural(fit.model, p).random().matrix[np.ix_(places, places)]
        return (omega[:q, q:] @ jnp.linalg.inv(omega[q:, q:])).ravel()

    slope = np.asarray(jax.jacfwd(slopes)(fit.inventory.natural(fit.model)))
    variance = np.einsum("ij,jk,ik->i", slope, fit.covariance.matrix.to_numpy(), slope)
    with np.errstate(invalid="ignore"):
        return np.sqrt(variance).reshape(q, -1)
