"""Checkpoint files: layout, round trips, and refusal of whatever is not one."""

import dataclasses
import hashlib
import io
import logging
import os
import pathlib
import zipfile
from typing import Any, Optional

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.conftest import GOLDENS
from weatherlib import checkpoint, config, task

CASES = ("a_10deg_13lev", "b_15deg_precip_out")


@dataclasses.dataclass(frozen=True)
class Part:
    number: int
    text: str


@dataclasses.dataclass(frozen=True)
class Whole:
    params: dict[str, Any]
    yes: bool
    no: bool
    number: int
    real: float
    text: str
    absent: Optional[int]  # noqa: UP045 (the published schemas spell it so)
    present: float | None
    numbers: tuple[int, ...]
    mixed: tuple[str, int, Part]
    parts: list[Part]
    by_name: dict[str, Part]
    by_number: dict[int, dict[str, float]]
    part: Part
    raw: np.ndarray
    loose: tuple = ()


def whole(**changes):
    params = {
        "module/~/linear_0": {
            "w": np.arange(6, dtype=np.float32).reshape(2, 3),
            "b": np.zeros(3, np.float16),
        },
        "scale": np.float64(2.0),
    }
    values = {
        "params": params,
        "yes": True,
        "no": False,
        "number": -3,
        "real": 0.1,
        "text": "grüße: 1/2",
        "absent": None,
        "present": 2.5,
        "numbers": tuple(range(12)),
        "mixed": ("a", 1, Part(2, "b")),
        "parts": [Part(i, str(i)) for i in range(11)],
        "by_name": {"x": Part(1, "y")},
        "by_number": {3: {"a": 1.5}, 10: {"b": 2.5}},
        "part": Part(4, ""),
        "raw": np.array([[1, 2]], np.int8),
        "loose": (),
    }
    return Whole(**(values | changes))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model(config.Mapping):
    resolution: float
    mesh_size: int
    latent_size: int
    gnn_msg_steps: int
    hidden_layers: int
    radius_query_fraction_edge_length: float
    mesh2grid_edge_normalization_factor: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class GraphCastFile(config.Mapping):
    params: dict[str, Any]
    model_config: Model
    task_config: task.TaskConfig
    description: str
    license: str


class Stubborn:
    """Something that refuses to become an array."""

    def __array__(self, dtype=None, copy=None):
        raise TypeError("it will not")


def dumped(value, extras=None):
    buffer = io.BytesIO()
    checkpoint.dump(buffer, value, extras)
    return buffer.getvalue()


def loaded(data, typ):
    return checkpoint.load(io.BytesIO(data), typ)


def assert_same_tree(actual, expected):
    """Asserts equal types, dtypes and bytes all the way down."""
    if isinstance(expected, np.ndarray | np.generic):
        assert isinstance(actual, np.ndarray)
        assert actual.dtype == expected.dtype
        assert actual.shape == expected.shape
        assert actual.tobytes() == expected.tobytes()
        return
    assert type(actual) is type(expected)
    if dataclasses.is_dataclass(expected):
        for field in dataclasses.fields(expected):
            assert_same_tree(getattr(actual, field.name), getattr(expected, field.name))
    elif isinstance(expected, dict):
        assert list(actual) == list(expected)
        for key in expected:
            assert_same_tree(actual[key], expected[key])
    elif isinstance(expected, list | tuple):
        assert len(actual) == len(expected)
        for a, e in zip(actual, expected):
            assert_same_tree(a, e)
    else:
        assert actual == expected


def test_every_kind_of_field_comes_back_with_its_python_type():
    assert_same_tree(loaded(dumped(whole()), Whole), whole())


def test_names_in_the_file_are_those_of_the_published_layout():
    with np.load(io.BytesIO(dumped(whole(loose=(1, "b"))))) as archive:
        names = set(archive.files)
        assert archive["number"].shape == ()
        assert archive["text"].dtype.kind == "U"
    assert "params:module/~/linear_0:w" in names
    assert {"numbers:0", "numbers:11", "parts:10:text", "mixed:2:number"} <= names
    assert {"by_number:10:b", "loose:0", "loose:1", "present"} <= names
    assert not any(name.startswith(("absent", "weatherlib")) for name in names)


@pytest.mark.parametrize("case", CASES)
def test_published_files_are_read_and_written_back_unchanged(case, tmp_path):
    path = GOLDENS / "graphcast" / case / "params.npz"
    value = checkpoint.open_checkpoint(path, GraphCastFile)
    assert type(value.model_config.mesh_size) is int
    assert type(value.model_config.resolution) is float
    has_factor = value.model_config.mesh2grid_edge_normalization_factor is not None
    assert has_factor == case.startswith("b")
    expected = task.TASK_13 if case.startswith("a") else task.TASK_13_PRECIP_OUT
    assert value.task_config == expected
    checkpoint.save(tmp_path / "copy.npz", value)
    with np.load(path) as before, np.load(tmp_path / "copy.npz") as after:
        assert before.files == after.files or set(before.files) == set(after.files)
        for name in before.files:
            assert_same_tree(after[name], before[name])


@given(
    st.dictionaries(
        st.text(st.characters(categories=["L", "N"]), min_size=1),
        hnp.arrays(
            st.sampled_from([np.float32, np.float64, np.int32, np.uint8, np.bool_]),
            hnp.array_shapes(min_dims=0, min_side=0),
        ),
        min_size=1,
    )
)
def test_any_arrays_come_back_bit_by_bit(arrays):
    assert_same_tree(loaded(dumped(arrays), dict[str, np.ndarray]), arrays)


def test_fortran_order_byte_order_and_strings_come_back():
    arrays = {
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "big": np.arange(3, dtype=">f4"),
        "words": np.array(["ab", "c"]),
        "dates": np.array(["2020-01-01"], "datetime64[ns]"),
    }
    back = loaded(dumped(arrays), dict[str, Any])
    for name, array in arrays.items():
        np.testing.assert_array_equal(back[name], array)
        assert back[name].dtype == array.dtype


def test_loaded_arrays_may_be_written_to():
    back = loaded(dumped({"a": np.zeros(3)}), dict[str, Any])
    back["a"][0] = 1
    assert back["a"][0] == 1


def test_bfloat16_comes_back_and_is_float32_to_the_published_loader():
    array = np.array([1.0, 2.5, -3.0], ml_dtypes.bfloat16)
    data = dumped({"a": {"w": array}, "b": np.float32(1)})
    back = loaded(data, dict[str, Any])
    assert_same_tree(back["a"]["w"], array)
    assert back["b"].dtype == np.float32
    with np.load(io.BytesIO(data)) as archive:
        assert archive["a:w"].dtype == np.float32
        np.testing.assert_array_equal(archive["a:w"], [1.0, 2.5, -3.0])


def test_bfloat16_that_numpy_wrote_by_itself_is_recognised():
    array = np.array([1.0, 2.5], ml_dtypes.bfloat16)
    buffer = io.BytesIO()
    np.savez(buffer, **{"params:w": array.view("V2")})
    assert_same_tree(loaded(buffer.getvalue(), dict[str, Any])["params"]["w"], array)


def test_empty_containers_come_back():
    value = whole(numbers=(), parts=[], by_name={}, params={"module": {}})
    back = loaded(dumped(value), Whole)
    assert_same_tree(back, value)


def test_equal_trees_give_equal_bytes(monkeypatch):
    first = dumped(whole())
    monkeypatch.setattr("time.time", lambda: 2e9)
    assert dumped(whole()) == first


def test_the_destination_and_source_need_not_seek():
    class Pipe(io.RawIOBase):
        def __init__(self, data=b""):
            self.data = bytearray(data)

        def writable(self):
            return True

        def readable(self):
            return True

        def write(self, part):
            self.data += bytes(part)
            return len(part)

        def readinto(self, target):
            part = self.data[: len(target)]
            target[: len(part)] = part
            del self.data[: len(part)]
            return len(part)

    pipe = Pipe()
    checkpoint.dump(pipe, {"a": np.arange(3)})
    back = checkpoint.load(io.BufferedReader(pipe), dict[str, Any])
    np.testing.assert_array_equal(back["a"], [0, 1, 2])


def test_extras_are_read_back_and_invisible_to_load():
    extras = {"topology": {"edges": np.arange(3)}, "note": "made here", "none": {}}
    data = dumped(whole(), extras)
    assert_same_tree(loaded(data, Whole), whole())
    back = checkpoint.load_extras(io.BytesIO(data))
    np.testing.assert_array_equal(back["topology"]["edges"], [0, 1, 2])
    assert str(back["note"]) == "made here"
    assert back["none"] == {}
    assert checkpoint.load_extras(io.BytesIO(dumped(whole()))) == {}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a:b": np.zeros(1)}, "the key 'a:b' must not hold ':'"),
        ({"a": {"c": None}}, "a:c: None can be stored only as a field"),
        ({"a": object()}, "a: a object of dtype object cannot be stored"),
        ({"a": np.zeros(2, ml_dtypes.float8_e5m2)}, "dtype float8_e5m2 cannot be sto"),
        ({"a": np.zeros(2, "f4,i4")}, "a: a ndarray of dtype .* cannot be stored"),
        ({"a": [[1], [1, 2], None]}, "a:2: None can be stored only"),
        ({"a": Stubborn()}, "a: cannot be stored as an array: it will not"),
        ({1: np.zeros(1), "1": np.zeros(1)}, "two keys are the same text: '1', '1'"),
        ({"weatherlib": np.zeros(1)}, "the key 'weatherlib' is kept for extras"),
        (np.zeros(3), "must be a dataclass, dict, list or tuple, found ndarray"),
    ],
)
def test_what_cannot_be_stored_is_refused(value, message):
    with pytest.raises(ValueError, match=message):
        dumped(value)


@pytest.mark.parametrize("name", ["empty", "bfloat16"])
def test_extras_cannot_take_our_own_names(name):
    with pytest.raises(ValueError, match=f"extras cannot be named '{name}'"):
        dumped(whole(), {name: np.zeros(1)})


def test_a_file_from_before_a_setting_existed_takes_its_default():
    @dataclasses.dataclass(frozen=True)
    class Before:
        width: int

    @dataclasses.dataclass(frozen=True)
    class After:
        width: int
        depth: int = 4
        names: list[str] = dataclasses.field(default_factory=lambda: ["a"])
        limit: float | None = 2.5

    found = checkpoint.load(io.BytesIO(dumped(Before(3))), After)
    assert found == After(3, 4, ["a"], 2.5)


def rewritten(**changes):
    """Returns a good file with members replaced, or removed where None is given."""
    with np.load(io.BytesIO(dumped(whole()))) as archive:
        members = dict(archive.items())
    members |= {name.replace("__", ":"): value for name, value in changes.items()}
    buffer = io.BytesIO()
    np.savez(buffer, **{k: v for k, v in members.items() if v is not None})
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"number": None}, "does not match Whole: it lacks 'number'"),
        ({"part__text": None}, "it lacks 'part:text'"),
        ({"text": None, "real": None}, "it lacks 'real', 'text'"),
        ({"number": 1.5}, "number: expected int, found 1.5"),
        ({"number": "x"}, "number: expected int, found 'x'"),
        ({"real": "x"}, "real: expected float, found 'x'"),
        ({"yes": 2}, "yes: expected bool, found 2"),
        ({"text": 3}, "text: expected str, found 3"),
        ({"number": np.zeros(3)}, r"number: expected int, found an array of float64"),
        ({"raw": None, "raw__a": 1}, "raw: expected an array, found a group of 'a'"),
        ({"part": 1, "part__text": None, "part__number": None}, "part: expected a gro"),
        ({"numbers__3": None}, "numbers: expected the indices of a tuple"),
        ({"mixed__3": 1}, "mixed: expected 3 entries, found 4"),
        ({"by_number__x__a": 1.0}, "by_number: expected keys of type int, found 'x'"),
        ({"parts__0__number": "x"}, "parts:0:number: expected int, found 'x'"),
    ],
)
def test_a_file_that_does_not_match_the_schema_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        loaded(rewritten(**changes), Whole)


def test_whole_numbers_fit_real_fields_and_the_other_way_round():
    back = loaded(rewritten(real=3, number=4.0, yes=1), Whole)
    assert_same_tree((back.real, back.number, back.yes), (3.0, 4, True))
    assert np.isnan(loaded(rewritten(real=np.nan), Whole).real)


def test_unknown_names_are_logged_by_load_and_refused_by_open(caplog, tmp_path):
    data = rewritten(new__field=np.zeros(1))
    with caplog.at_level(logging.WARNING):
        assert_same_tree(loaded(data, Whole), whole())
    assert "Whole has no field for 'new'" in caplog.text
    path = tmp_path / "file.npz"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"file\.npz: .*it has the unknown 'new'"):
        checkpoint.open_checkpoint(path, Whole)


@pytest.mark.parametrize(
    ("names", "family"),
    [
        (["params:mesh_gnn/x:w", "model_config:mesh_size"], "GraphCast"),
        (["params:x:w", "denoiser_architecture_config:a"], "GenCast"),
        (["params:multimodality_forward/a:w", "license"], "WeatherNext 2"),
    ],
)
def test_a_checkpoint_of_another_family_is_named(names, family):
    buffer = io.BytesIO()
    np.savez(buffer, **{name: np.zeros(1) for name in names})
    with pytest.raises(ValueError, match=f"looks like a checkpoint of {family}"):
        loaded(buffer.getvalue(), Whole)


def test_a_checkpoint_of_no_known_family_is_described_by_its_names():
    with pytest.raises(ValueError, match=r"\(it holds 'a', .* and 2 more\)"):
        loaded(dumped(dict.fromkeys("abcdefghij", 1)), Whole)


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
        loaded(head, Whole)


def archive_of(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/").replace("_dot_", "."), content)
    return buffer.getvalue()


def test_a_pytorch_file_and_other_archives_are_named():
    with pytest.raises(ValueError, match="not an npz checkpoint but a PyTorch file"):
        loaded(archive_of(model__data_dot_pkl=b"", model__data__0=b"1"), Whole)
    with pytest.raises(ValueError, match=r"not an npz checkpoint: it holds 'a\.txt'"):
        loaded(archive_of(a_dot_txt=b"1"), Whole)


@given(cut=st.integers(1, 3000))
def test_a_file_that_is_cut_short_is_refused(cut):
    data = dumped(whole())
    with pytest.raises(ValueError, match=r"cut short or damaged|an empty file|begins"):
        loaded(data[: max(len(data) - cut, 0)], Whole)


@given(position=st.integers(0, 10**6), value=st.integers(0, 255))
def test_a_damaged_file_is_refused_or_gives_the_same(position, value):
    data = bytearray(dumped({"a": np.arange(20.0), "b": np.arange(3)}))
    data[position % len(data)] = value
    try:
        back = loaded(bytes(data), dict[str, Any])
    except ValueError:
        return
    for name in set(back) & {"a", "b"}:
        np.testing.assert_array_equal(back[name], np.arange({"a": 20, "b": 3}[name]))


def test_a_zip_directory_from_the_future_is_refused():
    data = bytearray(dumped({"a": np.zeros(1)}))
    version_needed = data.rfind(b"PK\x01\x02") + 6
    data[version_needed] = 255
    with pytest.raises(ValueError, match=r"cut short or damaged: zip file version"):
        loaded(bytes(data), dict[str, Any])


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
        loaded(archive_of(a_dot_npy=content), dict[str, Any])


def test_arrays_with_a_header_of_the_second_version_are_read():
    array = np.arange(3.0)
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, version=(2, 0))
    back = loaded(archive_of(a_dot_npy=buffer.getvalue()), dict[str, Any])
    assert_same_tree(back["a"], array)


def test_pickled_objects_are_never_read(tmp_path):
    class Trap:
        def __reduce__(self):
            return (pathlib.Path.touch, (tmp_path / "sprung",))

    buffer = io.BytesIO()
    np.savez(buffer, a=np.array([Trap()], object))
    with pytest.raises(ValueError, match="pickled Python objects, which are never"):
        loaded(buffer.getvalue(), dict[str, Any])
    assert not (tmp_path / "sprung").exists()


def test_contradicting_names_are_refused():
    for names in (["a", "a:b"], ["a:b", "a"], ["a", "a:b:c"]):
        buffer = io.BytesIO()
        np.savez(buffer, **{name: np.zeros(1) for name in names})
        with pytest.raises(ValueError, match="the file is damaged"):
            loaded(buffer.getvalue(), dict[str, Any])


def test_a_name_that_occurs_twice_is_refused():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.npy", member((0,), b""))
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a.npy", member((0,), b""))
    with pytest.raises(ValueError, match="a name occurs twice"):
        loaded(buffer.getvalue(), dict[str, Any])


def test_types_that_cannot_be_read_are_a_type_error():
    data = dumped({"a": 1})
    with pytest.raises(TypeError, match="of unions only those of None, one scalar"):
        loaded(data, dict[str, int | str])
    with pytest.raises(TypeError, match=r"keys of type .*bytes.* cannot be read"):
        loaded(data, dict[bytes, int])
    with pytest.raises(TypeError, match="cannot be made from 1"):
        loaded(data, dict[str, Trapless])


def test_a_schema_with_unresolved_types_is_a_type_error():
    @dataclasses.dataclass
    class Schema:
        a: "NowhereDefined"  # noqa: F821

    with pytest.raises(TypeError, match=r"Schema.* unknown types: .*NowhereDefined"):
        loaded(dumped({"a": 1}), Schema)


class Trapless:
    """A type that takes no argument."""


def test_other_types_are_called_with_the_value():
    assert loaded(dumped({"a": "some/where"}), dict[str, pathlib.PurePosixPath]) == {
        "a": pathlib.PurePosixPath("some/where")
    }


def test_bare_containers_hold_arrays():
    assert loaded(dumped({"a": [1, 2]}), dict[str, list])["a"] == [1, 2]
    assert loaded(dumped({"a": (1,)}), dict[str, tuple])["a"] == (1,)
    assert loaded(dumped({True: 1}), dict[bool, int]) == {True: 1}
    assert loaded(dumped([3, "x"]), tuple[int, str]) == (3, "x")


def test_save_replaces_a_file_only_when_all_is_written(tmp_path):
    path = tmp_path / "file.npz"
    checkpoint.save(path, {"a": np.zeros(2)}, extras={"note": "first"})
    before = path.read_bytes()
    with pytest.raises(ValueError, match="cannot be stored"):
        checkpoint.save(path, {"a": np.zeros(2), "b": object()})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    checkpoint.save(os.fspath(path), {"a": np.ones(2)})
    assert checkpoint.open_checkpoint(path, dict[str, np.ndarray])["a"].sum() == 2
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file.npz"
    checkpoint.save(path, {"a": np.zeros(2)})
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save(path, {"a": np.ones(2)})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_file_or_folder_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent"):
        checkpoint.open_checkpoint(tmp_path / "absent.npz", Whole)
    with pytest.raises(IsADirectoryError):
        checkpoint.open_checkpoint(tmp_path, Whole)
    with pytest.raises(FileNotFoundError):
        checkpoint.save(tmp_path / "absent" / "file.npz", {"a": 1})


def test_messages_of_open_begin_with_the_path(tmp_path):
    path = tmp_path / "file.npz"
    path.write_bytes(b"CDF")
    with pytest.raises(ValueError, match=r"file\.npz: not an npz checkpoint"):
        checkpoint.open_checkpoint(path, Whole)


def test_the_hash_is_that_of_the_bytes(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"weather")
    expected = hashlib.sha256(b"weather").hexdigest()
    assert checkpoint.file_sha256(path) == expected


@dataclasses.dataclass
class OneOrMany:
    width: int | tuple[int, ...]


@pytest.mark.parametrize("width", [3, (3,), (4, 5)])
def test_a_field_may_hold_one_number_or_several(width):
    file = io.BytesIO()
    checkpoint.dump(file, OneOrMany(width=width))
    file.seek(0)
    assert checkpoint.load(file, OneOrMany).width == width
