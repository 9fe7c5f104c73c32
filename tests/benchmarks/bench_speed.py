"""Simulation, models with many endpoints, first-order fits: CPU seconds of what a new user tries first.

Each is given beside what it is to be measured against: the same for a tenth of the subjects or replicates, one endpoint, the same
doses without a steady state.  Compilations are from an empty cache.
"""

from __future__ import annotations

import time

import numpy as np

TIMES = (0.25, 0.5, 1, 2, 3, 4, 6, 8, 12, 18, 24)


def run():
    import jax

    jax.config.update("jax_enable_compilation_cache", False)
    yield from _simulation()
    yield from _endpoints()
    yield from _first_order()


def _cpu(call) -> float:
    begin = time.process_time()
    call()
    return time.process_time() - begin


def _simulation():
    from one_dose import population

    import nlme
    from nlme.models.theophylline import Theophylline

    model = Theophylline()

    def seconds(subjects: int, replicates: int) -> float:
        data = population(subjects, TIMES)

        def call():
            nlme.simulate(model, data, key=1, eta="new", replicates=replicates)

        call()
        return min(_cpu(call) for _ in range(3))

    few, many = seconds(100, 1), seconds(1000, 1)
    yield "simulate, 1,000 subjects, after compilation", f"{many:.2f} s", f"target 0.5 s; {many / few:.1f} times 100 subjects"
    few, many = seconds(32, 100), seconds(32, 1000)
    yield "simulate, 1,000 replicates of 32 subjects", f"{many:.2f} s", f"target 2 s; {many / few:.1f} times 100 replicates"


def _endpoints():
    import jax.numpy as jnp

    import nlme

    def evaluation(count: int) -> float:
        class Several(nlme.Model):
            cl: nlme.Scalar = nlme.positive(3.0)
            v: nlme.Scalar = nlme.positive(30.0)
            omega: nlme.Covariance = nlme.covariance(cl=0.1, v=0.05)
            prop: nlme.Scalar = nlme.positive(0.15)

            def individual(self, eta, cov):
                return dict(cl=self.cl * jnp.exp(eta.cl), v=self.v * jnp.exp(eta.v))

            def dynamics(self, ind):
                return nlme.pk.OneCompartment(cl=ind.cl, v=ind.v)

            def observe(self, ind, state, t):
                return {f"y{k}": nlme.proportional((1 + k) * state.central / ind.v, self.prop) for k in range(count)}

        time, endpoint = np.tile([1.0, 4.0, 8.0], count), np.repeat(np.arange(count), 3)
        order = np.argsort(time, kind="stable")
        n = 3 * count
        one = dict(time=np.r_[0.0, time[order]], evid=[1] + [0] * n, amt=[100.0] + [0.0] * n, cmt=[1] * (n + 1))
        one |= dict(
            endpoint=np.r_[-1, endpoint[order]], dv=np.r_[np.nan, (1 + endpoint[order]) * 3.0 * np.exp(-0.1 * time[order])]
        )
        names = tuple(f"y{k}" for k in range(count))
        data = nlme.Population(tuple(nlme.Subject(id=i, **one) for i in range(1, 9)), names, {})
        return _cpu(lambda: nlme.evaluate(Several(), data))

    one = evaluation(1)
    for count in (2, 6, 19):
        own = evaluation(count)
        yield f"first evaluation by FOCEI, {count} endpoints", f"{own:.1f} s", f"{own / one:.1f} times one endpoint"


def _first_order():
    import jax.numpy as jnp
    from one_dose import drawn

    import nlme

    def oral():
        class Oral(nlme.Model):
            cl: nlme.Scalar = nlme.positive(3.0)
            v: nlme.Scalar = nlme.positive(30.0)
            ka: nlme.Scalar = nlme.positive(1.0)
            omega: nlme.Covariance = nlme.covariance(cl=0.1, v=0.05, ka=0.1)
            prop: nlme.Scalar = nlme.positive(0.15)

            def individual(self, eta, cov):
                return {name: getattr(self, name) * jnp.exp(eta[name]) for name in ("cl", "v", "ka")}

            def dynamics(self, ind):
                return nlme.pk.OneCompartmentOral(cl=ind.cl, v=ind.v, ka=ind.ka)

            def observe(self, ind, state, t):
                return {"conc": nlme.proportional(state.central / ind.v, self.prop)}

        return Oral()

    single = drawn(oral(), 24, TIMES)
    steady = single.with_doses(nlme.dose(320, into="depot", ss=True).every(12, 1))
    seconds = {}
    for words, data in (("one dose", single), ("steady state", steady)):
        model, found = oral(), []
        seconds[words] = _cpu(
            lambda model=model, data=data, found=found: found.append(nlme.fit(model, data, nlme.FO(), progress=False))
        )
        after = _cpu(lambda found=found: found[0].eta)
        note = f"{seconds[words] / seconds['one dose']:.1f} times one dose; post hoc effects, when asked for, {after:.1f} s more"
        yield f"first fit by FO, {words}", f"{seconds[words]:.1f} s", note
