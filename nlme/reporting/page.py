"""The report of a fit: one HTML page that holds everything, opens offline and prints on A4."""

from __future__ import annotations

import base64
import html
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from nlme.errors import DataError
from nlme.language.model import documentation
from nlme.tables.formats import html_table
from nlme.tables.numbers import MISSING, fixed_point, seconds, significant
from nlme.reporting.style import STYLE
from nlme.reporting.table import table

MANY_SUBJECTS = 24  # individual fits shown at most
LARGE_CORRELATION = 0.95
LARGE_CONDITION = 1000.0
LARGE_RESIDUAL = 4.0


def report(
    fit,
    path: str | Path,
    title: str | None = None,
    units: Mapping[str, str] | None = None,
    max_subjects: int = MANY_SUBJECTS,
) -> Path:
    """Write a fit's report: one self-contained HTML page.

    What is wrong comes first; then parameters, precision, goodness of fit, individual fits, random effects and covariates,
    subjects and observations to look at, the way of the search, and what is needed to do it again.

    Parameters
    ----------
    fit : Fit
    path : the file to write, for example "warfarin.html"; its folder is made when absent
    title : heading; the model's name by default
    units : units by endpoint name and "time", for the axes; the unit of time is otherwise that of the parameters
    max_subjects : how many subjects' fits are drawn

    Returns
    -------
    Path of the file written
    """
    heading = title or type(fit.model).__name__
    sections = [
        ("parameters", "Parameters", _parameters(fit)),
        ("precision", "Precision of the estimates", _precision(fit)),
        ("goodness", "Goodness of fit", _goodness(fit, units)),
        ("individuals", "Individual fits", _individuals(fit, units, max_subjects)),
        ("effects", "Random effects", _random_effects(fit)),
        ("covariates", "Random effects and covariates", _covariates(fit)),
        ("attention", "Subjects and observations to look at", _attention(fit)),
        ("search", "The search", _search(fit)),
        ("again", "To do it again", _again(fit)),
    ]
    sections = [section for section in sections if section[2]]
    links = " ".join(f'<a href="#{key}">{name}</a>' for key, name, _ in sections)
    body = "\n".join(f'<section id="{key}"><h2>{name}</h2>\n{content}</section>' for key, name, content in sections)
    page = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(heading)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<header>{_header(fit, heading)}</header>\n<nav>{links}</nav>\n{body}\n</body>\n</html>\n"
    )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
    return path


def _header(fit, heading: str) -> str:
    first, _, rest = documentation(fit.model).partition("\n\n")
    parts = [f"<h1>{html.escape(heading)}</h1>"]
    if first:
        parts.append(f'<p class="lead">{html.escape(" ".join(first.split()))}</p>')
    if rest.strip():
        parts.append(f'<pre class="doc">{html.escape(rest.strip())}</pre>')
    problems = _problems(fit)
    state = "bad" if not fit.converged else ("warn" if problems or fit.messages else "good")
    mark = {"good": "✓", "warn": "!", "bad": "✗"}[state]
    listed = "".join(f"<li>{html.escape(problem)}</li>" for problem in problems)
    verdict = f'<span class="mark">{mark}</span> {html.escape(fit.verdict)}'
    parts.append(f'<div class="verdict {state}"><p>{verdict}</p>{f"<ul>{listed}</ul>" if listed else ""}</div>')
    figures = [
        ("Objective (−2 log L without constant)", f"{fit.objective:.3f}"),
        ("−2 log L", f"{fit.objective_full:.3f}"),
        ("AIC", f"{fit.aic:.2f}"),
        ("BIC", f"{fit.bic:.2f}"),
        ("Parameters estimated", str(fit.n_parameters)),
        ("Method", str(fit.method)),
    ]
    parts.append('<div class="columns">' + _pairs("Fit", figures) + _pairs("Data", fit.population.summary()) + "</div>")
    return "\n".join(parts)


def _problems(fit) -> list[str]:
    """What stands against the fit, most serious first, without what the verdict has already said."""
    problems = [message for message in fit.messages if message not in fit.verdict]
    covariance = fit.covariance
    missing = not np.isfinite(covariance.standard_errors.to_numpy(dtype=float)).all()
    if missing or covariance.condition_number > LARGE_CONDITION:
        problems.append(covariance.verdict)
    return problems


def _pairs(caption: str, pairs: Sequence[tuple[str, str]]) -> str:
    rows = "".join(f"<tr><th>{html.escape(name)}</th><td>{html.escape(str(value))}</td></tr>" for name, value in pairs)
    title = f"<caption>{caption}</caption>" if caption else ""
    return f'<table class="pairs">{title}{rows}</table>'


def _parameters(fit) -> str:
    parameters = table(fit)
    parameters.title = ""
    return f'<div class="wide">{parameters.to_html()}</div>'


def _precision(fit) -> str:
    covariance = fit.covariance
    correlation = covariance.correlation
    text = [f"<p>{html.escape(covariance.verdict)}</p>"]
    kinds = {row.name: row.kind for row in fit.parameters}
    shown = [name for name in correlation.columns if kinds.get(name) != "weight"]
    values = correlation.loc[shown, shown].to_numpy(dtype=float)
    if len(shown) < 2 or not np.isfinite(values).any():
        return "\n".join(text)
    strong = [
        f"{shown[i]} and {shown[j]} ({values[i, j]:.2f})"
        for i in range(len(shown))
        for j in range(i)
        if abs(values[i, j]) > LARGE_CORRELATION
    ]
    if strong:
        text.append(f"<p>Correlated beyond ±{LARGE_CORRELATION}: {html.escape('; '.join(strong))}.</p>")
    head = "".join(f'<th class="up"><span>{html.escape(name)}</span></th>' for name in shown)
    rows = []
    for i, name in enumerate(shown):
        cells = "".join(_heat(values[i, j]) for j in range(i)) + '<td class="diagonal"></td>' + "<td></td>" * (len(shown) - i - 1)
        rows.append(f"<tr><th>{html.escape(name)}</th>{cells}</tr>")
    text.append(
        '<div class="wide"><table class="heat"><caption>Correlation of the estimates</caption>'
        f"<tr><td></td>{head}</tr>{''.join(rows)}</table></div>"
    )
    return "\n".join(text)


def _heat(value: float) -> str:
    """One cell of the correlation table: blue for negative, vermilion for positive, the number always in it."""
    if not np.isfinite(value):
        return f"<td>{MISSING}</td>"
    base = (213, 94, 0) if value > 0 else (0, 114, 178)
    depth = min(abs(value), 1.0) * 0.85
    shade = ",".join(str(round(255 - depth * (255 - part))) for part in base)
    bold = ";font-weight:bold" if abs(value) > LARGE_CORRELATION else ""
    ink = ";color:#fff" if depth > 0.6 else ""
    return f'<td style="background:rgb({shade}){bold}{ink}">{fixed_point(value, 2)}</td>'


def _figure(figure, caption: str) -> str:
    """A figure inside the page, as a vector image of its own so that its names cannot meet those of another."""
    from nlme.plots.style import svg

    data = base64.b64encode(svg(figure).encode()).decode()
    width = round(96 * figure.get_figwidth())
    return (
        f'<figure><img style="width:{width}px" src="data:image/svg+xml;base64,{data}" alt="{html.escape(caption)}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def _goodness(fit, units) -> str:
    from nlme.plots import goodness_of_fit

    return _figure(
        goodness_of_fit(fit, units),
        "Observations against population and individual predictions (dashed: identity), and conditional weighted residuals "
        "against time and population prediction (dotted: ±1.96). Solid: local trend.",
    )


def _individuals(fit, units, max_subjects: int) -> str:
    from nlme.plots.individuals import individual_fit_pages

    total = len(fit.population)
    shown = min(total, max_subjects)
    which = "All subjects." if shown == total else f"The first {shown} of {total} subjects."
    text = f"{which} Circles: observations. Solid: individual prediction. Dashed: population prediction. At the foot: doses."
    # A figure may not be cut in two when it is printed: at most four rows of panels.
    per_page = 16 if fit.predictions["ENDPOINT"].nunique() == 1 else 8
    pages = individual_fit_pages(fit, per_page, max_subjects=shown, units=units)
    captions = [text] + [f"Individual fits, continued ({k})." for k in range(2, len(pages) + 1)]
    return "\n".join(_figure(page, caption) for page, caption in zip(pages, captions, strict=True))


def _random_effects(fit) -> str:
    from nlme.plots import eta_distributions

    if fit.eta.shape[1] == 0:
        return ""
    caption = "Conditional modes of the random effects (bars, ticks) and their estimated distribution (curve)."
    return _figure(eta_distributions(fit), caption)


def _covariates(fit) -> str:
    from nlme.plots import eta_covariates

    if fit.eta.shape[1] == 0:
        return ""
    try:
        figure = eta_covariates(fit)
    except DataError:
        return ""  # a population without covariates has no such section
    return _figure(figure, "Random effects against covariates: what the model has not yet explained. ρ: rank correlation.")


def _attention(fit) -> str:
    parts = []
    subjects = fit.subjects
    bad = subjects[~subjects["converged"]]
    if len(bad):
        rows = [[str(identity), str(row["n_observations"]), row["message"]] for identity, row in bad.iterrows()]
        parts.append(
            html_table(["Subject", "Observations", "Problem"], rows[:50], left=(0, 2), caption="Subjects without a mode")
        )
    predictions = fit.predictions
    large = predictions[predictions["CWRES"].abs() > LARGE_RESIDUAL]
    if len(large):
        large = large.reindex(large["CWRES"].abs().sort_values(ascending=False).index).head(20)
        numbers = ("TIME", "DV", "PRED", "IPRED", "CWRES")
        rows = [
            [
                str(row["ID"]),
                str(row["ENDPOINT"]),
                *(significant(float(row[name]), 4 if name != "CWRES" else 3) for name in numbers),
            ]
            for row in large.to_dict("records")
        ]
        header = ["Subject", "Endpoint", "Time", "DV", "PRED", "IPRED", "CWRES"]
        parts.append(
            html_table(header, rows, left=(0, 1), caption=f"Observations with |CWRES| above {LARGE_RESIDUAL:g}, largest first")
        )
    if not parts:
        return f"<p>Every subject's mode was found, and no |CWRES| exceeds {LARGE_RESIDUAL:g}.</p>"
    return "\n".join(f'<div class="wide">{part}</div>' for part in parts)


def _search(fit) -> str:
    from nlme.plots import objective_history

    history = fit.history
    if not len(history):
        return ""
    first, last = history.iloc[0], history.iloc[-1]
    words = (
        f"<p>{int(last['iteration'])} iterations: objective from {first['objective']:.3f} to {last['objective']:.3f}, "
        f"largest component of the gradient {significant(float(last['gradient']), 2)} at the end.</p>"
    )
    return words + _figure(objective_history(fit), "Objective above its final value, and gradient, by iteration.")


def _again(fit) -> str:
    pairs = [(f"Time: {name}", seconds(float(value))) for name, value in fit.timings.items()]
    pairs += [(f"Version of {name}", value) for name, value in fit.versions.items()]
    pairs.append(("SHA-256 of the data", fit.data_hash))
    starts = [[row.name, significant(float(row.value)), "fixed" if row.fixed else row.domain] for row in _starting_rows(fit)]
    parts = [_pairs("", pairs)]
    if starts:
        parts.append(html_table(["Parameter", "Starting value", "Domain"], starts, left=(0, 2), caption="Starting values"))
    columns = '<div class="columns">' + "".join(f"<div>{part}</div>" for part in parts) + "</div>"
    return columns + _source(type(fit.model))


def _source(model_class: type) -> str:
    """The model as it was written, where Python can still find it."""
    try:
        source = inspect.getsource(model_class)
    except (OSError, TypeError):
        return ""
    return f'<p class="over">The model</p><pre class="code">{html.escape(source)}</pre>'


def _starting_rows(fit) -> list:
    """The parameters at the start of the search, network weights left out."""
    inventory = getattr(fit, "inventory", None)
    if inventory is None or fit.start is None:
        return []
    return [row for row in inventory.rows(fit.start) if row.kind != "weight"]
