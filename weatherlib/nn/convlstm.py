"""Convolutional LSTM cells, and layers of them run over frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from jax import ad_checkpoint
from jaxtyping import Array, Float

from weatherlib.nn import convolutions, mlp
from weatherlib.nn.edges import ZERO, Edges, check_reach, surround

__all__ = ["Cell", "State", "remembering", "run"]

# What a step keeps for the backward pass; all else is computed again from it, which
# takes less time than fetching it from memory.
_KEPT = "gates"


class State(NamedTuple):
    """What a layer remembers.

    Attributes:
      hidden: What the layer puts out.
      memory: Its cell, at least in float32.
    """

    hidden: Float[Array, "batch lat lon channel"]
    memory: Float[Array, "batch lat lon channel"]


class Cell(hk.Module):
    """An LSTM cell whose products are convolutions.

    With the gates i, f, g, o, which are channels of one convolution over the input and
    the hidden state side by side,

        memory' = sigmoid(f) * memory + sigmoid(i) * tanh(g)
        hidden' = sigmoid(o) * tanh(memory')

    Gates and memory are computed in float32 where the input is of less precision.

    Source: Shi et al. (2015), arXiv:1506.04214, whose peepholes are an option.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int = 3,
        *,
        dilation: int = 1,
        normalize: bool = False,
        peepholes: str = "none",
        forget_bias: float = 1.0,
        name: str = "cell",
    ) -> None:
        """Takes the sizes.

        Args:
          channels: Of the state.
          kernel_size: Points along a side of the kernel, an odd number.
          dilation: Distance between these points.
          normalize: Whether the channels of each gate are normalised at each point, in
            place of the bias.
          peepholes: "none"; "channel" for one weight for each channel by which gates
            see the memory; "point" for one for each channel and grid point.
          forget_bias: First value of the bias of f.
          name: Of the module.
        """
        super().__init__(name=name)
        self._channels = channels
        self._kernel_size = kernel_size
        self._dilation = dilation
        self._normalize = normalize
        self._peepholes = peepholes
        self._forget_bias = forget_bias

    def start(self, x: Float[Array, "batch lat lon channel"]) -> State:
        """Returns the state before the first input, zeros, for inputs like `x`."""
        shape = (*x.shape[:3], self._channels)
        return State(jnp.zeros(shape, x.dtype), jnp.zeros(shape, _precise(x)))

    def recall(self, x: Float[Array, "batch lat lon channel"]) -> State:
        """Returns the state that `keep` was given in the last call of the program.

        It is Haiku state. In the first call it is that of `start`.
        """
        shape = (*x.shape[:3], self._channels)
        return State(
            hk.get_state("hidden", shape, x.dtype, jnp.zeros),
            hk.get_state("memory", shape, _precise(x), jnp.zeros),
        )

    def keep(self, state: State) -> None:
        """Puts a state where `recall` finds it in the next call of the program."""
        hk.set_state("hidden", state.hidden)
        hk.set_state("memory", state.memory)

    def __call__(
        self, x: Float[Array, "batch lat lon channel"], state: State, edges: Edges
    ) -> State:
        """Returns the state after one more input.

        Args:
          x: The input.
          state: The state before.
          edges: How fields go on beyond their edges.

        Raises:
          ValueError: The kernel reaches further than the grid can go on.
        """
        channels = self._channels
        joined = jnp.concatenate([x, state.hidden], axis=-1)
        size = (self._kernel_size, self._kernel_size, joined.shape[-1])
        init = hk.initializers.TruncatedNormal(1 / np.sqrt(np.prod(size)))
        w = hk.get_parameter("w", (*size, 4 * channels), x.dtype, init)
        gates = _convolved(joined, w, self._dilation, edges)
        gates = ad_checkpoint.checkpoint_name(gates, _KEPT).astype(_precise(x))
        i, f, g, o = jnp.split(self._opened(gates, x.dtype), 4, axis=-1)
        i = self._seeing(i, "peephole_i", state.memory, x.dtype)
        f = self._seeing(f, "peephole_f", state.memory, x.dtype)
        memory = jax.nn.sigmoid(f) * state.memory + jax.nn.sigmoid(i) * jnp.tanh(g)
        o = self._seeing(o, "peephole_o", memory, x.dtype)
        hidden = jax.nn.sigmoid(o) * jnp.tanh(memory)
        return State(hidden.astype(x.dtype), memory)

    def _opened(self, gates: Array, dtype: Any) -> Array:
        """Returns the gates with their bias, or normalised."""
        channels = self._channels
        bias = jnp.repeat(jnp.array([0, self._forget_bias, 0, 0]), channels)

        def first(shape: Sequence[int], dtype: Any) -> Array:
            return jnp.broadcast_to(bias.astype(dtype), shape)

        size = (4 * channels,)
        if not self._normalize:
            b = hk.get_parameter("b", size, dtype, first)
            return mlp.add_bias(gates, b.astype(gates.dtype))
        scale = hk.get_parameter("scale", size, dtype, jnp.ones)
        offset = hk.get_parameter("offset", size, dtype, first)
        weights = mlp.NormWeights(
            *(a.astype(gates.dtype).reshape(4, channels) for a in (scale, offset))
        )
        apart = gates.reshape(*gates.shape[:-1], 4, channels)
        return mlp.normalize(weights, apart).reshape(gates.shape)

    def _seeing(self, gate: Array, name: str, memory: Array, dtype: Any) -> Array:
        """Returns a gate that sees the memory, where there are peepholes."""
        if self._peepholes == "none":
            return gate
        shape = memory.shape[1:] if self._peepholes == "point" else memory.shape[3:]
        w = hk.get_parameter(name, shape, dtype, jnp.zeros).astype(memory.dtype)
        return gate + w.reshape((1,) * (memory.ndim - w.ndim) + w.shape) * memory


def run(
    cells: Sequence[Cell],
    frames: Float[Array, "batch time lat lon channel"],
    states: Sequence[State],
    edges: Edges,
    *,
    between: Callable[[Array], Array] | None = None,
    remat: bool = False,
) -> tuple[State, ...]:
    """Returns the states of layers of cells after some frames.

    Args:
      cells: The layers; each reads the hidden state of the one before.
      frames: What the first reads, one after the other.
      states: Where they start.
      edges: How fields go on beyond their edges.
      between: Applied to what a layer hands to the next, such as dropout.
      remat: Whether the backward pass computes the convolutions again, too. It then
        keeps the states only, a third of what it keeps otherwise.

    Raises:
      ValueError: As for `Cell`.
    """

    def step(states: tuple[State, ...], x: Array) -> tuple[tuple[State, ...], None]:
        found = []
        for cell, state in zip(cells, states, strict=True):
            if found and between is not None:
                x = between(x)
            found.append(cell(x, state, edges))
            x = found[-1].hidden
        return tuple(found), None

    step = remembering(step, remat=remat)
    return hk.scan(step, tuple(states), jnp.moveaxis(frames, 1, 0))[0]


def remembering(step: Callable, *, remat: bool) -> Callable:
    """Returns a step of a loop that keeps little for the backward pass.

    Args:
      step: Uses cells.
      remat: Whether it keeps nothing but its inputs, or else the convolutions.
    """
    policy = jax.checkpoint_policies.save_only_these_names(_KEPT)
    return hk.remat(step, prevent_cse=False, policy=None if remat else policy)


def _convolved(x: Array, w: Array, dilation: int, edges: Edges) -> Array:
    reach = dilation * (w.shape[0] // 2)
    if edges == ZERO:
        return convolutions.convolve(x, w, dilation, padding=reach)
    check_reach(x.shape[1], x.shape[2], reach, edges)
    return convolutions.convolve(surround(x, reach, edges), w, dilation)


def _precise(x: Array) -> jnp.dtype:
    """Returns the dtype of gates and memory for an input."""
    return x.dtype if jnp.finfo(x.dtype).bits > 32 else jnp.dtype(jnp.float32)
