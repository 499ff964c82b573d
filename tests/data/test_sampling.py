"""Series at another step, and rain over another period."""

import pathlib

import numpy as np
import pandas as pd
import pytest
import xarray

from weatherlib import data, data_utils, task

_SHARED = pathlib.Path(__file__).parents[2].parent / "shared" / "data"


def _hourly(hours=30, start="2022-01-01T00", name="total_precipitation", attrs=None):
    rng = np.random.default_rng(3)
    rain = rng.uniform(0, 1e-3, (hours, 2, 3)).astype(np.float32)
    return xarray.Dataset(
        {
            name: (("time", "lat", "lon"), rain, attrs or {"units": "m"}),
            "2m_temperature": (("time", "lat", "lon"), rain + 280),
        },
        coords={
            "time": pd.date_range(start, periods=hours, freq="h"),
            "lat": [0.0, 1.0],
            "lon": [0.0, 1.0, 2.0],
        },
    )


@pytest.mark.parametrize("hours", [6, 12, 24])
def test_sums_end_at_their_time(hours):
    hourly = _hourly()
    summed = data.accumulate_precipitation(hourly, hours)
    name = f"total_precipitation_{hours}hr"
    assert summed.sizes["time"] == 30 - hours + 1
    assert summed["time"].values[0] == hourly["time"].values[hours - 1]
    for frame in (0, -1):
        end = summed["time"].values[frame]
        window = hourly.sel(time=slice(end - np.timedelta64(hours - 1, "h"), end))[
            "total_precipitation"
        ]
        np.testing.assert_allclose(summed[name][frame], window.sum("time"), rtol=1e-6)
    assert summed[name].attrs["cell_methods"] == f"time: sum (interval: {hours} hours)"
    assert summed[name].attrs["units"] == "m"
    assert summed["2m_temperature"].sizes["time"] == summed.sizes["time"]


def test_sums_of_sums_agree():
    hourly = _hourly(48, start="2022-01-01T01")
    six = data.subsample(data.accumulate_precipitation(hourly, 6), "6h")
    twelve = data.accumulate_precipitation(six.drop_vars("total_precipitation"), 12)
    direct = data.accumulate_precipitation(hourly, 12, source="total_precipitation")
    direct = direct.sel(time=twelve["time"])
    np.testing.assert_allclose(
        twelve["total_precipitation_12hr"],
        direct["total_precipitation_12hr"],
        rtol=1e-5,
    )


@pytest.mark.parametrize("frames", [1, 3])
def test_a_sum_over_the_period_wanted_is_taken_as_it_is(frames):
    attrs = {"units": "mm", "cell_methods": "time: sum (interval: 6 hours)"}
    held = _hourly(attrs=attrs).isel(time=[5, 11, 12][:frames])
    found = data.accumulate_precipitation(held, 6)
    six = found["total_precipitation_6hr"]
    np.testing.assert_allclose(six, held["total_precipitation"] / 1e3, rtol=1e-6)
    assert six.attrs["units"] == "m" and six.attrs["cell_methods"].endswith("6 hours)")
    np.testing.assert_array_equal(found["time"], held["time"])
    again = data.accumulate_precipitation(found, 6, source="total_precipitation_6hr")
    xarray.testing.assert_equal(again, found)


def test_sums_of_another_unit_are_in_metres():
    hourly = _hourly()
    millimetres = hourly.assign(
        total_precipitation=(hourly["total_precipitation"] * 1e3).assign_attrs(
            units="kg m**-2"
        )
    )
    np.testing.assert_allclose(
        data.accumulate_precipitation(millimetres, 6)["total_precipitation_6hr"],
        data.accumulate_precipitation(hourly, 6)["total_precipitation_6hr"],
        rtol=1e-5,
    )
    rate = _hourly(attrs={"units": "kg m-2 s-1"})
    with pytest.raises(ValueError, match="'kg m-2 s-1', expected a depth of water"):
        data.accumulate_precipitation(rate, 6)


def test_sums_that_cannot_be_made_are_refused():
    hourly = _hourly()
    with pytest.raises(ValueError, match="do not cover the time between"):
        data.accumulate_precipitation(hourly.isel(time=slice(None, None, 6)), 12)
    with pytest.raises(ValueError, match=r"divides 6 h; the data has none"):
        data.accumulate_precipitation(hourly[["2m_temperature"]], 6)
    with pytest.raises(ValueError, match=r"4 frame.s., sums over 6 h need 6"):
        data.accumulate_precipitation(hourly.isel(time=slice(0, 4)), 6)
    with pytest.raises(ValueError, match="tp: no precipitation of the data"):
        data.accumulate_precipitation(hourly, 6, source="tp")
    with pytest.raises(ValueError, match="uneven steps"):
        data.accumulate_precipitation(hourly.isel(time=[0, 1, 2, 4, 5, 6, 7]), 6)
    grown = _hourly(attrs={"cell_methods": "time: sum (comment: from the start of it)"})
    with pytest.raises(ValueError, match=r"data\.deaccumulate"):
        data.accumulate_precipitation(grown, 6)


def test_sums_from_the_start_become_sums_of_steps():
    hourly = _hourly()
    grown = hourly.assign(
        total_precipitation=hourly["total_precipitation"].cumsum("time")
    )
    steps = data.deaccumulate(grown)
    assert "total_precipitation" not in steps
    np.testing.assert_allclose(
        steps["total_precipitation_1hr"],
        hourly["total_precipitation"].isel(time=slice(1, None)),
        atol=1e-8,
    )
    six = data.accumulate_precipitation(steps, 6)["total_precipitation_6hr"]
    direct = data.accumulate_precipitation(hourly, 6)["total_precipitation_6hr"]
    np.testing.assert_allclose(six, direct.isel(time=slice(1, None)), atol=1e-8)


def test_rounding_is_no_rain_and_gaps_stay():
    grown = _hourly(6)
    values = np.array([1, 2, 2 - 1e-3, 2.5, np.nan, 3]) * 1e-3
    grown["total_precipitation"][:] = values[:, None, None]
    steps = data.deaccumulate(grown)["total_precipitation_1hr"].isel(lat=0, lon=0)
    np.testing.assert_allclose(steps, [1e-3, 0, 5.01e-4, np.nan, np.nan], atol=1e-9)
    with pytest.raises(ValueError, match="rain: not in the data"):
        data.deaccumulate(grown, "rain")


def test_sums_that_begin_anew_every_day_are_understood():
    hourly = _hourly(50, start="2022-01-01T01")
    rain = hourly["total_precipitation"]
    days = (hourly["time"] - np.timedelta64(1, "h")).dt.floor("D")
    grown = hourly.assign(total_precipitation=rain.groupby(days).cumsum("time"))
    steps = data.deaccumulate(grown.transpose("time", ...), begins_anew="24h")
    np.testing.assert_allclose(
        steps["total_precipitation_1hr"], rain.isel(time=slice(1, None)), atol=1e-8
    )


@pytest.mark.parametrize("as_leads", [False, True])
def test_frames_at_multiples_of_a_step_are_taken(as_leads):
    hourly = _hourly(start="2022-01-01T04")
    if as_leads:
        leads = hourly["time"] - np.datetime64("2022-01-01")
        hourly = hourly.assign_coords(time=leads)
    taken = data.subsample(hourly, "6h")
    assert taken.sizes["time"] == 5
    np.testing.assert_array_equal(taken["time"], hourly["time"].values[2::6])
    shifted = data.subsample(hourly, "12h", offset="3h")
    np.testing.assert_array_equal(shifted["time"], hourly["time"].values[11::12])


def test_steps_that_are_not_there_are_refused():
    hourly = _hourly()
    with pytest.raises(ValueError, match="no frame is a multiple of 0 days 06"):
        data.subsample(hourly.isel(time=slice(1, 4)), "6h")
    with pytest.raises(ValueError, match=r"the frame after 2022-01-01T06.* is missing"):
        data.subsample(hourly.drop_isel(time=12), "6h")
    with pytest.raises(ValueError, match="positive"):
        data.subsample(hourly, "0h")
    with pytest.raises(ValueError, match="no axis of dates"):
        data.subsample(hourly.isel(time=0), "6h")


def test_check_says_how_to_make_what_is_missing():
    config = task.TaskConfig(
        input_variables=("total_precipitation_6hr",),
        target_variables=("total_precipitation_6hr",),
        forcing_variables=(),
        pressure_levels=(),
        input_duration="12h",
    )
    hourly = _hourly()

    def problem(dataset, kind="missing"):
        found = data_utils.check(dataset, config, time_step="6h")
        return next(p for p in found if p.kind == kind)

    missing = problem(hourly)
    assert "1 h; expected 6 h" in missing.found
    assert missing.fix == "data.accumulate_precipitation(dataset, 6)"
    assert problem(hourly, "step").fix.startswith("data.subsample(dataset, '6h')")
    grown = _hourly(attrs={"cell_methods": "time: sum (comment: from the start of it)"})
    assert problem(grown).fix.startswith("data.deaccumulate, then data.accumulate")
    daily = hourly.rename(total_precipitation="total_precipitation_24hr")
    assert "a longer sum cannot be split" in problem(daily).fix
    # Of several the one that can be summed counts.
    both = problem(xarray.merge([daily, hourly]))
    assert both.fix == "data.accumulate_precipitation(dataset, 6)"
    four = _hourly(attrs={"cell_methods": "time: sum (interval: 4 hours)"})
    assert "over 4 h cannot be added up" in problem(four).fix
    fixed = data.subsample(data.accumulate_precipitation(hourly, 6), "6h")
    conformed, _ = data.conform(fixed, config)
    assert data_utils.check(conformed, config, time_step="6h") == []


def test_rain_of_a_real_forecast_is_split_and_summed():
    pytest.importorskip("pyproj")
    pytest.importorskip("cfgrib")
    path = _SHARED / "grib" / "meteonet_arpege_PRECIP_NWfrance_20180501T00.grib"
    if not path.exists():
        pytest.skip(f"{path.name} is not here")
    opened = data.open_dataset(path)
    assert "from the start" in opened["total_precipitation"].attrs["cell_methods"]
    hourly = data.deaccumulate(opened)
    assert float(hourly["total_precipitation_1hr"].min()) >= 0
    six = data.accumulate_precipitation(hourly, 6)["total_precipitation_6hr"]
    total = opened["total_precipitation"]
    difference = total.isel(time=-1) - total.isel(time=-7)
    # Sums of this model shrink a little here and there, which is no rain.
    assert float(np.abs(six.isel(time=-1) - difference).max()) < 5e-5
