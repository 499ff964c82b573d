"""How the layers of PyTorch begin, for networks that were published with it."""

from __future__ import annotations

import haiku as hk

__all__ = ["fan_in_uniform"]


def fan_in_uniform(size: int) -> hk.initializers.Initializer:
    """Returns an even draw between plus and minus `1 / sqrt(size)`.

    So begin the weights and the biases of `torch.nn.Linear` and of convolutions, with
    the number of inputs of one output, and those of `torch.nn.LSTM`, with the size of
    its hidden state.

    Args:
      size: What the spread goes by. For 0 any draw does, since nothing is multiplied.
    """
    bound = max(size, 1) ** -0.5
    return hk.initializers.RandomUniform(-bound, bound)
