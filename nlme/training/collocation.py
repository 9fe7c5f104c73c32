"""Collocation: the data are smoothed, and the equations are fitted to the slopes of the smooth curves, without being solved."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from nlme.data.subject import Subject
from nlme.errors import ModelError
from nlme.language.anatomy import structure_of
from nlme.language.layout import match_endpoints
from nlme.language.parameter_rows import told_by
from nlme.parameters.domains import require_whole
from nlme.search.problem import Problem
from nlme.training.aids import TrainingAid, beginning
from nlme.training.descent import descended
from nlme.training.equations import Equations
from nlme.training.inversion import individual_of, states_of_data
from nlme.training.segments import averaged, require_equations, segments_of

_FEWEST = 5  # observations of an endpoint that a smoothing spline needs
_TOLD = 0.5  # share of a state that the data have to determine
_SD = 0.1  # of a slope, in units of the state's root mean square slope


@dataclasses.dataclass(frozen=True)
class Collocation(TrainingAid):
    """Slopes of smoothed data regressed on the states: ``nlme.fit(..., shooting=nlme.Collocation())``.

        sum_(i,k,s) ((rhs_s(t_k, x_i(t_k)) - dx_is/dt (t_k)) / (0.1 d_s))^2 + sum_i b_i'b_i + penalty

    x_i(t) cubic smoothing splines of the data (their smoothness by generalised cross-validation) brought back to states, d_s the root
    mean square slope. It needs every state to be observed, on whatever scale, and no dose after the first observation. Sources: Varah
    (1982), doi:10.1137/0903003; Ramsay et al. (2007), doi:10.1111/j.1467-9868.2007.00610.x; for neural equations Roesch, Rackauckas &
    Stumpf (2021), doi:10.1002/cpe.6354.

    Attributes
    ----------
    points : times of each subject at which the slopes are compared, evenly spaced between its first and last observation
    """

    points: int = 60

    def __post_init__(self):
        require_whole("Collocation", "points", self.points, 5)

    def trained(self, problem, iterations, show):
        """See ``TrainingAid.trained``."""
        require_equations(problem.layout, problem.model, "Collocation")
        equations, unknown = beginning(problem, segments_of(problem.layout, problem.model, 1), False)
        slopes = _slopes(problem, self.points)
        objective = _regression(equations, *slopes)
        show.stage("collocation")
        end = descended(objective, unknown, iterations, show)
        return equations.at(end.at.u), (f"collocation: {end.sentence}",)


def _regression(equations: Equations, owner, time, told, states, rates):
    anatomy = equations.anatomy
    scale = np.sqrt(np.mean(rates**2, axis=0))
    scale = _SD * np.where(scale > 0, scale, 1.0)

    def misfit(unknown):
        model = equations.at(unknown.u)

        def of_place(i, t, told, x, rate):
            ind = individual_of(model, anatomy, unknown.b[i], told)
            return jnp.sum(jnp.square((jnp.stack(structure_of(model, ind).flow(t, tuple(x))) - rate) / scale))

        total = jnp.sum(jax.vmap(of_place)(owner, time, told, states, rates)) + jnp.sum(jnp.square(unknown.b))
        return total if equations.penalty is None else total + equations.penalty(model)

    return jax.jit(jax.value_and_grad(misfit))


def _slopes(problem: Problem, points: int):
    """Arrays over all places: subject, time, covariates, states (M, s) and their rates of change (M, s)."""
    anatomy, population = problem.layout.anatomy, problem.layout.population
    order = match_endpoints(problem.model, anatomy, population)
    owner, times, told, curves = [], [], [], []
    for i, subject in enumerate(population):
        smooth = _smoothed(subject, points, order, len(anatomy.endpoints))
        if smooth is None:
            continue
        time, values = smooth
        record = np.searchsorted(subject.time, time, side="left").clip(0, len(subject) - 1)
        owner.append(np.full(points, i))
        times.append(time)
        told.append(told_by(subject, anatomy)[record])
        curves.append(values)
    if not owner:
        raise ModelError(
            f"Collocation needs subjects with {_FEWEST} uncensored observations of some endpoint or more, and no dose after the first."
        )
    owner, times, told, curves = (np.concatenate(parts) for parts in (owner, times, told, curves))
    if anatomy.mixture:
        told = np.column_stack([told, np.zeros(len(told))])
    known = np.zeros((len(times), len(anatomy.states)))
    states, shares = states_of_data(problem.model, anatomy, told, times, known, curves)
    hidden = [name for name, share in zip(anatomy.states, shares.min(axis=0), strict=True) if share < _TOLD]
    if hidden:
        raise ModelError(
            f"Collocation needs every state to be observed, and the data do not determine {', '.join(hidden)}. Use "
            "nlme.MultipleShooting or nlme.PredictionError."
        )
    cut = range(0, len(times), points)
    rates = np.concatenate([np.gradient(states[k : k + points], times[k : k + points], axis=0, edge_order=2) for k in cut])
    return owner, times, told, states, rates


def _smoothed(subject: Subject, points: int, order: list[int], endpoints: int):
    """(times, (m, E) smoothed data); None where they cannot be made."""
    from scipy.interpolate import make_smoothing_spline

    observed = subject.is_observation & (subject.cens == 0)
    if not observed.any():
        return None
    begin, end = subject.time[observed].min(), subject.time[observed].max()
    if begin == end or np.any(subject.is_dose & ((subject.time > begin) | (subject.addl > 0) | (subject.rate > 0))):
        return None
    times, curves = np.linspace(begin, end, points), np.full((points, endpoints), np.nan)
    for position, endpoint in enumerate(order):
        t, y = averaged(subject, position)
        if len(t) < _FEWEST:
            continue
        above = bool(np.all(y > 0))  # smoothed in the logarithm, where a peak is no wider than a valley
        curve = make_smoothing_spline(t, np.log(y) if above else y)(times)
        curves[:, endpoint] = np.exp(curve) if above else curve
    return None if np.isnan(curves).all() else (times, curves)
