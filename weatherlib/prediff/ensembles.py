"""Many futures of the same past, drawn in batches by one compiled function."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float

from weatherlib.diffusion import guidance as guidance_lib
from weatherlib.diffusion import samplers, sampling
from weatherlib.prediff import latent_diffusion
from weatherlib.prediff.latent_diffusion import LatentDiffusion, Params

__all__ = [
    "EnsembleSampler",
    "check_context",
    "for_members",
    "row_keys",
    "with_targets",
]


class EnsembleSampler:
    """Draws members, some at a time, and compiles once for each shape of context.

    A member depends on its number and on the key of its context, or with one key for
    all on that key and its place in the batch; and not on how many are drawn, or at
    once, up to rounding.
    """

    def __init__(
        self,
        model: LatentDiffusion,
        sampler: samplers.Sampler,
        frames: int,
        *,
        members_at_once: int = 4,
        rows: NamedSharding | None = None,
        progress: sampling.Progress | None = None,
    ) -> None:
        """Takes what to draw with.

        Args:
          model: The functions.
          sampler: What each step does.
          frames: Of a future.
          members_at_once: Members that are denoised and decoded together, on each
            device.
          rows: How rows, one for each member of each context, are cut between devices
            along their first axis; None leaves all on one.
          progress: Called with the steps that are done, over all members, and how many
            there are.

        Raises:
          ValueError: A number is not positive.
        """
        for name, value in (("frames", frames), ("members_at_once", members_at_once)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, found {value}")
        self._model = model
        self._sampler = sampler
        self._frames = frames
        self._rows = rows
        self._parts = 1 if rows is None else rows.mesh.size
        self._at_once = members_at_once * self._parts
        self._progress = progress
        self._before = self._total = 0
        self._encode = jax.jit(model.space.encode_context)
        self._draw = jax.jit(self._members)

    def __call__(
        self,
        params: Params,
        context: Float[np.ndarray, "batch past lat lon channel"] | Array,
        key: Array,
        members: int,
        *,
        guidance: sampling.Guides | None = None,
    ) -> Float[np.ndarray, "member batch future lat lon channel"]:
        """Returns futures of contexts.

        Args:
          params: Of both networks.
          context: Frames before, without missing values.
          key: Draws everything; or one for each context, which then has the same
            futures in any batch.
          members: How many futures of each context.
          guidance: A constraint, or several; targets have an entry for each context.

        Raises:
          ValueError: The context has missing values or a wrong shape, `members` is not
            positive, or the guidance or a sample is not finite.
        """
        if members < 1:
            raise ValueError(f"members must be at least 1, found {members}")
        check_context(context)
        params = self._put(params)
        given = self._encode(params.autoencoder, self._put(jnp.asarray(context)))
        batch, at_once = given.shape[0], min(self._at_once, members)
        given = self._cut(jnp.tile(given, (at_once, 1, 1, 1, 1)))
        if guidance is not None:
            guidance = for_members(guidance, batch, at_once)
            guidance = with_targets(guidance, self._cut)
        parts = []
        firsts = range(0, members, at_once)
        self._total = len(firsts) * self._sampler.steps
        for number, first in enumerate(firsts):
            self._before = number * self._sampler.steps
            keys = self._cut(row_keys(key, first, at_once, batch))
            frames, samples = self._draw(params, given, keys, guidance)
            sampling.check(samples, self._sampler)
            part = np.asarray(frames)[: at_once * batch]
            parts.append(part.reshape(at_once, batch, *part.shape[1:]))
        jax.effects_barrier()
        return np.concatenate(parts)[:members]

    def _put(self, tree: Any) -> Any:
        """Returns what every device has whole."""
        if self._rows is None:
            return jax.device_put(tree)
        return jax.device_put(tree, NamedSharding(self._rows.mesh, PartitionSpec()))

    def _cut(self, rows: Array) -> Array:
        """Returns rows on the devices, the first ones again where they need more."""
        if self._rows is None:
            return rows
        spare = -len(rows) % self._parts
        repeated = jnp.arange(spare) % len(rows)
        return jax.device_put(jnp.concatenate([rows, rows[repeated]]), self._rows)

    def _members(
        self,
        params: Params,
        context: Array,
        keys: Array,
        guidance: sampling.Guides | None,
    ) -> tuple[Array, sampling.Samples]:
        """Returns frames and latent samples, a row for each member of each context."""
        shape = (context.shape[0], self._frames, *context.shape[2:])
        samples = latent_diffusion.sample_latents(
            self._model,
            self._sampler,
            params.denoiser,
            context,
            sampling.first_noise(keys, shape, context.dtype),
            keys,
            guidance=guidance,
            progress=None if self._progress is None else self._report,
        )
        frames = self._model.space.decode_target(params.autoencoder, samples.x)
        return frames, samples

    def _report(self, done: int, steps: int) -> None:
        del steps
        if self._progress is not None:
            self._progress(self._before + done, self._total)


def check_context(context: Any) -> None:
    """Makes sure that a context can be gone on from.

    Args:
      context: Frames [batch, time, lat, lon, channel] that are no tracers.

    Raises:
      ValueError: It has another number of axes, or missing values.
    """
    values = np.asarray(context)
    if values.ndim != 5:
        raise ValueError(
            "a context has the axes batch, time, lat, lon and channel, found shape "
            f"{values.shape}"
        )
    missing = ~np.isfinite(values.astype(np.float32))
    if not missing.any():
        return
    empty = np.argwhere(missing.all((2, 3, 4)))
    if len(empty):
        raise ValueError(
            f"frame {empty[0][1]} of context {empty[0][0]} has no values at all; a "
            "forecast needs frames that were observed"
        )
    raise ValueError(
        f"{missing.mean():.1%} of the context is missing; fill it first, as radar "
        "series do outside of their range"
    )


def row_keys(key: Array, first: int | Array, members: int, batch: int) -> Array:
    """Returns a key for each row: all contexts of one member after the other.

    Args:
      key: Of the forecast, from which contexts have theirs by their place in the batch;
        or the key of each context.
      first: Number of the first member.
      members: How many.
      batch: Contexts.

    Raises:
      ValueError: There are other keys than one, or one for each context.
    """
    key = sampling.as_keys(key)
    if key.ndim == 0:
        of_members = sampling.member_keys(key, first, members)
        rows = [sampling.member_keys(one, 0, batch) for one in of_members]
        return jnp.concatenate(rows)
    if key.shape != (batch,):
        raise ValueError(
            f"there must be one key, or one for each of {batch} contexts, found "
            f"{key.shape}"
        )
    each = functools.partial(sampling.member_keys, first=first, count=members)
    return jax.vmap(each, out_axes=1)(key).reshape(members * batch)


def for_members(guidance: sampling.Guides, batch: int, members: int) -> sampling.Guides:
    """Returns guidance with a target for each row, as `row_keys` has them.

    Args:
      guidance: One or several; targets have an entry for each context.
      batch: Contexts.
      members: How many.

    Raises:
      ValueError: The target has not an entry for each context.
    """

    def repeat(leaf: Any) -> Array:
        leaf = jnp.asarray(leaf)
        if leaf.ndim < 1 or leaf.shape[0] != batch:
            raise ValueError(
                f"the target of the guidance needs an entry for each of {batch} "
                f"contexts, found shape {leaf.shape}"
            )
        return jnp.tile(leaf, (members, *(1,) * (leaf.ndim - 1)))

    return with_targets(guidance, repeat)


def with_targets(
    guidance: sampling.Guides, change: Callable[[Any], Array]
) -> sampling.Guides:
    """Returns guidance with other targets.

    Args:
      guidance: One or several.
      change: Of an array, with an entry for each context or row.
    """

    def changed(one: guidance_lib.Guidance) -> guidance_lib.Guidance:
        return dataclasses.replace(one, target=jax.tree.map(change, one.target))

    if isinstance(guidance, guidance_lib.Guidance):
        return changed(guidance)
    return tuple(map(changed, guidance))
