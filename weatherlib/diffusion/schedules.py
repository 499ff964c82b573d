"""Noise schedules as tables in float64. Nothing here imports JAX.

A schedule has T steps of noise, t = 0 to T - 1. With `alpha_t = 1 - beta_t` and
`alpha_bar_t` the product of the alphas up to t, a field after step t is

    x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) noise.

Source: Ho et al. (2020), arXiv 2006.11239, in particular equations 4 to 7.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float, Int

from weatherlib import config

__all__ = [
    "PREDIFF_KINDS",
    "NoiseSchedule",
    "Prediction",
    "ScheduleConfig",
    "Spacing",
    "check_prediction",
    "log_snr_timesteps",
    "make_betas",
    "make_schedule",
    "spaced_timesteps",
]

Prediction = Literal["epsilon", "x0", "v"]
Kind = Literal["linear", "scaled_linear", "sqrt", "cosine"]
Spacing = Literal["leading", "linspace", "trailing", "truncated", "log_snr"]

PREDIFF_KINDS: dict[str, Kind] = {
    "linear": "scaled_linear",
    "sqrt_linear": "linear",
    "sqrt": "sqrt",
    "cosine": "cosine",
}
"""Our names of the schedules of PreDiff, whose "linear" is linear in sqrt(beta)."""

# The smallest variance whose logarithm is taken, as published.
_SMALLEST_VARIANCE = 1e-20
_LARGEST_COSINE_BETA = 0.999


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScheduleConfig(config.Mapping):
    """How much noise each step adds.

    Attributes:
      kind: "linear" in beta; "scaled_linear", linear in sqrt(beta), as PreDiff and
        Stable Diffusion have it; "sqrt", the root of the linear one; "cosine".
      steps: Steps of noise.
      start: First beta; unused by "cosine".
      end: Last beta; unused by "cosine".
      cosine_offset: Keeps the first betas of "cosine" from being too small.
      posterior_mix: Share of beta_t in the variance of the reverse steps, of which the
        rest is the smallest possible one (`v_posterior` of PreDiff).

    Raises:
      ValueError: A number is out of range.
    """

    kind: Kind = "linear"
    steps: int = 1000
    start: float = 1e-4
    end: float = 2e-2
    cosine_offset: float = 8e-3
    posterior_mix: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in PREDIFF_KINDS.values():
            raise ValueError(
                f"kind {self.kind!r} is no schedule; there are "
                f"{', '.join(sorted(PREDIFF_KINDS.values()))}"
            )
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, found {self.steps!r}")
        if not 0 < self.start <= self.end < 1:
            raise ValueError(
                "start and end must be betas with 0 < start <= end < 1, found "
                f"{self.start!r} and {self.end!r}"
            )
        if not 0 <= self.posterior_mix <= 1:
            raise ValueError(
                f"posterior_mix must be in [0, 1], found {self.posterior_mix!r}"
            )
        if not self.cosine_offset >= 0:
            raise ValueError(
                f"cosine_offset must not be negative, found {self.cosine_offset!r}"
            )


def check_prediction(prediction: str) -> None:
    """Refuses what a denoiser cannot predict.

    Raises:
      ValueError: It is none of "epsilon", "x0" and "v".
    """
    if prediction not in get_args(Prediction):
        hint = ' (PreDiff calls "epsilon" "eps")' if prediction == "eps" else ""
        raise ValueError(
            f"prediction {prediction!r} is not one of epsilon, x0 and v{hint}"
        )


def make_betas(settings: ScheduleConfig) -> Float[np.ndarray, " step"]:
    """Returns the share of variance that each step replaces by noise.

    Source: Ho et al. (2020) for the linear one, Nichol and Dhariwal (2021), arXiv
    2102.09672, equation 17, for the cosine one, which is capped at 0.999 as there.
    """
    start, end, steps = settings.start, settings.end, settings.steps
    if settings.kind == "scaled_linear":
        return np.linspace(np.sqrt(start), np.sqrt(end), steps) ** 2
    if settings.kind == "cosine":
        offset = settings.cosine_offset
        share = (np.arange(steps + 1) / steps + offset) / (1 + offset)
        kept = np.cos(share * np.pi / 2) ** 2
        return np.clip(1 - kept[1:] / kept[:-1], 0, _LARGEST_COSINE_BETA)
    linear = np.linspace(start, end, steps)
    return np.sqrt(linear) if settings.kind == "sqrt" else linear


@dataclasses.dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """Every table that follows from the betas, in float64.

    Attributes:
      betas: Of each step, in (0, 1).
      posterior_mix: As in `ScheduleConfig`.

    Raises:
      ValueError: The betas are no such numbers.
    """

    betas: Float[np.ndarray, " step"]
    posterior_mix: float = 0.0

    def __post_init__(self) -> None:
        betas = np.asarray(self.betas, np.float64)
        if betas.ndim != 1 or not betas.size:
            raise ValueError(f"betas must be a list of numbers, found {betas.shape}")
        if not ((betas > 0) & (betas < 1)).all():
            bad = betas[~((betas > 0) & (betas < 1))][0]
            raise ValueError(f"betas must lie between 0 and 1, found {bad}")
        object.__setattr__(self, "betas", betas)

    @property
    def steps(self) -> int:
        """Steps of noise."""
        return len(self.betas)

    @functools.cached_property
    def alphas_cumprod(self) -> np.ndarray:
        """alpha_bar, the share of variance that is left of the field."""
        return np.cumprod(1 - self.betas)

    @functools.cached_property
    def alphas_cumprod_prev(self) -> np.ndarray:
        """alpha_bar of the step before; 1 before the first."""
        return np.append(1.0, self.alphas_cumprod[:-1])

    @functools.cached_property
    def sqrt_alphas_cumprod(self) -> np.ndarray:
        """Factor of the field in a noisy one."""
        return np.sqrt(self.alphas_cumprod)

    @functools.cached_property
    def sqrt_one_minus_alphas_cumprod(self) -> np.ndarray:
        """Factor of the noise in a noisy field."""
        return np.sqrt(1 - self.alphas_cumprod)

    @functools.cached_property
    def log_one_minus_alphas_cumprod(self) -> np.ndarray:
        """Logarithm of the variance of the noise."""
        return np.log(1 - self.alphas_cumprod)

    @functools.cached_property
    def sqrt_recip_alphas_cumprod(self) -> np.ndarray:
        """Factor of the noisy field in the field."""
        return np.sqrt(1 / self.alphas_cumprod)

    @functools.cached_property
    def sqrt_recipm1_alphas_cumprod(self) -> np.ndarray:
        """Factor of the noise in the field, but for the sign."""
        return np.sqrt(1 / self.alphas_cumprod - 1)

    @functools.cached_property
    def posterior_variance(self) -> np.ndarray:
        """Variance of x_{t-1} given x_t and x_0, mixed with beta_t."""
        smallest = (
            self.betas * (1 - self.alphas_cumprod_prev) / (1 - self.alphas_cumprod)
        )
        return (1 - self.posterior_mix) * smallest + self.posterior_mix * self.betas

    @functools.cached_property
    def posterior_log_variance_clipped(self) -> np.ndarray:
        """Logarithm of it, where 0 counts as 1e-20."""
        return np.log(np.maximum(self.posterior_variance, _SMALLEST_VARIANCE))

    @functools.cached_property
    def posterior_mean_coef1(self) -> np.ndarray:
        """Factor of x_0 in the mean of x_{t-1}."""
        before = np.sqrt(self.alphas_cumprod_prev)
        return self.betas * before / (1 - self.alphas_cumprod)

    @functools.cached_property
    def posterior_mean_coef2(self) -> np.ndarray:
        """Factor of x_t in the mean of x_{t-1}."""
        gone = 1 - self.alphas_cumprod_prev
        return gone * np.sqrt(1 - self.betas) / (1 - self.alphas_cumprod)

    def lvlb_weights(self, prediction: str) -> np.ndarray:
        """Returns the weight of the error of each step in the variational bound.

        The first, which is infinite, is given the second's value.

        Args:
          prediction: "epsilon", "x0" or "v": what the errors are of. The weights of
            "x0" are those of PreDiff, which divide by 2 - alpha_bar where the bound has
            2 (1 - alpha_bar). Those of "v", which PreDiff lacks, follow from the ones
            of "epsilon" by the ratio of the errors.

        Raises:
          ValueError: `prediction` is unknown, or the schedule has a single step.
        """
        if self.steps < 2:
            raise ValueError("the weights of the bound need at least 2 steps, found 1")
        check_prediction(prediction)
        # The published weights are computed in float32, where 1 - alpha_bar has lost
        # digits in the first steps: up to 1e-4 of what float64 gives.
        left = self.alphas_cumprod.astype(np.float32)
        if prediction == "x0":
            weights = 0.5 * np.sqrt(left) / (2 - left)
        else:
            squared = self.betas.astype(np.float32) ** 2
            variance = self.posterior_variance.astype(np.float32)
            kept = (1 - self.betas).astype(np.float32)
            with np.errstate(divide="ignore"):
                weights = squared / (2 * variance * kept * (1 - left))
            if prediction == "v":
                weights = weights * left
        weights = weights.astype(np.float64)
        weights[0] = weights[1]
        return weights


def make_schedule(settings: ScheduleConfig) -> NoiseSchedule:
    """Returns the tables of a schedule."""
    return NoiseSchedule(make_betas(settings), settings.posterior_mix)


def spaced_timesteps(
    total: int, steps: int, spacing: Spacing, offset: int = 0
) -> Int[np.ndarray, " step"]:
    """Returns which steps of noise a sampler with fewer steps visits, last one first.

    Args:
      total: Steps of the schedule.
      steps: Steps of the sampler.
      spacing: "leading" takes every `total // steps`-th from 0; "linspace" is even
        between both ends; "trailing" goes down from the last one in strides of
        `total / steps`; "truncated" takes the first `steps` of the schedule, where
        fields never are pure noise, as PreDiff does when asked for fewer steps.
      offset: Added to those of "leading".

    Raises:
      ValueError: The numbers do not fit, or `spacing` is unknown, or "log_snr", which
        depends on the betas: see `log_snr_timesteps`.

    Source: table 2 of Lin et al. (2023), arXiv 2305.08891, for the first three.
    """
    if not 1 <= steps <= total:
        raise ValueError(f"{steps} steps do not fit a schedule of {total}")
    if spacing == "leading":
        chosen = np.arange(steps) * (total // steps) + offset
        if offset < 0 or chosen[-1] >= total:
            raise ValueError(
                f"an offset of {offset} leads out of a schedule of {total} steps"
            )
        return chosen[::-1]
    if spacing == "linspace":
        return np.linspace(0, total - 1, steps).round()[::-1].astype(np.int64)
    if spacing == "trailing":
        chosen = total - np.arange(steps) * (total / steps)
        return chosen.round().astype(np.int64) - 1
    if spacing == "truncated":
        return np.arange(steps)[::-1]
    raise ValueError(
        f"spacing {spacing!r} is unknown; there are leading, linspace, trailing and "
        "truncated"
    )


def log_snr_timesteps(schedule: NoiseSchedule, steps: int) -> Int[np.ndarray, " step"]:
    """Returns steps of noise that are even in the logarithm of signal over noise.

    Both ends are among them. Where fewer lie between two than are wanted, neighbours
    are taken. Steps that are even in time leave a tenth of the noise to the last of 20
    steps, and with it what samples that differ little differ by. These do not.

    Args:
      schedule: How much noise there is.
      steps: Of the sampler.

    Raises:
      ValueError: They do not fit the schedule.

    Source: Lu et al. (2022), arXiv 2206.00927, section 3.3; each step is the one of the
    schedule whose ratio is nearest.
    """
    if not 1 <= steps <= schedule.steps:
        raise ValueError(f"{steps} steps do not fit a schedule of {schedule.steps}")
    left = schedule.alphas_cumprod
    ratio = np.log(left) - np.log1p(-left)
    wanted = np.linspace(ratio[-1], ratio[0], steps)
    chosen = np.abs(ratio - wanted[:, np.newaxis]).argmin(1)
    # From the last one up each lies above that after it, and leaves room for those
    # before it.
    above = np.arange(steps)[::-1]
    apart = np.maximum.accumulate((chosen - above)[::-1])[::-1]
    return np.clip(apart, 0, schedule.steps - steps) + above
