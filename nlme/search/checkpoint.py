"""State of a long computation on disk: numbers only, replaced as a whole, so that a kill at any moment leaves a readable file."""

from __future__ import annotations

import hashlib
import io
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from nlme.digest import digest_of
from nlme.errors import FitError
from nlme.parameters.inventory import Inventory
from nlme.search.problem import Penalty, Problem

_ASIDE = 0.1  # from the parameters at hand to the point where a penalty is looked at: one of zero has its strength nowhere else


class Checkpoint:
    """The file of one computation: named arrays as npz, with a fingerprint of what is computed.

    Written at most every ``every`` seconds: beside the target, flushed to disk, then renamed.

    Raises
    ------
    FitError
        The folder does not exist, a folder has the file's name, or the file cannot be written.
    """

    def __init__(self, path: str | os.PathLike, fingerprint: str, every: float):
        self.path, self.fingerprint, self.every = Path(path), fingerprint, every
        if not self.path.parent.is_dir():
            raise FitError(f"checkpoint={str(path)!r}: the folder {self.path.parent} does not exist.")
        if self.path.is_dir():
            raise FitError(f"checkpoint={str(path)!r} is a folder; name a file, such as {str(self.path / 'state.npz')!r}.")
        try:  # by trying, for permissions do not tell of every kind of folder; now, not after hours
            self._beside.touch()
            self._beside.unlink()
        except OSError as error:
            raise FitError(f"checkpoint={str(path)!r} cannot be written ({error.strerror}).") from None
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
            if int(saved.pop("entries")) != len(saved):  # its directory is not covered by the sums that zip keeps
                raise ValueError
        except Exception:  # a damaged archive ends in whatever its bytes ask for
            raise FitError(f"{self.path} is not a checkpoint, or not a whole one; delete it or name another file.") from None
        if fingerprint != self.fingerprint:
            raise FitError(
                f"{self.path} is the checkpoint of another fit: data, model, starting values, fixed parameters, penalty or "
                "priors, options or the seed differ. Delete it, or name another file."
            )
        return saved

    def write(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep ``arrays`` in place of what the file holds."""
        buffer = io.BytesIO()
        np.savez(buffer, fingerprint=self.fingerprint, entries=len(arrays), **arrays)
        with self._beside.open("wb") as file:
            file.write(buffer.getvalue())
            file.flush()
            os.fsync(file.fileno())
        os.replace(self._beside, self.path)
        self._last = time.monotonic()

    @property
    def _beside(self) -> Path:
        """Where the file is written before it takes its place."""
        return self.path.with_name(f".{self.path.name}.{os.getpid()}")

    @property
    def due(self) -> bool:
        """Whether the last writing is long enough ago."""
        return time.monotonic() - self._last >= self.every


def folder_of(checkpoint: str | os.PathLike | None) -> Path | None:
    """The folder of a computation that keeps several checkpoints, made where there is none; None without one.

    Raises
    ------
    FitError
        A file has its name, or it cannot be made.
    """
    if checkpoint is None:
        return None
    folder = Path(checkpoint)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise FitError(f"checkpoint={str(checkpoint)!r}: a file stands where a folder belongs; name a folder.") from None
    except OSError as error:
        raise FitError(f"checkpoint={str(checkpoint)!r}: the folder cannot be made ({error.strerror}).") from None
    return folder


def onwards(checkpoint) -> str:
    """What comes after the words on an interruption: how to go on, if ``checkpoint`` is one."""
    return "" if checkpoint is None else " The same call with its checkpoint goes on."


def fingerprint_of(problem: Problem, *more, penalties: Sequence[Penalty] | None = None) -> str:
    """Hash of a problem: data, the model, names of what is estimated, method, penalties (the problem's own by default); ``more`` as
    ``fingerprint``."""
    model, inventory = problem.model, problem.inventory
    if penalties is None:
        penalties = () if problem.penalty is None else (problem.penalty,)
    for penalty in penalties:
        u = inventory.unconstrained(model) + _ASIDE
        seen = np.asarray(jax.jit(lambda u: jnp.asarray(penalty(inventory.at_unconstrained(model, u))))(u))  # noqa: B023 (called at once)
        more = (seen, *more)
    return fingerprint(model, inventory, problem.layout.population, problem.method, *more)


def fingerprint(model, inventory: Inventory, population, method, *more) -> str:
    """Hash of data, the model (what it does, its settings and values), names of what is estimated, and method.

    ``more`` are options (by ``repr``) and arrays (by their bytes) on which the result depends as well.
    """
    told = hashlib.sha256()
    for word in (population.hash, digest_of(model), repr(method), *inventory.names):
        told.update(word.encode() + b"\n")
    for item in more:
        told.update(item.tobytes() if isinstance(item, np.ndarray) else repr(item).encode() + b"\n")
    return told.hexdigest()
