"""How likely true frames are read reaches the loss, and changes without a new trace."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.training import toys
from weatherlib import config, training
from weatherlib.baselines import convlstm_config, convlstm_network, grid_predictor
from weatherlib.training import mixing, records, schedules, wrapping
from weatherlib.training.step import Update, first_state

KEY = jax.random.PRNGKey(0)
KINDS = ["linear", "exponential", "inverse_sigmoid"]


def ratios(stage, length=None, **settings):
    ratio = schedules.make_forcing(training.TeacherForcing(**settings), stage)
    return np.array([float(ratio(i)) for i in range(length or stage)])


@pytest.mark.parametrize("kind", KINDS)
def test_the_ratio_falls_from_start_to_end_and_stays(kind):
    found = ratios(100, 150, kind=kind, start=0.9, end=0.2)
    assert (np.diff(found[:100]) < 0).all()
    assert found[0] == pytest.approx(0.9, abs=0.05)
    assert found[99] == pytest.approx(0.2, abs=0.05)
    np.testing.assert_allclose(found[99:], found[99])
    assert (found >= 0.2).all() and (found <= 0.9).all()


def test_each_kind_has_the_shape_of_its_source():
    count = np.arange(101)
    np.testing.assert_allclose(ratios(101), 1 - count / 100, atol=1e-6)
    np.testing.assert_allclose(
        ratios(101, kind="exponential"), 0.01 ** (count / 100), rtol=1e-4
    )
    found = ratios(101, kind="inverse_sigmoid")
    assert found[50] == pytest.approx(0.5, abs=1e-4)
    k = found[0] / (1 - found[0])
    np.testing.assert_allclose(found, k / (k + np.exp(count / k)), atol=1e-4)


def test_the_fall_may_end_before_the_stage_and_rise_as_well():
    found = ratios(100, updates=11)
    np.testing.assert_allclose(found[:11], np.linspace(1, 0, 11), atol=1e-6)
    assert (found[11:] == 0).all()
    np.testing.assert_allclose(ratios(5, start=0.0, end=1.0), [0, 0.25, 0.5, 0.75, 1])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("updates", [1, 2])
def test_the_shortest_stages_have_probabilities(kind, updates):
    found = ratios(updates, kind=kind)
    assert np.isfinite(found).all()
    assert (found >= 0).all() and (found <= 1).all()


def test_settings_are_read_and_checked():
    stage = config.from_dict(
        training.StageConfig,
        {"steps": 5, "teacher_forcing": {"start": 1.0, "end": 0.0, "kind": "linear"}},
    )
    assert stage.teacher_forcing == training.TeacherForcing()
    assert training.StageConfig(steps=5).teacher_forcing is None
    for changes, message in (
        ({"start": 1.1}, r"start must be in \[0, 1\], found 1\.1"),
        ({"end": -0.1}, r"end must be in \[0, 1\]"),
        ({"updates": 0}, "updates must be positive"),
        ({"kind": "cubic"}, "kind"),
        ({"stat": 1.0}, "did you mean 'start'"),
    ):
        with pytest.raises(ValueError, match=message):
            config.from_dict(training.TeacherForcing, changes)


class Told:
    """An objective whose gradient is how likely the truth is read."""

    frames_per_step = 1

    def init(self, key, batch):
        del key, batch
        return {"net": {"w": jnp.zeros(())}}, {}

    def loss(self, params, state, key, batch, teacher_forcing_ratio=0.0):
        del key, batch
        return params["net"]["w"] * teacher_forcing_ratio, ({}, state)


class Nothing:
    """Batches that hold nothing."""

    waited = 0.0

    def iterate(self, state=None):
        self.state = dict(state or {})
        return self

    def __next__(self):
        return (np.zeros(1, np.float32),)

    def close(self):
        pass


def test_an_update_is_told_the_ratio_without_a_new_trace():
    update = Update(
        Told().loss,
        optax.sgd(1.0),
        options=lambda step: {"teacher_forcing_ratio": 1 - step / 4},
    )
    state = first_state(Told().init(KEY, None)[0], {}, optax.sgd(1.0), KEY)
    weights = []
    for _ in range(4):
        state, _ = update(state, (np.zeros(1, np.float32),))
        weights.append(float(state.params["net"]["w"]))
    np.testing.assert_allclose(-np.diff([0, *weights]), [1, 0.75, 0.5, 0.25])
    assert update.traces == 1
    # All parts of a batch are told the same.
    state, _ = update(state, (np.zeros(1, np.float32),) * 2)
    np.testing.assert_allclose(state.params["net"]["w"], weights[-1])


def stage(steps, begin, **settings):
    ratio = schedules.make_forcing(training.TeacherForcing(**settings), steps)
    return training.Stage(
        steps=steps,
        batches=Nothing(),
        optimizer=optax.sgd(1.0),
        options=lambda count: {"teacher_forcing_ratio": ratio(count - begin)},
    )


def test_stages_have_ratios_of_their_own_which_are_recorded_and_resumed(tmp_path):
    def trainer(folder, *, broken=False):
        stages = [stage(4, 0), stage(2, 4, start=0.5, end=0.25)]
        plain = training.Stage(steps=1, batches=Nothing(), optimizer=optax.sgd(1.0))
        stages = stages[:1] if broken else [*stages, plain]
        settings = training.LoopConfig(log_every=1, checkpoint_every=4, ema=0.0)
        return training.Trainer(Told(), stages, settings, folder=folder)

    expected = [1, 2 / 3, 1 / 3, 0, 0.5, 0.25]
    result = trainer(tmp_path / "whole").run()
    weight = float(result.state.params["net"]["w"])
    assert weight == pytest.approx(-sum(expected), abs=1e-5)
    found = records.read_records(tmp_path / "whole")
    told = [r["options"]["teacher_forcing_ratio"] for r in found if "options" in r]
    np.testing.assert_allclose(told, expected, atol=1e-6)
    assert "options" not in found[-1]
    trainer(tmp_path / "parts", broken=True).run()
    again = trainer(tmp_path / "parts").run(resume=True)
    assert float(again.state.params["net"]["w"]) == weight


def test_sources_and_adapters_hand_the_ratio_on():
    params, state = Told().init(KEY, None)
    params["net"]["w"] = jnp.ones(())
    mixed = training.MixedObjective([Told()])
    batch = (np.zeros(1, np.float32), mixing.Mark(0))
    found, _ = mixed.loss(params, state, KEY, batch, teacher_forcing_ratio=0.25)
    assert found == 0.25
    settings = training.AdapterConfig(patterns=("net/v",), rank=1)
    adapted = training.Adapted(mixed, settings)
    found, _ = adapted.loss(params, state, KEY, batch, teacher_forcing_ratio=0.25)
    assert found == 0.25


CONFIG = convlstm_config.ConvLSTMSeq2SeqConfig(
    hidden_channels=3, num_layers=1, input_length=2, output_length=2
)


@functools.cache
def objective(loss=None, precision="float32", is_training=True):
    def make():
        network = convlstm_network.ConvLSTMSeq2SeqNetwork(CONFIG)
        return wrapping.wrap(
            grid_predictor.GridPredictor(CONFIG, network, toys.TASK),
            toys.statistics(),
            training.config.WrapperConfig(),
            loss=training.LossConfig(kind=loss),
            precision=precision,
            is_training=is_training,
        )

    made = training.Objective(make)
    return made, jax.jit(made.loss)


@functools.cache
def sample(targets=2):
    frames = training.Frames(toys.weather(), toys.TASK)
    return frames.batch(np.arange(2), targets)


@functools.cache
def weights():
    params, state = objective()[0].init(KEY, sample())
    rng = np.random.default_rng(1)
    return jax.tree.map(
        lambda p: p + 0.5 * rng.standard_normal(p.shape).astype(np.float32), params
    ), state


@pytest.mark.parametrize("targets", [2, 4], ids=["one step", "rollout"])
@pytest.mark.parametrize("loss", [None, "mae"])
def test_the_ratio_reaches_the_network_through_wrappers(loss, targets):
    _, compute = objective(loss)
    values = {
        ratio: float(
            compute(*weights(), KEY, sample(targets), teacher_forcing_ratio=ratio)[0]
        )
        for ratio in (0.0, 1.0)
    }
    plain = float(compute(*weights(), KEY, sample(targets))[0])
    assert values[0.0] == pytest.approx(plain, rel=1e-5)
    assert abs(values[1.0] - plain) > 1e-3 * plain


def test_in_validation_nothing_is_told():
    _, compute = objective(is_training=False)
    still = float(compute(*weights(), KEY, sample())[0])
    assert still == pytest.approx(
        float(objective()[1](*weights(), KEY, sample())[0]), rel=1e-5
    )


def test_the_ratio_passes_the_cast():
    _, compute = objective(precision="bfloat16")
    ratio = jnp.float32(0.5)
    value, _ = compute(*weights(), KEY, sample(), teacher_forcing_ratio=ratio)
    exact, _ = objective()[1](*weights(), KEY, sample(), teacher_forcing_ratio=ratio)
    assert float(value) == pytest.approx(float(exact), rel=0.05)


def test_forecasts_know_nothing_of_it():
    made, _ = objective()
    found = made.forecast(*weights(), KEY, sample())
    inputs, targets, forcings = sample()
    blank = inputs, targets * np.nan, forcings
    again = made.forecast(*weights(), KEY, blank)
    assert set(found) == set(targets)
    for name in found:
        np.testing.assert_array_equal(np.asarray(found[name]), np.asarray(again[name]))
