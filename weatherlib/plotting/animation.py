"""Moving maps: GIF by Pillow, MP4 where imageio-ffmpeg is installed."""

from __future__ import annotations

import contextlib
import os
import pathlib
import subprocess
from collections.abc import Iterable, Iterator, Mapping

import matplotlib.backends.backend_agg
import matplotlib.figure
import numpy as np
import PIL.Image
import xarray

from weatherlib import optional, writing
from weatherlib.plotting import grid, maps, sheets, styles, views

__all__ = ["save_animation", "save_frames"]

_WIDTH = 6.0
_DPI = 80


def save_animation(
    path: str | os.PathLike[str],
    panels: Mapping[str, xarray.DataArray],
    *,
    title: str = "",
    frames_per_second: float = 4.0,
    view: views.View | None = None,
) -> pathlib.Path:
    """Writes moving maps on one colour scale, whole or not at all.

    Args:
      path: Ends in `.gif` or `.mp4`; the latter needs the `mp4` extra.
      panels: Title of each map, not shown where it is the only one, and its field with
        dimensions `time`, `lat` and `lon`, others of size 1, in SI units. All have the
        same times.
      title: Default: name and level of the first field.
      frames_per_second: Speed. The last frame stays for a second.
      view: The map, as for `maps.draw_field`.

    Returns:
      The path.

    Raises:
      ValueError: Another suffix, no panels, or panels with different numbers of times.
      ImportError: MP4 without its package, saying what to install.
      OSError: The folder is missing or not writable, or the disk is full.
    """
    path = _checked(path)
    times = {
        name: grid.named(field).sizes.get("time", 0) for name, field in panels.items()
    }
    if len(set(times.values())) != 1 or not min(times.values()):
        raise ValueError(f"panels of an animation need the same times, found {times}")
    named = {name: grid.named(field) for name, field in panels.items()}
    figures = _figures(named, title, view)
    return save_frames(path, figures, frames_per_second=frames_per_second)


def save_frames(
    path: str | os.PathLike[str],
    figures: Iterable[matplotlib.figure.Figure],
    *,
    frames_per_second: float = 4.0,
) -> pathlib.Path:
    """Writes figures of one size as a moving picture, whole or not at all.

    Args:
      path: Ends in `.gif` or `.mp4`; the latter needs the `mp4` extra.
      figures: One for each frame, drawn one after the other.
      frames_per_second: Speed. The last frame stays for a second.

    Returns:
      The path.

    Raises:
      ValueError: Another suffix.
      ImportError: MP4 without its package, saying what to install.
      OSError: The folder is missing or not writable, or the disk is full.
    """
    path = _checked(path)
    frames = (_render(figure) for figure in figures)
    with writing.replacing(path) as partial:
        _WRITERS[path.suffix.lower()](partial, frames, frames_per_second)
    return path


def _checked(path: str | os.PathLike[str]) -> pathlib.Path:
    """Returns the path of a moving picture.

    Raises:
      ValueError: It has another suffix.
    """
    path = pathlib.Path(path)
    if path.suffix.lower() not in _WRITERS:
        raise ValueError(f"{path.name}: animations are written as .gif or .mp4")
    return path


def _figures(
    panels: dict[str, xarray.DataArray], title: str, view: views.View | None
) -> Iterator[matplotlib.figure.Figure]:
    """Yields pictures of all panels, time by time."""
    first = next(iter(panels.values()))
    style = styles.find(first)
    shown = {n: style.show(f, difference=False) for n, f in panels.items()}
    norm = styles.normalize(list(shown.values()), style)
    for index in range(first.sizes["time"]):
        figure, axes = sheets.panel_figure(
            1, len(shown), first, width=_WIDTH, view=view
        )
        for one, (name, field) in zip(axes, shown.items()):
            mappable = maps.draw_field(
                one,
                field.isel(time=index),
                norm=norm,
                colormap=style.colormap,
                contours=style.contours,
                view=view,
            )
            if len(shown) > 1:
                one.set_title(name, fontsize=10)
        sheets.add_colorbar(figure, mappable, axes, next(iter(shown.values())))
        name = title or styles.label(first)
        when = styles.valid_label(first.isel(time=index))
        figure.suptitle(", ".join(filter(None, [name, when])), fontsize=12)
        yield figure


def _render(figure: matplotlib.figure.Figure) -> np.ndarray:
    """Returns the picture of a figure, uint8 of even shape [row, column, 3]."""
    figure.set_dpi(_DPI)
    canvas = matplotlib.backends.backend_agg.FigureCanvasAgg(figure)
    canvas.draw()
    picture = np.asarray(canvas.buffer_rgba())[..., :3]
    rows, columns = (size // 2 * 2 for size in picture.shape[:2])
    return picture[:rows, :columns].copy()


def _write_gif(
    path: pathlib.Path, frames: Iterator[np.ndarray], frames_per_second: float
) -> None:
    # One palette, taken from the first picture: a palette per frame flickers.
    first = PIL.Image.fromarray(next(frames)).quantize(255, dither=_NO_DITHER)
    rest = [
        PIL.Image.fromarray(frame).quantize(palette=first, dither=_NO_DITHER)
        for frame in frames
    ]
    pause = round(1000 / frames_per_second)
    first.save(
        path,
        format="GIF",
        save_all=True,
        append_images=rest,
        duration=[pause] * len(rest) + [max(1000, pause)],
        loop=0,
    )


def _write_mp4(
    path: pathlib.Path, frames: Iterator[np.ndarray], frames_per_second: float
) -> None:
    ffmpeg = optional.require("imageio_ffmpeg", extra="mp4").get_ffmpeg_exe()
    frame = next(frames)
    rows, columns, _ = frame.shape
    command = [ffmpeg, "-y", "-loglevel", "error"]
    command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{columns}x{rows}"]
    command += ["-r", str(frames_per_second), "-i", "-", "-an"]
    command += ["-vcodec", "libx264", "-pix_fmt", "yuv420p", "-crf", "20"]
    command += ["-f", "mp4", str(path)]
    # The package's own writer forks, which processes that use JAX must not.
    with subprocess.Popen(  # noqa: S603 (our own arguments, no shell)
        command, stdin=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        if process.stdin is None or process.stderr is None:
            raise RuntimeError("the encoder was started without pipes")
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(frame.tobytes())
            for frame in frames:
                process.stdin.write(frame.tobytes())
            for _ in range(max(1, round(frames_per_second))):
                process.stdin.write(frame.tobytes())
            process.stdin.close()
        said = process.stderr.read().decode(errors="replace").strip()
    if process.returncode:
        raise OSError(f"{path.name} could not be encoded: {said or 'no reason given'}")


_NO_DITHER = PIL.Image.Dither.NONE
_WRITERS = {".gif": _write_gif, ".mp4": _write_mp4}
