"""Any linear compartment system, by the exponential of its rate matrix.

da/dt = K a + r moves over a step of length t to exp(K t) a + int_0^t exp(K s) ds r.  With h = 1/16 / ||K + q||, q the largest
loss of a compartment, the step is split as t = m h + rest, 0 <= rest < h.

* Over ``rest`` the solution is the Taylor series of exp(-q rest) exp((K + q) rest), applied to the vectors.  Where K's elements
  are rates of flow, K + q has no negative element, so that all terms are positive and nothing cancels.
* exp(K 2^j h) and its integral come from repeated squaring, E <- E E and F <- F + E F, again without cancellation; each of
  them is applied where bit j of m is set.  They belong to the system and not to the step, so that all steps of a subject share
  them and a step costs products of a matrix and a vector only.

How the time is split is held constant; every derivative, in rates and in time, is that of the products themselves.  No
eigenvalues are involved: repeated and complex ones are ordinary points.

Sources: Moler & Van Loan (2003), SIAM Rev 45:3, doi:10.1137/S00361445024180, methods 1 and 3; for the shift and its accuracy in
every element, Xue & Ye (2013), Math Comp 82:1577, doi:10.1090/S0025-5718-2013-02677-4.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from nlme.errors import ModelError, name_error
from nlme.structure.base import LinearStructure

# A term of the series costs about as much as two bits (measured)
_NORM = 0.0625  # of (K + q) rest, at most
_TERMS = 9  # 0.0625^10 / 10! < 1e-18, with room for the second derivatives
_BITS = 29  # longest step: 2^29 h


class Linear(LinearStructure):
    """Compartments joined by first-order flows.

    Parameters
    ----------
    states : names of the compartments, in the order of the data's compartment numbers
    flows : dict from (from, to) to a rate constant (1/time, not negative): amount moves from one state to the other, or out of
        the system with ``to=None``
    drives : dict from (from, to) to a rate: the state ``to`` grows in proportion to ``from``, which loses nothing (an effect
        compartment, a cumulated exposure)
    lag, bioavailability, duration, rate : dose rules, see :class:`nlme.structure.base.Structure`

    States start at 0 and are amounts (unless driven).  For one compartment with absorption::

        nlme.pk.Linear(("depot", "central"), flows={("depot", "central"): ka, ("central", None): cl / v})

    The relative error of a step t is about 1e-15 (1 + largest rate x t); steps beyond 3e7 / (largest rate) give NaN.

    Raises
    ------
    ModelError
        A flow between states that do not exist, from a state to itself, or into the system from nowhere.
    """

    names: tuple[str, ...] = eqx.field(static=True)
    edges: tuple[tuple[str, str | None], ...] = eqx.field(static=True)
    driven: tuple[tuple[str, str], ...] = eqx.field(static=True)
    constants: tuple[Any, ...]

    looped = True

    def __init__(self, states, flows, drives=None, *, lag=None, bioavailability=None, duration=None, rate=None):
        if isinstance(states, str) or not all(isinstance(s, str) for s in states):
            raise ModelError(f"nlme.pk.Linear: states is a tuple of names such as ('depot', 'central'); got {states!r}.")
        if len(set(states)) != len(states):
            raise ModelError(f"nlme.pk.Linear: a state is named twice: {', '.join(states)}.")
        drives = drives or {}
        _check_edges("flows", flows, states, leaves=True)
        _check_edges("drives", drives, states, leaves=False)
        self.names, self.edges, self.driven = tuple(states), tuple(flows), tuple(drives)
        self.constants = (*flows.values(), *drives.values())
        self.lag, self.bioavailability, self.duration, self.rate = lag, bioavailability, duration, rate

    @property
    def states(self) -> tuple[str, ...]:
        return self.names

    @property
    def flows(self) -> dict[tuple[str, str | None], Any]:
        """Rate constant of every flow."""
        return dict(zip(self.edges, self.constants[: len(self.edges)], strict=True))

    @property
    def drives(self) -> dict[tuple[str, str], Any]:
        """Rate of every drive."""
        return dict(zip(self.driven, self.constants[len(self.edges) :], strict=True))

    def elements(self) -> dict[tuple[int, int], Any]:
        """The elements of K that can differ from zero, by (row, column)."""
        found: dict[tuple[int, int], Any] = {}

        def add(to, come, value):
            key = self.names.index(to), self.names.index(come)
            found[key] = found.get(key, 0.0) + value

        for (come, to), constant in self.flows.items():
            add(come, come, -constant)
            if to is not None:
                add(to, come, constant)
        for (come, to), constant in self.drives.items():
            add(to, come, constant)
        return found

    def flow(self, t, amounts: tuple) -> tuple:
        """K a: rates of change of the states."""
        out = [jnp.zeros(())] * len(self.names)
        for (i, j), value in self.elements().items():
            out[i] = out[i] + value * amounts[j]
        return tuple(out)

    def advance(self, amounts: tuple, rates: tuple | None, dt) -> tuple:
        rates = (0.0,) * len(amounts) if rates is None else rates
        dt = jnp.asarray(dt)
        elements = self.elements()
        occupied = [k for k in range(len(amounts)) if not (_nothing(amounts[k]) and _nothing(rates[k]))]
        # only the states that amounts can have come to take part
        part = reached(occupied, elements)
        where = {k: n for n, k in enumerate(part)}
        moved = {k: 0.0 for k in range(len(amounts))}
        if part:
            system = _System({(where[i], where[j]): v for (i, j), v in elements.items() if j in where}, len(part))
            into = [rates[k] for k in part]
            moved |= zip(part, system.advance([amounts[k] for k in part], into, dt), strict=True)
        return tuple(jnp.broadcast_to(moved[k], dt.shape) for k in moved)


def _check_edges(which: str, edges, states: Iterable[str], leaves: bool) -> None:
    example = "{('depot', 'central'): ka, ('central', None): cl / v}"
    if not isinstance(edges, Mapping):
        raise ModelError(f"nlme.pk.Linear, {which}: a dict such as {example}; got {type(edges).__name__}.")
    for edge in edges:
        if not (isinstance(edge, tuple) and len(edge) == 2):
            raise ModelError(f"nlme.pk.Linear, {which}: keys are pairs (from, to) as in {example}; got {edge!r}.")
        come, to = edge
        if come is None:
            raise ModelError(
                f"nlme.pk.Linear, {which}: {edge!r} would be a constant production, which is not linear in the amounts; "
                f"write the system as nlme.ODE, or give the production as an infusion."
            )
        for name in (come,) if to is None and leaves else edge:
            if name not in states:
                raise ModelError(f"nlme.pk.Linear, {which}: " + name_error("state", str(name), states, "The system"))
        if come == to:
            raise ModelError(f"nlme.pk.Linear, {which}: {edge!r} goes from a state to itself.")


def _nothing(value) -> bool:
    """Whether this is literally zero: a state that nothing ever enters."""
    return isinstance(value, float) and value == 0.0


def reached(sources: list[int], elements: Iterable[tuple[int, int]]) -> list[int]:
    """The states that can be reached from ``sources``, in order."""
    found = set(sources)
    while more := {i for i, j in elements if j in found} - found:
        found |= more
    return sorted(found)


class _System:
    """The moves of one rate matrix, given by its elements (row, column) -> value."""

    def __init__(self, elements: dict[tuple[int, int], Any], size: int):
        self.size = size
        losses = [-elements.get((k, k), 0.0) for k in range(size)]
        self.shift = jax.lax.stop_gradient(functools.reduce(jnp.maximum, losses, 0.0))
        shifted = elements | {(k, k): elements.get((k, k), 0.0) + self.shift for k in range(size)}
        self.shifted = shifted  # K + q
        columns = [sum(jnp.abs(v) for (_, j), v in shifted.items() if j == k) for k in range(size)]
        norm = functools.reduce(jnp.maximum, columns, self.shift)
        self.unit = jax.lax.stop_gradient(_NORM / jnp.maximum(norm, 1e-30))
        self.pattern = [(i, j) for j in range(size) for i in reached([j], elements)]

    def advance(self, amounts: list, rates: list, dt) -> list:
        """Amounts after ``dt`` with constant input ``rates``."""
        whole = jnp.floor(jax.lax.stop_gradient(dt) / self.unit)
        bits = jnp.minimum(whole, 2.0**_BITS).astype(jnp.int32)
        rest = dt - whole * self.unit
        infused = [k for k in range(self.size) if not _nothing(rates[k])]
        state = self._series(amounts, rates if infused else None, rest)
        power, integral = self._first(bool(infused))

        def doubled(bit, carry):
            power, integral, state = carry
            come = [0.0] * self.size
            for i, j in self.pattern:
                come[i] = come[i] + power[i, j] * state[j]
                if j in infused:
                    come[i] = come[i] + integral[i, j] * rates[j]
            here = (bits >> bit) & 1 == 1
            state = [jnp.where(here, new, old) for new, old in zip(come, state, strict=True)]
            if infused:
                integral = integral + _product(power, integral)
            return _product(power, power), integral, state

        carry = power, integral, state
        if self.unit.ndim:  # subjects side by side: no more bits than the longest step has
            longest = jnp.max(bits)
            _, carry = jax.lax.while_loop(lambda at: longest >> at[0] > 0, lambda at: (at[0] + 1, doubled(*at)), (0, carry))
        else:  # a loop that can be differentiated in reverse
            carry = jax.lax.fori_loop(0, _BITS, doubled, carry)
        return [jnp.where(whole < 2.0**_BITS, x, jnp.nan) for x in carry[-1]]

    def _first(self, integral: bool):
        """exp(K h) and, if wanted, its integral: the matrices of the same series as in ``_series``."""
        batch = self.unit.shape
        zero = jnp.zeros(batch)
        eye = np.eye(self.size).reshape(self.size, self.size, *(1,) * len(batch))
        eye = jnp.broadcast_to(eye, (self.size, self.size, *batch))
        rows = [[self.shifted.get((i, j), 0.0) + zero for j in range(self.size)] for i in range(self.size)]
        matrix = jnp.stack([jnp.stack(row) for row in rows])

        def term(n, carry):
            power, total, inflow = carry
            part = self.unit / (_TERMS - n)
            power = eye + part * _product(matrix, power)
            if not integral:
                return power, None, None
            return power, part * (_product(matrix, total) + eye * inflow), 1.0 + self.shift * part * inflow

        start = (eye, 0.0 * eye, 1.0 + zero) if integral else (eye, None, None)
        power, total, _ = jax.lax.fori_loop(0, _TERMS, term, start)
        decay = jnp.exp(-self.shift * self.unit)
        return decay * power, decay * total if integral else None

    def _series(self, start: list, rates: list | None, rest) -> list:
        """Amounts after a short time: the Taylor series of the shifted system, summed from its last term (Horner).

        With the input as one more state that only feeds the others, s <- start + rest / k ((K + q) s + r u) and
        u <- 1 + q rest / k u, for k from the last term to 1.  exp(-q rest), which takes the shift back, stands at the start.
        """
        passed = self.shift * rest
        decay = jnp.exp(-passed)
        shape = jnp.broadcast_shapes(rest.shape, *(jnp.shape(x) for x in (*start, *(rates or ()))))
        start = [jnp.zeros(shape) if _nothing(a) else jnp.broadcast_to(decay * a, shape) for a in start]

        def term(n, carry):
            total, inflow = carry
            part = rest / (_TERMS - n)
            come = [0.0] * self.size
            for (i, j), value in self.shifted.items():
                come[i] = come[i] + value * total[j]
            if rates is not None:
                come = [x if _nothing(r) else x + r * inflow for x, r in zip(come, rates, strict=True)]
                inflow = decay + self.shift * part * inflow
            return [a + jnp.broadcast_to(part * x, shape) for a, x in zip(start, come, strict=True)], inflow

        total, _ = jax.lax.fori_loop(0, _TERMS, term, (start, None if rates is None else decay))
        return total


def _product(a, b):
    """A B for small matrices, as sums over columns (batches of tiny products vectorise better than as calls)."""
    return sum(a[:, k, None] * b[k, None, :] for k in range(a.shape[0]))
