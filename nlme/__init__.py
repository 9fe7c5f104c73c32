"""nlme: nonlinear mixed-effects pharmacometrics on JAX."""

import jax

jax.config.update("jax_enable_x64", True)

# In the repository, `datasets/` and `models/` stand beside this package; in a wheel they lie inside it. Looking beside
# the package as well, when they are not inside, gives `nlme.datasets` and `nlme.models` one name in both.
from pathlib import Path as _Path  # noqa: E402

_here = _Path(__file__).resolve().parent
if not (_here / "datasets").is_dir() and (_here.parent / "datasets").is_dir() and (_here.parent / "models").is_dir():
    __path__.append(str(_here.parent))
