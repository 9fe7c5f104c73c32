"""Docstrings as the site reads them: `name : what it is` describes a parameter (types are in the signature)."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import griffe

sys.path.insert(0, str(Path(__file__).resolve().parent))
from pages import public_words  # noqa: E402

_HOME = {word: home for words in public_words().values() for word, home in words.items()}
_SECTION = re.compile(r"(^(?:Parameters|Attributes|Other Parameters)\n-{3,}\n)(.*?)(?=^\S[^\n]*\n-{3,}\n|\Z)", re.M | re.S)
_ROLE = re.compile(r":(?:func|class|mod|meth|data|attr|obj):`~?([^`]+)`")


def described(text: str) -> str:
    """`name : sentence` as NumPy's format has it: the name, and the sentence indented below; each of several names by itself."""
    items = re.split(r"^(?=\S)", text, flags=re.M)
    return "".join(part for item in items for part in _each(item))


def _each(item: str) -> list[str]:
    head, told, first = item.partition("\n")[0].partition(" : ")
    if not told:
        return [item]
    rest = item.partition("\n")[2]
    return [f"{name.strip()}\n    {first}\n{rest}" for name in head.split(",")]


def linked(found: re.Match) -> str:
    word = found[1].removeprefix("nlme.").removesuffix("()")
    return f"[`{found[1]}`][{_HOME[word]}]" if found[1].startswith("nlme.") and word in _HOME else f"`{found[1]}`"


class Sentences(griffe.Extension):
    def on_object(self, *, obj: griffe.Object, **_) -> None:
        if obj.docstring:
            text = _SECTION.sub(lambda m: m[1] + described(m[2]), obj.docstring.value)
            obj.docstring.value = _ROLE.sub(linked, text)
