"""The convolutional autoencoder of Stable Diffusion and of PreDiff.

Fields are channels-last. `Encoder` and `Decoder` are Haiku modules with parameters of
their own; `autoencoder.Autoencoder` has them as pure functions of any number of frames.

Source: Rombach et al. (2022), arXiv 2112.10752, appendix G, in the layout and with the
numbers of `AutoencoderKL` of the diffusers package.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from weatherlib.nn import attention, convolutions, gaussians, mlp, norm
from weatherlib.nn.autoencoder_config import DECODER, ENCODER, AutoencoderConfig

__all__ = [
    "Decoder",
    "Encoder",
    "check_fields",
    "check_latents",
    "upsample_convolve",
]

_EPSILON = 1e-6
_ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "silu": jax.nn.silu,
    "relu": jax.nn.relu,
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "mish": jax.nn.mish,
}


class Encoder(hk.Module):
    """Makes a distribution of latent fields of a field."""

    def __init__(
        self, sizes: AutoencoderConfig, *, remat: bool = False, name: str = ENCODER
    ) -> None:
        """Takes the sizes, and whether the backward pass computes blocks again."""
        super().__init__(name=name)
        self._sizes = sizes
        self._remat = remat

    def __call__(
        self, fields: Float[Array, "batch lat lon channel"]
    ) -> gaussians.DiagonalGaussian:
        """Returns the distributions, `reduction` times smaller along each side.

        Raises:
          ValueError: Rows or columns are no multiple of `reduction`, or there are not
            `in_channels` channels.
        """
        sizes = self._sizes
        check_fields(fields.shape, sizes)
        widths = sizes.block_out_channels
        block = _Blocks(sizes, self._remat)
        x = _Conv(widths[0], 3, name="conv_in")(fields)
        for i, width in enumerate(widths):
            x = _DownBlock(block, width, i < len(widths) - 1, name=f"down_{i}")(x)
        x = _Middle(block, name="mid")(x)
        x = block.activate(
            norm.GroupNorm(sizes.norm_num_groups, "norm_out", _EPSILON)(x)
        )
        moments = _Conv(2 * sizes.latent_channels, 3, name="conv_out")(x)
        if sizes.use_quant_conv:
            moments = _Conv(2 * sizes.latent_channels, 1, name="quant_conv")(moments)
        return gaussians.from_moments(moments)


class Decoder(hk.Module):
    """Makes fields of latent fields."""

    def __init__(
        self, sizes: AutoencoderConfig, *, remat: bool = False, name: str = DECODER
    ) -> None:
        """Takes the sizes, and whether the backward pass computes blocks again."""
        super().__init__(name=name)
        self._sizes = sizes
        self._remat = remat

    def __call__(
        self, latents: Float[Array, "batch lat lon channel"]
    ) -> Float[Array, "batch rows columns output"]:
        """Returns the fields, `reduction` times larger along each side.

        Raises:
          ValueError: There are not `latent_channels` channels.
        """
        sizes = self._sizes
        check_latents(latents.shape, sizes)
        widths = sizes.block_out_channels[::-1]
        block = _Blocks(sizes, self._remat)
        x = latents
        if sizes.use_post_quant_conv:
            x = _Conv(sizes.latent_channels, 1, name="post_quant_conv")(x)
        x = _Conv(widths[0], 3, name="conv_in")(x)
        x = _Middle(block, name="mid")(x)
        for i, width in enumerate(widths):
            x = _UpBlock(block, width, i < len(widths) - 1, name=f"up_{i}")(x)
        x = block.activate(
            norm.GroupNorm(sizes.norm_num_groups, "norm_out", _EPSILON)(x)
        )
        return _Conv(sizes.out_channels, 3, name="conv_out")(x)


def check_fields(shape: tuple[int, ...], sizes: AutoencoderConfig) -> None:
    """Refuses fields that the encoder cannot take.

    Args:
      shape: Of the fields; rows, columns and channels are last.
      sizes: Of the network.

    Raises:
      ValueError: Rows or columns are no multiple of `reduction`, or there are not
        `in_channels` channels.
    """
    rows, columns, channels = shape[-3:]
    if channels != sizes.in_channels:
        raise ValueError(f"fields have {sizes.in_channels} channels, found {channels}")
    step = sizes.reduction
    if rows % step or columns % step:
        raise ValueError(
            f"the autoencoder needs rows and columns that are multiples of {step}, "
            f"found {rows}x{columns}; {-(-rows // step) * step}x"
            f"{-(-columns // step) * step} would work (tiling.pad_to_multiple)"
        )


def check_latents(shape: tuple[int, ...], sizes: AutoencoderConfig) -> None:
    """Refuses latent fields that the decoder cannot take.

    Raises:
      ValueError: There are not `latent_channels` channels.
    """
    if shape[-1] != sizes.latent_channels:
        raise ValueError(
            f"latent fields have {sizes.latent_channels} channels, found {shape[-1]}"
        )


class _Blocks:
    """Makes the parts that all levels have."""

    def __init__(self, sizes: AutoencoderConfig, remat: bool) -> None:
        self.sizes = sizes
        self.activate = _ACTIVATIONS[sizes.act_fn]
        self._remat = remat

    def run(self, module: Callable[[Array], Array], x: Array) -> Array:
        """Returns what a module makes of `x`."""
        return (hk.remat(module) if self._remat else module)(x)


class _Conv(hk.Module):
    """A convolution with zeros around, and a bias."""

    def __init__(self, outputs: int, side: int, *, name: str) -> None:
        super().__init__(name=name)
        self._outputs = outputs
        self._side = side

    def weights(self, inputs: int, dtype: Any) -> tuple[Array, Array]:
        """Returns kernel and bias, which begin as PyTorch's do."""
        shape = (self._side, self._side, inputs, self._outputs)
        bound = 1 / np.sqrt(np.prod(shape[:3]))
        init = hk.initializers.RandomUniform(-bound, bound)
        w = hk.get_parameter("w", shape, dtype, init=init)
        return w, hk.get_parameter("b", shape[3:], dtype, init=init)

    def __call__(
        self, x: Float[Array, "batch lat lon channel"]
    ) -> Float[Array, "batch lat lon output"]:
        w, b = self.weights(x.shape[-1], x.dtype)
        reach = self._side // 2
        around = ((0, 0), (reach, reach), (reach, reach), (0, 0))
        return mlp.add_bias(convolutions.convolve(jnp.pad(x, around), w), b)


class _HalvingConv(_Conv):
    """A convolution at every second point, with zeros below and to the right only."""

    def __call__(
        self, x: Float[Array, "batch lat lon channel"]
    ) -> Float[Array, "batch rows columns output"]:
        w, b = self.weights(x.shape[-1], x.dtype)
        around = ((0, 0), (0, 1), (0, 1), (0, 0))
        halved = convolutions.convolve(jnp.pad(x, around), w, stride=2)
        return mlp.add_bias(halved, b)


class _DoublingConv(_Conv):
    """A convolution of the field with every point repeated."""

    def __call__(
        self, x: Float[Array, "batch lat lon channel"]
    ) -> Float[Array, "batch rows columns output"]:
        w, b = self.weights(x.shape[-1], x.dtype)
        return mlp.add_bias(upsample_convolve(x, w), b)


def upsample_convolve(
    x: Float[Array, "batch lat lon channel"],
    w: Float[Array, "3 3 channel output"],
) -> Float[Array, "batch rows columns output"]:
    """Returns the convolution of a field with every point repeated, zeros around.

    Each point of the result sees four points of `x`, so four kernels of two points a
    side, which add up weights that fall on the same point, take four ninths of the
    products, and the repeated field never exists.
    """
    batch, rows, columns, _ = x.shape
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))

    def found(row: int, column: int) -> Array:
        kernel = _folded(_folded(w, row, 0), column, 1)
        seen = x[:, row : row + rows + 1, column : column + columns + 1]
        return convolutions.convolve(seen, kernel)

    both = [jnp.stack([found(row, 0), found(row, 1)], axis=3) for row in (0, 1)]
    whole = jnp.stack(both, axis=2)
    return whole.reshape(batch, 2 * rows, 2 * columns, -1)


def _folded(w: Array, second: int, axis: int) -> Array:
    """Returns a kernel of three points as one of two, for a first or second point."""
    one, two, three = jnp.split(w, 3, axis=axis)
    parts = [one + two, three] if second else [one, two + three]
    return jnp.concatenate(parts, axis=axis)


class _Resnet(hk.Module):
    """Two convolutions, each behind a norm and an activation, beside a shortcut."""

    def __init__(self, block: _Blocks, outputs: int, *, name: str) -> None:
        super().__init__(name=name)
        self._block = block
        self._outputs = outputs

    def __call__(
        self, x: Float[Array, "batch lat lon channel"]
    ) -> Float[Array, "batch lat lon output"]:
        groups, activate = self._block.sizes.norm_num_groups, self._block.activate
        y = activate(norm.GroupNorm(groups, "norm1", _EPSILON)(x))
        y = _Conv(self._outputs, 3, name="conv1")(y)
        y = activate(norm.GroupNorm(groups, "norm2", _EPSILON)(y))
        y = _Conv(self._outputs, 3, name="conv2")(y)
        if x.shape[-1] != self._outputs:
            x = _Conv(self._outputs, 1, name="shortcut")(x)
        return x + y


class _Attention(hk.Module):
    """Lets the points of a field look at each other, by one head."""

    def __init__(self, block: _Blocks, *, name: str) -> None:
        super().__init__(name=name)
        self._block = block

    def __call__(
        self, x: Float[Array, "batch lat lon channel"]
    ) -> Float[Array, "batch lat lon channel"]:
        batch, rows, columns, width = x.shape
        groups = self._block.sizes.norm_num_groups
        points = norm.GroupNorm(groups, "norm", _EPSILON)(x)
        points = points.reshape(batch, rows * columns, width)
        bound = 1 / np.sqrt(width)
        init = hk.initializers.RandomUniform(-bound, bound)

        def layer(points: Array, name: str) -> Array:
            weights = mlp.Linear(width, name, init).weights(width, x.dtype)
            return attention.linear(points, weights)

        query, key, value = (
            layer(points, part)[:, :, jnp.newaxis] for part in ("query", "key", "value")
        )
        found = attention.attend(query, key, value)[:, :, 0]
        return x + layer(found, "output").reshape(x.shape)


class _Middle(hk.Module):
    """What lies between the levels going down and those going up."""

    def __init__(self, block: _Blocks, *, name: str) -> None:
        super().__init__(name=name)
        self._block = block

    def __call__(
        self, x: Float[Array, "batch lat lon channel"]
    ) -> Float[Array, "batch lat lon channel"]:
        block, width = self._block, x.shape[-1]
        x = block.run(_Resnet(block, width, name="resnet_0"), x)
        if block.sizes.mid_block_add_attention:
            x = block.run(_Attention(block, name="attention"), x)
        return block.run(_Resnet(block, width, name="resnet_1"), x)


class _DownBlock(hk.Module):
    """A level of the encoder."""

    def __init__(
        self, block: _Blocks, outputs: int, halves: bool, *, name: str
    ) -> None:
        super().__init__(name=name)
        self._block = block
        self._outputs = outputs
        self._halves = halves

    def __call__(
        self, x: Float[Array, "batch lat lon channel"]
    ) -> Float[Array, "batch rows columns output"]:
        block = self._block
        for j in range(block.sizes.layers_per_block):
            x = block.run(_Resnet(block, self._outputs, name=f"resnet_{j}"), x)
        if self._halves:
            x = _HalvingConv(self._outputs, 3, name="downsample")(x)
        return x


class _UpBlock(hk.Module):
    """A level of the decoder."""

    def __init__(
        self, block: _Blocks, outputs: int, doubles: bool, *, name: str
    ) -> None:
        super().__init__(name=name)
        self._block = block
        self._outputs = outputs
        self._doubles = doubles

    def __call__(
        self, x: Float[Array, "batch lat lon channel"]
    ) -> Float[Array, "batch rows columns output"]:
        block = self._block
        for j in range(block.sizes.layers_per_block + 1):
            x = block.run(_Resnet(block, self._outputs, name=f"resnet_{j}"), x)
        if self._doubles:
            x = block.run(_DoublingConv(self._outputs, 3, name="upsample"), x)
        return x
