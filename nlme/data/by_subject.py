"""What is given for each subject: in a mapping by ID, by a function of the subject, or the same for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nlme.errors import DataError


def by_id(caller: str, values: Mapping | Any, ids: Sequence[int | str]) -> list:
    """What a mapping, Series or DataFrame by ID has for every subject; text matches a number that is written the same, as in
    ``population["17"]``.

    Raises
    ------
    DataError
        A subject without values, or with two rows.
    """
    if not isinstance(values, Mapping):
        if not values.index.is_unique:
            raise DataError(f"{caller}: subject {values.index[values.index.duplicated()][0]!r} has two rows.")
        values = dict(zip(values.index, values.to_numpy(), strict=True))
    known = {str(key): row for key, row in values.items()}
    missing = [person for person in ids if str(person) not in known]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataError(
            f"{caller}: nothing is given for subject {missing[0]!r}{more}; what is given has the IDs "
            f"{', '.join(list(known)[:5]) or 'of nobody'}{' ...' if len(known) > 5 else ''}."
        )
    return [known[str(person)] for person in ids]


def for_each(caller: str, given: Any, subjects: Sequence) -> list:
    """What is given for every subject: by ID, by a function of the subject, or the same for all.

    Raises
    ------
    DataError
        As :func:`by_id`.
    """
    if callable(given):
        return [given(s) for s in subjects]
    return by_id(caller, given, [s.id for s in subjects]) if isinstance(given, Mapping) else [given] * len(subjects)
