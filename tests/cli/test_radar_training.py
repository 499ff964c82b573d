"""Radar pictures as the data of `weatherlib train`, and nowcasts of what it trained."""

import contextlib
import csv
import io

import numpy as np
import pytest
import xarray

from tests.cli import radar_runs
from tests.conftest import GOLDENS
from tests.docs import test_pages
from weatherlib import config, predictor_base, training
from weatherlib.cli import main, models, nowcasters, nowcasting, radar_frames, settings
from weatherlib.data import radar_grid, sevir
from weatherlib.training import records, wrapping


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder in which a tiny ConvLSTM was trained, and what was printed."""
    folder = radar_runs.write(tmp_path_factory.mktemp("radar"))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert main.main(["train", str(folder / "train.yaml")]) == 0
    return folder, printed.getvalue()


@pytest.fixture(scope="module")
def nowcaster(finished):
    yield nowcasters.open_nowcaster(finished[0] / "run")


def _settings(folder, **radar):
    values = {**radar_runs.VALUES["data"], "path": str(folder / "radar.nc")}
    values["radar"] = {**values["radar"], **radar}
    return config.from_dict(training.DataConfig, values)


def _times(frames, period, targets):
    sequences = frames.sequences(period, targets=targets)
    return {t for n in range(len(sequences)) for t in sequences.source.times(n)}


def test_training_says_what_it_uses_and_how_to_score_it(finished):
    folder, printed = finished
    said = " ".join(printed.split())
    assert "40 frames, 40 samples to train on, 16 x 16 pixels, in memory" in said
    assert f"try: weatherlib nowcast {folder / 'run'}" in printed
    model = models.load_model(folder / "run" / "checkpoint.npz")
    assert model.task_config.target_variables == ("vil",)
    assert model.task_config.input_duration == "15min"
    assert model.time_step == "5min"
    statistics = models.find_statistics(model)
    assert float(statistics.stddev_by_level["vil"]) == 255
    assert float(statistics.mean_by_level["vil"]) == 0
    judged = [
        r for r in records.read_records(folder / "run") if r["kind"] == "validation"
    ]
    assert set(judged[0]["rmse"]["vil"]) == {"1", "2"}
    assert judged[0]["samples"] == 4


def test_periods_share_no_frame(finished):
    frames = radar_frames.RadarFrames(_settings(finished[0]))
    settings = _settings(finished[0])
    parts = [_times(frames, settings[n], 2) for n in ("train", "validation", "test")]
    assert all(parts)
    assert not parts[0] & parts[1] and not parts[1] & parts[2]
    assert max(parts[0]) < np.datetime64("2020-06-01T02:00")
    assert min(parts[2]) >= np.datetime64("2020-06-01T02:40")


def test_only_what_is_trained_on_is_turned(finished):
    settings = _settings(finished[0], augment="flips_rotations")
    frames = radar_frames.RadarFrames(settings)
    plain = frames.sequences(settings.train, targets=2)
    assert len(frames.starts(settings.train, targets=2)) == 8 * len(plain)
    later = frames.starts(settings.validation, targets=2)
    assert len(later) == len(frames.sequences(settings.validation, targets=2))
    inputs, targets, forcings = frames.batch(later[:2], 2)
    expected = frames.sequences(settings.validation, targets=2).datasets([0, 1])
    xarray.testing.assert_identical(inputs, expected[0])
    xarray.testing.assert_identical(targets, expected[1])
    assert not forcings
    np.testing.assert_array_equal(inputs["lat"], frames.dataset["lat"])


def test_batches_go_on_where_they_were_left(finished):
    settings = _settings(finished[0])
    frames = radar_frames.RadarFrames(settings)

    def feed():
        starts = frames.starts(settings.train, targets=2)
        return training.Feed(frames.loader(2), starts, batch_size=4, seed=5)

    whole = feed().iterate()
    first = [next(whole) for _ in range(2)]
    state = whole.state
    expected = next(whole)
    again = feed().iterate(state)
    found = next(again)
    for ours, theirs in zip(found[0], expected[0]):
        xarray.testing.assert_identical(ours, theirs)
    assert not first[0][0][0].equals(expected[0][0])
    whole.close()
    again.close()


@pytest.mark.slow
def test_an_interrupted_run_ends_as_an_uninterrupted_one(finished, tmp_path):
    words = ["train", str(finished[0] / "train.yaml"), "--set", f"output={tmp_path}"]
    assert main.main([*words, "--set", "stages.0.steps=2"]) == 0
    assert main.main([*words, "--resume"]) == 0
    ours, theirs = (
        models.load_model(path / "checkpoint.npz").params
        for path in (tmp_path, finished[0] / "run")
    )
    for module, params in theirs.items():
        for name, values in params.items():
            np.testing.assert_array_equal(ours[module][name], values)


def test_missing_pixels_are_filled_in_inputs_and_kept_in_masked_targets(tmp_path):
    radar_runs.write(tmp_path, radar_runs.with_gaps(radar_runs.series()))
    settings = _settings(tmp_path, max_missing=0.5, fill=7.0, augment="none", stride=1)
    filled = radar_frames.RadarFrames(settings)
    masked = radar_frames.RadarFrames(settings, mask_targets=True)
    # Samples of the first tile: the missing corner is in frame 5 of the series.
    numbers = filled.starts(settings.train, targets=2)[[2, 3]]
    masked.starts(settings.train, targets=2)
    inputs, targets, _ = filled.batch(numbers, 2)
    assert (targets["vil"][0, 0, :2, :3] == 7).all()
    assert (inputs["vil"][1, 2, :2, :3] == 7).all()
    kept_inputs, kept, _ = masked.batch(numbers, 2)
    assert np.isnan(kept["vil"][0, 0, :2, :3]).all()
    assert int(np.isnan(kept["vil"]).sum()) == 6
    xarray.testing.assert_identical(kept_inputs, inputs)
    whole = radar_frames.RadarFrames(settings.replace(radar=settings.radar.replace(
        max_missing=0.0)))  # fmt: skip
    lost = len(filled.starts(settings.train, targets=2)) - len(
        whole.starts(settings.train, targets=2)
    )
    assert lost == 5


class _Still(predictor_base.Predictor):
    """Predicts the last frame, and keeps the targets that it was handed."""

    frames_per_step = 2

    def __call__(self, inputs, targets_template, forcings, **options):
        last = inputs["vil"].isel(time=-1, drop=True)
        frames = last.expand_dims(time=targets_template["time"])
        dims = targets_template["vil"].dims
        return xarray.Dataset({"vil": frames.transpose(*dims)})

    def loss_and_predictions(self, inputs, targets, forcings, **options):
        self.handed = targets
        return None, self(inputs, targets, forcings)


def test_missing_targets_do_not_count_in_the_loss(tmp_path):
    radar_runs.write(tmp_path, radar_runs.with_gaps(radar_runs.series()))
    losses, still = [], _Still()
    wanted = training.LossConfig(skip_missing=True)
    for fill in (0.0, 200.0):
        settings = _settings(tmp_path, max_missing=0.5, fill=fill, augment="none")
        frames = radar_frames.RadarFrames(settings, mask_targets=True)
        sample = frames.batch(frames.starts(settings.train, targets=2)[[1]], 2)
        statistics = frames.statistics(settings.train)
        by_level = {f"{n}_by_level": getattr(statistics, n)
                    for n in ("mean", "stddev", "diffs_stddev")}  # fmt: skip
        predictor = wrapping.wrap(
            still, by_level, training.config.WrapperConfig(), loss=wanted
        )
        (loss, _), _ = predictor.loss_and_predictions(*sample)
        losses.append(loss.item())
        assert np.isnan(sample[1]["vil"]).any()
    assert losses[0] == losses[1] > 0
    predictor.loss_and_predictions(*sample, teacher_forcing_ratio=1.0)
    assert np.isfinite(still.handed["vil"]).all()


def test_statistics_are_those_of_the_training_samples(finished):
    settings = _settings(finished[0], scale="statistics", stride=5)
    frames = radar_frames.RadarFrames(settings)
    sequences = frames.sequences(settings.train)
    pixels = np.stack([sequences.pixels(n) for n in range(len(sequences))])
    found = frames.statistics(settings.train)
    assert float(found.mean["vil"]) == pytest.approx(pixels.mean(), rel=1e-5)
    assert float(found.stddev["vil"]) == pytest.approx(pixels.std(), rel=1e-5)
    changes = np.diff(pixels, axis=1)
    assert float(found.diffs_stddev["vil"]) == pytest.approx(changes.std(), rel=1e-5)


def test_several_series_are_trained_on_together(finished, tmp_path, capsys):
    other = radar_runs.series(start="2021-07-01", seed=8)
    other.to_netcdf(tmp_path / "other.nc")
    source = f"{{path: {tmp_path / 'other.nc'}, train: {{end: 2021-07-01T02:00}}}}"
    words = ["train", str(finished[0] / "train.yaml"), "--set"]
    words += [f"data.sources=[{source}]", "--set", f"output={tmp_path / 'run'}"]
    assert main.main([*words, "--dry-run"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "other.nc, 40 frames, 40 samples to train on, 16 x 16 pixels" in said
    folder = tmp_path / "run" / "sources" / "other" / "stats"
    assert (folder / "mean_by_level.nc").is_file()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["data.path=nowhere.nc"], "nowhere.nc: there is no such file"),
        (["data.radar.tile=64"], "tiles of 64 x 64 cells do not fit"),
        (["data.radar.tiles=8"], "unknown key 'tiles' (did you mean 'tile'?)"),
        (["data.radar.augment=mirror"], "augment: there is no 'mirror'"),
        (["data.radar.crop=99"], "crop: a part of 99 x 99 cells"),
        (["data.train.end=2020-06-01T00:10"], "at most 2 of 40"),
        (["data.task=TASK_13"], "task: not for radar pictures"),
        (["data.radar.date=2019-01-01"], "date: for kind sevir"),
        (["data.train.split=train"], "split train is given beside start or end"),
        (["data.radar.inputs=4"], "has 4 frame(s), and the model reads 3"),
        (["stages.0.lead=5min"], "lead: this family predicts one step"),
    ],
)
def test_mistakes_end_in_one_line(finished, tmp_path, capsys, changes, said):
    words = [word for change in changes for word in ("--set", change)]
    path = str(finished[0] / "train.yaml")
    output = ["--set", f"output={tmp_path}"]
    assert main.main(["train", path, *output, *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1


def test_all_missing_frames_and_files_cut_short_are_refused(tmp_path, capsys):
    lost = radar_runs.series()
    lost["vil"][2] = np.nan
    radar_runs.write(tmp_path, lost)
    words = ["train", str(tmp_path / "train.yaml"), "--dry-run"]
    words += ["--set", "data.train.end=2020-06-01T00:25"]
    assert main.main(words) == 2
    assert "no measurement at all, the first at 2020-06-01T00:10" in (
        capsys.readouterr().err
    )
    whole = (tmp_path / "radar.nc").read_bytes()
    (tmp_path / "radar.nc").write_bytes(whole[: len(whole) // 2])
    assert main.main(words) == 2
    assert "radar.nc: " in capsys.readouterr().err


def test_the_door_scores_models_beside_references(finished, tmp_path, capsys):
    run = finished[0] / "run"
    words = ["nowcast", f"tiny={run}", "--output", str(tmp_path), "--pools", "1", "4"]
    assert main.main([*words, "--cases", "1"]) == 0
    printed = capsys.readouterr().out
    assert "CSI, pixels of 16 and more" in printed
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        "scores.nc", "scores.csv", "csi.png", "csi_pool4.png", "rmse.png", "crps.png",
        "spectra.png", "case_1.png", "case_1.gif", "case_1.nc",
    }  # fmt: skip
    scores = xarray.load_dataset(tmp_path / "scores.nc", decode_timedelta=True)
    assert scores["model"].values.tolist() == ["tiny", "persistence", "extrapolation"]
    leads = scores["lead_time"].values / np.timedelta64(1, "m")
    assert leads.tolist() == [5, 10]
    with (tmp_path / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    csi = [
        row for row in rows
        if (row["score"], row["model"], row["lead_minutes"], row["at"])
        == ("csi", "persistence", "5", "pool=1 threshold=16")
    ]  # fmt: skip
    value = scores["csi"].sel(model="persistence", pool=1, threshold=16)[0]
    assert float(csi[0]["value"]) == pytest.approx(float(value), rel=1e-6)
    case = xarray.load_dataset(tmp_path / "case_1.nc", decode_timedelta=True)
    assert case["nowcast_0"].attrs["model"] == "tiny"
    assert case["observed"].sizes["time"] == 5


def test_persistence_in_the_door_is_the_last_frame(finished):
    data = _settings(finished[0])
    samples = nowcasting.find_samples(data, nowcasting.find_period(data), 2)
    assert min(samples.source.times(0)) == np.datetime64("2020-06-01T02:40")
    found = nowcasting.collect({}, ("persistence",), samples, nowcasters.Options())
    pixels = samples.pixels(0)
    nowcast = found["persistence"](pixels[None, :3], 2)
    np.testing.assert_array_equal(nowcast[0, 1], pixels[2])


def test_a_nowcast_is_what_the_model_predicts(finished, nowcaster):
    data = _settings(finished[0])
    sequences = nowcasting.find_samples(data, data.test, 5)
    pixels = np.stack([sequences.pixels(n) for n in range(3)])
    found = nowcaster(pixels[:, :3], 5)
    assert found.shape == (3, 5, 16, 16)
    assert found.min() >= 0 and found.max() <= 254
    assert nowcaster.traces == 1
    # Smaller batches are not compiled anew, and do not depend on their neighbours.
    np.testing.assert_allclose(nowcaster(pixels[1:2, :3], 5), found[1:2], atol=1e-3)
    assert nowcaster.traces == 1
    again = np.concatenate([pixels[:, 2:3], found[:, :2]], axis=1)
    np.testing.assert_allclose(nowcaster(again, 2), found[:, 2:4], atol=1e-3)
    longer = np.concatenate([pixels[:, :1], pixels[:, :3]], axis=1)
    np.testing.assert_array_equal(nowcaster(longer, 2), found[:, :2])
    with pytest.raises(ValueError, match="reads 3 frames, the context has 2"):
        nowcaster(pixels[:, :2], 2)
    pixels[0, 1] = np.nan
    with pytest.raises(ValueError, match="every pixel of frame 1 of sample 0"):
        nowcaster(pixels[:, :3], 2)


def test_a_stream_of_frames_gives_the_nowcast_of_all_at_once(finished, nowcaster):
    data = _settings(finished[0])
    sequences = nowcasting.find_samples(data, data.test, 2)
    pixels = sequences.dataset(0)
    pixels.attrs["cell_km"] = 1.0
    expected = nowcaster(pixels["vil"].values[None, :3], 2)
    stream = nowcasters.open_stream(finished[0] / "run")
    frames = radar_grid.on_plane(pixels).expand_dims("batch")
    dates = frames["time"].values
    frames = frames.assign_coords(
        time=dates - dates[0], datetime=(("batch", "time"), dates[None])
    )
    for frame in range(3):
        found = stream(frames.isel(time=[frame]))
    assert stream.frames_read == 3
    field = found["vil"].transpose("batch", "time", "lat", "lon")
    pixels = np.clip(np.asarray(field), 0, 254)
    np.testing.assert_allclose(pixels, expected, atol=1e-2)


def test_the_page_opens_a_trained_model_in_both_ways(finished):
    page = test_pages._run("docs/how-to/radar.md")
    nowcast, stream = page["open_trained"](finished[0] / "run")
    assert nowcast.inputs == 3
    assert stream.frames_read == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "nowhere: the checkpoint does not exist"),
        (["{run}", "a={run}", "run={run}"], "'run' stands for two models"),
        (["{run}", "--references", "persistance"], "did you mean 'persistence'?"),
        (["{run}", "--guide", "50"], "--guide and --alignment go together"),
        (["{run}", "--guide", "50", "--alignment", "{run}"], "none of the models can"),
        (["{run}", "--guide", "5:", "--alignment", "{run}"], "expected SCALE, SCALE:"),
        (["{run}", "--members", "0"], "members is at least 1"),
        (["{run}", "--samples", "0"], "samples is at least 1"),
        (["{run}", "--start", "2021-01-01"], "at most 0 of 40"),
        (["{run}", "--set", "data.radar.every=2", "--start", "2020-06-01T01"],
         "5 min apart, the samples have 10"),
        (["{run}", "--leads", "0"], "--leads is at least 1"),
        (["{run}", "--split", "train", "--start", "2020-06-01"], "choose by"),
        ([], "no radar pictures are named; give --data FILE"),
        (["--data", "{radar}"], "data.test and data.validation: neither has times"),
        (["--data", "{radar}", "--references", "none", "--start", "2020-06-01"],
         "neither a model nor a reference"),
    ],
)  # fmt: skip
def test_mistakes_at_the_door_end_in_one_line(finished, tmp_path, capsys, words, said):
    folder = finished[0]
    places = {"run": folder / "run", "radar": folder / "radar.nc"}
    words = [word.format(**places) for word in words]
    assert main.main(["nowcast", *words, "--output", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1


def test_a_guide_wants_a_multiple_of_the_last_intensity(finished):
    guide = nowcasters.Guide.parse("50:1.5", finished[0] / "run")
    assert (guide.scale, guide.factor) == (50, 1.5)
    assert guide.path.endswith("checkpoint.npz")
    frames = np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2, 1)
    np.testing.assert_allclose(guide.wanted(frames), [1.5 * 9.5, 1.5 * 21.5])
    assert nowcasters.Guide.parse("20", "network.npz").factor == 1
    published = nowcasters.Guide.parse("50:2:truth", "network.npz")
    assert (published.scale, published.factor, published.of) == (50, 2, "truth")
    for wrong in ("50:truth", "50:2:future", "50:2:truth:1"):
        with pytest.raises(ValueError, match="SCALE:FACTOR:truth"):
            nowcasters.Guide.parse(wrong, "network.npz")
    options = nowcasters.Options(guide=guide)
    with pytest.raises(ValueError, match="neither drawn by a sampler nor guided"):
        nowcasters.open_nowcaster(finished[0] / "run", options)


def test_models_of_weather_are_no_nowcasts():
    with pytest.raises(ValueError, match="no radar pictures"):
        nowcasters.open_nowcaster(models.find_checkpoint())


def test_sevir_is_trained_on_by_its_split(tmp_path):
    values = {"path": "sevir", "radar": {"kind": "sevir"}, "validation": {}}
    read = config.from_dict(training.DataConfig, values)
    assert read.train.split == "train"
    assert read.validation.split == "validation"
    assert not read.train.overlaps(read.validation)
    assert nowcasting.find_period(read.replace(validation=None)).split == "test"
    with pytest.raises(ValueError, match="chosen by split"):
        config.from_dict(training.DataConfig, {**values, "test": {"start": "2019"}})
    with pytest.raises(ValueError, match="tile: for a series"):
        config.from_dict(
            training.DataConfig, {**values, "radar": {"kind": "sevir", "tile": 4}}
        )
    again = settings.parse(settings.dump(read), "dumped")
    assert config.from_dict(training.DataConfig, again) == read


def test_samples_of_sevir_are_the_published_ones():
    root = GOLDENS / "prediff" / "sevirlr"
    values = {
        "path": str(root),
        "radar": {"kind": "sevir", "validation_share": 0.0},
        "test": {},
    }
    settings = config.from_dict(training.DataConfig, values)
    frames = radar_frames.RadarFrames(settings)
    assert frames.task.input_duration == "70min"
    assert "read as needed" in frames.description
    starts = frames.starts(settings.test, targets=6)
    assert len(starts) == len(sevir.open_sevir(root, split="test"))
    _, targets, _ = frames.batch(starts[:1], 6)
    with np.load(root.parent / "sevirlr_expected.npz") as stored:
        item = stored["test_item0"][7:, ..., 0]
    np.testing.assert_allclose(targets["vil"][0] / 255, item, rtol=1e-6)
    trained = {frames.sequences(settings.train).source.label(n) for n in range(2)}
    judged = {frames.sequences(settings.test).source.label(n) for n in range(2)}
    assert not trained & judged
