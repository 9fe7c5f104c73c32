"""What a model is made of, found by tracing its methods once on abstract numbers, with every mistake named."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nlme.data.covariates import CovariateInfo
from nlme.dynamics.diffusion import triangle
from nlme.dynamics.recognition import flows_of
from nlme.errors import ModelError
from nlme.jets.dependence import dependence
from nlme.language.mistakes import in_method, kind_of
from nlme.language.model import Model, covariate_units, feature_shapes
from nlme.language.told import Told, comparisons_refused, covariate_holds, told
from nlme.observation.base import Law, Observation
from nlme.observation.predictive import residual_of
from nlme.parameters.covariance import Covariance, joined
from nlme.parameters.mixture import Mixture
from nlme.structure.base import DOSE_RULES, LinearStructure, Structure, by_name
from nlme.typing import Named

OCCASION, MEMBER = "(occasion)", "(subpopulation)"  # their columns among the covariates; no covariate can have these names


@dataclasses.dataclass(frozen=True)
class Anatomy:
    """What a model is made of, found by calling its methods on abstract values."""

    effects: tuple[str, ...]  # all that reach a subject, its site's last: "cl", "v", "cl_occ[1]", "cl_occ[2]", "cl_site"
    words: tuple[str, ...]  # what individual() sees of them: "cl", "v", "cl_occ", "cl_site"
    by_occasion: int  # how many of these differ between occasions
    covariates: tuple[str, ...]  # numbers that may change in time
    individual: tuple[str, ...]
    states: tuple[str, ...]
    endpoints: tuple[str, ...]
    linear: bool  # closed form or matrix exponential (or no dynamics at all)
    looped: bool  # solved in a loop: not a closed form
    exponential: bool  # equations that are linear, whose matrix exponential may serve
    structure: str  # name of the structure's class
    rules: tuple[str, ...]  # dose rules in use: lag, bioavailability, duration, rate
    algebraic: tuple[str, ...]  # states that have an equation instead of a rate of change
    delays: tuple[str, ...]  # after which the equations look back at the states
    diffusion: tuple[str, ...]  # states with system noise
    event_times: int  # how many times of its own the structure has at which its equations change
    observed: tuple[int, ...]  # positions of what the error model looks at among all that is followed
    inputs: tuple[
        str, ...
    ]  # the individual parameters that the dynamics use; and those of records, where the states are filtered
    carriers: tuple[bool, ...]  # which of those inputs depend on a random effect
    direct: tuple[int, ...]  # elements of the flat population parameters that the dynamics use directly
    laws: tuple[Law, ...] = ()  # endpoint -> what is known of its distribution before any number is
    occasions: tuple[str, ...] = ()  # of the data
    above: str = ""  # column of the data whose values subjects share random effects of: "site"
    by_site: int = 0  # how many these are, the last
    mixture: str = ""  # field with the shares of subpopulations
    subpopulations: tuple[str, ...] = ()
    features: tuple[str, ...] = ()  # arrays that a subject has once; among the covariates they have one row
    shapes: tuple[tuple[int, ...], ...] = ()  # of these

    @property
    def followed(self) -> int:
        """How many numbers the density asks for at a record: the states, of stochastic equations their covariances too."""
        return len(self.states) + (len(triangle(len(self.states))) if self.diffusion else 0)

    @property
    def plain(self) -> bool:
        """Every endpoint is normal on a fixed scale."""
        return all(law.plain for law in self.laws)

    def with_occasions(self, labels: tuple[str, ...]) -> Anatomy:
        """The same model for data with these occasions."""
        written = tuple(f"{word}[{label}]" for label in labels for word in self.occasional)
        return dataclasses.replace(self, occasions=labels, effects=self.words[: self.own] + written + self.shared)

    @property
    def own(self) -> int:
        """How many of ``words``, the first, a subject has once."""
        return len(self.words) - self.by_occasion - self.by_site

    @property
    def occasional(self) -> tuple[str, ...]:
        """The words that differ between occasions."""
        return self.words[self.own : self.own + self.by_occasion]

    @property
    def shared(self) -> tuple[str, ...]:
        """The words that the subjects of a site share."""
        return self.words[len(self.words) - self.by_site :]

    @property
    def inner(self) -> int:
        """How many of ``effects``, the first, belong to the subject itself."""
        return len(self.effects) - self.by_site

    def omega(self, model: Model) -> Covariance | None:
        """Covariance of all random effects that reach a subject."""
        return joined(self.levels(model), self.occasions) if self.by_occasion or self.by_site else model.random()

    def own_omega(self, model: Model) -> Covariance | None:
        """Covariance of the random effects that belong to the subject itself."""
        found = self.levels(model)[: -1 if self.by_site else None]
        return joined(found, self.occasions) if found else None

    def levels(self, model: Model) -> tuple[Covariance, ...]:
        """The covariances of which that is made: per subject, per occasion, per site."""
        found = (
            model.random(),
            model.between_occasions() if self.by_occasion else None,
            model.between_sites() if self.by_site else None,
        )
        return tuple(level for level in found if level is not None)

    def require_variability(self, model: Model, who: str) -> None:
        """Refuse random effects without variance, for ``who`` draws them.

        Raises
        ------
        ModelError
            A variance is exactly 0.
        """
        still = [
            name for level in self.levels(model) for name, sd in zip(level.names, np.asarray(level.sd), strict=True) if sd == 0
        ]
        if still:
            raise ModelError(
                f"{who} draws random effects, and that of {', '.join(still)} has variance 0: leave the effect out of the model."
            )

    def require_certain(self, who: str, model: Model) -> None:
        """Refuse stochastic equations, for ``who`` knows nothing of system noise.

        Raises
        ------
        ModelError
            A state has diffusion.
        """
        if self.diffusion:
            raise ModelError(
                f"{who} knows nothing of system noise, and {type(model).__name__} has diffusion of {', '.join(self.diffusion)}."
            )

    def cholesky(self, model: Model) -> Float[Array, "q q"]:
        """L with L L' = Omega; 0 x 0 without random effects."""
        return self.omega(model).cholesky if self.effects else jnp.zeros((0, 0))

    def at(self, model: Model, eta: Float[Array, " q"], values: dict[str, Any]) -> tuple[Model, Named, Named]:
        """What ``individual`` sees in a row with these ``values``: its model, random effects and covariates."""
        seen = [eta[k] for k in range(self.own)]
        if self.by_occasion:
            here = jnp.arange(len(self.occasions)) == values[OCCASION]
            table = jnp.reshape(eta[self.own : self.inner], (len(self.occasions), self.by_occasion))
            # a sum, not a product with 0 and 1: what does not belong here must not reach here as NaN either
            seen += list(jnp.sum(jnp.where(here[:, None], table, 0.0), axis=0))
        seen += [eta[k] for k in range(self.inner, len(self.effects))]
        cov = {name: values[name] for name in (*self.covariates, *self.features)}
        if self.mixture:
            model = eqx.tree_at(lambda m: getattr(m, self.mixture).member, model, values[MEMBER].astype(int))
        return model, named("random effect", self.words, seen), Named(cov, "covariate")

    def row(self, covariates: Mapping[str, Any], k) -> dict[str, Any]:
        """The k-th row (a number or a traced one) of what is told in every row, with the features, which are the same in all."""
        return {name: value[0 if name in self.features else k] for name, value in covariates.items()}

    def blank(self, made: Callable[[tuple[int, ...]], Any]) -> dict[str, Any]:
        """Covariates and features by name, each what ``made`` makes of its shape."""
        return {name: made(()) for name in self.covariates} | {
            name: made(shape) for name, shape in zip(self.features, self.shapes, strict=True)
        }

    def told_at(self, subject, record: int = 0) -> dict[str, np.ndarray]:
        """Covariates of a subject at one of its records, and its features."""
        told = {name: np.asarray(subject.covariates[name][record], dtype=float) for name in self.covariates}
        return told | {name: subject.features[name] for name in self.features}

    @property
    def table(self) -> tuple[str, ...]:
        """What ``individual`` is told of a record: its covariates, occasion and subpopulation (positions in their lists)."""
        return (*self.covariates, *((OCCASION,) if self.by_occasion else ()), *((MEMBER,) if self.mixture else ()))


def require_determined(structure: Structure) -> None:
    """Refuse algebraic equations that cannot determine their states whatever the numbers are.

    Raises
    ------
    ModelError
        There is no way to give every algebraic state an equation of its own in which it occurs (a DAE of an index above 1, or one
        without a solution).
    """
    places = [structure.states.index(name) for name in structure.algebraic]
    if not places:
        return
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import maximum_bipartite_matching

    number = jax.ShapeDtypeStruct((), jnp.float64)
    reach = dependence(lambda amounts, t: structure.flow(t, tuple(amounts)), [number] * len(structure.states), number)
    occurs = csr_matrix([[reach[i][k] for k in places] for i in places])
    matched = maximum_bipartite_matching(occurs, perm_type="row")
    for name, equation in zip(structure.algebraic, matched, strict=True):
        if equation < 0:
            having = [
                other
                for other, row in zip(structure.algebraic, occurs.toarray(), strict=True)
                if row[structure.algebraic.index(name)]
            ]
            seen = (
                f"it occurs only in what rhs returns for {', '.join(having)}, which other algebraic states need"
                if having
                else (f"it occurs in nothing that rhs returns for {', '.join(structure.algebraic)}")
            )
            raise ModelError(
                f"nlme.ODE: the equations do not determine the algebraic state {name!r}: {seen}. Every algebraic state needs an equation "
                "0 = ... in which it occurs itself; differentiate an equation in time where it constrains other states alone."
            )


def slopes_of(structure: Structure, amounts: tuple) -> tuple:
    """Its slopes at time 0, with these states then and at all times that delays look back to."""
    past = ((amounts,) * len(structure.delays),) if structure.delays else ()
    return structure.flow(jnp.asarray(0.0), amounts, *past)


def named(kind: str, names, values) -> Named:
    return Named(dict(zip(names, values, strict=True)), kind)


def individual_row(model: Model, eta: Named, cov: Named) -> dict[str, Any]:
    """``model.individual`` for one row, checked: a dict of scalars."""
    with in_method(type(model).__name__, "individual"):
        out = model.individual(eta, cov)
    if isinstance(out, Named):
        out = dict(out.items())
    if not isinstance(out, dict) or not out:
        raise ModelError(
            f"{type(model).__name__}.individual must return a dict of individual parameters, such as dict(cl=..., v=...); "
            f"it returned {kind_of(out)}."
        )
    checked = {}
    for name, value in out.items():
        try:
            value = jnp.asarray(value, dtype=jnp.float64)
        except (TypeError, ValueError):
            raise ModelError(f"{type(model).__name__}.individual: {name!r} must be a number; got {kind_of(value)}.") from None
        if value.shape != ():
            raise ModelError(
                f"{type(model).__name__}.individual: {name!r} must be one number per subject; got an array of shape {value.shape} "
                f"(a network returns a vector: take an element, net(...)[0])."
            )
        checked[name] = value
    return checked


def structure_of(model: Model, ind: dict[str, Any]) -> Structure | None:
    """``model.dynamics`` for one row, checked."""
    with in_method(type(model).__name__, "dynamics"):
        structure = _without_member(model).dynamics(Named(ind, "individual parameter", "individual()"))
    if structure is not None and not isinstance(structure, Structure):
        raise ModelError(
            f"{type(model).__name__}.dynamics must return a structure such as nlme.pk.OneCompartment(...) or nlme.ODE(...), "
            f"or None; it returned {kind_of(structure)}."
        )
    return structure


def _without_member(model: Model) -> Model:
    """The model where no one subject is at hand."""
    found = mixtures_of(model)
    return eqx.tree_at(lambda m: getattr(m, found[0]).member, model, None) if found else model


def mixtures_of(model: Model) -> list[str]:
    """Fields of the model that are mixtures; a sound one has at most one."""
    return [f.name for f in dataclasses.fields(model) if isinstance(getattr(model, f.name), Mixture)]


def rows_of(model: Model, anatomy: Anatomy, eta: Float[Array, " q"], covariates: dict[str, Float[Array, " K"]], rows: int):
    """Individual parameters of every parameter row: dict of (K,) arrays."""

    def of_row(values):
        return individual_row(*anatomy.at(model, eta, values))

    if rows == 1:
        return jax.tree.map(lambda x: x[None], of_row(anatomy.row(covariates, 0)))
    once = {name: covariates[name][0] for name in anatomy.features}
    return jax.vmap(lambda values: of_row(values | once))({k: v for k, v in covariates.items() if k not in once})


def used_parameters(function, arrays, *others) -> list[int]:
    """Positions in the flat parameter vector of the leaves of ``arrays`` that reach any output of ``function``."""
    leaves = jax.tree.leaves(arrays)
    reach = dependence(function, arrays, *others)
    used, start = [], 0
    for k, leaf in enumerate(leaves):
        size = int(np.prod(leaf.shape, dtype=int))
        if any(row[k] for row in reach):
            used.extend(range(start, start + size))
        start += size
    return used


def observation_row(
    model: Model, ind: dict[str, Any], names: tuple[str, ...], state: Float[Array, " s"], t
) -> dict[str, Observation]:
    """``model.observe`` for one record, checked: a dict from endpoint to its distribution."""
    with in_method(type(model).__name__, "observe"):
        out = _without_member(model).observe(
            Named(ind, "individual parameter", "individual()"),
            Named(by_name(names, state), "state", "The structure"),
            t,
        )
    if not isinstance(out, dict) or not out:
        raise ModelError(
            f'{type(model).__name__}.observe must return a dict from endpoint to error model, such as {{"conc": '
            f"nlme.additive(f, add=self.add)}}; it returned {kind_of(out)}."
        )
    for name, value in out.items():
        if not isinstance(value, Observation):
            raise ModelError(
                f"{type(model).__name__}.observe: endpoint {name!r} must be an error model (nlme.additive, proportional, "
                f"combined, power, lognormal, ...) or another distribution (nlme.binary, ordered, poisson, ...); got {kind_of(value)}."
            )
        shapes = {part: jnp.shape(number) for part, number in value.parts().items()}
        if any(shapes.values()):
            listed = " and ".join(f"{shape} ({part})" for part, shape in shapes.items())
            raise ModelError(f"{type(model).__name__}.observe: endpoint {name!r} must predict one number; got shapes {listed}.")
    return out


def anatomy_of(model: Model, infos: Mapping[str, CovariateInfo] | None = None) -> Anatomy:
    """Look at a model by tracing each of its methods once, on abstract numbers; ``infos``: what is known of the covariates.

    What was found is kept: a model that differs in its numbers alone is made of the same.

    Raises
    ------
    ModelError
        Any of the methods is missing, misspells a name, takes a number for a word or returns something of the wrong form.
    """
    key = _form(model, infos)
    if key not in _known:
        found = _traced(model, infos)
        while len(_known) >= _KEPT:
            _known.pop(next(iter(_known)))
        _known[key] = found
    return _known[key]


_known: dict[tuple, Anatomy] = {}
_KEPT = 100  # models


def _form(model: Model, infos: Mapping[str, CovariateInfo] | None) -> tuple:
    """All that tracing sees: code, structure, shapes, whatever is no number, and what is known of the covariates."""
    leaves, structure = jax.tree.flatten(model)
    shown = tuple(
        x.shape if eqx.is_inexact_array(x) else (type(x), np.asarray(x).tobytes() if eqx.is_array(x) else _hashed(x))
        for x in leaves
    )
    code = tuple(_hashed(getattr(type(model), name, None)) for name in dir(type(model)) if not name.startswith("__"))
    return type(model), code, _hashed(structure), shown, None if infos is None else repr(sorted(infos.items()))


def _hashed(value):
    """The value, or its text where it has no hash (a dict of covariates)."""
    try:
        hash(value)
    except TypeError:
        return repr(value)
    return value


def _traced(model: Model, infos: Mapping[str, CovariateInfo] | None) -> Anatomy:
    covariates, shapes = tuple(covariate_units(model)), feature_shapes(model)
    with in_method(type(model).__name__, "random"):
        omega = model.random()
    with in_method(type(model).__name__, "between_occasions"):
        between = model.between_occasions()
    with in_method(type(model).__name__, "between_sites"):
        above = model.between_sites()
    for method, found in (("random", omega), ("between_occasions", between), ("between_sites", above)):
        if found is not None and not isinstance(found, Covariance):
            raise ModelError(f"{type(model).__name__}.{method} must return a covariance field; it returned {kind_of(found)}.")
    levels = [level for level in (omega, between, above) if level is not None]
    effects = tuple(name for level in levels for name in level.names)
    for name in effects:
        where = [level.per for level in levels if name in level.names]
        if len(where) > 1:
            raise ModelError(
                f"{type(model).__name__}: random effect {name!r} is declared {' and '.join(f'per {per}' for per in where)}; "
                f"give them two names, such as {name} and {name}_{where[1].replace('occasion', 'occ')}."
            )
    mixtures = mixtures_of(model)
    if mixtures and above is not None:
        raise ModelError(
            f"{type(model).__name__} has subpopulations (nlme.mixture) and random effects per {above.per}; a model has the "
            f"one or the other."
        )
    if len(mixtures) > 1:
        raise ModelError(
            f"{type(model).__name__} has {len(mixtures)} mixtures ({', '.join(mixtures)}); write one, with a subpopulation for "
            "every combination."
        )
    arrays, rest = eqx.partition(model, eqx.is_inexact_array)
    arrays = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, jnp.float64), arrays)
    scalar = jax.ShapeDtypeStruct((), jnp.float64)
    found: dict[str, Any] = {}

    def individual(eta, arrays, cov):
        ind = individual_row(eqx.combine(arrays, rest), named("random effect", effects, eta), Named(cov, "covariate"))
        found["individual"] = tuple(ind)
        return list(ind.values())

    effect_holds = "a random effect, zero on average"
    with comparisons_refused():
        cov = told("cov", covariates, covariate_holds(infos)) | {name: np.ones(shape) for name, shape in shapes.items()}
        words = told("eta", effects, lambda _: effect_holds), cov
        jax.eval_shape(lambda arrays: individual(list(words[0].values()), arrays, words[1]), arrays)
    etas, cov = [scalar] * len(effects), {name: scalar for name in covariates}
    cov |= {name: jax.ShapeDtypeStruct(shape, jnp.float64) for name, shape in shapes.items()}
    reach = dependence(individual, etas, arrays, cov)
    names = found["individual"]
    carries = {name: any(row[: len(effects)]) for name, row in zip(names, reach, strict=True)}
    idle = [effect for k, effect in enumerate(effects) if not any(row[k] for row in reach)]
    if idle:
        raise ModelError(
            f"{type(model).__name__}: the covariance declares random effect{'s' if len(idle) > 1 else ''} {', '.join(idle)}, which "
            f"individual() does not use. Use eta.{idle[0]} there, or take it out of nlme.covariance(...)."
        )

    def dynamics(arrays, ind):
        structure = structure_of(eqx.combine(arrays, rest), dict(zip(names, ind, strict=True)))
        found["structure"] = "" if structure is None else type(structure).__name__
        found["states"] = () if structure is None else structure.states
        found["linear"] = structure is None or isinstance(structure, LinearStructure)
        found["looped"] = not found["linear"] or getattr(structure, "looped", False)
        found["rules"], found["event_times"], found["exponential"] = (), 0, False
        found["algebraic"] = found["delays"] = found["diffusion"] = ()
        if structure is None:
            return []
        with in_method(type(model).__name__, "dynamics"):
            return equations(structure)

    def equations(structure):
        found["rules"] = tuple(rule for rule in DOSE_RULES if getattr(structure, rule) is not None)
        found["event_times"], found["algebraic"] = len(structure.event_times), structure.algebraic
        out = [structure.rule_vector(rule, 0.0) for rule in found["rules"]] + list(structure.start())
        out += [jnp.asarray(t, dtype=jnp.float64) for t in (*structure.event_times, *structure.delays.values())]
        found["delays"], found["diffusion"] = tuple(structure.delays), tuple(structure.diffusion)
        out += [jnp.asarray(sd, dtype=jnp.float64) for sd in structure.diffusion.values()]
        ones = (jnp.asarray(1.0),) * len(structure.states)
        require_determined(structure)
        found["exponential"] = flows_of(structure) is not None
        if found["linear"]:
            return [*out, *structure.advance(ones, ones, jnp.asarray(1.0))]
        return [*out, *(structure.before(jnp.asarray(0.0)) if structure.delays else ()), *slopes_of(structure, ones)]

    def moved(arrays, ind):
        structure = structure_of(eqx.combine(arrays, rest), ind)
        with in_method(type(model).__name__, "dynamics"):
            ones = (jnp.asarray(1.0),) * len(structure.states)
            return [] if isinstance(structure, LinearStructure) else slopes_of(structure, ones)

    parameters = told("ind", names, lambda _: "what individual() returned under this name")
    with comparisons_refused():
        jax.eval_shape(lambda arrays: moved(arrays, parameters), arrays)
    ind = [scalar] * len(names)

    def used(function):
        """Population and individual parameters that ``function(arrays, ind)`` relies on."""
        reach = dependence(lambda ind, arrays: function(arrays, ind), ind, arrays)
        return used_parameters(function, arrays, ind), tuple(n for k, n in enumerate(names) if any(row[k] for row in reach))

    direct, inputs = used(dynamics)

    def observe(arrays, ind, state, t):
        out = observation_row(eqx.combine(arrays, rest), dict(zip(names, ind, strict=True)), found["states"], state, t)
        found["endpoints"] = tuple(out)
        found["laws"] = tuple(r.law() for r in out.values())
        for name, r in out.items() if found["diffusion"] else ():
            if residual_of(r) is None:
                raise ModelError(
                    f"{type(model).__name__}.observe: endpoint {name!r} is {r.law().words}, and the states have diffusion: their filter "
                    "takes residual error models (nlme.additive, proportional, combined, power, lognormal, ...), also under "
                    'nlme.censored(..., "M1") or "M3".'
                )
        return [r.parts() for r in out.values()]

    with comparisons_refused():
        state = list(told("state", found["states"], lambda _: "an amount").values())
        t = Told(1.0, "t", "the time of a record")
        jax.eval_shape(lambda arrays: observe(arrays, list(parameters.values()), state, t), arrays)
    state = [scalar] * len(found["states"])
    reach = dependence(lambda state, arrays, ind, t: observe(arrays, ind, state, t), state, arrays, ind, scalar)
    observed = tuple(k for k in range(len(state)) if any(row[k] for row in reach))
    if found["diffusion"]:
        pairs = enumerate(triangle(len(state)), start=len(state))
        observed += tuple(k for k, (i, j) in pairs if i in observed and j in observed)

        def filtered(arrays, ind):
            """All that the states come from, the records among it."""
            ones = jnp.ones(len(state))
            return [dynamics(arrays, ind), observe(arrays, ind, ones, ones[0])]

        direct, inputs = used(filtered)
    return Anatomy(
        effects=tuple(effects),
        words=tuple(effects),
        by_occasion=0 if between is None else len(between.names),
        above="" if above is None else above.per,
        by_site=0 if above is None else len(above.names),
        covariates=covariates,
        individual=names,
        states=tuple(found["states"]),
        endpoints=found["endpoints"],
        linear=found["linear"],
        looped=found["looped"],
        exponential=found["exponential"],
        structure=found["structure"],
        rules=found["rules"],
        algebraic=found["algebraic"],
        delays=found["delays"],
        diffusion=found["diffusion"],
        event_times=found["event_times"],
        observed=observed,
        inputs=inputs,
        carriers=tuple(carries[name] for name in inputs),
        direct=tuple(direct),
        laws=found["laws"],
        mixture=mixtures[0] if mixtures else "",
        subpopulations=getattr(model, mixtures[0]).names if mixtures else (),
        features=tuple(shapes),
        shapes=tuple(shapes.values()),
    )
