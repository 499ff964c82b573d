"""Batches of fields as rows of features and outputs, checked, in blocks of a size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import numpy as np

from weatherlib.baselines import linear_layout
from weatherlib.baselines.linear_config import AnyLinearConfig
from weatherlib.baselines.linear_layout import Channels, FieldArrays, Shape

__all__ = ["Batch", "Block", "Intake", "kept_dtype", "regrouped"]

Batch: TypeAlias = tuple[FieldArrays, Any]
"""What a model reads, and the frames to predict [batch, step, lat, lon, output]."""

Block: TypeAlias = tuple[np.ndarray, np.ndarray]
"""Features [sample, feature] and outputs [sample, output]."""


class Intake:
    """Checks batches by the first of them and makes rows of them.

    Attributes:
      shape: Features and outputs.
      grid: Rows and columns of the grid.
      outputs: Predicted channels.
      kept: Type of the rows.
    """

    def __init__(
        self, config: AnyLinearConfig, channels: Channels, first: Batch
    ) -> None:
        """Takes what all batches have to be like.

        Args:
          config: Of the model.
          channels: Names of what the fields hold.
          first: The first batch.

        Raises:
          ValueError: It is not what the model reads, or has other channels.
        """
        fields, targets = first
        self._config, self._channels = config, channels
        self.outputs = int(targets.shape[-1])
        self.shape = self._shape(fields)
        self.grid = tuple(fields.frames.shape[2:4])
        self.kept = kept_dtype(np.result_type(fields.frames.dtype, targets.dtype))
        for label in ("frames", "known", "static"):
            names, found = getattr(channels, label), getattr(fields, label).shape
            if len(names) != found[-1]:
                raise ValueError(
                    f"{label}: {len(names)} names are given for {found[-1]} channels"
                )

    @property
    def predicted(self) -> tuple[str, ...]:
        """Variables of the predicted channels."""
        return self._channels.frames[: self.outputs]

    def rows(self, batches: Iterable[Batch]) -> Iterator[Block]:
        """Yields features and outputs of each batch.

        Raises:
          ValueError: A batch is unlike the first, or values are missing.
        """
        names = self._channels
        for fields, targets in batches:
            self._check(fields, targets)
            arrays = linear_layout.HostFields(
                frames=self._host(fields.frames, names.frames),
                known=self._host(fields.known, names.known),
                static=self._host(fields.static, names.static),
            )
            features = linear_layout.features(arrays, np.concatenate)
            goals = self._host(targets, self.predicted)
            yield features, linear_layout.outputs(goals)

    def _shape(self, fields: FieldArrays) -> Shape:
        config = self._config
        return Shape.of(fields, config.input_length, config.output_length, self.outputs)

    def _check(self, fields: FieldArrays, targets: Any) -> None:
        shape, grid = self._shape(fields), tuple(fields.frames.shape[2:4])
        if shape != self.shape or grid != self.grid:
            raise ValueError(
                f"a batch has {shape.features} features on the grid {_by(grid)}, the "
                f"first one {self.shape.features} on {_by(self.grid)}"
            )
        batch, steps = len(fields.frames), self._config.output_length
        wanted = (batch, steps, *self.grid, self.outputs)
        if tuple(targets.shape) != wanted:
            raise ValueError(
                f"the frames to predict have the shape {tuple(targets.shape)}, and "
                f"should have {wanted}: batch, output_length, lat, lon, channel"
            )

    def _host(self, array: Any, names: tuple[str, ...]) -> np.ndarray:
        """Returns values in the type of the rows.

        Raises:
          ValueError: Some are missing.
        """
        values = np.asarray(array).astype(self.kept, copy=False)
        finite = np.isfinite(values)
        if finite.all():
            return values
        bad = ~finite.all(axis=tuple(range(1, values.ndim - 1)))
        channel = int(np.flatnonzero(bad.any(axis=0))[0])
        name, count = names[channel], int(bad[:, channel].sum())
        raise ValueError(
            f"{name}: {count} of a batch of {len(values)} samples have missing or "
            "infinite values, to which no linear model can be fitted; fill them "
            f"(wrappers.nan_cleaning: [{name}]), leave the variable out, or choose a "
            "period without"
        )


def kept_dtype(dtype: Any) -> np.dtype:
    """Returns the type in which values are kept: float64, or else float32."""
    return np.dtype(np.float64 if np.dtype(dtype) == np.float64 else np.float32)


def regrouped(
    blocks: Iterable[Block], size: int, cuts: Iterable[int]
) -> Iterator[Block]:
    """Yields the same samples in blocks of a size, the last of them shorter.

    Args:
      blocks: Of any sizes.
      size: Samples in a block.
      cuts: Numbers of samples at which one block ends and the next begins.
    """
    ends = sorted(set(cuts))
    held: list[Block] = []
    done = waiting = 0
    for inputs, targets in blocks:
        first = 0
        while first < len(inputs):
            room = min([size, *(end - done for end in ends if end > done)])
            part = slice(first, first + room - waiting)
            held.append((inputs[part], targets[part]))
            taken = len(held[-1][0])
            first, waiting = first + taken, waiting + taken
            if waiting == room:
                yield _joined(held)
                done, waiting, held = done + waiting, 0, []
    if held:
        yield _joined(held)


def _joined(blocks: list[Block]) -> Block:
    # Copies also of a single one: what it is a part of need not be kept.
    inputs, targets = zip(*blocks)
    return np.concatenate(inputs), np.concatenate(targets)


def _by(grid: tuple[int, ...]) -> str:
    return "x".join(map(str, grid))
