"""Layout of checkpoint files, and what comes back from them."""

import dataclasses
import io
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.checkpoint import cases
from tests.conftest import GOLDENS
from weatherlib import checkpoint, config, task

CASES = ("a_10deg_13lev", "b_15deg_precip_out")


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


def test_every_kind_of_field_comes_back_with_its_python_type():
    cases.assert_same_tree(
        cases.loaded(cases.dumped(cases.whole()), cases.Whole), cases.whole()
    )


def test_names_in_the_file_are_those_of_the_published_layout():
    with np.load(io.BytesIO(cases.dumped(cases.whole(loose=(1, "b"))))) as archive:
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
            cases.assert_same_tree(after[name], before[name])


@given(
    st.dictionaries(
        # The one name that is kept for extras.
        st.text(st.characters(categories=["L", "N"]), min_size=1).filter(
            lambda name: name != "weatherlib"
        ),
        hnp.arrays(
            st.sampled_from([np.float32, np.float64, np.int32, np.uint8, np.bool_]),
            hnp.array_shapes(min_dims=0, min_side=0),
        ),
        min_size=1,
    )
)
def test_any_arrays_come_back_bit_by_bit(arrays):
    cases.assert_same_tree(
        cases.loaded(cases.dumped(arrays), dict[str, np.ndarray]), arrays
    )


def test_fortran_order_byte_order_and_strings_come_back():
    arrays = {
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "big": np.arange(3, dtype=">f4"),
        "words": np.array(["ab", "c"]),
        "dates": np.array(["2020-01-01"], "datetime64[ns]"),
    }
    back = cases.loaded(cases.dumped(arrays), dict[str, Any])
    for name, array in arrays.items():
        np.testing.assert_array_equal(back[name], array)
        assert back[name].dtype == array.dtype


def test_loaded_arrays_may_be_written_to():
    back = cases.loaded(cases.dumped({"a": np.zeros(3)}), dict[str, Any])
    back["a"][0] = 1
    assert back["a"][0] == 1


def test_bfloat16_comes_back_and_is_float32_to_the_published_loader():
    array = np.array([1.0, 2.5, -3.0], ml_dtypes.bfloat16)
    data = cases.dumped({"a": {"w": array}, "b": np.float32(1)})
    back = cases.loaded(data, dict[str, Any])
    cases.assert_same_tree(back["a"]["w"], array)
    assert back["b"].dtype == np.float32
    with np.load(io.BytesIO(data)) as archive:
        assert archive["a:w"].dtype == np.float32
        np.testing.assert_array_equal(archive["a:w"], [1.0, 2.5, -3.0])


def test_bfloat16_that_numpy_wrote_by_itself_is_recognised():
    array = np.array([1.0, 2.5], ml_dtypes.bfloat16)
    buffer = io.BytesIO()
    np.savez(buffer, **{"params:w": array.view("V2")})
    cases.assert_same_tree(
        cases.loaded(buffer.getvalue(), dict[str, Any])["params"]["w"], array
    )


def test_empty_containers_come_back():
    value = cases.whole(numbers=(), parts=[], by_name={}, params={"module": {}})
    back = cases.loaded(cases.dumped(value), cases.Whole)
    cases.assert_same_tree(back, value)


def test_equal_trees_give_equal_bytes(monkeypatch):
    first = cases.dumped(cases.whole())
    monkeypatch.setattr("time.time", lambda: 2e9)
    assert cases.dumped(cases.whole()) == first


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
    data = cases.dumped(cases.whole(), extras)
    cases.assert_same_tree(cases.loaded(data, cases.Whole), cases.whole())
    back = checkpoint.load_extras(io.BytesIO(data))
    np.testing.assert_array_equal(back["topology"]["edges"], [0, 1, 2])
    assert str(back["note"]) == "made here"
    assert back["none"] == {}
    assert checkpoint.load_extras(io.BytesIO(cases.dumped(cases.whole()))) == {}


@dataclasses.dataclass
class OneOrMany:
    width: int | tuple[int, ...]


@pytest.mark.parametrize("width", [3, (3,), (4, 5)])
def test_a_field_may_hold_one_number_or_several(width):
    file = io.BytesIO()
    checkpoint.dump(file, OneOrMany(width=width))
    file.seek(0)
    assert checkpoint.load(file, OneOrMany).width == width
