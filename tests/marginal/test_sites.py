"""A level above the subject (site, study): exact where all is linear and Gaussian, by brute force otherwise."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from scipy.integrate import simpson
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

import nlme
from nlme.language.layout import lay_out
from nlme.marginal.objective import evaluate_subjects
from nlme.parameters.inventory import Inventory

METHODS = [nlme.FO(), nlme.FOCE(), nlme.FOCEI(), nlme.Laplace(), nlme.AGQ(points=3)]


class Levels(nlme.Model):
    """A straight line; its level varies between sites, between subjects and between occasions."""

    level: nlme.Scalar = nlme.real(2.5)
    slope: nlme.Scalar = nlme.real(-0.1)
    omega: nlme.Covariance = nlme.covariance(level=0.3)
    sites: nlme.Covariance = nlme.covariance(
        level_site=0.4, slope_site=0.05, correlation={("level_site", "slope_site"): 0.3}, per="SITE"
    )
    sd: nlme.Scalar = nlme.positive(0.4)

    def individual(self, eta, cov):
        return dict(level=self.level + eta.level + eta.level_site, slope=self.slope + eta.slope_site)

    def observe(self, ind, state, t):
        return {"y": nlme.additive(ind.level + ind.slope * t, self.sd)}


class Visits(Levels):
    visits: nlme.Covariance = nlme.covariance(level_occ=0.1, per="occasion")

    def individual(self, eta, cov):
        return dict(level=self.level + eta.level + eta.level_site + eta.level_occ, slope=self.slope + eta.slope_site)


class OnlySites(Levels):
    """Subjects of a site differ by error alone."""

    omega: nlme.Scalar = nlme.positive(1.0)

    def individual(self, eta, cov):
        return dict(level=self.level + eta.level_site, slope=self.slope + eta.slope_site)

    def observe(self, ind, state, t):
        return {"y": nlme.additive(ind.level + ind.slope * t, self.sd * self.omega)}


def lines() -> pd.DataFrame:
    """Eight sites of 2 or 3 subjects, with 3 to 5 observations each; the sites' subjects do not stand together."""
    random = np.random.default_rng(4)
    site = random.permutation(np.repeat(np.arange(8), [2, 3, 2, 2, 3, 2, 2, 2]))
    at_site, on_slope, rows = random.normal(size=8) * 0.7, random.normal(size=8) * 0.3, []
    for i, s in enumerate(site):
        own = random.normal() * 0.5
        for t in range(3 + i % 3):
            y = 3.0 + at_site[s] + own + (on_slope[s] - 0.2) * t + 0.3 * random.normal()
            rows.append(dict(ID=i + 1, TIME=t, DV=y, SITE=f"s{s}", OCC=1 + (t > 1)))
    return pd.DataFrame(rows)


LINES = lines()


def exact(model: Levels, data=LINES) -> np.ndarray:
    """-2 log density of every site without n log 2 pi, from the multivariate normal of all its observations."""
    values, sites = [], np.asarray(model.sites.matrix)
    for _, d in data.groupby("SITE"):
        t, who = d.TIME.to_numpy(float), d.ID.to_numpy()
        design = np.stack([np.ones_like(t), t], axis=1)
        same = who[:, None] == who[None, :]
        covariance = design @ sites @ design.T + float(model.sd) ** 2 * np.eye(len(t))
        if isinstance(model.omega, nlme.Covariance):
            covariance += float(model.omega.matrix[0, 0]) * same
        if isinstance(model, Visits):
            covariance += float(model.visits.matrix[0, 0]) * (same & (d.OCC.to_numpy()[:, None] == d.OCC.to_numpy()[None, :]))
        mean = design @ np.array([model.level, model.slope])
        values.append(-2 * multivariate_normal(mean, covariance).logpdf(d.DV) - len(t) * np.log(2 * np.pi))
    return np.array(values)


@pytest.fixture(scope="module")
def population():
    return nlme.read_nonmem(LINES)


@pytest.fixture(scope="module")
def fit(population):
    return nlme.fit(Levels(), population, nlme.FOCEI(), progress=False)


def program(model, population, method):
    """Objective and gradient as a function of the unconstrained parameters, and where they stand."""
    layout, inventory = lay_out(model, population), Inventory(model)
    starts = np.zeros((len(population), len(layout.anatomy.effects)))

    def at(u):
        return evaluate_subjects(method, layout.anatomy, inventory, model, layout.arrays, u, starts)

    return at, inventory.unconstrained(model)


def differences(at, u, h: float = 1e-3) -> np.ndarray:
    """The gradient by central differences, extrapolated once (Richardson)."""

    def by(h):
        return np.array([(at(u + h * e).value.sum() - at(u - h * e).value.sum()) / (2 * h) for e in np.eye(len(u))])

    return (4.0 * by(h) - by(2 * h)) / 3.0


@pytest.mark.slow
@pytest.mark.parametrize(
    "method", [m if m == nlme.FOCEI() else pytest.param(m, marks=pytest.mark.slow) for m in METHODS], ids=repr
)
def test_every_method_is_exact(method, population):
    found = nlme.evaluate(Levels(), population, method)
    np.testing.assert_allclose(found.values, exact(Levels()), rtol=1e-9)
    np.testing.assert_allclose(found.sites.objective, found.values)


@pytest.mark.slow
@pytest.mark.parametrize("form", [Visits, OnlySites], ids=lambda f: f.__name__)
def test_other_levels_below_are_exact(form, population):
    np.testing.assert_allclose(nlme.evaluate(form(), population, nlme.FOCEI()).values, exact(form()), rtol=1e-9)


@pytest.mark.slow
def test_modes_are_best_linear_predictions(population):
    """E(site's effects | y) and E(subject's effect | y), from the joint normal of both with the observations."""
    model = Levels()
    found, omega = nlme.evaluate(model, population, nlme.FOCEI()), float(model.omega.matrix[0, 0])
    for label, d in LINES.groupby("SITE"):
        t, who = d.TIME.to_numpy(float), d.ID.to_numpy()
        design = np.stack([np.ones_like(t), t], axis=1)
        member = (who[:, None] == np.unique(who)[None, :]).astype(float)
        ours, noise = design @ np.asarray(model.sites.matrix), float(model.sd) ** 2 * np.eye(len(t))
        covariance = ours @ design.T + omega * member @ member.T + noise
        weighted = np.linalg.solve(covariance, d.DV - design @ np.array([model.level, model.slope]))
        effects = found.sites.loc[label, ["level_site", "slope_site"]].astype(float)
        np.testing.assert_allclose(effects, ours.T @ weighted, atol=1e-6)
        np.testing.assert_allclose(found.eta.loc[np.unique(who), "level"], omega * member.T @ weighted, atol=1e-6)
        assert (found.eta.loc[np.unique(who), "level_site"] == found.sites.loc[label, "level_site"]).all()
        assert found.sites.loc[label, "n_subjects"] == member.shape[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "method"),
    [
        (Levels, nlme.FOCEI()),
        *(
            pytest.param(*pair, marks=pytest.mark.slow)
            for pair in ((Levels, nlme.FO()), (Visits, nlme.FOCEI()), (Levels, nlme.Laplace()), (Levels, nlme.AGQ(points=3)))
        ),
    ],
    ids=lambda x: getattr(x, "__name__", repr(x)),
)
def test_gradient_is_the_central_difference(form, method, population):
    at, u = program(form(), population, method)
    slope = np.asarray(at(u).gradient)
    assert slope.shape == (8, len(u))
    np.testing.assert_allclose(slope.sum(axis=0), differences(at, u), rtol=1e-6, atol=1e-6)


def test_fit_is_the_maximum_of_the_exact_likelihood(fit):
    inventory = Inventory(Levels())
    start = np.asarray(inventory.unconstrained(Levels()))

    def objective(u):
        return exact(inventory.at_unconstrained(Levels(), jnp.asarray(u))).sum()

    best = minimize(objective, start, method="BFGS", options={"gtol": 1e-5})
    assert fit.converged, fit.verdict
    assert fit.objective == pytest.approx(best.fun, abs=1e-5)
    np.testing.assert_allclose(inventory.unconstrained(fit.model), best.x, atol=2e-3)
    assert fit.inventory.names[3:6] == ["sites.level_site", "sites.slope_site,level_site", "sites.slope_site"]


@pytest.mark.slow
def test_standard_errors_are_those_of_the_exact_likelihood(fit):
    """R from second differences of the exact likelihood in the natural parameters."""
    inventory = fit.inventory
    p = np.asarray(inventory.natural(fit.model))
    h = 1e-3 * np.maximum(np.abs(p), 0.05)

    def value(p):
        return exact(inventory.at_natural(fit.model, jnp.asarray(p))).sum()

    size, steps = len(p), np.diag(h)
    hessian = np.zeros((size, size))
    for i in range(size):
        for j in range(i + 1):
            corners = [a * b * value(p + a * steps[i] + b * steps[j]) for a in (1, -1) for b in (1, -1)]
            hessian[i, j] = hessian[j, i] = sum(corners) / (4 * h[i] * h[j])
    expected = np.sqrt(np.diagonal(np.linalg.inv(0.5 * hessian)))
    assert fit.covariance.kind == "R"
    np.testing.assert_allclose(fit.covariance.standard_errors, expected, rtol=2e-3)


def test_scores_are_of_the_sites(fit):
    """S is the sum over sites, whose scores are independent; central differences of each site's exact value."""
    inventory, p = fit.inventory, np.asarray(fit.inventory.natural(fit.model))

    def values(p):
        return exact(inventory.at_natural(fit.model, jnp.asarray(p)))

    steps = np.diag(1e-4 * np.maximum(np.abs(p), 0.05))
    scores = np.array([(values(p + e) - values(p - e)) / (2 * e.sum()) for e in steps]).T
    np.testing.assert_allclose(fit.covariance.information_s, 0.25 * scores.T @ scores, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_what_a_fit_tells(fit):
    table = nlme.table(fit).set_index("parameter")
    sites = fit.sites
    assert list(sites.index) == [f"s{k}" for k in range(8)] and sites.n_subjects.sum() == 18
    sd = float(fit.model.sites.sd[0])
    expected = 100 * (1 - np.std(sites.level_site, ddof=1) / sd)
    assert table.loc["sites.level_site", "shrinkage_percent"] == pytest.approx(expected)
    assert table.loc["sites.level_site", "rse_percent"] > 0
    assert "18 subjects of 8 values of SITE" in repr(fit)
    assert not fit.audit.problems
    assert len(fit.modes["level_site"]) == 8 and len(fit.modes["level"]) == 18  # one bar of a histogram for each draw
    np.testing.assert_allclose(nlme.predict(fit).query("EVID == 0").y, fit.predictions.IPRED, rtol=1e-9)
    np.testing.assert_allclose(fit.predictions.PRED, fit.model.level + fit.model.slope * fit.predictions.TIME, rtol=1e-9)
    described = str(nlme.describe(Levels))
    assert "level_site  SITE" in described
    thorough = nlme.audit(fit, starts=2, samples=10)
    assert not thorough.problems and "per SITE" in thorough["several starts"].sentence


def test_weighted_residuals_know_the_site(fit):
    """WRES of a subject: its observations' marginal covariance holds the variance of its site."""
    model, first = fit.model, LINES[LINES.ID == 1]
    t = first.TIME.to_numpy(float)
    design = np.stack([np.ones_like(t), t], axis=1)
    covariance = design @ np.asarray(model.sites.matrix) @ design.T + float(model.omega.matrix[0, 0])
    covariance += float(model.sd) ** 2 * np.eye(len(t))
    values, vectors = np.linalg.eigh(covariance)
    white = vectors @ (vectors.T @ (first.DV - design @ np.array([model.level, model.slope])) / np.sqrt(values))
    np.testing.assert_allclose(fit.predictions.query("ID == 1").WRES, white, rtol=1e-6)


def test_a_saved_fit_opens_with_its_sites(fit, tmp_path):
    fit.save(tmp_path / "fit")
    again = nlme.load(tmp_path / "fit", model=Levels)
    pd.testing.assert_frame_equal(again.sites, fit.sites)
    pd.testing.assert_frame_equal(again.subjects, fit.subjects)
    assert again.objective == fit.objective and repr(again) == repr(fit)


def test_simulated_sites_differ_as_declared():
    """Subjects of a site share its draw, which is new in every replicate, and has the variance declared."""
    many = pd.DataFrame({"ID": np.arange(800), "TIME": 0.0, "DV": 1.0, "SITE": np.arange(800) // 2})
    drawn = nlme.simulate(Levels(), nlme.read_nonmem(many), key=5, eta="new", replicates=2, noise=False)
    by_site = drawn.assign(SITE=drawn.ID // 2).groupby(["REPLICATE", "SITE"])
    assert (by_site["eta.level_site"].nunique() == 1).all() and (by_site["eta.level"].nunique() == 2).all()
    effects = by_site[["eta.level_site", "eta.slope_site"]].first()
    assert not np.allclose(effects.loc[1], effects.loc[2])
    np.testing.assert_allclose(np.cov(effects.T), Levels().sites.matrix, rtol=0.15, atol=2e-3)
    y = drawn.assign(SITE=drawn.ID // 2).groupby(["REPLICATE", "SITE"]).DV
    covariance = np.mean([(g.iloc[0] - 2.5) * (g.iloc[1] - 2.5) for _, g in y])
    assert covariance == pytest.approx(0.4, rel=0.15)


def test_new_records_keep_the_site(population):
    asked = population.with_times([0.0, 7.0])
    assert nlme.simulate(Levels(), asked, key=1, eta="new").groupby("ID")["eta.level_site"].nunique().eq(1).all()


# -- a nonlinear model ------------------------------------------------------------------------------------------------


class Oral(nlme.Model):
    cl: nlme.Scalar = nlme.positive(1.0)
    v: nlme.Scalar = nlme.positive(10.0)
    ka: nlme.Scalar = nlme.positive(1.2)
    omega: nlme.Covariance = nlme.covariance(cl=0.09, v=0.04)
    sites: nlme.Covariance = nlme.covariance(cl_site=0.1, per="site")
    prop: nlme.Scalar = nlme.positive(0.15)

    def individual(self, eta, cov):
        return dict(cl=self.cl * jnp.exp(eta.cl + eta.cl_site), v=self.v * jnp.exp(eta.v), ka=self.ka)

    def dynamics(self, ind):
        return nlme.pk.OneCompartmentOral(cl=ind.cl, v=ind.v, ka=ind.ka)

    def observe(self, ind, state, t):
        return {"conc": nlme.proportional(state.central / ind.v, self.prop)}


class OralODE(Oral):
    def dynamics(self, ind):
        def rates(t, a):
            return {"depot": -ind.ka * a.depot, "central": ind.ka * a.depot - ind.cl / ind.v * a.central}

        return nlme.ODE(rates, ("depot", "central"))


class Alone(Oral):
    """No sites."""

    sites: nlme.Scalar = nlme.positive(1.0)

    def individual(self, eta, cov):
        return dict(cl=self.cl * self.sites * jnp.exp(eta.cl), v=self.v * jnp.exp(eta.v), ka=self.ka)


def oral(site) -> nlme.Population:
    """Subjects of these sites, simulated."""
    rows = [
        dict(ID=i + 1, TIME=t, DV=np.nan if t == 0 else 1.0, AMT=100.0 * (t == 0), EVID=int(t == 0), site=s)
        for i, s in enumerate(site)
        for t in (0, 1, 4, 12, 24)
    ]
    data = pd.DataFrame(rows)
    drawn = nlme.simulate(Oral(), nlme.read_nonmem(data, covariates=["site"]), key=8, eta="new")
    data.loc[data.EVID == 0, "DV"] = drawn.DV.to_numpy()
    return nlme.read_nonmem(data, covariates=["site"])


@pytest.fixture(scope="module")
def trial():
    return oral([1, 1, 1, 2, 2, 3, 3, 3, 3, 4])


@pytest.mark.slow
@pytest.mark.parametrize("method", [nlme.FOCEI, pytest.param(nlme.Laplace, marks=pytest.mark.slow)], ids=lambda m: m.__name__)
def test_quadrature_against_brute_force(method, trial):
    """The site's effect integrated on a fine grid, its subjects' objectives by the model without sites."""
    z = np.linspace(-6.0, 6.0, 121)
    sd, (at, _), inventory = float(Oral().sites.sd[0]), program(Alone(), trial, method()), Inventory(Alone())
    given = np.stack([at(inventory.unconstrained(Alone(sites=np.exp(sd * x)))).value for x in z], axis=1)
    site = np.array([s.covariates["site"][0] for s in trial])
    expected = []
    for label in np.unique(site):
        joint = 0.5 * given[site == label].sum(axis=0) + 0.5 * z**2
        least = joint.min()
        expected.append(2 * least - 2 * np.log(simpson(np.exp(least - joint), x=z) / np.sqrt(2 * np.pi)))
    found = nlme.evaluate(Oral(), trial, method())
    np.testing.assert_allclose(found.values, expected, atol=1e-6)
    assert list(found.sites.index) == [1, 2, 3, 4]
    if method is nlme.FOCEI:
        fewer, more = (nlme.evaluate(Oral(), trial, method(site_points=n)).objective for n in (3, 15))
        assert 1e-6 < abs(fewer - more) < 1e-2 and abs(found.objective - more) < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("method", [nlme.FOCEI(), pytest.param(nlme.Laplace(), marks=pytest.mark.slow)], ids=repr)
def test_gradient_of_a_nonlinear_model(method, trial):
    at, u = program(Oral(), trial, method)
    np.testing.assert_allclose(np.asarray(at(u).gradient).sum(axis=0), differences(at, u), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_an_ode_is_the_closed_form(trial):
    (closed, u), (numerical, _) = (program(form(), trial, nlme.FOCEI()) for form in (Oral, OralODE))
    a, b = closed(u), numerical(u)
    np.testing.assert_allclose(b.value, a.value, atol=1e-6)
    np.testing.assert_allclose(b.gradient, a.gradient, atol=1e-4)


@pytest.mark.slow
def test_sites_of_one_subject_are_subjects(trial):
    """An effect per site is one per subject, if every subject is a site; both integrals by quadrature."""

    class PerSite(Oral):
        omega: nlme.Covariance = nlme.covariance(v=0.04)
        sites: nlme.Covariance = nlme.covariance(cl=0.09, per="number")

        def individual(self, eta, cov):
            return dict(cl=self.cl * jnp.exp(eta.cl), v=self.v * jnp.exp(eta.v), ka=self.ka)

    data = trial.to_frame().assign(number=lambda d: d.ID)
    nested = nlme.evaluate(PerSite(), nlme.read_nonmem(data), nlme.AGQ(points=21, site_points=21))
    flat = nlme.evaluate(Alone(), trial, nlme.AGQ(points=21))
    np.testing.assert_allclose(nested.values, flat.values, atol=2e-5)


# -- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.drop(columns="SITE"), ["per 'SITE'", "no such column"]),
        (lambda d: d.rename(columns={"SITE": "site"}), ["no such column", "Did you mean 'site'?"]),
        (lambda d: d.assign(SITE=np.where(d.index == 1, "s9", d.SITE)), ["subject 1", "not one value", "s9", "row 2"]),
        (lambda d: d.assign(SITE=np.where(d.index == 1, None, d.SITE)), ["subject 1", "missing", "row 2"]),
    ],
    ids=["none", "other case", "changes", "missing"],
)
def test_data_that_do_not_say_where_a_subject_belongs(change, words):
    with pytest.raises(nlme.DataError) as caught:
        nlme.evaluate(Levels(), nlme.read_nonmem(change(LINES)))
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize("method", [nlme.SAEM(), nlme.ImportanceSampling(), nlme.NaivePooled()], ids=repr)
def test_methods_that_have_no_sites_say_so(method, population):
    with pytest.raises(nlme.ModelError, match="per SITE .*Use nlme.FOCEI"):
        nlme.fit(Levels(), population, method, progress=False)


@pytest.mark.parametrize("points", [4, 1, 2.0])
def test_nodes_that_make_no_rule(points, population):
    with pytest.raises(nlme.ModelError, match="odd whole number"):
        nlme.evaluate(Levels(), population, nlme.FOCEI(site_points=points))
    with pytest.raises(nlme.ModelError, match="site_points=23"):
        nlme.evaluate(Levels(), population, nlme.FOCEI(site_points=25))


def test_what_runs_side_by_side_says_so(fit):
    from nlme.uncertainty.importance_resampling import sir

    for call in (
        lambda: nlme.bootstrap(fit, 2, key=1),
        lambda: nlme.bootstrap(fit, 2, key=1, parametric=True),
        lambda: nlme.profile(fit, "level"),
        lambda: nlme.multistart(fit, 2, key=1),
        lambda: sir(fit, key=1),
    ):
        with pytest.raises(nlme.ModelError, match="per SITE"):
            call()


def test_models_that_cannot_be(population):
    class Two(Levels):
        studies: nlme.Covariance = nlme.covariance(level_study=0.1, per="study")

    class Mixed(Levels):
        group: nlme.Mixture = nlme.mixture(a=0.5, b=0.5)

    class Twice(Levels):
        omega: nlme.Covariance = nlme.covariance(level_site=0.3)

        def individual(self, eta, cov):
            return dict(level=self.level + eta.level_site, slope=self.slope + eta.slope_site)

    for form, words in ((Two, "per 'SITE' and per 'study'"), (Mixed, "subpopulations"), (Twice, "per subject and per SITE")):
        with pytest.raises(nlme.ModelError, match=words):
            nlme.describe(form())
    for per, meant in (("Occ", "occasion"), ("Subject", "subject"), ("ID", "subject")):
        with pytest.raises(nlme.ModelError, match=f"did you mean per='{meant}'"):
            nlme.covariance(cl=0.1, per=per)
    with pytest.raises(nlme.ModelError, match="name of a column"):
        nlme.covariance(cl=0.1, per=3)
