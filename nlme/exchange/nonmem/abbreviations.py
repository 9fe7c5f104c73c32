"""$ABBREVIATED REPLACE, labels of parameters and names of compartments: what stands in the code for what.

    REPLACE THETA(CL)=THETA(4)          one thing for another
    REPLACE THETA(CL,V)=THETA(1,2)      several at once
    REPLACE ETA(OCC)=ETA(5,7,9)         that of the data item OCC: ETA(5) where it is 1, ETA(7) where it is 2, ...
    REPLACE ETA(OCC_CL)=ETA(,5 TO 9 BY 2)   the same for one parameter, as a sequence

Source: NONMEM Users Guide Part VIII, $ABBREVIATED.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nlme.exchange.nonmem.records import Record, of_name

_PAIR = re.compile(
    r"REPLACE\s+(\"[^\"]*\"|'[^']*'|[A-Z_]\w*(?:\([^)]*\))?)\s*=\s*(\"[^\"]*\"|'[^']*'|\w+\([^)]*\)|[^\s(]+)", re.IGNORECASE
)
_KNOWN = r"COMRES|COMSAV|DERIV[12]|PROTECT|(NO)?FASTDER|(NO)?CHECKMU|DES\b"  # how derivatives and tables are computed
_SEQUENCE = re.compile(r"(\d+)\s*(?:TO|:)\s*(\d+)(?:\s*BY\s*(-?\d+))?", re.IGNORECASE)


@dataclass
class Abbreviations:
    """``plain``: text of a symbol -> the symbol it stands for; ``selected``: symbol -> (data item, kind, numbers)."""

    plain: dict[str, str] = field(default_factory=dict)
    selected: dict[str, tuple[str, str, tuple[int, ...]]] = field(default_factory=dict)


def abbreviations_of(
    records: list[Record], items: set[str], states: Sequence[str], labels: Mapping[str, Mapping[str, int]]
) -> Abbreviations:
    """All of a control stream's; ``items`` are the names of $INPUT, ``states`` the compartments that $MODEL names, ``labels`` those
    of $THETA, $OMEGA and $SIGMA: kind -> label -> number.

    Raises
    ------
    ModelError
        A form of $ABBREVIATED that is not known.
    """
    found = Abbreviations()
    for k, state in enumerate(states, start=1):
        if state[:1].isdigit():  # a number in A(n) is a position, whatever a compartment is called
            continue
        found.plain |= {f"{array}({state.upper()})": f"{array}({k})" for array in ("A", "DADT", "A_0")}
    for kind, numbers in labels.items():
        found.plain |= {f"{kind}({label})": f"{kind}({k})" for label, k in numbers.items()}
    for record in of_name(records, "ABBREVIATED"):
        text = re.sub(r"\s*=\s*", "=", record.text)
        for left, right in _PAIR.findall(text):
            _replace(record, found, left.upper().strip("\"'"), right.upper().strip("\"'"), items)
        for word in re.sub(r"(\w+)=\S+", r"\1", _PAIR.sub(" ", text)).split():
            if not re.match(_KNOWN, word, re.IGNORECASE):
                raise record.refuse(f"{word} is not imported.")
    return found


def _replace(record: Record, found: Abbreviations, left: str, right: str, items: set[str]) -> None:
    one, other = _indexed(left), _indexed(right)
    if one is None or other is None:
        known = re.fullmatch(r"[A-Z_]\w*(\(\w+\))?", left) and re.fullmatch(
            r"[A-Z_]\w*|[-+]?[\d.]+(E[-+]?\d+)?|\w+\(\d+\)", right
        )
        if not known:
            raise record.refuse(f"REPLACE {left}={right} is not imported.")
        found.plain[left] = right
        return
    (kind, names), (other_kind, inside) = one, other
    numbers = _numbers(inside)
    if numbers is None or kind != other_kind:
        raise record.refuse(f"REPLACE {left}={right} is not imported.")
    kind = "EPS" if kind == "ERR" else kind
    item = _item_of(names[0], items) if len(names) == 1 else None
    if item is not None and kind in ("THETA", "ETA", "EPS"):
        found.selected[f"{kind}({names[0]})"] = item, kind, numbers
    elif len(names) == len(numbers):
        found.plain |= {f"{kind}({name})": f"{kind}({number})" for name, number in zip(names, numbers, strict=True)}
    else:
        raise record.refuse(f"REPLACE {left}={right}: {names[0]} names no data item of $INPUT.")


def _indexed(text: str) -> tuple[str, list[str]] | None:
    match = re.fullmatch(r"([A-Z_]\w*)\(([^)]*)\)", text)
    return None if match is None else (match[1], [part.strip() for part in match[2].split(",")])


def _item_of(name: str, items: set[str]) -> str | None:
    """The data item of d, p_d or d_p."""
    cuts = [k for k, c in enumerate(name) if c == "_"]
    parts = [name, *(p for k in cuts for p in (name[:k], name[k + 1 :]))]
    return next((p for p in parts if p in items), None)


def _numbers(parts: list[str]) -> tuple[int, ...] | None:
    """The list with its sequences written out; None if it is none."""
    found: list[int] = []
    for part in parts:
        if part == "":
            continue
        if part.isdigit():
            found.append(int(part))
        elif match := _SEQUENCE.fullmatch(part):
            first, last, step = int(match[1]), int(match[2]), int(match[3] or 1)
            low, high, by = min(first, last), max(first, last), abs(step) or 1
            found += range(low, high + 1, by) if (first <= last) == (step > 0) else range(high, low - 1, -by)
        else:
            return None
    return tuple(found)
