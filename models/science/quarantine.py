"""How strict a quarantine was, learned from case counts; and what reopening cost.

    S' = -b S I
    I' =  b S I - (gamma + Q(t)) I
    R' =  gamma I + delta T
    T' =  Q(t) I - delta T,    1 = S + I + R + T

Shares of a region's people: susceptible, infected and free, recovered, quarantined; t in days. Recovery is known (gamma = 0.05,
delta = 0.08 per day); the rate of infection b is a parameter, the strength of quarantine Q(t) = NN(t) a network of twelve
radial bases (the constant that they are added to is held), whose information matrix is regular. Of one region I is a function
of t, so that t stands for all that Q might depend on. The data are I, R and T every second day with 3 % error, made with

    Q = 0.30 / (1 + exp(-(t - 22) / 4)) - 0.10 / (1 + exp(-(t - 58) / 4)),    b = 0.30,    I(0) = 1e-4

so that the region reopened about day 58. The question is counterfactual: how many infections from day 46 to day 100 would there
not have been, had Q stayed what it was on day 46? It is asked of the same model by a covariate, ``held``, the day from which Q
is held, and answered with an interval by draws of everything that was estimated (``nlme.simulate(...,
uncertainty="covariance")``).

Reference: R. Dandekar, C. Rackauckas & G. Barbastathis (2020), doi:10.1016/j.patter.2020.100145 (the equations); R. Dandekar,
E. Wang, G. Barbastathis & C. Rackauckas (2021), doi:10.34133/2021/9798302 (reopening: 41 to 84 % fewer infections by state).
The numbers of the region above are ours, of the size of these.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

import nlme
from nlme import Scalar
from nlme.models.science import Number, Shown
from nlme.models.science._observed import columns, observed
from nlme.plots.style import BLUE, GREY, INK, PALE, VERMILION, new_figure, picture

GAMMA, DELTA, BEFORE, END, NEVER = 0.05, 0.08, 46.0, 100.0, 1e6
STATES = ("i", "r", "t")


class QSIR(nlme.Model):
    """Infection estimated, quarantine learned."""

    b: Scalar = nlme.positive(0.2, unit="1/day")
    net: nlme.Radial = nlme.radial(
        inputs=("day",), outputs=1, units=12, output="positive", init=0.1, center=50.0, scale=25.0
    )  # of days 0 to 100
    prop: Scalar = nlme.positive(0.05)
    covariates = {"held": "day"}

    def individual(self, eta, cov):
        return dict(held=cov.held)

    def quarantine(self, day):
        return self.net(day)[0]

    def dynamics(self, ind):
        def rhs(day, a):
            taken = self.quarantine(jnp.minimum(day, ind.held)) * a.i
            new = self.b * (1 - a.i - a.r - a.t) * a.i
            return dict(i=new - GAMMA * a.i - taken, r=GAMMA * a.i + DELTA * a.t, t=taken - DELTA * a.t)

        return nlme.ODE(rhs, STATES, initial=dict(i=1e-4))

    def observe(self, ind, state, t):
        return {name: nlme.proportional(state[name], self.prop) for name in STATES}


class Truth(QSIR):
    """The quarantine that made the data."""

    def quarantine(self, day):
        return 0.30 / (1 + jnp.exp(-(day - 22.0) / 4.0)) - 0.10 / (1 + jnp.exp(-(day - 58.0) / 4.0))


def run(fast: bool = False) -> Shown:
    """The quarantine learned, and infections with and without reopening; ``fast``: fewer draws."""
    truth, method = Truth(b=0.3, prop=0.03), nlme.NaivePooled(ode=nlme.Tolerances(1e-6, 1e-10))
    data = observed(truth, [dict(held=NEVER)], np.arange(2.0, END + 1, 2.0), STATES)
    options = dict(
        fixed=["net.biases[0]"], penalty=nlme.L2(0.01), tolerance=0.01, max_evaluations=150 if fast else 300, progress=False
    )
    fit = nlme.fit(QSIR(), data, method, shooting=nlme.Collocation(), **options)
    both = [asked(held) for held in (NEVER, BEFORE)]
    true = lower(*(ever(nlme.predict(truth, one)) for one in both))[0]
    draws = [
        nlme.simulate(fit, one, key=1, eta="typical", noise=False, uncertainty="covariance", replicates=40 if fast else 200)
        for one in both
    ]
    courses = [np.stack([wide(own) for _, own in one.groupby("REPLICATE")]) for one in draws]
    reduced = lower(*courses)
    low, middle, high = np.quantile(reduced, [0.05, 0.5, 0.95])
    numbers = [
        Number("rate of infection b, 1/day", 0.3, float(fit.model.b), 0.27, 0.33, "truth"),
        Number("fewer infections without reopening, %", true, middle, 0.85 * true, 1.15 * true, "truth; by state 41 to 84"),
        Number(
            "from the truth, in standard deviations of the draws", 0.0, abs(middle - true) / np.std(reduced), 0.0, 3.0, "truth"
        ),
    ]
    said = f"Had the quarantine stayed as it was: {middle:.0f} % fewer infections (5 to 95 %: {low:.0f} to {high:.0f})."
    return Shown("QSIR: had it not reopened", tuple(numbers), drawn(fit.model, data, courses), (said,))


def asked(held: float) -> nlme.Population:
    """The region on every second day of the data, its quarantine held from a day on."""
    return observed(Truth(), [dict(held=held)], np.arange(2.0, END + 1, 2.0), STATES)


def wide(own) -> np.ndarray:
    """Share of the people ever infected, at every time of one replicate after the start."""
    return own.pivot_table(index="TIME", columns="ENDPOINT", values="IPRED")[list(STATES)].sum(axis=1).to_numpy()[1:]


def ever(course) -> np.ndarray:
    """The same, of a prediction."""
    return course.groupby("TIME")[list(STATES)].first().sum(axis=1).to_numpy()[1:]


def lower(relaxed, held) -> np.ndarray:
    """Per cent fewer infections from the day before reopening to the end."""
    days = np.arange(2.0, END + 1, 2.0)
    new = [np.atleast_2d(one)[:, -1] - np.atleast_2d(one)[:, days == BEFORE][:, 0] for one in (relaxed, held)]
    return 100.0 * (1.0 - new[1] / new[0])


@picture
def drawn(model, data, courses):
    """The strength of quarantine, and everybody ever infected with and without reopening."""
    figure = new_figure(3.0)
    left, right = figure.subplots(1, 2)
    days = np.linspace(0.0, END, 101)
    left.plot(days, [float(Truth().quarantine(day)) for day in days], "--", color=INK, label="truth")
    left.plot(days, [float(model.quarantine(jnp.asarray(day))) for day in days], color=BLUE, label="learned")
    left.set(xlabel="Time (days)", ylabel="Strength of quarantine (1/day)")
    left.legend()
    days = np.arange(2.0, END + 1, 2.0)
    for course, colour, words in zip(courses, (VERMILION, BLUE), ("reopened", "not reopened"), strict=True):
        low, middle, high = np.quantile(course, [0.05, 0.5, 0.95], axis=0)
        right.fill_between(days, low, high, color=GREY if colour == VERMILION else PALE, alpha=0.5, linewidth=0)
        right.plot(days, middle, color=colour, label=words)
    seen = [columns(data, 0, name) for name in STATES]
    right.plot(seen[0][0], sum(y for _, y in seen), "o", color=INK, markersize=3, label="data")
    right.set(xlabel="Time (days)", ylabel="Ever infected (share of the people)")
    right.legend()
    return figure
