"""Spreads parameters, batches and the work on them over several devices.

A `Layout` turns the tables of a `ShardingConfig` into shardings of JAX. Models name no
device; they mark where their arrays may be cut (`weatherlib.nn.partition`).

    layout = sharding.Layout(ShardingConfig(mesh={"data": 4, "space": 2}))
    state = layout.place(state)  # parameters, optimiser, averages ...
    step = layout.jit(step, donate_argnums=0)
    for batch in loader.shard(*layout.loader_shard):
        state, loss = step(state, layout.place_batch(batch))

The results are those of one device up to rounding, whatever the layout.
"""

import contextlib
import functools
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import xarray
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from weatherlib import xarray_jax
from weatherlib.nn import partition
from weatherlib.training import sharding_config
from weatherlib.training.sharding_config import ParameterRule, ShardingConfig

__all__ = ["Layout", "ParameterRule", "ShardingConfig"]

_Tree = TypeVar("_Tree")

# Cut unevenly where needed, or not at all; anything else has to divide.
_FLEXIBLE = ("sample", partition.LAT, partition.LON, partition.ROW, partition.CHANNEL)


class Layout:
    """Where everything of a run lies.

    Attributes:
      config: The tables it follows.
      mesh: The devices, in the shape of the tables.
    """

    def __init__(
        self,
        config: ShardingConfig | None = None,
        *,
        family_axes: Iterable[tuple[str, tuple[str | None, ...]]] = (),
        devices: Iterable[Any] | None = None,
    ) -> None:
        """Arranges the devices.

        Args:
          config: By default all devices share the batch.
          family_axes: Expressions on paths and names of axes that a model family
            brings, such as `graphcast.PARAMETER_AXES`; after the rules of `config`.
          devices: By default all devices of all processes, those of a process side by
            side.

        Raises:
          ValueError: The mesh does not make up the devices.
        """
        self.config = config or ShardingConfig()
        found = np.array(list(jax.devices() if devices is None else devices))
        sizes = self.config.sizes(len(found))
        self.mesh = Mesh(
            found.reshape(tuple(sizes.values())),
            tuple(sizes),
            axis_types=(AxisType.Auto,) * len(sizes),
        )
        self._dims = self.config.dim_axes()
        self._rules = [(rule, True) for rule in self.config.parameters]
        self._rules += [
            (ParameterRule(path=path, axes=axes), False) for path, axes in family_axes
        ]

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name}: {size}" for name, size in self.mesh.shape.items())
        return f"Layout({sizes}; {self.mesh.size} {self._platform} device(s))"

    @property
    def replicated(self) -> NamedSharding:
        """The sharding of what is whole on every device."""
        return NamedSharding(self.mesh, PartitionSpec())

    @functools.cached_property
    def loader_shard(self) -> tuple[int, int]:
        """Which part of each batch this process loads: its index, and the count.

        Processes that share samples, because only the space is cut between them, have
        the same index and must load the same.

        Raises:
          ValueError: The samples of this process overlap with part of another's.
        """
        owners: dict[int, set[int]] = {}
        for place, device in np.ndenumerate(self.mesh.devices):
            owners.setdefault(device.process_index, set()).add(self._data_index(place))
        groups = sorted({tuple(sorted(group)) for group in owners.values()})
        wanted = list(range(self.parts(partition.BATCH)))
        if [part for group in groups for part in group] != wanted:
            held = "; ".join(f"{p}: {sorted(g)}" for p, g in sorted(owners.items()))
            raise ValueError(
                f"mesh: {dict(self.mesh.shape)} gives processes parts of the batch "
                f"that overlap ({held}); let the axis of the batch be a multiple or a "
                f"divisor of the {len(owners)} processes"
            )
        mine = tuple(sorted(owners.get(jax.process_index(), {0})))
        return groups.index(mine), len(groups)

    def parts(self, axis: str) -> int:
        """Returns into how many parts a dimension is cut."""
        return self.mesh.shape.get(self._mesh_axis(axis) or "", 1)

    def spec(self, dims: tuple[Any, ...], shape: tuple[int, ...]) -> PartitionSpec:
        """Returns how an array with these dimensions is cut, evenly.

        Raises:
          ValueError: A dimension that must be cut evenly cannot be.
        """
        return PartitionSpec(*self._cut(dims, shape, uneven=False, strict=True))

    def sharding(self, dims: tuple[Any, ...], shape: tuple[int, ...]) -> NamedSharding:
        """Returns `spec` on the devices of this layout."""
        return NamedSharding(self.mesh, self.spec(dims, shape))

    def row_shardings(self, tree: _Tree) -> _Tree:
        """Returns the sharding of arrays [row, ..., channel] inside a model.

        Args:
          tree: Arrays, such as prepared parts of a network. Where rows do not divide
            evenly, channels are cut, and where those do not, nothing.
        """

        def sharding(leaf: Any) -> NamedSharding:
            shape = np.shape(leaf)
            middle = [None] * max(len(shape) - 2, 0)
            axes = (partition.ROW, *middle, partition.CHANNEL)[: len(shape)]
            cut = self._cut(axes, shape, uneven=False, strict=False)
            return NamedSharding(self.mesh, PartitionSpec(*cut))

        return jax.tree.map(sharding, tree)

    def constrain(self, array: Any, axes: tuple[str | None, ...]) -> Any:
        """Returns the array cut by its named axes; rows and channels also unevenly.

        What `weatherlib.nn.partition` calls while a model is traced.
        """
        spec = PartitionSpec(*self._cut(axes, array.shape, uneven=True, strict=False))
        return jax.lax.with_sharding_constraint(array, NamedSharding(self.mesh, spec))

    def activate(self) -> contextlib.AbstractContextManager[None]:
        """Returns a context in which models are traced for this layout."""
        return partition.use(self)

    def jit(self, function: Callable[..., Any], **settings: Any) -> Callable[..., Any]:
        """Returns `jax.jit(function)` with the model in it cut by this layout.

        Args:
          function: Its arguments are placed with `place` and `place_batch`.
          **settings: Those of `jax.jit`.
        """

        @functools.wraps(function)
        def traced(*args: Any, **kwargs: Any) -> Any:
            with self.activate():
                return function(*args, **kwargs)

        return jax.jit(traced, **settings)

    def state_shardings(self, state: _Tree) -> _Tree:
        """Returns the sharding of each leaf of a training state, by its path.

        Averages and optimiser moments have paths that end with those of parameters,
        and so follow the same rules.

        Raises:
          ValueError: A rule of the configuration does not divide an array.
        """

        def sharding(path: Any, leaf: Any) -> NamedSharding:
            return NamedSharding(self.mesh, self._state_spec(_text(path), leaf))

        return jax.tree_util.tree_map_with_path(sharding, state)

    def batch_shardings(self, batch: _Tree) -> _Tree:
        """Returns the sharding of each leaf of a batch, by its dimension names.

        Args:
          batch: Tree with Datasets of global shapes; other leaves are whole.

        Raises:
          ValueError: As `spec`.
        """
        return xarray_jax.tree_map_with_dims(
            lambda leaf, dims: self._batch_sharding(dims, np.shape(leaf)), batch
        )

    def place(self, state: _Tree) -> _Tree:
        """Returns a training state on the devices.

        Args:
          state: Tree of arrays and keys, the same in every process.

        Raises:
          ValueError: As `state_shardings`.
        """
        return self.put(state, self.state_shardings(state))

    def put(self, tree: _Tree, shardings: _Tree) -> _Tree:
        """Returns arrays that every process has, on the devices.

        Args:
          tree: Tree of arrays and keys, the same in every process.
          shardings: How each is cut.
        """
        return jax.tree.map(_put, tree, shardings)

    def constrain_state(self, state: _Tree) -> _Tree:
        """Returns a state that a jitted step keeps where `place` put it."""
        return jax.lax.with_sharding_constraint(state, self.state_shardings(state))

    def place_batch(self, batch: _Tree) -> _Tree:
        """Returns a batch on the devices, put together from those of all processes.

        Coordinates along the batch, such as dates, are left out: they differ between
        processes, and would have each batch compiled anew.

        Args:
          batch: Tree with Datasets that hold the part of the batch that `loader_shard`
            tells, and the whole grid. Other leaves are the same in every process.

        Raises:
          ValueError: As `spec`.
        """
        index, count = self.loader_shard

        def put(leaf: Any, dims: tuple[Any, ...] | None) -> Any:
            shape = list(np.shape(leaf))
            axis = None
            if dims is not None and partition.BATCH in dims:
                axis = dims.index(partition.BATCH)
                shape[axis] *= count
            sharding = self._batch_sharding(dims, tuple(shape))
            if axis is None or count == 1:
                return _put(leaf, sharding)
            return _put_part(leaf, sharding, tuple(shape), axis, index)

        return xarray_jax.tree_map_with_dims(put, _without_batch_coords(batch))

    def place_shared(self, batch: _Tree) -> _Tree:
        """Returns a batch on the devices that every process has whole.

        Unlike `place_batch`, samples that do not divide lie whole on every device.

        Args:
          batch: Tree with Datasets, the same in every process.
        """

        def put(leaf: Any, dims: tuple[Any, ...] | None) -> Any:
            cut = self._cut(dims or (), np.shape(leaf), uneven=False, strict=False)
            return _put(leaf, NamedSharding(self.mesh, PartitionSpec(*cut)))

        return xarray_jax.tree_map_with_dims(put, _without_batch_coords(batch))

    def fetch(self, tree: _Tree) -> _Tree:
        """Returns whole arrays on the host, in every process.

        All processes have to call it where arrays are cut between them.
        """

        def whole(leaf: Any) -> Any:
            if not isinstance(leaf, jax.Array) or _is_key(leaf):
                return leaf
            if not leaf.is_fully_addressable and not leaf.is_fully_replicated:
                leaf = jax.jit(lambda x: x, out_shardings=self.replicated)(leaf)
            return np.asarray(leaf)

        return jax.tree.map(whole, tree)

    @property
    def _platform(self) -> str:
        return self.mesh.devices.flat[0].platform

    def _data_index(self, place: tuple[int, ...]) -> int:
        """Returns which part of the batch the device at a place of the mesh holds."""
        axis = self._mesh_axis(partition.BATCH)
        names = self.mesh.axis_names
        return place[names.index(axis)] if axis in names else 0

    def _mesh_axis(self, name: str | None) -> str | None:
        if name is None or name in self.mesh.shape:
            return name
        axis = self._dims.get(name)
        return axis if axis in self.mesh.shape else None

    def _batch_sharding(
        self, dims: tuple[Any, ...] | None, shape: tuple[int, ...]
    ) -> NamedSharding:
        return self.replicated if dims is None else self.sharding(dims, shape)

    def _state_spec(self, path: str, leaf: Any) -> PartitionSpec:
        shape = np.shape(leaf)
        for rule, strict in self._rules:
            if not shape or not rule.matches(path):
                continue
            if len(rule.axes) > len(shape):
                raise ValueError(
                    f"{path}: the rule {rule.path!r} has {len(rule.axes)} axes, the "
                    f"parameter {len(shape)}, shape {shape}"
                )
            axes = (*rule.axes, *[None] * (len(shape) - len(rule.axes)))
            cut = self._cut(axes, shape, uneven=False, strict=strict, label=path)
            return PartitionSpec(*cut)
        return PartitionSpec()

    def _cut(
        self,
        dims: tuple[Any, ...],
        shape: tuple[int, ...],
        *,
        uneven: bool,
        strict: bool,
        label: str = "",
    ) -> list[str | None]:
        """Returns the mesh axis of each dimension; each is used for one at most."""
        order = list(self._dims)
        cut: list[str | None] = [None] * len(dims)
        used = set()
        for i in sorted(
            range(len(dims)),
            key=lambda i: order.index(dims[i]) if dims[i] in order else len(order),
        ):
            axis = self._mesh_axis(dims[i])
            if axis is None or axis in used or self.mesh.shape[axis] == 1:
                continue
            size, parts = shape[i], self.mesh.shape[axis]
            stretches = uneven and dims[i] in (partition.ROW, partition.CHANNEL)
            if size % parts == 0 or (stretches and size > parts):
                cut[i] = axis
                used.add(axis)
            elif strict and dims[i] not in _FLEXIBLE:
                raise sharding_config.indivisible(
                    label, str(dims[i]), size, axis, parts
                )
        return cut


def _put(leaf: Any, sharding: NamedSharding) -> Any:
    """Returns a leaf that all processes have, on the devices."""
    if isinstance(leaf, jax.Array) and _is_key(leaf):
        data = _put(jax.random.key_data(leaf), NamedSharding(sharding.mesh, _WHOLE))
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    if sharding.is_fully_addressable:
        return jax.device_put(leaf, sharding)
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        if leaf.sharding.is_equivalent_to(sharding, leaf.ndim):
            return leaf
        return jax.jit(lambda x: x, out_shardings=sharding)(leaf)
    host = np.asarray(leaf)
    host = host.astype(jax.dtypes.canonicalize_dtype(host.dtype), copy=False)
    return jax.make_array_from_callback(host.shape, sharding, lambda at: host[at])


def _put_part(
    leaf: Any, sharding: NamedSharding, shape: tuple[int, ...], axis: int, index: int
) -> jax.Array:
    """Returns the global array of which this process has one part along an axis."""
    host = np.asarray(leaf)
    host = host.astype(jax.dtypes.canonicalize_dtype(host.dtype), copy=False)
    offset = index * host.shape[axis]

    def piece(at: Any) -> np.ndarray:
        start, stop, _ = at[axis].indices(shape[axis])
        own = slice(start - offset, stop - offset)
        return host[(*at[:axis], own, *at[axis + 1 :])]

    return jax.make_array_from_callback(shape, sharding, piece)


def _without_batch_coords(batch: _Tree) -> _Tree:
    def strip(node: Any) -> Any:
        if not isinstance(node, xarray.Dataset | xarray.DataArray):
            return node
        return node.drop_vars(
            [n for n, c in node.coords.items() if partition.BATCH in c.dims]
        )

    return jax.tree.map(
        strip,
        batch,
        is_leaf=lambda node: isinstance(node, xarray.Dataset | xarray.DataArray),
    )


def _text(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _is_key(leaf: jax.Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


_WHOLE = PartitionSpec()
