"""What a model does, as a digest: the bytecode of its functions and the value of everything that these reach.

Beside the class's own text a model rests on constants and helpers of its file, of other files of the user's, on what it was made with
inside a function (closures, defaults), and on settings of its instance.  Whoever compares two models by their class alone takes one for
another when such a thing has changed: a checkpoint goes on with it, a compiled program of the old one answers for the new one, a saved
fit is shown with predictions that are not its own.

What can be installed (Python's library, packages, this library) goes by its name: versions say what it is.
"""

from __future__ import annotations

import dataclasses
import dis
import functools
import hashlib
import re
import site
import sys
import sysconfig
import types
import weakref
from pathlib import Path
from typing import Any

import jax
import numpy as np

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_LIBRARIES = tuple(
    {
        str(Path(folder).resolve())
        for folder in (
            *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
            *site.getsitepackages(),
            site.getusersitepackages(),
            Path(__file__).parent.parent,
        )
    }
)
_BY_VALUE = tuple, frozenset, np.ndarray, jax.Array, types.CodeType
_known: weakref.WeakKeyDictionary[type, str] = weakref.WeakKeyDictionary()  # class -> what it did when its programs were compiled


def digest_of(value: Any) -> str:
    """The digest of a model (its parameters' values with it), of a model's class, or of anything that a model may hold.

    Equal in every process of one version of Python; bytecode is another in the next.
    """
    told = hashlib.sha256()
    for piece in _Walk().pieces(value):
        told.update(piece.encode() + b"\n")
    return told.hexdigest()


def behaviour_of(model: Any) -> str:
    """The digest of what a model does whatever its numbers are: of its class, those of its parts, and functions among its settings."""
    return digest_of(tuple(_kinds(model)))


def forget_changed(model: Any) -> None:
    """Let no compiled program answer for a model whose functions do something else since: these are known by their class."""
    now = behaviour_of(model)
    if _known.setdefault(type(model), now) != now:
        _known[type(model)] = now
        jax.clear_caches()


def _kinds(part: Any):
    yield type(part)
    for field in dataclasses.fields(part):
        value = getattr(part, field.name)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            yield from _kinds(value)
        elif isinstance(value, types.FunctionType):
            yield value


class _Walk:
    """One walk over what a value reaches, every function, class and object once."""

    def __init__(self):
        self._seen: dict[int, tuple[int, Any]] = {}  # id -> its number, and the object, so that the id stays its own

    def pieces(self, value: Any):
        if value is None or isinstance(value, bool | int | float | complex | str | bytes | np.generic):
            yield f"{type(value).__name__} {value!r}"
            return
        if not isinstance(value, _BY_VALUE):  # whether equal ones are one object differs from process to process
            if id(value) in self._seen:
                yield f"again {self._seen[id(value)][0]}"
                return
            self._seen[id(value)] = len(self._seen), value
        yield from self._of(value)

    def _of(self, value: Any):
        if isinstance(value, jax.core.Tracer):
            yield f"traced {value.aval}"
        elif isinstance(value, np.ndarray | jax.Array):
            yield f"array {value.shape} {value.dtype} {hashlib.sha256(np.asarray(value).tobytes()).hexdigest()}"
        elif isinstance(value, types.ModuleType):
            yield f"module {value.__name__}"
        elif isinstance(value, types.CodeType):
            yield from self._code(value)
        elif isinstance(value, type):
            if _installed(value.__module__):
                yield f"class {value.__module__}.{value.__qualname__}"
            else:  # whatever the name under which its file was read
                yield f"class {value.__qualname__}"
                yield from self._class(value)
        elif isinstance(value, types.FunctionType):
            if _installed(value.__module__):
                yield f"function {value.__module__}.{value.__qualname__}"
            else:
                yield f"function {value.__qualname__}"
                yield from self._function(value)
        elif isinstance(value, types.MethodType | functools.partial | property | classmethod | staticmethod):
            for name in ("__func__", "__self__", "func", "args", "keywords", "fget"):
                yield from self.pieces(getattr(value, name, None))
        elif isinstance(value, dict):
            for key, one in value.items():
                yield from self.pieces(key)
                yield from self.pieces(one)
        elif isinstance(value, list | tuple):
            yield f"{type(value).__name__} {len(value)}"
            for one in value:
                yield from self.pieces(one)
        elif isinstance(value, set | frozenset):
            yield f"set {sorted(map(repr, value))}"
        elif dataclasses.is_dataclass(value):
            yield from self.pieces(type(value))
            for field in dataclasses.fields(value):
                yield field.name
                yield from self.pieces(getattr(value, field.name, None))
        else:
            wrapped = getattr(value, "__wrapped__", None)  # what jax.jit makes of a function
            own = not _installed(type(value).__module__) and hasattr(value, "__dict__")
            yield type(value).__qualname__
            if wrapped is not None:
                yield from self.pieces(wrapped)
            elif own:
                yield from self.pieces((type(value), vars(value)))
            else:
                yield _ADDRESS.sub("", repr(value))

    def _class(self, kind: type):
        for base in kind.__mro__:
            if _installed(base.__module__):
                yield f"class {base.__module__}.{base.__qualname__}"
                continue
            for name in sorted(vars(base)):
                if not name.startswith("_") or name == "__post_init__":
                    yield name
                    # through the class, which takes Equinox's wrapping off its methods
                    yield from self.pieces(getattr(base, name, None))

    def _function(self, function: types.FunctionType):
        yield from self.pieces(function.__defaults__)
        yield from self.pieces(function.__kwdefaults__)
        for cell in function.__closure__ or ():
            try:
                yield from self.pieces(cell.cell_contents)
            except ValueError:  # not filled yet
                yield "empty"
        yield from self._code(function.__code__, function.__doc__)
        taken, attributes = _names(function.__code__)
        for name in sorted(taken & function.__globals__.keys()):
            value = function.__globals__[name]
            yield name
            yield from self.pieces(value)
            if isinstance(value, types.ModuleType) and not _installed(value.__name__):
                for attribute in sorted(attributes & vars(value).keys()):
                    yield attribute
                    yield from self.pieces(vars(value)[attribute])

    def _code(self, code: types.CodeType, documentation: str | None = None):
        yield f"code {code.co_code.hex()} {code.co_names} {code.co_freevars}"
        for constant in code.co_consts:
            if documentation is None or constant != documentation:
                yield from self.pieces(constant)


@functools.lru_cache(maxsize=1024)
def _names(code: types.CodeType) -> tuple[frozenset[str], frozenset[str]]:
    """The global names that a function takes, with the functions inside of it, and the attributes of whatever."""
    taken, attributes = set(), set()
    for step in dis.get_instructions(code):
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            taken.add(step.argval)
        elif step.opname in ("LOAD_ATTR", "LOAD_METHOD"):
            attributes.add(step.argval)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            inner = _names(constant)
            taken |= inner[0]
            attributes |= inner[1]
    return frozenset(taken), frozenset(attributes)


@functools.cache
def _installed(module: str | None) -> bool:
    """Whether a module is Python's, a package's or this library's, which do not change under a program."""
    found = sys.modules.get(module or "builtins")
    file = getattr(found, "__file__", None)
    if found is None or module == "__main__":
        return False
    if file is None:
        return module in sys.builtin_module_names
    return any(Path(file).resolve().is_relative_to(folder) for folder in _LIBRARIES)
