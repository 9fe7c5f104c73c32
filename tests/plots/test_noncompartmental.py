"""The picture of a non-compartmental analysis."""

from __future__ import annotations

import pytest

import nlme
from nlme import datasets
from nlme.errors import DataError


@pytest.fixture(scope="module")
def found():
    units = {"time": "h", "conc": "mg/L", "dose": "mg"}
    return nlme.nca(datasets.load("theophylline")[:5], route="extravascular", lambda_z={"2": (23, 25)}, units=units)


def test_profiles_have_labels_units_and_their_terminal_lines(found):
    figure = nlme.plots.nca(found)
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in shown] == [f"ID {i}" for i in found.population.ids]
    assert shown[0].get_ylabel() == "Concentration (mg/L)" and shown[-1].get_xlabel() == "Time after dose (h)"
    assert all(axes.get_yscale() == "log" for axes in shown)
    words = [axes.texts[0].get_text() for axes in shown]
    assert words[1] == "no terminal line" and words[0].startswith("t½ 14.3 h")


def test_chosen_subjects(found):
    assert len(nlme.plots.nca(found, subjects=["3"]).axes) == 1
    with pytest.raises(DataError, match="99"):
        nlme.plots.nca(found, subjects=[99])
