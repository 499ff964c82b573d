"""Overhead of the training loop over a bare compiled step, and the wait for data.

    python benchmarks/training.py --updates 60

Both run the same GraphCast on the bundled sample with the same batches: the bare step
is `jax.value_and_grad` and an optax update under one `jax.jit`, fed from a list in
memory and never waited for until the end. Blocks of both take turns, and the median
of their ratios counts, since other programs disturb a machine.
"""

from __future__ import annotations

import argparse
import functools
import json
import pathlib
import time
from typing import Any

import jax
import numpy as np
import optax

from weatherlib import bundled, data, graphcast, training
from weatherlib.cli import models
from weatherlib.training import wrapping

_DEFAULTS = {
    "--updates": 60,
    "--blocks": 10,
    "--batch": 2,
    "--mesh": 3,
    "--latent": 64,
    "--ema": 0.0,
}


def make_objective(settings: argparse.Namespace) -> training.Objective:
    """Returns the loss of a GraphCast with the bundled statistics."""
    statistics = models.load_statistics(bundled.statistics_path())
    model = graphcast.ModelConfig(
        resolution=0,
        mesh_size=settings.mesh,
        latent_size=settings.latent,
        gnn_msg_steps=4,
        hidden_layers=1,
        radius_query_fraction_edge_length=0.6,
    )
    return training.Objective(
        lambda: wrapping.wrap(
            graphcast.GraphCast(model, graphcast.TASK_13),
            {name: getattr(statistics, name) for name in models.STATISTICS_FILES},
            training.config.WrapperConfig(),
        )
    )


def make_optimizer() -> optax.GradientTransformation:
    """Returns AdamW with clipping."""
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3, b2=0.95))


class Bare:
    """The bare step, which keeps its state between blocks."""

    def __init__(self, objective: training.Objective, batches: list[Any]) -> None:
        optimizer = make_optimizer()
        key = jax.random.PRNGKey(0)
        self._batches = batches
        params, state = objective.init(key, batches[0])
        self._carry = (params, optimizer.init(params))

        @functools.partial(jax.jit, donate_argnums=0)
        def step(carry: Any, batch: Any) -> Any:
            params, optimizer_state = carry
            (loss, _), gradient = jax.value_and_grad(objective.loss, has_aux=True)(
                params, state, key, batch
            )
            changes, optimizer_state = optimizer.update(
                gradient, optimizer_state, params
            )
            return (optax.apply_updates(params, changes), optimizer_state), loss

        self._step = step
        self.seconds(1)

    def seconds(self, updates: int) -> float:
        """Returns the seconds of an update."""
        began = time.perf_counter()
        for index in range(updates):
            batch = self._batches[index % len(self._batches)]
            self._carry, loss = self._step(self._carry, batch)
        jax.block_until_ready(loss)
        return (time.perf_counter() - began) / updates


class Loop:
    """The loop of the library, whose records are made to be blocks."""

    def __init__(self, pause: Any, block: int) -> None:
        self._pause, self._block = pause, block
        self._paused = 0.0
        self.seconds: list[float] = []
        self.waits: list[float] = []

    def begin(self, step: int, total: int) -> None:
        """Does nothing."""

    def record(self, record: Any) -> None:
        """Notes the speed of a block, and lets the bare step run."""
        if record["steps_per_second"]:
            # The loop counts the time of observers as its own, and so the pause.
            whole = self._block / record["steps_per_second"]
            running = whole - self._paused
            self.seconds.append(running / self._block)
            self.waits.append(record["data_wait"] * whole / running)
            began = time.perf_counter()
            self._pause()
            self._paused = time.perf_counter() - began

    def close(self) -> None:
        """Does nothing."""


def measure(settings: argparse.Namespace) -> dict[str, float]:
    """Returns seconds of an update, their ratio, and the share of waiting."""
    dataset, _ = data.conform(
        data.open_dataset(bundled.sample_path()), graphcast.TASK_13
    )
    frames = training.Frames(dataset, graphcast.TASK_13)
    objective = make_objective(settings)
    starts = frames.starts()
    batches = [frames.batch(starts[i : i + settings.batch]) for i in range(8)]
    bare = Bare(objective, batches)
    found: list[float] = []
    block = settings.updates // settings.blocks
    loop = Loop(lambda: found.append(bare.seconds(block)), block)
    stage = training.Stage(
        steps=block * (settings.blocks + 1),
        batches=training.Feed(
            frames.loader(), starts, batch_size=settings.batch, seed=0
        ),
        optimizer=make_optimizer(),
    )
    loop_settings = training.LoopConfig(log_every=block, ema=settings.ema)
    training.Trainer(objective, [stage], loop_settings, observers=[loop]).run()
    # The first block is that of the compilation.
    ratios = np.array(loop.seconds[1:]) / np.array(found[1:])
    return {
        "bare_seconds": float(np.median(found[1:])),
        "loop_seconds": float(np.median(loop.seconds[1:])),
        "overhead": float(np.median(ratios) - 1),
        "data_wait": float(np.median(loop.waits[1:])),
    }


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in _DEFAULTS.items():
        parser.add_argument(name, type=type(default), default=default)
    parser.add_argument("--json", help="file for the numbers")
    settings = parser.parse_args()
    found = measure(settings)
    print(f"bare step      {1000 * found['bare_seconds']:8.1f} ms")
    print(f"training loop  {1000 * found['loop_seconds']:8.1f} ms")
    print(f"overhead       {100 * found['overhead']:8.1f} %")
    print(f"data wait      {100 * found['data_wait']:8.1f} %")
    if settings.json:
        pathlib.Path(settings.json).write_text(json.dumps(found), encoding="utf8")


if __name__ == "__main__":
    main()
