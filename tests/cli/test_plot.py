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
    assert _names(out) == ["mean_sea_level_pressure_times.png"]
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


@pytest.fixture
def hindcasts(tmp_path, files):
    """Returns a set of ensemble forecasts in the shared layout, and the weather."""
    weather, _, out = files
    with xarray.open_dataset(weather, decode_timedelta=True) as dataset:
        whole = dataset[["2m_temperature", "geopotential", "temperature"]].load()
    whole = whole.isel(batch=0)
    starts = whole["datetime"].values[:2].astype("datetime64[ns]")
    step = np.diff(starts)[0]
    parts = [
        xarray.concat(
            [
                whole.isel(time=slice(n + 1, n + 3)).drop_vars("datetime") + m
                for m in range(3)
            ],
            "number",
        ).assign_coords(time=[step, 2 * step])
        for n in range(2)
    ]
    parts = [part.rename(time="prediction_timedelta") for part in parts]
    joined = xarray.concat(parts, "time").assign_coords(time=starts)
    joined = joined.rename(lat="latitude", lon="longitude")
    joined.to_netcdf(tmp_path / "hindcasts.nc")
    return tmp_path / "hindcasts.nc", weather, out, starts


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["--lead", "6h", "--projection", "robinson"], ["_robinson_lead_6h.png"]),
        (["--member", "mean", "--region", "europe"], ["_mean_europe_all_leads.png"]),
        (
            ["--kind", "spaghetti", "--projection", "north-polar"],
            ["_north-polar_spaghetti.png"],
        ),
        (["--kind", "plume", "--at=52,-13"], ["_at_52_-13_plume.png"]),
        (["--kind", "plume", "--region=-30,30,20,70"], ["_-30_30_20_70_plume.png"]),
        (["--kind", "spectrum", "--lead", "6h"], ["_lead_6h_spectrum.png"]),
        (
            ["--kind", "panels", "--lead", "12h", "--middle=10,50"],
            ["_middle_10_50_lead_12h.png"],
        ),
        (["--animate", "--projection", "orthographic"], ["_orthographic.gif"]),
        (["--steps", "1", "--member", "2"], ["_member_2_step01.png"]),
    ],
)
def test_every_kind_of_field_picture_is_drawn(hindcasts, arguments, names):
    path, weather, out, _ = hindcasts
    command = ["plot", str(path), "--out-dir", str(out), *arguments]
    if set(arguments) & {"panels", "plume", "spectrum"}:
        command += ["--truth", str(weather)]
    assert main.main(command) == 0
    assert _names(out) == [f"2m_temperature{name}" for name in names]


def test_sections_are_zonal_means_or_along_a_meridian(hindcasts):
    path, weather, out, _ = hindcasts
    command = ["plot", str(path), "--out-dir", str(out), "--kind", "section"]
    assert main.main([*command, "--var", "t"]) == 0
    assert main.main([*command, "--var", "z", "--at", "0,10"]) == 0
    assert main.main([*command, "--var", "t", "--truth", str(weather)]) == 0
    assert _names(out) == [
        "geopotential_at_0_10_section.png", "temperature_section.png",
    ]  # fmt: skip


def test_a_start_and_a_member_of_a_set_are_the_ones_drawn(hindcasts, monkeypatch):
    path, weather, out, starts = hindcasts
    drawn = []
    compare = plotting.draw_comparison
    monkeypatch.setattr(
        "weatherlib.plotting.draw_comparison",
        lambda truth, field, **settings: (
            drawn.append((truth, field)) or compare(truth, field, **settings)
        ),
    )
    command = ["plot", str(path), "--out-dir", str(out), "--truth", str(weather)]
    command += ["--init", str(starts[1]), "--member", "2", "--lead", "12h"]
    assert main.main(command) == 0
    ((truth, found),) = drawn
    np.testing.assert_allclose(found.values - truth.values, 2.0, rtol=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--init", "1999-01-01"], "there is no forecast from 1999-01-01"),
        (["--init", "someday"], "'someday' is no date"),
        (["--lead", "5h"], "there is no 5h; there are 0 days 06:00:00 to"),
        (["--time", "1999-01-01"], "has no 1999-01-01; it has 2022"),
        (["--member", "7"], "no member '7'; there are 0 to 2"),
        (["--region", "atlantis"], "there are africa, arctic"),
        (["--region", "1,2"], "is not 4 numbers"),
        (["--kind", "plume", "--at", "here"], "is not 2 numbers"),
        (["--middle", "nan,0"], "is not 2 numbers"),
        (["--middle", "500,0"], "--middle 500,0: longitudes lie in"),
        (["--middle", "0,91"], "latitudes in -90 to 90"),
        (["--kind", "panels"], "beside --truth FILE"),
        (["--kind", "scorecard"], "holds fields, not scores by lead time"),
        (["--kind", "curves", "--metric", "rmse"], "no scores by lead time"),
        (["--kind", "scorecard", "--reference", "x.nc"], "not scores by lead time"),
    ],
)
def test_what_a_picture_lacks_is_named(hindcasts, tmp_path, arguments, message, capsys):
    path, weather, out, _ = hindcasts
    path = weather if "curves" in arguments else path
    if "curves" in arguments:
        with xarray.open_dataset(weather, decode_timedelta=True) as dataset:
            means = dataset.mean(["lat", "lon"]).isel(time=0, drop=True)
            means.to_netcdf(tmp_path / "no_leads.nc")
        path = tmp_path / "no_leads.nc"
    assert main.main(["plot", str(path), "--out-dir", str(out), *arguments]) == 2
    errors = [e for e in capsys.readouterr().err.splitlines() if ": error: " in e]
    assert len(errors) == 1 and message in errors[0]
    assert _names(out) == []


@pytest.fixture
def shown(monkeypatch):
    """Returns what is drawn as maps by lead time, as one map, or as spectra."""
    seen = []
    for name in ("draw_map", "draw_leads", "draw_spectra"):
        draw = getattr(plotting, name)

        def record(fields, *, draw=draw, **settings):
            seen.append((fields, settings))
            return draw(fields, **settings)

        monkeypatch.setattr(plotting, name, record)
    return seen


def _stepped(path, starts, steps):
    """Writes forecasts by start and step, as GRIB has them."""
    lat, lon = np.linspace(-60, 60, 5), np.arange(0, 360, 45.0)
    values = np.arange(starts * steps * 40.0).reshape(starts, steps, 5, 8)
    time = np.datetime64("2020-01-01", "ns") + np.arange(starts) * np.timedelta64(
        1, "D"
    )
    step = (np.arange(steps) * np.timedelta64(6, "h")).astype("m8[ns]")
    dataset = xarray.Dataset(
        {
            "10m_u_component_of_wind": (
                ("time", "step", "latitude", "longitude"),
                values,
            )
        },
        {"time": time, "step": step, "latitude": lat, "longitude": lon},
    )
    dataset["10m_v_component_of_wind"] = dataset["10m_u_component_of_wind"] * 0.75
    valid = dataset["time"] + dataset["step"]
    dataset.assign_coords(valid_time=valid).to_netcdf(path)


def test_forecasts_by_start_and_step_keep_their_lead_times(tmp_path, shown):
    _stepped(tmp_path / "set.nc", 2, 6)
    command = ["plot", str(tmp_path / "set.nc"), "--out-dir", str(tmp_path / "out")]
    words = ["--lead", "12h", "--init", "2020-01-02"]
    assert main.main([*command, *words]) == 0
    ((field, _),) = shown
    assert field["datetime"].values == np.datetime64("2020-01-02T12")
    np.testing.assert_allclose(field.values.min(), (6 + 2) * 40)
    assert main.main(command) == 0
    assert shown[1][0]["time"].dtype.kind == "m"


def test_starts_and_steps_that_make_one_series_stay_one(tmp_path, shown):
    _stepped(tmp_path / "series.nc", 2, 4)
    command = ["plot", str(tmp_path / "series.nc"), "--out-dir", str(tmp_path)]
    assert main.main(command) == 0
    field, _ = shown[0]
    assert field["time"].dtype.kind == "M" and field.sizes["time"] == 8


def test_wind_speed_is_drawn_from_the_wind(tmp_path, shown):
    _stepped(tmp_path / "set.nc", 1, 2)
    command = ["plot", str(tmp_path / "set.nc"), "--out-dir", str(tmp_path)]
    command += ["--var", "10m_wind_speed", "--lead", "6h"]
    assert main.main(command) == 0
    ((field, _),) = shown
    np.testing.assert_allclose(field.values.ravel(), 1.25 * np.arange(40, 80))
    assert (tmp_path / "10m_wind_speed_lead_6h.png").exists()


def test_a_spectrum_is_that_of_the_last_time_and_says_so(hindcasts, shown):
    path, _, out, _ = hindcasts
    command = ["plot", str(path), "--out-dir", str(out), "--kind", "spectrum"]
    assert main.main(command) == 0
    assert main.main([*command, "--lead", "12h"]) == 0
    (last, settings), (chosen, _) = shown
    assert "+12 h" in settings["title"]
    xarray.testing.assert_allclose(last["hindcasts"], chosen["hindcasts"])


def test_places_of_plumes_are_written_as_people_do(hindcasts, monkeypatch):
    path, _, out, _ = hindcasts
    places = []
    monkeypatch.setattr(
        "weatherlib.plotting.draw_plume",
        lambda series, *, draw=plotting.draw_plume, **settings: (
            places.append(settings["place"]) or draw(series, **settings)
        ),
    )
    command = ["plot", str(path), "--out-dir", str(out), "--kind", "plume"]
    for place in ("--at=-50,-20", "--at=50,340"):
        assert main.main([*command, place]) == 0
    assert places == ["50°S 20°W", "50°N 20°W"]


def test_scores_and_fields_without_values_are_no_maps(files, tmp_path, capsys):
    weather, _, out = files
    with xarray.open_dataset(weather, decode_timedelta=True) as dataset:
        (dataset[["2m_temperature"]] * np.nan).to_netcdf(tmp_path / "empty.nc")
    lead = (np.arange(1, 3) * np.timedelta64(6, "h")).astype("m8[ns]")
    xarray.Dataset(
        {"2m_temperature": (("metric", "lead_time"), np.ones((1, 2)))},
        {"metric": ["rmse"], "lead_time": lead},
    ).to_netcdf(tmp_path / "scores.nc")
    for name, message in (
        ("empty.nc", "empty.nc: all values of 2 m temperature are missing"),
        ("scores.nc", "scores by lead time and no maps; draw it with --kind curves"),
    ):
        path = str(tmp_path / name)
        assert main.main(["plot", path, "--out-dir", str(out)]) == 2
        assert message in capsys.readouterr().err
    assert _names(out) == []
