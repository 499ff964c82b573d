import numpy as np
import pytest
import scipy.ndimage

from weatherlib import config
from weatherlib.data import radar_units, synthetic


@pytest.fixture(scope="module")
def series():
    return synthetic.synthetic_radar(frames=13, rows=96, columns=96, seed=1)


def test_the_same_seed_gives_the_same_frames_however_many(series):
    shorter = synthetic.synthetic_radar(frames=4, rows=96, columns=96, seed=1)
    np.testing.assert_array_equal(shorter["vil"], series["vil"][:4])
    other = synthetic.synthetic_radar(frames=4, rows=96, columns=96, seed=2)
    assert (other["vil"].values != shorter["vil"].values).any()


def test_pixels_are_whole_and_mostly_dry(series):
    values = series["vil"].values
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, np.rint(values))
    assert values.min() == 0
    assert 60 < values.max() <= radar_units.HIGHEST
    wet = (values > radar_units.DRY).mean()
    assert 0.05 < wet < 0.7


def test_everything_moves_with_the_wind():
    found = synthetic.synthetic_radar(
        frames=2, rows=96, columns=96, wind=(24.0, -48.0), step="10min", texture=5.0
    )
    before, after = found["vil"].values
    # 10 minutes at 24 and 48 km/h on cells of 2 km: two rows down, four to the left.
    best = max(
        ((rows, columns) for rows in range(-6, 7) for columns in range(-6, 7)),
        key=lambda shift: np.corrcoef(
            scipy.ndimage.shift(before, shift, order=0)[8:-8, 8:-8].ravel(),
            after[8:-8, 8:-8].ravel(),
        )[0, 1],
    )
    assert best == (2, -4)
    assert (found.attrs["wind_rows"], found.attrs["wind_columns"]) == (24.0, -48.0)


def test_cells_grow_and_decay(series):
    # The same place of the moving pattern does not keep its strength.
    still = synthetic.synthetic_radar(
        frames=13, rows=64, columns=64, wind=(0.0, 0.0), texture=0.0, cells=20.0
    )["vil"].values
    change = np.diff(still[:, still.max(0) > 40], axis=0)
    assert (change > 3).mean() > 0.1
    assert (change < -3).mean() > 0.1


def test_texture_has_the_spectrum_of_rain_and_small_scales_die_first(series):
    values = series["vil"].values
    waves = np.fft.fft2(values - values.mean((1, 2), keepdims=True))
    number = np.hypot(*np.meshgrid(*[np.fft.fftfreq(96) * 96] * 2))
    rings = [(number >= k - 0.5) & (number < k + 0.5) for k in range(3, 30)]
    power = [(np.abs(waves[:, ring]) ** 2).mean() for ring in rings]
    slope = np.polyfit(np.log(np.arange(3, 30)), np.log(power), 1)[0]
    assert -4 < slope < -2
    still = synthetic.synthetic_radar(
        frames=7, rows=96, columns=96, wind=(0.0, 0.0), cells=0.0, texture=12.0
    )["vil"].values
    likeness = []
    for scale in (1.0, 6.0):
        smooth = [scipy.ndimage.gaussian_filter(frame, scale) for frame in still]
        part = [s if scale > 1 else f - s for f, s in zip(still, smooth)]
        likeness.append(np.corrcoef(part[0].ravel(), part[6].ravel())[0, 1])
    assert likeness[0] < likeness[1] - 0.2


def test_settings_are_an_object_or_words():
    settings = synthetic.SyntheticRadarConfig(frames=2, rows=8, columns=12)
    found = synthetic.synthetic_radar(settings, step="10min")
    assert dict(found.sizes) == {"time": 2, "lat": 8, "lon": 12}
    assert np.diff(found["time"].values)[0] == np.timedelta64(10, "m")
    assert found.attrs["cell_km"] == 2.0
    again = config.from_dict(synthetic.SyntheticRadarConfig, {**settings})
    assert again == settings


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"frames": 0}, "frames must be positive"),
        ({"cells": -1.0}, "cells must not be negative"),
        ({"step": "-5min"}, "step must be positive"),
        ({"size": 3}, "unknown key 'size'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        synthetic.synthetic_radar(**fields)
