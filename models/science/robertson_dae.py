"""A universal differential-algebraic equation: Robertson's reaction with its fast steps learned, named and followed for 1e11 s.

    y1' = -k y1 + NN1(y2, y3)
    y2' =  k y1 - NN1(y2, y3) - NN2(y2, y3)
    0   =  y1 + y2 + y3 - total,        k = 0.04 / s

Shares of the substance, t in seconds. Known are the first, slow step, who can become what, and that nothing is lost: the third
equation holds at all times whatever the networks say, and no penalty asks for it. Unknown are the two fast steps, y2 back to y1
and y2 on to y3; that neither goes on without y2, and the first not without y3, is said (``vanishing=``). The data are y1 and y2
of five mixtures at 22 times from 1e-4 to 1,000 s, with 2 % error, made with

    NN1 = 1e4 y2 y3,    NN2 = 3e7 y2^2

y2 stays below 6e-5; the networks see it as z = 1e5 y2, in which the rates are 0.1 z y3 and 0.003 z^2. From 1,000 s to 1e11 s y1
falls by seven powers of ten: what is followed there are the expressions.

Reference: C. Rackauckas, Scientific Machine Learning (talk: universal differential-algebraic equations); H. H. Robertson (1966),
The solution of a set of reaction rate equations, in Numerical Analysis: An Introduction, 178-182; the solution at 1e11 s from F.
Mazzia & C. Magherini, Test Set for Initial Value Problem Solvers, release 2.4 (2008), II-10.
"""

from __future__ import annotations

import equinox as eqx
import numpy as np

import nlme
from nlme import Scalar
from nlme.discovery.terms import polynomials
from nlme.models.science import Number, Shown
from nlme.models.science._observed import coefficient, columns, observed
from nlme.plots.style import BLUE, GREY, INK, VERMILION, new_figure, picture

K, UNIT = 0.04, 1e-5
MIXTURES = tuple(
    dict(first=first, product=product) for first, product in ((1.0, 0.0), (0.4, 0.6), (2.0, 0.2), (0.1, 0.0), (0.5, 2.0))
)
LATE, Y1_LATE = 1e11, 0.2083340149701255e-7  # s, and y1 then (the first mixture)
TALK, TEST_SET, KEPT = "truth; Rackauckas, talk", "Mazzia & Magherini 2008, II-10", "the algebraic equation"
RATE = dict(inputs=("z", "y3"), outputs=1, width=4, depth=1, output="positive", center=0.5, scale=(1.0, 0.5))


class Universal(nlme.Model):
    """Robertson's reaction, both ways out of y2 learned."""

    back: nlme.MLP = nlme.mlp(key=1, vanishing=True, init=0.05, **RATE)
    on: nlme.MLP = nlme.mlp(key=2, vanishing="z", init=0.0003, **RATE)
    prop: Scalar = nlme.positive(0.05)
    covariates = {"first": "", "product": ""}

    def individual(self, eta, cov):
        return dict(first=cov.first, total=cov.first + cov.product)

    def rates(self, z, y3):
        """NN1 and NN2, 1/s."""
        return self.back(z, y3)[0], self.on(z, y3)[0]

    def dynamics(self, ind):
        def rhs(t, a):
            slow, (back, on) = K * a.y1, self.rates(a.y2 / UNIT, a.y3)
            return dict(y1=back - slow, y2=slow - back - on, y3=a.y1 + a.y2 + a.y3 - ind.total)

        start = dict(y1=ind.first, y3=ind.total - ind.first)
        return nlme.ODE(rhs, ("y1", "y2", "y3"), initial=start, algebraic=("y3",))

    def observe(self, ind, state, t):
        return {"y1": nlme.proportional(state.y1, self.prop), "y2": nlme.proportional(state.y2, self.prop)}


class Truth(Universal):
    """The rates that made the data."""

    def rates(self, z, y3):
        return 0.1 * z * y3, 0.003 * z**2


def run(fast: bool = False) -> Shown:
    """Fitted to 1,000 s, read as two expressions, and these followed to 1e11 s; ``fast`` is the same."""
    ode = nlme.Tolerances(1e-6, 1e-10, solver="stiff")
    data = observed(Truth(prop=0.02), MIXTURES, np.logspace(-4.0, 3.0, 22), ("y1", "y2"), ode=ode)
    options = dict(penalty=nlme.L2(0.01), starts=0, tolerance=0.1, max_evaluations=400, progress=False)
    fit = nlme.fit(Universal(), data, nlme.NaivePooled(ode=ode), **options)
    found = {name: nlme.discover(fit, name, library=polynomials(2, 2)[1:], most=2, draws=100) for name in ("back", "on")}
    numbers = [
        Number(f"coefficient of {term}", truth, coefficient(found[name], term), 0.85 * truth, 1.15 * truth, TALK)
        for name, term, truth in (("back", "z * y3", 0.1), ("on", "z**2", 0.003))
    ]
    late = np.logspace(-4.0, np.log10(LATE), 80)
    fine = dict(ode=nlme.Tolerances(1e-8, 1e-18, solver="stiff"))
    people = observed(Truth(prop=0.02), MIXTURES[:1], [1.0], ("y1", "y2"), ode=ode).with_times(late)
    named = eqx.tree_at(lambda m: (m.back, m.on), fit.model, tuple(one.expression for one in found.values()))
    course, truth = (nlme.predict(model, people, **fine) for model in (named, Truth()))
    numbers += [
        Number(f"y1 at 1e11 s, {words}", Y1_LATE, float(found["y1"].iloc[-1]), Y1_LATE / wide, Y1_LATE * wide, TEST_SET)
        for words, found, wide in (("true rates", truth, 1 + 1e-6), ("expressions of data to 1e3 s", course, 1.25))
    ]
    numbers += [
        Number("y1 + y2 + y3 - 1, largest over 1e11 s", 0.0, lost(course), 0.0, 1e-14, KEPT),
        Number("the same of the networks", 0.0, lost(nlme.predict(fit.model, people, ode=ode)), 0.0, 1e-14, KEPT),
    ]
    remarks = tuple(f"NN of {name} = {one.text}" for name, one in found.items())
    return Shown("Robertson: a universal DAE", tuple(numbers), drawn(data, course, truth), remarks)


def lost(course) -> float:
    """What the states' sum is off by at most."""
    return float(np.abs(course[["y1", "y2", "y3"]].sum(axis=1) - 1.0).max())


@picture
def drawn(data, course, truth):
    """Data of the first mixture, and the three states of the expressions over 15 powers of ten of time."""
    figure = new_figure(3.2)
    axes = figure.subplots()
    for name, colour, scale, words in (("y1", BLUE, 1.0, "y1"), ("y2", VERMILION, 1e4, "1e4 y2"), ("y3", GREY, 1.0, "y3")):
        axes.plot(truth["TIME"], scale * truth[name], color=colour, linewidth=4, alpha=0.3)
        axes.plot(course["TIME"], scale * course[name], color=colour, label=words)
        if name != "y3":
            t, y = columns(data, 0, name)
            axes.plot(t, scale * y, "o", color=colour, markersize=3)
    axes.axvline(1e3, color=INK, linewidth=0.6, linestyle=":")
    axes.set(xscale="log", xlabel="Time (s); data until 1,000 s", ylabel="Share of the substance")
    axes.legend(title="Expressions (wide: truth)")
    return figure
