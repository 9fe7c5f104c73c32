"""A small gene network, shaped until one of its proteins follows the day.

    u_i' = d_i (1 / (1 + exp(-(b_i + sum_j w_ij u_j))) - u_i),    u_i(0) = s_i,    i = 1, 2, 3

u_i (share of its largest value) is the concentration of protein i, d_i (1/h) the rate at which it is replaced, w_ij what protein
j does to gene i, b_i the gene's own readiness. Unknown is everything: d, w, b and s, 18 numbers. Wanted is a network whose first
protein tracks the daylight,

    u_1(t) = (1 + cos(2 pi t / 24 h)) / 2,

with nothing that tells it the time: it has to keep a clock. The measure of performance is the squared distance of the whole
trajectory over three days, and its derivative comes through the solver; for the library that is a fit of the equations to the
environment. The start is a ring of three genes, each repressing the next, whose oscillation dies away. A search over three days
at once is trapped, so ``GrowingHorizon`` begins with the first hours.

The form of the genes' response and the start were chosen here (circuits of Mjolsness, Sharp & Reinitz 1991, J Theor Biol
152:429); the problem and the wish for tracking are Frank's.

Reference: S. A. Frank (2022), Automatic differentiation and the optimization of differential equation models in biology, Front
Ecol Evol 10:1010278, doi:10.3389/fevo.2022.1010278, arXiv:2207.04487.
"""

from __future__ import annotations

import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import nlme
from nlme import Scalar
from nlme.models.science import Number, Shown
from nlme.models.science._solving import one_subject
from nlme.plots.style import BLUE, GREY, VERMILION, new_figure, picture

GENES = ("u1", "u2", "u3")
DAY = 24.0
NEAR = dict(d1=0.157, d2=0.157, d3=0.157, s1=0.85, s2=0.3, s3=0.3)
RING = np.array([[0.0, 0.0, -1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])


class Genes(nlme.Model):
    """Three genes and the proteins that switch them."""

    switches: nlme.MLP = nlme.mlp(inputs=GENES, outputs=3, width=1, depth=0, key=1)
    d1: Scalar = nlme.positive(0.2, unit="1/h")
    d2: Scalar = nlme.positive(0.2, unit="1/h")
    d3: Scalar = nlme.positive(0.2, unit="1/h")
    s1: Scalar = nlme.probability(0.8)
    s2: Scalar = nlme.probability(0.4)
    s3: Scalar = nlme.probability(0.5)
    sd: Scalar = nlme.positive(0.1)

    def individual(self, eta, cov):
        return dict(d1=self.d1, d2=self.d2, d3=self.d3, s1=self.s1, s2=self.s2, s3=self.s3)

    def readiness(self, *u):
        return self.switches(*u)

    def dynamics(self, ind):
        def rhs(t, u):
            on = jax.nn.sigmoid(self.readiness(u.u1, u.u2, u.u3))
            return dict(
                u1=ind.d1 * (on[0] - u.u1),
                u2=ind.d2 * (on[1] - u.u2),
                u3=ind.d3 * (on[2] - u.u3),
            )

        return nlme.ODE(rhs, GENES, initial=dict(u1=ind.s1, u2=ind.s2, u3=ind.s3))

    def observe(self, ind, state, t):
        return {"light": nlme.additive(state.u1, self.sd)}


class Clock(Genes):
    """A ring strong enough to go on, of which only the rates and the beginning are unknown."""

    def readiness(self, *u):
        return 10.0 * (RING @ jnp.stack(u) - RING.sum(axis=1) / 2)


def ring(strength: float = 7.0) -> Genes:
    """The network that it begins with: each gene represses the next."""
    start, weights = Genes(), strength * RING
    return eqx.tree_at(
        lambda m: (m.switches.weights[0], m.switches.biases[0]),
        start,
        (jnp.asarray(weights), jnp.asarray(-weights.sum(axis=1) / 2)),
    )


def light(t):
    return (1 + np.cos(2 * np.pi * t / DAY)) / 2


def followed(model: Genes, times) -> np.ndarray:
    """(T, 3) the proteins at ``times``."""
    frame = nlme.predict(model, one_subject(times, {"light": np.zeros(len(times))}))
    return frame[frame["EVID"] == 0][list(GENES)].to_numpy()


def run(fast: bool = False) -> Shown:
    """The search, what it tracks in the three days that it saw, and what in days after those.

    ``fast``: a ring that goes on by itself; from rates that make a day of 23 hours, those of 24 are found in six days, without
    an aid.
    """
    days, begun, held, aid, limits = 3, ring(), ("sd",), nlme.GrowingHorizon(6), (0.08, 0.1)
    if fast:
        days, begun, held, aid, limits = 6, Clock(**NEAR), ("sd", "switches"), None, (0.2, 0.3)
    times = np.arange(1.0, days * DAY + 1, 2.0)
    population = one_subject(times, {"light": light(times)})
    begin = time.perf_counter()
    fit = nlme.fit(
        begun, population, nlme.NaivePooled(), fixed=held, penalty=nlme.L2(0.01), shooting=aid, starts=0,
        max_evaluations=300, progress=False,
    )  # fmt: skip
    seconds = time.perf_counter() - begin
    later = np.arange(0.25, 12 * DAY, 0.25)
    u = followed(fit.model, later)
    error = np.sqrt(
        np.array([np.mean((u - light(later)[:, None])[own, 0] ** 2) for own in (later <= days * DAY, later > days * DAY)])
    )
    start = np.sqrt(np.mean((followed(begun, times)[:, 0] - light(times)) ** 2))
    rising = np.flatnonzero((u[:-1, 0] < 0.5) & (u[1:, 0] >= 0.5))
    period = float(np.mean(np.diff(later[rising]))) if len(rising) > 1 else np.inf
    numbers = (
        Number(
            f"distance from the light over {days} days (root mean square)",
            0.0,
            float(error[0]),
            0.0,
            limits[0],
            "the environment",
        ),
        Number("distance over the days after, to day 12", 0.0, float(error[1]), 0.0, limits[1], "the environment"),
        Number("period of the free-running network (h)", DAY, period, 23.7, 24.3, "the environment"),
    )
    remarks = (f"What it began with is at a distance of {start:.2f}. The search took {seconds:.0f} s.",)
    return Shown("A gene network that tracks the day", numbers, _drawn(later, u, days), remarks)


@picture
def _drawn(times, u, days):
    figure = new_figure(3.2)
    axes = figure.subplots()
    axes.plot(times / DAY, light(times), color=GREY, linewidth=4, alpha=0.5, label="light")
    for k, colour in enumerate((VERMILION, BLUE, "#009E73")):
        axes.plot(times / DAY, u[:, k], color=colour, linewidth=1.4 if k == 0 else 0.8, label=GENES[k])
    axes.axvline(days, color=GREY, linewidth=0.8, linestyle="--", label="end of what the search saw")
    axes.set(xlabel="Time (d)", ylabel="Concentration (share of the largest)", xlim=(0, 8), ylim=(-0.02, 1.3))
    axes.legend(ncols=5, loc="upper center")
    return figure
