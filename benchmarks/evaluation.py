"""How long the evaluation of a year of forecasts takes, and how much memory.

    python benchmarks/evaluation.py [--starts 730] [--leads 10] [--members 1]

Writes a year of synthetic forecasts of the 64x32 grid, twice a day, and their truth as
Zarr into a temporary folder, and evaluates them as `weatherlib evaluate` does: default
scores, references, regions, confidence intervals. Beside it stands the time that only
reading the same data takes. Each is a process of its own; memory is what it adds to
that of the imported library.
"""

import argparse
import json
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np
import xarray

from weatherlib import data, evaluation

_LEVELS = (250.0, 500.0, 850.0)
_UPPER = ("geopotential", "temperature", "u_component_of_wind")
_SURFACE = ("2m_temperature", "mean_sea_level_pressure")


def make_data(folder: pathlib.Path, starts: int, leads: int, members: int) -> None:
    """Writes forecasts.zarr and truth.zarr."""
    generator = np.random.default_rng(0)
    step = np.timedelta64(12, "h")
    first = np.datetime64("2020-01-01", "ns")
    steps = (np.arange(1, leads + 1) * step).astype("timedelta64[ns]")
    inits = first + np.arange(starts) * step
    grid = {
        "latitude": np.linspace(-87.1875, 87.1875, 32),
        "longitude": np.arange(64) * 5.625,
    }
    noise = generator.standard_normal((64, 3, 32, 64), np.float32)
    truth, forecast = {}, {}
    for name in (*_UPPER, *_SURFACE):
        upper = name in _UPPER
        field = noise[np.arange(starts + leads) % 64]
        errors = noise[(np.arange(starts)[:, None] * 7 + np.arange(leads)) % 64]
        ahead = np.arange(starts)[:, None] + 1 + np.arange(leads)
        made = 0.9 * field[ahead] + 0.3 * errors
        if not upper:
            field, made = field[:, 0], made[:, :, 0]
        tail = ("level", "latitude", "longitude") if upper else tuple(grid)
        head = ("time", "prediction_timedelta")
        if members > 1:
            spread = noise[:members, 0].reshape(1, 1, members, *[1] * upper, 32, 64)
            made = made[:, :, None] + 0.3 * spread
            head = (*head, "number")
        truth[name] = (("time", *tail), field)
        forecast[name] = ((*head, *tail), made.astype(np.float32))
    grid["level"] = np.array(_LEVELS)
    times = first + np.arange(starts + leads) * step
    xarray.Dataset(truth, {"time": times, **grid}).to_zarr(
        folder / "truth.zarr", consolidated=False
    )
    coords = {"time": inits, "prediction_timedelta": steps, **grid}
    chunks = {"time": min(16, starts)}
    xarray.Dataset(forecast, coords).chunk(chunks).to_zarr(
        folder / "forecasts.zarr", consolidated=False
    )


def measure(what: str, folder: pathlib.Path, metrics: tuple[str, ...]) -> dict:
    """Returns the seconds and the MiB that reading or evaluating takes."""
    unit = 1024
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.monotonic()
    forecast = data.open_dataset(folder / "forecasts.zarr")
    truth = data.open_dataset(folder / "truth.zarr")
    if what == "read":
        for dataset in (forecast, truth):
            for array in dataset.data_vars.values():
                for first in range(0, array.sizes["time"], 64):
                    array.isel(time=slice(first, first + 64)).load()
    else:
        evaluation.evaluate(forecast, truth, metrics=metrics)
    seconds = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": seconds, "mib": (after - before) / unit}


def main() -> None:
    """Prints a line for reading and for each set of scores."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--starts", type=int, default=730)
    parser.add_argument("--leads", type=int, default=10)
    parser.add_argument("--members", type=int, default=1)
    parser.add_argument("--measure", nargs="+", help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.measure:
        what, folder, *metrics = words.measure
        print(json.dumps(measure(what, pathlib.Path(folder), tuple(metrics))))
        return
    sets = {
        "read": [],
        "default scores": [],
        "with acc and activity": ["rmse", "mae", "bias", "acc", "activity"],
        "rmse and spectra": ["rmse", "power_spectrum"],
    }
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        make_data(folder, words.starts, words.leads, words.members)
        fields = words.starts * words.leads * words.members
        fields *= len(_UPPER) * len(_LEVELS) + len(_SURFACE)
        print(f"{fields} fields of 32 x 64, {fields * 8192 / 2**20:.0f} MiB")
        for label, metrics in sets.items():
            what = "read" if label == "read" else "evaluate"
            command = [sys.executable, __file__, "--measure", what, name, *metrics]
            ran = subprocess.run(command, check=True, capture_output=True, text=True)
            row = json.loads(ran.stdout)
            print(f"{label:24s} {row['seconds']:6.1f} s  {row['mib']:6.0f} MiB")


if __name__ == "__main__":
    main()
