"""The first things a newcomer tries: no arguments, and a random model."""

import dataclasses
import socket

import numpy as np
import pytest

from tests.cli import cases
from weatherlib import data
from weatherlib.cli import models


@pytest.fixture
def offline(monkeypatch):
    def refuse(*_):
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def test_without_arguments_the_bundled_model_beats_persistence(
    tmp_path, monkeypatch, offline, capfd
):
    monkeypatch.chdir(tmp_path)
    assert cases.SCRIPT.main(["--steps", "4"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "2m_temperature_all_leads.png",
        "2m_temperature_step04.png",
        "forecast.nc",
        "rmse.csv",
        "rmse.png",
    ]
    with data.open_dataset("forecast.nc") as forecast:
        assert forecast.sizes["time"] == 4
        assert np.isfinite(forecast["geopotential"]).all()
    lines = (tmp_path / "rmse.csv").read_text().splitlines()
    rows = [line.split(",") for line in lines[1:]]
    errors = {(row[0], row[2]): float(row[4]) for row in rows if row[3] == "24"}
    for name in ("geopotential_500", "temperature_850", "2m_temperature"):
        assert errors[name, "forecast"] < errors[name, "persistence"]
    assert "the bundled sample" in capfd.readouterr().out


def test_ten_days_are_the_default_of_the_bare_run_only():
    from weatherlib.cli import forecasting, predict, sources

    assert forecasting.DEFAULT_STEPS == 40
    model = models.random_model()
    for fields, steps in (
        ({}, 40),
        ({"dataset": "x.nc"}, 1),
        ({"pretrained": "x.npz"}, 1),
        ({"dataset": "x.nc", "steps": 7}, 7),
    ):
        assert sources.steps(predict.Options(**fields), model, pytest.fail) == steps


def test_a_random_model_writes_over_no_forecast(tmp_path, monkeypatch, offline):
    from weatherlib.cli import predict_options

    # It still makes the ten days of the walk-through, for pictures only.
    bare = predict_options.Options(mode="Random")
    assert bare.is_bare and not bare.writes_unasked
    assert predict_options.Options().writes_unasked
    monkeypatch.chdir(tmp_path)
    small = dataclasses.replace(models._DEMONSTRATION, mesh_size=1, latent_size=4)
    monkeypatch.setattr(models, "_DEMONSTRATION", small)
    (tmp_path / "forecast.nc").write_text("earlier")
    assert cases.SCRIPT.main(["--mode", "Random", "--steps", "1"]) == 0
    assert (tmp_path / "forecast.nc").read_text() == "earlier"


def test_a_random_model_makes_a_forecast(tmp_path, monkeypatch, offline, capfd):
    monkeypatch.chdir(tmp_path)
    small = dataclasses.replace(models._DEMONSTRATION, mesh_size=1, latent_size=4)
    monkeypatch.setattr(models, "_DEMONSTRATION", small)
    case = cases.Case.create(tmp_path)
    arguments = ["--mode", "Random", "--dataset", str(case.dataset)]
    assert cases.SCRIPT.main([*arguments, "--out-dir", "out"]) == 0
    assert (tmp_path / "out" / "2m_temperature.png").exists()
    printed = capfd.readouterr().out
    assert "random parameters" in printed and "1 step of 6 h" in printed
