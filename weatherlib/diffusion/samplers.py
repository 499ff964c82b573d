"""Samplers as tables: what a step makes of the noisy field and the predicted ones.

Ancestral sampling, DDIM and the multistep DPM-Solver++ all are, at each step,

    x <- of_x x + of_noise eps + sum_j of_x0[j] x0[j] + of_random z

of the noisy field x, the predicted noise eps, the fields x0[j] that this step (j = 0)
and those before predicted, and new noise z. So one loop (`sampling.sample`) runs them
all, and the factors are computed once, in float64.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from weatherlib.diffusion import schedules

__all__ = ["Sampler", "ancestral", "ddim", "dpm_solver"]

# With fewer steps than this the published third-order solver ends in lower orders.
_FEW_STEPS = 15


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Sampler:
    """The steps of a sampler, from the noisiest to the last.

    Attributes:
      schedule: How much noise there is.
      prediction: What the denoiser predicts: "epsilon", "x0" or "v".
      timesteps: Steps of noise that are visited.
      of_x: Factor of the noisy field.
      of_noise: Factor of the predicted noise.
      of_x0: Factors of the predicted fields, that of this step first.
      of_random: Factor of new noise.
      clip: Largest magnitude of a predicted field; None sets none.

    Raises:
      ValueError: `prediction` is unknown, `clip` is not positive, or a step is visited
        twice.
    """

    schedule: schedules.NoiseSchedule
    prediction: str
    timesteps: Int[np.ndarray, " step"]
    of_x: Float[np.ndarray, " step"]
    of_noise: Float[np.ndarray, " step"]
    of_x0: Float[np.ndarray, "step order"]
    of_random: Float[np.ndarray, " step"]
    clip: float | None = None

    def __post_init__(self) -> None:
        schedules.check_prediction(self.prediction)
        if self.clip is not None and not self.clip > 0:
            raise ValueError(f"clip must be positive, found {self.clip!r}")
        if (np.diff(self.timesteps) >= 0).any():
            raise ValueError(
                f"{self.steps} steps visit some step of noise twice; ask for fewer"
            )

    @property
    def steps(self) -> int:
        """How often the denoiser is asked."""
        return len(self.timesteps)

    @property
    def order(self) -> int:
        """Predicted fields that a step makes use of."""
        return self.of_x0.shape[1]

    @property
    def is_random(self) -> bool:
        """Whether it draws noise beside that which it begins with."""
        return bool(self.of_random.any())


def ancestral(
    schedule: schedules.NoiseSchedule,
    steps: int | None = None,
    *,
    prediction: str = "epsilon",
    spacing: schedules.Spacing = "leading",
    variance: Literal["small", "large"] = "small",
    temperature: float = 1.0,
    clip: float | None = None,
) -> Sampler:
    """Returns the sampler that undoes one step of noise after the other, at random.

    Args:
      schedule: How much noise there is.
      steps: How many to make; those of the schedule by default.
      prediction: What the denoiser predicts.
      spacing: Which steps of noise to visit if not all. "truncated" is what PreDiff
        does: it begins below the noisiest ones, so that few steps do not lead from
        pure noise to a field. The others skip some and make wider steps.
      variance: "small", that of x_{t-1} when x_0 is known, mixed as the schedule says,
        or "large", that of the noise that is undone.
      temperature: Factor of the noise.
      clip: Largest magnitude of a predicted field.

    Raises:
      ValueError: An argument is out of range or unknown.

    Source: Ho et al. (2020), arXiv 2006.11239, algorithm 2; Nichol and Dhariwal (2021),
    arXiv 2102.09672, for fewer steps.
    """
    if variance not in ("small", "large"):
        raise ValueError(f"variance {variance!r} is neither small nor large")
    if not temperature >= 0:
        raise ValueError(f"temperature must not be negative, found {temperature!r}")
    count = schedule.steps if steps is None else steps
    timesteps = _visited(schedule, count, spacing)
    reduced = _reduced(schedule, timesteps[::-1])
    if variance == "small":
        spread = np.exp(reduced.posterior_log_variance_clipped / 2)
    else:
        spread = np.sqrt(reduced.betas)
    spread = np.append(0.0, spread[1:])
    return Sampler(
        schedule=schedule,
        prediction=prediction,
        timesteps=timesteps,
        of_x=reduced.posterior_mean_coef2[::-1],
        of_noise=np.zeros(count),
        of_x0=reduced.posterior_mean_coef1[::-1, np.newaxis],
        of_random=temperature * spread[::-1],
        clip=clip,
    )


def _visited(
    schedule: schedules.NoiseSchedule,
    steps: int,
    spacing: schedules.Spacing,
    offset: int = 0,
) -> Int[np.ndarray, " step"]:
    """Returns which steps of noise are visited, the noisiest first."""
    if spacing == "log_snr":
        return schedules.log_snr_timesteps(schedule, steps)
    return schedules.spaced_timesteps(schedule.steps, steps, spacing, offset)


def _reduced(
    schedule: schedules.NoiseSchedule, visited: np.ndarray
) -> schedules.NoiseSchedule:
    """Returns the schedule with only some of its steps, in rising order."""
    if visited[-1] == len(visited) - 1:
        betas = schedule.betas[: len(visited)]
    else:
        left = schedule.alphas_cumprod[visited]
        betas = 1 - left / np.append(1.0, left[:-1])
    return schedules.NoiseSchedule(betas, schedule.posterior_mix)


def ddim(
    schedule: schedules.NoiseSchedule,
    steps: int = 50,
    *,
    prediction: str = "epsilon",
    eta: float = 0.0,
    spacing: schedules.Spacing = "leading",
    offset: int = 0,
    next_step: Literal["stride", "visited"] = "stride",
    clip: float | None = None,
) -> Sampler:
    """Returns the sampler that goes the same way for the same first noise.

    Args:
      schedule: How much noise there is.
      steps: How many to make.
      prediction: What the denoiser predicts.
      eta: 0 draws no noise, 1 as much as ancestral sampling does.
      spacing: Which steps of noise to visit.
      offset: Added to the steps of "leading" spacing.
      next_step: Where each step leads. "stride", as the diffusers package does: T /
        steps down, rounded, which is not quite the step that is visited next where
        spacing is uneven or "linspace"; "visited": just there.
      clip: Largest magnitude of a predicted field. The predicted noise stays.

    Raises:
      ValueError: An argument is out of range or unknown.

    Source: Song et al. (2021), arXiv 2010.02502, equations 12 and 16.
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta must be in [0, 1], found {eta!r}")
    if next_step not in ("stride", "visited"):
        raise ValueError(f"next_step {next_step!r} is neither stride nor visited")
    timesteps = _visited(schedule, steps, spacing, offset)
    if next_step == "stride" and spacing not in ("truncated", "log_snr"):
        following = timesteps - schedule.steps // steps
    else:
        following = np.append(timesteps[1:], -1)
    left = schedule.alphas_cumprod
    before = np.where(following >= 0, left[np.maximum(following, 0)], 1.0)
    now = left[timesteps]
    random = eta * np.sqrt((1 - before) / (1 - now) * (1 - now / before))
    return Sampler(
        schedule=schedule,
        prediction=prediction,
        timesteps=timesteps,
        of_x=np.zeros(steps),
        of_noise=np.sqrt(np.maximum(1 - before - random**2, 0)),
        of_x0=np.sqrt(before)[:, np.newaxis],
        of_random=random,
        clip=clip,
    )


def dpm_solver(
    schedule: schedules.NoiseSchedule,
    steps: int = 20,
    *,
    prediction: str = "epsilon",
    order: int = 2,
    rule: Literal["midpoint", "heun"] = "midpoint",
    spacing: Literal["leading", "linspace", "trailing", "log_snr"] = "linspace",
    clip: float | None = None,
    stochastic: bool = False,
) -> Sampler:
    """Returns the multistep DPM-Solver++, which needs 10 to 25 steps.

    It begins with a step of first order, as it has nothing to look back on, and ends
    with one, as the last step removes all noise.

    Args:
      schedule: How much noise there is.
      steps: How many to make, fewer than the schedule has.
      prediction: What the denoiser predicts.
      order: 1 (which is DDIM), 2 or 3. 3 is of second order in the step before the last
        if there are fewer than 15.
      rule: How order 2 looks back.
      spacing: Which steps of noise to visit. With 20 steps only "log_snr" draws fields
        that differ little as far apart as they should be.
      clip: Largest magnitude of a predicted field.
      stochastic: Whether to draw noise in each step, which takes orders 1 and 2.

    Raises:
      ValueError: An argument is out of range or unknown.

    Source: Lu et al. (2022), arXiv 2211.01095, algorithm 2 and appendices; numbers are
    those of `DPMSolverMultistepScheduler` of the diffusers package.
    """
    if order not in (1, 2, 3) or (stochastic and order == 3):
        raise ValueError(
            f"order must be 1, 2 or (not stochastic) 3, found {order!r} with "
            f"stochastic={stochastic}"
        )
    if rule not in ("midpoint", "heun"):
        raise ValueError(f"rule {rule!r} is neither midpoint nor heun")
    if not 1 <= steps < schedule.steps:
        raise ValueError(
            f"steps must be in 1..{schedule.steps - 1} for a schedule of "
            f"{schedule.steps}, found {steps!r}"
        )
    if spacing in ("trailing", "log_snr"):
        timesteps = _visited(schedule, steps, spacing)
    elif spacing in ("leading", "linspace"):
        timesteps = _visited(schedule, steps + 1, spacing)[:-1]
    else:
        raise ValueError(
            f"spacing {spacing!r} is not leading, linspace, trailing or log_snr"
        )
    left = np.append(schedule.alphas_cumprod[timesteps], 1.0)
    kept, noise = np.sqrt(left), np.sqrt(1 - left)
    with np.errstate(divide="ignore"):
        log_ratio = np.log(kept) - np.log(noise)
    of_x, of_random = np.zeros(steps), np.zeros(steps)
    of_x0 = np.zeros((steps, order))
    for i in range(steps):
        used = min(order, i + 1, 1 if i == steps - 1 else 3)
        if order == 3 and i == steps - 2 and steps < _FEW_STEPS:
            used = min(used, 2)
        widths = np.diff(log_ratio[i - used + 1 : i + 2])[::-1]
        factors = _solver_factors(widths, rule, stochastic)
        of_x0[i, :used] = kept[i + 1] * factors
        shrink = np.exp(-widths[0]) if stochastic else 1.0
        of_x[i] = noise[i + 1] / noise[i] * shrink
        if stochastic:
            of_random[i] = noise[i + 1] * np.sqrt(-np.expm1(-2 * widths[0]))
    return Sampler(
        schedule=schedule,
        prediction=prediction,
        timesteps=timesteps,
        of_x=of_x,
        of_noise=np.zeros(steps),
        of_x0=of_x0,
        of_random=of_random,
        clip=clip,
    )


def _solver_factors(
    widths: np.ndarray, rule: str, stochastic: bool
) -> Float[np.ndarray, " order"]:
    """Returns the factors of predicted fields, this one's first.

    Args:
      widths: Width in the logarithm of signal over noise of this step, of the one
        before it, and so on, as many as fields are used.
      rule: As in `dpm_solver`.
      stochastic: As in `dpm_solver`.
    """
    width = widths[0]
    # With noise the step of the field is twice as wide, without it once.
    gone = -np.expm1(-2 * width) if stochastic else -np.expm1(-width)
    if len(widths) == 1:
        return np.array([gone])
    per_width = gone / (2 * width) if stochastic else gone / width
    first = 1 - per_width
    near = width / widths[1]
    if len(widths) == 2:
        slope = near * (gone / 2 if rule == "midpoint" else first)
        return np.array([gone + slope, -slope])
    second = 0.5 - first / width
    far = width / widths[2]
    # Differences of the fields over the widths between them, twice.
    share = widths[1] / (widths[1] + widths[2])
    of_near = (first * (1 + share) + second * width / (widths[1] + widths[2])) * near
    of_far = (first * share + second * width / (widths[1] + widths[2])) * far
    return np.array([gone + of_near, -of_near - of_far, of_far])
