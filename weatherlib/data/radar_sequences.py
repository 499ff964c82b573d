"""Samples for nowcasting: some frames that are known, and some that follow.

`sevir.open_sevir` and `radar_series.series_sequences` return `Sequences`, which read a
sample when it is asked for. Any of them is a source of `weatherlib.training`, whose
`Feed` shuffles and continues to the sample:

    batches = training.Feed(sequences.arrays, sequences.numbers, batch_size=4, seed=0)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, Protocol

import numpy as np
import xarray

from weatherlib import config
from weatherlib.data import radar_grid
from weatherlib.data.radar import NAME

__all__ = [
    "SCALE",
    "VARIANTS",
    "Augment",
    "RadarBatch",
    "SequenceConfig",
    "Sequences",
    "Source",
    "from_unit",
    "to_unit",
]

SCALE = np.float32(1 / 255)
"""Multiplies pixels in `Sequences.arrays`, as in the published loaders."""

Augment = Literal["none", "flips", "flips_rotations", "flips_angles"]

_ANGLES = 24

VARIANTS: dict[str, int] = {
    "none": 1,
    "flips": 4,
    "flips_rotations": 8,
    "flips_angles": 4 * _ANGLES,
}
"""In how many ways each sample is seen. Flips come after rotations in their numbers."""

_GOLDEN = 0.6180339887498949
_PUBLISHED = {"0": "none", "1": "flips_angles", "2": "flips_rotations"}

_Triple = tuple[xarray.Dataset, xarray.Dataset, xarray.Dataset]


class RadarBatch(NamedTuple):
    """Frames of several samples.

    Attributes:
      frames: Pixels divided by 255, what is missing filled. float32 of shape
        [batch, time, lat, lon, 1].
      valid: Whether a pixel was measured. bool of that shape.
    """

    frames: np.ndarray
    valid: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class SequenceConfig(config.Mapping):
    """How samples are cut. The defaults are those of the published PreDiff.

    Attributes:
      inputs: Frames that are known; 0 where there is nothing to forecast from, as for
        an autoencoder.
      targets: Frames that follow.
      stride: Frames from the beginning of one sample to that of the next.
      every: Only every n-th frame is used, so that 2 makes 10 minutes of 5.
      augment: "flips_rotations" turns and mirrors samples in all 8 ways, "flips"
        mirrors them in 4, "flips_angles" mirrors them and turns them by 24 angles all
        around, which are others for each sample; what comes from beyond the picture is
        then missing. "none" leaves them. The published modes "2", "1" and "0" are
        understood as the first, the third and the last.
      max_missing: Largest share of pixels of a frame that may be missing.
      fill: Pixel that stands where a value is missing.
    """

    inputs: int = 7
    targets: int = 6
    stride: int = 6
    every: int = 1
    augment: str = "none"
    max_missing: float = 0.0
    fill: float = 0.0

    def __post_init__(self) -> None:
        if self.inputs < 0:
            raise ValueError(f"inputs must not be negative, found {self.inputs}")
        for name in ("targets", "stride", "every"):
            if self[name] < 1:
                raise ValueError(f"{name} must be at least 1, found {self[name]}")
        if not 0 <= self.max_missing <= 1:
            raise ValueError(
                f"max_missing is a share from 0 to 1, found {self.max_missing:g}"
            )
        augment = _PUBLISHED.get(self.augment, self.augment)
        if augment not in VARIANTS:
            raise ValueError(
                f"augment: there is no {self.augment!r}; there are "
                f"{', '.join(VARIANTS)} (the published modes 0, 1 and 2 are none, "
                "flips_angles and flips_rotations)"
            )
        object.__setattr__(self, "augment", augment)

    @property
    def frames(self) -> int:
        """Frames of a sample."""
        return self.inputs + self.targets

    @property
    def reach(self) -> int:
        """Frames of the source from the first of a sample to its last, both counted."""
        return (self.frames - 1) * self.every + 1


class Source(Protocol):
    """Where samples are read from.

    Attributes:
      shape: Rows and columns of a frame.
      step: Time between frames of a sample.
      cell_km: Side of a cell, km.
    """

    shape: tuple[int, int]
    step: np.timedelta64
    cell_km: float

    def __len__(self) -> int:
        """Returns how many samples there are."""
        ...

    def read(self, number: int) -> np.ndarray:
        """Returns the pixels of a sample, NaN where missing, [time, lat, lon]."""
        ...

    def times(self, number: int) -> np.ndarray:
        """Returns the dates of its frames, datetime64[ns] of shape [time]."""
        ...

    def label(self, number: int) -> str:
        """Returns where it comes from, for messages."""
        ...


class Sequences:
    """Samples of one source, read when they are asked for.

    Attributes:
      config: How they are cut.
      source: Where they are read from.
      numbers: One for each sample and, where samples are turned and mirrored, each way
        of doing so: what is drawn at a position of a `Feed` follows from its seed, so
        that a continued run draws the same. int64 of shape [number].
    """

    def __init__(self, source: Source, config: SequenceConfig) -> None:
        """Takes a source; nothing is read.

        Raises:
          ValueError: There are no samples, or frames that are not square would be
            turned.
        """
        if not len(source):
            raise ValueError("there are no samples to cut")
        rows, columns = source.shape
        if config.augment == "flips_rotations" and rows != columns:
            raise ValueError(
                f"augment flips_rotations needs square frames, found {rows} x "
                f"{columns}; use flips, or cut squares"
            )
        self.config, self.source = config, source
        self.numbers = np.arange(len(source) * VARIANTS[config.augment])

    def __len__(self) -> int:
        """Returns how many samples there are, each counted once."""
        return len(self.source)

    @property
    def step(self) -> np.timedelta64:
        """Time between frames."""
        return self.source.step

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of a frame."""
        return self.source.shape

    @property
    def cell_km(self) -> float:
        """Side of a cell, km."""
        return self.source.cell_km

    def pixels(self, number: int) -> np.ndarray:
        """Returns one sample on the scale of SEVIR, NaN where missing.

        Returns:
          float32 of shape [time, lat, lon].

        Raises:
          OSError: Its file cannot be read.
          ValueError: A frame has more missing pixels than `max_missing`, or no other.
        """
        variant, index = divmod(int(number), len(self.source))
        values = np.asarray(self.source.read(index), np.float32)
        self._require_measured(values, index)
        if self.config.augment == "flips_angles":
            mirrored, part = divmod(variant, _ANGLES)
            # Steps of the golden ratio spread the angles of samples evenly.
            turns = (part + index * _GOLDEN % 1) / _ANGLES
            return _turned(_rotated(values, 360 * turns), mirrored, "flips")
        return _turned(values, variant, self.config.augment)

    def arrays(self, numbers: Sequence[int] | np.ndarray) -> RadarBatch:
        """Returns samples as arrays from 0 to 1: what latent diffusion is trained on.

        Raises:
          OSError: As for `pixels`.
          ValueError: As for `pixels`.
        """
        pixels = np.stack([self.pixels(n) for n in np.atleast_1d(numbers)])[..., None]
        valid = np.isfinite(pixels)
        filled = np.where(valid, pixels, np.float32(self.config.fill))
        return RadarBatch(to_unit(filled), valid)

    def datasets(
        self,
        numbers: Sequence[int] | np.ndarray,
        targets: int | None = None,
        *,
        keep_missing_targets: bool = False,
    ) -> _Triple:
        """Returns samples as a predictor of datasets takes them, in pixels.

        Args:
          numbers: Of the samples, shape [batch].
          targets: Frames of the targets; all there are by default.
          keep_missing_targets: Whether targets stay NaN where pixels are missing, for
            losses and scores that leave them out.

        Returns:
          Inputs, targets and forcings (none), `vil` of (batch, time, lat, lon), what is
          missing filled. `time` is the lead time; `lat` and `lon` are those of
          `radar_grid.plane_degrees`.

        Raises:
          OSError: As for `pixels`.
          ValueError: As for `pixels`, or a sample has fewer targets.
        """
        count = self.config.targets if targets is None else targets
        if not 0 < count <= self.config.targets:
            raise ValueError(
                f"samples have {self.config.targets} target frames, {count} were asked "
                "for; cut longer ones"
            )
        pixels = np.stack([self.pixels(n) for n in np.atleast_1d(numbers)])
        first = self.config.inputs
        filled = slice(0, first) if keep_missing_targets else slice(None)
        pixels[:, filled] = np.nan_to_num(pixels[:, filled], nan=self.config.fill)
        lead = (np.arange(first + count) - first + 1) * self.step
        lat, lon = radar_grid.plane_degrees(self.shape, self.cell_km)
        parts = []
        for part in (slice(0, first), slice(first, first + count)):
            values = (("batch", "time", "lat", "lon"), pixels[:, part])
            coords = {"time": lead[part], "lat": lat, "lon": lon}
            parts.append(xarray.Dataset({NAME: values}, coords))
        forcings = parts[1].drop_vars(NAME)
        return parts[0], parts[1], forcings

    def loader(self, targets: int | None = None) -> Callable[[np.ndarray], _Triple]:
        """Returns the function that reads `datasets`, as `training.Frames` has it."""
        return lambda numbers: self.datasets(numbers, targets)

    def dataset(self, number: int) -> xarray.Dataset:
        """Returns one sample as pictures with their dates, as `open_radar` does.

        Raises:
          OSError: As for `pixels`.
          ValueError: As for `pixels`.
        """
        variant, index = divmod(int(number), len(self.source))
        times = self.source.times(index)
        attrs = {"units": "1", "long_name": "vertically integrated liquid, SEVIR scale"}
        field = (("time", "lat", "lon"), self.pixels(number), attrs)
        kept = {"cell_km": self.cell_km, "sample": self.source.label(index)}
        if variant:
            kept["variant"] = variant
        return xarray.Dataset({NAME: field}, {"time": times}, kept)

    def _require_measured(self, values: np.ndarray, index: int) -> None:
        missing = np.isnan(values).mean(axis=(1, 2))
        bad = np.flatnonzero((missing > self.config.max_missing) | (missing == 1))
        if not bad.size:
            return
        frame = int(bad[0])
        share = missing[frame]
        what = "every pixel is" if share == 1 else f"{share:.1%} of the pixels are"
        hint = "leave the frame out"
        if share < 1:
            hint = f"set max_missing above {self.config.max_missing:g}, or {hint}"
        when = str(self.source.times(index)[frame])[:16]
        raise ValueError(
            f"{self.source.label(index)}: {what} missing at {when} (frame {frame}); "
            f"{hint}"
        )


def to_unit(pixels: np.ndarray) -> np.ndarray:
    """Returns pixels from 0 to 255 as float32 from 0 to 1, as the loaders do."""
    return np.asarray(pixels, np.float32) * SCALE


def from_unit(frames: np.ndarray) -> np.ndarray:
    """Returns what `to_unit` made as pixels again, float32, as the scores do.

    It divides by the scale rounded to float32, and pixels up to 254 come back as
    themselves. Those of frames made by dividing by 255 do not: 219 misses its
    threshold.
    """
    return np.asarray(frames, np.float32) / SCALE


def _turned(values: np.ndarray, variant: int, augment: str) -> np.ndarray:
    """Returns frames turned by quarters and mirrored, [time, lat, lon]."""
    if augment == "flips":
        rows, columns = divmod(variant, 2)
        turned = values[:, :: -1 if rows else 1, :: -1 if columns else 1]
    else:
        mirrored, quarters = divmod(variant, 4)
        turned = np.rot90(values, quarters, axes=(1, 2))
        turned = turned[:, :, ::-1] if mirrored else turned
    return np.ascontiguousarray(turned)


def _rotated(values: np.ndarray, degrees: float) -> np.ndarray:
    """Returns frames turned about their middle, [time, lat, lon].

    Each pixel is the nearest one of the frame, NaN where there is none.
    """
    sizes = values.shape[1:]
    rows, columns = (np.arange(size) - (size - 1) / 2 for size in sizes)
    sine, cosine = np.sin(np.deg2rad(degrees)), np.cos(np.deg2rad(degrees))
    rows, columns = rows[:, np.newaxis], columns[np.newaxis]
    row = np.rint(cosine * rows + sine * columns + (sizes[0] - 1) / 2).astype(int)
    column = np.rint(cosine * columns - sine * rows + (sizes[1] - 1) / 2).astype(int)
    inside = (row >= 0) & (row < sizes[0]) & (column >= 0) & (column < sizes[1])
    found = np.full_like(values, np.nan)
    found[:, inside] = values[:, row[inside], column[inside]]
    return found
