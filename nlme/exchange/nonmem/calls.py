"""CALLFL and the calling protocols: with which records $PK and $ERROR are called.

Source: NONMEM Users Guide Part VIII, CALLFL.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nlme.exchange.nonmem import expressions as ex
from nlme.exchange.nonmem.abbreviated import EVERY_RECORD, Assignment, Code
from nlme.exchange.nonmem.formulas import unset
from nlme.exchange.nonmem.items import Items


def require_calls(error: Code) -> None:
    """Refuse a protocol of $ERROR by which it would give anything else than when it is called with every record."""
    if error.calls == 1 or error.calls == 0 and _remembers(error):
        raise error.refuse(f"CALLFL={error.calls} is not imported where what the code sets on one record counts on others.")


def as_called(code: Code, items: Items) -> tuple[Code, dict[str, np.ndarray]]:
    """$PK as it is with its calling protocol (CALLFL): the data items that it reads are those of the record of its last call."""
    if code.calls == EVERY_RECORD:
        return code, {}
    reads = sorted({n for a in code.assignments for n in ex.names_in(a.value)})
    called = np.diff(items.subject, prepend=-1) != 0
    if code.calls == 0:
        called = called | (np.diff(items.time, prepend=0.0) != 0)
    record = np.maximum.accumulate(np.where(called, np.arange(len(items)), 0))
    held = {n: v[record] for n in reads if (v := items.columns.get(n)) is not None and np.any(v != v[record])}
    if code.calls == -2:
        if held and _doses_between(code, items):
            raise code.refuse(f"CALLFL=-2 where the code reads {min(held)}, which changes in time, is not imported.")
        return code, {}
    if "NEWIND" in reads:
        raise code.refuse(f"CALLFL={code.calls} where the code reads NEWIND is not imported.")
    names = {n: ex.name(f"{n}_HELD") for n in held}
    assignments = [Assignment(a.target, ex.replaced(a.value, names), a.line) for a in code.assignments]
    return replace(code, assignments=assignments), {f"{n}_HELD": v for n, v in held.items()}


def _remembers(code: Code) -> bool:
    return any(unset(n) is not None for a in code.assignments for n in ex.names_in(a.value))


def _doses_between(code: Code, items: Items) -> bool:
    """Whether $PK would be called between records: at additional or lagged doses."""
    return bool(np.any(items.column("ADDL") > 0)) or any(t.startswith("ALAG") for t in code.targets)
