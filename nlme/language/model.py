"""The model class: its fields are the population parameters, its methods the boxes a pharmacometrician draws.

    typical values      fields, declared with nlme.positive, real, bounded, probability, covariance, mlp
    patient data        covariates = {"wt": "kg", "mri": (32, 32)}
    random effects      random(), between_occasions() and between_sites()
    individual params   individual(eta, cov)
    dynamics            dynamics(ind)
    error model         observe(ind, state, t)

An instance is the pytree of its parameters.
"""

from __future__ import annotations

import dataclasses
import inspect
import warnings
from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import numpy as np

from nlme.errors import ModelError, name_error
from nlme.language.declarations import require_declared, without_a_value
from nlme.neural.correction import numbers_of, with_numbers
from nlme.parameters.covariance import OCCASION, SUBJECT, Covariance
from nlme.parameters.domains import METADATA, is_concrete
from nlme.parameters.inventory import Inventory, ParameterRow
from nlme.parameters.transfer import transferred


class _Kind(type(eqx.Module)):
    """What is called when a model is made: says which words it knows."""

    def __call__(cls, *args, **kwargs):
        arguments = list(inspect.signature(cls.__init__).parameters.values())[1:]
        names = [a.name for a in arguments if a.kind in (a.POSITIONAL_OR_KEYWORD, a.KEYWORD_ONLY)]
        if not any(a.kind is a.VAR_KEYWORD for a in arguments):
            for name in kwargs:
                if name not in names:
                    raise ModelError(name_error("parameter", name, names, cls.__name__))
        given = {*names[: len(args)], *kwargs}
        missing = [a.name for a in arguments if a.name in names and a.default is a.empty and a.name not in given]
        if missing:
            raise ModelError(without_a_value(cls, missing[0]))
        return super().__call__(*args, **kwargs)


class Model(eqx.Module, metaclass=_Kind):
    """Base class of population models; see ``docs/language.md`` for a worked example.

    Subclasses declare parameters as fields and override the methods below.  Keyword arguments of the constructor replace
    starting values, on the natural scale: ``Warfarin(cl=0.2, omega={"cl": 0.1})``.

    Raises
    ------
    ModelError
        A value outside its domain, an array of another shape than declared, an unknown parameter name.
    """

    covariates: ClassVar[Any] = ()

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        for name in ("individual", "dynamics", "observe", "random", "between_occasions", "between_sites"):
            if name in cls.__dict__ and not callable(cls.__dict__[name]):
                raise ModelError(f"{cls.__name__}.{name} must be a method; found {cls.__dict__[name]!r}.")
        require_declared(cls)

    @classmethod
    def from_fit(cls, fit, **values) -> Model:
        """This model, starting from the values of another: a fit, a model, or a dict or Series by parameter name.

        Taken is what agrees in name, size, unit and domain; of a covariance the variances and, within the blocks of this model,
        the covariances, and the numbers by which learned terms standardise their inputs.  A warning says what was taken and what was not, unless everything was.  ``values`` are further starting
        values, as for the constructor.

        Raises
        ------
        ModelError
            ``fit`` is none of these, or nothing in it agrees.
        """
        found = transferred(cls(**values), _rows_of(fit))
        if not found.taken:
            raise ModelError(f"{cls.__name__}.from_fit: no parameter agrees.\n{found.sentence}")
        if isinstance(source := getattr(fit, "model", fit), Model):
            found = dataclasses.replace(found, model=with_numbers(found.model, numbers_of(source)))
        kept = {name: why for name, why in found.kept.items() if name.split(".")[0].split("[")[0] not in values}
        found = dataclasses.replace(found, kept=kept)
        if found.sentence:
            warnings.warn(f"{cls.__name__}.from_fit:\n{found.sentence}", stacklevel=2)
        return dataclasses.replace(found.model, **values)

    def __check_init__(self):
        for field in dataclasses.fields(self):
            declaration = field.metadata.get(METADATA)
            value = getattr(self, field.name)
            if declaration is not None and isinstance(value, (str, bool, type(None))):
                raise ModelError(f"{type(self).__name__}: parameter {field.name!r} must be a number; got {value!r}.")
            if declaration is None or isinstance(value, Covariance) or not is_concrete(value):
                continue
            if isinstance(field.default_factory, type(dataclasses.MISSING)):
                continue
            shape = np.shape(field.default_factory())
            if np.shape(value) != shape:
                raise ModelError(
                    f"{type(self).__name__}: parameter {field.name!r} is declared with shape {shape}; got shape {np.shape(value)}."
                )
            if not declaration.domain.contains(value):
                raise ModelError(
                    f"{type(self).__name__}: {field.name} = {np.asarray(value).tolist()} is outside its domain, "
                    f"{declaration.domain.words(field.name)}."
                )

    def random(self) -> Covariance | None:
        """The covariance of the subjects' random effects; by default the model's only such covariance field, or none."""
        return self._only_covariance(SUBJECT, "random")

    def between_occasions(self) -> Covariance | None:
        """The covariance of the random effects that a subject has anew on every occasion; by default the field declared so."""
        return self._only_covariance(OCCASION, "between_occasions")

    def between_sites(self) -> Covariance | None:
        """The covariance of the random effects above the subject (per site, study ...); by default the field declared so."""
        above = list(dict.fromkeys(value.per for value in self._covariances() if value.per not in (SUBJECT, OCCASION)))
        if len(above) > 1:
            raise ModelError(
                f"{type(self).__name__} declares random effects per {' and per '.join(map(repr, above))}, and a model has one "
                f"level above the subject. Leave one of them out, or make it a covariate with a fixed effect."
            )
        return self._only_covariance(above[0], "between_sites") if above else None

    def _covariances(self) -> list[Covariance]:
        return [value for f in dataclasses.fields(self) if isinstance(value := getattr(self, f.name), Covariance)]

    def _only_covariance(self, per: str, method: str) -> Covariance | None:
        found = [value for value in self._covariances() if value.per == per]
        if len(found) > 1:
            raise ModelError(
                f"{type(self).__name__} declares {len(found)} covariances per {per}; define {method}(self) to say which one the "
                f"random effects have."
            )
        return found[0] if found else None

    def individual(self, eta, cov) -> dict:
        """Individual parameters from random effects and covariates (named scalars; features are arrays)."""
        raise ModelError(
            f"{type(self).__name__} has no individual(self, eta, cov) method: it must return a dict of individual parameters."
        )

    def dynamics(self, ind):
        """The structural model of an individual: an ``nlme.pk`` structure, an ``nlme.ODE``, or None for a formula in observe."""
        return None

    def observe(self, ind, state, t) -> dict:
        """Distribution of each endpoint's observation at time ``t``: a dict such as ``{"conc": nlme.additive(...)}``."""
        raise ModelError(
            f'{type(self).__name__} has no observe(self, ind, state, t) method: it must return a dict such as {{"conc": '
            f"nlme.combined(state.central / ind.v, add=self.add, prop=self.prop)}}."
        )

    def __getattr__(self, name: str):
        # only reached when normal lookup failed: a misspelt parameter
        if name.startswith("_") or name in ("shape", "dtype", "ndim"):
            raise AttributeError(name)
        fields = [f.name for f in dataclasses.fields(self)]
        raise _MissingParameter(name_error("parameter", name, fields, type(self).__name__))

    def __repr__(self) -> str:
        rows = [_shown(self, field) for field in dataclasses.fields(self)]
        widths = [max((len(row[k]) for row in rows), default=0) for k in range(3)]
        lines = ["  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[3]]).rstrip() for row in rows]
        return "\n".join([type(self).__name__, *(f"  {line}" for line in lines)])

    def _repr_html_(self) -> str:
        from nlme.language.describe import describe

        return describe(self)._repr_html_()


def _shown(model: Model, field: dataclasses.Field) -> tuple[str, str, str, str]:
    """Name, value, unit and label of a field."""
    declaration, value = field.metadata.get(METADATA), getattr(model, field.name)
    unit, label = (declaration.unit, declaration.label) if declaration is not None else ("", "")
    if isinstance(value, Covariance):
        return field.name, repr(value).partition("(")[2][:-1], "", label or f"variances per {value.per}"
    if declaration is None or not is_concrete(value):
        return field.name, " ".join(repr(value).split()), unit, label
    numbers = np.array2string(np.asarray(value), formatter={"float": lambda x: f"{x:.6g}"}, threshold=8, max_line_width=np.inf)
    return field.name, numbers, unit, label


def _rows_of(source) -> list[ParameterRow]:
    """The parameters of a model, of whatever has one, or of values by name."""
    model = source if isinstance(source, Model) else getattr(source, "model", None)
    if isinstance(model, Model):
        return Inventory(model).rows(model)
    if isinstance(source, Mapping) or hasattr(source, "items"):
        return [ParameterRow(str(name), "", "", "", float(value), "") for name, value in source.items()]
    raise ModelError(f"from_fit takes a fit, a model, or values by parameter name; got {type(source).__name__}.")


class _MissingParameter(ModelError, AttributeError):
    """A parameter that the model does not declare."""


def require_model(model) -> Model:
    """An instance of a model, or a sentence.

    Raises
    ------
    ModelError
        The class in place of an instance, or anything else.
    """
    if isinstance(model, type) and issubclass(model, Model):
        raise ModelError(f"Pass an instance of the model: {model.__name__}() with its parentheses.")
    if not isinstance(model, Model):
        raise ModelError(f"model must be an instance of an nlme.Model subclass; got {type(model).__name__}.")
    return model


def documentation(model: Model) -> str:
    """What the author wrote about the model; nothing for the signature that dataclasses put where there is nothing."""
    return documented(type(model)) or ""


def documented(kind: type[Model]) -> str | None:
    """The docstring that the author of a class wrote."""
    written = inspect.getdoc(kind)
    return None if written is None or written.startswith(f"{kind.__name__}(") else written


def covariate_units(model: Model) -> dict[str, str]:
    """Covariate name -> unit as declared, without features; a tuple of names declares them without units.

    Raises
    ------
    ModelError
        ``covariates`` is neither a dict of units (and shapes) nor a sequence of names.
    """
    declared = type(model).covariates
    if isinstance(declared, dict):
        return {str(k): (v or "") for k, v in declared.items() if not isinstance(v, tuple)}
    if isinstance(declared, str) or not all(isinstance(name, str) for name in declared):
        raise ModelError(
            f'{type(model).__name__}.covariates must be a dict from name to unit, such as {{"wt": "kg"}}; got {declared!r}.'
        )
    return {name: "" for name in declared}


def feature_shapes(model: Model) -> dict[str, tuple[int, ...]]:
    """Features name -> shape as declared, ``covariates = {"mri": (32, 32)}``.

    Raises
    ------
    ModelError
        A shape that is not one of positive whole numbers.
    """
    declared = type(model).covariates
    found = {str(k): v for k, v in declared.items() if isinstance(v, tuple)} if isinstance(declared, dict) else {}
    for name, shape in found.items():
        if not shape or not all(isinstance(n, int | np.integer) and not isinstance(n, bool) and n > 0 for n in shape):
            raise ModelError(
                f"{type(model).__name__}.covariates: the features {name!r} are declared with the shape of one subject's array, such as "
                f"(5000,) or (32, 32); got {shape!r}."
            )
    return {name: tuple(map(int, shape)) for name, shape in found.items()}
