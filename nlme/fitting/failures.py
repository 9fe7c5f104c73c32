"""Why an objective is not a number, in words: which subject, which record, what was seen."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from nlme.dynamics.solvers import SENTENCES as SOLVER_SENTENCES
from nlme.dynamics.solvers import SOLVED, Tolerances
from nlme.errors import FitError
from nlme.language.layout import Layout
from nlme.language.model import Model
from nlme.language.solution import failure
from nlme.marginal.base import Subject
from nlme.marginal.foce import FOCEI


def require_finite(values: np.ndarray, status: np.ndarray, layout: Layout, model: Model, where: str, ode: Tolerances) -> None:
    """Refuse to go on from an objective that is not a number, naming the subjects and the likely cause.

    Raises
    ------
    FitError
        Any subject's objective is not finite, or its ODE was not solved.
    """
    bad = np.flatnonzero(~np.isfinite(values) | (status != SOLVED))
    if not len(bad):
        return
    subjects = list(layout.population)
    lines = []
    for i in bad[:5]:
        why = _why_not_solved(model, layout, i, int(status[i]), ode) or _why_not_finite(model, layout, i)
        lines.append(f"  subject {subjects[i].id}: {why}")
    more = [f"  ... and {len(bad) - 5} more subjects"] if len(bad) > 5 else []
    raise FitError("\n".join([f"The objective is not a finite number {where}:", *lines, *more]))


def _why_not_solved(model: Model, layout: Layout, i: int, status: int, ode: Tolerances) -> str:
    """Why and where the solve of one subject failed; at eta = 0 if it fails there too."""
    if status == SOLVED:
        return ""
    data, _ = layout.subject(i)
    subject = list(layout.population)[i]
    typical = failure(model, layout.anatomy, subject, data, jnp.zeros(len(layout.anatomy.effects)), ode)
    return typical or f"{SOLVER_SENTENCES[status]} (at random effects met in the search for its mode; at eta = 0 it is solved)"


def _why_not_finite(model: Model, layout: Layout, i: int) -> str:
    """What is wrong with one subject's density at eta = 0."""
    data, records = layout.subject(i)
    zero = jnp.zeros(len(layout.anatomy.effects))
    at = Subject(FOCEI(), layout.anatomy, data, model, zero, 0).moments(model, zero)
    mean, z = np.asarray(at.mean), np.asarray(at.transformed)
    subject = list(layout.population)[i]
    real = records >= 0

    def place(bad):
        j = records[np.flatnonzero(bad & real)[0]]
        return f"row {subject.rows[j]} (time {subject.time[j]:g}, DV {subject.dv[j]:g})"

    def law_of(bad):
        sample = np.flatnonzero(bad & real)[0]
        return layout.anatomy.laws[next(k for k, (a, b) in enumerate(data.spans) if a <= sample < b)]

    if (~np.isfinite(z) & real).any():
        law = law_of(~np.isfinite(z))
        if "log scale" in law.words:
            return f"{place(~np.isfinite(z))}: the observation has no logarithm, and the error model is log-normal; DV must be positive."
        return f"{place(~np.isfinite(z))}: the error model is {law.words}, which has no place for this value."
    if (~np.isfinite(mean) & real).any():
        return f"{place(~np.isfinite(mean))}: the prediction is {mean[~np.isfinite(mean) & real][0]} at the starting values."
    factor = np.asarray(at.log_factor)
    if (~np.isfinite(factor) & real).any():
        bad = ~np.isfinite(factor)
        law, value = law_of(bad), np.asarray(at.prediction)[bad & real][0]
        if np.isneginf(factor[bad & real][0]) and (law.normal or law.censoring):
            return (
                f"{place(bad)}: the observation is impossible where the prediction is {value:g}, as at eta = 0 (error model: {law.words}). "
                f"If the error vanishes there, give it an additive part (nlme.combined), or leave the record out (MDV = 1)."
            )
        if np.isneginf(factor[bad & real][0]):
            return (
                f"{place(bad)}: the log density of this observation is -inf at eta = 0, impossible under the model ({law.words}): either "
                "the value has no probability there, or what the model gives is no distribution (a probability outside 0 to 1, logits "
                "that cross, a rate or a mean below 0)."
            )
        return f"{place(bad)}: the log density of this observation is {factor[bad & real][0]} at eta = 0."
    if not layout.anatomy.effects:
        return (
            "the prediction is finite, but not its derivatives in the parameters: look for a root, a power or a division at 0; try other "
            "starting values."
        )
    return "the prediction is finite at eta = 0, but not where its random effects were searched; try other starting values."
