"""Leukocytes under paclitaxel: proliferation, three maturing stages and feedback, driven by the subject's own pharmacokinetics.

Reference
    Friberg LE, Henningsson A, Maas H, Nguyen L, Karlsson MO (2002), Model of chemotherapy-induced myelosuppression with parameter
    consistency across drugs, J Clin Oncol 20:4713-4721, doi:10.1200/JCO.2002.02.140 (paclitaxel, leukocytes).
Population
    45 adults with cancer, paclitaxel over 3 h in several cycles.
Units
    dose umol (853.9 g/mol), time h, concentration umol/L, leukocytes 10^9/L; cl L/h, v1 and v2 L are each subject's own
    estimates, given as covariates (about 285, 290 and 995 in the entry's data).
Words
    paclitaxel, anticancer, taxane, L01CD01, myelosuppression, neutropenia, leukopenia, Friberg, PKPD, two compartments

| value                        | origin (DDMODEL00000186, whose authors give them as published, as tabulated in nlmixr2lib, |
|                              | Friberg_2002_paclitaxel)                                                                   |
|------------------------------|--------------------------------------------------------------------------------------------|
| circ0, mtt, slope, gamma     | the model's STRUCTURAL block                                                               |
| q                            | the model's equations: 204 L/h, fixed                                                      |
| omega                        | the model's VARIABILITY block, variances                                                   |
| prop                         | PROP_ERROR                                                                                 |
"""

import jax.numpy as jnp

import nlme
from nlme import Scalar


class PaclitaxelLeukocytes(nlme.Model):
    """Leukocytes under paclitaxel: proliferation, three maturing stages, feedback (Friberg et al. 2002)."""

    circ0: Scalar = nlme.positive(7.21, unit="1e9/L", label="Leukocytes without drug")
    mtt: Scalar = nlme.positive(124.0, unit="h", label="Mean time of maturation")
    slope: Scalar = nlme.positive(28.9, unit="L/umol", label="Effect per concentration")
    gamma: Scalar = nlme.positive(0.239, label="Exponent of the feedback")
    q: Scalar = nlme.positive(204.0, unit="L/h", label="Exchange between compartments")
    omega: nlme.Covariance = nlme.covariance(circ0=0.107, mtt=0.0296, slope=0.176)
    prop: Scalar = nlme.positive(0.286, label="Proportional error")

    covariates = {"cl": "L/h", "v1": "L", "v2": "L"}

    def individual(self, eta, cov):
        return dict(
            cl=cov.cl,
            v1=cov.v1,
            q=self.q,
            v2=cov.v2,
            circ0=self.circ0 * jnp.exp(eta.circ0),
            mtt=self.mtt * jnp.exp(eta.mtt),
            slope=self.slope * jnp.exp(eta.slope),
            gamma=self.gamma,
        )

    def dynamics(self, ind):
        pk = nlme.pk.TwoCompartment(cl=ind.cl, v1=ind.v1, q=ind.q, v2=ind.v2)
        return nlme.pd.friberg(pk, nlme.pd.proportional(ind.slope), circ0=ind.circ0, mtt=ind.mtt, gamma=ind.gamma)

    def observe(self, ind, state, t):
        return {"leukocytes": nlme.proportional(state.circ, self.prop)}
