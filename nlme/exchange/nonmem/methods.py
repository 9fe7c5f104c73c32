"""The three methods of a model's class, written from the code of a program."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from nlme.exchange.nonmem import expressions as ex
from nlme.exchange.nonmem.abbreviated import Assignment, Code, unset
from nlme.exchange.nonmem.program import Endpoint, Program
from nlme.exchange.nonmem.structure import GENERAL, flows_of
from nlme.exchange.nonmem.symbols import Symbols

Line = tuple[str, str]  # name, value
_CLOCK = ("TIME", "T")
_LEAVES = ("THETA(", "ETA(", "A(")


@dataclass
class Written:
    """The bodies of the methods.

    ``passed`` are the entries of ``individual``'s dict; ``covariates`` the data items that the code reads; ``thetas``, ``etas`` and ``sigmas`` the numbers of
    those that have a part in the model.
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
        self.aliases = _aliases(early)
        merged = _merged(_without_aliases([self._occasioned(a) for a in early], later=False))
        self.main = [Assignment(a.target, _chosen(a.value), a.line) for a in merged]
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

    def _occasioned(self, a: Assignment) -> Assignment:
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

    def _from_individual(self, code: Code, name: str) -> ast.expr:
        """A symbol of $DES or $ERROR that the individual hands on."""
        name = _resolved(self.aliases, name)
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
        return code.refuse(f"{name} is used and never set, nor is it a data item that is read.", line)

    # -- individual --------------------------------------------------------------------------------------------

    def _individual(self) -> None:
        kept = _alive(self.main, set(self.wanted))
        targets = [a.target for a in kept]
        lookup = self.in_individual(set(targets))
        reads = [n for a in kept for n in ex.names_in(a.value)]
        inline = {}
        for k, a in enumerate(kept):
            value = ast.unparse(ex.replaced(a.value, lookup))
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
        return ast.unparse(self._from_individual(code, name))

    def _form(self, code: Code, text: str) -> str:
        node = ast.parse(text, mode="eval").body
        for name in ex.names_in(node):
            self._value(code, name)
        return ast.unparse(ex.replaced(node, lambda n: self._from_individual(code, n)))

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
        kept = _alive(_merged(_without_aliases(des.assignments)), {f"DADT({k})" for k in range(1, len(states) + 1)})

        def lookup(name: str):
            match = re.fullmatch(r"A\((\d+)\)", name)
            if match:
                if not 1 <= int(match[1]) <= len(states):
                    raise des.refuse(f"{name} is no compartment of $MODEL.")
                return ex.name(f"a.{states[int(match[1]) - 1]}")
            if name == "T":
                self.out.clock = True
                return ex.name("t")
            if unset(name) is not None:
                return ex.number(0.0)
            return ex.name(self.symbols.variable[name]) if name in local else self._from_individual(des, name)

        lines, rates = [], {}
        counts = [a.target for a in kept]
        for a in kept:
            value = ast.unparse(ex.replaced(a.value, lookup))
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
        normal: dict[str, _Observed] = {}
        for endpoint in sorted(self.program.endpoints, key=lambda e: e.likelihood):
            observed = _Observed(self, endpoint)
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


class _Observed:
    """One endpoint: its code made linear in the residual errors."""

    def __init__(self, writer: Writer, endpoint: Endpoint):
        self.writer, self.program, self.endpoint = writer, writer.program, endpoint
        self.code = self.program.error or self.program.main
        later = {a.target for a in writer.later}
        own = [
            writer._occasioned(a)
            for a in endpoint.code
            if a.target in later and not (isinstance(a.value, ast.Name) and a.value.id == a.target)
        ]
        alive = _alive(self._with_prediction(own), {"Y"})
        self.assignments = _merged(_without_aliases(alive))
        self.errors: dict[str, dict[int, ast.expr]] = {}  # variable -> its slopes in the residual errors
        self.constants: dict[str, ast.expr] = {}  # variable -> what stands in its place
        self.renamed: dict[str, str] = {}

    def _with_prediction(self, own: list[Assignment]) -> list[Assignment]:
        """The same with F as what it is: the amount in the compartment, over its scale."""
        if not self.program.predpp or not any("F" in ex.names_in(a.value) for a in own):
            return own
        k = self.endpoint.compartment
        scale = next((s for s in (f"S{k}", "SC") if s in self.program.main.targets), None)
        if scale == "SC" and k != self.program.compartments.observed:
            scale = None
        value: ast.expr = ex.name(f"A({k})")
        if scale:
            value = ex.divide(value, ex.name(scale))
        return [Assignment("F", value, self.code.record.line), *own]

    def written(self, before: dict[str, str]) -> tuple[list[Line], str]:
        """The lines that lead to the distribution, and the distribution."""
        alive = _alive(self.assignments, {"Y"})
        if not alive or alive[-1].target != "Y":
            raise self.code.refuse("Y is not set for some observations.")
        lines: list[Line] = []
        local: set[str] = set()
        likelihood = self.endpoint.likelihood
        values: dict[str, ast.expr] = {}
        for a in alive[:-1]:
            mean, slopes = self._linear(a)
            self.errors[a.target] = slopes
            self.constants.pop(a.target, None)
            if ex.is_number(mean) or likelihood and "DV" in ex.names_in(mean):
                self.constants[a.target] = mean  # what depends on the observation stands inside its density
                continue
            name = self._local_name(a.target)
            text = ast.unparse(ex.replaced(mean, self._lookup(local)))
            if name in before and before[name] != text:
                name = self._rename(a.target, before)
            local.add(a.target)
            values[a.target] = mean
            lines.append((name, text))
        mean, slopes = self._linear(alive[-1])
        find = self._lookup(local)
        self.mean, self.slopes, self.values, self.find = mean, slopes, values, find
        if likelihood:
            text = self._likelihood(mean, find, likelihood)
        else:
            text = self._residual(mean, slopes, find, values)
        lines = _used(lines, text)
        return lines, text

    def _local_name(self, target: str) -> str:
        if target in self.renamed:
            return self.renamed[target]
        return "f" if target == "F" else self.writer.symbols.variable[target]

    def _rename(self, target: str, before: dict[str, str]) -> str:
        base, k = f"{self._local_name(target)}_{self.endpoint.name}", 2
        name = base
        while name in before:
            name, k = f"{base}{k}", k + 1
        self.renamed[target] = name
        return name

    def _lookup(self, local: set[str]):
        states = self.program.compartments.states

        def lookup(name: str):
            if name.startswith("self."):
                return None
            match = re.fullmatch(r"A\((\d+)\)", name)
            if match:
                if not 1 <= int(match[1]) <= len(states):
                    raise self.code.refuse(f"{name} is no compartment.")
                return ex.name(f"state.{states[int(match[1]) - 1]}")
            if name in local:
                return ex.name(self._local_name(name))
            if name in _CLOCK and name not in self.program.main.targets:
                self.writer.out.clock = True
                return ex.name("t")
            if name == "DV":
                if self.endpoint.likelihood:
                    return ex.name("y")
                raise self.code.refuse("the prediction depends on DV, which is not imported.")
            return self.writer._from_individual(self.code, name)

        return lookup

    def _linear(self, a: Assignment) -> tuple[ast.expr, dict[int, ast.expr]]:
        """(value without residual errors, number of an error -> slope there)."""
        mean = ex.simplified(ex.replaced(a.value, lambda n: ex.number(0.0) if n.startswith("EPS(") else self.constants.get(n)))
        numbers = {int(n[4:-1]) for n in ex.names_in(a.value) if n.startswith("EPS(")}
        numbers |= {k for n in ex.names_in(a.value) for k in self.errors.get(n, {})}
        slopes = {}
        for k in sorted(numbers):
            if k not in self.endpoint.eps and not self.endpoint.likelihood:
                continue

            def slope(name: str, k=k):
                return ex.number(1) if name == f"EPS({k})" else self.errors.get(name, {}).get(k)

            try:
                found = ex.derivative(a.value, slope)
            except ValueError as error:
                raise self.code.refuse(f"the residual error stands inside {error}, which is not imported.", a.line) from None
            zero = ex.simplified(ex.replaced(found, lambda n: ex.number(0.0) if n.startswith("EPS(") else self.constants.get(n)))
            if not ex.is_number(zero, 0):
                slopes[k] = zero
        return mean, slopes

    # -- distributions -----------------------------------------------------------------------------------------

    def _likelihood(self, value: ast.expr, find, kind: float) -> str:
        if any(n.startswith("EPS(") for n in ex.names_in(value)):
            raise self.code.refuse("a likelihood with residual errors.")
        if kind == 2.0:
            return f"nlme.loglik(lambda y: -0.5 * ({ast.unparse(ex.replaced(value, find))}))"
        return f"nlme.loglik(lambda y: {ast.unparse(ex.replaced(_logarithm(value), find))})"

    def _residual(self, mean: ast.expr, slopes: dict[int, ast.expr], find, values: dict[str, ast.expr]) -> str:
        program, symbols = self.program, self.writer.symbols
        if not slopes:
            raise self.code.refuse("Y has no residual error.")
        self._require_independent(slopes)
        self.writer.out.sigmas |= set(slopes)

        def text(node: ast.expr) -> str:
            return ast.unparse(ex.replaced(node, find))

        def sd(k: int) -> ast.expr:
            block, place = program.block_of(program.sigmas, k)
            return ex.name(f"self.{symbols.sigma[k]}") if symbols.sigma[k] else ex.number(1)

        f = text(mean)
        shapes = {k: self._shape(slope, mean) for k, slope in slopes.items()}
        if len(slopes) == 1:
            ((k, slope),) = slopes.items()
            if shapes[k] == "proportional" and symbols.sigma[k]:
                return f"nlme.proportional({f}, {ast.unparse(sd(k))})"
            whole = ex.multiply(_positive(slope), sd(k))
            return self._recognised(f, mean, whole, find, values) or f"nlme.additive({f}, {text_of(whole, find)})"
        kinds = sorted(shapes.values())
        if kinds == ["additive", "proportional"]:
            by = {shapes[k]: ast.unparse(sd(k)) for k in slopes}
            return f"nlme.combined({f}, add={by['additive']}, prop={by['proportional']})"
        squares = [text_of(ex.power(ex.multiply(slope, sd(k)), ex.number(2)), find) for k, slope in slopes.items()]
        return f"nlme.additive({f}, jnp.sqrt({' + '.join(squares)}))"

    def _recognised(self, f: str, mean: ast.expr, whole: ast.expr, find, values: dict[str, ast.expr]) -> str | None:
        """W = THETA*F and W = SQRT(THETA**2 + THETA**2*F**2) as what they are."""
        if not (isinstance(whole, ast.Name) and whole.id in values):
            return None
        w = values[whole.id]
        plain = _power_of(w, mean)
        if plain is not None:
            return f"nlme.proportional({f}, {text_of(plain, find)})"
        if (
            isinstance(w, ast.Call)
            and w.func.id == "jnp.sqrt"
            and isinstance(w.args[0], ast.BinOp)
            and isinstance(w.args[0].op, ast.Add)
        ):
            roots = [_root(part) for part in (w.args[0].left, w.args[0].right)]
            if all(r is not None for r in roots):
                props = [_power_of(r, mean) for r in roots]
                for prop, add in ((props[0], roots[1]), (props[1], roots[0])):
                    if prop is not None and _constant(add) and _constant(prop):
                        return f"nlme.combined({f}, add={text_of(add, find)}, prop={text_of(prop, find)})"
        return None

    def limit_of(self, normal: _Observed) -> str | None:
        """The limit L where the likelihood is PHI((L - f)/w), f and w being the prediction and the only error of ``normal`` (M3).

        A tiny number added to PHI against its logarithm at 0 is left out; ``nlme.censored`` needs none.
        """
        if self.endpoint.likelihood != 1.0 or len(normal.slopes) != 1:
            return None
        value = self._expanded(self.mean)
        if (
            isinstance(value, ast.BinOp)
            and isinstance(value.op, ast.Add)
            and ex.is_number(value.right)
            and abs(value.right.value) < 1e-6
        ):
            value = value.left
        if not (isinstance(value, ast.Call) and value.func.id == "jax.scipy.stats.norm.cdf"):
            return None
        quotient = value.args[0]
        if not (isinstance(quotient, ast.BinOp) and isinstance(quotient.op, ast.Div)):
            return None
        ((k, slope),) = normal.slopes.items()
        f = normal._expanded(normal.mean)
        if self.writer.symbols.sigma[k] or not ex.same(quotient.right, normal._expanded(_positive(slope))):
            return None
        difference = quotient.left
        if isinstance(difference, ast.BinOp) and isinstance(difference.op, ast.Sub) and ex.same(difference.right, f):
            limit = difference.left
            if (known := self._limits(limit, normal)) is not None and np.all(normal._observed_values() >= known):
                return ast.unparse(ex.replaced(limit, self.find))
        return None

    def _limits(self, limit: ast.expr, normal: _Observed):
        """A limit at the records that are quantified: a number, or a data item's values; None for anything else."""
        if ex.is_number(limit):
            return limit.value
        columns = self.program.items.columns
        return columns[limit.id][normal.endpoint.records] if isinstance(limit, ast.Name) and limit.id in columns else None

    def _observed_values(self) -> np.ndarray:
        return self.program.items.columns["DV"][self.endpoint.records]

    def _expanded(self, node: ast.expr) -> ast.expr:
        """An expression with the lines before it put in their places."""
        while any(n in self.values for n in ex.names_in(node)):
            node = ex.replaced(node, self.values)
        return node

    def _shape(self, slope: ast.expr, mean: ast.expr) -> str:
        if ex.is_number(slope, 1):
            return "additive"
        return "proportional" if ex.same(slope, mean) else "other"

    def _require_independent(self, slopes: dict[int, ast.expr]) -> None:
        for k in slopes:
            block, place = self.program.block_of(self.program.sigmas, k)
            for other in slopes:
                if other != k and other in block.numbers and block.matrix[place, other - block.first] != 0.0:
                    raise self.code.record.refuse(
                        f"EPS({k}) and EPS({other}) are correlated and both in Y, which is not imported.", block.line
                    )


def text_of(node: ast.expr, find) -> str:
    return ast.unparse(ex.replaced(node, find))


def _constant(node: ast.expr) -> bool:
    return all(n.startswith("THETA(") for n in ex.names_in(node))


def _root(node: ast.expr) -> ast.expr | None:
    """x of x**2 or of x**2 * y**2."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow) and ex.is_number(node.right, 2):
        return node.left
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        a, b = _root(node.left), _root(node.right)
        return ast.BinOp(a, ast.Mult(), b) if a is not None and b is not None else None
    return None


def _power_of(node: ast.expr, mean: ast.expr) -> ast.expr | None:
    """c of c * mean."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        if ex.same(node.right, mean) and _constant(node.left):
            return node.left
        if ex.same(node.left, mean) and _constant(node.right):
            return node.right
    return None


def _positive(node: ast.expr) -> ast.expr:
    return node.operand if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) else node


def _logarithm(node: ast.expr) -> ast.expr:
    """log of a likelihood, where it is a product, a power, an exponential or a choice of such."""
    if isinstance(node, ast.Call) and node.func.id == "jnp.exp":
        return node.args[0]
    if isinstance(node, ast.Call) and node.func.id == "jax.scipy.stats.norm.cdf":
        return ex.call("jax.scipy.stats.norm.logcdf", node.args[0])
    if isinstance(node, ast.Call) and node.func.id == ex.WHERE:
        return ex.where(node.args[0], _logarithm(node.args[1]), _logarithm(node.args[2]))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        return ex.add(_logarithm(node.left), _logarithm(node.right))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        return ex.subtract(_logarithm(node.left), _logarithm(node.right))
    return ex.call("jnp.log", node)


def _used(lines: list[Line], text: str) -> list[Line]:
    """The lines whose names are read by what follows."""
    kept: list[Line] = []
    reads = _words(text)
    for name, value in reversed(lines):
        if name in reads:
            kept.append((name, value))
            reads |= _words(value)
    return kept[::-1]


def _words(text: str) -> set[str]:
    return {n.id for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Name)}


def _alive(assignments: Iterable[Assignment], wanted: set[str]) -> list[Assignment]:
    """The assignments that have a part in ``wanted``."""
    live, kept = set(wanted), []
    for a in reversed(list(assignments)):
        if a.target in live:
            reads = ex.names_in(a.value)
            live = (live - {a.target}) | reads
            kept.append(a)
    return kept[::-1]


def _aliases(assignments: list[Assignment], later: bool = False) -> dict[str, str]:
    """V = VC, where neither changes afterwards; ``later``, behind the individual, SD = THETA(3) and CP = A(2) too."""
    counts: dict[str, int] = {}
    for a in assignments:
        counts[a.target] = counts.get(a.target, 0) + 1
    return {
        a.target: a.value.id
        for a in assignments
        if isinstance(a.value, ast.Name)
        and counts[a.target] == 1
        and (counts.get(a.value.id, 0) == 1 or a.value.id.startswith(_LEAVES) and (later or a.target.startswith("MU_")))
    }


def _resolved(aliases: dict[str, str], name: str) -> str:
    while name in aliases:
        name = aliases[name]
    return name


def _without_aliases(assignments: list[Assignment], later: bool = True) -> list[Assignment]:
    aliases = {n: o for n, o in _aliases(assignments, later).items() if n != "Y"}
    by = {n: ex.name(_resolved(aliases, n)) for n in aliases}
    return [Assignment(a.target, ex.replaced(a.value, by), a.line) for a in assignments if a.target not in aliases]


def _merged(assignments: list[Assignment]) -> list[Assignment]:
    """X = 0 and, next, IF (..) X = 1 as one assignment."""
    out: list[Assignment] = []
    for a in assignments:
        before = out[-1] if out else None
        if before is not None and before.target == a.target and isinstance(a.value, ast.Call) and a.value.func.id == ex.WHERE:
            once = sum(isinstance(n, ast.Name) and n.id == a.target for n in ast.walk(a.value)) == 1
            if once and before.target not in ex.names_in(before.value) and not isinstance(before.value, ast.Call):
                out[-1] = Assignment(a.target, ex.replaced(a.value, {a.target: before.value}), a.line)
                continue
        out.append(a)
    return out


def _chosen(node: ast.expr) -> ast.expr:
    """An expression without choices between two equal things."""
    if isinstance(node, ast.Call):
        arguments = [_chosen(a) for a in node.args]
        return ex.where(*arguments) if node.func.id == ex.WHERE else ex.call(node.func.id, *arguments)
    if isinstance(node, ast.BinOp):
        return ast.BinOp(_chosen(node.left), node.op, _chosen(node.right))
    return node
