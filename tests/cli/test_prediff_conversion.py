"""`weatherlib weights convert --family` of PreDiff's published files."""

import numpy as np
import pytest

from tests.prediff import published
from weatherlib.cli import families, models
from weatherlib.cli import main as command
from weatherlib.prediff import stages
from weatherlib.weights import flat

VAE, UNET, ALIGN = (published.FOLDER / f"{n}.pt" for n in ("vae", "unet_a", "align_a"))


def _run(*arguments):
    return command.main(["weights", "convert", *map(str, arguments)])


def _with_autoencoder(family, path=VAE):
    words = ["--family", family, "--autoencoder", path, "--norm-groups", 4]
    return words + (["--frames", 4, 3] if family == "prediff" else [])


def _same(path, source):
    found, expected = flat.read(path).arrays, flat.read(source).arrays
    assert set(found) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)


def test_denoiser_and_autoencoder_become_one_model_and_return(tmp_path, capsys):
    target, back = tmp_path / "model.npz", tmp_path / "back.safetensors"
    assert _run(UNET, target, *_with_autoencoder("prediff")) == 0
    assert "a checkpoint of prediff" in capsys.readouterr().out
    assert families.recognise(target) == "prediff"
    model = models.load_model(target)
    assert model.time_step == "10min"
    assert model.task_config.target_variables == ("vil",)
    past, ahead = model.model_config.input_length, model.model_config.output_length
    assert model.task_config.input_duration == f"{10 * past}min"
    assert ahead == model.frames_per_step
    assert {m.split("/")[0] for m in model.params} == {
        "vae_encoder",
        "vae_decoder",
        "earthformer_unet",
    }
    assert _run(target, back) == 0
    _same(back, UNET)


def test_the_autoencoder_becomes_the_first_stage_and_is_taken_for_the_others(
    tmp_path,
):
    coder, model = tmp_path / "coder.npz", tmp_path / "model.npz"
    words = ["--family", "prediff_autoencoder", "--norm-groups", 4]
    assert _run(VAE, coder, *words, "--variables", "rain", "--time-step", "5min") == 0
    held = stages.open_autoencoder(coder)
    assert held.task_config.input_duration == "5min"
    assert held.task_config.input_variables == ("rain",)
    assert _run(coder, tmp_path / "back.npz") == 0
    _same(tmp_path / "back.npz", VAE)
    assert _run(UNET, model, *_with_autoencoder("prediff", coder)) == 0
    config = stages.open_denoiser(model).model_config
    assert config.latent == held.model_config.autoencoder
    assert config.digest == stages.digest(held.params)


def test_an_alignment_network_knows_its_autoencoder_and_returns(tmp_path):
    target, back = tmp_path / "reader.npz", tmp_path / "back.npz"
    model = tmp_path / "model.npz"
    assert _run(ALIGN, target, *_with_autoencoder("prediff_alignment")) == 0
    assert _run(UNET, model, *_with_autoencoder("prediff")) == 0
    reader = stages.open_alignment(target)
    assert {m.split("/")[0] for m in reader.params} == {"alignment"}
    assert reader.model_config.digest == stages.open_denoiser(model).model_config.digest
    assert _run(target, back) == 0
    _same(back, ALIGN)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([UNET, "--family", "prediff"], "name its file with --autoencoder"),
        ([ALIGN, *_with_autoencoder("prediff")], "it is one of prediff_alignment"),
        ([UNET, *_with_autoencoder("prediff")[:-3]], "works on 7 frames; give"),
        ([UNET, *_with_autoencoder("prediff", UNET)], "no KL autoencoder"),
        (
            [UNET, *_with_autoencoder("prediff"), "--format", "npz"],
            "makes a checkpoint; leave --family out to write arrays as npz",
        ),
    ],
)
def test_files_that_do_not_belong_together_are_refused(
    tmp_path, capsys, arguments, message
):
    source, *rest = arguments
    assert _run(source, tmp_path / "out.npz", *rest) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out.npz").exists()
