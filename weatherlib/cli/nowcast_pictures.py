"""Pictures and files of nowcasts: scores by lead time, and single cases."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray

from weatherlib import plotting, writing
from weatherlib.data import radar, radar_sequences
from weatherlib.evaluation import nowcasts
from weatherlib.evaluation.nowcasts import Nowcaster

__all__ = ["draw_cases", "draw_scores"]


def draw_scores(scores: xarray.Dataset, folder: pathlib.Path) -> list[pathlib.Path]:
    """Draws CSI by threshold, errors by lead time, and spectra.

    Raises:
      OSError: A file cannot be written.
    """
    pictures: dict[str, Any] = {}
    pools = scores["pool"].values
    for pool in pools:
        # Thresholds that neither truth nor nowcasts reach have nothing to show.
        csi = scores["csi"].sel(pool=pool).dropna("threshold", how="all")
        if not csi.sizes["threshold"]:
            continue
        title = "Critical success index"
        if pool != pools[0]:
            title += f", largest of {pool} x {pool} pixels"
        name = "csi" if pool == pools[0] else f"csi_pool{pool}"
        pictures[name] = plotting.draw_nowcast_scores(csi, title=title)
    for name in ("rmse", "crps"):
        pictures[name] = plotting.draw_nowcast_scores(scores[name])
    pictures["spectra"] = plotting.draw_radial_spectra(scores)
    return [
        plotting.save_figure(figure, folder / f"{name}.png")
        for name, figure in pictures.items()
    ]


def draw_cases(
    found: Mapping[str, Nowcaster],
    samples: radar_sequences.Sequences,
    numbers: Sequence[int] | np.ndarray,
    folder: pathlib.Path,
    *,
    animate: bool = True,
) -> list[pathlib.Path]:
    """Writes single nowcasts: frames beside each other, moving pictures, and a file.

    `case_1.nc` has context, truth and every nowcast in pixels with their dates.

    Args:
      found: Models and references by name.
      samples: Where cases are taken from.
      numbers: Of the samples.
      folder: Where to.
      animate: Whether to write moving pictures too.

    Raises:
      OSError: A file cannot be written.
      ValueError: A nowcast cannot be made.
    """
    written = []
    inputs = samples.config.inputs
    for place, number in enumerate(numbers, start=1):
        frames = samples.dataset(int(number))
        pixels = frames[radar.NAME].values
        context, truth = pixels[:inputs], pixels[inputs:]
        drawn = {
            name: nowcasts.call(nowcaster, context[None], truth[None])
            for name, nowcaster in found.items()
        }
        one = {n: p[:, 0] if p.ndim == 5 else p[0] for n, p in drawn.items()}
        when = str(frames["time"].values[inputs - 1])[:16].replace("T", " ")
        look = {
            "step_minutes": samples.step / np.timedelta64(1, "m"),
            "title": f"{when} UTC",
        }
        figure = plotting.draw_nowcast(context, truth, one, **look)
        stem = folder / f"case_{place}"
        written.append(plotting.save_figure(figure, stem.with_suffix(".png")))
        if animate:
            path = stem.with_suffix(".gif")
            plotting.save_nowcast_animation(path, context, truth, one, **look)
            written.append(path)
        written.append(_write_case(frames, one, inputs, stem.with_suffix(".nc")))
    return written


def _write_case(
    frames: xarray.Dataset,
    drawn: Mapping[str, np.ndarray],
    inputs: int,
    path: pathlib.Path,
) -> pathlib.Path:
    """Writes one nowcast of each model, beside what happened."""
    fields: dict[str, Any] = {"observed": frames[radar.NAME].variable}
    attrs = {"units": "1", "long_name": "nowcast, pixels on the scale of SEVIR"}
    for number, (name, pixels) in enumerate(drawn.items()):
        dims = ("lead", "lat", "lon")
        if pixels.ndim == 4:
            dims = (f"member_{number}", *dims)
        kept = {**attrs, "model": name}
        fields[f"nowcast_{number}"] = (dims, pixels.astype(np.float32), kept)
    times = frames["time"].values
    coords = {"time": times, "lead": times[inputs:] - times[inputs - 1]}
    dataset = xarray.Dataset(fields, coords, dict(frames.attrs))
    encoding = {n: {"zlib": True, "complevel": 1} for n in dataset.data_vars}
    with writing.replacing(path) as partial:
        dataset.to_netcdf(partial, engine="netcdf4", encoding=encoding)
    return path
