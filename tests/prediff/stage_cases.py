"""The stages of PreDiff at their smallest, and moving rain for them."""

import functools

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr

from weatherlib import checkpoint, diffusion, task, training
from weatherlib.nn import autoencoder_config, gaussians
from weatherlib.prediff import (
    alignment_predictor,
    autoencoder_predictor,
    latent_diffusion,
    latent_space,
    predictor,
    stage_config,
    stages,
)
from weatherlib.prediff.config import AlignmentConfig, EarthformerUNetConfig
from weatherlib.training import wrapping

SIDE, PAST, AHEAD = 8, 3, 2
TASK = task.TaskConfig(
    input_variables=("vil",),
    target_variables=("vil",),
    forcing_variables=(),
    pressure_levels=(),
    input_duration="15min",
)
CODER = autoencoder_config.AutoencoderConfig(
    in_channels=1,
    out_channels=1,
    latent_channels=2,
    block_out_channels=(4,),
    layers_per_block=1,
    norm_num_groups=2,
    mid_block_add_attention=False,
)
AUTOENCODER = stage_config.PreDiffAutoencoderConfig(
    autoencoder=CODER,
    output_length=AHEAD,
    discriminator=stage_config.DiscriminatorConfig(width=4, layers=1, groups=2),
)
SMALL = {
    "base_units": 4, "depth": (1,), "num_heads": 1,
    "block_cuboid_size": ((5, 8, 8),), "block_cuboid_strategy": (("l", "l", "l"),),
    "block_cuboid_shift_size": ((0, 0, 0),), "time_embed_use_scale_shift_norm": True,
}  # fmt: skip
NOISE = diffusion.DiffusionConfig(
    schedule=diffusion.ScheduleConfig(
        kind="scaled_linear", steps=20, start=1e-3, end=0.3
    ),
    learn_log_variance=True,
)
DENOISER = stage_config.PreDiffConfig(
    denoiser=EarthformerUNetConfig(
        input_shape=(PAST, 8, 8, 2), target_shape=(AHEAD, 8, 8, 2), **SMALL
    ),
    latent=CODER,
    diffusion=NOISE,
    digest="as made here",
    sampler=diffusion.SamplerConfig(steps=3),
)
ALIGNMENT = stage_config.PreDiffAlignmentConfig(
    network=AlignmentConfig(input_shape=(AHEAD, 8, 8, 2), **SMALL),
    latent=CODER,
    diffusion=NOISE,
    digest="as made here",
)
KEY = jax.random.PRNGKey(0)

_PREDICTORS = {
    stage_config.PreDiffAutoencoderConfig: autoencoder_predictor.AutoencoderPredictor,
    stage_config.PreDiffConfig: predictor.PreDiff,
    stage_config.PreDiffAlignmentConfig: alignment_predictor.AlignmentPredictor,
}


def pixels(batch=2, frames=PAST + AHEAD, seed=0):
    """Returns cells of rain that move, [batch, time, lat, lon], from 0 to 255."""
    rng = np.random.default_rng(seed)
    place = rng.uniform(0, SIDE, (2, batch, 1, 1, 1))
    speed = rng.uniform(-1, 1, (2, batch, 1, 1, 1))
    time = np.arange(frames)[None, :, None, None]
    rows, columns = np.mgrid[:SIDE, :SIDE]
    off = [
        (axis - place[i] - speed[i] * time + SIDE / 2) % SIDE - SIDE / 2
        for i, axis in enumerate((rows, columns))
    ]
    rain = 255 * np.exp(-(off[0] ** 2 + off[1] ** 2) / 6)
    return rain.astype(np.float32)


def sample(batch=2, *, past=PAST, ahead=AHEAD, seed=0):
    """Returns inputs, targets and forcings."""
    values = pixels(batch, past + ahead, seed)
    lead = (np.arange(past + ahead) - past + 1) * np.timedelta64(300, "s")
    lead = lead.astype("timedelta64[ns]")
    place = np.arange(SIDE, dtype=np.float32)

    def part(frames):
        return xr.Dataset(
            {"vil": (("batch", "time", "lat", "lon"), values[:, frames])},
            coords={"time": lead[frames], "lat": place[::-1], "lon": place},
        )

    inputs, targets = part(slice(past)), part(slice(past, None))
    return inputs, targets, targets.drop_vars("vil")


def make(config, **options):
    """Returns the predictor of a stage."""
    return _PREDICTORS[type(config)](config, TASK, **options)


@functools.cache
def objective(config, precision="float32", is_training=True):
    """Returns loss and forecast as training has them."""
    return training.Objective(
        lambda: wrapping.wrap(
            make(config),
            {},
            training.config.WrapperConfig(),
            loss=training.LossConfig(),
            precision=precision,
            is_training=is_training,
        )
    )


@functools.cache
def params(config):
    """Returns parameters that are not zero, without compiling an initialisation."""
    shapes, _ = objective(config).shapes(sample())
    rng = np.random.default_rng(1)

    def draw(name, like):
        spread = np.prod(like.shape[:-1]) ** -0.5 if len(like.shape) > 1 else 0.1
        values = spread * rng.standard_normal(like.shape) + (name == "scale")
        return jnp.asarray(values, like.dtype)

    return {m: {n: draw(n, v) for n, v in held.items()} for m, held in shapes.items()}


@functools.cache
def gradient(config, is_training=True):
    """Returns a jitted loss with its gradient."""
    made = objective(config, is_training=is_training)
    found = jax.value_and_grad(made.loss, has_aux=True)
    return jax.jit(lambda *arguments, **options: found(*arguments, **options))


@functools.cache
def forecast(config, **options):
    """Returns a jitted function of parameters, key and data."""

    def run(inputs, targets, forcings):
        return make(config, **options)(inputs, targets, forcings)

    return jax.jit(hk.transform(run).apply)


def roots(tree):
    """Returns the first parts of paths."""
    return {module.split("/")[0] for module in tree}


def largest(tree, root):
    """Returns the largest magnitude below a root."""
    held = [v for m, v in tree.items() if m.split("/")[0] == root]
    return max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(held))


def save(path, config, weights, architecture, task_config=TASK, extras=None):
    """Writes the published file of a stage."""
    kinds = {
        stage_config.PREDIFF_AUTOENCODER: stage_config.AutoencoderCheckPoint,
        stage_config.PREDIFF_DENOISER: stage_config.PreDiffCheckPoint,
        stage_config.PREDIFF_ALIGNMENT: stage_config.AlignmentCheckPoint,
    }
    value = kinds[architecture](
        architecture=architecture,
        params=stages.published(architecture, jax.device_get(weights)),
        model_config=config,
        task_config=task_config,
        description="",
        license="",
    )
    checkpoint.save(path, value, extras)
    return path


def lowered(compute, weights, *, updates, rate, **options):
    """Whether updates lower the loss of one key on one batch by a tenth or more."""
    data = sample()
    optimizer = optax.adam(rate)
    state = optimizer.init(weights)

    @jax.jit
    def change(found, state, weights):
        changes, state = optimizer.update(found, state)
        return optax.apply_updates(weights, changes), state

    losses = []
    for _ in range(updates):
        (loss, _), found = compute(weights, {}, KEY, data, **options)
        weights, state = change(found, state, weights)
        losses.append(float(loss))
    return losses[-1] < losses[0] - 0.1 * abs(losses[0])


def toy_model(config, **options):
    """Returns functions without networks: futures are the last frame, and noise."""
    del options
    channels = config.sizes.latent_channels

    def encode(params, frames):
        del params
        mean = jnp.repeat(frames, channels, -1)
        return gaussians.DiagonalGaussian(mean, jnp.full_like(mean, -9.0))

    def decode(params, latents):
        del params
        return latents.mean(-1, keepdims=True)

    def denoise(params, noisy, t, context, key):
        del params, key
        schedule = model.schedule
        left = diffusion.forward.lookup(schedule.alphas_cumprod, t, noisy)
        mean = jnp.broadcast_to(context[:, -1:], noisy.shape)
        gain = jnp.sqrt(left) * 0.04 / (left * 0.04 + 1 - left)
        x0 = mean + gain * (noisy - jnp.sqrt(left) * mean)
        return diffusion.forward.to_noise(schedule, x0, noisy, t, "x0")

    model = latent_diffusion.LatentDiffusion(
        settings=config.diffusion,
        space=latent_space.LatentSpace(encode=encode, decode=decode),
        denoise=denoise,
    )
    return model
