"""What a forecast is asked to start from."""

import dataclasses

import numpy as np
import pytest
import xarray

from tests.training import toys
from weatherlib.rollout import intake


def test_a_single_frame_starts_where_the_times_of_forcings_show_the_step():
    """For models that read one frame, as `weatherlib predict` calls them."""
    frame = toys.weather(1)
    task = dataclasses.replace(
        toys.TASK,
        input_variables=(toys.PRESSURE,),
        target_variables=(toys.PRESSURE,),
        forcing_variables=(),
        input_duration="6h",
    )
    hours = np.array([6, 12], "timedelta64[h]").astype("timedelta64[ns]")
    known = xarray.Dataset(coords={"time": hours})
    request = intake.make_request(frame, known, steps=2, task=task)
    np.testing.assert_array_equal(request.lead_times(0, 2), hours)
    with pytest.raises(ValueError, match="do not show the time step"):
        intake.make_request(frame, steps=2, task=task)
    # A model of two frames does not take the one for both.
    longer = dataclasses.replace(task, input_duration="12h")
    with pytest.raises(ValueError, match=r"1 frame\(s\) at a step of .*, expected 2"):
        intake.make_request(frame, known, steps=2, task=longer)
