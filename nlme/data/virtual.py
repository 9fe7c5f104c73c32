"""Virtual populations: people who were never seen, by the distributions of their covariates or like the people of a table.

| ``like``, ``how``  | covariates of a new person                                                                              |
|--------------------|---------------------------------------------------------------------------------------------------------|
| none               | each from its own distribution, or a function of those before it                                        |
| a table, "rows"    | those of one person of the table, drawn with replacement: all correlations, no new values                |
| a table, "copula"  | z ~ N(0, R); a continuous one is the empirical quantile of the table at Phi(z_j), a category that whose cumulative share holds Phi(z_j) |

R holds the correlations of normal scores: of a continuous covariate Phi^-1((rank - 1/2) / n), of category k s_k = E[w | its interval]
of a standard normal w, whose covariances are divided by Var(s): cov(z, s) = rho Var(s) exactly where w and z are jointly normal with
correlation rho, and to first order in rho between two categories.

Sources: Nelsen (2006), An Introduction to Copulas, ch. 2; Tannenbaum et al. (2006), J Pharmacokinet Pharmacodyn 33:605 (virtual
covariates: continuous method and bootstrap); Zwep et al. (2024), Clin Pharmacol Ther 115:795, doi:10.1002/cpt.3099 (copulas).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from scipy.special import ndtr, ndtri

from nlme.data.course import Course
from nlme.data.covariates import CovariateInfo
from nlme.data.distributions import Distribution
from nlme.data.population import Population
from nlme.data.subject import Subject
from nlme.errors import DataError, name_error
from nlme.keys import key_of

HOW = ("rows", "copula")


def virtual(
    n: int, covariates: Any = None, *, key, like: Any = None, how: str = "rows", units: Mapping[str, str] | None = None
) -> Population:
    """``n`` new people, numbered from 1, with covariates and without records: give them ``.with_doses(...)`` and ``.with_times(...)``.

    Parameters
    ----------
    n : how many
    covariates : name -> a distribution (``nlme.distributions``, or an object with ``sample(key, shape)``, as NumPyro's), a number, n values, or
        a function of the covariates before it (a dict of arrays); with ``like`` further ones, or the names of those to take from it
    key : seed, an int or a JAX key
    like : a population, or a DataFrame with one row a person, whose people the new ones resemble
    how : "rows" or "copula" (see :mod:`nlme.data.virtual`); "rows" of a population keeps what changes in time, and features, too
    units : name -> unit; those of ``like`` and of the distributions are known

    Raises
    ------
    DataError
        A number of people that is none; covariates that are no distribution, not finite or missing in ``like``.
    """
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1:
        raise DataError(f"virtual: n is the number of people, a whole number from 1 on; got {n!r}.")
    if how not in HOW:
        raise DataError(f"virtual: how={how!r}; it is 'rows' or 'copula'.")
    key = key_of(key)
    own, further = jax.random.split(key)
    wanted, declared = _asked(covariates, like)
    courses, features, values, infos = [None] * n, [{}] * n, {}, {}
    if like is not None:
        table = _People(like, wanted)
        infos = dict(table.infos)
        if how == "rows":
            rows = np.asarray(jax.random.randint(own, (n,), 0, len(table)))
            values = {name: v[rows] for name, v in table.values.items()}
            courses, features = [table.courses[i] for i in rows], [table.features[i] for i in rows]
        else:
            values = _copula(table, own, n)
    for name, given in declared.items():
        if name in values:
            raise DataError(
                f"virtual: covariate {name!r} is both in like= and among the covariates given; leave it out of one of them."
            )
        values[name], info = _drawn(name, given, jax.random.fold_in(further, len(values)), n, values)
        infos[name] = info
    for name, unit in (units or {}).items():
        if name not in infos:
            raise DataError("virtual, units=: " + name_error("covariate", name, infos, "The population"))
        infos[name] = CovariateInfo(name, unit, infos[name].constant, infos[name].categories, name, infos[name].interpolation)
    people = [_person(i, {k: float(v[i]) for k, v in values.items()}, courses[i], features[i]) for i in range(n)]
    return Population(tuple(people), covariates=infos, source="virtual")


def _asked(covariates: Any, like: Any) -> tuple[list[str] | None, dict[str, Any]]:
    """Names to take from ``like`` (None: all), and what else is given."""
    if covariates is None:
        return None, {}
    if isinstance(covariates, Mapping):
        return None, {str(name): given for name, given in covariates.items()}
    if like is None or isinstance(covariates, str) or not all(isinstance(name, str) for name in covariates):
        raise DataError(
            f"virtual: covariates are names with distributions, {{'wt': nlme.distributions.lognormal(70, cv=0.2)}}; got {covariates!r}."
        )
    return list(covariates), {}


def _person(i: int, values: dict[str, float], course: Course | None, features: dict[str, np.ndarray]) -> Subject:
    """A subject without records, whose covariates are told by its course."""
    times, occasion, known = [0.0], [0], {}
    if course is not None:
        times, occasion = course.time, course.occasion
        known = {name: course.covariates[name] for name in values if name in course.covariates}
    told = {name: known.get(name, np.full(len(times), value)) for name, value in values.items()}
    nothing = {name: np.zeros(0) for name in values}
    return Subject(i + 1, time=np.zeros(0), covariates=nothing, course=Course(times, occasion, told), features=features)


def _drawn(name: str, given: Any, key, n: int, before: dict[str, np.ndarray]) -> tuple[np.ndarray, CovariateInfo]:
    info = CovariateInfo(name, column=name)
    if isinstance(given, Distribution):
        values, info = given.draw(key, n), CovariateInfo(name, given.unit, True, given.categories, name)
    elif callable(getattr(given, "sample", None)):
        values = given.sample(key, (n,))
    elif callable(given):
        values = given(dict(before))
    elif isinstance(given, str):
        raise DataError(
            f"virtual: covariate {name!r} is {given!r}; a category is written nlme.distributions.categorical({{{given!r}: 1.0}})."
        )
    else:
        values = given
    try:
        found = np.broadcast_to(np.asarray(values, dtype=float), (n,))
    except (TypeError, ValueError):
        raise DataError(f"virtual: covariate {name!r} needs one number for each of {n} people; got {_brief(values)}.") from None
    if not np.all(np.isfinite(found)):
        raise DataError(
            f"virtual: covariate {name!r} is {found[~np.isfinite(found)][0]} for person {np.flatnonzero(~np.isfinite(found))[0] + 1}."
        )
    return found, info


def _brief(values: Any) -> str:
    shape = getattr(values, "shape", None)
    return f"an array of shape {shape}" if shape is not None else repr(values)[:80]


class _People:
    """The people of a population or of a table: values (M,) of every covariate, and what is known of each."""

    def __init__(self, like: Any, names: list[str] | None):
        if isinstance(like, Population):
            self._of_population(like, names)
        elif hasattr(like, "columns"):
            self._of_frame(like, names)
        else:
            raise DataError(f"virtual: like= is a population or a DataFrame with one row a person; got {type(like).__name__}.")
        if not self.values:
            raise DataError("virtual: like= has no covariates.")

    def __len__(self) -> int:
        return len(self.courses)

    def _of_population(self, like: Population, names: list[str] | None) -> None:
        chosen = _chosen(list(like.covariates), names)
        self.infos = {name: like.covariates[name] for name in chosen}
        self.courses, self.features = [s.history if len(s.history) else None for s in like], [dict(s.features) for s in like]
        self.values = {name: np.array([s.history.covariates[name][0] for s in like]) for name in chosen}
        for name, values in self.values.items():
            bad = np.flatnonzero(~np.isfinite(values))
            if len(bad):
                raise DataError(
                    f"virtual: covariate {name!r} is missing in subject {like.ids[bad[0]]}; leave such people out of like=."
                )

    def _of_frame(self, like, names: list[str] | None) -> None:
        chosen = _chosen([str(c) for c in like.columns if str(c).upper() != "ID"], names)
        ids = (
            like[next(c for c in like.columns if str(c).upper() == "ID")]
            if any(str(c).upper() == "ID" for c in like.columns)
            else None
        )
        if ids is not None and ids.duplicated().any():
            raise DataError(
                f"virtual: like= has several rows of ID {ids[ids.duplicated()].iloc[0]}; one row a person is needed "
                f"(frame.groupby('ID').first().reset_index())."
            )
        self.courses, self.features, self.values, self.infos = [None] * len(like), [{}] * len(like), {}, {}
        for name in chosen:
            column = like[name]
            bad = np.flatnonzero(column.isna().to_numpy())
            if len(bad):
                raise DataError(
                    f"virtual: {name!r} is missing in row {bad[0] + 1} of like=; leave such rows out (frame.dropna())."
                )
            categories = None
            if column.dtype.kind not in "iufb":
                categories = tuple(sorted(map(str, column.unique())))
                values = np.array([categories.index(str(v)) for v in column], float)
            else:
                values = column.to_numpy(dtype=float)
            self.values[name], self.infos[name] = values, CovariateInfo(name, None, True, categories, name)

    def is_category(self, name: str) -> bool:
        """Whether there is no value between two others: words, or no more than two numbers."""
        return bool(self.infos[name].categories) or len(np.unique(self.values[name])) <= 2


def _chosen(known: list[str], names: list[str] | None) -> list[str]:
    for name in names or ():
        if name not in known:
            raise DataError("virtual: " + name_error("covariate", name, known, "like="))
    return known if names is None else names


def _copula(table: _People, key, n: int) -> dict[str, np.ndarray]:
    """n draws of the Gaussian copula of a table."""
    if len(table) < 3:
        raise DataError(f"virtual: a copula needs a table of three people at least; like= has {len(table)}.")
    scores, scales = zip(*(_scores(v, table.is_category(name)) for name, v in table.values.items()), strict=True)
    correlation = np.cov(np.stack(scores), bias=True) if len(scores) > 1 else np.eye(1)
    correlation = np.atleast_2d(correlation) / np.outer(scales, scales)
    np.fill_diagonal(correlation, 1.0)
    values, vectors = np.linalg.eigh(np.clip(correlation, -1.0, 1.0))
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    root /= np.linalg.norm(root, axis=1, keepdims=True)  # the nearest that is a correlation matrix, its diagonal 1
    u = ndtr(np.asarray(jax.random.normal(key, (n, len(scores)))) @ root.T)
    return {
        name: _at_shares(v, u[:, j]) if table.is_category(name) else np.quantile(v, u[:, j])
        for j, (name, v) in enumerate(table.values.items())
    }


def _scores(values: np.ndarray, category: bool) -> tuple[np.ndarray, float]:
    """Normal scores of a covariate, and what its covariances with those of others are divided by."""
    kinds, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    if not category:
        z = ndtri((np.cumsum(counts) - 0.5 * counts)[which] / len(values))  # of ties, the middle of their ranks
        return z, max(float(z.std()), 1e-300)
    shares = counts / len(values)
    edges = ndtri(np.r_[0.0, np.cumsum(shares)[:-1], 1.0])
    means = -np.diff(np.exp(-0.5 * edges**2)) / (math.sqrt(2 * math.pi) * shares)
    variance = float(np.sum(shares * means**2))
    return means[which], variance if len(kinds) > 1 else 1.0


def _at_shares(values: np.ndarray, u: np.ndarray) -> np.ndarray:
    kinds, counts = np.unique(values, return_counts=True)
    return kinds[np.searchsorted(np.cumsum(counts / counts.sum())[:-1], u, side="right")]
