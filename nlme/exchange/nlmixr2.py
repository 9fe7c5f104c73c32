"""A model as an R script for nlmixr2: rxode2's model function, and the call that fits it.

Source: the vignettes of rxode2 (syntax, events) and nlmixr2 (residual errors, censoring, multiple endpoints).
"""

from __future__ import annotations

import math

import numpy as np

from nlme.exchange.densities import LIKELIHOODS, log_density
from nlme.exchange.exported import Exported, data_name
from nlme.exchange.infix import Infix, Syntax, lines_of
from nlme.exchange.lognormals import log_normals
from nlme.exchange.names import Names
from nlme.exchange.outline import OCCASION, Effects, Endpoint, Outline, Parameter
from nlme.exchange.rows import put_at_limits, rows_of, with_predictions
from nlme.exchange.statements import Assign, Line, Scribe, Statement
from nlme.fitting.saem.method import SAEM
from nlme.language import symbols as s
from nlme.marginal.first_order import FO
from nlme.marginal.foce import FOCE, FOCEI
from nlme.structure.base import DOSE_RULES

PROGRAM = "nlmixr2"
_FUNCTIONS = {name: name for name in ("exp", "log", "sin", "cos", "tan", "asin", "acos", "atan", "atan2", "sinh", "cosh", "tanh", "asinh",
                                      "acosh", "atanh", "erf", "floor")}  # fmt: skip
_FUNCTIONS |= {"loggamma": "lgamma", "ceiling": "ceil", "whole_part": "trunc", "Abs": "abs"}
SYNTAX = Syntax(PROGRAM, "<-", "if ({test}) {{", "}} else if ({test}) {{", "}} else {{", "}", _FUNCTIONS)
_RESERVED = {
    *_FUNCTIONS.values(), "t", "time", "tad", "tafd", "tlast", "podo", "dose", "cmt", "dvid", "addl", "ss", "amt", "ii", "rate", "dur", "f",
    "lag", "alag", "id", "evid", "mdv", "dv", "cens", "limit", "occ", "linCmt", "ini", "model", "if", "else", "for", "while", "break",
    "function", "sqrt", "abs", "max", "min", "sum", "prod", "pi", "M_PI", "e", "true", "false", "inf", "nan", "na", "null", "add", "prop", "propT",
    "pow", "powT", "lnorm", "logitNorm", "boxCox", "yeoJohnson", "norm", "combined1", "combined2", "ll", "ar", "var", "label", "fix",
    "fixed", "pois", "binom", "cauchy", "beta", "gamma", "unif", "weibull", "mtime", "theta", "eta", "phi", "logit", "expit", "data", "fit",
}  # fmt: skip
_RULES = {"lag": "alag", "bioavailability": "f", "duration": "dur", "rate": "rate"}
_METHODS = {FO: "fo", FOCE: "foce", FOCEI: "focei", SAEM: "saem"}


def script(outline: Outline, stem: str) -> Exported:
    """The script and its data.

    Raises
    ------
    ModelError
        What rxode2 and nlmixr2 have no words for.
    """
    return _Script(outline, stem).exported()


class _Script:
    def __init__(self, outline: Outline, stem: str):
        self.outline, self.stem, self.found = outline, stem, outline.equations
        self.messages = list(outline.messages)
        self._require()
        self.names = Names(_RESERVED)
        give = self.names.give
        key = {name: x.name for name, x in self.found.symbols.items()}
        self.covariates = {name: give(name, "cov") for name in outline.anatomy.covariates}
        self.states = {name: give(name, "cmt") for name in outline.anatomy.states}
        self.words = {key[f"cov.{n}"]: word for n, word in self.covariates.items()}
        self.words |= {key[f"state.{n}"]: word for n, word in self.states.items()}
        self.words |= {key["time.t"]: "t", key["data.y"]: "DV"}
        self.groups, self.individual = log_normals(outline)
        self._parameters(key)
        for name, formula in self.individual.items():
            known = self.words.get(formula.name) if formula.is_Symbol else None
            self.words[key[f"ind.{name}"]] = known or give(name, "i")
        self.key = key

    def _require(self) -> None:
        outline = self.outline
        outline.require_one_level(PROGRAM)
        for endpoint in outline.endpoints:
            if endpoint.censoring not in ("", "M3"):
                raise outline.refuse(f"the endpoint {endpoint.name!r} has censored values by {endpoint.censoring}.", PROGRAM)

    def _parameters(self, key: dict[str, str]) -> None:
        """Names of what stands in ini, and of the log-normal parameters."""
        give = self.names.give
        self.group_of = {g.parameter.name: g for g in self.groups}
        self.theta: dict[str, str] = {}
        for p in self.outline.parameters:
            group = self.group_of.get(p.name)
            self.theta[p.name] = give(f"l{p.name}" if group else p.name, "pop")
            if group:
                self.words[group.symbol.name] = give(p.name, "i")
            else:
                self.words[p.symbol] = self.theta[p.name]
        self.eta: dict[str, str] = {}
        for block in self.outline.effects:
            for name in block.names:
                kind = "iov" if block.per == OCCASION else "eta"
                zero = not block.matrix.any()
                self.eta[name] = "0" if zero else give(f"{kind}.{name.removesuffix('_occ')}".replace(".", "_"))
                self.words[key[f"eta.{name}"]] = self.eta[name]

    # -- ini ---------------------------------------------------------------------------------------------------------

    def ini(self) -> list[str]:
        lines = []
        for p in self.outline.parameters:
            label = f'; label("{_text(p)}")' if p.label or p.unit else ""
            lines.append(f"{self.theta[p.name]} <- {_initial(p, p.name in self.group_of)}{label}")
        for block in self.outline.effects:
            if block.matrix.any():
                lines.append(self._effects(block))
        return lines

    def _effects(self, block: Effects) -> str:
        values = ", ".join(f"{v:.15g}" for k, row in enumerate(block.matrix) for v in row[: k + 1])
        named = " + ".join(self.eta[name] for name in block.names)
        values = f"fix({values})" if block.fixed else values if len(block.names) == 1 else f"c({values})"
        return f"{named} ~ {values}" + (" | OCC" if block.per == OCCASION else "")

    # -- model -------------------------------------------------------------------------------------------------------

    def model(self) -> list[str]:
        found, own = self.found, []
        for group in self.groups:
            etas = [self.eta[name] for name in group.effects if self.eta[name] != "0"]
            own.append(Assign(self.words[group.symbol.name], f"exp({' + '.join([self.theta[group.parameter.name], *etas])})"))
        for name, formula in self.individual.items():
            target = self.words[self.key[f"ind.{name}"]]
            if not (formula.is_Symbol and self.words.get(formula.name) == target):
                own.append(Assign(target, formula))
        own += [Assign(f"mtime({self.names.give(f'mt{k}')})", x) for k, x in enumerate(found.event_times, start=1)]
        own += [Assign(f"d/dt({self.states[state]})", x) for state, x in found.dynamics.items()]
        own += [Assign(f"{self.states[state]}(0)", x) for state, x in found.initial.items()]
        for rule in DOSE_RULES:
            own += [Assign(f"{_RULES[rule]}({self.states[state]})", x) for state, x in getattr(found, rule).items()]
        for endpoint in self.outline.endpoints:
            own += self._observed(endpoint)
        scribe = Scribe(self.names.give, self.words, _FUNCTIONS)
        return lines_of(scribe.expanded(own), Infix(self.words, SYNTAX), SYNTAX)

    def _observed(self, endpoint: Endpoint) -> list[Statement]:
        name = self.variables[endpoint.name]
        kind, parts = endpoint.kind, endpoint.parts
        if kind in LIKELIHOODS:
            return self._likelihood(endpoint)
        if "mean on that scale" in parts or kind == "ar1":
            raise self.outline.refuse(
                f"the endpoint {endpoint.name!r} has an error model ({kind}) that has no words there.", PROGRAM
            )
        out: list[Statement] = [Assign(name, parts["prediction"])]

        def part(which: str) -> str:
            """A part of the error model: the parameter itself, or a variable."""
            formula = parts[which]
            if formula.is_Symbol:
                return self.words[formula.name]
            variable = self.names.give(f"{which}_{endpoint.name}")
            out.append(Assign(variable, formula))
            return variable

        if "variance" in parts:
            variable = self.names.give(f"sd_{endpoint.name}")
            out.append(Assign(variable, s.root(parts["variance"])))
            sd = variable
        else:
            sd = part("sd") if "sd" in parts else ""
        law = {
            "additive": lambda: f"add({part('add')})",
            "normal": lambda: f"add({sd})",
            "proportional": lambda: f"prop({part('prop')})",
            "combined": lambda: f"add({part('add')}) + prop({part('prop')}) + combined2()",
            "combined (standard deviations add)": lambda: f"add({part('add')}) + prop({part('prop')}) + combined1()",
            "power": lambda: f"pow({part('prop')}, {part('exponent')})",
            "lognormal": lambda: f"lnorm({sd})",
            "logitnormal": lambda: f"logitNorm({sd}, {self._bound(endpoint, 'lower')}, {self._bound(endpoint, 'upper')})",
            "boxcox": lambda: f"add({sd}) + boxCox({part('lam')})",
            "yeojohnson": lambda: f"add({sd}) + yeoJohnson({part('lam')})",
        }[kind]()
        return [*out, Line(f"{name} ~ {law}")]

    def _bound(self, endpoint: Endpoint, which: str) -> str:
        if not s.is_number(endpoint.parts[which]):
            raise self.outline.refuse(f"the bounds of the endpoint {endpoint.name!r} are no numbers.", PROGRAM)
        return f"{float(endpoint.parts[which]):.17g}"

    def _likelihood(self, endpoint: Endpoint) -> list[Statement]:
        if endpoint.censoring:
            raise self.outline.refuse(
                f"the endpoint {endpoint.name!r} has censored values of a {endpoint.kind} distribution.", PROGRAM
            )
        if endpoint.kind == "time_to_event" and self._repeated(endpoint):
            raise self.outline.refuse(
                f"{endpoint.name!r} has several records of a subject, and what its hazard gained between them is not written.",
                PROGRAM,
            )
        density, variable = self.names.give(f"log_p_{endpoint.name}"), self.variables[endpoint.name]
        formula = log_density(endpoint.kind, endpoint.parts, self.found.symbols["data.y"])
        return [Assign(density, formula), Line(f"ll({variable}) ~ {density}")]

    def _repeated(self, endpoint: Endpoint) -> bool:
        position = self.outline.endpoints.index(endpoint)
        ids = self.rows.loc[self.rows["ENDPOINT"] == position, "ID"]
        return bool(ids.duplicated().any())

    # -- the whole ---------------------------------------------------------------------------------------------------

    def exported(self) -> Exported:
        self.rows = rows_of(self.outline, PROGRAM)
        self.variables = {e.name: self.names.give(e.name, "y") for e in self.outline.endpoints}
        name = self.names.give(self.outline.name[0].lower() + self.outline.name[1:], "model")
        ini, model = (["    " + line for line in part] for part in (self.ini(), self.model()))
        lines = [
            *self.outline.heading("#"),
            "library(nlmixr2)",
            "",
            f"{name} <- function() {{",
            "  ini({",
            *ini,
            "  })",
            "  model({",
            *model,
            "  })",
            "}",
            "",
        ]
        lines += [f'data <- read.csv("{data_name(PROGRAM, self.stem)}", na.strings = ".")', self._call(name)]
        table = self._table()
        return Exported(PROGRAM, {f"{self.stem}.R": "\n".join(lines) + "\n"}, table, self.stem, 0.0, tuple(self.messages))

    def _call(self, name: str) -> str:
        method = _METHODS.get(type(self.outline.method), "")
        if not method:
            self.messages.append(
                f"{self.outline.method!r} is written as focei, which takes Laplace's way where data are not normal."
            )
        method = method or "focei"
        control = "saemControl" if method == "saem" else f"{method}Control"
        # the values of a record hold over the time that ends there, as here and in NONMEM
        return f'fit <- nlmixr2({name}, data, est = "{method}",\n               control = {control}(rxControl = rxControl(covsInterpolation = "nocb")))'

    def _table(self):
        frame, columns = self.rows, {"ID": "ID", "TIME": "TIME", "DV": "DV", "EVID": "EVID", "MDV": "MDV"}
        censored = [e for e in self.outline.endpoints if e.censoring]
        if censored:
            self._censored(censored)
            columns["CENS"] = "CENS"
        if self.states:
            columns |= {c: c for c in ("AMT", "CMT")}
        columns |= {c: c for c in ("RATE", "DUR", "II", "ADDL", "SS") if self.states and np.any(frame[c] != 0)}
        if self.outline.anatomy.by_occasion:
            columns["OCC"] = "OCC"
            self.messages.append("Random effects per occasion (| OCC) need an nlmixr2 that knows them.")
        columns |= {f"cov.{name}": word for name, word in self.covariates.items()}
        made = frame[list(columns)].rename(columns=columns).astype(object)
        if self.states or len(self.outline.endpoints) > 1:
            # compartments and endpoints by name
            states = list(self.states.values())
            words = [self.variables[e.name] for e in self.outline.endpoints]
            at = zip(frame["ENDPOINT"], frame["CMT"], strict=True)
            made["CMT"] = [
                words[int(k)] if k >= 0 else f"{'-' if c < 0 else ''}{states[abs(int(c)) - 1]}" if c else words[0] for k, c in at
            ]
        made["EVID"] = with_predictions(frame)
        return made

    def _censored(self, endpoints: list[Endpoint]) -> None:
        frame = self.rows
        for endpoint in endpoints:
            at = frame["ENDPOINT"] == self.outline.endpoints.index(endpoint)
            if np.isfinite(frame.loc[at & (frame["CENS"] != 0), "LIMIT"]).any():
                raise self.outline.refuse(f"the endpoint {endpoint.name!r} has values known to an interval (LIMIT).", PROGRAM)
            put_at_limits(frame, self.outline, endpoint, PROGRAM)


def _initial(p: Parameter, logarithm: bool) -> str:
    value = f"log({p.value!r})" if logarithm else repr(p.value)
    if p.fixed:
        return f"fixed({value})"
    low, high = (f"{'-' if b < 0 else ''}Inf" if math.isinf(b) else f"{b:.17g}" for b in (p.lower, p.upper))
    if logarithm or (low, high) == ("-Inf", "Inf"):
        return value
    return f"c({low}, {value})" if high == "Inf" else f"c({low}, {value}, {high})"


def _text(p: Parameter) -> str:
    text = f"{p.label}{f' [{p.unit}]' if p.unit else ''}".strip()
    return text.replace("\\", "/").replace('"', "'")
