import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray

from weatherlib import xarray_jax


def _ensemble(members=3, offset=0) -> xarray.Dataset:
    return xarray_jax.Dataset(
        {
            "a": (("member", "lat"), jnp.arange(2.0 * members).reshape(members, 2)),
            "b": (("member",), jnp.arange(float(members))),
        },
        coords={"lat": np.array([0, 10]) + offset, "member": np.arange(members)},
        jax_coords={"weight": (("member", "lat"), jnp.ones((members, 2)))},
    )


def test_apply_ufunc_gives_bare_arrays_to_its_function():
    def normalise(x, y):
        assert isinstance(x, jax.Array)
        assert isinstance(y, np.ndarray)
        return x / jnp.sum(x, axis=-1, keepdims=True) + y

    dataset = _ensemble()
    result = xarray_jax.apply_ufunc(
        normalise,
        dataset.a,
        xarray.DataArray(np.ones(2, np.float32), {"lat": dataset.lat.values}, "lat"),
        input_core_dims=[["lat"], ["lat"]],
        output_core_dims=[["lat"]],
    )
    assert isinstance(xarray_jax.jax_data(result), jax.Array)
    expected = dataset.a.values / dataset.a.values.sum(1, keepdims=True) + 1
    np.testing.assert_allclose(result.values, expected)


def test_apply_ufunc_hands_on_keywords_and_several_results():
    low, high = xarray_jax.apply_ufunc(
        lambda x, axis: (x.min(axis), x.max(axis)),
        _ensemble().a,
        input_core_dims=[["lat"]],
        output_core_dims=[[], []],
        kwargs={"axis": -1},
    )
    np.testing.assert_array_equal(low, [0, 2, 4])
    np.testing.assert_array_equal(high, [1, 3, 5])


def test_apply_ufunc_may_require_jax():
    array = xarray.DataArray(np.ones(2), dims="x")
    assert xarray_jax.apply_ufunc(jnp.sin, array).dims == ("x",)
    with pytest.raises(TypeError, match="Expected JAX array"):
        xarray_jax.apply_ufunc(jnp.sin, array, require_jax=True)


@pytest.mark.parametrize("transform", [xarray_jax.vmap, xarray_jax.pmap])
def test_a_mapped_function_sees_no_mapped_dimension(transform):
    members = 1 if transform is xarray_jax.pmap else 3

    def function(ds, extra):
        assert "member" not in ds.dims
        assert set(ds.coords) == {"lat", "weight"}
        assert extra.shape == ()
        total = jax.lax.psum(extra, "member")
        return {"sum": ds.a.sum("lat") + ds.b, "all": ds * 2}, total

    dataset = _ensemble(members)
    result, total = transform(function, "member")(dataset, jnp.ones(members))
    assert result["sum"].dims == ("member",)
    np.testing.assert_allclose(result["sum"], (dataset.a.sum("lat") + dataset.b).data)
    assert result["all"].a.dims == ("member", "lat")
    assert set(result["all"].coords) == {"lat", "weight"}
    np.testing.assert_array_equal(total, np.full(members, members))


@pytest.mark.parametrize("transform", [xarray_jax.vmap, xarray_jax.pmap])
def test_the_mapped_axis_can_have_another_name(transform):
    mapped = transform(
        lambda ds: xarray_jax.apply_ufunc(lambda x: jax.lax.pmean(x, "axis"), ds),
        "member",
        axis_name="axis",
    )
    members = 1 if transform is xarray_jax.pmap else 3
    dataset = _ensemble(members)
    result = mapped(dataset.b)
    np.testing.assert_allclose(result, np.full(members, dataset.b.values.mean()))


@pytest.mark.parametrize("transform", [xarray_jax.vmap, xarray_jax.pmap])
def test_each_call_keeps_its_own_coordinates(transform):
    mapped = transform(lambda ds: ds + 1, "member")
    for offset in (0, 5, 0):
        result = mapped(_ensemble(1, offset))
        np.testing.assert_array_equal(result.lat, np.array([0, 10]) + offset)


@pytest.mark.parametrize("transform", [xarray_jax.vmap, xarray_jax.pmap])
def test_the_mapped_dimension_must_be_the_first(transform):
    mapped = transform(lambda ds: ds, "member")
    with pytest.raises(ValueError, match="Expected dim member at index 0, found at 1"):
        mapped(xarray.Variable(("x", "member"), np.ones((1, 1))))
    with pytest.raises(ValueError, match="Expected dim member at index 0, found at No"):
        mapped(xarray.Variable(("x",), np.ones(1)))


def test_pmap_compiles_once_for_each_structure():
    count = 0

    def function(ds):
        nonlocal count
        count += 1
        return ds + 1

    mapped = xarray_jax.pmap(function, "member", devices=jax.local_devices()[:1])
    for offset in (0, 5, 0, 5):
        mapped(_ensemble(1, offset))
    assert count == 2


def test_vmap_works_inside_other_transformations():
    @jax.jit
    def loss(ds):
        per_member = xarray_jax.vmap(lambda x: (x.a**2).sum(), "member")(ds)
        return xarray_jax.jax_data(per_member.sum())

    gradient = jax.grad(loss)(_ensemble())
    np.testing.assert_allclose(gradient.a, 2 * np.arange(6.0).reshape(3, 2))


def test_scan_runs_along_a_dimension_wherever_it_is():
    dataset = _ensemble().transpose("lat", "member", missing_dims="ignore")

    def step(carry, x):
        ds, plain = x
        assert ds.a.dims == ("lat",)
        assert set(ds.coords) == {"lat", "weight"}
        carry = carry + ds.a.drop_vars("weight")
        return carry, {"carry": carry, "plain": plain}

    init = xarray.zeros_like(dataset.a.isel(member=0, drop=True)).drop_vars("weight")
    carry, outputs = xarray_jax.scan(
        step, init, "member", (dataset, jnp.arange(3.0)), unroll=2
    )
    np.testing.assert_array_equal(carry, [6, 9])
    assert outputs["carry"].dims == ("member", "lat")
    assert "member" not in outputs["carry"].coords
    np.testing.assert_array_equal(outputs["carry"], dataset.a.cumsum("member").data.T)
    np.testing.assert_array_equal(outputs["plain"], np.arange(3))


def test_scan_can_run_backwards():
    _, outputs = xarray_jax.scan(
        lambda carry, x: (carry + xarray_jax.unwrap_data(x), carry),
        jnp.zeros(()),
        "member",
        _ensemble().b,
        reverse=True,
    )
    np.testing.assert_array_equal(outputs, [3, 2, 0])


def test_scan_without_inputs_takes_a_length():
    carry, outputs = xarray_jax.scan(
        lambda c, x: (c + 1, xarray_jax.Variable(("x",), jnp.stack([c, c]))),
        jnp.zeros(()),
        "step",
        length=3,
    )
    assert carry == 3
    assert outputs.dims == ("step", "x")
    np.testing.assert_array_equal(outputs.values[:, 0], [0, 1, 2])


def test_scan_needs_the_dimension():
    with pytest.raises(ValueError, match="time"):
        xarray_jax.scan(lambda c, x: (c, x), 0, "time", _ensemble())


def test_tree_map_variables_shows_and_changes_dimensions():
    tree = {"ds": _ensemble(), "plain": jnp.ones(2)}
    seen = []

    def transpose(variable):
        seen.append(variable.dims)
        return variable.transpose()

    result = xarray_jax.tree_map_variables(transpose, tree)
    assert seen == [("member", "lat"), ("member",), ("member", "lat")]
    assert result["ds"].a.dims == ("lat", "member")
    assert result["plain"] is tree["plain"]


def test_tree_map_with_dims_shows_dimensions_and_maps_bare_arrays_too():
    seen = []

    def double(array, dims):
        assert isinstance(array, jax.Array)
        seen.append(dims)
        return 2 * array

    tree = {"ds": _ensemble(), "plain": jnp.ones(2)}
    result = xarray_jax.tree_map_with_dims(double, tree)
    assert seen == [("member", "lat"), ("member",), ("member", "lat"), None]
    np.testing.assert_array_equal(result["ds"].b, [0, 2, 4])
    np.testing.assert_array_equal(result["ds"].weight, np.full((3, 2), 2))
    np.testing.assert_array_equal(result["plain"], [2, 2])
