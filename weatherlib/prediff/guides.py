"""Constraints that forecasts can be guided by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from weatherlib.diffusion import guidance
from weatherlib.prediff import alignment, latent_diffusion
from weatherlib.typing import PyTree

__all__ = ["PUBLISHED_SCALE", "frame_guidance", "intensity_guidance"]

PUBLISHED_SCALE = 50.0
"""How much the published model pulls at the mean intensity."""


def intensity_guidance(
    read: Callable[[PyTree, Array, Array, Array | None], Array],
    params: PyTree,
    wanted: Float[Array, "batch number"],
    *,
    scale: Any = PUBLISHED_SCALE,
    together: bool = False,
) -> guidance.Guidance:
    """Returns the knowledge alignment of PreDiff: a mean over the forecast is known.

    Args:
      read: The alignment network, as `latent_diffusion.alignment_reader` returns it.
        Keep it: another one compiles anew.
      params: Its parameters.
      wanted: What it should read on average over the frames of each batch member.
      scale: How much to pull.
      together: Whether all members of a batch have one energy, the length of all their
        differences, as published. Then each pulls less in a larger batch, and with what
        others draw. Otherwise each has its own, which is the same for a batch of one.
    """
    energy = jax.tree_util.Partial(_Intensity(read, together), params)
    return guidance.Guidance(energy=energy, scale=scale, target=wanted)


class _Intensity:
    """The energy of the alignment network, equal to others of the same network."""

    def __init__(self, read: Callable[..., Array], together: bool) -> None:
        self._held = (read, together)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Intensity) and self._held == other._held

    def __hash__(self) -> int:
        return hash(self._held)

    def __call__(self, params: PyTree, x: Array, t: Array, target: Array) -> Array:
        read, together = self._held
        predicted = read(params, x, t, None).astype(jnp.float32)
        if together:
            return alignment.intensity_energy(predicted, target)

        def single(predicted: Array, wanted: Array) -> Array:
            return alignment.intensity_energy(predicted[None], wanted[None])

        return jax.vmap(single)(predicted, target)


def frame_guidance(
    model: latent_diffusion.LatentDiffusion,
    params: PyTree,
    energy: Callable[[Array, Any], Array],
    *,
    target: PyTree = None,
    scale: Any = 1.0,
    through_denoiser: bool = True,
) -> guidance.Guidance:
    """Returns a constraint on the frames that a forecast would have.

    At each step the predicted latent fields are decoded and compared, so no network has
    to be trained for it, and each step costs a backward pass of the decoder.

    Args:
      model: Its decoder is used.
      params: Of the autoencoder.
      energy: Takes frames [batch, time, lat, lon, channel] and `target`; returns how
        badly they meet the constraint, for each batch member or in all. As a negative
        log-likelihood with `scale` 1 it weighs against the forecast as it should.
      target: What the energy compares with: arrays whose first axis is the batch.
      scale: How much to pull.
      through_denoiser: As in `guidance.Guidance`.
    """
    return guidance.Guidance(
        energy=jax.tree_util.Partial(_Frames(model, energy), params),
        scale=scale,
        target=target,
        on="denoised",
        through_denoiser=through_denoiser,
        strength="variance",
    )


class _Frames:
    """An energy of decoded frames, equal to others of the same model and function."""

    def __init__(
        self,
        model: latent_diffusion.LatentDiffusion,
        energy: Callable[[Array, Any], Array],
    ) -> None:
        self._held = (model, energy)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Frames) and self._held == other._held

    def __hash__(self) -> int:
        return hash(self._held)

    def __call__(self, params: PyTree, x: Array, t: Array, target: PyTree) -> Array:
        del t
        model, energy = self._held
        return energy(model.space.decode_target(params, x), target)
