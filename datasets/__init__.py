"""Data sets that come with the library: real clinical data, each with its source and licence in its folder's README.md.

>>> from nlme import datasets
>>> datasets.load("theophylline")  # doctest: +SKIP
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from nlme.data import Population, read_nonmem
from nlme.errors import DataError, name_error

_FOLDER = Path(__file__).parent

# name -> how its data.csv is read
_READING = {
    "theophylline": {"covariates": {"wt": "kg"}},
    "indomethacin": {},
    "phenobarbital": {"covariates": {"wt": "kg", "apgar": None}},
    "quinidine": {
        "covariates": {
            "age": "years",
            "ht": "in",
            "wt": "kg",
            "race": None,
            "smoke": None,
            "ethanol": None,
            "heart": None,
            "creat": "mL/min",
            "glyco": "g/L",
        },
        "time_varying": ["age", "wt", "smoke", "heart", "creat", "glyco"],
        "categories": {
            "race": ["Caucasian", "Latin", "Black"],
            "smoke": ["no", "yes"],
            "ethanol": ["none", "current", "former"],
            "heart": ["No/Mild", "Moderate", "Severe"],
            "creat": ["< 50", ">= 50"],
        },
    },
    "remifentanil": {
        "covariates": {"age": "years", "sex": None, "ht": "cm", "wt": "kg", "bsa": "m2", "lbm": "kg"},
        "categories": {"sex": ["Female", "Male"]},
    },
}


def names() -> tuple[str, ...]:
    """Names of the data sets."""
    return tuple(_READING)


def path(name: str) -> Path:
    """The ``data.csv`` of a data set.

    Raises
    ------
    DataError
        No data set of that name.
    """
    if name not in _READING:
        raise DataError(name_error("data set", str(name), _READING, "The library"))
    return _FOLDER / name / "data.csv"


def load(name: str) -> Population:
    """A data set as a population, its covariates with units and categories.

    Parameters
    ----------
    name
        "theophylline", "indomethacin", "phenobarbital", "quinidine" or "remifentanil".

    Raises
    ------
    DataError
        No data set of that name.
    """
    return dataclasses.replace(read_nonmem(path(name), **_READING[name]), source=f"nlme.datasets: {name}")


def readme(name: str) -> str:
    """Source, licence and columns of a data set, as text."""
    return path(name).with_name("README.md").read_text(encoding="utf-8")
