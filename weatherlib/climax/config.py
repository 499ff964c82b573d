"""What ClimaX checkpoints hold. Nothing here imports JAX or xarray."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from weatherlib import config, task

__all__ = [
    "CLIMAX",
    "DEFAULT_VARIABLES",
    "PARAMETER_AXES",
    "PUBLISHED_CONFIGS",
    "CheckPoint",
    "ClimaXConfig",
]

CLIMAX = "climax"

_LEVELS = (50, 250, 500, 600, 700, 850, 925)
_FIELDS = (
    "geopotential",
    "u_component_of_wind",
    "v_component_of_wind",
    "temperature",
    "relative_humidity",
    "specific_humidity",
)

DEFAULT_VARIABLES = (
    "land_sea_mask",
    "orography",
    "lattitude",
    "2m_temperature",
    "10m_u_component_of_wind",
    "10m_v_component_of_wind",
    *(f"{field}_{level}" for field in _FIELDS for level in _LEVELS),
)
"""The 48 variables of the published weights in their order, levels in hPa. `lattitude`
is spelled as there."""

PARAMETER_AXES = (
    (r"head/w$", ("input", "output")),
    (r"token_embed/w$", ("variable", "pixel", "output")),
    (r"/w$", ("input", "output")),
    (r"/(b|scale|offset)$", ("output",)),
)
"""Names of the axes of the parameters, by an expression on their paths."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClimaXConfig(config.Mapping):
    """The architecture; the first ten fields carry the published names.

    Attributes:
      default_vars: Every variable the weights know, in the order of their embeddings.
        A level is part of the name, such as `geopotential_500`.
      img_size: Rows and columns of the grid that the position embedding belongs to.
      patch_size: Grid points along a side of a patch.
      embed_dim: Channels of a token.
      depth: Transformer blocks.
      decoder_depth: Hidden layers of the prediction head.
      num_heads: Attention heads, of the aggregation of variables too.
      mlp_ratio: Hidden channels of a block's perceptron per channel of a token.
      drop_path: Share of residual branches that training leaves out in the last block;
        it grows linearly from 0 in the first.
      drop_rate: Dropout in training.
      parallel_patch_embed: How published checkpoints lay out the patch embeddings: one
        array for all variables, or one for each. The network is the same.
      head: "grid" predicts variables at every grid point from the tokens there.
        "projection" averages tokens over the globe, attends over time, and predicts
        whole fields by one linear layer.
      time_history: Input frames. More than one needs the projection head, or adds to
        the other a neck which attends over time at each place, and which changes
        nothing before it is trained.
      out_variables: What the projection head predicts. Empty with the grid head, which
        knows all `default_vars`.
      region: Name of a published region for regional forecasts. None, without a box,
        works on the whole grid.
      region_box: Any other region: south, north, west and east edges in degrees.
      mirrored_region: Whether a region is found as in the published code, which
        mistakes the northernmost row for the first: with rows from south to north the
        patches then lie mirrored at the equator. For published regional weights only.
      latitude: Order of rows that the weights belong to. Data in the other order are
        turned round, and so are the predictions.
      predicts: "state", as published: predictions are normalised as the inputs are.
        "change": they are normalised differences from the last input frame, which is
        easier to learn for short lead times.
      growth_hours: With "change", how the unit of changes grows with the lead time.
        Over t hours it is t (6 + g) / (6 (t + g)) times that of the statistics, nearly
        linear at first and level long after g. Errors count in the same unit, so that
        a loss over many lead times is not all of the longest. About 150 suits weather.
        None has one unit for all.
      lead_hours: Shortest and longest lead time of the training. Others draw a warning.

    Raises:
      ValueError: A size is out of range or does not fit another.
    """

    default_vars: tuple[str, ...] = DEFAULT_VARIABLES
    img_size: tuple[int, int] = (32, 64)
    patch_size: int = 2
    embed_dim: int = 1024
    depth: int = 8
    decoder_depth: int = 2
    num_heads: int = 16
    mlp_ratio: float = 4.0
    drop_path: float = 0.1
    drop_rate: float = 0.1
    parallel_patch_embed: bool = False
    head: Literal["grid", "projection"] = "grid"
    time_history: int = 1
    out_variables: tuple[str, ...] = ()
    region: str | None = None
    region_box: tuple[float, float, float, float] | None = None
    mirrored_region: bool = False
    latitude: Literal["ascending", "descending"] = "ascending"
    predicts: Literal["state", "change"] = "state"
    growth_hours: float | None = None
    lead_hours: tuple[float, float] = (6.0, 162.0)

    def __post_init__(self) -> None:
        for name in ("patch_size", "embed_dim", "depth", "num_heads", "time_history"):
            if self[name] < 1:
                raise ValueError(f"{name} must be at least 1, found {self[name]!r}")
        if self.decoder_depth < 0:
            raise ValueError(
                f"decoder_depth must not be negative, found {self.decoder_depth!r}"
            )
        if not self.mlp_ratio > 0:
            raise ValueError(f"mlp_ratio must be positive, found {self.mlp_ratio!r}")
        for name in ("drop_path", "drop_rate"):
            if not 0 <= self[name] < 1:
                raise ValueError(f"{name} must be in [0, 1), found {self[name]!r}")
        _check_grid(self)
        _check_width(self)
        _check_variables(self)
        _check_region(self)
        if self.growth_hours is not None and (
            self.predicts != "change"
            or self.head != "grid"
            or not self.growth_hours > 0
        ):
            raise ValueError(
                "growth_hours must be positive, and goes with predicts: change and "
                f"the grid head; found {self.growth_hours!r} with {self.predicts} and "
                f"head {self.head}"
            )
        low, high = self.lead_hours
        if not 0 <= low <= high:
            raise ValueError(
                "lead_hours must be the shortest and the longest lead time, found "
                f"{self.lead_hours!r}"
            )

    @property
    def resolution(self) -> float:
        """0: the grid is told by `img_size`, whatever its spacing."""
        return 0.0

    @property
    def is_regional(self) -> bool:
        """Whether only a part of the grid is predicted."""
        return self.region is not None or self.region_box is not None

    @property
    def rows(self) -> int:
        """Rows of patches."""
        return self.img_size[0] // self.patch_size

    @property
    def columns(self) -> int:
        """Columns of patches."""
        return self.img_size[1] // self.patch_size

    @property
    def patches(self) -> int:
        """Patches of the grid, the length of the position embedding."""
        return self.rows * self.columns


def _check_grid(sizes: ClimaXConfig) -> None:
    rows, columns = sizes.img_size
    size = sizes.patch_size
    if rows < 1 or columns < 1 or rows % size or columns % size:
        raise ValueError(
            f"patch_size {size} does not divide the {rows}x{columns} grid of img_size; "
            f"{_nearest(rows, size)}x{_nearest(columns, size)} would work"
        )


def _nearest(length: int, size: int) -> int:
    return max(length // size, 1) * size


def _check_width(sizes: ClimaXConfig) -> None:
    if sizes.embed_dim % sizes.num_heads:
        raise ValueError(
            f"embed_dim {sizes.embed_dim} must be a multiple of num_heads "
            f"{sizes.num_heads}"
        )
    if sizes.embed_dim % 4:
        raise ValueError(
            "embed_dim must be a multiple of 4 for the position embedding, found "
            f"{sizes.embed_dim}"
        )


def _check_region(sizes: ClimaXConfig) -> None:
    if not sizes.is_regional:
        return
    if sizes.region is not None and sizes.region_box is not None:
        raise ValueError("give one of region and region_box, not both")
    if sizes.head != "grid" or sizes.time_history > 1:
        raise ValueError(
            "a region goes with the grid head and one input frame, found head "
            f"{sizes.head} and time_history {sizes.time_history}"
        )


def _check_variables(sizes: ClimaXConfig) -> None:
    for name in ("default_vars", "out_variables"):
        names = sizes[name]
        repeated = sorted({v for v in names if names.count(v) > 1})
        if repeated:
            raise ValueError(f"{name} repeats {', '.join(repeated)}")
    if not sizes.default_vars:
        raise ValueError("default_vars is empty; the model needs at least one variable")
    if (sizes.head == "projection") != bool(sizes.out_variables):
        raise ValueError(
            f"out_variables {sizes.out_variables!r} do not go with head {sizes.head}: "
            "the projection head needs at least one, the grid head none"
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckPoint(config.Mapping):
    """A trained ClimaX as `weatherlib.checkpoint` reads and writes it.

    Attributes:
      architecture: "climax".
      params: Haiku module path to parameter name to array.
      model_config: Its sizes.
      task_config: What the model reads and predicts.
      description: Free text.
      license: Terms under which the weights may be used.
    """

    architecture: str
    params: dict[str, Any]
    model_config: ClimaXConfig
    task_config: task.TaskConfig
    description: str
    license: str


PUBLISHED_CONFIGS = {
    "5.625deg": ClimaXConfig(),
    "1.40625deg": ClimaXConfig(img_size=(128, 256), patch_size=4),
}
"""Sizes of the two published models: 108,088,512 and 110,841,600 parameters."""
