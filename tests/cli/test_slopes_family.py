"""GraphCast with slopes, from training to forecasts."""

import dataclasses

import numpy as np
import pytest
import xarray
import yaml

from tests.training import toys
from weatherlib import checkpoint, graphcast
from weatherlib.cli import families, main, models

SIZES = {
    "mesh_size": 1, "latent_size": 4, "gnn_msg_steps": 1, "hidden_layers": 1,
    "radius_query_fraction_edge_length": 1.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with weather, a configuration and a finished run of two updates."""
    folder = tmp_path_factory.mktemp("slopes")
    toys.weather(24).to_netcdf(folder / "weather.nc")
    values = {
        "output": str(folder / "run"),
        "data": {
            "path": str(folder / "weather.nc"),
            "task": {name: toys.TASK[name] for name in toys.TASK},
            "train": {"end": "2020-01-05"},
        },
        "model": {
            "family": "graphcast_slopes", "resolution": 45, **SIZES,
            "slopes": [toys.PRESSURE, "geopotential"],
        },
        "schedule": {"peak": 0.01},
        "stages": [{"steps": 2, "batch_size": 1}],
    }  # fmt: skip
    plain = yaml.safe_load(yaml.safe_dump(_lists(values)))
    (folder / "train.yaml").write_text(yaml.safe_dump(plain))
    assert main.main(["train", str(folder / "train.yaml")]) == 0
    return folder


def _lists(value):
    if isinstance(value, dict):
        return {key: _lists(entry) for key, entry in value.items()}
    return [_lists(entry) for entry in value] if isinstance(value, tuple) else value


def test_the_checkpoint_is_that_of_its_family(folder, capsys):
    path = folder / "run" / "checkpoint.npz"
    model = models.load_model(path)
    assert model.family == "graphcast_slopes"
    assert model.model_config == graphcast.SlopesModelConfig(
        resolution=45.0, **SIZES, slopes=(toys.PRESSURE, "geopotential")
    )
    assert main.main(["info", str(path)]) == 0
    out = capsys.readouterr().out
    assert "graphcast_slopes" in out and "slope_length 1000" in out


def test_forecasts_read_the_slopes(folder, tmp_path):
    words = [
        "predict", "--model", str(folder / "run" / "checkpoint.npz"),
        "--data", str(folder / "weather.nc"), "--steps", "2",
        "--init", "2020-01-05T12",
    ]  # fmt: skip
    assert main.main([*words, "--output", str(tmp_path / "with.nc")]) == 0
    path = folder / "run" / "checkpoint.npz"
    read = checkpoint.open_checkpoint(path, graphcast.SlopesCheckPoint)
    config = dataclasses.replace(read.model_config, slope_length=3000.0)
    changed = dataclasses.replace(read, model_config=config)
    words[2] = str(folder / "run" / "changed.npz")
    checkpoint.save(words[2], changed, extras=families_extras(path))
    assert main.main([*words, "--output", str(tmp_path / "longer.nc")]) == 0
    with (
        xarray.open_dataset(tmp_path / "with.nc") as one,
        xarray.open_dataset(tmp_path / "longer.nc") as other,
    ):
        assert np.isfinite(one[toys.PRESSURE]).all()
        assert float(np.abs(one[toys.PRESSURE] - other[toys.PRESSURE]).max()) > 0


def families_extras(path):
    """Returns what the file keeps beside the checkpoint."""
    with path.open("rb") as file:
        return checkpoint.load_extras(file)


def test_plain_graphcast_does_not_take_its_file(folder):
    path = folder / "run" / "checkpoint.npz"
    assert families.recognise(path) == "graphcast_slopes"
    with pytest.raises(ValueError, match="slope"):
        checkpoint.open_checkpoint(path, graphcast.CheckPoint)


def test_slopes_of_no_input_are_one_clear_error(folder, capsys, tmp_path):
    words = [
        "train", str(folder / "train.yaml"), "--set", f"output={tmp_path}",
        "--set", "model.slopes=[vorticity]",
    ]  # fmt: skip
    assert main.main(words) == 2
    err = capsys.readouterr().err
    assert "there is no vorticity among" in err and "Traceback" not in err


def test_a_file_of_before_there_were_members_can_be_read(folder, tmp_path):
    path = folder / "run" / "checkpoint.npz"
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    for name in ("mirror", "members"):
        del arrays[f"model_config:{name}"]
    np.savez(tmp_path / "old.npz", **arrays)
    read = checkpoint.open_checkpoint(tmp_path / "old.npz", graphcast.SlopesCheckPoint)
    assert read.model_config.members == 1 and not read.model_config.mirror
    assert families.recognise(tmp_path / "old.npz") == "graphcast_slopes"
