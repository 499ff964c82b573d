import dataclasses
import functools

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from weatherlib.baselines import convlstm_config, convlstm_network
from weatherlib.baselines.fields import Fields
from weatherlib.nn.edges import ZERO, Edges

GLOBE = Edges(columns="around", over_first_row="pole", over_last_row="pole")

ONE = convlstm_config.ConvLSTMConfig(
    hidden_channels=(4, 6), input_length=3, output_length=2
)
TWO = convlstm_config.ConvLSTMSeq2SeqConfig(
    hidden_channels=(4, 6), input_length=3, output_length=2
)
NETWORKS = {
    convlstm_config.ConvLSTMConfig: convlstm_network.ConvLSTMNetwork,
    convlstm_config.ConvLSTMSeq2SeqConfig: convlstm_network.ConvLSTMSeq2SeqNetwork,
}
BOTH = pytest.mark.parametrize("config", [ONE, TWO], ids=["one", "seq2seq"])


def draw(*shape, seed=0):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.standard_normal(shape), jnp.float32)


def given(rows=4, columns=6, *, batch=2, frames=3, steps=2, known=2, static=1):
    """Returns frames of which two channels are predicted, and what else is known."""
    return (
        draw(batch, frames, rows, columns, 3),
        draw(batch, steps, rows, columns, known, seed=1),
        draw(batch, rows, columns, static, seed=2),
    )


@functools.cache
def make(config, edges=ZERO, outputs=2, *, remat=False, **options):
    """Returns a network as a compiled function of parameters, key and arrays."""

    def run(frames, known, static):
        network = NETWORKS[type(config)](config, remat=remat)
        return network(Fields(frames, known, static), edges, outputs, **options)

    transformed = hk.transform(run)
    return hk.Transformed(jax.jit(transformed.init), jax.jit(transformed.apply))


@functools.cache
def parameters(config, rows=4, columns=6):
    """Returns what the network for `given(rows, columns)` has, none of it zero."""
    found = jax.eval_shape(
        make(config).init, jax.random.PRNGKey(0), *given(rows, columns)
    )
    rng = np.random.default_rng(9)

    def drawn(leaf):
        fan_in = np.prod(leaf.shape[:-1]) if len(leaf.shape) > 1 else 9
        values = rng.standard_normal(leaf.shape) / np.sqrt(fan_in)
        return jnp.asarray(values, leaf.dtype)

    return jax.tree.map(drawn, found)


def shapes(config, data, outputs):
    params = jax.eval_shape(
        make(config, outputs=outputs).init, jax.random.PRNGKey(0), *data
    )
    return {
        f"{module}/{name}": value.shape
        for module, entries in params.items()
        for name, value in entries.items()
    }


def count(found):
    return sum(int(np.prod(shape)) for shape in found.values())


def published(channels=1):
    """Returns the input of the published form: 12 frames and nothing else."""
    zeros = jnp.zeros
    return (
        zeros((1, 12, 32, 64, channels)),
        zeros((1, 4, 32, 64, 0)),
        zeros((1, 32, 64, 0)),
    )


def test_the_published_network_has_these_parameters():
    found = shapes(convlstm_config.ConvLSTMConfig(), published(), 1)
    assert found == {
        "convlstm/layer_0/w": (3, 3, 65, 256),
        "convlstm/layer_0/b": (256,),
        "convlstm/layer_1/w": (3, 3, 128, 256),
        "convlstm/layer_1/b": (256,),
        "convlstm/head/w": (3, 3, 64, 32),
        "convlstm/head/b": (32,),
        "convlstm/output/w": (32, 4),
        "convlstm/output/b": (4,),
    }
    assert count(found) == 463_780


def test_the_published_network_with_a_decoder_has_these_parameters():
    found = shapes(convlstm_config.ConvLSTMSeq2SeqConfig(), published(), 1)
    assert found == {
        "convlstm_seq2seq/encoder_0/w": (3, 3, 65, 256),
        "convlstm_seq2seq/encoder_0/b": (256,),
        "convlstm_seq2seq/encoder_1/w": (3, 3, 128, 256),
        "convlstm_seq2seq/encoder_1/b": (256,),
        "convlstm_seq2seq/decoder/w": (3, 3, 65, 256),
        "convlstm_seq2seq/decoder/b": (256,),
        "convlstm_seq2seq/output/w": (64, 1),
        "convlstm_seq2seq/output/b": (1,),
    }
    assert count(found) == 595_265


def test_further_fields_and_patches_have_these_parameters():
    config = dataclasses.replace(ONE, patch_size=(2, 3), kernel_size=5)
    assert shapes(config, given(), 2) == {
        "convlstm/embed/w": (6 * 4, 4),
        "convlstm/embed/b": (4,),
        "convlstm/layer_0/w": (5, 5, 8, 16),
        "convlstm/layer_0/b": (16,),
        "convlstm/layer_1/w": (5, 5, 10, 24),
        "convlstm/layer_1/b": (24,),
        "convlstm/known_embed/w": (6 * 4, 6),
        "convlstm/known_embed/b": (6,),
        "convlstm/head/w": (3, 3, 12, 3),
        "convlstm/head/b": (3,),
        "convlstm/output/w": (3, 6 * 4),
        "convlstm/output/b": (6 * 4,),
    }
    config = dataclasses.replace(TWO, patch_size=(2, 3), normalization="layer")
    assert shapes(config, given(), 2) == {
        "convlstm_seq2seq/embed/w": (6 * 4, 4),
        "convlstm_seq2seq/embed/b": (4,),
        "convlstm_seq2seq/encoder_0/w": (3, 3, 8, 16),
        "convlstm_seq2seq/encoder_0/scale": (16,),
        "convlstm_seq2seq/encoder_0/offset": (16,),
        "convlstm_seq2seq/encoder_1/w": (3, 3, 10, 24),
        "convlstm_seq2seq/encoder_1/scale": (24,),
        "convlstm_seq2seq/encoder_1/offset": (24,),
        "convlstm_seq2seq/decoder_embed/w": (6 * 5, 4),
        "convlstm_seq2seq/decoder_embed/b": (4,),
        "convlstm_seq2seq/decoder/w": (3, 3, 10, 24),
        "convlstm_seq2seq/decoder/scale": (24,),
        "convlstm_seq2seq/decoder/offset": (24,),
        "convlstm_seq2seq/output/w": (6, 6 * 2),
        "convlstm_seq2seq/output/b": (6 * 2,),
    }


VARIANTS = pytest.mark.parametrize(
    ("config", "changes"),
    [
        (ONE, {"patch_size": 2, "normalization": "layer", "peepholes": "channel"}),
        (ONE, {"dilations": (1, 2), "peepholes": "point"}),
        (TWO, {}),
        (TWO, {"patch_size": 2, "normalization": "layer", "peepholes": "channel"}),
    ],
    ids=["patches", "points", "plain-seq2seq", "patches-seq2seq"],
)


@VARIANTS
def test_all_gradients_are_finite_and_bfloat16_is_close(
    config, changes, strict_numerics
):
    config = dataclasses.replace(config, **changes)
    data, params = given(5, 7), parameters(config, 5, 7)
    transformed = make(config)

    def loss(params, *data):
        found = transformed.apply(params, None, *data)
        return jnp.sum(jnp.square(found)), found

    compiled = jax.jit(jax.grad(loss, has_aux=True))
    gradients, found = compiled(params, *data)
    assert found.shape == (2, 2, 5, 7, 2)
    for path, leaf in jax.tree.leaves_with_path(gradients):
        assert np.isfinite(leaf).all(), path
        assert np.abs(leaf).max() > 0, path
    half = jax.tree.map(lambda a: a.astype(jnp.bfloat16), (params, *data))
    rounded = transformed.apply(half[0], None, *half[1:])
    assert rounded.dtype == jnp.bfloat16
    apart = np.abs(rounded.astype(jnp.float32) - found)
    assert apart.max() < 0.15 * np.std(found)


@BOTH
def test_members_of_a_batch_do_not_mix(config):
    data, params, apply = given(), parameters(config), make(config).apply
    found = apply(params, None, *data)
    other = [x.at[1].set(0.5) for x in data]
    changed = apply(params, None, *other)
    np.testing.assert_array_equal(found[0], changed[0])
    assert np.abs(found[1] - changed[1]).max() > 1e-2
    alone = jax.vmap(lambda *one: apply(params, None, *(x[None] for x in one))[0])
    np.testing.assert_allclose(found, alone(*data), atol=1e-5)


@BOTH
@pytest.mark.parametrize("patch", [1, 2])
def test_on_a_globe_a_turned_world_gives_turned_weather(config, patch):
    config = dataclasses.replace(config, patch_size=patch)
    data, params, apply = given(4, 8), parameters(config, 4, 8), make(config, GLOBE)[1]
    found = apply(params, None, *data)
    turned = apply(params, None, *(jnp.roll(x, 4, axis=-2) for x in data))
    np.testing.assert_allclose(jnp.roll(found, 4, axis=-2), turned, atol=1e-5)
    with_zeros = make(config).apply(params, None, *data)
    assert np.abs(with_zeros - found).max() > 1e-2


@BOTH
def test_everything_that_is_given_is_seen(config):
    data, params, apply = given(), parameters(config), make(config).apply
    found = apply(params, None, *data)
    for number in range(3):
        changed = list(data)
        changed[number] = data[number].at[..., -1].add(1.0)
        assert np.abs(apply(params, None, *changed) - found).max() > 1e-3, number


def test_a_decoder_knows_nothing_of_later_times():
    params, apply = parameters(TWO), make(TWO).apply
    frames, known, static = given()
    found = apply(params, None, frames, known, static)
    changed = apply(params, None, frames, known.at[:, 1].add(1.0), static)
    np.testing.assert_array_equal(found[:, 0], changed[:, 0])
    assert np.abs(found[:, 1] - changed[:, 1]).max() > 1e-3


def test_a_grid_that_patches_do_not_fill_is_continued_and_cut():
    config = dataclasses.replace(ONE, patch_size=(2, 4))
    params, apply = parameters(config), make(config).apply
    data = given(3, 6)

    def larger(x):
        beyond = [(0, 0)] * (x.ndim - 3) + [(0, 1), (0, 2), (0, 0)]
        return jnp.pad(x, beyond, mode="edge")

    found = apply(params, None, *data)
    whole = apply(params, None, *(larger(x) for x in data))
    assert whole.shape == (2, 2, 4, 8, 2)
    np.testing.assert_allclose(found, whole[:, :, :3, :6], atol=1e-5)


@BOTH
def test_computing_again_changes_nothing(config):
    results = []
    for remat in (False, True):
        apply = make(config, remat=remat).apply

        def loss(params, *data, apply=apply):
            return jnp.sum(jnp.sin(apply(params, None, *data)))

        results.append(jax.jit(jax.grad(loss))(parameters(config), *given()))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), *results
    )


@BOTH
def test_dropout_is_for_training_only(config):
    config = dataclasses.replace(config, dropout=0.5)
    params, key = parameters(config), jax.random.PRNGKey
    still = make(config).apply(params, None, *given())
    np.testing.assert_array_equal(still, make(config).apply(params, key(1), *given()))
    apply = make(config, is_training=True).apply
    found = [apply(params, key(seed), *given()) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(found[0], found[1])
    assert np.abs(found[0] - found[2]).max() > 1e-3
    assert np.abs(found[0] - still).max() > 1e-3


@BOTH
@pytest.mark.parametrize(
    ("data", "changes", "message"),
    [
        ({"frames": 2}, {}, r"found 2 frame\(s\), and the network reads 3"),
        ({"steps": 3}, {}, r"known at 3 time\(s\), and the network predicts 2"),
        ({"columns": 9}, {"patch_size": 2}, "2 does not divide the 9 columns"),
        ({"rows": 1}, {}, "at least 2 rows"),
        ({"rows": 4, "columns": 8}, {"patch_size": 4}, "at least 2 rows"),
    ],
)
def test_what_does_not_fit_is_refused(config, data, changes, message):
    config = dataclasses.replace(config, **changes)
    init = make(config, GLOBE).init
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(init, jax.random.PRNGKey(0), *given(**data))
