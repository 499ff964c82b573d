"""Parts of direct forecasts in files of half precision."""

import numpy as np
import pytest

from tests.latent import cases
from tests.weights import torch_writer
from weatherlib.weights import direct_parts, errors, flat, vision

SIZES = cases.DECODER.replace(num_channels=4)


def _params():
    rng = np.random.default_rng(0)
    layer = {
        "w": rng.standard_normal((6, 3)).astype(np.float32),
        "b": rng.standard_normal(3).astype(np.float32),
    }
    other = {"vision_encoder/norm": {"scale": np.ones(8, np.float32)}}
    return {"in_adapter": layer, **cases.decoder_params(SIZES), **other}


@pytest.mark.parametrize("format", flat.FORMATS)
def test_what_is_written_comes_back_rounded(format, tmp_path):
    params = _params()
    files = direct_parts.write(tmp_path, params, SIZES, format=format)
    assert [path.name for path in files] == [
        f"decoder_fp16.{format}", f"encoder_in_adapter_fp16.{format}"
    ]  # fmt: skip
    for path in files:
        assert {a.dtype for a in flat.read(path).arrays.values()} == {np.dtype("f2")}
    found = direct_parts.read(tmp_path, SIZES)
    assert found.files == tuple(files)
    assert set(found.params) == {m for m in params if "encoder" not in m}
    for module, held in found.params.items():
        for name, array in held.items():
            assert array.dtype == np.float32
            half = np.asarray(params[module][name], np.float16).astype(np.float32)
            np.testing.assert_array_equal(array, half)


def test_a_layer_is_that_of_a_convolution_of_pytorch(tmp_path):
    direct_parts.write(tmp_path, _params(), SIZES)
    arrays = flat.read(tmp_path / "encoder_in_adapter_fp16.safetensors").arrays
    assert arrays["in_adapter.weight"].shape == (3, 6, 1, 1)
    expected = _params()["in_adapter"]["w"].astype(np.float16)
    np.testing.assert_array_equal(arrays["in_adapter.weight"][:, :, 0, 0], expected.T)
    # Names without a module, and plain matrices, are taken as well.
    plain = {"weight": expected.T.copy(), "bias": np.zeros(3, np.float16)}
    flat.write(
        tmp_path / "encoder_in_adapter_fp16.safetensors", plain, format="safetensors"
    )
    found = direct_parts.read(tmp_path, SIZES).params["in_adapter"]
    np.testing.assert_array_equal(found["w"], expected.astype(np.float32))


def test_files_of_torch_are_read_in_their_place(tmp_path):
    direct_parts.write(tmp_path, _params(), SIZES)
    expected = direct_parts.read(tmp_path, SIZES).params
    for path in list(direct_parts.find(tmp_path).values()):
        arrays = {n: np.array(a) for n, a in flat.read(path).arrays.items()}
        torch_writer.save(path.with_suffix(".pt"), arrays)
        path.unlink()
    found = direct_parts.read(tmp_path, SIZES)
    assert {path.suffix for path in found.files} == {".pt"}
    assert set(found.params) == set(expected)
    for module, held in expected.items():
        for name, array in held.items():
            np.testing.assert_array_equal(found.params[module][name], array)


def test_what_cannot_be_read_or_written_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no decoder_fp16 and no encoder_in"):
        direct_parts.read(tmp_path, SIZES)
    path = tmp_path / "encoder_in_adapter_fp16.npz"
    flat.write(path, {"x": np.zeros(3, np.float16)}, format="npz")
    with pytest.raises(errors.WrongFormatError, match="a weight and a bias, found x"):
        direct_parts.read(tmp_path, SIZES)
    params = _params()
    params["in_adapter"]["b"][0] = 1e6
    with pytest.raises(ValueError, match=r"in_adapter.bias: has values that half"):
        direct_parts.write(tmp_path, params, SIZES)
    path.unlink()
    direct_parts.write(tmp_path, _params(), SIZES)
    with pytest.raises(errors.MismatchError):
        direct_parts.read(tmp_path, SIZES.replace(grid=(3, 3)))
    assert vision.load_decoder(tmp_path / "decoder_fp16.safetensors", SIZES)
