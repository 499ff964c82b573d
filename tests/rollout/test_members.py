"""Members of a forecast that start from states, and draw from keys, of their own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray

from tests.rollout import models
from weatherlib import rollout

KEY = jax.random.PRNGKey(3)


@pytest.fixture
def inputs():
    return models.initial()


@pytest.mark.parametrize("typed", [False, True])
def test_members_with_keys_of_their_own_are_forecasts_of_their_own(inputs, typed):
    states = [models.initial(seed=seed) for seed in range(3)]
    keys = [jax.random.key(n) if typed else jax.random.PRNGKey(n) for n in (3, 5, 9)]
    forecaster = rollout.Forecaster(
        lambda: models.Linear(noise=0.5), models.params(), members_per_batch=2
    )
    forcings = models.forcings(3, inputs)
    whole = xarray.concat(states, "sample", join="override")
    found = forecaster.predict(whole, forcings, steps=3, rng=jnp.stack(keys))
    for number, (state, key) in enumerate(zip(states, keys)):
        expected = forecaster.predict(state, forcings, steps=3, rng=key)
        for name, field in expected.data_vars.items():
            np.testing.assert_allclose(
                found[name].isel(sample=number), field, rtol=1e-6, atol=1e-6
            )
    with pytest.raises(ValueError, match="2 keys are given to 3 members"):
        forecaster.predict(whole, forcings, steps=3, rng=jnp.stack(keys[:2]))


def test_the_guard_names_the_start_of_a_forecast_of_its_own():
    states = [models.initial(seed=seed) for seed in range(3)]
    dates = models.START + models.STEP * np.array([[[0, 1]], [[4, 5]], [[8, 9]]])
    whole = xarray.concat(states, "sample", join="override")
    whole = whole.assign_coords(datetime=(("sample", "batch", "time"), dates))
    whole["wind"][{"sample": 1}] = 1e6
    forecaster = rollout.Forecaster(models.Persistence, {}, members_per_batch=3)
    guard = rollout.Guard(bounds={"wind": (-100, 100)})
    keys = jnp.stack([jax.random.PRNGKey(n) for n in range(3)])
    with pytest.warns(rollout.GuardWarning, match="lead time 6 h, start 2020-01-02T06"):
        forecaster.predict(
            whole, models.forcings(1, states[0]), steps=1, rng=keys, guard=guard
        )


def test_members_may_start_from_states_and_see_forcings_of_their_own(inputs):
    forecaster = rollout.Forecaster(models.Linear, models.params(), members_per_batch=2)
    states = [models.initial(seed=seed) for seed in range(3)]
    suns = [models.forcings(2, inputs, seed=seed) for seed in range(3)]
    together = forecaster.predict(
        xarray.concat(states, "sample", coords="minimal", compat="override"),
        xarray.concat(suns, "sample"),
        steps=2,
    )
    alone = rollout.Forecaster(models.Linear, models.params())
    for member in range(3):
        expected = alone.predict(states[member], suns[member], steps=2)
        np.testing.assert_allclose(
            together["heat"].isel(sample=member), expected["heat"], rtol=1e-5
        )
