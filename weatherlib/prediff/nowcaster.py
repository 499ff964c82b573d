"""PreDiff as a nowcaster: pixels of radar in, pixels of many futures out.

What `open_nowcaster` returns is a `weatherlib.evaluation.nowcasts.Nowcaster`:

    from weatherlib import prediff

    nowcast = prediff.open_nowcaster("runs/radar_prediff/checkpoint.npz", members=8)
    members = nowcast(pixels, 6)                    # [member, batch, lead, lat, lon]
"""

from __future__ import annotations

import functools
import hashlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from weatherlib import diffusion
from weatherlib.diffusion import sampler_config, sampling
from weatherlib.prediff import (
    ensembles,
    guide_config,
    latent_diffusion,
    latent_stage,
    stage_frames,
    stages,
)
from weatherlib.prediff.config import EARTHFORMER_UNET
from weatherlib.prediff.stage_config import PreDiffConfig
from weatherlib.typing import PathLike

__all__ = ["Nowcast", "open_nowcaster"]

_PRECISIONS = {"float32": None, "bfloat16": jnp.bfloat16}


def open_nowcaster(
    path: PathLike,
    *,
    members: int = 8,
    sampler: sampler_config.SamplerConfig | None = None,
    guide: guide_config.Guide | None = None,
    seed: int = 0,
    members_at_once: int = 4,
    precision: str = "float32",
    progress: sampling.Progress | None = None,
) -> Nowcast:
    """Returns a trained model as a nowcaster.

    Args:
      path: Its published file, the checkpoint of a `prediff` run.
      members: Futures of each context.
      sampler: How they are drawn; None is as the file says.
      guide: What they are drawn towards, such as `guide_config.IntensityGuide`.
      seed: Of all random numbers.
      members_at_once: Members that are denoised and decoded together; fewer take less
        memory.
      precision: "float32" or "bfloat16".
      progress: Called with the steps that are done, over all members, and how many
        there are.

    Raises:
      FileNotFoundError: There is no such file.
      OSError: It cannot be read.
      ValueError: It is of another stage or model, or a setting does not fit.
    """
    held = stages.open_denoiser(path)
    if precision not in _PRECISIONS:
        raise ValueError(
            f"precision {precision!r} is not one of {', '.join(_PRECISIONS)}"
        )
    params = latent_diffusion.Params(
        autoencoder=latent_stage.part(held.params, *latent_stage.HELD),
        denoiser=latent_stage.part(held.params, EARTHFORMER_UNET),
    )
    config = held.model_config
    if sampler is not None:
        config = config.replace(sampler=sampler)
    return Nowcast(
        config,
        params,
        members=members,
        guide=guide,
        seed=seed,
        members_at_once=members_at_once,
        dtype=_PRECISIONS[precision],
        progress=progress,
    )


class Nowcast:
    """Draws futures of radar frames; compiled once for each shape of context.

    What is drawn follows from the seed and the context, and not from the contexts
    beside it in a batch, up to rounding: so it can be repeated. Smaller batches than an
    earlier one are filled up, and are not compiled anew.

    Attributes:
      config: Of the model.
      members: Futures of each context.
      needs_truth: Whether its guide has to be told what follows.
      step: Time between frames; None where it is not known.
    """

    step: np.timedelta64 | None = None

    def __init__(
        self,
        config: PreDiffConfig,
        params: latent_diffusion.Params,
        *,
        members: int = 8,
        guide: guide_config.Guide | None = None,
        seed: int = 0,
        members_at_once: int = 4,
        dtype: Any = None,
        progress: sampling.Progress | None = None,
    ) -> None:
        """Takes a model.

        Args:
          config: Of the model, and how it draws.
          params: Of both networks.
          members: As in `open_nowcaster`.
          guide: As in `open_nowcaster`.
          seed: As in `open_nowcaster`.
          members_at_once: As in `open_nowcaster`.
          dtype: In which networks compute; None is float32.
          progress: As in `open_nowcaster`.

        Raises:
          ValueError: A number is not positive, something does not fit the model, or the
            model is not one of pixels.
        """
        if members < 1:
            raise ValueError(f"members must be at least 1, found {members}")
        if config.value_range is None or config.sizes.in_channels != 1:
            raise ValueError(
                "a nowcaster needs a model of one variable with a value_range, found "
                f"{config.sizes.in_channels} channel(s) and value_range "
                f"{config.value_range}; use weatherlib predict for others"
            )
        self.config, self.members = config, members
        self._params = jax.device_put(params)
        self._at_once = min(members_at_once, members)
        self._members_at_once = members_at_once
        self._seed, self._batch = seed, 0
        model = latent_stage.forecast_model(config, dtype=dtype)
        steps = diffusion.make_sampler(
            config.sampler, model.schedule, config.diffusion.prediction
        )
        self._make_draw = functools.partial(
            ensembles.EnsembleSampler,
            model,
            steps,
            config.output_length,
            members_at_once=members_at_once,
            progress=progress,
        )
        self._draw = self._make_draw()
        self._guide = None
        self.needs_truth = guide is not None and guide_config.needs_truth(guide)
        if guide is not None:
            self._guide = guide.bind(config, model, self._params.autoencoder)

    def share(self, rows: jax.sharding.NamedSharding) -> None:
        """Lets devices share the members of all contexts; they stay what they are.

        Args:
          rows: How an array is cut whose first axis has members of contexts. Each
            device then draws `members_at_once`.
        """
        self._draw = self._make_draw(rows=rows)
        # Once, and not again for every batch.
        whole = jax.sharding.NamedSharding(rows.mesh, jax.sharding.PartitionSpec())
        self._params = jax.device_put(self._params, whole)
        self._at_once = min(self._members_at_once * rows.mesh.size, self.members)

    def __call__(
        self,
        context: Float[np.ndarray, "batch time lat lon"],
        leads: int,
        truth: Float[np.ndarray, "batch lead lat lon"] | None = None,
    ) -> Float[np.ndarray, "member batch lead lat lon"]:
        """Returns the futures of contexts.

        Missing pixels are taken for dry (the lowest value); those that are missing in
        all frames are missing in the futures. Beyond the frames that the model predicts
        at once, each future is continued from its own last frames.

        Args:
          context: Pixels, NaN where missing. The last `input_length` frames are used.
          leads: Frames to predict.
          truth: Pixels of these frames, for a guide that has to be told; not read
            otherwise.

        Raises:
          ValueError: There are too few frames, or of another size than that of the
            model; a frame has no values; or the guide is not finite, or lacks the
            truth.
        """
        context = np.asarray(context, np.float32)
        if leads < 1:
            raise ValueError(f"leads must be at least 1, found {leads}")
        self._check(context)
        past = context[:, -self.config.input_length :]
        value_range = self.config.value_range
        assert value_range is not None
        filled = np.where(np.isfinite(past), past, np.float32(value_range[0]))
        frames = stage_frames.to_unit(filled, value_range)[..., np.newaxis]
        # The last batch of many is often smaller, and would be compiled anew.
        self._batch = max(self._batch, len(frames))
        spare = self._batch - len(frames)
        frames = np.concatenate([frames, frames[:1].repeat(spare, 0)])
        keys = _context_keys(self._seed, frames)
        follows = None
        if self.needs_truth and truth is not None:
            follows = stage_frames.to_unit(np.asarray(truth, np.float32), value_range)
            follows = np.concatenate([follows, follows[:1].repeat(spare, 0)])[..., None]
        found = self._first(frames, _folded(keys, 0), follows)
        rounds = -(-leads // self.config.output_length)
        for number in range(1, rounds):
            later = None
            if follows is not None:
                later = follows[:, number * self.config.output_length :]
            more = self._next(frames, found, _folded(keys, number), later)
            found = np.concatenate([found, more], axis=2)
        found = found[:, : len(past), :leads, ..., 0]
        pixels = stage_frames.from_unit(found, value_range, clip=self.config.clip)
        never = np.broadcast_to(np.isnan(past).all(1)[None, :, None], pixels.shape)
        return np.where(never, np.float32(np.nan), pixels)

    def _guidance(self, frames: np.ndarray, truth: np.ndarray | None) -> Any:
        """Returns the guidance of what follows some frames."""
        if self._guide is None:
            return None
        if not self.needs_truth:
            return self._guide(frames)
        if truth is not None:
            truth = truth[:, : self.config.output_length]
        return self._guide(frames, truth)

    def _first(
        self, frames: np.ndarray, keys: jax.Array, truth: np.ndarray | None
    ) -> np.ndarray:
        """Returns the frames that the model predicts at once, on its own scale."""
        guidance = self._guidance(frames, truth)
        return self._draw(self._params, frames, keys, self.members, guidance=guidance)

    def _next(
        self,
        frames: np.ndarray,
        found: np.ndarray,
        keys: jax.Array,
        truth: np.ndarray | None,
    ) -> np.ndarray:
        """Returns the frames after those found, each future from its own.

        `keys` are those of the contexts, from which each member has its own. As many
        rows are drawn together as before, so nothing is compiled anew but the encoder.
        """
        reads, at_once = self.config.input_length, self._at_once
        whole = np.broadcast_to(frames, (len(found), *frames.shape))
        whole = np.concatenate([whole, found], axis=2)[:, :, -reads:]
        whole = self._limited(whole)
        parts = []
        for first in range(0, len(whole), at_once):
            # The last part makes some members again, where a smaller one would have
            # to be compiled.
            first = min(first, len(whole) - at_once)
            rows = whole[first : first + at_once].reshape(-1, *whole.shape[2:])
            told = None if truth is None else np.tile(truth, (at_once, 1, 1, 1, 1))
            guidance = self._guidance(rows, told)
            own = ensembles.row_keys(keys, first, at_once, len(keys))
            drawn = self._draw(self._params, rows, own, 1, guidance=guidance)[0]
            drawn = drawn.reshape(at_once, -1, *drawn.shape[1:])
            parts.append((first, drawn))
        joined = np.zeros((len(whole), *parts[0][1].shape[1:]), np.float32)
        for first, drawn in parts:
            joined[first : first + at_once] = drawn
        return joined

    def _limited(self, frames: np.ndarray) -> np.ndarray:
        """Returns frames as the model would see forecasts of its own."""
        if not self.config.clip:
            return frames
        low, high = stage_frames.to_unit(
            np.asarray(self.config.value_range), self.config.value_range
        )
        return frames.clip(low, high)

    def _check(self, context: np.ndarray) -> None:
        """Makes sure that contexts can be gone on from.

        Raises:
          ValueError: They cannot.
        """
        if context.ndim != 4:
            raise ValueError(
                "a context has the axes batch, time, lat and lon, found shape "
                f"{context.shape}"
            )
        reads = self.config.input_length
        if context.shape[1] < reads:
            raise ValueError(
                f"the context has {context.shape[1]} frame(s), and the model reads "
                f"{reads}; give as many or more"
            )
        rows, columns = context.shape[2:]
        stage_frames.check_grid(rows, columns, self.config)
        past = context[:, -reads:]
        empty = np.argwhere(~np.isfinite(past).any((2, 3)))
        if len(empty):
            raise ValueError(
                f"frame {empty[0][1]} of context {empty[0][0]} has no values at all; a "
                "forecast needs frames that were observed"
            )


def _context_keys(
    seed: int, frames: Float[np.ndarray, "batch time lat lon channel"]
) -> jax.Array:
    """Returns a key for each context, of its own values and the seed alone."""
    digests = [hashlib.blake2b(one.tobytes(), digest_size=8).digest() for one in frames]
    words = np.frombuffer(b"".join(digests), "<u4").astype(np.uint32).reshape(-1, 2)
    key = jax.random.key(seed)
    keys = jax.vmap(lambda word: jax.random.fold_in(key, word))(words[:, 0])
    return jax.vmap(jax.random.fold_in)(keys, words[:, 1])


def _folded(keys: jax.Array, number: int) -> jax.Array:
    """Returns other keys, those of a number, one for each."""
    return jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)
