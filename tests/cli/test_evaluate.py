import numpy as np
import pytest
import xarray

from tests.evaluation import samples
from weatherlib import evaluation
from weatherlib.cli import main, score_pictures


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    forecast, happened = samples.pair()
    forecast.to_zarr("good.zarr", consolidated=False)
    samples.forecasts(happened, noise=0.6, seed=4).to_netcdf("bad.nc")
    happened.to_netcdf("truth.nc")
    return tmp_path


def _run(*words):
    return main.main(["evaluate", *words, "--resamples", "50"])


def test_two_models_are_scored_and_compared(folder, capsys):
    assert _run("good.zarr", "other=bad.nc", "--truth", "truth.nc",
                "--out-dir", "out", "--regions", "global",
                "belt=-30,30,0,360") == 0  # fmt: skip
    out = capsys.readouterr().out
    assert "Root-mean-square error (rmse), global" in out
    assert "flatters climatology" in out and "* differs from good beyond" in out
    written = sorted(path.name for path in (folder / "out").iterdir())
    assert written == [
        "scores.csv", "scores.nc", "scores_rmse.png", "scores_scorecard.png",
    ]  # fmt: skip
    found = evaluation.open_results(folder / "out" / "scores.nc")
    assert found["model"].values.tolist() == [
        "good", "other", "persistence", "climatology",
    ]  # fmt: skip
    assert found["region"].values.tolist() == ["global", "belt"]
    rmse = found["2m_temperature"].sel(metric="rmse", region="belt")
    assert (rmse.sel(model="other") > rmse.sel(model="good")).all()


@pytest.mark.filterwarnings("ignore")
def test_a_damaged_file_of_the_truth_is_left_out_when_asked(folder, capsys):
    whole = xarray.load_dataset("truth.nc")
    for number in range(4):
        part = whole.isel(time=slice(number * 6, number * 6 + 6))
        part.to_netcdf(f"part{number}.nc")
    bad = folder / "part3.nc"
    bad.write_bytes(bad.read_bytes()[:3000])
    words = ["good.zarr", "--truth", "part*.nc", "--references", "none"]
    words += ["--metrics", "rmse", "--confidence", "0"]
    assert _run(*words) == 2
    assert "--skip-corrupt of stats and evaluate" in capsys.readouterr().err
    assert _run(*words, "--skip-corrupt") == 0
    assert "files skipped: 1: part3.nc" in capsys.readouterr().out
    found = evaluation.open_results(folder / "scores.nc")
    assert "files skipped: 1: part3.nc" in found.attrs["notes"]


def test_options_reach_the_library(folder, capsys):
    mask = xarray.Dataset(
        {"land_sea_mask": (("latitude", "longitude"), np.ones((8, 12)))},
        samples.truth(2).drop_vars(["time", "level"]).coords,
    )
    mask["land_sea_mask"][:, :6] = 0
    mask.to_netcdf("mask.nc")
    samples.truth().mean("time").to_netcdf("climatology.nc")
    assert _run("good.zarr", "--truth", "truth.nc", "--climatology", "climatology.nc",
                "--metrics", "acc", "csi", "--references", "damped-persistence",
                "--period", "2020-01-01:2020-01-06", "--variables", "2m_temperature",
                "--thresholds", "2m_temperature=282,q0.9", "--regions", "land", "sea",
                "--land-sea-mask", "mask.nc", "--by-start", "--name", "mine",
                "--confidence", "0") == 0  # fmt: skip
    found = evaluation.open_results(folder / "mine.nc")
    assert found["region"].values.tolist() == ["land", "sea"]
    assert found["model"].values.tolist() == ["good", "damped-persistence"]
    assert found["csi.2m_temperature"]["threshold"].values.tolist() == ["282", "q0.9"]
    assert "by_start.2m_temperature" in found and "lower.2m_temperature" not in found
    assert "from the file given" in found.attrs["notes"]
    assert "acc" in capsys.readouterr().out


def test_scores_of_events_alone_are_shown_and_drawn(folder, capsys):
    words = ["good.zarr", "bad.nc", "--truth", "truth.nc", "--references", "none"]
    words += ["--thresholds", "2m_temperature=282,285", "--regions", "global"]
    assert _run(*words, "--metrics", "csi") == 0
    out = capsys.readouterr().out
    assert "(csi), global" in out and "2m_temperature, threshold 282" in out
    assert sorted(p.name for p in folder.glob("*.png")) == [
        "scores_csi.png", "scores_scorecard.png",
    ]  # fmt: skip


def test_a_seed_draws_other_samples_of_the_same_scores(folder):
    words = ["good.zarr", "--truth", "truth.nc", "--references", "none"]
    words += ["--regions", "global", "--metrics", "mse"]
    assert _run(*words, "--name", "first") == 0
    assert _run(*words, "--name", "other", "--seed", "1") == 0
    first, other = map(evaluation.open_results, ("first.nc", "other.nc"))
    xarray.testing.assert_identical(first["2m_temperature"], other["2m_temperature"])
    assert (first["lower.2m_temperature"] != other["lower.2m_temperature"]).any()


@pytest.mark.parametrize("name", ["", "a/b", "../b", "..", "b/"])
def test_a_name_that_is_no_file_name_is_refused_before_any_work(folder, capsys, name):
    before = sorted(folder.rglob("*"))
    assert _run("no.zarr", "--truth", "truth.nc", "--out-dir", "o", "--name", name) == 2
    assert f"--name {name!r}: the files' name without" in capsys.readouterr().err
    assert sorted(folder.rglob("*")) == before


@pytest.mark.filterwarnings("default")
def test_later_days_are_scored_with_references_of_an_archive(
    folder, capsys, monkeypatch
):
    monkeypatch.setattr(score_pictures, "draw", lambda *arguments, **options: [])
    whole = xarray.load_dataset("truth.nc")
    whole.isel(time=slice(10)).to_netcdf("archive.nc")
    later = whole.isel(time=slice(10, None))
    later.to_netcdf("later.nc")
    samples.forecasts(later, starts=8, leads=2).to_netcdf("forecast.nc")
    words = ["forecast.nc", "--references", "persistence", "climatology", "ridge"]
    words += ["--metrics", "rmse", "--confidence", "0", "--truth"]
    archive = ("--reference-data", "archive.nc")
    assert _run(*words, "later.nc", *archive, "--period", "2019:2020-01-05") == 0
    captured = capsys.readouterr()
    assert "mean of the reference data, 2020-01-01 00:00" in captured.out
    assert "warning: only a part of the period 2019-01-01 00:00 to" in captured.err
    assert "the reference data has 10 times in the period" in captured.out
    assert _run(*words, "truth.nc", "--period", ":2020-01-05", "--name", "whole") == 0
    found, expected = (
        evaluation.open_results(name)["geopotential"].sel(model="climatology")
        for name in ("scores.nc", "whole.nc")
    )
    xarray.testing.assert_allclose(found, expected)
    assert _run(*words, "[lt][ar]*.nc") == 2
    said = capsys.readouterr().err
    assert "both hold 2020-01-06" in said and "before it as --reference-data" in said


def test_forecasts_by_step_and_valid_time_keep_their_lead_times(folder, capsys):
    forecast, _ = samples.pair()
    stepped = forecast.rename(prediction_timedelta="step")
    valid = stepped["time"] + stepped["step"]
    stepped.assign_coords(valid_time=valid).to_netcdf("stepped.nc")
    words = ("--truth", "truth.nc", "--regions", "global", "--references", "none")
    assert _run("good.zarr", *words, "--name", "expected") == 0
    assert _run("good=stepped.nc", *words, "--name", "found") == 0
    assert "+12 h" in capsys.readouterr().out
    found, expected = map(evaluation.open_results, ("found.nc", "expected.nc"))
    xarray.testing.assert_allclose(found, expected)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["good.zarr", "--truth", "trut.nc"], "did you mean truth.nc"),
        (["no.zarr", "--truth", "truth.nc"], "no.zarr"),
        (["good.zarr", "good.zarr", "--truth", "truth.nc"], "two forecasts are called"),
        (["--truth", "truth.nc"], "at least one file of forecasts"),
        (["good.zarr", "--truth", "truth.nc", "--period", "2020"], "START:END"),
        (
            ["good.zarr", "--truth", "truth.nc", "--period", ":2010-01-05"],
            "no time in the beginning to 2010-01-05 23:59",
        ),
        (
            ["good.zarr", "--truth", "truth.nc", "--period", "2030-01-05:"],
            "no time in 2030-01-05 00:00 to the end; it has 2020-01-01 00:00 to "
            "2020-01-12 12:00; name an archive that holds it with --reference-data",
        ),
        (
            ["good.zarr", "--truth", "truth.nc", "--references", "ridge"],
            "the first start, 2020-01-01 00:00, as --period START:END",
        ),
        (["good.zarr", "--truth", "truth.nc", "--thresholds", "x"], "VARIABLE=VALUE"),
        (
            ["good.zarr", "--truth", "truth.nc", "--thresholds", "2m_temperature=nan"],
            "a threshold is a finite value, found nan",
        ),
        (["good.zarr", "--truth", "truth.nc", "--regions", "a=1,2"], "south,north"),
        (["good.zarr", "--truth", "truth.nc", "--regions", "land"], "land_sea_mask"),
        (["good.zarr", "--truth", "truth.nc", "--metrics", "rsme"],
         "there is no metric 'rsme' (did you mean 'rmse'?)"),
        (["good.zarr", "--truth", "truth.nc", "--metrics", "qqq"], "(valid: rmse, mse"),
        (["good.zarr", "--truth", "truth.nc", "--regions", "=1,2,3,4"], "has no name"),
        (["good.zarr", "--truth", "truth.nc", "--workers", "0"], "at least 1"),
        (["good.zarr", "--truth", "truth.nc", "--seed", "-1"], "seed is at least 0"),
        (["truth.nc", "--truth", "bad.nc"], "has the dimension prediction_timedelta"),
    ],
)  # fmt: skip
def test_a_mistake_ends_with_one_line_and_code_2(folder, capsys, words, message):
    assert _run(*words) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
