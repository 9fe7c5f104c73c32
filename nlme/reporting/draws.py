"""The rows of a parameter table from posterior draws: medians, standard deviations, quantiles, and what the draws are worth."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from nlme.errors import FitError
from nlme.posterior.draws import LEAST, effective_size, messages_in, r_hat, scalars
from nlme.tables.numbers import MISSING


def posterior_rows(posterior: Any, weights: bool, level: float) -> tuple[list[dict], str, tuple[str, ...]]:
    """Rows by parameter, title and notes of the InferenceData that ``nlme.sample`` returned.

    Raises
    ------
    FitError
        A level that is no probability, or draws of something else.
    """
    if not isinstance(level, float) or not 0.0 < level < 1.0:
        raise FitError(f"level is a probability between 0 and 1, for example 0.95; got {level!r}.")
    declared = _declared(posterior)
    draws = {name: values for name, values in scalars(posterior).items() if name in declared}
    tails = [0.5 - 0.5 * level, 0.5 + 0.5 * level]
    rows = []
    for name, values in draws.items():
        own = declared[name]
        if own["kind"] == "weight" and not weights:
            continue
        low, middle, high = np.quantile(values, [tails[0], 0.5, tails[1]])
        row = {
            "parameter": name,
            "label": own["label"],
            "unit": own["unit"],
            "kind": own["kind"],
            "estimate": middle,
            "fixed": False,
        }
        row |= {"se": np.std(values, ddof=1), "lower": low, "upper": high} | _spread(name, own, draws, tails)
        row |= _worth(values) if _of_chains(posterior) else {"r_hat": math.nan, "ess": math.nan}
        rows.append(row)
    left_out = sum(declared[name]["kind"] == "weight" for name in draws) if not weights else 0
    return rows, _title(posterior), _notes(posterior, level, left_out)


def _declared(posterior: Any) -> dict[str, dict]:
    """What the model says of its parameters, as ``nlme.sample`` wrote it into the draws."""
    try:
        return {row["name"]: row for row in json.loads(posterior.attrs["parameters"])}
    except (AttributeError, KeyError, TypeError, ValueError):
        raise FitError(
            "table takes the posterior that nlme.sample returned; in this one the model's parameters are not written down."
        ) from None


def _spread(name: str, own: dict, draws: dict[str, np.ndarray], tails: list[float]) -> dict[str, float]:
    """Variability between subjects, medians over the draws."""
    values = draws[name]
    if own["kind"] == "variance":
        with np.errstate(over="ignore"):
            cv = float(np.median(100 * np.sqrt(np.expm1(values)))) if own["transform"] == "log-normal" else math.nan
        return {"sd": float(np.median(np.sqrt(values))), "cv_percent": cv}
    if own["kind"] == "covariance":
        prefix, _, pair = name.rpartition(".")
        both = [draws.get(f"{prefix}.{effect}") for effect in pair.split(",")]
        if all(one is not None for one in both):
            low, middle, high = np.quantile(values / np.sqrt(both[0] * both[1]), [tails[0], 0.5, tails[1]])
            return {"correlation": middle, "correlation_lower": low, "correlation_upper": high}
    return {}


def _of_chains(posterior: Any) -> bool:
    """Whether the draws are of Markov chains: those of a Laplace approximation are independent, the members of an ensemble modes."""
    return posterior.attrs.get("weights", "nuts") in ("nuts", "sgld")


def _worth(values: np.ndarray) -> dict[str, float]:
    """R-hat and effective size; NaN of too few draws or a number that never moved."""
    if values.shape[1] < LEAST or not np.ptp(values) > 0:
        return {"r_hat": math.nan, "ess": math.nan}
    return {"r_hat": float(r_hat(values)), "ess": float(effective_size(values))}


def _title(posterior: Any) -> str:
    size, kind = posterior.posterior.sizes, posterior.attrs.get("weights", "nuts")
    what = {"laplace": "Laplace approximation,", "ensemble": "ensemble,", "sgld": "SGLD,"}.get(kind, "")
    of = {"laplace": "sets", "ensemble": "members"}.get(kind, "chains")
    return " ".join(
        filter(None, [f"{posterior.attrs.get('model', 'Posterior')}:", what, f"{size['chain']} {of} of {size['draw']} draws"])
    )


def _functions(posterior: Any) -> list[str]:
    """What the draws of the learned functions are worth: weights are not judged one by one."""
    found = []
    for name, own in json.loads(posterior.attrs.get("learned_functions", "{}")).items():
        if "r_hat" in own:
            found.append(
                f"Learned function of {name}, at {own['points']} inputs that the data visited: largest R-hat {own['r_hat']:.3f}, ESS at "
                f"least {own['ess']:.0f}."
            )
    return found


def _notes(posterior: Any, level: float, left_out: int) -> tuple[str, ...]:
    notes = [
        f"Median, standard deviation and {100 * level:.6g} % credible interval (quantiles) of the posterior. IIV: CV = 100 √(exp(ω²) − 1) "
        f"where η enters as exp(η), SD = √ω², correlations: medians of each. R-hat: rank-normalised, split over the chains; ESS: effective draws, of "
        f"the bulk or the tails, whichever are fewer; {MISSING}: not to be had.",
        *_functions(posterior),
        *messages_in(posterior),
    ]
    return (*notes, f"Not listed: {left_out} network weights (weights=True lists them).") if left_out else tuple(notes)
