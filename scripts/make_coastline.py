"""Makes `weatherlib/resources/coastline_110m.npz` from Natural Earth countries.

Natural Earth (https://www.naturalearthdata.com) is in the public domain; its terms ask
for nothing, and we thank its makers. The 1:110 million countries come inside the
geopandas 0.14 wheel, so the file can be remade without the original site:

    pip download --no-deps geopandas==0.14.4
    python scripts/make_coastline.py geopandas-0.14.4-py3-none-any.whl

A plain `ne_110m_admin_0_countries.shp` (or `ne_110m_land.shp`) works as well. Borders
between countries are walked twice, once in each direction, so dropping every pair of
opposite steps leaves the outlines of the land: closed rings, land on the right-hand
side of the shapefile's clockwise outer rings, lakes as rings the other way round.

The npz holds
  points: longitude and latitude of all ring vertices, degrees east in [-180, 180] and
    degrees north. The last point of a ring repeats its first. float32 [point, 2].
  starts: index of the first point of each ring, and the number of points at the end.
    int32 [ring + 1].
  source: where the lines come from.
"""

from __future__ import annotations

import argparse
import io
import itertools
import pathlib
import struct
import zipfile

import numpy as np

_OUTPUT = pathlib.Path(__file__).parents[1] / "weatherlib/resources/coastline_110m.npz"
_SOURCE = "Natural Earth 1:110m, public domain, https://www.naturalearthdata.com"
_POLYGON = 5
_HEADER_BYTES = 100

Point = tuple[float, float]


def read_shapefile(path: pathlib.Path) -> bytes:
    """Returns the bytes of a shapefile, or of the lowest-resolution one in a wheel."""
    if path.suffix == ".shp":
        return path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        names = [n for n in archive.namelist() if n.endswith("lowres.shp")]
        if len(names) != 1:
            raise ValueError(f"{path}: expected one *lowres.shp inside, found {names}")
        return archive.read(names[0])


def polygon_rings(shapefile: bytes) -> list[np.ndarray]:
    """Returns every ring of every polygon record. Degrees, shape [point, 2] each.

    Source: ESRI shapefile technical description (1998), main file record for type 5.
    """
    stream = io.BytesIO(shapefile)
    stream.seek(_HEADER_BYTES)
    rings = []
    while head := stream.read(8):
        _, words = struct.unpack(">2i", head)
        record = stream.read(2 * words)
        if struct.unpack_from("<i", record)[0] != _POLYGON:
            continue
        parts, count = struct.unpack_from("<2i", record, 36)
        starts = [*struct.unpack_from(f"<{parts}i", record, 44), count]
        points = np.frombuffer(record, "<f8", 2 * count, 44 + 4 * parts).reshape(-1, 2)
        rings += [points[a:b] for a, b in itertools.pairwise(starts)]
    return rings


def dissolve(rings: list[np.ndarray]) -> list[np.ndarray]:
    """Returns the outlines left when borders shared by two rings are dropped."""
    steps: dict[tuple[Point, Point], int] = {}
    for ring in rings:
        # A ten-thousandth of a degree is far below what the map shows.
        corners = [tuple(p) for p in np.round(ring, 4).tolist()]
        for step in itertools.pairwise(corners):
            back = (step[1], step[0])
            if step[0] == step[1]:
                continue
            if steps.get(back):
                steps[back] -= 1
            else:
                steps[step] = steps.get(step, 0) + 1
    following: dict[Point, list[Point]] = {}
    for (start, end), times in steps.items():
        if not times:
            continue
        following.setdefault(start, []).extend([end] * times)
    outlines = []
    while following:
        outlines += _walk(following)
    return [np.array(line, np.float32) for line in outlines]


def _walk(following: dict[Point, list[Point]]) -> list[list[Point]]:
    """Takes one closed walk out of the steps, cut where it touches itself."""
    walk = [next(iter(following))]
    closed = []
    while walk[-1] in following:
        here = walk[-1]
        nexts = following[here]
        walk.append(nexts.pop())
        if not nexts:
            del following[here]
        if walk[-1] in walk[:-1]:
            first = walk.index(walk[-1])
            closed.append(walk[first:])
            walk = walk[: first + 1]
    if len(walk) > 1:
        raise ValueError(f"an outline near {walk[-1]} does not close")
    return closed


def main() -> None:
    """Reads the shapefile and writes the npz."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=pathlib.Path, help="a .shp or the .whl")
    parser.add_argument("--output", type=pathlib.Path, default=_OUTPUT)
    args = parser.parse_args()
    rings = dissolve(polygon_rings(read_shapefile(args.source)))
    # A border drawn differently by its two countries leaves slivers of a few points.
    rings = [ring for ring in rings if _area(ring) > 0.01]
    starts = np.cumsum([0] + [len(ring) for ring in rings]).astype(np.int32)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        args.output, points=np.concatenate(rings), starts=starts, source=_SOURCE
    )
    print(f"{args.output}: {len(rings)} rings, {starts[-1]} points")


def _area(ring: np.ndarray) -> float:
    """Returns the area inside a ring, in square degrees."""
    x, y = ring.astype(np.float64).T
    return abs(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1])) / 2


if __name__ == "__main__":
    main()
