"""Tests of patches, positions and queries of the Weather Transformer."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.baselines import sequence_cases as cases
from weatherlib.nn import embedding

NAME = "WeatherTransformer"
EXTRA = {"channels": 3, "known": 1, "static": 2}


def make(rows=cases.ROWS, columns=cases.COLUMNS, channels=EXTRA):
    config = cases.small(NAME)
    run = cases.transform(config, NAME)
    params = cases.noisy(cases.shapes(NAME, rows=rows, columns=columns, **channels))
    given = cases.draw(config, rows=rows, columns=columns, **channels)
    return jax.jit(run.apply), params, given


@pytest.mark.parametrize(("rows", "columns"), [(3, 7), (4, 8), (5, 6), (2, 3)])
def test_sizes_that_patches_do_not_divide_are_continued_and_cut(rows, columns):
    apply, params, given = make(rows, columns)
    found = apply(params, None, *given)
    assert found.shape[2:4] == (rows, columns)
    more = [(0, -rows % 2), (0, -columns % 3), (0, 0)]
    wider = [jnp.pad(a, [(0, 0)] * (a.ndim - 3) + more, mode="edge") for a in given]
    expected = apply(params, None, *wider)[:, :, :rows, :columns]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("rows", "columns"), [(1, 6), (4, 2)])
def test_a_patch_larger_than_the_grid_is_refused(rows, columns):
    message = f"patch_size 2x3 is larger than the {rows}x{columns} grid"
    with pytest.raises(ValueError, match=message):
        make(rows, columns)


def test_places_without_positions_are_alike():
    """A shift by whole patches of what is seen shifts what is predicted."""
    apply, params, given = make(columns=9)
    top = params["weather_transformer"]
    queries = jnp.broadcast_to(top["query_tokens"][:, :1], top["query_tokens"].shape)
    params["weather_transformer"] = {
        "spatial_embedding": 0 * top["spatial_embedding"],
        "query_tokens": queries,
    }
    found = apply(params, None, *(jnp.roll(a, 3, axis=-2) for a in given))
    expected = jnp.roll(apply(params, None, *given), 3, axis=-2)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_positions_in_space_and_queries_tell_places_apart():
    apply, params, given = make(columns=9)
    found = apply(params, None, *(jnp.roll(a, 3, axis=-2) for a in given))
    expected = jnp.roll(apply(params, None, *given), 3, axis=-2)
    assert jnp.abs(found - expected).max() > 1e-2


def test_patches_are_embedded_as_a_convolution_would():
    """With nothing but the embedding and one kept token, its values come through."""
    config = cases.small(NAME)
    frames, known, static = cases.draw(config)
    _, params, _ = make(channels={})
    w = np.asarray(params["weather_transformer/patch_embedding"]["w"])
    kernel = w.reshape(2, 3, cases.OUTPUTS, -1)
    flat = np.asarray(frames).reshape(2, 3, 2, 2, 2, 3, cases.OUTPUTS)
    by_hand = np.einsum("btrpcqv,pqvd->btrcd", flat, kernel)
    convolved = jax.lax.conv_general_dilated(
        frames.reshape(-1, *frames.shape[2:]),
        jnp.asarray(kernel),
        (2, 3),
        "VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    np.testing.assert_allclose(
        by_hand.reshape(convolved.shape), convolved, rtol=1e-4, atol=1e-4
    )
    # The network agrees: a patch that the kernel maps to zero changes nothing.
    apply, _, _ = make(channels={})
    null = np.linalg.svd(w.T)[2][-1]
    patch = jnp.asarray(null.reshape(2, 3, cases.OUTPUTS), jnp.float32)
    changed = frames.at[:, 1, 2:4, 3:6].add(patch)
    found = apply(params, None, changed, known, static)
    np.testing.assert_allclose(
        found, apply(params, None, frames, known, static), atol=1e-4
    )
    moved = frames.at[:, 1, 2:4, 2:5].add(patch)
    other = apply(params, None, moved, known, static)
    assert jnp.abs(other - found).max() > 1e-3


def test_a_forecast_of_a_fresh_network_is_near_zero():
    config = cases.small(NAME, d_model=32, decoder_layers=1)
    run = cases.transform(config, NAME)
    given = cases.draw(config)
    params = jax.jit(run.init)(jax.random.PRNGKey(0), *given)
    for module, entries in params.items():
        if "b" in entries:
            np.testing.assert_array_equal(entries["b"], 0)
        for name in set(entries) & {"w", "spatial_embedding", "query_tokens"}:
            spread = float(entries[name].std())
            assert spread == pytest.approx(0.02, rel=0.2), (module, name)
    assert jnp.abs(run.apply(params, None, *given)).max() < 0.6


OPTIONS = {"pre_norm": True, "queries_see_last": True, "start": "glorot"}


def test_a_forecast_of_wide_first_weights_is_zero():
    config = cases.small(NAME, d_model=32, decoder_layers=1, **OPTIONS)
    run = cases.transform(config, NAME)
    given = cases.draw(config)
    params = jax.jit(run.init)(jax.random.PRNGKey(0), *given)
    np.testing.assert_array_equal(run.apply(params, None, *given), 0)
    top = params["weather_transformer"]
    assert float(top["spatial_embedding"].std()) == pytest.approx(0.7, rel=0.2)
    for module, entries in params.items():
        if "b" in entries:
            np.testing.assert_array_equal(entries["b"], 0)
        if "w" in entries and not module.endswith("head"):
            inputs, outputs = entries["w"].shape
            outputs = outputs if "qkv" not in module else 3 * inputs
            bound = (6 / (inputs + outputs)) ** 0.5
            assert 0.9 * bound < jnp.abs(entries["w"]).max() <= bound, module


def test_norms_before_layers_have_one_more_at_the_end_of_each_half():
    made = cases.shapes(NAME)
    run = cases.transform(cases.small(NAME, pre_norm=True), NAME)
    given = cases.draw(cases.small(NAME))
    more = jax.eval_shape(run.init, jax.random.PRNGKey(0), *given)
    assert set(more) - set(made) == {
        "weather_transformer/encoder_norm",
        "weather_transformer/decoder_norm",
    }


def test_queries_that_see_the_last_frame_need_no_attention_to_follow_it():
    """Where attention finds nothing, each patch still answers to its own place."""
    config = cases.small(NAME, queries_see_last=True, pre_norm=True)
    run = cases.transform(config, NAME)
    given = cases.draw(config)
    shapes = jax.eval_shape(run.init, jax.random.PRNGKey(0), *given)
    params = cases.noisy({m: {n: a.shape for n, a in v.items()}
                          for m, v in shapes.items()})  # fmt: skip
    for module, entries in params.items():
        if module.endswith("proj"):
            params[module] = jax.tree.map(jnp.zeros_like, entries)
    apply = jax.jit(run.apply)
    frames, *rest = given
    found = apply(params, None, frames, *rest)
    changed = apply(params, None, frames.at[:, -1, :2, :3].add(1.0), *rest)
    apart = jnp.abs(changed - found).max((0, 1, 4))
    assert (apart[:2, :3] > 1e-3).all()
    np.testing.assert_array_equal(apart.at[:2, :3].set(0), 0)
    earlier = apply(params, None, frames.at[:, 0, :2, :3].add(1.0), *rest)
    np.testing.assert_array_equal(earlier, found)


@pytest.mark.parametrize("options", [{}, OPTIONS], ids=["published", "wide"])
def test_layers_normalise_before_or_after_as_written_out(options):
    config = cases.small(NAME, decoder_layers=1, **options)
    run = cases.transform(config, NAME)
    given = cases.draw(config)
    shapes = jax.eval_shape(run.init, jax.random.PRNGKey(0), *given)
    params = cases.noisy({m: {n: a.shape for n, a in v.items()}
                          for m, v in shapes.items()})  # fmt: skip
    found = jax.jit(run.apply)(params, None, *given)
    expected = _by_hand(config, params, given[0])
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def _by_hand(config, params, frames):
    """Returns a forecast of one layer of encoder and decoder, written out in NumPy."""
    held = {m.partition("/")[2]: jax.tree.map(np.asarray, v) for m, v in params.items()}
    pre, width = config.pre_norm, config.d_model

    def norm(x, name):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return x * held[name]["scale"] + held[name]["offset"]

    def linear(x, name):
        return x @ held[name]["w"] + held[name]["b"]

    def attend(x, y, name):
        w, b = held[f"{name}/qkv"]["w"], held[f"{name}/qkv"]["b"]
        q, k, v = (
            (a @ w[:, i * width :][:, :width] + b[i * width :][:width]).reshape(
                *a.shape[:-1], config.n_heads, -1
            )
            for i, a in enumerate((x, y, y))
        )
        scores = np.einsum("...qhc,...khc->...hqk", q, k) / np.sqrt(q.shape[-1])
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        scores /= scores.sum(-1, keepdims=True)
        mixed = np.einsum("...hqk,...khc->...qhc", scores, v).reshape(x.shape)
        return linear(mixed, f"{name}/proj")

    def layer(x, name, *functions):
        for number, function in enumerate(functions, start=1):
            own = f"{name}/norm{number}"
            x = x + function(norm(x, own)) if pre else norm(x + function(x), own)
        return x

    def perceptron(name):
        return lambda x: linear(
            np.maximum(linear(x, f"{name}/linear1"), 0), f"{name}/linear2"
        )

    batch, times = frames.shape[:2]
    cut = np.asarray(frames).reshape(batch, times, 2, 2, 2, 3, -1)
    cut = cut.swapaxes(3, 4).reshape(batch, times, 4, -1)
    sines = np.asarray(embedding.alternating_1d(width, np.arange(times)))
    x = linear(cut, "patch_embedding") + sines[:, None] + held[""]["spatial_embedding"]
    x = layer(
        x,
        "encoder_0",
        lambda x: attend(x, x, "encoder_0/spatial_attn"),
        lambda x: attend(
            x.swapaxes(1, 2), x.swapaxes(1, 2), "encoder_0/temporal_attn"
        ).swapaxes(1, 2),
        perceptron("encoder_0"),
    )
    x = norm(x, "encoder_norm") if pre else x
    queries = held[""]["query_tokens"][None]
    if config.queries_see_last:
        queries = queries + x[:, -1:]
    queries = np.broadcast_to(queries, (batch, *queries.shape[1:]))
    queries = queries.reshape(batch, -1, width)
    memory = x.reshape(batch, -1, width)
    queries = layer(
        queries,
        "decoder_0",
        lambda x: attend(x, x, "decoder_0/self_attn"),
        lambda x: attend(x, memory, "decoder_0/cross_attn"),
        perceptron("decoder_0"),
    )
    queries = norm(queries, "decoder_norm") if pre else queries
    found = linear(queries, "head").reshape(batch, -1, 2, 2, 2, 3, frames.shape[-1])
    return found.swapaxes(3, 4).reshape(batch, -1, 4, 6, frames.shape[-1])


def test_attention_by_turns_makes_a_tenth_of_the_scores():
    """With 64 patches and 12 frames: 58 368 against 589 824 for each head."""
    config = cases.config_class(NAME)()
    run = hk.without_apply_rng(cases.transform(config, NAME))
    given = cases.draw(config, rows=32, columns=64)
    params = jax.eval_shape(
        run.init,
        jax.random.PRNGKey(0),
        *(jax.ShapeDtypeStruct(a.shape, a.dtype) for a in given),
    )
    program = jax.make_jaxpr(run.apply)(params, *given)
    found = [
        equation.outvars[0].aval.size // 2 // config.n_heads
        for equation in program.eqns
        if equation.primitive.name == "exp"
    ]
    assert found[0] + found[1] == 12 * 64**2 + 64 * 12**2 == 58_368
    assert (12 * 64) ** 2 == 589_824
