"""The rules a data set must keep, as data: each has a name, a sentence, a test on whole columns, and a remedy.

``check`` runs them all; ``read_nonmem`` refuses data that break one of level "error" and warns about the others.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nlme.data.clock import IN_WORDS
from nlme.data.columns import COLUMNS, DATES, MISSING
from nlme.data.covariates import changes_within
from nlme.data.records import Records, as_text
from nlme.data.violations import Violation, ranges
from nlme.errors import DataError, name_error

Mask = np.ndarray


@dataclass(frozen=True)
class Rule:
    """One rule about the records.

    ``test(records)`` gives the offending records of each column concerned: a dict from column to a boolean mask, or one mask
    for ``column``.  ``seen`` and ``remedy`` are texts, or functions of (records, column, offending indices).
    """

    name: str
    sentence: str
    column: str
    test: Callable[[Records], Mask | dict[str, Mask]]
    remedy: str | Callable[[Records, str, np.ndarray], str]
    seen: Callable[[Records, str, np.ndarray], str] | None = None
    level: str = "error"
    may_be_allowed: bool = False

    def broken(self, r: Records, level: str) -> list[Violation]:
        """The violations of this rule, one per column."""
        found = self.test(r)
        out = []
        for column, mask in (found if isinstance(found, dict) else {self.column: found}).items():
            at = np.flatnonzero(mask)
            if not len(at):
                continue
            seen = (self.seen or _cell)(r, column, at)
            remedy = self.remedy(r, column, at) if callable(self.remedy) else self.remedy
            if self.may_be_allowed and level == "error":
                remedy += f" If it is meant: allow=[{self.name!r}]."
            subjects = tuple(dict.fromkeys(r.id[at]))
            sentence = self.sentence.format(column=column)
            out.append(Violation(self.name, sentence, tuple(int(x) for x in r.row[at]), subjects, column, seen, remedy, level))
        return out


def _cell(r: Records, column: str, at: np.ndarray) -> str:
    return f"row {r.row[at[0]]}: {column} = {_shown(r.text(column, at[0]))}"


def _shown(text: str) -> str:
    return "(blank)" if text == "" else text


def _cells(*columns: str) -> Callable[[Records, str, np.ndarray], str]:
    """``seen`` that shows several columns of the first offending record."""

    def seen(r: Records, column: str, at: np.ndarray) -> str:
        here = [c for c in columns if r.has(c)] or [column]
        return f"row {r.row[at[0]]}: " + ", ".join(f"{c} = {_shown(r.text(c, at[0]))}" for c in here)

    return seen


# -- cells that are no numbers -------------------------------------------------------------------------------------


def _bad_numbers(r: Records) -> dict[str, Mask]:
    return {c: m for c, m in r.bad.items() if c not in ("ID", "CMT", *DATES) and c not in r.options.categories}


def _number_remedy(r: Records, column: str, at: np.ndarray) -> str:
    text = r.text(column, at[0])
    if re.fullmatch(r"[-+]?\d+,\d+", text):
        return f"write a decimal point ({text.replace(',', '.')}), or read with decimal=','."
    if re.match(r"[<>]", text):
        if column == "DV":
            limit = "1" if text[0] == "<" else "-1"
            return f"write the limit of quantification in DV ({text[1:].strip()}) and {limit} in a column CENS, or set MDV = 1."
        return f"write a plain number; or declare the words: categories={{{column!r}: {_words(r, column)}}}."
    if column in r.covariates:
        return f"write numbers, or declare the words: categories={{{column!r}: {_words(r, column)}}}."
    if column == "TIME":
        return "write numbers (24.5) or clock times hh:mm (08:30), with a column DATE when they pass midnight."
    if COLUMNS[column].whole:
        return f"{column} is a whole number: {COLUMNS[column].meaning}."
    number = re.match(r"[-+]?\d*\.?\d+", text)
    if number:
        return f"write the number alone ({number.group()}), without unit or sign; '.' or blank when it is missing."
    return "write a number; '.' or blank when it is missing."


def _words(r: Records, column: str) -> str:
    text, missing = as_text(r.cells.iloc[:, r.header.covariates[column]])
    words = sorted(text[~missing].unique())
    return "[" + ", ".join(repr(w) for w in words[:6]) + (", ...]" if len(words) > 6 else "]")


def _unknown_category(r: Records) -> dict[str, Mask]:
    return {c: m for c, m in r.bad.items() if c in r.options.categories and c in r.covariates}


# -- identity and time ---------------------------------------------------------------------------------------------


def _comes_back(r: Records) -> Mask:
    starts = r.id[r.first]
    seen: set = set()
    again = np.zeros(len(starts), dtype=bool)
    for i, identity in enumerate(starts):
        again[i] = identity in seen and identity != ""
        seen.add(identity)
    return again[r.group] if len(r) else np.zeros(0, dtype=bool)


def _comes_back_seen(r: Records, column: str, at: np.ndarray) -> str:
    earlier = np.flatnonzero(r.id[: at[0]] == r.id[at[0]])[-1]
    between = r.id[at[0] - 1]
    return f"ID {r.id[at[0]]} ends in row {r.row[earlier]}, ID {between} follows, and ID {r.id[at[0]]} is back in row {r.row[at[0]]}"


def _unsorted(r: Records) -> Mask:
    mask = np.zeros(len(r), dtype=bool)
    reset = (r.evid == 3) | (r.evid == 4)
    mask[1:] = (r.time[1:] < r.time[:-1]) & ~r.first[1:] & ~reset[1:]
    return mask


def _unsorted_seen(r: Records, column: str, at: np.ndarray) -> str:
    i = at[0]
    return f"row {r.row[i]}: TIME = {r.text('TIME', i)} after {r.text('TIME', i - 1)} in row {r.row[i - 1]}"


def _unsorted_remedy(r: Records, column: str, at: np.ndarray) -> str:
    text = r.text("TIME", at[0])
    if ":" in text and not any(r.has(d) for d in DATES):
        return "clock times that pass midnight need a column DATE; otherwise sort the file by ID and TIME."
    return "sort the file by ID and TIME (dose before observation at equal times), or correct the time."


def _blank_cells(r: Records, column: str) -> Mask:
    return as_text(r.cells.iloc[:, r.header.nonmem[column]])[1]


# -- doses ---------------------------------------------------------------------------------------------------------


def _endless(r: Records) -> Mask:
    """Steady state of a constant infusion: AMT = 0, RATE > 0, SS."""
    return (r.amt == 0) & (r.rate > 0) & (r.ss > 0)


def _no_amount(r: Records) -> Mask:
    return r.is_dose & (r.amt <= 0) & ~_endless(r) & ~r.is_bad("AMT")


def _amount_elsewhere(r: Records) -> Mask:
    return ~r.is_dose & (r.amt != 0) & ~r.is_bad("EVID") & np.isin(r.evid, (0, 2, 3))


def _amount_remedy(r: Records, column: str, at: np.ndarray) -> str:
    if r.has("EVID"):
        return "EVID = 1 if the row is a dose; AMT = 0 (or '.') if it is not. A dose and an observation need a row each."
    return "a dose and an observation at the same time need a row each."


def _dv_on_dose_row(r: Records) -> Mask:
    """Without EVID: a row that has an amount and an observed value would be read as a dose and lose its value."""
    if r.has("EVID") or r.has("MDV"):
        return np.zeros(len(r), dtype=bool)
    text, missing = as_text(r.cells.iloc[:, r.header.nonmem["DV"]])
    return r.is_dose & ~missing & ~text.isin(["0", "0.0", "0.00"]).to_numpy(dtype=bool)


def _rate_value(r: Records) -> Mask:
    return (r.rate < 0) & (r.rate != -1) & (r.rate != -2)


# -- observations --------------------------------------------------------------------------------------------------


def _no_value(r: Records) -> Mask:
    return r.is_observation & np.isnan(r.dv) & ~r.is_bad("DV")


def _no_value_remedy(r: Records, column: str, at: np.ndarray) -> str:
    if np.any(r.cens[at] != 0):
        return "a censored value has its limit of quantification in DV."
    return "write the value, or MDV = 1 (or EVID = 2) for a row without one. NONMEM would read a blank as 0."


def _same_record(r: Records) -> Mask:
    return _equal_to_earlier(r, ("evid", "amt", "rate", "duration", "ii", "ss", "cmt", "dv", "endpoint", "mdv"), r.evid != 2)


def _same_time(r: Records) -> Mask:
    mask = _equal_to_earlier(r, ("endpoint", "cmt"), r.is_observation)
    return mask & ~_same_record(r)


def _equal_to_earlier(r: Records, names: Sequence[str], among: Mask) -> Mask:
    """Records of one subject that agree with an earlier one in time, compartment name and the named columns."""
    keys = np.column_stack([r.group, r.time, *(np.nan_to_num(r.arrays[n], nan=-9e99) for n in names)])
    if any(c is not None for c in r.cmt_name):
        keys = np.column_stack([keys, np.unique(r.cmt_name.astype(str), return_inverse=True)[1]])
    at = np.flatnonzero(among & np.isfinite(r.time))
    keys = keys[at] + 0.0
    order = np.lexsort((at, *keys.T[::-1]))
    equal = np.all(keys[order][1:] == keys[order][:-1], axis=1)
    mask = np.zeros(len(r), dtype=bool)
    mask[at[order[1:][equal]]] = True
    return mask


def _same_seen(r: Records, column: str, at: np.ndarray) -> str:
    i = at[0]
    same = np.flatnonzero((r.group == r.group[i]) & (r.time == r.time[i]) & (r.evid == r.evid[i]))
    other = [j for j in same if j < i and r.endpoint[j] == r.endpoint[i]]
    what = "DV" if r.is_observation[i] else "AMT"
    return f"rows {r.row[other[-1]]} and {r.row[i]}: TIME = {r.text('TIME', i)}, {what} = {r.text(what, other[-1])} and {r.text(what, i)}"


def _unknown_dvid_remedy(r: Records, column: str, at: np.ndarray) -> str:
    wanted = r.options.dvid or {}
    if not r.has("DVID"):
        return "add a column DVID, or name one endpoint only: dvid={1: 'conc'}."
    text = r.text("DVID", at[0]) or "..."
    known = ", ".join(f"{k!r}: {v!r}" for k, v in wanted.items())
    key = text if text.lstrip("-").isdigit() else repr(text)
    return f"name it: dvid={{{known}{', ' if known else ''}{key}: 'name'}}; with None for 'name' these rows are left out."


def _no_observation(r: Records) -> Mask:
    """The last record of every subject that has no observation, when others have one."""
    mask = np.zeros(len(r), dtype=bool)
    if r.is_observation.any():
        count = np.bincount(r.group, weights=r.is_observation)
        last = np.append(np.flatnonzero(r.first)[1:] - 1, len(r) - 1)
        mask[last[count == 0]] = True
    return mask


# -- compartments and covariates -----------------------------------------------------------------------------------


def _unknown_compartment(r: Records) -> Mask:
    known = r.options.compartments
    mask = r.is_bad("CMT").copy()
    if known is None:
        return mask
    count = known if isinstance(known, int) else len(known)
    mask |= r.cmt > count
    named = np.array([c is not None for c in r.cmt_name], dtype=bool)
    if named.any() and not isinstance(known, int):
        mask |= named & ~np.isin(r.cmt_name.astype(str), list(known))
    return mask


def _compartment_remedy(r: Records, column: str, at: np.ndarray) -> str:
    known = r.options.compartments
    if known is None:
        return "CMT is a whole number from 1 on, or a name; '.', blank or 0 for the default compartment."
    if isinstance(known, int):
        return f"the compartments are 1 to {known}."
    name = r.cmt_name[at[0]]
    if name is not None:
        return name_error("compartment", str(name), known)
    return "the compartments are " + ", ".join(f"{i} ({c})" for i, c in enumerate(known, start=1)) + "."


def _missing_covariate(r: Records) -> dict[str, Mask]:
    return {name: np.isnan(v) & ~r.is_bad(name) for name, v in r.covariates.items()}


def _missing_covariate_remedy(r: Records, column: str, at: np.ndarray) -> str:
    values = r.covariates[column]
    whole = [g for g in np.unique(r.group[at]) if np.isnan(values[r.group == g]).all()]
    if len(whole):
        known = values[~np.isnan(values)]
        middle = f"{np.median(known):.4g}" if len(known) else "70"
        return (
            f"{len(whole)} subject(s) have no {column} at all: write a value, leave them out, or fill with a number: "
            f"fill={{{column!r}: {middle}}} (the median of all records is {middle})."
        )
    if (r.first[at]).any():
        return f"write the value, or carry the next one backward: fill={{{column!r}: 'nocb'}}. NONMEM would read 0."
    return f"write the value, or carry the last one forward: fill={{{column!r}: 'locf'}}. NONMEM would read 0."


def _changing_covariate(r: Records) -> dict[str, Mask]:
    return {n: changes_within(v, r.first) for n, v in r.covariates.items() if not r.options.may_vary(n)}


def _changing_seen(r: Records, column: str, at: np.ndarray) -> str:
    i = at[0]
    start = np.flatnonzero((r.group == r.group[i]) & ~np.isnan(r.covariates[column]))[0]
    return f"subject {r.id[i]}: {column} = {r.text(column, start)} in row {r.row[start]}, {r.text(column, i)} in row {r.row[i]}"


def _dates_seen(r: Records, column: str, at: np.ndarray) -> str:
    return _cell(r, column, at)


def _bad_dates(r: Records) -> dict[str, Mask]:
    return {c: r.is_bad(c) for c in DATES if r.has(c)}


def _date_remedy(r: Records, column: str, at: np.ndarray) -> str:
    others = ", ".join(f"{d} {IN_WORDS[d]}" for d in DATES if d != column)
    return f"{column} is {IN_WORDS[column]} (or a day number); rename the column for another order: {others}."


def _comment_marks(r: Records) -> Mask:
    at = [i for i in r.header.extra if r.header.names[i].upper() == "C"]
    if not at:
        return np.zeros(len(r), dtype=bool)
    return (as_text(r.cells.iloc[:, at[0]])[0].str.upper() == "C").to_numpy(dtype=bool)


def _among(values: Sequence[float], column: str) -> Callable[[Records], Mask]:
    field = {"OCC": "occasion"}.get(column, column.lower())
    return lambda r: ~np.isin(r.arrays[field], values) & ~r.is_bad(column)


RULES: tuple[Rule, ...] = (
    Rule("text in numbers", "{column} holds something that is not a number", "", _bad_numbers, _number_remedy),
    Rule(
        "unknown category", "{column} holds a word that is not among its categories", "", _unknown_category,
        lambda r, c, at: f"the categories are {', '.join(map(str, r.options.categories[c]))}; correct the word, or add it to categories.",
    ),
    Rule("no ID", "a record has no ID", "ID", lambda r: r.is_bad("ID"), "every row needs the ID of its subject."),
    Rule(
        "ID comes back", "an ID comes back after another subject's rows", "ID", _comes_back,
        "sort the file by ID and TIME; NONMEM would silently take these rows for a new subject.", _comes_back_seen,
    ),
    Rule("bad date", "{column} holds something that is not a date", "", _bad_dates, _date_remedy),
    Rule(
        "order of dates", "nothing in DATE shows whether the month or the day comes first", "DATE",
        lambda r: np.full(len(r), r.ambiguous_dates) & (np.arange(len(r)) == 0) & r.has("DATE"),
        "DATE was read as month/day/year (NONMEM's rule); for day/month/year: rename={'DATE': 'DAT1'}.", level="warning",
    ),
    Rule(
        "mixed times", "some TIME are clock times, others plain numbers", "TIME",
        lambda r: np.zeros(len(r), dtype=bool) if r.clock_mixture is None else r.clock_mixture,
        "write all of them as hh:mm, or all as numbers.",
    ),
    Rule("missing time", "a record has no TIME", "TIME", lambda r: _blank_cells(r, "TIME"), "write the time, or leave the row out."),
    Rule(
        "negative time", "TIME is negative", "TIME", lambda r: r.time < 0,
        "count time from the subject's first record: add the same number to all times of the subject.",
    ),
    Rule("unsorted time", "TIME goes back within a subject", "TIME", _unsorted, _unsorted_remedy, _unsorted_seen),
    Rule(
        "unknown EVID", "EVID is not one of 0, 1, 2, 3, 4", "EVID", _among((0, 1, 2, 3, 4), "EVID"),
        "0 observation, 1 dose, 2 other, 3 reset, 4 reset and dose; codes of other programs (101 ...) must be translated.",
    ),
    Rule("unknown MDV", "MDV is not 0 or 1", "MDV", _among((0, 1), "MDV"), "0 for an observation, 1 for every other record."),
    Rule(
        "MDV on a dose", "a dose record has MDV = 0", "MDV", lambda r: r.is_dose & (r.mdv == 0) & ~r.is_bad("MDV"),
        "MDV = 1 on dose records; an observation at the same time needs a row of its own.", _cells("EVID", "AMT", "MDV"),
    ),
    Rule(
        "dose without amount", "a dose record has no positive amount", "AMT", _no_amount,
        "write the amount in AMT; EVID = 0 if the row is an observation, EVID = 2 if it is neither.", _cells("EVID", "AMT", "MDV"),
    ),
    Rule(
        "negative amount", "AMT is negative", "AMT", lambda r: (r.amt < 0) & ~r.is_dose, "an amount is positive.", _cells("EVID", "AMT"),
    ),
    Rule(
        "amount on an observation", "an amount stands on a record that is not a dose", "AMT", _amount_elsewhere, _amount_remedy,
        _cells("EVID", "AMT", "DV"),
    ),
    Rule(
        "dose and value in one row", "a row has an amount and an observed value", "DV", _dv_on_dose_row,
        "the row is a dose, so its DV would be lost: a dose and an observation need a row each (DV = '.' on the dose).",
        _cells("AMT", "DV"),
    ),
    Rule(
        "RATE and DUR", "RATE and DUR are both given", "RATE", lambda r: (r.rate != 0) & (r.duration != 0),
        "keep one: RATE in amount per time, or DUR in time; 0 or '.' in the other.", _cells("AMT", "RATE", "DUR"),
    ),
    Rule("unknown RATE", "RATE is negative, but not -1 or -2", "RATE", _rate_value, "a positive rate, 0 for a bolus, -1 or -2 when the model has it."),
    Rule("negative DUR", "DUR is negative", "DUR", lambda r: r.duration < 0, "the duration of an infusion, 0 for a bolus."),
    Rule(
        "rate without dose", "RATE or DUR stands on a record that is not a dose", "RATE",
        lambda r: ~r.is_dose & ((r.rate != 0) | (r.duration != 0)) & (r.evid != 3),
        "it is not used there: an infusion starts at a dose record (EVID = 1, AMT) and stops by itself.",
        _cells("EVID", "AMT", "RATE", "DUR"), level="warning",
    ),
    Rule("unknown SS", "SS is not 0, 1 or 2", "SS", _among((0, 1, 2), "SS"), "1: steady state, 2: steady state added to what is there, 0: no."),
    Rule("negative II", "II is negative", "II", lambda r: r.ii < 0, "the dosing interval is positive."),
    Rule("negative ADDL", "ADDL is negative", "ADDL", lambda r: r.addl < 0, "the number of additional doses, 0 for none."),
    Rule(
        "II without ADDL or SS", "II is given, but neither ADDL nor SS", "II",
        lambda r: (r.ii > 0) & (r.addl == 0) & (r.ss == 0) & ~r.is_bad("ADDL") & ~r.is_bad("SS"),
        "ADDL = number of additional doses, or SS = 1 for steady state; II alone repeats nothing: otherwise II = 0.", _cells("II", "ADDL", "SS"),
    ),
    Rule(
        "ADDL without II", "ADDL is given, but no dosing interval II", "ADDL", lambda r: (r.addl > 0) & (r.ii <= 0) & ~r.is_bad("II"),
        "write the interval between the doses in II.", _cells("ADDL", "II"),
    ),
    Rule(
        "SS without II", "SS is given, but no dosing interval II", "SS",
        lambda r: (r.ss > 0) & (r.ii <= 0) & ~_endless(r) & ~r.is_bad("II"),
        "write the interval of the steady state in II (only a constant infusion, AMT = 0 and RATE > 0, has none).", _cells("SS", "II", "AMT", "RATE"),
    ),
    Rule("unknown CMT", "CMT names no compartment", "CMT", _unknown_compartment, _compartment_remedy),
    Rule("missing DV", "an observation has no DV", "DV", _no_value, _no_value_remedy, _cells("TIME", "EVID", "MDV", "DV")),
    Rule("unknown DVID", "DVID names no endpoint", "DVID", lambda r: r.unknown_dvid, _unknown_dvid_remedy),
    Rule("unknown CENS", "CENS is not 0, 1 or -1", "CENS", _among((-1, 0, 1), "CENS"), "1: DV is an upper limit (below quantification), -1: a lower one, 0: observed."),
    Rule(
        "LIMIT", "LIMIT is on the wrong side of DV", "LIMIT",
        lambda r: r.is_observation & (((r.cens == 1) & (r.limit >= r.dv)) | ((r.cens == -1) & (r.limit <= r.dv))),
        "with CENS = 1 the value lies between LIMIT and DV, so LIMIT is the smaller; with CENS = -1 the larger.", _cells("CENS", "LIMIT", "DV"),
    ),
    Rule(
        "missing covariate", "covariate {column} is missing", "", _missing_covariate, _missing_covariate_remedy,
    ),
    Rule(
        "changing covariate", "covariate {column} changes within a subject", "", _changing_covariate,
        lambda r, c, at: f"if it varies in time: time_varying=[{c!r}]; otherwise give each subject one value.", _changing_seen,
    ),
    Rule("duplicated record", "a record is there twice", "TIME", _same_record, "delete one of the two.", _same_seen, may_be_allowed=True),
    Rule(
        "two values at one time", "two observations at the same time of the same endpoint", "DV", _same_time,
        "fine for replicates; otherwise correct the time, or tell the endpoints apart by DVID.", _same_seen, level="warning",
    ),
    Rule(
        "no observation", "a subject has no observation", "DV", _no_observation, "it says nothing about the parameters; leave it out if it should not count.",
        lambda r, c, at: f"subject {r.id[at[0]]} has {int((r.group == r.group[at[0]]).sum())} records, none with EVID = 0 and MDV = 0", level="warning",
    ),
    Rule(
        "comment marks", "a column C marks rows, which are read all the same", "C", _comment_marks,
        "leave them out as NONMEM's IGNORE=C does: ignore='C'.", lambda r, c, at: f"C in rows {ranges(r.row[at])}", level="warning",
    ),
)  # fmt: skip
RULE_NAMES = tuple(rule.name for rule in RULES)


def allowed_rules(allow: Sequence[str] | str) -> tuple[str, ...]:
    """Names of rules whose violations shall only warn.

    Raises
    ------
    DataError
        A name that is no rule, or a rule that data cannot be read without.
    """
    names = (allow,) if isinstance(allow, str) else tuple(allow)
    may = [rule.name for rule in RULES if rule.may_be_allowed]
    for name in names:
        if name not in may:
            raise DataError(f"allow={name!r}: these rules can be allowed: {', '.join(may)}.")
    return names


def run_rules(r: Records, allow: Sequence[str] = ()) -> list[Violation]:
    """All violations in the records, errors first."""
    found: list[Violation] = []
    for rule in RULES:
        found += rule.broken(r, "warning" if rule.name in allow else rule.level)
    if not r.is_observation.any():
        found.insert(0, Violation(
            "no observations at all", "no record is an observation", (), (), "DV", _no_observations_seen(r),
            "an observation has EVID = 0 and MDV = 0 (without these columns: no amount) and a value in DV.",
        ))  # fmt: skip
    return sorted(found, key=lambda v: v.level != "error")


def _no_observations_seen(r: Records) -> str:
    def counts(name: str, values: np.ndarray) -> str:
        kinds, n = np.unique(values, return_counts=True)
        return ", ".join(f"{name} = {k:g} in {c:,} rows" for k, c in zip(kinds, n, strict=True))

    return "; ".join([counts("EVID", r.evid), counts("MDV", r.mdv)])


def header_violations(header: Any) -> list[Violation]:
    """Violations in the names of the columns."""
    out = []
    for column, seen, remedy in header.faults:
        sentence = f"there is no column {column}" if "the file has" in seen else f"column {column} is not clear"
        out.append(Violation("columns", sentence, (), (), column, seen, remedy))
    for column, seen, remedy in header.doubts:
        out.append(Violation("unread column", f"there is no column {column}", (), (), column, seen, remedy, "warning"))
    return out


def missing_words() -> str:
    """The words that mean a missing value, for documentation."""
    return ", ".join(repr(w) for w in MISSING)
