"""Pictures of scores stay legible, whatever was scored."""

import numpy as np
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
