import matplotlib.figure
import numpy as np
import PIL.Image
import pytest
import xarray

from weatherlib.data import synthetic
from weatherlib.evaluation import nowcast_references, nowcasts
from weatherlib.plotting import nowcasts as pictures
from weatherlib.plotting import save_figure


@pytest.fixture(scope="module")
def frames():
    return synthetic.synthetic_radar(frames=7, rows=24, columns=24)["vil"].values


def test_colours_are_the_published_ranges():
    colormap, norm = pictures.vil_colormap()
    shown = {
        pixel: tuple(np.rint(255 * np.array(colormap(norm(pixel))[:3])).astype(int))
        for pixel in (0, 15.9, 16, 73, 74, 100, 133, 160, 181, 219, 254)
    }
    assert shown == {
        0: (77, 77, 77),
        15.9: (77, 77, 77),
        16: (40, 190, 40),
        73: (10, 105, 10),
        74: (10, 75, 10),
        100: (245, 245, 0),
        133: (237, 172, 0),
        160: (240, 110, 0),
        181: (160, 0, 0),
        219: (231, 0, 255),
        254: (231, 0, 255),
    }
    assert colormap(np.ma.masked_invalid([np.nan]))[0, :3].tolist() == [0, 0, 0]
    assert len(pictures.VIL_LEVELS) == len(pictures.VIL_COLORS) + 1


def _panels(figure):
    """Returns name and title of every picture, row by row."""
    found, row = [], ""
    for axes in figure.axes:
        if axes.images:
            row = axes.get_ylabel() or row
            found.append((row, axes.get_title()))
    return found


def test_context_truth_mean_and_members_have_a_row_each(frames):
    context, target = frames[:4], frames[4:]
    ensemble = np.stack([target + n for n in range(5)])
    figure = pictures.draw_nowcast(
        context,
        target,
        {"drawn": ensemble, "persistence": np.repeat(context[-1:], 3, 0)},
        members=2,
    )
    rows = dict.fromkeys(name for name, _ in _panels(figure))
    assert list(rows) == [
        "context",
        "truth",
        "drawn, mean",
        "drawn, member 1",
        "drawn, member 2",
        "persistence",
    ]
    titles = [title for name, title in _panels(figure) if name == "context"]
    assert titles == ["-15 min", "-10 min", "-5 min", "now"]
    titles = [title for name, title in _panels(figure) if name == "truth"]
    assert titles == ["+5 min", "+10 min", "+15 min"]
    mean = next(a for a in figure.axes if a.get_ylabel() == "drawn, mean").images[0]
    np.testing.assert_allclose(mean.get_array(), target[0] + 2)


def test_long_rows_are_thinned_and_keep_their_last_frame(frames):
    figure = pictures.draw_nowcast(
        frames[:2], None, {"a": np.repeat(frames, 3, 0)}, columns=5, step_minutes=10
    )
    titles = [title for name, title in _panels(figure) if name == "a"]
    assert len(titles) == 5
    assert (titles[0], titles[-1]) == ("+10 min", "+210 min")


def test_pictures_can_be_written(frames, tmp_path):
    holed = frames.copy()
    holed[:, :5] = np.nan
    figure = pictures.draw_nowcast(holed[:4], holed[4:], {}, title="rain")
    path = save_figure(figure, tmp_path / "nowcast.png")
    with PIL.Image.open(path) as picture:
        colours = {c for _, c in picture.convert("RGB").getcolors(1 << 24)}
    assert {(0, 0, 0), (77, 77, 77)} <= colours


def test_a_moving_picture_shows_what_is_known_and_then_what_follows(frames, tmp_path):
    path = pictures.save_nowcast_animation(
        tmp_path / "n.gif",
        frames[:4],
        frames[4:],
        {"drawn": np.stack([frames[4:]] * 3)},
        title="rain",
    )
    with PIL.Image.open(path) as movie:
        assert movie.n_frames == 7
        pictures_seen = []
        for number in (0, 6):
            movie.seek(number)
            pictures_seen.append(np.asarray(movie.convert("RGB")).astype(int))
    assert np.abs(pictures_seen[0] - pictures_seen[1]).max() > 50
    assert [p.name for p in tmp_path.iterdir()] == ["n.gif"]


@pytest.mark.parametrize(
    ("context", "forecasts", "message"),
    [
        (np.zeros((2, 8, 8)), {"a": np.zeros((3, 8, 9))}, "a: expected frames"),
        (np.zeros((2, 8, 8)), {"a": np.zeros((8, 8))}, "with members before"),
        (np.zeros((8, 8)), {"a": np.zeros((3, 8, 8))}, "context: expected"),
        (np.zeros((2, 8, 8)), {"a": np.zeros((0, 8, 8))}, "a: expected frames"),
    ],
)
def test_frames_that_do_not_fit_are_refused(context, forecasts, message):
    with pytest.raises(ValueError, match=message):
        pictures.draw_nowcast(context, None, forecasts)


def test_films_need_as_many_frames_each(frames, tmp_path):
    with pytest.raises(ValueError, match="as many frames each"):
        pictures.save_nowcast_animation(
            tmp_path / "n.gif", frames[:2], frames[2:4], {"a": frames[2:5]}
        )
    with pytest.raises(ValueError, match="neither truth nor a forecast"):
        pictures.save_nowcast_animation(tmp_path / "n.gif", frames, None, {})
    with pytest.raises(ValueError, match=r"written as \.gif or \.mp4"):
        pictures.save_nowcast_animation(tmp_path / "n.avi", frames, frames, {})
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def scores(frames):
    class Samples:
        config = type("Config", (), {"inputs": 4, "targets": 3})
        step = np.timedelta64(5, "m")
        cell_km = 2.0

        def __len__(self):
            return 1

        def pixels(self, number):
            return frames

    def drawn(context, leads):
        last = nowcast_references.persistence(context, leads)
        return np.stack([np.roll(last, n, -1) for n in range(3)])

    return nowcasts.evaluate_nowcasts(
        {"drawn": drawn, "persistence": nowcast_references.persistence},
        Samples(),
        nowcasts.NowcastConfig(thresholds=(16, 74), pools=(1,)),
    )


def test_scores_have_a_panel_for_each_threshold_and_their_mean(scores):
    csi = scores["csi"].sel(pool=1)
    figure = pictures.draw_nowcast_scores(csi)
    assert isinstance(figure, matplotlib.figure.Figure)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["pixels ≥ 16", "pixels ≥ 74", "mean"]
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert set(lines) == {"drawn", "drawn (members)", "persistence"}
    np.testing.assert_allclose(lines["drawn"].get_xdata(), [5, 10, 15])
    np.testing.assert_allclose(
        lines["drawn"].get_ydata(), csi.sel(model="drawn", threshold=16)
    )
    assert figure.get_suptitle() == "critical success index"
    alone = pictures.draw_nowcast_scores(scores["rmse"], models=["persistence"])
    assert [line.get_label() for line in alone.axes[0].lines] == ["persistence"]
    for wrong in (scores["csi"], scores["rmse"].isel(model=0)):
        with pytest.raises(ValueError, match="dimensions model and lead_time"):
            pictures.draw_nowcast_scores(wrong)


def test_spectra_of_members_and_of_their_mean_are_told_apart(scores):
    figure = pictures.draw_radial_spectra(scores)
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert list(lines) == ["truth", "drawn", "drawn, mean", "persistence"]
    drawn = scores.sel(model="drawn").isel(lead_time=-1)
    np.testing.assert_allclose(
        lines["drawn"].get_ydata(), drawn["forecast_radial_spectrum"]
    )
    np.testing.assert_allclose(
        lines["drawn, mean"].get_ydata(), drawn["mean_radial_spectrum"]
    )
    np.testing.assert_allclose(lines["truth"].get_xdata(), 48 / np.arange(1, 13))
    assert figure.axes[0].get_title() == "Power by wavelength at 15 min"
    with pytest.raises(ValueError, match="spectra are truth_radial_spectrum"):
        pictures.draw_radial_spectra(xarray.Dataset({"rmse": 1.0}))
