"""One line of progress for long work: what, how far, how good, how long."""

from __future__ import annotations

import sys
import time


class Progress:
    """Context manager; call it with (iteration, objective, gradient).  Silent unless ``shown`` or the output is interactive."""

    def __init__(self, shown: bool | None, title: str):
        self._title = title
        self._shown = (sys.stderr.isatty() or "ipykernel" in sys.modules) if shown is None else shown
        self._start = self._last = 0.0
        self._width = 0

    def __enter__(self) -> Progress:
        self._start = time.perf_counter()
        self._write(f"{self._title}: compiling ...")
        return self

    def __call__(self, iteration: int, objective: float, gradient: float) -> None:
        now = time.perf_counter()
        if now - self._last < 0.1:
            return
        self._last = now
        self._write(
            f"{self._title}: iteration {iteration}, objective {objective:.4f}, largest gradient {gradient:.2g}, "
            f"{now - self._start:.1f} s"
        )

    def _write(self, text: str) -> None:
        if self._shown:
            sys.stderr.write("\r" + text.ljust(self._width))
            sys.stderr.flush()
            self._width = len(text)

    def stage(self, words: str) -> None:
        """What is being done now, beside the title."""
        self._title = f"{self._title.split(' (')[0]} ({words})"

    def count(self, done: int, of: int) -> None:
        """The same for work that is counted."""
        self._write(f"{self._title}: {done} of {of}, {time.perf_counter() - self._start:.1f} s")

    def __exit__(self, *_) -> None:
        if self._shown:
            sys.stderr.write("\r" + " " * self._width + "\r")
            sys.stderr.flush()
