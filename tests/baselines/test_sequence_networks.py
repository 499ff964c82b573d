"""What all networks on sequences and tokens promise: names, numbers, bad input."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.baselines import sequence_cases as cases
from weatherlib import config as config_module

BARE, BOTH = "bare", "both"
FEW = pytest.mark.parametrize(
    "name",
    [
        name
        if name in ("LSTM", "WeatherTransformer")
        else pytest.param(name, marks=pytest.mark.slow)
        for name in cases.NAMES
    ],
)
CHANNELS = {BARE: {}, BOTH: {"channels": cases.OUTPUTS + 1, "known": 1, "static": 2}}


@functools.cache
def jitted(name, training, remat, dropout):
    """Returns a network, compiled once for all tests."""
    config = cases.small(name, dropout=dropout)
    return jax.jit(cases.transform(config, name, training=training, remat=remat).apply)


def make(name, channels=BARE, *, training=False, remat=False, dropout=0.0):
    """Returns the jitted network, parameters and what it is called with."""
    given = cases.draw(cases.small(name), **CHANNELS[channels])
    params = cases.noisy(cases.shapes(name, **CHANNELS[channels]))
    return jitted(name, training, remat, dropout), params, given


@functools.cache
def gradients(name, remat):
    """Returns those for parameters and for all that is seen."""
    apply, params, given = make(name, BOTH, remat=remat)

    def loss(params, given):
        return (apply(params, None, *given) ** 3).sum()

    return jax.jit(jax.grad(loss, argnums=(0, 1)))(params, given)


def norms(*names):
    return {f"{n}/{part}": (8,) for n in names for part in ("scale", "offset")}


def linear(name, inputs, outputs):
    return {f"{name}/w": (inputs, outputs), f"{name}/b": (outputs,)}


def attention(name):
    return {**linear(f"{name}/qkv", 8, 24), **linear(f"{name}/proj", 8, 8)}


def layer(name, *attentions):
    entries = {**linear("linear1", 8, 32), **linear("linear2", 32, 8)}
    for one in attentions:
        entries |= attention(one)
    entries |= norms(*(f"norm{i + 1}" for i in range(len(attentions) + 1)))
    return {f"{name}/{key}": shape for key, shape in entries.items()}


def cell(name, inputs, hidden):
    gates = 4 * hidden
    return {
        f"{name}/w_input": (inputs, gates),
        f"{name}/w_hidden": (hidden, gates),
        f"{name}/b_input": (gates,),
        f"{name}/b_hidden": (gates,),
    }


EXPECTED = {
    "LSTM": {
        **cell("lstm/recurrent/layer_0", 48, 5),
        **cell("lstm/recurrent/layer_1", 5, 5),
        **linear("lstm/head", 5, 96),
    },
    "BidirectionalLSTM": {
        **cell("bidirectional_lstm/recurrent/layer_0", 48, 3),
        **cell("bidirectional_lstm/recurrent/layer_0_reverse", 48, 3),
        **cell("bidirectional_lstm/recurrent/layer_1", 6, 3),
        **cell("bidirectional_lstm/recurrent/layer_1_reverse", 6, 3),
        **linear("bidirectional_lstm/head", 6, 96),
    },
    "LSTMSeq2Seq": {
        **cell("lstm_seq2seq/encoder/layer_0", 48, 5),
        **cell("lstm_seq2seq/encoder/layer_1", 5, 5),
        **cell("lstm_seq2seq/decoder/layer_0", 48, 5),
        **cell("lstm_seq2seq/decoder/layer_1", 5, 5),
        **linear("lstm_seq2seq/head", 5, 48),
    },
    "Transformer": {
        **linear("transformer/input_projection", 48, 8),
        **layer("transformer/encoder_0", "self_attn"),
        **layer("transformer/encoder_1", "self_attn"),
        **norms("transformer/head_norm"),
        **linear("transformer/head_hidden", 8, 4),
        **linear("transformer/head", 4, 96),
    },
    "TransformerSeq2Seq": {
        **linear("transformer_seq2seq/input_projection", 48, 8),
        **layer("transformer_seq2seq/encoder_0", "self_attn"),
        **layer("transformer_seq2seq/decoder_0", "self_attn", "cross_attn"),
        **layer("transformer_seq2seq/decoder_1", "self_attn", "cross_attn"),
        "transformer_seq2seq/query_tokens": (2, 8),
        **linear("transformer_seq2seq/head", 8, 48),
    },
    "SpatialTransformer": {
        **linear("spatial_transformer/input_projection", 6, 8),
        "spatial_transformer/position_embedding": (24, 8),
        **layer("spatial_transformer/encoder_0", "self_attn"),
        **linear("spatial_transformer/head", 8, 4),
    },
    "WeatherTransformer": {
        **linear("weather_transformer/patch_embedding", 12, 8),
        "weather_transformer/spatial_embedding": (4, 8),
        "weather_transformer/query_tokens": (2, 4, 8),
        **layer("weather_transformer/encoder_0", "spatial_attn", "temporal_attn"),
        **layer("weather_transformer/decoder_0", "self_attn", "cross_attn"),
        **layer("weather_transformer/decoder_1", "self_attn", "cross_attn"),
        **linear("weather_transformer/head", 8, 12),
    },
}


@pytest.mark.parametrize("name", cases.NAMES)
def test_parameters_have_these_names_and_shapes(name):
    found = {
        f"{module}/{key}": shape
        for module, entries in cases.shapes(name).items()
        for key, shape in entries.items()
    }
    assert found == EXPECTED[name]


@pytest.mark.parametrize(
    ("name", "channels", "expected"),
    [
        ("LSTM", 1, 2_304_000),
        ("BidirectionalLSTM", 1, 4_730_880),
        ("LSTMSeq2Seq", 1, 2_758_656),
        ("Transformer", 1, 1_398_080),
        ("TransformerSeq2Seq", 1, 8_424_704),
        ("SpatialTransformer", 1, 859_140),
        ("WeatherTransformer", 1, 1_636_768),
        ("WeatherTransformer", 4, 1_661_440),
    ],
)
def test_default_sizes_have_these_numbers_of_parameters(name, channels, expected):
    made = cases.shapes(
        name, rows=32, columns=64, full=True, outputs=channels, channels=channels
    )
    assert cases.count(made) == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", cases.NAMES)
def test_it_runs_under_jit_grad_and_vmap(name, strict_numerics):
    apply, params, given = make(name, BOTH)
    found = apply(params, None, *given)
    assert found.shape == (2, 2, cases.ROWS, cases.COLUMNS, cases.OUTPUTS)

    def single(*one):
        return apply(params, None, *(a[None] for a in one))[0]

    # Members of a batch do not mix, since each alone gives the same.
    np.testing.assert_allclose(jax.vmap(single)(*given), found, atol=2e-5)

    for path, leaf in jax.tree_util.tree_leaves_with_path(gradients(name, False)):
        assert np.isfinite(leaf).all() and np.abs(leaf).max() > 0, path


@pytest.mark.parametrize("name", cases.NAMES)
def test_it_computes_in_bfloat16(name, strict_numerics):
    apply, params, given = make(name, BOTH)
    narrow, *fields = (
        jax.tree.map(lambda a: a.astype(jnp.bfloat16), x) for x in (params, *given)
    )
    found = apply(narrow, None, *fields)
    assert found.dtype == jnp.bfloat16
    expected = apply(params, None, *given)
    error = jnp.abs(found.astype(jnp.float32) - expected).max()
    assert error < 0.05 * jnp.abs(expected).max()


@FEW
def test_computing_again_changes_no_gradient(name, strict_numerics):
    apply, params, given = make(name, BOTH, remat=True)
    assert "remat" in str(jax.make_jaxpr(lambda p: apply(p, None, *given))(params))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3),
        gradients(name, True),
        gradients(name, False),
    )


@pytest.mark.parametrize("name", cases.NAMES)
def test_dropout_acts_in_training_only(name, strict_numerics):
    apply, params, given = make(name, training=True, dropout=0.5)
    first, second, same = (
        apply(params, jax.random.PRNGKey(seed), *given) for seed in (0, 1, 0)
    )
    assert jnp.abs(first - second).max() > 1e-3
    np.testing.assert_array_equal(first, same)
    calm, never = (
        make(name, dropout=rate)[0].lower(params, None, *given).as_text()
        for rate in (0.5, 0.0)
    )
    assert calm == never
    with pytest.raises(ValueError, match="non-None PRNGKey"):
        apply(params, None, *given)


def test_a_single_lstm_layer_has_nothing_to_drop():
    run = cases.transform(
        cases.small("LSTM", num_layers=1, dropout=0.5), "LSTM", training=True
    )
    given = cases.draw(cases.small("LSTM"))
    params = run.init(jax.random.PRNGKey(0), *given)
    run.apply(params, None, *given)


@pytest.mark.parametrize("name", cases.NAMES)
def test_all_that_is_seen_matters(name):
    apply, params, given = make(name, BOTH)
    found = apply(params, None, *given)
    for i in range(3):
        changed = [a + 1.0 if i == j else a for j, a in enumerate(given)]
        assert jnp.abs(apply(params, None, *changed) - found).max() > 1e-3, i
    turned = apply(params, None, given[0][:, ::-1], *given[1:])
    assert jnp.abs(turned - found).max() > 1e-3


@pytest.mark.parametrize("name", cases.NAMES)
def test_a_wrong_number_of_frames_or_channels_is_refused(name):
    config = cases.small(name)
    run = cases.transform(config, name)
    frames, known, static = cases.draw(config)
    key = jax.random.PRNGKey(0)
    with pytest.raises(ValueError, match=r"reads 3 past frames .*, found 2"):
        run.init(key, frames[:, 1:], known, static)
    with pytest.raises(ValueError, match=r"predicts 2 frames .*, found .* of 1"):
        run.init(key, frames, known[:, 1:], static)
    with pytest.raises(ValueError, match="found 2 to predict and 1 in past frames"):
        run.init(key, frames[..., 1:], known, static)


@pytest.mark.parametrize("name", cases.NAMES)
def test_weights_of_another_grid_are_refused(name):
    _, params, _ = make(name)
    config = cases.small(name)
    run = cases.transform(config, name)
    given = cases.draw(config, rows=6, columns=9)
    with pytest.raises(ValueError, match=r"for one grid .* the 6x9 grid.*shape"):
        run.apply(params, None, *given)


@pytest.mark.parametrize("name", cases.NAMES)
def test_a_head_without_weights_gives_its_biases(name):
    """Outputs lie in the order of channels and places, whatever the network."""
    apply, params, given = make(name)
    (path,) = (path for path in params if path.endswith("/head"))
    head = {"w": 0 * params[path]["w"], "b": jnp.arange(params[path]["b"].size) * 1.0}
    found = apply({**params, path: head}, None, *given)
    step, row, column, variable = np.indices(found.shape[1:])
    place, count = row * cases.COLUMNS + column, cases.ROWS * cases.COLUMNS
    expected = {
        "LSTMSeq2Seq": variable * count + place,
        "TransformerSeq2Seq": variable * count + place,
        "SpatialTransformer": step * cases.OUTPUTS + variable,
        "WeatherTransformer": (row % 2 * 3 + column % 3) * cases.OUTPUTS + variable,
    }.get(name, (step * cases.OUTPUTS + variable) * count + place)
    np.testing.assert_array_equal(found, np.broadcast_to(expected, found.shape))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("LSTM", {"hidden_size": 0}, "hidden_size must be at least 1, found 0"),
        ("BidirectionalLSTM", {"num_layers": 0}, "num_layers must be at least 1"),
        ("LSTMSeq2Seq", {"dropout": 1.0}, "dropout must be in .0, 1., found 1.0"),
        ("Transformer", {"nhead": 3}, "nhead must divide d_model, found 3 heads for 8"),
        ("Transformer", {"num_layers": 0}, "num_layers must be at least 1"),
        ("Transformer", {"dim_feedforward": 0}, "dim_feedforward must be at least 1"),
        ("SpatialTransformer", {"dropout": -0.1}, "dropout must be in"),
        ("TransformerSeq2Seq", {"d_model": 3, "nhead": 1}, "d_model must be even"),
        ("TransformerSeq2Seq", {"num_decoder_layers": 0}, "num_decoder_layers"),
        ("WeatherTransformer", {"n_heads": 3}, "n_heads must divide d_model"),
        ("WeatherTransformer", {"d_model": 3, "n_heads": 1}, "d_model must be even"),
        ("WeatherTransformer", {"patch_size": (0, 8)}, "patch_size must be rows and"),
        ("WeatherTransformer", {"mlp_ratio": 0}, "mlp_ratio must be at least 1"),
        ("WeatherTransformer", {"input_length": 0}, "input_length must be at least 1"),
    ],
)
def test_sizes_that_make_no_network_are_refused(name, change, message):
    with pytest.raises(ValueError, match=message):
        cases.small(name, **change)


@pytest.mark.parametrize("name", cases.NAMES)
def test_configurations_come_from_mappings_as_files_hold_them(name):
    config = cases.small(name)
    held = {k: list(v) if isinstance(v, tuple) else v for k, v in config.items()}
    assert config_module.from_dict(type(config), held) == config
    with pytest.raises(ValueError, match="unknown key 'widht'"):
        config_module.from_dict(type(config), {"widht": 8})


def test_a_perceptron_may_have_any_width():
    config = cases.small("Transformer", dim_feedforward=7)
    run = cases.transform(config, "Transformer")
    made = jax.eval_shape(run.init, jax.random.PRNGKey(0), *cases.draw(config))
    assert made["transformer/encoder_1/linear1"]["w"].shape == (8, 7)
    assert config_module.from_dict(type(config), dict(config)) == config


def test_places_without_positions_are_alike():
    """A shift in longitude of what is seen shifts what is predicted."""
    apply, params, given = make("SpatialTransformer", BOTH)
    top = params["spatial_transformer"]
    params["spatial_transformer"] = jax.tree.map(jnp.zeros_like, top)
    found = apply(params, None, *(jnp.roll(a, 2, axis=-2) for a in given))
    expected = jnp.roll(apply(params, None, *given), 2, axis=-2)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_channels_of_a_place_are_its_frames_then_known_then_static():
    apply, params, given = make("SpatialTransformer", BOTH)
    expected = apply(params, None, *given)
    path = "spatial_transformer/input_projection"
    # Frames of three channels at three times, one forcing at two, two static fields.
    assert params[path]["w"].shape[0] == 3 * 3 + 2 + 2
    for row, (i, index) in {
        4: (0, np.s_[:, 1, ..., 1]), 10: (1, np.s_[:, 1, ..., 0]),
        12: (2, np.s_[..., 1]),
    }.items():  # fmt: skip
        w = params[path]["w"].at[row].set(0)
        blind = {**params, path: {**params[path], "w": w}}
        changed = list(given)
        changed[i] = changed[i].at[index].set(0)
        np.testing.assert_allclose(
            apply(blind, None, *given), apply(params, None, *changed), atol=1e-5
        )
        assert jnp.abs(apply(blind, None, *given) - expected).max() > 1e-3


@pytest.mark.parametrize(("rows", "warns"), [(64, False), (65, True)])
def test_more_than_4096_places_draw_a_warning(rows, warns, recwarn):
    if not warns:
        cases.shapes("SpatialTransformer", rows=rows, columns=64)
        assert not recwarn.list
        return
    with pytest.warns(UserWarning, match="all 4160 places of a 65x64 grid"):
        cases.shapes("SpatialTransformer", rows=rows, columns=64)


def test_decoders_see_what_they_have_predicted():
    """The second frame depends on the first, whatever the forcings."""
    apply, params, given = make("LSTMSeq2Seq")
    path = "lstm_seq2seq/head"
    found = apply(params, None, *given)
    louder = {**params[path], "b": params[path]["b"] + 1.0}
    changed = apply({**params, path: louder}, None, *given)
    np.testing.assert_allclose(changed[:, 0], found[:, 0] + 1, atol=1e-5)
    assert jnp.abs(changed[:, 1] - found[:, 1] - 1).max() > 1e-3


def test_forcings_of_a_step_reach_no_earlier_one():
    apply, params, given = make("LSTMSeq2Seq", BOTH)
    found = apply(params, None, *given)
    later = given[1].at[:, 1].add(1.0)
    changed = apply(params, None, given[0], later, given[2])
    np.testing.assert_array_equal(changed[:, 0], found[:, 0])
    assert jnp.abs(changed[:, 1] - found[:, 1]).max() > 1e-3
