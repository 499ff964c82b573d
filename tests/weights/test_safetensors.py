"""Tests of safetensors files, against one that the format's own package wrote."""

import json
import struct

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from weatherlib.weights import errors, flat, safetensors

TYPES = ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?", "c8"]


@pytest.fixture
def path(tmp_path):
    """Where a test writes its file."""
    return tmp_path / "x.safetensors"


def test_a_file_of_the_formats_own_package_is_read(goldens):
    file = flat.read(goldens / "torch" / "package.safetensors")
    assert file.format == "safetensors"
    assert file.metadata == {"format": "np"}
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(
        file.arrays["f32"], rng.normal(size=(3, 4)).astype(np.float32)
    )
    expected = rng.normal(size=(2, 3)).astype(ml_dtypes.bfloat16)
    assert file.arrays["bf16"].dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(file.arrays["bf16"], expected)
    assert file.arrays["scalar"].shape == ()
    assert file.arrays["scalar"] == 2.5
    assert file.arrays["empty"].shape == (0, 3)
    assert file.arrays["flag"].tolist() == [True, False]
    np.testing.assert_array_equal(file.arrays["i64"], np.arange(4))


@given(
    st.dictionaries(
        st.text(max_size=8).filter(lambda name: name != "__metadata__"),
        st.sampled_from(TYPES).flatmap(
            lambda kind: arrays_of.arrays(kind, arrays_of.array_shapes(min_dims=0))
        ),
        max_size=5,
    ),
    st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2),
)
def test_arrays_and_texts_come_back_bit_by_bit(tmp_path_factory, arrays, metadata):
    path = tmp_path_factory.mktemp("x") / "x.safetensors"
    safetensors.write(path, arrays, metadata)
    found = safetensors.read(path)
    assert found.metadata == metadata
    assert set(found.arrays) == set(arrays)
    for name, array in arrays.items():
        assert found.arrays[name].dtype == array.dtype
        assert found.arrays[name].shape == array.shape
        assert found.arrays[name].tobytes() == array.tobytes()


def test_rows_of_columns_and_the_other_byte_order_are_written_as_they_read(path):
    array = np.arange(6, dtype=">f4").reshape(2, 3).T
    safetensors.write(path, {"a": array, "b": np.ones(2, ml_dtypes.bfloat16)})
    found = safetensors.read(path).arrays
    np.testing.assert_array_equal(found["a"], array)
    assert found["b"].dtype == ml_dtypes.bfloat16


def test_equal_arrays_give_equal_files_whatever_their_order(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    safetensors.write(first, {"a": np.ones(2), "b": np.zeros(3)})
    safetensors.write(second, {"b": np.zeros(3), "a": np.ones(2)})
    assert first.read_bytes() == second.read_bytes()


def test_an_array_of_texts_is_refused_and_leaves_the_file_there_was(path):
    safetensors.write(path, {"a": np.ones(2)})
    before = path.read_bytes()
    with pytest.raises(ValueError, match="no type for b of <U1"):
        safetensors.write(path, {"b": np.array(["x"])})
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def _file(header, content=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content


def _row(**changes):
    return {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}


BAD = {
    "a cut header": (_file({"a": _row()}, bytes(8))[:20], "cut short"),
    "cut numbers": (_file({"a": _row()}, bytes(7)), "cut short: a ends at byte 8"),
    "no JSON": (_file(b"{nonsense}"), "header is damaged"),
    "a hole": (_file({"a": _row(data_offsets=[4, 12])}, bytes(12)), "leave or share"),
    "a rest": (_file({"a": _row()}, bytes(9)), "1 bytes follow"),
    "shared bytes": (_file({"a": _row(), "b": _row()}, bytes(8)), "leave or share"),
    "a wrong length": (_file({"a": _row(shape=[3])}, bytes(8)), "needs 12 bytes"),
    "a negative size": (_file({"a": _row(shape=[-2])}, bytes(8)), "has the shape"),
    "an unknown type": (_file({"a": _row(dtype="F2")}, bytes(8)), "of type 'F2'"),
    "a lacking place": (_file({"a": {"dtype": "F32"}}), "described incompletely"),
    "bad texts": (_file({"__metadata__": 3}), "metadata are no texts"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_file_that_contradicts_itself_is_refused_in_one_line(case, path):
    content, reason = BAD[case]
    path.write_bytes(content)
    with pytest.raises(errors.WeightsFileError, match=reason) as refused:
        safetensors.read(path)
    assert str(refused.value).startswith(str(path))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"\x89HDF\r\n\x1a\n{", b"<html><body>"])
def test_another_format_is_named(content, path):
    path.write_bytes(content)
    with pytest.raises(errors.WrongFormatError, match="no safetensors file but"):
        safetensors.read(path)


@pytest.mark.parametrize("format", flat.FORMATS)
def test_flat_files_of_both_formats_come_back_bit_by_bit(format, tmp_path):
    path = tmp_path / f"x.{format}"
    arrays = {
        "net.a.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
        "net.b": np.array([1.5, -2, np.nan], ml_dtypes.bfloat16),
        "c": np.array(3, np.int64),
    }
    flat.write(path, arrays, format=format)
    found = flat.read(path)
    assert found.format == format
    assert set(found.arrays) == set(arrays)
    for name, array in arrays.items():
        assert found.arrays[name].dtype == array.dtype
        assert found.arrays[name].tobytes() == array.tobytes()
