import pathlib
import shutil

import jax
import pytest

from tests.cli import cases
from weatherlib import bundled, graphcast, task
from weatherlib.cli import forecasting, models


@pytest.fixture
def model():
    return models.load_model(cases.CASE / "params.npz")


@pytest.mark.parametrize("path", [None, "./"])
def test_nothing_and_the_default_mean_the_bundled_checkpoint(path):
    assert models.find_checkpoint(path) == bundled.checkpoint_path()


def test_a_folder_with_one_checkpoint_stands_for_it(tmp_path):
    shutil.copy(cases.CASE / "params.npz", tmp_path / "any.ckpt")
    (tmp_path / "notes.txt").write_text("")
    assert models.find_checkpoint(tmp_path) == tmp_path / "any.ckpt"


def test_a_dot_is_the_folder_one_is_in(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(cases.CASE / "params.npz", tmp_path)
    assert models.find_checkpoint(".") == pathlib.Path("params.npz")


def test_a_model_is_what_its_file_says(model):
    assert model.model_config.latent_size == 16
    assert model.task_config.input_duration == "12h"
    assert model.license == "CC0-1.0 (random numbers)"
    assert model.digest.startswith("8889e9ce743cba4a")
    assert not model.is_bundled
    assert models.load_model().is_bundled


def test_a_link_to_the_bundled_checkpoint_brings_its_statistics(tmp_path):
    link = tmp_path / "graphcast_simulated_res-5.625_levels-13_mesh-3.npz"
    link.symlink_to(bundled.checkpoint_path())
    for path in (link, tmp_path):
        model = models.load_model(path)
        assert model.is_bundled
        assert "2m_temperature" in models.find_statistics(model).mean_by_level


def test_the_random_model_is_that_of_the_walk_through():
    model = models.random_model()
    assert model.model_config == graphcast.ModelConfig(
        resolution=0,
        mesh_size=4,
        latent_size=32,
        gnn_msg_steps=4,
        hidden_layers=1,
        radius_query_fraction_edge_length=0.6,
    )
    assert model.task_config == task.TASK_13
    assert model.params is None and model.state == {}


def test_statistics_lie_beside_the_checkpoint_or_where_one_says(tmp_path, model):
    case = cases.Case.create(tmp_path)
    beside = models.load_model(case.checkpoint)
    assert "geopotential" in models.find_statistics(beside).mean_by_level
    elsewhere = models.find_statistics(model, case.stats)
    assert "geopotential" in elsewhere.mean_by_level


def test_the_bundled_model_brings_its_statistics():
    statistics = models.find_statistics(models.load_model())
    assert "2m_temperature" in statistics.diffs_stddev_by_level


def test_a_random_model_takes_the_statistics_of_the_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    random = models.random_model()
    with pytest.raises(FileNotFoundError, match="stats: no statistics"):
        models.find_statistics(random)
    models.find_statistics(random, bundled_data=True)
    cases.Case.create(tmp_path)
    models.find_statistics(random)


@pytest.mark.parametrize(
    ("backend", "precision", "expected"),
    [
        ("cpu", "auto", "float32"),
        ("gpu", "auto", "bfloat16"),
        ("tpu", "auto", "bfloat16"),
        ("cpu", "bfloat16", "bfloat16"),
        ("gpu", "float32", "float32"),
    ],
)
def test_precision_follows_the_device(backend, precision, expected, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    assert models.resolve_precision(precision) == expected


def test_another_precision_is_refused():
    with pytest.raises(ValueError, match="'float16' is not known; use auto, float32"):
        models.resolve_precision("float16")


def test_a_forecaster_is_loaded_in_one_call(tmp_path):
    case = cases.Case.create(tmp_path)
    forecaster = forecasting.load_forecaster(case.checkpoint)
    forecast = forecaster.predict(case.read(), steps=1)
    assert forecast["geopotential"].sizes == {
        "batch": 1,
        "time": 1,
        "level": 13,
        "lat": 13,
        "lon": 24,
    }
    with pytest.raises(FileNotFoundError, match="the checkpoint does not exist"):
        forecasting.load_forecaster(tmp_path / "absent.npz")


def test_a_folder_with_no_checkpoint_or_several_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"ending in \.npz or \.ckpt, found none"):
        models.find_checkpoint(tmp_path)
    for name in ("a.npz", "b.ckpt"):
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=r"found a\.npz, b\.ckpt; name the file"):
        models.find_checkpoint(tmp_path)
