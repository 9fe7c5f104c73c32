"""The network that was added to a model, as JSON with its arrays beside it, and back.

A term is one of this library's own classes by name, with its constants; its weights are among the model's numbers. Encoders are the
user's own modules, of which a file can hold the weights alone: a model with one is given to ``load``.
"""

from __future__ import annotations

import dataclasses
import importlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nlme.errors import FitError, ModelError
from nlme.fitting.encoding import decoded, encoded, record_of
from nlme.language.augmented import Augmented, Shift, augmented
from nlme.language.model import Model
from nlme.language.reading import Projection, Reading
from nlme.neural.term import LearnedTerm

_ROOM = "nlme.neural."


def shift_out(model: Model, arrays: dict[str, np.ndarray]) -> Any:
    """The shift of an augmented model; None of any other."""
    if not isinstance(model, Augmented):
        return None
    shift: Shift = model.shift
    reading = shift.reading
    return {
        "covariates": [[name, list(what) if isinstance(what, tuple) else what] for name, what in type(model).read],
        "outputs": list(shift.outputs),
        "scale": list(shift.scale),
        "middle": list(shift.middle),
        "plain": [list(one) for one in reading.covariates],
        "features": [[name, _projection_out(p, f"shift/{name}", arrays)] for name, p in reading.features],
        "encoded": [list(one) for one in reading.encoded],
        "learned_from": shift.learned_from,
        "term": _term_out(shift.term, arrays) if shift.encoders is None else None,
    }


def shift_in(base: Model, saved: dict, arrays: dict[str, np.ndarray]) -> Augmented:
    """``base`` with the shift that was saved, its weights zero.

    Raises
    ------
    ModelError
        A term that is none of this library's, or an encoder: the model itself is needed.
    FitError
        A file that does not hold what it should.
    """
    if not isinstance(saved, dict) or "term" not in saved:
        raise FitError(f"what was added to its model is {str(saved)[:60]!r}")
    if saved["term"] is None:
        raise ModelError(
            "The fit's model has a network or an encoder of the user's own, which no file can hold: give the model itself, "
            "nlme.load(path, model=...), as nlme.augment returned it."
        )
    try:
        reading = Reading(
            tuple((str(name), how) for name, how in saved["plain"]),
            tuple((str(name), _projection_in(p, arrays)) for name, p in saved["features"]),
            tuple((str(name), float(center), float(scale)) for name, center, scale in saved["encoded"]),
        )
        numbers = [tuple(map(float, saved[name])) for name in ("scale", "middle")]
        shift = Shift(
            _term_in(saved["term"], arrays),
            None,
            reading,
            tuple(map(str, saved["outputs"])),
            *numbers,
            str(saved["learned_from"]),
        )
        return augmented(
            base, shift, {name: tuple(what) if isinstance(what, list) else what for name, what in saved["covariates"]}
        )
    except Exception as error:  # what a damaged document makes Python say
        raise FitError(f"the network that was added to its model cannot be read ({type(error).__name__}: {error})") from None


def _term_out(term: Any, arrays: dict[str, np.ndarray]) -> Any:
    """Class, shapes and constants of a term; None where it is not one of this library's."""
    if not (isinstance(term, LearnedTerm) and type(term).__module__.startswith(_ROOM)):
        return None
    fields = {}
    for field in dataclasses.fields(term):
        value = getattr(term, field.name)
        if field.metadata.get("static", False):
            fields[field.name] = ["constant", encoded(value, f"shift/{field.name}", arrays)]
        elif isinstance(value, tuple):
            fields[field.name] = ["several", [list(np.shape(x)) for x in value]]
        else:
            fields[field.name] = ["one", list(np.shape(value))]
    return {"module": type(term).__module__, "name": type(term).__qualname__, "fields": fields}


def _term_in(saved: dict, arrays: dict[str, np.ndarray]) -> LearnedTerm:
    module, name = str(saved["module"]), str(saved["name"])
    kind = getattr(importlib.import_module(module), name, None) if module.startswith(_ROOM) else None
    if not (isinstance(kind, type) and issubclass(kind, LearnedTerm)):
        raise FitError(f"{module}.{name} is no term of this library")
    made = object.__new__(kind)
    for field, (what, value) in saved["fields"].items():
        if what == "constant":
            value = decoded(value, arrays, record_of(kind, field))
        elif what == "several":
            value = tuple(jnp.zeros(tuple(shape)) for shape in value)
        else:
            value = jnp.zeros(tuple(value))
        object.__setattr__(made, field, value)
    return jax.tree.map(lambda x: x, made)


def _projection_out(projection: Projection | None, name: str, arrays: dict[str, np.ndarray]) -> Any:
    if projection is None:
        return None
    arrays |= {f"{name}/center": projection.center, f"{name}/matrix": projection.matrix}
    return name


def _projection_in(saved: str | None, arrays: dict[str, np.ndarray]) -> Projection | None:
    return None if saved is None else Projection(arrays[f"{saved}/center"], arrays[f"{saved}/matrix"])
