"""One planet is compiled once and shared by all tests of this file."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray

from weatherlib import data, simulation, task, variables
from weatherlib.simulation import config, diagnostics, driver, start, stepping
from weatherlib.simulation import world as world_lib

pytest.importorskip("dinosaur", reason="the core of the simulation is optional")

SETTINGS = simulation.SimulationConfig(days=2, spin_up_days=0.5, frames_per_chunk=4)


def _simulated(**changes):
    chunks = simulation.simulate(dataclasses.replace(SETTINGS, **changes))
    return xarray.concat(
        list(chunks), "time", data_vars="minimal", coords="minimal",
        compat="override", join="exact",
    )  # fmt: skip


@pytest.fixture(scope="module")
def weather():
    return _simulated()


@pytest.fixture(scope="module")
def world():
    return world_lib.world(config.RESOLUTIONS["T21"])


def test_the_layout_is_that_of_the_published_example_files(weather):
    assert dict(weather.sizes) == {
        "batch": 1, "time": 8, "level": 13, "lat": 32, "lon": 64,
    }  # fmt: skip
    names = {*task.TASK_13.input_variables, *task.TASK_13.target_variables}
    computed = {name for name in names if "progress" in name}
    assert set(weather.data_vars) == names - computed
    assert weather["lat"].values[[0, -1]].tolist() == [-87.1875, 87.1875]
    assert weather["time"].dtype == weather["time"].values.astype("m8[ns]").dtype
    assert weather["datetime"].dims == ("batch", "time")
    np.testing.assert_array_equal(
        weather["datetime"].values[0],
        np.datetime64("2001-01-01") + weather["time"].values,
    )
    assert all(v.dtype == np.float32 for v in weather.data_vars.values())


def test_units_are_those_of_the_vocabulary_and_values_within_its_bounds(weather):
    for name, array in weather.data_vars.items():
        known = variables.get(str(name))
        assert array.attrs["units"] == known.units
        assert array.attrs["simulated"] == "true"
        low, high = known.bounds
        assert low <= float(array.min()) <= float(array.max()) <= high, name
    assert "simulated" in weather.attrs["title"].lower()
    assert "diagnosed" in weather["2m_temperature"].attrs["comment"]


def test_water_is_never_negative_and_rain_falls(weather):
    assert float(weather["specific_humidity"].min()) >= 0
    rain = weather["total_precipitation_6hr"]
    assert float(rain.min()) >= 0
    # Two to five millimetres a day on average, a world like ours.
    area = np.cos(np.deg2rad(weather["lat"]))
    daily = float(rain.weighted(area).mean()) * 4000
    assert 1 < daily < 6


def test_the_general_circulation_is_that_of_the_earth(weather):
    mean = weather.isel(batch=0).mean(("time", "lon"))
    jets = mean["u_component_of_wind"].sel(level=250)
    for rows in (slice(-90, 0), slice(0, 90)):
        jet = jets.sel(lat=rows)
        assert 20 < float(jet.max()) < 60
        assert 25 < abs(float(jet.idxmax("lat"))) < 60
    assert float(mean["10m_u_component_of_wind"].sel(lat=slice(-20, 20)).mean()) < 0
    t850 = mean["temperature"].sel(level=850)
    assert float(t850.sel(lat=slice(-10, 10)).mean()) > 285
    assert float(t850.isel(lat=[0, -1]).max()) < 270
    area = np.cos(np.deg2rad(weather["lat"]))
    pressure = float(weather["mean_sea_level_pressure"].weighted(area).mean())
    assert 99000 < pressure < 102500


def test_geopotential_and_temperature_are_in_hydrostatic_balance(weather):
    level = weather["level"].values.astype(float)
    phi = weather["geopotential"].values
    temperature = weather["temperature"].values
    # Between levels above the ground: thickness is R T ln(p1 / p0).
    for upper in range(8):
        mean = temperature[:, :, upper : upper + 2].mean(axis=2)
        thickness = 287.0 * mean * np.log(level[upper + 1] / level[upper])
        found = phi[:, :, upper] - phi[:, :, upper + 1]
        assert np.abs(found / thickness - 1).mean() < 0.006
    height = (
        weather["geopotential"].sel(level=1000) - weather["geopotential_at_surface"]
    )
    sea = weather["land_sea_mask"] < 0.02
    pressure = weather["mean_sea_level_pressure"]
    flat = sea & (abs(weather["geopotential_at_surface"]) < 300)
    error = height / 9.80665 - (pressure - 1e5) / 11.8
    assert float(abs(error.where(flat)).mean()) < 20


def test_the_day_warms_the_land_and_not_the_sea(weather):
    frames = weather["2m_temperature"].isel(batch=0, time=slice(0, 4))
    swing = frames.max("time") - frames.min("time")
    tropics = (abs(weather["lat"]) < 35).broadcast_like(swing)
    land = swing.where(tropics & (weather["land_sea_mask"] > 0.9)).mean()
    sea = swing.where(tropics & (weather["land_sea_mask"] < 0.05)).mean()
    assert float(land) > 4
    assert float(land) > 3 * float(sea)


def test_the_same_seed_repeats_and_another_does_not(weather):
    again = _simulated(days=1, frames_per_chunk=4)
    xarray.testing.assert_identical(again, weather.isel(time=slice(0, 4)))
    other = _simulated(days=1, seed=1)
    assert not np.allclose(other["2m_temperature"], again["2m_temperature"], atol=0.01)


def test_an_interrupted_run_is_continued(weather):
    calls = []
    done = data.MemoryWriter()
    done.write(weather.isel(time=slice(0, 4)))
    simulation.run(SETTINGS, done, progress=lambda *count: calls.append(count))
    xarray.testing.assert_identical(done.dataset, weather)
    assert calls == [(4, 8), (8, 8)]


@pytest.mark.slow
def test_a_run_continues_from_the_middle_of_a_chunk(weather):
    rest = list(simulation.simulate(SETTINGS, skip=6))
    assert [chunk.sizes["time"] for chunk in rest] == [2]
    np.testing.assert_allclose(
        rest[0]["geopotential"],
        weather["geopotential"].isel(time=slice(6, 8)),
        rtol=1e-4,
    )


def test_an_unstable_run_is_reported(world):
    state = start.load(world)
    broken = dataclasses.replace(state, vorticity=state.vorticity * np.nan)
    with pytest.raises(FloatingPointError, match="unstable after 2001-01-01"):
        next(simulation.simulate(SETTINGS, state=broken))


def test_steps_keep_the_mass_of_the_air(world):
    state = start.load(world)
    shifted = dataclasses.replace(
        state, log_surface_pressure=state.log_surface_pressure * 1.001
    )
    step = jax.jit(stepping.make_step(world))
    for _ in range(3):
        shifted, rain = step(shifted, jnp.float32(0.5), jnp.float32(0))
    grid = world.coords.horizontal
    pressure = (
        np.exp(grid.to_nodal(shifted.log_surface_pressure)) * world.units.pressure
    )
    assert float((pressure * world.area).sum()) == pytest.approx(98600, rel=1e-5)
    assert float(rain.min()) >= 0


def test_a_saved_state_comes_back(world, tmp_path):
    state = start.load(world)
    start.save(tmp_path / "state.npz", world, state)
    again = start.load(world, tmp_path / "state.npz")
    jax.tree.map(np.testing.assert_array_equal, state, again)


@pytest.mark.parametrize("resolution", ["T31", "T42"])
def test_the_shipped_state_fits_finer_worlds(world, resolution):
    finer = world_lib.world(config.RESOLUTIONS[resolution])
    coarse_state, state = start.load(world), start.load(finer)
    assert state.vorticity.shape == finer.coords.modal_shape
    # The mean surface pressure over the globe is the same.
    np.testing.assert_allclose(
        state.log_surface_pressure[0, 0, 0], coarse_state.log_surface_pressure[0, 0, 0]
    )
    assert np.isfinite(np.asarray(state.temperature_variation)).all()


def test_a_file_that_is_no_state_is_refused(world, tmp_path):
    np.savez(tmp_path / "other.npz", vorticity=np.zeros(3))
    with pytest.raises(
        ValueError, match=r"other\.npz: no saved simulation, it lacks div"
    ):
        start.load(world, tmp_path / "other.npz")
    with pytest.raises(FileNotFoundError):
        start.load(world, tmp_path / "none.npz")


def test_air_at_rest_is_in_balance_with_the_ground(world):
    state = start.at_rest(world)
    grid = world.coords.horizontal
    assert float(np.abs(state.vorticity).max()) == 0
    pressure = np.exp(np.asarray(grid.to_nodal(state.log_surface_pressure)))
    pressure = pressure[0] * world.units.pressure
    height = np.asarray(grid.to_nodal(world.orography)) * world.units.length
    assert np.corrcoef(height.ravel(), pressure.ravel())[0, 1] < -0.95
    assert 5e4 < pressure.min() < 8e4


def test_perturbations_follow_the_seed(world):
    state = start.load(world)
    one, same = start.perturb(world, state, 1), start.perturb(world, state, 1)
    np.testing.assert_array_equal(one.temperature_variation, same.temperature_variation)
    change = np.asarray(
        world.coords.horizontal.to_nodal(
            one.temperature_variation - state.temperature_variation
        )
    )
    assert 0.1 < change.std() < 5
    assert not np.array_equal(
        one.temperature_variation, start.perturb(world, state, 2).temperature_variation
    )


def test_without_the_core_the_message_says_how_to_install_it(monkeypatch):
    import builtins

    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.startswith("dinosaur"):
            raise ImportError("no dinosaur here")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(
        "importlib.import_module", lambda name: refuse(name, {}, {}, ["x"])
    )
    with pytest.raises(ImportError, match=r"pip install .*\[sim\]"):
        world_lib.dinosaur("units")


@pytest.mark.parametrize("rows", [12, pytest.param(48, marks=pytest.mark.slow)])
def test_fields_on_any_output_grid_are_those_of_the_planet(world, rows):
    diagnose = diagnostics.Diagnostics(world, rows, (300, 850))
    random = np.random.default_rng(0)
    rain = jnp.asarray(random.random(world.land.shape), jnp.float32)
    state = start.load(world)
    fields = diagnose(state, rain, jnp.float32(0), jnp.float32(0))
    assert fields["temperature"].shape == (2, rows, 2 * rows)
    edges = np.sin(np.deg2rad(np.linspace(-90, 90, rows + 1)))
    area = np.diff(edges) / 2
    found = (np.asarray(fields["total_precipitation"]).mean(axis=1) * area).sum()
    assert found * 1000 == pytest.approx(float((rain * world.area).sum()), rel=2e-3)
    mean = (np.asarray(fields["2m_temperature"]).mean(axis=1) * area).sum()
    assert mean == pytest.approx(282, abs=3)


def test_values_between_nodes_are_straight_and_constant_beyond():
    nodes = np.array([0.0, 1.0, 3.0], np.float32)
    values = jnp.array([0.0, 10.0, 30.0])[:, None, None]
    position = jnp.array([-1.0, 0.5, 2.0, 9.0])[:, None, None]
    found = diagnostics.interpolate(values, nodes, position)
    np.testing.assert_allclose(found[:, 0, 0], [0, 5, 20, 30], rtol=1e-6)


def test_a_spin_up_starts_from_rest_and_moves(world):
    days = []
    planet, state = driver.spin_up(
        world.resolution, 2, progress=lambda *count: days.append(count)
    )
    assert planet is world
    assert days == [(1, 2), (2, 2)]
    assert float(np.abs(state.vorticity).max()) > 0
    assert np.isfinite(np.asarray(state.temperature_variation)).all()


@pytest.mark.parametrize("suffix", ["nc", "zarr"])
def test_a_written_run_is_read_back_with_its_dates(weather, tmp_path, suffix):
    path = tmp_path / f"weather.{suffix}"
    with data.open_writer(path) as writer:
        simulation.run(dataclasses.replace(SETTINGS, days=1), writer)
    found, _ = data.conform(data.open_dataset(path), task.TASK_13)
    expected = weather.isel(time=slice(0, 4))
    for name in ("geopotential", "total_precipitation_6hr", "land_sea_mask"):
        np.testing.assert_array_equal(found[name].values, expected[name].values)
    assert found["datetime"].dims == ("batch", "time")
    np.testing.assert_array_equal(found["datetime"], expected["datetime"])
