"""Tests of published ClimaX weights against what the published loaders do."""

import json

import numpy as np
import pytest

from tests.weights import torch_writer
from weatherlib import climax as family
from weatherlib.climax import parameters
from weatherlib.weights import (
    climax,
    climax_files,
    climax_variables,
    errors,
    flat,
    positions,
)

BICUBIC = 1e-5


@pytest.fixture(scope="module")
def config(goldens):
    """Sizes of the golden models."""
    return json.loads((goldens / "climax" / "config.json").read_text())["config"]


@pytest.fixture(scope="module")
def legacy(goldens):
    """What the published loaders make of the older file, by model."""
    return json.loads((goldens / "climax" / "legacy_expected.json").read_text())


@pytest.fixture(scope="module")
def sizes(config):
    """The golden global model."""
    return _config(config)


def _config(held, **changes):
    fields = set(family.ClimaXConfig.__dataclass_fields__)
    known = {k: v for k, v in held.items() if k in fields}
    known |= {k: tuple(v) for k, v in known.items() if isinstance(v, list)}
    return family.ClimaXConfig(**{**known, **changes})


def _fresh(sizes, value=7.0):
    shapes = parameters.parameter_shapes(sizes)
    return {
        module: {n: np.full(s, value, np.float32) for n, s in names.items()}
        for module, names in shapes.items()
    }


def _assert_same(found, expected):
    assert set(found) == set(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        assert found[name].tobytes() == array.tobytes()


def test_the_global_file_is_loaded_strictly_and_exported_bit_by_bit(goldens, sizes):
    folder = goldens / "climax"
    loaded = climax.load(folder / "global.ckpt", sizes, strict=True)
    assert loaded.report.is_exact
    assert len(loaded.report.loaded) == 65
    exported = climax.export(loaded.params, sizes, prefix="")
    with np.load(folder / "global_weights.npz") as expected:
        _assert_same(exported, dict(expected))
    shapes = {m: {n: a.shape for n, a in ns.items()} for m, ns in loaded.params.items()}
    assert shapes == parameters.parameter_shapes(sizes)


def test_the_projection_file_is_loaded_strictly_and_exported_bit_by_bit(
    goldens, config
):
    held = config["projection"]
    sizes = _config(held, head="projection", out_variables=(held["out_vars"],))
    path = goldens / "climax" / "projection.ckpt"
    for strict in (True, False):
        loaded = climax.load(path, sizes, strict=strict)
        assert loaded.report.is_exact
        with np.load(goldens / "climax" / "projection_weights.npz") as expected:
            _assert_same(climax.export(loaded.params, sizes, prefix=""), dict(expected))


@pytest.mark.parametrize("format", flat.FORMATS)
def test_an_export_in_any_format_is_read_back_bit_by_bit(
    format, goldens, sizes, tmp_path
):
    first = climax.load(goldens / "climax" / "global.ckpt", sizes)
    path = tmp_path / "x"
    flat.write(path, climax.export(first.params, sizes), format=format)
    again = climax.load(path, sizes, strict=True)
    for module, names in first.params.items():
        _assert_same(again.params[module], names)


def test_the_architecture_follows_from_the_arrays(goldens, sizes, config):
    arrays = climax_files.read(goldens / "climax" / "global.ckpt")
    found = climax_files.infer_config(
        arrays, variables=sizes.default_vars, num_heads=sizes.num_heads
    )
    assert found == sizes
    held = config["projection"]
    arrays = climax_files.read(goldens / "climax" / "projection.ckpt")
    found = climax_files.infer_config(
        arrays,
        variables=held["default_vars"],
        num_heads=held["num_heads"],
        out_variables=[held["out_vars"]],
    )
    assert found == _config(held, head="projection", out_variables=("tas",))


def test_names_of_variables_are_asked_for_where_they_do_not_follow(goldens):
    with pytest.raises(ValueError, match="12 variables; give their 12 names"):
        climax.load(goldens / "climax" / "global.ckpt")


@pytest.mark.parametrize("name", ["5.625deg", "1.40625deg"])
def test_the_published_sizes_follow_from_the_published_shapes(goldens, name):
    held = json.loads((goldens / "climax" / "published_params.json").read_text())
    rows = held["models"][name]["state_dict"]
    arrays = {
        key.removeprefix("net."): np.broadcast_to(
            np.zeros((), np.float32), row["shape"]
        )
        for key, row in rows.items()
    }
    assert climax_files.infer_config(arrays) == family.PUBLISHED_CONFIGS[name]


@pytest.mark.parametrize(
    "name", ["same_vars_32x64", "thirteen_vars_32x64", "same_grid"]
)
def test_an_older_file_is_loaded_as_the_published_loader_does(goldens, legacy, name):
    case = legacy["expected"][name]
    sizes = _config(legacy["target_common"] | case["target"])
    path = goldens / "climax" / "legacy_channel.ckpt"
    loaded = climax.load(path, sizes, initial=_fresh(sizes))
    report = loaded.report
    assert set(report.loaded) == set(case["loaded"])
    assert set(report.fresh) == set(case["kept_at_init"])
    dropped = {key.replace("channel", "var") for key in report.dropped}
    assert dropped == set(case["removed_keys"])
    with np.load(goldens / "climax" / "legacy_expected.npz") as expected:
        np.testing.assert_allclose(
            loaded.params["climax"]["pos_embed"],
            expected[f"{name}_pos_embed"][0],
            atol=BICUBIC,
        )
    text = str(report)
    assert "6 older names: channel_* is var_* now" in text
    assert "dropped: net.mask_token [1, 1, 32]: not in the model" in text
    moved = "pos_embed interpolated from 8x16 to 16x32 patches"
    assert (moved in text) == (name != "same_grid")
    for name in case["kept_at_init"]:
        assert f"left at its initial value: {name}" in text


def test_what_the_file_does_not_give_keeps_its_initial_value(goldens, legacy):
    case = legacy["expected"]["thirteen_vars_32x64"]
    sizes = _config(legacy["target_common"] | case["target"])
    path = goldens / "climax" / "legacy_channel.ckpt"
    loaded = climax.load(path, sizes, initial=_fresh(sizes))
    tokens = loaded.params["climax/token_embed"]["w"]
    assert (tokens[12] == 7).all()
    assert (tokens[:12] != 7).any()
    assert (loaded.params["climax"]["var_embed"] == 7).all()
    assert (loaded.params["climax/head/linear_1"]["w"] == 7).all()
    with pytest.raises(
        errors.MismatchError, match="initial parameters are lacking"
    ) as e:
        climax.load(path, sizes)
    assert set(e.value.missing) == set(case["kept_at_init"])


def test_a_projection_takes_nothing_of_patches_and_head(goldens, legacy):
    case = legacy["expected"]["climate_projection_4vars_32x64"]
    sizes = _config(
        legacy["target_common"],
        default_vars=("CO2", "SO2", "CH4", "BC"),
        img_size=(32, 64),
        head="projection",
        time_history=10,
        out_variables=("tas",),
    )
    path = goldens / "climax" / "legacy_channel.ckpt"
    report = climax.load(path, sizes, initial=_fresh(sizes)).report
    dropped = {key.replace("channel", "var") for key in report.dropped}
    assert dropped == set(case["removed_keys"])
    assert set(report.loaded) == set(case["loaded"])


def test_strict_loading_refuses_what_the_published_loaders_drop(goldens, legacy):
    sizes = _config(legacy["target_common"] | legacy["source"])
    path = goldens / "climax" / "legacy_channel.ckpt"
    with pytest.raises(errors.MismatchError) as refused:
        climax.load(path, sizes, strict=True)
    assert refused.value.extra == {"mask_token": (1, 1, 32)}
    larger = sizes.replace(img_size=(32, 64))
    with pytest.raises(errors.MismatchError) as refused:
        climax.load(path, larger, strict=True)
    assert refused.value.misshapen == {"pos_embed": ((1, 128, 32), (1, 512, 32))}


def test_both_layouts_of_patch_embeddings_give_the_same_weights(
    goldens, sizes, tmp_path
):
    serial = climax.load(goldens / "climax" / "global.ckpt", sizes)
    parallel = sizes.replace(parallel_patch_embed=True)
    stacked = climax.load(goldens / "climax" / "global.ckpt", parallel)
    assert stacked.report.is_exact
    assert "12 patch embeddings stacked" in stacked.report.renamed
    for module, names in serial.params.items():
        _assert_same(stacked.params[module], names)
    exported = climax.export(stacked.params, parallel)
    assert exported["net.token_embeds.proj_weights"].shape == (12, 64, 1, 2, 2)
    path = tmp_path / "parallel.ckpt"
    torch_writer.save(path, {"state_dict": exported})
    for target in (sizes, parallel):
        again = climax.load(path, target, strict=True)
        for module, names in serial.params.items():
            _assert_same(again.params[module], names)


@pytest.mark.parametrize("case", ["up", "down", "odd", "same_h"])
def test_position_embeddings_are_interpolated_as_published(goldens, case):
    with np.load(goldens / "climax" / "pos_embed.npz") as held:
        table, expected = held[f"interp_{case}_in"], held[f"interp_{case}_out"]
        rows, columns, patch = held[f"interp_{case}_newsize_patch"].tolist()
    old = positions.grid_of_tokens(table.shape[1])
    new = (rows // patch, columns // patch)
    if case == "same_h":
        # The published code looks at rows alone, and leaves a wider grid as it is.
        assert new[0] == old[0]
        np.testing.assert_array_equal(table, expected)
        return
    found = positions.interpolate(table, old, new)
    assert found.dtype == table.dtype
    np.testing.assert_allclose(found, expected, atol=BICUBIC)


def test_bicubic_weights_keep_constants_and_do_nothing_at_equal_sizes():
    np.testing.assert_allclose(positions.bicubic(5, 13).sum(axis=1), 1)
    np.testing.assert_allclose(positions.bicubic(6, 6), np.eye(6), atol=1e-15)


def test_positions_that_fill_no_grid_are_refused():
    with pytest.raises(ValueError, match="100 position embeddings fill no grid"):
        positions.grid_of_tokens(100)
    with pytest.raises(ValueError, match="do not belong to 3x4 patches"):
        positions.interpolate(np.zeros((1, 10, 2)), (3, 4), (6, 8))


def test_a_grid_of_another_shape_is_read_back_from_an_export(sizes, goldens, tmp_path):
    # 8x64 patches are as many as 16x32, so their number does not tell them apart.
    wide = sizes.replace(img_size=(16, 128))
    loaded = climax.load(goldens / "climax" / "global.ckpt", wide)
    assert loaded.report.altered == (
        "pos_embed interpolated from 16x32 to 8x64 patches",
    )
    path = tmp_path / "wide.npz"
    flat.write(path, climax.export(loaded.params, wide), format="npz")
    again = climax.load(path, wide)
    assert again.report.is_exact
    back = climax.load(path, sizes, source_grid=(16, 128))
    assert back.report.altered == ("pos_embed interpolated from 8x64 to 16x32 patches",)


@pytest.mark.parametrize("count", [4, 6, 9])
def test_embeddings_of_variables_are_cut_as_published(goldens, count):
    with np.load(goldens / "climax" / "pos_embed.npz") as held:
        found = climax_variables.truncate(held["channel_in"], count)
        np.testing.assert_array_equal(found, held[f"channel_out_{count}"])


def test_fewer_variables_take_the_first_embeddings_on_request(goldens, sizes):
    fewer = sizes.replace(default_vars=sizes.default_vars[:5])
    path = goldens / "climax" / "global.ckpt"
    initial = _fresh(fewer)
    by_place = climax.load(path, fewer, initial=initial)
    assert "var_embed" in by_place.report.fresh
    first = climax.load(path, fewer, initial=initial, match="first")
    assert "var_embed" not in first.report.fresh
    assert "var_embed cut to the first 5 rows of 12" in first.report.altered
    whole = climax.load(path, sizes).params["climax"]["var_embed"]
    np.testing.assert_array_equal(first.params["climax"]["var_embed"], whole[:5])


@pytest.mark.parametrize("parallel", [False, True])
def test_variables_are_matched_by_name_in_any_order(goldens, sizes, parallel):
    names = (sizes.default_vars[7], "new_field", sizes.default_vars[2])
    target = sizes.replace(default_vars=names, parallel_patch_embed=parallel)
    path = goldens / "climax" / "global.ckpt"
    whole = climax.load(path, sizes).params
    loaded = climax.load(
        path,
        target,
        match="name",
        source_variables=sizes.default_vars,
        initial=_fresh(target),
    )
    assert not loaded.report.fresh
    assert not loaded.report.dropped
    for module, name in (
        ("climax", "var_embed"),
        ("climax/token_embed", "w"),
        ("climax/token_embed", "b"),
    ):
        found, source = loaded.params[module][name], whole[module][name]
        np.testing.assert_array_equal(found[0], source[7])
        assert (found[1] == 7).all()
        np.testing.assert_array_equal(found[2], source[2])
    last = f"climax/head/linear_{sizes.decoder_depth}"
    found = loaded.params[last]["w"].reshape(64, 4, 3)
    source = whole[last]["w"].reshape(64, 4, 12)
    np.testing.assert_array_equal(found[..., 0], source[..., 7])
    assert (found[..., 1] == 7).all()
    np.testing.assert_array_equal(found[..., 2], source[..., 2])
    assert "rows of 2 of 12 variables taken by name" in loaded.report.altered


def test_a_new_variable_needs_initial_values(goldens, sizes):
    target = sizes.replace(default_vars=("geopotential_500", "new_field"))
    with pytest.raises(ValueError, match="know nothing of new_field"):
        climax.load(
            goldens / "climax" / "global.ckpt",
            target,
            match="name",
            source_variables=sizes.default_vars,
        )


def test_a_file_of_another_model_is_no_climax(goldens):
    with pytest.raises(errors.WrongFormatError, match="no ClimaX"):
        climax.load(goldens / "torch" / "tensors.pt")


def test_one_array_under_both_names_is_refused(tmp_path):
    path = tmp_path / "x.ckpt"
    one = np.zeros((1, 2, 4), np.float32)
    held = {"net.channel_embed": one, "net.var_embed": one, "net.pos_embed": one}
    torch_writer.save(path, {"state_dict": held})
    with pytest.raises(errors.DamagedError, match="under two names"):
        climax.load(path)


def test_arrays_outside_of_the_network_are_reported(goldens, sizes, tmp_path):
    arrays = flat.read(goldens / "climax" / "global.ckpt").arrays
    path = tmp_path / "x.ckpt"
    torch_writer.save(path, {"state_dict": {**arrays, "metric.total": np.ones(1)}})
    report = climax.load(path, sizes).report
    assert report.dropped == {"metric.total": ((1,), "outside of the network")}
    with pytest.raises(errors.MismatchError) as refused:
        climax.load(path, sizes, strict=True)
    assert refused.value.extra == {"metric.total": (1,)}


def test_a_neck_over_time_starts_from_initial_values(goldens, sizes):
    necked = sizes.replace(time_history=3)
    path = goldens / "climax" / "global.ckpt"
    loaded = climax.load(path, necked, initial=_fresh(necked))
    assert (loaded.params["climax"]["time_pos_embed"] == 7).all()
    assert "climax/time_pos_embed" in loaded.report.fresh
    shapes = {m: {n: a.shape for n, a in ns.items()} for m, ns in loaded.params.items()}
    assert shapes == parameters.parameter_shapes(necked)
