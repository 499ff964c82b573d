"""GRIB files of forecasts and of several kinds of level, made here."""

import numpy as np
import pandas as pd
import pytest
import xarray

from tests.data import gribs
from weatherlib import data
from weatherlib.data import grib

pytest.importorskip("pyproj")
pytest.importorskip("cfgrib")

_MOMENT = pd.Timestamp("2026-01-15T06")


def _forecasts(path, starts=(0, 12), steps=(6, 12), level=500):
    """Writes temperatures of 100 by start and 1 by step, in the first corner."""
    return gribs.write(
        path,
        [
            gribs.message("t", _MOMENT + pd.Timedelta(start, "h"), level,
                          100 * place + number, step=step)
            for place, start in enumerate(starts)
            for number, step in enumerate(steps)
        ],
    )  # fmt: skip


def test_starts_and_lead_times_are_kept_on_request(tmp_path):
    path = _forecasts(tmp_path / "forecasts.grib2")
    opened = data.open_dataset(path, by_start=True)
    temperature = opened["temperature"].isel(lat=0).sel(lon=180, level=500)
    assert temperature.dims == ("time", "prediction_timedelta")
    np.testing.assert_allclose(temperature, [[0, 1], [100, 101]], atol=1e-3)
    hours = opened["prediction_timedelta"].values / np.timedelta64(1, "h")
    assert hours.tolist() == [6, 12]
    assert opened["time"].values[0] == np.datetime64(_MOMENT)
    assert "valid_time" not in opened.coords
    series = data.open_dataset(path)["temperature"].isel(lat=0).sel(lon=180, level=500)
    assert series.dims == ("time",)
    np.testing.assert_allclose(series, [0, 1, 100, 101], atol=1e-3)


def test_a_single_forecast_keeps_its_lead_time(tmp_path):
    path = _forecasts(tmp_path / "one.grib2", starts=(0,), steps=(96,))
    opened = data.open_dataset(path, by_start=True)
    assert dict(opened.sizes) == {
        "time": 1, "prediction_timedelta": 1, "level": 1, "lat": 5, "lon": 8,
    }  # fmt: skip
    assert opened["prediction_timedelta"].values[0] == np.timedelta64(96, "h")


def test_fields_without_a_forecast_axis_do_not_get_one():
    lead = np.array([6, 12], "timedelta64[h]").astype("timedelta64[ns]")
    start = np.datetime64("2026-01-15", "ns")
    dataset = xarray.Dataset(
        {"t": (("step", "y"), np.ones((2, 3))), "land": ("y", np.ones(3))},
        {"step": lead, "time": start, "valid_time": ("step", start + lead)},
    )
    found = grib.with_lead_time(dataset)
    assert found["t"].dims == ("time", "prediction_timedelta", "y")
    assert found["land"].dims == ("y",)
    plain = dataset.drop_vars(["step", "valid_time"])
    assert grib.with_lead_time(plain) is plain


def test_of_several_kinds_of_level_what_is_known_is_read(tmp_path):
    levels = [gribs.message(n, _MOMENT, level, level)
              for level in (500, 850) for n in ("t", "u")]  # fmt: skip
    others = [
        gribs.message("u", _MOMENT, 0, 20, height=20),
        gribs.message("u", _MOMENT, 0, 80, height=80),
        gribs.message("100u", _MOMENT, 0, 100),
        gribs.message("t", _MOMENT, 0, 80, height=80),
        gribs.message("t", _MOMENT, 0, 280, kind="surface"),
        gribs.message("2t", _MOMENT, 0, 2),
        gribs.message("10u", _MOMENT, 0, 10),
        gribs.message("q", _MOMENT, 500, 1),
    ]
    path = gribs.write(tmp_path / "all.grib2", levels + others)
    words = r"left out t on heightAboveGround, surface; .*u on heightAb.*q on 1 of 2"
    with pytest.warns(UserWarning, match=words):
        opened = data.open_dataset(path)
    assert set(opened.data_vars) == {
        "temperature", "u_component_of_wind", "2m_temperature",
        "10m_u_component_of_wind", "100m_u_component_of_wind",
    }  # fmt: skip
    corner = opened.isel(time=0, lat=0).sel(lon=180)
    for name in ("temperature", "u_component_of_wind"):
        np.testing.assert_allclose(corner[name], [500, 850], atol=0.1)
    for name, value in (("2m_temperature", 2), ("100m_u_component_of_wind", 100)):
        np.testing.assert_allclose(corner[name], value, atol=0.1)


@pytest.mark.parametrize("lost", [1, 100, 290])
def test_a_file_that_was_cut_short_is_damaged(tmp_path, caplog, lost):
    whole = _forecasts(tmp_path / "a.grib2")
    cut = tmp_path / "b.grib2"
    cut.write_bytes(whole.read_bytes()[:-lost])
    with pytest.raises(OSError, match=r"b\.grib2: .*damaged or cut short"):
        data.open_dataset(cut)
    with pytest.warns(UserWarning, match="skipped 1 of 2 files"):
        opened = data.open_dataset(tmp_path, on_error="skip")
    assert list(opened.encoding["skipped"]) == [str(cut)]
    assert opened.sizes["time"] == 4
    # The package below reports what it skips with a traceback.
    assert not caplog.records


def test_a_message_that_is_damaged_inside_a_file_is_not_skipped(tmp_path):
    path = _forecasts(tmp_path / "a.grib2")
    content = path.read_bytes()
    end = content.index(b"7777")
    path.write_bytes(content[:end] + b"0000" + content[end + 4 :])
    with pytest.raises(OSError, match=r"a\.grib2: .*damaged or cut short"):
        data.open_dataset(path)


def test_a_file_of_which_nothing_is_certain_is_refused(tmp_path):
    path = gribs.write(
        tmp_path / "two.grib2",
        [gribs.message("t", _MOMENT, 0, 80, height=80),
         gribs.message("t", _MOMENT, 0, 280, kind="surface")],
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"two.grib2: t occur on several kinds of lev"):
        data.open_dataset(path)


def test_heights_that_name_a_variable_are_told_from_others(monkeypatch, tmp_path):
    import cfgrib

    path = _forecasts(tmp_path / "one.grib2", starts=(0,), steps=(0,))
    field = (("heightAboveGround", "latitude", "longitude"), np.zeros((2, 3, 4)))
    field[1][:] += np.array([10, 80])[:, None, None]
    part = xarray.Dataset(
        {"u": (*field, {"GRIB_typeOfLevel": "heightAboveGround"})},
        {"heightAboveGround": [10.0, 80.0], "latitude": [-45.0, 0.0, 45.0],
         "longitude": np.arange(4) * 90.0, "time": np.datetime64(_MOMENT),
         "step": np.timedelta64(0, "ns"), "valid_time": np.datetime64(_MOMENT)},
    )  # fmt: skip
    monkeypatch.setattr(cfgrib, "open_datasets", lambda *args, **kwargs: [part])
    found = grib.open_grib(path)
    np.testing.assert_array_equal(
        found["10m_u_component_of_wind"], np.full((1, 3, 4), 10)
    )
    assert (found["u"].values == 80).all()
