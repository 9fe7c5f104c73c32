"""Abbreviated code ($PK, $PRED, $DES, $ERROR, $MIX) read into assignments.

What is not an assignment, an IF or an EXIT is refused with its line, unless it stands behind a condition that
never holds while a model is estimated (``IF (ICALL.EQ.4)``).
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field

from nlme.exchange.nonmem import expressions as ex
from nlme.exchange.nonmem.abbreviations import Abbreviations
from nlme.exchange.nonmem.formulas import UNSET, Formula
from nlme.exchange.nonmem.records import Record

_WHILE_ESTIMATED = {"ICALL": 2, "NPDE_MODE": 0}  # what these are while a model is estimated
EVERY_RECORD = -1
_PROTOCOLS = (
    (r"CALLFL=-2|NON-?EVENT|ADDITIONAL(ORLAGGED)?|ADDITIONALANDLAGGED.*", -2), (r"CALLFL=-1|EVERY(EVENT)?S?", EVERY_RECORD),
    (r"CALLFL=0|NEW(EVENT)?TIME|OBS(ERVATIONS?)?(EVENTS?|ONLY)?|ONLYOBS(ERVATIONS?)?", 0),
    (r"CALLFL=\+?1|ONCE.*", 1),
)  # fmt: skip
#: verbatim code that computes nothing: where it stands, declarations, the most steps of the integrator (IMAX of PRCOMG)
_DECLARES = re.compile(
    r'"(!.*|FIRST|MAIN|LAST|COMMON/PRCOMG/[A-Z0-9,]*|(INTEGER|REAL|LOGICAL|DOUBLEPRECISION)(::)?[A-Z][A-Z0-9,]*|IMAX=\d+)?'
)
_SHORT = 400  # nodes of a block that is written as one choice for each variable
_BEFORE = "_BEFORE"  # behind the name of a variable as it was before a block


@dataclass(frozen=True)
class Assignment:
    """``target = value``, with the line where it stands."""

    target: str
    value: ast.expr
    line: int


@dataclass(frozen=True)
class Other:
    """A statement that is no assignment: refused where it can be reached."""

    text: str
    line: int


@dataclass
class Condition:
    """IF: the blocks with their conditions; the last may have none (ELSE)."""

    blocks: list[tuple[ast.expr | None, list]]
    line: int


@dataclass
class Code:
    """What one record of abbreviated code does, as assignments in order; exits are kept by their line only.

    ``calls`` is CALLFL: -2 between the records too, -1 with every record, 0 with observations ($ERROR) or new times ($PK) only,
    1 once for each individual.
    """

    record: Record
    assignments: list[Assignment]
    exits: list[int] = field(default_factory=list)
    texts: dict[int, str] = field(default_factory=dict)
    calls: int = EVERY_RECORD

    def refuse(self, what: str, line: int | None = None):
        return self.record.refuse(what, line)

    @property
    def targets(self) -> set[str]:
        return {a.target for a in self.assignments}


def code_of(record: Record, abbreviations: Abbreviations) -> Code:
    """The assignments of a record; ``abbreviations`` are those of $ABBR REPLACE and $MODEL.

    Raises
    ------
    ModelError
        What is no assignment, IF or EXIT, or does not parse; with its line.
    """
    reader = _Reader(record, abbreviations)
    statements = reader.statements()
    code = Code(record, [], calls=reader.calls)
    _flatten(statements, code, code.assignments, set())
    code.assignments[:0] = [a for a in _at_the_start(statements) if a.target not in code.targets]
    return code


def _at_the_start(statements: list) -> list[Assignment]:
    """What is set to a number once, before the first record (``IF (ICALL.LE.1) PI=3.14159``)."""
    found = []
    for s in statements:
        test = s.blocks[0][0] if isinstance(s, Condition) else None
        if test is None or "ICALL" not in ex.names_in(test):
            continue
        once = any(_holds(ex.replaced(test, {"ICALL": ex.number(k)})) for k in (0, 1))
        if once and not _holds(_constants(test)):
            found += [a for a in s.blocks[0][1] if isinstance(a, Assignment) and not ex.names_in(a.value)]
    return found


def _holds(test: ast.expr) -> bool:
    known = folded(test)
    return isinstance(known, ast.Constant) and bool(known.value)


def expression_of(record: Record, text: str, line: int) -> ast.expr:
    """A single expression or condition."""
    return Formula(record, text, line, Abbreviations()).whole()


# -- lines ---------------------------------------------------------------------------------------------------------


class _Reader:
    """The lines of a record as nested statements."""

    def __init__(self, record: Record, abbreviations: Abbreviations):
        self._record, self._abbreviations = record, abbreviations
        self._lines = list(_joined(record))
        self._at = 0
        self.calls = EVERY_RECORD

    def statements(self) -> list:
        found = self._until(())
        if self._at < len(self._lines):
            number, text = self._lines[self._at]
            raise self._record.refuse(f"{text.strip()} has no IF before it.", number)
        return found

    def _until(self, ends: tuple[str, ...]) -> list:
        found = []
        while self._at < len(self._lines):
            number, text = self._lines[self._at]
            plain = re.sub(r"\s+", "", text).upper()
            if re.match(r"(ENDIF$|ELSE$|ELSEIF\()", plain):
                if not ends:
                    return found
                return found
            self._at += 1
            found.extend(self._statement(number, text, plain))
        return found

    def _statement(self, number: int, text: str, plain: str) -> list:
        if not plain:
            return []
        if re.match(r"\(.*\)$", plain) or re.match(r"(CALLFL|COMRES)=", plain):
            return self._protocol(number, text.strip(), plain.strip("()"))
        if text.lstrip().startswith('"') and _DECLARES.fullmatch(plain):
            return []
        left, equals, right = _split_assignment(text)
        assigns = equals and re.fullmatch(r"\s*[A-Za-z_]\w*\s*(\([^()]*\))?\s*", left)
        other = re.match(r"(CALL[A-Z]|DOWHILE|ENDDO|RETURN|WRITE|PRINT|OPEN|CLOSE|REWIND)", plain)
        if text.lstrip().startswith('"') or other and not assigns:
            if re.match(r"DOWHILE", plain):
                return [Other(text.strip(), number), *self._loop()]
            return [Other(text.strip(), number)]
        if re.match(r"EXIT(\d.*)?$", plain):
            return [Other("EXIT", number)]
        match = re.match(r"\s*IF\s*\(", text, re.IGNORECASE)
        if match:
            return [self._condition(number, text, match.end() - 1)]
        if not equals:
            raise self._record.refuse(f"{text.strip()!r} is no statement that is known here.", number)
        return [Assignment(self._target(left, number), self._expression(right, number), number)]

    def _protocol(self, number: int, text: str, plain: str) -> list:
        """When the code is called."""
        if re.fullmatch(r"COMRES=-?\d+", plain):
            return []
        found = next((calls for pattern, calls in _PROTOCOLS if re.fullmatch(pattern, plain)), None)
        if found is None:
            raise self._record.refuse(f"{text} is no calling protocol that is known here.", number)
        self.calls = found
        return []

    def _loop(self) -> list:
        while self._at < len(self._lines):
            self._at += 1
            if re.sub(r"\s+", "", self._lines[self._at - 1][1]).upper().startswith("ENDDO"):
                break
        return []

    def _condition(self, number: int, text: str, start: int) -> Condition:
        end = _closing(text, start)
        if end is None:
            raise self._record.refuse(f"{text.strip()!r}: a parenthesis is not closed.", number)
        test, rest = self._expression(text[start + 1 : end], number), text[end + 1 :].strip()
        if rest.upper() != "THEN":
            return Condition([(test, self._statement(number, rest, re.sub(r"\s+", "", rest).upper()))], number)
        blocks = [(test, self._until(("ENDIF",)))]
        while True:
            if self._at >= len(self._lines):
                raise self._record.refuse("an IF is not closed by ENDIF.", number)
            line, text = self._lines[self._at]
            plain = re.sub(r"\s+", "", text).upper()
            self._at += 1
            if plain == "ENDIF":
                return Condition(blocks, number)
            if plain == "ELSE":
                blocks.append((None, self._until(("ENDIF",))))
                continue
            start = text.index("(")
            end = _closing(text, start)
            if end is None:
                raise self._record.refuse(f"{text.strip()!r}: a parenthesis is not closed.", line)
            blocks.append((self._expression(text[start + 1 : end], line), self._until(("ENDIF",))))

    def _target(self, text: str, number: int) -> str:
        node = self._expression(text, number)
        if not isinstance(node, ast.Name):
            raise self._record.refuse(f"{text.strip()!r} cannot be assigned to.", number)
        return node.id

    def _expression(self, text: str, number: int) -> ast.expr:
        return Formula(self._record, text, number, self._abbreviations).whole()


def _joined(record: Record):
    """Lines with their continuations."""
    pending, first = "", None
    for line in record.lines:
        text = line.text.rstrip()
        if text.lstrip().startswith('"'):
            yield line.number, text
            continue
        first = line.number if first is None else first
        if text.endswith("&"):
            pending += text[:-1] + " "
            continue
        yield first, pending + text
        pending, first = "", None


def _split_assignment(text: str) -> tuple[str, str, str]:
    """The first = at depth 0 that is no part of == or a relation."""
    depth = 0
    for k, c in enumerate(text):
        depth += (c == "(") - (c == ")")
        if c == "=" and depth == 0 and text[k + 1 : k + 2] != "=" and text[k - 1 : k] not in "=<>/":
            return text[:k], "=", text[k + 1 :]
    return text, "", ""


def _closing(text: str, start: int) -> int | None:
    depth = 0
    for k in range(start, len(text)):
        depth += (text[k] == "(") - (text[k] == ")")
        if depth == 0:
            return k
    return None


# -- IF into where -------------------------------------------------------------------------------------------------


def _flatten(statements: list, code: Code, out: list[Assignment], known: set[str]) -> None:
    for statement in statements:
        if isinstance(statement, Assignment):
            out.append(Assignment(statement.target, _constants(statement.value), statement.line))
            known.add(statement.target)
        elif isinstance(statement, Other):
            if statement.text != "EXIT":
                raise code.refuse(f"{statement.text!r} is not imported: it is neither an assignment nor an IF.", statement.line)
            code.exits.append(statement.line)
        else:
            _flatten_condition(statement, code, out, known)


def _flatten_condition(statement: Condition, code: Code, out: list[Assignment], known: set[str]) -> None:
    blocks = []
    for test, inner in statement.blocks:
        test = None if test is None else folded(_constants(test))
        if isinstance(test, ast.Constant) and not test.value:
            continue
        own: list[Assignment] = []
        _flatten(inner, code, own, set(known))
        blocks.append((test, own))
        if test is None or isinstance(test, ast.Constant):
            break
    if not blocks:
        return
    if blocks[0][0] is None or isinstance(blocks[0][0], ast.Constant):
        for a in blocks[0][1]:
            _append(out, known, a.target, a.value, a.line)
        return
    inlined = [(test, _inlined(own)) for test, own in blocks]
    if all(values is not None for _, values in inlined):
        _together(statement, inlined, out, known)
    else:
        _one_by_one(statement, blocks, out, known)


def _one_by_one(statement: Condition, blocks: list, out: list[Assignment], known: set[str]) -> None:
    """A long block: its conditions as variables of their own, then every assignment under its condition, in order."""
    before: list[ast.expr] = []
    for k, (test, own) in enumerate(blocks, start=1):
        free = ex.call("jnp.logical_not", before[0]) if before else None
        for b in before[1:]:
            free = ex.call("jnp.logical_and", free, ex.call("jnp.logical_not", b))
        parts = [p for p in (free, test) if p is not None]
        holds = ex.call("jnp.logical_and", *parts) if len(parts) == 2 else parts[0]
        if ex.names_in(holds) - {"A_0FLG"}:  # which no block sets
            name = f"IF{statement.line}_{k}"
            _append(out, known, name, holds, statement.line)
            holds = ex.name(name)
        before.append(holds)
        for a in own:
            earlier = ex.name(a.target if a.target in known else UNSET + a.target)
            _append(out, known, a.target, ex.where(holds, a.value, earlier), a.line)


def _together(statement: Condition, blocks: list, out: list[Assignment], known: set[str]) -> None:
    """A short block: one choice for each variable."""
    targets = list(dict.fromkeys(t for _, values in blocks for t in values if not t.endswith(_BEFORE)))
    used = set().union(*(ex.names_in(test) for test, _ in blocks if test is not None))
    used |= set().union(*(ex.names_in(v) for _, values in blocks for v, _ in values.values()), set())
    renamed = {}
    if len(targets) > 1:
        for target in targets:
            if target in used and target in known:
                renamed[target] = ex.name(target + _BEFORE)
                out.append(Assignment(target + _BEFORE, ex.name(target), statement.line))
                known.add(target + _BEFORE)
    for target in targets:
        earlier = ex.name(target if target in known else UNSET + target)
        value: ast.expr = earlier
        for test, values in reversed(blocks):
            here = values[target][0] if target in values else earlier
            value = here if test is None else ex.where(test, here, value)
        # the target's own earlier value is still there while it is assigned
        others = {n: e for n, e in renamed.items() if n != target}
        _append(out, known, target, ex.replaced(value, others), statement.line)


def _append(out: list[Assignment], known: set[str], target: str, value: ast.expr, line: int) -> None:
    out.append(Assignment(target, value, line))
    known.add(target)


def _inlined(assignments: list[Assignment]) -> dict[str, tuple[ast.expr, int]] | None:
    """target -> value in terms of what held before the block; None where that would be long."""
    values: dict[str, tuple[ast.expr, int]] = {}
    for a in assignments:
        if sum(1 for v, _ in values.values() for _ in ast.walk(v)) > _SHORT:
            return None
        values[a.target] = (ex.replaced(a.value, {n: v for n, (v, _) in values.items()}), a.line)
    return values


def _constants(node: ast.expr) -> ast.expr:
    return ex.replaced(node, {name: ex.number(value) for name, value in _WHILE_ESTIMATED.items()})


def folded(node: ast.expr) -> ast.expr:
    """A condition with what is known of it worked out."""
    if isinstance(node, ast.Compare) and ex.is_number(node.left) and ex.is_number(node.comparators[0]):
        return ast.Constant(bool(eval(ex.text(node), {})))
    if isinstance(node, ast.Call) and node.func.id.startswith("jnp.logical_"):
        parts = [folded(a) for a in node.args]
        known = [p.value for p in parts if isinstance(p, ast.Constant)]
        if node.func.id.endswith("not"):
            return ast.Constant(not known[0]) if known else ex.call(node.func.id, *parts)
        decisive = node.func.id.endswith("or")
        if any(bool(k) == decisive for k in known):
            return ast.Constant(decisive)
        open_ = [p for p in parts if not isinstance(p, ast.Constant)]
        if not open_:
            return ast.Constant(not decisive)
        return open_[0] if len(open_) == 1 else ex.call(node.func.id, *parts)
    return node
