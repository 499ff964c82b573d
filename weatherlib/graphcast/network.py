"""The GraphCast network on arrays: grid to mesh, over the mesh, back to the grid.

What depends only on weights and geometry goes through `prepared.once`; what has no
effect on the output, such as the last update of the mesh nodes, is left out, though
its weights are created as published.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from weatherlib.graphcast.config import MemoryConfig, ModelConfig
from weatherlib.graphcast.message_graph import CORNERS, MessageGraph
from weatherlib.nn import (
    blocks,
    graph_net,
    mlp,
    partition,
    prepared,
    reverse_mode,
    segments,
)
from weatherlib.nn import message_passing as passing

__all__ = ["GraphCastNetwork"]

_T = TypeVar("_T")
_Arrays = dict[str, Any]
_Once = Callable[[str, Callable[[], _T]], _T]
_GRID, _MESH = "grid_nodes", "mesh_nodes"


class GraphCastNetwork:
    """Maps the channels of each grid node to the predicted channels.

    A plain class, so that parameter paths begin with the three graph networks.
    """

    def __init__(
        self, config: ModelConfig, memory: MemoryConfig | None = None, label: str = ""
    ) -> None:
        """Takes the sizes, what to keep, and what tells it from others in a model."""
        self._label = label
        self._latent = config.latent_size
        self._memory = memory
        self._encoder = _graph_net("grid2mesh", _GRID, _MESH, config, embed_nodes=True)
        self._processor = _graph_net(
            "mesh", _MESH, _MESH, config, steps=config.gnn_msg_steps
        )
        self._decoder = _graph_net("mesh2grid", _MESH, _GRID, config)

    def __call__(
        self,
        graph: MessageGraph,
        grid_inputs: Float[Array, "grid batch channel"],
        output_size: int,
    ) -> Float[Array, "grid batch {output_size}"]:
        """Returns the outputs for each grid node.

        Args:
          graph: From `message_graph.make_message_graph`.
          grid_inputs: The data, without structural features.
          output_size: Channels to predict.
        """
        encoder, processor, decoder = self._weights(graph, grid_inputs, output_size)
        memory = self._memory or MemoryConfig.for_size(
            edges=graph.num_edges // partition.parts(partition.ROW),
            batch=max(grid_inputs.shape[1] // partition.parts(partition.BATCH), 1),
            latent_size=self._latent,
            item_size=grid_inputs.dtype.itemsize,
            on_cpu=jax.default_backend() == "cpu",
            for_gradients=reverse_mode.is_active(),
        )
        dtype = grid_inputs.dtype.name
        key = f"graphcast{self._label}/{graph.digest}/{self._latent}/{dtype}"
        runner = _Runner(graph, grid_inputs.dtype, memory, key)
        grid, mesh = runner.grid_to_mesh(encoder, grid_inputs)
        mesh = runner.over_mesh(processor, mesh)
        return runner.mesh_to_grid(decoder, mesh, grid)

    def _weights(
        self, graph: MessageGraph, grid_inputs: Array, output_size: int
    ) -> tuple[graph_net.GraphNetWeights, ...]:
        """Creates or looks up all weights, in the published order."""
        edge = graph.arrays["mesh2grid_features"].shape[-1]
        node = grid_inputs.shape[-1] + graph.arrays["grid_features"].shape[-1]
        latent = {_GRID: self._latent, _MESH: self._latent}
        dtype = grid_inputs.dtype
        return (
            self._encoder(
                edge_sizes={"grid2mesh": edge},
                node_sizes={_GRID: node, _MESH: node},
                dtype=dtype,
            ),
            self._processor(edge_sizes={"mesh": edge}, node_sizes=latent, dtype=dtype),
            self._decoder(
                edge_sizes={"mesh2grid": edge},
                node_sizes=latent,
                output_sizes={_GRID: output_size},
                dtype=dtype,
            ),
        )


def _graph_net(
    name: str,
    senders: str,
    receivers: str,
    config: ModelConfig,
    *,
    steps: int = 1,
    embed_nodes: bool = False,
) -> graph_net.GraphNet:
    spec = graph_net.GraphNetSpec(
        nodes=tuple(sorted({senders, receivers})),
        edges={name: graph_net.EdgeSetSpec(senders=senders, receivers=receivers)},
        latent_size=config.latent_size,
        hidden_layers=config.hidden_layers,
        steps=steps,
        embed_nodes=embed_nodes,
    )
    return graph_net.GraphNet(spec, name=f"{name}_gnn")


class _Runner:
    """Applies the weights on one graph.

    Arrays are [node or edge, batch, channel]; static ones have a batch of 1.
    """

    def __init__(
        self, graph: MessageGraph, dtype: Any, memory: MemoryConfig, key: str
    ) -> None:
        self._graph = graph
        self._memory = memory
        self._key = key
        self._arrays: _Arrays = self._once(
            "graph", functools.partial(_to_device, graph.arrays, dtype)
        )

    def _once(self, name: str, compute: Callable[[], _T]) -> _T:
        return prepared.once(f"{self._key}/{name}", compute)

    def _map(
        self, function: Callable[[_Arrays], Any], rows: _Arrays, edges_per_row: int = 1
    ) -> Any:
        # Each block would lie on one device only.
        block = self._memory.block if partition.parts(partition.ROW) == 1 else None
        return blocks.map_rows(
            function,
            rows,
            block=None if block is None else max(block // edges_per_row, 1),
            remat=self._memory.remat,
        )

    def _static(
        self,
        name: str,
        compute: Callable[[_Arrays], Any],
        rows: _Arrays,
        edges_per_row: int = 1,
    ) -> tuple[_Arrays, Callable[[_Arrays], Any]]:
        """Returns rows for `_map` and how to get the static part from a block of them.

        Depending on the memory settings the rows hold the part itself, or what it is
        computed from block by block.
        """
        if not self._memory.store_static:
            return rows, compute
        part = self._once(name, lambda: self._map(compute, rows, edges_per_row))
        return {name: part}, lambda block: partition.by_row(block[name])

    def grid_to_mesh(
        self,
        weights: graph_net.GraphNetWeights,
        grid_inputs: Float[Array, "grid batch channel"],
    ) -> tuple[Float[Array, "grid batch latent"], Float[Array, "mesh batch latent"]]:
        """Returns the latent grid and mesh nodes."""
        arrays, step = self._arrays, weights.steps[0]
        latent = weights.edge_encoders["grid2mesh"].layers[-1].w.shape[-1]
        to_mesh = passing.fold_edges(step.edges["grid2mesh"], latent)
        mesh_update = passing.fold_nodes(step.nodes[_MESH], latent)

        def mesh_parts() -> _Arrays:
            mesh = _embed_mesh(
                weights.node_encoders[_MESH], arrays["mesh_features"][:, None]
            )
            return {
                "mesh": mesh,
                "node_part": mesh_update.node_part(mesh),
                "receiver_part": mesh @ to_mesh.receiver,
            }

        def encode(rows: _Arrays) -> tuple[Array, Array]:
            features = jnp.broadcast_to(
                rows["features"][:, None],
                (*rows["inputs"].shape[:2], rows["features"].shape[-1]),
            )
            nodes = mlp.apply(
                weights.node_encoders[_GRID],
                jnp.concatenate([rows["inputs"], features], -1),
            )
            nodes = partition.by_row(nodes)
            return nodes @ to_mesh.sender, nodes + mlp.apply(step.nodes[_GRID], nodes)

        static = self._once("mesh_nodes", mesh_parts)
        sent, grid = self._map(
            encode, {"inputs": grid_inputs, "features": arrays["grid_features"]}
        )
        received = self._received_by_mesh(
            weights, to_mesh, sent, static["receiver_part"]
        )
        return grid, static["mesh"] + mesh_update.update(static["node_part"], received)

    def _received_by_mesh(
        self,
        weights: graph_net.GraphNetWeights,
        to_mesh: passing.EdgeUpdate,
        sent: Array,
        receiver_parts: Array,
    ) -> Array:
        """Returns the sum of the messages that each mesh node gets from the grid."""
        arrays = self._arrays

        def edge_part(rows: _Arrays) -> Array:
            edges = mlp.apply(
                weights.edge_encoders["grid2mesh"], rows["features"][:, None]
            )
            receiver_part = partition.whole(receiver_parts)[rows["receivers"]]
            return to_mesh.edge_part(edges) + partition.by_row(receiver_part)

        part_rows, part = self._static(
            "grid2mesh",
            edge_part,
            {
                "features": arrays["grid2mesh_features"],
                "receivers": arrays["grid2mesh_receivers"],
            },
        )
        messages = self._map(
            lambda rows: to_mesh.messages(
                part(rows), partition.take(sent, rows["senders"])
            ),
            {**part_rows, "senders": arrays["grid2mesh_senders"]},
        )
        # The published network sums these messages, and only these, in float32.
        received = segments.segment_sum(
            partition.by_channel(messages), self._graph.grid2mesh_plan, jnp.float32
        ).astype(messages.dtype)
        return partition.by_row(received)

    def over_mesh(
        self,
        weights: graph_net.GraphNetWeights,
        mesh: Float[Array, "mesh batch latent"],
    ) -> Float[Array, "mesh batch latent"]:
        """Returns the mesh nodes after all rounds of message passing."""
        latent = mesh.shape[-1]
        updates = [
            (
                passing.fold_edges(step.edges["mesh"], latent),
                passing.fold_nodes(step.nodes[_MESH], latent),
            )
            for step in weights.steps
        ]
        first, rest = updates[0], updates[1:]

        def first_edges() -> _Arrays:
            edges = mlp.apply(
                weights.edge_encoders["mesh"],
                self._arrays["mesh_edge_features"][:, None],
            )
            edges = partition.by_row(edges)
            return {"edges": edges, "part": first[0].edge_part(edges)}

        static = self._once("mesh_edges", first_edges)
        mesh, messages = self._mesh_round(first, mesh, {"part": static["part"]})
        if not rest:
            return mesh
        # One loop over the rounds, so that they share their buffers and are compiled
        # once; written out, a CPU would allocate those of all rounds at the start.
        stacked = self._once(
            "mesh_rounds", lambda: jax.tree.map(lambda *w: jnp.stack(w), *rest)
        )

        def one_round(state: tuple[Array, Array], update: Any) -> tuple[Any, None]:
            mesh, edges = state
            mesh, messages = self._mesh_round(update, mesh, {"edges": edges})
            return (mesh, partition.by_row(edges + messages)), None

        edges = partition.by_row(static["edges"] + messages)
        (mesh, _), _ = jax.lax.scan(one_round, (mesh, edges), stacked)
        return mesh

    def _mesh_round(
        self,
        updates: tuple[passing.EdgeUpdate, passing.NodeUpdate],
        mesh: Array,
        rows: _Arrays,
    ) -> tuple[Array, Array]:
        """Returns the mesh nodes after one round, and the messages of its edges."""
        edge_update, node_update = updates
        sent = partition.whole(mesh @ edge_update.sender)
        to_receive = partition.whole(mesh @ edge_update.receiver)

        def message(rows: _Arrays) -> Array:
            part = (
                rows["part"] if "part" in rows else edge_update.edge_part(rows["edges"])
            )
            part = partition.by_row(part)
            ends = sent[rows["senders"]], to_receive[rows["receivers"]]
            return edge_update.messages(part, *map(partition.by_row, ends))

        ends = {end: self._arrays[f"mesh_{end}"] for end in ("senders", "receivers")}
        messages = self._map(message, {**rows, **ends})
        received = segments.segment_sum(
            partition.by_channel(messages), self._graph.mesh_plan
        )
        mesh = self._map(
            functools.partial(_updated_nodes, node_update),
            {"nodes": mesh, "received": partition.by_row(received)},
        )
        return mesh, messages

    def mesh_to_grid(
        self,
        weights: graph_net.GraphNetWeights,
        mesh: Float[Array, "mesh batch latent"],
        grid: Float[Array, "grid batch latent"],
    ) -> Float[Array, "grid batch output"]:
        """Returns the outputs of the grid nodes, each from its three mesh nodes."""
        step, latent = weights.steps[0], mesh.shape[-1]
        to_grid = passing.fold_edges(step.edges["mesh2grid"], latent)
        grid_update = passing.fold_nodes(step.nodes[_GRID], latent)
        sent = partition.whole(mesh @ to_grid.sender)

        def edge_part(rows: _Arrays) -> Array:
            features = rows["features"][:, :, None]
            return to_grid.edge_part(
                mlp.apply(weights.edge_encoders["mesh2grid"], features)
            )

        part_rows, part = self._static(
            "mesh2grid",
            edge_part,
            {"features": self._arrays["mesh2grid_features"]},
            CORNERS,
        )

        def decode(rows: _Arrays) -> Array:
            nodes = rows["nodes"]
            messages = to_grid.messages(
                part(rows),
                partition.by_row(sent[rows["senders"]]),
                (nodes @ to_grid.receiver)[:, None],
            )
            updated = _updated_nodes(
                grid_update, {"nodes": nodes, "received": messages.sum(1)}
            )
            return mlp.apply(weights.decoders[_GRID], updated)

        return self._map(
            decode,
            {**part_rows, "senders": self._arrays["mesh2grid_senders"], "nodes": grid},
            CORNERS,
        )


def _embed_mesh(
    encoder: mlp.MlpWeights, features: Float[Array, "mesh batch feature"]
) -> Float[Array, "mesh batch latent"]:
    """Returns the embedded mesh nodes, whose data channels are zero."""
    rows = encoder.layers[0].w.shape[0]
    data = rows - features.shape[-1]
    _, structural = mlp.split_rows(encoder, [data, features.shape[-1]])
    first = mlp.add_bias(features @ structural, encoder.layers[0].b)
    return mlp.finish(encoder, first)


def _updated_nodes(update: passing.NodeUpdate, rows: _Arrays) -> Array:
    nodes = partition.by_row(rows["nodes"])
    updated = nodes + update.update(update.node_part(nodes), rows["received"])
    return partition.by_row(updated)


def _to_device(arrays: Mapping[str, np.ndarray], dtype: Any) -> _Arrays:
    return {
        name: jnp.asarray(
            value, dtype if np.issubdtype(value.dtype, np.floating) else value.dtype
        )
        for name, value in arrays.items()
    }
