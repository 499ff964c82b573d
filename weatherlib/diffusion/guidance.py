"""Samples drawn towards what one knows, by the gradient of a constraint.

A constraint is any differentiable function that is small where it is met. Its gradient
with respect to the noisy field moves the predicted field at each step, which is the
knowledge alignment of PreDiff for ancestral sampling with all steps, and the same to
first order for every other sampler, whatever its number of steps.

Source: Gao et al. (2023), arXiv 2307.10422, section 3.3; Dhariwal and Nichol (2021),
arXiv 2105.05233, section 4.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from weatherlib.diffusion import forward, schedules
from weatherlib.typing import PyTree

__all__ = ["Guidance", "energy_gradient", "shift_of_x0"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Guidance:
    """A constraint and how much it pulls. It can be an argument of a jitted function.

    Attributes:
      energy: Takes a field, its steps of noise of shape [batch], and `target`; returns
        how badly the constraint is met, one number or one for each batch member. Pass
        the same function again to avoid compiling anew; arrays that change belong in
        `target` or, such as weights of a network, into a `jax.tree_util.Partial`.
      scale: Factor of the gradient.
      target: What the energy compares with: arrays whose first axis is the batch.
      on: Which field the energy takes: the "noisy" one, with networks that were trained
        on such, or the "denoised" one that the denoiser predicts from it.
      through_denoiser: With "denoised", whether the gradient goes on to the noisy field
        through the denoiser, which costs its backward pass. If not, the denoiser is
        taken for the best one of independent numbers of unit variance.
      strength: "deviation" moves x_{t-1} by its standard deviation times the gradient,
        as PreDiff does. "variance" moves it by its variance, as is right where the
        energy is the negative logarithm of a likelihood.

    Raises:
      ValueError: A name is unknown.
    """

    energy: Callable[..., Any]
    scale: Any = 1.0
    target: PyTree = None
    on: Literal["noisy", "denoised"] = "noisy"
    through_denoiser: bool = True
    strength: Literal["deviation", "variance"] = "deviation"

    def __post_init__(self) -> None:
        if self.on not in ("noisy", "denoised"):
            raise ValueError(f"on must be noisy or denoised, found {self.on!r}")
        if self.strength not in ("deviation", "variance"):
            raise ValueError(
                f"strength must be deviation or variance, found {self.strength!r}"
            )
        if callable(self.energy) and not isinstance(self.energy, jax.tree_util.Partial):
            # A plain function is no array, which arguments of jitted functions are.
            object.__setattr__(self, "energy", jax.tree_util.Partial(self.energy))


jax.tree_util.register_dataclass(
    Guidance,
    data_fields=["energy", "scale", "target"],
    meta_fields=["on", "through_denoiser", "strength"],
)


def shift_of_x0(
    schedule: schedules.NoiseSchedule, strength: str
) -> Float[np.ndarray, " step"]:
    """Returns how far the predicted field moves per unit of gradient, by step of noise.

    The mean of x_{t-1} then moves by the standard deviation or the variance of x_{t-1}.
    """
    spread = np.exp(schedule.posterior_log_variance_clipped / 2)
    moved = spread if strength == "deviation" else spread**2
    return moved / schedule.posterior_mean_coef1


def energy_gradient(
    schedule: schedules.NoiseSchedule,
    guidance: Guidance,
    estimate: Callable[[Array], tuple[Array, Array]],
    x: Float[Array, "batch *place channel"],
    t: Int[Array, " batch"],
) -> tuple[Float[Array, "batch *place channel"], Array, Float[Array, ""]]:
    """Returns `scale` times the gradient of the energy, what the denoiser says, energy.

    A function may have a finite gradient where it is no number itself, which is a
    mistake all the same, so who samples looks at the energy too.

    Args:
      schedule: How much noise there is.
      guidance: The constraint.
      estimate: Returns the predicted field and the output of the denoiser for a noisy
        field.
      x: The noisy fields.
      t: Their steps of noise.
    """

    def energy(field: Array) -> Array:
        value = guidance.energy(field, t, guidance.target)
        return jnp.sum(jnp.asarray(value))

    if guidance.on == "noisy":
        value, gradient = jax.value_and_grad(energy)(x)
        output = estimate(x)[1]
    elif guidance.through_denoiser:

        def through(noisy: Array) -> tuple[Array, Array]:
            x0, output = estimate(noisy)
            return energy(x0), output

        (value, output), gradient = jax.value_and_grad(through, has_aux=True)(x)
    else:
        x0, output = estimate(x)
        slope = forward.lookup(schedule.sqrt_alphas_cumprod, t, x0)
        value, gradient = jax.value_and_grad(energy)(x0)
        gradient = slope.astype(x0.dtype) * gradient
    return jnp.asarray(guidance.scale, gradient.dtype) * gradient, output, value
