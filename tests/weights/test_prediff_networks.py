"""Tests of published weights of PreDiff's denoiser and alignment network."""

import numpy as np
import pytest

from tests.prediff import networks, published
from tests.weights import torch_writer
from tests.weights.torch_writer import Call, Instance, Name
from weatherlib.cli import conversion
from weatherlib.prediff import published as settings
from weatherlib.weights import (
    errors,
    flat,
    prediff_names,
    prediff_networks,
    prediff_sizes,
)

PAST = {"unet_a": {"input_shape": (4, 8, 8, 8)}, "align_a": {}}
# What no shape tells, of networks that differ from the published ones there.
UNTOLD = {
    "unet_a": PAST["unet_a"],
    "unet_b": {
        "input_shape": (3, 9, 9, 4),
        "padding_type": "ignore",
        "attn_drop": 0.0,
        "proj_drop": 0.0,
        "ffn_drop": 0.0,
    },
    "align_a": {},
    "align_b": {
        "ffn_activation": "leaky",
        "out_len": 2,
        "attn_drop": 0.0,
        "proj_drop": 0.0,
        "ffn_drop": 0.0,
    },
}


def golden_file(name):
    path = published.FOLDER / f"{name}.pt"
    return path if path.exists() else published.FOLDER / f"{name}_weights.npz"


def assert_same(found, expected):
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype, name
        assert found[name].tobytes() == array.tobytes(), name


@pytest.mark.parametrize("name", UNTOLD)
def test_a_published_file_is_loaded_strictly_and_exported_bit_by_bit(name):
    path = golden_file(name)
    sizes, arrays, _ = networks.golden(name)
    loaded = prediff_networks.load(path, sizes)
    assert loaded.config == sizes
    assert not loaded.outside
    assert networks.shapes_of(loaded.params) == networks.named_shapes(sizes)
    held = flat.read(path).arrays
    assert_same(prediff_networks.export(loaded.params, sizes), held)
    plain = prediff_networks.export(loaded.params, sizes, buffers=False)
    assert set(plain) == set(arrays)
    assert f"{len(arrays)} arrays loaded" in str(loaded)


@pytest.mark.parametrize("name", UNTOLD)
def test_the_sizes_follow_from_the_arrays(name):
    sizes, arrays, _ = networks.golden(name)
    loaded = prediff_networks.load(golden_file(name), **UNTOLD[name])
    if loaded.config != sizes:
        # Another name for the same cuboids.
        assert all(
            loaded.config.cuboids(i) == sizes.cuboids(i)
            for i in range(len(sizes.depth))
        )
        pattern = sizes.block_attn_patterns
        assert loaded.config.replace(block_attn_patterns=pattern) == sizes
    # Without tables of positions, the tables of biases tell.
    found = prediff_sizes.infer_config(arrays, **UNTOLD[name])
    assert found == loaded.config


@pytest.mark.parametrize("format", ["npz", "safetensors", "torch"])
def test_an_export_in_any_format_is_read_back_bit_by_bit(format, tmp_path):
    sizes, _, _ = networks.golden("align_b")
    first = prediff_networks.load(golden_file("align_b"), sizes)
    arrays = prediff_networks.export(first.params, sizes)
    path = tmp_path / "x.pt"
    if format == "torch":
        torch_writer.save(path, arrays)
    else:
        flat.write(path, arrays, format=format)
    again = prediff_networks.load(path, sizes)
    for module, entries in first.params.items():
        assert_same(again.params[module], entries)
    exported = prediff_networks.export(again.params, sizes)
    assert_same(exported, arrays)


@pytest.mark.parametrize("name", ["earthformerunet", "alignment"])
def test_every_name_and_shape_of_a_published_model_is_ours(name):
    held = published.listed("published_networks")[name]
    is_unet = name == "earthformerunet"
    sizes = settings.PUBLISHED_UNET if is_unet else settings.PUBLISHED_ALIGNMENT
    assert list(prediff_names.source_order(sizes)) == list(held["shapes"])
    names = prediff_names.map_of(sizes)
    buffers = prediff_names.index_buffers(sizes)
    shapes = {n: list(s) for n, s in names.source_shapes.items()}
    shapes |= {n: list(a.shape) for n, a in buffers.items()}
    assert shapes == held["shapes"]
    count = sum(int(np.prod(s)) for s in names.source_shapes.values())
    assert count == held["n_params"]
    assert {a.dtype for a in buffers.values()} == {np.dtype(np.int64)}
    outline = {
        n: np.broadcast_to(np.zeros((), np.float32), shape)
        for n, shape in held["shapes"].items()
        if n not in buffers
    }
    assert prediff_sizes.infer_config(outline | buffers) == sizes


def training_checkpoint(path, arrays, averages=True):
    """Writes what the published training program does."""
    part = {f"torch_nn_module.{name}": array for name, array in arrays.items()}
    if averages:
        part |= {
            f"model_ema.{name.replace('.', '')}": array + 1
            for name, array in arrays.items()
            if array.dtype == np.float32
        }
        part["model_ema.num_updates"] = np.array(7, np.int32)
    part["first_stage_model.encoder.conv_in.weight"] = np.ones((2, 1), np.float32)
    part["betas"] = np.ones(3, np.float32)
    metadata = Instance(Name("omegaconf.base", "ContainerMetadata"), {"ref_type": 1})
    node = Instance(
        Name("omegaconf.nodes", "AnyNode"),
        {"_metadata": Instance(Name("omegaconf.base", "Metadata"), {}), "_val": 1},
    )
    listed = Instance(Name("omegaconf.listconfig", "ListConfig"), {"_content": [node]})
    content = {"_metadata": metadata, "_content": {"depth": listed, "lr": node}}
    contents = {
        "epoch": 3,
        "state_dict": part,
        "hyper_parameters": {
            "oc": Instance(Name("omegaconf.dictconfig", "DictConfig"), content),
            "kinds": [
                Name("typing", "Any"),
                Name("__builtin__", "dict"),
                Name("__builtin__", "list"),
                Name("__builtin__", "long"),
            ],
            "flags": Call(
                Name("collections", "defaultdict"), (Name("__builtin__", "list"),)
            ),
        },
        "callbacks": {"best": Call(Name("numpy", "dtype"), ("f4", False, True))},
    }
    torch_writer.save(path, contents)


def test_a_training_checkpoint_is_read_and_its_settings_are_not_executed(tmp_path):
    sizes, arrays, _ = networks.golden("align_b")
    path = tmp_path / "last.ckpt"
    training_checkpoint(path, arrays)
    loaded = prediff_networks.load(path, sizes)
    assert loaded.prefix == "torch_nn_module."
    assert "betas" in loaded.outside
    assert any("omegaconf.dictconfig.DictConfig" in line for line in loaded.beside)
    expected = networks.params_of(sizes, arrays)
    for module, entries in expected.items():
        assert_same(loaded.params[module], entries)
    averaged = prediff_networks.load(path, sizes, average=True)
    for module, entries in expected.items():
        for name, array in entries.items():
            np.testing.assert_array_equal(averaged.params[module][name], array + 1)
    text = str(loaded)
    assert "named with 'torch_nn_module.' in front" in text
    assert "arrays of other parts left out" in text


def test_an_average_that_is_not_there_or_incomplete_is_asked_for_in_vain(tmp_path):
    sizes, arrays, _ = networks.golden("align_b")
    path = tmp_path / "last.ckpt"
    training_checkpoint(path, arrays, averages=False)
    with pytest.raises(ValueError, match="holds no moving average"):
        prediff_networks.load(path, sizes, average=True)


def test_a_checkpoint_that_would_run_something_is_refused(tmp_path):
    _, arrays, _ = networks.golden("align_b")
    path = tmp_path / "last.ckpt"
    hostile = Call(Name("os", "system"), ("true",))
    torch_writer.save(path, {"state_dict": dict(arrays), "hyper_parameters": hostile})
    with pytest.raises(errors.CarriesCodeError, match=r"last\.ckpt"):
        prediff_networks.load(path)


def test_arrays_that_are_missing_extra_or_misshapen_are_all_named(tmp_path):
    sizes, arrays, _ = networks.golden("align_b")
    changed = dict(arrays)
    del changed["out.0.weight"]
    changed["more"] = np.zeros(2, np.float32)
    changed["out.0.bias"] = np.zeros(3, np.float32)
    path = tmp_path / "x.npz"
    flat.write(path, changed, format="npz")
    with pytest.raises(
        errors.MismatchError, match="1 arrays are missing, 1 extra"
    ) as e:
        prediff_networks.load(path, sizes)
    assert e.value.missing == {"out.0.weight": (8,)}
    assert e.value.extra == {"more": (2,)}
    assert e.value.misshapen == {"out.0.bias": ((3,), (8,))}


def test_tables_of_positions_of_other_cuboids_are_refused(tmp_path):
    sizes, arrays, _ = networks.golden("align_b")
    buffers = prediff_names.index_buffers(sizes)
    name = "down_self_blocks.0.0.attn_l.1.relative_position_index"
    path = tmp_path / "x.npz"
    flat.write(path, arrays | buffers | {name: buffers[name].T}, format="npz")
    with pytest.raises(errors.MismatchError, match="belongs to other cuboids"):
        prediff_networks.load(path, sizes)
    flat.write(path, arrays, format="npz")
    assert prediff_networks.load(path, sizes).config == sizes


def test_weights_of_another_network_are_refused(tmp_path):
    sizes, _, _ = networks.golden("align_b")
    with pytest.raises(ValueError, match="holds the earthformer_unet of PreDiff"):
        prediff_networks.load(golden_file("unet_a"), sizes)
    path = tmp_path / "vae.npz"
    flat.write(path, {"encoder.conv_in.weight": np.zeros(2, "f4")}, format="npz")
    with pytest.raises(ValueError, match="neither denoiser nor alignment network"):
        prediff_networks.load(path)
    with pytest.raises(ValueError, match="no network of PreDiff"):
        prediff_sizes.infer_config({})


def test_a_file_of_several_networks_needs_a_name(tmp_path):
    _, arrays, _ = networks.golden("align_b")
    both = {f"{p}.{n}": a for p in ("one", "two") for n, a in arrays.items()}
    path = tmp_path / "x.npz"
    flat.write(path, both, format="npz")
    with pytest.raises(ValueError, match=r"several networks .* one\., two\."):
        prediff_networks.load(path)
    flat.write(path, {f"one.{n}": a for n, a in arrays.items()}, format="npz")
    assert prediff_networks.load(path, out_len=2).prefix == "one."


def test_what_shapes_do_not_tell_is_asked_for():
    _, arrays, _ = networks.golden("unet_a")
    with pytest.raises(ValueError, match=r"7 frames; give input_shape"):
        prediff_networks.load(golden_file("unet_a"))
    found = prediff_sizes.infer_config(arrays, target_shape=(3, 8, 8, 8))
    assert found.input_shape == (4, 8, 8, 8)
    odd = dict(arrays)
    for name in arrays:
        if name.endswith("relative_position_bias_table"):
            odd[name] = np.zeros((11, 4), np.float32)
    with pytest.raises(ValueError, match="no published pattern has cuboids"):
        prediff_sizes.infer_config(odd, input_shape=(4, 8, 8, 8))
    bare = {n: a for n, a in arrays.items() if "relative_position" not in n}
    with pytest.raises(ValueError, match="do not tell the cuboids"):
        prediff_sizes.infer_config(bare, input_shape=(4, 8, 8, 8))
    found = prediff_sizes.infer_config(
        bare, input_shape=(4, 8, 8, 8), block_attn_patterns="axial"
    )
    assert not found.use_relative_pos
    arrays = dict(arrays)
    del arrays["first_proj.out_layers.0.weight"]
    with pytest.raises(ValueError, match=r"incomplete: 'first_proj\.out_layers"):
        prediff_sizes.infer_config(arrays)


def test_files_are_described():
    found = conversion._model(flat.read(golden_file("unet_a")).arrays)
    assert found == "PreDiff denoiser of 7 frames, width 16"
    found = conversion._model(flat.read(golden_file("align_b")).arrays)
    assert found == "PreDiff alignment network of 4 frames, width 8"
    assert not prediff_networks.looks_like({"a": np.zeros(1)})
