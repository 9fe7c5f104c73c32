"""Random effects of the subjects of a fit: their modes at other parameters, and draws from their distribution given the data.

At the estimate these are the draws of :func:`nlme.individual_posterior`.  Where parameters are drawn too, draw d of the random effects is
given draw d of the parameters, one of the nodes of the subject's integral there taken with chances proportional to what each adds to it
(sampling importance resampling: Rubin 1988; nodes and weights of ``nlme.marginal.quadrature.ImportanceSampling``):

    theta_d ~ what the uncertainty of the estimates is,        eta_d ~ p(eta | y_i, theta_d)

which is the subject's distribution with the uncertainty of the estimates in it.

Sources: Rubin (1988), Bayesian Statistics 3:395; Hesterberg (1995), doi:10.1080/00401706.1995.10484303.
"""

from __future__ import annotations

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from nlme.errors import ModelError
from nlme.fitting.evaluated import Evaluated, post_hoc_method
from nlme.fitting.monte_carlo import weighted_nodes
from nlme.language.density import effects_from
from nlme.language.ragged import over_subjects, threaded
from nlme.marginal.mode import begin_mode
from nlme.marginal.quadrature import ImportanceSampling
from nlme.marginal.subjects import at_mode
from nlme.parameters.draws import Drawn
from nlme.posterior.individual import individual_posterior
from nlme.posterior.proposals import Proposals, chosen

_NODES = 200  # of which one is drawn, where every draw has parameters of its own
_NUMBERS = 2_000_000  # in the nodes' predictions of what is worked off at once
_FEW = 10  # effective nodes


@dataclasses.dataclass(frozen=True, eq=False)
class IndividualDraws:
    """D draws for every subject.

    Attributes
    ----------
    eta : (D, N, q) random effects
    members : (D, N) subpopulations, 0 without a mixture
    effective : (N,) effective number of nodes drawn from; their least over the draws where each draw has nodes of its own
    messages : what there is to say of them, in words
    """

    eta: np.ndarray
    members: np.ndarray
    effective: np.ndarray
    messages: list[str]


def modes_at(fit: Evaluated, drawn: Drawn) -> tuple[np.ndarray, list[str]]:
    """(R, N, q) modes of the random effects at each of R parameter vectors, and what there is to say of them.

    Raises
    ------
    ModelError
        Subjects share random effects of a site.
    """
    if not fit.effects or not fit.method.individuals:
        return np.repeat(fit.eta.to_numpy()[None], len(drawn), axis=0), []
    _refuse_sites(fit, "Modes at other parameters are")
    anatomy, method = fit.layout.anatomy, post_hoc_method(fit.method)
    rows, count = _starts(fit, len(drawn)), len(fit.population)
    arrays = fit.layout.repeated(len(drawn), 2)
    eta, found = threaded(_modes, arrays, method, anatomy, fit.model, drawn, *rows)
    found, eta = np.asarray(found).reshape(-1, count), np.asarray(eta)
    return eta.reshape(len(drawn), count, -1), _unfound(fit, found)


def individual_draws(fit: Evaluated, draws: int, key, drawn: Drawn | None = None) -> IndividualDraws:
    """Draws of every subject's random effects given its data: at the fit's parameters, or draw d at vector d of ``drawn``.

    Raises
    ------
    ModelError
        No random effects, or subjects share those of a site.
    """
    if not fit.effects or not fit.method.individuals:
        raise ModelError(f"{type(fit.model).__name__} by {fit.method!r} has no random effects, so there is nothing to draw.")
    _refuse_sites(fit, "Draws are")
    return _at_the_estimate(fit, draws, key) if drawn is None else _at_draws(fit, key, drawn)


def _refuse_sites(fit: Evaluated, what: str) -> None:
    if fit.layout.anatomy.by_site:
        raise ModelError(
            f"{what} taken subject by subject, and here subjects share the effects of their {fit.layout.anatomy.above}."
        )


def _starts(fit: Evaluated, times: int) -> list:
    """(R N, ...) rows of the programs: modes of the fit, its likeliest subpopulations, and the replicate."""
    replicate = np.repeat(np.arange(times), len(fit.population))
    return [jnp.asarray(np.tile(fit.b, (times, 1))), jnp.asarray(np.tile(fit.members, times)), jnp.asarray(replicate)]


def _unfound(fit: Evaluated, found: np.ndarray) -> list[str]:
    bad = np.flatnonzero(~found.all(axis=0))
    if not len(bad):
        return []
    listed = ", ".join(str(fit.population.ids[i]) for i in bad[:5]) + (" ..." if len(bad) > 5 else "")
    return [
        f"{int((~found).sum())} of {found.size:,} searches for a mode at drawn parameters did not end (subject {listed}); the last "
        f"point of each was taken."
    ]


@eqx.filter_jit
def _modes(arrays, method, anatomy, base, drawn, b, members, replicates):
    def of_subject(data, b, member, r):
        model = drawn.at(base, r)
        data = data.belonging(member) if anatomy.mixture else data
        at, found = _mode(method, anatomy, model, data, b)
        return (effects_from(anatomy, model, at), found), ()

    return over_subjects(of_subject, arrays, b, members, replicates)[0]


def _mode(method, anatomy, model, data, start):
    flat = jnp.zeros((len(start), len(start)))
    _, b, search, _ = at_mode(
        method, anatomy, model, data, begin_mode(start), method.inner_iterations, flat, method.inner_tolerance
    )
    found = search.decrement <= method.inner_tolerance
    return jnp.where(jnp.all(jnp.isfinite(b)), b, start), found


def _at_the_estimate(fit: Evaluated, draws: int, key) -> IndividualDraws:
    """All draws at the fit's parameters (:func:`nlme.individual_posterior`)."""
    found = individual_posterior(fit, draws=draws, key=key)
    eta = np.moveaxis(found.eta, 0, 1)
    members = np.zeros(eta.shape[:2], int) if found.members is None else found.members.T
    return IndividualDraws(eta, members, found.quality["effective"].to_numpy(), found.messages)


def _at_draws(fit: Evaluated, key, drawn: Drawn) -> IndividualDraws:
    """Each draw from nodes at parameters of its own."""
    searching, method = post_hoc_method(fit.method), ImportanceSampling(_NODES, ode=fit.method.ode)
    layout, count = fit.layout, len(fit.population)
    slots = sum(part.members.shape[0] * part.data.observed.shape[1] for part in layout.arrays.parts)
    size = int(np.clip(_NUMBERS // (slots * _NODES), 1, len(drawn)))
    arrays, rows = layout.repeated(size, 2), _starts(fit, size)
    keys, parts = jax.random.split(key, len(drawn)), []
    for begin in range(0, len(drawn), size):
        own = np.minimum(begin + np.arange(size), len(drawn) - 1)
        each = jax.vmap(lambda key: jax.random.split(key, count))(keys[own]).reshape(-1)
        numbers = jnp.asarray(np.repeat(own * count, count))
        some = drawn.some(own)
        found = threaded(_drawn, arrays, searching, method, layout.anatomy, fit.model, some, *rows, numbers, each)
        parts.append([np.asarray(x).reshape(size, count, *x.shape[1:])[: len(drawn) - begin] for x in found])
    eta, members, effective, found = (np.concatenate(x) for x in zip(*parts, strict=True))
    least = effective.min(axis=0)
    return IndividualDraws(eta, members, least, _unfound(fit, found) + _said(fit, least))


@eqx.filter_jit
def _drawn(arrays, searching, method, anatomy, base, drawn, b, members, replicates, numbers, keys):
    def of_subject(data, b, member, r, number, key):
        model = drawn.at(base, r)
        own = data.belonging(member) if anatomy.mixture else data
        at, found = _mode(searching, anatomy, model, own, b)
        data = dataclasses.replace(data, number=data.number + number)  # nodes of its own
        one = chosen(Proposals(*weighted_nodes(method, anatomy, model, data, at)), key)
        return (effects_from(anatomy, model, one.b), one.member, one.effective, found), ()

    return over_subjects(of_subject, arrays, b, members, replicates, numbers, keys)[0]


def _said(fit: Evaluated, effective: np.ndarray) -> list[str]:
    bad = np.flatnonzero(effective < _FEW)
    if not len(bad):
        return []
    listed = ", ".join(f"{fit.population.ids[i]} ({effective[i]:.0f})" for i in bad[:5]) + (" ..." if len(bad) > 5 else "")
    return [f"The draws of {len(bad)} subjects come from few effective nodes: {listed}."]
