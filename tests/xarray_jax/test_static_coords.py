import datetime

import numpy as np
import pandas as pd
import pytest
import xarray
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from weatherlib.xarray_jax.static_coords import StaticCoords


def _coords(**coords) -> StaticCoords:
    return _of(xarray.Dataset(coords=coords))


def _of(x) -> StaticCoords:
    return StaticCoords(x.coords.variables, x.xindexes)


VALUES = {
    "integers": [1, 2, 3],
    "floats": [0.5, 1.5, 2.5],
    "floats with NaN": [0.5, np.nan, 2.5],
    "datetimes": np.array(["2020-01-01", "NaT", "2021-01-01"], "datetime64[ns]"),
    "timedeltas": np.array([6, 12, "NaT"], "timedelta64[ns]"),
    "strings": ["a", "bb", ""],
    "objects": np.array(["a", 1, None], object),
    "dates": np.array([datetime.date(2020, 1, i) for i in (1, 2, 3)], object),
    "missing objects": np.array([np.nan, None, "a"], object),
    "booleans": [True, False, False],
    "complex": [1j, 2.0, np.nan],
}


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("dim", ["x", "y"], ids=["index", "no index"])
def test_coordinates_built_apart_are_equal(name, dim):
    a = _coords(x=((dim,), np.array(VALUES[name])))
    b = _coords(x=((dim,), np.array(VALUES[name])))
    assert a == b
    assert hash(a) == hash(b)


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("dim", ["x", "y"], ids=["index", "no index"])
def test_other_values_make_coordinates_differ(name, dim):
    values = np.array(VALUES[name])
    assert _coords(x=((dim,), values)) != _coords(x=((dim,), values[::-1]))


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("dim", ["x", "y"], ids=["index", "no index"])
def test_restored_coordinates_are_identical(name, dim):
    dataset = xarray.Dataset(
        coords={"x": ((dim,), np.array(VALUES[name]), {"units": "1"})}
    )
    variables, indexes = _of(dataset).restore()
    restored = xarray.Dataset(coords=xarray.Coordinates(variables, indexes))
    xarray.testing.assert_identical(restored, dataset)
    assert restored.x.dtype == dataset.x.dtype
    assert set(restored.xindexes) == set(dataset.xindexes)


def test_names_dimensions_types_shapes_and_indexes_count():
    base = _coords(x=("x", [1, 2]))
    assert base != _coords(z=("x", [1, 2]))
    assert base != _coords(x=("y", [1, 2]))
    assert base != _coords(x=("x", [1.0, 2.0]))
    assert base != _coords(x=("x", [1, 2, 3]))
    assert base != _coords(x=("x", [1, 2]), y=("x", [1, 2]))
    unindexed = xarray.Dataset(coords={"x": ("x", [1, 2])}).drop_indexes("x")
    assert base != _of(unindexed)
    assert base != "something else"


def test_order_and_attributes_do_not_count():
    a = _coords(x=("x", [1, 2], {"units": "m"}), y=("y", [3]))
    b = _coords(y=("y", [3]), x=("x", [1, 2]))
    assert a == b
    assert hash(a) == hash(b)


def test_zeros_of_either_sign_are_equal():
    assert _coords(x=("y", [0.0, 1.0])) == _coords(x=("y", [-0.0, 1.0]))
    assert hash(_coords(x=("y", [0.0]))) == hash(_coords(x=("y", [-0.0])))


def test_objects_that_cannot_be_compared_differ():
    a = _coords(x=("y", np.array([pd.NA, 1], object)))
    b = _coords(x=("y", np.array([1, 1], object)))
    assert a != b


def test_writing_into_a_coordinate_later_has_no_effect():
    dataset = xarray.Dataset(coords={"height": (("x",), np.array([1.0, 2.0]))})
    kept = _of(dataset)
    dataset.height.values[0] = 7
    assert kept == _coords(height=(("x",), np.array([1.0, 2.0])))
    restored = kept.restore()[0]["height"]
    restored.values[0] = 8
    np.testing.assert_array_equal(kept.restore()[0]["height"], [1.0, 2.0])


def test_coordinates_of_dimensions_that_went_are_left_out():
    coords = _coords(x=("x", [1]), y=("y", [2]), both=(("x", "y"), [[3]]), scalar=4)
    variables, indexes = coords.restore({"y"})
    assert set(variables) == {"y", "scalar"}
    assert set(indexes) == {"y"}


def test_an_index_of_several_coordinates_is_kept_whole():
    dataset = xarray.Dataset(coords={"a": ("n", [1, 1]), "b": ("n", ["u", "v"])})
    dataset = dataset.set_index(n=["a", "b"])
    coords = _of(dataset)
    variables, indexes = coords.restore()
    restored = xarray.Dataset(coords=xarray.Coordinates(variables, indexes))
    xarray.testing.assert_identical(restored, dataset)
    assert restored.sel(n=(1, "v")).b == "v"
    assert coords == _of(dataset.copy(deep=True))
    assert coords.restore(set()) == ({}, {})


def test_an_index_that_lost_a_coordinate_is_dropped():
    index = xarray.Dataset(coords={"x": [1, 2]}).xindexes["x"]
    variables = {
        "x": xarray.Variable(("x",), [1, 2]),
        "y": xarray.Variable(("y",), [3, 4]),
    }
    kept, indexes = StaticCoords(variables, {"x": index, "y": index}).restore({"y"})
    assert set(kept) == {"y"}
    assert indexes == {}


def test_the_representation_shows_the_values():
    assert "[1, 2]" in repr(_coords(x=("x", [1, 2])))


@given(
    hnp.arrays(
        st.sampled_from([np.float32, np.float64, np.int16, "datetime64[ns]", "U3"]),
        hnp.array_shapes(max_dims=2, max_side=4),
    )
)
def test_equality_of_coordinates_is_equality_of_arrays(values):
    dims = ("a", "b")[: values.ndim]
    a, b = _coords(x=(dims, values)), _coords(x=(dims, values.copy()))
    assert a == b
    assert hash(a) == hash(b)
    np.testing.assert_array_equal(a.restore()[0]["x"].values, values)
    variable = xarray.Variable(dims, values)
    other = xarray.Variable(dims, values.ravel()[::-1].reshape(values.shape))
    same = variable.equals(other)
    assert (_coords(x=variable) == _coords(x=other)) == same
