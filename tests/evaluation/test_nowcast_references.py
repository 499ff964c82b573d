import dataclasses
import sys
import types

import numpy as np
import pytest
import scipy.ndimage

from tests.evaluation import samples as real_data
from weatherlib import optional
from weatherlib.data import (
    radar,
    radar_grid,
    radar_sequences,
    radar_series,
    radar_units,
    synthetic,
)
from weatherlib.evaluation import extrapolation, nowcast_references, nowcasts


def _moving(shift, frames=5, side=64, seed=0):
    """Returns frames of one pattern that moves by some cells each."""
    generator = np.random.default_rng(seed)
    big = scipy.ndimage.gaussian_filter(generator.normal(size=(3 * side, 3 * side)), 3)
    big = np.clip(big / big.std() * 60, 0, 254)
    rows, columns = np.meshgrid(*[np.arange(side) + side] * 2, indexing="ij")
    return np.stack(
        [
            scipy.ndimage.map_coordinates(
                big, [rows - shift[0] * n, columns - shift[1] * n], order=1
            )
            for n in range(frames)
        ]
    )


@pytest.mark.parametrize("shift", [(0.0, 0.0), (1.5, -0.75), (-6.0, 9.0), (0.3, 3.0)])
def test_motion_of_a_pattern_is_found_to_a_tenth_of_a_cell(shift):
    flow = extrapolation.find_motion(_moving(shift))
    inner = flow[:, 12:-12, 12:-12]
    expected = np.broadcast_to(np.array(shift)[:, None, None], inner.shape)
    assert np.abs(inner - expected).mean() < 0.1


def test_the_edge_of_what_the_radar_sees_does_not_stop_the_rain():
    frames = _moving((1.0, -2.0), seed=1)
    rows, columns = np.mgrid[:64, :64]
    unseen = np.hypot(rows - 32, columns - 32) > 24
    frames[:, unseen] = np.nan
    # And a hole in one frame alone.
    frames[2, 24:34, 30:40] = np.nan
    found = extrapolation.find_motion(frames)[:, ~unseen].mean(1)
    np.testing.assert_allclose(found, [1.0, -2.0], atol=0.05)


def test_motion_that_differs_from_place_to_place_is_found():
    frames = _moving((0, 0), frames=1, side=96)[0]
    turned = np.stack(
        [
            scipy.ndimage.rotate(frames, 1.5 * n, reshape=False, order=1)
            for n in range(5)
        ]
    )
    flow = extrapolation.find_motion(turned)
    offset = np.arange(96) - 47.5
    angle = np.deg2rad(1.5)
    inner = slice(24, 72)
    down = np.broadcast_to(-angle * offset, (96, 96))
    right = np.broadcast_to(angle * offset[:, None], (96, 96))
    for found, expected in zip(flow, (down, right)):
        likeness = np.corrcoef(
            found[inner, inner].ravel(), expected[inner, inner].ravel()
        )
        assert likeness[0, 1] > 0.9


def test_nothing_does_not_move():
    assert (extrapolation.find_motion(np.zeros((3, 32, 32))) == 0).all()
    assert (extrapolation.find_motion(np.full((3, 32, 32), 7.0)) == 0).all()


def test_a_frame_is_moved_along_the_flow():
    frames = _moving((2.0, -3.0), frames=4)
    flow = np.broadcast_to(np.array([2.0, -3.0])[:, None, None], (2, 64, 64))
    moved = extrapolation.advect(frames[0], flow, 3)
    for lead in range(3):
        np.testing.assert_allclose(
            moved[lead][12:-12, 12:-12], frames[lead + 1][12:-12, 12:-12], atol=1e-9
        )


@pytest.mark.parametrize(
    ("outside", "expected"), [("nearest", 5.0), ("zero", 0.0), ("nan", np.nan)]
)
def test_what_comes_over_the_edges_is_a_choice(outside, expected):
    flow = np.zeros((2, 8, 8))
    flow[1] = 3.0
    settings = extrapolation.FlowConfig(outside=outside)
    moved = extrapolation.advect(np.full((8, 8), 5.0), flow, 1, settings)[0]
    np.testing.assert_array_equal(moved[:, :3], expected)
    np.testing.assert_array_equal(moved[:, 3:], 5.0)


def test_along_a_turning_flow_nothing_spirals_outwards():
    offset = np.arange(65) - 32.0
    angle = np.deg2rad(10)
    flow = np.stack(
        [
            np.broadcast_to(angle * offset, (65, 65)),
            np.broadcast_to(-angle * offset[:, None], (65, 65)),
        ]
    )
    frame = np.zeros((65, 65))
    frame[30:35, 50:55] = 100.0
    moved = extrapolation.advect(frame, flow, 9)[-1]
    rows, columns = scipy.ndimage.center_of_mass(moved)
    # A quarter of a turn, down from the right.
    np.testing.assert_allclose([rows, columns], [52, 32], atol=1.5)


def test_extrapolation_beats_persistence_on_made_up_rain():
    errors = []
    for seed in range(3):
        series = synthetic.synthetic_radar(frames=10, rows=64, columns=64, seed=seed)[
            "vil"
        ].values
        context, truth = series[None, :7], series[7:]
        found = [
            nowcast(context, 3)[0]
            for nowcast in (
                nowcast_references.persistence,
                nowcast_references.Extrapolation(),
            )
        ]
        errors.append([np.sqrt(((f - truth) ** 2).mean()) for f in found])
    errors = np.array(errors)
    assert (errors[:, 1] < 0.92 * errors[:, 0]).all()


def test_missing_pixels_count_as_dry():
    context = _moving((1.0, 1.0))[None].copy()
    context[0, :, :8] = np.nan
    for nowcast in (nowcast_references.persistence, nowcast_references.Extrapolation()):
        found = nowcast(context, 2)
        assert found.shape == (1, 2, 64, 64)
        assert np.isfinite(found).all()
    np.testing.assert_array_equal(
        nowcast_references.persistence(context, 2)[0, 1],
        np.nan_to_num(context[0, -1]),
    )


@pytest.mark.parametrize(
    ("context", "message"),
    [
        (np.zeros((4, 8, 8)), "context: expected at least"),
        (np.zeros((1, 1, 8, 8)), "at least 2 frame"),
        (np.full((1, 3, 8, 8), np.nan), "every pixel of frame 0 of sample 0"),
    ],
)
def test_a_context_that_cannot_be_used_is_refused(context, message):
    with pytest.raises(ValueError, match=message):
        nowcast_references.Extrapolation()(context, 2)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"frames": 1}, "frames is at least 2"),
        ({"window": 0.0}, "window must be positive"),
        ({"outside": "wrap"}, "outside is 'nearest'"),
        ({"stiffness": -1.0}, "must not be negative"),
    ],
)
def test_settings_that_make_no_sense_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        extrapolation.FlowConfig(**fields)
    with pytest.raises(ValueError, match="at least 2 frames"):
        extrapolation.find_motion(np.zeros((1, 8, 8)))


def test_without_pysteps_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pysteps", None)
    with pytest.raises(ImportError, match=r"pip install .*\[nowcast\]'"):
        nowcast_references.PystepsExtrapolation()(np.zeros((1, 3, 8, 8)), 2)


def _steps():
    return nowcast_references.PystepsSteps(
        members=3,
        minutes=5,
        cell_km=2.0,
        to_rain=radar_units.pixels_to_rain,
        from_rain=radar_units.rain_to_pixels,
        levels=4,
    )


@pytest.fixture
def stub(monkeypatch):
    """Puts functions with the signatures of pysteps in its place."""
    seen = {}

    def motion(frames, **options):
        seen["options"] = options
        seen["frames"] = frames
        return np.zeros((2, *frames.shape[1:]))

    def extrapolate(frame, flow, leads):
        moved = np.repeat(frame[None], leads, 0)
        moved[:, 0] = np.nan
        return moved

    def steps(rain, flow, leads, **options):
        seen["steps"] = options
        assert rain.shape[0] == 3
        members = np.repeat(rain[-1][None], leads, 0)
        return np.stack([members] * options["n_ens_members"])

    methods = {
        "motion": types.SimpleNamespace(get_method=lambda name: motion),
        "nowcasts": types.SimpleNamespace(
            get_method=lambda name: {"extrapolation": extrapolate, "steps": steps}[name]
        ),
    }
    monkeypatch.setattr(
        optional, "require", lambda name, extra: methods[name.partition(".")[2]]
    )
    return seen


def test_pysteps_gets_pixels_and_what_comes_in_is_dry(stub):
    context = _moving((0, 0))[None]
    nowcast = nowcast_references.PystepsExtrapolation("VET", {"sectors": 2})
    found = nowcast(context, 2)
    assert stub["options"] == {"sectors": 2}
    np.testing.assert_array_equal(stub["frames"], context[0])
    np.testing.assert_array_equal(found[0, 1, 1:], context[0, -1, 1:])
    assert (found[0, :, 0] == 0).all()


def test_steps_get_decibels_of_rain_and_give_pixels(stub):
    context = np.rint(_moving((0, 0)))[None]
    found = _steps()(context, 2)
    assert found.shape == (3, 1, 2, 64, 64)
    assert stub["steps"]["kmperpixel"] == 2.0
    assert stub["steps"]["timestep"] == 5
    wet = context[0, -1] > 10
    np.testing.assert_allclose(found[1, 0, 1][wet], context[0, -1][wet], atol=1)
    assert (found[..., ~wet] < 12).all()
    assert (_steps()(context * 0, 2) == 0).all()


def test_noise_of_steps_follows_from_the_frames_and_the_seed(stub):
    first, second = _moving((0, 0))[None], _moving((1.0, 0))[None]
    seeds = []
    for context in (second, np.concatenate([first, second]), first):
        _steps()(context, 2)
        seeds.append(stub["steps"]["seed"])
    assert seeds[0] == seeds[1] != seeds[2]
    dataclasses.replace(_steps(), seed=1)(first, 2)
    assert stub["steps"]["seed"] not in seeds


def test_pysteps_itself_moves_rain_as_we_do():
    pytest.importorskip("pysteps")
    frames = np.rint(_moving((1.0, -2.0), frames=8))[None]
    ours = nowcast_references.Extrapolation()(frames[:, :5], 3)
    theirs = nowcast_references.PystepsExtrapolation()(frames[:, :5], 3)
    inner = (0, slice(None), slice(12, -12), slice(12, -12))
    for found in (ours, theirs):
        error = np.sqrt(((found - frames[:, 5:])[inner] ** 2).mean())
        still = np.sqrt(((frames[:, 4:5] - frames[:, 5:])[inner] ** 2).mean())
        assert error < 0.3 * still
    members = _steps()(frames[:, :5], 2)
    assert members.shape == (3, 1, 2, 64, 64)
    assert (members[0] != members[1]).any()


def test_real_rain_is_extrapolated_better_than_left():
    stored = radar.open_radar(
        real_data.real("radar_knmi_nl_5min_rain_20100826T0000-0455.nc")
    )
    config = radar_sequences.SequenceConfig(stride=13)
    found = radar_series.series_sequences(
        radar_grid.crop(stored, 128), config, end="2010-08-26T02:15"
    )
    scores = nowcasts.evaluate_nowcasts(
        {
            "persistence": nowcast_references.persistence,
            "extrapolation": nowcast_references.Extrapolation(),
        },
        found,
        nowcasts.NowcastConfig(thresholds=(16, 74), pools=(1,)),
    )
    csi = scores["csi"].sel(pool=1, threshold=16)
    assert (csi.sel(model="extrapolation") > csi.sel(model="persistence") + 0.05).all()
    rmse = scores["rmse"]
    better = rmse.sel(model="extrapolation") < 0.8 * rmse.sel(model="persistence")
    assert better.all()
