"""The U-Nets of latent forecasts with the layers of PyTorch, for `latent.py`.

Modules are named as ours are, so that weights go from one to the other by their names.
Nothing here imports weatherlib: the interpreter that has PyTorch need not have it.
"""

import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional

__all__ = ["LatentUNet", "TimeUNet", "state_dict"]

_GROUPS = 8
# Parts of our paths that hold nothing of their own.
_AROUND = ("latent_unet", "latent_denoiser", "network", "unet")
_SUFFIXES = {"w": "weight", "b": "bias", "scale": "weight", "offset": "bias"}


class _ConvBlock(nn.Module):
    """Two convolutions, each normalised in groups; what else is known in between."""

    def __init__(self, channels: int, width: int, embedded: int) -> None:
        super().__init__()
        self.conv_0 = nn.Conv2d(channels, width, 3, padding=1)
        self.norm_0 = nn.GroupNorm(_GROUPS, width)
        self.conv_1 = nn.Conv2d(width, width, 3, padding=1)
        self.norm_1 = nn.GroupNorm(_GROUPS, width)
        if embedded:
            self.embedding = nn.Linear(embedded, width)

    def forward(self, x: torch.Tensor, known: torch.Tensor | None) -> torch.Tensor:
        x = functional.silu(self.norm_0(self.conv_0(x)))
        if known is not None:
            x = x + self.embedding(functional.silu(known))[:, :, None, None]
        return functional.silu(self.norm_1(self.conv_1(x)))


class LatentUNet(nn.Module):
    """Latent fields as channels, at several resolutions."""

    def __init__(
        self, inputs: int, outputs: int, base: int, depth: int, embedded: int = 0
    ) -> None:
        super().__init__()
        self._depth = depth
        self.input = nn.Conv2d(inputs, base, 3, padding=1)
        width = base
        for level in range(depth):
            wanted = base * 2**level
            self.add_module(f"down_{level}", _ConvBlock(width, wanted, embedded))
            width = wanted
        self.bottleneck = _ConvBlock(width, base * 2**depth, embedded)
        for number, level in enumerate(reversed(range(depth))):
            wanted = base * 2**level
            finer = nn.ConvTranspose2d(2 * wanted, wanted, 2, stride=2)
            self.add_module(f"up_{number}_finer", finer)
            self.add_module(f"up_{number}", _ConvBlock(2 * wanted, wanted, embedded))
        self.output = nn.Conv2d(base, outputs, 1)

    def forward(
        self, x: torch.Tensor, known: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Returns the fields that follow; `2**depth` divides their sides."""
        x, kept = self.input(x), []
        for level in range(self._depth):
            x = getattr(self, f"down_{level}")(x, known)
            kept.append(x)
            x = functional.max_pool2d(x, 2)
        x = self.bottleneck(x, known)
        for number in range(self._depth):
            x = torch.cat([getattr(self, f"up_{number}_finer")(x), kept.pop()], dim=1)
            x = getattr(self, f"up_{number}")(x, known)
        return self.output(x)


class TimeUNet(LatentUNet):
    """The same, told the step of noise."""

    def __init__(self, inputs: int, outputs: int, base: int, depth: int) -> None:
        super().__init__(inputs, outputs, base, depth, embedded=4 * base)
        self._width = base
        self.time_0 = nn.Linear(base, 4 * base)
        self.time_1 = nn.Linear(4 * base, 4 * base)

    def forward(  # type: ignore[override]
        self, noisy: torch.Tensor, past: torch.Tensor, steps: torch.Tensor
    ) -> torch.Tensor:
        """Returns the noise that it sees."""
        known = self.time_1(functional.silu(self.time_0(self._sines(steps))))
        return super().forward(torch.cat([noisy, past], dim=1), known)

    def _sines(self, steps: torch.Tensor) -> torch.Tensor:
        half = self._width // 2
        exponents = torch.arange(half, dtype=torch.float32) / half
        angles = steps.float()[:, None] * torch.exp(-math.log(10000) * exponents)
        return torch.cat([angles.sin(), angles.cos()], dim=1)


def state_dict(weights: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """Returns weights that carry our names, as PyTorch names and orders them."""
    found = {}
    for path, value in weights.items():
        *modules, name = path.split("/")
        held = [module for module in modules if module not in _AROUND]
        if value.ndim == 4:
            first = (2, 3) if held[-1].endswith("_finer") else (3, 2)
            value = value.transpose(*first, 0, 1)
        elif value.ndim == 2:
            value = value.T
        key = ".".join([*held, _SUFFIXES[name]])
        found[key] = torch.from_numpy(np.ascontiguousarray(value))
    return found
