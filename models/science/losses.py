"""Four ways to train the equations of a pendulum over three swings, where minimising the distance from the data is lost.

    angle' = speed,    speed' = NN(angle),    angle(0) = 1.2, speed(0) = 0,    t in (0, 20.7)  (units of sqrt(length / g))

The restoring force is unknown, a network of 10 weights that begins at no force; the truth is -sin(angle). Angle and speed were
seen at 45 times, with errors of 0.03. Without a force the pendulum stands still; the distance of that from an oscillation is a
maximum in many directions and a minimum in some, and the longer the data the more minima. Each of these begins with another
problem:

    multiple shooting     ten segments from nodes of their own, the gaps between them closed step by step
    growing interval      the first sixth of the data first, then more
    prediction error      an observer pulls the solution to the data, angle' = speed + K (y - angle), .., and lets go
    collocation           NN(angle) fitted to the slopes of the smoothed data; nothing is solved

``nlme.fit(..., shooting=...)`` takes each; the fit to the data begins where it leads. Single shooting has twice the evaluations
that each aid has, as many as an aid and the fit after it together.

Reference: E. M. Turan & J. Jaeschke (2021), Multiple shooting for training neural differential equations on time series,
arXiv:2109.06786; E. Roesch, C. Rackauckas & M. Stumpf (2021), Collocation based training of neural ordinary differential
equations, doi:10.1515/sagmb-2020-0025; R. Larsson et al. (2009), doi:10.3182/20090706-3-FR-2004.00226 (prediction error); C.
Rackauckas et al. (2020), arXiv:2001.04385 (growing interval).
"""

from __future__ import annotations

import time

import jax
import jax.numpy as jnp
import numpy as np
from scipy.integrate import solve_ivp

import nlme
from nlme import Scalar
from nlme.models.science import Number, Shown
from nlme.models.science._solving import one_subject
from nlme.plots.style import BLUE, GREY, INK, VERMILION, new_figure, picture

START, PERIOD = (1.2, 0.0), 6.9
ERROR = 0.03
EVALUATIONS = 300
ANGLES = np.linspace(-1.1, 1.1, 23)  # where the pendulum swings
AIDS = {
    "multiple shooting": nlme.MultipleShooting(10),
    "growing interval": nlme.GrowingHorizon(6),
    "prediction error": nlme.PredictionError(),
    "collocation": nlme.Collocation(),
}


class Pendulum(nlme.Model):
    """A pendulum whose restoring force is a network."""

    force: nlme.MLP = nlme.mlp(inputs=1, outputs=1, width=3, depth=1, key=3)
    sd: Scalar = nlme.positive(0.1)

    def individual(self, eta, cov):
        return dict(angle=START[0])

    def dynamics(self, ind):
        def rhs(t, a):
            return dict(angle=a.speed, speed=self.force(a.angle)[0])

        return nlme.ODE(rhs, ("angle", "speed"), initial=dict(angle=ind.angle))

    def observe(self, ind, state, t):
        return dict(angle=nlme.additive(state.angle, self.sd), speed=nlme.additive(state.speed, self.sd))


def swinging(periods: float, points: int) -> nlme.Population:
    """What was seen of the pendulum, with errors of a fixed seed."""
    times = np.linspace(0.0, periods * PERIOD, points + 1)[1:]
    true = solve_ivp(lambda t, a: [a[1], -np.sin(a[0])], (0.0, times[-1]), START, t_eval=times, rtol=1e-10, atol=1e-10).y
    seen = true + ERROR * np.random.default_rng(2).normal(size=true.shape)
    return one_subject(times, dict(zip(("angle", "speed"), seen, strict=True)))


def forces(model: Pendulum) -> np.ndarray:
    """The learned force at ``ANGLES``."""
    return np.asarray(jax.vmap(lambda x: model.force(x)[0])(jnp.asarray(ANGLES)))


def trained(population, aid=None, evaluations: int = EVALUATIONS) -> tuple[Pendulum, float]:
    """The pendulum fitted, and the seconds it took."""
    begin = time.perf_counter()
    fit = nlme.fit(
        Pendulum(), population, nlme.NaivePooled(), penalty=nlme.L2(1.0), shooting=aid, starts=0, max_evaluations=evaluations,
        progress=False,
    )  # fmt: skip
    return fit.model, time.perf_counter() - begin


def run(fast: bool = False) -> Shown:
    """Every aid, and none (``fast``: the growing interval alone, over one and a half swings)."""
    population = swinging(1.5, 20) if fast else swinging(3.0, 45)
    numbers, remarks, found = [], [], {}
    for name in ("growing interval",) if fast else AIDS:
        model, seconds = trained(population, AIDS[name])
        found[name] = forces(model)
        worst = float(np.abs(found[name] + np.sin(ANGLES)).max())
        numbers.append(Number(f"{name}: largest error of the force", 0.0, worst, 0.0, 0.05, "-sin(angle)"))
        remarks.append(f"{name}: {seconds:.0f} s")
    if not fast:
        model, seconds = trained(population, evaluations=2 * EVALUATIONS)
        found["single shooting"] = forces(model)
        worst = float(np.abs(found["single shooting"] + np.sin(ANGLES)).max())
        numbers.append(Number("single shooting: largest error of the force", 0.0, worst, 0.3, np.inf, "does not train"))
        remarks.append(f"single shooting: {seconds:.0f} s")
    return Shown("Four losses that train, and one that does not", tuple(numbers), _drawn(found), ("; ".join(remarks) + ".",))


@picture
def _drawn(found):
    figure = new_figure(3.4, 5.6)
    axes = figure.subplots()
    axes.plot(ANGLES, -np.sin(ANGLES), color=INK, linewidth=4, alpha=0.3, label="-sin(angle)")
    styles = [(BLUE, "-"), ("#009E73", "--"), (VERMILION, ":"), ("#CC79A7", "-."), (GREY, "-")]
    for (name, force), (colour, dash) in zip(found.items(), styles, strict=False):
        axes.plot(ANGLES, force, color=colour, linestyle=dash, label=name)
    axes.set(xlabel="Angle (rad)", ylabel="Restoring force (units of g / length)")
    axes.legend()
    return figure
