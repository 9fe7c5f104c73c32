"""Four unknown reactions between five substances: stoichiometry and rates from concentrations, with what is known of each.

    rate_j = exp(b_j + sum_k order_jk log c_k),    order_jk = max(-change_jk, 0)
    c_k'   = sum_j change_jk rate_j

A chemical reaction network written as a neural one: change_jk molecules of substance k come from reaction j, and what is used
up is what drives it (mass action). The 24 weights ``change`` and ``b`` are all that is unknown, and each has a meaning. So that
second derivatives exist, max(z, 0) is (z + sqrt(z^2 + 1e-4)) / 2, and log c is log(c^2 + 1e-8) / 2. The data are twenty
experiments that begin with A and B between 0.2 and 1.2 and nothing else, sampled 15 times in 20 minutes with an error of 0.01,
made with

    2 A -> B (0.1),    A -> C (0.2),    C -> D (0.13),    B + D -> E (0.3)

From random weights the slopes of the smoothed data are matched first (``nlme.Collocation``), then the concentrations; of four
such starts the lowest objective counts. Reactions come in any order and are named by rounding the stoichiometry.

Reference: W. Ji & S. Deng (2021), Autonomous discovery of unknown reaction pathways from data by chemical reaction neural
network, doi:10.1021/acs.jpca.0c09316 (case I, the rates above); Q. Li, H. Chen, B. C. Koenig & S. Deng (2023), Bayesian
chemical reaction neural network for autonomous kinetic uncertainty quantification, doi:10.1039/D2CP05083H.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import nlme
from nlme import Scalar
from nlme.models.science import Number, Shown
from nlme.models.science._observed import columns, observed
from nlme.neural.module import build
from nlme.plots.style import BLUE, GREY, INK, VERMILION, new_figure, picture

SPECIES = ("a", "b", "c", "d", "e")
CHANGE = np.array([[-2, 1, 0, 0, 0], [-1, 0, 1, 0, 0], [0, 0, -1, 1, 0], [0, -1, 0, -1, 1]])
RATES = np.array([0.1, 0.2, 0.13, 0.3])
WRITTEN = ("2 A -> B", "A -> C", "C -> D", "B + D -> E")
FAR = dict(a0=2.0, b0=0.1)  # more of A than in any experiment, and less of B


class Reactions(eqx.Module):
    """The network: concentrations in, their rates of change out."""

    change: jax.Array
    b: jax.Array

    def __call__(self, c):
        order = 0.5 * (jnp.sqrt(self.change**2 + 1e-4) - self.change)
        return jnp.exp(self.b + order @ (0.5 * jnp.log(c**2 + 1e-8))) @ self.change


def unknown(key: int) -> Reactions:
    """Random small weights, all rates about 0.2."""
    one, two = jax.random.split(jax.random.PRNGKey(key))
    return Reactions(0.3 * jax.random.normal(one, (4, 5)), -1.5 + 0.3 * jax.random.normal(two, (4,)))


class Network(nlme.Model):
    """Five concentrations and four unknown reactions."""

    net: nlme.Module = nlme.module(unknown(0), inputs=SPECIES)
    sd: Scalar = nlme.positive(0.02)
    covariates = {"a0": "", "b0": ""}

    def individual(self, eta, cov):
        return dict(a0=cov.a0, b0=cov.b0)

    def rates(self, c):
        return self.net(c)

    def dynamics(self, ind):
        first = jnp.zeros(5).at[0].set(ind.a0).at[1].set(ind.b0)
        return nlme.ODE(lambda t, now: dict(c=self.rates(now.c)), {"c": 5}, initial=dict(c=first))

    def observe(self, ind, state, t):
        return {name: nlme.additive(state.c[k], self.sd) for k, name in enumerate(SPECIES)}


class Truth(Network):
    """The reactions that made the data."""

    def rates(self, c):
        return RATES * jnp.stack([c[0] ** 2, c[0], c[2], c[1] * c[3]]) @ CHANGE


def run(fast: bool = False) -> Shown:
    """Twenty experiments, the best of four random starts; ``fast``: of two."""
    rng = np.random.default_rng(1)
    people = [dict(a0=a, b0=b) for a, b in rng.uniform(0.2, 1.2, (20, 2))]
    data = observed(Truth(sd=0.01), people, np.linspace(20 / 15, 20.0, 15), SPECIES)
    options = dict(penalty=nlme.L2(0.01), tolerance=0.01, max_evaluations=600, shooting=nlme.Collocation(), progress=False)
    method = nlme.NaivePooled(ode=nlme.Tolerances(1e-6, 1e-8))
    fits = [
        nlme.fit(Network(net=build(unknown(key), inputs=SPECIES)), data, method, **options) for key in range(2 if fast else 4)
    ]
    fit = min(fits, key=lambda one: one.objective)
    change, rates = read(fit.model)
    own = placed(change)
    wrong = float(np.max(np.abs(change[own] - CHANGE)))
    later = observed(Truth(), [FAR], np.linspace(1.0, 40.0, 40), SPECIES)
    there = nlme.predict(Truth(), later)[list(SPECIES)].to_numpy()
    here = nlme.predict(fit.model, later)[list(SPECIES)].to_numpy()
    numbers = [
        Number(
            "largest error of the stoichiometry (below 0.5: rounded, all 20 are right)", 0.0, wrong, 0.0, 0.5, "Ji & Deng 2021"
        ),
        Number("largest error from A = 2, B = 0.1 over 40 minutes", 0.0, float(np.max(np.abs(here - there))), 0.0, 0.1, "truth"),
    ]
    numbers += [
        Number(f"rate of {name}, mode", k, one, 0.8 * k, 1.25 * k, "truth")
        for name, k, one in zip(WRITTEN, RATES, rates[own], strict=True)
    ]
    remarks = (f"Objectives of the random starts: {', '.join(f'{one.objective:.0f}' for one in fits)}.",)
    return Shown("Reaction network: stoichiometry and rates", tuple(numbers), drawn(data, later, there, here), remarks)


def read(model) -> tuple[np.ndarray, np.ndarray]:
    """(4, 5) stoichiometry and (4,) rates of a model."""
    return np.asarray(model.net.weights.change), np.exp(np.asarray(model.net.weights.b))


def placed(change) -> list[int]:
    """Which of the learned reactions is the first, second ... of the true ones: the nearest, each once."""
    from scipy.optimize import linear_sum_assignment

    cost = np.abs(CHANGE[:, None, :] - change[None]).sum(axis=-1)
    return [int(k) for k in linear_sum_assignment(cost)[1]]


@picture
def drawn(data, later, there, here):
    """One experiment that was not among the data, farther out than these: truth, and what was learned."""
    figure = new_figure(3.0, 5.5)
    axes = figure.subplots()
    t = nlme.predict(Truth(), later)["TIME"].to_numpy()
    _, first = np.unique(t, return_index=True)
    for k, (name, colour) in enumerate(zip(SPECIES, (BLUE, VERMILION, GREY, INK, "#009E73"), strict=True)):
        axes.plot(t[first], there[first, k], "--", color=colour, linewidth=0.9)
        axes.plot(t[first], here[first, k], color=colour, label=name.upper())
    longest = max(columns(data, k, "a")[0][-1] for k in range(len(data.subjects)))
    axes.axvline(longest, color=GREY, linewidth=0.7)
    axes.set(xlabel="Time (min; data end at the line)", ylabel="Concentration (dashed: truth)")
    axes.legend(ncols=5)
    return figure
