"""A profile that Ctrl-C ends: limits found so far, those not found said to be so, and the same call goes on to the same numbers."""

from __future__ import annotations

import numpy as np
import one_way
import pandas as pd
import pytest
from interrupting import interrupt, one_lane

import nlme


@pytest.fixture(scope="module")
def fit():
    return nlme.fit(one_way.OneWay(), one_way.population_of(one_way.values()), progress=False)


def _same(found, whole):
    pd.testing.assert_frame_equal(found.intervals, whole.intervals, check_exact=True)
    pd.testing.assert_frame_equal(found.points, whole.points, check_exact=True)
    assert found.messages == whole.messages


def test_limits_found_so_far_and_the_same_call_goes_on(fit, tmp_path, monkeypatch):
    one_lane(monkeypatch)
    with monkeypatch.context() as counting:
        calls = interrupt(counting, 0)
        whole = nlme.profile(fit, ["mu", "sd"])
        count = next(calls) - 1
    seen = set()
    for share in (0.1, 0.3, 0.5, 0.7, 0.9):
        folder = tmp_path / f"{share}"
        with monkeypatch.context() as once:
            interrupt(once, int(share * count))
            try:
                part = nlme.profile(fit, ["mu", "sd"], checkpoint=folder)
            except KeyboardInterrupt:
                part = None
        if part is not None:
            (message,) = part.messages
            missing = [(name, side) for name in ("mu", "sd") for side in ("lower", "upper") if f"{name} ({side})" in message]
            assert missing and "interrupted" in message and "checkpoint goes on" in message
            for name in ("mu", "sd"):
                for side in ("lower", "upper"):
                    value = part.intervals.loc[name, side]
                    assert np.isnan(value) if (name, side) in missing else value == whole.intervals.loc[name, side]
        seen.add(None if part is None else len(missing))
        _same(nlme.profile(fit, ["mu", "sd"], checkpoint=folder), whole)
    assert len(seen) > 1


def test_without_a_refit_it_goes_through(fit, monkeypatch):
    interrupt(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        nlme.profile(fit, "mu")


def test_another_level_is_another_profile(fit, tmp_path):
    whole = nlme.profile(fit, "mu", checkpoint=tmp_path / "x")
    with pytest.raises(nlme.FitError, match="a profile with level=0.95; this one has level=0.9"):
        nlme.profile(fit, "mu", level=0.9, checkpoint=tmp_path / "x")
    _same(nlme.profile(fit, "mu", checkpoint=tmp_path / "x"), whole)
