"""Any Equinox module as a part of a model: its floating-point arrays are the weights, fixed effects with names.

    correction = module((x - center) / scale)

The last linear layer starts at zero, so that the module starts as no correction; where there is none, or where something follows
it, the module starts as it is given.  Refused is what a likelihood cannot have: what draws at random or remembers (dropout,
batch norm, recurrent cells, states), and kinks, in the output or in its slope.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nlme.errors import ModelError
from nlme.neural.correction import Correction, declared, named
from nlme.neural.kinks import kinked
from nlme.neural.term import learned

_WHO = "nlme.module"
_REFUSED = {
    "Dropout": "draws at random, and a likelihood is one number: penalise the weights instead, penalty=nlme.L2(...)",
    "BatchNorm": "depends on the other subjects of a batch, and a subject's likelihood does not: standardise the inputs instead",
    "SpectralNorm": "keeps a state from call to call",
    "StatefulLayer": "keeps a state from call to call",
    "StateIndex": "keeps a state from call to call",
    "GRUCell": "is recurrent: it needs a sequence, and a model is asked record by record. Make what it remembers a state of nlme.ODE",
    "LSTMCell": "is recurrent: it needs a sequence, and a model is asked record by record. Make what it remembers a state of nlme.ODE",
}


class Module(Correction):
    """An Equinox module with named inputs; make one with :func:`module`.

    Attributes
    ----------
    weights : the module's floating-point arrays, in its own form
    rest : everything else of it
    shape : of the array that it takes
    """

    weights: Any = learned("Network weight")
    rest: Any = eqx.field(static=True)
    shape: tuple[int, ...] = eqx.field(static=True)

    @property
    def last(self):
        return self.weights

    def correction(self, z: Float[Array, " inputs"]) -> Float[Array, " outputs"]:
        return _vector(eqx.combine(self.weights, self.rest), self.shape)(z)

    @property
    def form(self) -> str:
        return f"{type(self.rest).__name__} of {self.size} weights"


def module(
    module: eqx.Module,
    *,
    inputs: int | Sequence[str] | None = None,
    outputs: int | Sequence[str] | None = None,
    shape: tuple[int, ...] | None = None,
    center: float | Sequence[float] | Mapping[str, float] | None = None,
    scale: float | Sequence[float] | Mapping[str, float] | None = None,
    initial_scale: float = 0.0,
    output="real",
    init=None,
    vanishing=False,
):
    """Field of an Equinox module whose arrays are fixed effects: ``net: nlme.Module = nlme.module(eqx.nn.MLP(2, 1, 8, 2,
    jnp.tanh, key=key))``.

    Parameters
    ----------
    module : takes an array and returns a number or a vector; ``eqx.nn.MLP``, ``eqx.nn.Sequential``, a convolutional encoder,
        your own
    inputs : how many, or their names; by default as many as the module says (``in_size``, ``in_features``)
    outputs : their names, or None for a vector
    shape : of the array that the module takes, by default (inputs,); the inputs fill it in order
    initial_scale : of the last linear layer as it is given; 0 starts with no correction
    center, scale, output, init, vanishing : as in :func:`nlme.mlp`

    Raises
    ------
    ModelError
        No module, one that cannot be part of a likelihood, kinks, another number of inputs or outputs than it has.
    """
    term = build(
        module,
        inputs=inputs,
        outputs=outputs,
        shape=shape,
        center=center,
        scale=scale,
        initial_scale=initial_scale,
        output=output,
        init=init,
        vanishing=vanishing,
    )
    return eqx.field(default_factory=lambda: term)


def build(
    module,
    *,
    inputs=None,
    outputs=None,
    shape=None,
    center=None,
    scale=None,
    initial_scale=0.0,
    output="real",
    init=None,
    vanishing=False,
) -> Module:
    """The term that :func:`module` would declare, as a value."""
    if not isinstance(module, eqx.Module) or not callable(module):
        raise ModelError(f"{_WHO} takes an Equinox module such as eqx.nn.MLP(...); got {type(module).__name__}.")
    _require_permitted(module)
    given = jax.tree.map(lambda x: jnp.asarray(x, dtype=jnp.float64) if eqx.is_inexact_array(x) else x, module)
    inputs = _inputs(module, shape) if inputs is None else inputs
    count_in = named(_WHO, "inputs", inputs)[1]
    shape = (count_in,) if shape is None else tuple(shape)
    if int(np.prod(shape)) != count_in:
        raise ModelError(f"{_WHO}: an array of shape {shape} has {int(np.prod(shape))} numbers, and there are {count_in} inputs.")
    count = _outputs(given, count_in, shape)
    o = dict(
        inputs=inputs,
        outputs=outputs or count,
        center=center,
        scale=scale,
        output=output,
        init=init,
        monotone=None,
        vanishing=vanishing,
        constant=True,
    )
    fields, told = declared(_WHO, o)
    if told != count:
        raise ModelError(f"{_WHO}: {type(module).__name__} returns {count} numbers; outputs={outputs!r}.")
    if kinked(_vector(given, shape), count_in):
        raise ModelError(
            f"{_WHO}: {type(module).__name__} has kinks{_suspects(module)}. The likelihood takes second derivatives of a network, "
            f"which a kink does not have: take jnp.tanh, jax.nn.softplus, jax.nn.silu or jax.nn.gelu."
        )
    weights, rest = eqx.partition(_started(given, shape, count_in, initial_scale), eqx.is_inexact_array)
    if any(eqx.is_array(x) or isinstance(x, np.ndarray) for x in jax.tree.leaves(rest)):
        raise ModelError(f"{_WHO}: {type(module).__name__} holds arrays of whole numbers; make them a static field of it.")
    return Module(**fields, weights=weights, rest=rest, shape=shape)


def _vector(module: Callable, shape: tuple[int, ...]) -> Callable:
    """The module as a function of a vector with a vector for its value."""
    return lambda z: jnp.ravel(module(jnp.reshape(z, shape)))


def _inputs(module, shape) -> int:
    """How many numbers the module takes, as far as it says so."""
    if shape is not None:
        return int(np.prod(shape))
    first = module.layers[0] if isinstance(module, eqx.nn.Sequential) and len(module.layers) else module
    for name in ("in_size", "in_features"):
        size = getattr(first, name, None)
        if size == "scalar" or isinstance(size, int):
            return 1 if size == "scalar" else size
    raise ModelError(f"{_WHO}: {type(module).__name__} does not say how many inputs it has: inputs=2, or their names.")


def _outputs(module, count: int, shape: tuple[int, ...]) -> int:
    """How many numbers the module returns."""
    try:
        found = jax.eval_shape(module, jax.ShapeDtypeStruct(shape, jnp.float64))
    except Exception as error:  # noqa: BLE001 (whatever the module's own code raises)
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"{_WHO}: {type(module).__name__} cannot be called with an array of shape {shape}: {said}") from None
    if not isinstance(found, jax.ShapeDtypeStruct) or len(found.shape) > 1 or not jnp.issubdtype(found.dtype, jnp.floating):
        raise ModelError(f"{_WHO}: {type(module).__name__} must return a number or a vector of them; it returns {found}.")
    return int(np.prod(found.shape))


def _require_permitted(module) -> None:
    """Refuse layers that no likelihood can have."""

    def refused(x) -> bool:
        idle = type(x).__name__ == "Dropout" and (x.inference or x.p == 0)
        return type(x).__name__ in _REFUSED and type(x).__module__.startswith("equinox") and not idle

    for path, leaf in jax.tree_util.tree_flatten_with_path(module, is_leaf=refused)[0]:
        if refused(leaf):
            place = jax.tree_util.keystr(path).lstrip(".")
            kind = type(leaf).__name__
            raise ModelError(f"{_WHO}: {f'its part {place}' if place else 'the module'} is {kind}, which {_REFUSED[kind]}.")


def _started(module, shape: tuple[int, ...], count: int, initial_scale: float):
    """The module with its last linear layer scaled, if that leaves no output at a scale of zero."""

    def linears(m):
        return [x for x in jax.tree.leaves(m, is_leaf=_is_linear) if _is_linear(x)]

    if not linears(module):
        return module

    def scaled(by: float):
        return eqx.tree_at(lambda m: linears(m)[-1], module, replace_fn=lambda own: jax.tree.map(lambda x: by * x, own))

    silent = not np.any(np.asarray(_vector(scaled(0.0), shape)(jnp.linspace(0.3, 1.1, count))))
    return scaled(initial_scale) if silent else module


def _is_linear(x) -> bool:
    return isinstance(x, eqx.nn.Linear)


def _suspects(module) -> str:
    """The functions in it, by name."""
    names = [
        getattr(leaf, "__name__", "") for leaf in jax.tree.leaves(module) if callable(leaf) and not isinstance(leaf, eqx.Module)
    ]
    found = list(dict.fromkeys(name for name in names if name and name != "<lambda>" and name != "_identity"))
    return f" (its functions: {', '.join(found)})" if found else ""
