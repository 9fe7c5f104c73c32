"""What every test shares: float64, a compilation cache, figures without a screen."""

from __future__ import annotations

import gc
import os
from pathlib import Path

os.environ.setdefault("MPLBACKEND", "Agg")
# Compiled programs are kept between test runs of one checkout, apart from the user's own cache, so that a second
# `make test` spends its time on numbers rather than on the compiler. `make clean` empties it.
os.environ.setdefault("NLME_CACHE", str(Path(__file__).resolve().parent.parent / ".pytest_cache" / "jax"))

import jax  # noqa: E402
import pytest  # noqa: E402

import nlme  # noqa: E402, F401  (switches on float64 and reads the variable above)

# Tracing makes objects by the hundred thousand that stay: looking for garbage among them took an eighth of the tests' time.
gc.freeze()
gc.set_threshold(100_000, 50, 100)


@pytest.fixture(scope="module", autouse=True)
def _programs_of_one_file_only():
    """Compiled programs of a file are dropped at its end: kept for the whole run they would take gigabytes."""
    yield
    jax.clear_caches()
