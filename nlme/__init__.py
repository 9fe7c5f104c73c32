"""nlme: nonlinear mixed-effects pharmacometrics on JAX."""

import jax

jax.config.update("jax_enable_x64", True)
