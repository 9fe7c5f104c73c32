"""Pictures of a fit. Every function returns a matplotlib Figure that shows itself in a notebook and saves with ``savefig``."""

from nlme.plots.effects import accumulated, forest
from nlme.plots.goodness import goodness_of_fit
from nlme.plots.held_out import held_out
from nlme.plots.history import objective_history
from nlme.plots.individuals import individual_fits
from nlme.plots.learned import learned, learned_function
from nlme.plots.posterior import calibration, forecast, prior_posterior
from nlme.plots.random_effects import eta_covariates, eta_distributions
from nlme.plots.scenarios import counterfactual

__all__ = [
    "accumulated",
    "calibration",
    "counterfactual",
    "eta_covariates",
    "eta_distributions",
    "forecast",
    "forest",
    "goodness_of_fit",
    "held_out",
    "individual_fits",
    "learned",
    "learned_function",
    "objective_history",
    "prior_posterior",
]
