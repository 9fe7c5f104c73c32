"""The audit's slow checks: what the fit rests on is computed again in another way.

| check                | figure                                                                                                |
|----------------------|-------------------------------------------------------------------------------------------------------|
| exact gradient       | largest difference from central differences over max(1, largest g), a short way off the estimates     |
| tolerances           | change of the objective when the solver's and the modes' tolerances are 100 times tighter             |
| approximation        | objective by importance sampling less the method's own, with its Monte-Carlo error                    |
| several starts       | how much lower the best of some random starts ends                                                    |
"""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np

from nlme.diagnostics.audit import FINE, PROBLEM, REMARK, UNJUDGED, Audit, Check, assembled, guarded, quick_checks
from nlme.dynamics.solvers import SOLVED
from nlme.fitting.multistart import SAME, multistart
from nlme.fitting.result import Fit, require_fit
from nlme.marginal.objective import evaluate_subjects
from nlme.marginal.quadrature import ImportanceSampling
from nlme.marginal.subjects import Evaluation

_STEP = 1e-4  # of the central differences, and
_SHARE = 0.01  # of a parameter's error that they are at most
_OFF = 0.02  # how far from the estimates, where the gradient is not zero
_DECISIVE = 3.84  # an error of the objective that would decide a test of one parameter


def audit(fit: Fit, *, starts: int = 5, samples: int = 1000, key=0, penalty=None) -> Audit:
    """Every check of a fit, the slow ones too; see ``fit.audit`` for the quick ones.

    Parameters
    ----------
    fit : the fit
    starts : number of other starting points; 0 leaves that check out
    samples : draws of the importance sampling for each subject; 0 leaves that check out
    key : seed of starts
    penalty : the function the fit was penalised with, if it was

    Raises
    ------
    FitError
        No fit; a penalised fit without its penalty, when other starts are asked for.
    """
    require_fit(fit, "audit")
    guarded("covariance", lambda: fit.covariance)  # so that the quick checks judge the second derivatives, not the scores
    guarded("modes", lambda: fit.b)  # those of a method that needs none, so that they are judged
    checks = [
        *quick_checks(fit),
        guarded("exact gradient", lambda: _exact_gradient(fit)),
        guarded("tolerances", lambda: _tolerances(fit)),
    ]
    if fit.layout.anatomy.mixture or fit.layout.anatomy.by_site:
        what = f"random effects per {fit.layout.anatomy.above}" if fit.layout.anatomy.by_site else "mixtures of subpopulations"
        words = f"Not for {what}: compare with nlme.AGQ and with fits from other starting values by hand."
        return assembled(
            fit, [*checks, *(Check(name, UNJUDGED, float("nan"), words) for name in ("approximation", "several starts"))]
        )
    if samples:
        checks.append(guarded("approximation", lambda: _approximation(fit, samples)))
    if starts and not fit.priors:
        fit.problem(penalty)  # refused here and not in the guard: a penalised fit without its penalty
        checks.append(guarded("several starts", lambda: _several_starts(fit, starts, key, penalty)))
    return assembled(fit, checks)


def _several_starts(fit: Fit, starts: int, key, penalty) -> Check:
    found = multistart(fit, starts, key=key, penalty=penalty)
    good = found.fits.converged
    verdict = UNJUDGED if not good.any() else PROBLEM if found.gain > SAME else FINE
    return Check("several starts", verdict, found.gain, found.verdict)


def _exact_gradient(fit: Fit) -> Check:
    names = fit.inventory.names
    u = np.asarray(fit.inventory.unconstrained(fit.model))
    error = np.full(len(u), np.inf)  # of each, all others known
    if fit.information is not None:
        with np.errstate(divide="ignore"):
            error = np.sqrt(2.0 / np.diagonal(fit.information))
    u = u + np.minimum(_OFF, error) * np.where(np.arange(len(u)) % 2, -1.0, 1.0)
    centre = _under_tight_tolerances(fit, u, fit.near_modes)
    exact = np.asarray(centre.gradient).sum(axis=0)
    reach = np.minimum(_STEP, _SHARE * error)
    values = np.array(
        [
            [float(_under_tight_tolerances(fit, u + side * step, centre.b).value.sum()) for side in (1, -1)]
            for step in np.diag(reach)
        ]
    )
    difference = np.abs(exact - (values[:, 0] - values[:, 1]) / (2 * reach)) / max(1.0, float(np.abs(exact).max()))
    worst = int(np.argmax(np.where(np.isfinite(difference), difference, np.inf)))
    size = f"largest relative difference from central differences {difference[worst]:.1g} ({names[worst]})"
    if difference[worst] < 1e-4:
        return Check("exact gradient", FINE, float(difference[worst]), f"{size}.")
    sentence = f"{size}: the objective is not smooth here, or its gradient is wrong."
    return Check("exact gradient", PROBLEM, float(difference[worst]), sentence)


def _under_tight_tolerances(fit: Fit, u, starts) -> Evaluation:
    """Objective and gradient at ``u``, the solver's and the modes' tolerances 100 times tighter than the fit's."""
    method = fit.method
    ode = dataclasses.replace(method.ode, relative=method.ode.relative / 100, absolute=method.ode.absolute / 100)
    tight = dataclasses.replace(method, ode=ode, inner_tolerance=method.inner_tolerance / 100)
    return evaluate_subjects(
        tight, fit.layout.anatomy, fit.inventory, fit.model, fit.layout.arrays, jnp.asarray(u), jnp.asarray(starts)
    )


def _tolerances(fit: Fit) -> Check:
    name = "tolerances"
    at = _under_tight_tolerances(fit, fit.inventory.unconstrained(fit.model), fit.near_modes)
    change = float(at.value.sum()) - fit.objective
    bad = np.flatnonzero((np.asarray(at.status) != SOLVED) | ~np.isfinite(np.asarray(at.by_subject)))
    if len(bad):
        listed = ", ".join(str(fit.population.ids[i]) for i in bad[:5])
        return Check(
            name, PROBLEM, change, f"Under 100 times tighter tolerances {len(bad)} subjects cannot be computed ({listed})."
        )
    size = f"100 times tighter tolerances move the objective by {change:.1g}"
    if abs(change) < 1e-3:
        return Check(name, FINE, change, f"{size}.")
    return Check(name, PROBLEM, change, f"{size}: fit again with a tighter solver than {fit.method.ode!r}.")


def _approximation(fit: Fit, samples: int) -> Check:
    name = "approximation"
    if isinstance(fit.method, ImportanceSampling) or not fit.effects:
        return Check(name, UNJUDGED, 0.0, "The method computes the integral itself; there is no approximation to judge.")
    sampled = fit.by(ImportanceSampling(samples=samples, ode=fit.method.ode))
    change, error = sampled.objective - fit.objective, sampled.monte_carlo.error
    size = f"importance sampling gives {change:+.3f} (error {error:.2g}) on the method's objective"
    unreliable = sampled.monte_carlo.problems(fit.population.ids)
    if unreliable:
        return Check(name, UNJUDGED, change, f"{size}; but {unreliable[0]}")
    if abs(change) > _DECISIVE + 2.0 * error:
        sentence = f"{size}: enough to decide a test of one parameter; compare models by nlme.compare(fits, by=...)."
        return Check(name, REMARK, change, sentence)
    return Check(name, FINE, change, f"{size}.")
