"""Nobody's system is followed from before the person's time began.

A person's time begins with the first of its own records, or where its course says (``nlme.data.course``): there the states have their
initial values.  Another design may ask for earlier times or give earlier doses.  Where the states rest at zero until a dose comes that
changes nothing; where they do not, everything after would be of another person, whose time began earlier.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np

from nlme.errors import DataError
from nlme.language.anatomy import rows_of, slopes_of, structure_of
from nlme.structure.base import LinearStructure

if TYPE_CHECKING:
    from nlme.language.layout import Layout


def require_begun(layout: Layout) -> None:
    """Refuse records before a subject's time began, of a model whose states do not rest until a dose comes.

    Raises
    ------
    DataError
        The subject, the first record, and when its time began.
    """
    if not layout.anatomy.states:
        return
    for i, subject in enumerate(layout.population):
        if subject.course is None or not len(subject) or subject.clock[0] >= subject.course.time[0] or _rests(layout, i):
            continue
        began = subject.course.time[0]
        raise DataError(
            f"Subject {subject.id}: asked for at time {subject.clock[0]:g}, and its time began at {began:g}, its first record, where the states of "
            f"{type(layout.model).__name__} have their initial values. An earlier beginning would change all that comes after: give "
            f"times and doses from {began:g} on, or give its data a record (EVID = 2) where its time is to begin."
        )


def _rests(layout: Layout, i: int) -> bool:
    """Whether the states of a typical subject with these covariates begin at zero and stay there."""
    anatomy, model = layout.anatomy, layout.model
    data, _ = layout.subject(i)
    data = data.belonging(jnp.asarray(0)) if anatomy.mixture else data
    rows = rows_of(model, anatomy, jnp.zeros(len(anatomy.effects)), data.covariates, data.timeline.rows)
    structure = structure_of(model, {name: values[0] for name, values in rows.items()})
    begin = structure.start()
    moves = () if isinstance(structure, LinearStructure) else slopes_of(structure, begin)  # what is linear rests at zero
    return not np.any(np.asarray([*begin, *moves]))
