"""Doses that a subject got, additional ones among them, and the time after the last one."""

from __future__ import annotations

import numpy as np

from nlme.data.subject import Subject


def additional_doses(subject: Subject) -> tuple[np.ndarray, np.ndarray]:
    """Times (``Subject.clock``) of the additional doses (ADDL, II), dose by dose, and the record that orders each.

    A reset (EVID 3 or 4, SS = 1) ends what is still to come.
    """
    clock, at, of = subject.clock, [np.zeros(0)], [np.zeros(0, int)]
    wiped = np.flatnonzero((subject.evid == 3) | (subject.evid == 4) | (subject.ss == 1))
    for j in np.flatnonzero(subject.is_dose & (subject.addl > 0)):
        own = clock[j] + subject.ii[j] * np.arange(1, subject.addl[j] + 1)
        own = own[own < min(clock[wiped[wiped > j]], default=np.inf)]
        at.append(own)
        of.append(np.full(len(own), j))
    return np.concatenate(at), np.concatenate(of)


def times_after_dose(subject: Subject) -> np.ndarray:
    """(n,) time since the last dose, additional doses included, of every record of a subject.

    Doses come in the order of the records, additional ones before a record at their time.  Before the first dose it is the time
    until that dose, below zero; NaN for a subject without doses, and for records after a restart of time with no dose since.
    """
    found, clock = np.full(len(subject), np.nan), subject.clock
    period = subject.period
    doses = np.flatnonzero(subject.is_dose)
    later, of = additional_doses(subject)
    for j in range(len(subject)):
        same = doses[period[doses] == period[j]]
        given = clock[same[same <= j]]
        if len(given):
            repeated = later[(period[of] == period[j]) & (of <= j)]
            given = np.r_[given, repeated[repeated - clock[j] <= 1e-12 * np.abs(repeated)]]
            found[j] = max(clock[j] - np.max(given), 0.0)
        elif len(same):
            found[j] = clock[j] - clock[same[0]]
    return found
