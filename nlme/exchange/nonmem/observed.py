"""The distribution of one endpoint's observations, written from the code that makes Y."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

import numpy as np

from nlme.exchange.nonmem import expressions as ex
from nlme.exchange.nonmem.abbreviated import Assignment
from nlme.exchange.nonmem.assignments import alive, merged, without_aliases
from nlme.exchange.nonmem.program import Endpoint

if TYPE_CHECKING:
    from nlme.exchange.nonmem.methods import Writer

Line = tuple[str, str]  # name, value
_CLOCK = ("TIME", "T")


class Observed:
    """One endpoint: its code made linear in the residual errors."""

    def __init__(self, writer: Writer, endpoint: Endpoint):
        self.writer, self.program, self.endpoint = writer, writer.program, endpoint
        self.code = self.program.error or self.program.main
        later = {a.target for a in writer.later}
        own = [
            writer.occasioned(a)
            for a in endpoint.code
            if a.target in later and not (isinstance(a.value, ast.Name) and a.value.id == a.target)
        ]
        self.assignments = merged(without_aliases(alive(self._with_prediction(own), {"Y"})))
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
        kept = alive(self.assignments, {"Y"})
        if not kept or kept[-1].target != "Y":
            raise self.code.refuse("Y is not set for some observations.")
        lines: list[Line] = []
        local: set[str] = set()
        likelihood = self.endpoint.likelihood
        self.steps: list[tuple[str, ast.expr]] = []
        for a in kept[:-1]:
            mean, slopes = self._linear(a)
            self.errors[a.target] = slopes
            self.constants.pop(a.target, None)
            if ex.is_number(mean) or likelihood and "DV" in ex.names_in(mean):
                self.constants[a.target] = mean  # what depends on the observation stands inside its density
                continue
            name = self._local_name(a.target)
            text = ex.text(ex.replaced(mean, self._lookup(local)))
            if name in before and before[name] != text:
                name = self._rename(a.target, before)
            local.add(a.target)
            self.steps.append((a.target, mean))
            lines.append((name, text))
        mean, slopes = self._linear(kept[-1])
        find = self._lookup(local)
        self.mean, self.slopes, self.find = mean, slopes, find
        if likelihood:
            text = self._likelihood(mean, find, likelihood)
        else:
            text = self._residual(mean, slopes, find, _set_once(self.steps))
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
            return self.writer.from_individual(self.code, name)

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
            return f"nlme.loglik(lambda y: -0.5 * ({ex.text(ex.replaced(value, find))}))"
        return f"nlme.loglik(lambda y: {ex.text(ex.replaced(_logarithm(value), find))})"

    def _residual(self, mean: ast.expr, slopes: dict[int, ast.expr], find, values: dict[str, ast.expr]) -> str:
        program, symbols = self.program, self.writer.symbols
        if not slopes:
            raise self.code.refuse("Y has no residual error.")
        self._require_variances(slopes)
        self._require_independent(slopes)
        self.writer.out.sigmas |= set(slopes)

        def text(node: ast.expr) -> str:
            return ex.text(ex.replaced(node, find))

        def sd(k: int) -> ast.expr:
            block, place = program.block_of(program.sigmas, k)
            return ex.name(f"self.{symbols.sigma[k]}") if symbols.sigma[k] else ex.number(1)

        f = text(mean)
        shapes = {k: self._shape(slope, mean) for k, slope in slopes.items()}
        if len(slopes) == 1:
            ((k, slope),) = slopes.items()
            if shapes[k] == "proportional" and symbols.sigma[k]:
                return f"nlme.proportional({f}, {ex.text(sd(k))})"
            whole = ex.multiply(_positive(slope), sd(k))
            return self._recognised(f, mean, whole, find, values) or f"nlme.additive({f}, {text_of(whole, find)})"
        kinds = sorted(shapes.values())
        if kinds == ["additive", "proportional"]:
            by = {shapes[k]: ex.text(sd(k)) for k in slopes}
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

    def limit_of(self, normal: Observed) -> str | None:
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
                return ex.text(ex.replaced(limit, self.find))
        return None

    def _limits(self, limit: ast.expr, normal: Observed):
        """A limit at the records that are quantified: a number, or a data item's values; None for anything else."""
        if ex.is_number(limit):
            return limit.value
        columns = self.program.items.columns
        return columns[limit.id][normal.endpoint.records] if isinstance(limit, ast.Name) and limit.id in columns else None

    def _observed_values(self) -> np.ndarray:
        return self.program.items.columns["DV"][self.endpoint.records]

    def _expanded(self, node: ast.expr) -> ast.expr:
        """An expression with the lines before it put in their places, the last line first: a variable may be set again."""
        for target, value in reversed(self.steps):
            if target in ex.names_in(node):
                node = ex.replaced(node, {target: value})
        return node

    def _shape(self, slope: ast.expr, mean: ast.expr) -> str:
        if ex.is_number(slope, 1):
            return "additive"
        return "proportional" if ex.same(slope, mean) else "other"

    def _require_variances(self, slopes: dict[int, ast.expr]) -> None:
        for k in slopes:
            if not any(k in block.numbers for block in self.program.sigmas):
                raise self.code.refuse(f"EPS({k}) has no variance: $SIGMA has none for it.")

    def _require_independent(self, slopes: dict[int, ast.expr]) -> None:
        for k in slopes:
            block, place = self.program.block_of(self.program.sigmas, k)
            for other in slopes:
                if other != k and other in block.numbers and block.matrix[place, other - block.first] != 0.0:
                    raise self.code.record.refuse(
                        f"EPS({k}) and EPS({other}) are correlated and both in Y, which is not imported.", block.line
                    )


def _set_once(steps: list[tuple[str, ast.expr]]) -> dict[str, ast.expr]:
    """The variables whose value reads what it would read at the end: they and all that they read are set once, before them."""
    targets = [target for target, _ in steps]
    found: dict[str, ast.expr] = {}
    for k, (target, value) in enumerate(steps):
        if targets.count(target) == 1 and not ex.names_in(value) & set(targets[k:]):
            found[target] = value
    return found


def text_of(node: ast.expr, find) -> str:
    return ex.text(ex.replaced(node, find))


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
