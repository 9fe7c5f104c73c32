"""Maximum a posteriori estimates: any method's objective with the prior added to it.

    minimise  -2 log L(theta) - 2 log p(theta)

p is the density on the natural scale of what each prior names (``nlme.parameters.priors``), without Jacobian, as NONMEM's $PRIOR;
parameters without a prior have a flat one.  The reported objective is -2 log L alone; ``fit.penalty`` is -2 log p, with its
constants but that of a prior which a domain cuts off.  Standard errors are those of R, the prior's curvature in it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from nlme.errors import ModelError
from nlme.marginal.base import Method
from nlme.marginal.foce import FOCEI
from nlme.parameters.priors import Priors, describe


@dataclasses.dataclass(frozen=True, eq=False)
class MAP:
    """A method with priors: ``nlme.fit(model, population, nlme.MAP({"cl": dist.LogNormal(jnp.log(3.0), 0.3)}, nlme.FOCEI()))``.

    The same as ``nlme.fit(model, population, method, priors=priors)``.
    """

    priors: Mapping[str, Any]
    method: Method = FOCEI()

    def __repr__(self) -> str:
        return f"MAP({{{', '.join(f'{name!r}: {describe(prior)}' for name, prior in self.priors.items())}}}, {self.method!r})"

    def __post_init__(self):
        if not isinstance(self.priors, Mapping):
            raise ModelError(f"nlme.MAP: priors is a dict from parameter to NumPyro distribution; got {self.priors!r}.")


class MinusTwiceLogPrior:
    """-2 log p(theta) of a model."""

    def __init__(self, model, priors: Mapping[str, Any], fixed: Iterable[str]):
        self._sites = Priors(model, priors, fixed, complete=False).sites
        self.words = {name: describe(prior) for name, prior in priors.items()}
        self(model)  # says which of them have no mode to search

    def __call__(self, model):
        return -2.0 * sum(site.log_density(model) for site in self._sites)
