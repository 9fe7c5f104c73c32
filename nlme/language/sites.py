"""Who shares random effects: the level above the subject (site, study, centre ...), as a column of the data says.

The column is a covariate or any other column of the file, numbers or text; every subject has one value of it.  Records that the
library made (``Population.with_times``) need none: a subject's other records say where it belongs.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from nlme.data.numerals import EXACT
from nlme.data.population import Population, Subject
from nlme.errors import DataError, name_error

_SHOWN = 5


@dataclasses.dataclass(frozen=True, eq=False)
class Sites:
    """The values of the column, in order, and which of them each subject has.

    Attributes
    ----------
    column : its name
    labels : the values
    of : (N,) position among them, of every subject
    """

    column: str
    labels: tuple[int | float | str, ...]
    of: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def sizes(self) -> np.ndarray:
        """(S,) how many subjects each site has."""
        return np.bincount(self.of, minlength=len(self.labels))

    @property
    def first(self) -> np.ndarray:
        """(S,) position of each site's first subject."""
        return np.unique(self.of, return_index=True)[1]


def sites_of(population: Population, column: str) -> Sites:
    """The sites of a population.

    Raises
    ------
    DataError
        There is no such column; it is missing, or changes, within a subject.
    """
    subjects = list(population)
    offered = [*population.covariates, *(subjects[0].extra if subjects else ())]
    if column not in offered:
        raise DataError(
            f"The model has random effects per {column!r}, and the data have no such column. "
            + name_error("column", column, offered, "Apart from NONMEM's own, the data")
        )
    values = [_values(subject, column, population) for subject in subjects]
    wrong = [(s, found) for s, found in zip(subjects, values, strict=True) if len(found) != 1]
    if wrong:
        listed = "; ".join(
            f"subject {s.id}: " + (f"not one value ({_few(found)})" if found else "missing") + _rows(s, column)
            for s, found in wrong[:_SHOWN]
        )
        more = f"; and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise DataError(
            f"The model has random effects per {column!r}, so that a subject has one value of that column. {listed}{more}."
        )
    own = [found[0] for found in values]
    labels = sorted(dict.fromkeys(own), key=lambda v: (isinstance(v, str), v))
    return Sites(column, tuple(labels), np.array([labels.index(v) for v in own]))


def _values(subject: Subject, column: str, population: Population) -> list:
    """The different values that a subject's records have; none if one of the file's records has none."""
    info = population.covariates.get(column)
    cells = subject.extra[column] if info is None else subject.covariates[column]
    known = [not _missing(cell) for cell in cells]
    if any(not k and row for k, row in zip(known, subject.rows, strict=True)):
        return []
    found = dict.fromkeys(_plain(cell) for cell, k in zip(cells, known, strict=True) if k)
    if info is not None and info.categories:
        return [info.categories[int(code)] for code in found]
    return list(found)


def _missing(cell) -> bool:
    return cell is None or cell != cell


def _plain(cell) -> int | float | str:
    """A value as a reader writes it: 3 rather than 3.0."""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, (int, np.integer)):
        return int(cell)
    number = float(cell)
    if abs(number) >= EXACT:
        raise DataError(
            f"The value {number:g} of a site has been rounded: read the column as text, so that no two sites become one."
        )
    return int(number) if number == int(number) else number


def _rows(subject: Subject, column: str) -> str:
    """Which rows of the file it is about."""
    cells = subject.extra[column] if column in subject.extra else subject.covariates[column]
    first = next((cell for cell in cells if not _missing(cell)), None)
    bad = [int(row) for cell, row in zip(cells, subject.rows, strict=True) if row and (_missing(cell) or cell != first)]
    return f", row{'s' if len(bad) > 1 else ''} {_few(bad)}" if bad else ""


def _few(values: list) -> str:
    return ", ".join(map(str, values[:_SHOWN])) + (" ..." if len(values) > _SHOWN else "")
