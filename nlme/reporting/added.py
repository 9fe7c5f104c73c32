"""What the user adds to a report: simulations and predictive checks, as figures, frames, and results that show themselves."""

from __future__ import annotations

import inspect
import numbers
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from nlme.errors import FitError
from nlme.reporting.blocks import Block, Picture, Table
from nlme.tables.numbers import significant
from nlme.tables.shown import Panel, Shown

LONGEST = 60  # rows of a frame that are printed


def named(
    given: Mapping[str, Any] | Iterable[Any] | None, argument: str, units: Mapping[str, str] | None = None
) -> dict[str, list[Block]]:
    """Title -> its blocks; of a list the titles are those of the results' own tables.  ``units`` go to the pictures that take them.

    Raises
    ------
    FitError
        Something that is no figure, no frame and shows neither table nor plot.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        if isinstance(given, str) or not isinstance(given, Iterable) or _drawn(given) or isinstance(given, pd.DataFrame):
            raise FitError(
                f"report: {argument}= takes a dict from title to figure or table, or a list; got {type(given).__name__}."
            )
        given = {_title(one, k): one for k, one in enumerate(given, 1)}
    return {str(title): _blocks(str(title), one, argument, units) for title, one in given.items()}


def _title(one, number: int) -> str:
    own = one._panels()[0].title if isinstance(one, Shown) else ""
    return own or f"{type(one).__name__} {number}"


def _drawn(one) -> bool:
    return hasattr(one, "savefig") and hasattr(one, "get_figwidth")


def _blocks(title: str, one, argument: str, units) -> list[Block]:
    if _drawn(one):
        return [Picture(one, title)]
    blocks: list[Block] = []
    if hasattr(one, "plot") and not isinstance(one, pd.DataFrame):
        takes = "units" in inspect.signature(one.plot).parameters
        blocks.append(Picture(one.plot(units=units) if takes else one.plot(), title))
    if isinstance(one, Shown):
        blocks += [Table(p._replace(title=title if p.title in ("", title) else f"{title}: {p.title}")) for p in one._panels()]
    elif isinstance(one, pd.DataFrame):
        blocks.append(Table(_panel(title, one)))
    if not blocks:
        raise FitError(
            f"report: {argument}[{title!r}] is {type(one).__name__}; a figure, a DataFrame, or a result with .plot() or a table "
            "can be shown."
        )
    return blocks


def _panel(title: str, frame: pd.DataFrame) -> Panel:
    """A frame as a table of text, its first rows where it is long."""
    shown = frame if isinstance(frame.index, pd.RangeIndex) else frame.reset_index()
    notes = [f"The first {LONGEST} of {len(shown):,} rows."] if len(shown) > LONGEST else []
    rows = [[_cell(value) for value in row] for row in shown.head(LONGEST).itertuples(index=False)]
    words = [k for k in range(shown.shape[1]) if not pd.api.types.is_numeric_dtype(shown.dtypes.iloc[k])]
    header = [" ".join(map(str, name)) if isinstance(name, tuple) else str(name) for name in shown.columns]
    return Panel(title, header, rows, notes, left=words)


def _cell(value) -> str:
    """Whole numbers as they are, others with four significant digits."""
    whole = isinstance(value, (str, bool)) or isinstance(value, numbers.Integral) or not isinstance(value, numbers.Real)
    return str(value) if whole else significant(float(value))
