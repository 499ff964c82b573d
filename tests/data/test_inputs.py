import dataclasses

import numpy as np
import pandas as pd
import pytest
import xarray

from tests import weather_samples
from weatherlib import data, variables

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


@pytest.mark.parametrize("conform", [False, True])
@pytest.mark.parametrize(
    ("name", "other"),
    [("geopotential_at_surface", "orography"), ("geopotential", "geopotential_height")],
)
def test_heights_that_say_so_become_geopotential(weather, name, other, conform):
    height = (weather[name] / variables.GRAVITY).assign_attrs(units="m")
    source = weather.drop_vars(name).assign({other: height})
    states = data.InitialStates(source, TASK, conform=conform)
    assert states.changes == [f"converted {name} from m to m2 s-2"]
    np.testing.assert_allclose(
        states.state(START)[name],
        data.InitialStates(weather, TASK).state(START)[name],
        rtol=1e-6,
    )
    assert states.following(START, 1)["geopotential"].attrs.get("units") != "m"


def test_units_are_converted_where_they_are_read(weather):
    pytest.importorskip("dask.array")
    read = []

    def celsius(values):
        read.append(values.sizes["time"])
        return values - 273.15

    stored = weather["2m_temperature"].drop_vars("datetime").chunk({"time": 1})
    warm = xarray.map_blocks(celsius, stored, template=stored)
    source = weather.assign({"2m_temperature": warm.assign_attrs(units="degC")})
    states = data.InitialStates(source, TASK)
    assert read == []
    state = states.state(START)
    assert read == [1, 1]
    np.testing.assert_allclose(
        state["2m_temperature"], weather["2m_temperature"].isel(time=[1, 2]), rtol=1e-6
    )


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


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        ([3], "2 frames 6 h apart, and the source has one frame, at 2022-01-01T18:00"),
        ([1, 3, 5], "the source has 3 frames 12 h apart, from 2022-01-01T06:00 to "
         "2022-01-02T06:00"),
        ([0, 2, 5], "the source has 3 frames 12 h to 18 h apart"),
    ],
)  # fmt: skip
def test_a_source_without_a_start_says_why(weather, frames, words):
    source = weather.isel(time=frames)
    states = data.InitialStates(source, TASK, time_step="6h")
    assert not len(states.starts)
    assert words in states.why_no_start
    with pytest.raises(ValueError, match=words):
        states.state(states.times[0])
    assert data.InitialStates(weather, TASK).why_no_start == ""


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


@pytest.mark.parametrize("conform", [False, True])
def test_a_source_may_have_another_calendar(weather, conform):
    archive = _as_archive(weather)
    states = data.InitialStates(
        archive.convert_calendar("noleap"), TASK, conform=conform
    )
    assert states.changes[0] == "read dates of the calendar noleap in time"
    xarray.testing.assert_equal(
        states.state(START),
        data.InitialStates(archive, TASK, conform=conform).state(START),
    )
    days = xarray.date_range("2003-02-27", periods=6, calendar="360_day")
    with pytest.raises(ValueError, match="the calendar 360_day has the day 2003-02-29"):
        data.InitialStates(archive.assign_coords(time=days), TASK)


def test_what_a_source_has_in_place_of_dates_is_said(weather):
    leads = weather.drop_vars("datetime")
    with pytest.raises(ValueError, match="the source has no dates but lead times"):
        data.InitialStates(leads, TASK)
    with pytest.raises(ValueError, match="no dates but int64 such as 0"):
        data.InitialStates(leads.assign_coords(time=range(6)), TASK)


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


RAIN = "total_precipitation_6hr"
RAINY = dataclasses.replace(TASK, input_variables=(*TASK.input_variables, RAIN))


def _hourly(frames=24):
    """Returns weather with precipitation of the last hour only, as ARCO-ERA5 has it."""
    hourly = weather_samples.weather(frames=frames, step="1h")
    return hourly.rename({RAIN: "total_precipitation"})


def _six_hours(hourly, end):
    """Returns the sum over the six hours up to a frame."""
    rain = hourly["total_precipitation"].isel(time=slice(end - 5, end + 1))
    return rain.astype(np.float64).sum("time")


@pytest.mark.parametrize("conform", [False, True])
def test_hourly_precipitation_is_summed_over_the_period_of_the_model(conform):
    hourly = _hourly()
    states = data.InitialStates(hourly, RAINY, time_step="6h", conform=conform)
    assert states.changes == [f"summed total_precipitation over 6 h to {RAIN}"]
    # The first frame with six hours of rain is at 05.
    assert states.starts[0] == pd.Timestamp("2022-01-01T11")
    short = data.InitialStates(hourly.isel(time=slice(0, 7)), RAINY, time_step="6h")
    assert "with total_precipitation of all 6 h before it" in short.why_no_start
    state = states.state(np.datetime64("2022-01-01T12"))
    assert "total_precipitation" not in state
    for frame, end in enumerate((6, 12)):
        np.testing.assert_allclose(
            state[RAIN].isel(time=frame), _six_hours(hourly, end), rtol=1e-6
        )
    assert state[RAIN].dims == ("batch", "time", "lat", "lon")
    assert state[RAIN].attrs["units"] == "m"
    after = states.following(np.datetime64("2022-01-01T12"), 1)
    np.testing.assert_allclose(
        after[RAIN].isel(time=0), _six_hours(hourly, 18), rtol=1e-6
    )
    several = states.several(
        np.array(["2022-01-01T12", "2022-01-01T18"], "datetime64[ns]")
    )
    xarray.testing.assert_equal(several.isel(batch=[0]), state)
    with pytest.raises(
        ValueError, match=r"not all frames of .* up to 2022-01-01T04:00"
    ):
        states.state(np.datetime64("2022-01-01T10"))


def test_hours_that_are_missing_or_in_disorder_take_starts_away():
    hourly = _hourly(30)
    places = np.random.default_rng(0).permutation(np.delete(np.arange(30), 15))
    states = data.InitialStates(hourly.isel(time=places), RAINY, time_step="6h")
    hours = [time.hour + 24 * (time.day - 1) for time in states.starts]
    # Sums up to 15 to 20 lack an hour, and so do forecasts that read them.
    assert hours == [11, 12, 13, 14, 27, 28, 29]
    state = states.state(np.datetime64("2022-01-02T03"))
    expected = _six_hours(hourly, 27)
    np.testing.assert_allclose(state[RAIN].isel(time=1), expected, rtol=1e-6)


def test_only_the_hours_of_a_sum_are_read():
    pytest.importorskip("dask.array")
    hourly, read = _hourly(), []

    def counted(values):
        read.extend(values["hour"].values.ravel().tolist())
        return values.drop_vars("hour")

    numbers = ("time", np.arange(24))
    rain = hourly["total_precipitation"].drop_vars("datetime")
    stored = rain.assign_coords(hour=numbers).chunk({"time": 1})
    rain = xarray.map_blocks(counted, stored, template=stored.drop_vars("hour"))
    source = hourly.assign(total_precipitation=rain * 1e3)
    source["total_precipitation"].attrs["units"] = "mm"
    states = data.InitialStates(source, RAINY, time_step="6h")
    assert read == []
    state = states.state(START)
    assert sorted(set(read)) == list(range(1, 13))
    expected = _six_hours(hourly, 12)
    np.testing.assert_allclose(state[RAIN].isel(time=1), expected, rtol=1e-5)


def test_precipitation_that_is_only_a_target_takes_no_start_away():
    states = data.InitialStates(_hourly(14), TASK, time_step="6h")
    assert states.starts[0] == pd.Timestamp("2022-01-01T06")
    early = np.datetime64("2022-01-01T06")
    assert RAIN not in states.state(early)
    assert RAIN in states.following(early, 1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.isel(time=slice(None, None, 6)), "0 days 06:00:00 these do not"),
        (lambda d: d.rename(total_precipitation="total_precipitation_12hr"),
         "over 12 h, of which none adds up to 6 h"),
        (lambda d: d.assign(total_precipitation=d["total_precipitation"].assign_attrs(
            cell_methods="time: sum (comment: from the start of the forecast)")),
         r"data\.deaccumulate"),
        (lambda d: d.assign(total_precipitation=d["total_precipitation"].assign_attrs(
            units="kg m-2 s-1")), "in 'kg m-2 s-1', which is no depth of water"),
    ],
)  # fmt: skip
def test_precipitation_that_cannot_be_summed_is_explained(change, words):
    states = data.InitialStates(change(_hourly()), RAINY, time_step="6h")
    with pytest.raises(ValueError, match=rf"{RAIN}: the model reads sums.*{words}"):
        states.state(START)
    # What is only a target may be missing.
    states = data.InitialStates(change(_hourly()), TASK, time_step="6h")
    assert RAIN not in states.state(START)
