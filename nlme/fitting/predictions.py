"""Predictions and residuals of every observation.

With m, g the conditional mean and variance, a = dm/db in standardised effects (so that a a' = G Omega G'):

    PRED = m(0)        IPRED = m(b^)        CPRED = m(b^) - a b^
    RES = y - PRED     IRES = y - IPRED     IWRES = (z - m(b^)) / sqrt(g(b^))
    WRES  = [a(0) a(0)' + diag g(0)]^(-1/2)  (z - m(0))
    CWRES = [a a' + diag g]^(-1/2)  (z - m(b^) + a b^)         at b^

PRED, IPRED, CPRED, RES and IRES are on the scale of the data, weighted residuals on the scale z = h(y) of the error model.
The inverse square root is the symmetric one.  RES and IRES of a record with CENS are NaN, and those of an event: its prediction, the
probability of none yet or the number expected, is no mean of DV, which says whether there is one.  (That of a count is its mean, of
categories the mean of their numbers.)  Weighted residuals and CPRED of an observation that is not normal on any scale (a count, an
event, a censored value) are NaN; it takes no part in those of the others.  Those of an endpoint with a memory are given the record before.  Source: Hooker, Staatz & Karlsson (2007), doi:10.1007/s11095-007-9361-x.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from nlme.language.density import Moments
from nlme.language.layout import Layout
from nlme.language.model import Model
from nlme.language.ragged import over_subjects, threaded
from nlme.language.stacking import SubjectData
from nlme.marginal.base import Method, Subject
from nlme.observation.base import Terms
from nlme.observation.sequence import LINKS, Past

COLUMNS = ("PRED", "IPRED", "RES", "IRES", "WRES", "IWRES", "CPRED", "CWRES")


@eqx.filter_jit
def _slopes(arrays, method: Method, anatomy, model: Model, b):
    def of_subject(data, b):
        subject = Subject(method, anatomy, data, model, b, 1)
        slopes = subject.slopes(model, b)
        conditional = slopes.moments.mean - slopes.a @ b
        back = subject.back_transformed(model, b, conditional)
        at = slopes.moments._replace(status=None, prediction=_predicted(anatomy, data, slopes.moments))
        residual = jnp.concatenate(
            [jnp.full(b - a, not law.of_events) for law, (a, b) in zip(anatomy.laws, data.spans, strict=True)]
        )
        series = {"at": at, "a": slopes.a, "centre": conditional, "shown": back, "residual": residual}
        return None, series | {"y": data.observed, "cens": data.cens}

    return over_subjects(of_subject, arrays, b)[1]


def _predicted(anatomy, data: SubjectData, at: Moments):
    """(T,) predictions, given no record; of a chain given the record before, which is all that it remembers."""
    past = Past(jnp.zeros_like(data.mask), data.mask, data.observed, Terms(*at[:5]))
    rows = at.prediction, at.carried, data.timeline.course, past
    parts = []
    for law, (a, b) in zip(anatomy.laws, data.spans, strict=True):
        own = jax.tree.map(lambda x: x[a:b], rows)  # noqa: B023 (used at once)
        parts.append(own[0] if law.link == "markov" else LINKS[law.link].prediction(*own))
    return jnp.concatenate(parts)


def prediction_table(method: Method, model: Model, layout: Layout, b) -> dict[str, np.ndarray]:
    """The columns above for every observation, in the order of the data file."""
    full = method if method.interaction else _with_interaction(method)
    zero = jnp.zeros_like(b)
    zeros, found = (
        jax.tree.map(np.asarray, threaded(_slopes, layout.arrays, full, layout.anatomy, model, at)) for at in (zero, b)
    )
    typical, at, a = zeros["at"], found["at"], found["a"]
    if not method.individuals:
        a = zeros["a"] = np.zeros_like(a)
    rows: dict[str, list] = {name: [] for name in ("subject", "record", "DV", *COLUMNS)}
    for i in range(layout.n_subjects):
        use = np.flatnonzero(layout.positions[i] >= 0)
        use = use[np.argsort(layout.positions[i, use], kind="stable")]
        z, y, normal = at.transformed[i, use], found["y"][i, use], at.normal[i, use]
        known = np.where(found["residual"][i, use] & (found["cens"][i, use] == 0), y, np.nan)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            iwres = (z - at.mean[i, use]) / np.sqrt(at.variance[i, use])
        rows["subject"].append(np.full(len(use), i))
        rows["record"].append(layout.positions[i, use])
        rows["DV"].append(y)
        rows["PRED"].append(typical.prediction[i, use])
        rows["IPRED"].append(at.prediction[i, use])
        rows["RES"].append(known - typical.prediction[i, use])
        rows["IRES"].append(known - at.prediction[i, use])
        rows["IWRES"].append(np.where(normal, iwres, np.nan))
        rows["WRES"].append(_whiten(z - typical.mean[i, use], zeros["a"][i, use], typical.variance[i, use], normal))
        rows["CPRED"].append(np.where(normal, found["shown"][i, use], np.nan))
        rows["CWRES"].append(_whiten(z - found["centre"][i, use], a[i, use], at.variance[i, use], normal))
    return {name: np.concatenate(values) for name, values in rows.items()}


def _with_interaction(method: Method) -> Method:
    from nlme.marginal.foce import FOCEI

    return FOCEI(inner_tolerance=method.inner_tolerance, inner_iterations=method.inner_iterations, ode=method.ode)


def _whiten(residual: np.ndarray, a: np.ndarray, variance: np.ndarray, normal: np.ndarray) -> np.ndarray:
    white = np.full(len(residual), np.nan)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # of a fit that ran away
        spread = a[normal] @ a[normal].T + np.diag(variance[normal])
        if not np.all(np.isfinite(spread)):
            return white
        values, vectors = np.linalg.eigh(spread)
        white[normal] = vectors @ ((vectors.T @ residual[normal]) / np.sqrt(values))
    return white
