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


def test_the_legend_names_what_is_drawn_in_any_panel():
    scores = _scores()
    scores["2m_temperature"] = scores["2m_temperature"].where(
        scores["source"] == "persistence"
    )
    scores["mean_sea_level_pressure"] = scores["mean_sea_level_pressure"] * np.nan
    figure = plotting.draw_score_curves(scores)
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["persistence"]


def test_panels_have_room_above_their_bands_and_a_line_where_perfect_is():
    scores = _scores()[["2m_temperature"]]
    figure = plotting.draw_score_curves(scores, bands=(scores, scores * 2), aim=3.0)
    (axes,) = figure.axes
    assert axes.get_ylim() == (0, pytest.approx(1.05 * 2 * 2.03))
    aims = [line for line in axes.lines if list(line.get_ydata()) == [3.0, 3.0]]
    assert len(aims) == 1 and aims[0].get_label().startswith("_")
    (axes,) = plotting.draw_score_curves(scores, aim=5.0).axes
    assert axes.get_ylim()[1] > 5.0


def test_models_have_one_colour_in_all_panels_and_not_that_of_persistence():
    scores = xarray.concat([_scores()] * 3, "source")
    names = ["persistence", "a", "b", "c", "d", "e"]
    scores = scores.assign_coords(source=names)
    pressure = scores["mean_sea_level_pressure"].where(scores["source"] != "a")
    scores["mean_sea_level_pressure"] = pressure
    first, second = plotting.draw_score_curves(scores).axes
    colours = {line.get_label(): line.get_color() for line in second.lines}
    assert len(set(colours.values())) == len(names)
    assert {line.get_color() for line in first.lines} == {
        colour for name, colour in colours.items() if name != "a"
    }


def test_a_single_lead_time_is_a_point_that_can_be_seen():
    figure = plotting.draw_score_curves(_scores(times=1))
    assert all(line.get_marker() == "o" for line in figure.axes[0].lines)
