"""A design: groups of subjects that are dosed and sampled alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from nlme.data.covariates import CovariateInfo
from nlme.data.population import Population
from nlme.data.regimen import Regimen
from nlme.data.subject import Subject
from nlme.errors import DataError


@dataclass(frozen=True)
class Group:
    """Subjects who get the same doses at the same times and are sampled at the same times.

    Parameters
    ----------
    size
        Number of subjects.
    times
        Times of samples; of several endpoints a dict, ``{"conc": [1, 4, 24], "effect": [24]}``.  A sample at the time of a dose
        comes after it.
    dose
        ``nlme.dose(70)``, ``nlme.dose(100).every(24, n=7)``; None: no dose.
    covariates
        Values of the model's covariates, ``{"wt": 70}``.
    name
        What the group is called.

    Raises
    ------
    DataError
        No subject, no sample, times that are negative or no numbers, a dose that is no regimen.
    """

    size: int
    times: Any
    dose: Regimen | None = None
    covariates: Mapping[str, float] = field(default_factory=dict)
    name: str = ""

    def __post_init__(self):
        who = f"Group {self.name!r}" if self.name else "A group"
        if isinstance(self.size, bool) or not isinstance(self.size, (int, np.integer)) or self.size < 1:
            raise DataError(f"{who}: size is a number of subjects, 1 or more; got {self.size!r}.")
        if self.dose is not None and not isinstance(self.dose, Regimen):
            raise DataError(f"{who}: dose is a regimen, nlme.dose(100) or nlme.dose(100).every(24, n=7); got {self.dose!r}.")
        times = self.times if isinstance(self.times, Mapping) else {"": self.times}
        object.__setattr__(self, "times", {str(name): _sorted(values, who) for name, values in times.items()})
        if not any(self.times.values()):
            raise DataError(f"{who} has no sample.")
        for name, value in self.covariates.items():
            if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not np.isfinite(value):
                raise DataError(f"{who}: the covariate {name} must be a number (of a category its number); got {value!r}.")

    @property
    def n_samples(self) -> int:
        """Samples of one subject."""
        return sum(len(values) for values in self.times.values())


def _sorted(values: Any, who: str) -> tuple[float, ...]:
    try:
        found = np.sort(np.atleast_1d(np.asarray(values, dtype=float)).ravel())
    except (TypeError, ValueError):
        raise DataError(f"{who}: times are numbers, or a dict of them by endpoint; got {values!r}.") from None
    if not np.all(np.isfinite(found)) or (found.size and found[0] < 0):
        raise DataError(f"{who}: times are numbers from 0 on; got {values!r}.")
    return tuple(found.tolist())


@dataclass(frozen=True)
class Design:
    """Groups of subjects.

    Parameters
    ----------
    groups : one Group or several; without names they are called 1, 2, ...

    Raises
    ------
    DataError
        No group, two of one name, groups with other covariates than the first.
    """

    groups: Sequence[Group]

    def __post_init__(self):
        groups = (self.groups,) if isinstance(self.groups, Group) else tuple(self.groups)
        if not groups or not all(isinstance(group, Group) for group in groups):
            raise DataError(
                f"A design is made of groups: nlme.Design([nlme.Group(32, times=[1, 4, 24], dose=...)]); got {groups!r}."
            )
        groups = tuple(group if group.name else replace(group, name=str(k)) for k, group in enumerate(groups, 1))
        names = [group.name for group in groups]
        for group in groups:
            if names.count(group.name) > 1:
                raise DataError(f"Two groups are called {group.name!r}.")
            if set(group.covariates) != set(groups[0].covariates):
                raise DataError(
                    f"Group {group.name!r} has the covariates {', '.join(group.covariates) or 'none'}, and group {names[0]!r} "
                    f"{', '.join(groups[0].covariates) or 'none'}."
                )
        object.__setattr__(self, "groups", groups)

    @property
    def n_subjects(self) -> int:
        return sum(group.size for group in self.groups)

    @property
    def n_samples(self) -> int:
        return sum(group.size * group.n_samples for group in self.groups)

    def with_times(self, times: Sequence[Mapping[str, Sequence[float]]]) -> Design:
        """The same groups sampled at other times, those of each group in turn."""
        return Design([replace(group, times=own) for group, own in zip(self.groups, times, strict=True)])

    def representatives(self, endpoints: Sequence[str], units: Mapping[str, str | None], placeholder: float) -> Population:
        """One subject for each group, with an observation of ``placeholder`` at every sample.

        Raises
        ------
        DataError
            An endpoint that the model does not have, or several and a group that does not say which is sampled.
        """
        subjects = [_representative(group, endpoints, placeholder) for group in self.groups]
        known = {name: CovariateInfo(name, units.get(name), column=name) for name in self.groups[0].covariates}
        sampled = Population(tuple(subjects), tuple(endpoints), known)
        dosed = [
            one if group.dose is None else sampled[k : k + 1].with_doses(group.dose)[0]
            for k, (one, group) in enumerate(zip(subjects, self.groups, strict=True))
        ]
        return replace(sampled, subjects=tuple(dosed))

    def __repr__(self) -> str:
        return "\n".join(_words(group) for group in self.groups)


def _representative(group: Group, endpoints: Sequence[str], placeholder: float) -> Subject:
    named = {}
    for name, values in group.times.items():
        if name == "" and len(endpoints) > 1:
            raise DataError(
                f"Group {group.name!r}: which endpoint is sampled? times={{{endpoints[0]!r}: [...]}}; the model has "
                f"{', '.join(endpoints)}."
            )
        if name and name not in endpoints:
            raise DataError(f"Group {group.name!r}: the model has no endpoint {name!r}; it has {', '.join(endpoints)}.")
        named[name or endpoints[0]] = values
    time = np.concatenate([values for values in named.values()])
    which = np.repeat([endpoints.index(name) for name in named], [len(values) for values in named.values()])
    order = np.lexsort((which, time))
    return Subject(
        group.name, time=time[order], dv=np.full(len(time), placeholder), endpoint=which[order],
        covariates={name: np.full(len(time), float(value)) for name, value in group.covariates.items()},
    )  # fmt: skip


def _words(group: Group) -> str:
    """A group in one line."""
    samples = "; ".join(
        (f"{name} " if name else "") + ", ".join(f"{t:g}" for t in values) for name, values in group.times.items()
    )
    covariates = "".join(f", {name} {value:g}" for name, value in group.covariates.items())
    return f"Group {group.name}: {group.size} subjects, {group.dose or 'no dose'}{covariates}; samples at {samples}"
