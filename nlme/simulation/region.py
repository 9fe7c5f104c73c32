"""Where a simulation asks a network what the data never asked: outside of the region that the fit's data visited.

The region of a network is the box of the inputs that it was asked at the fit's records (``nlme.simulation.visited``); with two or three inputs
their convex hull, for the corners of a box may be far from any datum. Looked at are the records of the simulation; a network in the
equations is asked between them as well.
"""

from __future__ import annotations

import functools

import numpy as np

from nlme.fitting.result import Evaluated
from nlme.neural.term import learned_terms
from nlme.parameters.draws import Drawn, model_at
from nlme.simulation.records import Design, Records
from nlme.simulation.visited import asked_at, visited

_HULL = (2, 3)  # inputs
_EDGE = 1e-6  # of the range, that is no step outside
_LOOKED = 50  # draws of a patient, of those there are
_FLAT = 1e-6  # of the points' largest extent: they lie in a plane


class Region:
    """The inputs (M, n) that were visited."""

    def __init__(self, points: np.ndarray):
        self.low, self.high = points.min(axis=0), points.max(axis=0)
        self._width = np.where(self.high > self.low, self.high - self.low, 1.0)
        self._hull = None
        if points.shape[1] in _HULL and len(np.unique(points, axis=0)) > 1:
            self._hull = _hull((points - self.low) / self._width)

    def outside(self, x: np.ndarray) -> np.ndarray:
        """(...,) which of the inputs x (..., n) lie outside."""
        z = (x - self.low) / self._width
        out = np.any((z < -_EDGE) | (z > (self.high - self.low) / self._width + _EDGE), axis=-1)
        if self._hull is not None:
            normals, offsets = self._hull[:, :-1], self._hull[:, -1]
            out |= np.any(z @ normals.T + offsets > _EDGE, axis=-1)
        return out


def _hull(points: np.ndarray) -> np.ndarray:
    """(facets, n + 1) of the inequalities of the hull, of points in a plane or on a line those within it and the two sides of it."""
    from scipy.spatial import ConvexHull

    middle = points.mean(axis=0)
    _, sizes, axes = np.linalg.svd(points - middle, full_matrices=True)
    sizes = np.concatenate([sizes, np.zeros(len(axes) - len(sizes))])
    within, across = axes[sizes > _FLAT * sizes[0]], axes[sizes <= _FLAT * sizes[0]]
    told = (points - middle) @ within.T
    if len(within) == 1:
        inside = np.array([[1.0, -told.max()], [-1.0, told.min()]])
    else:
        inside = ConvexHull(told).equations
    normals = np.concatenate([inside[:, :-1] @ within, across, -across])
    offsets = np.concatenate([inside[:, -1], np.zeros(2 * len(across))]) - normals @ middle
    return np.column_stack([normals, offsets])


class Watch:
    """Compares what a simulation asks the networks of a fit with what its data asked; ``rows`` grow with every batch of replicates."""

    def __init__(self, fit: Evaluated, design: Design):
        self._fit, self._design = fit, design
        self._regions = {name: Region(points) for name, points in visited(fit).items()}
        self._found: dict[str, list[np.ndarray]] = {name: [] for name in self._regions}

    def see(self, eta: np.ndarray, states: np.ndarray, members: np.ndarray | None, drawn: Drawn | None = None) -> None:
        """Random effects (R, N, q), states (R, n, s), subpopulations (R, N) and parameters of so many replicates more."""
        rows = np.arange(len(self._design.subject))
        for r in range(len(states)):
            own = None if members is None else members[r]
            asked = asked_at(
                model_at(self._fit.model, drawn, r), self._design, eta[r][self._design.subject], states[r], own, rows
            )
            begun = (
                np.any(states[r] != 0.0, axis=1) if states.shape[-1] else True
            )  # where nothing is there is nothing to be wrong
            for name, region in self._regions.items():
                self._found[name].append(region.outside(asked[name]).any(axis=1) & begun)

    def table(self, replicates: int):
        """DataFrame: REPLICATE, ID, TIME and network, one row where it is asked outside; a replicate that stands for all has them all."""
        import pandas as pd

        parts = []
        for name, found in self._found.items():
            seen = np.stack(found[:replicates])
            seen = np.broadcast_to(seen, (replicates, seen.shape[1])) if len(seen) == 1 else seen
            r, k = np.nonzero(seen)
            ids, time = self._design.ids.take(k), self._design.column("time")[k]
            parts.append(pd.DataFrame({"REPLICATE": r + 1, "ID": ids, "TIME": time, "network": name}))
        return pd.concat(parts, ignore_index=True)


def watch(model, design: Design) -> Watch | None:
    """None where there is nothing to compare with: no fit, or no network."""
    return Watch(model, design) if visits_networks(model) else None


def visits_networks(model) -> bool:
    """Whether there is something to compare with: a fit with a network."""
    return isinstance(model, Evaluated) and bool(learned_terms(model.model))


def outside_of(model, design: Design, eta: np.ndarray, members: np.ndarray | None, ode, at: Records | None = None):
    """DataFrame, as of ``Watch.table``, of some of the draws of random effects (D, N, q) and subpopulations (D, N), ``at`` whose records
    everything is known already; None where there is nothing to compare with."""
    watched = watch(model, design)
    if watched is None:
        return None
    first = slice(0, _LOOKED)
    members = None if members is None else members[first]
    states = Records(design, model.model, eta[first], ode, members).states if at is None else at.states[first]
    watched.see(eta[first], states, members)
    return watched.table(len(states))


def outside_said(out, what: str) -> list[str]:
    """What there is to say of records at which networks are asked outside, in words."""
    if out is None or not len(out):
        return []
    people, networks = out.ID.nunique(), ", ".join(dict.fromkeys(out.network))
    return [
        f"The {what} asks {networks} outside of what the data visited, for {people} subject{'s' if people > 1 else ''} "
        f"({out.TIME.min():g} to {out.TIME.max():g}): there it is what its form makes of it, and nothing that was seen. "
        f".extrapolates lists them."
    ]


@functools.cache
def simulated_class() -> type:
    """The class of simulated tables: a DataFrame that knows where it extrapolates."""
    import pandas as pd

    class Simulated(pd.DataFrame):
        """A DataFrame of simulated observations, or of predictions.

        Attributes
        ----------
        extrapolates : DataFrame with REPLICATE, ID, TIME and network of the records at which a network of the fit is asked outside
            of what its data visited; empty where none is, None where there is no network or no fit
        parameters : DataFrame by REPLICATE of the parameters of each, where they were drawn; None without uncertainty
        uncertainty : where the parameters of the replicates come from, in words; "" where all have the estimate's
        what : "simulation" or "prediction"
        remarks : what else there is to say, in words
        """

        _metadata = ["extrapolates", "parameters", "uncertainty", "what", "remarks"]
        extrapolates = None
        parameters = None
        uncertainty = ""
        what = "simulation"
        remarks = ()

        @property
        def _constructor(self):
            return pd.DataFrame

        def __reduce__(self):  # pickle finds no class that a function makes
            return _empty, (), self.__getstate__()

        @property
        def messages(self) -> list[str]:
            """What there is to say, in words."""
            return [*outside_said(self.extrapolates, self.what), *self.remarks]

    return Simulated


def _empty():
    """A simulated table without rows, to which pickle gives its state."""
    return simulated_class()()
