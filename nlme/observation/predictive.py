"""The distribution of an observation of states that are themselves known up to a normal distribution only.

A residual error model h(y) ~ N(m(x), g(x)) of states x ~ N(x^, P) becomes, with m linearised at x^ and H = dm/dx there,

    h(y) ~ N( m(x^), H P H' + g(x^) )

and the states given y have, with l(m) the log density of the observation as a function of that mean,

    x^ + P H' dl/dm,        P + P H' d2l/dm2 H P,

the Kalman update where the observation is normal, since dl/dm is then (h(y) - m) / (H P H' + g), and the exact first two moments of
linear m whatever is known of it, such as that it lies below a limit.
"""

from __future__ import annotations

import equinox as eqx

from nlme.observation.base import Observation
from nlme.observation.censoring import Censored
from nlme.observation.residual import Residual

_METHODS = ("M1", "M3")  # those of censoring that condition on nothing but the record itself


def residual_of(observation: Observation) -> Residual | None:
    """The residual error model behind an observation; None for one that is not of this form."""
    if isinstance(observation, Censored) and observation.method in _METHODS:
        observation = observation.base
    return observation if isinstance(observation, Residual) else None


def widened(observation: Observation, variance, shift=0.0) -> Observation:
    """The same where the mean is moved by ``shift``, and the states add a ``variance`` of their own."""
    base = residual_of(observation)
    return eqx.tree_at(
        lambda o: (residual_of(o).mean, residual_of(o).variance), observation, (base.mean + shift, base.variance + variance)
    )
