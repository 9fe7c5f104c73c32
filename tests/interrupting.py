"""One Ctrl-C at a chosen moment: the n-th call of a function raises KeyboardInterrupt, all others do what they did."""

from __future__ import annotations

import itertools

import pytest

from nlme.search import batch


def interrupt(monkeypatch: pytest.MonkeyPatch, at: int, owner=batch, name: str = "_evaluate") -> itertools.count:
    """Let call ``at`` of ``owner.name`` raise, by default an evaluation of fits side by side; gives the counter of the calls."""
    real, calls = getattr(owner, name), itertools.count(1)

    def called(*args, **options):
        if next(calls) == at:
            raise KeyboardInterrupt
        return real(*args, **options)

    monkeypatch.setattr(owner, name, called)
    return calls


def one_lane(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fits one after another in each batch, and few rounds of them: many moments between which some have ended and others not."""
    monkeypatch.setattr(batch, "_SLOTS", {"cpu": 1})
    monkeypatch.setattr(batch, "_ROUNDS", 3)
