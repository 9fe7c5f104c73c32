"""A model from a Python file that the user names."""

from __future__ import annotations

import hashlib
import importlib.util
import linecache
import sys
import time
import traceback
import types
from pathlib import Path

from nlme.errors import ModelError, NLMEError, name_error
from nlme.language.model import Model

_LIBRARY = Path(__file__).resolve().parent.parent
_BEGAN = time.time()  # a file of a model imports this library, and was read by Python after it was written last
_run_here: dict[str, tuple[types.ModuleType, bytes]] = {}  # name -> module, and what its file held


def load_model(where: str | Path) -> type[Model]:
    """The model class in a Python file.

    Parameters
    ----------
    where : "path/to/file.py", or "path/to/file.py:Name" to choose one of several

    Raises
    ------
    ModelError
        No such file, a file that does not run, no model in it, several and none chosen.
    """
    where = str(where)
    text, _, name = where.rpartition(":") if where.rpartition(":")[0].endswith(".py") else (where, "", "")
    path = Path(text)
    if not path.is_file():
        raise ModelError(f"There is no file {text!r}. Give the path of a Python file that defines a subclass of nlme.Model.")
    module = _run(path, text)
    found = {
        key: value
        for key, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, Model) and value.__module__ == module.__name__
    }
    if name:
        if name not in found:
            raise ModelError(name_error("model", name, found, text))
        return found[name]
    if not found:
        raise ModelError(f"{text} defines no subclass of nlme.Model. A model starts with:  class Name(nlme.Model):")
    if len(found) > 1:
        raise ModelError(f"{text} defines several models: {', '.join(found)}. Choose one, for example {text}:{next(iter(found))}")
    return next(iter(found.values()))


def class_in(text: str, name: str) -> type[Model]:
    """The model's class that a text of this library's own making defines."""
    place = f"nlme_written_{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    if place not in sys.modules:
        module = types.ModuleType(place)
        linecache.cache[f"<{place}>"] = (len(text), None, text.splitlines(True), f"<{place}>")
        sys.modules[place] = module  # dataclasses look a class up by the name of its module
        try:
            exec(compile(text, f"<{place}>", "exec"), module.__dict__)
        except BaseException:
            del sys.modules[place]
            raise
    return getattr(sys.modules[place], name)


def _run(path: Path, text: str):
    """The module of a file: the one that is at hand, where the file has not changed since; else it is run.

    Run again, its classes would be others than those of what was fitted before, which could be pickled no more.
    """
    _require_free_name(path, text)
    if (known := _at_hand(path)) is not None:
        return known
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ModelError(f"{text} is not a Python file (its name must end in .py).")
    module, before = importlib.util.module_from_spec(spec), sys.modules.get(path.stem)
    sys.modules[path.stem] = module  # dataclasses and pickle look a class up by the name of its module
    folder, content = str(path.parent.resolve()), path.read_bytes()
    sys.path.insert(0, folder)
    try:
        # never Python's kept bytecode, which takes a file of the same size, written in the same second, for the one before
        exec(spec.loader.source_to_code(content, str(path)), module.__dict__)
    except BaseException as error:  # a file may raise anything, SystemExit too
        del sys.modules[path.stem]
        if before is not None:
            sys.modules[path.stem] = before
        if isinstance(error, KeyboardInterrupt) or (isinstance(error, NLMEError) and not isinstance(error, ModelError)):
            raise
        raise ModelError(_why_not(text, error)) from error
    finally:
        if folder in sys.path:
            sys.path.remove(folder)
    _run_here[path.stem] = module, content
    return module


def _at_hand(path: Path):
    """The module that this file was read into before, by this library or by Python; None where it has changed since."""
    module = sys.modules.get(path.stem)
    place = getattr(module, "__file__", None)
    if place is None or not Path(place).is_file() or not path.samefile(place):
        return None
    if path.stem in _run_here and _run_here[path.stem][0] is module:
        return module if _run_here[path.stem][1] == path.read_bytes() else None
    return module if path.stat().st_mtime < _BEGAN else None


def _why_not(text: str, error: BaseException) -> str:
    """What kept a file from running, in words."""
    if isinstance(error, ModelError):
        return f"{error}\n{place_of(error).rpartition(chr(10))[2]}" if text not in str(error) else str(error)
    if isinstance(error, SyntaxError):
        line = f", line {error.lineno}" if error.lineno else ""
        return f"{text}{line}: {error.msg}\n    {(error.text or '').strip()}".rstrip()
    if isinstance(error, SystemExit):
        return (
            f"{text} ends Python (sys.exit({error.code!r})) while it is read. What a script does on its own belongs behind\n"
            f'    if __name__ == "__main__":\n{place_of(error).partition(chr(10))[2]}'.rstrip()
        )
    return f"{text} does not run.\n{place_of(error)}"


def _require_free_name(path: Path, text: str) -> None:
    """Refuse a file whose name is that of an installed module: Python would take the one for the other."""
    if path.stem in sys.stdlib_module_names or path.stem in ("__main__", "__init__", "nlme"):
        taken = True
    else:
        try:
            spec = importlib.util.find_spec(path.stem) if path.stem.isidentifier() else None
        except (ImportError, ValueError, AttributeError):
            spec = None
        origin = spec.origin if spec is not None else None
        taken = origin is not None and any(part in ("site-packages", "dist-packages") for part in Path(origin).parts)
    if taken:
        raise ModelError(
            f"{text} has the name of a module of Python's own or of an installed package ({path.stem}); rename the file."
        )


def place_of(error: BaseException) -> str:
    """'NameError: name 'jnp' is not defined (model.py, line 12)': the deepest place outside installed packages."""
    text = (f"{type(error).__name__}: {error}".splitlines() or [""])[0]
    library = str(_LIBRARY)
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if "site-packages" not in frame.filename and not frame.filename.startswith((library, "<", sys.base_prefix)):
            return f"{text}\n({frame.filename}, line {frame.lineno}: {frame.line})"
    return text
