import json
import shutil

import h5py
import numpy as np
import pandas as pd
import pytest

from tests.conftest import GOLDENS
from weatherlib import training
from weatherlib.cli import main
from weatherlib.data import (
    radar_sequences,
    sevir,
    sevir_catalogue,
    sevir_files,
    sevir_lr,
)

_FOLDER = GOLDENS / "prediff"
_ROOT = _FOLDER / "sevirlr"
_STORMS = "vil/2018/SEVIR_VIL_STORMEVENTS_2018_0101_0630.h5"
_PUBLISHED = {
    "test": {"split": "test"},
    "train_val": {"split": "train_validation"},
    "train_val_shuffled": {"split": "train_validation", "shuffled": True},
}


@pytest.fixture(scope="module")
def expected():
    return json.loads((_FOLDER / "sevirlr_expected.json").read_text())["expected"]


@pytest.fixture
def root(tmp_path):
    """A copy that tests may damage."""
    return shutil.copytree(_ROOT, tmp_path / "sevirlr")


@pytest.mark.parametrize("name", _PUBLISHED)
def test_samples_are_those_of_the_published_loader(name, expected):
    found = sevir.open_sevir(_ROOT, **_PUBLISHED[name])
    wanted = expected[name]
    assert len(found) == wanted["len"]
    frames, valid = found.arrays(found.numbers)
    assert list(frames.shape[1:]) == wanted["item_shape"]
    assert valid.all()
    sums = frames.sum((1, 2, 3, 4), dtype=np.float64)
    np.testing.assert_allclose(sums, wanted["item_sum"], rtol=1e-12)
    with np.load(_FOLDER / "sevirlr_expected.npz") as stored:
        items = {k: stored[k] for k in stored if k.startswith(f"{name}_item")}
    assert len(items) == {"test": 9, "train_val": 3}.get(name, 0)
    for key, item in items.items():
        np.testing.assert_array_equal(frames[int(key.split("item")[1])], item)


@pytest.mark.parametrize("name", _PUBLISHED)
def test_events_come_in_the_published_order(name, expected):
    options = dict(_PUBLISHED[name])
    catalogue = sevir_catalogue.read_catalogue(_ROOT / "CATALOG.csv")
    events = sevir_catalogue.split_events(catalogue, options["split"])
    if options.get("shuffled"):
        events = sevir_catalogue.shuffle(events)
    pairs = zip(events["file_name"], events["file_index"])
    assert [list(pair) for pair in pairs] == expected[name]["event_order"]


def test_frames_have_their_dates_and_size():
    found = sevir.open_sevir(_ROOT, split="train_validation")
    assert found.step == np.timedelta64(10, "m")
    assert found.cell_km == 384 / 16
    first = found.dataset(0)
    # Event R307358 of 17:30, two hours before it on.
    assert first["time"].values[0] == np.datetime64("2019-05-25T15:30")
    assert found.dataset(1)["time"].values[0] == np.datetime64("2019-05-25T16:30")
    assert first.attrs["sample"] == "event R307358, frame 0 on"


def test_an_event_is_read_whole():
    event = sevir.open_event(_ROOT, "S475960")
    with h5py.File(_ROOT / "data" / _STORMS) as file:
        stored = np.moveaxis(file["vil"][4], -1, 0)
    np.testing.assert_array_equal(event["vil"], stored)
    assert event["time"].values[12] == np.datetime64("2018-06-10T19:30")
    with pytest.raises(ValueError, match="no event 'S1' of vil, or several"):
        sevir.open_event(_ROOT, "S1")
    with pytest.raises(ValueError, match="or several"):
        sevir.open_event(_ROOT, "S107373")


def test_validation_follows_from_ids_and_a_key():
    ids = [f"S{number}" for number in range(20_000)]
    held = [sevir_catalogue.in_validation(name, 0.1) for name in ids]
    assert abs(np.mean(held) - 0.1) < 0.01
    other = [sevir_catalogue.in_validation(name, 0.1, "other") for name in ids]
    assert 0 < np.mean([a and b for a, b in zip(held, other)]) < 0.02
    # More is validated on where more is asked for, and nothing else changes.
    more = [sevir_catalogue.in_validation(name, 0.2) for name in ids]
    assert all(b for a, b in zip(held, more) if a)


def test_training_and_validation_share_no_event():
    catalogue = sevir_catalogue.read_catalogue(_ROOT / "CATALOG.csv")
    parts = [
        set(sevir_catalogue.split_events(catalogue, split, validation_share=0.5)["id"])
        for split in ("train", "validation", "train_validation", "test")
    ]
    train, validation, both, test = parts
    assert train and validation
    assert not train & validation
    assert train | validation == both
    assert not both & test
    everything = sevir_catalogue.split_events(catalogue, "all")
    assert set(everything["id"]) == both | test
    found = sevir.open_sevir(_ROOT, split="validation", validation_share=0.5)
    assert len(found) == 3 * len(validation)


def test_events_can_begin_after_a_date_and_end_at_one():
    catalogue = sevir_catalogue.read_catalogue(_ROOT / "CATALOG.csv")

    def days(split, **options):
        found = sevir_catalogue.split_events(catalogue, split, **options)
        return sorted(str(day)[:10] for day in found["time_utc"])

    assert days("train_validation", after="2018-06-03")[0] == "2018-06-06"
    assert days("train_validation", until="2018-12-31")[-1] == "2018-06-10"
    assert days("test", until="2019-06-07")[-1] == "2019-06-06"
    # The date of the split still divides.
    assert days("test", after="2018-01-01") == days("test")
    assert days("test", after="2019-06-07") == ["2019-06-10"]
    assert days("train_validation", until="2030-01-01") == days("train_validation")
    bounded = days("all", after="2018-06-03", until="2019-05-26")
    assert (bounded[0], bounded[-1]) == ("2018-06-06", "2019-05-25")
    with pytest.raises(ValueError, match="after 2018-07-01 and up to 2018-07-02"):
        days("train", after="2018-07-01", until="2018-07-02")
    with pytest.raises(ValueError, match="until: expected a date"):
        days("train", until="soon")


def test_samples_may_be_single_frames():
    settings = radar_sequences.SequenceConfig(inputs=0, targets=1, stride=1)
    found = sevir.open_sevir(_ROOT, settings, split="test")
    whole = sevir.open_sevir(_ROOT, split="test")
    assert len(found) == 25 * len(whole) // 3
    past, frame, _ = found.datasets([0, 7], 1)
    assert (past.sizes["time"], frame.sizes["time"]) == (0, 1)
    np.testing.assert_array_equal(frame["vil"][1, 0], whole.pixels(0)[7])


def test_the_order_of_filters_is_the_published_one():
    row = {"img_type": "vil", "file_name": "a.h5", "file_index": 0, "pct_missing": 0.0}
    days = ["2019-06-01T00:00:00", "2019-06-01T00:00:01", "2018-01-01T00:00:00"]
    times = pd.to_datetime(days * 2)
    table = pd.DataFrame([row] * 6).assign(
        id=["b", "c", "a", "b", "d", "e"], time_utc=times
    )
    table.loc[3, "pct_missing"] = 1.0
    # The second row of b is left out first, so that b is not listed twice.
    early = sevir_catalogue.split_events(table, "train_validation")
    assert list(early["id"]) == ["a", "b", "e"]
    assert list(sevir_catalogue.split_events(table, "test")["id"]) == ["c", "d"]
    more = sevir_catalogue.select(table, max_pct_missing=100.0)
    assert "b" not in set(more["id"])


def test_bytes_without_measurement_are_missing_where_events_have_some(root):
    table = pd.read_csv(root / "CATALOG.csv")
    table.loc[table["id"] == "R288448", "pct_missing"] = 2.0
    table.to_csv(root / "CATALOG.csv", index=False)
    assert len(sevir.open_sevir(root, split="test")) == 6
    settings = radar_sequences.SequenceConfig(max_missing=0.5)
    found = sevir.open_sevir(root, settings, split="test", max_pct_missing=5.0)
    whole = sevir.open_sevir(_ROOT, settings, split="test")
    pixels, raw = found.pixels(0), whole.pixels(0)
    assert (raw == 255).any()
    np.testing.assert_array_equal(np.isnan(pixels), raw == 255)
    # Events without missing pixels stay as they are.
    np.testing.assert_array_equal(found.pixels(3), whole.pixels(3))


def test_samples_may_be_cut_otherwise():
    settings = radar_sequences.SequenceConfig(inputs=2, targets=2, stride=2, every=2)
    found = sevir.open_sevir(_ROOT, settings, split="test")
    assert found.step == np.timedelta64(20, "m")
    # Frames 0, 2, 4, 6; then 4, 6, 8, 10 and so on.
    assert len(found) == 3 * (1 + (25 - 7) // 4)
    event = sevir.open_event(_ROOT, "R288448")["vil"].values
    np.testing.assert_array_equal(found.pixels(1), event[4:11:2])
    with pytest.raises(ValueError, match="does not fit into the 25 frames"):
        sevir.open_sevir(_ROOT, settings.replace(inputs=20), split="test")


def test_batches_go_on_from_any_sample():
    settings = radar_sequences.SequenceConfig(augment="2")
    found = sevir.open_sevir(_ROOT, settings, split="train_validation")
    feed = training.Feed(found.arrays, found.numbers, batch_size=2, seed=5)
    iterator = feed.iterate()
    next(iterator)
    state = iterator.state
    expected = next(iterator)[0]
    iterator.close()
    again = feed.iterate(state)
    np.testing.assert_array_equal(next(again)[0].frames, expected.frames)
    again.close()


def test_a_missing_file_is_an_error_or_left_out(root):
    (root / "data" / _STORMS).unlink()
    with pytest.raises(FileNotFoundError, match=r"catalogue names it.*missing_files"):
        sevir.open_sevir(root, split="train_validation")
    found = sevir.open_sevir(root, split="train_validation", missing_files="skip")
    assert len(found) == 2 * 3
    shutil.rmtree(root / "data")
    with pytest.raises(FileNotFoundError, match="none of the 2 files"):
        sevir.open_sevir(root, split="train_validation", missing_files="skip")


def test_a_file_cut_short_is_an_error_when_opened_or_read(root):
    found = sevir.open_sevir(root, split="train_validation")
    path = root / "data" / _STORMS
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    for read in (
        lambda: sevir.open_sevir(root, split="train_validation"),
        lambda: found.arrays(found.numbers),
    ):
        with pytest.raises(OSError, match=f"{path.name}: damaged or cut short"):
            read()
    with h5py.File(_ROOT / "data" / _STORMS) as file:
        place = file["vil"].id.get_chunk_info(0).byte_offset
    path.write_bytes(whole[:place] + bytes(20) + whole[place + 20 :])
    with pytest.raises(OSError, match="damaged or cut short"):
        found.arrays(found.numbers)
    path.write_bytes(b"<html>")
    with pytest.raises(OSError, match="damaged or cut short"):
        sevir.open_sevir(root, split="train_validation")


def test_a_file_that_goes_away_is_an_error_when_read(root):
    found = sevir.open_sevir(root, split="test")
    shutil.rmtree(root / "data")
    with pytest.raises(FileNotFoundError, match=r"RANDOMEVENTS.*no such file"):
        found.arrays([0])


def _write(root, **datasets):
    with h5py.File(root / "data" / _STORMS, "w") as file:
        for name, values in datasets.items():
            file[name] = values


@pytest.mark.parametrize(
    ("datasets", "message"),
    [
        ({"vis": np.zeros(3)}, "there is no vil, but vis"),
        ({"vil": np.zeros((5, 16, 25), np.uint8)}, r"\(5, 16, 25\) of uint8, expected"),
        ({"vil": np.zeros((5, 16, 16, 25))}, "of float64, expected bytes"),
        ({"vil": np.zeros((2, 16, 16, 25), np.uint8)}, "index 3, the file holds 2"),
        (
            {
                "vil": np.zeros((5, 16, 16, 25), np.uint8),
                "id": np.array([b"S1"] * 5),
            },
            "the file S1; catalogue and files do not belong together",
        ),
        (
            {"vil": np.zeros((5, 8, 8, 25), np.uint8)},
            "25 frames of 8 x 8, .* 25 frames of 16 x 16; read one kind",
        ),
    ],
)
def test_files_that_hold_something_else_are_refused(root, datasets, message):
    _write(root, **datasets)
    with pytest.raises(ValueError, match=message):
        sevir.open_sevir(root, split="train_validation")


def test_a_catalogue_with_other_columns_is_refused(root):
    table = pd.read_csv(root / "CATALOG.csv")
    table.rename(columns={"file_name": "filename"}).to_csv(root / "CATALOG.csv")
    with pytest.raises(ValueError, match=r"no column file_name \(is it filename\?\)"):
        sevir.open_sevir(root)
    (root / "CATALOG.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"SEVIR has CATALOG\.csv"):
        sevir.open_sevir(root)
    (root / "CATALOG.csv").write_bytes(b"\xff\xfe\x00junk")
    with pytest.raises((OSError, ValueError), match=r"CATALOG\.csv"):
        sevir.open_sevir(root)
    (root / "CATALOG.csv").write_text("")
    with pytest.raises(OSError, match="cannot be read as a table"):
        sevir.open_sevir(root)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("time_utc", "yesterday", "time_utc holds no dates"),
        ("pct_missing", "none", "pct_missing is 'none' in row 4, expected a number"),
        ("file_index", "first", "file_index is 'first' in row 4"),
        ("minute_offsets", "-120:0", "lists 2 frames, the file holds 25"),
        ("minute_offsets", "a:b", "are no numbers"),
    ],
)
def test_values_that_are_none_are_refused(root, column, value, message):
    table = pd.read_csv(root / "CATALOG.csv", dtype=object)
    table.loc[2, column] = value
    if column == "minute_offsets":
        table.loc[2, "pct_missing"] = "0.0"
    table.to_csv(root / "CATALOG.csv", index=False)
    with pytest.raises(ValueError, match=message):
        sevir.open_sevir(root, split="train_validation")


def test_without_offsets_frames_fill_four_hours():
    row = pd.Series({"id": "S1"})
    minutes = sevir_catalogue.offsets(row, 49) / np.timedelta64(1, "m")
    np.testing.assert_array_equal(minutes, np.arange(-120, 121, 5))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "tset"}, "did you mean 'test'"),
        ({"split": "test", "date": "2030-01-01"}, "no event for test"),
        ({"split": "validation", "validation_share": 0.0}, "no event for validation"),
        ({"split": "test", "date": "soon"}, "after: expected a date"),
        ({"validation_share": 1.5}, "a share below 1"),
        ({"shuffle": True}, "the options are date"),
    ],
)
def test_splits_that_cannot_be_made_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        sevir.open_sevir(_ROOT, **options)


def _sevir(folder, events=11, side=12, frames=49):
    """Writes a small SEVIR and returns its pictures."""
    generator = np.random.default_rng(0)
    vil = generator.integers(0, 256, (events, side, side, frames), dtype=np.uint8)
    name = "vil/2018/SEVIR_VIL_STORMEVENTS_2018_0101_0630.h5"
    path = folder / "data" / name
    path.parent.mkdir(parents=True)
    ids = [f"S{number:03d}" for number in range(events)]
    with h5py.File(path, "w") as file:
        file["vil"], file["id"] = vil, np.array(ids, dtype="S")
    text = ":".join(str(m) for m in range(-120, 121, 5))
    table = pd.DataFrame({"id": ids, "file_name": name, "img_type": "vil"}).assign(
        file_index=range(events),
        time_utc="2018-05-01 12:00:00",
        minute_offsets=text,
        pct_missing=0.0,
        size_x=side,
        size_y=side,
    )
    other = table.assign(img_type="ir107", file_name="ir107/none.h5")
    pd.concat([table, other]).to_csv(folder / "CATALOG.csv", index=False)
    return vil


def test_sevir_lr_keeps_every_second_frame_and_the_largest_of_nine_pixels():
    vil = np.random.default_rng(0).integers(0, 256, (2, 6, 9, 5), dtype=np.uint8)
    small = sevir_lr.downsample(vil)
    assert small.shape == (2, 2, 3, 3)
    assert small.dtype == np.uint8
    assert small[1, 1, 2, 1] == vil[1, 3:6, 6:9, 2].max()
    for options in ({"space": 4}, {"time": 0}):
        with pytest.raises(ValueError, match="does not divide the picture of 6 x 9"):
            sevir_lr.downsample(vil, **options)


def test_sevir_is_made_smaller_by_a_command_that_continues(tmp_path, capsys):
    vil = _sevir(tmp_path / "sevir")
    arguments = ["sevir-lr", str(tmp_path / "sevir"), str(tmp_path / "lr")]
    assert main.main(arguments) == 0
    assert "1 files written, 0 kept, of 11 events" in capsys.readouterr().out
    settings = radar_sequences.SequenceConfig(inputs=13, targets=12, stride=25)
    small = sevir.open_sevir(tmp_path / "lr", settings, split="all")
    assert len(small) == 11
    assert small.step == np.timedelta64(10, "m")
    for number in range(11):
        expected = np.moveaxis(sevir_lr.downsample(vil[number]), -1, 0)
        np.testing.assert_array_equal(small.pixels(number), expected)
    table = pd.read_csv(tmp_path / "lr" / "CATALOG.csv")
    assert set(table["img_type"]) == {"vil"}
    assert set(table["size_x"]) == {4}
    assert main.main(arguments) == 0
    assert "0 files written, 1 kept" in capsys.readouterr().out
    path = tmp_path / "lr" / "data" / _STORMS
    path.write_bytes(path.read_bytes()[:500])
    assert main.main(arguments) == 0
    assert "1 files written, 0 kept" in capsys.readouterr().out
    names = {p.name for p in path.parent.iterdir()}
    assert names == {path.name}


def test_nothing_half_written_stays_behind(tmp_path, monkeypatch):
    _sevir(tmp_path / "sevir")
    read = sevir_files.read_events

    def broken(path, begin, end):
        if begin:
            raise OSError("the disk is gone")
        return read(path, begin, end)

    monkeypatch.setattr(sevir_files, "read_events", broken)
    with pytest.raises(OSError, match="the disk is gone"):
        sevir_lr.write_sevir_lr(tmp_path / "sevir", tmp_path / "lr")
    assert not [p for p in (tmp_path / "lr").rglob("*") if p.is_file()]


def test_sevir_that_cannot_be_made_smaller_is_refused(tmp_path, capsys):
    _sevir(tmp_path / "sevir", side=10)
    out = str(tmp_path / "lr")
    assert main.main(["sevir-lr", str(tmp_path / "sevir"), out]) == 2
    assert "3 does not divide the picture of 10 x 10" in capsys.readouterr().err
    assert main.main(["sevir-lr", str(tmp_path / "nowhere"), out]) == 2
    assert "the folder of SEVIR does not exist" in capsys.readouterr().err
    with pytest.raises(ValueError, match="the folder of SEVIR itself"):
        sevir_lr.write_sevir_lr(tmp_path / "sevir", tmp_path / "sevir")
    table = pd.read_csv(tmp_path / "sevir" / "CATALOG.csv")
    table[table["img_type"] != "vil"].to_csv(
        tmp_path / "sevir" / "CATALOG.csv", index=False
    )
    with pytest.raises(ValueError, match="no row of vil"):
        sevir_lr.write_sevir_lr(tmp_path / "sevir", out)
