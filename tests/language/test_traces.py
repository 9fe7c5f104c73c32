"""How often a model's own functions run: once for all endpoints, replicates and starts, not once for each."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import nlme
from nlme.jets.dependence import Outputs

TIMES = (1.0, 4.0, 8.0)


def observing(endpoints: int, kinds=(nlme.proportional,)):
    """A model that counts how often it is asked what it observes, and its class's counter."""
    counted = []

    class Observing(nlme.Model):
        cl: nlme.Scalar = nlme.positive(3.0)
        v: nlme.Scalar = nlme.positive(30.0)
        omega: nlme.Covariance = nlme.covariance(cl=0.1)
        sd: nlme.Scalar = nlme.positive(0.2)

        def individual(self, eta, cov):
            return dict(cl=self.cl * jnp.exp(eta.cl), v=self.v)

        def dynamics(self, ind):
            return nlme.pk.OneCompartment(cl=ind.cl, v=ind.v)

        def observe(self, ind, state, t):
            counted.append(t)
            f = state.central / ind.v
            return {f"y{k}": kinds[k % len(kinds)]((1 + k) * f, self.sd) for k in range(endpoints)}

    return Observing(), counted


def population(endpoints: int, subjects: int = 4):
    random = np.random.default_rng(0)
    rows = [(i, 0.0, 100.0, 1, 1, np.nan) for i in range(1, subjects + 1)]
    for i in range(1, subjects + 1):
        for k in range(endpoints):  # with other times each
            values = (1 + k) * 3.0 * np.exp(-0.1 * np.array(TIMES) + 0.2 * random.normal(size=3))
            rows += [(i, t, 0.0, 0, 1 + k, y) for t, y in zip(TIMES[: 1 + k % 3], values, strict=False)]
    table = pd.DataFrame(rows, columns=["ID", "TIME", "AMT", "EVID", "DVID", "DV"]).sort_values(["ID", "TIME"], kind="stable")
    return nlme.read_nonmem(table, dvid={1 + k: f"y{k}" for k in range(endpoints)})


def calls(endpoints: int, method) -> tuple[int, int, int]:
    """Traces of an evaluation, of its predictions, and of a simulation."""
    model, counted = observing(endpoints)
    ends = []
    at = nlme.evaluate(model, population(endpoints), method)
    ends.append(len(counted))
    assert np.isfinite(at.predictions["CWRES"]).all()
    ends.append(len(counted))
    nlme.simulate(at, key=1, replicates=3)
    ends.append(len(counted))
    return tuple(np.diff([0, *ends]).tolist())


@pytest.mark.slow
@pytest.mark.parametrize("method", [nlme.NaivePooled(), pytest.param(nlme.FOCEI(), marks=pytest.mark.slow)], ids=repr)
def test_endpoints_are_traced_together(method):
    assert calls(1, method) == calls(4, method)


@pytest.mark.slow
def test_replicates_are_traced_together():
    model, counted = observing(2)
    data = population(2)
    nlme.simulate(model, data, key=1, eta="new", replicates=2)
    first = len(counted)
    found = nlme.simulate(model, data, key=2, eta="new", replicates=1000)
    assert len(counted) - first <= first and found["REPLICATE"].nunique() == 1000
    again = len(counted)
    nlme.simulate(model, data, key=3, eta="new", replicates=1000)
    assert len(counted) - again < 10  # what the model is made of is looked at, and nothing is compiled


@pytest.mark.slow
def test_a_program_in_common_gives_what_each_endpoint_gives_alone():
    """Endpoints of different kinds, with spans of different length: the objective is the sum over models of one endpoint each.

    (Exact without random effects: the endpoints are independent.)
    """
    kinds = (
        nlme.proportional,
        nlme.lognormal,
        nlme.additive,
        lambda f, sd: nlme.loglik(lambda y: -jnp.abs(y - f) / sd, prediction=f),
    )
    model, _ = observing(4, kinds)
    data, names = population(4), ["y0", "y1", "y2", "y3"]
    whole = nlme.evaluate(model, data, nlme.NaivePooled())
    apart = 0.0
    for k, name in enumerate(names):
        own = data.to_frame()
        own = own[(own["EVID"] == 1) | (own["DVID"] == 1 + k)].assign(DVID=1)

        class One(type(model)):
            def observe(self, ind, state, t, name=name):
                return {name: super().observe(ind, state, t)[name]}

        apart += nlme.evaluate(One(), nlme.read_nonmem(own, dvid={1: name}), nlme.NaivePooled()).objective
    assert whole.objective == pytest.approx(apart, rel=1e-12)


def test_one_output_is_computed_without_the_others():
    seen = Outputs(lambda a, b: [jnp.sin(a), {"x": jnp.cos(b), "y": b}], 1.0, 2.0)
    assert float(seen.alone(0)(1.0, np.nan)) == pytest.approx(np.sin(1.0))
    assert {name: float(x) for name, x in seen.alone(1)(np.nan, 2.0).items()} == pytest.approx({"x": np.cos(2.0), "y": 2.0})


def test_starts_of_any_number_are_one_program():
    from nlme.language.layout import lay_out
    from nlme.parameters.inventory import Inventory
    from nlme.search.problem import Problem
    from nlme.search.starts import Typical

    model, counted = observing(1)
    problem = Problem(nlme.FO(), model, lay_out(model, population(1)), Inventory(model))
    typical = Typical(problem, [problem.start], seed=0)
    before = len(counted)
    many = typical.pooled(problem.start + 0.1 * np.random.default_rng(1).normal(size=(40, len(problem.start))))
    few = typical.pooled(np.stack([problem.start] * 3))
    assert len(counted) == before and many.value.shape == (40,)
    np.testing.assert_array_equal(few.value, np.full(3, typical.pooled(problem.start[None]).value[0]))
