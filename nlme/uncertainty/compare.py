"""Fits side by side: information criteria, and likelihood-ratio tests where one model is nested in another.

    AIC = D + 2 P        BIC = D + P log n        BICc = D + P_R log N + P_F log n,        D = -2 log L with all constants

with P parameters, N subjects, n observations.  P_R counts the elements of Omega and the fixed effects that enter an individual
parameter with a random effect (what they say grows with subjects), P_F = P - P_R the others, residual errors among them (what
they say grows with observations).

Sources: Delattre, Lavielle & Poursat (2014), Electron J Stat 8:456, doi:10.1214/14-EJS890 (BICc); Self & Liang (1987), J Am Stat
Assoc 82:605, doi:10.2307/2289471 (tests on a bound).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from nlme.errors import FitError, name_error
from nlme.fitting.evaluated import Evaluated
from nlme.fitting.names import named_fits
from nlme.fitting.result import Fit
from nlme.language.anatomy import MEMBER, OCCASION, rows_of
from nlme.marginal.base import Method
from nlme.tables.numbers import fixed_point, significant
from nlme.tables.shown import Panel, Shown

_PROBES = 20  # subjects at whose covariates the dependence on random effects is looked at


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Comparison(Shown):
    """Fits of the same data by the same method.

    ``to_markdown``, ``to_html``, ``to_latex`` and ``to_rtf`` write both tables, ``to_csv`` the criteria (``tests.to_csv`` the tests).

    Attributes
    ----------
    table : DataFrame, one row per fit, lowest BICc first: objective, parameters, AIC, BIC, BICc, and each less the lowest
    tests : DataFrame, one row per nested pair: smaller, larger, difference (of the objective), df, p, note
    messages : what to mind, in words
    """

    table: object
    tests: object
    messages: list[str]

    def _exact(self):
        return self.table.rename_axis("fit")

    def _panels(self) -> list[Panel]:
        criteria = [
            [
                str(name),
                *(str(int(value)) if column == "parameters" else fixed_point(float(value), 3) for column, value in row.items()),
            ]
            for name, row in self.table.iterrows()
        ]
        panels = [Panel("Comparison of fits", ["Fit", *map(str, self.table.columns)], criteria, self.messages)]
        if len(self.tests):
            rows = [
                [test.smaller, test.larger, fixed_point(test.difference, 3), str(test.df), significant(test.p, 3), test.note]
                for test in self.tests.itertuples()
            ]
            panels.append(
                Panel("Likelihood-ratio tests", ["Smaller", "Larger", "Difference", "df", "p", "Note"], rows, (), (0, 1, 5))
            )
        return panels

    def __repr__(self) -> str:
        lines = [self.table.to_string(float_format=lambda x: f"{x:.3f}")]
        if len(self.tests):
            lines += ["", "Likelihood-ratio tests", self.tests.to_string(index=False, float_format=lambda x: f"{x:.4g}")]
        return "\n".join([*lines, *(f"  ! {message}" for message in self.messages)])


def compare(
    fits: Mapping[str, Fit] | Iterable[Fit], *, nested: Iterable[tuple[str, str]] = (), by: Method | None = None
) -> Comparison:
    """Put fits on one scale.

    Parameters
    ----------
    fits : by name, or a list (then named by the class of their model and what was fixed)
    nested : (smaller, larger) pairs of names that are nested although their models are different classes; fits of one class are
        recognised by what was fixed
    by : evaluate every fit by this method (``nlme.ImportanceSampling()``, ``nlme.AGQ()``), so that fits by different methods
        stand on one scale

    Raises
    ------
    FitError
        Fewer than two fits, different data, different methods without ``by``, an unknown name or an impossible pair in ``nested``.
    """
    import pandas as pd

    if isinstance(fits, Evaluated) or not np.iterable(fits):
        raise FitError(
            f"compare takes at least two fits, in a list or by name: {{'one': fit, ...}}; got one {type(fits).__name__}."
        )
    named = dict(fits) if isinstance(fits, Mapping) else named_fits(list(fits))
    _require_comparable(named, by)
    evaluated = {name: fit if by is None else fit.by(by) for name, fit in named.items()}
    likelihood = {name: at.objective_full for name, at in evaluated.items()}
    rows = {}
    for name, fit in named.items():
        deviance, count = likelihood[name], fit.n_parameters
        subjects = int(random_parameters(fit).sum())
        observations = math.log(fit.n_observations)
        rows[name] = {
            "objective": evaluated[name].objective,
            "parameters": count,
            "AIC": deviance + 2 * count,
            "BIC": deviance + count * observations,
            "BICc": deviance + subjects * math.log(len(fit.values)) + (count - subjects) * observations,
        }
    table = pd.DataFrame(rows).T.astype({"parameters": int})
    for criterion in ("AIC", "BIC", "BICc"):
        table[f"d{criterion}"] = table[criterion] - table[criterion].min()
    pairs = _pairs(named, list(nested))
    tests = pd.DataFrame(
        [_test(named, likelihood, *pair) for pair in pairs], columns=["smaller", "larger", "difference", "df", "p", "note"]
    )
    return Comparison(table.sort_values("BICc", kind="stable"), tests, _messages(named, tests, by))


def random_parameters(fit: Fit) -> np.ndarray:
    """(P,) which estimated parameters belong to a distribution of random effects: elements of Omega, and parameters that change
    an individual parameter which has a random effect."""
    inventory, anatomy = fit.inventory, fit.layout.anatomy
    omega = np.isin(inventory.kinds, ("variance", "covariance"))
    q = len(fit.effects)
    if not q:
        return omega
    people, kinds = list(fit.population)[:_PROBES], max(1, len(anatomy.subpopulations))
    told = [anatomy.told_at(s) | {OCCASION: np.zeros(()), MEMBER: np.float64(k)} for s in people for k in range(kinds)]
    covariates = {n: jnp.stack([one[n][None] for one in told]) for n in told[0]}
    etas = jnp.tile(0.1 * (1.0 + jnp.arange(q)) / q, (len(told), 1))

    def table(u, eta, cov):
        model = inventory.at_unconstrained(fit.model, u)
        return jnp.stack([jnp.reshape(value, -1)[0] for value in rows_of(model, anatomy, eta, cov, 1).values()])

    u = inventory.unconstrained(fit.model)
    by_u, by_eta = jax.jit(jax.vmap(jax.jacrev(table, (0, 1)), (None, 0, 0)))(u, etas, covariates)
    random = np.any(np.asarray(by_eta) != 0, axis=(0, 2))
    return omega | np.any(np.asarray(by_u)[:, random] != 0, axis=(0, 1))


def _require_comparable(named: dict[str, Fit], by: Method | None) -> None:
    if len(named) < 2:
        raise FitError(f"compare needs at least two fits; got {len(named)}.")
    for name, fit in named.items():
        if not isinstance(fit, Fit):
            raise FitError(f"compare takes fits; {name!r} is {type(fit).__name__}.")
    (first, reference), *others = named.items()
    for name, fit in others:
        if fit.population.hash != reference.population.hash:
            raise FitError(
                f"{first!r} and {name!r} were fitted to different data ({reference.n_observations} observations of "
                f"{len(reference.population)} subjects, {fit.n_observations} of {len(fit.population)}): their likelihoods cannot be "
                f"compared. Fit both to the same population."
            )
        if by is None and fit.method != reference.method:
            raise FitError(
                f"{first!r} was fitted by {reference.method!r} and {name!r} by {fit.method!r}: different approximations of the "
                f"likelihood, whose difference says nothing of the models. Fit both by one method, or give "
                f"by=nlme.ImportanceSampling()."
            )


def _pairs(named: dict[str, Fit], declared: list[tuple[str, str]]) -> list[tuple[str, str]]:
    for pair in declared:
        if isinstance(pair, str) or not np.iterable(pair) or len(list(pair)) != 2:
            raise FitError(f"nested= holds pairs of names, [('smaller', 'larger')]; got {pair!r}.")
        for name in pair:
            if name not in named:
                raise FitError("nested=: " + name_error("fit", str(name), named, "The comparison"))
        small, large = (named[name].n_parameters for name in pair)
        if small >= large:
            raise FitError(
                f"nested=: {pair[0]!r} has {small} parameters and {pair[1]!r} has {large}; the smaller model comes first and has "
                f"fewer."
            )
    found = [(a, b) for a, x in named.items() for b, y in named.items() if a != b and _is_nested(x, y)]
    return list(dict.fromkeys([*found, *map(tuple, declared)]))


def _is_nested(small: Fit, large: Fit) -> bool:
    """One class; what the larger fixes the smaller fixes too, at the same values, and more."""
    if type(small.model) is not type(large.model) or small.inventory.all_names != large.inventory.all_names:
        return False
    if not set(large.fixed) < set(small.fixed):
        return False
    values, others = ({row.name: row.value for row in fit.parameters} for fit in (small, large))
    return all(math.isclose(values[name], others[name], rel_tol=1e-9, abs_tol=1e-300) for name in large.fixed)


def _test(named: dict[str, Fit], likelihood: dict[str, float], small: str, large: str) -> tuple:
    from scipy.stats import chi2

    difference = likelihood[small] - likelihood[large]
    df = named[large].n_parameters - named[small].n_parameters
    if difference < -0.01:
        note = "the larger model stands higher, so its search did not reach its minimum: no test"
        return small, large, difference, df, float("nan"), note
    p, note = float(chi2.sf(max(difference, 0.0), df)), ""
    bounds = _at_bound(named[small], named[large])
    if len(bounds) == 1:
        below = float(chi2.sf(max(difference, 0.0), df - 1)) if df > 1 else float(difference <= 0.0)
        p, note = 0.5 * (p + below), f"{bounds[0]} is tested at its bound: half chi-square with {df - 1} df, half with {df}"
    elif bounds:
        note = f"{', '.join(bounds)} are tested at their bounds: p is too large"
    return small, large, difference, df, p, note


def _at_bound(small: Fit, large: Fit) -> list[str]:
    """Parameters of the larger model that the smaller holds at the end of their range, or variances that it lacks."""
    tested = set(large.inventory.names) - set(small.inventory.names)
    held = {row.name: row for row in small.parameters}
    domains = {name: entry.declaration.domain for entry in small.inventory.entries for name in entry.names}
    found = []
    for row in large.parameters:
        if row.name not in tested:
            continue
        if row.name not in held:
            if row.kind == "variance":
                found.append(row.name)
        elif row.kind == "variance":
            if held[row.name].value < 1e-12:
                found.append(row.name)
        elif row.kind != "covariance" and held[row.name].value in (domains[row.name].lower, domains[row.name].upper):
            found.append(row.name)
    return found


def _messages(named: dict[str, Fit], tests, by: Method | None) -> list[str]:
    found = [f"{name}: {fit.verdict}" for name, fit in named.items() if not fit.converged]
    for name, fit in named.items():
        if fit.penalty:
            found.append(f"{name} was penalised: its objective is not at its minimum, so criteria and tests do not hold for it.")
    if by is not None:
        found.append(f"Evaluated by {by!r} at estimates found otherwise; tests and criteria are approximate.")
    if not len(tests):
        found.append(
            "No pair is known to be nested, so there is no likelihood-ratio test; name one by nested=[(smaller, larger)]."
        )
    return found
