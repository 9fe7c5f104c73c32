"""ODE solvers: against diffrax at equal measured error, the cost of derivatives, stiff systems, scaling in subjects.

Two compartments with oral absorption as equations, one dose, 20 observations; every subject has parameters of its own.  Both
libraries are timed over a range of tolerances, and their times are read off at one measured error (root mean square over all
states and subjects, against this library at 1e-12), or at the largest error there is where all are smaller: as it stands the
library finds these equations linear, and by their matrix exponential the tolerance does not matter.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import equinox as eqx
import numpy as np

from nlme.dynamics.propagate import propagate
from nlme.jets.sparse import Occupied
from nlme.language.ragged import over_subjects

_TIMES = [0.25, 0.5, 0.75, 1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 30, 36, 48]
_TYPICAL = np.array([1.1, 3.5, 20.0, 4.0, 40.0])  # ka, cl, v1, q, v2
_FAST = 3e4  # per hour: a reversible binding that makes the system stiff
_ERROR = 1e-6


def run():
    for count in (100, 1_000, 10_000):
        for solver in (None, "explicit"):
            yield from _against_diffrax(count, solver, stiff=False)
    for solver in (None, "explicit"):
        yield from _derivatives(1_000, solver)
    yield from _against_diffrax(200, "stiff", stiff=True)
    yield from _choices(1_000)
    yield from _scaling()


def _parameters(count: int):
    return _TYPICAL * np.exp(0.3 * np.random.default_rng(1).standard_normal((count, 5)))


def _rates(p, a, stiff: bool):
    """d/dt of depot, central, peripheral and, when stiff, of what is bound to 100 sites in fast equilibrium."""
    ka, cl, v1, q, v2 = p
    depot, central, peripheral = a[:3]
    c = central / v1
    exchange = q * (c - peripheral / v2)
    slopes = [-ka * depot, ka * depot - cl * c - exchange, exchange]
    if stiff:
        binding = _FAST * (0.01 * central * (1.0 - 0.01 * a[3]) - 0.05 * a[3])
        slopes = [slopes[0], slopes[1] - binding, slopes[2], binding]
    return slopes


def _ours(count: int, tolerances, stiff: bool = False, order: int = 0):
    """The states of ``count`` subjects as a function of their parameters, as the library would work them off: in chunks, by threads."""
    import jax.numpy as jnp

    import nlme
    from nlme.jets.jet import Columns
    from nlme.language.layout import lay_out
    from nlme.language.ragged import threaded

    names = ("ka", "cl", "v1", "q", "v2")
    n = len(_TIMES)
    columns = {"time": [0.0, *_TIMES], "evid": [1] + [0] * n, "amt": [100.0] + [0.0] * n, "cmt": [1] * (n + 1)}
    subjects = (nlme.Subject(id=i, **columns, dv=[np.nan] + [1.0] * n) for i in range(1, count + 1))

    class Model(nlme.Model):
        omega: nlme.Covariance = nlme.covariance(**dict.fromkeys(names, 0.1))
        sd: nlme.Scalar = nlme.positive(1.0)

        def individual(self, eta, cov):
            return {name: jnp.exp(eta[name]) for name in names}

        def dynamics(self, ind):
            return _structure([ind[name] for name in names], stiff)

        def observe(self, ind, state, t):
            return {"y": nlme.additive(state.central, self.sd)}

    layout = lay_out(Model(), nlme.Population(tuple(subjects)), samples="observations" if order else "records")
    columns = Columns.of_order(order, 5)
    return lambda p: threaded(_solved, layout.arrays, p, columns, tolerances, stiff)


def _structure(p, stiff: bool):
    import nlme

    states = ("depot", "central", "peripheral") + ("bound",) * stiff

    def rhs(t, a):
        return dict(zip(states, _rates(p, [a[s] for s in states], stiff), strict=True))

    return nlme.ODE(rhs, states)


@eqx.filter_jit
def _solved(arrays, p, columns, tolerances, stiff: bool):
    def of_subject(data, p):
        def structure(z, row, t=None):
            return _structure(z, stiff)

        own = [Occupied((k,) if columns.directions else ()) for k in range(len(_TYPICAL))]
        jet, _ = propagate(structure, columns.seed(p, p), columns, data.timeline, tolerances, occupied=own)
        return jet, ()

    return over_subjects(of_subject, arrays, p)[0]


def _diffrax(tolerance: float, stiff: bool = False):
    import diffrax
    import jax
    import jax.numpy as jnp

    names = ("depot", "central", "peripheral") + ("bound",) * stiff
    solver = diffrax.Kvaerno5() if stiff else diffrax.Tsit5()

    def rates(t, a, p):
        return dict(zip(names, _rates(p, [a[s] for s in names], stiff), strict=True))

    def of_subject(p):
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(rates),
            solver,
            0.0,
            _TIMES[-1],
            None,
            {s: jnp.asarray(100.0 if s == "depot" else 0.0) for s in names},
            p,
            saveat=diffrax.SaveAt(ts=jnp.asarray(_TIMES, float)),
            stepsize_controller=diffrax.PIDController(rtol=tolerance, atol=tolerance),
            max_steps=100_000,
        )
        return jnp.stack([solution.ys[s] for s in names], axis=-1)

    return jax.jit(jax.vmap(of_subject))


def _timed(function, p, calls: int = 5):
    """Seconds that the first call takes longer than the quickest later one, those of the latter, and the result."""
    ((compilation, seconds, out),) = _in_turns([function], p, calls)
    return compilation, seconds, out


def _in_turns(functions, p, calls: int, seconds: float = 0.0):
    """The same of several functions, which are called by turns at least ``calls`` times and for so many seconds."""
    import jax

    def call(function):
        begin = time.perf_counter()
        out = jax.block_until_ready(function(p))
        return time.perf_counter() - begin, out

    first = [call(function)[0] for function in functions]
    begin, rounds = time.perf_counter(), []
    while len(rounds) < calls or time.perf_counter() - begin < seconds:
        rounds.append([call(function)[0] for function in functions])
    quickest = np.min(rounds, axis=0)
    return [(f - q, q, call(function)[1]) for f, q, function in zip(first, quickest, functions, strict=True)]


def _at_error(makers, reference, p):
    """Compilation time, and the time of a call at the measured error ``_ERROR``, between two tolerances on logarithmic scales.

    ``makers``: one for each library, all of whose solves are called by turns
    """
    tolerances = (1e-4, 1e-5, 1e-6, 1e-7)
    points = _in_turns([make(tolerance) for make in makers for tolerance in tolerances], p, calls=5, seconds=3.0)
    found = []
    for k in range(len(makers)):
        own = points[k * len(tolerances) : (k + 1) * len(tolerances)]
        own = [(np.sqrt(np.mean(np.square(np.asarray(states) - reference))), seconds, first) for first, seconds, states in own]
        error, seconds, compilation = np.array(sorted(own)).T
        found.append((np.median(compilation), np.exp(np.interp(np.log(_ERROR), np.log(error), np.log(seconds)))))
    return found


_WAYS = {None: "", "explicit": ", by steps", "stiff": ", stiff binding"}


def _against_diffrax(count: int, solver: str | None, stiff: bool):
    import jax

    import nlme

    # both libraries start from an empty compilation cache
    jax.config.update("jax_enable_compilation_cache", False)
    p = _parameters(count)

    def ours(tolerance, solver=solver):
        solve = _ours(count, nlme.Tolerances(tolerance, tolerance, solver=solver), stiff)
        return lambda p: solve(p).value[:, 1:]  # the dose's record comes first

    reference = np.asarray(ours(1e-12, "stiff" if stiff else "explicit8")(p))
    makers = ours, lambda tolerance: _diffrax(tolerance, stiff)
    (compiled, seconds), (compiled_theirs, theirs) = _at_error(makers, reference, p)
    what = f"{count:,} subjects{_WAYS[solver]}"
    name = "Kvaerno5" if stiff else "Tsit5"
    yield f"{what}: solve at error {_ERROR:g}", f"{1e3 * seconds:.2f} ms", f"{theirs / seconds:.1f} times as fast as {name}"
    yield f"{what}: compilation", f"{compiled:.2f} s", f"{compiled / compiled_theirs:.2f} of diffrax's"


def _derivatives(count: int, solver: str | None):
    import nlme

    p = _parameters(count)
    one = None
    for order in (0, 1, 2):
        compiled, seconds, jet = _timed(_ours(count, nlme.Tolerances(1e-6, 1e-6, solver=solver), order=order), p)
        one = one or seconds
        columns = 1 + sum(0 if part is None else part.shape[1] for part in jet[1:])
        note = f"{seconds / one:.0f} primal solves, {columns} columns; compilation {compiled:.1f} s"
        yield f"{count:,} subjects{_WAYS[solver]}: derivatives to order {order} in 5 directions", f"{1e3 * seconds:.1f} ms", note


def _choices(count: int):
    import nlme

    p = _parameters(count)
    for tolerance in (1e-6, 1e-9, 1e-12):
        for solver in ("explicit", "explicit8", "stiff", "auto"):
            compiled, seconds, _ = _timed(_ours(count, nlme.Tolerances(tolerance, tolerance, solver=solver)), p)
            yield (
                f"{count:,} subjects, not stiff, {tolerance:g}: {solver}",
                f"{1e3 * seconds:.1f} ms",
                f"compilation {compiled:.1f} s",
            )
    for solver in ("stiff", "auto"):
        _, seconds, _ = _timed(_ours(20, nlme.Tolerances(1e-6, 1e-6, 10**6, solver), stiff=True), p[:20], calls=1)
        yield f"20 subjects, stiff, 1e-06: {solver}", f"{1e3 * seconds:.1f} ms", ""


def _scaling():
    """Time per subject, with all cores and with one; the latter in a process of its own, which has to keep to that core."""
    yield from _per_subject("all cores")
    if hasattr(os, "sched_setaffinity"):
        program = (
            "import json, os, runpy; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
            f"print(json.dumps(list(runpy.run_path({__file__!r})['_per_subject']('one core'))))"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        yield from json.loads(done.stdout.splitlines()[-1])


def _per_subject(where: str):
    import nlme

    for solver in (None, "explicit"):
        for count in (100, 1_000, 10_000, 100_000):
            calls = max(5, 20_000 // count)
            _, seconds, _ = _timed(_ours(count, nlme.Tolerances(1e-6, 1e-6, solver=solver)), _parameters(count), calls)
            yield f"{count:,} subjects{_WAYS[solver]}, at 1e-6, {where}", f"{1e6 * seconds / count:.2f} us", "per subject"
