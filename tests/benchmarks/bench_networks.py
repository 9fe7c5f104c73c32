"""A network in the equations, pooled: objective and gradient in all weights, beside diffrax and its adjoint at the same tolerances.

50 subjects after a bolus, ten observations each, two hidden layers.  Both compute the same sum of squares; ours has the gradient of every
subject, diffrax's that of the sum.
"""

from __future__ import annotations

import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from learned_elimination import Universal

import nlme
from nlme.language.layout import lay_out
from nlme.marginal.objective import evaluate_population
from nlme.parameters.inventory import Inventory

WIDTHS = 5, 21, 70  # 46, 526 and 5,181 weights
DOSES = 60.0 + np.arange(50.0)
TIMES = np.linspace(1.0, 24.0, 10)


def run():
    for width in WIDTHS:
        model = _model(width)
        ours, theirs = _ours(model), _diffrax(model)
        first, later, value = (a / b for a, b in zip(ours, theirs, strict=True))
        note = (
            f"{later:.2f} times diffrax's {1e3 * theirs[1]:.1f} ms, target 1.5; first call {ours[0]:.1f} s, {first:.2f} times, target 2; "
            f"values agree to {abs(value - 1):.0e}"
        )
        yield f"{model.net.size} weights, value and gradient", f"{1e3 * ours[1]:.1f} ms", note


def _model(width: int):
    class Learned(Universal):
        net: nlme.MLP = nlme.mlp(inputs=1, outputs=1, width=width, depth=2, key=6, center=4.0, scale=3.0, initial_scale=1.0)

    return Learned()


def _observed():
    return 8.0 * np.exp(-0.12 * TIMES + 0.2 * np.random.default_rng(2).normal(size=(len(DOSES), len(TIMES))))


def _timed(call):
    """(seconds of the first call, of the best of five later ones, the value)."""
    begin = time.perf_counter()
    value = call()
    first, later = time.perf_counter() - begin, []
    for _ in range(5):
        begin = time.perf_counter()
        call()
        later.append(time.perf_counter() - begin)
    return first, min(later), value


def _ours(model):
    subjects = [
        nlme.Subject(id=i + 1, time=[0.0, *TIMES], evid=[1] + [0] * len(y), amt=[dose] + [0.0] * len(y), dv=[np.nan, *y])
        for i, (dose, y) in enumerate(zip(DOSES, _observed(), strict=True))
    ]
    layout = lay_out(model, nlme.Population(tuple(subjects)))
    inventory = Inventory(layout.model)
    u = np.asarray(inventory.unconstrained(layout.model))

    def call():
        at = evaluate_population(nlme.NaivePooled(), layout, inventory, layout.model, u, np.zeros((len(subjects), 1)))
        return float(np.asarray(at.value).sum() + 0.0 * np.asarray(at.gradient).sum())

    return _timed(call)


def _diffrax(model):
    import diffrax

    tolerances, y = nlme.Tolerances(), jnp.asarray(_observed())
    arrays, rest = eqx.partition(model, eqx.is_inexact_array)

    def total(arrays):
        model = eqx.combine(arrays, rest)

        def of_subject(dose, y):
            def rhs(t, central, args):
                c = central / model.v
                return -model.cl * jnp.exp(model.net(c)[0]) * c

            found = diffrax.diffeqsolve(
                diffrax.ODETerm(rhs),
                diffrax.Dopri5(),
                0.0,
                TIMES[-1],
                None,
                dose,
                saveat=diffrax.SaveAt(ts=jnp.asarray(TIMES)),
                stepsize_controller=diffrax.PIDController(rtol=tolerances.relative, atol=tolerances.absolute),
                adjoint=diffrax.RecursiveCheckpointAdjoint(),
            )
            predicted = found.ys / model.v
            variance = (model.prop * predicted) ** 2
            return jnp.sum((y - predicted) ** 2 / variance + jnp.log(variance))

        return jnp.sum(jax.vmap(of_subject)(jnp.asarray(DOSES), y))

    program = jax.jit(jax.value_and_grad(total))
    return _timed(lambda: float(jax.block_until_ready(program(arrays))[0]))
