"""The report of a fit: one HTML page that holds everything, opens offline and prints on A4."""

from __future__ import annotations

import html
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from nlme.errors import FitError
from nlme.language.model import documentation
from nlme.reporting import sections
from nlme.reporting.style import STYLE
from nlme.tables.numbers import fixed_point
from nlme.versions import now

LARGE_CONDITION = 1000.0


def report(
    fit,
    path: str | Path,
    title: str | None = None,
    units: Mapping[str, str] | None = None,
    max_subjects: int | None = None,
    checks: int = 0,
) -> Path:
    """Write a fit's report: one self-contained HTML page.

    What is wrong comes first; then parameters, precision, goodness of fit, individual fits, random effects and covariates,
    subjects and observations to look at, the way of the search, the model, and what is needed to do it again.

    Parameters
    ----------
    fit : a fit, or what ``nlme.evaluate`` returned (then without a search and standard errors)
    path : the file to write, for example "warfarin.html"; its folder is made when absent
    title : heading; the model's name by default
    units : units by endpoint name, "time" and "dose", for axes and data; the unit of time is otherwise that of the parameters
    max_subjects : how many subjects' fits are drawn; all of them by default
    checks : simulated data sets of a predictive check and prediction distribution errors (1,000 are usual); 0: without

    Returns
    -------
    Path of the file written

    Raises
    ------
    FitError
        ``fit`` is neither, or the file cannot be written.
    """
    if not hasattr(fit, "predictions") or not hasattr(fit, "parameters"):
        words = "its table is nlme.table(posterior)" if hasattr(fit, "posterior") else "nlme.describe shows a model without data"
        raise FitError(f"report takes a fit, or what nlme.evaluate returned; got {type(fit).__name__} ({words}).")
    heading = title or type(fit.model).__name__
    made = [(key, name, _kept(name, make)) for key, name, make in _sections(fit, units, max_subjects, checks)]
    made = [section for section in made if section[2]]
    links = " ".join(f'<a href="#{key}">{name}</a>' for key, name, _ in made)
    body = "\n".join(f'<section id="{key}"><h2>{name}</h2>\n{content}</section>' for key, name, content in made)
    page = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(heading)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<header>{_header(fit, heading, units)}</header>\n<nav>{links}</nav>\n{_numbered(body)}\n</body>\n</html>\n"
    )
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise FitError(f"The report cannot be written to {path}: {error.strerror or error}.") from None
    return path


def _sections(fit, units, max_subjects: int | None, checks: int) -> list[tuple[str, str, Callable[[], str]]]:
    """Key, heading and maker of every section."""
    return [
        ("parameters", "Parameters", lambda: sections.parameters(fit)),
        ("precision", "Precision of the estimates", lambda: sections.precision(fit)),
        ("goodness", "Goodness of fit", lambda: sections.goodness(fit, units)),
        ("checks", "Predictive checks", lambda: sections.checks(fit, units, checks) if checks else ""),
        ("individuals", "Individual fits", lambda: sections.individuals(fit, units, max_subjects)),
        ("effects", "Random effects", lambda: sections.random_effects(fit)),
        ("covariates", "Random effects and covariates", lambda: sections.covariates(fit)),
        ("attention", "Subjects and observations to look at", lambda: sections.attention(fit)),
        ("search", "The search", lambda: sections.search(fit)),
        ("model", "The model", lambda: sections.model(fit)),
        ("again", "To do it again", lambda: sections.again(fit)),
    ]


def _kept(name: str, make: Callable[[], str]) -> str:
    """A section; a sentence in its place where it cannot be made, so that the others are not lost with it."""
    try:
        return make()
    except Exception as error:
        said = (str(error).strip().splitlines() or [""])[0]
        return f"<p>{html.escape(f'{name} cannot be shown for this fit ({type(error).__name__}: {said}).')}</p>"


def _numbered(body: str) -> str:
    """Figures numbered from 1."""
    count = itertools.count(1)
    return re.sub("<figcaption>", lambda _: f"<figcaption><b>Figure {next(count)}.</b> ", body)


def _header(fit, heading: str, units) -> str:
    first, _, rest = documentation(fit.model).partition("\n\n")
    parts = [f"<h1>{html.escape(heading)}</h1>"]
    if first:
        parts.append(f'<p class="lead">{html.escape(" ".join(first.split()))}</p>')
    if rest.strip():
        parts.append(f'<pre class="doc">{html.escape(rest.strip())}</pre>')
    parts.append(_verdict(fit))
    source = getattr(fit.population, "source", "")
    data = [*([("read from", source)] if source else []), *fit.population.summary(sections.named_units(fit, units))]
    parts.append('<div class="columns">' + sections.pairs("Fit", _figures(fit)) + sections.pairs("Data", data) + "</div>")
    dates = [f"Fitted {fit.date}."] if getattr(fit, "date", "") else []
    version = getattr(fit, "versions", {}).get("nlme")
    dates.append(f"Page written {now()}" + (f" from a fit by nlme {html.escape(version)}." if version else "."))
    parts.append(f'<p class="made">{" ".join(dates)}</p>')
    return "\n".join(parts)


def _verdict(fit) -> str:
    """The judgement, and what stands against the fit."""
    if not hasattr(fit, "n_parameters"):
        problems, sentence = fit.messages, "Evaluated at the values given; nothing was estimated."
        state = "warn" if problems else "good"
    else:
        problems, sentence = _problems(fit), fit.verdict
        state = "bad" if not fit.converged else ("warn" if problems or fit.messages else "good")
    mark = {"good": "✓", "warn": "!", "bad": "✗"}[state]
    listed = "".join(f"<li>{html.escape(problem)}</li>" for problem in problems)
    verdict = f'<span class="mark">{mark}</span> {html.escape(sentence)}'
    return f'<div class="verdict {state}"><p>{verdict}</p>{f"<ul>{listed}</ul>" if listed else ""}</div>'


def _problems(fit) -> Sequence[str]:
    """What stands against the fit, most serious first, without what the verdict has already said."""
    problems = [message for message in fit.messages if message not in fit.verdict]
    if not any(not row.fixed for row in fit.parameters):
        return problems
    covariance = fit.covariance
    missing = not np.isfinite(covariance.standard_errors.to_numpy(dtype=float)).all()
    if missing or covariance.condition_number > LARGE_CONDITION:
        problems.append(covariance.missing or covariance.verdict)
    return problems


def _figures(fit) -> list[tuple[str, str]]:
    """The fit in numbers, with equally many decimals."""
    found = [
        ("Objective (−2 log L without constant)", fixed_point(fit.objective, 3)),
        ("−2 log L", fixed_point(fit.objective_full, 3)),
    ]
    if hasattr(fit, "aic"):
        found += [
            ("AIC", fixed_point(fit.aic, 3)),
            ("BIC", fixed_point(fit.bic, 3)),
            ("Parameters estimated", str(fit.n_parameters)),
        ]
    found.append(("Method", repr(fit.method) if not isinstance(fit.method, str) else fit.method))
    for name, words in getattr(fit, "priors", {}).items():
        found.append((f"Prior of {name}", words))
    if getattr(fit, "penalty", 0.0):
        what = "−2 log prior" if getattr(fit, "priors", None) else "Penalty"
        found.append((f"{what} (not part of the objective)", fixed_point(fit.penalty, 3)))
    return found
