"""An early epidemic whose exposure is learned, and goes on beyond its data.

    S' = -b0 F S / N - NN(I, S / N) - mu S
    E' =  b0 F S / N + NN(I, S / N) - (sigma + mu) E
    I' =  sigma E - (gamma + mu) I
    R' =  gamma I - mu R
    N' = -mu N,    D' = d gamma I - lambda D,    C' = sigma E

Susceptible, exposed, infected, recovered or dead, everybody; severe cases and deaths, cumulative cases; people and days. Known
are imported infections (F = 10 of them, b0 = 0.5944 per day), incubation and recovery; unknown is how many the infected expose.
The data are E, I, R, D, C every second day for 21 days, with 2 % error, made with

    NN = b0 (1 - alpha) (1 - D / N)^kappa (S / N) I,    alpha = 0.4239, kappa = 1117.3

In these days D / N is next to 0 and S / N stays at 0.9, so what the data determine is the exposure per infected at 0.9, b0 (1 -
alpha) 0.9 = 0.308 per day, and not how it goes with S / N: the sparse regression of the talk, 0.10 I + 0.11 (S/N) I + 0.13
(S/N)^2 I, says 0.304 there.

Reference: C. Rackauckas et al. (2020), arXiv:2001.04385; E. Acquesta et al. (2022), SAND2022-12823; the system and its numbers:
Q. Lin et al. (2020), A conceptual model for the COVID-19 outbreak in Wuhan, doi:10.1016/j.ijid.2020.02.058, with the values of
the UDE paper's example (mu = 0.02, sigma = 1/3, gamma = 1/5, d = 0.2, lambda = 1/11.2 per day, N = 14 million, S = 0.9 N at the
start).
"""

from __future__ import annotations

import numpy as np

import nlme
from nlme import Scalar
from nlme.discovery.terms import Term
from nlme.models.science import Number, Shown
from nlme.models.science._observed import columns, observed
from nlme.plots.style import BLUE, GREY, INK, new_figure, picture

EVERYBODY, SHARE = 14e6, 0.9
B0, F, ALPHA, KAPPA, MU, SIGMA, GAMMA, DIED, LAMBDA = 0.5944, 10.0, 0.4239, 1117.3, 0.02, 1 / 3, 1 / 5, 0.2, 1 / 11.2
SEEN = ("e", "i", "r", "d", "c")
SIZE = np.array([60.0, 60.0, 60.0, 10.0, 200.0])  # about what 21 days lead to
HORIZON, BEYOND = 21.0, 42.0


class Universal(nlme.Model):
    """The equations, with the exposure by the infected learned."""

    net: nlme.MLP = nlme.mlp(
        inputs=("i", "s"), outputs=1, width=4, depth=1, key=1, vanishing="i", output="positive", init=0.5,
        center={"i": 50.0, "s": 0.5}, scale={"i": 50.0, "s": 0.5},
    )  # fmt: skip
    prop: Scalar = nlme.positive(0.1)
    covariates = {"share": ""}

    def individual(self, eta, cov):
        return dict(share=cov.share)

    def exposed(self, i, s, d):
        return self.net(i, s)[0]

    def dynamics(self, ind):
        def rhs(t, a):
            new = B0 * F * a.s / a.n + self.exposed(a.i, a.s / a.n, a.d / a.n)
            ill = SIGMA * a.e
            return dict(
                s=-new - MU * a.s,
                e=new - ill - MU * a.e,
                i=ill - (GAMMA + MU) * a.i,
                r=GAMMA * a.i - MU * a.r,
                n=-MU * a.n,
                d=DIED * GAMMA * a.i - LAMBDA * a.d,
                c=ill,
            )

        return nlme.ODE(rhs, ("s", "e", "i", "r", "n", "d", "c"), initial=dict(s=ind.share * EVERYBODY, n=EVERYBODY))

    def observe(self, ind, state, t):
        return {name: nlme.proportional(state[name], self.prop) for name in SEEN}


class Truth(Universal):
    """The exposure that made the data."""

    def exposed(self, i, s, d):
        return B0 * (1 - ALPHA) * (1 - d) ** KAPPA * s * i


def run(fast: bool = False) -> Shown:
    """Fitted to 21 days and followed for 42; ``fast`` is the same."""
    data = observed(Truth(prop=0.02), [dict(share=SHARE)], np.arange(1.0, HORIZON + 1, 2.0), SEEN)
    method = nlme.NaivePooled(ode=nlme.Tolerances(1e-6, 1e-6))
    options = dict(penalty=nlme.L2(0.1), starts=0, tolerance=0.01, max_evaluations=300, progress=False)
    fit = nlme.fit(Universal(), data, method, **options)
    found = nlme.discover(fit, library=[Term((1, k)) for k in range(3)], most=2, draws=100)
    later = data.with_times(np.arange(0.0, BEYOND + 1))
    course, truth = (nlme.predict(model, later) for model in (fit.model, Truth()))
    here = 50.0, SHARE
    learned, named = (float(f(*here)[0]) / here[0] for f in (fit.model.net, found.expression))
    rate, source = B0 * (1 - ALPHA) * SHARE, "truth; Rackauckas, talk: 0.304"
    numbers = [
        Number("exposed by one infected at S/N = 0.9, network, day⁻¹", rate, learned, 0.95 * rate, 1.05 * rate, source),
        Number("the same, sparse expression, day⁻¹", rate, named, 0.95 * rate, 1.05 * rate, source),
        Number("error of I at 42 days, universal", 0.0, error(course, truth), 0.0, 0.15, "fitted to 21 days"),
    ]
    return Shown("SEIR: a learned exposure", tuple(numbers), drawn(data, course, truth), (f"NN = {found.text} (s is S / N)",))


def error(course, truth) -> float:
    """Relative error of the infected at the end."""
    end, right = (one["i"].to_numpy()[-1] for one in (course, truth))
    return float(abs(end / right - 1.0)) if np.isfinite(end) else np.inf


@picture
def drawn(data, course, truth):
    """The infected over 42 days, of which 21 have data."""
    figure = new_figure(3.0, 5.0)
    axes = figure.subplots()
    axes.axvspan(0.0, HORIZON, color=GREY, alpha=0.15, linewidth=0)
    axes.plot(*columns(data, 0, "i"), "o", color=INK, markersize=3.5, label="data")
    axes.plot(truth["TIME"], truth["i"], "--", color=INK, label="truth")
    axes.plot(course["TIME"], course["i"], color=BLUE, label="universal")
    axes.set(xlabel="Time (days)", ylabel="Infected (people)")
    axes.legend()
    return figure
