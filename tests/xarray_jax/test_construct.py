import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray

from weatherlib import xarray_jax
from weatherlib.xarray_jax import JaxArrayWrapper

LAT = np.array([-45.0, 0.0, 45.0])


def _data_array(**kwargs) -> xarray.DataArray:
    return xarray_jax.DataArray(
        jnp.ones((3, 4)), dims=("lat", "lon"), coords={"lat": LAT}, **kwargs
    )


def test_constructors_keep_jax_arrays():
    variable = xarray_jax.Variable(("lat",), jnp.ones(3), attrs={"units": "K"})
    assert isinstance(variable.data, JaxArrayWrapper)
    assert variable.attrs == {"units": "K"}
    array = _data_array(name="t", attrs={"units": "K"})
    assert isinstance(array.data, JaxArrayWrapper)
    assert (array.name, array.attrs) == ("t", {"units": "K"})
    dataset = xarray_jax.Dataset(
        {
            "a": (("lat",), jnp.ones(3), {"units": "K"}),
            "b": jnp.asarray(2.0),
            "c": variable,
            "d": (("lat",), np.ones(3)),
            "e": array,
            "f": 3.0,
        },
        coords={"lat": LAT},
        attrs={"title": "all kinds"},
    )
    for name in "abce":
        assert isinstance(dataset[name].data, JaxArrayWrapper)
    for name in "df":
        assert isinstance(dataset[name].data, np.ndarray)
    assert dataset.a.attrs == {"units": "K"}
    assert dataset.attrs == {"title": "all kinds"}
    assert isinstance(dataset.lat.data, np.ndarray)


def test_constructors_without_arguments_give_empty_objects():
    assert xarray_jax.Dataset().sizes == {}
    assert xarray_jax.DataArray(jnp.ones(2)).dims == ("dim_0",)


def test_coordinates_may_be_given_in_every_form_of_xarray():
    pairs = xarray_jax.DataArray(jnp.ones((3, 2)), [("lat", LAT), ("lon", [0, 1])])
    assert pairs.dims == ("lat", "lon")
    listed = xarray_jax.DataArray(jnp.ones((3, 2)), [LAT, [0, 1]], ("lat", "lon"))
    xarray.testing.assert_identical(
        pairs.coords.to_dataset(), listed.coords.to_dataset()
    )
    inherited = xarray_jax.DataArray(pairs)
    assert set(inherited.coords) == {"lat", "lon"}
    filled = xarray_jax.DataArray(0.0, coords={"lat": LAT}, dims=("lat",))
    assert filled.shape == (3,)


def test_jax_coords_have_no_index_and_stay_in_jax():
    array = _data_array(jax_coords={"lon": jnp.arange(4)})
    assert isinstance(array.lon.data, JaxArrayWrapper)
    assert set(array.indexes) == {"lat"}
    dataset = array.to_dataset(name="t")
    assert set(xarray_jax.get_jax_coords(dataset)) == {"lon"}


@pytest.mark.parametrize(
    ("value", "dims"),
    [
        (np.arange(3), ("x",)),
        (jnp.arange(3), ("x",)),
        (JaxArrayWrapper(jnp.arange(3)), ("x",)),
        ([0, 1, 2], ("x",)),
        (7, ()),
        (np.float32(7), ()),
        (jnp.asarray(7), ()),
        (True, ()),
        (xarray.Variable(("y",), np.arange(3)), ("y",)),
        (xarray.DataArray(np.arange(3), dims="y"), ("y",)),
        ((("y", "z"), np.zeros((3, 2))), ("y", "z")),
    ],
    ids=str,
)
def test_a_jax_coord_may_be_given_in_many_forms(value, dims):
    result = xarray_jax.assign_coords(xarray_jax.Dataset(), jax_coords={"x": value})
    assert result.x.dims == dims
    assert "x" not in result.indexes
    assert set(xarray_jax.get_jax_coords(result)) == {"x"}


@pytest.mark.parametrize("value", ["text", None, np.zeros((2, 2)), {"a": 1}])
def test_a_jax_coord_of_unknown_form_is_refused(value):
    with pytest.raises(ValueError, match="Unsupported value for coordinate x: give a"):
        xarray_jax.assign_coords(xarray_jax.Dataset(), jax_coords={"x": value})


def test_assign_coords_changes_neither_argument():
    coord = xarray.Variable(("lon",), np.arange(4), attrs={"units": "degrees"})
    array = _data_array()
    result = xarray_jax.assign_coords(array, jax_coords={"lon": coord})
    assert "lon" not in array.coords
    assert coord.attrs == {"units": "degrees"}
    assert result.lon.attrs["units"] == "degrees"


def test_assign_coords_keeps_jax_coords_that_it_is_not_given():
    array = _data_array(jax_coords={"lon": jnp.arange(4)})
    result = xarray_jax.assign_coords(
        array, coords={"lat": LAT + 1}, jax_coords={"area": (("lat",), jnp.ones(3))}
    )
    assert set(xarray_jax.get_jax_coords(result)) == {"lon", "area"}
    np.testing.assert_array_equal(result.lat, LAT + 1)
    np.testing.assert_array_equal(result.lon, np.arange(4))


@pytest.mark.parametrize("kind", ["dataset", "array"])
def test_a_coordinate_can_become_a_jax_coord_and_a_static_one_again(kind):
    x = _data_array(jax_coords={"lon": jnp.arange(4)})
    x = x.to_dataset(name="t") if kind == "dataset" else x
    dynamic = xarray_jax.assign_jax_coords(x, lat=jnp.arange(3))
    assert set(xarray_jax.get_jax_coords(dynamic)) == {"lat", "lon"}
    assert set(dynamic.indexes) == set()
    static = xarray_jax.assign_coords(dynamic, coords={"lat": LAT})
    assert set(xarray_jax.get_jax_coords(static)) == {"lon"}
    assert set(static.indexes) == {"lat"}


def test_jax_coords_of_another_object_stay_jax_coords():
    array = _data_array(jax_coords={"lon": jnp.arange(4)})

    @jax.jit
    def rebuild(array):
        return xarray_jax.DataArray(
            xarray_jax.jax_data(array) * 2, coords=array.coords, dims=array.dims
        )

    result = rebuild(array)
    assert set(xarray_jax.get_jax_coords(result)) == {"lon"}
    assert set(result.indexes) == {"lat"}


def test_assign_jax_coords_takes_a_mapping_or_keywords():
    array = _data_array()
    for result in (
        xarray_jax.assign_jax_coords(array, {"lon": jnp.arange(4)}),
        xarray_jax.assign_jax_coords(array, lon=jnp.arange(4)),
    ):
        assert set(xarray_jax.get_jax_coords(result)) == {"lon"}
    assert xarray_jax.assign_jax_coords(array) is array


def test_a_data_variable_of_jax_set_as_coordinate_is_a_jax_coord():
    dataset = xarray_jax.Dataset({"a": (("x",), jnp.ones(3)), "b": ("x", np.ones(3))})
    dataset = dataset.set_coords(["a", "b"])
    assert set(xarray_jax.get_jax_coords(dataset)) == {"a"}


def test_unwrapping_gives_bare_arrays():
    array = jnp.ones(3)
    dataset = xarray_jax.Dataset(
        {"jax": ("x", array), "numpy": ("x", np.ones(3))},
        coords={"x": [1, 2, 3]},
        jax_coords={"y": (("x",), array)},
    )
    assert xarray_jax.unwrap_data(dataset["jax"]) is array
    assert xarray_jax.jax_data(dataset["jax"].variable) is array
    assert set(xarray_jax.unwrap_vars(dataset)) == {"jax", "numpy"}
    assert xarray_jax.jax_vars(dataset[["jax"]])["jax"] is array
    coords = xarray_jax.unwrap_coords(dataset)
    assert coords["y"] is array
    assert isinstance(coords["x"], np.ndarray)
    assert set(xarray_jax.unwrap_coords(dataset["jax"])) == {"x", "y"}


@pytest.mark.parametrize(
    "unwrap",
    [
        lambda ds: xarray_jax.jax_vars(ds),
        lambda ds: xarray_jax.jax_data(ds.numpy),
        lambda ds: xarray_jax.unwrap_vars(ds, require_jax=True),
        lambda ds: xarray_jax.unwrap_coords(ds, require_jax=True),
    ],
)
def test_numpy_is_refused_where_jax_is_required(unwrap):
    dataset = xarray_jax.Dataset({"numpy": ("x", np.ones(3))}, coords={"x": [1, 2, 3]})
    with pytest.raises(TypeError, match="Expected JAX array"):
        unwrap(dataset)


def test_scalar_tracers_multiply_datasets_from_the_left():
    dataset = _data_array().to_dataset(name="t")

    @jax.jit
    def scale(factor, dataset):
        return factor * dataset + factor * dataset.t - (factor / dataset.t).variable

    result = scale(2.0, dataset)
    np.testing.assert_allclose(result.t, np.full((3, 4), 2.0))


def test_gradients_flow_through_xarray():
    array = _data_array()

    def loss(array):
        weighted = (array**2).where(array.lat > 0, 0).fillna(0) * np.cos(array.lat)
        return xarray_jax.jax_data(weighted.sum())

    gradient = jax.grad(loss)(array)
    expected = 2 * np.cos(LAT)[:, None] * (LAT > 0)[:, None] * np.ones((3, 4))
    np.testing.assert_allclose(gradient.values, expected, rtol=1e-6)
    xarray.testing.assert_identical(gradient.lat, array.lat)
