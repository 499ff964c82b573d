import functools

import haiku as hk
import jax
import numpy as np
import pandas as pd
import pytest
import xarray

from tests.training import toys
from weatherlib import (
    autoregressive,
    casting,
    data,
    normalization,
    rollout,
    task,
    training,
    xarray_jax,
)
from weatherlib.baselines import references
from weatherlib.data_utils import harmonics, statistics

DATES = ("year_progress_sin", "year_progress_cos", "day_progress_sin",
         "day_progress_cos")  # fmt: skip
TASK = task.TaskConfig(
    input_variables=(toys.PRESSURE, "geopotential", *DATES),
    target_variables=(toys.PRESSURE, "geopotential"),
    forcing_variables=DATES,
    pressure_levels=(500, 850),
    input_duration="18h",
)
NAMES = TASK.target_variables


@functools.cache
def frames(start="2020-02-20"):
    return training.Frames(toys.weather(start=start), TASK)


def sample(targets=4, batch=2):
    return frames().batch(np.arange(batch), targets)


@functools.cache
def table():
    """Returns a year of its own, one value for each hour, day, level and point."""
    rng = np.random.default_rng(0)
    shape = {"hour": 4, "dayofyear": 366, "level": 2, "lat": 4, "lon": 8}
    grid = frames().dataset

    def field(*left_out):
        dims = [dim for dim in shape if dim not in left_out]
        values = rng.standard_normal([shape[dim] for dim in dims])
        return dims, values.astype(np.float32)

    fields = {toys.PRESSURE: field("level"), "geopotential": field()}
    spreads = {f"{name}_std": values for name, values in fields.items()}
    return xarray.Dataset(
        {**fields, **spreads},
        coords={
            "hour": [0, 6, 12, 18],
            "dayofyear": np.arange(1, 367),
            "level": [500, 850],
            "lat": grid["lat"],
            "lon": grid["lon"],
        },
    )


def run(make, data, params=None, jit=True):
    """Returns what `make` predicts of the data."""
    apply = hk.without_apply_rng(hk.transform(lambda *d: make()(*d))).apply
    return (jax.jit(apply) if jit else apply)(params or {}, *data)


def same(found, expected, **tolerance):
    assert set(found) == set(expected)
    for name in found:
        wanted = expected[name].transpose(*found[name].dims)
        np.testing.assert_allclose(np.asarray(found[name]), wanted, **tolerance)


def persisted(inputs, targets):
    last = inputs.isel(time=-1, drop=True)[list(targets)]
    return last.expand_dims(time=targets["time"])


@pytest.mark.parametrize("jit", [True, False])
def test_persistence_repeats_the_last_frame(jit):
    inputs, targets, forcings = sample()
    found = run(references.Persistence, (inputs, targets, forcings), jit=jit)
    for name in NAMES:
        assert found[name].dims == targets[name].dims
        assert found[name].dtype == targets[name].dtype
    xarray.testing.assert_equal(found.coords.to_dataset(), targets.coords.to_dataset())
    same(found, persisted(inputs, targets), rtol=0)


def test_persistence_has_no_parameters():
    made = hk.transform(lambda *d: references.Persistence()(*d))
    assert made.init(None, *sample()) == {}


def test_persistence_stays_the_same_in_wrappers():
    inputs, targets, forcings = sample()
    expected = persisted(inputs, targets)

    def make(dtype=None):
        inner = references.Persistence(frames_per_step=2)
        inner = casting.Bfloat16Cast(inner, enabled=dtype is not None)
        statistics = toys.statistics()
        names = ("stddev_by_level", "mean_by_level", "diffs_stddev_by_level")
        inner = normalization.InputsAndResiduals(
            inner, **{n: statistics[n] for n in names}, residuals=False
        )
        return autoregressive.Predictor(inner)

    same(run(make, (inputs, targets, forcings)), expected, rtol=1e-6)
    assert not references.Persistence.predicts_changes
    narrow = run(functools.partial(make, "bfloat16"), (inputs, targets, forcings))
    same(narrow, expected, rtol=0.05)


def test_persistence_finds_levels_by_their_values():
    inputs, targets, forcings = sample()
    turned = inputs.isel(level=[1, 0])
    found = run(references.Persistence, (turned, targets, forcings))
    same(found, persisted(inputs, targets), rtol=0)
    upper = targets.sel(level=[500])
    found = run(references.Persistence, (inputs, upper, forcings))
    same(found, persisted(inputs.sel(level=[500]), upper), rtol=0)
    other = targets.assign_coords(level=[500, 700])
    with pytest.raises(ValueError, match=r"geopotential: the input lacks .*\[700\]"):
        run(references.Persistence, (inputs, other, forcings))


def test_what_has_no_past_needs_a_value():
    inputs, targets, forcings = sample()
    past = inputs.drop_vars(toys.PRESSURE)
    with pytest.raises(ValueError, match=r"mean_sea_level_pressure: persistence needs"):
        run(references.Persistence, (past, targets, forcings))
    make = functools.partial(references.Persistence, fill={toys.PRESSURE: 7.0})
    found = run(make, (past, targets, forcings))
    np.testing.assert_array_equal(found[toys.PRESSURE], 7)
    found, expected = found[["geopotential"]], persisted(inputs, targets)
    same(found, expected[["geopotential"]], rtol=0)


def test_a_step_has_a_frame():
    for make in (references.Persistence, functools.partial(make_table, table())):
        with pytest.raises(ValueError, match="frames_per_step must be at least 1"):
            make(frames_per_step=0)


def make_table(usual, **options):
    return references.Climatology(usual, **options)


def usual_at(usual, inputs, targets, start="2020-02-20"):
    """Returns the climatology at the times of targets, by dates."""
    begins = pd.Timestamp(start) + pd.Timedelta(hours=12) + targets["time"].to_index()
    later = [begins + pd.Timedelta(hours=6 * i) for i in range(inputs.sizes["batch"])]
    dates = xarray.DataArray(np.stack(later), dims=("batch", "time"))
    return data.climatology_at(usual, dates)[list(NAMES)]


@pytest.mark.parametrize("jit", [True, False])
def test_a_table_is_read_at_the_date(jit):
    """Through the end of February of a leap year, and hours that end a day."""
    inputs, targets, forcings = sample(targets=50, batch=3)
    model = references.Climatology(table())
    assert model.date_names == DATES
    params = model.parameters()
    found = run(lambda: model, (inputs, targets, forcings), params, jit=jit)
    same(found, usual_at(table(), inputs, targets), rtol=0)
    xarray.testing.assert_equal(found.coords.to_dataset(), targets.coords.to_dataset())


def test_one_program_serves_every_start():
    traced = []

    def forward(*data):
        traced.append(1)
        return references.Climatology(table())(*data)

    apply = jax.jit(hk.without_apply_rng(hk.transform(forward)).apply)
    params = references.Climatology(table()).parameters()
    for start in ("1959-12-30", "2020-02-20", "2023-12-29"):
        inputs, targets, forcings = frames(start).batch(np.arange(1), 12)
        found = apply(params, inputs, targets, forcings)
        same(found, usual_at(table(), inputs, targets, start), rtol=0)
    assert len(traced) == 1


def test_parameters_are_the_fields():
    made = hk.transform(lambda *d: references.Climatology(table())(*d))
    params = made.init(None, *sample())
    expected = references.Climatology(table()).parameters()
    assert list(params) == list(expected) == ["climatology"]
    jax.tree.map(np.testing.assert_array_equal, params, expected)
    assert expected["climatology"]["geopotential"].shape == (4, 366, 2, 4, 8)


def test_several_calls_share_parameters():
    params = references.Climatology(table()).parameters()
    data = sample()

    def twice():
        model = references.Climatology(table())
        return lambda *d: (model(*d), model(*d))

    first, second = run(twice, data, params)
    same(first, second, rtol=0)


def test_between_its_hours_a_table_is_interpolated():
    coarse = table().sel(hour=[0, 12])
    inputs, targets, forcings = sample(targets=50)
    model = references.Climatology(coarse)
    found = run(lambda: model, (inputs, targets, forcings), model.parameters())
    exact = usual_at(table(), inputs, targets)
    found = xarray.Dataset({n: (f.dims, np.asarray(f)) for n, f in found.items()})
    # Frames begin at 18 UTC, and every second one is at an hour of the table.
    for name in NAMES:
        known = exact[name].transpose("batch", "time", ..., "lat", "lon").values
        values = found[name].transpose(*exact[name].dims)
        values = values.transpose("batch", "time", ..., "lat", "lon").values
        np.testing.assert_array_equal(values[0, 1::2], known[0, 1::2])
        middle = (known[0, 1:-2:2] + known[0, 3::2]) / 2
        np.testing.assert_allclose(values[0, 2:-1:2], middle, atol=1e-6)


@pytest.mark.parametrize("hour", [0, 12])
def test_a_mean_of_days_serves_every_hour(hour):
    daily = table().sel(hour=[0]).assign_coords(hour=[hour])
    inputs, targets, forcings = sample(targets=20)
    model = references.Climatology(daily)
    found = run(lambda: model, (inputs, targets, forcings), model.parameters())
    every = xarray.concat([daily.assign_coords(hour=[h]) for h in (0, 6, 12, 18)],
                          "hour", data_vars="minimal", coords="minimal",
                          compat="override")  # fmt: skip
    same(found, usual_at(every, inputs, targets), rtol=0)


def test_rows_hours_and_dimensions_of_a_table_may_have_any_order():
    inputs, targets, forcings = sample()
    turned = table().isel(hour=[2, 0, 3, 1], level=[1, 0]).transpose("lon", "lat", ...)
    turned = turned.rename(dayofyear="day_of_year")
    model = references.Climatology(turned)
    found = run(lambda: model, (inputs, targets, forcings), model.parameters())
    same(found, usual_at(table(), inputs, targets), rtol=0)


def test_without_forcings_the_date_of_the_template_counts():
    inputs, targets, forcings = sample(batch=1)
    model = references.Climatology(table())
    bare = forcings.drop_vars(DATES)
    dates = np.datetime64("2020-02-20T12", "ns") + targets["time"].values
    dated = targets.assign_coords(datetime=(("batch", "time"), dates[None]))
    found = run(lambda: model, (inputs, dated, bare), model.parameters(), jit=False)
    same(found, usual_at(table(), inputs, targets), rtol=0)
    with pytest.raises(ValueError, match=r"forcings lack year_progress_sin, .*task"):
        run(lambda: model, (inputs, targets, bare), model.parameters())


@functools.cache
def fitted(years=1, days=1):
    whole = frames().period(training.Period())
    settings = harmonics.HarmonicsConfig(years=years, days=days)
    amplitudes = harmonics.fit_departures(whole, NAMES, settings)
    left = statistics.compute_statistics(harmonics.remove(whole, amplitudes))
    return amplitudes, left.mean


@pytest.mark.parametrize(("years", "days"), [(1, 1), (0, 1), (2, 0), (0, 0)])
def test_waves_are_the_mean_and_their_departure(years, days):
    amplitudes, mean = fitted(years, days)
    inputs, targets, forcings = sample(targets=8, batch=3)
    model = references.Climatology(amplitudes, mean)
    assert len(model.date_names) == 2 * (bool(years) + bool(days))
    found = run(lambda: model, (inputs, targets, forcings), model.parameters())
    for name in NAMES:
        departure = harmonics.departure(amplitudes, name, forcings)
        expected = departure + mean[name].drop_vars("level", errors="ignore")
        if "batch" not in expected.dims:
            expected = expected.expand_dims(batch=3, time=8)
        expected = expected.transpose(*found[name].dims)
        np.testing.assert_allclose(np.asarray(found[name]), expected, rtol=1e-6)


def test_the_mean_of_all_times_is_that_of_the_weather():
    amplitudes, mean = fitted()
    count = 60 - frames().inputs
    inputs, targets, forcings = frames().batch(np.arange(count), 1)
    model = references.Climatology(amplitudes, mean)
    found = run(lambda: model, (inputs, targets, forcings), model.parameters())
    error = np.asarray(found[toys.PRESSURE]) - targets[toys.PRESSURE]
    assert np.abs(error.mean(["batch", "time"])).max() < 120
    assert np.abs(error).mean() < 700


@pytest.mark.parametrize("frames_per_step", [1, 4])
@pytest.mark.parametrize("kind", ["persistence", "table", "waves"])
def test_rollouts_are_made(kind, frames_per_step):
    weather = toys.weather(start="2020-02-20").isel(time=slice(3))
    make, params = {
        "persistence": (references.Persistence, {}),
        "table": (functools.partial(make_table, table()),
                  references.Climatology(table()).parameters()),
        "waves": (functools.partial(references.Climatology, *fitted()),
                  references.Climatology(*fitted()).parameters()),
    }[kind]  # fmt: skip
    make = functools.partial(make, frames_per_step=frames_per_step)
    forecaster = rollout.Forecaster(make, params, task=TASK, num_steps_per_chunk=2)
    steps = 8 // frames_per_step
    found = forecaster.predict(weather, steps=steps, guard=None)
    assert found.sizes["time"] == 8
    inputs, targets, forcings = frames().batch(np.arange(1), 8)
    expected = run(make, (inputs, targets, forcings), params)
    same(found, expected, rtol=1e-6)
    wrapped = lambda: autoregressive.Predictor(make())  # noqa: E731
    same(run(wrapped, (inputs, targets, forcings), params), expected, rtol=1e-6)


def test_the_loss_is_that_of_models():
    inputs, targets, forcings = sample(targets=1)

    def loss(*data):
        model = references.Persistence()
        values, _ = model.loss(*data)
        (both, _), _ = model.loss_and_predictions(*data)
        return xarray_jax.unwrap_data(values), xarray_jax.unwrap_data(both)

    first, second = hk.without_apply_rng(hk.transform(loss)).apply(
        {}, inputs, targets, forcings
    )
    np.testing.assert_array_equal(first, second)
    assert first.shape == (2,)
    assert (np.asarray(first) > 0).all()
    perfect = inputs.isel(time=[-1])[list(NAMES)].assign_coords(time=targets["time"])
    zero, _ = hk.without_apply_rng(hk.transform(loss)).apply(
        {}, inputs, perfect, forcings
    )
    np.testing.assert_array_equal(zero, 0)


def test_what_is_no_climatology_is_refused():
    with pytest.raises(ValueError, match="hour and dayofyear, or else year_wave and"):
        references.Climatology(toys.weather())
    with pytest.raises(ValueError, match="days 1 to 366, this one has 59 from 1 to 59"):
        references.Climatology(table().isel(dayofyear=slice(59)))
    amplitudes, mean = fitted()
    with pytest.raises(
        ValueError, match=r"geopotential: the waves are .*mean_by_level"
    ):
        references.Climatology(amplitudes, mean[[toys.PRESSURE]])
    with pytest.raises(ValueError, match="which is not given"):
        references.Climatology(amplitudes)


def test_climatologies_that_do_not_fit_are_refused():
    data = sample()

    def predict(usual):
        model = references.Climatology(usual)
        run(lambda: model, data, model.parameters())

    with pytest.raises(ValueError, match="geopotential: not in the climatology, which"):
        predict(table().drop_vars("geopotential"))
    with pytest.raises(ValueError, match=r"lat: the climatology is on 4 values from"):
        predict(table().isel(lat=slice(None, None, -1)))
    with pytest.raises(ValueError, match=r"climatology lacks the levels \[850\] hPa"):
        predict(table().sel(level=[500]))
