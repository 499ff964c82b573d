"""Networks of PreDiff as jitted functions, and weights for them."""

import functools

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from tests.prediff import published
from weatherlib.prediff import alignment, network
from weatherlib.prediff import published as settings
from weatherlib.prediff.config import EarthformerUNetConfig
from weatherlib.weights import flat, prediff_names


def make(sizes, training=False, **options):
    """Returns a network as a function of its inputs."""

    def run(*inputs):
        is_unet = isinstance(sizes, EarthformerUNetConfig)
        kind = network.EarthformerUNet if is_unet else alignment.AlignmentNetwork
        return kind(sizes, **options)(*inputs, is_training=training)

    transformed = hk.transform(run)
    return hk.Transformed(jax.jit(transformed.init), jax.jit(transformed.apply))


def inputs_of(sizes, batch=2, dtype="f4", seed=0):
    """Returns random inputs of a network."""
    rng = np.random.default_rng(seed)
    draw = lambda shape: jnp.asarray(rng.standard_normal((batch, *shape)), dtype)  # noqa: E731
    steps = jnp.asarray(rng.integers(0, 1000, batch))
    if isinstance(sizes, EarthformerUNetConfig):
        return draw(sizes.target_shape), steps, draw(sizes.input_shape)
    return draw(sizes.input_shape), steps


def shapes_of(tree):
    return {m: {n: a.shape for n, a in entries.items()} for m, entries in tree.items()}


def named_shapes(sizes):
    """Returns the shapes of parameters by the map of published names."""
    found = {}
    for (module, name), shape in prediff_names.map_of(sizes).shapes.items():
        found.setdefault(module, {})[name] = shape
    return found


def sources(sizes, seed=1):
    """Returns random published weights, of a size that keeps numbers near 1."""
    rng = np.random.default_rng(seed)
    found = {}
    for name, shape in prediff_names.map_of(sizes).source_shapes.items():
        spread = 0.5 * np.prod(shape[1:]) ** -0.5 if len(shape) > 1 else 0.2
        draw = rng.standard_normal(shape) * spread
        is_norm = len(shape) == 1 and name.endswith("weight")
        found[name] = (draw + is_norm).astype(np.float32)
    return found


def params_of(sizes, arrays):
    return prediff_names.map_of(sizes).to_params(arrays)


@functools.cache
def golden(name):
    """Returns sizes, published weights and case of a golden network."""
    case = published.listed("config")[name]
    if name.startswith("unet"):
        sizes = settings.unet_from_published(case)
    else:
        sizes = settings.alignment_from_published(case)
    path = published.FOLDER / f"{name}.pt"
    if not path.exists():
        path = path.with_name(f"{name}_weights.npz")
    arrays = dict(flat.read(path).arrays)
    for index in prediff_names.index_buffers(sizes):
        del arrays[index]
    return sizes, arrays, published.arrays(f"{name}_case")
