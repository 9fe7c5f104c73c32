"""Qualification of an installation: cases with known answers, run on this machine, and the page that says how they came out."""

from nlme.qualify.checks import Case, Check, Outcome
from nlme.qualify.folders import case_of
from nlme.qualify.qualification import Qualification, qualify
from nlme.qualify.shipped import CASES

__all__ = ["CASES", "Case", "Check", "Outcome", "Qualification", "case_of", "qualify"]
