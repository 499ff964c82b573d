"""Scores as `weatherlib evaluate` writes them, and others, become pictures."""

import numpy as np
import pytest
import xarray

from tests.evaluation import samples
from weatherlib import evaluation, plotting
from weatherlib.cli import main


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Returns the folder of two runs, the second of which has one model of the first.

    Both are called scores.nc, as they are by default.
    """
    folder = tmp_path_factory.mktemp("runs")
    good, happened = samples.pair()
    bad = samples.forecasts(happened, noise=0.6, seed=4)
    runs = {"one": {"good": good, "bad": bad}, "two": {"other": bad}}
    for run, forecasts in runs.items():
        found = evaluation.evaluate(
            forecasts,
            happened,
            metrics=("rmse", "bias", "pod", "hss", "forecast_zonal_spectrum"),
            thresholds={"2m_temperature": (evaluation.parse_threshold("282"),)},
            regions=("tropics", "global"),
            resamples=100,
        )
        (folder / run).mkdir()
        evaluation.write_results(found, folder / run / "scores.nc")
    return folder


@pytest.fixture
def drawn(monkeypatch):
    """Returns what is drawn: scores and settings of each picture."""
    seen = []
    for name in ("draw_score_curves", "draw_scorecard"):
        draw = getattr(plotting, name)

        def record(scores, *, draw=draw, **settings):
            figure = draw(scores, **settings)
            seen.append((scores, settings, figure))
            return figure

        monkeypatch.setattr(plotting, name, record)
    return seen


def _plot(path, out, *words):
    return main.main(["plot", str(path), "--out-dir", str(out), *map(str, words)])


def test_curves_show_every_model_of_a_file_with_its_interval(written, drawn, tmp_path):
    path = written / "one" / "scores.nc"
    assert _plot(path, tmp_path, "--kind", "curves") == 0
    ((scores, settings, figure),) = drawn
    assert list(scores.data_vars) == ["geopotential_500", "2m_temperature"]
    models = ["good", "bad", "persistence", "climatology"]
    assert scores["source"].values.tolist() == models
    assert settings["title"] == "RMSE by lead time, global"
    found = evaluation.open_results(path)["2m_temperature"]
    expected = found.sel(metric="rmse", region="global")
    np.testing.assert_allclose(scores["2m_temperature"], expected)
    assert len(figure.axes) == 2
    assert all(len(axes.lines) == len(axes.collections) == 4 for axes in figure.axes)
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == models
    # Not the name that `evaluate` gives its own picture.
    assert [p.name for p in tmp_path.iterdir()] == ["scores_curves_rmse.png"]


def test_region_level_and_variable_of_curves_are_chosen(written, drawn, tmp_path):
    path = written / "one" / "scores.nc"
    words = ("--kind", "curves", "--region", "tropics", "--level", 850)
    assert _plot(path, tmp_path, *words, "--var", "geopotential") == 0
    ((scores, settings, _),) = drawn
    assert settings["title"].endswith("tropics")
    at = {"metric": "rmse", "region": "tropics", "level": 850}
    expected = evaluation.open_results(path)["geopotential"].sel(at)
    np.testing.assert_allclose(scores["geopotential_850"], expected)
    assert list(scores) == ["geopotential_850"]
    assert (tmp_path / "scores_curves_rmse_tropics.png").exists()


def test_curves_of_two_files_hold_what_differs_once_for_each(written, drawn, tmp_path):
    words = ("--kind", "curves", "--reference", written / "two" / "scores.nc")
    assert _plot(written / "one" / "scores.nc", tmp_path, *words) == 0
    names = drawn[0][0]["source"].values.tolist()
    # Persistence and climatology are the same in both.
    assert names == ["good", "bad", "other", "persistence", "climatology"]


def test_models_of_one_name_are_told_apart_by_their_files(drawn, tmp_path):
    for folder, factor in (("a", 0.8), ("b", 1.0)):
        (tmp_path / folder).mkdir()
        _score_file(tmp_path / folder / "scores.nc", factor)
    words = ("--kind", "curves", "--reference", tmp_path / "b" / "scores.nc")
    assert _plot(tmp_path / "a" / "scores.nc", tmp_path / "out", *words) == 0
    names = drawn[0][0]["source"].values.tolist()
    assert names == ["scores (a/scores)", "scores (b/scores)"]


def test_a_scorecard_of_one_file_compares_with_its_first_model(
    written, drawn, tmp_path
):
    path = written / "one" / "scores.nc"
    assert _plot(path, tmp_path, "--kind", "scorecard") == 0
    ((relative, settings, _),) = drawn
    assert set(relative.data_vars) == {"geopotential", "2m_temperature"}
    assert relative["model"].values.tolist() == ["bad", "persistence", "climatology"]
    assert settings["better_is_lower"] and settings["title"] == "RMSE against good"
    assert settings["significant"]["2m_temperature"].any()
    rmse = evaluation.open_results(path)["2m_temperature"].sel(metric="rmse")
    change = rmse.sel(model="bad") / rmse.sel(model="good") - 1
    shown = relative["2m_temperature"].sel(model="bad", region="global")
    np.testing.assert_allclose(shown, change.sel(region="global"))


def test_scorecards_know_which_values_are_good(written, drawn, tmp_path):
    path = written / "one" / "scores.nc"
    words = ("--kind", "scorecard", "--baseline", "persistence", "--metric")
    for metric in ("bias", "pod", "hss"):
        assert _plot(path, tmp_path, *words, metric) == 0
    (bias, signs, _), (pod, high, _), (_, also_high, _) = drawn
    assert signs["better_is_lower"] and "distance from 0" in signs["title"]
    assert not high["better_is_lower"] and not also_high["better_is_lower"]
    value = abs(evaluation.open_results(path)["2m_temperature"].sel(metric="bias"))
    expected = value.sel(model="good") / value.sel(model="persistence") - 1
    good = bias["2m_temperature"].sel(model="good")
    np.testing.assert_allclose(good, expected.sel(region=good["region"]))
    # What chance explains was worked out against another model.
    assert signs["significant"] is None
    assert list(pod.data_vars) == ["2m_temperature, threshold 282"]


def test_a_scorecard_of_two_files_compares_their_main_models(written, drawn, tmp_path):
    words = ("--kind", "scorecard", "--reference", written / "one" / "scores.nc")
    assert _plot(written / "two" / "scores.nc", tmp_path, *words) == 0
    assert _plot(written / "two" / "scores.nc", tmp_path, *words,
                 "--baseline", "bad") == 0  # fmt: skip
    (worse, settings, _), (same, _, _) = drawn
    assert worse["model"].values.tolist() == ["other (two/scores)"]
    title = "RMSE: other (two/scores) against good (one/scores)"
    assert settings["title"] == title
    assert float(worse["2m_temperature"].min()) > 0.5
    np.testing.assert_allclose(same["2m_temperature"], 0, atol=1e-12)


def _score_file(path, factor):
    lead = (np.arange(1, 5) * np.timedelta64(24, "h")).astype("m8[ns]")
    dims = ("metric", "lead_time", "level")
    values = factor * np.arange(1.0, 17.0).reshape(2, 4, 2)
    xarray.Dataset(
        {"geopotential": (dims, values, {"units": "m2 s-2"})},
        coords={"metric": ["rmse", "crps"], "lead_time": lead, "level": [500, 850]},
    ).to_netcdf(path)


def test_files_without_models_are_compared_by_their_names(drawn, tmp_path):
    _score_file(tmp_path / "new.nc", 0.8)
    _score_file(tmp_path / "old.nc", 1.0)
    words = ("--reference", tmp_path / "old.nc")
    assert _plot(tmp_path / "new.nc", tmp_path, "--kind", "scorecard", *words) == 0
    relative, settings, _ = drawn[0]
    np.testing.assert_allclose(relative["geopotential"], -0.2)
    assert settings["title"] == "RMSE: new against old"
    words = ("--kind", "curves", "--metric", "crps", *words)
    assert _plot(tmp_path / "new.nc", tmp_path, *words) == 0
    assert drawn[1][0]["source"].values.tolist() == ["new", "old"]
    assert sorted(p.name for p in tmp_path.glob("*.png")) == [
        "new_curves_crps_against_old.png", "new_scorecard_rmse_against_old.png",
    ]  # fmt: skip


def test_a_file_that_says_nothing_of_regions_is_compared_too(written, drawn, tmp_path):
    _score_file(tmp_path / "old.nc", 1.0)
    lead = np.array([12, 24]) * np.timedelta64(1, "h")
    with xarray.open_dataset(tmp_path / "old.nc", decode_timedelta=True) as opened:
        changed = opened.isel(lead_time=[0, 1]).load()
    changed = changed.assign_coords(lead_time=lead.astype("m8[ns]"))
    changed.to_netcdf(tmp_path / "early.nc")
    path, words = written / "one" / "scores.nc", ("--reference", tmp_path / "early.nc")
    assert _plot(path, tmp_path, "--kind", "scorecard", *words) == 0
    assert dict(drawn[0][0].sizes) == {"model": 1, "lead_time": 2, "level": 2}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["curves", "--region", "alps"], "no 'alps'; it has tropics, global"),
        (
            ["curves", "--metric", "acc"],
            "no 'acc' by lead time; it has rmse, bias, pod",
        ),
        (["curves", "--level", "100"], "no 100 hPa; there are 500, 850"),
        (["curves", "--var", "rain"], "no 'rain'; it has geopotential, 2m_temp"),
        (["scorecard", "--baseline", "best"], "no 'best'; it has good, bad, persist"),
        (["scorecard", "--reference", "single.nc"], "no lead time in common"),
    ],
)
def test_what_scores_lack_is_named(
    written, tmp_path, monkeypatch, capsys, words, message
):
    monkeypatch.chdir(tmp_path)
    _score_file("single.nc", 1.0)
    path = written / "one" / "scores.nc"
    if "--reference" in words:
        with xarray.open_dataset("single.nc", decode_timedelta=True) as opened:
            opened.isel(lead_time=[3]).load().to_netcdf("later.nc")
        words = [*words[:-1], "later.nc"]
    assert _plot(path, tmp_path, "--kind", *words) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("error:") == 1
    assert not list(tmp_path.glob("*.png"))


def test_a_scorecard_needs_two_models_and_a_metric_with_good_values(tmp_path, capsys):
    _score_file(tmp_path / "one.nc", 1.0)
    assert _plot(tmp_path / "one.nc", tmp_path, "--kind", "scorecard") == 2
    assert "one alone; a scorecard compares with" in capsys.readouterr().err
    with xarray.open_dataset(tmp_path / "one.nc", decode_timedelta=True) as opened:
        named = opened.assign_coords(metric=["rmse", "ensemble_variance"]).load()
    named.to_netcdf(tmp_path / "two.nc")
    words = ("--kind", "scorecard", "--reference", tmp_path / "two.nc")
    words += ("--metric", "ensemble_variance")
    named.to_netcdf(tmp_path / "three.nc")
    assert _plot(tmp_path / "three.nc", tmp_path, *words) == 2
    assert "no value of it is known to be better" in capsys.readouterr().err
