"""What was written for another program."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from nlme.exchange.rows import written

if TYPE_CHECKING:
    import pandas as pd


def data_name(program: str, stem: str) -> str:
    """Of the data file: each program has columns of its own, and none may take another's, or the user's ``<stem>.csv``, for its own."""
    return f"{stem}_{program.lower()}.csv"


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Exported:
    """A model and its data in another program's words.

    Attributes
    ----------
    program : "NONMEM", "nlmixr2" or "Monolix"
    texts : name of a file -> its text; the model first
    data : the rows of the data file
    stem : name of the files without ending
    shift : what the program's objective is more than nlme's, where the data are written on the scale of their errors
    messages : what a reader has to know
    files : what was written, nothing without a path
    """

    program: str
    texts: dict[str, str]
    data: pd.DataFrame
    stem: str
    shift: float = 0.0
    messages: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()

    @property
    def text(self) -> str:
        """The model's text."""
        return next(iter(self.texts.values()))

    def write(self, folder: Path) -> Exported:
        """The same after its files were written into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        texts = {**self.texts, data_name(self.program, self.stem): written(self.data)}
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
        return dataclasses.replace(self, files=tuple(folder / name for name in texts))

    def __repr__(self) -> str:
        where = f"written to {', '.join(map(str, self.files))}" if self.files else "not written; give a path"
        shift = [f"The objective there is nlme's {self.shift:+.6f}."] if self.shift else []
        return "\n".join([f"{self.program}: {len(self.data)} records, {where}", *shift, *self.messages])
