"""What a network would be called with, for fits that need no gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import haiku as hk
import jax
import xarray as xr

from weatherlib import predictor_base
from weatherlib.baselines import fields, grid_predictor, linear_layout
from weatherlib.nn.edges import Edges

__all__ = ["Capture", "channels_of", "reader"]

Sample = tuple[xr.Dataset, xr.Dataset, xr.Dataset]


class Capture:
    """Stands in for a network in training, and keeps what it is called with."""

    def __init__(self) -> None:
        self._seen: tuple[fields.Fields, Any] | None = None

    def __call__(
        self,
        fields: fields.Fields,
        edges: Edges,
        output_size: int,
        is_training: bool = False,
        targets: Any = None,
    ) -> Any:
        """Returns the true frames in place of a prediction."""
        del edges, output_size
        assert is_training and targets is not None, "only a loss shows the targets"
        self._seen = fields, targets
        return targets

    def take(self) -> tuple[fields.Fields, Any]:
        """Returns what was seen last, and forgets it."""
        assert self._seen is not None, "nothing was seen"
        seen, self._seen = self._seen, None
        return seen


def reader(
    make_predictor: Callable[[Capture], predictor_base.Predictor],
) -> Callable[[Sample], tuple[linear_layout.HostFields, Any]]:
    """Returns a function from a batch to what the network sees and should predict.

    It goes through the wrappers themselves, so that a fit and a forecast cannot differ.

    Args:
      make_predictor: Returns a `GridPredictor` of the given network in its wrappers,
        whose loss is its own and for training.
    """
    capture = Capture()

    def forward(*sample: xr.Dataset) -> tuple[Any, ...]:
        make_predictor(capture).loss(*sample)
        seen, targets = capture.take()
        return seen.frames, seen.known, seen.static, targets

    apply = jax.jit(hk.without_apply_rng(hk.transform(forward)).apply)

    def read(sample: Sample) -> tuple[linear_layout.HostFields, Any]:
        frames, known, static, targets = jax.device_get(apply({}, *sample))
        given = linear_layout.HostFields(frames=frames, known=known, static=static)
        return given, targets

    return read


def channels_of(sample: Sample) -> linear_layout.Channels:
    """Returns the names of the channels of a batch, repeated for levels."""
    inputs, targets, forcings = sample
    order = grid_predictor.Order.of(inputs, targets, forcings)

    def repeated(names: tuple[Any, ...], dataset: xr.Dataset) -> tuple[str, ...]:
        return tuple(
            str(name)
            for name in names
            for _ in range(dataset[name].sizes.get("level", 1))
        )

    return linear_layout.Channels(
        frames=repeated(order.frames, inputs),
        known=repeated(order.known, forcings),
        static=repeated(order.static, inputs),
    )
