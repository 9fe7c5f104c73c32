"""The report of a fit: built once as data, written as one HTML page or as a Word document."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from nlme.errors import FitError
from nlme.reporting import account, sampled, sections, web
from nlme.reporting.added import named
from nlme.reporting.blocks import Block, Document, Paragraph, Section, cannot_be_shown

HTML, WORD = (".html", ".htm"), (".docx",)


def report(
    fit,
    path: str | Path,
    title: str | None = None,
    units: Mapping[str, str] | None = None,
    max_subjects: int | None = None,
    checks: int | Mapping[str, Any] | Iterable[Any] = 0,
    *,
    simulations: Mapping[str, Any] | Iterable[Any] | None = None,
    interactive: bool = False,
    model=None,
    population=None,
    priors: Mapping[str, Any] | None = None,
) -> Path:
    """Write the report of a fit or a posterior: one self-contained HTML page, or a Word document, by the ending of ``path``.

    The run, its verdict and what is wrong come first; then the data, the model, the parameters and their precision, goodness of
    fit, individual fits, random effects, covariate effects, learned functions, what was simulated and checked, subjects and
    observations to look at, the way of the search, and what is needed to do it again.  Both forms have the same sections, tables
    and figures under the same numbers, and the same digits.  Of a posterior the priors and the chains stand where the search of a fit
    does; pictures that need one vector of parameters are at :func:`nlme.posterior_estimate`, checks are posterior predictive.

    Parameters
    ----------
    fit : a fit, what ``nlme.evaluate`` returned (then without a search and standard errors), or the posterior of ``nlme.sample``
    path : the file to write: "warfarin.html" or "warfarin.docx"; its folder is made when absent
    title : heading; the model's name by default
    units : units by endpoint name, "time" and "dose", for axes and data
    max_subjects : how many subjects' fits are drawn; all of them by default
    simulations : title -> figure, DataFrame, or a result with ``.plot()`` or a table; a list is numbered
    checks : simulated data sets of a predictive check and prediction distribution errors (1,000 are usual), 0: without; or such
        checks that were made already, as ``simulations``
    interactive : in the page, the observations in linked views as well, to point at and to choose from (``pip install
        'nlme[interactive]'``, which brings Bokeh; the page grows by about 1 MB and still needs no connection)
    model, population : of a posterior, which holds neither: those that were sampled
    priors : of a posterior: what ``nlme.sample`` was given, to be drawn below the draws; without, they are listed only

    Returns
    -------
    Path of the file written

    Raises
    ------
    FitError
        ``fit`` is none of these, a posterior without its model or with other data, something added cannot be shown, the ending is another, the file cannot be written, or python-docx or
        mathml2omml is missing for a .docx (``pip install 'nlme[word]'``); ``interactive`` without Bokeh, or for a .docx.
    DataError
        A unit of something that is not there.
    """
    path, found = Path(path), None
    if hasattr(fit, "posterior"):
        found = sampled.sampled_of(fit, model, population, priors)
        if interactive:
            raise FitError("report(interactive=True) is of a fit.")
    elif not hasattr(fit, "predictions") or not hasattr(fit, "parameters"):
        raise FitError(
            f"report takes a fit, what nlme.evaluate returned, or a posterior; got {type(fit).__name__} (nlme.describe shows a model "
            "without data)."
        )
    elif model is not None or population is not None or priors is not None:
        raise FitError("report: model=, population= and priors= are of a posterior; a fit holds its own.")
    from nlme.plots.style import units_of

    write = _writer(path)
    fit = fit if found is None else found.fit
    units = units_of(fit, units)
    if interactive:
        if path.suffix.lower() in WORD:
            raise FitError("report(interactive=True) is for a page (.html); paper has nothing to point at.")
        from nlme.reporting import interactive as linked

        linked.require()
    given = {} if _is_count(checks) else named(checks, "checks", units)
    checked = lambda: sections.checks(fit, units, checks) if _is_count(checks) and checks else list(chain(*given.values()))  # noqa: E731
    shown = list(chain(*named(simulations, "simulations", units).values()))
    replicates = int(checks) if _is_count(checks) else 0
    views = (lambda: linked.observations(fit, units)) if interactive else list
    if found is None:
        made = _sections(fit, units, max_subjects, shown, checked, views, replicates)
    else:
        made = sampled.sections_of(found, units, max_subjects, shown, replicates, list(chain(*given.values())))
    document = _document(fit, title, made)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(write(document))
    except OSError as error:
        raise FitError(f"The report cannot be written to {path}: {error.strerror or error}.") from None
    return path


def _is_count(checks) -> bool:
    return isinstance(checks, numbers.Integral) and not isinstance(checks, bool)


def require_ending(path: Path) -> None:
    """Refuse a path that says no form of a report.

    Raises
    ------
    FitError
        Its ending is neither that of a page nor Word's.
    """
    if path.suffix.lower() not in (*HTML, *WORD):
        raise FitError(f"report writes .html or .docx, by the ending of the path; got {str(path)!r}.")


def _writer(path: Path) -> Callable[[Document], bytes]:
    """What writes a file of this ending."""
    require_ending(path)
    if path.suffix.lower() in HTML:
        return lambda document: web.page(document).encode()
    from nlme.reporting import word

    word.require()
    return word.document


def _document(fit, title: str | None, makers: list[tuple[str, str, Callable[[], list[Block]]]]) -> Document:
    made = [(key, name, _kept(name, make)) for key, name, make in makers]
    kept = tuple(Section(*section) for section in made if section[2])
    return Document(title or type(fit.model).__name__, account.opening(fit), kept)


def _sections(
    fit, units, max_subjects: int | None, simulations, checks, views, replicates: int
) -> list[tuple[str, str, Callable[[], list[Block]]]]:
    """Key, heading and maker of every section."""
    return [
        ("summary", "Summary of the run", lambda: account.summary(fit)),
        ("data", "Data", lambda: account.data(fit, units)),
        ("model", "The model", lambda: sections.model(fit)),
        ("parameters", "Parameters", lambda: sections.parameters(fit)),
        ("precision", "Precision of the estimates", lambda: sections.precision(fit)),
        ("goodness", "Goodness of fit", lambda: sections.goodness(fit, units)),
        ("views", "Observations to explore", views),
        ("individuals", "Individual fits", lambda: sections.individuals(fit, units, max_subjects)),
        ("events", "Times of events", lambda: sections.events(fit, units, replicates)),
        ("effects", "Random effects", lambda: sections.random_effects(fit)),
        ("covariates", "Random effects and covariates", lambda: sections.covariates(fit)),
        ("forest", "Covariate effects", lambda: sections.covariate_effects(fit)),
        ("learned", "Learned functions", lambda: sections.learned(fit)),
        ("simulations", "Simulations", lambda: simulations),
        ("checks", "Predictive checks", checks),
        ("attention", "Subjects and observations to look at", lambda: sections.attention(fit)),
        ("search", "The search", lambda: sections.search(fit)),
        ("again", "To do it again", lambda: account.again(fit)),
    ]


def _kept(name: str, make: Callable[[], list[Block]]) -> list[Block]:
    """A section; a sentence in its place where it cannot be made, so that the others are not lost with it."""
    try:
        return make()
    except Exception as error:
        return [Paragraph(cannot_be_shown(name, error))]
