"""Pictures of a fit. Every function returns a matplotlib Figure that shows itself in a notebook and saves with ``savefig``."""

from nlme.plots.effects import accumulated, forest
from nlme.plots.goodness import goodness_of_fit
from nlme.plots.held_out import held_out
from nlme.plots.history import objective_history
from nlme.plots.inclusion import inclusion
from nlme.plots.individuals import individual_fit_pages, individual_fits
from nlme.plots.learned import learned, learned_function
from nlme.plots.noncompartmental import nca
from nlme.plots.observations import data
from nlme.plots.posterior import calibration, forecast, prior_posterior, traces
from nlme.plots.prediction_errors import npde
from nlme.plots.predictive import npc, vpc
from nlme.plots.random_effects import eta_covariates, eta_distributions, eta_pairs
from nlme.plots.residuals import residual_covariates, residuals
from nlme.plots.scenarios import counterfactual
from nlme.plots.simulated import attainment, paired

__all__ = [
    "accumulated",
    "attainment",
    "calibration",
    "counterfactual",
    "data",
    "eta_covariates",
    "eta_distributions",
    "eta_pairs",
    "forecast",
    "forest",
    "goodness_of_fit",
    "held_out",
    "inclusion",
    "individual_fit_pages",
    "individual_fits",
    "learned",
    "learned_function",
    "nca",
    "npc",
    "npde",
    "objective_history",
    "paired",
    "prior_posterior",
    "residual_covariates",
    "residuals",
    "traces",
    "vpc",
]
