import dataclasses

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tolerances
from tests.baselines import linear_cases
from weatherlib.baselines import fields, linear_config, linear_network
from weatherlib.nn.edges import ZERO

LINEAR, MULTI = linear_cases.KINDS


def as_fields(frames, known=None, static=None, dtype=jnp.float32):
    given = linear_cases.fields(frames, known, static)
    return fields.Fields(
        **{name: jnp.asarray(getattr(given, name), dtype)
           for name in ("frames", "known", "static")}
    )  # fmt: skip


def transformed(config, outputs=2, **options):
    def run(frames, known, static):
        network = linear_network.LinearNetwork(config, **options)
        given = fields.Fields(frames=frames, known=known, static=static)
        return network(given, ZERO, outputs)

    made = hk.without_apply_rng(hk.transform(run))
    return hk.Transformed(made.init, jax.jit(made.apply))


def call(config, params, given, **options):
    apply = transformed(config, **options).apply
    return apply(params, given.frames, given.known, given.static)


def sizes(params):
    return {
        f"{module}/{name}": value.shape
        for module, entries in params.items()
        for name, value in entries.items()
    }


def init(config, frames=(2, 12, 4, 6, 3), outputs=2):
    given = as_fields(np.zeros(frames, np.float32))
    made = transformed(config, outputs)
    return jax.eval_shape(
        made.init, jax.random.PRNGKey(0), given.frames, given.known, given.static
    )


def test_parameters_have_these_names_and_shapes():
    features, outputs = 12 * 3 * 24, 4 * 2 * 24
    plain = {"linear/w": (features, outputs), "linear/b": (outputs,)}
    scales = {
        "linear/input_mean": (features,), "linear/input_scale": (features,),
        "linear/output_mean": (outputs,), "linear/output_scale": (outputs,),
    }  # fmt: skip
    factors = {"linear/basis": (features, 7), "linear/w": (7, outputs)}
    assert sizes(init(LINEAR())) == plain
    assert sizes(init(MULTI())) == {**plain, **scales}
    assert sizes(init(LINEAR(factors=7))) == {**plain, **factors}


def test_parameters_at_the_default_task():
    params = init(LINEAR(), frames=(1, 12, 32, 64, 1), outputs=1)
    assert hk.data_structures.tree_size(params) == 24576 * 8192 + 8192


@pytest.mark.parametrize("kind", linear_cases.KINDS)
@pytest.mark.parametrize("storage", ["matrix", "factors"])
def test_the_fit_and_the_network_agree(kind, storage, strict_numerics):
    frames, targets = linear_cases.draw(50, extra=1, rows=3, columns=4)
    rng = np.random.default_rng(5)
    others = {
        "known": rng.standard_normal((50, 2, 3, 4, 2)),
        "static": rng.standard_normal((50, 3, 4, 1)),
    }
    how = linear_config.FitConfig(storage=storage)
    found = linear_cases.fit(
        kind, frames, targets, others=others, fit=how, options={"dtype": np.float32}
    )
    given = as_fields(frames, **others)
    initial = init_of(found.config, given)
    assert sizes(initial) == sizes(found.params)
    expected = linear_cases.apply(found, frames, **others)
    predicted = call(found.config, found.params, given)
    assert predicted.dtype == jnp.float32
    np.testing.assert_allclose(predicted, expected, rtol=0, atol=1e-4)


def init_of(config, given):
    made = transformed(config)
    return made.init(jax.random.PRNGKey(0), given.frames, given.known, given.static)


@pytest.mark.parametrize("name", ["lr", "lr_multi"])
def test_predictions_are_the_published_ones(goldens, name):
    with np.load(goldens / "ridge" / "golden.npz") as file:
        golden = dict(file)
    train, targets, test, expected = (
        np.moveaxis(golden[key], 2, -1)
        for key in ("X_train", "Y_train", "X_test", f"{name}_alpha10_pred")
    )
    scale, mean = golden["lr_sd"].ravel(), golden["lr_mu"].ravel()
    if name == "lr":
        train, targets, test = ((x - mean) / scale for x in (train, targets, test))
    kind = LINEAR if name == "lr" else MULTI
    found = linear_cases.fit(
        kind, train, targets, alpha=10.0, options={"dtype": np.float32}
    )
    predicted = np.asarray(call(found.config, found.params, as_fields(test)))
    if name == "lr":
        predicted = predicted * scale + mean
    assert np.abs((predicted - expected) / scale).max() < tolerances.RIDGE_F32


def test_double_precision_stays(goldens):
    frames, targets = linear_cases.draw(30)
    found = linear_cases.fit(MULTI, frames, targets)
    with jax.enable_x64(True):
        given = as_fields(frames, dtype=jnp.float64)
        predicted = call(found.config, found.params, given)
        assert predicted.dtype == jnp.float64
    expected = linear_cases.apply(found, frames)
    np.testing.assert_allclose(predicted, expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("kind", linear_cases.KINDS)
@pytest.mark.parametrize("storage", ["matrix", "factors"])
def test_sweep(kind, storage, strict_numerics):
    """Compiled or not, alone or in a batch, in bfloat16, and the gradient."""
    frames, targets = linear_cases.draw(30)
    how = linear_config.FitConfig(storage=storage)
    options = {"dtype": np.float32}
    found = linear_cases.fit(kind, frames, targets, fit=how, options=options)
    frames, targets = frames[:4], targets[:4]
    given = as_fields(frames)
    predicted = call(found.config, found.params, given)
    with jax.disable_jit():
        plain = call(found.config, found.params, given)
    np.testing.assert_allclose(predicted, plain, atol=1e-5)
    single = [
        call(found.config, found.params, as_fields(frames[i : i + 1])) for i in range(4)
    ]
    np.testing.assert_allclose(predicted, np.concatenate(single), atol=1e-5)

    def loss(params, frames):
        apart = call(found.config, params, dataclasses.replace(given, frames=frames))
        return jnp.mean((apart - jnp.asarray(targets, jnp.float32)) ** 2)

    gradients = jax.grad(loss, argnums=(0, 1))(found.params, given.frames)
    for leaf in jax.tree.leaves(gradients):
        assert np.isfinite(leaf).all()
        assert np.abs(leaf).max() > 0
    narrow = jax.tree.map(lambda p: jnp.asarray(p, jnp.bfloat16), found.params)
    half = call(found.config, narrow, as_fields(frames, dtype=jnp.bfloat16))
    assert half.dtype == jnp.bfloat16
    apart = np.asarray(half, np.float32) - predicted
    spread = np.asarray(predicted).std(axis=(0, 1, 2, 3))
    assert (np.sqrt(np.square(apart).mean(axis=(0, 1, 2, 3))) < 0.1 * spread).all()


def test_options_of_other_networks_make_no_difference():
    frames, _ = linear_cases.draw(3)
    found = linear_cases.fit(LINEAR, *linear_cases.draw(30))
    given = as_fields(frames)

    def run(frames):
        network = linear_network.LinearNetwork(found.config, remat=True, name="other")
        changed = dataclasses.replace(given, frames=frames)
        return network(changed, ZERO, 2, is_training=True)

    made = hk.transform(run)
    predicted = made.apply({"other": found.params["linear"]}, None, given.frames)
    expected = call(found.config, found.params, given)
    np.testing.assert_allclose(predicted, expected, atol=1e-5)


def test_before_a_fit_the_mean_is_predicted():
    given = as_fields(linear_cases.draw(3)[0])
    for config in (LINEAR, MULTI):
        for factors in (0, 5):
            sizes = config(input_length=3, output_length=2, factors=factors)
            params = init_of(sizes, given)
            np.testing.assert_array_equal(call(sizes, params, given), 0)


def test_frames_and_grids_that_do_not_fit_are_refused():
    found = linear_cases.fit(LINEAR, *linear_cases.draw(30))
    frames, _ = linear_cases.draw(2, lengths=(4, 2))
    with pytest.raises(ValueError, match="reads 3 frames, found 4; set input_length"):
        call(found.config, found.params, as_fields(frames))
    frames, _ = linear_cases.draw(2, columns=5)
    with pytest.raises(ValueError, match=r"w would have the shape \(60, 40\).*another"):
        call(found.config, found.params, as_fields(frames))
    with pytest.raises(ValueError, match="the first 3 would be the predicted ones"):
        call(found.config, found.params, as_fields(frames), outputs=3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LINEAR(alpha=-1.0), "alpha must be 0 or more, found -1.0"),
        (lambda: MULTI(alpha=float("nan")), "alpha must be 0 or more, found nan"),
        (lambda: MULTI(alphas={"t": -2.0}), "alphas.t must be 0 or more"),
        (lambda: LINEAR(factors=-1), "factors must be 0 or more"),
        (lambda: LINEAR(input_length=0), "input_length must be at least 1"),
        (lambda: linear_config.FitConfig(held_out=1.0), "held_out must lie between"),
        (lambda: linear_config.FitConfig(memory=0.0), "memory must be positive"),
        (lambda: linear_config.FitConfig(candidates=(1.0, 1.0)), "repeats a penalty"),
        (lambda: linear_config.FitConfig(candidates=(-1.0,)), "candidates must be 0"),
    ],
)
def test_wrong_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_published_penalties_are_the_defaults():
    assert (LINEAR().alpha, MULTI().alpha) == (1.0, 10.0)
