"""The audit of a fit: a table of checks, each with a figure and a verdict in words, problems first.

Its first line is the fit's verdict.  The quick checks need no evaluation of the objective (those of the random effects are left
out while a method that needs no modes, FO, has none):

| check           | figure                                                                                                     |
|-----------------|------------------------------------------------------------------------------------------------------------|
| search          | how it ended                                                                                               |
| range           | parameters that went to infinity, or so far that the objective no longer depends on them                   |
| gradient        | expected further decrease 1/2 g' H^-1 g, H the information in the unconstrained parameters                 |
| modes           | largest Newton decrement left in a subject's search for its mode, and whose                                |
| information     | smallest eigenvalue of the information scaled to a unit diagonal, and the parameters along that direction   |
| bounds          | parameters at the end of their range                                                                       |
| maximum         | error parameters with which the likelihood grows without end (:mod:`nlme.search.unbounded`), where there are any |
| inputs          | means and standard deviations of a network's inputs that nothing standardises                              |
| scales          | variances that are one scale with the weights of a network                                                 |
| starts          | how many searches reached this minimum, and how much higher the next one is, if it is near                 |
| density         | what speaks against the method's approximation of a subject's density                                      |
| shrinkage       | 100 (1 - sd(eta)/omega) %                                                                                  |
| mean of eta     | smallest p of t = mean(eta) sqrt(N) / sd(eta), two-sided, multiplied by the number of effects (Bonferroni) |

The information is 2 R if the fit's covariance has been computed; else the Hessian, where the search made it from differences of the
gradient; else 1/2 sum_i s_i s_i' with s_i the gradient of subject i's -2 log L (all are the Hessian of the objective where the
model holds).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import numpy as np

from nlme.dynamics.solvers import SOLVED
from nlme.fitting.result import NOTHING, Fit
from nlme.fitting.saem.method import SAEM
from nlme.fitting.scales import said_of_scales
from nlme.language.anatomy import mixtures_of
from nlme.language.standardisation import far_inputs
from nlme.marginal.objective import evaluate_subjects
from nlme.neural.term import learned_terms
from nlme.search.boundary import free_blocks, is_singular
from nlme.search.metric import scaled_spectrum
from nlme.search.quasi_newton import CONVERGED, SENTENCES

PROBLEM, REMARK, FINE, UNJUDGED = "problem", "remark", "fine", "not judged"
_ORDER = (PROBLEM, REMARK, UNJUDGED, FINE)
_EXPECTED = 1e-3  # further fall of the objective, from which a search has ended too early
_BY_CHANCE = 0.5  # the same where the estimate is one of a stochastic algorithm
_AS_CURVED = 0.3, 3.0  # rise of the objective one error away from the estimate, which a parabola puts at 1
_NOBODY = 1e-4  # of a subject, below which a subpopulation has none
_FLAT = 1e-8  # eigenvalue of the information in units of its diagonal
_SINGULAR = 1e-5  # smallest eigenvalue of a correlation matrix
_OF_THE_DATA = 0.2  # share of a curvature below which it is the penalty's
_NEARLY_FLAT = 1000.0  # ratio of largest to smallest


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

    @property
    def remarks(self) -> list[str]:
        return [check.sentence for check in self.checks if check.verdict == REMARK]

    @property
    def headline(self) -> str:
        """The overall judgement in one line."""
        if self.problems:
            return "Do not use as it is: " + self.problems[0]
        if self.remarks:
            count = len(self.remarks)
            return f"Converged, with {count} remark{'s' if count > 1 else ''}: {self.remarks[0]}"
        return "Converged; no problems found by the quick checks."

    def __getitem__(self, name: str) -> Check:
        return next(check for check in self.checks if check.name == name)

    def __repr__(self) -> str:
        counts = {verdict: sum(check.verdict == verdict for check in self.checks) for verdict in _ORDER}
        said = ", ".join(f"{n} {verdict}" for verdict, n in counts.items() if n)
        marks = {PROBLEM: "!", REMARK: "?", UNJUDGED: "-", FINE: " "}
        lines = [f"  {marks[check.verdict]} {check.name + ':':<28} {check.sentence}" for check in self.checks]
        return "\n".join([self.headline, f"Audit of {self.title}: {said}", *lines])


def assembled(fit: Fit, checks: list[Check]) -> Audit:
    """The checks in order of seriousness."""
    title = f"{type(fit.model).__name__}, {fit.method!r}"
    return Audit(title, tuple(sorted(checks, key=lambda check: _ORDER.index(check.verdict))))


def guarded(name: str, check: Callable[[], Check]) -> Check:
    """The check, or that it could not be made: an audit of the worst fit still says what is wrong with it."""
    try:
        return check()
    except Exception as error:  # noqa: BLE001
        return Check(
            name, UNJUDGED, float("nan"), f"It cannot be judged ({type(error).__name__}: {' '.join(str(error).split())[:200]})."
        )


def quick_audit(fit: Fit) -> Audit:
    """The quick checks."""
    return assembled(fit, quick_checks(fit))


def quick_checks(fit: Fit) -> list[Check]:
    checks = {
        **({"maximum of the likelihood": _unbounded} if fit.unbounded else {}),
        "search": _search,
        "range of the parameters": _range,
        "gradient at the end": _gradient,
        "modes of the subjects": _modes,
        "information": _information,
        "bounds": _bounds,
        **({"inputs of the networks": _inputs, "scales of the networks": _scales} if learned_terms(fit.model) else {}),
        "starts": _starts,
        "density of the subjects": _density,
        **({"effective parameters": _effective} if fit.penalty_slopes is not None else {}),
        **({"training": _training} if fit.training else {}),
        **({"cross-validation": _validation} if fit.validation else {}),
    }
    if fit.effects:
        of_modes = {"shrinkage": _shrinkage, "mean of the random effects": _mean_eta}
        checks |= of_modes if fit.has_modes else dict.fromkeys(of_modes, _not_searched)
    return [guarded(name, functools.partial(check, fit, name)) for name, check in checks.items()]


def information(fit: Fit) -> tuple[np.ndarray | None, str]:
    """(P, P) Hessian of the objective in the unconstrained parameters as far as it is known without work, and from what; or None."""
    if "covariance" in fit.__dict__:
        return 2.0 * fit.covariance.curvature, "R"
    if fit.curvature is not None:
        return fit.curvature, "differences of the gradient"
    if fit.information is None:
        return None, ""
    penalty = 0.0 if fit.penalty_slopes is None else fit.penalty_slopes[1]
    return fit.information + penalty, "scores of the subjects"


def few_scores(fit: Fit) -> bool:
    """Whether what is known of the curvature without work are scores of fewer subjects than parameters: it is nothing in most directions,
    and a penalty would seem to leave nothing there to the data."""
    return information(fit)[1] == "scores of the subjects" and len(fit.population) < len(fit.inventory)


def _search(fit: Fit, name: str) -> Check:
    good = fit.search_status == CONVERGED
    return Check(name, FINE if good else PROBLEM, float(len(fit.history)), SENTENCES[fit.search_status] + _idle(fit.undetermined))


def _idle(combinations: tuple[tuple[str, ...], ...]) -> str:
    """What the data leave undetermined, in words."""
    said = ""
    for names in combinations:
        if len(names) == 1:
            said += f" {names[0]} leaves no trace in the data where it stands: fix it, or take it out of the model."
        else:
            listed = ", ".join(names[:-1]) + f" and {names[-1]}"
            said += f" {listed} can change together without changing the likelihood: only a combination of them is determined. Fix one."
    return said


def _range(fit: Fit, name: str) -> Check:
    gone = [one for one in fit.ran_away if one not in fit.unbounded]
    if not gone:
        return Check(name, FINE, 0.0, "No parameter ran away." if not fit.ran_away else "No other parameter ran away.")
    values = {row.name: row.value for row in fit.parameters}
    starts = {row.name: row.value for row in fit.inventory.rows(fit.start)}
    listed = ", ".join(f"{name} (to {values[name]:.3g} from {starts[name]:.3g})" for name in gone)
    return Check(
        name,
        PROBLEM,
        float(len(gone)),
        f"Ran away: {listed}. The objective does not depend on it there any more, or its unit makes such numbers of it. Try other starting "
        "values, or what it belongs to (a covariate) in another unit.",
    )


def _unbounded(fit: Fit, name: str) -> Check:
    count = max(fit.unbounded.values())
    several, local = count > 1, fit.search_status == CONVERGED and not fit.ran_away and not _mostly_below(fit)
    return Check(
        name,
        REMARK if local else PROBLEM,
        float(count),
        f"The likelihood has no maximum: {count} observation{'s' if several else ''} of 0, predicted as 0 exactly, raise"
        f"{'' if several else 's'} it without end as {' or '.join(fit.unbounded)} goes to 0. "
        f"{'This is a local maximum.' if local else 'The search went there.'} Leave out what can only be 0, such as samples before the "
        "first dose (MDV = 1), and give values below the limit of quantification as such (CENS = 1); or fix the parameter.",
    )


def _mostly_below(fit: Fit) -> bool:
    """Whether more searches ran off below this minimum than reached it."""
    return fit.starts is not None and len(fit.starts.below) > fit.starts.reached


def _gradient(fit: Fit, name: str) -> Check:
    gradient = fit.gradient
    if gradient is None or not len(gradient):
        return Check(name, UNJUDGED, float("nan"), "The method searches without a gradient.")
    if not np.all(np.isfinite(gradient)):
        return Check(name, PROBLEM, float("nan"), "The gradient at the end is not finite.")
    worst = int(np.argmax(np.abs(gradient)))
    size = f"largest element {gradient[worst]:.2g} ({fit.inventory.names[worst]})"
    hessian, _ = information(fit)
    if hessian is None or not np.all(np.isfinite(hessian)):
        return Check(name, UNJUDGED, float("nan"), f"{size}; nothing is known of the curvature by which to judge it.")
    moving = _moving(fit)
    expected = float(0.5 * gradient[moving] @ _solution(hessian[np.ix_(moving, moving)], gradient[moving]))
    chance = isinstance(fit.method, SAEM)
    if expected < (_BY_CHANCE if chance else _EXPECTED):
        return Check(name, FINE, expected, f"{size}; the objective could fall by {max(expected, 0.0):.1g} more.")
    sentence = f"{size}: the objective is expected to fall by {expected:.3g} more, so the search ended too early."
    return Check(name, REMARK if chance else PROBLEM, expected, sentence)


def _training(fit: Fit, name: str) -> Check:
    return Check(name, FINE, float(len(fit.training)), " ".join(fit.training))


def _validation(fit: Fit, name: str) -> Check:
    plain = any(doubt in words for words in fit.validation for doubt in ("do not pay", "not shown to pay"))
    return Check(name, REMARK if plain else FINE, float("nan"), " ".join(fit.validation))


def _moving(fit: Fit) -> np.ndarray:
    """(P,) which parameters the search has not left at an end of their line."""
    return np.array([name not in (fit.ended or {}) for name in fit.inventory.names], bool)


def effective_parameters(fit: Fit) -> float | None:
    """tr H^-1 (H - P), H the Hessian of the penalised objective, P that of the penalty or prior: how many parameters the data determine.

    Every free parameter counts 1 without a penalty, and less the more a penalty holds it; None where the curvature is not known.
    Source: Gray (1992), doi:10.1080/01621459.1992.10476248, section 3; Hastie & Tibshirani (1990), Generalized Additive Models, 3.5.
    """
    hessian, _ = information(fit)
    if hessian is None or not np.all(np.isfinite(hessian)) or few_scores(fit):
        return None
    penalty = 0.0 if fit.penalty_slopes is None else fit.penalty_slopes[1]
    moving = _moving(fit)
    own = np.ix_(moving, moving)
    return float(np.trace(_solution(hessian[own], (hessian - penalty)[own])))


def _subpopulations_without_people(fit: Fit) -> list[str]:
    """Subpopulations whose share has gone to 0."""
    mixtures = [getattr(fit.model, name) for name in mixtures_of(fit.model)]
    return [
        name
        for one in mixtures
        for name, share in zip(one.names, one.shares, strict=True)
        if share < _NOBODY / len(fit.population)
    ]


def _effective(fit: Fit, name: str) -> Check:
    found = effective_parameters(fit)
    if found is None:
        return Check(name, UNJUDGED, float("nan"), "The curvature is not known; fit.covariance makes it.")
    of, source = "prior" if fit.priors else "penalty", information(fit)[1]
    better = "" if source == "R" else "; fit.covariance makes it from R"
    words = f"Of {len(fit.inventory)} free parameters the {of} leaves {found:.1f} to the data (from {source}{better})."
    return Check(name, FINE, found, words)


def _solution(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Least squares in units of the diagonal, so that parameters of any scale count alike."""
    scale = np.sqrt(np.maximum(np.abs(np.diagonal(matrix)), 1e-300))
    unit = scale if right.ndim == 1 else scale[:, None]
    return np.linalg.lstsq(matrix / np.outer(scale, scale), right / unit, rcond=1e-10)[0] / unit


def _modes(fit: Fit, name: str) -> Check:
    left = np.sqrt(np.maximum(np.nan_to_num(fit.decrement, nan=np.inf), 0.0))
    lost = np.flatnonzero(~fit.inner_converged | (fit.status != SOLVED))
    worst = int(np.argmax(left))
    if len(lost):
        return Check(name, PROBLEM, float(left[worst]), " ".join(fit.subject_problems()))
    who = f"largest gradient left {left[worst]:.1g} standard deviations, subject {fit.population.ids[worst]}"
    return Check(name, FINE, float(left[worst]), f"All found; {who}.")


def _information(fit: Fit, name: str) -> Check:
    hessian, source = information(fit)
    # weights of a network are many, and permute; what is left is judged at given weights
    own = [k for k in np.flatnonzero(_moving(fit)) if fit.inventory.kinds[k] != "weight"]
    # at a singular covariance the coordinates of its off-diagonal elements have lost their slopes: the search has looked beyond that edge
    edges = {column for _, columns in _singular_blocks(fit) for column in columns}
    own = [k for k in own if k not in edges]
    names = [fit.inventory.names[k] for k in own]
    if lost := fit.undetermined_covariances:
        several = len(lost) > 1
        sentence = (
            f"Nothing depends on {' and '.join(lost)}: no subject's data say anything of {'them' if several else 'it'}, as where nobody has "
            f"data on both effects. Leave the correlation{'s' if several else ''} out, or fix {'them' if several else 'it'}."
        )
        return Check(name, PROBLEM, 0.0, sentence)
    if hessian is None:
        units = "subjects" if fit.layout.sites is None else "sites"
        sentence = f"Not more {units} than parameters: nlme.audit(fit) computes the second derivatives."
        return Check(name, UNJUDGED, float("nan"), sentence)
    whole, hessian = hessian, hessian[np.ix_(own, own)]
    if not np.all(np.isfinite(hessian)):
        return Check(name, PROBLEM, float("nan"), "The derivatives of the objective are not finite at the estimates.")
    if not own:
        return Check(name, UNJUDGED, float("nan"), "There is no parameter to judge.")
    diagonal = np.abs(np.diagonal(hessian))
    kinds = [fit.inventory.kinds[k] for k in own]
    unknown = [n for n, kind, d in zip(names, kinds, diagonal, strict=True) if kind == "fixed effect" and d < NOTHING]
    unknown = [n for n in unknown if not _rises(fit, n, diagonal[names.index(n)])]
    if unknown:
        sentence = f"Nothing depends on {' and '.join(unknown)} here (from {source}): not determined by the data."
        return Check(name, PROBLEM, float(diagonal.min()), sentence)
    values, vectors = scaled_spectrum(hessian)
    smallest = float(values[0])
    weights = np.abs(vectors[:, 0])
    along = " and ".join(names[k] for k in np.argsort(-weights) if weights[k] > 0.3)
    if smallest < _FLAT and (gone := _subpopulations_without_people(fit)):
        sentence = f"Nobody belongs to {' or '.join(gone)}: the share has gone to 0, where the others' no longer depend on it. Leave it out."
        return Check(name, PROBLEM, smallest, sentence)
    if smallest < _FLAT:
        sentence = f"Flat along {along} (smallest eigenvalue {smallest:.1g}, from {source}): not determined by the data."
        return Check(name, PROBLEM, smallest, sentence)
    if shared := _shared_with_weights(fit, whole):
        sentence = (
            f"The data determine {shared} together only (from {source}): one can take from the other what it likes"
            f"{', as far as the penalty lets it' if fit.penalty_slopes is not None else ''}, and each by itself says nothing. "
            "Fix the parameter, or leave the network's constant out (constant=False)."
        )
        return Check(name, REMARK, smallest, sentence)
    spread = f"{smallest:.2g} to {values[-1]:.2g}"
    if values[-1] / smallest > _NEARLY_FLAT:
        return Check(name, REMARK, smallest, f"Nearly flat along {along} (eigenvalues {spread}, from {source}).")
    return Check(name, FINE, smallest, f"Eigenvalues {spread} (from {source}); least determined: {along}.")


def _shared_with_weights(fit: Fit, hessian: np.ndarray) -> str:
    """Names of a fixed effect and of weights of a network that the data do not tell apart, as the network's constant that is added to it;
    "" where there are none.  Weights among themselves permute, and may be flat.

    A penalty on the weights, of Hessian P, holds such a direction in the place of the data: along what of the parameter k is least
    known, d = H^-1 e_k, the data's part d' (H - P) d of the curvature d' H d is next to nothing.
    """
    weights = np.array([kind == "weight" for kind in fit.inventory.kinds])
    if not weights.any() or few_scores(fit) or not np.all(np.isfinite(hessian)):
        return ""
    own = np.flatnonzero(_moving(fit) & (np.diagonal(hessian) > NOTHING))
    hessian, weights = hessian[np.ix_(own, own)], weights[own]
    values, vectors = scaled_spectrum(hessian)
    lines = [along for value, along in zip(values, vectors.T, strict=True) if value < _FLAT]
    if fit.penalty_slopes is not None and not fit.priors:
        penalty, sizes = fit.penalty_slopes[1][np.ix_(own, own)], np.sqrt(np.diagonal(hessian))
        for k in np.flatnonzero(~weights & (np.diagonal(penalty) == 0.0)):
            d = _solution(hessian, np.eye(len(own))[k])
            if d @ (hessian - penalty) @ d < _OF_THE_DATA * (d @ hessian @ d):
                lines.append(d * sizes / np.linalg.norm(d * sizes))
    for along in map(np.abs, lines):
        if np.max(along[~weights], initial=0.0) > 0.3:
            return " and ".join(fit.inventory.names[own[k]] for k in np.argsort(-along) if along[k] > 0.3)
    return ""


def _rises(fit: Fit, name: str, curvature: float) -> bool:
    """Whether the objective does what its ``curvature`` says, 1 more on both sides of the estimate an error away: the unit of a real
    parameter is the size of its value, which may be nothing by chance, as of a difference between two groups, so that a small
    curvature alone says nothing."""
    k = fit.inventory.names.index(name)
    if not (fit.inventory.linear[k] and curvature > 0):
        return False
    u = np.asarray(fit.inventory.unconstrained(fit.model))
    rises = []
    for side in (-1.0, 1.0):
        moved = u.copy()
        moved[k] += side * np.sqrt(2.0 / curvature)
        at = evaluate_subjects(
            fit.method, fit.layout.anatomy, fit.inventory, fit.model, fit.layout.arrays, moved, fit.near_modes, gradient=False
        )
        rises.append(float(np.sum(at.value)) - fit.objective)
    return all(_AS_CURVED[0] < rise < _AS_CURVED[1] for rise in rises)


def _singular_blocks(fit: Fit) -> list[tuple[list[str], list[int]]]:
    """(effects, columns of the off-diagonal elements) of each free block of three and more effects whose covariance is singular."""
    found = []
    for entry, block, columns in free_blocks(fit.inventory, fit.model):
        value = entry.get(fit.model)
        if len(block) > 2 and is_singular(value, block, _SINGULAR):
            beside = [i != j for i in block for j in block if j <= i]
            found.append(([value.names[i] for i in block], columns[beside].tolist()))
    return found


def _bounds(fit: Fit, name: str) -> Check:
    found = list(fit.at_bounds.values())
    for effects, _ in _singular_blocks(fit):
        found.append(
            f"The covariance of {', '.join(effects[:-1])} and {effects[-1]} is singular: one combination of them shows no variability, and "
            "the covariances stand at the edge of what they can be, where they have no standard errors. Fewer correlations would do."
        )
    if not found:
        return Check(name, FINE, 0.0, "No parameter is at the end of its range.")
    return Check(name, REMARK, float(len(found)), " ".join(found))


def _inputs(fit: Fit, name: str) -> Check:
    found = far_inputs(fit.model, fit.layout.anatomy, fit.population)
    if not found:
        return Check(name, FINE, 0.0, "None that is known without the states is far from standardised.")
    listed = "; ".join(f"{at}: mean {mean:.3g}, sd {sd:.3g}" for at, (mean, sd) in found.items())
    sentence = f"Not standardised ({listed}): a network on such inputs saturates. Give center= and scale= where it is declared."
    return Check(name, REMARK, float(len(found)), sentence)


def _scales(fit: Fit, name: str) -> Check:
    found, free = said_of_scales(fit.model, fit.layout.anatomy, fit.inventory)
    if not found:
        return Check(name, FINE, 0.0, "No random effect reaches the data through networks alone.")
    return Check(name, PROBLEM if free and not fit.priors else REMARK, float(len(found)), " ".join(found))


def _starts(fit: Fit, name: str) -> Check:
    starts = fit.starts
    if starts is None:
        return Check(name, UNJUDGED, float("nan"), "The method searches from one start.")
    networks = "weight" in fit.inventory.kinds
    if starts.tried == 1:
        if starts.interrupted:
            return Check(name, REMARK, 1.0, "One start; Ctrl-C ended the search, and others were not made.")
        if networks:
            words = "One start, and a network has many minima: nlme.fit(..., starts=8) says whether there is a lower one."
            return Check(name, REMARK, 1.0, words)
        return Check(name, FINE, 1.0, "One start; the search ended well and near it.")
    said = f"{starts.reached} of {starts.tried} starts reached this minimum"
    if below := starts.below:
        own = ", among them that from the model's own values," if 0 in below else ""
        words = f"{said}; in {len(below)}{own} a parameter ran off without end, to an objective of {starts.objectives[below].min():.1f}: "
        words += "the objective has no lowest minimum."
        return Check(name, PROBLEM if _mostly_below(fit) else REMARK, float(len(below)), words)
    if networks and starts.valid.any() and starts.reached < max(2.0, 0.5 * starts.tried):
        return Check(name, REMARK, float(starts.reached), f"{said}: a network has many, and a lower one may be left.")
    if not starts.rivals:
        return Check(name, FINE, float(starts.reached), f"{said}, none a lower one.")
    other = starts.rivals[0]
    height = starts.objectives[other] - np.min(starts.objectives, where=starts.valid, initial=np.inf)
    values = ", ".join(f"{n} {v:.4g}" for n, v in zip(starts.names[:6], starts.ends[other], strict=False))
    return Check(name, REMARK, float(height), f"{said}; another minimum is only {height:.2f} higher ({values}).")


def _density(fit: Fit, name: str) -> Check:
    found = fit.density_problems()
    if fit.bimodal:
        listed = ", ".join(map(str, fit.bimodal[:5])) + (" ..." if len(fit.bimodal) > 5 else "")
        several = len(fit.bimodal) > 1
        found.append(
            f"Two modes were found of subject{'s' if several else ''} {listed}: the likelier one counts, and an approximation about one "
            "mode leaves the other out; compare with nlme.AGQ() or nlme.ImportanceSampling()."
        )
    if not found:
        return Check(name, FINE, 0.0, "Nothing speaks against the method's approximation at any subject's mode.")
    return Check(name, REMARK, float(len(found)), " ".join(found))


def _not_searched(fit: Fit, name: str) -> Check:
    words = (
        f"{type(fit.method).__name__} needs no modes of the random effects; nlme.audit(fit), or fit.eta, looks for them post hoc."
    )
    return Check(name, UNJUDGED, float("nan"), words)


def _shrinkage(fit: Fit, name: str) -> Check:
    shrinkage = fit.shrinkage.dropna()
    if shrinkage.empty:
        return Check(name, UNJUDGED, float("nan"), "No random effect varies.")
    worst = shrinkage.idxmax()
    high = shrinkage[shrinkage > 30.0]
    if high.empty:
        return Check(name, FINE, float(shrinkage[worst]), f"Largest {shrinkage[worst]:.0f} % ({worst}).")
    listed = ", ".join(f"{effect} {value:.0f} %" for effect, value in high.items())
    sentence = f"Shrinkage above 30 % ({listed}): plots of these random effects and of individual predictions can mislead."
    return Check(name, REMARK, float(shrinkage[worst]), sentence)


def _mean_eta(fit: Fit, name: str) -> Check:
    from scipy.stats import t as student

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
