"""The script for nowcasts, trained and tested on a tiny radar file."""

import pytest
import yaml

from tests.cli import radar_runs
from tests.examples import scripts
from weatherlib.cli import models


@pytest.fixture(scope="module")
def example():
    """The script as a module."""
    module = scripts.load("nowcast")
    yield module


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a radar file and a published configuration for it."""
    folder = tmp_path_factory.mktemp("nowcast")
    radar_runs.series().to_netcdf(folder / "radar.nc")
    values = {
        "data": {
            "dataset_name": "radar", "root_dir": str(folder / "radar.nc"), "stride": 2,
            "train_test_split_date": [2020, 6, 1, 2, 40], "aug_mode": "0",
            "plot_stride": 1, "img_height": 16, "img_width": 16,
            "threshold_list": [16, 74],
        },
        "layout": {"t_in": 3, "t_out": 2},
        "optim": {"total_batch_size": 4, "max_epochs": 1, "lr": 0.01},
        "summary": {"summary_dir": str(folder / "out")},
        "eval": {"test_example_data_idx_list": [1, 999]},
        "weatherlib": {
            "convlstm": {
                "stages": [{"steps": 2, "batch_size": 4}],
                "schedule": {"peak": 0.01},
                "model": {"hidden_channels": 3, "num_layers": 1},
            }
        },
    }  # fmt: skip
    (folder / "cfg.yaml").write_text(yaml.safe_dump(values))
    return folder


def _words(folder, mode, *more):
    return ["--cfg", str(folder / "cfg.yaml"), "--mode", mode,
            "--stage", "convlstm", *more]  # fmt: skip


@pytest.fixture(scope="module")
def trained(example, folder):
    """What the training printed."""
    assert example.main(_words(folder, "train", "--device_target", "CPU")) == 0
    return folder / "out" / "convlstm"


def test_a_stage_is_trained_and_tested(example, folder, trained, capsys):
    model = models.load_model(trained / "checkpoint.npz")
    assert model.family == "convlstm"
    assert model.model_config.input_length == 3
    assert "without effect" not in (trained / "config.yaml").read_text()
    assert example.main(_words(folder, "test", "--samples", "3")) == 0
    printed = capsys.readouterr().out
    assert "CSI, pixels of 74 and more" in printed
    assert "extrapolation" in printed
    names = {path.name for path in (trained / "test").iterdir()}
    assert {"scores.nc", "scores.csv", "csi.png", "spectra.png", "case_1.gif"} <= names
    assert "case_2.png" not in names


def test_training_goes_on_and_says_what_has_no_effect(example, folder, trained, capsys):
    assert example.main(_words(folder, "train")) == 0
    printed = capsys.readouterr().out
    assert "without effect: data.plot_stride" in printed
    assert "2 updates" in printed


def test_a_configuration_of_ours_does_as_well(example, trained, capsys):
    words = ["--cfg", str(trained / "config.yaml")]
    assert example.main([*words, "--mode", "train"]) == 0
    assert "2 updates" in capsys.readouterr().out
    scores = trained / "test" / "scores.nc"
    scores.unlink(missing_ok=True)
    assert example.main([*words, "--mode", "test", "--samples", "2"]) == 0
    assert scores.is_file()
    capsys.readouterr()
    assert example.main([*words, "--stage", "denoiser"]) == 2
    assert "trains convlstm, not --stage denoiser" in capsys.readouterr().err


def test_ascend_falls_back_to_the_default_device(example):
    import jax

    with pytest.warns(UserWarning, match="its default one is used"):
        assert example.device("Ascend", 0) == jax.devices()[0]
    assert example.device(None, 0) == jax.devices()[0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--cfg", "nowhere.yaml"], "nowhere.yaml: the configuration does not exist"),
        (["--mode", "predict"], "invalid choice: 'predict'"),
        (["--stage", "unet"], "invalid choice: 'unet'"),
        (["--device_target", "TPU"], "--device_target TPU: there is none"),
        (["--device_id", "7777"], "--device_id 7777: there are"),
        (["--mode", "test", "--members", "0"], "--members is at least 1"),
        (["--mode", "test", "--stage", "alignment"], "makes no nowcasts"),
        (["--mode", "test", "--guide", "50"], "train --stage alignment"),
        (["--mode", "test", "--guide", "--alignment", "x.npz"], "can be guided"),
        (["--set", "data.radar.tile=99"], "tiles of 99 x 99 cells do not fit"),
    ],
)
def test_mistakes_end_in_one_line(example, folder, trained, capsys, words, said):
    assert example.main([*_words(folder, "train"), *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1


def test_the_default_file_is_named_where_it_is_missing(example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert example.main([]) == 2
