"""Sizes of the networks that read frames as a sequence.

All but `SpatialTransformerConfig` flatten a frame, so that their weights belong to one
grid, and none has a use for `edges`. Nothing here imports JAX or xarray.
"""

from __future__ import annotations

import dataclasses

from weatherlib.baselines import common

__all__ = [
    "BidirectionalLSTMConfig",
    "LSTMConfig",
    "LSTMSeq2SeqConfig",
    "SpatialTransformerConfig",
    "TransformerConfig",
    "TransformerSeq2SeqConfig",
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LSTMConfig(common.FrameModelConfig):
    """Sizes of a network that reads frames one by one and then predicts all at once.

    Attributes:
      hidden_size: Width of the hidden state.
      num_layers: Layers, each of which reads the outputs of the one before.
      dropout: Share of these outputs that training silences.

    Raises:
      ValueError: A size is out of range.
    """

    hidden_size: int = 128
    num_layers: int = 2
    dropout: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_positive("hidden_size", "num_layers")
        self._require_share("dropout")


@dataclasses.dataclass(frozen=True, kw_only=True)
class BidirectionalLSTMConfig(LSTMConfig):
    """As `LSTMConfig`; each layer also reads from the last past frame to the first.

    `hidden_size` is the width in one direction.
    """


@dataclasses.dataclass(frozen=True, kw_only=True)
class LSTMSeq2SeqConfig(LSTMConfig):
    """As `LSTMConfig`, for the encoder and for the decoder each."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _AttentionConfig(common.FrameModelConfig):
    """What transformers have in common."""

    d_model: int = 128
    nhead: int = 4
    dropout: float = 0.2
    dim_feedforward: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_positive("d_model", "nhead")
        self._require_share("dropout")
        if self.d_model % self.nhead:
            raise ValueError(
                f"nhead must divide d_model, found {self.nhead} heads for "
                f"{self.d_model} channels"
            )
        if self.d_model % 2:
            raise ValueError(f"d_model must be even, found {self.d_model}")
        if self.dim_feedforward is not None:
            self._require_positive("dim_feedforward")

    @property
    def hidden(self) -> int:
        """Width inside the perceptrons."""
        return self.dim_feedforward or 4 * self.d_model


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerConfig(_AttentionConfig):
    """Sizes of a transformer in time, which predicts all frames from the last token.

    Attributes:
      d_model: Channels of a token, an even number.
      nhead: Heads of attention, which divide the channels.
      num_layers: Of the encoder.
      dropout: Share of positions, weights of attention and hidden values that training
        silences.
      dim_feedforward: Width inside the perceptrons; None is four times `d_model`.

    Raises:
      ValueError: A size is out of range, or sizes do not go together.
    """

    num_layers: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_positive("num_layers")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerSeq2SeqConfig(_AttentionConfig):
    """Sizes of a transformer in time with a learned query for each predicted frame.

    Attributes:
      d_model: Channels of a token, an even number.
      nhead: Heads of attention, which divide the channels.
      num_encoder_layers: Over the past frames.
      num_decoder_layers: Over the queries.
      dropout: As in `TransformerConfig`.
      dim_feedforward: Width inside the perceptrons; None is four times `d_model`.

    Raises:
      ValueError: A size is out of range, or sizes do not go together.
    """

    d_model: int = 256
    nhead: int = 8
    num_encoder_layers: int = 4
    num_decoder_layers: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_positive("num_encoder_layers", "num_decoder_layers")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpatialTransformerConfig(TransformerConfig):
    """As `TransformerConfig`, for tokens that are the places of the grid.

    `dropout` leaves the weights of attention alone: they grow with the square of the
    grid, and random numbers for them would take longer than all else.
    """
