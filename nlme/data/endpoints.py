"""Which endpoint each observation is of: by DVID, or by CMT where the data tell endpoints apart by compartment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nlme.data.numerals import code_of
from nlme.data.options import Options


@dataclass(frozen=True, eq=False)
class Endpoints:
    """Endpoints of n records.

    ``column`` names what told them apart; ``codes`` are its cells, ``index`` positions in ``names``, ``of_name`` the code of
    each name (None: the data have no codes).  ``unknown`` marks observations of no known endpoint, ``left_out`` those that are
    not wanted, ``open_`` observations whose compartments differ when nobody said what that means.
    """

    column: str
    codes: np.ndarray
    index: np.ndarray
    names: tuple[str, ...]
    of_name: tuple | None
    unknown: np.ndarray
    left_out: np.ndarray
    open_: np.ndarray


def endpoints_of(dvid: np.ndarray | None, compartment: np.ndarray | None, observed: np.ndarray, options: Options) -> Endpoints:
    """Endpoints by ``options.cmt`` and compartments, or by ``options.dvid`` and DVIDs; cells are codes, None where missing."""
    if options.cmt is not None:
        cells = np.full(len(observed), None, dtype=object) if compartment is None else compartment
        return _told_apart("CMT", cells, observed, _wanted(options.cmt))
    if dvid is not None:
        return _told_apart("DVID", dvid, observed, _wanted(options.dvid))
    nothing = np.zeros(len(observed), dtype=bool)
    wanted = _wanted(options.dvid) or {}
    names = tuple(dict.fromkeys(v for v in wanted.values() if v is not None)) or tuple(options.endpoints or ("DV",))
    several = len(names) > 1 and options.dvid is not None
    differ = compartment is not None and options.endpoints is None and len(set(compartment[observed]) - {0}) > 1
    codes = np.full(len(observed), None, dtype=object)
    unknown, open_ = (observed if several else nothing), (observed if differ and not several else nothing)
    return Endpoints("DVID", codes, np.zeros(len(observed)), names, None, unknown, nothing, open_)


def _wanted(names: Mapping[Any, str | None] | None) -> dict[Any, str | None] | None:
    return None if names is None else {code_of(code): name for code, name in names.items()}


def _told_apart(column: str, codes: np.ndarray, observed: np.ndarray, wanted: dict[Any, str | None] | None) -> Endpoints:
    missing = np.array([c is None for c in codes], dtype=bool)
    if wanted is None:
        wanted = _named_by_code(dict.fromkeys(codes[observed & ~missing]))
    names = tuple(dict.fromkeys(v for v in wanted.values() if v is not None))
    position = {c: (names.index(v) if v is not None else -1) for c, v in wanted.items()}
    known = np.array([c in position for c in codes], dtype=bool)
    index = np.array([position.get(c, -1) for c in codes], dtype=float)
    of_name = {v: c for c, v in reversed(list(wanted.items())) if v is not None}
    left_out = observed & known & (index == -1)
    nothing = np.zeros(len(codes), dtype=bool)
    return Endpoints(column, codes, index, names, tuple(of_name[v] for v in names), observed & ~known, left_out, nothing)


def _named_by_code(seen: Mapping[Any, None]) -> dict[Any, str]:
    """Endpoints without names are called by their codes; the only one is DV, unless its code is a word."""
    codes = list(seen)
    if not all(isinstance(c, str) for c in codes):
        codes = sorted(codes, key=str) if any(isinstance(c, str) for c in codes) else sorted(codes)
    only = len(codes) <= 1 and not (codes and isinstance(codes[0], str))
    return {c: "DV" if only else str(c) for c in codes} or {1: "DV"}
