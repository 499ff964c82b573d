"""The latent U-Net and latent diffusion as predictors."""

import functools

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray

from tests.latent import codecs
from weatherlib import casting, diffusion, latent, xarray_jax
from weatherlib.diffusion import forward
from weatherlib.latent import (
    codec,
    forecast_config,
    forecast_frames,
    forecast_network,
    latent_diffusion,
    latent_unet,
)
from weatherlib.nn import autoencoder_config

TINY_VAE = autoencoder_config.AutoencoderConfig(
    block_out_channels=(2, 2),
    layers_per_block=1,
    norm_num_groups=1,
    latent_channels=1,
    mid_block_add_attention=False,
)
SIZES = {
    "autoencoder": TINY_VAE,
    "channels": 2,
    "lowest": (-2.0, -3.0),
    "highest": (3.0, 3.0),
    "input_length": 3,
    "output_length": 2,
    "base_channels": 4,
    "depth": 1,
    "groups": 2,
}
SCHEDULE = diffusion.ScheduleConfig(steps=20, start=1e-3, end=0.3)
UNET = forecast_config.LatentUNetConfig(**SIZES, freeze_encoder=True)
DIFFUSION = forecast_config.LatentDiffusionConfig(
    **SIZES, diffusion=diffusion.DiffusionConfig(schedule=SCHEDULE)
)


def weather(frames, first=0, rows=4, columns=6, seed=0):
    """Returns normalised frames of two variables, of which one has a level."""
    rng = np.random.default_rng(seed)
    steps = np.arange(first, first + frames) * np.timedelta64(6, "h")
    values = np.clip(rng.standard_normal((2, frames, rows, columns, 2)), -2, 2)
    values = values.astype(np.float32)
    return xarray.Dataset(
        {
            "b": (("batch", "time", "lat", "lon"), values[..., 0]),
            "a": (("batch", "time", "level", "lat", "lon"), values[:, :, None, ..., 1]),
        },
        coords={
            "lat": np.linspace(-45, 45, rows),
            "lon": np.arange(columns) * 360 / columns,
            "level": [500],
            "time": steps.astype("timedelta64[ns]"),
        },
    )


INPUTS, TARGETS = weather(3, -2), weather(2, 1, seed=1)
FORCINGS = xarray.Dataset(coords={"time": TARGETS["time"]})
TEMPLATE = TARGETS * np.nan


def drawn(first_params, config, seed=0):
    """Returns random parameters, none of them zero."""
    rng = np.random.default_rng(seed)
    init = functools.partial(first_params, config)
    shapes = jax.eval_shape(init, jax.random.key(0))

    def one(leaf):
        return jnp.asarray(0.3 * rng.standard_normal(leaf.shape), leaf.dtype)

    return jax.tree.map(one, shapes)


class Halves(codec.Codec):
    """Keeps every second point, and repeats it; has no parameters."""

    roots = ("none", "none")
    adapts_channels = False
    channels = latent_channels = 2

    def init(self, key):
        return {}

    def latent_size(self, size):
        return size[0] // 2, size[1] // 2

    def frozen(self, module):
        return True

    def encode(self, params, images, key=None):
        return images[:, :, ::2, ::2]

    def decode(self, params, latents, size=None):
        return latents.repeat(2, axis=2).repeat(2, axis=3)


@pytest.fixture
def halves(monkeypatch):
    """Puts a codec without a network in place of autoencoders."""
    monkeypatch.setattr(codec, "make", lambda config, remat=False: Halves())


def kept(frames):
    """Returns what `Halves` keeps of frames in the range of images."""
    return frames[..., ::2, ::2].repeat(2, axis=-2).repeat(2, axis=-1)


def forecast(predictor, params=None, key=0):
    run = hk.transform(lambda: predictor()(INPUTS, TEMPLATE, FORCINGS))
    return jax.jit(run.apply)(params or {}, jax.random.PRNGKey(key))


def test_ranges_become_images_and_back():
    images = forecast_frames.read(INPUTS, DIFFUSION)
    assert images.shape == (2, 3, 2, 4, 6)
    wanted = (INPUTS["a"].isel(level=0) - 0.5) / 2.5
    np.testing.assert_allclose(images[:, :, 0], wanted, atol=1e-6)
    np.testing.assert_allclose(images[:, :, 1], INPUTS["b"] / 3, atol=1e-6)
    back = forecast_frames.write(images, INPUTS, DIFFUSION)
    for name in INPUTS:
        np.testing.assert_allclose(back[name], INPUTS[name], atol=1e-5)
    plain = DIFFUSION.replace(normalization="standard")
    np.testing.assert_array_equal(
        forecast_frames.read(INPUTS, plain)[:, :, 1], INPUTS["b"]
    )


def test_a_field_that_never_changes_is_divided_by_one():
    config = DIFFUSION.replace(lowest=(0.5, -3.0), highest=(0.5, 3.0))
    images = forecast_frames.read(INPUTS, config)
    wanted = INPUTS["a"].isel(level=0) - 0.5
    np.testing.assert_allclose(images[:, :, 0], wanted, atol=1e-6)


def test_values_far_outside_of_the_range_are_refused_at_the_start():
    far = INPUTS.assign(b=INPUTS["b"] + 5)
    with pytest.raises(ValueError, match=r"b: values reach .* at most 1.5 is accepted"):
        forecast_frames.read(far, DIFFUSION, is_start=True)
    wide = DIFFUSION.replace(range_margin=5.0)
    forecast_frames.read(far, wide, is_start=True)
    with pytest.raises(ValueError, match="lowest and highest are not known"):
        forecast_frames.read(INPUTS, DIFFUSION.replace(lowest=(), highest=()))


def test_frames_lie_side_by_side_the_earliest_first():
    model = Halves()
    images = forecast_frames.read(INPUTS, DIFFUSION)
    merged = forecast_network.encode_frames(model, {}, images)
    assert merged.shape == (2, 6, 2, 3)
    np.testing.assert_array_equal(merged[:, 2:4], images[:, 1, :, ::2, ::2])
    apart = forecast_network.to_frames(model, {}, merged, (4, 6))
    np.testing.assert_array_equal(apart, kept(images))


@functools.cache
def denoiser(config=DIFFUSION):
    """Returns the compiled U-Net that is told the noise, and parameters of it."""
    run = hk.without_apply_rng(
        hk.transform(lambda *x: forecast_network.make_denoiser(config)(*x))
    )
    given = (jnp.zeros((2, 2, 3, 5)), jnp.zeros((2, 3, 3, 5)), jnp.zeros(2, jnp.int32))
    shapes = jax.eval_shape(run.init, jax.random.PRNGKey(0), *given)
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: jnp.asarray(0.3 * rng.standard_normal(leaf.shape), jnp.float32),
        shapes,
    )
    return jax.jit(run.apply), params


def test_the_denoiser_sees_noisy_fields_first_then_the_condition():
    run, params = denoiser()
    rng = np.random.default_rng(1)
    noisy = jnp.asarray(rng.standard_normal((2, 2, 3, 5)), jnp.float32)
    past = jnp.asarray(rng.standard_normal((2, 3, 3, 5)), jnp.float32)
    t = jnp.asarray([3, 700])
    found = run(params, noisy, past, t)
    assert found.shape == noisy.shape
    assert np.abs(found - run(params, noisy, past, t[::-1])).max() > 1e-4
    name = "latent_denoiser/network/unet/input"
    weights = params[name]["w"]
    assert weights.shape == (3, 3, 5, 4)
    for hidden, blind in ((slice(2, 5), 1), (slice(0, 2), 0)):
        changed = dict(params[name], w=weights.at[:, :, hidden].set(0))
        given = [noisy, past]
        first = run({**params, name: changed}, *given, t)
        given[blind] = given[blind] + 1
        second = run({**params, name: changed}, *given, t)
        np.testing.assert_array_equal(first, second)
    for number in (0, 1):
        assert params[f"latent_denoiser/time_{number}"]["w"].shape[1] == 16


def test_latent_fields_of_any_size_are_filled_up_and_cut_off():
    config = UNET.replace(depth=3)
    run = hk.without_apply_rng(
        hk.transform(lambda x: forecast_network.LatentUNetNetwork(config)(x, 5))
    )
    x = jnp.zeros((1, 2, 1, 9))
    shapes = jax.eval_shape(run.init, jax.random.PRNGKey(0), x)
    params = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), shapes)
    assert jax.eval_shape(run.apply, params, x).shape == (1, 5, 1, 9)


def test_small_latent_fields_are_filled_up_by_their_last_row_and_column():
    run, params = denoiser()
    rng = np.random.default_rng(2)
    noisy, past = (
        jnp.asarray(rng.standard_normal((2, n, 1, 3)), jnp.float32) for n in (2, 3)
    )
    t = jnp.asarray([3, 700])
    filled = [
        jnp.concatenate([x, x], axis=2) for x in (noisy, past)
    ]  # 1 x 3 to the 2 x 4 that one halving needs
    filled = [jnp.concatenate([x, x[..., -1:]], axis=3) for x in filled]
    wanted = run(params, *filled, t)[:, :, :1, :3]
    np.testing.assert_allclose(run(params, noisy, past, t), wanted, atol=1e-6)


def test_the_published_sizes_have_their_number_of_parameters():
    unet = forecast_config.LatentUNetConfig(channels=1)
    assert (unet.base_channels, unet.depth, unet.vae_batch_size) == (128, 3, 4)
    run = hk.transform(lambda x: forecast_network.LatentUNetNetwork(unet)(x, 4 * 4))
    given = jax.ShapeDtypeStruct((1, 12 * 4, 8, 8), jnp.float32)
    shapes = jax.eval_shape(run.init, jax.random.PRNGKey(0), given)
    # Counted by hand from the blocks of the specification.
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 30_991_888


def test_the_loss_is_of_fields_and_trains_what_is_not_frozen(strict_numerics):
    params = drawn(latent_unet.first_params, UNET)
    run = hk.transform(lambda: latent_unet.LatentUNet(UNET).loss_and_predictions(
        INPUTS, TARGETS, FORCINGS
    ))  # fmt: skip

    def loss(params):
        (found, _), predictions = run.apply(params, None)
        return xarray_jax.unwrap_data(found).mean(), (found, predictions)

    gradient, (found, predictions) = jax.jit(jax.grad(loss, has_aux=True))(params)
    frames, truth = (
        np.asarray(forecast_frames.read(d, UNET)) for d in (predictions, TARGETS)
    )
    np.testing.assert_allclose(
        xarray_jax.unwrap_data(found),
        np.square(frames - truth).mean((1, 2, 3, 4)),
        rtol=1e-4,
    )
    sizes = {}
    for module, held in gradient.items():
        root = module.split("/")[0]
        total = sum(float(jnp.abs(leaf).sum()) for leaf in held.values())
        sizes[root] = sizes.get(root, 0) + total
    assert sizes.pop("vae_encoder") == 0
    assert set(sizes) == {"vae_decoder", "latent_unet", "channel_adapter"}
    assert all(0 < size < np.inf for size in sizes.values())


@pytest.mark.parametrize(
    "make",
    [
        lambda: latent_unet.LatentUNet(UNET),
        pytest.param(
            lambda: latent_diffusion.LatentDiffusion(
                DIFFUSION, sampler=diffusion.SamplerConfig(kind="ddim", steps=2)
            ),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_it_computes_in_bfloat16_and_keeps_float32_parameters(make, strict_numerics):
    params = drawn(latent_diffusion.first_params, DIFFUSION)
    params |= drawn(latent_unet.first_params, UNET)
    run = hk.transform(lambda: casting.Bfloat16Cast(make())(INPUTS, TEMPLATE, FORCINGS))
    narrow = jax.jit(run.apply)(params, jax.random.PRNGKey(0))
    wide = forecast(make, params)
    for name in wide:
        assert narrow[name].dtype == np.float32
        a, b = (np.ravel(data[name].values) for data in (narrow, wide))
        assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > 0.99


def _constant(monkeypatch, value):
    """Puts a function of noisy fields, condition and step in place of the denoiser."""
    monkeypatch.setattr(
        forecast_network, "make_denoiser", lambda config, remat=False: value
    )


@pytest.mark.parametrize("kind", ["ddim", "ddpm", "dpmsolver++", "ancestral"])
@pytest.mark.parametrize("prediction", ["x0", "epsilon", "v"])
def test_samplers_reach_what_a_perfect_denoiser_knows(
    kind, prediction, halves, monkeypatch
):
    schedule = diffusion.make_schedule(SCHEDULE)

    def perfect(noisy, condition, t):
        x0 = condition[:, 2:]  # the last two of three past frames
        if prediction == "x0":
            return x0
        noise = forward.to_noise(schedule, x0, noisy, t, "x0")
        if prediction == "epsilon":
            return noise
        return forward.velocity(schedule, x0, t, noise)

    _constant(monkeypatch, perfect)
    config = DIFFUSION.replace(
        diffusion=diffusion.DiffusionConfig(schedule=SCHEDULE, prediction=prediction),
        sampler=diffusion.SamplerConfig(kind=kind, steps=5),
    )
    found = forecast(lambda: latent_diffusion.LatentDiffusion(config))
    wanted = kept(np.asarray(forecast_frames.read(INPUTS, config)))[:, 1:]
    np.testing.assert_allclose(forecast_frames.read(found, config), wanted, atol=2e-4)


def test_members_depend_on_key_and_number_alone(halves, monkeypatch):
    _constant(monkeypatch, lambda noisy, condition, t: noisy * 0.5)
    config = DIFFUSION.replace(sampler=diffusion.SamplerConfig(kind="ddpm", steps=3))

    def drawn(members, at_once, key=0):
        changed = config.replace(members_at_once=at_once)
        return forecast(
            lambda: latent_diffusion.LatentDiffusion(changed, members=members), key=key
        )

    three = drawn(3, 2)
    assert three["a"].dims == ("sample", *INPUTS["a"].dims)
    two, one, other = drawn(2, 4), drawn(None, 1), drawn(None, 1, key=1)
    np.testing.assert_allclose(two["b"], three["b"][:2], atol=1e-5)
    np.testing.assert_allclose(one["b"], three["b"][0], atol=1e-5)
    values = [np.asarray(three["b"][n]) for n in range(3)] + [np.asarray(other["b"])]
    for first in range(4):
        for second in range(first):
            assert np.abs(values[first] - values[second]).max() > 0.01
    assert np.abs(values[0][0] - values[0][1]).max() > 0.01


@pytest.mark.parametrize("prediction", ["epsilon", "x0", "v"])
def test_the_loss_is_that_of_what_is_predicted(prediction, halves, monkeypatch):
    schedule, seen = diffusion.make_schedule(SCHEDULE), {}

    def blank(noisy, condition, t):
        seen.update(noisy=noisy, t=t)
        return noisy * 0

    _constant(monkeypatch, blank)
    config = DIFFUSION.replace(
        diffusion=diffusion.DiffusionConfig(schedule=SCHEDULE, prediction=prediction)
    )
    run = hk.transform(
        lambda: latent_diffusion.LatentDiffusion(config).loss(INPUTS, TARGETS, FORCINGS)
    )
    loss, parts = run.apply({}, jax.random.PRNGKey(0))
    x0 = forecast_network.encode_frames(
        Halves(), {}, forecast_frames.read(TARGETS, config)
    )
    noise = forward.to_noise(schedule, x0, seen["noisy"], seen["t"], "x0")
    wanted = {"epsilon": noise, "x0": x0}.get(prediction)
    if wanted is None:
        wanted = forward.velocity(schedule, x0, seen["t"], noise)
    np.testing.assert_allclose(loss, np.square(wanted).mean(), rtol=1e-3)
    assert set(parts) == {"simple"}


def _trained(config):
    """Returns the first parts of the paths of parameters that get a gradient."""
    params = drawn(latent_diffusion.first_params, config)
    run = hk.transform(
        lambda: latent_diffusion.LatentDiffusion(config).loss(INPUTS, TARGETS, FORCINGS)
    )

    def loss(params):
        found = run.apply(params, jax.random.PRNGKey(0))[0]
        return xarray_jax.unwrap_data(found).mean()

    gradient = jax.jit(jax.grad(loss))(params)
    return {
        module.split("/")[0]
        for module, held in gradient.items()
        if any(np.any(leaf) for leaf in held.values())
    }


def test_noise_trains_the_denoiser_alone():
    assert _trained(DIFFUSION.replace(reconstruction_weight=0.0)) == {"latent_denoiser"}


@pytest.mark.slow
def test_reconstruction_trains_what_is_not_frozen_of_the_autoencoder():
    assert _trained(DIFFUSION) == {"latent_denoiser", "channel_adapter"}
    decoder = DIFFUSION.replace(freeze_decoder=False)
    assert _trained(decoder) - _trained(DIFFUSION) == {"vae_decoder"}


@pytest.mark.parametrize(
    "denoiser", ["dh_dit", pytest.param("dit", marks=pytest.mark.slow)]
)
def test_transformers_on_tokens_leave_the_encoder_without_a_gradient(denoiser):
    config = DIFFUSION.replace(
        vae_type="rae",
        autoencoder=None,
        representation=codecs.SMALL_RAE,
        freeze_decoder=False,
        denoiser=denoiser,
        dit=latent.DiTConfig(
            hidden_size=8,
            depth=1,
            num_heads=2,
            head_hidden_size=8,
            head_depth=1,
            head_num_heads=2,
        ),
    )
    wanted = {"latent_denoiser", "channel_adapter", "vision_decoder"}
    assert _trained(config) == wanted


@pytest.mark.parametrize(
    ("inputs", "targets", "message"),
    [
        (INPUTS.isel(time=slice(1, None)), TARGETS, "2 frame"),
        (INPUTS[["a"]], TARGETS, "inputs lack b"),
        (INPUTS, TARGETS[["a"]], "b: the autoencoder sees past frames"),
        (INPUTS[["a"]], TARGETS[["a"]], "the data have 1 channel"),
    ],
)
def test_datasets_that_do_not_fit_are_refused(inputs, targets, message):
    with pytest.raises(ValueError, match=message):
        forecast_frames.check(inputs, targets, FORCINGS, None, UNET)


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        (UNET, {"depth": 0}, "depth must be at least 1"),
        (UNET, {"base_channels": 5}, "multiple of the 2 groups"),
        (UNET, {"normalization": "max"}, "neither minmax nor standard"),
        (UNET, {"lowest": (1.0,)}, "a number for each of the 2 channels"),
        (UNET, {"lowest": (9.0, 9.0)}, "finite and in order"),
        (UNET, {"loss_on": "latents"}, "loss_on latents trains no autoencoder"),
        (DIFFUSION, {"members_at_once": 0}, "members_at_once must be at least 1"),
        (DIFFUSION, {"reconstruction_weight": -1.0}, "must not be negative"),
    ],
)
def test_settings_that_do_not_fit_are_refused(kind, changes, message):
    with pytest.raises(ValueError, match=message):
        kind.replace(**changes)


def test_latent_losses_need_a_fixed_autoencoder():
    frozen = {"freeze_encoder": True, "freeze_decoder": True, "loss_on": "latents"}
    with pytest.raises(ValueError, match="between the 2 channels"):
        latent_unet.LatentUNet(UNET.replace(**frozen))
    sizes = SIZES | {"channels": 1, "lowest": (-1.0,), "highest": (1.0,)}
    latent_unet.LatentUNet(forecast_config.LatentUNetConfig(**sizes, **frozen))


def test_several_steps_of_diffusion_are_not_trained():
    run = hk.transform(
        lambda: latent_diffusion.LatentDiffusion(DIFFUSION).loss_and_predictions(
            INPUTS, TARGETS, FORCINGS
        )
    )
    with pytest.raises(ValueError, match="set rollout to 1"):
        run.apply({}, None)
    with pytest.raises(ValueError, match="members must be at least 1"):
        latent_diffusion.LatentDiffusion(DIFFUSION, members=0)
