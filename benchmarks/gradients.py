"""Gradients of GraphCast on a CPU, with and without the backward pass of our own.

    python benchmarks/gradients.py --batches 1 2 4

Both are `jax.value_and_grad` of the same squared error on random data, under one
`jax.jit` each, and take turns; the best of each counts. What `weatherlib train` uses is
traced inside `nn.reverse_mode.use`.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Callable
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from weatherlib import graphcast, host_memory
from weatherlib.graphcast import message_graph, network
from weatherlib.nn import reverse_mode

_CHANNELS = 24


def make_step(
    model: graphcast.ModelConfig, batch: int, context: Callable[[], Any]
) -> Callable[[], None]:
    """Returns a compiled gradient of one batch, traced in a context."""
    lat = np.arange(-90, 90.1, model.resolution)
    lon = np.arange(0, 360, model.resolution)
    geometry = message_graph.build_geometry(lat, lon, model)
    graph = message_graph.make_message_graph(geometry)
    keys = jax.random.split(jax.random.PRNGKey(0), 3)
    inputs = jax.random.normal(keys[0], (len(lat) * len(lon), batch, _CHANNELS))
    targets = jax.random.normal(keys[1], (len(lat) * len(lon), batch, 1))

    @hk.without_apply_rng
    @hk.transform
    def loss(inputs: jax.Array, targets: jax.Array) -> jax.Array:
        found = network.GraphCastNetwork(model)(graph, inputs, targets.shape[-1])
        return jnp.mean(jnp.square(found - targets))

    params = loss.init(keys[2], inputs, targets)
    with context():
        step = jax.jit(jax.value_and_grad(loss.apply))
        compiled = step.lower(params, inputs, targets).compile()
    return lambda: jax.block_until_ready(compiled(params, inputs, targets))


def best_in_turns(steps: dict[str, Callable[[], None]], turns: int) -> dict[str, float]:
    """Returns the shortest time of each step, in seconds."""
    best = dict.fromkeys(steps, float("inf"))
    for _ in range(turns + 1):
        for name, step in steps.items():
            began = time.perf_counter()
            step()
            best[name] = min(best[name], time.perf_counter() - began)
    return best


def main() -> None:
    """Prints milliseconds a sample and the ratio for each batch size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--resolution", type=float, default=2.5)
    parser.add_argument("--mesh", type=int, default=4)
    parser.add_argument("--latent", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=2, help="of message passing")
    parser.add_argument("--radius", type=float, default=1.0)
    parser.add_argument("--turns", type=int, default=10)
    options = parser.parse_args()
    host_memory.keep_freed()
    model = graphcast.ModelConfig(
        resolution=options.resolution,
        mesh_size=options.mesh,
        latent_size=options.latent,
        gnn_msg_steps=options.rounds,
        hidden_layers=1,
        radius_query_fraction_edge_length=options.radius,
    )
    print("a sample, best of each")
    print(f"{'batch':>5}{'derived by JAX':>17}{'our own':>12}{'ratio':>8}")
    for batch in options.batches:
        steps = {
            "jax": make_step(model, batch, contextlib.nullcontext),
            "ours": make_step(model, batch, reverse_mode.use),
        }
        best = best_in_turns(steps, options.turns)
        each = {name: 1e3 * seconds / batch for name, seconds in best.items()}
        ratio = best["jax"] / best["ours"]
        print(f"{batch:>5}{each['jax']:>14.1f} ms{each['ours']:>9.1f} ms{ratio:>8.2f}")


if __name__ == "__main__":
    main()
