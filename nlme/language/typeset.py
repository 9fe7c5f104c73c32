"""Formulas as text, as LaTeX and as MathML: one reading of the tree, three ways of writing its parts.

sympy's own printers take formulas apart and put them together again, by which (wt / 70)^0.75 becomes 0.0413 wt^0.75; these write
what stands there, in the order in which it stands.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

SUM, PRODUCT, POWER, ATOM = range(4)
CONDITION = -1
_RELATIONS = {
    "Equality": "=",
    "Unequality": "!=",
    "StrictLessThan": "<",
    "LessThan": "<=",
    "StrictGreaterThan": ">",
    "GreaterThan": ">=",
}
_PLAIN = {"loggamma": "lgamma", "ceiling": "ceil", "whole_part": "int", "Mod": "mod", "Max": "max", "Min": "min"}
GREEK = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ε", "zeta": "ζ", "eta": "η", "theta": "θ", "iota": "ι",
    "kappa": "κ", "lambda": "λ", "mu": "μ", "nu": "ν", "xi": "ξ", "pi": "π", "rho": "ρ", "sigma": "σ", "tau": "τ", "upsilon": "υ",
    "phi": "φ", "chi": "χ", "psi": "ψ", "omega": "ω", "omega2": "ω²", "Omega": "Ω",
}  # fmt: skip


def decimal(x) -> str:
    """The shortest decimal that is the same float."""
    found = repr(float(x))
    return found[:-2] if found.endswith(".0") else found


class Text:
    """One line of text."""

    times, plus, minus = "·", " + ", " - "
    relations = {"!=": "≠", "<=": "≤", ">=": "≥"}

    def number(self, value: str) -> str:
        return {"inf": "∞", "-inf": "-∞"}.get(value, value)

    def symbol(self, name: str) -> str:
        head, mark, tail = name.partition("_")
        return f"{GREEK[head]}_{tail}" if mark and head in ("eta", "omega2", "omega") else name

    def group(self, x: str) -> str:
        return f"({x})"

    def over(self, above: str, below: str) -> str:
        return f"{above}/{below}"

    over_levels = (PRODUCT, POWER)  # what the parts of a fraction must at least be
    over_level = PRODUCT  # how tightly a fraction binds

    def power(self, base: str, exponent: str) -> str:
        return f"{base}^{exponent}"

    exponent_level = ATOM

    def root(self, x: str) -> str:
        return f"sqrt({x})"

    def exponential(self, x: str) -> str:
        return f"exp({x})"

    def absolute(self, x: str) -> str:
        return f"|{x}|"

    def call(self, name: str, args: Sequence[str]) -> str:
        return f"{name}({', '.join(args)})"

    def learned(self, name: str, args: Sequence[str]) -> str:
        return self.call(name, args)

    def relation(self, kind: str, a: str, b: str) -> str:
        return f"{a} {self.relations.get(kind, kind)} {b}"

    def joined(self, word: str, parts: Sequence[str]) -> str:
        return f" {word} ".join(parts)

    def opposite(self, x: str) -> str:
        return f"not ({x})"

    def cases(self, pairs: Sequence[tuple[str, str]]) -> str:
        written = [f"{value} if {condition}" if condition else f"else {value}" for value, condition in pairs]
        return "{" + "; ".join(written) + "}"

    def truth(self, value: bool) -> str:
        return "true" if value else "false"

    def word(self, x: str) -> str:
        return x

    def at_start(self, state: str) -> str:
        return f"{state}(0)"

    def change(self, state: str) -> str:
        """Its derivative in time."""
        return f"d {state}/dt"


class LaTeX(Text):
    """What stands between two dollar signs."""

    times = r" \cdot "
    relations = {"!=": r"\neq", "<=": r"\leq", ">=": r"\geq"}
    over_levels = (SUM, SUM)
    over_level = POWER
    exponent_level = SUM

    def number(self, value: str) -> str:
        value = {"inf": r"\infty", "-inf": r"-\infty"}.get(value, value)
        mantissa, mark, exponent = value.partition("e")
        if not mark:
            return value
        factor = "" if mantissa == "1" else rf"{mantissa} \cdot "
        return f"{factor}10^{{{int(exponent)}}}"

    def symbol(self, name: str) -> str:
        head, mark, tail = _parts(name)
        if head == "omega2" and mark:
            return rf"\omega^2_{{{_words(tail)}}}"
        head = f"\\{head}" if head in GREEK and head not in ("omega2",) else _words(head)
        return f"{head}_{{{_words(tail)}}}" if mark else head

    def group(self, x: str) -> str:
        return rf"\left({x}\right)"

    def over(self, above: str, below: str) -> str:
        return rf"\frac{{{above}}}{{{below}}}"

    def power(self, base: str, exponent: str) -> str:
        return f"{base}^{{{exponent}}}"

    def root(self, x: str) -> str:
        return rf"\sqrt{{{x}}}"

    def exponential(self, x: str) -> str:
        return f"e^{{{x}}}"

    def absolute(self, x: str) -> str:
        return rf"\left|{x}\right|"

    def call(self, name: str, args: Sequence[str]) -> str:
        known = {"log", "sin", "cos", "tan", "sinh", "cosh", "tanh", "max", "min"}
        head = rf"\{name}" if name in known else rf"\operatorname{{{_words(name)}}}"
        return rf"{head}\left({', '.join(args)}\right)"

    def learned(self, name: str, args: Sequence[str]) -> str:
        head, _, tail = name.partition("_")
        return rf"\mathrm{{{head}}}_{{{_words(tail)}}}\left({', '.join(args)}\right)"

    def joined(self, word: str, parts: Sequence[str]) -> str:
        return rf" \text{{ {word} }} ".join(parts)

    def opposite(self, x: str) -> str:
        return rf"\neg\left({x}\right)"

    def cases(self, pairs: Sequence[tuple[str, str]]) -> str:
        written = [
            rf"{value} & \text{{if }} {condition}" if condition else rf"{value} & \text{{otherwise}}"
            for value, condition in pairs
        ]
        return r"\begin{cases} " + r" \\ ".join(written) + r" \end{cases}"

    def truth(self, value: bool) -> str:
        return self.word("true" if value else "false")

    def word(self, x: str) -> str:
        return rf"\text{{{_words(x)}}}"

    def change(self, state: str) -> str:
        return rf"\frac{{d\,{state}}}{{dt}}"


def _parts(name: str) -> tuple[str, str, str]:
    """What stands on the line of a name and what below it: "cl_sex" and "beta[0]" have both."""
    found = re.fullmatch(r"([^_\[\]]+)\[([^\[\]]+)\]", name)
    return (found[1], "_", found[2]) if found else name.partition("_")


def _words(name: str) -> str:
    return name.replace("_", r"\_")


class MathML(Text):
    """What stands inside <math>: presentation MathML."""

    times, plus, minus = "<mo>·</mo>", "<mo>+</mo>", "<mo>−</mo>"
    relations = {"!=": "≠", "<=": "≤", ">=": "≥", "<": "&lt;", ">": "&gt;"}
    over_levels = (SUM, SUM)
    over_level = POWER
    exponent_level = SUM

    def number(self, value: str) -> str:
        if value.endswith("inf"):
            return "<mrow><mo>−</mo><mi>∞</mi></mrow>" if value[0] == "-" else "<mi>∞</mi>"
        sign, digits = ("<mo>−</mo>", value[1:]) if value[0] == "-" else ("", value)
        mantissa, mark, exponent = digits.partition("e")
        shown = f"<mn>{mantissa}</mn>"
        if mark:
            shown += f"<mo>·</mo><msup><mn>10</mn><mn>{int(exponent)}</mn></msup>"
        return f"<mrow>{sign}{shown}</mrow>" if sign or mark else shown

    def symbol(self, name: str) -> str:
        head, mark, tail = _parts(name)
        base = f"<mi>{html.escape(GREEK.get(head, head))}</mi>"
        if head == "omega2" and mark:
            return f"<msubsup><mi>ω</mi><mi>{html.escape(tail)}</mi><mn>2</mn></msubsup>"
        return f"<msub>{base}<mi>{html.escape(tail)}</mi></msub>" if mark else base

    def group(self, x: str) -> str:
        return f"<mrow><mo>(</mo>{x}<mo>)</mo></mrow>"

    def over(self, above: str, below: str) -> str:
        return f"<mfrac><mrow>{above}</mrow><mrow>{below}</mrow></mfrac>"

    def power(self, base: str, exponent: str) -> str:
        return f"<msup><mrow>{base}</mrow><mrow>{exponent}</mrow></msup>"

    def root(self, x: str) -> str:
        return f"<msqrt><mrow>{x}</mrow></msqrt>"

    def exponential(self, x: str) -> str:
        return f"<msup><mi>e</mi><mrow>{x}</mrow></msup>"

    def absolute(self, x: str) -> str:
        return f"<mrow><mo>|</mo>{x}<mo>|</mo></mrow>"

    def call(self, name: str, args: Sequence[str]) -> str:
        return self._applied(f"<mi>{html.escape(name)}</mi>", args)

    def learned(self, name: str, args: Sequence[str]) -> str:
        return self._applied(self.symbol(name), args)

    def _applied(self, head: str, args: Sequence[str]) -> str:
        return f"<mrow>{head}<mo>&#x2061;</mo><mo>(</mo>{'<mo>,</mo>'.join(args)}<mo>)</mo></mrow>"

    def relation(self, kind: str, a: str, b: str) -> str:
        return f"<mrow>{a}<mo>{self.relations.get(kind, kind)}</mo>{b}</mrow>"

    def joined(self, word: str, parts: Sequence[str]) -> str:
        return f"<mrow>{f'<mtext>&#xA0;{word}&#xA0;</mtext>'.join(parts)}</mrow>"

    def opposite(self, x: str) -> str:
        return f"<mrow><mo>¬</mo><mo>(</mo>{x}<mo>)</mo></mrow>"

    def cases(self, pairs: Sequence[tuple[str, str]]) -> str:
        rows = []
        for value, condition in pairs:
            when = f"<mtext>if&#xA0;</mtext>{condition}" if condition else "<mtext>otherwise</mtext>"
            cells = "".join(f'<mtd style="text-align:left"><mrow>{cell}</mrow></mtd>' for cell in (value, when))
            rows.append(f"<mtr>{cells}</mtr>")
        return f"<mrow><mo>{{</mo><mtable>{''.join(rows)}</mtable></mrow>"

    def truth(self, value: bool) -> str:
        return self.word("true" if value else "false")

    def word(self, x: str) -> str:
        return f"<mtext>{html.escape(x)}</mtext>"

    def at_start(self, state: str) -> str:
        return f"{state}<mo>(</mo><mn>0</mn><mo>)</mo>"

    def change(self, state: str) -> str:
        return self.over(f"<mi>d</mi>{state}", "<mi>d</mi><mi>t</mi>")


def typeset(formula, style: Text, level: int = CONDITION) -> str:
    """A formula in one of these styles, in brackets where it binds less than ``level``."""
    written, own = _written(formula, style)
    return style.group(written) if own < level else written


def _written(x, style: Text) -> tuple[str, int]:
    """A formula and how tightly it binds."""
    kind = x.func.__name__
    if x.is_Symbol:
        return style.symbol(x.name), ATOM
    if x.is_number and not x.args:
        return _number(x, style)
    if kind in ("BooleanTrue", "BooleanFalse"):
        return style.truth(bool(x)), ATOM
    if kind == "Add":
        return _sum(x.args, style), SUM
    if kind == "Mul":
        return _product(x, style)
    if kind == "Pow":
        return _power(x, style)
    if kind == "Piecewise":
        pairs = [(typeset(v, style), "" if c == True else typeset(c, style)) for v, c in x.args]  # noqa: E712
        return style.cases(pairs), ATOM
    if kind in _RELATIONS:
        a, b = (typeset(a, style, SUM) for a in x.args)
        return style.relation(_RELATIONS[kind], a, b), CONDITION
    if kind in ("And", "Or"):
        parts = sorted(typeset(a, style, SUM if a.func.__name__ in ("And", "Or") else CONDITION) for a in x.args)
        return style.joined(kind.lower(), parts), CONDITION
    if kind == "Not":
        return style.opposite(typeset(x.args[0], style)), ATOM
    args = [typeset(a, style, SUM) for a in x.args]
    if kind in ("Max", "Min"):
        args.sort()  # they have no order
    if kind in ("exp", "Abs"):
        return (style.exponential if kind == "exp" else style.absolute)(*args), POWER if kind == "exp" else ATOM
    if kind.startswith("NN_"):
        return style.learned(kind, args), ATOM
    return style.call(_PLAIN.get(kind, kind), args), ATOM


def _number(x, style: Text) -> tuple[str, int]:
    if x.is_Rational and not x.is_Integer:
        above, below = style.number(str(abs(x.p))), style.number(str(x.q))
        written = style.over(above, below)
        return (style.minus.strip() + written, SUM) if x.p < 0 else (written, PRODUCT)
    return style.number(str(x) if x.is_Integer else decimal(x)), SUM if x.is_negative else ATOM


def _signed(x) -> tuple[bool, object]:
    """Whether a minus stands in front of a term, and the factors without it."""
    if x.func.__name__ == "Mul" and x.args[0] == -1:
        return True, x.args[1:]
    if x.func.__name__ == "Mul" and x.args[0].is_number and not x.args[0].args and x.args[0].is_negative:
        return True, (-x.args[0], *x.args[1:])
    return False, x.args if x.func.__name__ == "Mul" else (x,)


def _sum(terms, style: Text) -> str:
    written = ""
    for k, term in enumerate(terms):
        minus, factors = _signed(term)
        if not minus and term.is_number and not term.args and term.is_negative:
            minus, factors = True, (-term,)
        body = _factors(factors, style, PRODUCT if k or minus else SUM)
        written += (style.minus if k else style.minus.strip()) if minus else style.plus if k else ""
        written += body
    return written


def _product(x, style: Text) -> tuple[str, int]:
    minus, factors = _signed(x)
    body = _factors(factors, style, PRODUCT)
    if minus:
        return style.minus.strip() + body, SUM
    return body, style.over_level if any(map(_divides, factors)) else PRODUCT


def _divides(factor) -> bool:
    return factor.func.__name__ == "Pow" and factor.exp == -1


def _factors(factors, style: Text, level: int) -> str:
    """A product, what is divided by below a line."""
    below = [f.base for f in factors if _divides(f)]
    above = [f for f in factors if not _divides(f)]
    if not below:
        return _times(above, style, level)
    high, low = style.over_levels
    numerator = _times(above, style, high) if above else style.number("1")
    denominator = _times(below, style, low if len(below) == 1 else PRODUCT)
    return style.over(numerator, style.group(denominator) if len(below) > 1 and low == POWER else denominator)


def _times(factors, style: Text, level: int) -> str:
    if len(factors) == 1:
        return typeset(factors[0], style, level)
    return style.times.join(typeset(f, style, POWER) for f in factors)


def _power(x, style: Text) -> tuple[str, int]:
    base, exponent = x.args
    if exponent == -1:
        return _factors((x,), style, PRODUCT), style.over_level
    if exponent.is_Rational and (exponent.p, exponent.q) == (1, 2):
        return style.root(typeset(base, style)), ATOM
    return style.power(typeset(base, style, ATOM), typeset(exponent, style, style.exponent_level)), POWER
