"""Autoencoders of fields from training to what they keep of weather."""

import dataclasses
import functools
import json
import re

import haiku as hk
import jax
import numpy as np
import pandas as pd
import pytest
import xarray
import yaml

from tests.latent import codecs
from tests.training import toys
from weatherlib import config as config_lib
from weatherlib import latent, task, training, xarray_jax
from weatherlib.cli import (
    coders,
    families,
    main,
    models,
    reconstruct,
    reconstruction,
)
from weatherlib.latent import autoencoder_predictor, codec
from weatherlib.weights import autoencoder_kl, vision

NAMES = ["geopotential", toys.PRESSURE]
MODEL = {
    "family": "latent_autoencoder", "kl_weight": 1e-3, "l1_weight": 0.1,
    "noise_tau": 0.1, "freeze_encoder": True,
}  # fmt: skip


def _weights():
    """Returns weights as published, and their sizes."""
    coder = codec.make(codecs.small("sd"))
    drawn = codecs.drawn(coder)
    return {m: jax.device_get(held) for m, held in drawn.items()}, coder.sizes


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with weather, and a run of a few updates whose encoder is kept."""
    folder = tmp_path_factory.mktemp("coder")
    toys.weather().to_netcdf(folder / "weather.nc")
    autoencoder_kl.write_folder(folder / "vae", *_weights())
    values = {
        "output": str(folder / "run"),
        "data": {
            "path": str(folder / "weather.nc"),
            "task": {
                "input_variables": NAMES,
                "target_variables": NAMES,
                "forcing_variables": [],
                "pressure_levels": [500, 850],
                "input_duration": "6h",
            },
            "train": {"end": "2020-01-12"},
        },
        "model": {**MODEL, "vae_pretrained_path": str(folder / "vae")},
        "optimizer": {"weight_decay": 0.5, "ema": 0.5},
        "schedule": {"peak": 0.01},
        "stages": [{"steps": 4, "batch_size": 2}],
        "log_every": 2,
        "license": "CC0-1.0",
    }
    (folder / "train.yaml").write_text(yaml.safe_dump(values))
    assert main.main(["train", str(folder / "train.yaml")]) == 0
    return folder


def _reconstruct(model, folder, out, *words):
    command = ["reconstruct", str(model), "--data", str(folder / "weather.nc")]
    return main.main([*command, "--out-dir", str(out), *words])


def test_errors_are_those_of_fields_through_the_codec(folder, tmp_path):
    path = folder / "run" / "checkpoint.npz"
    statistics = tmp_path / "latents.npz"
    words = ["--frames", "5", "--latent-statistics", str(statistics)]
    assert _reconstruct(path, folder, tmp_path, *words) == 0
    said = json.loads((tmp_path / "reconstruction.json").read_text())
    assert (tmp_path / "reconstruction.png").stat().st_size > 10000
    assert said["frames"] == 5
    assert set(said["variables"]) == {
        "geopotential@500", "geopotential@850", toys.PRESSURE
    }  # fmt: skip
    assert said["variables"][toys.PRESSURE]["units"] == "Pa"
    model = models.load_model(path)
    held, weather = model.model_config, toys.weather()
    low, high = np.float64(held.lowest), np.float64(held.highest)
    found = models.find_statistics(model)
    places = np.linspace(0, 59, 5).round().astype(int)
    columns = []
    for name in NAMES:
        mean, spread = (d[name] for d in (found.mean_by_level, found.stddev_by_level))
        normal = (weather[name].isel(batch=0, time=places) - mean) / spread
        if "level" not in normal.dims:
            normal = normal.expand_dims(level=[0])
        columns.append(normal.transpose("time", "level", "lat", "lon").values)
    fields = np.concatenate(columns, axis=1)
    middle, half = ((high + s * low) / 2 for s in (1, -1))
    middle, half = (x[:, np.newaxis, np.newaxis] for x in (middle, half))
    images = jax.numpy.asarray((fields - middle) / half, "float32")
    assert abs(images).max() < 1.5
    made = codec.make(held.replace(scale_factor=1.0))
    latents = made.encode(model.params, images)
    back = np.asarray(made.decode(model.params, latents, (4, 8)), np.float64)
    scale = float(found.stddev_by_level[toys.PRESSURE]) * half[2, 0, 0]
    weights = np.cos(np.deg2rad([-67.5, -22.5, 22.5, 67.5]))[:, np.newaxis]
    square = (scale * (back - images)[:, 2]) ** 2 * weights
    expected = np.sqrt(square.mean() / weights.mean())
    assert said["variables"][toys.PRESSURE]["rmse"] == pytest.approx(expected, rel=2e-3)
    with np.load(statistics) as kept:
        np.testing.assert_allclose(kept["mean"], latents.mean(0), atol=1e-4)
        assert kept["var"].shape == latents.shape[1:]
    assert set(vision.load_statistics(statistics)) == {"mean", "scale"}


def test_the_course_of_the_day_is_taken_away_and_put_back(folder):
    options = reconstruct.Options(
        model=str(folder / "run" / "checkpoint.npz"), data=str(folder / "weather.nc")
    )
    coder = coders.open_coder(options)
    frames = reconstruction.frames_of(options, coder)
    plain = reconstruction.reconstruct(coder, frames)
    # Another world, whose days have a course: 300 Pa up and down.
    kept = frames.dataset.load()
    field = kept[toys.PRESSURE]
    wave = np.zeros((1, 3, field.sizes["lat"], field.sizes["lon"]), np.float32)
    wave[:, 1] = 300
    climatology = xarray.Dataset(
        {toys.PRESSURE: (("year_wave", "day_wave", "lat", "lon"), wave)},
        coords={"lat": field["lat"], "lon": field["lon"]},
        attrs={"years": 0, "days": 1},
    )
    stamps = pd.DatetimeIndex(kept["time"].values)
    turned = (stamps.hour.values / 24)[:, np.newaxis] + field["lon"].values / 360
    course = 300 * np.sin(2 * np.pi * turned).astype(np.float32)
    moved = field + xarray.DataArray(course, dims=("time", "lon"))
    frames.dataset = kept.assign({toys.PRESSURE: moved.transpose(*field.dims)})
    coder = dataclasses.replace(coder, climatology=climatology)
    again = reconstruction.reconstruct(coder, frames)
    for name, values in plain.errors.items():
        assert again.errors[name]["rmse"] == pytest.approx(values["rmse"], rel=1e-3)
    gone = again.made[toys.PRESSURE] - plain.made[toys.PRESSURE]
    middle = len(frames) // 2
    np.testing.assert_allclose(
        gone.transpose(..., "lon"), np.broadcast_to(course[middle], gone.shape), atol=1
    )


def test_what_is_frozen_stays_to_the_last_bit_and_the_rest_does_not(folder):
    model = models.load_model(folder / "run" / "checkpoint.npz")
    frozen, params = families.FAMILIES[model.family]().frozen, _weights()[0]
    for module, values in model.params.items():
        same = [np.array_equal(v, params[module][n]) for n, v in values.items()]
        assert all(same) if frozen(model.model_config, module) else not all(same)
    assert not model.model_config.vae_pretrained_path


@functools.cache
def _compiled(config, **options):
    """Returns a function of a key to loss, parts and gradients on one batch."""
    names = (toys.PRESSURE,)
    reads = task.TaskConfig(
        input_variables=names,
        target_variables=names,
        forcing_variables=(),
        pressure_levels=(),
        input_duration="12h",
    )
    batch = training.Frames(toys.weather(frames=4), reads).batch(np.array([0]), 2)
    parts = [(data - 101325) / 700 for data in batch[:2]]

    def run():
        model = autoencoder_predictor.LatentAutoencoder(config)
        loss, said = model.loss(*parts, xarray.Dataset(), **options)
        return xarray_jax.unwrap_data(loss).mean(), {
            name: xarray_jax.unwrap_data(value) for name, value in said.items()
        }

    run = hk.transform(run)
    params = codecs.drawn(codec.make(config))
    graded = jax.jit(jax.value_and_grad(run.apply, has_aux=True))

    def run_with(key=0):
        (loss, parts), gradients = graded(params, jax.random.key(key))
        return float(loss), jax.device_get(parts), jax.device_get(gradients)

    return run_with


def _config(kind="sd", **changes):
    settings = codecs.SIZES[kind] | {"channels": 1, "output_length": 2}
    settings |= {"normalization": "standard"}
    return latent.LatentAutoencoderConfig(**(settings | changes))


def _largest(gradients):
    """Returns the size of the largest gradient by first part of the path."""
    found = {}
    for module, values in gradients.items():
        size = max(float(abs(value).max()) for value in values.values())
        root = module.split("/")[0]
        found[root] = max(size, found.get(root, 0.0))
    return found


@pytest.mark.parametrize(
    ("kind", "part"),
    [
        pytest.param("sd", "decoder", marks=pytest.mark.slow),
        ("sd", "encoder"),
        pytest.param("rae", "decoder", marks=pytest.mark.slow),
        pytest.param("rae", "encoder", marks=pytest.mark.slow),
    ],
)
def test_frozen_parts_have_no_gradients(kind, part):
    other = "encoder" if part == "decoder" else "decoder"
    config = _config(kind, **{f"freeze_{part}": True, f"freeze_{other}": False})
    largest = _largest(_compiled(config)()[2])
    frozen = {root for root, size in largest.items() if size == 0}
    assert frozen == {root for root in largest if part in root}
    assert len(largest) == 2


def test_the_loss_is_the_sum_that_was_asked_for():
    config = _config(l1_weight=0.5, kl_weight=0.25, noise_tau=0.1)
    loss, parts, gradients = _compiled(config)()
    total = parts["mse"] + 0.5 * parts["l1"] + 0.25 * parts["kl"]
    assert loss == pytest.approx(float(total.mean()), rel=1e-5)
    assert parts["kl"].min() > 0
    assert min(_largest(gradients).values()) > 0
    # Both what is drawn and its noise depend on the key.
    assert _compiled(config)(1)[0] != loss


@pytest.mark.slow
def test_size_counts_in_place_of_squares():
    loss, parts, _ = _compiled(_config(loss="l1"))()
    assert loss == pytest.approx(float(parts["l1"].mean()), rel=1e-5)


@pytest.mark.slow
def test_noise_is_for_training_alone():
    config = _config(freeze_decoder=True, noise_tau=1.0)
    calm = _compiled(config, is_training=False)
    assert calm(0)[0] == calm(1)[0]
    plain = _compiled(_config(freeze_encoder=False, freeze_decoder=True))()[0]
    assert calm()[0] == pytest.approx(plain, rel=1e-6)


@pytest.mark.slow
def test_published_weights_see_each_variable_as_a_grey_image(folder, tmp_path):
    words = ["--variables", "geopotential", "--levels", "850", "--frames", "3"]
    period = ["--period", "2020-01-02:2020-01-03"]
    assert _reconstruct(folder / "vae", folder, tmp_path, *words, *period) == 0
    said = json.loads((tmp_path / "reconstruction.json").read_text())
    assert (said["frames"], said["first"]) == (3, "2020-01-02T00:00")
    assert said["last"] == "2020-01-03T18:00"
    weather = toys.weather()["geopotential"].sel(level=850).isel(batch=0)
    fields = weather.values[[4, 8, 11]]
    low, high = fields.min(), fields.max()
    middle, half = (high + low) / 2, (high - low) / 2
    grey = jax.numpy.asarray((fields - middle) / half)[:, np.newaxis]
    params, made = _weights()[0], codec.make(codecs.small("sd", channels=1))
    back = made.decode(params, made.encode(params, grey), (4, 8))
    weights = np.cos(np.deg2rad([-67.5, -22.5, 22.5, 67.5]))[:, np.newaxis]
    square = (half * (np.asarray(back, np.float64) - grey)) ** 2 * weights
    expected = np.sqrt(square.mean() / weights.mean())
    found = said["variables"]["geopotential@850"]["rmse"]
    assert found == pytest.approx(expected, rel=1e-3)


def test_what_cannot_be_reconstructed_is_one_line(folder, tmp_path, capsys):
    path = folder / "run" / "checkpoint.npz"

    def said(*words, model=path):
        assert _reconstruct(model, folder, tmp_path, *words) == 2
        return capsys.readouterr().err

    assert "are for published weights" in said("--variables", "geopotential")
    beyond = said("--period", "1999-01-01:1999-02-01")
    assert re.search(
        r"no time in it, but from \S+T\d\d:\d\d to \S+T\d\d:\d\d\n", beyond
    )
    assert "no folder 'nothing'" in said(model="nothing")
    far = toys.weather()
    far["geopotential"] = far["geopotential"] + 1e5
    far.to_netcdf(tmp_path / "far.nc")
    words = ["reconstruct", str(path), "--data", str(tmp_path / "far.nc")]
    assert main.main([*words, "--out-dir", str(tmp_path)]) == 2
    assert "above the highest value" in capsys.readouterr().err
    assert main.main(["predict", "--model", str(path)]) == 2
    assert "no forecasts" in capsys.readouterr().err
    with pytest.raises(ValueError, match="only sd encodes to distributions"):
        config_lib.from_dict(
            latent.LatentAutoencoderConfig, {"vae_type": "rae", "kl_weight": 0.1}
        )
