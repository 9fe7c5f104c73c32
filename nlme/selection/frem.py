"""The full random effects covariate model (FREM): covariates and random effects have one joint normal distribution.

    (eta, x) ~ N( (0, mu), [[Omega_ee, Omega_ex], [Omega_xe, Omega_xx]] )

x are the subject's covariates, a category but the commonest as 0 or 1.  All effects of all covariates are in it, correlated as the covariates
are, and none is chosen.  What any of the covariates, alone or together, say of the random effects follows without another fit:

    eta | x_K  ~  N( Omega_eK Omega_KK^-1 (x_K - mu_K),  Omega_ee - Omega_eK Omega_KK^-1 Omega_Ke )

Covariates are seen without error, so that the likelihood is that of the covariates times that of the observations given them,

    p(y, x) = N(x; mu, Omega_xx)  integral p(y | eta) N(eta; B (x - mu), Omega_c) d eta,    B = Omega_ex Omega_xx^-1,

and (mu, Omega_xx, B, Omega_c) stand for (mu, Omega) one to one.  The first factor has its maximum at the covariates' mean and covariance;
the second is the model with every random effect shifted by B (x - mu), whose coefficients and Omega_c are fitted.  It is the maximum
that NONMEM finds with covariates as observations of tiny error, without q + C random effects to be integrated.

Sources: Karlsson (2012), PAGE 21 Abstr 2455; Yngman, Bjugard Nyberg, Nyberg, Jonsson & Karlsson (2022), J Pharmacokinet Pharmacodyn
49:187, doi:10.1007/s10928-021-09803-0.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable

import equinox as eqx
import numpy as np

from nlme.data.population import Population
from nlme.errors import DataError, ModelError, name_error
from nlme.fitting.fit import fit as fit_model
from nlme.fitting.result import Fit
from nlme.language.model import Model
from nlme.language.relations import Relation, shift
from nlme.marginal.base import Method
from nlme.parameters.covariance import SUBJECT, Covariance, build
from nlme.parameters.inventory import Inventory
from nlme.selection.candidates import WithSource, base_fit, extended, subject_values
from nlme.tables.numbers import significant
from nlme.tables.shown import Panel


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class FullRandomEffects(WithSource):
    """A full random effects covariate model.

    Attributes
    ----------
    fit : of the model whose random effects are shifted by all covariates together; Omega is what these leave unexplained
    relations : which covariate shifts which random effect
    effects : the q random effects that are shifted
    columns : the C covariates as numbers: "wt", "sex_male"
    of : the covariate of each column
    mean, covariance : (C,) and (C, C) of the columns, over the subjects
    without : the base model at its own estimates
    """

    fit: Fit
    relations: tuple[Relation, ...]
    effects: tuple[str, ...]
    columns: tuple[str, ...]
    of: tuple[str, ...]
    mean: np.ndarray
    covariance: np.ndarray
    without: Model

    @property
    def model(self) -> Model:
        """The model with every shift, at the estimates."""
        return self.fit.model

    @functools.cached_property
    def _slopes(self) -> np.ndarray:
        """(q, C) B."""
        model = self.fit.model
        found = [[float(getattr(model, name)) for r in self._of_effect(e) for name in r.coefficients] for e in self.effects]
        return np.array(found)

    def _of_effect(self, effect: str) -> list[Relation]:
        return [r for r in self.relations if r.parameter == effect]

    @functools.cached_property
    def _left(self) -> np.ndarray:
        """(q, q) Omega_c of the shifted effects."""
        omega = self.fit.model.random()
        places = [omega.names.index(name) for name in self.effects]
        return np.asarray(omega.matrix)[np.ix_(places, places)]

    @functools.cached_property
    def joint(self):
        """DataFrame (q + C, q + C): Omega, the covariance of random effects and covariates."""
        import pandas as pd

        b, xx = self._slopes, self.covariance
        names = [*self.effects, *self.columns]
        return pd.DataFrame(np.block([[b @ xx @ b.T + self._left, b @ xx], [xx @ b.T, xx]]), names, names)

    def _given(self, covariates: Iterable[str] | None) -> list[int]:
        known = list(dict.fromkeys(self.of))
        wanted = known if covariates is None else [covariates] if isinstance(covariates, str) else list(covariates)
        for name in wanted:
            if name not in known:
                raise ModelError(name_error("covariate", str(name), known, "This full random effects model"))
        return [k for k, name in enumerate(self.of) if name in wanted]

    def coefficients(self, covariates: Iterable[str] | str | None = None):
        """DataFrame (q, K): Omega_eK Omega_KK^-1, the shift of each random effect by a unit of each of these covariates when only they
        are known; all by default.

        Raises
        ------
        ModelError
            A covariate that is not in the model.
        """
        import pandas as pd

        k = self._given(covariates)
        found = np.linalg.solve(self.covariance[np.ix_(k, k)], (self._slopes @ self.covariance)[:, k].T).T
        return pd.DataFrame(found, list(self.effects), [self.columns[j] for j in k])

    def unexplained(self, covariates: Iterable[str] | str | None = None):
        """DataFrame (q, q): Omega_ee - Omega_eK Omega_KK^-1 Omega_Ke, the covariance of the random effects given these covariates."""
        import pandas as pd

        k = self._given(covariates)
        total = self._slopes @ self.covariance @ self._slopes.T + self._left
        known = self.coefficients(covariates).to_numpy() @ (self._slopes @ self.covariance)[:, k].T
        return pd.DataFrame(total - known, list(self.effects), list(self.effects))

    def explained(self, covariates: Iterable[str] | str | None = None):
        """Series (q,): the share of each random effect's variance that these covariates explain."""
        import pandas as pd

        total = np.diagonal(self.joint.to_numpy())[: len(self.effects)]
        return pd.Series(1.0 - np.diagonal(self.unexplained(covariates)) / total, list(self.effects), name="explained")

    def given(self, covariates: Iterable[str] | str) -> Model:
        """The model in which only these covariates are known, without another fit: an ordinary model, to be evaluated, simulated from,
        shown by ``nlme.plots.forest(nlme.evaluate(model, population))``.

        Raises
        ------
        ModelError
            A covariate that is not in the model.
        """
        wanted = {self.of[k] for k in self._given(covariates)}
        chosen, population = tuple(r for r in self.relations if r.covariate in wanted), self.fit.population
        slopes = self.coefficients(wanted)
        base = _with_omega(self._base(), self._omega_with(self.unexplained(wanted).to_numpy()))
        made = extended(base, chosen, population)
        values = {
            name: float(slopes.loc[r.parameter, column])
            for r in chosen
            for name, column in zip(r.coefficients, _columns(r), strict=True)
        }
        return Inventory(made).with_values(made, values)

    def _base(self) -> Model:
        """The written model, at the estimates of the fit."""
        fields = {f.name: getattr(self.fit.model, f.name) for f in dataclasses.fields(self.without)}
        return dataclasses.replace(self.without, **fields)

    def _omega_with(self, matrix: np.ndarray) -> Covariance:
        omega = self.fit.model.random()
        whole, places = np.array(omega.matrix), [omega.names.index(name) for name in self.effects]
        whole[np.ix_(places, places)] = matrix
        return omega.replace(whole)

    def _exact(self):
        found = self.coefficients().stack().rename("shift").rename_axis(["effect", "column"]).reset_index()
        errors = self.fit.covariance.standard_errors
        names = [name for e in self.effects for r in self._of_effect(e) for name in r.coefficients]
        found["se"] = [float(errors[name]) for name in names]
        by_itself = {c: self.coefficients(of)[c] for c, of in zip(self.columns, self.of, strict=True)}
        alone = [by_itself[c][e] for e, c in zip(found.effect, found.column, strict=True)]
        return found.assign(alone=alone)

    def _panels(self) -> list[Panel]:
        rows = [
            [row.effect, row.column, *(significant(float(x), 3) for x in (row.shift, row.se, row.alone))]
            for row in self._exact().itertuples()
        ]
        shares = [
            [name, *(significant(100.0 * float(self.explained(of)[name]), 3) for of in (*dict.fromkeys(self.of), None))]
            for name in self.effects
        ]
        title = f"Full random effects covariate model of {type(self.without).__name__}, {self.fit.method!r}"
        notes = [
            "Shift of the random effect by a unit of the covariate when all are known, with its standard error; alone: when it is the "
            "only one that is known.",
            f"Objective {self.fit.objective:.3f}. {self.fit.verdict}",
        ]
        return [
            Panel(title, ["Random effect", "Covariate", "Shift", "SE", "Alone"], rows, notes, (0, 1)),
            Panel(
                "Variance explained, %",
                ["Random effect", *dict.fromkeys(self.of), "all"],
                shares,
                ["By each covariate when it is the only one that is known, and by all together."],
            ),
        ]


def frem(
    model: Model | Fit,
    covariates: Iterable[str],
    population: Population | None = None,
    method: Method | None = None,
    *,
    effects: Iterable[str] | None = None,
    fixed: Iterable[str] = (),
    progress: bool | None = None,
) -> FullRandomEffects:
    """Fit the full random effects covariate model.

    Parameters
    ----------
    model : a fit without the covariates in question (its model, data, method and fixed parameters are taken), or a model
    covariates : those that may matter, all at once: numbers, and categories
    population, method, fixed : as in :func:`nlme.fit`, where a model is given
    effects : random effects (per subject) that may depend on them; all by default.  Their Omega is made full

    Raises
    ------
    DataError
        An unknown covariate, one that is missing, or one that changes within a subject.
    ModelError
        An unknown random effect, no random effects, covariates that say the same; random effects above the subject.
    FitError
        The model cannot be fitted.
    """
    base = base_fit(model, population, method, fixed, "nlme.frem", progress=progress)
    population, names = base.population, _effects(base, effects)
    wanted = [covariates] if isinstance(covariates, str) else list(covariates)
    values = {name: _constant(population, name) for name in wanted}
    if not values or len(values) < len(wanted):
        raise ModelError('nlme.frem: covariates are names, each once, for example ["wt", "age", "sex"].')
    relations = tuple(shift(e, c, x, population.covariates[c].categories) for e in names for c, x in values.items())
    first = [r for r in relations if r.parameter == names[0]]
    columns, table = _numbers(first, values)
    covariance = np.cov(table.T, bias=True).reshape(len(columns), -1)
    _require_distinct(columns, covariance)
    start = _with_omega(base.model, _full(base.model.random(), names))
    whole = extended(start, relations, population)
    found = fit_model(whole, population, base.method, fixed=base.inventory.fixed, progress=progress)
    of = tuple(r.covariate for r in first for _ in r.coefficients)
    return FullRandomEffects(found, relations, names, columns, of, table.mean(axis=0), covariance, base.model)


def _effects(base: Fit, effects: Iterable[str] | None) -> tuple[str, ...]:
    omega = base.model.random()
    if omega is None:
        raise ModelError(f"nlme.frem: {type(base.model).__name__} has no random effects per subject for covariates to explain.")
    names = omega.names if effects is None else (effects,) if isinstance(effects, str) else tuple(effects)
    for name in names:
        if name not in omega.names:
            raise ModelError("nlme.frem: " + name_error("random effect", str(name), omega.names, type(base.model).__name__))
    return tuple(name for name in omega.names if name in names and float(omega.sd[omega.names.index(name)]) > 0)


def _constant(population: Population, name: str) -> np.ndarray:
    values = subject_values(population, name)
    if not population.covariates[name].constant:
        raise DataError(f"nlme.frem: covariate {name!r} changes within a subject; give its baseline as a column of its own.")
    return values


def _columns(relation: Relation) -> tuple[str, ...]:
    """Names of the covariate's numbers: itself, or one for each category but the commonest."""
    return tuple(f"{relation.covariate}_{word}" for word in relation.words) or (relation.covariate,)


def _numbers(relations: list[Relation], values: dict[str, np.ndarray]) -> tuple[tuple[str, ...], np.ndarray]:
    """Names of the columns, and (N, C)."""
    names = tuple(name for r in relations for name in _columns(r))
    found = []
    for r in relations:
        x = values[r.covariate]
        found += [(x == code).astype(float) for code in r.codes] if r.codes else [x]
    return names, np.stack(found, axis=1)


def _require_distinct(columns: tuple[str, ...], covariance: np.ndarray) -> None:
    sd = np.sqrt(np.diagonal(covariance))
    worth, vectors = np.linalg.eigh(covariance / np.outer(sd, sd))
    if worth[0] < 1e-8:
        together = [name for name, part in zip(columns, vectors[:, 0], strict=True) if abs(part) > 0.1]
        raise ModelError(f"nlme.frem: {', '.join(together)} determine each other; leave one of them out.")


def _full(omega: Covariance, names: tuple[str, ...]) -> Covariance:
    """The same matrix with the effects ``names`` in one block, its effects in the order of the blocks, as a model declares them."""
    places = tuple(k for k, name in enumerate(omega.names) if name in names)
    touched = {j for block in omega.blocks if set(block) & set(places) for j in block}
    block = tuple(sorted(touched | set(places)))
    others = tuple(b for b in omega.blocks if not set(b) & set(block))
    matrix = np.asarray(omega.matrix)
    return build(*((tuple(omega.names[k] for k in b), matrix[np.ix_(b, b)]) for b in sorted((block, *others))), per=omega.per)


def _with_omega(model: Model, omega: Covariance) -> Model:
    """The model with another covariance of its subjects' random effects."""
    (field,) = (
        f.name
        for f in dataclasses.fields(model)
        if isinstance(getattr(model, f.name), Covariance) and getattr(model, f.name).per == SUBJECT
    )
    return eqx.tree_at(lambda m: getattr(m, field), model, omega)
