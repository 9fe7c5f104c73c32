"""What a checkpoint keeps of a fit by SAEM, as named arrays."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

_SERIES = ("path", "criterion", "direction", "elapsed")
_NUMBERS = ("explored", "status")


def arrays_of(found) -> dict[str, np.ndarray]:
    """The arrays of a ``Progressed``."""
    state = {f"state/{name}": np.asarray(value) for name, value in found.state._asdict().items()}
    rest = {name: np.asarray(getattr(found, name)) for name in (*_SERIES, *_NUMBERS)}
    return state | rest | {"state/idle": found.idle}


def progress_from(fresh, saved: dict[str, np.ndarray]):
    """The ``Progressed`` of the arrays that ``arrays_of`` gave; ``fresh`` is one that has not begun."""
    state = type(fresh.state)(*(jnp.asarray(saved[f"state/{name}"]) for name in fresh.state._fields))
    return type(fresh)(state, *(saved[name] for name in _SERIES), *(int(saved[name]) for name in _NUMBERS), saved["state/idle"])
