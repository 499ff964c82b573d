"""A published configuration of PreDiff as settings of `weatherlib train`."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from weatherlib import config as configs
from weatherlib.cli import nowcast_networks, settings
from weatherlib.cli.nowcast_keys import OWN_SECTION, Published
from weatherlib.cli.nowcast_networks import STAGES, frames_of, output_of
from weatherlib.data import radar_sequences

__all__ = [
    "STAGES",
    "data_settings",
    "frames_of",
    "merge",
    "output_of",
    "run_settings",
    "stage_model",
]

_AUGMENT = {"0": "none", "1": "flips_angles", "2": "flips_rotations"}
_OWN_PARTS = ("all", *STAGES)
_BOUNDS = {"start_date": "after", "end_date": "until"}


def data_settings(given: Published, stage: str = "denoiser") -> dict[str, Any]:
    """Returns the section `data` of a run.

    `root_dir` is a folder of SEVIR or SEVIR-LR, or a radar file: then the split dates
    are times in its series, and `img_height` and `img_width` the tiles. The original
    files have none, and neither has the section then: `path` is to be added.

    Raises:
      ValueError: A value cannot be followed.
    """
    path = given.get("data.root_dir")
    inputs, targets = frames_of(given, stage)
    lengths = ("data.seq_in", "data.seq_len")
    length = given.number_of(*lengths, default=inputs + targets)
    if length != inputs + targets:
        name = next(n for n in lengths if given.get(n) is not None)
        raise ValueError(
            f"{given.place(name)} {length} is not the sum of {inputs} known frames and "
            f"{targets} that follow (layout.t_in, layout.t_out)"
        )
    mode = str(given.get("data.aug_mode", "0"))
    if mode not in _AUGMENT:
        raise ValueError(
            f"{given.place('data.aug_mode')}: there is no mode {mode!r}; there are "
            f"{', '.join(_AUGMENT)}"
        )
    radar: dict[str, Any] = {
        "inputs": inputs,
        "stride": given.number_of("data.stride", default=6 if inputs else 1),
        "augment": _AUGMENT[mode],
    }
    name = given.get("data.dataset_name", "sevirlr")
    if name not in ("sevir", "sevirlr", "radar"):
        hint = configs.closest_hint(name, ("sevir", "sevirlr", "radar"))
        place = given.place("data.dataset_name")
        raise ValueError(f"{place}: there is no {name!r}{hint}")
    named = {"path": path} if path else {}
    if name == "radar":
        return {**named, **_series(given, radar)}
    radar["kind"] = "sevir"
    for key, option in {"train_test_split_date": "date", **_BOUNDS}.items():
        if (date := given.get(f"data.{key}")) is not None:
            radar[option] = _date(given.place(f"data.{key}"), date)
    if given.get("data.val_ratio") is not None:
        radar["validation_share"] = given.get("data.val_ratio")
    parts = {name: {"split": name} for name in ("train", "validation", "test")}
    return {**named, "radar": radar, **parts}


def run_settings(
    given: Published,
    stage: str,
    *,
    samples: int,
    autoencoder: pathlib.Path | None = None,
    changes: Sequence[str] = (),
) -> dict[str, Any]:
    """Returns the settings of `weatherlib train` for a stage.

    Args:
      given: The published configuration.
      stage: One of `STAGES`.
      samples: To train on, each counted in every way that it is turned.
      autoencoder: Trained one; None takes what the file names.
      changes: `key=value` of these settings, which come last.

    Raises:
      ValueError: A value is wrong, or cannot be followed; or nothing says where the
        data are.
    """
    batch = given.number_of("optim.total_batch_size", default=64)
    micro = given.number_of("optim.micro_batch_size", default=batch)
    if batch % micro:
        raise ValueError(
            f"optim.micro_batch_size {micro} does not divide total_batch_size {batch}; "
            "an update is of whole parts"
        )
    epochs = given.number_of("optim.max_epochs", default=2000)
    own = _own_parts(given, stage)
    data = data_settings(given, stage)
    # A published pass has each sample in one way; ours has them in all.
    ways = radar_sequences.VARIANTS[data["radar"]["augment"]]
    per_epoch = max(samples // ways / batch, 1e-9)
    steps = max(round(epochs * per_epoch), 1)
    values: dict[str, Any] = {
        "output": str(output_of(given, stage)),
        "data": data,
        "model": nowcast_networks.model_settings(given, stage, autoencoder),
        "optimizer": _optimizer(given, batch // micro),
        "stages": [
            {"steps": steps, "batch_size": batch, "schedule": _schedule(given, steps)}
        ],
        "validation": _validation(given, per_epoch, micro),
        "checkpoint_every": max(round(per_epoch), 1),
        "keep": given.number_of("summary.keep_ckpt_max", default=2),
        "log_every": max(round(given.get("trainer.log_step_ratio", 1e-3) * steps), 1),
        "seed": given.get("optim.seed") or 0,
        "precision": _precision(given),
    }
    if given.get("summary.load_ckpt") and stage == "denoiser":
        values["init_from"] = str(_checkpoint(given))
    for part in own:
        values = merge(values, part)
    for word in changes:
        settings.change(values, word)
    if not values["data"].get("path"):
        raise ValueError(
            f"{given.place('data.root_dir')}: missing; name the folder of SEVIR-LR, or "
            "a radar file, with --data PATH or --set data.path=PATH, or as root_dir in "
            "the file"
        )
    return values


def stage_model(given: Published, stage: str) -> dict[str, Any]:
    """Returns the section `model` of a stage beside the one that is run.

    Raises:
      ValueError: As for `run_settings`.
    """
    path = nowcast_networks.autoencoder_path(given)
    values = {"model": nowcast_networks.model_settings(given, stage, path)}
    for part in _own_parts(given, stage):
        values = merge(values, {"model": part.get("model") or {}})
    return values["model"]


def _own_parts(given: Published, stage: str) -> list[Mapping[str, Any]]:
    """Returns what the file says in our own section for all stages, and for this one.

    Raises:
      ValueError: A part is unknown, or is no section.
    """
    for name, part in given.own.items():
        if name not in _OWN_PARTS:
            hint = configs.closest_hint(str(name), _OWN_PARTS)
            raise ValueError(f"{OWN_SECTION}.{name}: there is no such part{hint}")
        sections = ("data", "model", "optimizer", "validation")
        held = {} if part is None else part
        checked = {"": held}
        if isinstance(held, Mapping):
            checked |= {f".{key}": held[key] for key in sections if key in held}
        for place, section in checked.items():
            if not isinstance(section, Mapping):
                raise ValueError(
                    f"{OWN_SECTION}.{name}{place}: expected keys and values, found "
                    f"{section!r}"
                )
    return [given.own.get(part) or {} for part in ("all", stage)]


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
        name: None if value is None else _date(given.place(f"data.{name}"), value)
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
        # 0 and null clip nothing, as in the published trainer.
        "clip": given.get("optim.gradient_clip_val", 1.0) or None,
        "accumulate": accumulate,
        "ema": 0.9999 if given.get("diffusion.use_ema", False) else 0.0,
    }


def _schedule(given: Published, steps: int) -> dict[str, Any]:
    mode = given.get("optim.lr_scheduler_mode", "cosine")
    if mode not in ("cosine", "none"):
        raise ValueError(
            "optim.lr_scheduler_mode: there is cosine, and none for a constant rate; "
            f"found {mode!r}"
        )
    peak = given.get("optim.lr", 1e-3)
    if mode == "none":
        # As published: the warm-up belongs to the scheduler, and is left out too.
        return {"kind": "constant", "peak": peak, "start": peak, "warmup": 0}
    return {
        "kind": "warmup_cosine",
        "peak": peak,
        "start": peak * given.get("optim.warmup_min_lr_ratio", 0.1),
        "end": peak * given.get("optim.min_lr_ratio", 1e-3),
        "warmup": round(steps * given.get("optim.warmup_percentage", 0.1)),
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
        if not all(type(part) is int for part in value):
            raise ValueError(
                f"{place}: expected whole numbers such as [2019, 6, 1], found {value!r}"
            )
        numbers = [*value, 0, 0, 0][:6]
        year, month, day, hour, minute, second = numbers
        return f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"
    raise ValueError(f"{place}: expected a date such as [2019, 6, 1], found {value!r}")
