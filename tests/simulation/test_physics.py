import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weatherlib.simulation import physics

SIGMA = (np.arange(8) + 0.5) / 8
THICKNESS = np.full(8, 1 / 8)
SIN_LAT = np.sin(np.deg2rad([-60.0, 0.0, 45.0]))


def _column(values):
    return jnp.asarray(values, jnp.float32)[:, None, None]


def test_saturation_follows_the_boiling_point_and_rises_with_temperature():
    # At 300 K air at 1000 hPa holds about 22 g kg-1.
    assert float(physics.saturation_humidity(300.0, 1e5)) == pytest.approx(
        0.0223, abs=5e-4
    )
    warm = physics.saturation_humidity(jnp.linspace(200.0, 320.0, 50), 8e4)
    assert (np.diff(warm) > 0).all()
    assert float(physics.saturation_humidity(380.0, 1e4)) == pytest.approx(0.1)


@settings(deadline=None, max_examples=40)
@given(
    temperature=st.floats(220, 305),
    humidity=st.floats(0, 0.03),
    sigma=st.floats(0.2, 1),
)
def test_condensation_keeps_energy_and_leaves_no_supersaturation(
    temperature, humidity, sigma
):
    pressure = 1e5 * sigma
    inputs = _column([temperature]), _column([humidity]), _column([pressure])
    warmer, drier, rain = physics.condense(*inputs)
    energy = physics.HEAT_CAPACITY * warmer + physics.LATENT_HEAT * drier
    before = physics.HEAT_CAPACITY * inputs[0] + physics.LATENT_HEAT * inputs[1]
    np.testing.assert_allclose(energy, before, rtol=2e-6)
    np.testing.assert_allclose(drier + rain, inputs[1], atol=1e-8)
    assert float(rain.min()) >= 0
    # One Newton step overshoots or undershoots by little.
    limit = physics.saturation_humidity(warmer, inputs[2])
    assert float((drier - limit).max()) <= 0.15 * humidity
    if humidity < float(physics.saturation_humidity(temperature, pressure)):
        assert float(rain.max()) == 0


def test_evaporation_moistens_dry_air_and_never_dries():
    humidity = jnp.array([[0.0, 0.01, 0.03]])
    found = physics.evaporate(
        humidity, jnp.float32(0.02), jnp.float32(8.0), jnp.float32(1000.0), 2400.0
    )
    assert float(found[0, 0]) > 0.0005
    assert (np.asarray(found) >= np.asarray(humidity)).all()
    assert float(found[0, 2]) == pytest.approx(0.03)
    calm = physics.evaporate(
        humidity, jnp.float32(0.02), jnp.float32(0.0), jnp.float32(1000.0), 2400.0
    )
    assert 0 < float(calm[0, 0]) < float(found[0, 0])


@settings(deadline=None, max_examples=40)
@given(values=st.lists(st.floats(0, 0.02), min_size=8, max_size=8))
def test_mixing_keeps_the_water_of_a_column_and_evens_it_out(values):
    mixed = physics.mix_humidity(_column(values), SIGMA, THICKNESS, 2400.0)
    np.testing.assert_allclose(
        mixed.sum(), np.float32(values).sum(), rtol=1e-5, atol=1e-9
    )
    assert float(mixed.min()) >= 0
    assert np.ptp(np.asarray(mixed)) <= np.ptp(np.float32(values)) + 1e-8


def test_mixing_moves_water_up_from_a_moist_lowest_layer():
    mixed = physics.mix_humidity(_column([0] * 7 + [0.01]), SIGMA, THICKNESS, 2400.0)
    assert 0 < float(mixed[6, 0, 0]) < float(mixed[7, 0, 0]) < 0.01


@pytest.mark.parametrize("declination", [-0.4, 0.0, 0.3])
def test_the_sun_averages_to_nothing_over_a_day(declination):
    sin_lat = np.sin(np.deg2rad([-85.0, -30.0, 0.0, 50.0, 88.0]))
    lon = np.deg2rad([0.0, 90.0, 200.0])
    hours = np.linspace(0, 1, 480, endpoint=False)
    anomalies = [
        physics.sun_anomaly(sin_lat, lon, jnp.float32(h), jnp.float32(declination))
        for h in hours
    ]
    np.testing.assert_allclose(np.mean(anomalies, axis=0), 0, atol=2e-4)
    assert anomalies[0].shape == (3, 5)


def test_the_sun_is_highest_at_local_noon():
    noon = physics.sun_anomaly(
        np.array([0.0]),
        np.deg2rad([0.0, 90.0, 180.0]),
        jnp.float32(0.5),
        jnp.float32(0),
    )
    assert float(noon[0, 0]) == pytest.approx(1 - 1 / np.pi, abs=1e-5)
    assert float(noon[2, 0]) == pytest.approx(-1 / np.pi, abs=1e-5)


def test_air_is_slowed_and_heated_near_the_ground():
    friction = physics.friction_rate(SIGMA)
    assert (friction[SIGMA < 0.7] == 0).all()
    assert friction[-1] == pytest.approx(0.7917 / 86400, rel=1e-3)
    rate = physics.relaxation_rate(SIGMA, SIN_LAT)
    assert rate.shape == (8, 1, 3)
    np.testing.assert_allclose(rate[0], 1 / 40 / 86400)
    assert (rate[-1, 0, 1] > rate[-1, 0, [0, 2]]).all()


def test_equilibrium_is_warm_below_at_the_equator_and_cold_aloft():
    pressure = jnp.asarray(1e5 * SIGMA, jnp.float32)[:, None, None] * jnp.ones(
        (8, 4, 3)
    )
    equilibrium = np.asarray(physics.equilibrium_temperature(pressure, SIN_LAT))
    assert equilibrium.min() == 200
    assert equilibrium[-1, 0, 1] == pytest.approx(289, abs=1)
    assert (equilibrium[-1, :, 1] > equilibrium[-1, :, 0]).all()


def test_the_sea_is_warmest_at_the_equator():
    sea = physics.sea_surface_temperature(SIN_LAT)
    assert sea[1] == 300
    assert 271 < sea[0] < sea[2] < 300
