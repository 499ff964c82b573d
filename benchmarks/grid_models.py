"""Seconds and memory of the models on grids, beside plain PyTorch.

    python benchmarks/grid_models.py --torch-python PATH [--models convlstm ...]

A forward pass and a training step of each network, beside the same one written with
the layers of PyTorch (`plain_grid_models.py`). Both have the same weights, frames and
targets, each runs in a process of its own, and they take turns, so that a busy machine
slows both alike: compare the ratios. The largest difference of outputs, and of the
losses of the steps, is printed too. A training step is the mean squared error, its
gradient and an update of AdamW, without dropout; batch norms use the statistics of the
batch. Memory is the peak of what the process adds to weights and data.

The default is the task of the published models, 12 frames in and 4 out of 32 x 64
points, with five channels and a batch of 16. PyTorch is no dependency: it is taken from
the interpreter of `--torch-python`, which needs nothing but torch and numpy, and
without it only our networks are timed.
"""

import argparse
import dataclasses
import functools
import os
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

# A script finds only what lies beside it.
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from benchmarks import turns
from benchmarks.plain_task import Task

KINDS = ("forward", "train")
_RATE, _DECAY, _BETAS = 1e-3, 0.01, (0.9, 0.999)


def main() -> None:
    """Starts the processes, lets them take turns, prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", metavar="NAME", help="default: all")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, help="cores of each; default: all")
    for field in dataclasses.fields(Task):
        default = 5 if field.name == "channels" else field.default
        name = f"--{field.name.replace('_', '-')}"
        parser.add_argument(name, type=int, default=default)
    turns.add_options(parser)
    options = parser.parse_args()
    if options.worker:
        makers = {"weatherlib": _our_step, "torch": _torch_step}
        turns.serve(options.worker, makers)
        return
    from weatherlib.weights import grid_models

    known = list(grid_models.FAMILIES)
    chosen = options.models or known
    if unknown := set(chosen) - set(known):
        parser.error(f"no model {sorted(unknown)}; there are {', '.join(known)}")
    task = {f.name: getattr(options, f.name) for f in dataclasses.fields(Task)}
    cores = options.threads or len(os.sched_getaffinity(0))
    print(f"{task}, batch {options.batch}, {cores} core(s)")
    print(turns.HEAD)
    found = {}
    for model in chosen:
        for kind in options.kinds:
            job = _job(model, task, kind, options)
            label = f"{model} {kind}"
            found[label] = turns.compare("benchmarks.grid_models", job, label, options)
    _summarise(found)


def _summarise(found: dict[str, dict[str, float]]) -> None:
    """Prints the ratios once more, as a table for a page."""
    print("\n| model, step | speed | processor time | memory |\n|---|---|---|---|")
    for label, ratios in found.items():
        if ratios:
            speed, cpu, memory = (ratios[k] for k in ("speed", "cpu", "memory"))
            print(f"| {label} | {speed:.2f}x | {cpu:.2f}x | {memory:.2f} |")


def _config(job: dict[str, Any]) -> Any:
    """Returns the configuration of a network, without dropout."""
    from weatherlib.baselines import registry

    kind = registry.find(job["model"]).config_class
    fields = {field.name for field in dataclasses.fields(kind)}
    task = job["task"]
    wanted = {
        "input_length": task["input_length"],
        "output_length": task["output_length"],
        "dropout": 0.0,
    }
    return kind(**{name: v for name, v in wanted.items() if name in fields})


def _name_map(job: dict[str, Any]) -> Any:
    from weatherlib.weights import grid_models

    task = job["task"]
    return grid_models.map_of(
        _config(job), task["channels"], (task["rows"], task["columns"])
    )


def _job(
    model: str, task: dict[str, int], kind: str, options: argparse.Namespace
) -> dict[str, Any]:
    """Returns what a worker needs to know, as JSON holds it."""
    job = {"model": model, "task": task, "kind": kind, "batch": options.batch}
    job |= {"threads": options.threads}
    return {**job, "weights": _name_map(job).source_shapes}


def _weights(job: dict[str, Any]) -> dict[str, np.ndarray]:
    """Returns random weights under the names of PyTorch, alike in each process."""
    rng = np.random.default_rng(0)
    found = {}
    for name, shape in job["weights"].items():
        values = rng.standard_normal(shape, np.float32)
        if name.endswith("running_var"):
            found[name] = np.ones_like(values)
        elif len(shape) > 1:
            found[name] = values / np.float32(np.sqrt(np.prod(shape[1:])))
        else:
            # Of the vectors, only the scales of norms are weights.
            found[name] = np.float32(0.02) * values + np.float32(name[-6:] == "weight")
    return found


def _data(job: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Returns frames and targets, shape [batch, time, channel, lat, lon]."""
    rng = np.random.default_rng(1)
    task = Task(**job["task"])
    shape = (task.channels, task.rows, task.columns)
    lengths = (task.input_length, task.output_length)
    frames, targets = (
        rng.standard_normal((job["batch"], length, *shape), np.float32)
        for length in lengths
    )
    return frames, targets


def _our_step(job: dict[str, Any]) -> Callable[[], Callable[[], Any]]:
    """Returns what compiles our step; weights and data are on the device by then."""
    import haiku as hk
    import jax
    import jax.numpy as jnp

    from weatherlib.baselines import fields, registry
    from weatherlib.nn import edges

    config, task = _config(job), Task(**job["task"])
    model = registry.find(job["model"])
    params = _name_map(job).to_params(_weights(job))

    def run(frames: Any, is_training: bool) -> Any:
        empty = (frames.shape[0], task.output_length, task.rows, task.columns, 0)
        known = jnp.zeros(empty, frames.dtype)
        seen = fields.Fields(frames=frames, known=known, static=known[:, 0])
        network = model.make_network(config)
        return network(seen, edges.ZERO, task.channels, is_training=is_training)

    apply = hk.transform(run).apply
    frames, targets = (np.moveaxis(array, 2, -1).copy() for array in _data(job))
    params, frames, targets = jax.device_put((params, frames, targets))
    if job["kind"] == "train":
        # Only the list may keep parameters that are given away.
        held = [params]
        del params
        return _our_training(apply, held, frames, targets)

    def forward() -> Callable[[], Any]:
        call = jax.jit(lambda params, frames: apply(params, None, frames, False))
        compiled = call.lower(params, frames).compile()

        def step() -> np.ndarray:
            return np.moveaxis(np.asarray(compiled(params, frames)), -1, 2)

        return step

    return forward


def _our_training(
    apply: Any, held: list[Any], frames: Any, targets: Any
) -> Callable[[], Callable[[], Any]]:
    import jax
    import optax

    optimizer = optax.adamw(_RATE, *_BETAS, weight_decay=_DECAY)
    held.append(optimizer.init(held[0]))
    key = jax.random.PRNGKey(0)

    def loss(params: Any, frames: Any, targets: Any) -> Any:
        return ((apply(params, key, frames, True) - targets) ** 2).mean()

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def update(params: Any, moments: Any, frames: Any, targets: Any) -> Any:
        value, gradient = jax.value_and_grad(loss)(params, frames, targets)
        changes, moments = optimizer.update(gradient, moments, params)
        return optax.apply_updates(params, changes), moments, value

    def train() -> Callable[[], Any]:
        compiled = update.lower(*held, frames, targets).compile()

        def step() -> float:
            held[0], held[1], value = compiled(*held, frames, targets)
            jax.block_until_ready(held)
            return float(value)

        return step

    return train


def _torch_step(job: dict[str, Any]) -> Callable[[], Callable[[], Any]]:
    """Returns what makes the step of the PyTorch network."""
    import torch
    from torch.nn import functional

    from benchmarks import plain_grid_models

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    model = plain_grid_models.make(job["model"], Task(**job["task"]))
    for layer in model.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0
        elif hasattr(layer, "dropout") and isinstance(layer.dropout, float):
            layer.dropout = 0.0
    weights = {name: torch.from_numpy(w) for name, w in _weights(job).items()}
    left = model.load_state_dict(weights, strict=False)
    computed = (".pe", "num_batches_tracked")
    if left.unexpected_keys or any(not n.endswith(computed) for n in left.missing_keys):
        raise SystemExit(f"{job['model']}: weights do not fit: {left}")
    del weights
    frames, targets = map(torch.from_numpy, _data(job))

    def forward() -> Callable[[], Any]:
        def step() -> np.ndarray:
            with torch.inference_mode():
                return model(frames).numpy()

        return step

    def train() -> Callable[[], Any]:
        model.train()
        optimizer = torch.optim.AdamW(
            model.parameters(), _RATE, betas=_BETAS, weight_decay=_DECAY
        )

        def step() -> float:
            optimizer.zero_grad()
            loss = functional.mse_loss(model(frames), targets)
            loss.backward()
            optimizer.step()
            return float(loss.detach())

        return step

    return forward if job["kind"] == "forward" else train


if __name__ == "__main__":
    main()
