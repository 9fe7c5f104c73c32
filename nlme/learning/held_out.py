"""Whether what was learned pays: -2 log likelihood of people whom it has not seen, beside that of the model without it.

    gain = sum_i (plain_i - held_out_i),        error = sqrt(N) sd_i (plain_i - held_out_i)

for the best of K candidates. The least of several is below that without any often enough by chance where there is nothing to learn,
so what pays has to gain more than its error, and more than _NOTHING: what a penalty holds at zero gains next to nothing, and costs it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_NOTHING = 0.5  # of -2 log likelihood


def scores_of(held_out: np.ndarray) -> np.ndarray:
    """(K,) -2 log likelihood of all subjects from that of each (K, N); infinite where one is not known."""
    found = held_out.sum(axis=1)
    return np.where(np.isfinite(found), found, np.inf)


class Payoff(NamedTuple):
    """By how much the best candidate's held-out -2 log likelihood is lower than that without it, and the standard error of this."""

    gain: float
    error: float

    @classmethod
    def of(cls, held_out: np.ndarray, plain: np.ndarray) -> Payoff:
        """Of candidates (K, N) beside the subjects without any (N,)."""
        difference = plain - held_out[int(np.argmin(scores_of(held_out)))]
        return cls(float(difference.sum()), float(np.sqrt(len(difference)) * np.std(difference, ddof=1)))

    @property
    def pays(self) -> bool:
        return bool(self.gain > max(self.error, _NOTHING))

    def verdict(self, what: str, several: bool) -> str:
        """``what`` pays or not, in words."""
        if self.pays:
            return f"The {what} {'pay' if several else 'pays'}"
        negated = "do" if several else "does"
        return f"The {what} {'are' if several else 'is'} not shown to pay" if self.gain > 0.0 else f"The {what} {negated} not pay"

    @property
    def size(self) -> str:
        return f"{abs(self.gain):.1f} (± {self.error:.1f}) {'lower' if self.gain >= 0.0 else 'higher'}"
