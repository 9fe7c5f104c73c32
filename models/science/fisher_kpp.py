"""A reaction and its diffusion, both learned: a network for the one, a three-point convolution for the other.

    rho_t = NN(rho) + w_1 rho(x - dx) + w_2 rho(x) + w_3 rho(x + dx)

rho is a density between 0 and 1 on a ring of 26 points dx = 0.04 apart, t in units of the growth rate. What happens at a point
and how neighbours exchange is unknown. A linear reaction and a stencil whose weights do not sum to zero cannot be told apart,
so the sum is penalised: exchange neither makes nor destroys. The data are rho at every second point at 10 times up to 5, with
an error of 0.01, from

    rho_t = r rho (1 - rho) + D rho_xx,    r = 1, D = 0.01,    rho(x, 0) = 1 between x = 0.4 and 0.6, with edges of width 0.02

by second differences on the same points: w = (1, -2, 1) D / dx^2 = (6.25, -12.5, 6.25). The expression of the reaction is
sought among pairs of 1, rho, rho^2, rho^3.

Reference: C. Rackauckas et al. (2020), Universal differential equations for scientific machine learning, arXiv:2001.04385 (the
system, its numbers, the penalised stencil); R. A. Fisher (1937), doi:10.1111/j.1469-1809.1937.tb02153.x. Bayesian, in the talk:
{rho, rho^2} in 73 % of the draws.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

import nlme
from nlme.discovery.terms import polynomials
from nlme.models.science import Number, Shown
from nlme.models.science._observed import columns, observed
from nlme.plots.style import BLUE, GREY, INK, VERMILION, new_figure, picture

POINTS, DX, R, D = 26, 0.04, 1.0, 0.01
X = DX * np.arange(POINTS)
FIRST = (np.tanh((X - 0.4) / 0.02) - np.tanh((X - 0.6) / 0.02)) / 2
SEEN = range(0, POINTS, 2)
UNIT = D / DX**2
ODE = nlme.Tolerances(1e-5, 1e-6, solver="explicit")


class Ring(nlme.Model):
    """Reaction and exchange between neighbours, both learned."""

    net: nlme.MLP = nlme.mlp(inputs=("rho",), outputs=1, width=4, depth=1, key=1, center=0.5, scale=0.5)
    stencil: jax.Array = nlme.real([0.0, 0.0, 0.0], label="Weights of the neighbours before, here, and after")
    sd: nlme.Scalar = nlme.positive(0.05)
    covariates = {"size": ""}

    def individual(self, eta, cov):
        return dict(size=cov.size)

    def rates(self, rho):
        """rho_t at all points."""
        w1, w2, w3 = self.stencil
        return self.net.each(rho)[:, 0] + w1 * jnp.roll(rho, 1) + w2 * rho + w3 * jnp.roll(rho, -1)

    def dynamics(self, ind):
        return nlme.ODE(lambda t, a: dict(rho=self.rates(a.rho)), {"rho": POINTS}, initial=dict(rho=ind.size * FIRST))

    def observe(self, ind, state, t):
        return {f"x{k}": nlme.additive(state.rho[k], self.sd) for k in SEEN}


class Truth(Ring):
    """Fisher's equation by second differences."""

    def rates(self, rho):
        return R * rho * (1 - rho) + UNIT * (jnp.roll(rho, 1) - 2 * rho + jnp.roll(rho, -1))


def penalty(model):
    """Weak on the network's weights, strong on what the stencil makes of a constant."""
    return nlme.L2(0.1)(model) + 1e4 * jnp.sum(model.stencil) ** 2


def run(fast: bool = False) -> Shown:
    """Network and stencil fitted, and the polynomial of the reaction; ``fast``: a shorter search."""
    times = np.linspace(0.5, 5.0, 10)
    data = observed(Truth(sd=0.01), [dict(size=1.0)], times, [f"x{k}" for k in SEEN], ode=ODE)
    options = dict(penalty=penalty, starts=0, tolerance=0.05, max_evaluations=150 if fast else 300, progress=False)
    fit = nlme.fit(Ring(), data, nlme.NaivePooled(ode=ODE), **options)
    found = nlme.discover(fit, library=polynomials(1, 3), most=2, draws=200)
    said = dict(zip([t.text(("rho",), "") for t in found.expression.terms], found.expression.coefficients, strict=True))
    w, source = np.asarray(fit.model.stencil), "truth; arXiv:2001.04385"
    numbers = [
        *(Number(f"stencil: weight {k + 1}", own * UNIT, w[k], *sorted((own * UNIT * 0.85, own * UNIT * 1.15)), source)
          for k, own in enumerate((1.0, -2.0, 1.0))),
        Number("reaction: coefficient of rho", R, float(said.get("rho", np.nan)), 0.85, 1.15, source),
        Number("reaction: coefficient of rho^2", -R, float(said.get("rho**2", np.nan)), -1.15, -0.85, source),
        Number("share of draws with {rho, rho^2}", 0.73, dict(found.sets).get(("rho", "rho**2"), 0.0), 0.5, 1.0, "talk"),
    ]  # fmt: skip
    return Shown("Fisher-KPP: reaction and stencil", tuple(numbers), drawn(fit.model, data), (f"NN = {found.text}",))


@picture
def drawn(model, data):
    """Profiles at three times with the data, and the learned reaction."""
    figure = new_figure(3.0)
    left, right = figure.subplots(1, 2)
    times = columns(data, 0, "x0")[0]
    course = nlme.predict(model, data.with_times(times), ode=ODE)
    profiles = course[[f"rho[{k}]" for k in range(POINTS)]].to_numpy()
    for k, colour in zip((0, len(times) // 2, len(times) - 1), (BLUE, VERMILION, GREY), strict=True):
        seen = [columns(data, 0, f"x{j}")[1][k] for j in SEEN]
        left.plot(X[:: SEEN.step], seen, "o", color=colour, markersize=3)
        left.plot(X, profiles[k], color=colour, label=f"t = {times[k]:.2g}")
    left.set(xlabel="Place (dimensionless)", ylabel="Density (share of the capacity)")
    left.legend()
    rho = np.linspace(0.0, 1.0, 50)
    right.plot(rho, R * rho * (1 - rho), "--", color=INK, label="truth")
    right.plot(rho, [float(model.net(jnp.asarray(x))[0]) for x in rho], color=BLUE, label="learned")
    right.set(xlabel="Density (share of the capacity)", ylabel="Reaction (per unit of time)")
    right.legend()
    return figure
