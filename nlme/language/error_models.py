"""Error models by the names of their constructors, found in what a traced ``observe`` computes.

An observation holds the mean and the variance on its scale, not the arguments that it was made with.  These are found in the
formulas, ``add`` in add^2 and ``prop`` in (prop f)^2; what has another form keeps mean and variance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from nlme.language import symbols as s
from nlme.observation.base import Observation
from nlme.observation.censoring import Censored
from nlme.observation.custom import Custom
from nlme.observation.discrete import Binary, Ordered
from nlme.observation.markov import Markov
from nlme.observation.residual import AutoRegressive, Residual

_TRANSFORMED = {"log": "lognormal", "logit": "logitnormal", "box-cox": "boxcox", "yeo-johnson": "yeojohnson"}
_NAMES = {
    "Poisson": "poisson",
    "NegativeBinomial": "negative_binomial",
    "Student": "student_t",
    "TimeToEvent": "time_to_event",
    "Markov": "markov",
}
Formulas = dict[str, Any]


class Shown(NamedTuple):
    """An error model as a reader sees it, and which numbers of the model its formulas must give."""

    name: str
    parts: Formulas
    equal: dict[str, Any]  # number of ``numbers_of`` -> the formula that must give it


def numbers_of(observation: Observation, y) -> dict[str, Any]:
    """All numbers that describe an observation; ``y`` is the value that a density of the model's own is written for."""
    if isinstance(observation, Censored):
        limits = {"lloq": observation.lloq, "uloq": observation.uloq}
        return numbers_of(observation.base, y) | {name: x for name, x in limits.items() if x is not None}
    if isinstance(observation, AutoRegressive):
        return numbers_of(observation.base, y) | {"decay": observation.decay}
    if isinstance(observation, Residual):
        return observation.parts() | {"prediction": observation.prediction()}
    if isinstance(observation, Custom):
        return {"log density": observation._at(y), "prediction": observation.value}
    if isinstance(observation, Binary):
        return {"P(1)": observation.prediction()}
    if isinstance(observation, (Ordered, Markov)):
        return {f"log {name}": value for name, value in observation.parts().items()}
    return observation.parts()


def shown(
    observation: Observation, names: Sequence[str], formula: Callable[[str], Any], agrees: Callable[[str, Any], bool]
) -> Shown:
    """An observation's error model; ``formula`` reads one of the numbers ``names``, ``agrees`` whether a formula gives it."""
    if isinstance(observation, Censored):
        base = shown(observation.base, names, formula, agrees)
        return _also(base, observation, ("lloq", "uloq"), formula, f"censored ({observation.method})")
    if isinstance(observation, AutoRegressive):
        return _also(shown(observation.base, names, formula, agrees), observation, ("decay",), formula, "ar1")
    if isinstance(observation, Residual):
        if observation.transform == "identity":
            return _normal(formula("mean"), formula("variance"))
        return _on_scale(observation.transform, formula, agrees)
    if isinstance(observation, Custom):
        density, prediction = formula("log density"), formula("prediction")
        parts = {"log density": density} | ({} if prediction == s.number(float("nan")) else {"prediction": prediction})
        return Shown("loglik", parts, parts)
    words = "binary" if isinstance(observation, Binary) else "ordered" if isinstance(observation, Ordered) else ""
    parts = {name: formula(name) for name in names if name not in ("lloq", "uloq")}
    return Shown(words or _NAMES.get(type(observation).__name__, type(observation).__name__), parts, parts)


def _also(base: Shown, observation, names, formula, word: str) -> Shown:
    more = {name: formula(name) for name in names if getattr(observation, name) is not None}
    return Shown(f"{base.name}, {word}", base.parts | more, base.equal | more)


def _normal(f, variance) -> Shown:
    two = s.number(2)

    def made(name: str, spread, **parts) -> Shown:
        return Shown(name, {"prediction": f, **parts}, {"mean": f, "prediction": f, "variance": spread})

    sd, added = s.squared(variance), s.terms(variance)
    if sd is not None:
        *first, last = s.terms(sd)
        if (prop := s.product_by(sd, f)) is not None:
            return made("proportional", s.power(s.multiply(prop, f), two), prop=prop)
        if first and (prop := s.product_by(last, f)) is not None:
            add = s.total(first)
            return made("combined (standard deviations add)", s.power(s.add(add, s.multiply(prop, f)), two), add=add, prop=prop)
        if (found := s.power_of(sd, f)) is not None:
            prop, exponent = found
            return made("power", s.power(s.multiply(prop, s.power(f, exponent)), two), prop=prop, exponent=exponent)
        if not sd.free_symbols & f.free_symbols:
            return made("additive", s.power(sd, two), add=sd)
    if len(added) == 2 and all(s.squared(term) is not None for term in added):
        add, prop = s.squared(added[0]), s.product_by(s.squared(added[1]), f)
        if prop is not None:
            return made("combined", s.add(s.power(add, two), s.power(s.multiply(prop, f), two)), add=add, prop=prop)
    return made("normal", variance, variance=variance)


def _on_scale(transform: str, formula, agrees) -> Shown:
    mean, variance = formula("mean"), formula("variance")
    shape = {name: formula(name) for name in {"logit": ("lower", "upper"), "log": ()}.get(transform, ("lam",))}
    sd = s.squared(variance)
    spread = {"variance": variance} if sd is None else {"sd": sd}
    for f in _arguments(transform, mean, shape):
        if agrees("prediction", f):
            parts = {"prediction": f, **spread, **shape}
            return Shown(_TRANSFORMED[transform], parts, {"prediction": f, "variance": variance, **shape})
    parts = {"mean on that scale": mean, **spread, **shape}
    return Shown(_TRANSFORMED[transform], parts, {"mean": mean, "variance": variance, **shape})


def _arguments(transform: str, mean, shape: Formulas) -> list:
    """What a scale may have been applied to, to give ``mean``."""
    if transform == "yeo-johnson":
        return s.compared_with(mean, s.number(0))
    found = s.logarithms(mean)
    if transform == "logit":
        found = [s.last_case(s.without(x, shape["lower"])) for x in found]
    return found
