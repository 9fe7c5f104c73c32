"""What is wrong with draws, in words."""

from __future__ import annotations

import numpy as np

from nlme.posterior.draws import LEAST, worth
from nlme.posterior.functions import Learned
from nlme.posterior.sampler import Draws


def messages_of(kept: Draws, numbers: np.ndarray, wanted: int, functions: dict[str, Learned], failed: int) -> list[str]:
    """What is wrong with chains, in words, most serious first; ``kept.w`` holds b of all draws, ``numbers`` (chains, draws, P) are those of
    the population as tables show them."""
    found = []
    chains, draws = kept.diverging.shape
    if draws < wanted:
        found.append(f"Sampling was interrupted after {draws} of {wanted} draws.")
    coordinates = {
        "population parameters": numbers,
        "random effects": kept.w["b"].reshape(chains, draws, -1),
        **{f"learned function of {name}": one.moving for name, one in functions.items()},
    }
    for what, values in coordinates.items():
        if draws < LEAST or not values.shape[-1]:
            continue
        disagreement, size = worth(values)
        if not disagreement <= 1.01:
            found.append(
                f"The chains do not agree on the {what} yet (largest R-hat {disagreement:.3f}; 1.01 is the usual limit): "
                f"run longer."
            )
        if not size >= 100 * chains:
            found.append(
                f"The draws of the {what} are worth only {size:.0f} independent ones at worst (100 for each chain are usually "
                f"wanted): quantiles are rough."
            )
    if chains == 1:
        found.append("One chain cannot show whether others would go elsewhere; run several.")
    if failed:
        found.append(f"At {failed} points visited the ODE could not be solved; they counted as impossible.")
    return found


def messages_of_transitions(kept: Draws, max_tree_depth: int) -> list[str]:
    """What is wrong with the transitions of NUTS, in words."""
    found = []
    diverged = int(kept.diverging.sum())
    if diverged:
        found.append(
            f"{diverged} of {kept.diverging.size} transitions diverged: the posterior has places the sampler cannot enter, and the draws "
            f"may miss them. Raise target_acceptance (0.95), start nearer (at a fit), or reconsider priors that allow absurd values."
        )
    change = np.sum(np.diff(kept.energy, axis=1) ** 2, axis=1) / np.sum(
        (kept.energy - kept.energy.mean(1, keepdims=True)) ** 2, axis=1
    )
    if np.min(change) < 0.3:
        found.append(f"The energy moves slowly (lowest E-BFMI {np.min(change):.2f}, below 0.3): the tails may be explored badly.")
    full = int((kept.steps >= 2**max_tree_depth - 1).sum())
    if full:
        found.append(f"{full} transitions stopped at max_tree_depth = {max_tree_depth}: sampling is slow, not wrong.")
    return found
