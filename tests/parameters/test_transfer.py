"""One model's values from another's: what agrees is taken, and what does not is told with its reason."""

from __future__ import annotations

import numpy as np
import pytest

import nlme
from nlme.parameters.inventory import Inventory
from nlme.parameters.transfer import transferred


class There(nlme.Model):
    cl: nlme.Scalar = nlme.positive(5.0, unit="L/h")
    v: nlme.Scalar = nlme.positive(50.0, unit="L")
    q: nlme.Scalar = nlme.real(-3.0)
    beta: nlme.Vector = nlme.real([1.0, 2.0, 3.0])
    omega: nlme.Covariance = nlme.covariance(("cl", "v"), [[0.2], [0.05, 0.1]], ka=1e-40)


class Here(nlme.Model):
    cl: nlme.Scalar = nlme.positive(1.0, unit="L/h")
    v: nlme.Scalar = nlme.positive(1.0, unit="mL")
    q: nlme.Scalar = nlme.positive(1.0)
    beta: nlme.Vector = nlme.real([0.0, 0.0])
    omega: nlme.Covariance = nlme.covariance(("v", "cl", "ka"), [[1.0], [0.0, 1.0], [0.5, 0.0, 1.0]])
    new: nlme.Scalar = nlme.positive(7.0)


def test_what_agrees_is_taken_and_the_rest_told():
    found = transferred(Here(), Inventory(There()).rows(There()))
    model = found.model
    assert found.taken == ("cl", "omega.v", "omega.cl")
    assert (float(model.cl), float(model.v), float(model.q), float(model.new)) == (5.0, 1.0, 1.0, 7.0)
    assert np.diagonal(model.omega.matrix).tolist() == pytest.approx([0.1, 0.2, 1.0])
    assert found.kept == {
        "v": "L there, mL here",
        "q": "-3 there, outside of positive",
        "beta[0]": "3 numbers there, 2 here",
        "beta[1]": "3 numbers there, 2 here",
        "omega.cl,v": "not there",
        "omega.ka,v": "not there",
        "omega.ka,cl": "not there",
        "omega.ka": "without variance there",
        "new": "not there",
    }
    assert found.left == ("beta[2]", "omega.v,cl")
    assert "taken: cl, omega.v, omega.cl" in found.sentence and "beta[0], beta[1] (3 numbers there, 2 here)" in found.sentence


def test_everything_of_the_same_class_is_taken_without_a_word():
    found = transferred(
        There(), Inventory(There(cl=9.0, omega={"v,cl": -0.05, "ka": 0.3})).rows(There(cl=9.0, omega={"v,cl": -0.05, "ka": 0.3}))
    )
    assert float(found.model.cl) == 9.0 and float(found.model.omega.matrix[1, 0]) == pytest.approx(-0.05)
    assert not found.kept and not found.left and found.sentence == ""


def test_covariances_that_do_not_fit_together_leave_the_variances():
    rows = [row for row in Inventory(There()).rows(There()) if row.name != "omega.ka"]
    rows = [row if row.name != "omega.v,cl" else type(row)(**{**vars(row), "value": 9.0}) for row in rows]
    found = transferred(There(cl=1.0), rows)
    assert found.kept["omega.v,cl"].startswith("not positive definite") and "omega.v" in found.taken


def test_from_fit_warns_of_what_was_not_taken():
    with pytest.warns(UserWarning, match="without a place here: beta") as caught:
        model = Here.from_fit(There(), new=3.0)
    assert float(model.cl) == 5.0 and float(model.new) == 3.0 and "new" not in str(caught[0].message)
    assert float(There.from_fit(There(cl=2.0, omega={"ka": 0.1})).cl) == 2.0
    with pytest.warns(UserWarning, match="taken: cl\n"):
        assert float(Here.from_fit({"cl": 4.0}).cl) == 4.0


@pytest.mark.parametrize(
    ("source", "words"), [({"zz": 1.0}, "no parameter agrees"), (3, "takes a fit, a model, or values"), (None, "NoneType")]
)
def test_from_fit_of_what_has_nothing(source, words):
    with pytest.raises(nlme.ModelError, match=words):
        Here.from_fit(source)
