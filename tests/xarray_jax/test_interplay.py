"""What users do with xarray objects beside computing: print, store, compare, place."""

import copy
import pickle

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray

from weatherlib import xarray_jax


def _dataset() -> xarray.Dataset:
    return xarray_jax.Dataset(
        {
            "a": (("time", "lat"), jnp.arange(6.0).reshape(2, 3), {"units": "K"}),
            "b": (("lat",), jnp.array([1, 2, 3])),
        },
        coords={
            "time": np.array([0, 6], "timedelta64[h]").astype("timedelta64[ns]"),
            "lat": [-45.0, 0.0, 45.0],
        },
    )


def _numpy_dataset() -> xarray.Dataset:
    return jax.device_get(_dataset()).assign(a=lambda ds: ds.a.assign_attrs(units="K"))


def test_objects_can_be_printed_inside_jit():
    texts = []

    @jax.jit
    def function(ds):
        texts.extend([repr(ds), ds._repr_html_(), repr(ds.a), str(ds.a.variable)])
        return ds

    function(_dataset())
    assert all("JaxArrayWrapper" in text or "Tracer" in text for text in texts)
    assert "JaxArrayWrapper" in repr(_dataset().a)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.loads])
def test_objects_can_be_copied_and_pickled(duplicate):
    dataset = _dataset()
    argument = pickle.dumps(dataset) if duplicate is pickle.loads else dataset
    result = duplicate(argument)
    assert isinstance(xarray_jax.jax_data(result.a), jax.Array)
    xarray.testing.assert_identical(result, dataset)


def test_objects_on_jax_and_numpy_compare_as_equal():
    xarray.testing.assert_identical(_dataset(), _numpy_dataset())
    xarray.testing.assert_allclose(_dataset(), _numpy_dataset() + 1e-9)
    assert _dataset().equals(_numpy_dataset())
    assert not _dataset().equals(_numpy_dataset() + 1)


def test_values_leave_jax_where_numpy_is_asked_for():
    dataset = _dataset()
    assert isinstance(dataset.a.values, np.ndarray)
    assert isinstance(dataset.a.to_numpy(), np.ndarray)
    assert isinstance(dataset.a.as_numpy().data, np.ndarray)
    assert dataset.a.isel(time=0, lat=1).item() == 1
    assert float(dataset.a.max()) == 5
    assert bool((dataset.b > 0).all())
    assert dataset.to_dataframe()["a"].tolist() == [0, 1, 2, 3, 4, 5]
    assert isinstance(xarray_jax.jax_data(dataset.compute().a), jax.Array)
    assert isinstance(xarray_jax.jax_data(dataset.load().a), jax.Array)


def test_files_can_be_written(tmp_path):
    dataset = _dataset().drop_vars("time")
    dataset.to_netcdf(tmp_path / "file.nc", engine="h5netcdf")
    with xarray.open_dataset(tmp_path / "file.nc", engine="h5netcdf") as stored:
        xarray.testing.assert_equal(stored.load(), jax.device_get(dataset))


def test_datasets_can_be_placed_and_sharded():
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("x",))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    dataset = jax.device_put(_numpy_dataset(), sharding)
    assert xarray_jax.jax_data(dataset.a).sharding == sharding
    double = jax.jit(lambda ds: 2 * ds, in_shardings=sharding, out_shardings=sharding)
    result = jax.block_until_ready(double(dataset))
    np.testing.assert_array_equal(result.a, 2 * _numpy_dataset().a)
    by_name = xarray_jax.tree_map_with_dims(lambda _, dims: dims, dataset)
    assert xarray_jax.unwrap_data(by_name.a) == ("time", "lat")


def test_forward_mode_and_linear_maps_take_datasets():
    dataset = _dataset()[["a"]]
    primal, tangent = jax.jvp(
        lambda ds: ds**2, (dataset,), (xarray.ones_like(dataset),)
    )
    np.testing.assert_allclose(tangent.a, 2 * primal.a**0.5)
    _, pullback = jax.vjp(lambda ds: (ds.a * 3).sum().variable, dataset)
    (gradient,) = pullback(xarray_jax.Variable((), jnp.asarray(1.0)))
    np.testing.assert_allclose(gradient.a, np.full((2, 3), 3))


def test_gradients_of_integers_have_no_values():
    gradient = jax.grad(lambda ds: xarray_jax.jax_data(ds.a.sum()), allow_int=True)(
        _dataset()
    )
    assert gradient.b.dtype == jax.dtypes.float0
    np.testing.assert_array_equal(gradient.a, 1)


def test_haiku_modules_and_transformations_take_datasets():
    def forward(ds):
        layer = hk.Linear(2, name="linear")
        apply = hk.remat(
            lambda ds: xarray_jax.apply_ufunc(
                layer, ds.a, input_core_dims=[["lat"]], output_core_dims=[["channel"]]
            )
        )
        return apply(ds)

    network = hk.without_apply_rng(hk.transform(forward))
    params = network.init(jax.random.PRNGKey(0), _dataset())
    result = jax.jit(network.apply)(params, _dataset())
    assert result.dims == ("time", "channel")
    assert set(result.coords) == {"time"}
    gradient = jax.grad(
        lambda p: xarray_jax.jax_data(network.apply(p, _dataset()).sum())
    )(params)
    np.testing.assert_allclose(gradient["linear"]["b"], [2, 2])


def test_64_bit_types_are_kept_where_jax_has_them():
    array = np.arange(3.0)
    wrapped = xarray_jax.wrap(jnp.asarray(array, jnp.float32))
    assert wrapped.astype(np.float64).dtype == np.float32
    with jax.enable_x64(True):
        wrapped = xarray_jax.wrap(jnp.asarray(array, jnp.float32))
        assert wrapped.astype(np.float64).dtype == np.float64
        assert np.full_like(wrapped, 1, dtype=np.float64).dtype == np.float64
