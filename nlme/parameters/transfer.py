"""One model's numbers from another's: which names agree, and what stands against the others."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from nlme.errors import ModelError
from nlme.parameters.covariance import Covariance
from nlme.parameters.inventory import Entry, Inventory, ParameterRow

_VANISHED = 1e-8  # a variance below this is no start for another search


@dataclasses.dataclass(frozen=True)
class Transfer:
    """What became of every number.

    Attributes
    ----------
    model : with the numbers that were taken
    taken : their names
    kept : name -> why the model keeps its own value
    left : names of the other model for which this one has no place
    """

    model: object
    taken: tuple[str, ...]
    kept: dict[str, str]
    left: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """What was taken and what was not; nothing where everything was."""
        if not self.kept and not self.left:
            return ""
        lines = [f"taken: {', '.join(self.taken) or 'nothing'}"]
        if self.kept:
            lines.append("kept: " + "; ".join(f"{name} ({why})" for name, why in _grouped(self.kept)))
        if self.left:
            lines.append(f"without a place here: {', '.join(self.left)}")
        return "\n".join(f"  {line}" for line in lines)


def transferred(model, rows: Iterable[ParameterRow]) -> Transfer:
    """``model`` with the values of the ``rows`` whose names, sizes, units and domains agree with its own.

    Of a covariance the variances are taken by name, and the covariances within blocks that this model has; an effect whose
    covariances are not all known keeps its correlations.
    """
    given = {row.name: row for row in rows}
    inventory = Inventory(model)
    taken: dict[str, float] = {}
    kept: dict[str, str] = {}
    for entry in inventory.entries:
        fitting, against = _agreeing(entry, given)
        if isinstance(entry.get(model), Covariance):
            fitting, refused = _within_a_covariance(entry, model, fitting)
            against |= refused
        else:
            fitting, refused = _within_its_domain(entry, model, fitting)
            against |= refused
        taken |= fitting
        kept |= against
    left = tuple(name for name in given if name not in inventory.all_names)
    return Transfer(inventory.with_values(model, taken), tuple(taken), kept, left)


def _agreeing(entry: Entry, given: dict[str, ParameterRow]) -> tuple[dict[str, float], dict[str, str]]:
    """Values by name, and why not for the others."""
    fitting, against = {}, {}
    stem = ".".join(entry.path)
    whole = entry.kinds[0] not in ("variance", "covariance")
    there = {name for name in given if name == stem or name.startswith((stem + "[", stem + "."))}
    if whole and there and there != set(entry.names):
        return {}, dict.fromkeys(entry.names, f"{len(there)} numbers there, {entry.size} here")
    for name in entry.names:
        row = given.get(name)
        if row is None:
            against[name] = "not there"
        elif row.unit and entry.declaration.unit and row.unit != entry.declaration.unit:
            against[name] = f"{row.unit} there, {entry.declaration.unit} here"
        elif row.kind == "variance" and row.value < _VANISHED:
            against[name] = "without variance there"
        else:
            fitting[name] = row.value
    return fitting, against


def _within_its_domain(entry: Entry, model, values: dict[str, float]) -> tuple[dict[str, float], dict[str, str]]:
    try:
        entry.with_values(model, values)
    except ModelError:
        domain = entry.declaration.domain
        bad = {name: f"{value:.4g} there, outside of {domain}" for name, value in values.items() if not domain.contains(value)}
        return {name: value for name, value in values.items() if name not in bad}, bad
    return values, {}


def _within_a_covariance(entry: Entry, model, values: dict[str, float]) -> tuple[dict[str, float], dict[str, str]]:
    """The variances, and the covariances too where all of them together are positive definite."""
    try:
        entry.with_values(model, values)
    except ModelError:
        pairs = dict.fromkeys((name for name in values if "," in name), "not positive definite with the others here")
        return {name: value for name, value in values.items() if name not in pairs}, pairs
    return values, {}


def _grouped(kept: dict[str, str]) -> list[tuple[str, str]]:
    """Names with the same reason in one group."""
    groups: dict[str, list[str]] = {}
    for name, why in kept.items():
        groups.setdefault(why, []).append(name)
    return [(", ".join(names), why) for why, names in groups.items()]
