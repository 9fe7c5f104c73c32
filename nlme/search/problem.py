"""What is minimised: a method's objective of a model on a population, as a function of its free parameters."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from nlme.language.layout import Layout
from nlme.language.model import Model
from nlme.marginal.base import Method
from nlme.marginal.kinks import beginnings
from nlme.marginal.objective import evaluate_population
from nlme.marginal.subjects import Evaluation
from nlme.parameters.inventory import Inventory

Penalty = Callable[[Model], jax.Array]
_AWAY = 35.0  # from the start in a logarithm or logit: a factor of 1e15
_AWAY_REAL = 1e6  # in units of a real parameter's starting value


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """-2 log L by ``method`` of ``model`` on the data of ``layout``, plus ``penalty``, in the free parameters of ``inventory``.

    ``model`` gives the values of the parameters that are fixed, and the starting values of the others.  The programs are those of
    all parameters: which of them are fixed is a choice among their results, so that other choices compile nothing.
    """

    method: Method
    model: Model
    layout: Layout
    inventory: Inventory
    penalty: Penalty | None = None

    @functools.cached_property
    def every(self) -> Inventory:
        """All parameters, the fixed ones too."""
        return Inventory(self.model)

    @functools.cached_property
    def start(self) -> np.ndarray:
        """(P,) the model's own values, unconstrained."""
        return self._everywhere[self.inventory.free]

    @functools.cached_property
    def _everywhere(self) -> np.ndarray:
        return np.asarray(_coordinates(self.every, self.model))

    @functools.cached_property
    def farthest(self) -> np.ndarray:
        """(P,) how far from its start a parameter has run away."""
        return np.array([_AWAY_REAL if domain.name == "real" else _AWAY for domain in self.inventory.ranges])

    def starting_at(self, model: Model, held: Iterable[str] = ()) -> Problem:
        """The problem that begins at the values of ``model``, more parameters ``held`` there."""
        return dataclasses.replace(self, model=model, inventory=Inventory(model, (*self.inventory.fixed, *held)))

    def among_all(self, u: np.ndarray) -> np.ndarray:
        """(..., P_all) unconstrained parameters with those that are fixed, from the free ones (..., P)."""
        full = np.broadcast_to(self._everywhere, (*np.shape(u)[:-1], len(self._everywhere))).copy()
        full[..., self.inventory.free] = u
        return full

    def at(self, u: np.ndarray) -> Model:
        """The model with these values of the free parameters."""
        return _model_at(self.every, self.model, self.among_all(u))

    def natural(self, u: np.ndarray) -> np.ndarray:
        """(R, P) natural values of the free parameters at each row of ``u`` (R, P)."""
        return np.asarray(_natural(self.every, self.model, self.among_all(padded(u))))[: len(u), self.inventory.free]

    def evaluate(
        self, u: np.ndarray, starts, *, second_order=None, tolerance: float | None = None, gradient: bool = True
    ) -> Evaluation:
        """Every subject's objective and gradient at ``u``, see :func:`nlme.marginal.objective.evaluate_population`; no penalty."""
        found = evaluate_population(
            self.method,
            self.layout,
            self.every,
            self.model,
            self.among_all(u),
            starts,
            gradient,
            second_order=second_order,
            tolerance=tolerance,
        )
        return found.of_parameters(self.inventory.free)

    def beginnings(self, u: np.ndarray) -> np.ndarray:
        """(N, q) where searches for the modes at ``u`` begin if nothing is known of these, see :mod:`nlme.marginal.kinks`."""
        return beginnings(self.method, self.at(u), self.layout, self.every)

    def penalised(self, u: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """The penalty at ``u``, its gradient (P,) and second derivatives (P,), see ``penalty_at``; zero without one."""
        if self.penalty is None:
            return 0.0, np.zeros(len(u)), np.zeros(len(u))
        value, *slopes = _penalised(self.penalty, self.every, self.model, self.among_all(u))
        return float(value), *(np.asarray(x)[self.inventory.free] for x in slopes)


@eqx.filter_jit
def _coordinates(inventory: Inventory, model: Model):
    return inventory.unconstrained(model)


@eqx.filter_jit
def _model_at(inventory: Inventory, model: Model, u) -> Model:
    return inventory.at_unconstrained(model, jnp.asarray(u))


def padded(u: np.ndarray, least: int = 32) -> np.ndarray:
    """``u`` (R, P) with its last row repeated up to ``least`` rows or a power of two, so that tasks of similar number share one compiled program."""
    rows = max(least, 1 << (len(u) - 1).bit_length())
    return np.concatenate([u, np.repeat(u[-1:], rows - len(u), axis=0)])


@eqx.filter_jit
def _natural(inventory: Inventory, model: Model, u):
    return jax.vmap(lambda u: inventory.natural(inventory.at_unconstrained(model, u)))(jnp.asarray(u))


def penalty_at(penalty: Penalty | None, inventory: Inventory, model: Model, u):
    """The penalty, its gradient, and its Hessian times (1, ..., 1), which is the diagonal where it is a sum over parameters."""
    if penalty is None:
        return jnp.zeros(()), jnp.zeros_like(u), jnp.zeros_like(u)
    slopes = jax.value_and_grad(lambda u: penalty(inventory.at_unconstrained(model, u)))
    (value, slope), (_, curved) = jax.jvp(slopes, (u,), (jnp.ones_like(u),))
    return value, slope, curved


@eqx.filter_jit
def _penalised(penalty: Penalty, inventory: Inventory, model: Model, u):
    return penalty_at(penalty, inventory, model, jnp.asarray(u))
