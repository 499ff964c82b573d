"""Opening weather data, and saying what is wrong with a file."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest
import xarray

from tests.conftest import GOLDENS
from tests.weather_samples import weather
from weatherlib import data, data_utils, optional, task
from weatherlib.data import grib, sniff

_SHARED = pathlib.Path(__file__).parents[2].parent / "shared" / "data"
_PRESSURE_LEVELS = _SHARED / "grib" / "ecmwf_pl_10deg_ztuvr_20240603-04.grib"
_ERA5 = _SHARED / "era5_global_2p5deg_6h_msl_vo850_20251201-20260131.nc"

_SOURCE = next((GOLDENS / "graphcast" / "a_10deg_13lev").glob("source-*"))


def _need(path):
    if not path.exists():
        pytest.skip(f"{path.name} is not here")
    return path


def _sample():
    return weather(2)[["2m_temperature", "temperature"]].drop_vars("datetime")


@pytest.mark.parametrize(
    ("engine", "form"),
    [
        ("netcdf4", "NETCDF3_CLASSIC"),
        ("netcdf4", "NETCDF3_64BIT"),
        ("netcdf4", "NETCDF4"),
        ("h5netcdf", "NETCDF4"),
    ],
)
def test_every_form_of_netcdf_is_read(tmp_path, engine, form):
    path = tmp_path / "weather.nc"
    _sample().to_netcdf(path, engine=engine, format=form)
    with data.open_dataset(path) as opened:
        assert opened["time"].dtype == "timedelta64[ns]"
        np.testing.assert_array_equal(opened["temperature"], _sample()["temperature"])


def test_the_published_files_are_read_by_path_and_as_open_files():
    with data.open_dataset(_SOURCE) as by_path, _SOURCE.open("rb") as file:
        with data.open_dataset(file) as by_file:
            xarray.testing.assert_equal(by_path.load(), by_file.load())
        assert by_path["time"].dtype == "timedelta64[ns]"
        assert by_path["datetime"].dtype == "datetime64[ns]"
        assert data_utils.check(by_path, task.TASK_13) == []


def test_dask_arrays_are_made_on_request():
    with data.open_dataset(_SOURCE, chunks={}) as opened:
        assert opened["temperature"].chunks is not None
    with data.open_dataset(str(_SOURCE)) as opened:
        assert opened["temperature"].chunks is None


def test_quantities_in_seconds_stay_numbers(tmp_path):
    path = tmp_path / "waves.nc"
    period = xarray.Dataset(
        {"wave_period": ("time", [5.0, 7.0], {"units": "s"})},
        coords={"time": ("time", [0, 6], {"units": "hours"})},
    )
    period.to_netcdf(path)
    with data.open_dataset(path) as opened:
        assert opened["wave_period"].values.tolist() == [5, 7]
        assert opened["time"].values[1] == np.timedelta64(6, "h")


def test_packed_values_are_unpacked_on_opening(tmp_path):
    path = tmp_path / "packed.nc"
    encoding = {"scale_factor": 0.01, "add_offset": 280.0, "dtype": "int16"}
    encoding["_FillValue"] = -32768
    _sample()[["2m_temperature"]].to_netcdf(path, encoding={"2m_temperature": encoding})
    with data.open_dataset(path) as opened:
        np.testing.assert_allclose(
            opened["2m_temperature"], _sample()["2m_temperature"], atol=0.006
        )


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_zarr_stores_are_read(tmp_path, zarr_format):
    if zarr_format == 3:
        pytest.importorskip("zarr", minversion="3")
    path = tmp_path / "weather.zarr"
    with data.open_writer(path, zarr_format=zarr_format) as writer:
        writer.write(_sample())
    with data.open_dataset(path) as opened:
        np.testing.assert_array_equal(
            opened["temperature"].transpose(*_sample()["temperature"].dims),
            _sample()["temperature"],
        )


def test_a_missing_file_comes_with_similar_names(tmp_path):
    (tmp_path / "era5_2022.nc").touch()
    (tmp_path / "notes.txt").touch()
    with pytest.raises(FileNotFoundError, match=r"did you mean era5_2022\.nc\?"):
        data.open_dataset(tmp_path / "era5_2023.nc")
    with pytest.raises(FileNotFoundError, match=r"did you mean era5_2022\.nc\?"):
        data.open_dataset(tmp_path / "quite-another-name.nc")
    with pytest.raises(FileNotFoundError, match=r"no such file$"):
        data.open_dataset(tmp_path / "zzzzzzz.grib")
    with pytest.raises(FileNotFoundError, match=r"the folder .* does not exist"):
        data.open_dataset(tmp_path / "no" / "such.nc")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html>", r"web page \(HTML\)"),
        (b"\n <HTML>", r"web page \(HTML\)"),
        (b"<?xml version='1.0'?><Error>", "XML"),
        (b"PK\x03\x04rest", "zip archive"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"BZh91AY", "bzip2"),
        (b"\xfd7zXZ\x00", "xz"),
        (b"\x93NUMPY\x01", "NumPy array"),
        (b"%PDF-1.7", "PDF"),
        (b"\x89PNG\r\n", "PNG"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git-lfs"),
        (b"PAR1", "Parquet"),
        (b"BUFR", "BUFR"),
        (b"\x80\x04pickle", "pickle"),
        (b'{"a": 1}', "JSON"),
        ("température, pression\n1, 2".encode(), "text that begins with"),
        (b"\x00\x01\xff\xfe\x80\x80\x90", "unknown kind .*first bytes 00 01 ff"),
    ],
)
def test_what_is_no_weather_data_is_described(tmp_path, content, words):
    path = tmp_path / "weather.nc"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"not NetCDF, Zarr or GRIB; it is .*{words}"):
        data.open_dataset(path)


def test_folders_that_are_no_store_are_described(tmp_path):
    with pytest.raises(ValueError, match="an empty folder"):
        data.open_dataset(tmp_path)
    (tmp_path / "a.png").touch()
    with pytest.raises(ValueError, match=r"a folder with a\.png"):
        data.open_dataset(tmp_path)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.99])
def test_a_file_cut_short_is_named(tmp_path, share):
    content = _SOURCE.read_bytes()
    path = tmp_path / "cut.nc"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(OSError, match=r"cut\.nc: damaged or cut short \(.*truncated"):
        data.open_dataset(path)


@pytest.mark.parametrize("form", ["NETCDF3_CLASSIC", "NETCDF3_64BIT"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_an_older_file_cut_short_is_named(tmp_path, form, share):
    whole = tmp_path / "whole.nc"
    weather(2)[["2m_temperature", "temperature"]].to_netcdf(whole, format=form)
    content = whole.read_bytes()
    path = tmp_path / "cut.nc"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(OSError, match=r"cut\.nc: damaged or cut short"):
        data.open_dataset(path)


def test_a_damaged_store_is_named(tmp_path):
    path = tmp_path / "weather.zarr"
    path.mkdir()
    (path / ".zgroup").write_text("{broken")
    with pytest.raises(OSError, match=r"weather\.zarr: damaged"):
        data.open_dataset(path)


@pytest.mark.parametrize("source", ["", " ", ["a.nc", ""]])
def test_an_empty_name_is_not_the_current_folder(tmp_path, monkeypatch, source):
    _sample().to_netcdf(tmp_path / "a.nc")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="the name of the source is empty"):
        data.open_dataset(source)
    assert "temperature" in data.open_dataset(".")


def test_open_files_of_another_kind_are_refused(tmp_path):
    path = tmp_path / "text.nc"
    path.write_text("no data")
    with path.open("rb") as file, pytest.raises(OSError, match=r"text\.nc: cannot be"):
        data.open_dataset(file)


def test_lead_times_in_strange_units_are_named(tmp_path):
    path = tmp_path / "odd.nc"
    xarray.Dataset(coords={"time": ("time", [0, 6], {"units": "furlongs"})}).to_netcdf(
        path
    )
    hint = "furlongs.*; correct the attribute, such as to 'hours since 1900-01-01'"
    with pytest.raises(ValueError, match=rf"odd\.nc: time: units '{hint}"):
        data.open_dataset(path)


def test_dates_that_cannot_be_read_are_named(tmp_path):
    path = tmp_path / "odd.nc"
    units = {"units": "days since the flood"}
    xarray.Dataset(coords={"time": ("time", [0, 6], units)}).to_netcdf(path)
    with pytest.raises(ValueError, match=r"odd\.nc: cannot be decoded") as raised:
        data.open_dataset(path)
    assert "correct the attributes units" in str(raised.value)
    assert "decode_times" not in str(raised.value)


_DAYS = ["2003-02-27T00", "2003-02-27T06", "2003-02-27T12", "2003-02-27T18"]


def _timed(path, values, **attrs):
    """Writes four frames with times as they are given."""
    frames = weather(4)[["2m_temperature"]].isel(batch=0).drop_vars("datetime")
    frames.assign_coords(time=("time", values, attrs)).to_netcdf(path)
    return path


@pytest.mark.parametrize(
    ("values", "attrs", "form"),
    [
        (np.arange(4) * 6, {"units": "hours since 2003-02-27", "calendar": "noleap"},
         "of the calendar noleap"),
        (np.arange(4) * 6, {"units": "hours since 2003-02-27", "calendar": "360_day"},
         "of the calendar 360_day"),
        # The dates of this one are of another day in the calendar of today.
        (np.arange(4) * 6, {"units": "hours since 2003-02-14", "calendar": "julian"},
         "of the calendar julian"),
        (_DAYS, {}, "as text"),
        ([f"{day.replace('T', ' ')}:00:00Z" for day in _DAYS], {}, "as text"),
        ([2003022700, 2003022706, 2003022712, 2003022718], {}, "as numbers"),
        ([2003022700, 2003022706, 2003022712, 2003022718], {"units": "YYYYMMDDHH"},
         "as numbers"),
        (20030227 + np.arange(4) / 4, {"units": "day as %Y%m%d.%f"}, "as numbers"),
    ],
)  # fmt: skip
def test_dates_in_another_form_are_read(tmp_path, values, attrs, form):
    path = _timed(tmp_path / "a.nc", values, **attrs)
    # Closed each time: the NetCDF library crashes where a file with text is open twice.
    with data.open_dataset(path) as opened:
        found = opened.load()
        assert f"read dates {form} in time" in opened.encoding["changes"]
    np.testing.assert_array_equal(found["time"], np.array(_DAYS, "datetime64[ns]"))
    assert found["time"].dtype == "datetime64[ns]"
    with data.open_dataset(path, canonical=False) as stored:
        assert stored["time"].dtype.kind != "M"
    # As part of a series, too.
    moved = found.assign_coords(time=found["time"] + np.timedelta64(1, "D"))
    moved.to_netcdf(tmp_path / "b.nc")
    assert data.open_dataset(tmp_path / "*.nc").sizes["time"] == 8


def test_numbers_and_text_that_are_no_dates_stay(tmp_path):
    for values in (
        [2003022700, 2003022706, 2003022712, 2003022724],
        [20030227, 20030228, 20030229, 20030301],
        [0, 6, 12, 18],
        ["27 Feb", "28 Feb", "1 Mar", "2 Mar"],
        ["2003-02-27", "2003-02-28", "2003-02-29", "2003-03-01"],
    ):
        path = _timed(tmp_path / f"{values[1]}.nc", values)
        opened = data.open_dataset(path)["time"]
        np.testing.assert_array_equal(opened, values)


def test_days_that_do_not_exist_are_refused_with_their_calendar(tmp_path):
    attrs = {"units": "days since 2003-02-27", "calendar": "360_day"}
    path = _timed(tmp_path / "a.nc", np.arange(4), **attrs)
    words = r"a\.nc: time: the calendar 360_day has the day 2003-02-29"
    with pytest.raises(ValueError, match=words):
        data.open_dataset(path)
    assert data.open_dataset(path, canonical=False).sizes["time"] == 4
    _timed(tmp_path / "b.nc", np.arange(4) + 4, **attrs)
    with pytest.raises(ValueError, match=words):
        data.open_dataset(tmp_path)


@pytest.mark.filterwarnings("ignore:Unable to decode time axis")
def test_dates_too_far_away_are_refused(tmp_path):
    path = _timed(tmp_path / "far.nc", np.arange(4), units="days since 3003-02-27")
    with pytest.raises(ValueError, match=r"far\.nc: time: years 3003.* 1678 to 2261"):
        data.open_dataset(path)


def test_kinds_of_files_are_told_by_their_content(tmp_path):
    path = tmp_path / "file"
    for content, kind in (
        (b"CDF\x01", "netcdf3"),
        (b"CDF\x05", "netcdf3"),
        (b"CDF\x09", "other"),
        (b"\x89HDF\r\n\x1a\n", "hdf5"),
        (b"\x00" * 512 + b"\x89HDF\r\n\x1a\n", "hdf5"),
        (b"GRIB\x00", "grib"),
        (b"SMXX01 KWBC\r\r\nGRIB", "grib"),
        (b"<html>GRIB files</html>", "other"),
    ):
        path.write_bytes(content)
        assert sniff.kind_of(path) == kind


def test_grib_says_what_it_needs(tmp_path, monkeypatch):
    path = tmp_path / "weather.grib"
    path.write_bytes(b"GRIB\x00\x00\x00\x01")

    def missing(module, *, extra):
        raise ImportError(f"{module}: pip install 'weatherlib[{extra}]'")

    monkeypatch.setattr(optional, "require", missing)
    hint = r"(pyproj|cfgrib): pip install 'weatherlib\[grib\]'"
    with pytest.raises(ImportError, match=hint):
        data.open_dataset(path)


def test_the_interpreter_ends_well_when_another_file_was_opened_before(tmp_path):
    pytest.importorskip("pyproj")
    pytest.importorskip("cfgrib")
    path = tmp_path / "weather.grib"
    path.write_bytes(b"GRIB\x00\x00\x00\x01")
    program = f"""
import xarray
xarray.backends.list_engines()
from weatherlib.data import grib
import pathlib
try:
    grib.open_grib(pathlib.Path({str(path)!r}))
except OSError:
    print("named")
"""
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (found.stdout, found.returncode) == ("named\n", 0), found.stderr


def _forecasts():
    """Returns two starts 12 h apart with steps of 0, 6 and 12 h, as GRIB holds them."""
    starts = np.array(["2024-06-03T00", "2024-06-03T12"], "datetime64[ns]")
    steps = np.array([0, 6, 12], "timedelta64[h]").astype("timedelta64[ns]")
    values = np.arange(6.0).reshape(2, 3, 1)
    return xarray.Dataset(
        {"t": (("time", "step", "latitude"), values)},
        coords={
            "time": starts,
            "step": steps,
            "latitude": [0.0],
            "valid_time": (("time", "step"), starts[:, None] + steps),
        },
    )


def test_starts_and_steps_become_one_series_of_the_shortest_steps():
    series = grib.with_valid_time(_forecasts())
    hours = (
        series["time"].values - np.datetime64("2024-06-03", "ns")
    ) / np.timedelta64(1, "h")
    assert hours.tolist() == [0, 6, 12, 18, 24]
    # At 12 h the second start goes before the step of 12 h of the first.
    assert series["t"].values.ravel().tolist() == [0, 1, 3, 4, 5]
    assert "step" not in series.coords


@pytest.mark.parametrize("single", ["time", "step"])
def test_a_single_start_or_step_is_a_series_too(single):
    part = _forecasts().isel({single: 1})
    series = grib.with_valid_time(part)
    assert series["t"].dims[0] == "time"
    np.testing.assert_array_equal(series["time"], np.sort(part["valid_time"].values))
    alone = grib.with_valid_time(_forecasts().isel(time=0, step=2))
    assert alone["t"].shape == (1, 1)
    plain = weather(2)
    assert grib.with_valid_time(plain) is plain


_GRIB_TASK = task.TaskConfig(
    input_variables=(
        "geopotential",
        "temperature",
        "u_component_of_wind",
        "v_component_of_wind",
        "relative_humidity",
        *task.FORCING_VARS,
    ),
    target_variables=("geopotential", "temperature", "relative_humidity"),
    forcing_variables=task.FORCING_VARS,
    pressure_levels=(300, 400, 500, 700, 850, 1000),
    input_duration="12h",
)


def test_forecasts_in_grib_become_inputs_of_a_model():
    pytest.importorskip("pyproj")
    pytest.importorskip("cfgrib")
    opened = data.open_dataset(_need(_PRESSURE_LEVELS), canonical=False)
    conformed, changes = data.conform(opened, _GRIB_TASK)
    assert data_utils.check(conformed, _GRIB_TASK, truth=True, time_step="6h") == []
    assert conformed.sizes["time"] == 8
    assert "renamed r to relative_humidity" in changes
    z500 = conformed["geopotential"].sel(level=500)
    assert 4.5e4 < float(z500.mean()) < 6e4
    assert float(z500.sel(lat=0).mean()) > float(z500.sel(lat=-90).mean())
    inputs, targets, forcings = data_utils.extract_inputs_targets_forcings(
        conformed, **_GRIB_TASK, target_lead_times=slice("6h", "36h")
    )
    assert inputs.sizes["time"] == 2
    assert targets.sizes["time"] == forcings.sizes["time"] == 6


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("ecmwf_ens51_z500_natlantic_20120920T00_step96.grib", {"number": 51}),
        ("era5_eda_10members_3deg_z_t_500_850_20170101-02.grib", {"number": 10}),
        ("era5_t2m_uk_0p25deg_hourly_201903.grib", {"time": 744}),
        ("meteonet_arpege_2m_NWfrance_20180501T00.grib", {"time": 25}),
    ],
)
def test_other_grib_files_are_read(name, sizes):
    pytest.importorskip("pyproj")
    pytest.importorskip("cfgrib")
    opened = data.open_dataset(_need(_SHARED / "grib" / name))
    assert opened.sizes.items() >= sizes.items()
    assert list(_SHARED.glob("grib/*.idx")) == []


def test_damaged_grib_is_named(tmp_path):
    pytest.importorskip("pyproj")
    pytest.importorskip("cfgrib")
    path = tmp_path / "bad.grib"
    path.write_bytes(b"GRIB" + bytes(100))
    with pytest.raises(OSError, match=r"bad\.grib: (no field|cannot be decoded)"):
        data.open_dataset(path)


def test_real_reanalysis_becomes_inputs_of_a_model():
    config = task.TaskConfig(
        input_variables=("mean_sea_level_pressure", "vorticity", *task.FORCING_VARS),
        target_variables=("mean_sea_level_pressure", "vorticity"),
        forcing_variables=task.FORCING_VARS,
        pressure_levels=(850,),
        input_duration="12h",
    )
    with data.open_dataset(_need(_ERA5)) as opened:
        conformed, _ = data.conform(opened.isel(time=slice(0, 4)), config)
        assert data_utils.check(conformed, config, truth=True, resolution=2.5) == []
        assert conformed["lat"].values[0] == -90
    # The pole of the file's first row is now the last.
    with xarray.open_dataset(_ERA5) as stored:
        north = stored["msl"].isel(valid_time=0, latitude=0, longitude=0)
        moved = conformed["mean_sea_level_pressure"].isel(
            batch=0, time=0, lat=-1, lon=0
        )
        assert float(north) == float(moved)
