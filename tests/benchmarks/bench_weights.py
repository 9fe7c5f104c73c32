"""Bands of a learned curve with a known truth: NUTS beside SGLD, Laplace and an ensemble on a network of 526 weights.

Coverage is of the truth by pointwise 90 % bands at the inputs that the data visited; width that of the bands.
"""

from __future__ import annotations

import time
import warnings

import jax.numpy as jnp
import numpy as np
import pandas as pd

import nlme

KINDS = {
    "nuts": dict(warmup=300, draws=300, chains=2, max_tree_depth=8),
    "sgld": dict(warmup=150, draws=300, chains=2),
    "laplace": dict(draws=600),
    "ensemble": dict(draws=20, chains=15),
}
SD = 0.2


def truth(c):
    return 1.0 + 2.0 * c**2 / (1.5**2 + c**2) * jnp.exp(-0.15 * c)


class Learned(nlme.Model):
    """A response that is a learned function of one covariate, and normal errors."""

    net: nlme.MLP = nlme.mlp(inputs=("c",), outputs=1, width=21, depth=2, key=0, center=2.0, scale=1.2)
    sd: nlme.Scalar = nlme.positive(SD)
    covariates = {"c": "mg/L"}

    def individual(self, eta, cov):
        return dict(effect=self.net(cov.c)[0])

    def observe(self, ind, state, t):
        return {"y": nlme.additive(ind.effect, self.sd)}


class Small(Learned):
    """The same with 10 weights."""

    net: nlme.MLP = nlme.mlp(inputs=("c",), outputs=1, width=3, depth=1, key=0, center=2.0, scale=1.2)


def data(seed: int, n: int = 40):
    random = np.random.default_rng(seed)
    c = random.uniform(0.05, 4.0, n)
    y = np.asarray(truth(c)) + SD * random.normal(size=n)
    frame = pd.DataFrame({"ID": np.arange(n) + 1, "TIME": 0.0, "DV": y, "c": c})
    return nlme.read_nonmem(frame, covariates={"c": "mg/L"})


def band(model, population, kind: str, key: int = 1, **options) -> dict:
    """Coverage, mean width and error of the middle of the 90 % band, and what the draws say of themselves."""
    import numpyro.distributions as dist

    priors = {"net": nlme.weight_prior("gaussian", 2.0), "sd": dist.HalfNormal(0.5)}
    begin = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = nlme.sample(model, population, priors, key=key, weights=kind, progress=False, **(KINDS[kind] | options))
    group = found.learned_functions
    expected = np.asarray(truth(group["net_inputs"].values[:, 0]))
    low, middle, high = np.quantile(group["net"].values[..., 0], [0.05, 0.5, 0.95], axis=(0, 1))
    return {
        "coverage": float(np.mean((low < expected) & (expected < high))),
        "width": float(np.mean(high - low)),
        "error": float(np.sqrt(np.mean((middle - expected) ** 2))),
        "seconds": time.perf_counter() - begin,
        "messages": list(found.attrs["messages"]),
        "learned": found.attrs["learned_functions"],
    }


def compare(model, seeds, kinds=tuple(KINDS), **options) -> pd.DataFrame:
    """Means over simulated data sets, by kind."""
    rows = [{"kind": kind, **band(model, data(seed), kind, **options)} for kind in kinds for seed in seeds]
    return pd.DataFrame(rows).groupby("kind", sort=False)[["coverage", "width", "error", "seconds"]].mean()


def run(seeds=range(5)):
    for kind, row in compare(Learned(), seeds).iterrows():
        note = f"width {row['width']:.3f}, error of the middle {row['error']:.3f}, {row['seconds']:.0f} s"
        yield (
            f"{Learned().net.size} weights, {kind}: coverage of 90 % bands, {len(seeds)} data sets",
            f"{100 * row['coverage']:.0f} %",
            note,
        )
