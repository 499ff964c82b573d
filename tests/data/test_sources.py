"""Every layout of weather data ends in one form."""

import functools
import http.server
import logging
import pathlib
import threading
import warnings

import numpy as np
import pytest
import xarray

from tests.conftest import GOLDENS
from tests.data import layouts
from weatherlib import data, data_utils, task, variables
from weatherlib.data import remote, zarr_groups

_SHARED = pathlib.Path(__file__).parents[2].parent / "shared" / "data"
_SAMPLE = next((GOLDENS / "graphcast" / "a_10deg_13lev").glob("source-*"))
_STATE = layouts.series()


def _require_same(opened, wanted=_STATE, names=None):
    for name in names or wanted:
        assert opened[name].dims == wanted[name].dims, name
        np.testing.assert_allclose(opened[name], wanted[name], rtol=1e-6)
    for axis in wanted.indexes:
        if axis in opened.dims:
            np.testing.assert_array_equal(opened[axis], wanted[axis])


def _lead_times(state):
    """Returns the state with integers for times, as published examples have it."""
    hours = np.arange(state.sizes["time"]) * 6
    axis = ("time", hours.astype(np.int32), {"units": "hours"})
    return state.assign_coords(time=axis)


_LAYOUTS = {
    "cds": layouts.cds,
    "weatherbench2": layouts.weatherbench2,
    "arco": layouts.arco,
    "around-greenwich": lambda state: state.assign_coords(
        lon=(state["lon"] + 180) % 360 - 180
    ).sortby("lon"),
    "level-names": lambda state: state.drop_vars(
        ["geopotential", "temperature", "specific_humidity", "level"]
    ).assign(
        {
            f"{letter}{level}": state[name].sel(level=level, drop=True)
            for letter, name in (
                ("z", "geopotential"),
                ("t", "temperature"),
                ("q", "specific_humidity"),
            )
            for level in state["level"].values
        }
    ),
}


@pytest.mark.parametrize("layout", _LAYOUTS)
@pytest.mark.parametrize("form", ["netcdf", "zarr2", "zarr3"])
def test_every_layout_ends_in_one_form(tmp_path, layout, form):
    stored = _LAYOUTS[layout](_STATE)
    path = tmp_path / "store"
    if form == "netcdf":
        stored.to_netcdf(path)
    else:
        if layout == "cds":
            stored = stored.drop_vars("expver")
        layouts.write_zarr(stored, path, int(form[-1]))
    opened = data.open_dataset(path)
    assert opened["temperature"].variable.chunks is None
    _require_same(opened)
    assert set(opened.coords) == {"time", "level", "lat", "lon"}
    chunked = data.open_dataset(path, chunks={})
    assert chunked["temperature"].chunks is not None
    _require_same(chunked)


@pytest.mark.parametrize("layout", _LAYOUTS)
def test_what_is_cut_out_of_a_source_is_what_was_asked_for(tmp_path, layout):
    path = tmp_path / "store.nc"
    _LAYOUTS[layout](_STATE).to_netcdf(path)
    opened = data.open_dataset(path)
    for cut in (
        {"time": 1, "lat": slice(1, 4), "level": [2, 0]},
        {"lat": slice(None, None, -2), "lon": [3, 1, 7], "time": [-1]},
        {"level": 1, "lon": -1, "time": slice(1, 3)},
        {"time": slice(0, 0)},
    ):
        np.testing.assert_allclose(
            opened["temperature"].isel(cut), _STATE["temperature"].isel(cut), rtol=1e-6
        )


def test_the_changes_are_told():
    _, changes = data.canonical(layouts.cds(_STATE))
    text = "\n".join(changes)
    for words in (
        "renamed valid_time to time",
        "renamed t2m to 2m_temperature",
        "dropped number",
        "put the lowest pressure first",
        "south to north",
    ):
        assert words in text
    again, changes = data.canonical(_STATE)
    assert changes == []
    xarray.testing.assert_identical(again, _STATE)


def test_names_can_stay_as_they_are(tmp_path):
    path = tmp_path / "cds.nc"
    layouts.cds(_STATE).to_netcdf(path)
    opened = data.open_dataset(path, canonical=False)
    assert {"t2m", "z"} <= set(opened)
    assert opened["latitude"].values[0] == 90


def test_a_source_fits_a_model_after_conform(tmp_path):
    config = task.TaskConfig(
        input_variables=("2m_temperature", "temperature", "land_sea_mask"),
        target_variables=("temperature",),
        forcing_variables=(),
        pressure_levels=tuple(_STATE["level"].values),
        input_duration="12h",
    )
    for layout, make in _LAYOUTS.items():
        path = tmp_path / f"{layout}.nc"
        make(_STATE).to_netcdf(path)
        conformed, _ = data.conform(data.open_dataset(path), config)
        assert data_utils.check(conformed, config, time_step="6h") == [], layout
        assert conformed["temperature"].dims == ("batch", "time", "level", "lat", "lon")


def test_integer_times_and_examples_keep_lead_times(tmp_path):
    path = tmp_path / "leads.nc"
    _lead_times(_STATE).to_netcdf(path)
    opened = data.open_dataset(path)
    assert opened["time"].dtype == "timedelta64[ns]"
    published = data.open_dataset(_SAMPLE)
    assert published["time"].dtype == "timedelta64[ns]"
    assert published["temperature"].dims[:2] == ("batch", "time")


def test_a_single_state_gets_its_time_axis_but_the_mask_does_not(tmp_path):
    path = tmp_path / "state.nc"
    _STATE.isel(time=2).to_netcdf(path)
    opened = data.open_dataset(path)
    _require_same(opened, _STATE.isel(time=[2]))
    assert opened["land_sea_mask"].dims == ("lat", "lon")


@pytest.mark.parametrize("final", [1, 3])
def test_final_and_preliminary_data_become_one(tmp_path, final):
    path = tmp_path / "mixed.nc"
    layouts.cds_before_2024(_STATE, final).to_netcdf(path)
    opened = data.open_dataset(path)
    _require_same(opened, names=["2m_temperature", "mean_sea_level_pressure"])
    np.testing.assert_array_equal(
        opened["2m_temperature"].isel(time=final),
        _STATE["2m_temperature"].isel(time=final),
    )


def test_data_beyond_the_stated_range_is_left_out():
    padded = layouts.arco(_STATE)
    assert padded.sizes["time"] == _STATE.sizes["time"] + 5
    opened, changes = data.canonical(padded)
    assert "left out 5 times" in "\n".join(changes)
    assert not opened["temperature"].isnull().any()
    padded.attrs["valid_time_stop"] = "someday"
    with pytest.raises(ValueError, match="valid_time_stop 'someday'"):
        data.canonical(padded)


def test_z_is_told_from_the_ground():
    flat = _STATE[["2m_temperature"]]
    ground = _STATE["geopotential_at_surface"].expand_dims(time=_STATE["time"])
    opened, _ = data.canonical(flat.assign(z=ground))
    assert opened["geopotential_at_surface"].dims == ("lat", "lon")
    air = _STATE["geopotential"].isel(level=1, drop=True)
    opened, _ = data.canonical(flat.assign(z=air))
    assert opened["geopotential"].dims == ("time", "lat", "lon")
    opened, _ = data.canonical(flat.assign(z=air.isel(time=0)))
    assert "geopotential" in opened
    opened, _ = data.canonical(flat.assign(z=ground.isel(time=0)))
    assert "geopotential_at_surface" in opened


@pytest.mark.parametrize(
    ("attrs", "name"),
    [
        (
            {"standard_name": "air_pressure_at_mean_sea_level"},
            "mean_sea_level_pressure",
        ),
        ({"long_name": "2 metre temperature"}, "2m_temperature"),
        ({"long_name": "10 metre U wind component"}, "10m_u_component_of_wind"),
        ({"long_name": "Sea ice area fraction"}, "sea_ice_cover"),
        ({"standard_name": "air_temperature"}, "field"),
        ({"long_name": "Temperature"}, "field"),
        ({"long_name": "2 metre temperature", "units": "Pa"}, "field"),
    ],
)
def test_standard_and_long_names_tell_a_variable(attrs, name):
    field = _STATE[["2m_temperature"]].rename({"2m_temperature": "field"})
    field["field"].attrs = attrs
    opened, _ = data.canonical(field)
    assert list(opened) == [name]


def test_every_short_name_is_known_by_itself():
    for known in variables.VARIABLES.values():
        for short in known.short_names:
            assert variables.get(short) is known


def test_units_are_converted_and_only_read_when_used(tmp_path):
    state = _STATE[["2m_temperature"]] - 273.15
    state["2m_temperature"].attrs["units"] = "degC"
    path = tmp_path / "celsius.nc"
    state.to_netcdf(path)
    opened = data.open_dataset(path)
    assert not opened["2m_temperature"].variable._in_memory
    assert opened["2m_temperature"].attrs["units"] == "K"
    np.testing.assert_allclose(
        opened["2m_temperature"], _STATE["2m_temperature"], rtol=1e-6
    )


def test_levels_of_their_own_stay_apart():
    flat = _STATE[["2m_temperature"]].assign(
        z500=_STATE["geopotential"].sel(level=500, drop=True),
        t850=_STATE["temperature"].sel(level=850, drop=True),
    )
    opened, _ = data.canonical(flat)
    assert {"geopotential_500", "temperature_850"} <= set(opened)
    assert "level" not in opened.dims


@pytest.mark.parametrize(
    ("stored", "wanted"),
    [
        ([-20, -10, 0, 10], [-20, -10, 0, 10]),
        ([340, 350, 0, 10], [-20, -10, 0, 10]),
        ([-70, -60, -50], [290, 300, 310]),
        ([170, 180, -170], [170, 180, 190]),
        ([100, 110, 120], [100, 110, 120]),
    ],
)
def test_windows_stay_in_one_piece(stored, wanted):
    window = xarray.Dataset(
        {"msl": (("lat", "lon"), np.array([stored, stored], float))},
        coords={"lat": [0.0, 10.0], "lon": np.array(stored, float)},
    )
    opened, _ = data.canonical(window)
    assert opened["lon"].values.tolist() == wanted
    held = opened["mean_sea_level_pressure"].values[0]
    np.testing.assert_array_equal((held - wanted) % 360, 0)


def test_weatherbench_1_is_one_dataset(tmp_path):
    layouts.write_weatherbench1(tmp_path / "wb1", _STATE)
    opened = data.open_dataset(tmp_path / "wb1")
    assert set(opened) == {
        "geopotential_500",
        "temperature_850",
        "2m_temperature",
        "land_sea_mask",
    }
    _require_same(opened, names=["2m_temperature", "land_sea_mask"])
    z500 = _STATE["geopotential"].sel(level=500, drop=True)
    np.testing.assert_array_equal(opened["geopotential_500"], z500)


@pytest.mark.parametrize("folder", ["", "constants"])
@pytest.mark.parametrize("name", ["constants.nc", "constants_5.625deg.nc"])
def test_constants_beside_the_folders_of_weatherbench_1_do_not_hide_them(
    tmp_path, folder, name
):
    root = layouts.write_weatherbench1(tmp_path / "wb1", _STATE)
    old = root / "constants" / "constants_5.625deg.nc"
    old.rename(root / folder / name)
    opened = data.open_dataset(root)
    assert set(opened) == {
        "geopotential_500",
        "temperature_850",
        "2m_temperature",
        "land_sea_mask",
    }
    assert opened.sizes["time"] == _STATE.sizes["time"]
    _require_same(opened, names=["2m_temperature", "land_sea_mask"])


def test_weather_in_a_folder_goes_before_that_in_folders_below(tmp_path):
    root = layouts.write_weatherbench1(tmp_path / "wb1", _STATE)
    part = _STATE[["mean_sea_level_pressure"]]
    part.to_netcdf(root / "pressure.nc")
    assert set(data.open_dataset(root)) == {"mean_sea_level_pressure"}


def _local_server(folder):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    handler = functools.partial(Quiet, directory=folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.mark.parametrize("name", ["era5.zarr", "era5.nc", "*.nc"])
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_an_address_without_a_server_cannot_be_reached(name):
    pytest.importorskip("aiohttp")
    with pytest.raises(OSError, match="cannot be reached") as caught:
        data.open_dataset(f"http://127.0.0.1:1/{name}")
    assert not isinstance(caught.value, FileNotFoundError)


def test_what_a_file_system_logs_besides_raising_is_not_printed(capfd, monkeypatch):
    gcsfs = pytest.importorskip("gcsfs")

    def exists(self, path):
        logging.getLogger("gcsfs").error("Traceback of a connection")
        raise ConnectionError("no route")

    monkeypatch.setattr(gcsfs.GCSFileSystem, "exists", exists)
    # As in a program, where nothing but the last resort takes what is logged.
    monkeypatch.setattr(logging.getLogger("gcsfs"), "propagate", False)
    with pytest.raises(OSError, match=r"gs://nope: cannot be reached \(no route\)"):
        data.open_dataset("gs://nope")
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_stores_are_read_over_http(tmp_path, version):
    pytest.importorskip("aiohttp")
    layouts.write_zarr(layouts.weatherbench2(_STATE), tmp_path / "era5.zarr", version)
    server = _local_server(tmp_path)
    try:
        address = f"http://127.0.0.1:{server.server_port}"
        _require_same(data.open_dataset(f"{address}/era5.zarr").load())
        with pytest.raises(FileNotFoundError, match="nothing at this address"):
            data.open_dataset(f"{address}/other.zarr")
    finally:
        server.shutdown()
        server.server_close()


def test_a_store_of_version_3_needs_its_library(tmp_path, monkeypatch):
    path = layouts.write_zarr(layouts.weatherbench2(_STATE), tmp_path / "a.zarr")
    monkeypatch.setattr(zarr_groups, "has_version_3", lambda: False)
    with pytest.raises(ValueError, match=r"a.zarr: version 3 of the Zarr format needs"):
        data.open_dataset(path)


def test_stores_behind_fsspec_are_read(tmp_path):
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    layouts.write_zarr(layouts.weatherbench2(_STATE), tmp_path / "era5.zarr", 2)
    memory.put(str(tmp_path / "era5.zarr"), "/bucket/era5.zarr", recursive=True)
    _require_same(data.open_dataset("memory://bucket/era5.zarr").load())
    for name, frames in (("a", slice(0, 2)), ("b", slice(2, 4))):
        _STATE.isel(time=frames).to_netcdf(tmp_path / f"{name}.nc")
        memory.put(str(tmp_path / f"{name}.nc"), f"/bucket/{name}.nc")
    _require_same(data.open_dataset("memory://bucket/*.nc").load())
    memory.pipe("/bucket/text.nc", b"no data")
    with pytest.raises(ValueError, match="neither Zarr nor NetCDF-4"):
        data.open_dataset("memory://bucket/text.nc")
    memory.rm("/bucket", recursive=True)


def test_buckets_are_read_without_an_account(monkeypatch):
    asked = []

    def url_to_fs(url, **options):
        asked.append((url, options))
        raise OSError("no network in tests")

    monkeypatch.setattr("fsspec.core.url_to_fs", url_to_fs)
    for scheme, package, options in (
        ("gs", "gcsfs", {"token": "anon"}),
        ("s3", "s3fs", {"anon": True}),
    ):
        pytest.importorskip(package)
        with pytest.raises(OSError, match="no network"):
            data.open_dataset(f"{scheme}://bucket/era5.zarr")
        assert asked[-1] == (f"{scheme}://bucket/era5.zarr", options)
        with pytest.raises(OSError, match="no network"):
            data.open_dataset(f"{scheme}://bucket/x", storage_options={"key": "k"})
        assert asked[-1][1] == {"key": "k"}


def test_the_package_for_a_bucket_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "s3fs", None)
    with pytest.raises(ImportError, match=r"pip install .*\[cloud\]"):
        data.open_dataset("s3://bucket/era5.zarr")
    with pytest.raises(ValueError, match="ftp://host/x: addresses begin with gs://"):
        data.open_dataset("ftp://host/x")
    assert not remote.is_url("/data/era5.nc")


def test_unknown_options_are_named():
    with pytest.raises(ValueError, match="the options are on_error"):
        data.open_dataset(_SAMPLE, skip=True)
    with pytest.raises(ValueError, match="on_error is 'ignore'"):
        data.open_dataset(_SAMPLE, on_error="ignore")
    with pytest.raises(ValueError, match="overlap is 'both'"):
        data.open_dataset(_SAMPLE, overlap="both")
    with pytest.raises(ValueError, match="list of files is empty"):
        data.open_dataset([])


def _shared_files():
    if not _SHARED.exists():
        return []
    return sorted([*_SHARED.rglob("*.nc"), *_SHARED.rglob("*.grib")])


@pytest.mark.parametrize("path", _shared_files(), ids=lambda path: path.name)
def test_real_files_open_in_one_form(path):
    if path.suffix == ".grib":
        pytest.importorskip("pyproj")
        pytest.importorskip("cfgrib")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        opened = data.open_dataset(path)
    assert opened.data_vars
    if not {"lat", "lon"} <= set(opened.dims):
        # Scores, statistics and radar pictures have no such grid.
        assert path.parent.name in ("scores", "stats") or "radar" in path.name
        return
    assert opened.indexes["lat"].is_monotonic_increasing
    assert opened.indexes["lon"].is_monotonic_increasing
    unknown = set(opened) - set(variables.VARIABLES)
    assert unknown <= {"fsr", "fdir", "ssrd", "wdir", "sf", "vp"}
    for name, array in opened.data_vars.items():
        known = variables.VARIABLES.get(str(name))
        assert list(array.dims)[-2:] == ["lat", "lon"]
        # A pressure without its mean is a difference.
        if known is None or "t5-42" in path.name:
            continue
        sample = array.isel(time=-1) if "time" in array.dims else array
        assert known.bounds[0] <= float(sample.min()), name
        assert float(sample.max()) <= known.bounds[1], name
        assert array.attrs.get("units", known.units) == known.units
