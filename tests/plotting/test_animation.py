import subprocess
import sys

import numpy as np
import PIL.Image
import pytest

from tests.plotting.fields import field
from weatherlib import plotting
from weatherlib.plotting import animation


def test_a_gif_has_one_moving_picture_per_time(tmp_path):
    panels = {"Truth": field(times=3), "Forecast": field(times=3) + 1}
    path = plotting.save_animation(tmp_path / "a.gif", panels)
    with PIL.Image.open(path) as movie:
        assert movie.n_frames == 3
        pictures = []
        for number in range(3):
            movie.seek(number)
            pictures.append(np.asarray(movie.convert("RGB")).astype(int))
    assert np.abs(pictures[0] - pictures[2]).max() > 50
    assert [p.name for p in tmp_path.iterdir()] == ["a.gif"]


def test_a_map_alone_has_one_title(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(animation, "save_frames", lambda _, figures, **__: (
        drawn.extend(figures)))  # fmt: skip
    plotting.save_animation(tmp_path / "a.gif", {"Forecast": field(times=1)})
    both = {"Truth": field(times=1), "Forecast": field(times=1)}
    plotting.save_animation(tmp_path / "b.gif", both)
    alone, pair = ([axes.get_title() for axes in f.axes[:2]] for f in drawn)
    assert alone == ["", ""] and pair == ["Truth", "Forecast"]


def test_an_mp4_is_written(tmp_path):
    path = plotting.save_animation(tmp_path / "a.mp4", {"a": field(times=2)})
    assert b"ftyp" in path.read_bytes()[:16]


def test_without_its_package_an_mp4_says_what_to_install(tmp_path):
    code = f"""
import sys
sys.modules["imageio_ffmpeg"] = None
from tests.plotting.fields import field
from weatherlib import plotting
try:
    plotting.save_animation({str(tmp_path / "a.mp4")!r}, {{"a": field(times=1)}})
except ImportError as error:
    print(error)
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert "[mp4]" in result.stdout


@pytest.mark.parametrize(
    ("name", "panels", "message"),
    [
        ("a.avi", {"a": field(times=1)}, "written as .gif or .mp4"),
        ("a.gif", {}, "same times"),
        ("a.gif", {"a": field(times=1), "b": field(times=2)}, "same times"),
        ("a.gif", {"a": field()}, "same times"),
    ],
)
def test_what_cannot_be_animated_is_refused(tmp_path, name, panels, message):
    with pytest.raises(ValueError, match=message):
        plotting.save_animation(tmp_path / name, panels)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(path, frames, frames_per_second):
        path.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(animation._WRITERS, ".gif", full)
    with pytest.raises(OSError, match="No space left"):
        plotting.save_animation(tmp_path / "a.gif", {"a": field(times=1)})
    assert not list(tmp_path.iterdir())
