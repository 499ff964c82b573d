"""Power of fields by scale, global ones and those on a plane, on arrays."""

from __future__ import annotations

import functools

import numpy as np

__all__ = [
    "default_truncation",
    "radial_power",
    "radial_wavenumbers",
    "spherical_power",
    "zonal_power",
]


def default_truncation(rows: int, columns: int) -> int:
    """Returns the highest total wavenumber that a grid of this size holds exactly."""
    return max(1, min((rows - 1) // 2, (columns - 1) // 2))


def spherical_power(
    field: np.ndarray, lat: np.ndarray, truncation: int | None = None
) -> np.ndarray:
    """Returns the power of each total wavenumber of spherical harmonics.

    The sum over wavenumbers is the mean of the squared field over the sphere, as far as
    the field holds no shorter scales. Latitude rows are integrated with the weights
    that are exact for polynomials of the sine of latitude of a degree below their
    number, which are Clenshaw-Curtis', Fejer's or Gauss' weights on the usual grids.

    Args:
      field: Global, columns evenly spaced. Shape [..., lat, lon].
      lat: Degrees north, shape [lat].
      truncation: Highest total wavenumber. Default: `default_truncation`.

    Returns:
      In squared units of the field, shape [..., truncation + 1].

    Raises:
      ValueError: The truncation is higher than the grid can hold.
    """
    rows, columns = field.shape[-2:]
    if truncation is None:
        truncation = default_truncation(rows, columns)
    highest = min(rows - 1, columns // 2)
    if not 0 <= truncation <= highest:
        raise ValueError(
            f"truncation {truncation}: a grid of {rows} by {columns} points holds "
            f"total wavenumbers 0 to {highest}"
        )
    x = np.sin(np.deg2rad(np.asarray(lat, np.float64)))
    weights = _quadrature(tuple(x.tolist()))
    waves = np.fft.rfft(np.asarray(field, np.float64), axis=-1) / columns
    power = np.zeros((*field.shape[:-2], truncation + 1))
    diagonal = np.full(rows, np.sqrt(0.5))
    for order in range(truncation + 1):
        functions = _legendre(order, truncation, x, diagonal)
        parts = (waves[..., order] * weights) @ functions.T
        # One for m = 0; m and -m together otherwise, Nyquist's wave being its own.
        share = 0.5 if order == 0 or 2 * order == columns else 1.0
        power[..., order:] += share * np.abs(parts) ** 2
        step = np.sqrt((2 * order + 3) / (2 * order + 2))
        diagonal = diagonal * step * np.sqrt(np.maximum(1 - x**2, 0))
    return power


def zonal_power(field: np.ndarray) -> np.ndarray:
    """Returns the power of each zonal wavenumber on each row.

    The sum over wavenumbers is the mean square of the row.

    Args:
      field: Columns evenly spaced around the globe. Shape [..., lat, lon].

    Returns:
      In squared units of the field, shape [..., lat, lon // 2 + 1].

    Source: zonal energy spectrum of WeatherBench 2, without its factor of the length
    of the parallel.
    """
    columns = field.shape[-1]
    waves = np.fft.rfft(np.asarray(field, np.float64), axis=-1) / columns
    power = np.abs(waves) ** 2
    power[..., 1 : (columns + 1) // 2] *= 2
    return power


def radial_wavenumbers(
    rows: int, columns: int, cell: tuple[float, float] = (1.0, 1.0)
) -> np.ndarray:
    """Returns the wavenumbers of `radial_power`, waves along the shorter side.

    They end where a wave has two cells, along the longer side of the cells.

    Args:
      rows: Of the field.
      columns: Of the field.
      cell: Height and width of a cell.
    """
    side = min(rows * cell[0], columns * cell[1])
    # A side that is a whole number of waves must not lose one to rounding.
    return np.arange(1, max(2, int(side / (2 * max(cell)) + 1e-6) + 1))


def radial_power(
    field: np.ndarray, cell: tuple[float, float] = (1.0, 1.0)
) -> np.ndarray:
    """Returns the power of waves on a plane by their number, whatever their direction.

    The mean over a ring of wavenumbers, as nowcasts are compared: a field whose power
    falls too fast is blurred. The mean of the field is taken off, and a Hann window
    laid over it, so that its edges are no waves. White noise has its variance
    everywhere.

    Args:
      field: Cells of one size. Shape [..., row, column].
      cell: Their height and width, in any unit.

    Returns:
      In squared units of the field, shape [..., wavenumber], those of
      `radial_wavenumbers`; NaN where a value is missing.

    Source: radially averaged power spectral density, as in Ruzanski and Chandrasekar
    2011, doi:10.1016/j.jhydrol.2011.08.031.
    """
    rows, columns = field.shape[-2:]
    window = _hann(rows)[:, np.newaxis] * _hann(columns)
    values = np.asarray(field, np.float64)
    values = (values - values.mean(axis=(-2, -1), keepdims=True)) * window
    waves = np.fft.fft2(values)
    power = np.abs(waves) ** 2 / (window**2).sum()
    numbers = radial_wavenumbers(rows, columns, cell)
    ring, counts = _rings(rows, columns, cell)
    flat = power.reshape(-1, rows * columns)
    sums = np.stack([np.bincount(ring, one, len(counts)) for one in flat])
    found = sums[:, numbers] / np.maximum(counts[numbers], 1)
    return found.reshape(*field.shape[:-2], len(numbers))


def _hann(length: int) -> np.ndarray:
    """Returns a window that is nowhere zero, shape [length]."""
    return np.sin(np.pi * (np.arange(length) + 0.5) / length) ** 2


@functools.lru_cache(maxsize=8)
def _rings(
    rows: int, columns: int, cell: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the nearest wavenumber of each wave, and how many waves have it."""
    side = min(rows * cell[0], columns * cell[1])
    down = np.fft.fftfreq(rows) * (side / cell[0])
    across = np.fft.fftfreq(columns) * (side / cell[1])
    number = np.rint(np.hypot(down[:, np.newaxis], across)).astype(np.int64).ravel()
    return number, np.bincount(number)


@functools.lru_cache(maxsize=8)
def _quadrature(x: tuple[float, ...]) -> np.ndarray:
    """Returns weights w with sum w p(x) the integral over [-1, 1] of low degrees p."""
    table = np.polynomial.legendre.legvander(np.asarray(x), len(x) - 1)
    moments = np.zeros(len(x))
    moments[0] = 2.0
    return np.linalg.solve(table.T, moments)


def _legendre(
    order: int, truncation: int, x: np.ndarray, diagonal: np.ndarray
) -> np.ndarray:
    """Returns associated Legendre functions of one order, orthonormal on [-1, 1].

    Args:
      order: m.
      truncation: Highest degree.
      x: Sine of latitude, shape [row].
      diagonal: The function of degree m, shape [row].

    Returns:
      Degrees m to `truncation`, shape [degree, row].
    """
    found = [diagonal]
    before, last = np.zeros_like(x), diagonal
    for degree in range(order + 1, truncation + 1):
        a = np.sqrt((4 * degree**2 - 1) / (degree**2 - order**2))
        b = 0.0
        if degree > order + 1:
            below = degree - 1
            b = np.sqrt((below**2 - order**2) / (4 * below**2 - 1))
        before, last = last, a * (x * last - b * before)
        found.append(last)
    return np.stack(found)
