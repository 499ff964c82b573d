"""Fields in GRIB, made message by message."""

import functools
import pathlib

import numpy as np

_ROWS, _COLUMNS = 5, 8


@functools.cache
def _template(sample):
    import eccodes

    return eccodes.codes_grib_new_from_samples(sample)


def message(name, moment, level, value, *, step=0, height=None, kind=None):
    """Returns one GRIB field of ECMWF: from north to south, 180 degrees west first.

    Args:
      name: Short name.
      moment: Start of the forecast.
      level: In hPa, 0 for a field on none.
      value: In the corner in the south, at the first column.
      step: Lead time in hours.
      height: In metres, of a field above ground.
      kind: What GRIB calls another kind of level.
    """
    import eccodes

    sample = "regular_ll_pl_grib2" if level else "regular_ll_sfc_grib2"
    handle = eccodes.codes_clone(_template(sample))
    settings = {
        "centre": "ecmf",
        "Ni": _COLUMNS,
        "Nj": _ROWS,
        "latitudeOfFirstGridPointInDegrees": 90,
        "latitudeOfLastGridPointInDegrees": -90,
        "longitudeOfFirstGridPointInDegrees": 180,
        "longitudeOfLastGridPointInDegrees": 135,
        "iDirectionIncrementInDegrees": 45,
        "jDirectionIncrementInDegrees": 45,
        "dataDate": int(f"{moment:%Y%m%d}"),
        "dataTime": moment.hour * 100,
        "step": step,
        "bitsPerValue": 24,
    }
    for key, content in settings.items():
        eccodes.codes_set(handle, key, content)
    eccodes.codes_set(handle, "shortName", name)
    if level:
        eccodes.codes_set(handle, "level", level)
    if height is not None:
        eccodes.codes_set(handle, "typeOfLevel", "heightAboveGround")
        eccodes.codes_set(handle, "level", height)
    if kind is not None:
        eccodes.codes_set(handle, "typeOfLevel", kind)
    columns = np.arange(_COLUMNS)
    rows = np.arange(_ROWS)[::-1]
    values = value + 10 * rows[:, None] + columns
    eccodes.codes_set_values(handle, values.ravel().astype(float))
    content = eccodes.codes_get_message(handle)
    eccodes.codes_release(handle)
    return content


def write(path, messages):
    """Writes messages as a file and returns its path."""
    pathlib.Path(path).write_bytes(b"".join(messages))
    return path
