"""Data as values: NONMEM-style tables in and out, rules about them, subjects, populations and regimens."""

from nlme.data.checks import check
from nlme.data.covariates import CovariateInfo
from nlme.data.population import Population, Subject
from nlme.data.readers import read_nonmem
from nlme.data.regimen import Dose, Regimen, dose
from nlme.data.rules import RULES, Rule
from nlme.data.violations import CheckReport, DataWarning, Violation

__all__ = [
    "RULES",
    "CheckReport",
    "CovariateInfo",
    "DataWarning",
    "Dose",
    "Population",
    "Regimen",
    "Rule",
    "Subject",
    "Violation",
    "check",
    "dose",
    "read_nonmem",
]
