"""Seconds and memory of a ClimaX forward pass and training step, beside plain PyTorch.

    python benchmarks/climax.py [--config 5.625deg] [--torch-python PATH]
    python benchmarks/climax.py --memory

The PyTorch network of `plain_climax.py` is written out the published way: a convolution
for each variable, tokens of all variables, attention over them, and blocks with the
attention that PyTorch has built in. Both have the same weights and inputs, each runs in
a process of its own, and they take turns, so that a busy machine slows both alike:
compare the ratios. The largest difference of outputs and losses is printed too. A
training step is the latitude-weighted loss over all variables, its gradient and an
update of AdamW, without dropout. Memory is the peak of what the process adds to weights
and data.

PyTorch is no dependency: it is taken from the interpreter of `--torch-python`, which
needs nothing but torch and numpy, and without it only our network is timed. `--memory`
prints what the compiler reserves for a gradient at 1.40625 degrees, with and without
computing the inside of blocks again.
"""

import argparse
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

CONFIGS = ("small", "5.625deg", "1.40625deg")
KINDS = ("forward", "train")
_RATE, _DECAY, _BETAS = 5e-4, 1e-5, (0.9, 0.99)
_LEAD = 72.0


def main() -> None:
    """Starts the processes, lets them take turns, prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", choices=CONFIGS, default="5.625deg")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--memory", action="store_true", help="memory at 1.40625 deg")
    turns.add_options(parser)
    options = parser.parse_args()
    if options.worker:
        turns.serve(options.worker, {"weatherlib": _our_step, "torch": _torch_step})
        return
    if options.memory:
        _print_memory()
        return
    print(f"{options.config}, {len(os.sched_getaffinity(0))} core(s)")
    print(turns.HEAD)
    for kind in options.kinds:
        for batch in options.batch:
            job = {**_job(options.config), "kind": kind, "batch": batch}
            turns.compare("benchmarks.climax", job, f"{kind} batch {batch}", options)


def _sizes(name: str) -> Any:
    from weatherlib import climax

    if name == "small":
        return climax.ClimaXConfig(embed_dim=128, depth=2, num_heads=4)
    return climax.PUBLISHED_CONFIGS[name]


def _job(config: str) -> dict[str, Any]:
    """Returns sizes, and published names and shapes of weights, as JSON holds them."""
    from weatherlib.climax import parameters

    sizes = _sizes(config)
    rows, columns = sizes.img_size
    half = 90 / rows
    entries = parameters.name_map(sizes)
    return {
        "config": config,
        "variables": len(sizes.default_vars),
        "grid": [rows, columns],
        "lat": np.linspace(half - 90, 90 - half, rows).tolist(),
        "patch": sizes.patch_size,
        "width": sizes.embed_dim,
        "depth": sizes.depth,
        "layers": sizes.decoder_depth,
        "heads": sizes.num_heads,
        "hidden": int(sizes.embed_dim * sizes.mlp_ratio),
        "weights": {entry.source: entry.source_shape for entry in entries},
    }


def _weights(job: dict[str, Any]) -> dict[str, np.ndarray]:
    """Returns random weights under their published names, the same in each process."""
    rng = np.random.default_rng(0)
    found = {}
    for name, shape in job["weights"].items():
        values = rng.standard_normal(shape, np.float32)
        scale = 0.5 / np.sqrt(np.prod(shape[1:])) if len(shape) > 1 else 0.02
        is_norm = "norm" in name and name.endswith("weight")
        found[name] = values * np.float32(scale) + np.float32(is_norm)
    return found


def _data(job: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns inputs, targets and weights of rows."""
    rng = np.random.default_rng(1)
    shape = (job["batch"], job["variables"], *job["grid"])
    rows = np.cos(np.deg2rad(job["lat"]))
    rows = (rows / rows.mean()).astype(np.float32)[:, np.newaxis]
    inputs, targets = (rng.standard_normal(shape, np.float32) for _ in range(2))
    return inputs, targets, rows


def _network(sizes: Any, remat: bool = False) -> Any:
    """Returns our network as a function of parameters, fields and hours."""
    import haiku as hk

    from weatherlib.climax import network

    every = tuple(range(len(sizes.default_vars)))

    def run(fields: Any, hours: Any) -> Any:
        module = network.ClimaXNetwork(sizes, remat=remat)
        return module(fields[:, None], hours, every, every).fields

    return hk.without_apply_rng(hk.transform(run)).apply


def _our_step(job: dict[str, Any]) -> Callable[[], Callable[[], Any]]:
    """Returns what compiles our step; weights and data are on the device by then."""
    import jax

    from weatherlib.climax import parameters

    sizes = _sizes(job["config"])
    params: dict[str, Any] = {
        module: {name: np.empty(shape, np.float32) for name, shape in part.items()}
        for module, part in parameters.parameter_shapes(sizes).items()
    }
    given = _weights(job)
    for entry in parameters.name_map(sizes):
        values = parameters.from_published(entry.kind, given.pop(entry.source))
        place = slice(None) if entry.index is None else entry.index
        params[entry.module][entry.name][place] = values
    apply = _network(sizes)
    hours = np.full(job["batch"], _LEAD, np.float32)
    params, inputs, targets, rows, hours = jax.device_put((params, *_data(job), hours))
    if job["kind"] == "train":
        # Only the list may keep parameters that are given away.
        held = [params]
        del params
        return _our_training(apply, held, hours, (inputs, targets), rows)

    def forward() -> Callable[[], Any]:
        compiled = jax.jit(apply).lower(params, inputs, hours).compile()
        return lambda: np.asarray(compiled(params, inputs, hours))

    return forward


def _our_training(
    apply: Any, held: list[Any], hours: Any, data: tuple[Any, Any], rows: Any
) -> Callable[[], Callable[[], Any]]:
    import jax
    import optax

    optimizer = optax.adamw(_RATE, *_BETAS, weight_decay=_DECAY)
    held.append(optimizer.init(held[0]))

    def loss(params: Any, inputs: Any, targets: Any) -> Any:
        return ((apply(params, inputs, hours) - targets) ** 2 * rows).mean()

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def update(params: Any, moments: Any, inputs: Any, targets: Any) -> Any:
        value, gradient = jax.value_and_grad(loss)(params, inputs, targets)
        changes, moments = optimizer.update(gradient, moments, params)
        return optax.apply_updates(params, changes), moments, value

    return turns.our_training(update, held, data)


def _torch_step(job: dict[str, Any]) -> Callable[[], Callable[[], Any]]:
    """Returns what makes the step of the PyTorch network."""
    import torch

    from benchmarks import plain_climax

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    model = plain_climax.make(job)
    weights = {name: torch.from_numpy(w) for name, w in _weights(job).items()}
    model.load_state_dict(weights, strict=True)
    del weights
    inputs, targets, rows = map(torch.from_numpy, _data(job))
    hours = torch.full((job["batch"],), _LEAD)

    def forward() -> Callable[[], Any]:
        def step() -> np.ndarray:
            with torch.inference_mode():
                return model(inputs, hours).numpy()

        return step

    def train() -> Callable[[], Any]:
        optimizer = torch.optim.AdamW(
            model.parameters(), _RATE, betas=_BETAS, weight_decay=_DECAY
        )

        def step() -> float:
            optimizer.zero_grad()
            loss = ((model(inputs, hours) - targets) ** 2 * rows).mean()
            loss.backward()
            optimizer.step()
            return float(loss.detach())

        return step

    return forward if job["kind"] == "forward" else train


def _print_memory() -> None:
    """Prints the memory of one gradient at 1.40625 degrees; computes none."""
    import jax

    from weatherlib.climax import parameters

    sizes = _sizes("1.40625deg")
    params = {
        module: {n: jax.ShapeDtypeStruct(s, np.float32) for n, s in part.items()}
        for module, part in parameters.parameter_shapes(sizes).items()
    }
    shape = (1, len(sizes.default_vars), *sizes.img_size)
    fields = jax.ShapeDtypeStruct(shape, np.float32)
    hours = jax.ShapeDtypeStruct((1,), np.float32)
    for remat in (False, True):
        apply = _network(sizes, remat)

        def loss(params: Any, fields: Any, hours: Any, apply: Any = apply) -> Any:
            return (apply(params, fields, hours) ** 2).mean()

        for name, function in (("forward", apply), ("gradient", jax.grad(loss))):
            if remat and name == "forward":
                continue
            compiled = jax.jit(function).lower(params, fields, hours).compile()
            used = compiled.memory_analysis()
            label = f"{name}{', remat' if remat else ''}"
            print(
                f"{label:<18} works in {used.temp_size_in_bytes / 2**30:.2f} GiB, "
                f"arguments {used.argument_size_in_bytes / 2**30:.2f} GiB, "
                f"results {used.output_size_in_bytes / 2**30:.2f} GiB"
            )


if __name__ == "__main__":
    main()
