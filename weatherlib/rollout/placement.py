"""Where the arrays of a forecast lie: on one device, or spread over several."""

import contextlib
from collections.abc import Callable, Container, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

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
      device: The device, or the first of several.
      sharding: How work is spread, None for one device.
    """

    def __init__(self, device: Device | None, sharding: Sharding | None) -> None:
        """Takes a device or a sharding; JAX's default device without either.

        Raises:
          ValueError: Both are given, or devices belong to other processes.
        """
        if sharding is not None:
            if device is not None:
                raise ValueError("give a device or a sharding, not both")
            devices = list(sharding.mesh.devices.flat)
            others = {d.process_index for d in devices} - {jax.process_index()}
            if others:
                raise ValueError(
                    "sharding: a forecast runs on the devices of one process, found "
                    f"some of process(es) {sorted(others)}; make the layout with "
                    "devices=jax.local_devices()"
                )
            device = devices[0]
        self.device = device or next(iter(jnp.zeros(()).devices()))
        self.sharding = sharding
        single = jax.sharding.SingleDeviceSharding(self.device)
        self._whole = single if sharding is None else sharding.replicated

    def activate(self) -> contextlib.AbstractContextManager[Any]:
        """Returns the context in which the model is traced."""
        if self.sharding is None:
            return contextlib.nullcontext()
        return self.sharding.activate()

    def put(self, tree: Any) -> Any:
        """Returns a pytree that every device has whole."""
        # A bare device keeps arrays uncommitted to anything else, as device_put does.
        where = self.device if self.sharding is None else self._whole
        return jax.device_put(tree, where)

    def put_parameters(self, params: Any) -> Any:
        """Returns parameters or a Haiku state on the devices."""
        if self.sharding is None:
            return self.put(params)
        return jax.device_put(params, self.sharding.state_shardings(params))

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
        return {
            name: jax.device_put(
                array, self._of(fields[name], array.shape, name in sampled)
            )
            for name, array in arrays.items()
        }

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
        leading = ("sample",) if sampled else ()
        return self.sharding.sharding((*leading, *field.dims), shape)


def _structs(tree: Any, shardings: Any) -> Any:
    return jax.tree.map(
        lambda leaf, where: jax.ShapeDtypeStruct(
            np.shape(leaf), leaf.dtype, sharding=where
        ),
        tree,
        shardings,
    )
