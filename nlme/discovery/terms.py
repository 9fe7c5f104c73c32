"""Candidate terms of an equation, and a sum of them as a part of a model.

term(x) = x_1^p_1 .. x_n^p_n,      or      x_k^h / (s^h + x_k^h)      (Hill; h = 1: Michaelis-Menten)
expression(x) = sum_j coefficient_j term_j(x)
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import operator
from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nlme.neural.term import LearnedTerm
from nlme.parameters.domains import METADATA, POSITIVE, REAL, Declaration

_QUARTILES = (0.1, 0.25, 0.5, 0.75, 0.9)  # of the values visited, where saturation is tried


@dataclasses.dataclass(frozen=True)
class Term:
    """One candidate.

    Attributes
    ----------
    powers : of every input; all 0 for the constant, and for a saturable term
    saturating : position of the input that saturates, or -1
    half : the value of that input at half of saturation
    hill : its exponent
    """

    powers: tuple[int, ...]
    saturating: int = -1
    half: float = 1.0
    hill: int = 1

    @property
    def form(self) -> tuple:
        """What is left without ``half``: terms of one form differ only in where they saturate."""
        return self.powers, self.saturating, self.hill

    def at(self, x, half=None):
        """The term at inputs (n,), or (..., n)."""
        if self.saturating < 0:
            return functools.reduce(
                operator.mul, (x[..., k] ** p for k, p in enumerate(self.powers) if p), jnp.ones(x.shape[:-1])
            )
        half, value = self.half if half is None else half, x[..., self.saturating] ** self.hill
        return value / (half**self.hill + value)

    def text(self, names: Sequence[str], half: str) -> str:
        """As a person would write it in Python, ``half`` in the place of the half saturation."""
        if self.saturating < 0:
            return " * ".join(f"{n}**{p}" if p > 1 else n for n, p in zip(names, self.powers, strict=True) if p) or "1"
        name = names[self.saturating]
        if self.hill == 1:
            return f"{name} / ({half} + {name})"
        return f"{name}**{self.hill} / ({half}**{self.hill} + {name}**{self.hill})"


def polynomials(n: int, degree: int) -> list[Term]:
    """Products of powers of ``n`` inputs up to a total ``degree``, the constant first."""
    powers = [p for p in itertools.product(range(degree + 1), repeat=n) if sum(p) <= degree]
    return [Term(p) for p in sorted(powers, key=lambda p: (sum(p), tuple(-q for q in p)))]


def saturating(visited: Float[np.ndarray, "M n"], hill: Sequence[int] = (1, 2)) -> list[Term]:
    """Hill terms of every input that is nowhere negative, half saturated at quantiles of the values visited."""
    found = []
    for k, x in enumerate(visited.T):
        if np.all(x >= 0) and np.any(x > 0):
            halves = np.unique(np.quantile(x[x > 0], _QUARTILES))
            found += [Term((0,) * visited.shape[1], k, float(s), h) for h in hill for s in halves]
    return found


def names_of(term: LearnedTerm) -> tuple[str, ...]:
    """Its inputs' names; x1, x2, .. where they are only counted."""
    return term.inputs or tuple(f"x{k + 1}" for k in range(term.n_inputs))


class Expression(LearnedTerm):
    """A sum of terms in a network's place; its coefficients and halves of saturation are fixed effects.

    Attributes
    ----------
    coefficients : of every term, in order
    halves : of the terms that saturate, in order; positive
    terms : the terms
    """

    coefficients: tuple[Float[Array, ""], ...] = eqx.field(metadata={METADATA: Declaration(REAL, "", "Coefficient")})
    halves: tuple[Float[Array, ""], ...] = eqx.field(metadata={METADATA: Declaration(POSITIVE, "", "Half saturation")})
    terms: tuple[Term, ...] = eqx.field(static=True)
    inputs: tuple[str, ...] = eqx.field(static=True)
    outputs: tuple[str, ...] = eqx.field(static=True)

    word = "The expression"

    @property
    def n_inputs(self) -> int:
        return len(self.terms[0].powers)

    def outputs_at(self, x: Float[Array, " inputs"]) -> Float[Array, " outputs"]:
        halves = iter(self.halves)
        values = [term.at(x, next(halves) if term.saturating >= 0 else None) for term in self.terms]
        return jnp.stack([sum(c * v for c, v in zip(self.coefficients, values, strict=True))])

    @property
    def form(self) -> str:
        return self.text

    @property
    def text(self) -> str:
        """The expression with its numbers, as Python."""
        names, halves = names_of(self), iter(self.halves)
        parts = []
        for c, term in zip(self.coefficients, self.terms, strict=True):
            written = term.text(names, f"{float(next(halves)):.4g}" if term.saturating >= 0 else "")
            parts.append(f"{float(c):.4g}" if written == "1" else f"{float(c):.4g} * {written}")
        return " + ".join(parts).replace("+ -", "- ")

    def __repr__(self) -> str:
        return f"Expression({self.text})"
