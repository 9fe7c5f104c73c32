"""Learned terms whose inputs are covariates get their standardisation from the first population that the model meets.

An input counts if every call of the term makes it of covariates alone (as they are, or a function of them: ``jnp.log(cov.wt)``),
or of nothing at all.  Its center and scale are the mean and standard deviation of the values that the term is asked at the
subjects' first records; where these are all alike, at all records.  Inputs of random effects, parameters, states or the time
stay as they are, and so does what the declaration gave.  The numbers are part of the model from then on: another population does
not change them.
"""

from __future__ import annotations

import equinox as eqx
import numpy as np

from nlme.data.population import Population
from nlme.errors import ModelError
from nlme.language.anatomy import Anatomy
from nlme.language.asked import sources, values_of
from nlme.language.model import Model
from nlme.language.parameter_rows import told_by
from nlme.neural.correction import Correction, labels
from nlme.neural.term import learned_terms

_FAR = 5.0  # a mean or standard deviation at which a network saturates
_RAW = (0.0, 1.0), (None, None)


def standardised(model: Model, anatomy: Anatomy, population: Population) -> Model:
    """``model`` with the numbers by which its terms standardise their inputs, those of ``population`` where it has none yet.

    Raises
    ------
    ModelError
        An input is the same everywhere, or no number somewhere.
    """
    terms = _unwritten(model)
    if not terms:
        return model
    wanted = _of_covariates(model, anatomy, terms)
    seen = _seen(model, anatomy, population, wanted) if wanted else {}
    new = [term.written(seen.get(name, {})) for name, term in terms.items()]
    return eqx.tree_at(lambda m: list(_unwritten(m).values()), model, new)


def require_written(model: Model, written: Model) -> None:
    """Refuse a model whose terms correct something by inputs whose standardisation is not known: ``written`` is it with some.

    Raises
    ------
    ModelError
        There is such a term.
    """
    after = learned_terms(written)
    for name, term in _unwritten(model).items():
        numbers = [
            (k, after[name].center[k]) for k in term.unwritten if (after[name].center[k], after[name].scale[k]) != (0.0, 1.0)
        ]
        if numbers and term.corrects:
            listed = ", ".join(labels(term.inputs, term.n_inputs)[k] for k, _ in numbers)
            raise ModelError(
                f"{type(model).__name__}.{name} has weights, and nothing says how its inputs {listed} are standardised. Give center= and "
                f"scale= where it is declared, or take the model of a fit or of nlme.evaluate(model, population), which carries "
                f"the numbers."
            )


def far_inputs(model: Model, anatomy: Anatomy, population: Population) -> dict[str, tuple[float, float]]:
    """ "net, input wt" -> mean and standard deviation of an input that no numbers standardise, where these leave [-5, 5].

    Looked at is what can be known without solving the equations: what is asked of subjects without random effects at their first
    records, states and time apart.
    """
    raw = {
        name: [k for k in range(term.n_inputs) if (term.center[k], term.scale[k]) in _RAW] for name, term in _terms(model).items()
    }
    if not any(raw.values()):
        return {}
    asked: dict[str, dict[int, list[int]]] = {}
    for name, calls in sources(model, anatomy).items():
        found = {k: [c for c, call in enumerate(calls) if call[k].covariates and not call[k].moving] for k in raw.get(name, ())}
        asked[name] = {k: own for k, own in found.items() if own}
    if not any(asked.values()):
        return {}
    said = {}
    for name, inputs in _at_first(model, anatomy, population, asked).items():
        names = labels(_terms(model)[name].inputs, _terms(model)[name].n_inputs)
        for k, values in inputs.items():
            mean, sd = float(np.mean(values)), float(np.std(values))
            if max(abs(mean), sd) > _FAR:
                said[f"{name}, {names[k]}"] = mean, sd
    return said


def _terms(model: Model) -> dict[str, Correction]:
    return {name: term for name, term in learned_terms(model).items() if isinstance(term, Correction)}


def _unwritten(model: Model) -> dict[str, Correction]:
    return {name: term for name, term in _terms(model).items() if term.unwritten}


def _of_covariates(model: Model, anatomy: Anatomy, terms: dict[str, Correction]) -> dict[str, dict[int, list[int]]]:
    """Term -> its inputs that are made of covariates alone and have no numbers yet -> the calls that do make them of
    covariates."""
    found = {}
    for name, calls in sources(model, anatomy).items():
        if name in terms:
            pure = [k for k in terms[name].unwritten if not any(call[k].effects or call[k].other for call in calls)]
            asking = {k: [c for c, call in enumerate(calls) if call[k].covariates] for k in pure}
            found[name] = {k: own for k, own in asking.items() if own}
    return {name: inputs for name, inputs in found.items() if inputs}


def _seen(model: Model, anatomy: Anatomy, population: Population, wanted) -> dict[str, dict[int, np.ndarray]]:
    """The values of the inputs that are wanted, at first records where these differ."""
    first, every = _at_first(model, anatomy, population, wanted), None
    for name, inputs in first.items():
        for k, values in inputs.items():
            if not np.all(np.isfinite(values)):
                _refuse(model, name, k, "is not a finite number for every subject")
            if _alike(values):
                every = every or _at(model, anatomy, population, [told_by(s, anatomy) for s in population], wanted)
                inputs[k] = every[name][k]
            if _alike(inputs[k]):
                _refuse(model, name, k, f"is {values[0]:g} in every record, so that it can learn nothing from it")
    return first


def _at_first(model: Model, anatomy: Anatomy, population: Population, wanted):
    return _at(model, anatomy, population, [told_by(s, anatomy)[:1] for s in population], wanted)


def _at(model: Model, anatomy: Anatomy, population: Population, told: list[np.ndarray], wanted):
    """What is asked of subjects who are ``told`` (m_i, k) these, of the first subpopulation."""
    rows = np.concatenate(told)
    owner = np.repeat(np.arange(len(told)), [len(own) for own in told])
    features = {name: np.stack([s.features[name] for s in population])[owner] for name in anatomy.features}
    rows = np.hstack([rows, np.zeros((len(rows), int(bool(anatomy.mixture))))])
    return values_of(model, anatomy, rows, features, wanted)


def _alike(values: np.ndarray) -> bool:
    return not np.std(values) > 1e-12 * max(1e-300, float(np.max(np.abs(values))))


def _refuse(model: Model, name: str, k: int, why: str) -> None:
    term = learned_terms(model)[name]
    label = labels(term.inputs, term.n_inputs)[k]
    raise ModelError(
        f"{type(model).__name__}.{name}: its input {label!r} {why}. Leave the input out, or say how it is standardised, "
        f"center= and scale=, where the term is declared."
    )
