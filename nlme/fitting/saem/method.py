"""The options of a fit by stochastic approximation EM."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from nlme.errors import ModelError
from nlme.language.anatomy import Anatomy
from nlme.marginal.quadrature import ImportanceSampling


@dataclasses.dataclass(frozen=True, repr=False)
class SAEM(ImportanceSampling):
    """Stochastic approximation EM (see :mod:`nlme.fitting.saem.search`).

    Parameters found by SAEM are judged by importance sampling: the objective of a fit, its Monte-Carlo error and the standard
    errors are those of ``ImportanceSampling(samples, degrees, seed)`` at the estimate.  The gradient there, by which the audit judges
    the search, is that of 200 more iterations of the chains with the parameters held (Fisher's identity).

    Attributes
    ----------
    chains : Markov chains of every subject; None: as many as make 1000 with the subjects there are, between 2 and 20
    exploration : (least, most) iterations with gamma = 1; it ends when no parameter drifts any more
    smoothing : (least, most) iterations with gamma_k = (k + 9)^-exponent; it ends at ``precision``
    annealing : iterations, at the start, in which no variance may shrink by more than 5 % at once
    exponent : of the step sizes, above 1/2 and at most 1
    precision : Monte-Carlo error of the estimates, in standard errors and in whatever direction of the parameters it is largest,
        below which the fit has converged: -2 log L is then expected to lie above its minimum by less than precision^2.  With more
        than 25 subjects the standard errors meant are those that 25 of them would give (precision^2 N / 25)
    seed : of every draw, those of the chains and those of the objective

    Raises
    ------
    ModelError
        An option out of its range; a model without random effects.
    """

    chains: int | None = None
    exploration: tuple[int, int] = (200, 600)
    smoothing: tuple[int, int] = (400, 5000)
    annealing: int = 100
    exponent: float = 0.6
    precision: float = 0.015
    samples: int = 1000

    title: ClassVar[str] = "Stochastic approximation EM, judged by importance sampling"

    def __post_init__(self):
        super().__post_init__()
        for name in ("exploration", "smoothing"):
            limits = getattr(self, name)
            if len(limits) != 2 or not 60 <= limits[0] <= limits[1]:
                raise ModelError(f"nlme.SAEM: {name} is (least, most) iterations, at least 60; got {limits!r}.")
            object.__setattr__(self, name, (int(limits[0]), int(limits[1])))
        if not 0.5 < self.exponent <= 1.0:
            raise ModelError(f"nlme.SAEM: exponent is above 1/2 and at most 1; got {self.exponent!r}.")
        if not self.precision > 0:
            raise ModelError(f"nlme.SAEM: precision is positive; got {self.precision!r}.")
        if self.chains is not None and (not isinstance(self.chains, int) or self.chains < 2):
            raise ModelError(f"nlme.SAEM: chains is a whole number of at least 2, or None; got {self.chains!r}.")
        if not isinstance(self.annealing, int) or self.annealing < 0:
            raise ModelError(f"nlme.SAEM: annealing is a number of iterations, 0 for none; got {self.annealing!r}.")

    def require(self, anatomy: Anatomy) -> None:
        if not anatomy.effects:
            raise ModelError("SAEM draws random effects, and this model has none. Use nlme.FOCEI() or nlme.Laplace().")

    def chains_for(self, subjects: int) -> int:
        """Chains of every subject."""
        return self.chains or min(max(-(-1000 // subjects), 2), 20)
