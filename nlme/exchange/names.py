"""Names that another language allows, each once."""

from __future__ import annotations

import re
from collections.abc import Iterable


class Names:
    """Gives legal, free names.

    Parameters
    ----------
    reserved : words that have a meaning of their own, in whatever case
    numbered : pattern of further such words, in capitals
    longest : letters of a name
    upper : write them in capitals
    """

    def __init__(self, reserved: Iterable[str], numbered: re.Pattern | None = None, longest: int = 60, upper: bool = False):
        self._reserved = {word.upper() for word in reserved}
        self._numbered, self._longest, self._upper = numbered, longest, upper
        self._taken: set[str] = set()

    def reserve(self, names: Iterable[str]) -> None:
        self._taken |= {name.upper() for name in names}

    def give(self, wanted: str, otherwise: str = "i") -> str:
        """``wanted`` as a name; where it has a meaning of its own or is taken, with ``otherwise`` or a number behind it."""
        plain = re.sub(r"\W+", "_", wanted, flags=re.ASCII).strip("_") or "x"
        plain = plain if plain[0].isalpha() else f"x{plain}"
        if not self._free(plain[: self._longest]):
            plain = f"{plain}_{otherwise}"
        free, k = plain[: self._longest], 2
        while not self._free(free):
            tail = f"_{k}"
            free, k = plain[: self._longest - len(tail)] + tail, k + 1
        self._taken.add(free.upper())
        return free.upper() if self._upper else free

    def _free(self, name: str) -> bool:
        name = name.upper()
        known = name in self._reserved or name in self._taken
        return not known and not (self._numbered and self._numbered.fullmatch(name))
