import matplotlib.figure
import numpy as np

from weatherlib.plotting import coastline


def _inside(ring, lon, lat):
    """Whether a point lies inside a ring, by counting crossings to the east."""
    x, y = ring[:, 0], ring[:, 1]
    crosses = (y[:-1] > lat) != (y[1:] > lat)
    with np.errstate(divide="ignore", invalid="ignore"):
        at = x[:-1] + (lat - y[:-1]) / (y[1:] - y[:-1]) * (x[1:] - x[:-1])
    return bool(np.sum(crosses & (at > lon)) % 2)


def _on_land(lon, lat):
    return sum(_inside(ring, lon, lat) for ring in coastline.rings()) % 2 == 1


def test_rings_are_closed_and_on_the_globe():
    rings = coastline.rings()
    assert len(rings) > 100
    for ring in rings:
        np.testing.assert_array_equal(ring[0], ring[-1])
        assert np.abs(ring[:, 0]).max() <= 180.0 and np.abs(ring[:, 1]).max() <= 90.0


def test_known_places_lie_on_land_or_at_sea():
    land = [(10, 50), (-100, 40), (135, -25), (20, 5), (-60, -10), (0, -85), (90, 60)]
    sea = [(-30, 30), (-150, 0), (80, -30), (51, 42), (0, 85)]
    assert all(_on_land(*place) for place in land)
    assert not any(_on_land(*place) for place in sea)


def test_lines_leave_out_the_date_line_and_the_pole():
    for line in coastline.lines():
        steps = np.abs(line[:-1, 0]) > 179.99
        assert not (steps & (np.abs(line[1:, 0]) > 179.99)).any()
        assert not ((line[:-1, 1] < -89.99) & (line[1:, 1] < -89.99)).any()


def test_coasts_are_drawn_in_every_turn_and_leave_the_limits_alone():
    axes = matplotlib.figure.Figure().subplots()
    axes.set(xlim=(100, 300), ylim=(-20, 20))
    assert coastline.draw(axes)
    assert axes.axis() == (100, 300, -20, 20)
    segments = axes.collections[0].get_segments()
    assert len(segments) == 3 * len(coastline.lines())
    longitudes = np.concatenate([segment[:, 0] for segment in segments])
    assert longitudes.min() < -360 and longitudes.max() > 360


def test_a_missing_file_is_reported_and_not_an_error(monkeypatch):
    def missing():
        raise FileNotFoundError

    monkeypatch.setattr(coastline, "lines", missing)
    axes = matplotlib.figure.Figure().subplots()
    assert not coastline.draw(axes)
    assert not axes.collections
