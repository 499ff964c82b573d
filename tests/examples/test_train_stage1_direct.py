"""The script that trains direct forecasts by the published flags."""

import argparse
import json

import numpy as np
import pytest
import xarray

from tests.examples import scripts
from tests.latent import cases
from tests.training import toys
from weatherlib import latent, training
from weatherlib.cli import models
from weatherlib.weights import direct_parts, vision

PUBLISHED = {
    "variables": "2m_temperature",
    "time_slice": "2015-01-01:2019-12-31",
    "input_length": 12,
    "output_length": 4,
    "batch_size": 4,
    "lr": 5e-5,
    "epochs": 80,
    "token_dim": 1536,
    "patch_size": 14,
    "freeze_backbone": True,
    "train_in_adapter": True,
    "encoder_ckpt": "",
    "output_dir": "./outputs_stage1_direct_integrated",
}
SIZES = latent.EncoderConfig(
    layout="mae",
    hidden_size=8,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=12,
    patch_size=4,
    image_size=8,
    layer_norm_eps=1e-12,
)


@pytest.fixture(scope="module")
def example():
    """The script as a module."""
    module = scripts.load("train_stage1_direct")
    yield module


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with weather and the weights of an encoder."""
    folder = tmp_path_factory.mktemp("script")
    toys.weather(frames=40).to_netcdf(folder / "weather.nc")
    weights = cases.encoder_params(SIZES)
    vision.write_encoder_folder(folder / "vit", weights, SIZES)
    return folder


def _words(folder, *more):
    return [
        "--data", str(folder / "weather.nc"), "--variables", toys.PRESSURE,
        "--time-slice", "2020-01-01:2020-01-06", "--input-length", "2",
        "--output-length", "2", "--batch-size", "8", "--lr", "1e-3", "--epochs", "1",
        "--token-dim", "8", "--patch-size", "4", "--encoder-ckpt", str(folder / "vit"),
        "--output-dir", str(folder / "out"), "--samples", "5",
        "--set", "model.decoder_hidden_size=8",
        "--set", "model.decoder_num_hidden_layers=1",
        "--set", "model.decoder_num_attention_heads=2",
        "--set", "model.decoder_intermediate_size=12", *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def trained(example, folder):
    """The output folder of a short run."""
    assert example.main(_words(folder)) == 0
    return folder / "out"


def test_flags_have_the_published_names_and_defaults(example, capsys):
    args = example.parser().parse_args(["--data", "x.nc"])
    assert {name: getattr(args, name) for name in PUBLISHED} == PUBLISHED
    with pytest.raises(SystemExit):
        example.parser().parse_args(["--help"])
    out = capsys.readouterr().out
    assert all(f"--{name.replace('_', '-')}" in out for name in PUBLISHED)
    assert "in_adapter" in out and "metrics_stage1_direct.json" in out


def test_metrics_are_those_of_forecasts_that_were_not_trained_on(trained, folder):
    said = json.loads((trained / "metrics_stage1_direct.json").read_text())
    assert said["samples"] == 5
    assert said["first_start"] >= "2020-01-07"
    row = said["variables"][toys.PRESSURE]
    assert row["units"] == "Pa"
    assert set(row["rmse_by_lead"]) == {"6h", "12h"}
    assert 0 < row["mae"] <= row["rmse"]
    squares = [value**2 for value in row["rmse_by_lead"].values()]
    assert row["rmse"] == pytest.approx(np.sqrt(np.mean(squares)))
    weather = xarray.open_dataset(folder / "weather.nc")[toys.PRESSURE].isel(batch=0)
    starts = np.linspace(24, 36, 5).round().astype(int) + 1
    weights = np.cos(np.deg2rad(weather["lat"].values.astype(float)))[:, None]
    change = [weather.values[s + 1] - weather.values[s] for s in starts]
    expected = np.sqrt((np.square(change) * weights).mean() / weights.mean())
    assert row["persistence"]["rmse_by_lead"]["6h"] == pytest.approx(expected, rel=1e-3)


def test_maps_and_parts_are_left_behind(trained):
    assert (trained / "spatial_examples_stage1.png").stat().st_size > 20000
    model = models.load_model(trained / "checkpoint.npz")
    config = model.model_config
    assert (config.input_length, config.freeze_backbone) == (2, True)
    parts = direct_parts.read(trained, config.decoder(1).decoder((2, 2)))
    layer = model.params["in_adapter"]["w"]
    np.testing.assert_allclose(parts.params["in_adapter"]["w"], layer, rtol=1e-3)


@pytest.mark.slow
def test_a_finished_run_is_not_trained_again_and_its_parts_begin_another(
    example, trained, folder, capsys
):
    before = (trained / "checkpoint.npz").read_bytes()
    assert example.main(_words(folder)) == 0
    assert (trained / "checkpoint.npz").read_bytes() == before
    capsys.readouterr()
    words = ["--init-from", str(trained), "--output-dir", str(folder / "other")]
    words += ["--output-length", "1", "--format", "npz", "--lr", "1e-9"]
    assert example.main(_words(folder, *words)) == 0
    assert "begins anew: vision_decoder/prediction/w" in capsys.readouterr().out
    first, second = (
        models.load_model(path / "checkpoint.npz").params
        for path in (trained, folder / "other")
    )
    name = "vision_decoder/embed"
    np.testing.assert_allclose(
        second[name]["w"], first[name]["w"], rtol=2e-3, atol=1e-5
    )
    assert (folder / "other" / "decoder_fp16.npz").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--freeze-backbone", "maybe"], "expected true or false, found 'maybe'"),
        (["--token-dim", "1536"], "--token-dim 1536: the encoder has 8"),
        (["--patch-size", "14"], "--patch-size 14: the encoder has 4"),
        (["--time-slice", "2020"], "--time-slice 2020: the last day"),
        (["--time-slice", "2015-01-01:2015-02-01"], "the data have only times from"),
        (["--epochs", "0"], "--epochs is at least 1"),
        (["--variables", "2m_temperature"], "2m_temperature"),
        (["--encoder-ckpt", "nothing"], "--encoder-ckpt: there is no folder 'nothing'"),
        (["--encoder-ckpt", ""], "dinov2-giant-timm was not fetched yet"),
        (["--lr", "0"], "--lr must be positive"),
        (["--frozen", "1"], "unrecognized arguments"),
    ],
)
def test_what_is_wrong_is_one_line(example, folder, words, message, capsys):
    assert example.main(_words(folder, *words)) == 2
    said = capsys.readouterr().err.splitlines()
    assert message in said[0]
    assert "Traceback" not in "".join(said)


def test_data_without_the_published_years_are_split(example):
    step = np.timedelta64(6, "h")
    times = np.arange("2001-01-01", "2001-04-11", step, dtype="datetime64[ns]")
    args = argparse.Namespace(time_slice=PUBLISHED["time_slice"], test_slice=None)
    found = example.plan(args, times)
    assert found.train.start == "2001-01-01T00:00"
    assert found.train.end == found.test.start == "2001-03-31T18:36"
    assert "lack 2015-01-01:2019-12-31" in found.note
    args.time_slice = "2001-01-01:2001-03-01"
    found = example.plan(args, times)
    assert found.train == training.Period(
        start="2001-01-01T00:00", end="2001-03-02T00:00"
    )
    assert found.test.start == "2001-03-02T00:00" and not found.note
