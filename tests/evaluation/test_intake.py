import numpy as np
import pytest
import xarray

from tests.evaluation import samples
from weatherlib.data import layout
from weatherlib.data_utils import lexicon
from weatherlib.evaluation import intake

_DIMS = {"init_time": 12, "lead_time": 3, "level": 2, "lat": 8, "lon": 12}


def _same(found, expected):
    for name in expected.data_vars:
        order = expected[name].dims
        np.testing.assert_allclose(found[name].transpose(*order), expected[name])


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d,
        lambda d: d.rename(latitude="lat", longitude="lon"),
        lambda d: d.rename(time="init_time", prediction_timedelta="lead_time"),
        lambda d: d.rename(prediction_timedelta="step"),
        lambda d: d.sortby("latitude", ascending=False),
        lambda d: d.assign_coords(
            longitude=(d["longitude"].values + 180) % 360 - 180
        ).sortby("longitude"),
        lambda d: d.rename(geopotential="z", **{"2m_temperature": "t2m"}),
        lambda d: d.assign_coords(level=d["level"].values * 100).rename(level="plev"),
        lambda d: d.assign_coords(
            prediction_timedelta=(
                "prediction_timedelta", [12, 24, 36], {"units": "hours"})),
        lambda d: d.transpose(..., "time").isel(time=slice(None, None, -1)),
    ],
)  # fmt: skip
def test_every_layout_of_a_hindcast_set_ends_in_one(change):
    made = samples.pair()[0]
    found = intake.as_forecasts(change(made))
    assert dict(found.sizes) == _DIMS
    assert (np.diff(found["lat"]) > 0).all() and (np.diff(found["lon"]) > 0).all()
    assert found["level"].values.tolist() == [500, 850]
    _same(found, intake.as_forecasts(made))


@pytest.mark.parametrize(
    ("east", "expected"),
    [
        ([0, 10, 340, 350], [-20, -10, 0, 10]),
        ([-20, -10, 0, 10], [-20, -10, 0, 10]),
        ([170, 180, -170, -160], [170, 180, 190, 200]),
        ([0, 10, 20, 30], [0, 10, 20, 30]),
        ([-180, -90, 0, 90], [0, 90, 180, 270]),
    ],
)
def test_columns_run_from_west_to_east(east, expected):
    made = samples.forecasts(samples.truth(columns=4)).assign_coords(longitude=east)
    found = intake.as_forecasts(made)
    assert found["lon"].values.tolist() == expected
    place = [[x % 360 for x in east].index(x % 360) for x in expected]
    values = made["2m_temperature"].isel(longitude=place).values
    np.testing.assert_array_equal(found["2m_temperature"].values, values)


@pytest.mark.parametrize("name", lexicon.MEMBERS)
def test_members_have_one_name(name):
    made = samples.forecasts(samples.truth(), members=3).rename(number=name)
    found = intake.as_forecasts(made)
    assert found.sizes["number"] == 3
    if name != "number":
        # A control's number, left behind as a scalar, is none of the members.
        left = made.assign_coords(number=0)
        assert intake.as_forecasts(left).sizes["number"] == 3


def test_a_forecast_file_of_ours_is_a_set_of_one_start():
    made = intake.as_forecasts(samples.pair()[0])
    starts = made["init_time"].values[:2]
    chunk = made.isel(init_time=slice(0, 2)).rename(init_time="batch", lead_time="time")
    chunk = chunk.drop_vars("batch")
    stored = layout.encode(chunk, starts)
    encoded = xarray.decode_cf(stored, decode_timedelta=False)
    decoded = encoded.assign_coords(time=chunk["time"])
    found = intake.as_forecasts(decoded)
    np.testing.assert_array_equal(found["init_time"], starts)
    _same(found, made.isel(init_time=slice(0, 2)))
    one = intake.as_forecasts(decoded.isel(batch=0))
    assert one["init_time"].values.tolist() == [starts[0].item()]
    # Members along the batch, all of one start.
    same = decoded.drop_vars("valid_time").assign_coords(
        forecast_reference_time=("batch", starts[[0, 0]])
    )
    assert dict(intake.as_forecasts(same).sizes)["number"] == 2


def test_a_series_of_analyses_has_lead_time_zero():
    found = intake.as_forecasts(samples.truth())
    assert found["lead_time"].values.tolist() == [0]
    assert found.sizes["init_time"] == 24


def test_truth_is_put_in_order():
    happened = samples.truth()
    shuffled = happened.isel(time=[3, 0, 2, 1])
    found = intake.as_truth(shuffled)
    np.testing.assert_array_equal(found["time"], happened["time"][:4])
    datetimes = happened.assign_coords(
        time=happened["time"] - happened["time"][0],
        datetime=(("batch", "time"), happened["time"].values[None]),
    )
    np.testing.assert_array_equal(intake.as_truth(datetimes)["time"], happened["time"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.drop_vars("time"), "no starts as dates|neither starts"),
        (lambda d: d.drop_vars(["time", "prediction_timedelta"]), "neither starts"),
        (lambda d: d.rename(latitude="row"), "no horizontal grid"),
        (lambda d: d.isel(time=[0, 1, 1]), "init_time occurs more than once"),
        (lambda d: d.isel(time=[]), "mine: init_time has no value"),
        (lambda d: d.isel(prediction_timedelta=[]), "mine: lead_time has no value"),
        (lambda d: d.assign_coords(prediction_timedelta=[0.5, 1, 1.5]),
         "mine: prediction_timedelta holds numbers without units, such as 1.5; give"),
        (lambda d: d.assign_coords(prediction_timedelta=[1, 2, 7 * 10**13]),
         "such as 7e.13; give the file some, such as with `ncatted -a units,pred"),
    ],
)  # fmt: skip
def test_forecasts_that_cannot_be_understood_say_why(change, message):
    with pytest.raises(ValueError, match=message):
        intake.as_forecasts(change(samples.pair()[0]), "mine")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.drop_vars("time"), "no dates"),
        (lambda d: d.isel(time=[0, 1, 1]), "more than once"),
        (lambda d: d.expand_dims(number=3), "3 members along number"),
    ],
)
def test_truth_that_cannot_be_understood_says_why(change, message):
    with pytest.raises(ValueError, match=message):
        intake.as_truth(change(samples.truth()))


def test_other_units_are_refused_and_spellings_are_not():
    happened = samples.truth()
    forecast, truth = happened["2m_temperature"], happened["2m_temperature"].copy()
    assert intake.common_units(forecast, truth, "2m_temperature") == "K"
    truth.attrs["units"] = "Kelvin"
    assert intake.common_units(forecast, truth, "2m_temperature") == "K"
    truth.attrs["units"] = "degC"
    with pytest.raises(ValueError, match="forecast is in K, the truth in degC"):
        intake.common_units(forecast, truth, "2m_temperature")
