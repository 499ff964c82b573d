"""What a GraphCast checkpoint holds. Nothing here imports JAX or xarray."""

import dataclasses
from typing import Any

from weatherlib import config, task

__all__ = [
    "PARAMETER_AXES",
    "CheckPoint",
    "MemoryConfig",
    "ModelConfig",
    "SlopesCheckPoint",
    "SlopesModelConfig",
]

PARAMETER_AXES = ((r"/w$", ("input", "output")), (r"/(b|scale|offset)$", ("output",)))
"""Names of the axes of the parameters, by an expression on their paths. Where they lie
on devices is a matter of `weatherlib.training.sharding`."""

_BLOCK_BYTES = 2**28
# Smaller on a CPU, where each product of matrices allocates its packed operands anew:
# the allocator keeps blocks of this size, and returns larger ones to the system, whose
# clearing of their pages took a sixth of a step at 1 degree. Half of that also stays in
# the caches of the cores: a tenth faster at 2 degrees.
_CPU_BLOCK_BYTES = 2**22
_STATIC_BYTES = 4 * 2**30


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig(config.Mapping):
    """The architecture. Published checkpoints store these names in this order.

    Attributes:
      resolution: Grid spacing the weights were trained for, degrees. 0 accepts any.
      mesh_size: Refinements of the icosahedron in the multi-mesh.
      latent_size: Channels of every latent node, edge and hidden layer.
      gnn_msg_steps: Rounds of message passing on the mesh.
      hidden_layers: Hidden layers of every perceptron.
      radius_query_fraction_edge_length: A grid point sends to each mesh node within
        this many longest edges of the finest mesh.
      mesh2grid_edge_normalization_factor: Length by which the features of
        mesh-to-grid edges are divided, on the unit sphere. None takes the longest such
        edge. It lets weights be used with another graph than they were trained on.

    Raises:
      ValueError: A size is negative, or one that must be positive is zero.
    """

    resolution: float
    mesh_size: int
    latent_size: int
    gnn_msg_steps: int
    hidden_layers: int
    radius_query_fraction_edge_length: float
    mesh2grid_edge_normalization_factor: float | None = None

    def __post_init__(self) -> None:
        for name in ("resolution", "mesh_size", "hidden_layers"):
            if not self[name] >= 0:
                raise ValueError(f"{name} must not be negative, found {self[name]!r}")
        positive = ["latent_size", "gnn_msg_steps", "radius_query_fraction_edge_length"]
        if self.mesh2grid_edge_normalization_factor is not None:
            positive.append("mesh2grid_edge_normalization_factor")
        for name in positive:
            if not self[name] > 0:
                raise ValueError(f"{name} must be positive, found {self[name]!r}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SlopesModelConfig(ModelConfig):
    """The architecture with slopes of fields as further inputs. Not published.

    A grid node knows its neighbours through a mesh that is coarser than the grid. How
    fields change around it tells where they move; small models learn that much faster
    than to find it out from the mesh.

    Attributes:
      slopes: Input variables whose slopes and curvatures are read as well, see
        `weatherlib.slopes`. Best computed in float32.
      slope_length: Over which slopes are taken, km.
      mirror: Whether both hemispheres share their weights: the southern is seen as in a
        world mirrored at the equator, see `weatherlib.hemispheres`, and each node knows
        in which of the two it lies. Little data teaches twice as much that way.
      members: Networks of this kind whose mean is the prediction. In training each sees
        its own share of a batch that can be divided evenly.

    Raises:
      ValueError: As for `ModelConfig`, or no variable is named.
    """

    slopes: tuple[str, ...]
    slope_length: float = 1000.0
    mirror: bool = False
    members: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "slopes", tuple(self.slopes))
        if not self.slopes:
            raise ValueError("slopes is empty; name input variables")
        for name in ("slope_length", "members"):
            if not self[name] > 0:
                raise ValueError(f"{name} must be positive, found {self[name]!r}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckPoint(config.Mapping):
    """A trained model as `weatherlib.checkpoint` reads and writes it.

    Attributes:
      params: Haiku module path to parameter name to array.
      model_config: The architecture.
      task_config: What the model reads and predicts.
      description: Free text.
      license: Terms under which the weights may be used.
    """

    params: dict[str, Any]
    model_config: ModelConfig
    task_config: task.TaskConfig
    description: str
    license: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class SlopesCheckPoint(CheckPoint):
    """A trained model that reads slopes.

    Attributes:
      model_config: The architecture.
    """

    model_config: SlopesModelConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class MemoryConfig(config.Mapping):
    """What to keep in memory and what to compute again. Results do not change.

    Attributes:
      block: Most edges or grid nodes to work on at a time; None takes all at once.
      remat: Whether the backward pass computes hidden activations again.
      store_static: Whether the parts of grid-to-mesh and mesh-to-grid edges that depend
        on weights only are held for all edges, which `nn.prepared` needs to compute
        them just once, or computed block by block in every step.

    Raises:
      ValueError: `block` is not positive.
    """

    block: int | None = None
    remat: bool = False
    store_static: bool = True

    def __post_init__(self) -> None:
        if self.block is not None and self.block < 1:
            raise ValueError(f"block must be positive or None, found {self.block!r}")

    @classmethod
    def for_size(
        cls,
        *,
        edges: int,
        batch: int,
        latent_size: int,
        item_size: int,
        on_cpu: bool = False,
        for_gradients: bool = False,
    ) -> "MemoryConfig":
        """Returns settings for a graph: all at once where small, careful where large.

        Args:
          edges: Edges of the largest set.
          batch: Batch members.
          latent_size: Channels of a latent edge.
          item_size: Bytes of one number.
          on_cpu: Whether a CPU does the work.
          for_gradients: Whether there will be a backward pass. Unless it computes
            hidden activations again, it keeps those of all edges, and smaller blocks
            save no memory.
        """
        row = latent_size * item_size
        remat = edges * row * batch > _BLOCK_BYTES
        small = on_cpu and (remat or not for_gradients)
        block_bytes = _CPU_BLOCK_BYTES if small else _BLOCK_BYTES
        block = max(block_bytes // (row * batch), 1)
        return cls(
            block=block if edges > block else None,
            remat=remat,
            # Static parts are shared by the batch.
            store_static=edges * row <= _STATIC_BYTES,
        )
