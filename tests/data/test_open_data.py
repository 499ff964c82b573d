"""Open data of ECMWF, through a client that makes the files itself."""

import datetime
import pathlib

import numpy as np
import pandas as pd
import pytest

from tests.data import gribs
from weatherlib import data, variables
from weatherlib.data import open_data

pytest.importorskip("pyproj")
pytest.importorskip("eccodes")
pytest.importorskip("cfgrib")


class _Client:
    """Stands in for `ecmwf.opendata.Client`."""

    def __init__(self, newest="2026-01-15T12"):
        self.newest = pd.Timestamp(newest).to_pydatetime()
        self.requests = []

    def latest(self, request):
        self.requests.append(dict(request))
        return self.newest

    def retrieve(self, request, target):
        self.requests.append({**request, "target": target})
        moment = pd.Timestamp(request["date"]) + pd.Timedelta(request["time"], "h")
        levels = request.get("levelist", [0])
        content = b"".join(
            gribs.message(name, moment, level, level + moment.hour)
            for name in request["param"]
            for level in levels
        )
        pathlib.Path(target).write_bytes(content)


def test_the_latest_analysis_comes_with_the_one_before(tmp_path):
    client = _Client()
    opened = data.open_latest_analysis(folder=tmp_path, client=client)
    opened, _ = data.canonical(opened)
    assert [str(time)[:13] for time in opened["time"].values] == [
        "2026-01-15T06",
        "2026-01-15T12",
    ]
    assert opened["level"].values.tolist() == [
        50, 100, 150, 200, 250, 300, 400, 500, 600, 700, 850, 925, 1000,
    ]  # fmt: skip
    assert {
        "geopotential",
        "temperature",
        "specific_humidity",
        "vertical_velocity",
        "2m_temperature",
        "10m_u_component_of_wind",
        "mean_sea_level_pressure",
        "land_sea_mask",
    } <= set(opened)
    assert opened["land_sea_mask"].dims == ("time", "lat", "lon")
    # South first, and Greenwich is the fifth column of the file.
    t500 = opened["temperature"].sel(level=500).isel(time=1)
    np.testing.assert_allclose(t500.isel(lat=0, lon=0), 500 + 12 + 4, atol=1e-3)
    np.testing.assert_allclose(t500.isel(lat=4, lon=4), 500 + 12 + 40, atol=1e-3)
    z500 = opened["geopotential"].sel(level=500).isel(time=1, lat=0, lon=0)
    np.testing.assert_allclose(z500, 516 * variables.GRAVITY, rtol=1e-5)
    assert opened["geopotential"].attrs["units"] == "m2 s-2"
    assert "CC BY 4.0" in opened.attrs["licence"]
    ground = opened["geopotential_at_surface"].isel(time=1, lat=0, lon=0)
    np.testing.assert_allclose(ground, 0 + 12 + 4, atol=1e-3)
    assert "level" not in ground.dims


@pytest.fixture
def few_levels(monkeypatch):
    # Most of the time goes into reading what each message holds.
    monkeypatch.setattr(open_data, "_LEVELS", (850, 500))


def test_what_is_there_is_not_fetched_again(tmp_path, few_levels):
    client = _Client()
    data.open_latest_analysis("2026-01-15T06", folder=tmp_path, client=client)
    assert len(client.requests) == 4
    assert {request["step"] for request in client.requests} == {0}
    assert all(r["target"].endswith(".partial") for r in client.requests)
    data.open_latest_analysis("2026-01-15T12", folder=tmp_path, client=client)
    assert len(client.requests) == 6
    assert sorted(path.name for path in tmp_path.iterdir())[:2] == [
        "20260115T00-pl.grib2",
        "20260115T00-sfc.grib2",
    ]


def test_it_is_named_wherever_a_file_is(tmp_path, monkeypatch, few_levels):
    monkeypatch.setattr("pooch.os_cache", lambda project: tmp_path / project)
    client = _Client()
    opened = data.open_dataset("ecmwf-open-data:", client=client)
    assert opened.sizes["time"] == 2
    assert opened["temperature"].dims == ("time", "level", "lat", "lon")
    other = data.open_dataset("ecmwf-open-data:2026-01-14T18", client=client)
    assert other["time"].values[-1] == np.datetime64("2026-01-14T18")
    with pytest.raises(ValueError, match="'yesterday' is no date; write ecmwf-open"):
        data.open_dataset("ecmwf-open-data:yesterday", client=client)


def test_times_are_understood_and_checked(tmp_path, few_levels):
    client = _Client()
    client.newest = datetime.datetime(
        2026, 1, 15, 13, tzinfo=datetime.timezone(datetime.timedelta(hours=1))
    )
    opened = data.open_latest_analysis(folder=tmp_path, frames=1, client=client)
    assert opened["time"].values[-1] == np.datetime64("2026-01-15T12")
    with pytest.raises(ValueError, match="analyses are of 00, 06, 12 and 18 UTC"):
        data.open_latest_analysis("2026-01-15T05", folder=tmp_path, client=client)
    with pytest.raises(ValueError, match="frames is 0"):
        data.open_latest_analysis(frames=0, folder=tmp_path, client=client)


def test_a_connection_that_fails_leaves_nothing_behind(tmp_path):
    class Broken(_Client):
        def retrieve(self, request, target):
            pathlib.Path(target).write_bytes(b"GRIB")
            raise ConnectionError("reset by peer")

        def latest(self, request):
            raise ConnectionError("no route")

    with pytest.raises(OSError, match=r"cannot be found \(no route\)"):
        data.open_latest_analysis(folder=tmp_path, client=Broken())
    with pytest.raises(OSError, match=r"2026-01-14 18.* cannot be fetched .*reset by"):
        data.open_latest_analysis("2026-01-15", folder=tmp_path, client=Broken())
    assert list(tmp_path.iterdir()) == []


def test_the_package_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ecmwf.opendata", None)
    with pytest.raises(ImportError, match=r"pip install .*\[open-data\]"):
        data.open_dataset("ecmwf-open-data:")
