"""Whatever happened to a table: a sentence, or a population that is what stands in it; never anything else."""

from __future__ import annotations

import pickle
import warnings

import pandas as pd
import pytest
from damaged_tables import Damaged, contradictions, tables
from hypothesis import HealthCheck, given, settings

from nlme.data import DataWarning, check, read_nonmem
from nlme.errors import DataError


def outcome(call):
    """The value or the DataError of a call; any other exception, or a warning that is not about data, goes through."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", DataWarning)
        try:
            return call()
        except DataError as error:
            assert len(str(error)) > 20
            return error


def judge(made: Damaged, path) -> None:
    source = made.source
    if not isinstance(source, pd.DataFrame):
        path.write_bytes(source)
        source = path
    population = outcome(lambda: read_nonmem(source, **made.arguments))
    report = outcome(lambda: check(source, **made.arguments))
    if isinstance(population, DataError):
        assert isinstance(report, DataError) or not report.ok
        return
    assert report.ok
    assert contradictions(population, made) == []
    again = outcome(lambda: read_nonmem(population.to_frame()))
    assert again.hash == population.hash
    assert again == population
    assert pickle.loads(pickle.dumps(population)).hash == population.hash


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("damaged") / "trial.csv"


COMMON = {"deadline": None, "suppress_health_check": list(HealthCheck), "database": None}


@settings(max_examples=150, derandomize=True, **COMMON)
@given(made=tables())
def test_a_damaged_table_is_refused_in_words_or_read_as_it_stands(made, path):
    judge(made, path)


@pytest.mark.slow
@settings(max_examples=3_000, derandomize=True, **COMMON)
@given(made=tables())
def test_three_thousand_damaged_tables(made, path):
    judge(made, path)
