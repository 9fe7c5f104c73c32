"""State of a long computation on disk: numbers only, replaced as a whole, so that a kill at any moment leaves a readable file."""

from __future__ import annotations

import hashlib
import inspect
import io
import os
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import CodeType

import jax
import jax.numpy as jnp
import numpy as np

from nlme.errors import FitError
from nlme.parameters.inventory import Inventory
from nlme.search.problem import Problem

_ASIDE = 0.1  # from the parameters at hand to the point where a penalty is looked at: one of zero has its strength nowhere else


class Checkpoint:
    """The file of one computation: named arrays as npz, with a fingerprint of what is computed.

    Written at most every ``every`` seconds: beside the target, flushed to disk, then renamed.

    Raises
    ------
    FitError
        The folder does not exist.
    """

    def __init__(self, path: str | os.PathLike, fingerprint: str, every: float):
        self.path, self.fingerprint, self.every = Path(path), fingerprint, every
        if not self.path.parent.is_dir():
            raise FitError(f"checkpoint={str(path)!r}: the folder {self.path.parent} does not exist.")
        self._last = time.monotonic()

    def read(self) -> dict[str, np.ndarray] | None:
        """The arrays in the file; None where there is none.

        Raises
        ------
        FitError
            The file is not a checkpoint, or belongs to another computation.
        """
        if not self.path.exists():
            return None
        try:
            with np.load(self.path, allow_pickle=False) as file:
                saved = {name: file[name] for name in file.files}
            fingerprint = str(saved.pop("fingerprint"))
        except (OSError, ValueError, KeyError, EOFError, AttributeError, zipfile.BadZipFile) as error:
            raise FitError(f"{self.path} is not a checkpoint ({error}); delete it or name another file.") from None
        if fingerprint != self.fingerprint:
            raise FitError(
                f"{self.path} is the checkpoint of another fit: data, model, starting values, fixed parameters, penalty or "
                "priors, options or the seed differ. Delete it, or name another file."
            )
        return saved

    def write(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep ``arrays`` in place of what the file holds."""
        buffer = io.BytesIO()
        np.savez(buffer, fingerprint=self.fingerprint, **arrays)
        beside = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        with beside.open("wb") as file:
            file.write(buffer.getvalue())
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, self.path)
        self._last = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether the last writing is long enough ago."""
        return time.monotonic() - self._last >= self.every


def fingerprint_of(problem: Problem, *more) -> str:
    """Hash of a problem: data, the model's code and values, names of what is estimated, method, penalty; ``more`` as ``fingerprint``."""
    model, inventory, penalty = problem.model, problem.inventory, problem.penalty
    if penalty is not None:
        u = inventory.unconstrained(model) + _ASIDE
        seen = np.asarray(jax.jit(lambda u: jnp.asarray(penalty(inventory.at_unconstrained(model, u))))(u))
        more = (seen, *more)
    return fingerprint(model, inventory, problem.layout.population, problem.method, *more)


def fingerprint(model, inventory: Inventory, population, method, *more) -> str:
    """Hash of data, the model's code and values, names of what is estimated, and method.

    ``more`` are options (by ``repr``) and arrays (by their bytes) on which the result depends as well.
    """
    told = hashlib.sha256()
    code = [(name, *_code(function.__code__)) for name, function in inspect.getmembers(type(model), inspect.isfunction)]
    for word in (population.hash, type(model).__qualname__, repr(code), repr(method), *inventory.names):
        told.update(word.encode() + b"\n")
    told.update(np.asarray(Inventory(model).natural(model)).tobytes())
    for item in more:
        told.update(item.tobytes() if isinstance(item, np.ndarray) else repr(item).encode() + b"\n")
    return told.hexdigest()


def _code(code: CodeType) -> tuple:
    """What a function does, without where it stands: a model edited under its old name is another model."""
    constants = [
        _code(x) if isinstance(x, CodeType) else sorted(map(repr, x)) if isinstance(x, frozenset) else x for x in code.co_consts
    ]
    return code.co_code.hex(), code.co_names, repr(constants)
