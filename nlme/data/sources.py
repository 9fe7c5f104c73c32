"""From a file or a DataFrame to cells: a table whose columns stand in file order and whose rows are still as written."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nlme.data.files import text_of
from nlme.data.numerals import as_text
from nlme.data.tables import clean_name, comment_test, fault, no_records, read_table
from nlme.data.violations import Violation
from nlme.errors import DataError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Cells:
    """The cells of a source, the row number of each of its rows, its name for messages, and what is wrong with its shape."""

    table: pd.DataFrame
    rows: np.ndarray
    name: str
    faults: tuple[Violation, ...] = ()
    attrs: dict = field(default_factory=dict)


def read_cells(
    data: Any,
    known: Collection[str] = (),
    separator: str | None = None,
    skip: int | None = None,
    ignore: str | None = None,
    encoding: str | None = None,
) -> Cells:
    """The cells of a path or a DataFrame, without comments (rows that begin with #, or with ``ignore``).

    Raises
    ------
    DataError
        No such file, a file that is no text, or an object that is neither.
    """
    import pandas as pd

    if isinstance(data, pd.DataFrame):
        for argument, value in (("skip", skip), ("separator", separator), ("encoding", encoding)):
            if value is not None:
                raise DataError(f"{argument}={value!r} says how a file is read; a DataFrame has been read already.")
        return _of_frame(data, ignore)
    if not isinstance(data, (str, os.PathLike)):
        raise DataError(f"A data set is the path of a file or a pandas DataFrame, not {type(data).__name__}.")
    path = Path(data)
    found = read_table(text_of(path, encoding), known, separator, skip, ignore)
    if found.faults:
        return Cells(pd.DataFrame(columns=found.names), np.zeros(0, dtype=int), path.name, tuple(found.faults))
    table = pd.DataFrame(dict(enumerate(map(list, zip(*found.rows, strict=True)))), dtype=object)
    table.columns = found.names
    return Cells(table, np.array(found.numbers), path.name)


def _of_frame(data: pd.DataFrame, ignore: str | None) -> Cells:
    """ID or TIME may have been put into the index; what has no name there is no column."""
    frame, faults = data.reset_index(drop=True), []
    taken = {clean_name(c).upper(): i for i, c in enumerate(data.columns)}
    for level, name in reversed(list(enumerate(data.index.names))):
        values = _series(data.index.get_level_values(level).array)
        twin = taken.get(clean_name(name).upper())
        if name is not None and twin is None:
            frame.insert(0, name, values)
        elif name is not None and not as_text(values)[0].equals(as_text(frame.iloc[:, twin - len(data.columns)])[0]):
            seen = f"{name} is a level of the index and a column, with other values"
            faults.append(fault("unclear column", f"column {name} is not clear", seen, "keep one: frame.reset_index(drop=True)."))
    names = [" ".join(str(part) for part in c if str(part)) if isinstance(c, tuple) else clean_name(c) for c in frame.columns]
    frame.columns = [(n if i > 1 else clean_name(n.lstrip("#@"))) or f"(column {i})" for i, n in enumerate(names, start=1)]
    rows = np.arange(1, len(frame) + 1)
    if len(frame) and len(frame.columns) and frame.dtypes.iloc[0].kind not in "biuf":
        comment = as_text(frame.iloc[:, 0])[0].map(comment_test(ignore)).to_numpy(dtype=bool)
        frame, rows = frame[~comment], rows[~comment]
    if not len(frame):
        faults.append(no_records())
    return Cells(frame, rows, "the data frame", tuple(faults), dict(data.attrs))


def _series(values) -> pd.Series:
    import pandas as pd

    return pd.Series(values)
