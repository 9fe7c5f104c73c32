"""The class of a saved model by its name, without running anything but the file that is known to define it.

A name in a file is a stranger's word.  So the class is taken where it is loaded already; otherwise the file of its module is found
and *read*, and imported only if it imports this library and defines a class of that name.  Nothing is called.
"""

from __future__ import annotations

import ast
import importlib
import importlib.machinery
import re
import sys
from pathlib import Path
from typing import Any

from nlme.errors import ModelError
from nlme.language.model import Model

_MODULE = re.compile(r"[\w-]+(\.[\w-]+)*")


def class_named(module: str, name: str) -> type[Model] | None:
    """The model's class ``name`` of a module; None where there is none.

    Raises
    ------
    ModelError
        The module's file defines the class and does not run.
    """
    if not _MODULE.fullmatch(module) or not all(part.isidentifier() for part in name.split(".")):
        return None
    if module not in sys.modules:
        file = _file_of(module)
        if file is None or not _defines(file, name):
            return None
        try:
            importlib.import_module(module)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a module may raise anything, SystemExit too
            raise ModelError(
                f"{file.name}, which defines the model {name}, does not run: {type(error).__name__}: {error}"
            ) from None
    found: Any = sys.modules[module]
    for part in name.split("."):
        found = vars(found).get(part) if isinstance(found, type(sys) | type) else None
    return found if isinstance(found, type) and issubclass(found, Model) else None


def _file_of(module: str) -> Path | None:
    """The Python file of a module, found without importing it or the packages that it is in."""
    where, found = None, None
    parts = module.split(".")
    for k in range(len(parts)):
        loaded = sys.modules.get(".".join(parts[: k + 1]))
        if loaded is not None and hasattr(loaded, "__path__"):
            where = list(loaded.__path__)
            continue
        try:
            found = importlib.machinery.PathFinder.find_spec(".".join(parts[: k + 1]), where)
        except (ImportError, ValueError, OSError):
            return None
        if found is None:
            return None
        where = list(found.submodule_search_locations or ())
    file = Path(found.origin) if found is not None and found.origin else None
    return file if file is not None and file.suffix == ".py" and file.is_file() else None


def _defines(file: Path, name: str) -> bool:
    """Whether a file imports this library and defines a class, judged by its text."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return False
    roots = {alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    roots |= {(node.module or "").split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    here = tree
    for part in name.split("."):
        here = next((node for node in getattr(here, "body", ()) if isinstance(node, ast.ClassDef) and node.name == part), None)
        if here is None:
            return False
    return "nlme" in roots
