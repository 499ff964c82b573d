"""LSTM layers in the layout of `torch.nn.LSTM`, for whole sequences or step by step.

`Lstm` creates the weights; `read` and `step` apply them, so that they can be used
inside of loops. What both return as state is what later calls go on from, so that a
sequence may come in parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from weatherlib.nn import dropout, initial, mlp

__all__ = [
    "CellState",
    "CellWeights",
    "Lstm",
    "LstmState",
    "LstmWeights",
    "initial_state",
    "read",
    "step",
]


class CellWeights(NamedTuple):
    """One layer in one direction. Gates lie side by side in the order i, f, g, o.

    Attributes:
      w_input: For what is read, shape [input, 4 hidden].
      w_hidden: For the last hidden state, shape [hidden, 4 hidden].
      b_input: Shape [4 hidden].
      b_hidden: Shape [4 hidden]; added to the other, and kept apart as PyTorch does.
    """

    w_input: Array
    w_hidden: Array
    b_input: Array
    b_hidden: Array


class CellState(NamedTuple):
    """What one layer in one direction remembers.

    Attributes:
      hidden: Shape [batch, hidden].
      cell: Of the same shape, always in float32.
    """

    hidden: Array
    cell: Array


LstmWeights = tuple[tuple[CellWeights, ...], ...]
"""For each layer its directions: forward, and reverse if there is one."""

LstmState = tuple[tuple[CellState, ...], ...]
"""Likewise."""


class Lstm(hk.Module):
    """Creates the weights of stacked layers: `layer_0`, `layer_0_reverse`, `layer_1`...

    All begin evenly spread between plus and minus `1 / sqrt(hidden_size)`, as in
    PyTorch.
    """

    def __init__(
        self,
        hidden_size: int,
        num_layers: int = 1,
        *,
        bidirectional: bool = False,
        name: str = "lstm",
    ) -> None:
        """Takes the sizes.

        Args:
          hidden_size: Width of the hidden state in one direction.
          num_layers: Layers, each of which reads the outputs of the one before.
          bidirectional: Whether each layer has a second half that reads backwards.
          name: Of the module.
        """
        super().__init__(name=name)
        self._hidden_size = hidden_size
        self._num_layers = num_layers
        self._endings = ("", "_reverse") if bidirectional else ("",)

    def __call__(self, input_size: int, dtype: Any) -> LstmWeights:
        """Returns the weights for sequences of `input_size` channels."""
        layers = []
        for i in range(self._num_layers):
            layers.append(
                tuple(
                    _Cell(self._hidden_size, name=f"layer_{i}{ending}")(
                        input_size, dtype
                    )
                    for ending in self._endings
                )
            )
            input_size = self._hidden_size * len(self._endings)
        return tuple(layers)


class _Cell(hk.Module):
    """Creates the weights of one layer in one direction."""

    def __init__(self, hidden_size: int, name: str) -> None:
        super().__init__(name=name)
        self._hidden_size = hidden_size

    def __call__(self, input_size: int, dtype: Any) -> CellWeights:
        init = initial.fan_in_uniform(self._hidden_size)
        gates = 4 * self._hidden_size
        shapes = {
            "w_input": (input_size, gates),
            "w_hidden": (self._hidden_size, gates),
            "b_input": (gates,),
            "b_hidden": (gates,),
        }
        return CellWeights(
            **{
                name: hk.get_parameter(name, shape, dtype, init=init)
                for name, shape in shapes.items()
            }
        )


def initial_state(weights: LstmWeights, batch: int) -> LstmState:
    """Returns the state before anything was read: zeros."""
    return tuple(tuple(_zeros(cell, batch) for cell in layer) for layer in weights)


def _zeros(weights: CellWeights, batch: int) -> CellState:
    shape = (batch, weights.w_hidden.shape[0])
    hidden = jnp.zeros(shape, weights.w_hidden.dtype)
    return CellState(hidden, jnp.zeros(shape, jnp.float32))


def read(
    weights: LstmWeights,
    x: Float[Array, "batch time input"],
    state: LstmState | None = None,
    *,
    drop_rate: float = 0.0,
    key: Array | None = None,
    remat: bool = False,
) -> tuple[Float[Array, "batch time output"], LstmState]:
    """Returns what the last layer says at each step, and the state after the last one.

    The products with what is read are made for all steps at once; the scan over time
    only multiplies hidden states.

    Args:
      weights: From `Lstm`.
      x: Sequences, the earliest step first.
      state: To go on from; None begins with zeros. The reverse half of a layer begins
        at the last step and ends at the first.
      drop_rate: Share of the outputs that are silenced between two layers.
      key: For them; None silences nothing.
      remat: Whether the backward pass computes the gates of each step again.

    Returns:
      The outputs, both directions side by side, and the state.
    """
    state = initial_state(weights, x.shape[0]) if state is None else state
    after = []
    for i, (cells, before) in enumerate(zip(weights, state, strict=True)):
        if i:
            x = _dropped(x, drop_rate, key, i)
        found = [
            _read_one(cell, x, begun, reverse=j == 1, remat=remat)
            for j, (cell, begun) in enumerate(zip(cells, before, strict=True))
        ]
        x = _joined([outputs for outputs, _ in found])
        after.append(tuple(end for _, end in found))
    return x, tuple(after)


def step(
    weights: LstmWeights,
    x: Float[Array, "batch input"],
    state: LstmState,
    *,
    drop_rate: float = 0.0,
    key: Array | None = None,
) -> tuple[Float[Array, "batch output"], LstmState]:
    """Returns what the last layer says after one more step, and the state then.

    Args:
      weights: From `Lstm`, of one direction.
      x: What is read in this step.
      state: Before it.
      drop_rate: As for `read`.
      key: As for `read`; a new one for each step.
    """
    after = []
    for i, ((cell,), (before,)) in enumerate(zip(weights, state, strict=True)):
        if i:
            x = _dropped(x, drop_rate, key, i)
        end = _advance(cell.w_hidden, _input_gates(cell, x), before)
        x = end.hidden
        after.append((end,))
    return x, tuple(after)


def _read_one(
    weights: CellWeights, x: Array, state: CellState, *, reverse: bool, remat: bool
) -> tuple[Array, CellState]:
    """Returns the outputs of one layer in one direction, and its state at the end."""

    def advance(before: CellState, gates: Array) -> tuple[CellState, Array]:
        after = _advance(weights.w_hidden, gates, before)
        return after, after.hidden

    batch, time, _ = x.shape
    gates = _input_gates(weights, x.reshape(batch * time, -1))
    gates = gates.reshape(batch, time, -1).swapaxes(0, 1)
    body = jax.checkpoint(advance) if remat else advance
    end, outputs = jax.lax.scan(body, state, gates, reverse=reverse)
    return outputs.swapaxes(0, 1), end


def _input_gates(weights: CellWeights, x: Array) -> Array:
    """Returns the share of what is read in the gates, shape [row, 4 hidden]."""
    gates = jnp.matmul(x, weights.w_input, preferred_element_type=jnp.float32)
    bias = weights.b_input.astype(jnp.float32) + weights.b_hidden.astype(jnp.float32)
    return mlp.add_bias(gates, bias)


def _advance(w_hidden: Array, gates: Array, state: CellState) -> CellState:
    """Returns the state after a step, given the share of what is read in its gates."""
    gates = gates + jnp.matmul(
        state.hidden, w_hidden, preferred_element_type=jnp.float32
    )
    i, f, g, o = jnp.split(gates, 4, axis=-1)
    cell = jax.nn.sigmoid(f) * state.cell + jax.nn.sigmoid(i) * jnp.tanh(g)
    hidden = jax.nn.sigmoid(o) * jnp.tanh(cell)
    return CellState(hidden.astype(state.hidden.dtype), cell)


def _dropped(x: Array, rate: float, key: Array | None, place: int) -> Array:
    own = None if key is None else jax.random.fold_in(key, place)
    return dropout.silence(x, rate, own)


def _joined(parts: Sequence[Array]) -> Array:
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=-1)
