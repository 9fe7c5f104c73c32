"""Published population models, one per file, each with its reference, population, units and the origin of every number.

>>> import nlme
>>> nlme.models.find("vancomycin")  # doctest: +SKIP
>>> from nlme.models.vancomycin import Vancomycin
>>> nlme.describe(Vancomycin())  # doctest: +SKIP

What is known of a model stands in the docstring of its file: the sections Reference, Population, Units and Words (what it is
found by: the drug first, then its class, its ATC code, its structure) and a table of where each number came from.
"""

from __future__ import annotations

import ast
import functools
import importlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

from nlme.errors import ModelError

if TYPE_CHECKING:
    import pandas as pd

    from nlme.language.model import Model

_FOLDER = Path(__file__).parent
_SECTION = re.compile(r"^(Reference|Population|Units|Words)$", re.MULTILINE)
COLUMNS = ("drug", "structure", "population", "reference", "words", "import")


def names() -> tuple[str, ...]:
    """Names of the models: the files of this folder."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.py") if path.stem != "__init__"))


def sections(name: str) -> dict[str, str]:
    """The sections of a model's docstring, by their titles, each as one line; ``title`` is its first line.

    Raises
    ------
    ModelError
        No model of that name.
    """
    return dict(_read(name)[0])


def catalogue() -> pd.DataFrame:
    """All models: indexed by name, columns drug, structure, population, reference, words and how it is imported.

    No model is imported for it.
    """
    import pandas as pd

    return pd.DataFrame([_row(name) for name in names()], index=pd.Index(names(), name="name"), columns=list(COLUMNS))


def find(words: str) -> pd.DataFrame:
    """The models that have every one of ``words``, or what begins so: drug, class, ATC code, structure, population.

    >>> nlme.models.find("antibody two compartments")  # doctest: +SKIP

    Raises
    ------
    ModelError
        None has them; the message lists the drugs that there are.
    """
    asked = re.findall(r"[\w-]+", str(words).lower())
    table = catalogue()
    text = table.index + " " + table[["structure", "population", "words"]].agg(" ".join, axis=1)
    keep = [bool(asked) and all(re.search(rf"(?<!\w){re.escape(word)}", row.lower()) for word in asked) for row in text]
    if not any(keep):
        raise ModelError(f"No published model for {words!r}. nlme.models has: {', '.join(sorted(set(table['drug'])))}.")
    return table[keep]


def load(name: str) -> type[Model]:
    """The model's class: ``nlme.models.load("vancomycin")`` is ``nlme.models.vancomycin.Vancomycin``.

    Raises
    ------
    ModelError
        No model of that name.
    """
    _, model = _read(name)
    return getattr(importlib.import_module(f"{__name__}.{name}"), model)


def _row(name: str) -> dict[str, str]:
    said, model = _read(name)
    head, _, structure = said["title"].rstrip(".").partition(": ")
    return {
        "drug": said["Words"].split(",")[0],
        "structure": structure or head,
        "population": said["Population"],
        "reference": said["Reference"],
        "words": said["Words"],
        "import": f"from nlme.models.{name} import {model}",
    }


@functools.cache
def _read(name: str) -> tuple[dict[str, str], str]:
    """(sections of a file's docstring, name of its model), from the text of the file."""
    if name not in names():
        raise ModelError(f"No published model named {name!r}. nlme.models has: {', '.join(names())}.")
    tree = ast.parse((_FOLDER / f"{name}.py").read_text(encoding="utf-8"))
    said = (ast.get_docstring(tree) or "").split("\n| ")[0]
    title, *rest = _SECTION.split(said)
    found = {"title": title.split("\n\n")[0]}
    found |= {key: " ".join(text.split()) for key, text in zip(rest[::2], rest[1::2], strict=True)}
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    return found, next(node.name for node in classes if "nlme.Model" in map(ast.unparse, node.bases))
