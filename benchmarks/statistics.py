"""Speed of statistics against plain reading of the same file.

    python benchmarks/statistics.py [--frames 400] [--layouts zarr netcdf ...]

Writes files of random weather in several layouts, then takes turns: reads every value
once, block by block, and nothing else; and computes all statistics. Prints MB/s of
values in memory, and their ratio. Files are read from the page cache, which is the
hardest case: a disk or a network is slower.
"""

import argparse
import pathlib
import tempfile
import time

import numpy as np
import xarray

from weatherlib import data
from weatherlib.data_utils import jobs, series, statistics

_LAYOUTS = ("netcdf", "netcdf-compressed", "zarr", "zarr-uncompressed")


def make(path: pathlib.Path, layout: str, frames: int) -> None:
    """Writes smooth fields that change from frame to frame."""
    random = np.random.default_rng(0)
    lat, lon, level = np.linspace(-87.5, 87.5, 71), np.arange(0, 360, 2.5), 4
    wave = np.cos(np.deg2rad(lon)) * np.cos(np.deg2rad(lat))[:, None] * 20 + 260
    values = wave + random.normal(size=(frames, level, lat.size, lon.size))
    values = np.round(values.astype(np.float32) * 64) / 64
    dataset = xarray.Dataset(
        {"temperature": (("time", "level", "lat", "lon"), values)},
        coords={
            "time": np.datetime64("2001-01-01", "ns")
            + np.arange(frames) * np.timedelta64(6, "h"),
            "level": [300, 500, 700, 850],
            "lat": lat,
            "lon": lon,
        },
    )
    chunks = (16, level, lat.size, lon.size)
    if layout.startswith("zarr"):
        encoding = {"chunks": chunks}
        if layout.endswith("uncompressed"):
            encoding["compressors"] = None
        dataset.to_zarr(path, encoding={"temperature": encoding}, consolidated=False)
        return
    encoding = {}
    if layout.endswith("-compressed"):
        encoding = {"zlib": True, "complevel": 1, "chunksizes": chunks}
    dataset.to_netcdf(path, encoding={"temperature": encoding})


def read(path: pathlib.Path, workers: int | None) -> float:
    """Returns the seconds that reading every value takes, as statistics read them."""
    began = time.perf_counter()
    dataset = data.open_dataset(path)
    variable = dataset["temperature"].variable
    pieces = series.cut("temperature", variable, range(dataset.sizes["time"]))
    jobs.run_jobs(_read_piece, pieces, workers=workers)
    return time.perf_counter() - began


def _read_piece(piece: series.Piece) -> None:
    for first, stop in piece.blocks():
        piece.series.read(first, stop)


def compute(path: pathlib.Path, workers: int | None) -> float:
    """Returns the seconds that all statistics take."""
    began = time.perf_counter()
    dataset = data.open_dataset(path)
    statistics.compute_statistics(dataset, forcings=(), workers=workers)
    return time.perf_counter() - began


def main() -> None:
    """Prints one row for each layout."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=1600)
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--layouts", nargs="*", default=_LAYOUTS, choices=_LAYOUTS)
    words = parser.parse_args()
    size = words.frames * 4 * 71 * 144 * 4 / 1e6
    print(f"{size:.0f} MB of float32 in memory; MB/s, best of {words.repeats}")
    print(f"{'layout':20}{'reading':>10}{'statistics':>12}{'ratio':>8}")
    with tempfile.TemporaryDirectory() as folder:
        for layout in words.layouts:
            suffix = ".zarr" if layout.startswith("zarr") else ".nc"
            path = pathlib.Path(folder) / f"{layout}{suffix}"
            make(path, layout, words.frames)
            plain, all_of_it = [], []
            for _ in range(words.repeats):
                plain.append(read(path, words.workers))
                all_of_it.append(compute(path, words.workers))
            one, two = size / min(plain), size / min(all_of_it)
            print(f"{layout:20}{one:10.0f}{two:12.0f}{two / one:8.2f}", flush=True)


if __name__ == "__main__":
    main()
