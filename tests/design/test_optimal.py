"""Optimal sampling times: known optima, the criterion against the model itself, windows, rounding."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

import nlme
from nlme import Scalar
from nlme.design.criterion import criterion_of
from nlme.errors import DataError

K, TAU = 0.25, 6.0


class Decay(nlme.Model):
    """A bolus of 100 in one compartment, written out; subjects are alike."""

    k: Scalar = nlme.positive(K, unit="1/h")
    v: Scalar = nlme.positive(10.0, unit="L")
    omega: nlme.Covariance = nlme.covariance(k=0.0)
    sd: Scalar = nlme.positive(0.2, unit="mg/L")

    def individual(self, eta, cov):
        return dict(k=self.k * jnp.exp(eta.k), v=self.v)

    def observe(self, ind, state, t):
        return {"conc": nlme.additive(100 / ind.v * jnp.exp(-ind.k * t), self.sd)}


class Varying(Decay):
    omega: nlme.Covariance = nlme.covariance(k=0.1)


class Repeated(Varying):
    """The same under the doses of the design."""

    def dynamics(self, ind):
        return nlme.pk.OneCompartment(cl=ind.k * ind.v, v=ind.v)

    def observe(self, ind, state, t):
        return {"conc": nlme.additive(state.central / ind.v, self.sd)}


REGIMEN = nlme.dose(100).every(TAU, n=3)


@pytest.mark.slow
def test_two_samples_of_an_exponential():
    """For A exp(-k t) with an additive error they are at 0 and at 1/k (Atkinson, Donev & Tobias 2007, ch. 17)."""
    found = nlme.optimal_design(Decay(), nlme.Group(20, [1.0, 2.0]), (0, 20), starts=3)
    assert found.design.groups[0].times[""] == pytest.approx([0.0, 1 / K], abs=2e-3)
    assert found.information.names == ["k", "v", "sd"] and found.efficiency > 1
    late = nlme.optimal_design(Decay(), nlme.Group(20, [1.0, 2.0]), [(0.5, 1), (2, 3)], starts=2)
    assert late.design.groups[0].times[""] == pytest.approx([0.5, 3.0], abs=1e-6)


def test_times_do_not_depend_on_their_unit():
    """In seconds as in hours, from one start; log det M shifts by a constant."""
    times, efficiencies = [], []
    for unit in (1.0, 3600.0, 1e-3):
        begin = nlme.Group(20, [1.0 * unit, 2.0 * unit])
        found = nlme.optimal_design(Decay(k=K / unit), begin, (0.1 * unit, 20 * unit), starts=1, apart=0.5 * unit)
        times.append(np.array(found.design.groups[0].times[""]) / unit)
        efficiencies.append(found.efficiency)
    np.testing.assert_allclose(times, [times[0]] * 3, rtol=1e-4)
    np.testing.assert_allclose(efficiencies, [efficiencies[0]] * 3, rtol=1e-5)
    assert efficiencies[0] > 1.01


@pytest.fixture(scope="module")
def criterion():
    """Two groups under three doses, with windows across these."""
    design = nlme.Design([nlme.Group(20, [1.0, 4.0, 9.0, 15.0], REGIMEN), nlme.Group(10, [2.0, 5.0, 7.0, 17.0], REGIMEN)])
    first = nlme.information(Repeated(), design)
    scale = np.sqrt(np.diagonal(first.values))
    return design, scale, criterion_of(Repeated(), design, [{"": (0.0, 18.0)}] * 2, first.asked, "reduced", scale)


def test_the_criterion_is_that_of_the_model_and_so_is_its_slope(criterion):
    design, scale, found = criterion
    random = np.random.default_rng(5)

    def exact(times):
        there = design.with_times([{"": times[:4]}, {"": times[4:]}])
        return (nlme.information(Repeated(), there).log_det - 2 * np.log(scale).sum()) / len(scale)

    for _ in range(3):
        times = np.concatenate([np.sort(random.uniform(0.1, 17.9, 4)) for _ in range(2)])
        times = times + 0.01 * (np.abs(times % TAU) < 0.01)
        value, slope = found.value_and_slope(times)
        assert value == pytest.approx(exact(times), abs=1e-6)
        k, step = int(random.integers(8)), 1e-4
        moved = step * (np.arange(8) == k)
        assert slope[k] == pytest.approx((exact(times + moved) - exact(times - moved)) / (2 * step), rel=1e-3, abs=1e-5)


def test_a_sample_just_before_a_dose_is_before_it(criterion):
    _, _, found = criterion
    times = np.array([1.0, 4.0, 9.0, 15.0, 2.0, 5.0, 7.0, 17.0])
    at, before, after = (found.value(np.r_[1.0, t, times[2:]]) for t in (TAU, TAU - 1e-5, TAU + 1e-5))
    assert at == pytest.approx(after, abs=1e-4) and abs(at - before) > 1e-3


@pytest.mark.slow
def test_windows_rounding_and_distance():
    group = nlme.Group(20, [1.0, 3.0, 4.0], name="rich")
    design = nlme.Design([group, nlme.Group(10, [2.0, 12.0], name="sparse")])
    found = nlme.optimal_design(Varying(), design, {"rich": (0.3, 10)}, apart=1.0, round_to=0.5, starts=3)
    rich, sparse = (np.array(g.times[""]) for g in found.design.groups)
    assert sparse.tolist() == [2.0, 12.0]
    assert np.all((rich >= 0.5) & (rich <= 10)) and np.allclose(rich % 0.5, 0) and np.all(np.diff(rich) >= 1.0)
    assert 0.9 < found.rounding <= 1.0 + 1e-9 and found.efficiency > 1
    assert found.efficiency == pytest.approx(found.information.efficiency(found.initial))
    assert found.error < 1e-6 and not any("splines" in line for line in found.messages)
    assert "rich" in repr(found) and "D-efficiency" in repr(found) and len(found.to_csv().splitlines()) == 6
    allowed = nlme.optimal_design(Varying(), design, {"rich": (0.3, 10)}, round_to=[1, 5, 9], starts=2)
    assert set(allowed.design.groups[0].times[""]) <= {1.0, 5.0, 9.0}


@pytest.mark.slow
def test_the_same_key_gives_the_same_design():
    group = nlme.Group(20, [1.0, 2.0])
    one, two = (nlme.optimal_design(Decay(), group, (0, 20), starts=2, key=4) for _ in range(2))
    assert one.design.groups[0].times == two.design.groups[0].times and one.criteria == two.criteria


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(windows=(5, 1)), "from, to"),
        (dict(windows=[(0, 1)]), "each of its 2 samples"),
        (dict(windows="all"), "from, to"),
        (dict(windows={"b": (0, 1)}), "'b'"),
        (dict(windows=(0, 1), apart=2.0), "too narrow"),
        (dict(windows=(0, 1), apart=-1.0), "apart"),
        (dict(windows=(0.1, 0.2), round_to=0.5), "no such time"),
        (dict(windows=(0, 1), round_to=0.0), "round_to"),
        (dict(windows=(0, 1), starts=0), "starts"),
    ],
)
def test_refusals(options, words):
    with pytest.raises(DataError, match=words):
        nlme.optimal_design(Decay(), nlme.Group(20, [0.5, 1.0]), **options)
