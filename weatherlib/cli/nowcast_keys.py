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

__all__ = ["OWN_SECTION", "Published", "is_published", "read_published"]

OWN_SECTION = "weatherlib"
"""Section for settings that the published files have no key for."""

_DATA = (
    "dataset_name img_height img_width in_len out_len in_step out_step in_out_diff "
    "seq_in seq_len raw_seq_len plot_stride interval_real_time sample_mode stride "
    "layout start_date train_val_split_date train_test_split_date end_date val_ratio "
    "metrics_mode metrics_list threshold_list aug_mode root_dir"
)
_LAYOUT = (
    "in_len out_len t_in t_out in_step out_step in_out_diff img_height img_width "
    "data_channels layout"
)
_OPTIM = (
    "total_batch_size micro_batch_size seed float32_matmul_precision method lr wd "
    "betas gradient_clip_val max_epochs loss_type warmup_percentage lr_scheduler_mode "
    "min_lr_ratio warmup_min_lr_ratio plateau_patience monitor early_stop "
    "early_stop_mode early_stop_patience save_top_k"
)
_LOGGING = (
    "logging_prefix monitor_lr monitor_device track_grad_norm use_wandb profiler "
    "save_npy"
)
_TRAINER = (
    "check_val_every_n_epoch log_step_ratio precision find_unused_parameters "
    "num_sanity_val_steps"
)
_EVAL = (
    "train_example_data_idx_list val_example_data_idx_list test_example_data_idx_list "
    "eval_example_only eval_aligned eval_unaligned num_samples_per_context fs "
    "label_offset label_avg_int fvd_features num_vis save_gif gif_fps"
)
_SUMMARY = (
    "summary_dir eval_interval save_ckpt_epochs keep_ckpt_max ckpt_path load_ckpt"
)
_DIFFUSION = (
    "data_shape timesteps beta_schedule use_ema log_every_t clip_denoised linear_start "
    "linear_end cosine_s given_betas original_elbo_weight v_posterior l_simple_weight "
    "parameterization learn_logvar logvar_init latent_shape cond_stage_model "
    "num_timesteps_cond cond_stage_trainable cond_stage_forward scale_by_std "
    "scale_factor latent_cond_shape"
)
_ALIGN = "alignment_type guide_scale model_type model_args model_ckpt_path"
_VAE = (
    "pretrained_ckpt_path data_channels down_block_types in_channels "
    "block_out_channels act_fn latent_channels up_block_types norm_num_groups "
    "layers_per_block out_channels loss"
)
_VAE_LOSS = "disc_start kl_weight disc_weight perceptual_weight disc_in_channels"

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
_WITHOUT_EFFECT = {
    "data": "plot_stride interval_real_time raw_seq_len metrics_mode metrics_list "
    "train_val_split_date",
    "logging": _LOGGING,
    "trainer": "find_unused_parameters num_sanity_val_steps",
    "optim": "float32_matmul_precision monitor early_stop_mode save_top_k "
    "plateau_patience",
    "eval": "train_example_data_idx_list val_example_data_idx_list fs label_offset "
    "label_avg_int fvd_features num_vis gif_fps",
    "summary": "eval_interval save_ckpt_epochs",
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
    """

    sections: Mapping[str, Mapping[str, Any]]
    model: Mapping[str, Mapping[str, Any]]
    own: Mapping[str, Any]
    unused: tuple[str, ...]

    def get(self, place: str, default: Any = None) -> Any:
        """Returns a value by "section.key", the default where it is not there.

        For frames and sizes, which several sections name, see `number_of`.
        """
        section, _, key = place.partition(".")
        held = self.sections.get(section, self.model.get(section, {}))
        return held.get(key, default)

    def number_of(self, *places: str, default: int) -> int:
        """Returns a whole number that may stand at several places.

        Raises:
          ValueError: They differ, or one is no positive number.
        """
        found = {p: self.get(p) for p in places if self.get(p) is not None}
        for place, value in found.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(
                    f"{place}: expected a number from 1 on, found {value!r}"
                )
        if len(set(found.values())) > 1:
            listed = ", ".join(f"{place} {value}" for place, value in found.items())
            raise ValueError(f"{listed}: these must be the same")
        return next(iter(found.values()), default)

    def require(self, place: str, allowed: tuple[Any, ...]) -> None:
        """Raises a ValueError where a value is there, and not among those allowed."""
        value = self.get(place)
        if value is not None and value not in allowed:
            words = ", ".join(map(str, allowed))
            raise ValueError(f"{place}: there is {words}, found {value!r}")


def is_published(values: Mapping[str, Any]) -> bool:
    """Returns whether a configuration is of the published kind.

    Those of `weatherlib train` have an output and stages.
    """
    return "stages" not in values and "output" not in values


def read_published(values: Mapping[str, Any]) -> Published:
    """Returns a published configuration, all of its keys checked.

    Args:
      values: As read from YAML.

    Raises:
      ValueError: A key is unknown; the message has the nearest known one.
    """
    named = {_ALIASES.get(name, name): name for name in values}
    known = [*_SECTIONS, "model", OWN_SECTION]
    _require_known("", list(values), [*known, *_ALIASES])
    if len(named) < len(values):
        raise ValueError("dataset and data, vis and eval: give one of the two")
    sections = {n: _section(values, named.get(n, n)) for n in _SECTIONS}
    for name, section in sections.items():
        _require_known(named.get(name, name), section, _SECTIONS[name].split())
    model = _model(_section(values, "model"))
    unused = [
        f"{named[name]}.{key}"
        for name, keys in _WITHOUT_EFFECT.items()
        for key in keys.split()
        if key in sections[name]
    ]
    own = _section(values, OWN_SECTION)
    return Published(sections, model, own, tuple(unused))


def _model(given: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Returns the sections of the model; that of the autoencoder's own file is one."""
    if given and not set(given) & {*_MODEL, "latent_model"}:
        given = {"vae": given}
    _require_known("model", given, [*_MODEL, "latent_model"])
    found = {name: _section(given, name) for name in (*_MODEL, "latent_model")}
    for name, keys in _MODEL.items():
        _require_known(f"model.{name}", found[name], keys.split())
    loss = _section(found["vae"], "loss")
    _require_known("model.vae.loss", loss, _VAE_LOSS.split())
    return found


def _section(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = values.get(name)
    if found is None:
        return {}
    if not isinstance(found, Mapping):
        raise ValueError(f"{name}: expected keys and values, found {found!r}")
    return found


def _require_known(section: str, found: Any, known: Sequence[str]) -> None:
    for key in found:
        if key not in known:
            hint = config.closest_hint(key, known)
            place = f"{section}.{key}" if section else str(key)
            raise ValueError(f"{place}: there is no such key{hint}")
