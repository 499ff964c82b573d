"""Vision encoders that models are built on: found, read, drawn, and told apart."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import numpy as np

from weatherlib import checkpoint, hub, latent
from weatherlib.latent.config import ENCODER, EncoderConfig

__all__ = [
    "Backbone",
    "draw",
    "find_folder",
    "find_sizes",
    "is_part",
    "read",
]

Params = dict[str, dict[str, Any]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Backbone:
    """An encoder.

    Attributes:
      params: By path, float32.
      sizes: Its sizes.
      folder: Where it was read; empty for a random one.
      digest: Tells its weights from others.
    """

    params: Params
    sizes: EncoderConfig
    folder: str
    digest: str


def find_folder(name: str, label: str = "backbone") -> pathlib.Path:
    """Returns the folder of weights that somebody means.

    Args:
      name: A folder, the name of published weights that were fetched, or the name by
        which their publisher calls them.
      label: Setting or flag, for messages.

    Raises:
      FileNotFoundError: There is none, or the weights were not fetched.
    """
    path = pathlib.Path(name)
    if path.is_dir():
        return path
    entry = hub.entries().get(name) or _published_as(name)
    if entry is None:
        known = name in latent.ENCODERS
        more = (
            "; the sizes of that encoder are known, but not where its weights are"
            if known
            else ""
        )
        raise FileNotFoundError(
            f"{label}: there is no folder {name!r} with config.json and weights{more}. "
            "weatherlib weights list names published ones"
        )
    if not hub.is_fetched(entry):
        raise FileNotFoundError(
            f"{label}: {entry.name} was not fetched yet; run: weatherlib weights fetch "
            f"{entry.name} --yes"
        )
    return hub.path_of(entry)


def find_sizes(name: str, label: str = "backbone") -> EncoderConfig:
    """Returns the sizes of an encoder, without its weights.

    Args:
      name: As for `find_folder`, or a name of `latent.ENCODERS`.
      label: Setting or flag, for messages.

    Raises:
      FileNotFoundError: There is no such encoder.
      ValueError: A `config.json` describes something else.
    """
    from weatherlib.latent import published
    from weatherlib.weights import vision

    if not pathlib.Path(name).is_dir():
        try:
            return published.encoder_sizes(name)
        except ValueError:
            pass
    return vision.encoder_sizes_of_folder(find_folder(name, label))


def read(name: str, label: str = "backbone") -> Backbone:
    """Returns an encoder with its weights.

    Args:
      name: As for `find_folder`.
      label: Setting or flag, for messages.

    Raises:
      FileNotFoundError: There is none, or a file of it is missing.
      OSError: A file cannot be read.
      ValueError: The folder holds another model, or not all of it.
    """
    from weatherlib.weights import vision

    folder = find_folder(name, label)
    loaded = vision.load_encoder(folder)
    params = {
        module: {n: np.asarray(a, np.float32) for n, a in held.items()}
        for module, held in loaded.params.items()
    }
    return Backbone(
        params=params,
        sizes=loaded.config,
        folder=str(folder.resolve()),
        digest=checkpoint.digest(params),
    )


def draw(sizes: EncoderConfig) -> Backbone:
    """Returns an encoder with weights as training would begin with, always the same."""
    import haiku as hk
    import jax
    import jax.numpy as jnp

    # The table of positions needs one image of any size.
    images = jnp.zeros((1, sizes.num_channels, sizes.patch_size, sizes.patch_size))
    run = hk.transform(lambda x: latent.Encoder(sizes)(x))
    options = {"xla_backend_optimization_level": 0}
    params = jax.jit(run.init, compiler_options=options)(jax.random.PRNGKey(0), images)
    held = {m: dict(v) for m, v in jax.device_get(params).items()}
    return Backbone(params=held, sizes=sizes, folder="", digest=checkpoint.digest(held))


def is_part(module: str) -> bool:
    """Whether a module is one of an encoder."""
    return module.split("/")[0] == ENCODER


def _published_as(name: str) -> hub.Entry | None:
    """Returns the entry whose publisher calls it by a name."""
    short = name.removeprefix("timm/").split(".")[0] if "vit_" in name else name
    for entry in hub.entries().values():
        for file in entry.files:
            parts = file.url.split("/")
            if "/".join(parts[3:5]) == name or (
                len(parts) > 4 and parts[4].split(".")[0] == short
            ):
                return entry
    return None
