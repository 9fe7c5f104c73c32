"""The three methods of a model's class, written from the code of a program."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from nlme.exchange.nonmem import expressions as ex
from nlme.exchange.nonmem.abbreviated import Assignment, Code
from nlme.exchange.nonmem.assignments import aliases, alive, chosen, merged, resolved, without_aliases
from nlme.exchange.nonmem.formulas import unset
from nlme.exchange.nonmem.observed import Line, Observed
from nlme.exchange.nonmem.program import Program
from nlme.exchange.nonmem.structure import GENERAL, flows_of
from nlme.exchange.nonmem.symbols import Symbols


@dataclass
class Written:
    """The bodies of the methods.

    ``passed`` are the entries of ``individual``'s dict; ``covariates`` the data items that the code reads; ``thetas``, ``etas``
    and ``sigmas`` the numbers of those that have a part in the model.
    """

    individual: list[Line] = field(default_factory=list)
    passed: dict[str, str] = field(default_factory=dict)
    dynamics: list[str] = field(default_factory=list)
    observe: list[Line] = field(default_factory=list)
    endpoints: dict[str, str] = field(default_factory=dict)
    covariates: list[str] = field(default_factory=list)
    thetas: set[int] = field(default_factory=set)
    etas: set[int] = field(default_factory=set)
    sigmas: set[int] = field(default_factory=set)
    mixture: bool = False
    groups: int = 0
    censored: dict[str, str] = field(default_factory=dict)  # endpoint of records below the limit -> the endpoint they are of
    clock: bool = False  # whether the time itself has a part in the equations


class Writer:
    """Writes the methods of one program."""

    def __init__(self, program: Program, symbols: Symbols):
        self.program, self.symbols, self.out = program, symbols, Written()
        early, self.later = self._split()
        self.aliases = aliases(early)
        known = merged(without_aliases([self.occasioned(a) for a in early], later=False))
        self.main = [Assignment(a.target, chosen(a.value), a.line) for a in known]
        self.main_targets = {a.target for a in self.main}
        self.wanted: dict[str, None] = {}  # variables of the individual that later methods read
        self.passed: dict[str, str] = {}  # further entries: name -> value in the individual's own terms

    def write(self) -> Written:
        self._dynamics()
        self._observe()
        self._individual()
        return self.out

    # -- where code goes ---------------------------------------------------------------------------------------

    def _split(self) -> tuple[list[Assignment], list[Assignment]]:
        """Of $PRED: what does not change from time to time belongs to the individual, the rest to the observation."""
        program = self.program
        if program.predpp:
            return list(program.main.assignments), list(program.error.assignments)
        late = {"TIME", "Y", "F_FLAG", "DV"}
        every = program.main.assignments
        while True:
            grown = late | {
                a.target for a in every if ex.names_in(a.value) & late or any(n.startswith("EPS(") for n in ex.names_in(a.value))
            }
            if grown == late:
                break
            late = grown
        return [a for a in every if a.target not in late], [a for a in every if a.target in late]

    def occasioned(self, a: Assignment) -> Assignment:
        """The same with the effects of all occasions as one: that of the occasion at hand."""
        if not self.program.occasional:
            return a
        first = {f"ETA({k})": ex.name(f"ETA({f})") for k, f in self.program.occasional.items()}
        return Assignment(a.target, ex.replaced(a.value, first), a.line)

    # -- names in each place -----------------------------------------------------------------------------------

    def _common(self, name: str) -> ast.expr | None:
        """What is the same everywhere: population parameters."""
        match = re.fullmatch(r"THETA\((\d+)\)", name)
        if match:
            k = int(match[1])
            if k not in self.symbols.theta:
                raise self.program.main.refuse(f"{name} has no initial value.")
            self.out.thetas.add(k)
            return ex.name(f"self.{self.symbols.theta[k]}")
        match = re.fullmatch(r"SIGMA\((\d+)(?:,(\d+))?\)", name)
        if match and match[2] in (None, match[1]) and int(match[1]) in self.symbols.sigma:
            sigma = self.symbols.sigma[int(match[1])]
            self.out.sigmas |= {int(match[1])} if sigma else set()
            return ex.power(ex.name(f"self.{sigma}"), ex.number(2)) if sigma else ex.number(1)
        return None

    def _eta(self, name: str) -> str | None:
        match = re.fullmatch(r"ETA\((\d+)\)", name)
        if not match:
            return None
        k = int(match[1])
        if k not in self.symbols.eta:
            raise self.program.main.refuse(f"{name} has no variance.")
        self.out.etas.add(self.program.occasional.get(k, k))
        return self.symbols.eta[k]

    def _item(self, name: str) -> str | None:
        if name in self.program.items.columns or name in self.program.held:
            if name not in self.out.covariates:
                self.out.covariates.append(name)
            return self.symbols.covariate[name]
        return None

    def in_individual(self, local: set[str]) -> Callable[[str], ast.expr | None]:
        def lookup(name: str):
            if (found := self._common(name)) is not None:
                return found
            if (eta := self._eta(name)) is not None:
                return ex.name(f"eta.{eta}")
            if name in local or name in self.main_targets:
                return ex.name(self.symbols.variable[name])
            if (item := self._item(name)) is not None:
                return ex.name(f"cov.{item}")
            if name in ("MIXNUM", "MIXEST"):
                self.out.mixture = True
                return ex.name("mixnum")
            raise self._unknown(self.program.main, name)

        return lookup

    def from_individual(self, code: Code, name: str) -> ast.expr:
        """A symbol of $DES or $ERROR that the individual hands on."""
        name = resolved(self.aliases, name)
        if (found := self._common(name)) is not None:
            return found
        if (eta := self._eta(name)) is not None:
            return self._handed(f"eta_{eta}", f"eta.{eta}")
        if name in self.main_targets:
            self.wanted.setdefault(name)
            return ex.name(f"ind.{self.symbols.variable[name]}")
        if (item := self._item(name)) is not None:
            taken = {self.symbols.variable[t] for t in self.main_targets}
            return self._handed(item if item not in taken else f"{item}_item", f"cov.{item}")
        if name in ("MIXNUM", "MIXEST"):
            self.out.mixture = True
            return self._handed("mixnum", "mixnum")
        raise self._unknown(code, name)

    def _handed(self, key: str, value: str) -> ast.expr:
        self.passed[key] = value
        return ex.name(f"ind.{key}")

    def _unknown(self, code: Code, name: str):
        line = next((a.line for a in code.assignments if name in ex.names_in(a.value)), code.record.line)
        if re.match(r"M(TIME|PAST|NEXT|NOW|TDIFF)\b", name):
            return code.refuse(f"{name}: model event times (MTIME) are imported as MTIME in $PK and MPAST in $DES alone.", line)
        if re.match(r"A\(\d+\)", name):
            return code.refuse(f"{name}, an amount in the system, counts in ${code.record.name}, which is not imported.", line)
        return code.refuse(f"{name} is used and never set, nor is it a data item that is read.", line)

    # -- individual --------------------------------------------------------------------------------------------

    def _individual(self) -> None:
        kept = alive(self.main, set(self.wanted))
        targets = [a.target for a in kept]
        lookup = self.in_individual(set(targets))
        reads = [n for a in kept for n in ex.names_in(a.value)]
        inline = {}
        for k, a in enumerate(kept):
            value = ex.text(ex.replaced(a.value, lookup))
            name = self.symbols.variable[a.target]
            later = [n for b in kept[k + 1 :] for n in (*ex.names_in(b.value), b.target)]
            once = targets.count(a.target) == 1 and a.target not in reads and a.target in self.wanted
            changed = set(ex.names_in(a.value)) & {b.target for b in kept[k + 1 :]}
            if once and not changed and a.target not in later:
                inline[a.target] = value
            else:
                self.out.individual.append((name, value))
        for name in self.wanted:
            key = self.symbols.variable[name]
            self.out.passed[key] = inline.get(name, key)
        self.out.passed |= self.passed

    # -- dynamics ----------------------------------------------------------------------------------------------

    def _dynamics(self) -> None:
        program, compartments = self.program, self.program.compartments
        if not program.predpp:
            return
        rules = self._rules()
        code = program.main
        if compartments.advan in GENERAL:
            self.out.dynamics = self._ode(rules)
            return
        if any(t.startswith("A_0(") for t in self.main_targets):
            raise code.refuse(f"A_0 with ADVAN{compartments.advan} is not imported.")
        if compartments.advan == 10:
            vm, km = (self._value(code, n) for n in ("VM", "KM"))
            body = [f"    return dict(central=-{vm} * a.central / ({km} + a.central))"]
            self.out.dynamics = ["def rhs(t, a):", *body, "", f'return nlme.ODE(rhs, states=("central",){rules})']
        elif compartments.advan in (5, 7):
            flows = flows_of(self.main_targets, len(compartments.states))
            rows = []
            for name, (come, go) in flows.items():
                to = f'"{compartments.states[go - 1]}"' if go else "None"
                rows.append(f'    ("{compartments.states[come - 1]}", {to}): {self._value(code, name)},')
            states = ", ".join(f'"{s}"' for s in compartments.states)
            self.out.dynamics = ["flows = {", *rows, "}", f"return nlme.pk.Linear(({states},), flows{rules})"]
        else:
            form = compartments.form(code.record)
            parts = [f"{argument}={self._form(code, text)}" for argument, text in form.items()]
            self.out.dynamics = [f"return nlme.pk.{compartments.word}({', '.join(parts)}{rules})"]

    def _value(self, code: Code, name: str) -> str:
        if name not in self.program.main.targets:
            c = self.program.compartments
            raise code.refuse(f"{name} is not set, which ADVAN{c.advan} TRANS{c.trans} needs.")
        return ex.text(self.from_individual(code, name))

    def _form(self, code: Code, text: str) -> str:
        node = ast.parse(text, mode="eval").body
        for name in ex.names_in(node):
            self._value(code, name)
        return ex.text(ex.replaced(node, lambda n: self.from_individual(code, n)))

    def _rules(self) -> str:
        """The dose rules as further arguments."""
        states, targets, out = self.program.compartments.states, self.program.main.targets, ""
        for letters, word in (("ALAG", "lag"), ("F", "bioavailability"), ("D", "duration"), ("R", "rate")):
            found = [(s, f"{letters}{k}") for k, s in enumerate(states, start=1) if f"{letters}{k}" in targets]
            if word == "rate":
                found = found if (self.program.items.column("RATE") == -1).any() else []
            if word == "duration":
                found = found if (self.program.items.column("RATE") == -2).any() else []
            if found == [(states[0], f"{letters}1")]:
                out += f", {word}={self._value(self.program.main, found[0][1])}"
            elif found:
                out += f", {word}={{" + ", ".join(f'"{s}": {self._value(self.program.main, n)}' for s, n in found) + "}"
        return out

    def _ode(self, rules: str) -> list[str]:
        program, des = self.program, self.program.des
        states, local = program.compartments.states, set()
        missing = [k for k in range(1, len(states) + 1) if f"DADT({k})" not in des.targets]
        if missing:
            raise des.refuse(f"DADT({missing[0]}) is not set.")
        kept = alive(merged(without_aliases(des.assignments)), {f"DADT({k})" for k in range(1, len(states) + 1)})

        def lookup(name: str):
            match = re.fullmatch(r"A\((\d+)\)", name)
            if match:
                if not 1 <= int(match[1]) <= len(states):
                    raise des.refuse(f"{name} is no compartment of $MODEL.")
                return ex.name(f"a.{states[int(match[1]) - 1]}")
            if name == "T":
                self.out.clock = True
                return ex.name("t")
            if (past := re.fullmatch(r"MPAST(\(\d+\))", name)) and f"MTIME{past[1]}" in self.main_targets:
                self.out.clock = True
                after = ast.Compare(ex.name("t"), [ast.GtE()], [self.from_individual(des, f"MTIME{past[1]}")])
                return ex.where(after, ex.number(1.0), ex.number(0.0))
            if unset(name) is not None:
                return ex.number(0.0)
            return ex.name(self.symbols.variable[name]) if name in local else self.from_individual(des, name)

        lines, rates = [], {}
        counts = [a.target for a in kept]
        for a in kept:
            value = ex.text(ex.replaced(a.value, lookup))
            match = re.fullmatch(r"DADT\((\d+)\)", a.target)
            read_later = any(a.target in ex.names_in(b.value) for b in kept)
            if match and counts.count(a.target) == 1 and not read_later:
                rates[states[int(match[1]) - 1]] = value
                continue
            name = self.symbols.variable[a.target]
            lines.append(f"    {name} = {value}")
            local.add(a.target)
            if match:
                rates[states[int(match[1]) - 1]] = name
        body = [f"        {s}={rates[s]}," for s in states]
        starts = [(s, f"A_0({k})") for k, s in enumerate(states, start=1) if f"A_0({k})" in program.main.targets]
        initial = ""
        if starts:
            initial = ", initial={" + ", ".join(f'"{s}": {self._value(program.main, n)}' for s, n in starts) + "}"
        if times := sorted(t for t in program.main.targets if t.startswith("MTIME(")):
            self.out.clock = True
            rules += f", event_times=({', '.join(self._value(program.main, n) for n in times)},)"
        listed = ", ".join(f'"{s}"' for s in states) + ("," if len(states) == 1 else "")
        return [
            "def rhs(t, a):",
            *lines,
            "    return dict(",
            *body,
            "    )",
            "",
            f"return nlme.ODE(rhs, states=({listed}){initial}{rules})",
        ]

    # -- observe -----------------------------------------------------------------------------------------------

    def _observe(self) -> None:
        written: dict[str, str] = {}
        normal: dict[str, Observed] = {}
        for endpoint in sorted(self.program.endpoints, key=lambda e: e.likelihood):
            observed = Observed(self, endpoint)
            lines, text = observed.written(dict(written))
            below = next((n for n, o in normal.items() if (limit := observed.limit_of(o)) is not None), None)
            if below is not None:
                self.out.endpoints[below] = f"nlme.censored({self.out.endpoints[below]}, lloq={limit})"
                self.out.censored[endpoint.name] = below
                continue
            if not endpoint.likelihood:
                normal[endpoint.name] = observed
            for name, value in lines:
                if written.get(name) != value:
                    self.out.observe.append((name, value))
                written[name] = value
            self.out.endpoints[endpoint.name] = text
