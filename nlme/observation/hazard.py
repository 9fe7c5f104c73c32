"""Times of events, from a hazard and its integral.

With H the cumulative hazard and D = H(t_j) - H(t_i) what it gained since the record before (since H = 0 for the first), log p is

| DV | meaning                                                   |                    |
|----|-----------------------------------------------------------|--------------------|
| 0  | no event since the record before (the last: right-censored)| -D                |
| 1  | an event at this time, none before since the record before| log h - D          |
| 2  | an event, at an unknown time since the record before      | log(1 - exp(-D))   |

With repeated events, 2 means at least one.  No constant is dropped.

The risk goes on over a reset of the system (EVID 3 or 4, SS = 1).  H may not: a state is emptied, and a formula of a time that is set
back falls with it.  What H gained up to the reset counts, and what it gains from there on; how far it fell does not.
"""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp

from nlme.observation.base import Law, Observation, Record, Terms, not_normal
from nlme.observation.tails import log_from_zero
from nlme.typing import Scalar


class TimeToEvent(Observation):
    """Hazard and cumulative hazard at one record; the link between records takes the differences."""

    hazard: Scalar
    cumulative: Scalar
    repeated: bool = eqx.field(static=True)

    def law(self) -> Law:
        words = f"time to {'repeated events' if self.repeated else 'an event'}"
        return Law(words, link=_LINKS[self.repeated], whole=(0, 2))

    def parts(self):
        return {"hazard": self.hazard, "cumulative hazard": self.cumulative}

    def terms(self, record: Record) -> Terms:
        exact = record.y == 1
        return not_normal(log_from_zero(jnp.where(exact, self.hazard, 1.0)))

    def carried(self):
        return self.cumulative

    def prediction(self):
        return self.cumulative if self.repeated else jnp.exp(-self.cumulative)

    def sample(self, normal, key):
        return normal  # what the link drew: events are drawn from one record to the next


_LINKS = {False: "event", True: "events"}


def time_to_event(hazard, cumulative, *, repeated: bool = False) -> TimeToEvent:
    """The time of an event, or of several, exact, right-censored or known to an interval, by DV = 0, 1, 2 as in the table above.

    Parameters
    ----------
    hazard : h(t) at the record's time, per unit of time; an event where it is 0 is impossible
    cumulative : H(t), its integral since the risk began, where H = 0: a formula of ``t``, or a state of the ODE whose
        derivative is the hazard (which may depend on concentrations or biomarkers: a joint model)
    repeated : whether events may recur; if not, a subject has no record after its event

    The prediction is exp(-H), the probability of no event yet; with repeated events H, their expected number (H as it would be had no
    reset emptied it).  It is no mean of DV, so that there is no residual (RES and IRES are NaN).  A state of an ODE begins at the subject's
    first record of any kind: give every subject one at the time its risk begins (EVID 2 at TIME 0); an event at the first record
    itself is refused.
    """
    return TimeToEvent(jnp.asarray(hazard, dtype=float), jnp.asarray(cumulative, dtype=float), bool(repeated))
