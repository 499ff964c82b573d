"""Small encoders and decoders, with parameters away from their first values."""

import functools

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from weatherlib.latent import config, decoder, encoder, shapes

TINY = config.EncoderConfig(
    hidden_size=8,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=12,
    patch_size=4,
    image_size=12,
)
ENCODERS = {
    "dinov2": TINY.replace(use_mask_token=True),
    "registers": TINY.replace(num_register_tokens=2, use_mask_token=True),
    "giant": TINY.replace(use_swiglu_ffn=True),
    "timm": TINY.replace(layout="timm", num_register_tokens=2, class_position=False),
    "siglip": TINY.replace(layout="siglip", pooling_head=True),
    "siglip2": TINY.replace(layout="siglip2", pooling_head=True),
    "mae": TINY.replace(layout="mae", layer_norm_eps=1e-12),
}
DECODER = config.DecoderConfig(
    hidden_size=8,
    decoder_hidden_size=8,
    decoder_num_hidden_layers=1,
    decoder_num_attention_heads=2,
    decoder_intermediate_size=12,
    patch_size=2,
    grid=(2, 3),
)


@functools.cache
def run_encoder(sizes):
    """Returns the compiled encoder: a function of parameters and images."""
    run = hk.transform(lambda x: encoder.Encoder(sizes)(x))
    return jax.jit(hk.without_apply_rng(run).apply)


@functools.cache
def run_decoder(sizes):
    """Returns the compiled decoder: a function of parameters and tokens."""
    run = hk.transform(lambda x: decoder.Decoder(sizes)(x))
    return jax.jit(hk.without_apply_rng(run).apply)


def drawn(table, seed=0, dtype=jnp.float32):
    """Returns random parameters of the names and shapes of a table."""
    rng = np.random.default_rng(seed)
    return {
        module: {
            name: jnp.asarray(0.3 * rng.standard_normal(shape), dtype)
            for name, shape in held.items()
        }
        for module, held in table.items()
    }


def encoder_params(sizes, **options):
    """Returns random parameters of an encoder."""
    return drawn(shapes.encoder_shapes(sizes), **options)


def decoder_params(sizes, **options):
    """Returns random parameters of a decoder."""
    return drawn(shapes.decoder_shapes(sizes), **options)


def images(rows=8, columns=12, batch=2, channels=3):
    """Returns random images."""
    rng = np.random.default_rng(1)
    found = rng.standard_normal((batch, channels, rows, columns))
    return jnp.asarray(found, jnp.float32)
