"""A mistake inside a model's method, said in the user's words: which method, which line, what is wrong, what would be right.

The methods of a model run on abstract numbers (JAX tracers), so an ordinary slip of Python surfaces deep inside JAX.  Whatever is
raised there is caught where the library calls the method, and leaves as one :class:`ModelError`.
"""

from __future__ import annotations

import contextlib
import linecache
import re
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import equinox
import jax
import jaxtyping
import numpy as np

from nlme.errors import ModelError, NLMEError

_PACKAGE = Path(__file__).resolve().parent.parent
_FOREIGN = tuple(str(Path(module.__file__).resolve().parent) for module in (equinox, jax, jaxtyping, np))

_REMEDIES: tuple[tuple[type[Exception], str], ...] = (
    (
        jax.errors.TracerBoolConversionError,
        "Python's `if`, `and`, `or`, `not`, `max` and `min` cannot look at a number that a model computes with: methods "
        "are traced once, for all subjects and times. Write both cases and choose: jnp.where(condition, value_if_true, value_if_false), "
        "jnp.maximum(a, b).",
    ),
    (
        jax.errors.TracerArrayConversionError,
        "numpy cannot compute with the numbers of a model, which are traced by JAX. Use the function of the same name in "
        "jax.numpy: jnp.exp(...) for np.exp(...), with `import jax.numpy as jnp`.",
    ),
    (
        jax.errors.ConcretizationTypeError,
        "functions of `math`, float(...) and int(...) need a number that is known now, and the numbers of a model are traced by "
        "JAX. Use jax.numpy: jnp.exp(...) for math.exp(...), and leave float(...) out.",
    ),
    (
        jax.errors.NonConcreteBooleanIndexError,
        "an array cannot be cut by a condition on the numbers of a model. Keep its size, and choose with "
        "jnp.where(condition, value_if_true, value_if_false).",
    ),
)


@contextlib.contextmanager
def in_method(owner: str, method: str) -> Iterator[None]:
    """Around a call of ``owner.method``: what is raised inside becomes a ModelError that names the method and the user's line.

    Raises
    ------
    ModelError
        Anything was raised inside.  An error of this library keeps its sentence; any other is explained, or quoted.
    """
    try:
        yield
    except (Exception, SystemExit) as error:
        sentence = str(error) if isinstance(error, NLMEError) else _explained(error)
        sentence = re.sub(r"\b\w*Tracer\b", "number", sentence)
        raise ModelError(f"{owner}.{method}: {sentence}{_line(error.__traceback__)}") from None


def kind_of(value) -> str:
    """What a method returned, in the user's words: JAX's stand-ins for numbers are numbers."""
    if isinstance(value, jax.Array):
        return f"an array of shape {value.shape}" if value.shape else "a number"
    return type(value).__name__ if value is not None else "None (is the return missing?)"


def _explained(error: Exception) -> str:
    for kind, remedy in _REMEDIES:
        if isinstance(error, kind):
            return remedy
    if isinstance(error, TypeError) and "unhashable" in str(error):
        return (
            "a number that a model computes with cannot be looked up in a dict or a set: methods are traced once, for all subjects and "
            "times. Choose with jnp.where(cov.sex == 1, a, b), or by position: jnp.array([a, b])[cov.sex.astype(int)]."
        )
    first = (str(error).strip() or "no message").splitlines()[0]
    return f"Python stopped with {type(error).__name__}: {first}"


def _line(trace: TracebackType | None) -> str:
    """The innermost line of the user's own code, with its place; nothing where the source is not at hand."""
    for frame in reversed(traceback.extract_tb(trace)):
        file = Path(frame.filename)
        if _own(file) or frame.filename.startswith(_FOREIGN):
            continue
        text = linecache.getline(frame.filename, frame.lineno or 0).strip()
        if text:
            return f"\n  {file.name}, line {frame.lineno}: {text}"
    return ""


def _own(file: Path) -> bool:
    """Whether a file belongs to this library; the models that ship with it read like a user's."""
    return file.is_relative_to(_PACKAGE) and not file.is_relative_to(_PACKAGE / "models")
