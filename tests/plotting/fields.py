"""Made-up fields for the tests of pictures."""

import numpy as np
import xarray


def field(name="2m_temperature", *, lat=None, lon=None, times=None, **attrs):
    """Returns a smooth field [time,] lat, lon that differs in every direction."""
    lat = np.linspace(-75, 75, 6) if lat is None else np.asarray(lat, float)
    lon = np.arange(0, 360, 30.0) if lon is None else np.asarray(lon, float)
    values = 280 + lat[:, None] / 10 + np.cos(np.deg2rad(lon - 40))[None]
    array = xarray.DataArray(
        values, dims=("lat", "lon"), coords={"lat": lat, "lon": lon}, attrs=attrs
    )
    if times is not None:
        lead = np.arange(1, times + 1) * np.timedelta64(6, "h")
        lead = lead.astype("timedelta64[ns]")
        parts = [array + number for number in range(times)]
        array = xarray.concat(parts, "time").assign_coords(
            time=lead, datetime=("time", np.datetime64("2022-01-01T00", "ns") + lead)
        )
        array.attrs = attrs
    return array.rename(name)
