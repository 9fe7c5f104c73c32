"""A model says what it is made of without data, and says so truthfully."""

import jax.numpy as jnp
import pytest

import nlme
from nlme.language import joint_normal
from nlme.language.augmented import augmented_kind
from nlme.language.model import documented
from nlme.language.relations import with_relations
from nlme.models.indomethacin_ude import IndomethacinUDE
from nlme.models.quinidine import Quinidine


def _row(text: str, name: str) -> str:
    return next(line for line in text.splitlines() if line.split()[:1] == [name])


def test_parameters_effects_and_dependences_are_named():
    text = str(nlme.describe(Quinidine))
    assert "22.6" in _row(text, "cl") and "L/h" in _row(text, "cl")
    assert "log-normal" in text and "1 = depot, 2 = central" in text
    individual = text.split("Individual parameters")[1].split("Dynamics")[0]
    assert _row(individual, "cl").split(maxsplit=1)[1] == "eta.cl, cov.glyco, cl, glyco"
    assert _row(individual, "ka").split(maxsplit=1)[1] == "ka"


def test_variance_and_mean_of_an_endpoint_depend_on_what_the_model_uses():
    observations = str(nlme.describe(Quinidine())).split("Observations")[1]
    assert "prop" in _row(observations, "conc")


def test_a_network_is_listed_by_its_shape_and_where_it_is_used():
    text = str(nlme.describe(IndomethacinUDE()))
    assert "10" in _row(text.split("Networks")[1], "net")  # one hidden layer of 3: 3 + 3 weights and biases, then 3 + 1
    assert "net" in next(line for line in text.splitlines() if "used directly" in line)


def test_html_escapes_what_the_user_wrote():
    class Odd(Quinidine):
        """Less < more & more."""

    page = nlme.describe(Odd)._repr_html_()
    assert "Less &lt; more &amp; more." in page and page == Odd()._repr_html_()


def test_what_is_not_a_model_is_refused():
    with pytest.raises(nlme.ModelError, match="takes a model, its class or a fit; got int"):
        nlme.describe(3)


def test_effects_whose_scale_cannot_be_told_without_data_are_unknown():
    class Undefined(Quinidine):
        def individual(self, eta, cov):
            return super().individual(eta, cov) | {"cl": self.cl / (cov.glyco - 1.0) * jnp.exp(eta.cl)}

    assert "unknown" in str(nlme.describe(Undefined()))


def test_models_made_of_a_model_have_what_its_author_wrote():
    """Nothing where nothing was written, and never the signature that dataclasses put in its place."""

    class Bare(nlme.Model):
        cl: nlme.Scalar = nlme.positive(1.0)
        covariates = {"wt": "kg"}

        def individual(self, eta, cov):
            return dict(cl=self.cl)

        def observe(self, ind, state, t):
            return {"y": nlme.additive(ind.cl, 1.0)}

    class Told(Bare):
        """Written by hand."""

    for base, expected in ((Bare, None), (Told, "Written by hand.")):
        assert documented(base) == expected
        for kind in (
            augmented_kind(base, (("wt", "kg"),)),
            type(with_relations(base(), (), {"wt": "kg"})),
            joint_normal._kind(base, (("wt", 1.0),)),
        ):
            assert documented(kind) == expected
