"""Covariates on individual parameters, added to a model that somebody else wrote.

Each relation multiplies an individual parameter p by a factor that is 1 where its coefficients are 0, with c the covariate's median over
the subjects' first records (or, of categories, the most common one there, for which nothing changes):

    linear          1 + theta (x - c)
    exponential     exp(theta (x - c))
    power           (x / c) ^ theta
    hockey-stick    1 + theta_below (x - c) where x <= c, 1 + theta_above (x - c) where x > c
    categories      1 + theta_k in category k

as in Jonsson & Karlsson (1998), Pharm Res 15:1463, doi:10.1023/A:1011970125687, and PsN's scm.  The coefficients of those that begin with 1 + are
bounded, so that no subject's factor can be negative: over the range of all records, of a covariate that changes in time.

A relation of the shape "random effect" shifts a random effect in place of multiplying a parameter, with c the covariate's mean and c_k the
share of the subjects in category k, so that the mean shift is 0:

    eta + theta (x - c)         eta + sum_k theta_k ([x is k] - c_k)

Whatever the parameter is of its random effect: exp(theta (x - c)) multiplies p = p0 exp(eta).
"""

from __future__ import annotations

import ast
import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from nlme.errors import ModelError, name_error
from nlme.language.augmented import Augmented, declared_by, made_as, made_kind
from nlme.language.model import Model, documented
from nlme.language.source import source_of
from nlme.parameters.covariance import SUBJECT, Covariance
from nlme.parameters.domains import METADATA, bounded, real
from nlme.parameters.inventory import Inventory
from nlme.typing import Named, Scalar

CONTINUOUS = ("linear", "exponential", "power", "hockey-stick")
SHAPES = (*CONTINUOUS, "categories")
SHIFT = "random effect"
_MOST = 1e3  # what a category, or one side of a hockey stick, can multiply by


@dataclasses.dataclass(frozen=True)
class Relation:
    """One covariate on one individual parameter.

    Attributes
    ----------
    parameter, covariate, shape : what acts on what, and how (one of ``SHAPES``, or ``SHIFT`` of the random effect ``parameter``)
    center : where nothing is changed: the median (of a shift the mean), or the code of the commonest category
    range : lowest and highest value in the data, at any record
    codes : the other categories' codes
    words : what these are called
    shares : of the subjects that are in them, of a shift
    """

    parameter: str
    covariate: str
    shape: str
    center: float
    range: tuple[float, float]
    codes: tuple[float, ...] = ()
    words: tuple[str, ...] = ()
    shares: tuple[float, ...] = ()

    @property
    def pair(self) -> tuple[str, str]:
        return self.parameter, self.covariate

    @property
    def coefficients(self) -> tuple[str, ...]:
        """Names of its coefficients, as fields of the model."""
        own = f"{self.covariate}_on_{self.parameter}"
        if self.shape == "hockey-stick":
            return f"{own}_below", f"{own}_above"
        if self.shape == SHIFT:
            own = f"{self.covariate}_on_eta_{self.parameter}"
        if self.words:
            return tuple(f"{own}_{word}" for word in self.words)
        if self.shape == SHIFT:
            return (own,)
        return (f"{own}_{self.shape}",)

    @property
    def declarations(self) -> tuple:
        """The field of each coefficient, 0 to begin with."""
        low, high = self.range
        below, above = low - self.center, high - self.center  # at most, at least 0

        def between(smallest: float, largest: float, label: str):
            """Of theta for which 1 + theta d is positive for all d between these."""
            lower = -1.0 / largest if largest > 0 else _MOST / smallest
            upper = -1.0 / smallest if smallest < 0 else _MOST / largest
            return bounded(0.0, lower, upper, label=label)

        label = f"{self.covariate} on {self.parameter}"
        if self.shape == "linear":
            return (between(below, above, label),)
        if self.shape == "hockey-stick":
            sides = ((below, 0.0, "below"), (0.0, above, "above"))
            return tuple(between(a, b, f"{label}, {side} {self.center:.4g}") for a, b, side in sides)
        if self.shape == "categories":
            return tuple(bounded(0.0, -1.0, _MOST, label=f"{label}: {word}") for word in self.words)
        if self.shape == SHIFT:
            label = f"{self.covariate} on the random effect of {self.parameter}"
            return tuple(real(0.0, label=f"{label}: {word}") for word in self.words) or (real(0.0, label=label),)
        return (real(0.0, label=f"{label} ({self.shape})"),)

    def factor(self, thetas: tuple, x):
        """What multiplies the parameter at the covariate's value ``x``."""
        if self.shape == "power":
            return (x / self.center) ** thetas[0]
        if self.shape == "exponential":
            return jnp.exp(thetas[0] * (x - self.center))
        if self.shape == "linear":
            return 1.0 + thetas[0] * (x - self.center)
        if self.shape == "hockey-stick":
            return 1.0 + jnp.where(x <= self.center, thetas[0], thetas[1]) * (x - self.center)
        return 1.0 + sum(theta * (x == code) for theta, code in zip(thetas, self.codes, strict=True))

    def shift(self, thetas: tuple, x):
        """What is added to the random effect at the covariate's value ``x``."""
        if self.codes:
            return sum(t * ((x == code) - c) for t, code, c in zip(thetas, self.codes, self.shares, strict=True))
        return thetas[0] * (x - self.center)

    @property
    def text(self) -> str:
        """The factor, or the shift, as Python in a method of the model."""
        names, x, c = [f"self.{name}" for name in self.coefficients], f"cov.{self.covariate}", _exact(self.center)
        is_code = [f"({x} == {_exact(code)})" for code in self.codes]
        if self.shape == SHIFT:
            parts = [f"{name} * ({one} - {_exact(c)})" for name, one, c in zip(names, is_code, self.shares, strict=False)]
            return " + ".join(parts) or f"{names[0]} * ({x} - {c})"
        if self.shape == "power":
            return f"({x} / {c}) ** {names[0]}"
        if self.shape == "exponential":
            return f"jnp.exp({names[0]} * ({x} - {c}))"
        if self.shape == "linear":
            return f"(1.0 + {names[0]} * ({x} - {c}))"
        if self.shape == "hockey-stick":
            return f"(1.0 + jnp.where({x} <= {c}, {names[0]}, {names[1]}) * ({x} - {c}))"
        return "(1.0 + " + " + ".join(f"{name} * {one}" for name, one in zip(names, is_code, strict=True)) + ")"

    def __str__(self) -> str:
        return f"{self.covariate} on {self.parameter}, {self.shape}"


class WithRelations(Model):
    """What the classes of models with added relations have in common."""

    def individual(self, eta, cov):
        """As the model without them, at random effects that are shifted, each parameter times the factors of its covariates."""
        told = [(r, tuple(getattr(self, name) for name in r.coefficients), getattr(cov, r.covariate)) for r in self.relations]
        moved = dict(eta.items())
        for relation, thetas, x in told:
            if relation.shape == SHIFT:
                moved[relation.parameter] = moved[relation.parameter] + relation.shift(thetas, x)
        found = dict(self.written.individual(self, Named(moved, "random effect"), cov))
        for relation, thetas, x in told:
            if relation.shape != SHIFT:
                found[relation.parameter] = found[relation.parameter] * relation.factor(thetas, x)
        return found


def with_relations(base: Model, relations: tuple[Relation, ...], units: Mapping[str, str]) -> WithRelations:
    """``base`` with ``relations`` whose coefficients are 0, beside those that were added to it before; ``units`` of their covariates.

    Raises
    ------
    ModelError
        A coefficient that has the name of one of the model's own fields.
    """
    written, before = (type(base).written, type(base).relations) if has_relations(type(base)) else (type(base), ())
    units = {r.covariate: type(base).covariates[r.covariate] for r in before} | dict(units)
    kind = _kind(written, (*before, *relations), tuple(sorted(units.items())))
    values = {f.name: getattr(base, f.name) for f in dataclasses.fields(base)}
    return made_as(kind, values | {name: jnp.zeros(()) for relation in relations for name in relation.coefficients})


@functools.cache
def _kind(base: type[Model], relations: tuple[Relation, ...], units: tuple[tuple[str, str], ...]) -> type[WithRelations]:
    own = {f.name for f in dataclasses.fields(base)}
    fields: dict[str, Any] = {}
    for relation in relations:
        for name, declared in zip(relation.coefficients, relation.declarations, strict=True):
            if name in own or name in fields:
                raise ModelError(
                    f"{relation}: its coefficient would be called {name!r}, which {base.__name__} has already; rename that field."
                )
            fields[name] = declared
    words = {
        "__annotations__": dict.fromkeys(fields, Scalar),
        "__module__": __name__,
        "__doc__": documented(base),
        "covariates": dict(units) | declared_by(base),
        "written": base,
        "relations": relations,
        **fields,
    }
    return made_kind(f"{base.__name__}WithCovariates", (WithRelations, base), words, _kind, base, relations, units)


# -- its text ----------------------------------------------------------------------------------------------------------


def has_relations(kind: type[Model]) -> bool:
    """Whether a class is one that :func:`with_relations` made."""
    return "relations" in vars(kind)


def source_with(model: Model) -> str:
    """The text of a model, to whose class relations may have been added: of its class, and of the model itself with its numbers."""
    inventory = Inventory(model)
    values = zip(inventory.all_names, np.asarray(inventory.natural(model)).tolist(), strict=True)
    found = ", ".join(f'"{name}": {value!r}' for name, value in values)
    usual = {field.name: field.default for field in dataclasses.fields(model)}
    others = "".join(f", {name}={value!r}" for name, value in settings_of(model).items() if value != usual[name])
    return f"{text_of(model)}\n\n\n# at the estimates\nmodel = {type(model).__name__}.from_fit({{{found}}}{others})\n"


def text_of(model: Model) -> str:
    """The text of a model's class and of those that it derives from, whatever the model's numbers."""
    kind = type(model)
    if not has_relations(kind):
        own = "" if isinstance(model, Augmented) else source_of(kind)
        return own or f"# here the text of {kind.__name__}, which was not found"
    base = made_as(kind.written, {f.name: getattr(model, f.name) for f in dataclasses.fields(kind.written)})
    added = _class_text(model)
    return f"{_with_imports(text_of(base), added)}\n\n\n{added}"


def _with_imports(text: str, added: str) -> str:
    """A text with the imports that what is added to it needs."""
    lines = text.splitlines()
    future = list(dict.fromkeys(line for line in lines if line.startswith("from __future__ import")))
    rest = "\n".join(line for line in lines if not line.startswith("from __future__ import")).strip()
    imports = [node for node in ast.parse(rest).body if isinstance(node, ast.Import | ast.ImportFrom)]
    known = {(alias.asname or alias.name).split(".")[0] for node in imports for alias in node.names}
    own = {"jnp": "import jax.numpy as jnp", "nlme": "import nlme"}
    needed = [line for name, line in own.items() if f"{name}." in added and name not in known]
    return "\n".join([*future, *needed, rest])


def _class_text(model: WithRelations) -> str:
    """The class of a model with relations as a class that derives from the one that they were added to."""
    kind, relations = type(model), type(model).relations
    base = kind.written.__name__
    lines = [f"class {kind.__name__}({base}):", f'    """{base} with {"; ".join(map(str, relations))}."""', ""]
    lines += [f"    {name}: nlme.Covariance = {text}" for name, text in _covariances(model).items()]
    for relation in relations:
        for name, declared in zip(relation.coefficients, relation.declarations, strict=True):
            lines.append(f"    {name}: nlme.Scalar = {_written(declared)}")
    lines += ["", f"    covariates = {vars(kind)['covariates']!r}"]
    lines += ["", "    def individual(self, eta, cov):"]
    shifts = [r for r in relations if r.shape == SHIFT]
    if shifts:
        lines.append("        moved = dict(eta.items())")
        lines += [f'        moved["{r.parameter}"] = moved["{r.parameter}"] + {r.text}' for r in shifts]
        lines.append('        eta = nlme.Named(moved, "random effect")')
    lines.append("        ind = dict(super().individual(eta, cov))")
    for relation in relations:
        if relation.shape != SHIFT:
            lines.append(f'        ind["{relation.parameter}"] = ind["{relation.parameter}"] * {relation.text}')
    return "\n".join([*lines, "        return ind"])


def _covariances(model: Model) -> dict[str, str]:
    """Field -> declaration of the covariances that have other blocks than the class declares; they begin at 0."""
    found = {}
    for field in dataclasses.fields(model):
        value = getattr(model, field.name)
        if not isinstance(value, Covariance):
            continue
        declared = field.default_factory() if callable(field.default_factory) else None
        if isinstance(declared, Covariance) and (declared.names, declared.blocks) == (value.names, value.blocks):
            continue
        known = {} if declared is None else dict(zip(declared.names, (np.asarray(declared.sd) ** 2).tolist(), strict=True))
        variances = [float(f"{known.get(name, 0.1):.6g}") for name in value.names]
        blocks = [
            (tuple(value.names[k] for k in block), [[variances[i] if i == j else 0.0 for j in block if j <= i] for i in block])
            for block in value.blocks
        ]
        words = {"label": field.metadata[METADATA].label, "per": value.per if value.per != SUBJECT else ""}
        options = [f"{word}={said!r}" for word, said in words.items() if said]
        found[field.name] = f"nlme.covariance({', '.join([*map(repr, blocks), *options])})"
    return found


def settings_of(model: Model) -> dict[str, Any]:
    """The model's own fields that are no parameters, where text can hold them: what its class was called with, perhaps."""
    fields = [f for f in dataclasses.fields(model) if f.init and f.metadata.get(METADATA) is None]
    return {f.name: v for f in fields if isinstance(v := getattr(model, f.name), bool | int | float | str)}


def _exact(value: float) -> str:
    """A number as Python, all of its digits, and no more than it needs."""
    return short if float(short := f"{value:g}") == value else repr(float(value))


def _written(declared) -> str:
    domain, label = declared.metadata[METADATA].domain, declared.metadata[METADATA].label
    if np.isfinite(domain.lower):
        return f"nlme.bounded(0.0, {_exact(domain.lower)}, {_exact(domain.upper)}, label={label!r})"
    return f"nlme.real(0.0, label={label!r})"


def relation(
    parameter: str,
    covariate: str,
    shape: str,
    values: np.ndarray,
    categories: tuple[str, ...] | None,
    recorded: np.ndarray | None = None,
) -> Relation:
    """The relation of a covariate with these ``values``, one for each subject, and those ``recorded`` at any time, if it changes.

    Raises
    ------
    ModelError
        An unknown shape; one that the covariate cannot have (a power of values that are not positive, a line through
        categories, categories of a continuous covariate); a covariate with one value.
    """
    where = f"{covariate} on {parameter}"
    if shape not in SHAPES:
        raise ModelError(f"{where}: " + name_error("shape", shape, SHAPES, "A relation"))
    known = np.unique(values if recorded is None else recorded)
    if len(known) < 2:
        raise ModelError(f"{where}: the covariate is {known[0]:g} in every subject, so that nothing can be learned of it.")
    if shape == "categories":
        if categories is None and len(known) > 10:
            raise ModelError(
                f"{where}: the covariate has {len(known)} values and no categories. Use one of {', '.join(CONTINUOUS)}."
            )
        codes, counts = np.unique(values, return_counts=True)
        center = float(codes[np.argmax(counts)])
        others = tuple(float(code) for code in known if code != center)
        words = _words([categories[int(code)] if categories else f"{code:g}" for code in others])
        return Relation(parameter, covariate, shape, center, (float(known[0]), float(known[-1])), others, words)
    if categories is not None and len(categories) > 2:
        raise ModelError(
            f"{where}: {covariate} has categories ({', '.join(categories)}); its shape is 'categories', not {shape!r}."
        )
    center = float(np.median(values))
    if shape == "power" and known[0] <= 0:
        raise ModelError(
            f"{where}: a power needs positive values, and the lowest is {known[0]:g}. Use 'linear' or 'exponential'."
        )
    if shape == "hockey-stick" and not known[0] < center < known[-1]:
        raise ModelError(f"{where}: a hockey stick needs values on both sides of its median, {center:g}.")
    return Relation(parameter, covariate, shape, center, (float(known[0]), float(known[-1])))


def shift(effect: str, covariate: str, values: np.ndarray, categories: tuple[str, ...] | None) -> Relation:
    """The relation that shifts a random effect by a covariate with these ``values``: about its mean, or by category.

    Raises
    ------
    ModelError
        A covariate with one value.
    """
    codes, counts = np.unique(values, return_counts=True)
    if len(codes) < 2:
        raise ModelError(f"{covariate}: it is {codes[0]:g} in every subject, so that nothing can be learned of it.")
    spread = (float(codes[0]), float(codes[-1]))
    if categories is None:
        return Relation(effect, covariate, SHIFT, float(np.mean(values)), spread)
    center = float(codes[np.argmax(counts)])
    others = tuple(float(code) for code in codes if code != center)
    shares = tuple(float(np.mean(values == code)) for code in others)
    return Relation(effect, covariate, SHIFT, center, spread, others, _words([categories[int(code)] for code in others]), shares)


def _words(texts: list[str]) -> tuple[str, ...]:
    """Categories as parts of Python names, those that would be alike ("< 60" and "> 60") with a number."""
    found: list[str] = []
    for text in texts:
        stem = "".join(c if c.isalnum() else "_" for c in text.lower())
        word, k = stem, 2
        while word in found:
            word, k = f"{stem}_{k}", k + 1
        found.append(word)
    return tuple(found)
