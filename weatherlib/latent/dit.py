"""Diffusion transformers on latent fields: a simple one, and one with a wide head.

Both are denoisers: they take noisy latent fields of future frames, those of past frames
and steps of noise, and are called inside of a Haiku transformation. Latent points, or
patches of them, are tokens; past frames lie beside the noisy ones as channels. They
begin by predicting zero, and every block by changing nothing.

Source: Peebles and Xie (2023), arXiv 2212.09748; the head: Wang et al. (2025), arXiv
2504.05741, and Zheng et al. (2025), arXiv 2510.11690.
"""

from __future__ import annotations

from typing import Literal

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from weatherlib.latent import layers
from weatherlib.latent.dit_config import DiTConfig
from weatherlib.nn import attention, embedding, patching, step_embedding

__all__ = ["DiT", "WideHeadDiT"]

_EPSILON = 1e-6
_TIME_WIDTH = 256

Told = Float[Array, "batch place channel"]
"""What a block is told: something for each token, or one thing for all."""


class DiT(hk.Module):
    """A transformer whose blocks are told the step of noise."""

    def __init__(
        self, config: DiTConfig, *, remat: bool = False, name: str = "latent_denoiser"
    ) -> None:
        """Takes the sizes, and whether the backward pass computes blocks again."""
        super().__init__(name=name)
        self._config = config
        self._remat = remat

    def __call__(
        self,
        noisy: Float[Array, "batch target rows columns"],
        condition: Float[Array, "batch past rows columns"],
        timestep: Num[Array, " batch"],
    ) -> Float[Array, "batch target rows columns"]:
        """Returns what it predicts about the noise."""
        config = self._config
        told = _Time(config.hidden_size, name="time")(timestep, noisy.dtype)
        seen = jnp.concatenate([noisy, condition], axis=1)
        tokens = _Embed(config.hidden_size, config.patch_size, name="embed")(seen)
        tokens = _blocks(
            tokens,
            told,
            depth=config.depth,
            heads=config.num_heads,
            hidden=_inner(config.hidden_size, config.mlp_ratio),
            activation="gelu_tanh",
            remat=self._remat,
            label="block",
        )
        return _Last(noisy.shape[1], config.patch_size, name="last")(
            tokens, told, (noisy.shape[2], noisy.shape[3])
        )


class WideHeadDiT(hk.Module):
    """A deep narrow transformer, and a shallow wide one that is told what it found.

    The head works on the noisy fields alone. Each of its tokens is told the token of
    the deep part at the same place, so that only the head has to be as wide as latent
    fields have channels.
    """

    def __init__(
        self, config: DiTConfig, *, remat: bool = False, name: str = "latent_denoiser"
    ) -> None:
        """Takes the sizes, and whether the backward pass computes blocks again."""
        super().__init__(name=name)
        self._config = config
        self._remat = remat

    def __call__(
        self,
        noisy: Float[Array, "batch target rows columns"],
        condition: Float[Array, "batch past rows columns"],
        timestep: Num[Array, " batch"],
    ) -> Float[Array, "batch target rows columns"]:
        """Returns what it predicts about the noise."""
        config = self._config
        told = _Time(config.hidden_size, name="time")(timestep, noisy.dtype)
        seen = jnp.concatenate([noisy, condition], axis=1)
        found = _Embed(config.hidden_size, config.patch_size, name="embed")(seen)
        found = _blocks(
            found,
            told,
            depth=config.depth,
            heads=config.num_heads,
            hidden=_inner(config.hidden_size, config.mlp_ratio, gated=True),
            activation="swiglu",
            remat=self._remat,
            label="block",
        )
        found = jax.nn.silu(found + told)
        if config.hidden_size != config.head_hidden_size:
            found = layers.Linear(config.head_hidden_size, name="to_head")(found)
        tokens = _Embed(config.head_hidden_size, config.patch_size, name="head_embed")(
            noisy
        )
        tokens = _blocks(
            tokens,
            found,
            depth=config.head_depth,
            heads=config.head_num_heads,
            hidden=_inner(config.head_hidden_size, config.mlp_ratio, gated=True),
            activation="swiglu",
            remat=self._remat,
            label="head",
        )
        return _Last(noisy.shape[1], config.patch_size, name="last")(
            tokens, found, (noisy.shape[2], noisy.shape[3])
        )


class _Time(hk.Module):
    """Steps of noise as one token that is told to all others."""

    def __init__(self, width: int, name: str) -> None:
        super().__init__(name=name)
        self._width = width

    def __call__(
        self, t: Num[Array, " batch"], dtype: jnp.dtype
    ) -> Float[Array, "batch one channel"]:
        table = step_embedding.timestep_embedding(t, _TIME_WIDTH, cosines_first=True)
        hidden = layers.Linear(self._width, name="fc1")(table.astype(dtype))
        found = layers.Linear(self._width, name="fc2")(jax.nn.silu(hidden))
        return found[:, jnp.newaxis]


class _Embed(hk.Module):
    """Latent points, or patches of them, as tokens that know where they are."""

    def __init__(self, width: int, patch: int, name: str) -> None:
        super().__init__(name=name)
        self._width = width
        self._patch = (patch, patch)

    def __call__(
        self, x: Float[Array, "batch channel rows columns"]
    ) -> Float[Array, "batch token width"]:
        points = patching.to_patches(jnp.moveaxis(x, 1, -1), self._patch)
        batch, rows, columns, values = points.shape
        tokens = points.reshape(batch, rows * columns, values)
        tokens = layers.Linear(self._width, name="projection")(tokens)
        table = embedding.sincos_2d(self._width, rows, columns)
        return tokens + jnp.asarray(table, tokens.dtype)[jnp.newaxis]


class _Block(hk.Module):
    """Attention and a perceptron, each moved, scaled and let through as it is told."""

    def __init__(
        self,
        heads: int,
        hidden: int,
        activation: Literal["gelu_tanh", "swiglu"],
        name: str,
    ) -> None:
        super().__init__(name=name)
        self._heads = heads
        self._mlp = (hidden, activation)

    def __call__(
        self, x: Float[Array, "batch token channel"], told: Told
    ) -> Float[Array, "batch token channel"]:
        shift, scale, gate, shift2, scale2, gate2 = _told(told, 6, x.shape[-1])
        seen = _moved(layers.standardize(x, _EPSILON), shift, scale)
        x = x + gate * attention.SelfAttention(self._heads, name="attn")(seen)
        seen = _moved(layers.standardize(x, _EPSILON), shift2, scale2)
        return x + gate2 * layers.Mlp(*self._mlp, name="mlp")(seen)


class _Last(hk.Module):
    """Tokens as latent fields; zero at first."""

    def __init__(self, outputs: int, patch: int, name: str) -> None:
        super().__init__(name=name)
        self._outputs = outputs
        self._patch = (patch, patch)

    def __call__(
        self,
        x: Float[Array, "batch token channel"],
        told: Told,
        size: tuple[int, int],
    ) -> Float[Array, "batch output rows columns"]:
        shift, scale = _told(told, 2, x.shape[-1])
        x = _moved(layers.standardize(x, _EPSILON), shift, scale)
        values = self._outputs * self._patch[0] * self._patch[1]
        points = hk.Linear(values, w_init=jnp.zeros, name="projection")(x)
        rows, columns = (-(-n // p) for n, p in zip(size, self._patch))
        points = points.reshape(len(x), rows, columns, values)
        return jnp.moveaxis(patching.from_patches(points, self._patch, size), -1, 1)


def _blocks(
    x: Array,
    told: Told,
    *,
    depth: int,
    heads: int,
    hidden: int,
    activation: Literal["gelu_tanh", "swiglu"],
    remat: bool,
    label: str,
) -> Array:
    """Returns tokens after some blocks."""
    for i in range(depth):
        block = _Block(heads, hidden, activation, name=f"{label}_{i}")
        x = (hk.remat(block) if remat else block)(x, told)
    return x


def _told(told: Told, count: int, width: int) -> list[Array]:
    """Returns what a block is told, in parts that are zero at first."""
    linear = hk.Linear(count * width, w_init=jnp.zeros, name="told")
    return jnp.split(linear(jax.nn.silu(told)), count, axis=-1)


def _moved(x: Array, shift: Array, scale: Array) -> Array:
    return x * (scale + jnp.ones((), x.dtype)) + shift


def _inner(width: int, ratio: float, *, gated: bool = False) -> int:
    """Returns the channels inside of a perceptron; a gated one has two matrices."""
    return int(width * ratio * 2 / 3) if gated else int(width * ratio)
