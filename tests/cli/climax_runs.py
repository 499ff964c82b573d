"""What the tests of ClimaX on the command line share."""

import xarray

from tests.training import toys
from weatherlib.cli import main


def predict(folder, output, *words):
    return main.main(
        [
            "predict", "--model", str(folder / "run" / "checkpoint.npz"),
            "--data", str(folder / "weather.nc"), "--conform",
            "--var", toys.PRESSURE, "--out-dir", str(output.parent),
            "--output", str(output), *words,
        ]
    )  # fmt: skip


def forecast(path):
    with xarray.open_dataset(path, decode_timedelta=True) as found:
        return found.load()
