"""Patients predicted from what is known before the first dose: an expression profile and an image.

    g_i = (ka, CL, V) exp(eta_i + NN(z_i)),    eta_i ~ N(0, Omega)
    C(t) = dose ka / (V (ka - CL/V)) (exp(-CL/V t) - exp(-ka t))

One oral dose of 100 mg, concentrations in mg/L, times in h, CL in L/h, V in L. z_i are the principal components of 200
expression levels and the numbers that a convolutional encoder makes of a 12 x 12 image, whose kernels are trained with the
network. Unknown is which of it matters. The data were made with five hidden factors behind the expression levels, of which one
moves CL, and with a spot of light somewhere in the image, always of the same total, whose width moves V (a sum over pixels
knows nothing of it, the encoder has to look at the contrast):

    log CL = log 5 + 0.45 f_1 + 0.2 e_1,    log V = log 50 + 0.6 (width - 1.6) + 0.1 e_2,    ka = 1.2 exp(0.2 e_3)

e, f standard normal, width uniform in (1, 2.2) pixels, errors of 10 %. So 84 % of the variance of log CL and 81 % of that of
log V are there to be found. First a fit without covariates, then ``nlme.augment``, which learns from what each patient's data
say of its random effects; then patients of whom the model has seen no concentration.

Reference: C. Rackauckas, Scientific Machine Learning (talk); the two steps: Pumas-AI, DeepPumas (augment); J. O. Maitre et al.
(1991), doi:10.1007/BF01061661 (covariates from individual estimates).
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

import nlme
from nlme import Scalar
from nlme.models.science import Number, Shown
from nlme.plots.style import BLUE, GREY, IDENTITY, new_figure, picture

GENES, SIDE, DOSE, NEW = 200, 12, 100.0, 60
TIMES = (0.5, 1.5, 4.0, 8.0, 14.0, 24.0)


class Oral(nlme.Model):
    """One compartment, oral, without covariates."""

    ka: Scalar = nlme.positive(1.0, unit="1/h")
    cl: Scalar = nlme.positive(4.0, unit="L/h")
    v: Scalar = nlme.positive(40.0, unit="L")
    omega: nlme.Covariance = nlme.covariance(ka=0.05, cl=0.2, v=0.1)
    prop: Scalar = nlme.positive(0.15)

    def individual(self, eta, cov):
        return dict(ka=self.ka * jnp.exp(eta.ka), cl=self.cl * jnp.exp(eta.cl), v=self.v * jnp.exp(eta.v))

    def dynamics(self, ind):
        return nlme.pk.OneCompartmentOral(cl=ind.cl, v=ind.v, ka=ind.ka)

    def observe(self, ind, state, t):
        return {"conc": nlme.proportional(state.central / ind.v, self.prop)}


class Encoder(eqx.Module):
    """Means over the image of what two kernels answer, bent before they are averaged."""

    kernels: eqx.nn.Conv2d

    def __init__(self, key):
        self.kernels = eqx.nn.Conv2d(1, 2, 3, key=key)

    def __call__(self, image):
        return jnp.mean(jax.nn.softplus(3.0 * self.kernels(image[None])), axis=(1, 2))


def patients(count: int, key: int = 1) -> tuple[nlme.Population, np.ndarray]:
    """Simulated patients with their arrays, and the logarithms of their true concentrations."""
    rng = np.random.default_rng(key)
    factors, width = rng.normal(size=(count, 5)), rng.uniform(1.0, 2.2, count)
    e, loadings = rng.normal(size=(count, 3)), rng.normal(size=(5, GENES))
    cl = 5.0 * np.exp(0.45 * factors[:, 0] + 0.2 * e[:, 0])
    v = 50.0 * np.exp(0.6 * (width - 1.6) + 0.1 * e[:, 1])
    ka = 1.2 * np.exp(0.2 * e[:, 2])
    place, at = rng.uniform(3.0, SIDE - 4.0, (count, 2)), np.arange(SIDE)
    spot = np.exp(-((at - place[:, 0, None]) ** 2)[:, :, None] / (2 * width[:, None, None] ** 2))
    spot = spot * np.exp(-((at - place[:, 1, None]) ** 2)[:, None, :] / (2 * width[:, None, None] ** 2))
    image = 20.0 * spot / spot.sum(axis=(1, 2), keepdims=True)
    t, k = np.array(TIMES), (cl / v)[:, None]
    c = DOSE * ka[:, None] / (v[:, None] * (ka[:, None] - k)) * (np.exp(-k * t) - np.exp(-ka[:, None] * t))
    dv = c * (1 + 0.1 * rng.normal(size=c.shape))
    rows = [
        {"ID": i + 1, "TIME": x, "EVID": int(x == 0), "AMT": DOSE * (x == 0), "DV": np.nan if x == 0 else y}
        for i in range(count)
        for x, y in zip((0.0, *TIMES), (0.0, *dv[i]), strict=True)
    ]
    told = nlme.read_nonmem(pd.DataFrame(rows))
    expression = factors @ loadings + rng.normal(size=(count, GENES))
    return told.with_features("expression", expression).with_features("image", image), np.log(c)


def run(fast: bool = False) -> Shown:
    """A fit without covariates, the network on top of it, new patients; ``fast``: 120 patients instead of 250, two penalties."""
    count = 120 if fast else 250
    everybody, truth = patients(count + NEW)
    seen, new = (everybody.filter(keep) for keep in (lambda s: int(s.id) <= count, lambda s: int(s.id) > count))
    fit = nlme.fit(Oral(), seen, starts=0, progress=False)
    options = dict(starts=1, strengths=(1.0, 3.0) if fast else (0.3, 1.0, 3.0, 10.0), folds=3 if fast else 5)
    found = nlme.augment(
        fit, dict(width=4), inputs=("expression", "image"), encoders={"image": Encoder}, components=5, to=("cl", "v"), **options
    )
    there = truth[count:]
    here = {name: predicted(model, new) for name, model in (("without", fit.model), ("with", found.model))}
    misses = {name: np.sqrt(np.mean((one - there) ** 2)) for name, one in here.items()}
    low, source = (0.4, 0.4) if fast else (0.6, 0.5), "truth: the share that is there"
    numbers = [
        Number("share of the variance of log CL explained, held out", 0.84, found.explained["cl"], low[0], 0.95, source),
        Number("share of the variance of log V explained, held out", 0.81, found.explained["v"], low[1], 0.95, source),
        Number("new patients: error of log C, with over without", 0.5, misses["with"] / misses["without"], 0.0, 0.8, "talk"),
    ]
    remarks = (
        f"Error of log C in {NEW} new patients: {misses['without']:.2f} without, {misses['with']:.2f} with.",
        *found.messages,
    )
    return Shown("Deep covariates: expression and images", tuple(numbers), drawn(there, here), remarks)


def predicted(model, new) -> np.ndarray:
    """(N, times) logarithms of the typical prediction of every new patient."""
    course = nlme.predict(model, new)
    return np.log(course[course["EVID"] == 0]["conc"].to_numpy().reshape(-1, len(TIMES)))


@picture
def drawn(there, here):
    """Predicted against true concentrations of new patients."""
    figure = new_figure(3.2, 4.2)
    axes = figure.subplots()
    for (name, one), colour in zip(here.items(), (GREY, BLUE), strict=True):
        axes.plot(
            np.exp(one).ravel(), np.exp(there).ravel(), "o", color=colour, markersize=3, label=f"{name} expression and image"
        )
    ends = np.exp([there.min(), there.max()])
    axes.plot(ends, ends, **IDENTITY)
    axes.set(xlabel="Predicted before the first dose (mg/L)", ylabel="True concentration (mg/L)", xscale="log", yscale="log")
    axes.legend()
    return figure
