"""What linear models are made with. Nothing here imports JAX or xarray."""

from __future__ import annotations

import dataclasses
from typing import Literal, TypeAlias

from weatherlib import config
from weatherlib.baselines import common

__all__ = ["AnyLinearConfig", "FitConfig", "LinearConfig", "MultiLinearConfig"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FitConfig(config.Mapping):
    """How the weights of a linear model are found.

    Attributes:
      candidates: Penalties to choose from by their error on samples kept apart; none
        takes those of the model. The weights are then fitted again to all samples.
      held_out: Share of the samples, the last ones in time, that judge candidates.
        Samples that share frames with them take no part in the choice.
      held_out_period: In place of that share, the period whose samples judge: its first
        time, and the first one after it.
      form: "primal" sums products of features with each other, and needs memory for
        their square; "dual" keeps all samples, and needs memory for them. "auto" takes
        the dual form where features exceed samples, and the other one where only that
        fits into memory.
      storage: "matrix" keeps one weight for each feature and output; "factors" two
        matrices whose product that is, with one row for each sample, which take less
        room where samples are few. "auto" takes factors where they are less than half
        as large and the matrix is large.
      memory: Largest memory of the fit, GiB; None for most of what is free.

    Raises:
      ValueError: A number is out of range.
    """

    candidates: tuple[float, ...] = ()
    held_out: float = 0.2
    held_out_period: tuple[str, str] | None = None
    form: Literal["auto", "primal", "dual"] = "auto"
    storage: Literal["auto", "matrix", "factors"] = "auto"
    memory: float | None = None

    def __post_init__(self) -> None:
        for alpha in self.candidates:
            require_penalty("candidates", alpha)
        if len(set(self.candidates)) < len(self.candidates):
            raise ValueError(f"candidates repeats a penalty: {self.candidates}")
        if not 0 < self.held_out < 1:
            raise ValueError(
                f"held_out must lie between 0 and 1, found {self.held_out!r}"
            )
        if self.memory is not None and not self.memory > 0:
            raise ValueError(f"memory must be positive, found {self.memory!r}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LinearConfig(common.FrameModelConfig):
    """One ridge regression of all variables and points together: `lr`.

    Fields enter as they are given. `edges` makes no difference.

    Attributes:
      alpha: Penalty on the squares of the weights; the intercept has none. After a fit
        with candidates it is the one that was chosen.
      factors: Rows of the two matrices whose product is the map; 0 for a single matrix.
        The fit sets it.
      fit: How the weights are found.

    Raises:
      ValueError: A number is out of range.
    """

    alpha: float = 1.0
    factors: int = 0
    fit: FitConfig = dataclasses.field(default_factory=FitConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_penalty("alpha", self.alpha)
        _require_factors(self.factors)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MultiLinearConfig(common.FrameModelConfig):
    """A ridge regression for each variable, on the past of all of them: `lr_multi`.

    Each feature and each output is scaled to mean 0 and variance 1 for the fit; what
    does not vary is only shifted. `edges` makes no difference.

    Attributes:
      alpha: Penalty on the squares of the weights, of variables without one of their
        own.
      alphas: Penalty by variable. After a fit with candidates it holds those that were
        chosen.
      factors: As for `LinearConfig`.
      fit: How the weights are found.

    Raises:
      ValueError: A number is out of range.
    """

    alpha: float = 10.0
    alphas: dict[str, float] = dataclasses.field(default_factory=dict)
    factors: int = 0
    fit: FitConfig = dataclasses.field(default_factory=FitConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_penalty("alpha", self.alpha)
        for name, alpha in self.alphas.items():
            require_penalty(f"alphas.{name}", alpha)
        _require_factors(self.factors)


AnyLinearConfig: TypeAlias = LinearConfig | MultiLinearConfig
"""A linear model of either kind."""


def require_penalty(name: str, alpha: float) -> None:
    """Checks that a number can be a penalty.

    Raises:
      ValueError: It is negative or no number.
    """
    if not 0 <= alpha < float("inf"):
        raise ValueError(f"{name} must be 0 or more, found {alpha!r}")


def _require_factors(factors: int) -> None:
    if factors < 0:
        raise ValueError(f"factors must be 0 or more, found {factors!r}")
