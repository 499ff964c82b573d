import matplotlib.collections
import numpy as np
import pytest
import xarray

from weatherlib import plotting


def _relative(leads=4, **extra):
    dims = {"level": [500, 850], **extra}
    shape = (*map(len, dims.values()), leads)
    values = np.linspace(-0.2, 0.2, int(np.prod(shape))).reshape(shape)
    lead = (np.arange(1, leads + 1) * np.timedelta64(24, "h")).astype("m8[ns]")
    return xarray.Dataset(
        {
            "geopotential": ((*dims, "lead_time"), values),
            "2m_temperature": (("lead_time",), np.linspace(0.1, -0.1, leads)),
        },
        coords={**dims, "lead_time": lead},
    )


def _tables(figure):
    kind = matplotlib.collections.QuadMesh
    found = []
    for axes in figure.axes:
        mesh = [c for c in axes.collections if type(c) is kind]
        if mesh and axes.get_label() != "<colorbar>":
            found.append((axes, mesh[0]))
    return found


def test_rows_are_variables_and_levels_and_cells_are_per_cent():
    figure = plotting.draw_scorecard(_relative(), title="one against another")
    ((axes, mesh),) = _tables(figure)
    labels = [text.get_text() for text in axes.get_yticklabels()]
    assert labels == ["Geopotential 500 hPa", "Geopotential 850 hPa", "2 m temperature"]
    table = np.asarray(mesh.get_array()).reshape(3, 4)
    np.testing.assert_allclose(table[0, 0], -20)
    np.testing.assert_allclose(table[2], [10, 10 / 3, -10 / 3, -10])
    assert {text.get_text() for text in axes.texts} >= {"-20", "+10", "-3.3"}
    assert axes.get_xlabel() == "lead time (days)"
    assert axes.yaxis_inverted()


def test_better_is_blue_whichever_way_the_score_goes():
    for lower, first in ((True, "blue"), (False, "red")):
        figure = plotting.draw_scorecard(_relative(), better_is_lower=lower)
        ((_, mesh),) = _tables(figure)
        red, _, blue, _ = mesh.cmap(mesh.norm(-20.0))
        assert (blue > red) == (first == "blue")


def test_regions_and_metrics_have_tables_of_their_own_and_doubt_is_pale():
    relative = _relative(region=["globe", "tropics"], metric=["rmse", "crps"])
    significant = np.abs(relative) > 0.05
    figure = plotting.draw_scorecard(relative, significant=significant)
    tables = _tables(figure)
    titles = [axes.get_title() for axes, _ in tables]
    assert titles == ["rmse, globe", "rmse, tropics", "crps, globe", "crps, tropics"]
    alpha = tables[0][1].get_alpha()
    assert set(np.unique(alpha)) == {0.35, 1.0}


def test_tables_side_by_side_have_their_first_row_on_top():
    for names in (["globe", "tropics"], ["a", "b", "c"]):
        figure = plotting.draw_scorecard(_relative(region=names))
        assert [axes.get_ylim() for axes, _ in _tables(figure)] == [
            (2.5, -0.5) for _ in names
        ]


def test_a_poor_reference_leaves_colours_for_models_that_are_alike():
    figure = plotting.draw_scorecard(_relative() * 100)
    ((_, mesh),) = _tables(figure)
    assert mesh.norm.vmax == 50.0
    assert mesh.norm.vmin == -50.0


def test_rows_without_a_value_are_left_out():
    relative = _relative()
    relative["geopotential"] = relative["geopotential"].where(relative["level"] == 850)
    ((axes, _),) = _tables(plotting.draw_scorecard(relative))
    labels = [text.get_text() for text in axes.get_yticklabels()]
    assert labels == ["Geopotential 850 hPa", "2 m temperature"]


def test_arrays_and_plain_day_numbers_are_taken_too():
    array = xarray.DataArray(
        [[0.1, np.nan], [-0.1, 0.0]],
        {"variable": ["Z500", "T850"], "prediction_timedelta": [1, 2]},
        ("variable", "prediction_timedelta"),
    )
    ((axes, mesh),) = _tables(plotting.draw_scorecard(array, limit=0.5))
    assert mesh.norm.vmax == 50.0
    assert [t.get_text() for t in axes.get_xticklabels()] == ["1", "2"]
    assert np.ma.count_masked(mesh.get_array()) == 1


def test_nothing_to_show_is_an_error():
    with pytest.raises(ValueError, match="dimension of lead times"):
        plotting.draw_scorecard(_relative().isel(lead_time=0))
    for limit in (None, 0.5):
        with pytest.raises(ValueError, match="no value to show"):
            plotting.draw_scorecard(_relative() * np.nan, limit=limit)
