import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from weatherlib import stacking, xarray_jax

SIZES = {"batch": 2, "lat": 3, "lon": 4}


def make(batch=2, times=2, levels=3, lat=3, lon=4):
    """Returns a dataset whose values name variable, time, level and place."""
    shape = {"batch": batch, "time": times, "level": levels, "lat": lat, "lon": lon}

    def values(*dims, offset):
        sizes = [shape[dim] for dim in dims]
        return dims, offset + np.arange(np.prod(sizes, dtype=int)).reshape(
            sizes
        ).astype(np.float32)

    return xr.Dataset(
        {
            "zonal": values("batch", "time", "level", "lat", "lon", offset=1000),
            "10m": values("batch", "time", "lat", "lon", offset=5000),
            "2m": values("batch", "time", "lat", "lon", offset=7000),
        },
        {"lat": np.arange(lat), "lon": np.arange(lon), "level": np.arange(levels)},
    )


def test_channels_follow_names_as_text_then_time_then_level():
    plan = stacking.plan_channels(make(), first_channel=10)
    places = [(v.name, v.start, v.stop) for v in plan]
    assert places == [("10m", 10, 12), ("2m", 12, 14), ("zonal", 14, 20)]
    assert plan[2].channel_dims == ("time", "level")
    assert plan[2].channel_shape == (2, 3)


@pytest.mark.parametrize("dims", [(), ("level", "time", "lon", "batch", "lat")])
def test_nodes_are_rows_of_the_grid_and_channels_time_major(dims):
    dataset = make()
    turned = dataset.transpose(*dims, missing_dims="ignore")
    array = stacking.stack((turned, dataset[["2m"]]), SIZES)
    assert array.shape == (12, 2, 12)
    node, member = 1 * 4 + 2, 1
    place = {"batch": member, "lat": 1, "lon": 2}
    zonal = dataset["zonal"].isel(place).values
    np.testing.assert_array_equal(array[node, member, 4:10], zonal.ravel())
    np.testing.assert_array_equal(array[node, member, 10:], dataset["2m"].isel(place))


def test_what_lacks_a_dimension_is_repeated_along_it():
    static = xr.Dataset({"mask": (("lon",), np.arange(4.0, dtype=np.float32))})
    array = stacking.stack((static,), SIZES)
    np.testing.assert_array_equal(
        array[:, :, 0], np.tile(np.arange(4.0), 3)[:, None] + np.zeros((1, 2))
    )


def test_stacking_equals_the_published_function():
    dataset = make()
    published = stacking.lat_lon_to_leading_axes(stacking.dataset_to_stacked(dataset))
    expected = published.values.reshape(12, 2, -1)
    np.testing.assert_array_equal(stacking.stack((dataset,), SIZES), expected)


@settings(deadline=None, max_examples=5)
@given(
    batch=st.integers(1, 2),
    times=st.integers(1, 2),
    levels=st.integers(1, 3),
    lat=st.integers(1, 3),
    lon=st.integers(1, 3),
)
def test_unstacking_gives_back_what_was_stacked(batch, times, levels, lat, lon):
    dataset = make(batch, times, levels, lat, lon)
    turned = dataset.transpose("time", "lon", ...)
    sizes = {"batch": batch, "lat": lat, "lon": lon}
    array = stacking.stack((dataset,), sizes)
    found = stacking.unstack(array, turned, sizes)
    for name in turned:
        assert found[name].dims == turned[name].dims
        np.testing.assert_array_equal(
            xarray_jax.unwrap_data(found[name]), turned[name].values
        )
    assert found.coords.to_dataset().identical(turned.coords.to_dataset())
    stacked = stacking.dataset_to_stacked(dataset)
    xr.testing.assert_identical(
        stacking.stacked_to_dataset(stacked.variable, turned), turned
    )


def test_stacking_works_under_jit_with_jax_arrays():
    dataset = make()
    array = jax.jit(lambda d: stacking.stack((d,), SIZES))(dataset)
    np.testing.assert_array_equal(array, stacking.stack((dataset,), SIZES))


def test_nothing_to_stack_is_refused():
    with pytest.raises(ValueError, match="no variables to stack"):
        stacking.stack((xr.Dataset(),), SIZES)


def test_mixed_precision_is_refused():
    dataset = make()
    dataset["2m"] = dataset["2m"].astype(np.float16)
    with pytest.raises(ValueError, match=r"same dtype, found .*float16"):
        stacking.stack((dataset,), SIZES)


@pytest.mark.parametrize("published", [False, True])
def test_templates_that_do_not_fit_are_refused(published):
    dataset = make()

    def unstack(template, channels):
        array = jnp.zeros((12, 2, channels))
        if not published:
            return stacking.unstack(array, template, SIZES)
        data = array.reshape(3, 4, 2, channels).transpose(2, 0, 1, 3)
        variable = xarray_jax.Variable(("batch", "lat", "lon", "channels"), data)
        return stacking.stacked_to_dataset(variable, template)

    assert set(unstack(dataset, 10)) == {"10m", "2m", "zonal"}
    with pytest.raises(ValueError, match="needs 10 channels, found 9"):
        unstack(dataset, 9)
    with pytest.raises(ValueError, match=r"2m cannot be made .* lacks \['lat'\]"):
        unstack(dataset.assign({"2m": dataset["2m"].isel(lat=0, drop=True)}), 10)


def test_a_mapping_of_arrays_comes_back_as_a_mapping():
    template = {"10m": make()["10m"]}
    found = stacking.unstack(jnp.ones((12, 2, 2)), template, SIZES)
    assert type(found) is dict
    assert found["10m"].name == "10m"


def test_leading_axes_can_be_put_first_and_restored():
    array = make()["zonal"]
    leading = stacking.lat_lon_to_leading_axes(array)
    assert leading.dims == ("lat", "lon", "batch", "time", "level")
    xr.testing.assert_identical(stacking.restore_leading_axes(leading), array)
    assert stacking.restore_leading_axes(leading.isel(time=0)).dims == (
        "batch",
        "level",
        "lat",
        "lon",
    )


def test_other_dimensions_can_be_preserved():
    variable = make()["zonal"].variable
    stacked = stacking.variable_to_stacked(variable, {"sample": 5}, ("lat", "sample"))
    assert stacked.sizes == {"lat": 3, "sample": 5, "channels": 2 * 2 * 3 * 4}


def test_members_become_a_first_dimension_and_dtypes_follow_the_template():
    template = make(2, 1, 2, 3, 4).map(lambda a: a.astype(np.float32))
    template = template.drop_vars([n for n in template if template[n].ndim < 4])
    frames = stacking.variables_to_frames(template, sorted(template), template.sizes)
    several = jnp.stack([frames, 2 * frames]).astype(jnp.bfloat16)
    found = stacking.members_to_variables(several, template)
    alone = stacking.members_to_variables(2 * frames, template)
    for name in template:
        assert found[name].dims == ("sample", *template[name].dims)
        assert alone[name].dims == template[name].dims
        assert found[name].dtype == np.float32
        second = xarray_jax.unwrap_data(found[name])[1]
        expected = xarray_jax.unwrap_data(alone[name])
        np.testing.assert_allclose(second, expected, rtol=0.02, atol=0.02)
