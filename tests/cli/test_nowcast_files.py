"""The original files of PreDiff as they are, and what of them is not followed."""

import pytest
import yaml

from tests.cli import prediff_files
from weatherlib import config, training
from weatherlib.cli import (
    families,
    nowcast_job,
    nowcast_keys,
    nowcast_networks,
    nowcast_settings,
)
from weatherlib.prediff import PUBLISHED_ALIGNMENT, PUBLISHED_UNET

changed = prediff_files.changed


def _run(values, stage=None, samples=6400, changes=("data.path=sevirlr",)):
    given = nowcast_keys.read_published(values)
    return nowcast_settings.run_settings(
        given, stage or given.stage, samples=samples, changes=changes
    )


@pytest.mark.parametrize("stage", prediff_files.FILES)
def test_the_original_files_are_taken_as_they_are(stage):
    values = prediff_files.FILES[stage]()
    assert nowcast_keys.read_published(values).stage == stage
    read = config.from_dict(training.TrainConfig, _run(values))
    _, model = families.find_family(read.model)
    assert read.model["family"] == nowcast_settings.STAGES[stage]
    if stage == "denoiser":
        assert model.denoiser == PUBLISHED_UNET
        assert model.diffusion.schedule.start == 1e-4
    if stage == "alignment":
        assert model.network == PUBLISHED_ALIGNMENT
        assert read.optimizer.weight_decay == 1e-2
    assert read.data.path == "sevirlr"


def test_the_autoencoder_is_trained_on_single_frames():
    found = _run(prediff_files.autoencoder_file(), samples=96 * 51200)
    assert found["data"]["radar"]["inputs"] == 0
    assert found["data"]["radar"]["stride"] == 1
    assert found["data"]["radar"]["augment"] == "flips_angles"
    assert found["model"]["output_length"] == 1
    schedule = found["stages"][0]["schedule"]
    assert (schedule["peak"], found["stages"][0]["steps"]) == (5e-6, 500 * 100)
    assert found["model"]["loss"]["kl_weight"] == 1e-6


@pytest.mark.parametrize("stage", ["denoiser", "convlstm"])
def test_a_forecast_needs_a_past(stage):
    with pytest.raises(ValueError, match=r"dataset\.in_len 0: .*--stage autoencoder"):
        _run(prediff_files.autoencoder_file(), stage)


def test_data_that_are_not_named_can_be_given_in_three_ways(tmp_path):
    path = tmp_path / "cfg.yaml"
    path.write_text(yaml.safe_dump(prediff_files.denoiser_file()))
    for words, data in (
        (["data.path=there"], None),
        (["dataset.root_dir=there"], None),
        ([], "there"),
    ):
        job = nowcast_job.Job(str(path), None, words, data)
        job.check()
        assert job.data().path == "there"
    with pytest.raises(ValueError) as caught:
        nowcast_job.Job(str(path), None, []).check()
    for said in ("cfg.yaml: dataset.root_dir: missing", "--data PATH", "--set data.pa"):
        assert said in str(caught.value)


def test_keys_of_the_file_are_changed_by_name(tmp_path):
    path = tmp_path / "cfg.yaml"
    path.write_text(yaml.safe_dump(prediff_files.denoiser_file()))
    words = ["optim.lr=2e-4", "model.diffusion.timesteps=50", "seed=9"]
    found = nowcast_job.Job(str(path), None, words, "there")._settings()
    assert found["stages"][0]["schedule"]["peak"] == 2e-4
    assert found["model"]["diffusion"]["schedule"]["steps"] == 50
    assert found["seed"] == 9


def test_dates_of_sevir_reach_the_catalogue():
    values = changed(
        prediff_files.denoiser_file(),
        dataset__start_date=[2018, 1, 1],
        dataset__end_date=[2019, 8, 31, 12],
    )
    radar = _run(values)["data"]["radar"]
    assert radar["after"] == "2018-01-01T00:00:00"
    assert radar["until"] == "2019-08-31T12:00:00"
    assert config.from_dict(training.DataConfig, _run(values)["data"])


def test_no_scheduler_is_a_constant_rate_without_a_warm_up():
    values = changed(prediff_files.denoiser_file(), optim__lr_scheduler_mode="none")
    schedule = _run(values)["stages"][0]["schedule"]
    assert schedule == {"kind": "constant", "peak": 1e-3, "start": 1e-3, "warmup": 0}
    unused = nowcast_keys.read_published(values).unused
    assert {"optim.warmup_percentage", "optim.min_lr_ratio"} <= set(unused)


@pytest.mark.parametrize(
    "keys",
    [
        "dataset.interval_real_time dataset.img_height eval.eval_aligned "
        "eval.eval_unaligned model.diffusion.log_every_t model.diffusion.cosine_s "
        "model.latent_model.use_dec_self_global logging.save_npy",
        "eval.save_gif optim.plateau_patience",
        "eval.num_vis",
    ],
)
def test_keys_without_effect_are_listed(keys):
    unused = [
        nowcast_keys.read_published(make()).unused
        for make in prediff_files.FILES.values()
    ]
    assert any(set(keys.split()) <= set(found) for found in unused)
    for found in unused:
        assert not {"optim.lr", "model.diffusion.latent_shape"} & set(found)


def test_what_has_an_effect_depends_on_the_kind_of_data():
    data = {"train_val_split_date": [2019, 1, 1], "val_ratio": 0.1, "img_height": 64}
    sevir = nowcast_keys.read_published({"data": data}).unused
    radar = nowcast_keys.read_published({"data": {**data, "dataset_name": "radar"}})
    assert sevir == ("data.train_val_split_date", "data.img_height")
    assert radar.unused == ("data.val_ratio",)


def test_denoised_fields_are_clipped_where_asked_for():
    values = changed(
        prediff_files.denoiser_file(), model__diffusion__clip_denoised=True
    )
    assert _run(values)["model"]["sampler"] == {"clip": nowcast_networks.LATENT_LIMIT}
    assert "sampler" not in _run(prediff_files.denoiser_file())["model"]


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ("model__diffusion__cond_stage_trainable", True, "only false can be followed"),
        ("model__diffusion__cond_stage_model", "other", "only __is_first_stage__"),
        ("model__diffusion__cond_stage_forward", "x", "only encode can be followed"),
        ("model__diffusion__num_timesteps_cond", 5, "only 1 can be followed, found 5"),
        ("layout__in_step", 2, "layout.in_step: only 1 can be followed, found 2"),
        ("dataset__out_step", 2, "dataset.out_step: only 1"),
        ("layout__in_out_diff", 3, "only 1 can be followed"),
        ("layout__layout", "NTCHW", "only NTHWC or NHWC"),
        ("model__vae__data_channels", 4, "model.vae.data_channels: only 1"),
        ("model__vae__loss", {"disc_in_channels": 3}, "disc_in_channels: the discr"),
        ("model__align__alignment_type", "sum_x", "only avg_x or max_x"),
        ("model__diffusion__latent_shape", [6, 8, 16, 64], "rows of latent fields"),
        ("model__diffusion__latent_shape", [6, 16, 16, 4], "channels of latent"),
        ("model__diffusion__latent_cond_shape", [5, 16, 16, 64], "known frames must"),
        ("model__diffusion__data_shape", [4, 128, 128, 1], "frames that follow must"),
        ("model__diffusion__data_shape", [6, 64, 128, 1], "rows of frames must be"),
        ("model__diffusion__data_shape", [6, 128, 128, 3], "channels of frames"),
        ("model__align__model_args__input_shape", [6, 16, 8, 64], "columns of latent"),
        ("model__latent_model__input_shape", [5, 16, 16, 64], "known frames must"),
        ("model__vae__latent_channels", 4, "model.vae.latent_channels says 4"),
    ],
)  # fmt: skip
def test_what_would_change_numbers_is_refused(place, value, said):
    values = changed(prediff_files.denoiser_file(), **{place: value})
    for stage in ("denoiser", "convlstm"):
        with pytest.raises(ValueError) as caught:
            _run(values, stage)
        assert said in str(caught.value)


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ("optim__lr", None, "optim.lr: expected a number above 0, found null"),
        ("optim__lr", "fast", "optim.lr: expected a number above 0, found 'fast'"),
        ("optim__lr", 0, "optim.lr: expected a number above 0, found 0"),
        ("optim__betas", [0.9], "optim.betas: expected two numbers below 1"),
        ("optim__betas", [0.9, "x"], "optim.betas: expected two numbers below 1"),
        ("optim__wd", [1], "optim.wd: expected a number from 0 on"),
        ("optim__warmup_percentage", 10, "expected a number from 0 to 1, found 10"),
        ("optim__early_stop", "yes", "optim.early_stop: expected true or false"),
        ("optim__micro_batch_size", 3, "3 does not divide total_batch_size 64"),
        ("optim__total_batch_size", True, "expected a number from 1 on, found True"),
        ("trainer__log_step_ratio", "often", "trainer.log_step_ratio: expected a num"),
        ("dataset__start_date", [2019, 6.5, 1], "expected whole numbers such as"),
        ("dataset__threshold_list", 16, "dataset.threshold_list: expected a list"),
        ("dataset__val_ratio", float("nan"), "dataset.val_ratio: expected a number"),
        ("eval__test_example_data_idx_list", [-1], "expected a list of whole numbers"),
        ("model__diffusion__latent_shape", [6, 16, 16], "expected four numbers from 1"),
        ("model__align__model_args", 5, "model.align.model_args: expected keys and"),
        ("model__vae__block_out_channels", 5, "expected a list of whole numbers from"),
        ("summary__ckpt_path", 5, "summary.ckpt_path: expected text, found 5"),
        ("weatherlib__denoiser", 5, "weatherlib.denoiser: expected keys and values"),
        ("weatherlib__all", {"data": 5}, "weatherlib.all.data: expected keys and"),
    ],
)  # fmt: skip
def test_values_of_another_kind_are_named(place, value, said):
    values = changed(prediff_files.denoiser_file(), **{place: value})
    with pytest.raises(ValueError) as caught:
        _run(values)
    assert said in str(caught.value)


def test_text_that_is_a_number_counts_as_one_everywhere():
    values = changed(
        prediff_files.denoiser_file(),
        trainer__log_step_ratio="1e-3",
        optim__lr="1e-3",
        optim__betas=["9e-1", "9.99e-1"],
        optim__max_epochs="2e3",
        optim__wd="1e-5",
        dataset__threshold_list=["1.6e1", 74],
        model__latent_model__attn_drop="1e-1",
    )
    assert _run(values) == _run(prediff_files.denoiser_file())
    given = nowcast_keys.read_published(values)
    assert given.get("data.threshold_list") == [16, 74]


def test_no_clipping_is_null_or_zero():
    for value in (None, 0):
        values = changed(prediff_files.denoiser_file(), optim__gradient_clip_val=value)
        assert _run(values)["optimizer"]["clip"] is None
