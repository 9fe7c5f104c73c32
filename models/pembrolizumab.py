"""Pembrolizumab in solid tumours: two compartments, with weight, albumin, kidney, tumour and patient.

Reference
    Ahamadi M, Freshwater T, Prohn M, et al. (2017), Model-based characterization of the pharmacokinetics of pembrolizumab: a
    humanized anti-PD-1 monoclonal antibody in advanced solid tumors, CPT Pharmacometrics Syst Pharmacol 6:49-57,
    doi:10.1002/psp4.12139.
Population
    2,188 adults with melanoma (74 %), lung (25 %) or other cancer, KEYNOTE-001, -002 and -006; 1 to 10 mg/kg every 2 or 3 weeks.
Units
    dose mg, time days, concentration ug/mL = mg/L, clearance L/day, volume L, weight kg, albumin g/L, sld mm (sum of longest
    diameters), egfr mL/min/1.73 m2; female, nsclc, ecog (1: performance status 1), ipi (ipilimumab before) 0 or 1.
Words
    pembrolizumab, monoclonal antibody, anti-PD-1, checkpoint inhibitor, anticancer, L01FF02, two compartments

| value                        | origin (read as tabulated in nlmixr2lib, Ahamadi_2017_pembrolizumab)                       |
|------------------------------|--------------------------------------------------------------------------------------------|
| cl, v1, q, v2                | Table 3, estimates                                                                         |
| effects of covariates        | Table 3, estimates; the forms and references of footnotes a and b                          |
| omega                        | Table 3: 0.134, one effect on CL and Q; 0.0417, one on both volumes                        |
| sd                           | Table 3: 0.272, additive on the logarithm                                                  |

Footnotes a and b print other numbers than the table's estimates; the table's are taken.  The paper's covariance of the two
effects is not printed; it is 0 here.
"""

import jax.numpy as jnp

import nlme
from nlme import Scalar


class Pembrolizumab(nlme.Model):
    """Pembrolizumab: two compartments, eight covariates (Ahamadi et al. 2017)."""

    cl: Scalar = nlme.positive(0.22, unit="L/day", label="Clearance of the reference patient")
    v1: Scalar = nlme.positive(3.48, unit="L", label="Central volume of the reference patient")
    q: Scalar = nlme.positive(0.795, unit="L/day", label="Exchange between compartments at 76.8 kg")
    v2: Scalar = nlme.positive(4.06, unit="L", label="Peripheral volume at 76.8 kg")
    cl_wt: Scalar = nlme.real(0.595, label="Exponent of weight on clearance and exchange")
    v_wt: Scalar = nlme.real(0.489, label="Exponent of weight on volumes")
    cl_alb: Scalar = nlme.real(-0.907, label="Exponent of albumin on clearance")
    cl_sld: Scalar = nlme.real(0.0872, label="Exponent of tumour size on clearance")
    cl_egfr: Scalar = nlme.real(0.135, label="Exponent of glomerular filtration on clearance")
    cl_female: Scalar = nlme.real(-0.152, label="Female on clearance")
    cl_nsclc: Scalar = nlme.real(0.145, label="Lung cancer on clearance")
    cl_ecog: Scalar = nlme.real(-0.0739, label="Performance status 1 on clearance")
    cl_ipi: Scalar = nlme.real(0.140, label="Ipilimumab before on clearance")
    v1_alb: Scalar = nlme.real(-0.208, label="Exponent of albumin on central volume")
    v1_female: Scalar = nlme.real(-0.134, label="Female on central volume")
    v1_ipi: Scalar = nlme.real(0.0736, label="Ipilimumab before on central volume")
    omega: nlme.Covariance = nlme.covariance(cl=0.134, v=0.0417)
    sd: Scalar = nlme.positive(0.272, label="Error on the logarithm")

    covariates = {
        "wt": "kg",
        "alb": "g/L",
        "sld": "mm",
        "egfr": "mL/min/1.73m2",
        "female": None,
        "nsclc": None,
        "ecog": None,
        "ipi": None,
    }

    def individual(self, eta, cov):
        size, albumin = cov.wt / 76.8, cov.alb / 39.6
        powers = albumin**self.cl_alb * (cov.sld / 89.6) ** self.cl_sld * (cov.egfr / 88.47) ** self.cl_egfr
        disease = (1.0 + self.cl_nsclc * cov.nsclc) * (1.0 + self.cl_ecog * cov.ecog) * (1.0 + self.cl_ipi * cov.ipi)
        central = albumin**self.v1_alb * (1.0 + self.v1_female * cov.female) * (1.0 + self.v1_ipi * cov.ipi)
        flow, room = size**self.cl_wt * jnp.exp(eta.cl), size**self.v_wt * jnp.exp(eta.v)
        return dict(
            cl=self.cl * flow * powers * disease * (1.0 + self.cl_female * cov.female),
            v1=self.v1 * room * central,
            q=self.q * flow,
            v2=self.v2 * room,
        )

    def dynamics(self, ind):
        return nlme.pk.TwoCompartment(cl=ind.cl, v1=ind.v1, q=ind.q, v2=ind.v2)

    def observe(self, ind, state, t):
        return {"conc": nlme.lognormal(state.central / ind.v1, self.sd)}
