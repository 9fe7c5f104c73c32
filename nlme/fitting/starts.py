"""From where a fit was searched and where the searches ended; and starting values from the data."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from nlme.errors import FitError
from nlme.fitting.evaluated import method_of
from nlme.fitting.scales import held_scales
from nlme.language.layout import lay_out
from nlme.language.model import Model, require_model
from nlme.marginal.base import Method
from nlme.marginal.sites import require_sites
from nlme.parameters.inventory import Inventory, names_of
from nlme.search.problem import Problem
from nlme.search.quasi_newton import RAN_AWAY, SENTENCES
from nlme.search.several import SAME, Attempt
from nlme.search.starts import Typical

if TYPE_CHECKING:
    from nlme.fitting.result import Fit

_NEAR = 3.84  # two minima whose objectives differ by less are not told apart by a test of one parameter


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Starts:
    """The searches of a fit: from the model's own values first, then from others that the data suggest, if there was a reason.

    Attributes
    ----------
    names : of the free parameters
    starts, ends : (R, P) where each search began and ended, natural scale
    objectives : (R,) with the penalty, where each ended; those of searches that only compare are found to 1e-3
    valid : (R,) whether that is a minimum: it converged, no parameter ran away, no subject's mode was lost
    sentences : (R,) how each ended
    reason : why others than the first were tried; empty if none were
    same : objectives that differ by less count as one minimum
    interrupted : whether Ctrl-C ended the fit: in the search whose sentence says so, or before others were made
    """

    names: tuple[str, ...]
    starts: np.ndarray
    ends: np.ndarray
    objectives: np.ndarray
    valid: np.ndarray
    sentences: tuple[str, ...]
    reason: str = ""
    same: float = 10 * SAME
    interrupted: bool = False

    @classmethod
    def of(cls, problem: Problem, attempts: list[Attempt], reason: str, same: float = 10 * SAME) -> Starts:
        def natural(rows):
            rows = np.array(rows)
            found = np.full(rows.shape, np.nan)
            known = np.isfinite(rows).all(axis=1)
            if known.any():
                found[known] = problem.natural(rows[known])
            return found

        return cls(
            tuple(problem.inventory.names),
            natural([a.start for a in attempts]),
            natural([a.end for a in attempts]),
            np.array([a.objective for a in attempts]),
            np.array([a.valid for a in attempts]),
            tuple(a.sentence for a in attempts),
            reason,
            same,
            any(a.interrupted for a in attempts),
        )

    @property
    def tried(self) -> int:
        return len(self.objectives)

    @property
    def reached(self) -> int:
        """How many of the searches ended at the lowest minimum."""
        lowest = np.min(self.objectives, where=self.valid, initial=np.inf)
        return int(np.sum(self.valid & (self.objectives < lowest + self.same)))

    @property
    def below(self) -> list[int]:
        """Searches in which a parameter ran off without end, below the lowest minimum."""
        lowest = np.min(self.objectives, where=self.valid, initial=np.inf)
        away = [sentence == SENTENCES[RAN_AWAY] for sentence in self.sentences]
        return np.flatnonzero(away & (self.objectives < lowest - self.same)).tolist() if self.valid.any() else []

    @property
    def rivals(self) -> list[int]:
        """Searches that ended at another minimum nearly as low."""
        lowest = np.min(self.objectives, where=self.valid, initial=np.inf)
        found: list[int] = []
        for k in np.argsort(self.objectives):
            height = self.objectives[k] - lowest
            known = [lowest, *(self.objectives[j] for j in found)]
            if (
                self.valid[k]
                and self.same < height < _NEAR
                and all(abs(self.objectives[k] - other) > self.same for other in known)
            ):
                found.append(int(k))
        return found

    @property
    def table(self):
        """DataFrame, one row per search: objective, whether it is a minimum, how it ended, and where."""
        import pandas as pd

        frame = pd.DataFrame({"objective": self.objectives, "minimum": self.valid, "message": self.sentences})
        return frame.join(pd.DataFrame(self.ends, columns=list(self.names))).rename_axis("START")

    def __repr__(self) -> str:
        if self.tried == 1:
            why = "Ctrl-C ended the search" if self.interrupted else "the search gave no reason to try others"
            return f"1 start, the model's own values; {why}."
        lines = [
            f"{self.reached} of {self.tried} starts reached this minimum"
            + (f" (tried because {self.reason})" if self.reason else "")
        ]
        for k in range(self.tried):
            whence = "the model's own values" if k == 0 else f"start {k}"
            lines.append(
                f"  {whence}: {self.objectives[k]:.3f}" + ("" if self.valid[k] else f", no minimum: {self.sentences[k]}")
            )
        return "\n".join(lines)


def uninterrupted(fit: Fit) -> Fit:
    """A fit that is a part of other work: a Ctrl-C, which it answered with the best that it had found, ends that work as well.

    Raises
    ------
    KeyboardInterrupt
        It was interrupted.
    """
    if fit.starts is not None and fit.starts.interrupted:
        raise KeyboardInterrupt
    return fit


def starting_values(model: Model, population, method: Method | None = None, *, fixed=(), seed: int = 0) -> Model:
    """The model with starting values from the data, for want of better ones: those of a typical subject that predicts them.

    Fixed effects minimise the residuals of the typical subject from the best of many points scattered about the model's own values (by
    factors of about ten either way, so their orders of magnitude may be wrong, not more); errors are scaled to these residuals; every
    random effect gets a spread by which it changes some individual parameter by 30 %.  See ``nlme.search.starts``.

    Parameters
    ----------
    model, population, method, fixed : as in :func:`nlme.fit`
    seed : of the points

    Raises
    ------
    FitError
        At no point were the predictions numbers, or they depend on no parameter.
    """
    method = method_of(method)
    layout = lay_out(require_model(model), population)
    model = layout.model
    require_sites(method, layout.anatomy)
    fixed = names_of(fixed)
    problem = Problem(method, model, layout, Inventory(model, (*fixed, *held_scales(model, layout.anatomy, fixed))))
    found = Typical(problem, [problem.start], seed).starts(1)
    if not found:
        raise FitError(
            f"No starting values for {type(model).__name__}: of all points tried about its own values, none gives predictions "
            "that are numbers and change with a parameter. Give values of the right order of magnitude."
        )
    return problem.at(found[0])
