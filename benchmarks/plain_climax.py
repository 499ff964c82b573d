"""ClimaX in plain PyTorch, for comparison only.

Imported where torch is installed, by `benchmarks/climax.py`. Nothing of it is folded
or shortened: each variable has its own convolution, all tokens exist, and every
variable is predicted. Names of parameters are the published ones.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional

__all__ = ["make"]


def make(sizes: dict[str, Any]) -> nn.Module:
    """Returns the network of sizes as `climax._job` names them."""
    return _ClimaX(sizes).eval()


class _Patch(nn.Module):
    """Tokens of one variable."""

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(1, width, kernel_size=size, stride=size)

    def forward(self, field: torch.Tensor) -> torch.Tensor:
        return self.proj(field).flatten(2).transpose(1, 2)


class _Attention(nn.Module):
    """Attention of all places to each other."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self._heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, tokens, width = x.shape
        parts = self.qkv(x).view(batch, tokens, 3, self._heads, -1)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        found = functional.scaled_dot_product_attention(query, key, value)
        return self.proj(found.transpose(1, 2).reshape(batch, tokens, width))


class _Perceptron(nn.Module):
    """Two layers with GELU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(functional.gelu(self.fc1(x)))


class _Block(nn.Module):
    """A transformer block that normalises first."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = _Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = _Perceptron(width, hidden)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class _ClimaX(nn.Module):
    """The whole network."""

    def __init__(self, sizes: dict[str, Any]) -> None:
        super().__init__()
        self._grid, self._size = sizes["grid"], sizes["patch"]
        width, count, size = sizes["width"], sizes["variables"], sizes["patch"]
        places = (sizes["grid"][0] // size) * (sizes["grid"][1] // size)
        self.token_embeds = nn.ModuleList(_Patch(size, width) for _ in range(count))
        self.var_embed = nn.Parameter(torch.zeros(1, count, width))
        self.var_query = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, places, width))
        self.var_agg = nn.MultiheadAttention(width, sizes["heads"], batch_first=True)
        self.lead_time_embed = nn.Linear(1, width)
        self.blocks = nn.ModuleList(
            _Block(width, sizes["heads"], sizes["hidden"])
            for _ in range(sizes["depth"])
        )
        self.norm = nn.LayerNorm(width)
        layers: list[nn.Module] = []
        for _ in range(sizes["layers"]):
            layers += [nn.Linear(width, width), nn.GELU()]
        self.head = nn.Sequential(*layers, nn.Linear(width, count * size**2))

    def forward(self, fields: torch.Tensor, hours: torch.Tensor) -> torch.Tensor:
        """Returns all variables, shape [batch, variable, lat, lon]."""
        batch, count = fields.shape[:2]
        tokens = [
            embed(fields[:, i : i + 1]) for i, embed in enumerate(self.token_embeds)
        ]
        x = torch.stack(tokens, 2) + self.var_embed[:, None]
        places, width = x.shape[1], x.shape[-1]
        x = x.reshape(batch * places, count, width)
        query = self.var_query.expand(batch * places, -1, -1)
        x = self.var_agg(query, x, x, need_weights=False)[0]
        x = x.reshape(batch, places, width) + self.pos_embed
        x = x + self.lead_time_embed(hours[:, None] / 100)[:, None]
        for block in self.blocks:
            x = block(x)
        found = self.head(self.norm(x))
        size = self._size
        rows, columns = (length // size for length in self._grid)
        found = found.view(batch, rows, columns, size, size, count)
        return found.permute(0, 5, 1, 3, 2, 4).reshape(batch, count, *self._grid)
