"""Settings of radar pictures as the data of a run. Nothing here imports JAX or xarray.

The names are those of `SequenceConfig` and `open_radar` in `weatherlib.data`, which
check the values when the data are opened.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

from weatherlib import config

__all__ = ["RadarConfig"]

_SERIES_ONLY = (
    *("variable", "quantity", "missing", "period", "cell_km", "crop", "tile"),
    "tile_stride",
)
_SEVIR_ONLY = (
    *("date", "after", "until"),
    *("validation_share", "key", "max_pct_missing"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RadarConfig(config.Mapping):
    """How samples are cut out of radar pictures.

    Attributes:
      kind: "series" is a radar series of any quantity, as `data.open_radar` reads it;
        "sevir" a folder of SEVIR or SEVIR-LR with its catalogue.
      inputs: Frames that are known. Those that follow are counted by the model. 0 is
        for autoencoders, whose samples then are single frames.
      stride: Frames from the beginning of one sample to that of the next.
      every: Only every n-th frame is used, so that 2 makes 10 minutes of 5.
      augment: "flips_rotations" turns and mirrors what is trained on in all 8 ways,
        "flips" mirrors it in 4, "flips_angles" mirrors it and turns it by angles all
        around, in 96 ways, "none" leaves it; a pass over the data has every sample in
        each way. Validation and test are never changed.
      max_missing: Largest share of pixels of a frame that may be missing.
      fill: Pixel that networks see where a value is missing.
      scale: "unit" divides pixels by 255, as published; "statistics" takes mean and
        standard deviation of the training samples.
      variable: Of a series, its field; None finds it.
      quantity: What the field holds; None finds it.
      missing: Stored value that means no measurement.
      period: Over which a rain sum is, such as "5min".
      cell_km: Side of a cell, km.
      crop: Rows and columns about the middle that are used, or one number for both.
      tile: Rows and columns of a sample, or one number for both; None is the picture.
      tile_stride: Cells from one tile to the next; None lays them side by side.
      date: Of SEVIR, last moment of training and validation; None is the published one.
      after: Of SEVIR, only events later than this; None for all.
      until: Of SEVIR, only events up to this; None for all.
      validation_share: Share of the earlier events that are validated on.
      key: Other keys choose others.
      max_pct_missing: Largest share of missing pixels of an event, per cent.
      missing_files: Whether events of SEVIR whose file is not there are an error, or
        left out.
    """

    kind: Literal["series", "sevir"] = "series"
    inputs: int = 7
    stride: int = 6
    every: int = 1
    augment: str = "none"
    max_missing: float = 0.0
    fill: float = 0.0
    scale: Literal["unit", "statistics"] = "unit"
    variable: str | None = None
    quantity: str | None = None
    missing: float | None = None
    period: str | None = None
    cell_km: float | None = None
    crop: int | tuple[int, int] | None = None
    tile: int | tuple[int, int] | None = None
    tile_stride: int | None = None
    date: str | None = None
    after: str | None = None
    until: str | None = None
    validation_share: float | None = None
    key: str | None = None
    max_pct_missing: float | None = None
    missing_files: Literal["raise", "skip"] = "raise"

    def __post_init__(self) -> None:
        if self.inputs < 0:
            raise ValueError(f"inputs must not be negative, found {self.inputs}")
        for name in ("stride", "every"):
            if self[name] < 1:
                raise ValueError(f"{name} must be at least 1, found {self[name]!r}")
        foreign = _SERIES_ONLY if self.kind == "sevir" else _SEVIR_ONLY
        given = [name for name in foreign if self[name] is not None]
        if given:
            own = "a series" if self.kind == "sevir" else "kind sevir"
            raise ValueError(
                f"{', '.join(given)}: for {own}, and kind is {self.kind}; leave it out"
            )
