"""Tests of names and shapes against the lists of the published models."""

import json
import math

import numpy as np
import pytest

from weatherlib import climax
from weatherlib.climax import parameters


@pytest.fixture(scope="module")
def published(goldens):
    """The published variables, sizes and tensors."""
    return json.loads((goldens / "climax" / "published_params.json").read_text())


def test_the_published_variables_are_the_default_ones(published):
    assert list(climax.DEFAULT_VARIABLES) == published["default_vars"]


@pytest.mark.parametrize("name", ["5.625deg", "1.40625deg"])
def test_the_name_map_lists_every_published_tensor_with_its_shape(published, name):
    model = published["models"][name]
    sizes = climax.PUBLISHED_CONFIGS[name]
    for field in ("patch_size", "embed_dim", "depth", "decoder_depth", "num_heads"):
        assert sizes[field] == model[field]
    assert list(sizes.img_size) == model["img_size"]
    entries = parameters.name_map(sizes)
    expected = {key: tuple(v["shape"]) for key, v in model["state_dict"].items()}
    assert {f"net.{e.source}": e.source_shape for e in entries} == expected
    shapes = parameters.parameter_shapes(sizes)
    ours = [math.prod(s) for module in shapes.values() for s in module.values()]
    assert sum(ours) == model["n_params"]


def _all_configs():
    tiny = climax.ClimaXConfig(
        default_vars=("a", "b", "c"), img_size=(4, 8), embed_dim=8, num_heads=2, depth=1
    )
    return [
        tiny,
        tiny.replace(parallel_patch_embed=True, decoder_depth=0),
        tiny.replace(head="projection", time_history=3, out_variables=("tas",)),
    ]


@pytest.mark.parametrize("sizes", _all_configs())
def test_the_name_map_fills_every_parameter_once_and_back(sizes):
    shapes = parameters.parameter_shapes(sizes)
    filled = {
        (module, name): np.zeros(shape, np.int32)
        for module, names in shapes.items()
        for name, shape in names.items()
    }
    rng = np.random.default_rng(0)
    for entry in parameters.name_map(sizes):
        tensor = rng.normal(size=entry.source_shape)
        ours = parameters.from_published(entry.kind, tensor)
        target = filled[entry.module, entry.name]
        part = target if entry.index is None else target[entry.index]
        assert ours.shape == part.shape
        part += 1
        back = parameters.to_published(entry.kind, ours, entry.source_shape)
        np.testing.assert_array_equal(back, tensor)
    assert all((counts == 1).all() for counts in filled.values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"img_size": (33, 64)}, "patch_size 2 does not divide the 33x64 grid"),
        ({"embed_dim": 10}, "multiple of num_heads"),
        ({"embed_dim": 6, "num_heads": 1}, "multiple of 4"),
        ({"default_vars": ("a", "a")}, "repeats a"),
        ({"default_vars": ()}, "at least one variable"),
        ({"drop_path": 1.0}, r"drop_path must be in \[0, 1\)"),
        ({"depth": 0}, "depth must be at least 1"),
        ({"head": "projection"}, "projection head needs at least one"),
        ({"lead_hours": (12.0, 6.0)}, "shortest and the longest"),
        ({"decoder_depth": -1}, "must not be negative"),
        ({"mlp_ratio": 0.0}, "mlp_ratio must be positive"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        climax.ClimaXConfig(**changes)
