"""Guides of forecasts that are made ready for a model when it is opened."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from weatherlib.diffusion import guidance, sampling
from weatherlib.prediff import guides, latent_diffusion, stage_frames, stages
from weatherlib.prediff.stage_config import PreDiffConfig
from weatherlib.typing import PathLike, PyTree

__all__ = [
    "Bound",
    "FrameGuide",
    "Guide",
    "IntensityGuide",
    "JointGuide",
    "needs_truth",
]

Bound = Callable[..., sampling.Guides]
"""Takes context frames [batch, time, lat, lon, channel] on the scale of the networks,
and what follows them where a guide `needs_truth`, likewise, NaN where missing; returns
the guidance of their futures."""

Wanted = Callable[[Any], Any]


@runtime_checkable
class Guide(Protocol):
    """What forecasts are drawn towards.

    One that has to be told what follows, for experiments, has `needs_truth`, true.
    """

    def bind(
        self,
        config: PreDiffConfig,
        model: latent_diffusion.LatentDiffusion,
        autoencoder: PyTree,
    ) -> Bound:
        """Returns the guidance by context.

        Args:
          config: Of the forecast model.
          model: Its functions.
          autoencoder: Parameters of its autoencoder.

        Raises:
          ValueError: The guide is for another model.
        """
        ...


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class IntensityGuide:
    """Knowledge alignment: a quantity of the forecast is known, such as its mean.

    Attributes:
      path: Checkpoint of the alignment network, `prediff_alignment`.
      wanted: What it should read on average over the forecast, in the units of the
        data: a number; or what returns one for each context, shape [batch], from its
        frames [batch, time, lat, lon, channel] in these units. None wants the mean of
        the last frame to stay.
      truth_factor: In place of `wanted`, a multiple of what the frames that follow
        have in truth, as the published script shows it (with 2). It says what knowing
        that is worth, and is no forecast.
      scale: How much to pull.
      together: Whether all futures of a batch pull as one, as published; see
        `guides.intensity_guidance`.
    """

    path: PathLike
    wanted: float | Wanted | None = None
    truth_factor: float | None = None
    scale: float = guides.PUBLISHED_SCALE
    together: bool = False

    def __post_init__(self) -> None:
        if self.wanted is not None and self.truth_factor is not None:
            raise ValueError("wanted and truth_factor: give one of them, found both")

    @property
    def needs_truth(self) -> bool:
        """Whether it has to be told what follows."""
        return self.truth_factor is not None

    def bind(
        self,
        config: PreDiffConfig,
        model: latent_diffusion.LatentDiffusion,
        autoencoder: PyTree,
    ) -> Bound:
        """Returns the guidance by context.

        Raises:
          FileNotFoundError: There is no such file.
          ValueError: It is no alignment network, or one for another model.

        What is returned raises a ValueError where the truth is needed and not given.
        """
        del model, autoencoder
        held = stages.open_alignment(self.path)
        _require_same(config, held.model_config, str(self.path))
        read = latent_diffusion.alignment_reader(held.model_config.network)
        params = jax.tree.map(jnp.asarray, held.params)
        quantity = held.model_config.quantity

        def bound(context: Any, truth: Any = None) -> guidance.Guidance:
            if self.truth_factor is not None:
                wanted = _in_truth(truth, quantity)
                wanted = self.truth_factor * wanted
            else:
                wanted = self._wanted(context, config.value_range, quantity)
            return guides.intensity_guidance(
                read, params, wanted, scale=self.scale, together=self.together
            )

        return bound

    def _wanted(self, context: Any, value_range: Any, quantity: str) -> Array:
        """Returns what is wanted on the scale of the networks, [batch, 1]."""
        if self.wanted is None:
            last = context[:, -1]
            axes = tuple(range(1, last.ndim))
            found = last.max(axes) if quantity == "max_x" else last.mean(axes)
            return jnp.asarray(found)[:, jnp.newaxis]
        if callable(self.wanted):
            found = self.wanted(stage_frames.from_unit(context, value_range))
        else:
            found = np.full(len(context), self.wanted)
        found = jnp.asarray(found)
        if found.shape != (len(context),):
            raise ValueError(
                f"wanted: one number for each of {len(context)} contexts is needed, "
                f"found shape {found.shape}"
            )
        return stage_frames.to_unit(found, value_range)[:, jnp.newaxis]


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class FrameGuide:
    """A differentiable constraint of one's own on the frames of a forecast.

    Attributes:
      energy: Takes frames [batch, time, lat, lon, channel] in the units of the data,
        and the target; returns how badly they meet the constraint, one number for each
        batch member.
      target: Returns what the energy compares with from context frames in these units:
        arrays whose first axis is the batch. None for nothing.
      scale: How much to pull; 1 suits an energy that is minus the logarithm of a
        likelihood.
      through_denoiser: As in `diffusion.guidance.Guidance`.
    """

    energy: Callable[[Array, Any], Array]
    target: Callable[[Any], Any] | None = None
    scale: float = 1.0
    through_denoiser: bool = True

    def bind(
        self,
        config: PreDiffConfig,
        model: latent_diffusion.LatentDiffusion,
        autoencoder: PyTree,
    ) -> Bound:
        """Returns the guidance by context."""
        value_range = config.value_range

        def energy(frames: Array, target: Any) -> Array:
            return self.energy(stage_frames.from_unit(frames, value_range), target)

        def bound(context: Any) -> guidance.Guidance:
            target = None
            if self.target is not None:
                target = self.target(stage_frames.from_unit(context, value_range))
            return guides.frame_guidance(
                model,
                autoencoder,
                energy,
                target=target,
                scale=self.scale,
                through_denoiser=self.through_denoiser,
            )

        return bound


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class JointGuide:
    """Several guides at once, whose pulls add up.

    Attributes:
      guides: Each with a scale of its own.
    """

    guides: tuple[Guide, ...]

    @property
    def needs_truth(self) -> bool:
        """Whether one of them has to be told what follows."""
        return any(needs_truth(guide) for guide in self.guides)

    def bind(
        self,
        config: PreDiffConfig,
        model: latent_diffusion.LatentDiffusion,
        autoencoder: PyTree,
    ) -> Bound:
        """Returns the guidance by context.

        Raises:
          ValueError: One of them is for another model.
        """
        bound = [
            (guide.bind(config, model, autoencoder), needs_truth(guide))
            for guide in self.guides
        ]

        def joint(context: Any, truth: Any = None) -> sampling.Guides:
            found: list[guidance.Guidance] = []
            for each, told in bound:
                one = each(context, truth) if told else each(context)
                found += [one] if isinstance(one, guidance.Guidance) else one
            return tuple(found)

        return joint


def needs_truth(guide: Guide) -> bool:
    """Returns whether a guide has to be told what follows."""
    return bool(getattr(guide, "needs_truth", False))


def _in_truth(truth: Any, quantity: str) -> Array:
    """Returns what an alignment network should read of the truth, [batch, 1].

    Its reading is compared on average over the frames, so the largest value counts on
    average over them too. Missing values are left out.

    Raises:
      ValueError: There is no truth, or a batch member of it is missing as a whole.
    """
    if truth is None:
        raise ValueError(
            "the guide is a multiple of the truth (truth_factor), which is not known "
            "here; give what is wanted instead"
        )
    frames = np.asarray(truth, np.float32)
    known = np.isfinite(frames)
    if not known.any(axis=tuple(range(1, frames.ndim))).all():
        raise ValueError(
            "the guide is a multiple of the truth (truth_factor), and what follows is "
            "missing as a whole"
        )
    axes = tuple(range(2, frames.ndim))
    if quantity == "max_x":
        each = np.where(known, frames, -np.inf).max(axes)
        there = np.isfinite(each)
        found = np.where(there, each, 0).sum(1) / there.sum(1)
    else:
        axes = (1, *axes)
        found = np.where(known, frames, 0).sum(axes) / known.sum(axes)
    return jnp.asarray(found, jnp.float32)[:, jnp.newaxis]


def _require_same(config: PreDiffConfig, other: Any, path: str) -> None:
    """Makes sure that an alignment network was trained on the latent fields of a model.

    Raises:
      ValueError: It was not.
    """
    remedy = "train the alignment network with the autoencoder of the model"
    if other.digest != config.digest:
        raise ValueError(
            f"{path}: was trained on the latent fields of another autoencoder "
            f"({other.digest or 'unknown'}) than the model ({config.digest}); {remedy}"
        )
    for name in ("target_shape", "scale_factor"):
        here, there = (getattr(one, name) for one in (config, other))
        if here != there:
            raise ValueError(
                f"{path}: has {name} {there}, and the model {here}; {remedy} and the "
                "same settings"
            )
    if other.diffusion.schedule != config.diffusion.schedule:
        raise ValueError(
            f"{path}: was trained with another schedule of noise than the model; "
            f"{remedy} and the same settings"
        )
