"""What a check found: violations as values, and a report that prints on one screen."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass

WIDTH = 98
LINES = 25


class DataWarning(UserWarning):
    """Something in a data set that is allowed, but often a mistake."""


@dataclass(frozen=True)
class Violation:
    """One broken rule, with every row that breaks it.

    Attributes
    ----------
    rule
        Short name of the rule.
    sentence
        What the rule says.
    rows
        Row numbers, counted from 1 without the header; empty when the fault is not in single rows.
    subjects
        IDs of the subjects concerned.
    column
        Column (NONMEM's name) or argument concerned.
    seen
        What stands in the first of these rows.
    remedy
        What would be right.
    level
        "error" (the data cannot be read) or "warning".
    """

    rule: str
    sentence: str
    rows: tuple[int, ...]
    subjects: tuple[int | str, ...]
    column: str
    seen: str
    remedy: str
    level: str = "error"

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> list[str]:
        """The violation as a few lines of text."""
        return [*_wrapped(self.headline(), ""), *_wrapped(f"seen: {self.seen}", "  "), *_wrapped(f"remedy: {self.remedy}", "  ")]

    def headline(self) -> str:
        where = f": {'row' if len(self.rows) == 1 else 'rows'} {ranges(self.rows)}" if self.rows else ""
        many = len(self.subjects) > 1
        who = f" (subject{'s' if many else ''} {listed(self.subjects)})" if self.subjects else ""
        return f"{'warning: ' if self.level == 'warning' else ''}{self.sentence}{where}{who}"


def _wrapped(text: str, indent: str) -> list[str]:
    tied = text.replace(" = ", "\xa0=\xa0")  # "MDV = 1" stays on one line
    lines = textwrap.wrap(
        tied, WIDTH - 4, initial_indent=indent, subsequent_indent=indent + "  ", max_lines=3, placeholder=" ..."
    )
    return [line.replace("\xa0", " ") for line in lines]


def ranges(rows: Iterable[int], most: int = 8) -> str:
    """Row numbers in short: 12-19, 40.

    >>> ranges([12, 13, 14, 40])
    '12-14, 40'
    """
    runs: list[list[int]] = []
    ordered = sorted(set(rows))
    for row in ordered:
        if runs and row == runs[-1][1] + 1:
            runs[-1][1] = row
        else:
            runs.append([row, row])
    words = [f"{a}" if a == b else f"{a}-{b}" for a, b in runs[:most]]
    return ", ".join(words) + (f" ... ({len(ordered):,} rows)" if len(runs) > most else "")


def listed(values: Sequence, most: int = 8) -> str:
    """The first few of some names, and how many there are."""
    return ", ".join(str(v) or "without ID" for v in values[:most]) + (
        f" ... ({len(values):,} in all)" if len(values) > most else ""
    )


@dataclass(frozen=True, repr=False)
class CheckReport(Sequence):
    """Every violation found in a data set, most serious first; it prints as one screen.

    ``report.ok`` says that nothing forbids reading the data; ``report.errors`` and ``report.warnings`` are the two levels.
    """

    violations: tuple[Violation, ...]
    source: str = "the data"
    n_records: int = 0
    n_subjects: int = 0

    @property
    def errors(self) -> tuple[Violation, ...]:
        return tuple(v for v in self.violations if v.level == "error")

    @property
    def warnings(self) -> tuple[Violation, ...]:
        return tuple(v for v in self.violations if v.level == "warning")

    @property
    def ok(self) -> bool:
        return not self.errors

    def __len__(self) -> int:
        return len(self.violations)

    def __getitem__(self, key):
        return self.violations[key]

    def __iter__(self) -> Iterator[Violation]:
        return iter(self.violations)

    def __str__(self) -> str:
        return screen(self.violations, self.source, f"{self.n_records:,} records, {self.n_subjects:,} subjects")

    __repr__ = __str__

    def to_json(self) -> str:
        """For programs: source, ok, records, subjects, and of every violation its fields, as one JSON object."""
        import json

        found = [asdict(v) for v in self.violations]
        whole = {
            "source": self.source,
            "ok": self.ok,
            "records": self.n_records,
            "subjects": self.n_subjects,
            "violations": found,
        }
        return json.dumps(whole, indent=2, ensure_ascii=False)

    def _repr_html_(self) -> str:
        import html

        return f"<pre>{html.escape(str(self))}</pre>"


def screen(
    violations: Sequence[Violation], source: str, size: str = "", rows: str = "rows are counted from 1 after the header"
) -> str:
    """Violations on one screen: in full as long as there is room, then one line each, then a count."""
    if not violations:
        return f"No problem found in {source}" + (f" ({size})." if size else ".")
    errors = sum(v.level == "error" for v in violations)
    kinds = ((errors, "problem"), (len(violations) - errors, "warning"))
    counts = [f"{n} {word}{'' if n == 1 else 's'}" for n, word in kinds if n]
    out = textwrap.wrap(f"{' and '.join(counts)} in {source} ({rows}):", WIDTH)
    for i, violation in enumerate(violations):
        label = f"{i + 1}. "
        full = [label + violation.lines()[0]] + [" " * len(label) + line for line in violation.lines()[1:]]
        rest = len(violations) - i - 1
        if len(out) + len(full) + min(rest, 1) <= LINES:
            out += full
        elif len(out) + 1 + min(rest, 1) <= LINES:
            out += [textwrap.shorten(label + violation.headline(), WIDTH, placeholder=" ...")]
        else:
            out += [f"... and {rest + 1} more; nlme.check(data) holds them all."]
            break
    return "\n".join(out)
