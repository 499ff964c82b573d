"""Small autoencoders of frames behind the common interface."""

import jax
import jax.numpy as jnp
import numpy as np

from weatherlib.latent import codec, codec_config, config
from weatherlib.nn import autoencoder_config

SMALL_VAE = autoencoder_config.AutoencoderConfig(
    block_out_channels=(4, 8), layers_per_block=1, norm_num_groups=2
)
SMALL_RAE = config.RepresentationConfig(
    encoder=config.EncoderConfig(
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=12,
        patch_size=4,
        image_size=12,
    ),
    decoder=config.DecoderConfig(
        hidden_size=8,
        decoder_hidden_size=8,
        decoder_num_hidden_layers=1,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=12,
        patch_size=2,
        grid=(2, 2),
    ),
    input_size=(8, 8),
)
SIZES = {
    "sd": {"vae_type": "sd", "autoencoder": SMALL_VAE},
    "rae": {"vae_type": "rae", "representation": SMALL_RAE},
}


def small(kind="sd", channels=3, **changes):
    """Returns the settings of a small autoencoder."""
    settings = SIZES[kind] | {"channels": channels} | changes
    return codec_config.CodecConfig(**settings)


def drawn(model, seed=0, dtype=jnp.float32):
    """Returns random parameters, none of them zero."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(model.init, jax.random.key(0))

    def one(leaf):
        return jnp.asarray(0.3 * rng.standard_normal(leaf.shape), dtype)

    return jax.tree.map(one, shapes)


def images(batch=5, channels=3, rows=8, columns=12):
    """Returns random frames in [-1, 1]."""
    rng = np.random.default_rng(1)
    found = rng.uniform(-1, 1, (batch, channels, rows, columns))
    return jnp.asarray(found, jnp.float32)


def made(settings):
    """Returns an autoencoder and random parameters of it."""
    model = codec.make(settings)
    return model, drawn(model)
