import subprocess
import sys
import textwrap

import dask.array
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.rollout import models
from weatherlib import autoregressive, rollout, xarray_jax

KEY = jax.random.PRNGKey(3)


@pytest.fixture
def inputs():
    return models.initial()


def recording(calls):
    """A persistence forecast on NumPy arrays that keeps what it was called with."""

    def predict(rng, inputs, targets_template, forcings):
        calls.append((rng, inputs, targets_template, forcings))
        return models.Persistence()(inputs, targets_template, forcings) + len(calls)

    return predict


def by_hand(inputs, forcings, steps, weight=0.45):
    """Linear forecasts of heat and wind in plain NumPy, shape [batch, time, ...]."""
    sun = forcings["sun"].values
    results = {}
    for name in ("heat", "wind"):
        frames = [inputs[name].isel(time=i).values for i in range(inputs.sizes["time"])]
        for step in range(steps):
            shape = (-1,) + (1,) * (frames[-1].ndim - 1)
            following = sum(weight * f for f in frames[-inputs.sizes["time"] :])
            following = following + 0.01 * inputs["mask"].values
            frames.append(following + sun[:, step].reshape(shape))
        results[name] = np.stack(frames[inputs.sizes["time"] :], axis=1)
    return results


@given(frames=st.integers(1, 4), batch=st.integers(1, 2), chunks=st.integers(1, 3))
@settings(max_examples=6, deadline=None)
def test_rollouts_feed_predictions_and_forcings_back(frames, batch, chunks):
    inputs = models.initial(frames, batch)
    steps = 2 * chunks
    forcings = models.forcings(steps, inputs)
    predict = models.predictor_fn(
        autoregressive.Predictor(models.Linear()), models.params(frames)
    )
    expected = by_hand(inputs, forcings, steps)
    for per_chunk in (1, 2):
        found = rollout.chunked_prediction(
            predict,
            KEY,
            inputs,
            models.targets(steps, inputs),
            forcings,
            num_steps_per_chunk=per_chunk,
        )
        for name, values in expected.items():
            np.testing.assert_allclose(
                found[name].transpose("batch", "time", ...),
                values,
                rtol=2e-5,
                atol=1e-6,
            )


def test_results_are_on_the_host_with_times_and_dates_of_the_template(inputs):
    template = models.targets(3, inputs)
    found = rollout.chunked_prediction(
        models.predictor_fn(models.Linear(), models.params()),
        KEY,
        inputs,
        template,
        models.forcings(3, inputs),
    )
    assert isinstance(found["wind"].data, np.ndarray)
    xarray.testing.assert_equal(found.time, template.time)
    xarray.testing.assert_equal(found["datetime"], template["datetime"])


def test_every_chunk_sees_the_lead_times_of_the_first_and_no_dates(inputs):
    calls = []
    template = models.targets(4, inputs)
    forcings = models.forcings(4, inputs)
    rollout.chunked_prediction(
        recording(calls), KEY, inputs, template, forcings, num_steps_per_chunk=2
    )
    assert len(calls) == 2
    for _, seen_inputs, seen_template, seen_forcings in calls:
        assert "datetime" not in seen_inputs.coords
        assert "datetime" not in seen_template.coords
        np.testing.assert_array_equal(seen_inputs.time, inputs.time)
        np.testing.assert_array_equal(seen_template.time, template.time[:2])
        np.testing.assert_array_equal(seen_forcings.time, template.time[:2])
    np.testing.assert_array_equal(calls[1][3]["sun"], forcings["sun"][:, 2:])
    np.testing.assert_array_equal(calls[1][1]["sun"], forcings["sun"][:, :2])
    assert "datetime" in inputs.coords


def test_the_key_is_split_for_each_chunk_though_nothing_uses_it(inputs):
    calls = []
    rollout.chunked_prediction(
        recording(calls),
        KEY,
        inputs,
        models.targets(3, inputs),
        models.forcings(3, inputs),
    )
    rng = KEY
    for call in calls:
        rng, expected = jax.random.split(rng)
        np.testing.assert_array_equal(call[0], expected)


def test_plain_numpy_predictors_get_and_give_numpy(inputs):
    calls = []
    chunks = rollout.chunked_prediction_generator(
        recording(calls),
        KEY,
        inputs,
        models.targets(2, inputs),
        models.forcings(2, inputs),
    )
    for chunk in chunks:
        assert isinstance(chunk["wind"].data, np.ndarray)
    assert all(isinstance(call[1]["wind"].data, np.ndarray) for call in calls)


def test_jitted_predictors_are_traced_once(inputs):
    traces = []

    @jax.jit
    def predict(rng, inputs, targets_template, forcings):
        traces.append(None)
        return models.Persistence()(inputs, targets_template, forcings)

    for start in ("2020-01-01", "2021-07-01"):
        state = models.initial(start=np.datetime64(start, "ns"))
        rollout.chunked_prediction(
            predict, KEY, state, models.targets(4, state), models.forcings(4, state)
        )
    assert len(traces) == 1


def test_a_prediction_longer_than_the_inputs_leaves_its_newest_frames(inputs):
    calls = []
    rollout.chunked_prediction(
        recording(calls),
        KEY,
        inputs,
        models.targets(6, inputs),
        models.forcings(6, inputs),
        num_steps_per_chunk=3,
    )
    last = inputs["wind"].isel(time=[-1, -1]).values + 1
    np.testing.assert_array_equal(calls[1][1]["wind"], last)


def test_generators_hold_no_more_arrays_from_chunk_to_chunk(inputs):
    chunks = rollout.chunked_prediction_generator(
        models.predictor_fn(models.Linear(), models.params()),
        KEY,
        inputs,
        models.targets(12, inputs),
        models.forcings(12, inputs),
    )
    counts = []
    for chunk in chunks:
        del chunk
        counts.append(len(jax.live_arrays()))
    assert counts[-2] <= counts[2]


def test_a_chunk_is_handed_on_before_the_forcings_of_the_next_one_fail(inputs):
    def broken(block, block_info=None):
        if block_info[0]["array-location"][1][0] == 1:
            raise OSError("disk gone")
        return block

    forcings = models.forcings(2, inputs).chunk(time=1)
    forcings["sun"] = (
        ("batch", "time"),
        dask.array.map_blocks(broken, forcings["sun"].data, dtype=np.float32),
    )
    chunks = rollout.chunked_prediction_generator(
        recording([]), KEY, inputs, models.targets(2, inputs), forcings
    )
    assert next(chunks).sizes["time"] == 1
    with pytest.raises(OSError, match="disk gone"):
        next(chunks)


def test_no_forcings_are_needed_where_inputs_have_none(inputs):
    inputs = inputs.drop_vars("sun")
    found = rollout.chunked_prediction(
        recording([]), KEY, inputs, models.targets(2, inputs), None
    )
    np.testing.assert_allclose(
        found["wind"].isel(time=1), inputs["wind"].isel(time=-1) + 3, rtol=1e-6
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda i, t, f: (i, t, f, 2), "evenly divide the number of target steps 3"),
        (lambda i, t, f: (i, t, f, 0), "evenly divide"),
        (
            lambda i, t, f: (
                i,
                t.assign_coords(time=models.STEP * np.array([1, 2, 4])),
                f,
                1,
            ),
            "evenly spaced",
        ),
        (
            lambda i, t, f: (i, t, f.drop_vars("sun"), 1),
            "time index that is not predicted or forced: sun",
        ),
        (
            lambda i, t, f: (i, t, f.assign(wind=t["wind"]), 1),
            "both predicted and forced: wind",
        ),
        (lambda i, t, f: (i, t, f.isel(time=[0, 1]), 1), "2 times, fewer than the 3"),
        (
            lambda i, t, f: (i, t, f.assign_coords(lat=-i.lat), 1),
            "lat coordinate of the forcings differs",
        ),
    ],
)
def test_requests_that_cannot_work_say_why(inputs, change, message):
    inputs, template, forcings, per_chunk = change(
        inputs, models.targets(3, inputs), models.forcings(3, inputs)
    )
    with pytest.raises(ValueError, match=message):
        rollout.chunked_prediction(
            recording([]),
            KEY,
            inputs,
            template,
            forcings,
            num_steps_per_chunk=per_chunk,
        )


def test_verbose_logs_each_chunk(inputs, caplog):
    caplog.set_level("INFO")
    rollout.chunked_prediction(
        recording([]),
        KEY,
        inputs,
        models.targets(2, inputs),
        models.forcings(2, inputs),
        verbose=True,
    )
    assert "Chunk 1/2" in caplog.text


class TestMultipleRuns:
    def test_each_run_equals_one_with_its_own_key(self, inputs):
        predict = models.predictor_fn(models.Linear(noise=1.0), models.params())
        template, forcings = models.targets(2, inputs), models.forcings(2, inputs)
        rngs = np.stack([jax.random.fold_in(KEY, number) for number in range(3)])
        chunks = list(
            rollout.chunked_prediction_generator_multiple_runs(
                predict, rngs, inputs, template, forcings, 3, num_steps_per_chunk=1
            )
        )
        assert [int(chunk.coords["sample"]) for chunk in chunks] == [0, 0, 1, 1, 2, 2]
        for number in range(3):
            run = [
                jax.device_get(chunk) for chunk in chunks[2 * number : 2 * number + 2]
            ]
            expected = rollout.chunked_prediction(
                predict, rngs[number], inputs, template, forcings
            )
            found = xarray.concat(run, "time", coords="minimal", compat="override")
            np.testing.assert_array_equal(found["wind"], expected["wind"])

    def test_samples_of_inputs_and_forcings_go_to_their_runs(self, inputs):
        many = xarray.concat([inputs + number for number in (0.0, 10.0)], "sample")
        forcings = models.forcings(2, inputs)
        sampled = xarray.concat([forcings, forcings + 5.0], "sample")
        calls = []
        chunks = rollout.chunked_prediction_generator_multiple_runs(
            recording(calls), [KEY, KEY], many, models.targets(2, inputs), sampled, None
        )
        assert len(list(chunks)) == 4
        np.testing.assert_array_equal(calls[2][1]["wind"], inputs["wind"] + 10.0)
        np.testing.assert_array_equal(calls[2][3]["sun"], forcings["sun"][:, :1] + 5.0)
        assert all("sample" not in call[1].dims for call in calls)

    def test_too_few_keys_are_refused(self, inputs):
        chunks = rollout.chunked_prediction_generator_multiple_runs(
            recording([]), [KEY], inputs, models.targets(1, inputs), None, 2
        )
        with pytest.raises(ValueError, match="2 samples need as many keys"):
            next(chunks)

    def test_devices_must_divide_the_samples(self, inputs):
        chunks = rollout.chunked_prediction_generator_multiple_runs(
            recording([]),
            jax.random.split(KEY, 3),
            inputs,
            models.targets(1, inputs),
            None,
            3,
            pmap_devices=jax.local_devices()[:1] * 2,
        )
        with pytest.raises(ValueError, match="multiple of len"):
            next(chunks)

    def test_devices_need_the_name_of_their_axis(self, inputs):
        chunks = rollout.chunked_prediction_generator(
            recording([]),
            KEY,
            inputs,
            models.targets(1, inputs),
            None,
            pmap_devices=jax.local_devices(),
        )
        with pytest.raises(ValueError, match="replica_axis"):
            next(chunks)

    def test_two_devices_give_the_numbers_of_one(self):
        script = """
            import warnings
            warnings.simplefilter("error")
            import jax, numpy as np, xarray
            from tests.rollout import models
            from weatherlib import rollout, xarray_jax

            inputs = models.initial()
            predict = models.predictor_fn(models.Linear(noise=1.0), models.params())
            rngs = np.stack([jax.random.fold_in(jax.random.PRNGKey(0), i)
                             for i in range(4)])
            arguments = (rngs, inputs, models.targets(4, inputs),
                         models.forcings(4, inputs), 4)
            alone = list(rollout.chunked_prediction_generator_multiple_runs(
                predict, *arguments, num_steps_per_chunk=1))
            devices = jax.local_devices()
            assert len(devices) == 2
            together = list(rollout.chunked_prediction_generator_multiple_runs(
                xarray_jax.pmap(predict, dim="sample"), *arguments,
                num_steps_per_chunk=1, pmap_devices=devices))
            samples = [list(chunk.sample.values) for chunk in together]
            assert samples == [[0, 1]] * 4 + [[2, 3]] * 4
            for group in range(2):
                for step in range(4):
                    chunk = together[4 * group + step]
                    for member in range(2):
                        expected = alone[4 * (2 * group + member) + step]
                        np.testing.assert_array_equal(chunk.time, expected.time)
                        np.testing.assert_allclose(
                            chunk["heat"].isel(sample=member).values,
                            np.asarray(xarray_jax.unwrap_data(expected["heat"])),
                            rtol=1e-5)
            print("same numbers")
        """
        environment = {
            "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
            "PATH": "",
            "JAX_PLATFORMS": "cpu",
        }
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script)],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert "same numbers" in done.stdout, done.stderr


class TestExtendTargetsTemplate:
    def test_it_lengthens_times_and_dates_with_lazy_zeros(self, inputs):
        short = models.targets(2, inputs)
        long = rollout.extend_targets_template(short, 7)
        assert dict(long.sizes) == {**short.sizes, "time": 7}
        assert isinstance(long["heat"].data, dask.array.Array)
        assert long["heat"].dtype == short["heat"].dtype
        assert not long["heat"].values.any()
        expected = models.targets(7, inputs)
        xarray.testing.assert_equal(long.time, expected.time)
        xarray.testing.assert_equal(long["datetime"], expected["datetime"])

    def test_it_takes_dates_without_a_batch(self, inputs):
        short = models.targets(1, inputs)
        short = short.assign_coords(datetime=("time", short["datetime"].values[0]))
        long = rollout.extend_targets_template(short, 3)
        assert long["datetime"].dims == ("time",)
        assert long["datetime"].values[-1] == models.START + 3 * models.STEP

    def test_it_can_be_rolled_out(self, inputs):
        template = rollout.extend_targets_template(models.targets(1, inputs), 3)
        found = rollout.chunked_prediction(
            recording([]), KEY, inputs, template, models.forcings(3, inputs)
        )
        assert found.sizes["time"] == 3

    @pytest.mark.parametrize("multiples", [(1, 3), (2, 3), (0, 1)])
    def test_times_other_than_the_first_multiples_are_refused(self, inputs, multiples):
        template = models.targets(2, inputs).assign_coords(
            time=models.STEP * np.array(multiples)
        )
        with pytest.raises(ValueError, match="must be 1, 2, 3"):
            rollout.extend_targets_template(template, 4)

    def test_a_variable_without_time_is_refused(self, inputs):
        template = models.targets(1, inputs).assign(mask=inputs["mask"])
        with pytest.raises(ValueError, match="mask has no time"):
            rollout.extend_targets_template(template, 4)


def test_bfloat16_predictions_join_float32_inputs(inputs):
    seen = []

    def predict(rng, inputs, targets_template, forcings):
        seen.append({name: inputs[name].dtype for name in targets_template})
        result = models.Persistence()(inputs, targets_template, forcings)
        return xarray.Dataset(
            {
                name: xarray_jax.DataArray(
                    jnp.asarray(xarray_jax.unwrap_data(array), jnp.bfloat16),
                    dims=array.dims,
                )
                for name, array in result.items()
            },
            result.coords,
        )

    rollout.chunked_prediction(
        predict, KEY, inputs, models.targets(3, inputs), models.forcings(3, inputs)
    )
    assert [types["wind"] for types in seen] == [np.float32] * 3
