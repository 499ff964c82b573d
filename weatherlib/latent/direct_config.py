"""Sizes of direct forecasts by a vision encoder. Nothing here imports JAX."""

from __future__ import annotations

import dataclasses

from weatherlib import config
from weatherlib.latent.config import DecoderConfig

__all__ = ["RAEConfig"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RAEConfig(config.Mapping):
    """What becomes of past frames, and the decoder that makes it.

    Attributes:
      input_length: Past frames.
      output_length: Frames that are predicted.
      in_channels_history: Channels of a past frame.
      out_channels_future: Channels of a predicted frame.
      token_dim: Channels of a token of the encoder.
      patch_size: Points of the decoder's image along a side of what becomes of a token.
      decoder_hidden_size: Channels of a token inside of the decoder.
      decoder_num_hidden_layers: Its transformer blocks.
      decoder_num_attention_heads: Its attention heads.
      decoder_intermediate_size: Channels inside of its perceptron.

    Raises:
      ValueError: A size is out of range.
    """

    input_length: int = 12
    output_length: int = 4
    in_channels_history: int = 1
    out_channels_future: int = 1
    token_dim: int = 1536
    patch_size: int = 14
    decoder_hidden_size: int = 512
    decoder_num_hidden_layers: int = 8
    decoder_num_attention_heads: int = 16
    decoder_intermediate_size: int = 2048

    def __post_init__(self) -> None:
        for name in (
            "input_length",
            "output_length",
            "in_channels_history",
            "out_channels_future",
        ):
            if self[name] < 1:
                raise ValueError(f"{name} must be at least 1, found {self[name]!r}")
        self.decoder((1, 1))

    @property
    def in_chans(self) -> int:
        """Channels that past frames have side by side."""
        return self.input_length * self.in_channels_history

    def decoder(self, grid: tuple[int, int]) -> DecoderConfig:
        """Returns the sizes of the decoder of a grid of tokens.

        Raises:
          ValueError: A size is out of range.
        """
        return DecoderConfig(
            hidden_size=self.token_dim,
            decoder_hidden_size=self.decoder_hidden_size,
            decoder_num_hidden_layers=self.decoder_num_hidden_layers,
            decoder_num_attention_heads=self.decoder_num_attention_heads,
            decoder_intermediate_size=self.decoder_intermediate_size,
            patch_size=self.patch_size,
            grid=grid,
            num_channels=self.output_length * self.out_channels_future,
        )
