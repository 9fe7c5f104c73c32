"""The options of the commands, from their text to values."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
from collections import Counter
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

import nlme
from nlme.data.regimen import Regimen
from nlme.errors import FitError, name_error
from nlme.fitting.encoding import of_kind
from nlme.marginal.base import Method

METHODS = {
    "fo": "FO",
    "foce": "FOCE",
    "focei": "FOCEI",
    "laplace": "Laplace",
    "agq": "AGQ",
    "imp": "ImportanceSampling",
    "saem": "SAEM",
    "pooled": "NaivePooled",
    "variational": "Variational",
}

#: ways of training before a fit
AIDS = {
    "multiple-shooting": "MultipleShooting",
    "growing-horizon": "GrowingHorizon",
    "prediction-error": "PredictionError",
    "collocation": "Collocation",
}

#: programs that a model is written for -> the function that writes it
PROGRAMS = {"nonmem": "to_nonmem", "nlmixr2": "to_nlmixr2", "monolix": "to_monolix"}

#: what a dose may say
_DOSE = ("amount", "time", "into", "rate", "duration", "every", "n")

#: beside an option's help: it holds a list or name=value pairs, and what is given again comes to what was given before
ADDS = "adds up"

#: options of every command that reads data -> what they say
READING = {
    "covariates": "Covariate columns, with units if you like: wt=kg,age=years",
    "time_varying": "Covariates that change within a subject, or 'auto'.",
    "interpolation": "What holds between records of a covariate: nocb, locf or linear; or wt=linear,crcl=locf",
    "categories": "Words of categorical covariates in the order of their numbers: sex=male|female,race=white|black|other",
    "fill": "What to do about missing covariates: locf, nocb, a number; or wt=nocb,sex=male",
    "dvid": "Endpoint of each DVID value: 1=conc,2=effect; one without a name, 3=, is left out.",
    "cmt": "The same by the CMT of observations: 2=conc,3=effect",
    "rename": "Columns under other names: CONC=DV,SUBJECT=ID",
    "compartments": "The model's compartments, to check CMT: depot,central or their number.",
    "allow": "Rules whose violations only warn: 'duplicated record'",
    "ignore": "Leave out rows that start with this character; @ for any letter.",
    "skip": "Lines before the header, where it is not found by itself.",
    "decimal": "Decimal mark, a comma in much of Europe.",
    "separator": "Character between columns, when it is not found by itself.",
    "encoding": "Encoding of a file that is not UTF-8: latin-1",
}

#: those of them that hold one value
_ONE_VALUE = ("ignore", "skip", "decimal", "separator", "encoding")


class Command(TyperCommand):
    """A command that forgets nothing it is told: an option of one value that is given again is refused."""

    def parse_args(self, ctx, args):
        given = list(args)  # the parser empties what it reads
        rest = super().parse_args(ctx, args)
        if not ctx.resilient_parsing:
            self._refuse_repeated(ctx, given)
        return rest

    def _refuse_repeated(self, ctx, args: list[str]) -> None:
        _, _, order = self.make_parser(ctx).parse_args(args=args)
        several = Counter(id(param) for param in order)
        for param in order:
            if param.param_type_name == "option" and not param.multiple and several[id(param)] > 1:
                words = f"it is given {several[id(param)]} times and takes one value; say it once."
                raise typer.BadParameter(words, ctx=ctx, param_hint=param.opts[0])


class App(typer.Typer):
    """The commands, each a :class:`Command` whose options with ``ADDS`` add up."""

    def command(self, name: str | None = None, **how):
        register = super().command(name, cls=Command, **how)

        def add(function):
            register(_adding_up(function))
            return function

        return add


def _adding_up(command: Callable) -> Callable:
    """The command with a list of texts in place of every option with ``ADDS``; it gets them as one, with commas between."""
    signature = inspect.signature(command, eval_str=True)
    those, parameters = [], []
    for parameter in signature.parameters.values():
        said = getattr(parameter.annotation, "__metadata__", ())
        if ADDS in said:
            those.append(parameter.name)
            default = parameter.default
            if default is not inspect.Parameter.empty:
                default = [default] if default else []
            annotation = Annotated[(list[str], *(one for one in said if one is not ADDS))]
            parameter = parameter.replace(annotation=annotation, default=default)
        parameters.append(parameter)

    @functools.wraps(command)
    def run(**arguments):
        for name in those:
            texts = (text.strip().strip(",") for text in arguments[name])
            arguments[name] = ",".join(text for text in texts if text)
        return command(**arguments)

    run.__signature__ = signature.replace(parameters=parameters)
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def names(text: str | None) -> list[str]:
    """'wt,age' -> ['wt', 'age']."""
    return [part.strip() for part in (text or "").split(",") if part.strip()]


def pairs(text: str | None, option: str, need_value: bool = True) -> dict[str, str | None]:
    """'wt=kg,age=years' -> {'wt': 'kg', 'age': 'years'}; a bare name maps to None where that is allowed."""
    found: dict[str, str | None] = {}
    for part in names(text):
        name, equals, value = part.partition("=")
        if not name.strip() or (need_value and not (equals and value.strip())):
            raise typer.BadParameter(f"expected name=value pairs separated by commas; got {part!r}", param_hint=option)
        _require_new(name.strip(), found, option)
        found[name.strip()] = value.strip() or None
    return found


def _require_new(name: str, known: dict, option: str) -> None:
    """Of two values for one name, the first would be lost."""
    if name in known:
        raise typer.BadParameter(f"{name} is given twice; say it once.", param_hint=option)


def number(text: str) -> int | float | str:
    """The number a text stands for, the text itself where it stands for none."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def spans(text: str, option: str) -> list[tuple[float, float]]:
    """'0-12,0-24' -> [(0.0, 12.0), (0.0, 24.0)]."""
    found = []
    for part in names(text):
        match = re.fullmatch(r"([0-9.eE+]+)-([0-9.eE+]+)", part)
        try:
            found.append((float(match[1]), float(match[2])))
        except (TypeError, ValueError):
            words = f"expected from-to pairs separated by commas, 0-12,0-24; got {part!r}"
            raise typer.BadParameter(words, param_hint=option) from None
    return found


def times_of(text: str, option: str) -> list[float]:
    """'12,24' -> [12.0, 24.0]; '0-2/0.5' -> [0.0, 0.5, 1.0, 1.5, 2.0]; sorted, each once."""
    found: set[float] = set()
    for part in names(text):
        span, slash, step = part.partition("/")
        if not slash:
            found.update(numbers(part, option))
            continue
        (begin, end), by = spans(span, option)[0], numbers(step, option)[0]
        if not (by > 0 and end >= begin):
            words = f"from-to/step goes up by a step above 0, 0-72/0.5; got {part!r}"
            raise typer.BadParameter(words, param_hint=option)
        found.update(begin + by * k for k in range(int((end - begin) / by * (1 + 1e-12)) + 1))
    return sorted(found) or list(numbers(text, option))


def regimen_of(texts: list[str]) -> Regimen | None:
    """['amount=1000,time=48,every=12,n=6'] -> nlme.dose(1000, time=48).every(12, n=6); the sum of several."""
    found = None
    for text in texts:
        given = {name: number(value) for name, value in pairs(text, "--dose").items()}
        unknown = [name for name in given if name not in _DOSE]
        if unknown or "amount" not in given:
            words = f"a dose is amount=1000 with any of {', '.join(_DOSE[1:])}; got {text!r}"
            raise typer.BadParameter(words, param_hint="--dose")
        repeats = {name: given.pop(name) for name in ("every", "n") if name in given}
        one = nlme.dose(given.pop("amount"), **given)
        if repeats:
            one = one.every(repeats.get("every", 0), repeats.get("n"))
        found = one if found is None else found + one
    return found


def span_of(text: str, option: str, words: str = "one from-to pair") -> tuple[float, float] | None:
    """'8-24' -> (8.0, 24.0); '' -> None; ``words`` say what is right where there are several."""
    found = spans(text, option)
    if len(found) > 1:
        raise typer.BadParameter(f"{words}; got {text!r}", param_hint=option)
    return found[0] if found else None


def terminal_points(text: str) -> Any:
    """'8-24' -> (8.0, 24.0); '1=8-24,7=6-24' -> the same by ID; '' -> None."""
    if "=" not in text:
        return span_of(text, "--lambda-z", "one from-to pair, or one for each ID, 1=8-24,7=6-24")
    return {identity: spans(span, "--lambda-z")[0] for identity, span in pairs(text, "--lambda-z").items()}


def one_or_each(text: str, option: str) -> Any:
    """'zero' -> 'zero', '5' -> 5; 'before=zero,after=half' and '1=extravascular' -> a dict; '' -> None."""
    if "=" not in text:
        return number(text) if text else None
    return {number(key): number(value) for key, value in pairs(text, option).items()}


def numbers(text: str, option: str) -> tuple[float, ...]:
    """'5,50,95' -> (5.0, 50.0, 95.0)."""
    found = [number(part) for part in names(text)]
    if not found or any(isinstance(part, str) for part in found):
        raise typer.BadParameter(f"expected numbers separated by commas; got {text!r}", param_hint=option)
    return tuple(map(float, found))


def bins_of(text: str) -> str | int | tuple[float, ...]:
    """'auto', '8', or edges: '0,1,4,12,24'."""
    if text == "auto":
        return text
    found = number(text)
    return found if isinstance(found, int) else numbers(text, "--bins")


def strata_of(text: str) -> dict[str, list[float] | None] | None:
    """'sex,wt=60-80' -> {'sex': None, 'wt': [60.0, 80.0]}."""
    found = pairs(text, "--stratify", need_value=False)
    cut = {
        name: None if points is None else list(numbers(points.replace("-", ","), "--stratify")) for name, points in found.items()
    }
    return cut or None


def starting_values(text: str) -> dict[str, float]:
    """'cl=2.5,omega.cl=0.1,omega.v,cl=0.02' -> values by parameter name, some of which have a comma."""
    found = {}
    for name, value in re.findall(r"([^=]+)=([^,]*)(?:,|$)", text):
        _require_new(name.strip(), found, "--start")
        try:
            found[name.strip()] = float(value)
        except ValueError:
            words = f"the starting value of {name.strip()} must be a number; got {value!r}"
            raise typer.BadParameter(words, param_hint="--start") from None
    if text.strip() and (not found or not re.fullmatch(r"(?:[^=]+=[^,]*(?:,|$))+", text)):
        raise typer.BadParameter(f"expected name=value pairs separated by commas; got {text!r}", param_hint="--start")
    return found


def program_of(name: str) -> str:
    """'NONMEM' -> 'to_nonmem'."""
    if name.lower() not in PROGRAMS:
        raise typer.BadParameter(f"{name!r} is none of: {', '.join(PROGRAMS)}", param_hint="--to")
    return PROGRAMS[name.lower()]


def method_of(name: str, options: str) -> Method:
    """'saem', 'chains=3,smoothing=400-2000' -> nlme.SAEM(chains=3, smoothing=(400, 2000))."""
    if name.lower() not in METHODS:
        raise typer.BadParameter(f"{name!r} is none of: {', '.join(METHODS)}", param_hint="--method")
    given = pairs(options, "--options")
    solver = given.pop("solver", None)
    ode = {"ode": nlme.Tolerances(solver=solver)} if solver is not None else {}
    return _made(getattr(nlme, METHODS[name.lower()]), given, "--options", ("solver",), **ode)


def aid_of(text: str):
    """'multiple-shooting,segments=12' -> nlme.MultipleShooting(12)."""
    name, *told = names(text)
    if name.lower() not in AIDS:
        raise typer.BadParameter(f"{name!r} is none of: {', '.join(AIDS)}", param_hint="--shooting")
    return _made(getattr(nlme, AIDS[name.lower()]), pairs(",".join(told), "--shooting"), "--shooting")


def penalty_of(text: str):
    """'1.0' -> nlme.L2(1.0); 'net=1.0' -> nlme.L2(1.0, on="net"); 'cross-validated' is itself."""
    if text == "cross-validated":
        return text
    on, _, strength = text.rpartition("=")
    if not isinstance(number(strength), (int, float)):
        words = f"expected the strength of a penalty on squared weights, 1.0 or of one network net=1.0, or cross-validated; got {text!r}"
        raise typer.BadParameter(words, param_hint="--penalty")
    return nlme.L2(float(strength), on=on.strip() or None)


def _made(kind: type, told: dict[str, str], option: str, beside: tuple[str, ...] = (), **given) -> Any:
    """``kind`` with its options from their text and those ``given``, which were told by the names ``beside``."""
    known = {f.name: f.default for f in dataclasses.fields(kind) if f.name != "ode"}
    values = {name: _option(text) for name, text in told.items()}
    for name, value in values.items():
        if name not in known:
            raise FitError(name_error("option", name, [*known, *beside], f"nlme.{kind.__name__}"))
        if known[name] is not None and not of_kind(value, known[name]):
            raise FitError(f"{option} {name}={value}: nlme.{kind.__name__} takes a value such as {known[name]!r} there.")
    return kind(**values, **given)


def _option(text: str) -> Any:
    """A number, a pair of numbers written 400-2000, or a word."""
    if re.fullmatch(r"\d+-\d+", text):
        return tuple(int(part) for part in text.split("-"))
    return number(text)


def reads_data(command):
    """Give ``command`` the options of ``READING``; it gets them together as ``reading``."""

    @functools.wraps(command)
    def run(**arguments):
        reading = {name: arguments.pop(name) for name in READING}
        return command(**arguments, reading=reading)

    signature = inspect.signature(command, eval_str=True)
    own = [parameter for name, parameter in signature.parameters.items() if name != "reading"]
    how = {name: Annotated[str, typer.Option(help=text)] for name, text in READING.items()}
    how |= {name: Annotated[kind, ADDS] for name, kind in how.items() if name not in _ONE_VALUE}
    options = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default="", annotation=kind) for name, kind in how.items()]
    run.__signature__ = signature.replace(parameters=[*own, *options])
    return run


def arguments_of(reading: dict[str, str], declared: dict | None = None) -> dict[str, Any]:
    """Arguments of ``read_nonmem`` from the options; the covariates that a model declares need not be named again."""

    def of_each(name, value=lambda text: text):
        """One value for all covariates, or one for each."""
        text = reading[name]
        if "=" in text:
            return {key: value(part) for key, part in pairs(text, "--" + name).items()}
        return value(text) if text else None

    def endpoints(name):
        return {number(code): word for code, word in pairs(reading[name], "--" + name, need_value=False).items()} or None

    wanted = {**(declared or {}), **pairs(reading["covariates"], "--covariates", need_value=False)}
    varying = reading["time_varying"]
    compartments = number(reading["compartments"])
    skip = number(reading["skip"]) if reading["skip"] else None
    if skip is not None and not isinstance(skip, int):
        raise typer.BadParameter(f"a number of lines; got {reading['skip']!r}", param_hint="--skip")
    return dict(
        covariates=wanted or None,
        time_varying=varying if varying == "auto" else names(varying) or None,
        categories={name: words.split("|") for name, words in pairs(reading["categories"], "--categories").items()} or None,
        fill=of_each("fill", number),
        interpolation=of_each("interpolation"),
        dvid=endpoints("dvid"),
        cmt=endpoints("cmt"),
        rename=pairs(reading["rename"], "--rename") or None,
        compartments=(compartments if isinstance(compartments, int) else names(compartments)) or None,
        allow=names(reading["allow"]),
        ignore=reading["ignore"] or None,
        skip=skip,
        decimal=reading["decimal"] or ".",
        separator=reading["separator"] or None,
        encoding=reading["encoding"] or None,
    )
