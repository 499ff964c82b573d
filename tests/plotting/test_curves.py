import numpy as np
import pytest
import xarray

from weatherlib import plotting


def _scores(times=4):
    lead = (np.arange(1, times + 1) * np.timedelta64(6, "h")).astype("timedelta64[ns]")
    values = np.stack([np.arange(times) + 100.0, np.arange(times) + 200.0])
    dims = ("source", "time")
    return xarray.Dataset(
        {
            "mean_sea_level_pressure": (dims, values, {"units": "Pa"}),
            "2m_temperature": (dims, values / 100, {"units": "K"}),
        },
        coords={"source": ["forecast", "persistence"], "time": lead},
    )


def test_each_variable_has_a_panel_with_both_lines_in_readers_units():
    figure = plotting.draw_score_curves(_scores())
    pressure, temperature = figure.axes
    assert pressure.get_title() == "Mean sea-level pressure"
    assert (pressure.get_ylabel(), temperature.get_ylabel()) == ("hPa", "K")
    forecast, persistence = pressure.lines
    np.testing.assert_allclose(forecast.get_xdata(), [6, 12, 18, 24])
    np.testing.assert_allclose(forecast.get_ydata(), [1.0, 1.01, 1.02, 1.03])
    np.testing.assert_allclose(persistence.get_ydata(), [2.0, 2.01, 2.02, 2.03])
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["forecast", "persistence"]


def test_long_forecasts_are_read_in_days():
    figure = plotting.draw_score_curves(_scores(times=40))
    assert figure.axes[0].get_xlabel() == "lead time (days)"
    assert figure.axes[0].lines[0].get_xdata()[-1] == 10.0


def test_nothing_to_draw_is_an_error():
    with pytest.raises(ValueError, match="'source' and 'time'"):
        plotting.draw_score_curves(_scores().isel(source=0, drop=True))
    with pytest.raises(ValueError, match="need variables"):
        plotting.draw_score_curves(_scores()[[]])
