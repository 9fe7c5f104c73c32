"""What to tell about an offending record: what was seen, and the remedy where it depends on what was seen.

Each function takes the records, the column concerned and the indices of the offending records.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from nlme.data.clock import IN_WORDS
from nlme.data.columns import COLUMNS, DATES
from nlme.data.numerals import LARGEST, as_text
from nlme.data.records import Records
from nlme.errors import name_error

Message = Callable[[Records, str, np.ndarray], str]


def shown(text: str) -> str:
    """A cell as messages show it."""
    return "(blank)" if text == "" else text


def cells(*columns: str) -> Message:
    """Shows several columns of the first offending record."""

    def seen(r: Records, column: str, at: np.ndarray) -> str:
        here = [c for c in columns if r.has(c)] or [column]
        return f"row {r.row[at[0]]}: " + ", ".join(f"{c} = {shown(r.text(c, at[0]))}" for c in here)

    return seen


def cell(r: Records, column: str, at: np.ndarray) -> str:
    """Shows the first offending cell."""
    return f"row {r.row[at[0]]}: {column} = {shown(r.text(column, at[0]))}"


# -- cells ---------------------------------------------------------------------------------------------------------


def number(r: Records, column: str, at: np.ndarray) -> str:
    """The remedy for a cell that is no number, by what it looks like."""
    text = r.text(column, at[0])
    if r.options.decimal != "." and "." in text:
        mark = r.options.decimal
        return f"with decimal={mark!r} a point is no part of a number ({text} may be one or a thousand): write one mark only."
    if re.fullmatch(r"[-+]?\d{1,3}(,\d{3})+", text):
        return f"is this {text.replace(',', '')} or {text.replace(',', '.', 1)}? Write numbers without marks for thousands."
    if re.fullmatch(r"[-+]?\d+,\d+", text):
        return f"write a decimal point ({text.replace(',', '.')}), or read with decimal=','."
    if column in r.covariates:
        return f"write numbers, or declare the words: categories={{{column!r}: {words(r, column)}}}."
    if column == "DV" and re.match(r"[<>]", text):
        limit = "1" if text[0] == "<" else "-1"
        return f"write the limit of quantification in DV ({text[1:].strip()}) and {limit} in a column CENS, or set MDV = 1."
    if column == "TIME" and re.match(r"\d{4}-\d{2}-\d{2}", text):
        return "a date and time is written 2024-03-01 08:30, with a zone (2024-03-01T08:30Z) in all rows or in none."
    if column == "TIME":
        return "write numbers (24.5) or clock times hh:mm (08:30), with a column DATE when they pass midnight."
    if COLUMNS[column].whole:
        return f"{column} is a whole number: {COLUMNS[column].meaning}."
    start = re.match(r"[-+]?\d*\.?\d+", text)
    if start:
        return f"write the number alone ({start.group()}), without unit or sign; '.' or blank when it is missing."
    return "write a number; '.' or blank when it is missing."


def digits(r: Records, column: str, at: np.ndarray) -> str:
    """The remedy for a whole number that would be rounded or does not fit."""
    if column in r.covariates:
        return (
            "a covariate is a number of 15 digits; a code is kept as it stands in a column that is not among the covariates, or "
            "give its words by categories."
        )
    if isinstance(r.series(column).iloc[at[0]], (float, np.floating)):
        return (
            "floating-point numbers of this size are rounded, so that two may be one: read the column as text "
            f"(pandas.read_csv(..., dtype={{{column!r}: str}})), or give read_nonmem the path of the file."
        )
    return f"{column} is a whole number of at most {LARGEST:,}."


def missing_value(r: Records, column: str, at: np.ndarray) -> str:
    if np.isin(r.mdv[at], (100, 101)).any():
        return (
            "NONMEM leaves these records out of the estimation and predicts them in tables: leave them out, or write MDV = 1 "
            "(EVID = 2) to have them predicted."
        )
    return "0 for an observation, 1 for every other record."


def steady(r: Records, column: str, at: np.ndarray) -> str:
    if np.any(r.ss[at] == 3):
        return (
            "SS = 3 is SS = 1 with another beginning of NONMEM's search for the steady state, which is not needed here: write 1."
        )
    return "1: steady state, 2: steady state added to what is there, 0: no."


def additional(r: Records, column: str, at: np.ndarray) -> str:
    return "the number of additional doses, 0 for none; for a steady state, which NONMEM finds by a negative one, SS = 1 with II."


def words(r: Records, column: str) -> str:
    """The words of a covariate column, as Python writes a list."""
    text, missing = as_text(r.series(column))
    found = sorted(text[~missing].unique())
    return "[" + ", ".join(repr(w) for w in found[:6]) + (", ...]" if len(found) > 6 else "]")


def category(r: Records, column: str, at: np.ndarray) -> str:
    known = list(map(str, r.options.categories[column]))
    numbered = ", ".join(f"{i} ({c})" for i, c in enumerate(known))
    if r.text(column, at[0]).isdigit():
        return f"the categories are {', '.join(known)}: write the words, or in all rows their numbers {numbered}."
    return f"the categories are {', '.join(known)}; correct the word, or add it to categories."


def numbered(r: Records, column: str, at: np.ndarray) -> str:
    """What the numbers of a categorical column were taken for."""
    known = ", ".join(f"{i} {c}" for i, c in enumerate(map(str, r.options.categories[column])))
    return f"they were read as {known}; if the file counts from 1, write the words, or change the order of the categories."


def date(r: Records, column: str, at: np.ndarray) -> str:
    others = ", ".join(f"{d} {IN_WORDS[d]}" for d in DATES if d != column)
    return f"{column} is {IN_WORDS[column]} (or a day number); rename the column for another order: {others}."


# -- order ---------------------------------------------------------------------------------------------------------


def comes_back(r: Records, column: str, at: np.ndarray) -> str:
    i = at[0]
    earlier = np.flatnonzero(r.id[:i] == r.id[i])[-1]
    return f"ID {r.id[i]} ends in row {r.row[earlier]}, ID {r.id[i - 1]} follows, ID {r.id[i]} is back in row {r.row[i]}"


def alike(r: Records, column: str, at: np.ndarray) -> str:
    return "IDs " + ", ".join(map(repr, list(dict.fromkeys(r.id[at]))[:6]))


def goes_back(r: Records, column: str, at: np.ndarray) -> str:
    i = at[0]
    return f"row {r.row[i]}: TIME = {r.text('TIME', i)} after {r.text('TIME', i - 1)} in row {r.row[i - 1]}"


def sort_times(r: Records, column: str, at: np.ndarray) -> str:
    if ":" in r.text("TIME", at[0]) and not any(r.has(d) for d in DATES):
        return "clock times that pass midnight need a column DATE; otherwise sort the file by ID and TIME."
    return "sort the file by ID and TIME (dose before observation at equal times), or correct the time."


def twice(r: Records, column: str, at: np.ndarray) -> str:
    i = at[0]
    same = np.flatnonzero((r.group == r.group[i]) & (r.time == r.time[i]) & (r.evid == r.evid[i]) & (r.endpoint == r.endpoint[i]))
    other = same[same < i][-1]
    what = "DV" if r.is_observation[i] else "AMT"
    values = f"{what} = {shown(r.text(what, other))} and {shown(r.text(what, i))}"
    return f"rows {r.row[other]} and {r.row[i]}: TIME = {r.text('TIME', i)}, {values}"


# -- doses, observations, endpoints --------------------------------------------------------------------------------


def amount(r: Records, column: str, at: np.ndarray) -> str:
    if r.has("EVID"):
        return "EVID = 1 if the row is a dose; AMT = 0 (or '.') if it is not. A dose and an observation need a row each."
    return "a dose and an observation at the same time need a row each."


def no_amount(r: Records, column: str, at: np.ndarray) -> str:
    if np.any((r.ss[at] > 0) & (r.rate[at] < 0)):
        return (
            "the steady state of a constant infusion (AMT = 0, SS) needs its RATE in the data; one of which the model has the "
            "rate (RATE = -1) is written with the AMT of each and II."
        )
    return "write the amount in AMT; EVID = 0 if the row is an observation, EVID = 2 if it is neither."


def value(r: Records, column: str, at: np.ndarray) -> str:
    if np.any(r.cens[at] != 0):
        return "a censored value has its limit of quantification in DV."
    return "write the value, or MDV = 1 (or EVID = 2) for a row without one. NONMEM would read a blank as 0."


def endpoint(r: Records, column: str, at: np.ndarray) -> str:
    if not r.has(column):
        return f"add a column {column}, or name one endpoint only: dvid={{1: 'conc'}}."
    if as_text(r.series(column))[1][at[0]]:
        return f"write the {column} of every observation."
    text = r.text(column, at[0])
    key = text if text.lstrip("-").isdigit() else repr(text)
    argument = column.lower()
    known = "".join(f"{k!r}: {v!r}, " for k, v in (getattr(r.options, argument) or {}).items())
    return f"name it: {argument}={{{known}{key}: 'name'}}; with None in place of a name these rows are left out."


def _compartments_of(r: Records, at: np.ndarray) -> dict:
    found = [name if name is not None else int(number) for name, number in zip(r.cmt_name[at], r.cmt[at], strict=True)]
    return {code: found.count(code) for code in sorted(dict.fromkeys(found), key=str)}


def compartments(r: Records, column: str, at: np.ndarray) -> str:
    """The compartments in which observations are, and how many."""
    return ", ".join(f"CMT = {code} in {n:,} observation{'' if n == 1 else 's'}" for code, n in _compartments_of(r, at).items())


def by_compartment(r: Records, column: str, at: np.ndarray) -> str:
    codes = list(_compartments_of(r, at))
    named = ", ".join(f"{code!r}: 'name'" for code in codes)
    return (
        f"say which endpoint each is: cmt={{{named}}}; the same name for compartments that are one endpoint, None in place of a "
        "name leaves its observations out. Or add a column DVID."
    )


def compartment(r: Records, column: str, at: np.ndarray) -> str:
    known = r.options.compartments
    if np.any((r.cmt[at] < 0) & (r.evid[at] != 2)):
        return (
            "a negative CMT switches a compartment off, on a record of its own with EVID = 2; elsewhere it is a number from 1 on."
        )
    if known is None:
        return "CMT is a whole number from 1 on, or a name; '.', blank or 0 for the default compartment."
    if isinstance(known, int):
        return f"the compartments are 1 to {known}."
    name = r.cmt_name[at[0]]
    if name is not None:
        return name_error("compartment", str(name), known)
    return "the compartments are " + ", ".join(f"{i} ({c})" for i, c in enumerate(known, start=1)) + "."


# -- covariates ----------------------------------------------------------------------------------------------------


def missing_covariate(r: Records, column: str, at: np.ndarray) -> str:
    values = r.covariates[column]
    empty = [g for g in np.unique(r.group[at]) if np.isnan(values[r.group == g]).all()]
    if len(empty) and np.isnan(values).all():
        return f"no row of it has a value that is known: write values, declare words, or leave {column!r} out of the covariates."
    if len(empty):
        middle, which = f"{np.nanmedian(values):.4g}", "a number, such as the median"
        if column in r.options.categories:
            codes, counts = np.unique(values[~np.isnan(values)], return_counts=True)
            middle, which = repr(str(r.options.categories[column][int(codes[counts.argmax()])])), "the most frequent"
        who = "a subject has" if len(empty) == 1 else f"{len(empty)} subjects have"
        return f"{who} no {column} at all: write it, or fill with {which}: fill={{{column!r}: {middle}}}."
    if r.first[at].any():
        return f"write the value, or carry the next one backward: fill={{{column!r}: 'nocb'}}. NONMEM would read 0."
    return f"write the value, or carry the last one forward: fill={{{column!r}: 'locf'}}. NONMEM would read 0."


def changing(r: Records, column: str, at: np.ndarray) -> str:
    i = at[0]
    start = np.flatnonzero((r.group == r.group[i]) & ~np.isnan(r.covariates[column]))[0]
    before, after = r.text(column, start), r.text(column, i)
    return f"subject {r.id[i]}: {column} = {before} in row {r.row[start]}, {after} in row {r.row[i]}"


def declare_varying(r: Records, column: str, at: np.ndarray) -> str:
    return f"if it varies in time: time_varying=[{column!r}]; otherwise give each subject one value."


def unobserved(r: Records, column: str, at: np.ndarray) -> str:
    count = int((r.group == r.group[at[0]]).sum())
    return f"subject {r.id[at[0]]}: {count} record{'' if count == 1 else 's'}, none with EVID = 0 and MDV = 0"
