"""Statistics that bring latent fields to the size of noise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.latent import codecs
from weatherlib.latent import codec, latent_statistics


def _latents(shape, seed=0):
    rng = np.random.default_rng(seed)
    spread = np.linspace(1, 5, shape[1])[:, np.newaxis, np.newaxis]
    return 3 + spread * rng.standard_normal(shape)


@pytest.mark.parametrize(
    ("kind", "axes", "shape"),
    [("channel", (0, 2, 3), (3, 1, 1)), ("position", (0,), (3, 4, 2))],
)
def test_normalised_latent_fields_have_mean_zero_and_spread_one(kind, axes, shape):
    latents = _latents((50, 3, 4, 2))
    found = latent_statistics.moments(latents, kind)
    assert found["mean"].shape == found["scale"].shape == shape
    params = {latent_statistics.STATISTICS: found}
    plain = jnp.asarray(latents, jnp.float32)
    normal = latent_statistics.normalise(params, plain)
    np.testing.assert_allclose(normal.mean(axes), 0, atol=1e-5)
    np.testing.assert_allclose(normal.std(axes), 1, rtol=1e-4)
    back = latent_statistics.restore(params, normal)
    np.testing.assert_allclose(back, latents, rtol=1e-4, atol=1e-4)
    narrow = latent_statistics.normalise(params, plain.astype(jnp.bfloat16))
    assert narrow.dtype == jnp.bfloat16
    np.testing.assert_allclose(narrow.astype(jnp.float32), normal, atol=0.1)


def test_published_files_hold_variances():
    found = latent_statistics.moments(_latents((50, 3, 4, 2)), "channel")
    published = latent_statistics.to_published(found)
    np.testing.assert_allclose(published["var"], found["scale"] ** 2, rtol=1e-4)
    np.testing.assert_array_equal(published["mean"], found["mean"])


def test_first_statistics_change_nothing():
    latents = jnp.asarray(_latents((2, 3, 4, 2)), jnp.float32)
    for kind in ("channel", "position"):
        params = latent_statistics.first_params(kind, (3, 4, 2))
        np.testing.assert_array_equal(
            latent_statistics.normalise(params, latents), latents
        )


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        (np.array([2.0]), "channel", (3, 1, 1)),
        (np.array([2.0, 3.0, 4.0]), "channel", (3, 1, 1)),
        (np.array([2.0, 3.0, 4.0]), "position", (3, 4, 2)),
        (np.full((1, 3, 1, 1), 2.0), "channel", (3, 1, 1)),
        (np.full((3, 4, 2), 2.0), "position", (3, 4, 2)),
    ],
)
def test_statistics_of_files_are_brought_to_the_shape_of_parameters(
    values, kind, expected
):
    given = {"mean": values, "scale": values}
    held = latent_statistics.as_params(given, kind, (3, 4, 2), "file")
    found = held[latent_statistics.STATISTICS]
    assert found["mean"].shape == found["scale"].shape == expected
    np.testing.assert_array_equal(found["scale"][0], np.broadcast_to(2.0, expected[1:]))
    wide = values.shape[-1] > 1 and values.ndim > 1
    assert latent_statistics.kind_of(values) == ("position" if wide else "channel")


def test_statistics_that_do_not_fit_are_refused():
    whole = {name: np.ones((3, 4, 2)) for name in ("mean", "scale")}
    for kind in ("channel", "position"):
        with pytest.raises(ValueError, match=r"file: mean of latent fields has the sh"):
            latent_statistics.as_params(whole, kind, (3, 5, 2), "file")
    flat = {"mean": np.ones(3), "scale": np.array([1.0, 0.0, 1.0])}
    with pytest.raises(
        ValueError, match="file: scales of latent fields have to be pos"
    ):
        latent_statistics.as_params(flat, "channel", (3, 4, 2), "file")
    with pytest.raises(ValueError, match="not finite"):
        latent_statistics.moments(np.full((2, 3, 1, 1), np.nan), "channel")


@pytest.mark.parametrize(("vae_type", "kind"), [("sd", "channel"), ("rae", "position")])
def test_a_codec_normalises_and_undoes_it_and_never_trains_the_numbers(vae_type, kind):
    plain = codecs.small(vae_type, scale_factor=1.0, freeze_encoder=True)
    model, params = codecs.made(plain)
    images = codecs.images()
    raw = jax.jit(model.encode)(params, images)
    settings = plain.replace(scale_factor=None, latent_statistics=kind)
    normal = codec.make(settings)
    first = jax.eval_shape(normal.init, jax.random.key(0))
    assert set(first) - set(params) == {latent_statistics.STATISTICS}
    found = latent_statistics.moments(raw, kind)
    held = first[latent_statistics.STATISTICS]
    assert {n: a.shape for n, a in held.items()} == {
        n: a.shape for n, a in found.items()
    }
    params = {**params, latent_statistics.STATISTICS: jax.tree.map(jnp.asarray, found)}
    latents = jax.jit(normal.encode)(params, images)
    axes = (0, 2, 3) if kind == "channel" else 0
    np.testing.assert_allclose(latents.mean(axes), 0, atol=1e-3)
    back = jax.jit(lambda p, z: normal.decode(p, z, (8, 12)))(params, latents)
    wanted = jax.jit(lambda p, z: model.decode(p, z, (8, 12)))(params, raw)
    np.testing.assert_allclose(back, wanted, rtol=1e-3, atol=1e-3)
    assert normal.frozen(latent_statistics.STATISTICS)

    def loss(params):
        return jnp.square(normal.decode(params, latents, (8, 12))).mean()

    gradient = jax.jit(jax.grad(loss))(params)
    assert not any(np.any(g) for g in gradient[latent_statistics.STATISTICS].values())
    decoder = [g for m, g in gradient.items() if m.startswith(normal.roots[1])]
    assert any(np.any(leaf) for held in decoder for leaf in held.values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"latent_statistics": "pixel"}, "not one of none, channel and position"),
        ({"latent_statistics_path": "a.npz"}, "say by channel or by position"),
        (
            {"latent_statistics": "channel", "measure_scale": True},
            "stand in place of scale_factor",
        ),
        (
            {"latent_statistics": "channel", "scale_factor": 2.0},
            "stand in place of scale_factor",
        ),
        (
            {"latent_statistics": "channel", "freeze_encoder": False},
            "those of an encoder that is kept",
        ),
        (
            {"latent_statistics": "position", "freeze_encoder": True},
            "latent fields of sd have the size of the data",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        codecs.small("sd", **changes)
