"""Values as bytes for another process, models of a script or notebook included.

What can be imported goes by its name, everything else (a class of ``__main__``, one made inside a function, a lambda) by value, as
cloudpickle does.  A class of Equinox's registers the fields that it is made with as a pytree, so that it cannot be filled in afterwards
as other classes are: it is made anew from its own declarations, once in each process however often it is sent.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import sys
import types
import uuid
import weakref
from importlib.machinery import PathFinder
from typing import Any

import cloudpickle
import equinox as eqx

from nlme.digest import GENERATED, digest_of, forget_changed, installed, of_dataclass
from nlme.errors import FitError

_KEPT = 8  # works that a process keeps

_sent: weakref.WeakKeyDictionary[type, str] = weakref.WeakKeyDictionary()  # class -> the name under which it travels
_received: weakref.WeakValueDictionary[str, type] = weakref.WeakValueDictionary()


Named = tuple[tuple[str, str, str], ...]  # (module, name, digest)


def packed(value: Any) -> bytes:
    """``value`` as bytes.

    Raises
    ------
    FitError
        Something in it cannot be sent (an open file, a lock, a device).
    """
    return _dumped(value)[0]


def packed_with_names(value: Any) -> tuple[bytes, Named]:
    """``packed``, and the classes and functions of the user's that it only names, for the other process has them."""
    parcel, named = _dumped(value)
    return parcel, tuple((*name, digest_of(one)) for name, one in sorted(named.items()))


def _dumped(value: Any) -> tuple[bytes, dict[tuple[str, str], Any]]:
    buffer = io.BytesIO()
    pickler = _Pickler(buffer)
    try:
        pickler.dump(value)
    except Exception as error:  # whatever the parts of a user's model say
        raise FitError(
            f"This cannot be sent to another process: {error}. A model may hold numbers, text and functions; without executor= all "
            "is done in this process."
        ) from None
    return buffer.getvalue(), pickler.named


def unpacked(parcel: bytes) -> Any:
    """What ``packed`` was given.

    Raises
    ------
    FitError
        A module that is not here.
    """
    try:
        return cloudpickle.loads(parcel)
    except (ImportError, AttributeError) as error:
        raise FitError(
            f"A worker cannot read what it is to do: {error}. The file that defines the model must be importable there: install it, "
            "set PYTHONPATH, or (Dask) client.upload_file('my_model.py')."
        ) from None


@functools.lru_cache(maxsize=_KEPT)
def kept(parcel: bytes, named: Named) -> Any:
    """What ``packed_with_names`` was given, the same object each time, so that what was compiled for it serves again.

    Raises
    ------
    FitError
        A class or function that it only names does something else here.
    """
    value = unpacked(parcel)
    for module, name, digest in named:
        here: Any = sys.modules[module]
        for part in name.split("."):
            here = getattr(here, part)
        if digest_of(here) != digest:
            raise FitError(
                f"executor=: a worker has another {name} of {module}, read before that file was changed, or from another copy of it. "
                "Begin with new workers (a new pool; client.restart()), and the same file on each machine."
            )
    for kind in list(_received.values()):  # sent again they may do something else than before
        forget_changed(kind)
    return value


class _Pickler(cloudpickle.Pickler):
    """Cloudpickle's, with classes of Equinox's made anew.

    ``named`` are the classes and functions of the user's that went by their names.
    """

    def __init__(self, file):
        super().__init__(file)
        self.named: dict[tuple[str, str], Any] = {}

    def reducer_override(self, obj):
        if isinstance(obj, type) and issubclass(obj, eqx.Module) and not _importable(obj):
            return _parts_of(obj)
        found = super().reducer_override(obj)
        if isinstance(obj, type | types.FunctionType) and not installed(obj.__module__) and not isinstance(found, tuple):
            self.named[obj.__module__, obj.__qualname__] = obj
        return found


def _importable(kind: type) -> bool:
    """Whether another process finds a class by its name: not in a script, nor in a module that was made of a text or read from a
    file that is not on Python's path."""
    if kind.__module__ == "__main__":
        return False
    if PathFinder.find_spec(kind.__module__.split(".")[0]) is None:
        if (module := sys.modules.get(kind.__module__)) is not None:
            cloudpickle.register_pickle_by_value(module)  # its functions, too
        return False
    found: Any = sys.modules.get(kind.__module__)
    for part in kind.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is kind


def _parts_of(kind: type) -> tuple:
    """How pickle makes a class again: its declarations first, then what may speak of the class itself."""
    own = vars(kind)
    annotations = own.get("__annotations__", {})
    declared = {name: _declaration(field) for name, field in kind.__dataclass_fields__.items() if name in annotations}
    head = {
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        "__doc__": kind.__doc__,
        "__annotations__": annotations,
    }
    generated = {*GENERATED, *declared, *(["__init__"] if of_dataclass(own.get("__init__")) else [])}
    rest = {name: value for name, value in own.items() if name not in generated}
    name = _sent.setdefault(kind, uuid.uuid4().hex)
    _received[name] = kind
    return _received_class, (name, kind.__name__, kind.__bases__, head, declared, "__init__" in rest), rest, None, None, _complete


def _declaration(field: dataclasses.Field) -> tuple[str, Any, Any, dict]:
    """What a field was declared with."""
    if field.default is not dataclasses.MISSING:
        return "default", field.default, field.init, dict(field.metadata)
    if field.default_factory is not dataclasses.MISSING:
        return "default_factory", field.default_factory, field.init, dict(field.metadata)
    return "", None, field.init, dict(field.metadata)


def _made(name: str, bases: tuple, head: dict, declared: dict, initialised: bool) -> type:
    fields = {
        field: dataclasses.field(init=init, metadata=metadata, **({kind: value} if kind else {}))
        for field, (kind, value, init, metadata) in declared.items()
    }
    if initialised:  # its own follows; that there is one decides what Equinox makes of the class
        fields["__init__"] = lambda self, *args, **options: None
    return types.new_class(name, bases, {}, lambda space: space.update(head | fields))


def _received_class(tracker: str, *parts) -> type:
    if (known := _received.get(tracker)) is None:
        known = _received[tracker] = _made(*parts)
        _sent[known] = tracker
    return known


def _complete(kind: type, rest: dict[str, Any]) -> None:
    for name, value in rest.items():
        type.__setattr__(kind, name, value)
