"""Losses: published weights, any order of dimensions, and clear refusals."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from tests import tolerances, toy
from tests.conftest import GOLDENS
from weatherlib import losses, task, xarray_jax


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDENS / "geometry" / "loss_weights.npz") as archive:
        return dict(archive.items())


def rows(lat, dtype=np.float32):
    return xr.DataArray(
        np.zeros(len(lat)), dims="lat", coords={"lat": np.asarray(lat, dtype)}
    )


def columns(levels):
    return xr.DataArray(
        np.zeros(len(levels)), dims="level", coords={"level": np.asarray(levels)}
    )


@pytest.mark.parametrize(
    ("name", "lat"),
    [
        ("lat_weights_poles_10deg", np.arange(-90, 91, 10)),
        ("lat_weights_no_poles_10deg", np.arange(-85, 86, 10)),
        ("lat_weights_1deg", np.arange(-90, 91)),
    ],
)
def test_latitude_weights_are_the_published_ones(golden, name, lat):
    tolerance = tolerances.GEOMETRY
    weights = losses.normalized_latitude_weights(rows(lat))
    assert weights.dims == ("lat",)
    assert weights.dtype == golden[name].dtype
    np.testing.assert_allclose(weights, golden[name], rtol=0, atol=tolerance)
    np.testing.assert_array_equal(weights["lat"], np.asarray(lat, np.float32))
    reverse = losses.normalized_latitude_weights(rows(lat[::-1]))
    np.testing.assert_allclose(reverse, golden[name][::-1], rtol=0, atol=tolerance)


@pytest.mark.parametrize("number", [13, 37])
def test_level_weights_are_the_published_ones(golden, number):
    weights = losses.normalized_level_weights(columns(task.PRESSURE_LEVELS[number]))
    np.testing.assert_allclose(weights, golden[f"level_weights_{number}"], rtol=1e-12)
    assert weights.dtype == np.float64


def test_a_window_of_the_globe_is_weighted_by_the_cosine():
    lat = np.array([30.0, 32.5, 35.0, 37.5])
    expected = np.cos(np.deg2rad(lat))
    weights = losses.normalized_latitude_weights(rows(lat, np.float64))
    np.testing.assert_allclose(weights, expected / expected.mean(), rtol=1e-12)


@given(st.lists(st.integers(1, 1100), min_size=1, max_size=50, unique=True))
def test_level_weights_average_to_one_and_follow_pressure(levels):
    weights = losses.normalized_level_weights(columns(levels))
    np.testing.assert_allclose(weights.mean(), 1)
    np.testing.assert_allclose(weights / weights[0], np.divide(levels, levels[0]))


def test_data_without_the_coordinate_is_refused():
    bare = xr.DataArray(np.zeros(3), dims="lat", name="t")
    with pytest.raises(ValueError, match=r"t needs a coordinate 'lat'.*found \[\]"):
        losses.normalized_latitude_weights(bare)
    with pytest.raises(ValueError, match="the data needs a coordinate 'level'"):
        losses.normalized_level_weights(rows([0, 1]))


def test_uneven_rows_are_refused():
    with pytest.raises(ValueError, match=r"(?i)even|uniform|spac"):
        losses.normalized_latitude_weights(rows([0, 1, 5]))


WEIGHTS = {"2m_temperature": 0.1}


def pair():
    _, targets, _ = toy.example(1)
    _, predictions, _ = toy.example(1, seed=5)
    return predictions, targets


def expected_losses(predictions, targets):
    """The weighted squared errors in plain NumPy, float64."""
    lat = losses.normalized_latitude_weights(targets["2m_temperature"]).values
    level = np.array(toy.LEVELS) / np.mean(toy.LEVELS)
    result = {}
    for name in targets:
        dims = ("batch", "time", "level", "lat", "lon")
        dims = [dim for dim in dims if dim in targets[name].dims]
        error = predictions[name].transpose(*dims).values.astype(np.float64)
        error = (error - targets[name].transpose(*dims).values) ** 2 * lat[:, None]
        if "level" in dims:
            error = error * level[:, None, None]
        result[name] = error.mean(axis=tuple(range(1, len(dims))))
    return result


def test_the_loss_is_the_weighted_sum_of_weighted_squared_errors():
    predictions, targets = pair()
    expected = expected_losses(predictions, targets)
    loss, diagnostics = losses.weighted_mse_per_level(predictions, targets, WEIGHTS)
    assert loss.dims == ("batch",)
    assert set(diagnostics) == set(targets)
    total = sum(WEIGHTS.get(name, 1) * value for name, value in expected.items())
    np.testing.assert_allclose(loss, total, rtol=1e-5)
    for name, value in expected.items():
        np.testing.assert_allclose(diagnostics[name], value, rtol=1e-5)


@pytest.mark.parametrize("order", list(itertools.permutations(range(4)))[::5])
def test_the_order_of_dimensions_does_not_matter(order):
    predictions, targets = pair()
    before, _ = losses.weighted_mse_per_level(predictions, targets, WEIGHTS)
    dims = [("lat", "time", "lon", "batch")[i] for i in order]
    shuffled = predictions.transpose(*dims, "level")
    after, _ = losses.weighted_mse_per_level(shuffled, targets, WEIGHTS)
    np.testing.assert_allclose(after, before, rtol=1e-6)
    after, _ = losses.weighted_mse_per_level(shuffled, shuffled * 0, WEIGHTS)
    plain, _ = losses.weighted_mse_per_level(predictions, targets * 0, WEIGHTS)
    np.testing.assert_allclose(after, plain, rtol=1e-6)


def test_flipping_the_grid_does_not_change_the_loss():
    predictions, targets = pair()
    before, _ = losses.weighted_mse_per_level(predictions, targets, WEIGHTS)
    flipped = {"lat": slice(None, None, -1), "level": slice(None, None, -1)}
    after, _ = losses.weighted_mse_per_level(
        predictions.isel(flipped), targets.isel(flipped), WEIGHTS
    )
    np.testing.assert_allclose(after, before, rtol=1e-6)


@pytest.mark.usefixtures("strict_numerics")
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_the_loss_keeps_the_dtype_under_jit_and_grad(dtype):
    predictions, targets = (
        jax.tree.map(lambda x: jnp.asarray(x, dtype), data) for data in pair()
    )

    def mean_loss(predictions):
        loss, _ = losses.weighted_mse_per_level(predictions, targets, WEIGHTS)
        assert loss.dtype == dtype
        return xarray_jax.unwrap_data(loss).astype(jnp.float32).mean()

    value, gradient = jax.jit(jax.value_and_grad(mean_loss))(predictions)
    exact, _ = losses.weighted_mse_per_level(*pair(), WEIGHTS)
    tolerance = 1e-5 if dtype == jnp.float32 else 0.02
    np.testing.assert_allclose(value, exact.mean(), rtol=tolerance)
    for name in targets:
        assert gradient[name].dtype == dtype
        assert np.isfinite(np.asarray(gradient[name], np.float32)).all()


def test_a_bfloat16_sum_over_variables_is_rounded_once():
    # 256 + 1 + 1 is 256 in bfloat16 if added in turn, 258 if rounded at the end.
    parts = {
        name: xarray_jax.DataArray(jnp.full(2, value, jnp.bfloat16), dims="batch")
        for name, value in {"a": 256, "b": 1, "c": 1}.items()
    }
    loss, _ = losses.sum_per_variable_losses(parts, {})
    assert loss.dtype == jnp.bfloat16
    np.testing.assert_array_equal(xarray_jax.unwrap_data(loss), [258, 258])


def test_numpy_weights_do_not_raise_the_dtype():
    parts = {"a": xarray_jax.DataArray(jnp.ones(2, jnp.bfloat16), dims="batch")}
    loss, _ = losses.sum_per_variable_losses(parts, {"a": np.float64(0.5)})
    assert loss.dtype == jnp.bfloat16


def test_a_nan_reaches_the_loss_of_its_member_only():
    predictions, targets = pair()
    targets["2m_temperature"].values[1, 0, 0, 0] = np.nan
    loss, diagnostics = losses.weighted_mse_per_level(predictions, targets, WEIGHTS)
    assert np.isnan(loss.values).tolist() == [False, True]
    assert np.isfinite(diagnostics["geopotential"]).all()


def test_mappings_of_arrays_will_do():
    predictions, targets = pair()
    expected, _ = losses.weighted_mse_per_level(predictions, targets, WEIGHTS)
    loss, diagnostics = losses.weighted_mse_per_level(
        dict(predictions.items()), dict(targets.items()), WEIGHTS
    )
    np.testing.assert_allclose(loss, expected)
    assert isinstance(diagnostics, dict)


def test_a_weight_for_an_absent_variable_is_refused():
    predictions, targets = pair()
    with pytest.raises(
        ValueError, match=r"has no loss: '2m_temperatur' .did you mean '2m_temperature'"
    ):
        losses.weighted_mse_per_level(predictions, targets, {"2m_temperatur": 0.1})


def test_variables_must_be_in_both():
    predictions, targets = pair()
    for first, second in (
        (predictions.drop_vars("geopotential"), targets),
        (predictions, targets.drop_vars("geopotential")),
    ):
        with pytest.raises(ValueError, match=r"same variables; \['geopotential'\]"):
            losses.weighted_mse_per_level(first, second, {})


@pytest.mark.parametrize("dim", ["level", "lat", "time"])
def test_coordinates_that_disagree_are_refused_rather_than_intersected(dim):
    predictions, targets = pair()
    moved = predictions.assign_coords({dim: predictions[dim] + predictions[dim][-1]})
    with pytest.raises(ValueError, match=rf"on different coordinates: .*{dim}"):
        losses.weighted_mse_per_level(moved, targets, {})


def test_no_variables_at_all_are_refused():
    with pytest.raises(ValueError, match="no per-variable losses to add up"):
        losses.sum_per_variable_losses({}, {})


class TestWeightedError:
    def _pair(self):
        rng = np.random.default_rng(3)
        coords = {"lat": [-60.0, 0.0, 60.0], "level": [500, 1000]}

        def fields():
            return xr.Dataset(
                {
                    "z": (
                        ("batch", "time", "level", "lat", "lon"),
                        rng.standard_normal((2, 1, 2, 3, 4)).astype(np.float32),
                    ),
                    "t": (
                        ("batch", "time", "lat", "lon"),
                        rng.standard_normal((2, 1, 3, 4)).astype(np.float32),
                    ),
                },
                coords=coords,
            )

        return fields(), fields()

    def test_by_default_it_is_the_published_loss(self):
        predictions, targets = self._pair()
        expected, each = losses.weighted_mse_per_level(predictions, targets, {"t": 0.1})
        found, found_each = losses.weighted_error(
            predictions, targets, variable_weights={"t": 0.1}
        )
        np.testing.assert_array_equal(found, expected)
        for name in each:
            np.testing.assert_array_equal(found_each[name], each[name])

    @pytest.mark.parametrize("kind", ["mse", "mae", "huber"])
    def test_kinds_follow_their_formulae(self, kind):
        predictions, targets = self._pair()
        found, _ = losses.weighted_error(
            predictions,
            targets,
            kind=kind,
            level_weights="uniform",
            latitude=False,
            huber_delta=0.5,
        )
        expected = 0.0
        for name in targets:
            error = np.abs((predictions[name] - targets[name]).values)
            value = {
                "mse": error**2,
                "mae": error,
                "huber": np.where(error < 0.5, error**2 / 2, 0.5 * (error - 0.25)),
            }[kind]
            expected += value.reshape(2, -1).mean(1)
        np.testing.assert_allclose(found, expected, rtol=1e-5)

    def test_levels_are_weighted_as_named_and_scaled_to_mean_one(self):
        predictions, targets = self._pair()
        _, each = losses.weighted_error(
            predictions, targets, level_weights={500: 3.0}, latitude=False
        )
        square = (predictions["z"] - targets["z"]).values ** 2
        expected = (square * np.array([1.5, 0.5])[:, None, None]).reshape(2, -1).mean(1)
        np.testing.assert_allclose(each["z"], expected, rtol=1e-5)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"kind": "rmse"}, "kind 'rmse' is not known"),
            ({"level_weights": {850: 1.0}}, r"levels \[850\] hPa that no target has"),
            ({"level_weights": "log"}, "level_weights 'log' is not known"),
            ({"variable_weights": {"q": 1.0}}, "no loss: 'q'"),
        ],
    )
    def test_wrong_options_are_errors(self, options, message):
        with pytest.raises(ValueError, match=message):
            losses.weighted_error(*self._pair(), **options)

    def test_variables_must_be_the_same(self):
        predictions, targets = self._pair()
        with pytest.raises(ValueError, match="only one of them"):
            losses.weighted_error(predictions, targets[["t"]])


def test_missing_targets_are_left_out_of_value_and_gradient():
    predictions, targets = pair()
    name = "2m_temperature"
    predictions, targets = predictions[[name]], targets[[name]]
    field = targets[name].transpose("batch", "time", "lat", "lon").copy()
    field[0, 0, 1:, :] = np.nan
    field[1] = np.nan
    holed = xr.Dataset({name: field})
    assert np.isnan(losses.weighted_error(predictions, holed)[0]).all()

    def loss(predictions):
        found, _ = losses.weighted_error(predictions, holed, skip_missing=True)
        return xarray_jax.unwrap_data(found, require_jax=True)

    on_device = jax.tree.map(jnp.asarray, predictions)
    found = loss(on_device)
    weights = losses.normalized_latitude_weights(field).values[:, None]
    error = (predictions[name].transpose(*field.dims) - field).values[0] ** 2
    known = np.isfinite(error)
    expected = np.where(known, error, 0) * weights
    expected = expected.sum() / (known * weights).sum()
    np.testing.assert_allclose(found[0], expected, rtol=1e-5)
    assert found[1] == 0
    gradient = jax.grad(lambda p: loss(p).sum())(on_device)[name]
    gradient = gradient.transpose(*field.dims).values
    assert (np.asarray(gradient) != 0).sum() == known.sum()
    whole, _ = losses.weighted_error(predictions, targets, skip_missing=True)
    plain, _ = losses.weighted_error(predictions, targets)
    np.testing.assert_allclose(whole, plain, rtol=1e-6)


@pytest.mark.parametrize("around", [False, True])
@pytest.mark.parametrize("rows", [[-60.0, 0.0, 60.0], [60.0, 0.0, -60.0]])
def test_neighbours_differ_along_columns_and_rows(around, rows):
    lon = np.arange(4) * (90.0 if around else 10.0)
    values = np.random.default_rng(0).standard_normal((2, 1, 3, 4))
    coords = {"lat": rows, "lon": lon}
    fields = xr.Dataset({"t": (("batch", "time", "lat", "lon"), values)}, coords)
    along_columns, along_rows = losses.neighbour_differences(fields)
    np.testing.assert_array_equal(along_columns["t"], np.diff(values, axis=2))
    assert along_columns["lat"].values.tolist() == rows[:-1]
    expected = np.roll(values, -1, -1) - values
    expected = expected if around else expected[..., :-1]
    np.testing.assert_array_equal(along_rows["t"], expected)
    assert along_rows.sizes["lon"] == along_rows["lon"].size == expected.shape[-1]
    (single,) = losses.neighbour_differences(fields.isel(lat=[0]))
    np.testing.assert_array_equal(single["t"], expected[:, :, :1])


def test_neighbour_means_lie_where_their_differences_do():
    values = np.random.default_rng(0).standard_normal((2, 3, 4))
    coords = {"lat": [-60.0, 0.0, 60.0], "lon": np.arange(4) * 90.0}
    fields = xr.Dataset({"t": (("batch", "lat", "lon"), values)}, coords)
    pairs = zip(losses.neighbour_means(fields), losses.neighbour_differences(fields))
    for number, (mean, difference) in enumerate(pairs):
        xr.testing.assert_equal(
            mean.coords.to_dataset(), difference.coords.to_dataset()
        )
        first = (mean - difference * 0.5)["t"].values
        expected = values if number else values[:, :-1]
        np.testing.assert_allclose(first, expected)


def test_a_gaussian_error_is_the_likelihood_of_the_targets():
    targets = _fields(seed=0)
    predictions, log_variances = _fields(seed=1), _fields(seed=2)
    found, each = losses.gaussian_error(
        predictions, targets, log_variances, variable_weights={"t": 0.5},
        level_weights="uniform", latitude=False,
    )  # fmt: skip
    total = 0.0
    for name, weight in (("t", 0.5), ("p", 1.0)):
        spread = np.exp(log_variances[name] / 2)
        density = scipy.stats.norm.logpdf(targets[name], predictions[name], spread)
        expected = -2 * density.mean((1, 2, 3)) - np.log(2 * np.pi)
        np.testing.assert_allclose(each[name], expected, rtol=1e-6)
        total = total + weight * expected
    np.testing.assert_allclose(found, total, rtol=1e-6)
    with pytest.raises(ValueError, match=r"\['p'\]"):
        losses.gaussian_error(predictions.drop_vars("p"), targets, log_variances)


def test_a_gaussian_error_without_certainty_is_the_squared_error():
    targets, predictions = _fields(seed=0), _fields(seed=1)
    found, _ = losses.gaussian_error(predictions, targets, targets * 0)
    expected, _ = losses.weighted_error(predictions, targets)
    np.testing.assert_allclose(found, expected)


def _fields(seed):
    rng = np.random.default_rng(seed)
    dims = ("batch", "time", "lat", "lon")
    coords = {"lat": [-60.0, 0.0, 60.0], "lon": np.arange(4) * 90.0}
    shape = (2, 1, 3, 4)
    values = {n: (dims, rng.standard_normal(shape)) for n in ("t", "p")}
    return xr.Dataset(values, coords)


def test_neighbours_on_an_uneven_grid_are_an_error():
    fields = xr.Dataset({"t": (("lat", "lon"), np.zeros((3, 4)))})
    with pytest.raises(ValueError, match="lat"):
        losses.neighbour_differences(fields.assign_coords(lat=[0.0, 1.0, 5.0]))
