"""The published GraphCast cases as models and data for rollouts."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import xarray

from tests.conftest import GOLDENS
from weatherlib import (
    autoregressive,
    casting,
    checkpoint,
    data_utils,
    graphcast,
    normalization,
)

CASES = {"a": "a_10deg_13lev", "b": "b_15deg_precip_out"}


@functools.cache
def case(name):
    return Case(GOLDENS / "graphcast" / CASES[name])


class Case:
    """One golden case: model, statistics, data and expected rollouts."""

    def __init__(self, folder):
        self._folder = folder
        with (folder / "params.npz").open("rb") as file:
            self.checkpoint = checkpoint.load(file, graphcast.CheckPoint)
        self.params = jax.tree.map(jnp.asarray, self.checkpoint.params)
        self.task = self.checkpoint.task_config
        self.source = self._open(next(folder.glob("source-*.nc")).name)
        self._statistics = {
            name: self._open(f"stats_{name}.nc")
            for name in ("stddev_by_level", "mean_by_level", "diffs_stddev_by_level")
        }
        self.steps = self.source.sizes["time"] - 2
        extracted = data_utils.extract_inputs_targets_forcings(
            self.source,
            target_lead_times=slice("6h", f"{6 * self.steps}h"),
            **dataclasses.asdict(self.task),
        )
        self.inputs, self.targets, self.forcings = extracted

    def _open(self, name):
        # xarray 2024.10 cannot decode lead times with every version of pandas.
        raw = xarray.load_dataset(self._folder / name, decode_timedelta=False)
        return data_utils.decode_time(raw)

    def make_predictor(self, precision="f32"):
        predictor = graphcast.GraphCast(self.checkpoint.model_config, self.task)
        if precision == "bf16":
            predictor = casting.Bfloat16Cast(predictor)
        return normalization.InputsAndResiduals(predictor, **self._statistics)

    def make_rollout(self, precision="f32"):
        return autoregressive.Predictor(self.make_predictor(precision))

    def expected(self, precision):
        return self._open(f"rollout_{precision}_chunk1.nc")

    def difference(self, found, expected):
        """Returns the largest and the quadratic mean difference in units of changes."""
        scales = self._statistics["diffs_stddev_by_level"]
        scaled = [
            ((found[name] - expected[name]) / scales[name]).values.ravel()
            for name in expected
        ]
        largest = max(np.abs(values).max() for values in scaled)
        mean = max(np.sqrt(np.mean(values**2)) for values in scaled)
        return largest, mean
