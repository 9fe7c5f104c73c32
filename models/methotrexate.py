"""Methotrexate in high doses: three compartments, with renal function and comedication.

Reference
    Joerger M, Huitema ADR, van den Bongard HJGD, et al. (2006), Determinants of the elimination of methotrexate and
    7-hydroxy-methotrexate following high-dose infusional therapy to cancer patients, Br J Clin Pharmacol 62:71-80,
    doi:10.1111/j.1365-2125.2005.02513.x (methotrexate; without its metabolite).
Population
    76 adults with cancer, 17 to 77 years, 304 cycles of 300 mg/m2 to 12 g/m2 over 1 to 24 h.
Units
    dose umol, time h, concentration umol/L, clearance L/h, volume L, creatinine clearance mL/min (Cockcroft-Gault, at most 140),
    ppi and nsaid 0 or 1 (a benzimidazole with it, an NSAID before it). 1 mg is 2.2 umol.
Words
    methotrexate, anticancer, antimetabolite, folate analogue, L01BA01, three compartments

| value                        | origin (read as tabulated in nlmixr2lib, Joerger_2006_methotrexate)                        |
|------------------------------|--------------------------------------------------------------------------------------------|
| cl, v1, q2, v2, q3, v3       | Table 2, full data set                                                                     |
| cl_crcl, cl_ppi, cl_nsaid    | equation 1 (p. 77), about 87 mL/min                                                        |
| omega                        | Table 2: 19.6, 32.0, 31.0 % (CL, Q1, V peripheral 2): ln(1 + CV^2)                         |
| occasions                    | Table 2: 13.3 % (CL): ln(1 + CV^2)                                                         |
| sd                           | Table 2: 52.3 %, additive on the logarithm                                                 |

Equation 1 is printed with 87 - CLcrea, by which clearance would fall as renal function rises, against the paper's abstract and
discussion; here it is CLcrea - 87.  Clearance is not positive for every extrapolation (20 mL/min with both comedications).
"""

import math

import jax.numpy as jnp

import nlme
from nlme import Scalar


class Methotrexate(nlme.Model):
    """Methotrexate in high doses: three compartments, renal function, comedication (Joerger et al. 2006)."""

    cl: Scalar = nlme.positive(8.85, unit="L/h", label="Clearance at 87 mL/min")
    v1: Scalar = nlme.positive(23.0, unit="L", label="Central volume")
    q2: Scalar = nlme.positive(0.444, unit="L/h", label="Exchange with the first peripheral compartment")
    v2: Scalar = nlme.positive(185.0, unit="L", label="First peripheral volume")
    q3: Scalar = nlme.positive(0.716, unit="L/h", label="Exchange with the second peripheral compartment")
    v3: Scalar = nlme.positive(5.34, unit="L", label="Second peripheral volume")
    cl_crcl: Scalar = nlme.real(0.0423, unit="L/h/(mL/min)", label="Creatinine clearance on clearance")
    cl_ppi: Scalar = nlme.real(-2.45, unit="L/h", label="Benzimidazole on clearance")
    cl_nsaid: Scalar = nlme.real(-1.46, unit="L/h", label="Earlier NSAID on clearance")
    omega: nlme.Covariance = nlme.covariance(cl=math.log(1 + 0.196**2), q2=math.log(1 + 0.320**2), v3=math.log(1 + 0.310**2))
    occasions: nlme.Covariance = nlme.covariance(cl_occ=math.log(1 + 0.133**2), per="occasion")
    sd: Scalar = nlme.positive(0.523, label="Error on the logarithm")

    covariates = {"crcl": "mL/min", "ppi": None, "nsaid": None}

    def individual(self, eta, cov):
        typical = self.cl + self.cl_crcl * (cov.crcl - 87.0) + self.cl_ppi * cov.ppi + self.cl_nsaid * cov.nsaid
        return dict(
            cl=typical * jnp.exp(eta.cl + eta.cl_occ),
            v1=self.v1,
            q2=self.q2 * jnp.exp(eta.q2),
            v2=self.v2,
            q3=self.q3,
            v3=self.v3 * jnp.exp(eta.v3),
        )

    def dynamics(self, ind):
        return nlme.pk.ThreeCompartment(cl=ind.cl, v1=ind.v1, q2=ind.q2, v2=ind.v2, q3=ind.q3, v3=ind.v3)

    def observe(self, ind, state, t):
        return {"conc": nlme.lognormal(state.central / ind.v1, self.sd)}
