import numpy as np
import pytest
import xarray

from tests.cli import cases
from weatherlib import data, plotting
from weatherlib.cli import main


@pytest.fixture
def files(tmp_path):
    """Returns weather, and a forecast of its last two frames by our own writer."""
    case = cases.Case.create(tmp_path)
    forecast = case.read().isel(time=slice(2, None))
    with data.open_writer(tmp_path / "forecast.nc") as writer:
        writer.write(forecast + 1.0)
    return case.dataset, tmp_path / "forecast.nc", tmp_path / "out"


def _names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_all_times_are_drawn_on_one_sheet(files, capsys):
    weather, _, out = files
    assert main.main(["plot", str(weather), "--out-dir", str(out)]) == 0
    assert _names(out) == ["2m_temperature_all_leads.png"]
    assert str(out / "2m_temperature_all_leads.png") in capsys.readouterr().out


def test_a_forecast_is_drawn_beside_the_truth_of_its_dates(files, monkeypatch):
    weather, forecast, out = files
    drawn = []
    compare = plotting.draw_comparison
    monkeypatch.setattr(
        "weatherlib.plotting.draw_comparison",
        lambda truth, field, **settings: (
            drawn.append((truth, field)) or compare(truth, field, **settings)
        ),
    )
    arguments = ["plot", str(forecast), "--truth", str(weather), "--out-dir", str(out)]
    assert main.main([*arguments, "--var", "temperature", "--level", "850"]) == 0
    assert _names(out) == [f"temperature_at_850_hPa_step0{n}.png" for n in (1, 2)]
    for truth, field in drawn:
        np.testing.assert_allclose(field.values - truth.values, 1.0, rtol=1e-3)


def test_files_under_other_names_are_drawn_and_described(files, tmp_path, capsys):
    weather, _, out = files
    with xarray.open_dataset(weather, decode_timedelta=True) as dataset:
        other = dataset[["mean_sea_level_pressure"]].isel(batch=0)
        other = other.drop_vars("time").swap_dims(time="datetime")
        other = other.rename(
            datetime="valid_time",
            lat="latitude",
            lon="longitude",
            mean_sea_level_pressure="msl",
        )
        other.to_netcdf(tmp_path / "cds.nc")
    arguments = ["plot", str(tmp_path / "cds.nc"), "--out-dir", str(out)]
    assert main.main([*arguments, "--var", "mean_sea_level_pressure"]) == 0
    assert _names(out) == ["mean_sea_level_pressure_all_leads.png"]
    assert main.main(["info", str(tmp_path / "cds.nc")]) == 0
    printed = capsys.readouterr().out
    assert "13x24, latitude -90 to 90" in printed
    assert "2022-07-14 12:00 to 2022-07-15 06:00 UTC, 4 in all" in printed


def test_chosen_times_and_animations(files):
    weather, _, out = files
    arguments = ["plot", str(weather), "--out-dir", str(out)]
    assert main.main([*arguments, "--steps", "2", "4"]) == 0
    assert main.main([*arguments, "--animate"]) == 0
    assert _names(out) == [
        "2m_temperature.gif",
        "2m_temperature_step02.png",
        "2m_temperature_step04.png",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--var", "nothing"], "no variable 'nothing'"),
        (["--steps", "5"], "has times 1 to 4, not [5]"),
        (["--truth", "absent.nc"], "absent.nc: no such file"),
    ],
)
def test_what_is_not_there_is_named(files, arguments, message, capsys):
    weather, _, out = files
    command = ["plot", str(weather), "--out-dir", str(out), *arguments]
    assert main.main(command) == 2
    assert message in capsys.readouterr().err
    assert _names(out) == []


def test_truth_of_other_dates_is_refused(files, capsys, tmp_path):
    weather, forecast, out = files
    with xarray.open_dataset(weather, decode_timedelta=True) as dataset:
        dataset.isel(time=[0, 1, 2]).to_netcdf(tmp_path / "short.nc")
    command = ["plot", str(forecast), "--truth", str(tmp_path / "short.nc")]
    assert main.main([*command, "--out-dir", str(out)]) == 2
    assert "lacks 1 of the 2 dates" in capsys.readouterr().err


def test_truth_without_dates_is_refused(files, capsys, tmp_path):
    _, forecast, out = files
    with xarray.open_dataset(forecast, decode_timedelta=True) as dataset:
        dateless = dataset.drop_vars(["valid_time", "forecast_reference_time"])
        dateless.to_netcdf(tmp_path / "dateless.nc")
    command = ["plot", str(forecast), "--truth", str(tmp_path / "dateless.nc")]
    assert main.main([*command, "--out-dir", str(out)]) == 2
    assert "the truth has no dates" in capsys.readouterr().err
