"""The timeline of one subject as arrays: what happens when, and where the model is sampled.

Everything an individual's parameters may change (lag, bioavailability, modelled durations) is kept symbolic here and
evaluated by ``nlme.dynamics.propagate``; what depends on the data alone (additional doses, order of records, resets) is
laid out once, in numpy, by ``nlme.language.layout``.
"""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
from jaxtyping import Array, Float, Int

from nlme.observation.sequence import Course

NOTHING, BOLUS, START, STOP, FILL, OFF, ON, BREAK, ECHO = range(9)
GIVEN_RATE, GIVEN_DURATION, MODELLED_RATE, MODELLED_DURATION = range(4)

ROUNDING = 1e-9  # of a dosing interval: an infusion this much shorter than so many intervals takes these


class Fills(eqx.Module):
    """Steady states to be filled in: slot f is an endless train of identical doses, ``interval`` apart."""

    amount: Float[Array, " F"]
    given: Float[Array, " F"]  # rate or duration, whichever `how` says
    how: Int[Array, " F"]
    compartment: Int[Array, " F"]
    interval: Float[Array, " F"]
    row: Int[Array, " F"]


class Breaks(eqx.Module):
    """Event times of the structure: slot k is one of them while one parameter row holds, from ``begin`` to ``end``."""

    number: Int[Array, " B"]  # which of the event times
    row: Int[Array, " B"]
    begin: Float[Array, " B"]
    end: Float[Array, " B"]
    ahead: Float[Array, " B"]  # as of the events there


class Echoes(eqx.Module):
    """When what jumps at an origin arrives again by the delays: slot k is ``counts[k] @ delays`` after event ``of[k]``."""

    of: Int[Array, " F"]  # -1: after the start
    counts: Int[Array, "F M"]
    first: Int[Array, " F"]  # the delay of which this is the first echo; -1: it is a second one


class Measured(NamedTuple):
    """What is measured at every event, of states that are filtered by it."""

    endpoint: Int[Array, " E"]  # -1: nothing
    time: Float[Array, " E"]  # as in the data
    y: Float[Array, " E"]
    cens: Float[Array, " E"]
    limit: Float[Array, " E"]


class Timeline(eqx.Module):
    """E events in order and T samples, padded with NOTHING at the last time.

    ``row`` is the parameter row that holds over the interval *ending* at the event, ``dose_row`` the one of the record that an
    event comes from (lag and bioavailability of a dose, initial states of a reset).  ``epoch`` counts resets: an event of an earlier
    epoch is cancelled.  Where a reset sets the time of the data back, the clock of the events goes on and is ``ahead`` of it from
    then on.

    Of the infusions that a steady-state train has begun and not ended at its record, ``queue`` numbers those that end first, from 1
    on, and the last of these with ``rest`` stands for all that end later, too.
    """

    start: Float[Array, ""]
    time: Float[Array, " E"]
    kind: Int[Array, " E"]
    row: Int[Array, " E"]
    now: Int[Array, " E"]  # the parameter row that holds at the event itself, where it is a record
    record: Int[Array, " E"]  # 1 where the event is a data record (its row counts), 0 for additional doses and infusion ends
    amount: Float[Array, " E"]
    given: Float[Array, " E"]
    how: Int[Array, " E"]
    compartment: Int[Array, " E"]
    dose_row: Int[Array, " E"]
    reset: Int[Array, " E"]
    epoch: Int[Array, " E"]
    slot: Int[Array, " E"]  # in `fills`, of events of a steady-state train, in `breaks` or in `echoes`
    adds: Int[Array, " E"]  # 1: the fill is added to what is there (SS = 2)
    queue: Int[Array, " E"]  # 0: not begun before the record
    rest: Int[Array, " E"]
    ahead: Float[Array, " E"]
    origin: Int[Array, " E"]  # 1 where a state or a slope jumps, which delays look back at
    source: Int[Array, " E"]  # the record that a dose comes from, for messages
    doses: Int[
        Array, " D"
    ]  # the events that bring something in: boluses, starts of infusions, fills (padding: one that does not)
    sample: Int[Array, " T"]  # event after which sample t is taken
    sample_clock: Float[Array, " T"]  # its time on the clock of the events
    sample_epoch: Int[Array, " T"]
    sample_ahead: Float[Array, " T"]
    sample_row: Int[Array, " T"]  # parameter row of the sample's record
    sample_time: Float[Array, " T"]  # as in the data
    fills: Fills
    breaks: Breaks
    echoes: Echoes
    anchor: Float[Array, " K"]  # the time at which a parameter row's covariates have the values that the row gives
    drift: dict[str, Float[Array, " K"]]  # their rates of change from then on; only covariates that change linearly
    dosed: tuple[int, ...] = eqx.field(static=True)  # compartments that any dose of the population enters
    infusions: bool = eqx.field(static=True)
    resets: bool = eqx.field(static=True)
    steady: bool = eqx.field(static=True)
    switches: bool = eqx.field(static=True)  # whether compartments are switched off
    event_times: int = eqx.field(static=True)  # of the structure
    delays: int = eqx.field(static=True)  # of the structure
    restarts: bool = eqx.field(static=True)  # whether any `ahead` differs from zero
    rows: int = eqx.field(static=True)  # number of parameter rows
    measured: Measured | None = None  # where the density of stochastic equations is asked for
    draws: Float[Array, "E K s"] | None = (
        None  # where a path of theirs is: standard normal, K stretches of time before each event
    )

    @property
    def course(self) -> Course:
        """When the samples are."""
        return Course(self.sample_clock, self.sample_epoch, self.sample_ahead)
