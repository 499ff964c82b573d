"""Direct forecasts by a vision encoder from training to scores."""

import json
import shutil

import haiku as hk
import jax
import numpy as np
import pytest
import xarray
import yaml

from tests.latent import cases
from tests.training import toys
from weatherlib import checkpoint, latent, training
from weatherlib.cli import backbones, families, latent_stages, main, models, settings
from weatherlib.latent import direct
from weatherlib.weights import flat, vision

ENCODER = {
    "layout": "mae", "hidden_size": 8, "num_hidden_layers": 1,
    "num_attention_heads": 2, "intermediate_size": 12, "patch_size": 4,
    "image_size": 8, "layer_norm_eps": 1e-12,
}  # fmt: skip
MODEL = {
    "family": "stage1_direct", "input_length": 3, "output_length": 2,
    "decoder_hidden_size": 8, "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 2, "decoder_intermediate_size": 12,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with weather, the weights of an encoder, and a run of a few updates."""
    folder = tmp_path_factory.mktemp("direct")
    toys.weather()[[toys.PRESSURE]].to_netcdf(folder / "weather.nc")
    sizes = latent.EncoderConfig(**ENCODER)
    weights = cases.encoder_params(sizes)
    vision.write_encoder_folder(folder / "vit", weights, sizes)
    model = {**MODEL, "backbone": str(folder / "vit"), "backbone_inside": False}
    values = {
        "output": str(folder / "run"),
        "data": {
            "path": str(folder / "weather.nc"),
            "task": {
                "input_variables": [toys.PRESSURE],
                "target_variables": [toys.PRESSURE],
                "forcing_variables": [],
                "pressure_levels": [],
                "input_duration": "18h",
            },
            "train": {"end": "2020-01-12"},
        },
        "model": model,
        # Neither decay nor the average may move what is kept.
        "optimizer": {"weight_decay": 0.5, "ema": 0.5},
        "schedule": {"peak": 0.01},
        "stages": [{"steps": 4, "batch_size": 2}],
        "log_every": 2,
        "license": "CC0-1.0",
    }
    (folder / "train.yaml").write_text(yaml.safe_dump(values))
    assert main.main(["train", str(folder / "train.yaml")]) == 0
    return folder


def _config(folder, *changes):
    return settings.read(training.TrainConfig, folder / "train.yaml", changes)


def test_a_kept_encoder_is_referred_to_and_never_changed(folder):
    path = folder / "run" / "checkpoint.npz"
    assert families.recognise(path) == "stage1_direct"
    held = checkpoint.open_checkpoint(path, latent.Stage1DirectCheckPoint)
    assert not any(map(backbones.is_part, held.params))
    model = models.load_model(path)
    weights = cases.encoder_params(latent.EncoderConfig(**ENCODER))
    for module, values in weights.items():
        for name, value in values.items():
            np.testing.assert_array_equal(model.params[module][name], value)
    assert model.model_config.digest == checkpoint.digest(weights)


def test_it_forecasts_and_is_scored_and_described(folder, tmp_path, capsys):
    path = folder / "run" / "checkpoint.npz"
    output, weather = str(tmp_path / "set.nc"), str(folder / "weather.nc")
    words = ["predict", "--model", str(path), "--data", weather, "--steps", "4"]
    words += ["--init", "2020-01-13T00:2020-01-13T12:12h", "--output", output]
    assert main.main([*words, "--conform"]) == 0
    with xarray.open_dataset(output, decode_timedelta=True) as found:
        assert found.sizes["prediction_timedelta"] == 4
        assert np.isfinite(found[toys.PRESSURE].values).all()
    words = ["evaluate", output, "--truth", weather, "--metrics", "rmse"]
    words += ["--regions", "global"]
    assert main.main([*words, "--out-dir", str(tmp_path)]) == 0
    capsys.readouterr()
    assert main.main(["info", str(path)]) == 0
    out = capsys.readouterr().out
    assert "stage1_direct" in out and str(folder / "vit") in out


def test_a_folder_that_moved_is_found_beside_the_file(folder, tmp_path, capsys):
    copy = tmp_path / "checkpoint.npz"
    held = checkpoint.open_checkpoint(
        folder / "run" / "checkpoint.npz", latent.Stage1DirectCheckPoint
    )
    config = held.model_config.replace(backbone="/gone/vit")
    checkpoint.save(copy, held.replace(model_config=config))
    assert main.main(["info", str(copy)]) == 2
    said = capsys.readouterr().err
    assert "/gone/vit" in said and str(tmp_path / "vit") in said
    shutil.copytree(folder / "vit", tmp_path / "vit")
    assert models.load_model(copy).params["in_adapter"]["w"].shape == (3, 3)
    sizes = latent.EncoderConfig(**ENCODER)
    other = cases.encoder_params(sizes, seed=1)
    vision.write_encoder_folder(tmp_path / "vit", other, sizes)
    with pytest.raises(ValueError, match="another vision encoder"):
        models.load_model(copy)


def test_a_random_encoder_lies_in_the_file_and_is_drawn_the_same_again(folder):
    config = latent.Stage1DirectConfig(
        **{k: v for k, v in MODEL.items() if k != "family"},
        random_backbone=True,
        encoder=latent.EncoderConfig(**ENCODER),
    )
    completed, params = latent_stages.direct().complete(config, None)
    assert completed.backbone_inside and not completed.backbone
    assert set(params) == set(cases.encoder_params(config.encoder))
    again = latent_stages.direct().complete(config, None)[0]
    assert again.digest == completed.digest != ""


def _gradients(config):
    """Returns the gradients of a sum of forecasts, by first part of their paths."""
    network = latent_stages.direct().network

    def loss(x):
        predictor = network(config, None, False)
        fields = _Fields(x)
        return predictor._network(fields, None, 1).sum()

    run = hk.without_apply_rng(hk.transform(loss))
    x = cases.images(8, 4, channels=3)[..., None]
    params = run.init(jax.random.key(0), x)
    found = jax.jit(jax.grad(run.apply))(params, x)
    largest = {}
    for module, values in found.items():
        root = module.split("/")[0]
        size = max(float(abs(v).max()) for v in values.values())
        largest[root] = max(size, largest.get(root, 0))
    return largest


@pytest.mark.parametrize(
    ("freeze", "train", "kept"),
    [(True, True, {"vision_encoder"}), (False, False, {direct.IN_ADAPTER})],
)
def test_settings_say_what_is_never_trained(freeze, train, kept):
    config = latent.Stage1DirectConfig(freeze_backbone=freeze, train_in_adapter=train)
    frozen = latent_stages.direct().frozen
    modules = ["vision_encoder", "vision_encoder/norm", "vision_decoder/block_0/mlp"]
    modules.append(direct.IN_ADAPTER)
    found = {m.split("/")[0] for m in modules if frozen(config, m)}
    assert found == kept


class _Fields:
    def __init__(self, x):
        self.frames = x
        self.known = x[:, :2, :, :, :0]
        self.static = x[:, 0, :, :, :0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({}, {"vision_encoder"}),
        (
            {"freeze_backbone": False, "train_in_adapter": False},
            {direct.IN_ADAPTER},
        ),
    ],
)
def test_what_is_kept_has_no_gradients_and_no_updates(options, kept):
    config = latent.Stage1DirectConfig(
        **{k: v for k, v in MODEL.items() if k != "family"},
        encoder=latent.EncoderConfig(**ENCODER),
        **options,
    )
    found = _gradients(config)
    assert {root for root, size in found.items() if size == 0} == kept
    frozen = latent_stages.direct().frozen
    assert {root for root in found if frozen(config, root)} == kept


def test_what_is_wrong_with_a_backbone_is_one_line(folder, tmp_path, capsys):
    yaml_file = str(folder / "train.yaml")

    def said(*changes):
        words = [word for change in changes for word in ("--set", change)]
        output = f"output={tmp_path / 'run'}"
        assert main.main(["train", yaml_file, "--set", output, *words]) == 2
        return capsys.readouterr().err

    assert "model.backbone: missing" in said("model.backbone=''")
    assert "no folder 'nothing'" in said("model.backbone=nothing")
    assert "dinov2-base was not fetched" in said("model.backbone=facebook/dinov2-base")
    assert "of which sizes" in said("model.backbone=''", "model.random_backbone=true")
    assert "input_size: patch size 4" in said("model.input_size=[10, 8]")
    assert "layout is 'mae'; leave encoder out" in said(
        "model.encoder={hidden_size: 24}"
    )
    text = json.loads((folder / "vit" / "config.json").read_text())
    broken = tmp_path / "broken"
    shutil.copytree(folder / "vit", broken)
    text["intermediate_size"] = 16
    (broken / "config.json").write_text(json.dumps(text))
    assert "Does config.json belong to them?" in said(f"model.backbone={broken}")


def test_a_decoder_of_another_stage_is_taken_as_far_as_it_fits(folder, tmp_path):
    family = latent_stages.direct()
    _, config = families.find_family(_config(folder).model)
    config, _ = family.complete(config, None)
    sizes = config.decoder(1).decoder((2, 2))
    images = cases.decoder_params(sizes.replace(num_channels=3))
    path = tmp_path / "decoder.safetensors"
    flat.write(
        path,
        vision.export_decoder(images, sizes.replace(num_channels=3)),
        format="safetensors",
    )
    adapter = {direct.IN_ADAPTER: {"w": np.ones((3, 3)), "b": np.zeros(3)}}
    fresh = {**cases.decoder_params(sizes, seed=3), **adapter}

    def start(adapt):
        init = training.InitConfig(path=path, adapt=adapt)
        return family.start(path, config, fresh, init)

    found, lines = start(adapt=True)
    name = "vision_decoder/prediction"
    np.testing.assert_array_equal(found[name]["w"], fresh[name]["w"])
    block = "vision_decoder/block_0/mlp/fc1"
    np.testing.assert_array_equal(found[block]["w"], images[block]["w"])
    np.testing.assert_array_equal(found[direct.IN_ADAPTER]["w"], np.ones((3, 3)))
    assert sorted(lines) == [
        f"does not fit, begins anew: {name}/b",
        f"does not fit, begins anew: {name}/w",
        "not in the file, begins anew: in_adapter",
    ]
    # Else it is for whoever asked to say what shall begin anew.
    assert start(adapt=False)[0][name]["w"].shape == images[name]["w"].shape
