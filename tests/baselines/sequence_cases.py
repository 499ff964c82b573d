"""Small networks on sequences and tokens, and what they are called with."""

import functools

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from weatherlib.baselines import (
    fields,
    sequence_config,
    sequence_network,
    weather_transformer_config,
    weather_transformer_network,
)
from weatherlib.nn import edges

ROWS, COLUMNS, OUTPUTS = 4, 6, 2
LENGTHS = {"input_length": 3, "output_length": 2}
_ATTENTION = {"d_model": 8, "nhead": 2}
SIZES = {
    "LSTM": {"hidden_size": 5, "num_layers": 2},
    "BidirectionalLSTM": {"hidden_size": 3, "num_layers": 2},
    "LSTMSeq2Seq": {"hidden_size": 5, "num_layers": 2},
    "Transformer": {**_ATTENTION, "num_layers": 2},
    "TransformerSeq2Seq": {
        **_ATTENTION,
        "num_encoder_layers": 1,
        "num_decoder_layers": 2,
    },
    "SpatialTransformer": {**_ATTENTION, "num_layers": 1},
    "WeatherTransformer": {
        "d_model": 8,
        "n_heads": 2,
        "n_layers": 1,
        "decoder_layers": 2,
        "patch_size": (2, 3),
    },
}
NAMES = tuple(SIZES)


def config_class(name):
    """Returns the class of a network's configuration."""
    family = (
        weather_transformer_config if name == "WeatherTransformer" else sequence_config
    )
    return getattr(family, f"{name}Config")


def network_class(name):
    """Returns the class of a network."""
    family = (
        weather_transformer_network
        if name == "WeatherTransformer"
        else sequence_network
    )
    return getattr(family, f"{name}Network")


def small(name, **changes):
    """Returns a small configuration, without dropout."""
    sizes = {"dropout": 0.0, **LENGTHS, **SIZES[name], **changes}
    return config_class(name)(**sizes)


def transform(config, name, *, training=False, remat=False, outputs=OUTPUTS):
    """Returns a network as a function of frames, known and static fields."""

    def run(frames, known, static):
        network = network_class(name)(config, remat=remat)
        seen = fields.Fields(frames, known, static)
        return network(seen, edges.ZERO, outputs, training)

    return hk.transform(run)


def draw(config, *, rows=ROWS, columns=COLUMNS, channels=OUTPUTS, known=0, static=0):
    """Returns frames, known and static fields of a batch of two."""
    rng = np.random.default_rng(0)
    shapes = (
        (2, config.input_length, rows, columns, channels),
        (2, config.output_length, rows, columns, known),
        (2, rows, columns, static),
    )
    return tuple(jnp.asarray(rng.standard_normal(s), jnp.float32) for s in shapes)


@functools.cache
def shapes(name, rows=ROWS, columns=COLUMNS, full=False, outputs=OUTPUTS, **channels):
    """Returns the shapes of a network's parameters, computing nothing."""
    config = config_class(name)() if full else small(name)
    run = transform(config, name, outputs=outputs)
    given = draw(config, rows=rows, columns=columns, **channels)
    made = jax.eval_shape(run.init, jax.random.PRNGKey(0), *given)
    return {m: {n: a.shape for n, a in v.items()} for m, v in made.items()}


def count(made):
    """Returns the number of parameters of some shapes."""
    return sum(int(np.prod(s)) for entries in made.values() for s in entries.values())


def noisy(made, seed=1):
    """Returns parameters of some shapes, none of them zero or one."""
    rng = np.random.default_rng(seed)
    return {
        module: {
            name: jnp.asarray(
                0.4 * rng.standard_normal(shape) + (name == "scale"), jnp.float32
            )
            for name, shape in entries.items()
        }
        for module, entries in made.items()
    }
