"""Fields on other grids and levels."""

import dataclasses

import numpy as np
import pytest
import xarray
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data import layouts
from weatherlib import data, data_utils, task
from weatherlib.geometry import regridding


def _grid(rows, columns, poles, start=0.0):
    lat = (
        np.linspace(-90, 90, rows)
        if poles
        else (np.arange(rows) + 0.5) * 180 / rows - 90
    )
    return lat, start + np.arange(columns) * 360 / columns


def _field(lat, lon, values):
    return xarray.Dataset(
        {"2m_temperature": (("lat", "lon"), values)}, coords={"lat": lat, "lon": lon}
    )


def _areas(lat):
    edges = np.concatenate([[-90], (lat[1:] + lat[:-1]) / 2, [90]])
    return np.diff(np.sin(np.deg2rad(edges)))


def _mean(field):
    areas = _areas(field["lat"].values)
    return float((field.mean("lon").values * areas).sum() / areas.sum())


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(4, 40),
    columns=st.integers(4, 40),
    poles=st.booleans(),
    new_rows=st.integers(4, 40),
    new_columns=st.integers(4, 40),
    new_poles=st.booleans(),
    start=st.floats(-180, 180),
    seed=st.integers(0, 99),
)
def test_the_mean_over_the_globe_stays(
    rows, columns, poles, new_rows, new_columns, new_poles, start, seed
):
    lat, lon = _grid(rows, columns, poles)
    values = np.random.default_rng(seed).normal(size=(rows, columns))
    new_lat, new_lon = _grid(new_rows, new_columns, new_poles, start)
    regridded = data.regrid(_field(lat, lon, values), new_lat, new_lon)
    before = _mean(_field(lat, lon, values)["2m_temperature"])
    np.testing.assert_allclose(_mean(regridded["2m_temperature"]), before, atol=1e-12)
    assert values.min() - 1e-9 <= float(regridded["2m_temperature"].min())


@pytest.mark.parametrize("method", ["conservative", "linear"])
@pytest.mark.parametrize("poles", [True, False])
def test_a_constant_stays_and_a_grid_stays(method, poles):
    lat, lon = _grid(18, 36, poles)
    values = np.random.default_rng(0).normal(size=(18, 36))
    same = data.regrid(_field(lat, lon, values), lat, lon, method)
    np.testing.assert_allclose(same["2m_temperature"], values, atol=1e-12)
    for new_poles in (True, False):
        constant = data.regrid(
            _field(lat, lon, np.full((18, 36), 7.0)),
            *_grid(25, 20, new_poles, start=-177.0),
            method,
        )
        np.testing.assert_allclose(constant["2m_temperature"], 7)


def test_rows_and_columns_come_as_they_were_asked_for():
    lat, lon = _grid(18, 36, True)
    values = np.random.default_rng(0).normal(size=(18, 36))
    new_lat, new_lon = _grid(9, 12, False)
    first = data.regrid(_field(lat, lon, values), new_lat, new_lon)["2m_temperature"]
    turned = data.regrid(
        _field(lat[::-1], lon, values[::-1]), new_lat[::-1], (new_lon + 180) % 360 - 180
    )["2m_temperature"]
    assert turned["lat"].values.tolist() == new_lat[::-1].tolist()
    np.testing.assert_allclose(turned.values[::-1], first.values, atol=1e-12)


def test_linear_follows_a_plane_across_the_seam_and_the_poles():
    lat, lon = _grid(90, 180, False)

    def plane(lat, lon):
        phi, theta = np.deg2rad(lon)[None], np.deg2rad(lat)[:, None]
        return np.cos(theta) * np.cos(phi) + 0.3 * np.sin(theta)

    new_lat = np.linspace(-90, 90, 37)
    new_lon = np.arange(36) * 10 - 180 + 3.0
    linear = data.regrid(_field(lat, lon, plane(lat, lon)), new_lat, new_lon, "linear")
    np.testing.assert_allclose(
        linear["2m_temperature"], plane(new_lat, new_lon), atol=1e-3
    )


def test_winds_change_sign_across_a_pole():
    lat, lon = _grid(90, 180, False)
    phi = np.deg2rad(lon)[None]
    # A uniform flow across the pole: u = -sin(lon), v = -cos(lon) there.
    u = np.broadcast_to(-np.sin(phi), (90, 180)).copy()
    wind = _field(lat, lon, u).rename({"2m_temperature": "u_component_of_wind"})
    linear = data.regrid(wind, [80.0, 90.0], [0.0, 90.0, 180.0, 270.0], "linear")
    np.testing.assert_allclose(
        linear["u_component_of_wind"].isel(lat=1), [0, -1, 0, 1], atol=1e-6
    )


def test_places_without_data_have_no_weight():
    lat, lon = _grid(18, 36, False)
    values = np.full((18, 36), 280.0)
    values[:, :18] = np.nan
    values[0] = np.nan
    new_lat, new_lon = _grid(6, 12, False)
    for method in ("conservative", "linear"):
        found = data.regrid(_field(lat, lon, values), new_lat, new_lon, method)
        field = found["2m_temperature"]
        assert field.isel(lon=slice(2, 5)).isnull().all()
        np.testing.assert_allclose(
            field.isel(lon=slice(7, 11), lat=slice(1, None)), 280
        )
    # A third of the first row of cells has no data.
    first = data.regrid(_field(lat, lon, values), new_lat, new_lon)["2m_temperature"][0]
    np.testing.assert_allclose(first[8], 280)
    strict = data.regrid(_field(lat, lon, values), new_lat, new_lon, valid_share=1.0)
    assert np.isnan(strict["2m_temperature"][0, 8])


def test_cells_beyond_a_window_are_nan():
    lat, lon = np.arange(30.0, 61.0), np.arange(-10.0, 21.0)
    values = np.add.outer(lat, lon)
    for method in ("conservative", "linear"):
        found = data.regrid(
            _field(lat, lon, values),
            np.arange(20.0, 60, 10),
            [0.0, 10.0, 20.0, 30.0],
            method,
        )["2m_temperature"]
        assert found.isel(lat=0).isnull().all()
        assert found.isel(lon=3).isnull().all()
        np.testing.assert_allclose(found.isel(lat=2, lon=1), 50, atol=0.2)


def test_the_inside_agrees_with_another_implementation():
    xarray_regrid = pytest.importorskip("xarray_regrid")
    assert xarray_regrid
    lat, lon = np.arange(-60.25, 60.5, 0.5), np.arange(0.25, 120, 0.5)
    values = np.random.default_rng(1).normal(size=(lat.size, lon.size))
    source = _field(lat, lon, values)
    target = xarray.Dataset(
        coords={"lat": np.arange(-49.0, 50, 2), "lon": np.arange(11.0, 100, 2)}
    )
    theirs = source.regrid.conservative(target, latitude_coord="lat")
    ours = data.regrid(source, target["lat"].values, target["lon"].values)
    np.testing.assert_allclose(
        ours["2m_temperature"], theirs["2m_temperature"], atol=1e-6
    )


@pytest.mark.parametrize("chunks", [None, {}, {"time": 1, "lat": 3}])
def test_only_grids_change_and_chunks_are_kept(tmp_path, chunks):
    state = layouts.series()
    state.to_netcdf(tmp_path / "a.nc")
    opened = data.open_dataset(tmp_path / "a.nc", chunks=chunks)
    lat, lon = _grid(4, 6, False)
    found = data.regrid(opened, lat, lon)
    assert list(found) == list(opened)
    assert found["temperature"].dims == opened["temperature"].dims
    assert (found["temperature"].chunks is None) is (chunks is None)
    wanted = data.regrid(state, lat, lon)
    for name in state:
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-6)
        assert found[name].dtype == state[name].dtype
    np.testing.assert_allclose(
        found["temperature"].isel(time=2, level=1, lat=[3, 0], lon=2),
        wanted["temperature"].isel(time=2, level=1, lat=[3, 0], lon=2),
        rtol=1e-6,
    )


def test_requests_that_make_no_sense_are_refused():
    state = layouts.series()
    lat, lon = _grid(4, 6, False)
    with pytest.raises(ValueError, match="method is 'cubic'"):
        data.regrid(state, lat, lon, "cubic")
    with pytest.raises(ValueError, match="valid_share is 0"):
        data.regrid(state, lat, lon, valid_share=0)
    with pytest.raises(ValueError, match="lat: the data has no such axis"):
        data.regrid(state.isel(lat=0, drop=True), lat, lon)
    with pytest.raises(ValueError, match="latitude must lie in"):
        data.regrid(state, [80, 100], lon)
    with pytest.raises(ValueError, match="has no extent"):
        data.regrid(state, [0.0], lon)


def test_shares_of_overlap_add_up():
    shares = regridding.column_overlaps(np.arange(4) * 90.0, np.arange(8) * 45.0 - 190)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    rows = regridding.row_overlaps(np.array([-45.0, 45.0]), np.array([-60.0, 0, 60]))
    np.testing.assert_allclose(rows, [[1, 0], [0.5, 0.5], [0, 1]], atol=1e-12)
    assert not regridding.covers_circle(np.array([0.0, 180.0]))


class TestLevels:
    state = layouts.series(2, levels=(200, 500, 850))

    def test_are_picked_in_the_order_asked_for(self):
        found = data.select_levels(self.state, [850, 200])
        assert found["level"].values.tolist() == [850, 200]
        np.testing.assert_array_equal(
            found["temperature"], self.state["temperature"].isel(level=[2, 0])
        )

    def test_that_are_missing_are_named(self):
        with pytest.raises(
            ValueError, match="700 hPa missing, the data has 200, 500, 850"
        ):
            data.select_levels(self.state, [700])
        with pytest.raises(ValueError, match=r"1000 hPa lie beyond .* 200 to 850"):
            data.interpolate_levels(self.state, [500, 1000])
        with pytest.raises(ValueError, match="no such axis"):
            data.interpolate_levels(self.state.isel(level=0), [1])

    def test_between_others_follow_the_logarithm_of_pressure(self):
        levels = xarray.DataArray(np.log([200.0, 500, 850]), dims="level")
        profile = self.state.assign(
            temperature=self.state["temperature"] * 0 + 3 * levels.astype("f4")
        ).transpose("time", "level", "lat", "lon")
        found = data.interpolate_levels(profile, [300, 500, 700])
        wanted = 3 * np.log([300.0, 500, 700])
        np.testing.assert_allclose(
            found["temperature"].mean(("time", "lat", "lon")), wanted, rtol=1e-6
        )
        assert found["level"].dtype == np.int32
        xarray.testing.assert_equal(
            found["2m_temperature"], self.state["2m_temperature"]
        )

    def test_that_exist_are_kept_exactly_even_beside_nan(self):
        holed = self.state.copy(deep=True)
        holed["temperature"][:, 2] = np.nan
        found = data.interpolate_levels(holed, [500, 200])
        np.testing.assert_array_equal(
            found["temperature"], self.state["temperature"].isel(level=[1, 0])
        )


def test_check_names_what_makes_the_grid_and_the_levels_of_a_model():
    state = layouts.series(3, levels=(200, 500, 850))
    config = task.TaskConfig(
        input_variables=("temperature",),
        target_variables=("temperature",),
        forcing_variables=(),
        pressure_levels=(300, 850),
        input_duration="12h",
    )
    conformed, _ = data.conform(state, config)
    found = data_utils.check(conformed, config, resolution=10)
    fixes = {(problem.kind, problem.found[:3]): problem.fix for problem in found}
    assert "data.regrid" in fixes["resolution", "7 v"]
    assert "data.interpolate_levels" in fixes["level", "300"]
    deep = dataclasses.replace(config, pressure_levels=(500, 1000))
    level = next(p for p in data_utils.check(state, deep) if p.kind == "level")
    assert "interpolate" not in level.fix
    ready = data.regrid(state, np.linspace(-90, 90, 19), np.arange(36) * 10.0, "linear")
    ready = data.interpolate_levels(ready, [300, 850])
    conformed, _ = data.conform(ready, config)
    assert data_utils.check(conformed, config, resolution=10) == []
