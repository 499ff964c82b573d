import pathlib

import numpy as np
import pytest
import xarray

from tests.cli import cases
from weatherlib.cli import climatology_file, main

_SHARED = pathlib.Path(__file__).parents[2].parent / "shared" / "data"


def _archive(tmp_path, days=400):
    times = np.datetime64("2001-01-01", "ns") + np.arange(days) * np.timedelta64(1, "D")
    values = np.random.default_rng(0).normal(280, 10, (days, 3, 4))
    dataset = xarray.Dataset(
        {"t2m": (("time", "latitude", "longitude"), values.astype("f4"))},
        coords={
            "time": times,
            "latitude": [60.0, 0.0, -60.0],
            "longitude": [0.0, 90.0, 180.0, 270.0],
        },
    )
    dataset.to_netcdf(tmp_path / "archive.nc")
    return tmp_path / "archive.nc", values.astype("f4").astype(float)


def test_statistics_of_the_training_period_are_written_under_our_names(
    tmp_path, capsys
):
    path, values = _archive(tmp_path)
    out = tmp_path / "stats"
    command = ["stats", str(path), "--output", str(out), "--step", "2d"]
    command += ["--train-start", "2001-01-11", "--train-end", "2001", "--forcings"]
    assert main.main(command) == 0
    part = values[10:365]
    for kind, expected in (
        ("mean", part.mean()),
        ("stddev", part.std()),
        ("diffs_stddev", (part[2:] - part[:-2]).std()),
        ("min", part.min()),
    ):
        found = xarray.load_dataset(out / f"{kind}_by_level.nc")
        np.testing.assert_allclose(found["2m_temperature"], expected, rtol=1e-6)
        assert found.attrs["source"] == "archive.nc"
        assert found.attrs["timestep_hours"] == 48
        assert "toa_incident_solar_radiation" in found
    printed = capsys.readouterr()
    assert "355 frames, changes over 48 h" in printed.out
    assert "MB/s" in printed.out
    assert printed.err == ""


def test_a_task_chooses_variables_levels_and_forcings(tmp_path, capsys):
    case = cases.Case.create(tmp_path)
    command = ["stats", str(case.dataset), "--output", str(tmp_path / "s")]
    assert main.main([*command, "--task", "TASK_13"]) == 0
    found = xarray.load_dataset(tmp_path / "s" / "mean_by_level.nc")
    assert {"land_sea_mask", "year_progress_sin", "geopotential"} <= set(found)
    assert found.sizes["level"] == 13
    assert "no --train-end" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["c.nc", "c.zarr"])
def test_a_climatology_is_written_whole_in_place_of_an_older_one(tmp_path, name):
    path, _ = _archive(tmp_path)
    command = ["stats", str(path), "--climatology", str(tmp_path / name)]
    command += ["--train-end", "2001"]
    assert main.main(command) == 0
    assert main.main([*command, "--harmonics", "2"]) == 0
    opened = xarray.open_dataset if name.endswith("nc") else xarray.open_zarr
    settings = {} if name.endswith("nc") else {"consolidated": False}
    found = opened(tmp_path / name, **settings).load()
    assert dict(found.sizes) == {"hour": 1, "dayofyear": 366, "lat": 3, "lon": 4}
    assert {"2m_temperature", "2m_temperature_std"} == set(found)
    assert "2 waves" in found.attrs["method"]
    assert not list(tmp_path.glob("*.partial")) and not (tmp_path / "stats").exists()


def test_a_full_disk_keeps_the_older_climatology(tmp_path, monkeypatch):
    target = tmp_path / "c.nc"
    target.write_bytes(b"older")

    def full(self, path, **settings):
        pathlib.Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(xarray.Dataset, "to_netcdf", full)
    with pytest.raises(OSError, match="No space"):
        climatology_file.write(xarray.Dataset(), target)
    assert [p.name for p in tmp_path.iterdir()] == ["c.nc"]
    assert target.read_bytes() == b"older"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--train-end", "1990"], "no frame lies in the period"),
        (["--train-end", ""], "'' is no date; write it as 2015"),
        (["--step", "5h"], "no two frames are 0 days 05:00:00 apart"),
        (["--variables", "2m_temprature"], "did you mean 2m_temperature"),
        (["--task", "TASK_99"], "there are TASK, TASK_13"),
        (["--climatology", "c.txt"], "written as .nc or .zarr"),
        (["--climatology", "nowhere/c.nc"], "the folder nowhere does not exist"),
        (["--climatology", "c.nc", "--window", "4"], "odd number of days"),
    ],
)
def test_mistakes_end_with_one_clear_line(
    tmp_path, monkeypatch, arguments, message, capsys
):
    path, _ = _archive(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert main.main(["stats", str(path), *arguments]) == 2
    errors = [e for e in capsys.readouterr().err.splitlines() if ": error: " in e]
    assert len(errors) == 1 and message in errors[0]


@pytest.mark.filterwarnings("ignore")
def test_a_damaged_file_among_many_is_left_out_when_asked(tmp_path, capsys):
    path, values = _archive(tmp_path, days=30)
    whole = xarray.load_dataset(path)
    path.unlink()
    for number in range(3):
        part = whole.isel(time=slice(number * 10, number * 10 + 10))
        part.to_netcdf(tmp_path / f"part{number}.nc")
    bad = tmp_path / "part1.nc"
    bad.write_bytes(bad.read_bytes()[:3000])
    words = ["stats", f"{tmp_path}/part*.nc", "--output", str(tmp_path / "stats")]
    assert main.main(words) == 2
    assert "--skip-corrupt of stats" in capsys.readouterr().err
    assert main.main([*words, "--skip-corrupt"]) == 0
    out = capsys.readouterr().out
    assert f"files skipped: 1: {bad}" in out and "20 frames" in out
    # No change is taken from the day before the hole to the one after it.
    changes = np.concatenate(
        [np.diff(values[:10], axis=0), np.diff(values[20:], axis=0)]
    )
    found = xarray.load_dataset(tmp_path / "stats" / "diffs_stddev_by_level.nc")
    assert float(found["2m_temperature"]) == pytest.approx(changes.std(), rel=1e-6)


def test_a_missing_archive_is_named(capsys):
    assert main.main(["stats", "absent.nc"]) == 2
    assert "absent.nc: no such file" in capsys.readouterr().err


@pytest.mark.skipif(not _SHARED.is_dir(), reason="no folder of real data")
def test_era5_gives_what_xarray_gives_in_the_form_of_the_published_files(tmp_path):
    source = _SHARED / "era5_global_2p5deg_6h_msl_vo850_20251201-20260131.nc"
    command = ["stats", str(source), "--train-end", "2026-01-15"]
    assert main.main([*command, "--output", str(tmp_path)]) == 0
    with xarray.open_dataset(source) as dataset:
        time = "valid_time" if "valid_time" in dataset.dims else "time"
        raw = dataset["msl"].sel({time: slice(None, "2026-01-15")}).astype("f8").load()
    published = {
        kind: xarray.load_dataset(_SHARED / "stats" / f"gencast_{kind}_by_level.nc")
        for kind in ("mean", "stddev", "diffs_stddev", "min")
    }
    for kind, expected in (
        ("mean", raw.mean()),
        ("stddev", raw.std()),
        ("diffs_stddev", raw.diff(time).std()),
        ("min", raw.min()),
    ):
        found = xarray.load_dataset(tmp_path / f"{kind}_by_level.nc")
        pressure = found["mean_sea_level_pressure"]
        np.testing.assert_allclose(pressure, expected, rtol=1e-6)
        theirs = published[kind]["mean_sea_level_pressure"]
        assert (pressure.dims, pressure.dtype) == (theirs.dims, theirs.dtype)
        assert set(published[kind].attrs) - set(found.attrs) == {"window_stride"}
        assert found["vorticity"].dims == ("level",)
