"""AdamW and Muon with masks, frozen parameters and rates by layer, for optax."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from optax import contrib

from weatherlib.training import patterns, running_statistics
from weatherlib.training.config import OptimizerConfig
from weatherlib.training.schedules import Rate
from weatherlib.typing import PyTree

__all__ = ["decay_mask", "frozen_mask", "make_optimizer", "rate_factors"]


def make_optimizer(
    settings: OptimizerConfig, schedule: Rate, params: PyTree
) -> optax.GradientTransformation:
    """Returns the transform of gradients to changes of the weights.

    Running statistics of batch normalisation follow the batches instead, unless they
    are frozen.

    Args:
      settings: The optimiser and what is around it.
      schedule: Learning rate by number of updates.
      params: The parameters, or their shapes. Patterns are checked against them.

    Raises:
      ValueError: A pattern of `frozen`, `layers` or `scales` fits no parameter, or
        `layer_decay` is given without `layers`; everything is frozen.
    """
    frozen = frozen_mask(settings, params)
    factors = rate_factors(settings, params)
    parts = []
    if settings.clip is not None:
        parts.append(optax.clip_by_global_norm(settings.clip))
    parts += [
        _direction(settings),
        optax.add_decayed_weights(
            settings.weight_decay, mask=lambda tree: decay_mask(settings, tree)
        ),
        optax.scale_by_learning_rate(schedule),
    ]
    if any(factor != 1 for factor in jax.tree.leaves(factors)):
        parts.append(_scale_by_name(settings))
    optimizer = optax.chain(*parts)
    if not any(jax.tree.leaves(frozen)):
        return running_statistics.follow(optimizer)
    if all(jax.tree.leaves(frozen)):
        raise ValueError("frozen: every parameter is frozen, nothing is left to train")
    labels = jax.tree.map(
        lambda is_frozen: "frozen" if is_frozen else "trained", frozen
    )
    kinds: dict[Any, Any] = {"trained": optimizer, "frozen": optax.set_to_zero()}
    return running_statistics.follow(optax.partition(kinds, labels), frozen)


def _direction(settings: OptimizerConfig) -> optax.GradientTransformation:
    """Returns the transform of gradients to changes at a rate of 1."""
    adam = optax.scale_by_adam(b1=settings.b1, b2=settings.b2, eps=settings.eps)
    if settings.kind == "adamw":
        return adam
    muon = optax.chain(
        contrib.scale_by_muon(
            beta=settings.momentum,
            weight_dimension_numbers=lambda tree: jax.tree.map(_as_matrix, tree),
        ),
        optax.stateless(lambda changes, _: jax.tree.map(_as_large_as_adam, changes)),
    )
    kinds: dict[Any, Any] = {"matrix": muon, "other": adam}

    def label(name: str, leaf: Any) -> str:
        plain = patterns.first_match(name, settings.no_decay) is None
        return "matrix" if jnp.ndim(leaf) >= 2 and plain else "other"

    return optax.partition(kinds, lambda tree: patterns.map_named(label, tree))


def _as_matrix(leaf: Any) -> contrib.MuonDimensionNumbers:
    """Returns which axes are rows and columns: outputs come last, as in Haiku."""
    inputs = tuple(range(jnp.ndim(leaf) - 1))
    return contrib.MuonDimensionNumbers(inputs, (jnp.ndim(leaf) - 1,))


def _as_large_as_adam(change: Any) -> Any:
    # An orthogonal matrix has a root mean square of one over the root of its longer
    # side; changes of AdamW have one of 0.2 to 0.4 at a rate of 1 (Liu et al. 2025).
    outputs = change.shape[-1]
    return change * (0.2 * max(outputs, change.size // outputs) ** 0.5)


def frozen_mask(settings: OptimizerConfig, params: PyTree) -> PyTree:
    """Returns which parameters stay as they are.

    Raises:
      ValueError: A pattern fits none.
    """
    patterns.require_matches(params, settings.frozen, "optimizer.frozen")
    patterns.require_matches(params, settings.trained, "optimizer.trained")
    return patterns.map_named(
        lambda name, _: (
            patterns.first_match(name, settings.frozen) is not None
            and patterns.first_match(name, settings.trained) is None
        ),
        params,
    )


def decay_mask(settings: OptimizerConfig, params: PyTree) -> PyTree:
    """Returns which parameters decay: all of two or more axes that no pattern names.

    With `decay_vectors` those of fewer axes decay too.
    """
    least = 0 if settings.decay_vectors else 2
    return patterns.map_named(
        lambda name, leaf: (
            jnp.ndim(leaf) >= least
            and patterns.first_match(name, settings.no_decay) is None
        ),
        params,
    )


def rate_factors(settings: OptimizerConfig, params: PyTree) -> PyTree:
    """Returns the factor on the learning rate of each parameter.

    Parameters of the last layer, and those of no layer, learn at the full rate.

    Raises:
      ValueError: A pattern fits no parameter, or layers are missing.
    """
    if settings.layer_decay != 1 and not settings.layers:
        raise ValueError("optimizer.layer_decay needs optimizer.layers, input first")
    patterns.require_matches(params, settings.layers, "optimizer.layers")
    patterns.require_matches(params, list(settings.scales), "optimizer.scales")
    return patterns.map_named(lambda name, _: _factor(settings, name), params)


def _factor(settings: OptimizerConfig, name: str) -> float:
    factor = 1.0
    layer = patterns.first_match(name, settings.layers)
    if layer is not None:
        factor = settings.layer_decay ** (len(settings.layers) - 1 - layer)
    scale = patterns.first_match(name, list(settings.scales))
    return factor if scale is None else factor * list(settings.scales.values())[scale]


def _scale_by_name(settings: OptimizerConfig) -> optax.GradientTransformation:
    def update(changes: Any, params: Any) -> Any:
        del params
        # Leaves hidden by a partition keep their names, so names are looked up here.
        return patterns.map_named(
            lambda name, leaf: leaf * _factor(settings, name), changes
        )

    return optax.stateless(update)
