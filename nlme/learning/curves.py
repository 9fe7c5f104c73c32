"""Learned functions as curves: each output of a network over each of its inputs, the others at their medians, with bands.

    curve(x) = network(x_1, .., x, .., x_n),      x from the lowest to the highest value that the data visited

Bands are pointwise. By the estimate's covariance (Laplace): variance(x) = J(x) H^-1 J(x)', J the derivative of the curve in all free
parameters, H half the Hessian of the objective with its penalty; by a bootstrap: percentiles over its replicates' networks.  Of a posterior the
curve is the median of its draws' networks and the band between their percentiles: credible, where those of a fit are confidence bands.
"""

from __future__ import annotations

import dataclasses
from statistics import NormalDist
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from nlme.errors import FitError, ModelError, name_error
from nlme.fitting.result import Fit, require_fit
from nlme.language.model import Model
from nlme.learning.spread import covariance_of, moves, standard_errors
from nlme.neural.correction import Correction, labels
from nlme.neural.term import learned_terms
from nlme.parameters.domains import require_whole
from nlme.simulation.visited import visited
from nlme.uncertainty.bootstrap import Bootstrap

_LEVELS = 0.5, 0.8, 0.9, 0.95
_DRAWS = 1000  # of a posterior that are looked at


class Curve(NamedTuple):
    """One output of a network over one input: (points,) each; ``lower`` and ``upper`` None without a band."""

    network: str
    input: str
    output: str
    x: np.ndarray
    y: np.ndarray
    lower: np.ndarray | None
    upper: np.ndarray | None
    asked: np.ndarray  # (M,) values of the input that the data visited


@dataclasses.dataclass(frozen=True)
class Curves:
    """The curves of a fit's networks, and what their bands are, in words."""

    curves: tuple[Curve, ...]
    words: str

    @property
    def table(self):
        """DataFrame: network, input, output, x, y, lower, upper."""
        import pandas as pd

        nothing = np.nan
        return pd.concat(
            pd.DataFrame(
                {
                    "network": c.network,
                    "input": c.input,
                    "output": c.output,
                    "x": c.x,
                    "y": c.y,
                    "lower": nothing if c.lower is None else c.lower,
                    "upper": nothing if c.upper is None else c.upper,
                }
            )
            for c in self.curves
        ).reset_index(drop=True)


def learned_curves(
    fit,
    network: str | None = None,
    *,
    bands: str | Bootstrap | None = "laplace",
    level: float = 0.9,
    points: int = 60,
    model: Model | None = None,
) -> Curves:
    """The learned functions of a fit or a posterior: every output of its networks over every input, inside the region that the data visited.

    Parameters
    ----------
    fit : a fit of a model with networks or other learned terms, or the posterior of ``nlme.sample``
    network : field of one of them; all by default
    bands : "laplace", a bootstrap of the fit, or None; of a posterior those of its draws
    level : 0.5, 0.8, 0.9 or 0.95, of the bands
    points : on each curve; of a network of one input in a posterior, the points where its draws were kept
    model : of a posterior whose network has several inputs: the model that was sampled

    Returns
    -------
    Curves

    Raises
    ------
    ModelError
        No network, or none of that name; another level.
    FitError
        Bands by Laplace where nothing is known of the curvature: more parameters than subjects, and no Hessian was made; several inputs in a
        posterior that was approximated by Laplace's method, of which only the values at the inputs visited mean something.
    """
    if level not in _LEVELS:
        raise ModelError(f"learned_curves: level is one of {', '.join(map(str, _LEVELS))}; got {level!r}.")
    require_whole("learned_curves", "points", points, 2)
    if hasattr(fit, "posterior"):
        return _of_posterior(fit, network, level, points, model)
    require_fit(fit, "learned_curves")
    asked = visited(fit, network)
    own = {name: moves(fit, name) for name in asked}
    covariance = covariance_of(fit) if bands == "laplace" and any(own.values()) else None
    found, told = [], [] if covariance is None else [covariance.source]
    for name, seen in asked.items():
        net = learned_terms(fit.model)[name]
        for k, label in enumerate(labels(net.inputs, seen.shape[1])):
            x, at = _across(seen, k, points)
            y, *band = _banded(fit, name, at, covariance, bands if own[name] else None, level)
            found += _of_outputs(name, label, labels(net.outputs, y.shape[1], "output"), x, y, band, seen[:, k])
    held = [name for name, estimated in own.items() if not estimated]
    words = _words(fit, bands if any(own.values()) else None, level, told)
    words += f"; the weights of {', '.join(held)} were held, so that nothing is known of their errors" if held else ""
    open_ = list(dict.fromkeys(c.network for c in found if c.upper is not None and not np.isfinite(c.upper).all()))
    words += f"; without end where the data leave {', '.join(open_)} open" if open_ else ""
    return Curves(tuple(found), words)


def _across(seen: np.ndarray, k: int, points: int) -> tuple[np.ndarray, np.ndarray]:
    """Values (points,) of input k over what was seen (M, n), and inputs (points, n) with the others at their medians; of an input with
    two values these, and the more common one."""
    sides = [np.unique(column, return_counts=True) for column in seen.T]
    typical = [v[np.argmax(n)] if len(v) <= 2 else np.median(column) for (v, n), column in zip(sides, seen.T, strict=True)]
    values = sides[k][0]
    x = values if len(values) <= 2 else np.linspace(values[0], values[-1], points)
    return x, np.where(np.arange(seen.shape[1]) == k, x[:, None], typical)


def _of_outputs(name: str, label: str, outputs, x, y, band, asked) -> list[Curve]:
    """A curve of each output, of values and band (points, outputs)."""
    low, high = band
    return [Curve(name, label, str(out), x, y[:, j], _of(low, j), _of(high, j), asked) for j, out in enumerate(outputs)]


def _of_posterior(posterior, network: str | None, level: float, points: int, model: Model | None) -> Curves:
    kept = getattr(posterior, "learned_functions", {})
    known = [name for name in kept if f"{name}_inputs" in kept]
    if not known:
        raise ModelError(
            "learned_curves: the posterior has no learned function; the model that was sampled has no network with free weights."
        )
    if network is not None and network not in known:
        raise ModelError(name_error("network", network, known, "The posterior"))
    found, tails = [], [0.5 * (1 - level), 0.5, 0.5 * (1 + level)]
    for name in known if network is None else [network]:
        seen, inputs, outputs = (np.asarray(kept[f"{name}_{part}"]) for part in ("inputs", "input", "output"))
        several = _drawn(posterior, model, name, len(inputs)) if len(inputs) > 1 else None
        for k, label in enumerate(inputs):
            if several is None:
                order = np.argsort(seen[:, 0])
                x, draws = seen[order, 0], np.asarray(kept[name]).reshape(-1, *kept[name].shape[2:])[:, order]
            else:
                x, at = _across(seen, k, points)
                draws = np.asarray(_answers(several, jnp.asarray(at)))
            low, y, high = np.quantile(draws, tails, axis=0)
            found += _of_outputs(name, str(label), outputs, x, y, (low, high), seen[:, k])
    return Curves(tuple(found), f"medians and {100 * level:g} % credible bands, pointwise (posterior)")


def _drawn(posterior, model: Model | None, name: str, inputs: int):
    """A network with a leading axis of some of the draws on its weights."""
    from nlme.posterior.models import posterior_models

    if model is None:
        raise ModelError(
            f"learned_curves: {name} has {inputs} inputs, and a posterior does not hold its model: give model=, the one that was sampled."
        )
    if posterior.attrs.get("weights") == "laplace":
        raise FitError(
            f"learned_curves: draws of weights by Laplace's method mean something at the inputs visited only, and {name} has {inputs}; "
            "look at posterior.learned_functions."
        )
    networks = learned_terms(posterior_models(model, posterior))[name]
    count = len(jax.tree.leaves(eqx.filter(networks, eqx.is_array))[0])
    some = np.unique(np.linspace(0, count - 1, min(count, _DRAWS)).astype(int))
    return jax.tree.map(lambda x: x[some] if eqx.is_array(x) else x, networks)


@eqx.filter_jit
def _answers(networks, at):
    """(D, points, outputs) of a network at every draw, at inputs (points, n)."""
    return eqx.filter_vmap(lambda network: jax.vmap(network.outputs_at)(at))(networks)


def _words(fit: Fit, bands, level: float, source: list[str]) -> str:
    if bands is None:
        return "estimate with a penalty" if fit.penalty else "maximum-likelihood estimate"
    how = ", ".join(source) if bands == "laplace" else bands.words
    return f"{100 * level:g} % confidence bands, pointwise ({how})"


def _banded(fit: Fit, name: str, at: np.ndarray, covariance, bands, level: float):
    """The outputs (points, outputs) at inputs (points, n), and their bands."""
    y, slopes = outputs_of(fit, name, at)
    if covariance is not None:
        half = NormalDist().inv_cdf(0.5 + 0.5 * level) * standard_errors(slopes, covariance)
        term = learned_terms(fit.model)[name]
        return y, *(term.output.band(y, half, at) if isinstance(term, Correction) else (y - half, y + half))
    if bands is None:
        return y, None, None
    if not isinstance(bands, Bootstrap):
        raise ModelError(f'learned_curves: bands is "laplace", a bootstrap of the fit, or None; got {bands!r}.')
    draws = bands.fits.u[bands.fits.converged]
    replicates = np.stack(
        [np.asarray(_outputs(fit.inventory, fit.model, name, jnp.asarray(u), jnp.asarray(at))[0]) for u in draws]
    )
    low, high = np.quantile(replicates, [0.5 * (1 - level), 0.5 * (1 + level)], axis=0)
    return y, low, high


def outputs_of(fit: Fit, name: str, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A network's outputs (M, outputs) at inputs (M, n), and their derivatives in the free parameters (M, outputs, P)."""
    u = fit.inventory.unconstrained(fit.model)
    y, slopes = _outputs(fit.inventory, fit.model, name, u, jnp.asarray(at))
    return np.asarray(y), np.asarray(slopes)


@eqx.filter_jit
def _outputs(inventory, model, name: str, u, at):
    """Outputs (points, outputs), and their derivatives in the free parameters (points, outputs, P)."""

    def of(u):
        net = learned_terms(inventory.at_unconstrained(model, u))[name]
        return jax.vmap(net.outputs_at)(at)

    return of(u), jax.jacfwd(of)(u)


def _of(band, j: int):
    return None if band is None else band[:, j]
