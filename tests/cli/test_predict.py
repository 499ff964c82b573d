"""Forecasts through both doors: numbers, files, resuming and interruption."""

import csv
import errno

import numpy as np
import PIL.Image
import pytest
import xarray

from tests import tolerances
from tests.cli import cases
from weatherlib import data
from weatherlib.cli import forecasting


@pytest.fixture(scope="module")
def golden():
    with xarray.open_dataset(
        cases.CASE / "rollout_f32_chunk1.nc", decode_timedelta=True
    ) as dataset:
        return dataset.load()


@pytest.fixture(scope="module")
def diffs_stddev():
    with xarray.open_dataset(cases.CASE / "stats_diffs_stddev_by_level.nc") as stats:
        return stats.load()


@pytest.fixture
def case(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return cases.Case.create(tmp_path)


@pytest.fixture
def compiled_once(monkeypatch):
    """Lets all tests share one compiled model, as they use one checkpoint."""
    build = forecasting.build_forecaster

    def cached(*arguments, **settings):
        if not _FORECASTERS:
            _FORECASTERS.append(build(*arguments, **settings))
        return _FORECASTERS[0]

    monkeypatch.setattr(forecasting, "build_forecaster", cached)


_FORECASTERS = []


def _read(path):
    with data.open_dataset(path) as dataset:
        return dataset.load()


def _assert_golden(forecast, golden, diffs_stddev):
    for name, expected in golden.items():
        found = forecast[name].isel(time=slice(expected.sizes["time"]))
        error = np.abs(found - expected) / diffs_stddev[name]
        assert error.max() <= tolerances.FORECAST_F32_ROLLOUT, name


class _Stops:
    """Lets one frame through to the file and then raises an error, once."""

    def __init__(self, monkeypatch, error):
        self._left = 1
        self._error = error
        self._write = data.ForecastWriter.write
        monkeypatch.setattr(
            data.ForecastWriter, "write", lambda writer, chunk: self(writer, chunk)
        )

    def __call__(self, writer, chunk):
        if self._left == 0:
            self._left = -1
            raise self._error
        self._left -= self._left > 0
        self._write(writer, chunk)


def test_the_script_writes_the_published_forecast_pictures_and_scores(
    case, golden, diffs_stddev, capfd
):
    case.more += ["--steps", "2", "--animate"]
    assert cases.DOORS["script"](case.arguments()) == 0
    forecast = _read(case.output)
    _assert_golden(forecast, golden, diffs_stddev)
    assert forecast.attrs["license"] == "CC0-1.0 (random numbers)"
    assert len(forecast.attrs["checkpoint_sha256"]) == 64
    assert sorted(path.name for path in case.out.iterdir()) == [
        "2m_temperature.gif",
        "2m_temperature_all_leads.png",
        "2m_temperature_step01.png",
        "2m_temperature_step02.png",
        "forecast.nc",
        "rmse.csv",
        "rmse.png",
    ]
    with PIL.Image.open(case.out / "2m_temperature.gif") as movie:
        assert movie.n_frames == 2
    captured = capfd.readouterr()
    assert captured.err == ""
    printed = captured.out
    for part in (
        f"dataset: {case.dataset}",
        "18,195 in 94 arrays",
        "2 steps of 6 h, 2 with truth",
        "Forecast: 2 of 2",
        "+12 h",
        str(case.out / "2m_temperature_step02.png"),
        "Time: load",
        "Predictions:",
        "<xarray.Dataset>",
    ):
        assert part in printed
    rows = list(csv.DictReader((case.out / "rmse.csv").read_text().splitlines()))
    by_hand = forecast["2m_temperature"].isel(time=1, batch=0)
    truth = case.read()["2m_temperature"].isel(time=-1, batch=0)
    weights = np.cos(np.deg2rad(truth["lat"]))
    expected = float(np.sqrt(((by_hand - truth) ** 2).weighted(weights).mean()))
    found = [
        float(row["rmse"])
        for row in rows
        if (row["variable"], row["source"], row["lead_hours"])
        == ("2m_temperature", "forecast", "12")
    ]
    # The poles count half a cell in the table and nothing in the cosine.
    np.testing.assert_allclose(found, [expected], rtol=0.02)


def test_a_forecast_goes_on_beyond_the_data(case, capfd, compiled_once):
    case.more += ["--steps", "3", "--var", "geopotential", "--level", "850"]
    case.output = case.out / "forecast.zarr"
    assert cases.DOORS["script"](case.arguments()) == 0
    assert "3 steps of 6 h, 2 with truth" in capfd.readouterr().out
    forecast = _read(case.output)
    assert forecast.sizes["time"] == 3
    assert np.isfinite(forecast["geopotential"]).all()
    pictures = sorted(path.name for path in case.out.glob("*step*.png"))
    assert pictures == [f"geopotential_at_850_hPa_step0{n}.png" for n in (1, 2, 3)]
    with (
        PIL.Image.open(case.out / pictures[1]) as three_panels,
        PIL.Image.open(case.out / pictures[2]) as one_panel,
    ):
        assert three_panels.width > 1.5 * one_panel.width


@pytest.mark.parametrize("words", [["--conform"], ["--init", "2022-07-14T18"]])
def test_units_that_were_converted_are_named(words, case, capfd, compiled_once):
    def in_celsius(dataset):
        field = (dataset["2m_temperature"] - 273.15).assign_attrs(units="degC")
        return dataset.assign({"2m_temperature": field})

    case.change(in_celsius)
    case.more += words
    assert cases.DOORS["command"](case.arguments()) == 0
    printed = capfd.readouterr().out
    assert "Data: converted 2m_temperature from degC to K" in printed


def test_another_spelling_of_a_unit_is_no_other_unit(case, capfd):
    def spell(dataset):
        spellings = {
            "geopotential": "m**2 s**-2",
            "mean_sea_level_pressure": "pascal",
            "temperature": "kelvin",
        }
        return dataset.assign(
            {n: dataset[n].assign_attrs(units=unit) for n, unit in spellings.items()}
        )

    case.change(spell)
    case.more += ["--var", "nothing"]
    assert cases.DOORS["command"](case.arguments()) == 2
    assert "no variable 'nothing'" in capfd.readouterr().err


def test_the_parts_of_file_names_are_printed_with_what_contradicts_them(
    case, capfd, compiled_once
):
    name = "source-hres_date-2022-07-14_res-1.0_levels-13_steps-02.nc"
    case.dataset = case.dataset.rename(case.folder / name)
    case.checkpoint = case.checkpoint.rename(case.folder / "small_res-15_mesh-5.npz")
    assert cases.DOORS["script"](case.arguments()) == 0
    lines = capfd.readouterr().out.splitlines()
    said = "source hres, date 2022-07-14, res 1.0, levels 13, steps 02"
    assert f"File parts, data: {said}" in lines
    assert "File parts, checkpoint: res 15, mesh 5" in lines
    assert [line for line in lines if "note:" in line] == [
        "  note: the name says res 1.0, but the data have 15 degrees",
        "  note: the name says mesh 5, but the model has 1",
    ]


def test_two_frames_are_enough_for_the_command(case, capfd, compiled_once):
    case.change(lambda dataset: dataset.isel(time=[0, 1]))
    at = case.arguments().index("--output")
    arguments = [*case.arguments()[:at], *case.arguments()[at + 2 :]]
    assert cases.DOORS["command"](arguments) == 0
    assert "no scores" in capfd.readouterr().out
    assert [path.name for path in case.out.iterdir()] == ["2m_temperature.png"]


def test_a_full_disk_leaves_what_was_written_and_the_command_continues(
    case, golden, diffs_stddev, capfd, monkeypatch, compiled_once
):
    case.more += ["--steps", "2"]
    _Stops(monkeypatch, OSError(errno.ENOSPC, "No space left on device", "forecast"))
    assert cases.DOORS["command"](case.arguments()) == 2
    errors = capfd.readouterr().err
    assert "No space left on device" in errors and "Traceback" not in errors
    partial = case.output.with_name("forecast.nc.partial")
    assert f"the first 1 of 2 frames are in {partial}" in errors
    assert [path.name for path in case.out.iterdir()] == ["forecast.nc.partial"]
    assert _read(partial).sizes["time"] == 1
    assert cases.DOORS["command"](case.arguments()) == 0
    _assert_golden(_read(case.output), golden, diffs_stddev)
    assert not partial.exists()


def test_ctrl_c_says_how_to_go_on(case, capfd, monkeypatch, compiled_once):
    case.more += ["--steps", "2"]
    _Stops(monkeypatch, KeyboardInterrupt())
    assert cases.DOORS["command"](case.arguments()) == 130
    errors = capfd.readouterr().err
    assert "interrupted" in errors and "the same command continues" in errors
    assert "Traceback" not in errors
    assert not case.output.exists()
