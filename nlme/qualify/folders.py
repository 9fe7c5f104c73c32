"""A case of the user's own: a folder with ``case.json``, a Python file with the model, and ``data.csv``."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nlme
from nlme.errors import DataError, name_error
from nlme.language.files import load_model
from nlme.qualify.checks import Case, Check

KEYS = ("title", "source", "model", "data", "covariates", "parameters", "method", "fit", "full", "expected")
EXPECTED = ("quantity", "reference", "tolerance", "relative")
TYPES = (
    *((key, str, "text") for key in ("title", "source", "model", "data", "method")),
    *((key, dict, "an object") for key in ("covariates", "parameters")),
    *((key, bool, "true or false") for key in ("fit", "full")),
)
METHODS = ("FO", "FOCE", "FOCEI", "Laplace", "NaivePooled")


def case_of(folder: str | Path) -> Case:
    """The case that a folder describes.

    ``case.json`` has ``title``, ``source`` (who says so) and ``expected``, a list of {"quantity", "reference", "tolerance",
    "relative"} with the quantities ``objective``, ``objective_full`` or ``estimate.NAME``; and if wanted ``model`` ("case.py", or
    "case.py:Name"), ``data`` ("data.csv"), ``covariates`` ({"wt": "kg"}), ``parameters`` (values of the model), ``method``
    ("FOCEI"), ``fit`` (true: search, else evaluate at the parameters) and ``full`` (true: only with --full).

    Raises
    ------
    DataError
        No ``case.json``, one that is no JSON, a word that is not known, or nothing expected.
    """
    folder = Path(folder)
    path = folder / "case.json"
    if not path.is_file():
        raise DataError(
            f"There is no case.json in {folder}: a case is a folder with case.json, case.py (the model) and data.csv."
        )
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is no JSON: {error}.") from None
    _require_words(path, said)
    return Case(folder.name, said["title"], said["source"], lambda: _checks(folder, said), bool(said.get("full", False)))


def cases_in(folder: str | Path) -> tuple[Case, ...]:
    """The case of a folder, or of every folder in it.

    Raises
    ------
    DataError
        No case there, or one that is wrong.
    """
    folder = Path(folder)
    if (folder / "case.json").is_file():
        return (case_of(folder),)
    found = (
        sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "_")))
        if folder.is_dir()
        else []
    )
    if not any((path / "case.json").is_file() for path in found):
        raise DataError(f"There is no case in {folder}: neither case.json nor a folder with one.")
    return tuple(case_of(inner) for inner in found)


def _require_words(path: Path, said: Any) -> None:
    if not isinstance(said, dict):
        raise DataError(f"{path} must be an object with title, source and expected; it is a {type(said).__name__}.")
    for key in said:
        if key not in KEYS:
            raise DataError(f"{path}: " + name_error("word", key, KEYS, "A case"))
    for key, kind, words in TYPES:
        if key in said and not isinstance(said[key], kind):
            raise DataError(f"{path}: {key} is {words}; got {said[key]!r}.")
    missing = [key for key in ("title", "source", "expected") if not said.get(key)]
    if missing:
        raise DataError(f"{path} has no {', '.join(missing)}.")
    if said.get("method", "FOCEI") not in METHODS:
        raise DataError(f"{path}: " + name_error("method", str(said["method"]), METHODS, "A case"))
    if not isinstance(said["expected"], list):
        raise DataError(f"{path}: expected is a list of quantities; it is a {type(said['expected']).__name__}.")
    for entry in said["expected"]:
        _require_entry(path, entry)


def _require_entry(path: Path, entry: Any) -> None:
    known = isinstance(entry, dict) and set(entry) <= set(EXPECTED) and set(entry) >= set(EXPECTED[:3])
    numbers = known and all(isinstance(entry[key], int | float) and not isinstance(entry[key], bool) for key in EXPECTED[1:3])
    if not numbers:
        raise DataError(f"{path}: expected has {entry!r}; each is {{'quantity': .., 'reference': number, 'tolerance': number}}.")
    if not isinstance(entry["quantity"], str) or not isinstance(entry.get("relative", False), bool):
        raise DataError(f"{path}: expected has {entry!r}; quantity is text, relative true or false.")
    if not math.isfinite(entry["reference"]):
        raise DataError(f"{path}: the reference of {entry['quantity']!r} is {entry['reference']}; it is a number.")
    if not 0 <= entry["tolerance"] < float("inf"):
        raise DataError(f"{path}: the tolerance of {entry['quantity']!r} is {entry['tolerance']}; it is a number from 0 on.")


def _checks(folder: Path, said: dict) -> Iterator[Check]:
    file, _, name = said.get("model", "case.py").partition(":")
    model = load_model(f"{folder / file}:{name}" if name else folder / file)(**said.get("parameters", {}))
    population = nlme.read_nonmem(folder / said.get("data", "data.csv"), covariates=said.get("covariates", {}))
    method = getattr(nlme, said.get("method", "FOCEI"))()
    found = nlme.fit(model, population, method) if said.get("fit") else nlme.evaluate(model, population, method)
    for entry in said["expected"]:
        result = _quantity(found, entry["quantity"])
        yield Check(entry["quantity"], result, float(entry["reference"]), float(entry["tolerance"]), bool(entry.get("relative")))


def _quantity(found, name: str) -> float:
    if name in ("objective", "objective_full"):
        return float(getattr(found, name))
    kind, _, parameter = name.partition(".")
    estimates = found.estimates
    if kind != "estimate" or parameter not in estimates.index:
        offered = ("objective", "objective_full", *(f"estimate.{key}" for key in estimates.index))
        raise DataError(name_error("quantity", name, offered, "The case"))
    return float(estimates[parameter])
