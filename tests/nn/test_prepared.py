import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from weatherlib.nn import prepared


def network(x):
    w = hk.get_parameter("w", (3,), init=jnp.ones)
    part = prepared.once("part", lambda: {"sine": jnp.sin(w)})
    return x * part["sine"] + w


FORWARD = hk.without_apply_rng(hk.transform_with_state(network))
PARAMS, STATE = FORWARD.init(None, jnp.ones(3))


@jax.jit
def prepare(params):
    with prepared.record() as parts:
        FORWARD.apply(params, {}, jnp.ones(3))
    return parts


def test_without_a_store_the_part_is_just_computed():
    found, _ = FORWARD.apply(PARAMS, {}, jnp.full(3, 2.0))
    np.testing.assert_allclose(found, 2 * np.sin(1) + 1, rtol=1e-6)


def test_parameters_and_state_know_nothing_of_the_store():
    with prepared.record():
        params, state = FORWARD.init(None, jnp.ones(3))
    assert jax.tree.structure(params) == jax.tree.structure(PARAMS)
    assert state == STATE == {}


def test_recorded_parts_are_used_instead_of_computing_them():
    parts = prepare(PARAMS)
    np.testing.assert_allclose(parts["part"]["sine"], np.full(3, np.sin(1)), rtol=1e-6)

    @jax.jit
    def step(params, parts, x):
        with prepared.use(parts):
            return FORWARD.apply(params, {}, x)[0]

    plain, _ = FORWARD.apply(PARAMS, {}, jnp.ones(3))
    np.testing.assert_allclose(step(PARAMS, parts, jnp.ones(3)), plain, rtol=1e-6)
    doubled = jax.tree.map(lambda x: 2 * x, parts)
    found = step(PARAMS, doubled, jnp.ones(3))
    np.testing.assert_allclose(found, 2 * np.sin(1) + 1, rtol=1e-6)


def test_a_part_is_computed_once_while_recording():
    calls = []

    def compute():
        calls.append(1)
        return jnp.ones(())

    with prepared.record() as parts:
        prepared.once("key", compute)
        prepared.once("key", compute)
    assert len(calls) == 1
    assert list(parts) == ["key"]


def test_the_store_ends_with_its_context():
    with prepared.use({"part": jnp.zeros(())}):
        assert prepared.once("part", lambda: jnp.ones(())) == 0
    assert prepared.once("part", lambda: jnp.ones(())) == 1


def test_recording_inside_a_store_computes_anew():
    with prepared.use({"part": jnp.zeros(())}), prepared.record() as parts:
        assert prepared.once("part", lambda: jnp.ones(())) == 1
    assert parts["part"] == 1


def test_a_store_without_the_part_is_refused():
    with (
        prepared.use({"other": jnp.zeros(())}),
        pytest.raises(ValueError, match="lack 'part'; they were recorded for another"),
    ):
        prepared.once("part", lambda: jnp.ones(()))


@pytest.mark.parametrize(
    "transform",
    [
        lambda f: jax.checkpoint(f),
        lambda f: lambda x: jax.lax.scan(lambda c, y: (c, f(y)), 0.0, x[None])[1],
    ],
    ids=["remat", "scan"],
)
def test_recording_inside_another_transformation_is_refused(transform):
    def part(x):
        return x * prepared.once("part", lambda: jnp.sin(jnp.ones(3)))

    @jax.jit
    def record(x):
        with prepared.record() as parts:
            transform(part)(x)
        return parts

    with pytest.raises(ValueError, match=r"'part' cannot be recorded inside hk\.remat"):
        record(jnp.ones(3))


def test_a_store_works_inside_a_scan():
    @jax.jit
    def roll(parts, x):
        with prepared.use(parts):
            return jax.lax.scan(
                lambda x, _: (prepared.once("part", lambda: jnp.ones(3)) * x, None),
                x,
                length=3,
            )[0]

    np.testing.assert_array_equal(roll({"part": jnp.full(3, 2.0)}, jnp.ones(3)), 8)
