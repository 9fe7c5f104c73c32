"""The notebooks: stored without outputs, and each runs from its first cell to its last in an empty folder, in the fast mode."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
QUICK = {"01_first_fit"}
RUNNER = Path(__file__).with_name("cells.py")


def test_each_has_a_number_of_its_own():
    assert len({path.name[:2] for path in NOTEBOOKS}) == len(NOTEBOOKS) > 0


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_a_notebook_without_outputs(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert (
        notebook["nbformat"] == 4
        and notebook["nbformat_minor"] >= 5
        and notebook["metadata"]["kernelspec"]["language"] == "python"
    )
    cells = notebook["cells"]
    assert cells[0]["cell_type"] == "markdown" and cells[0]["source"][0].startswith("# ")
    assert len({cell["id"] for cell in cells}) == len(cells)
    for cell in cells:
        assert set(cell) == {"cell_type", "id", "metadata", "source"} | (
            {"outputs", "execution_count"} if cell["cell_type"] == "code" else set()
        )
        assert not cell.get("outputs") and cell.get("execution_count") is None and "".join(cell["source"]).strip()
    lines = sum(bool(line.strip()) for cell in cells if cell["cell_type"] == "code" for line in cell["source"])
    assert 20 <= lines <= 160, f"{lines} lines of code"


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=() if path.stem in QUICK else pytest.mark.slow) for path in NOTEBOOKS],
    ids=lambda path: path.stem,
)
def test_its_cells_run_in_an_empty_folder(path, tmp_path):
    environment = {**os.environ, "NLME_FAST": "1", "MPLBACKEND": "Agg", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(RUNNER), str(path)], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, f"{done.stdout[-1000:]}\n{done.stderr[-3000:]}"
