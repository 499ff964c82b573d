import numpy as np
import pytest

from tests.plotting.fields import field
from weatherlib.cli import pictures

_SIX_HOURS = np.timedelta64(6, "h")


def test_the_first_member_and_the_level_are_selected():
    base = field(times=2)
    dataset = base.expand_dims(batch=3, sample=2, level=[500, 850]).to_dataset()
    found = pictures.select(dataset, "2m_temperature", 850)
    assert found.dims == ("time", "lat", "lon")
    assert found["level"] == 850
    np.testing.assert_array_equal(found, base)


def test_a_dataset_with_one_level_needs_that_level():
    dataset = field().assign_coords(level=500).to_dataset()
    assert pictures.select(dataset, "2m_temperature", 500).dims == ("lat", "lon")
    with pytest.raises(ValueError, match="no level 850 hPa to draw; it has 500"):
        pictures.select(dataset, "2m_temperature", 850)


def test_files_are_named_by_variable_and_level():
    assert pictures.file_title(field()) == "2m_temperature"
    upper = field("temperature").assign_coords(level=500)
    assert pictures.file_title(upper) == "temperature_at_500_hPa"


@pytest.mark.parametrize(
    ("steps", "time_step", "daily", "expected"),
    [
        (1, _SIX_HOURS, False, {0: ""}),
        (1, _SIX_HOURS, True, {0: ""}),
        (3, _SIX_HOURS, False, {0: "_step01", 1: "_step02", 2: "_step03"}),
        (9, _SIX_HOURS, True, {3: "_step04", 7: "_step08"}),
        (2, np.timedelta64(12, "h"), True, {1: "_step02"}),
        (2, np.timedelta64(36, "h"), True, {1: "_step02"}),
        (2, _SIX_HOURS, True, {0: "_step01", 1: "_step02"}),
    ],
)
def test_pictures_are_of_every_step_or_of_whole_days(steps, time_step, daily, expected):
    found = pictures.step_suffixes(
        steps, time_step.astype("timedelta64[ns]"), daily=daily
    )
    assert found == expected


def test_numbers_of_long_forecasts_sort():
    names = list(pictures.step_suffixes(120, _SIX_HOURS, daily=False).values())
    assert names == sorted(names) and names[-1] == "_step120"


def test_steps_beyond_the_truth_are_drawn_without_it(tmp_path):
    forecast, truth = field(times=3).to_dataset(), field(times=2).to_dataset()
    seen = []

    def draw(target, prediction, suffix, out_dir):
        lead = prediction["time"].item() // 3_600_000_000_000
        seen.append((target is not None, lead, suffix))
        return out_dir / suffix

    paths = pictures.draw_steps(truth, forecast, {1: "b", 2: "c"}, draw, tmp_path)
    assert seen == [(True, 12, "b"), (False, 18, "c")]
    assert paths == [tmp_path / "b", tmp_path / "c"]


@pytest.mark.parametrize(("times", "panels"), [(2, 2), (1, 1)])
def test_truth_moves_beside_the_forecast_where_it_covers_it(
    times, panels, tmp_path, monkeypatch
):
    seen = {}
    monkeypatch.setattr(
        "weatherlib.plotting.save_animation",
        lambda path, found, view: seen.update(found),
    )
    pictures.draw_animation(field(times=2), field(times=times), tmp_path / "a.gif")
    assert len(seen) == panels
