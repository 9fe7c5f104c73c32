"""What covariates do to individual parameters: a forest of changes, and accumulated local effects; of any covariate model.

Forest: for a reference subject (every covariate at its median, one with categories or two values at the most common, features at
their means, random effects zero) each covariate is set to its 5th and 95th percentile (one with categories or two values to each other):

    ratio = p(reference with x) / p(reference)

Accumulated local effects (Apley & Zhu 2020, doi:10.1111/rssb.12377): with the values of x cut at quantiles z_0 .. z_K, and N(k) the subjects
between z_k-1 and z_k,

    ale(z_k) = sum_{j <= k} mean_{i in N(j)} [p(z_j, others of i) - p(z_j-1, others of i)],  centred to mean zero over the subjects

Only neighbouring values are compared, at what the subject's other covariates are: where covariates are correlated, no person is asked about
that nobody resembles, as a curve at the others' medians would.
"""

from __future__ import annotations

import dataclasses
from statistics import NormalDist

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from nlme.errors import FitError, ModelError, name_error
from nlme.fitting.reported import covariance_as_reported
from nlme.fitting.result import Evaluated, Fit
from nlme.language.anatomy import MEMBER, OCCASION, Anatomy, individual_row
from nlme.language.model import Model
from nlme.learning.spread import Spread, covariance_of, moves, standard_errors
from nlme.neural.term import learned_terms
from nlme.parameters.domains import is_probability, require_whole

_BINS = 20
LOW, HIGH = 0.05, 0.95


@dataclasses.dataclass(frozen=True)
class Subjects:
    """Every subject's covariates at its first record, and its features: name -> (N, ...); words of categories, units of numbers."""

    told: dict[str, np.ndarray]
    categories: dict[str, tuple[str, ...]]
    units: dict[str, str]

    @property
    def reference(self) -> dict[str, np.ndarray]:
        """Medians, the most common of categories and of two values (between which nobody is), means of features."""
        found = {}
        for name, values in self.told.items():
            if values.ndim > 1:
                found[name] = values.mean(axis=0)
            elif name in self.categories or len(np.unique(values)) == 2:
                codes, counts = np.unique(values, return_counts=True)
                found[name] = codes[np.argmax(counts)]
            else:
                found[name] = np.median(values)
        return found

    def levels(self, name: str) -> list[tuple[str, float]]:
        """What a covariate is set to, in words and as a number: its 5th and 95th percentile, or every other code or value than the
        reference's."""
        values = self.told[name]
        if name in self.categories:
            words = self.categories[name]
            return [(words[int(code)], float(code)) for code in np.unique(values) if code != self.reference[name]]
        unit = f" {self.units[name]}" if name in self.units else ""
        if len(np.unique(values)) == 2:
            return [(f"{value:.4g}{unit}", float(value)) for value in np.unique(values) if value != self.reference[name]]
        places = zip(np.quantile(values, (LOW, HIGH)), (LOW, HIGH), strict=True)
        return [(f"{value:.4g}{unit} ({100 * share:g}th percentile)", float(value)) for value, share in places]


def subjects_of(fit: Evaluated) -> Subjects:
    """The covariates of a fit's subjects.

    Raises
    ------
    ModelError
        The model has no covariates.
    FitError
        Not a fit.
    """
    if not isinstance(fit, Evaluated):
        raise FitError(
            f"effects of covariates are those of a fit or of nlme.evaluate(model, population); got {type(fit).__name__}."
        )
    anatomy, population = fit.layout.anatomy, fit.population
    if not anatomy.covariates:
        raise ModelError(f"{type(fit.model).__name__} has no covariates (features have no percentiles).")
    each = [anatomy.told_at(subject) for subject in population]
    infos = {name: population.covariates[name] for name in anatomy.covariates}
    return Subjects(
        {name: np.stack([one[name] for one in each]) for name in each[0]},
        {name: info.categories for name, info in infos.items() if info.categories},
        {name: info.unit for name, info in infos.items() if info.unit},
    )


def covariate_effects(fit: Evaluated, parameters: str | list[str] | None = None, *, confidence: float = 0.95):
    """What a 5th to 95th percentile change of each covariate does to each individual parameter of a reference subject.

    Intervals are those of the covariance C that ``fit.covariance`` reports (of a model with learned terms that of their bands, by the
    Hessian of the objective with its penalty), in unconstrained parameters u (delta method), on the log scale where the ratio is positive:

        log ratio +- z sqrt(g C g'),     g = d log ratio / du

    Parameters
    ----------
    fit : of any model with covariates
    parameters : individual parameters; all that a covariate changes by default
    confidence : of the intervals

    Returns
    -------
    DataFrame
        parameter, covariate, level (in words), value, reference (of the parameter), ratio, lower, upper: NaN without a covariance (a model that
        was only evaluated, data that do not determine it) and where weights of learned terms were held; ``attrs["confidence"]``

    Raises
    ------
    ModelError
        No covariates, an unknown parameter.
    FitError
        A confidence that is no probability.
    """
    import pandas as pd

    if not is_probability(confidence):
        raise FitError(f"covariate_effects: confidence is a probability between 0 and 1, for example 0.95; got {confidence!r}.")
    subjects, chosen = subjects_of(fit), _parameters(fit, parameters)
    middle, rows = subjects.reference, []
    at = [(name, word, value) for name in fit.layout.anatomy.covariates for word, value in subjects.levels(name)]
    cov = {name: np.stack([middle[name]] * (1 + len(at))) for name in middle}
    for k, (name, _, value) in enumerate(at):
        cov[name][k + 1] = value
    found, factors = typical_parameters(fit, cov), _factors(fit, cov, NormalDist().inv_cdf(0.5 + 0.5 * confidence))
    for parameter in chosen:
        values, factor = found[parameter], factors[parameter]
        for (name, word, _), value, by in zip(at, values[1:], factor[1:], strict=True):
            ratio = value / values[0] if values[0] else np.nan
            rows.append((parameter, name, word, value, values[0], ratio, ratio / by, ratio * by))
    columns = ["parameter", "covariate", "level", "value", "reference", "ratio", "lower", "upper"]
    table = pd.DataFrame(rows, columns=columns)
    table.attrs["confidence"] = confidence
    moved = table.groupby("parameter", sort=False).ratio.transform(lambda x: np.max(np.abs(x - 1.0))) > 1e-9
    return table if parameters is not None else table[moved].reset_index(drop=True)


def accumulated_effects(fit: Evaluated, parameters: str | list[str] | None = None, bins: int = _BINS):
    """Accumulated local effects of each covariate with numbers on each individual parameter, at random effects zero.

    Returns
    -------
    DataFrame
        parameter, covariate, x, effect (difference from the mean over the subjects)

    Raises
    ------
    ModelError
        No covariates, or none with numbers that differ between subjects; an unknown parameter.
    """
    import pandas as pd

    require_whole("accumulated_effects", "bins", bins, 1)
    subjects, chosen, parts = subjects_of(fit), _parameters(fit, parameters), []
    for name in fit.layout.anatomy.covariates:
        x = subjects.told[name]
        # cuts are values that somebody has, so that somebody stands in every interval
        cuts = np.unique(np.quantile(x, np.linspace(0.0, 1.0, bins + 1), method="inverted_cdf"))
        if name in subjects.categories or len(cuts) < 2:
            continue
        bin_of = np.clip(np.searchsorted(cuts, x, side="left"), 1, len(cuts) - 1)
        low, high = (typical_parameters(fit, subjects.told | {name: cuts[bin_of - side]}) for side in (1, 0))
        for parameter in chosen:
            steps = high[parameter] - low[parameter]
            means = [np.mean(steps[bin_of == k]) for k in range(1, len(cuts))]
            whole = np.r_[0.0, np.cumsum(means)]
            effect = whole - np.mean(np.interp(x, cuts, whole))
            parts.append(pd.DataFrame({"parameter": parameter, "covariate": name, "x": cuts, "effect": effect}))
    if not parts:
        words = ", ".join(fit.layout.anatomy.covariates)
        raise ModelError(
            f"accumulated_effects: none of the covariates ({words}) has numbers that differ between subjects; nlme.plots.forest shows "
            "categories as well."
        )
    table = pd.concat(parts, ignore_index=True)
    if parameters is not None:
        return table
    moved = table.groupby("parameter", sort=False).effect.transform(lambda x: np.max(np.abs(x))) > 1e-12
    return table[moved].reset_index(drop=True)


def _factors(fit: Evaluated, cov: dict[str, np.ndarray], z: float) -> dict[str, np.ndarray]:
    """Parameter -> (M,) exp(z SE of the log ratio to the first row); NaN where there is none."""
    names = fit.layout.anatomy.individual
    nothing = dict.fromkeys(names, np.full(len(next(iter(cov.values()))), np.nan))
    learned = learned_terms(fit.model)
    if not isinstance(fit, Fit) or not all(moves(fit, name) for name in learned):
        return nothing
    try:
        spread = covariance_of(fit) if learned else Spread(covariance_as_reported(fit), np.zeros((len(fit.inventory), 0)), "")
    except FitError:
        return nothing
    anatomy, inventory, told = fit.layout.anatomy, fit.inventory, _told(fit, cov)

    def ratios(u):
        found = _typical(inventory.at_unconstrained(fit.model, u), anatomy, told)
        return {name: values / values[0] for name, values in found.items()}

    u = jnp.asarray(inventory.unconstrained(fit.model))
    at, slopes = ratios(u), jax.jacfwd(ratios)(u)
    found = {}
    for name in names:
        slope, value = np.asarray(slopes[name]), np.asarray(at[name])
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            found[name] = np.where(value > 0, np.exp(z * standard_errors(slope[:, None], spread)[:, 0] / value), np.nan)
    return found


def typical_parameters(fit: Evaluated, cov: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Individual parameters (M,) at these covariates (M, ...), with random effects zero, on the first occasion."""
    found = _typical(fit.model, fit.layout.anatomy, _told(fit, cov))
    return {name: np.asarray(values) for name, values in found.items()}


def _told(fit: Evaluated, cov: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The covariates, with the occasion and the commonest subpopulation where there are any."""
    anatomy, count = fit.layout.anatomy, len(next(iter(cov.values())))
    extra = {OCCASION: np.zeros(count)} if anatomy.by_occasion else {}
    if anatomy.mixture:
        extra[MEMBER] = np.full(count, float(np.argmax(np.bincount(fit.members))))
    return cov | extra


@eqx.filter_jit
def _typical(model: Model, anatomy: Anatomy, cov):
    zero = jnp.zeros(len(anatomy.effects))
    return jax.vmap(lambda values: individual_row(*anatomy.at(model, zero, values)))(cov)


def _parameters(fit: Evaluated, wanted) -> list[str]:
    known = fit.layout.anatomy.individual
    chosen = list(known) if wanted is None else [wanted] if isinstance(wanted, str) else list(wanted)
    for name in chosen:
        if name not in known:
            raise ModelError(name_error("individual parameter", name, known, type(fit.model).__name__))
    return chosen
