"""Features: what is known of a subject once, as an array of any shape: a gene-expression vector, an image, an embedding."""

from __future__ import annotations

import keyword
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from nlme.data.by_subject import by_id
from nlme.errors import DataError


def features_by_subject(name: str, values: Any, ids: Sequence[int | str], taken: Collection[str]) -> list[np.ndarray]:
    """One array for each subject, all of one shape, from rows in the order of ``ids`` or from a mapping, Series or DataFrame by ID.

    Raises
    ------
    DataError
        A name that is taken or that no model could write, another number of rows, a subject without values, arrays of different
        shapes, one number for each subject, values that are no numbers or not finite.
    """
    if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name):
        raise DataError(f"with_features: a model reads the features as cov.NAME, and {name!r} is no name.")
    if name in taken:
        raise DataError(f"with_features: {name!r} is a covariate of these data already; give the features another name.")
    keyed = isinstance(values, Mapping) or hasattr(values, "iloc")
    rows = by_id(f"with_features({name!r})", values, ids) if keyed else _in_order(name, values, ids)
    found = [_numbers(name, person, row) for person, row in zip(ids, rows, strict=True)]
    shapes = {row.shape for row in found}
    if len(shapes) > 1:
        other = next(k for k, row in enumerate(found) if row.shape != found[0].shape)
        raise DataError(
            f"with_features({name!r}): every subject needs an array of the same shape; subject {ids[0]!r} has {found[0].shape} and "
            f"subject {ids[other]!r} has {found[other].shape}."
        )
    if () in shapes:
        raise DataError(
            f"with_features({name!r}): one number for each subject is a covariate: put it into the data as a column, and read them "
            f"with covariates=[..., {name!r}]."
        )
    return found


def _in_order(name: str, values: Any, ids: Sequence) -> Sequence:
    if not hasattr(values, "__len__") or isinstance(values, str):
        raise DataError(
            f"with_features({name!r}): the features are an array with one row for each subject, or a mapping by ID; got {values!r}."
        )
    if len(values) != len(ids):
        raise DataError(
            f"with_features({name!r}): {len(values)} rows for {len(ids)} subjects; one is needed for each, in the order of "
            f"population.ids, or give a dict, Series or DataFrame by ID."
        )
    return values


def _numbers(name: str, person: int | str, row: Any) -> np.ndarray:
    try:
        row = np.asarray(row)
        found = row.astype(np.float64) if row.dtype.kind in "fiub" else np.array(row.tolist(), dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(f"with_features({name!r}): subject {person!r} has values that are no numbers: {str(row)[:60]}.") from None
    bad = np.argwhere(~np.isfinite(found))
    if len(bad):
        where = ", ".join(map(str, bad[0]))
        raise DataError(
            f"with_features({name!r}): subject {person!r} has {len(bad)} value{'s' if len(bad) > 1 else ''} missing or infinite, the "
            f"first at [{where}]; a network has no answer for what is not known. Impute them, or leave the subject out."
        )
    found.flags.writeable = False
    return found


def packed_features(features: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The features of all subjects as arrays to be stored, ``features/NAME`` (N, ...)."""
    return {f"features/{name}": np.stack([own[name] for own in features]) for name in (features[0] if features else ())}


def unpacked_features(arrays: Mapping[str, np.ndarray], n: int) -> list[dict[str, np.ndarray]]:
    """The features of n subjects, from what ``packed_features`` made of them.

    Raises
    ------
    DataError
        Arrays of another length, or with something that is no finite number.
    """
    found: list[dict[str, np.ndarray]] = [{} for _ in range(n)]
    for key, values in arrays.items():
        name = key.removeprefix("features/")
        if name == key:
            continue
        if values.dtype != np.float64 or values.ndim < 2 or len(values) != n or not np.isfinite(values).all():
            raise DataError(f"{key} has shape {values.shape} for {n} subjects, or holds what is no finite number")
        for own, row in zip(found, values, strict=True):
            own[name] = row
    return found
