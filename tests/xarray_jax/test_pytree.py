import gc
import subprocess
import sys
import weakref

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray
from hypothesis import given, settings
from hypothesis import strategies as st

from weatherlib import xarray_jax
from weatherlib.xarray_jax import JaxArrayWrapper, build

DIMS = ("batch", "time", "level", "lat", "lon")


def _weather(start="2020-01-01", levels=(500, 850)) -> xarray.Dataset:
    shape = (1, 2, len(levels), 3, 4)
    return xarray.Dataset(
        {
            "temperature": (DIMS, np.ones(shape, np.float32)),
            "2m_temperature": (
                ("batch", "time", "lat", "lon"),
                np.full((1, 2, 3, 4), 2, np.float32),
            ),
        },
        coords={
            "lat": np.linspace(-45, 45, 3),
            "lon": np.arange(4) * 90.0,
            "level": np.array(levels),
            "time": np.array([0, 6], "timedelta64[h]").astype("timedelta64[ns]"),
            "datetime": (
                ("batch", "time"),
                np.array([[start, start]], "datetime64[ns]"),
            ),
        },
    )


@pytest.fixture(params=["shortcut", "constructors"])
def construction(request, monkeypatch):
    """Both ways to put xarray objects together."""
    if request.param == "constructors":
        monkeypatch.setattr(build, "_DATASET_SHORTCUT", False)
        monkeypatch.setattr(build, "_DATA_ARRAY_SHORTCUT", False)


def _count_traces(function):
    def traced(*args):
        traced.count += 1
        return function(*args)

    traced.count = 0
    return traced


def test_this_xarray_has_both_shortcuts():
    assert build._DATASET_SHORTCUT
    assert build._DATA_ARRAY_SHORTCUT
    assert not build._accepts(None, "x")
    assert not build._accepts(lambda a: a, "b")


@pytest.mark.usefixtures("construction")
@pytest.mark.parametrize(
    "select",
    [
        lambda ds: ds,
        lambda ds: ds.temperature,
        lambda ds: ds.temperature.rename(None),
        lambda ds: ds.temperature.variable,
        lambda ds: ds.isel(time=0, lat=1),
        lambda ds: ds[[]],
        lambda ds: xarray.Dataset(),
        lambda ds: ds.temperature.isel(batch=0, time=0, level=0, lat=0, lon=0),
        lambda ds: ds.stack(node=("lat", "lon")),
        lambda ds: ds.drop_indexes("lat"),
        lambda ds: ds.assign_coords(run="a name"),
        lambda ds: xarray.DataTree(ds, {"child": xarray.DataTree(ds.drop_vars("lat"))}),
    ],
)
def test_jit_identity_returns_an_identical_object(select):
    x = select(_weather())
    result = jax.device_get(jax.jit(lambda x: x)(x))
    assert type(result) is type(x)
    xarray.testing.assert_identical(result, x)
    if isinstance(x, xarray.Dataset | xarray.DataArray):
        assert set(result.xindexes) == set(x.xindexes)


def test_leaves_are_the_data_in_the_order_of_the_names():
    dataset = _weather()
    paths = jax.tree_util.tree_flatten_with_path(dataset)[0]
    names = [jax.tree_util.keystr(path) for path, _ in paths]
    assert names == ["['2m_temperature'].data", "['temperature'].data"]
    assert paths[0][1] is dataset["2m_temperature"].data
    array = xarray_jax.assign_jax_coords(dataset.temperature, area=1.0)
    paths = jax.tree_util.tree_flatten_with_path({"x": array})[0]
    names = [jax.tree_util.keystr(path) for path, _ in paths]
    assert names == ["['x'].variable.data", "['x']['area'].data"]
    tree = xarray.DataTree(dataset[["temperature"]], {"c": xarray.DataTree(dataset)})
    paths = jax.tree_util.tree_flatten_with_path(tree)[0]
    assert jax.tree_util.keystr(paths[0][0]) == ".dataset['temperature'].data"
    assert jax.tree_util.keystr(paths[1][0]).startswith("['c'].dataset")


def test_variables_in_another_order_are_the_same_structure():
    dataset = _weather()
    other = dataset[["2m_temperature", "temperature"]]
    assert jax.tree.structure(dataset) == jax.tree.structure(other)
    total = jax.tree.map(np.add, dataset, other)
    np.testing.assert_array_equal(total["2m_temperature"], 4)


def test_names_that_cannot_be_ordered_are_allowed():
    dataset = xarray.Dataset({1: ("x", np.ones(2)), "1": ("x", np.zeros(2))})
    other = dataset[["1", 1]]
    assert jax.tree.structure(dataset) == jax.tree.structure(other)
    xarray.testing.assert_identical(jax.tree.map(lambda x: x, dataset), dataset)


@settings(deadline=None)
@given(
    sizes=st.dictionaries(st.sampled_from("abcd"), st.integers(1, 3), min_size=1),
    data=st.data(),
)
def test_flatten_and_unflatten_is_the_identity(sizes, data):
    some_dims = st.lists(st.sampled_from(sorted(sizes)), unique=True)
    variables, coords, jax_coords = {}, {}, {}
    for i in range(data.draw(st.integers(0, 4))):
        dims = data.draw(some_dims)
        variables[f"v{i}"] = (dims, jnp.full([sizes[d] for d in dims], float(i)))
    used = {dim for dims, _ in variables.values() for dim in dims}
    for dim in used:
        kind = data.draw(st.sampled_from(["static", "jax", "other name", "none"]))
        if kind == "static":
            coords[dim] = np.arange(sizes[dim])
        elif kind == "jax":
            jax_coords[dim] = jnp.arange(sizes[dim])
        elif kind == "other name":
            coords[f"c_{dim}"] = ((dim,), np.arange(sizes[dim]).astype("M8[ns]"))
    dataset = xarray_jax.Dataset(variables, coords, jax_coords=jax_coords)
    leaves, structure = jax.tree.flatten(dataset)
    assert len(leaves) == len(variables) + len(jax_coords)
    result = jax.tree.unflatten(structure, leaves)
    xarray.testing.assert_identical(jax.device_get(result), jax.device_get(dataset))
    assert jax.tree.structure(result) == structure
    assert hash(jax.tree.structure(result)) == hash(structure)
    assert set(xarray_jax.get_jax_coords(result)) == set(jax_coords)
    assert set(result.indexes) == set(coords) & used
    for name in variables:
        array = dataset[name]
        back = jax.tree.map(lambda x: x, array)
        xarray.testing.assert_identical(jax.device_get(back), jax.device_get(array))


def test_equal_coordinates_do_not_trace_again():
    function = _count_traces(lambda ds: ds * 2)
    jitted = jax.jit(function)
    for _ in range(3):
        jitted(_weather())
    jitted(_weather().isel(time=slice(None)))
    jitted(_weather().copy(deep=True).assign_attrs(title="other"))
    assert function.count == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda ds: ds.assign_coords(lat=ds.lat + 1),
        lambda ds: ds.assign_coords(level=ds.level.astype(float)),
        lambda ds: ds.assign_coords(time=ds.time * 2),
        lambda ds: ds.assign_coords(datetime=ds.datetime + np.timedelta64(1, "D")),
        lambda ds: ds.drop_vars("datetime"),
        lambda ds: ds.rename(lat="y"),
        lambda ds: ds.rename(temperature="t"),
        lambda ds: ds.transpose("lon", ...),
        lambda ds: ds.drop_indexes("lat"),
    ],
)
def test_other_coordinates_trace_again_and_come_back(change):
    function = _count_traces(lambda ds: ds * 2)
    jitted = jax.jit(function)
    jitted(_weather())
    changed = change(_weather())
    result = jitted(changed)
    assert function.count == 2
    xarray.testing.assert_identical(
        result.coords.to_dataset(), changed.coords.to_dataset()
    )


def test_jax_coords_may_change_without_tracing_again():
    function = _count_traces(lambda ds: ds.temperature * ds.hour)
    jitted = jax.jit(function)
    for hour in (1, 2):
        dataset = xarray_jax.assign_jax_coords(_weather(), hour=jnp.asarray(hour))
        np.testing.assert_array_equal(jitted(dataset), np.full((1, 2, 2, 3, 4), hour))
    assert function.count == 1


def test_writing_into_a_result_does_not_spoil_later_results():
    jitted = jax.jit(lambda ds: ds * 2)
    jitted(_weather()).datetime.values[:] = np.datetime64("1970-01-01")
    result = jitted(_weather())
    np.testing.assert_array_equal(result.datetime, _weather().datetime)


def test_writing_into_an_argument_is_noticed():
    seen = []
    jitted = jax.jit(lambda ds: (seen.append(ds.datetime.values[0, 0]), ds)[1])
    dataset = _weather()
    jitted(dataset)
    dataset.datetime.values[:] = np.datetime64("1970-01-01")
    result = jitted(dataset)
    assert len(seen) == 2
    np.testing.assert_array_equal(result.datetime, dataset.datetime)


def test_compiling_ahead_of_time_works():
    dataset = _weather()
    compiled = jax.jit(lambda ds: ds + 1).lower(dataset).compile()
    xarray.testing.assert_allclose(jax.device_get(compiled(dataset)), dataset + 1)


def test_shapes_can_be_evaluated():
    shapes = jax.eval_shape(lambda ds: ds.mean("lat"), _weather())
    assert shapes.temperature.dims == ("batch", "time", "level", "lon")
    assert shapes.temperature.shape == (1, 2, 2, 4)
    assert shapes.temperature.dtype == np.float32
    assert isinstance(xarray_jax.unwrap_data(shapes.temperature), jax.ShapeDtypeStruct)
    assert set(shapes.coords) == {"lon", "level", "time", "datetime"}


def test_values_and_gradients_of_datasets():
    def loss(ds):
        return sum(x.sum() for x in xarray_jax.jax_vars((ds**3).mean("lon")).values())

    value, gradient = jax.value_and_grad(loss)(jax.device_put(_weather()))
    assert value == 12 + 6 * 8
    np.testing.assert_allclose(gradient.temperature, 3 / 4)
    chex.assert_trees_all_equal_structs(gradient, jax.device_put(_weather()))


def test_checkpointed_functions_and_loops_take_datasets():
    dataset = jax.device_put(_weather())

    @jax.jit
    def loop(ds):
        step = jax.checkpoint(lambda _, ds: ds + 1)
        ds = jax.lax.fori_loop(0, 3, step, ds)
        ds = jax.lax.while_loop(
            lambda ds: jnp.all(ds.temperature.data.jax_array < 9), lambda ds: ds + 1, ds
        )
        ds, _ = jax.lax.scan(lambda ds, _: (ds * 2, None), ds, length=2)
        return jax.lax.cond(True, lambda ds: ds, lambda ds: -ds, ds)

    np.testing.assert_array_equal(
        loop(dataset).temperature, np.full((1, 2, 2, 3, 4), 36)
    )


def test_a_donated_dataset_is_deleted():
    dataset = jax.device_put(_weather())
    jax.jit(lambda ds: ds + 1, donate_argnums=0)(dataset)
    assert dataset.temperature.data.jax_array.is_deleted()


def test_vmap_of_jax_with_axis_numbers_takes_variables_without_dims_change():
    # JAX puts bare objects and integers into the tree here.
    leaves, structure = jax.tree.flatten(_weather())
    axes = jax.tree.unflatten(structure, [0] * len(leaves))
    assert jax.tree.leaves(axes) == [0, 0]
    dummy = jax.tree.unflatten(structure, [object()] * len(leaves))
    assert jax.tree.structure(dummy) == structure
    assert dummy.sizes == _weather().sizes
    with xarray_jax.dims_change_on_unflatten(lambda dims: dims[1:]):
        result = jax.vmap(
            lambda ds: xarray_jax.jax_data(ds.temperature.sum()), in_axes=(axes,)
        )(_weather())
    np.testing.assert_array_equal(result, [48])


@pytest.mark.parametrize("leaf", [None, "text", 3, (1, 2), object(), True])
def test_anything_can_be_a_leaf(leaf):
    dataset = _weather()
    for x in (dataset, dataset.temperature, dataset.temperature.variable):
        result = jax.tree.map(lambda _: leaf, x)
        assert type(result) is type(x)
        data = result.temperature if isinstance(x, xarray.Dataset) else result
        assert xarray_jax.unwrap_data(data) is leaf
        if isinstance(x, xarray.Dataset):
            assert data.sizes["lat"] == 3
        again = jax.tree.map(lambda _: leaf, result, is_leaf=lambda y: y is leaf)
        assert jax.tree.structure(again) == jax.tree.structure(result)
    assert isinstance(result.data, JaxArrayWrapper)
    assert result.dtype == object


def test_numbers_become_the_data_of_scalars():
    array = xarray.DataArray(np.float32(2))
    result = jax.tree.map(lambda x: float(x) + 1, array)
    assert result.item() == 3
    assert isinstance(result.data, np.ndarray)


def test_trees_of_variables_may_be_mapped_to_other_things():
    dataset = _weather()
    result = jax.tree.map(
        lambda v: jnp.asarray(float(v.size)),
        dataset,
        is_leaf=lambda x: isinstance(x, xarray.Variable),
    )
    assert result.temperature.dims == ()
    array = jax.tree.map(
        lambda v: v.values.mean(),
        dataset.temperature.isel(batch=0, time=0, level=0, lat=0, lon=0),
        is_leaf=lambda x: isinstance(x, xarray.Variable),
    )
    assert array.item() == 1


def test_jax_coords_may_be_mapped_to_arrays_too():
    for x in (_weather(), _weather().temperature.isel(lat=0, drop=True)):
        x = xarray_jax.assign_jax_coords(x, lon=jnp.arange(4))
        result = jax.tree.map(
            lambda v: v.data if v.dims == ("lon",) else v,
            x,
            is_leaf=lambda y: isinstance(y, xarray.Variable),
        )
        assert result.lon.dims == ("lon",)
        assert set(xarray_jax.get_jax_coords(result)) == {"lon"}


def test_a_lost_axis_is_explained():
    with pytest.raises(
        ValueError, match=r"shape \(2, 3, 4\) cannot have.*use xarray_jax.vmap"
    ):
        jax.vmap(lambda ds: ds)(_weather())


@pytest.mark.usefixtures("construction")
def test_new_lengths_must_fit_the_static_coordinates():
    with pytest.raises(ValueError, match="conflicting sizes for dimension 'lat'"):
        jax.tree.map(lambda x: x[..., :2, :], _weather())
    with pytest.raises(ValueError, match="conflicting sizes for dimension 'lat'"):
        jax.tree.map(lambda x: x[..., :2, :], _weather().temperature)
    free = _weather().drop_vars(["lat"])
    assert jax.tree.map(lambda x: x[..., :2, :], free).sizes["lat"] == 2


@pytest.mark.usefixtures("construction")
def test_dimensions_can_change_on_unflatten():
    dataset = xarray_jax.assign_jax_coords(
        _weather(), area=(("batch", "lat"), jnp.ones((1, 3)))
    )
    for x in (dataset, dataset.temperature):
        with xarray_jax.dims_change_on_unflatten(lambda dims: dims[1:]):
            removed = jax.tree.map(lambda leaf: leaf[0], x)
        assert set(removed.coords) == {"lat", "lon", "level", "time", "area"}
        assert removed.area.dims == ("lat",)
        with xarray_jax.dims_change_on_unflatten(lambda dims: ("member", *dims)):
            added = jax.tree.map(lambda leaf: jnp.stack([leaf] * 2), x)
        assert added.sizes == {"member": 2, **x.sizes}
        assert set(added.coords) == set(x.coords)


def test_the_change_of_dimensions_ends_with_its_context():
    with (
        pytest.raises(KeyError),
        xarray_jax.dims_change_on_unflatten(lambda dims: dims[1:]),
    ):
        raise KeyError
    jax.tree.map(lambda x: x, _weather())


def test_a_jax_coord_must_keep_to_the_dimensions_of_its_array():
    array = xarray_jax.assign_jax_coords(
        _weather().temperature, area=(("lat",), jnp.ones(3))
    )

    def rename_lat_of_data(dims):
        return tuple("y" if d == "lat" and len(dims) > 1 else d for d in dims)

    with (
        xarray_jax.dims_change_on_unflatten(rename_lat_of_data),
        pytest.raises(ValueError, match=r"coordinate 'area' has dimensions \('lat',\)"),
    ):
        jax.tree.map(lambda x: x, array)


def test_a_subtree_stands_for_itself():
    dataset = _weather()
    tree = xarray.DataTree(
        dataset.coords.to_dataset(), {"child": xarray.DataTree(dataset)}
    )
    result = jax.tree.map(lambda x: x + 1, tree.children["child"])
    assert result.name == "child"
    assert result.parent is None
    np.testing.assert_array_equal(result["temperature"], 2)


def test_structures_do_not_keep_arrays_alive():
    array = jnp.ones((1, 2, 2, 3, 4))
    dataset = _weather().assign(temperature=(DIMS, JaxArrayWrapper(array)))
    structure = jax.tree.structure(dataset)
    reference = weakref.ref(array)
    del array, dataset
    gc.collect()
    assert reference() is None
    assert structure.num_leaves == 2


def test_an_index_variable_is_a_tree_too():
    variable = _weather().lat.variable
    assert isinstance(variable, xarray.IndexVariable)
    result = jax.jit(lambda v: v * 2)(variable)
    assert result.dims == ("lat",)
    np.testing.assert_allclose(result, variable.values * 2)


def test_a_registration_by_another_package_is_named():
    code = """
import jax, xarray
jax.tree_util.register_pytree_node(xarray.Variable, lambda v: ((), v), lambda v, _: v)
import weatherlib.xarray_jax
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert result.returncode != 0
    assert "ImportError: another package, such as graphcast, has reg" in result.stderr
