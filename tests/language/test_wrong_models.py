"""Wrong models as a beginner writes them: each ends in one error of this library that fits one screen and names the remedy."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import nlme
from nlme.errors import NLMEError

LINES, COLUMNS = 12, 400  # a line of prose is wrapped by the terminal

DATA = nlme.Population(
    (
        nlme.Subject(id=1, time=[0, 1, 4], evid=[1, 0, 0], amt=[100, 0, 0], dv=[np.nan, 5.2, 3.1], covariates={"wt": [70.0] * 3}),
        nlme.Subject(id=2, time=[0, 2, 6], evid=[1, 0, 0], amt=[100, 0, 0], dv=[np.nan, 4.4, 2.0], covariates={"wt": [55.0] * 3}),
    )
)
TWO_ENDPOINTS = nlme.read_nonmem(
    pd.DataFrame(
        {"ID": [1, 1, 1], "TIME": [0, 1, 2], "AMT": [100, 0, 0], "EVID": [1, 0, 0], "DV": [np.nan, 5, 60], "DVID": [0, 1, 2]}
    ),
    dvid={1: "conc", 2: "pca"},
)


class Right(nlme.Model):
    """One compartment after a bolus; every wrong model below is this one with one slip."""

    cl: nlme.Scalar = nlme.positive(4.0)
    v: nlme.Scalar = nlme.positive(20.0)
    omega: nlme.Covariance = nlme.covariance(cl=0.09, v=0.04)
    prop: nlme.Scalar = nlme.positive(0.2)
    covariates = {"wt": "kg"}

    def individual(self, eta, cov):
        return dict(cl=self.cl * (cov.wt / 70) ** 0.75 * jnp.exp(eta.cl), v=self.v * jnp.exp(eta.v))

    def dynamics(self, ind):
        return nlme.pk.OneCompartment(cl=ind.cl, v=ind.v)

    def observe(self, ind, state, t):
        return {"conc": nlme.proportional(state.central / ind.v, self.prop)}


def with_method(name: str, function) -> nlme.Model:
    """``Right`` with another method."""
    return type("Wrong", (Right,), {name: function})()


def with_rhs(rhs) -> nlme.Model:
    return with_method("dynamics", lambda self, ind: nlme.ODE(lambda t, a: rhs(self, ind, t, a), states=("central",)))


# the slips -------------------------------------------------------------------------------------------------------------------


def effect_not_in_omega(self, eta, cov):
    return dict(cl=self.cl * jnp.exp(eta.cl), v=self.v * jnp.exp(eta.v), ka=jnp.exp(eta.ka))


def effect_of_omega_not_used(self, eta, cov):
    return dict(cl=self.cl * jnp.exp(eta.cl), v=self.v)


def covariate_not_declared(self, eta, cov):
    return dict(cl=self.cl * jnp.exp(eta.cl) * cov.age, v=self.v * jnp.exp(eta.v))


def misspelt_parameter(self, eta, cov):
    return dict(cl=self.Cl * jnp.exp(eta.cl), v=self.v * jnp.exp(eta.v))


def python_if(self, eta, cov):
    if cov.wt > 70:
        return dict(cl=2 * self.cl * jnp.exp(eta.cl), v=self.v * jnp.exp(eta.v))
    return dict(cl=self.cl * jnp.exp(eta.cl), v=self.v * jnp.exp(eta.v))


def python_max(self, ind, state, t):
    return {"conc": nlme.proportional(max(state.central / ind.v, 0.001), self.prop)}


def numpy_exp(self, eta, cov):
    return dict(cl=self.cl * np.exp(eta.cl), v=self.v * np.exp(eta.v))


def math_exp(self, eta, cov):
    return dict(cl=self.cl * math.exp(eta.cl), v=self.v * math.exp(eta.v))


def no_return(self, eta, cov):
    dict(cl=self.cl * jnp.exp(eta.cl), v=self.v * jnp.exp(eta.v))


def individual_gives_a_tuple(self, eta, cov):
    return self.cl * jnp.exp(eta.cl), self.v * jnp.exp(eta.v)


def name_of_another_method(self, ind):
    return nlme.pk.OneCompartment(cl=ind.CL, v=ind.v)


def argument_of_another_structure(self, ind):
    return nlme.pk.OneCompartment(cl=ind.cl, v=ind.v, ka=1.0)


def dynamics_gives_a_dict(self, ind):
    return {"central": -ind.cl}


def a_bare_number(self, ind, state, t):
    return state.central / ind.v


def a_number_in_the_dict(self, ind, state, t):
    return {"conc": state.central / ind.v}


def an_array_of_two(self, ind, state, t):
    return {"conc": nlme.proportional(jnp.array([state.central, ind.v]), self.prop)}


def observe_without_return(self, ind, state, t):
    {"conc": nlme.proportional(state.central / ind.v, self.prop)}


def state_misspelt(self, ind, state, t):
    return {"conc": nlme.proportional(state.centrl / ind.v, self.prop)}


def a_python_slip(self, ind, state, t):
    return {"conc": nlme.proportional(state.central / ind.v + "1", self.prop)}


METHODS = {
    "individual": {
        effect_not_in_omega: ["No random effect named 'ka'", "declares: cl, v", "eta.ka", "line"],
        effect_of_omega_not_used: ["random effect v", "eta.v", "nlme.covariance"],
        covariate_not_declared: ["No covariate named 'age'", "declares: wt", "cov.age"],
        misspelt_parameter: ["No parameter named 'Cl'", "Did you mean 'cl'?", "self.Cl"],
        python_if: ["`if`", "jnp.where(", "if cov.wt > 70:"],
        numpy_exp: ["jnp.exp", "import jax.numpy as jnp", "np.exp(eta.cl)"],
        math_exp: ["jnp.exp", "math.exp(eta.cl)"],
        no_return: ["must return a dict", "returned None", "is the return missing?"],
        individual_gives_a_tuple: ["must return a dict", "dict(cl=..., v=...)", "tuple"],
    },
    "dynamics": {
        name_of_another_method: ["No individual parameter named 'CL'", "individual() declares: cl, v", "Did you mean 'cl'?"],
        argument_of_another_structure: ["ka", "nlme.pk.OneCompartment(cl=ind.cl"],
        dynamics_gives_a_dict: ["nlme.pk.OneCompartment(...)", "nlme.ODE(...)", "returned dict"],
    },
    "observe": {
        python_max: ["`max`", "jnp.maximum"],
        a_bare_number: ["must return a dict", "nlme.additive("],
        a_number_in_the_dict: ["'conc'", "must be an error model", "nlme.additive"],
        an_array_of_two: ["'conc'", "must predict one number", "(2,)"],
        observe_without_return: ["must return a dict", "is the return missing?"],
        state_misspelt: ["No state named 'centrl'", "The structure declares: central", "Did you mean 'central'?"],
        a_python_slip: ["TypeError", '+ "1"', "line"],
    },
}
EQUATIONS = {
    "no rate for a state": (lambda self, ind, t, a: {"centrl": -a.central}, ["no rate for central", "centrl"]),
    "a rate for no state": (
        lambda self, ind, t, a: {"central": -a.central, "depot": 0.0},
        ["No state named 'depot'", "declares: central"],
    ),
    "an unknown state": (lambda self, ind, t, a: {"central": -a.depot}, ["No state named 'depot'", "a.depot"]),
    "a bare number": (lambda self, ind, t, a: -ind.cl / ind.v * a.central, ["must return a dict of rates for central"]),
    "an `if` on time": (lambda self, ind, t, a: {"central": -a.central if t > 1 else 0.0}, ["`if`", "jnp.where("]),
    "numpy's function": (lambda self, ind, t, a: {"central": -np.sqrt(a.central)}, ["jax.numpy", "np.sqrt"]),
}


def message_of(call) -> str:
    """What the user sees, which fits one screen and comes without a traceback of JAX above it."""
    with pytest.raises(NLMEError) as caught:
        call()
    error = caught.value
    assert error.__cause__ is None and (error.__context__ is None or error.__suppress_context__), "a second traceback is shown"
    lines = str(error).splitlines()
    assert len(lines) <= LINES and max(map(len, lines)) <= COLUMNS
    assert "Tracer" not in str(error) and "jaxpr" not in str(error)
    return str(error)


def require(text: str, words: list[str]) -> None:
    missing = [word for word in words if word not in text]
    assert not missing, f"{missing} not in: {text}"


@pytest.mark.parametrize(
    ("method", "function", "words"),
    [pytest.param(m, f, w, id=f.__name__) for m, cases in METHODS.items() for f, w in cases.items()],
)
def test_a_slip_in_a_method(method, function, words):
    text = message_of(lambda: nlme.evaluate(with_method(method, function), DATA, nlme.FO()))
    require(text, ["Wrong", *words])
    assert message_of(lambda: nlme.describe(with_method(method, function))) == text, "describe says the same without data"


@pytest.mark.parametrize(("rhs", "words"), EQUATIONS.values(), ids=EQUATIONS)
def test_a_slip_in_an_equation(rhs, words):
    require(message_of(lambda: nlme.evaluate(with_rhs(rhs), DATA, nlme.FO())), ["Wrong.dynamics", *words])


@pytest.mark.slow
def test_the_right_model_is_right():
    """Else the tests above could pass for another reason."""
    assert np.isfinite(nlme.evaluate(Right(), DATA, nlme.FO()).objective)
    assert np.isfinite(
        nlme.evaluate(with_rhs(lambda self, ind, t, a: {"central": -ind.cl / ind.v * a.central}), DATA, nlme.FO()).objective
    )


# a model that does not fit its data -------------------------------------------------------------------------------------------


def test_a_covariate_that_the_data_have_not():
    model = type("Wrong", (Right,), {"covariates": {"wt": "kg", "age": "years"}})()
    require(message_of(lambda: nlme.evaluate(model, DATA)), ["Wrong", "'age'", "wt", "covariates=['age'"])


def test_an_endpoint_that_the_data_have_not():
    def observe(self, ind, state, t):
        error = nlme.proportional(state.central / ind.v, self.prop)
        return {"conc": error, "effect": error}

    model = type("Wrong", (Right,), {"covariates": {}, "individual": _without_weight, "observe": observe})()
    require(message_of(lambda: nlme.evaluate(model, TWO_ENDPOINTS)), ["'pca'", "Wrong declares: conc, effect", "dvid="])


def _without_weight(self, eta, cov):
    return dict(cl=self.cl * jnp.exp(eta.cl), v=self.v * jnp.exp(eta.v))


@pytest.mark.parametrize(("into", "words"), [("depot", ["'depot'", "central"]), (2, ["2", "central"])])
def test_a_dose_into_a_compartment_that_the_structure_has_not(into, words):
    doses = DATA.with_doses(nlme.dose(100, into=into))
    require(message_of(lambda: nlme.evaluate(Right(), doses)), ["Subject 1, dose at time 0", "OneCompartment", *words])


# values ------------------------------------------------------------------------------------------------------------------------

VALUES = {
    "negative": (lambda: nlme.positive(-1), ["-1", "positive", "nlme.real"]),
    "above its bound": (lambda: nlme.bounded(3.0, 0.0, 1.0), ["3.0", "0 < value < 1"]),
    "not a probability": (lambda: nlme.probability(1.2), ["1.2", "probability", "0 < value < 1"]),
    "text": (lambda: nlme.positive("4.0"), ["'4.0'", "number"]),
    "forgotten": (lambda: nlme.positive(None), ["None", "number"]),
    "unit in the place of the value's options": (lambda: Right(cl="5 L/h"), ["cl", "5 L/h", "number"]),
    "another start outside": (lambda: Right(cl=-4.0), ["Right", "cl = -4.0", "0 < cl"]),
    "an array for a scalar": (lambda: Right(cl=[1.0, 2.0]), ["Right", "'cl'", "(2,)"]),
    "a name not there": (lambda: Right(CL=3.0), ["Right", "No parameter named 'CL'", "cl"]),
    "a negative variance": (lambda: nlme.covariance(cl=-0.1), ["'cl'", "positive", "-0.1"]),
    "a variance to estimate from 0": (
        lambda: nlme.fit(Right(omega={"cl": 0.0}), DATA),
        ["omega.cl", "exactly 0", "fixed=['omega.cl']"],
    ),
    "variance of a name not there": (lambda: Right(omega={"ka": 0.1}), ["No random effect named 'ka'", "cl, v"]),
    "a matrix not positive definite": (lambda: nlme.covariance(("a", "b"), [[1, 2], [2, 1]]), ["positive definite", "a, b"]),
    "the class, not the model": (lambda: nlme.fit(Right, DATA), ["Right()", "parentheses"]),
    "no model": (lambda: nlme.fit(DATA, Right()), ["nlme.Model", "Population"]),
    "a method's name": (lambda: nlme.fit(Right(), DATA, "focei"), ["'focei'", "FOCEI()"]),
    "fixing a name not there": (lambda: nlme.fit(Right(), DATA, fixed=["CL"]), ["'CL'", "cl", "Did you mean"]),
    "data not read": (lambda: nlme.evaluate(Right(), "warfarin.csv"), ["warfarin.csv", "nlme.read_nonmem"]),
}


FIELDS = {
    "no annotation": ("cl = nlme.positive(3.0)", ["W.cl has no annotation", "cl: Scalar ="]),
    "no annotation of a covariance": ("omega = nlme.covariance(cl=0.1)", ["W.omega has no annotation", "omega: nlme.Covariance"]),
    "an annotation alone": ("cl: nlme.Scalar", ["W.cl is declared without a value", "nlme.positive(1.0)"]),
    "an annotation alone, of a covariance": (
        "omega: nlme.Covariance",
        ["W.omega is declared without", "nlme.covariance(cl=0.1)"],
    ),
    "behind others": ("v: nlme.Scalar = nlme.positive(1.0)\n    cl: nlme.Scalar", ["W.cl is declared without a value"]),
    "a bare number": ("cl: nlme.Scalar = 3.0", ["W.cl = 3.0 has no domain", "nlme.positive(3.0)", "static=True"]),
    "a bare list": ("b: nlme.Vector = [1.0, 2.0]", ["W.b = [1.0, 2.0] has no domain", "nlme.positive([1.0, 2.0])"]),
    "an array": ("cl: float = jnp.array(3.0)", ["W.cl = 3.0 has no domain"]),
    "nothing": ("cl: nlme.Scalar = None", ["W.cl = None has no domain"]),
    "a dict for a covariance": ("omega: nlme.Covariance = {'cl': 0.1}", ["W.omega", "nlme.covariance(cl=0.1)"]),
    "a kind without its value": (
        "cl: nlme.Scalar = nlme.positive",
        ["nlme.positive has no starting value", "nlme.positive(1.0)"],
    ),
}


@pytest.mark.parametrize("future", ["", "from __future__ import annotations\n"], ids=["types", "text"])
@pytest.mark.parametrize(("body", "words"), FIELDS.values(), ids=FIELDS)
def test_a_field_that_is_none_is_said_while_the_class_is_made(body, words, future):
    names = {"__name__": __name__, "nlme": nlme, "jnp": jnp}
    with pytest.raises(nlme.ModelError) as error:
        exec(f"{future}class W(nlme.Model):\n    {body}\nW()", names)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_a_parent_may_leave_a_value_to_its_children():
    class Parent(nlme.Model):
        cl: nlme.Scalar

    class Child(Parent):
        cl: nlme.Scalar = nlme.positive(3.0)

    assert float(Child().cl) == 3.0 and float(Child(4.0).cl) == 4.0
    with pytest.raises(nlme.ModelError, match="Parent.cl is declared without a value"):
        Parent()


def test_sys_exit_in_a_method_is_a_mistake():
    def leaves(self, eta, cov):
        raise SystemExit(0)

    with pytest.raises(nlme.ModelError, match="Wrong.individual: Python stopped with SystemExit"):
        nlme.describe(with_method("individual", leaves))


@pytest.mark.parametrize(("call", "words"), VALUES.values(), ids=VALUES)
def test_a_value(call, words):
    require(message_of(call), words)


def test_a_network_called_with_another_number_of_inputs():
    class Wrong(Right):
        net: nlme.MLP = nlme.mlp(inputs=2, outputs=1, width=2, depth=1, key=0)

        def individual(self, eta, cov):
            return super().individual(eta, cov) | {"cl": self.cl * jnp.exp(self.net(cov.wt)[0] + eta.cl)}

    require(
        message_of(lambda: nlme.evaluate(Wrong(), DATA)), ["Wrong.individual", "2 inputs", "called with 1", "self.net(cov.wt)"]
    )


def test_a_network_taken_as_a_number():
    class Wrong(Right):
        net: nlme.MLP = nlme.mlp(inputs=1, outputs=1, width=2, depth=1, key=0)

        def individual(self, eta, cov):
            return super().individual(eta, cov) | {"cl": self.cl * jnp.exp(self.net(cov.wt) + eta.cl)}

    require(message_of(lambda: nlme.evaluate(Wrong(), DATA)), ["Wrong.individual", "'cl'", "net(...)[0]"])
