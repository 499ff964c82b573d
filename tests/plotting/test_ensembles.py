import numpy as np
import pytest
import xarray

from tests.plotting.fields import field
from weatherlib import plotting
from weatherlib.data_utils import lexicon
from weatherlib.plotting import ensembles


def _ensemble(members=5, dim="number", times=3):
    base = field("2m_temperature", times=times)
    parts = [base + offset for offset in np.linspace(-2.0, 2.0, members)]
    return xarray.concat(parts, dim).rename("2m_temperature")


def test_a_plume_shows_percentiles_the_median_and_the_truth_in_readers_units():
    series = _ensemble().isel(lat=0, lon=0)
    truth = field("2m_temperature", times=3).isel(lat=0, lon=0)
    figure = plotting.draw_plume(series, truth=truth, place="Berlin")
    (axes,) = figure.axes
    assert axes.get_ylabel() == "°C"
    assert axes.get_title() == "2 m temperature, Berlin, 5 members"
    labels = {t.get_text() for t in figure.legends[0].get_texts()}
    assert labels == {"all members", "10 to 90 %", "25 to 75 %", "median", "truth"}
    lines = {line.get_label(): line.get_ydata() for line in axes.lines}
    expected = truth.values - 273.15
    np.testing.assert_allclose(lines["median"], expected)
    np.testing.assert_allclose(lines["truth"], expected)
    ends = [np.ptp(c.get_paths()[0].vertices[:, 1]) for c in axes.collections]
    climb = np.ptp(expected)
    np.testing.assert_allclose(ends, [4 + climb, 3.2 + climb, 2 + climb])


def test_a_plume_of_one_time_says_which_and_shows_its_day():
    series = _ensemble().isel(lat=0, lon=0, time=[1])
    (axes,) = plotting.draw_plume(series).axes
    assert axes.get_title() == (
        "2 m temperature, 2022-01-01 12:00 UTC, +12 h, 5 members"
    )
    assert [t.get_text() for t in axes.get_xticklabels()] == ["2022-01-01 12:00"]
    assert np.ptp(axes.get_xlim()) < 1.5
    # The bands are wide enough to be seen.
    assert all(np.ptp(c.get_paths()[0].vertices[:, 0]) > 0 for c in axes.collections)


@pytest.mark.parametrize("dim", ["sample", "number", "realization", "member"])
def test_spaghetti_has_a_line_for_each_member_and_their_mean(dim):
    ensemble = _ensemble(dim=dim).isel(time=0)
    figure = plotting.draw_spaghetti(ensemble, (7.0,))
    lines = [c for c in figure.axes[0].collections if hasattr(c, "levels")]
    assert [list(line.levels) for line in lines] == [[7.0]] * 6
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["7 °C", "mean of members"]
    assert "5 members" in figure.axes[0].get_title()


def test_spaghetti_of_values_that_no_member_has_is_refused():
    ensemble = _ensemble().isel(time=0)
    with pytest.raises(ValueError, match="no member has 700, 900 °C; on this map they"):
        plotting.draw_spaghetti(ensemble, (700.0, 900.0))
    plotting.draw_spaghetti(ensemble, (7.0, 900.0))


def test_negative_lines_of_spaghetti_are_as_solid_as_in_the_legend():
    ensemble = _ensemble().isel(time=0) - 20.0
    figure = plotting.draw_spaghetti(ensemble, (-13.0,))
    lines = [c for c in figure.axes[0].collections if hasattr(c, "levels")]
    assert lines and all(
        dashes is None for line in lines for _, dashes in line.get_linestyle()
    )


def test_round_values_are_found_where_none_are_given():
    figure = plotting.draw_spaghetti(_ensemble().isel(time=0))
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(legend) == 3 and all(len(text) < 9 for text in legend[:2])


@pytest.mark.parametrize("name", lexicon.MEMBERS)
def test_members_are_found_under_the_names_that_scores_know(name):
    assert ensembles.member_dim(_ensemble(dim=name)) == name


def test_what_is_no_ensemble_is_refused():
    with pytest.raises(ValueError, match="an ensemble has a dimension sample"):
        plotting.draw_spaghetti(field())
    with pytest.raises(ValueError, match="a plume needs times"):
        plotting.draw_plume(_ensemble().isel(time=0, lat=0, lon=0))
