import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weatherlib.training import Schedule, schedules


def _rates(schedule, updates, **options):
    rate = schedules.make_schedule(schedule, updates, **options)
    return np.array([float(rate(i)) for i in range(updates)])


def test_warmup_and_cosine_reach_peak_and_end():
    settings = Schedule(peak=1.0, start=0.1, end=0.2, warmup=10, decay=100)
    rates = _rates(settings, 111)
    assert rates[0] == pytest.approx(0.1)
    assert rates[10] == pytest.approx(1.0)
    assert rates[60] == pytest.approx(0.6)
    assert rates[110] == pytest.approx(0.2)
    assert (np.diff(rates[:11]) > 0).all()
    assert (np.diff(rates[10:]) < 0).all()


def test_climax_follows_its_closed_form():
    base, start, end, warmup, longest = 5e-4, 1e-8, 1e-7, 5, 40
    settings = Schedule(
        kind="climax", peak=base, start=start, end=end, warmup_epochs=0.5
    )
    rates = _rates(settings, longest, updates_per_epoch=10)
    for update, rate in enumerate(rates):
        if update < warmup:
            expected = start + update * (base - start) / (warmup - 1)
        else:
            part = (update - warmup) / (longest - warmup)
            expected = end + 0.5 * (base - end) * (1 + math.cos(math.pi * part))
        assert rate == pytest.approx(expected, rel=1e-4, abs=1e-9), update


def test_graphcast_rises_falls_to_zero_and_stays_at_its_small_rate():
    settings = Schedule(kind="graphcast", peak=1e-3, end=3e-7, warmup=100, decay=900)
    rates = _rates(settings, 1100)
    assert rates[0] == 0
    assert rates[50] == pytest.approx(5e-4)
    assert rates[100] == pytest.approx(1e-3)
    assert rates[550] == pytest.approx(5e-4)
    assert 0 < rates[999] < 1e-8
    np.testing.assert_allclose(rates[1000:], 3e-7)


def test_polynomial_and_constant():
    linear = _rates(Schedule(kind="polynomial", peak=1.0, end=0.5, decay=100), 101)
    assert linear[50] == pytest.approx(0.75)
    constant = _rates(Schedule(kind="constant", peak=0.3, warmup=2), 10)
    np.testing.assert_allclose(constant, [0, 0.15, *[0.3] * 8])


def test_joined_schedules_count_from_their_own_start():
    first = schedules.make_schedule(Schedule(peak=1.0, end=0.0), 10)
    second = schedules.make_schedule(Schedule(kind="constant", peak=5.0), 3)
    joined = schedules.join([first, second], [10, 3])
    assert float(joined(0)) == 1
    assert float(joined(10)) == 5


def test_a_warmup_longer_than_the_stage_is_an_error():
    with pytest.raises(ValueError, match="warm-up of 20 updates does not fit into 10"):
        schedules.make_schedule(Schedule(warmup=20), 10)


@given(
    kind=st.sampled_from(["warmup_cosine", "climax", "polynomial", "constant"]),
    warmup=st.integers(0, 20),
    updates=st.integers(21, 60),
    at=st.integers(0, 100),
)
def test_rates_stay_between_their_bounds(kind, warmup, updates, at):
    settings = Schedule(kind=kind, peak=2.0, start=0.1, end=0.5, warmup=warmup)
    rate = float(schedules.make_schedule(settings, updates)(at))
    assert 0.1 - 1e-6 <= rate <= 2 + 1e-6
