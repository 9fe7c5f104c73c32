"""Values as JSON with their arrays beside it, and back: what a fit is made of, whatever fields it has.

| value                                     | JSON                                                                               |
|-------------------------------------------|------------------------------------------------------------------------------------|
| None, bool, int, float, str               | itself                                                                             |
| list, tuple                               | ["list", ...], ["tuple", ...]                                                      |
| dict                                      | {"name": ...}                                                                      |
| numpy array                               | ["array", name], the array under that name                                         |
| record: a frozen dataclass, a named tuple | ["record", {"field": ...}], read back by the class that its field is declared with  |
"""

from __future__ import annotations

import dataclasses
import math
import typing
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
    if not isinstance(value, type) and _is_record(type(value)):
        return ["record", fields_encoded(value, name, arrays)]
    if isinstance(value, list | tuple):
        return [type(value).__name__, *(encoded(v, f"{name}/{k}", arrays) for k, v in enumerate(value))]
    if isinstance(value, dict):
        return {str(key): encoded(v, f"{name}/{key}", arrays) for key, v in value.items()}
    raise FitError(f"{name} is a {type(value).__name__}, which a saved fit cannot hold.")


def fields_encoded(value: Any, name: str, arrays: dict[str, np.ndarray]) -> dict:
    """The fields of a record."""
    return {field: encoded(getattr(value, field), f"{name}/{field}", arrays) for field in defaults_of(type(value))}


def decoded(saved: Any, arrays: dict[str, np.ndarray], record: type | None = None) -> Any:
    """The value that was saved; ``record`` is the class by which a record is read.

    Raises
    ------
    FitError
        JSON of another form, a missing array, or a record where none belongs.
    """
    if isinstance(saved, _PLAIN):
        return saved
    if isinstance(saved, dict):
        return {key: decoded(value, arrays, record) for key, value in saved.items()}
    kind, *rest = saved if isinstance(saved, list) and saved else [None]
    if kind in ("list", "tuple"):
        return (list if kind == "list" else tuple)(decoded(value, arrays, record) for value in rest)
    if kind == "array" and len(rest) == 1 and isinstance(rest[0], str):
        if rest[0] not in arrays:
            raise FitError(f"the array {rest[0]!r} is missing")
        if arrays[rest[0]].dtype.kind not in "fiub":
            raise FitError(f"the array {rest[0]!r} holds {arrays[rest[0]].dtype}")
        return arrays[rest[0]]
    if kind == "record" and len(rest) == 1 and record is not None:
        return record_decoded(record, rest[0], arrays)
    raise FitError(f"{str(saved)[:60]!r} is no value of a saved fit")


def record_decoded(kind: type, saved: Any, arrays: dict[str, np.ndarray]) -> Any:
    """A record of the class ``kind`` from its saved fields, each of the kind of its default.

    Raises
    ------
    FitError
        A field that the class does not have, or a value of another kind than the default's.
    """
    defaults = defaults_of(kind)
    if not isinstance(saved, dict) or not saved.keys() <= defaults.keys():
        raise FitError(f"the fields of {kind.__name__} are {str(saved)[:60]}; it has {', '.join(defaults)}")
    values = {name: decoded(value, arrays, record_of(kind, name)) for name, value in saved.items()}
    for name, value in values.items():
        default = defaults[name]
        if default is not dataclasses.MISSING and default is not None and not of_kind(value, default):
            raise FitError(f"the option {name} of {kind.__name__} is {value!r}")
    return kind(**values)


def defaults_of(kind: type) -> dict[str, Any]:
    """The fields of a record's class, with their defaults (MISSING where there is none)."""
    if dataclasses.is_dataclass(kind):
        return {f.name: f.default for f in dataclasses.fields(kind)}
    return {name: kind._field_defaults.get(name, dataclasses.MISSING) for name in kind._fields}


def record_of(kind: type, name: str) -> type | None:
    """The class of the records that a field holds, or holds many of: that of its default, or the one it is declared with."""
    default = defaults_of(kind)[name]
    if _is_record(type(default)):
        return type(default)
    try:
        hint = typing.get_type_hints(kind).get(name)
    except Exception:  # names that are there for type checkers only
        return None
    return next((found for found in _types_in(hint) if _is_record(found)), None)


def _types_in(hint: Any) -> list[type]:
    inside = [found for part in typing.get_args(hint) for found in _types_in(part)]
    return [hint, *inside] if isinstance(hint, type) else inside


def _is_record(kind: type) -> bool:
    return dataclasses.is_dataclass(kind) or (issubclass(kind, tuple) and hasattr(kind, "_fields"))


def of_kind(value: Any, default: Any) -> bool:
    """Whether a value can stand where the default stands: a number for a number, a tuple of such for a tuple."""
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    if isinstance(default, int | float):
        whole = isinstance(value, int) or isinstance(default, float)
        return isinstance(value, int | float) and whole and (math.isfinite(value) or math.isinf(default))
    if isinstance(default, tuple) and default and not hasattr(default, "_fields"):
        return isinstance(value, tuple) and all(of_kind(one, default[0]) for one in value)
    return isinstance(value, type(default))
