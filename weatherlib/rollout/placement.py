"""Where the arrays of a forecast lie: on one device, or spread over several."""

import contextlib
from collections.abc import Callable, Container, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from weatherlib.rollout.layout import Field
from weatherlib.rollout.transfer import Device

__all__ = ["Placement", "Sharding"]


class Sharding(Protocol):
    """Spreads arrays over devices; see `weatherlib.training.sharding.Layout`."""

    @property
    def mesh(self) -> Any:
        """The devices."""
        ...

    @property
    def replicated(self) -> Any:
        """The sharding of what is whole on every device."""
        ...

    def sharding(self, dims: tuple[Any, ...], shape: tuple[int, ...]) -> Any:
        """Returns how an array with these dimensions is cut."""
        ...

    def parts(self, axis: str) -> int:
        """Returns into how many parts a dimension is cut."""
        ...

    def put(self, tree: Any, shardings: Any) -> Any:
        """Returns arrays that every process has, on the devices."""
        ...

    def state_shardings(self, state: Any) -> Any:
        """Returns how each parameter is cut."""
        ...

    def row_shardings(self, tree: Any) -> Any:
        """Returns how arrays of many rows inside a model are cut."""
        ...

    def activate(self) -> contextlib.AbstractContextManager[Any]:
        """Returns a context in which models are traced for these devices."""
        ...


class Placement:
    """Puts the arrays of a forecast where they belong, and says where that is.

    Attributes:
      device: The device, or the first of several in this process.
      sharding: How work is spread, None for one device.
      spans_processes: Whether devices belong to several processes.
      is_main: Whether this process writes what is written once.
    """

    def __init__(self, device: Device | None, sharding: Sharding | None) -> None:
        """Takes a device or a sharding; JAX's default device without either.

        Raises:
          ValueError: Both are given, or devices belong to some processes of several.
        """
        self.spans_processes = False
        if sharding is not None:
            if device is not None:
                raise ValueError("give a device or a sharding, not both")
            devices = list(sharding.mesh.devices.flat)
            here = jax.process_index()
            owners = {d.process_index for d in devices}
            self.spans_processes = owners != {here}
            if self.spans_processes and owners != set(range(jax.process_count())):
                raise ValueError(
                    "sharding: a forecast runs on devices of one process or of all "
                    f"{jax.process_count()}, found those of process(es) "
                    f"{sorted(owners)} in process {here}; make the layout with "
                    "devices=jax.local_devices() or devices=jax.devices()"
                )
            device = next(d for d in devices if d.process_index == here)
        self.device = device or next(iter(jnp.zeros(()).devices()))
        self.sharding = sharding
        self.is_main = not self.spans_processes or jax.process_index() == 0
        single = jax.sharding.SingleDeviceSharding(self.device)
        self._whole = single if sharding is None else sharding.replicated

    def activate(self) -> contextlib.AbstractContextManager[Any]:
        """Returns the context in which the model is traced."""
        if self.sharding is None:
            return contextlib.nullcontext()
        return self.sharding.activate()

    def put(self, tree: Any) -> Any:
        """Returns a pytree that every device has whole."""
        if self.sharding is None:
            # A bare device keeps arrays uncommitted to anything else.
            return jax.device_put(tree, self.device)
        return self.sharding.put(tree, jax.tree.map(lambda leaf: self._whole, tree))

    def shared(self, tree: Any) -> Any:
        """Returns arrays of the main process in all of them.

        All have to call it.

        Args:
          tree: Arrays on the host, of the same shapes in every process.
        """
        if not self.spans_processes:
            return tree
        return jax.tree.map(np.asarray, multihost_utils.broadcast_one_to_all(tree))

    def filled(self, members: int | None, batch: int) -> int | None:
        """Returns how many members to compute at a time, so that devices share them.

        Args:
          members: At least so many; None without members.
          batch: Samples of each, which may be shared instead.

        Raises:
          ValueError: There is only one forecast, and devices to share the batch.
        """
        if self.sharding is None or batch % self.sharding.parts("batch") == 0:
            return members
        parts = self.sharding.parts("sample")
        if members is None:
            if batch > 1:
                return None  # The sharding tells what would do.
            raise ValueError(
                f"sharding: {self.sharding} has {self.sharding.parts('batch')} parts "
                "of a batch of 1; spread one forecast over space instead, or make "
                "members"
            )
        return -(-members // parts) * parts

    def put_parameters(self, params: Any) -> Any:
        """Returns parameters or a Haiku state on the devices."""
        if self.sharding is None:
            return self.put(params)
        return self.sharding.put(params, self.sharding.state_shardings(params))

    def put_fields(
        self,
        arrays: Mapping[str, np.ndarray],
        fields: Mapping[str, Field],
        sampled: Container[str],
    ) -> dict[str, jax.Array]:
        """Returns arrays of fields on the devices.

        Args:
          arrays: By name.
          fields: Their dimensions.
          sampled: Those led by a member axis.
        """
        if self.sharding is None:
            return jax.device_put(dict(arrays), self.device)
        shardings = {
            name: self._of(fields[name], array.shape, name in sampled)
            for name, array in arrays.items()
        }
        return self.sharding.put(dict(arrays), shardings)

    def struct(self, tree: Any) -> Any:
        """Returns the abstract arrays of `put`."""
        return _structs(tree, jax.tree.map(lambda leaf: self._whole, tree))

    def parameter_structs(self, params: Any) -> Any:
        """Returns the abstract arrays of `put_parameters`."""
        if self.sharding is None:
            return self.struct(params)
        return _structs(params, self.sharding.state_shardings(params))

    def row_structs(self, parts: Any) -> Any:
        """Returns the abstract prepared parts of a model."""
        if self.sharding is None:
            return self.struct(parts)
        return _structs(parts, self.sharding.row_shardings(parts))

    def field_structs(
        self,
        fields: Mapping[str, Field],
        sampled: Callable[[str], bool],
        members: int | None,
    ) -> dict[str, Any]:
        """Returns the abstract arrays of `put_fields`."""
        result = {}
        for name, field in fields.items():
            leads = members is not None and sampled(name)
            struct = field.struct(*((members,) if members and leads else ()))
            where = self._of(field, struct.shape, leads)
            result[name] = jax.ShapeDtypeStruct(
                struct.shape, struct.dtype, sharding=where
            )
        return result

    def _of(self, field: Field, shape: tuple[int, ...], sampled: bool) -> Any:
        if self.sharding is None:
            return self._whole
        dims = (*(("sample",) if sampled else ()), *field.dims)
        # A batch of one is whole: members share it, or `filled` has refused it.
        cut = (None if d == "batch" and n == 1 else d for d, n in zip(dims, shape))
        return self.sharding.sharding(tuple(cut), shape)


def _structs(tree: Any, shardings: Any) -> Any:
    return jax.tree.map(
        lambda leaf, where: jax.ShapeDtypeStruct(
            np.shape(leaf), leaf.dtype, sharding=where
        ),
        tree,
        shardings,
    )
