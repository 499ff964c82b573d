"""Files that are no checkpoint, or no longer one, are refused."""

import io
import pathlib
import zipfile
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.checkpoint import cases


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (b"", "an empty file"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 or NetCDF-4 file"),
        (b"CDF\x01", "a NetCDF file"),
        (b"GRIB", "a GRIB file"),
        (b"\x93NUMPY\x01\x00", "a single NumPy array"),
        (b"\x80\x04\x95", "a Python pickle, which is never read"),
        (b"\x1f\x8b\x08", "a gzip archive"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (b"\n<!DOCTYPE html>", "a web page or XML text; the download failed"),
        (b"hello world", "something that begins with b'hello wo'"),
    ],
)
def test_other_formats_are_named(head, message):
    with pytest.raises(ValueError, match=f"not an npz checkpoint but {message}"):
        cases.loaded(head, cases.Whole)


def archive_of(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/").replace("_dot_", "."), content)
    return buffer.getvalue()


def test_a_pytorch_file_and_other_archives_are_named():
    with pytest.raises(ValueError, match="not an npz checkpoint but a PyTorch file"):
        cases.loaded(
            archive_of(model__data_dot_pkl=b"", model__data__0=b"1"), cases.Whole
        )
    with pytest.raises(ValueError, match=r"not an npz checkpoint: it holds 'a\.txt'"):
        cases.loaded(archive_of(a_dot_txt=b"1"), cases.Whole)


@given(cut=st.integers(1, 3000))
def test_a_file_that_is_cut_short_is_refused(cut):
    data = cases.dumped(cases.whole())
    with pytest.raises(ValueError, match=r"cut short or damaged|an empty file|begins"):
        cases.loaded(data[: max(len(data) - cut, 0)], cases.Whole)


@given(position=st.integers(0, 10**6), value=st.integers(0, 255))
def test_a_damaged_file_is_refused_or_gives_the_same(position, value):
    data = bytearray(cases.dumped({"a": np.arange(20.0), "b": np.arange(3)}))
    data[position % len(data)] = value
    try:
        back = cases.loaded(bytes(data), dict[str, Any])
    except ValueError:
        return
    for name in set(back) & {"a", "b"}:
        np.testing.assert_array_equal(back[name], np.arange({"a": 20, "b": 3}[name]))


def test_a_zip_directory_from_the_future_is_refused():
    data = bytearray(cases.dumped({"a": np.zeros(1)}))
    version_needed = data.rfind(b"PK\x01\x02") + 6
    data[version_needed] = 255
    with pytest.raises(ValueError, match=r"cut short or damaged: zip file version"):
        cases.loaded(bytes(data), dict[str, Any])


def member(shape, payload, version=(1, 0)):
    buffer = io.BytesIO()
    header = {"descr": "<f8", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, header)
    data = bytearray(buffer.getvalue() + payload)
    data[6:8] = version
    return bytes(data)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (member((10**12,), b"12345678"), "its length does not fit float64"),
        (member((2,), b"12345678"), "its length does not fit float64"),
        (member((1,), b"12345678", (9, 0)), "format .9, 0. is not supported"),
        (b"nonsense", "magic string"),
        (b"", "EOF"),
    ],
)
def test_an_array_that_is_not_what_it_claims_is_refused(content, message):
    with pytest.raises(ValueError, match=rf"a\.npy cannot be read: .*{message}"):
        cases.loaded(archive_of(a_dot_npy=content), dict[str, Any])


def test_arrays_with_a_header_of_the_second_version_are_read():
    array = np.arange(3.0)
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, version=(2, 0))
    back = cases.loaded(archive_of(a_dot_npy=buffer.getvalue()), dict[str, Any])
    cases.assert_same_tree(back["a"], array)


def test_pickled_objects_are_never_read(tmp_path):
    class Trap:
        def __reduce__(self):
            return (pathlib.Path.touch, (tmp_path / "sprung",))

    buffer = io.BytesIO()
    np.savez(buffer, a=np.array([Trap()], object))
    with pytest.raises(ValueError, match="pickled Python objects, which are never"):
        cases.loaded(buffer.getvalue(), dict[str, Any])
    assert not (tmp_path / "sprung").exists()


def test_contradicting_names_are_refused():
    for names in (["a", "a:b"], ["a:b", "a"], ["a", "a:b:c"]):
        buffer = io.BytesIO()
        np.savez(buffer, **{name: np.zeros(1) for name in names})
        with pytest.raises(ValueError, match="the file is damaged"):
            cases.loaded(buffer.getvalue(), dict[str, Any])


def test_a_name_that_occurs_twice_is_refused():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.npy", member((0,), b""))
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a.npy", member((0,), b""))
    with pytest.raises(ValueError, match="a name occurs twice"):
        cases.loaded(buffer.getvalue(), dict[str, Any])
