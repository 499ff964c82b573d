"""What a linear fit keeps of its samples: sums of products, or the samples themselves.

Both take blocks of samples in any cut and come to the same system of equations. All
sums are in double precision and of departures from means, so that large means cost no
digits.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy import linalg

__all__ = ["NUMBERS", "Columns", "Products", "Samples", "parts"]

# Its functions are made when SciPy is built, so type checkers do not see them.
_blas: Any = linalg.blas

NUMBERS = 2**23
"""Numbers that are held in double precision at a time."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Columns:
    """Mean and scale of each column of a table.

    Attributes:
      mean: Shape [column].
      scale: What departures from the mean are divided by, shape [column].
      varies: Whether there are any departures, shape [column].
    """

    mean: np.ndarray
    scale: np.ndarray
    varies: np.ndarray

    @classmethod
    def of(
        cls, mean: np.ndarray, squares: np.ndarray, count: int, *, scaled: bool
    ) -> Columns:
        """Returns those of sums over samples.

        A column whose spread is no larger than the rounding of its mean is constant.

        Args:
          mean: Shape [column].
          squares: Sum of the squares of departures, shape [column].
          count: Samples.
          scaled: Whether to scale by the standard deviation, that of the samples and
            not an estimate of that behind them; by 1 where nothing varies.
        """
        deviation = np.sqrt(squares / count)
        rounding = count * np.finfo(np.float64).eps * np.abs(mean)
        varies = deviation > rounding
        scale = np.where(varies, deviation, 1.0) if scaled else np.ones_like(mean)
        return cls(mean=mean, scale=scale, varies=varies)

    def standardised(self, values: np.ndarray, part: slice = slice(None)) -> np.ndarray:
        """Returns departures in units of the scale, zero in constant columns.

        Args:
          values: Shape [row, column].
          part: The columns that are given.
        """
        found = np.subtract(values, self.mean[part], dtype=np.float64)
        found /= self.scale[part]
        found[:, ~self.varies[part]] = 0.0
        return found


class Products:
    """Sums of products of features with each other and with outputs, over samples.

    Attributes:
      count: Samples.
      gram: Lower triangle of the sums of products of departures of features, shape
        [feature, feature].
      cross: Likewise of features with outputs, shape [feature, output].
    """

    def __init__(self, features: int, outputs: int) -> None:
        """Starts without samples."""
        self.count = 0
        self.gram = np.zeros((features, features), order="F")
        self.cross = np.zeros((features, outputs), order="F")
        self._inputs = np.zeros(features)
        self._targets = np.zeros(outputs)
        self._target_squares = np.zeros(outputs)

    def add(self, inputs: np.ndarray, targets: np.ndarray) -> None:
        """Adds samples.

        Args:
          inputs: Shape [sample, feature].
          targets: Shape [sample, output].

        Source: Chan, Golub and LeVeque (1979), Updating formulae and a pairwise
        algorithm for computing sample variances. The distance of the means enters as
        one more sample.
        """
        x, self._inputs = self._departures(inputs, self._inputs)
        y, self._targets = self._departures(targets, self._targets)
        self.gram = _blas.dsyrk(1.0, x.T, beta=1.0, c=self.gram, lower=1, overwrite_c=1)
        self.cross = _blas.dgemm(
            1.0, x.T, y.T, trans_b=1, beta=1.0, c=self.cross, overwrite_c=1
        )
        self._target_squares += np.einsum("ij,ij->j", y, y)
        self.count += len(inputs)

    def columns(self, *, scaled: bool) -> tuple[Columns, Columns]:
        """Returns mean and scale of features and of outputs."""
        squares = self.gram.diagonal().copy()
        return (
            Columns.of(self._inputs, squares, self.count, scaled=scaled),
            Columns.of(self._targets, self._target_squares, self.count, scaled=scaled),
        )

    def system(
        self, inputs: Columns, targets: Columns, *, keep: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns `gram` and `cross` of standardised columns.

        Args:
          inputs: Of the features.
          targets: Of the outputs.
          keep: Whether samples will still be added; otherwise the sums are used up.
        """
        gram = self.gram.copy(order="F") if keep else self.gram
        cross = self.cross.copy(order="F") if keep else self.cross
        rows = np.where(inputs.varies, 1 / inputs.scale, 0.0)
        outputs = np.where(targets.varies, 1 / targets.scale, 0.0)
        for part in parts(len(gram), len(gram)):
            gram[:, part] *= rows[:, np.newaxis]
            gram[:, part] *= rows[part]
        cross *= rows[:, np.newaxis]
        cross *= outputs
        return gram, cross

    def _departures(
        self, block: np.ndarray, mean: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns departures with one more row for the distance, and the new mean."""
        count, total = len(block), self.count + len(block)
        own = block.mean(axis=0, dtype=np.float64)
        rows = np.empty((count + 1, len(own)))
        np.subtract(block, own, out=rows[:-1])
        # The mean of rounded values is not their middle: one pass more makes it so.
        rest = rows[:-1].mean(axis=0)
        rows[:-1] -= rest
        own = own + rest
        distance = own - mean
        rows[-1] = distance * np.sqrt(self.count * count / total)
        return rows, mean + distance * (count / total)


class Samples:
    """The samples themselves, where there are fewer of them than of features.

    Attributes:
      count: Samples.
    """

    def __init__(self, features: int) -> None:
        """Starts without samples."""
        self.count = 0
        self._features = features
        self._inputs: list[np.ndarray] = []
        self._targets: list[np.ndarray] = []

    def add(self, inputs: np.ndarray, targets: np.ndarray) -> None:
        """Adds samples, which must not be changed afterwards.

        Args:
          inputs: Shape [sample, feature].
          targets: Shape [sample, output].
        """
        self._inputs.append(inputs)
        self._targets.append(targets)
        self.count += len(inputs)

    def columns(self, *, scaled: bool) -> tuple[Columns, Columns]:
        """Returns mean and scale of features and of outputs."""
        found = [_moments(block) for _, block in self.chunks()]
        mean, squares = (np.concatenate(values) for values in zip(*found))
        inputs = Columns.of(mean, squares, self.count, scaled=scaled)
        mean, squares = _moments(self.targets())
        return inputs, Columns.of(mean, squares, self.count, scaled=scaled)

    def frozen(self) -> Samples:
        """Returns what there is now; samples that are added later are not in it."""
        found = Samples(self._features)
        found.count = self.count
        found._inputs, found._targets = list(self._inputs), list(self._targets)
        return found

    def targets(self) -> np.ndarray:
        """Returns the outputs of all samples in double precision."""
        return np.concatenate(self._targets, axis=0, dtype=np.float64)

    def chunks(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Yields the features of all samples in double precision, some at a time."""
        for part in parts(self._features, self.count):
            rows = [block[:, part] for block in self._inputs]
            yield part, np.concatenate(rows, axis=0, dtype=np.float64)

    def gram(self, inputs: Columns) -> np.ndarray:
        """Returns products of samples with each other, lower triangle.

        Args:
          inputs: Of the features.

        Returns:
          Shape [sample, sample].
        """
        gram = np.zeros((self.count, self.count), order="F")
        for part, block in self.chunks():
            x = inputs.standardised(block, part)
            gram = _blas.dsyrk(
                1.0, x.T, trans=1, beta=1.0, c=gram, lower=1, overwrite_c=1
            )
        return gram


def parts(columns: int, rows: int) -> Iterator[slice]:
    """Yields slices of columns, so that a part of them is not too large for memory."""
    width = max(1, NUMBERS // max(rows, 1))
    for first in range(0, columns, width):
        yield slice(first, min(first + width, columns))


def _moments(block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean of each column and the sum of the squares of departures."""
    mean = block.mean(axis=0)
    departures = block - mean
    rest = departures.mean(axis=0)
    departures -= rest
    return mean + rest, np.einsum("ij,ij->j", departures, departures)
