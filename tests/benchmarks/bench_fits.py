"""Whole fits: a small trial from a cold process, and 1,200 subjects.

Cold processes are started anew with an empty compilation cache, then with the one the first has filled.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time

import numpy as np

_SCRIPT = """
import sys, time; start = time.perf_counter()
import nlme
from nlme import datasets
from nlme.models.theophylline import Theophylline
population = datasets.load("theophylline")
method = getattr(nlme, sys.argv[1])()
fit = nlme.fit(Theophylline(), population, method, progress=False)
first = time.perf_counter() - start
again = []
for _ in range(5):
    begin = time.perf_counter()
    nlme.fit(Theophylline(), population, method, progress=False)
    again.append(time.perf_counter() - begin)
print(first, min(again), fit.objective)
"""


def run():
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"NLME_CACHE": cache}
        cold = _process(environment, "FOCEI")
        warm = _process(environment, "FOCEI")
    with tempfile.TemporaryDirectory() as cache:
        sampled = _process(os.environ | {"NLME_CACHE": cache}, "SAEM")
    yield "theophylline FOCEI, cold process, empty compilation cache", f"{cold[0]:.2f} s", "target 8 s"
    yield "theophylline FOCEI, cold process, filled compilation cache", f"{warm[0]:.2f} s", "target 4 s"
    yield "theophylline FOCEI, fit after compilation", f"{warm[1]:.3f} s", "target 0.2 s"
    yield "theophylline SAEM, cold process, empty compilation cache", f"{sampled[0]:.2f} s", "target 10 s"
    yield "theophylline SAEM, fit after compilation", f"{sampled[1]:.2f} s", "target 2 s"
    yield from _many_subjects(1200)
    yield from _michaelis_menten(1000)
    yield from _two_compartments(1000)


def _process(environment, method: str) -> list[float]:
    out = subprocess.run([sys.executable, "-c", _SCRIPT, method], env=environment, capture_output=True, text=True, check=True)
    return [float(x) for x in out.stdout.split()]


def _many_subjects(count: int):
    import nlme
    from nlme.models.theophylline import Theophylline

    model = Theophylline()
    population = _drawn(model, count)
    yield from _calls(model, population, f"FOCEI, {count} subjects, one compartment oral", "20 ms")
    nlme.fit(model, population, nlme.FOCEI(), progress=False)
    begin = time.perf_counter()
    fit = nlme.fit(model, population, nlme.FOCEI(), progress=False)
    yield (
        f"FOCEI, {count} subjects, whole fit",
        f"{time.perf_counter() - begin:.2f} s",
        f"target 3 s; {len(fit.history)} iterations",
    )


def _michaelis_menten(count: int):
    import jax.numpy as jnp

    import nlme

    class Saturable(nlme.Model):
        vmax: nlme.Scalar = nlme.positive(30.0)
        km: nlme.Scalar = nlme.positive(5.0)
        v: nlme.Scalar = nlme.positive(30.0)
        omega: nlme.Covariance = nlme.covariance(vmax=0.1, v=0.05)
        prop: nlme.Scalar = nlme.positive(0.15)

        def individual(self, eta, cov):
            return dict(vmax=self.vmax * jnp.exp(eta.vmax), km=self.km, v=self.v * jnp.exp(eta.v))

        def dynamics(self, ind):
            def rhs(t, a):
                c = a.central / ind.v
                return {"central": -ind.vmax * c / (ind.km + c)}

            return nlme.ODE(rhs, ("central",))

        def observe(self, ind, state, t):
            return {"conc": nlme.proportional(state.central / ind.v, self.prop)}

    model = Saturable()
    yield from _calls(model, _drawn(model, count), f"FOCEI, {count} subjects, Michaelis-Menten by ODE", "0.3 s")


def _two_compartments(count: int):
    from one_dose import AWAY, TIMES, drawn, two_compartments

    import nlme

    model = two_compartments(equations=True)
    population, away = drawn(model(), count, TIMES), model(**AWAY)
    begin = time.perf_counter()
    fit = nlme.fit(away, population, nlme.FOCEI(), progress=False)
    title = f"FOCEI, {count} subjects, two-compartment oral ODE, 5 random effects"
    yield (
        f"{title}: first fit",
        f"{time.perf_counter() - begin:.1f} s",
        f"target 60 s, compilation in it; {len(fit.history)} iterations",
    )
    begin = time.perf_counter()
    fit.covariance  # noqa: B018
    yield f"{title}: its covariance", f"{time.perf_counter() - begin:.1f} s", ""


def _drawn(model, count: int):
    from one_dose import drawn

    return drawn(model, count, (0.25, 0.5, 1, 2, 3, 4, 6, 8, 12, 18, 24))


def _calls(model, population, title: str, target: str):
    """Value and gradient of the objective: the first call and the best of the later ones, at moving parameters."""
    import jax

    import nlme
    from nlme.language.layout import lay_out
    from nlme.marginal.objective import evaluate_subjects
    from nlme.parameters.inventory import Inventory

    layout, inventory = lay_out(model, population), Inventory(model)
    u = inventory.unconstrained(model)

    def call(shift, starts, second_order=None):
        begin = time.perf_counter()
        at = jax.block_until_ready(
            evaluate_subjects(
                nlme.FOCEI(), layout.anatomy, inventory, model, layout.arrays, u + shift, starts, second_order=second_order
            )
        )
        return time.perf_counter() - begin, at

    first, at = call(0.0, np.zeros((len(population), len(layout.anatomy.effects))))
    yield f"{title}, value and gradient: first call", f"{first:.2f} s", "with compilation"
    later = min(call(0.01 * k, at.followed(np.full(len(u), 0.01 * k)), at.second_order)[0] for k in range(1, 8))
    yield f"{title}, value and gradient: later calls", f"{1e3 * later:.1f} ms", f"target {target}"
