"""Models trained, scored and drawn by the example, and what it says to mistakes."""

import json
import subprocess
import sys

import pandas as pd
import pytest
import xarray

from tests.examples import scripts
from tests.training import toys
from weatherlib.cli import comparing, comparison_plan, families, settings

TINY = ("--set", "residual_cnn.width=4", "--set", "residual_cnn.dilations=[1]")


@pytest.fixture(scope="module")
def example():
    """The script as a module."""
    return scripts.load("compare_models")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with weather of ten days and more."""
    folder = tmp_path_factory.mktemp("compare")
    toys.weather()[[toys.PRESSURE]].to_netcdf(folder / "weather.nc")
    return folder


def _words(folder, *more):
    return [
        "--data", str(folder / "weather.nc"), "--output", str(folder / "out"),
        "--models", "residual_cnn", "lr", "--budget", "6", "--input-length", "3",
        "--output-length", "2", "--batch-size", "2", "--starts", "4", *TINY, *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def finished(example, folder):
    """The folder of a comparison that has been made."""
    assert example.main(_words(folder)) == 0
    return folder / "out"


def _request(folder, **changes):
    return comparison_plan.Request(data=str(folder / "weather.nc"), **changes)


def test_the_table_has_costs_of_models_and_errors_of_all(finished):
    table = pd.read_csv(finished / "comparison.csv", index_col=0)
    assert list(table.index) == [
        "residual_cnn", "lr", "persistence", "climatology", "ridge",
    ]  # fmt: skip
    priced = table.loc[["residual_cnn", "lr"]]
    assert (priced["parameters"] > 100).all()
    assert (priced[["training_seconds", "forecast_seconds"]] > 0).all(axis=None)
    assert (priced["memory_mb"] >= 0).all()
    errors = table[[f"{toys.PRESSURE} 6 h", f"{toys.PRESSURE} 12 h"]]
    assert errors.notna().all(axis=None) and (errors > 0).all(axis=None)
    lines = (finished / "comparison.md").read_text().splitlines()
    assert len(lines) == 7 and lines[2].startswith("| residual_cnn |")


def test_the_picture_and_all_scores_are_written(finished):
    assert (finished / "comparison.png").read_bytes().startswith(b"\x89PNG")
    with xarray.open_dataset(finished / "scores.nc", decode_timedelta=True) as scores:
        assert "residual_cnn" in scores["model"].values


def test_a_finished_model_is_not_trained_again(example, finished, folder, monkeypatch):
    called = []
    monkeypatch.setattr(example.subprocess, "call", called.append)
    (finished / "comparison.md").unlink()
    assert example.main(_words(folder)) == 0
    assert called == []
    assert (finished / "comparison.md").exists()


def test_linear_models_choose_their_penalty_without_updates(finished):
    result = json.loads((finished / "lr" / "result.json").read_text())
    assert "updates" not in result
    request = json.loads((finished / "lr" / "request.json").read_text())
    asked = settings.parse(request["settings"], "request")
    assert asked["stages"] == [] and len(asked["model"]["fit"]["candidates"]) == 6


def test_another_request_for_the_same_folder_is_refused(
    example, finished, folder, capsys
):
    assert example.main([*_words(folder), "--budget", "7"]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "was made with other budget; choose another --output" in message
    assert example.main(_words(folder, "--set", "residual_cnn.kernel=1")) == 2
    assert "was made with other settings" in capsys.readouterr().err


def test_forecasts_start_from_times_that_were_not_trained_on(finished):
    with xarray.open_dataset(
        finished / "residual_cnn" / "hindcasts.nc", decode_timedelta=True
    ) as found:
        starts = found["time"].values
    request = json.loads((finished / "residual_cnn" / "request.json").read_text())
    trained = settings.parse(request["settings"], "request")["data"]["train"]
    assert pd.Timestamp(starts[0]) >= pd.Timestamp(trained["end"])
    assert len(starts) <= 4
    assert len(set(pd.DatetimeIndex(starts).hour)) > 1


def test_all_are_models_of_the_same_task(example):
    assert set(example.COMPARED) <= set(families.FAMILIES)
    apart = set(families.FAMILIES) - set(example.COMPARED)
    assert {"graphcast", "prediff", "latent_unet", "persistence"} <= apart
    for name in example.COMPARED:
        family = families.FAMILIES[name]()
        assert family.forecasts and not family.is_generative


def test_a_failed_model_is_named_and_the_others_are_compared(
    example, finished, folder, capsys, monkeypatch
):
    monkeypatch.setattr(example.subprocess, "call", lambda command: 2)
    words = _words(folder)
    place = words.index("lr")
    words.insert(place + 1, "graphcast")
    words += ["--set", "graphcast.resolution=0"]
    words += [w for k in ("mesh_size", "latent_size", "gnn_msg_steps", "hidden_layers")
              for w in ("--set", f"graphcast.{k}=1")]  # fmt: skip
    words += ["--set", "graphcast.radius_query_fraction_edge_length=0.6"]
    assert example.main(words) == 2
    assert "graphcast: failed" in capsys.readouterr().err
    assert (finished / "comparison.png").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--models", "residual_cn"], "no family 'residual_cn'"),
        (["--set", "residual_cnn.widht=3"], "width"),
        (["--set", "width"], "a change is written MODEL.KEY=VALUE"),
        (["--budget", "soon"], "soon"),
        (["--budget", "0min"], "budget must be positive"),
        (["--budgets", "5"], "unrecognized arguments: --budgets 5; --help"),
        (["--variables", "snow"], "has no snow; there is mean_sea_level_pressure"),
        (["--held-out", "2021-01-01"], "too little to train before 2021-01-01"),
        (["--starts", "0"], "starts must be at least 1"),
        (["--references", "luck"], "luck"),
    ],
)
def test_mistakes_end_in_one_line(example, folder, tmp_path, capsys, words, message):
    given = [*_words(folder), "--output", str(tmp_path), *words]
    assert example.main(given) == 2
    shown = capsys.readouterr().err
    assert message in shown and shown.count("\n") == 1


def test_data_that_are_not_there_are_named(example, tmp_path, capsys):
    assert example.main(["--data", str(tmp_path / "x.nc")]) == 2
    assert "x.nc" in capsys.readouterr().err


def test_help_teaches():
    command = [sys.executable, str(scripts.FOLDER / "compare_models.py"), "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "weatherlib simulate archive.nc --days 400" in shown
    assert "residual_cnn" in shown and "--budget" in shown


def test_a_budget_of_time_is_measured_in_updates(folder, tmp_path):
    request = _request(folder, budget="90s")
    assert request.updates is None and request.seconds == 90
    assert _request(folder, budget="90").updates == 90
    (tmp_path / "budget.json").write_text('{"updates": 17}')
    assert comparing.updates("residual_cnn", request, None, tmp_path) == 17


def test_time_is_spent_on_as_many_updates_as_were_measured(folder, tmp_path):
    request = _request(
        folder, budget="2s", input_length=2, batch_size=1, held_out="2020-01-13",
        changes=("residual_cnn.width=2", "residual_cnn.dilations=[1]"),
    )  # fmt: skip
    plan = comparison_plan.make_plan(request)
    found = comparing.updates("residual_cnn", request, plan, tmp_path)
    held = json.loads((tmp_path / "budget.json").read_text())
    assert held["updates"] == found == max(1, round(2 / held["seconds_each"]))
    assert not (tmp_path / "trial").exists()


def test_the_plan_follows_from_the_data(folder):
    plan = comparison_plan.make_plan(_request(folder, input_length=2, starts=3))
    assert plan.task["target_variables"] == [toys.PRESSURE]
    assert plan.task["pressure_levels"] == []
    assert plan.task["input_duration"] == "720min"
    # Two weeks of six-hourly frames know of the day and not of the year.
    assert plan.waves == {"years": 0, "days": 2}
    assert plan.task["forcing_variables"] == ["day_progress_sin", "day_progress_cos"]
    assert plan.train_end == "2020-01-13T00:00"
    first, last, step = plan.starts.rsplit(":", 3)[0], plan.starts, plan.starts[-6:]
    assert first.startswith("2020-01-13") and last.endswith(step)
    assert plan.period == ("2020-01-01T00:00", "2020-01-12T18:00")


def test_what_is_asked_for_comes_before_what_follows(tmp_path):
    toys.weather().to_netcdf(tmp_path / "weather.nc")
    request = _request(
        tmp_path, variables=("geopotential",), levels=(850,), inputs=(toys.PRESSURE,),
        keep_climatology=True, held_out="2020-01-10", input_length=2,
    )  # fmt: skip
    plan = comparison_plan.make_plan(request)
    assert plan.task["input_variables"] == ["geopotential", toys.PRESSURE]
    assert plan.task["target_variables"] == ["geopotential"]
    assert plan.task["pressure_levels"] == [850]
    assert plan.waves is None and plan.train_end == "2020-01-10T00:00"
    both = comparison_plan.make_plan(_request(tmp_path, input_length=2))
    assert both.task["pressure_levels"] == [500, 850]
