"""Closed form against differential equations, every structure crossed with every way of dosing: values, first and second
derivatives in the individual parameters, the lag, the bioavailability and the modelled duration, to 1e-6.

Each way of dosing is one subject, so that one compiled program per structure and form covers them all.  The quick tests take
every structure through plain doses, and one through every way of dosing; the slow ones take all through all, three compartments
up to first derivatives: their second ones, along every way of dosing, take the compiler 20 minutes, and are those of the same code
that plain doses into three compartments and every dose into two go through.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from structures import STRUCTURES

import nlme
from nlme.dynamics import propagate
from nlme.language.anatomy import anatomy_of
from nlme.language.layout import lay_out
from nlme.language.solution import Expansion

TIMES = np.array([0.0, 0.3, 1.0, 2.5, 4.0, 6.5, 9.0, 13.0, 24.0])

# name -> dose records: time, amount and what else differs from a bolus into the first compartment
DOSING = {
    "bolus": [dict(time=0.0, amt=100.0), dict(time=3.0, amt=50.0)],
    "bolus into the second": [dict(time=0.0, amt=100.0, cmt=2)],
    "infusion": [dict(time=0.0, amt=100.0, rate=40.0), dict(time=5.0, amt=30.0, duration=2.0)],
    "infusion into central": [dict(time=0.0, amt=100.0, rate=40.0, cmt="central")],
    "overlapping infusions": [dict(time=0.0, amt=100.0, rate=10.0, addl=2, ii=3.0)],
    "modelled duration": [dict(time=0.5, amt=100.0, rate=-2.0)],
    "additional doses": [dict(time=0.0, amt=60.0, addl=5, ii=4.0)],
    "steady state": [dict(time=0.0, amt=60.0, ss=1, ii=6.0, addl=1)],
    "steady state, infusion": [dict(time=0.0, amt=60.0, rate=20.0, ss=1, ii=6.0)],
    "steady state, long infusion": [dict(time=0.0, amt=60.0, rate=7.0, ss=1, ii=6.0)],
    "steady state added": [dict(time=0.0, amt=60.0), dict(time=2.0, amt=20.0, ss=2, ii=8.0)],
    "reset and dose": [dict(time=0.0, amt=100.0), dict(time=2.0, amt=60.0, evid=4)],
}
TOLERANCES = nlme.Tolerances()


PLAIN = ("bolus", "bolus into the second", "infusion into central", "additional doses")


def population(structure: str, ways) -> nlme.Population:
    subjects = []
    for k, name in enumerate(ways):
        doses = DOSING[name]
        if name == "bolus into the second" and len(STRUCTURES[structure].states) == 1:
            continue
        central = STRUCTURES[structure].states.index("central") + 1
        rows = [dict(dict(evid=1, dv=np.nan), **d) for d in doses]
        rows = [row | {"cmt": central} if row.get("cmt") == "central" else row for row in rows]
        rows += [dict(time=t, evid=0, dv=1.0) for t in TIMES]
        rows.sort(key=lambda r: r["time"])
        fields = {
            key: [row.get(key, 0) for row in rows]
            for key in ("time", "evid", "amt", "rate", "duration", "ii", "addl", "ss", "cmt")
        }
        subjects.append(nlme.Subject(id=k + 1, dv=[row["dv"] for row in rows], **fields))
    return nlme.Population(tuple(subjects))


def model_of(structure: str, form: str, rules: bool) -> nlme.Model:
    """Every parameter of the structure (and of its dose rules) with a log-normal random effect; every state observed."""
    row = STRUCTURES[structure]
    typical = row.parameters | ({"lag": 0.4, "f": 0.9, "duration": 2.2} if rules else {})

    class Everything(nlme.Model):
        omega: nlme.Covariance = nlme.covariance(**dict.fromkeys(typical, 0.1))
        sd: nlme.Scalar = nlme.positive(1.0)

        def individual(self, eta, cov):
            return {name: value * jnp.exp(eta[name]) for name, value in typical.items()}

        def dynamics(self, ind):
            make = row.closed if form == "closed" else row.equations
            return make(ind, lag=ind.lag, bioavailability=ind.f, duration=ind.duration) if rules else make(ind)

        def observe(self, ind, state, t):
            return {"y": nlme.additive(sum(state[s] for s in row.states), self.sd)}

    return Everything()


def derivatives(structure: str, form: str, ways, order: int = 2, rules: bool | None = None):
    """Values (N, T, s), first (.., q) and second (.., q, q) derivatives of the states in the random effects, at eta = 0."""
    model = model_of(structure, form, rules=tuple(ways) != PLAIN if rules is None else rules)
    layout = lay_out(model, population(structure, ways))
    anatomy = anatomy_of(model)
    zero = jnp.zeros(len(anatomy.effects))

    def of_subject(data):
        at = Expansion(model, anatomy, zero, data.covariates, data.timeline, order, TOLERANCES)

        def states(eta):
            return at(model, eta).states

        slopes = (states, jax.jacfwd(states), jax.jacfwd(jax.jacfwd(states)))
        return *(slope(zero) for slope in slopes[: order + 1]), at(model, zero).status

    (part,) = layout.arrays.parts  # few and small: one size class
    *found, status = jax.jit(jax.vmap(of_subject))(part.data)
    assert (np.asarray(status) == 0).all()
    return [np.asarray(x) for x in found]


def agree(ours, theirs, tolerance):
    """Relative to the largest size over time of the same derivative of the same state of the same subject."""
    for order, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        assert np.isfinite(a).all() and np.isfinite(b).all()
        scale = np.abs(b).max(axis=1, keepdims=True)
        # a derivative that is zero by structure is compared with the size of the state
        scale = np.maximum(scale, 1e-3 * np.abs(theirs[0]).max())
        worst = np.max(np.abs(a - b) / scale)
        assert worst < tolerance, f"derivatives of order {order} differ by {worst:.1e}"


def order_of(structure: str) -> int:
    return 1 if structure.startswith("Three") else 2


def cases(quick):
    return [pytest.param(name, marks=[] if name in quick else [pytest.mark.slow]) for name in STRUCTURES]


@pytest.mark.slow
# the larger ones take long to compile; their second derivatives are also in test_closed_forms.py
@pytest.mark.parametrize("structure", cases(["OneCompartment", "OneCompartmentOral"]))
def test_every_structure(structure):
    agree(derivatives(structure, "closed", PLAIN), derivatives(structure, "equations", PLAIN), 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("structure", cases(["OneCompartmentOral"]))
def test_every_way_of_dosing(structure):
    order = order_of(structure)
    agree(derivatives(structure, "closed", DOSING, order), derivatives(structure, "equations", DOSING, order), 1e-6)


SUMS = [
    pytest.param(name, order, marks=[] if (name, order) == ("OneCompartment", 1) else [pytest.mark.slow])
    for name in STRUCTURES
    for order in range(1, 1 + order_of(name))
]


@pytest.mark.slow
@pytest.mark.parametrize(("structure", "order"), SUMS)
def test_sum_over_doses_is_the_scan_over_events(structure, order, monkeypatch):
    """The fast path was taken where it says so, and gives the slow path's numbers."""
    taken = []
    superpose = propagate.superpose
    monkeypatch.setattr(propagate, "superpose", lambda *a: taken.append(1) or superpose(*a))
    monkeypatch.setattr(propagate, "worthwhile", lambda timeline, **_: timeline.rows == 1)
    fast = derivatives(structure, "closed", DOSING, order)
    assert taken
    monkeypatch.setattr(propagate, "worthwhile", lambda timeline, **_: False)
    taken.clear()
    slow = derivatives(structure, "closed", DOSING, order)
    assert not taken
    agree(fast, slow, 1e-9)


UNMOVED = ("bolus", "infusion", "overlapping infusions", "additional doses", "reset and dose")  # doses that no parameter moves


@pytest.mark.slow
@pytest.mark.parametrize(
    ("structure", "order"),
    [
        ("OneCompartment", 2),
        pytest.param("TwoCompartment", 2, marks=pytest.mark.slow),
        pytest.param("ThreeCompartment", 1, marks=pytest.mark.slow),
    ],
)
def test_modes_are_the_scan_over_events(structure, order, monkeypatch):
    taken, follow = [], propagate.follow_modes
    monkeypatch.setattr(propagate, "follow_modes", lambda *a: taken.append(1) or follow(*a))
    monkeypatch.setattr(propagate, "worthwhile", lambda timeline, **_: False)
    fast = derivatives(structure, "closed", UNMOVED, order, rules=False)
    assert taken
    monkeypatch.setattr(propagate, "by_modes", lambda *_: False)
    taken.clear()
    slow = derivatives(structure, "closed", UNMOVED, order, rules=False)
    assert not taken
    agree(fast, slow, 1e-9)
