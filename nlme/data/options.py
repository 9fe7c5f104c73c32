"""How a data set is to be read: the arguments of ``read_nonmem``, checked, with what a population's frame knows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nlme.data.covariates import declared_covariates
from nlme.data.numerals import code_of
from nlme.errors import DataError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Reading:
    """The arguments of ``read_nonmem``; see there."""

    covariates: Mapping[str, str | None] | Iterable[str] | None = None
    time_varying: Sequence[str] | str | None = None
    categories: Mapping[str, Sequence[str]] | None = None
    fill: Mapping[str, str | float] | str | float | None = None
    interpolation: Mapping[str, str] | str | None = None
    dvid: Mapping[Any, str | None] | None = None
    cmt: Mapping[Any, str | None] | None = None
    rename: Mapping[str, str] | None = None
    compartments: Sequence[str] | int | None = None
    allow: Sequence[str] | str = ()
    ignore: str | None = None
    skip: int | None = None
    decimal: str = "."
    separator: str | None = None
    encoding: str | None = None


@dataclass(frozen=True)
class Options:
    """The same, completed; ``covariates`` are name -> unit.

    ``endpoints``, ``columns`` (covariate -> column) and ``text`` (columns whose cells are words, whatever they look like) are
    known of a frame that came from a population.
    """

    covariates: Mapping[str, str | None] = field(default_factory=dict)
    time_varying: Sequence[str] | str = ()
    categories: Mapping[str, Sequence[str]] = field(default_factory=dict)
    fill: Mapping[str, str | float] | str | float | None = None
    interpolation: Mapping[str, str] | str | None = None
    dvid: Mapping[Any, str | None] | None = None
    cmt: Mapping[Any, str | None] | None = None
    endpoints: Sequence[str] | None = None
    rename: Mapping[str, str] = field(default_factory=dict)
    compartments: Sequence[str] | int | None = None
    allow: tuple[str, ...] = ()
    decimal: str = "."
    columns: Mapping[str, str] = field(default_factory=dict)
    text: Sequence[str] = ()

    def fill_of(self, name: str) -> str | float | None:
        return self.fill.get(name) if isinstance(self.fill, Mapping) else self.fill

    def is_text(self, column: str, cells: pd.Series) -> bool:
        """Whether the cells of a column are words, whatever they look like."""
        return column in self.text and cells.dtype.kind not in "biuf"

    def may_vary(self, name: str) -> bool:
        return self.time_varying == "auto" or name in self.time_varying


def options_of(columns: Iterable[str], reading: Reading, known: Mapping[str, Any]) -> Options:
    """The options of a reading; ``known`` is what a frame made by ``Population.to_frame`` brings for arguments not given.

    Raises
    ------
    DataError
        Arguments that contradict each other or the covariates asked for.
    """
    wanted = declared_covariates(reading.covariates)
    own = dict(known.get("columns", {}))
    if reading.covariates is None and known:
        here = {str(c).upper() for c in columns}
        wanted = {n: unit for n, unit in known["covariates"].items() if own.get(n, n).upper() in here}
    varying = known.get("time_varying", ()) if reading.time_varying is None else reading.time_varying
    varying = (varying,) if isinstance(varying, str) and varying != "auto" else varying
    words = known.get("categories", {}) if reading.categories is None else _categories(reading.categories)
    if reading.dvid is not None and reading.cmt is not None:
        raise DataError("dvid= and cmt= both say what tells the endpoints apart; give one of them.")
    compartments = reading.compartments
    if not (compartments is None or isinstance(compartments, (int, Sequence)) and not isinstance(compartments, (str, bool))):
        raise DataError(f"compartments={compartments!r}: they are names, ['depot', 'central'], or how many there are.")
    if reading.decimal not in (".", ","):
        raise DataError(f"decimal={reading.decimal!r}: the decimal mark is '.' or ','.")
    _among(wanted, "time_varying", () if reading.time_varying is None or varying == "auto" else varying)
    _among(wanted, "categories", () if reading.categories is None else words)
    _among(wanted, "fill", reading.fill if isinstance(reading.fill, Mapping) else ())
    by_known = reading.dvid is None and reading.cmt is None
    return Options(
        covariates=wanted,
        time_varying=varying,
        categories={n: w for n, w in words.items() if n in wanted},
        fill=reading.fill,
        interpolation=_interpolation(known, wanted) if reading.interpolation is None else reading.interpolation,
        dvid=known.get("dvid") if by_known else _names("dvid", reading.dvid),
        cmt=_names("cmt", reading.cmt),
        endpoints=known.get("endpoints") if by_known else None,
        rename={str(k): str(v) for k, v in mapping("rename", reading.rename).items()},
        compartments=compartments,
        allow=(*allowed(reading.allow), *known.get("allow", ())),
        decimal=reading.decimal,
        columns={n: own[n] for n in wanted if n in own and own[n] in set(columns)},
        text=tuple(known.get("text", ())),
    )


def allowed(allow: Sequence[str] | str) -> tuple[str, ...]:
    """The names of rules that shall only warn."""
    if not isinstance(allow, Iterable):
        raise DataError(f"allow={allow!r}: it is the name of a rule, or several.")
    return (allow,) if isinstance(allow, str) else tuple(allow)


def mapping(argument: str, value: Any) -> Mapping:
    """An argument that is a dict.

    Raises
    ------
    DataError
        Anything else.
    """
    if value is not None and not isinstance(value, Mapping):
        raise DataError(f"{argument}={value!r}: it is a dict, such as {_EXAMPLES[argument]}.")
    return value or {}


_EXAMPLES = {
    "rename": "{'CONC': 'DV'}",
    "dvid": "{1: 'conc', 2: 'effect'}",
    "cmt": "{2: 'conc', 3: 'effect'}",
    "categories": "{'sex': ['male', 'female']}",
}


def _interpolation(known: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, str] | None:
    return {n: how for n, how in known.get("interpolation", {}).items() if n in wanted} or None


def _names(argument: str, value: Any) -> dict[Any, str | None] | None:
    if value is None:
        return None
    codes = {}
    for code, name in mapping(argument, value).items():
        if name is not None and not (isinstance(name, str) and name):
            raise DataError(
                f"{argument}={{{code!r}: {name!r}}}: the name of an endpoint is a word; None leaves its observations out."
            )
        if codes.setdefault(code_of(code), name) != name:
            raise DataError(f"{argument}: {code!r} has two names, {codes[code_of(code)]!r} and {name!r}.")
    return codes


def _categories(value: Any) -> dict[str, list[str]]:
    out = {}
    for name, words in mapping("categories", value).items():
        if isinstance(words, str) or not isinstance(words, Iterable):
            raise DataError(f"categories of {name!r} are {words!r}; they are a list of words, such as ['male', 'female'].")
        out[name] = list(words)
        codes = [code_of(w) for w in out[name]]
        if len(set(codes)) < len(codes):
            raise DataError(f"categories of {name!r}: a word is there twice: {', '.join(map(str, out[name]))}.")
    return out


def _among(wanted: Mapping[str, Any], argument: str, names: Iterable[str]) -> None:
    for name in names:
        if name not in wanted:
            all_names = ", ".join(repr(n) for n in (*wanted, name))
            raise DataError(
                f"{argument} names {name!r}, which is not among the covariates; add it there: covariates=[{all_names}]."
            )
