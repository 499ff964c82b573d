"""Running statistics of batch normalisation, whatever the optimiser.

They are parameters whose gradient is what they differ by from a batch (see
`weatherlib.nn.batch_norm`). They take a fixed share of it: no momentum, decay or
learning rate, and their gradient counts in no norm that is clipped or told.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from weatherlib.nn import batch_norm
from weatherlib.training import patterns
from weatherlib.typing import PyTree

__all__ = ["follow", "shared", "without"]


class _Following(optax.GradientTransformationExtraArgs):
    """An optimiser that `follow` has made."""


def follow(
    optimizer: optax.GradientTransformation, frozen: PyTree | None = None
) -> optax.GradientTransformationExtraArgs:
    """Returns an optimiser that keeps running statistics as PyTorch does.

    Where there are none it is the one given, with the same state. `training.Trainer`
    does so with every optimiser.

    Args:
      optimizer: For all other parameters. One that `follow` has made is returned.
      frozen: Which parameters stay as they are, running statistics among them; None
        for none.
    """
    if isinstance(optimizer, _Following):
        return optimizer
    inner = optax.with_extra_args_support(optimizer)

    def update(
        updates: Any, state: Any, params: Any = None, **extra: Any
    ) -> tuple[Any, Any]:
        changes, state = inner.update(without(updates), state, params, **extra)
        followed = _running(updates)
        if frozen is not None:
            followed = jax.tree.map(
                lambda running, stays: running and not stays, followed, frozen
            )
        changes = jax.tree.map(
            lambda running, step, change: (
                -batch_norm.MOMENTUM * step if running else change
            ),
            followed,
            updates,
            changes,
        )
        return changes, state

    return _Following(inner.init, update)


def without(gradient: PyTree) -> PyTree:
    """Returns a gradient with zeros for the running statistics."""
    return jax.tree.map(
        lambda running, leaf: jnp.zeros_like(leaf) if running else leaf,
        _running(gradient),
        gradient,
    )


def shared(params: PyTree, uses: int) -> PyTree:
    """Returns parameters for a loss that calls a model several times.

    The gradient of running statistics then is the mean over the calls, not the sum.

    Args:
      params: The parameters.
      uses: Calls, such as the steps of a rollout.
    """
    if uses == 1:
        return params
    return jax.tree.map(
        lambda running, leaf: _divided(leaf, uses) if running else leaf,
        _running(params),
        params,
    )


def _running(tree: PyTree) -> PyTree:
    """Returns which leaves are running statistics."""
    return patterns.map_named(
        lambda name, _: name.rpartition("/")[2] in batch_norm.RUNNING, tree
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _divided(x: jax.Array, uses: int) -> jax.Array:
    """Returns `x`, and divides its gradient."""
    del uses
    return x


_divided.defvjp(
    lambda x, uses: (x, None), lambda uses, saved, gradient: (gradient / uses,)
)
