"""Observations that are certain, or impossible: values below a limit where the prediction is 0, counts at rate 0, categories and events of
probability 0 and 1.  What is certain adds nothing and has no slope; what is impossible is said in words."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import nlme
from nlme.language.layout import lay_out
from nlme.marginal.objective import evaluate_subjects
from nlme.observation.base import Record, log_density
from nlme.parameters.inventory import Inventory

LIMIT = 0.1

#: errors that vanish with the prediction f, of a parameter s
VANISHING = {
    "proportional": lambda f, s: nlme.proportional(f, s),
    "power": lambda f, s: nlme.power(f, s, 0.6),
    "combined without its additive part": lambda f, s: nlme.combined(f, 0.0, s),
    "combined as standard deviations": lambda f, s: nlme.combined(f, 0.0, s, form="sd"),
    "log-normal": lambda f, s: nlme.lognormal(f, s),
    "logit-normal": lambda f, s: nlme.logitnormal(f, s, 0.0, 50.0),
    "Box-Cox": lambda f, s: nlme.boxcox(f, s, 0.4),
    "Box-Cox, of logarithms": lambda f, s: nlme.boxcox(f, s, 0.0),
    "Box-Cox, of inverses": lambda f, s: nlme.boxcox(f, s, -0.4),
    "Student, proportional": lambda f, s: nlme.student_t(f, s * f, 5.0),
}
#: errors that do not
STAYING = {
    "additive": lambda f, s: nlme.additive(f, s),
    "power 0": lambda f, s: nlme.power(f, s, 0.0),
    "Yeo-Johnson": lambda f, s: nlme.yeojohnson(f, s, 0.6),
    "Student": lambda f, s: nlme.student_t(f, s, 5.0),
}
METHODS = {"M1": {}, "M2": {"lloq": LIMIT}, "M3": {}, "M4": {}}


def derivatives(law, records, f=0.0, order=1):
    """Log density of every record (y, CENS, LIMIT), its gradient in (f, s) in reverse, and its second derivatives.

    ``f``: a number, or one for each record
    """

    def log_p(x, record):
        return log_density(law(x[0], x[1]).terms(Record(*record)))

    def of_record(f, record):
        x = jnp.stack([f, jnp.asarray(0.3)])
        value, gradient = jax.value_and_grad(log_p)(x, record)
        return (value, gradient) if order == 1 else (value, gradient, jax.hessian(log_p)(x, record))

    records = jnp.asarray(records, float)
    return [np.asarray(x) for x in jax.jit(jax.vmap(of_record))(jnp.broadcast_to(jnp.asarray(f, float), len(records)), records)]


def censored(name, method="M3"):
    return lambda f, s: nlme.censored(VANISHING[name](f, s), method, **METHODS[method])


BELOW = [(LIMIT, 1, np.nan), (LIMIT, 1, 0.0), (0.0, 1, np.nan)]  # the last: a limit of 0 itself
ELSEWHERE = [(0.7, 0, np.nan), (LIMIT, -1, np.nan), (2 * LIMIT, 1, LIMIT)]  # observed, above a limit, between two limits above 0


@pytest.mark.slow
@pytest.mark.parametrize("name", VANISHING)
def test_below_a_limit_where_the_prediction_is_zero(name):
    """Certain, so that it adds nothing; anything else impossible, without a slope that is not a number.

    The probability goes to 1 as the prediction goes to 0, so that nothing jumps when a lag moves past a sample; that of Box-Cox with
    a power above 0 keeps some mass below its own scale.
    """
    f = [0.0] * 6 + [1e-12]
    value, slope = derivatives(censored(name), BELOW + ELSEWHERE + BELOW[:1], f)
    np.testing.assert_array_equal(value[:-1], [0.0] * 3 + [-np.inf] * 3)
    assert not np.any(slope[:-1])
    assert value[-1] == pytest.approx(0.0, abs=1e-2 if name == "Box-Cox" else 1e-9)


def some(quick):
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in VANISHING]


@pytest.mark.slow
@pytest.mark.parametrize("name", some(["log-normal"]))
def test_second_derivatives(name):
    *_, curvature = derivatives(censored(name), BELOW + ELSEWHERE, order=2)
    assert not np.any(curvature)


@pytest.mark.parametrize("method", ["M1", "M2", pytest.param("M4", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", some(["proportional"]))
def test_whatever_the_method(name, method):
    given = ELSEWHERE if method == "M4" else ELSEWHERE[:1]  # M1 and M2 leave censored records out
    value, slope = derivatives(censored(name, method), BELOW + given)
    np.testing.assert_array_equal(value, [0.0] * 3 + [-np.inf] * len(given))
    assert not np.any(slope)


@pytest.mark.parametrize("name", some(["log-normal", "Student, proportional"]))
def test_another_value_there_is_impossible_without_censoring_too(name):
    value, slope = derivatives(VANISHING[name], ELSEWHERE[:1])
    assert value == -np.inf and not np.any(slope)


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n != "additive")) for n in STAYING])
def test_an_error_that_stays_is_an_ordinary_distribution_there(name):
    value, slope = derivatives(lambda f, s: nlme.censored(STAYING[name](f, s)), BELOW[:1] * 2, [0.0, 1e-9])
    assert -1.0 < value[0] < -0.1
    np.testing.assert_allclose(value[0], value[1], atol=1e-7)
    np.testing.assert_allclose(slope[0], slope[1], rtol=1e-6, atol=1e-7)


def test_at_the_upper_end_of_a_logit():
    def law(f, s):
        return nlme.censored(nlme.logitnormal(f, s, 0.0, 1.0))

    value, slope = derivatives(law, [(0.9, -1, np.nan), (0.1, 1, np.nan)], 1.0)
    assert value.tolist() == [0.0, -np.inf] and not np.any(slope)


def ladder(f, s):
    """Cumulative logits of three categories, the first of them certain for f = 0."""
    return nlme.ordered(logits=(logit(f), logit(f) - s))


def logit(x):
    """Of a small probability; as a careful user writes it."""
    return jnp.where(x == 0.0, -jnp.inf, jnp.log(jnp.where(x == 0.0, 1.0, x)))


CERTAIN = {
    "count 0 at rate 0": (lambda f, s: nlme.poisson(f * s), 0, [-0.3, 0.0]),
    "count 0 at mean 0": (lambda f, s: nlme.negative_binomial(f * s, 0.5), 0, [-0.3, 0.0]),
    "0 of probability 1": (lambda f, s: nlme.binary(f * s), 0, [-0.3, 0.0]),
    "1 of probability 1": (lambda f, s: nlme.binary(1.0 - f * s), 1, [-0.3, 0.0]),
    "0 by its logit": (lambda f, s: nlme.binary(logit=logit(f) + s), 0, [0.0, 0.0]),
    "a category of probability 1": (lambda f, s: nlme.ordered(probabilities=(1.0 - f * s, f * s, 0.0)), 0, [-0.3, 0.0]),
    "a category by logits": (ladder, 0, [0.0, 0.0]),
    "no event at hazard 0": (lambda f, s: nlme.time_to_event(f * s, f), 0, [0.0, 0.0]),
}
IMPOSSIBLE = {
    "count 1 at rate 0": (lambda f, s: nlme.poisson(f * s), 1),
    "count 3 at mean 0": (lambda f, s: nlme.negative_binomial(f * s, 0.5), 3),
    "1 of probability 0": (lambda f, s: nlme.binary(f * s), 1),
    "0 of probability 0": (lambda f, s: nlme.binary(1.0 - f * s), 0),
    "a category of probability 0": (lambda f, s: nlme.ordered(probabilities=(1.0 - f * s, f * s, 0.0)), 1),
    "another category of probability 0": (lambda f, s: nlme.ordered(probabilities=(1.0 - f * s, f * s, 0.0)), 2),
    "a category between equal logits": (lambda f, s: nlme.ordered(logits=(1.0 + f, 1.0 + f)), 1),
    "an event at hazard 0": (lambda f, s: nlme.time_to_event(f * s, f), 1),
    # whose density would be above 1
    "1 of a probability above 1": (lambda f, s: nlme.binary(1.2 + f * s), 1),
    "0 of a probability below 0": (lambda f, s: nlme.binary(f * s - 0.2), 0),
    "count 0 at a rate below 0": (lambda f, s: nlme.poisson(f * s - 1.2), 0),
    "count 0 at a mean below 0": (lambda f, s: nlme.negative_binomial(f * s - 1.2, 0.5), 0),
    "count 2 with a dispersion below 0": (lambda f, s: nlme.negative_binomial(1.2 + f * s, -0.5), 2),
    "a category below logits that cross": (lambda f, s: nlme.ordered(logits=(f * s - 1.2, 1.2)), 0),
    "a category above logits that cross": (lambda f, s: nlme.ordered(logits=(f * s - 1.2, 1.2)), 2),
    "a category beside one of probability below 0": (
        lambda f, s: nlme.ordered(probabilities=(1.2 + f * s, 0.3, -0.5 - f * s)),
        1,
    ),
}


@pytest.mark.parametrize("name", CERTAIN)
def test_categories_counts_and_events_that_are_certain(name):
    law, y, slope = CERTAIN[name]
    value, found, second = derivatives(law, [(y, 0, np.nan)], order=2)
    assert value == pytest.approx(0.0, abs=1e-14) and np.isfinite(second).all()
    np.testing.assert_allclose(found[0], slope, atol=1e-15)


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_categories_counts_and_events_that_are_impossible(name):
    law, y = IMPOSSIBLE[name]
    value, *slopes = derivatives(law, [(y, 0, np.nan)], order=2)
    assert value == -np.inf and all(np.isfinite(x).all() for x in slopes)


def test_a_probability_above_1_by_rounding_is_1():
    value, *slopes = derivatives(lambda f, s: nlme.binary(1.0 + 3e-16 + f * s), [(1, 0, np.nan)], order=1)
    assert value == 0.0 and all(np.isfinite(x).all() for x in slopes)


@pytest.mark.slow
def test_a_search_does_not_go_where_probabilities_are_above_1():
    """p exp(eta) as a probability: by quadrature over the etas for which it is one."""

    class Often(nlme.Model):
        p: nlme.Scalar = nlme.positive(0.7)
        omega: nlme.Covariance = nlme.covariance(p=0.01)

        def individual(self, eta, cov):
            return dict(p=self.p * jnp.exp(eta.p))

        def observe(self, ind, state, t):
            return {"y": nlme.binary(ind.p)}

    seen = [[1, 1, 1], [1, 1, 1, 1], [1, 0, 1, 1], [1, 1, 1, 1], [1, 1, 1]]
    people = nlme.Population(tuple(nlme.Subject(id=i + 1, time=np.arange(len(y)), dv=y) for i, y in enumerate(seen)))
    fit = nlme.fit(Often(), people, nlme.ImportanceSampling(samples=4000), fixed=["omega"], starts=0, progress=False)
    grid = np.linspace(-8.0, 8.0, 160001)
    p = float(fit.estimates["p"]) * np.exp(0.1 * grid)
    prior, inside, exact = np.exp(-0.5 * grid**2) / np.sqrt(2 * np.pi), p <= 1.0, 0.0
    p = np.where(inside, p, 0.5)
    for y in seen:
        density = np.where(inside, p ** sum(y) * (1 - p) ** (len(y) - sum(y)), 0.0)
        exact -= 2 * np.log(np.sum(density * prior) * (grid[1] - grid[0]))
    assert p.max() < 1.0 or abs(fit.objective - exact) < 0.3
    assert fit.predictions.IPRED.max() <= 1.0 and float(fit.estimates["p"]) < 1.0
    assert abs(fit.objective - exact) < 0.3 and fit.objective > 9.9 - 0.3  # the minimum is 9.912, at 0.865


@pytest.mark.slow
def test_drawn_where_the_prediction_is_zero():
    key = jax.random.key(0)
    for law in VANISHING.values():
        assert law(jnp.asarray(0.0), 0.3).sample(jnp.asarray(1.7), key) == 0.0
    for law in (nlme.poisson(0.0), nlme.negative_binomial(0.0, 0.5), nlme.binary(0.0)):
        assert law.sample(jnp.asarray(0.3), key) == 0.0


class Vanishing(nlme.Model):
    """f = a t, 0 at the first record of every endpoint."""

    a: nlme.Scalar = nlme.positive(1.4)
    s: nlme.Scalar = nlme.positive(0.3)
    omega: nlme.Covariance = nlme.covariance(a=0.1)
    method = "M1"

    def individual(self, eta, cov):
        return dict(a=self.a * jnp.exp(eta.a))

    def observe(self, ind, state, t):
        f = ind.a * t
        return {"value": nlme.censored(nlme.lognormal(f, self.s), self.method)}


class NotNormal(Vanishing):
    method = "M3"

    def observe(self, ind, state, t):
        return super().observe(ind, state, t) | {"count": nlme.poisson(ind.a * t)}


def population(model, certain: bool) -> nlme.Population:
    """Two records of every endpoint, and before them, where ``certain``, one at which it is."""
    rows = []
    for who in (1, 2):
        for kind, values in enumerate([(LIMIT, 0.8, 1.0 + 0.3 * who), (0, 0, 1)][: 1 + (model is NotNormal)], 1):
            rows += [
                (who, t, y, kind, int(kind == 1 and t == 0)) for t, y in zip((0.0, 0.5, 1.0), values, strict=True) if certain or t
            ]
    table = pd.DataFrame(rows, columns=["ID", "TIME", "DV", "DVID", "CENS"]).sort_values(["ID", "TIME"], kind="stable")
    return nlme.read_nonmem(table, dvid={1: "value", 2: "count"} if model is NotNormal else {1: "value"})


def objective_of(model, method, certain: bool):
    """Sum over subjects as a function of the parameters, with its gradient, and the point where the model stands."""
    inventory, layout = Inventory(model()), lay_out(model(), population(model, certain))
    effects = jnp.zeros((layout.n_subjects, len(layout.anatomy.effects)))

    def at(u):
        found = evaluate_subjects(method, layout.anatomy, inventory, model(), layout.arrays, jnp.asarray(u), effects)
        return float(np.sum(found.value)), np.sum(np.asarray(found.gradient), axis=0)

    return at, np.asarray(inventory.unconstrained(model()))


WAYS = [(Vanishing, nlme.FOCEI()), (Vanishing, nlme.FOCE()), (Vanishing, nlme.FO())]
WAYS += [(NotNormal, method) for method in (nlme.Laplace(), nlme.AGQ(3), nlme.ImportanceSampling(40), nlme.NaivePooled())]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "method"),
    [pytest.param(*way, marks=[] if way[0] is Vanishing and way[1] == nlme.FOCEI() else [pytest.mark.slow]) for way in WAYS],
    ids=[repr(method) for _, method in WAYS],
)
def test_objective_and_gradient_of_every_method(model, method):
    """As without the records that are certain, and the gradient that of central differences."""
    with_, u = objective_of(model, method, True)
    without, _ = objective_of(model, method, False)
    (value, gradient), (expected, slope) = with_(u), without(u)
    assert value == pytest.approx(expected, abs=1e-8)
    np.testing.assert_allclose(gradient, slope, rtol=1e-6, atol=1e-6)
    for k, h in enumerate(1e-4 * np.eye(len(u))):
        assert gradient[k] == pytest.approx((with_(u + h)[0] - with_(u - h)[0]) / 2e-4, rel=1e-5, abs=1e-5)


class Counted(nlme.Model):
    rate: nlme.Scalar = nlme.positive(1.0)
    omega: nlme.Covariance = nlme.covariance(rate=0.1)
    law = staticmethod(nlme.poisson)

    def individual(self, eta, cov):
        return dict(rate=self.rate * jnp.exp(eta.rate))

    def observe(self, ind, state, t):
        return {"y": self.law(ind.rate * t)}


@pytest.mark.parametrize(
    ("law", "said"),
    [
        (nlme.poisson, r"row 2 \(time 0, DV 1\).*log density.*-inf.*impossible"),
        (lambda f: nlme.proportional(f, 0.2), r"row 2 \(time 0, DV 1\): the observation is impossible where the prediction is 0"),
    ],
    ids=["count", "proportional"],
)
def test_what_is_impossible_is_said(law, said):
    model = type("Model", (Counted,), {"law": staticmethod(law)})()
    table = pd.DataFrame(dict(ID=["a", "b", "b"], TIME=[1.0, 0.0, 1.0], DV=[1.0, 1.0, 2.0]))
    with pytest.raises(nlme.FitError, match=rf"(?s)subject b: {said}"):
        nlme.evaluate(model, nlme.read_nonmem(table), nlme.Laplace())


@pytest.mark.parametrize("name", [name for name in IMPOSSIBLE if " above 1" in name or " below " in name or " cross" in name])
def test_nothing_is_drawn_or_predicted_without_a_distribution(name):
    law = IMPOSSIBLE[name][0]

    class Wrong(nlme.Model):
        def individual(self, eta, cov):
            return dict(f=jnp.zeros(()))

        def observe(self, ind, state, t):
            return {"y": law(ind.f, 0.3)}

    people = nlme.Population((nlme.Subject(id="A", time=[0.0, 1.5], dv=[0.0, 0.0]),))
    for verb in (lambda: nlme.predict(Wrong(), people), lambda: nlme.simulate(Wrong(), people, key=1, eta="typical")):
        with pytest.raises(
            nlme.FitError, match="Endpoint 'y' .* has no distribution for subject A at time 0: a probability outside 0 to 1"
        ):
            verb()
