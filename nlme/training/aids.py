"""Training aids: other problems to solve first, whose solutions are where a fit can begin that would be lost from the model's own values.

A solution of the equations over a long time is a wild function of what is not known in them: beyond a period of an oscillation,
or before a network knows anything, its gradient leads nowhere. An aid first solves problems whose solutions stay near the data,
and takes away step by step what holds them there (``nlme.training.equations`` says what is minimised). What it gives are starting
values: the estimates are those of the fit that begins there.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np

from nlme.errors import ModelError
from nlme.language.model import Model
from nlme.parameters.domains import require_whole
from nlme.search.problem import Problem
from nlme.search.progress import Progress
from nlme.training.descent import descended
from nlme.training.equations import Equations, Setting, Unknown
from nlme.training.inversion import states_of_data
from nlme.training.segments import Segments, require_equations, segments_of

_FLOOR = 0.1  # of a state's largest value in the data: the scale of nodes and gaps where the state is near 0
_HELD = ("variance", "covariance", "share")  # kinds of parameters that no aid estimates


@dataclasses.dataclass(frozen=True)
class TrainingAid(abc.ABC):
    """A way to train the equations of a model before they are fitted; given as ``nlme.fit(..., shooting=...)``.

    The variances of random effects are held while they train, and everybody is the typical subject where the fit's method is
    ``NaivePooled``.
    """

    @abc.abstractmethod
    def trained(self, problem: Problem, iterations: int, show: Progress) -> tuple[Model, tuple[str, ...]]:
        """The problem's model with the values that training leads to, and how each stage ended, in words.

        Ctrl-C ends it with the best values so far.

        Raises
        ------
        ModelError
            The model or data are not of the kind that the aid takes.
        """


@dataclasses.dataclass(frozen=True)
class StagedAid(TrainingAid):
    """One whose stages are settings of one objective; they share the iterations."""

    segments = 1
    follows = False

    @abc.abstractmethod
    def settings(self, equations: Equations) -> Iterator[tuple[str, Setting]]:
        """The problems in order, each with what it is in words."""

    def trained(self, problem, iterations, show):
        """See ``TrainingAid.trained``."""
        equations, unknown = self._begun(problem)
        told, stages = [], list(self.settings(equations))
        for words, setting in stages:
            show.stage(words)
            end = descended(lambda z: equations.objective(z, setting), unknown, max(iterations // len(stages), 1), show)  # noqa: B023
            unknown = end.at
            told.append(f"{words}: {end.sentence}")
            if end.interrupted:
                break
        return equations.at(unknown.u), tuple(told)

    def _begun(self, problem: Problem) -> tuple[Equations, Unknown]:
        require_equations(problem.layout, problem.model, type(self).__name__)
        segments = segments_of(problem.layout, problem.model, self.segments)
        equations, unknown = beginning(problem, segments, self.follows)
        if not segments.nodes:
            return equations, unknown
        nodes = _nodes(problem, segments)
        largest = np.abs(nodes).max(axis=0)
        scale = np.abs(nodes) + _FLOOR * np.where(largest > 0, largest, 1.0)
        return dataclasses.replace(equations, scale=scale), unknown._replace(nodes=jnp.asarray(nodes / scale))


def beginning(problem: Problem, segments: Segments, follows: bool) -> tuple[Equations, Unknown]:
    """The equations on these segments, and the problem's own values with random effects of zero; no nodes."""
    kinds = dict(zip(problem.inventory.names, problem.inventory.kinds, strict=True))
    names = problem.every.names
    free = np.array([k for k, name in enumerate(names) if name in kinds and kinds[name] not in _HELD], int)
    pooled, held = not problem.method.individuals, problem.among_all(problem.start)
    effects = 0 if pooled else len(problem.layout.anatomy.effects)
    equations = Equations(
        problem.model, problem.layout, segments, problem.every, free, held, np.zeros((0, 0)), follows, problem.penalty
    )
    random = jnp.zeros((len(problem.layout.population), effects))
    return equations, Unknown(jnp.asarray(held[free]), random, jnp.zeros((0, 0)))


def _nodes(problem: Problem, segments: Segments) -> np.ndarray:
    """(K, s) states at the nodes that the data suggest, or the typical subject's solution where they say nothing."""
    whole = segments_of(problem.layout, problem.model, 1)
    equations, unknown = beginning(problem, whole, False)
    solution = equations.states(unknown)
    closing = np.flatnonzero(segments.closes >= 0)
    owner, time = segments.owner[closing], segments.time[closing, -1]
    # the stops of the whole are those of the segments one after another
    last = [np.searchsorted(whole.time[i], t, side="right") - 1 for i, t in zip(owner, time, strict=True)]
    y = np.where(segments.known[closing, -1], segments.course[closing, -1, :, 1], np.nan)
    return states_of_data(problem.model, problem.layout.anatomy, segments.told[closing, -1], time, solution[owner, last], y)[0]


def _everything(equations: Equations) -> np.ndarray:
    return (equations.segments.endpoint >= 0).astype(float)


def _setting(weight, gap: float = 1.0, gain: float = 0.0) -> Setting:
    return Setting(jnp.asarray(weight), jnp.asarray(gap), jnp.asarray(gain))


@dataclasses.dataclass(frozen=True)
class MultipleShooting(StagedAid):
    """Segments of every subject's time, each solved from a node of its own, the gaps between them closed from stage to stage.

    ``nlme.fit(..., shooting=nlme.MultipleShooting(8))``. Nodes begin at the states that the data suggest. Sources: Bock & Plitt (1984),
    doi:10.1016/S1474-6670(17)61205-9; for neural equations Turan & Jaeschke (2021), arXiv:2109.06786.

    Attributes
    ----------
    segments : into how many parts each subject's time is divided, where its observations allow that many
    gaps : standard deviations of the gaps between segments, relative to the states there, one for each stage
    """

    segments: int = 8
    gaps: tuple[float, ...] = (10.0, 1.0, 0.1, 0.01)

    def __post_init__(self):
        require_whole("MultipleShooting", "segments", self.segments, 2)
        require_falling("MultipleShooting: gaps", self.gaps, "such as (10, 1, 0.1)")

    def settings(self, equations):
        if not equations.segments.nodes:
            raise ModelError("MultipleShooting: no subject has observations at four times or more; there is nothing to divide.")
        for gap in self.gaps:
            yield f"multiple shooting, gaps of {gap:g}", _setting(_everything(equations), gap)


@dataclasses.dataclass(frozen=True)
class GrowingHorizon(StagedAid):
    """The beginning of everybody's data first, then more of it: ``nlme.fit(..., shooting=nlme.GrowingHorizon(6))``.

    The sensitivity of a solution to what drives it grows with time; over a short time it is nearly linear in it. Source: Rackauckas et
    al. (2020), arXiv:2001.04385.

    Attributes
    ----------
    stages : the observations within 1/n, 2/n, ... of each subject's time count, one part more in each of so many stages
    """

    stages: int = 8

    def __post_init__(self):
        require_whole("GrowingHorizon", "stages", self.stages, 2)

    def settings(self, equations):
        segments = equations.segments
        seen = segments.endpoint >= 0
        begin, end = (f(np.where(seen, segments.time, other), axis=1) for f, other in ((np.min, np.inf), (np.max, -np.inf)))
        begin = np.minimum(begin, segments.time[:, 0])
        for stage in range(1, self.stages + 1):
            until = begin + stage / self.stages * (end - begin)
            within = seen & (segments.time <= until[:, None] * (1 + 1e-12))
            yield f"horizon {stage} of {self.stages}", _setting(within)


@dataclasses.dataclass(frozen=True)
class PredictionError(StagedAid):
    """An observer: the equations are pulled towards the data while they are solved, and let go from stage to stage.

        dx/dt = rhs(t, x) + gain sum_e D^2 g_e (y_e(t) - f_e(x)) / (g_e' D^2 g_e)

    with y_e(t) the data on straight lines, f_e their prediction, g_e = df_e/dx, D the states' sizes: at a large gain the solution
    follows the data whatever the equations are. ``nlme.fit(..., shooting=nlme.PredictionError())``. Sources: Ljung, System
    Identification, 2nd ed. 1999; Larsson et al. (2009), doi:10.3182/20090706-3-FR-2004.00226.

    Attributes
    ----------
    gains : of the stages, in units of one over the median time between two observations
    """

    gains: tuple[float, ...] = (1.0, 0.3, 0.1, 0.03, 0.01, 0.001)
    follows = True

    def __post_init__(self):
        require_falling("PredictionError: gains", self.gains, "such as (1.0, 0.3, 0.1)")

    def settings(self, equations):
        if any(not law.normal for law in equations.anatomy.laws):
            raise ModelError(
                "PredictionError follows data that are normal on some scale; use MultipleShooting or GrowingHorizon."
            )
        step = equations.segments.step
        unit = float(np.median(step[step > 0]))
        for gain in self.gains:
            yield f"prediction error, gain {gain:g}", _setting(_everything(equations), gain=gain / unit)


def require_falling(name: str, values, words: str) -> None:
    numbers = np.asarray(values, float) if np.ndim(values) == 1 else np.zeros(0)
    if not len(numbers) or not np.all(np.isfinite(numbers)) or np.any(numbers <= 0) or np.any(np.diff(numbers) >= 0):
        raise ModelError(f"{name} are falling positive numbers, {words}; got {values!r}.")
