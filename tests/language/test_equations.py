"""The equations of a model are those that it computes, in its own names."""

import jax
import jax.numpy as jnp
import pytest

import nlme
from nlme import Scalar
from nlme.language.anatomy import individual_row, structure_of
from nlme.models.theophylline import Theophylline
from nlme.typing import Named

sympy = pytest.importorskip("sympy")


class Warfarin(nlme.Model):
    """Turnover of prothrombin under warfarin, with everything that an individual parameter can look like."""

    cl: Scalar = nlme.positive(0.134)
    v: Scalar = nlme.positive(8.1)
    ka: Scalar = nlme.positive(1.3)
    f: Scalar = nlme.probability(0.6)
    lag: Scalar = nlme.positive(0.4)
    kin: Scalar = nlme.positive(5.0)
    kout: Scalar = nlme.positive(0.05)
    ic50: Scalar = nlme.positive(1.2)
    hill: Scalar = nlme.positive(1.5)
    b_sex: Scalar = nlme.real(0.2)
    by_race: nlme.Vector = nlme.real([0.1, 0.2, 0.3])
    omega: nlme.Covariance = nlme.covariance(cl=0.09, v=0.04, f=0.3, correlation={("cl", "v"): 0.5})
    between: nlme.Covariance = nlme.covariance(cl_occ=0.02, per="occasion")
    add: Scalar = nlme.positive(0.25)
    prop: Scalar = nlme.positive(0.06)
    covariates = {"wt": "kg", "sex": "", "race": ""}

    def individual(self, eta, cov):
        female = jnp.where(cov.sex == 1, jnp.exp(self.b_sex), 1.0)
        return dict(
            cl=self.cl * (cov.wt / 70.0) ** 0.75 * female * jnp.exp(eta.cl + eta.cl_occ),
            v=self.v * (cov.wt / 70.0) * jnp.exp(eta.v),
            ka=self.ka * jnp.exp(self.by_race[cov.race.astype(int)]),
            f=jax.nn.sigmoid(jnp.log(self.f / (1.0 - self.f)) + eta.f),
            lag=jnp.where(cov.wt > 50.0, self.lag, 2.0 * self.lag),
            kin=self.kin,
        )

    def dynamics(self, ind):
        def rhs(t, a):
            power = (a.central / ind.v / self.ic50) ** self.hill
            return {
                "depot": -ind.ka * a.depot,
                "central": ind.ka * a.depot - ind.cl / ind.v * a.central,
                "response": ind.kin * (1.0 - power / (1.0 + power)) - self.kout * a.response,
            }

        return nlme.ODE(
            rhs,
            ("depot", "central", "response"),
            {"response": ind.kin / self.kout},
            lag=ind.lag,
            bioavailability={"depot": ind.f},
        )

    def observe(self, ind, state, t):
        return {
            "conc": nlme.combined(state.central / ind.v, add=self.add, prop=self.prop),
            "pca": nlme.lognormal(state.response, self.add),
        }


@pytest.fixture(scope="module")
def warfarin():
    return nlme.equations(Warfarin)


def test_theophylline_is_written_as_one_would():
    assert str(nlme.equations(Theophylline)) == (
        "Theophylline\n\n"
        "Individual parameters\n  ka_i = ka·exp(η_ka)\n  cl_i = cl·exp(η_cl)\n  v_i = v·exp(η_v)\n\n"
        "Dynamics: OneCompartmentOral (cl = cl_i, v = v_i, ka = ka_i)\n"
        "  d depot/dt = -ka_i·depot\n  d central/dt = -(cl_i/v_i)·central + ka_i·depot\n\n"
        "Observation conc: combined\n  prediction = central/v_i\n  add = add\n  prop = prop\n\n"
        "Random effects\n  (η_ka, η_cl, η_v) ~ N(0, Ω), one per subject\n"
        "    var(ka) = ω²_ka\n    var(cl) = ω²_cl\n    var(v) = ω²_v"
    )


def test_latex_has_the_powers_and_cases_that_were_written(warfarin):
    latex = warfarin.latex()
    assert (
        r"cl_{i} &= cl \cdot \left(\frac{wt}{70}\right)^{0.75} \cdot \begin{cases} e^{b_{sex}} & \text{if } sex = 1 \\ 1 & "
        r"\text{otherwise} \end{cases} \cdot e^{\eta_{cl} + \eta_{cl\_occ}} \\"
    ) in latex
    assert r"\frac{d\,central}{dt} &= ka_{i} \cdot depot - \frac{cl_{i} \cdot central}{v_{i}} \\" in latex
    assert r"\omega^2_{cl} & \omega_{v,cl} & 0" in latex
    assert latex.count("{") == latex.count("}") and latex.count(r"\left") == latex.count(r"\right")


def test_mathml_is_well_formed_and_stands_alone(warfarin):
    import xml.etree.ElementTree as tree

    page = tree.fromstring(warfarin.html())
    assert page.tag == "div" and "http" not in warfarin.html()
    assert len(list(page.iter("math"))) == 6 + 6 + 3 + 2 + 2
    assert "<h4>Equations</h4>" in nlme.describe(Warfarin)._repr_html_()


def test_text_names_levels_and_error_models(warfarin):
    text = str(warfarin)
    assert "one per occasion" in text and "cov(v, cl) = ω_v,cl" in text
    assert "ka_i = ka·exp({by_race[0] if int(race) = 0; by_race[1] if int(race) = 1; else by_race[2]})" in text
    assert "lag(depot) = lag_i" in text and "response(0) = kin_i/kout" in text
    assert warfarin.errors == {"conc": "combined", "pca": "lognormal"}
    assert warfarin.observations["pca"] == {"prediction": warfarin.symbols["state.response"], "sd": warfarin.symbols["self.add"]}


def _at(equations, formula, **numbers):
    """A formula with numbers for symbols, by sympy itself."""
    return float(formula.subs({equations.symbols[name.replace("__", ".")]: value for name, value in numbers.items()}))


@pytest.mark.parametrize("k", range(3))
def test_individual_parameters_and_rates_are_the_models(warfarin, k):
    model = Warfarin()
    eta = {"cl": 0.1 - 0.2 * k, "v": 0.3, "f": -0.5 * k, "cl_occ": 0.07}
    cov = {"wt": 40.0 + 20.0 * k, "sex": float(k % 2), "race": float(k)}
    ind = individual_row(model, Named(eta), Named({name: jnp.asarray(x) for name, x in cov.items()}))
    fields = {
        f"self__{name}": float(getattr(model, name))
        for name in ("cl", "v", "ka", "f", "lag", "kin", "kout", "ic50", "hill", "b_sex")
    }
    fields |= {f"self__by_race[{j}]": float(model.by_race[j]) for j in range(3)}
    given = fields | {f"eta__{n}": x for n, x in eta.items()} | {f"cov__{n}": x for n, x in cov.items()}
    for name, formula in warfarin.individual.items():
        assert _at(warfarin, formula, **given) == pytest.approx(float(ind[name]), rel=1e-12)
    amounts = (3.0, 2.0 + k, 80.0)
    rates = structure_of(model, ind).flow(0.0, tuple(map(jnp.asarray, amounts)))
    given = fields | {f"ind__{n}": float(x) for n, x in ind.items()}
    given |= dict(zip(("state__depot", "state__central", "state__response"), amounts, strict=True))
    for rate, formula in zip(rates, warfarin.dynamics.values(), strict=True):
        assert _at(warfarin, formula, **given) == pytest.approx(float(rate), rel=1e-12)


class Binding(nlme.Model):
    """Nonlinear binding, and errors of many kinds."""

    kon: Scalar = nlme.positive(0.5)
    koff: Scalar = nlme.positive(0.1)
    kint: Scalar = nlme.positive(0.2)
    glyco: Scalar = nlme.real(0.2)
    group: nlme.Mixture = nlme.mixture(slow=0.3, fast=0.7)
    big: nlme.MLP = nlme.mlp(inputs=("glyco",), outputs=("kon", "kint"), width=4, depth=1, key=1)
    small: nlme.MLP = nlme.mlp(inputs=1, outputs=1, width=2, depth=1, key=2, initial_scale=1.0)
    omega: nlme.Covariance = nlme.covariance(kon=0.1)
    sd: Scalar = nlme.positive(0.3)
    lam: Scalar = nlme.real(0.5)
    covariates = {"glyco": ""}

    def individual(self, eta, cov):
        by = self.big(cov)
        return dict(
            kon=self.kon * jnp.exp(eta.kon + by.kon) * self.group.choose(slow=1.0, fast=2.0),
            kint=self.kint * jnp.exp(by.kint + self.glyco * (cov.glyco - 1.0)),
        )

    def dynamics(self, ind):
        def rhs(t, a):
            bound = ind.kon * a.ligand * a.target - self.koff * a.bound
            made = jax.lax.cond(t > 5.0, lambda x: 0.5 * x, lambda x: x, ind.kint) * (1.0 + jnp.tanh(self.small(a.bound)[0]))
            return {
                "ligand": -bound,
                "target": made - bound - 0.1 * a.target,
                "bound": bound - ind.kint * jnp.maximum(a.bound, 0.0),
            }

        return nlme.ODE(rhs, ("ligand", "target", "bound"), event_times=(5.0,))

    def observe(self, ind, state, t):
        f = state.ligand / 2.5
        return {
            "a": nlme.additive(f, self.sd),
            "b": nlme.proportional(f, self.sd),
            "c": nlme.combined(f, self.sd, self.lam, form="sd"),
            "d": nlme.power(f, self.sd, self.lam),
            "e": nlme.logitnormal(f, self.sd, 0.0, 50.0),
            "f": nlme.boxcox(f, self.sd, self.lam),
            "g": nlme.yeojohnson(f, self.sd, self.lam),
            "h": nlme.censored(nlme.lognormal(f, self.sd), lloq=0.1),
            "i": nlme.binary(logit=f - self.lam),
            "j": nlme.poisson(f * self.sd),
            "k": nlme.student_t(f, self.sd, 4.0),
            "l": nlme.loglik(lambda y: -jnp.abs(y - f) / self.sd),
        }


@pytest.fixture(scope="module")
def binding():
    return nlme.equations(Binding())


def test_error_models_are_named_as_their_constructors(binding):
    words = ["additive", "proportional", "combined (standard deviations add)", "power", "logitnormal", "boxcox", "yeojohnson"]
    words += ["lognormal, censored (M3)", "binary", "poisson", "student_t", "loglik"]
    assert list(binding.errors.values()) == words
    prediction = binding.symbols["state.ligand"] / 2.5
    assert all((binding.observations[name]["prediction"] - prediction).doit() == 0 for name in "abcdefgh")


def test_a_large_network_is_a_function_and_a_small_one_is_written_out(binding):
    text = str(binding)
    assert "kon_i = kon·exp(η_kon + NN_big_kon(glyco_cov))·{2 if group = 1; else 1}" in text
    assert "tanh(small.weights[0][0, 0]·bound + small.biases[0][0])" in text
    assert "NN_big is a network (1-4-2 tanh) of 18 weights" in text and "0 = slow, 1 = fast" in text
    assert "t_1 = 5" in text and "{0.5·kint_i if t > 5; else kint_i}" in text


def test_networks_are_written_out_on_request_or_kept_whole():
    class One(Binding):
        def observe(self, ind, state, t):
            return {"a": nlme.additive(state.ligand, self.sd)}

    everything = nlme.equations(One, networks=True)
    assert "NN_" not in str(everything) and "tanh(big.weights[0][3, 0]·glyco_cov + big.biases[0][3])" in str(everything)
    assert "NN_small(bound)" in str(nlme.equations(One, largest=0))


def test_numbers_are_the_shortest_decimals():
    class Numbers(Theophylline):
        def individual(self, eta, cov):
            third = 1.0 / 3.0
            return dict(
                ka=self.ka * 0.1 + 1e-9, cl=self.cl**third * jnp.exp(eta.cl), v=self.v * jnp.exp(eta.v) / 70.0 + 1e22 * eta.ka
            )

    text = str(nlme.equations(Numbers))
    assert "ka_i = ka·0.1 + 1e-09" in text and "cl_i = cl^0.3333333333333333·exp(η_cl)" in text
    assert "v_i = v·exp(η_v)/70 + 1e+22·η_ka" in text
    assert r"10^{-9}" in nlme.equations(Numbers).latex()


@pytest.mark.parametrize(
    ("method", "primitive", "value"),
    [
        ("individual", "while", lambda x: jax.lax.while_loop(lambda y: y < 5.0, lambda y: 2.0 * y, x)),
        ("individual", "sort", lambda x: jnp.sort(jnp.stack([x, 1.0]))[0]),
        ("individual", "digamma", jax.scipy.special.digamma),
    ],
)
def test_what_has_no_formula_is_refused_by_its_name(method, primitive, value):
    class Odd(Theophylline):
        def individual(self, eta, cov):
            return super().individual(eta, cov) | {"cl": value(self.cl) * jnp.exp(eta.cl)}

    with pytest.raises(nlme.ModelError, match=rf"Odd\.{method}: the operation '{primitive}', which 'cl' needs, has no formula"):
        nlme.equations(Odd)
    assert "Equations" not in nlme.describe(Odd)._repr_html_()


def test_a_formula_that_is_not_what_the_model_computes_is_refused(monkeypatch):
    from nlme.language import traced

    monkeypatch.setitem(traced._ELEMENTWISE, "exp", lambda x: x)
    with pytest.raises(nlme.ModelError, match="does not give what the model computes"):
        nlme.equations(Theophylline)


def test_loops_of_known_length_derivatives_and_checkpoints_are_read():
    class Loops(Theophylline):
        def individual(self, eta, cov):
            series = jax.lax.fori_loop(0, 3, lambda k, x: x * 0.5 + k, self.cl)
            slope = jax.grad(lambda x: x**3)(self.v)
            return dict(cl=series * jnp.exp(eta.cl), v=jax.checkpoint(lambda x: x * jnp.exp(eta.v))(slope), ka=self.ka + eta.ka)

    found = nlme.equations(Loops)
    v, eta = found.symbols["self.v"], found.symbols["eta.v"]
    assert float(found.individual["v"].subs({v: 2.0, eta: 0.0})) == 12.0
    assert float(found.individual["cl"].subs({found.symbols["self.cl"]: 8.0, found.symbols["eta.cl"]: 0.0})) == 3.5


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (
            lambda s, c: jnp.select([c.race == 0, c.race == 1], [s.by[0], s.by[1]], s.cl),
            "{by[0] if race = 0; by[1] if race = 1; else cl}",
        ),
        (
            lambda s, c: jax.lax.switch(c.race.astype(int), [lambda x: x, lambda x: 2.0 * x], s.cl),
            "{cl if int(race) ≤ 0; else 2·cl}",
        ),
        (
            lambda s, c: jnp.where((c.wt > 50) & ~(c.race == 1) | (c.wt < 30), s.cl, 2.0),
            "{cl if (race ≠ 1 and wt > 50) or wt < 30; else 2}",
        ),
        (lambda s, c: jnp.where((c.wt > 50) ^ (c.race == 1), s.cl, 2.0), None),
        (lambda s, c: jnp.where(jnp.where(c.race == 1, c.wt > 50, c.wt > 80), s.cl, 2.0), None),
        (lambda s, c: s.cl * (1.0 - c.wt % 24.0 + c.wt // 24.0), "cl·(1 - mod(wt, 24) + floor(wt/24))"),
        (lambda s, c: s.by.at[1].set(c.wt).sum() + jnp.cumsum(s.by)[1], "by[0] + wt + by[2] + by[0] + by[1]"),
        (lambda s, c: jax.grad(lambda b: b[0] * b[1] ** 2)(s.by)[1], None),
        (lambda s, c: jnp.take(s.by, c.race.astype(int)), "{by[0] if int(race) = 0; by[1] if int(race) = 1; else by[2]}"),
        (lambda s, c: jnp.dot(s.by, s.by) + jnp.linalg.norm(s.by) + jnp.max(s.by), None),
        (lambda s, c: jax.nn.softplus(s.cl) + jnp.clip(c.wt, 40.0, 90.0), "log(1 + exp(cl)) + min(90, max(40, wt))"),
        (lambda s, c: s.cl - 2.0 * (s.cl - c.wt / 70.0) / (-c.wt), "cl - 2·(cl - wt/70)/(-wt)"),
    ],
)
def test_operations_are_written_as_what_they_are(value, written):
    """Whatever is read has been compared with the model; where its text is given, it is that."""

    class One(nlme.Model):
        cl: Scalar = nlme.positive(2.0)
        by: nlme.Vector = nlme.real([0.1, 0.2, 0.3])
        sd: Scalar = nlme.positive(0.1)
        covariates = {"wt": "kg", "race": ""}

        def individual(self, eta, cov):
            return dict(x=value(self, cov))

        def observe(self, ind, state, t):
            return {"y": nlme.additive(ind.x, self.sd)}

    found = nlme.equations(One)
    assert found.structure == "" and found.omega == {}
    if written:
        assert f"x_i = {written}\n" in str(found)


def test_words_that_mean_two_things_are_told_apart():
    class Same(Theophylline):
        t: Scalar = nlme.positive(2.0)
        eta_cl: Scalar = nlme.positive(3.0)
        cl_i: Scalar = nlme.positive(3.0)
        covariates = {"cl": ""}

        def individual(self, eta, cov):
            return super().individual(eta, cov) | {"cl": self.cl * self.t * self.eta_cl * self.cl_i * cov.cl * jnp.exp(eta.cl)}

    found = nlme.equations(Same)
    assert "cl_ind = cl·theta_t·theta_eta_cl·cl_i·cl_cov·exp(η_cl)\n" in str(found)
    assert len({symbol.name for symbol in found.symbols.values()}) == len(found.symbols)


def test_what_is_not_a_model_is_refused():
    with pytest.raises(nlme.ModelError, match="takes a model, its class or a fit; got int"):
        nlme.equations(3)


def test_a_formula_may_pass_through_infinity():
    """x^-1.1 at x = 0, whose inverse is 0: a number in the model, and so in its equation."""

    class Young(nlme.Model):
        cl: Scalar = nlme.positive(1.0)
        omega: nlme.Covariance = nlme.covariance(cl=0.1)
        sd: Scalar = nlme.positive(0.1)
        covariates = {"age": "years"}

        def individual(self, eta, cov):
            return dict(cl=self.cl * jnp.exp(eta.cl) * (1.0 + 1.0 / (1.0 + (cov.age / 7.1) ** (-1.1))))

        def observe(self, ind, state, t):
            return {"y": nlme.additive(ind.cl, self.sd)}

    assert "(age/7.1)^(-1.1)" in str(nlme.equations(Young))
