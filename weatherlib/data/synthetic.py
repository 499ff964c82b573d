"""Made-up radar series: rain cells that move, grow and decay, without any file.

What a nowcast has to learn is there: motion, which extrapolation finds; growth and
decay, which it does not; and texture whose small scales live for minutes only, so that
no forecast can know them. It is not a model of the atmosphere.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import xarray

from weatherlib import config
from weatherlib.data import radar_units
from weatherlib.data.radar import NAME
from weatherlib.data_utils import times

__all__ = ["SyntheticRadarConfig", "synthetic_radar"]

_MARGIN = 1.5  # Side of the world, of that of the picture: what leaves comes back late.
_DRY_DBZ = 7.0
_SPREAD_DBZ = 9.0
_SLOPE = 2.7  # Of the power density of the texture with wavenumber, in two dimensions.
_LIFE_OF_A_KM = 6.4  # Minutes that texture of 1 km lives; larger scales live longer.
_LIFE_POWER = 0.8
_HARDEST = 58.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class SyntheticRadarConfig(config.Mapping):
    """A made-up series. The same seed gives the same first frames, however many.

    Attributes:
      frames: Number of frames.
      rows: Of a frame.
      columns: Of a frame.
      cell_km: Side of a cell, km.
      step: Time between frames.
      start: Date of the first frame.
      seed: Chooses the weather.
      wind: Rows and columns per hour that everything moves on average, in km/h: down
        and to the right. Default: 25 to 55 km/h in some direction, by the seed.
      cells: Rain cells on 10 000 km2 at a time.
      lifetime: Mean life of a rain cell, minutes.
      texture: Standard deviation of the texture, dB; 0 leaves the cells alone.
    """

    frames: int = 48
    rows: int = 128
    columns: int = 128
    cell_km: float = 2.0
    step: str = "5min"
    start: str = "2020-07-01T12:00"
    seed: int = 0
    wind: tuple[float, float] | None = None
    cells: float = 12.0
    lifetime: float = 60.0
    texture: float = _SPREAD_DBZ

    def __post_init__(self) -> None:
        for name in ("frames", "rows", "columns", "cell_km", "lifetime"):
            if not self[name] > 0:
                raise ValueError(f"{name} must be positive, found {self[name]!r}")
        for name in ("cells", "texture", "seed"):
            if self[name] < 0:
                raise ValueError(f"{name} must not be negative, found {self[name]!r}")
        if not times.as_timedelta(self.step) > pd.Timedelta(0):
            raise ValueError(f"step must be positive, found {self.step!r}")


def synthetic_radar(
    settings: SyntheticRadarConfig | None = None, **fields: object
) -> xarray.Dataset:
    """Returns a made-up series as `radar.open_radar` returns real ones.

    Args:
      settings: What to make.
      **fields: Of `SyntheticRadarConfig`, in place of those in `settings`.

    Returns:
      `vil` of (time, lat, lon), 0 to 254, float32 in memory. The attributes `wind_rows`
      and `wind_columns` hold the motion, km/h.

    Raises:
      ValueError: A field is unknown or out of range.
    """
    given = {**(settings or SyntheticRadarConfig()), **fields}
    settings = config.from_dict(SyntheticRadarConfig, given)
    wind = settings.wind or _drawn_wind(settings.seed)
    world = _World(settings)
    minutes = times.as_timedelta(settings.step).total_seconds() / 60
    pixels = np.empty((settings.frames, settings.rows, settings.columns), np.float32)
    texture = _Texture(world, settings, minutes)
    cells = _Cells(world, settings, minutes)
    for frame in range(settings.frames):
        moved = np.asarray(wind) / 60 * minutes * frame
        dbz = texture.at(frame, moved) * settings.texture + cells.at(frame, moved)
        dbz = np.minimum(dbz, _HARDEST)[: settings.rows, : settings.columns]
        dry = dbz < _DRY_DBZ
        pixels[frame] = np.where(dry, 0.0, radar_units.dbz_to_pixels(dbz, rounded=True))
    first = pd.Timestamp(settings.start).to_datetime64().astype("datetime64[ns]")
    step = times.as_timedelta(settings.step).to_timedelta64().astype("timedelta64[ns]")
    attrs = {
        "title": "Made-up radar series",
        "comment": "weatherlib.data.synthetic; not observed",
        "license": "CC0-1.0",
        "cell_km": settings.cell_km,
        "source_quantity": "reflectivity",
        "layer_depth_m": radar_units.LAYER_DEPTH,
        "wind_rows": float(wind[0]),
        "wind_columns": float(wind[1]),
    }
    title = {"units": "1", "long_name": "vertically integrated liquid, scale of SEVIR"}
    return xarray.Dataset(
        {NAME: (("time", "lat", "lon"), pixels, title)},
        {"time": first + np.arange(settings.frames) * step},
        attrs,
    )


class _World:
    """A plane without edges, larger than the picture.

    Attributes:
      shape: Rows and columns.
      sides: In km.
    """

    def __init__(self, settings: SyntheticRadarConfig) -> None:
        picture = (settings.rows, settings.columns)
        self.shape = tuple(int(np.ceil(n * _MARGIN / 2)) * 2 for n in picture)
        self.cell = settings.cell_km
        self.sides = np.array(self.shape) * self.cell

    def wavenumbers(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns cycles per km along rows and columns, shaped to broadcast."""
        down = np.fft.fftfreq(self.shape[0], self.cell)[:, np.newaxis]
        across = np.fft.rfftfreq(self.shape[1], self.cell)[np.newaxis]
        return down, across


class _Texture:
    """A random field with the spectrum of rain, whose small scales change fast."""

    def __init__(
        self, world: _World, settings: SyntheticRadarConfig, minutes: float
    ) -> None:
        down, across = world.wavenumbers()
        self._world, self._seed, self._frame = world, settings.seed, 0
        wave = np.hypot(down, across)
        largest = 1 / world.sides.max()
        wave = np.maximum(wave, largest)
        self._amplitude = wave ** (-_SLOPE / 2)
        self._amplitude[0, 0] = 0.0
        life = _LIFE_OF_A_KM * (1 / wave) ** _LIFE_POWER
        self._kept = np.exp(-minutes / life)
        self._state = self._noise(0)
        counts = np.full(across.size, 2.0)
        counts[0] = 1.0
        counts[-1] = 1.0
        power = (self._amplitude**2 * counts).sum() / np.prod(world.shape)
        self._scale = 1 / np.sqrt(power)
        self._down, self._across = down, across

    def at(self, frame: int, moved: np.ndarray) -> np.ndarray:
        """Returns the field of one frame; frames are asked for in their order."""
        while self._frame < frame:
            self._frame += 1
            fresh = np.sqrt(1 - self._kept**2) * self._noise(self._frame)
            self._state = self._kept * self._state + fresh
        phase = self._down * moved[0] + self._across * moved[1]
        waves = self._state * self._amplitude * np.exp(-2j * np.pi * phase)
        return np.fft.irfft2(waves, self._world.shape) * self._scale

    def _noise(self, frame: int) -> np.ndarray:
        white = _generator(self._seed, 1, frame).standard_normal(self._world.shape)
        return np.fft.rfft2(white)


class _Cells:
    """Rain cells that are born, grow, drift and decay, in dB above dry air."""

    def __init__(
        self, world: _World, settings: SyntheticRadarConfig, minutes: float
    ) -> None:
        self._world, self._minutes = world, minutes
        longest = 2.5 * settings.lifetime
        before = int(np.ceil(longest / minutes))
        rate = settings.cells * np.prod(world.sides) / 1e4
        rate *= minutes / settings.lifetime
        born = [
            self._born(settings, frame, float(rate))
            for frame in range(-before, settings.frames)
        ]
        self._cells = np.concatenate(born)

    def _born(
        self, settings: SyntheticRadarConfig, frame: int, rate: float
    ) -> np.ndarray:
        """Returns the cells of one moment, shape [cell, 9]."""
        draw = _generator(settings.seed, 2, frame)
        count = draw.poisson(rate)
        life = settings.lifetime * np.clip(draw.gamma(4.0, 0.25, count), 0.3, 2.5)
        return np.stack(
            [
                np.full(count, frame * self._minutes),
                life,
                *(draw.uniform(0, 1, (2, count)) * self._world.sides[:, np.newaxis]),
                # Own motion beside that of all, km/min.
                *draw.normal(0, 0.06, (2, count)),
                np.exp(draw.normal(np.log(7.0), 0.35, count)),
                draw.uniform(0.5, 1.0, count),
                draw.uniform(0, np.pi, count),
                np.clip(draw.normal(38.0, 8.0, count), 12.0, 54.0),
            ],
            axis=1,
        )

    def at(self, frame: int, moved: np.ndarray) -> np.ndarray:
        """Returns the field of one frame."""
        now = frame * self._minutes
        rows, columns = (
            (np.arange(n) * self._world.cell)[tuple(place)]
            for n, place in zip(
                self._world.shape, [(slice(None), None), (None, slice(None))]
            )
        )
        # Cells overlap like echoes: the harder one counts more than their sum.
        total = np.zeros(self._world.shape)
        for born, life, down, across, *rest in self._cells:
            age = now - born
            if not 0 <= age < life:
                continue
            drift_down, drift_across, size, ratio, angle, peak = rest
            strength = peak * np.sin(np.pi * age / life) ** 2
            y = _around(rows - down - moved[0] - drift_down * age, self._world.sides[0])
            x = _around(
                columns - across - moved[1] - drift_across * age, self._world.sides[1]
            )
            along = np.cos(angle) * x + np.sin(angle) * y
            beside = (np.cos(angle) * y - np.sin(angle) * x) / ratio
            shape = np.exp(-(along**2 + beside**2) / (2 * size**2))
            np.maximum(total, strength * shape, out=total)
        return total


def _drawn_wind(seed: int) -> tuple[float, float]:
    draw = _generator(seed, 0, 0)
    speed, angle = draw.uniform(25, 55), draw.uniform(0, 2 * np.pi)
    return float(speed * np.sin(angle)), float(speed * np.cos(angle))


def _generator(seed: int, kind: int, frame: int) -> np.random.Generator:
    return np.random.default_rng([seed, kind, frame + 1_000_000])


def _around(distance: np.ndarray, side: float) -> np.ndarray:
    """Returns the shortest way round, km."""
    return (distance + side / 2) % side - side / 2
