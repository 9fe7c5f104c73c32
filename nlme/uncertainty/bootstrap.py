"""The bootstrap: whole fits to resampled subjects or to simulated data, all in one compiled program.

By subject, replicate r draws N subjects with replacement (within each stratum as many as it has), and the fit counts subject i as
often as it was drawn: the objective is sum_i n_ri OFV_i.  Parametric, replicate r is the design with observations simulated from
the fit, new random effects included.  Every replicate starts at the estimate.

    standard error_k = sd_r(p_rk)        bias_k = mean_r(p_rk) - p_k        interval: percentiles over r

Sources: Efron & Tibshirani (1993), An Introduction to the Bootstrap, ch. 6, 9, 13; Thai et al. (2014), J Pharmacokinet
Pharmacodyn 41:15, doi:10.1007/s10928-013-9343-z (mixed-effects models).
"""

from __future__ import annotations

import dataclasses
import functools
import os
from typing import Any

import jax
import numpy as np

from nlme.data.population import values_by_subject
from nlme.errors import DataError, FitError
from nlme.fitting.result import Fit, require_fit
from nlme.keys import key_of
from nlme.parameters.domains import is_probability, require_whole
from nlme.search.batch import Fits, refuse_sites, run_fits
from nlme.tables.shown import Panel, Shown, numbers_shown
from nlme.uncertainty.redraw import redrawn_observations

_STRANGE = 20.0  # robust standard deviations from the median


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Bootstrap(Shown):
    """Replicates of a fit, and what they say of its uncertainty.

    Statistics are over the replicates that converged; ``failures`` counts the others by how they ended, and ``replicates`` shows
    all of them.  ``nlme.table(fit, intervals=bootstrap)`` has its intervals in the parameter table; ``to_csv``, ``to_markdown``,
    ``to_html``, ``to_latex`` and ``to_rtf`` write the summary.

    Attributes
    ----------
    fit : the fit whose uncertainty this is
    scheme : how the replicates were made, in words
    weights : (R, N) how often each subject was drawn; None if parametric
    fits : the replicates' fits (see ``nlme.search.batch.Fits``)
    """

    fit: Fit
    scheme: str
    weights: np.ndarray | None
    fits: Fits

    @functools.cached_property
    def replicates(self):
        """DataFrame, one row per replicate: every estimated parameter, objective, converged, message ("" if converged)."""
        import pandas as pd

        frame = pd.DataFrame(self.fits.natural, columns=self.fit.inventory.names)
        frame["objective"] = self.fits.objective
        frame["converged"] = self.fits.converged
        frame["message"] = ["" if good else self.fits.sentence(r) for r, good in enumerate(self.fits.converged)]
        return frame.rename_axis("REPLICATE")

    @property
    def failures(self) -> dict[str, int]:
        """Number of replicates that did not converge, by how they ended."""
        return self.fits.failures

    @property
    def n_failed(self) -> int:
        return int((~self.fits.converged).sum())

    @property
    def _used(self) -> np.ndarray:
        used = self.fits.natural[self.fits.converged]
        if len(used) < 2:
            counted = f"{len(used)} of {len(self.fits.status)} replicates converged"
            raise FitError(f"{counted}, and statistics need two: {'; '.join(self.messages)}")
        return used

    @property
    def draws(self):
        """DataFrame: the replicates that count, one row each."""
        return self.replicates.loc[self.fits.converged, list(self.fit.inventory.names)]

    @property
    def words(self) -> str:
        """What the intervals are."""
        total = len(self.fits.status)
        return f"bootstrap, {self.scheme}: percentiles of {total - self.n_failed} of {total} replicates"

    @property
    def standard_errors(self):
        """Series: standard deviation over the replicates."""
        return self._series(np.std(self._used, axis=0, ddof=1), "SE")

    @property
    def bias(self):
        """Series: mean of the replicates less the estimate."""
        return self._series(np.mean(self._used, axis=0) - self._estimate, "bias")

    @property
    def covariance(self):
        """DataFrame (P, P): covariance over the replicates."""
        return self.replicates.loc[self.fits.converged, self.fit.inventory.names].cov()

    def interval(self, level: float = 0.95):
        """DataFrame by parameter with columns lower and upper: percentile interval.

        Raises
        ------
        FitError
            A level that is not between 0 and 1.
        """
        import pandas as pd

        if not is_probability(level):
            raise FitError(f"level is a probability between 0 and 1, for example 0.95; got {level!r}.")
        tail = 0.5 * (1.0 - level)
        low, high = np.quantile(self._used, [tail, 1.0 - tail], axis=0)
        return pd.DataFrame({"lower": low, "upper": high}, index=self.fit.inventory.names)

    @property
    def summary(self):
        """DataFrame by parameter: estimate, mean, median, bias, SE, lower, upper (95 %)."""
        frame = self.interval()
        frame.insert(0, "estimate", self._estimate)
        frame.insert(1, "mean", np.mean(self._used, axis=0))
        frame.insert(2, "median", np.median(self._used, axis=0))
        frame.insert(3, "bias", self.bias)
        frame.insert(4, "SE", self.standard_errors)
        return frame

    @functools.cached_property
    def messages(self) -> list[str]:
        """Problems in words: replicates that failed, replicates far from the others."""
        total = len(self.fits.status)
        left = "replicates left out of the statistics"
        found = [f"{count} of {total} {left}: {sentence}" for sentence, count in self.failures.items()]
        used = self.fits.natural[self.fits.converged]
        if self.weights is not None and (alone := np.flatnonzero(np.all(self.weights == self.weights[:1], axis=0))).size:
            ids = [self.fit.population.ids[k] for k in alone]
            listed = ", ".join(map(str, ids[:5])) + (f" and {len(ids) - 5} more" if len(ids) > 5 else "")
            found.append(
                f"{'Subjects' if len(ids) > 1 else 'Subject'} {listed} had no others to be exchanged with and stood in every replicate: "
                "what such people differ by is not in these errors."
            )
        if held := list(self.fit.at_bounds):
            found.append(
                f"{', '.join(held)} at a bound in the fit, from which replicates hardly move: no interval of what the data allow "
                "(nlme.profile has one)."
            )
        if len(used) < 2:
            return found
        middle = np.median(used, axis=0)
        low, high = np.quantile(used, [0.16, 0.84], axis=0)
        spread = np.maximum(0.5 * (high - low), 1e-300)
        far = np.abs(used - middle) > _STRANGE * spread
        if far.any():
            names = [name for name, strange in zip(self.fit.inventory.names, far.any(axis=0), strict=True) if strange]
            found.append(
                f"{int(far.any(axis=1).sum())} of {total} replicates converged far from all others in {', '.join(names)} (more "
                f"than {_STRANGE:.0f} times their spread): believe the intervals rather than the mean, bias and SE of these."
            )
        return found

    @property
    def _estimate(self) -> np.ndarray:
        return np.asarray(self.fit.inventory.natural(self.fit.model))

    def _series(self, values, name: str):
        import pandas as pd

        return pd.Series(values, index=self.fit.inventory.names, name=name)

    def _exact(self):
        return self.summary.rename_axis("parameter")

    def _panels(self) -> list[Panel]:
        title = f"{type(self.fit.model).__name__}, {self.fit.method!r}: bootstrap"
        words = f"SE: standard deviation of the replicates; bias: their mean less the estimate; 95 % interval: {self.words}."
        return [numbers_shown(self.summary, title, [words, *self.messages])]

    def __repr__(self) -> str:
        total = len(self.fits.status)
        title = f"{type(self.fit.model).__name__}, {self.fit.method!r}"
        lines = [f"Bootstrap of {title}: {total} replicates, {self.scheme}", *(f"  ! {message}" for message in self.messages)]
        if total - self.n_failed > 1:
            lines.append(self.summary.to_string(float_format=lambda x: f"{x:.4g}"))
        return "\n".join(lines)


def bootstrap(
    fit: Fit,
    replicates: int = 200,
    *,
    key: Any,
    stratify: str | None = None,
    parametric: bool = False,
    penalty=None,
    tolerance: float = 1e-7,
    max_evaluations: int = 1000,
    progress: bool | None = None,
    checkpoint: str | os.PathLike | None = None,
    checkpoint_every: float = 30.0,
    executor: Any = None,
) -> Bootstrap:
    """Uncertainty of a fit by refitting it to resampled or simulated data.

    Parameters
    ----------
    fit : the fit; each replicate is fitted by its method with its fixed parameters, from its estimates
    replicates : how many
    key : seed, an int or a JAX key; the same key gives the same replicates
    stratify : a covariate, constant in time: subjects are drawn within each of its values, as many as there are
    parametric : simulate data from the fit instead of resampling subjects
    penalty : the function the fit was penalised with, if it was
    tolerance, max_evaluations, progress : as in :func:`nlme.fit`, for every replicate
    checkpoint : file in which finished replicates and those under way are kept; where the file exists the bootstrap goes on from
        it, to the same result
    checkpoint_every : seconds between two writings of it
    executor : who does the fits: a ``concurrent.futures`` executor or a ``dask.distributed.Client``; by default the threads of this
        process.  The result is the same to the last bit (see docs/distributed.md)

    Raises
    ------
    DataError
        An unknown or unusable stratum; one subject to resample; for ``parametric``, censored data, exact times of events, or records
        that cannot be simulated.
    FitError
        A penalised fit without its penalty, or a checkpoint of something else.
    ModelError
        A number of replicates that is no whole number from 2 on.
    """
    require_fit(fit, "bootstrap")
    require_whole("nlme.bootstrap", "replicates", replicates, 2)
    refuse_sites(fit.layout.anatomy)
    problem = fit.problem(penalty)
    key = key_of(key)
    weights = observed = None
    if parametric:
        if stratify is not None:
            raise DataError("stratify= is for resampled subjects; a parametric bootstrap keeps every subject's design as it is.")
        observed, scheme = redrawn_observations(fit, replicates, key), "data simulated from the fit"
    else:
        if len(fit.population) < 2:
            raise DataError(
                f"A bootstrap resamples subjects, and there is one ({fit.population.ids[0]}): every replicate would be the same data. "
                "fit.covariance and nlme.profile need one subject only; parametric=True simulates data from the fit."
            )
        groups = [np.arange(len(fit.population))] if stratify is None else strata(fit.population, stratify)
        weights = _counts(groups, replicates, key)
        scheme = "subjects resampled" + ("" if stratify is None else f" within the {len(groups)} values of {stratify}")
    u = np.repeat(np.asarray(fit.inventory.unconstrained(fit.model))[None], replicates, axis=0)
    fits = run_fits(
        problem,
        u,
        starts=fit.near_modes,
        weights=weights,
        observed=observed,
        tolerance=tolerance,
        max_evaluations=max_evaluations,
        progress=progress,
        title=f"bootstrap of {type(fit.model).__name__}",
        checkpoint=checkpoint,
        checkpoint_every=checkpoint_every,
        executor=executor,
    )
    return Bootstrap(fit, scheme, weights, fits)


def strata(population, name: str) -> list[np.ndarray]:
    """Positions of the subjects with each value of a covariate.

    Raises
    ------
    DataError
        An unknown covariate, one that changes in time or is missing, or one with hardly fewer values than subjects.
    """
    values = values_by_subject(population, name, "stratify", "stratum")
    kinds = np.unique(values)
    if len(kinds) > max(1, len(values) // 2):
        raise DataError(
            f"stratify={name!r}: {len(kinds)} different values in {len(values)} subjects leave almost nothing to resample. "
            f"Stratify by a covariate with few values, or make classes of this one."
        )
    return [np.flatnonzero(values == kind) for kind in kinds]


def _counts(groups: list[np.ndarray], replicates: int, key) -> np.ndarray:
    """(R, N): how often each subject is drawn, as many draws in each group as it has subjects."""
    counts = np.zeros((replicates, sum(map(len, groups))))
    rows = np.arange(replicates)[:, None]
    for group, own in zip(groups, jax.random.split(key, len(groups)), strict=True):
        drawn = np.asarray(jax.random.randint(own, (replicates, len(group)), 0, len(group)))
        np.add.at(counts, (rows, group[drawn]), 1.0)
    return counts
