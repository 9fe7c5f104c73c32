"""Pictures of a fit. Every function returns a matplotlib Figure that shows itself in a notebook and saves with ``savefig``."""

from nlme.plots.effects import accumulated, forest
from nlme.plots.goodness import goodness_of_fit
from nlme.plots.held_out import held_out
from nlme.plots.history import objective_history
from nlme.plots.individuals import individual_fits
from nlme.plots.learned import learned, learned_function
from nlme.plots.noncompartmental import nca
from nlme.plots.random_effects import eta_covariates, eta_distributions
from nlme.plots.scenarios import counterfactual
from nlme.plots.simulated import attainment, paired

__all__ = [
    "accumulated",
    "attainment",
    "counterfactual",
    "eta_covariates",
    "eta_distributions",
    "forest",
    "goodness_of_fit",
    "held_out",
    "individual_fits",
    "learned",
    "learned_function",
    "nca",
    "objective_history",
    "paired",
]
