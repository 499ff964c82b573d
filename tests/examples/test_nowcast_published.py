"""The script for nowcasts with original files and published weights."""

import shutil

import numpy as np
import pytest
import yaml

from tests.cli import prediff_files, radar_runs
from tests.conftest import GOLDENS
from tests.examples import scripts
from tests.prediff import published
from weatherlib.prediff import stages

_SIZES = published.listed("config")


@pytest.fixture(scope="module")
def example():
    """The script as a module."""
    module = scripts.load("nowcast")
    yield module


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with radar pictures, published weights, and files for both."""
    folder = tmp_path_factory.mktemp("published")
    radar_runs.series().to_netcdf(folder / "radar.nc")
    values = prediff_files.denoiser_file()
    sizes, args = dict(_SIZES["unet_a"]), dict(_SIZES["align_a"]["model_args"])
    sizes["self_pattern"] = sizes.pop("block_attn_patterns")
    vae = {
        **{key: _SIZES["vae"][key] for key in _SIZES["vae"] if key != "hw"},
        "pretrained_ckpt_path": str(published.FOLDER / "vae.pt"),
    }
    values["model"] = {
        "diffusion": {"learn_logvar": True, "clip_denoised": True},
        "align": {
            "alignment_type": "avg_x", "guide_scale": 50.0, "model_args": args,
            "model_ckpt_path": str(published.FOLDER / "align_a.pt"),
        },
        "latent_model": sizes,
        "vae": vae,
    }  # fmt: skip
    values["dataset"] = {
        "dataset_name": "radar", "root_dir": str(folder / "radar.nc"), "stride": 2,
        "train_test_split_date": [2020, 6, 1, 2, 0], "aug_mode": "0",
        "img_height": 32, "img_width": 32,
    }  # fmt: skip
    values["layout"] = {"in_len": 4, "out_len": 3, "layout": "NTHWC"}
    values["eval"]["test_example_data_idx_list"] = [1, 16]
    values["summary"] = {
        "summary_dir": str(folder / "out"),
        "ckpt_path": str(published.FOLDER / "unet_a.pt"),
    }
    _write(folder / "denoiser.yaml", values)
    values = prediff_files.autoencoder_file()
    values["dataset"]["val_ratio"] = 0.5
    values["model"] |= {
        "block_out_channels": [32], "latent_channels": 2, "layers_per_block": 1,
        "down_block_types": ["DownEncoderBlock2D"],
        "up_block_types": ["UpDecoderBlock2D"],
    }  # fmt: skip
    values["model"]["loss"]["disc_weight"] = 0.0
    values["optim"] |= {"total_batch_size": 4, "micro_batch_size": 2, "max_epochs": 1}
    values["summary"] = {"summary_dir": str(folder / "out")}
    _write(folder / "autoencoder.yaml", values)
    return folder


def _write(path, values):
    path.write_text(yaml.safe_dump(values))


def _words(folder, *more):
    return ["--cfg", str(folder / "denoiser.yaml"), "--mode", "test", *more]


def test_published_weights_are_tested_and_guided_as_they_are(example, folder, capsys):
    words = ["--members", "1", "--guide", "--sampler", "dpm_solver:2"]
    assert example.main(_words(folder, *words)) == 0
    printed = capsys.readouterr().out
    assert "denoiser, guided" in printed
    assert "1 listed samples are judged: eval_example_only" in printed
    assert "without effect: dataset" not in printed
    assert "eval.eval_aligned" in printed
    test = folder / "out" / "denoiser" / "test"
    assert (test / "scores.nc").is_file()
    # What was made of the weights is not left behind.
    assert not list((folder / "out").rglob("*.npz"))


def test_single_frames_train_the_autoencoder(example, folder, capsys):
    words = ["--cfg", str(folder / "autoencoder.yaml")]
    words += ["--data", str(GOLDENS / "prediff" / "sevirlr")]
    words += ["--set", "stages.0.steps=1", "--set", "validation.every=1"]
    words += ["--set", "optim.warmup_percentage=0"]
    assert example.main([*words, "--set", "validation.samples=2"]) == 0
    assert "1 updates" in capsys.readouterr().out
    held = stages.open_autoencoder(folder / "out" / "autoencoder" / "checkpoint.npz")
    assert held.model_config.autoencoder.latent_channels == 2
    assert held.task_config.input_duration == "10min"
    assert example.main([*words, "--mode", "test"]) == 2
    assert "makes no nowcasts" in capsys.readouterr().err
    shutil.rmtree(folder / "out" / "autoencoder")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["summary.ckpt_path=missing.ckpt"], "ckpt_path: missing.ckpt does not exist; "
         "without it, what this file trains is tested"),
        (["model.latent_model.base_unit=3"], "model.latent_model"),
        (["weatherlib.denoise={}"], "weatherlib.denoise: there is no such part"),
        (["weatherlib.denoiser={modle: {}}"], "unknown key 'modle'"),
        (["model.vae.pretrained_ckpt_path=gone.pt"], "gone.pt, does not exist; name "),
        (["model.latent_model.base_units=32"], "unet_a.pt prediff.npz --family prediff "
         "--autoencoder"),
        ([f"summary.ckpt_path={published.FOLDER / 'align_a.pt'}"], "align_a.pt"),
        ([f"summary.ckpt_path={scripts.FOLDER / 'nowcast.py'}"], "summary.ckpt_path: "),
        (["weatherlib.denoiser={model: {samplr: {}}}"], "mean 'sampler'"),
        (["trainer.log_step_ratio=often"], "trainer.log_step_ratio: expected"),
        (["optim.micro_batch_size=3"], "does not divide"),
    ],
)  # fmt: skip
def test_the_whole_file_is_checked_before_a_test(
    example,
    folder,
    capsys,
    changes,
    said,
):
    words = [word for change in changes for word in ("--set", change)]
    assert example.main(_words(folder, *words)) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "denoiser.yaml" in error
    assert len(error.splitlines()) == 1


def test_an_alignment_network_that_is_not_there_is_an_error(example, folder, capsys):
    change = ["--set", "model.align.model_ckpt_path=gone.pt"]
    assert example.main(_words(folder, "--guide", *change)) == 2
    error = capsys.readouterr().err
    assert "model.align.model_ckpt_path: gone.pt does not exist" in error
    assert example.main(_words(folder, "--guide", "--alignment", "away.pt")) == 2
    assert "--alignment: away.pt does not exist" in capsys.readouterr().err


def test_weights_keep_their_numbers_and_know_their_autoencoder(folder, tmp_path):
    from weatherlib.cli import nowcast_job, nowcast_settings, nowcast_weights
    from weatherlib.weights import flat

    job = nowcast_job.Job(str(folder / "denoiser.yaml"), None, [])
    found = job.checkpoints(str(tmp_path))["denoiser"]
    held = stages.open_denoiser(found)
    assert held.model_config.sampler.clip == 1.0
    source = flat.read(published.FOLDER / "unet_a.pt").arrays
    expected = source["first_proj.out_layers.3.bias"]
    arrays = [a for m in held.params.values() for a in m.values()]
    assert any(
        a.shape == expected.shape and np.array_equal(a, expected) for a in arrays
    )
    model = nowcast_settings.stage_model(job.published, "alignment")
    path = published.FOLDER / "align_a.pt"
    reader = nowcast_weights.as_checkpoint("here", path, model, tmp_path)
    assert stages.open_alignment(reader).model_config.digest == held.model_config.digest
    assert nowcast_weights.as_checkpoint("here", found, model, tmp_path) == found
