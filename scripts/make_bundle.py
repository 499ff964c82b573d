"""Makes the start, sample, statistics and checkpoint of `weatherlib/resources`.

    python scripts/make_bundle.py --spin-up 260
    weatherlib simulate archive.nc --days 1120
    weatherlib train examples/configs/simulated_graphcast.yaml
    python scripts/make_bundle.py --archive archive.nc --run runs/simulated_graphcast

The sample comes from the end of the archive, which training never sees. Its values are
rounded to a small share of what they change in six hours, so that they compress well.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import shutil

import numpy as np
import pandas as pd
import xarray

from weatherlib import bundled, data, simulation
from weatherlib.simulation import driver, start
from weatherlib.task import TASK_13

# Largest rounding step, as a share of the typical change from frame to frame.
_STEP = 0.02


def rounded(values: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Returns float32 values at multiples of the powers of two below `step`."""
    step = 2.0 ** np.floor(np.log2(step))
    return (np.round(values.astype(np.float64) / step) * step).astype(np.float32)


def make_sample(archive: pathlib.Path, stats: pathlib.Path, frames: slice) -> None:
    """Writes the rounded and compressed frames."""
    dataset, _ = data.conform(data.open_dataset(archive), TASK_13)
    dataset = dataset.isel(time=frames).load()
    dataset["time"] = dataset["time"] - dataset["time"][0]
    dataset.attrs |= {**simulation.ATTRIBUTES, "simulated": "true"}
    changes = xarray.load_dataset(stats / "diffs_stddev_by_level.nc")
    encoding = {}
    for name, array in dataset.data_vars.items():
        if name in changes:
            step = changes[name] * _STEP
            if "level" in array.dims:
                step = step.expand_dims(("lat", "lon")).transpose("level", "lat", "lon")
            array.values = rounded(array.values, np.asarray(step.values))
        encoding[name] = {"zlib": True, "complevel": 9, "shuffle": True}
        encoding[name]["_FillValue"] = None
    start = pd.Timestamp(dataset["datetime"].values.ravel()[0])
    spacing = 180 / dataset.sizes["lat"]
    dataset.attrs["dataset_name"] = (
        f"source-simulated_date-{start:%Y-%m-%d}_res-{spacing:g}_levels-"
        f"{dataset.sizes['level']}_steps-{dataset.sizes['time'] - 2:02d}"
    )
    dataset["time"].encoding = {"units": "hours", "dtype": "int32"}
    dataset["datetime"].encoding = {
        "units": f"hours since {start:%Y-%m-%d %H:%M:%S}",
        "dtype": "int32",
    }
    dataset.to_netcdf(bundled.sample_path(), encoding=encoding)
    size = bundled.sample_path().stat().st_size / 1e6
    print(f"{bundled.sample_path()}: {size:.1f} MB, {dataset.attrs['dataset_name']}")


def forget_path(source: pathlib.Path) -> None:
    """Removes from the description of statistics where their data were."""
    described = json.loads(source.read_text())
    described.pop("path", None)
    source.write_text(json.dumps(described, indent=1))


def main() -> None:
    """Makes the files named on the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--archive", type=pathlib.Path, help="file of the simulation")
    parser.add_argument(
        "--run", type=pathlib.Path, help="output folder of the training"
    )
    parser.add_argument(
        "--first", type=int, default=4080 + 160, help="frame of archive"
    )
    parser.add_argument("--frames", type=int, default=44)
    parser.add_argument("--spin-up", type=int, help="days from rest to the start state")
    words = parser.parse_args()
    if words.spin_up is not None:
        resolution = simulation.RESOLUTIONS["T21"]
        start.save(
            bundled.simulation_start_path(),
            *driver.spin_up(resolution, words.spin_up),
        )
    if words.run is not None:
        shutil.copytree(
            words.run / "stats", bundled.statistics_path(), dirs_exist_ok=True
        )
        forget_path(bundled.statistics_path() / "source.json")
        if (words.run / "checkpoint.npz").exists():
            shutil.copy(words.run / "checkpoint.npz", bundled.checkpoint_path())
    if words.archive is not None:
        frames = slice(words.first, words.first + words.frames)
        make_sample(words.archive, bundled.statistics_path(), frames)


if __name__ == "__main__":
    main()
