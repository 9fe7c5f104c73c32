"""Who a dose is for: draws of the parameters and random effects of some patients, given their samples so far."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from nlme.data.population import Population
from nlme.dynamics.solvers import Tolerances
from nlme.errors import ModelError
from nlme.fitting.result import Evaluated
from nlme.keys import key_of
from nlme.language.anatomy import Anatomy
from nlme.language.density import effects_from
from nlme.language.layout import anatomy_for, lay_out
from nlme.language.model import Model
from nlme.language.ragged import Ragged, over_subjects
from nlme.marginal.quadrature import ImportanceSampling
from nlme.posterior.individual import individual_posterior, require_own_effects, told
from nlme.posterior.models import posterior_models
from nlme.posterior.proposals import one_draw

_NODES = 200  # from which one draw of a patient's random effects is taken, given a draw of the parameters
_TOGETHER = 16  # draws whose equations are solved side by side


class Patients(eqx.Module):
    """D draws of N patients; ``models`` has a leading axis over draws where the parameters are not known (``many``)."""

    models: Model
    eta: Float[Array, "D N q"]
    members: Int[Array, "D N"]
    anatomy: Anatomy = eqx.field(static=True)
    ode: Tolerances = eqx.field(static=True)
    many: bool = eqx.field(static=True)
    messages: tuple[str, ...] = eqx.field(static=True)

    @property
    def model(self) -> Model:
        """One of them, for what does not depend on numbers."""
        return jax.tree.map(lambda x: x[0] if eqx.is_array(x) else x, self.models) if self.many else self.models

    def mapped(self, function: Callable) -> Any:
        """``function((model, eta (N, q), members (N,)))`` of every draw, stacked."""
        arrays, rest = eqx.partition(self.models, eqx.is_array)

        def one(given):
            own, eta, members = given
            return function((eqx.combine(own if self.many else arrays, rest), eta, members))

        given = arrays if self.many else None, self.eta, self.members
        return jax.lax.map(one, given, batch_size=_TOGETHER) if self.anatomy.looped else jax.vmap(one)(given)


def patients_of(
    model: Model | Evaluated, patient: Population, draws: int, key, posterior: Any, ode: Tolerances | None
) -> Patients:
    """The draws, at the model's own parameters or over those of a ``posterior``.

    Raises
    ------
    ModelError
        No random effects of the patients' own; fewer draws in the posterior than asked for.
    """
    own, _, tolerances = told(model, patient, ode, "nlme.dose_search")
    key = key_of(key)
    if posterior is None:
        found = individual_posterior(own, patient, draws=draws, key=key, ode=tolerances)
        members = np.zeros(found.eta.shape[:2], int) if found.members is None else found.members
        eta = jnp.asarray(found.eta.swapaxes(0, 1))
        return Patients(found.model, eta, jnp.asarray(members.T), found.anatomy, tolerances, False, tuple(found.messages))
    require_own_effects(own, anatomy_for(own, patient), "nlme.dose_search")
    layout = lay_out(own, patient)
    models = posterior_models(layout.model, posterior)
    total = posterior.posterior.sizes["chain"] * posterior.posterior.sizes["draw"]
    if total < draws:
        raise ModelError(f"nlme.dose_search: the posterior has {total} draws, and {draws} are asked for.")
    chosen = np.linspace(0, total - 1, draws).astype(int)
    models = jax.tree.map(lambda x: x[chosen] if eqx.is_array(x) else x, models)
    keys = jax.random.split(key, draws)
    eta, members = _given_each(layout.arrays, layout.anatomy, layout.n_subjects, models, keys, tolerances)
    return Patients(models, eta, members, layout.anatomy, tolerances, True, ())


@eqx.filter_jit
def _given_each(subjects: Ragged, anatomy: Anatomy, count: int, models: Model, keys, ode: Tolerances):
    """(eta (D, N, q), members (D, N)): a draw of everybody's random effects given each model."""
    method = ImportanceSampling(_NODES, ode=ode)
    arrays, rest = eqx.partition(models, eqx.is_array)
    start = jnp.zeros((count, anatomy.inner))

    def one(given):
        own, key = given
        model = eqx.combine(own, rest)

        def of_subject(data, start, key):
            found = one_draw(method, anatomy, model, data, start, key)
            return (effects_from(anatomy, model, found.b), found.member), ()

        return over_subjects(of_subject, subjects, start, jax.random.split(key, count))[0]

    return jax.lax.map(one, (arrays, keys), batch_size=_TOGETHER)
