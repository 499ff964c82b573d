"""Published YAML files of PreDiff as settings of our own."""

import pathlib

import pytest
import yaml

from weatherlib import config, training
from weatherlib.cli import nowcast_keys, nowcast_settings, settings
from weatherlib.data import radar_sequences
from weatherlib.diffusion import PREDIFF
from weatherlib.diffusion.config import DiffusionConfig
from weatherlib.prediff import PUBLISHED_ALIGNMENT, PUBLISHED_UNET

_EXAMPLE = (
    pathlib.Path(__file__).parents[2] / "examples" / "configs" / "diffusion_cfg.yaml"
)
# What the two dialects say about the same run.
_EDITION = {
    "data": {
        "dataset_name": "sevirlr", "seq_in": 13, "stride": 6, "aug_mode": "2",
        "train_test_split_date": [2019, 6, 1], "val_ratio": 0.1, "root_dir": "sevir_lr",
        "plot_stride": 1, "raw_seq_len": 25,
    },
    "layout": {"t_in": 7, "t_out": 6, "data_channels": 1, "layout": "NTHWC"},
    "optim": {
        "total_batch_size": 64, "micro_batch_size": 2, "seed": 3, "method": "adamw",
        "lr": 1e-3, "wd": 1e-5, "betas": [0.9, 0.999], "gradient_clip_val": 1.0,
        "max_epochs": 2000, "warmup_percentage": 0.1, "lr_scheduler_mode": "cosine",
        "min_lr_ratio": 1e-3, "warmup_min_lr_ratio": 0.1, "early_stop": True,
        "early_stop_patience": 100,
    },
    "trainer": {"check_val_every_n_epoch": 50, "precision": 32},
    "model": {
        "diffusion": {"beta_schedule": "linear", "learn_logvar": True, "use_ema": True},
        "align": {"alignment_type": "avg_x", "model_args": {
            "input_shape": [6, 16, 16, 64], "base_units": 128, "depth": [1, 1],
            "use_attn_pattern": True, "t_out": 6, "attn_drop": 0.1, "proj_drop": 0.1,
            "ffn_drop": 0.1,
        }},
        "latent_model": {
            "input_shape": [7, 16, 16, 64], "target_shape": [6, 16, 16, 64],
            "base_units": 256, "depth": [4, 4], "use_attn_pattern": True,
            "attn_drop": 0.1, "proj_drop": 0.1, "ffn_drop": 0.1,
            "use_global_vector_ffn": False, "use_global_self_attn": True,
            "separate_global_qkv": True, "ffn_activation": "gelu",
            "padding_type": "zeros",
        },
        "vae": {"pretrained_ckpt_path": "vae.ckpt", "latent_channels": 64},
    },
    "summary": {"summary_dir": "out", "keep_ckpt_max": 5},
}  # fmt: skip


def _original():
    """Returns the same in the names of the original files."""
    model = {name: dict(part) for name, part in _EDITION["model"].items()}
    args = dict(model["align"]["model_args"])
    del args["use_attn_pattern"]
    args |= {"block_attn_patterns": "axial", "out_len": args.pop("t_out")}
    model["align"]["model_args"] = args
    del model["latent_model"]["use_attn_pattern"]
    model["latent_model"] |= {"self_pattern": "axial", "use_dec_self_global": False}
    data = dict(_EDITION["data"])
    data |= {"seq_len": data.pop("seq_in"), "in_len": 7, "out_len": 6}
    return {
        **{name: part for name, part in _EDITION.items() if name != "data"},
        "dataset": data,
        "layout": {"in_len": 7, "out_len": 6, "img_height": 128},
        "vis": {"num_samples_per_context": 1, "fs": 20},
        "model": model,
    }


def _run(values, stage="denoiser", samples=6400):
    given = nowcast_keys.read_published(values)
    return nowcast_settings.run_settings(given, stage, samples=samples)


@pytest.mark.parametrize("values", [_EDITION, _original()], ids=["edition", "original"])
def test_both_dialects_give_the_published_networks(values):
    denoiser = _run(values)
    assert denoiser["model"]["denoiser"] == dict(PUBLISHED_UNET)
    assert _run(values, "alignment")["model"]["network"] == dict(PUBLISHED_ALIGNMENT)
    noise = denoiser["model"]["diffusion"]
    assert config.from_dict(DiffusionConfig, noise) == PREDIFF
    assert denoiser["model"]["autoencoder"] == "vae.ckpt"
    assert denoiser["output"] == "out/denoiser"


def test_passes_become_updates_and_ratios_rates():
    found = _run(_EDITION)
    # 800 samples in 8 ways make 12.5 published batches of 64 a pass.
    stage = found["stages"][0]
    assert stage["steps"] == 2000 * 800 // 64
    schedule = {"peak": 1e-3, "start": 1e-4, "end": 1e-6, "warmup": 2500}
    assert stage["schedule"] == {"kind": "warmup_cosine", **schedule}
    assert found["validation"]["every"] == 625
    assert found["validation"]["patience"] == 100
    assert found["optimizer"]["accumulate"] == 32
    assert found["optimizer"]["ema"] == 0.9999
    assert found["optimizer"]["weight_decay"] == 1e-5
    assert (found["keep"], found["seed"], found["precision"]) == (5, 3, "float32")


def test_the_data_are_the_published_split():
    given = nowcast_keys.read_published(_EDITION)
    read = config.from_dict(training.DataConfig, nowcast_settings.data_settings(given))
    assert read.path == "sevir_lr"
    assert read.radar.kind == "sevir"
    assert read.radar.augment == "flips_rotations"
    assert read.radar.date == "2019-06-01T00:00:00"
    assert read.radar.validation_share == 0.1
    assert (read.train.split, read.test.split) == ("train", "test")
    assert given.unused == ("data.plot_stride", "data.raw_seq_len")


def test_mode_1_of_augmentation_turns_by_any_angle():
    edition = {**_EDITION, "data": {**_EDITION["data"], "aug_mode": "1"}}
    given = nowcast_keys.read_published(edition)
    assert nowcast_settings.data_settings(given)["radar"]["augment"] == "flips_angles"


def test_a_radar_file_is_cut_by_the_dates_and_sizes():
    data = {
        "dataset_name": "radar", "root_dir": "rain.nc", "stride": 2, "aug_mode": "0",
        "train_val_split_date": [2010, 8, 26, 3, 20],
        "train_test_split_date": "2010-08-26T04:00",
        "img_height": 64, "img_width": 32,
    }  # fmt: skip
    given = nowcast_keys.read_published({"data": data})
    read = config.from_dict(training.DataConfig, nowcast_settings.data_settings(given))
    assert read.radar.tile == (64, 32)
    assert read.train.end == read.validation.start == "2010-08-26T03:20:00"
    assert read.validation.end == read.test.start == "2010-08-26T04:00"


def test_own_settings_come_last():
    model = {"family": "pixel_unet", "input_length": 7}
    own = {
        "all": {"seed": 9, "data": {"radar": {"stride": 2}}},
        "convlstm": {"model": model},
    }
    found = _run({**_EDITION, "weatherlib": own}, "convlstm")
    assert found["seed"] == 9
    assert found["data"]["radar"]["stride"] == 2
    assert found["data"]["radar"]["inputs"] == 7
    assert found["model"] == model
    with pytest.raises(ValueError, match=r"weatherlib\.denoise.*mean 'denoiser'"):
        _run({**_EDITION, "weatherlib": {"denoise": {}}})


def test_the_file_of_the_autoencoder_has_its_model_in_one_section():
    values = {
        "dataset": {"in_len": 0, "out_len": 1, "seq_len": 1, "root_dir": "sevir_lr"},
        "optim": {"method": "adam", "lr": 5e-6, "betas": [0.5, 0.9]},
        "model": {
            "latent_channels": 8, "block_out_channels": [32, 64],
            "down_block_types": ["DownEncoderBlock2D"] * 2,
            "loss": {"kl_weight": 1e-5, "disc_weight": 0.5, "disc_start": 7,
                     "perceptual_weight": 0.0},
        },
    }  # fmt: skip
    found = _run(values, "autoencoder")
    assert found["data"]["radar"]["inputs"] == 0
    assert found["model"]["output_length"] == 1
    assert config.from_dict(training.TrainConfig, found)
    model = found["model"]
    assert model["autoencoder"]["latent_channels"] == 8
    assert model["autoencoder"]["block_out_channels"] == [32, 64]
    assert model["loss"] == {
        "kl_weight": 1e-5, "adversarial_weight": 0.5, "adversarial_start": 7,
    }  # fmt: skip
    assert found["optimizer"]["weight_decay"] == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dat": {}}, "dat: there is no such key (did you mean 'data'?)"),
        ({"data": {"root_dirs": "x"}}, "data.root_dirs: there is no such key "
         "(did you mean 'root_dir'?)"),
        ({"vis": {}, "eval": {}}, "give one of the two"),
        ({"model": {"diffusion": {"timestep": 9}}}, "model.diffusion.timestep"),
        ({"model": {"latent_model": {"base_unit": 9}}}, "did you mean 'base_units'?"),
        ({"model": {"align": {"model_args": {"depths": [1]}}}}, "model.align: "),
        ({"model": {"vae": {"up_block_types": ["Up"]}}}, "all must be UpDecoderBlock"),
        ({"model": {"vae": {"loss": {"perceptual_weight": 1}}}}, "is fetched"),
        ({"model": {"diffusion": {"beta_schedule": "linar"}}}, "mean 'linear'"),
        ({"model": {"diffusion": {"given_betas": [0.1]}}}, "cannot be listed"),
        ({"model": {"diffusion": {"parameterization": "epsilon"}}}, "mean 'eps'"),
        ({"optim": {"method": "sgd"}}, "adam and adamw, found 'sgd'"),
        ({"optim": {"lr_scheduler_mode": "plateau"}}, "there is cosine"),
        ({"optim": {"max_epochs": 0}}, "expected a number from 1 on"),
        ({"data": {"root_dir": ""}}, "data.root_dir: missing"),
        ({"data": {"root_dir": "x", "seq_in": 12}}, "is not the sum of 7"),
        ({"data": {"root_dir": "x", "aug_mode": "5"}}, "there is no mode '5'"),
        ({"data": {"root_dir": "x", "dataset_name": "hko"}}, "there is no 'hko'"),
        ({"data": {"root_dir": "x", "end_date": [2020, 1]}}, "such as [2019, 6, 1]"),
        ({"data": {"root_dir": "x", "train_test_split_date": 2019}}, "such as [2019"),
        ({"layout": {"t_in": 7}, "data": {"root_dir": "x", "in_len": 5}},
         "must be the same"),
        ({"optim": 3}, "expected keys and values"),
    ],
)  # fmt: skip
def test_wrong_keys_and_values_say_what_would_do(change, said):
    values = {"data": {"root_dir": "x"}, **change}
    with pytest.raises(ValueError) as caught:
        for stage in ("denoiser", "autoencoder"):
            _run(values, stage)
    assert said in str(caught.value)


def test_the_example_is_of_the_published_sizes():
    values = settings.read_values(_EXAMPLE)
    assert nowcast_keys.is_published(values)
    given = nowcast_keys.read_published(values)
    assert not given.unused
    for stage in nowcast_settings.STAGES:
        run = nowcast_settings.run_settings(given, stage, samples=100)
        assert config.from_dict(training.TrainConfig, run).stages
    coder = nowcast_settings.run_settings(given, "autoencoder", samples=100)
    assert coder["data"]["radar"]["inputs"] == 0
    head = _EXAMPLE.read_text().split("data:")[0]
    assert "python nowcast.py" in head
    assert "Hardware and time:" in head and "Score:" in head


@pytest.mark.parametrize(
    ("name", "passes", "batch"),
    [("sevirlr_prediff", 2000, 64), ("sevirlr_prediff_alignment", 1000, 128)],
)
def test_examples_make_as_many_updates_as_published(name, passes, batch):
    run = settings.read(training.TrainConfig, _EXAMPLE.with_name(f"{name}.yaml"))
    ways = radar_sequences.VARIANTS[run.data.radar.augment]
    stage = run.stages[0]
    assert (stage.epochs * ways, stage.batch_size) == (passes, batch)
    assert stage.schedule.warmup_epochs == 0.1 * stage.epochs


def test_the_published_file_can_be_written_and_read():
    text = yaml.safe_dump(_EDITION)
    assert _run(settings.parse(text, "text")) == _run(_EDITION)
