import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.rollout import models
from weatherlib import rollout
from weatherlib.rollout import liveness, memory


@functools.cache
def forecaster(**settings):
    return rollout.Forecaster(models.Linear, models.params(), **settings)


def fits(members=None, grid=(30, 60), **options):
    settings = options.pop("settings", {})
    inputs = models.initial(lat=grid[0], lon=grid[1])
    return forecaster(**settings).fits(
        inputs, models.forcings(4, inputs), steps=4, members=members, **options
    )


def test_a_small_forecast_fits_the_machine():
    report = fits()
    assert report.fits is True
    assert report.advice == ()
    assert report.needed_bytes == sum(report.parts.values())
    assert report.available_bytes == memory.available_bytes(jax.devices()[0])
    assert str(report).startswith("fits: needs")
    assert "estimated from the program" in str(report)


def test_parts_have_the_sizes_of_their_arrays():
    frame = 30 * 60 * 3 * 4
    parts = fits().parts
    assert parts["parameters"] == 2 * 4
    assert parts["state and static inputs"] == 2 * frame + 2 * 4 + frame / 3
    assert parts["forcings of two chunks"] == 2 * 4
    assert parts["results of 3 chunks"] == 3 * frame


def test_members_take_state_and_results_of_their_own():
    one, many = fits(members=1), fits(members=5)
    frame = 30 * 60 * 3 * 4
    growth = many.needed_bytes - one.needed_bytes
    assert growth >= 4 * (2 * frame + 3 * frame)
    assert many.parts["working memory"] == one.parts["working memory"]


def test_compiling_makes_it_exact_and_is_not_done_twice():
    own = rollout.Forecaster(models.Linear, models.params())
    inputs = models.initial()
    forcings = models.forcings(2, inputs)
    estimate = own.fits(inputs, forcings, steps=2)
    assert not estimate.exact
    exact = own.fits(inputs, forcings, steps=2, compiled=True)
    assert exact.exact
    assert exact.compile_seconds > 0
    assert "by the compiler" in str(exact)
    own.predict(inputs, forcings, steps=2)
    assert own.traces == 1


def test_what_does_not_fit_comes_with_settings_to_change():
    report = fits(
        members=4,
        available_bytes=10_000,
        settings={"num_steps_per_chunk": 3, "members_per_batch": 2},
    )
    assert report.fits is False
    advice = "\n".join(report.advice)
    for setting in (
        "num_steps_per_chunk=1",
        "members_per_batch=1",
        "fewer members",
        "bfloat16",
        "edge blocks",
    ):
        assert setting in advice
    assert "does not fit" in str(report)
    assert "try: " in str(report)


def test_following_the_advice_needs_less():
    big = fits(settings={"num_steps_per_chunk": 3})
    assert fits().needed_bytes < big.needed_bytes


class _Device:
    platform = "gpu"

    def __init__(self, stats):
        self.stats = stats

    def memory_stats(self):
        return self.stats


def test_the_memory_of_a_device_is_what_it_says():
    assert memory.available_bytes(_Device({"bytes_limit": 7})) == 7
    assert memory.available_bytes(_Device(None)) is None


def test_an_unknown_memory_gives_no_verdict(monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda device: None)
    report = fits()
    assert report.fits is None
    assert "memory unknown" in str(report)


def _dense(x, w):
    return jnp.tanh(x @ w) @ w + x


def _loop(x, w):
    return jax.lax.fori_loop(0, 4, lambda i, c: jnp.tanh(c @ w), x)


def _branch(x, w):
    return jax.lax.cond(x.sum() > 0, lambda: x @ w @ w, lambda: x)


def _nested(x, w):
    return jax.jit(_dense)(jax.checkpoint(_dense)(x, w), w) * 2


@pytest.mark.parametrize("function", [_dense, _loop, _branch, _nested])
def test_working_memory_is_estimated_within_a_factor_of_two(function):
    shapes = [jax.ShapeDtypeStruct((size, 64), jnp.float32) for size in (20_000, 64)]
    traced = jax.jit(function).trace(*shapes)
    exact = traced.lower().compile().memory_analysis().temp_size_in_bytes
    assert 0.5 < liveness.peak_bytes(traced.jaxpr) / exact < 2


def test_results_that_are_merged_into_their_reader_take_no_memory():
    shape = jax.ShapeDtypeStruct((1000,), jnp.float32)
    traced = jax.jit(lambda x: jnp.sum(jnp.sin(x) * 2 + 1)).trace(shape)
    assert liveness.peak_bytes(traced.jaxpr) < 1000


def test_a_device_without_short_floats_takes_more():
    shapes = [jax.ShapeDtypeStruct((size, 64), jnp.bfloat16) for size in (1000, 64)]
    program = jax.jit(lambda x, w: x @ w @ w @ w).trace(*shapes).jaxpr
    narrow = liveness.peak_bytes(program)
    assert liveness.peak_bytes(program, least_float_bytes=4) == 2 * narrow > 0


def test_operations_are_counted_inside_loops_too():
    shape = jax.ShapeDtypeStruct((4, 4), jnp.float32)
    plain = jax.jit(lambda x: jnp.sin(x) + x).trace(shape).jaxpr
    assert liveness.count_equations(plain) == 2
    looped = jax.jit(lambda x: jax.lax.fori_loop(0, 3, lambda i, c: jnp.sin(c) + c, x))
    assert liveness.count_equations(looped.trace(shape).jaxpr) >= 3
    assert np.isfinite(liveness.peak_bytes(looped.trace(shape).jaxpr))
