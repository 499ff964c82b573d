import numpy as np
import pytest

from weatherlib import simulation


def test_frames_follow_from_days_and_hours():
    assert simulation.SimulationConfig(days=2).frames == 8
    assert simulation.SimulationConfig(days=2.6, hours=12).frames == 5


def test_start_with_a_time_zone_becomes_utc():
    config = simulation.SimulationConfig(start="2001-01-01T06+02:00")
    assert config.start_time == np.datetime64("2001-01-01T04")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("resolution", "T85", "resolution must be one of T21, T31, T42"),
        ("hours", 5, "hours must be one of"),
        ("days", 0.1, "days must cover a frame"),
        ("spin_up_days", -1, "must not be negative"),
        ("spin_up_days", float("nan"), "spin_up_days must be a number up to"),
        ("days", float("nan"), "days must be a number up to 80000, found nan"),
        ("days", float("inf"), "days must be a number up to 80000, found inf"),
        ("days", 1e9, "days must be a number up to"),
        ("seed", -1, "seed must lie in 0 to 4294967295, found -1"),
        ("seed", 10**23, "seed must lie in 0 to 4294967295"),
        ("latitudes", 31, "even and at least 4"),
        ("latitudes", 2, "even and at least 4"),
        ("frames_per_chunk", 0, "frames_per_chunk must be positive"),
        ("pressure_levels", (500, 300), "pressure_levels must increase"),
        ("pressure_levels", (500, 500), "pressure_levels must increase"),
        ("pressure_levels", (), "must lie in 1 to 1100 hPa"),
        ("pressure_levels", (50000,), "must lie in 1 to 1100 hPa"),
        ("start", "yesterday evening", "start must be a date"),
        ("start", "NaT", "start must be a date"),
        ("start", "9999-01-01", "dates must lie in 1678 to 2261"),
        ("start", "2262-01-01", "dates must lie in 1678 to 2261"),
    ],
)
def test_values_out_of_range_are_named(field, value, message):
    with pytest.raises(ValueError, match=message):
        simulation.SimulationConfig(**{field: value})
