"""A model explains itself: parameters, random effects, what every equation takes in and gives out; without data."""

from __future__ import annotations

import dataclasses
import html

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from nlme.errors import ModelError
from nlme.jets.dependence import dependence
from nlme.language.anatomy import Anatomy, anatomy_of, individual_row, named, observation_row
from nlme.language.asked import effects_through_terms
from nlme.language.effects import transforms_at
from nlme.language.model import Model, covariate_units, documentation, feature_shapes
from nlme.neural.correction import Correction, labels
from nlme.neural.term import learned_terms
from nlme.parameters.inventory import Inventory
from nlme.typing import Named


@dataclasses.dataclass(frozen=True)
class Description:
    """Sections of (title, header, rows); prints as text and, in a notebook, as HTML."""

    name: str
    summary: str
    sections: tuple[tuple[str, tuple[str, ...], tuple[tuple[str, ...], ...]], ...]
    model: Model | None = dataclasses.field(default=None, compare=False)  # the HTML shows its equations, if it can

    def __str__(self) -> str:
        lines = [self.name, *([f"  {self.summary}"] if self.summary else [])]
        for title, header, rows in self.sections:
            widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
            lines += ["", title]
            for row in (header, *rows) if any(header) else rows:
                lines.append("  " + "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip())
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        def cells(tag, row):
            return "".join(f"<{tag} style='text-align:left;padding:2px 12px 2px 0'>{html.escape(c)}</{tag}>" for c in row)

        parts = [f"<h3>{html.escape(self.name)}</h3><p>{html.escape(self.summary)}</p>"]
        for title, header, rows in self.sections:
            body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
            head = f"<tr>{cells('th', header)}</tr>" if any(header) else ""
            parts.append(f"<h4>{html.escape(title)}</h4><table>{head}{body}</table>")
        if equations := self.equations():
            parts.append(f"<h4>Equations</h4>{equations}")
        return '<div class="tex2jax_ignore mathjax_ignore">' + "".join(parts) + "</div>"

    def equations(self) -> str:
        """The model's equations as HTML; nothing where they cannot be written, or sympy is not installed."""
        from nlme.language.equations import equations

        try:
            return equations(self.model).html()
        except ModelError:
            return ""


def describe(model: Model | type[Model]) -> Description:
    """What a model is made of, found by tracing its methods; no data are needed.

    Parameters
    ----------
    model : a model, its class, or a fit (its model at the estimate)

    Returns
    -------
    Description
        Parameters with domains and units, random effects and how they enter, covariates, individual parameters and what each
        depends on, the structure with its compartment numbers, and the error model of every endpoint.

    Raises
    ------
    ModelError
        The model is not well formed; the message names the method and the word.
    """
    if isinstance(model, type) and issubclass(model, Model):
        model = model()
    if not isinstance(model, Model):
        held = getattr(model, "model", None)
        if not isinstance(held, Model):
            raise ModelError(f"describe takes a model, its class or a fit; got {type(model).__name__}.")
        model = held
    anatomy = anatomy_of(model)
    sections = [_parameters(model), *_networks(model)]
    if anatomy.effects:
        sections.append(_effects(model, anatomy))
    if anatomy.covariates or anatomy.features:
        told = covariate_units(model) | {name: f"array {shape}" for name, shape in feature_shapes(model).items()}
        rows = tuple((name, unit or "-") for name, unit in told.items())
        sections.append(("Covariates", ("name", "unit"), rows))
    sections.append(_individual(model, anatomy))
    if anatomy.states:
        sections.append(_structure(model, anatomy))
    sections.append(_endpoints(model, anatomy))
    summary = documentation(model).split("\n\n")[0].replace("\n", " ")
    return Description(type(model).__name__, summary, tuple(sections), model)


def _parameters(model: Model):
    rows, weights = [], 0
    for row in Inventory(model).rows(model):
        if row.kind == "weight":
            weights += 1
            continue
        rows.append((row.name, f"{row.value:.4g}", row.domain, row.unit or "-", row.label or "-"))
    if weights:
        rows.append((f"({weights} network weights)", "", "real", "-", "-"))
    return "Parameters (fixed effects, variances, residual error)", ("name", "value", "domain", "unit", "label"), tuple(rows)


def _networks(model: Model):
    found = []
    for name, term in learned_terms(model).items():
        correction = isinstance(term, Correction)
        inputs = labels(term.inputs, term.n_inputs)
        shape = (term.output.words(inputs) if correction else "") or "real"
        standard = (term.standardisation if correction else "") or "-"
        size = sum(np.size(x) for x in jax.tree.leaves(eqx.filter(term, eqx.is_inexact_array)))
        found.append((name, ", ".join(inputs), ", ".join(term.outputs) or "-", term.form, shape, standard, str(size)))
    header = ("name", "inputs", "outputs", "form", "range", "standardised by", "weights")
    return [("Networks", header, tuple(found))] if found else []


def _effects(model: Model, anatomy: Anatomy):
    transforms = transforms_at(model, anatomy, anatomy.blank(np.ones))
    through, rows = effects_through_terms(model, anatomy), []
    transforms |= {
        name: f"through {' and '.join(terms)} alone (its variance is held in a fit)" for name, terms in through.items()
    }
    for omega in anatomy.levels(model):
        variances, correlation = np.diagonal(np.asarray(omega.matrix)), np.asarray(omega.correlation)
        for k, name in enumerate(omega.names):
            block = next(b for b in omega.blocks if k in b)
            others = [f"{omega.names[j]} ({correlation[k, j]:.2g})" for j in block if j != k]
            rows.append((name, omega.per, f"{variances[k]:.4g}", transforms[name], ", ".join(others) or "-"))
    return "Random effects", ("name", "one per", "variance", "enters", "correlated with"), tuple(rows)


def _individual(model: Model, anatomy: Anatomy):
    """Individual parameters and the effects, covariates and population parameters that reach each."""
    labels, pieces = _leaf_names(model)
    scalar = jax.ShapeDtypeStruct((), jnp.float64)

    def individual(etas, cov, leaves):
        own = eqx.combine(jax.tree.unflatten(pieces.tree, leaves), pieces.rest)
        return list(individual_row(own, named("random effect", anatomy.words, etas), Named(cov, "covariate")).values())

    etas, cov = [scalar] * len(anatomy.words), anatomy.blank(lambda shape: jax.ShapeDtypeStruct(shape, jnp.float64))
    reach = dependence(individual, etas, cov, pieces.shapes)
    words = [*(f"eta.{n}" for n in anatomy.words), *(f"cov.{n}" for n in sorted(cov)), *labels]
    rows = tuple((name, _listed(words, row)) for name, row in zip(anatomy.individual, reach, strict=True))
    return "Individual parameters", ("name", "depends on"), rows


def _structure(model: Model, anatomy: Anatomy):
    how = "" if anatomy.linear else " (solved by steps)"
    if anatomy.diffusion:
        how = " (stochastic: by its extended Kalman filter)"
    elif anatomy.exponential:
        how = " (linear: by its matrix exponential where doses are few, else by steps)"
    rows = [("kind", anatomy.structure + how)]
    rows.append(("compartments", ", ".join(f"{k + 1} = {name}" for k, name in enumerate(anatomy.states))))
    if anatomy.algebraic:
        rows.append(("algebraic", f"{', '.join(anatomy.algebraic)} (solved for, not integrated; no dose enters)"))
    if anatomy.delays:
        rows.append(("looks back after", f"{', '.join(anatomy.delays)} (delays)"))
    if anatomy.diffusion:
        rows.append(("diffusion", f"{', '.join(anatomy.diffusion)} (system noise)"))
    if anatomy.states[0] not in anatomy.algebraic:
        rows.append(("doses enter", f"{anatomy.states[0]} unless the data say otherwise"))
    rows.append(("takes", ", ".join(anatomy.inputs) or "-"))
    if anatomy.direct:
        labels, pieces = _leaf_names(model)
        sizes = [int(np.prod(shape.shape, dtype=int)) for shape in pieces.shapes]
        owner = np.repeat(np.arange(len(sizes)), sizes)
        rows.append(("parameters used directly", ", ".join(dict.fromkeys(labels[owner[k]] for k in anatomy.direct))))
    if anatomy.rules:
        rows.append(("dose rules", ", ".join(anatomy.rules)))
    return "Dynamics", ("", ""), tuple(rows)


def _endpoints(model: Model, anatomy: Anatomy):
    labels, pieces = _leaf_names(model)
    scalar = jax.ShapeDtypeStruct((), jnp.float64)
    parts: dict[str, tuple[str, ...]] = {}

    def observe(ind, states, t, leaves):
        own = eqx.combine(jax.tree.unflatten(pieces.tree, leaves), pieces.rest)
        ind = dict(zip(anatomy.individual, ind, strict=True))
        out = {name: r.parts() for name, r in observation_row(own, ind, anatomy.states, states, t).items()}
        parts.update({name: tuple(found) for name, found in out.items()})
        return [value for found in out.values() for value in found.values()]

    reach = dependence(observe, [scalar] * len(anatomy.individual), [scalar] * len(anatomy.states), scalar, pieces.shapes)
    words = [*anatomy.individual, *anatomy.states, "t", *labels]
    reached = iter(reach)
    rows = []
    for name, law in zip(anatomy.endpoints, anatomy.laws, strict=True):
        listed = [f"{part}: {_listed(words, next(reached))}" for part in parts[name]]
        rows.append((name, law.words, "; ".join(listed)))
    return "Observations", ("endpoint", "distribution", "what its parts depend on"), tuple(rows)


def _listed(words: list[str], reached: list[bool]) -> str:
    return ", ".join(dict.fromkeys(w for w, r in zip(words, reached, strict=True) if r)) or "-"


@dataclasses.dataclass(frozen=True)
class _Leaves:
    tree: object
    rest: Model
    shapes: list


def _leaf_names(model: Model) -> tuple[list[str], _Leaves]:
    """Name of the field behind every numeric leaf of a model, and the pieces to put it together again."""
    arrays, rest = eqx.partition(model, eqx.is_inexact_array)
    paths, tree = jax.tree_util.tree_flatten_with_path(arrays)
    names = [jax.tree_util.keystr(path[:1]).lstrip(".") for path, _ in paths]
    return names, _Leaves(tree, rest, [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for _, leaf in paths])
