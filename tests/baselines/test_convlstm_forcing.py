"""How true frames take the place of predictions while a decoder is trained."""

import dataclasses
import functools

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from weatherlib.baselines import convlstm_config, convlstm_network
from weatherlib.baselines.fields import Fields
from weatherlib.nn.edges import ZERO

CONFIG = convlstm_config.ConvLSTMSeq2SeqConfig(
    hidden_channels=3, num_layers=1, input_length=2, output_length=4
)
FRAMES = jnp.asarray(np.random.default_rng(0).standard_normal((5, 2, 3, 4, 1)), "f4")
TRUTH = jnp.asarray(np.random.default_rng(1).standard_normal((5, 4, 3, 4, 1)), "f4")
KEY = jax.random.PRNGKey(3)


def network(config=CONFIG):
    def run(frames, is_training=True, **options):
        batch = frames.shape[0]
        fields = Fields(
            frames, jnp.zeros((batch, 4, 3, 4, 0)), jnp.zeros((batch, 3, 4, 0))
        )
        made = convlstm_network.ConvLSTMSeq2SeqNetwork(config)
        return made(fields, ZERO, 1, is_training, **options)

    return hk.transform(run)


@functools.cache
def params():
    found = network().init(KEY, FRAMES, False)
    rng = np.random.default_rng(2)
    return jax.tree.map(
        lambda p: p + 0.5 * rng.standard_normal(p.shape).astype(np.float32), found
    )


@functools.cache
def compiled(config=CONFIG, ratio=None):
    """Returns the network in training with a ratio that is traced, or fixed."""

    def run(params, key, truth, traced):
        given = traced if ratio is None else ratio
        return network(config).apply(
            params, key, FRAMES, targets=truth, teacher_forcing_ratio=given
        )

    return jax.jit(run)


def free():
    return jax.jit(lambda params: network().apply(params, None, FRAMES, False))(
        params()
    )


def test_it_is_off_by_default_and_at_inference():
    expected = free()
    apply = network().apply
    for options in (
        {},
        {"targets": TRUTH},
        {"targets": TRUTH, "teacher_forcing_ratio": 0.0},
        {"is_training": False, "targets": TRUTH, "teacher_forcing_ratio": 1.0},
    ):
        found = apply(params(), None, FRAMES, **options)
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_with_ratio_one_every_step_reads_the_true_frame_before_it():
    """So a change of one true frame shows in all later steps and in no earlier one."""
    apply = compiled(ratio=1.0)
    found = apply(params(), None, TRUTH, None)
    np.testing.assert_array_equal(
        found[:, 0], compiled()(params(), KEY, TRUTH, 0.0)[:, 0]
    )
    changed = apply(params(), None, TRUTH.at[:, 1].add(1.0), None)
    apart = np.abs(changed - found).max((0, 2, 3, 4))
    assert (apart[:2] == 0).all()
    assert (apart[2:] > 1e-4).all()
    # The last true frame has no step that reads it.
    last = apply(params(), None, TRUTH.at[:, 3].add(1.0), None)
    np.testing.assert_array_equal(last, found)


def test_what_a_step_reads_is_the_truth_and_no_prediction():
    """Predictions handed over as the truth change nothing; others do."""
    predictions = free()
    same = compiled(ratio=1.0)(params(), None, predictions, None)
    np.testing.assert_allclose(same, predictions, atol=1e-5)


@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_at_both_ends_a_traced_ratio_does_not_depend_on_the_key(ratio):
    found = [
        compiled()(params(), jax.random.PRNGKey(seed), TRUTH, jnp.float32(ratio))
        for seed in range(3)
    ]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])
    fixed = compiled(ratio=ratio)(params(), None, TRUTH, None)
    np.testing.assert_allclose(found[0], fixed, atol=1e-6)


def test_a_new_ratio_does_not_retrace():
    traces = []

    @jax.jit
    def run(ratio):
        traces.append(ratio)
        return network().apply(
            params(), KEY, FRAMES, targets=TRUTH, teacher_forcing_ratio=ratio
        )

    for ratio in (0.9, 0.5, 0.1):
        run(jnp.float32(ratio))
    assert len(traces) == 1


def test_the_true_frame_is_drawn_with_the_ratio_for_each_step_and_member():
    """The second step shows whether the first true frame was read."""
    truth, ratio, draws = TRUTH, 0.3, 300
    ends = [compiled(ratio=r)(params(), None, truth, None)[:, 1] for r in (0.0, 1.0)]
    keys = jax.random.split(jax.random.PRNGKey(7), draws)
    many = jax.jit(jax.vmap(lambda key: compiled()(params(), key, truth, ratio)[:, 1]))(
        keys
    )
    near = [np.abs(many - end).max((2, 3, 4)) < 1e-5 for end in ends]
    assert (near[0] ^ near[1]).all()  # one of the two, always
    forced = near[1]
    share = forced.mean()
    spread = np.sqrt(ratio * (1 - ratio) / forced.size)
    assert abs(share - ratio) < 5 * spread
    # Members of a batch draw on their own.
    assert forced.all(1).mean() < 0.1
    np.testing.assert_array_equal(
        compiled()(params(), keys[0], truth, ratio),
        compiled()(params(), keys[0], truth, ratio),
    )


def test_where_changes_are_predicted_changes_are_read():
    """The first is none: what the state does not hold of the last frame is not seen."""
    config = dataclasses.replace(CONFIG, predicts="change")

    def run(params, frames):
        return network(config).apply(params, None, frames, False)

    # Cells that are fed nothing but their input, so that the state holds nothing.
    cut = {name: dict(entries) for name, entries in params().items()}
    cut["convlstm_seq2seq/encoder_0"] = jax.tree.map(
        jnp.zeros_like, cut["convlstm_seq2seq/encoder_0"]
    )
    found = jax.jit(run)(cut, FRAMES)
    np.testing.assert_array_equal(found, jax.jit(run)(cut, FRAMES + 1))
    states = jax.jit(lambda p, x: network().apply(p, None, x, False))
    assert np.abs(states(cut, FRAMES) - states(cut, FRAMES + 1)).max() > 1e-3


def test_gradients_flow_through_predictions_that_are_read():
    def loss(truth, ratio):
        found = compiled(ratio=ratio)(params(), None, truth, None)
        return jnp.sum(found[:, 3])

    read = jax.grad(loss)(TRUTH, 1.0)
    assert np.abs(read[:, 2]).max() > 1e-4
    np.testing.assert_array_equal(read[:, 3], 0)
    np.testing.assert_array_equal(jax.grad(loss)(TRUTH, 0.0), 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"teacher_forcing_ratio": 0.5}, "needs targets, found none"),
        ({"targets": TRUTH, "teacher_forcing_ratio": 1.5}, r"in \[0, 1\], found 1\.5"),
        ({"targets": TRUTH, "teacher_forcing_ratio": -0.5}, r"in \[0, 1\]"),
        (
            {"targets": TRUTH[:, :3], "teacher_forcing_ratio": 0.5},
            r"targets have the shape \(5, 3, 3, 4, 1\), the predictions \(5, 4",
        ),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        network().apply(params(), KEY, FRAMES, **options)
