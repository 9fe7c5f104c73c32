"""A gallery of scientific machine learning: one system per file, its equations, and the numbers that a run is held against.

>>> import nlme
>>> nlme.models.science.names()  # doctest: +SKIP
>>> shown = nlme.models.science.run("robertson_dae", fast=True)  # doctest: +SKIP
>>> shown.table  # doctest: +SKIP

Every file has a docstring (equations, what is unknown, Reference) and a function ``run(fast)`` that returns a :class:`Shown`.
``python -m nlme.models.science [--fast] [--jobs n] [--out folder] [name ...]`` runs them and writes one page; so does ``make gallery``.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from nlme.errors import ModelError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_FOLDER = Path(__file__).parent


class Number(NamedTuple):
    """One number of a system.

    ``here`` is what this run gave, ``published`` the figure it is held against (the truth that made the data, or the source's),
    and ``low <= here <= high`` what passes.
    """

    quantity: str
    published: float
    here: float
    low: float
    high: float
    source: str = ""

    @property
    def passes(self) -> bool:
        return bool(self.low <= self.here <= self.high)


class Shown(NamedTuple):
    """What a system's run shows: its title, its numbers, a figure or none, and remarks (sentences)."""

    title: str
    numbers: tuple[Number, ...]
    figure: Figure | None = None
    remarks: tuple[str, ...] = ()

    @property
    def table(self) -> pd.DataFrame:
        """The numbers, a row each: quantity, published, here, low, high, passes, source."""
        import pandas as pd

        rows = [{**n._asdict(), "passes": n.passes} for n in self.numbers]
        return pd.DataFrame(rows, columns=["quantity", "published", "here", "low", "high", "passes", "source"])


def names() -> tuple[str, ...]:
    """Names of the systems: the files of this folder."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.py") if not path.stem.startswith("_")))


def run(name: str, fast: bool = False) -> Shown:
    """The system of that name, run; ``fast`` in some seconds, with fewer data or shorter training.

    Raises
    ------
    ModelError
        No system of that name.
    """
    if name not in names():
        raise ModelError(f"No system {name!r}. nlme.models.science has: {', '.join(names())}.")
    return importlib.import_module(f"{__name__}.{name}").run(fast)
