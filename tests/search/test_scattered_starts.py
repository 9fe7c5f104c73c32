"""No start leads to a false "Converged": pairs of model and data from starting values scattered over orders of magnitude.

Forty starts of each, fixed effects multiplied by up to 10 either way and variances by up to 100: the verdict is clean only at the
lowest objective known, and 97 of 100 starts reach that. Multiplied by up to 1,000 no verdict is false either. A verdict that says that
a lower minimum may be left, as that of a network does whose starts do not agree, is not clean.
"""

from __future__ import annotations

import warnings

import pytest
from scattered import PAIRS, scattered

import nlme
from nlme.errors import FitError

# The lowest objective (with its penalty) from any start; those of reference cases are NONMEM's, Monolix's or lme4's
# (see the tests in ``tests/fitting``). Theophylline has a lower one than the published 104.322 where absorption and
# elimination are exchanged; both are the answer to a question, and the fit says which it is.
BEST = {
    "theophylline": 104.322,
    "phenobarbital": 586.276,
    "quinidine": 148.897,
    "indomethacin": -298.086,
    "warfarin": 285.139,
    "infusion": 1058.304,
    "occasions": 308.830,
    "first_order": 104.561,
    "sleep": 1421.121,
    "one_person": -31.164,
    "deep": 91.385,
}


def ends(name: str, seeds, fixed_effects: float, variances: float) -> list[tuple[int, float, bool, str]]:
    """(seed, objective with penalty, whether the verdict is clean, its words) of a fit from each start."""
    pair = PAIRS[name]
    population, model, found = pair.data(), pair.model(), []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for seed in seeds:
            try:
                fit = nlme.fit(
                    scattered(model, seed, fixed_effects, variances), population, pair.method, progress=False, **pair.options
                )
            except FitError as error:
                found.append((seed, float("inf"), False, str(error)))
            else:
                clean = fit.converged and not any("a lower one may be left" in words for words in fit.messages)
                found.append((seed, fit.objective + fit.penalty, clean, fit.verdict))
    return found


def false(found, best: float) -> list:
    return [end for end in found if end[2] and end[1] > best + 0.1]


@pytest.mark.slow
@pytest.mark.parametrize("name", list(BEST))
def test_no_false_verdict_from_forty_starts(name):
    found = ends(name, range(1, 41), 10.0, 100.0)
    best = BEST[name]
    assert not false(found, best)
    assert min(end[1] for end in found) > best - (2.0 if name == "theophylline" else 0.1)  # else a better one is known now
    reached = sum(end[1] < best + 0.1 for end in found)
    assert reached >= 0.97 * len(found), [end for end in found if end[1] >= best + 0.1]


@pytest.mark.slow
@pytest.mark.parametrize("name", list(BEST))
def test_no_false_verdict_from_a_thousand_times_off(name):
    assert not false(ends(name, range(1, 11), 1000.0, 1000.0), BEST[name])


@pytest.mark.parametrize("name, seed", [pytest.param("theophylline", 7, marks=pytest.mark.slow), ("sleep", 3)])
def test_quick_pairs(name, seed):
    ((_, objective, clean, words),) = ends(name, [seed], 10.0, 100.0)
    assert clean and objective < BEST[name] + 0.1, words
