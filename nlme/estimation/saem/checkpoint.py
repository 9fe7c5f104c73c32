"""State of a long fit on disk: numbers only, replaced as a whole, so that a kill at any moment leaves a readable file."""

from __future__ import annotations

import hashlib
import io
import os
import time
import zipfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from nlme.errors import FitError
from nlme.parameters.inventory import Inventory


class Checkpoint:
    """The file of one fit.

    It holds the arrays of a ``Progressed`` as npz, with a fingerprint of what is fitted: data, model's class and values, names,
    fixed parameters, method.  Written at most every ``every`` seconds: beside the target, flushed to disk, then renamed.
    """

    def __init__(self, path: Path, method, inventory: Inventory, model, population, every: float):
        self.path, self.every = path, every
        if not path.parent.is_dir():
            raise FitError(f"checkpoint={str(path)!r}: the folder {path.parent} does not exist.")
        told = (population.hash, type(model).__qualname__, repr(method), *inventory.names)
        numbers = np.asarray(Inventory(model).natural(model)).tobytes()
        self.fingerprint = hashlib.sha256("\n".join(told).encode() + numbers).hexdigest()
        self._last = time.monotonic()

    def read(self, fresh):
        """What the file holds, or ``fresh`` where there is none.

        Raises
        ------
        FitError
            The file is not a checkpoint, or belongs to another fit.
        """
        if not self.path.exists():
            return fresh
        try:
            with np.load(self.path, allow_pickle=False) as file:
                saved = {name: file[name] for name in file.files}
            fingerprint = str(saved["fingerprint"])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise FitError(f"{self.path} is not a checkpoint of a fit ({error}); delete it or name another file.") from None
        if fingerprint != self.fingerprint:
            raise FitError(
                f"{self.path} is the checkpoint of another fit: data, model, starting values, fixed parameters or the "
                "method's options differ. Delete it, or name another file."
            )
        state = type(fresh.state)(*(jnp.asarray(saved[f"state/{name}"]) for name in fresh.state._fields))
        return type(fresh)(
            state,
            saved["path"],
            saved["criterion"],
            saved["direction"],
            saved["elapsed"],
            int(saved["explored"]),
            int(saved["status"]),
        )

    def write(self, found, at_once: bool = False) -> None:
        """Keep ``found`` if the last time is long enough ago."""
        if not at_once and time.monotonic() - self._last < self.every:
            return
        arrays = {f"state/{name}": np.asarray(value) for name, value in found.state._asdict().items()}
        buffer = io.BytesIO()
        np.savez(
            buffer, fingerprint=self.fingerprint, path=found.path, criterion=found.criterion, direction=found.direction,
            elapsed=found.elapsed,
            explored=found.explored, status=found.status, **arrays,
        )  # fmt: skip
        beside = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        with beside.open("wb") as file:
            file.write(buffer.getvalue())
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, self.path)
        self._last = time.monotonic()
