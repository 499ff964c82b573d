import jax
import numpy as np
import optax
import pytest

from tests.training import toys
from weatherlib import checkpoint, training
from weatherlib.training import records


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    result = toys.trainer(folder).run()
    return folder, result


def _kinds(folder, kind):
    return [r for r in records.read_records(folder) if r["kind"] == kind]


def test_a_run_makes_all_updates_and_the_loss_falls(whole):
    folder, result = whole
    assert (result.step, result.ended) == (34, "complete")
    losses = [r["loss"] for r in _kinds(folder, "train") if r["rollout"] == 1]
    assert losses[-1] < 0.8 * losses[0]
    steps = [r["step"] for r in _kinds(folder, "train")]
    # Every third update, and the last of each stage.
    assert steps == [3, 6, 9, 12, 15, 18, 20, 21, 24, 27, 30, 33, 34]


def test_validation_gives_errors_beside_persistence(whole):
    folder, result = whole
    judged = _kinds(folder, "validation")
    assert [r["step"] for r in judged] == [10, 20, 30, 34]
    names = {toys.PRESSURE, "geopotential@500", "geopotential@850"}
    assert set(judged[-1]["rmse"]) == names
    assert (
        judged[-1]["rmse"][toys.PRESSURE]["1"] < judged[0]["rmse"][toys.PRESSURE]["1"]
    )
    assert judged[0]["persistence"] == judged[-1]["persistence"]
    best = min(judged, key=lambda record: record["metric"])
    assert (result.best_step, result.best_metric) == (best["step"], best["metric"])


def test_errors_of_persistence_are_those_of_the_data(whole):
    folder, _ = whole
    weather = toys.weather()[toys.PRESSURE].isel(batch=0)
    first = int((weather["time"] < np.timedelta64(11, "D")).sum())
    starts = np.linspace(first, 60 - 4, 3).round().astype(int) + 1
    values = weather.values.astype(np.float64)
    weights = np.cos(np.deg2rad(weather["lat"].values))[:, None]
    squares = [
        ((values[s + 2] - values[s]) ** 2 * weights).mean() / weights.mean()
        for s in starts
    ]
    found = _kinds(folder, "validation")[0]["persistence"][toys.PRESSURE]["2"]
    assert found == pytest.approx(np.sqrt(np.mean(squares)), rel=1e-3)


def test_a_run_in_pieces_repeats_one_without_interruption(tmp_path, whole):
    folder, result = whole

    class Abort(Exception):
        pass

    class Interrupter:
        def __init__(self, at):
            self.at = at

        def begin(self, step, total):
            pass

        def record(self, record):
            if record["step"] >= self.at:
                raise Abort

        def close(self):
            pass

    for at in (9, 24):
        with pytest.raises(Abort):
            toys.trainer(tmp_path, observers=[Interrupter(at)]).run(resume=True)
    again = toys.trainer(tmp_path).run(resume=True)
    expected = toys.comparable(records.read_records(folder))
    assert toys.comparable(records.read_records(tmp_path)) == expected
    jax.tree.map(np.testing.assert_array_equal, again.state, result.state)
    assert again.best_metric == result.best_metric
    # The table and the lines say the same.
    table = (tmp_path / "metrics.csv").read_text().splitlines()
    assert len(table) == 1 + len(expected)


def test_a_finished_run_is_not_trained_again(whole):
    folder, result = whole
    before = (folder / "metrics.jsonl").read_text()
    again = toys.trainer(folder).run(resume=True)
    assert again.step == result.step
    assert (folder / "metrics.jsonl").read_text() == before


def test_a_folder_with_a_run_is_not_begun_anew(whole):
    with pytest.raises(FileExistsError, match=r"holds a run of 34 updates.*--resume"):
        toys.trainer(whole[0]).run()


def test_accumulated_parts_make_the_update_of_the_whole_batch():
    def train(accumulate):
        return toys.trainer(
            None,
            stages=((3, 1),),
            accumulate=accumulate,
            validate=None,
            optimizer=optax.sgd(0.05),
            settings={"seed": 1},
        ).run()

    # Noise differs between parts, so it is taken out here.
    original, toys.Linear.__init__ = toys.Linear.__init__, _silent
    try:
        whole, parts = train(1), train(2)
    finally:
        toys.Linear.__init__ = original
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        whole.state.params,
        parts.state.params,
    )


def _silent(self, noise=0.0):
    del noise
    self._noise = 0.0


def test_training_ends_early_without_a_better_result(tmp_path):
    def judge(params, state):
        judge.calls += 1
        return {"metric": [3.0, 2.0, 2.5, 1.99, 2.2][judge.calls - 1], "loss": 0.0}

    judge.calls = 0
    exported = []
    result = toys.trainer(
        tmp_path,
        stages=((30, 1),),
        validate=judge,
        export=lambda params, state, step: exported.append(step),
        settings={"validate_every": 3, "patience": 2, "min_change": 0.05},
    ).run()
    assert result.ended == "no better result"
    assert (result.step, result.best_step, result.best_metric) == (12, 6, 2.0)
    assert exported == [3, 6]
    again = toys.trainer(tmp_path, stages=((30, 1),), validate=judge).run(resume=True)
    assert (again.step, again.ended) == (12, "no better result")


def test_a_loss_that_is_no_number_stops_with_batch_and_state(tmp_path):
    class Poison:
        """Gives one batch that breaks the loss."""

        def __init__(self, feed):
            self._feed = feed

        def iterate(self, state=None):
            iterator = self._feed.iterate(state)
            plain = iterator.__class__.__next__

            class Poisoned(iterator.__class__):
                def __init__(self):
                    self.__dict__ = iterator.__dict__

                def __next__(self):
                    parts = plain(self)
                    if self.state["next_index"] == 5:
                        parts[0][0][toys.PRESSURE][:] = np.inf
                    return parts

            return Poisoned()

    trainer = toys.trainer(tmp_path, stages=((20, 1),), validate=None)
    stage = trainer._stages[0]
    trainer._stages = (training.Stage(
        steps=20, batches=Poison(stage.batches), optimizer=stage.optimizer
    ),)  # fmt: skip
    with pytest.raises(training.NonFiniteLossError, match="update 5: the loss is") as e:
        trainer.run()
    assert e.value.step == 5
    kept = checkpoint.open_checkpoint(tmp_path / "failed-5" / "state.npz", dict)
    # The state is that of four good updates.
    good = toys.trainer(tmp_path / "good", stages=((4, 1),), validate=None).run()
    jax.tree.map(
        np.testing.assert_array_equal, kept["params"], jax.device_get(good.state.params)
    )
    assert int(kept["step"]) == 4
    import xarray

    batch = xarray.load_dataset(tmp_path / "failed-5" / "inputs-0.nc")
    assert np.isinf(batch[toys.PRESSURE].values).all()


def test_each_stage_is_compiled_once(monkeypatch):
    from weatherlib.training import loop

    made = []

    class Spy(loop.Update):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            made.append(self)

    monkeypatch.setattr(loop, "Update", Spy)
    toys.trainer(None, stages=((4, 1), (4, 2)), validate=None).run()
    assert [update.traces for update in made] == [1, 1]


def test_a_trainer_works_without_a_folder():
    result = toys.trainer(None, stages=((4, 1),), validate=None).run()
    assert result.step == 4


def test_a_trainer_needs_stages():
    with pytest.raises(ValueError, match="at least one stage"):
        training.Trainer(None, [])


def test_the_average_follows_the_weights():
    result = toys.trainer(None, stages=((1, 1),), validate=None).run()
    params = result.state.params["~"][f"w_{toys.PRESSURE}"]
    average = result.state.average["~"][f"w_{toys.PRESSURE}"]
    # The first decay is 2 of 11; weights began at zero.
    np.testing.assert_allclose(average, 9 / 11 * np.asarray(params), rtol=1e-5)
