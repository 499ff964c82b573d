"""One process of forecasts over the devices of several, for the tests of them.

    python -m tests.rollout.processes_worker SETTINGS

SETTINGS is a JSON object with the folder for results. `make` is what one process does.
"""

import json
import os
import pathlib
import signal
import sys

import jax
import numpy as np

from tests import toy
from weatherlib import data, rollout
from weatherlib.training import distributed, sharding

STEPS = 3
FILES = ("single", "members", "starts", "resumed")


def parts():
    """Returns inputs, forcings and a template of one batch."""
    inputs, targets, forcings = toy.example(STEPS, batch=1)
    return inputs.drop_vars("datetime"), targets, forcings


def forecaster(mesh=None, members=1):
    """Returns the toy model on the devices of all processes, or on one."""
    layout = None
    if mesh is not None:
        layout = sharding.Layout(sharding.ShardingConfig(mesh=mesh))
    return rollout.Forecaster(
        toy.ToyPredictor, toy.parameters(), sharding=layout, members_per_batch=members
    )


def make(spread=False):
    """Returns a forecast, an ensemble, several starts and a continued one, by name."""
    space, shared = ({"space": -1}, {"data": -1}) if spread else (None, None)
    inputs, targets, forcings = parts()
    settings = {"targets_template": targets, "guard": None}
    single = forecaster(space)
    found = {"single": single.predict(inputs, forcings, **settings)}
    several = forecaster(shared, members=3)
    found["members"] = several.predict(inputs, forcings, members=3, **settings)
    keys = rollout.start_keys(0, np.array(["2022-01-01"] * 3, "datetime64[ns]"))
    found["starts"] = several.predict(inputs, forcings, members=3, rng=keys, **settings)
    found["resumed"] = _resumed(single, inputs, forcings, targets)
    return found


def _resumed(single, inputs, forcings, targets):
    """Returns a forecast continued after a step; only the first process has a file."""
    is_main = jax.process_index() == 0
    writer = data.MemoryWriter() if is_main else None
    for steps in (1, STEPS):
        single.run(
            inputs,
            writer,
            forcings.isel(time=slice(steps)),
            targets_template=targets.isel(time=slice(steps)),
            guard=None,
        )
    return writer.dataset if is_main else None


def _endless(run, dying):
    """Makes forecasts for ever; one process dies in the middle."""
    inputs, targets, forcings = parts()
    single = forecaster({"space": -1})
    number = 0
    while True:
        if number == 2 and run.process_id == dying:
            os.kill(os.getpid(), signal.SIGKILL)
        with run.guard():
            single.predict(inputs, forcings, targets_template=targets, guard=None)
        number += 1


def main(settings):
    folder = pathlib.Path(settings["folder"])
    with distributed.start() as run:
        if "dies" in settings:
            _endless(run, settings["dies"])
        for name, forecast in make(spread=True).items():
            if forecast is not None:
                forecast.to_netcdf(folder / f"{name}_{run.process_id}.nc")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
