"""What a report says of a posterior: how it was sampled and what speaks against it, its priors and parameters, and how to sample it again.

Pictures that need one vector of parameters (goodness of fit, individual fits, random effects) are those of the posterior means, with each
subject's mode there (:func:`nlme.posterior_estimate`); predictive checks and learned functions take every draw.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from nlme.data.population import Population
from nlme.errors import FitError
from nlme.fitting.evaluated import Evaluated, evaluate
from nlme.language.anatomy import anatomy_of
from nlme.language.model import Model
from nlme.marginal.base import Method
from nlme.marginal.foce import FOCEI
from nlme.marginal.laplace import Laplace
from nlme.neural.term import learned_terms
from nlme.posterior.draws import LEAST, each_left_out, messages_in, scalars, worth
from nlme.posterior.models import posterior_estimate
from nlme.reporting import account, sections
from nlme.reporting.blocks import Block, Code, Pairs, Paragraph, Picture, Table, Verdict
from nlme.reporting.table import table
from nlme.tables.numbers import fixed_point, seconds
from nlme.tables.shown import Panel
from nlme.versions import now

_CHAINS = {"nuts": "NUTS", "sgld": "SGLD"}  # what is judged by R-hat
_MEANT = "At the posterior means of the parameters"
_DENSEST = "At the draw of the highest density (weights of networks have no means)"


@dataclasses.dataclass(frozen=True, eq=False)
class Sampled:
    """A posterior with the model that was sampled, its data and (where they were given) its priors."""

    posterior: Any
    model: Model
    population: Population
    priors: Mapping[str, Any] | None

    @functools.cached_property
    def fit(self) -> Evaluated:
        """The model in the midst of the draws, and every subject's mode there."""
        model = posterior_estimate(self.model, self.posterior)
        normal = all(law.normal for law in anatomy_of(model).laws)
        method: Method = FOCEI() if normal else Laplace()
        return evaluate(model, self.population, method)

    @property
    def told(self) -> Mapping[str, Any]:
        return self.posterior.attrs

    @property
    def kind(self) -> str:
        return self.told.get("weights", "nuts")

    @property
    def where(self) -> str:
        return _DENSEST if any(row.kind == "weight" and not row.fixed for row in self.fit.parameters) else _MEANT


def sampled_of(posterior, model, population, priors) -> Sampled:
    """The posterior with what a report of it needs.

    Raises
    ------
    FitError
        No model or no population, or other data than were sampled.
    """
    if not isinstance(model, Model) or not isinstance(population, Population):
        raise FitError(
            "A posterior holds neither its model nor its data: nlme.report(posterior, path, model=model, population=population), those "
            "that were sampled."
        )
    sampled = posterior.attrs.get("data_hash")
    if sampled != population.hash:
        raise FitError(f"The posterior is of other data (hash {sampled}) than this population (hash {population.hash}).")
    return Sampled(posterior, model, population, priors)


def sections_of(
    found: Sampled, units, max_subjects: int | None, simulations, checks: int, given: list[Block]
) -> list[tuple[str, str, Callable[[], list[Block]]]]:
    """Key, heading and maker of every section."""
    at = found.fit

    def there(blocks: list[Block]) -> list[Block]:
        return [Paragraph(f"{found.where}, each subject at its mode there.", "small"), *blocks] if blocks else []

    def checked() -> list[Block]:
        return sections.checks(at, units, checks, uncertainty=found.posterior) if checks else given

    return [
        ("summary", "Summary of the run", lambda: _summary(found)),
        ("data", "Data", lambda: account.data(at, units)),
        ("model", "The model", lambda: sections.model(at)),
        ("priors", "Priors", lambda: _priors(found)),
        ("parameters", "Parameters", lambda: _parameters(found)),
        ("goodness", "Goodness of fit", lambda: there(sections.goodness(at, units))),
        ("individuals", "Individual fits", lambda: there(sections.individuals(at, units, max_subjects))),
        ("events", "Times of events", lambda: sections.events(at, units, checks, uncertainty=found.posterior)),
        ("effects", "Random effects", lambda: there(sections.random_effects(at))),
        ("covariates", "Random effects and covariates", lambda: there(sections.covariates(at))),
        ("forest", "Covariate effects", lambda: there(sections.covariate_effects(at))),
        ("learned", "Learned functions", lambda: _learned(found)),
        ("simulations", "Simulations", lambda: simulations),
        ("checks", "Predictive checks", checked),
        ("attention", "Subjects and observations to look at", lambda: there(sections.attention(at))),
        ("search", "The chains", lambda: _chains(found)),
        ("again", "To do it again", lambda: _again(found)),
    ]


def _summary(found: Sampled) -> list[Block]:
    against = messages_in(found.posterior)
    sound = "Nothing speaks against the sampling." if found.kind in _CHAINS else "The approximation found nothing against itself."
    verdict = Verdict("warn", "Sampled; read what stands against it.", against) if against else Verdict("good", sound)
    dates = [f"Sampled {found.told['date']}."] if "date" in found.told else []
    version = found.told.get("version_nlme")
    dates.append(f"Page written {now()}" + (f" from draws by nlme {version}." if version else "."))
    return [verdict, Pairs(_figures(found)), Paragraph(" ".join(dates), "small")]


def _figures(found: Sampled) -> list[tuple[str, str]]:
    sizes, stats = found.posterior.posterior.sizes, found.posterior.sample_stats
    effects = found.told.get("random_effects", "joint")
    rows = [
        ("Sampler", _CHAINS.get(found.kind, f"{found.kind.capitalize()}, an approximation")),
        ("Random effects", "sampled with the parameters" if effects == "joint" else f"integrated by {effects}"),
        ("Draws", f"{sizes['chain']} x {sizes['draw']:,}"),
    ]
    if found.kind in _CHAINS and sizes["draw"] >= LEAST:
        shown = [name for name in scalars(found.posterior) if name in {row["name"] for row in _declared(found)}]
        values = np.stack([scalars(found.posterior)[name] for name in shown], axis=-1)
        disagreement, size = worth(values)
        rows += [("Largest R-hat of a parameter", fixed_point(disagreement, 3)), ("Least effective draws of one", f"{size:,.0f}")]
    if "diverging" in stats:
        rows.append(("Divergent transitions", str(int(np.asarray(stats["diverging"]).sum()))))
    rows += _left_out(found)
    spent = [float(found.told[name]) for name in _TIMES if name in found.told]
    return [*rows, ("Time", seconds(sum(spent)))] if spent else rows


_TIMES = ("seconds_before", "seconds_in_warmup", "seconds_in_sampling")


def _declared(found: Sampled) -> list[dict[str, Any]]:
    return [row for row in json.loads(found.told["parameters"]) if row["kind"] != "weight"]


def _left_out(found: Sampled) -> list[tuple[str, str]]:
    """The expected log predictive density of subjects left out one by one, where their marginal likelihoods are known at draws of the
    posterior itself (those of an approximation of the weights are of another distribution)."""
    if found.kind != "nuts" or "marginal" not in getattr(found.posterior, "log_likelihood", {}):
        return []
    density, error, bad = each_left_out(found.posterior)
    said = f"; Pareto k above 0.7 for {bad} of {len(found.population)} subjects, for which it is not to be trusted" if bad else ""
    return [("Log predictive density, each subject left out once (PSIS)", f"{density:.2f} ± {error:.2f}{said}")]


def _priors(found: Sampled) -> list[Block]:
    rows = [[name, words] for name, words in json.loads(found.told.get("priors", "{}")).items()]
    blocks: list[Block] = [Table(Panel("Priors", ["Parameter", "Distribution"], rows, left=(0, 1)))] if rows else []
    if found.priors is None:
        return blocks
    from nlme.plots import prior_posterior

    figure = prior_posterior(found.posterior, found.fit.model, found.priors, list(json.loads(found.told.get("held", "{}"))))
    what = "Draws of the posterior (bars) over their prior (line). Where both look the same the data have said nothing of the parameter."
    return [*blocks, Picture(figure, what)]


def _parameters(found: Sampled) -> list[Block]:
    return [Table(panel._replace(title=f"Posterior. {panel.title}")) for panel in table(found.posterior)._panels()]


def _learned(found: Sampled) -> list[Block]:
    from nlme.plots import learned

    if not learned_terms(found.model) or not getattr(found.posterior, "learned_functions", {}):
        return []
    what = "Learned functions over what the data visited, the other inputs at their medians. Ticks: the values visited. Band: 90 % credible."
    return [Picture(learned(found.posterior, model=found.model), what)]


def _chains(found: Sampled) -> list[Block]:
    from nlme.plots import traces

    if found.kind not in _CHAINS:
        return []
    return [
        Picture(
            traces(found.posterior),
            "Draws of every parameter in order, a line for each chain: chains that agree cannot be told apart.",
        )
    ]


def _again(found: Sampled) -> list[Block]:
    told, settings = found.told, json.loads(found.told.get("settings", "{}"))
    source = getattr(found.population, "source", "")
    held = json.loads(told.get("held", "{}"))
    rows = [("Data read from", source)] if source else []
    rows += [("SHA-256 of the data", found.population.hash), ("Sampled", told.get("date", ""))]
    rows += [(f"Option {name}", str(value)) for name, value in settings.items()]
    rows.append(("Held parameters", ", ".join(f"{name} = {value:.6g}" for name, value in held.items()) or "none"))
    rows += [(name.replace("_", " ").capitalize(), seconds(float(told[name]))) for name in _TIMES if name in told]
    rows += [(f"Version of {name.removeprefix('version_')}", str(told[name])) for name in told if name.startswith("version_")]
    return [Pairs([row for row in rows if row[1]]), Code("To sample it again", _lines(found, settings, list(held)))]


def _lines(found: Sampled, settings: Mapping[str, Any], held: list[str]) -> str:
    name = type(found.model).__name__
    options = [f"{key}={value}" for key, value in settings.items()]
    options += [f"fixed={held!r}"] if held else []
    return "\n".join(
        [
            "import nlme",
            "",
            *account.reading(found.population),
            f'assert population.hash == "{found.population.hash}"  # fails if the data are others',
            f"model = ...  # the {name} above" + (", with the held parameters at their values" if held else ""),
            "priors = ...  # NumPyro distributions, as in the table of priors",
            f"posterior = nlme.sample(model, population, priors, {', '.join(options)})",
        ]
    )
