"""A convolutional network with residual blocks, on the sphere or on a part of it."""

from __future__ import annotations

import dataclasses

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from weatherlib.baselines.config import ResidualCnnConfig
from weatherlib.nn import convolutions, members
from weatherlib.nn.edges import Edges, surround

__all__ = ["Parity", "ResidualCnnNetwork"]

# The last layer starts small, so that training starts close to persistence.
_HEAD_SCALE = 0.01
# Estimates of errors learn this much slower, so that the layers they share with the
# prediction are shaped by that.
_ESTIMATE_RATE = 0.1
# Bounds of the log variance. Where a target never changes there is none below.
_LARGEST_LOG_VARIANCE = 10.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parity:
    """Signs that channels change by when the globe is mirrored at the equator.

    Attributes:
      inputs: Of what the network sees, 1 or -1, shape [channel].
      outputs: Of what it predicts, shape [output].
      extras: Of what is derived from the inputs, shape [extra].
    """

    inputs: np.ndarray
    outputs: np.ndarray
    extras: np.ndarray = dataclasses.field(default_factory=lambda: np.ones(0))


class ResidualCnnNetwork(hk.Module):
    """The mean of some networks of dilated convolutions with residual blocks."""

    def __init__(self, config: ResidualCnnConfig, name: str = "residual_cnn") -> None:
        """Takes the sizes."""
        super().__init__(name=name)
        self._config = config

    def __call__(
        self,
        field: Float[Array, "batch lat lon channel"],
        positions: Float[np.ndarray, "lat lon position"],
        edges: Edges,
        output_size: int,
        is_training: bool = False,
        parity: Parity | None = None,
        extras: Float[Array, "batch lat lon extra"] | None = None,
    ) -> Float[Array, "batch lat lon output"]:
        """Returns `output_size` channels for each grid point.

        With `estimates_error` they are followed by as many log variances of their
        errors.

        Args:
          field: What the network sees.
          positions: Where the points lie; joined to the field where the configuration
            asks for it.
          edges: How the field goes on beyond its edges.
          output_size: Channels of the result.
          is_training: Whether dropout is on, which draws from the Haiku key stream, and
            each member sees its own share of a batch that can be divided evenly.
          parity: Signs in a mirrored world; None where all stay.
          extras: More of what the network sees, of which no differences are taken.

        Raises:
          ValueError: A dilation reaches beyond the grid.
        """
        config = self._config
        _check_reach(config, field.shape[1], field.shape[2], edges)
        batch, rows, columns, _ = field.shape
        signs = np.ones(field.shape[-1]) if parity is None else parity.inputs
        if config.differences:
            field, signs = _with_differences(field, signs, config.differences, edges)
        if extras is not None:
            field = jnp.concatenate([field, extras], axis=-1)
            own = np.ones(extras.shape[-1]) if parity is None else parity.extras
            signs = np.concatenate([signs, own])
        shared = []
        if config.positions:
            shared.append(jnp.asarray(positions, field.dtype))
            # Of the sines and cosines of latitude and longitude, the first.
            signs = np.append(signs, [-1, 1, 1, 1])
        if config.local_channels:
            shape = (rows, columns, config.local_channels)
            init = hk.initializers.TruncatedNormal(0.02)
            shared.append(hk.get_parameter("local_embed", shape, field.dtype, init))
            signs = np.append(signs, np.ones(config.local_channels))
        if config.mirror:
            # Tells the hemispheres apart: 1 here, -1 in the mirrored view.
            shared.append(jnp.ones((rows, columns, 1), field.dtype))
            signs = np.append(signs, -1)
        for channels in shared:
            channels = jnp.broadcast_to(channels, (batch, *channels.shape))
            field = jnp.concatenate([field, channels], axis=-1)
        outputs = np.ones(output_size) if parity is None else parity.outputs
        if config.estimates_error:
            outputs = np.concatenate([outputs, np.ones(output_size)])
        parity = Parity(inputs=signs, outputs=outputs)
        networks = [
            _Member(config, edges, parity, is_training, name=f"member_{i}")
            for i in range(config.members)
        ]
        found = members.apply(networks, field, axis=0, is_training=is_training)
        return self._estimated(found) if config.estimates_error else found

    @hk.transparent
    def _estimated(self, outputs: Array) -> Array:
        """Returns outputs whose second half is log variances."""
        predicted, estimate = jnp.split(outputs, 2, axis=-1)
        if self._config.local_channels:
            shape = estimate.shape[1:]
            estimate += hk.get_parameter(
                "error_embed", shape, estimate.dtype, jnp.zeros
            )
        bound = _LARGEST_LOG_VARIANCE
        fixed = jax.lax.stop_gradient(estimate)
        estimate = fixed + _ESTIMATE_RATE * (estimate - fixed)
        return jnp.concatenate([predicted, estimate.clip(-bound, bound)], axis=-1)


class _Member(hk.Module):
    """One network of residual blocks."""

    def __init__(
        self,
        config: ResidualCnnConfig,
        edges: Edges,
        parity: Parity,
        training: bool,
        name: str,
    ) -> None:
        super().__init__(name=name)
        self._config = config
        self._edges = edges
        self._parity = parity
        self._training = training

    def __call__(self, field: Array) -> Array:
        edges, parity, training = self._edges, self._parity, self._training
        if not self._config.mirror:
            return self._predict(field, edges, len(parity.outputs), training)
        rows = field.shape[1]
        half = rows - rows // 2
        seen = min(half + _reach(self._config), rows)
        mirrored = field[:, ::-1] * _signs(parity.inputs, field)
        views = jnp.concatenate([field[:, :seen], mirrored[:, :seen]])
        if seen < rows:
            # What lies beyond this edge reaches no row that is used.
            edges = dataclasses.replace(edges, over_last_row="repeat")
        views = self._predict(views, edges, len(parity.outputs), training)
        upper, lower = jnp.split(views[:, :half], 2)
        lower = lower[:, ::-1] * _signs(parity.outputs, lower)
        if rows % 2:
            equator = (upper[:, -1:] + lower[:, :1]) * 0.5
            return jnp.concatenate([upper[:, :-1], equator, lower[:, 1:]], axis=1)
        return jnp.concatenate([upper, lower], axis=1)

    @hk.transparent
    def _predict(
        self, field: Array, edges: Edges, output_size: int, training: bool
    ) -> Array:
        config = self._config
        x = _convolution(field, config, config.width, 1, edges, "embed")
        for i, dilation in enumerate(config.dilations):
            label = f"block_{i}"
            y = jax.nn.gelu(_normalized(x, config, f"{label}_norm"))
            y = _convolution(y, config, config.width, dilation, edges, f"{label}_conv")
            y = jax.nn.gelu(y)
            if training and config.dropout:
                y = hk.dropout(hk.next_rng_key(), config.dropout, y)
            x = x + hk.Linear(config.width, name=f"{label}_mix")(y)
        x = jax.nn.gelu(_normalized(x, config, "norm"))
        if training and config.dropout:
            x = hk.dropout(hk.next_rng_key(), config.dropout, x)
        scale = hk.initializers.VarianceScaling(_HEAD_SCALE)
        return hk.Linear(output_size, w_init=scale, name="head")(x)


def _with_differences(
    field: Array, signs: np.ndarray, weight: float, edges: Edges
) -> tuple[Array, np.ndarray]:
    """Returns a field joined by its differences, and the signs of all in a mirror."""
    around = surround(field, 1, edges)
    west, east = around[:, 1:-1, :-2], around[:, 1:-1, 2:]
    above, below = around[:, :-2, 1:-1], around[:, 2:, 1:-1]
    curvature = west + east + above + below - 4 * field
    parts = [field, weight * (east - west), weight * (below - above)]
    parts.append(2 * weight * curvature)
    signs = np.concatenate([signs, signs, -signs, signs])
    return jnp.concatenate(parts, axis=-1), signs


def _convolution(
    x: Array,
    config: ResidualCnnConfig,
    width: int,
    dilation: int,
    edges: Edges,
    name: str,
) -> Array:
    reach = (config.kernel // 2) * dilation
    if reach:
        x = surround(x, reach, edges)
    return convolutions.Conv2D(width, config.kernel, dilation, name=name)(x)


def _normalized(x: Array, config: ResidualCnnConfig, name: str) -> Array:
    if config.normalization == "none":
        return x
    return hk.LayerNorm(-1, create_scale=True, create_offset=True, name=name)(x)


def _signs(parity: np.ndarray, like: Array) -> Array:
    return jnp.asarray(parity[np.newaxis, np.newaxis, np.newaxis], like.dtype)


def _reach(config: ResidualCnnConfig) -> int:
    """Returns from how many rows away a result may be influenced."""
    return (config.kernel // 2) * (1 + sum(config.dilations))


def _check_reach(
    config: ResidualCnnConfig, rows: int, columns: int, edges: Edges
) -> None:
    reach = (config.kernel // 2) * max(config.dilations)
    around = edges.columns == "around"
    needed = (reach + 1 if edges.over_poles else 1, reach if around else 1)
    for size, least, what in zip((rows, columns), needed, ("rows", "columns")):
        if size < least:
            raise ValueError(
                f"dilation {max(config.dilations)} with kernel {config.kernel} reaches "
                f"{reach} grid points, and the grid has only {size} {what}; use "
                "smaller dilations"
            )
