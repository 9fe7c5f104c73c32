"""A sorption column whose kinetics are learned from what comes out of it.

    c_t = -(1 - eps) / eps ANN(q, q*) - u / L c_x + u / (L Pe) c_xx
    q_t = ANN(q, q*),    q* = q_max k c^1.5 / (1 + k c^1.5)    (Sips)
    c_x(0, t) = Pe (c - c_in),    c_x(1, t) = 0

c (mg/L) flows, q (mg/g) is bound, q* is what would be bound in equilibrium; x is the share of the column's length, t in
minutes. Flow, dispersion and equilibrium are known, the kinetics of binding are a network of both loads. Solved by lines: 12
points, central differences, the boundary conditions in the points beyond the ends. The data are the concentration at the
outlet, with an error of 0.05 mg/L: a clean column fed with 5.5 mg/L, a clean one fed with 2.5, and one full of 5.5 that is
washed. They were made with

    ANN = 0.22 q* - 0.22 q    (linear driving force)

on the same points, and the expression is sought among polynomials of degree 1 and 2 without a constant.

Reference: V. Santana et al. (2023), Efficient hybrid modeling and sorption model discovery for non-linear
advection-diffusion-sorption systems, arXiv:2303.13555 (0.198 q* - 0.200 q for Sips); the values of the authors' example: Pe =
21.096, eps = 0.5, u = 0.05 / (pi / 16 eps) m/min, L = 2 m, q_max = 55.54, k = 1.8.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

import nlme
from nlme import Scalar
from nlme.discovery.terms import polynomials
from nlme.models.science import Number, Shown
from nlme.models.science._observed import columns, observed
from nlme.plots.style import BLUE, GREY, INK, VERMILION, new_figure, picture

POINTS = 12
PE, EPS, L, QMAX, K, FEED, CLEAN = 21.096, 0.5, 2.0, 55.54, 1.8, 5.5, 1e-3
SPEED = 0.05 / (np.pi / 16 * EPS) / L  # u / L, 1/min
COLUMNS = (dict(feed=FEED, first=CLEAN), dict(feed=2.5, first=CLEAN), dict(feed=CLEAN, first=FEED))
UNIT = 10.0  # mg/g, of what the network takes and gives


def equilibrium(c):
    """q* of Sips, mg/g."""
    bound = K * jnp.maximum(c, 1e-9) ** 1.5
    return QMAX * bound / (1 + bound)


class Column(nlme.Model):
    """Flow and dispersion known, kinetics learned."""

    net: nlme.MLP = nlme.mlp(inputs=("q", "qs"), outputs=1, width=3, depth=1, key=1, center=2.5, scale=2.5)
    sd: Scalar = nlme.positive(0.1, unit="mg/L")
    covariates = {"feed": "mg/L", "first": "mg/L"}

    def individual(self, eta, cov):
        return dict(feed=cov.feed, first=cov.first)

    def kinetics(self, q, qs):
        """ANN at all points, mg/g/min."""
        return UNIT * self.net.each(q / UNIT, qs / UNIT)[:, 0]

    def dynamics(self, ind):
        dx = 1.0 / (POINTS - 1)

        def rhs(t, a):
            bound = self.kinetics(a.q, equilibrium(a.c))
            before = a.c[1] - 2.0 * dx * PE * (a.c[0] - ind.feed)
            c = jnp.concatenate([before[None], a.c, a.c[-2:-1]])
            flow = (c[2:] - c[:-2]) / (2.0 * dx)
            spread = (c[2:] - 2.0 * c[1:-1] + c[:-2]) / dx**2
            return dict(c=-(1 - EPS) / EPS * bound + SPEED * (spread / PE - flow), q=bound)

        first = jnp.full(POINTS, ind.first)
        return nlme.ODE(rhs, {"c": POINTS, "q": POINTS}, initial=dict(c=first, q=equilibrium(first)))

    def observe(self, ind, state, t):
        return {"outlet": nlme.additive(state.c[-1], self.sd)}


class Truth(Column):
    """The linear driving force."""

    def kinetics(self, q, qs):
        return 0.22 * (qs - q)


def run(fast: bool = False) -> Shown:
    """Three columns fitted, and the polynomial of the network; ``fast`` is the same, since most of it is compilation."""
    ode = nlme.Tolerances(1e-5, 1e-6, solver="explicit")
    data = observed(Truth(sd=0.05), COLUMNS, np.linspace(4.0, 112.0, 28), ("outlet",), ode=ode)
    options = dict(penalty=nlme.L2(0.1), starts=0, tolerance=0.1, max_evaluations=250, progress=False)
    fit = nlme.fit(Column(), data, nlme.NaivePooled(ode=ode), **options)
    found = nlme.discover(fit, library=polynomials(2, 2)[1:], most=2, draws=100)
    texts = [term.text(("q", "qs"), "") for term in found.expression.terms]
    said = dict(zip(texts, map(float, found.expression.coefficients), strict=True))
    wide, source = (0.85, 1.15), "truth; Santana et al. 2023: 0.198, -0.200"
    numbers = [
        Number(f"coefficient of {name}, 1/min", true, said.get(term, np.nan), *sorted(true * w for w in wide), source)
        for name, term, true in (("q*", "qs", 0.22), ("q", "q", -0.22))
    ]
    wash, error = elution(fit.model, ode)
    numbers.append(Number("largest error in a column not seen, mg/L", 0.0, error, 0.0, 0.25, "truth, feed 4"))
    remarks = (f"ANN = {found.text} (qs is q*; units of 10 mg/g)",)
    return Shown("Sorption column: learned kinetics", tuple(numbers), drawn(fit.model, data, wash, ode), remarks)


def elution(model, ode):
    """Outlet of a column that no data were about, fed with 4 mg/L, and the largest error there."""
    t = np.linspace(0.0, 112.0, 57)
    frame = observed(Truth(), [dict(feed=4.0, first=CLEAN)], t[1:], ("outlet",), ode=ode).with_times(t)
    there, here = (nlme.predict(one, frame, ode=ode)["outlet"].to_numpy() for one in (Truth(), model))
    return (t, there, here), float(np.max(np.abs(there - here)))


@picture
def drawn(model, data, wash, ode):
    """Outlets of the columns with data, and of one without."""
    figure = new_figure(3.0, 5.5)
    axes = figure.subplots()
    course = nlme.predict(model, data.with_times(np.linspace(0.0, 112.0, 100)), ode=ode)
    for k, colour in zip(range(len(data.subjects)), (BLUE, VERMILION, GREY), strict=False):
        t, y = columns(data, k, "outlet")
        own = course[course["ID"] == data.subjects[k].id]
        axes.plot(t, y, "o", color=colour, markersize=3)
        axes.plot(own["TIME"], own["outlet"], color=colour, label=f"column {k + 1}, learned")
    t, there, here = wash
    axes.plot(t, there, ":", color=INK, label="a column not seen, truth")
    axes.plot(t, here, color=INK, linewidth=0.9, label="the same, learned")
    axes.set(xlabel="Time (min)", ylabel="Concentration at the outlet (mg/L)")
    axes.legend()
    return figure
