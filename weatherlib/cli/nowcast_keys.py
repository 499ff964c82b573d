"""The keys of PreDiff's published YAML files, and what becomes of them here.

There are two dialects of one configuration: that of the MindEarth edition (`data`,
`eval`, `summary`, `t_in`) and that of the original (`dataset`, `vis`, `in_len`), which
has one file for each stage. Both are read; an unknown key is an error.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from weatherlib import config
from weatherlib.cli.nowcast_values import read_value
from weatherlib.prediff import published

__all__ = [
    "OWN_SECTION",
    "Published",
    "is_published",
    "is_published_key",
    "read_published",
]

OWN_SECTION = "weatherlib"
"""Section for settings that the published files have no key for."""

# Keys by kind of value; see nowcast_values.
_DATA = {
    "text": "dataset_name sample_mode layout",
    "text?": "root_dir",
    "count?": "in_len",
    "whole?": "out_len img_height img_width in_step out_step in_out_diff seq_in "
    "seq_len raw_seq_len plot_stride stride",
    "positive?": "interval_real_time",
    "any": "start_date train_val_split_date train_test_split_date end_date "
    "metrics_mode aug_mode",
    "share?": "val_ratio",
    "texts?": "metrics_list",
    "numbers?": "threshold_list",
}
_LAYOUT = {
    "text": "layout",
    "count?": "in_len t_in",
    "whole?": "out_len t_out in_step out_step in_out_diff img_height img_width "
    "data_channels",
}
_OPTIM = {
    "whole": "total_batch_size micro_batch_size max_epochs early_stop_patience",
    "count?": "seed",
    "positive": "lr",
    "weight": "wd",
    "weight?": "gradient_clip_val",
    "decays": "betas",
    "share": "warmup_percentage min_lr_ratio warmup_min_lr_ratio",
    "text": "method loss_type lr_scheduler_mode",
    "flag": "early_stop",
    "any": "float32_matmul_precision plateau_patience monitor early_stop_mode "
    "save_top_k",
}
_LOGGING = {
    "any": "logging_prefix monitor_lr monitor_device track_grad_norm use_wandb "
    "profiler save_npy",
}
_TRAINER = {
    "whole": "check_val_every_n_epoch",
    "share": "log_step_ratio",
    "any": "precision find_unused_parameters num_sanity_val_steps",
}
_EVAL = {
    "counts?": "test_example_data_idx_list",
    "flag": "eval_example_only",
    "whole": "num_samples_per_context",
    "any": "train_example_data_idx_list val_example_data_idx_list eval_aligned "
    "eval_unaligned fs label_offset label_avg_int fvd_features num_vis save_gif "
    "gif_fps",
}
_SUMMARY = {
    "text": "summary_dir",
    "text?": "ckpt_path",
    "flag": "load_ckpt",
    "whole": "keep_ckpt_max",
    "any": "eval_interval save_ckpt_epochs",
}
_DIFFUSION = {
    "shape?": "data_shape latent_shape latent_cond_shape",
    "whole": "timesteps",
    "whole?": "num_timesteps_cond",
    "text": "beta_schedule parameterization cond_stage_model",
    "flag": "use_ema clip_denoised cond_stage_trainable scale_by_std",
    "flag?": "learn_logvar",
    "positive": "linear_start linear_end scale_factor",
    "weight": "cosine_s original_elbo_weight l_simple_weight",
    "share": "v_posterior",
    "number": "logvar_init",
    "any": "log_every_t given_betas cond_stage_forward",
}
_ALIGN = {
    "text": "model_type",
    "text?": "alignment_type model_ckpt_path",
    "weight": "guide_scale",
    "section": "model_args",
}
_VAE = {
    "text?": "pretrained_ckpt_path",
    "text": "act_fn",
    "texts": "down_block_types up_block_types",
    "whole": "data_channels in_channels out_channels latent_channels norm_num_groups "
    "layers_per_block",
    "wholes": "block_out_channels",
    "section": "loss",
}
_VAE_LOSS = {
    "count": "disc_start",
    "weight": "kl_weight disc_weight perceptual_weight",
    "whole": "disc_in_channels",
}

_SECTIONS = {
    "data": _DATA,
    "layout": _LAYOUT,
    "optim": _OPTIM,
    "logging": _LOGGING,
    "trainer": _TRAINER,
    "eval": _EVAL,
    "summary": _SUMMARY,
}
_MODEL = {"diffusion": _DIFFUSION, "align": _ALIGN, "vae": _VAE}
_ALIASES = {"dataset": "data", "vis": "eval"}
_SIZED = ("data", "layout")
_WITHOUT_EFFECT = {
    "data": "plot_stride interval_real_time raw_seq_len metrics_mode metrics_list",
    "logging": _LOGGING["any"],
    "trainer": "find_unused_parameters num_sanity_val_steps",
    "optim": "float32_matmul_precision monitor early_stop_mode save_top_k "
    "plateau_patience",
    "eval": _EVAL["any"],
    "summary": "eval_interval save_ckpt_epochs",
    "diffusion": "log_every_t",
}


@dataclasses.dataclass(frozen=True)
class Published:
    """A published configuration under one set of names.

    Attributes:
      sections: `data`, `layout`, `optim`, `trainer`, `eval` and `summary` of the file,
        each empty where it has none.
      model: Its `diffusion`, `align`, `latent_model` and `vae`.
      own: What it says in the section `weatherlib`, for all stages or for one.
      unused: Keys that have no effect here, as "section.key".
      names: What the file calls a section, where that is something else.
    """

    sections: Mapping[str, Mapping[str, Any]]
    model: Mapping[str, Mapping[str, Any]]
    own: Mapping[str, Any]
    unused: tuple[str, ...]
    names: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def stage(self) -> str:
        """What the file is for, if not asked otherwise.

        The original has one file for each stage. That of the autoencoder holds its
        sizes alone; that of the alignment network lacks the denoiser.
        """
        if self.is_of_autoencoder:
            return "autoencoder"
        is_original = self.names.get("data") == "dataset"
        if is_original and self.model["align"] and not self.model["latent_model"]:
            return "alignment"
        return "denoiser"

    @property
    def is_of_autoencoder(self) -> bool:
        """Whether the file is the autoencoder's own, whose model is one section."""
        return self.names.get("vae") == "model"

    def get(self, place: str, default: Any = None) -> Any:
        """Returns a value by "section.key", the default where it is not there.

        For frames and sizes, which several sections name, see `number_of`.
        """
        section, _, key = place.partition(".")
        held = self.sections.get(section, self.model.get(section, {}))
        return held.get(key, default)

    def place(self, place: str) -> str:
        """Returns what the file calls "section.key"."""
        section, _, key = place.partition(".")
        return f"{self.names.get(section, section)}.{key}"

    def number_of(self, *places: str, default: int) -> int:
        """Returns a whole number that may stand at several places.

        Raises:
          ValueError: They differ.
        """
        found = {p: self.get(p) for p in places if self.get(p) is not None}
        if len(set(found.values())) > 1:
            listed = ", ".join(f"{self.place(p)} {value}" for p, value in found.items())
            raise ValueError(f"{listed}: these must be the same")
        return next(iter(found.values()), default)

    def require(self, place: str, *allowed: Any) -> None:
        """Raises a ValueError where a value is there, and not among those allowed."""
        value = self.get(place)
        if value is not None and value not in allowed:
            words = " or ".join(_shown(one) for one in allowed)
            raise ValueError(
                f"{self.place(place)}: only {words} can be followed, found "
                f"{_shown(value)}"
            )

    def with_data(self, path: str) -> Published:
        """Returns the same of other data: the folder or file of `root_dir`."""
        data = {**self.sections["data"], "root_dir": path}
        return dataclasses.replace(self, sections={**self.sections, "data": data})


def is_published(values: Mapping[str, Any]) -> bool:
    """Returns whether a configuration is of the published kind.

    Those of `weatherlib train` have an output and stages.
    """
    return "stages" not in values and "output" not in values


def is_published_key(place: str) -> bool:
    """Returns whether a dotted key is one of published files, or of `OWN_SECTION`.

    Such as "dataset.root_dir" or "model.vae.latent_channels"; "data.path" is not.
    """
    section, _, rest = place.partition(".")
    if section == OWN_SECTION:
        return True
    if section == "model":
        part, _, key = rest.partition(".")
        first = key.split(".")[0]
        if part == "latent_model":
            return True
        return part in _MODEL and first in _kinds(_MODEL[part])
    section = _ALIASES.get(section, section)
    return section in _SECTIONS and rest.split(".")[0] in _kinds(_SECTIONS[section])


def read_published(values: Mapping[str, Any]) -> Published:
    """Returns a published configuration, all of its keys and values checked.

    Args:
      values: As read from YAML.

    Raises:
      ValueError: A key is unknown, and the message has the nearest known one; or a
        value is not of the kind that its key wants.
    """
    named = {_ALIASES.get(name, name): name for name in values}
    known = [*_SECTIONS, "model", OWN_SECTION]
    _require_known("", list(values), [*known, *_ALIASES])
    if len(named) < len(values):
        raise ValueError("dataset and data, vis and eval: give one of the two")
    names = {n: named.get(n, n) for n in _SECTIONS}
    sections = {
        name: _read(names[name], _section(values, names[name]), _SECTIONS[name])
        for name in _SECTIONS
    }
    model, places = _model(_section(values, "model"))
    found = Published(
        sections, model, _section(values, OWN_SECTION), (), names | places
    )
    return dataclasses.replace(found, unused=tuple(_unused(found)))


def _unused(given: Published) -> list[str]:
    """Returns the keys that the file gives and nothing follows, as it names them."""
    places = [
        f"{section}.{key}"
        for section, keys in _WITHOUT_EFFECT.items()
        for key in keys.split()
    ]
    is_radar = given.get("data.dataset_name") == "radar"
    if is_radar:
        places.append("data.val_ratio")
    else:
        sides = [f"{s}.img_{side}" for s in _SIZED for side in ("height", "width")]
        places += ["data.train_val_split_date", *sides]
    if given.get("optim.lr_scheduler_mode") == "none":
        names = ("warmup_percentage", "warmup_min_lr_ratio", "min_lr_ratio")
        places += [f"optim.{name}" for name in names]
    if given.get("optim.method") == "adam":
        places.append("optim.wd")
    kind = given.get("diffusion.beta_schedule", "linear")
    others = ("linear_start", "linear_end") if kind == "cosine" else ("cosine_s",)
    places += [f"diffusion.{name}" for name in others]
    if given.get("diffusion.scale_by_std"):
        places.append("diffusion.scale_factor")
    found = [given.place(p) for p in places if given.get(p) is not None]
    networks = {
        "model.latent_model": given.model["latent_model"],
        "model.align.model_args": given.get("align.model_args") or {},
    }
    for place, held in networks.items():
        found += [f"{place}.{key}" for key in held if key in published.UNUSED]
    return found


def _model(
    given: Mapping[str, Any],
) -> tuple[dict[str, Mapping[str, Any]], dict[str, str]]:
    """Returns the sections of the model, and what the file calls them.

    That of the autoencoder's own file is one.
    """
    places = {name: f"model.{name}" for name in (*_MODEL, "latent_model")}
    if given and not set(given) & set(places) and set(given) & set(_kinds(_VAE)):
        given, places["vae"] = {"vae": given}, "model"
    _require_known("model", given, list(places))
    found = {name: _section(given, name, places[name]) for name in places}
    for name, kinds in _MODEL.items():
        found[name] = _read(places[name], found[name], kinds)
    if "loss" in found["vae"]:
        loss = _read(f"{places['vae']}.loss", found["vae"]["loss"], _VAE_LOSS)
        found["vae"] = {**found["vae"], "loss": loss}
    return found, places


def _read(
    place: str, held: Mapping[str, Any], kinds: Mapping[str, str]
) -> dict[str, Any]:
    """Returns a section with its values checked."""
    by_key = _kinds(kinds)
    _require_known(place, held, list(by_key))
    return {
        key: value
        if by_key[key] == "any"
        else read_value(f"{place}.{key}", by_key[key], value)
        for key, value in held.items()
    }


def _kinds(keys: Mapping[str, str]) -> dict[str, str]:
    return {key: kind for kind, listed in keys.items() for key in listed.split()}


def _section(
    values: Mapping[str, Any], name: str, place: str | None = None
) -> Mapping[str, Any]:
    found = values.get(name)
    if found is None:
        return {}
    if not isinstance(found, Mapping):
        raise ValueError(f"{place or name}: expected keys and values, found {found!r}")
    return found


def _require_known(section: str, found: Any, known: Sequence[str]) -> None:
    for key in found:
        if key not in known:
            hint = config.closest_hint(str(key), known)
            place = f"{section}.{key}" if section else str(key)
            raise ValueError(f"{place}: there is no such key{hint}")


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
