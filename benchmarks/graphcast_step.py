"""Seconds and memory of one GraphCast step, beside the published code.

    python benchmarks/graphcast_step.py [--config 1deg] [--reference DIR]

`prepared` computes what depends on weights only once, as `rollout.Forecaster` does.
`plain` is the published way of calling: jit of the transformed predictor. `unfolded` is
our network written out without folding. `reference` is the published package (version
0.2) in the folder DIR, with the interpreter of `--reference-python` where it needs
another. All have random weights and inputs and run alternately, so that a busy machine
slows each alike: compare the ratios. `CPU s` is processor time, which other programs
disturb less. Memory is what the process adds after imports, data and weights; on an
accelerator its peak is shown as well.
"""

import argparse
import importlib
import json
import math
import os
import pathlib
import resource
import subprocess
import sys
import time
from typing import Any

import numpy as np

# Grid spacing, mesh refinements, latent channels, message steps, pressure levels.
CONFIGS = {
    "10deg": (10.0, 3, 128, 8, 13),
    "2deg": (2.0, 4, 256, 16, 13),
    "1deg": (1.0, 5, 512, 16, 13),
    "0.25deg": (0.25, 6, 512, 16, 37),
}
VARIANTS = ("prepared", "plain", "unfolded")


def main() -> None:
    """Starts one process for each variant, lets them take turns, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", choices=CONFIGS, default="1deg")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=VARIANTS[:2])
    parser.add_argument("--steps", type=int, default=5, help="timed steps of each")
    parser.add_argument(
        "--keep-freed",
        action="store_true",
        help="ours keep freed memory between steps, as the command weatherlib does",
    )
    parser.add_argument("--reference", type=pathlib.Path, metavar="DIR")
    parser.add_argument("--reference-python", default=sys.executable, metavar="PATH")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        _serve(options)
        return
    names = list(options.variants) + ["reference"] * bool(options.reference)
    results = {}
    workers = {}
    for name in names:
        workers[name] = _start(name, options)
        results[name] = {"steps": [], **_ask(workers[name], "")}
    for _ in range(options.steps):
        for name in names:
            results[name]["steps"].append(_ask(workers[name], "step\n"))
    for name in names:
        results[name].update(_ask(workers[name], "end\n"))
        workers[name].wait()
    _print_table(results, names[-1])


def _start(name: str, options: argparse.Namespace) -> subprocess.Popen:
    reference = name == "reference"
    command = [options.reference_python if reference else sys.executable, __file__]
    command += ["--worker", name, "--config", options.config, "--dtype", options.dtype]
    if options.keep_freed and not reference:
        command.append("--keep-freed")
    if reference:
        command += ["--reference", str(options.reference)]
    # Memory is shared by the processes, so none may take all of it.
    environment = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    return subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _ask(worker: subprocess.Popen, message: str) -> dict[str, Any]:
    worker.stdin.write(message)
    worker.stdin.flush()
    line = worker.stdout.readline()
    if not line:
        raise SystemExit(f"a worker failed: {' '.join(map(str, worker.args))}")
    return json.loads(line)


def _print_table(results: dict[str, dict[str, Any]], base: str) -> None:
    columns = ("compile s", "s/step", "CPU s", "adds MB", "device MB", "GFLOP")
    print(f"{'':<10}" + "".join(f"{c:>11}" for c in columns) + f"   times {base}")

    def best(name: str, key: str) -> float:
        return min(step[key] for step in results[name]["steps"])

    for name, result in results.items():
        numbers = (
            result["compile"],
            best(name, "seconds"),
            best(name, "cpu"),
            result["added_mb"],
            result["device_mb"],
            result["gflop"],
        )
        ratios = [
            f"{best(base, key) / best(name, key):.2f}x {label}"
            for key, label in (("seconds", "speed"), ("cpu", "CPU"))
        ]
        memory = result["added_mb"] / results[base]["added_mb"]
        print(
            f"{name:<10}"
            + "".join(f"{number:>11.4g}" for number in numbers)
            + f"   {', '.join(ratios)}, {memory:.2f} of memory"
        )


def _serve(options: argparse.Namespace) -> None:
    """Compiles one variant, then runs a step for each line that is read."""
    release = _no_release
    if options.keep_freed:
        from weatherlib import host_memory

        host_memory.keep_freed()
        release = host_memory.release_unused
    step, before = _make_step(options)
    import jax

    started = time.perf_counter()
    traced, arguments = step()
    compiled = traced.lower().compile()
    seconds = time.perf_counter() - started
    release()
    jax.block_until_ready(jax.tree.leaves(compiled(*arguments)))
    release()
    _answer(compile=seconds, gflop=_product_flops(traced.jaxpr) / 1e9)
    for line in sys.stdin:
        if line == "end\n":
            break
        started, processor = time.perf_counter(), time.process_time()
        jax.block_until_ready(jax.tree.leaves(compiled(*arguments)))
        _answer(
            seconds=time.perf_counter() - started,
            cpu=time.process_time() - processor,
        )
    device = jax.local_devices()[0].memory_stats() or {}
    _answer(
        added_mb=_peak_mb() - before,
        device_mb=device.get("peak_bytes_in_use", 0) / 1e6,
    )


def _no_release() -> None:
    pass


def _product_flops(jaxpr: Any) -> float:
    """Returns the operations of all products of matrices, those in loops each time.

    XLA's own count takes the body of a loop once.
    """
    total = 0.0
    for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        if equation.primitive.name == "dot_general":
            contracted = equation.params["dimension_numbers"][0][0]
            left = equation.invars[0].aval.shape
            size = math.prod(equation.outvars[0].aval.shape)
            total += 2 * size * math.prod(left[axis] for axis in contracted)
        times = equation.params.get("length", 1)
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple) else (value,):
                if hasattr(getattr(inner, "jaxpr", inner), "eqns"):
                    total += times * _product_flops(inner)
    return total


def _answer(**values: float) -> None:
    print(json.dumps(values), flush=True)


def _peak_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3


def _make_step(options: argparse.Namespace) -> tuple[Any, float]:
    """Returns what compiles a variant, and the memory in use before it does."""
    package = "weatherlib"
    if options.worker == "reference":
        sys.path.insert(0, str(options.reference))
        package = "graphcast"
    graphcast = importlib.import_module(f"{package}.graphcast")
    casting = importlib.import_module(f"{package}.casting")
    import haiku as hk
    import jax

    spacing, mesh, latent, steps, levels = CONFIGS[options.config]
    config = graphcast.ModelConfig(
        resolution=spacing,
        mesh_size=mesh,
        latent_size=latent,
        gnn_msg_steps=steps,
        hidden_layers=1,
        radius_query_fraction_edge_length=0.6,
    )
    task = graphcast.TASK if levels == 37 else graphcast.TASK_13
    data = _make_data(graphcast, task, spacing)

    def run(*data: Any) -> Any:
        predictor = graphcast.GraphCast(config, task)
        predictor = casting.Bfloat16Cast(predictor, options.dtype == "bfloat16")
        return predictor(*data)

    forward = hk.without_apply_rng(hk.transform(run))
    shapes = jax.eval_shape(forward.init, jax.random.PRNGKey(0), *data)
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda s: jax.device_put(
            (rng.standard_normal(s.shape) / s.shape[0] ** 0.5).astype(s.dtype)
        ),
        shapes,
    )
    data = jax.device_put(data)
    before = _peak_mb()
    if options.worker == "prepared":
        return lambda: _prepared(forward, params, data), before
    if options.worker == "unfolded":
        return lambda: _unfolded(config, options.dtype, params, data), before
    arguments = (params, *data)
    return lambda: (jax.jit(forward.apply).trace(*arguments), arguments), before


def _prepared(forward: Any, params: Any, data: Any) -> tuple[Any, tuple]:
    import jax

    from weatherlib.nn import prepared

    @jax.jit
    def prepare(params: Any, *data: Any) -> Any:
        with prepared.record() as parts:
            forward.apply(params, *data)
        return parts

    @jax.jit
    def step(params: Any, parts: Any, *data: Any) -> Any:
        with prepared.use(parts):
            return forward.apply(params, *data)

    arguments = (params, prepare(params, *data), *data)
    return step.trace(*arguments), arguments


def _unfolded(config: Any, dtype: str, params: Any, data: Any) -> tuple[Any, tuple]:
    import jax

    sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
    from benchmarks.unfolded_graphcast import UnfoldedGraphCast
    from weatherlib import stacking
    from weatherlib.geometry import graph

    inputs, template, forcings = data
    sizes = {dim: inputs.sizes[dim] for dim in ("batch", "lat", "lon")}
    geometry = graph.build_graph(
        inputs["lat"].values,
        inputs["lon"].values,
        mesh_size=config.mesh_size,
        radius_query_fraction_edge_length=config.radius_query_fraction_edge_length,
    )

    @jax.jit
    def step(params: Any, *data: Any) -> Any:
        low = jax.tree.map(lambda p: p.astype(dtype), params)
        network = UnfoldedGraphCast(low, geometry, 1, config.gnn_msg_steps)
        channels = stacking.stack((data[0], data[2]), sizes).astype(dtype)
        return stacking.unstack(network(channels).astype("float32"), data[1], sizes)

    arguments = (params, inputs, template, forcings)
    return step.trace(*arguments), arguments


def _make_data(graphcast: Any, task: Any, spacing: float) -> tuple[Any, ...]:
    """Returns inputs, targets and forcings of standard normal numbers."""
    import xarray

    rng = np.random.default_rng(0)
    lat = np.linspace(-90, 90, round(180 / spacing) + 1, dtype=np.float32)
    lon = np.arange(0, 360, spacing, dtype=np.float32)

    def make(names: Any, times: int) -> xarray.Dataset:
        variables = {}
        for name in names:
            sizes = {"batch": 1, "time": times}
            if name in graphcast.ALL_ATMOSPHERIC_VARS:
                sizes["level"] = len(task.pressure_levels)
            if name in graphcast.STATIC_VARS:
                sizes = {}
            sizes |= {"lat": len(lat), "lon": len(lon)}
            values = rng.standard_normal(list(sizes.values()), dtype=np.float32)
            variables[name] = (tuple(sizes), values)
        hours = (6 * np.arange(times)).astype("timedelta64[h]")
        coords = {"time": hours.astype("timedelta64[ns]"), "lat": lat, "lon": lon}
        return xarray.Dataset(
            variables, {**coords, "level": list(task.pressure_levels)}
        )

    return (
        make(task.input_variables, 2),
        make(task.target_variables, 1),
        make(task.forcing_variables, 1),
    )


if __name__ == "__main__":
    main()
