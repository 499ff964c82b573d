"""Forecasts from dates: single ones, hindcast sets and ensembles, by the command."""

import numpy as np
import pytest
import xarray

from tests import weather_samples
from tests.cli import cases
from weatherlib import data, rollout
from weatherlib.cli import (
    console,
    ensembles,
    forecasting,
    main,
    models,
    predict,
    start_blocks,
    usable_starts,
)
from weatherlib.data import hindcasts

_FORECASTERS = {}


@pytest.fixture
def case(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = cases.Case.create(tmp_path)
    found.output = tmp_path / "set.zarr"
    found.change(lambda weather: _longer(weather, 6))
    return found


@pytest.fixture(autouse=True)
def compiled_once(monkeypatch):
    """Lets all tests share the compiled models, as they use one checkpoint."""
    build = forecasting.build_forecaster

    def cached(*arguments, members_per_batch=1, **settings):
        if members_per_batch not in _FORECASTERS:
            _FORECASTERS[members_per_batch] = build(
                *arguments, members_per_batch=members_per_batch, **settings
            )
        return _FORECASTERS[members_per_batch]

    monkeypatch.setattr(forecasting, "build_forecaster", cached)


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    """Leaves out the slowest part of a forecast, which has tests of its own."""
    monkeypatch.setattr(predict, "_draw", lambda *arguments: [])


def _longer(weather, frames):
    """Returns the weather with its frames repeated at later times."""
    step = np.timedelta64(6, "h").astype("timedelta64[ns]")
    whole = weather.isel(time=np.arange(frames) % weather.sizes["time"])
    times = weather["time"].values[0] + step * np.arange(frames)
    dates = weather["datetime"].values[0, 0] + step * np.arange(frames)
    return whole.assign_coords(
        time=times, datetime=(("batch", "time"), dates[np.newaxis])
    )


def _run(case, *more):
    return main.main(
        [
            "predict",
            *("--model", str(case.checkpoint), "--data", str(case.dataset)),
            *("--stats", str(case.stats), "--out-dir", str(case.out)),
            *("--on-violation", "ignore", *more),
        ]
    )


def _dates(case):
    return case.read()["datetime"].values[0]


def _stamp(time):
    return np.datetime_as_string(time, unit="h")


def _read(path):
    with data.open_dataset(path, canonical=False) as found:
        return found.load()


@pytest.mark.slow
def test_a_forecast_from_a_date_is_that_of_data_which_end_there(case, capfd):
    dates = _dates(case)
    at_date, at_end = case.folder / "date.nc", case.folder / "end.nc"
    start = ("--init", _stamp(dates[2]), "--steps", "2")
    assert _run(case, *start, "--output", str(at_date)) == 0
    assert "2 steps of 6 h, 2 with truth" in capfd.readouterr().out
    case.change(lambda weather: weather.isel(time=slice(5)))
    assert _run(case, "--steps", "2", "--output", str(at_end)) == 0
    xarray.testing.assert_equal(_read(at_date), _read(at_end))


def test_latest_goes_beyond_the_data_without_truth(case, capfd):
    assert _run(case, "--init", "latest", "--steps", "2") == 0
    printed = capfd.readouterr().out
    assert "0 with truth" in printed and "no scores" in printed


def test_a_hindcast_set_holds_the_single_forecasts_and_is_compiled_once(case, capfd):
    dates = _dates(case)
    spec = f"{_stamp(dates[1])}:{_stamp(dates[5])}:12h"
    forecaster = _FORECASTERS.get(3)
    before = forecaster.traces if forecaster else 0
    assert _run(case, "--init", spec, "--steps", "2", "--output", str(case.output)) == 0
    assert _FORECASTERS[3].traces - before <= 1
    printed = capfd.readouterr().out
    assert "3 starts" in printed and "Forecasts: 6 of 6" in printed
    found = _read(case.output)
    np.testing.assert_array_equal(found["time"], dates[[1, 3, 5]])
    assert found["geopotential"].dims == (
        "time", "prediction_timedelta", "level", "latitude", "longitude",
    )  # fmt: skip
    assert np.isfinite(found["geopotential"]).all()
    assert found.attrs["license"] == "CC0-1.0 (random numbers)"
    assert len(found.attrs["checkpoint_sha256"]) == 64
    single = case.folder / "single.nc"
    start = ("--init", _stamp(dates[3]), "--steps", "2")
    assert _run(case, *start, "--output", str(single)) == 0
    for name, field in _read(single).data_vars.items():
        _assert_same_but_for_rounding(found[name][1], field.isel(batch=0))


def _assert_same_but_for_rounding(one, other):
    one, other = np.asarray(one), np.asarray(other)
    np.testing.assert_allclose(one, other, rtol=2e-6, atol=2e-6 * np.abs(other).max())


@pytest.fixture
def one_by_one(case):
    """A set of five starts made start by start, and the command for it."""
    dates = _dates(case)
    command = ("--init", f"{_stamp(dates[1])}:{_stamp(dates[5])}:6h", "--steps", "2")
    path = case.folder / "one.zarr"
    assert _run(case, *command, "--output", str(path), "--batch-size", "1") == 0
    return _read(path), (*command, "--output", str(case.output))


@pytest.mark.parametrize("size", ["3", "4"])
def test_starts_computed_together_are_those_computed_one_by_one(size, case, one_by_one):
    expected, command = one_by_one
    assert _run(case, *command, "--batch-size", size) == 0
    found = _read(case.output)
    np.testing.assert_array_equal(found["time"], expected["time"])
    for name, field in expected.data_vars.items():
        _assert_same_but_for_rounding(found[name], field)


def test_blocks_go_on_in_the_middle_of_a_set_with_what_was_not_marked(
    case, one_by_one, monkeypatch
):
    expected, command = one_by_one
    finish = hindcasts.HindcastSlot.finish
    made = []

    def stops(slot):
        made.append(list(slot.starts))
        if len(made) == 3:
            raise KeyboardInterrupt
        finish(slot)

    monkeypatch.setattr(hindcasts.HindcastSlot, "finish", stops)
    # The third start is written and not marked, when the set is interrupted.
    assert _run(case, *command, "--batch-size", "1") == 130
    assert _run(case, *command, "--batch-size", "3") == 0
    assert made == [[0], [1], [2], [2, 3, 4]]
    found = _read(case.output)
    for name, field in expected.data_vars.items():
        _assert_same_but_for_rounding(found[name], field)


def test_a_block_that_was_interrupted_is_made_again(case, one_by_one, monkeypatch):
    expected, command = one_by_one
    mark = hindcasts.HindcastWriter.mark

    def half(writer, slot):
        # As if killed between the flags of the two starts of a block.
        if slot.start == 3:
            part = hindcasts.HindcastSlot(writer, range(3, 4), None, is_block=True)
            mark(writer, part)
            raise KeyboardInterrupt
        mark(writer, slot)

    monkeypatch.setattr(hindcasts.HindcastWriter, "mark", half)
    assert _run(case, *command, "--batch-size", "3") == 130
    monkeypatch.setattr(hindcasts.HindcastWriter, "mark", mark)
    assert _run(case, *command, "--batch-size", "3") == 0
    found = _read(case.output)
    for name, field in expected.data_vars.items():
        _assert_same_but_for_rounding(found[name], field)


@pytest.mark.parametrize("size", ["1", "4"])
def test_a_set_goes_on_without_the_starts_whose_frames_are_missing(
    size, case, one_by_one, capfd
):
    expected, command = one_by_one
    dates = _dates(case)
    capfd.readouterr()

    def spoil(weather):
        weather["2m_temperature"][0, 3, 4, 5] = np.nan
        return weather

    case.change(spoil)
    assert _run(case, *command, "--batch-size", "1") == 2
    said = capfd.readouterr().err
    stamp = np.datetime_as_string(dates[3], unit="m")
    assert f"error: start {stamp}: the data does not suit the model" in said
    assert f"time 1 ({stamp.replace('T', ' ')})" in said
    assert "2 of 5 forecasts are complete in" in said
    assert "--skip-missing makes the set without" in said
    assert _run(case, *command, "--batch-size", size, "--skip-missing") == 0
    printed = capfd.readouterr().out
    assert "3 starts, " in printed and "2 left out" in printed
    reason = f"2m_temperature has values that are not finite at {stamp}"
    assert f"Left out\n  2 of 5 starts:\n  {stamp}: {reason}\n" in printed
    found = _read(case.output)
    np.testing.assert_array_equal(found["time"], dates[[1, 2, 5]])
    for name, field in expected.data_vars.items():
        _assert_same_but_for_rounding(found[name], field[[0, 1, 4]])


def test_starts_are_left_out_for_any_of_their_frames(monkeypatch):
    weather = weather_samples.weather(frames=12)
    weather["temperature"][0, 2, 0, 0, 0] = np.nan
    # What is only predicted may be missing, but not infinite.
    weather["total_precipitation_6hr"][0, 4] = np.nan
    weather["total_precipitation_6hr"][0, 10] = np.inf
    dates = weather["datetime"].values[0]
    source = weather.isel(time=[n for n in range(12) if n != 7])
    states = data.InitialStates(source, weather_samples.TASK)
    found = usable_starts.to_leave_out(states, dates)
    broken = "temperature has values that are not finite at 2022-01-01T12:00"
    assert found == {
        0: "no frame at 2021-12-31T18:00",
        2: broken,
        3: broken,
        7: "no frame at 2022-01-02T18:00",
        8: "no frame at 2022-01-02T18:00",
        10: "total_precipitation_6hr has values that are not finite at "
        "2022-01-03T12:00",
        11: "total_precipitation_6hr has values that are not finite at "
        "2022-01-03T12:00",
    }
    monkeypatch.setattr(usable_starts, "_MOST_STATES", 1)
    assert usable_starts.to_leave_out(states, dates) == found
    # Members that start earlier read one more frame.
    earlier = usable_starts.to_leave_out(states, dates, earlier=1)
    assert list(earlier) == [0, 1, 2, 3, 4, 7, 8, 9, 10, 11]
    assert earlier[0] == "no frame at 2021-12-31T12:00, 2021-12-31T18:00"
    assert usable_starts.to_leave_out(states, dates[5:7]) == {}


def test_what_is_left_out_is_counted_and_named(capsys, monkeypatch):
    starts = np.datetime64("2020-01-01", "ns") + np.arange(4) * np.timedelta64(1, "D")
    monkeypatch.setattr(usable_starts, "_NAMED", 1)
    usable_starts.print_left_out(console.Console(), starts, {})
    assert not capsys.readouterr().out
    usable_starts.print_left_out(console.Console(), starts, {1: "a", 3: "b"})
    assert capsys.readouterr().out == (
        "\nLeft out\n  2 of 4 starts:\n  2020-01-02T00:00: a\n"
        "  and 1 more, which the file names\n"
    )


def test_an_impossible_batch_size_is_refused(case, capfd):
    dates = _dates(case)
    command = ("--init", f"{_stamp(dates[1])}:{_stamp(dates[2])}:6h")
    command += ("--output", str(case.output), "--batch-size", "0")
    assert _run(case, *command) == 2
    printed = capfd.readouterr()
    assert "--batch-size: at least 1 is needed, found 0" in printed.err
    assert not printed.out


@pytest.mark.parametrize(
    ("missing", "size", "expected"),
    [
        ([], 3, []),
        ([0, 1, 2, 3], 3, [range(3), range(3, 4)]),
        ([1, 2, 5, 7, 8], 2, [range(1, 3), range(5, 6), range(7, 9)]),
    ],
)
def test_blocks_hold_the_missing_starts_and_no_others(missing, size, expected):
    assert start_blocks.blocks(missing, size) == expected


def test_finished_starts_of_an_interrupted_set_are_not_made_again(
    case, capfd, monkeypatch
):
    dates = _dates(case)
    command = ("--init", f"{_stamp(dates[1])}:{_stamp(dates[3])}:6h", "--steps", "2")
    command += ("--output", str(case.output), "--batch-size", "1")
    made = []
    finish = hindcasts.HindcastSlot.finish

    def stops(slot):
        if len(made) == 1:
            made.append(None)
            raise KeyboardInterrupt
        made.append(slot.start)
        finish(slot)

    monkeypatch.setattr(hindcasts.HindcastSlot, "finish", stops)
    assert _run(case, *command) == 130
    assert "1 of 3 forecasts are complete in" in capfd.readouterr().err
    assert not case.output.exists()
    # Neither with other data of the same name, nor with data of another.
    content = case.dataset.read_bytes()
    case.change(lambda weather: weather.isel(time=[0, 2, 1, 3, 4, 5]).assign_coords(
        {name: weather[name] for name in ("time", "datetime")}
    ))  # fmt: skip
    assert _run(case, *command) == 2
    assert "by an earlier run with initial_state_sha256" in capfd.readouterr().err
    case.dataset.write_bytes(content)
    kept = case.dataset
    case.dataset = kept.rename(kept.with_name(f"other_{kept.name}"))
    assert _run(case, *command) == 2
    assert f"with initial_conditions {kept.name}, this" in capfd.readouterr().err
    case.dataset = case.dataset.rename(kept)
    assert _run(case, *command) == 0
    assert made == [0, None, 1, 2]
    found = _read(case.output)
    assert np.isfinite(found["2m_temperature"]).all()


@pytest.mark.parametrize(
    "kind",
    ["gaussian", pytest.param("spherical", marks=pytest.mark.slow), "bred", "lagged"],
)
def test_an_ensemble_has_members_that_differ_and_repeat(kind, case):
    dates = _dates(case)
    command = ("--init", _stamp(dates[4]), "--steps", "1", "--perturb", kind)
    command += ("--members", "3", "--members-per-batch", "2", "--breeding-cycles", "1")
    paths = [case.folder / "one.zarr", case.folder / "two.nc"]
    for path in paths:
        assert _run(case, *command, "--output", str(path)) == 0
    first, second = map(_read, paths)
    xarray.testing.assert_equal(first, second)
    field = first["geopotential"]
    assert field.dims[:3] == ("time", "number", "prediction_timedelta")
    assert (field.std("number") > 0).any() and np.isfinite(field).all()
    assert kind in first.attrs["perturbation"] and first.attrs["seed"] == 0
    # Two batches of two members, and no program but theirs.
    assert _FORECASTERS[2].traces == 1


def test_the_control_is_the_forecast_without_perturbation(case):
    dates = _dates(case)
    command = ("--init", _stamp(dates[2]), "--steps", "1")
    ensemble, single = case.folder / "e.zarr", case.folder / "s.nc"
    members = ("--members", "2", "--members-per-batch", "2", "--output", str(ensemble))
    assert _run(case, *command, *members) == 0
    assert _run(case, *command, "--output", str(single)) == 0
    control = _read(ensemble)["temperature"][0, 0]
    expected = _read(single)["temperature"].isel(batch=0)
    np.testing.assert_allclose(control, expected, rtol=1e-4)


def test_static_fields_come_from_their_own_file(case):
    static = case.folder / "static.nc"
    case.read()[["land_sea_mask"]].to_netcdf(static)
    whole, parts = case.folder / "whole.nc", case.folder / "parts.nc"
    assert _run(case, "--init", "latest", "--output", str(whole)) == 0
    case.change(lambda weather: weather.drop_vars("land_sea_mask"))
    start = ("--init", "latest", "--output", str(parts))
    assert _run(case, *start) == 2
    assert _run(case, *start, "--static", str(static)) == 0
    xarray.testing.assert_equal(_read(whole), _read(parts))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--init", "1999-01-01"], "no forecast can start at 1999-01-01T00:00"),
        (["--init", "soon"], "'soon' is no start"),
        (["--init", "first:latest:6h"], "--output: many starts or members"),
        (["--init", "first:latest:6h", "--animate"], "is not drawn"),
        (["--members", "0", "--output", "x.nc"], "--members: at least 1"),
        (["--perturb", "bred", "--output", "x.nc"], "--perturb: needs --members N, at"),
        (["--amplitude", "0.085", "--output", "x.nc"], "--amplitude: needs --members"),
        (["--perturb-scale", "differences"], "--perturb-scale: needs --members N"),
        (["--correlation-length", "1200"], "--correlation-length: needs --members"),
        (
            ["--init", "first:latest:6h", "--breeding-cycles", "4", "--output", "x.nc"],
            "--breeding-cycles: needs --members N, at least 2, found no --members",
        ),
        (["--perturb-all"], "--perturb-all: needs --members N"),
        (
            ["--members", "1", "--perturb", "bred", "--output", "x.nc"],
            "--perturb: needs --members N, at least 2, found --members 1",
        ),
        (["--mode", "Random"], "--mode Random takes no --model (--pretrained)"),
        (["--members", "2", "--output", "x.grib"], "written as .nc or .zarr"),
        (["--members", "2", "--output", "x.nc", "--amplitude", "-1"], "amplitude"),
        (
            ["--members", "9", "--perturb", "lagged", "--output", "x.nc"],
            "--perturb lagged needs, 8 step(s) back",
        ),
        (["--skip-missing"], "--skip-missing: leaves starts out of a set; give one"),
        (
            ["--init", "latest", "--skip-missing"],
            "--skip-missing: leaves starts out of",
        ),
        (
            ["--init", "1999-01-01,1999-01-02", "--skip-missing", "--output", "x.nc"],
            "none of the 2 starts can be made with these data; of the first of them",
        ),
        (
            ["--init", "2022-01-01/2023-01-01/12h", "--output", "x.nc"],
            "--skip-missing makes the set without the starts",
        ),
        (["--static", "x.nc"], "add --init"),
        (["--init", "latest", "--static", "x.nc"], "the static file does not exist"),
        (["--init", "latest", "--time-step", "5h"], "--time-step"),
        (["--init", "latest", "--time-step", "soon"], "'soon'"),
        (["--init", "latest", "--steps", "0"], "at least 1 step"),
        (["--init", "latest", "--steps", "100000000"], "more than the 200000"),
        (["--members", "2", "--steps", "200001", "--output", "x.nc"], "200000 that"),
        (
            ["--members", "2", "--output", "x.nc", "--seed", "9" * 23],
            "--seed must lie in 0 to 4294967295",
        ),
    ],
)
def test_mistakes_end_with_one_message(arguments, message, case, capfd):
    assert _run(case, *arguments) == 2
    errors = capfd.readouterr().err
    assert message in errors and "Traceback" not in errors
    assert not list(case.folder.glob("x.nc*"))


def test_settings_of_perturbations_are_those_of_the_library_unless_given(case):
    statistics = models.load_statistics(case.stats)
    plain = ensembles.Ensemble(predict.Options(), 2, statistics)
    assert plain.config == rollout.PerturbationConfig()
    assert plain.scales is statistics.diffs_stddev_by_level
    options = predict.Options(
        perturb_scale="values", amplitude=0.1, correlation_length=900, breeding_cycles=1
    )
    chosen = ensembles.Ensemble(options, 2, statistics)
    expected = rollout.PerturbationConfig(
        amplitude=0.1, correlation_length=900, cycles=1
    )
    assert chosen.config == expected
    assert chosen.scales is statistics.stddev_by_level
    # One that is perturbed is no forecast from the data as they are.
    predict.Options(members=1, perturb="bred", perturb_all=True).require_consistent()
    with pytest.raises(ValueError, match="--amplitude: members of this model differ"):
        ensembles.Ensemble(predict.Options(amplitude=0.1), 2, statistics, is_drawn=True)


def test_batches_are_all_of_one_size():
    class Ensemble:
        members, per_batch = 5, 2

    assert list(ensembles.batches(Ensemble)) == [range(2), range(2, 4), range(3, 5)]
    assert list(ensembles.batches(None)) == [None]


def test_quantities_are_derived_for_single_forecasts_and_sets(case, capsys):
    names = ("--derive", "wind_speed", "10m_wind_speed")
    dates = _dates(case)
    single = case.out / "single.nc"
    more = ("--init", _stamp(dates[1]), "--steps", "2", *names)
    assert _run(case, *more, "--output", str(single)) == 0
    assert "wind_speed_500" in capsys.readouterr().out
    init = f"{_stamp(dates[1])}/{_stamp(dates[2])}/6h"
    more = ("--init", init, "--steps", "2", *names)
    assert _run(case, *more, "--output", str(case.output)) == 0
    found = data.open_dataset(single)
    several = xarray.open_zarr(case.output, consolidated=False)
    for name in ("wind_speed", "10m_wind_speed"):
        prefix = name.removesuffix("wind_speed")
        u = found[f"{prefix}u_component_of_wind"].values
        v = found[f"{prefix}v_component_of_wind"].values
        np.testing.assert_allclose(found[name].values, np.hypot(u, v), rtol=1e-5)
        of_set = several[name].isel(time=0).values
        np.testing.assert_allclose(
            of_set.ravel(), found[name].values.ravel(), rtol=1e-5, atol=1e-5
        )


def test_a_quantity_that_cannot_be_derived_stops_before_the_forecast(case, capsys):
    more = ("--steps", "1", "--derive", "wind_sped", "--output", str(case.output))
    assert _run(case, *more) == 2
    assert "wind_sped: cannot be derived; is it wind_speed?" in capsys.readouterr().err
    assert not list(case.output.parent.glob("set.zarr*"))
