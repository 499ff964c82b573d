import io
import subprocess
import sys

import matplotlib
import matplotlib.figure
import numpy as np
import PIL.Image
import pytest

from tests.plotting.fields import field
from weatherlib import plotting
from weatherlib.plotting import coastline, maps


def _maps(figure):
    """Returns the axes of a figure that are maps, not colour bars."""
    return [axes for axes in figure.axes if axes.get_aspect() == 1.0]


def _bars(figure):
    return [axes for axes in figure.axes if axes.get_label() == "<colorbar>"]


def _draw(array, **settings):
    axes = matplotlib.figure.Figure().subplots()
    norm = matplotlib.colors.Normalize(270, 290)
    return axes, maps.draw_field(axes, array, norm=norm, colormap="viridis", **settings)


@pytest.mark.parametrize("smooth", [True, False])
@pytest.mark.parametrize("descending", [True, False])
def test_a_warm_place_is_drawn_where_it_is(smooth, descending):
    array = field()
    array[:] = 270.0
    array.loc[{"lat": 45, "lon": 240}] = 290.0
    if descending:
        array = array.sortby("lat", ascending=False)
    figure = matplotlib.figure.Figure(figsize=(8, 4), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    norm = matplotlib.colors.Normalize(270, 290)
    maps.draw_field(axes, array, norm=norm, colormap="gray", smooth=smooth)
    axes.set_aspect("auto")
    matplotlib.backends.backend_agg.FigureCanvasAgg(figure).draw()
    picture = np.asarray(figure.canvas.buffer_rgba())[..., 0]
    column, row = axes.transData.transform((-120, 45))
    bright = np.argwhere(picture > 200).mean(axis=0)
    np.testing.assert_allclose(bright, [400 - row, column], atol=15)


def test_maps_are_as_wide_as_their_cells_and_have_coasts():
    axes, mappable = _draw(field())
    assert axes.axis() == (-195, 165, -90, 90)
    assert axes.get_aspect() == 1.0
    assert len(axes.collections[0].get_segments()) > 100
    assert mappable.get_cmap().name == "viridis"


def test_uneven_rows_are_drawn_cell_by_cell_and_so_are_gaps_alone():
    uneven, _ = _draw(field(lat=[-80, -40, 0, 10, 50]))
    assert not uneven.images
    array = field()
    array[0, 0] = np.nan
    axes, mappable = _draw(array)
    assert list(axes.images) == [mappable]
    assert np.isfinite(mappable.get_array()).all()
    gaps = [c for c in axes.collections if hasattr(c, "get_coordinates")]
    (cells,) = [c.get_array() for c in gaps]
    assert np.ma.count(cells) == 1
    place = np.argwhere(~np.ma.getmaskarray(cells.reshape(6, 12)))
    np.testing.assert_array_equal(place, [[0, 6]])


def test_axes_may_have_the_names_of_other_archives():
    other = field(times=2).rename(lat="latitude", lon="longitude")
    one = other.isel(time=0)
    for figure in (
        plotting.draw_map(one),
        plotting.draw_map(one, view=plotting.find_view("robinson", one)),
        plotting.draw_comparison(one, one),
        plotting.draw_leads(other.rename(time="valid_time")),
    ):
        assert _maps(figure)


def test_a_map_without_values_says_so_and_has_no_scale():
    figure = plotting.draw_map(field() * np.nan)
    assert not _bars(figure)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ["all values are missing"]


def test_a_thinned_sheet_says_how_many_times_there_are():
    figure = plotting.draw_leads(field(times=5), most=2)
    assert figure.get_suptitle() == "2 m temperature, 2 of 5 times"
    assert plotting.draw_leads(field(times=2)).get_suptitle() == "2 m temperature"


def test_without_the_coastline_file_grid_lines_are_labelled(monkeypatch):
    monkeypatch.setattr(coastline, "draw", lambda axes: False)
    axes, _ = _draw(field())
    assert axes.xaxis.get_tick_params()["labelbottom"]
    monkeypatch.undo()
    axes, _ = _draw(field())
    assert not axes.xaxis.get_tick_params()["labelbottom"]


def test_contours_are_drawn_on_request():
    plain, _ = _draw(field())
    lined, _ = _draw(field(), contours="white")
    assert len(lined.collections) == len(plain.collections) + 1


def test_a_single_map_names_units_and_time():
    array = field("mean_sea_level_pressure", times=1).isel(time=0) * 360
    figure = plotting.draw_map(array.rename("mean_sea_level_pressure"))
    title = _maps(figure)[0].get_title()
    assert title == "Mean sea-level pressure, 2022-01-01 06:00 UTC, +6 h"
    assert _bars(figure)[0].get_xlabel() == "hPa"


def test_truth_and_forecast_share_a_scale_and_the_error_is_centred():
    truth = field(times=1).isel(time=0)
    forecast = truth + 4.0
    forecast.loc[{"lat": 75}] += 9.0
    figure = plotting.draw_comparison(truth, forecast.rename(truth.name))
    first, second, error = (axes.images[0] for axes in _maps(figure))
    assert first.norm is second.norm
    assert error.norm.vmin == -error.norm.vmax
    assert error.norm.vmax == pytest.approx(13.0)
    assert error.get_cmap().name == "RdBu_r"
    assert [bar.get_xlabel() for bar in _bars(figure)] == ["°C", "K"]


def test_the_error_is_taken_place_by_place_in_any_order():
    truth = field()
    forecast = truth.sortby("lat", ascending=False)
    figure = plotting.draw_comparison(truth, forecast)
    assert not np.any(_maps(figure)[2].images[0].get_array())


def test_fields_on_other_grids_are_not_compared():
    with pytest.raises(ValueError, match="different grids: 'lat' has 6 and 5"):
        plotting.draw_comparison(field(), field(lat=np.linspace(-60, 60, 5)))
    with pytest.raises(ValueError, match="needs coordinate 'lat'"):
        plotting.draw_comparison(field(), field().drop_vars("lat"))


@pytest.mark.parametrize(("times", "maps_drawn"), [(1, 1), (5, 5), (12, 12), (40, 10)])
def test_a_sheet_shows_at_most_twelve_times_and_the_last(times, maps_drawn):
    figure = plotting.draw_leads(field(times=times))
    panels = _maps(figure)
    assert len(panels) == maps_drawn
    assert panels[-1].get_title().endswith(f"+{6 * times} h")
    assert len({id(axes.images[0].norm) for axes in panels}) == 1
    assert len(_bars(figure)) == 1


@pytest.mark.parametrize("times", [3, 4, 7])
@pytest.mark.parametrize(
    "places", [{}, {"lat": [35, 40, 45, 50], "lon": range(0, 20, 5)}]
)
def test_titles_of_a_sheet_touch_no_map(times, places):
    figure = plotting.draw_leads(field(times=times, **places))
    figure.savefig(io.BytesIO())
    shown = _maps(figure)
    titles = [axes.title.get_window_extent() for axes in shown]
    assert len(titles) == times
    for axes in shown:
        assert not any(axes.get_window_extent().overlaps(title) for title in titles)


def test_a_sheet_needs_times():
    with pytest.raises(ValueError, match="need times"):
        plotting.draw_leads(field())


def test_a_saved_picture_is_complete_and_leaves_nothing_else(tmp_path):
    path = maps.save_figure(plotting.draw_map(field()), tmp_path / "map.png")
    with PIL.Image.open(path) as picture:
        picture.load()
        assert picture.width > 800
    assert [p.name for p in tmp_path.iterdir()] == ["map.png"]


def test_a_full_disk_leaves_the_older_picture_alone(tmp_path, monkeypatch):
    path = tmp_path / "map.png"
    path.write_text("older")

    def full(self, data):
        self.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        maps.save_figure(plotting.draw_map(field()), path)
    assert path.read_text() == "older"
    assert [p.name for p in tmp_path.iterdir()] == ["map.png"]


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        maps.save_figure(plotting.draw_map(field()), tmp_path / "no" / "map.png")


def test_drawing_changes_no_setting_and_loads_neither_pyplot_nor_jax(tmp_path):
    code = f"""
import sys
import matplotlib
def settings():
    # Reading the backend chooses one, which loads pyplot.
    return {{k: matplotlib.rcParams[k] for k in matplotlib.rcParams if k != "backend"}}

before = settings()
from tests.plotting.fields import field
from weatherlib import plotting
plotting.save_figure(plotting.draw_map(field()), {str(tmp_path / "m.png")!r})
plotting.save_animation({str(tmp_path / "m.gif")!r}, {{"a": field(times=2)}})
assert settings() == before
print([m for m in ("matplotlib.pyplot", "jax", "jaxlib") if m in sys.modules])
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
