"""A digital twin of a structure: the forces that are known, and a network for the one that is not.

    x' = v,    v' = -stiffness x - damping v + a cos(omega t) + NN(x),    x(0) = v(0) = 0,    t in (0, 15) s

x (m) is the deflection of a structure, per unit of its mass; it is shaken by a known force. Known are stiffness = 1 /s2, damping =
0.2 /s, a = 1 m/s2, omega = 1.2 /s; unknown is a hardening force, of which the truth is -0.4 x^3, learned by a network that begins at
nothing. x and v were seen every 0.5 s with errors of 0.02, and the twin has to say what the structure does under a force that it has
not met, of half the frequency. The numbers were chosen here; the interval grows while it is trained (``nlme.GrowingHorizon``).

Reference: C. Rackauckas, Scientific Machine Learning (talk); C. Rackauckas et al. (2020), arXiv:2001.04385.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from scipy.integrate import solve_ivp

import nlme
from nlme import Scalar
from nlme.models.science import Number, Shown
from nlme.models.science._solving import one_subject
from nlme.plots.style import BLUE, GREY, OBSERVED, VERMILION, new_figure, picture

STIFFNESS, DAMPING, AMPLITUDE, OMEGA, ERROR = 1.0, 0.2, 1.0, 1.2, 0.02
HARDENING = 0.4


class Structure(nlme.Model):
    """A shaken mass on a spring that hardens in a way that is not known."""

    hardening: nlme.MLP = nlme.mlp(inputs=1, outputs=1, width=4, depth=1, key=1)
    omega: Scalar = nlme.positive(OMEGA, unit="1/s")
    sd: Scalar = nlme.positive(0.1)

    def individual(self, eta, cov):
        return dict(omega=self.omega)

    def dynamics(self, ind):
        def rhs(t, s):
            known = -STIFFNESS * s.x - DAMPING * s.v + AMPLITUDE * jnp.cos(ind.omega * t)
            return dict(x=s.v, v=known + self.hardening(s.x)[0])

        return nlme.ODE(rhs, ("x", "v"))

    def observe(self, ind, state, t):
        return dict(x=nlme.additive(state.x, self.sd), v=nlme.additive(state.v, self.sd))


def exact(times, omega: float = OMEGA, hardening: float = HARDENING) -> np.ndarray:
    """(2, T) what the structure does."""

    def slopes(t, s):
        return [s[1], -STIFFNESS * s[0] - DAMPING * s[1] + AMPLITUDE * np.cos(omega * t) - hardening * s[0] ** 3]

    return solve_ivp(slopes, (0.0, times[-1]), [0.0, 0.0], t_eval=times, rtol=1e-9, atol=1e-9).y


def run(fast: bool = False) -> Shown:
    """The twin trained, its force, and its forecast under another shaking (``fast``: from 8 s of data)."""
    times = np.arange(1, 17 if fast else 31) / 2
    seen = exact(times) + ERROR * np.random.default_rng(1).normal(size=(2, len(times)))
    fit = nlme.fit(
        Structure(), one_subject(times, dict(zip("xv", seen, strict=True))), nlme.NaivePooled(), fixed=("omega",),
        penalty=nlme.L2(0.1), shooting=nlme.GrowingHorizon(4), starts=0, max_evaluations=200, progress=False,
    )  # fmt: skip
    places = np.linspace(0.9 * seen[0].min(), 0.9 * seen[0].max(), 31)
    force = np.asarray(jax.vmap(lambda x: fit.model.hardening(x)[0])(jnp.asarray(places)))
    worst = float(np.abs(force + HARDENING * places**3).max())
    later = np.arange(1, 121) / 4
    foreseen = nlme.predict(
        Structure(hardening=fit.model.hardening, omega=OMEGA / 2), one_subject(later, dict.fromkeys("xv", later))
    )
    foreseen = foreseen[foreseen["EVID"] == 0]["x"].to_numpy()[::2]
    true, without = exact(later, OMEGA / 2)[0], exact(later, OMEGA / 2, 0.0)[0]
    miss, plain = (float(np.sqrt(np.mean((x - true) ** 2)) / true.std()) for x in (foreseen, without))
    numbers = (
        Number("hardening force where it was seen: largest error (m/s2)", 0.0, worst, 0.0, 0.1, "-0.4 x^3"),
        Number("forecast at half the frequency, 30 s: error in units of its spread", 0.0, miss, 0.0, 0.1, "the structure"),
    )
    remarks = (f"Without the learned force the same forecast is off by {plain:.2f} of the spread.",)
    return Shown(
        "A digital twin of a structure", numbers, _drawn(times, seen, places, force, later, true, foreseen, without), remarks
    )


@picture
def _drawn(times, seen, places, force, later, true, foreseen, without):
    figure = new_figure(3.0)
    left, right = figure.subplots(1, 2)
    left.plot(places, -HARDENING * places**3, color=GREY, linewidth=4, alpha=0.5, label="-0.4 x^3")
    left.plot(places, force, color=VERMILION, label="learned")
    left.set(xlabel="Deflection, x (m)", ylabel="Hardening force (m/s2)")
    right.plot(later, true, color=GREY, linewidth=4, alpha=0.5, label="structure, half the frequency")
    right.plot(later, foreseen, color=VERMILION, label="twin")
    right.plot(later, without, color=BLUE, linewidth=0.8, linestyle="--", label="without the learned force")
    right.plot(times, seen[0], **OBSERVED, label="trained on")
    right.set(xlabel="Time (s)", ylabel="Deflection, x (m)", ylim=(-2.4, 6.5))
    for axes in (left, right):
        axes.legend()
    return figure
