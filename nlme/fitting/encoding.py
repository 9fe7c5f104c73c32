"""Values as JSON with their arrays beside it, and back: what a fit is made of, whatever fields it has.

| value                      | JSON                                  |
|----------------------------|---------------------------------------|
| None, bool, int, float, str | itself                                |
| list, tuple, dict          | ["list", ...], ["tuple", ...], {"name": ...} |
| numpy array                | ["array", name], the array under that name |
| frozen record (dataclass)  | ["record", {"field": ...}], read back by the class of the default that stands in its place |
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import numpy as np

from nlme.errors import FitError

_PLAIN = (type(None), bool, int, float, str)


def encoded(value: Any, name: str, arrays: dict[str, np.ndarray]) -> Any:
    """``value`` as JSON; its arrays go into ``arrays`` under names that begin with ``name``.

    Raises
    ------
    FitError
        Something that is none of the above (a function, an object of another class).
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, np.ndarray | jax.Array):
        arrays[name] = np.asarray(value)
        if arrays[name].dtype.kind not in "fiub":
            raise FitError(f"{name} holds {arrays[name].dtype}, which a saved fit cannot.")
        return ["array", name]
    if isinstance(value, list | tuple):
        return [type(value).__name__ if type(value) in (list, tuple) else "tuple", *(encoded(v, f"{name}/{k}", arrays) for k, v in enumerate(value))]
    if isinstance(value, dict):
        return {str(key): encoded(v, f"{name}/{key}", arrays) for key, v in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return ["record", fields_encoded(value, name, arrays)]
    raise FitError(f"{name} is a {type(value).__name__}, which a saved fit cannot hold.")


def fields_encoded(value: Any, name: str, arrays: dict[str, np.ndarray]) -> dict:
    """The fields of a record."""
    return {f.name: encoded(getattr(value, f.name), f"{name}/{f.name}", arrays) for f in dataclasses.fields(value)}


def decoded(saved: Any, arrays: dict[str, np.ndarray], default: Any = None) -> Any:
    """The value that was saved; ``default`` is what stands in its place otherwise, whose class a record is read by.

    Raises
    ------
    FitError
        JSON of another form, a missing array, or a record where none belongs.
    """
    if isinstance(saved, _PLAIN):
        return saved
    if isinstance(saved, dict):
        return {key: decoded(value, arrays) for key, value in saved.items()}
    kind, *rest = saved if isinstance(saved, list) and saved else [None]
    if kind in ("list", "tuple"):
        return (list if kind == "list" else tuple)(decoded(value, arrays) for value in rest)
    if kind == "array" and len(rest) == 1 and isinstance(rest[0], str):
        if rest[0] not in arrays:
            raise FitError(f"the array {rest[0]!r} is missing")
        if arrays[rest[0]].dtype.kind not in "fiub":
            raise FitError(f"the array {rest[0]!r} holds {arrays[rest[0]].dtype}")
        return arrays[rest[0]]
    if kind == "record" and len(rest) == 1 and dataclasses.is_dataclass(default) and not isinstance(default, type):
        return record_decoded(type(default), rest[0], arrays)
    raise FitError(f"{str(saved)[:60]!r} is no value of a saved fit")


def record_decoded(kind: type, saved: Any, arrays: dict[str, np.ndarray]) -> Any:
    """A record of the class ``kind`` from its saved fields, each of the kind of its default.

    Raises
    ------
    FitError
        A field that the class does not have, or a value of another kind than the default's.
    """
    fields = {f.name: f for f in dataclasses.fields(kind)}
    if not isinstance(saved, dict) or not saved.keys() <= fields.keys():
        raise FitError(f"the options of {kind.__name__} are {str(saved)[:60]}; it has {', '.join(fields)}")
    values = {name: decoded(value, arrays, fields[name].default) for name, value in saved.items()}
    for name, value in values.items():
        default = fields[name].default
        if default is not dataclasses.MISSING and default is not None and not of_kind(value, default):
            raise FitError(f"the option {name} of {kind.__name__} is {value!r}")
    return kind(**values)


def of_kind(value: Any, default: Any) -> bool:
    """Whether a value can stand where the default stands: a number for a number, a tuple of as many for a tuple."""
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    if isinstance(default, int | float):
        whole = isinstance(value, int) or isinstance(default, float)
        return isinstance(value, int | float) and whole and math.isfinite(value)
    if isinstance(default, tuple) and default:
        return isinstance(value, tuple) and len(value) == len(default) and all(map(of_kind, value, default))
    return isinstance(value, type(default))
