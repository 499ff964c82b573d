import numpy as np
import pytest
import xarray

from weatherlib.data_utils import statistics


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
    for kind in ("mean", "stddev", "diffs_stddev"):
        path = tmp_path / "stats" / f"{kind}_by_level.nc"
        xarray.testing.assert_equal(xarray.load_dataset(path), getattr(found, kind))
    assert len(list((tmp_path / "stats").iterdir())) == 3


def test_large_offsets_do_not_spoil_small_deviations():
    weather = _weather(frames=40)
    weather["temperature"] = 1e7 + weather["temperature"].astype(np.float64)
    found = statistics.compute_statistics(weather, frames_per_block=3)
    expected = weather["temperature"].values.std(axis=(0, 1, 3, 4))
    np.testing.assert_allclose(found.stddev["temperature"], expected, rtol=1e-6)


def test_missing_values_are_named():
    weather = _weather()
    weather["2m_temperature"][0, 4, 1, 1] = np.nan
    with pytest.raises(ValueError, match=r"2m_temperature: missing .* frames 4 to 5"):
        statistics.compute_statistics(weather, frames_per_block=2)


def test_one_frame_is_too_few():
    with pytest.raises(ValueError, match="need 2 frames, found 1"):
        statistics.compute_statistics(_weather(frames=1))
