"""Several starts: does the search end at the same place from elsewhere?

Starting points are u_0 + spread z, z ~ N(0, I), about the fit's own start u_0 in unconstrained, scaled parameters (log-like, so
that a spread of 0.5 moves a positive parameter by a factor of 1.6 in the middle two thirds of the starts).
"""

from __future__ import annotations

import dataclasses
import functools
import os
from typing import Any

import jax
import numpy as np

from nlme.errors import FitError
from nlme.fitting.result import Fit, require_fit
from nlme.keys import key_of
from nlme.search.batch import Fits, refuse_sites, run_fits

SAME = 0.01  # objectives that differ by less count as one optimum


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Multistart:
    """Where the searches ended.

    Attributes
    ----------
    fit : the fit that was started again
    starts : (R, P) starting values on the natural scale
    fits : the fits from there (see ``nlme.search.batch.Fits``)
    """

    fit: Fit
    starts: np.ndarray
    fits: Fits

    @functools.cached_property
    def table(self):
        """DataFrame, one row per start, lowest objective first: objective, converged, message, estimates."""
        import pandas as pd

        frame = pd.DataFrame({"objective": self.fits.objective, "converged": self.fits.converged})
        frame["message"] = ["" if good else self.fits.sentence(r) for r, good in enumerate(self.fits.converged)]
        frame = frame.join(pd.DataFrame(self.fits.natural, columns=self.fit.inventory.names)).rename_axis("START")
        return frame.sort_values(["converged", "objective"], ascending=[False, True], kind="stable")

    @property
    def lowest(self) -> float:
        """Lowest objective among the searches that converged, penalty included; NaN if none did."""
        good = self.fits.objective[self.fits.converged]
        return float(good.min()) if len(good) else float("nan")

    @property
    def gain(self) -> float:
        """How much lower than the fit's objective the lowest one is (negative: the fit stands lowest)."""
        return self.fit.objective + self.fit.penalty - self.lowest

    @property
    def verdict(self) -> str:
        good = self.fits.converged
        if not good.any():
            return f"None of {len(good)} other starts converged."
        if self.gain > SAME:
            names, best = self.fit.inventory.names, self.table.iloc[0]
            values = ", ".join(f"{name} {best[name]:.4g}" for name in names[:8])
            return f"Another start ends {self.gain:.3f} lower, at objective {self.lowest:.3f} ({values}). Fit again from there."
        same = int((self.fits.objective[good] < self.fit.objective + self.fit.penalty + SAME).sum())
        rest = [(int(good.sum()) - same, "ended higher"), (int((~good).sum()), "did not converge")]
        listed = "".join(f"; {count} {what}" for count, what in rest if count)
        return f"{same} of {len(good)} other starts end at the fit's objective, none lower{listed}."

    def __repr__(self) -> str:
        title = f"{type(self.fit.model).__name__}, {self.fit.method!r}"
        lines = [f"{len(self.starts)} starts of {title}: {self.verdict}"]
        lines += [f"  {count} times: {sentence}" for sentence, count in self.fits.failures.items()]
        return "\n".join(lines)


def multistart(
    fit: Fit,
    n: int = 20,
    *,
    key: Any,
    spread: float = 0.5,
    penalty=None,
    tolerance: float = 1e-7,
    max_evaluations: int = 300,
    progress: bool | None = None,
    checkpoint: str | os.PathLike | None = None,
    executor: Any = None,
) -> Multistart:
    """Fit again from ``n`` random starting points about the fit's own start, all in one compiled program.

    Parameters
    ----------
    fit : the fit whose optimum is in question
    n : number of starts
    key : seed, an int or a JAX key
    spread : standard deviation of the starting points in unconstrained parameters
    penalty, tolerance, max_evaluations, progress : as in :func:`nlme.fit`
    checkpoint, executor : as of :func:`nlme.bootstrap`

    Raises
    ------
    FitError
        Fewer than one start, a spread that is not positive, or a penalised fit without its penalty.
    """
    require_fit(fit, "multistart")
    if n < 1 or not spread > 0:
        raise FitError(f"multistart needs n of at least 1 and a positive spread; got n={n}, spread={spread}.")
    refuse_sites(fit.layout.anatomy)
    problem = fit.problem(penalty)
    key = key_of(key)
    inventory = fit.inventory
    u = np.asarray(inventory.unconstrained(fit.start))
    u = u + spread * np.asarray(jax.random.normal(key, (n, len(u))))
    starts = np.asarray(jax.jit(jax.vmap(lambda v: inventory.natural(inventory.at_unconstrained(fit.start, v))))(u))
    fits = run_fits(
        problem,
        u,
        starts=np.zeros_like(fit.near_modes),
        tolerance=tolerance,
        max_evaluations=max_evaluations,
        progress=progress,
        title=f"{n} starts of {type(fit.model).__name__}",
        checkpoint=checkpoint,
        executor=executor,
    )
    return Multistart(fit, starts, fits)
