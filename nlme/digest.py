"""What a model does, as a digest: the bytecode of its functions and the value of everything that these reach.

Beside the class's own text a model rests on constants and helpers of its file, of other files of the user's, on what it was made with
inside a function (closures, defaults), and on settings of its instance.  Whoever compares two models by their class alone takes one for
another when such a thing has changed: a checkpoint goes on with it, a compiled program of the old one answers for the new one, a saved
fit is shown with predictions that are not its own.

What can be installed (Python's library, packages, this library) goes by its name: versions say what it is.  An object of an installed
class goes by what pickle would keep of it.  A file that a function opens is not seen.
"""

from __future__ import annotations

import dataclasses
import dis
import functools
import hashlib
import importlib
import importlib.util
import platform
import re
import site
import sys
import sysconfig
import types
import weakref
from pathlib import Path
from typing import Any, NamedTuple

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
            Path(__file__).parent,
        )
    }
)
# attributes of a class that Python and dataclasses make anew of what stands in it
GENERATED = frozenset(
    "__module__ __qualname__ __doc__ __annotations__ _abc_impl __slotnames__ __static_attributes__ __dict__ __weakref__ "
    "__dataclass_fields__ __dataclass_params__ __match_args__ __replace__".split()
)
_MADE = GENERATED | frozenset(
    "__annotate__ __annotate_func__ __annotations_cache__ __slots__ __firstlineno__ __parameters__ __orig_bases__ __abstractmethods__ "
    "__abstractvars__ __abstractclassvars__".split()
)
_BY_VALUE = tuple, frozenset, np.ndarray, jax.Array, types.CodeType
# class -> what its models did, and it did itself, when programs were compiled for it
_known: weakref.WeakKeyDictionary[type, str] = weakref.WeakKeyDictionary()
_known_classes: weakref.WeakKeyDictionary[type, str] = weakref.WeakKeyDictionary()


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


def same_python(version: str) -> bool:
    """Whether digests made by this version of Python can be compared with those made here: bytecode is another in the next."""
    return version.split(".")[:2] == platform.python_version().split(".")[:2]


def of_dataclass(function: Any) -> bool:
    """Whether a function was written by ``dataclasses``."""
    return getattr(getattr(function, "__code__", None), "co_filename", "") == "<string>"


def forget_changed(model: Any) -> None:
    """Let no compiled program answer for a model (or the models of a class) whose functions do something else since: these are known by
    their class."""
    known, kind = (_known_classes, model) if isinstance(model, type) else (_known, type(model))
    now = behaviour_of(model) if known is _known else digest_of(model)
    if known.setdefault(kind, now) != now:
        known[kind] = now
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
        self._looked: set[tuple[str, frozenset[str]]] = set()  # modules, and which attributes of them

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
            yield f"array {value.shape} {value.dtype}"
            if jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
                value = jax.random.key_data(value)
            if value.dtype == object:  # whose bytes are addresses
                yield from self.pieces(value.ravel().tolist())
            else:
                yield hashlib.sha256(np.asarray(value).tobytes()).hexdigest()
        elif isinstance(value, types.ModuleType):
            yield f"module {value.__name__}"
        elif isinstance(value, types.CodeType):
            yield from self._code(value)
        elif isinstance(value, type):
            if installed(value.__module__):
                yield f"class {value.__module__}.{value.__qualname__}"
            else:  # whatever the name under which its file was read
                yield f"class {value.__qualname__}"
                yield from self._class(value)
        elif isinstance(value, types.FunctionType):
            if installed(value.__module__):
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
            own = not installed(type(value).__module__) and hasattr(value, "__dict__")
            yield type(value).__qualname__
            if wrapped is not None:
                yield from self.pieces(wrapped)
            elif own:
                yield from self.pieces((type(value), vars(value)))
            else:
                yield from self._kept(value)

    def _kept(self, value: Any):
        """What pickle keeps of an object; the words for it where it keeps nothing."""
        try:
            parts = value.__reduce_ex__(4)
        except Exception:  # a lock, an open file, a weak reference
            parts = _ADDRESS.sub("", repr(value))
        if isinstance(parts, str):
            yield parts
            return
        function, arguments, *rest = parts
        yield from self.pieces((function, arguments, *(list(x) if hasattr(x, "__next__") else x for x in rest)))

    def _class(self, kind: type):
        for base in kind.__mro__:
            if installed(base.__module__):
                yield f"class {base.__module__}.{base.__qualname__}"
                continue
            for field in vars(base).get("__dataclass_fields__", {}).values():  # where its parameters may lie
                domain = getattr(field.metadata.get("nlme"), "domain", None)
                if domain is not None:
                    yield from self.pieces((field.name, domain))
            for name in sorted(vars(base).keys() - _MADE):
                # through the class, which takes Equinox's wrapping off its methods
                value = getattr(base, name, None)
                if not of_dataclass(value):
                    yield name
                    yield from self.pieces(value)

    def _function(self, function: types.FunctionType):
        yield from self.pieces(function.__defaults__)
        yield from self.pieces(function.__kwdefaults__)
        own = _names(function.__code__)
        for cell in function.__closure__ or ():
            try:
                yield from self._reached(cell.cell_contents, own.attributes)
            except ValueError:  # not filled yet
                yield "empty"
        yield from self._code(function.__code__, function.__doc__)
        for name in sorted(own.taken & function.__globals__.keys()):
            yield name
            yield from self._reached(function.__globals__[name], own.attributes)
        for name, level in own.imported:
            yield name
            if (module := _found("." * level + name, function.__globals__.get("__package__"))) is not None:
                yield from self._reached(module, own.attributes)

    def _reached(self, value: Any, attributes: frozenset[str]):
        """A value that a function takes, which takes ``attributes`` of whatever: of a module of the user's, those."""
        if not isinstance(value, types.ModuleType) or installed(value.__name__):
            yield from self.pieces(value)
            return
        yield f"module {value.__name__}"
        if (key := (value.__name__, attributes)) in self._looked:
            return
        self._looked.add(key)
        for name in sorted(attributes & vars(value).keys()):
            yield name
            yield from self._reached(vars(value)[name], attributes)

    def _code(self, code: types.CodeType, documentation: str | None = None):
        yield f"code {code.co_code.hex()} {code.co_names} {code.co_freevars}"
        for constant in code.co_consts:
            if documentation is None or constant != documentation:
                yield from self.pieces(constant)


class _Names(NamedTuple):
    """What a function, with the functions inside of it, asks for: global names, attributes of whatever, and modules with the dots before
    their names."""

    taken: frozenset[str]
    attributes: frozenset[str]
    imported: tuple[tuple[str, int], ...]


@functools.lru_cache(maxsize=1024)
def _names(code: types.CodeType) -> _Names:
    taken, attributes, imported, steps = set(), set(), [], list(dis.get_instructions(code))
    for k, step in enumerate(steps):
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            taken.add(step.argval)
        elif step.opname in ("LOAD_ATTR", "LOAD_METHOD", "IMPORT_FROM"):
            attributes.add(step.argval)
        elif step.opname == "IMPORT_NAME":  # after its level and what is taken from it
            imported.append((step.argval, steps[k - 2].argval))
            attributes.update(step.argval.split(".")[1:])
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            inner = _names(constant)
            taken |= inner.taken
            attributes |= inner.attributes
            imported += inner.imported
    return _Names(frozenset(taken), frozenset(attributes), tuple(dict.fromkeys(imported)))


def _found(name: str, package: str | None) -> types.ModuleType | None:
    """A module of the user's that a function imports; None where it is installed, or cannot be read."""
    try:
        name = importlib.util.resolve_name(name, package)
        if name not in sys.modules:
            origin = getattr(importlib.util.find_spec(name), "origin", None)
            if origin is None or not Path(origin).is_file() or _of_library(origin):
                return None
        elif installed(name):
            return None
        return importlib.import_module(name)
    except Exception:  # of whatever stands in the file; what the function itself says of it is told when it is called
        return None


@functools.cache
def installed(module: str | None) -> bool:
    """Whether a module is Python's, a package's or this library's, which do not change under a program."""
    found = sys.modules.get(module or "builtins")
    file = getattr(found, "__file__", None)
    if found is None or module == "__main__":
        return False
    if file is None:
        return module in sys.builtin_module_names
    return _of_library(file)


def _of_library(file: str) -> bool:
    return any(Path(file).resolve().is_relative_to(folder) for folder in _LIBRARIES)
