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
import contextlib
import functools
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

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
    parser.add_argument("--steps", type=int, default=5, help="timed steps of each")
    parser.add_argument("--torch-python", default=sys.executable, metavar="PATH")
    parser.add_argument("--memory", action="store_true", help="memory at 1.40625 deg")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        _serve(json.loads(options.worker))
        return
    if options.memory:
        _print_memory()
        return
    names = ["weatherlib"]
    if _has_torch(options.torch_python):
        names.append("torch")
    else:
        print(f"no torch in {options.torch_python}: only weatherlib is timed")
    print(f"{options.config}, {len(os.sched_getaffinity(0))} core(s)")
    head = ("compile s", "s/step", "CPU s", "adds MB")
    print(f"{'':<26}" + "".join(f"{c:>11}" for c in head))
    for kind in options.kinds:
        for batch in options.batch:
            _compare(options, names, kind, batch)


def _has_torch(python: str) -> bool:
    found = subprocess.run(
        [python, "-c", "import torch"], capture_output=True, check=False
    )
    return found.returncode == 0


def _compare(
    options: argparse.Namespace, names: list[str], kind: str, batch: int
) -> None:
    """Times one kind of step at one batch size and prints a line for each network."""
    with tempfile.TemporaryDirectory() as folder:
        workers, results = {}, {}
        for name in names:
            job = {**_job(options.config), "kind": kind, "batch": batch, "name": name}
            job["output"] = str(pathlib.Path(folder, f"{name}.npy"))
            python = options.torch_python if name == "torch" else sys.executable
            workers[name] = _start(python, job)
            results[name] = {"steps": [], **_ask(workers[name], "")}
        for _ in range(options.steps):
            for name in names:
                results[name]["steps"].append(_ask(workers[name], "step\n"))
        for name in names:
            results[name].update(_ask(workers[name], "end\n"))
            workers[name].wait()
        outputs = [np.load(pathlib.Path(folder, f"{name}.npy")) for name in names]
    _print(results, names, f"{kind} batch {batch}", outputs)


def _print(
    results: dict[str, Any], names: list[str], label: str, outputs: list[np.ndarray]
) -> None:
    best = {
        name: [min(step[key] for step in results[name]["steps"])
               for key in ("seconds", "cpu")]
        for name in names
    }  # fmt: skip
    for name in names:
        numbers = (results[name]["compile"], *best[name], results[name]["added_mb"])
        print(f"{label + ' ' + name:<26}" + "".join(f"{n:>11.4g}" for n in numbers))
    if len(names) == 2:
        ours, other = names
        speed = [b / a for a, b in zip(best[ours], best[other])]
        memory = results[ours]["added_mb"] / results[other]["added_mb"]
        scale = np.abs(outputs[1]).max()
        apart = np.abs(outputs[0] - outputs[1]).max() / scale
        what = "outputs" if outputs[0].ndim > 1 else "losses of steps"
        print(
            f"{'':<26}  ours {speed[0]:.2f}x speed, {speed[1]:.2f}x CPU, "
            f"{memory:.2f} of memory; {what} differ by {apart:.1e} of the largest"
        )


def _start(python: str, job: dict[str, Any]) -> subprocess.Popen:
    # As a module: files of this folder must not stand in for those of the language.
    return subprocess.Popen(
        [python, "-m", "benchmarks.climax", "--worker", json.dumps(job)],
        cwd=pathlib.Path(__file__).parents[1],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _ask(worker: subprocess.Popen, message: str) -> dict[str, Any]:
    worker.stdin.write(message)
    worker.stdin.flush()
    line = worker.stdout.readline()
    if not line:
        raise SystemExit("a worker failed")
    return json.loads(line)


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


def _serve(job: dict[str, Any]) -> None:
    """Makes one network ready, then runs a step for each line that is read."""
    make = _torch_step if job["name"] == "torch" else _our_step
    prepare = make(job)
    # Making the weights takes more for a while than keeping them.
    with contextlib.suppress(OSError):
        pathlib.Path("/proc/self/clear_refs").write_text("5", "ascii")
    before = _peak_mb()
    started = time.perf_counter()
    step = prepare()
    seconds = time.perf_counter() - started
    results = [step()]
    _answer(compile=seconds)
    for line in sys.stdin:
        if line == "end\n":
            break
        started, processor = time.perf_counter(), time.process_time()
        result = step()
        seconds = time.perf_counter() - started
        cpu = time.process_time() - processor
        if job["kind"] == "train":
            results.append(result)
        _answer(seconds=seconds, cpu=cpu)
    added = _peak_mb() - before
    is_loss = job["kind"] == "train"
    np.save(job["output"], np.array(results) if is_loss else results[0])
    _answer(added_mb=added)


def _answer(**values: float) -> None:
    print(json.dumps(values), flush=True)


def _peak_mb() -> float:
    with contextlib.suppress(OSError):
        status = pathlib.Path("/proc/self/status").read_text("ascii")
        (line,) = [x for x in status.splitlines() if x.startswith("VmHWM")]
        return float(line.split()[1]) / 1e3
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3


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

    def train() -> Callable[[], Any]:
        compiled = update.lower(*held, *data).compile()

        def step() -> float:
            held[0], held[1], value = compiled(*held, *data)
            jax.block_until_ready(held)
            return float(value)

        return step

    return train


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
