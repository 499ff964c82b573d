import dataclasses
import types

import jax
import pytest

from tests.training import toy_runs
from weatherlib import config, training
from weatherlib.cli import placing


@dataclasses.dataclass(frozen=True)
class Device:
    """As much of a device as a layout looks at."""

    id: int
    process_index: int = 0
    platform: str = "cpu"
    device_kind: str = "cpu"


@pytest.fixture
def make(monkeypatch):
    """Returns the placement of settings on eight devices."""
    monkeypatch.setattr(jax, "devices", lambda: [Device(i) for i in range(8)])
    one = types.SimpleNamespace(
        num_processes=1, is_main=True, guard=None, any_of=None, barrier=None
    )

    def make(sizes=(8,), **changes):
        values = {
            "output": "run",
            "data": {"path": "x.nc", "task": "TASK_13", "train": {}},
            "model": {"family": "toy"},
            "schedule": {},
            "stages": [{"steps": 1, "batch_size": size} for size in sizes],
            **changes,
        }
        with toy_runs.family():
            placement, facts = placing.make(
                config.from_dict(training.TrainConfig, values), one
            )
        return placement, dict(facts)

    return make


@pytest.mark.parametrize(
    ("sizes", "accumulate", "parts"),
    [((8,), 1, 8), ((8, 12), 1, 4), ((8,), 4, 2), ((16, 32), 2, 8)],
)
def test_as_many_devices_share_batches_as_divide_them(make, sizes, accumulate, parts):
    placement, facts = make(sizes, optimizer={"accumulate": accumulate})
    assert placement.batch_parts == parts
    assert facts["layout"] == f"data: {parts} on {parts} cpu devices"
    assert ("devices" in facts) is (parts < 8)


def test_a_batch_of_one_needs_one_device_and_says_so(make):
    placement, facts = make((8, 1))
    assert placement == training.Placement()
    assert facts["devices"].startswith("1 of 8: the batch_size of all stages")


def test_a_mesh_that_is_asked_for_is_made(make):
    placement, facts = make((2,), sharding={"mesh": {"data": 2, "space": -1}})
    assert (placement.batch_parts, placement.process_count) == (2, 1)
    assert facts["layout"] == "data: 2, space: 4 on 8 cpu devices"


@pytest.mark.parametrize(
    ("sizes", "accumulate", "message"),
    [
        ((8, 6), 1, r"stages\[1\].batch_size 6 cannot .* 4 devices .*use 8, .*data: 2"),
        ((8,), 4, r"batch_size 8 in 4 accumulated parts .*use 16, .*data: 2"),
    ],
)
def test_a_batch_that_the_mesh_does_not_divide_is_refused(
    make, sizes, accumulate, message
):
    mesh = {"mesh": {"data": 4, "space": 2}}
    with pytest.raises(ValueError, match=message):
        make(sizes, sharding=mesh, optimizer={"accumulate": accumulate})


def test_validation_that_devices_cannot_share_is_mentioned(make):
    data = {"path": "x.nc", "task": "TASK_13", "train": {}, "validation": {}}
    _, facts = make(data=data, validation={"batch_size": 2})
    assert "a validation.batch_size that 8 divides, now 2" in facts["validation"]
    _, facts = make(data=data, validation={"batch_size": 8})
    assert "validation" not in facts
