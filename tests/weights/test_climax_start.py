"""Tests of what a ClimaX can start its training from."""

import numpy as np
import pytest

from tests.climax import published
from weatherlib import checkpoint, climax, task
from weatherlib.climax import parameters
from weatherlib.weights import climax_start, errors, positions

OLD = climax.ClimaXConfig(
    default_vars=("a", "b", "c"), img_size=(8, 16), patch_size=2, embed_dim=8,
    depth=2, decoder_depth=1, num_heads=2,
)  # fmt: skip
LAST = "climax/head/linear_1"


def _params(sizes, seed):
    rng = np.random.default_rng(seed)
    return {
        module: {n: rng.standard_normal(s).astype("f4") for n, s in entries.items()}
        for module, entries in parameters.parameter_shapes(sizes).items()
    }


def _carry(new, old=OLD):
    found, initial = _params(old, 0), _params(new, 1)
    params, lines = climax_start.carry(found, old, new, initial)
    shapes = {m: {n: x.shape for n, x in e.items()} for m, e in params.items()}
    assert shapes == parameters.parameter_shapes(new)
    return params, found, initial, lines


def _same(one, two):
    return all(np.array_equal(one[n], two[n]) for n in two)


def test_the_same_architecture_is_carried_over_bit_by_bit():
    params, found, _, lines = _carry(OLD)
    assert all(_same(params[module], found[module]) for module in found)
    assert lines == []


def test_variables_are_found_by_name_and_new_ones_are_fresh():
    params, found, initial, lines = _carry(OLD.replace(default_vars=("new", "c", "a")))
    for module, name in (
        ("climax", "var_embed"),
        ("climax/token_embed", "w"),
        ("climax/token_embed", "b"),
    ):
        got, old, begin = (x[module][name] for x in (params, found, initial))
        np.testing.assert_array_equal(got[0], begin[0])
        np.testing.assert_array_equal(got[1], old[2])
        np.testing.assert_array_equal(got[2], old[0])
    for name in ("w", "b"):
        shape = (-1, 4, 3)
        got, old, begin = (
            x[LAST][name].reshape(shape) for x in (params, found, initial)
        )
        np.testing.assert_array_equal(got[..., 0], begin[..., 0])
        np.testing.assert_array_equal(got[..., 1], old[..., 2])
        np.testing.assert_array_equal(got[..., 2], old[..., 0])
    assert _same(params["climax/block_1/attn/qkv"], found["climax/block_1/attn/qkv"])
    assert "fresh embeddings of new variables: new" in lines
    assert "variables left out: b" in lines


def test_another_order_of_variables_is_named():
    *_, lines = _carry(OLD.replace(default_vars=("c", "a", "b")))
    assert lines == ["variables brought into the order of the model"]


def test_positions_are_interpolated_to_another_grid():
    params, found, _, lines = _carry(OLD.replace(img_size=(16, 32)))
    expected = positions.interpolate(
        found["climax"]["pos_embed"][None], (4, 8), (8, 16)
    )
    np.testing.assert_array_equal(params["climax"]["pos_embed"], expected[0])
    assert lines == ["pos_embed interpolated from 4x8 to 8x16 patches"]


def test_more_input_frames_add_a_fresh_neck():
    params, found, initial, lines = _carry(OLD.replace(time_history=3))
    assert _same(params["climax/time_neck/qkv"], initial["climax/time_neck/qkv"])
    assert _same(params["climax/var_agg/qkv"], found["climax/var_agg/qkv"])
    assert lines == [
        "left at initial values: climax/time_pos_embed, climax/time_neck/qkv, "
        "climax/time_neck/proj"
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"head": "projection", "out_variables": ("x",), "time_history": 2},
        {"decoder_depth": 2},
        {"patch_size": 4},
    ],
)
def test_another_head_or_patch_is_fresh_and_said_so(changes):
    new = OLD.replace(**changes)
    params, found, initial, lines = _carry(new)
    head = [m for m in params if m.startswith("climax/head")][-1]
    assert _same(params[head], initial[head])
    assert _same(params["climax/block_0/mlp/fc1"], found["climax/block_0/mlp/fc1"])
    assert head in lines[-1]


def test_a_deeper_model_has_fresh_blocks_behind():
    params, found, initial, lines = _carry(OLD.replace(depth=3))
    assert _same(params["climax/block_1/norm1"], found["climax/block_1/norm1"])
    assert _same(params["climax/block_2/norm1"], initial["climax/block_2/norm1"])
    assert lines[0].startswith("left at initial values: climax/block_2/norm1, ")


def test_a_head_of_changes_is_no_head_of_states():
    *_, lines = _carry(OLD.replace(predicts="change"))
    assert "the weights predict a state, the model a change" in lines[0]


def test_rows_in_another_order_are_refused():
    with pytest.raises(ValueError, match=r"set model\.latitude: ascending"):
        _carry(OLD.replace(latitude="descending"))


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A checkpoint of this package."""
    path = tmp_path_factory.mktemp("own") / "checkpoint.npz"
    value = climax.CheckPoint(
        architecture=climax.CLIMAX,
        params=_params(OLD, 0),
        model_config=OLD,
        task_config=task.TASK,
        description="",
        license="",
    )
    checkpoint.save(path, value)
    return path


def test_a_checkpoint_is_returned_as_it_is_or_carried_over(own):
    same, lines = climax_start.start(own, OLD, _params(OLD, 1))
    assert lines == [] and _same(same[LAST], _params(OLD, 0)[LAST])
    new = OLD.replace(default_vars=("a", "d"))
    params, lines = climax_start.start(own, new, _params(new, 1), adapt=True)
    assert params["climax"]["var_embed"].shape == (2, 8)
    assert "fresh embeddings of new variables: d" in lines


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("b", "a", "c"), "3 and 3, a where the model has b; init_from.adapt: true"),
        (("a", "b"), "3 and 2, another number"),
    ],
)
def test_variables_in_another_order_are_not_taken_unseen(own, names, message):
    new = OLD.replace(default_vars=names)
    with pytest.raises(ValueError, match=message):
        climax_start.start(own, new, _params(new, 1))


def test_published_files_start_a_training(goldens):
    path = goldens / "climax" / "global.ckpt"
    sizes = published.config()
    names = sizes.default_vars
    strict, lines = climax_start.start(path, sizes, {}, variables=names)
    assert lines == []
    weights = published.arrays("global_weights")
    np.testing.assert_array_equal(
        strict["climax"]["var_embed"], weights["var_embed"][0]
    )
    new = sizes.replace(
        default_vars=("temperature_850", "ozone"), img_size=(16, 32), time_history=2
    )
    initial = _params(new, 1)
    params, lines = climax_start.start(path, new, initial, adapt=True, variables=names)
    place = names.index("temperature_850")
    np.testing.assert_array_equal(
        params["climax"]["var_embed"][0], weights["var_embed"][0, place]
    )
    np.testing.assert_array_equal(
        params["climax"]["var_embed"][1], initial["climax"]["var_embed"][1]
    )
    assert _same(params["climax/time_neck/qkv"], initial["climax/time_neck/qkv"])
    text = "\n".join(lines)
    assert "pos_embed interpolated from 16x32 to 8x16 patches" in text
    assert "rows of new variables left at initial values: ozone" in text


def test_published_files_of_another_model_are_refused(goldens):
    path = goldens / "climax" / "global.ckpt"
    sizes = published.config()
    with pytest.raises(ValueError, match="48 and 12"):
        climax_start.start(path, sizes, {})
    deep = sizes.replace(depth=3)
    with pytest.raises(errors.MismatchError):
        climax_start.start(path, deep, {}, variables=sizes.default_vars)
