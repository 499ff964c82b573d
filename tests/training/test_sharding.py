import dataclasses
import functools
import json
import os
import pathlib
import re
import subprocess
import sys

import jax
import numpy as np
import pytest
import xarray as xr

from tests.graphcast import models
from weatherlib import config, graphcast
from weatherlib.nn import partition
from weatherlib.training import sharding, sharding_config

ROOT = pathlib.Path(__file__).parents[2]
# Largest difference as a part of the largest number, in float32.
ROUNDING = 5e-6


@functools.cache
def worker(*cases):
    """Returns the results of cases on eight CPU devices, in a process of their own."""
    environment = {
        **os.environ,
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.training.scale_worker", *cases],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def check_training(result):
    assert result["loss"] < ROUNDING
    assert result["gradients"] < ROUNDING
    assert result["params"] < ROUNDING
    # The updates have done something, and the second one compiled nothing new.
    assert result["spread"] > 100 * ROUNDING
    assert result["compilations"] == 1


def check_forecast(result):
    assert result["same_labels"]
    assert result["difference"] < ROUNDING
    assert result["exact"]
    several, single = result["needed"]
    assert several < single


def test_training_over_batch_and_space_equals_that_of_one_device():
    check_training(worker("train:both:uneven")["train:both:uneven"])


def test_a_forecast_over_batch_and_space_equals_that_of_one_device():
    check_forecast(worker("forecast:both:0")["forecast:both:0"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    ["train:data:even", "train:space:even", "train:space:odd", "train:both:odd"],
)
def test_training_equals_that_of_one_device_on_any_grid(case):
    check_training(worker(case)[case])


@pytest.mark.slow
def test_training_with_cut_weights_equals_that_of_one_device():
    result = worker("train:weights:even")["train:weights:even"]
    check_training(result)
    assert result["cut_weights"] > 10


@pytest.mark.slow
@pytest.mark.parametrize("case", ["forecast:both:2", "forecast:both:3"])
def test_an_ensemble_equals_that_of_one_device(case):
    check_forecast(worker(case)[case])


class TestTables:
    """How arrays are cut, on a mesh of data: 2, space: 4."""

    @pytest.fixture
    def found(self):
        return worker("specs")["specs"]

    def test_latitudes_are_cut_where_they_divide(self, found):
        assert found["even"] == ["data", "None", "space", "None"]

    def test_longitudes_are_cut_where_latitudes_do_not_divide(self, found):
        assert found["lon"] == ["data", "None", "None", "space"]

    def test_a_grid_that_does_not_divide_at_all_is_whole(self, found):
        assert found["whole"] == ["data", "None", "None", "None"]

    def test_members_are_cut_before_the_batch(self, found):
        assert found["members"] == ["data", "None", "None", "space", "None"]
        assert found["few_members"] == ["None", "data", "None", "space", "None"]

    def test_rules_find_parameters_by_their_path(self, found):
        assert found["parameters"] == [[], ["None", "data"], []]

    def test_moments_of_the_optimiser_follow_their_parameters(self, found):
        cut = ["None", "data"]
        assert found["moments"] == [[], [], cut, [], cut]

    def test_rules_of_a_family_leave_whole_what_does_not_divide(self, found):
        assert found["family"] == [[], ["None", "data"], ["None", "None"], []]

    def test_rows_of_a_model_are_cut_or_else_its_channels(self, found):
        assert found["rows"] == [
            ["space", "None", "None"],
            ["None", "None", "space"],
            ["None", "None", "None"],
            ["space"],
        ]

    def test_a_batch_loses_its_dates_and_keeps_its_values(self, found):
        assert found["placed"] == [[], ["data", "space"]]
        assert found["fetched"] == [4, 8]

    def test_random_keys_are_placed(self, found):
        assert found["key"]

    def test_one_process_loads_everything(self, found):
        assert found["shard"] == [0, 1]
        assert found["text"] == "Layout(data: 2, space: 4; 8 cpu device(s))"

    @pytest.mark.parametrize(
        ("error", "message"),
        [
            (
                "batch",
                "the mesh axis 'data' of size 2 does not divide the dimension 'batch' "
                "of length 3; use 2 or 4 along 'batch', or data: 1",
            ),
            (
                "devices",
                "mesh: data: 3 does not divide 8 device(s); data: 8 would",
            ),
            (
                "indivisible",
                "decoder/w: the mesh axis 'data' of size 2 does not divide",
            ),
            ("too_many_axes", "decoder/w: the rule 'decoder.*/w$' has 2 axes"),
            ("device_and_sharding", "a device or a sharding, not both"),
        ],
    )
    def test_what_does_not_fit_is_named_with_what_would(self, found, error, message):
        assert message in found[error]


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"mesh": {"data": 0}}, "positive sizes"),
        ({"mesh": {}}, "positive sizes"),
        ({"mesh": {"data": -1, "space": -1}}, "at most one of them -1"),
        ({"dims": {"lat": "spce"}}, r"dims.lat: unknown axis 'spce'"),
        (
            {"mesh": {"data": 1, "space": 2}, "dims": {"lat": "spce"}},
            "did you mean 'space'",
        ),
        ({"parameters": [{"path": "(", "axes": []}]}, "no regular expression"),
        ({"parameters": [{"path": "w", "axes": ["bach"]}]}, "did you mean 'batch'"),
        ({"mehs": {"data": 1}}, "did you mean 'mesh'"),
    ],
)
def test_bad_tables_are_named(mapping, message):
    with pytest.raises(ValueError, match=message):
        config.from_dict(sharding.ShardingConfig, mapping)


def test_every_mark_of_a_model_has_a_rule():
    marks = (
        partition.BATCH,
        partition.LAT,
        partition.LON,
        partition.ROW,
        partition.CHANNEL,
    )
    assert set(marks) == set(sharding_config.DEFAULT_DIMS) - {"sample"}


def test_settings_are_read_without_jax():
    code = (
        "import sys; from weatherlib.training import distributed_config as d, "
        "sharding_config as s; print(s.ShardingConfig(mesh={'data': 2}).mesh, "
        "d.DistributedConfig().__class__.__name__, 'jax' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        check=True,
        stdout=subprocess.PIPE,
    )
    assert process.stdout.decode().split("\n")[0] == (
        "{'data': 2} DistributedConfig False"
    )


def test_tables_come_from_a_file():
    found = config.from_dict(
        sharding.ShardingConfig,
        {
            "mesh": {"data": -1, "space": 2},
            "dims": {"lat": None, "output": "data"},
            "parameters": [{"path": "decoder", "axes": [None, "output"]}],
        },
    )
    assert found.dim_axes()["lat"] is None
    assert found.dim_axes()["lon"] == "space"
    assert found.parameters[0].matches("mesh/decoder/w")


@pytest.mark.parametrize(
    ("mesh", "devices", "sizes"),
    [
        ({"data": -1}, 6, {"data": 6}),
        ({"data": -1, "space": 2}, 8, {"data": 4, "space": 2}),
        ({"data": 1, "space": -1}, 3, {"data": 1, "space": 3}),
    ],
)
def test_an_open_size_takes_the_devices_left(mesh, devices, sizes):
    assert sharding.ShardingConfig(mesh=mesh).sizes(devices) == sizes


@pytest.mark.parametrize(
    ("mesh", "devices", "advice"),
    [
        ({"data": 4, "space": 2}, 6, "data: 3, space: 2 would"),
        ({"data": 4, "space": 4}, 8, "data: 2, space: 4 would"),
        ({"data": -1, "space": 3}, 8, "data: 8, space: 1 would"),
        ({"data": 2}, 1, "data: 1 would"),
    ],
)
def test_a_mesh_that_does_not_fit_the_devices_names_one_that_does(
    mesh, devices, advice
):
    with pytest.raises(ValueError, match=advice):
        sharding.ShardingConfig(mesh=mesh).sizes(devices)


def test_one_device_needs_no_table():
    layout = sharding.Layout(devices=jax.devices()[:1])
    state = {"w": np.arange(3.0), "step": 4}
    placed = layout.place(state)
    np.testing.assert_array_equal(placed["w"], state["w"])
    assert layout.loader_shard == (0, 1)
    batch = xr.Dataset({"x": (("batch", "lat"), np.ones((3, 5), np.float32))})
    double = layout.jit(lambda b: jax.tree.map(lambda x: 2 * x, b))
    result = layout.fetch(double(layout.place_batch(batch)))
    np.testing.assert_array_equal(result["x"].values, 2)


@dataclasses.dataclass(frozen=True)
class Device:
    """As much of a device as a layout looks at."""

    id: int
    process_index: int
    platform: str = "cpu"
    device_kind: str = "cpu"


def devices_of(processes, each):
    return [Device(i, i // each) for i in range(processes * each)]


@pytest.mark.parametrize(
    ("mesh", "processes", "shard"),
    [
        ({"data": 8}, 2, (0, 2)),
        ({"data": 4, "space": 2}, 2, (0, 2)),
        ({"data": 2, "space": 4}, 4, (0, 2)),
        ({"data": 1, "space": 8}, 4, (0, 1)),
    ],
)
def test_processes_load_their_part_of_the_batch(mesh, processes, shard):
    devices = devices_of(processes, 8 // processes)
    layout = sharding.Layout(sharding.ShardingConfig(mesh=mesh), devices=devices)
    assert layout.loader_shard == shard


def test_parts_of_the_batch_that_overlap_between_processes_are_refused():
    config = sharding.ShardingConfig(mesh={"data": 3, "space": 2})
    layout = sharding.Layout(config, devices=devices_of(2, 3))
    with pytest.raises(ValueError, match=r"0: \[0, 1\]; 1: \[1, 2\].* 2 processes"):
        _ = layout.loader_shard


def test_every_parameter_of_graphcast_has_named_axes():
    data = models.make_data()
    params = jax.eval_shape(models.transform().init, jax.random.PRNGKey(0), *data)
    for module, arrays in params.items():
        for name, array in arrays.items():
            path = f"{module}/{name}"
            axes = [a for rule, a in graphcast.PARAMETER_AXES if re.search(rule, path)]
            assert len(axes) == 1, path
            assert len(axes[0]) == array.ndim, path
