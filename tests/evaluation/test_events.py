import numpy as np
import pytest
import scores.categorical
import scores.spatial
import xarray
from hypothesis import given
from hypothesis import strategies as st

from weatherlib.evaluation import events


def _rain(seed=0, shape=(20, 24)):
    generator = np.random.default_rng(seed)
    return generator.gamma(0.5, size=shape), generator.gamma(0.5, size=shape)


def test_scores_of_events_are_those_of_the_scores_package():
    forecast, truth = _rain()
    limit = events.parse_threshold("0.5")
    ours, theirs = (limit.events(x, limit.value) for x in (forecast, truth))
    found = events.contingency_scores(
        (ours * theirs).sum(), ((1 - ours) * theirs).sum(), (ours * (1 - theirs)).sum()
    )
    table = scores.categorical.ThresholdEventOperator(
        default_event_threshold=0.5
    ).make_contingency_manager(xarray.DataArray(forecast), xarray.DataArray(truth))
    expected = {
        "csi": table.critical_success_index(),
        "pod": table.probability_of_detection(),
        "sucr": table.success_ratio(),
        "far": table.false_alarm_ratio(),
        "frequency_bias": table.frequency_bias(),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], float(value), err_msg=name)


@pytest.mark.parametrize("size", [1, 3, 5])
def test_fss_is_that_of_the_scores_package(size):
    forecast, truth = _rain()
    ours, theirs = ((x >= 0.5).astype(float) for x in (forecast, truth))
    # That package looks only at windows that lie inside the field.
    expected = scores.spatial.fss_2d_single_field(
        forecast, truth, event_threshold=0.5, window_size=(size, size)
    )
    inside = np.zeros(ours.shape)
    edge = size // 2
    inside[edge : inside.shape[0] - edge, edge : inside.shape[1] - edge] = 1
    np.testing.assert_allclose(events.fss(ours, theirs, size, inside), expected)


@given(shift=st.integers(1, 23), size=st.sampled_from([3, 4, 7]))
def test_turning_the_globe_does_not_change_shares_of_events(shift, size):
    field = (_rain()[0] > 0.5).astype(float)
    turned = events.fractions(np.roll(field, shift, -1), size, periodic=True)
    expected = np.roll(events.fractions(field, size, periodic=True), shift, -1)
    np.testing.assert_allclose(turned, expected, atol=1e-12)


def test_fss_is_one_for_the_same_field_and_unknown_without_events():
    field = (_rain()[0] > 0.5).astype(float)
    assert events.fss(field, field, 3) == 1
    assert np.isnan(events.fss(field * 0, field * 0, 3))
    displaced = np.roll(field, 1, -1)
    assert events.fss(displaced, field, 1) < events.fss(displaced, field, 5)


def test_quantiles_below_one_half_are_events_at_or_below():
    low, high = events.parse_threshold("q0.1"), events.parse_threshold("q0.9")
    values = np.array([1.0, 2.0, 3.0, np.nan])
    np.testing.assert_array_equal(low.events(values, 2.0), [1, 1, 0, np.nan])
    np.testing.assert_array_equal(high.events(values, 2.0), [0, 1, 1, np.nan])
    assert (low.label, events.parse_threshold(0.5).label) == ("q0.1", "0.5")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("wet", "write a value"),
        ("q2", "between 0 and 1"),
        ("q", "q"),
        ("nan", "finite"),
        ("-inf", "finite"),
    ],
)
def test_a_threshold_that_is_none_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        events.parse_threshold(text)


def test_a_threshold_is_one_thing():
    with pytest.raises(ValueError, match="either"):
        events.Threshold(value=1.0, quantile=0.5)
