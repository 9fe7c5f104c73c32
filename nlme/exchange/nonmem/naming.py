"""Names that a person would give: from the comments beside the values, else from the symbols of the code."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable

_UNIT = re.compile(r"[\[(]\s*((?:1\s*/\s*)?[A-Za-zµ%][\w%/*^.µ\- ]{0,20}?)\s*[\])]")
_UNITS = re.compile(
    r"(?:[munkµ]?(?:g|L|l|mol|M|U|IU)|dL|dl|h|hr|hrs|hour|hours|min|day|days|d|week|s|kg|%|year|years|m2|1|bpm|mmHg|pg|fL|cells|m)"
    r"(?:[/*^.](?:[munkµ]?(?:g|L|l|mol|M|U|IU)|dL|dl|h|hr|hrs|hour|hours|min|day|days|d|week|s|kg|year|years|m2|1|\d+))*"
)
_PREFIX = re.compile(r"^(?:TVP|TV|TYP|POP|THETA|TH|MU|L?N?_?POP)_?(?=[A-Z])|^_+", re.IGNORECASE)
_VARIANCE = re.compile(
    r"^(?:IIV|BSV|BPV|IOV|BOV|OMEGA2?|OM|ETA|VAR|PPV|ISV|CV|RV|RUV|SIGMA|EPS|V_?)[\s_.-]*(?:ON|OF|IN)?[\s_.-]*(?=\w)",
    re.IGNORECASE,
)
_SHADOWED = {"self", "eta", "cov", "ind", "state", "t", "a", "jnp", "jax", "nlme", "Scalar", "omega", "y", "rhs", "dict",
             "covariates", "individual", "dynamics", "observe", "random", "group", "list", "sum", "min", "max",
             "between_occasions", "between_sites", "from_fit"}  # fmt: skip


class Names:
    """Python names, each once."""

    def __init__(self, taken: Iterable[str] = ()):
        self.taken = set(taken) | _SHADOWED

    def give(self, wanted: str) -> str:
        """``wanted`` as an identifier that is still free."""
        name = re.sub(r"\W+", "_", wanted.lower()).strip("_") or "x"
        name = f"p{name}" if name[0].isdigit() else name
        name = f"{name}_" if keyword.iskeyword(name) else name
        free, k = name, 2
        while free in self.taken:
            free, k = f"{name}{k}" if not name[-1].isdigit() else f"{name}_{k}", k + 1
        self.taken.add(free)
        return free


def unit_of(comment: str) -> str:
    """The unit that a comment states in brackets, "" if none."""
    for match in _UNIT.finditer(comment):
        if _UNITS.fullmatch(match[1].replace(" ", "")):
            return match[1].replace(" ", "")
    return ""


def label_of(comment: str) -> str:
    """The comment as a label: without numbering, bars and its unit."""
    text = _UNIT.sub(lambda m: "" if _UNITS.fullmatch(m[1].replace(" ", "")) else m[0], comment)
    text = re.sub(r"^\s*[\d.#;:)\]\s-]+(?=\D)", "", text)
    plain = " ".join(re.sub(r"[;|]+", " ", text).split()).strip(" -:,").replace('"', "'")
    whole = re.fullmatch(r"[\[({](.*)[\])}]", plain)
    plain = whole[1].strip() if whole else plain
    return "" if whole and len(plain) == 1 else plain


def _word(comment: str) -> str:
    """The identifier that a comment is or begins with; "" if it is a sentence."""
    text = re.split(r"[;:,|=]|\s-\s", label_of(comment))[0].strip()
    if re.fullmatch(r"(MU|THETA|LN|LOG)_?\d*", text, re.IGNORECASE):
        return ""
    return text if re.fullmatch(r"[A-Za-z][A-Za-z0-9_.]{0,14}", text) else ""


def parameter_word(comment: str, symbol: str) -> str:
    """A word for a fixed effect: the comment's, if it is one word, else the symbol's, without TV, POP ..."""
    word = _word(comment) or symbol
    plain = _PREFIX.sub("", word)
    return plain or word


def effect_word(comment: str, symbol: str) -> str:
    """A word for a random effect: the symbol of the parameter it belongs to, else the comment's without IIV ..."""
    if symbol:
        return parameter_word("", symbol)
    text = _VARIANCE.sub("", label_of(comment).strip())
    return text if re.fullmatch(r"[A-Za-z][A-Za-z0-9_.]{0,14}", text) else ""
