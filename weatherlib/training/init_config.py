"""Settings of what training starts from and adds. No JAX and no xarray here."""

from __future__ import annotations

import dataclasses
import pathlib

from weatherlib import config

__all__ = ["AdapterConfig", "InitConfig"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class InitConfig(config.Mapping):
    """Weights to start from.

    Attributes:
      path: A checkpoint of the same family, or for ClimaX a file of published weights:
        .ckpt, .safetensors or .npz.
      skip: Patterns of parameters that are not taken from it, and may be missing there
        or have another shape.
      adapt: Whether weights of another architecture of the family are carried over as
        far as they go, and each change is reported: what belongs to a variable by its
        name, positions to another grid, and all else where the shape is the same. What
        is new starts fresh.
      variables: Names of the variables of a published file, in their order, where they
        are not the published ones.
    """

    path: pathlib.Path
    skip: tuple[str, ...] = ()
    adapt: bool = False
    variables: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdapterConfig(config.Mapping):
    """Low-rank changes of matrices, trained in place of the matrices themselves.

    A matrix [in, out] becomes `w + scale / rank * a @ b` with `a` [in, rank] and `b`
    [rank, out]. `b` is 0 at first, so that nothing is changed before training. What is
    exported are plain weights with the changes added. All other parameters stay as they
    are, but those that `optimizer.trained` names.

    Attributes:
      patterns: Of matrices, those of a shell on `module/name`.
      rank: Columns of `a`.
      scale: Factor of the changes; None takes the rank, which gives a factor of 1.

    Source: Hu et al. (2021), arXiv 2106.09685.
    """

    patterns: tuple[str, ...]
    rank: int = 4
    scale: float | None = None

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"rank must be at least 1, found {self.rank}")
        if not self.patterns:
            raise ValueError("patterns is empty; name the matrices to adapt")

    @property
    def factor(self) -> float:
        """The factor of `a @ b`."""
        return 1.0 if self.scale is None else self.scale / self.rank
