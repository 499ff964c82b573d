"""Operations of xarray on JAX arrays give what they give on NumPy arrays."""

import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray

from weatherlib import xarray_jax

LAT = np.linspace(-60.0, 60.0, 4)
LON = np.arange(0.0, 360.0, 60.0)
TIME = np.arange(3).astype("timedelta64[h]").astype("timedelta64[ns]")


def _numpy_dataset() -> xarray.Dataset:
    generator = np.random.default_rng(0)
    field = generator.normal(size=(3, 4, 6)).astype(np.float32)
    holes = field.copy()
    holes[0, 1, 2:4] = np.nan
    return xarray.Dataset(
        {
            "field": (("time", "lat", "lon"), field),
            "holes": (("time", "lat", "lon"), holes),
            "mask": (("lat", "lon"), field[0] > 0),
            "number": (("lat",), np.arange(4, dtype=np.int32)),
        },
        coords={"time": TIME, "lat": LAT, "lon": LON},
    )


def _cumulative(ds):
    return ds[["field"]].cumsum("lon"), ds[["field"]].cumprod("time")


def _rolling_mean(dataset):
    # xarray 2024 gives arrays that are not NumPy's to bottleneck where that is there.
    with xarray.set_options(use_bottleneck=False):
        return dataset.field.rolling(lon=3).mean()


OPERATIONS = {
    "arithmetic": lambda ds: (ds.field + 2 * ds.holes) ** 2 / 3 - 1,
    "reflected arithmetic": lambda ds: 2 / (3 - ds.field) + np.float32(2) * ds.field,
    "numpy operand": lambda ds: np.ones(6, np.float32) * ds.field.variable,
    "numpy DataArray operand": lambda ds: (
        xarray.DataArray(np.arange(6, dtype=np.float32), dims="lon") * ds.field
    ),
    "floor division and remainder": lambda ds: (ds.field // 2, ds.field % 2),
    "unary": lambda ds: (-ds.field, abs(ds.field), ~ds.mask),
    "comparison": lambda ds: (ds.field > 0, ds.field <= ds.holes, ds.field == ds.field),
    "logic": lambda ds: (ds.mask & (ds.field > 0)) | ds.mask,
    "numpy ufunc": lambda ds: np.exp(np.sin(ds)).drop_vars(["mask", "number"]),
    "numpy binary ufunc": lambda ds: np.maximum(ds.field, 0.5),
    "broadcasting": lambda ds: ds.number * ds.field.mean("lat"),
    "sum": lambda ds: ds.sum(),
    "sum over two dimensions": lambda ds: ds.sum(["lat", "lon"]),
    "sum with minimal count": lambda ds: ds.holes.sum("lon", min_count=5),
    "mean": lambda ds: ds.mean("lon"),
    "mean counting NaN": lambda ds: ds.mean("lon", skipna=False),
    "minimum and maximum": lambda ds: (ds.min("lat"), ds.max("lon")),
    "standard deviation": lambda ds: (ds.std("lat"), ds.var("lat", ddof=1)),
    "median": lambda ds: ds.holes.median("lon"),
    "product": lambda ds: ds.prod("lon"),
    "any and all": lambda ds: (ds.mask.any("lat"), ds.mask.all()),
    "count": lambda ds: ds.count("lat"),
    "argmax": lambda ds: (ds.field.argmax("lon"), ds.field.argmin("lat")),
    "quantile": lambda ds: ds.field.quantile(0.5, "lon").drop_vars("quantile"),
    "cumulative": _cumulative,
    "differences": lambda ds: ds.field.diff("time"),
    "shift": lambda ds: ds.field.shift(lon=1),
    "shift of integers": lambda ds: ds["number"].shift(lat=1),
    "roll": lambda ds: ds.field.roll(lon=2, roll_coords=True),
    "pad": lambda ds: ds.field.pad(lat=(1, 2)),
    "pad by wrapping": lambda ds: ds.field.pad(lon=2, mode="wrap"),
    "isel by integer": lambda ds: ds.isel(lat=1, lon=-1),
    "isel by slice": lambda ds: ds.isel(lat=slice(1, None), lon=slice(None, None, -2)),
    "isel by list": lambda ds: ds.isel(lat=[2, 0], lon=[1, 1, 3]),
    "isel by mask": lambda ds: ds.isel(lat=np.array([True, False, True, False])),
    "isel of one cell": lambda ds: ds.field.isel(time=0, lat=1, lon=2),
    "pointwise isel": lambda ds: ds.isel(
        lat=xarray.DataArray([0, 1], dims="point"),
        lon=xarray.DataArray([2, 3], dims="point"),
    ),
    "sel": lambda ds: ds.sel(lat=slice(-30, 60), time=TIME[1]),
    "nearest sel": lambda ds: ds.sel(lon=[61.0, 119.0], method="nearest"),
    "where": lambda ds: (ds.field.where(ds.mask), ds.field.where(ds.mask, 0)),
    "where of integers": lambda ds: ds["number"].where(ds["number"] > 1),
    "xarray.where": lambda ds: xarray.where(ds.mask, ds.field, -1),
    "isnull": lambda ds: (ds.isnull(), ds.notnull()),
    "isnull of integers": lambda ds: ds["number"].isnull(),
    "fillna": lambda ds: (ds.fillna(0), ds.holes.fillna(ds.field)),
    "clip": lambda ds: ds.field.clip(-0.5, 0.5),
    "transpose": lambda ds: ds.transpose("lon", ...),
    "stack": lambda ds: ds.field.stack(node=("lat", "lon")).reset_index("node"),
    "stack and unstack": lambda ds: ds.field.stack(node=("lat", "lon")).unstack(),
    "expand_dims": lambda ds: ds.expand_dims(batch=2),
    "squeeze": lambda ds: ds.isel(lat=[0]).squeeze("lat"),
    "broadcast": lambda ds: xarray.broadcast(ds["number"], ds.mask),
    "concat": lambda ds: xarray.concat(
        [ds.isel(time=[0]), ds.isel(time=slice(1, None))],
        "time",
        data_vars="minimal",
        coords="minimal",
        compat="override",
    ),
    "concat to a new dimension": lambda ds: xarray.concat(
        [ds.field, ds.holes], "member"
    ),
    "merge": lambda ds: xarray.merge([ds[["field"]], ds[["mask"]]], compat="override"),
    "assign": lambda ds: ds.assign(twice=2 * ds.field),
    "rename": lambda ds: ds.rename(lat="latitude", field="x"),
    "to_dataarray": lambda ds: ds[["field", "holes"]].to_dataarray("variable"),
    "to_dataset": lambda ds: ds.field.to_dataset(dim="time"),
    "astype": lambda ds: ds.field.astype("int32"),
    "astype float64": lambda ds: ds.field.astype("float64").astype("float32"),
    "round": lambda ds: ds.field.round(1),
    "dot": lambda ds: xarray.dot(ds.field, ds["number"].astype("float32"), dim="lat"),
    "matmul": lambda ds: ds.field.isel(time=0) @ ds.mask.astype("float32"),
    "weighted mean": lambda ds: ds.field.weighted(
        xarray.DataArray(np.cos(np.deg2rad(LAT)), {"lat": LAT}, "lat")
    ).mean(["lat", "lon"]),
    "coarsen": lambda ds: ds.field.coarsen(lat=2, lon=3).mean(),
    "rolling": _rolling_mean,
    "centred rolling": lambda ds: ds.field.rolling(lon=3, center=True).construct("w"),
    "groupby": lambda ds: ds.field.groupby("time").map(lambda x: x - x.mean()),
    "grouped mean": lambda ds: ds.field.groupby(
        xarray.DataArray([0, 0, 1, 1], {"lat": LAT}, "lat", name="half")
    ).mean(),
    "differentiate": lambda ds: ds.field.differentiate("lat"),
    "integrate": lambda ds: ds.field.integrate("lon"),
    "sortby": lambda ds: ds.sortby("lat", ascending=False),
    "reindex": lambda ds: ds.field.reindex(lat=LAT[::-1]),
    "reindex with gaps": lambda ds: ds.field.reindex(lat=[*LAT, 90.0]),
    "reindex_like": lambda ds: ds.field.reindex_like(ds.isel(lat=slice(2))),
    "align": lambda ds: xarray.align(ds.field, ds.mask.isel(lat=slice(2))),
    "full_like": lambda ds: xarray.full_like(ds.field, 3.0),
    "zeros_like": lambda ds: xarray.zeros_like(ds),
    "drop_vars": lambda ds: ds.drop_vars("field"),
    "copy": lambda ds: (ds.copy(), ds.copy(deep=True)),
    "map": lambda ds: ds.map(lambda x: x.astype("float32") + 1),
    "reduce": lambda ds: ds.field.reduce(np.sum, "lat"),
    "pipe": lambda ds: ds.field.pipe(operator.add, 1),
    "real part": lambda ds: ds.field.real,
    "complex": lambda ds: (ds.field * (1 + 2j)).imag,
    "head and thin": lambda ds: (ds.field.head(lon=2), ds.field.thin(lon=2)),
    "xarray.ufunc style isfinite": lambda ds: np.isfinite(ds.holes),
    "augmented assignment": lambda ds: operator.iadd(ds.field.copy(), ds.holes),
}


def _named_variables(result):
    """All variables of a result, by place and name."""
    items = result if isinstance(result, tuple) else (result,)
    named = {}
    for i, item in enumerate(items):
        variables = item.data_vars if isinstance(item, xarray.Dataset) else {"": item}
        named |= {(i, name): variable for name, variable in variables.items()}
    return named


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_under_jit_gives_what_numpy_gives(name):
    operation = OPERATIONS[name]
    dataset = _numpy_dataset()
    expected = _named_variables(operation(dataset))
    actual = _named_variables(jax.jit(operation)(dataset))
    assert actual.keys() == expected.keys()
    for key, ours in actual.items():
        theirs = expected[key]
        assert isinstance(xarray_jax.unwrap_data(ours), jax.Array)
        assert ours.dims == theirs.dims
        np.testing.assert_allclose(
            np.asarray(ours.data), theirs.data, rtol=2e-5, atol=2e-6
        )
        if isinstance(ours, xarray.DataArray):
            assert set(ours.coords) == set(theirs.coords)
            for coord, values in theirs.coords.items():
                np.testing.assert_array_equal(ours.coords[coord], values)


def test_bfloat16_stays_bfloat16():
    array = xarray_jax.DataArray(
        jnp.array([1.0, 2.0, 3.0], jnp.bfloat16), {"x": [5, 6, 7]}, ("x",)
    )
    for result in (
        2.0 * array + np.ones((), jnp.bfloat16),
        np.sqrt(array),
        array.where(array > 1, 0),
        xarray.where(array > 1, array, 0.0),
        array.mean(skipna=False),
        array.max("x", skipna=False),
        xarray.concat([array, array], "x"),
        array.isel(x=[1, 0]),
        array.sel(x=6),
        array.isel(x=xarray.DataArray([[0, 1]], dims=("a", "b"))),
        array.expand_dims(y=2).transpose("x", "y"),
        array.roll(x=1),
        array.clip(1, 2),
    ):
        assert result.dtype == jnp.bfloat16
        assert isinstance(xarray_jax.unwrap_data(result), jax.Array)
    assert float(array.mean(skipna=False)) == 2


def test_missing_values_in_bfloat16_can_be_found_by_comparison():
    array = xarray_jax.DataArray(jnp.array([1.0, jnp.nan], jnp.bfloat16), dims=("x",))
    filled = array.where(array == array, 2.0)
    assert filled.dtype == jnp.bfloat16
    assert filled.values.tolist() == [1, 2]
