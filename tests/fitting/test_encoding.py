"""Whatever a fit may hold goes to JSON and arrays and comes back as it was."""

from __future__ import annotations

import dataclasses
import json
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nlme.errors import FitError
from nlme.fitting.encoding import decoded, encoded, record_decoded


class Pair(NamedTuple):
    first: float
    many: tuple[int, ...] = (1,)


@dataclasses.dataclass(frozen=True)
class Inner:
    size: int = 3
    weights: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Outer:
    inner: Inner = Inner()
    told: Pair | None = None
    each: tuple[Inner, ...] = ()
    level: float = 0.5
    words: str = "a"
    flag: bool = False


def _round(value, record=None):
    arrays = {}
    text = json.dumps(encoded(value, "x", arrays))
    return decoded(json.loads(text), arrays, record), arrays


plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
trees = st.recursive(
    plain, lambda x: st.lists(x, max_size=3) | st.tuples(x, x) | st.dictionaries(st.text(max_size=4), x, max_size=3), max_leaves=8
)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(value=trees)
def test_plain_values_in_lists_tuples_and_dicts(value):
    assert _round(value)[0] == value


def test_records_inside_records_and_arrays_beside_them():
    value = Outer(Inner(4, np.arange(3.0)), Pair(2.5, (7, 8)), (Inner(1), Inner(2, np.eye(2))), level=2)
    again, arrays = _round(value, Outer)
    assert again.told == value.told and isinstance(again.told, Pair) and again.inner.size == 4 and again.level == 2
    np.testing.assert_array_equal(again.inner.weights, np.arange(3.0))
    assert [one.size for one in again.each] == [1, 2] and all(isinstance(one, Inner) for one in again.each)
    assert sorted(arrays) == ["x/each/1/weights", "x/inner/weights"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [({"nothing": 1}, "it has inner, told"), ({"level": "high"}, "level of Outer is 'high'"), ({"level": True}, "level"), ({"flag": 1}, "flag"),
     ({"words": None}, "words"), ({"inner": 3}, "inner"), ({"level": float("nan")}, "nan"), (3, "fields of Outer are 3"),
     ({"inner": ["record", {"size": 1.5}]}, "size of Inner is 1.5"), ({"words": ["array", "gone"]}, "'gone' is missing")],
)  # fmt: skip
def test_fields_of_another_kind_are_refused(fields, words):
    with pytest.raises(FitError, match=words):
        record_decoded(Outer, fields, {})


@pytest.mark.parametrize("value", [print, object(), np.array(["a"]), np.array([1j]), {"a": {1, 2}}])
def test_what_no_file_can_hold_is_named(value):
    with pytest.raises(FitError, match="x"):
        encoded(value, "x", {})
