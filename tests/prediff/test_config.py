"""Tests of the sizes of PreDiff's networks."""

import typing

import pytest

from tests.prediff import networks, published
from weatherlib import config
from weatherlib.nn import cuboid_blocks
from weatherlib.prediff import config as prediff_config
from weatherlib.prediff import published as settings
from weatherlib.prediff.config import AlignmentConfig, EarthformerUNetConfig

UNET = {"input_shape": (2, 4, 5, 3), "target_shape": (2, 4, 5, 3), "base_units": 8}
HALF = {"input_shape": (2, 4, 5, 3), "base_units": 8}


def test_released_settings_are_those_of_the_published_files():
    held = published.listed("published_networks")
    unet = settings.unet_from_published(held["earthformerunet"]["args"])
    assert unet == settings.PUBLISHED_UNET
    half = settings.alignment_from_published(held["alignment"]["args"])
    assert half == settings.PUBLISHED_ALIGNMENT


def test_what_is_not_given_is_as_in_the_published_constructors():
    given = {key: list(UNET[key]) for key in ("input_shape", "target_shape")}
    sizes = settings.unet_from_published(given)
    assert (sizes.ffn_activation, sizes.padding_type) == ("leaky", "ignore")
    assert sizes.base_units == 128
    assert [cuboid.strategy[0] for cuboid in sizes.cuboids(0)] == ["l", "d"]
    half = settings.alignment_from_published({"input_shape": given["input_shape"]})
    assert (half.ffn_activation, half.padding_type) == ("gelu", "zeros")


def test_published_switches_are_read_as_numbers():
    found = settings.unet_from_published(
        {**UNET, "num_global_vectors": False, "checkpoint_level": True}
    )
    assert (found.num_global_vectors, found.checkpoint_level) == (0, 1)
    assert type(found.checkpoint_level) is int


def test_an_unknown_published_name_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match=r"'num_head' .did you mean 'num_heads'"):
        settings.unet_from_published({**UNET, "num_head": 2})
    with pytest.raises(ValueError, match="model_type: there is cuboid, found 'unet'"):
        settings.alignment_from_published({"model_type": "unet", "model_args": HALF})


def test_lists_of_a_yaml_file_become_sizes():
    found = config.from_dict(
        EarthformerUNetConfig,
        {
            "input_shape": [2, 4, 5, 3],
            "target_shape": [1, 4, 5, 3],
            "depth": [1, 1],
            "block_cuboid_size": [[[2, 2, 2]], [[1, 1, 1], [2, 1, 2]]],
            "block_cuboid_strategy": [[["l", "l", "l"]], [["l", "l", "d"]] * 2],
            "block_cuboid_shift_size": [[[0, 0, 0]], [[0, 0, 0]] * 2],
            "downsample": [1, 2, 2],
        },
    )
    assert len(found.cuboids(0)) == 1
    assert found.cuboids(1)[1].size == (2, 1, 2)
    assert found.factor == (1, 2, 2)
    assert hash(found) == hash(found.replace())


def test_levels_and_channels_follow_from_the_sizes():
    sizes = EarthformerUNetConfig(**UNET, depth=(1, 1, 1), downsample=2)
    assert sizes.frames == 4
    assert sizes.levels == ((4, 4, 5), (4, 2, 3), (4, 1, 2))
    assert sizes.units == (8, 16, 32)
    assert sizes.time_channels == 32
    assert sizes.replace(scale_alpha=1.5).units == (8, 16, 64)
    assert sizes.replace(block_units=(8, 12, 4)).units == (8, 12, 4)
    assert AlignmentConfig(**HALF, depth=(1, 1), downsample=(2, 1, 1)).levels[1] == (
        1, 4, 5,
    )  # fmt: skip


def test_networks_that_do_not_see_the_step_say_so():
    sizes = EarthformerUNetConfig(**UNET)
    assert sizes.is_blind_to_steps
    assert sizes.replace(base_units=32, depth=(1,)).is_blind_to_steps
    assert not sizes.replace(base_units=32).is_blind_to_steps
    assert not sizes.replace(time_embed_use_scale_shift_norm=True).is_blind_to_steps
    assert not settings.PUBLISHED_UNET.is_blind_to_steps
    assert not settings.PUBLISHED_ALIGNMENT.is_blind_to_steps


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target_shape": (2, 4, 6, 3)}, "same rows, columns and channels"),
        ({"target_shape": (0, 4, 5, 3)}, "target_shape must be positive"),
        ({"input_shape": (0, 4, 5, 3)}, "input_shape must be positive"),
        ({"depth": ()}, "at least one block at each level"),
        ({"depth": (1, 0)}, "at least one block at each level"),
        ({"num_heads": 3}, "num_heads 3 must divide"),
        ({"num_heads": 0}, "num_heads must be at least 1"),
        ({"attn_drop": 1.0}, r"attn_drop must be in .0, 1."),
        ({"downsample": 0}, "downsample must be positive"),
        ({"block_units": (8, 16)}, "block_units must be 3 numbers"),
        ({"block_units": (4, 8, 8)}, "begin with base_units 8"),
        ({"block_attn_patterns": "axiel"}, "did you mean 'axial'"),
        ({"block_attn_patterns": ("axial",)}, "one name or 3"),
        ({"block_cuboid_size": (((1, 1, 1),),) * 2}, "for all levels or for 3"),
        ({"block_cuboid_size": ((1, 1, 1),)}, "as many cuboid sizes as strategies"),
        ({"block_cuboid_size": ((0, 1, 1),) * 2}, "cuboid size must be at least 1"),
        ({"global_dim_ratio": 2}, "needs separate_global_qkv"),
        ({"num_global_vectors": -1}, "num_global_vectors must not be negative"),
        ({"upsample_kernel_size": 4}, "must be an odd number"),
        ({"ffn_activation": "swish"}, "ffn_activation: expected one of gelu"),
        ({"padding_type": "reflect"}, "padding_type: expected one of ignore"),
        ({"pos_embed_type": "thw"}, "pos_embed_type: expected one of t"),
    ],
)
def test_impossible_denoisers_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        EarthformerUNetConfig(**{**UNET, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"out_channels": 0}, "out_channels must be positive"),
        ({"base_units": 12, "depth": (1,) * 3}, "fewer than 32 or a multiple"),
        ({"out_len": 3}, "between 1 and the 2 frames"),
        ({"out_len": 0}, "between 1 and the 2 frames"),
        (
            {
                "num_global_vectors": 1,
                "separate_global_qkv": True,
                "global_dim_ratio": 2,
            },
            "global_dim_ratio must be 1",
        ),
    ],
)
def test_impossible_alignment_networks_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        AlignmentConfig(**{**HALF, **changes})


def test_activations_are_those_of_the_blocks():
    assert typing.get_args(prediff_config.Activation) == cuboid_blocks.ACTIVATIONS


def test_golden_settings_are_read():
    sizes, _, _ = networks.golden("unet_b")
    assert sizes.block_attn_patterns == ("video_swin_2x4", "spatial_lg_v1")
