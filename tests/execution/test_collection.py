"""Laying data out looks for no cycles, and Python looks for them again afterwards, also where the data were refused."""

from __future__ import annotations

import gc

import pytest
from one_compartment_people import OneCompartment, people

from nlme.errors import ModelError
from nlme.language.layout import lay_out


@pytest.fixture
def collected():
    """Every collection that begins."""
    found: list[str] = []
    gc.callbacks.append(lambda phase, info: found.append(phase) if phase == "start" else None)
    yield found
    gc.callbacks.pop()


def test_none_while_data_are_laid_out(collected):
    population = people(200)[0]
    threshold = gc.get_threshold()
    gc.set_threshold(100, 1, 1)
    try:
        collected.clear()
        before = len(collected)
        made = [[k] for k in range(2000)]
        usual = len(collected) - before
        layout = lay_out(OneCompartment(), population)
        own = len(collected) - before - usual
    finally:
        gc.set_threshold(*threshold)
    assert len(made) == 2000 and usual >= 10
    assert layout.n_subjects == 200 and own <= 5 and gc.isenabled()


def test_it_is_as_before_after_an_error():
    with pytest.raises(ModelError):
        lay_out(OneCompartment(), "data.csv")
    assert gc.isenabled()
    gc.disable()
    try:
        lay_out(OneCompartment(), people(3)[0])
        assert not gc.isenabled()
    finally:
        gc.enable()
