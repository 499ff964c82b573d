import pathlib

import numpy as np
import pytest
import xarray
from hypothesis import given
from hypothesis import strategies as st

from weatherlib.cli import verification


def _weather(times=3, levels=(500, 700, 850), batch=2, offset=0.0):
    lat, lon = np.linspace(-75, 75, 6), np.arange(0, 360, 60.0)
    lead = (np.arange(1, times + 1) * np.timedelta64(6, "h")).astype("timedelta64[ns]")
    surface = np.full((batch, times, 6, 6), 280.0) + offset
    upper = np.full((batch, times, len(levels), 6, 6), 5000.0) + offset
    upper += np.arange(len(levels))[:, None, None] * offset
    return xarray.Dataset(
        {
            "2m_temperature": (("batch", "time", "lat", "lon"), surface),
            "geopotential": (("batch", "time", "level", "lat", "lon"), upper),
        },
        coords={"lat": lat, "lon": lon, "time": lead, "level": list(levels)},
    )


def test_errors_are_those_of_each_source_variable_and_level():
    truth, forecast = _weather(), _weather(offset=3.0)
    initial = _weather(offset=-5.0).isel(time=0, drop=True)
    found = verification.scores(forecast, truth, initial)
    assert list(found) == [
        "2m_temperature",
        "geopotential_500",
        "geopotential_700",
        "geopotential_850",
    ]
    np.testing.assert_allclose(found["2m_temperature"], [[3] * 3, [5] * 3])
    np.testing.assert_allclose(found["geopotential_850"], [[9] * 3, [15] * 3])
    assert found["geopotential_850"].attrs["units"] == "m2 s-2"


def test_the_order_of_dimensions_and_later_leads_make_no_difference():
    truth = _weather()
    forecast = _weather(times=5, offset=3.0).transpose("time", ..., "batch")
    forecast = forecast.sortby("lat", ascending=False)
    initial = truth.isel(time=0, drop=True)
    found = verification.scores(forecast, truth, initial)
    np.testing.assert_allclose(found["geopotential_700"][0], [6] * 3)


@given(row=st.integers(0, 5))
def test_rows_count_by_their_area(row):
    truth = _weather(batch=1)
    forecast = truth.copy(deep=True)
    forecast["2m_temperature"][:, :, row] += 1.0
    found = verification.scores(forecast, truth, truth.isel(time=0, drop=True))
    weights = np.cos(np.deg2rad(truth["lat"].values))
    expected = np.sqrt(weights[row] / weights.sum())
    np.testing.assert_allclose(found["2m_temperature"][0], expected)


def test_missing_values_are_left_out_with_their_weight():
    truth, forecast = _weather(), _weather(offset=2.0)
    truth["2m_temperature"][:, 0, :3] = np.nan
    truth["2m_temperature"][:, 1] = np.nan
    found = verification.scores(forecast, truth, _weather().isel(time=0, drop=True))
    np.testing.assert_allclose(found["2m_temperature"][0], [2, np.nan, 2])


def test_persistence_is_unknown_for_what_was_not_there_before():
    truth = _weather()
    initial = truth.isel(time=0, drop=True).drop_vars("2m_temperature")
    found = verification.scores(truth, truth, initial)
    assert np.isnan(found["2m_temperature"].sel(source="persistence")).all()
    assert (found["geopotential_500"] == 0).all()


def test_the_table_shows_two_levels_and_few_leads_in_readers_units():
    truth, forecast = _weather(times=40), _weather(times=40, offset=98.0665)
    found = verification.scores(forecast, truth, truth.isel(time=0, drop=True))
    heading, rows = verification.score_rows(found)
    assert heading[:3] == ["variable", "unit", "+6 h"] and heading[-1] == "+240 h"
    assert len(heading) == 8
    assert [row[0] for row in rows] == [
        "2m_temperature",
        "geopotential_500",
        "geopotential_850",
    ]
    assert rows[1][1:3] == ["dam", "1 (0)"]


def test_other_levels_are_shown_where_the_usual_ones_are_missing():
    truth = _weather(levels=(100, 200, 300))
    found = verification.scores(truth, truth, truth.isel(time=0, drop=True))
    rows = verification.score_rows(found)[1]
    assert [row[0] for row in rows][1:] == ["geopotential_100", "geopotential_200"]


def test_the_headline_has_the_scores_that_say_most_or_any():
    truth = _weather()
    found = verification.scores(truth, truth, truth.isel(time=0, drop=True))
    assert list(verification.headline(found)) == ["geopotential_500", "2m_temperature"]
    other = found[["geopotential_700"]]
    assert list(verification.headline(other)) == ["geopotential_700"]


def test_the_file_of_scores_has_a_line_for_each(tmp_path):
    truth = _weather(times=2)
    found = verification.scores(
        _weather(times=2, offset=1.5), truth, truth.isel(time=0, drop=True)
    )
    path = verification.write_csv(found, tmp_path / "rmse.csv")
    lines = path.read_text().splitlines()
    assert lines[0] == "variable,unit,source,lead_hours,rmse"
    assert lines[1] == "2m_temperature,K,forecast,6,1.5"
    assert len(lines) == 1 + 4 * 2 * 2
    with pytest.raises(FileNotFoundError):
        verification.write_csv(found, tmp_path / "no" / "rmse.csv")


def test_scores_have_their_name_only_when_they_are_complete(tmp_path, monkeypatch):
    truth, path = _weather(), tmp_path / "rmse.csv"
    found = verification.scores(truth, truth, truth.isel(time=0, drop=True))
    path.write_text("older")

    def fail(*_, **__):
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pathlib.Path, "write_text", fail)
        with pytest.raises(OSError, match="No space"):
            verification.write_csv(found, path)
    assert path.read_text() == "older"
    written = []
    replace = pathlib.Path.replace
    monkeypatch.setattr(
        pathlib.Path,
        "replace",
        lambda old, new: written.append(old.name) or replace(old, new),
    )
    assert verification.write_csv(found, path) == path
    assert written == ["rmse.csv.partial"]
    assert [p.name for p in tmp_path.iterdir()] == ["rmse.csv"]
    assert path.read_text().startswith("variable,unit,source,lead_hours,rmse\n")
