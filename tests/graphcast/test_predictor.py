import json
import math

import haiku as hk
import jax
import numpy as np
import pytest
import xarray as xr

from tests.conftest import GOLDENS
from tests.graphcast import models
from weatherlib import graphcast, hemispheres, losses, task, xarray_jax

PUBLISHED = {
    "graphcast": task.TASK,
    "graphcast_small": task.TASK_13,
    "graphcast_operational": task.TASK_13_PRECIP_OUT,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_have_the_published_names_and_shapes(name):
    path = GOLDENS / "graphcast" / f"param_shapes_{name}.json"
    published = json.loads(path.read_text())
    # The grid decides no shape, so a coarse one will do.
    config = graphcast.ModelConfig(
        **{**published["model_config"], "resolution": 0, "mesh_size": 1}
    )
    data = models.make_data(PUBLISHED[name])
    init = models.transform(config, PUBLISHED[name]).init
    params = jax.eval_shape(init, jax.random.PRNGKey(0), *data)
    found = {
        f"params:{module}:{key}": (list(value.shape), str(value.dtype))
        for module, arrays in params.items()
        for key, value in arrays.items()
    }
    expected = {
        key: (value["shape"], value["dtype"])
        for key, value in published["params"].items()
    }
    assert found == expected
    assert len(found) == 262
    total = sum(math.prod(shape) for shape, _ in found.values())
    assert total == published["total_parameters"]


def surface_task(**changes):
    fields = {
        "input_variables": ("mean_sea_level_pressure",),
        "target_variables": ("mean_sea_level_pressure",),
        "forcing_variables": (),
        "pressure_levels": (),
        "input_duration": "12h",
    }
    return graphcast.TaskConfig(**fields | changes)


@pytest.mark.parametrize(
    ("task_config", "kwargs"),
    [
        (models.TASK, {"batch": 2}),
        (models.TASK, {"frames": 3, "lat": models.LAT[::-1]}),
        (models.TASK, {"lat": np.arange(0.0, 90, 30), "lon": np.arange(-30.0, 60, 30)}),
        (surface_task(), {"frames": 1}),
    ],
    ids=["batch", "descending rows, three frames", "window", "pressure only"],
)
def test_any_grid_task_batch_and_number_of_frames_can_be_predicted(task_config, kwargs):
    data = models.make_data(task_config, **kwargs)
    params = models.init(data, models.CONFIG, task_config)
    run = jax.jit(models.transform(models.CONFIG, task_config).apply)
    found = run(params, *data)
    assert found.sizes == data[1].sizes
    xr.testing.assert_equal(found.coords.to_dataset(), data[1].coords.to_dataset())
    for name, values in models.values(found).items():
        assert found[name].dims == data[1][name].dims
        assert np.isfinite(values).all()
        assert values.std() > 0


def test_the_prediction_follows_a_change_in_the_order_of_rows():
    data = models.make_data()
    params = models.init(data)
    run = jax.jit(models.transform().apply)
    # Row order decides only ties at triangle borders; these points are clear of them.
    lat = models.LAT[1:-1] + 3.3
    first = models.make_data(lat=lat, lon=models.LON + 1.7)
    flipped = [dataset.isel(lat=slice(None, None, -1)) for dataset in first]
    found = models.values(run(params, *first))
    other = models.values(run(params, *flipped))
    for name, values in found.items():
        np.testing.assert_allclose(values, np.flip(other[name], -2), atol=1e-4)


def slopes_config(names=("2m_temperature", "temperature"), **changes):
    sizes = dict(models.CONFIG)
    return graphcast.SlopesModelConfig(**{**sizes, "slopes": names, **changes})


def test_slopes_of_inputs_are_further_inputs():
    data = models.make_data()
    plain = models.init(data, models.CONFIG)
    config = slopes_config()
    params = models.init(data, config)
    first = "grid2mesh_gnn/~_networks_builder/encoder_nodes_grid_nodes_mlp/~/linear_0"
    # Two frames of a variable and two of another on two levels, three slopes of each.
    more = params[first]["w"].shape[0] - plain[first]["w"].shape[0]
    assert more == 3 * (2 + 2 * 2)
    run = jax.jit(models.transform(config).apply)
    lat = models.LAT[1:-1] + 3.3
    given = models.make_data(lat=lat, lon=models.LON + 1.7)
    flipped = [dataset.isel(lat=slice(None, None, -1)) for dataset in given]
    found, other = (models.values(run(params, *d)) for d in (given, flipped))
    for name, values in found.items():
        np.testing.assert_allclose(values, np.flip(other[name], -2), atol=1e-4)
    longer = jax.jit(models.transform(slopes_config(slope_length=2000.0)).apply)
    changed = models.values(longer(params, *given))
    assert np.abs(changed["temperature"] - found["temperature"]).max() > 1e-3


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("vorticity",), "slopes: there is no vorticity among 2m_temperature"),
        (("temperature",), None),
        ((), "slopes is empty"),
    ],
)
def test_slopes_of_what_is_not_there_are_refused(names, message):
    if message is None:
        assert slopes_config(names).slopes == names
        return
    with pytest.raises(ValueError, match=message):
        models.init(models.make_data(), slopes_config(names))


def test_hemispheres_share_their_weights():
    names = ("2m_temperature", "v_component_of_wind", "temperature")
    task_config = models.replace(
        models.TASK, input_variables=(*names, "year_progress_sin"),
        target_variables=names, forcing_variables=("year_progress_sin",),
    )  # fmt: skip
    # Mesh and grid are their own mirror image, turned half-way round. No node lies on
    # the equator, and no point on an edge between two triangles.
    config = slopes_config(names[:2], mesh_size=0, mirror=True)
    lat, lon = np.arange(-75, 76, 30).astype(np.float32), models.LON + np.float32(1.7)
    inputs, targets, forcings = models.make_data(task_config, lat=lat, lon=lon)
    # As forcings are that do not depend on places.
    data = inputs, targets, forcings.isel(lat=0, lon=0, drop=True)

    def reflected(dataset):
        turned = dataset.map(lambda x: -x if hemispheres.changes_sign(x.name) else x)
        if "lat" not in dataset.dims:
            return turned
        turned = turned.roll(lon=len(models.LON) // 2)
        return turned.isel(lat=slice(None, None, -1)).assign_coords(
            lat=dataset["lat"], lon=dataset["lon"]
        )

    params = models.init(data, config, task_config=task_config)
    # All but the distance from the equator says where a node lies.
    for module, values in params.items():
        if "encoder_nodes" in module and module.endswith("linear_0"):
            values["w"] = values["w"].at[-3:].set(0)
    run = jax.jit(models.transform(config, task_config).apply)
    found = run(params, *data)
    host = found.copy(data=models.values(found))
    other = models.values(run(params, *map(reflected, data)))
    for name, values in models.values(reflected(host)).items():
        np.testing.assert_allclose(other[name], values, atol=2e-5)
    # And where it lies in the other hemisphere makes a difference otherwise.
    assert np.abs(host["temperature"].values).max() > 0.1


def test_the_prediction_is_the_mean_of_members_and_each_trains_on_its_share():
    data = models.make_data(batch=2)
    config = slopes_config(members=2)
    params = models.init(data, config)
    single = slopes_config()

    def of_member(i):
        prefix = f"member_{i}/"
        return {
            name.removeprefix(prefix): values
            for name, values in params.items()
            if name.startswith(prefix)
        }

    run = jax.jit(models.transform(single).apply)
    parts = [models.values(run(of_member(i), *data)) for i in range(2)]
    found = models.values(jax.jit(models.transform(config).apply)(params, *data))
    for name, values in found.items():
        mean = (parts[0][name] + parts[1][name]) / 2
        np.testing.assert_allclose(values, mean, atol=1e-5)
        assert np.abs(parts[0][name] - parts[1][name]).max() > 0.1
    judge = models.transform(config, method="loss_and_predictions")
    trained = models.values(jax.jit(judge.apply)(params, *data)[1])
    for name, values in trained.items():
        apart = np.stack([parts[i][name][i] for i in range(2)])
        np.testing.assert_allclose(values, apart, atol=1e-5)


@pytest.mark.parametrize("name", ["slope_length", "members"])
def test_sizes_that_are_not_positive_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be positive, found 0"):
        slopes_config(**{name: 0})


def test_dimensions_may_come_in_any_order():
    data = models.make_data()
    params = models.init(data)
    run = jax.jit(models.transform().apply)
    turned = [d.transpose("lon", "level", "lat", "time", ...) for d in data[:2]]
    turned.append(data[2].transpose("lon", "lat", "time", ...))
    found = run(params, *turned)
    expected = models.values(run(params, *data))
    assert found["temperature"].dims[0] == "lon"
    for name, values in expected.items():
        again = found[name].transpose(*data[1][name].dims)
        np.testing.assert_allclose(
            xarray_jax.unwrap_data(again), values, rtol=1e-5, atol=1e-5
        )


def test_the_loss_weighs_surface_variables_that_are_there():
    data = models.make_data()
    params = models.init(data)
    run = models.transform(method="loss_and_predictions")
    (loss, diagnostics), predictions = jax.jit(run.apply)(params, *data)
    host = data[1].copy(data=models.values(predictions))
    expected, parts = losses.weighted_mse_per_level(
        host, data[1], {"total_precipitation_6hr": 0.1}
    )
    np.testing.assert_allclose(xarray_jax.unwrap_data(loss), expected, rtol=1e-5)
    for name, part in parts.items():
        found = xarray_jax.unwrap_data(diagnostics[name])
        np.testing.assert_allclose(found, part, rtol=1e-5)
    alone = jax.jit(models.transform(method="loss").apply)(params, *data)[0]
    np.testing.assert_allclose(xarray_jax.unwrap_data(alone), expected, rtol=1e-5)


def test_memory_settings_reach_the_network():
    data = models.make_data()
    params = models.init(data)
    memory = graphcast.MemoryConfig(block=20, remat=True, store_static=False)
    blocked = models.transform(memory=memory)

    def loops(transformed):
        return str(jax.make_jaxpr(transformed.apply)(params, *data)).count("scan[")

    # The rounds over the mesh are a loop in any case.
    assert loops(models.transform()) <= 1 < loops(blocked)


def test_one_predictor_can_be_called_twice_with_the_same_parameters():
    data = models.make_data()

    def run(*data):
        predictor = graphcast.GraphCast(models.CONFIG, models.TASK)
        return predictor(*data), predictor(*data, is_training=True)

    transformed = hk.without_apply_rng(hk.transform(run))
    params = jax.eval_shape(transformed.init, jax.random.PRNGKey(0), *data)
    once = jax.eval_shape(models.transform().init, jax.random.PRNGKey(0), *data)
    assert params == once


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda i, t, f: (i.drop_vars("2m_temperature"), t, f),
            "inputs lacks 2m_temperature",
        ),
        (
            lambda i, t, f: (i.assign(extra=i["2m_temperature"]), t, f),
            "inputs has extra beside what the task names",
        ),
        (
            lambda i, t, f: (i, t.drop_vars("temperature"), f),
            "targets_template lacks temperature",
        ),
        (lambda i, t, f: (i, t, f.drop_vars("day")), "forcings lacks day"),
        (
            lambda i, t, f: (i.isel(level=[1, 0]), t, f),
            r"temperature must be on the levels \(500, 850\) hPa",
        ),
        (
            lambda i, t, f: (i, t.isel(level=[0]), f),
            r"targets_template: temperature .* found \(500,\)",
        ),
        (
            lambda i, t, f: (i, t.isel(level=[0]).drop_vars("level"), f),
            "found 1 levels without coordinate",
        ),
        (
            lambda i, t, f: tuple(x.isel(lon=slice(0, None, 2)) for x in (i, t, f)),
            "made for a grid of 30 degrees, found 60 degrees between values of 'lon'",
        ),
        (
            lambda i, t, f: (i.isel(batch=0), t, f),
            "inputs need the dimension 'batch'",
        ),
        (
            lambda i, t, f: (i.drop_vars("lat"), t, f),
            "inputs need the coordinate 'lat'",
        ),
        (
            lambda i, t, f: (i, t.isel(lat=slice(2, None)), f),
            "has 5 values along 'lat' where the inputs have 7",
        ),
        (
            lambda i, t, f: (i, xr.concat([t, t], "time"), f),
            "targets_template: .* has 2 times, but the model predicts one step",
        ),
        (
            lambda i, t, f: (i, t, xr.concat([f, f], "time")),
            "forcings: day has 2 times",
        ),
    ],
)
def test_data_that_do_not_fit_are_refused(change, message):
    data = change(*models.make_data())
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(models.transform().init, jax.random.PRNGKey(0), *data)


def test_resolution_zero_allows_any_grid():
    data = models.make_data(lat=models.LAT[::2], lon=models.LON[::3])
    config = models.replace(models.CONFIG, resolution=0)
    init = models.transform(config).init
    assert jax.eval_shape(init, jax.random.PRNGKey(0), *data)
