"""Where rain moves, and what it looks like when it goes on so: optical flow, advection.

The motion field is found by least squares over a neighbourhood (Lucas and Kanade 1981),
from coarse to fine, over all pairs of the last frames at once. Where no rain tells it,
it goes on smoothly from where rain does. The last frame is then moved backwards along
the flow for each lead, semi-Lagrangian (Germann and Zawadzki 2002,
doi:10.1175/1520-0493(2002)130<2859:SDOTPO>2.0.CO;2). Only NumPy and SciPy are needed.
"""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import scipy.ndimage

from weatherlib import config as configs

__all__ = ["FlowConfig", "advect", "find_motion"]

_COARSEST = 16
_FLAT = 1e-6


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlowConfig(configs.Mapping):
    """How motion is found and gone on with.

    Attributes:
      frames: Last frames of the context that are used, at least 2.
      window: Standard deviation of the neighbourhood, cells.
      levels: Scales from coarse to fine, each half of the one before; fewer where
        pictures are small.
      iterations: Corrections at each scale.
      smoothing: Standard deviation over which motion is alike, and carried from where
        there is rain to where there is none, cells.
      stiffness: How strongly motion is drawn to that round about where rain says
        little.
      blur: Standard deviation by which frames are smoothed before, cells.
      steps: Parts of the time between two frames in which they are moved.
      outside: What comes in over the edges: "nearest" goes on with the edge, "zero" is
        dry, "nan" is missing.
    """

    frames: int = 4
    window: float = 8.0
    levels: int = 4
    iterations: int = 3
    smoothing: float = 8.0
    stiffness: float = 0.05
    blur: float = 0.0
    steps: int = 1
    outside: str = "nearest"

    def __post_init__(self) -> None:
        for name, low in (
            ("frames", 2),
            ("levels", 1),
            ("iterations", 1),
            ("steps", 1),
        ):
            if self[name] < low:
                raise ValueError(f"{name} is at least {low}, found {self[name]}")
        for name in ("window", "smoothing"):
            if not self[name] > 0:
                raise ValueError(f"{name} must be positive, found {self[name]:g}")
        if self.stiffness < 0 or self.blur < 0:
            raise ValueError("stiffness and blur must not be negative")
        if self.outside not in ("nearest", "zero", "nan"):
            raise ValueError(
                f"outside is 'nearest', 'zero' or 'nan', found {self.outside!r}"
            )


def find_motion(frames: np.ndarray, settings: FlowConfig | None = None) -> np.ndarray:
    """Returns how far each cell moves from one frame to the next.

    Args:
      frames: Pixels, NaN where missing: nothing is compared there. The last frame
        last. Shape [time, row, column], at least 2 frames.
      settings: How.

    Returns:
      Cells down and to the right, float64 of shape [2, row, column]; zero where there
      is nothing that moves.

    Raises:
      ValueError: There are fewer than two frames, or other dimensions.
    """
    settings = settings or FlowConfig()
    values = np.asarray(frames, np.float64)
    if values.ndim != 3 or len(values) < 2:
        raise ValueError(
            f"motion needs at least 2 frames [time, row, column], found {values.shape}"
        )
    # Missing pixels stay NaN in coarser frames, and end where frames are compared.
    values = values[-settings.frames :]
    pyramid = [values]
    while (
        len(pyramid) < settings.levels and min(pyramid[-1].shape[1:]) >= 2 * _COARSEST
    ):
        pyramid.append(_halved(pyramid[-1]))
    flow = _whole_shift(pyramid[-1])
    for level in reversed(range(len(pyramid))):
        part = pyramid[level]
        flow = _to_size(flow, part.shape[1:])
        for _ in range(settings.iterations):
            flow = _corrected(part, flow, settings)
    return flow


def advect(
    frame: np.ndarray, flow: np.ndarray, leads: int, settings: FlowConfig | None = None
) -> np.ndarray:
    """Returns a frame moved along a flow that does not change, for each lead.

    Each lead is read from the frame itself, at the end of its way back, so that it is
    smoothed by interpolation once, not once for each lead.

    Args:
      frame: Pixels, shape [row, column]. Missing ones are moved along.
      flow: Cells per frame, from `find_motion`.
      leads: Number of frames.
      settings: How.

    Returns:
      float64 of shape [lead, row, column].
    """
    settings = settings or FlowConfig()
    rows, columns = frame.shape
    start = np.stack(
        np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    ).astype(np.float64)
    place = start.copy()
    found = np.empty((leads, rows, columns))
    for lead in range(leads):
        for _ in range(settings.steps):
            # The middle of the way tells its direction better than its end.
            half = place - 0.5 * _at(flow, place) / settings.steps
            place = place - _at(flow, half) / settings.steps
        found[lead] = _read(frame, place, settings.outside)
    return found


def _corrected(
    frames: np.ndarray, flow: np.ndarray, settings: FlowConfig
) -> np.ndarray:
    """Returns a better flow, by least squares over neighbourhoods.

    Minimises sum w (dt + g . (u - u0))^2 + r |u - m|^2 in each neighbourhood: u0 is the
    flow so far, dt what is left of the change between frames when it is undone, g the
    gradient, m the flow round about.
    """
    terms = _normal_equations(frames, flow, settings)
    window = min(settings.window, min(frames.shape[1:]) / 4)
    yy, xx, yx, yt, xt = (
        scipy.ndimage.gaussian_filter(part, window, mode="constant") for part in terms
    )
    energy = yy + xx
    if energy.max() < _FLAT:
        return flow
    near = _spread(flow, energy, settings)
    ridge = settings.stiffness * energy.max() + _FLAT
    down, across = ridge * (near - flow) - np.stack([yt, xt])
    determinant = (yy + ridge) * (xx + ridge) - yx**2
    step = np.stack(
        [
            ((xx + ridge) * down - yx * across) / determinant,
            ((yy + ridge) * across - yx * down) / determinant,
        ]
    )
    return _spread(flow + np.clip(step, -1.0, 1.0), energy, settings)


def _normal_equations(
    frames: np.ndarray, flow: np.ndarray, settings: FlowConfig
) -> tuple[np.ndarray, ...]:
    """Returns the products of gradients and changes, summed over pairs of frames."""
    missing = np.isnan(frames)
    smooth = np.where(missing, 0.0, frames)
    if settings.blur:
        blur = (0, settings.blur, settings.blur)
        smooth = scipy.ndimage.gaussian_filter(smooth, blur)
    # Gradients beside missing pixels are those of a hole.
    holes = scipy.ndimage.maximum_filter(missing.astype(np.float64), (1, 3, 3))
    rows, columns = frames.shape[1:]
    grid = np.stack(np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij"))
    place = grid - flow
    # Over the edges nothing can be compared, nor are gradients right beside them.
    known = np.ones((rows, columns), bool)
    for axis, size in enumerate((rows, columns)):
        for where in (place[axis], grid[axis]):
            known &= (where >= 1) & (where <= size - 2)
    total = np.zeros((5, rows, columns))
    pairs = zip(itertools.pairwise(smooth), itertools.pairwise(holes))
    for (before, after), (hole, other) in pairs:
        moved = _read(np.asarray(before), place, "nearest")
        whole = known & (_read(np.asarray(hole), place, "nearest") == 0) & (other == 0)
        dy, dx = np.gradient(0.5 * (moved + after))
        dt = after - moved
        # Rain that grows or decays is no motion, and says little.
        changes = np.abs(dt[whole & (dt != 0)])
        usual = float(np.median(changes)) if changes.size else 0.0
        weight = whole / (1 + (dt / (2 * usual + _FLAT)) ** 2)
        parts = (dy * dy, dx * dx, dy * dx, dy * dt, dx * dt)
        total += np.stack(parts) * weight
    return tuple(total)


def _spread(flow: np.ndarray, energy: np.ndarray, settings: FlowConfig) -> np.ndarray:
    """Returns a flow that is smooth, and goes on from where it is known well."""
    length = min(settings.smoothing, min(energy.shape) / 4)
    trust = np.stack([energy, *(flow * energy)])
    wide = scipy.ndimage.gaussian_filter(trust, (0, length, length), mode="constant")
    # Far from all rain the motion of the whole picture is what is left.
    far = 0.05 * energy.mean()
    mean = trust[1:].mean(axis=(1, 2), keepdims=True) / energy.mean()
    return (wide[1:] + far * mean) / (wide[0] + far)


def _whole_shift(frames: np.ndarray) -> np.ndarray:
    """Returns the one shift that all frames agree on best, as a flow.

    The correlations of all pairs are added before the highest is looked for.
    """
    rows, columns = frames.shape[1:]
    window = np.hanning(rows + 2)[1:-1, np.newaxis] * np.hanning(columns + 2)[1:-1]
    window = window * ~np.isnan(frames).any(axis=0)
    frames = np.nan_to_num(frames)
    waves = np.fft.rfft2((frames - frames.mean(axis=(1, 2), keepdims=True)) * window)
    cross = (np.conj(waves[:-1]) * waves[1:]).sum(0)
    found = np.fft.irfft2(cross, (rows, columns))
    if not found.max() > _FLAT:
        return np.zeros((2, rows, columns))
    place = np.unravel_index(int(np.argmax(found)), found.shape)
    shift = [
        int(at) - size if at > size // 2 else int(at)
        for at, size in zip(place, (rows, columns))
    ]
    # A shift of half the picture is chance.
    if any(abs(s) > size // 3 for s, size in zip(shift, (rows, columns))):
        shift = [0, 0]
    return np.broadcast_to(
        np.array(shift, np.float64)[:, np.newaxis, np.newaxis], (2, rows, columns)
    ).copy()


def _halved(frames: np.ndarray) -> np.ndarray:
    """Returns frames with the means of four cells, edges repeated where odd."""
    rows, columns = frames.shape[1:]
    padded = np.pad(frames, ((0, 0), (0, rows % 2), (0, columns % 2)), "edge")
    parts = padded.reshape(len(frames), padded.shape[1] // 2, 2, -1, 2)
    return parts.mean(axis=(2, 4))


def _to_size(flow: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Returns a flow on a finer grid, in its cells."""
    if flow.shape[1:] == tuple(shape):
        return flow
    rows, columns = shape
    place = np.meshgrid(
        (np.arange(rows) + 0.5) * flow.shape[1] / rows - 0.5,
        (np.arange(columns) + 0.5) * flow.shape[2] / columns - 0.5,
        indexing="ij",
    )
    finer = [
        scipy.ndimage.map_coordinates(part, place, order=1, mode="nearest")
        for part in flow
    ]
    # One coarse cell is two finer ones, but for rounding at odd sizes.
    return np.stack(finer) * np.rint(rows / flow.shape[1])


def _at(flow: np.ndarray, place: np.ndarray) -> np.ndarray:
    return np.stack(
        [
            scipy.ndimage.map_coordinates(part, place, order=1, mode="nearest")
            for part in flow
        ]
    )


def _read(frame: np.ndarray, place: np.ndarray, outside: str) -> np.ndarray:
    """Returns a frame at places between its cells."""
    if outside == "nearest":
        return scipy.ndimage.map_coordinates(frame, place, order=1, mode="nearest")
    value = 0.0 if outside == "zero" else np.nan
    found = scipy.ndimage.map_coordinates(frame, place, order=1, mode="nearest")
    rows, columns = frame.shape
    beyond = (place[0] < -0.5) | (place[0] > rows - 0.5)
    beyond |= (place[1] < -0.5) | (place[1] > columns - 0.5)
    return np.where(beyond, value, found)
