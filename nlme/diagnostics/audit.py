"""The audit of a fit: a table of checks, each with a figure and a verdict in words, problems first.

The quick checks need one evaluation of the gradient at the estimates:

| check           | figure                                                                                                     |
|-----------------|------------------------------------------------------------------------------------------------------------|
| search          | how it ended                                                                                               |
| gradient        | expected further decrease 1/2 g' H^-1 g, H the information in the unconstrained parameters                 |
| modes           | largest Newton decrement left in a subject's search for its mode, and whose                                |
| information     | smallest eigenvalue of the information scaled to a unit diagonal, and the parameters along that direction   |
| bounds          | parameters at the end of their range                                                                       |
| shrinkage       | 100 (1 - sd(eta)/omega) %                                                                                  |
| mean of eta     | smallest p of t = mean(eta) sqrt(N) / sd(eta), two-sided, multiplied by the number of effects (Bonferroni) |

The information is 2 R if the fit's covariance has been computed, else 1/2 sum_i s_i s_i' with s_i the gradient of subject i's
-2 log L (both are the Hessian of the objective where the model holds).
"""

from __future__ import annotations

import dataclasses
import functools

import jax.numpy as jnp
import numpy as np

from nlme.dynamics.solvers import SOLVED
from nlme.fitting.result import Fit
from nlme.marginal.objective import evaluate_subjects
from nlme.search.quasi_newton import CONVERGED, SENTENCES

PROBLEM, REMARK, FINE, UNJUDGED = "problem", "remark", "fine", "not judged"
_ORDER = (PROBLEM, REMARK, UNJUDGED, FINE)


@dataclasses.dataclass(frozen=True)
class Check:
    """One check: what was looked at, the verdict, the figure it rests on, and a sentence."""

    name: str
    verdict: str
    figure: float
    sentence: str


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Audit:
    """Checks of one fit, problems first."""

    title: str
    checks: tuple[Check, ...]

    @functools.cached_property
    def table(self):
        """DataFrame: check (index), verdict, figure, sentence."""
        import pandas as pd

        return pd.DataFrame([dataclasses.asdict(check) for check in self.checks]).set_index("name")

    @property
    def problems(self) -> list[str]:
        return [check.sentence for check in self.checks if check.verdict == PROBLEM]

    def __getitem__(self, name: str) -> Check:
        return next(check for check in self.checks if check.name == name)

    def __repr__(self) -> str:
        counts = {verdict: sum(check.verdict == verdict for check in self.checks) for verdict in _ORDER}
        said = ", ".join(f"{n} {verdict}" for verdict, n in counts.items() if n)
        marks = {PROBLEM: "!", REMARK: "?", UNJUDGED: "-", FINE: " "}
        lines = [f"  {marks[check.verdict]} {check.name + ':':<28} {check.sentence}" for check in self.checks]
        return "\n".join([f"Audit of {self.title}: {said}", *lines])


def assembled(fit: Fit, checks: list[Check]) -> Audit:
    """The checks in order of seriousness."""
    title = f"{type(fit.model).__name__}, {fit.method!r}"
    return Audit(title, tuple(sorted(checks, key=lambda check: _ORDER.index(check.verdict))))


def quick_audit(fit: Fit) -> Audit:
    """The quick checks."""
    return assembled(fit, quick_checks(fit))


def quick_checks(fit: Fit) -> list[Check]:
    hessian = information(fit)
    return [
        _search(fit),
        _gradient(fit, hessian),
        _modes(fit),
        _information(fit, hessian),
        _bounds(fit),
        *([_shrinkage(fit), _mean_eta(fit)] if fit.effects else []),
    ]


def information(fit: Fit) -> np.ndarray:
    """(P, P) Hessian of the objective in the unconstrained parameters, as far as it is known without much work."""
    at = evaluate_subjects(
        fit.method,
        fit.layout.anatomy,
        fit.inventory,
        fit.model,
        fit.layout.arrays,
        fit.inventory.unconstrained(fit.model),
        jnp.asarray(fit.b),
    )
    scores = np.asarray(at.gradient)
    if "covariance" not in fit.__dict__:
        return 0.5 * scores.T @ scores
    from nlme.fitting.covariance import natural_jacobian

    jacobian = natural_jacobian(fit.inventory, fit.model)
    return 2.0 * jacobian.T @ fit.covariance.information_r @ jacobian


def _search(fit: Fit) -> Check:
    good = fit.search_status == CONVERGED
    return Check("search", FINE if good else PROBLEM, float(len(fit.history)), SENTENCES[fit.search_status])


def _gradient(fit: Fit, hessian: np.ndarray) -> Check:
    name = "gradient at the end"
    gradient = fit.gradient
    if gradient is None or not len(gradient):
        return Check(name, UNJUDGED, float("nan"), "The method searches without a gradient.")
    if not np.all(np.isfinite(gradient)):
        return Check(name, PROBLEM, float("nan"), "The gradient at the end is not finite.")
    worst = int(np.argmax(np.abs(gradient)))
    size = f"largest element {gradient[worst]:.2g} ({fit.inventory.names[worst]})"
    if not np.all(np.isfinite(hessian)):
        return Check(name, PROBLEM, float("nan"), f"{size}; what it is worth cannot be said, for the second derivatives are not finite.")
    expected = float(0.5 * gradient @ np.linalg.lstsq(hessian, gradient, rcond=1e-10)[0])
    if expected < 1e-3:
        return Check(name, FINE, expected, f"{size}; the objective could fall by {max(expected, 0.0):.1g} more.")
    sentence = f"{size}: the objective is expected to fall by {expected:.3g} more, so the search ended too early."
    return Check(name, PROBLEM, expected, sentence)


def _modes(fit: Fit) -> Check:
    name = "modes of the subjects"
    left = np.sqrt(np.maximum(np.nan_to_num(fit.decrement, nan=np.inf), 0.0))
    lost = np.flatnonzero(~fit.inner_converged | (fit.status != SOLVED))
    worst = int(np.argmax(left))
    who = f"largest gradient left {left[worst]:.1g} standard deviations, subject {fit.population.ids[worst]}"
    if len(lost):
        listed = ", ".join(str(fit.population.ids[i]) for i in lost[:5]) + (" ..." if len(lost) > 5 else "")
        sentence = f"{len(lost)} of {len(left)} subjects have no reliable mode ({listed}); {who}."
        return Check(name, PROBLEM, float(left[worst]), sentence)
    return Check(name, FINE, float(left[worst]), f"All found; {who}.")


def _information(fit: Fit, hessian: np.ndarray) -> Check:
    name, names = "information", fit.inventory.names
    source = "R" if "covariance" in fit.__dict__ else "scores of the subjects"
    if not np.all(np.isfinite(hessian)):
        return Check(name, PROBLEM, float("nan"), "The derivatives of the objective are not finite at the estimates.")
    if source != "R" and len(fit.values) <= len(names):
        units = "subjects" if fit.layout.sites is None else "sites"
        sentence = f"Not more {units} than parameters: nlme.audit(fit) computes the second derivatives."
        return Check(name, UNJUDGED, float("nan"), sentence)
    scale = np.sqrt(np.maximum(np.abs(np.diagonal(hessian)), 1e-300))
    values, vectors = np.linalg.eigh(hessian / np.outer(scale, scale))
    smallest = float(values[0])
    weights = np.abs(vectors[:, 0])
    along = " and ".join(names[k] for k in np.argsort(-weights) if weights[k] > 0.3)
    if smallest < 1e-8:
        sentence = f"Flat along {along} (smallest eigenvalue {smallest:.1g}, from {source}): not determined by the data."
        return Check(name, PROBLEM, smallest, sentence)
    spread = f"{smallest:.2g} to {values[-1]:.2g}"
    if values[-1] / smallest > 1000.0:
        return Check(name, REMARK, smallest, f"Nearly flat along {along} (eigenvalues {spread}, from {source}).")
    return Check(name, FINE, smallest, f"Eigenvalues {spread} (from {source}); least determined: {along}.")


def _bounds(fit: Fit) -> Check:
    found = fit.bound_problems()
    if not found:
        return Check("bounds", FINE, 0.0, "No parameter is at the end of its range.")
    return Check("bounds", PROBLEM, float(len(found)), " ".join(found))


def _shrinkage(fit: Fit) -> Check:
    shrinkage = fit.shrinkage.dropna()
    if shrinkage.empty:
        return Check("shrinkage", UNJUDGED, float("nan"), "No random effect is estimated to vary.")
    worst = shrinkage.idxmax()
    size = f"largest {shrinkage[worst]:.0f} % ({worst})"
    if shrinkage[worst] > 30.0:
        sentence = f"{size}: plots of random effects and individual predictions can mislead."
        return Check("shrinkage", REMARK, float(shrinkage[worst]), sentence)
    return Check("shrinkage", FINE, float(shrinkage[worst]), f"{size}.")


def _mean_eta(fit: Fit) -> Check:
    from scipy.stats import t as student

    name = "mean of the random effects"
    modes = {effect: values for effect, values in fit.modes.items() if len(values) > 2}
    if not modes:
        return Check(name, UNJUDGED, float("nan"), "Fewer than three subjects.")
    # an effect whose variance went to zero has nothing to test
    use = {effect: values for effect, values in modes.items() if values.std(ddof=1) > 1e-8}
    if not use:
        return Check(name, UNJUDGED, float("nan"), "No random effect varies.")

    def chance(values):
        t = abs(values.mean()) * np.sqrt(len(values)) / values.std(ddof=1)
        return 2.0 * student.sf(t, len(values) - 1)

    p = {effect: chance(values) for effect, values in use.items()}
    worst = min(p, key=p.get)
    figure = min(1.0, p[worst] * len(use))
    size = f"{worst} has mean {use[worst].mean():.3g}, p = {figure:.2g} for {len(use)} effects together"
    if figure < 0.01:
        return Check(name, REMARK, figure, f"{size}: not zero; the distribution of {worst} or its typical value is misspecified.")
    return Check(name, FINE, figure, f"{size}: none differs from zero.")
