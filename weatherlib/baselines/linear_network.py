"""Linear models on arrays: one matrix, or a product of two, and an intercept."""

from __future__ import annotations

from typing import Any, TypeAlias

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from weatherlib.baselines import linear_layout
from weatherlib.baselines.fields import Fields
from weatherlib.baselines.linear_config import AnyLinearConfig, MultiLinearConfig
from weatherlib.nn.edges import Edges

__all__ = ["LinearNetwork"]

DType: TypeAlias = Any


class LinearNetwork(hk.Module):
    """Predicts each value as a weighted sum of all values that are read.

    `linear_fit.fit` finds the parameters: `w` of shape [feature, output] and `b` of
    shape [output]; with factors `basis` of shape [feature, factor] and `w` of shape
    [factor, output]; for the model that scales, `input_mean` and `input_scale` of shape
    [feature], `output_mean` and `output_scale` of shape [output].
    """

    def __init__(
        self, config: AnyLinearConfig, *, remat: bool = False, name: str = "linear"
    ) -> None:
        """Takes the sizes.

        Args:
          config: Which model.
          remat: Makes no difference: there is nothing inside to compute again.
          name: Of the module.
        """
        super().__init__(name=name)
        del remat
        self._config = config

    def __call__(
        self,
        fields: Fields,
        edges: Edges,
        output_size: int,
        is_training: bool = False,
    ) -> Float[Array, "batch step lat lon output"]:
        """Returns the predicted frames.

        Sums are taken in float32 at least.

        Args:
          fields: What the network sees.
          edges: Make no difference.
          output_size: Channels of the result.
          is_training: Makes no difference.

        Raises:
          ValueError: There are other frames than the model reads, or the weights are
            those of another grid or other variables.
        """
        del edges, is_training
        config, dtype = self._config, fields.frames.dtype
        shape = linear_layout.Shape.of(
            fields, config.input_length, config.output_length, output_size
        )
        wide = _wide(dtype)
        scaled = isinstance(config, MultiLinearConfig)
        x = linear_layout.features(fields, jnp.concatenate)
        if scaled:
            x = x.astype(wide) - self._row("input_mean", shape.features, 0.0, wide)
            x = x / self._row("input_scale", shape.features, 1.0, wide)
        inner = shape.features
        if config.factors:
            basis = self._matrix("basis", inner, config.factors, dtype)
            x, inner = _product(x, basis), config.factors
        y = _product(x, self._matrix("w", inner, shape.outputs, dtype))
        y = y + self._row("b", shape.outputs, 0.0, wide)
        if scaled:
            y = y * self._row("output_scale", shape.outputs, 1.0, wide)
            y = y + self._row("output_mean", shape.outputs, 0.0, wide)
        batch, _, rows, columns, _ = fields.frames.shape
        split = (batch, config.output_length, output_size, rows, columns)
        return y.astype(dtype).reshape(split).transpose(0, 1, 3, 4, 2)

    def _row(self, name: str, size: int, value: float, dtype: DType) -> Array:
        init = hk.initializers.Constant(value)
        found = self._parameter(name, (size,), dtype, init)
        # A cast around the network may have made it narrower.
        return found.astype(dtype)[jnp.newaxis]

    def _matrix(self, name: str, rows: int, columns: int, dtype: DType) -> Array:
        # Zeros predict the mean. Of two matrices one must differ from that, for the
        # gradient of the other.
        init: hk.initializers.Initializer = hk.initializers.Constant(0.0)
        if name == "basis":
            init = hk.initializers.VarianceScaling()
        return self._parameter(name, (rows, columns), dtype, init)

    def _parameter(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: DType,
        init: hk.initializers.Initializer,
    ) -> Array:
        try:
            # Those of a fit are arrays of NumPy until they are compiled.
            return jnp.asarray(hk.get_parameter(name, shape, dtype, init))
        except ValueError as error:
            raise ValueError(
                f"linear model: the weights do not fit; {name} would have the shape "
                f"{shape} for these variables on this grid. They are those of another "
                f"grid, other variables or another number of frames ({error})"
            ) from error


def _wide(dtype: DType) -> DType:
    """Returns the type in which sums are taken."""
    return jnp.dtype(jnp.float64 if dtype == jnp.float64 else jnp.float32)


def _product(x: Array, weights: Array) -> Array:
    """Returns a matrix product whose factors are not rounded on the way."""
    return jnp.matmul(
        x.astype(weights.dtype),
        weights,
        precision=jax.lax.Precision.HIGHEST,
        preferred_element_type=_wide(weights.dtype),
    )
