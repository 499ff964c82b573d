import dataclasses

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training import toys
from weatherlib import climax, config, training, xarray_jax
from weatherlib.training import lead_config, wrapping
from weatherlib.training.config import WrapperConfig

HOUR = np.timedelta64(1, "h")
TASK = dataclasses.replace(toys.TASK, input_duration="6h")
SIZES = climax.ClimaXConfig(
    default_vars=(
        toys.PRESSURE, "geopotential_500", "geopotential_850", "day_progress_sin"
    ),
    img_size=(4, 8), embed_dim=8, num_heads=2, depth=1, drop_path=0.0, drop_rate=0.0,
)  # fmt: skip


@pytest.fixture
def frames():
    return training.Frames(toys.weather(), TASK)


@pytest.mark.parametrize("in_memory", [True, False])
def test_each_sample_reaches_ahead_by_a_lead_of_its_own(in_memory):
    weather = toys.weather()
    frames = training.Frames(weather, toys.TASK, in_memory=in_memory)
    inputs, targets, forcings = frames.batch_at(np.array([3, 10]), np.array([5, 1]))
    pressure = weather[toys.PRESSURE].values[0]
    np.testing.assert_array_equal(inputs[toys.PRESSURE][0], pressure[3:5])
    np.testing.assert_array_equal(targets[toys.PRESSURE][0], pressure[[9]])
    np.testing.assert_array_equal(targets[toys.PRESSURE][1], pressure[[12]])
    np.testing.assert_array_equal(forcings["lead_time"], [[30], [6]])
    assert forcings["lead_time"].dtype == np.float32
    whole = frames.batch(np.array([3]), 5)[2]["day_progress_sin"]
    np.testing.assert_array_equal(
        forcings["day_progress_sin"][0, 0], whole[0, -1]
    )  # of the target time
    assert "time" not in targets.coords and "time" not in forcings.coords


def test_leads_count_in_the_steps_of_samples():
    task = dataclasses.replace(TASK, input_duration="12h")
    frames = training.Frames(toys.weather(), task, time_step="12h")
    _, targets, forcings = frames.batch_at(np.array([1]), np.array([3]))
    pressure = toys.weather()[toys.PRESSURE].values[0]
    np.testing.assert_array_equal(targets[toys.PRESSURE][0], pressure[[7]])
    assert forcings["lead_time"].item() == 36


def test_a_pass_holds_every_pair_of_start_and_lead_once(frames):
    period = training.Period(end="2020-01-05")
    samples = training.LeadSamples(frames, (1, 4, 7), period)
    assert samples.starts == 15
    feed = training.Feed(samples, samples.numbers, batch_size=3, seed=0)
    pairs = []
    pressure = toys.weather()[toys.PRESSURE].values[0, :, 0, 0]
    for i in range(len(samples.numbers) // 3):
        inputs, targets, forcings = feed[i][0]
        for member in range(3):
            first = inputs[toys.PRESSURE].values[member, 0, 0, 0]
            start = int(np.flatnonzero(pressure == first)[0])
            lead = int(forcings["lead_time"].values[member, 0] / 6)
            assert (
                targets[toys.PRESSURE].values[member, 0, 0, 0]
                == (pressure[start + lead])
            )
            assert start + lead < 16  # inside of the period
            pairs.append((start, lead))
    expected = [(start, lead) for lead in (1, 4, 7) for start in range(16 - lead)]
    assert sorted(pairs) == sorted(expected)
    leads = [lead for _, lead in pairs]
    assert leads != sorted(leads)


def test_a_continued_feed_draws_the_same_lead_times(frames):
    samples = training.LeadSamples(frames, range(1, 28))

    def drawn(state=None, count=8):
        feed = training.Feed(samples, samples.numbers, batch_size=4, seed=3)
        iterator = feed.iterate(state)
        found = [next(iterator)[0][2]["lead_time"].values for _ in range(count)]
        position = iterator.state
        iterator.close()
        return np.stack(found), position

    whole, _ = drawn()
    _, position = drawn(count=5)
    rest, _ = drawn(position, 3)
    np.testing.assert_array_equal(whole[5:], rest)
    assert len(np.unique(whole)) > 10


@given(
    step=st.sampled_from([1, 3, 6, 12]),
    shortest=st.integers(1, 200),
    length=st.integers(0, 200),
)
def test_a_range_holds_all_multiples_of_the_step_between_its_ends(
    step, shortest, length
):
    longest = shortest + length
    lead = training.LeadRange(shortest=f"{shortest}h", longest=f"{longest}h")
    expected = [n for n in range(1, 500) if shortest <= n * step <= longest]
    if expected:
        found = lead_config.lead_steps(lead, step * HOUR, label="x")
        assert list(found) == expected
    else:
        with pytest.raises(ValueError, match="no multiple of the step"):
            lead_config.lead_steps(lead, step * HOUR, label="x")


def test_the_published_range_is_the_default_and_has_27_leads():
    steps = lead_config.lead_steps(training.LeadRange(), 6 * HOUR, label="x")
    assert steps == tuple(range(1, 28))


def test_leads_are_one_or_several_lengths_of_time():
    assert lead_config.lead_steps("3d", 6 * HOUR, label="x") == (12,)
    assert lead_config.lead_steps(("6h", "1d"), 6 * HOUR, label="x") == (1, 4)
    with pytest.raises(ValueError, match=r"data.nc: 9h is no multiple .* 6 h"):
        lead_config.lead_steps(("9h", "12h"), 6 * HOUR, label="data.nc")


@pytest.mark.parametrize(
    ("lead", "message"),
    [
        ("soon", "length of time such as '72h', found 'soon'"),
        ("-6h", "length of time"),
        ([], "lead is empty"),
        (["24h", "1d"], "repeats a lead time"),
        ({"shortest": "24h", "longest": "6h"}, "expected"),
        (6, "stages.0..lead"),
    ],
)
def test_wrong_leads_are_refused(lead, message):
    stage = {"steps": 1, "lead": lead, "schedule": {}}
    values = {
        "output": "x", "data": {"path": "x", "task": "TASK"}, "model": {},
        "stages": [stage],
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        config.from_dict(training.TrainConfig, values)


def test_a_lead_does_not_go_with_a_rollout():
    with pytest.raises(ValueError, match=r"set data.time_step in place of lead"):
        training.StageConfig(steps=1, lead="24h", rollout=2)


def _objective(is_training=False):
    def make():
        return wrapping.wrap(
            climax.make_predictor(SIZES, TASK),
            toys.statistics(),
            WrapperConfig(),
            loss=training.LossConfig(),
            is_training=is_training,
        )

    return training.Objective(make)


@pytest.fixture(scope="module")
def judged():
    """What a validator of two lead times says of noisy weights, and the weights."""
    frames = training.Frames(toys.weather(), TASK)
    objective = _objective()
    params, state = objective.init(
        jax.random.PRNGKey(0), frames.batch_at(np.array([0]), np.array([1]))
    )
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda x: x + 0.1 * rng.standard_normal(x.shape).astype(x.dtype), params
    )
    settings = training.ValidationConfig(samples=4, batch_size=2, levels=(500,))
    validator = training.LeadValidator(objective, frames, (1, 5), settings)
    return frames, objective, params, state, validator, validator(params, state)


def test_validation_judges_each_lead_in_one_step(judged):
    frames, objective, params, state, validator, record = judged
    assert validator.count == 4
    assert set(record["losses"]) == {"6h", "30h"}
    assert record["loss"] == pytest.approx(np.mean(list(record["losses"].values())))
    starts = frames.starts(targets=5)
    starts = starts[np.linspace(0, len(starts) - 1, 4).round().astype(int)]
    batch = frames.batch_at(starts, np.full(4, 5))
    key = jax.random.PRNGKey(9)
    loss = float(jax.jit(objective.loss)(params, state, key, batch)[0])
    found = jax.device_get(
        jax.jit(objective.forecast)(params, state, key, batch)[toys.PRESSURE]
    )
    assert record["losses"]["30h"] == pytest.approx(loss, rel=1e-4)
    inputs, targets, _ = batch
    weights = np.cos(np.deg2rad(targets["lat"].astype(float)))
    weights = weights / weights.mean()

    def rmse(guess):
        error = (guess - targets[toys.PRESSURE]).astype(float)
        return float(np.sqrt((error**2 * weights).mean()))

    expected = rmse(found)
    persistence = rmse(inputs[toys.PRESSURE].isel(time=-1, drop=True))
    assert record["rmse"][toys.PRESSURE]["30h"] == pytest.approx(expected, rel=2e-2)
    assert record["persistence"][toys.PRESSURE]["30h"] == pytest.approx(
        persistence, rel=2e-2
    )
    assert set(record["rmse"]) == {toys.PRESSURE, "geopotential@500"}


def test_each_lead_of_a_batch_reaches_the_network(judged):
    frames, objective, params, state, _, _ = judged
    key = jax.random.PRNGKey(0)
    forecast = jax.jit(objective.forecast)
    both, late, early = (
        forecast(params, state, key, frames.batch_at(np.array([2, 2]), leads))
        for leads in (np.array([20, 2]), np.array([20, 20]), np.array([2, 2]))
    )
    values = [
        xarray_jax.unwrap_data(found[toys.PRESSURE]) for found in (both, late, early)
    ]
    axis = both[toys.PRESSURE].get_axis_num("batch")
    both, late, early = (np.moveaxis(np.asarray(v), axis, 0) for v in values)
    np.testing.assert_allclose(both[0], late[0], rtol=1e-5)
    np.testing.assert_allclose(both[1], early[1], rtol=1e-5)
    assert np.abs(late[0] - early[0]).max() > 1


def test_all_leads_share_one_compilation(judged):
    frames, objective, params, state, _, _ = judged
    traces = []

    def loss(*args):
        traces.append(1)
        return objective.loss(*args)[0]

    compiled = jax.jit(loss)
    for lead in (1, 7, 20):
        batch = frames.batch_at(np.array([0, 1]), np.array([lead, lead]))
        compiled(params, state, jax.random.PRNGKey(0), batch)
    assert len(traces) == 1


def test_the_lead_time_stays_in_hours_and_draws_no_warning(frames, caplog):
    objective = _objective()
    objective.shapes(frames.batch_at(np.array([0]), np.array([1])))
    assert "lead_time" not in caplog.text
