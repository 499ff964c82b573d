"""Sizes of diffusion transformers on latent fields. Nothing here imports JAX."""

from __future__ import annotations

import dataclasses

from weatherlib import config

__all__ = ["DIT_SIZES", "DiTConfig"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiTConfig(config.Mapping):
    """A transformer that is told the step of noise, and its wide head where it has one.

    Attributes:
      hidden_size: Channels of a token.
      depth: Transformer blocks.
      num_heads: Attention heads.
      mlp_ratio: Channels inside of perceptrons, as a multiple of those of a token.
      patch_size: Latent points along a side of what becomes a token. 1 suits the tokens
        of vision encoders; larger fields of few channels, such as those of Stable
        Diffusion, are cheaper with 2. What a patch reaches over the end is filled up.
      head_hidden_size: Channels of a token in the head of "dh_dit". It should have at
        least as many as a latent field.
      head_depth: Its blocks.
      head_num_heads: Its attention heads.

    Raises:
      ValueError: A size is out of range or does not fit another.
    """

    hidden_size: int = 384
    depth: int = 12
    num_heads: int = 6
    mlp_ratio: float = 4.0
    patch_size: int = 1
    head_hidden_size: int = 2048
    head_depth: int = 2
    head_num_heads: int = 16

    def __post_init__(self) -> None:
        for name, value in self.items():
            if not value > 0:
                raise ValueError(f"{name} must be positive, found {value!r}")
        for prefix in ("", "head_"):
            width, heads = self[f"{prefix}hidden_size"], self[f"{prefix}num_heads"]
            if width % heads or width % 4:
                raise ValueError(
                    f"{prefix}hidden_size {width} must be a multiple of 4 and of "
                    f"{prefix}num_heads {heads}"
                )


DIT_SIZES = {
    "S": DiTConfig(),
    "B": DiTConfig(hidden_size=768, num_heads=12),
    "L": DiTConfig(hidden_size=1024, depth=24, num_heads=16),
    "XL": DiTConfig(hidden_size=1152, depth=28, num_heads=16),
}
"""Published sizes of diffusion transformers; the head is that of DiT-DH in each.

Source: Peebles and Xie (2023), arXiv 2212.09748, table 1; Zheng et al. (2025), arXiv
2510.11690.
"""
