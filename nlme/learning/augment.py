"""The sequential way: from a fit without covariates to a model with a network of them.

    fit without covariates  ->  evidence on every subject's random effects  ->  network and residual Omega  ->  model to refit

The network is trained on what the subjects' data say of their random effects (``nlme.learning.evidence``), by marginal likelihood
(``nlme.learning.regression``), which costs seconds; how strongly its weights are penalised is chosen by cross-validation over
subjects, and whether it pays is said by the same held-out likelihood beside that of typical values alone.

The idea: fit, then regress empirical Bayes estimates, then embed (Pumas' DeepPumas ``augment``, and covariate screening since
Maitre et al. 1991, doi:10.1007/BF01061661). The difference: shrunken modes are not taken for observations.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from nlme.data.population import Population
from nlme.errors import ModelError, name_error
from nlme.fitting.result import Evaluated
from nlme.language.augmented import FIELD, Encoders, Learned, Shift, augmented
from nlme.language.model import Model, covariate_units, feature_shapes
from nlme.language.reading import Reading
from nlme.learning.cross_validation import subject_folds
from nlme.learning.evidence import Evidence, evidence_of
from nlme.learning.held_out import Payoff, scores_of
from nlme.learning.readings import reading_of
from nlme.learning.regression import Regression, by_subject
from nlme.learning.stepwise import left_over, stepwise
from nlme.neural.network import build
from nlme.neural.surface import ResponseSurface, term_of, terms_of
from nlme.neural.term import LearnedTerm
from nlme.parameters.covariance import Covariance
from nlme.parameters.domains import require_whole
from nlme.tables.shown import Panel, Shown, numbers_shown

_MOST_QUADRATIC = 15  # inputs
STRENGTHS = (0.1, 0.3, 1.0, 1.8, 3.0, 5.6, 10.0, 18.0, 30.0, 100.0)
WORTH = (15.14, 10.83, 6.63, 3.84)  # -2 log L that a term has to be worth: p of 0.0001, 0.001, 0.01 and 0.05

LINEAR, QUADRATIC, NETWORK = "linear", "quadratic", "network"


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Augmentation(Shown):
    """A function of covariates learned from a fit's random effects, and the model with it.

    Attributes
    ----------
    model : the model with the network, its Omega what the network leaves unexplained (held out); ready for :func:`nlme.fit`
    outputs : the random effects that are shifted
    candidates : (K,) what was tried: ("network", strength of its penalty), or ("linear" or "quadratic", -2 log likelihood that every
        term has to be worth)
    held_out : (K, N) -2 log likelihood of what each subject's data say of its random effects, by terms that have not seen it; NaN
        for penalties so weak that they were not tried any more
    plain : (N,) the same without a term
    folds : (N,) the fold of every subject
    explained : random effect -> share of its variance that the network explains in people whom it has not seen
    starts : (S,) objective with penalty that each start of the last training reached
    """

    model: Model
    outputs: tuple[str, ...]
    candidates: tuple[tuple[str, float], ...]
    held_out: np.ndarray
    plain: np.ndarray
    folds: np.ndarray
    explained: dict[str, float]
    starts: np.ndarray

    @property
    def scores(self) -> np.ndarray:
        """(K,) held-out -2 log likelihood of all subjects."""
        return scores_of(self.held_out)

    @property
    def best(self) -> tuple[str, float]:
        """The candidate that was chosen: that of the lowest score."""
        return self.candidates[int(np.argmin(self.scores))]

    @property
    def gain(self) -> float:
        """By how much the held-out -2 log likelihood is lower with the network than without."""
        return self._payoff.gain

    @property
    def gain_error(self) -> float:
        """Its standard error, sqrt(N) times the standard deviation of the subjects' differences."""
        return self._payoff.error

    @property
    def pays(self) -> bool:
        """Whether the network predicts the random effects of people whom it has not seen better than typical values do: by more than
        the standard error of the gain (:mod:`nlme.learning.held_out`)."""
        return self._payoff.pays

    @functools.cached_property
    def _payoff(self) -> Payoff:
        return Payoff.of(self.held_out, self.plain)

    @functools.cached_property
    def messages(self) -> list[str]:
        """What there is to say, in words."""
        kind, value = self.best
        subject, how = (
            ("network", f"penalty of strength {value:g}") if kind == NETWORK else ("shift", f"each term worth {value:g}")
        )
        found = [
            f"{self._payoff.verdict(subject, several=False)}: held out, -2 log likelihood of the random effects is {self._payoff.size} "
            f"than without it ({kind}, {how})."
        ]
        if kind != NETWORK:
            found.append(f"Terms chosen: {self.model.shift.term.form}.")
        tried = [number for name, number in self.candidates if name == NETWORK]
        if self.pays and kind == NETWORK and len(tried) > 1 and value in (min(tried), max(tried)):
            which = "weakest" if value == min(tried) else "strongest"
            found.append(f"The penalty chosen is the {which} that was tried; a better one may lie beyond: strengths=(...).")
        return found

    @functools.cached_property
    def table(self):
        """DataFrame, one row per candidate: held-out -2 log likelihood, difference from that without the network with its SE."""
        import pandas as pd

        difference = self.held_out - self.plain
        columns = {
            "held-out -2LL": self.held_out.sum(axis=1),
            "from without": difference.sum(axis=1),
            "SE": np.sqrt(difference.shape[1]) * np.std(difference, axis=1, ddof=1),
        }
        names = [f"{kind}, {'penalty' if kind == NETWORK else 'terms worth'} {value:g}" for kind, value in self.candidates]
        return pd.DataFrame(columns, index=pd.Index(names, name="candidate"))

    def _exact(self):
        return self.table

    def _panels(self) -> list[Panel]:
        return [numbers_shown(self.table, self._title, [self._shares, *self.messages])]

    @property
    def _title(self) -> str:
        return f"{type(self.model).__name__}: covariates shift {', '.join(self.outputs)}"

    @property
    def _shares(self) -> str:
        return f"Variance explained: {', '.join(f'{name} {100 * share:.0f} %' for name, share in self.explained.items())}."

    def __repr__(self) -> str:
        lines = [self._title, self.table.to_string(float_format=lambda x: f"{x:.2f}"), f"  {self._shares}"]
        return "\n".join([*lines, *(f"  {m}" for m in self.messages)])


class _Best(NamedTuple):
    """What a kind of term comes to: its scores (K, N) and the Omega that it leaves (units of the fit), held out; from all subjects its
    shift, and what its starts reached."""

    candidates: tuple[tuple[str, float], ...]
    held_out: np.ndarray
    omega: Covariance
    finish: Callable[[], tuple[Shift, np.ndarray]]


def augment(
    fit: Evaluated,
    network: Any = None,
    *,
    inputs: Sequence[str],
    to: Sequence[str] | None = None,
    encoders: Mapping[str, Any] | None = None,
    reduce: str | None = "pca",
    components: int = 10,
    strengths: Sequence[float] = STRENGTHS,
    folds: int = 5,
    by: str = "subject",
    starts: int = 4,
    seed: int = 0,
) -> Augmentation:
    """A network of covariates trained on what a fit says of its subjects' random effects, embedded into the fit's model.

    ``individual(eta, cov)`` of the model becomes that of eta + f(cov). Then ``nlme.fit(found.model, population, fixed=["shift"])``
    refits Omega and the other parameters at given weights, and without ``fixed`` all together (with a penalty such as
    ``nlme.L2(found.best[1])``). On average over the subjects f is zero: typical values stay those of the fit until then.

    Parameters
    ----------
    fit : of a model without these covariates, by a method with modes
    network : "linear" or "quadratic" (linear, squared and product terms), the terms chosen stepwise and how much each has to be
        worth by cross-validation; options of
        :func:`nlme.mlp` (``dict(width=16, depth=2)``); or a function of a key that makes a term or an Equinox module from the vector of
        inputs to the outputs. By default all three are tried, the network with one hidden layer of 8 units, and cross-validation chooses
    inputs : names of covariates (their value at a subject's first record) and features (``Population.with_features``)
    to : the random effects that the network shifts; all of the subject's by default
    encoders : features -> Equinox module from their array to a vector (a convolutional encoder of images), or a function of a key
        that makes one; trained with the network
    reduce, components : how other features become few numbers: "pca", "random" projection, or None, all of them
    strengths : of the network's penalty ``strength`` x sum of squared weights, on the scale of -2 log L, that are tried
    folds, by : of the cross-validation, as in :func:`nlme.cross_validate`
    starts : keys from which the network begins; the best counts
    seed : of folds, keys and projections

    Raises
    ------
    ModelError
        No such covariate or random effect, a model or method without random effects of each subject, an output of another size.
    DataError
        Fewer subjects than folds.
    """
    for word, value, least in (("starts", starts, 1), ("components", components, 1), ("seed", seed, 0)):
        if value is not None:
            require_whole("augment", word, value, least)
    evidence = evidence_of(fit)
    outputs, strengths, encoders = _outputs(evidence, to), _strengths(strengths), _encoded(fit, encoders, inputs)
    if any(f.name == FIELD for f in dataclasses.fields(fit.model)):
        raise ModelError(f"augment: {type(fit.model).__name__} has a field {FIELD!r} already, the name of what is added here.")
    reading = reading_of(fit.population, inputs, reduce, components, tuple(encoders), seed)
    fold = subject_folds(fit.population, folds, by, seed)
    task = _Task(
        evidence, reading, _told(reading, fit.population), fit.population.features, outputs, encoders, fold, fit.population.hash
    )
    keys = jax.random.split(jax.random.key(seed), starts)
    kinds = _kinds(network, task)
    tried = [_stepwise(task, kind) for kind in kinds if kind != NETWORK]
    if NETWORK in kinds:
        tried.append(_network(task, network, strengths, keys))
    held = np.concatenate([one.held_out for one in tried])
    plain, omega = task.judged(np.zeros_like(evidence.h))
    best = tried[int(np.argmin([scores_of(one.held_out).min() for one in tried]))]
    shift, reached = best.finish()
    model = augmented(eqx.tree_at(lambda m: m.random(), fit.model, task.natural(best.omega)), shift, _declared(fit, reading))
    shares = {name: 1.0 - float(best.omega.sd[k] / omega.sd[k]) ** 2 for k, name in enumerate(evidence.names) if name in outputs}
    candidates = tuple(candidate for one in tried for candidate in one.candidates)
    return Augmentation(model, outputs, candidates, held, plain, fold, shares, reached)


@dataclasses.dataclass(frozen=True, eq=False)
class _Task:
    """What is regressed on what."""

    evidence: Evidence
    reading: Reading
    told: Any
    shapes: Mapping[str, tuple[int, ...]]
    outputs: tuple[str, ...]
    encoders: Mapping[str, Any]
    fold: np.ndarray
    learned_from: str

    @property
    def count(self) -> int:
        """Numbers in the vector of inputs."""
        return self.told[0].shape[1]

    @property
    def to(self) -> np.ndarray:
        return np.array([self.evidence.names.index(name) for name in self.outputs])

    @property
    def seen(self) -> np.ndarray:
        """(F, N) whom each fold's training sees."""
        return np.stack([self.fold != f for f in range(int(self.fold.max()) + 1)])

    @property
    def own(self) -> tuple[np.ndarray, np.ndarray]:
        """Where the values of every subject by the fold that has not seen it stand in (F, N)."""
        return self.fold, np.arange(len(self.fold))

    @functools.cached_property
    def unit(self) -> Covariance:
        """The fit's Omega in its own standard deviations."""
        return dataclasses.replace(self.evidence.omega, sd=jnp.ones(len(self.evidence.names)))

    def natural(self, unit: Covariance) -> Covariance:
        """A covariance in the fit's standard deviations, on the scale of the random effects."""
        return dataclasses.replace(unit, sd=unit.sd * self.evidence.omega.sd, per=self.evidence.omega.per)

    def shift(self, term, within: Encoders | None, middle) -> Shift:
        sd = tuple(float(self.evidence.sd[k]) for k in self.to)
        return Shift(term, within, self.reading, self.outputs, sd, tuple(float(x) for x in middle), self.learned_from)

    def standard(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Center and scale of ``count`` inputs, of which those of the vector are standardised."""
        center, scale = np.zeros(count), np.ones(count)
        center[: self.count], spread = np.mean(self.told[0], axis=0), np.std(self.told[0], axis=0)
        scale[: self.count] = np.where(spread > 0, spread, 1.0)
        return center, scale

    def judged(self, f: np.ndarray) -> tuple[np.ndarray, Covariance]:
        """(N,) -2 log L of every subject by shifts that have not seen it (N, q), and the Omega that they leave.

        Omega is of these very people: one that a network leaves of those that it was trained on would be too small.
        """
        h, A = self.evidence.h, self.evidence.A
        omega = left_over(h, A, f, self.unit)
        return np.asarray(by_subject(jnp.asarray(f), omega, jnp.asarray(h), jnp.asarray(A))), omega


def _stepwise(task: _Task, kind: str) -> _Best:
    """Linear terms, or linear, squared and product terms, chosen stepwise; what each has to be worth by cross-validation."""
    labels, (center, scale) = task.reading.labels(task.shapes), task.standard(task.count)
    terms, z = terms_of(task.count, 1 if kind == LINEAR else 2), (np.asarray(task.told[0]) - center) / scale
    phi = np.stack([term_of(z, of) for of in terms], axis=1)
    h, A = task.evidence.h, task.evidence.A

    def of(seen):
        return stepwise(h, A, phi, task.to, task.unit, seen, WORTH)

    def shifted(chosen):
        f = np.zeros_like(h)
        f[:, task.to] = chosen.shifts(phi, len(task.to))
        return f

    unseen = np.stack([[shifted(chosen) for chosen in of(seen)] for seen in task.seen])
    fold, own = task.own
    judged = [task.judged(unseen[fold, k, own]) for k in range(len(WORTH))]
    held = np.stack([values for values, _ in judged])
    best = int(np.argmin(scores_of(held)))

    def finish():
        chosen = of(np.ones(len(h), bool))[best]
        at = tuple((o, terms[j]) for j, o in chosen.at)
        term = ResponseSurface(
            jnp.asarray(chosen.weights), at, labels, task.outputs, tuple(center.tolist()), tuple(scale.tolist())
        )
        middle = -chosen.shifts(np.zeros((1, len(terms))), len(task.to))[0]
        return task.shift(term, None, middle), np.zeros(1)

    return _Best(tuple((kind, worth) for worth in WORTH), held, judged[best][1], finish)


def _network(task: _Task, network, strengths, keys) -> _Best:
    """A network, its penalty by cross-validation from the strongest down; two in a row that are worse than the best end it."""
    each = [_begun(task, network, key) for key in keys]
    regression = Regression(task.evidence, each[0], task.told, task.to, Shift.raw)
    begun = np.stack([regression.flat(one) for one in each])
    held, omegas, best, worse = np.full((len(strengths), len(task.fold)), np.nan), {}, np.inf, 0
    for k in np.argsort(strengths)[::-1]:
        found = regression.train(np.tile(begun[0], (len(task.seen), 1)), task.seen, strengths[k])
        held[k], omegas[k] = task.judged(regression.shifted(found, task.seen)[task.own])
        worse = worse + 1 if held[k].sum() > best else 0
        best = min(best, held[k].sum())
        if worse == 2:
            break
    chosen = int(np.argmin(scores_of(held)))

    def finish():
        last = regression.train(begun, np.ones((len(begun), len(task.fold))), strengths[chosen])
        numbers = last.numbers[int(np.argmin(last.value))]
        made = regression.at(numbers)
        return task.shift(made.term, made.encoders, regression.middle(numbers)), last.value

    return _Best(tuple((NETWORK, float(s)) for s in strengths), held, omegas[chosen], finish)


def _kinds(network, task: _Task) -> tuple[str, ...]:
    """What is tried.

    Raises
    ------
    ModelError
        A word that is none, linear or quadratic terms with encoders.
    """
    if isinstance(network, str):
        if network not in (LINEAR, QUADRATIC) or task.encoders:
            raise ModelError(
                f'augment: network is "linear", "quadratic" (both without encoders), options of nlme.mlp or a function of a key; got {network!r}.'
            )
        return (network,)
    if network is not None or task.encoders:
        return (NETWORK,)
    return (LINEAR, QUADRATIC, NETWORK) if task.count <= _MOST_QUADRATIC else (LINEAR, NETWORK)


def _outputs(evidence: Evidence, to) -> tuple[str, ...]:
    to = evidence.names if to is None else (to,) if isinstance(to, str) else tuple(to)
    for name in to:
        if name not in evidence.names:
            raise ModelError("augment, to: " + name_error("random effect", str(name), evidence.names))
    if not to or len(set(to)) < len(to):
        raise ModelError(f"augment: to= names random effects, each once; got {to!r}.")
    return to


def _strengths(strengths) -> tuple[float, ...]:
    found = tuple(np.atleast_1d(np.asarray(strengths, dtype=float)).tolist())
    if not found or not all(np.isfinite(s) and s >= 0 for s in found):
        raise ModelError(f"augment: strengths are finite numbers of at least 0; got {strengths!r}.")
    return found


def _told(reading: Reading, population: Population):
    """What the network is told of every subject: (N, n) vectors, and the arrays that encoders take."""
    cov = {
        name: np.stack([s.covariates[name][0] if name in s.covariates else s.features[name] for s in population])
        for name in reading.names
    }
    return jax.jit(jax.vmap(reading.vector))(cov)


def _declared(fit: Evaluated, reading: Reading) -> dict[str, Any]:
    """What the model is to declare of the covariates that the network reads: units, shapes."""
    population, known = fit.population, {**covariate_units(fit.model), **feature_shapes(fit.model)}
    shapes = population.features
    return {n: shapes[n] if n in shapes else population.covariates[n].unit or "" for n in reading.names if n not in known}


def _begun(task: _Task, network, key) -> Shift:
    """A shift whose numbers are the start that ``key`` gives."""
    first, second = jax.random.split(key)
    within, one = _encoders(task.encoders, second), jax.tree.map(lambda x: x[0], task.told)
    extra = 0 if within is None else jax.eval_shape(within, *one).shape[0] - task.count
    labels = (*task.reading.labels(task.shapes), *(f"encoded_{k + 1}" for k in range(extra)))
    term = _term(network, labels, task.outputs, *task.standard(len(labels)), first)
    made = task.shift(term, within, np.zeros(len(task.outputs)))
    given = jax.eval_shape(made.raw, one).shape
    if given != (len(task.outputs),):
        raise ModelError(
            f"augment: the network has to return one number for each of {', '.join(task.outputs)}; it returns shape {given}."
        )
    return made


def _encoded(fit: Evaluated, encoders, inputs) -> dict[str, Any]:
    encoders = dict(encoders or {})
    for name in encoders:
        if name not in inputs or name not in fit.population.features:
            known = [one for one in inputs if one in fit.population.features]
            raise ModelError("augment, encoders: " + name_error("features", str(name), known, "inputs="))
    return encoders


def _encoders(encoders: Mapping[str, Any], key) -> Encoders | None:
    made = [
        one if isinstance(one, eqx.Module) else one(k) for one, k in zip(encoders.values(), _keys(key, encoders), strict=True)
    ]
    return Encoders.of(tuple(made), tuple(encoders))


def _keys(key, of) -> list:
    return list(jax.random.split(key, max(1, len(of))))[: len(of)]


def _term(network, labels, outputs, center, scale, key):
    if callable(network):
        made = network(key)
        return made if isinstance(made, LearnedTerm) else Learned.of(made)
    # a shift is about its mean in any case
    options = dict(width=8, depth=1, initial_scale=0.1, constant=False) | dict(network or {})
    return build(inputs=labels, outputs=outputs, center=center, scale=scale, key=key, **options)
