"""Speed and memory of long forecasts, beside a plain loop over the same model.

    python benchmarks/rollout.py [--resolution 6] [--latent 64] [--steps 10 40 200]

Each case runs in a process of its own: a GraphCast of random weights on random fields,
written to a file. `forecaster` is `Forecaster.run`. `plain` is what the published
notebook does: `chunked_prediction` of the jitted autoregressive predictor, then one
file. Columns: seconds to compile, steps per second after that, and the memory that the
forecast adds to the process at its peak. The last lines give ratios at equal length,
and how much memory grows from the shortest forecast to the longest.
"""

import argparse
import dataclasses
import json
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np

STEP = np.timedelta64(6, "h")


@dataclasses.dataclass(frozen=True)
class Case:
    """One forecast: which engine, how long, and of what model."""

    engine: str
    steps: int
    resolution: float
    latent: int
    mesh: int
    messages: int


def main() -> None:
    """Runs every case and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, nargs="+", default=[10, 40, 200])
    parser.add_argument("--resolution", type=float, default=6.0, help="degrees")
    parser.add_argument("--latent", type=int, default=64)
    parser.add_argument("--mesh", type=int, default=3)
    parser.add_argument("--messages", type=int, default=8)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(run(Case(**json.loads(options.case)))))
        return
    print(f"{'engine':<12}{'steps':>6}{'compile':>10}{'steps/s':>10}{'adds MiB':>10}")
    results = {}
    for engine in ("plain", "forecaster"):
        for steps in sorted(options.steps):
            case = Case(
                engine,
                steps,
                options.resolution,
                options.latent,
                options.mesh,
                options.messages,
            )
            found = results[engine, steps] = in_process(case)
            print(
                f"{engine:<12}{steps:>6}{found['compile']:>9.1f}s"
                f"{found['rate']:>10.2f}{found['added']:>10.0f}"
            )
    for steps in sorted(options.steps):
        plain, ours = results["plain", steps], results["forecaster", steps]
        print(
            f"{steps} steps: {ours['rate'] / plain['rate']:.2f} times as fast, "
            f"{ours['added'] / plain['added']:.2f} of the added memory"
        )
    for engine in ("plain", "forecaster"):
        first, last = (
            results[engine, steps]["added"]
            for steps in (min(options.steps), max(options.steps))
        )
        print(f"{engine}: memory grows by {last - first:.0f} MiB")


def in_process(case: Case) -> dict[str, float]:
    """Returns the result of a case run in a fresh process."""
    command = [sys.executable, __file__, "--case", json.dumps(dataclasses.asdict(case))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def run(case: Case) -> dict[str, float]:
    """Runs one case in this process."""
    import jax

    jax.block_until_ready(jax.numpy.zeros(1) + 1)
    problem = make_problem(case)
    engine = {"plain": run_plain, "forecaster": run_forecaster}[case.engine]
    with tempfile.TemporaryDirectory() as folder:
        before = peak_mib()
        compiled, seconds = engine(case, problem, pathlib.Path(folder))
        added = peak_mib() - before
    return {"compile": compiled, "rate": case.steps / seconds, "added": added}


def run_forecaster(
    case: Case, problem: dict, folder: pathlib.Path
) -> tuple[float, float]:
    """Returns seconds to compile, and seconds of a forecast with `Forecaster.run`."""
    from weatherlib import rollout
    from weatherlib.data import writers

    forecaster = rollout.Forecaster(
        problem["make_predictor"], problem["params"], task=problem["task"]
    )
    with writers.open_writer(folder / "forecast.nc") as writer:
        summary = forecaster.run(
            problem["initial"], writer, steps=case.steps, guard=None
        )
    return summary.compile_seconds, summary.seconds - summary.compile_seconds


def run_plain(case: Case, problem: dict, folder: pathlib.Path) -> tuple[float, float]:
    """Returns seconds to compile, and seconds of a forecast in the published style."""
    import haiku as hk
    import jax
    import xarray

    from weatherlib import autoregressive, data_utils, xarray_jax

    def forward(
        inputs: xarray.Dataset,
        targets_template: xarray.Dataset,
        forcings: xarray.Dataset,
    ) -> xarray.Dataset:
        predictor = autoregressive.Predictor(problem["make_predictor"]())
        return predictor(inputs, targets_template, forcings)

    apply = jax.jit(hk.transform(forward).apply)

    def predict(rng: jax.Array, **data: xarray.Dataset) -> xarray.Dataset:
        return apply(problem["params"], rng, **data)

    task, initial = problem["task"], problem["initial"]
    inputs = data_utils.split_initial(initial, task)
    template = data_utils.targets_template(initial, task, case.steps)
    forcings = data_utils.forcings(initial, task, case.steps)
    key = jax.random.PRNGKey(0)
    began = time.perf_counter()
    one = {
        "targets_template": template.isel(time=[0]).compute(),
        "forcings": forcings.isel(time=[0]).compute(),
    }
    found = predict(key, inputs=inputs, **one)
    jax.block_until_ready(xarray_jax.unwrap_vars(found))
    compiled = time.perf_counter()
    chunks = []
    state = inputs
    for step in range(case.steps):
        frame = {"time": template.time[:1]}
        data = {
            name: dataset.isel(time=[step]).assign_coords(frame).compute()
            for name, dataset in (
                ("targets_template", template),
                ("forcings", forcings),
            )
        }
        key, this_key = jax.random.split(key)
        found = predict(this_key, inputs=state, **data)
        newest = xarray.merge([found, data["forcings"]])
        names = [name for name in state if "time" in state[name].dims]
        moved = xarray.concat(
            [state[names], newest[names]],
            "time",
            data_vars="all",
            coords="minimal",
            compat="override",
        )
        moved = moved.isel(time=slice(-inputs.sizes["time"], None))
        state = state.assign(
            {name: (moved[name].dims, moved[name].data) for name in names}
        )
        chunk = jax.device_get(found.assign_coords(time=template.time[[step]]))
        chunks.append(chunk)
    forecast = xarray.concat(
        chunks, "time", data_vars="all", coords="minimal", compat="override"
    )
    forecast.to_netcdf(folder / "forecast.nc", engine="netcdf4")
    return compiled - began, time.perf_counter() - compiled


def make_problem(case: Case) -> dict:
    """Returns a model of random weights, its statistics and two random frames."""
    import haiku as hk
    import jax
    import xarray

    from weatherlib import data_utils, graphcast, normalization, variables

    task = graphcast.TASK_13
    config = graphcast.ModelConfig(
        resolution=0,
        mesh_size=case.mesh,
        latent_size=case.latent,
        gnn_msg_steps=case.messages,
        hidden_layers=1,
        radius_query_fraction_edge_length=0.6,
    )
    rows, columns = round(180 / case.resolution) + 1, round(360 / case.resolution)
    coords = {
        "time": STEP * np.arange(-1, 1),
        "datetime": (
            ("batch", "time"),
            np.array([["2022-01-01T00", "2022-01-01T06"]], "M8[ns]"),
        ),
        "level": np.array(task.pressure_levels, np.int32),
        "lat": np.linspace(-90, 90, rows, dtype=np.float32),
        "lon": (360 / columns * np.arange(columns)).astype(np.float32),
    }
    shape = {
        "batch": 1,
        "time": 2,
        "level": len(task.pressure_levels),
        "lat": rows,
        "lon": columns,
    }
    dims = {
        "surface": ("batch", "time", "lat", "lon"),
        "static": ("lat", "lon"),
        "atmospheric": tuple(shape),
    }
    random = np.random.default_rng(0)
    initial, ones = xarray.Dataset(coords=coords), xarray.Dataset()
    for name in task.input_variables:
        kind = variables.get(name).kind
        if kind == "forcing":
            continue
        size = [shape[dim] for dim in dims[kind]]
        initial[name] = dims[kind], random.normal(size=size).astype(np.float32)
    for name in {*task.input_variables, *task.target_variables}:
        ones[name] = (
            xarray.ones_like(initial[name].isel(time=0, batch=0, lat=0, lon=0))
            if "level" in getattr(initial.get(name), "dims", ())
            else 1.0
        )

    def make_predictor() -> normalization.InputsAndResiduals:
        model = graphcast.GraphCast(config, task)
        return normalization.InputsAndResiduals(model, ones, ones * 0, ones * 1e-3)

    def forward(*data: xarray.Dataset) -> xarray.Dataset:
        return make_predictor()(*data)

    data = (
        data_utils.split_initial(initial, task),
        data_utils.targets_template(initial, task, 1).compute(),
        data_utils.forcings(initial, task, 1).compute(),
    )
    params = jax.jit(hk.transform(forward).init)(jax.random.PRNGKey(0), *data)
    return {
        "make_predictor": make_predictor,
        "params": params,
        "task": task,
        "initial": initial,
    }


def peak_mib() -> float:
    """Returns the largest memory this process has had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


if __name__ == "__main__":
    main()
