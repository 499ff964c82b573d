"""A small forecast with everything it needs, and the two doors to it."""

import dataclasses
import importlib.util
import pathlib
import shutil

import xarray

from tests.conftest import GOLDENS
from weatherlib.cli import main as command

CASE = GOLDENS / "graphcast" / "b_15deg_precip_out"
SOURCE = "source-hres_date-2022-07-14_res-15.0_levels-13_steps-02.nc"
STATISTICS = ("diffs_stddev_by_level", "mean_by_level", "stddev_by_level")
_SCRIPT = pathlib.Path(__file__).parents[2] / "examples" / "inference.py"


def load_script():
    """Returns examples/inference.py as a module."""
    spec = importlib.util.spec_from_file_location("inference", _SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SCRIPT = load_script()
DOORS = {
    "script": SCRIPT.main,
    "command": lambda arguments: command.main(["predict", *arguments]),
}


@dataclasses.dataclass
class Case:
    """Files of one forecast in a folder of their own.

    Attributes:
      folder: Holds all of them.
      dataset: Weather of 4 frames.
      checkpoint: Of the 15 degree golden model.
      stats: Folder of its statistics.
      out: Folder for pictures.
      output: Forecast file, not there yet.
      more: Further arguments.
    """

    folder: pathlib.Path
    dataset: pathlib.Path
    checkpoint: pathlib.Path
    stats: pathlib.Path
    out: pathlib.Path
    output: pathlib.Path
    more: list[str] = dataclasses.field(default_factory=list)

    @classmethod
    def create(cls, folder):
        """Copies the golden case."""
        (folder / "stats").mkdir()
        for name in STATISTICS:
            shutil.copy(CASE / f"stats_{name}.nc", folder / "stats")
        return cls(
            folder=folder,
            dataset=pathlib.Path(shutil.copy(CASE / SOURCE, folder / "data.nc")),
            checkpoint=pathlib.Path(shutil.copy(CASE / "params.npz", folder)),
            stats=folder / "stats",
            out=folder / "out",
            output=folder / "out" / "forecast.nc",
        )

    def arguments(self):
        """Returns the command line."""
        return [
            *("--pretrained", str(self.checkpoint)),
            *("--dataset", str(self.dataset)),
            *("--stats", str(self.stats)),
            *("--output", str(self.output)),
            *("--out-dir", str(self.out)),
            *self.more,
        ]

    def read(self):
        """Returns the weather in memory."""
        with xarray.open_dataset(self.dataset, decode_timedelta=True) as dataset:
            return dataset.load()

    def change(self, function):
        """Replaces the weather by what a function makes of it."""
        changed = function(self.read())
        changed.to_netcdf(self.dataset)
