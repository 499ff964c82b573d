"""The denoiser of PreDiff in plain PyTorch, for comparison only: see `prediff.py`.

Axial attention without global vectors, as in the published configuration, with the
layers that PyTorch has and the names of the published files.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

__all__ = ["Unet", "make"]


def make(job: dict[str, Any]) -> nn.Module:
    """Returns the network of a job of `prediff.py`."""
    return Unet(
        shape=tuple(job["shape"]),
        past=job["past"],
        units=job["units"],
        depth=job["depth"],
        heads=job["heads"],
        step_width=job["step_width"],
    )


class _Residual(nn.Module):
    """A block of two convolutions in time and space; all but the first see the step."""

    def __init__(self, inputs: int, outputs: int, step_width: int | None) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(
            _group_norm(inputs), nn.SiLU(), nn.Conv3d(inputs, outputs, 3, padding=1)
        )
        if step_width is not None:
            self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(step_width, outputs))
        self.out_layers = nn.Sequential(
            _group_norm(outputs),
            nn.SiLU(),
            nn.Identity(),
            nn.Conv3d(outputs, outputs, 3, padding=1),
        )
        if inputs != outputs:
            self.skip_connection = nn.Conv3d(inputs, outputs, 1)
        self._seen, self._skips = step_width is not None, inputs != outputs

    def forward(self, x: torch.Tensor, step: torch.Tensor | None) -> torch.Tensor:
        """Takes and returns [batch, time, row, column, channel]."""
        x = x.permute(0, 4, 1, 2, 3)
        y = self.in_layers(x)
        if self._seen:
            y = y + self.emb_layers(step)[:, :, None, None, None]
        y = self.out_layers(y)
        x = self.skip_connection(x) if self._skips else x
        return (x + y).permute(0, 2, 3, 4, 1)


def _group_norm(channels: int) -> nn.Module:
    return nn.GroupNorm(32 if channels % 32 == 0 else channels, channels)


class _Attention(nn.Module):
    """Attention along one axis, with a bias by distance."""

    def __init__(self, width: int, heads: int, axis: int, length: int) -> None:
        super().__init__()
        self._axis, self._heads = axis, heads
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width)
        rows = torch.zeros(2 * length - 1, heads)
        self.relative_position_bias_table = nn.Parameter(rows)
        places = torch.arange(length)
        apart = places[:, None] - places[None] + length - 1
        self.register_buffer("relative_position_index", apart, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Takes and returns [batch, time, row, column, channel]."""
        moved = self.norm(x).transpose(self._axis, 3)
        *axes, length, width = moved.shape
        parts = self.qkv(moved).view(-1, length, 3, self._heads, width // self._heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        bias = self.relative_position_bias_table[self.relative_position_index]
        found = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=bias.permute(2, 0, 1)[None]
        )
        found = found.transpose(1, 2).reshape(*axes, length, width)
        return self.proj(found).transpose(self._axis, 3)


class _Perceptron(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(width)
        self.ffn_1 = nn.Linear(width, 4 * width)
        self.ffn_2 = nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.ffn_2(functional.gelu(self.ffn_1(self.layer_norm(x))))


class _Block(nn.Module):
    """Attention along time, rows and columns, a perceptron after each."""

    def __init__(self, width: int, heads: int, shape: Sequence[int]) -> None:
        super().__init__()
        self.ffn_l = nn.ModuleList(_Perceptron(width) for _ in shape)
        self.attn_l = nn.ModuleList(
            _Attention(width, heads, axis, length)
            for axis, length in enumerate(shape, start=1)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for attention, perceptron in zip(self.attn_l, self.ffn_l):
            x = perceptron(x + attention(x))
        return x


class _Merge(nn.Module):
    """Joins 2 x 2 points."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * inputs)
        self.reduction = nn.Linear(4 * inputs, outputs, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, time, rows, columns, width = x.shape
        x = x.view(batch, time, rows // 2, 2, columns // 2, 2, width)
        return self.reduction(self.norm(x.transpose(3, 4).flatten(4)))


class _Upsample(nn.Module):
    """Repeats points, and convolves each frame."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, time = x.shape[:2]
        y = x.flatten(0, 1).permute(0, 3, 1, 2)
        y = self.conv(functional.interpolate(y, scale_factor=2, mode="nearest"))
        return y.permute(0, 2, 3, 1).unflatten(0, (batch, time))


class _Positions(nn.Module):
    def __init__(self, shape: Sequence[int], width: int) -> None:
        super().__init__()
        for letter, length in zip("THW", shape):
            setattr(self, f"{letter}_embed", nn.Embedding(length, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows, columns = self.H_embed.weight[:, None], self.W_embed.weight
        return x + self.T_embed.weight[:, None, None] + rows + columns


class _StepEmbed(nn.Module):
    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.layer = nn.Sequential(
            nn.Linear(width, outputs), nn.SiLU(), nn.Linear(outputs, outputs)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


class Unet(nn.Module):
    """Context and noisy frames in, what was added to the latter out."""

    def __init__(
        self,
        *,
        shape: tuple[int, int, int, int],
        past: int,
        units: Sequence[int],
        depth: Sequence[int],
        heads: int,
        step_width: int,
    ) -> None:
        super().__init__()
        frames, rows, columns, channels = shape
        self._past, self._width = past, units[0]
        sizes = [
            (frames, rows // 2**level, columns // 2**level)
            for level in range(len(depth))
        ]
        self.first_proj = _Residual(channels + 1, units[0], None)
        self.pos_embed = _Positions(sizes[0], units[0])
        self.time_embed = _StepEmbed(units[0], step_width)
        pairs = list(itertools.pairwise(units))
        self.downsample_layers = nn.ModuleList(_Merge(a, b) for a, b in pairs)
        self.upsample_layers = nn.ModuleList(_Upsample(b, a) for a, b in pairs)
        for way in ("down", "up"):
            blocks = nn.ModuleList(
                nn.ModuleList(_Block(width, heads, size) for _ in range(count))
                for width, size, count in zip(units, sizes, depth)
            )
            setattr(self, f"{way}_self_blocks", blocks)
            steps = nn.ModuleList(_Residual(w, w, step_width) for w in units)
            setattr(self, f"{way}_time_embed_blocks", steps)
        self.final_proj = nn.Linear(units[0], channels)

    def forward(
        self, noisy: torch.Tensor, t: torch.Tensor, context: torch.Tensor
    ) -> torch.Tensor:
        """Takes and returns [batch, time, row, column, channel]."""
        x = torch.cat([context, noisy], dim=1)
        mark = torch.zeros_like(x[..., :1])
        mark[:, : self._past] = 1
        x = self.pos_embed(self.first_proj(torch.cat([x, mark], dim=-1), None))
        step = self.time_embed(self._waves(t))
        passed = []
        for level, blocks in enumerate(self.down_self_blocks):
            if level:
                passed.append(x)
                x = self.downsample_layers[level - 1](x)
            for block in blocks:
                x = block(self.down_time_embed_blocks[level](x, step))
        for level in reversed(range(len(self.up_self_blocks))):
            if level < len(self.up_self_blocks) - 1:
                x = self.upsample_layers[level](x) + passed[level]
            for block in self.up_self_blocks[level]:
                x = block(self.up_time_embed_blocks[level](x, step))
        return self.final_proj(x[:, self._past :])

    def _waves(self, t: torch.Tensor) -> torch.Tensor:
        half = self._width // 2
        rates = torch.exp(torch.arange(half) * (-math.log(1e4) / half))
        angles = t[:, None].float() * rates[None]
        return torch.cat([angles.cos(), angles.sin()], dim=1)
