"""Tests of attention by every pattern, padding and kind of vectors against a plain one.

The plain attention is that of `tests.prediff.plain`, which finds the cuboid of each
point by itself, in float64.
"""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.prediff import plain, published
from weatherlib.geometry.cuboid_patterns import Cuboid, pattern
from weatherlib.nn import cuboid_attention
from weatherlib.prediff import levels
from weatherlib.prediff.config import EarthformerUNetConfig

SHAPE = (3, 5, 6)
WIDTH, HEADS, VECTORS = 4, 2, 2
NAMES = {
    "norm": "norm",
    "qkv": "qkv",
    "proj": "proj",
    "global_norm": "global_vec_norm",
    "global_qkv": "global_qkv",
    "global_proj": "global_proj",
    "l2g_query": "l2g_q_net",
    "l2g_key_value": "l2g_global_kv_net",
    "g2l_query": "g2l_global_q_net",
    "g2l_key": "g2l_k_net",
    "g2l_value": "g2l_v_net",
    "g2g_qkv": "g2g_global_qkv_net",
}
NONE = {}
SHARED = {"num_global_vectors": VECTORS}
SELF = {"num_global_vectors": VECTORS, "use_global_self_attn": True}
OWN = {**SELF, "separate_global_qkv": True, "global_dim_ratio": 2}
APART = {**OWN, "use_global_self_attn": False, "published_quirks": False}
# Larger than the data along some axes, and shifted along padded ones.
LARGER = (
    Cuboid((4, 7, 2), ("l", "l", "l"), (2, 3, 1)),
    Cuboid((8, 2, 9), ("d", "l", "d"), (1, 1, 1)),
    Cuboid((2, 3, 4), ("l", "d", "l"), (1, 2, 3)),
)
CASES = [
    ("full", "zeros", SELF),
    ("axial", "nearest", SHARED),
    ("divided_space_time", "ignore", OWN),
    ("video_swin", "ignore", SHARED),
    ("video_swin", "zeros", NONE),
    ("video_swin_2x4", "nearest", OWN),
    ("video_swin_3x2", "ignore", APART),
    ("spatial_lg_v1", "ignore", SELF),
    ("spatial_lg_2", "zeros", APART),
    ("spatial_lg_3", "nearest", NONE),
    ("axial_space_dilate_2", "ignore", OWN),
    ("axial_space_dilate_3", "nearest", SELF),
    ("axial_space_dilate_4", "zeros", NONE),
    (LARGER, "ignore", SELF),
    (LARGER, "zeros", OWN),
    (LARGER, "nearest", SHARED),
]


def config_of(padding, vectors):
    return EarthformerUNetConfig(
        input_shape=(1, 5, 6, 1),
        target_shape=(2, 5, 6, 1),
        base_units=WIDTH,
        depth=(1,),
        num_heads=HEADS,
        padding_type=padding,
        **vectors,
    )


def published_arrays(params, layer):
    """Returns the parameters of a layer under their published names."""
    found = {"relative_position_bias_table": params[layer]["relative_bias"]}
    kinds = {"w": "weight", "b": "bias", "scale": "weight", "offset": "bias"}
    for ours, theirs in NAMES.items():
        for name, values in params.get(f"{layer}/{ours}", {}).items():
            turned = values.T if name == "w" else values
            found[f"{theirs}.{kinds[name]}"] = np.asarray(turned)
    return found


def drawn(made, seed):
    """Returns parameters of which none is at its first value."""
    rng = np.random.default_rng(seed)

    def draw(path, like):
        values = 0.5 * rng.standard_normal(like.shape) + (path[-1].key == "scale")
        return jnp.asarray(values, "f4")

    return jax.tree_util.tree_map_with_path(draw, made)


@pytest.mark.parametrize(("named", "padding", "vectors"), CASES)
def test_every_pattern_gives_what_a_plain_attention_does(
    named, padding, vectors, strict_numerics
):
    cuboids = pattern(named, SHAPE) if isinstance(named, str) else named
    config = config_of(padding, vectors)

    def run(x, g):
        return [
            cuboid_attention.CuboidAttention(
                cuboid, levels.attention_settings(config), name=f"layer_{i}"
            )(x, g)
            for i, cuboid in enumerate(cuboids)
        ]

    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((1, *SHAPE, WIDTH)), "f4")
    g = None
    if vectors:
        wide = WIDTH * config.global_dim_ratio
        g = jnp.asarray(rng.standard_normal((1, VECTORS, wide)), "f4")
    network = hk.transform(run)
    params = drawn(jax.eval_shape(network.init, jax.random.key(0), x, g), 1)
    found = jax.jit(network.apply)(params, None, x, g)
    told = None if g is None else np.asarray(g[0], np.float64)
    for i, (cuboid, (points, answer)) in enumerate(zip(cuboids, found)):
        weights = plain.Weights(published_arrays(params, f"layer_{i}"))
        data = np.asarray(x[0], np.float64)
        expected, reply = plain.attention(weights, config, cuboid, data, told)
        published.close(points[0], expected)
        if answer is None:
            assert reply is None
        else:
            published.close(answer[0], reply)
