"""Discovery: which short expression a network has learned, with the probability of each term.

The network's output y at the M inputs that the data visited is known with a covariance S = J C J' (C the covariance of the weights,
J the derivative of the outputs in them). Of every set of up to ``most`` candidate terms the coefficients are those of generalised
least squares, and the sets are compared by

    BIC(set) = (y - T c)' (S + e I)^-1 (y - T c) + (size of the set) log n

n the number of observations; half saturations count as one more. The same is done with draws y_r ~ N(y, S): the share of draws whose
best set holds a term is that term's probability. Sources: Brunton, Proctor & Kutz (2016), doi:10.1073/pnas.1517384113 (sparse
regression on a library); Rackauckas et al. (2020), arXiv:2001.04385 (of a term learned inside a model).
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections import Counter
from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from nlme.discovery.terms import Expression, Term, names_of, polynomials, saturating
from nlme.errors import ModelError
from nlme.fitting.result import Fit, require_fit
from nlme.language.model import Model
from nlme.learning.curves import covariance_of, outputs_of
from nlme.neural.term import learned_terms
from nlme.simulation.visited import visited
from nlme.tables.shown import Panel, Shown, numbers_shown

_POINTS = 60  # at which expressions are compared
_NOISE = 1e-2  # of the output's spread: smaller differences between expression and network do not matter
_MOST_SETS = 20_000


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Discovery(Shown):
    """What a network has learned, in terms.

    Attributes
    ----------
    fit, network : whose
    terms : every candidate
    probabilities : name of a form of term -> share of the draws that hold it
    sets : sets of forms, with the share of the draws that chose each, most frequent first
    expression : the best set's expression at the estimate, with coefficients
    misfit : root mean square difference of the expression from the network, in standard errors of the learned function (of which
        1 % of its spread is the least).  A constant that other parameters of the model can take over is not missed
    """

    fit: Fit
    network: str
    terms: tuple[Term, ...]
    probabilities: dict[str, float]
    sets: tuple[tuple[tuple[str, ...], float], ...]
    expression: Expression
    misfit: float

    def model(self) -> Model:
        """The fit's model with the expression in the network's place, its coefficients parameters to be estimated."""
        path = self.network.split(".")
        return eqx.tree_at(lambda m: functools.reduce(getattr, path, m), self.fit.model, self.expression)

    @property
    def text(self) -> str:
        """The expression, as Python."""
        return self.expression.text

    @functools.cached_property
    def table(self):
        """DataFrame: probability of every form of term that any draw chose."""
        import pandas as pd

        shown = {name: p for name, p in self.probabilities.items() if p > 0}
        return pd.DataFrame({"probability": shown}).rename_axis("term").sort_values("probability", ascending=False)

    def _exact(self):
        return self.table

    def _panels(self) -> list[Panel]:
        return [numbers_shown(self.table, f"What {self.network} has learned", self._notes)]

    @property
    def _notes(self) -> list[str]:
        chosen = "; ".join(f"{' + '.join(names)}: {share:.0%}" for names, share in self.sets[:4])
        return [
            f"Expression: {self.text} (differs from the network by {self.misfit:.2g} of its standard errors).",
            f"Sets of terms: {chosen}. Probabilities: share of draws of the learned function whose best set holds the term.",
        ]

    def __repr__(self) -> str:
        body = self.table.to_string(float_format=lambda x: f"{x:.2f}")
        return "\n".join([f"What {self.network} has learned", body, *self._notes])


def discover(
    fit: Fit,
    network: str | None = None,
    *,
    library: Sequence[Term] | None = None,
    degree: int = 2,
    most: int = 3,
    draws: int = 200,
    seed: int = 0,
) -> Discovery:
    """The expression of few terms that a network of ``fit`` has learned, over the inputs that the data visited.

    Parameters
    ----------
    fit : a fit of a model with a network of one output
    network : its field, where there are several
    library : candidate terms; by default polynomials up to ``degree`` and Hill terms of each input that is not negative
    most : terms in one expression
    draws, seed : of the learned function

    Returns
    -------
    Discovery
        ``.model()`` is a model with the expression in the network's place, to be fitted and compared like any other.

    Raises
    ------
    ModelError
        No network, several and none named, more than one output, a library of which there are too many sets.
    FitError
        Nothing is known of the curvature, so that the learned function has no distribution.
    """
    require_fit(fit, "discover")
    found = visited(fit, network)
    if len(found) > 1:
        raise ModelError(
            f"{type(fit.model).__name__} has the networks {', '.join(found)}: say which, network={next(iter(found))!r}."
        )
    ((name, asked),) = found.items()
    net = learned_terms(fit.model)[name]
    rng = np.random.default_rng(seed)
    x = asked if len(asked) <= _POINTS else asked[np.sort(rng.choice(len(asked), _POINTS, replace=False))]
    outputs, slopes = outputs_of(fit, name, x)
    if outputs.shape[1] != 1:
        raise ModelError(f"discover reads networks of one output; {name} has {outputs.shape[1]}.")
    y, slopes = outputs[:, 0], slopes[:, 0]
    terms = tuple(polynomials(x.shape[1], degree) + saturating(x) if library is None else library)
    columns = np.stack([np.broadcast_to(np.asarray(term.at(x)), len(x)) for term in terms], axis=1)
    names = [term.text(names_of(net), "half") for term in terms]
    root = slopes @ _root(covariance_of(fit))
    functions = np.vstack([y, y + rng.normal(size=(draws, root.shape[1])) @ root.T])
    whitened, targets = _whitened(root, y, columns, functions)
    best = _best_sets(terms, whitened, targets, most, fit.n_observations)
    chosen = [tuple(dict.fromkeys(names[j] for j in own)) for own in best[1:]]
    probabilities = {n: float(np.mean([n in own for own in chosen])) if chosen else float("nan") for n in dict.fromkeys(names)}
    sets = tuple((own, count / max(len(chosen), 1)) for own, count in Counter(chosen).most_common())
    own = list(best[0])
    coefficients = np.linalg.lstsq(whitened[:, own], targets[0], rcond=None)[0]
    expression = Expression(
        tuple(jnp.asarray(c) for c in coefficients),
        tuple(jnp.asarray(terms[j].half) for j in own if terms[j].saturating >= 0),
        tuple(terms[j] for j in own),
        net.inputs,
        net.outputs,
    )
    misfit = float(np.sqrt(np.mean((whitened[:, own] @ coefficients - targets[0]) ** 2)))
    return Discovery(fit, name, terms, probabilities, sets, expression, misfit)


def _root(covariance: np.ndarray) -> np.ndarray:
    """R with R R' the covariance."""
    values, vectors = np.linalg.eigh(covariance)
    return vectors * np.sqrt(np.maximum(values, 0.0))


def _whitened(root: np.ndarray, y: np.ndarray, columns: np.ndarray, functions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Columns (M, T) and functions (R, M) in coordinates in which the learned function's error is white."""
    floor = _NOISE * max(np.std(y), 1e-8 * max(1.0, float(np.max(np.abs(y)))))
    lower = np.linalg.cholesky(root @ root.T + floor**2 * np.eye(len(y)))
    return np.linalg.solve(lower, columns), np.linalg.solve(lower, functions.T).T


def _best_sets(terms: Sequence[Term], columns: np.ndarray, targets: np.ndarray, most: int, n: int) -> list[tuple[int, ...]]:
    """The set of columns of lowest BIC for each target."""
    sets = [
        s for k in range(1, most + 1) for s in itertools.combinations(range(len(terms)), k) if _sensible([terms[j] for j in s])
    ]
    if len(sets) > _MOST_SETS:
        raise ModelError(
            f"{len(sets)} sets of up to {most} of {len(terms)} terms are too many: a smaller library=, degree= or most=."
        )
    best, lowest = np.zeros(len(targets), int), np.full(len(targets), np.inf)
    for k, own in enumerate(sets):
        basis, _ = np.linalg.qr(columns[:, own])
        left = np.sum(targets**2, axis=1) - np.sum((targets @ basis) ** 2, axis=1)
        size = len(own) + sum(terms[j].saturating >= 0 for j in own)
        bic = left + size * np.log(n)
        best, lowest = np.where(bic < lowest, k, best), np.minimum(bic, lowest)
    return [sets[k] for k in best]


def _sensible(own: list[Term]) -> bool:
    """Not two terms of one form that differ only in where they saturate."""
    return len({t.form for t in own}) == len(own)
