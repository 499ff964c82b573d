"""Fields through an autoencoder and back, in their own units."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import xarray

from weatherlib import data, data_utils, training
from weatherlib.cli import (
    coders,
    field_errors,
    files,
    pictures,
)
from weatherlib.cli import reconstruct as command
from weatherlib.data_utils import harmonics
from weatherlib.latent import autoencoder_predictor, codec, forecast_frames, ranges
from weatherlib.plotting import draw_pairs, save_figure

__all__ = [
    "Reconstructed",
    "frames_of",
    "reconstruct",
    "write",
    "write_statistics",
]

_AT_ONCE = 8
_MOST_ROWS = 6
_DAY = np.timedelta64(1, "D")

Progress = Callable[[int, int, float], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reconstructed:
    """What came back.

    Attributes:
      errors: As `FieldErrors.results`.
      count: Frames.
      first: Time of the first, UTC.
      last: Time of the last, UTC.
      original: One of them, all its variables.
      made: Its reconstruction.
      mean: Of each latent number, shape [channel, rows, columns].
      variance: Likewise.
    """

    errors: dict[str, dict[str, Any]]
    count: int
    first: str
    last: str
    original: xarray.Dataset
    made: xarray.Dataset
    mean: np.ndarray
    variance: np.ndarray


class Frames:
    """Frames spread evenly over a period, read some at a time."""

    def __init__(self, dataset: xarray.Dataset, most: int) -> None:
        """Takes frames [time, ...] and how many of them to read."""
        count = dataset.sizes["time"]
        places = np.linspace(0, count - 1, min(most, count)).round().astype(int)
        self.dataset = dataset.isel(time=places)

    def __len__(self) -> int:
        """Returns how many there are."""
        return self.dataset.sizes["time"]

    def parts(self) -> Iterator[xarray.Dataset]:
        """Yields some frames at a time, in memory."""
        for begin in range(0, len(self), _AT_ONCE):
            yield self.dataset.isel(time=slice(begin, begin + _AT_ONCE)).load()


def frames_of(options: command.Options, coder: coders.Coder) -> Frames:
    """Returns the frames to reconstruct.

    Raises:
      ValueError: The data lack a variable, or the period is none.
      OSError: They cannot be read.
    """
    dataset, _ = data.conform(files.open_lazily(options.data), coder.task)
    names = list(coder.task.target_variables)
    missing = [name for name in names if name not in dataset]
    if missing:
        held = ", ".join(sorted(map(str, dataset.data_vars)))
        raise ValueError(f"the data lack {', '.join(missing)}; they have {held}")
    found = dataset[names]
    if "batch" in found.dims:
        found = found.isel(batch=0)
    if "datetime" in found.coords:
        stamps = np.ravel(found["datetime"].values)
        found = found.drop_vars("datetime").assign_coords(time=stamps)
    if options.period is not None:
        found = _inside(found, options.period)
    if coder.task.pressure_levels and "level" in found.dims:
        found = found.sel(level=list(coder.task.pressure_levels))
    return Frames(found, options.frames)


def _inside(dataset: xarray.Dataset, text: str) -> xarray.Dataset:
    first, _, last = text.partition(":")
    try:
        begin, end = (np.datetime64(word, "D") for word in (first, last))
    except ValueError:
        raise ValueError(
            "--period: expected FIRST:LAST such as 2001-01-01:2001-02-28, found "
            f"{text!r}"
        ) from None
    times = dataset["time"].values
    inside = (times >= begin) & (times < end + _DAY)
    if not inside.any():
        raise ValueError(
            f"--period {text}: the data have no time in it, but from "
            + " to ".join(np.datetime_as_string([times.min(), times.max()], unit="m"))
        )
    return dataset.isel(time=np.flatnonzero(inside))


def reconstruct(
    coder: coders.Coder, frames: Frames, *, progress: Progress | None = None
) -> Reconstructed:
    """Returns what comes back of frames.

    Args:
      coder: The autoencoder.
      frames: To be encoded and decoded.
      progress: Is told frames done, all of them, and seconds since the last.

    Raises:
      ValueError: Frames do not fit the autoencoder, or lie outside of its range.
    """
    coder = _with_range(coder, frames)
    sizes = coder.config
    if coder.is_published:
        sizes = sizes.replace(channels=1, lowest=(), highest=())
    # Latent fields as the network gives them, whatever models scale them by.
    sizes = sizes.replace(latent_statistics="none", scale_factor=1.0)
    made = codec.make(sizes)
    run = jax.jit(lambda p, x: autoencoder_predictor.reconstruct(made, p, x))
    errors = field_errors.FieldErrors()
    sums: list[np.ndarray] = []
    done, middle, shown = 0, len(frames) // 2, None
    for part in frames.parts():
        back, latents = _through(coder, run, part)
        errors.add(_counted(back), _counted(part))
        wide = latents.astype(np.float64)
        moments = [wide.sum(0), np.square(wide).sum(0), np.asarray(len(wide))]
        sums = [a + b for a, b in zip(sums, moments)] if sums else moments
        count = part.sizes["time"]
        if done <= middle < done + count:
            shown = tuple(d.isel(time=middle - done) for d in (part, back))
        done += count
        if progress is not None:
            progress(done, len(frames), 0.0)
    assert shown is not None
    mean = sums[0] / sums[2]
    return Reconstructed(
        errors=errors.results(),
        count=done,
        first=_stamp(frames.dataset["time"].values[0]),
        last=_stamp(frames.dataset["time"].values[-1]),
        original=shown[0],
        made=shown[1],
        mean=mean.astype(np.float32),
        variance=np.maximum(sums[1] / sums[2] - mean**2, 0).astype(np.float32),
    )


def _through(
    coder: coders.Coder, run: Callable[..., Any], part: xarray.Dataset
) -> tuple[xarray.Dataset, np.ndarray]:
    """Returns frames that came back, and their latent fields."""
    names = list(part)
    mean, stddev = (d[names].astype(np.float32) for d in (coder.mean, coder.stddev))
    apart = _departures(coder, part)
    normal = ((part - apart - mean) / stddev).expand_dims("batch").astype(np.float32)
    pixels = forecast_frames.read(normal, coder.config)[0]
    shape = pixels.shape
    if coder.is_published:
        pixels = pixels.reshape(-1, 1, *shape[2:])
    block = max(coder.config.vae_batch_size, 1)
    short = -len(pixels) % block
    padded = np.pad(np.asarray(pixels), ((0, short), *((0, 0),) * 3), mode="edge")
    parts = [
        run(coder.params, padded[i : i + block]) for i in range(0, len(padded), block)
    ]
    made, latents = (np.concatenate([np.asarray(p[i]) for p in parts]) for i in (0, 1))
    count = len(pixels)
    frames = made[:count].reshape(shape)[np.newaxis]
    back = forecast_frames.write(jax.numpy.asarray(frames), normal, coder.config)
    back = training.Placement().fetch(back).isel(batch=0)
    return back[names] * stddev + mean + apart, latents[:count]


def _departures(coder: coders.Coder, part: xarray.Dataset) -> xarray.Dataset:
    """Returns what is taken away before frames are normalised, and put back at the end.

    Zero where the autoencoder was trained on fields with their course of day and year.
    """
    apart = xarray.zeros_like(part)
    if coder.climatology is None:
        return apart
    when = xarray.Dataset(coords={"datetime": part["time"], "lon": part["lon"]})
    data_utils.add_derived_vars(when)
    waves = when.assign(apart)
    return harmonics.remove(waves, coder.climatology, sign=1)[list(part)]


def _with_range(coder: coders.Coder, frames: Frames) -> coders.Coder:
    """Returns an autoencoder with a range: of the frames, for published weights.

    Raises:
      ValueError: Frames lie outside of the range of an autoencoder that has one.
    """
    if not coder.is_published:
        for part in frames.parts():
            names = [str(name) for name in part]
            left = part - _departures(coder, part)
            ranges.require_data(left, coder.config, names, coder.mean, coder.stddev)
        return coder
    low: dict[str, np.ndarray] = {}
    high: dict[str, np.ndarray] = {}
    for part in frames.parts():
        for name in sorted(part, key=str):
            around = [d for d in part[name].dims if d != "level"]
            for found, end, better in ((low, "min", np.fmin), (high, "max", np.fmax)):
                values = np.atleast_1d(getattr(part[name], end)(around).values)
                found[str(name)] = better(found.get(str(name), values), values)
    lowest, highest = (
        tuple(float(v) for name in sorted(found) for v in found[name])
        for found in (low, high)
    )
    config = coder.config.replace(channels=len(lowest), lowest=lowest, highest=highest)
    return dataclasses.replace(coder, config=config)


def _stamp(time: np.datetime64) -> str:
    return str(np.datetime_as_string(time, unit="m"))


def _counted(dataset: xarray.Dataset) -> xarray.Dataset:
    """Returns frames whose times are not told apart."""
    return dataset.drop_vars("time").rename(time="frame")


def write(
    found: Reconstructed, coder: coders.Coder, folder: pathlib.Path
) -> list[pathlib.Path]:
    """Writes errors and the picture, and returns their paths.

    Raises:
      OSError: They cannot be written.
    """
    facts = {
        "model": coder.source,
        "sha256": coder.digest,
        "frames": found.count,
        "first": found.first,
        "last": found.last,
        "weighting": "area",
        "variables": found.errors,
    }
    path = folder / "reconstruction.json"
    path.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf8")
    pairs, labels = [], []
    for name in list(found.original)[:_MOST_ROWS]:
        field = found.original[name]
        level = None
        if "level" in field.dims:
            level = float(min(field["level"].values, key=lambda p: abs(p - 500)))
        both = [
            pictures.select(d, str(name), level) for d in (found.original, found.made)
        ]
        both[1].attrs = both[0].attrs
        pairs.append((both[0], both[1]))
        labels.append(pictures.file_title(both[0]).replace("_", " "))
    figure = draw_pairs(
        pairs, labels, names=("Original", "Reconstruction", "Reconstruction - original")
    )
    return [path, save_figure(figure, folder / "reconstruction.png")]


def write_statistics(found: Reconstructed, path: str) -> pathlib.Path:
    """Writes mean and variance of each latent number, and returns the path.

    Raises:
      OSError: It cannot be written.
      ValueError: The name does not end in .npz.
    """
    from weatherlib.weights import flat

    if not path.endswith(".npz"):
        raise ValueError(f"--latent-statistics {path}: the name has to end in .npz")
    flat.write(path, {"mean": found.mean, "var": found.variance}, format="npz")
    return pathlib.Path(path)
