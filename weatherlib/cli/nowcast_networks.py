"""The networks of a published configuration of PreDiff as settings of our own."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

from weatherlib import config as configs
from weatherlib.cli.nowcast_keys import Published
from weatherlib.diffusion import schedules
from weatherlib.prediff import published as sizes

__all__ = [
    "LATENT_LIMIT",
    "STAGES",
    "autoencoder_path",
    "autoencoder_sizes",
    "frames_of",
    "model_settings",
    "output_of",
]

STAGES: dict[str, str] = {
    "autoencoder": "prediff_autoencoder",
    "denoiser": "prediff",
    "alignment": "prediff_alignment",
    "convlstm": "convlstm",
}
"""What can be trained, and its family."""

_KNOWN = ("layout.in_len", "layout.t_in", "data.in_len")
_FOLLOWING = ("layout.out_len", "layout.t_out", "data.out_len")
_CODER_SIZES = (
    *("in_channels", "out_channels", "latent_channels", "block_out_channels"),
    *("layers_per_block", "norm_num_groups", "act_fn"),
)
_PREDICTIONS = {"eps": "epsilon", "x0": "x0", "v": "v"}
LATENT_LIMIT = 1.0
"""Largest magnitude of predicted latent fields where `clip_denoised` asks for it."""


def frames_of(given: Published, stage: str) -> tuple[int, int]:
    """Returns how many frames are known, and how many follow.

    None are known in the original file of the autoencoder, whose samples are frames.

    Raises:
      ValueError: Sections disagree, or the stage needs a past and has none.
    """
    single = given.is_of_autoencoder
    inputs = given.number_of(*_KNOWN, default=0 if single else 7)
    targets = given.number_of(*_FOLLOWING, default=1 if single else 6)
    if not inputs and stage != "autoencoder":
        place = next(n for n in _KNOWN if given.get(n) == 0)
        raise ValueError(
            f"{given.place(place)} 0: only an autoencoder is trained on frames without "
            f"a past, and the stage is {stage}; give --stage autoencoder"
        )
    return inputs, targets


def output_of(given: Published, stage: str) -> pathlib.Path:
    """Returns the folder of a stage's results."""
    return pathlib.Path(given.get("summary.summary_dir", "runs/prediff")) / stage


def autoencoder_path(given: Published) -> pathlib.Path:
    """Returns the file of the autoencoder.

    That is the one that the file names; or, where it is not there, the one that was
    trained by the same file, if it is.
    """
    named = given.get("vae.pretrained_ckpt_path")
    own = output_of(given, "autoencoder") / "checkpoint.npz"
    if named and (pathlib.Path(named).exists() or not own.exists()):
        return pathlib.Path(named)
    return own


def model_settings(
    given: Published, stage: str, autoencoder: pathlib.Path | None = None
) -> dict[str, Any]:
    """Returns the section `model` of a stage; all networks' keys are checked.

    Args:
      given: The published configuration.
      stage: One of `STAGES`.
      autoencoder: Its file; None takes what the configuration names.

    Raises:
      ValueError: A key is unknown, a value out of range or one that cannot be followed,
        or sizes do not fit each other.
    """
    _check_followed(given)
    inputs, targets = frames_of(given, stage)
    denoiser, alignment = _networks(given)
    coder, diffusion = autoencoder_sizes(given), _diffusion(given)
    _check_shapes(given, stage, denoiser, alignment)
    if stage == "convlstm":
        return {
            "family": "convlstm", "input_length": inputs, "output_length": targets,
            "patch_size": 4, "edges": "regional", "predicts": "change",
        }  # fmt: skip
    if stage == "autoencoder":
        terms = _autoencoder_loss(given)
        return {
            "family": STAGES[stage],
            "output_length": 1 if inputs else targets,
            "autoencoder": coder,
            **({"loss": terms} if terms else {}),
        }
    path = autoencoder or given.get("vae.pretrained_ckpt_path") or ""
    by_spread = given.get("diffusion.scale_by_std", False)
    latent = {
        "family": STAGES[stage],
        "autoencoder": str(path),
        "scale_factor": None if by_spread else given.get("diffusion.scale_factor", 1.0),
        "diffusion": diffusion,
    }
    if set(given.model["vae"]) & set(_CODER_SIZES):
        latent["latent"] = coder
    if stage == "alignment":
        quantity = given.get("align.alignment_type") or "avg_x"
        return {**latent, "network": alignment, "quantity": quantity}
    if given.get("diffusion.clip_denoised", False):
        latent["sampler"] = {"clip": LATENT_LIMIT}
    return {**latent, "denoiser": denoiser}


def autoencoder_sizes(given: Published) -> dict[str, Any]:
    """Returns the sizes of the autoencoder.

    Raises:
      ValueError: A part is of another kind than there is.
    """
    vae = given.model["vae"]
    for name, kind in (("down", "DownEncoderBlock2D"), ("up", "UpDecoderBlock2D")):
        kinds = vae.get(f"{name}_block_types")
        if kinds is not None and set(kinds) != {kind}:
            place = given.place(f"vae.{name}_block_types")
            raise ValueError(f"{place}: all must be {kind}, found {kinds}")
    published = {
        "in_channels": 1, "out_channels": 1, "latent_channels": 64,
        "block_out_channels": [128, 256, 512, 512],
        "scaling_factor": 1.0, "sample_size": 128,
    }  # fmt: skip
    return published | {name: vae[name] for name in _CODER_SIZES if name in vae}


def _check_followed(given: Published) -> None:
    """Makes sure that what would change numbers is as it is here.

    Raises:
      ValueError: Something is not.
    """
    for section in ("data", "layout"):
        for key in ("in_step", "out_step", "in_out_diff"):
            given.require(f"{section}.{key}", 1)
    given.require("data.sample_mode", "sequent")
    given.require("data.layout", "NTHWC")
    given.require("layout.layout", "NTHWC", "NHWC")
    given.require("layout.data_channels", 1)
    given.require("vae.data_channels", given.get("vae.in_channels", 1))
    given.require("diffusion.cond_stage_model", "__is_first_stage__")
    given.require("diffusion.cond_stage_trainable", False)
    given.require("diffusion.cond_stage_forward", "encode")
    given.require("diffusion.num_timesteps_cond", 1)
    given.require("align.alignment_type", "avg_x", "max_x")
    channels = (given.get("vae.loss") or {}).get("disc_in_channels")
    decoded = given.get("vae.out_channels", 1)
    if channels not in (None, decoded):
        raise ValueError(
            f"{given.place('vae.loss')}.disc_in_channels: the discriminator sees "
            f"decoded frames of {decoded} channel(s), found {channels}"
        )


def _networks(given: Published) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the sizes of denoiser and alignment network.

    Raises:
      ValueError: A key is unknown, or a size out of range.
    """
    latent, align = dict(given.model["latent_model"]), dict(given.model["align"])
    args = dict(align.get("model_args") or {})
    if "t_out" in args:
        args["out_len"] = args.pop("t_out")
    for part, name in ((latent, "self_pattern"), (args, "block_attn_patterns")):
        # The edition of MindEarth says only whether there is a pattern.
        if part.pop("use_attn_pattern", False):
            part[name] = "axial"
    try:
        unet = sizes.unet_from_published(latent) if latent else sizes.PUBLISHED_UNET
    except ValueError as error:
        raise ValueError(f"model.latent_model: {error}") from error
    try:
        model_type = align.get("model_type", "cuboid")
        found = (
            sizes.alignment_from_published(
                {"model_args": args, "model_type": model_type}
            )
            if args
            else sizes.PUBLISHED_ALIGNMENT
        )
    except ValueError as error:
        raise ValueError(f"model.align: {error}") from error
    return dict(unet), dict(found)


def _check_shapes(
    given: Published, stage: str, denoiser: dict[str, Any], alignment: dict[str, Any]
) -> None:
    """Makes sure that sizes that stand at several places are the same.

    Sizes that the file does not give count for the network that is trained alone.

    Raises:
      ValueError: They differ.
    """
    trained = None if _has_own_sizes(given, stage) else stage
    targets: dict[str, Sequence[int]] = {}
    contexts: dict[str, Sequence[int]] = {}
    if given.model["latent_model"] or trained == "denoiser":
        targets["model.latent_model.target_shape"] = denoiser["target_shape"]
        contexts["model.latent_model.input_shape"] = denoiser["input_shape"]
    if given.get("align.model_args") or trained == "alignment":
        targets["model.align.model_args.input_shape"] = alignment["input_shape"]
    for name, held in (("latent_shape", targets), ("latent_cond_shape", contexts)):
        if (shape := given.get(f"diffusion.{name}")) is not None:
            held[f"model.diffusion.{name}"] = shape
    pictures = given.get("diffusion.data_shape")
    pasts = {place: shape[0] for place, shape in contexts.items()}
    futures = {place: shape[0] for place, shape in targets.items()}
    if pictures is not None:
        futures["model.diffusion.data_shape"] = pictures[0]
    if stage != "autoencoder":
        inputs, following = frames_of(given, stage)
        pasts[_first_given(given, _KNOWN)] = inputs
        futures[_first_given(given, _FOLLOWING)] = following
    _require_same("known frames", pasts)
    _require_same("frames that follow", futures)
    latent = targets | contexts
    _check_grid(given, latent, pictures)
    channels = {place: shape[3] for place, shape in latent.items()}
    if given.get("vae.latent_channels") is not None:
        place = given.place("vae.latent_channels")
        channels[place] = given.get("vae.latent_channels")
    _require_same("channels of latent fields", channels)
    if pictures is not None:
        found = {"model.diffusion.data_shape": pictures[3]}
        found[given.place("vae.in_channels")] = given.get("vae.in_channels", 1)
        _require_same("channels of frames", found)


def _check_grid(
    given: Published, latent: dict[str, Sequence[int]], pictures: Sequence[int] | None
) -> None:
    """Compares rows and columns of latent fields and of pictures.

    Raises:
      ValueError: They differ; or the autoencoder, whose levels the file gives, makes
        others of the pictures.
    """
    levels = given.get("vae.block_out_channels")
    for axis, (name, size) in enumerate((("rows", "height"), ("columns", "width")), 1):
        small = {place: shape[axis] for place, shape in latent.items()}
        large = (
            {} if pictures is None else {"model.diffusion.data_shape": pictures[axis]}
        )
        # Of SEVIR the files decide, and these say nothing, as in the published loader.
        is_radar = given.get("data.dataset_name") == "radar"
        for section in ("data", "layout") if is_radar else ():
            if (side := given.get(f"{section}.img_{size}")) is not None:
                large[given.place(f"{section}.img_{size}")] = side
        _require_same(f"{name} of latent fields", small)
        _require_same(f"{name} of frames", large)
        if small and large and levels is not None:
            times = 2 ** (len(levels) - 1)
            scaled = {f"{p} x {times}": n * times for p, n in small.items()}
            _require_same(f"{name} of frames", large | scaled)


def _has_own_sizes(given: Published, stage: str) -> bool:
    """Whether the section of our own gives a stage another network."""
    for part in ("all", stage):
        model = (given.own.get(part) or {}).get("model") or {}
        if {"family", "denoiser", "network", "autoencoder"} & set(model):
            return True
    return False


def _first_given(given: Published, names: Sequence[str]) -> str:
    """Returns the first of some keys that the file gives, as it calls it."""
    found = next((name for name in names if given.get(name) is not None), None)
    return given.place(found) if found else f"{names[0]} (by default)"


def _require_same(what: str, found: dict[str, int]) -> None:
    if len(set(found.values())) > 1:
        listed = ", ".join(f"{place} says {number}" for place, number in found.items())
        raise ValueError(f"{what} must be the same everywhere: {listed}")


def _autoencoder_loss(given: Published) -> dict[str, Any]:
    loss = given.get("vae.loss") or {}
    if loss.get("perceptual_weight"):
        raise ValueError(
            f"{given.place('vae.loss')}.perceptual_weight: needs a network that is "
            "fetched; set it to 0, and gradient_weight or spectral_weight of "
            "weatherlib.autoencoder.model.loss in its place"
        )
    names = {
        "kl_weight": "kl_weight",
        "disc_weight": "adversarial_weight",
        "disc_start": "adversarial_start",
    }
    return {new: loss[old] for old, new in names.items() if old in loss}


def _diffusion(given: Published) -> dict[str, Any]:
    if given.get("diffusion.given_betas") is not None:
        raise ValueError(
            "model.diffusion.given_betas: betas cannot be listed; choose beta_schedule"
        )
    kind = given.get("diffusion.beta_schedule", "linear")
    if kind not in schedules.PREDIFF_KINDS:
        hint = configs.closest_hint(kind, schedules.PREDIFF_KINDS)
        raise ValueError(f"model.diffusion.beta_schedule: there is no {kind!r}{hint}")
    prediction = given.get("diffusion.parameterization", "eps")
    if prediction not in _PREDICTIONS:
        hint = configs.closest_hint(prediction, _PREDICTIONS)
        raise ValueError(
            f"model.diffusion.parameterization: there is no {prediction!r}{hint}"
        )
    given.require("optim.loss_type", "l2", "l1")
    return {
        "schedule": {
            "kind": schedules.PREDIFF_KINDS[kind],
            "steps": given.get("diffusion.timesteps", 1000),
            "start": given.get("diffusion.linear_start", 1e-4),
            "end": given.get("diffusion.linear_end", 2e-2),
            "cosine_offset": given.get("diffusion.cosine_s", 8e-3),
            "posterior_mix": given.get("diffusion.v_posterior", 0.0),
        },
        "prediction": _PREDICTIONS[prediction],
        "loss": given.get("optim.loss_type", "l2"),
        "learn_log_variance": bool(given.get("diffusion.learn_logvar")),
        "log_variance_start": given.get("diffusion.logvar_init", 0.0),
        "simple_weight": given.get("diffusion.l_simple_weight", 1.0),
        "bound_weight": given.get("diffusion.original_elbo_weight", 0.0),
    }
