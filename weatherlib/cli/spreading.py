"""Devices and processes of a forecast, from the options of `weatherlib predict`."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from jax.experimental import multihost_utils

from weatherlib import config, data
from weatherlib.cli import families, models, predict_options
from weatherlib.training import distributed, sharding, sharding_config

__all__ = [
    "Follower",
    "facts",
    "followed",
    "layout",
    "make",
    "parse",
    "require_same",
]

Options = predict_options.Options

_EXAMPLE = "--sharding data=2,space=4"


def parse(text: str) -> sharding.ShardingConfig:
    """Returns the tables that an option names.

    Args:
      text: Axes of the device mesh and their sizes, such as `data=2,space=4`.

    Raises:
      ValueError: It is none, or names what nothing of a forecast lies along.
    """
    mesh: dict[str, int] = {}
    known = [*dict.fromkeys(sharding_config.DEFAULT_DIMS.values())]
    known += list(sharding_config.DEFAULT_DIMS)
    for word in text.split(","):
        name, _, size = (part.strip() for part in word.partition("="))
        if not size.removeprefix("-").isdigit() or name in mesh:
            raise ValueError(
                f"--sharding: expected axes and sizes, such as {_EXAMPLE}, found "
                f"{text!r}"
            )
        if name not in known:
            hint = config.closest_hint(name, map(str, known))
            raise ValueError(f"--sharding: unknown axis {name!r}{hint}")
        mesh[name] = int(size)
    try:
        return sharding.ShardingConfig(mesh=mesh)
    except ValueError as error:
        raise ValueError(f"--sharding: {error}") from error


def make(
    options: Options, model: models.Model, processes: distributed.Run
) -> sharding.Layout | None:
    """Returns how a forecast is spread; None for one device.

    Without `--sharding` one process uses one device. Several share the starts and
    members of a set, or the globe of a single forecast, between all devices.

    Args:
      options: What the user asks for.
      model: What makes the forecasts.
      processes: Those that work on them.

    Raises:
      ValueError: The mesh does not make up the devices, or there is nothing to share.
    """
    if options.sharding is None:
        if processes.num_processes == 1:
            return None
        axis = "data" if options.is_set else "space"
        tables = sharding.ShardingConfig(mesh={axis: -1})
    else:
        tables = parse(options.sharding)
    family = families.FAMILIES[model.family]()
    found = _arrange(tables, family.parameter_axes)
    if found.parts("batch") > 1 and not options.is_set:
        raise ValueError(
            f"--sharding: {_text(found)} shares starts and members, and this is one "
            f"forecast; use space={found.mesh.size}, or several starts (--init) or "
            "--members"
        )
    return found


def layout(text: str) -> sharding.Layout:
    """Returns the devices in the shape that an option names.

    Args:
      text: As for `parse`.

    Raises:
      ValueError: As for `parse`; or the mesh does not make up the devices.
    """
    return _arrange(parse(text))


def facts(
    layout: sharding.Layout | None, processes: distributed.Run | None = None
) -> list[tuple[str, str]]:
    """Returns what there is to say of a layout."""
    if layout is None:
        return []
    platform = layout.mesh.devices.flat[0].platform
    text = f"{_text(layout)} on {layout.mesh.size} {platform} devices"
    if processes is not None and processes.num_processes > 1:
        text += f" of {processes.num_processes} processes"
    return [("layout", text)]


def require_same(processes: distributed.Run, *plans: Any) -> None:
    """Checks that all processes are about to make the same forecasts.

    Args:
      processes: All of them.
      *plans: What has to agree.

    Raises:
      ValueError: This process is about to make others than the first.
    """
    if processes.num_processes == 1:
        return
    # Before the first collective, as processes may read for different times.
    processes.barrier("read")
    digest = hashlib.sha256(repr(plans).encode()).digest()
    first = _shared(np.frombuffer(digest, np.uint8))
    if bytes(first) != digest:
        raise ValueError(
            "the processes of a run have to make the same forecasts, and this one "
            "differs from the first in model, starts, steps, members or --sharding; "
            "give all the same command, and dates instead of --init latest"
        )


class Follower:
    """What a process that writes nothing has in place of the writer of a set.

    Attributes:
      plan: The axes of the set.
    """

    def __init__(self, plan: data.HindcastPlan, complete: np.ndarray) -> None:
        """Takes the parts that are complete, bool, shape [start, member]."""
        self.plan = plan
        self._complete = complete

    def is_complete(self, start: int, members: range | None = None) -> bool:
        """Whether the parts of one start, of all or of some members, are complete."""
        chosen = slice(None) if members is None else slice(members.start, members.stop)
        return bool(self._complete[start, chosen].all())

    def slot(self, start: int, members: range | None = None) -> None:
        """Returns what takes the frames of one start: nothing."""

    def block(self, starts: range) -> None:
        """Returns what takes the frames of several starts: nothing."""


def followed(
    processes: distributed.Run,
    plan: data.HindcastPlan,
    writer: data.HindcastWriter | None,
) -> data.HindcastWriter | Follower:
    """Returns the writer of a set, and what stands for it in the other processes.

    Args:
      processes: All call this.
      plan: The axes of the set.
      writer: Of the first process; None in the others.
    """
    if processes.num_processes == 1:
        assert writer is not None
        return writer
    shape = (plan.starts.size, plan.members or 1)
    complete = np.zeros(shape, np.uint8) if writer is None else writer.complete
    complete = _shared(complete.astype(np.uint8)).astype(bool)
    return Follower(plan, complete) if writer is None else writer


def _arrange(tables: sharding.ShardingConfig, family_axes: Any = ()) -> sharding.Layout:
    """Returns a layout of all devices, whose errors name the option."""
    try:
        return sharding.Layout(tables, family_axes=family_axes)
    except ValueError as error:
        raise ValueError(f"--sharding: {error}") from error


def _shared(array: np.ndarray) -> np.ndarray:
    """Returns the array of the first process, in all."""
    return np.asarray(multihost_utils.broadcast_one_to_all(array), array.dtype)


def _text(layout: sharding.Layout) -> str:
    return ", ".join(f"{name}: {size}" for name, size in layout.mesh.shape.items())
