"""nlme: nonlinear mixed-effects pharmacometrics on JAX.

Importing the package switches JAX to float64 and its persistent compilation cache on (``~/.cache/nlme``; set the environment
variable ``NLME_CACHE`` to another folder, or to nothing to switch it off; a cache configured by the user is left alone).  The environment
variable ``NLME_DEVICES`` makes that many devices of a CPU's cores, for ``nlme.fit(..., sharding="all")``.
"""

import importlib as _importlib
import os as _os
from pathlib import Path as _Path

import jax as _jax

_jax.config.update("jax_enable_x64", True)
if _os.environ.get("NLME_DEVICES"):
    _jax.config.update("jax_num_cpu_devices", int(_os.environ["NLME_DEVICES"]))


def _compilation_cache() -> None:
    folder = _os.environ.get("NLME_CACHE", str(_Path.home() / ".cache" / "nlme"))
    if not folder or _jax.config.jax_compilation_cache_dir:
        return
    _jax.config.update("jax_compilation_cache_dir", folder)
    _jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    _jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


_compilation_cache()

# In the repository, `datasets/` and `models/` stand beside this package; in a wheel they lie inside it. Looking beside
# the package as well, when they are not inside, gives `nlme.datasets` and `nlme.models` one name in both.
_here = _Path(__file__).resolve().parent
if not (_here / "datasets").is_dir() and (_here.parent / "datasets").is_dir() and (_here.parent / "models").is_dir():
    __path__.append(str(_here.parent))

# Public word -> the file that defines it.  Loaded when first used, so that `import nlme` costs little more than `import jax`.
_HOMES = {
    "nlme.errors": ("NLMEError", "DataError", "ModelError", "FitError"),
    "nlme.typing": ("Scalar", "Vector", "Named"),
    "nlme.parameters.domains": ("positive", "real", "bounded", "probability"),
    "nlme.parameters.covariance": ("Covariance", "covariance"),
    "nlme.parameters.mixture": ("Mixture", "mixture"),
    "nlme.parameters.priors": ("weakly_informative",),
    "nlme.parameters.weight_priors": ("weight_prior",),
    "nlme.data.population": ("Population", "Subject"),
    "nlme.data.readers": ("read_nonmem",),
    "nlme.data.checks": ("check",),
    "nlme.data.regimen": ("dose",),
    "nlme.data.virtual": ("virtual",),
    "nlme.structure.ode": ("ODE",),
    "nlme.structure.fluxes": ("fluxes",),
    "nlme.dynamics.solvers": ("Tolerances",),
    "nlme.observation.residual": (
        "additive",
        "proportional",
        "combined",
        "power",
        "lognormal",
        "logitnormal",
        "boxcox",
        "yeojohnson",
        "ar1",
    ),
    "nlme.observation.student": ("student_t",),
    "nlme.observation.censoring": ("censored",),
    "nlme.observation.hazard": ("time_to_event",),
    "nlme.observation.markov": ("markov",),
    "nlme.observation.discrete": ("binary", "ordered", "poisson", "negative_binomial"),
    "nlme.observation.custom": ("loglik",),
    "nlme.neural.network": ("MLP", "mlp"),
    "nlme.neural.splines": ("Splines", "splines"),
    "nlme.neural.radial": ("Radial", "radial"),
    "nlme.neural.kan": ("KAN", "kan"),
    "nlme.neural.module": ("Module", "module"),
    "nlme.neural.term": ("LearnedTerm",),
    "nlme.neural.standardise": ("standardise",),
    "nlme.neural.penalties": ("L2",),
    "nlme.language.model": ("Model",),
    "nlme.language.describe": ("describe",),
    "nlme.language.equations": ("equations",),
    "nlme.marginal.first_order": ("FO",),
    "nlme.marginal.foce": ("FOCE", "FOCEI"),
    "nlme.marginal.laplace": ("Laplace",),
    "nlme.marginal.quadrature": ("AGQ", "ImportanceSampling"),
    "nlme.marginal.pooled": ("NaivePooled",),
    "nlme.marginal.variational": ("Variational",),
    "nlme.fitting.fit": ("fit",),
    "nlme.fitting.evaluated": ("evaluate",),
    "nlme.fitting.starts": ("starting_values",),
    "nlme.fitting.maximum_posterior": ("MAP",),
    "nlme.fitting.saem.method": ("SAEM",),
    "nlme.fitting.result": ("Fit",),
    "nlme.fitting.storage": ("load",),
    "nlme.posterior.models": ("posterior_estimate", "posterior_models"),
    "nlme.posterior.nuts": ("sample",),
    "nlme.posterior.langevin": ("SGLD",),
    "nlme.posterior.individual": ("individual_posterior",),
    "nlme.dosing.forecast": ("forecast",),
    "nlme.dosing.search": ("dose_search",),
    "nlme.dosing.targets": ("Target",),
    "nlme.simulation.predict": ("predict",),
    "nlme.simulation.simulate": ("simulate",),
    "nlme.simulation.exposure": ("exposure",),
    "nlme.simulation.attainment": ("attainment",),
    "nlme.simulation.adaptive": ("adaptive", "Decision"),
    "nlme.simulation.trials": ("trial", "arm"),
    "nlme.simulation.counterfactuals": ("counterfactual",),
    "nlme.fitting.multistart": ("multistart",),
    "nlme.uncertainty.bootstrap": ("bootstrap",),
    "nlme.uncertainty.profile": ("profile",),
    "nlme.uncertainty.calibrate": ("calibrate",),
    "nlme.uncertainty.predictive": ("predictive",),
    "nlme.uncertainty.compare": ("compare",),
    "nlme.diagnostics.thorough": ("audit",),
    "nlme.diagnostics.vpc": ("vpc",),
    "nlme.diagnostics.npde": ("npde",),
    "nlme.diagnostics.npc": ("npc",),
    "nlme.learning.cross_validation": ("cross_validate", "split"),
    "nlme.learning.augment": ("augment",),
    "nlme.learning.effects": ("covariate_effects", "accumulated_effects"),
    "nlme.learning.curves": ("learned_curves",),
    "nlme.discovery.discover": ("discover",),
    "nlme.selection.scm": ("scm",),
    "nlme.selection.frem": ("frem",),
    "nlme.selection.lasso": ("lasso",),
    "nlme.selection.structure_search": ("structure_search",),
    "nlme.search.minibatches": ("Minibatches",),
    "nlme.training.aids": ("MultipleShooting", "GrowingHorizon", "PredictionError"),
    "nlme.training.collocation": ("Collocation",),
    "nlme.uncertainty.importance_resampling": ("sir",),
    "nlme.noncompartmental.analysis": ("nca",),
    "nlme.design.groups": ("Group", "Design"),
    "nlme.design.information": ("information",),
    "nlme.design.optimal": ("optimal_design",),
    "nlme.reporting.table": ("table",),
    "nlme.reporting.page": ("report",),
    "nlme.exchange.nonmem.importing": ("from_nonmem",),
    "nlme.exchange.nonmem.results": ("read_nonmem_results",),
    "nlme.exchange.exporting": ("to_nonmem", "to_nlmixr2", "to_monolix"),
}
_HOME_OF = {word: home for home, words in _HOMES.items() for word in words}
_ROOMS = ("pk", "pd", "distributions", "datasets", "models", "plots")
__all__ = [*_HOME_OF, *_ROOMS]


def __getattr__(name: str):
    if name in _ROOMS:
        return _importlib.import_module(f"nlme.{name}")
    if name == "__version__":
        return _importlib.import_module("nlme.versions").versions()["nlme"]
    if name not in _HOME_OF:
        raise AttributeError(f"module 'nlme' has no attribute {name!r}")
    value = getattr(_importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted({*globals(), *__all__})
