"""The files inside the package: what they hold, their size, what they can do."""

import dataclasses
import pathlib
import re

import numpy as np
import pandas as pd
import pytest
import xarray

from weatherlib import (
    bundled,
    checkpoint,
    data,
    data_utils,
    graphcast,
    normalization,
    rollout,
)
from weatherlib.graphcast import message_graph
from weatherlib.simulation import config as simulation_config

ROOT = pathlib.Path(__file__).parents[1]
KINDS = ("mean_by_level", "stddev_by_level", "diffs_stddev_by_level")
HEADLINES = {
    "geopotential": 500,
    "temperature": 850,
    "2m_temperature": None,
    "mean_sea_level_pressure": None,
    "10m_u_component_of_wind": None,
}


@pytest.fixture(scope="module")
def sample():
    return data.open_dataset(bundled.sample_path()).load()


@pytest.fixture(scope="module")
def statistics():
    folder = bundled.statistics_path()
    return {kind: xarray.load_dataset(folder / f"{kind}.nc") for kind in KINDS}


@pytest.fixture(scope="module")
def model():
    return checkpoint.open_checkpoint(bundled.checkpoint_path(), graphcast.CheckPoint)


@pytest.mark.parametrize(
    ("path", "megabytes"),
    [
        (bundled.sample_path(), 12),
        (bundled.checkpoint_path(), 6),
        (bundled.simulation_start_path(), 0.2),
        (bundled.coastline_path(), 0.1),
    ],
)
def test_files_are_there_and_small(path, megabytes):
    assert 1000 < path.stat().st_size <= megabytes * 1e6


def test_the_sample_holds_what_the_task_reads_and_a_forecast_of_ten_days(sample):
    names = {
        *graphcast.TASK_13.input_variables,
        *graphcast.TASK_13.target_variables,
    } - set(graphcast.GENERATED_FORCING_VARS)
    assert set(sample.data_vars) == names
    assert sample.sizes["time"] >= 42
    assert tuple(sample["level"].values) == graphcast.TASK_13.pressure_levels
    assert dict(sample.sizes) | {"time": 0} == {
        "batch": 1, "time": 0, "level": 13, "lat": 32, "lon": 64,
    }  # fmt: skip
    assert (np.diff(sample["time"]) == np.timedelta64(6, "h")).all()
    assert sample.attrs["simulated"] == "true"
    assert all(np.isfinite(v).all() for v in sample.data_vars.values())


def test_the_sample_is_named_after_its_contents(sample):
    parts = dict(p.split("-", 1) for p in sample.attrs["dataset_name"].split("_"))
    start = pd.Timestamp(sample["datetime"].values[0, 0])
    assert parts == {
        "source": "simulated",
        "date": f"{start:%Y-%m-%d}",
        "res": "5.625",
        "levels": "13",
        "steps": str(sample.sizes["time"] - 2),
    }


def test_radiation_in_the_sample_is_that_of_its_times(sample):
    computed = sample.drop_vars("toa_incident_solar_radiation")
    data_utils.add_tisr_var(computed)
    np.testing.assert_allclose(
        computed["toa_incident_solar_radiation"],
        sample["toa_incident_solar_radiation"],
        atol=2e4,
    )


def test_statistics_describe_the_sample(sample, statistics):
    normalization.check_statistics(graphcast.TASK_13, **statistics)
    for name in ("temperature", "geopotential", "u_component_of_wind"):
        normal = (sample[name] - statistics["mean_by_level"][name]) / statistics[
            "stddev_by_level"
        ][name]
        assert float(abs(normal.mean(("time", "lat", "lon"))).max()) < 0.3
        assert 0.8 < float(normal.std()) < 1.2
        change = sample[name].diff("time") / statistics["diffs_stddev_by_level"][name]
        assert 0.8 < float(change.std()) < 1.2


def test_the_checkpoint_is_a_small_graphcast(model):
    assert model.task_config == graphcast.TASK_13
    count = sum(array.size for part in model.params.values() for array in part.values())
    assert count < 1.5e6
    assert model.license
    assert model.model_config.resolution == 5.625
    assert "simul" in model.description.lower()


def test_the_starting_state_is_that_of_the_default_resolution():
    with np.load(bundled.simulation_start_path()) as arrays:
        default = simulation_config.RESOLUTIONS["T21"]
        assert arrays["wavenumber"] == default.wavenumber
        assert arrays["vorticity"].shape[0] == default.layers


@pytest.mark.parametrize(
    "link",
    ["stats", *(f"examples/{name}" for name in ("data", "checkpoints"))],
)
def test_links_of_the_checkout_lead_to_the_bundled_files(link):
    folder = ROOT / link
    if not folder.exists():
        pytest.skip("not a checkout")
    for path in folder.iterdir():
        assert path.resolve().is_relative_to(bundled.sample_path().parent)
        assert path.exists()


def _forecasts(model, statistics, sample, starts, steps):
    """Yields forecast, truth and last known frame of each start."""

    def make_predictor():
        predictor = graphcast.GraphCast(model.model_config, model.task_config)
        return normalization.InputsAndResiduals(predictor, **statistics)

    forecaster = rollout.Forecaster(make_predictor, model.params)
    for start in starts:
        window = sample.isel(time=slice(start, start + 2 + steps))
        inputs, targets, forcings = data_utils.extract_inputs_targets_forcings(
            window,
            target_lead_times=slice("6h", f"{6 * steps}h"),
            **dataclasses.asdict(model.task_config),
        )
        found = forecaster.predict(inputs, forcings, targets_template=targets)
        yield found, targets, inputs.isel(time=-1, drop=True)


@pytest.fixture(scope="module")
def squares(model, statistics, sample):
    """Mean squares of errors over three days, forecast first, persistence second.

    By variable, of shape [start, kind, lead].
    """
    starts = range(0, 31, 6)
    area = np.cos(np.deg2rad(sample["lat"]))
    found = {name: np.zeros((len(starts), 2, 12)) for name in HEADLINES}
    forecasts = _forecasts(model, statistics, sample, starts, 12)
    for place, (forecast, truth, last) in enumerate(forecasts):
        for name, level in HEADLINES.items():
            for kind, guess in enumerate((forecast, last)):
                error = (guess[name] - truth[name]) ** 2
                error = error if level is None else error.sel(level=level)
                mean = error.weighted(area).mean(("batch", "lat", "lon"))
                found[name][place, kind] = mean.transpose("time").values
    return found


def test_the_bundled_model_beats_persistence_at_every_lead_to_three_days(squares):
    for name, of_starts in squares.items():
        forecast, persistence = of_starts.sum(axis=0)
        ratio = np.sqrt(forecast / persistence)
        assert (ratio < 0.9).all(), (name, ratio.round(2))


def test_the_page_on_scores_shows_the_errors_of_the_bundled_model(squares, sample):
    page = (ROOT / "docs/how-to/score-a-forecast.md").read_text("utf8")
    starts = ("| | +6 h", "| forecast |", "| persistence |", "| climatology |")
    leads, *rows = [line for line in page.splitlines() if line.startswith(starts)]
    steps = [int(hours) // 6 - 1 for hours in re.findall(r"\+(\d+) h", leads)]
    # The last start is that of the page, which keeps twelve frames for truth.
    truth = sample["geopotential"].sel(level=500).isel(time=slice(-12, None))
    area = np.cos(np.deg2rad(sample["lat"]))
    usual = ((truth - truth.mean("time")) ** 2).weighted(area).mean(("lat", "lon"))
    expected = [*squares["geopotential"][-1], usual.values[0]]
    for row, found in zip(rows, expected, strict=True):
        shown = [float(number) for number in row.split("|")[2:-1]]
        np.testing.assert_allclose(np.sqrt(found[steps]), shown, rtol=2e-3)


def test_the_checkpoint_carries_the_edges_it_was_trained_with(sample, model):
    with bundled.checkpoint_path().open("rb") as file:
        stored = checkpoint.load_extras(file)["topology"]
    here = message_graph.build_geometry(
        sample["lat"].values, sample["lon"].values, model.model_config
    )
    for name, found in here.topology.to_arrays().items():
        assert (stored[name] != found).mean() < 0.01, name
