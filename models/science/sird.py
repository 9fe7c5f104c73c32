"""An epidemic of which every flux is learned, and then named.

    S' = -NN_SI(S, I)
    I' =  NN_SI(S, I) - NN_IR(I) - NN_ID(I)
    R' =  NN_IR(I)
    D' =  NN_ID(I)

S, I, R, D are shares of the population (susceptible, infected, recovered, dead), t in days. Known is who can become what, and
that nobody falls ill, recovers or dies where nobody is infected; unknown is at which rates. Three networks are fitted together
to four outbreaks that began with different shares of susceptible and infected people, over 40 days, starting from where the
slopes of the smoothed data lead (``nlme.Collocation``); then ``nlme.discover`` reads an expression from each. The data were
made with

    NN_SI = 0.85 S I,    NN_IR = 0.1 I,    NN_ID = 0.05 I

and independent errors of 0.005 (additive).

Reference: C. Rackauckas et al. (2020), Universal differential equations for scientific machine learning, arXiv:2001.04385; the
rates, and those found in his talk by sparse regression (0.74, 0.097, 0.049), from C. Rackauckas, Scientific Machine Learning
(talk).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

import nlme
from nlme import Scalar
from nlme.models.science import Number, Shown
from nlme.models.science._observed import coefficient, columns, observed
from nlme.plots.style import BLUE, GREY, IDENTITY, INK, VERMILION, new_figure, picture

TALK = "Rackauckas, talk: SIRD"
PEOPLE = tuple(dict(s0=s, i0=i) for s, i in ((0.99, 0.01), (0.7, 0.02), (0.5, 0.05), (0.85, 0.15)))  # one outbreak each
FLUX = dict(outputs=1, depth=1, vanishing="i", output="positive", center=0.3, scale=0.3)  # i times what is positive
STATES = ("s", "i", "r", "d")


class SIRD(nlme.Model):
    """Susceptible, infected, recovered and dead, the three fluxes learned."""

    si: nlme.MLP = nlme.mlp(inputs=("s", "i"), width=6, key=1, init=0.3, **FLUX)
    ir: nlme.MLP = nlme.mlp(inputs=("i",), width=4, key=2, init=0.1, **FLUX)
    id: nlme.MLP = nlme.mlp(inputs=("i",), width=4, key=3, init=0.1, **FLUX)
    sd: Scalar = nlme.positive(0.01)
    covariates = {"s0": "", "i0": ""}

    def individual(self, eta, cov):
        return dict(s0=cov.s0, i0=cov.i0)

    def fluxes(self, s, i):
        return self.si(s, i)[0], self.ir(i)[0], self.id(i)[0]

    def dynamics(self, ind):
        def rhs(t, a):
            si, ir, id = self.fluxes(a.s, a.i)
            return dict(s=-si, i=si - ir - id, r=ir, d=id)

        return nlme.ODE(rhs, STATES, initial=dict(s=ind.s0, i=ind.i0))

    def observe(self, ind, state, t):
        return {name: nlme.additive(state[name], self.sd) for name in STATES}


class Truth(SIRD):
    """The fluxes that made the data."""

    def fluxes(self, s, i):
        return 0.85 * s * i, 0.1 * i, 0.05 * i


def run(fast: bool = False) -> Shown:
    """Four outbreaks fitted by three networks, and what these say; ``fast``: ten observations of each state instead of twenty."""
    data = observed(Truth(sd=0.005), PEOPLE, np.linspace(2.0, 40.0, 10 if fast else 20), STATES)
    method = nlme.NaivePooled(ode=nlme.Tolerances(1e-6, 1e-8))
    options = dict(penalty=nlme.L2(1.0), tolerance=0.01, max_evaluations=150 if fast else 300, progress=False)
    fit = nlme.fit(SIRD(), data, method, shooting=nlme.Collocation(), **options)
    found = {name: nlme.discover(fit, name, most=2, draws=100) for name in ("si", "ir", "id")}
    numbers = [
        Number(f"coefficient of {term}, day⁻¹", truth, coefficient(found[name], term), 0.85 * truth, 1.15 * truth, TALK)
        for name, term, truth in (("si", "s * i", 0.85), ("ir", "i", 0.1), ("id", "i", 0.05))
    ]
    numbers += [
        Number("share of draws whose infection is S I alone", 1.0, share(found["si"], ("s * i",)), 0.5, 1.0, "this data's truth")
    ]
    remarks = [f"NN_{name.upper()} = {one.text}" for name, one in found.items()]
    return Shown("SIRD: every flux learned, then named", tuple(numbers), drawn(fit, data), tuple(remarks))


def share(found, terms: tuple[str, ...]) -> float:
    """Share of draws whose best set of terms this is."""
    return dict(found.sets).get(terms, 0.0)


@picture
def drawn(fit, data):
    """The outbreak of the first region, and the learned fluxes beside the true ones along all four."""
    figure = new_figure(3.0)
    left, right = figure.subplots(1, 2)
    states = nlme.predict(fit.model, data)
    own = states[states["ID"] == states["ID"].iloc[0]]
    for name, colour in zip(STATES, (BLUE, VERMILION, GREY, INK), strict=True):
        t, y = columns(data, 0, name)
        left.plot(t, y, "o", color=colour, markersize=3.5)
        left.plot(own["TIME"], own[f"{name}"], color=colour, label=name.upper())
    left.set(xlabel="Time (days)", ylabel="Share of the population")
    left.legend()
    s, i = states["s"].to_numpy(), states["i"].to_numpy()
    learned = np.array(jax.vmap(fit.model.fluxes)(jnp.asarray(s), jnp.asarray(i)))
    true = np.array(Truth().fluxes(s, i))
    for k, (name, colour) in enumerate((("S to I", BLUE), ("I to R", VERMILION), ("I to D", GREY))):
        right.plot(true[k], learned[k], "o", color=colour, markersize=3.5, label=name)
    top = true.max()
    right.plot([0, top], [0, top], **IDENTITY)
    right.set(xlabel="True flux (1/day)", ylabel="Learned flux (1/day)")
    right.legend()
    return figure
