"""What commands write: every file whole or not at all, none over a file that is not this library's, with a record in its folder.

The record says of every file which group of results it belongs to, and the digest of what was written. A file that is not in it, or
that has another content since, is the user's: it is neither replaced nor removed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from nlme.errors import FitError

RECORD = ".nlme-written.json"

#: results of the fit that lies in a folder: those of another fit there are no longer true
OF_A_FIT = ("fit", "report", "bootstrap", "vpc", "export")

_so_far: list[Path] = []  # by the command that runs


def begin() -> None:
    """A command begins: nothing is written yet."""
    _so_far.clear()


def so_far() -> tuple[Path, ...]:
    """The files that this command has written."""
    return tuple(_so_far)


def note(*paths: Path) -> None:
    """Files that the library wrote by itself for this command."""
    _so_far.extend(paths)


def put(path: Path, make: Callable[[Path], object]) -> None:
    """Write a file: ``make`` writes one of the same ending beside it, which takes its place once it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink() or (path.exists() and not path.is_file()):  # /dev/stdout, a pipe: what it leads to, not itself
        make(path)
    else:
        _replace(path, make)
    note(path)


def _replace(path: Path, make: Callable[[Path], object]) -> None:
    beside = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        make(beside)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def require_writable(folder: Path) -> None:
    """Refuse a folder that could not be written to, before anything is computed for it.

    Raises
    ------
    FitError
        A file stands in its place, or the folder that it would be in cannot be written to.
    """
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir():
        raise FitError(f"--out {folder}: {there} is a file, not a folder.")
    if not os.access(there, os.W_OK):
        raise FitError(f"--out {folder}: {there} cannot be written to.")


def require_file(out: Path, read: Iterable[Path]) -> None:
    """Refuse a file to write that could not be written, or that is among those that are read, before anything is computed for it.

    Raises
    ------
    FitError
        A folder has that name, its own folder cannot be written to, or it is read.
    """
    require_writable(out.parent)
    if out.is_dir():
        raise FitError(f"--out {out} is a folder; name a file to write.")
    if out.exists() and any(file.exists() and file.samefile(out) for file in read):
        raise FitError(f"--out {out} is a file that is read here, and would be lost; name another file.")


class Folder:
    """A folder that a command writes to.

    Parameters
    ----------
    path : the folder, made with the first file
    group : what the files are of: one of ``OF_A_FIT``, "model" (kept until another model of its name comes) or "data"
    """

    def __init__(self, path: Path, group: str):
        self.path, self.group = path, group

    def add(self, name: str, make: Callable[[Path], object]) -> None:
        """Write a file of the folder, and into the record.

        Raises
        ------
        FitError
            As :meth:`require_own`.
        """
        self.require_own([name])
        put(self.path / name, make)
        self._record({**self._recorded(), name: {"group": self.group, "sha256": _digest(self.path / name)}})

    def require_copy(self, source: Path, name: str) -> None:
        """Refuse a copy that would replace a file of another content that is not as a command wrote it.

        Raises
        ------
        FitError
            As :meth:`require_own`.
        """
        if not _same(source, self.path / name):
            self.require_own([name])

    def add_copy(self, source: Path, name: str) -> None:
        """Copy a file of the user's into the folder; one with the same content that lies there stays the user's."""
        if not _same(source, self.path / name):
            self.add(name, lambda path: shutil.copyfile(source, path))

    def require_own(self, names: Iterable[str]) -> None:
        """Refuse to replace a file that is not as a command wrote it.

        Raises
        ------
        FitError
            One of these names is a file without a record, or with another content than was written.
        """
        recorded = self._recorded()
        for name in names:
            path = self.path / name
            if path.exists() and not (name in recorded and path.is_file() and recorded[name]["sha256"] == _digest(path)):
                how = "has been changed since it was written" if name in recorded else "was not written by nlme"
                raise FitError(f"{path} {how}, and would be lost; move it, or name another place with --out.")

    def clear(self, groups: Iterable[str], but: Iterable[Path] = ()) -> None:
        """Remove what commands wrote of these groups and nobody changed since, but not the files ``but``."""
        recorded, spared = self._recorded(), {path.resolve() for path in but}
        for name, entry in list(recorded.items()):
            path = self.path / name
            if entry["group"] in groups and path.resolve() not in spared:
                if path.is_file() and entry["sha256"] == _digest(path):
                    path.unlink()
                del recorded[name]
        self._record(recorded)

    def _recorded(self) -> dict[str, dict[str, str]]:
        """Name -> group and digest; a record that cannot be read says nothing, so that every file is the user's."""
        try:
            found = json.loads((self.path / RECORD).read_text(encoding="utf-8"))
            return {
                str(name): {"group": str(entry["group"]), "sha256": str(entry["sha256"])}
                for name, entry in found.items()
                if (self.path / name).resolve().is_relative_to(self.path.resolve())  # it might come from a stranger
            }
        except (OSError, ValueError, AttributeError, KeyError, TypeError):
            return {}

    def _record(self, entries: dict[str, dict[str, str]]) -> None:
        if entries or (self.path / RECORD).exists():
            text = json.dumps(entries, indent=1) + "\n"
            _replace(self.path / RECORD, lambda path: path.write_text(text, encoding="utf-8"))


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _same(one: Path, other: Path) -> bool:
    return other.is_file() and (one.samefile(other) or one.read_bytes() == other.read_bytes())
