"""The comparison of ``make bench``, small: bands by a Laplace approximation are those of NUTS, and cover a known truth likewise."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[1] / "benchmarks" / "bench_weights.py"


@pytest.mark.slow
def test_laplace_bands_are_about_those_of_nuts():
    """One data set, 10 weights: widths within 15 %, coverage of the truth at 40 inputs within 15 %."""
    spec = importlib.util.spec_from_file_location("bench_weights", BENCH)
    spec.loader.exec_module(bench := importlib.util.module_from_spec(spec))
    found = {kind: bench.band(bench.Small(), bench.data(1), kind) for kind in ("laplace", "nuts")}
    laplace, nuts = found["laplace"], found["nuts"]
    assert laplace["width"] == pytest.approx(nuts["width"], rel=0.15)
    assert laplace["coverage"] == pytest.approx(nuts["coverage"], abs=0.15)
    assert max(laplace["error"], nuts["error"]) < 0.1  # half of the error of one observation
