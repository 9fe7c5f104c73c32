"""The equations of a model, read from what its methods compute.

``individual``, ``dynamics`` and ``observe`` are traced on abstract numbers, as a fit traces them, and the operations of the trace
are written with the model's own names (:mod:`nlme.language.traced`).  What is read is computed at random points and compared with
what the model computes there, to a relative 1e-8; what cannot be read, or does not agree, is refused.
"""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Iterator
from typing import Any

from nlme.errors import ModelError
from nlme.language.model import Model
from nlme.language.typeset import LaTeX, MathML, Text, typeset
from nlme.structure.base import DOSE_RULES

_SPACE = ' xmlns="http://www.w3.org/1998/Math/MathML"'
LARGEST = 12  # weights of a network that is written out unasked

Formulas = dict[str, Any]


@dataclasses.dataclass(frozen=True, repr=False)
class Equations:
    """The equations of a model as sympy expressions, unevaluated; prints as text, and as mathematics in a notebook.

    Attributes
    ----------
    name : of the model's class
    individual : individual parameter -> expression of population parameters, random effects (``eta_cl``) and covariates
    structure : name of the structure, "" without dynamics
    structural : parameter of a ready structure (``nlme.pk``) -> expression of individual parameters
    dynamics : state -> its rate of change (doses apart), in individual parameters (``cl_i``), states and time ``t``; of an algebraic
        state what is zero
    initial, lag, bioavailability, duration, rate : state -> expression, where there is one
    delays : delay -> expression; a state that is looked back at is called by both names (``cells_lifespan``)
    history : state -> its value at a time ``t`` before the first record, where that is not the initial one
    diffusion : state -> standard deviation of its system noise, in units of the state per square root of time
    arrivals : state -> fraction of a dose that arrives per time, ``tad`` after the dose
    event_times : times at which the equations change suddenly
    algebraic : states that have an equation 0 = ... instead of a rate of change
    observations : endpoint -> its ``prediction`` and the parameters of its error model
    errors : endpoint -> name of its error model ("combined", "lognormal", ...)
    omega : "subject", "occasion", ... -> (names of the random effects, their covariance matrix)
    symbols : "self.cl", "eta.cl", "cov.wt", "ind.cl", "state.central" -> the symbol that stands for it
    notes : what a reader has to know besides
    """

    name: str
    individual: Formulas
    structure: str
    structural: Formulas
    dynamics: Formulas
    initial: Formulas
    delays: Formulas
    history: Formulas
    diffusion: Formulas
    lag: Formulas
    bioavailability: Formulas
    duration: Formulas
    rate: Formulas
    arrivals: Formulas
    event_times: tuple[Any, ...]
    algebraic: tuple[str, ...]
    observations: dict[str, Formulas]
    errors: dict[str, str]
    omega: dict[str, tuple[tuple[str, ...], Any]]
    symbols: dict[str, Any]
    notes: tuple[str, ...] = ()

    def _lines(self, style: Text) -> Iterator[tuple[str, list[tuple[str, str]]]]:
        """(heading, [(left-hand side, right-hand side)]) of every section."""

        def sides(kind: str, formulas: Formulas) -> list[tuple[str, str]]:
            return [(typeset(self.symbols[f"{kind}.{name}"], style), typeset(x, style)) for name, x in formulas.items()]

        yield "Individual parameters", sides("ind", self.individual)
        if self.structure:
            given = ", ".join(f"{name} = {typeset(x, Text())}" for name, x in self.structural.items())
            changes = zip(self.dynamics, sides("state", self.dynamics), strict=True)
            rows = [(style.number("0") if name in self.algebraic else style.change(state), x) for name, (state, x) in changes]
            rows += [(style.at_start(state), x) for state, x in sides("state", self.initial)]
            rows += sides("delay", self.delays)
            for rule in ("history", "diffusion", *DOSE_RULES, "arrivals"):
                rows += [(style.call(rule, [state]), x) for state, x in sides("state", getattr(self, rule))]
            rows += [(style.symbol(f"t_{k + 1}"), typeset(x, style)) for k, x in enumerate(self.event_times)]
            yield f"Dynamics: {self.structure}" + (f" ({given})" if given else ""), rows
        for endpoint, parts in self.observations.items():
            rows = [(style.word(part), typeset(x, style)) for part, x in parts.items()]
            yield f"Observation {endpoint}: {self.errors[endpoint]}", rows

    def __str__(self) -> str:
        lines = [self.name]
        for heading, rows in self._lines(Text()):
            lines += ["", heading, *(f"  {left} = {right}" for left, right in rows)]
        if self.omega:
            lines += ["", "Random effects", *(f"  {line}" for line in self._omega_lines())]
        return "\n".join([*lines, *([""] if self.notes else []), *self.notes])

    __repr__ = __str__

    def _omega_lines(self) -> list[str]:
        found = []
        for per, (names, matrix) in self.omega.items():
            listed = ", ".join(typeset(self.symbols[f"eta.{name}"], Text()) for name in names)
            off = [(i, j) for i in range(len(names)) for j in range(i) if matrix[i, j] != 0]
            entries = [f"var({names[i]}) = {typeset(matrix[i, i], Text())}" for i in range(len(names))]
            entries += [f"cov({names[i]}, {names[j]}) = {typeset(matrix[i, j], Text())}" for i, j in off]
            found += [f"({listed}) ~ N(0, Ω), one per {per}", *(f"  {entry}" for entry in entries)]
        return found

    def latex(self) -> str:
        """All equations as one ``align*`` environment of LaTeX (amsmath)."""
        rows = []
        for heading, pairs in self._lines(LaTeX()):
            rows.append(rf"& \textbf{{{_escaped(heading)}}}")
            rows += [rf"{left} &= {right}" for left, right in pairs]
        for per, (names, matrix) in self.omega.items():
            rows.append(rf"& \textbf{{Random effects, one per {_escaped(per)}}}")
            listed = ", ".join(typeset(self.symbols[f"eta.{name}"], LaTeX()) for name in names)
            entries = r" \\ ".join(" & ".join(typeset(x, LaTeX()) for x in matrix.row(i)) for i in range(len(names)))
            rows.append(rf"\left({listed}\right) &\sim N\left(0, \begin{{pmatrix}} {entries} \end{{pmatrix}}\right)")
        return "\\begin{align*}\n" + " \\\\\n".join(rows) + "\n\\end{align*}"

    def mathml(self) -> dict[str, list[str]]:
        """Heading -> its equations, each a ``<math>`` element of presentation MathML."""
        found = {
            heading: [_math(f"{left}<mo>=</mo>{right}") for left, right in pairs] for heading, pairs in self._lines(MathML())
        }
        for per, (names, matrix) in self.omega.items():
            listed = "<mo>,</mo>".join(typeset(self.symbols[f"eta.{name}"], MathML()) for name in names)
            rows = [
                "<mtr>" + "".join(f"<mtd>{typeset(x, MathML())}</mtd>" for x in matrix.row(i)) + "</mtr>"
                for i in range(len(names))
            ]
            table = f"<mrow><mo>(</mo><mtable>{''.join(rows)}</mtable><mo>)</mo></mrow>"
            law = f"<mrow><mo>(</mo>{listed}<mo>)</mo></mrow><mo>∼</mo><mi>N</mi><mo>(</mo><mn>0</mn><mo>,</mo>{table}<mo>)</mo>"
            found[f"Random effects, one per {per}"] = [_math(law)]
        return found

    def html(self) -> str:
        """A fragment of HTML with all equations as MathML, which needs nothing else on a page."""
        parts = []
        for heading, equations in self.mathml().items():
            body = "".join(f'<p style="margin:4px 0 4px 16px">{one.replace(_SPACE, "")}</p>' for one in equations)
            parts.append(f"<h5>{html.escape(heading)}</h5>{body}")
        parts += [f"<p>{html.escape(note)}</p>" for note in self.notes]
        return '<div class="equations">' + "".join(parts) + "</div>"

    _repr_html_ = html


def _math(inside: str) -> str:
    return f'<math{_SPACE} displaystyle="true"><mrow>{inside}</mrow></math>'


def _escaped(text: str) -> str:
    return "".join({"_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "^": r"\^{}"}.get(c, c) for c in text)


def equations(model: Model | type[Model], *, networks: bool = False, largest: int = LARGEST) -> Equations:
    """The equations of a model, with its own names: what ``individual``, ``dynamics`` and ``observe`` compute.

    Population parameters are called as their fields (``cl``), random effects ``eta_cl``, covariates and states by their names,
    individual parameters ``cl_i``.  Numbers are the shortest decimals that are the same floats.  A network (spline, module) of
    more than ``largest`` weights is a function ``NN_net`` of its inputs, one of fewer is written out.

    Parameters
    ----------
    model : a model, its class, or a fit
    networks : write all networks out
    largest : weights of the largest network that is written out unasked

    Raises
    ------
    ModelError
        An operation that has no formula (a loop of unknown length, a linear system solved ...), by its name and the method
        it stands in; a formula of more than 20,000 symbols; sympy is not installed.
    """
    if isinstance(model, type) and issubclass(model, Model):
        model = model()
    held = model if isinstance(model, Model) else getattr(model, "model", None)
    if not isinstance(held, Model):
        raise ModelError(f"equations takes a model, its class or a fit; got {type(model).__name__}.")
    try:
        from nlme.language.written import read
    except ImportError as error:
        if (error.name or "").split(".")[0] != "sympy":
            raise
        raise ModelError("nlme.equations needs sympy: pip install 'nlme[equations]'.") from None
    return read(held, networks, largest)
