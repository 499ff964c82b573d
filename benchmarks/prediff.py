"""Seconds and memory of the denoiser of PreDiff, beside plain PyTorch.

    python benchmarks/prediff.py --torch-python PATH [--config published]

A forward pass and a training step of the published denoiser (136.8 million parameters,
7 known and 6 noisy latent frames of 16 x 16 x 64) beside the same network written with
the layers of PyTorch (`plain_earthformer.py`). Both have the same weights and frames,
each runs in a process of its own, and they take turns, so that a busy machine slows
both alike: compare the ratios. The largest difference of outputs, and of the losses of
the steps, is printed too. A training step is the mean squared error of the noise, its
gradient and an update of AdamW, without dropout. Memory is the peak of what a process
adds to weights and data: with published sizes, AdamW alone adds 1.1 GB.

PyTorch is no dependency: it is taken from the interpreter of `--torch-python`, which
needs nothing but torch and numpy, and without it only our network is timed. `--dtype
bfloat16` is for accelerators, and times ours alone.
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

CONFIGS = ("small", "published")
KINDS = ("forward", "train")
_RATE, _DECAY, _BETAS = 1e-3, 1e-5, (0.9, 0.999)


def main() -> None:
    """Starts the processes, lets them take turns, prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", choices=CONFIGS, default="published")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--threads", type=int, help="cores of each; default: all")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument(
        "--remat", action="store_true", help="ours computes blocks again"
    )
    turns.add_options(parser)
    options = parser.parse_args()
    if options.worker:
        turns.serve(options.worker, {"weatherlib": _our_step, "torch": _torch_step})
        return
    if options.dtype != "float32":
        options.torch_python = os.devnull
    sizes = _sizes(options.config)
    cores = options.threads or len(os.sched_getaffinity(0))
    job = _job(sizes, options)
    count = sum(int(np.prod(shape)) for shape in job["weights"].values())
    print(f"{options.config}, {count:,} parameters, batch {options.batch}, "
          f"{options.dtype}, {cores} core(s)")  # fmt: skip
    print(turns.HEAD)
    for kind in options.kinds:
        turns.compare("benchmarks.prediff", {**job, "kind": kind}, kind, options)


def _sizes(name: str) -> Any:
    """Returns the configuration of a denoiser, without dropout."""
    from weatherlib.prediff import published

    still = {"attn_drop": 0.0, "proj_drop": 0.0, "ffn_drop": 0.0}
    if name == "published":
        return published.PUBLISHED_UNET.replace(**still)
    return published.PUBLISHED_UNET.replace(
        **still,
        input_shape=(3, 4, 8, 4),
        target_shape=(2, 4, 8, 4),
        base_units=32,
        depth=(1, 2),
    )


def _job(sizes: Any, options: argparse.Namespace) -> dict[str, Any]:
    """Returns what a worker needs to know, as JSON holds it."""
    from weatherlib.weights import prediff_names

    return {
        "config": options.config,
        "batch": options.batch,
        "threads": options.threads,
        "dtype": options.dtype,
        "remat": options.remat,
        "past": sizes.input_shape[0],
        "shape": [sizes.frames, *sizes.input_shape[1:]],
        "units": sizes.units,
        "depth": sizes.depth,
        "heads": sizes.num_heads,
        "step_width": sizes.time_channels,
        "weights": prediff_names.map_of(sizes).source_shapes,
    }


def _weights(job: dict[str, Any]) -> dict[str, np.ndarray]:
    """Returns random weights under their published names, the same in each process."""
    rng = np.random.default_rng(0)
    found = {}
    for name, shape in job["weights"].items():
        values = rng.standard_normal(shape, np.float32)
        is_table = "embed.weight" in name or "bias_table" in name
        if len(shape) > 1 and not is_table:
            found[name] = values * np.float32(0.5 / np.sqrt(np.prod(shape[1:])))
        else:
            # Of the vectors, only the scales of norms are weights.
            is_scale = len(shape) == 1 and name.endswith("weight")
            found[name] = np.float32(0.02) * values + np.float32(is_scale)
    return found


def _data(job: dict[str, Any]) -> tuple[np.ndarray, ...]:
    """Returns noisy frames, steps, context, and the noise that is looked for."""
    rng = np.random.default_rng(1)
    frames, *place = job["shape"]
    batch, past = job["batch"], job["past"]
    noisy, noise = (
        rng.standard_normal((batch, frames - past, *place), np.float32)
        for _ in range(2)
    )
    context = rng.standard_normal((batch, past, *place), np.float32)
    return noisy, np.linspace(10, 900, batch).astype(np.int32), context, noise


def _our_step(job: dict[str, Any]) -> Callable[[], Callable[[], Any]]:
    """Returns what compiles our step; weights and data are on the device by then."""
    import haiku as hk
    import jax

    from weatherlib.prediff import network
    from weatherlib.weights import prediff_names

    sizes = _sizes(job["config"])

    def run(noisy: Any, t: Any, context: Any) -> Any:
        return network.EarthformerUNet(sizes, remat=job["remat"])(noisy, t, context)

    apply = hk.without_apply_rng(hk.transform(run)).apply
    params = prediff_names.map_of(sizes).to_params(_weights(job))
    noisy, t, context, noise = _data(job)
    params, noisy, context, noise = jax.tree.map(
        lambda x: x.astype(job["dtype"]), (params, noisy, context, noise)
    )
    params, noisy, t, context, noise = jax.device_put(
        (params, noisy, t, context, noise)
    )
    if job["kind"] == "train":
        # Only the list may keep parameters that are given away.
        held = [params]
        del params
        return _our_training(apply, held, (noisy, t, context, noise))

    def forward() -> Callable[[], Any]:
        compiled = jax.jit(apply).lower(params, noisy, t, context).compile()

        def step() -> np.ndarray:
            return np.asarray(compiled(params, noisy, t, context), np.float32)

        return step

    return forward


def _our_training(
    apply: Any, held: list[Any], data: tuple[Any, ...]
) -> Callable[[], Callable[[], Any]]:
    import jax
    import optax

    optimizer = optax.adamw(_RATE, *_BETAS, weight_decay=_DECAY)
    held.append(jax.jit(optimizer.init)(held[0]))

    def loss(params: Any, noisy: Any, t: Any, context: Any, noise: Any) -> Any:
        return ((apply(params, noisy, t, context) - noise) ** 2).mean()

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def update(params: Any, moments: Any, *data: Any) -> Any:
        value, gradient = jax.value_and_grad(loss)(params, *data)
        changes, moments = optimizer.update(gradient, moments, params)
        return optax.apply_updates(params, changes), moments, value

    return turns.our_training(update, held, data)


def _torch_step(job: dict[str, Any]) -> Callable[[], Callable[[], Any]]:
    """Returns what makes the step of the PyTorch network."""
    import torch
    from torch.nn import functional

    from benchmarks import plain_earthformer

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    model = plain_earthformer.make(job)
    weights = {name: torch.from_numpy(w) for name, w in _weights(job).items()}
    model.load_state_dict(weights, strict=True)
    del weights
    noisy, t, context, noise = map(torch.from_numpy, _data(job))

    def forward() -> Callable[[], Any]:
        def step() -> np.ndarray:
            with torch.inference_mode():
                return model(noisy, t, context).numpy()

        return step

    def train() -> Callable[[], Any]:
        optimizer = torch.optim.AdamW(
            model.parameters(), _RATE, betas=_BETAS, weight_decay=_DECAY
        )

        def step() -> float:
            optimizer.zero_grad()
            loss = functional.mse_loss(model(noisy, t, context), noise)
            loss.backward()
            optimizer.step()
            return float(loss.detach())

        return step

    return forward if job["kind"] == "forward" else train


if __name__ == "__main__":
    main()
