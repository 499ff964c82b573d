import dataclasses

import numpy as np
import pandas as pd
import pytest
import xarray

from tests import weather_samples
from weatherlib import data

TASK = weather_samples.TASK
START = np.datetime64("2022-01-01T12", "ns")


@pytest.fixture
def weather():
    return weather_samples.weather(frames=6)


def _as_archive(weather):
    """Returns the weather as WeatherBench 2 and CDS have it."""
    archive = weather.isel(batch=0, drop=True)
    dates = archive["datetime"].values
    archive = archive.drop_vars("datetime").assign_coords(time=dates)
    return archive.rename(lat="latitude", lon="longitude", temperature="t")


def test_a_state_ends_at_its_start(weather):
    state = data.InitialStates(weather, TASK).state(START)
    expected = weather.isel(time=[1, 2])
    np.testing.assert_array_equal(state["datetime"], expected["datetime"])
    np.testing.assert_array_equal(state["time"], np.array([0, 6], "timedelta64[h]"))
    for name in ("temperature", "2m_temperature", "land_sea_mask"):
        np.testing.assert_array_equal(state[name], expected[name])
        assert state[name].dims == expected[name].dims


def test_an_archive_with_other_names_gives_the_same_state(weather):
    states = data.InitialStates(_as_archive(weather), TASK)
    expected = data.InitialStates(weather, TASK).state(START)
    xarray.testing.assert_equal(states.state(START), expected)


def test_only_the_frames_of_a_state_are_read(weather):
    dask = pytest.importorskip("dask.array")
    read = []

    def block(block_info=None):
        read.append(block_info[None]["chunk-location"][1])
        return np.full(block_info[None]["chunk-shape"], 280.0, np.float32)

    shape = weather["2m_temperature"].shape
    lazy = dask.map_blocks(
        block,
        chunks=((1,), (1,) * shape[1], (shape[2],), (shape[3],)),
        dtype=np.float32,
        meta=np.empty((0,) * 4, np.float32),
    )
    source = weather.assign({"2m_temperature": (weather["2m_temperature"].dims, lazy)})
    data.InitialStates(source, TASK).state(START)
    assert sorted(set(read)) == [1, 2]


def test_a_finer_source_is_read_at_the_step_of_the_model():
    hourly = weather_samples.weather(frames=24, step="1h")
    states = data.InitialStates(hourly, TASK)
    assert states.time_step == pd.Timedelta("6h") and states.frames == 2
    state = states.state(np.datetime64("2022-01-01T07"))
    np.testing.assert_array_equal(
        state["2m_temperature"], hourly["2m_temperature"][:, [1, 7]]
    )
    assert states.starts[0] == pd.Timestamp("2022-01-01T06")


def test_another_time_step_can_be_asked_for():
    hourly = weather_samples.weather(frames=24, step="1h")
    states = data.InitialStates(hourly, TASK, time_step="3h")
    assert states.frames == 4
    with pytest.raises(ValueError, match="does not divide the input duration"):
        data.InitialStates(hourly, TASK, time_step="5h")


def test_a_gap_takes_starts_away(weather):
    states = data.InitialStates(weather.isel(time=[0, 1, 3, 4, 5]), TASK)
    expected = ["2022-01-01T06", "2022-01-02T00", "2022-01-02T06"]
    assert list(states.starts) == [pd.Timestamp(time) for time in expected]
    lost = "as there is no frame at 2022-01-01T12:00; .* the first of them at 2022"
    with pytest.raises(ValueError, match=f"{lost}-01-01T12:00"):
        states.state(np.datetime64("2022-01-01T18"))


def test_frames_in_any_order_are_found(weather):
    turned = weather.isel(time=[5, 3, 4, 0, 2, 1])
    expected = data.InitialStates(weather, TASK).state(START)
    xarray.testing.assert_equal(data.InitialStates(turned, TASK).state(START), expected)


def test_a_missing_start_names_the_range_and_the_nearest(weather):
    states = data.InitialStates(weather, TASK)
    with pytest.raises(ValueError, match="no forecast can start at 2023-05-05T00:00"):
        states.state(np.datetime64("2023-05-05"))
    with pytest.raises(ValueError) as raised:
        states.require(np.array(["2022-01-01T07", "2022-01-01T08"], "datetime64[ns]"))
    message = str(raised.value)
    assert "and 1 other(s)" in message
    assert "6 times from 2022-01-01T00:00 to 2022-01-02T06:00" in message
    assert "nearest starts: 2022-01-01T06:00, 2022-01-01T12:00" in message


def test_states_before_a_start_can_be_required(weather):
    states = data.InitialStates(weather, TASK)
    states.require(np.array([START]), earlier=1)
    with pytest.raises(ValueError, match="which members need"):
        states.require(np.array([START]), earlier=2, why="members need")


def test_what_follows_ends_at_a_gap(weather):
    states = data.InitialStates(weather, TASK)
    assert states.following(START, 2).sizes["time"] == 2
    assert states.following(START, 9).sizes["time"] == 3
    assert states.following(np.datetime64("2022-01-02T06"), 1) is None
    gap = data.InitialStates(weather.isel(time=[0, 1, 2, 3, 5]), TASK)
    assert gap.following(START, 9).sizes["time"] == 1


def test_static_fields_come_from_a_file_where_the_source_lacks_them(weather):
    names = ["land_sea_mask", "geopotential_at_surface"]
    source = weather.drop_vars("land_sea_mask")
    static = weather[names].isel(lat=slice(None, None, -1)).rename(
        land_sea_mask="lsm", lat="latitude", lon="longitude"
    )  # fmt: skip
    static["geopotential_at_surface"] = static["geopotential_at_surface"] * 0
    states = data.InitialStates(source, TASK, static=static)
    state = states.state(START)
    np.testing.assert_array_equal(state["land_sea_mask"], weather["land_sea_mask"])
    # What the source has is not replaced.
    np.testing.assert_array_equal(
        state["geopotential_at_surface"], weather["geopotential_at_surface"]
    )
    assert any("took land_sea_mask" in change for change in states.changes)


def test_missing_static_fields_ask_for_a_file(weather):
    states = data.InitialStates(weather.drop_vars("land_sea_mask"), TASK)
    with pytest.raises(ValueError, match=r"land_sea_mask: .* with --static"):
        states.state(START)


@pytest.mark.parametrize("part", [slice(None, None, 2), slice(None)])
def test_a_static_file_on_another_grid_is_regridded(weather, part):
    lat, lon = weather["lat"], weather["lon"]
    source = weather.drop_vars("land_sea_mask")
    # Linear in latitude, so that what lies between points is known.
    slope = (lat + 90) / 180 + 0 * lon
    static = slope.transpose("lat", "lon").to_dataset(name="land_sea_mask")
    static = static.isel(lat=part).assign_coords(lon=lon + 1.0)
    states = data.InitialStates(source, TASK, static=static)
    found = states.state(START)["land_sea_mask"]
    assert found.dims == ("lat", "lon")
    inside = (lat >= static["lat"].min()) & (lat <= static["lat"].max())
    np.testing.assert_allclose(
        found.values[inside.values], slope.transpose("lat", "lon")[inside.values],
        atol=1e-6,
    )  # fmt: skip
    note = "regridded land_sea_mask of the static file (between its points)"
    assert note in states.changes


def test_a_static_file_of_finer_cells_gives_their_means(weather):
    source = weather.drop_vars("land_sea_mask")
    lat, lon = weather["lat"].values, weather["lon"].values
    fine = np.arange(-89.5, 90), np.arange(0.5, 360)
    values = np.broadcast_to(np.arange(360) % 2, (180, 360)).astype(np.float32)
    static = xarray.Dataset(
        {"land_sea_mask": (("lat", "lon"), values)}, {"lat": fine[0], "lon": fine[1]}
    )
    states = data.InitialStates(source, TASK, static=static)
    found = states.state(START)["land_sea_mask"]
    assert found.shape == (lat.size, lon.size)
    np.testing.assert_allclose(found, 0.5, atol=0.1)


def test_a_static_file_without_the_field_or_of_another_part_is_refused(weather):
    source = weather.drop_vars("land_sea_mask")
    empty = weather[["geopotential_at_surface"]].rename(geopotential_at_surface="LSM")
    with pytest.raises(ValueError, match="which has LSM"):
        data.InitialStates(source, TASK, static=empty).state(START)
    south = weather[["land_sea_mask"]].sel(lat=slice(None, 0))
    south = (
        south
        if south.sizes["lat"]
        else weather[["land_sea_mask"]].sel(lat=slice(0, None))
    )
    with pytest.raises(ValueError, match="does not cover the grid of the source"):
        data.InitialStates(source, TASK, static=south).state(START)


def test_a_source_needs_dates_of_one_member(weather):
    with pytest.raises(ValueError, match="the source has no dates"):
        data.InitialStates(weather.drop_vars("datetime"), TASK)
    with pytest.raises(ValueError, match="2 batch members"):
        data.InitialStates(weather_samples.weather(batch=2), TASK)
    twice = weather.isel(time=[0, 1, 1])
    with pytest.raises(ValueError, match="2022-01-01T06:00 more than once"):
        data.InitialStates(twice, TASK)


def test_levels_are_chosen_before_they_are_read(weather):
    task = dataclasses.replace(TASK, pressure_levels=(850, 500))
    state = data.InitialStates(weather, task).state(START)
    assert state["level"].values.tolist() == [850, 500]


def test_conform_is_applied_to_the_state_alone(weather):
    source = weather.isel(lat=slice(None, None, -1))
    states = data.InitialStates(source, TASK, conform=True)
    state = states.state(START)
    np.testing.assert_array_equal(state["lat"], weather["lat"])
    assert any("south to north" in change for change in states.changes)
    kept = data.InitialStates(source, TASK).state(START)
    np.testing.assert_array_equal(kept["lat"], source["lat"])


@pytest.mark.parametrize("conform", [False, True])
def test_several_states_are_those_of_each_start(weather, conform):
    source = _as_archive(weather) if conform else weather
    starts = START + np.array([0, 6, 18], "timedelta64[h]")
    found = data.InitialStates(source, TASK, conform=conform).several(starts)
    assert found.sizes["batch"] == 3
    for place, start in enumerate(starts):
        expected = data.InitialStates(source, TASK, conform=conform).state(start)
        xarray.testing.assert_equal(found.isel(batch=[place]), expected)


def test_several_states_name_the_start_that_is_missing(weather):
    starts = START + np.array([0, 3], "timedelta64[h]")
    with pytest.raises(ValueError, match="no forecast can start at 2022-01-01T15:00"):
        data.InitialStates(weather, TASK).several(starts)
