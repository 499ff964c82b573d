"""Batches in a shuffled order that can be left and taken up again at any sample."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from weatherlib import optional
from weatherlib.training.frames import Loader
from weatherlib.training.placement import Placement

__all__ = ["Feed", "FeedIterator"]


_SAMPLES = 2**60


class Feed:
    """Endless batches: every pass over the samples has an order of its own.

    The order depends on the seed alone. Process p of n takes the p-th of n equal pieces
    of each part of a batch, so that together they have the batches of one process.

    Attributes:
      batches: The grain dataset of the batches.
      options: How it is read ahead.
      updates_per_epoch: Batches of one pass.
    """

    def __init__(
        self,
        load: Loader,
        samples: Sequence[int] | np.ndarray,
        *,
        batch_size: int,
        seed: int,
        accumulate: int = 1,
        threads: int = 2,
        prefetch: int = 4,
        placement: Placement | None = None,
    ) -> None:
        """Takes the samples; nothing is read yet.

        Args:
          load: Returns the batch of some samples. Called in threads.
          samples: What `load` understands, one number each.
          batch_size: Samples in an update, over all processes and parts.
          seed: Of the order.
          accumulate: Parts into which each batch is cut.
          threads: Threads that read.
          prefetch: Batches that wait.
          placement: Which share of each batch this process loads, and what puts it
            onto devices, in threads. None: all of it, wherever JAX computes.

        Raises:
          ValueError: There are no samples, or the batch cannot be shared evenly.
          ImportError: grain is missing.
        """
        grain = optional.require("grain", extra="train")
        if not len(samples):
            raise ValueError("there are no samples to make batches of")
        place = placement or Placement()
        shares = place.process_count * accumulate
        if batch_size < 1 or batch_size % shares:
            raise ValueError(
                f"batch_size {batch_size} cannot be cut into {place.process_count} "
                f"process(es) of {accumulate} part(s)"
            )
        self.updates_per_epoch = len(samples) / batch_size
        held = np.asarray(samples)
        pieces = (accumulate, place.process_count, batch_size // shares)

        def read(numbers: np.ndarray) -> tuple[Any, ...]:
            mine = numbers.reshape(pieces)[:, place.process_index]
            parts = [load(held[n]) for n in mine]
            return tuple(place.place_batch(part) for part in parts)

        # Without a number of passes, lengths overflow where batches hold one sample.
        order = grain.MapDataset.range(len(held)).seed(seed).shuffle()
        order = order.repeat(_SAMPLES // len(held))
        self.batches = order.batch(batch_size, batch_fn=np.asarray).map(read)
        self.options = grain.ReadOptions(
            num_threads=threads, prefetch_buffer_size=prefetch
        )

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        """Returns the parts of a batch by its number, from 0."""
        return self.batches[index]

    def iterate(self, state: Mapping[str, Any] | None = None) -> FeedIterator:
        """Returns an iterator that begins anew, or at a position it once had."""
        return FeedIterator(self.batches.to_iter_dataset(self.options), state)


class FeedIterator:
    """Batches one after the other.

    Attributes:
      waited: Seconds spent waiting for batches so far.
    """

    def __init__(self, dataset: Any, state: Mapping[str, Any] | None) -> None:
        self._iterator = iter(dataset)
        if state is not None:
            self._iterator.set_state(dict(state))
        self.waited = 0.0

    def __iter__(self) -> FeedIterator:
        return self

    def __next__(self) -> tuple[Any, ...]:
        """Returns the parts of the next batch."""
        began = time.perf_counter()
        try:
            return next(self._iterator)
        finally:
            self.waited += time.perf_counter() - began

    @property
    def state(self) -> dict[str, Any]:
        """The position, which JSON can hold."""
        return dict(self._iterator.get_state())

    def close(self) -> None:
        """Ends the threads that read ahead."""
        close = getattr(self._iterator, "close", None)
        if close is not None:
            close()
