"""Sampling importance resampling: the likelihood itself as a distribution of the parameters.

Vectors u_k are drawn from N(u^, inflation C) in unconstrained parameters, C the covariance of the estimates, and weighted by

    log w_k = -1/2 (OFV(u_k) - OFV(u^)) + log |dp/du|(u_k) - log q(u_k)

so that the weighted sample is the likelihood as a density in the natural parameters p, whatever the proposal.  Vectors are then
drawn without replacement with chances proportional to the weights.  effective = (sum w)^2 / sum w^2.

Source: Dosne, Bergstrand, Harling & Karlsson (2016), J Pharmacokinet Pharmacodyn 43:583, doi:10.1007/s10928-016-9487-8.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import numpy as np

from nlme.errors import FitError
from nlme.fitting.result import Fit, require_fit
from nlme.keys import key_of
from nlme.parameters.domains import is_numeric, is_probability, require_whole
from nlme.search.batch import objectives, refuse_sites
from nlme.tables.shown import Panel, Shown, numbers_shown
from nlme.uncertainty.coordinates import covariance_of_search, jacobian

_FEW = 0.1  # share of effective vectors below which the proposal is said to be poor


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Resampled(Shown):
    """Parameter vectors resampled by their likelihood; ``nlme.table(fit, intervals=resampled)`` has their intervals.

    Attributes
    ----------
    fit : the fit about which they lie
    proposed : (M, P) proposals on the natural scale
    increase : (M,) objective less the fit's; NaN where it could not be computed
    weights : (M,) normalised weights
    chosen : (m,) positions of the resampled proposals
    """

    fit: Fit
    proposed: np.ndarray
    increase: np.ndarray
    weights: np.ndarray
    chosen: np.ndarray

    @property
    def effective(self) -> float:
        """Effective number of proposals."""
        return float(1.0 / np.sum(self.weights**2))

    @functools.cached_property
    def samples(self):
        """DataFrame (m rows): the resampled vectors, with the increase of the objective."""
        import pandas as pd

        frame = pd.DataFrame(self.proposed[self.chosen], columns=self.fit.inventory.names)
        frame["increase"] = self.increase[self.chosen]
        return frame

    @property
    def draws(self):
        """DataFrame: the resampled vectors, one row each."""
        return self.samples[list(self.fit.inventory.names)]

    @property
    def words(self) -> str:
        """What the intervals are."""
        counted = f"{len(self.chosen)} of {len(self.weights)} vectors, {self.effective:.0f} effective"
        return f"sampling importance resampling: percentiles of {counted}"

    @property
    def standard_errors(self):
        return self.draws.std().rename("SE").mask(self._known)

    @property
    def _known(self) -> np.ndarray:
        """(P,) which parameters stand at a bound: proposals leave them there."""
        return np.isin(self.fit.inventory.names, self.fit.covariance.held)

    def interval(self, level: float = 0.95):
        """DataFrame by parameter with columns lower and upper: percentiles of the resampled vectors."""
        import pandas as pd

        if not is_probability(level):
            raise FitError(f"level is a probability between 0 and 1, for example 0.95; got {level!r}.")
        tail = 0.5 * (1.0 - level)
        low, high = np.where(self._known, np.nan, np.quantile(self.proposed[self.chosen], [tail, 1.0 - tail], axis=0))
        return pd.DataFrame({"lower": low, "upper": high}, index=list(self.fit.inventory.names))

    @property
    def messages(self) -> list[str]:
        found, count = [], len(self.weights)
        if held := self.fit.covariance.held:
            found.append(f"{', '.join(held)} at a bound: without error or interval, taken as known by the others.")
        lost = int((~np.isfinite(self.increase)).sum())
        if lost:
            found.append(f"At {lost} of {count} proposals the objective could not be computed; they count as impossible.")
        if np.nanmin(self.increase) < -0.01:
            lower = -np.nanmin(self.increase)
            found.append(f"A proposal has an objective {lower:.3f} lower than the fit's: the fit is not at its minimum.")
        if self.effective < _FEW * count:
            found.append(
                f"Only {self.effective:.0f} of {count} proposals count effectively: the proposal does not resemble the likelihood. "
                f"Take more samples, or a larger inflation."
            )
        return found

    @property
    def summary(self):
        """DataFrame by parameter: estimate, SE, lower, upper (95 %)."""
        frame = self.interval()
        frame.insert(0, "estimate", np.asarray(self.fit.inventory.natural(self.fit.model)))
        frame.insert(1, "SE", self.standard_errors)
        return frame

    def _exact(self):
        return self.summary.rename_axis("parameter")

    def _panels(self) -> list[Panel]:
        title = f"{type(self.fit.model).__name__}, {self.fit.method!r}: sampling importance resampling"
        return [numbers_shown(self.summary, title, [f"95 % interval: {self.words}.", *self.messages])]

    def __repr__(self) -> str:
        lines = [
            f"Sampling importance resampling of {type(self.fit.model).__name__}, {self.fit.method!r}: {len(self.chosen)} of "
            f"{len(self.weights)} proposals, {self.effective:.0f} effective",
            *(f"  ! {message}" for message in self.messages),
            self.summary.to_string(float_format=lambda x: f"{x:.4g}"),
        ]
        return "\n".join(lines)


def sir(fit: Fit, samples: int = 2000, resamples: int = 500, *, key: Any, inflation: float = 1.0, penalty=None) -> Resampled:
    """Uncertainty of a fit from its likelihood surface, without refitting and without assuming a shape.

    Parameters
    ----------
    fit : a converged fit with a covariance matrix
    samples, resamples : number of proposals, and how many are kept (without replacement)
    key : seed, an int or a JAX key
    inflation : factor on the covariance of the proposals
    penalty : the function the fit was penalised with, if it was

    Raises
    ------
    FitError
        More resamples than samples, no covariance to propose from, a penalised fit without its penalty.
    ModelError
        Samples or resamples that are no whole numbers.
    """
    require_fit(fit, "sir")
    for name, count in (("samples", samples), ("resamples", resamples)):
        require_whole("nlme.sir", name, count, 2)
    if resamples > samples:
        raise FitError(f"sir keeps between 2 and samples={samples} proposals; got resamples={resamples}.")
    if not (is_numeric(inflation) and np.ndim(inflation) == 0 and 0 < inflation < np.inf):
        raise FitError(f"inflation is a positive factor on the covariance of the proposals; got {inflation!r}.")
    refuse_sites(fit.layout.anatomy)
    problem = fit.problem(penalty)
    key = key_of(key)
    draw, pick = jax.random.split(key)
    inventory = fit.inventory
    covariance, centre = covariance_of_search(fit), np.asarray(inventory.unconstrained(fit.model))
    free = np.flatnonzero(np.diagonal(covariance))  # what stands at a bound stays there
    own = np.ix_(free, free)
    z = np.asarray(jax.random.normal(draw, (samples, len(free))))
    u = np.repeat(centre[None], samples, axis=0)
    u[:, free] += np.sqrt(inflation) * z @ np.linalg.cholesky(covariance[own]).T

    def shown(v):
        model = inventory.at_unconstrained(fit.model, v)
        return inventory.natural(model), 0.0 if penalty is None else penalty(model)

    natural, extra = jax.jit(jax.vmap(shown))(u)
    increase = objectives(problem, u, fit.near_modes) + np.asarray(extra) - fit.objective - fit.penalty
    log_weight = -0.5 * increase + np.linalg.slogdet(jacobian(fit, u)[:, *own])[1] + 0.5 * np.sum(z**2, axis=1)
    log_weight = np.where(np.isfinite(log_weight), log_weight, -np.inf)
    if np.sum(np.isfinite(log_weight)) < resamples:
        raise FitError(f"The objective could be computed at {np.sum(np.isfinite(log_weight))} of {samples} proposals only.")
    # drawing without replacement by Gumbel noise: the m largest of log w + G (Kool, van Hoof & Welling 2019)
    noise = np.asarray(jax.random.gumbel(pick, (samples,)))
    chosen = np.argsort(-(log_weight + noise))[:resamples]
    weights = np.exp(log_weight - log_weight.max())
    return Resampled(fit, np.asarray(natural), increase, weights / weights.sum(), chosen)
