"""The sections of a report, each a piece of HTML; nothing where it has nothing to show."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence

import numpy as np

from nlme.diagnostics.npde import npde
from nlme.diagnostics.replicated import endpoints_of
from nlme.diagnostics.vpc import vpc
from nlme.errors import DataError
from nlme.language.describe import describe
from nlme.language.model import Model
from nlme.language.source import source_of
from nlme.reporting.table import table
from nlme.tables.formats import html_table
from nlme.tables.numbers import MISSING, fixed_point, seconds, significant

LARGE_CORRELATION = 0.95
LARGE_RESIDUAL = 4.0
MANY_PAGES = 10  # of individual fits; beyond that more subjects share a page


def named_units(fit, units: Mapping[str, str] | None) -> dict[str, str]:
    """The units given, and that of time as the parameters have it."""
    from nlme.plots.style import known_units

    found, endpoints = known_units(units, fit.parameters), fit.population.endpoints
    own = list(dict.fromkeys(fit.predictions["ENDPOINT"]))
    if len(endpoints) == len(own) == 1 and own[0] in found:  # of data that do not name it
        found.setdefault(endpoints[0], found[own[0]])
    return found


def pairs(caption: str, rows: Sequence[tuple[str, str]]) -> str:
    """A table of names and values."""
    body = "".join(f"<tr><th>{html.escape(name)}</th><td>{html.escape(str(value))}</td></tr>" for name, value in rows)
    title = f"<caption>{html.escape(caption)}</caption>" if caption else ""
    return f'<table class="pairs">{title}{body}</table>'


def parameters(fit) -> str:
    found = table(fit)
    found.title = ""
    return f'<div class="wide">{found.to_html()}</div>'


def precision(fit) -> str:
    """The covariance of the estimates; of given values only where it has been computed."""
    if not any(not row.fixed for row in fit.parameters) or not (hasattr(fit, "n_parameters") or "covariance" in vars(fit)):
        return ""
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


def goodness(fit, units) -> str:
    from nlme.plots import goodness_of_fit

    return _figure(
        goodness_of_fit(fit, units),
        "Observations against population and individual predictions (dashed: identity), and conditional weighted residuals "
        "against time and population prediction (dotted: ±1.96). Solid: local trend.",
    )


def checks(fit, units, replicates: int, key: int = 1) -> str:
    """A visual predictive check of every endpoint, and prediction distribution errors of the continuous ones."""
    parts = []
    for name in endpoints_of(fit, fit.population):
        check = vpc(fit, key=key, replicates=replicates, endpoint=name)
        what = (
            f"Visual predictive check of {name}. Lines: observed. Bands: {100 * check.level:g} % intervals of {replicates} "
            f"simulated data sets (key {key}); {100 * check.inside:.0f} % of the observed quantities lie within them. "
            f"{' '.join(check.messages)}"
        )
        parts.append(_figure(check.plot(units=units), what.strip()))
        if check.kind == "continuous":
            errors = npde(fit, key=key, replicates=replicates, endpoint=name)
            caption = f"Normalised prediction distribution errors of {name} ({replicates} simulated data sets, key {key})."
            parts.append(_figure(errors.plot(units=units), caption))
            parts.append(f'<div class="wide">{errors.to_html()}</div>')
    return "\n".join(parts)


def individuals(fit, units, max_subjects: int | None) -> str:
    """Every subject's fit, page by page."""
    from nlme.plots.individuals import individual_fit_pages

    total = len(fit.population)
    shown = total if max_subjects is None else min(total, max_subjects)
    which = f"All {total} subjects." if shown == total else f"The first {shown} of {total} subjects."
    text = f"{which} Circles: observations. Solid: individual prediction. Dashed: population prediction. At the foot: doses."
    # A figure may not be cut in two when it is printed: at most four rows of panels, six of the small ones of a large population.
    rows = max(1, 4 // max(1, len(set(fit.predictions["ENDPOINT"]))))
    columns = 4 if shown <= 4 * rows * MANY_PAGES else 6
    rows = rows if columns == 4 else max(1, 3 * rows // 2)
    pages = individual_fit_pages(fit, columns * rows, columns=columns, max_subjects=shown, units=units)
    captions = [text] + [f"Individual fits, continued ({k})." for k in range(2, len(pages) + 1)]
    return "\n".join(_figure(page, caption) for page, caption in zip(pages, captions, strict=True))


def random_effects(fit) -> str:
    from nlme.plots import eta_distributions

    if fit.eta.shape[1] == 0:
        return ""
    caption = "Conditional modes of the random effects (bars, ticks) and their estimated distribution (curve)."
    return _figure(eta_distributions(fit), caption)


def covariates(fit) -> str:
    from nlme.plots import eta_covariates

    if fit.eta.shape[1] == 0:
        return ""
    try:
        figure = eta_covariates(fit)
    except DataError:
        return ""  # a population without covariates has no such section
    return _figure(figure, "Random effects against covariates: what the model has not yet explained. ρ: rank correlation.")


def attention(fit) -> str:
    parts = []
    subjects = fit.subjects
    bad = subjects[~subjects["converged"]]
    if len(bad):
        rows = [[str(identity), str(row["n_observations"]), row["message"]] for identity, row in bad.iterrows()]
        title = "Subjects without a mode" + (f" (the first 50 of {len(rows)})" if len(rows) > 50 else "")
        parts.append(html_table(["Subject", "Observations", "Problem"], rows[:50], left=(0, 2), caption=title))
    predictions = fit.predictions
    large = predictions[predictions["CWRES"].abs() > LARGE_RESIDUAL]
    if len(large):
        title = f"Observations with |CWRES| above {LARGE_RESIDUAL:g}, largest first" + (
            f" (20 of {len(large)})" if len(large) > 20 else ""
        )
        large = large.reindex(large["CWRES"].abs().sort_values(ascending=False).index).head(20)
        numbers = ("TIME", "DV", "PRED", "IPRED")
        rows = [
            [
                str(row["ID"]),
                str(row["ENDPOINT"]),
                *(significant(float(row[name])) for name in numbers),
                fixed_point(float(row["CWRES"]), 2),
            ]
            for row in large.to_dict("records")
        ]
        header = ["Subject", "Endpoint", "Time", "DV", "PRED", "IPRED", "CWRES"]
        parts.append(html_table(header, rows, left=(0, 1), caption=title))
    if not parts and predictions["CWRES"].isna().all():
        return "<p>Every subject's mode was found; there are no weighted residuals, for no endpoint is normal on any scale.</p>"
    if not parts:
        return f"<p>Every subject's mode was found, and no |CWRES| exceeds {LARGE_RESIDUAL:g}.</p>"
    return "\n".join(f'<div class="wide">{part}</div>' for part in parts)


def search(fit) -> str:
    from nlme.plots import objective_history

    history = getattr(fit, "history", ())
    if not len(history):
        return ""
    first, last = history.iloc[0], history.iloc[-1]
    count, size = int(last["iteration"]), significant(float(last["gradient"]), 2)
    if "smoothing" in history:
        words = f"{count} iterations, {int(history['smoothing'].sum())} of them smoothing; the largest step of a parameter was {size} at the end."
        caption = "−2 log L of the data with the random effects drawn, and the largest step of a parameter, by iteration. Dashed: smoothing begins."
    else:
        ends = [fixed_point(float(row["objective"]), 3) for row in (first, last)]
        words = f"{count} iterations: objective from {ends[0]} to {ends[1]}, largest component of the gradient {size} at the end."
        caption = "Objective above its final value, and gradient, by iteration."
    return f"<p>{html.escape(words)}</p>" + _figure(objective_history(fit), caption)


def model(fit) -> str:
    """What the model is made of, and how it was written, with what it inherits."""
    parts = []
    if isinstance(fit.model, Model):
        described = describe(fit.model)
        told = [one for one in described.sections if not one[0].startswith("Parameters")]
        for title, header, rows in told:
            shown = html_table(header, rows, left=range(len(header)), caption=title) if any(header) else pairs(title, rows)
            parts.append(f'<div class="wide">{shown}</div>')
        if equations := described.equations():
            parts.append(f'<div class="wide"><p class="over">Equations</p>{equations}</div>')
    source = source_of(type(fit.model))
    if source:
        parts.append(f'<p class="over">As it was written</p><pre class="code">{html.escape(source)}</pre>')
    return "\n".join(parts)


def again(fit) -> str:
    rows = [("Data read from", source)] if (source := getattr(fit.population, "source", "")) else []
    rows.append(("SHA-256 of the data", getattr(fit, "data_hash", "") or fit.population.hash))
    rows += [("Fitted", fit.date)] if getattr(fit, "date", "") else []
    rows += [(f"Time: {name}", seconds(float(value))) for name, value in getattr(fit, "timings", {}).items()]
    rows += [(f"Version of {name}", value) for name, value in getattr(fit, "versions", {}).items()]
    starts = [[row.name, significant(float(row.value)), "fixed" if row.fixed else row.domain] for row in _starting_rows(fit)]
    parts = [pairs("", rows)]
    if starts:
        parts.append(html_table(["Parameter", "Starting value", "Domain"], starts, left=(0, 2), caption="Starting values"))
    return '<div class="columns">' + "".join(f"<div>{part}</div>" for part in parts) + "</div>"


def _starting_rows(fit) -> list:
    """The parameters at the start of the search, network weights left out."""
    inventory, start = getattr(fit, "inventory", None), getattr(fit, "start", None)
    if inventory is None or start is None:
        return []
    return [row for row in inventory.rows(start) if row.kind != "weight"]
