"""Observations simulated from a fit, in the arrangement that its fits read."""

from __future__ import annotations

import jax
import numpy as np

from nlme.errors import DataError
from nlme.fitting.result import Fit
from nlme.simulation.records import Design, Records, system_keys


def redrawn_observations(fit: Fit, replicates: int, key) -> tuple[np.ndarray, ...]:
    """Observations of ``replicates`` trials with the fit's design, new random effects and new residual errors.

    Returns
    -------
    For every size class of ``fit.layout.arrays``, (R, n, T) observations; padding keeps what it holds.

    Raises
    ------
    DataError
        Censored records (simulated values are not censored), events (whose times are drawn to the records that the data happen to
        have), or a record for which nothing can be drawn.
    """
    design, keys = Design(fit.model, fit.population), jax.random.split(key, replicates)
    _require_no_moving_records(design)
    for subject in fit.population:
        censored = np.flatnonzero(subject.is_observation & (subject.cens != 0))
        if len(censored):
            raise DataError(
                f"A parametric bootstrap simulates uncensored values, and subject {subject.id} has a censored one (row "
                f"{subject.rows[censored[0]]}, CENS = {subject.cens[censored[0]]}). Resample subjects instead (parametric=False)."
            )
    layout = fit.layout
    parts = [np.repeat(np.asarray(part.data.observed)[None], replicates, axis=0) for part in layout.arrays.parts]
    size = design.batch(replicates)
    for begin in range(0, replicates, size):
        own = np.minimum(begin + np.arange(size), replicates - 1)  # the last batch is filled up
        dv = _drawn(fit, design, keys[own])[: replicates - begin]
        padded = np.concatenate([dv, np.full((len(dv), 1), np.nan)], axis=1)
        for part, observed in zip(layout.arrays.parts, parts, strict=True):
            members = np.asarray(part.members)
            where = layout.positions[np.ix_(members, np.asarray(part.places))]
            real, first = where >= 0, np.cumsum([0, *map(len, fit.population)])[members]
            found = padded[:, np.where(real, first[:, None] + where, -1)]
            observed[begin : begin + len(dv)] = np.where(real, found, observed[begin : begin + len(dv)])
    return tuple(parts)


def _require_no_moving_records(design: Design) -> None:
    """Refuse events whose times are where the records are: the design of another draw would be another."""
    dv = design.column("dv")
    for name, law in zip(design.anatomy.endpoints, design.anatomy.laws, strict=True):
        if law.link not in ("event", "events"):
            continue
        happened = np.flatnonzero(design.observations(name) & (dv > 0 if law.link == "event" else dv == 1))
        if len(happened):
            raise DataError(
                f"A parametric bootstrap draws values at the records that there are, and those of {name} end where an event came "
                f"(subject {design.ids[happened[0]]!r}, time {design.column('time')[happened[0]]:g}): other draws would have come at "
                "other times. Resample subjects instead (parametric=False)."
            )


def _drawn(fit: Fit, design: Design, keys) -> np.ndarray:
    """(R, n) DV of every record of a simulated trial for each of ``keys`` (R,); NaN on records that are not observations."""
    effects, errors = jax.vmap(jax.random.split, out_axes=1)(keys)
    shape = (len(fit.population), len(fit.effects))
    eta = (
        np.asarray(jax.vmap(lambda key: jax.random.normal(key, shape))(effects))
        @ np.asarray(design.anatomy.cholesky(fit.model)).T
    )
    names, observed = design.endpoints, design.column("is_observation")
    rows = {name: own for name in names if (own := design.observations(name)).any()}
    keys = jax.vmap(lambda key: jax.random.split(key, len(names)))(errors)[:, np.array([names.index(name) for name in rows])]
    at = Records(design, fit.model, eta, fit.method.ode, system=system_keys(design.anatomy, errors))
    drawn = at.draw(list(rows), list(rows.values()), keys)
    dv = np.full((len(keys), len(observed)), np.nan)
    for name, own in rows.items():
        dv[:, own] = drawn[name][:, own]
    lost = np.flatnonzero(observed & ~np.isfinite(dv).all(axis=0))
    if len(lost):
        raise DataError(
            f"A parametric bootstrap cannot draw the record of subject {design.ids[lost[0]]} at time "
            f"{design.column('time')[lost[0]]:g}: after an event no further one can follow. Resample subjects instead."
        )
    return dv
