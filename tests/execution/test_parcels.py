"""What goes to another process comes out as it was: models of a script, of a function, with `super()`, with networks of one's own."""

from __future__ import annotations

import sys
import threading
import weakref

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import one_way
import pytest

import nlme
from nlme.execution import parcels
from nlme.execution.parcels import kept, packed, packed_with_names, unpacked
from nlme.language.files import class_in
from nlme.language.relations import Relation, with_relations


@pytest.fixture
def elsewhere(monkeypatch):
    """Reads a parcel as a process does that has never seen its classes."""

    def read(parcel):
        monkeypatch.setattr(parcels, "_received", weakref.WeakValueDictionary())
        return unpacked(parcel)

    return read


def models():
    """Classes that no other process can import."""

    class Base(nlme.Model):
        """Words."""

        cl: nlme.Scalar = nlme.positive(2.0, unit="L/h", label="Clearance")
        omega: nlme.Covariance = nlme.covariance(cl=0.1)
        covariates = {"wt": "kg"}

        def individual(self, eta, cov):
            return dict(cl=self.cl * jnp.exp(eta.cl) * Base.factor())

        @staticmethod
        def factor():
            return 3.0

        def observe(self, ind, state, t):
            return {"y": nlme.additive(ind.cl, 1.0)}

    class Child(Base):
        extra: nlme.Scalar = nlme.real(0.5)

        def individual(self, eta, cov):
            return {name: x + self.extra for name, x in super().individual(eta, cov).items()}

    return Base, Child


def network():
    class Net(eqx.Module):
        w: jax.Array
        n: int = eqx.field(static=True)

        def __init__(self, n):
            super().__init__()
            self.n, self.w = n, jnp.arange(float(n))

        def __call__(self, x):
            return jnp.sum(self.w) * x

    return Net


def test_a_class_is_made_anew_with_fields_methods_and_its_place_as_a_pytree(elsewhere):
    _, kind = models()
    model = kind(cl=5.0)
    found = elsewhere(packed(model))
    made = type(found)
    assert made is not kind and made.__qualname__ == kind.__qualname__ and made.__mro__[1].__doc__ == "Words."
    assert repr(found) == repr(model) and made.covariates == {"wt": "kg"}
    assert len(jax.tree.leaves(found)) == len(jax.tree.leaves(model)) > 2
    assert float(found.individual(nlme.typing.Named({"cl": 0.0}), None)["cl"]) == 5.0 * 3.0 + 0.5  # super() and its own name
    assert float(jax.jit(lambda m: m.cl + m.extra)(found)) == 5.5
    with pytest.raises(nlme.ModelError, match="outside its domain"):
        made(cl=-1.0)


def test_the_same_class_comes_out_of_every_parcel_and_back_here(elsewhere):
    base, child = models()
    parcel, other = packed([base(), child()]), packed([base(cl=1.0), child()])
    assert [type(m) for m in unpacked(parcel)] == [base, child]
    first, second = elsewhere(parcel), unpacked(other)
    assert [type(m) for m in first] == [type(m) for m in second]
    assert kept(parcel, ()) is kept(bytes(parcel), ())


def test_an_initialiser_of_ones_own(elsewhere):
    kind = network()
    found = elsewhere(packed(kind(4)))
    assert type(found) is not kind and found(2.0) == 12.0 and type(found)(3)(1.0) == 3.0
    assert [x.shape for x in jax.tree.leaves(found)] == [(4,)]


def test_models_with_added_relations_travel(elsewhere):
    model = with_relations(one_way.OneWay(), (Relation("level", "arm", "linear", 0.0, (0.0, 1.0)),), {"arm": ""})
    found = elsewhere(packed(model))
    assert repr(found) == repr(model) and type(found).relations == type(model).relations


def test_a_model_made_of_a_text_travels_with_its_methods(elsewhere, monkeypatch):
    text = (
        "import nlme\n\n\nclass Made(nlme.Model):\n    mu: nlme.Scalar = nlme.real(2.0)\n\n    def individual(self, eta, cov):\n"
    )
    kind = class_in(f"{text}        return dict(mu=self.mu)\n", "Made")
    parcel = packed(kind())
    monkeypatch.delitem(sys.modules, kind.__module__)
    found = elsewhere(parcel)
    assert type(found) is not kind and float(found.individual(None, None)["mu"]) == 2.0


def test_keys_and_arrays_travel(elsewhere):
    keys, array = elsewhere(packed((jax.random.split(jax.random.key(3), 2), np.eye(2))))
    assert jnp.array_equal(jax.random.key_data(keys), jax.random.key_data(jax.random.split(jax.random.key(3), 2)))
    np.testing.assert_array_equal(array, np.eye(2))


def test_what_cannot_travel_is_said():
    with pytest.raises(nlme.FitError, match="cannot be sent to another process"):
        packed(threading.Lock())


def test_a_module_that_is_not_there_is_said(monkeypatch):
    parcel = packed(one_way.OneWay())
    monkeypatch.delitem(sys.modules, "one_way")
    monkeypatch.setattr("sys.path", [])
    with pytest.raises(nlme.FitError, match="one_way.*must be importable there"):
        unpacked(parcel)


def test_a_worker_that_has_read_another_text_of_the_file_says_so(tmp_path, monkeypatch):
    """The class goes by its name: what it is there is looked at."""
    text = "import nlme\n\nK = {}\n\nclass Level(nlme.Model):\n    level: nlme.Scalar = nlme.positive(2.0)\n\n"
    text += "    def individual(self, eta, cov):\n        return dict(level=K * self.level)\n\n"
    text += '    def observe(self, ind, state, t):\n        return {{"y": nlme.additive(ind.level, 1.0)}}\n'
    (tmp_path / "levels_of_test_parcels.py").write_text(text.format("1.0"))
    monkeypatch.syspath_prepend(tmp_path)
    import levels_of_test_parcels as module

    model = module.Level()
    parcel, named = packed_with_names(model)
    assert [name for _, name, _ in named] == ["Level"]
    assert type(kept(parcel, named)) is module.Level
    module.K = 2.0  # as if the file had been changed and read again on one side
    with pytest.raises(
        nlme.FitError, match=r"a worker has another Level of levels_of_test_parcels, read before that file was changed"
    ):
        kept(packed(model) + b" ", named)


def test_programs_of_a_class_that_comes_again_and_does_something_else_are_forgotten(monkeypatch):
    forgotten = []
    monkeypatch.setattr(jax, "clear_caches", lambda: forgotten.append(1))

    class Level(nlme.Model):
        level: nlme.Scalar = nlme.positive(2.0)
        factor = 1.0

        def individual(self, eta, cov):
            return dict(level=self.level * self.factor)

        def observe(self, ind, state, t):
            return {"y": nlme.additive(ind.level, 1.0)}

    kept(packed(Level()), ())
    kept(packed(Level(level=3.0)), ())
    assert not forgotten
    Level.factor = 2.0
    kept(packed(Level(level=4.0)), ())
    assert forgotten
