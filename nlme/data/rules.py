"""The rules a data set must keep, as data: each has a name, a sentence, a test on whole columns, and a remedy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from nlme.data import remedies as say
from nlme.data.columns import DATES
from nlme.data.covariates import changes_within, coded
from nlme.data.numerals import as_text, code_of
from nlme.data.records import Records
from nlme.data.violations import Violation

Mask = np.ndarray
_MISSING_CODES = (-99.0, -999.0, -9999.0, -99999.0)


@dataclass(frozen=True)
class Rule:
    """One rule about the records.

    ``test(records)`` gives a mask of the offending records of ``column``, or a dict from column to such a mask.  ``remedy`` and
    ``seen`` are texts, or functions of (records, column, offending indices).  ``level`` is "error" or "warning"; a rule that
    ``may_be_allowed`` becomes a warning on demand; one that holds ``everywhere`` looks at values alone, and not at how a table
    writes them (``nlme.data.made``).
    """

    name: str
    sentence: str
    column: str
    test: Callable[[Records], Mask | dict[str, Mask]]
    remedy: str | say.Message
    seen: say.Message = say.cell
    level: str = "error"
    may_be_allowed: bool = False
    everywhere: bool = False

    def broken(self, r: Records, allowed: bool = False) -> list[Violation]:
        """The violations of this rule, one for each column concerned."""
        level = "warning" if allowed and self.may_be_allowed else self.level
        found = self.test(r)
        out = []
        for column, mask in (found if isinstance(found, dict) else {self.column: found}).items():
            at = np.flatnonzero(mask)
            if not len(at):
                continue
            remedy = self.remedy(r, column, at) if callable(self.remedy) else self.remedy
            if self.may_be_allowed and level == "error":
                remedy += f" If it is meant: allow=[{self.name!r}]."
            out.append(
                Violation(
                    rule=self.name,
                    sentence=self.sentence.format(column=column),
                    rows=tuple(int(i) for i in r.row[at]),
                    subjects=tuple(dict.fromkeys(r.id[at])),
                    column=column,
                    seen=self.seen(r, column, at),
                    remedy=remedy,
                    level=level,
                )
            )
        return out


# -- tests: which records offend -----------------------------------------------------------------------------------


def _none(r: Records) -> Mask:
    return np.zeros(len(r), dtype=bool)


def _bad_numbers(r: Records) -> dict[str, Mask]:
    return {c: m for c, m in r.bad.items() if c not in ("ID", "CMT", *DATES) and c not in r.options.categories}


def _large_numbers(r: Records) -> dict[str, Mask]:
    return dict(r.large)


def _unknown_categories(r: Records) -> dict[str, Mask]:
    return {c: m for c, m in r.bad.items() if c in r.options.categories and c in r.covariates}


def _bad_dates(r: Records) -> dict[str, Mask]:
    return {c: r.is_bad(c) for c in DATES if r.has(c)}


def _month_or_day(r: Records) -> Mask:
    mask = _none(r)
    mask[:1] = r.ambiguous_dates and r.has("DATE")
    return mask


def _mixed_times(r: Records) -> Mask:
    return _none(r) if r.clock_mixture is None else r.clock_mixture


def _no_time(r: Records) -> Mask:
    return r.is_missing("TIME")


def _negative_time(r: Records) -> Mask:
    return _none(r) if r.elapsed else r.time < 0


def _comes_back(r: Records) -> Mask:
    seen: set = set()
    again = []
    for identity in r.id[r.first]:
        again.append(identity in seen and identity != "")
        seen.add(identity)
    return np.array(again, dtype=bool)[r.group]


def _alike(r: Records) -> Mask:
    """Records of subjects whose IDs differ in writing only: in case, in blanks, or as numbers."""
    code = {i: code_of(" ".join(i.casefold().split())) for i in dict.fromkeys(r.id) if isinstance(i, str) and i}
    twice = {c for c, n in Counter(code.values()).items() if n > 1}
    return np.array([code.get(i) in twice for i in r.id], dtype=bool)


def _time_goes_back(r: Records) -> Mask:
    reset = (r.evid == 3) | (r.evid == 4)  # after a reset the clock may start again
    mask = _none(r)
    mask[1:] = (r.time[1:] < r.time[:-1]) & ~r.first[1:] & ~reset[1:]
    return mask


def _endless(r: Records) -> Mask:
    """Steady state of a constant infusion: AMT = 0, RATE > 0, SS."""
    return (r.amt == 0) & (r.rate > 0) & (r.ss > 0)


def _no_amount(r: Records) -> Mask:
    return r.is_dose & (r.amt <= 0) & ~_endless(r) & ~r.is_bad("AMT")


def _amount_elsewhere(r: Records) -> Mask:
    return (r.amt != 0) & np.isin(r.evid, (0, 2, 3)) & ~r.is_bad("EVID")


def _dose_with_value(r: Records) -> Mask:
    """Without EVID and MDV, a row with an amount and an observed value would be a dose and lose the value."""
    if r.has("EVID") or r.has("MDV"):
        return _none(r)
    text, missing = as_text(r.series("DV"))
    return r.is_dose & ~missing & ~text.isin(["0", "0.0", "0.00"]).to_numpy(dtype=bool)


def _no_value(r: Records) -> Mask:
    return r.is_observation & np.isnan(r.dv) & ~r.is_bad("DV") & ~r.is_design


def _wrong_limit(r: Records) -> Mask:
    return r.is_observation & (((r.cens == 1) & (r.limit >= r.dv)) | ((r.cens == -1) & (r.limit <= r.dv)))


def _equal_to_earlier(r: Records, names: Sequence[str], among: Mask) -> Mask:
    """Records of one subject that agree with an earlier one since the last reset in time, compartment and the named columns."""
    epoch = np.cumsum((r.evid == 3) | (r.evid == 4))  # a clock that starts again repeats its times
    columns = [r.group, epoch, r.time, *(np.nan_to_num(r.arrays[n], nan=-9e99) for n in names)]
    if any(c is not None for c in r.cmt_name):
        columns.append(np.unique(r.cmt_name.astype(str), return_inverse=True)[1])
    at = np.flatnonzero(among & np.isfinite(r.time))
    keys = np.column_stack(columns)[at]
    order = np.lexsort((at, *keys.T[::-1]))
    equal = np.all(keys[order][1:] == keys[order][:-1], axis=1)
    mask = _none(r)
    mask[at[order[1:][equal]]] = True
    return mask


def _same_record(r: Records) -> Mask:
    columns = ("evid", "amt", "rate", "duration", "ii", "addl", "ss", "cmt", "dv", "endpoint", "mdv", "cens")
    return _equal_to_earlier(r, columns, (r.evid == 1) | r.is_observation)


def _same_time(r: Records) -> Mask:
    return _equal_to_earlier(r, ("endpoint", "cmt"), r.is_observation) & ~_same_record(r)


def _unobserved(r: Records) -> Mask:
    """The last record of every subject that has no observation, when others have one."""
    mask = _none(r)
    if r.is_observation.any():
        _, first_from_end, subject = np.unique(r.id[::-1].astype(str), return_index=True, return_inverse=True)
        count = np.bincount(subject, weights=r.is_observation[::-1])
        mask[len(r) - 1 - first_from_end[count == 0]] = True
    return mask


def _unknown_compartment(r: Records) -> Mask:
    """Without knowing the compartments, a negative number that does not switch one off (EVID = 2)."""
    known = r.options.compartments
    mask = r.bad.get("CMT", _none(r)) | ((r.cmt < 0) & (r.evid != 2))
    if known is None:
        return mask
    mask |= np.abs(r.cmt) > (known if isinstance(known, int) else len(known))
    named = np.array([c is not None for c in r.cmt_name], dtype=bool)
    return mask | (named & ~np.isin(r.cmt_name.astype(str), [] if isinstance(known, int) else list(known)))


def _blank_cells(column: str, where: Callable[[Records], Mask] | None = None) -> Callable[[Records], Mask]:
    return lambda r: r.is_blank(column) & (True if where is None else where(r))


def _blank_rate(r: Records) -> Mask:
    """Doses of which neither RATE nor DUR says anything, in columns that say something elsewhere."""
    there = [c for c in ("RATE", "DUR") if r.has(c) and c not in r.empty]
    return r.is_dose & np.all([r.is_blank(c) for c in there], axis=0) if there else _none(r)


def _empty_columns(r: Records) -> dict[str, Mask]:
    first = _none(r)
    first[:1] = True
    return {c: first for c in ("EVID", "OCC", "CENS") if c in r.empty}


def _only_covariates(r: Records) -> Mask:
    """Rows of a course that are events, or stand where a clock starts again."""
    course = r.covonly == 1
    back = np.r_[False, (r.time[1:] < r.time[:-1]) & ~r.first[1:]]
    restarts = np.isin(r.group, r.group[back])
    return course & ((r.evid != 2) | (r.cmt < 0) | restarts)


def _codes_for_missing(r: Records) -> dict[str, Mask]:
    """Values that often mean *missing*, where nothing else in the column is negative, and that nobody asked for (``fill``)."""
    found = {"DV": r.dv} | {
        n: np.where(v == r.options.fill_of(n), 0.0, v) if isinstance(r.options.fill_of(n), (int, float)) else v
        for n, v in r.covariates.items()
        if n not in r.options.categories
    }
    return {name: v < 0 for name, v in found.items() if np.isin(v[v < 0], _MISSING_CODES).all()}


def _limit_of_zero(r: Records) -> Mask:
    return r.is_observation & (r.cens == 1) & (r.dv == 0.0)


def _numbered_categories(r: Records) -> dict[str, Mask]:
    """Categories written as numbers among which 0, the first, does not occur."""
    out = {}
    for name, categories in r.options.categories.items():
        text, missing = as_text(r.series(name))
        codes = coded(np.where(missing, None, text.to_numpy(dtype=object)), categories)
        out[name] = ~missing if codes is not None and np.nanmin(codes[0]) > 0 else _none(r)
    return out


def _missing_covariates(r: Records) -> dict[str, Mask]:
    return {name: np.isnan(v) & ~r.is_bad(name) for name, v in r.covariates.items()}


def _changing_covariates(r: Records) -> dict[str, Mask]:
    return {n: changes_within(v, r.first) for n, v in r.covariates.items() if not r.options.may_vary(n)}


def _comment_marks(r: Records) -> Mask:
    at = [i for i in r.header.extra if r.header.names[i].upper() == "C"]
    if not at:
        return _none(r)
    return (as_text(r.cells.iloc[:, at[0]])[0].str.upper() == "C").to_numpy(dtype=bool)


def _not_among(*values: float, column: str) -> Callable[[Records], Mask]:
    return lambda r: ~np.isin(r.arrays[column.lower()], values) & ~r.is_bad(column)


# -- the rules -----------------------------------------------------------------------------------------------------

RULES: tuple[Rule, ...] = (
    Rule("text in numbers", "{column} holds something that is not a number", "", _bad_numbers, say.number, everywhere=True),
    Rule("too many digits", "{column} holds a number of more digits than can be kept", "", _large_numbers, say.digits),
    Rule("unknown category", "{column} holds a word that is not among its categories", "", _unknown_categories, say.category),
    Rule("no ID", "a record has no ID", "ID", lambda r: r.bad["ID"], "every row needs the ID of its subject."),
    Rule(
        "commented ID", "an ID begins with #, the mark of comments", "ID",
        lambda r: np.array([str(i)[:1] == "#" for i in r.id], dtype=bool),
        "leave the row out, or put the # before its first cell; an ID itself begins with something else.",
    ),
    Rule(
        "ID comes back", "an ID comes back after another subject's rows", "ID", _comes_back,
        "sort the file by ID and TIME; NONMEM would silently take these rows for a new subject.", say.comes_back,
    ),
    Rule(
        "IDs alike", "IDs that differ in writing only are taken for several subjects", "ID", _alike,
        "write the same ID in all rows of a subject.", say.alike, level="warning",
    ),
    Rule("bad date", "{column} holds something that is not a date", "", _bad_dates, say.date),
    Rule(
        "month or day", "nothing in DATE shows whether the month or the day comes first", "DATE", _month_or_day,
        "DATE was read as month/day/year (NONMEM's rule); for day/month/year: rename={'DATE': 'DAT1'}.", level="warning",
    ),
    Rule(
        "mixed times", "some TIME are clock times, others plain numbers", "TIME", _mixed_times,
        "write all of them as hh:mm, or all as numbers.",
    ),
    Rule("missing time", "a record has no TIME", "TIME", _no_time, "write the time, or leave the row out.", everywhere=True),
    Rule(
        "negative time", "TIME is negative", "TIME", _negative_time,
        "count time from the subject's first record: add the same number to all times of the subject.",
    ),
    Rule(
        "unsorted time", "TIME goes back within a subject", "TIME", _time_goes_back, say.sort_times, say.goes_back,
        everywhere=True,
    ),
    Rule(
        "blank EVID", "a record has no EVID", "EVID", _blank_cells("EVID"),
        "write it: 0 observation, 1 dose, 2 other, 3 reset, 4 reset and dose. NONMEM would read a blank as 0.",
        say.cells("TIME", "AMT", "DV", "EVID"),
    ),
    Rule(
        "unknown EVID", "EVID is not one of 0, 1, 2, 3, 4", "EVID", _not_among(0, 1, 2, 3, 4, column="EVID"),
        "0 observation, 1 dose, 2 other, 3 reset, 4 reset and dose; codes of other programs (101 ...) must be translated.",
        everywhere=True,
    ),
    Rule(
        "unknown MDV", "MDV is not 0 or 1", "MDV", _not_among(0, 1, column="MDV"), say.missing_value, everywhere=True,
    ),
    Rule(
        "MDV on a dose", "MDV is 0 on a record that is not an observation", "MDV",
        lambda r: (r.evid != 0) & (r.mdv == 0) & ~r.is_bad("MDV") & ~r.is_bad("EVID"),
        "MDV = 1 there; an observation at the time of a dose needs a row of its own.", say.cells("EVID", "AMT", "MDV"),
        everywhere=True,
    ),
    Rule(
        "dose without amount", "a dose record has no positive amount", "AMT", _no_amount, say.no_amount,
        say.cells("EVID", "AMT", "MDV"), everywhere=True,
    ),
    Rule(
        "amount on an observation", "an amount stands on a record that is not a dose", "AMT", _amount_elsewhere,
        say.amount, say.cells("EVID", "MDV", "AMT", "DV"), everywhere=True,
    ),
    Rule(
        "dose and value in one row", "a row has an amount and an observed value", "DV", _dose_with_value,
        "such a row is a dose and its DV would be lost: write two rows, the dose with DV = '.', then the observation.",
        say.cells("AMT", "DV"),
    ),
    Rule(
        "RATE and DUR", "RATE and DUR are both given", "RATE", lambda r: (r.rate != 0) & (r.duration != 0),
        "keep one: RATE in amount per time, or DUR in time; 0 or '.' in the other.", say.cells("AMT", "RATE", "DUR"),
        everywhere=True,
    ),
    Rule(
        "blank RATE", "a dose has neither RATE nor DUR, and other rows have", "RATE", _blank_rate,
        "write 0 for a bolus. NONMEM would read a blank as 0.", say.cells("AMT", "RATE", "DUR"),
    ),
    Rule(
        "unknown RATE", "RATE is negative, but not -1 or -2", "RATE", lambda r: (r.rate < 0) & (r.rate != -1) & (r.rate != -2),
        "a positive rate; 0 for a bolus; -1 or -2 when the model has the rate or the duration.", everywhere=True,
    ),
    Rule(
        "negative DUR", "DUR is negative", "DUR", lambda r: r.duration < 0, "the duration of an infusion, 0 for a bolus.",
        everywhere=True,
    ),
    Rule(
        "rate without dose", "RATE or DUR stands on a record that is not a dose", "RATE",
        lambda r: ~r.is_dose & ((r.rate != 0) | (r.duration != 0)),
        "it is not used there: an infusion starts at a dose record (EVID = 1, AMT) and stops by itself.",
        say.cells("EVID", "AMT", "RATE", "DUR"), level="warning",
    ),
    Rule(
        "repetition without dose", "II, ADDL or SS stands on a record that is not a dose", "II",
        lambda r: ~r.is_dose & ((r.ii != 0) | (r.addl != 0) | (r.ss != 0)),
        "it is not used there; if the row is a dose: EVID = 1 and its AMT.",
        say.cells("EVID", "AMT", "II", "ADDL", "SS"), level="warning",
    ),
    Rule(
        "unknown SS", "SS is not 0, 1 or 2", "SS", _not_among(0, 1, 2, column="SS"), say.steady, everywhere=True,
    ),
    Rule("negative II", "II is negative", "II", lambda r: r.ii < 0, "the dosing interval is positive.", everywhere=True),
    Rule("negative ADDL", "ADDL is negative", "ADDL", lambda r: r.addl < 0, say.additional, everywhere=True),
    Rule(
        "II without ADDL or SS", "II is given, but neither ADDL nor SS", "II",
        lambda r: r.is_dose & (r.ii > 0) & (r.addl == 0) & (r.ss == 0) & ~r.is_bad("ADDL") & ~r.is_bad("SS"),
        "II alone repeats nothing: ADDL = number of additional doses, or SS = 1 for steady state; otherwise II = 0.",
        say.cells("II", "ADDL", "SS"), everywhere=True,
    ),
    Rule(
        "ADDL without II", "ADDL is given, but no dosing interval II", "ADDL",
        lambda r: r.is_dose & (r.addl > 0) & (r.ii == 0) & ~r.is_bad("II"),
        "write the interval between the doses in II.", say.cells("ADDL", "II"), everywhere=True,
    ),
    Rule(
        "SS without II", "SS is given, but no dosing interval II", "SS",
        lambda r: r.is_dose & (r.ss > 0) & (r.ii == 0) & ~_endless(r) & ~r.is_bad("II"),
        "write the dosing interval in II (only a constant infusion, AMT = 0 and RATE > 0, has none).",
        say.cells("SS", "II", "AMT", "RATE"), everywhere=True,
    ),
    Rule(
        "constant infusion repeated", "a constant infusion at steady state has II or ADDL", "II",
        lambda r: r.is_dose & _endless(r) & ((r.ii > 0) | (r.addl > 0)),
        "with AMT = 0 the infusion never ends, so nothing is repeated: II = 0 and ADDL = 0; or write the AMT of each.",
        say.cells("AMT", "RATE", "SS", "II", "ADDL"), everywhere=True,
    ),
    Rule("unknown CMT", "CMT names no compartment", "CMT", _unknown_compartment, say.compartment, everywhere=True),
    Rule(
        "missing DV", "an observation has no DV", "DV", _no_value, say.value, say.cells("TIME", "EVID", "MDV", "DV", "CENS"),
        everywhere=True,
    ),
    Rule(
        "unknown DVID", "{column} names no endpoint", "", lambda r: {r.endpoints.column: r.endpoints.unknown}, say.endpoint,
    ),
    Rule(
        "endpoints by CMT", "observations are of several compartments, and nothing says whether they are one endpoint", "CMT",
        lambda r: r.endpoints.open_, say.by_compartment, say.compartments,
    ),
    Rule(
        "blank CENS", "an observation has no CENS", "CENS", _blank_cells("CENS", lambda r: r.is_observation),
        "write 0 for an observed value, 1 below DV, -1 above DV.", say.cells("TIME", "DV", "CENS"),
    ),
    Rule(
        "unknown CENS", "CENS is not 0, 1 or -1", "CENS", _not_among(-1, 0, 1, column="CENS"),
        "0: observed, 1: below DV (DV is the limit of quantification), -1: above DV.", everywhere=True,
    ),
    Rule(
        "LIMIT", "LIMIT is on the wrong side of DV", "LIMIT", _wrong_limit,
        "with CENS = 1 the value lies between LIMIT and DV, so LIMIT is the smaller; with CENS = -1 the larger.",
        say.cells("CENS", "LIMIT", "DV"), everywhere=True,
    ),
    Rule(
        "blank OCC", "a record has no occasion", "OCC", _blank_cells("OCC"),
        "write the occasion of every record, doses too. NONMEM would read a blank as 0, an occasion of its own.",
        say.cells("TIME", "EVID", "OCC"),
    ),
    Rule(
        "unknown COVONLY", "COVONLY is not 0 or 1", "COVONLY", _not_among(0, 1, column="COVONLY"),
        "1 on a row that only says what covariates and occasion are, 0 on every record.",
    ),
    Rule(
        "covariates only", "a row with COVONLY = 1 is more than that", "COVONLY", _only_covariates,
        "such a row has EVID = 2 and no compartment, and the subject's clock does not start again; COVONLY = 0: a record.",
        say.cells("TIME", "EVID", "CMT", "COVONLY"),
    ),
    Rule("missing covariate", "covariate {column} is missing", "", _missing_covariates, say.missing_covariate),
    Rule(
        "changing covariate", "covariate {column} changes within a subject", "", _changing_covariates, say.declare_varying,
        say.changing,
    ),
    Rule(
        "duplicated record", "a record is there twice", "TIME", _same_record, "delete one of the two.", say.twice,
        may_be_allowed=True,
    ),
    Rule(
        "two values at one time", "two observations at the same time of the same endpoint", "DV", _same_time,
        "fine for replicates; otherwise correct the time, or tell the endpoints apart by DVID.", say.twice, level="warning",
    ),
    Rule(
        "no observation", "a subject has no observation", "DV", _unobserved,
        "it says nothing about the parameters, and no fit takes it; leave it out, or keep it for predictions only.", say.unobserved, level="warning",
    ),
    Rule(
        "empty column", "column {column} is empty", "", _empty_columns, "it was read as if it were not there.", level="warning",
    ),
    Rule(
        "numbers for categories", "covariate {column} holds numbers, of which none is 0", "", _numbered_categories,
        say.numbered, level="warning",
    ),
    Rule(
        "code for missing", "{column} holds a value that often means a missing one", "", _codes_for_missing,
        "write '.' (in DV with MDV = 1) if it is missing; it was read as a number.", level="warning",
    ),
    Rule(
        "limit of 0", "a value below the limit of quantification (CENS = 1) has DV = 0", "DV", _limit_of_zero,
        "DV of such a record is the limit itself (as in Monolix), unless the model has it: nlme.censored(..., lloq=...). A limit of 0 "
        "says that the value was negative.", say.cells("TIME", "DV", "CENS"), level="warning",
    ),
    Rule(
        "comment marks", "a column C marks rows, which are read all the same", "C", _comment_marks,
        "leave them out, as NONMEM's IGNORE=C does: ignore='C'.", lambda r, c, at: f"C in row {r.row[at[0]]}", level="warning",
    ),
)  # fmt: skip
