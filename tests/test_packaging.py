"""The wheel: what lies inside, and that it works in an empty folder."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import nlme.datasets
import nlme.models

ROOT = Path(__file__).resolve().parent.parent


def test_the_checkout_gives_data_sets_and_models_their_public_names():
    assert Path(nlme.datasets.__file__).parent == ROOT / "datasets"
    assert Path(nlme.models.__file__).parent == ROOT / "models"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return next(folder.glob("*.whl"))


@pytest.mark.slow  # fetches the build backend
def test_everything_lies_inside_the_package(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"nlme", next(n.split("/")[0] for n in names if n.endswith("METADATA"))}
    for folder in ("datasets", "models"):
        here = {f"nlme/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / folder).rglob("*.py")}
        assert here and here <= set(names)
    data = {
        f"nlme/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / "datasets").glob("*/*") if path.suffix in (".csv", ".md")
    }
    assert data and data <= set(names)


@pytest.mark.slow
def test_it_works_in_an_empty_folder(wheel, tmp_path):
    place = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(place)
    (empty := tmp_path / "empty").mkdir()
    script = (
        "import nlme, nlme.models\nfrom nlme import datasets\n"
        "print(nlme.__file__, datasets.__file__, nlme.models.__file__, len(datasets.load('theophylline')), sep='\\n')"
    )
    environment = {**os.environ, "PYTHONPATH": str(place)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=empty, env=environment)
    assert done.returncode == 0, done.stderr
    *files, count = done.stdout.split()
    assert all(Path(file).is_relative_to(place / "nlme") for file in files) and count == "12"
