import collections
import dataclasses

import jax
import numpy as np
import pytest

from tests.training import toys
from weatherlib import training
from weatherlib.training import inspection, mixing, sharding, step
from weatherlib.training.mixing import Mark


def _feeds(**options):
    options = {"batch_size": 2, **options}
    return [
        training.Feed(
            mixing.marked(lambda numbers: (numbers,), number),
            np.arange(samples) + 100 * number,
            seed=number,
            **options,
        )
        for number, samples in enumerate((8, 6, 20))
    ]


def _take(feed, count, state=None):
    iterator = feed.iterate(state)
    found = [next(iterator)[0] for _ in range(count)]
    position = iterator.state
    iterator.close()
    return found, position


def test_every_batch_is_of_one_source_as_often_as_its_weight_says():
    found, _ = _take(training.MixedFeed(_feeds(), [1.0, 2.0, 0.5]), 70)
    for numbers, mark in found:
        assert (numbers // 100 == mark.number).all()
    counts = collections.Counter(mark.number for _, mark in found)
    assert counts == {0: 20, 1: 40, 2: 10}


def test_a_source_keeps_the_order_it_has_alone():
    alone, _ = _take(_feeds()[1], 10)
    mixed, _ = _take(training.MixedFeed(_feeds(), [1.0, 1.0, 1.0]), 30)
    of_second = [numbers for numbers, mark in mixed if mark.number == 1]
    np.testing.assert_array_equal(of_second, [numbers for numbers, _ in alone])


@pytest.mark.parametrize("at", [0, 1, 7])
def test_mixed_batches_go_on_from_any_position(at):
    feed = training.MixedFeed(_feeds(), [3.0, 1.0, 2.0])
    whole, _ = _take(feed, 12)
    _, state = _take(training.MixedFeed(_feeds(), [3.0, 1.0, 2.0]), at)
    rest, _ = _take(training.MixedFeed(_feeds(), [3.0, 1.0, 2.0]), 12 - at, state)
    assert [mark for _, mark in rest] == [mark for _, mark in whole[at:]]
    for (one, _), (two, _) in zip(rest, whole[at:]):
        np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(feed[4][0][0], whole[4][0])


@pytest.mark.parametrize("weights", [[1.0], [1.0, 1.0, 0.0], []])
def test_weights_that_do_not_suit_the_feeds_are_refused(weights):
    with pytest.raises(ValueError, match="3 feeds need as many positive weights"):
        training.MixedFeed(_feeds(), weights)


class _Constant:
    """An objective whose loss tells which it is."""

    def __init__(self, value):
        self._value = value

    def init(self, key, batch):
        assert len(batch) == 1
        return {"w": jax.numpy.zeros(())}, {}

    def loss(self, params, state, key, batch):
        loss = params["w"] + self._value * batch[0].sum()
        return loss, ({f"of_{self._value}": loss}, state)


def test_a_batch_is_judged_by_the_objective_of_its_source():
    objective = training.MixedObjective([_Constant(2.0), _Constant(3.0)])
    key = jax.random.PRNGKey(0)
    params, state = objective.init(key, (np.ones(2), Mark(1)))
    loss = jax.jit(objective.loss)
    for number, expected in ((0, 4.0), (1, 6.0)):
        batch = (np.ones(2, np.float32), Mark(number))
        value, (diagnostics, _) = loss(params, state, key, batch)
        assert value == expected
        assert diagnostics == {}


def test_a_marked_batch_is_cut_over_devices_and_can_be_kept(tmp_path):
    frames = training.Frames(toys.weather(), toys.TASK)
    batch = mixing.marked(frames.loader(), 4)(np.array([0, 1]))
    layout = sharding.Layout(None, family_axes=(), devices=jax.devices()[:1])
    placed = layout.place_batch(batch)
    assert placed[-1] == Mark(4)
    np.testing.assert_array_equal(placed[0][toys.PRESSURE], batch[0][toys.PRESSURE])
    state = step.first_state({"w": np.zeros(2)}, {}, _optimizer(), _key())
    folder = inspection.keep(tmp_path, 3, state, [batch])
    names = {path.name for path in folder.iterdir()}
    assert names == {"state.npz", "inputs-0.nc", "targets-0.nc", "forcings-0.nc"}


def _optimizer():
    import optax

    return optax.sgd(0.1)


def _key():
    return jax.random.PRNGKey(0)


def test_sources_of_the_settings_take_what_they_leave_out():
    source = training.SourceConfig(path="cmip6/mpi-esm.zarr/", time_step="12h")
    data = training.DataConfig(
        path="era5.nc", task="TASK_13", train={"end": "2001-01-01"}, sources=(source,)
    )
    assert source.label == "mpi-esm"
    own = data.of_source(source)
    assert own.path == "cmip6/mpi-esm.zarr/"
    assert (own.task, own.train, own.nan_allowed) == (
        data.task, data.train, data.nan_allowed
    )  # fmt: skip
    assert own.time_step == "12h" and not own.sources
    other = dataclasses.replace(source, task="TASK", nan_allowed=("x",))
    assert data.of_source(other).task == "TASK"
    assert data.of_source(other).nan_allowed == ("x",)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sources": [{"path": "a.nc"}, {"path": "b/a.nc"}]}, "a stands for several"),
        ({"sources": [{"path": "a.nc", "weight": 0}]}, "weight must be positive"),
        ({"sources": [{"path": "a.nc", "task": "TASC"}]}, "did you mean 'TASK'"),
        ({"sources": [{"path": "a*.nc"}]}, "cannot name a folder"),
        ({"sources": [{"path": "a.nc", "name": ".."}]}, "cannot name a folder"),
        ({"weight": -1}, "weight must be positive"),
    ],
)
def test_wrong_sources_are_refused(changes, message):
    from weatherlib import config

    with pytest.raises(ValueError, match=message):
        config.from_dict(
            training.DataConfig, {"path": "x.nc", "task": "TASK", **changes}
        )
