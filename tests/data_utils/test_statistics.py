import pathlib
import pickle
import warnings

import dask
import hypothesis
import numpy as np
import pytest
import xarray
from hypothesis import strategies as st

from weatherlib import data_utils
from weatherlib.data_utils import series, statistics
from weatherlib.geometry import sphere


def _weather(frames=7, seed=0):
    random = np.random.default_rng(seed)
    shape = (1, frames, 3, 4, 8)
    temperature = 250 + 20 * random.normal(size=shape).cumsum(axis=1)
    times = np.arange(frames) * np.timedelta64(6, "h")
    return xarray.Dataset(
        {
            "temperature": (
                ("batch", "time", "level", "lat", "lon"),
                temperature.astype("f4"),
            ),
            "2m_temperature": (
                ("batch", "time", "lat", "lon"),
                temperature[:, :, 0].astype("f4"),
            ),
            "land_sea_mask": (("lat", "lon"), random.random((4, 8)).astype("f4")),
        },
        coords={
            "level": [500, 850, 1000],
            "lat": np.linspace(-60, 60, 4),
            "lon": np.arange(8) * 45.0,
            "time": times.astype("m8[ns]"),
            "datetime": (
                ("batch", "time"),
                (np.datetime64("2001-01-01", "ns") + times)[np.newaxis],
            ),
        },
    )


@pytest.mark.parametrize("block", [1, 2, 3, 7, 100])
def test_blocks_give_what_numpy_gives_at_once(block):
    weather = _weather()
    found = statistics.compute_statistics(weather, frames_per_block=block)
    values = weather["temperature"].values.astype(np.float64)
    axes = (0, 1, 3, 4)
    np.testing.assert_allclose(
        found.mean["temperature"], values.mean(axis=axes), rtol=1e-6
    )
    np.testing.assert_allclose(
        found.stddev["temperature"], values.std(axis=axes), rtol=1e-6
    )
    np.testing.assert_allclose(
        found.diffs_stddev["temperature"],
        np.diff(values, axis=1).std(axis=axes),
        rtol=1e-6,
    )
    assert found.mean["temperature"].dims == ("level",)
    assert found.mean["2m_temperature"].dims == ()


def test_static_fields_have_no_changes_and_progress_is_added():
    found = statistics.compute_statistics(_weather())
    assert "land_sea_mask" in found.mean
    assert "land_sea_mask" not in found.diffs_stddev
    for name in ("year_progress_sin", "day_progress_cos"):
        assert name in found.stddev
    without = statistics.compute_statistics(_weather().drop_vars("datetime"))
    assert "day_progress_cos" not in without.stddev


def test_files_carry_the_published_names(tmp_path):
    found = statistics.compute_statistics(_weather())
    found.save(tmp_path / "stats")
    for kind in ("mean", "stddev", "diffs_stddev", "min"):
        path = tmp_path / "stats" / f"{kind}_by_level.nc"
        xarray.testing.assert_equal(xarray.load_dataset(path), getattr(found, kind))
    assert len(list((tmp_path / "stats").iterdir())) == 4


def test_large_offsets_do_not_spoil_small_deviations():
    weather = _weather(frames=40)
    weather["temperature"] = 1e7 + weather["temperature"].astype(np.float64)
    found = statistics.compute_statistics(weather, frames_per_block=3)
    expected = weather["temperature"].values.std(axis=(0, 1, 3, 4))
    np.testing.assert_allclose(found.stddev["temperature"], expected, rtol=1e-6)


def test_what_is_the_same_everywhere_has_no_deviation():
    data = _weather()
    value = np.float32(0.1)
    data["2m_temperature"] = xarray.full_like(data["2m_temperature"], value)
    found = statistics.compute_statistics(data)
    assert found.stddev["2m_temperature"] == 0
    assert found.diffs_stddev["2m_temperature"] == 0
    np.testing.assert_allclose(found.mean["2m_temperature"], value, rtol=1e-6)


def _expected(array, axes):
    return np.nanmean(array, axis=axes), np.nanstd(array, axis=axes)


@hypothesis.given(
    frames=st.integers(3, 30),
    step=st.integers(1, 3),
    block=st.integers(1, 31),
    chunks=st.one_of(
        st.none(),
        st.fixed_dictionaries(
            {"time": st.integers(1, 9), "level": st.integers(1, 3)},
            optional={"lat": st.integers(1, 4)},
        ),
    ),
    missing=st.booleans(),
    gap=st.integers(0, 29),
)
@hypothesis.settings(max_examples=40)
def test_the_result_does_not_depend_on_how_the_data_are_cut(
    frames, step, block, chunks, missing, gap
):
    hypothesis.assume(frames > step)
    weather = _weather(frames, seed=frames)
    values = weather["temperature"].values
    if missing:
        values[:, ::2, 1, 1:3, 2] = np.nan
    kept = [n for n in range(frames) if n != gap or frames < 5 + step]
    weather = weather.isel(time=kept)
    if chunks:
        weather = weather.chunk(chunks)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        found = statistics.compute_statistics(
            weather, step=f"{6 * step}h", frames_per_block=block, workers=2
        )
    axes = (0, 1, 3, 4)
    whole = values.astype(np.float64)
    mean, stddev = _expected(whole[:, kept], axes)
    pairs = [(n, n - step) for n in kept if n - step in kept]
    later, earlier = (whole[:, list(side)] for side in zip(*pairs))
    np.testing.assert_allclose(found.mean["temperature"], mean, rtol=1e-6)
    np.testing.assert_allclose(found.stddev["temperature"], stddev, rtol=1e-6)
    np.testing.assert_allclose(
        found.diffs_stddev["temperature"],
        _expected(later - earlier, axes)[1],
        rtol=1e-6,
    )
    np.testing.assert_allclose(
        found.min["temperature"], np.nanmin(whole[:, kept], axis=axes), rtol=1e-6
    )
    lost = np.isnan(whole[:, kept]).sum()
    assert found.mean["temperature"].attrs["missing"] == lost


def test_large_fields_are_read_box_by_box_with_the_same_result(monkeypatch):
    weather = _weather(frames=40).chunk({"time": 5, "level": 1, "lat": 2})
    expected = statistics.compute_statistics(weather)
    monkeypatch.setattr(series, "_BLOCK", 1 << 8)
    pieces = series.cut(
        "temperature", weather["temperature"].variable, range(3, 40), largest=1 << 9
    )
    assert len({(p.levels.start, p.rows.start) for p in pieces}) == 6
    assert len({p.first for p in pieces}) == 1 or len(pieces) > 6
    original = series.cut
    monkeypatch.setattr(
        series, "cut", lambda *a, **k: original(*a, largest=1 << 9, **k)
    )
    found = statistics.compute_statistics(weather)
    for kind in ("mean", "stddev", "diffs_stddev", "min"):
        xarray.testing.assert_allclose(
            getattr(found, kind), getattr(expected, kind), rtol=1e-6
        )


def test_long_series_are_cut_into_pieces_that_still_make_every_pair():
    weather = _weather(frames=300)
    pieces = series.cut(
        "2m_temperature", weather["2m_temperature"].variable, range(300), block=4
    )
    assert len(pieces) == 15
    found = statistics.compute_statistics(weather, frames_per_block=4, step="12h")
    values = weather["2m_temperature"].values.astype(np.float64)
    changes = values[:, 2:] - values[:, :-2]
    np.testing.assert_allclose(
        found.diffs_stddev["2m_temperature"], changes.std(), rtol=1e-6
    )
    assert found.diffs_stddev["2m_temperature"].attrs["count"] == changes.size


def test_only_the_period_counts_and_the_files_say_which():
    weather = _weather(frames=40)
    found = statistics.compute_statistics(weather, start="2001-01-02", end="2001-01-03")
    part = weather["temperature"].values[:, 4:12].astype(np.float64)
    axes = (0, 1, 3, 4)
    np.testing.assert_allclose(found.mean["temperature"], part.mean(axes), rtol=1e-6)
    np.testing.assert_allclose(
        found.diffs_stddev["temperature"], np.diff(part, axis=1).std(axes), rtol=1e-6
    )
    assert found.mean.attrs["date_start"] == "2001-01-02 00:00:00"
    assert found.mean.attrs["date_end"] == "2001-01-03 18:00:00"
    assert found.mean.attrs["timestep_hours"] == 6
    assert found.mean.attrs["frames"] == 8


def test_area_weights_count_rows_by_their_area():
    weather = _weather()
    found = statistics.compute_statistics(weather, weighting="area")
    array = weather["temperature"].astype(np.float64)
    weights = xarray.DataArray(
        sphere.latitude_weights(weather["lat"].values), dims="lat"
    )
    weighted = array.weighted(weights)
    axes = ("batch", "time", "lat", "lon")
    np.testing.assert_allclose(
        found.mean["temperature"], weighted.mean(axes), rtol=1e-6
    )
    np.testing.assert_allclose(
        found.stddev["temperature"], weighted.std(axes), rtol=1e-6
    )
    changes = array.diff("time").weighted(weights)
    np.testing.assert_allclose(
        found.diffs_stddev["temperature"], changes.std(axes), rtol=1e-6
    )


def test_radiation_and_progress_are_those_of_the_whole_grid():
    weather = _weather(frames=9)
    found = statistics.compute_statistics(
        weather, forcings=("toa_incident_solar_radiation", "day_progress_sin")
    )
    data_utils.add_tisr_var(weather)
    data_utils.add_derived_vars(weather)
    for name in ("toa_incident_solar_radiation", "day_progress_sin"):
        values = weather[name].values.astype(np.float64)
        np.testing.assert_allclose(
            found.mean[name], values.mean(), rtol=1e-5, atol=1e-7
        )
        np.testing.assert_allclose(found.stddev[name], values.std(), rtol=1e-5)
        changes = np.diff(values, axis=1).std()
        np.testing.assert_allclose(found.diffs_stddev[name], changes, rtol=1e-5)


def test_gaps_are_told_and_no_change_crosses_them():
    weather = _weather(frames=10).isel(time=[0, 1, 2, 3, 6, 7, 8, 9])
    with pytest.warns(UserWarning, match="1 gap.*between 2001-01-01 18:00:00 and"):
        found = statistics.compute_statistics(weather)
    assert found.diffs_stddev["2m_temperature"].attrs["count"] == 6 * 32


def test_a_cluster_gives_what_threads_give(tmp_path):
    distributed = pytest.importorskip("distributed")
    _weather(frames=50).to_netcdf(tmp_path / "weather.nc")
    weather = xarray.open_dataset(tmp_path / "weather.nc", decode_timedelta=True)
    expected = statistics.compute_statistics(weather)
    with (
        dask.config.set({"distributed.scheduler.active-memory-manager.start": False}),
        distributed.LocalCluster(
            n_workers=1,
            threads_per_worker=2,
            processes=True,
            host="127.0.0.1",
            dashboard_address=":0",
        ) as cluster,
    ):
        found = statistics.compute_statistics(
            weather, scheduler=cluster.scheduler_address
        )
    for kind in ("mean", "stddev", "diffs_stddev", "min"):
        xarray.testing.assert_identical(getattr(found, kind), getattr(expected, kind))


def test_what_is_sent_to_a_worker_can_be_packed_and_holds_no_values(tmp_path):
    _weather(frames=200).to_netcdf(tmp_path / "weather.nc")
    weather = xarray.open_dataset(tmp_path / "weather.nc", decode_timedelta=True)
    (piece,) = series.cut("temperature", weather["temperature"].variable, range(200))
    packed = pickle.dumps(piece)
    assert len(packed) < piece.nbytes / 5
    np.testing.assert_array_equal(
        pickle.loads(packed).series.read(3, 5), piece.series.read(3, 5)
    )


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch):
    distributed = pytest.importorskip("distributed")

    def unreachable(*args, **settings):
        raise OSError("Timed out")

    monkeypatch.setattr(distributed, "Client", unreachable)
    with pytest.raises(OSError, match="no dask scheduler answers at tcp://here:1"):
        statistics.compute_statistics(_weather(), scheduler="tcp://here:1")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"step": "5h"}, "no two frames are 0 days 05:00:00 apart"),
        ({"step": "soon"}, "'soon' is not a length of time"),
        ({"step": "-6h"}, "longer than nothing"),
        ({"start": "2010"}, "no frame lies in the period 2010 to the end"),
        ({"end": "yesteryear"}, "'yesteryear' is no date"),
        ({"end": ""}, "'' is no date; write it as 2015"),
        ({"variables": ("temprature",)}, "did you mean temperature"),
        ({"forcings": ("moon",)}, "moon cannot be computed"),
        ({"weighting": "mass"}, "'mass' is not 'none' or 'area'"),
        ({"workers": 0}, "workers: 0 is too few"),
        ({"frames_per_block": -1}, "is negative"),
    ],
)
def test_what_cannot_be_computed_is_named(settings, message):
    with pytest.raises(ValueError, match=message):
        statistics.compute_statistics(_weather(), **settings)


def test_infinite_and_wholly_missing_values_are_errors():
    weather = _weather()
    weather["2m_temperature"][0, 4, 1, 1] = np.inf
    with pytest.raises(ValueError, match=r"2m_temperature: frames 0 to 6: infinite"):
        statistics.compute_statistics(weather)
    weather["2m_temperature"][:] = np.nan
    with pytest.raises(ValueError, match="2m_temperature: every value"):
        statistics.compute_statistics(weather)


def test_frames_out_of_order_are_refused():
    with pytest.raises(ValueError, match="frame 1 is not later"):
        statistics.compute_statistics(_weather().isel(time=[1, 0, 2]))


def test_damaged_values_are_named():
    class Damaged:
        dims, chunks, sizes = ("time",), None, {"time": 2}

        def isel(self, **where):
            return self

        @property
        def data(self):
            raise RuntimeError("NetCDF: HDF error")

    with pytest.raises(OSError, match=r"t: frames 0 to 1 cannot be read.*HDF"):
        series.Stored("t", Damaged()).read(0, 2)


def test_a_failed_save_leaves_older_files_alone(tmp_path, monkeypatch):
    found = statistics.compute_statistics(_weather())
    found.save(tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def full(self, path, **settings):
        pathlib.Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(xarray.Dataset, "to_netcdf", full)
    with pytest.raises(OSError, match="No space"):
        found.save(tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_one_frame_is_too_few():
    with pytest.raises(ValueError, match="need 2 frames, found 1"):
        statistics.compute_statistics(_weather(frames=1))
