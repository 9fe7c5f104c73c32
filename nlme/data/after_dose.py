"""Time after the last dose."""

from __future__ import annotations

import numpy as np

from nlme.data.subject import Subject


def times_after_dose(subject: Subject) -> np.ndarray:
    """(n,) time since the last dose, additional doses (ADDL, II) included, of every record of a subject.

    Doses come in the order of the records, additional ones before a record at their time.  Before the first dose it is the time
    until that dose, below zero; NaN for a subject without doses, and for records after a restart of time with no dose since.
    """
    found = np.full(len(subject), np.nan)
    restart = np.cumsum(np.diff(subject.time, prepend=subject.time[:1]) < 0)
    doses = np.flatnonzero(subject.is_dose)
    for j in range(len(subject)):
        same = doses[restart[doses] == restart[j]]
        before = same[same <= j]
        if len(before):
            since = subject.time[j] - subject.time[before]
            ii = np.where(subject.ii[before] > 0, subject.ii[before], np.inf)
            given = np.minimum(np.floor(since / ii * (1.0 + 1e-12)), subject.addl[before])
            found[j] = np.min(since - np.where(given > 0, given * np.where(np.isfinite(ii), ii, 0.0), 0.0))
        elif len(same):
            found[j] = subject.time[j] - subject.time[same[0]]
    return found
