"""Batches of several sources in turn, and the objective that each of them has."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from weatherlib import optional
from weatherlib.training.feed import Feed, FeedIterator
from weatherlib.training.frames import Loader
from weatherlib.training.objective import Objective
from weatherlib.typing import PyTree

__all__ = ["Mark", "MixedFeed", "MixedObjective", "marked"]


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Mark:
    """Tells which source a batch comes from, where a function of it is traced.

    Attributes:
      number: Of the source.
    """

    number: int


def marked(load: Loader, number: int) -> Loader:
    """Returns a loader whose batches end with the mark of a source."""

    def loader(numbers: np.ndarray) -> Any:
        return (*load(numbers), Mark(number))

    return loader


class MixedFeed:
    """Endless batches of several feeds in turn, each as often as its weight says.

    The order follows from the weights alone, and each feed keeps its own, so that a run
    goes on from any position.
    """

    def __init__(
        self,
        feeds: Sequence[Feed],
        weights: Sequence[float],
    ) -> None:
        """Takes the feeds; nothing is read yet.

        Args:
          feeds: One for each source. The first says how batches are read ahead.
          weights: How many batches come from each, in relation to the others.

        Raises:
          ValueError: There are no feeds, or not as many positive weights.
          ImportError: grain is missing.
        """
        grain = optional.require("grain", extra="train")
        if not feeds or len(weights) != len(feeds) or not min(weights) > 0:
            raise ValueError(
                f"{len(feeds)} feeds need as many positive weights, found {weights!r}"
            )
        self._batches = grain.MapDataset.mix(
            [feed.batches for feed in feeds], weights=list(weights)
        )
        self._options = feeds[0].options

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        """Returns the parts of a batch by its number, from 0."""
        return self._batches[index]

    def iterate(self, state: Mapping[str, Any] | None = None) -> FeedIterator:
        """Returns an iterator that begins anew, or at a position it once had."""
        return FeedIterator(self._batches.to_iter_dataset(self._options), state)


class MixedObjective:
    """The objectives of several sources that share their parameters.

    Batches are those of `marked` loaders. An update is compiled once for each source.
    """

    def __init__(self, objectives: Sequence[Objective]) -> None:
        """Takes one objective for each source."""
        self._objectives = tuple(objectives)

    def init(self, key: jax.Array, batch: Any) -> tuple[PyTree, PyTree]:
        """Returns first parameters and Haiku state, by the source of the batch."""
        objective, sample = self._chosen(batch)
        return objective.init(key, sample)

    def loss(
        self,
        params: PyTree,
        state: PyTree,
        key: jax.Array,
        batch: Any,
        **options: Any,
    ) -> tuple[jax.Array, tuple[dict[str, jax.Array], PyTree]]:
        """Returns what the objective of the source does, with the loss alone.

        Sources predict different variables, whose errors cannot be averaged over
        updates, so there are no diagnostics.
        """
        objective, sample = self._chosen(batch)
        loss, (_, state) = objective.loss(params, state, key, sample, **options)
        return loss, ({}, state)

    def _chosen(self, batch: Any) -> tuple[Objective, Any]:
        *sample, mark = batch
        return self._objectives[mark.number], tuple(sample)
