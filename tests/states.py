"""The states of a model at every record, with their derivatives in the random effects, as the likelihood gets them."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import nlme
from nlme.language.anatomy import anatomy_of
from nlme.language.layout import lay_out
from nlme.language.solution import Expansion

TIGHT = nlme.Tolerances(relative=1e-10, absolute=1e-12)


def subject_of(id: int, doses: list[dict[str, Any]], times) -> nlme.Subject:
    """A subject with these dose records and an observation at each time (after the doses at equal times)."""
    rows = [dict(dict(evid=1, dv=np.nan), **d) for d in doses] + [dict(time=t, evid=0, dv=1.0) for t in times]
    rows.sort(key=lambda r: r["time"])
    names = ("time", "evid", "amt", "rate", "duration", "ii", "addl", "ss", "cmt")
    fields = {name: [row.get(name, 0) for row in rows] for name in names}
    return nlme.Subject(id=id, dv=[row["dv"] for row in rows], **fields)


def population_of(regimens: list[list[dict[str, Any]]], times) -> nlme.Population:
    """One subject per list of dose records."""
    return nlme.Population(tuple(subject_of(k + 1, doses, times) for k, doses in enumerate(regimens)))


def simulated(model: nlme.Model, design: nlme.Population) -> nlme.Population:
    """The subjects of a design with new random effects and simulated observations."""
    drawn = nlme.simulate(model, design, key=1, eta="new").query("EVID == 0")

    def filled(subject):
        dv = np.array(subject.dv)
        dv[subject.is_observation] = drawn["DV"][drawn["ID"] == subject.id]
        return dataclasses.replace(subject, dv=dv)

    return nlme.Population(tuple(map(filled, design)))


def model_of(typical: dict[str, float], dynamics) -> nlme.Model:
    """Every one of the ``typical`` parameters log-normal, ``dynamics(ind)`` the structure, every state observed."""

    class Everything(nlme.Model):
        omega: nlme.Covariance = nlme.covariance(**dict.fromkeys(typical, 0.1))
        sd: nlme.Scalar = nlme.positive(1.0)

        def individual(self, eta, cov):
            return {name: value * jnp.exp(eta[name]) for name, value in typical.items()}

        def dynamics(self, ind):
            return dynamics(ind)

        def observe(self, ind, state, t):
            return {"y": nlme.additive(sum(jnp.sum(x) for x in state.values()), self.sd)}

    return Everything()


def states_of(model: nlme.Model, population: nlme.Population, order: int = 0, ode: nlme.Tolerances = TIGHT):
    """Function of eta (q,) to the states (N, T, s) at the observations and, to ``order``, their derivatives (last axes)."""
    layout = lay_out(model, population)
    anatomy = anatomy_of(model)

    def of_subject(data, eta):
        at = Expansion(model, anatomy, eta, data.covariates, data.timeline, order, ode)

        def states(eta):
            return at(model, eta).states

        found = [states]
        for _ in range(order):
            found.append(jax.jacfwd(found[-1]))
        return [f(eta) for f in found], at(model, eta).status

    run = jax.jit(jax.vmap(of_subject, (0, None)))

    def at(eta=None):
        eta = jnp.zeros(len(anatomy.effects)) if eta is None else jnp.asarray(eta, float)
        (part,) = layout.arrays.parts  # few and small: one size class
        found, status = run(part.data, eta)
        assert (np.asarray(status) == 0).all()
        return [np.asarray(x) for x in found]

    return at
