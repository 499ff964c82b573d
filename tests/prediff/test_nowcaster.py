"""Tests of PreDiff as a nowcaster of radar pixels, and of the files it is made of."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.prediff import stage_cases
from weatherlib import diffusion, prediff
from weatherlib.evaluation import nowcast_references, nowcasts
from weatherlib.prediff import latent_stage, stage_config, stages

CONFIG = stage_cases.DENOISER


@pytest.fixture(autouse=True, scope="module")
def toy():
    """Puts functions without networks in place of those that take long to compile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latent_stage, "forecast_model", stage_cases.toy_model)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the files of all stages."""
    folder = tmp_path_factory.mktemp("stages")
    for name, config in (
        (stage_config.PREDIFF_AUTOENCODER, stage_cases.AUTOENCODER),
        (stage_config.PREDIFF_DENOISER, CONFIG),
        (stage_config.PREDIFF_ALIGNMENT, stage_cases.ALIGNMENT),
    ):
        weights = stage_cases.params(config)
        stage_cases.save(folder / f"{name}.npz", config, weights, name)
    return folder


@pytest.fixture(scope="module")
def nowcast(folder):
    """A nowcaster of five members, two at a time."""
    return prediff.open_nowcaster(folder / "prediff.npz", members=5, members_at_once=2)


def _context(batch=2, frames=stage_cases.PAST, seed=0):
    return stage_cases.pixels(batch, frames, seed)


def test_members_are_pixels_that_differ_and_can_be_repeated(folder, nowcast):
    found = nowcast(_context(), 2)
    assert found.shape == (5, 2, 2, 8, 8)
    assert found.dtype == np.float32
    assert found.min() >= 0 and found.max() <= 255
    for one in range(5):
        for other in range(one):
            assert np.abs(found[one] - found[other]).max() > 1
    np.testing.assert_array_equal(nowcast(_context(), 2), found)
    again = prediff.open_nowcaster(folder / "prediff.npz", members=2, seed=1)
    assert np.abs(again(_context(), 2) - found[:2]).max() > 1
    same = prediff.open_nowcaster(folder / "prediff.npz", members=2)
    np.testing.assert_allclose(same(_context(), 2), found[:2], atol=0.02)


def test_only_the_last_frames_count_and_fewer_leads_are_cut(nowcast):
    found = nowcast(_context(frames=5), 1)
    np.testing.assert_allclose(
        found, nowcast(_context(frames=5)[:, 2:], 2)[:, :, :1], atol=1e-3
    )


def test_one_trace_serves_all_contexts_and_leads_of_a_shape(folder, monkeypatch):
    traced = []

    def make(config, **options):
        model = stage_cases.toy_model(config, **options)

        def denoise(params, noisy, *rest):
            traced.append(noisy.shape)
            return model.denoise(params, noisy, *rest)

        return dataclasses.replace(model, denoise=denoise)

    monkeypatch.setattr(latent_stage, "forecast_model", make)
    nowcast = prediff.open_nowcaster(
        folder / "prediff.npz", members=3, members_at_once=2
    )
    for seed, leads, batch in ((0, 2, 2), (1, 1, 2), (2, 5, 2), (3, 2, 1)):
        found = nowcast(_context(batch, seed=seed), leads)
        assert found.shape == (3, batch, leads, 8, 8)
    assert traced == [(4, *CONFIG.target_shape)]


def test_later_leads_go_on_from_each_future(nowcast):
    found = nowcast(_context(), 4)
    assert found.shape == (5, 2, 4, 8, 8)
    np.testing.assert_allclose(found[:, :, :2], nowcast(_context(), 2), atol=1e-3)
    assert np.abs(found[0, :, 2:] - found[1, :, 2:]).max() > 1
    assert np.abs(found[:, :, 2:] - found[:, :, :2]).max() > 1


@pytest.mark.parametrize("leads", [2, 4])
def test_draws_follow_from_the_context_and_not_from_the_batch(folder, leads):
    """Also for the later frames, and whatever was drawn before."""
    contexts = _context(3)
    contexts[1] = contexts[2]
    together = prediff.open_nowcaster(
        folder / "prediff.npz", members=3, members_at_once=2
    )(contexts, leads)
    alone = prediff.open_nowcaster(folder / "prediff.npz", members=3, members_at_once=3)
    for place in (0, 2):
        found = alone(contexts[place : place + 1], leads)
        np.testing.assert_allclose(found[:, 0], together[:, place], atol=0.02)
    np.testing.assert_allclose(together[:, 1], together[:, 2], atol=0.02)
    turned = alone(contexts[::-1], leads)
    np.testing.assert_allclose(turned, together[:, ::-1], atol=0.02)
    for member in range(3):
        others = np.delete(together, member, 0)[:, 0]
        assert (np.abs(others - together[member, 0]).max((1, 2, 3)) > 1).all()


def test_contexts_have_noise_of_their_own(nowcast):
    """Two that differ in one pixel are drawn apart by more than that pixel."""
    contexts = _context(1).repeat(2, 0)
    contexts[1, 0, 0, 0] += 1
    found = nowcast(contexts, 2)
    assert np.abs(found[:, 0] - found[:, 1]).max() > 10


def test_missing_pixels_are_dry_and_what_is_never_seen_stays_missing(nowcast):
    dry, holes = _context(), _context()
    dry[0, :, :2], holes[0, :, :2] = 0, np.nan
    dry[1, 0, 3], holes[1, 0, 3] = 0, np.nan
    found, expected = nowcast(holes, 2), nowcast(dry, 2)
    assert np.isnan(found[:, 0, :, :2]).all()
    seen = np.isfinite(found)
    assert seen[:, 1].all() and seen[:, 0, :, 2:].all()
    np.testing.assert_allclose(found[seen], expected[seen], atol=1e-3)


def test_steps_are_told(folder):
    told = []
    nowcast = prediff.open_nowcaster(
        folder / "prediff.npz",
        members=2,
        members_at_once=1,
        sampler=diffusion.SamplerConfig(kind="ddim", steps=4),
        progress=lambda done, total: told.append((done, total)),
    )
    nowcast(_context(1), 2)
    assert sorted(told) == [(i, 8) for i in range(1, 9)]


def test_it_is_scored_beside_persistence(nowcast):
    class Samples:
        config = type("Config", (), {"inputs": 3, "targets": 2})
        step, cell_km = np.timedelta64(5, "m"), 1.0

        def __len__(self):
            return 3

        def pixels(self, number):
            return stage_cases.pixels(1, 5, number)[0]

    found = nowcasts.evaluate_nowcasts(
        {"prediff": nowcast, "persistence": nowcast_references.persistence},
        Samples(),
        nowcasts.NowcastConfig(thresholds=(16,), pools=(1,), neighbourhoods=()),
        batch_size=2,
    )
    names = ["prediff", "prediff (members)", "persistence"]
    assert found["model"].values.tolist() == names
    assert np.isfinite(found["crps"].sel(model="prediff")).all()


def test_a_constraint_in_pixels_moves_the_members(folder):
    def wet(pixels, target):
        return 0.01 * (pixels.mean((1, 2, 3, 4)) - target) ** 2

    open_with = lambda guide: prediff.open_nowcaster(  # noqa: E731
        folder / "prediff.npz", members=3, guide=guide
    )
    free = open_with(None)(_context(), 2).mean((2, 3, 4))
    wanted = np.asarray([250.0, 0.0], np.float32)
    guide = prediff.FrameGuide(
        energy=wet, target=lambda context: wanted[: len(context)]
    )
    found = open_with(guide)(_context(), 2).mean((2, 3, 4))
    assert (found[:, 0] > free[:, 0]).all()
    assert (found[:, 1] < free[:, 1]).all()


def test_pulls_of_several_guides_add_up(folder):
    def wet(pixels, target):
        return 0.005 * (pixels.mean((1, 2, 3, 4)) - target) ** 2

    def run(*guides):
        nowcast = prediff.open_nowcaster(
            folder / "prediff.npz",
            members=2,
            guide=prediff.JointGuide(guides=guides),
        )
        return nowcast(_context(), 2)

    up = prediff.FrameGuide(energy=wet, target=lambda c: np.full(len(c), 250.0))
    twice = prediff.FrameGuide(energy=up.energy, target=up.target, scale=2.0)
    away = prediff.FrameGuide(energy=up.energy, target=up.target, scale=-1.0)
    np.testing.assert_allclose(run(up, up), run(twice), atol=0.05)
    np.testing.assert_allclose(run(up, away), run(), atol=0.05)
    nested = prediff.JointGuide(guides=(up, up))
    np.testing.assert_allclose(run(nested), run(twice), atol=0.05)
    assert np.abs(run(twice) - run()).max() > 1


def test_the_alignment_network_moves_what_it_reads(folder):
    path = folder / "prediff_alignment.npz"
    seen = []

    def wanted(context):
        seen.append(context.shape)
        return context[:, -1].mean((1, 2, 3)) + 200

    guide = prediff.IntensityGuide(path=path, wanted=wanted, scale=500.0)
    nowcast = prediff.open_nowcaster(folder / "prediff.npz", members=2, guide=guide)
    found = nowcast(_context(), 2)
    assert np.isfinite(found).all()
    free = prediff.open_nowcaster(folder / "prediff.npz", members=2)(_context(), 2)
    assert np.abs(found - free).max() > 1
    assert seen == [(2, 3, 8, 8, 1)]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (None, None),
        (51.0, [[0.2], [0.2]]),
        (lambda pixels: 51 + 0 * pixels[:, 0, 0, 0, 0], [[0.2], [0.2]]),
    ],
)
def test_what_is_wanted_is_a_number_for_each_context(folder, wanted, expected):
    guide = prediff.IntensityGuide(
        path=folder / "prediff_alignment.npz", wanted=wanted, scale=7.0
    )
    context = _context()[..., None] / 255
    found = guide.bind(CONFIG, stage_cases.toy_model(CONFIG), {})(context)
    if expected is None:
        expected = context[:, -1].mean((1, 2, 3))[:, None]
    np.testing.assert_allclose(found.target, expected, rtol=1e-5)
    assert found.scale == 7.0
    wrong = prediff.IntensityGuide(path=guide.path, wanted=lambda pixels: pixels)
    with pytest.raises(ValueError, match="one number for each of 2 contexts"):
        wrong.bind(CONFIG, stage_cases.toy_model(CONFIG), {})(context)


def test_a_guide_may_be_a_multiple_of_what_follows(folder):
    """As in the published script, which shows it with twice the mean of the truth."""
    path = folder / "prediff_alignment.npz"
    guide = prediff.IntensityGuide(path=path, truth_factor=2.0)
    bound = guide.bind(CONFIG, stage_cases.toy_model(CONFIG), {})
    context = _context()[..., None] / 255
    truth = np.full((2, 2, 8, 8, 1), 0.1, np.float32)
    truth[1] = 0.3
    truth[1, 0, :4] = np.nan
    found = bound(context, truth)
    np.testing.assert_allclose(found.target, [[0.2], [0.6]], rtol=1e-5)
    with pytest.raises(ValueError, match="which is not known here"):
        bound(context)
    with pytest.raises(ValueError, match="missing as a whole"):
        bound(context, truth * np.nan)
    with pytest.raises(ValueError, match="give one of them"):
        prediff.IntensityGuide(path=path, truth_factor=2.0, wanted=1.0)


def test_what_follows_reaches_the_guide_of_every_round(folder):
    seen = []

    class Told:
        needs_truth = True

        def bind(self, *parts):
            own = prediff.FrameGuide(energy=lambda x, _: 0 * x.sum((1, 2, 3, 4)))
            inner = own.bind(*parts)

            def bound(context, truth):
                seen.append(np.asarray(truth)[..., 0, 0, 0])
                return inner(context)

            return bound

    guide = prediff.JointGuide(guides=(Told(),))
    nowcast = prediff.open_nowcaster(folder / "prediff.npz", members=2, guide=guide)
    assert nowcast.needs_truth
    leads = 2 * CONFIG.output_length
    truth = np.arange(2 * leads, dtype=np.float32).reshape(2, leads, 1, 1)
    truth = np.broadcast_to(truth, (2, leads, 8, 8))
    found = nowcasts.call(nowcast, _context(), truth)
    assert found.shape == (2, 2, leads, 8, 8)
    each = truth[:, :, 0, 0] / 255
    first, later = np.split(each, 2, axis=1)
    np.testing.assert_allclose(seen[0], first, rtol=1e-5)
    np.testing.assert_allclose(seen[1], np.tile(later, (2, 1)), rtol=1e-5)
    free = prediff.open_nowcaster(folder / "prediff.npz", members=2)
    assert not free.needs_truth


def test_a_guide_without_a_number_is_one_clear_error(folder):
    guide = prediff.FrameGuide(
        energy=lambda pixels, _: jnp.sqrt(-jnp.abs(pixels)).sum((1, 2, 3, 4))
    )
    nowcast = prediff.open_nowcaster(folder / "prediff.npz", members=2, guide=guide)
    with pytest.raises(ValueError, match="not finite in step 1 of 3"):
        nowcast(_context(), 2)


def _without(context, *place):
    context[place] = np.nan
    return context


@pytest.mark.parametrize(
    ("context", "leads", "message"),
    [
        (_context(frames=2), 2, r"context has 2 frame\(s\), and the model reads 3"),
        (_context()[..., :6], 2, "frames have 8x6 points, and the model works on 8x8"),
        (_without(_context(), 1, 2), 2, "frame 2 of context 1 has no values at all"),
        (_context()[0], 2, r"found shape \(3, 8, 8\)"),
        (_context(), 0, "leads must be at least 1, found 0"),
    ],
)
def test_a_context_that_cannot_be_gone_on_from_is_refused(
    nowcast, context, leads, message
):
    with pytest.raises(ValueError, match=message):
        nowcast(context, leads)


def test_files_of_other_stages_are_refused(folder, tmp_path):
    with pytest.raises(
        ValueError, match=r"prediff_autoencoder\.npz: holds the autoencoder \(stage 1\)"
    ):
        prediff.open_nowcaster(folder / "prediff_autoencoder.npz")
    with pytest.raises(ValueError, match=r"an alignment network .* is needed"):
        prediff.open_nowcaster(
            folder / "prediff.npz",
            guide=prediff.IntensityGuide(path=folder / "prediff.npz"),
        )
    with pytest.raises(ValueError, match="holds an alignment network"):
        stages.open_autoencoder(folder / "prediff_alignment.npz")
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(ValueError, match="is no checkpoint of PreDiff"):
        stages.open_denoiser(tmp_path / "text.npz")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        stages.open_denoiser(tmp_path / "none.npz")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"digest": "other"}, "latent fields of another autoencoder"),
        ({"scale_factor": 2.0}, "has scale_factor 2.0, and the model 1.0"),
        ({"diffusion": diffusion.DiffusionConfig()}, "another schedule of noise"),
    ],
)
def test_an_alignment_network_of_another_model_is_refused(
    folder, tmp_path, change, message
):
    name, config = stage_config.PREDIFF_ALIGNMENT, stage_cases.ALIGNMENT
    weights = stage_cases.params(config)
    path = stage_cases.save(
        tmp_path / "other.npz", config.replace(**change), weights, name
    )
    with pytest.raises(ValueError, match=message):
        prediff.open_nowcaster(
            folder / "prediff.npz", guide=prediff.IntensityGuide(path=path)
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"members": 0}, "members must be at least 1, found 0"),
        ({"members_at_once": 0}, "members_at_once must be at least 1, found 0"),
        ({"precision": "float16"}, "'float16' is not one of float32, bfloat16"),
        (
            {"sampler": diffusion.SamplerConfig(kind="ddim", steps=21)},
            "sampler.steps 21: the schedule has 20",
        ),
    ],
)
def test_settings_out_of_range_are_refused(folder, options, message):
    with pytest.raises(ValueError, match=message):
        prediff.open_nowcaster(folder / "prediff.npz", **options)


def test_files_come_back_as_they_were_written(folder):
    held = stages.open_denoiser(folder / "prediff.npz")
    assert held.model_config == CONFIG
    weights = stages.published("prediff", jax.device_get(stage_cases.params(CONFIG)))
    assert stage_cases.roots(held.params) == {
        "vae_encoder",
        "vae_decoder",
        "earthformer_unet",
    }
    jax.tree.map(np.testing.assert_array_equal, dict(weights), held.params)


def test_weights_are_told_apart_and_latent_fields_measured():
    weights = jax.device_get(stage_cases.params(CONFIG))
    coder = {m: v for m, v in weights.items() if m.startswith("vae_")}
    assert len(stages.digest(coder)) == 16
    changed = {**coder, "vae_encoder/conv_in": {"w": np.ones(1), "b": np.ones(1)}}
    assert stages.digest(changed) != stages.digest(coder)
    inputs, _, _ = stage_cases.sample()
    spread = stages.latent_spread(CONFIG, coder, inputs)
    latents = np.asarray(
        jax.jit(lambda p, x: _encode(p, x))(coder, inputs["vil"].values[..., None])
    )
    assert spread == pytest.approx(float(latents.std()), rel=1e-4)
    zeros = jax.tree.map(np.zeros_like, coder)
    with pytest.raises(ValueError, match="standard deviation of 0"):
        stages.latent_spread(CONFIG, zeros, inputs)


def _encode(params, frames):
    from weatherlib.nn import autoencoder

    coder = autoencoder.Autoencoder(sizes=stage_cases.CODER)
    return coder.encode(params, frames * np.float32(1 / 255)).mode()
