import dataclasses
import subprocess
import sys

import pytest

from weatherlib import graphcast
from weatherlib.graphcast import CheckPoint, ModelConfig
from weatherlib.graphcast.config import MemoryConfig

FIELDS = {
    "resolution": 0.25,
    "mesh_size": 6,
    "latent_size": 512,
    "gnn_msg_steps": 16,
    "hidden_layers": 1,
    "radius_query_fraction_edge_length": 0.6,
    "mesh2grid_edge_normalization_factor": None,
}


def test_a_model_config_is_a_mapping_of_the_published_fields_in_order():
    config = ModelConfig(**FIELDS)
    assert list(config.keys()) == list(FIELDS)
    assert {**config} == FIELDS == dataclasses.asdict(config)
    assert config["mesh_size"] == 6
    assert ModelConfig(**config) == config
    assert hash(ModelConfig(**config)) == hash(config)


def test_the_edge_normalization_is_optional():
    fields = {k: v for k, v in FIELDS.items() if v is not None}
    assert ModelConfig(**fields).mesh2grid_edge_normalization_factor is None


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("resolution", -1, "resolution must not be negative, found -1"),
        ("mesh_size", -1, "mesh_size must not be negative"),
        ("hidden_layers", -1, "hidden_layers must not be negative"),
        ("latent_size", 0, "latent_size must be positive, found 0"),
        ("gnn_msg_steps", 0, "gnn_msg_steps must be positive"),
        ("radius_query_fraction_edge_length", 0.0, "edge_length must be positive"),
        ("mesh2grid_edge_normalization_factor", 0.0, "factor must be positive"),
    ],
)
def test_impossible_sizes_are_refused(field, value, message):
    with pytest.raises(ValueError, match=message):
        ModelConfig(**{**FIELDS, field: value})


def test_a_checkpoint_has_the_published_fields_in_order():
    names = [field.name for field in dataclasses.fields(CheckPoint)]
    assert names == ["params", "model_config", "task_config", "description", "license"]


def test_small_graphs_are_worked_on_at_once_and_large_ones_in_blocks():
    small = MemoryConfig.for_size(edges=2000, batch=1, latent_size=32, item_size=4)
    assert small == MemoryConfig()
    quarter_degree = {"edges": 3_114_720, "latent_size": 512}
    large = MemoryConfig.for_size(**quarter_degree, batch=1, item_size=2)
    assert large == MemoryConfig(block=2**18, remat=True, store_static=True)
    batch = MemoryConfig.for_size(**quarter_degree, batch=4, item_size=4)
    assert batch == MemoryConfig(block=2**15, remat=True, store_static=False)
    one_degree = {"edges": 195_480, "batch": 1, "latent_size": 512, "item_size": 4}
    on_cpu = MemoryConfig.for_size(**one_degree, on_cpu=True)
    assert on_cpu == MemoryConfig(block=2**11, remat=True, store_static=True)


def test_training_on_a_cpu_works_in_blocks_only_where_that_saves_memory():
    two_degrees = {"edges": 50_000, "latent_size": 32, "item_size": 4, "on_cpu": True}
    forecast = MemoryConfig.for_size(**two_degrees, batch=1)
    assert forecast == MemoryConfig(block=2**15)
    training = MemoryConfig.for_size(**two_degrees, batch=1, for_gradients=True)
    assert training == MemoryConfig()
    large = {**two_degrees, "latent_size": 512, "batch": 4}
    assert MemoryConfig.for_size(**large, for_gradients=True).remat
    with_gradients = MemoryConfig.for_size(**large, for_gradients=True)
    assert with_gradients == MemoryConfig.for_size(**large)


def test_an_empty_block_is_refused():
    with pytest.raises(ValueError, match="block must be positive or None, found 0"):
        MemoryConfig(block=0)


def test_configurations_can_be_read_without_loading_jax_or_xarray():
    program = (
        "import sys; from weatherlib.graphcast import config, ModelConfig, TASK; "
        "import weatherlib.graphcast as g; assert 'GraphCast' in dir(g); "
        "print(sorted({'jax', 'haiku', 'xarray'} & set(sys.modules)))"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"


def test_names_that_do_not_exist_are_attribute_errors():
    with pytest.raises(AttributeError, match="has no attribute 'GraphCost'"):
        graphcast.GraphCost  # noqa: B018
