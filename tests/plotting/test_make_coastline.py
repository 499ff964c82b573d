import importlib.util
import pathlib
import struct

import numpy as np
import pytest

_SCRIPT = pathlib.Path(__file__).parents[2] / "scripts" / "make_coastline.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("make_coastline", _SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _square(west, south, size=10.0):
    corners = [(0, 0), (0, size), (size, size), (size, 0), (0, 0)]
    return np.array(corners, float) + np.array([west, south])


def _shapefile(polygons):
    records = b""
    for number, rings in enumerate(polygons):
        points = np.concatenate(rings)
        starts = np.cumsum([0, *map(len, rings)])[:-1]
        body = struct.pack("<i4d2i", 5, 0, 0, 0, 0, len(rings), len(points))
        body += starts.astype("<i4").tobytes() + points.astype("<f8").tobytes()
        records += struct.pack(">2i", number + 1, len(body) // 2) + body
    return bytes(100) + records


def test_rings_of_all_records_are_read(script):
    first, lake, second = _square(0, 0), _square(3, 3, 2.0)[::-1], _square(20, 0)
    rings = script.polygon_rings(_shapefile([[first, lake], [second]]))
    for found, expected in zip(rings, (first, lake, second), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_borders_between_countries_vanish(script):
    (outline,) = script.dissolve([_square(0, 0), _square(10, 0)])
    np.testing.assert_array_equal(outline[0], outline[-1])
    corners = {(x, y) for x in (0.0, 10.0, 20.0) for y in (0.0, 10.0)}
    assert set(map(tuple, outline.tolist())) == corners
    assert script._area(outline) == 200.0


def test_an_outline_that_does_not_close_is_an_error(script):
    with pytest.raises(ValueError, match="does not close"):
        script.dissolve([_square(0, 0)[:-1]])
