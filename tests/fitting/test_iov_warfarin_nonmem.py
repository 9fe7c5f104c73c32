"""Inter-occasion variability on clearance, 10 subjects on 2 occasions: NONMEM 7.5.1, FOCE with and without interaction."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from reference import case
from scattered import Occasions

import nlme

CASE = case("iov_warfarin_nonmem")


class Weighted(Occasions):
    """The occasion's effect divided by the root of the size of its arm."""

    covariates = {"narm": ""}

    def individual(self, eta, cov):
        cl = self.cl * jnp.exp(eta.cl + eta.cl_occ / jnp.sqrt(cov.narm))
        return dict(cl=cl, v=self.v * jnp.exp(eta.v), ka=self.ka * jnp.exp(eta.ka))


CASES = {"focei_iov": (Occasions, nlme.FOCEI()), "foce_weighted_iov": (Weighted, nlme.FOCE())}


def at(name: str, place: str):
    printed = CASE.reference(name)[place]["parameters"]
    cl, v, ka, occasion, _ = printed["OMEGA_diagonal"]
    return CASES[name][0](*printed["THETA"], {"cl": cl, "v": v, "ka": ka}, {"cl_occ": occasion}, printed["SIGMA_lower"][0][0])


@pytest.fixture(scope="module")
def population():
    return nlme.read_nonmem(CASE.table(), covariates=["narm"], time_varying=["narm"])


@pytest.fixture(scope="module")
def fit(population):
    return nlme.fit(at("focei_iov", "at_initial"), population, nlme.FOCEI(), progress=False)


@pytest.mark.parametrize("place", [pytest.param("at_initial", marks=pytest.mark.slow), "at_final"])
@pytest.mark.parametrize("name", ["focei_iov", pytest.param("foce_weighted_iov", marks=pytest.mark.slow)])
def test_objective(name, place, population):
    objective = nlme.evaluate(at(name, place), population, CASES[name][1]).objective
    assert objective == pytest.approx(CASE.reference(name)[place]["objective"], abs=1e-4)


def test_individual_clearance(population):
    ours = nlme.evaluate(at("focei_iov", "at_final"), population, nlme.FOCEI()).individual
    theirs = CASE.table("individual_CL_by_occasion.csv").set_index(["ID", "OCC"])
    np.testing.assert_allclose(ours.cl.loc[theirs.index], theirs.CL, rtol=1e-4)


@pytest.mark.slow
def test_fit(fit):
    printed = CASE.reference("focei_iov")
    assert fit.converged, fit.verdict
    assert fit.objective <= printed["at_final"]["objective"] + 1e-4
    numbers = printed["at_final"]["parameters"]
    estimates = {row.name: row.value for row in fit.parameters}
    np.testing.assert_allclose([estimates[k] for k in ("cl", "v", "ka")], numbers["THETA"], rtol=0.01)
    variances = [estimates[k] for k in ("omega.cl", "omega.v", "omega.ka", "occasion.cl_occ")]
    np.testing.assert_allclose(variances, numbers["OMEGA_diagonal"][:4], rtol=0.05)


@pytest.mark.slow
def test_standard_errors(fit):
    printed = CASE.reference("focei_iov")["standard_errors_R_matrix"]
    ours = fit.covariance.of_kind("R").standard_errors
    theirs = dict(zip(("cl", "v", "ka"), printed["THETA"], strict=True)) | {"prop2": printed["SIGMA11"]}
    theirs |= dict(zip(("omega.cl", "omega.v", "omega.ka", "occasion.cl_occ"), printed["OMEGA_diagonal"], strict=True))
    for name, value in theirs.items():
        assert ours[name] == pytest.approx(value, rel=0.05), name


@pytest.mark.slow
def test_tables_pictures_and_simulation_know_the_occasions(fit):
    table = nlme.table(fit).set_index("parameter")
    assert table.loc["occasion.cl_occ", "cv_percent"] > 0
    assert 0 < table.loc["occasion.cl_occ", "shrinkage_percent"] < 100
    assert list(fit.eta.columns) == ["cl", "v", "ka", "cl_occ[1]", "cl_occ[2]"]
    predicted = nlme.predict(fit).query("EVID == 0")
    np.testing.assert_allclose(predicted.conc, fit.predictions.IPRED, rtol=1e-9)
    drawn = nlme.simulate(fit, key=1, eta="new", noise=False)
    assert drawn["eta.cl_occ[1]"].std() > 0 and not np.allclose(drawn["eta.cl_occ[1]"], drawn["eta.cl_occ[2]"])


@pytest.mark.slow
def test_an_occasion_that_no_one_had_costs_nothing(population):
    """A third occasion in the data, of one subject: the others' objectives stay as they are."""
    model, data = at("focei_iov", "at_final"), CASE.table()
    data.loc[(data.ID == 10) & (data.TIME > 200), "OCC"] = 3
    more = nlme.evaluate(model, nlme.read_nonmem(data, covariates=["narm"], time_varying=["narm"]), nlme.FOCEI())
    before = nlme.evaluate(model, population, nlme.FOCEI())
    np.testing.assert_allclose(more.values[:9], before.values[:9], rtol=1e-12)
    assert more.values[9] != pytest.approx(before.values[9])


@pytest.mark.slow
def test_saem_finds_the_optimum_of_quadrature(population):
    start = at("focei_iov", "at_initial")
    fits = [nlme.fit(start, population, method, progress=False) for method in (nlme.SAEM(), nlme.AGQ(4))]
    assert fits[0].converged
    found, expected = (fit.table().set_index("parameter") for fit in fits)
    # within 2 %, or a twentieth of a standard error: the variance of ka has one of 108 %
    allowed = np.maximum(0.02 * expected.estimate, expected.se / 20)
    assert (np.abs(found.estimate - expected.estimate) < allowed).all(), found.estimate / expected.estimate
    assert fits[0].by(nlme.AGQ(4)).objective == pytest.approx(fits[1].objective, abs=0.01)


def test_data_without_occasions(population):
    with pytest.raises(nlme.ModelError, match="column OCC"):
        nlme.evaluate(Occasions(), nlme.read_nonmem(CASE.table().drop(columns="OCC"), covariates=["narm"], time_varying=["narm"]))


def test_one_name_twice():
    class Twice(Occasions):
        occasion: nlme.Covariance = nlme.covariance(cl=0.01, per="occasion")

    with pytest.raises(nlme.ModelError, match="per subject and per occasion"):
        nlme.describe(Twice())


@pytest.mark.slow
def test_gradient_is_the_central_difference(population):
    from nlme.language.layout import lay_out
    from nlme.marginal.objective import evaluate_subjects
    from nlme.parameters.inventory import Inventory

    model = Occasions()
    layout, inventory = lay_out(model, population), Inventory(model)
    u, starts = inventory.unconstrained(model), np.zeros((len(population), len(layout.anatomy.effects)))
    for method in (nlme.FOCEI(), nlme.Laplace()):

        def at(u, method=method):
            return evaluate_subjects(method, layout.anatomy, inventory, model, layout.arrays, u, starts)

        slope = np.asarray(jnp.sum(at(u).gradient, axis=0))
        k, h = inventory.names.index("occasion.cl_occ"), 1e-4
        step = h * np.eye(len(u))[k]
        difference = (jnp.sum(at(u + step).value) - jnp.sum(at(u - step).value)) / (2 * h)
        assert slope[k] == pytest.approx(float(difference), rel=1e-5)
