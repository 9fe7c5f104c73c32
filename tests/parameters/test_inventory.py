"""The inventory: names, order, fixed parameters, and vectors that go to a model and back."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nlme
from nlme.parameters.inventory import Inventory


class Made(nlme.Model):
    cl: nlme.Scalar = nlme.positive(4.0, unit="L/h", label="Clearance")
    slope: nlme.Scalar = nlme.real(-250.0)
    beta: nlme.Vector = nlme.real([0.5, 0.0])
    f: nlme.Scalar = nlme.probability(0.8)
    omega: nlme.Covariance = nlme.covariance(cl=0.09, v=0.04, ka=0.3, correlation={("cl", "v"): 0.5})
    net: nlme.MLP = nlme.mlp(inputs=1, outputs=1, width=2, depth=1, key=0, initial_scale=1.0)


NAMES = [
    "cl", "slope", "beta[0]", "beta[1]", "f", "omega.cl", "omega.v,cl", "omega.v", "omega.ka",
    "net.weights[0][0,0]", "net.weights[0][1,0]", "net.weights[1][0,0]", "net.weights[1][0,1]",
    "net.biases[0][0]", "net.biases[0][1]", "net.biases[1][0]",
]  # fmt: skip


def test_names_kinds_and_order():
    found = Inventory(Made())
    assert found.names == NAMES
    assert found.kinds == ["fixed effect"] * 5 + ["variance", "covariance", "variance", "variance"] + ["weight"] * 7
    rows = {row.name: row for row in found.rows(Made(), {"cl": "log-normal"})}
    assert (rows["cl"].label, rows["cl"].unit, rows["cl"].value, rows["cl"].domain) == ("Clearance", "L/h", 4.0, "positive")
    assert rows["omega.cl"].value == pytest.approx(0.09) and rows["omega.cl"].transform == "log-normal"
    assert rows["omega.v,cl"].value == pytest.approx(0.5 * 0.3 * 0.2)


def test_unconstrained_values_by_hand():
    u = dict(zip(NAMES, np.asarray(Inventory(Made()).unconstrained(Made())), strict=True))
    assert u["cl"] == pytest.approx(np.log(4.0)) and u["f"] == pytest.approx(np.log(0.8 / 0.2))
    assert u["slope"] == pytest.approx(-2.5), "a real parameter is scaled by the power of ten next to its starting value"
    assert u["beta[0]"] == pytest.approx(0.5) and u["beta[1]"] == 0.0
    assert u["omega.ka"] == pytest.approx(0.5 * np.log(0.3))
    assert u["omega.v,cl"] == pytest.approx(np.arctanh(0.5))


FIXED = {
    (): NAMES,
    ("cl",): NAMES[1:],
    ("beta",): NAMES[:2] + NAMES[4:],
    ("beta[1]",): NAMES[:3] + NAMES[4:],
    ("omega.ka",): NAMES[:8] + NAMES[9:],
    ("omega", "net"): NAMES[:5],
    ("omega.cl", "omega.v", "omega.v,cl"): NAMES[:5] + NAMES[8:],
    "f": NAMES[:4] + NAMES[5:],
}


@pytest.mark.parametrize(("fixed", "names"), FIXED.items(), ids=map(str, FIXED))
def test_fixed_parameters_keep_their_values_and_the_others_take_theirs(fixed, names):
    model, found = Made(), Inventory(Made(), fixed)
    assert found.names == names and len(found) == len(names)
    whole = Inventory(model)
    u = np.asarray(found.unconstrained(model))
    moved = found.at_unconstrained(model, jnp.asarray(u + 0.1))
    np.testing.assert_allclose(found.unconstrained(moved), u + 0.1, rtol=1e-12, atol=1e-12)
    before, after = (dict(zip(NAMES, np.asarray(whole.natural(m)), strict=True)) for m in (model, moved))
    for name in NAMES:
        assert (not np.isclose(before[name], after[name], rtol=1e-14, atol=0)) == (name in names), name
    again = found.at_natural(moved, found.natural(model))
    np.testing.assert_allclose(whole.natural(again), whole.natural(model), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    ("fixed", "words"),
    [(["Cl"], "Did you mean 'cl'"), (["omega.cl"], "fix the whole block"), (["beta[2]"], r"No parameter named 'beta\[2\]'")],
)
def test_what_cannot_be_fixed_is_refused(fixed, words):
    with pytest.raises(nlme.ModelError, match=words):
        Inventory(Made(), fixed)


def test_a_field_without_a_domain_is_refused():
    class Undeclared(nlme.Model):
        k: nlme.Scalar = nlme.positive(1.0)
        forgotten: float = 1.0

    with pytest.raises(nlme.ModelError, match="'forgotten' holds numbers but no domain"):
        Inventory(Undeclared(forgotten=jnp.asarray(2.0)))


def test_models_of_one_class_share_programs_whatever_their_values():
    traced = []

    @jax.jit
    def slope_of(inventory, model, u):
        traced.append(u.shape)
        return inventory.at_unconstrained(model, u).slope

    for made in (Made(), Made(cl=9.0), Made(slope=250.0)):
        found = Inventory(made)
        np.testing.assert_allclose(slope_of(found, made, found.unconstrained(made)), made.slope)
    assert len(traced) == 1
    slope_of(Inventory(Made(), "cl"), Made(), Inventory(Made(), "cl").unconstrained(Made()))
    assert len(traced) == 2


def test_values_by_the_names_of_tables():
    found = Inventory(Made())
    model = found.with_values(Made(), {"cl": 2.0, "beta[1]": 7.0, "omega.ka": 0.5, "omega.v,cl": 0.01, "net.biases[0][1]": 3.0})
    values = dict(zip(NAMES, np.asarray(found.natural(model)).tolist(), strict=True))
    assert [values[n] for n in ("cl", "beta[0]", "beta[1]", "omega.ka", "net.biases[0][1]")] == pytest.approx(
        [2.0, 0.5, 7.0, 0.5, 3.0]
    )
    assert [values[n] for n in ("omega.cl", "omega.v,cl", "omega.v")] == pytest.approx([0.09, 0.01, 0.04])
    assert found.with_values(Made(), {}) is not None


@pytest.mark.parametrize(
    ("values", "words"),
    [({"CL": 1.0}, "No parameter named 'CL'"), ({"cl": -1.0}, "cl = -1.0 is outside its domain"), ({"f": 1.5}, "0 < f < 1"),
     ({"cl": "x"}, "'x'"), ({"omega.cl": -0.1}, "variance"), ({"omega.v,cl": 9.0}, "positive definite"), ({"cl": np.nan}, "nan")],
)  # fmt: skip
def test_values_that_will_not_do(values, words):
    with pytest.raises(nlme.ModelError, match=words):
        Inventory(Made()).with_values(Made(), values)


def test_a_variance_of_zero_is_no_start_unless_it_is_held():
    model = Made(omega={"ka": 0.0})
    assert Inventory(model).without_variance(model) == ["omega.ka"]
    with pytest.raises(nlme.ModelError, match=r"omega.ka starts at exactly 0.*fixed=\['omega.ka'\]"):
        Inventory(model).require_searchable(model)
    Inventory(model, ["omega.ka"]).require_searchable(model)
    block = Made(omega={"cl": 0.0})
    with pytest.raises(nlme.ModelError, match=r"fixed=\['omega.cl', 'omega.v', 'omega.v,cl'\]"):
        Inventory(block).require_searchable(block)
