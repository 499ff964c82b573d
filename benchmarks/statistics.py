"""Speed of statistics against plain reading of the same file.

    python benchmarks/statistics.py [--frames 400] [--layouts zarr netcdf ...]

Writes files of random weather in several layouts, then takes turns: reads every value
once, block by block, and nothing else; and computes all statistics. Prints MB/s of
values in memory, and their ratio, once by the clock and once by processor time, which
other programs disturb less but which hides what happens at the same time. Files are
read from the page cache, which is the hardest case: a disk or a network is slower.
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


def read(path: pathlib.Path, workers: int | None) -> tuple[float, float]:
    """Returns the time that reading every value takes, as statistics read them."""
    began = _now()
    dataset = data.open_dataset(path)
    variable = dataset["temperature"].variable
    pieces = series.cut("temperature", variable, range(dataset.sizes["time"]))
    jobs.run_jobs(_read_piece, pieces, workers=workers)
    return _since(began)


def _read_piece(piece: series.Piece) -> None:
    for first, stop in piece.blocks():
        piece.series.read(first, stop)


def compute(path: pathlib.Path, workers: int | None) -> tuple[float, float]:
    """Returns the time that all statistics take."""
    began = _now()
    dataset = data.open_dataset(path)
    statistics.compute_statistics(dataset, forcings=(), workers=workers)
    return _since(began)


def _now() -> tuple[float, float]:
    """Returns seconds by the clock and of processors."""
    return time.perf_counter(), time.process_time()


def _since(began: tuple[float, float]) -> tuple[float, float]:
    """Returns the same since a moment."""
    clock, processor = _now()
    return clock - began[0], processor - began[1]


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
    print(f"{'':20}{'by the clock':>28}{'by processor time':>28}")
    heads = f"{'reading':>10}{'statistics':>11}{'ratio':>7}"
    print(f"{'layout':20}{heads}{heads}")
    with tempfile.TemporaryDirectory() as folder:
        for layout in words.layouts:
            suffix = ".zarr" if layout.startswith("zarr") else ".nc"
            path = pathlib.Path(folder) / f"{layout}{suffix}"
            make(path, layout, words.frames)
            plain, all_of_it = [], []
            for _ in range(words.repeats):
                plain.append(read(path, words.workers))
                all_of_it.append(compute(path, words.workers))
            row = f"{layout:20}"
            for reading, whole in zip(zip(*plain), zip(*all_of_it)):
                one, two = size / min(reading), size / min(whole)
                row += f"{one:10.0f}{two:11.0f}{two / one:7.2f}"
            print(row, flush=True)


if __name__ == "__main__":
    main()
