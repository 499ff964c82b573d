"""Normalisation, and predictions as normalised changes."""

import dataclasses
import logging

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from hypothesis import strategies as st

from tests import toy
from tests.conftest import GOLDENS
from weatherlib import normalization, predictor_base, task, xarray_jax

STDDEV, MEAN, DIFFS = toy.statistics(1), toy.statistics(0.3), toy.statistics(0.5)
RAIN = "total_precipitation_6hr"


def at_levels(statistics):
    """Statistics at the levels of the data, in their order."""
    return statistics.sel(level=list(toy.LEVELS))


def with_useless_top():
    """Standard deviations that are zero at a level the data do not have."""
    field = STDDEV["geopotential"]
    return STDDEV.assign(geopotential=field.where(field["level"] > 1, 0))


class Recorder(predictor_base.Predictor):
    """Remembers its data and answers with given values."""

    def __init__(self, answer=None, frames_per_step=1):
        self.frames_per_step = frames_per_step
        self.answer = answer

    def __call__(self, inputs, targets_template, forcings, **kwargs):
        self.seen = {
            "inputs": inputs,
            "targets": targets_template,
            "forcings": forcings,
            "kwargs": kwargs,
        }
        return targets_template if self.answer is None else self.answer

    def loss(self, inputs, targets, forcings, **kwargs):
        return self(inputs, targets, forcings, **kwargs), {"d": None}

    def loss_and_predictions(self, inputs, targets, forcings, **kwargs):
        return self.loss(inputs, targets, forcings, **kwargs), targets


def wrapped(inner):
    return normalization.InputsAndResiduals(
        inner,
        stddev_by_level=STDDEV,
        mean_by_level=MEAN,
        diffs_stddev_by_level=DIFFS,
    )


def test_normalize_subtracts_the_mean_and_divides_level_by_level():
    data = toy.example(1)[0]
    result = normalization.normalize(data, STDDEV, MEAN)
    for name in data:
        expected = (data[name] - at_levels(MEAN)[name]) / at_levels(STDDEV)[name]
        np.testing.assert_allclose(result[name], expected, rtol=1e-5, atol=1e-6)
        assert result[name].dims == data[name].dims
        assert result[name].dtype == np.float32
    assert set(result.coords) == set(data.coords)
    # The two levels have different statistics, so order matters.
    field = result["geopotential"].sel(level=500)
    exact = (data["geopotential"].sel(level=500) - 0.3 * (0.5 + 2 / 3)) / (0.5 + 2 / 3)
    np.testing.assert_allclose(field, exact, rtol=1e-5, atol=1e-6)


def test_without_locations_nothing_is_subtracted():
    data = toy.example(1)[0]
    result = normalization.normalize(data, STDDEV, None)
    np.testing.assert_allclose(result["2m_temperature"], data["2m_temperature"] / 0.7)


@hypothesis.settings(max_examples=30)
@hypothesis.given(
    seed=st.integers(0, 1000),
    order=st.permutations(range(4)),
    dtype=st.sampled_from([np.float32, np.float64]),
    has_mean=st.booleans(),
)
def test_unnormalize_undoes_normalize_whatever_the_order(seed, order, dtype, has_mean):
    data = toy.example(1, seed=seed)[0].astype(dtype)
    scales = STDDEV.isel(level=list(order))
    locations = MEAN.isel(level=list(order[::-1])) if has_mean else None
    normal = normalization.normalize(data, scales, locations)
    back = normalization.unnormalize(normal, scales, locations)
    for name in data:
        assert back[name].dtype == dtype
        np.testing.assert_allclose(back[name], data[name], rtol=1e-4, atol=1e-5)


def test_the_order_of_data_levels_and_dimensions_does_not_matter():
    data = toy.example(1)[0]
    result = normalization.normalize(data, STDDEV, MEAN)
    turned = data.isel(level=[1, 0]).transpose("lon", "level", ...)
    xr.testing.assert_allclose(
        normalization.normalize(turned, STDDEV, MEAN),
        result.isel(level=[1, 0]).transpose("lon", "level", ...),
    )


def test_arrays_and_mappings_are_normalised_too():
    data = toy.example(1)[0]
    expected = normalization.normalize(data, STDDEV, MEAN)
    array = normalization.normalize(data["geopotential"], STDDEV, MEAN)
    xr.testing.assert_equal(array, expected["geopotential"])
    mapping = normalization.normalize(dict(data.items()), STDDEV, MEAN)
    xr.testing.assert_equal(mapping["geopotential"], expected["geopotential"])


def test_bfloat16_stays_bfloat16_under_jit():
    data = toy.example(1)[0].map(lambda array: array.astype(jnp.bfloat16))
    result = jax.jit(lambda d: normalization.normalize(d, STDDEV, MEAN))(data)
    assert {array.dtype for array in result.values()} == {np.dtype(jnp.bfloat16)}


def test_integers_become_float32_instead_of_rounding_the_statistics():
    data = xr.Dataset({"2m_temperature": ("lat", [1, 2, 3])})
    result = normalization.normalize(data, STDDEV, MEAN)["2m_temperature"]
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, (np.array([1, 2, 3]) - 0.21) / 0.7, rtol=1e-6)


def test_statistics_with_coordinates_of_their_own_are_accepted():
    scales = STDDEV.assign_coords(
        source="era5", month=("level", [1, 2, 3, 4]), datetime="2020"
    )
    data = toy.example(1)[0]
    result = normalization.normalize(data, scales, None)
    xr.testing.assert_equal(result, normalization.normalize(data, STDDEV, None))
    assert "source" not in result.coords


def test_a_missing_statistic_is_a_warning_and_leaves_the_variable(caplog):
    data = toy.example(1)[0]
    with caplog.at_level(logging.WARNING):
        result = normalization.normalize(
            data, STDDEV.drop_vars("land_sea_mask"), MEAN.drop_vars("land_sea_mask")
        )
    xr.testing.assert_equal(result["land_sea_mask"], data["land_sea_mask"])
    assert "No normalization scale found for land_sea_mask" in caplog.text
    assert "No normalization location found for land_sea_mask" in caplog.text


def test_a_predictor_reports_a_missing_statistic_once(caplog):
    few = STDDEV.drop_vars("land_sea_mask")
    predictor = normalization.InputsAndResiduals(Recorder(), few, MEAN, DIFFS)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            predictor(*toy.example(1))
    assert [record.message for record in caplog.records] == [
        "No normalization scale found for land_sea_mask"
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.sel(level=[850, 1]), r"geopotential: .* lacks level \[500\]"),
        (lambda s: s.isel(level=[0, 0, 1, 2]), "geopotential: .* repeats labels of"),
        (lambda s: s.drop_vars("level"), "has 4 values along 'level', the data 2"),
        (lambda s: s.expand_dims(month=12), r"dimension.s. \['month'\], the data only"),
        (lambda s: s.where(s["level"] != 500), r"finite and not .* found \[nan\]"),
        (lambda s: s * np.inf, r"must be finite and not negative, found \[inf"),
        (lambda s: -s, r"must be finite and not negative, found \[-"),
    ],
)
def test_statistics_that_do_not_fit_are_refused(change, message):
    data = toy.example(1)[0][["geopotential"]]
    with pytest.raises(ValueError, match=message):
        normalization.normalize(data, change(STDDEV), None)
    with pytest.raises(ValueError, match=message):
        normalization.unnormalize(data, change(STDDEV), None)


@pytest.mark.parametrize("factor", [0, 1e-60])
def test_what_does_not_vary_is_scaled_by_one_and_named_once(factor, caplog):
    data = toy.example(1)[0][["geopotential", "2m_temperature"]]
    still = STDDEV.assign({"2m_temperature": STDDEV["2m_temperature"] * factor})
    with caplog.at_level(logging.WARNING):
        found = normalization.normalize(data, still, MEAN)
    assert [record.message for record in caplog.records] == [
        "2m_temperature does not vary by its normalization scale of 0, and is scaled "
        "by 1"
    ]
    departure = data["2m_temperature"] - MEAN["2m_temperature"]
    np.testing.assert_allclose(found["2m_temperature"], departure, rtol=1e-5, atol=1e-5)
    expected = normalization.normalize(data, STDDEV, MEAN)
    xr.testing.assert_equal(found["geopotential"], expected["geopotential"])
    back = normalization.unnormalize(found, still, MEAN)
    for name in data:
        np.testing.assert_allclose(back[name], data[name], rtol=1e-5)
    traced = jax.jit(normalization.normalize)(data, still, MEAN)
    for name in data:
        np.testing.assert_allclose(traced[name], found[name], rtol=1e-5, atol=1e-6)


def test_one_level_that_does_not_vary_leaves_the_others():
    data = toy.example(1)[0][["geopotential"]]
    field = STDDEV["geopotential"]
    still = STDDEV.assign(geopotential=field.where(field["level"] != 500, 0))
    found = normalization.normalize(data, still, None)["geopotential"]
    expected = normalization.normalize(data, STDDEV, None)["geopotential"]
    xr.testing.assert_equal(found.sel(level=500), data["geopotential"].sel(level=500))
    xr.testing.assert_equal(found.sel(level=850), expected.sel(level=850))


def test_means_that_lack_a_level_are_refused():
    with pytest.raises(ValueError, match=r"normalization location lacks level \[500\]"):
        normalization.normalize(toy.example(1)[0], STDDEV, MEAN.sel(level=[850]))


def test_a_bad_level_that_is_not_used_does_not_matter():
    scales = with_useless_top()
    data = toy.example(1)[0]
    xr.testing.assert_equal(
        normalization.normalize(data, scales, MEAN),
        normalization.normalize(data, STDDEV, MEAN),
    )


def test_statistics_may_be_traced_arguments():
    data = toy.example(1)[0]
    result = jax.jit(normalization.normalize)(data, STDDEV, MEAN)
    expected = normalization.normalize(data, STDDEV, MEAN)
    for name in data:
        np.testing.assert_allclose(result[name], expected[name], rtol=1e-5, atol=1e-6)


def test_an_array_without_a_name_is_refused():
    nameless = xr.DataArray(np.zeros(2), dims="lat")
    for function in (normalization.normalize, normalization.unnormalize):
        with pytest.raises(ValueError, match="without a name"):
            function(nameless, STDDEV, MEAN)


def test_the_wrapped_predictor_sees_normalised_inputs_and_forcings():
    inputs, targets, forcings = toy.example(1)
    inner = Recorder()
    wrapped(inner)(inputs, targets, forcings, key="value")
    xr.testing.assert_equal(
        inner.seen["inputs"], normalization.normalize(inputs, STDDEV, MEAN)
    )
    xr.testing.assert_equal(
        inner.seen["forcings"], normalization.normalize(forcings, STDDEV, MEAN)
    )
    assert inner.seen["targets"] is targets
    assert inner.seen["kwargs"] == {"key": "value"}


def test_forcings_may_be_absent():
    inputs, targets, _ = toy.example(1)
    inner = Recorder()
    wrapped(inner)(inputs, targets, None)
    assert inner.seen["forcings"] is None


def test_predictions_are_changes_from_the_last_frame_or_values():
    inputs, targets, forcings = toy.example(1)
    answer = xr.ones_like(targets)
    predictions = wrapped(Recorder(answer))(inputs, targets, forcings)
    for name in ("geopotential", "2m_temperature"):
        last = inputs[name].isel(time=-1, drop=True)
        expected = last + at_levels(DIFFS)[name]
        np.testing.assert_allclose(
            predictions[name].isel(time=0), expected, rtol=1e-5, atol=1e-6
        )
        assert predictions[name].dims == targets[name].dims
        assert predictions[name].dtype == np.float32
    np.testing.assert_allclose(predictions[RAIN], 0.4 + 0.3 * 0.4, rtol=1e-6)
    xr.testing.assert_equal(
        predictions.coords.to_dataset(), targets.coords.to_dataset()
    )


@pytest.mark.parametrize("method", ["loss", "loss_and_predictions"])
def test_the_loss_sees_normalised_changes(method):
    inputs, targets, forcings = toy.example(1)
    inner = Recorder()
    getattr(wrapped(inner), method)(inputs, targets, forcings, key=1)
    seen = inner.seen["targets"]
    assert inner.seen["kwargs"] == {"key": 1}
    for name in ("geopotential", "2m_temperature"):
        change = targets[name] - inputs[name].isel(time=-1, drop=True)
        expected = change / at_levels(DIFFS)[name]
        np.testing.assert_allclose(seen[name], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        seen[RAIN], (targets[RAIN] - 0.12) / 0.4, rtol=1e-5, atol=1e-6
    )


def test_a_perfect_answer_gives_back_the_targets():
    inputs, targets, forcings = toy.example(1)
    # The recorder answers with the targets it is given, which are normalised.
    (_, diagnostics), predictions = wrapped(Recorder()).loss_and_predictions(
        inputs, targets, forcings
    )
    assert diagnostics == {"d": None}
    for name in targets:
        np.testing.assert_allclose(
            predictions[name], targets[name], rtol=1e-5, atol=1e-6
        )


def test_targets_on_some_of_the_input_levels_are_matched_by_label():
    inputs, targets, forcings = toy.example(1)
    lower = targets.sel(level=[850])
    predictions = wrapped(Recorder(xr.zeros_like(lower)))(inputs, lower, forcings)
    np.testing.assert_allclose(
        predictions["geopotential"].isel(time=0, level=0),
        inputs["geopotential"].isel(time=-1).sel(level=850),
    )


def test_targets_on_other_levels_than_the_inputs_are_refused():
    inputs, targets, forcings = toy.example(1)
    upper = targets.assign_coords(level=[1000, 850])
    with pytest.raises(ValueError, match=r"the last input frame lacks level \[1000\]"):
        wrapped(Recorder())(inputs, upper, forcings)


def test_more_than_one_step_is_refused():
    predictor = wrapped(Recorder())
    for method in (predictor, predictor.loss, predictor.loss_and_predictions):
        with pytest.raises(ValueError, match=r"one step of 1 frame.*found 2.*autoreg"):
            method(*toy.example(2))


def test_a_target_without_time_is_refused():
    inputs, targets, forcings = toy.example(1)
    with pytest.raises(ValueError, match="found None"):
        wrapped(Recorder())(inputs, targets.isel(time=0), forcings)


def test_a_target_that_is_a_static_input_is_refused():
    inputs, targets, forcings = toy.example(1)
    inputs["2m_temperature"] = inputs["2m_temperature"].isel(time=0, drop=True)
    with pytest.raises(ValueError, match="2m_temperature is a target, so as an input"):
        wrapped(Recorder())(inputs, targets, forcings)


def test_all_frames_of_a_step_are_changes_from_the_last_input_frame():
    inputs, targets, forcings = toy.example(3)
    predictor = wrapped(Recorder(xr.zeros_like(targets), frames_per_step=3))
    assert predictor.frames_per_step == 3
    predictions = predictor(inputs, targets, forcings)
    for frame in range(3):
        np.testing.assert_array_equal(
            predictions["geopotential"].isel(time=frame),
            inputs["geopotential"].isel(time=-1),
        )
    with pytest.raises(ValueError, match=r"one step of 3 frame.*found 1"):
        predictor(*toy.example(1))


TOY_TASK = task.TaskConfig(
    input_variables=(
        "geopotential",
        "2m_temperature",
        "toa_incident_solar_radiation",
        "land_sea_mask",
    ),
    target_variables=("geopotential", "2m_temperature", RAIN),
    forcing_variables=("toa_incident_solar_radiation",),
    pressure_levels=toy.LEVELS,
    input_duration="12h",
)


def test_statistics_of_the_right_model_pass_the_check():
    normalization.check_statistics(TOY_TASK, STDDEV, MEAN, DIFFS)
    # What the task does not use may be missing or useless.
    few = DIFFS.drop_vars([RAIN, "land_sea_mask", "toa_incident_solar_radiation"])
    normalization.check_statistics(TOY_TASK, with_useless_top(), MEAN, few)


def test_the_check_names_what_does_not_vary():
    field = STDDEV["geopotential"]
    stddev = STDDEV.assign(geopotential=field.where(field["level"] != 500, 0))
    diffs = DIFFS.assign({"2m_temperature": 0.0})
    with pytest.warns(UserWarning, match="did not vary") as caught:
        normalization.check_statistics(TOY_TASK, stddev, MEAN, diffs)
    assert [str(warning.message).split(" did")[0] for warning in caught] == [
        "stddev_by_level: geopotential at 500 hPa",
        "diffs_stddev_by_level: 2m_temperature",
    ]


@pytest.mark.parametrize("case", ["a_10deg_13lev", "b_15deg_precip_out"])
def test_published_statistics_pass_the_check(case):
    folder = GOLDENS / "graphcast" / case
    statistics = {
        name: xr.load_dataset(folder / f"stats_{name}.nc")
        for name in ("stddev_by_level", "mean_by_level", "diffs_stddev_by_level")
    }
    for config in (task.TASK, task.TASK_13, task.TASK_13_PRECIP_OUT):
        normalization.check_statistics(config, *statistics.values())


def test_the_check_lists_everything_that_is_missing():
    config = dataclasses.replace(TOY_TASK, pressure_levels=(500, 850, 300))
    stddev = STDDEV.drop_vars(RAIN).assign({"2m_temperature": -1.0})
    mean = MEAN.drop_vars("land_sea_mask").assign(
        {"toa_incident_solar_radiation": np.nan}
    )
    diffs = DIFFS.drop_vars("2m_temperature").sel(level=[850])
    with pytest.raises(ValueError, match="are they those of another model") as caught:
        normalization.check_statistics(config, stddev, mean, diffs)
    assert str(caught.value).splitlines()[1:] == [
        "  stddev_by_level: geopotential lacks the levels [300]",
        "  stddev_by_level: 2m_temperature must be finite and not negative, "
        "found [-1.0]",
        f"  stddev_by_level: {RAIN} is missing",
        "  mean_by_level: geopotential lacks the levels [300]",
        "  mean_by_level: toa_incident_solar_radiation is not finite",
        "  mean_by_level: land_sea_mask is missing",
        "  diffs_stddev_by_level: geopotential lacks the levels [300, 500]",
        "  diffs_stddev_by_level: 2m_temperature is missing",
    ]


def test_loss_and_gradients_pass_through_under_jit():
    data = toy.example(1)

    def make():
        return wrapped(toy.ToyPredictor())

    loss, diagnostics = toy.run(make, data, method="loss")
    assert loss.shape == (2,)
    assert set(diagnostics) == set(data[1])
    function = toy.transformed(make, "loss")

    @jax.jit
    @jax.grad
    def gradient(params):
        return xarray_jax.unwrap_data(function.apply(params, None, *data)[0].mean())

    for leaf in jax.tree.leaves(gradient(toy.parameters())):
        assert np.isfinite(leaf).all()
        assert np.abs(leaf).max() > 0
