"""Reference cases: numbers of other tools, kept beside the repository (or where ``NLME_REFERENCE`` points).

A test that uses a case is skipped, with a sentence, where the folder is absent; nothing else decides whether it runs.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

FOLDER = Path(os.environ.get("NLME_REFERENCE") or Path(__file__).resolve().parents[2] / "shared" / "reference")


class Case:
    """One folder of the reference cases: its ``reference.json`` and its tables."""

    def __init__(self, name: str):
        self.folder = FOLDER / name
        self.facts = json.loads((self.folder / "reference.json").read_text(encoding="utf-8"))

    def table(self, file: str = "data.csv", **options) -> pd.DataFrame:
        return pd.read_csv(self.folder / file, **options)

    def matrix(self, file: str) -> pd.DataFrame:
        """A square table by parameter name."""
        return self.table(file, index_col=0)

    def reference(self, identity: str | None = None) -> dict:
        """The entry of ``references`` with this id (the only one by default)."""
        found = [r for r in self.facts["references"] if identity is None or r.get("id") == identity]
        assert len(found) == 1, f"{self.folder.name}: {len(found)} references with id {identity!r}"
        return found[0]


def case(name: str) -> Case:
    """The reference case, or a skip of the module that asks for it."""
    if not (FOLDER / name / "reference.json").is_file():
        pytest.skip(
            f"reference case {name!r} is not at {FOLDER}; set NLME_REFERENCE to the folder that holds it", allow_module_level=True
        )
    return Case(name)


def lower(rows) -> np.ndarray:
    """Full symmetric matrix from the rows of a lower triangle (null: 0)."""
    n = len(rows)
    full = np.zeros((n, n))
    for i, row in enumerate(rows):
        full[i, : i + 1] = full[: i + 1, i] = [0.0 if x is None else x for x in row]
    return full


def lower_elements(rows) -> list:
    """Elements of a lower triangle row by row, as they stand."""
    return [x for row in rows for x in row]
