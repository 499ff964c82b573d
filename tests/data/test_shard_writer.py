"""Tests of cutting archives into shards, against the published recipe done plainly."""

import os
import shutil

import numpy as np
import pandas as pd
import pytest
import xarray

from weatherlib import data
from weatherlib.cli import main as command
from weatherlib.data import shard_sources, shard_writer

LAT, LON = np.array([-45.0, 0.0, 45.0]), np.arange(4) * 90.0
YEARS = (1999, 2000, 2001, 2002)
SHORT = {
    "2m_temperature": "t2m",
    "total_precipitation": "tp",
    "geopotential": "z",
    "relative_humidity": "r",
}
LEVELS = [50, 70, 500]
CONFIG = shard_writer.ShardConfig(
    start_train_year=1999,
    start_val_year=2001,
    start_test_year=2002,
    end_year=2003,
    shards_per_year=5,
)


def _dates(year):
    return pd.date_range(f"{year}-01-01", f"{year}-12-31", freq="1D")


def _values(name, year):
    rng = np.random.default_rng([year, *name.encode()])
    levels = (3,) if name in ("geopotential", "relative_humidity") else ()
    shape = (len(_dates(year)), *levels, len(LAT), len(LON))
    return (rng.normal(size=shape) * 5 + year / 10).astype(np.float32)


def _write(root, lacking=0):
    """Writes a folder of WeatherBench with a frame a day."""
    axes = {"lat": LAT, "lon": LON}
    for name, short in SHORT.items():
        (root / name).mkdir(parents=True)
        for year in YEARS:
            values, dates = _values(name, year), _dates(year)
            if name == "total_precipitation" and year == YEARS[0]:
                values, dates = values[lacking:], dates[lacking:]
            dims, coords = ("time", "lat", "lon"), {"time": dates, **axes}
            if values.ndim == 4:
                dims, coords = ("time", "level", *dims[1:]), {**coords, "level": LEVELS}
            dataset = xarray.Dataset({short: (dims, values)}, coords)
            dataset.to_netcdf(root / name / f"{name}_{year}_90deg.nc")
    rows = np.broadcast_to(LAT[:, np.newaxis], (3, 4)).copy()
    mask = np.arange(12.0).reshape(3, 4) / 12
    constants = {"lsm": mask, "orography": mask * 3000, "lat2d": rows}
    constants = {name: (("lat", "lon"), field) for name, field in constants.items()}
    xarray.Dataset(constants, axes).to_netcdf(root / "constants.nc")
    return root


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """A folder of WeatherBench."""
    return _write(tmp_path_factory.mktemp("wb") / "90deg")


@pytest.fixture(scope="module")
def made(archive, tmp_path_factory):
    """Shards of it."""
    folder = tmp_path_factory.mktemp("shards") / "out"
    source = shard_sources.open_source(archive)
    report = shard_writer.write_shards(source, folder, CONFIG)
    assert report.written == 20
    assert report.filled == {}
    return folder


def _field(name, year):
    """Returns a field of the archive by its name in the shards, 365 frames."""
    if name[-3:] in ("_50", "500"):
        base, level = name.rsplit("_", 1)
        return _values(base, year)[:365, LEVELS.index(int(level)), np.newaxis]
    return _values(name, year)[:365, np.newaxis]


CHANGING = (
    "2m_temperature",
    "total_precipitation",
    "geopotential_50",
    "geopotential_500",
    "relative_humidity_50",
    "relative_humidity_500",
)


def test_shards_hold_what_the_published_recipe_puts_there(made):
    names = {"land_sea_mask", "orography", "lattitude", *CHANGING}
    for split, years in CONFIG.splits.items():
        for year in years:
            parts = []
            for number in range(5):
                with np.load(made / split / f"{year}_{number}.npz") as shard:
                    assert set(shard.files) == names
                    parts.append(dict(shard))
            for name in CHANGING:
                found = np.concatenate([part[name] for part in parts])
                assert found.dtype == np.float32
                np.testing.assert_array_equal(found, _field(name, year))
            assert parts[0]["orography"].shape == (73, 1, 3, 4)
            np.testing.assert_array_equal(parts[1]["lattitude"][7, 0, :, 2], LAT)
    np.testing.assert_array_equal(np.load(made / "lat.npy"), LAT)
    np.testing.assert_array_equal(np.load(made / "lon.npy"), LON)


def test_statistics_are_of_all_years_of_training(made):
    with (
        np.load(made / "normalize_mean.npz") as mean,
        np.load(made / "normalize_std.npz") as stddev,
    ):
        assert set(mean.files) == {
            "land_sea_mask",
            "orography",
            "lattitude",
            *CHANGING,
        }
        for name in CHANGING:
            whole = np.concatenate([_field(name, 1999), _field(name, 2000)])
            whole = whole.astype(np.float64)
            assert mean[name].shape == stddev[name].shape == (1,)
            np.testing.assert_allclose(mean[name], whole.mean(), rtol=1e-6)
            np.testing.assert_allclose(stddev[name], whole.std(), rtol=1e-6)
        np.testing.assert_allclose(stddev["lattitude"], np.std(np.repeat(LAT, 4)))


def test_each_part_has_its_climatology_of_what_changes(made):
    for split, years in CONFIG.splits.items():
        with np.load(made / split / "climatology.npz") as found:
            assert set(found.files) == set(CHANGING)
            for name in CHANGING:
                each = [_field(name, year).astype(float).mean(axis=0) for year in years]
                assert found[name].shape == (1, 3, 4)
                np.testing.assert_allclose(
                    found[name], np.mean(each, axis=0), rtol=1e-6
                )


def test_published_statistics_are_on_levels_those_of_the_last_year(archive, tmp_path):
    source = shard_sources.open_source(archive)
    config = shard_writer.ShardConfig(
        **{**vars(CONFIG), "statistics": "published"},
    )
    shard_writer.write_shards(source, tmp_path / "out", config)
    with np.load(tmp_path / "out" / "normalize_mean.npz") as mean:
        last = _field("geopotential_500", 2000).astype(np.float64)
        np.testing.assert_allclose(mean["geopotential_500"], last.mean(), rtol=1e-6)
        both = np.concatenate([_field("2m_temperature", y) for y in (1999, 2000)])
        np.testing.assert_allclose(mean["2m_temperature"], both.mean(), rtol=1e-6)


def test_shards_are_opened_again_with_their_dates_and_levels(made):
    opened = data.open_dataset(made / "train")
    assert opened.sizes["time"] == 730
    assert opened["level"].values.tolist() == [50, 500]
    assert opened["time"].values[365] == np.datetime64("2000-01-01")
    np.testing.assert_array_equal(
        opened["geopotential"].sel(level=500).isel(time=slice(365, 730)),
        _field("geopotential_500", 2000)[:, 0],
    )
    assert opened["orography"].dims == ("lat", "lon")


def test_an_interrupted_run_goes_on_and_gives_the_same_files(archive, made, tmp_path):
    source = shard_sources.open_source(archive)
    folder = tmp_path / "out"

    def stop(done, total, seconds):
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shard_writer.write_shards(source, folder, CONFIG, progress=stop)
    assert not (folder / "normalize_mean.npz").exists()
    (folder / "train" / "1999_2.npz").write_bytes(b"PK\x03\x04 cut short")
    steps = []
    report = shard_writer.write_shards(
        source, folder, CONFIG, progress=lambda *step: steps.append(step[:2])
    )
    assert (report.written, report.kept) == (14, 6)
    assert steps == [(i, 20) for i in range(1, 21)]
    paths = sorted(p.relative_to(made) for p in made.rglob("*") if p.is_file())
    assert paths == sorted(
        p.relative_to(folder) for p in folder.rglob("*") if p.is_file()
    )
    for path in paths:
        assert (folder / path).read_bytes() == (made / path).read_bytes()


def test_a_full_disk_leaves_no_half_a_shard(archive, tmp_path, monkeypatch):
    source = shard_sources.open_source(archive)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        shard_writer.write_shards(source, tmp_path / "out", CONFIG)
    assert not list((tmp_path / "out" / "train").iterdir())


def test_a_disk_that_is_too_small_is_noticed_first(archive, tmp_path, monkeypatch):
    source = shard_sources.open_source(archive)
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OSError, match=r"0\.0 GB are free"):
        shard_writer.write_shards(source, tmp_path / "out", CONFIG)
    assert not (tmp_path / "out" / "train").exists()


def test_shards_that_were_made_otherwise_are_not_mixed_with(archive, made):
    source = shard_sources.open_source(archive, levels=[500])
    with pytest.raises(ValueError, match="made with another variables"):
        shard_writer.write_shards(source, made, CONFIG)


@pytest.fixture(scope="module")
def lacking(tmp_path_factory):
    """An archive whose precipitation begins two days late."""
    return _write(tmp_path_factory.mktemp("lacking") / "90deg", lacking=2)


def test_lacking_frames_are_refused_before_anything_is_written(lacking, tmp_path):
    source = shard_sources.open_source(lacking)
    with pytest.raises(ValueError, match="total_precipitation: lacks 2 of 1460") as e:
        shard_writer.write_shards(source, tmp_path / "out", CONFIG)
    assert "first at 1999-01-01T00" in str(e.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("gaps", ["repeat", "nan"])
def test_lacking_frames_are_filled_at_their_dates(gaps, lacking, tmp_path):
    source = shard_sources.open_source(lacking)
    config = shard_writer.ShardConfig(**{**vars(CONFIG), "gaps": gaps})
    report = shard_writer.write_shards(source, tmp_path / "out", config)
    assert report.filled == {"total_precipitation": 2}
    expected = _field("total_precipitation", 1999).copy()
    expected[:2] = expected[2] if gaps == "repeat" else np.nan
    with np.load(tmp_path / "out" / "train" / "1999_0.npz") as shard:
        np.testing.assert_array_equal(shard["total_precipitation"], expected[:73])
    with np.load(tmp_path / "out" / "normalize_mean.npz") as mean:
        whole = np.concatenate([expected, _field("total_precipitation", 2000)])
        np.testing.assert_allclose(
            mean["total_precipitation"], np.nanmean(whole), rtol=1e-6
        )


def test_any_archive_with_levels_is_cut_too(tmp_path):
    dates = pd.date_range("2000-01-01", "2002-12-31", freq="1D")
    values = np.arange(len(dates) * 2 * 12, dtype=np.float32)
    values = values.reshape(len(dates), 2, 3, 4)
    dataset = xarray.Dataset(
        {"temperature": (("time", "plev", "lat", "lon"), values, {"units": "K"})},
        {
            "time": dates,
            "plev": ("plev", [85000.0, 50000.0], {"units": "Pa"}),
            "lat": LAT,
            "lon": LON,
        },
    )
    dataset.to_netcdf(tmp_path / "x.nc")
    source = shard_sources.open_source(tmp_path / "x.nc", levels=[850])
    assert list(source.fields) == ["temperature_850"]
    np.testing.assert_array_equal(source.constants["lattitude"][:, 1], LAT)
    config = shard_writer.ShardConfig(
        start_train_year=2000,
        start_val_year=2001,
        start_test_year=2002,
        end_year=2003,
        shards_per_year=1,
    )
    shard_writer.write_shards(source, tmp_path / "out", config)
    with np.load(tmp_path / "out" / "val" / "2001_0.npz") as shard:
        np.testing.assert_array_equal(
            shard["temperature_850"][:, 0], values[366:731, 0]
        )
    with pytest.raises(ValueError, match="folders of shards; give one of"):
        data.open_dataset(tmp_path / "out")


def test_a_simulated_archive_has_a_batch_of_one_and_its_dates_beside(tmp_path):
    dates = pd.date_range("2001-01-01", "2001-01-03", freq="6h")
    values = np.random.default_rng(0).random((1, len(dates), 3, 4), np.float32)
    dataset = xarray.Dataset(
        {"2m_temperature": (("batch", "time", "lat", "lon"), values)},
        {
            "time": dates - dates[0],
            "datetime": (("batch", "time"), dates.values[np.newaxis]),
            "lat": LAT,
            "lon": LON,
        },
    )
    dataset.to_netcdf(tmp_path / "one.nc")
    source = shard_sources.open_source(tmp_path / "one.nc")
    field = source.fields["2m_temperature"]
    np.testing.assert_array_equal(field["time"].values, dates.values)
    np.testing.assert_array_equal(field.values, values[0])
    assert source.step == pd.Timedelta("6h")
    xarray.concat([dataset, dataset], "batch").to_netcdf(tmp_path / "two.nc")
    with pytest.raises(ValueError, match="holds 2 batch members"):
        shard_sources.open_source(tmp_path / "two.nc")


def test_a_folder_whose_name_has_the_level_gives_that_field(archive, tmp_path):
    folder = tmp_path / "wb" / "geopotential_500"
    folder.mkdir(parents=True)
    for year in YEARS:
        path = archive / "geopotential" / f"geopotential_{year}_90deg.nc"
        with xarray.open_dataset(path) as whole:
            whole.sel(level=500, drop=True).to_netcdf(folder / path.name)
    source = shard_sources.open_source(tmp_path / "wb")
    assert list(source.fields) == ["geopotential_500"]
    np.testing.assert_array_equal(
        source.fields["geopotential_500"][:365], _field("geopotential_500", 1999)[:, 0]
    )


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"shards_per_year": 8}, "8 shards do not divide the 365 frames"),
        ({"shards_per_year": 0}, "at least 1"),
        ({"start_val_year": 1999}, "one after the other"),
        ({"end_year": 2040}, "lacks 13505 of 14965 frames, the first at 2003-01-01"),
    ],
)
def test_years_and_shards_that_do_not_fit_are_refused(
    changes, reason, archive, tmp_path
):
    source = shard_sources.open_source(archive)
    with pytest.raises(ValueError, match=reason):
        shard_writer.write_shards(
            source, tmp_path, shard_writer.ShardConfig(**{**vars(CONFIG), **changes})
        )


def test_a_variable_that_is_missing_is_named_with_those_there_are(archive):
    with pytest.raises(FileNotFoundError, match="no folder for vorticity; there are"):
        shard_sources.open_source(archive, variables=["vorticity"])
    with pytest.raises(ValueError, match="none of which is wanted"):
        shard_sources.open_source(archive, levels=[1000])


def test_a_variable_on_another_grid_is_named(tmp_path):
    _write(tmp_path / "wb")
    path = tmp_path / "wb" / "constants.nc"
    with xarray.open_dataset(path) as held:
        shifted = held.assign_coords(lon=held["lon"] + 1).load()
    shifted.to_netcdf(path)
    with pytest.raises(ValueError, match="its lon differs from that of"):
        shard_sources.open_source(tmp_path / "wb")


def test_the_command_cuts_and_says_what_it_did(archive, tmp_path, capsys):
    arguments = ["shards", str(archive), str(tmp_path / "out"), "--num-shards", "5"]
    years = ["--start-train-year", "1999", "--start-val-year", "2001"]
    years += ["--start-test-year", "2002", "--end-year", "2003"]
    assert command.main([*arguments, *years]) == 0
    assert "20 shards written, 0 kept, of 9 variables every 24 h" in (
        capsys.readouterr().out
    )
    assert command.main([*arguments, *years]) == 0
    assert "0 shards written, 20 kept" in capsys.readouterr().out
    assert command.main(arguments) == 2
    error = capsys.readouterr().err
    assert "lacks" in error
    assert error.count("\n") == 1
    assert command.main(["shards", str(tmp_path / "none"), str(tmp_path / "x")]) == 2
