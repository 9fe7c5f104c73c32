"""Observations simulated from a fit, in the arrangement that its fits read."""

from __future__ import annotations

import jax
import numpy as np

from nlme.errors import DataError
from nlme.fitting.result import Fit
from nlme.simulation.predict import Records


def redrawn_observations(fit: Fit, replicates: int, key) -> tuple[np.ndarray, ...]:
    """Observations of ``replicates`` trials with the fit's design, new random effects and new residual errors.

    Returns
    -------
    For every size class of ``fit.layout.arrays``, (R, n, T) observations; padding keeps what it holds.

    Raises
    ------
    DataError
        Censored records (simulated values are not censored), or a record for which nothing can be drawn.
    """
    for subject in fit.population:
        censored = np.flatnonzero(subject.is_observation & (subject.cens != 0))
        if len(censored):
            raise DataError(
                f"A parametric bootstrap simulates uncensored values, and subject {subject.id} has a censored one (row "
                f"{subject.rows[censored[0]]}, CENS = {subject.cens[censored[0]]}). Resample subjects instead (parametric=False)."
            )
    layout, count = fit.layout, len(fit.population)
    factor = np.asarray(layout.anatomy.cholesky(fit.model))
    parts = [np.repeat(np.asarray(part.data.observed)[None], replicates, axis=0) for part in layout.arrays.parts]
    records = None
    for r, own in enumerate(jax.random.split(key, replicates)):
        effects, errors = jax.random.split(own)
        eta = np.asarray(jax.random.normal(effects, (count, len(fit.effects)))) @ factor.T
        records = Records(fit.model, fit.population, eta, fit.method.ode, records.layout if records else None)
        dv = _drawn(fit, records, errors)
        for part, observed in zip(layout.arrays.parts, parts, strict=True):
            members = np.asarray(part.members)
            where = layout.positions[np.ix_(members, np.asarray(part.places))]
            for k, i in enumerate(members):
                real = where[k] >= 0
                observed[r, k, real] = dv[i][where[k, real]]
    return tuple(parts)


def _drawn(fit: Fit, records: Records, key) -> list[np.ndarray]:
    """One simulated trial: DV of every record of every subject (NaN on records that are not observations)."""
    observed = np.concatenate([s.is_observation for s in fit.population])
    endpoint = records.column("endpoint")
    names = list(records.outputs)
    dv = np.full(len(observed), np.nan)
    for name, own in zip(names, jax.random.split(key, len(names)), strict=True):
        rows = observed & ((len(names) == 1) | (np.array([*fit.population.endpoints, ""], dtype=object)[endpoint] == name))
        if rows.any():
            dv[rows] = records.draw(name, rows, own)[rows]
    lost = np.flatnonzero(observed & ~np.isfinite(dv))
    if len(lost):
        raise DataError(
            f"A parametric bootstrap cannot draw the record of subject {records.ids[lost[0]]} at time "
            f"{records.column('time')[lost[0]]:g}: after an event no further one can follow. Resample subjects instead."
        )
    return np.split(dv, np.cumsum([len(s) for s in fit.population])[:-1])
