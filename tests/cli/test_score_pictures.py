"""Pictures of scores stay legible, whatever was scored."""

import numpy as np
import pytest
import xarray

from weatherlib.cli import score_pictures


def _scores(levels, regions):
    """Returns scores of two models, as `evaluation.evaluate` has them."""
    rng = np.random.default_rng(0)
    shape = (1, 2, len(regions), 3, len(levels))
    dims = ("metric", "model", "region", "lead_time", "level")
    return xarray.Dataset(
        {"temperature": (dims, rng.uniform(1, 2, shape), {"units": "K"})},
        coords={
            "metric": ["rmse"],
            "model": ["new", "old"],
            "region": list(regions),
            "lead_time": np.arange(1, 4) * np.timedelta64(6 * 3600 * 10**9, "ns"),
            "level": list(levels),
        },
        attrs={"baseline": "old"},
    )


def _shown(monkeypatch, tmp_path, found):
    shown = []

    def record(relative, **kwargs):
        shown.append(relative)
        return draw(relative, **kwargs)

    draw = score_pictures.plotting.draw_scorecard
    monkeypatch.setattr(score_pictures.plotting, "draw_scorecard", record)
    paths = score_pictures.draw(found, tmp_path / "scores")
    assert paths[-1].name == "scores_scorecard.png" and paths[-1].stat().st_size
    return shown[0]


def test_a_scorecard_of_many_levels_and_regions_shows_the_chief_ones(
    tmp_path, monkeypatch
):
    levels = (50, 100, 250, 300, 500, 700, 850, 1000)
    regions = ("global", "a", "b", "c", "d")
    shown = _shown(monkeypatch, tmp_path, _scores(levels, regions))
    assert shown["level"].values.tolist() == [250, 500, 700, 850]
    assert shown["region"].values.tolist() == ["global"]


def test_a_scorecard_of_many_other_levels_shows_some_of_them(tmp_path, monkeypatch):
    shown = _shown(monkeypatch, tmp_path, _scores(range(1, 13), ("global",)))
    assert shown["level"].values.tolist() == [1, 4, 7, 10]


def test_a_scorecard_of_few_levels_and_regions_shows_all(tmp_path, monkeypatch):
    shown = _shown(monkeypatch, tmp_path, _scores((500, 850, 1000), ("global", "a")))
    assert shown["level"].values.tolist() == [500, 850, 1000]
    assert shown["region"].values.tolist() == ["global", "a"]


def test_a_perfect_forecast_and_one_without_values_leave_out_the_scorecard(tmp_path):
    for factor in (0.0, np.nan):
        found = _scores((500,), ("global",))
        old = found["model"] == "old"
        found["temperature"] = found["temperature"] * xarray.where(old, factor, 1.0)
        said = []
        paths = score_pictures.draw(found, tmp_path / "scores", say=said.append)
        assert [path.name for path in paths] == ["scores_rmse.png"]
        assert len(said) == 1 and "No scorecard: rmse: nothing can be" in said[0]


def test_one_lead_time_has_a_scorecard_and_no_curves(tmp_path):
    found = _scores((500,), ("global",)).isel(lead_time=[1])
    said = []
    paths = score_pictures.draw(found, tmp_path / "scores", say=said.append)
    assert [path.name for path in paths] == ["scores_scorecard.png"]
    assert said == ["No curves: there is one lead time."]


def test_squares_are_drawn_in_the_squares_of_the_units_of_maps():
    found = _scores((500,), ("global",)).assign_coords(metric=["mse"])
    rain = found["temperature"].isel(level=0, drop=True) * 1e-6
    found["total_precipitation_6hr"] = rain.assign_attrs(units="m")
    (figure,) = score_pictures.curve_figures(found, "mse")
    temperature, wet = figure.axes
    assert (temperature.get_ylabel(), wet.get_ylabel()) == ("K²", "mm²")
    expected = found["temperature"].isel(metric=0, model=0, region=0, level=0)
    np.testing.assert_allclose(temperature.lines[0].get_ydata(), expected)
    np.testing.assert_allclose(wet.lines[0].get_ydata(), expected, rtol=1e-6)


def _events(thresholds):
    """Returns scores of events at many thresholds."""
    lead = np.arange(1, 4) * np.timedelta64(6 * 3600 * 10**9, "ns")
    dims = ("model", "lead_time", "threshold")
    values = np.linspace(0, 1, 2 * 3 * thresholds).reshape(2, 3, thresholds)
    coords = {
        "model": ["new", "old"],
        "lead_time": lead,
        "threshold": [str(number) for number in range(thresholds)],
    }
    names = ("csi.total_precipitation_6hr", "csi.10m_wind_speed")
    return xarray.Dataset(
        dict.fromkeys(names, (dims, values)), coords, {"baseline": "old"}
    )


def test_scores_of_many_events_are_all_drawn_on_several_sheets(tmp_path):
    found = _events(10)
    figures = score_pictures.curve_figures(found, "csi")
    assert [len(figure.axes) for figure in figures] == [10, 10]
    titles = [figure.get_suptitle() for figure in figures]
    assert titles == [f"CSI by lead time, sheet {n} of 2" for n in (1, 2)]
    paths = score_pictures.draw(found, tmp_path / "scores")
    assert [path.name for path in paths] == [
        "scores_csi.png", "scores_csi_2.png", "scores_scorecard.png",
    ]  # fmt: skip


def test_curves_say_how_many_fields_they_leave_out():
    found = _scores(range(1, 13), ("global",))
    (figure,) = score_pictures.curve_figures(found, "rmse")
    assert figure.get_suptitle() == "RMSE by lead time, global, 8 of 12 fields"


def test_rows_of_a_scorecard_are_in_the_order_of_the_vocabulary(monkeypatch, tmp_path):
    found = _scores((500,), ("global",))
    surface = found["temperature"].isel(level=0, drop=True)
    found = found.rename(temperature="geopotential")
    found = found.assign({"2m_temperature": surface, "unknown": surface})
    found = found[["unknown", "2m_temperature", "geopotential"]]
    shown = _shown(monkeypatch, tmp_path, found)
    assert list(shown) == ["geopotential", "2m_temperature", "unknown"]


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("crps_fair", "CRPS (fair)"),
        ("ensemble_mean_rmse", "Ensemble mean RMSE"),
        ("spread_skill_ratio", "Spread/skill ratio"),
        ("bias", "Bias"),
    ],
)
def test_metrics_have_names_for_people(metric, expected):
    assert score_pictures.title(metric) == expected


def test_the_scorecard_is_of_the_first_metric_that_two_models_have(
    tmp_path, monkeypatch
):
    found = _scores((500,), ("global",))
    alone = found.assign_coords(metric=["crps_fair"])
    alone["temperature"] = alone["temperature"].where(alone["model"] == "old")
    found = found.assign_coords(metric=["mae"])
    both = xarray.concat([found, found.assign_coords(metric=["crps"])], "metric")
    shown = _shown(monkeypatch, tmp_path, xarray.concat([alone, both], "metric"))
    expected = found["temperature"].sel(metric="mae")
    change = expected.sel(model="new") / expected.sel(model="old") - 1
    np.testing.assert_allclose(shown["temperature"].sel(model="new"), change)
