"""What a report says of a fit and its model, section by section; nothing where there is nothing to show."""

from __future__ import annotations

import numpy as np

from nlme.diagnostics.npde import npde
from nlme.diagnostics.replicated import endpoints_of
from nlme.diagnostics.vpc import vpc
from nlme.errors import DataError, FitError, ModelError
from nlme.language.describe import describe
from nlme.language.equations import equations
from nlme.language.model import Model, documentation
from nlme.language.source import source_of
from nlme.neural.term import learned_terms
from nlme.reporting.blocks import Block, Code, Correlations, Formulas, Pairs, Paragraph, Picture, Table
from nlme.reporting.table import table
from nlme.tables.numbers import fixed_point, significant
from nlme.tables.shown import Panel

LARGE_CORRELATION = 0.95
LARGE_RESIDUAL = 4.0
EVENTS = 200  # simulated data sets behind a curve of events
MANY_PAGES = 10  # of individual fits; beyond that more subjects share a page


def penalised(fit) -> bool:
    """Whether something was added to the objective in the search."""
    return bool(getattr(fit, "penalty", 0.0)) or getattr(fit, "penalty_slopes", None) is not None


def added_words(fit) -> str:
    """What was added to it."""
    return "−2 log prior" if getattr(fit, "priors", None) else "Penalty"


def parameters(fit) -> list[Block]:
    found = table(fit)
    return [_table(panel, panel.title and f"Parameter estimates. {panel.title}") for panel in found._panels()]


def _table(panel: Panel, title: str = "") -> Table:
    return Table(panel._replace(title=title or panel.title))


def precision(fit) -> list[Block]:
    """The covariance of the estimates; of given values only where it has been computed."""
    if not any(not row.fixed for row in fit.parameters) or not (hasattr(fit, "n_parameters") or "covariance" in vars(fit)):
        return []
    covariance = fit.covariance
    correlation = covariance.correlation
    blocks: list[Block] = [Paragraph(covariance.verdict)]
    kinds = {row.name: row.kind for row in fit.parameters}
    shown = [name for name in correlation.columns if kinds.get(name) != "weight"]
    values = correlation.loc[shown, shown].to_numpy(dtype=float)
    if len(shown) < 2 or not np.isfinite(values).any():
        return blocks
    strong = [
        f"{shown[i]} and {shown[j]} ({values[i, j]:.2f})"
        for i in range(len(shown))
        for j in range(i)
        if abs(values[i, j]) > LARGE_CORRELATION
    ]
    if strong:
        blocks.append(Paragraph(f"Correlated beyond ±{LARGE_CORRELATION}: {'; '.join(strong)}."))
    return [*blocks, Correlations("Correlation of the estimates", shown, values.tolist(), LARGE_CORRELATION)]


def goodness(fit, units) -> list[Block]:
    from nlme.plots import goodness_of_fit
    from nlme.plots.goodness import endpoints_with_residuals

    drawn = endpoints_with_residuals(fit)
    others = [name for name in dict.fromkeys(fit.predictions["ENDPOINT"]) if name not in drawn]
    without = f"{', '.join(others)}: without residuals; see predictive checks (nlme.vpc)." if others else ""
    if not drawn:
        return [Paragraph(without)]
    what = (
        "Observations against population and individual predictions (dashed: identity), and conditional weighted residuals "
        "against time and population prediction (dotted: ±1.96). Solid: local trend of what was measured; grey triangles: values beyond "
        f"a limit of quantification. {without}"
    )
    return [Picture(goodness_of_fit(fit, units), what.strip())]


def checks(fit, units, replicates: int, key: int = 1, uncertainty=None) -> list[Block]:
    """A visual predictive check of every endpoint, and prediction distribution errors of the continuous ones.

    ``uncertainty`` of the parameters: as of :func:`nlme.simulate`.
    """
    blocks: list[Block] = []
    for name in endpoints_of(fit, fit.population):
        check = vpc(fit, key=key, replicates=replicates, endpoint=name, uncertainty=uncertainty)
        what = (
            f"Visual predictive check of {name}. Lines: observed; thin: median of what was simulated. "
            f"Bands: {100 * check.level:g} % intervals of {replicates} simulated data sets (key {key}); "
            f"{100 * check.inside:.0f} % of the observed quantities lie within them. "
            f"{' '.join(check.messages)}"
        )
        blocks.append(Picture(check.plot(units=units), what.strip()))
        if check.kind == "continuous":
            errors = npde(fit, key=key, replicates=replicates, endpoint=name, uncertainty=uncertainty)
            caption = f"Normalised prediction distribution errors of {name} ({replicates} simulated data sets, key {key})."
            blocks.append(Picture(errors.plot(units=units), caption))
            blocks += [_table(panel) for panel in errors._panels()]
    return blocks


def individuals(fit, units, max_subjects: int | None) -> list[Block]:
    """Every subject's fit, page by page."""
    from nlme.plots.curves import endpoints_with_curves
    from nlme.plots.individuals import individual_fit_pages

    drawn = endpoints_with_curves(fit)
    if not drawn:
        return []
    total = len(fit.population)
    shown = total if max_subjects is None else min(total, max_subjects)
    which = f"All {total} subjects." if shown == total else f"The first {shown} of {total} subjects."
    text = f"{which} Circles: observations; triangles: beyond a limit of quantification. Solid: individual prediction. Dashed: population prediction. At the foot: doses."
    # A figure may not be cut in two when it is printed: at most four rows of panels, six of the small ones of a large population.
    rows = max(1, 4 // len(drawn))
    columns = 4 if shown <= 4 * rows * MANY_PAGES else 6
    rows = rows if columns == 4 else max(1, 3 * rows // 2)
    pages = individual_fit_pages(fit, columns * rows, columns=columns, max_subjects=shown, units=units)
    captions = [text] + [f"Individual fits, continued ({k})." for k in range(2, len(pages) + 1)]
    return [Picture(page, caption) for page, caption in zip(pages, captions, strict=True)]


def events(fit, units, replicates: int, key: int = 1, uncertainty=None) -> list[Block]:
    """In the place of individual fits, of times of events: how many have happened by when, beside what the model simulates.

    ``replicates`` is what the predictive checks, which show the same, were asked for; 0 where they were not.
    """
    from nlme.plots.curves import events_of

    blocks: list[Block] = []
    for name in events_of(fit):
        without = f"{name}: times of events have no curve of a subject to draw them on"
        if replicates:
            blocks.append(Paragraph(f"{without}; the predictive checks show how many have happened by when."))
            continue
        check = vpc(fit, key=key, replicates=EVENTS, endpoint=name, uncertainty=uncertainty)
        what = (
            f"{check.quantities[0].capitalize()} of {name} over time. Line: observed; thin: median of what was simulated; band: "
            f"{100 * check.level:g} % interval of {EVENTS} simulated data sets (key {key}). {' '.join(check.messages)}"
        )
        blocks += [Paragraph(f"{without}; all subjects are shown together."), Picture(check.plot(units=units), what.strip())]
    return blocks


def random_effects(fit) -> list[Block]:
    from nlme.plots import eta_distributions

    if fit.eta.shape[1] == 0:
        return []
    caption = "Conditional modes of the random effects (bars, ticks) and their estimated distribution (curve)."
    return [Picture(eta_distributions(fit), caption)]


def covariates(fit) -> list[Block]:
    from nlme.plots import eta_covariates

    if fit.eta.shape[1] == 0:
        return []
    try:
        figure = eta_covariates(fit)
    except DataError:
        return []  # a population without covariates has no such section
    return [Picture(figure, "Random effects against covariates: what the model has not yet explained. ρ: rank correlation.")]


def covariate_effects(fit) -> list[Block]:
    """The forest plot and its numbers, where a covariate changes an individual parameter."""
    from nlme.learning.effects import covariate_effects as effects_of
    from nlme.plots import forest

    if not isinstance(fit.model, Model) or not fit.layout.anatomy.covariates:
        return []
    found = effects_of(fit)
    if not len(found):
        return []
    rows = [
        [
            row.parameter,
            row.covariate,
            str(row.level),
            *(significant(float(x)) for x in (row.reference, row.value)),
            *(fixed_point(x, 3) for x in (row.ratio, row.lower, row.upper)),
        ]
        for row in found.itertuples()
    ]
    header = ["Parameter", "Covariate", "Level", "Reference", "Value", "Ratio", "95 % CI, lower", "upper"]
    known = found.lower.notna().any()
    note = "Reference: a subject with median covariates and the most common categories, random effects zero. " + (
        "Intervals: delta method, from the covariance of the estimates." if known else "Estimates without their uncertainty."
    )
    return [
        Picture(
            forest(fit, table=found),
            "What a change of each covariate does to the individual parameters: ratios to the reference subject"
            f"{' with their 95 % intervals' if known else ''}. Grey: 0.8 to 1.25.",
        ),
        Table(Panel("Covariate effects on individual parameters", header, rows, [note], left=(0, 1, 2))),
    ]


def learned(fit) -> list[Block]:
    """The functions that the model's networks have learned."""
    from nlme.plots import learned as draw

    if not isinstance(fit.model, Model) or not learned_terms(fit.model):
        return []
    caption = "Learned functions over what the data visited, the other inputs at their medians. Ticks: the values visited. "
    try:
        return [Picture(draw(fit), caption + "Band: 90 %, by the curvature at the estimate.")]
    except FitError as error:
        return [Picture(draw(fit, bands=None), f"{caption}No bands: {error}")]


def attention(fit) -> list[Block]:
    parts: list[Block] = []
    subjects = fit.subjects
    bad = subjects[~subjects["converged"]]
    if len(bad):
        rows = [[str(identity), str(row["n_observations"]), row["message"]] for identity, row in bad.iterrows()]
        title = "Subjects without a mode" + (f" (the first 50 of {len(rows)})" if len(rows) > 50 else "")
        parts.append(Table(Panel(title, ["Subject", "Observations", "Problem"], rows[:50], left=(0, 2))))
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
        parts.append(Table(Panel(title, header, rows, left=(0, 1))))
    if not parts and predictions["CWRES"].isna().all():
        return [
            Paragraph("Every subject's mode was found; there are no weighted residuals, for no endpoint is normal on any scale.")
        ]
    if not parts:
        return [Paragraph(f"Every subject's mode was found, and no |CWRES| exceeds {LARGE_RESIDUAL:g}.")]
    return parts


def search(fit) -> list[Block]:
    from nlme.plots import objective_history

    history = getattr(fit, "history", ())
    if not len(history):
        return []
    first, last = history.iloc[0], history.iloc[-1]
    count, size = int(last["iteration"]), significant(float(last["gradient"]), 2)
    if "smoothing" in history:
        words = f"{count} iterations, {int(history['smoothing'].sum())} of them smoothing; the largest step of a parameter was {size} at the end."
        caption = "−2 log L of the data with the random effects drawn, and the largest step of a parameter, by iteration. Dashed: smoothing begins."
    else:
        ends = [fixed_point(float(row["objective"]), 3) for row in (first, last)]
        whole = f" ({added_words(fit).lower()} included)" if penalised(fit) else ""
        course = f"objective{whole} from {ends[0]} to {ends[1]}"
        words = f"{count} iterations: {course}, largest component of the gradient {size} at the end."
        caption = "Objective above its final value, and gradient, by iteration."
    return [Paragraph(words), Picture(objective_history(fit), caption)]


def model(fit) -> list[Block]:
    """What the model is made of, and how it was written, with what it inherits."""
    blocks: list[Block] = []
    rest = documentation(fit.model).partition("\n\n")[2].strip()
    if rest:
        blocks.append(Paragraph(rest, "long"))
    if isinstance(fit.model, Model):
        told = [one for one in describe(fit.model).sections if not one[0].startswith("Parameters")]
        for title, header, rows in told:
            if any(header):
                blocks.append(Table(Panel(title, header, rows, left=range(len(header)))))
            else:
                blocks.append(Pairs(rows, title))
        blocks += _equations(fit.model)
    source = source_of(type(fit.model))
    return [*blocks, Code("As it was written", source)] if source else blocks


def _equations(model: Model) -> list[Block]:
    """Nothing where they cannot be written, or sympy is not installed."""
    try:
        found = equations(model)
    except ModelError:
        return []
    return [Formulas(found)]
