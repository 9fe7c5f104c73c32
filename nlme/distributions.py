"""Distributions of covariates in virtual populations: ``nlme.virtual(100, {"wt": nlme.distributions.lognormal(70, cv=0.2)})``."""

from nlme.data.distributions import Distribution, categorical, lognormal, normal, uniform

__all__ = ["Distribution", "categorical", "lognormal", "normal", "uniform"]
