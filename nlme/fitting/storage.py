"""A fit as one file: numbers and names only, nothing that runs when it is opened.

The file is a zip archive with

* ``fit.json``: format, versions, the model's class by name, the method with its options, names, verdicts, the population's
  vocabulary;
* ``arrays.npz``: parameters, random effects, objective by subject, history, R and S where they were computed, and the
  population's records (numpy arrays without pickled objects);
* ``model.py``: the source text of the model's class, for the reader; it is never executed.

Opening needs the model's class: it is imported by its name, or given to ``load``.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import io
import json
import os
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from nlme.data.course import packed, unpacked
from nlme.data.covariates import CovariateInfo
from nlme.data.population import RECORD_FIELDS, Population, Subject
from nlme.dynamics.solvers import Tolerances
from nlme.errors import FitError, ModelError
from nlme.fitting.covariance import CovarianceOfEstimates
from nlme.fitting.result import Fit
from nlme.language.model import Model
from nlme.marginal.base import Method
from nlme.parameters.inventory import Inventory

FORMAT = "nlme fit"
VERSION = 1
_ARRAYS = ("values", "b", "probabilities", "decrement", "inner_iterations", "inner_converged", "status", "gradient")


def save(fit: Fit, path) -> None:
    """Write ``fit`` to ``path``; an existing file is replaced only once the new one is complete."""
    inventory = Inventory(fit.model)
    arrays = {f"fit/{name}": np.asarray(getattr(fit, name)) for name in _ARRAYS}
    if fit.given is not None:
        arrays["fit/given"] = np.asarray(fit.given)
    arrays["model/natural"] = np.asarray(inventory.natural(fit.model))
    arrays["start/natural"] = np.asarray(inventory.natural(fit.start))
    arrays |= {f"history/{name}": values for name, values in fit.history_columns.items()}
    computed = fit.__dict__.get("covariance")
    if computed is not None:
        arrays |= {"covariance/R": computed.information_r, "covariance/S": computed.information_s}
    if fit.penalty_slopes is not None:
        arrays |= {"penalty/gradient": fit.penalty_slopes[0], "penalty/hessian": fit.penalty_slopes[1]}
    vocabulary, records = _population_out(fit.population)
    arrays |= records
    kind = type(fit.model)
    document = {
        "format": FORMAT,
        "version": VERSION,
        "model": {"module": kind.__module__, "name": kind.__qualname__, "parameters": inventory.all_names},
        "method": {"name": type(fit.method).__name__, "options": _options(fit.method)},
        "fixed": list(fit.fixed),
        "search_status": fit.search_status,
        "penalty": fit.penalty,
        "priors": fit.priors,
        "timings": fit.timings,
        "versions": fit.versions,
        "data_hash": fit.data_hash,
        "covariance": {"kind": computed.kind, "names": list(computed.names), "held": list(computed.held)} if computed is not None else None,
        "population": vocabulary,
    }
    _write(Path(path), document, arrays, _source(kind))


def load(path, model: Model | type[Model] | None = None) -> Fit:
    """Open a saved fit; no code in the file is executed.

    Parameters
    ----------
    path : a file written by ``fit.save``
    model : the model, or its class, where it cannot be imported by name (it was defined in a script or a notebook)

    Raises
    ------
    FitError
        The file is not a saved fit, or was written by a newer format.
    ModelError
        The model's class cannot be found, or declares other parameters than were saved.
    """
    document, arrays = _read(Path(path))
    template = _template(document["model"], model, path)
    inventory = Inventory(template)
    if inventory.all_names != document["model"]["parameters"]:
        raise ModelError(
            f"{path}: {type(template).__name__} declares other parameters than the saved fit.\n"
            f"  saved: {', '.join(document['model']['parameters'])}\n  now:   {', '.join(inventory.all_names)}"
        )
    fit = Fit(
        method=_method(document["method"]),
        model=inventory.at_natural(template, arrays["model/natural"]),
        population=_population_in(document["population"], arrays),
        fixed=tuple(document["fixed"]),
        start=inventory.at_natural(template, arrays["start/natural"]),
        search_status=document["search_status"],
        penalty=document["penalty"],
        penalty_slopes=(arrays["penalty/gradient"], arrays["penalty/hessian"]) if "penalty/gradient" in arrays else None,
        priors=document["priors"],
        history_columns={name[8:]: values for name, values in arrays.items() if name.startswith("history/")},
        timings=document["timings"],
        versions=document["versions"],
        data_hash=document["data_hash"],
        given=arrays.get("fit/given"),
        **{name: arrays[f"fit/{name}"] for name in _ARRAYS},
    )
    if document["covariance"] is not None:
        saved = document["covariance"]
        fit.__dict__["covariance"] = CovarianceOfEstimates(
            tuple(saved["names"]), arrays["covariance/R"], arrays["covariance/S"], saved["kind"], tuple(saved["held"])
        )
    return fit


def _write(path: Path, document: dict, arrays: dict[str, np.ndarray], source: str) -> None:
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)
    handle, temporary = tempfile.mkstemp(dir=path.parent or Path("."), prefix=path.name, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("fit.json", json.dumps(document, indent=1))
            archive.writestr("arrays.npz", packed.getvalue())
            archive.writestr("model.py", source)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _read(path: Path) -> tuple[dict, dict[str, np.ndarray]]:
    if not path.exists():
        raise FitError(f"There is no file {path}.")
    try:
        with zipfile.ZipFile(path) as archive:
            document = json.loads(archive.read("fit.json"))
            with np.load(io.BytesIO(archive.read("arrays.npz")), allow_pickle=False) as packed:
                arrays = {name: packed[name] for name in packed.files}
    except (zipfile.BadZipFile, KeyError, json.JSONDecodeError, ValueError) as error:
        raise FitError(f"{path} is not a fit saved by nlme ({error}).") from None
    if document.get("format") != FORMAT:
        raise FitError(f"{path} is not a fit saved by nlme.")
    if document["version"] > VERSION:
        raise FitError(f"{path} was saved in format {document['version']}; this nlme reads up to {VERSION}. Update nlme.")
    return document, arrays


def _source(kind: type) -> str:
    try:
        return inspect.getsource(kind)
    except (OSError, TypeError):
        return f"# the source of {kind.__qualname__} was not available when the fit was saved\n"


def _template(saved: dict, model, path) -> Model:
    if isinstance(model, Model):
        return model
    if isinstance(model, type) and issubclass(model, Model):
        return model()
    if model is not None:
        raise ModelError(f"model= must be an nlme.Model or its class; got {type(model).__name__}.")
    try:
        found: Any = importlib.import_module(saved["module"])
        for part in saved["name"].split("."):
            found = getattr(found, part)
        return found()
    except (ImportError, AttributeError):
        raise ModelError(
            f"{path}: the model's class {saved['name']} (module {saved['module']}) cannot be imported here. "
            f"Give it: nlme.load({str(path)!r}, model={saved['name'].split('.')[-1]}). Its source text is in the file (model.py)."
        ) from None


def _options(method: Method) -> dict:
    options = {f.name: getattr(method, f.name) for f in dataclasses.fields(method)}
    ode = options.pop("ode")
    options["ode"] = dataclasses.asdict(ode)
    return options


def _method(saved: dict) -> Method:
    from nlme.marginal.first_order import FO
    from nlme.marginal.foce import FOCE, FOCEI
    from nlme.marginal.laplace import Laplace

    kinds = {kind.__name__: kind for kind in (FO, FOCE, FOCEI, Laplace)}
    options = dict(saved["options"])
    return kinds[saved["name"]](**(options | {"ode": Tolerances(**options["ode"])}))


def _population_out(population: Population) -> tuple[dict, dict[str, np.ndarray]]:
    subjects = list(population)
    extra = list(subjects[0].extra)
    vocabulary = {
        "ids": [s.id if isinstance(s.id, str) else int(s.id) for s in subjects],
        "lengths": [len(s) for s in subjects],
        "endpoints": list(population.endpoints),
        "dvid": list(population.dvid) if population.dvid is not None else None,
        "covariates": [dataclasses.asdict(info) for info in population.covariates.values()],
        "cmt_name": [list(s.cmt_name) for s in subjects],
        "extra": {name: [_plain(v) for s in subjects for v in s.extra[name]] for name in extra},
    }
    arrays = {f"records/{name}": np.concatenate([getattr(s, name) for s in subjects]) for name in RECORD_FIELDS}
    for name in population.covariates:
        arrays[f"covariates/{name}"] = np.concatenate([s.covariates[name] for s in subjects])
    return vocabulary, arrays | packed([s.course for s in subjects])


def _plain(value):
    """A value of an extra column as JSON takes it."""
    value = value.item() if isinstance(value, np.generic) else value
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def _population_in(saved: dict, arrays: dict[str, np.ndarray]) -> Population:
    edges = np.r_[0, np.cumsum(saved["lengths"])]
    infos = {}
    for entry in saved["covariates"]:
        categories = entry.pop("categories")
        infos[entry["name"]] = CovariateInfo(**entry, categories=tuple(categories) if categories is not None else None)
    subjects, courses = [], unpacked(arrays, len(saved["ids"]))
    for i, person in enumerate(saved["ids"]):
        part = slice(edges[i], edges[i + 1])
        subjects.append(
            Subject(
                id=person,
                cmt_name=tuple(saved["cmt_name"][i]),
                covariates={name: arrays[f"covariates/{name}"][part] for name in infos},
                extra={name: np.array(values[part]) for name, values in saved["extra"].items()},
                course=courses[i],
                **{name: arrays[f"records/{name}"][part] for name in RECORD_FIELDS},
            )
        )
    dvid = tuple(saved["dvid"]) if saved["dvid"] is not None else None
    return Population(tuple(subjects), tuple(saved["endpoints"]), infos, dvid)
