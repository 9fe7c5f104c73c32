"""The search for a minimum: scoring, then BFGS, within a trust region that is a box about the point where it stands.

A ``Search`` is a state that says where to evaluate next (``proposal``) and takes the answer in (``absorb``), so that the same
search runs one fit under a progress display, or many whose evaluations stand side by side.

Three things keep one parameter from deciding for the others, or being decided for:

* **Scale.**  A parameter that is on its way to an end of its line (a variance to zero: its logarithm to minus infinity) loses all
  influence there, and with it gradient and curvature.  Every quantity by which the search decides is therefore invariant to the
  scale of each parameter: metrics are made positive and compared in units of their diagonals.  A variance of 1e-12
  whose growth would lower the objective is seen as plainly as one of 0.1.
* **Box.**  A step solves min g'd + d'Bd/2, |d_k| <= size radius_k.  Parameters that would leave the box stop at its sides and the
  others take the step that is right for them given that.  The whole box shrinks where a step gains too little; a side that is reached
  twice, with gains as promised, moves twice as far out.
* **Ends.**  A parameter at a side whose slope is so small that the whole way to the end of the line gains nothing is held there
  (``held``), until the sign of its slope says that it should come back.

Sources: Nocedal & Wright, Numerical Optimization, 2nd ed. 2006: algorithm 4.1 (trust region), section 16.7 (Cauchy point and subspace
minimisation within bounds), procedure 18.2 (damped BFGS); Berndt, Hall, Hall & Hausman 1974 (the scores' outer products for the
expected Hessian).
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from nlme.errors import ModelError
from nlme.parameters.domains import is_numeric, require_whole
from nlme.search.metric import DENSE, Dense, Metric, metric_from, of_scores, round_metric

SEARCHING, CONVERGED, NO_DECREASE, EVALUATION_LIMIT, BAD_START, RAN_AWAY, UNDETERMINED = range(7)

SENTENCES = {
    SEARCHING: "The search was interrupted before it converged; these are the best values found so far.",
    CONVERGED: "The search converged.",
    NO_DECREASE: "The search stopped: no step lowers the objective further, yet the gradient is not zero.",
    EVALUATION_LIMIT: "The search stopped at its limit of evaluations before it converged.",
    BAD_START: "The objective is not a finite number at the starting values.",
    RAN_AWAY: "A parameter ran off without end: the objective has no minimum here (an error or a variance shrinks to nothing).",
    UNDETERMINED: "The search ended where the data leave parameters undetermined.",
}

_SUFFICIENT = 1e-4  # of the gain promised
_FAR = 0.02  # gain that the scores promise, of the number of subjects, above which they are the metric
_AS_TOLD = 2.0  # times what was promised, up or down
_LONGEST = (
    1.0  # largest change of one unconstrained (log-scale) parameter in one step; 2 led warfarin's sigmoid to a power of 120
)
_FIRST = 0.5  # in the first, before which nothing is known of how far a direction can be trusted
_WIDEST = 8.0  # that it becomes where a parameter goes one way with gains as promised
_SHORTEST = 1e-6  # step, of the box at its full size, from which the metric learns
_SIDES = 60  # of the box that one step comes to; further ones are worth little
_NO_GAIN = 1e-6  # slope at which the rest of the way to an end of the line is worth nothing
_SHRINK = 0.2  # of parameters to scores, added to the eigenvalues of a metric made of scores
_NO_CURVATURE = 1e-4  # second derivative of an objective that does not depend on a parameter
_LONG_WAY = 7.0  # a factor of 1000
_DIFFERENCE = 1e-4, 1e-9  # step of the differences of gradients, at most and at least
_SHARE = 0.03  # of a parameter's error, all others known, that it is where that is less
_UNSEEN = 1e-3  # gain that a parameter alone promises, by the scores, above which a search has not arrived
_MOST_DIFFERENCED = 60  # parameters, above which differences of the gradient cost too much
_SCARCE = 0.25  # scores to parameters, below which the scores of many parameters say too little
_METRICS = "information", "metric"
_DIFFERENCED = 3  # times at most that a metric is made from differences because the search stands still


@dataclasses.dataclass
class Search:
    """State of one search in P unconstrained parameters.

    Attributes
    ----------
    x, value, gradient : the best point so far
    start, farthest : (P,) where the search began, and how far from there a parameter has run away
    linear : (P,) whether a coordinate is the parameter itself, whose unit is that of its starting value, and not a logarithm
    scale : (P,) what slopes are measured by: of a linear coordinate that began with less curvature than 1 its square root, else 1
    information : half the scores' outer products there with the penalty's curvature, or None
    metric : approximation of the Hessian
    radius, size : (P,) half sides of the box, and a factor on all of them
    step : (P,) to the next point
    held : (P,) -1 or 1 where a parameter stands at the lower or upper end of its line, else 0
    column : which column of the metric is being made from differences; -1: none
    quiet : consecutive iterations that met the tolerance
    scoring : whether the information in the scores has told well so far what a step gains
    """

    x: np.ndarray
    start: np.ndarray
    farthest: np.ndarray
    linear: np.ndarray
    scale: np.ndarray
    value: float
    gradient: np.ndarray
    information: Metric | None
    metric: Metric
    radius: np.ndarray
    size: float
    step: np.ndarray
    held: np.ndarray
    pressed: np.ndarray  # (P,) consecutive steps that ended at a side of the box, by sign
    columns: np.ndarray  # (P, P) gradients' differences so far
    column: int
    evaluations: int
    iterations: int
    differenced: int
    quiet: int
    failures: int
    scoring: bool
    certified: float  # decrement by a metric of differences made here; infinite without one
    status: int

    @property
    def proposal(self) -> np.ndarray:
        """The point to evaluate next."""
        if self.column >= 0:
            return self.x + self.difference * np.eye(len(self.x))[self.column]
        return self.x + self.step

    @property
    def difference(self) -> float:
        """How far the differences of gradients go for the next column."""
        curvature = self.metric.diagonal[self.column]
        if self.information is not None:
            curvature = max(curvature, self.information.diagonal[self.column])
        largest, least = _DIFFERENCE
        return min(largest, max(least, _SHARE * np.sqrt(2.0 / curvature))) if curvature > 0 else largest

    @property
    def many(self) -> bool:
        """Whether there are too many parameters for differences of the gradient."""
        return not len(self.columns)

    @property
    def exactly(self) -> bool:
        """Whether gradients are about to be subtracted from each other."""
        return self.column >= 0

    @property
    def promised(self) -> float:
        """Gain in the objective that the next step promises."""
        return np.inf if self.evaluations == 0 else 0.5 * abs(float(self.gradient @ self.step))

    @property
    def decrement(self) -> float:
        """1/2 g'B^-1 g of the parameters that are not held: the further decrease that the metric promises."""
        free = self.held == 0
        if not free.any():
            return 0.0
        return 0.5 * float(self.gradient @ self.metric.solved(self.gradient, free))

    @property
    def hessian(self) -> np.ndarray | None:
        """(P, P) of the objective here, from differences of the gradient; None where they were not made here."""
        return 0.5 * (self.columns + self.columns.T) if np.isfinite(self.certified) else None

    @property
    def ended(self) -> np.ndarray:
        """(P,) -1 or 1 where a parameter has gone towards an end of its line and the objective no longer depends on it, else 0."""
        curved = self.metric.diagonal
        if self.information is not None:
            curved = np.minimum(curved, self.information.diagonal)
        idle = (np.abs(self.gradient) < _NO_GAIN * self.scale) & (curved < _NO_CURVATURE * self.scale**2)
        gone = idle & (np.abs(self.x - self.start) > _LONG_WAY)
        return np.where(self.held != 0, self.held, np.where(gone, np.sign(self.x - self.start), 0)).astype(int)

    @property
    def by_scores(self) -> float:
        """The further decrease that the information promises, of all parameters together."""
        if self.information is None or not np.all(self.information.diagonal > 0):
            return 0.0
        return 0.5 * float(self.gradient @ self.information.positive().solved(self.gradient, self.held == 0))

    @property
    def alone(self) -> np.ndarray:
        """(P,) g_k^2 / (2 h_k), h_k the information: what each parameter alone promises; 0 where nothing is known, or it is held."""
        if self.information is None:
            return np.zeros(len(self.x))
        h = self.information.diagonal
        with np.errstate(divide="ignore", invalid="ignore"):
            gain = np.where(h > 0, 0.5 * self.gradient**2 / h, 0.0)
        return np.where(self.held == 0, np.nan_to_num(gain), 0.0)


def _too_few(scores: int, size: int) -> bool:
    """Whether so many scores say too little of how ``size`` parameters go together, and differences of gradients can be had."""
    return scores < size + 2 if size <= _MOST_DIFFERENCED else size <= DENSE and scores < _SCARCE * size


def _distinct(scores: np.ndarray) -> int:
    """Scores that differ: a subject that is there twice, as in a sample of a bootstrap, says of the directions what it says once."""
    largest = np.max(np.abs(scores), axis=0)
    scale = np.where(largest > np.finfo(float).tiny, largest, 1.0)  # weights behind a layer of zeros have no slope at all
    # one number for each, in which scores that differ differ
    return len(np.unique(np.round(scores @ (np.sqrt(1.0 + np.arange(scores.shape[1])) / scale), 9)))


def begin(
    x: np.ndarray, farthest: np.ndarray | float = np.inf, scores: int | None = None, linear: np.ndarray | bool = False
) -> Search:
    """A search from ``x``, of an objective with so many ``scores``."""
    x = np.asarray(x, float)
    size = len(x)
    differenced = size <= _MOST_DIFFERENCED or (scores is not None and _too_few(scores, size))
    nothing = np.zeros(size)
    return Search(
        x=x,
        start=x,
        farthest=np.broadcast_to(farthest, size),
        linear=np.broadcast_to(linear, size),
        scale=np.ones(size),
        value=np.inf,
        gradient=nothing,
        information=None,
        metric=round_metric(size, 1.0),
        radius=np.full(size, _LONGEST),
        size=_FIRST,
        step=nothing,
        held=np.zeros(size, int),
        pressed=np.zeros(size, int),
        columns=np.zeros((size, size) if differenced else (0, 0)),
        column=-1,
        evaluations=0,
        iterations=0,
        differenced=0,
        quiet=0,
        failures=0,
        scoring=True,
        certified=np.inf,
        status=SEARCHING,
    )


def arrays_of(search: Search) -> dict[str, np.ndarray]:
    """The state as named arrays, for a checkpoint."""
    found = {f.name: getattr(search, f.name) for f in dataclasses.fields(search)}
    for name in _METRICS:
        metric = found.pop(name)
        found |= {} if metric is None else {f"{name}/{part}": x for part, x in metric.arrays().items()}
    return {name: np.asarray(x) for name, x in found.items()}


def search_from(arrays: dict[str, np.ndarray]) -> Search:
    """The state that ``arrays_of`` wrote."""
    found = {f.name: arrays[f.name] for f in dataclasses.fields(Search) if f.name not in _METRICS}
    found = {name: x.item() if x.ndim == 0 else x for name, x in found.items()}
    for name in _METRICS:
        parts = {key.removeprefix(f"{name}/"): x for key, x in arrays.items() if key.startswith(f"{name}/")}
        found[name] = metric_from(parts) if parts else None
    return Search(**found)


@dataclasses.dataclass(frozen=True)
class Answer:
    """What is found at a point.

    Attributes
    ----------
    value, gradient : of the objective, (P,)
    scores : (N, P) gradients of each subject's -2 log L; None where there are none
    penalty : (P,) second derivatives of the penalty within the objective, taken to be a sum over parameters; None without one
    """

    value: float
    gradient: np.ndarray
    scores: np.ndarray | None = None
    penalty: np.ndarray | None = None

    @property
    def finite(self) -> bool:
        return bool(np.isfinite(self.value) and np.all(np.isfinite(self.gradient)))

    @functools.cached_property
    def usable(self) -> np.ndarray | None:
        """The scores where they are enough to say something of how parameters go together, or of that in many."""
        return None if self.scores is None or _too_few(_distinct(self.scores), len(self.gradient)) else self.scores

    @property
    def curvature(self) -> np.ndarray:
        return np.zeros(len(self.gradient)) if self.penalty is None else np.maximum(self.penalty, 0.0)


@np.errstate(
    over="ignore", invalid="ignore", divide="ignore"
)  # a point that is no number is refused, and nobody asked for its reasons
def require_limits(who: str, tolerance, max_evaluations) -> None:
    """Refuse a tolerance that no search can meet or every search would, and a limit that is none.

    Raises
    ------
    ModelError
        Either is not what ``absorb`` can use.
    """
    if not is_numeric(tolerance) or np.ndim(tolerance) or not 0.0 < tolerance < np.inf:
        words = "is the expected further decrease of the objective at which the search ends, a number above 0 such as 1e-7"
        raise ModelError(f"{who}: tolerance {words}; got {tolerance!r}.")
    require_whole(who, "max_evaluations", max_evaluations, 1)


def absorb(search: Search, found: Answer, tolerance: float, limit: int) -> bool:
    """Take in what was ``found`` at the proposed point; whether that point is the best now.

    The first metric is half the sum of the scores' outer products, the expected Hessian of the objective, with the penalty's curvature.  While a great gain is promised, g'B^-1 g / 2 > 0.02 N, the metric is
    made anew at every point taken,

        B = 1/2 sum_i (s_i - s)(s_i - s)',      s the mean score, g = N s the gradient

    (far from the optimum the mean score is not small, and would shorten every step), until for the first time a step gains less than
    half or more than twice of what was promised: few subjects, or scores that vary otherwise than the model says.  From then on,
    and near the optimum, it is updated by BFGS.  Where there are fewer scores than parameters, or a search stands still, the metric is
    made from differences of the gradient.

    A search has converged when its metric promises less than ``tolerance``, at two points one after the other or by a metric of
    differences, and no parameter's scores promise more by themselves.
    """
    search.evaluations += 1
    if search.evaluations == 1:
        if not found.finite:
            search.status = BAD_START
            return False
        _move_to(search, search.x, found)
        if search.information is not None:  # of a line in a large unit curvatures are small from the beginning on
            known = np.where(search.linear, search.information.diagonal, 1.0)
            search.scale = np.sqrt(np.minimum(known, 1.0))
        if not len(search.x):  # all others are held, as where a profile holds the only one
            search.status = CONVERGED
            return True
        _first_metric(search, found)
        _aim(search)
        return True
    if search.column >= 0:
        _difference(search, found, tolerance)
        accept = False
    else:
        accept = _try(search, found, tolerance)
    if search.status == SEARCHING and search.evaluations >= limit:
        search.status = EVALUATION_LIMIT
    return accept


def corrected(search: Search, found: Answer) -> None:
    """Better numbers of the point where the search stands, and a new direction from there."""
    _move_to(search, search.x, found)
    _aim(search)


def _try(search: Search, found: Answer, tolerance: float) -> bool:
    """The trial point: taken or not, the size of the box, and what the metric learns."""
    # an adaptive solve makes the objective jitter in its last digits
    noise = 1e-9 * (1.0 + min(abs(search.value), 1e7))
    step, change, finite = search.step, found.gradient - search.gradient, found.finite
    promised = -float(search.gradient @ step + 0.5 * step @ search.metric.times(step))
    gained = search.value - found.value if finite else -np.inf
    accept = gained + noise > _SUFFICIENT * promised
    as_told = promised / _AS_TOLD < gained < promised * _AS_TOLD
    reach = float(np.max(np.abs(step) / search.radius))
    if finite and reach > _SHORTEST:  # of shorter steps the gradient's differences are noise
        _update(search, step, change)
    if not accept:
        search.size = reach * (0.25 if finite else 0.1)
        if search.size * np.max(search.radius) < 1e-9:
            _stand_still(search, tolerance, noise)
        _aim(search)
        return False
    if gained > noise:
        search.failures = 0
    if gained < 0.25 * promised - noise:
        search.size = 0.25 * reach
    elif gained > 0.75 * promised and reach > 0.99 * search.size:
        search.size = min(2.0 * search.size, 1.0)
    _widen(search, as_told or gained >= promised)
    before, slopes = search.information, search.gradient
    _move_to(search, search.x + step, found)
    search.iterations += 1
    search.certified = np.inf
    _rescale(search, before)
    if found.scores is not None:
        search.scoring &= as_told
        if search.scoring:
            _score(search, found)
    _hold(search, slopes)
    _aim(search)
    _judge(search, tolerance)
    return True


def _move_to(search: Search, x, found: Answer) -> None:
    search.x, search.value, search.gradient = x, float(found.value), np.asarray(found.gradient, float)
    search.information = None if found.usable is None else of_scores(found.usable, found.curvature)


def _ridge(search: Search, scores: np.ndarray) -> float:
    """Few scores know little of how parameters go together."""
    return _SHRINK * len(search.x) / len(scores)


def _first_metric(search: Search, found: Answer) -> None:
    if search.information is not None:
        search.metric = search.information.positive(_ridge(search, found.scores))
        return
    search.metric = round_metric(len(search.x), max(np.linalg.norm(search.gradient), 1.0))
    if not search.many:
        search.column = 0


def _aim(search: Search) -> None:
    """The step from where the search stands."""
    search.metric = search.metric.positive()  # rounding in one update after another makes it singular
    search.step = boxed_step(search.metric, search.gradient, search.size * search.radius, search.held == 0)


def boxed_step(metric: Metric, gradient: np.ndarray, radius: np.ndarray, free: np.ndarray) -> np.ndarray:
    """A step that lowers g'd + d'Bd/2 over the ``free`` parameters, |d_k| <= radius_k, at least as far as its Cauchy point does.

    The Cauchy point is the first minimum on the path down the gradient, bent at the sides of the box; from there the other parameters
    are moved to their minimum, or as far as the next side, until none is left to move.
    """
    unit = np.sqrt(metric.diagonal)
    b, g, sides = metric.scaled(1.0 / unit), np.where(free, gradient / unit, 0.0), radius * unit
    z = _cauchy_point(b, g, sides)
    inside = free & (np.abs(z) < sides * (1.0 - 1e-9))
    for _ in range(_SIDES):
        if not inside.any():
            break
        p = -b.solved(g + b.times(z), inside)[inside]
        with np.errstate(divide="ignore", invalid="ignore"):
            room = np.where(p != 0.0, (np.where(p > 0, sides[inside], -sides[inside]) - z[inside]) / p, np.inf)
        far = min(1.0, float(room.min()))
        z[inside] += far * p
        if far == 1.0:
            break
        hit = np.flatnonzero(inside)[room <= far]
        z[hit] = np.sign(z[hit]) * sides[hit]
        inside[hit] = False
    return z / unit


def _cauchy_point(b: Metric, g: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """First minimum of g'z + z'bz/2 along z(t) = -t g, each element stopped at its side."""
    z, moving, t = np.zeros(len(g)), g != 0.0, 0.0
    with np.errstate(divide="ignore"):
        ends = np.where(moving, sides / np.abs(g), np.inf)
    for _ in range(_SIDES):
        if not moving.any():
            break
        p = np.where(moving, -g, 0.0)
        slope, curved = float((g + b.times(z)) @ p), float(p @ b.times(p))
        if slope >= 0.0:
            break
        until = float(ends[moving].min())
        stop = -slope / curved if curved > 0.0 else np.inf  # slopes so small that their squares are none
        if stop <= until - t:
            return z + stop * p
        z = z + (until - t) * p
        t = until
        moving &= ends > until
    return z


def _update(search: Search, moved: np.ndarray, change: np.ndarray) -> None:
    """BFGS; where the gradient changed too little along the step, with as much of the old metric as keeps the new one positive."""
    old = search.metric.times(moved)
    along, expected = float(moved @ change), float(moved @ old)
    if not expected > 0:
        return
    if along < 0.2 * expected:
        theta = 0.8 * expected / (expected - along)
        change = theta * change + (1.0 - theta) * old
    search.metric = search.metric.updated(moved, change)


def _score(search: Search, found: Answer) -> None:
    """The scatter of the scores about their mean for the metric, while by it the search is far from its end."""
    if found.usable is None:
        return
    scores = found.usable
    scatter = of_scores(scores - scores.mean(axis=0), found.curvature)
    if np.any(scatter.diagonal <= 0):
        return
    metric = scatter.positive(_ridge(search, scores))
    if 0.5 * search.gradient @ metric.solved(search.gradient, search.held == 0) > _FAR * len(scores):
        search.metric = metric


def _rescale(search: Search, before: Metric | None) -> None:
    """The metric in the new units of parameters whose information has changed by more than a factor of four in one step."""
    if before is None or search.information is None:
        return
    old, new = before.diagonal, search.information.diagonal
    known = (old > 0) & (new > 0)
    ratio = np.where(known, new / np.where(known, old, 1.0), 1.0)
    factor = np.where((ratio > 4.0) | (ratio < 0.25), np.sqrt(ratio), 1.0)
    search.metric = search.metric.scaled(factor)


def _widen(search: Search, good: bool) -> None:
    """The box after a step that was taken, and how often in a row each parameter has stood at a side of it."""
    at_side = (search.size == 1.0) & (np.abs(search.step) > 0.99 * search.radius)
    sign = np.where(at_side, np.sign(search.step), 0.0).astype(int)
    again = (sign != 0) & (np.sign(search.pressed) != -sign)
    search.pressed = np.where(again, search.pressed + sign, sign)
    wider = np.minimum(2.0 * search.radius, _WIDEST)
    search.radius = np.where(again & good & (np.abs(search.pressed) > 1), wider, np.where(sign != 0, search.radius, _LONGEST))


def _hold(search: Search, before: np.ndarray) -> None:
    """Parameters that go on to an end of their line to no gain stay; those whose slope has turned come back.

    ``before``: the gradient a step ago; one that grows is on its way back from an end.
    """
    small = (np.abs(search.gradient) < _NO_GAIN * search.scale) & (np.abs(search.gradient) < np.abs(before))
    search.held = np.where((np.abs(search.pressed) > 1) & small, np.sign(search.pressed), search.held)
    back = (search.held != 0) & (search.gradient * search.held > 0)
    if back.any():
        search.held = np.where(back, 0, search.held)
        search.radius = np.where(back, _LONGEST, search.radius)
        search.pressed = np.where(back, 0, search.pressed)


def _stand_still(search: Search, tolerance: float, noise: float) -> None:
    """No step helps: at the minimum as closely as the objective's digits show it, or by a bad metric."""
    search.failures += 1
    if not search.many and not np.isfinite(search.certified):
        search.column = 0
        return
    decrement = min(search.certified, search.decrement) if search.many else search.certified
    if decrement < max(100.0 * tolerance, 10.0 * noise) and np.max(search.alone, initial=0.0) < _UNSEEN:
        search.status = CONVERGED
    elif search.failures <= 2 and search.information is not None:
        search.metric, search.size = search.information.positive(0.1), _FIRST
    else:
        search.status = NO_DECREASE


def _difference(search: Search, found: Answer, tolerance: float) -> None:
    """One more column of the metric; after the last, a direction by it."""
    change = (found.gradient - search.gradient) / search.difference if found.finite else np.zeros(len(search.x))
    search.columns[search.column] = change
    search.column += 1
    if search.column < len(search.x):
        return
    search.column = -1
    search.differenced += 1
    search.size = _FIRST
    search.metric = Dense(0.5 * (search.columns + search.columns.T)).positive()
    search.certified = search.decrement
    _aim(search)
    _judge(search, tolerance)


def _judge(search: Search, tolerance: float) -> None:
    """Whether the search has ended where it stands."""
    moving = search.held == 0
    if np.any(moving & (np.abs(search.x - search.start) > search.farthest)):
        search.status = RAN_AWAY
        return
    if search.decrement >= tolerance:
        search.quiet = 0
        return
    search.quiet += 1
    # the metric of the first steps is a guess: believe it only when two iterations in a row agree
    certified = np.isfinite(search.certified)
    if search.quiet < 2 and not certified:
        return
    known = search.information is not None
    seen = max(np.max(search.alone, initial=0.0), search.by_scores) < _UNSEEN if known else search.many
    if certified or seen:
        search.status = CONVERGED
    elif search.many:
        _stand_still(search, tolerance, 0.0)
        _aim(search)
    elif search.differenced <= _DIFFERENCED:
        search.column, search.quiet = 0, 0
    else:
        search.status = NO_DECREASE
