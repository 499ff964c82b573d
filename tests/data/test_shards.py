"""Folders of NumPy shards."""

import numpy as np
import pytest

from tests.data import layouts
from weatherlib import data


def test_shards_become_a_series_with_levels(tmp_path):
    field = layouts.write_shards(tmp_path / "train")
    opened = data.open_dataset(tmp_path / "train")
    assert opened.sizes == {"time": 8760, "lat": 3, "lon": 4, "level": 2}
    assert opened["time"].values[2191] == np.datetime64("2000-04-01T07")
    picked = opened["geopotential"].isel(time=[5000, 2], level=1)
    np.testing.assert_array_equal(picked, field[[5000, 2], 0] + 2)
    one = opened["2m_temperature"].isel(time=2190, lat=1, lon=-1)
    assert float(one) == 2190
    by_pattern = data.open_dataset(str(tmp_path / "train" / "*.npz"))
    assert by_pattern.sizes == opened.sizes


def test_shards_without_a_whole_year_need_a_step(tmp_path):
    layouts.write_shards(tmp_path / "train", frames=8, per_shard=4)
    with pytest.raises(ValueError, match="time_step='6h'"):
        data.open_dataset(tmp_path / "train")
    opened = data.open_dataset(tmp_path / "train", time_step="6h")
    assert opened["time"].values[-1] == np.datetime64("2000-01-02T18")


def test_compressed_shards_are_read(tmp_path):
    layouts.write_shards(tmp_path / "train", frames=8, per_shard=8)
    path = tmp_path / "train" / "2000_0.npz"
    with np.load(path) as held:
        np.savez_compressed(path, **dict(held))
    opened = data.open_dataset(tmp_path / "train", time_step="6h")
    assert opened["2m_temperature"].isel(time=6, lat=0, lon=0) == 6


def test_shards_with_pickles_are_refused(tmp_path):
    layouts.write_shards(tmp_path / "train", frames=8, per_shard=4)
    np.savez(
        tmp_path / "train" / "2000_2.npz", a=np.array([{"an": "object"}], dtype=object)
    )
    with pytest.raises(ValueError, match=r"2000_2\.npz: a.npy holds Python objects"):
        data.open_dataset(tmp_path / "train", time_step="6h")


def test_shards_without_their_grid_are_refused(tmp_path):
    layouts.write_shards(tmp_path / "train", frames=8, per_shard=4)
    (tmp_path / "lat.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"lat\.npy and lon\.npy"):
        data.open_dataset(tmp_path / "train", time_step="6h")


def test_a_damaged_shard_is_named_and_skipped_on_request(tmp_path):
    layouts.write_shards(tmp_path / "train", frames=16, per_shard=4)
    bad = tmp_path / "train" / "2000_1.npz"
    bad.write_bytes(bad.read_bytes()[:100])
    with pytest.raises(OSError, match=r"2000_1\.npz: damaged") as raised:
        data.open_dataset(tmp_path / "train", time_step="6h")
    assert "one of 4 shards" in raised.value.__notes__[0]
    assert "--skip-corrupt" in raised.value.__notes__[0]
    with pytest.warns(UserWarning) as warned:
        opened = data.open_dataset(tmp_path / "train", time_step="6h", on_error="skip")
    assert "skipped 1 of 4 shards" in str(warned[0].message)
    assert "frames are missing" in str(warned[1].message)
    assert list(opened.encoding["skipped"]) == [str(bad)]
    assert opened.sizes["time"] == 12
    # What follows the hole keeps its dates.
    late = opened["2m_temperature"].sel(time="2000-01-03T00").isel(lat=0, lon=0)
    assert late == 8


@pytest.mark.filterwarnings("ignore")
def test_the_step_is_that_of_a_year_from_which_no_shard_is_left_out(tmp_path):
    folder = tmp_path / "train"
    layouts.write_shards(folder, frames=1460, per_shard=365)
    for number in range(4):
        path = folder / f"2000_{number}.npz"
        (folder / f"2001_{number}.npz").write_bytes(path.read_bytes())
    (folder / "2000_1.npz").write_bytes(b"PK")
    opened = data.open_dataset(folder, on_error="skip")
    assert opened.sizes["time"] == 7 * 365
    assert opened["time"].values[1] == np.datetime64("2000-01-01T06")
    (folder / "2001_0.npz").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"because damaged ones are left out.*--step"):
        data.open_dataset(folder, on_error="skip")


@pytest.mark.parametrize(
    ("frames", "given", "step"),
    [
        (730, "6h", 6),  # Half a year, which looks like a whole one of 12 hours.
        (100, "6h", 6),
        (1460, "12h", 6),  # A whole year says so itself.
    ],
)
def test_a_step_may_be_given_for_shards_that_do_not_tell_it(
    frames, given, step, tmp_path
):
    layouts.write_shards(tmp_path / "train", frames=frames, per_shard=frames)
    opened = data.open_dataset(tmp_path / "train", time_step_if_unknown=given)
    assert np.diff(opened["time"].values[:2]) == np.timedelta64(step, "h")


def test_a_step_with_which_frames_leave_their_year_is_refused(tmp_path):
    layouts.write_shards(tmp_path / "train", frames=1460, per_shard=365)
    with pytest.raises(ValueError, match=r"2000_2\.npz: at a step of 0 days 12:00:00"):
        data.open_dataset(tmp_path / "train", time_step="12h")


def _write_cmip6(folder, frames=7300):
    """Writes five years of pressure every six hours, from 06 UTC, in two shards."""
    values = np.arange(frames, dtype=np.float32)[:, None, None, None]
    values = np.broadcast_to(values, (frames, 1, 2, 4))
    for number, part in enumerate(np.split(values, 2)):
        path = folder / f"185001010600-185501010000_{number}.npz"
        np.savez(path, mean_sea_level_pressure=part)
    np.save(folder / "lat.npy", np.array([-45.0, 45.0]))
    np.save(folder / "lon.npy", np.arange(4) * 90.0)


def test_shards_of_several_years_say_when_they_begin(tmp_path):
    _write_cmip6(tmp_path)
    found = data.open_dataset(tmp_path)["mean_sea_level_pressure"]
    assert found.sizes["time"] == 7300
    times = found["time"].values
    assert times[0] == np.datetime64("1850-01-01T06")
    assert (np.diff(times) == np.timedelta64(6, "h")).all()
    assert found.isel(time=5000).values.max() == 5000


def test_shards_of_a_part_of_their_years_need_a_step(tmp_path):
    _write_cmip6(tmp_path, frames=100)
    with pytest.raises(ValueError, match=r"the 100 frames from 1850-01-01 on are not"):
        data.open_dataset(tmp_path)
    found = data.open_dataset(tmp_path, time_step="6h")
    assert found.sizes["time"] == 100


def test_a_shard_with_an_impossible_date_is_refused(tmp_path):
    _write_cmip6(tmp_path)
    path = tmp_path / "185001010600-185501010000_1.npz"
    path.rename(tmp_path / "185013010600-185501010000_1.npz")
    with pytest.raises(ValueError, match="185013010600 is no date"):
        data.open_dataset(tmp_path)
