import collections

import numpy as np
import pytest
import xarray

from weatherlib import xarray_tree

DATASET = xarray.Dataset(
    {"b": (("x", "y"), np.zeros((2, 3))), "a": (("x",), np.ones(2))},
    coords={"x": [1, 2], "y": [10, 20, 30]},
)


def test_a_dataset_stays_a_dataset_with_its_coordinates_and_order():
    result = xarray_tree.map_structure(lambda x: (x + 1).rename("other"), DATASET)
    assert list(result) == ["b", "a"]
    xarray.testing.assert_identical(result, DATASET + 1)


def test_variables_of_several_datasets_meet_by_name():
    def check(a, b):
        assert a.name == b.name
        return a + b

    result = xarray_tree.map_structure(check, DATASET, DATASET[["a", "b"]])
    xarray.testing.assert_identical(result, 2 * DATASET)


def test_a_dict_may_stand_beside_a_dataset():
    result = xarray_tree.map_structure(lambda x, n: x * n, DATASET, {"a": 2, "b": 3})
    np.testing.assert_array_equal(result.a, 2)


def test_variables_without_result_are_left_out():
    result = xarray_tree.map_structure(lambda x: x if x.name == "a" else None, DATASET)
    assert isinstance(result, xarray.Dataset)
    assert list(result) == ["a"]
    nothing = xarray_tree.map_structure(lambda x: None, DATASET)
    assert isinstance(nothing, xarray.Dataset)
    assert not nothing


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.shape,
        lambda x: x.assign_coords(x=[1, 2] if x.name == "a" else [3, 4]),
    ],
    ids=["no DataArrays", "other coordinates"],
)
def test_results_that_fit_into_no_dataset_come_as_a_dict(function):
    result = xarray_tree.map_structure(function, DATASET)
    assert isinstance(result, dict)
    assert list(result) == ["b", "a"]


def test_containers_keep_their_types():
    point = collections.namedtuple("point", "x y")
    tree = {"list": [1, 2], "tuple": (3,), "point": point(4, 5), "ds": DATASET}
    result = xarray_tree.map_structure(lambda x: x * 2, tree)
    assert result["list"] == [2, 4]
    assert result["tuple"] == (6,)
    assert result["point"] == point(8, 10)
    xarray.testing.assert_identical(result["ds"], DATASET * 2)
    assert xarray_tree.map_structure(lambda x: x * 2, {1, 2}) == {2, 4}
    assert xarray_tree.map_structure(lambda x, y: x + y, 1, 2) == 3


def test_a_function_and_a_structure_are_needed():
    with pytest.raises(TypeError, match="func must be callable, got: 3"):
        xarray_tree.map_structure(3, DATASET)
    with pytest.raises(ValueError, match="Must provide at least one structure"):
        xarray_tree.map_structure(lambda x: x)
