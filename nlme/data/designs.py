"""Other records for the same person: what a subject was stays, whichever of its records go and come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from nlme.data.after_dose import additional_doses
from nlme.data.course import Course
from nlme.data.covariates import CovariateInfo
from nlme.data.numerals import EXACT
from nlme.data.subject import FLOATS, RECORD_FIELDS, WHOLES, Subject
from nlme.errors import DataError


def redesigned(
    s: Subject, keep: np.ndarray, new: Mapping[str, Any], ties: str, caller: str, infos: Mapping[str, CovariateInfo]
) -> Subject:
    """The kept records of a subject and new ones in order of time; doses before or after the others at equal times.

    Covariates and occasion are at every time what they were: the new records are told by the subject's history, which stays as
    its course where the records that are left do not tell it.
    """
    if ties not in ("dose first", "observation first"):
        raise DataError(f"ties={ties!r}: at equal times it is 'dose first' or 'observation first'.")
    if s.period.any():
        raise DataError(
            f"Subject {s.id!r}: time restarts at a reset record (EVID 3 or 4), so {caller} cannot place new records; "
            "give each period its own subject or a continuous time."
        )
    at = np.asarray(new["time"], dtype=np.float64)
    first = (ties == "dose first") == bool(np.any(np.asarray(new["evid"]) == 1))
    if not len(s) and s.course is None:
        made = placed(s, keep, dict(new), dict.fromkeys(s.covariates, np.zeros(len(at))), first)[0]
        return made if ties == "dose first" else written_out(made, infos)
    history = s.history
    told = {k: history.beside(at, v, infos[k].interpolation, not first) for k, v in history.covariates.items()}
    made, _ = placed(s, keep, {**new, "occasion": history.beside(at, history.occasion, "nocb", not first)}, told, first)
    made = replace(made, course=_untold(history.changes(), made))
    return made if ties == "dose first" else replace(written_out(made, infos), course=made.course)


def records_to_predict(times: np.ndarray) -> dict[str, np.ndarray]:
    """New records at which predictions are asked for."""
    return {"time": times, "evid": np.full(times.size, 2), "mdv": np.ones(times.size)}


def written_out(s: Subject, infos: Mapping[str, CovariateInfo]) -> Subject:
    """The subject with a record for each additional dose (ADDL), behind the others of its time: as ADDL they come before these.

    A reset (EVID 3 or 4, SS = 1) ends what is still to come.
    """
    at, of = additional_doses(s)
    if not len(at):
        return s
    history = s.history
    new = {name: getattr(s, name)[of] for name in ("mdv", "amt", "rate", "duration", "cmt")}
    new |= {"time": at, "evid": np.ones(len(at)), "cmt_name": [s.cmt_name[j] for j in of]}
    new["occasion"] = history.beside(at, history.occasion, "nocb", True)
    told = {k: history.beside(at, v, infos[k].interpolation, True) for k, v in history.covariates.items()}
    once = replace(s, addl=np.zeros_like(s.addl), ii=np.where(s.ss > 0, s.ii, 0.0))
    return placed(once, np.ones(len(s), bool), new, told, False)[0]


def placed(
    s: Subject, keep: np.ndarray, new: Mapping[str, Any], covariates: Mapping[str, np.ndarray], first: bool
) -> tuple[Subject, np.ndarray]:
    """The kept records with new ones among them, before (``first``) or after those of the same time, and which are new."""
    at = np.asarray(new["time"], dtype=np.float64)
    m = len(at)
    blank = {**FLOATS, **{k: 0 if v is None else v for k, v in WHOLES.items()}, "endpoint": -1}
    columns = {
        name: np.concatenate([getattr(s, name)[keep], np.broadcast_to(new.get(name, blank.get(name)), (m,))])
        for name in RECORD_FIELDS
    }
    covariates = {k: np.concatenate([v[keep], covariates[k]]) for k, v in s.covariates.items()}
    extra = {k: np.concatenate([v[keep], _carried(v, m)]) for k, v in s.extra.items()}
    names = [n for n, k in zip(s.cmt_name, keep, strict=True) if k] + list(new.get("cmt_name", (None,) * m))

    is_new = np.arange(len(columns["time"])) >= len(columns["time"]) - m
    clock = np.concatenate([s.clock[keep], at])  # not time, which may restart
    order = np.lexsort((is_new != first, clock))  # stable: kept records that tie stay in their order
    made = Subject(
        s.id,
        cmt_name=tuple(names[i] for i in order),
        covariates={k: v[order] for k, v in covariates.items()},
        extra={k: v[order] for k, v in extra.items()},
        features=s.features,
        **{k: v[order] for k, v in columns.items()},
    )
    return made, is_new[order]


def observed_first(s: Subject, endpoint: np.ndarray, dv: np.ndarray) -> Subject:
    """The subject with one observation more of each of these endpoints, before all its records and at the time of the first."""
    m = len(dv)
    new = {"time": np.full(m, s.time[0]), "dv": dv, "endpoint": endpoint, "occasion": s.occasion[0]}
    told = {name: np.full(m, values[0]) for name, values in s.covariates.items()}
    return replace(placed(s, np.ones(len(s), dtype=bool), new, told, True)[0], course=s.course)


def with_course(s: Subject) -> tuple[Subject, np.ndarray]:
    """The subject with a record (EVID 2) for each point of its course, before those of the same time; which these are."""
    if s.course is None:
        return s, np.zeros(len(s), dtype=bool)
    m = len(s.course)
    new = {"time": s.course.time, "occasion": s.course.occasion, "evid": np.full(m, 2), "mdv": np.ones(m)}
    return placed(s, np.ones(len(s), dtype=bool), new, s.course.covariates, True)


def _untold(course: Course, made: Subject) -> Course | None:
    """A course that the records do not tell; None if they do.  Records before its beginning do not tell when the subject's time began."""
    told = bool(len(made)) and made.time[0] == course.time[0]
    return None if told and (len(course) == 1 or course.is_told_by(made.history)) else course


def _carried(values: np.ndarray, n: int) -> np.ndarray:
    """What n new records have in an extra column: its value if that is the same on all records (a site), else missing."""
    if len(values) and all(v == values[0] for v in values):
        return np.full(n, values[0], dtype=values.dtype)
    exact = values.dtype.kind in "fub" or (values.dtype.kind == "i" and np.all(np.abs(values) < EXACT))
    return np.full(n, np.nan) if exact else np.full(n, None, dtype=object)
