"""A model as a Monolix project: the structural model in Mlxtran, and the project that says distributions, data and values.

Source: the documentation of Mlxtran and of Monolix' project files (Lixoft/Simulations Plus).
"""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np

from nlme.exchange.densities import log_density
from nlme.exchange.exported import Exported, data_name
from nlme.exchange.infix import Infix, Syntax, lines_of
from nlme.exchange.lognormals import log_normals
from nlme.exchange.names import Names
from nlme.exchange.outline import OCCASION, Endpoint, Outline, Parameter
from nlme.exchange.rows import put_at_limits, rows_of, with_predictions
from nlme.exchange.statements import Assign, Scribe, Statement
from nlme.language import symbols as s
from nlme.language.typeset import typeset

PROGRAM = "Monolix"
_FUNCTIONS = {name: name for name in ("exp", "log", "sin", "cos", "tan", "asin", "acos", "atan", "cosh", "tanh", "floor")}
_FUNCTIONS |= {"loggamma": "gammaln", "ceiling": "ceil", "Abs": "abs"}
SYNTAX = Syntax(PROGRAM, "=", "if {test}", "elseif {test}", "else", "end", _FUNCTIONS)
_RESERVED = {
    *_FUNCTIONS.values(), "t", "t0", "t_0", "tDose", "amtDose", "inftDose", "input", "output", "file", "if", "else", "elseif", "end", "sqrt",
    "log10", "logit", "invlogit", "probit", "norminv", "qnorm", "normcdf", "pnorm", "min", "max", "atan2", "factorial", "factln", "rem",
    "delay", "odeType", "stiff", "nonStiff", "depot", "iv", "oral", "absorption", "elimination", "compartment", "peripheral", "effect",
    "transfer", "empty", "reset", "pkmodel", "adm", "type", "target", "id", "time", "occ", "use", "table", "regressor", "mean", "sd", "var",
    "correlation", "level", "value", "method",
}  # fmt: skip
_ERRORS = {"additive": "constant", "proportional": "proportional", "combined": "combined2",
           "combined (standard deviations add)": "combined1", "power": "combined2c"}  # fmt: skip
_SCALES = {"lognormal": "logNormal", "logitnormal": "logitNormal"}
_DISCRETE = {"poisson": "count", "negative_binomial": "count", "binary": "categorical", "ordered": "categorical"}


def project(outline: Outline, stem: str) -> Exported:
    """The project, its model and its data.

    Raises
    ------
    ModelError
        What Mlxtran has no words for.
    """
    return _Project(outline, stem).exported()


class _Project:
    def __init__(self, outline: Outline, stem: str):
        self.outline, self.stem, self.found = outline, stem, outline.equations
        self.messages = list(outline.messages)
        self.names = Names(_RESERVED)
        self.rows = rows_of(outline, PROGRAM)
        self.key = {name: x.name for name, x in self.found.symbols.items()}
        give = self.names.give
        self.covariates = {name: give(name, "cov") for name in outline.anatomy.covariates}
        self.states = {name: give(name, "cmt") for name in outline.anatomy.states}
        self.words = {self.key[f"cov.{n}"]: word for n, word in self.covariates.items()}
        self.words |= {self.key[f"state.{n}"]: word for n, word in self.states.items()}
        self.words |= {self.key["time.t"]: "t"}
        self.groups, self.individual = log_normals(outline)
        self.values: list[tuple[str, float, bool]] = []  # <PARAMETER>: name, value, whether it is held
        self.definitions: list[str] = []  # [INDIVIDUAL]
        self.inputs: list[str] = []  # of the structural model
        self.errors: list[str] = []  # parameters of the error models
        self.observed: dict[str, str] = {}  # endpoint -> its distribution in the project
        self._require()
        self._individuals()
        self._effects()

    def _require(self) -> None:
        outline, anatomy = self.outline, self.outline.anatomy
        outline.require_one_level(PROGRAM)
        if self.found.event_times:
            raise outline.refuse("it has event times.", PROGRAM)
        varying = [n for n in anatomy.covariates if not outline.population.covariates[n].constant]
        if varying:
            raise outline.refuse(
                f"covariate {varying[0]!r} changes in time: a regressor holds until the next record there, and a record's value over the time "
                "that ends with it here.", PROGRAM,
            )  # fmt: skip

    # -- parameters --------------------------------------------------------------------------------------------------

    def _individuals(self) -> None:
        """Fixed effects as individual parameters, with variability where theta exp(eta) can be told as such."""
        groups = {g.parameter.name: g for g in self.groups}
        residual = self._residual_parameters()
        self.carrier: dict[str, str] = {}  # random effect -> the individual parameter that has it
        for p in self.outline.parameters:
            if p.name in residual:
                name = self.names.give(p.name, "err")
                self.words[p.symbol] = name
                self.errors.append(name)
                self.values.append((name, p.value, p.fixed))
                continue
            name, group = self.names.give(p.name, "i"), groups.get(p.name)
            self.words[group.symbol.name if group else p.symbol] = name
            self.inputs.append(name)
            self.values.append((f"{name}_pop", p.value, p.fixed))
            self.carrier |= {effect: name for effect in (group.effects if group else ())}
            self.definitions.append((name, _distribution(p), list(group.effects) if group else []))

    def _residual_parameters(self) -> set[str]:
        """Fixed effects that stand alone in error models and nowhere else."""
        alone, elsewhere = set(), set()
        for endpoint in self.outline.endpoints:
            for part, x in endpoint.parts.items():
                kind = alone if part in ("add", "prop", "exponent", "sd") and x.is_Symbol else elsewhere
                kind |= {symbol.name for symbol in x.free_symbols}
        sections = (self.found.individual, self.found.dynamics, self.found.initial, *(getattr(self.found, r) for r in
                    ("lag", "bioavailability", "duration", "rate")))  # fmt: skip
        elsewhere |= {x.name for section in sections for formula in section.values() for x in formula.free_symbols}
        return {p.name for p in self.outline.parameters if p.symbol in alone - elsewhere}

    def _effects(self) -> None:
        """Random effects that no log-normal parameter carries, as normal ones with mean 0; the spreads of all."""
        self.spread: dict[str, str] = {}
        self.correlations: list[str] = []
        for block in self.outline.effects:
            zero, sd = not block.matrix.any(), np.sqrt(np.diag(block.matrix))
            for place, name in enumerate(block.names):
                symbol = self.key[f"eta.{name}"]
                if zero:
                    self.words[symbol] = "0"
                    continue
                if name not in self.carrier:
                    variable = self.names.give(f"eta_{name}")
                    self.carrier[name] = self.words[symbol] = variable
                    self.inputs.append(variable)
                    self.values.append((f"{variable}_pop", 0.0, True))
                    self.definitions.append((variable, "normal", [name]))
                kind = "gamma" if block.per == OCCASION else "omega"
                self.spread[name] = f"{kind}_{self.carrier[name]}"
                self.values.append((self.spread[name], float(sd[place]), block.fixed))
            level = "id*OCC" if block.per == OCCASION else "id"
            pairs = []
            for i, j in combinations(range(len(block.names)), 2):
                a, b = self.carrier[block.names[i]], self.carrier[block.names[j]]
                corr = f"corr_{b}_{a}" + ("_occ" if block.per == OCCASION else "")
                pairs.append(f"r({a}, {b})={corr}")
                self.values.append((corr, float(block.matrix[i, j] / (sd[i] * sd[j])), block.fixed))
            if pairs:
                self.correlations.append(f"correlation = {{level={level}, {', '.join(pairs)}}}")

    def _individual_section(self) -> list[str]:
        lines, inputs = [], []
        occasional = {n for block in self.outline.effects if block.per == OCCASION for n in block.names}
        for name, distribution, effects in self.definitions:
            effects = [e for e in effects if e in self.spread]
            own = [self.spread[e] for e in sorted(effects, key=lambda e: e in occasional)]
            inputs += [f"{name}_pop", *own]
            if not own:
                spread = "no-variability"
            elif len(own) == 2:
                spread = f"varlevel={{id, id*OCC}}, sd={{{own[0]}, {own[1]}}}"
            else:
                spread = ("varlevel=id*OCC, " if effects[0] in occasional else "") + f"sd={own[0]}"
            lines.append(f"{name} = {{distribution={distribution}, typical={name}_pop, {spread}}}")
        inputs += [name for name, _, _ in self.values if name.startswith("corr_")]
        return ["[INDIVIDUAL]", f"input = {{{', '.join(inputs)}}}", "", "DEFINITION:", *lines, *self.correlations]

    # -- the structural model ------------------------------------------------------------------------------------------

    def model(self) -> list[str]:
        own: list[Statement] = []
        for name, formula in self.individual.items():
            known = self.words.get(formula.name) if formula.is_Symbol else None
            self.words[self.key[f"ind.{name}"]] = known or self.names.give(name, "i")
            if not known:
                own.append(Assign(self.words[self.key[f"ind.{name}"]], formula))
        macros = self._macros()
        starts = [Assign(f"{self.states[state]}_0", x) for state, x in self.found.initial.items()]
        own += [Assign("t_0", "0"), *starts] if starts else []
        own += [Assign(f"ddt_{self.states[state]}", x) for state, x in self.found.dynamics.items()]
        definitions: list[str] = []
        self.outputs: list[str] = []
        for endpoint in self.outline.endpoints:
            own += self._observed(endpoint, definitions)
        scribe = Scribe(self.names.give, self.words, _FUNCTIONS)
        body = lines_of(scribe.expanded(own), Infix(self.words, SYNTAX), SYNTAX)
        regressors = [f"{word} = {{use=regressor}}" for word in self.covariates.values()]
        inputs = [*self.inputs, *self.covariates.values()]
        return [
            f"; {self.outline.title}", "", "[LONGITUDINAL]", f"input = {{{', '.join(inputs)}}}", *regressors, "",
            *(["PK:", *macros, ""] if macros else []), "EQUATION:", *body, "",
            *(["DEFINITION:", *definitions, ""] if definitions else []), "OUTPUT:", f"output = {{{', '.join(self.outputs)}}}",
        ]  # fmt: skip

    def _macros(self) -> list[str]:
        """One depot for each way in which doses come; sets ADM of the rows."""
        if not self.states:
            return []
        frame, states = self.rows, self.outline.anatomy.states
        dose = np.isin(frame["EVID"], (1, 4))
        frame["ADM"] = 0
        lines = []
        by = {self.found.symbols[f"ind.{name}"]: x for name, x in self.individual.items()}
        style = Infix(self.words, SYNTAX)
        for k, state in enumerate(states, start=1):
            here = dose & (frame["CMT"] == k)
            if np.any(here & (frame["RATE"] == -1)):
                raise self.outline.refuse(f"the rate of doses into {state} is the model's.", PROGRAM)
            given = here & ((frame["RATE"] > 0) | (frame["DUR"] > 0))
            if np.any(given) and state in self.found.bioavailability:
                raise self.outline.refuse(
                    f"infusions into {state} have a bioavailability, which scales their rate there and their duration here.",
                    PROGRAM,
                )
            rules = {word: getattr(self.found, rule).get(state) for rule, word in (("lag", "Tlag"), ("bioavailability", "p"))}
            for modelled, adm in ((False, k), (True, len(states) + k)):
                chosen = here & ((frame["RATE"] == -2) == modelled)
                if not np.any(chosen):
                    continue
                frame.loc[chosen, "ADM"] = adm
                own = rules | ({"Tk0": self.found.duration[state]} if modelled else {})
                written = [f"{word}={typeset(s.replaced(x, by), style)}" for word, x in own.items() if x is not None]
                lines.append(f"depot({', '.join([f'adm={adm}', f'target={self.states[state]}', *written])})")
        return lines

    # -- observations --------------------------------------------------------------------------------------------------

    def _observed(self, endpoint: Endpoint, definitions: list[str]) -> list[Statement]:
        name = self.names.give(endpoint.name, "pred")
        self.outputs.append(name)
        kind, parts = endpoint.kind, endpoint.parts
        if kind in _DISCRETE:
            return self._discrete(endpoint, name, definitions)
        if kind not in _ERRORS and kind not in _SCALES or "mean on that scale" in parts or "variance" in parts:
            raise self.outline.refuse(
                f"the endpoint {endpoint.name!r} has an error model ({kind}) that has no words there.", PROGRAM
            )
        if endpoint.censoring not in ("", "M3"):
            raise self.outline.refuse(f"the endpoint {endpoint.name!r} has censored values by {endpoint.censoring}.", PROGRAM)
        values = [self._error_parameter(endpoint, which) for which in ("add", "prop", "exponent", "sd") if which in parts]
        if kind == "power":
            values = [self._held(f"{endpoint.name}_a", 0.0), *values]
        bounds = ""
        if kind == "logitnormal":
            bounds = f", min={typeset(parts['lower'], Infix({}, SYNTAX))}, max={typeset(parts['upper'], Infix({}, SYNTAX))}"
        error = f"{_ERRORS.get(kind, 'constant')}({', '.join(values)})"
        distribution = f"distribution={_SCALES.get(kind, 'normal')}{bounds}"
        self.observed[endpoint.name] = f"{{{distribution}, prediction={name}, errorModel={error}}}"
        return [Assign(name, parts["prediction"])]

    def _error_parameter(self, endpoint: Endpoint, which: str) -> str:
        x = endpoint.parts[which]
        if s.is_number(x):
            return self._held(f"{endpoint.name}_{which}", float(x))
        name = self.words.get(x.name) if x.is_Symbol else None
        if name not in self.errors:
            raise self.outline.refuse(
                f"{which} of the endpoint {endpoint.name!r} is a formula, or has a part in other equations; there it is a parameter of its own.",
                PROGRAM,
            )
        return name

    def _held(self, wanted: str, value: float) -> str:
        name = self.names.give(wanted)
        self.errors.append(name)
        self.values.append((name, value, True))
        return name

    def _discrete(self, endpoint: Endpoint, name: str, definitions: list[str]) -> list[Statement]:
        """Counts or categories, whose probabilities the structural model defines."""
        before: list[Statement] = []

        def variable(wanted: str, formula) -> str:
            given = self.names.give(wanted)
            before.append(Assign(given, formula))
            return given

        parts = endpoint.parts
        if endpoint.kind == "binary":
            p = variable(f"p_{name}", parts["P(1)"])
            law = f"type=categorical, categories={{0, 1}}, P({name}=0)=1-{p}, P({name}=1)={p}"
        elif endpoint.kind == "ordered":
            listed = {text[len("log P(") : -1]: s.function("exp")(x) for text, x in parts.items()}
            named = ", ".join(f"P({name}={k})={variable(f'p_{name}_{k}', x)}" for k, x in listed.items())
            law = f"type=categorical, categories={{{', '.join(listed)}}}, {named}"
        else:
            count = s.symbol("<k>")
            moved = {part: s.symbol(f"<{part} of {endpoint.name}>") for part in parts}
            self.words |= {count.name: "k"} | {x.name: variable(f"{part}_{name}", parts[part]) for part, x in moved.items()}
            formula = _first_case(log_density(endpoint.kind, moved, count))
            law = f"type=count, log(P({name}=k)) = {typeset(formula, Infix(self.words, SYNTAX))}"
        definitions.append(f"{name} = {{{law}}}")
        return before

    # -- the whole -------------------------------------------------------------------------------------------------------

    def exported(self) -> Exported:
        model = self.model()
        data = {e.name: self.names.give(f"y_{e.name}") for e in self.outline.endpoints}
        modelled = {
            e.name: data[e.name] if e.name in self.observed else self.outputs[k] for k, e in enumerate(self.outline.endpoints)
        }
        table, content = self._data(data)
        lines = [
            *self.outline.heading(";"),
            "",
            "<DATAFILE>",
            "",
            "[FILEINFO]",
            f"file='{data_name(PROGRAM, self.stem)}'",
            "delimiter = comma",
            f"header={{{', '.join(table)}}}",
            "",
        ]
        lines += ["[CONTENT]", *content, "", "<MODEL>", "", *self._individual_section(), "", "[LONGITUDINAL]"]
        lines += [f"input = {{{', '.join(self.errors)}}}"] if self.errors else []
        lines += ["", f"file = '{self.stem}_model.txt'", ""]
        if self.observed:
            lines += ["DEFINITION:", *(f"{data[name]} = {text}" for name, text in self.observed.items()), ""]
        lines += [
            "<FIT>",
            f"data = {{{', '.join(data.values())}}}",
            f"model = {{{', '.join(modelled.values())}}}",
            "",
            "<PARAMETER>",
        ]
        lines += [f"{name} = {{value={_number(v)}, method={'FIXED' if held else 'MLE'}}}" for name, v, held in self.values]
        lines += [
            "",
            "<MONOLIX>",
            "",
            "[TASKS]",
            "populationParameters()",
            "individualParameters(method = {conditionalMean, conditionalMode })",
        ]
        lines += [
            "fim(method = StochasticApproximation)",
            "logLikelihood(method = ImportanceSampling)",
            "",
            "[SETTINGS]",
            "GLOBAL:",
        ]
        lines += [f"exportpath = '{self.stem}'"]
        texts = {f"{self.stem}.mlxtran": "\n".join(lines) + "\n", f"{self.stem}_model.txt": "\n".join(model) + "\n"}
        return Exported(PROGRAM, texts, table, self.stem, 0.0, tuple(self.messages))

    def _data(self, names: dict[str, str]):
        frame, uses = self.rows, {"ID": "identifier", "TIME": "time"}
        rate, dur = frame["RATE"].to_numpy(dtype=float), frame["DUR"].to_numpy(dtype=float)
        frame["RATE"] = np.where(dur > 0, frame["AMT"] / np.where(dur > 0, dur, 1.0), np.where(rate > 0, rate, 0.0))
        if self.states:
            uses |= {"AMT": "amount", "ADM": "administration", "EVID": "eventidentifier"}
            extra = {"RATE": "rate", "II": "interdoseinterval", "ADDL": "additionaldose", "SS": "steadystate"}
            uses |= {c: use for c, use in extra.items() if np.any(frame[c] != 0)}
            if "SS" in uses:
                self.messages.append("Monolix reaches a steady state by a number of doses (nbdoses); here it is exact.")
        if np.any(frame["EVID"] == 0):
            frame["EVID"] = with_predictions(frame)
            if np.any(frame["EVID"] != 0):
                uses["EVID"] = "eventidentifier"
        uses["DV"] = "observation"
        endpoints = self.outline.endpoints
        if len(endpoints) > 1:
            uses["DVID"] = "observationtype"
        if any(e.censoring for e in endpoints):
            for endpoint in endpoints:
                put_at_limits(frame, self.outline, endpoint, PROGRAM)
            uses |= {"CENS": "censored"} | ({"LIMIT": "limit"} if np.isfinite(frame["LIMIT"]).any() else {})
        if self.outline.anatomy.by_occasion:
            uses["OCC"] = "occasion"
        columns = {c: c for c in uses} | {f"cov.{name}": word for name, word in self.covariates.items()}
        content = [f"{c} = {{use={use}}}" for c, use in uses.items() if c != "DV"]
        types = [_DISCRETE.get(e.kind, "continuous") for e in endpoints]
        if len(endpoints) == 1:
            observation = f"DV = {{use=observation, name={names[endpoints[0].name]}, type={types[0]}}}"
        else:
            codes = ", ".join(f"'{e.code}'" for e in endpoints)
            listed = ", ".join(names[e.name] for e in endpoints)
            observation = f"DV = {{use=observation, name={{{listed}}}, yname={{{codes}}}, type={{{', '.join(types)}}}}}"
        content += [observation, *(f"{word} = {{use=regressor}}" for word in self.covariates.values())]
        return frame[list(columns)].rename(columns=columns), content


def _distribution(p: Parameter) -> str:
    if p.lower == 0.0 and math.isinf(p.upper):
        return "logNormal"
    if math.isfinite(p.lower) and math.isfinite(p.upper):
        bounds = "" if (p.lower, p.upper) == (0.0, 1.0) else f", min={p.lower:.17g}, max={p.upper:.17g}"
        return f"logitNormal{bounds}"
    return "normal"


def _number(value: float) -> str:
    return f"{value:.15g}"


def _first_case(x):
    """The value of every choice where its first condition holds: y log(mean), which is 0 at y = 0 too."""
    if x.func.__name__ == "Piecewise":
        return _first_case(x.args[0][0])
    return s.rebuilt(x, [_first_case(a) for a in x.args]) if x.args else x
