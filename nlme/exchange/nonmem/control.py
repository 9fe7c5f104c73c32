"""A control stream written from an outline: NM-TRAN's records, in the order in which they are usually read."""

from __future__ import annotations

import dataclasses
import textwrap
from typing import Any

import numpy as np

from nlme.exchange.nonmem.datafile import Records, records_of
from nlme.exchange.nonmem.fortran import FUNCTIONS, Fortran, code_lines, names
from nlme.exchange.nonmem.likelihoods import NORMAL, PROGRAM, Likelihoods, require_words
from nlme.exchange.nonmem.structure import subroutine_of
from nlme.exchange.outline import OCCASION, SUBJECT, Effects, Endpoint, Outline, Parameter
from nlme.exchange.statements import Assign, Choice, Scribe, Statement
from nlme.fitting.saem.method import SAEM
from nlme.language import symbols as s
from nlme.marginal.first_order import FO
from nlme.marginal.foce import FOCE, FOCEI
from nlme.marginal.laplace import Laplace
from nlme.marginal.pooled import NaivePooled
from nlme.marginal.quadrature import AGQ, ImportanceSampling
from nlme.tables.formats import harmless

_RULES = {"lag": "ALAG", "bioavailability": "F", "duration": "D", "rate": "R"}
_THETAS, _RANDOM, _ITEMS = 100, 30, 50  # what NONMEM has room for unless $SIZES says more
_TOL = 9


class Control:
    """The control stream of one outline: ``text(data)`` with the name of its data file, ``table`` the rows of that file."""

    def __init__(self, outline: Outline):
        self.outline, self.found = outline, outline.equations
        self.messages = list(outline.messages)
        for endpoint in outline.endpoints:
            require_words(outline, endpoint)
        self.records: Records = records_of(outline)
        self.names = names()
        self.symbols = {key: x.name for key, x in self.found.symbols.items()}
        self.predpp = bool(outline.anatomy.states)
        self.subroutine = subroutine_of(self.found.structure, tuple(self.found.structural)) if self.predpp else None
        if outline.anatomy.by_site:
            raise outline.refuse(f"random effects per {outline.anatomy.above}; $LEVEL is not written.", PROGRAM)
        self._items()
        self._thetas()
        self._etas()
        self._individuals()
        self.likelihoods = Likelihoods(
            outline, self.found.symbols["data.y"], self._variable, self.records.limits,
            self.records.censorings, self._gained, self._written_prediction,
        )  # fmt: skip
        self.scaled: str | None = self._scale()

    # -- names -------------------------------------------------------------------------------------------------------

    def _items(self) -> None:
        """Data items: what each covariate is called, and the columns of the file."""
        if self.subroutine:
            self.names.reserve(self.subroutine.parameters.values())
            self.names.reserve(("K", "CL", "V", "KA", *(f"{letter}{k}" for letter in "QVK" for k in range(1, 5))))
        self.covariates = {name: self.names.give(name, "COV") for name in self.outline.anatomy.covariates}
        frame = self.records.frame
        columns = {"ID": "ID", "TIME": "TIME"}
        if self.predpp:
            columns |= {c: c for c in ("AMT", "RATE") if c == "AMT" or np.any(frame[c] != 0)}
            columns |= {c: c for c in ("II", "ADDL", "SS") if np.any(frame[c] != 0)}
            columns |= {"CMT": "CMT", "EVID": "EVID"}
        columns |= {"MDV": "MDV", "DV": "DV"}
        if len(self.outline.endpoints) > 1:
            columns["DVID"] = "DVID"
        if any(self.records.censorings.values()):
            columns["CENS"] = "CENS"
            if any(kinds and e not in self.records.limits for e, kinds in self.records.censorings.items()):
                columns["LLOQ"] = "LLOQ"
            if any(kinds & {2, 4} for kinds in self.records.censorings.values()):
                columns["LIM2"] = "LIM2"
        if any(self._hazard_of_time(e) for e in self.outline.endpoints):
            columns["TPREV"] = "TPREV"
        if self.records.durations:
            columns["DUR"] = self.duration = self.names.give("DUR")
        if self.outline.anatomy.by_occasion:
            columns["OCC"] = "OCC"
        columns |= {f"cov.{name}": label for name, label in self.covariates.items()}
        self.columns = columns
        self.renamed = [str(i) for i in frame["SUBJECT"]] != [str(i) for i in frame["ID"]]

    @property
    def table(self):
        """The rows of the data file."""
        kept = {**self.columns, **({"SUBJECT": "SUBJECT"} if self.renamed else {})}
        made = self.records.frame[list(kept)].rename(columns=kept)
        if self.renamed:
            made["SUBJECT"] = [harmless(_plain(text).replace(",", " ").replace(" ", "_")) for text in made["SUBJECT"]]
        return made

    def _thetas(self) -> None:
        """THETAs; one that begins at 0, which NM-TRAN takes for a mistake, is the parameter plus 1."""
        self.thetas = [
            dataclasses.replace(p, **_moved(p)) if p.value == 0.0 and not p.fixed else p for p in self.outline.parameters
        ]
        self.words, moved = {}, []
        for k, (p, theta) in enumerate(zip(self.outline.parameters, self.thetas, strict=True), start=1):
            self.words[p.symbol] = f"THETA({k})" if theta is p else f"(THETA({k}) - 1.0)"
            moved += [] if theta is p else [p.name]
        if moved:
            listed = f"{', '.join(moved[:5])}{' ...' if len(moved) > 5 else ''}"
            self.messages.append(f"{listed}: 0 is no initial value for NONMEM; these THETAs are the parameter plus 1.")

    def _etas(self) -> None:
        """Numbers of the random effects, one for each occasion where there are such; the lines that choose them."""
        self.occasions: list[Statement] = []
        self.effects: list[tuple[Effects, int]] = []  # block, how many times
        labels = self.outline.anatomy.occasions
        number = 1
        for block in self.outline.effects:
            times = len(labels) if block.per == OCCASION else 1
            for place, name in enumerate(block.names):
                symbol = self.symbols[f"eta.{name}"]
                numbers = [number + k * len(block.names) + place for k in range(times)]
                if block.per == SUBJECT:
                    self.words[symbol] = f"ETA({numbers[0]})"
                    continue
                variable = self.names.give(f"IOV_{name.removesuffix('_occ')}")
                self.words[symbol] = variable
                self.occasions.append(Assign(variable, "0.0"))
                self.occasions += [
                    Choice(((f"OCC.EQ.{label}", (Assign(variable, f"ETA({n})"),)),))
                    for label, n in zip(labels, numbers, strict=True)
                ]
            self.effects.append((block, times))
            number += times * len(block.names)
        self.n_etas = number - 1

    def _individuals(self) -> None:
        """What the individual parameters are called: by PREDPP's names where they are what it asks for."""
        found, given = self.found, {}
        if self.subroutine:
            for argument, name in self.subroutine.parameters.items():
                formula = found.structural[argument]
                key = next((k for k, x in found.symbols.items() if x == formula and k.startswith("ind.")), None)
                if key is not None and key not in given:
                    given[key] = name
        self.by_name = {name for name in given.values()}
        self.individual = {name: given.get(f"ind.{name}") or self.names.give(name) for name in found.individual}
        self.words |= {self.symbols[f"ind.{name}"]: variable for name, variable in self.individual.items()}
        self.words |= {self.symbols[f"cov.{name}"]: label for name, label in self.covariates.items()}
        if self.outline.anatomy.mixture:
            self.words[self.symbols[f"self.{self.outline.anatomy.mixture}.member"]] = "(MIXNUM - 1)"
        self.amounts = {self.symbols[f"state.{name}"]: f"A({k})" for k, name in enumerate(self.outline.anatomy.states, start=1)}
        self.later = self.words | self.amounts | {self.symbols["time.t"]: "TIME", self.symbols["data.y"]: "DV"}

    def _variable(self, text: str):
        """A symbol for a variable of $ERROR."""
        inner = s.symbol(f"<{text}>")
        self.later[inner.name] = text
        return inner

    # -- $PK, $DES ---------------------------------------------------------------------------------------------------

    def _scribe(self, words: dict[str, str]) -> Scribe:
        return Scribe(self.names.give, words, (*FUNCTIONS, "erf"))

    def _lines(self, statements: list[Statement], words: dict[str, str]) -> list[str]:
        return code_lines(self._scribe(words).expanded(statements), Fortran(words))

    def pk(self) -> list[str]:
        """The lines of $PK (of $PRED, the first ones)."""
        found = self.found
        own: list[Statement] = [Assign(self.individual[name], x) for name, x in found.individual.items()]
        if not self.predpp:
            return self._lines([*self.occasions, *own], dict(self.words))
        if self.subroutine:
            own += [
                Assign(name, found.structural[argument])
                for argument, name in self.subroutine.parameters.items() if name not in self.by_name
            ]  # fmt: skip
        number = {state: k for k, state in enumerate(self.outline.anatomy.states, start=1)}
        for rule, letters in _RULES.items():
            asked = {c for c, word in self.records.modelled if word == rule}
            own += [
                Assign(f"{letters}{number[state]}", x)
                for state, x in getattr(found, rule).items() if rule in ("lag", "bioavailability") or number[state] in asked
            ]  # fmt: skip
        own += [Assign(f"D{k}", self.duration) for k in sorted(self.records.durations)]
        own += [Assign(f"A_0({number[state]})", x) for state, x in found.initial.items()]
        own += [Assign(f"MTIME({k})", x) for k, x in enumerate(found.event_times, start=1)]
        if self.scaled:
            own.append(Assign(*self.scaled))
        self.rates = {} if self.subroutine else self._handed()
        own += [Assign(variable, self.words[symbol]) for symbol, variable in self.rates.items()]
        return self._lines([*self.occasions, *own], dict(self.words))

    def _handed(self) -> dict[str, str]:
        """Fixed effects that the differential equations look at, as variables of $PK."""
        read = {x.name for formula in self.found.dynamics.values() for x in formula.free_symbols}
        return {p.symbol: self.names.give(p.name, "POP") for p in self.outline.parameters if p.symbol in read}

    def des(self) -> list[str]:
        """The lines of $DES."""
        words = self.words | self.amounts | self.rates | {self.symbols["time.t"]: "T"}
        rates = [Assign(f"DADT({k})", self.found.dynamics[state]) for k, state in enumerate(self.outline.anatomy.states, start=1)]
        return self._lines(rates, words)

    def _scale(self) -> tuple[str, str] | None:
        """S2 = V, where every prediction that looks at the central amount divides it by one individual parameter."""
        if not self.subroutine:
            return None
        central = self.found.symbols["state.central"]
        formulas = [x for e in self.outline.endpoints for x in e.parts.values() if central in x.free_symbols]
        kinds = {e.kind for e in self.outline.endpoints if any(central in x.free_symbols for x in e.parts.values())}
        predictions = {
            e.parts.get("prediction")
            for e in self.outline.endpoints
            if central in e.parts.get("prediction", central).free_symbols
        }
        if len(predictions) != 1 or not kinds <= set(NORMAL):
            return None
        (formula,) = predictions
        volumes = {s.divide(central, self.found.symbols[f"ind.{n}"]): v for n, v in self.individual.items()}
        if formula not in volumes or any(x != formula and formula not in _parts(x) for x in formulas):
            return None
        self.concentration = formula
        return f"S{self.outline.anatomy.states.index('central') + 1}", volumes[formula]

    # -- $ERROR ------------------------------------------------------------------------------------------------------

    def _written_prediction(self, formula) -> Any:
        return "F" if self.scaled and formula == self.concentration else formula

    def error(self) -> list[str]:
        """The lines of $ERROR (of $PRED, the last ones)."""
        observed = set(self.records.frame["ENDPOINT"].tolist())
        endpoints = [e for k, e in enumerate(self.outline.endpoints) if k in observed or len(self.outline.endpoints) == 1]
        blocks = [(f"DVID.EQ.{e.code}", tuple(self.likelihoods.of(e))) for e in endpoints]
        statements = list(blocks[0][1]) if len(blocks) == 1 else [Choice((*blocks[:-1], (None, blocks[-1][1])))]
        return self._lines(statements, self.later)

    def _hazard_of_time(self, endpoint: Endpoint) -> bool:
        """Whether the cumulative hazard of the record before is a formula of its time."""
        if endpoint.kind != "time_to_event" or endpoint.name not in self.records.repeated:
            return False
        formula = endpoint.parts["cumulative hazard"]
        states = [x for key, x in self.found.symbols.items() if key.startswith("state.") and x in formula.free_symbols]
        if states:
            raise self.outline.refuse(
                f"{endpoint.name!r} has several records of a subject, and its cumulative hazard is a state: what it was at the record "
                "before is not a formula of that record.", PROGRAM,
            )  # fmt: skip
        varying = [n for n in self.outline.anatomy.covariates if not self.outline.population.covariates[n].constant]
        if varying or self.outline.anatomy.by_occasion:
            raise self.outline.refuse(
                f"{endpoint.name!r} has several records of a subject, and its hazard changes between records "
                f"({', '.join(varying) or 'occasions'}).", PROGRAM,
            )  # fmt: skip
        return True

    def _gained(self, endpoint: Endpoint, cumulative) -> list[Statement]:
        out: list[Statement] = [Assign("CHZ", cumulative)]
        if "TPREV" not in self.columns or endpoint.name not in self.records.repeated:
            return out
        before = s.replaced(cumulative, {self.found.symbols["time.t"]: self._variable("TPREV")})
        difference = s.subtract(self._variable("CHZ"), before)
        return [*out, Choice((("TPREV.GE.0", (Assign("CHZ", difference),)),))]

    # -- the whole ---------------------------------------------------------------------------------------------------

    def text(self, data: str) -> str:
        """The control stream, for a data file of this name."""
        main = self.pk()
        des = self.des() if self.predpp and not self.subroutine else []
        error = self.error()
        lines = [
            *self._sizes(),
            f"$PROBLEM {textwrap.shorten(_plain(self.outline.title), 72, placeholder='')}",
            *self._remarks(),
            *self._input(),
            f"$DATA {data} IGNORE=@",
        ]
        if not self.predpp:
            lines += ["$PRED", *self._dummy(), *main, *error]
        else:
            lines += [*self._subroutines(), "$PK", *self._dummy(), *main, *(["$DES", *des] if des else []), "$ERROR", *error]
        lines += [*self._mixture(), *self._initial(), *self._estimation(), *self._tables(error)]
        return "\n".join(lines) + "\n"

    def _dummy(self) -> list[str]:
        return [] if self.n_etas else ["DUMMY = ETA(1) ; no random effects"]

    def _remarks(self) -> list[str]:
        remarks = [f"nlme model {self.outline.name}, {self.outline.method!r}"]
        if self.outline.objective is not None:
            remarks.append(f"Objective there: {self.outline.objective:.6f}")
        if self.shift:
            remarks.append(f"Data are on the scales of their errors: NONMEM's objective is higher by {self.shift:.6f}")
        remarks += [f"DVID {e.code}: {e.name}" for e in self.outline.endpoints] if len(self.outline.endpoints) > 1 else []
        for name, label in self.covariates.items():
            if words := self.outline.population.covariates[name].categories:
                remarks.append(f"{label}: {', '.join(f'{k} {word}' for k, word in enumerate(words))}")
        if "CENS" in self.columns:
            remarks.append("CENS 1: below LLOQ; 2: from LIM2 to LLOQ; 3: above LLOQ (an upper limit); 4: from there to LIM2")
        if self.outline.anatomy.mixture:
            listed = ", ".join(f"{k} {name}" for k, name in enumerate(self.outline.anatomy.subpopulations, start=1))
            remarks.append(f"MIXNUM: {listed}")
        return [f"; {line}" for remark in remarks for line in textwrap.wrap(_plain(remark), 110)]

    @property
    def shift(self) -> float:
        """What NONMEM's objective is more than the model's."""
        return self.records.shift

    def _sizes(self) -> list[str]:
        thetas, n_random = len(self.thetas) + max(len(self.outline.shares) - 1, 0), self.n_etas + len(self.likelihoods.residual)
        sizes = [("LTH", thetas, _THETAS), ("LVR", n_random, _RANDOM), ("PD", len(self.columns) + 1, _ITEMS)]
        asked = " ".join(f"{name}={value + 10}" for name, value, room in sizes if value > room)
        return [f"$SIZES {asked}"] if asked else []

    def _input(self) -> list[str]:
        items = [*self.columns.values(), *(["SUBJECT=DROP"] if self.renamed else [])]
        return textwrap.wrap("$INPUT " + " ".join(items), 110, subsequent_indent="       ", break_long_words=False)

    def _subroutines(self) -> list[str]:
        if self.subroutine:
            return [f"$SUBROUTINES ADVAN{self.subroutine.advan} TRANS{self.subroutine.trans}"]
        states, short = self.outline.anatomy.states, names()
        observed = self.outline.anatomy.observed[0] if self.outline.anatomy.observed else 0
        rows = []
        for k, state in enumerate(states):
            marks = (",DEFDOSE" if k == 0 else "") + (",DEFOBS" if k == observed else "")
            rows.append(f"  COMP=({short.give(state[:8], 'C')[:8]}{marks})")
        return [f"$SUBROUTINES ADVAN13 TOL={_TOL}", f"$MODEL NCOMPARTMENTS={len(states)}", *rows]

    def _mixture(self) -> list[str]:
        shares = self.outline.shares
        if not shares:
            return []
        first = len(self.thetas) + 1
        listed = [f"P({k}) = THETA({first + k - 1})" for k in range(1, len(shares))]
        last = "1.0 - " + " - ".join(f"THETA({first + k - 1})" for k in range(1, len(shares)))
        return ["$MIX", f"NSPOP = {len(shares)}", *listed, f"P({len(shares)}) = {last}"]

    def _initial(self) -> list[str]:
        lines = [f"$THETA {_theta(p)} ; {_comment(p)}" for p in self.thetas]
        for name, share in list(zip(self.outline.anatomy.subpopulations, self.outline.shares, strict=True))[:-1]:
            value = f"{share!r} FIX" if self.outline.shares_fixed else f"(0, {share!r}, 1)"
            lines.append(f"$THETA {value} ; share_{name}")
        for block, times in self.effects:
            lines += _omega(block, times)
        if not self.n_etas:
            lines.append("$OMEGA 0 FIX")
        lines += [f"$SIGMA 1 FIX ; {_plain(e.name)}" for e in self.likelihoods.residual]
        return lines

    def _estimation(self) -> list[str]:
        method, normal = self.outline.method, all(e.kind in NORMAL and not e.censoring == "M3" for e in self.outline.endpoints)
        kind = "INTERACTION" if self.likelihoods.residual else "-2LL"
        kind = kind if normal else f"LAPLACE {kind}"
        end = f"MAXEVAL=9999 NSIG=3 SIGL={_TOL} NOABORT PRINT=5"
        if isinstance(method, SAEM):
            explored, smoothed = method.exploration[-1], method.smoothing[-1]
            steps = [
                f"METHOD=SAEM {kind} NBURN={explored} NITER={smoothed} PRINT=50",
                f"METHOD=IMP {kind} EONLY=1 ISAMPLE={method.samples} NITER=5 PRINT=1",
            ]
        elif isinstance(method, ImportanceSampling):
            steps = [f"METHOD=IMP {kind} ISAMPLE={method.samples} NITER=200 PRINT=1"]
        elif isinstance(method, AGQ):
            self.messages.append(f"{method!r} has no counterpart in NONMEM; LAPLACE is written.")
            steps = [f"METHOD=1 LAPLACE {kind.removeprefix('LAPLACE ')} {end}"]
        elif isinstance(method, FO | NaivePooled):
            if isinstance(method, NaivePooled) and self.n_etas:
                raise self.outline.refuse("NaivePooled leaves the random effects out, and NONMEM would not.", PROGRAM)
            steps = [f"METHOD=0 POSTHOC {end}" if normal else f"METHOD=1 {kind} {end}"]
        elif type(method) is FOCE:
            steps = [f"METHOD=1 {end}"]
        elif isinstance(method, FOCEI):
            steps = [f"METHOD=1 INTERACTION {end}"]
        elif isinstance(method, Laplace):
            steps = [f"METHOD=1 LAPLACE {kind.removeprefix('LAPLACE ')} {end}"]
        else:
            raise self.outline.refuse(f"{method!r} has no counterpart.", PROGRAM)
        return [*(f"$ESTIMATION {step}" for step in steps), "$COVARIANCE PRINT=E UNCONDITIONAL"]

    def _tables(self, error: list[str]) -> list[str]:
        shown = ["ID", "TIME", *(["EVID"] if self.predpp else []), "MDV", *(["DVID"] if "DVID" in self.columns else [])]
        if all(e.kind in NORMAL for e in self.outline.endpoints):
            shown += ["IPRED", "CWRES"]
        etas = [f"ETA{k}" for k in range(1, self.n_etas + 1)]
        parameters = ["ID", *self.individual.values(), *etas]
        rows = [f"$TABLE {' '.join(shown)} ONEHEADER NOPRINT FILE=sdtab"]
        rows.append(f"$TABLE {' '.join(parameters)} NOAPPEND ONEHEADER NOPRINT FILE=patab")
        return [line for row in rows for line in textwrap.wrap(row, 110, subsequent_indent="       ", break_long_words=False)]


def _parts(x) -> list:
    """Everything that a formula is made of."""
    return [x, *(part for a in x.args for part in _parts(a))]


def _plain(text: str) -> str:
    """One line of ASCII without what would end or begin a record."""
    return " ".join(text.encode("ascii", "replace").decode().replace(";", ",").replace("$", "S").split())


def _comment(p: Parameter) -> str:
    label = f": {_plain(p.label)}" if p.label else ""
    return f"{_plain(p.name)}{label}" + (f" [{_plain(p.unit)}]" if p.unit else "")


def _moved(p: Parameter) -> dict[str, Any]:
    return {"value": 1.0, "lower": p.lower + 1.0, "upper": p.upper + 1.0, "name": f"{p.name} + 1"}


def _theta(p: Parameter) -> str:
    value = p.value
    if p.fixed:
        return f"{value!r} FIX"
    low, high = ("-INF" if np.isinf(p.lower) else f"{p.lower:.17g}"), ("" if np.isinf(p.upper) else f", {p.upper:.17g}")
    return repr(value) if np.isinf(p.lower) and not high else f"({low}, {value!r}{high})"


def _omega(block: Effects, times: int) -> list[str]:
    n, fixed = len(block.names), " FIX" if block.fixed else ""
    rows = [[f"{v:.15g}" for v in row[: k + 1]] for k, row in enumerate(block.matrix)]  # made of standard deviations
    if n == 1 and times == 1:
        return [f"$OMEGA {rows[0][0]}{fixed} ; {block.names[0]}"]
    lines = [f"$OMEGA BLOCK({n}){fixed}", *(f"  {' '.join(row)} ; {name}" for row, name in zip(rows, block.names, strict=True))]
    return lines + [f"$OMEGA BLOCK({n}) SAME"] * (times - 1)
