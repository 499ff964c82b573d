"""Tests of the KL autoencoder against published numbers, and of its promises."""

import functools
import json

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tolerances
from weatherlib.nn import autoencoder, autoencoder_config, autoencoder_kl, tiling
from weatherlib.weights import autoencoder_kl as weights

TINY = autoencoder_config.AutoencoderConfig(
    in_channels=2,
    out_channels=3,
    latent_channels=2,
    block_out_channels=(4, 8),
    layers_per_block=1,
    norm_num_groups=2,
)
FLAT = TINY.replace(block_out_channels=(4,))


class Jitted:
    """An autoencoder whose methods are compiled."""

    def __init__(self, sizes=TINY, **options):
        model = autoencoder.Autoencoder(sizes=sizes, **options)
        for name in ("encode", "decode", "to_latents", "from_latents"):
            setattr(self, name, jax.jit(getattr(model, name)))


MODEL = Jitted()


def _last(x):
    return jnp.asarray(x).transpose(0, 2, 3, 1)


def _first(x):
    return np.asarray(x).transpose(0, 3, 1, 2)


@functools.cache
def _params(sizes=TINY):
    """Returns parameters away from their first values."""
    rng = np.random.default_rng(0)
    return {
        module: {
            name: jnp.asarray(
                0.3 * rng.standard_normal(shape) + (name == "scale"), jnp.float32
            )
            for name, shape in held.items()
        }
        for module, held in autoencoder_config.parameter_shapes(sizes).items()
    }


def _frames(*lead, rows=8, columns=12):
    return jax.random.normal(jax.random.key(1), (*lead, rows, columns, 2))


def test_the_published_stable_diffusion_numbers_come_out(goldens, strict_numerics):
    folder = goldens / "vision" / "sd_vae_legacy_names"
    loaded = weights.load(folder)
    model = Jitted(loaded.config)
    with np.load(folder / "golden.npz") as file:
        expected = {name.removesuffix("_32x32"): x for name, x in file.items()}
    found = model.encode(loaded.params, _last(expected["x"]))
    close = functools.partial(
        np.testing.assert_allclose, rtol=0, atol=tolerances.AUTOENCODER_ATOL
    )
    close(_first(found.mean), expected["mean"])
    close(_first(found.mode()), expected["mode"])
    close(_first(found.log_variance), expected["logvar"])
    close(_first(found.deviation), expected["std"])
    decoded = model.decode(loaded.params, found.mode())
    close(_first(decoded), expected["decode_mode"])
    decoded = model.decode(loaded.params, _last(expected["z"]))
    close(_first(decoded), expected["decode_z"])
    scaled = model.to_latents(loaded.params, _last(expected["x"]))
    close(_first(scaled), expected["scaled_mode"])
    back = model.from_latents(loaded.params, scaled)
    close(_first(back), expected["decode_mode"])


def test_the_published_prediff_numbers_come_out(goldens, strict_numerics):
    loaded = weights.load(goldens / "prediff" / "vae.pt", norm_num_groups=4)
    model = Jitted(loaded.config)
    with np.load(goldens / "prediff" / "vae_case.npz") as file:
        expected = dict(file)

    def near(found, name, share=tolerances.PREDIFF_NETWORK):
        wanted = expected[name]
        bound = share * np.abs(wanted).max()
        np.testing.assert_allclose(found, wanted, rtol=0, atol=bound)

    found = model.encode(loaded.params, _last(expected["x"]))
    near(_first(found.mean), "mean")
    near(_first(found.log_variance), "logvar")
    near(_first(found.deviation), "std")
    drawn = found.sample(_last(expected["eps"]))
    near(_first(drawn), "z_sample")
    near(found.kl(), "kl")
    near(found.nll(_last(expected["z_sample"])), "nll_of_sample")
    near(_first(model.decode(loaded.params, found.mode())), "decode_mode")
    near(_first(model.decode(loaded.params, drawn)), "decode_sample")


@pytest.mark.parametrize(
    ("sizes", "count"),
    [
        (autoencoder_config.SD_VAE, 83_653_863),
        (autoencoder_config.PREDIFF_VAE, 84_499_393),
        (TINY, None),
        (TINY.replace(mid_block_add_attention=False, use_quant_conv=False), None),
        (TINY.replace(use_post_quant_conv=False, block_out_channels=(4,)), None),
    ],
)
def test_parameters_are_those_of_the_table(sizes, count):
    model = autoencoder.Autoencoder(sizes=sizes)
    made = jax.eval_shape(model.init, jax.random.key(0))
    shapes = {m: {n: x.shape for n, x in held.items()} for m, held in made.items()}
    assert shapes == autoencoder_config.parameter_shapes(sizes)
    if count is not None:
        assert hk.data_structures.tree_size(made) == count


def test_first_weights_are_drawn_as_pytorch_does():
    layer = hk.transform(lambda x: autoencoder_kl._Conv(8, 3, name="conv")(x))
    held = layer.init(jax.random.key(0), jnp.zeros((1, 4, 4, 4)))["conv"]
    bound = (9 * 4) ** -0.5
    for value in held.values():
        assert 0 < np.abs(value).max() <= bound
    np.testing.assert_allclose(np.std(held["w"]), bound / 3**0.5, rtol=0.1)


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (3, 4)])
def test_the_convolution_of_a_grown_field_is_that_of_its_repeated_points(size):
    x = jax.random.normal(jax.random.key(0), (2, *size, 3))
    w = jax.random.normal(jax.random.key(1), (3, 3, 3, 4))
    found = autoencoder_kl.upsample_convolve(x, w)
    repeated = jnp.repeat(jnp.repeat(x, 2, 1), 2, 2)
    expected = jax.lax.conv_general_dilated(
        repeated, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_frames_may_have_any_axes_before_them(strict_numerics):
    frames = _frames(2, 3)
    found = MODEL.encode(_params(), frames)
    assert found.mean.shape == (2, 3, 4, 6, 2)
    single = MODEL.encode(_params(), frames[1, 2])
    np.testing.assert_allclose(single.mean, found.mean[1, 2], atol=1e-5)
    assert single.mean.shape == (4, 6, 2)
    decoded = MODEL.decode(_params(), found.mean)
    assert decoded.shape == (2, 3, 8, 12, 3)


def test_the_number_of_frames_at_once_does_not_matter(strict_numerics):
    frames, params = _frames(5), _params(FLAT)
    batched, plain = Jitted(FLAT, batch_size=2), Jitted(FLAT)
    found, expected = (model.encode(params, frames) for model in (batched, plain))
    np.testing.assert_allclose(found.mean, expected.mean, atol=1e-5)
    np.testing.assert_allclose(found.log_variance, expected.log_variance, atol=1e-5)
    np.testing.assert_allclose(
        batched.decode(params, found.mean),
        plain.decode(params, found.mean),
        atol=1e-4,
    )


def test_a_tile_that_holds_the_field_changes_nothing():
    frames = _frames(2)
    tiled = Jitted(tiles=tiling.Tiles(size=6, overlap=2))
    found, expected = (model.encode(_params(), frames) for model in (tiled, MODEL))
    np.testing.assert_array_equal(found.mean, expected.mean)
    np.testing.assert_array_equal(
        tiled.decode(_params(), found.mean), MODEL.decode(_params(), found.mean)
    )


def test_tiles_come_near_to_the_whole_field():
    """Without attention and norms over a tile they would differ at its edge only."""
    model = Jitted(tiles=tiling.Tiles(size=16, overlap=8), batch_size=1)
    rows, columns = np.indices((64, 96))
    waves = np.stack([np.sin(rows / 5) * np.cos(columns / 7), np.cos(rows / 6)], -1)
    frames = jnp.asarray(waves[None], jnp.float32)
    whole, tiled = (m.encode(_params(), frames).mean for m in (MODEL, model))
    assert tiled.shape == whole.shape == (1, 32, 48, 2)
    assert np.corrcoef(whole.ravel(), tiled.ravel())[0, 1] > 0.9
    whole, tiled = (m.decode(_params(), whole) for m in (MODEL, model))
    assert tiled.shape == whole.shape == (1, 64, 96, 3)
    assert np.corrcoef(whole.ravel(), tiled.ravel())[0, 1] > 0.9


def test_it_runs_under_jit_grad_and_vmap(strict_numerics):
    frames = _frames(2)

    model = autoencoder.Autoencoder(sizes=TINY)

    def loss(params, frames):
        found = model.encode(params, frames)
        decoded = model.decode(params, found.sample(jnp.ones_like(found.mean)))
        return (decoded**2).mean()

    gradient = jax.jit(jax.grad(loss))(_params(), frames)
    for module, held in gradient.items():
        for name, value in held.items():
            assert np.isfinite(value).all(), (module, name)
            # Softmax does not see what all keys have in common.
            if not (module.endswith("/key") and name == "b"):
                assert np.abs(value).max() > 0, (module, name)
    whole = MODEL.encode(_params(), frames).mean
    apart = jax.vmap(lambda x: MODEL.encode(_params(), x).mean)(frames)
    np.testing.assert_allclose(apart, whole, atol=1e-5)


@pytest.mark.slow
def test_computing_again_changes_no_gradient():
    frames = _frames(2)

    def gradient(**options):
        model = autoencoder.Autoencoder(sizes=FLAT, **options)

        def loss(params):
            return (model.decode(params, model.encode(params, frames).mean) ** 2).sum()

        return jax.jit(jax.grad(loss))(_params(FLAT))

    expected = gradient()
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(
            a, b, rtol=1e-3, atol=1e-4 * np.abs(b).max() + 1e-3
        ),
        gradient(remat=True, batch_size=1),
        expected,
    )


def test_it_computes_in_bfloat16(strict_numerics):
    narrow = jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16), _params())
    frames = _frames(2)
    found = MODEL.encode(narrow, frames.astype(jnp.bfloat16)).mean
    assert found.dtype == jnp.bfloat16
    wide = MODEL.encode(_params(), frames).mean
    assert _cosine(found, wide) > 0.999
    decoded = MODEL.decode(narrow, wide.astype(jnp.bfloat16))
    assert decoded.dtype == jnp.bfloat16
    assert _cosine(decoded, MODEL.decode(_params(), wide)) > 0.999


def _cosine(one, other):
    one, other = (np.asarray(x, np.float64).ravel() for x in (one, other))
    return one @ other / np.linalg.norm(one) / np.linalg.norm(other)


def test_latents_are_drawn_by_a_key_and_scaled():
    model = Jitted(FLAT.replace(scaling_factor=0.5, shift_factor=0.2))
    frames, params = _frames(1), _params(FLAT)
    held = model.encode(params, frames)
    drawn = model.to_latents(params, frames, jax.random.key(0))
    np.testing.assert_allclose(
        drawn, (held.draw(jax.random.key(0)) - 0.2) * 0.5, atol=1e-5
    )
    mean = model.to_latents(params, frames)
    np.testing.assert_allclose(mean, (held.mean - 0.2) * 0.5, atol=1e-5)
    np.testing.assert_allclose(
        model.from_latents(params, mean),
        model.decode(params, held.mean),
        atol=1e-4,
    )


def test_either_part_can_be_trained_alone():
    encoder, decoder = (
        autoencoder.part(_params(), name) for name in ("encoder", "decoder")
    )
    assert set(encoder) | set(decoder) == set(_params())
    assert not set(encoder) & set(decoder)
    frames = _frames(1)

    def loss(decoder):
        params = {**encoder, **decoder}
        return (MODEL.decode(params, MODEL.encode(params, frames).mean) ** 2).mean()

    assert set(jax.eval_shape(jax.grad(loss), decoder)) == set(decoder)
    with pytest.raises(ValueError, match="'vae' is neither encoder nor decoder"):
        autoencoder.part(_params(), "vae")


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 8, 9, 2), "multiples of 2, found 8x9; 8x10 would work"),
        ((1, 8, 8, 3), "fields have 2 channels, found 3"),
    ],
)
def test_fields_that_do_not_fit_are_refused(shape, message):
    with pytest.raises(ValueError, match=message):
        MODEL.encode(_params(), jnp.zeros(shape))
    encoder = hk.transform(lambda x: autoencoder_kl.Encoder(TINY)(x))
    with pytest.raises(ValueError, match=message):
        encoder.apply(_params(), None, jnp.zeros(shape))


def test_latents_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="latent fields have 2 channels, found 4"):
        MODEL.decode(_params(), jnp.zeros((1, 4, 4, 4)))
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        autoencoder.Autoencoder(sizes=TINY, batch_size=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"in_channels": 0}, "in_channels must be at least 1, found 0"),
        ({"block_out_channels": ()}, "block_out_channels needs"),
        ({"norm_num_groups": 3}, "3 does not divide the 4 channels"),
        ({"act_fn": "tanh"}, "act_fn 'tanh' is not one of"),
        ({"scaling_factor": 0.0}, "scaling_factor must be positive, found 0.0"),
    ],
)
def test_sizes_out_of_range_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        TINY.replace(**changes)


@pytest.mark.parametrize("act_fn", ["mish"])
def test_other_activations_make_other_numbers(act_fn):
    frames = _frames(1)
    params = _params(FLAT)
    found, plain = (
        Jitted(FLAT.replace(act_fn=name)).encode(params, frames).mean
        for name in (act_fn, "silu")
    )
    assert np.abs(found - plain).max() > 1e-3


def test_the_published_shapes_of_stable_diffusion_are_the_tables(goldens):
    path = goldens / "vision" / "param_shapes_sd_v1_5_vae.json"
    held = json.loads(path.read_text())
    names = weights.map_of(autoencoder_config.SD_VAE)
    assert names.source_shapes == {
        name: tuple(entry["shape"]) for name, entry in held["tensors"].items()
    }
    legacy = weights.map_of(autoencoder_config.SD_VAE, "legacy")
    renamed = {
        held["legacy_names"].get(n, n): s for n, s in names.source_shapes.items()
    }
    assert legacy.source_shapes == renamed
