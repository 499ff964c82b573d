"""Names and shapes of every parameter, and the published names they stand for.

With V variables, D = `embed_dim`, p = `patch_size`, L patches, T = `time_history`,
M = `int(D * mlp_ratio)`, H x W the grid and O = `len(out_variables)`:

| Haiku module | parameter | shape | published key |
|---|---|---|---|
| `climax` | `var_embed` | [V, D] | `var_embed` [1, V, D] |
| `climax` | `var_query` | [1, D] | `var_query` [1, 1, D] |
| `climax` | `pos_embed` | [L, D] | `pos_embed` [1, L, D] |
| `climax/token_embed` | `w` | [V, p p, D] | `token_embeds.i.proj.weight` [D, 1, p, p] |
| `climax/token_embed` | `b` | [V, D] | `token_embeds.i.proj.bias` [D] |
| `climax/var_agg/qkv` | `w`, `b` | [D, 3 D], [3 D] | `var_agg.in_proj_{weight,bias}` |
| `climax/var_agg/proj` | `w`, `b` | [D, D], [D] | `var_agg.out_proj.*` |
| `climax/lead_time_embed` | `w`, `b` | [1, D], [D] | `lead_time_embed.*` |
| `climax/block_i/norm1`, `norm2` | `scale`, `offset` | [D] | `blocks.i.norm1.*`, .. |
| `climax/block_i/attn/qkv` | `w`, `b` | [D, 3 D], [3 D] | `blocks.i.attn.qkv.*` |
| `climax/block_i/attn/proj` | `w`, `b` | [D, D], [D] | `blocks.i.attn.proj.*` |
| `climax/block_i/mlp/fc1` | `w`, `b` | [D, M], [M] | `blocks.i.mlp.fc1.*` |
| `climax/block_i/mlp/fc2` | `w`, `b` | [M, D], [D] | `blocks.i.mlp.fc2.*` |
| `climax/norm` | `scale`, `offset` | [D] | `norm.weight`, `norm.bias` |
| `climax/head/linear_j` | `w`, `b` | [D, D], [D] | `head.{2 j}.*` |
| last `linear_j` | `w`, `b` | [D, p p V], [p p V] | the variable changes fastest |

The patch embeddings of all variables are one stacked array, whichever way a checkpoint
lays them out. The parallel layout is `token_embeds.proj_weights` [V, D, 1, p, p] and
`token_embeds.proj_biases` [V, D]. Queries, keys and values lie side by side in `qkv`.

The projection head has in place of `climax/head/linear_j`:

| Haiku module | parameter | shape | published key |
|---|---|---|---|
| `climax` | `time_pos_embed` | [T, D] | `time_pos_embed` [1, T, D] |
| `climax` | `time_query` | [1, D] | `time_query` [1, 1, D] |
| `climax/time_agg/qkv`, `proj` | `w`, `b` | as `var_agg` | `time_agg.*` |
| `climax/head` | `w`, `b` | [D, O H W], [O H W] | `head.weight`, `head.bias` |

A grid head with more than one input frame has, without a published counterpart:
`climax` `time_pos_embed` [T, D], `climax/time_neck/qkv` and `climax/time_neck/proj`.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import numpy as np

from weatherlib.climax.config import ClimaXConfig

__all__ = [
    "Entry",
    "Kind",
    "from_published",
    "name_map",
    "parameter_shapes",
    "to_published",
]

Kind = Literal["same", "transpose", "squeeze", "patch", "patches"]
"""How a published array becomes one of ours: "same" as it is; "transpose" [out, in] to
[in, out]; "squeeze" without the first axis, of size 1; "patch" [D, 1, p, p] to
[p p, D]; "patches" [V, D, 1, p, p] to [V, p p, D]."""

Shapes = dict[str, dict[str, tuple[int, ...]]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """A published tensor and its place among our parameters.

    Attributes:
      source: Published key without `net.`.
      source_shape: Shape of the published tensor.
      module: Haiku module path.
      name: Parameter name in that module.
      kind: How the array is laid out anew.
      index: Row of the parameter that the tensor fills; None fills all of it.
    """

    source: str
    source_shape: tuple[int, ...]
    module: str
    name: str
    kind: Kind = "same"
    index: int | None = None


def from_published(kind: Kind, array: np.ndarray) -> np.ndarray:
    """Returns a published array in our layout; see `Kind`."""
    if kind == "transpose":
        return array.T
    if kind == "squeeze":
        return array[0]
    if kind == "patch":
        return array.reshape(array.shape[0], -1).T
    if kind == "patches":
        return array.reshape(*array.shape[:2], -1).transpose(0, 2, 1)
    return array


def to_published(
    kind: Kind, array: np.ndarray, source_shape: tuple[int, ...]
) -> np.ndarray:
    """Returns one of our arrays in the published layout of shape `source_shape`."""
    if kind in ("transpose", "patch"):
        array = array.T
    elif kind == "patches":
        array = array.transpose(0, 2, 1)
    return array.reshape(source_shape)


def parameter_shapes(sizes: ClimaXConfig) -> Shapes:
    """Returns Haiku module path to parameter name to shape; see the module."""
    width, count = sizes.embed_dim, len(sizes.default_vars)
    pixels = sizes.patch_size**2
    hidden = int(width * sizes.mlp_ratio)
    shapes: Shapes = {
        "climax": {
            "var_embed": (count, width),
            "var_query": (1, width),
            "pos_embed": (sizes.patches, width),
        },
        "climax/token_embed": {"w": (count, pixels, width), "b": (count, width)},
        **_attention("climax/var_agg", width),
        "climax/lead_time_embed": _linear(1, width),
    }
    for i in range(sizes.depth):
        block = f"climax/block_{i}"
        shapes[f"{block}/norm1"] = _norm(width)
        shapes |= _attention(f"{block}/attn", width)
        shapes[f"{block}/norm2"] = _norm(width)
        shapes[f"{block}/mlp/fc1"] = _linear(width, hidden)
        shapes[f"{block}/mlp/fc2"] = _linear(hidden, width)
    shapes["climax/norm"] = _norm(width)
    if sizes.head == "projection":
        shapes["climax"] |= {
            "time_pos_embed": (sizes.time_history, width),
            "time_query": (1, width),
        }
        shapes |= _attention("climax/time_agg", width)
        points = math.prod(sizes.img_size) * len(sizes.out_variables)
        shapes["climax/head"] = _linear(width, points)
        return shapes
    if sizes.time_history > 1:
        shapes["climax"]["time_pos_embed"] = (sizes.time_history, width)
        shapes |= _attention("climax/time_neck", width)
    for j in range(sizes.decoder_depth):
        shapes[f"climax/head/linear_{j}"] = _linear(width, width)
    last = f"climax/head/linear_{sizes.decoder_depth}"
    shapes[last] = _linear(width, pixels * count)
    return shapes


def name_map(sizes: ClimaXConfig) -> tuple[Entry, ...]:
    """Returns an entry for each tensor of a published checkpoint, in its order.

    Parameters of a neck over time are in no entry, for they have no published name.
    """
    shapes = parameter_shapes(sizes)
    tables = ["var_embed", "var_query", "pos_embed"]
    if sizes.head == "projection":
        tables += ["time_pos_embed", "time_query"]
    entries = [
        Entry(
            source=name,
            source_shape=(1, *shapes["climax"][name]),
            module="climax",
            name=name,
            kind="squeeze",
        )
        for name in tables
    ]
    entries += _token_entries(sizes)
    entries += _attention_entries(shapes, "var_agg", "climax/var_agg")
    pairs = [("lead_time_embed", "climax/lead_time_embed")]
    for i in range(sizes.depth):
        for part in ("norm1", "attn/qkv", "attn/proj", "norm2", "mlp/fc1", "mlp/fc2"):
            source = f"blocks.{i}.{part.replace('/', '.')}"
            pairs.append((source, f"climax/block_{i}/{part}"))
    pairs.append(("norm", "climax/norm"))
    if sizes.head == "projection":
        pairs.append(("head", "climax/head"))
    else:
        layers = range(sizes.decoder_depth + 1)
        pairs += [(f"head.{2 * j}", f"climax/head/linear_{j}") for j in layers]
    for source, module in pairs:
        entries += _layer_entries(shapes, source, module)
    if sizes.head == "projection":
        entries += _attention_entries(shapes, "time_agg", "climax/time_agg")
    return tuple(entries)


def _linear(inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {"w": (inputs, outputs), "b": (outputs,)}


def _norm(width: int) -> dict[str, tuple[int, ...]]:
    return {"scale": (width,), "offset": (width,)}


def _attention(module: str, width: int) -> Shapes:
    return {
        f"{module}/qkv": _linear(width, 3 * width),
        f"{module}/proj": _linear(width, width),
    }


def _token_entries(sizes: ClimaXConfig) -> list[Entry]:
    width, size, count = sizes.embed_dim, sizes.patch_size, len(sizes.default_vars)
    module = "climax/token_embed"
    kernel = (width, 1, size, size)
    if sizes.parallel_patch_embed:
        return [
            Entry(
                source="token_embeds.proj_weights",
                source_shape=(count, *kernel),
                module=module,
                name="w",
                kind="patches",
            ),
            Entry(
                source="token_embeds.proj_biases",
                source_shape=(count, width),
                module=module,
                name="b",
            ),
        ]
    entries = []
    for i in range(count):
        source = f"token_embeds.{i}.proj"
        entries += [
            Entry(
                source=f"{source}.weight",
                source_shape=kernel,
                module=module,
                name="w",
                kind="patch",
                index=i,
            ),
            Entry(
                source=f"{source}.bias",
                source_shape=(width,),
                module=module,
                name="b",
                index=i,
            ),
        ]
    return entries


def _attention_entries(shapes: Shapes, source: str, module: str) -> list[Entry]:
    """Returns the entries of an attention with queries of its own."""
    inner = _layer_entries(shapes, f"{source}.in_proj", f"{module}/qkv", join="_")
    return inner + _layer_entries(shapes, f"{source}.out_proj", f"{module}/proj")


def _layer_entries(
    shapes: Shapes, source: str, module: str, join: str = "."
) -> list[Entry]:
    """Returns the entries of a linear layer or of a layer norm."""
    first, second = shapes[module]
    shape = shapes[module][first]
    return [
        Entry(
            source=f"{source}{join}weight",
            source_shape=shape[::-1],
            module=module,
            name=first,
            kind="transpose" if len(shape) > 1 else "same",
        ),
        Entry(
            source=f"{source}{join}bias",
            source_shape=shapes[module][second],
            module=module,
            name=second,
        ),
    ]
