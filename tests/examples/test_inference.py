"""The functions of examples/inference.py, as the walk-through specifies them."""

import dataclasses
import json
import shutil

import jax
import matplotlib.colors
import numpy as np
import PIL.Image
import pytest
import xarray

from tests import tolerances
from tests.cli import cases
from tests.plotting.fields import field
from weatherlib import data_utils, graphcast, xarray_jax
from weatherlib.cli import models

inference = cases.SCRIPT


@pytest.fixture
def weather():
    with xarray.open_dataset(
        cases.CASE / cases.SOURCE, decode_timedelta=True
    ) as dataset:
        return dataset.load()


@pytest.fixture
def model():
    return models.load_model(cases.CASE / "params.npz")


def test_the_parser_has_the_flags_and_defaults_of_the_walk_through():
    args = inference.argsparser().parse_args([])
    assert (args.pretrained, args.dataset) == ("./", None)
    assert (args.var, args.level) == ("2m_temperature", 500)
    assert (args.mode, args.precision, args.out_dir) == ("Checkpoint", "auto", ".")
    assert (args.steps, args.stats, args.output) == (None, None, None)
    assert not args.animate and not args.list
    args = inference.argsparser().parse_args(["--mode", "Random", "--level", "850"])
    assert (args.mode, args.level) == ("Random", 850)


def test_the_help_teaches(capsys):
    with pytest.raises(SystemExit) as leave:
        inference.main(["--help"])
    assert leave.value.code == 0
    printed = capsys.readouterr().out
    assert "python examples/inference.py --mode Checkpoint" in printed
    for flag in ("--pretrained", "--stats", "--steps", "--output", "--animate"):
        assert flag in printed


def test_every_argument_is_printed(capsys):
    args = inference.argsparser().parse_args(["--steps", "7"])
    inference.print_arguments(args)
    printed = capsys.readouterr().out
    for name, value in vars(args).items():
        assert f"{name}: {value}" in printed


def test_file_names_are_taken_apart():
    parts = inference.parse_file_parts(
        "source-era5_date-2022-01-01_res-0.25_levels-13_odd_steps-04.nc"
    )
    assert parts == {
        "source": "era5",
        "date": "2022-01-01",
        "res": "0.25",
        "levels": "13",
        "steps": "04",
    }


def test_a_selection_has_one_sample_one_level_and_few_steps(weather):
    found = inference.select(weather, "geopotential", level=850, max_steps=2)
    expected = weather["geopotential"][0, :2].sel(level=850)
    xarray.testing.assert_identical(found, expected)
    surface = inference.select(weather, "2m_temperature", level=850, max_steps=99)
    xarray.testing.assert_identical(surface, weather["2m_temperature"][0])


@pytest.mark.parametrize(
    ("name", "level", "message"),
    [
        ("temprature", None, "no variable 'temprature' to draw; there is 10m_u"),
        ("temperature", 555, "temperature has no level 555 hPa to draw; it has 50,"),
    ],
)
def test_what_is_not_there_cannot_be_selected(weather, name, level, message):
    with pytest.raises(ValueError, match=message):
        inference.select(weather, name, level)


@pytest.mark.parametrize(
    ("center", "robust", "limits", "colormap"),
    [
        (None, False, (0, 100), "viridis"),
        (None, True, (2, 98), "viridis"),
        (40, False, (-20, 100), "RdBu_r"),
        (90, True, (2, 178), "RdBu_r"),
    ],
)
def test_colour_scales_ignore_missing_values(center, robust, limits, colormap):
    values = xarray.DataArray(np.append(np.arange(101.0), np.nan))
    data, norm, name = inference.scale(values, center=center, robust=robust)
    assert data is values
    np.testing.assert_allclose((norm.vmin, norm.vmax), limits)
    assert name == colormap


def _entry(array):
    return array, matplotlib.colors.Normalize(270, 300), "viridis"


def test_a_picture_has_a_map_for_each_entry(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    widths = {}
    for count in (1, 3):
        entries = {f"map {n}": _entry(field(times=2)) for n in range(count)}
        inference.plot_data(entries, f"maps{count}", plot_size=4)
        with PIL.Image.open(tmp_path / f"maps{count}.png") as picture:
            widths[count] = picture.width
    assert 2.5 * widths[1] < widths[3] < 3.5 * widths[1]
    inference.plot_data(entries, "column", plot_size=4, cols=1)
    with PIL.Image.open(tmp_path / "column.png") as picture:
        assert picture.height > picture.width
    saved = sorted(path.name for path in tmp_path.iterdir())
    assert saved == ["column.png", "maps1.png", "maps3.png"]


def test_arrays_without_a_grid_are_drawn_too(tmp_path):
    array = xarray.DataArray(np.zeros((1, 4, 8)), dims=("time", "lat", "lon"))
    inference.plot_data({"Targets": _entry(array)}, str(tmp_path / "plain"))
    assert (tmp_path / "plain.png").exists()


def test_maps_of_different_times_are_refused(tmp_path):
    entries = {"a": _entry(field(times=2)), "b": _entry(field(times=3))}
    with pytest.raises(ValueError, match=r"same times, found \{'a': 2, 'b': 3\}"):
        inference.plot_data(entries, str(tmp_path / "maps"))


@pytest.mark.parametrize(
    ("variable", "file"),
    [
        ("2m_temperature", "2m_temperature.png"),
        ("temperature", "temperature_at_500_hPa.png"),
    ],
)
def test_truth_forecast_and_difference_are_drawn(
    weather, variable, file, tmp_path, monkeypatch
):
    drawn = {}
    plot = inference.plot_data
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        inference,
        "plot_data",
        lambda data, *a, **k: (drawn.update(data), plot(data, *a, **k)),
    )
    predictions = weather.map(lambda array: array + 1.5, keep_attrs=True)
    inference.save_var_diff(weather, predictions, variable, 500)
    assert [path.name for path in tmp_path.iterdir()] == [file]
    (targets, norm, _), (predicted, same_norm, _), (diff, centred, colormap) = (
        drawn[name] for name in ("Targets", "Predictions", "Diff")
    )
    assert norm is same_norm
    assert targets.sizes["time"] == predicted.sizes["time"] == 1
    xarray.testing.assert_allclose(diff, targets - predicted)
    assert centred.vmin == -centred.vmax and colormap == "RdBu_r"


@pytest.mark.parametrize(
    ("name", "resolution", "reads_precipitation", "valid"),
    [
        ("source-era5_res-0.25_levels-13.nc", 0.25, True, True),
        ("source-era5_res-0.25_levels-13.nc", 0.0, True, True),
        ("source-era5_res-0.25_levels-13.nc", 1.0, True, False),
        ("source-era5_res-0.25_levels-37.nc", 0.25, True, False),
        ("source-era5_res-0.25_levels-13.nc", 0.25, False, False),
        ("source-hres_res-0.25_levels-13.nc", 0.25, False, True),
        ("source-hres_res-0.25_levels-13.nc", 0.25, True, False),
        ("folder-a_b/source-fake_res-0.25_levels-13.nc", 0.25, True, True),
        ("my_weather.nc", 0.25, True, False),
    ],
)
def test_a_file_name_tells_if_the_data_fit(
    model, name, resolution, reads_precipitation, valid
):
    task = graphcast.TASK_13 if reads_precipitation else graphcast.TASK_13_PRECIP_OUT
    config = dataclasses.replace(model.model_config, resolution=resolution)
    assert inference.data_valid_for_model(name, config, task) is valid


@pytest.mark.parametrize("prefix", ["stats_", ""])
def test_statistics_are_read_in_their_order(prefix, tmp_path, monkeypatch):
    (tmp_path / "stats").mkdir()
    for name in cases.STATISTICS:
        source = cases.CASE / f"stats_{name}.nc"
        shutil.copy(source, tmp_path / "stats" / f"{prefix}{name}.nc")
    monkeypatch.chdir(tmp_path)
    for found, name in zip(inference.load_data(), cases.STATISTICS, strict=True):
        with xarray.open_dataset(cases.CASE / f"stats_{name}.nc") as expected:
            xarray.testing.assert_equal(found, expected)


def test_missing_statistics_are_named(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"stats_mean_by_level\.nc and stats_std"
    ):
        shutil.copy(cases.CASE / "stats_diffs_stddev_by_level.nc", tmp_path)
        inference.load_data(tmp_path)


def test_functions_of_the_walk_through_give_the_published_loss_and_gradient(
    weather, model
):
    """One call: its loss is the golden one, its tree that of the parameters."""
    statistics = models.load_statistics(cases.CASE)
    inputs, targets, forcings = data_utils.extract_inputs_targets_forcings(
        weather,
        target_lead_times=slice("6h", "6h"),
        **dataclasses.asdict(model.task_config),
    )
    settings = {"statistics": statistics, "precision": "float32"}
    gradient = jax.jit(inference.with_configs(inference.grads_fn, model, **settings))
    loss, diagnostics, state, grads = inference.with_params(gradient, model)(
        inputs=inputs, targets=targets, forcings=forcings
    )
    scalars = json.loads((cases.CASE / "scalars.json").read_text())
    golden = scalars["losses"]["f32_1step"]
    assert state == {}
    assert jax.tree.structure(grads) == jax.tree.structure(model.params)
    assert set(diagnostics) == set(model.task_config.target_variables)
    np.testing.assert_allclose(loss, golden["loss"], rtol=tolerances.LOSS_F32)
    for name, value in golden["diagnostics"].items():
        np.testing.assert_allclose(
            diagnostics[name], value, rtol=tolerances.LOSS_F32, err_msg=name
        )


def test_the_published_forecast_comes_out_of_run_forward(
    weather, model, tmp_path, monkeypatch
):
    """Without settings, statistics come from ./stats."""
    (tmp_path / "stats").symlink_to(cases.CASE)
    monkeypatch.chdir(tmp_path)
    inputs, targets, forcings = data_utils.extract_inputs_targets_forcings(
        weather,
        target_lead_times=slice("6h", "6h"),
        **dataclasses.asdict(model.task_config),
    )
    forward = jax.jit(inference.with_configs(inference.run_forward.apply, model))
    run_forward = inference.drop_state(inference.with_params(forward, model))
    predictions = run_forward(
        rng=jax.random.PRNGKey(0),
        inputs=inputs,
        targets_template=targets * np.nan,
        forcings=forcings,
    )
    with xarray.open_dataset(
        cases.CASE / "pred_1step_f32.nc", decode_timedelta=True
    ) as golden:
        scales = inference.load_data()[0]
        for name, expected in golden.items():
            found = xarray_jax.unwrap_data(predictions[name])
            found = xarray.DataArray(np.asarray(found), predictions[name].coords)
            error = np.abs(expected - found) / scales[name]
            assert error.max() <= tolerances.FORECAST_F32_ONE_STEP, name


def test_contents_are_listed_without_a_forecast(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    case = cases.Case.create(tmp_path)
    before = sorted(tmp_path.iterdir())
    arguments = ["--pretrained", str(case.checkpoint), "--dataset", str(case.dataset)]
    assert inference.main([*arguments, "--list"]) == 0
    printed = capsys.readouterr().out
    for part in ("13x24", "specific_humidity", "mesh_size 1", "CC0-1.0", "fit?\n  yes"):
        assert part in printed
    assert sorted(tmp_path.iterdir()) == before
