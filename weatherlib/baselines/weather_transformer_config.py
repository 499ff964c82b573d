"""Sizes of the Weather Transformer. Nothing here imports JAX or xarray."""

from __future__ import annotations

import dataclasses
from typing import Literal

from weatherlib.baselines import common

__all__ = ["WeatherTransformerConfig"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeatherTransformerConfig(common.FrameModelConfig):
    """Sizes of a transformer over patches, with attention in space and time by turns.

    Its positions in space and its queries belong to one grid. `edges` has no use: a
    grid that the patches do not divide is continued with its last row and column.

    Attributes:
      d_model: Channels of a token, an even number.
      n_heads: Heads of attention, which divide the channels.
      n_layers: Of the encoder.
      patch_size: Rows and columns of a patch, in grid points.
      decoder_layers: Over the queries.
      mlp_ratio: Width inside the perceptrons, in widths of a token.
      pre_norm: Whether norms come before each attention and perceptron, and one before
        the head, instead of after each sum as published.
      queries_see_last: Whether the queries begin with what the encoder made of the last
        past frame at their place. As published they are the same for all samples, and
        training first has to find out which patches they belong to.
      start: How weights begin. "narrow", as published: with standard deviation 0.02.
        "glorot": so that signals keep their spread, positions in space as wide as
        those in time, and the head with zeros, which is a forecast of no change (or of
        the mean) before training.
      dropout: Share of embeddings, weights of attention and hidden values that training
        silences. Nothing, as far as is published.

    Raises:
      ValueError: A size is out of range, or sizes do not go together.
    """

    d_model: int = 128
    n_heads: int = 4
    n_layers: int = 4
    patch_size: tuple[int, int] = (4, 8)
    decoder_layers: int = 2
    mlp_ratio: int = 4
    pre_norm: bool = False
    queries_see_last: bool = False
    start: Literal["narrow", "glorot"] = "narrow"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_positive(
            "d_model", "n_heads", "n_layers", "decoder_layers", "mlp_ratio"
        )
        self._require_share("dropout")
        if len(self.patch_size) != 2 or min(self.patch_size) < 1:
            raise ValueError(
                f"patch_size must be rows and columns from 1 on, found "
                f"{self.patch_size!r}"
            )
        if self.d_model % self.n_heads:
            raise ValueError(
                f"n_heads must divide d_model, found {self.n_heads} heads for "
                f"{self.d_model} channels"
            )
        if self.d_model % 2:
            raise ValueError(f"d_model must be even, found {self.d_model}")
