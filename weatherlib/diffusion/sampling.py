"""The loop that runs any sampler: under jit, over many members at once."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from weatherlib.diffusion import forward, samplers
from weatherlib.diffusion import guidance as guidance_lib

__all__ = [
    "Denoise",
    "Guides",
    "Samples",
    "as_keys",
    "check",
    "first_noise",
    "member_keys",
    "sample",
]

Denoise = Callable[[Array, Array], Array]
"""Takes noisy fields and their steps of noise, int32 of shape [batch]; returns what it
predicts, of the shape of the fields."""

Guides = guidance_lib.Guidance | Sequence[guidance_lib.Guidance]
"""One constraint or several."""

Progress = Callable[[int, int], Any]
"""Takes how many steps are done, and how many there are."""


class Samples(NamedTuple):
    """What a sampler gives.

    Attributes:
      x: The samples.
      kept: The noisy fields after the steps that were asked for, first axis the step.
      failed_step: The first step (from 0) in which the guidance was not finite; -1
        where it always was.
    """

    x: Array
    kept: Array
    failed_step: Array


class _Steps(NamedTuple):
    """What the loop reads, a row for each step."""

    t: Array
    of_x: Array
    of_noise: Array
    of_x0: Array
    of_random: Array
    of_gradient: Array
    field_over_noise: Array
    slot: Array


def as_keys(key: Array) -> Array:
    """Returns keys of the new kind, one for each entry, from those or raw numbers."""
    if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        return key
    return jax.random.wrap_key_data(key)


def member_keys(key: Array, first: int | Array, count: int) -> Array:
    """Returns a key for each member, the same however many are drawn at once.

    Args:
      key: A key.
      first: Number of the first member.
      count: Members.
    """
    fold = functools.partial(jax.random.fold_in, as_keys(key))
    numbers = jnp.asarray(first, jnp.uint32) + jnp.arange(count, dtype=jnp.uint32)
    return jax.vmap(fold)(numbers)


def first_noise(
    key: Array, shape: Sequence[int], dtype: Any = jnp.float32
) -> Float[Array, "batch *place channel"]:
    """Returns the noise that sampling with `key` begins with.

    Args:
      key: A key, or one for each batch member.
      shape: Of the fields.
      dtype: Of the fields.
    """
    return _noise(as_keys(key), 0, tuple(shape), dtype)


def sample(
    sampler: samplers.Sampler,
    denoise: Denoise,
    start: Float[Array, "batch *place channel"],
    key: Array | None = None,
    *,
    noises: Float[Array, "step batch *place channel"] | None = None,
    guidance: Guides | None = None,
    keep: Sequence[int] = (),
    progress: Progress | None = None,
) -> Samples:
    """Returns samples that begin as the noise `start`.

    It can be jitted, differentiated and vmapped; its memory does not grow with the
    number of steps. Guidance that is not finite is set to zero and reported: call
    `check` on the result where it is no tracer.

    Args:
      sampler: What each step does.
      denoise: The model.
      start: Noise of unit variance, as `first_noise` draws it.
      key: A key, or one for each batch member, from which each step draws its noise by
        `jax.random.fold_in`. Samplers that draw none need none.
      noises: The noise of each step in place of it.
      guidance: A constraint to keep to, or several, whose pulls add up.
      keep: After how many steps to keep the noisy fields, 0 to all.
      progress: Called after each step.

    Raises:
      ValueError: Noise is needed and neither given nor drawn, or shapes do not fit.
    """
    if guidance is None or isinstance(guidance, guidance_lib.Guidance):
        guidance = () if guidance is None else (guidance,)
    steps = _table(sampler, guidance, keep, start.dtype)
    if sampler.is_random and key is None and noises is None:
        raise ValueError("this sampler draws noise: give a key, or the noises")
    if noises is not None and noises.shape != (sampler.steps, *start.shape):
        raise ValueError(
            f"noises must have the shape {(sampler.steps, *start.shape)} of the steps "
            f"and the fields, found {noises.shape}"
        )
    keys = None if key is None else as_keys(key)
    kept = jnp.zeros((len(keep) + 1, *start.shape), start.dtype)
    if 0 in keep:
        kept = kept.at[list(keep).index(0)].set(start)
    history = jnp.zeros((sampler.order - 1, *start.shape), start.dtype)
    carry = (start, history, kept, jnp.full((), -1, jnp.int32))

    def run(carry: Any, row: Any) -> tuple[Any, None]:
        x, history, kept, failed = carry
        index, step, noise = row
        x0, predicted, finite = _predict(sampler, denoise, guidance, x, step)
        x = step.of_x * x + step.of_noise * predicted + step.of_x0[0] * x0
        for factor, old in zip(step.of_x0[1:], history):
            x = x + factor * old
        if sampler.is_random:
            if keys is not None and noise is None:
                noise = _noise(keys, index + 1, x.shape, x.dtype)
            x = x + step.of_random * noise
        if sampler.order > 1:
            history = jnp.concatenate([x0[None], history[:-1]])
        kept = jax.lax.dynamic_update_index_in_dim(kept, x, step.slot, 0)
        failed = jnp.where((failed < 0) & ~finite, index, failed)
        if progress is not None:
            _report(progress, index, sampler.steps, x)
        return (x, history, kept, failed), None

    rows = (jnp.arange(sampler.steps, dtype=jnp.int32), steps, noises)
    (x, _, kept, failed), _ = jax.lax.scan(run, carry, rows)
    return Samples(x=x, kept=kept[:-1], failed_step=failed)


def check(samples: Samples, sampler: samplers.Sampler) -> None:
    """Makes sure that samples are numbers, and that guidance always was one.

    Raises:
      ValueError: They are not; the message says since when.
    """
    failed = int(np.max(np.asarray(samples.failed_step)))
    if failed >= 0:
        raise ValueError(
            "the guidance gave an energy or a gradient that is not finite in step "
            f"{failed + 1} of {sampler.steps} (noise step "
            f"{sampler.timesteps[failed]}); an energy needs a finite gradient "
            "everywhere, as sqrt(x + 1e-12) has at 0 and sqrt(x) has not"
        )
    if not np.isfinite(np.asarray(samples.x, np.float32)).all():
        raise ValueError(
            "the samples are not finite: the denoiser gave numbers that are not, or "
            "the guidance is too strong"
        )


def _table(
    sampler: samplers.Sampler,
    guidance: Sequence[guidance_lib.Guidance],
    keep: Sequence[int],
    dtype: Any,
) -> _Steps:
    """Returns the factors of all steps.

    Raises:
      ValueError: A step is to be kept twice or there is no such step.
    """
    if len(set(keep)) != len(keep) or any(not 0 <= k <= sampler.steps for k in keep):
        raise ValueError(
            f"keep must be different numbers in 0..{sampler.steps}, found {tuple(keep)}"
        )
    slot = np.full(sampler.steps, len(keep))
    for place, done in enumerate(keep):
        if done:
            slot[done - 1] = place
    of_gradient = np.zeros((sampler.steps, len(guidance)))
    for number, one in enumerate(guidance):
        moved = guidance_lib.shift_of_x0(sampler.schedule, one.strength)
        of_gradient[:, number] = moved[sampler.timesteps]
    noise_over_field = sampler.schedule.sqrt_recipm1_alphas_cumprod[sampler.timesteps]
    return _Steps(
        t=jnp.asarray(sampler.timesteps, jnp.int32),
        of_x=jnp.asarray(sampler.of_x, dtype),
        of_noise=jnp.asarray(sampler.of_noise, dtype),
        of_x0=jnp.asarray(sampler.of_x0, dtype),
        of_random=jnp.asarray(sampler.of_random, dtype),
        of_gradient=jnp.asarray(of_gradient, dtype),
        field_over_noise=jnp.asarray(1 / noise_over_field, dtype),
        slot=jnp.asarray(slot, jnp.int32),
    )


def _predict(
    sampler: samplers.Sampler,
    denoise: Denoise,
    guidance: Sequence[guidance_lib.Guidance],
    x: Array,
    step: _Steps,
) -> tuple[Array, Array, Array]:
    """Returns field, noise, and whether the guidance was finite."""
    t = jnp.full(x.shape[:1], step.t, jnp.int32)

    def estimate(x: Array) -> tuple[Array, Array]:
        output = denoise(x, t)
        if output.shape != x.shape:
            raise ValueError(
                f"the denoiser must return the shape of the fields, {x.shape}, but "
                f"returned {output.shape}"
            )
        output = output.astype(x.dtype)
        x0 = forward.to_x0(sampler.schedule, output, x, t, sampler.prediction)
        if sampler.clip is not None:
            x0 = jnp.clip(x0, -sampler.clip, sampler.clip)
        return x0, output

    finite = jnp.ones((), bool)
    if not guidance:
        x0, output = estimate(x)
        predicted = forward.to_noise(sampler.schedule, output, x, t, sampler.prediction)
        return x0, predicted, finite
    move, output = jnp.zeros_like(x), x
    for factor, one in zip(step.of_gradient, guidance):
        gradient, output, energy = guidance_lib.energy_gradient(
            sampler.schedule, one, estimate, x, t
        )
        good = jnp.isfinite(gradient).all() & jnp.isfinite(energy)
        move = move + factor * jnp.where(good, gradient, jnp.zeros_like(gradient))
        finite = finite & good
    x0 = forward.to_x0(sampler.schedule, output, x, t, sampler.prediction)
    if sampler.clip is not None:
        x0 = jnp.clip(x0, -sampler.clip, sampler.clip)
    predicted = forward.to_noise(sampler.schedule, output, x, t, sampler.prediction)
    x0, predicted = x0 - move, predicted + step.field_over_noise * move
    return x0, predicted, finite


def _noise(
    key: Array, number: int | Array, shape: tuple[int, ...], dtype: Any
) -> Float[Array, "batch *place channel"]:
    """Returns noise of a number from one key, or from one for each batch member."""
    if key.ndim == 0:
        return jax.random.normal(jax.random.fold_in(key, number), shape, dtype)
    if key.shape != shape[:1]:
        raise ValueError(
            f"there must be one key, or one for each of {shape[0]} fields, found "
            f"{key.shape}"
        )

    def draw(key: Array) -> Array:
        return jax.random.normal(jax.random.fold_in(key, number), shape[1:], dtype)

    return jax.vmap(draw)(key)


def _report(progress: Progress, index: Array, steps: int, x: Array) -> None:
    """Calls `progress` from the device, once the step is done."""

    def call(index: Any, _: Any) -> None:
        progress(int(index) + 1, steps)

    jax.debug.callback(call, index, jnp.ravel(x)[0])
