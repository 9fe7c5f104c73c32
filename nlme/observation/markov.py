"""Categories that depend on the category of the record before: first-order Markov chains.

With the categories c_0 .. c_K of one endpoint of one subject, and y_0 its first record,

    P(y_0 = c_k) = initial[k],        P(y_j = c_k | y_(j-1) = c_i) = transitions[i][k],  taken at the time of record j.

The chain's steps are the records: it knows nothing of the time between them but what ``observe`` makes of it.  Source: Karlsson, Schoemaker,
Kemp et al. (2000), Clin Pharmacol Ther 68:175, doi:10.1067/mcp.2000.108588 (Markov models of categories under mixed effects).
"""

from __future__ import annotations

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from nlme.errors import ModelError
from nlme.observation.base import Law, Observation, Record, Terms, not_normal
from nlme.observation.discrete import Binary, Ordered
from nlme.observation.sequence import Moves


class Markov(Observation):
    """log P(first + k) of a first record, and log P(first + k) after a record of first + i."""

    initial: Float[Array, " K"]
    transitions: Float[Array, "K K"]
    first: int = eqx.field(static=True)

    def law(self) -> Law:
        last = self.first + self.initial.shape[0] - 1
        return Law(f"a Markov chain of categories {self.first} to {last}", link="markov", whole=(self.first, last))

    def parts(self):
        named = [f"{self.first + k}" for k in range(self.initial.shape[0])]
        found = {f"P({to})": value for to, value in zip(named, self.initial, strict=True)}
        for one, row in zip(named, self.transitions, strict=True):
            found |= {f"P({one} to {to})": value for to, value in zip(named, row, strict=True)}
        return found

    def terms(self, record: Record) -> Terms:
        chosen = record.y - self.first == jnp.arange(self.initial.shape[0])
        return not_normal(jnp.sum(jnp.where(chosen, self._after(record.before), 0.0)))

    def prediction(self):
        """Of a first record."""
        return self._mean(self.initial)

    def expected(self, record: Record):
        return self._mean(self._after(record.before))

    def sample(self, normal, key):
        return normal  # the link draws the whole chain

    def moving(self) -> Moves:
        return Moves(jnp.concatenate([self.initial[None], self.transitions]), jnp.asarray(float(self.first)))

    def _after(self, before) -> Float[Array, " K"]:
        """Log probabilities after a record of ``before``, NaN: none."""
        was = before - self.first == jnp.arange(self.initial.shape[0])
        row = jnp.sum(jnp.where(was[:, None], self.transitions, 0.0), axis=0)
        return jnp.where(jnp.isnan(before), self.initial, row)

    def _mean(self, log_probability):
        mean = jnp.sum(jnp.exp(log_probability) * (self.first + jnp.arange(log_probability.shape[0])))
        return jnp.where(jnp.all(jnp.isneginf(log_probability)), jnp.nan, mean)


def markov(initial, transitions: Sequence) -> Markov:
    """A first-order Markov chain of categories: what a record is depends on the subject's record before of the same endpoint.

    For example of two states, awake (0) and asleep (1), a drug lengthening sleep by its concentration c::

        nlme.markov(
            initial=nlme.binary(p_asleep),
            transitions=(nlme.binary(logit=falls_asleep + slope * c), nlme.binary(logit=stays_asleep + slope * c)),
        )

    A chain begins anew where the data's time begins again (:func:`nlme.read_nonmem`); a record without a value is no step of it.  In a
    fit's table PRED and IPRED are the mean category given the record before; ``nlme.predict`` gives it without that, and ``nlme.forecast``
    given what is known of the patient.  Simulated courses are draws of the whole chain: its steps are the observations, and after a
    subject's last one the records to predict.

    Parameters
    ----------
    initial : ``nlme.binary(...)`` or ``nlme.ordered(...)``: the distribution of a subject's first record
    transitions : of the same categories, one for each in order: the distribution of a record after one of that category

    Raises
    ------
    ModelError
        Something else than these, or other categories.
    """
    start = _probabilities(initial, "initial")
    rows = list(transitions) if isinstance(transitions, (tuple, list)) else [transitions]
    after = [_probabilities(one, f"transitions[{i}]") for i, one in enumerate(rows)]
    count, first = start[0].shape[0], start[1]
    if len(after) != count:
        raise ModelError(
            f"nlme.markov: initial has {count} categories, {first} to {first + count - 1}, and transitions has {len(after)} distributions; "
            "it needs one after each category."
        )
    for i, (values, lowest) in enumerate(after):
        if (values.shape[0], lowest) != (count, first):
            raise ModelError(
                f"nlme.markov: transitions[{i}] has the categories {lowest} to {lowest + values.shape[0] - 1}, and initial {first} to "
                f"{first + count - 1}; all are of the same."
            )
    return Markov(start[0], jnp.stack([values for values, _ in after]), first)


def _probabilities(given, what: str) -> tuple[Float[Array, " K"], int]:
    """Log probabilities of the categories, and the lowest one."""
    if isinstance(given, Binary):
        return jnp.stack([given.zero, given.one]), 0
    if isinstance(given, Ordered):
        return given.log_probability, given.first
    raise ModelError(f"nlme.markov: {what} is nlme.binary(...) or nlme.ordered(...); got {type(given).__name__}.")
