"""Nowcasts of `weatherlib nowcast` over several devices."""

import json

import pytest
import xarray

from tests import processes
from tests.cli import radar_runs
from tests.prediff import stage_cases
from weatherlib.cli import main
from weatherlib.prediff import stage_config

FOUR = "--xla_force_host_platform_device_count=4"
FIXED = ("--samples", "3", "--batch-size", "2", "--members", "3", "--pools", "1")
GUIDED = ("--sampler", "ddim:3", "--guide", "50:1.5", "--alignment")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A radar file, a ConvLSTM trained on it, and weights of PreDiff."""
    folder = tmp_path_factory.mktemp("shared")
    radar_runs.write(folder, stages=[{"steps": 1, "batch_size": 2}], validation={})
    words = ["train", str(folder / "train.yaml"), "--set", "data.radar.tile=8"]
    words += ["--set", "checkpoint_every=1", "--set", "data.validation=null"]
    words += ["--set", f"output={folder / 'convlstm'}"]
    assert main.main(words) == 0
    for name, config in (
        (stage_config.PREDIFF_DENOISER, stage_cases.DENOISER),
        (stage_config.PREDIFF_ALIGNMENT, stage_cases.ALIGNMENT),
    ):
        (folder / name).mkdir()
        weights = stage_cases.params(config)
        stage_cases.save(folder / name / "checkpoint.npz", config, weights, name)
    return folder


def _words(folder, output, models, *more):
    """Returns the words of a command for models by the names of their folders."""
    config = folder / "convlstm" / "config.yaml"
    return [
        "nowcast", *(f"{name}={folder / name}" for name in models),
        "--config", str(config), "--output", str(folder / output), "--still",
        "--cases", "0", "--references", "none", *FIXED, *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def shared(folder):
    """What four devices printed on both streams, and the exit codes of all commands."""
    guided = (*GUIDED, str(folder / stage_config.PREDIFF_ALIGNMENT))
    both = ("convlstm", "prediff")
    words = [
        _words(folder, "one", both, *guided),
        _words(folder, "four", both, *guided, "--sharding", "data=4"),
        _words(folder, "space", ("convlstm",), "--sharding", "data=2,space=-1"),
        _words(folder, "never", both, "--sharding", "data=2,space=2"),
        _words(folder, "never", both, "--sharding", "data=3"),
    ]
    started = processes.launch(
        "tests.cli.nowcast_worker", json.dumps(words), XLA_FLAGS=FOUR
    )
    output, errors = started.communicate(timeout=processes.TIME_LIMIT)
    assert started.returncode == 0, errors
    return output, errors, json.loads(output.strip().splitlines()[-1])


def _scores(folder, name):
    return xarray.load_dataset(folder / name / "scores.nc", decode_timedelta=True)


def test_four_devices_draw_the_nowcasts_of_one(folder, shared):
    output, _, statuses = shared
    assert statuses[:2] == [0, 0]
    one, four = _scores(folder, "one"), _scores(folder, "four")
    assert {"convlstm", "prediff", "prediff, guided"} <= set(one["model"].values)
    xarray.testing.assert_allclose(four, one, rtol=1e-3, atol=1e-3)
    assert "layout" in output and "data: 4 on 4 cpu devices" in output


def test_pixels_of_models_of_frames_are_shared_too(folder, shared):
    output, _, statuses = shared
    assert statuses[2] == 0
    one, space = _scores(folder, "one"), _scores(folder, "space")
    for name in ("rmse", "csi", "mse_over_leads"):
        expected = one[name].sel(model=["convlstm"])
        xarray.testing.assert_allclose(space[name], expected, rtol=1e-4, atol=1e-4)
    assert "data: 2, space: 2 on 4 cpu devices" in output


def test_what_devices_cannot_share_ends_in_one_line(folder, shared):
    _, errors, statuses = shared
    assert statuses[3:] == [2, 2]
    assert "not its pixels; use --sharding data=4" in errors
    assert "--sharding: mesh: " in errors and "Traceback" not in errors
    assert not (folder / "never" / "scores.nc").exists()


@pytest.mark.parametrize(("text", "said"), [("data", "axes and sizes"),
                                            ("dta=2", "did you mean")])  # fmt: skip
def test_an_option_that_is_none_is_refused(folder, capsys, text, said):
    words = _words(folder, "never", ("convlstm",), "--sharding", text)
    assert main.main(words) == 2
    assert said in capsys.readouterr().err
