"""What every test shares: float64, a compilation cache, figures without a screen."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("MPLBACKEND", "Agg")

import jax

import nlme  # noqa: F401  (switches on float64)

# Compiled programs are kept between test runs of one checkout, apart from the user's own cache, so that a second
# `make test` spends its time on numbers rather than on the compiler. `make clean` empties it.
_CACHE = Path(__file__).resolve().parent.parent / ".pytest_cache" / "jax"


def pytest_configure(config):
    jax.config.update("jax_compilation_cache_dir", str(_CACHE))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
