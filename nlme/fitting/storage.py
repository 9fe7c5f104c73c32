"""A fit as one file: numbers and names only, nothing that runs when it is opened.

The file is a zip archive with

* ``fit.json``: format, versions, the model's class by name, the method with its options, names, verdicts, the population's
  vocabulary;
* ``arrays.npz``: parameters, random effects, objective by subject, history, R and S where they were computed, and the
  population's records (numpy arrays without pickled objects);
* ``model.py``: the source text of the model, for the reader; it is never executed.

Its comment is the digest of all of it (:mod:`nlme.fitting.archive`).  What is saved is every field of a :class:`Fit`, whatever they
are (:mod:`nlme.fitting.encoding`), and methods are found among the classes that there are, so that neither a new field nor a new
method can be forgotten here.

Opening needs the model's class.  It is given to ``load``, or found by its name where it is loaded or installed
(:mod:`nlme.language.lookup`).
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
import re
import warnings
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from nlme import fitting, marginal
from nlme.data.course import packed, unpacked
from nlme.data.covariates import CovariateInfo
from nlme.data.features import packed_features, unpacked_features
from nlme.data.population import RECORD_FIELDS, Population, Subject
from nlme.digest import behaviour_of, digest_of, same_python
from nlme.dynamics.solvers import SENTENCES as SOLVER_SENTENCES
from nlme.dynamics.solvers import SOLVED
from nlme.errors import FitError, ModelError, NLMEError
from nlme.fitting.archive import read, write
from nlme.fitting.covariance import KINDS, CovarianceOfEstimates
from nlme.fitting.encoding import decoded, encoded, fields_encoded, record_decoded, record_of
from nlme.fitting.evaluated import evaluate
from nlme.fitting.result import Fit
from nlme.fitting.terms import shift_in, shift_out
from nlme.language.anatomy import Anatomy, anatomy_of
from nlme.language.augmented import Augmented, written_as
from nlme.language.files import class_in, load_model
from nlme.language.lookup import class_named
from nlme.language.model import Model
from nlme.language.relations import WithRelations, has_relations, settings_of, text_of
from nlme.language.source import code_of, source_of
from nlme.marginal.base import Method
from nlme.neural.correction import numbers_of, with_numbers
from nlme.parameters.covariance import Covariance
from nlme.parameters.inventory import Inventory
from nlme.parameters.mixture import Mixture
from nlme.search.quasi_newton import SENTENCES

FORMAT = "nlme fit"
VERSION = 2
_NO_TEXT = "# the text"  # how the model's text begins where there is none
_MADE = (WithRelations.__module__, Augmented.__module__)  # modules of classes that the library makes
_AGREES = 1e-5  # of the objective, evaluated anew at the estimates
_APART = ("method", "model", "start", "population")  # fields of a fit that are written in ways of their own


def save(fit: Fit, path) -> None:
    """Write ``fit`` to ``path``; an existing file is replaced only once the new one is complete.

    Raises
    ------
    FitError
        The place cannot be written to, or the fit holds something that a file cannot (an option of a method of your own).
    """
    arrays: dict[str, np.ndarray] = {}
    written, inventory = fit.model.without() if isinstance(fit.model, Augmented) else fit.model, Inventory(fit.model)
    kind = type(written)
    computed = fit.__dict__.get("covariance")
    vocabulary, records = _population_out(fit.population)
    document = {
        "format": FORMAT,
        "version": VERSION,
        "versions": fit.versions,
        "model": {
            "module": kind.__module__,
            "name": kind.__qualname__,
            "parameters": inventory.all_names,
            "settings": settings_of(fit.model),
            "constants": _constants(fit.model),
            "behaviour": behaviour_of(fit.model),
            "standardisation": numbers_of(fit.model),
            "shift": shift_out(fit.model, arrays),
        },
        "method": {
            "module": type(fit.method).__module__,
            "name": type(fit.method).__qualname__,
            "options": fields_encoded(fit.method, "method", arrays),
        },
        "fit": {f.name: encoded(vars(fit)[f.name], f.name, arrays) for f in dataclasses.fields(fit) if f.name not in _APART},
        "covariance": None if computed is None else fields_encoded(computed, "covariance", arrays),
        "population": vocabulary,
    }
    arrays["estimates"] = np.asarray(inventory.natural(fit.model))
    for name, model in (("model", fit.model), ("start", fit.start)):
        arrays |= {f"{name}/{at}": np.asarray(value) for at, value in _numbers(model).items()}
    write(
        Path(path),
        document,
        arrays | records,
        _text(written) or f"{_NO_TEXT} of {kind.__qualname__} was not at hand when the fit was saved\n",
    )


def load(path, model: Model | type[Model] | str | Path | None = None) -> Fit:
    """Open a saved fit; no code in the file is executed, and nothing is imported but the model's own file.

    Parameters
    ----------
    path : a file written by ``fit.save``
    model : the model, its class, or the Python file that defines it ("warfarin.py", "warfarin.py:Warfarin").  Without it the
        class is found by its name, where it is loaded already or where Python finds a file that defines it

    Raises
    ------
    FitError
        The file is not a saved fit, is of another format, or is not as it was written.
    ModelError
        The model's class cannot be found, or declares other parameters than were saved.

    Warns
    -----
    UserWarning
        The model's text is another now than when the fit was saved; of a class that the library made from another, whose text is
        opened in its place, whether the objective is the same.
    """
    path = Path(path)
    document, arrays, source = read(path, FORMAT, VERSION)
    try:
        saved = document["model"]
        parameters, module, name = saved["parameters"], str(saved["module"]), str(saved["name"])
    except (KeyError, TypeError):
        saved, parameters, module, name = {}, None, "", ""
    if not isinstance(parameters, list) or not all(isinstance(one, str) for one in parameters):
        raise FitError(f"{path} is damaged: it does not say which model it holds.")
    at_hand = bool(source.strip()) and not source.startswith(_NO_TEXT)
    template = _template(path, saved, arrays, _kind_of(path, module, name, model, at_hand), model)
    inventory = Inventory(template)
    if inventory.all_names != parameters:
        raise ModelError(
            f"{path}: {type(template).__name__} declares other parameters than the saved fit.\n"
            f"  saved: {', '.join(map(str, parameters))}\n  now:   {', '.join(inventory.all_names)}"
        )
    anatomy_of(template)  # what is wrong with the model itself is said before the file is blamed
    same_text = not at_hand or not (now := _text_now(template)) or code_of(now) == code_of(source)
    changed = "" if _stands_for(module, template) else _changed(document, saved, template, same_text)
    if changed:
        warnings.warn(
            f"{path}: {changed.format(type(template).__name__)} since the fit was saved; its estimates and objective are of the model as it was "
            "then (model.py in the file), and what is computed anew is of the model as it is now.",
            stacklevel=2,
        )
    try:
        fit = _fit(document, arrays, template, inventory)
    except Exception as error:  # what a damaged document makes Python say
        said = str(error) if isinstance(error, NLMEError) else f"{type(error).__name__}: {error}"
        raise FitError(f"{path} is damaged or was edited: {(said.splitlines() or ['no reason known'])[0].rstrip('.')}.") from None
    if _stands_for(module, template) and (different := _differs(fit, same_text)):
        warnings.warn(f"{path}: the model was made by the library (nlme.scm, lasso or frem). {different}", stacklevel=2)
    return fit


def _text(model: Model) -> str:
    """The text of a model's class; of one that the library made "" unless the text, run by itself, makes the same model."""
    if not has_relations(type(model)):
        return "" if isinstance(model, Augmented) else source_of(type(model))
    text = text_of(model)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            again = class_in(text, type(model).__name__)(**settings_of(model))
    except Exception:  # of the user's own text, which may rest on anything
        return ""
    again = with_numbers(again, numbers_of(model))
    same = Inventory(again).all_names == Inventory(model).all_names and _constants(again) == _constants(model)
    return text if same else ""


def _text_now(template: Model) -> str:
    """What a model's text is to be compared with: the text that would be saved."""
    written = template.without() if isinstance(template, Augmented) else template
    return text_of(written) if has_relations(type(written)) else source_of(type(written))


def _stands_for(module: str, template: Model) -> bool:
    """Whether a class that was written stands for one that the library had made when the fit was saved."""
    return module in _MADE and written_as(template).__module__ not in _MADE


def _differs(fit: Fit, same_text: bool) -> str:
    """What to say of a fit whose model is opened by the text of its class; "" where text and objective are the same."""
    name = type(fit.model).__name__
    try:
        begin = fit.eta if fit.has_modes and not fit.layout.anatomy.mixture else None
        now = evaluate(fit.model, fit.population, fit.method, fixed=fit.fixed, eta=begin).objective
    except NLMEError as error:
        return f"{name}, which stands for it, cannot be evaluated: {error}"
    if abs(now - fit.objective) > _AGREES * max(1.0, abs(fit.objective)):
        return f"{name}, which stands for it, is another model: its objective at the estimates is {now:.4f}, the fit's {fit.objective:.4f}."
    return (
        "" if same_text else f"{name}, which stands for it, has another text and at the estimates the same objective, {now:.4f}."
    )


def _changed(document: dict, saved: dict, template: Model, same_text: bool) -> str:
    """How the model differs from the one that was fitted; "" where nothing says that it does."""
    if not same_text:
        return "the text of {} has changed"
    if same_python(str(document.get("versions", {}).get("python", ""))) and saved.get("behaviour") != behaviour_of(template):
        return "something that {} rests on (a constant, a helper, another file, what its class was made with) has changed"
    return ""


def estimates_in(path) -> dict[str, float]:
    """The estimates of a saved fit by parameter name, for which its model is not needed.

    Raises
    ------
    FitError
        As :func:`load`.
    """
    document, arrays, _ = read(Path(path), FORMAT, VERSION)
    try:
        return dict(zip(document["model"]["parameters"], arrays["estimates"].astype(float).tolist(), strict=True))
    except Exception as error:
        raise FitError(f"{path} is damaged: its estimates cannot be read ({type(error).__name__}).") from None


def _fit(document: dict, arrays: dict[str, np.ndarray], template: Model, inventory: Inventory) -> Fit:
    known = {f.name for f in dataclasses.fields(Fit)} - {*_APART}
    if document["fit"].keys() != known:
        raise FitError(f"fields missing or unknown: {', '.join(sorted(document['fit'].keys() ^ known))}")
    values = {name: decoded(saved, arrays, record_of(Fit, name)) for name, saved in document["fit"].items()}
    fit = Fit(
        method=_method(document["method"], arrays),
        model=_with_numbers(template, arrays, "model"),
        start=_with_numbers(template, arrays, "start"),
        population=_population_in(document["population"], arrays),
        **values,
    )
    if not np.allclose(arrays["estimates"], np.asarray(inventory.natural(fit.model)), rtol=1e-12, atol=0):
        raise FitError("its estimates are not those of its model")
    _require_whole(fit, inventory)
    if document["covariance"] is not None:
        fit.__dict__["covariance"] = _covariance(document["covariance"], arrays, fit)
    return fit


def _require_whole(fit: Fit, inventory: Inventory) -> None:
    """Refuse arrays that do not fit the model and the data that they are of.

    Raises
    ------
    FitError
        Another hash of the data, other names, or an array of another shape or kind.
    """
    if not isinstance(fit.data_hash, str) or fit.data_hash != fit.population.hash:
        raise FitError("its data are not those that were fitted (their hash is another)")
    if not isinstance(fit.fixed, tuple) or not set(fit.fixed) <= set(inventory.all_names):
        raise FitError(f"fixed is {fit.fixed!r}")
    if fit.search_status not in SENTENCES:
        raise FitError(f"the search ended as {fit.search_status!r}")
    n, anatomy = len(fit.population), fit.layout.anatomy
    units = n if fit.layout.sites is None else len(fit.layout.sites.labels)
    shapes = {
        "values": (units,),
        **(_shapes_of_modes(n, anatomy) if fit.has_modes or fit.method.searches else {}),
        **dict.fromkeys(("decrement", "inner_iterations", "inner_converged", "status"), (n,)),
        "gradient": (len(fit.inventory),),
    }
    if fit.given is not None:
        shapes["given"] = (n,)
    kinds = {"inner_iterations": "i", "status": "i", "inner_converged": "b"}
    for name, shape in shapes.items():
        array = vars(fit)[name]
        if not isinstance(array, np.ndarray) or array.shape != shape or array.dtype.kind != kinds.get(name, "f"):
            raise FitError(
                f"{name} is {getattr(array, 'dtype', type(array).__name__)} of shape {np.shape(array)} instead of {shape}"
            )
    for name in shapes.keys() & {"values", "b", "probabilities"}:
        if not np.all(np.isfinite(vars(fit)[name])):
            raise FitError(f"{name} holds numbers that are not finite")
    if not set(fit.status.tolist()) <= {SOLVED, *SOLVER_SENTENCES}:
        raise FitError("what became of the subjects is not readable")
    lengths = {np.shape(column) for column in fit.history_columns.values()}
    if len(lengths) > 1 or any(len(shape) != 1 for shape in lengths):
        raise FitError("the columns of the history differ in length")
    _require_words(fit)


def _shapes_of_modes(count: int, anatomy: Anatomy) -> dict[str, tuple[int, int]]:
    return {"b": (count, len(anatomy.effects)), "probabilities": (count, max(1, len(anatomy.subpopulations)))}


def _require_words(fit: Fit) -> None:
    for name, kind in (("priors", str), ("unbounded", int), ("timings", int | float), ("versions", str)):
        found = getattr(fit, name)
        if not isinstance(found, dict) or not all(isinstance(value, kind) for value in found.values()):
            raise FitError(f"{name} is {str(found)[:60]}")
    if isinstance(fit.penalty, bool) or not isinstance(fit.penalty, int | float):
        raise FitError(f"the penalty is {fit.penalty!r}")
    size = len(fit.inventory)
    if fit.penalty_slopes is not None and [np.shape(x) for x in fit.penalty_slopes] != [(size,), (size, size)]:
        raise FitError("the derivatives of the penalty have other shapes than the parameters")


def _covariance(saved: dict, arrays: dict[str, np.ndarray], fit: Fit) -> CovarianceOfEstimates:
    if saved.keys() != {f.name for f in dataclasses.fields(CovarianceOfEstimates)}:
        raise FitError(f"the covariance of the estimates has {', '.join(saved)}")
    found = CovarianceOfEstimates(**{name: decoded(value, arrays) for name, value in saved.items()})
    names = tuple(fit.inventory.names)
    shapes = {np.shape(found.curvature), np.shape(found.products), np.shape(found.jacobian)}
    if (
        found.names != names
        or shapes != {(len(names), len(names))}
        or found.kind not in KINDS
        or not set(found.held) <= set(names)
    ):
        raise FitError("the covariance of the estimates is not that of these parameters")
    return found


# -- the model ---------------------------------------------------------------------------------------------------------


def _kind_of(path: Path, module: str, name: str, model, at_hand: bool) -> type[Model]:
    """The model's class: the one given, or the one that has this name."""
    if isinstance(model, Model):
        return type(model)
    if isinstance(model, type) and issubclass(model, Model):
        return model
    if isinstance(model, str | Path):
        return _in_file(str(model), name.split(".")[-1])
    if model is not None:
        raise ModelError(f"model= must be an nlme.Model, its class or its file; got {type(model).__name__}.")
    found = class_named(module, name)
    if found is None:
        raise ClassNotFound(path, module, name, at_hand)
    return found


def _in_file(where: str, name: str) -> type[Model]:
    """The model's class in a file: the one that is asked for, or the one of this name, or the only one."""
    if where.endswith(".py") and name.isidentifier() and Path(where).is_file():
        try:
            return load_model(f"{where}:{name}")
        except ModelError:  # it may have another name now; what else is wrong is said below
            pass
    return load_model(where)


class ClassNotFound(ModelError):
    """The class of a saved fit's model is neither loaded nor found by its name.

    Attributes
    ----------
    seen : what was looked for, without a remedy, which depends on who asks
    file : what the file that defines it is likely called
    """

    def __init__(self, path: Path, module: str, name: str, at_hand: bool):
        self.seen = f"{path}: the model's class {name} (module {module}) cannot be imported here."
        made = module in _MADE
        # of a script the name is not known
        self.file = f"model.py:{name}" if made else "FILE.py" if module == "__main__" else f"{module.split('.')[-1]}.py"
        if made:
            text = (
                f", or a file with its text, model={self.file!r}: found.source, or model.py in the saved fit" if at_hand else ""
            )
            remedy = (
                f"It was made by the library from another class: nlme.load({str(path)!r}, model=found.model) with the result that it came "
                f"with{text}."
            )
        else:
            remedy = (
                f"Give it: nlme.load({str(path)!r}, model={name.split('.')[-1]}), or its file, model={self.file!r}. "
                "Its source text is in the file (model.py)."
            )
        super().__init__(f"{self.seen} {remedy}")


def _template(path: Path, saved: dict, arrays: dict[str, np.ndarray], kind: type[Model], model) -> Model:
    """A model of this class with the constants of the saved one, and with the network that was added to it."""
    settings, constants = saved.get("settings"), saved.get("constants")
    if not isinstance(settings, dict) or not isinstance(constants, dict):
        raise FitError(f"{path} is damaged: the constants of its model are missing.")
    known = {f.name for f in dataclasses.fields(kind)}
    template = (
        model if isinstance(model, Model) else _made(path, kind, {name: v for name, v in settings.items() if name in known})
    )
    if saved.get("shift") is not None and not isinstance(template, Augmented):
        try:
            template = shift_in(template, saved["shift"], arrays)
        except FitError as error:
            raise FitError(f"{path} is damaged or was edited: {error}.") from None
    template = with_numbers(template, saved.get("standardisation", {}))
    now = _constants(template)
    if now != constants and list(Inventory(template).all_names) == saved["parameters"]:
        changed = [name for name in constants.keys() | now.keys() if constants.get(name) != now.get(name)]
        listed = "\n".join(
            f"  {name}: {str(constants.get(name))[:80]} in the fit, {str(now.get(name))[:80]} now" for name in sorted(changed)[:5]
        )
        raise ModelError(
            f"{path}: {kind.__name__} has other constants than the model that was fitted.\n{listed}\nGive the model itself: model=..."
        )
    return template


def _made(path: Path, kind: type[Model], settings: dict) -> Model:
    try:
        return kind(**settings)
    except Exception as error:  # the user's own class may raise anything
        said = str(error) if isinstance(error, NLMEError) else f"{type(error).__name__}: {error}"
        raise ModelError(f"{path}: no model can be made of {kind.__name__} ({said}). Give the model itself: model=...") from None


def _numbers(model: Model) -> dict[str, Any]:
    """Every array of a model by its place: "cl", "omega.sd", "net.weights[0]"."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(eqx.filter(model, eqx.is_inexact_array))
    return {jax.tree_util.keystr(at).lstrip("."): leaf for at, leaf in leaves}


def _with_numbers(template: Model, arrays: dict[str, np.ndarray], name: str) -> Model:
    """``template`` with the saved numbers, each looked at before it is believed."""
    known = _numbers(template)
    saved = {at: arrays.get(f"{name}/{at}") for at in known}
    for at, value in known.items():
        if saved[at] is None or saved[at].shape != np.shape(value) or saved[at].dtype != np.float64:
            raise FitError(f"{name}/{at} is missing, or of another shape or kind")
    arrays_only, rest = eqx.partition(template, eqx.is_inexact_array)
    tree = jax.tree.structure(arrays_only)
    model = eqx.combine(jax.tree.unflatten(tree, [jnp.asarray(saved[at]) for at in known]), rest)
    for entry in Inventory(template).entries:
        field = entry.get(model)
        if isinstance(field, Covariance):
            good = (
                np.all(np.isfinite(field.matrix)) and np.all(np.asarray(field.sd) >= 0) and np.all(np.diagonal(field.factor) > 0)
            )
        elif isinstance(field, Mixture):
            good = np.all(np.asarray(field.shares) > 0) and abs(float(np.sum(field.shares)) - 1.0) < 1e-9
        else:
            good = entry.declaration.domain.contains(np.asarray(entry.natural(model)))
        if not good:
            raise FitError(f"{name}: {'.'.join(entry.path)} is outside of its domain")
    return model


def _constants(part: Any) -> dict[str, Any]:
    """Everything of a model that is no number to be estimated, by field, as text."""
    found = {}
    for field in dataclasses.fields(part):
        value = getattr(part, field.name)
        if isinstance(value, eqx.Module):
            found |= {f"{field.name}.{name}": text for name, text in _constants(value).items()}
        elif eqx.is_inexact_array(value):
            found[field.name] = f"array {list(value.shape)}"
        elif eqx.is_array_like(value) and np.ndim(value):  # whole numbers: NumPy's become JAX's on the way
            found[field.name] = f"array {list(np.shape(value))} {np.asarray(value).dtype} {digest_of(np.asarray(value))[:12]}"
        else:
            shown = jax.tree.map(lambda x: f"array {list(x.shape)}" if eqx.is_inexact_array(x) else x, value)
            found[field.name] = re.sub(r" at 0x[0-9a-f]+", "", repr(shown))
    return found


# -- the method --------------------------------------------------------------------------------------------------------


def _method(saved: dict, arrays: dict[str, np.ndarray]) -> Method:
    """The method by its class: this library's own by name, another's if its module is loaded."""
    for look in (lambda: None, _read_own_methods):
        look()
        for kind in _subclasses(Method):
            own = kind.__module__.startswith("nlme.") and str(saved["module"]).startswith("nlme.")
            if kind.__qualname__ == saved["name"] and (own or kind.__module__ == saved["module"]):
                return record_decoded(kind, saved["options"], arrays)
    raise FitError(f"its method {saved['name']} (module {saved['module']}) is none that is known here; import its module first")


def _subclasses(kind: type) -> list[type]:
    return [found for sub in kind.__subclasses__() for found in (sub, *_subclasses(sub))]


def _read_own_methods() -> None:
    """Import every file of the two rooms in which this library's methods are."""
    for room in (marginal, fitting):
        for file in pkgutil.walk_packages(room.__path__, f"{room.__name__}."):
            importlib.import_module(file.name)


# -- the population ----------------------------------------------------------------------------------------------------


def _population_out(population: Population) -> tuple[dict, dict[str, np.ndarray]]:
    subjects = list(population)
    extra = list(subjects[0].extra) if subjects else []
    arrays: dict[str, np.ndarray] = {}
    others = [f.name for f in dataclasses.fields(population) if f.name not in ("subjects", "covariates")]
    vocabulary = {
        "ids": [s.id if isinstance(s.id, str) else int(s.id) for s in subjects],
        "lengths": [len(s) for s in subjects],
        "covariates": [dataclasses.asdict(info) for info in population.covariates.values()],
        "cmt_name": [list(s.cmt_name) for s in subjects],
        "extra": {name: [_plain(v) for s in subjects for v in s.extra[name]] for name in extra},
        "others": {name: encoded(getattr(population, name), f"population/{name}", arrays) for name in others},
    }
    arrays |= {f"records/{name}": np.concatenate([getattr(s, name) for s in subjects]) for name in RECORD_FIELDS}
    for name in population.covariates:
        arrays[f"covariates/{name}"] = np.concatenate([s.covariates[name] for s in subjects])
    return vocabulary, arrays | packed([s.course for s in subjects]) | packed_features([s.features for s in subjects])


def _plain(value):
    """A value of an extra column as JSON takes it."""
    value = value.item() if isinstance(value, np.generic) else value
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def _population_in(saved: dict, arrays: dict[str, np.ndarray]) -> Population:
    lengths = saved["lengths"]
    if not all(isinstance(n, int) and n >= 0 for n in lengths) or len(saved["ids"]) != len(lengths):
        raise FitError("the lengths of the subjects' records are not whole numbers, one for each")
    edges = np.r_[0, np.cumsum(lengths, dtype=int)]
    columns = {name: arrays[name] for name in arrays if name.startswith(("records/", "covariates/"))}
    for name, column in columns.items():
        if column.shape != (edges[-1],) or column.dtype not in (np.float64, np.int64):
            raise FitError(f"{name} has shape {column.shape} for {edges[-1]} records")
    infos = {}
    for entry in saved["covariates"]:
        words = {name: value for name, value in entry.items() if name not in ("categories", "constant")}
        if not isinstance(entry["constant"], bool) or not all(isinstance(value, str | None) for value in words.values()):
            raise FitError(f"what is known of a covariate is {str(entry)[:80]}")
        categories = entry["categories"]
        infos[entry["name"]] = CovariateInfo(**entry | {"categories": tuple(categories) if categories is not None else None})
    if not all(isinstance(name, str | None) for names in saved["cmt_name"] for name in names):
        raise FitError("the names of compartments are no words")
    subjects, courses = [], unpacked(arrays, len(saved["ids"]))
    features = unpacked_features(arrays, len(saved["ids"]))
    for i, person in enumerate(saved["ids"]):
        if isinstance(person, bool) or not isinstance(person, int | str):
            raise FitError(f"{person!r} is no ID")
        part = slice(edges[i], edges[i + 1])
        subjects.append(
            Subject(
                id=person,
                cmt_name=tuple(saved["cmt_name"][i]),
                covariates={name: arrays[f"covariates/{name}"][part] for name in infos},
                extra={name: np.array(values[part]) for name, values in saved["extra"].items()},
                course=courses[i],
                features=features[i],
                **{name: arrays[f"records/{name}"][part] for name in RECORD_FIELDS},
            )
        )
    others = {name: decoded(value, arrays) for name, value in saved["others"].items()}
    return Population(subjects=tuple(subjects), covariates=infos, **others)
