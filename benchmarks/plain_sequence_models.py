"""Models of sequences in plain PyTorch, for comparison only: see `plain_grid_models`.

They see no grid: a frame is flattened as channel, latitude, longitude. The two that do
see one, SpatialTransformer and the Weather Transformer, are here for their layers.
"""

import math

import torch
from torch import nn
from torch.nn import functional

from benchmarks.plain_task import Task

__all__ = [
    "Lstm",
    "LstmSeq2Seq",
    "SpatialTransformer",
    "Transformer",
    "TransformerSeq2Seq",
    "WeatherTransformer",
]


class Lstm(nn.Module):
    """LSTM and BidirectionalLSTM: what is left after the last frame, and a layer."""

    def __init__(
        self,
        task: Task,
        hidden_size: int = 128,
        num_layers: int = 2,
        dropout: float = 0.2,
        bidirectional: bool = False,
    ) -> None:
        super().__init__()
        self._steps = task.output_length
        self.lstm = nn.LSTM(
            task.features,
            hidden_size,
            num_layers,
            batch_first=True,
            dropout=dropout if num_layers > 1 else 0.0,
            bidirectional=bidirectional,
        )
        width = hidden_size * (2 if bidirectional else 1)
        self.fc = nn.Linear(width, task.output_length * task.features)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Returns the frames that follow `frames`."""
        batch, _, *shape = frames.shape
        _, (hidden, _) = self.lstm(frames.flatten(2))
        last = hidden[-1]
        if self.lstm.bidirectional:
            last = torch.cat([hidden[-2], hidden[-1]], dim=-1)
        return self.fc(last).view(batch, self._steps, *shape)


class LstmSeq2Seq(nn.Module):
    """An encoder, and a decoder that reads what it has predicted."""

    def __init__(
        self,
        task: Task,
        hidden_size: int = 128,
        num_layers: int = 2,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self._steps = task.output_length
        options = {"batch_first": True, "dropout": dropout if num_layers > 1 else 0.0}
        self.encoder = nn.LSTM(task.features, hidden_size, num_layers, **options)
        self.decoder = nn.LSTM(task.features, hidden_size, num_layers, **options)
        self.fc = nn.Linear(hidden_size, task.features)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Returns the frames that follow `frames`."""
        batch, _, *shape = frames.shape
        flat = frames.flatten(2)
        _, state = self.encoder(flat)
        frame, found = flat[:, -1:], []
        for _ in range(self._steps):
            hidden, state = self.decoder(frame, state)
            frame = self.fc(hidden)
            found.append(frame)
        return torch.cat(found, dim=1).view(batch, self._steps, *shape)


class _PositionalEncoding(nn.Module):
    """Sines on even and cosines on odd columns, kept as a buffer."""

    def __init__(self, width: int, dropout: float, longest: int) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        position = torch.arange(longest)[:, None]
        rates = torch.exp(torch.arange(0, width, 2) * (-math.log(1e4) / width))
        table = torch.zeros(1, longest, width)
        table[0, :, 0::2] = torch.sin(position * rates)
        table[0, :, 1::2] = torch.cos(position * rates[: width // 2])
        self.register_buffer("pe", table)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dropout(x + self.pe[:, : x.shape[1]])


def _encoder(
    width: int, heads: int, hidden: int, dropout: float, layers: int
) -> nn.Module:
    layer = nn.TransformerEncoderLayer(width, heads, hidden, dropout, batch_first=True)
    return nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)


class Transformer(nn.Module):
    """TransformerModel: an encoder over frames, and a head on the last one."""

    def __init__(
        self,
        task: Task,
        d_model: int = 128,
        nhead: int = 4,
        num_layers: int = 3,
        dropout: float = 0.2,
        dim_feedforward: int | None = None,
    ) -> None:
        super().__init__()
        self._steps = task.output_length
        self.input_projection = nn.Linear(task.features, d_model)
        self.pos_encoder = _PositionalEncoding(d_model, dropout, task.input_length)
        hidden = dim_feedforward or 4 * d_model
        self.transformer_encoder = _encoder(d_model, nhead, hidden, dropout, num_layers)
        self.output_projection = nn.Sequential(
            nn.LayerNorm(d_model),
            nn.Dropout(dropout),
            nn.Linear(d_model, d_model // 2),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(d_model // 2, task.features * task.output_length),
        )

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Returns the frames that follow `frames`."""
        batch, _, *shape = frames.shape
        x = self.pos_encoder(self.input_projection(frames.flatten(2)))
        x = self.transformer_encoder(x)[:, -1]
        return self.output_projection(x).view(batch, self._steps, *shape)


class TransformerSeq2Seq(nn.Module):
    """An encoder over frames, and a decoder of learned queries."""

    def __init__(
        self,
        task: Task,
        d_model: int = 256,
        nhead: int = 8,
        num_encoder_layers: int = 4,
        num_decoder_layers: int = 4,
        dropout: float = 0.2,
        dim_feedforward: int | None = None,
    ) -> None:
        super().__init__()
        hidden = dim_feedforward or 4 * d_model
        self.input_projection = nn.Linear(task.features, d_model)
        self.pos_encoder = _PositionalEncoding(d_model, dropout, task.input_length)
        self.transformer_encoder = _encoder(
            d_model, nhead, hidden, dropout, num_encoder_layers
        )
        self.query_tokens = nn.Parameter(torch.randn(1, task.output_length, d_model))
        layer = nn.TransformerDecoderLayer(
            d_model, nhead, hidden, dropout, batch_first=True
        )
        self.transformer_decoder = nn.TransformerDecoder(layer, num_decoder_layers)
        self.output_projection = nn.Linear(d_model, task.features)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Returns the frames that follow `frames`."""
        batch, _, *shape = frames.shape
        x = self.pos_encoder(self.input_projection(frames.flatten(2)))
        queries = self.query_tokens.expand(batch, -1, -1)
        x = self.transformer_decoder(queries, self.transformer_encoder(x))
        return self.output_projection(x).view(batch, -1, *shape)


class SpatialTransformer(nn.Module):
    """Attention between all places of the grid."""

    def __init__(
        self,
        task: Task,
        d_model: int = 128,
        nhead: int = 4,
        num_layers: int = 3,
        dropout: float = 0.2,
        dim_feedforward: int | None = None,
    ) -> None:
        super().__init__()
        self._steps = task.output_length
        places, hidden = task.rows * task.columns, dim_feedforward or 4 * d_model
        self.input_projection = nn.Linear(task.input_length * task.channels, d_model)
        self.position_embedding = nn.Parameter(0.02 * torch.randn(1, places, d_model))
        self.dropout = nn.Dropout(dropout)
        self.transformer_encoder = _encoder(d_model, nhead, hidden, dropout, num_layers)
        self.output_projection = nn.Linear(d_model, task.output_length * task.channels)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Returns the frames that follow `frames`."""
        batch, _, *shape = frames.shape
        x = self.input_projection(frames.flatten(1, 2).flatten(2).transpose(1, 2))
        x = self.transformer_encoder(self.dropout(x + self.position_embedding))
        x = self.output_projection(x).transpose(1, 2)
        return x.reshape(batch, self._steps, *shape)


class _SpaceTimeLayer(nn.Module):
    """Attention in space, attention in time, and a perceptron; each normalised."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.spatial_attn = nn.MultiheadAttention(
            width, heads, dropout, batch_first=True
        )
        self.temporal_attn = nn.MultiheadAttention(
            width, heads, dropout, batch_first=True
        )
        self.linear1 = nn.Linear(width, hidden)
        self.linear2 = nn.Linear(hidden, width)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, steps, places, width = x.shape
        y = x.reshape(batch * steps, places, width)
        y = self.spatial_attn(y, y, y, need_weights=False)[0].view(x.shape)
        x = self.norm1(x + self.dropout(y))
        y = x.transpose(1, 2).reshape(batch * places, steps, width)
        y = self.temporal_attn(y, y, y, need_weights=False)[0]
        y = y.view(batch, places, steps, width).transpose(1, 2)
        x = self.norm2(x + self.dropout(y))
        y = self.linear2(self.dropout(functional.relu(self.linear1(x))))
        return self.norm3(x + self.dropout(y))


class WeatherTransformer(nn.Module):
    """Patches, attention in space and time by turns, and learned queries."""

    def __init__(
        self,
        task: Task,
        d_model: int = 128,
        n_heads: int = 4,
        n_layers: int = 4,
        patch_size: tuple[int, int] = (4, 8),
        decoder_layers: int = 2,
        mlp_ratio: int = 4,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        height, breadth = self._patch = tuple(patch_size)
        places = (task.rows // height) * (task.columns // breadth)
        hidden = mlp_ratio * d_model
        self.patch_embedding = nn.Conv2d(
            task.channels, d_model, self._patch, stride=self._patch
        )
        self.temporal_encoding = _PositionalEncoding(d_model, 0.0, task.input_length)
        self.spatial_embedding = nn.Parameter(torch.zeros(1, 1, places, d_model))
        self.dropout = nn.Dropout(dropout)
        self.encoder_layers = nn.Sequential(
            *(
                _SpaceTimeLayer(d_model, n_heads, hidden, dropout)
                for _ in range(n_layers)
            )
        )
        self.query_tokens = nn.Parameter(
            torch.zeros(1, task.output_length, places, d_model)
        )
        layer = nn.TransformerDecoderLayer(
            d_model, n_heads, hidden, dropout, batch_first=True
        )
        self.decoder = nn.TransformerDecoder(layer, decoder_layers)
        self.output_projection = nn.Linear(d_model, height * breadth * task.channels)
        self.apply(_initialize)
        for table in (self.spatial_embedding, self.query_tokens):
            nn.init.trunc_normal_(table, std=0.02)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Returns the frames that follow `frames`."""
        batch, steps, channels, rows, columns = frames.shape
        height, breadth = self._patch
        x = self.patch_embedding(frames.flatten(0, 1)).flatten(2).transpose(1, 2)
        x = x.view(batch, steps, *x.shape[1:]) + self.spatial_embedding
        times = self.temporal_encoding.pe[:, :steps, None]
        x = self.encoder_layers(self.dropout(x + times)).flatten(1, 2)
        queries = self.query_tokens.flatten(1, 2).expand(batch, -1, -1)
        x = self.output_projection(self.decoder(queries, x))
        x = x.view(
            batch, -1, rows // height, columns // breadth, height, breadth, channels
        )
        return x.permute(0, 1, 6, 2, 4, 3, 5).reshape(
            batch, -1, channels, rows, columns
        )


def _initialize(layer: nn.Module) -> None:
    """Draws matrices from a narrow normal; biases are zero."""
    if isinstance(layer, nn.MultiheadAttention):
        nn.init.trunc_normal_(layer.in_proj_weight, std=0.02)
        nn.init.zeros_(layer.in_proj_bias)
    if isinstance(layer, nn.Linear | nn.Conv2d):
        nn.init.trunc_normal_(layer.weight, std=0.02)
        nn.init.zeros_(layer.bias)
