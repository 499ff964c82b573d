"""Many files as one series, and how little of an archive is read."""

import dataclasses
import itertools

import numpy as np
import pytest
import xarray
from hypothesis import given, settings
from hypothesis import strategies as st
from xarray import backends
from xarray.core import indexing

from tests.data import layouts
from weatherlib import data
from weatherlib.data import archive, lazy

_STATE = layouts.series(8)[["2m_temperature", "temperature", "land_sea_mask"]]


def _write(folder, cuts, state=_STATE):
    folder.mkdir(exist_ok=True)
    names = []
    for number, (first, stop) in enumerate(itertools.pairwise(cuts)):
        names.append(folder / f"part_{number}.nc")
        state.isel(time=slice(first, stop)).to_netcdf(names[-1])
    return names


def test_files_of_a_pattern_follow_each_other(tmp_path):
    names = _write(tmp_path, [0, 3, 4, 8])
    for source in (
        tmp_path / "*.nc",
        str(tmp_path / "part_?.nc"),
        tmp_path,
        names[::-1],
    ):
        opened = data.open_dataset(source)
        xarray.testing.assert_equal(opened.load(), _STATE)
    chunked = data.open_dataset(tmp_path, chunks={"time": 2})
    assert set(chunked["temperature"].chunksizes["time"]) == {2}
    xarray.testing.assert_equal(chunked.load(), _STATE)


def test_times_decide_the_order_not_names(tmp_path):
    for name, frames in (("b", slice(0, 3)), ("a", slice(3, 8))):
        _STATE.isel(time=frames).to_netcdf(tmp_path / f"{name}.nc")
    xarray.testing.assert_equal(data.open_dataset(tmp_path).load(), _STATE)
    # Interleaved: every other frame.
    for name, first in (("a", 0), ("b", 1)):
        _STATE.isel(time=slice(first, None, 2)).to_netcdf(tmp_path / f"{name}.nc")
    xarray.testing.assert_equal(data.open_dataset(tmp_path).load(), _STATE)


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("layout", ["axis", "single", "several"])
def test_constants_may_have_a_time_of_their_own(tmp_path, layout, inside):
    state = layouts.series(4)
    stored = layouts.cds(state)
    on_levels = [n for n in stored if "pressure_level" in stored[n].dims]
    names = {"lsm": "lsm", "geopotential_at_surface": "z"}
    static = stored[list(names)].rename(names)
    moments = stored["valid_time"].values[: 3 if layout == "several" else 1]
    moments = moments if inside else moments + np.timedelta64(100, "D")
    constant = static.expand_dims(valid_time=moments)
    constant = constant.assign_coords(expver=("valid_time", ["0001"] * len(moments)))
    if layout == "single":
        constant = constant.isel(valid_time=0)
    stored[on_levels].to_netcdf(tmp_path / "pl.nc")
    rest = [n for n in stored if n not in on_levels and "valid_time" in stored[n].dims]
    stored[rest].to_netcdf(tmp_path / "sfc.nc")
    constant.to_netcdf(tmp_path / "static.nc")
    opened = data.open_dataset(tmp_path)
    assert opened["geopotential_at_surface"].dims == ("lat", "lon")
    xarray.testing.assert_equal(opened[list(state)].load(), state)


def test_what_changes_is_no_constant_for_having_one_time(tmp_path):
    _STATE[["temperature"]].to_netcdf(tmp_path / "t.nc")
    both = _STATE[["2m_temperature"]].assign(
        land_sea_mask=_STATE["land_sea_mask"].expand_dims(time=_STATE["time"])
    )
    both.isel(time=[2]).to_netcdf(tmp_path / "one.nc")
    with pytest.warns(UserWarning, match="7 of 8 times"):
        opened = data.open_dataset(tmp_path)
    np.testing.assert_array_equal(opened["time"], _STATE["time"].values[[2]])
    changing = both[["land_sea_mask"]] * xarray.DataArray(np.arange(8.0), dims="time")
    (tmp_path / "one.nc").unlink()
    changing.isel(time=[2, 3]).to_netcdf(tmp_path / "two.nc")
    with pytest.warns(UserWarning, match="6 of 8 times"):
        opened = data.open_dataset(tmp_path)
    assert opened.sizes["time"] == 2


def test_single_states_follow_each_other(tmp_path):
    for frame in range(3):
        _STATE.isel(time=frame).to_netcdf(tmp_path / f"{frame}.nc")
    opened = data.open_dataset(tmp_path / "*.nc")
    np.testing.assert_array_equal(
        opened["temperature"], _STATE["temperature"].isel(time=slice(0, 3))
    )


def test_variables_of_different_files_come_together(tmp_path):
    _STATE[["2m_temperature"]].to_netcdf(tmp_path / "t2m.nc")
    _STATE[["temperature"]].isel(time=slice(0, 4)).to_netcdf(tmp_path / "t_0.nc")
    _STATE[["temperature"]].isel(time=slice(4, 8)).to_netcdf(tmp_path / "t_1.nc")
    _STATE[["land_sea_mask"]].to_netcdf(tmp_path / "lsm.nc")
    xarray.testing.assert_equal(
        data.open_dataset(tmp_path)[list(_STATE)].load(), _STATE
    )
    _STATE[["2m_temperature"]].isel(time=slice(2, 8)).to_netcdf(tmp_path / "t2m.nc")
    with pytest.warns(UserWarning, match="2 of 8 times of .* are left out"):
        opened = data.open_dataset(tmp_path)
    assert opened.sizes["time"] == 6
    np.testing.assert_array_equal(
        opened["temperature"], _STATE["temperature"].isel(time=slice(2, 8))
    )


def test_files_that_overlap_are_an_error_unless_it_is_said_which_counts(tmp_path):
    first = _STATE.isel(time=slice(0, 5))
    second = _STATE.isel(time=slice(3, 8)) + 1
    first.to_netcdf(tmp_path / "a.nc")
    second.to_netcdf(tmp_path / "b.nc")
    with pytest.raises(
        ValueError,
        match=r"a\.nc and .*b\.nc both hold 2022-01-01 18:00:00, and 2 times",
    ):
        data.open_dataset(tmp_path)
    for overlap, added in (("first", 0), ("last", 1)):
        opened = data.open_dataset(tmp_path, overlap=overlap)
        np.testing.assert_array_equal(opened["time"], _STATE["time"])
        np.testing.assert_array_equal(
            opened["temperature"].isel(time=slice(3, 5)),
            _STATE["temperature"].isel(time=slice(3, 5)) + added,
        )


def test_missing_files_are_reported(tmp_path):
    names = _write(tmp_path, [0, 2, 4, 8])
    names[1].unlink()
    with pytest.warns(
        UserWarning,
        match=r"missing between .*part_0\.nc and .*part_2\.nc \(2022-01-01 06:00:00 to "
        r"2022-01-02 00:00:00\); the usual step is 0 days 06",
    ):
        data.open_dataset(tmp_path)


def test_no_match_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"\*\.nc: no file matches"):
        data.open_dataset(tmp_path / "*.nc")
    with pytest.raises(FileNotFoundError, match=r"such\.nc"):
        data.open_dataset([tmp_path / "such.nc"], on_error="skip")


def test_a_damaged_file_among_many_is_named_and_skipped_on_request(tmp_path):
    names = _write(tmp_path, [0, 2, 4, 6, 8])
    names[1].write_bytes(names[1].read_bytes()[:3000])
    names[2].write_bytes(b"<html>")
    with pytest.raises(OSError, match=r"part_1\.nc: damaged or cut short") as raised:
        data.open_dataset(tmp_path)
    note = raised.value.__notes__[0]
    assert "one of 4 files; on_error='skip'" in note
    assert "data.skip_corrupt=true" in note and "--skip-corrupt" in note
    with pytest.warns(UserWarning) as warned:
        opened = data.open_dataset(tmp_path, on_error="skip")
    text = str(warned[0].message)
    assert "skipped 2 of 4 files" in text
    assert "part_1.nc" in text
    assert "part_2.nc" in text
    assert list(opened.encoding["skipped"]) == [str(name) for name in names[1:3]]
    np.testing.assert_array_equal(
        opened["temperature"], _STATE["temperature"].isel(time=[0, 1, 6, 7])
    )
    for name in names:
        name.write_bytes(b"")
    with pytest.raises(OSError, match="none of the 4 files can be read"):
        data.open_dataset(tmp_path, on_error="skip")


def test_damage_met_on_reading_names_the_file(tmp_path):
    layouts.write_shards(tmp_path / "train", frames=8, per_shard=4)
    opened = data.open_dataset(tmp_path / "train", time_step="6h")
    bad = tmp_path / "train" / "2000_1.npz"
    bad.write_bytes(bad.read_bytes()[:200])
    opened["2m_temperature"].isel(time=0).load()
    with pytest.raises(OSError, match=r"2000_1\.npz: damaged or cut short"):
        opened["2m_temperature"].isel(time=5).load()


def test_files_that_do_not_fit_are_named(tmp_path):
    _write(tmp_path, [0, 4])
    part = _STATE.isel(time=slice(4, 8))
    for change, message in (
        (part.isel(lat=slice(0, 4)), "lat has 4 values, but 7 in .*part_0"),
        (part.assign_coords(lon=part["lon"] + 1), "values of lon differ"),
        (
            part.assign_coords(time=part["time"] - part["time"][0]),
            "holds no dates; files of lead times",
        ),
    ):
        change.to_netcdf(tmp_path / "part_1.nc")
        with pytest.raises(ValueError, match=message):
            data.open_dataset(tmp_path)
    more = part.expand_dims(member=3)
    for names in (("part_0", "part_1"), ("part_1", "part_0")):
        more.to_netcdf(tmp_path / f"{names[1]}.nc")
        _STATE.isel(time=slice(0, 4)).to_netcdf(tmp_path / f"{names[0]}.nc")
        message = (
            f"{names[0]}.nc: has no axis member, along which .*{names[1]}.nc has 3"
        )
        with pytest.raises(ValueError, match=message):
            data.open_dataset(tmp_path)
    (tmp_path / "part_1.nc").unlink()
    mask = _STATE[["land_sea_mask"]]
    mask.to_netcdf(tmp_path / "a.nc")
    mask.to_netcdf(tmp_path / "b.nc")
    with pytest.raises(ValueError, match="without a time to tell them apart"):
        data.open_dataset(tmp_path)


def test_variables_without_common_times_are_refused():
    parts = {
        "a": _STATE[["2m_temperature"]].isel(time=slice(0, 4)),
        "b": _STATE[["temperature"]].isel(time=slice(4, 8)),
    }
    with pytest.raises(ValueError, match="no time in common"):
        archive.combine(parts)


@dataclasses.dataclass
class _Counted(backends.BackendArray):
    """A large array of which every read is counted, in values."""

    shape: tuple[int, ...]
    read: int = 0
    dtype: np.dtype = dataclasses.field(default_factory=lambda: np.dtype(np.float32))

    def __getitem__(self, key):
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.OUTER, self._read
        )

    def _read(self, key):
        shape = [
            len(range(size)[k]) if isinstance(k, slice) else np.size(k)
            for k, size in zip(key, self.shape)
            if not isinstance(k, int | np.integer)
        ]
        self.read += int(np.prod(shape))
        frames = np.arange(self.shape[0], dtype=np.float32)[key[0]]
        return np.broadcast_to(
            np.reshape(
                frames, np.shape(frames) + (1,) * (len(shape) - np.ndim(frames))
            ),
            shape,
        ).copy()


def _forty_years():
    """Returns hourly data from 1980 to 2019 at a quarter of a degree, 13 levels."""
    hours = 40 * 365 * 24
    counted = {
        name: _Counted((hours, 13, 1440, 721))
        for name in ("temperature", "u", "v", "specific_humidity")
    }
    counted["tp"] = _Counted((hours, 1440, 721))
    dims = ("time", "level", "longitude", "latitude")
    held = {
        name: xarray.Variable(
            dims if array.shape[1] == 13 else (dims[0], *dims[2:]),
            indexing.LazilyIndexedArray(array),
            {"units": "degC"} if name == "temperature" else {},
        )
        for name, array in counted.items()
    }
    start = np.datetime64("1980-01-01", "ns")
    coords = {
        "time": start + np.arange(hours) * np.timedelta64(1, "h"),
        "level": np.linspace(1000, 50, 13).astype(int),
        "longitude": np.arange(1440) * 0.25 - 180,
        "latitude": np.linspace(90, -90, 721),
    }
    return xarray.Dataset(held, coords), counted


def test_an_archive_of_forty_years_is_prepared_without_reading_it():
    stored, counted = _forty_years()
    opened, changes = data.canonical(stored)
    opened = data.add_derived(opened, ["wind_speed"])
    opened = data.accumulate_precipitation(opened, 6)
    opened = data.subsample(opened, "6h")
    opened = data.regrid(opened, np.linspace(-88.75, 88.75, 72), np.arange(144) * 2.5)
    opened = data.interpolate_levels(opened, [500, 850])
    assert opened.sizes["time"] == 40 * 365 * 4 - 1
    assert "converted temperature from degC to K" in changes
    assert sum(array.read for array in counted.values()) == 0
    one = opened.isel(time=2).load()
    grid = 1440 * 721
    # Levels beside those wanted are read, times are not.
    assert counted["temperature"].read <= 13 * grid
    assert counted["specific_humidity"].read <= 13 * grid
    # The sum over six hours, and the hour by itself.
    assert counted["tp"].read == (6 + 1) * grid
    # Once for the field and once for the speed.
    assert counted["u"].read <= 2 * 13 * grid
    # The second frame ends at 18 UTC: 13 to 18 UTC are summed.
    assert one["time"].values == np.datetime64("1980-01-01T18")
    np.testing.assert_allclose(
        one["total_precipitation_6hr"], sum(range(13, 19)), rtol=1e-6
    )
    np.testing.assert_allclose(one["temperature"], 18 + 273.15, rtol=1e-6)
    np.testing.assert_allclose(one["wind_speed"], 18 * np.sqrt(2), rtol=1e-6)


def test_a_region_reads_only_its_part():
    stored, counted = _forty_years()
    opened, _ = data.canonical(stored)
    window = opened["specific_humidity"].sel(lat=slice(40, 50), lon=slice(0, 10))
    window.isel(time=slice(0, 3), level=[0]).load()
    assert counted["specific_humidity"].read == 3 * 41 * 41


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 4), min_size=1, max_size=5),
    seed=st.integers(0, 1000),
)
def test_joined_pieces_index_as_one_array(lengths, seed):
    rng = np.random.default_rng(seed)
    pieces = [rng.normal(size=(3, length)) for length in lengths]
    variables = [
        xarray.Variable(("y", "x"), indexing.LazilyIndexedArray(_Held(piece)))
        for piece in pieces
    ]
    joined = lazy.join(variables, "x")
    whole = np.concatenate(pieces, axis=1)
    size = whole.shape[1]
    places = rng.integers(-size, size, size=4)
    for key in (
        (slice(None), places),
        (1, slice(None, None, -1)),
        (np.array([2, 0]), slice(1, None, 2)),
        (slice(None), int(places[0])),
        (slice(None), slice(0, 0)),
    ):
        expected = (
            whole[key]
            if not isinstance(key[0], np.ndarray)
            else whole[key[0]][:, key[1]]
        )
        np.testing.assert_array_equal(joined[key].values, expected)


class _Held(backends.BackendArray):
    """An array in memory that xarray takes for one of a file."""

    def __init__(self, values):
        self.values = values
        self.shape, self.dtype = values.shape, values.dtype

    def __getitem__(self, key):
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.OUTER, self._read
        )

    def _read(self, key):
        values = self.values
        for axis in reversed(range(values.ndim)):
            values = values[(slice(None),) * axis + (key[axis],)]
        return values
