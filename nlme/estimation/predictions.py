"""Predictions and residuals of every observation.

With m, g the conditional mean and variance, a = dm/db in standardised effects (so that a a' = G Omega G'):

    PRED = m(0)        IPRED = m(b^)        CPRED = m(b^) - a b^
    RES = y - PRED     IRES = y - IPRED     IWRES = (z - m(b^)) / sqrt(g(b^))
    WRES  = [a(0) a(0)' + diag g(0)]^(-1/2)  (z - m(0))
    CWRES = [a a' + diag g]^(-1/2)  (z - m(b^) + a b^)         at b^

PRED, IPRED, CPRED, RES and IRES are on the scale of the data, weighted residuals on the scale z = h(y) of the error model.
The inverse square root is the symmetric one.  Source: Hooker, Staatz & Karlsson (2007), doi:10.1007/s11095-007-9361-x.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from nlme.language.layout import Layout
from nlme.language.model import Model
from nlme.marginal.base import Method, Subject

COLUMNS = ("PRED", "IPRED", "RES", "IRES", "WRES", "IWRES", "CPRED", "CWRES")


@eqx.filter_jit
def _slopes(method: Method, anatomy, model: Model, arrays, b):
    def of_subject(data, b):
        subject = Subject(method, anatomy, data, model, b, 1)
        slopes = subject.slopes(model, b)
        return slopes.moments, slopes.a

    return jax.vmap(of_subject)(arrays, b)


def prediction_table(method: Method, model: Model, layout: Layout, b) -> dict[str, np.ndarray]:
    """The columns above for every observation, in the order of the data file."""
    full = method if method.interaction else _with_interaction(method)
    zero = jnp.zeros_like(b)
    typical, a_typical = jax.tree.map(np.asarray, _slopes(full, layout.anatomy, model, layout.arrays, zero))
    at, a = jax.tree.map(np.asarray, _slopes(full, layout.anatomy, model, layout.arrays, b))
    b = np.asarray(b)
    rows: dict[str, list] = {name: [] for name in ("subject", "record", "DV", *COLUMNS)}
    for i in range(layout.n_subjects):
        use = np.flatnonzero(layout.positions[i] >= 0)
        use = use[np.argsort(layout.positions[i, use], kind="stable")]
        z, y = at.transformed[i, use], np.asarray(layout.arrays.observed[i])[use]
        conditional = at.mean[i, use] - a[i, use] @ b[i]
        log_scale = np.isin(use, _log_samples(layout))
        rows["subject"].append(np.full(len(use), i))
        rows["record"].append(layout.positions[i, use])
        rows["DV"].append(y)
        rows["PRED"].append(typical.prediction[i, use])
        rows["IPRED"].append(at.prediction[i, use])
        rows["RES"].append(y - typical.prediction[i, use])
        rows["IRES"].append(y - at.prediction[i, use])
        rows["IWRES"].append((z - at.mean[i, use]) / np.sqrt(at.variance[i, use]))
        rows["WRES"].append(_whiten(z - typical.mean[i, use], a_typical[i, use], typical.variance[i, use]))
        rows["CPRED"].append(np.where(log_scale, np.exp(np.where(log_scale, conditional, 0.0)), conditional))
        rows["CWRES"].append(_whiten(z - conditional, a[i, use], at.variance[i, use]))
    return {name: np.concatenate(values) for name, values in rows.items()}


def _with_interaction(method: Method) -> Method:
    from nlme.marginal.foce import FOCEI

    return FOCEI(method.inner_tolerance, method.inner_iterations, method.ode)


def _log_samples(layout: Layout) -> np.ndarray:
    """Samples of endpoints whose error model is on the log scale."""
    spans = zip(layout.arrays.spans, layout.anatomy.transforms, strict=True)
    return np.concatenate([np.arange(a, b) for (a, b), h in spans if h == "log"] or [np.zeros(0, int)])


def _whiten(residual: np.ndarray, a: np.ndarray, variance: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(a @ a.T + np.diag(variance))
    return vectors @ ((vectors.T @ residual) / np.sqrt(values))
