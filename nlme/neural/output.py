"""The scale on which a learned term answers: where it starts, where its outputs may lie, and which shape they have.

| output          | value for a correction c                                     | starts at        |
|-----------------|--------------------------------------------------------------|------------------|
| "real"          | init + c                                                     | init, 0 if not given |
| "positive"      | init exp(c)                                                  | init, 1          |
| (lower, upper)  | lower + (upper - lower) / (1 + exp(-c) (upper - init) / (init - lower)) | init, the middle |

All three rise with c, so a correction that rises with an input gives an output that does.  A term that vanishes with an input
x_k is x_k times this: zero exactly where x_k is, and the table speaks of the output for each unit of x_k.  One that vanishes with an input
that it rises with is what it has risen since that was zero, so that it may level off (x_k times what rises could not):

    out(x) = value(c(x)) - value(c(x with x_k = 0))

A term without a constant of its own is none where its standardised inputs are 0, c(z) - c(0): beside cl exp(c) the parameter cl stays that
of average covariates, where the data could not tell a constant in c from it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nlme.errors import ModelError, name_error
from nlme.parameters.domains import POSITIVE, REAL, Domain, is_numeric

_SIGNS = {"increasing": 1, "decreasing": -1, None: 0}
_STARTS = {"real": 0.0, "positive": 1.0}


@dataclasses.dataclass(frozen=True)
class Output:
    """Where the outputs may lie, and what shape they have.

    Attributes
    ----------
    domain : of every output
    init : of every output, where the correction is none
    monotone : of every input, 1 where the outputs rise with it, -1 where they fall, 0 where they are free
    vanishing : positions of the inputs with which the outputs vanish
    constant : whether the correction has a constant of its own; else it is none where the standardised inputs are 0
    """

    domain: Domain
    init: tuple[float, ...]
    monotone: tuple[int, ...]
    vanishing: tuple[int, ...] = ()
    constant: bool = True

    @property
    def risen(self) -> int | None:
        """The input since whose zero the outputs count what they have risen."""
        return next((k for k in self.vanishing if self.monotone[k]), None)

    def at(self, correction: Callable, x: Float[Array, " inputs"]) -> Float[Array, " outputs"]:
        """The outputs at inputs ``x`` in their own units, at which the correction is ``correction(x)``."""
        out = self._inside(correction(x))
        if self.risen is not None:
            out = out - self._inside(correction(jnp.asarray(x).at[self.risen].set(0.0)))
        for k in self.vanishing:
            out = out if k == self.risen else x[k] * out
        return out

    def band(self, y: np.ndarray, half: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ends of intervals of half-width ``half`` around outputs ``y`` (M, outputs) at inputs ``x`` (M, inputs), symmetric on the scale
        of the correction, so that they lie where outputs may."""
        times = np.prod(x[:, [k for k in self.vanishing if k != self.risen]], axis=1)[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            inside, width = y / times, np.abs(half / times)
            if self.domain.scale == "natural":
                ends = inside - width, inside + width
            elif self.domain.scale == "log":
                ends = inside * np.exp(-width / inside), inside * np.exp(width / inside)
            else:
                lower, upper = self.domain.lower, self.domain.upper
                odds, step = (inside - lower) / (upper - inside), (upper - lower) * width / ((inside - lower) * (upper - inside))
                ends = tuple(upper - (upper - lower) / (1.0 + odds * np.exp(sign * step)) for sign in (-1.0, 1.0))
            ends = [np.where((times == 0.0) | (width == 0.0), y, times * end) for end in ends]
        return np.minimum(*ends), np.maximum(*ends)

    def _inside(self, c):
        init = np.array(self.init)
        if self.domain.scale == "natural":
            return init + c if init.any() else c
        if self.domain.scale == "log":
            return init * jnp.exp(c)
        lower, width = self.domain.lower, self.domain.upper - self.domain.lower
        t = (init - lower) / width
        return lower + width * jax.nn.sigmoid(np.log(t / (1.0 - t)) + c)

    @property
    def is_monotone(self) -> bool:
        return any(self.monotone)

    def rising(self, weights: tuple) -> tuple:
        """The weights of layers, (out, in, ...) each, that the inputs meet: squares on the way from monotone inputs, so that none falls."""
        if not self.is_monotone:
            return weights
        first, *others = weights
        own = np.reshape(self.monotone, (-1, *(1,) * (first.ndim - 2))) != 0
        return jnp.where(own, first * first, first), *(w * w for w in others)

    def turned(self, z: Float[Array, " inputs"]) -> Float[Array, " inputs"]:
        """Inputs with the sign by which the outputs rise with them."""
        return np.where(np.array(self.monotone) < 0, -1.0, 1.0) * z if self.is_monotone else z

    def words(self, inputs: Sequence[str]) -> str:
        """What is not the ordinary: "positive about 5, increasing in wt"."""
        found = []
        plain = self.domain == REAL and not any(self.init)
        if not plain:
            found.append(f"{self.domain} about {', '.join(f'{x:.4g}' for x in dict.fromkeys(self.init))}")
        for word, sign in _SIGNS.items():
            own = [name for name, s in zip(inputs, self.monotone, strict=True) if sign and s == sign]
            found += [f"{word} in {', '.join(own)}"] if own else []
        if self.vanishing:
            found.append(f"zero with {', '.join(inputs[k] for k in self.vanishing)}")
        if not self.constant:
            found.append("without constant")
        return ", ".join(found)


def output_of(
    who: str, names_in: tuple[str, ...], n_inputs: int, names_out: tuple[str, ...], n_outputs: int, o: Mapping
) -> Output:
    """The output that a declaration's ``output``, ``init``, ``monotone``, ``vanishing`` and ``constant`` describe.

    Raises
    ------
    ModelError
        Another word, a start outside of its range, an unknown name, or shapes that exclude each other.
    """
    domain = _domain(who, o["output"])
    init = _init(who, o["init"], domain, names_out, n_outputs)
    monotone = _monotone(who, o["monotone"], names_in, n_inputs)
    vanishing = _vanishing(who, o["vanishing"], names_in, n_inputs)
    for k in vanishing:
        if monotone[k] and (monotone[k] < 0 or domain.lower < 0):
            raise ModelError(
                f"{who}: what vanishes with an input rises with it only where it is positive: monotone='increasing' and "
                f"output='positive'."
            )
    if sum(monotone[k] != 0 for k in vanishing) > 1:
        raise ModelError(
            f"{who}: it can be what has risen since one input was zero; leave one of the vanishing inputs free to fall."
        )
    if not isinstance(o["constant"], bool):
        raise ModelError(f"{who}: constant is True, or False for a term that is none at its center; got {o['constant']!r}.")
    return Output(domain, init, monotone, vanishing, o["constant"])


def _domain(who: str, given) -> Domain:
    if isinstance(given, str) and given in ("real", "positive"):
        return REAL if given == "real" else POSITIVE
    if not isinstance(given, str) and is_numeric(given) and np.shape(given) == (2,):
        lower, upper = map(float, given)
        if -math.inf < lower < upper < math.inf:
            return Domain("bounded", lower, upper)
    raise ModelError(f'{who}: output is "real", "positive" or two bounds such as (0.0, 1.0); got {given!r}.')


def _init(who: str, given, domain: Domain, names: tuple[str, ...], count: int) -> tuple[float, ...]:
    start = _STARTS.get(domain.name, 0.5 * (domain.lower + domain.upper))
    if isinstance(given, Mapping):
        for name in given:
            if name not in names:
                raise ModelError(f"{who}, init: " + name_error("output", name, names, "The term"))
        values = [given.get(name, start) for name in names]
    else:
        values = [start] if given is None else list(np.ravel(given)) if is_numeric(given) else []
        values = values * count if len(values) == 1 else values
    if len(values) != count or not is_numeric(values) or not domain.contains(values):
        raise ModelError(
            f"{who}: init is one number, or one for each of the {count} outputs, {domain.words('init')}; got {given!r}."
        )
    return tuple(float(v) for v in values)


def _monotone(who: str, given, names: tuple[str, ...], count: int) -> tuple[int, ...]:
    if isinstance(given, Mapping):
        for name in given:
            if name not in names:
                raise ModelError(f"{who}, monotone: " + name_error("input", name, names, "The term"))
        given = [given.get(name) for name in names]
    words = [given] * count if not isinstance(given, list | tuple) else list(given)
    if len(words) != count or not all(word is None or (isinstance(word, str) and word in _SIGNS) for word in words):
        raise ModelError(
            f'{who}: monotone is "increasing" or "decreasing", or a dict by input such as {{"wt": "increasing"}}; got {given!r}.'
        )
    return tuple(_SIGNS[word] for word in words)


def _vanishing(who: str, given, names: tuple[str, ...], count: int) -> tuple[int, ...]:
    if isinstance(given, bool):
        return tuple(range(count)) if given else ()
    listed = list(given) if isinstance(given, list | tuple) else [given]
    for name in listed:
        if isinstance(name, str) and name not in names:
            raise ModelError(f"{who}, vanishing: " + name_error("input", name, names, "The term"))
        if not isinstance(name, str) and (isinstance(name, bool) or not isinstance(name, int) or not 0 <= name < count):
            raise ModelError(f"{who}: vanishing is True, or the inputs with which the term vanishes, by name; got {given!r}.")
    return tuple(dict.fromkeys(names.index(name) if isinstance(name, str) else name for name in listed))
