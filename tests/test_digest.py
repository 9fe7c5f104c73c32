"""What a model does is told apart from what another does, whatever the difference rests on, and is the same in every process."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import types

import jax.numpy as jnp
import numpy as np
import pytest

import nlme
from nlme.digest import behaviour_of, digest_of
from nlme.errors import ModelError
from nlme.parameters.inventory import Inventory

TEXT = """
import jax.numpy as jnp
import nlme
import helpers_of_test_digest as helpers

POWER = {power}

def size(wt):
    "{words}"
    return (wt / 70.0) ** POWER

class Level(nlme.Model):
    level: nlme.Scalar = nlme.positive(2.0)
    omega: nlme.Covariance = nlme.covariance(level=0.1)
    sd: nlme.Scalar = nlme.positive(0.5)
    covariates = {{"wt": "kg"}}

    def individual(self, eta, cov):
        return dict(level=self.level * size(cov.wt) * helpers.factor(cov.wt) * jnp.exp(eta.level))

    def observe(self, ind, state, t):
        return {{"y": nlme.additive(ind.level, self.sd)}}

wt = {wt}
"""


def module(name: str, text: str) -> types.ModuleType:
    made = types.ModuleType(name)
    sys.modules[name] = made
    exec(compile(textwrap.dedent(text), name, "exec"), made.__dict__)
    return made


def level(power=1.0, factor="1.0", wt=0, name="model_of_test_digest", words="Of size."):
    module("helpers_of_test_digest", f"def factor(wt):\n    return {factor}\n")
    return module(name, TEXT.format(power=power, wt=wt, words=words)).Level()


def test_constants_helpers_and_other_files_count_and_names_that_only_look_alike_do_not():
    first = behaviour_of(level())
    assert behaviour_of(level()) == first
    assert behaviour_of(level(wt=5)) == first  # `cov.wt` is no use of the file's own wt
    assert behaviour_of(level(name="another_name_of_its_file", words="Of another size.")) == first
    different = [behaviour_of(level(power=2.0)), behaviour_of(level(factor="2.0")), behaviour_of(level(factor="wt"))]
    assert len({first, *different}) == 4


def test_numbers_count_in_the_model_and_not_in_what_it_does():
    model = level()
    other = type(model)(level=3.0)
    assert behaviour_of(model) == behaviour_of(other) and digest_of(model) != digest_of(other)


def test_closures_defaults_and_settings_count():
    def made(power, more=0.0):
        class Made(nlme.Model):
            level: nlme.Scalar = nlme.positive(2.0)
            sd: nlme.Scalar = nlme.positive(0.5)
            power: float = 1.0

            def individual(self, eta, cov, more=more):
                return dict(level=self.level * 2.0**power + more)

            def observe(self, ind, state, t):
                return {"y": nlme.additive(ind.level, self.sd)}

        return Made

    assert behaviour_of(made(1.0)()) == behaviour_of(made(1.0)())
    assert len({behaviour_of(made(1.0)()), behaviour_of(made(2.0)()), behaviour_of(made(1.0, 1.0)())}) == 3
    kind = made(1.0)
    assert digest_of(kind(power=1.0)) != digest_of(kind(power=2.0))


WAYS = {  # by which a number reaches a model's function
    "a private method": ("", "    def _size(self):\n        return {k}\n", "self._size()"),
    "a private attribute": ("", "    _K = {k}\n", "self._K"),
    "a call of the model": ("", "    def __call__(self, x):\n        return {k} * x\n", "self(1.0)"),
    "a base class": ("", "", "self._base()"),
    "a namespace": ("class Constants:\n    _k = {k}\n", "", "Constants._k"),
    "an import inside": ("", "", "__import_inside__"),
    "a module of a package": ("import package_of_test_digest.part", "", "package_of_test_digest.part.size()"),
    "a row of a table": (
        "import pandas as pd\nT = pd.DataFrame({{'x': [1.0] * 50 + [{k}] + [1.0] * 49}})",
        "",
        "T.x.to_numpy()[50]",
    ),
    "a word in a table": (
        "import pandas as pd\nT = pd.Series(['1.0'] * 50 + ['{k}'] + ['1.0'] * 49, dtype=object)",
        "",
        "float(T[50])",
    ),
    "an object of a library": (
        "from scipy.interpolate import CubicSpline\nT = CubicSpline([0, 1, 2], [{k}] * 3)",
        "",
        "float(T(1.0))",
    ),
    "a bound of a parameter": ("BOUND = {k}", "    more: nlme.Scalar = nlme.bounded(0.5, 0.0, BOUND)\n", "self.more"),
}


def reached(way: str, k: float):
    head, inside, used = WAYS[way]
    module("package_of_test_digest", "").part = module("package_of_test_digest.part", f"def size():\n    return {k}\n")
    before = "" if used != "__import_inside__" else "        from package_of_test_digest.part import size\n"
    text = f"""import nlme
{head.format(k=k)}
class Base(nlme.Model):
    def _base(self):
        return {k if way == "a base class" else 1.0}

class Level(Base):
    level: nlme.Scalar = nlme.positive(2.0)
    sd: nlme.Scalar = nlme.positive(0.5)
{inside.format(k=k)}
    def individual(self, eta, cov):
{before}        return dict(level=self.level * {"size()" if before else used})

    def observe(self, ind, state, t):
        return {{"y": nlme.additive(ind.level, self.sd)}}
"""
    return module("model_of_test_digest", text).Level()


@pytest.mark.parametrize("way", WAYS)
def test_every_way_by_which_a_number_reaches_a_function_counts(way):
    assert behaviour_of(reached(way, 1.5)) == behaviour_of(reached(way, 1.5)) != behaviour_of(reached(way, 2.5))


def test_every_process_finds_the_same():
    text = "import nlme\nfrom nlme.digest import digest_of\nfrom nlme.models.quinidine_deep import QuinidineDeep\n"
    found = subprocess.run([sys.executable, "-c", text + "print(digest_of(QuinidineDeep()))"], capture_output=True, text=True)
    from nlme.models.quinidine_deep import QuinidineDeep

    assert found.stdout.strip() == digest_of(QuinidineDeep())


def test_a_program_does_not_answer_for_a_model_whose_constants_have_changed():
    """As in a notebook: a cell with a constant is run again."""
    time = np.zeros(2)
    people = nlme.Population(
        tuple(nlme.Subject(id=i, time=time, dv=time + 2.0 + i, covariates={"wt": 50.0 + 10 * i}) for i in range(4))
    )
    made = level(power=3.0)
    here = sys.modules["model_of_test_digest"]

    def objective():
        return nlme.evaluate(made, people, nlme.FO()).objective

    def exact():
        y = np.array([s.dv for s in people])
        size = np.array([(50.0 + 10 * i) / 70.0 for i in range(4)]) ** here.POWER
        mean, total = 2.0 * size, 0.0
        for values, m in zip(y, mean, strict=True):
            covariance = 0.1 * m**2 + 0.25 * np.eye(2)
            total += np.linalg.slogdet(covariance)[1] + (values - m) @ np.linalg.solve(covariance, values - m)
        return total

    cubed = objective()
    assert cubed == pytest.approx(exact())
    here.POWER = 0.0
    assert objective() == pytest.approx(exact()) and abs(objective() - cubed) > 1.0


@pytest.mark.filterwarnings("ignore:A JAX array is being set as static")
def test_a_static_array_is_refused_with_what_to_write():
    import equinox as eqx

    class Grid(nlme.Model):
        level: nlme.Scalar = nlme.positive(2.0)
        grid: np.ndarray = eqx.field(static=True, default=None)

        def individual(self, eta, cov):
            return dict(level=self.level * jnp.asarray(self.grid)[0])

        def observe(self, ind, state, t):
            return {"y": nlme.additive(ind.level, 1.0)}

    Inventory(Grid(grid=(1.0, 2.0)))
    with pytest.raises(ModelError, match="as a tuple"):
        Inventory(Grid(grid=np.array([1.0, 2.0])))


def test_a_file_changed_within_a_second_to_another_of_its_size_is_read_anew(tmp_path):
    import os

    from nlme.language.files import load_model

    text = "import nlme\n\nclass Level(nlme.Model):\n    K = {}\n\n    def individual(self, eta, cov):\n        return dict(level=self.K)\n\n"
    text += '    def observe(self, ind, state, t):\n        return {{"y": nlme.additive(ind.level, 1.0)}}\n'
    file, found = tmp_path / "levels_of_a_second.py", []
    for k in (1.0, 2.0):
        file.write_text(text.format(k))
        os.utime(file, (1_700_000_000, 1_700_000_000))
        found.append(load_model(file).K)
    assert found == [1.0, 2.0] and not (tmp_path / "__pycache__").exists()
