"""Self-attention inside cuboids of [time, lat, lon], with global vectors beside.

Data is cut into cuboids as `geometry.cuboids` lays down, and the points of each attend
to one another. A few global vectors, if there are any, attend to all points, and every
point attends to them, so that what lies in different cuboids can take part too.

Source: Gao et al. (2022), arXiv 2207.05833, and the published Earthformer code.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from weatherlib.geometry import cuboids
from weatherlib.geometry.cuboid_patterns import Cuboid
from weatherlib.nn import blocks, projections, vit

__all__ = ["CuboidAttention", "GlobalSettings", "Settings", "masked_softmax"]

# Scores that are held at a time; more are worked on in blocks of queries.
_BLOCK_SCORES = 2**26
_HIDDEN = -1e18


@dataclasses.dataclass(frozen=True, kw_only=True)
class GlobalSettings:
    """How global vectors take part.

    Attributes:
      self_attention: Whether they attend to each other too.
      separate: Whether there are layers of their own between points and vectors. If
        not, points use the queries, keys and values they have among themselves.
      ratio: Channels of a vector per channel of a point; other than 1 if separate only.
      published_order: Whether, with padding that is ignored, what the vectors do not
        see are the places that the published code takes for padded: it counts them in
        the order of time, rows and columns, and the points in that of cuboids.
    """

    self_attention: bool = False
    separate: bool = False
    ratio: int = 1
    published_order: bool = True

    def __post_init__(self) -> None:
        if self.ratio < 1 or (self.ratio != 1 and not self.separate):
            raise ValueError(
                "global vectors of other channels than points need layers of their own "
                f"(separate_global_qkv) and a ratio from 1 on, found {self.ratio}"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What the attention layers of a block have in common.

    Attributes:
      heads: Attention heads, which divide the channels.
      padding: What fills the last cuboids.
      bias: Whether queries, keys and values have a bias.
      relative_positions: Whether scores depend on how points lie to each other.
      final_projection: Whether a layer mixes the heads.
      drop_rate: Dropout of attention weights.
      projection_drop_rate: Dropout of the result.
      init: How the weights of queries, keys and values begin.
      projection_init: How those of the final projection begin.
      global_vectors: How global vectors take part; None without any.
    """

    heads: int
    padding: cuboids.Padding = "ignore"
    bias: bool = False
    relative_positions: bool = True
    final_projection: bool = True
    drop_rate: float = 0.0
    projection_drop_rate: float = 0.0
    init: projections.InitMode = "0"
    projection_init: projections.InitMode = "2"
    global_vectors: GlobalSettings | None = None


class _Points(NamedTuple):
    """Queries, keys and values of points, shape [batch, cuboid, point, head, channel].

    `outward` are queries for global vectors, `seen` and `told` the keys and values that
    these find.
    """

    query: Array
    key: Array
    value: Array
    outward: Array
    seen: Array
    told: Array


class _Vectors(NamedTuple):
    """Queries, keys and values of vectors, shape [batch, vector, head, channel].

    `query` is for points; `seen` and `told` are what points find. `self_query`,
    `self_key` and `self_value` are for each other.
    """

    query: Array
    seen: Array
    told: Array
    self_query: Array
    self_key: Array
    self_value: Array


class CuboidAttention(hk.Module):
    """A layer of attention inside cuboids, normalised before, without a residual."""

    def __init__(self, cuboid: Cuboid, settings: Settings, name: str) -> None:
        """Takes the cuboids and what else describes the layer."""
        super().__init__(name=name)
        self._cuboid = cuboid
        self._settings = settings

    def __call__(
        self,
        x: Float[Array, "batch time lat lon channel"],
        vectors: Float[Array, "batch vector width"] | None = None,
        is_training: bool = False,
    ) -> tuple[
        Float[Array, "batch time lat lon channel"],
        Float[Array, "batch vector width"] | None,
    ]:
        """Returns what points find, and what global vectors find.

        Args:
          x: Values at points.
          vectors: Global vectors, with settings for them.
          is_training: Whether dropout is on, which draws from the Haiku key stream.

        Raises:
          ValueError: The heads do not divide the channels, or global vectors are
            lacking or too many.
        """
        settings = self._settings
        width = x.shape[-1]
        if width % settings.heads:
            raise ValueError(f"{settings.heads} heads do not divide {width} channels")
        if (vectors is None) != (settings.global_vectors is None):
            raise ValueError("global vectors and their settings go together")
        shape = (x.shape[1], x.shape[2], x.shape[3])
        layout = cuboids.layout(shape, self._cuboid, settings.padding)
        cut = _cut(projections.LayerNorm("norm")(x), layout)
        if vectors is None:
            points, told = self._points(cut, None), None
        else:
            normalised = projections.LayerNorm("global_norm")(vectors)
            told = self._vectors(normalised, width)
            points = self._points(cut, settings.global_vectors)
        rate = settings.drop_rate if is_training else 0.0
        found = _inside(points, told, self._bias_table(x), layout, rate)
        found = self._projected(found.reshape(cut.shape), "proj", is_training)
        joined = _joined(found, layout)
        if vectors is None or told is None or settings.global_vectors is None:
            return joined, None
        answer = _overall(points, told, settings.global_vectors, layout, rate)
        answer = answer.reshape(vectors.shape)
        return joined, self._projected(answer, "global_proj", is_training)

    def _bias_table(self, x: Array) -> Array | None:
        """Returns the biases by difference of places, shape [row, head]."""
        if not self._settings.relative_positions:
            return None
        rows = math.prod(2 * n - 1 for n in self._cuboid.size)
        init = hk.initializers.RandomNormal(0.02)
        shape = (rows, self._settings.heads)
        return hk.get_parameter("relative_bias", shape, x.dtype, init=init)

    @hk.transparent
    def _points(self, x: Array, vectors: GlobalSettings | None) -> _Points:
        width = x.shape[-1]
        query, key, value = self._parts(x, width, 3, "qkv")
        query = self._scaled(query, width)
        if vectors is None or not vectors.separate:
            return _Points(query, key, value, query, key, value)
        (outward,) = self._parts(x, width, 1, "l2g_query")
        (seen,) = self._parts(x, width, 1, "g2l_key")
        (told,) = self._parts(x, vectors.ratio * width, 1, "g2l_value")
        return _Points(query, key, value, self._scaled(outward, width), seen, told)

    @hk.transparent
    def _vectors(self, x: Array, width: int) -> _Vectors:
        settings = self._settings.global_vectors or GlobalSettings()
        if not settings.separate:
            query, key, value = self._parts(x, width, 3, "global_qkv")
            query = self._scaled(query, width)
            return _Vectors(query, key, value, query, key, value)
        seen, told = self._parts(x, width, 2, "l2g_key_value")
        (query,) = self._parts(x, width, 1, "g2l_query")
        query = self._scaled(query, width)
        if not settings.self_attention:
            return _Vectors(query, seen, told, query, seen, told)
        inner = self._parts(x, settings.ratio * width, 3, "g2g_qkv")
        own = self._scaled(inner[0], width)
        return _Vectors(query, seen, told, own, inner[1], inner[2])

    @hk.transparent
    def _parts(self, x: Array, width: int, count: int, name: str) -> list[Array]:
        """Returns arrays [..., head, channel] that one layer makes side by side."""
        settings = self._settings
        layer = projections.Projection(
            count * width, name, bias=settings.bias, init=settings.init
        )
        found = layer(x).reshape(*x.shape[:-1], count, settings.heads, -1)
        return [found[..., i, :, :] for i in range(count)]

    def _scaled(self, query: Array, width: int) -> Array:
        scale = (width // self._settings.heads) ** -0.5
        return query * jnp.asarray(scale, query.dtype)

    @hk.transparent
    def _projected(self, x: Array, name: str, is_training: bool) -> Array:
        settings = self._settings
        if not settings.final_projection:
            return x
        # The published code leaves that of global vectors as PyTorch begins it.
        init = settings.projection_init if name == "proj" else "torch"
        x = projections.Projection(x.shape[-1], name, init=init)(x)
        return vit.dropout(x, settings.projection_drop_rate if is_training else 0.0)


def masked_softmax(
    scores: Float[Array, "*#axes key"], mask: Bool[Array, "*#axes key"] | None
) -> Float[Array, "*#axes key"]:
    """Returns the softmax over what is not masked, and 0 elsewhere.

    Where everything is masked, everything is 0.

    Args:
      scores: Any numbers.
      mask: True where a score counts; its axes may be 1. None counts all.
    """
    if mask is None:
        return jax.nn.softmax(scores, axis=-1)
    hidden = jnp.asarray(_HIDDEN, scores.dtype)
    weights = jax.nn.softmax(jnp.where(mask, scores, hidden), axis=-1)
    return jnp.where(mask, weights, jnp.zeros((), scores.dtype))


def _cut(x: Array, layout: cuboids.Layout) -> Array:
    """Returns padded and shifted data in cuboids, [batch, cuboid, point, channel]."""
    if layout.stretch is not None:
        for axis, indices in enumerate(layout.stretch, start=1):
            x = jnp.take(x, indices, axis=axis)
    elif any(layout.added):
        x = jnp.pad(x, ((0, 0), *((0, n) for n in layout.added), (0, 0)))
    if any(layout.cuboid.shift):
        x = jnp.roll(x, tuple(-n for n in layout.cuboid.shift), (1, 2, 3))
    return cuboids.reorder(x, layout.cuboid)


def _joined(x: Array, layout: cuboids.Layout) -> Array:
    """Returns data in cuboids as it was before `_cut`."""
    x = cuboids.reverse(x, layout.cuboid, layout.padded)
    if any(layout.cuboid.shift):
        x = jnp.roll(x, layout.cuboid.shift, (1, 2, 3))
    if layout.shrink is not None:
        for axis, indices in enumerate(layout.shrink, start=1):
            x = jnp.take(x, indices, axis=axis)
        return x
    times, rows, columns = layout.shape
    return x[:, :times, :rows, :columns]


def _inside(
    points: _Points,
    vectors: _Vectors | None,
    table: Array | None,
    layout: cuboids.Layout,
    rate: float,
) -> Array:
    """Returns what each point finds, shape [batch, cuboid, point, head, channel]."""
    rows: dict[str, Array] = {
        "query": points.query,
        "place": jnp.asarray(layout.query_place),
    }
    if vectors is not None:
        rows["outward"] = points.outward
    if layout.query_region is not None:
        rows["region"] = jnp.asarray(layout.query_region)
    key = hk.next_rng_key() if rate else None

    def attend(part: dict[str, Array]) -> Array:
        return _attended(part, points, vectors, table, layout, (key, rate))

    batch, count, volume, heads, _ = points.query.shape
    scores = batch * count * heads * volume
    if scores * volume <= _BLOCK_SCORES:
        return attend(rows)
    return _in_blocks(attend, rows, max(_BLOCK_SCORES // scores, 1))


_POINT_AXIS = {"query": 2, "outward": 2, "place": 0, "region": 1}


def _in_blocks(
    attend: Callable[[dict[str, Array]], Array], rows: dict[str, Array], block: int
) -> Array:
    """Returns `attend(rows)`, so many points at a time."""
    first = {name: jnp.moveaxis(x, _POINT_AXIS[name], 0) for name, x in rows.items()}

    def one(part: dict[str, Array]) -> Array:
        turned = {n: jnp.moveaxis(x, 0, _POINT_AXIS[n]) for n, x in part.items()}
        return jnp.moveaxis(attend(turned), 2, 0)

    return jnp.moveaxis(blocks.map_rows(one, first, block=block, remat=True), 0, 2)


def _attended(
    rows: dict[str, Array],
    points: _Points,
    vectors: _Vectors | None,
    table: Array | None,
    layout: cuboids.Layout,
    drop: tuple[Array | None, float],
) -> Array:
    """Returns what some points of each cuboid find; the softmax is in float32."""
    dtype = points.value.dtype
    scores = _scores("bnqhc,bnkhc->bnhqk", rows["query"], points.key)
    if table is not None:
        key_place = jnp.asarray(layout.key_place)
        index = rows["place"][:, jnp.newaxis] - key_place[jnp.newaxis]
        bias = table[index].astype(jnp.float32).transpose(2, 0, 1)
        scores = scores + bias[jnp.newaxis, jnp.newaxis]
    mask = None
    if layout.key_region is not None:
        seen = jnp.asarray(layout.key_region)[:, jnp.newaxis]
        mask = (rows["region"][:, :, jnp.newaxis] == seen)[jnp.newaxis, :, jnp.newaxis]
    volume = scores.shape[-1]
    if vectors is not None:
        outward = _scores("bnqhc,bghc->bnhqg", rows["outward"], vectors.seen)
        scores = jnp.concatenate([scores, outward], axis=-1)
        if mask is not None:
            more = ((0, 0),) * 4 + ((0, outward.shape[-1]),)
            mask = jnp.pad(mask, more, constant_values=True)
    weights = masked_softmax(scores, mask)
    key, rate = drop
    if key is not None:
        # Blocks of queries begin at different places.
        weights = hk.dropout(jax.random.fold_in(key, rows["place"][0]), rate, weights)
    weights = weights.astype(dtype)
    found = jnp.einsum("bnhqk,bnkhc->bnqhc", weights[..., :volume], points.value)
    if vectors is None:
        return found
    outer = jnp.einsum("bnhqg,bghc->bnqhc", weights[..., volume:], vectors.told)
    return found + outer


def _overall(
    points: _Points,
    vectors: _Vectors,
    settings: GlobalSettings,
    layout: cuboids.Layout,
    rate: float,
) -> Array:
    """Returns what global vectors find, shape [batch, vector, head, channel]."""
    batch, count, volume, *rest = points.seen.shape
    places = count * volume
    seen = points.seen.reshape(batch, places, *rest)
    scores = _scores("bghc,bmhc->bhgm", vectors.query, seen)
    visible = layout.visible
    if settings.published_order:
        visible = layout.visible_unordered
    mask = None if visible is None else jnp.asarray(visible).reshape(1, 1, 1, -1)
    if settings.self_attention:
        own = _scores("bghc,bkhc->bhgk", vectors.self_query, vectors.self_key)
        scores = jnp.concatenate([scores, own], axis=-1)
        if mask is not None:
            more = ((0, 0),) * 3 + ((0, own.shape[-1]),)
            mask = jnp.pad(mask, more, constant_values=True)
    weights = masked_softmax(scores, mask)
    if rate:
        weights = hk.dropout(hk.next_rng_key(), rate, weights)
    weights = weights.astype(points.told.dtype)
    told = points.told.reshape(batch, places, *points.told.shape[3:])
    found = jnp.einsum("bhgm,bmhc->bghc", weights[..., :places], told)
    if not settings.self_attention:
        return found
    own_weights = weights[..., places:]
    return found + jnp.einsum("bhgk,bkhc->bghc", own_weights, vectors.self_value)


def _scores(expression: str, query: Array, key: Array) -> Array:
    """Returns products of queries and keys in float32."""
    return jnp.einsum(expression, query, key, preferred_element_type=jnp.float32)
