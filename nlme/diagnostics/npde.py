"""Normalised prediction distribution errors and prediction discrepancies.

For the n observations y of one subject and K replicates y_k simulated with its design, m and V their mean and covariance
(denominator K - 1):

    pd_j   = share of the replicates with y_kj < y_j                          npd_j  = Phi^-1(pd_j)
    y*     = W' (y - m),  y*_k = W' (y_k - m),  W W' = V^-1
    pde_j  = share of the replicates with y*_kj < y*_j                        npde_j = Phi^-1(pde_j)

A share of 0 is 1/(2K), of 1 it is 1 - 1/(2K).  If the model is right npd and npde are standard normal; the npde of one subject
are uncorrelated, the npd are not.

| decorrelation | W                                                                                          |
|---------------|--------------------------------------------------------------------------------------------|
| "cholesky"    | inverse of the upper triangular U, V = U' U: each observation given those before it          |
| "inverse"     | symmetric inverse root V^-1/2, from the eigenvectors of V                                    |
| "polar"       | the same root from the polar decomposition U = Q V^1/2, by the singular values of U           |

A value known to be below a limit L ("cdf"): pd_j is uniform between 0 (or the share of the replicates below LIMIT) and the share
of those below L, above an upper limit likewise, and y_j is the replicate of that rank; simulated values beyond their limit are
replaced in the same way before decorrelation.  "omit" leaves such observations out.

Sources: Brendel et al. (2006), doi:10.1007/s11095-006-9067-5; Comets, Brendel & Mentré (2008), doi:10.1016/j.cmpb.2007.12.002
(the R package npde, whose numbers these are); Nguyen et al. (2012), doi:10.1007/s10928-012-9264-2 (limits of quantification).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from nlme.diagnostics.normality import TESTS, moments, p_values
from nlme.diagnostics.replicated import Replicated, generator_of, replicated, required_key
from nlme.errors import DataError, FitError
from nlme.tables.numbers import significant
from nlme.tables.shown import Panel, Shown

if TYPE_CHECKING:
    import pandas as pd

DECORRELATIONS = ("cholesky", "inverse", "polar")
METHODS = ("cdf", "omit")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class PredictionErrors(Shown):
    """NPDE, NPD and prediction discrepancies of every observation.

    Attributes
    ----------
    frame : DataFrame in file order: ID, TIME, ENDPOINT, DV, CENS, YPRED (mean of the replicates), PD, NPD, PDE, NPDE
    endpoint, decorrelation, replicates : what they are of, and how they were made
    messages : what was left out, in words
    parameters : rows of the fit's parameters, whose units name that of time; empty of a model
    """

    frame: pd.DataFrame
    endpoint: str
    decorrelation: str
    replicates: int
    messages: tuple[str, ...] = ()
    parameters: tuple = ()

    @functools.cached_property
    def moments(self):
        """DataFrame of NPDE and NPD: number, mean, variance (with standard errors), skewness, excess kurtosis."""
        import pandas as pd

        return pd.DataFrame({name: moments(self.frame[name].to_numpy()) for name in ("NPDE", "NPD")}).T

    @functools.cached_property
    def tests(self):
        """DataFrame of p-values against N(0, 1) of NPDE and NPD, and adjusted for three tests: times three, at most 1."""
        import pandas as pd

        found = {name: p_values(self.frame[name].to_numpy()) for name in ("NPDE", "NPD")}
        table = pd.DataFrame(found, index=TESTS)
        times = np.array([3.0] * (len(TESTS) - 1) + [1.0])  # the last one is adjusted
        return table.assign(**{f"{name} adjusted": np.minimum(times * table[name], 1.0) for name in found})

    def plot(self, which: str = "NPDE", units: Mapping[str, str] | None = None, **options):
        """The pictures of :func:`nlme.plots.npde`."""
        from nlme.plots.prediction_errors import npde

        return npde(self, which, units=units, **options)

    def _panels(self):
        title = (
            f"Prediction distribution errors of {self.endpoint}, {self.replicates} replicates, {self.decorrelation} decorrelation"
        )
        described = [[name, f"{row[0]:.0f}", *map(significant, row[1:])] for name, row in zip(*_rows(self.moments), strict=True)]
        tested = [[name, *(significant(v, 3) for v in row)] for name, row in zip(*_rows(self.tests), strict=True)]
        note = (
            "Global: three times the smallest p of t-test, variance and Shapiro-Wilk test. "
            "Tests of NPD take correlated values for independent ones."
        )
        return [
            Panel(title, ["", *self.moments.columns], described, self.messages),
            Panel("p-values against N(0, 1)", ["Test", *self.tests.columns], tested, (note,)),
        ]

    def _exact(self):
        return self.frame


def _rows(frame) -> tuple[list[str], list[list[float]]]:
    return [str(name) for name in frame.index], frame.to_numpy(dtype=float).tolist()


def npde(
    model,
    population=None,
    *,
    key=None,
    replicates: int = 1000,
    endpoint: str | None = None,
    decorrelation: str = "cholesky",
    censored: str = "cdf",
    lloq=None,
    uloq=None,
    simulations=None,
    uncertainty=None,
    ode=None,
) -> PredictionErrors:
    """Normalised prediction distribution errors, with and without decorrelation, and their tests.

    Parameters
    ----------
    model : a fit, a model with its own values, or, with ``simulations``, the population alone
    population : the data; a fit's own by default
    key : seed, an int or a JAX key
    replicates : simulated data sets, more than any subject has observations; 1,000 give two digits of a share
    endpoint : which, where there are several; each endpoint's observations are decorrelated by themselves
    decorrelation : "cholesky", "inverse" or "polar", as in the table above
    censored : "cdf" imputes values beyond a limit of quantification as above, "omit" leaves them out
    lloq, uloq : limits of quantification, a number or the name of a column; by default those of the model or of the censored
        records
    simulations : replicates made elsewhere: an array (replicates, observations), or a table with REPLICATE (or REP) and DV (or
        SIM) whose rows follow the records or the observations of the data
    uncertainty : of the parameters, as of :func:`nlme.simulate`: each replicate has a vector of its own.  Of a posterior,
        ``nlme.npde(model, population, uncertainty=posterior, key=1)``, these are posterior predictive
    ode : tolerances of the ODE solver; by default those of the fit's method

    Raises
    ------
    DataError
        No key and no simulations, an unknown word, fewer replicates than observations of a subject.
    ModelError
        The endpoint is not continuous.
    FitError
        The covariance of a subject's replicates is singular, though each of its values varies.
    """
    for name, word, known in (("decorrelation", decorrelation, DECORRELATIONS), ("censored", censored, METHODS)):
        if word not in known:
            raise DataError(f"{name}={word!r}: it is one of {', '.join(map(repr, known))}.")
    options = dict(
        key=key, replicates=replicates, lloq=lloq, uloq=uloq, simulations=simulations, uncertainty=uncertainty, ode=ode
    )
    checked = replicated("npde", model, population, endpoint, **options)
    checked, messages = _usable(checked, censored)
    observed, simulated = checked.rows["DV"].to_numpy(dtype=float), checked.simulated
    pd = _share(simulated, observed)
    if (checked.censored != 0).any():
        random = generator_of(required_key(key))
        pd, observed, simulated = _imputed(checked, pd, observed, random)
    pde = np.empty_like(pd)
    for i in np.unique(checked.subject):
        own = np.flatnonzero(checked.subject == i)
        made = _decorrelated(observed[own], simulated[:, own], decorrelation, checked.rows["ID"].iloc[own[0]])
        pde[own] = _share(made[1], made[0])
    frame = checked.rows.assign(YPRED=checked.simulated.mean(axis=0), PD=pd, NPD=_normal(pd), PDE=pde, NPDE=_normal(pde))
    known = tuple(getattr(checked.model, "parameters", ()))
    return PredictionErrors(frame, checked.endpoint, decorrelation, len(simulated), messages, known)


def _usable(checked: Replicated, censored: str) -> tuple[Replicated, tuple[str, ...]]:
    """The observations that can be judged, and what was left out."""
    messages = [*checked.messages]
    keep = np.ones(len(checked.rows), bool)
    if censored == "omit":
        keep = checked.censored == 0
        if not keep.all():
            messages.append(f"{(~keep).sum()} observations beyond a limit of quantification are left out.")
    certain = np.ptp(checked.simulated, axis=0) == 0
    if (certain & keep).any():
        at = checked.rows[certain & keep].iloc[0]
        messages.append(
            f"{(certain & keep).sum()} observations that the model predicts without any scatter are left out (the first: subject "
            f"{at['ID']}, time {at['TIME']:g})."
        )
    keep &= ~certain
    if not keep.any():
        raise DataError(f"No observation of {checked.endpoint} is left to be judged: {' '.join(messages)}")
    return (checked if keep.all() else checked.where(keep)), tuple(messages)


def _share(simulated: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """(n,) share of the replicates below the observation, ends moved half a replicate inwards."""
    count = len(simulated)
    return np.clip((simulated < observed).mean(axis=0), 0.5 / count, 1.0 - 0.5 / count)


def _normal(share: np.ndarray) -> np.ndarray:
    from scipy.special import ndtri

    return ndtri(share)


def _imputed(checked: Replicated, pd: np.ndarray, observed: np.ndarray, random) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Discrepancies, observations and replicates with those beyond a limit drawn from between its shares."""
    simulated, count = checked.simulated.copy(), len(checked.simulated)
    pd, observed, ordered = pd.copy(), observed.copy(), np.sort(checked.simulated, axis=0)
    for j in range(len(pd)):
        below, above = checked.simulated[:, j] < checked.lower[j], checked.simulated[:, j] > checked.upper[j]
        low, high = below.mean(), 1.0 - above.mean()
        side = checked.censored[j]
        if side:
            end = checked.floor[j]
            known = (ordered[:, j] < end).mean() if np.isfinite(end) else (0.0 if side < 0 else 1.0)
            pd[j] = random.uniform(*sorted((known, low if side < 0 else high)))
            observed[j] = ordered[_rank(pd[j], count), j]
        for beyond, first, last in ((below, 0.0, low), (above, high, 1.0)):
            simulated[beyond, j] = ordered[_rank(random.uniform(first, last, beyond.sum()), count), j]
    return np.clip(pd, 0.5 / count, 1.0 - 0.5 / count), observed, simulated


def _rank(share, count: int):
    return np.minimum(np.trunc(np.asarray(share) * count).astype(int), count - 1)


def _decorrelated(observed: np.ndarray, simulated: np.ndarray, how: str, identity) -> tuple[np.ndarray, np.ndarray]:
    """y* (n,) and y*_k (K, n) of one subject."""
    count, n = simulated.shape
    if count <= n:
        raise DataError(
            f"Subject {identity} has {n} observations and there are {count} replicates: their covariance needs more than that."
        )
    mean = simulated.mean(axis=0)
    centred = simulated - mean
    covariance = centred.T @ centred / (count - 1)
    root = _root(covariance, how, identity)
    return (observed - mean) @ root, centred @ root


def _root(covariance: np.ndarray, how: str, identity) -> np.ndarray:
    """W with W W' = V^-1."""
    scale = np.sqrt(np.diag(covariance))
    correlation = covariance / np.outer(scale, scale)
    if np.linalg.eigvalsh(correlation)[0] < 1e-13:
        raise FitError(
            f"The covariance of the values simulated for subject {identity} is singular: some of its observations determine "
            f"another (without residual error, or two records of the same value). npde needs an error of each observation."
        )
    if how == "inverse":
        values, vectors = np.linalg.eigh(covariance)
        return (vectors / np.sqrt(values)) @ vectors.T
    upper = np.linalg.cholesky(covariance).T
    if how == "cholesky":
        return np.linalg.inv(upper)
    _, values, vectors = np.linalg.svd(upper)
    return (vectors.T / values) @ vectors
