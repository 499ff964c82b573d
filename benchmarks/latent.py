"""Seconds and memory of autoencoders and latent U-Nets, beside diffusers.

    python benchmarks/latent.py --torch-python PATH [--parts vae unet ...]
    python benchmarks/latent.py --tiled --torch-python PATH

The parts, of published sizes and with one sample each:

  vae        a field of 512 x 512 x 3 encoded and decoded by the autoencoder of Stable
             Diffusion, beside `AutoencoderKL` of diffusers
  unet       the latent U-Net, 12 latent fields of 4 x 64 x 64 in and 4 out
  denoiser   the same told the step of noise, as diffusion models need it
  dinov2     the base encoder of DINOv2 with images of 224 x 224, beside transformers

The U-Nets have no equal there, and stand beside the same network written with the
layers of PyTorch (`plain_latent.py`); `--kinds train` times a training step of them:
squared error, gradient, and an update of AdamW. Both programs have the same random
weights and fields, each runs in a process of its own, and they take turns, so that a
busy machine slows both alike: compare the ratios. The largest difference of outputs is
printed too. Memory is the peak of what a process adds to weights and data.

`--tiled` times the decoding of a field of 721 x 1440 from tiles of 64 x 64 latent
points, ours and that of diffusers. Tiles overlap by a quarter in both, but lie and are
joined in other ways, so there outputs differ.

PyTorch is no dependency: it is taken from the interpreter of `--torch-python`, which
needs torch, diffusers and transformers, and without it only our programs are timed.
"""

import argparse
import functools
import os
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

# A script finds only what lies beside it.
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from benchmarks import turns

CONFIGS = ("small", "published")
KINDS = ("forward", "train")
PARTS = ("vae", "unet", "denoiser", "dinov2")
_U_NETS = ("unet", "denoiser")
_RATE, _DECAY, _BETAS = 1e-3, 0.01, (0.9, 0.999)
_PAST, _FUTURE = 12, 4

# Files have the old names still.
_RENAMED = {
    "attention.attention.query": "attention.q_proj",
    "attention.attention.key": "attention.k_proj",
    "attention.attention.value": "attention.v_proj",
    "attention.output.dense": "attention.o_proj",
}

Step = Callable[[], Any]


def main() -> None:
    """Starts the processes, lets them take turns, prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--config", choices=CONFIGS, default="published")
    parser.add_argument(
        "--kinds", nargs="+", choices=KINDS, default=["forward"], help="of the U-Nets"
    )
    parser.add_argument("--threads", type=int, help="cores of each; default: all")
    parser.add_argument("--tiled", action="store_true", help="decode a large field")
    parser.add_argument("--side", type=int, help="points along a side, of vae only")
    turns.add_options(parser)
    options = parser.parse_args()
    if options.worker:
        turns.serve(options.worker, {"weatherlib": _our_step, "torch": _torch_step})
        return
    cores = options.threads or len(os.sched_getaffinity(0))
    print(f"{options.config}, float32, {cores} core(s)")
    print(turns.HEAD)
    common = {"config": options.config, "threads": options.threads}
    chosen = ("tiled",) if options.tiled else options.parts
    for part in chosen:
        for kind in options.kinds if part in _U_NETS else ("forward",):
            job = {**common, **_job(part, options), "kind": kind}
            turns.compare("benchmarks.latent", job, f"{part} {kind}", options)


def _sizes(part: str, config: str) -> Any:
    """Returns the configuration of a network."""
    is_small = config == "small"
    if part in ("vae", "tiled"):
        from weatherlib.nn import autoencoder_config

        if not is_small:
            return autoencoder_config.SD_VAE
        return autoencoder_config.AutoencoderConfig(
            block_out_channels=(16, 16, 32, 32), norm_num_groups=8, sample_size=64
        )
    if part == "dinov2":
        from weatherlib.latent import published

        found = published.encoder_sizes("facebook/dinov2-base")
        small = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
        return found.replace(**small, intermediate_size=256) if is_small else found
    from weatherlib.latent import forecast_config

    kind = {
        "unet": forecast_config.LatentUNetConfig,
        "denoiser": forecast_config.LatentDiffusionConfig,
    }[part]
    return kind(channels=3, base_channels=16) if is_small else kind(channels=3)


def _job(part: str, options: argparse.Namespace) -> dict[str, Any]:
    """Returns what a worker needs to know, as JSON holds it."""
    config = options.config
    sizes = _sizes(part, config)
    job: dict[str, Any] = {"part": part}
    if part in ("vae", "tiled"):
        from weatherlib.weights import autoencoder_kl

        side = options.side or sizes.sample_size
        shape = [1, 3, side, side]
        if part == "tiled":
            shape = [1, 4, 91, 180] if config == "published" else [1, 4, 12, 20]
        levels, widths = len(sizes.block_out_channels), sizes.block_out_channels
        settings = {
            "block_out_channels": list(widths),
            "down_block_types": ["DownEncoderBlock2D"] * levels,
            "up_block_types": ["UpDecoderBlock2D"] * levels,
            "layers_per_block": sizes.layers_per_block,
            "norm_num_groups": sizes.norm_num_groups,
            "latent_channels": sizes.latent_channels,
            "sample_size": sizes.sample_size,
        }
        shapes = autoencoder_kl.map_of(sizes).source_shapes
        return job | {"shape": shape, "settings": settings, "weights": shapes}
    if part == "dinov2":
        from weatherlib.weights import vision_names

        names = ("hidden_size", "num_hidden_layers", "num_attention_heads")
        settings = {name: sizes[name] for name in names} | {
            "image_size": sizes.image_size,
            "patch_size": sizes.patch_size,
            "mlp_ratio": sizes.intermediate_size // sizes.hidden_size,
        }
        shapes = vision_names.encoder_map(sizes).source_shapes
        return job | {
            "shape": [1, 3, 224, 224],
            "settings": settings,
            "weights": shapes,
        }
    side = 16 if config == "small" else 64
    settings = {"base": sizes.base_channels, "depth": sizes.depth}
    job |= {"side": side, "settings": settings}
    return job | {"weights": _shapes_of_network(part, sizes, job)}


def _shapes_of_network(part: str, sizes: Any, job: dict[str, Any]) -> dict[str, Any]:
    """Returns the shapes of a U-Net's parameters, by path and name."""
    import haiku as hk
    import jax

    init = hk.transform(_network(part, sizes)).init
    found = jax.eval_shape(init, jax.random.key(0), *_data(job)[:-1])
    return {f"{m}/{n}": a.shape for m, held in found.items() for n, a in held.items()}


def _network(part: str, sizes: Any) -> Callable[..., Any]:
    """Returns a U-Net as a function of arrays, to be transformed."""
    from weatherlib.latent import forecast_network

    if part == "unet":
        return lambda x: forecast_network.LatentUNetNetwork(sizes)(x, 4 * _FUTURE)
    return lambda *given: forecast_network.make_denoiser(sizes)(*given)


def _weights(job: dict[str, Any]) -> dict[str, np.ndarray]:
    """Returns random weights, alike in each process."""
    rng = np.random.default_rng(0)
    ours = job["part"] in _U_NETS  # Inputs are second to last of ours, not of theirs.
    found = {}
    for name, shape in job["weights"].items():
        values = rng.standard_normal(shape, np.float32)
        if len(shape) > 1:
            inputs = np.prod(shape[:-1] if ours else shape[1:])
            found[name] = values / np.float32(np.sqrt(inputs))
        else:
            # Of the vectors, only scales are about 1.
            is_scale = name.endswith(("weight", "scale", "lambda1"))
            found[name] = np.float32(0.02) * values + np.float32(is_scale)
    return found


def _data(job: dict[str, Any]) -> tuple[np.ndarray, ...]:
    """Returns what a network is given, and for U-Nets what it should predict."""
    rng = np.random.default_rng(1)
    if job["part"] not in _U_NETS:
        return (rng.uniform(-1, 1, job["shape"]).astype(np.float32),)
    side = job["side"]
    past, noisy, wanted = (
        rng.standard_normal((1, 4 * frames, side, side), np.float32)
        for frames in (_PAST, _FUTURE, _FUTURE)
    )
    if job["part"] == "unet":
        return past, wanted
    return noisy, past, np.array([500], np.int32), wanted


def _our_step(job: dict[str, Any]) -> Callable[[], Step]:
    """Returns what compiles our step; weights and data are on the device by then."""
    import haiku as hk
    import jax

    sizes = _sizes(job["part"], job["config"])
    if job["part"] in _U_NETS:
        params: dict[str, dict[str, Any]] = {}
        for path, value in _weights(job).items():
            module, name = path.rsplit("/", 1)
            params.setdefault(module, {})[name] = value
        network = hk.transform(_network(job["part"], sizes))
        apply = hk.without_apply_rng(network).apply
    else:
        apply, params = _our_coder(job, sizes)
    params, *data = jax.device_put((params, *_data(job)))
    if job["kind"] == "train":
        # Only the list may keep parameters that are given away.
        held = [params]
        del params
        return _our_training(apply, held, tuple(data))
    if job["part"] in _U_NETS:
        data = data[:-1]

    def forward() -> Step:
        compiled = jax.jit(apply).lower(params, *data).compile()
        return lambda: np.asarray(compiled(params, *data))

    return forward


def _our_coder(job: dict[str, Any], sizes: Any) -> tuple[Callable[..., Any], Any]:
    """Returns an autoencoder or encoder as a function, and its parameters."""
    import haiku as hk
    import jax.numpy as jnp

    if job["part"] == "dinov2":
        from weatherlib import latent
        from weatherlib.weights import vision_names

        run = hk.transform(lambda x: latent.Encoder(sizes)(x).tokens)
        params = vision_names.encoder_map(sizes).to_params(_weights(job))
        return hk.without_apply_rng(run).apply, params
    from weatherlib.nn import autoencoder, tiling
    from weatherlib.weights import autoencoder_kl

    tiles = None
    if job["part"] == "tiled":
        size = sizes.sample_size // sizes.reduction
        tiles = tiling.Tiles(size=size, overlap=size // 4)
    model = autoencoder.Autoencoder(sizes=sizes, batch_size=1, tiles=tiles)
    params = autoencoder_kl.map_of(sizes).to_params(_weights(job))

    def run_both(params: Any, fields: Any) -> Any:
        fields = jnp.moveaxis(fields, 1, -1)
        latents = fields
        if job["part"] == "vae":
            latents = model.encode(params, fields).mode()
        return jnp.moveaxis(model.decode(params, latents), -1, 1)

    return run_both, params


def _our_training(
    apply: Any, held: list[Any], data: tuple[Any, ...]
) -> Callable[[], Step]:
    import jax
    import optax

    optimizer = optax.adamw(_RATE, *_BETAS, weight_decay=_DECAY)
    held.append(jax.jit(optimizer.init)(held[0]))

    def loss(params: Any, *data: Any) -> Any:
        return ((apply(params, *data[:-1]) - data[-1]) ** 2).mean()

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def update(params: Any, moments: Any, *data: Any) -> Any:
        value, gradient = jax.value_and_grad(loss)(params, *data)
        changes, moments = optimizer.update(gradient, moments, params)
        return optax.apply_updates(params, changes), moments, value

    return turns.our_training(update, held, data)


def _torch_step(job: dict[str, Any]) -> Callable[[], Step]:
    """Returns what makes the step of PyTorch, diffusers or transformers."""
    import torch
    from torch.nn import functional

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    model, call = _their_model(job)
    data = tuple(map(torch.from_numpy, _data(job)))

    def forward() -> Step:
        def step() -> np.ndarray:
            with torch.inference_mode():
                return call(*data).numpy()

        return step

    def train() -> Step:
        optimizer = torch.optim.AdamW(
            model.parameters(), _RATE, betas=_BETAS, weight_decay=_DECAY
        )

        def step() -> float:
            optimizer.zero_grad()
            loss = functional.mse_loss(model(*data[:-1]), data[-1])
            loss.backward()
            optimizer.step()
            return float(loss.detach())

        return step

    return train if job["kind"] == "train" else forward


def _their_model(job: dict[str, Any]) -> tuple[Any, Callable[..., Any]]:
    """Returns the network with its weights, and what calls it."""
    import torch

    settings, part = job["settings"], job["part"]
    if part in _U_NETS:
        from benchmarks import plain_latent

        kind = plain_latent.LatentUNet if part == "unet" else plain_latent.TimeUNet
        frames = _PAST if part == "unet" else _PAST + _FUTURE
        model = kind(4 * frames, 4 * _FUTURE, settings["base"], settings["depth"])
        model.load_state_dict(plain_latent.state_dict(_weights(job)), strict=True)
        return model, lambda *given: model(*given[:-1])
    if part == "dinov2":
        import transformers

        made = transformers.Dinov2Config(**settings)
        model = transformers.Dinov2Model(made).eval()
    else:
        import diffusers

        model = diffusers.AutoencoderKL(**settings).eval()
        if part == "tiled":
            model.enable_tiling()
    weights = {name: torch.from_numpy(w) for name, w in _weights(job).items()}
    wanted = set(model.state_dict())
    weights = {n if n in wanted else _of_today(n): w for n, w in weights.items()}
    model.load_state_dict(weights, strict=True)
    if part == "dinov2":
        return model, lambda x: model(x).last_hidden_state
    if part == "tiled":
        return model, lambda x: model.decode(x).sample
    return model, lambda x: model.decode(model.encode(x).latent_dist.mode()).sample


def _of_today(name: str) -> str:
    """Returns the name that transformers has from version 5 on inside of a model."""
    for old, new in _RENAMED.items():
        name = name.replace(old, new)
    return name


if __name__ == "__main__":
    main()
