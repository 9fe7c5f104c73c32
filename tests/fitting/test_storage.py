"""A saved fit opens elsewhere with every number it had, and nothing in it is executed."""

import copy
import dataclasses
import json
import pickle
import random
import subprocess
import sys
import warnings
import zipfile

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import nlme
from nlme import datasets
from nlme.errors import NLMEError
from nlme.fitting import archive
from nlme.fitting.storage import FORMAT, VERSION, _population_in, _population_out
from nlme.marginal.base import Method
from nlme.models.theophylline import Theophylline


@pytest.fixture(scope="module")
def fit():
    found = nlme.fit(Theophylline(), datasets.load("theophylline"), nlme.FOCEI(), progress=False)
    assert found.covariance.kind == "sandwich"
    return found


@pytest.fixture(scope="module")
def path(fit, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "theophylline.nlme"
    fit.save(path)
    return path


def test_everything_comes_back(fit, path):
    again = nlme.load(path)
    assert again.population == fit.population and again.population.hash == fit.data_hash
    assert again.objective == fit.objective and again.verdict == fit.verdict and again.fixed == fit.fixed
    assert again.eta.equals(fit.eta) and again.history.equals(fit.history)
    assert np.allclose(again.covariance.matrix, fit.covariance.matrix, rtol=1e-12)
    assert np.allclose(again.predictions["CWRES"], fit.predictions["CWRES"], rtol=1e-9, atol=1e-12)
    assert repr(again.method) == repr(fit.method) and again.versions == fit.versions


def test_it_opens_in_another_process(fit, path):
    code = "import sys, nlme; f = nlme.load(sys.argv[1]); print(repr(f.objective))"
    out = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert float(out.stdout) == fit.objective


def test_the_file_holds_no_pickle_and_no_path(path):
    with zipfile.ZipFile(path) as archive:
        assert sorted(archive.namelist()) == ["arrays.npz", "fit.json", "model.py"]
        text = archive.read("fit.json").decode()
    assert str(path.parent) not in text


def test_a_class_that_cannot_be_imported_is_asked_for(fit, tmp_path):
    Local = type("Local", (Theophylline,), {})
    local = dataclasses.replace(fit, model=Local(), start=Local())
    local.save(tmp_path / "local.nlme")
    with pytest.raises(nlme.ModelError, match="model=Local"):
        nlme.load(tmp_path / "local.nlme")
    assert nlme.load(tmp_path / "local.nlme", model=Local).objective == local.objective


def test_other_parameters_than_saved_are_refused(path):
    from nlme.models.quinidine import Quinidine

    with pytest.raises(nlme.ModelError, match="other parameters"):
        nlme.load(path, model=Quinidine)


@pytest.mark.parametrize("content", [b"", b"not a zip file at all"])
def test_what_is_no_fit_is_refused(tmp_path, content):
    (tmp_path / "x.nlme").write_bytes(content)
    with pytest.raises(nlme.FitError, match="not a fit saved by nlme"):
        nlme.load(tmp_path / "x.nlme")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(nlme.FitError, match="no file"):
        nlme.load(tmp_path / "absent.nlme")
    with pytest.raises(nlme.FitError, match="no file"):
        nlme.load(tmp_path)


@pytest.mark.parametrize("name", ["quinidine", "remifentanil"])
def test_populations_with_categories_and_names_come_back(name):
    population = datasets.load(name)
    again = _population_in(*_population_out(population))
    assert again == population and again.hash == population.hash


def test_models_fits_and_populations_pickle(fit):
    again = pickle.loads(pickle.dumps(fit))
    assert again.objective == fit.objective and again.population == fit.population
    assert float(pickle.loads(pickle.dumps(fit.model)).ka) == float(fit.model.ka)


# -- every method ------------------------------------------------------------------------------------------------------


METHODS = {
    "FO": nlme.FO(inner_iterations=50),
    "FOCE": nlme.FOCE(),
    "FOCEI": nlme.FOCEI(inner_tolerance=1e-9, ode=nlme.Tolerances(relative=1e-7, max_steps=5000, solver="auto"), site_points=5),
    "Laplace": nlme.Laplace(),
    "AGQ": nlme.AGQ(3),
    "ImportanceSampling": nlme.ImportanceSampling(40, seed=3),
    "NaivePooled": nlme.NaivePooled(),
    "Variational": nlme.Variational(draws=20, seed=2),
    "SAEM": nlme.SAEM(chains=2, exploration=(60, 60), smoothing=(60, 61), samples=40, exponent=0.7),
}


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_a_fit_by_any_method_opens_with_all_its_options(method, fit, tmp_path):
    """Saved as it stands, with the method put into it: what is saved of a fit does not ask which method it is by."""
    other = dataclasses.replace(fit, method=method)
    other.save(tmp_path / "x.nlme")
    again = nlme.load(tmp_path / "x.nlme")
    assert type(again.method) is type(method) and again.method == method and repr(again.method) == repr(method)


def test_there_is_no_method_without_this_test():
    def below(kind):
        return [found for sub in kind.__subclasses__() for found in (sub, *below(sub))]

    concrete = {kind.__name__ for kind in below(Method) if not kind.__abstractmethods__ and kind.__module__.startswith("nlme.")}
    assert concrete == set(METHODS)


@pytest.mark.slow
def test_a_fit_without_random_effects_and_one_with_priors_come_back_as_they_were(fit, tmp_path):
    pooled = nlme.fit(Theophylline(), fit.population, nlme.NaivePooled(), progress=False, max_evaluations=2)
    size = len(fit.inventory)
    priors = dataclasses.replace(
        fit, priors={"cl": "LogNormal(loc=1, scale=0.3)"}, penalty=1.5, penalty_slopes=(np.ones(size), np.eye(size))
    )
    for one in (pooled, priors):
        one.save(tmp_path / "x.nlme")
        again = nlme.load(tmp_path / "x.nlme")
        assert repr(again) == repr(one) and again.priors == one.priors and again.date == one.date and again.penalty == one.penalty
        assert np.array_equal(
            np.asarray(again.inventory.unconstrained(again.model)), np.asarray(one.inventory.unconstrained(one.model))
        )
    for mine, theirs in zip(again.penalty_slopes, priors.penalty_slopes, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_a_method_of_ones_own_opens_where_its_class_is(fit, tmp_path):
    @dataclasses.dataclass(frozen=True, repr=False, kw_only=True)
    class Halved(nlme.FOCEI):
        weight: float = 1.0

    dataclasses.replace(fit, method=Halved(weight=0.5)).save(tmp_path / "x.nlme")
    assert nlme.load(tmp_path / "x.nlme").method == Halved(weight=0.5)
    document, arrays, source = archive.read(tmp_path / "x.nlme", FORMAT, VERSION)
    document["method"]["module"] = "of_another_project"
    archive.write(tmp_path / "y.nlme", document, arrays, source)
    with pytest.raises(nlme.FitError, match="Halved.*of_another_project.*import its module first"):
        nlme.load(tmp_path / "y.nlme")
    assert "of_another_project" not in sys.modules


def test_what_a_file_cannot_hold_is_said(fit, tmp_path):
    odd = dataclasses.replace(fit, timings={"search": print})
    with pytest.raises(nlme.FitError, match="timings/search is a builtin_function"):
        odd.save(tmp_path / "x.nlme")
    assert not (tmp_path / "x.nlme").exists()


def test_a_place_that_cannot_be_written_is_said(fit, tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(nlme.FitError, match="cannot be written"):
        fit.save(tmp_path / "taken" / "x.nlme")
    fit.save(tmp_path / "new" / "folder" / "x.nlme")
    assert [path.name for path in (tmp_path / "new" / "folder").iterdir()] == ["x.nlme"]


def test_a_variance_of_zero_comes_back(fit, tmp_path):
    none = Theophylline(omega={"cl": 0.0})
    dataclasses.replace(fit, model=none, fixed=("omega.cl",), gradient=fit.gradient[:-1]).save(tmp_path / "x.nlme")
    assert np.array_equal(nlme.load(tmp_path / "x.nlme").model.omega.sd, none.omega.sd)


# -- the model's class -------------------------------------------------------------------------------------------------

PRINTS = """
import nlme
from nlme.models.theophylline import Theophylline
print("this file ran")
class {name}({base}):
    pass
"""


def _about(fit, path, **model):
    """The fit in a file that says other things of its model."""
    fit.save(path)
    document, arrays, source = archive.read(path, FORMAT, VERSION)
    document["model"] |= model
    archive.write(path, document, arrays, source)
    return path


@pytest.mark.parametrize(
    ("module", "name"),
    [("os", "system"), ("os", "system.__class__"), ("builtins", "print"), ("subprocess", "Popen"), ("antigravity", "x"), ("this", "s"),
     ("nlme.models.theophylline", "jnp"), ("nlme.fitting.result", "Fit"), ("../evil", "Evil"), ("", ""), ("nlme.models", "theophylline")],
)  # fmt: skip
def test_a_name_that_is_no_model_is_neither_called_nor_imported(fit, tmp_path, module, name, capsys):
    loaded = set(sys.modules)
    with pytest.raises(nlme.ModelError, match="cannot be imported here. Give it"):
        nlme.load(_about(fit, tmp_path / "x.nlme", module=module, name=name))
    assert set(sys.modules) == loaded and capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("name", "base", "opens"),
    [("Theophylline2", "Theophylline", True), ("Other", "Theophylline", False), ("Theophylline2", "object", False)],
)
def test_a_file_is_read_before_it_is_run(fit, tmp_path, monkeypatch, capsys, name, base, opens):
    """Only a file that defines a class of that name and imports nlme is imported, and only a Model is taken."""
    module = f"model_of_this_test_{name}_{base}".lower()
    (tmp_path / f"{module}.py").write_text(PRINTS.format(name=name, base=base))
    monkeypatch.syspath_prepend(tmp_path)
    path = _about(fit, tmp_path / "x.nlme", module=module, name="Theophylline2")
    if opens:
        with pytest.warns(UserWarning, match="has changed since"):  # it is another text than Theophylline's
            assert type(nlme.load(path).model).__name__ == name
        return
    with pytest.raises(nlme.ModelError, match="cannot be imported here"):
        nlme.load(path)
    assert ("ran" in capsys.readouterr().out) == (name == "Theophylline2")


def test_a_module_that_does_not_import_nlme_is_not_run(fit, tmp_path, monkeypatch, capsys):
    (tmp_path / "stranger_of_this_test.py").write_text("print('this file ran')\nclass Theophylline: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(nlme.ModelError):
        nlme.load(_about(fit, tmp_path / "x.nlme", module="stranger_of_this_test"))
    assert capsys.readouterr().out == "" and "stranger_of_this_test" not in sys.modules


@pytest.mark.filterwarnings("ignore:.*has changed since:UserWarning")
def test_the_models_file_can_be_named(fit, path, tmp_path):
    (tmp_path / "mine.py").write_text(PRINTS.format(name="Theophylline", base="Theophylline"))
    assert nlme.load(path, model=tmp_path / "mine.py").objective == fit.objective
    assert nlme.load(path, model=f"{tmp_path / 'mine.py'}:Theophylline").objective == fit.objective
    with pytest.raises(nlme.ModelError, match="There is no file"):
        nlme.load(path, model="nowhere.py")
    with pytest.raises(nlme.ModelError, match="its class or its file; got int"):
        nlme.load(path, model=3)


def test_a_models_file_that_is_at_hand_is_not_run_again(fit, path, tmp_path, monkeypatch):
    """What was fitted before could be pickled no more: its class would be another than that of its name."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "at_hand.py").write_text(PRINTS.format(name="Theophylline", base="Theophylline"))
    mine = dataclasses.replace(fit, model=nlme.fitting.storage.load_model(tmp_path / "at_hand.py")())
    again = nlme.load(path, model=tmp_path / "at_hand.py")
    assert type(again.model) is type(mine.model)
    assert pickle.loads(pickle.dumps(mine)).objective == fit.objective
    (tmp_path / "at_hand.py").write_text(PRINTS.format(name="Theophylline", base="Theophylline") + "# written anew")
    assert nlme.fitting.storage.load_model(tmp_path / "at_hand.py") is not type(mine.model)


def test_a_model_that_was_written_anew_is_said(fit, tmp_path):
    module = tmp_path / "changing.py"
    text = (
        "import jax.numpy as jnp\nfrom nlme.models.theophylline import Theophylline\nclass Mine(Theophylline):\n    power = {}\n"
    )
    module.write_text(text.format(0.75))
    mine = dataclasses.replace(fit, model=nlme.fitting.storage.load_model(module)())
    mine.save(tmp_path / "x.nlme")
    module.write_text("# a remark\n" + text.format("0.75  # another"))
    with pytest.warns() as caught:
        nlme.load(tmp_path / "x.nlme", model=module)
        module.write_text(text.format(1.0))
        nlme.load(tmp_path / "x.nlme", model=module)
    assert [str(one.message) for one in caught if "has changed since" in str(one.message)] and len(caught) == 1


class Constant(Theophylline):
    """A model with a constant that its class can be called with."""

    power: float = 1.0
    shape: tuple = ()


def test_constants_of_a_model_come_back_or_are_asked_for(fit, tmp_path):
    dataclasses.replace(fit, model=Constant(power=0.75), start=Constant(power=0.75)).save(tmp_path / "x.nlme")
    assert nlme.load(tmp_path / "x.nlme", model=Constant).model.power == 0.75
    dataclasses.replace(fit, model=Constant(shape=(1,)), start=Constant(shape=(1,))).save(tmp_path / "x.nlme")
    with pytest.raises(nlme.ModelError, match=r"shape: \(1,\) in the fit, \(\) now"):
        nlme.load(tmp_path / "x.nlme", model=Constant)
    assert nlme.load(tmp_path / "x.nlme", model=Constant(shape=(1,))).model.shape == (1,)


# -- damage ------------------------------------------------------------------------------------------------------------


def test_no_flipped_bit_and_no_cut_goes_unnoticed(path, tmp_path):
    """500 of each file, of which none opens and none raises anything but a FitError."""
    whole, chance = path.read_bytes(), random.Random(14)
    for k in range(500):
        damaged = bytearray(whole)
        if k % 5:
            damaged[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        else:
            del damaged[chance.randrange(len(whole)) :]
        (tmp_path / "x.nlme").write_bytes(damaged)
        with pytest.raises(nlme.FitError, match="damaged|not a fit saved by nlme|format|not as nlme wrote it"):
            nlme.load(tmp_path / "x.nlme")


def test_a_file_that_was_packed_anew_is_refused(path, tmp_path):
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / "x.nlme", "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with pytest.raises(nlme.FitError, match="damaged or edited"):
        nlme.load(tmp_path / "x.nlme")


@pytest.mark.parametrize("version", [1, 99, None, "2", [], {"a": 1}])
def test_another_format_is_said_before_the_digest(path, tmp_path, version):
    document, arrays, source = archive.read(path, FORMAT, VERSION)
    archive.write(tmp_path / "x.nlme", document | {"version": version}, arrays, source)
    with pytest.raises(nlme.FitError, match="this nlme reads format 2"):
        nlme.load(tmp_path / "x.nlme")


@pytest.fixture(scope="module")
def parts(path):
    return archive.read(path, FORMAT, VERSION)


def _places(node, at=()):
    yield at
    if isinstance(node, dict):
        for key in node:
            yield from _places(node[key], (*at, key))
    elif isinstance(node, list):
        for key in range(len(node)):
            yield from _places(node[key], (*at, key))


DELETE = object()
JUNK = [
    DELETE,
    None,
    True,
    -1,
    1.5,
    float("nan"),
    10**30,
    "",
    "os.system",
    [],
    {},
    ["array", "nope"],
    ["record", {}],
    ["tuple", 1],
    [[1]],
]
ARRAYS = {
    "cut": lambda x: x[:-1] if x.ndim else x.reshape(1),
    "single": lambda x: x.astype(np.float32),
    "text": lambda x: x.astype(str),
    "complex": lambda x: x.astype(complex),
    "not finite": lambda x: np.full(x.shape, np.nan),
    "gone": None,
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_an_edited_file_with_a_right_digest_ends_in_a_sentence(parts, tmp_path, data):
    """Whoever writes the digest, too, can change words that nothing depends on, and nothing else."""
    document, arrays, source = parts
    document, arrays = copy.deepcopy(document), dict(arrays)
    if data.draw(st.booleans(), "of the document"):
        place = data.draw(
            st.sampled_from([at for at in _places(document) if at and at[:2] != ("population", "cmt_name")]), "where"
        )
        node = document
        for key in place[:-1]:
            node = node[key]
        new = data.draw(st.sampled_from(JUNK), "what")
        if new is DELETE:
            del node[place[-1]]
        else:
            node[place[-1]] = new
    else:
        name = data.draw(st.sampled_from(sorted(arrays)), "array")
        change = ARRAYS[data.draw(st.sampled_from(sorted(ARRAYS)), "how")]
        if change is None:
            del arrays[name]
        else:
            arrays[name] = change(arrays[name])
    archive.write(tmp_path / "x.nlme", document, arrays, source)
    try:
        again = nlme.load(tmp_path / "x.nlme")
    except NLMEError as error:
        assert str(tmp_path) in str(error) and "\n" not in str(error).splitlines()[0]
        return
    assert np.isfinite(again.objective) and again.population.hash == again.data_hash
    repr(again)


def test_the_document_is_plain_json(path):
    with zipfile.ZipFile(path) as packed:
        document = json.loads(packed.read("fit.json"))
    assert set(document) == {"format", "version", "versions", "model", "method", "fit", "covariance", "population"}


def _made(power, table):
    class Made(Theophylline):
        table: np.ndarray = dataclasses.field(default_factory=lambda: np.arange(table))

        def individual(self, eta, cov):
            return super().individual(eta, cov) | dict(ka=self.ka * (self.table[1] * power) * jnp.exp(eta.ka))

    return Made


def test_fields_of_whole_numbers_and_what_a_class_was_made_with(fit, tmp_path):
    path = tmp_path / "x.nlme"
    population = fit.population
    saved = nlme.evaluate(_made(2.0, 3)(), population, nlme.FO())
    found = dataclasses.replace(fit, model=saved.model)
    found.save(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert nlme.load(path, model=_made(2.0, 3)).objective == fit.objective
    with pytest.warns(UserWarning, match="something that Made rests on"):
        nlme.load(path, model=_made(3.0, 3))
    with pytest.raises(nlme.ModelError, match="other constants"):
        nlme.load(path, model=_made(2.0, 4))
