"""What the tests of data files share."""

import pytest

from tests.data import forecasts


@pytest.fixture(params=forecasts.NAMES)
def path(request, tmp_path):
    """The name of a forecast file, once NetCDF and once Zarr."""
    return tmp_path / request.param
