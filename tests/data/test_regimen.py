"""Regimens as values."""

from __future__ import annotations

import numpy as np
import pytest

from nlme.data import Population, Regimen, Subject, dose, read_nonmem
from nlme.errors import DataError

SUBJECT = Subject(1, [0, 1], dv=[1, 2], covariates={"wt": 70.0})


def test_a_repeated_dose_is_one_record():
    records = dose(100, into="depot").every(24, n=7).records(SUBJECT)
    assert (records["time"], records["amt"], records["ii"], records["addl"]) == ([0.0], [100.0], [24.0], [6])
    assert records["cmt_name"] == ["depot"]
    assert list(records["evid"]) == [1]


@pytest.mark.parametrize(
    ("regimen", "text"),
    [
        (dose(100), "dose(100)"),
        (dose(100, into=2, rate=10, time=3), "dose(100, into=2, rate=10, time=3)"),
        (dose(100, ss=True).every(12), "dose(100, ss=True).every(12, n=1)"),
        (dose(1).every(8, n=3) + dose(2, duration=1), "dose(1).every(8, n=3) + dose(2, duration=1)"),
    ],
)
def test_a_regimen_prints_as_it_is_written(regimen, text):
    assert repr(regimen) == text
    assert repr(eval(text)) == text


def test_sums_are_in_order_of_time_and_equal_by_value():
    regimen = dose(5, time=10) + dose(1)
    assert [d.time for d in regimen.doses] == [0, 10]
    assert regimen == dose(1) + dose(5, time=10)
    assert regimen.delayed(2) == dose(1, time=2) + dose(5, time=12)


def test_steady_state():
    records = dose(100, ss=True).every(12, n=4).records(SUBJECT)
    assert (records["ss"], records["ii"], records["addl"]) == ([1], [12.0], [3])
    with pytest.raises(DataError, match="needs its interval"):
        dose(100, ss=True).records(SUBJECT)
    assert dose(0, rate=10, ss=True).records(SUBJECT)["rate"] == [10.0]  # a constant infusion has no interval


def test_functions_of_the_subject():
    records = dose(lambda s: 5 * s.covariates["wt"][0], duration=lambda s: 2.0).records(SUBJECT)
    assert (records["amt"], records["duration"]) == ([350.0], [2.0])
    with pytest.raises(DataError, match="Subject 1: the amount of a dose must be positive, got 0"):
        dose(lambda s: 0).records(SUBJECT)
    with pytest.raises(DataError, match="finite"):
        dose(lambda s: np.nan).records(SUBJECT)


def test_modelled_infusions():
    assert dose(100, rate=-2).records(SUBJECT)["rate"] == [-2.0]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: dose(0), "must be positive"),
        (lambda: dose(-5), "must not be negative"),
        (lambda: dose("ten"), "must be a number, got 'ten'"),
        (lambda: dose(float("inf")), "finite"),
        (lambda: dose(1, rate=1, duration=1), "not both"),
        (lambda: dose(1, duration=0), "leave it out for a bolus"),
        (lambda: dose(1, duration=-2), "duration must not be negative"),
        (lambda: dose(1, time=-1), "time must not be negative"),
        (lambda: dose(1, into=0), "into must be"),
        (lambda: dose(1, into=1.5), "into must be"),
        (lambda: dose(1, ss=3), "ss must be"),
        (lambda: dose(1).every(24), r"how many doses in all\? For example every\(24, n=7\)"),
        (lambda: dose(1).every(0, n=2), "interval must be positive"),
        (lambda: dose(1).every(24, n=0), "whole number from 1 on"),
        (lambda: dose(1).every(24, n=2).every(12, n=2), "called twice"),
    ],
)
def test_what_cannot_be_a_dose(make, words):
    with pytest.raises(DataError, match=words):
        make()


def test_no_doses():
    assert repr(Regimen(())) == "no doses"


def test_a_single_dose_repeats_nothing_and_is_read_back():
    """every(24, n=1) is one dose; its interval only says when a next one would be due."""
    one = dose(100).every(24, n=1)
    assert list(one.records(SUBJECT)["ii"]) == [0.0] and one.end == 24.0
    assert list((one + dose(50).every(12, n=2)).records(SUBJECT)["ii"]) == [0.0, 12.0]
    assert list(dose(100, ss=True).every(24).records(SUBJECT)["ii"]) == [24.0]
    given = Population((SUBJECT,)).with_doses(one)
    assert read_nonmem(given.to_frame()) == given
