"""The GraphCast network written out plainly, without folding or preparing anything.

Tests compare the folded network with it, and `graphcast_step.py` times it where the
published package is not at hand.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from weatherlib.geometry.graph import EdgeSet, GraphGeometry
from weatherlib.nn import mlp

_BUILDER = "~_networks_builder"


class UnfoldedGraphCast:
    """Concatenates, gathers and scatters as the paper writes it."""

    def __init__(
        self,
        params: Mapping[str, Any],
        geometry: GraphGeometry,
        hidden_layers: int,
        steps: int,
    ) -> None:
        self._params = params
        self._geometry = geometry
        self._hidden_layers = hidden_layers
        self._steps = steps

    def _mlp(self, gnn: str, name: str, *inputs: jax.Array) -> jax.Array:
        x = jnp.concatenate(inputs, -1)
        path = f"{gnn}_gnn/{_BUILDER}/{name}"
        for i in range(self._hidden_layers + 1):
            layer = self._params[f"{path}_mlp/~/linear_{i}"]
            x = (jax.nn.swish(x) if i else x) @ layer["w"] + layer["b"]
        norm = self._params.get(f"{path}_layer_norm")
        return x if norm is None else mlp.normalize(mlp.NormWeights(**norm), x)

    def _round(
        self,
        gnn: str,
        step: int,
        edges: jax.Array,
        ends: tuple[jax.Array, jax.Array],
        edge_set: EdgeSet,
    ) -> tuple[jax.Array, jax.Array]:
        """Returns the messages of a round and their sums at the receivers."""
        senders, receivers = ends
        messages = self._mlp(
            gnn,
            f"processor_edges_{step}_{gnn}",
            edges,
            senders[edge_set.senders],
            receivers[edge_set.receivers],
        )
        total = jnp.zeros_like(receivers).at[edge_set.receivers].add(messages)
        return messages, total

    def __call__(self, grid_inputs: jax.Array) -> jax.Array:
        """Returns the outputs [grid, batch, channel] for inputs of like shape."""
        geometry, shape = self._geometry, grid_inputs.shape[1:]

        def repeated(features: Any) -> jax.Array:
            features = jnp.asarray(features, grid_inputs.dtype)[:, None]
            return jnp.repeat(features, shape[0], axis=1)

        def embedded(edge_set: EdgeSet, name: str) -> jax.Array:
            features = repeated(edge_set.features)
            return self._mlp(name, f"encoder_edges_{name}", features)

        mesh = repeated(geometry.mesh_node_features)
        zeros = jnp.zeros((len(mesh), *shape), grid_inputs.dtype)
        mesh = self._mlp("grid2mesh", "encoder_nodes_mesh_nodes", zeros, mesh)
        grid = self._mlp(
            "grid2mesh",
            "encoder_nodes_grid_nodes",
            grid_inputs,
            repeated(geometry.grid_node_features),
        )
        edges = embedded(geometry.grid2mesh, "grid2mesh")
        _, total = self._round("grid2mesh", 0, edges, (grid, mesh), geometry.grid2mesh)
        mesh += self._mlp("grid2mesh", "processor_nodes_0_mesh_nodes", mesh, total)
        grid += self._mlp("grid2mesh", "processor_nodes_0_grid_nodes", grid)

        edges = embedded(geometry.mesh, "mesh")
        for i in range(self._steps):
            messages, total = self._round("mesh", i, edges, (mesh, mesh), geometry.mesh)
            mesh += self._mlp("mesh", f"processor_nodes_{i}_mesh_nodes", mesh, total)
            edges += messages

        edges = embedded(geometry.mesh2grid, "mesh2grid")
        _, total = self._round("mesh2grid", 0, edges, (mesh, grid), geometry.mesh2grid)
        grid += self._mlp("mesh2grid", "processor_nodes_0_grid_nodes", grid, total)
        return self._mlp("mesh2grid", "decoder_nodes_grid_nodes", grid)
