"""Seeds: every verb that draws takes an int or a JAX key."""

from __future__ import annotations

import jax
import numpy as np


def key_of(key) -> jax.Array:
    """A JAX key of an int, or the key itself."""
    return jax.random.key(key) if isinstance(key, (int, np.integer)) else key
