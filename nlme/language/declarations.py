"""What a model's class declares, looked at while the class is made: every mistake in a field is said at once, with the line to write."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import equinox as eqx
import jax
import numpy as np

from nlme.errors import ModelError
from nlme.parameters.domains import METADATA, bounded, positive, probability, real

_TERMS = {"MLP": "nlme.mlp(...)", "Splines": "nlme.splines(...)", "Radial": "nlme.radial(...)", "KAN": "nlme.kan(...)"}
_NUMBERS = ("Scalar", "Vector", "Float[", "Array", "Covariance", "Mixture", *_TERMS)  # in the annotation of a parameter


def require_declared(kind: type) -> None:
    """Refuse fields that would be no parameters, or that Python would stumble over.

    Raises
    ------
    ModelError
        A declaration without an annotation, an annotation without a declaration behind others that have one, or a parameter's
        annotation with a bare value.
    """
    annotations = inspect.get_annotations(kind)
    for name, value in vars(kind).items():
        if isinstance(value, dataclasses.Field) and name not in annotations:
            raise ModelError(
                f"{kind.__name__}.{name} has no annotation, without which it is no parameter. Write {name}: {_kind(value)} = ..."
            )
    defaults = _inherited_defaults(kind)
    for name, annotation in annotations.items():
        if "ClassVar" in str(annotation):
            continue
        value = vars(kind).get(name, dataclasses.MISSING)
        if value is dataclasses.MISSING:
            if defaults:
                raise ModelError(without_a_value(kind, name, annotation))
            continue
        defaults = True
        _require_declaration(kind, name, annotation, value)


def without_a_value(kind: type, name: str, annotation: Any = None) -> str:
    """Sentence for a field that has only an annotation."""
    annotation = inspect.get_annotations(kind).get(name, "Scalar") if annotation is None else annotation
    return f"{kind.__name__}.{name} is declared without a value. Write {name}: {_word(annotation)} = {_value(annotation)}."


def _require_declaration(kind: type, name: str, annotation: Any, value: Any) -> None:
    owner = f"{kind.__name__}.{name}"
    if isinstance(value, dataclasses.Field):
        return
    if value in (positive, real, bounded, probability) if inspect.isfunction(value) else False:
        raise ModelError(
            f"{owner} = nlme.{value.__name__} has no starting value. Write {name}: Scalar = nlme.{value.__name__}(1.0)."
        )
    if isinstance(value, eqx.Module) and type(value).__module__.startswith("equinox"):
        raise ModelError(
            f"{owner} is an Equinox module, whose numbers have no domain. Its arrays become weights with {name}: nlme.Module = "
            f"nlme.module({type(value).__name__}(...))."
        )
    numbers = isinstance(value, jax.Array | np.ndarray)
    if numbers or any(word in _word(annotation) for word in _NUMBERS):
        shown = np.asarray(value).tolist() if numbers else value
        constant = (
            f"; for a constant, {name}: float = eqx.field(static=True, default={shown!r})"
            if isinstance(shown, int | float)
            else ""
        )
        raise ModelError(
            f"{owner} = {shown!r} has no domain, so it would be no parameter. Write {name}: {_word(annotation)} = "
            f"{_value(annotation, shown)}{constant}."
        )


def _inherited_defaults(kind: type) -> bool:
    """Whether a field of a parent class has a default, behind which Python takes no field without one."""
    missing = dataclasses.MISSING
    fields = [f for parent in kind.__mro__[1:] if dataclasses.is_dataclass(parent) for f in dataclasses.fields(parent)]
    return any(f.default is not missing or f.default_factory is not missing for f in fields)


def _kind(field: dataclasses.Field) -> str:
    """The annotation that belongs to a declaration."""
    declaration = field.metadata.get(METADATA)
    name = declaration.domain.name if declaration is not None else ""
    return {"": "...", "covariance": "nlme.Covariance"}.get(name, "Scalar")


def _word(annotation: Any) -> str:
    """An annotation as the user wrote it, about."""
    if isinstance(annotation, str):
        return annotation
    text = getattr(annotation, "__name__", str(annotation))
    if text.startswith("Float["):
        return "Scalar" if text.endswith("'']") else "Vector"
    return f"nlme.{text}" if text in ("Covariance", "Mixture", *_TERMS) else text


def _value(annotation: Any, shown: Any = 1.0) -> str:
    """What to write behind an annotation."""
    word = _word(annotation)
    if "Covariance" in word:
        return "nlme.covariance(cl=0.1)"
    if "Mixture" in word:
        return "nlme.mixture(slow=0.3, fast=0.7)"
    for name, constructor in _TERMS.items():
        if name in word:
            return constructor
    number = shown if isinstance(shown, int | float | list) and not isinstance(shown, bool) else 1.0
    return f"nlme.positive({number!r}) (or nlme.real, bounded, probability)"
