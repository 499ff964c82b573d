"""Where a training run computes, and with whom."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Mapping
from typing import Any

import jax

from weatherlib.training import distributed, sharding

__all__ = ["Placement"]


def _same(value: Any) -> Any:
    return value


@dataclasses.dataclass(frozen=True, kw_only=True)
class Placement:
    """What the loop, the batches and validation need to know of devices and processes.

    By default one process computes wherever JAX does.

    Attributes:
      place: Puts a training state onto devices.
      constrain: Keeps a new state, while an update is traced, where `place` put it.
      place_batch: Puts the part of a batch that this process has loaded onto devices.
      place_shared: Puts a batch onto devices that every process has loaded whole.
      fetch: Returns whole arrays on the host. All processes call it together.
      activate: Returns the context in which models are traced.
      jit_options: Options of `jax.jit` for the update.
      batch_parts: Into how many parts devices cut a batch, which has to divide.
      process_index: Which part of each batch this process loads.
      process_count: In how many parts batches are loaded.
      is_main: Whether this process writes what is written once.
      guard: Returns a context that tells a lost process from other errors.
      agree: Returns whether any process says so. All processes call it together.
      wait: Returns when all processes are here; takes a name for the error.
    """

    place: Callable[[Any], Any] = _same
    constrain: Callable[[Any], Any] = _same
    place_batch: Callable[[Any], Any] = _same
    place_shared: Callable[[Any], Any] = _same
    fetch: Callable[[Any], Any] = jax.device_get
    activate: Callable[[], contextlib.AbstractContextManager[Any]] = (
        contextlib.nullcontext
    )
    jit_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    batch_parts: int = 1
    process_index: int = 0
    process_count: int = 1
    is_main: bool = True
    guard: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext
    agree: Callable[[bool], bool] = bool
    wait: Callable[[str], None] = lambda name: None

    @classmethod
    def over(
        cls, layout: sharding.Layout, run: distributed.Run | None = None
    ) -> Placement:
        """Returns the placement of a layout and the processes of a run.

        Args:
          layout: Of all devices of the run.
          run: Its processes; None is this one alone.

        Raises:
          ValueError: The processes do not share batches evenly.
        """
        index, count = layout.loader_shard
        placement = cls(
            place=layout.place,
            constrain=layout.constrain_state,
            place_batch=layout.place_batch,
            place_shared=layout.place_shared,
            fetch=layout.fetch,
            activate=layout.activate,
            batch_parts=layout.parts("batch"),
            process_index=index,
            process_count=count,
        )
        if run is None:
            return placement
        return dataclasses.replace(
            placement,
            is_main=run.is_main,
            guard=run.guard,
            agree=run.any_of,
            # Nobody is late while all are alive: the main process may have to read
            # years of data.
            wait=lambda name: run.barrier(name, threading.TIMEOUT_MAX),
        )

    def decide(self, flag: bool) -> bool:
        """Returns what the main process says, in all processes."""
        return self.agree(flag and self.is_main)
