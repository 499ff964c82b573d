"""Tests of the predictors: datasets in, datasets out."""

import dataclasses
import logging

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray

from tests import tolerances
from tests.climax import published
from tests.training import toys
from weatherlib import (
    autoregressive,
    casting,
    checkpoint,
    climax,
    normalization,
    training,
    xarray_jax,
)
from weatherlib.climax import parameters

HOUR = np.timedelta64(1, "h").astype("timedelta64[ns]")
TASK = dataclasses.replace(
    toys.TASK,
    input_variables=(toys.PRESSURE, "geopotential"),
    forcing_variables=(),
    input_duration="6h",
)
SIZES = climax.ClimaXConfig(
    default_vars=(
        "geopotential_850", "day_progress_sin", toys.PRESSURE, "geopotential_500"
    ),
    img_size=(4, 8), embed_dim=8, num_heads=2, depth=1,
)  # fmt: skip


def sample(task=TASK, targets=1, batch=2):
    frames = training.Frames(toys.weather(), task)
    return frames.batch(np.arange(batch), targets)


def noisy(sizes):
    rng = np.random.default_rng(1)
    return {
        module: {
            name: (0.3 * rng.standard_normal(shape) + (name == "scale")).astype("f4")
            for name, shape in entries.items()
        }
        for module, entries in parameters.parameter_shapes(sizes).items()
    }


def call(data, sizes=SIZES, task=TASK, wrap=lambda p: p, method=None, **options):
    """Returns what a predictor with noisy parameters makes of the data."""

    def run(*data):
        predictor = wrap(climax.make_predictor(sizes, task))
        return (getattr(predictor, method) if method else predictor)(*data, **options)

    return jax.jit(hk.transform(run).apply)(noisy(sizes), None, *data)


def normalized(data):
    stats = toys.statistics()
    inputs, targets, forcings = data
    scaled = [
        normalization.normalize(d, stats["stddev_by_level"], stats["mean_by_level"])
        for d in (inputs, targets, forcings)
    ]
    return tuple(scaled)


def states(predictor):
    return normalization.InputsAndResiduals(
        predictor, **toys.statistics(), residuals=predictor.predicts_changes
    )


def at(data, hours):
    """Returns data whose target lies so many hours ahead."""
    time = np.array([hours]) * HOUR
    return (data[0], *(part.assign_coords(time=time) for part in data[1:]))


def published_case(name):
    """Returns a published case as a task and datasets, every level a variable."""
    arrays = published.arrays(name)
    case = published.listed()["expected"][name]
    dims = ("batch", "time", "lat", "lon")
    coords = {"lat": arrays["f64_lat"], "lon": arrays["f64_lon"]}

    def fields(source, names, hours):
        made = {n: (dims, source[:, [i]]) for i, n in enumerate(names)}
        return xarray.Dataset(made, {**coords, "time": np.array([hours]) * HOUR})

    task = dataclasses.replace(
        TASK,
        input_variables=tuple(case["variables"]),
        target_variables=tuple(case["out_variables"]),
        forcing_variables=("lead_time",),
        pressure_levels=(),
    )
    inputs = fields(arrays["x"], task.input_variables, 0)
    targets = fields(arrays["y"], task.target_variables, 6)
    hours = xarray.Dataset({"lead_time": ("batch", 100 * arrays["lead_times"])})
    return task, (inputs, targets, hours)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("name", ["global_case0", "global_case1"])
def test_a_published_case_goes_through_datasets(name, turned):
    """In either order of rows, each batch member with a lead time of its own."""
    task, data = published_case(name)
    sizes = published.config()
    params = published.params(sizes, published.arrays("global_weights"))
    step = -1 if turned else 1
    if turned:
        data = [d.isel(lat=slice(None, None, -1)) if "lat" in d else d for d in data]

    def run(*data):
        predictor = climax.ClimaX(sizes, task)
        return predictor.loss_and_predictions(*data, is_training=False)

    (loss, parts), found = jax.jit(hk.transform(run).apply)(params, None, *data)
    losses = published.listed()["expected"][name]["loss_lat_weighted_mse"]
    for i, variable in enumerate(task.target_variables):
        np.testing.assert_allclose(
            np.asarray(xarray_jax.unwrap_data(found[variable]))[:, :, ::step],
            published.arrays(name)["preds"][:, [i]],
            rtol=tolerances.CLIMAX_RTOL,
            atol=tolerances.CLIMAX_ATOL,
        )
        np.testing.assert_allclose(
            float(parts[variable].mean()),
            losses[variable],
            rtol=tolerances.CLIMAX_LOSS_RTOL,
        )
    np.testing.assert_allclose(
        float(loss.mean()), losses["loss"], rtol=tolerances.CLIMAX_LOSS_RTOL
    )


def test_a_prediction_has_the_form_of_its_template():
    inputs, targets, forcings = sample()
    targets = targets.transpose("lon", "time", "level", "batch", "lat")
    found = call(normalized((inputs, targets, forcings)))
    assert set(found) == set(targets)
    for name in found:
        assert found[name].dims == targets[name].dims
        assert found[name].shape == targets[name].shape
    xarray.testing.assert_equal(found.coords.to_dataset(), targets.coords.to_dataset())


def test_levels_are_found_by_name_and_variables_in_any_number():
    """A task of fewer variables gives what the larger one does for its outputs."""
    data = normalized(sample())
    everything = call(data)
    inputs, targets, forcings = data
    task = dataclasses.replace(TASK, target_variables=("geopotential",))
    found = call((inputs, targets[["geopotential"]], forcings), task=task)
    np.testing.assert_allclose(
        found["geopotential"], everything["geopotential"], rtol=1e-4, atol=1e-5
    )
    few = dataclasses.replace(TASK, input_variables=("geopotential",))
    alone = call((inputs[["geopotential"]], targets, forcings), task=few)
    assert abs(alone["geopotential"] - everything["geopotential"]).max() > 1e-3
    turned = [part.isel(level=[1, 0]) for part in (inputs, targets)]
    task = dataclasses.replace(TASK, pressure_levels=(850, 500))
    found = call((*turned, forcings), task=task)
    np.testing.assert_allclose(
        found["geopotential"].sel(level=[500, 850]).values,
        everything["geopotential"].values,
        rtol=1e-4, atol=1e-5,
    )  # fmt: skip


def test_the_lead_time_comes_from_template_forcing_or_argument():
    data = normalized(sample())
    day = call(at(data, 24))
    six = call(at(data, 6))
    assert np.abs(day[toys.PRESSURE].values - six[toys.PRESSURE].values).max() > 1e-3
    task = dataclasses.replace(TASK, forcing_variables=("lead_time",))
    forced = xarray.Dataset({"lead_time": ("batch", np.float32([24, 6]))})
    both = call((data[0], at(data, 6)[1], forced), task=task)
    argued = call(at(data, 6), lead_hours=24.0)
    for name in day:
        np.testing.assert_allclose(both[name][0], day[name][0], atol=1e-5)
        np.testing.assert_allclose(both[name][1], six[name][1], atol=1e-5)
        np.testing.assert_allclose(argued[name], day[name], atol=1e-5)


@pytest.mark.parametrize("hours", [0, -6])
def test_a_lead_time_that_is_not_ahead_is_refused(hours):
    with pytest.raises(ValueError, match=f"positive number of hours .* {hours}"):
        call(at(normalized(sample()), hours))


def test_a_lead_time_outside_of_training_draws_a_warning(caplog):
    data = normalized(sample())
    with caplog.at_level(logging.WARNING):
        call(at(data, 162))
    assert "lead time" not in caplog.text
    with caplog.at_level(logging.WARNING):
        call(at(data, 240))
    assert "lead time 240 h: the weights were trained on 6 to 162 h" in caplog.text


def test_lead_times_of_another_number_or_none_are_refused():
    inputs, targets, forcings = normalized(sample())
    with pytest.raises(ValueError, match="3 lead times are given to 2 batch members"):
        call((inputs, targets, forcings), lead_hours=np.ones(3))
    with pytest.raises(ValueError, match="the lead time is not known"):
        call((inputs, targets.drop_vars("time"), forcings))


def test_forcings_that_are_no_inputs_are_read():
    task = dataclasses.replace(TASK, forcing_variables=("day_progress_sin",))
    inputs, targets, forcings = normalized(sample(task))
    first = call((inputs, targets, forcings), task=task)
    second = call((inputs, targets, forcings + 1), task=task)
    assert abs(first - second)[toys.PRESSURE].max() > 1e-3


def test_an_unknown_variable_is_named():
    sizes = SIZES.replace(default_vars=("geopotential_850", "geopotential_500"))
    with pytest.raises(ValueError, match="mean_sea_level_pressure: no variable of"):
        call(normalized(sample()), sizes)


def test_surface_geopotential_stands_for_orography():
    sizes = SIZES.replace(default_vars=(*SIZES.default_vars, "orography"))
    inputs, targets, forcings = normalized(sample())
    ground = xarray.Dataset(
        {"geopotential_at_surface": (("lat", "lon"), np.ones((4, 8), np.float32))}
    )
    task = dataclasses.replace(
        TASK, input_variables=(*TASK.input_variables, "geopotential_at_surface")
    )
    found = call((inputs.merge(ground), targets, forcings), sizes, task)
    named = ground.rename(geopotential_at_surface="orography")
    task = dataclasses.replace(
        TASK, input_variables=(*TASK.input_variables, "orography")
    )
    again = call((inputs.merge(named), targets, forcings), sizes, task)
    np.testing.assert_allclose(found[toys.PRESSURE], again[toys.PRESSURE], atol=1e-6)
    both = inputs.merge(ground).merge(named)
    task = dataclasses.replace(
        task, input_variables=(*task.input_variables, "geopotential_at_surface")
    )
    with pytest.raises(ValueError, match="stands for orography, which is given twice"):
        call((both, targets, forcings), sizes, task)


def test_more_frames_than_the_model_reads_are_refused():
    task = dataclasses.replace(TASK, input_duration="12h")
    with pytest.raises(ValueError, match=r"reads 1 input frame.*found 2"):
        call(normalized(sample(task)), task=task)
    found = call(normalized(sample(task)), SIZES.replace(time_history=2), task)
    assert np.isfinite(found[toys.PRESSURE]).all()


@pytest.mark.parametrize("predicts", ["state", "change"])
def test_steps_are_iterated_and_normalised(predicts):
    """Two steps in one are one step after the other."""
    sizes = SIZES.replace(predicts=predicts)
    inputs, targets, forcings = sample(targets=2)
    both = call(
        (inputs, targets, forcings), sizes,
        wrap=lambda p: autoregressive.Predictor(states(p)),
    ).transpose("batch", "time", ...)  # fmt: skip
    one = targets.isel(time=[0])
    first = call((inputs, one, forcings), sizes, wrap=states)
    fed = first.assign_coords(time=inputs["time"])
    second = call((jax.device_get(fed), one, forcings), sizes, wrap=states)
    for name in both:
        scale = float(toys.statistics()["stddev_by_level"][name].max())
        np.testing.assert_allclose(
            both[name].isel(time=0), first[name].isel(time=0), atol=1e-4 * scale
        )
        np.testing.assert_allclose(
            both[name].isel(time=1), second[name].isel(time=0), atol=1e-4 * scale
        )


def test_a_state_is_predicted_without_the_last_frame():
    """The same normalised output moves with the input only as a change."""
    data = sample()
    plain = call(normalized(data))
    wrapped = call(data, wrap=states)
    stats = toys.statistics()
    expected = normalization.unnormalize(
        plain, stats["stddev_by_level"], stats["mean_by_level"]
    )
    for name in expected:
        scale = float(stats["stddev_by_level"][name].max())
        np.testing.assert_allclose(wrapped[name], expected[name], atol=1e-3 * scale)


def test_loss_and_gradients_pass_through_all_wrappers():
    data = sample(targets=2)

    def loss(params, key):
        def run(*data):
            inner = casting.Bfloat16Cast(climax.ClimaX(SIZES, TASK, remat=True))
            wrapped = normalization.InputsAndResiduals(
                inner, **toys.statistics(), residuals=False
            )
            value, _ = autoregressive.Predictor(wrapped).loss(*data)
            return xarray_jax.unwrap_data(value).mean()

        return hk.transform(run).apply(params, key, *data)

    value, gradient = jax.jit(jax.value_and_grad(loss))(
        noisy(SIZES), jax.random.PRNGKey(0)
    )
    assert np.isfinite(value)
    for leaf in jax.tree.leaves(gradient):
        assert leaf.dtype == jnp.float32
        assert np.isfinite(leaf).all()
    assert np.abs(gradient["climax/block_0/mlp/fc1"]["w"]).max() > 0


def test_the_loss_is_that_of_the_predictions():
    data = normalized(sample())
    (loss, parts), found = call(data, method="loss_and_predictions", is_training=False)
    alone, _ = call(data, method="loss", is_training=False)
    np.testing.assert_allclose(loss, alone, rtol=1e-5)
    weights = np.cos(np.deg2rad(data[1]["lat"]))
    weights = weights / weights.mean()
    errors = ((found - data[1]) ** 2 * weights).mean(("time", "lat", "lon"))
    pressure, heights = errors[toys.PRESSURE], errors["geopotential"]
    np.testing.assert_allclose(parts[toys.PRESSURE], pressure, rtol=1e-4)
    np.testing.assert_allclose(loss, (pressure + heights.sum("level")) / 3, rtol=1e-4)


def test_weights_of_variables_are_a_map_that_adds_up_to_one():
    inputs, targets, forcings = normalized(sample())
    found = call((inputs, targets, forcings), method="aggregation_weights")
    assert found.dims == ("batch", "time", "variable", "lat", "lon")
    assert found.shape == (2, 1, 3, 2, 4)
    assert set(found["variable"].values) == set(SIZES.default_vars) - {DAY}
    np.testing.assert_allclose(found.sum("variable"), 1, rtol=1e-5)
    turned = [part.isel(lat=slice(None, None, -1)) for part in (inputs, targets)]
    again = call((*turned, forcings), method="aggregation_weights")
    np.testing.assert_allclose(again.values[..., ::-1, :], found.values, rtol=1e-4)
    np.testing.assert_allclose(again["lat"], found["lat"][::-1])


DAY = "day_progress_sin"
REGION = SIZES.replace(region_box=(-90.0, 0.0, 180.0, 360.0))


def crop(data, sizes=REGION):
    inputs, targets, forcings = data
    return inputs, targets.isel(lat=slice(0, 2), lon=slice(4, 8)), forcings


def test_a_region_is_predicted_from_itself():
    data = normalized(sample())
    found = call(crop(data), REGION)
    assert found[toys.PRESSURE].shape == (2, 1, 2, 4)
    changed = data[0].copy(deep=True)
    changed[toys.PRESSURE][..., 2:, :] += 1
    changed[toys.PRESSURE][..., :4] += 1
    again = call(crop((changed, *data[1:])), REGION)
    xarray.testing.assert_equal(again, found)
    turned = [part.isel(lat=slice(None, None, -1)) for part in crop(data)[:2]]
    other = call((*turned, data[2]), REGION)
    np.testing.assert_allclose(
        other[toys.PRESSURE].values[..., ::-1, :], found[toys.PRESSURE], atol=1e-5
    )


def test_a_region_crops_targets_and_works_in_the_wrappers():
    inputs, targets, forcings = sample()

    def run(*data):
        predictor = climax.RegionalClimaX(REGION, TASK)
        part = predictor.crop(data[1])
        wrapped = states(casting.Bfloat16Cast(predictor))
        return wrapped.loss_and_predictions(
            data[0], part, data[2], is_training=False
        ), part

    apply = jax.jit(hk.transform(run).apply)
    ((loss, _), found), part = apply(noisy(REGION), None, inputs, targets, forcings)
    expected = crop((inputs, targets, forcings))[1]
    xarray.testing.assert_equal(part, expected)
    assert np.isfinite(loss).all()
    assert found[toys.PRESSURE].shape == expected[toys.PRESSURE].shape


def test_targets_beyond_the_region_are_refused():
    with pytest.raises(
        ValueError, match=r"the region has 2 values of 'lat' .* found 4"
    ):
        call(normalized(sample()), REGION)


def test_a_projection_reads_its_history():
    task = dataclasses.replace(
        TASK, target_variables=(toys.PRESSURE,), input_variables=("geopotential",),
        input_duration="18h",
    )  # fmt: skip
    sizes = SIZES.replace(
        head="projection", time_history=3, out_variables=(toys.PRESSURE,)
    )
    inputs, targets, forcings = normalized(sample(task))
    found = call((inputs, targets, forcings), sizes, task)
    assert found[toys.PRESSURE].shape == (2, 1, 4, 8)
    changed = inputs.copy(deep=True)
    changed["geopotential"][0, 0] += 1
    again = call((changed, targets, forcings), sizes, task)
    apart = abs(found - again)[toys.PRESSURE].max(("time", "lat", "lon"))
    assert apart[0] > 1e-4 and apart[1] < 1e-6
    late = call(at((inputs, targets, forcings), 240), sizes, task)
    xarray.testing.assert_allclose(late.drop_vars("time"), found.drop_vars("time"))


@pytest.mark.parametrize(
    ("kind", "sizes"),
    [
        (climax.ClimaX, REGION),
        (climax.RegionalClimaX, SIZES),
        (climax.ClimateProjection, SIZES),
    ],
)
def test_a_predictor_of_another_head_is_refused(kind, sizes):
    with pytest.raises(ValueError, match=r"region|projection"):
        kind(sizes, TASK)


def test_a_checkpoint_comes_back(tmp_path):
    sizes = SIZES.replace(region_box=(-90.0, 0.0, 180.0, 360.0), lead_hours=(6, 72))
    written = climax.CheckPoint(
        architecture=climax.CLIMAX,
        params=noisy(sizes),
        model_config=sizes,
        task_config=TASK,
        description="a test",
        license="CC0-1.0",
    )
    checkpoint.save(tmp_path / "climax.npz", written)
    found = checkpoint.open_checkpoint(tmp_path / "climax.npz", climax.CheckPoint)
    assert found.model_config == sizes
    assert found.task_config == TASK
    jax.tree.map(np.testing.assert_array_equal, found.params, written.params)


def _leads(hours):
    """Returns a sample with lead times of its members, and the task."""
    task = dataclasses.replace(TASK, forcing_variables=("lead_time",))
    forced = xarray.Dataset({"lead_time": ("batch", np.float32(hours))})
    inputs, targets, _ = normalized(sample())
    return (inputs, targets, forced), task


def test_the_unit_of_changes_grows_with_the_lead_time():
    """A network that knows no lead time predicts more of the same."""
    sizes = SIZES.replace(predicts="change", growth_hours=150.0)
    data, task = _leads([6, 72])
    grown = call(data, sizes, task)
    plain = call(data, sizes.replace(growth_hours=None), task)
    for name in plain:
        np.testing.assert_allclose(grown[name][0], plain[name][0], rtol=1e-5)
        factor = 12 * 156 / 222
        np.testing.assert_allclose(grown[name][1], factor * plain[name][1], rtol=1e-5)


def test_errors_count_in_the_unit_of_their_lead_time():
    sizes = SIZES.replace(predicts="change", growth_hours=150.0)
    data, task = _leads([6, 72])
    (loss, parts), found = call(
        data, sizes, task, method="loss_and_predictions", is_training=False
    )
    weights = np.cos(np.deg2rad(data[1]["lat"]))
    errors = (found - data[1]) ** 2 * (weights / weights.mean())
    factor = xarray.DataArray([1, (12 * 156 / 222) ** 2], dims="batch")
    errors = (errors / factor).mean(("time", "lat", "lon"))
    total = errors[toys.PRESSURE] + errors["geopotential"].sum("level")
    np.testing.assert_allclose(loss, total / 3, rtol=1e-4)
    np.testing.assert_allclose(parts[toys.PRESSURE], errors[toys.PRESSURE], rtol=1e-4)


@pytest.mark.parametrize(
    "changes",
    [{"growth_hours": 10.0}, {"growth_hours": 0.0, "predicts": "change"}],
)
def test_growth_belongs_to_changes(changes):
    with pytest.raises(ValueError, match="goes with predicts: change"):
        SIZES.replace(**changes)
