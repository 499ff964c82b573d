import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from weatherlib.evaluation import bootstrap


@given(count=st.integers(1, 40), block=st.integers(1, 50), seed=st.integers(0, 9))
def test_each_sample_holds_as_many_starts_in_unbroken_blocks(count, block, seed):
    counts = bootstrap.block_counts(count, block, 20, seed)
    assert counts.shape == (20, count)
    np.testing.assert_array_equal(counts.sum(1), count)
    if block >= count:
        np.testing.assert_array_equal(counts, 1)


def test_intervals_hold_the_mean_as_often_as_they_say():
    generator = np.random.default_rng(0)
    held = 0
    for trial in range(300):
        values = generator.standard_normal(80)
        counts = bootstrap.block_counts(80, 1, 400, trial)
        low, high = bootstrap.interval(counts @ values[:, None] / 80, 0.9)
        held += int(low[0] <= 0 <= high[0])
    assert 0.84 < held / 300 < 0.94


def test_blocks_widen_the_interval_of_values_that_resemble_their_neighbours():
    generator = np.random.default_rng(0)
    values = np.convolve(generator.standard_normal(400), np.ones(10), "valid")[:, None]
    widths = []
    for block in (1, 20):
        counts = bootstrap.block_counts(len(values), block, 500, 0)
        low, high = bootstrap.interval(counts @ values / len(values), 0.95)
        widths.append(high - low)
    assert widths[1] > 2 * widths[0]


def test_intervals_leave_out_samples_without_a_value():
    samples = np.stack([np.arange(101.0), np.full(101, np.nan)], 1)
    samples[:50, 0] = np.nan
    low, high = bootstrap.interval(samples, 0.5)
    assert (low[0], high[0]) == (62.5, 87.5) and np.isnan(low[1])


def test_chance_is_small_only_where_samples_agree():
    samples = np.stack(
        [np.linspace(1, 2, 99), np.linspace(-1, 1, 99), np.full(99, np.nan)], 1
    )
    found = bootstrap.p_value(samples)
    assert found[0] == 0.02 and found[1] == 1 and np.isnan(found[2])
    assert bootstrap.p_value(np.zeros((99, 1))) == 1


def test_blocks_hold_starts_of_five_days_but_no_more_than_half():
    step = np.timedelta64(12, "h")
    start = np.datetime64("2020-01-01")
    for count, expected in ((730, 10), (8, 4), (2, 1), (1, 1)):
        assert bootstrap.default_block(start + np.arange(count) * step) == expected
