"""Memory per device of loss and gradient of a GraphCast, for several layouts.

    python benchmarks/sharding.py [--resolution 2] [--mesh 4] [--batch 1]

The program is compiled for virtual CPU devices and not run, and the numbers are the
compiler's: temporary memory on one device, and what each layout leaves of that of a
single device. `traffic` counts the operations that move data between devices.
"""

import argparse
import collections
import math
import os
import re

DEVICES = 8
LAYOUTS = {
    "one device": {"data": 1},
    "space: 2": {"space": 2},
    "space: 4": {"space": 4},
    "space: 8": {"space": 8},
    "data: 8": {"data": 8},
    "data: 2, space: 4": {"data": 2, "space": 4},
}
_TRAFFIC = r" (all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)\("


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--resolution", type=float, default=2.0, help="degrees")
    parser.add_argument("--mesh", type=int, default=4)
    parser.add_argument("--latent", type=int, default=128)
    parser.add_argument("--messages", type=int, default=4)
    parser.add_argument("--batch", type=int, default=1)
    options = parser.parse_args()
    # Read when JAX starts, so before it is imported.
    flag = f"--xla_force_host_platform_device_count={DEVICES}"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}"
    os.environ.setdefault("JAX_PLATFORMS", "cpu")

    single = None
    print(f"{'layout':<20}{'MiB per device':>15}{'of one':>8}  traffic")
    for name, mesh in LAYOUTS.items():
        if options.batch % mesh.get("data", 1):
            continue
        size, traffic = measure(options, mesh, math.prod(mesh.values()))
        single = single or size
        print(
            f"{name:<20}{size / 2**20:>15.0f}{size / single:>8.2f}  {traffic}",
            flush=True,
        )


def measure(
    options: argparse.Namespace, mesh: dict[str, int], devices: int
) -> tuple[int, str]:
    """Returns bytes per device of a layout, and what moves data between devices."""
    import haiku as hk
    import jax

    from weatherlib import graphcast, xarray_jax
    from weatherlib.training import sharding

    config = graphcast.ModelConfig(
        resolution=0,
        mesh_size=options.mesh,
        latent_size=options.latent,
        gnn_msg_steps=options.messages,
        hidden_layers=1,
        radius_query_fraction_edge_length=0.6,
    )
    task = graphcast.TASK_13
    memory = graphcast.MemoryConfig(remat=True)
    transformed = hk.without_apply_rng(
        hk.transform(
            lambda *data: graphcast.GraphCast(config, task, memory=memory).loss(*data)
        )
    )
    layout = sharding.Layout(
        sharding.ShardingConfig(mesh=mesh), devices=jax.devices()[:devices]
    )
    data = fields(options, task)
    params = jax.eval_shape(transformed.init, jax.random.PRNGKey(0), *data)

    def loss(params: dict, leaves: list) -> jax.Array:
        datasets = jax.tree.unflatten(jax.tree.structure(data), leaves)
        value, _ = transformed.apply(params, *datasets)
        return xarray_jax.unwrap_data(value).mean()

    arguments = (
        jax.tree.map(_struct, params, layout.state_shardings(params)),
        [
            _struct(leaf, where)
            for leaf, where in zip(
                jax.tree.leaves(data),
                jax.tree.leaves(layout.batch_shardings(data)),
                strict=True,
            )
        ],
    )
    compiled = layout.jit(jax.value_and_grad(loss)).lower(*arguments).compile()
    counts = collections.Counter(re.findall(_TRAFFIC, compiled.as_text()))
    analysis = compiled.memory_analysis()
    text = ", ".join(f"{n} {kind}" for kind, n in sorted(counts.items()))
    return int(analysis.temp_size_in_bytes), text


def fields(options: argparse.Namespace, task: object) -> tuple:
    """Returns inputs, targets and forcings of zeros."""
    import numpy as np
    import xarray

    from weatherlib import graphcast

    lat = np.linspace(-90, 90, round(180 / options.resolution) + 1).astype(np.float32)
    lon = np.arange(0, 360, options.resolution).astype(np.float32)
    step = np.timedelta64(6, "h").astype("timedelta64[ns]")

    def dataset(names: tuple, times: np.ndarray) -> xarray.Dataset:
        variables = {}
        for name in names:
            dims = {"lat": len(lat), "lon": len(lon)}
            if name not in graphcast.STATIC_VARS:
                levels = {"level": len(task.pressure_levels)}
                has_levels = name in graphcast.ALL_ATMOSPHERIC_VARS
                dims = (levels if has_levels else {}) | dims
                dims = {"batch": options.batch, "time": len(times)} | dims
            zeros = np.broadcast_to(np.float32(0), tuple(dims.values()))
            variables[name] = (tuple(dims), zeros)
        coords = {"lat": lat, "lon": lon, "time": times}
        return xarray.Dataset(variables, coords | {"level": list(task.pressure_levels)})

    return (
        dataset(task.input_variables, step * np.arange(-1, 1)),
        dataset(task.target_variables, step * np.arange(1, 2)),
        dataset(task.forcing_variables, step * np.arange(1, 2)),
    )


def _struct(leaf: object, sharding: object) -> object:
    import jax

    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


if __name__ == "__main__":
    main()
