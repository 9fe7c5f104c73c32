"""A model prints its values, and its text is found with everything that it rests on."""

from __future__ import annotations

import importlib
import linecache
import pickle
import sys
import types

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

import nlme
from nlme.language.files import load_model
from nlme.language.source import code_of, source_of
from nlme.models.quinidine_deep import QuinidineDeep
from nlme.models.theophylline import Theophylline


class Printed(nlme.Model):
    cl: nlme.Scalar = nlme.positive(2.5, unit="L/h", label="Clearance")
    beta: nlme.Vector = nlme.real([0.5, -1.0])
    omega: nlme.Covariance = nlme.covariance(("cl", "v"), [[0.09], [0.01, 0.04]])
    occ: nlme.Covariance = nlme.covariance(cl_occ=0.02, per="occasion")
    kind: nlme.Mixture = nlme.mixture(slow=0.3, fast=0.7)
    power: float = eqx.field(static=True, default=0.75)


def test_a_model_shows_its_values():
    lines = repr(Printed(cl=3.25)).splitlines()
    assert lines[0] == "Printed" and lines[1].split() == ["cl", "3.25", "L/h", "Clearance"]
    text = "\n".join(lines)
    for piece in (
        "[0.5 -1]",
        "cl=0.09, v,cl=0.01, v=0.04",
        "variances per subject",
        "cl_occ=0.02",
        "per occasion",
        "slow=0.3, fast=0.7",
        "0.75",
    ):
        assert piece in text
    assert "f64[" not in text and "MLP(glyco, age" in repr(QuinidineDeep())


def test_it_prints_where_there_are_no_numbers_too():
    seen = []
    jax.jit(lambda m: (seen.append(repr(m)), m.cl)[1])(Printed())
    eqx.tree_at(lambda m: (seen.append(repr(m)), m.cl)[1], Printed(), jnp.asarray(1.0))
    repr(jax.eval_shape(lambda: Printed()))
    assert all("omega" in text for text in seen)
    assert repr(pickle.loads(pickle.dumps(Theophylline()))) == repr(Theophylline())


MODELS = {
    "parts_of_a_test": "from __future__ import annotations\n\nimport jax.numpy as jnp\n\nSIZE = 70.0\nUNUSED = 3\n\n\n"
    "def scaled(x, cov):\n    return x * (cov.wt / SIZE)\n\n\nclass Base:\n    pass\n",
    "model_of_a_test": "import jax.numpy as jnp\nimport nlme\nfrom parts_of_a_test import scaled\n\nPOWER = 0.75\n"
    "cov = 3; v = 4; unused = 5\n\n\n"
    "class First(nlme.Model):\n    '''One.'''\n    cl: nlme.Scalar = nlme.positive(1.0)\n\n    def size(self, cov):\n        return cov.wt ** POWER\n\n\n"
    "def not_needed():\n    return 1\n\n\nclass Second(First):\n    # a remark\n    v: nlme.Scalar = nlme.positive(2.0)\n\n"
    "    def individual(self, eta, cov):\n        return dict(cl=scaled(self.cl, cov), v=self.v)\n",
}


@pytest.fixture
def second(tmp_path, monkeypatch):
    for name, text in MODELS.items():
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield importlib.import_module("model_of_a_test").Second
    for name in MODELS:
        sys.modules.pop(name, None)


def test_the_text_of_a_model_holds_what_it_inherits_and_uses(second):
    text = source_of(second)
    for piece in (
        "class First(nlme.Model)",
        "class Second(First)",
        "POWER = 0.75",
        "from parts_of_a_test import scaled",
        "# a remark",
    ):
        assert piece in text
    assert "unused" not in text  # cov and v are arguments and fields, whatever the module calls so
    assert "not_needed" not in text and text.index("POWER") < text.index("class First") < text.index("class Second")
    compile(text, "model.py", "exec")


def test_text_of_the_librarys_own_models_and_of_what_has_none():
    assert "class Theophylline(nlme.Model)" in source_of(Theophylline) and source_of(nlme.Model) == ""
    assert source_of(type("Made", (Theophylline,), {})).count("class ") == 1  # the parent's alone


CELLS = (
    "import nlme\nfrom nlme import Scalar\nPOWER, not_needed = 0.75, 1\n",
    "class First(nlme.Model):\n    cl: Scalar = nlme.positive(1.0)\n",
    "class First(nlme.Model):\n    cl: Scalar = nlme.positive(2.0)\n"
    "    def individual(self, eta, cov):\n        return dict(cl=self.cl * cov.wt**POWER)\n",
    "class Second(First):\n    v: Scalar = nlme.positive(3.0)\n",
)


def test_the_cells_of_a_notebook_are_one_file(monkeypatch):
    notebook = types.ModuleType("__main__")  # as IPython's: without a file, its cells in Python's line cache
    monkeypatch.setitem(sys.modules, "__main__", notebook)
    for number, cell in enumerate(CELLS):
        monkeypatch.setitem(linecache.cache, f"<cell {number}>", (len(cell), None, cell.splitlines(True), f"<cell {number}>"))
        exec(compile(cell, f"<cell {number}>", "exec"), notebook.__dict__)
    text = source_of(notebook.Second)
    assert text.index("import nlme") < text.index("POWER") < text.index("class First") < text.index("class Second")
    assert text.count("class ") == 2 and "positive(2.0)" in text and "positive(1.0)" not in text  # as it was run last


def test_comments_and_spacing_are_no_change_of_a_model(second):
    text = source_of(second)
    changed = text.replace("# a remark", "# another").replace("'''One.'''", "'''Two.'''").replace("wt ** POWER", "wt**POWER")
    assert code_of(changed) == code_of(text) != code_of(text.replace("0.75", "0.7"))
    assert code_of("not python (") == "not python ("


FILES = {
    "numpy.py": ("x = 1", "numpy.py has the name of a module"),
    "random.py": ("x = 1", "random.py has the name of a module"),
    "__main__.py": ("x = 1", "__main__.py has the name"),
    "leaves.py": ("import sys\nsys.exit(3)", r"leaves.py ends Python \(sys.exit\(3\)\)"),
    "quits.py": ("quit()", "ends Python"),
    "raises.py": ("raise RuntimeError('no')", "raises.py does not run.\nRuntimeError: no"),
    "stops.py": ("class Stop(BaseException): pass\nraise Stop()", "stops.py does not run"),
    "nulls.py": ("x = 1\0", "nulls.py.*null bytes"),
    "fields.py": (
        "import nlme\nclass A(nlme.Model):\n    cl = nlme.positive(1.0)",
        "A.cl has no annotation(.|\n)*fields.py, line 2",
    ),
}


@pytest.mark.parametrize(("name", "text", "words"), [(name, *rest) for name, rest in FILES.items()], ids=FILES)
def test_a_model_file_that_will_not_do_leaves_python_as_it_was(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    modules, path = dict(sys.modules), list(sys.path)
    with pytest.raises(nlme.ModelError, match=words):
        load_model(tmp_path / name)
    assert sys.modules == modules and sys.path == path


def test_describe_takes_a_fit_and_nothing_that_has_no_model():
    class Held:
        model = Printed()

    with pytest.raises(nlme.ModelError, match="individual"):
        nlme.describe(Held())
    for other in (3, None, "model.py"):
        with pytest.raises(nlme.ModelError, match="describe takes a model, its class or a fit"):
            nlme.describe(other)
