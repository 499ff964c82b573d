"""A published configuration of PreDiff as settings of `weatherlib train`."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

from weatherlib import config as configs
from weatherlib.cli.nowcast_keys import Published
from weatherlib.data import radar_sequences
from weatherlib.diffusion import schedules
from weatherlib.prediff import published as sizes

__all__ = ["STAGES", "data_settings", "merge", "output_of", "run_settings"]

STAGES: dict[str, str] = {
    "autoencoder": "prediff_autoencoder",
    "denoiser": "prediff",
    "alignment": "prediff_alignment",
    "convlstm": "convlstm",
}
"""What can be trained, and its family."""

_AUGMENT = {"0": "none", "1": "flips_angles", "2": "flips_rotations"}
_PREDICTIONS = {"eps": "epsilon", "x0": "x0", "v": "v"}
_OWN_PARTS = ("all", *STAGES)


def data_settings(given: Published) -> dict[str, Any]:
    """Returns the section `data` of a run.

    `root_dir` is a folder of SEVIR or SEVIR-LR, or a radar file: then the split dates
    are times in its series, and `img_height` and `img_width` the tiles.

    Raises:
      ValueError: The data are not named, or a value cannot be followed.
    """
    path = given.get("data.root_dir")
    if not path:
        raise ValueError(
            "data.root_dir: missing; name the folder of SEVIR-LR, or a radar file"
        )
    given.require("data.sample_mode", ("sequent",))
    given.require("data.layout", ("NTHWC",))
    given.require("layout.data_channels", (1,))
    inputs, targets = frames_of(given)
    length = given.number_of("data.seq_in", "data.seq_len", default=inputs + targets)
    if length != inputs + targets:
        raise ValueError(
            f"data.seq_in {length} is not the sum of {inputs} known frames and "
            f"{targets} that follow (layout.t_in, layout.t_out)"
        )
    mode = str(given.get("data.aug_mode", "0"))
    if mode not in _AUGMENT:
        raise ValueError(
            f"data.aug_mode: there is no mode {mode!r}; there are {', '.join(_AUGMENT)}"
        )
    radar: dict[str, Any] = {
        "inputs": inputs,
        "stride": given.number_of("data.stride", default=6),
        "augment": _AUGMENT[mode],
    }
    name = str(given.get("data.dataset_name", "sevirlr"))
    if name not in ("sevir", "sevirlr", "radar"):
        hint = configs.closest_hint(name, ("sevir", "sevirlr", "radar"))
        raise ValueError(f"data.dataset_name: there is no {name!r}{hint}")
    if name == "radar":
        return {"path": str(path), **_series(given, radar)}
    for key in ("start_date", "end_date"):
        if given.get(f"data.{key}") is not None:
            raise ValueError(
                f"data.{key}: events of SEVIR are taken whole, up to the split and "
                "after it; leave it null"
            )
    radar["kind"] = "sevir"
    date = given.get("data.train_test_split_date")
    if date is not None:
        radar["date"] = _date("data.train_test_split_date", date)
    if given.get("data.val_ratio") is not None:
        radar["validation_share"] = given.get("data.val_ratio")
    parts = {name: {"split": name} for name in ("train", "validation", "test")}
    return {"path": str(path), "radar": radar, **parts}


def frames_of(given: Published) -> tuple[int, int]:
    """Returns how many frames are known, and how many follow.

    Raises:
      ValueError: Sections disagree.
    """
    names = ("layout.in_len", "layout.t_in", "data.in_len")
    inputs = given.number_of(*(n for n in names if given.get(n) != 0), default=7)
    names = ("layout.out_len", "layout.t_out", "data.out_len")
    return inputs, given.number_of(*names, default=6)


def run_settings(
    given: Published,
    stage: str,
    *,
    samples: int,
    autoencoder: pathlib.Path | None = None,
) -> dict[str, Any]:
    """Returns the settings of `weatherlib train` for a stage.

    Args:
      given: The published configuration.
      stage: One of `STAGES`.
      samples: To train on, each counted in every way that it is turned.
      autoencoder: Trained one, where the file names none.

    Raises:
      ValueError: A value is wrong, or cannot be followed.
    """
    batch = given.number_of("optim.total_batch_size", default=64)
    micro = given.number_of("optim.micro_batch_size", default=batch)
    epochs = given.number_of("optim.max_epochs", default=2000)
    data = data_settings(given)
    # A published pass has each sample in one way; ours has them in all.
    ways = radar_sequences.VARIANTS[data["radar"]["augment"]]
    per_epoch = max(samples // ways / batch, 1e-9)
    steps = max(round(epochs * per_epoch), 1)
    values: dict[str, Any] = {
        "output": str(output_of(given, stage)),
        "data": data,
        "model": _model(given, stage, autoencoder),
        "optimizer": _optimizer(given, batch // micro if batch % micro == 0 else 1),
        "stages": [
            {"steps": steps, "batch_size": batch, "schedule": _schedule(given, steps)}
        ],
        "validation": _validation(given, per_epoch, micro),
        "checkpoint_every": max(round(per_epoch), 1),
        "keep": given.number_of("summary.keep_ckpt_max", default=2),
        "log_every": max(round(given.get("trainer.log_step_ratio", 1e-3) * steps), 1),
        "seed": given.get("optim.seed", 0),
        "precision": _precision(given),
    }
    if given.get("summary.load_ckpt") and stage == "denoiser":
        values["init_from"] = str(_checkpoint(given))
    unknown = [part for part in given.own if part not in _OWN_PARTS]
    if unknown:
        hint = configs.closest_hint(unknown[0], _OWN_PARTS)
        raise ValueError(f"weatherlib.{unknown[0]}: there is no such part{hint}")
    for part in ("all", stage):
        values = merge(values, given.own.get(part) or {})
    return values


def output_of(given: Published, stage: str) -> pathlib.Path:
    """Returns the folder of a stage's results."""
    return pathlib.Path(given.get("summary.summary_dir", "runs/prediff")) / stage


def merge(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Returns settings with others over them, section by section.

    Another family of model takes the place of the whole section.
    """
    found = dict(values)
    for name, change in changes.items():
        held = found.get(name)
        if isinstance(held, Mapping) and isinstance(change, Mapping):
            whole = name == "model" and "family" in change
            found[name] = change if whole else merge(held, change)
        else:
            found[name] = change
    return found


def _series(given: Published, radar: dict[str, Any]) -> dict[str, Any]:
    """Returns periods and tiles of a radar file."""
    names = ("img_height", "img_width")
    sides = [given.number_of(f"layout.{n}", f"data.{n}", default=0) for n in names]
    shape = given.get("diffusion.data_shape")
    if not all(sides) and shape is not None:
        sides = list(shape[1:3])
    if all(sides):
        radar["tile"] = sides
    dates = {
        name: None if value is None else _date(f"data.{name}", value)
        for name in (
            *("start_date", "train_val_split_date"),
            *("train_test_split_date", "end_date"),
        )
        for value in [given.get(f"data.{name}")]
    }
    begin, validate, test, end = dates.values()
    found: dict[str, Any] = {
        "radar": radar,
        "train": {"start": begin, "end": validate or test},
    }
    if validate:
        found["validation"] = {"start": validate, "end": test or end}
    if test:
        found["test"] = {"start": test, "end": end}
    return found


def _model(
    given: Published, stage: str, autoencoder: pathlib.Path | None
) -> dict[str, Any]:
    """Returns the section `model` of a stage; all networks' keys are checked."""
    inputs, targets = frames_of(given)
    denoiser, alignment = _networks(given)
    if stage == "convlstm":
        return {
            "family": "convlstm", "input_length": inputs, "output_length": targets,
            "patch_size": 4, "edges": "regional", "predicts": "change",
        }  # fmt: skip
    if stage == "autoencoder":
        loss = given.get("vae.loss") or {}
        if loss.get("perceptual_weight"):
            raise ValueError(
                "model.vae.loss.perceptual_weight: needs a network that is fetched; "
                "set it to 0, and gradient_weight or spectral_weight of "
                "weatherlib.autoencoder.model.loss in its place"
            )
        names = {
            "kl_weight": "kl_weight",
            "disc_weight": "adversarial_weight",
            "disc_start": "adversarial_start",
        }
        terms = {new: loss[old] for old, new in names.items() if old in loss}
        return {
            "family": STAGES[stage],
            "autoencoder": _autoencoder(given),
            **({"loss": terms} if terms else {}),
        }
    path = given.get("vae.pretrained_ckpt_path")
    if autoencoder is not None and (path is None or not pathlib.Path(path).is_file()):
        path = str(autoencoder)
    by_spread = given.get("diffusion.scale_by_std", False)
    latent = {
        "family": STAGES[stage],
        "autoencoder": path or "",
        "scale_factor": None if by_spread else given.get("diffusion.scale_factor", 1.0),
        "diffusion": _diffusion(given),
    }
    if stage == "alignment":
        given.require("align.alignment_type", ("avg_x", "max_x"))
        quantity = given.get("align.alignment_type") or "avg_x"
        return {**latent, "network": alignment, "quantity": quantity}
    return {**latent, "denoiser": denoiser}


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


def _autoencoder(given: Published) -> dict[str, Any]:
    vae = given.model["vae"]
    for name, kind in (("down", "DownEncoderBlock2D"), ("up", "UpDecoderBlock2D")):
        kinds = vae.get(f"{name}_block_types")
        if kinds is not None and set(kinds) != {kind}:
            raise ValueError(
                f"model.vae.{name}_block_types: all must be {kind}, found {kinds}"
            )
    names = (
        *("in_channels", "out_channels", "latent_channels", "block_out_channels"),
        *("layers_per_block", "norm_num_groups", "act_fn"),
    )
    published = {
        "in_channels": 1, "out_channels": 1, "latent_channels": 64,
        "scaling_factor": 1.0, "sample_size": 128,
    }  # fmt: skip
    return published | {name: vae[name] for name in names if name in vae}


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
        "learn_log_variance": given.get("diffusion.learn_logvar", False),
        "log_variance_start": given.get("diffusion.logvar_init", 0.0),
        "simple_weight": given.get("diffusion.l_simple_weight", 1.0),
        "bound_weight": given.get("diffusion.original_elbo_weight", 0.0),
    }


def _optimizer(given: Published, accumulate: int) -> dict[str, Any]:
    method = given.get("optim.method", "adamw")
    if method not in ("adam", "adamw"):
        raise ValueError(f"optim.method: there are adam and adamw, found {method!r}")
    b1, b2 = given.get("optim.betas", (0.9, 0.999))
    return {
        "b1": b1,
        "b2": b2,
        "weight_decay": given.get("optim.wd", 1e-5) if method == "adamw" else 0.0,
        "no_decay": [],
        "decay_vectors": True,
        "clip": given.get("optim.gradient_clip_val", 1.0),
        "accumulate": accumulate,
        "ema": 0.9999 if given.get("diffusion.use_ema", False) else 0.0,
    }


def _schedule(given: Published, steps: int) -> dict[str, Any]:
    mode = given.get("optim.lr_scheduler_mode", "cosine")
    if mode != "cosine":
        raise ValueError(f"optim.lr_scheduler_mode: there is cosine, found {mode!r}")
    peak = float(given.get("optim.lr", 1e-3))
    return {
        "kind": "warmup_cosine",
        "peak": peak,
        "start": peak * float(given.get("optim.warmup_min_lr_ratio", 0.1)),
        "end": peak * float(given.get("optim.min_lr_ratio", 1e-3)),
        "warmup": round(steps * float(given.get("optim.warmup_percentage", 0.1))),
    }


def _validation(given: Published, per_epoch: float, batch: int) -> dict[str, Any]:
    epochs = given.number_of("trainer.check_val_every_n_epoch", default=50)
    found: dict[str, Any] = {
        "every": max(round(epochs * per_epoch), 1),
        "batch_size": batch,
        "leads": [],
    }
    if given.get("optim.early_stop", False):
        found["patience"] = given.number_of("optim.early_stop_patience", default=100)
    return found


def _precision(given: Published) -> str:
    value = str(given.get("trainer.precision", 32))
    if value.startswith(("bf16", "16")):
        return "bfloat16"
    return "float32" if value.startswith("32") else "auto"


def _checkpoint(given: Published) -> pathlib.Path:
    path = given.get("summary.ckpt_path")
    if not path:
        raise ValueError("summary.ckpt_path: missing, and load_ckpt asks for it")
    return pathlib.Path(path)


def _date(place: str, value: Any) -> str:
    """Returns a date of numbers, or a text, as text.

    Raises:
      ValueError: It is neither.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, (list, tuple)) and 3 <= len(value) <= 6:
        numbers = [*map(int, value), 0, 0, 0][:6]
        year, month, day, hour, minute, second = numbers
        return f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"
    raise ValueError(f"{place}: expected a date such as [2019, 6, 1], found {value!r}")
