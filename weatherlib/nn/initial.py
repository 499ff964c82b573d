"""How weights begin, for networks that were published with PyTorch."""

from __future__ import annotations

import haiku as hk

__all__ = ["GLOROT", "NARROW", "fan_in_uniform"]

# Cut off at two standard deviations, a normal distribution is narrower by this.
_CUT_OFF = 0.87962566103423978

NARROW = hk.initializers.TruncatedNormal(0.02 / _CUT_OFF)
"""A truncated normal distribution of standard deviation 0.02."""

GLOROT = hk.initializers.VarianceScaling(1.0, "fan_avg", "uniform")
"""Even draws that keep the spread of signals and gradients (Glorot & Bengio, 2010)."""


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
