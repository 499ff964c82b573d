import numpy as np
import pytest
import xarray

from weatherlib.data_utils import places


def fields(lat=(45.0, 0.0, -45.0), level=(500, 850)):
    values = np.arange(len(lat) * len(level) * 4.0).reshape(len(level), len(lat), 4)
    return xarray.Dataset(
        {"temperature": (("level", "lat", "lon"), values)},
        coords={"level": list(level), "lat": list(lat), "lon": np.arange(4) * 90.0},
    )


def test_rounding_makes_no_other_grid():
    near = fields(lat=(45.1, 0.0, -45.0))
    places.require_same_grid(fields(), near, "it is", "take another")


@pytest.mark.parametrize("lat", [(-45.0, 0.0, 45.0), (45.0, 0.0), (46.0, 0.0, -45.0)])
def test_another_grid_is_refused(lat):
    with pytest.raises(ValueError, match=r"lat: it is on 3 values .*; take another"):
        places.require_same_grid(fields(), fields(lat=lat), "it is", "take another")


def test_levels_are_found_by_their_values():
    wanted = fields(level=(850,))["temperature"]
    found = places.on_levels(fields(), wanted, "it")
    xarray.testing.assert_equal(found, fields().sel(level=[850]))
    surface = wanted.isel(level=0, drop=True)
    assert places.on_levels(fields(), surface, "it").equals(fields())
    with pytest.raises(ValueError, match=r"temperature: it lacks the levels \[300\]"):
        places.on_levels(fields(), fields(level=(300, 500))["temperature"], "it")
