"""Explicit Runge-Kutta methods: one step of a pair with its estimate of the local error.

Both methods end at their last stage, which is the first of the next step, and have two stages at the end of the step: the
difference of their slopes tells how stiff the system is at no cost.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from nlme.dynamics.system import State, System


@dataclasses.dataclass(frozen=True)
class Tableau:
    """Coefficients of an explicit Runge-Kutta pair whose last stage is the first of the next step.

    Attributes
    ----------
    reach : of its region of stability on the negative real axis
    error : weights of the stages in (solution) - (embedded solution)
    coarse : those of a second, coarser embedded solution, if there is one
    """

    order: int
    reach: float
    nodes: tuple[float, ...]
    stages: tuple[tuple[float, ...], ...]
    error: tuple[float, ...]
    coarse: tuple[float, ...] | None = None


#: Tsitouras (2011), Runge-Kutta pairs of order 5(4) satisfying only the first column simplifying assumption,
#: Computers & Mathematics with Applications 62:770, doi:10.1016/j.camwa.2011.06.002
TSIT5 = Tableau(
    order=5,
    reach=3.5,
    nodes=(0.0, 0.161, 0.327, 0.9, 0.9800255409045097, 1.0, 1.0),
    stages=(
        (0.161,),
        (-0.008480655492356989, 0.335480655492357),
        (2.8971530571054935, -6.359448489975075, 4.3622954328695815),
        (5.325864828439257, -11.748883564062828, 7.4955393428898365, -0.09249506636175525),
        (5.86145544294642, -12.92096931784711, 8.159367898576159, -0.071584973281401, -0.028269050394068383),
        (0.09646076681806523, 0.01, 0.4798896504144996, 1.379008574103742, -3.290069515436081, 2.324710524099774),
    ),
    error=(
        -0.00178001105222577714,
        -0.0008164344596567469,
        0.007880878010261995,
        -0.1447110071732629,
        0.5823571654525552,
        -0.45808210592918697,
        0.015151515151515152,
    ),
)

#: Hairer, Norsett & Wanner (1993), Solving Ordinary Differential Equations I, 2nd ed., II.5 and II.10: the method of order 8 of
#: Dormand & Prince with two embedded solutions, of orders 5 and 3
DOP853 = Tableau(
    order=8,
    reach=6.1,
    nodes=(
        0.0, 0.05260015195876773, 0.0789002279381516, 0.1183503419072274, 0.2816496580927726, 0.3333333333333333, 0.25,
        0.3076923076923077, 0.6512820512820513, 0.6, 0.8571428571428571, 1.0, 1.0,
    ),
    stages=(
        (0.05260015195876773,),
        (0.0197250569845379, 0.0591751709536137),
        (0.02958758547680685, 0.0, 0.08876275643042054),
        (0.2413651341592667, 0.0, -0.8845494793282861, 0.924834003261792),
        (0.037037037037037035, 0.0, 0.0, 0.17082860872947386, 0.12546768756682242),
        (0.037109375, 0.0, 0.0, 0.17025221101954405, 0.06021653898045596, -0.017578125),
        (
            0.03709200011850479, 0.0, 0.0, 0.17038392571223998, 0.10726203044637328, -0.015319437748624402,
            0.008273789163814023,
        ),
        (
            0.6241109587160757, 0.0, 0.0, -3.3608926294469414, -0.868219346841726, 27.59209969944671, 20.154067550477894,
            -43.48988418106996,
        ),
        (
            0.47766253643826434, 0.0, 0.0, -2.4881146199716677, -0.590290826836843, 21.230051448181193, 15.279233632882423,
            -33.28821096898486, -0.020331201708508627,
        ),
        (
            -0.9371424300859873, 0.0, 0.0, 5.186372428844064, 1.0914373489967295, -8.149787010746927, -18.52006565999696,
            22.739487099350505, 2.4936055526796523, -3.0467644718982196,
        ),
        (
            2.273310147516538, 0.0, 0.0, -10.53449546673725, -2.0008720582248625, -17.9589318631188, 27.94888452941996,
            -2.8589982771350235, -8.87285693353063, 12.360567175794303, 0.6433927460157636,
        ),
        (
            0.054293734116568765, 0.0, 0.0, 0.0, 0.0, 4.450312892752409, 1.8915178993145003, -5.801203960010585,
            0.3111643669578199, -0.1521609496625161, 0.20136540080403034, 0.04471061572777259,
        ),
    ),
    error=(
        0.01312004499419488, 0.0, 0.0, 0.0, 0.0, -1.2251564463762044, -0.4957589496572502, 1.6643771824549864,
        -0.35032884874997366, 0.3341791187130175, 0.08192320648511571, -0.022355307863886294, 0.0,
    ),
    coarse=(
        -0.18980075407240762, 0.0, 0.0, 0.0, 0.0, 4.450312892752409, 1.8915178993145003, -5.801203960010585,
        -0.4226823213237919, -0.1521609496625161, 0.20136540080403034, 0.02265179219836082, 0.0,
    ),
)  # fmt: skip


class Trial(NamedTuple):
    """What a step came to: the new state, the slope there, its errors, and h times the size of the system's Jacobian."""

    state: State
    memory: State
    errors: tuple[State, ...]
    stiffness: Float[Array, ""]


@dataclasses.dataclass(frozen=True)
class Explicit:
    """Steps of an explicit pair; what it remembers from one step to the next is the slope where it stands."""

    tableau: Tableau

    @property
    def order(self) -> int:
        return self.tableau.order

    def begin(self, system: System, state: State) -> State:
        return system.slope(system.begin, state)

    def step(self, system: System, u, state: State, slope: State, h) -> Trial:
        """One step of size ``h`` from (u, state)."""
        slopes = [slope]
        before = new = state
        for row, node in zip(self.tableau.stages, self.tableau.nodes[1:], strict=True):
            before, new = new, weighted(row, slopes, h, state)
            slopes.append(system.slope(u + node * h, new))
        errors = [weighted(self.tableau.error, slopes, h)]
        if self.tableau.coarse:
            errors.append(weighted(self.tableau.coarse, slopes, h))
        turned, moved = (_distance(a, b, u.ndim) for a, b in ((slopes[-1], slopes[-2]), (new, before)))
        return Trial(new, slopes[-1], tuple(errors), h * jnp.sqrt(turned / jnp.maximum(moved, 1e-300)))


def weighted(weights, terms: list[State], scale, start: State | None = None) -> State:
    """start + scale * sum_k weights_k terms_k, for states."""
    kept = [(w, term) for w, term in zip(weights, terms, strict=True) if w != 0.0]

    def sum_of(*leaves):
        return scale * sum(w * leaf for (w, _), leaf in zip(kept, leaves, strict=True))

    total = jax.tree.map(sum_of, *(term for _, term in kept))
    return total if start is None else jax.tree.map(jnp.add, start, total)


def _distance(a: State, b: State, ndim: int) -> Float[Array, ...]:
    """Square of the distance of the values of two states, with ``ndim`` axes over subjects."""
    squares = [jnp.square(x.value - y.value) for x, y in zip(a, b, strict=True)]
    return sum(jnp.sum(x, axis=tuple(range(x.ndim - ndim))) for x in squares)
