"""Keys and values of the original configuration files of PreDiff, as YAML reads them.

Numbers such as `5e-6` are text then. There is one file for each stage; none of them
says where the data are.
"""

import copy

_LEVELS = 4


def data(**changes):
    """Returns the section `dataset`."""
    values = {
        "dataset_name": "sevirlr", "img_height": 128, "img_width": 128,
        "in_len": 7, "out_len": 6, "seq_len": 13, "plot_stride": 1,
        "interval_real_time": 10, "sample_mode": "sequent", "stride": 6,
        "layout": "NTHWC", "start_date": None, "train_test_split_date": [2019, 6, 1],
        "end_date": None, "val_ratio": 0.1, "metrics_mode": "0",
        "metrics_list": ["csi", "pod", "sucr", "bias"],
        "threshold_list": [16, 74, 133, 160, 181, 219], "aug_mode": "2",
    }  # fmt: skip
    return values | changes


def vae(**changes):
    """Returns sizes of the autoencoder."""
    values = {
        "data_channels": 1, "down_block_types": ["DownEncoderBlock2D"] * _LEVELS,
        "in_channels": 1, "block_out_channels": [128, 256, 512, 512],
        "act_fn": "silu", "latent_channels": 64,
        "up_block_types": ["UpDecoderBlock2D"] * _LEVELS, "norm_num_groups": 32,
        "layers_per_block": 2, "out_channels": 1,
    }  # fmt: skip
    return values | changes


_NETWORK = {
    "scale_alpha": 1.0, "num_heads": 4, "attn_drop": 0.1, "proj_drop": 0.1,
    "ffn_drop": 0.1, "downsample": 2, "downsample_type": "patch_merge",
    "ffn_activation": "gelu", "gated_ffn": False, "norm_layer": "layer_norm",
    "pos_embed_type": "t+h+w", "padding_type": "zeros", "checkpoint_level": 0,
    "use_relative_pos": True, "self_attn_use_final_proj": True,
    "num_global_vectors": 0, "global_dim_ratio": 1, "attn_linear_init_mode": "0",
    "ffn_linear_init_mode": "0", "ffn2_linear_init_mode": "2",
    "attn_proj_linear_init_mode": "2", "conv_init_mode": "0",
    "global_proj_linear_init_mode": "2", "norm_init_mode": "0",
    "time_embed_channels_mult": 4, "time_embed_use_scale_shift_norm": False,
    "time_embed_dropout": 0.0,
}  # fmt: skip
_LATENT_MODEL = {
    **_NETWORK,
    "input_shape": [7, 16, 16, 64], "target_shape": [6, 16, 16, 64],
    "base_units": 256, "upsample_type": "upsample", "upsample_kernel_size": 3,
    "depth": [4, 4], "self_pattern": "axial", "use_dec_self_global": False,
    "dec_self_update_global": True, "use_dec_cross_global": False,
    "use_global_vector_ffn": False, "use_global_self_attn": True,
    "separate_global_qkv": True, "down_up_linear_init_mode": "0",
    "unet_res_connect": True,
}  # fmt: skip
_ALIGN = {
    "alignment_type": "avg_x", "model_type": "cuboid",
    "model_args": {
        **_NETWORK,
        "input_shape": [6, 16, 16, 64], "out_channels": 1, "base_units": 128,
        "depth": [1, 1], "block_attn_patterns": "axial", "use_inter_ffn": True,
        "hierarchical_pos_embed": False, "use_global_vector_ffn": True,
        "use_global_self_attn": False, "separate_global_qkv": False,
        "down_linear_init_mode": "0", "pool": "attention", "readout_seq": True,
        "out_len": 6,
    },
}  # fmt: skip
_NOISE = {
    "beta_schedule": "linear", "linear_start": "1e-4", "linear_end": "2e-2",
    "cosine_s": "8e-3", "given_betas": None, "cond_stage_model": "__is_first_stage__",
    "num_timesteps_cond": None, "cond_stage_trainable": False,
    "cond_stage_forward": None, "scale_by_std": False, "scale_factor": 1.0,
}  # fmt: skip
_OPTIM = {
    "seed": 0, "float32_matmul_precision": "high", "gradient_clip_val": 1.0,
    "warmup_percentage": 0.1, "lr_scheduler_mode": "cosine", "min_lr_ratio": 1.0e-3,
    "warmup_min_lr_ratio": 0.1, "early_stop": False, "early_stop_mode": "min",
}  # fmt: skip
_LOGGING = {
    "monitor_lr": True, "monitor_device": False, "track_grad_norm": -1,
    "use_wandb": False,
}  # fmt: skip
_TRAINER = {
    "log_step_ratio": 0.001, "precision": 32, "find_unused_parameters": False,
    "num_sanity_val_steps": 2,
}  # fmt: skip
_LAYOUT = {
    "in_len": 7, "out_len": 6, "img_height": 128, "img_width": 128,
    "data_channels": 1, "layout": "NTHWC",
}  # fmt: skip
_EXAMPLES = [0, 16, 32, 48, 64, 72, 96, 108, 128]


def autoencoder_file():
    """Returns the file of the autoencoder, whose samples are single frames."""
    loss = {
        "disc_start": 50001, "kl_weight": "1e-6", "disc_weight": 0.5,
        "perceptual_weight": 0.0, "disc_in_channels": 1,
    }  # fmt: skip
    return copy.deepcopy({
        "dataset": data(in_len=0, out_len=1, seq_len=1, stride=1, aug_mode="1"),
        "layout": {"layout": "NHWC"},
        "optim": {
            **_OPTIM, "total_batch_size": 512, "micro_batch_size": 16,
            "method": "adam", "lr": "5e-6", "betas": [0.5, 0.9], "max_epochs": 500,
            "monitor": "val/total_loss", "early_stop_patience": 5, "save_top_k": 5,
        },
        "logging": {**_LOGGING, "logging_prefix": "VAE"},
        "trainer": {**_TRAINER, "check_val_every_n_epoch": 5},
        "eval": {
            "train_example_data_idx_list": [0], "val_example_data_idx_list": [0],
            "test_example_data_idx_list": _EXAMPLES, "eval_example_only": False,
            "num_vis": 10,
        },
        "model": {**vae(), "loss": loss},
    })  # fmt: skip


def alignment_file():
    """Returns the file of the alignment network."""
    return copy.deepcopy({
        "dataset": data(),
        "layout": _LAYOUT,
        "optim": {
            **_OPTIM, "total_batch_size": 128, "micro_batch_size": 32,
            "method": "adamw", "lr": 1.0e-3, "wd": 1.0e-2, "betas": [0.9, 0.999],
            "max_epochs": 1000, "loss_type": "l2", "plateau_patience": 10,
            "monitor": "val_loss", "early_stop_patience": 100, "save_top_k": 3,
        },
        "logging": {**_LOGGING, "logging_prefix": "AvgX", "profiler": None},
        "trainer": {**_TRAINER, "check_val_every_n_epoch": 5},
        "eval": {
            "train_example_data_idx_list": [], "val_example_data_idx_list": [],
            "test_example_data_idx_list": [], "eval_example_only": False,
            "num_samples_per_context": 1, "save_gif": False, "gif_fps": 2.0,
        },
        "model": {
            "diffusion": {**_NOISE, "timesteps": 1000},
            "align": _ALIGN,
            "vae": vae(pretrained_ckpt_path="vae.pt"),
        },
    })  # fmt: skip


def denoiser_file():
    """Returns the file of the denoiser."""
    noise = {
        **_NOISE, "data_shape": [6, 128, 128, 1], "use_ema": True, "log_every_t": 100,
        "clip_denoised": False, "original_elbo_weight": 0.0, "v_posterior": 0.0,
        "l_simple_weight": 1.0, "parameterization": "eps", "learn_logvar": True,
        "logvar_init": 0.0, "latent_shape": [6, 16, 16, 64],
        "latent_cond_shape": [7, 16, 16, 64],
    }  # fmt: skip
    return copy.deepcopy({
        "dataset": data(),
        "layout": _LAYOUT,
        "optim": {
            **_OPTIM, "total_batch_size": 64, "micro_batch_size": 2,
            "method": "adamw", "lr": 1.0e-3, "wd": 1.0e-5, "betas": [0.9, 0.999],
            "max_epochs": 2000, "loss_type": "l2", "monitor": "val/loss",
            "early_stop_patience": 100, "save_top_k": 3,
        },
        "logging": {
            **_LOGGING, "logging_prefix": "PreDiff", "profiler": None, "save_npy": True,
        },
        "trainer": {**_TRAINER, "check_val_every_n_epoch": 50},
        "eval": {
            "train_example_data_idx_list": [0], "val_example_data_idx_list": _EXAMPLES,
            "test_example_data_idx_list": _EXAMPLES, "eval_example_only": True,
            "eval_aligned": True, "eval_unaligned": True, "num_samples_per_context": 1,
            "fs": 20, "label_offset": [-0.5, 0.5], "label_avg_int": False,
            "fvd_features": 400,
        },
        "model": {
            "diffusion": noise,
            "align": {**_ALIGN, "guide_scale": 50.0, "model_ckpt_path": "reader.pt"},
            "latent_model": _LATENT_MODEL,
            "vae": vae(pretrained_ckpt_path="vae.pt"),
        },
    })  # fmt: skip


FILES = {
    "autoencoder": autoencoder_file,
    "denoiser": denoiser_file,
    "alignment": alignment_file,
}
"""The file of each stage."""


def changed(values, **changes):
    """Returns a file with "section__key" set to other values."""
    for place, value in changes.items():
        *parents, last = place.split("__")
        held = values
        for parent in parents:
            held = held.setdefault(parent, {})
        held[last] = value
    return values
