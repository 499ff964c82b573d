"""Tests of the published scores against published numbers."""

import numpy as np
import pytest

from tests import tolerances
from tests.climax import published
from weatherlib.climax import metrics

LOSS, SCORE = tolerances.CLIMAX_LOSS_RTOL, tolerances.CLIMAX_METRIC_RTOL


@pytest.fixture(scope="module")
def drawn():
    """Random fields, their variables, and the published scores of them."""
    return published.arrays("metrics"), published.listed("metrics.json")


def assert_scores(found, expected, rtol):
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=rtol), name


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kind", ["mse", "lat_weighted_mse"])
def test_losses_are_the_published_ones(drawn, kind, masked):
    arrays, info = drawn
    given = [arrays["pred"], arrays["y"], info["variables"]]
    if kind != "mse":
        given.append(arrays["f64_lat"])
    mask = arrays["mask"] if masked else None
    found = getattr(metrics, kind)(*given, mask=mask)
    expected = info["expected"][f"{kind}_masked" if masked else kind]
    assert_scores(found, expected, LOSS)


def test_scores_are_the_published_ones(drawn):
    arrays, info = drawn
    names, lat, expected = info["variables"], arrays["f64_lat"], info["expected"]
    raw = [arrays["pred"], arrays["y"]]
    mean, std = arrays["f64_norm_mean"], arrays["f64_norm_std"]
    units = [metrics.denormalize(fields, mean, std) for fields in raw]
    found = metrics.lat_weighted_mse_val(*raw, names, lat, "3_days")
    assert_scores(found, expected["lat_weighted_mse_val"], LOSS)
    found = metrics.lat_weighted_rmse(*units, names, lat, "3_days")
    assert_scores(found, expected["lat_weighted_rmse"], SCORE)
    found = metrics.lat_weighted_acc(*units, names, lat, arrays["clim"], "3_days")
    assert_scores(found, expected["lat_weighted_acc"], SCORE)
    scale = float(arrays["nrmse_normalization"])
    found = metrics.lat_weighted_nrmse(*units, names, lat, scale)
    assert_scores(found, expected["lat_weighted_nrmse"], SCORE)


@pytest.mark.parametrize("name", ["global_case0", "global_case1"])
def test_a_published_evaluation_comes_out(name):
    arrays = published.arrays(name)
    case = published.listed()["expected"][name]
    hours = {"6_hours": 6.0, "7_days": 168.0}[case["log_postfix"]]
    found = metrics.evaluate(
        arrays["preds"], arrays["y"], case["out_variables"], arrays["f64_lat"],
        mean=arrays["f64_norm_mean"], std=arrays["f64_norm_std"],
        climatology=arrays["clim"], lead_hours=hours,
    )  # fmt: skip
    assert_scores(found, case["evaluate"], SCORE)


@pytest.mark.parametrize("region", ["NorthAmerica", "Australia"])
def test_a_published_regional_evaluation_comes_out(region):
    arrays = published.arrays("global_case0")
    case = published.listed()["expected"]["global_case0"]
    expected = published.listed()["expected"]["regional"][region]
    info = expected["region_info"]
    rows = slice(info["min_h"], info["max_h"] + 1)
    columns = slice(info["min_w"], info["max_w"] + 1)
    predictions = published.arrays(f"regional_{region}")["preds"]
    given = (predictions, arrays["y"][:, :, rows, columns], case["out_variables"])
    lat = arrays["f64_lat"][rows]
    found = metrics.lat_weighted_mse(*given, lat)
    assert_scores(found, expected["loss_lat_weighted_mse"], LOSS)
    found = metrics.evaluate(
        *given, lat, mean=arrays["f64_norm_mean"], std=arrays["f64_norm_std"],
        climatology=arrays["clim"][:, rows, columns], lead_hours=6,
    )  # fmt: skip
    assert_scores(found, expected["evaluate"], SCORE)


def test_the_published_scores_of_a_projection_come_out():
    """Its predictions are in units already."""
    arrays = published.arrays("projection_case0")
    expected = published.listed()["expected"]["projection_case0"]
    given = (arrays["preds"], arrays["y"], ["tas"])
    lat = arrays["f64_lat"]
    assert_scores(metrics.mse(*given), expected["loss_mse"], LOSS)
    found = metrics.lat_weighted_mse(*given, lat)
    assert_scores(found, expected["loss_lat_weighted_mse"], LOSS)
    found = metrics.lat_weighted_mse_val(*given, lat, "None")
    found |= metrics.lat_weighted_rmse(*given, lat, "None")
    scale = float(arrays["y_normalization"])
    found |= metrics.lat_weighted_nrmse(*given, lat, scale)
    assert_scores(found, expected["evaluate"], SCORE)


@pytest.mark.parametrize(
    ("hours", "expected"),
    [(6, "6_hours"), (23, "23_hours"), (24, "1_days"), (72, "3_days"), (168, "7_days")],
)
def test_names_say_the_lead_time(hours, expected):
    assert metrics.log_postfix(hours) == expected


def test_the_mean_of_roots_is_below_the_root_of_means():
    """Why the published error is smaller than others of the same forecasts."""
    rng = np.random.default_rng(0)
    targets = rng.standard_normal((8, 1, 4, 8))
    size = np.linspace(0.1, 3, 8)[:, None, None, None]
    predictions = targets + size * rng.standard_normal(targets.shape)
    lat = np.array([-60.0, -20, 20, 60])
    found = metrics.lat_weighted_rmse(predictions, targets, ["z"], lat, "x")["w_rmse"]
    joint = metrics.lat_weighted_mse_val(predictions, targets, ["z"], lat, "x")["w_mse"]
    assert found < 0.95 * joint**0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"targets": np.zeros((1, 1, 4, 9))}, "must be of one shape"),
        ({"variables": ["a", "b"]}, "2 names are given for 1 variables"),
        ({"lat": np.zeros(3)}, "3 latitudes are given for 4 rows"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(change, message):
    given = {
        "predictions": np.zeros((1, 1, 4, 8)), "targets": np.zeros((1, 1, 4, 8)),
        "variables": ["a"], "lat": np.zeros(4), **change,
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        metrics.lat_weighted_mse(**given)
