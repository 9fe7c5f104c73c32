"""What the commands write: tables in every format, pictures, a report; one that fails takes no other with it."""

from __future__ import annotations

import inspect
import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import nlme
from nlme import plots
from nlme.errors import FitError
from nlme.tables import formats

FORMATS = (("csv", "csv"), ("markdown", "md"), ("html", "html"), ("latex", "tex"), ("rtf", "rtf"))


def require_writable(folder: Path) -> None:
    """Refuse a folder that could not be written to, before anything is computed for it.

    Raises
    ------
    FitError
        A file stands in its place, or the folder that it would be in cannot be written to.
    """
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir():
        raise FitError(f"--out {folder}: {there} is a file, not a folder.")
    if not os.access(there, os.W_OK):
        raise FitError(f"--out {folder}: {there} cannot be written to.")


def keep(fit, folder: Path) -> None:
    """The fit and its model's file, before anything that could fail."""
    fit.save(folder / "fit.nlme")
    source = Path(inspect.getfile(type(fit.model)))
    if source.is_file() and source.resolve().parent != folder.resolve():
        shutil.copy(source, folder)  # nlme.load, run in the folder, finds the model's class there


def write(fit, folder: Path, units: dict[str, str] | None = None, title: str | None = None) -> list[str]:
    """Everything a fit has to show, into a folder; the names of what was written.

    Warns
    -----
    UserWarning
        Something could not be written; the rest is.
    """
    figures = folder / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    written = [
        _made("report.html", lambda: nlme.report(fit, folder / "report.html", title=title, units=units)),
        _made("parameters (.csv .md .html .tex .rtf)", lambda: in_every_format(fit.table(), folder / "parameters")),
        _made("predictions.csv", lambda: formats.csv(fit.predictions, folder / "predictions.csv", index=False)),
        _made("individual.csv", lambda: formats.csv(fit.individual.join(fit.eta.add_prefix("eta_")), folder / "individual.csv")),
    ]
    if fit.layout.sites is not None:
        written.append(_made("sites.csv", lambda: formats.csv(fit.sites, folder / "sites.csv")))
    drawn = [_made(f"figures/{name}.png", draw) for name, draw in _pictures(fit, figures, units).items()]
    return [*filter(None, written), *(["figures/"] if any(drawn) else []), "fit.nlme"]


def in_every_format(table, stem: Path) -> None:
    """A table as CSV, Markdown, HTML, LaTeX and RTF."""
    for form, suffix in FORMATS:
        getattr(table, f"to_{form}")(stem.with_suffix(f".{suffix}"))


def _pictures(fit, figures: Path, units) -> dict[str, Callable[[], None]]:
    """Name -> what draws it."""

    def individuals():
        from nlme.plots.individuals import individual_fit_pages

        pages = individual_fit_pages(fit, 12, max_subjects=len(fit.population), units=units)
        for k, page in enumerate(pages, 1):
            page.savefig(figures / (f"individual_fits_{k}.png" if k > 1 else "individual_fits.png"))

    found = {
        "goodness_of_fit": lambda: plots.goodness_of_fit(fit, units=units).savefig(figures / "goodness_of_fit.png"),
        "individual_fits": individuals,
        "objective_history": lambda: plots.objective_history(fit).savefig(figures / "objective_history.png"),
    }
    if fit.eta.shape[1]:
        found["eta_distributions"] = lambda: plots.eta_distributions(fit).savefig(figures / "eta_distributions.png")
        if fit.population.covariates:
            found["eta_covariates"] = lambda: plots.eta_covariates(fit).savefig(figures / "eta_covariates.png")
    return found


def _made(name: str, make: Callable) -> str:
    """``name`` if it could be made; a warning and nothing if not."""
    try:
        make()
    except Exception as error:  # a picture that fails must not lose the fit
        said = (str(error).strip().splitlines() or [""])[0]
        warnings.warn(f"{name} could not be written ({type(error).__name__}: {said}).", stacklevel=2)
        return ""
    return name
