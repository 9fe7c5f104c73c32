"""A stiff method: one step of an L-stable Rosenbrock method, for small systems.

A step solves linear systems with W = I / (h gamma) - df/dy, and no non-linear ones (Hairer & Wanner, Solving Ordinary
Differential Equations II, 2nd ed. 1996, IV.7).  The derivatives carried along are those of the step itself: the Jacobian of the
system with all its columns is block-triangular with df/dy in every diagonal block, so one factorisation of W serves all columns,
and what couples them is the jet of df/dy,

    W u_i  = b_i  + J_i u,          W u_ij = b_ij + J_i u_j + J_j u_i + J_ij u.

The exact Jacobian of all columns keeps the order of the method for them too.

Algebraic equations 0 = g(y), of index 1, are taken along as rows of M dy/du = f with a zero on the diagonal of M = diag(1, .., 0, ..):
W = M / (h gamma) - df/dy, and the increments that a stage carries on, times c / h, are M's (Hairer & Wanner II, VI.4).  Rodas5P meets
the further order conditions that make this of order 5 for algebraic states too, and being stiffly accurate it satisfies the
equations at the end of a step as well as at its last stage.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from nlme.dynamics.explicit import Trial, weighted
from nlme.dynamics.system import State, System


@dataclasses.dataclass(frozen=True)
class Scheme:
    """Coefficients in the form of Hairer & Wanner II, (IV.7.25); the last increment of a step is its error estimate."""

    order: int
    gamma: float
    nodes: tuple[float, ...]
    moving: tuple[float, ...]  # weights of df/du
    stages: tuple[tuple[float, ...], ...]
    carried: tuple[tuple[float, ...], ...]


_LAST = (-7.502846399306121, 2.561846144803919, -11.627539656261098, -0.18268767659942256, 0.030198172008377946)

#: Steinebach (2023), Construction of Rosenbrock-Wanner method Rodas5P and numerical benchmarks within the Julia Differential
#: Equations package, BIT Numerical Mathematics 63:27, doi:10.1007/s10543-023-00967-x: order 5(4), 8 stages, stiffly accurate
RODAS5P = Scheme(
    order=5,
    gamma=0.21193756319429014,
    nodes=(0.0, 0.6358126895828704, 0.4095798393397535, 0.9769306725060716, 0.4288403609558664, 1.0, 1.0, 1.0),
    moving=(
        0.21193756319429014, -0.42387512638858027, -0.3384627126235924, 1.8046452872882734, 2.325825639765069, 0.0, 0.0, 0.0,
    ),
    stages=(
        (),
        (3.0,),
        (2.849394379747939, 0.45842242204463923),
        (-6.954028509809101, 2.489845061869568, -10.358996098473584),
        (2.8029986275628964, 0.5072464736228206, -0.3988312541770524, -0.04721187230404641),
        _LAST,
        (*_LAST, 1.0),
        (*_LAST, 1.0, 1.0),
    ),
    carried=(
        (),
        (-14.155112264123755,),
        (-17.97296035885952, -2.859693295451294),
        (147.12150275711716, -1.41221402718213, 71.68940251302358),
        (165.43517024871676, -0.4592823456491126, 42.90938336958603, -5.961986721573306),
        (24.854864614690072, -3.0009227002832186, 47.4931110020768, 5.5814197821558125, -0.6610691825249471),
        (
            30.91273214028599, -3.1208243349937974, 77.79954646070892, 34.28646028294783, -19.097331116725623,
            -28.087943162872662,
        ),
        (
            37.80277123390563, -3.2571969029072276, 112.26918849496327, 66.9347231244047, -40.06618937091002, -54.66780262877968,
            -9.48861652309627,
        ),
    ),
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Rosenbrock:
    """Steps of a Rosenbrock method; nothing is remembered from one to the next."""

    scheme: Scheme

    @property
    def order(self) -> int:
        return self.scheme.order

    def begin(self, system: System, state: State) -> tuple[()]:
        return ()

    def step(self, system: System, u, state: State, memory, h) -> Trial:
        """One step of size ``h`` from (u, state)."""
        scheme = self.scheme
        drift, solve = system.implicit(u, state, 1.0 / (h * scheme.gamma))
        if system.looped:
            return self._stage_by_stage(system, u, state, h, drift, solve)
        increments: list[State] = []
        for node, moving, row, carried in zip(scheme.nodes, scheme.moving, scheme.stages, scheme.carried, strict=True):
            at = weighted(row, increments, 1.0, state) if row else state

            def increment(node=node, moving=moving, carried=carried, at=at):
                right = system.slope(u + node * h, at)
                if carried:
                    right = system.where_differential(weighted(carried, increments, 1.0 / h, right), right)
                if moving:
                    right = jax.tree.map(lambda b, d: b + moving * h * d, right, drift)
                return solve(right)

            increments.append(system.materialised(u, increment))
        new = jax.tree.map(jnp.add, at, increments[-1])
        return Trial(new, (), (increments[-1],), jnp.zeros(()))

    def _stage_by_stage(self, system, u, state: State, h, drift: State, solve) -> Trial:
        """The same as a loop over the stages: one stage is compiled."""
        scheme, count = self.scheme, len(self.scheme.nodes)
        stages, carried = (
            np.array([(*row, *[0.0] * (count - len(row))) for row in rows]) for rows in (scheme.stages, scheme.carried)
        )

        def stage(increments, row):
            k, node, moving, weights, carries = row
            at = jax.tree.map(lambda y, terms: y + jnp.tensordot(weights, terms, 1), state, increments)
            right = system.slope(u + node * h, at)
            moved = jax.tree.map(lambda b, terms: b + jnp.tensordot(carries, terms, 1) / h, right, increments)
            right = system.where_differential(moved, right)
            found = solve(jax.tree.map(lambda b, d: b + moving * h * d, right, drift))
            return jax.tree.map(lambda terms, x: terms.at[k].set(x), increments, found), jax.tree.map(jnp.add, at, found)

        none = jax.tree.map(lambda x: jnp.zeros((count, *x.shape)), state)
        rows = (np.arange(count), np.array(scheme.nodes), np.array(scheme.moving), stages, carried)
        increments, ends = jax.lax.scan(stage, none, rows)
        new, last = (jax.tree.map(lambda x: x[-1], of) for of in (ends, increments))
        return Trial(new, (), (last,), jnp.zeros(()))
