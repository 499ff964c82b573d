import shutil
import subprocess
import sys

import haiku as hk
import jax
import numpy as np
import pandas as pd
import pytest
import xarray

from tests.cli import cases
from weatherlib import (
    baselines,
    bundled,
    checkpoint,
    data,
    data_utils,
    graphcast,
    task,
)
from weatherlib.cli import families, main, models, setups
from weatherlib.geometry import graph


@pytest.fixture
def case(tmp_path):
    return cases.Case.create(tmp_path)


def test_weather_is_described(case, capsys):
    assert main.main(["info", str(case.dataset)]) == 0
    printed = capsys.readouterr().out
    for part in (
        "13x24, latitude -90 to 90, longitude 0 to 345",
        "2022-07-14 12:00 to 2022-07-15 06:00 UTC, 4 in all",
        "50, 100, 150",
        "specific_humidity",
        "kg kg-1",
        "batch, time, level, lat, lon",
    ):
        assert part in printed
    assert "Checkpoint" not in printed


def test_a_checkpoint_is_described(case, capsys):
    assert main.main(["info", str(case.checkpoint)]) == 0
    printed = capsys.readouterr().out
    for part in (
        "18,195 in 94 arrays",
        "mesh_size 1",
        "over 12 h",
        "8889e9ce743cba4ab06a8a88739877509b7ac054e01036e704de7883cc506c6c",
        "CC0-1.0",
    ):
        assert part in printed
    assert "Data" not in printed


def test_what_keeps_them_apart_is_listed(case, capsys):
    arguments = ["info", str(case.dataset), "--checkpoint", str(case.checkpoint)]
    assert main.main(arguments) == 0
    assert "Do they fit?\n  yes" in capsys.readouterr().out
    case.change(lambda data: data.drop_sel(level=850).drop_vars("temperature"))
    assert main.main(arguments) == 0
    printed = capsys.readouterr().out.partition("Do they fit?")[2]
    assert "850 hPa missing" in printed and "temperature" in printed


def test_units_time_step_and_parameters_that_keep_them_apart_are_listed(case, capsys):
    arguments = ["info", str(case.dataset), "--checkpoint", str(case.checkpoint)]

    def spaced_in_celsius(data):
        time = data["time"].values * 2
        dates = data["datetime"].values[:, :1] + time
        data = data.assign_coords(time=time, datetime=(("batch", "time"), dates))
        field = (data["2m_temperature"] - 273.15).assign_attrs(units="degC")
        return data.assign({"2m_temperature": field})

    case.change(spaced_in_celsius)
    assert main.main(arguments) == 0
    printed = capsys.readouterr().out.partition("Do they fit?")[2]
    assert "2m_temperature: units 'degC', expected 'K'; weatherlib predict" in printed
    assert "the weights fit a time step of 0 days 06:00:00" in printed
    assert main.main([*arguments[:-1], "./"]) == 0
    printed = capsys.readouterr().out.partition("Do they fit?")[2]
    assert "frames are 0 days 12:00:00 apart, the model steps by 0 days 06" in printed


@pytest.fixture(scope="module")
def window(tmp_path_factory):
    """Weather of a window across Greenwich, and what compares it with its model."""
    folder = tmp_path_factory.mktemp("window")
    name = "mean_sea_level_pressure"
    axes = {
        "time": pd.date_range("2008-10-01", periods=8, freq="12h"),
        "lat": [30.0, 35.0, 40.0],
        "lon": [-10.0, -5.0, 0.0, 5.0],
    }
    field = np.full((8, 3, 4), 1e5, np.float32)
    weather = xarray.Dataset({name: (tuple(axes), field, {"units": "Pa"})}, axes)
    read = task.TaskConfig(
        input_variables=(name,),
        target_variables=(name,),
        forcing_variables=(),
        pressure_levels=(),
        input_duration="48h",
    )
    sizes = baselines.ResidualCnnConfig(
        width=4, dilations=(1,), edges="regional", local_channels=1
    )
    model = models.Model(
        params=None, model_config=sizes, task_config=read, family="residual_cnn"
    )

    def step(inputs, template, forcings):
        network = models.build_network(sizes, read)
        return network(inputs, targets_template=template, forcings=forcings)

    start = data.InitialStates(weather, read, time_step="24h").state(axes["time"][-1])
    example = setups.one_step(start, model)
    key = jax.random.PRNGKey(0)
    shapes = jax.eval_shape(hk.transform(step).init, key, *example)
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    day = np.timedelta64(1, "D")
    grid = families.Grid(lat=axes["lat"], lon=axes["lon"], step=day)
    families.FAMILIES["residual_cnn"]().save(
        folder / "window.npz", params, sizes, read, grid, description="", license=""
    )

    def compare(changed=weather):
        changed.to_netcdf(folder / "changed.nc")
        paths = [str(folder / name) for name in ("changed.nc", "window.npz")]
        assert main.main(["info", paths[0], "--checkpoint", paths[1]]) == 0

    return weather, compare


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        (lambda w: w.isel(time=slice(None, None, 2)), "--init or --conform of weather"),
        (lambda w: w, "they fit with --init of weatherlib predict"),
        (lambda w: w.isel(time=slice(3)), "they fit with --init of weatherlib predict"),
        (lambda w: w.isel(time=slice(2)), "they do not fit before that is mended"),
        (lambda w: w.rename(mean_sea_level_pressure="x"), "before that is mended"),
        (lambda w: w.isel(lat=slice(2), time=slice(None, None, 2)), "they do not fit"),
    ],
)  # fmt: skip
def test_what_a_forecast_from_a_window_needs_is_said(window, change, verdict, capsys):
    weather, compare = window
    compare(change(weather))
    printed = capsys.readouterr().out.partition("Do they fit?")[2]
    assert verdict in printed.splitlines()[-1]
    # The window is counted as the model knows it.
    assert "lon:" not in printed and "--conform does this" in printed


def test_columns_of_a_globe_from_below_zero_are_noted(case, capsys):
    case.change(lambda w: w.assign_coords(lon=w["lon"] - 180))
    weather = xarray.open_dataset(case.dataset, decode_timedelta=True).load()
    lines = [str(problem) for problem in data_utils.check(weather, graphcast.TASK_13)]
    assert any("runs from -180 to 165, published models have 0" in t for t in lines)
    part = data_utils.check(weather.isel(lon=slice(20)), graphcast.TASK_13)
    assert not any("published models have 0" in str(problem) for problem in part)


def test_stored_edges_are_compared_with_those_found_here(case, capsys):
    model = models.load_model(case.checkpoint)
    weather = case.read()
    here = graph.build_graph(
        weather["lat"].values,
        weather["lon"].values,
        mesh_size=1,
        radius_query_fraction_edge_length=0.6,
    ).topology.to_arrays()
    whole = checkpoint.open_checkpoint(case.checkpoint, graphcast.CheckPoint)
    arguments = ["info", str(case.dataset), "--checkpoint", str(case.checkpoint)]
    assert main.main(arguments) == 0
    assert "mesh: not stored in the checkpoint" in capsys.readouterr().out
    for change, message in ((0, "mesh: same edges"), (1, "1 mesh2grid edges differ")):
        edges = {name: array.copy() for name, array in here.items()}
        edges["mesh2grid_senders"][0] += change
        checkpoint.save(model.path, whole, extras={"topology": edges})
        assert main.main(arguments) == 0
        assert message in capsys.readouterr().out


def test_the_bundled_files_are_described_without_arguments(capsys):
    assert main.main(["info"]) == 0
    printed = capsys.readouterr().out
    assert "the bundled sample" in printed and "Do they fit?\n  yes" in printed


_SETTINGS = """
output: runs/toy
description: A toy
data: {path: era5.nc, task: TASK_13, train: {end: "2015"}}
model: {family: graphcast}
stages: [{steps: 20, rollout: [1, 2]}]
schedule: {}
"""


@pytest.fixture
def toy_run(case, tmp_path):
    """The folder of a run that has made 30 of 40 updates."""
    folder = tmp_path / "runs" / "toy"
    for step, mark in ((20, True), (30, True), (31, False)):
        state = folder / "last" / str(step) / "state"
        state.mkdir(parents=True)
        if mark:
            (state.parent / "_CHECKPOINT_METADATA").write_text("{}")
    (folder / "config.yaml").write_text(_SETTINGS, encoding="utf8")
    shutil.copy(case.checkpoint, folder / "checkpoint.npz")
    return folder


def test_a_run_is_described_with_its_updates_and_its_checkpoint(toy_run, capsys):
    assert main.main(["info", str(toy_run)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    for part in (
        f"Run: {toy_run} description A toy data era5.nc train the beginning to 2015",
        f"updates 30 of 40; weatherlib train {toy_run}/config.yaml --resume continues",
        f"Checkpoint: {toy_run}/checkpoint.npz",
        "18,195 in 94 arrays",
    ):
        assert part in printed
    (toy_run / "checkpoint.npz").unlink()
    assert main.main(["info", str(toy_run)]) == 0
    assert "none written yet" in capsys.readouterr().out


@pytest.mark.parametrize("part", ["last", "last/30", "last/30/state"])
def test_the_state_of_a_run_is_told_with_the_run(toy_run, part, capsys):
    assert main.main(["info", str(toy_run / part)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert f"State of a training run: {toy_run}/{part} updates 20, 30" in printed
    assert f"of the run {toy_run}" in printed
    assert f"weights {toy_run}/checkpoint.npz" in printed


def test_a_configuration_is_left_to_training(toy_run, capsys):
    assert main.main(["info", str(toy_run / "config.yaml")]) == 2
    assert (
        f"weatherlib train {toy_run}/config.yaml --dry-run" in capsys.readouterr().err
    )
    other = toy_run / "other.yaml"
    other.write_text("a: 1")
    assert main.main(["info", str(other)]) == 2
    assert "neither weather nor weights" in capsys.readouterr().err


def test_statistics_are_described_with_their_source(tmp_path, capsys):
    assert main.main(["info", str(bundled.statistics_path())]) == 0
    lines = capsys.readouterr().out.splitlines()
    facts = {" ".join(line.split()) for line in lines}
    assert "source archive.nc" in facts
    assert "period 2001-01-01 00:00:00 to 2003-09-27 18:00:00 UTC, 4000 frames" in facts
    assert "grid 32x64, latitude -87.1875 to 87.1875, longitude 0 to 354.375" in facts
    assert any(
        line.startswith("geopotential m2 s-2 292.5 to 1.931e+05") for line in facts
    )
    # Published ones have other names, no smallest values and say nothing of themselves.
    for kind in ("mean", "stddev", "diffs_stddev"):
        with xarray.open_dataset(
            bundled.statistics_path() / f"{kind}_by_level.nc"
        ) as held:
            held.drop_attrs().to_netcdf(tmp_path / f"stats_{kind}_by_level.nc")
    assert main.main(["info", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "not written down" in printed and "min" not in printed


def test_a_folder_of_one_checkpoint_stands_for_it(case, tmp_path, capsys):
    folder = tmp_path / "weights"
    folder.mkdir()
    shutil.copy(case.checkpoint, folder / "a.npz")
    assert main.main(["info", str(folder)]) == 0
    assert f"Checkpoint: {folder}/a.npz" in capsys.readouterr().out
    shutil.copy(case.checkpoint, folder / "b.npz")
    assert main.main(["info", str(folder)]) == 2
    assert "found a.npz, b.npz; name the file" in capsys.readouterr().err
    # Weather in a folder counts more than weights in it.
    shutil.copy(case.dataset, folder / "weather.nc")
    assert main.main(["info", str(folder)]) == 0
    assert "specific_humidity" in capsys.readouterr().out


def test_what_is_no_weather_is_not_compared_with_a_checkpoint(toy_run, capsys):
    for path, what in (
        (toy_run, "a training run"),
        (toy_run / "last", "the state of a training run"),
        (bundled.statistics_path(), "a folder of statistics"),
    ):
        assert main.main(["info", str(path), "--checkpoint", "./"]) == 2
        assert f"is {what}; name a weather file" in capsys.readouterr().err


def test_values_without_a_time_are_not_said_to_be_of_the_first(capsys):
    path = bundled.statistics_path() / "mean_by_level.nc"
    assert main.main(["info", str(path)]) == 0
    printed = capsys.readouterr().out
    assert "range" in printed and "first time" not in printed
    assert main.main(["info"]) == 0
    assert "range at the first time" in capsys.readouterr().out


def test_a_damaged_file_among_others_takes_one_line(case, tmp_path, capsys):
    folder = tmp_path / "several"
    folder.mkdir()
    shutil.copy(case.dataset, folder / "a.nc")
    (folder / "b.nc").write_bytes(case.dataset.read_bytes()[:5000])
    assert main.main(["info", str(folder)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "b.nc: damaged or cut short" in line
    assert f"one of many files of {folder}; give" in line
    assert "pattern in quotes" in line and "on_error" not in line


def test_two_checkpoints_are_not_compared(case, capsys):
    arguments = ["info", str(case.checkpoint), "--checkpoint", str(case.checkpoint)]
    assert main.main(arguments) == 2
    assert "name a weather file to compare" in capsys.readouterr().err


def test_describing_weather_does_not_load_jax(case):
    code = f"""
import sys
from weatherlib.cli import main
assert main.main(["info", {str(case.dataset)!r}]) == 0
print("jax" in sys.modules)
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines()[-1] == "False"
