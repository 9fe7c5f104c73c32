"""What another program has to be told of a model, its data and its method, before it is written in that program's words."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from nlme.errors import ModelError
from nlme.fitting.evaluated import Evaluated
from nlme.language.anatomy import Anatomy
from nlme.language.equations import Equations, equations
from nlme.language.layout import lay_out, match_endpoints
from nlme.language.model import Model, documentation
from nlme.marginal.base import Method
from nlme.marginal.foce import FOCEI
from nlme.marginal.laplace import Laplace
from nlme.observation.base import Law
from nlme.parameters.inventory import Inventory, names_of

SUBJECT, OCCASION = "subject", "occasion"


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One fixed effect that has a part in the equations.

    Attributes
    ----------
    name : as the model's tables call it: "cl", "beta[0]", "net.weights[0][0,1]"
    symbol : name of the symbol that stands for it in the formulas
    """

    name: str
    symbol: str
    value: float
    lower: float
    upper: float
    fixed: bool
    unit: str
    label: str


@dataclasses.dataclass(frozen=True)
class Effects:
    """A block of random effects and their covariance; ``per`` is "subject" or "occasion"."""

    per: str
    names: tuple[str, ...]
    matrix: np.ndarray
    fixed: bool


@dataclasses.dataclass(frozen=True)
class Endpoint:
    """One endpoint's observations.

    Attributes
    ----------
    kind : of its error model, "combined"
    parts : of the error model, as formulas
    censoring : "" or M1 .. M4
    code : by which the data know it (DVID)
    """

    name: str
    kind: str
    parts: dict[str, Any]
    censoring: str
    law: Law
    code: int


@dataclasses.dataclass(frozen=True)
class Outline:
    """A model on a population, read for another program; ``objective`` is None where nothing was evaluated."""

    model: Model
    population: Any
    method: Method
    anatomy: Anatomy
    equations: Equations
    parameters: tuple[Parameter, ...]
    effects: tuple[Effects, ...]
    endpoints: tuple[Endpoint, ...]
    shares: tuple[float, ...]
    shares_fixed: bool
    objective: float | None
    messages: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.equations.name

    @property
    def title(self) -> str:
        """The first line of what its author wrote about the model, else its name."""
        return (documentation(self.model).strip().splitlines() or [self.name])[0].rstrip(".")

    @property
    def endpoint_of(self) -> list[int]:
        """Position among the model's endpoints of each of the population's."""
        return match_endpoints(self.model, self.anatomy, self.population)

    def heading(self, comment: str) -> list[str]:
        """What a file begins with, as lines of comment."""
        lines = [self.title, f"nlme model {self.name}, {self.method!r}"]
        if self.objective is not None:
            lines.append(f"objective there, without n log(2 pi): {self.objective:.6f}")
        return [f"{comment} {line}" for line in lines]

    def refuse(self, what: str, where: str) -> ModelError:
        return ModelError(f"{self.name} cannot be written for {where}: {what}")

    def require_one_level(self, where: str) -> None:
        """Refuse subpopulations and random effects above the subject."""
        if self.anatomy.mixture:
            raise self.refuse("it has subpopulations.", where)
        if self.anatomy.by_site:
            raise self.refuse(f"it has random effects per {self.anatomy.above}.", where)


def outline_of(source, population, method: Method | None, fixed, program: str) -> Outline:
    """Read a fit, an evaluation, or a model with a population.

    Raises
    ------
    ModelError
        Something of the model that ``program`` has no words for; the model has no formula (:func:`nlme.equations`).
    """
    held = source if isinstance(source, Evaluated) else None
    model = held.model if held else source
    if not isinstance(model, Model):
        raise ModelError(f"A model is written from a fit, from nlme.evaluate(...) or from a model; got {type(source).__name__}.")
    population = held.population if held and population is None else population
    if population is None:
        raise ModelError(f"{type(model).__name__}: a model alone has no data; give population=.")
    layout = lay_out(model, population)
    model, anatomy = layout.model, layout.anatomy
    names = tuple(held.fixed) if held and not fixed else names_of(fixed)
    inventory = Inventory(model, names)
    inventory = Inventory(model, inventory.with_blocks([*inventory.fixed, *inventory.without_variance(model)]))
    found = equations(model, networks=True)
    parameters, idle = _parameters(model, inventory, found)
    shares = tuple(np.asarray(getattr(model, anatomy.mixture).shares).tolist()) if anatomy.mixture else ()
    shares_fixed = bool(shares) and f"{anatomy.mixture}.{anatomy.subpopulations[0]}" in inventory.fixed
    usual = FOCEI() if all(law.normal and not law.censoring for law in anatomy.laws) else Laplace()
    messages = (f"No equation looks at {', '.join(idle)}; left out.",) if idle else ()
    if held and held.penalty_slopes is not None:
        messages += (f"The fit was penalised, and {program} knows no penalty: it would go on from these estimates to others.",)
    made = Outline(
        model, population, method or (held.method if held else usual), anatomy, found, parameters,
        _effects(model, inventory, anatomy), _endpoints(found, anatomy, population), shares, shares_fixed,
        held.objective if held else None,
        messages,
    )  # fmt: skip
    _require_plain(made, held, program)
    return made


def _parameters(model: Model, inventory: Inventory, found: Equations) -> tuple[tuple[Parameter, ...], list[str]]:
    """The parameters that formulas look at, in the order of the fields, and those that none looks at."""
    symbols = {symbol: key for key, symbol in found.symbols.items() if key.startswith("self.")}
    used = {symbols[x] for formula in formulas_of(found) for x in formula.free_symbols if x in symbols}
    kept, idle = [], []
    for entry in inventory.entries:
        if set(entry.kinds) & {"variance", "covariance", "share"}:
            continue
        domain = entry.declaration.domain
        for name, value in zip(entry.names, np.asarray(entry.natural(model)).tolist(), strict=True):
            key = "self." + name.replace(",", ", ")
            if key not in used:
                idle.append(name)
                continue
            unit, label = entry.declaration.unit, entry.declaration.label
            symbol = found.symbols[key].name
            kept.append(Parameter(name, symbol, value, domain.lower, domain.upper, name in inventory.fixed, unit, label))
    strange = used - {"self." + p.name.replace(",", ", ") for p in kept} - {f"self.{m}" for m in _members(model)}
    if strange:
        name = sorted(strange)[0].removeprefix("self.")
        raise ModelError(f"{found.name}: {name} has a part in the equations and is no fixed effect, so it cannot be written.")
    return tuple(kept), idle


def _members(model: Model) -> list[str]:
    from nlme.language.anatomy import mixtures_of

    return [f"{name}.member" for name in mixtures_of(model)]


def formulas_of(found: Equations):
    """Every formula of a model's equations."""
    for section in ("individual", "structural", "dynamics", "initial", "lag", "bioavailability", "duration", "rate", "arrivals"):
        yield from getattr(found, section).values()
    yield from found.event_times
    for parts in found.observations.values():
        yield from parts.values()


def _effects(model: Model, inventory: Inventory, anatomy: Anatomy) -> tuple[Effects, ...]:
    """Blocks of random effects, those without variance on their own."""
    field_of = {name.split(".", 1)[1]: name for e in inventory.entries if "variance" in e.kinds for name in e.names}
    found = []
    for level in anatomy.levels(model):
        matrix = np.asarray(level.matrix, dtype=float)
        matrix = 0.5 * (matrix + matrix.T)
        for block in level.blocks:
            moving = [k for k in block if matrix[k, k] != 0.0]
            for part in ([moving] if moving else []) + [[k] for k in block if k not in moving]:
                names = tuple(level.names[k] for k in part)
                found.append(Effects(level.per, names, matrix[np.ix_(part, part)], field_of[names[0]] in inventory.fixed))
    return tuple(found)


def _endpoints(found: Equations, anatomy: Anatomy, population) -> tuple[Endpoint, ...]:
    codes: dict[str, int] = {}
    whole = population.dvid is not None and all(isinstance(d, int | float) and d == int(d) and d > 0 for d in population.dvid)
    for name, code in zip(population.endpoints, population.dvid if whole else (), strict=False):
        codes[name] = int(code)
    if len(anatomy.endpoints) == len(population.endpoints) == 1:
        codes = {anatomy.endpoints[0]: next(iter(codes.values()), 1)}
    made = []
    for name, law in zip(anatomy.endpoints, anatomy.laws, strict=True):
        if name not in codes:
            codes[name] = next(k for k in range(1, 10_000) if k not in codes.values())
        kind, *more = found.errors[name].split(", ")
        censoring = next((m[10:-1] for m in more if m.startswith("censored (")), "")
        kind = "ar1" if "ar1" in more else kind
        made.append(Endpoint(name, kind, found.observations[name], censoring, law, codes[name]))
    return tuple(made)


def _require_plain(outline: Outline, held, program: str) -> None:
    """Refuse what no program that is written for here has words for."""
    anatomy, population = outline.anatomy, outline.population
    if anatomy.diffusion:
        raise outline.refuse(f"{', '.join(anatomy.diffusion)} moves by a stochastic equation.", program)
    for endpoint in outline.endpoints:
        if endpoint.law.link == "markov":
            raise outline.refuse(
                f"the endpoint {endpoint.name!r} is a Markov chain, whose records depend on the one before.", program
            )
    if anatomy.features:
        raise outline.refuse(f"{', '.join(anatomy.features)} is an array per subject, and a data file holds numbers.", program)
    if outline.equations.arrivals:
        raise outline.refuse(f"the doses of {outline.equations.structure} arrive as a function of the time since each.", program)
    if held is not None and held.priors:
        raise outline.refuse(f"{', '.join(held.priors)} ha{'s' if len(held.priors) == 1 else 've'} a prior.", program)
    for name in anatomy.covariates:
        info = population.covariates[name]
        if info.interpolation != "nocb" and not info.constant:
            raise outline.refuse(
                f"covariate {name!r} is carried between records by {info.interpolation!r}, and there the later record's value "
                "holds ('nocb').", program,
            )  # fmt: skip
    for parameter in outline.parameters:
        if not math.isfinite(parameter.value):
            raise outline.refuse(f"{parameter.name} is {parameter.value}.", program)
