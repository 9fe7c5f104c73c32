"""What the commands write: tables in every format, pictures, a report; one that fails takes no other with it."""

from __future__ import annotations

import ast
import inspect
import sys
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

import nlme
from nlme import plots
from nlme.cli.written import OF_A_FIT, Folder
from nlme.tables import formats

FORMATS = (("csv", "csv"), ("markdown", "md"), ("html", "html"), ("latex", "tex"), ("rtf", "rtf"))
PICTURES = ("goodness_of_fit", "individual_fits", "objective_history", "eta_distributions", "eta_covariates")

#: files of :func:`write`, those that only some fits have among them; more pages of individual fits come where there are many subjects
RESULTS = (
    *("report.html", "predictions.csv", "individual.csv", "sites.csv"),
    *(f"parameters.{suffix}" for _, suffix in FORMATS),
    *(f"figures/{name}.png" for name in PICTURES),
)


def require_room(kind: type, folder: Path) -> None:
    """Refuse a folder in which a fit of a model of this class would replace files of the user's, before it is computed.

    Raises
    ------
    FitError
        A file of the name of a result, or of the model's file with another content, that no command wrote.
    """
    Folder(folder, "fit").require_own(["fit.nlme", *RESULTS])
    for name, source in files_of(kind).items():
        Folder(folder, "model").require_copy(source, name)


def keep(fit, folder: Path, read: Iterable[Path] = ()) -> None:
    """The fit and its model's files, before anything that could fail, in place of an earlier fit there and of all that was of it.

    ``read`` are files that the fit came from; they stay, whoever wrote them.
    """
    own, out = files_of(type(fit.model)), Folder(folder, "fit")
    out.add("fit.nlme", fit.save)
    out.clear(OF_A_FIT, but=[folder / "fit.nlme", *own.values(), *read])
    for name, source in own.items():
        if (folder / name).resolve() != source.resolve():
            Folder(folder, "model").add_copy(source, name)  # nlme.load, run in the folder, finds the model's class there


def files_of(kind: type) -> dict[str, Path]:
    """The file of a model's class and the files beside it that it imports, and these in turn: their names from its folder.

    Only with all of them is a copy of the model as good as the model; whatever else it imports is installed.
    """
    first = Path(inspect.getfile(kind))
    if not first.is_file():
        return {}
    found: dict[str, Path] = {}
    waiting = [first]
    while waiting:
        file = waiting.pop()
        name = file.relative_to(first.parent).as_posix()
        if name not in found:
            found[name] = file
            waiting += [beside for module in _imported(file) for beside in _files_beside(module, first.parent)]
    return found


def _imported(file: Path) -> set[str]:
    """Top-level names of the modules that a file imports."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return set()
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module and not node.level}
    return {name.partition(".")[0] for name in names} - {"nlme"}


def _files_beside(module: str, folder: Path) -> list[Path]:
    """The files of a module that lies in a folder, and is not another of its name that Python took."""
    one, package = folder / f"{module}.py", folder / module
    found = [one] if one.is_file() else sorted(package.rglob("*.py")) if package.is_dir() else []
    taken = getattr(sys.modules.get(module), "__file__", None)
    return found if taken is None or Path(taken).resolve() in [file.resolve() for file in found] else []


def write(fit, folder: Path, units: dict[str, str] | None = None, title: str | None = None) -> list[str]:
    """Everything a fit has to show, into a folder, in place of what another fit had; the names of what was written.

    Warns
    -----
    UserWarning
        Something could not be written; the rest is.
    """
    out = Folder(folder, "report")
    out.clear(["report"])

    def individual(path: Path) -> None:
        formats.csv(fit.individual.join(fit.eta.add_prefix("eta_")), path)

    written = [
        _made("report.html", lambda: out.add("report.html", lambda path: nlme.report(fit, path, title=title, units=units))),
        _made("parameters (.csv .md .html .tex .rtf)", lambda: in_every_format(fit.table(), out, "parameters")),
        _made(
            "predictions.csv", lambda: out.add("predictions.csv", lambda path: formats.csv(fit.predictions, path, index=False))
        ),
        _made("individual.csv", lambda: out.add("individual.csv", individual)),
    ]
    if fit.layout.sites is not None:
        written.append(_made("sites.csv", lambda: out.add("sites.csv", lambda path: formats.csv(fit.sites, path))))
    drawn = [_made(f"figures/{name}.png", draw) for name, draw in _pictures(fit, out, units).items()]
    return [*filter(None, written), *(["figures/"] if any(drawn) else []), "fit.nlme"]


def in_every_format(table, folder: Folder, stem: str) -> None:
    """A table as CSV, Markdown, HTML, LaTeX and RTF."""
    for form, suffix in FORMATS:
        folder.add(f"{stem}.{suffix}", getattr(table, f"to_{form}"))


def _pictures(fit, out: Folder, units) -> dict[str, Callable[[], None]]:
    """Name -> what draws it, of the pictures that there are of such a fit."""
    from nlme.plots.curves import endpoints_with_curves
    from nlme.plots.goodness import endpoints_with_residuals
    from nlme.plots.individuals import individual_fit_pages

    def drawn(name: str, picture) -> None:
        out.add(f"figures/{name}.png", picture.savefig)

    def individuals():
        pages = individual_fit_pages(fit, 12, max_subjects=len(fit.population), units=units)
        for k, page in enumerate(pages, 1):
            out.add(f"figures/individual_fits_{k}.png" if k > 1 else "figures/individual_fits.png", page.savefig)

    found = {"objective_history": lambda: drawn("objective_history", plots.objective_history(fit))}
    if endpoints_with_residuals(fit):
        found["goodness_of_fit"] = lambda: drawn("goodness_of_fit", plots.goodness_of_fit(fit, units=units))
    if endpoints_with_curves(fit):
        found["individual_fits"] = individuals
    if fit.eta.shape[1]:
        found["eta_distributions"] = lambda: drawn("eta_distributions", plots.eta_distributions(fit))
        if fit.population.covariates:
            found["eta_covariates"] = lambda: drawn("eta_covariates", plots.eta_covariates(fit))
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
