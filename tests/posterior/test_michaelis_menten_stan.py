"""One subject's Michaelis-Menten elimination after absorption: Stan's reference posterior (posteriordb one_comp_mm_elim_abs)."""

from __future__ import annotations

import numpy as np
import numpyro.distributions as dist
import pytest
from normal_means import quietly
from numpyro.diagnostics import effective_sample_size
from reference import case

import nlme

CASE = case("bayes_michaelis_menten_stan")


class MichaelisMenten(nlme.Model):
    """dC/dt = exp(-k_a t) D k_a / V - (V_m / V) C / (K_m + C); the depot holds the dose per volume, D / V."""

    k_a: nlme.Scalar = nlme.positive(0.8)
    k_m: nlme.Scalar = nlme.positive(1.0)
    v_m: nlme.Scalar = nlme.positive(0.9)
    sigma: nlme.Scalar = nlme.positive(0.15)

    def individual(self, eta, cov):
        return dict(k_a=self.k_a, k_m=self.k_m, v_m=self.v_m)

    def dynamics(self, ind):
        def flow(t, a):
            absorbed = ind.k_a * a.depot
            return {"depot": -absorbed, "central": absorbed - ind.v_m / 2.0 * a.central / (ind.k_m + a.central)}

        return nlme.ODE(flow, ("depot", "central"))

    def observe(self, ind, state, t):
        return {"conc": nlme.lognormal(state.central, self.sigma)}


def population() -> nlme.Population:
    table = CASE.table()
    time, dv = (table[name].to_numpy(float) for name in table.columns[-2:])
    n = len(time)
    one = nlme.Subject(
        id=1, time=np.r_[0.0, time], dv=np.r_[np.nan, dv], evid=np.r_[1, np.zeros(n, int)], amt=np.r_[15.0, np.zeros(n)]
    )
    return nlme.Population((one,))


@pytest.mark.slow
def test_posterior_is_stans():
    """Means of logarithms within 4 joint Monte-Carlo errors, their sds within 10 %, quartiles within a tenth of the sd of logs."""
    priors = dict.fromkeys(("k_a", "k_m", "v_m", "sigma"), dist.HalfCauchy(1.0))
    found = quietly(MichaelisMenten(), population(), priors, key=1, warmup=600, draws=1500, chains=4, target_acceptance=0.9)
    printed = CASE.facts["references"]["posterior"]
    for name, theirs in (("k_a", "k_a"), ("k_m", "K_m"), ("v_m", "V_m"), ("sigma", "sigma")):
        logs, stan = np.log(found.posterior[name].values), printed[theirs]
        size = effective_sample_size(logs)
        assert size > 300
        error = stan["sd_of_log"] * np.sqrt(1 / size + 1 / 10_000)
        assert abs(logs.mean() - stan["mean_of_log"]) < 4 * error, name
        assert logs.std() == pytest.approx(stan["sd_of_log"], rel=0.1), name
        for q, word in ((0.25, "q25"), (0.5, "median"), (0.75, "q75")):
            assert np.quantile(logs, q) == pytest.approx(np.log(stan[word]), abs=0.1 * stan["sd_of_log"]), (name, word)
