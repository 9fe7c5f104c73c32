"""The full random effects covariate model (FREM): covariates and random effects have one joint normal distribution.

    (eta, x) ~ N( (0, mu), [[Omega_ee, Omega_ex], [Omega_xe, Omega_xx]] )

x are the subject's covariates, a category but the commonest as 0 or 1.  All effects of all covariates are in it, correlated as the covariates
are, and none is chosen.  What any of the covariates, alone or together, say of the random effects follows without another fit:

    eta | x_K  ~  N( Omega_eK Omega_KK^-1 (x_K - mu_K),  Omega_ee - Omega_eK Omega_KK^-1 Omega_Ke )

Covariates are seen without error, so that the likelihood is that of the covariates times that of the observations given them,

    p(y, x) = N(x; mu, Omega_xx)  integral p(y | eta) N(eta; B (x - mu), Omega_c) d eta,    B = Omega_ex Omega_xx^-1,

and (mu, Omega_xx, B, Omega_c) stand for (mu, Omega) one to one.  The first factor has its maximum at the covariates' mean and covariance;
the second is the model with every random effect shifted by B (x - mu), whose coefficients and Omega_c are fitted.  It is the maximum
that NONMEM finds with covariates as observations of tiny error, without q + C random effects to be integrated.  Where covariates are
missing in some subjects the two factors share their parameters, and the model is fitted as NONMEM does it
(``nlme.language.joint_normal``): what is known of a subject counts, and nothing is filled in.

Sources: Karlsson (2012), PAGE 21 Abstr 2455; Yngman, Bjugard Nyberg, Nyberg, Jonsson & Karlsson (2022), J Pharmacokinet Pharmacodyn
49:187, doi:10.1007/s10928-021-09803-0.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable
from typing import Any

import numpy as np

from nlme.data.population import Population
from nlme.errors import DataError, ModelError, name_error
from nlme.fitting.fit import fit as fit_model
from nlme.fitting.result import Fit
from nlme.language.augmented import made_as
from nlme.language.model import Model
from nlme.language.relations import Relation, shift
from nlme.marginal.base import Method
from nlme.parameters.covariance import Covariance
from nlme.parameters.inventory import Inventory
from nlme.selection.candidates import WithSource, base_fit, extended, subject_values, with_omega
from nlme.selection.frem_missing import fitted_with_missing
from nlme.tables.numbers import significant
from nlme.tables.shown import Panel


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class FullRandomEffects(WithSource):
    """A full random effects covariate model.

    Attributes
    ----------
    fit : of the model whose random effects are shifted by all covariates together, in which Omega is what these leave unexplained; where
        covariates are missing, of the model that has them as endpoints, in which Omega is ``joint``
    relations : which covariate shifts which random effect
    effects : the q random effects that are shifted
    columns : the C covariates as numbers: "wt", "sex_male"
    of : the covariate of each column
    mean : (C,) mu of the columns
    joint : DataFrame (q + C, q + C), Omega, the covariance of random effects and covariates
    errors : (q, C) standard errors of the shifts B
    missing : number of subjects in whom each column is missing, (C,)
    without : the base model at its own estimates
    """

    fit: Fit
    relations: tuple[Relation, ...]
    effects: tuple[str, ...]
    columns: tuple[str, ...]
    of: tuple[str, ...]
    mean: np.ndarray
    joint: Any
    errors: np.ndarray
    missing: np.ndarray
    without: Model

    @functools.cached_property
    def model(self) -> Model:
        """The model with every shift, at the estimates; all covariates must be known where it is used."""
        return self.given(dict.fromkeys(self.of))

    @property
    def covariance(self) -> np.ndarray:
        """(C, C) of the columns."""
        q = len(self.effects)
        return self.joint.to_numpy()[q:, q:]

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
        found = np.linalg.solve(self.covariance[np.ix_(k, k)], self._shared[:, k].T).T
        return pd.DataFrame(found, list(self.effects), [self.columns[j] for j in k])

    def unexplained(self, covariates: Iterable[str] | str | None = None):
        """DataFrame (q, q): Omega_ee - Omega_eK Omega_KK^-1 Omega_Ke, the covariance of the random effects given these covariates."""
        import pandas as pd

        k, q = self._given(covariates), len(self.effects)
        known = self.coefficients(covariates).to_numpy() @ self._shared[:, k].T
        return pd.DataFrame(self.joint.to_numpy()[:q, :q] - known, list(self.effects), list(self.effects))

    @property
    def _shared(self) -> np.ndarray:
        """(q, C) Omega_ex."""
        q = len(self.effects)
        return self.joint.to_numpy()[:q, q:]

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
        wanted = list(dict.fromkeys(self.of[k] for k in self._given(covariates)))
        chosen, population = tuple(r for r in self.relations if r.covariate in wanted), self.fit.population
        slopes = self.coefficients(wanted)
        base = with_omega(self._base(), self._omega_with(self.unexplained(wanted).to_numpy()))
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
        return made_as(type(self.without), fields)

    def _omega_with(self, matrix: np.ndarray) -> Covariance:
        """Omega of the written model's random effects, with ``matrix`` of those that are shifted."""
        fitted = self.fit.model.random()
        omega = self.without.random().in_one_block(self.effects)
        own = [fitted.names.index(name) for name in omega.names]
        whole, places = np.array(fitted.matrix)[np.ix_(own, own)], [omega.names.index(name) for name in self.effects]
        whole[np.ix_(places, places)] = matrix
        return omega.replace(whole)

    def _exact(self):
        found = self.coefficients().stack().rename("shift").rename_axis(["effect", "column"]).reset_index()
        found["se"] = self.errors.ravel()
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
            *self._missing_note(),
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

    def _missing_note(self) -> list[str]:
        count = len(self.fit.population)
        told = ", ".join(f"{c} in {n} of {count}" for c, n in zip(self.columns, self.missing, strict=True) if n)
        if not told:
            return []
        return [
            f"Missing: {told} subjects. Their likelihood is that of what is known of them; the objective has the covariates in it."
        ]


def frem(
    model: Model | Fit,
    covariates: Iterable[str],
    population: Population | None = None,
    method: Method | None = None,
    *,
    effects: Iterable[str] | None = None,
    missing: float | None = None,
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
    missing : the number that stands for a covariate that is not known, such as -99, with which the data were read
        (``read_nonmem(..., fill={"wt": -99})``).  Covariates then are observations of the model, and such a subject has one less

    Raises
    ------
    DataError
        An unknown covariate, one that is missing and nothing says so, or one that changes within a subject.
    ModelError
        An unknown random effect, no random effects, covariates that say the same; random effects above the subject; a missing covariate
        that the model itself reads, or ``effects`` that are a part of a correlated block, where covariates are missing.
    FitError
        The model cannot be fitted; a method that integrates by samples or on a grid where covariates are missing.
    """
    import pandas as pd

    base = base_fit(model, population, method, fixed, "nlme.frem", progress=progress)
    population, names = base.population, _effects(base, effects)
    wanted = [covariates] if isinstance(covariates, str) else list(covariates)
    values = {name: _constant(population, name, missing) for name in wanted}
    if not values or len(values) < len(wanted):
        raise ModelError('nlme.frem: covariates are names, each once, for example ["wt", "age", "sex"].')
    known = {c: x[np.isfinite(x)] for c, x in values.items()}
    relations = tuple(shift(e, c, x, population.covariates[c].categories) for e in names for c, x in known.items())
    first = [r for r in relations if r.parameter == names[0]]
    columns, table = _numbers(first, values)
    of = tuple(r.covariate for r in first for _ in r.coefficients)
    unknown = np.isnan(table)
    _require_distinct(columns, table[~unknown.any(axis=1)])
    if unknown.any():
        found, mean, joint, errors = fitted_with_missing(base, names, columns, of, table, progress)
        relations = _about(relations, dict(zip(columns, mean, strict=True)))
    else:
        found, mean = _fitted(base, names, relations, progress), table.mean(axis=0)
        joint, errors = _joint(found, names, relations, np.cov(table.T, bias=True).reshape(len(columns), -1))
    joint = pd.DataFrame(joint, [*names, *columns], [*names, *columns])
    return FullRandomEffects(found, relations, names, columns, of, mean, joint, errors, unknown.sum(axis=0), base.model)


def _fitted(base: Fit, names: tuple[str, ...], relations: tuple[Relation, ...], progress: bool | None) -> Fit:
    """The fit of the model with every random effect shifted by all covariates."""
    start = with_omega(base.model, base.model.random().in_one_block(names))
    whole = extended(start, relations, base.population)
    return fit_model(whole, base.population, base.method, fixed=base.inventory.fixed, progress=progress)


def _joint(fit: Fit, names: tuple[str, ...], relations: tuple[Relation, ...], xx: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(q + C, q + C) Omega of effects and columns, from B and Omega_c; and (q, C) standard errors of B."""
    told = [[name for r in relations if r.parameter == effect for name in r.coefficients] for effect in names]
    b = np.array([[float(getattr(fit.model, name)) for name in row] for row in told])
    errors = fit.covariance.standard_errors
    omega = fit.model.random()
    places = [omega.names.index(name) for name in names]
    left = np.asarray(omega.matrix)[np.ix_(places, places)]
    joint = np.block([[b @ xx @ b.T + left, b @ xx], [xx @ b.T, xx]])
    return joint, np.array([[float(errors[name]) for name in row] for row in told])


def _about(relations: tuple[Relation, ...], mean: dict[str, float]) -> tuple[Relation, ...]:
    """The relations about these means of the columns."""
    return tuple(
        dataclasses.replace(r, shares=tuple(mean[name] for name in _columns(r)))
        if r.codes
        else dataclasses.replace(r, center=mean[r.covariate])
        for r in relations
    )


def _effects(base: Fit, effects: Iterable[str] | None) -> tuple[str, ...]:
    omega = base.model.random()
    if omega is None:
        raise ModelError(f"nlme.frem: {type(base.model).__name__} has no random effects per subject for covariates to explain.")
    names = omega.names if effects is None else (effects,) if isinstance(effects, str) else tuple(effects)
    for name in names:
        if name not in omega.names:
            raise ModelError("nlme.frem: " + name_error("random effect", str(name), omega.names, type(base.model).__name__))
    return tuple(name for name in omega.names if name in names and float(omega.sd[omega.names.index(name)]) > 0)


def _constant(population: Population, name: str, missing: float | None) -> np.ndarray:
    """(N,) a covariate, NaN where it is ``missing``."""
    values = subject_values(population, name)
    if missing is not None:
        values = np.where(values == missing, np.nan, values)
    if np.all(np.isnan(values)):
        raise DataError(f"nlme.frem: covariate {name!r} is {missing:g}, which stands for missing, in every subject.")
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
        found += [np.where(np.isnan(x), np.nan, x == code) for code in r.codes] if r.codes else [x]
    return names, np.stack(found, axis=1)


def _require_distinct(columns: tuple[str, ...], table: np.ndarray) -> None:
    """Refuse columns of which one follows from the others, as far as the subjects tell in whom all are known (rows of ``table``)."""
    varying = np.ptp(table, axis=0) > 0 if len(table) else np.zeros(len(columns), bool)
    if len(table) <= len(columns) or not varying.all():
        return
    worth, vectors = np.linalg.eigh(np.corrcoef(table.T).reshape(len(columns), -1))
    if worth[0] < 1e-8:
        together = [name for name, part in zip(columns, vectors[:, 0], strict=True) if abs(part) > 0.1]
        raise ModelError(f"nlme.frem: {', '.join(together)} determine each other; leave one of them out.")
