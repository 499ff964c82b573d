import contextlib
import io
import json
import os
import pathlib
import re
import shutil
import signal

import jax
import numpy as np
import pytest
import xarray

from tests.training import toy_runs, toys
from weatherlib import checkpoint, training
from weatherlib.cli import families, main, nowcast_keys, run_data, settings
from weatherlib.training import lock, records

_CONFIGS = pathlib.Path(__file__).parents[2] / "examples" / "configs"


@pytest.fixture(autouse=True, scope="module")
def toy_family():
    with toy_runs.family():
        yield


@pytest.fixture
def folder(tmp_path):
    return toy_runs.write(tmp_path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder in which training has ended, and what it printed."""
    folder = toy_runs.write(tmp_path_factory.mktemp("finished"))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert _train(folder) == 0
    return folder, printed.getvalue()


def _train(folder, *words):
    return main.main(["train", str(folder / "train.yaml"), *words])


def _set(*changes):
    return [word for change in changes for word in ("--set", change)]


def test_training_leaves_everything_a_forecast_and_a_reader_need(finished):
    folder, out = finished
    run = folder / "run"
    names = {path.name for path in run.iterdir()}
    assert names == {
        "best", "checkpoint.npz", "config.yaml", "curves.png", "events", "last",
        "metrics.csv", "metrics.jsonl", "report.html", "stats",
    }  # fmt: skip
    kinds = ("mean", "stddev", "diffs_stddev")
    assert {f"{kind}_by_level.nc" for kind in kinds} < {
        path.name for path in (run / "stats").iterdir()
    }
    assert "update 8 of 8" in out
    assert "data wait" in out
    assert f"predict --pretrained {run}/checkpoint.npz" in out
    page = (run / "report.html").read_text()
    assert "data:image/png;base64," in page
    assert "family: toy" in page
    assert "http://" not in page and "https://" not in page
    found = records.read_records(run)
    assert [r["step"] for r in found if r["kind"] == "train"] == [2, 4, 6, 8]
    rates = [r["learning_rate"] for r in found if r["kind"] == "train"]
    assert rates[0] == pytest.approx(0.015)
    assert list((run / "events").iterdir())
    # The configuration that is kept says the same as the one that was given.
    kept = settings.read(training.TrainConfig, run / "config.yaml")
    assert kept == settings.read(training.TrainConfig, folder / "train.yaml")


def test_exported_weights_are_the_average_at_the_best_validation(finished):
    folder, _ = finished
    path = folder / "run" / "checkpoint.npz"
    found = checkpoint.open_checkpoint(path, dict)["params"]
    with path.open("rb") as file:
        extras = checkpoint.load_extras(file)
    best = min(
        (r for r in records.read_records(folder / "run") if r["kind"] == "validation"),
        key=lambda record: record["metric"],
    )
    assert str(extras["description"]).endswith(f"(update {best['step']})")
    names = {p.name for p in (folder / "run" / "best").iterdir()}
    assert names == {str(best["step"])}
    assert set(found["~"]) == {
        f"{kind}_{name}" for kind in "wb" for name in toys.TASK.target_variables
    }


def test_statistics_leave_out_what_comes_after_the_training_period(finished):
    folder, _ = finished
    weather = toys.weather()
    early = weather["datetime"].values[0] < np.datetime64("2020-01-12")
    expected = float(weather[toys.PRESSURE].isel(time=early).mean())
    found = xarray.load_dataset(folder / "run" / "stats" / "mean_by_level.nc")
    assert float(found[toys.PRESSURE]) == pytest.approx(expected, rel=1e-6)
    assert "day_progress_sin" in found


def test_a_run_is_continued_only_when_asked(folder, finished, capsys):
    assert _train(finished[0]) == 2
    assert "holds a run of 8 updates; continue it with --resume" in (
        capsys.readouterr().err
    )
    assert _train(folder, *_set("stages.0.steps=4")) == 0
    assert _train(folder, "--resume") == 0
    assert "continuing after update 4 of 8" in capsys.readouterr().out
    steps = [r["step"] for r in records.read_records(folder / "run")]
    assert steps == [2, 4, 4, 6, 8, 8]


def test_a_refused_run_changes_nothing_in_the_folder(finished, capsys):
    run = finished[0] / "run"
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    other = _set("seed=5", "stages.0.steps=3", "data.train.end=2020-01-11")
    assert _train(finished[0], *other) == 2
    assert "holds a run of 8 updates" in capsys.readouterr().err
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before


def test_a_stopped_run_says_how_to_go_on(folder, capsys, monkeypatch):
    from weatherlib.cli import train

    record = train._Display.record

    def stop(self, found):
        record(self, found)
        if found["step"] == 6:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(train._Display, "record", stop)
    assert _train(folder, *_set("seed=3")) == 130
    err = capsys.readouterr().err
    assert "stopped by SIGTERM after update" in err
    assert "--set seed=3 --resume" in err
    monkeypatch.undo()
    last = sorted(int(p.name) for p in (folder / "run" / "last").iterdir())
    assert 6 <= last[-1] < 8


def test_a_dry_run_trains_nothing(folder, capsys):
    assert _train(folder, "--dry-run", *_set("license=''")) == 0
    out = capsys.readouterr().out
    assert "8 updates, rollout 1" in out
    assert "toy, 6 parameters" in out
    # Forecasts with its weights will say the same of their terms.
    assert "not stated" in out
    assert not (folder / "run" / "last").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["optimizer.weight_deca=1"], "did you mean 'weight_decay'"),
        (["seed"], "expected key=value, found 'seed'"),
        (["stages.3.steps=1"], "'3' is no entry of a list of 1"),
        (["seed.x=1"], "seed: expected a whole number"),
        (["model.nois=1"], "model: ToyConfig: unknown key 'nois'.*'noise'"),
        (["model={family: grafcast}"], "no family 'grafcast'.*'graphcast'"),
        (["model={}"], "model: missing family"),
        (
            ["data.path=/no/such.nc"],
            "such.nc: .*name the data with --set data.path=FILE",
        ),
        (["data.statistics=/no/stats"], "no statistics"),
        (["data.train.end=2019-01-01"], "has 0 frames"),
        (["optimizer.frozen=[x*]"], "optimizer.frozen: no parameter matches"),
        (["init_from=/no/weights.npz"], "init_from: /no/weights.npz does not exist"),
        (["schedule.warmup=100"], "warm-up of 100 updates does not fit into 8"),
        (["schedule={peak: [}"], "not valid YAML"),
        (["data.train.end=''"], "end: expected a time such as 2015-01-01.*found ''"),
        (["data="], "data: expected a mapping of the fields of DataConfig"),
    ],
)
def test_mistakes_end_with_one_line_and_code_2(folder, capsys, changes, message):
    assert _train(folder, *_set(*changes)) == 2
    err = capsys.readouterr().err
    assert re.search(message, err, re.S), err
    assert "Traceback" not in err


def test_a_missing_configuration_is_named(tmp_path, capsys):
    assert main.main(["train", str(tmp_path / "no.yaml")]) == 2
    assert "no.yaml: the configuration does not exist" in capsys.readouterr().err


def test_a_binary_file_or_a_folder_is_no_configuration(folder, capsys):
    assert main.main(["train", str(folder / "weather.nc")]) == 2
    err = capsys.readouterr().err
    assert "weather.nc: no YAML file, for it is not text" in err
    assert "Traceback" not in err
    assert main.main(["train", str(folder)]) == 2
    assert "is a folder; give a configuration" in capsys.readouterr().err


def test_an_empty_section_means_its_defaults(folder):
    words = ["validation=null", "optimizer=", "data.train=null"]
    found = settings.read(training.TrainConfig, folder / "train.yaml", words)
    assert found.validation == training.ValidationConfig()
    assert found.data.train == training.Period()


@pytest.mark.filterwarnings("default")
def test_overlapping_periods_are_warned_about(folder, capsys):
    words = _set("data.validation.start=2020-01-10", "data.test={start: 2020-01-14}")
    assert _train(folder, "--dry-run", *words) == 0
    err = capsys.readouterr().err
    assert "the periods train (the beginning to 2020-01-12) and validation" in err
    assert "validation (2020-01-10 to the end) and test" in err
    assert "periods train (the beginning to 2020-01-12) and test" not in err


@pytest.mark.filterwarnings("default")
def test_a_variable_that_does_not_vary_is_trained_with_and_named(folder, capsys):
    weather = xarray.load_dataset(folder / "weather.nc")
    weather[toys.PRESSURE][:] = 101325.1
    weather.to_netcdf(folder / "weather.nc")
    assert _train(folder) == 0
    err = capsys.readouterr().err
    for kind in ("stddev", "diffs_stddev"):
        assert f"{kind}_by_level: {toys.PRESSURE} did not vary" in err
    assert "geopotential did not vary" not in err
    found = records.read_records(folder / "run")
    losses = [row["loss"] for row in found if "loss" in row]
    assert losses
    assert np.isfinite(losses).all()


def test_two_runs_in_one_folder_are_refused(folder, capsys):
    (folder / "run").mkdir()
    holder = {"pid": 7, "host": "elsewhere"}
    (folder / "run" / "run.lock").write_text(json.dumps(holder))
    assert _train(folder) == 2
    assert "process 7 on elsewhere is training" in capsys.readouterr().err
    assert [path.name for path in (folder / "run").iterdir()] == ["run.lock"]
    assert not lock._held


def test_statistics_of_another_grid_or_task_are_refused(folder, capsys):
    assert _train(folder, "--dry-run") == 0
    stats = folder / "run" / "stats"
    toys.weather(lat=6).to_netcdf(folder / "other.nc")
    other = [*_set(f"data.path={folder}/other.nc", f"output={folder}/other")]
    given = _set(f"data.statistics={stats}")
    assert _train(folder, "--dry-run", *other, *given) == 2
    assert "statistics of another grid" in capsys.readouterr().err
    # Those of a folder's own run with another period, if it has begun.
    (folder / "run" / "last" / "2").mkdir(parents=True)
    assert _train(folder, "--dry-run", *_set("data.train.end=2020-01-11")) == 2
    assert "statistics of another train period" in capsys.readouterr().err
    # Another source of the same grid and period, and the same one with other frames.
    toys.weather(seed=1).to_netcdf(folder / "same_grid.nc")
    assert _train(folder, "--dry-run", *_set(f"data.path={folder}/same_grid.nc")) == 2
    err = capsys.readouterr().err
    assert "statistics of another source of data" in err and "same_grid.nc;" in err
    assert f"data.statistics={stats}" in err
    (folder / "weather.nc").unlink()
    toys.weather(frames=56, start="2020-01-02").to_netcdf(folder / "weather.nc")
    assert _train(folder, "--dry-run") == 2
    err = capsys.readouterr().err
    assert "another stretch of data" in err and "'frames': 44" in err
    # What is named is used all the same.
    assert _train(folder, "--dry-run", *given) == 0
    (folder / "weather.nc").unlink()
    toys.weather().to_netcdf(folder / "weather.nc")
    # Another set of variables, and values that belong to other data.
    (stats / "source.json").unlink()
    mean = xarray.load_dataset(stats / "mean_by_level.nc")
    words = [*given, *_set(f"output={folder}/third"), "--dry-run"]
    _replace(stats / "mean_by_level.nc", mean.drop_vars("geopotential"))
    assert _train(folder, *words) == 2
    assert "geopotential is missing" in capsys.readouterr().err
    _replace(stats / "mean_by_level.nc", mean * 100)
    assert _train(folder, *words) == 2
    assert "standard deviations" in capsys.readouterr().err


def test_statistics_that_a_dry_run_has_left_are_replaced(folder, capsys):
    assert _train(folder, "--dry-run") == 0
    mean = xarray.load_dataset(folder / "run" / "stats" / "mean_by_level.nc")
    assert _train(folder, "--dry-run", *_set("data.train.end=2020-01-11")) == 0
    assert "statistics of another train period are replaced" in capsys.readouterr().out
    other = xarray.load_dataset(folder / "run" / "stats" / "mean_by_level.nc")
    assert float(other[toys.PRESSURE]) != float(mean[toys.PRESSURE])
    assert _train(folder, "--dry-run", *_set("data.train.end=2020-01-11")) == 0
    assert "replaced" not in capsys.readouterr().out


@pytest.mark.filterwarnings("default")
def test_statistics_of_the_command_say_what_they_are_of(folder, capsys):
    archive = folder / "weather.nc"

    def make(name, *words, source=archive):
        made = ["stats", str(source), "--output", str(folder / name), *words]
        assert main.main(made) == 0
        capsys.readouterr()
        return _set(f"data.statistics={folder}/{name}", f"output={folder}/run_{name}")

    assert _train(folder, "--dry-run", *make("own", "--train-end", "2020-01-11")) == 0
    assert "overlap" not in capsys.readouterr().err
    assert _train(folder, "--dry-run", *make("daily", "--step", "24h")) == 2
    assert "another time step: they are of 24 h, this run has 6 h" in (
        capsys.readouterr().err
    )
    toys.weather(lat=6).to_netcdf(folder / "other.nc")
    other = make("small", source=folder / "other.nc")
    assert _train(folder, "--dry-run", *other) == 2
    error = capsys.readouterr().err
    assert "another grid: they are of latitude 6 points" in error
    assert _train(folder, "--dry-run", *make("all")) == 0
    assert "overlaps the period validation" in capsys.readouterr().err


def test_several_files_are_given_as_a_list(folder, capsys, monkeypatch):
    weather = xarray.load_dataset(folder / "weather.nc").isel(batch=0)
    dates = weather["datetime"].values
    weather = weather.drop_vars("datetime").assign_coords(time=dates)
    monkeypatch.chdir(folder)
    weather.isel(time=slice(30)).to_netcdf("a.nc")
    weather.isel(time=slice(30, None)).to_netcdf("b.nc")
    words = ["--dry-run", *_set("data.path=[a.nc, b.nc]")]
    assert _train(folder, *words) == 0
    assert "a.nc, b.nc, 60 frames" in capsys.readouterr().out
    written = json.loads((folder / "run" / "stats" / "source.json").read_text())
    assert written["path"] == ["a.nc", "b.nc"]
    # What it was told the first time is the same the second time, in any spelling.
    assert _train(folder, *words) == 0
    absolute = _set(f"data.path=[{folder}/a.nc, {folder}/b.nc]")
    assert _train(folder, "--dry-run", *absolute) == 0
    (folder / "run" / "last" / "2").mkdir(parents=True)  # As a run that has begun.
    assert _train(folder, "--dry-run", *_set("data.path=[a.nc, weather.nc]")) == 2
    assert _train(folder, "--dry-run", *_set("data.path=[a.nc]")) == 2
    assert "statistics of another source of data" in capsys.readouterr().err
    assert _train(folder, "--dry-run", *_set("data.path=[]")) == 2
    assert "data: path is empty; name a file" in capsys.readouterr().err
    assert _train(folder, "--dry-run", *_set("data.path=a.nc,b.nc")) == 2
    assert "several files are given as a pattern in quotes" in capsys.readouterr().err
    # The settings that a run keeps say the same.
    found = settings.read(training.TrainConfig, folder / "train.yaml", words[2::2])
    (folder / "kept.yaml").write_text(settings.dump(found))
    assert settings.read(training.TrainConfig, folder / "kept.yaml") == found
    assert found.data.path == ("a.nc", "b.nc")


def test_a_list_of_files_names_a_source_and_is_no_folder_of_events():
    source = training.SourceConfig(path=("one/a.nc", "two/b.nc"))
    assert (source.label, source.path_text) == ("a", "one/a.nc, two/b.nc")
    radar = training.RadarConfig(kind="sevir", inputs=2)
    with pytest.raises(
        ValueError, match="SEVIR lie in one folder, found the list a, b"
    ):
        training.DataConfig(path=("a", "b"), radar=radar)


def _replace(path, dataset):
    path.unlink()
    dataset.to_netcdf(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("init_from=nowhere.npz", "init_from: nowhere.npz does not exist"),
        ("init_from={folder}/weather.nc", "not an npz checkpoint but"),
        ("validation.rollout=999", "validation: the period from 2020-01-12"),
        ("data.validation.start='2050'", "validation: the period from 2050"),
        ("data.task.pressure_levels=[300]", "levels 300 hPa: not in"),
        ("stages.0={epochs: 1.0e30, batch_size: 2}", "more than can be counted"),
    ],
)
def test_a_dry_run_refuses_what_training_would(folder, capsys, change, message):
    words = _set(change.replace("{folder}", str(folder)))
    assert _train(folder, "--dry-run", *words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


def test_fine_tuning_starts_from_a_file_and_keeps_what_is_frozen(
    folder, finished, capsys
):
    weights = folder / "start.npz"
    shutil.copy(finished[0] / "run" / "checkpoint.npz", weights)
    before = checkpoint.open_checkpoint(weights, dict)["params"]
    frozen = "optimizer.frozen=['*mean_sea_level_pressure']"
    words = _set(f"output={folder}/tuned", f"init_from={weights}", frozen)
    assert _train(folder, *words) == 0
    tuned = folder / "tuned" / "checkpoint.npz"
    after = checkpoint.open_checkpoint(tuned, dict)["params"]
    for kind in "wb":
        name = f"{kind}_{toys.PRESSURE}"
        np.testing.assert_array_equal(before["~"][name], after["~"][name])
    assert (before["~"]["w_geopotential"] != after["~"]["w_geopotential"]).any()

    # A file of another model is refused, unless the difference is named.
    grown = jax.tree.map(lambda x: x, before)
    grown["~"]["w_geopotential"] = np.zeros((3, 1), np.float32)
    grown["~"]["extra"] = np.zeros(1, np.float32)
    checkpoint.save(weights, {"params": grown}, extras={})
    words = _set(f"output={folder}/other", f"init_from={weights}")
    assert _train(folder, *words) == 2
    err = capsys.readouterr().err
    assert "it has ~/extra, which this model lacks" in err
    assert "~/w_geopotential has shape (3, 1), this model needs (2, 1)" in err
    skip = f"init_from={{path: {weights}, skip: ['*/w_geopotential']}}"
    assert _train(folder, *_set(f"output={folder}/other", skip)) == 2
    assert "extra" in capsys.readouterr().err


def test_weights_and_stages_of_all_kinds_train(folder):
    words = _set(
        "stages=[{epochs: 0.1, rollout: [1, 2], batch_size: 2, reset_optimizer: true}]",
        "schedule={kind: graphcast, peak: 0.01, end: 0.0001, warmup: 1}",
        "loss={kind: huber, variables: {geopotential: 0.5}, levels: {500: 2}, "
        "latitude: false}",
        "optimizer={accumulate: 2, ema: 0}",
        "precision=bfloat16",
        "remat=true",
        "validation.metric=rmse",
    )
    assert _train(folder, *words) == 0
    found = records.read_records(folder / "run")
    steps = {r["rollout"]: r["step"] for r in found if r["kind"] == "train"}
    assert steps == {1: 2, 2: 4}
    rates = [r["learning_rate"] for r in found if r["kind"] == "train"]
    np.testing.assert_allclose(rates[-1:], 1e-4, rtol=1e-5)
    judged = [r for r in found if r["kind"] == "validation"][-1]
    assert judged["metric"] == judged["relative_rmse"]


def test_a_corrupt_sample_ends_a_run_or_is_counted(folder, capsys):
    weather = toys.weather()
    weather[toys.PRESSURE][0, 20] = np.nan
    weather.to_netcdf(folder / "weather.nc")
    stats = folder / "stats"
    from weatherlib.data_utils import statistics

    statistics.compute_statistics(toys.weather(), end="2020-01-11").save(stats)
    words = _set(f"data.statistics={stats}", "stages.0.steps=40")
    assert _train(folder, *words) == 2
    assert "weather.nc: mean_sea_level_pressure has missing" in capsys.readouterr().err
    words += _set(f"output={folder}/other", "data.skip_corrupt=true")
    assert _train(folder, *words) == 0
    page = (folder / "other" / "report.html").read_text()
    assert "<th>samples skipped</th><td>3</td>" in page


def _in_parts(folder, names, write):
    """Writes the weather in parts of 15 frames, the third of which is cut short."""
    weather = toys.weather()
    dates = weather["datetime"].values[0]
    weather = weather.drop_vars("datetime").isel(batch=0).assign_coords(time=dates)
    for number, name in enumerate(names):
        frames = slice(number * 15, number * 15 + 15)
        write(folder / name, weather.isel(time=frames))
    bad = folder / names[2]
    bad.write_bytes(bad.read_bytes()[: bad.stat().st_size // 2])
    return bad


def _write_shard(path, weather):
    fields = {toys.PRESSURE: weather[toys.PRESSURE]}
    for level in (500, 850):
        fields[f"geopotential_{level}"] = weather["geopotential"].sel(level=level)
    np.savez(path, **{name: field.values[:, None] for name, field in fields.items()})
    np.save(path.parent / "lat.npy", weather["lat"].values)
    np.save(path.parent / "lon.npy", weather["lon"].values)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("kind", ["nc", "npz"])
def test_a_corrupt_file_ends_a_run_or_is_left_out_and_counted(folder, capsys, kind):
    parts = folder / "parts"
    parts.mkdir()
    names = [f"2020_{number}.{kind}" for number in range(4)]
    write = _write_shard if kind == "npz" else lambda path, part: part.to_netcdf(path)
    bad = _in_parts(parts, names, write)
    words = _set(f"data.path={parts}/*.{kind}", "data.time_step=6h")
    words += _set("data.validation=null", "data.train.end=null", "checkpoint_every=8")
    assert _train(folder, *words) == 2
    err = capsys.readouterr().err
    assert f"{bad}: damaged or cut short" in err
    assert "data.skip_corrupt=true of train" in err
    assert _train(folder, *words, *_set("data.skip_corrupt=true")) == 0
    printed = capsys.readouterr()
    # Long values are wrapped.
    out = "".join(printed.out.split())
    assert f"filesskipped1:{bad}" in out and "45frames" in out
    assert "skipped 1 of 4" in printed.err
    page = (folder / "run" / "report.html").read_text()
    assert f"<th>files skipped</th><td>1: {bad}</td>" in page


@pytest.mark.filterwarnings("ignore")
def test_samples_do_not_reach_over_a_file_that_was_left_out(folder):
    names = [f"part{number}.nc" for number in range(4)]
    _in_parts(folder, names, lambda path, part: part.to_netcdf(path))
    changes = [f"data.path={folder}/part*.nc", "data.skip_corrupt=true"]
    config = settings.read(training.TrainConfig, folder / "train.yaml", changes)
    frames = run_data.open_sources(config, training.Placement(), say=print)[0].frames
    # Two inputs and a target: 13 samples in each stretch of 15 frames.
    whole = training.Period()
    assert list(frames.starts(whole)) == [*range(28), *range(30, 43)]
    for start in frames.starts(whole, targets=2):
        times = frames.datetimes[start : start + 4]
        assert (np.diff(times) == np.timedelta64(6, "h")).all()


@pytest.mark.parametrize("path", sorted(_CONFIGS.glob("*.yaml")), ids=lambda p: p.stem)
def test_every_example_configuration_can_be_read(path):
    if nowcast_keys.is_published(settings.read_values(path)):
        pytest.skip("of the published kind, read in tests/cli/test_nowcast_keys.py")
    read = settings.read(training.TrainConfig, path)
    family, model = families.find_family(read.model)
    assert isinstance(model, family.config_class)
    assert read.data.radar or read.data.task_config().target_variables
    head = path.read_text().split("output:")[0]
    assert head.startswith("#")
    assert f"weatherlib train examples/configs/{path.name}" in head
    assert "Hardware and time:" in head
    assert "Score:" in head
    assert "/" not in read.data.path
    # Data are a placeholder, which --set replaces, and no file of somebody's own.
    assert re.findall(r"\w*\d{4}[-\w]*\.(?:nc|grib|zarr)", path.read_text()) == []
