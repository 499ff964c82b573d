"""Ridge regression from sums of products or from samples: weights for given penalties.

One penalty is solved for by a Cholesky factor. Several come from one eigenvalue
decomposition, in which each of them only scales.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from scipy import linalg

from weatherlib.baselines import linear_sums
from weatherlib.baselines.linear_sums import Columns

__all__ = ["Equations", "Solution", "Spectrum", "equations"]

# Penalties that are cheaper to solve for one by one.
_FEW = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Solution:
    """A linear map of standardised features to standardised outputs.

    Attributes:
      weights: Shape [feature, output]; with a basis [factor, output].
      basis: Shape [feature, factor], or None for a single matrix.
      inputs: Of the features.
      outputs: Of the outputs.
    """

    weights: np.ndarray
    basis: np.ndarray | None
    inputs: Columns
    outputs: Columns

    def mean_of_features(self) -> np.ndarray:
        """Returns what the map makes of the mean of the features, shape [output].

        Of the stored numbers, so that their rounding shifts no prediction.
        """
        first = self.weights if self.basis is None else self.basis
        found = np.zeros(first.shape[1])
        for part in linear_sums.parts(len(first), first.shape[1]):
            found += self.inputs.mean[part] @ first[part].astype(np.float64)
        return found if self.basis is None else found @ self.weights


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spectrum:
    """Equations in coordinates in which a penalty only scales.

    Attributes:
      values: Eigenvalues, ascending, shape [factor].
      rotated: Right sides, shape [factor, output].
      vectors: Eigenvectors as columns, shape [row, factor].
    """

    values: np.ndarray
    rotated: np.ndarray
    vectors: np.ndarray

    def inverse(self, alpha: float) -> np.ndarray:
        """Returns what a penalty makes of each eigenvalue, shape [factor].

        Directions in which nothing varies get nothing where they have no penalty.
        """
        sums = self.values + alpha
        rounding = len(self.values) * np.finfo(np.float64).eps * self.values[-1]
        lowest = max(rounding, np.finfo(np.float64).tiny)
        return np.where(sums > lowest, 1 / np.maximum(sums, lowest), 0.0)

    def solution(self, alphas: np.ndarray) -> np.ndarray:
        """Returns the solution in these coordinates, shape [factor, output].

        Args:
          alphas: Penalty of each output, shape [output].
        """
        found = np.empty_like(self.rotated)
        for alpha in np.unique(alphas):
            chosen = alphas == alpha
            scale = self.inverse(alpha)[:, np.newaxis]
            found[:, chosen] = self.rotated[:, chosen] * scale
        return found


class Equations:
    """Equations of one of the two forms, with standardised columns.

    In the primal form rows stand for features, in the dual one for samples.

    Attributes:
      inputs: Of the features.
      outputs: Of the outputs.
    """

    def __init__(
        self,
        matrix: np.ndarray,
        right: np.ndarray,
        inputs: Columns,
        outputs: Columns,
        samples: linear_sums.Samples | None,
    ) -> None:
        """Takes the equations, which are used up by the first solution.

        Args:
          matrix: Lower triangle, shape [row, row].
          right: Shape [row, output].
          inputs: Of the features.
          outputs: Of the outputs.
          samples: Those that rows stand for; None where rows are features.
        """
        self.inputs, self.outputs = inputs, outputs
        self._matrix, self._right, self._samples = matrix, right, samples

    def spectrum(self) -> Spectrum:
        """Returns the eigenvalue decomposition."""
        values, vectors = linalg.eigh(
            self._matrix, lower=True, overwrite_a=True, check_finite=False, driver="evr"
        )
        # Rounding can bring those of singular matrices below zero.
        values = np.maximum(values, 0.0)
        return Spectrum(values=values, rotated=vectors.T @ self._right, vectors=vectors)

    def projector(self, spectrum: Spectrum) -> Callable[[np.ndarray], np.ndarray]:
        """Returns what brings features [sample, feature] to [sample, factor].

        Predictions are its product with `Spectrum.solution`.
        """

        def project(features: np.ndarray) -> np.ndarray:
            if self._samples is None:
                return self.inputs.standardised(features) @ spectrum.vectors
            likeness = 0.0
            for part, block in self._samples.chunks():
                known = self.inputs.standardised(block, part)
                new = self.inputs.standardised(features[:, part], part)
                likeness = likeness + new @ known.T
            return likeness @ spectrum.vectors

        return project

    def solve(self, alphas: np.ndarray, *, factors: bool, dtype: np.dtype) -> Solution:
        """Returns the weights.

        Args:
          alphas: Penalty of each output, shape [output].
          factors: Whether to keep two matrices; for the dual form.
          dtype: Of the weights.
        """
        if factors:
            return self._factors(alphas, dtype)
        rows = self._direct(alphas)
        if rows is None:
            spectrum = self.spectrum()
            rows = spectrum.vectors @ spectrum.solution(alphas)
        if self._samples is None:
            # Eigenvectors share directions in which nothing varies.
            rows[~self.inputs.varies] = 0.0
            weights = rows.astype(dtype)
        else:
            shape = (len(self.inputs.mean), rows.shape[1])
            weights = np.empty(shape, dtype)
            for part, block in self._samples.chunks():
                weights[part] = self.inputs.standardised(block, part).T @ rows
        return self._solution(weights, None)

    def _direct(self, alphas: np.ndarray) -> np.ndarray | None:
        """Returns the solution by Cholesky factors, shape [row, output].

        None where that costs more than a decomposition, or a penalty is so small that
        rounding would take its place.
        """
        different, size = np.unique(alphas), len(self._matrix)
        rounding = size * np.finfo(np.float64).eps * self._matrix.trace()
        if len(different) > _FEW or different[0] <= rounding:
            return None
        found = np.empty_like(self._right)
        diagonal = np.arange(size)
        for alpha in different:
            matrix = self._matrix.copy(order="F")
            matrix[diagonal, diagonal] += alpha
            chosen = alphas == alpha
            factor = linalg.cho_factor(
                matrix, lower=True, overwrite_a=True, check_finite=False
            )
            found[:, chosen] = linalg.cho_solve(
                factor, self._right[:, chosen], overwrite_b=True, check_finite=False
            )
        return found

    def _factors(self, alphas: np.ndarray, dtype: np.dtype) -> Solution:
        assert self._samples is not None, "the primal form has no factors"
        spectrum = self.spectrum()
        # Columns of the basis get length 1, as far as they have one.
        length = np.sqrt(np.maximum(spectrum.values, spectrum.values[-1] * 1e-12))
        length[length == 0] = 1.0
        vectors = spectrum.vectors / length
        basis = np.empty((len(self.inputs.mean), len(length)), dtype)
        for part, block in self._samples.chunks():
            basis[part] = self.inputs.standardised(block, part).T @ vectors
        weights = spectrum.solution(alphas) * length[:, np.newaxis]
        return self._solution(weights.astype(dtype), basis)

    def _solution(self, weights: np.ndarray, basis: np.ndarray | None) -> Solution:
        return Solution(
            weights=weights, basis=basis, inputs=self.inputs, outputs=self.outputs
        )


def equations(
    sums: linear_sums.Products | linear_sums.Samples, *, scaled: bool, keep: bool
) -> Equations:
    """Returns the equations of all samples so far.

    Args:
      sums: The samples, in either form.
      scaled: Whether columns are scaled to variance 1.
      keep: Whether samples will still be added.
    """
    inputs, outputs = sums.columns(scaled=scaled)
    if isinstance(sums, linear_sums.Products):
        gram, cross = sums.system(inputs, outputs, keep=keep)
        return Equations(gram, cross, inputs, outputs, None)
    held = sums.frozen() if keep else sums
    right = outputs.standardised(held.targets())
    return Equations(held.gram(inputs), right, inputs, outputs, held)
