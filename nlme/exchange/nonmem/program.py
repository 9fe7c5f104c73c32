"""A control stream as one program over its data: the code, the records, and what they make of each other.

Occasions are the effects of blocks with SAME, one at each record; endpoints are the groups of observations that the code gives
other residual errors, compartments or likelihoods.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nlme.exchange.nonmem import expressions as ex
from nlme.exchange.nonmem.abbreviated import Assignment, Code, code_of
from nlme.exchange.nonmem.abbreviations import Abbreviations, abbreviations_of
from nlme.exchange.nonmem.calls import as_called, at_starts, uncalled
from nlme.exchange.nonmem.dataset import Column, columns_of, read_data
from nlme.exchange.nonmem.declared import Block, Theta, blocks_of, thetas_of
from nlme.exchange.nonmem.items import Items, items_of
from nlme.exchange.nonmem.prior import Prior, with_prior
from nlme.exchange.nonmem.records import Record, has_word, of_name, records_of
from nlme.exchange.nonmem.structure import GENERAL, Compartments, compartments_of, flows_of
from nlme.exchange.nonmem.walk import Walked, walk, with_memories

_RULES = ("ALAG", "F", "R", "D", "S")


@dataclass
class Endpoint:
    """Observations that the code treats alike: their records, and the code as it runs for them."""

    records: np.ndarray
    code: list[Assignment]
    eps: frozenset[int]
    likelihood: float  # F_FLAG: 0 a prediction, 1 a likelihood, 2 -2 log likelihood
    compartment: int
    name: str = "dv"


@dataclass
class Program:
    """Everything that a control stream says, read."""

    file: str
    records: list[Record]
    thetas: list[Theta]
    omegas: list[Block]
    sigmas: list[Block]
    compartments: Compartments
    columns: list[Column]
    items: Items
    main: Code  # $PK or $PRED
    des: Code | None
    error: Code | None
    mix: Code | None
    prior: Prior | None
    held: dict[str, np.ndarray]
    walked: Walked
    endpoints: list[Endpoint] = field(default_factory=list)
    occasion: np.ndarray | None = None
    occasional: dict[int, int] = field(default_factory=dict)  # number of an eta -> that of the first occasion's
    problems: int = 1  # in the file, of which this is the first

    @property
    def predpp(self) -> bool:
        return self.compartments.advan != 0

    def block_of(self, blocks: list[Block], number: int) -> tuple[Block, int]:
        """The block of a random effect and its place in it."""
        block = next(b for b in blocks if number in b.numbers)
        return block, number - block.first

    def structural(self) -> list[str]:
        """The parameters that $PK hands to the structure, to $DES too."""
        found = []
        if not self.predpp:
            return found
        n, targets = len(self.compartments.states), self.main.targets
        if self.compartments.advan in (5, 7):
            found += list(flows_of(targets, n))
        elif self.compartments.advan == 10:
            found += ["VM", "KM"]
        elif self.compartments.advan in GENERAL:
            reads = set().union(*(ex.names_in(a.value) for a in self.des.assignments), set())
            found += sorted(reads & targets)
        else:
            text = " ".join(self.compartments.form(self.main.record).values())
            found += sorted(set(re.findall(r"[A-Z]\w*", text)))
        found += [f"{rule}{k}" for rule in _RULES for k in range(1, n + 1) if f"{rule}{k}" in targets]
        found += [t for t in targets if t.startswith(("A_0(", "MTIME("))]
        if "SC" in targets:
            found.append("SC")
        return found


def program_of(path: Path) -> Program:
    """Read a control stream and its data.

    Raises
    ------
    ModelError, DataError
        What is not taken, by record and line.
    """
    text = path.read_text(encoding="utf-8", errors="replace")
    records = records_of(text, path.name)
    compartments = compartments_of(records)
    columns = columns_of(records)
    prior, thetas, omegas, sigmas = with_prior(
        records, thetas_of(records), blocks_of(records, "OMEGA"), blocks_of(records, "SIGMA")
    )
    items_read = {n for c in columns if not c.dropped for n in c.names}
    abbreviations = abbreviations_of(records, items_read, compartments.declared, _labels(thetas, omegas, sigmas))
    main = _only(records, "PK" if compartments.advan else "PRED", abbreviations)
    if main is None:
        raise records[0].refuse("there is neither $PRED nor $SUBROUTINES with $PK.")
    des = _only(records, "DES", abbreviations) if compartments.advan in GENERAL else None
    if compartments.advan in GENERAL and des is None:
        raise of_name(records, "SUBROUTINES")[0].refuse(f"ADVAN{compartments.advan} needs $DES.")
    error = _only(records, "ERROR", abbreviations) if compartments.advan else None
    if compartments.advan and error is None:
        raise records[0].refuse("there is no $ERROR.")
    items = _items(records, columns, path.parent, compartments)
    if any(not c.dropped and c.name == "CALL" for c in columns):
        raise of_name(records, "INPUT")[0].refuse("CALL is not imported.")
    for name in {"TSCALE", "XSCALE"} & main.targets if compartments.advan else ():
        raise main.refuse(f"{name}, a scale of the time, is not imported.")
    main, held = as_called(at_starts(main, items), items)
    program = Program(
        path.name, records, thetas, omegas, sigmas, compartments, columns, items, main, des, error,
        _only(records, "MIX", abbreviations), prior, held, Walked(),
    )  # fmt: skip
    program.problems = len(re.findall(r"^\s*\$\s*PRO[A-Z]*", text, re.IGNORECASE | re.MULTILINE))
    _run(program)
    return program


def _labels(thetas: list[Theta], omegas: list[Block], sigmas: list[Block]) -> dict[str, dict[str, int]]:
    found = {"THETA": {t.label: k for k, t in enumerate(thetas, start=1) if t.label}}
    for kind, blocks in (("ETA", omegas), ("EPS", sigmas)):
        found[kind] = {label: b.first + k for b in blocks for k, label in enumerate(b.labels) if label}
    return found


def _only(records: list[Record], name: str, abbreviations: Abbreviations) -> Code | None:
    found = of_name(records, name)
    if not found:
        return None
    whole = Record(name, tuple(line for record in found for line in record.lines), found[0].file)  # a second one goes on
    return code_of(whole, abbreviations)


def _items(records: list[Record], columns: list[Column], folder: Path, compartments: Compartments) -> Items:
    dated = [k for k, c in enumerate(columns) if c.name in ("DATE", "DAT1", "DAT2", "DAT3")]
    # NM-TRAN reads a date though it is dropped from what NONMEM gets
    reading = [Column(c.names, False) if k in dated else c for k, c in enumerate(columns)]
    frame = read_data(records, reading, folder)
    dates = {columns[k].name: list(frame[columns[k].name]) for k in dated}
    synonyms = {n: c.name for c in columns if not c.dropped for n in c.names if n != c.name}
    return items_of(frame, dates, bool(compartments.advan), synonyms)


# -- the walk ------------------------------------------------------------------------------------------------------


def _run(program: Program) -> None:
    items, n = program.items, len(program.items)
    codes = [c for c in (program.main, program.error) if c is not None]
    told = dict(
        starts={"F_FLAG": _whole_likelihood(program.records)} if any("F_FLAG" in c.targets for c in codes) else {},
        uncalled={1: uncalled(program.error, items)} if program.error is not None else {},
    )
    last = codes[-1]
    if "Y" not in last.targets:
        raise last.refuse("Y is not set.")
    structural = program.structural()
    outputs = [*structural, "Y", "F_FLAG"]
    aliases = _observed_at(program)
    first = walk(codes, n, lambda name, r: _held(program, name, r), outputs, aliases, **told)
    codes, remembered = with_memories(codes, first, {*items.columns, *program.held})
    program.held = program.held | remembered
    for name in ("NEWIND", "A_0FLG"):
        if any(name in ex.names_in(a.value) for code in codes for a in code.assignments):
            program.held[name] = np.array([items.value(name, r) for r in range(n)])
    program.main, program.error = codes[0], codes[1] if len(codes) > 1 else None
    program.walked = walk(codes, n, lambda name, r: _held(program, name, r), outputs, aliases, **told)
    for record, name in first.stale:
        if name not in ("Y", "F_FLAG") or items.observed[record]:
            line = next(a.line for a in reversed(last.assignments + program.main.assignments) if a.target == name)
            raise (last if name in ("Y", "F_FLAG") else program.main).refuse(
                f"{name} relies on what a variable held on an earlier record ({items.where(record)}): no branch sets it there.",
                line,
            )
    _require_rates(program)
    _find_occasions(program)
    _find_endpoints(program)
    _require_levels(program)


def _require_levels(program: Program) -> None:
    """Refuse observations of one L2 record whose residual errors are the same, or correlated: EPS is drawn once for it."""
    items = program.items
    if "L2" not in items.columns:
        return
    level = items.columns["L2"]
    whole = np.cumsum((np.diff(level, prepend=np.nan) != 0) | (np.diff(items.subject, prepend=-1) != 0))
    eps = {int(r): e.eps for e in program.endpoints for r in e.records}
    drawn: dict[int, dict[int, int]] = {}  # L2 record -> number of an EPS -> the record that has it
    for r in sorted(eps):
        before = drawn.setdefault(int(whole[r]), {})
        for k in eps[r]:
            block, place = program.block_of(program.sigmas, k)
            with_it = [o for o in before if o == k or o in block.numbers and block.matrix[place, o - block.first] != 0.0]
            if with_it:
                raise of_name(program.records, "INPUT")[0].refuse(
                    f"L2: EPS({k}) on {items.where(r)} and EPS({with_it[0]}) on {items.where(before[with_it[0]])} are of one "
                    "draw; errors correlated between records are not imported."
                )
        before |= dict.fromkeys(eps[r], r)


def _require_rates(program: Program) -> None:
    """Refuse equations that rely on what a variable of theirs held before: between records there is no order to remember."""
    des = program.des
    if des is None:
        return
    rates = [name for name in des.targets if name.startswith("DADT(")]
    found = walk([program.main, des], len(program.items), lambda name, r: _held(program, name, r), rates, [], strict=True)
    for record, name in found.stale[:1]:
        line = next(a.line for a in reversed(des.assignments) if a.target == name)
        where = program.items.where(record)
        raise des.refuse(f"{name} relies on a variable that no branch sets there ({where}).", line)


def _held(program: Program, name: str, record: int) -> float | None:
    return float(program.held[name][record]) if name in program.held else program.items.value(name, record)


def _observed_at(program: Program) -> list[dict[str, str]]:
    """F at each record as the amount in the compartment that it is of."""
    if not program.predpp:
        return [{} for _ in range(len(program.items))]
    cmt = program.items.column("CMT").astype(int)
    n, default = len(program.compartments.states), program.compartments.observed
    at = np.where((cmt <= 0) | (program.items.evid != 0), default, cmt)
    if np.any((at > n) & program.items.observed):
        record = int(np.flatnonzero((at > n) & program.items.observed)[0])
        raise program.main.refuse(
            f"{program.items.where(record)} observes compartment {at[record]}, the output compartment, which is not imported."
        )
    return [{"F": f"A({k})"} for k in at]


def _etas(depends: set[str]) -> set[int]:
    return {int(d[4:-1]) for d in depends if d.startswith("ETA(")}


def _find_occasions(program: Program) -> None:
    """Blocks with SAME whose effects act at different records."""
    families: dict[int, list[Block]] = {}
    for block in program.omegas:
        families.setdefault(block.same or block.first, []).append(block)
    families = {first: blocks for first, blocks in families.items() if len(blocks) > 1}
    if not families:
        return
    n = len(program.items)
    occasion = np.zeros(n, dtype=int)
    active = [_etas(d) for d in program.walked.depends]
    if program.des is not None and any(name.startswith("ETA(") for a in program.des.assignments for name in ex.names_in(a.value)):
        raise program.des.refuse("random effects in $DES together with SAME are not imported; set them in $PK.")
    for blocks in families.values():
        members = [set(b.numbers) for b in blocks]
        for r in range(n):
            here = [k for k, m in enumerate(members, start=1) if active[r] & m]
            if len(here) > 1:
                line = blocks[-1].line
                raise of_name(program.records, "OMEGA")[0].refuse(
                    f"the effects {', '.join(f'ETA({blocks[k - 1].first})' for k in here)} share a variance (SAME) and act "
                    f"together "
                    f"on {program.items.where(r)}: that is no occasion, and is not imported.", line,
                )  # fmt: skip
            if here and occasion[r] not in (0, here[0]):
                raise of_name(program.records, "OMEGA")[0].refuse(
                    f"blocks with SAME disagree about the occasion of {program.items.where(r)}.", blocks[-1].line
                )
            if here:
                occasion[r] = here[0]
        for block in blocks:
            program.occasional |= {b: a for a, b in zip(blocks[0].numbers, block.numbers, strict=True)}
    program.occasion = _filled(occasion, program.items.subject)


def _filled(occasion: np.ndarray, subject: np.ndarray) -> np.ndarray:
    """Records on which no occasion's effect acts belong to the one before, or after, them."""
    out = occasion.copy()
    for s in np.unique(subject):
        at = np.flatnonzero(subject == s)
        known = at[out[at] > 0]
        if not len(known):
            out[at] = 1
            continue
        for r in at:
            if out[r] == 0:
                earlier = known[known < r]
                out[r] = out[earlier[-1]] if len(earlier) else out[known[0]]
    return out


# -- endpoints -----------------------------------------------------------------------------------------------------


def _find_endpoints(program: Program) -> None:
    observed = np.flatnonzero(program.items.observed)
    flag = _whole_likelihood(program.records)
    groups: dict[tuple, list[int]] = {}
    for r in observed:
        found = program.walked.outputs[r]
        y = found["Y"]
        f_flag = found.get("F_FLAG")
        if f_flag is not None and f_flag.number is None:
            raise (program.error or program.main).refuse("F_FLAG depends on more than the data.")
        likelihood = flag if f_flag is None else f_flag.number
        eps = frozenset(int(d[4:-1]) for d in y.depends if d.startswith("EPS("))
        amounts = frozenset(d for d in y.depends if d.startswith("A("))
        groups.setdefault((eps, likelihood, amounts), []).append(int(r))
    if not groups:
        return
    code = (program.error or program.main).assignments
    cmt = _observed_at(program)
    for (eps, likelihood, _), at in groups.items():
        place = {int(cmt[r]["F"][2:-1]) for r in at} if program.predpp else {0}
        if len(place) > 1 and any("F" in ex.names_in(a.value) for a in code):
            # F is of several compartments in one group only if it has no part in Y
            place = {program.compartments.observed}
        own = code
        if len(groups) > 1:
            own = [Assignment(a.target, _as_for(a.value, at, program.walked.outcomes), a.line) for a in code]
        if likelihood not in (0, 1, 2):
            raise (program.error or program.main).refuse(f"F_FLAG={likelihood:g} is not known.")
        program.endpoints.append(Endpoint(np.array(at), own, eps, float(likelihood), min(place)))
    _name_endpoints(program)


def _whole_likelihood(records: list[Record]) -> float:
    """What the estimation steps say of Y: 0 a prediction, 1 a likelihood, 2 -2 log likelihood."""
    for record in of_name(records, "ESTIMATION"):
        text = record.text.upper()
        if re.search(r"(?<![\w])-2\s*(LL\w*|LOGLIK\w*)", text):
            return 2.0
        if has_word(text, "LIKELIHOOD"):
            return 1.0
    return 0.0


def _as_for(node: ast.expr, at: list[int], outcomes: dict[int, list[bool | None]]) -> ast.expr:
    """An expression with the branches that all of these records take."""
    if isinstance(node, ast.Call) and node.func.id == ex.WHERE and id(node) in outcomes:
        found = {outcomes[id(node)][r] for r in at}
        if len(found) == 1 and None not in found:
            return _as_for(node.args[1 if found == {True} else 2], at, outcomes)
    if isinstance(node, ast.Call):
        return ex.call(node.func.id, *(_as_for(a, at, outcomes) for a in node.args))
    if isinstance(node, ast.BinOp):
        return ast.BinOp(_as_for(node.left, at, outcomes), node.op, _as_for(node.right, at, outcomes))
    if isinstance(node, ast.UnaryOp):
        return ast.UnaryOp(node.op, _as_for(node.operand, at, outcomes))
    return node


def _name_endpoints(program: Program) -> None:
    """conc for the only or the central compartment's, the state's name for others, what is left by numbers."""
    taken: set[str] = set()
    for k, endpoint in enumerate(program.endpoints, start=1):
        name = "conc" if program.predpp else "dv"
        if program.predpp and endpoint.compartment:
            state = program.compartments.states[endpoint.compartment - 1]
            name = "conc" if endpoint.compartment == program.compartments.observed else state
        if endpoint.likelihood:
            name = f"{name}_likelihood" if len(program.endpoints) > 1 else "dv"
        endpoint.name = name if name not in taken else f"{name}{k}"
        taken.add(endpoint.name)
