"""The example models that the pharmpy-core package ships, with NONMEM's results beside them, read where it is installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import nlme


def _examples() -> Path:
    found = importlib.util.find_spec("pharmpy")
    folder = Path(found.origin).parent / "internals" / "example_models" if found and found.origin else None
    if folder is None or not (folder / "pheno.mod").is_file():
        pytest.skip("pharmpy-core, which ships these models, is not installed", allow_module_level=True)
    return folder


FOLDER = _examples()


def test_phenobarbital_is_translated():
    found = nlme.from_nonmem(FOLDER / "pheno.mod", evaluate=False)
    assert "        tvv = jnp.where(cov.apgr < 5, tvv * (1 + self.covapgr), tvv)" in found.source
    assert found.population.n_observations == found.results.observations == 155


def test_moxonidine_has_occasions():
    found = nlme.from_nonmem(FOLDER / "moxo.mod", evaluate=False)
    assert found.model.between_occasions().names == ("cl_occ", "ka_occ")
    assert sorted(found.population.to_frame()["OCC"].unique()) == [1, 2]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pheno", "pheno_linear"])
def test_objective(name):
    found = nlme.from_nonmem(FOLDER / f"{name}.mod")
    assert found.agrees, found
    np.testing.assert_allclose(found.subjects["objective"], found.subjects["reference"], atol=1e-3)
