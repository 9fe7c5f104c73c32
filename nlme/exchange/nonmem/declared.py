"""$THETA, $OMEGA and $SIGMA: initial values, bounds, blocks, what is fixed, and the comments beside them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace

import numpy as np

from nlme.exchange.nonmem.records import Line, Record, of_name

_ITEM = re.compile(r"\(([^()]*)\)(?:\s*[xX](\d+))?|([^\s,()]+)")
_INFINITE = 1_000_000.0  # what NM-TRAN takes for no bound


@dataclass(frozen=True)
class Theta:
    """One fixed effect."""

    value: float
    lower: float
    upper: float
    fixed: bool
    comment: str
    line: int
    label: str = ""


@dataclass(frozen=True)
class Block:
    """Random effects ``first`` .. ``first + size - 1`` (from 1) and their covariance.

    ``same`` is the number of the first effect of the block whose variances these share, 0 if they have their own; ``full`` says
    that the block was written as one, with covariances.
    """

    first: int
    matrix: np.ndarray
    fixed: bool
    same: int
    full: bool
    comments: tuple[str, ...]
    line: int
    labels: tuple[str, ...] = ()  # LABEL=value or NAMES(...), "" for none

    @property
    def size(self) -> int:
        return len(self.matrix)

    @property
    def numbers(self) -> tuple[int, ...]:
        return tuple(range(self.first, self.first + self.size))


def thetas_of(records: list[Record], name: str = "THETA") -> list[Theta]:
    """All fixed effects in order (or the values of another record that is written like $THETA).

    Raises
    ------
    ModelError
        A form of $THETA that is not known.
    """
    return [theta for record in of_name(records, name) for theta in _thetas(record)]


def _thetas(record: Record) -> list[Theta]:
    found: list[Theta] = []
    labels: list[str] = []  # of the values to come
    for line, items in _lines(record):
        here: list[Theta] = []
        for k, (inside, times, bare) in enumerate(items):
            word = bare.upper()
            if k and items[k - 1][2].upper().startswith("NUMBERP"):
                continue
            if word in ("ABORT", "NOABORT", "NOABORTFIRST", "NAMES") or word.startswith("NUMBERP"):
                continue
            if bare.endswith("=") or k and items[k - 1][2].upper() == "NAMES":
                labels += [word.rstrip("=")] if bare else re.split(r"[\s,]+", inside.upper().strip())
                continue
            if word in ("FIX", "FIXED", "UNINT"):
                last = here or found
                if not last:
                    raise record.refuse(f"{bare} stands before any value.", line.number)
                if word != "UNINT":
                    last[-1] = _fix(last[-1])
                continue
            theta = _theta(record, inside if not bare else bare, line.number)
            here.extend([replace(theta, label=labels.pop(0) if labels else "") for _ in range(int(times or 1))])
        if len(here) == 1:
            here[0] = replace(here[0], comment=line.comment)
        elif not here and line.comment and found and not found[-1].comment and found[-1].line == line.number - 1:
            continue
        found.extend(here)
    return found


def _fix(theta: Theta) -> Theta:
    return replace(theta, fixed=True)


def _theta(record: Record, text: str, line: int) -> Theta:
    fixed = bool(re.search(r"\bFIX(ED)?\b", text, re.IGNORECASE))
    plain = re.sub(r"\b(FIX(ED)?|UNINT)\b", " ", text, flags=re.IGNORECASE).strip().strip(",")
    parts = [p.strip() for p in plain.split(",")] if "," in plain else plain.split()
    parts = [q for p in parts for q in (p.split() or [""])]
    if not 1 <= len(parts) <= 3:
        raise record.refuse(f"({text}) is no initial value.", line)
    numbers = [_number(record, p, line) for p in parts]
    low, value, up = {1: (None, *numbers, None), 2: (*numbers, None)}.get(len(numbers), tuple(numbers))
    lower = -math.inf if low is None or low <= -_INFINITE else low
    upper = math.inf if up is None or up >= _INFINITE else up
    if value is None:
        if not (math.isfinite(lower) and math.isfinite(upper)):
            raise record.refuse(f"({text}) has no initial value.", line)
        value = 0.5 * (lower + upper)
    return Theta(value, lower, upper, fixed or lower == upper, "", line)


def _number(record: Record, text: str, line: int) -> float | None:
    if not text:
        return None
    word = text.upper().lstrip("+")
    if word in ("INF", "INFINITY", "-INF", "-INFINITY"):
        return -math.inf if word.startswith("-") else math.inf
    try:
        return float(text.upper().replace("D", "E"))
    except ValueError:
        raise record.refuse(f"{text!r} is no number.", line) from None


def _lines(record: Record):
    """(line, items) of a record, ``LABEL=`` an item of its own; lines within parentheses are one, with the last one's comment."""
    lines: list[Line] = []
    for line in record.lines:
        if lines and lines[-1].text.count("(") > lines[-1].text.count(")"):
            joined = f"{lines[-1].text.replace('&', ' ')} {line.text}"
            lines[-1] = Line(lines[-1].number, joined, line.comment or lines[-1].comment)
        else:
            lines.append(line)
    for line in lines:
        text = re.sub(r"\(\s*([^()]*?)\s*\)", r"(\1)", line.text.replace("&", " "))
        text = re.sub(r"([A-Za-z_]\w*)\s*=\s*", r"\1= ", text)
        items = [(m[1] or "", m[2], m[3] or "") for m in _ITEM.finditer(text)]
        if "(" in _ITEM.sub("", text) or ")" in _ITEM.sub("", text):
            raise record.refuse(f"{line.text.strip()!r}: the parentheses do not match.", line.number)
        yield line, items


def blocks_of(records: list[Record], name: str) -> list[Block]:
    """The blocks of $OMEGA or $SIGMA, as covariances whatever they were written as.

    Raises
    ------
    ModelError
        A form that is not known, a block of the wrong size, SAME without a block before it.
    """
    blocks: list[Block] = []
    for record in of_name(records, name):
        blocks.extend(_blocks(record, blocks))
    return blocks


def _next(blocks: list[Block]) -> int:
    return blocks[-1].first + blocks[-1].size if blocks else 1


def _blocks(record: Record, before: list[Block]) -> list[Block]:
    """The blocks that one record adds."""
    text = " ".join(line.text for line in record.lines)
    size, same, values, flags, labels = _parsed(record)
    whole = re.search(r"\bBLOCK\b", text, re.IGNORECASE) is not None
    first, every = _next(before), []
    if same:
        if not before:
            raise record.refuse("SAME has no block before it.")
        source = before[-1]
        if size and size != source.size:
            raise record.refuse(f"BLOCK({size}) SAME follows a block of {source.size}.")
        origin = source.same or source.first
        for _ in range(same):
            comments = tuple(v[2] for v in values[: source.size]) or ("",) * source.size
            every.append(Block(first, source.matrix, source.fixed, origin, source.full, comments, record.line))
            first += source.size
        return every
    if whole:
        size = size or 1
        need = size * (size + 1) // 2
        if re.search(r"\bVALUES\b", text, re.IGNORECASE) and len(values) == 2 < need:
            values = [values[0] if i == j else values[1] for i in range(size) for j in range(i + 1)]
        if len(values) != need:
            raise record.refuse(f"BLOCK({size}) needs {need} values; there are {len(values)}.")
        comments = tuple(values[k * (k + 1) // 2 + k][2] for k in range(size))
        flags = flags | set().union(*(v[1] for v in values))
        matrix = _as_covariance(record, _full(size, [v[0] for v in values]), flags)
        return [Block(first, matrix, "FIX" in flags, 0, True, comments, record.line, _labels(size, labels, True))]
    if size and len(values) != size:
        raise record.refuse(f"DIAGONAL({size}) needs {size} values; there are {len(values)}.")
    names = _labels(len(values), labels, False)
    for (value, own, comment, line), name in zip(values, names, strict=True):
        matrix = np.array([[value**2 if own & {"SD", "CHOLESKY"} else value]])
        every.append(Block(first, matrix, "FIX" in own, 0, False, (comment,), line, (name,)))
        first += 1
    return every


#: how values are written, by full words, of which three letters do; SD is a whole one
_FLAGS = {
    "FIXED": "FIX", "SD": "SD", "STANDARD": "SD", "CORRELATION": "CORRELATION", "CORRELATON": "CORRELATION", "CHOLESKY": "CHOLESKY",
    "VARIANCE": "", "COVARIANCE": "", "UNINT": "",
}  # fmt: skip


def _flag(word: str) -> str | None:
    """What a word says of the values, "" where that is the default; None if it is no such word."""
    word = word.upper()
    return next((flag for full, flag in _FLAGS.items() if word == full or len(word) >= 3 and full.startswith(word)), None)


def _parsed(record: Record):
    """(size or 0, how often SAME, [(value, flags, comment, line)], flags of the record, [(position of a value, label)])."""
    size, same, values, flags, labels = 0, 0, [], set(), []
    block = re.search(r"\bBLOCK\b", record.text, re.IGNORECASE) is not None
    expect = ""
    for line, items in _lines(record):
        before = len(values)
        for inside, times, bare in items:
            word = bare.upper()
            if bare.endswith("="):
                labels.append((len(values), word[:-1]))
                continue
            if not bare and expect == "NAMES":
                names, expect = re.split(r"[\s,]+", inside.upper().strip()), ""
                labels += [((k + 1) * (k + 2) // 2 - 1, name) for k, name in enumerate(names)]
                continue
            if word in ("BLOCK", "DIAGONAL", "DIAG", "VALUES", "SAME", "NAMES"):
                expect = word
                same += word == "SAME"
                continue
            if not bare and expect in ("BLOCK", "DIAGONAL", "DIAG"):
                size, expect = int(inside), ""
                continue
            if not bare and expect == "SAME":
                same, expect = int(inside), ""
                continue
            if not bare and expect == "VALUES":
                values.extend(v for part in re.split(r"[\s,]+", inside.strip()) for v in _valued(record, part, None, line))
                continue
            expect = "" if bare else expect
            if (flag := _flag(word)) is not None:
                if values and len(values) > before and flag == "FIX" and not block:
                    values[-1][1].add("FIX")
                elif flag:
                    flags.add(flag)
                continue
            values.extend(_valued(record, bare or inside, times, line))
        if len(values) > before:
            keep = values[-1] if len(values) - before >= 1 else None
            values[-1] = (*keep[:2], line.comment, line.number)
    if not size and not block:
        values = [(v, own | (flags - {"FIX"} if len(values) > 1 else flags), c, n) for v, own, c, n in values]
        if "FIX" in flags and len(values) > 1:
            raise record.refuse("FIX of a diagonal of several values: write it behind each value.")
    elif not block:
        values = [(v, own | flags, c, n) for v, own, c, n in values]
    return size, same, values, flags, labels


def _labels(size: int, labels: list[tuple[int, str]], whole: bool) -> tuple[str, ...]:
    """The label of each effect: of the row in which a labelled value stands."""
    found = [""] * size
    for position, label in labels:
        row = next(k for k in range(size + 1) if position < (k + 1) * (k + 2) // 2) if whole else position
        if row < size:
            found[row] = label
    return tuple(found)


def _valued(record: Record, text: str, times: str | None, line) -> list:
    own, number = set(), None
    for part in re.split(r"[\s,]+", text.strip()):
        if (flag := _flag(part)) is not None:
            own.add(flag)
        elif number is None:
            number = _number(record, part, line.number)
        else:
            raise record.refuse(f"({text}) is not known.", line.number)
    if number is None:
        raise record.refuse(f"({text}) has no value.", line.number)
    return [(number, own - {""}, "", line.number) for _ in range(int(times or 1))]


def _full(size: int, values: list[float]) -> np.ndarray:
    full = np.zeros((size, size))
    full[np.tril_indices(size)] = values
    return full + np.tril(full, -1).T


def _as_covariance(record: Record, matrix: np.ndarray, flags: set[str]) -> np.ndarray:
    """What was written as standard deviations, correlations or a Cholesky factor, as covariances."""
    if "CHOLESKY" in flags:
        factor = np.tril(matrix)
        return factor @ factor.T
    diagonal = np.diag(matrix).copy()
    sd = diagonal if "SD" in flags else np.sqrt(np.abs(diagonal))
    out = matrix.copy()
    if "CORRELATION" in flags:
        out = matrix * np.outer(sd, sd)
    np.fill_diagonal(out, sd**2)
    return out
