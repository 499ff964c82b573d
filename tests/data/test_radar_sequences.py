import h5py
import numpy as np
import pytest

from tests.evaluation import samples
from weatherlib import training
from weatherlib.data import (
    radar,
    radar_grid,
    radar_sequences,
    radar_series,
    synthetic,
)

_SHORT = radar_sequences.SequenceConfig(inputs=3, targets=2, stride=1)


@pytest.fixture(scope="module")
def series():
    return synthetic.synthetic_radar(frames=20, rows=24, columns=24, seed=3)


def test_samples_are_consecutive_frames_between_0_and_1(series):
    found = radar_series.series_sequences(series, _SHORT.replace(stride=4))
    assert len(found) == 4
    assert found.shape == (24, 24)
    assert found.step == np.timedelta64(5, "m")
    frames, valid = found.arrays([1, 3])
    assert frames.shape == valid.shape == (2, 5, 24, 24, 1)
    assert frames.dtype == np.float32
    expected = series["vil"].values[[range(4, 9), range(12, 17)]]
    np.testing.assert_array_equal(frames[..., 0], expected * np.float32(1 / 255))
    np.testing.assert_array_equal(radar_sequences.from_unit(frames)[..., 0], expected)
    assert valid.all()


def test_every_measured_pixel_comes_back_from_its_share_of_255():
    pixels = np.arange(255)
    again = radar_sequences.from_unit(radar_sequences.to_unit(pixels))
    np.testing.assert_array_equal(again, pixels)


def test_predictors_get_datasets_in_pixels_with_lead_times(series):
    found = radar_series.series_sequences(series, _SHORT)
    inputs, targets, forcings = found.datasets([0, 2])
    minutes = np.concatenate([x["time"].values for x in (inputs, targets)])
    np.testing.assert_array_equal(minutes / np.timedelta64(1, "m"), [-10, -5, 0, 5, 10])
    np.testing.assert_array_equal(inputs["vil"][1], series["vil"][2:5])
    np.testing.assert_array_equal(targets["vil"][1], series["vil"][5:7])
    assert not forcings.data_vars
    # Degrees of arc: two kilometres each.
    np.testing.assert_allclose(np.diff(inputs["lat"]), 2 / 111.195, rtol=1e-4)
    np.testing.assert_allclose(float(inputs["lon"].mean()), 180, atol=1e-4)
    _, shorter, _ = found.loader(1)(np.array([0]))
    assert shorter.sizes["time"] == 1
    with pytest.raises(ValueError, match="3 were asked for"):
        found.datasets([0], 3)


def test_a_sample_knows_its_dates(series):
    found = radar_series.series_sequences(series, _SHORT.replace(every=2))
    assert found.step == np.timedelta64(10, "m")
    picture = found.dataset(1)
    np.testing.assert_array_equal(picture["time"], series["time"][2:11:2])
    np.testing.assert_array_equal(picture["vil"], series["vil"][2:11:2])
    assert picture.attrs["cell_km"] == 2.0


def test_samples_are_turned_and_mirrored_in_all_ways(series):
    plain = radar_series.series_sequences(series, _SHORT)
    count = len(plain)
    for augment, ways in (("flips_rotations", 8), ("flips", 4), ("2", 8), ("0", 1)):
        found = radar_series.series_sequences(series, _SHORT.replace(augment=augment))
        assert len(found) == count
        assert len(found.numbers) == ways * count
        pictures = [found.pixels(2 + way * count) for way in range(ways)]
        np.testing.assert_array_equal(pictures[0], plain.pixels(2))
        assert len({p.tobytes() for p in pictures}) == ways
        # Nothing but the places of pixels changes, and all frames change alike.
        for one in pictures:
            np.testing.assert_array_equal(
                np.sort(one, axis=None), np.sort(pictures[0], axis=None)
            )
            places = one.reshape(5, -1)
            first = pictures[0].reshape(5, -1)
            order = np.lexsort(places)
            np.testing.assert_array_equal(places[:, order], first[:, np.lexsort(first)])


def test_the_eight_ways_are_those_of_the_published_augmentation(series):
    # Mirrored or not left to right and top to bottom, then turned by quarters.
    found = radar_series.series_sequences(
        series, _SHORT.replace(augment="flips_rotations")
    )
    count = len(found)
    ours = {found.pixels(way * count).tobytes() for way in range(8)}
    plain = found.pixels(0)
    published = set()
    for across in (1, -1):
        for down in (1, -1):
            for quarters in range(4):
                turned = np.rot90(plain[:, ::down, ::across], quarters, (1, 2))
                published.add(np.ascontiguousarray(turned).tobytes())
    assert ours == published


def test_samples_are_turned_by_angles_all_around(series):
    plain = radar_series.series_sequences(series, _SHORT)
    found = radar_series.series_sequences(series, _SHORT.replace(augment="1"))
    count, ways = len(plain), 4 * 24
    assert len(found.numbers) == ways * count
    # The first sample is turned by whole steps, so by quarters too, and mirrored.
    for mirrored, (down, across) in enumerate([(1, 1), (1, -1), (-1, 1), (-1, -1)]):
        for quarters in range(4):
            way = mirrored * 24 + quarters * 6
            expected = np.rot90(plain.pixels(0), quarters, (1, 2))
            np.testing.assert_array_equal(
                found.pixels(way * count), expected[:, ::down, ::across]
            )
    # Others begin elsewhere, and what lies beyond the picture is missing.
    turned = found.pixels(1 + 3 * count)
    assert np.isnan(turned[:, 0, 0]).all()
    middle = turned[:, 6:-6, 6:-6]
    assert np.isfinite(middle).all()
    assert not np.array_equal(middle, plain.pixels(1)[:, 6:-6, 6:-6])
    assert set(middle.ravel()) <= set(plain.pixels(1).ravel())
    batch = found.arrays([1 + 3 * count])
    assert not batch.valid[0, 0, 0, 0, 0]
    assert batch.frames[0, 0, 0, 0, 0] == 0


def test_a_picture_that_is_turned_a_little_keeps_its_middle(series):
    # An oblong one too; a bar along its rows leans by the angle.
    oblong = radar_grid.crop(series.copy(deep=True), 11, 21)
    oblong["vil"][:] = 0
    oblong["vil"][:, 5] = 9
    found = radar_series.series_sequences(oblong, _SHORT.replace(augment="1"))
    pixels = found.pixels(len(found))[0]  # 15 degrees
    rows, columns = np.nonzero(pixels == 9)
    slope = np.polyfit(columns, rows, 1)[0]
    assert abs(slope) == pytest.approx(np.tan(np.deg2rad(15)), rel=0.2)
    assert pixels[5, 10] == 9


def test_frames_that_are_not_square_are_not_turned(series):
    oblong = radar_grid.crop(series, 12, 24)
    config = _SHORT.replace(augment="flips_rotations")
    with pytest.raises(ValueError, match="square frames, found 12 x 24; use flips"):
        radar_series.series_sequences(oblong, config)
    radar_series.series_sequences(oblong, _SHORT.replace(augment="flips"))


def test_splits_by_time_share_no_frame(series):
    when = "2020-07-01T12:50"
    early = radar_series.series_sequences(series, _SHORT, end=when)
    late = radar_series.series_sequences(series, _SHORT, start=when)
    assert len(early) == 10 - 5 + 1
    assert len(late) == 10 - 5 + 1
    last = early.dataset(len(early) - 1)["time"].values[-1]
    first = late.dataset(0)["time"].values[0]
    assert last < np.datetime64(when) == first


def test_no_sample_reaches_across_a_gap(series):
    holed = series.isel(time=[*range(8), *range(10, 20)])
    found = radar_series.series_sequences(holed, _SHORT)
    assert len(found) == (8 - 4) + (10 - 4)
    for number in range(len(found)):
        steps = np.diff(found.dataset(number)["time"].values)
        assert (steps == np.timedelta64(5, "m")).all()
    holed = series.isel(time=[0, 1, 2, 4, 5, 6])
    with pytest.raises(
        ValueError,
        match=r"needs 5 frames in a row.* at most 3 of 6; 1 frame\(s\) are missing",
    ):
        radar_series.series_sequences(holed, _SHORT)


def test_tiles_are_samples_of_their_own(series):
    found = radar_series.series_sequences(series, _SHORT, tile=12)
    assert len(found) == 4 * 16
    assert found.shape == (12, 12)
    np.testing.assert_array_equal(
        found.pixels(16 + 3), series["vil"][3:8, :12, 12:].values
    )


def test_what_is_missing_is_left_out_or_masked(series):
    lost = series.copy(deep=True)
    lost["vil"][6, :3] = np.nan
    whole = radar_series.series_sequences(lost, _SHORT)
    assert len(whole) == 16 - 5
    masked = radar_series.series_sequences(
        lost, _SHORT.replace(max_missing=0.2, fill=7.0)
    )
    assert len(masked) == 16
    frames, valid = masked.arrays([4])
    np.testing.assert_array_equal(valid[0, 2, :3], False)
    assert valid.sum() == valid.size - 3 * 24
    np.testing.assert_array_equal(frames[0, 2, :3], np.float32(7) * np.float32(1 / 255))
    inputs, _, _ = masked.datasets([4])
    np.testing.assert_array_equal(inputs["vil"][0, 2, :3], 7)
    # Tiles beside the hole are whole.
    tiles = radar_series.series_sequences(lost, _SHORT, tile=12)
    assert len(tiles) == 2 * 16 + 2 * 11
    with pytest.raises(ValueError, match=r"best of 1 tile.* has 12.5% in its worst"):
        radar_series.series_sequences(lost.isel(time=slice(3, 9)), _SHORT)


def test_shares_of_missing_pixels_are_counted_in_blocks(series, monkeypatch):
    generator = np.random.default_rng(0)
    lost = series["vil"].where(generator.random(series["vil"].shape) > 0.3)
    parts = radar_grid.tiles((24, 24), 10, 7)
    expected = np.stack(
        [np.isnan(lost.values[:, *part.slices]).mean((1, 2)) for part in parts], 1
    )
    for size in (1, 2**28):
        monkeypatch.setattr(radar_series, "_BLOCK_BYTES", size)
        np.testing.assert_allclose(
            radar_series.missing_shares(lost, parts), expected, atol=1e-12
        )


def test_frames_without_any_measurement_are_an_error(series):
    lost = series.copy(deep=True)
    lost["vil"][3] = np.nan
    unseen = radar_series.series_sequences(lost, _SHORT, scan=False)
    with pytest.raises(
        ValueError, match=r"every pixel is missing at 2020-07-01T12:15 \(frame 1\)"
    ):
        unseen.arrays([2])
    forgiving = _SHORT.replace(max_missing=1.0)
    unseen = radar_series.series_sequences(lost, forgiving, scan=False)
    with pytest.raises(ValueError, match="every pixel is missing"):
        unseen.arrays([2])
    lost["vil"][:] = np.nan
    with pytest.raises(ValueError, match="no measurement at all, the first at 2020"):
        radar_series.series_sequences(lost, _SHORT)


def test_too_many_missing_pixels_are_an_error_when_read(series):
    lost = series.copy(deep=True)
    lost["vil"][3, :2] = np.nan
    unseen = radar_series.series_sequences(lost, _SHORT, scan=False)
    with pytest.raises(ValueError, match=r"8\.3% of the pixels.*max_missing"):
        unseen.arrays([2])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"inputs": -1}, "inputs must not be negative"),
        ({"max_missing": 2.0}, "a share from 0 to 1"),
        ({"augment": "3"}, "there is no '3'"),
        ({"every": 0}, "every must be"),
    ],
)
def test_settings_that_make_no_sense_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        radar_sequences.SequenceConfig(**fields)


def test_other_data_and_dates_are_refused(series):
    with pytest.raises(ValueError, match="open_radar makes it"):
        radar_series.series_sequences(series.rename(vil="rain"), _SHORT)
    with pytest.raises(ValueError, match="start: expected a time"):
        radar_series.series_sequences(series, _SHORT, start="noon")
    with pytest.raises(ValueError, match="at most 0 of 20"):
        radar_series.series_sequences(series, _SHORT, start="2021-01-01")


def test_a_series_that_cannot_be_read_says_where(tmp_path, series):
    path = tmp_path / "radar.nc"
    series.to_netcdf(path, encoding={"vil": {"chunksizes": (1, 24, 24), "zlib": True}})
    whole = path.read_bytes()
    stored = radar.open_radar(path)
    found = radar_series.series_sequences(stored, _SHORT, scan=False, in_memory=False)
    np.testing.assert_array_equal(found.pixels(4), series["vil"][4:9])
    with h5py.File(path) as file:
        place = file["vil"].id.get_chunk_info(12).byte_offset
    path = tmp_path / "damaged.nc"
    path.write_bytes(whole[:place] + bytes(20) + whole[place + 20 :])
    damaged = radar.open_radar(path)
    with pytest.raises(OSError, match="damaged or cut short"):
        radar_series.series_sequences(damaged, _SHORT)
    unseen = radar_series.series_sequences(damaged, _SHORT, scan=False, in_memory=False)
    with pytest.raises(OSError, match="damaged or cut short at 2020-07-01T12:50"):
        unseen.pixels(10)


def test_batches_are_shuffled_and_go_on_from_any_sample(series):
    found = radar_series.series_sequences(
        series, _SHORT.replace(augment="flips_rotations")
    )
    feed = training.Feed(found.arrays, found.numbers, batch_size=3, seed=1)
    iterator = feed.iterate()
    batches = [next(iterator)[0].frames for _ in range(2)]
    state = iterator.state
    batches += [next(iterator)[0].frames for _ in range(2)]
    iterator.close()
    again = feed.iterate(state)
    for expected in batches[2:]:
        np.testing.assert_array_equal(np.asarray(next(again)[0].frames), expected)
    again.close()
    assert batches[0].shape == (3, 5, 24, 24, 1)
    assert (np.asarray(batches[0]) != np.asarray(found.arrays([0, 1, 2])[0])).any()
    triples = training.Feed(found.loader(1), found.numbers, batch_size=2, seed=1)
    inputs, targets, _ = triples[0][0]
    assert inputs.sizes["batch"] == 2
    assert targets.sizes["time"] == 1


def test_real_series_are_cut_into_whole_tiles():
    stored = radar.open_radar(
        samples.real("radar_knmi_nl_5min_rain_20100826T0000-0455.nc")
    )
    config = radar_sequences.SequenceConfig(stride=13)
    found = radar_series.series_sequences(
        stored, config, tile=128, end="2010-08-26T01:10"
    )
    # Of a picture with three quarters missing.
    assert 0 < len(found) < len(radar_grid.tiles((765, 700), 128))
    frames, valid = found.arrays([0, len(found) - 1])
    assert frames.shape == (2, 13, 128, 128, 1)
    assert valid.all()
