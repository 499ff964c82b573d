import numpy as np
import pytest
import xarray

from weatherlib import plotting

LEAD = (np.arange(1, 5) * np.timedelta64(6, "h")).astype("timedelta64[ns]")
SOURCES = ["small", "large", "persistence", "climatology"]


def _errors():
    share = np.array([0.5, 0.25, 1.0, 2.0])[:, None]
    grown = np.array([1.0, 2.0, 3.0, 4.0])[None]
    dims = ("source", "time")
    return xarray.Dataset(
        {
            "mean_sea_level_pressure": (dims, 400 * share * grown, {"units": "Pa"}),
            "2m_temperature": (dims, share**2 * grown, {"units": "K"}),
        },
        coords={"source": SOURCES, "time": LEAD},
    )


def _costs():
    return xarray.Dataset(
        {
            "parameters": ("source", [1e4, 1e6], {"long_name": "parameters"}),
            "train": (
                "source",
                [10.0, 300.0],
                {"long_name": "training", "units": "s"},
            ),
        },
        coords={"source": SOURCES[:2]},
    )


def test_errors_are_shares_of_those_of_the_reference_averaged_over_variables():
    share = plotting.relative_error(_errors(), LEAD[-1])
    np.testing.assert_allclose(share, np.array([0.5, 0.25, 1, 2]) ** 1.5)
    other = plotting.relative_error(_errors(), LEAD[0], baseline="climatology")
    np.testing.assert_allclose(other, share / share[-1])


def test_a_variable_that_a_source_lacks_is_left_out_of_the_mean():
    errors = _errors()
    errors["2m_temperature"][0, -1] = np.nan
    share = plotting.relative_error(errors, LEAD[-1])
    np.testing.assert_allclose(share, [0.5, 0.25, 1, 2])


def test_models_are_points_over_their_costs_and_references_lines():
    figure = plotting.draw_skill_and_cost(_errors(), _costs(), title="All")
    pressure, temperature, parameters, training = figure.axes
    assert pressure.get_title() == "Mean sea-level pressure"
    np.testing.assert_allclose(pressure.lines[0].get_ydata(), [2, 4, 6, 8])
    assert temperature.get_ylabel() == "RMSE (K)"
    assert parameters.get_xlabel() == "parameters"
    assert training.get_xlabel() == "training (s)"
    assert training.get_xscale() == "log"
    assert parameters.get_ylabel() == "RMSE / persistence at 24 h"
    points = [(line.get_xdata()[0], line.get_ydata()[0]) for line in training.lines]
    np.testing.assert_allclose(points[0], [10, 0.5**1.5])
    np.testing.assert_allclose(points[1], [300, 0.25**1.5])
    np.testing.assert_allclose(training.lines[2].get_ydata(), [1, 1])
    np.testing.assert_allclose(training.lines[3].get_ydata(), [2**1.5] * 2)
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == SOURCES


def test_many_models_look_different():
    names = [f"model {i}" for i in range(14)]
    errors = _errors().isel(source=[0] * 14 + [2])
    errors = errors.assign_coords(source=[*names, "persistence"])
    costs = _costs().isel(source=[0] * 14).assign_coords(source=names)
    figure = plotting.draw_skill_and_cost(errors, costs)
    looks = {(line.get_color(), line.get_marker()) for line in figure.axes[0].lines}
    assert len(looks) == 15


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"baseline": "ridge"}, "no source 'ridge' to compare with; found small"),
        ({"lead": np.timedelta64(30, "h")}, "no errors at 30 h"),
        ({"costs": xarray.Dataset()}, "need a variable each"),
        ({"costs": _errors()}, "costs 'source'; found"),
    ],
)
def test_what_cannot_be_drawn_is_said(change, message):
    given = {"errors": _errors(), "costs": _costs(), **change}
    with pytest.raises(ValueError, match=message):
        plotting.draw_skill_and_cost(given.pop("errors"), given.pop("costs"), **given)


def test_errors_of_zero_have_no_share():
    with pytest.raises(ValueError, match="no variable has an error above 0"):
        plotting.relative_error(_errors() * 0, LEAD[0])
