"""What the tests of sharding run in a process of its own, with eight CPU devices.

    python -m tests.training.scale_worker CASE...

prints one JSON object with the result of each case.
"""

import json
import sys

import haiku as hk
import jax
import numpy as np
import optax
import xarray as xr

from tests.graphcast import models
from weatherlib import graphcast, rollout, xarray_jax
from weatherlib.training import sharding

CONFIG = models.replace(models.CONFIG, resolution=0)
LAYOUTS = {
    "data": {"data": 8},
    "space": {"space": 8},
    "both": {"data": 2, "space": 4},
}
# Rows that divide by 4 and 8; rows that do not, so that longitudes are cut; neither.
GRIDS = {
    "even": (np.linspace(-70, 70, 8), 22.5 * np.arange(16)),
    "uneven": (np.linspace(-90, 90, 7), 30.0 * np.arange(12)),
    "odd": (np.linspace(-90, 90, 7), 40.0 * np.arange(9)),
}
BATCH = 8
UPDATES = 3


def layout_of(name):
    """Returns a layout; `weights` also cuts the weights over the data axis."""
    if name == "weights":
        config = sharding.ShardingConfig(mesh=LAYOUTS["both"], dims={"output": "data"})
        return sharding.Layout(config, family_axes=graphcast.PARAMETER_AXES)
    return sharding.Layout(sharding.ShardingConfig(mesh=LAYOUTS[name]))


def data_of(grid, batch=BATCH, seed=0):
    lat, lon = (np.asarray(values, np.float32) for values in GRIDS[grid])
    return models.make_data(lat=lat, lon=lon, batch=batch, seed=seed)


def make_update():
    """Returns a function of state and batch, and one that makes the first state."""
    transformed = models.transform(CONFIG, method="loss")
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1, 0.9))

    def update(state, batch):
        def loss_of(params):
            loss, _ = transformed.apply(params, *batch)
            return xarray_jax.unwrap_data(loss).mean()

        loss, gradients = jax.value_and_grad(loss_of)(state["params"])
        changes, memory = optimiser.update(gradients, state["optimiser"])
        params = optax.apply_updates(state["params"], changes)
        return {"params": params, "optimiser": memory}, (loss, gradients)

    def first(batch):
        shapes = jax.eval_shape(transformed.init, jax.random.PRNGKey(0), *batch)
        rng = np.random.default_rng(3)
        params = jax.tree.map(
            lambda leaf: rng.normal(0, 0.2, leaf.shape).astype(np.float32), shapes
        )
        return {"params": params, "optimiser": optimiser.init(params)}

    return update, first


def train(layout, grid):
    """Returns losses, first gradients and last parameters, and the executable."""
    batches = [data_of(grid, seed=seed) for seed in range(UPDATES)]
    update, first = make_update()
    state, losses, gradients = first(batches[0]), [], None
    step = jax.jit(update)
    if layout is not None:
        state = layout.place(state)

        def kept(state, batch):
            state, results = update(state, batch)
            return layout.constrain_state(state), results

        step = layout.jit(kept)
    for batch in batches:
        if layout is not None:
            batch = layout.place_batch(batch)
        state, (loss, found) = step(state, batch)
        losses.append(float(loss))
        gradients = found if gradients is None else gradients
    return losses, gradients, state["params"], step


def forecast(layout, members):
    """Returns a forecast of two steps, and how it was made."""
    inputs, targets, forcings = data_of("uneven", batch=2)
    hours = np.arange(1, 3) * np.timedelta64(6, "h").astype("timedelta64[ns]")
    targets, forcings = (
        xr.concat([data] * 2, "time").assign_coords(time=hours)
        for data in (targets, forcings)
    )
    targets = targets.drop_vars("total_precipitation_6hr")
    task = models.replace(
        models.TASK, target_variables=("2m_temperature", "temperature")
    )

    def make_predictor():
        return graphcast.GraphCast(CONFIG, task)

    transformed = hk.without_apply_rng(
        hk.transform(lambda *data: make_predictor()(*data))
    )
    first = targets.isel(time=slice(1)), forcings.isel(time=slice(1))
    shapes = jax.eval_shape(transformed.init, jax.random.PRNGKey(0), inputs, *first)
    rng = np.random.default_rng(3)
    params = jax.tree.map(
        lambda leaf: rng.normal(0, 0.2, leaf.shape).astype(np.float32), shapes
    )
    forecaster = rollout.Forecaster(
        make_predictor, params, sharding=layout, members_per_batch=2
    )
    result = forecaster.predict(
        inputs, forcings, targets_template=targets, members=members, guard=None
    )
    report = forecaster.fits(
        inputs, forcings, targets_template=targets, members=members
    )
    return result, report


def difference(found, expected):
    """Returns the largest difference, as a part of the largest number."""
    pairs = list(zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True))
    largest = max(float(np.abs(np.asarray(b)).max()) for _, b in pairs)
    return max(
        float(np.abs(np.asarray(a) - np.asarray(b)).max()) / largest for a, b in pairs
    )


def compare_training(name, grid):
    found, expected = train(layout_of(name), grid), train(None, grid)
    return {
        "loss": difference(found[0], expected[0]),
        "gradients": difference(found[1], expected[1]),
        "params": difference(found[2], expected[2]),
        "spread": abs(expected[0][0] - expected[0][-1]) / expected[0][0],
        "compilations": found[3]._cache_size(),
        "cut_weights": sum(
            not leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(found[2])
        ),
    }


def compare_forecasts(name, members):
    members = int(members) or None
    layout = layout_of(name)
    found, report = forecast(layout, members)
    expected, single = forecast(None, members)
    return {
        "same_labels": found.drop_vars(list(found)).identical(
            expected.drop_vars(list(expected))
        ),
        "difference": difference(
            [found[n].values for n in expected], [expected[n].values for n in expected]
        ),
        "needed": [report.needed_bytes, single.needed_bytes],
        "exact": report.exact,
    }


def show(value):
    return list(map(str, value))


def specs():
    """Returns how arrays are cut, and the words of the errors."""

    def caught(function):
        try:
            function()
        except ValueError as error:
            return str(error)
        return "no error"

    both = layout_of("both")
    field = ("batch", "time", "lat", "lon")
    rule = sharding.ParameterRule(path=r"decoder.*/w$", axes=(None, "data"))
    cut = sharding.Layout(
        sharding.ShardingConfig(mesh=LAYOUTS["both"], parameters=(rule,))
    )
    family = sharding.Layout(
        sharding.ShardingConfig(mesh=LAYOUTS["both"], dims={"output": "data"}),
        family_axes=[(r"/w$", (None, "output"))],
    )
    weights = {"decoder": {"w": np.zeros((3, 6)), "b": np.zeros(6)}, "rate": 1.0}
    odd = {"decoder": {"w": np.zeros((3, 5))}}
    moments = optax.adam(1e-3).init(weights["decoder"])
    placed = both.place_batch(
        xr.Dataset(
            {"x": (("batch", "lat"), np.zeros((4, 8), np.float32))},
            {"datetime": (("batch",), np.zeros(4, "datetime64[ns]"))},
        )
    )
    key = both.place({"key": jax.random.key(1)})["key"]
    return {
        "even": show(both.spec(field, (4, 1, 8, 16))),
        "lon": show(both.spec(field, (4, 1, 7, 12))),
        "whole": show(both.spec(field, (4, 1, 7, 9))),
        "members": show(both.spec(("sample", *field), (2, 4, 1, 8, 16))),
        "few_members": show(both.spec(("sample", *field), (1, 4, 1, 8, 16))),
        "batch": caught(lambda: both.spec(field, (3, 1, 8, 16))),
        "devices": caught(
            lambda: sharding.Layout(sharding.ShardingConfig(mesh={"data": 3}))
        ),
        "parameters": [
            show(s.spec) for s in jax.tree.leaves(cut.state_shardings(weights))
        ],
        "moments": [
            show(s.spec)
            for s in jax.tree.leaves(cut.state_shardings({"decoder": moments}))
        ],
        "indivisible": caught(lambda: cut.state_shardings(odd)),
        "too_many_axes": caught(
            lambda: cut.state_shardings({"decoder": {"w": np.zeros(6)}})
        ),
        "family": [
            show(s.spec)
            for s in jax.tree.leaves(family.state_shardings({**weights, "odd": odd}))
        ],
        "rows": [
            show(s.spec)
            for s in jax.tree.leaves(
                both.row_shardings(
                    [
                        np.zeros((8, 1, 3)),
                        np.zeros((6, 1, 8)),
                        np.zeros((6, 1, 3)),
                        np.zeros(8),
                    ]
                )
            )
        ],
        "placed": [
            list(placed.coords),
            show(xarray_jax.unwrap_data(placed["x"]).sharding.spec),
        ],
        "fetched": np.asarray(both.fetch(placed)["x"]).shape,
        "key": bool(
            (jax.random.key_data(key) == jax.random.key_data(jax.random.key(1))).all()
        ),
        "shard": both.loader_shard,
        "text": repr(both),
        "device_and_sharding": caught(
            lambda: rollout.Forecaster(
                lambda: None, {}, device=jax.devices()[0], sharding=both
            )
        ),
    }


def main(cases):
    results = {}
    functions = {
        "train": compare_training,
        "forecast": compare_forecasts,
        "specs": specs,
    }
    for case in cases:
        name, *arguments = case.split(":")
        results[case] = functions[name](*arguments)
    sys.stdout.write(json.dumps(results))


if __name__ == "__main__":
    main(sys.argv[1:])
