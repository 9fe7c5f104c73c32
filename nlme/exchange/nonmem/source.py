"""The Python file of an imported model, as a person would have written it."""

from __future__ import annotations

import keyword
import math
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nlme.exchange.nonmem.declared import Block
from nlme.exchange.nonmem.methods import Written
from nlme.exchange.nonmem.program import Program
from nlme.exchange.nonmem.records import of_name
from nlme.exchange.nonmem.symbols import Symbols

_WIDTH = 118


@dataclass(frozen=True)
class Source:
    """The text of the file, the name of its class, and the parameters that the control stream holds fixed."""

    text: str
    name: str
    fixed: tuple[str, ...]


def source_of(program: Program, symbols: Symbols, written: Written, values: Mapping[str, float], origin: str) -> Source:
    """Write the file with ``values`` (by NONMEM's names: THETA1, OMEGA(1,1), SIGMA(1,1)) as the starting values.

    Raises
    ------
    ModelError
        Values that the declarations cannot hold.
    """
    fixed: list[str] = []
    fields = _thetas(program, symbols, written, values, fixed)
    fields += _mixture(program, symbols, written, values, fixed)
    fields += _omegas(program, symbols, written, values, fixed)
    fields += _sigmas(program, symbols, written, values, fixed)
    title = _title(program)
    name = _class_name(title, program.file)
    body = [*_class_head(name, title), *fields, "", *_covariates(symbols, written), *_individual(written)]
    if written.dynamics:
        body += ["    def dynamics(self, ind):", *(f"        {line}".rstrip() for line in written.dynamics), ""]
    body += _observe(written)
    text = "\n".join(body)
    imports = ["import jax"] if "jax." in text else []
    imports += ["import jax.numpy as jnp"] if "jnp." in text else []
    head = [*_docstring(program, title, origin, fixed), "", *imports, *([""] if imports else []), "import nlme"]
    head += ["from nlme import Scalar"] if ": Scalar" in text else []
    return Source("\n".join([*head, "", "", text]).rstrip() + "\n", name, tuple(fixed))


def _title(program: Program) -> str:
    problems = of_name(program.records, "PROBLEM")
    text = " ".join(problems[0].text.split()) if problems else ""
    return text.replace("\\", "/").replace('"', "'") or program.file


def _class_name(title: str, file: str) -> str:
    words = re.findall(r"[A-Za-z][A-Za-z0-9]*", re.split(r"[:,;(]", title)[0])[:4]
    name = "".join(w[0].upper() + w[1:].lower() for w in words) or "Model"
    return "Run" + name if keyword.iskeyword(name) or name in ("Model", "Scalar", "None", "True", "False") else name


def _docstring(program: Program, title: str, origin: str, fixed: list[str]) -> list[str]:
    lines = [
        f'"""{title}.' if not title.endswith(".") else f'"""{title}',
        "",
        f"Imported from the NONMEM control stream {program.file}. {origin}",
    ]
    if fixed:
        held = ", ".join(f'"{name}"' for name in fixed)
        lines += ["", *textwrap.wrap(f"Held fixed there: nlme.fit(..., fixed=[{held}]).", _WIDTH)]
    return [*lines, '"""']


def _class_head(name: str, title: str) -> list[str]:
    return [
        f"class {name}(nlme.Model):",
        *textwrap.wrap(f'"""{title.rstrip(".")}."""', _WIDTH, initial_indent="    ", subsequent_indent="    "),
        "",
    ]


# -- parameters ----------------------------------------------------------------------------------------------------


def _thetas(program: Program, symbols: Symbols, written: Written, values, fixed: list[str]) -> list[str]:
    lines = []
    for k, theta in enumerate(program.thetas, start=1):
        if k not in written.thetas:
            continue
        name = symbols.theta[k]
        value = float(values.get(f"THETA{k}", theta.value))
        if theta.fixed:
            fixed.append(name)
        lines.append(f"    {name}: Scalar = {_domain(theta, value)}{_told(symbols, name)})")
    return lines


def _domain(theta, value: float) -> str:
    lower, upper = (-math.inf, math.inf) if theta.fixed and not theta.lower < value < theta.upper else (theta.lower, theta.upper)
    if not lower < value < upper or math.isinf(lower):
        return f"nlme.real({value!r}"
    if math.isinf(upper):
        return f"nlme.positive({value!r}" if lower == 0 else f'nlme.bounded({value!r}, {lower!r}, float("inf")'
    if (lower, upper) == (0, 1):
        return f"nlme.probability({value!r}"
    return f"nlme.bounded({value!r}, {lower!r}, {upper!r}"


def _told(symbols: Symbols, name: str) -> str:
    unit, label = symbols.units.get(name), symbols.labels.get(name)
    return (f', unit="{unit}"' if unit else "") + (f', label="{label}"' if label else "")


def _mixture(program: Program, symbols: Symbols, written: Written, values, fixed: list[str]) -> list[str]:
    if program.mix is None:
        if written.mixture:
            raise program.main.refuse("MIXNUM is used, and there is no $MIX.")
        return []
    if not written.mixture:
        raise program.mix.refuse("MIXNUM has no part in the model: the shares are not estimable.")
    shares = _shares(program, values)
    written.groups = len(shares)
    listed = ", ".join(f"group{k}={p!r}" for k, p in enumerate(shares, start=1))
    return [f"    group: nlme.Mixture = nlme.mixture({listed})"]


def _shares(program: Program, values) -> list[float]:
    """P(k) at these values: they may depend on thetas and on nothing else."""

    from nlme.exchange.nonmem import expressions as ex

    known: dict[str, float] = {}
    number = 0
    mix = program.mix
    for a in mix.assignments:
        for n in ex.names_in(a.value):
            if re.fullmatch(r"THETA\(\d+\)", n):
                k = int(n[6:-1])
                known[n] = float(values.get(f"THETA{k}", program.thetas[k - 1].value))
        unknown = sorted(n for n in ex.names_in(a.value) if n not in known)
        if unknown:
            raise mix.refuse(f"shares of subpopulations that depend on {', '.join(unknown)} are not imported.", a.line)
        plain = ex.text(ex.replaced(a.value, {n: ex.number(v) for n, v in known.items()}))
        known[a.target] = float(eval(plain, {"jnp": np}))
        if a.target == "NSPOP":
            number = int(known[a.target])
    if number < 2 or any(f"P({k})" not in known for k in range(1, number + 1)):
        raise mix.refuse("NSPOP and P(1) .. P(NSPOP) are needed.")
    shares = [known[f"P({k})"] for k in range(1, number + 1)]
    if not all(0 < p < 1 for p in shares) or abs(sum(shares) - 1) > 1e-6:
        raise mix.refuse(f"the shares of the subpopulations are {shares}; they lie in (0, 1) and sum to one.")
    return shares


def _matrix(block: Block, values, name: str) -> np.ndarray:
    n, out = block.size, block.matrix.copy()
    for i in range(n):
        for j in range(i + 1):
            key = f"{name}({block.first + i},{block.first + j})"
            if key in values:
                out[i, j] = out[j, i] = values[key]
    return out


def _omegas(program: Program, symbols: Symbols, written: Written, values, fixed: list[str]) -> list[str]:
    lines = []
    for field_, per in (("omega", ""), ("omega_occ", "occasion")):
        blocks = [
            b for b in program.omegas
            if not b.same and (per != "") == (b.first in program.occasional) and set(b.numbers) & written.etas
        ]  # fmt: skip
        if not blocks:
            continue
        parts, diagonal = [], []
        for block in blocks:
            names = [symbols.eta[k] for k in block.numbers]
            matrix = _matrix(block, values, "OMEGA")
            if block.size == 1:
                diagonal.append(f"{names[0]}={float(matrix[0, 0])!r}")
            else:
                rows = ", ".join("[" + ", ".join(repr(float(v)) for v in row[: i + 1]) + "]" for i, row in enumerate(matrix))
                listed = ", ".join(f'"{n}"' for n in names)
                whole = f"(({listed}), [{rows}])"
                if len(whole) > _WIDTH - 8:
                    whole = f"(\n            ({listed}),\n            [\n"
                    whole += "".join(f"                [{row}],\n" for row in rows[1:-1].split("], ["))
                    whole += "            ],\n        )"
                parts.append(whole)
            if block.fixed:
                fixed += [f"{field_}.{n}" for n in names]
                fixed += [f"{field_}.{b},{a}" for i, a in enumerate(names) for b in names[i + 1 :]]
        inside = parts + diagonal + ([f'per="{per}"'] if per else [])
        text = f"    {field_}: nlme.Covariance = nlme.covariance({', '.join(inside)})"
        if len(text) > _WIDTH:
            text = "\n".join([f"    {field_}: nlme.Covariance = nlme.covariance(", *(f"        {p}," for p in inside), "    )"])
        lines.append(text)
    return lines


def _sigmas(program: Program, symbols: Symbols, written: Written, values, fixed: list[str]) -> list[str]:
    lines = []
    for block in program.sigmas:
        for place, k in enumerate(block.numbers):
            name = symbols.sigma[k]
            used = {symbols.sigma[s] for s in written.sigmas}
            if block.same or not name or name not in used:
                continue
            variance = float(_matrix(block, values, "SIGMA")[place, place])
            sd = math.sqrt(max(variance, 0.0))
            domain = "positive" if sd > 0 else "real"
            lines.append(f"    {name}: Scalar = nlme.{domain}({sd!r}{_told(symbols, name)})")
            if block.fixed:
                fixed.append(name)
    return lines


# -- methods -------------------------------------------------------------------------------------------------------


def _covariates(symbols: Symbols, written: Written) -> list[str]:
    if not written.covariates:
        return []
    listed = ", ".join(f'"{symbols.covariate[name]}": ""' for name in written.covariates)
    return [*_wrapped(f"    covariates = {{{listed}}}", 8), ""]


def _wrapped(text: str, indent: int) -> list[str]:
    if len(text) <= _WIDTH:
        return [text]
    return textwrap.wrap(text, _WIDTH, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)


def _individual(written: Written) -> list[str]:
    lines = ["    def individual(self, eta, cov):"]
    if written.groups:
        members = ", ".join(f"group{k}={k}" for k in range(1, written.groups + 1))
        lines.append(f"        mixnum = self.group.choose({members})")
    lines += [f"        {name} = {value}" for name, value in written.individual]
    if not written.passed:
        return [*lines, "        return dict()", ""]
    entries = [f"            {name}={value}," for name, value in written.passed.items()]
    return [*lines, "        return dict(", *entries, "        )", ""]


def _observe(written: Written) -> list[str]:
    lines = ["    def observe(self, ind, state, t):", *(f"        {name} = {value}" for name, value in written.observe)]
    entries = [f'"{name}": {text}' for name, text in written.endpoints.items()]
    whole = "        return {" + ", ".join(entries) + "}"
    if len(whole) <= _WIDTH:
        return [*lines, whole]
    return [*lines, "        return {", *(f"            {entry}," for entry in entries), "        }"]
