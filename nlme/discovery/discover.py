"""Discovery: which short expression a network has learned, with the probability of each term.

The network's output y at the M inputs that the data visited is known with a covariance S = J C J' (C the covariance of the weights,
J the derivative of the outputs in them), S* with the smaller half of its variances made equal to their median. Of every set of up to ``most`` candidate terms the coefficients are those of generalised
least squares, and the sets are compared by

    BIC(set) = (y - T c)' (S* + e I)^-1 (y - T c) + (size of the set) log n

n the number of observations; half saturations count as one more. The same is done with draws y_r ~ N(y, S), or with those of a
posterior, whose mean and covariance are y and S: the share of draws whose best set holds a term is that term's probability, and its
coefficient is that in these draws. Sources: Brunton, Proctor & Kutz (2016), doi:10.1073/pnas.1517384113 (sparse
regression on a library); Rackauckas et al. (2020), arXiv:2001.04385 (of a term learned inside a model); Dandekar et al. (2020), arXiv:2012.07244 (over draws of a Bayesian one).
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from nlme.discovery.functions import Functions, of_posterior, only_network, require_one_output
from nlme.discovery.terms import Expression, Term, names_of, polynomials, saturating
from nlme.errors import FitError, ModelError
from nlme.fitting.result import require_fit
from nlme.language.model import Model
from nlme.learning.curves import outputs_of
from nlme.learning.spread import covariance_of, moves, standard_errors
from nlme.neural.term import learned_terms
from nlme.parameters.domains import require_whole
from nlme.simulation.visited import visited
from nlme.tables.shown import Panel, Shown, numbers_shown

_POINTS = 60  # at which expressions are compared
_NOISE = 1e-2  # of the output's spread: smaller differences between expression and network do not matter
_MOST_SETS = 20_000
_TOLD = 1e-6  # of the largest variance of a function in a direction: with less it is held by its form
_ALIKE = 1e-6  # sine of the angle between two terms that are one


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Discovery(Shown):
    """What a network has learned, in terms.

    Attributes
    ----------
    source, network : the fit or the posterior, and whose network
    terms : every candidate
    probabilities : name of a form of term -> share of the draws that hold it
    sets : sets of forms, with the share of the draws that chose each, most frequent first
    coefficients : name of a form -> (k,) its coefficient in each of the draws that hold it
    expression : the best set's expression at the estimate, with coefficients
    misfit : root mean square over the inputs visited of the difference of the expression from the network, in standard errors of the
        learned function there (of which 1 % of its spread is the least)
    same : candidate -> another one of which it is a multiple at all inputs visited, which stands for both
    """

    source: Any
    network: str
    terms: tuple[Term, ...]
    probabilities: dict[str, float]
    sets: tuple[tuple[tuple[str, ...], float], ...]
    coefficients: dict[str, np.ndarray]
    expression: Expression
    misfit: float
    base: Model | None
    same: dict[str, str] = dataclasses.field(default_factory=dict)

    def model(self) -> Model:
        """The model with the expression in the network's place, its coefficients parameters to be estimated: the fit's, or that at
        the posterior's likeliest draw.

        Raises
        ------
        ModelError
            Discovered in a posterior, of which the model was not given.
        """
        if self.base is None:
            raise ModelError("A posterior does not hold its model: nlme.discover(posterior, model=...) gives .model() one.")
        path = self.network.split(".")
        return eqx.tree_at(lambda m: functools.reduce(getattr, path, m), self.base, self.expression)

    @property
    def text(self) -> str:
        """The expression, as Python."""
        return self.expression.text

    @functools.cached_property
    def table(self):
        """DataFrame: of every form of term that any draw chose its probability, and the median and 90 % interval of its coefficient
        in the draws that hold it."""
        import pandas as pd

        rows = {}
        for name, p in self.probabilities.items():
            if p > 0:
                low, middle, high = np.quantile(self.coefficients[name], [0.05, 0.5, 0.95])
                rows[name] = {"probability": p, "coefficient": middle, "lower": low, "upper": high}
        frame = pd.DataFrame.from_dict(rows, orient="index", columns=["probability", "coefficient", "lower", "upper"])
        return frame.rename_axis("term").sort_values("probability", ascending=False, kind="stable")

    @functools.cached_property
    def sets_table(self):
        """DataFrame: probability of every set of terms that any draw chose, most probable first."""
        import pandas as pd

        rows = [{"set": " + ".join(names), "terms": len(names), "probability": share} for names, share in self.sets]
        return pd.DataFrame(rows, columns=["set", "terms", "probability"]).set_index("set")

    def _exact(self):
        return self.table

    def _panels(self) -> list[Panel]:
        return [numbers_shown(self.table, f"What {self.network} has learned", self._notes)]

    @property
    def _notes(self) -> list[str]:
        chosen = "; ".join(f"{' + '.join(names)}: {share:.0%}" for names, share in self.sets[:4] if share >= 0.005)
        same = "; ".join(f"{one} is a multiple of {other}" for one, other in self.same.items())
        return [
            *([f"At the inputs visited {same}: which of them it is, these data cannot tell."] if same else []),
            f"Expression: {self.text} (differs from the network by {self.misfit:.2g} of its standard errors).",
            f"Sets of terms: {chosen}. Probabilities: share of draws of the learned function whose best set holds the term; "
            f"coefficients: median and 90 % interval in these draws.",
        ]

    def __repr__(self) -> str:
        body = self.table.to_string(float_format=lambda x: f"{x:.2f}")
        return "\n".join([f"What {self.network} has learned", body, *self._notes])


def discover(
    fit,
    network: str | None = None,
    *,
    model: Model | None = None,
    library: Sequence[Term] | None = None,
    degree: int = 2,
    most: int = 3,
    draws: int = 200,
    seed: int = 0,
) -> Discovery:
    """The expression of few terms that a network has learned, over the inputs that the data visited.

    Parameters
    ----------
    fit : a fit of a model with a network of one output; or the posterior of ``nlme.sample``, whose own draws are read then
    network : its field, where there are several
    model : of a posterior, for ``.model()`` of what is found
    library : candidate terms; by default polynomials up to ``degree`` and Hill terms of each input that is not negative
    most : terms in one expression
    draws, seed : of the learned function

    Returns
    -------
    Discovery
        ``.table`` has the probability of each term, and its coefficient given that it is there; ``.sets_table`` that of each set of
        terms.  ``.model()`` is a model with the expression in the network's place, to be fitted and compared like any other.

    Raises
    ------
    ModelError
        No network, several and none named, more than one output, a library of which there are too many sets.
    FitError
        Neither a fit nor a posterior; nothing is known of the curvature, so that the learned function has no distribution.
    """
    for word, value, least in (("draws", draws, 1), ("degree", degree, 1), ("most", most, 1)):
        require_whole("nlme.discover", word, value, least)
    require_whole("nlme.discover", "seed", seed, 0)
    if library is not None and not (len(library) and all(isinstance(term, Term) for term in library)):
        raise ModelError(f"nlme.discover: library= holds terms (nlme.discovery.terms.Term), at least one; got {library!r}.")
    of = of_posterior(fit, network, model, draws) if hasattr(fit, "posterior") else _of_fit(fit, network, draws, seed)
    terms = tuple(polynomials(of.x.shape[1], degree) + saturating(of.x) if library is None else library)
    columns = np.stack([np.broadcast_to(np.asarray(term.at(of.x)), len(of.x)) for term in terms], axis=1)
    alike = _alike(columns)
    same = {terms[k].text(of.names, "half"): terms[j].text(of.names, "half") for k, j in alike.items()}
    terms, columns = tuple(t for k, t in enumerate(terms) if k not in alike), np.delete(columns, list(alike), axis=1)
    names = [term.text(of.names, "half") for term in terms]
    whitened, targets = _whitened(of.covariance, of.functions[0], columns, of.functions)
    best = _best_sets(terms, whitened, targets, most, of.n_observations)
    chosen = [tuple(dict.fromkeys(names[j] for j in own)) for own in best[1:]]
    probabilities = {n: float(np.mean([n in own for own in chosen])) if chosen else float("nan") for n in dict.fromkeys(names)}
    sets = tuple((own, count / max(len(chosen), 1)) for own, count in Counter(chosen).most_common())
    coefficients: dict[str, list] = {}
    for own, target in zip(best[1:], targets[1:], strict=True):
        for j, c in zip(own, np.linalg.lstsq(whitened[:, own], target, rcond=None)[0], strict=True):
            coefficients.setdefault(names[j], []).append(c)
    own = list(best[0])
    estimate = np.linalg.lstsq(whitened[:, own], targets[0], rcond=None)[0]
    expression = Expression(
        tuple(jnp.asarray(c) for c in estimate),
        tuple(jnp.asarray(terms[j].half) for j in own if terms[j].saturating >= 0),
        tuple(terms[j] for j in own),
        of.inputs,
        of.outputs,
    )
    error = np.sqrt(np.maximum(np.diagonal(of.covariance), 0.0) + _floor(of.functions[0]) ** 2)
    misfit = float(np.sqrt(np.mean(((columns[:, own] @ estimate - of.functions[0]) / error) ** 2)))
    held = {name: np.array(values) for name, values in coefficients.items()}
    same = {one: other for one, other in same.items() if one not in names and one != other}
    return Discovery(fit, of.network, terms, probabilities, sets, held, expression, misfit, of.base, same)


def _alike(columns: np.ndarray) -> dict[int, int]:
    """Column -> an earlier one that it is a multiple of."""
    unit = columns / np.maximum(np.linalg.norm(columns, axis=0), 1e-300)
    found: dict[int, int] = {}
    for k in range(columns.shape[1]):
        for j in range(k):
            if j not in found and np.linalg.norm(unit[:, k] - np.sign(unit[:, k] @ unit[:, j]) * unit[:, j]) < _ALIKE:
                found[k] = j
                break
    return found


def _of_fit(fit, network: str | None, draws: int, seed: int) -> Functions:
    """The learned function of a fit, normal with the covariance of its weights."""
    require_fit(fit, "discover")
    found = visited(fit, network)
    name = only_network(list(found), type(fit.model).__name__)
    asked, net, rng = found[name], learned_terms(fit.model)[name], np.random.default_rng(seed)
    x = asked if len(asked) <= _POINTS else asked[np.sort(rng.choice(len(asked), _POINTS, replace=False))]
    outputs, slopes = outputs_of(fit, name, x)
    require_one_output(name, outputs.shape[1])
    if not moves(fit, name):
        raise FitError(f"discover: the weights of {name} were held in this fit, so that nothing is known of what they might be.")
    spread = covariance_of(fit)
    if not np.isfinite(standard_errors(slopes, spread)).all():
        raise FitError(
            f"discover: the data leave {name} open, as they do where inputs of it go together or nothing holds its weights: give the fit "
            "a penalty, or the network fewer inputs."
        )
    y, root = outputs[:, 0], slopes[:, 0] @ _root(spread.covariance)
    functions = np.vstack([y, y + rng.normal(size=(draws, root.shape[1])) @ root.T])
    return Functions(name, x, names_of(net), net.inputs, net.outputs, functions, root @ root.T, fit.n_observations, fit.model)


def _root(covariance: np.ndarray) -> np.ndarray:
    """R with R R' the covariance."""
    values, vectors = np.linalg.eigh(covariance)
    return vectors * np.sqrt(np.maximum(values, 0.0))


def _whitened(covariance: np.ndarray, y: np.ndarray, columns: np.ndarray, functions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Columns (M, T) and functions (R, M) in coordinates in which the learned function's error is white.

    In directions in which its weights cannot move it, or a penalty keeps them from it, the function is not better known than in the
    others: there it is what its form makes of it.  They count with the median of the variances of those that it can move in.
    """
    values, vectors = np.linalg.eigh(covariance)
    least = np.median(values[values >= _TOLD * values[-1]])
    half = vectors / np.sqrt(np.maximum(values, least) + _floor(y) ** 2)
    return half.T @ columns, functions @ half


def _floor(y: np.ndarray) -> float:
    """The least that counts as an error of the learned function ``y``."""
    return _NOISE * max(np.std(y), 1e-8 * max(1.0, float(np.max(np.abs(y)))))


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
