"""Responses, target-mediated disposition, metabolites: equations written by hand, laws, limits, scipy's solver, derivatives."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from states import model_of, population_of, states_of

import nlme
from nlme import pd, pk
from nlme.structure.assembly import as_linear

CL, V, KA = 3.0, 20.0, 1.1
ORAL = pk.OneCompartmentOral(cl=CL, v=V, ka=KA)
CENTRAL = pk.OneCompartment(cl=CL, v=V)


def absorbed(a):
    return {"depot": -KA * a["depot"], "central": KA * a["depot"] - CL / V * a["central"]}


def hill(c, most, half, g):
    return most * c**g / (half**g + c**g)


def by_hand_indirect(kind):
    def rates(a):
        e, r = hill(a["central"] / V, 0.9, 2.0, 1.4), a["response"]
        change = {
            "I": 5.0 * (1 - e) - 0.2 * r,
            "II": 5.0 - 0.2 * (1 - e) * r,
            "III": 5.0 * (1 + e) - 0.2 * r,
            "IV": 5.0 - 0.2 * (1 + e) * r,
        }
        return absorbed(a) | {"response": change[kind]}

    return rates


def by_hand_transduction(a):
    e, m = hill(a["central"] / V, 3.0, 2.0, 1.0), [a[f"signal{k}"] for k in (1, 2, 3)]
    return absorbed(a) | {"signal1": (e - m[0]) / 4.0, "signal2": (m[0] - m[1]) / 4.0, "signal3": (m[1] - m[2]) / 4.0}


def by_hand_friberg(a):
    ktr, e, m = 4 / 90.0, 0.3 * a["central"] / V, [a[f"maturing{k}"] for k in (1, 2, 3)]
    return absorbed(a) | {
        "prol": ktr * a["prol"] * (1 - e) * (5.0 / a["circ"]) ** 0.17 - ktr * a["prol"],
        "maturing1": ktr * (a["prol"] - m[0]),
        "maturing2": ktr * (m[0] - m[1]),
        "maturing3": ktr * (m[1] - m[2]),
        "circ": ktr * (m[2] - a["circ"]),
    }


def by_hand_simeoni(a):
    x, c = [a["cycling"], a["damaged1"], a["damaged2"], a["damaged3"]], a["central"] / V
    return absorbed(a) | {
        "cycling": 0.3 * x[0] / (1 + (0.3 / 0.7 * sum(x)) ** 20) ** (1 / 20) - 0.05 * c * x[0],
        "damaged1": 0.05 * c * x[0] - 0.6 * x[1],
        "damaged2": 0.6 * (x[1] - x[2]),
        "damaged3": 0.6 * (x[2] - x[3]),
    }


def by_hand_claret(a):
    return absorbed(a) | {"size": 0.02 * a["size"] - 0.1 * a["central"] / V * np.exp(-0.05 * 3.0) * a["size"]}


def by_hand_effect(a):
    return absorbed(a) | {"effect": 0.4 * (a["central"] / V - a["effect"])}


def by_hand_tmdd(a):
    c, p = a["central"] / V, a["peripheral"] / 30.0
    bound = 0.8 * c * a["receptor"] - 0.05 * a["complex"]
    return {
        "depot": -KA * a["depot"],
        "central": KA * a["depot"] - CL * c - 2.0 * (c - p) - V * bound,
        "peripheral": 2.0 * (c - p),
        "receptor": 1.2 - 0.3 * a["receptor"] - bound,
        "complex": bound - 0.1 * a["complex"],
    }


def by_hand_quasi_steady_state(a):
    total, target = a["central"] / V, a["receptor"]
    free = 0.5 * (total - target - 0.2 + np.sqrt((total - target - 0.2) ** 2 + 4 * 0.2 * total))
    return {
        "central": -CL * free - 0.1 * target * free / (0.2 + free) * V,
        "receptor": 1.2 - 0.3 * target - (0.1 - 0.3) * target * free / (0.2 + free),
    }


def by_hand_michaelis_menten(a):
    c = a["central"] / V
    return {"depot": -KA * a["depot"], "central": KA * a["depot"] - CL * c - 7.0 * c / (1.5 + c)}


def by_hand_metabolite(a):
    made, c, p = 0.4 * 0.7 * CL / V * a["central"], a["metabolite"] / 8.0, a["metabolite_peripheral"] / 5.0
    return absorbed(a) | {"metabolite": made - 2.0 * c - 0.9 * (c - p), "metabolite_peripheral": 0.9 * (c - p)}


EFFECT = pd.emax(0.9, 2.0, 1.4)
STRUCTURES = {
    f"indirect {k}": (pd.indirect_response(ORAL, k, kin=5.0, kout=0.2, effect=EFFECT), by_hand_indirect(k))
    for k in ("I", "II", "III", "IV")
} | {
    "transduction": (pd.transduction(ORAL, pd.emax(3.0, 2.0), tau=4.0), by_hand_transduction),
    "friberg": (pd.friberg(ORAL, pd.proportional(0.3), circ0=5.0, mtt=90.0, gamma=0.17), by_hand_friberg),
    "simeoni": (pd.simeoni(ORAL, lambda0=0.3, lambda1=0.7, k1=0.6, k2=0.05, w0=0.1), by_hand_simeoni),
    "claret": (pd.claret(ORAL, kl=0.02, kd=0.1, decay=0.05, y0=6.0), by_hand_claret),
    "effect compartment": (pd.effect_compartment(ORAL, ke0=0.4), by_hand_effect),
    "effect compartment, equations": (pd.effect_compartment(ORAL, 0.4, lambda a: a.central / V), by_hand_effect),
    "tmdd": (pk.tmdd(CL, V, 0.8, 0.05, 0.1, 1.2, 0.3, q=2.0, v2=30.0, ka=KA), by_hand_tmdd),
    "tmdd, quasi-steady state": (pk.tmdd_quasi_steady_state(CL, V, 0.2, 0.1, 1.2, 0.3), by_hand_quasi_steady_state),
    "tmdd, quasi-equilibrium": (pk.tmdd_quasi_equilibrium(CL, V, 0.2, 0.1, 1.2, 0.3), by_hand_quasi_steady_state),
    "michaelis-menten": (pk.michaelis_menten(V, 7.0, 1.5, cl=CL, ka=KA), by_hand_michaelis_menten),
    "metabolite": (pk.parent_metabolite(ORAL, 0.4, 2.0, 8.0, qm=0.9, vm2=5.0, ratio=0.7), by_hand_metabolite),
}
BASELINES = {
    **{name: {"response": 25.0} for name in STRUCTURES if name.startswith("indirect")},
    "friberg": dict.fromkeys(("prol", "maturing1", "maturing2", "maturing3", "circ"), 5.0),
    "simeoni": {"cycling": 0.1},
    "claret": {"size": 6.0},
    "tmdd": {"receptor": 4.0},
    "tmdd, quasi-steady state": {"receptor": 4.0},
    "tmdd, quasi-equilibrium": {"receptor": 4.0},
}
GROWING = ("simeoni", "claret")


@pytest.mark.parametrize("name", STRUCTURES)
def test_equations_and_baseline(name):
    """The equations of the publication, written out, at random states; the initial states; no drug, no change."""
    structure, by_hand = STRUCTURES[name]
    random = np.random.default_rng(1)
    for _ in range(5):
        amounts = random.uniform(0.1, 60.0, len(structure.states))
        expected = by_hand(dict(zip(structure.states, amounts, strict=True)))
        assert set(expected) == set(structure.states)
        found = dict(zip(structure.states, structure.flow(3.0, tuple(map(jnp.asarray, amounts))), strict=True))
        for state, rate in expected.items():
            assert float(found[state]) == pytest.approx(rate, rel=1e-11, abs=1e-11), state
    start = dict(zip(structure.states, structure.start(), strict=True))
    assert start == {s: BASELINES.get(name, {}).get(s, 0.0) for s in structure.states}
    if name not in GROWING:
        np.testing.assert_allclose(structure.flow(0.0, structure.start()), 0.0, atol=1e-12)


def solved(structure, doses: dict[str, float], times, method="LSODA"):
    """States by name at ``times`` after doses at time 0, by scipy."""
    start = [float(x) + doses.get(s, 0.0) for s, x in zip(structure.states, structure.start(), strict=True)]
    flow = jax.jit(lambda t, a: jnp.stack(structure.flow(t, tuple(a))))
    end = solve_ivp(lambda t, a: np.asarray(flow(t, a)), (0.0, times[-1]), start, method, t_eval=times, rtol=1e-11, atol=1e-13)
    return dict(zip(structure.states, end.y, strict=True))


def test_the_engine_against_scipy():
    """Indirect response to an oral dose, and back to the baseline at a reset."""
    times = np.array([0.0, 0.5, 2.0, 8.0, 24.0, 72.0])
    regimens = [[dict(time=0.0, amt=100.0)], [dict(time=0.0, amt=100.0), dict(time=8.0, evid=3)]]

    def dynamics(ind):
        oral = pk.OneCompartmentOral(cl=CL, v=V, ka=KA)
        return pd.indirect_response(oral, "I", kin=ind.kin, kout=0.2, effect=pd.emax(0.9, 2.0, 1.4))

    (states,) = states_of(model_of(dict(kin=5.0), dynamics), population_of(regimens, times))()
    expected = solved(dynamics(type("ind", (), dict(kin=5.0))), {"depot": 100.0}, times)
    for k, state in enumerate(("depot", "central", "response")):
        np.testing.assert_allclose(states[0, :, k], expected[state], rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(states[1, times > 8.0], [[0.0, 0.0, 25.0]] * 2, atol=1e-9)


@pytest.mark.slow
def test_derivatives_of_a_response():
    """A response with baseline and Hill coefficient, through the jet of the engine, against fourth-order differences."""
    typical = dict(v=V, kout=0.2, ic50=2.0, hill=1.4)

    def dynamics(ind):
        drug = pk.OneCompartmentOral(cl=CL, v=ind.v, ka=KA)
        return pd.indirect_response(drug, "II", kin=5.0, kout=ind.kout, effect=pd.emax(0.9, ind.ic50, ind.hill))

    model, population = model_of(typical, dynamics), population_of([[dict(time=0.0, amt=100.0)]], [0.5, 4.0, 24.0])
    _, first, second = states_of(model, population, order=2)()
    value = states_of(model, population)
    h, centre = 5e-3, value()[0]
    for i, e in enumerate(np.eye(4) * h):
        near, far, back, behind = (value(k * e)[0] for k in (1, 2, -1, -2))
        slope = (8 * (near - back) - (far - behind)) / (12 * h)
        bend = (16 * (near + back) - (far + behind) - 30 * centre) / (12 * h**2)
        np.testing.assert_allclose(first[..., i], slope, atol=1e-6 * np.abs(slope).max())
        np.testing.assert_allclose(second[..., i, i], bend, atol=1e-4 * np.abs(bend).max())


def test_effect_compartment():
    """Bateman's function after a bolus; the plasma concentration itself when ke0 is large; linear and equations agree."""
    times, k, ke0 = jnp.array([0.1, 1.0, 5.0, 20.0]), CL / V, 0.4
    effect = pd.effect_compartment(CENTRAL, ke0).advance((100.0, 0.0), None, times)[1]
    np.testing.assert_allclose(effect, 100 / V * ke0 / (ke0 - k) * (np.exp(-k * times) - np.exp(-ke0 * times)), rtol=1e-12)
    central, effect = pd.effect_compartment(CENTRAL, 1e5).advance((100.0, 0.0), None, times)
    np.testing.assert_allclose(effect, central / V, rtol=1e-5)


@pytest.mark.parametrize("gamma", [None, 1.0, 2.5])
def test_emax_where_there_is_no_drug(gamma):
    effect = pd.emax(0.9, 2.0, gamma)
    assert effect(jnp.asarray(0.0)) == 0.0
    assert np.isfinite(jax.grad(effect)(0.0)) and np.isfinite(jax.grad(jax.grad(effect))(0.0))
    assert effect(jnp.asarray(2.0)) == pytest.approx(0.45)
    if gamma is not None:  # solvers overshoot below 0
        assert effect(jnp.asarray(-1e-9)) == 0.0


def test_free_drug_solves_its_equation_without_cancellation():
    total, target, k = (10.0 ** np.random.default_rng(2).uniform(-8, 8, 300) for _ in range(3))
    free = np.asarray(pk.free_drug(total, target, k))
    np.testing.assert_allclose(free + target * free / (k + free), total, rtol=1e-12)
    assert pk.free_drug(0.0, 3.0, 0.1) == 0.0


def test_tmdd_loses_only_what_is_eliminated():
    """Drug in the body plus what has left by clearance and internalisation is the dose."""
    structure = pk.tmdd(CL, V, 0.8, 0.05, 0.1, 1.2, 0.3, q=2.0, v2=30.0, ka=KA)
    amounts = np.array([40.0, 90.0, 10.0, 3.0, 1.5])
    rates = dict(zip(structure.states, structure.flow(0.0, tuple(amounts)), strict=True))
    body = rates["depot"] + rates["central"] + rates["peripheral"] + V * rates["complex"]
    assert float(body) == pytest.approx(-CL * 90.0 / V - V * 0.1 * 1.5, rel=1e-12)


def test_quasi_equilibrium_is_the_limit_of_fast_binding():
    times, kd = np.array([1.0, 4.0, 12.0, 40.0]), 0.2
    full = solved(pk.tmdd(CL, V, 1e5, 1e5 * kd, 0.1, 1.2, 0.3), {"central": 300.0}, times, "Radau")
    quick = solved(pk.tmdd_quasi_equilibrium(CL, V, kd, 0.1, 1.2, 0.3), {"central": 300.0}, times)
    # the dose meets the target at once in the limit: its bound part is in `central` there
    np.testing.assert_allclose(full["central"] + V * full["complex"], quick["central"], rtol=2e-4)
    np.testing.assert_allclose(full["receptor"] + full["complex"], quick["receptor"], rtol=2e-4)


def test_michaelis_menten_is_the_limit_of_a_scarce_target():
    times, kss, kint, target = np.array([1.0, 3.0, 6.0, 10.0]), 0.5, 2e4, 1e-5
    scarce = pk.tmdd_quasi_steady_state(CL, V, kss, kint, ksyn=kint * target, kdeg=kint)
    limit = pk.michaelis_menten(V, vmax=kint * target * V, km=kss, cl=CL)
    ours, theirs = (solved(s, {"central": 100.0}, times, "Radau")["central"] for s in (scarce, limit))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)


def test_tumours():
    """Simeoni without drug grows exponentially, then linearly; Claret under a constant exposure has a closed form."""
    times = np.array([1.0, 2.0, 40.0, 41.0])
    weight = solved(pd.simeoni(None, lambda0=0.3, lambda1=0.7, k1=0.6, k2=0.05, w0=0.05), {}, times)["cycling"]
    np.testing.assert_allclose(weight[:2], 0.05 * np.exp(0.3 * times[:2]), rtol=1e-9)
    assert weight[3] - weight[2] == pytest.approx(0.7, rel=1e-9)
    size = solved(pd.claret(None, kl=0.02, kd=0.1, decay=0.05, y0=6.0, exposure=0.8), {}, times)["size"]
    np.testing.assert_allclose(size, 6.0 * np.exp(0.02 * times - 0.1 * 0.8 * (1 - np.exp(-0.05 * times)) / 0.05), rtol=1e-8)


def test_blood_cells_fall_and_return():
    structure = pd.friberg(CENTRAL, pd.proportional(0.3), circ0=5.0, mtt=90.0, gamma=0.17)
    times = np.linspace(1.0, 2000.0, 400)
    circ = solved(structure, {"central": 400.0}, times)["circ"]
    # the nadir comes late, the return overshoots, the end is the baseline
    assert circ[times < 24.0].min() > 4.8 and circ.min() < 2.0 and 100.0 < times[circ.argmin()] < 400.0
    assert circ.max() > 5.1 and circ[-1] == pytest.approx(5.0, rel=1e-3)


def test_metabolite_keeps_the_mass():
    """All of the parent turns into a metabolite that stays; and what has been formed is fm of what was eliminated."""
    times = jnp.array([0.5, 3.0, 30.0])
    amounts = pk.parent_metabolite(ORAL, fm=1.0, clm=0.0, vm=8.0).advance((70.0, 30.0, 0.0), None, times)
    np.testing.assert_allclose(sum(amounts), 100.0, rtol=1e-13)
    _, _, part = pk.parent_metabolite(ORAL, fm=0.4, clm=0.0, vm=8.0).advance((70.0, 30.0, 0.0), None, times)
    np.testing.assert_allclose(part, 0.4 * amounts[2], rtol=1e-13)


def test_responses_to_absorption_that_takes_time():
    """A response on a transit absorption: the doses still arrive by their function of time."""
    drug = pk.transit(ORAL, n=2.0, mtt=1.0)
    structure = pd.indirect_response(drug, "III", kin=5.0, kout=0.2, effect=pd.emax(2.0, 1.0))
    assert structure.states == ("depot", "central", "response") and structure.receives() == (True, False, False)
    ones = jnp.ones(1)
    on_the_way = structure.receiving(0.0 * ones, 100.0 * ones, jnp.zeros(1, int), jnp.array([True]))
    assert float(on_the_way.flow(0.5, structure.start())[0]) == pytest.approx(100.0 * 3**3 * 0.5**2 * np.exp(-1.5) / 2.0)


def test_a_pk_written_as_equations():
    free = nlme.ODE(lambda t, a: {"central": -0.1 * a.central}, ("central",), lag=0.5)
    structure = pd.effect_compartment(free, 0.4, concentration=lambda a: a.central / 7.0)
    assert structure.states == ("central", "effect") and structure.lag == 0.5
    np.testing.assert_allclose(structure.flow(0.0, (14.0, 1.0)), [-1.4, 0.4], rtol=1e-14)


@pytest.mark.parametrize("name, fields", [("ThreeCompartmentOral", "cl v1 q2 v2 q3 v3 ka"), ("TwoCompartment", "cl v1 q v2")])
def test_dose_rules_stay(name, fields):
    closed = getattr(pk, name)(**dict.fromkeys(fields.split(), 1.0), lag={"central": 0.5}, bioavailability=0.7)
    for structure in (as_linear(closed), pd.effect_compartment(closed, 1.0), pk.parent_metabolite(closed, 1.0, 1.0, 1.0)):
        assert structure.rule("lag") == {"central": 0.5}
        assert structure.rule("bioavailability") == {closed.states[0]: 0.7}


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: pd.indirect_response(ORAL, "V", 1.0, 1.0, EFFECT), "kind is 'I'.*got 'V'"),
        (lambda: pd.indirect_response(nlme.ODE(lambda t, a: a, ("central",)), "I", 1.0, 1.0, EFFECT), "concentration=lambda"),
        (lambda: pd.effect_compartment(ORAL, 1.0, concentration=3.0), "a function of the states"),
        (lambda: pd.indirect_response(STRUCTURES["indirect I"][0], "I", 1.0, 1.0, EFFECT, lambda a: a.central), "named response"),
        (lambda: pd.transduction(ORAL, EFFECT, 1.0, n=2.5), "whole number"),
        (lambda: pd.claret(None, 1.0, 1.0, 1.0, 1.0), "give an exposure"),
        (lambda: pk.tmdd(1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, q=1.0), "both q and v2"),
        (lambda: pk.parent_metabolite(ORAL, 1.0, 1.0, 1.0, qm=1.0), "both qm and vm2"),
        (lambda: pk.parent_metabolite(STRUCTURES["tmdd"][0], 1.0, 1.0, 1.0), "closed form"),
    ],
)
def test_messages(build, message):
    with pytest.raises(nlme.ModelError, match=message):
        build()
