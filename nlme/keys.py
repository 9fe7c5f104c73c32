"""Seeds: every verb that draws takes an int or a JAX key."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from nlme.errors import ModelError


def key_of(key) -> jax.Array:
    """A JAX key of an int, or the key itself.

    Raises
    ------
    ModelError
        Neither of them.
    """
    if isinstance(key, (int, np.integer)) and not isinstance(key, bool):
        return jax.random.key(key)
    kind = getattr(key, "dtype", None)
    old = kind == np.uint32 and np.shape(key) == (2,)  # jax.random.PRNGKey
    if kind is None or not (old or jnp.issubdtype(kind, jax.dtypes.prng_key) and np.shape(key) == ()):
        raise ModelError(f"key= is a seed: a whole number, or a JAX key (jax.random.key(1)); got {key!r}.")
    return key
