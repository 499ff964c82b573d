"""One process of a training run, for the tests of several processes.

    python -m tests.training.distributed_worker SETTINGS

SETTINGS is a JSON object; the last line printed is one with the losses.
"""

import json
import os
import pathlib
import signal
import sys

import jax
import numpy as np

from tests import toy
from tests.training import scale_worker
from weatherlib import autoregressive, xarray_jax
from weatherlib.training import distributed, sharding

BATCH, UPDATES = 4, 5


def toy_batch(step):
    data = toy.example(2, batch=BATCH, seed=step)
    return tuple(dataset.drop_vars("datetime") for dataset in data)


def toy_update():
    """Returns an update of the toy predictor over two steps, and its first state."""
    function = toy.transformed(
        lambda: autoregressive.Predictor(toy.ToyPredictor()), "loss"
    )

    def update(state, batch):
        def loss_of(params):
            loss, _ = function.apply(params, None, *batch)
            return xarray_jax.unwrap_data(loss).mean()

        loss, gradients = jax.value_and_grad(loss_of)(state)
        return jax.tree.map(lambda p, g: p - 0.3 * g, state, gradients), loss

    return update, toy.parameters()


def graphcast_update():
    update, first = scale_worker.make_update()
    state = first(scale_worker.data_of("uneven", batch=BATCH))

    def simple(state, batch):
        state, (loss, _) = update(state, batch)
        return state, loss

    return simple, state


def part_of(batch, index, count):
    """What a loader that is told its shard returns."""
    size = BATCH // count
    part = slice(index * size, (index + 1) * size)
    return tuple(dataset.isel(batch=part, missing_dims="ignore") for dataset in batch)


def save(path, step, state):
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(state)]
    partial = path.with_name("partial.npz")
    np.savez(partial, *leaves, step=step)
    partial.replace(path)


def load(path, state):
    with np.load(path) as stored:
        count = len(jax.tree.leaves(state))
        leaves = [stored[f"arr_{i}"] for i in range(count)]
        return int(stored["step"]), jax.tree.unflatten(
            jax.tree.structure(state), leaves
        )


def train(run, settings):
    """Trains, saves after each update, and dies where it is told to."""
    config = sharding.ShardingConfig(mesh=settings.get("mesh", {"data": -1}))
    layout = sharding.Layout(config)
    shard = layout.loader_shard
    model = settings.get("model", "toy")
    update, state = toy_update() if model == "toy" else graphcast_update()
    path, first, losses = pathlib.Path(settings["state"]), 0, []
    if path.exists():
        first, state = load(path, state)
    state = layout.place(state)
    step = layout.jit(
        lambda state, batch: (lambda new, loss: (layout.constrain_state(new), loss))(
            *update(state, batch)
        )
    )
    for number in range(first, UPDATES):
        if settings.get("dies") == [run.process_id, number]:
            os.kill(os.getpid(), getattr(signal, settings["signal"]))
        if settings.get("fails") == [run.process_id, number]:
            raise ValueError("a mistake of one process")
        whole = (
            toy_batch(number)
            if model == "toy"
            else scale_worker.data_of("uneven", batch=BATCH, seed=number)
        )
        with run.guard():
            batch = layout.place_batch(part_of(whole, *shard))
            state, loss = step(state, batch)
            losses.append(float(loss))
            host = layout.fetch(state)
        if run.is_main:
            save(path, number + 1, host)
        if run.any_of(run.process_id == settings.get("stops") and number == 2):
            break
    return {"losses": losses, "shard": shard, "devices": jax.device_count()}


def main(settings):
    processes = settings.get("processes", 1)
    config = None
    if processes > 1:
        config = distributed.DistributedConfig(
            coordinator=f"127.0.0.1:{settings['port']}",
            num_processes=processes,
            process_id=settings["process"],
            lost_after=settings.get("lost_after", 30.0),
            grace=settings.get("grace", 10.0),
        )
    with distributed.start(config) as run:
        result = train(run, settings)
    sys.stdout.write("\n" + json.dumps(result) + "\n")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
