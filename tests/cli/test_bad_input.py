"""Every mistake of a user ends with one message, exit code 2 and no forecast file."""

import re

import numpy as np
import pytest
import xarray

from tests.cli import cases


@pytest.fixture
def case(tmp_path):
    return cases.Case.create(tmp_path)


def _truncate(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def _missing_dataset(case):
    case.dataset.unlink()


def _missing_checkpoint(case):
    case.checkpoint.unlink()


def _missing_statistics(case):
    (case.stats / "stats_mean_by_level.nc").unlink()


def _text_for_dataset(case):
    case.dataset.write_text("time,lat,lon\n0,1,2\n")


def _text_for_checkpoint(case):
    case.checkpoint.write_text("not a checkpoint")


def _cut_dataset(case):
    _truncate(case.dataset)


def _cut_old_netcdf(case):
    case.read().to_netcdf(case.dataset, format="NETCDF3_64BIT")
    _truncate(case.dataset)


def _damaged_zarr(case):
    path = case.folder / "data.zarr"
    case.read().to_zarr(path, consolidated=False)
    # Chunks are called 0.0.0 in version 2 of the format and c/0/0/0 in version 3.
    for chunk in (path / "geopotential").rglob("[0-9]*"):
        if chunk.is_file():
            _truncate(chunk)
    case.dataset = path


def _cut_checkpoint(case):
    _truncate(case.checkpoint)


def _cut_statistics(case):
    _truncate(case.stats / "stats_stddev_by_level.nc")


def _another_family(case):
    np.savez(
        case.checkpoint,
        **{
            "params:gencast/~/linear:w": np.ones((2, 2)),
            "denoiser_architecture_config:node_output_size": 3,
            "task_config:input_duration": "24h",
            "description": "a GenCast",
            "license": "",
        },
    )


def _several_checkpoints(case):
    (case.folder / "other.ckpt").write_bytes(case.checkpoint.read_bytes())
    case.checkpoint = case.folder


def _no_checkpoint_in_folder(case):
    case.checkpoint = case.stats


def _missing_variable(case):
    case.change(lambda data: data.drop_vars("specific_humidity"))


def _missing_level(case):
    case.change(lambda data: data.drop_sel(level=850))


def _extra_level(case):
    def extend(data):
        extra = data.isel(level=[0]).assign_coords(level=[20])
        return xarray.concat([extra, data], "level", data_vars="minimal")

    case.change(extend)


def _wrong_resolution(case):
    case.change(lambda data: data.isel(lat=slice(None, None, 2), lon=slice(0, 24, 2)))


def _one_frame(case):
    case.change(lambda data: data.isel(time=[0]))


def _statistics_of_fewer_levels(case):
    for path in case.stats.iterdir():
        with xarray.open_dataset(path) as stats:
            stats = stats.load()
        stats.sel(level=[500, 850, 1000]).to_netcdf(path)


def _statistics_of_other_variables(case):
    for path in case.stats.iterdir():
        with xarray.open_dataset(path) as stats:
            stats = stats.load()
        stats.drop_vars("geopotential").to_netcdf(path)


def _statistics_of_other_data(case):
    path = case.stats / "stats_mean_by_level.nc"
    with xarray.open_dataset(path) as stats:
        stats = stats.load()
    (stats * 30).to_netcdf(path)


def _uneven_times(case):
    def shift(data):
        step = np.timedelta64(3, "h") * np.array([0, 0, 0, 1])
        return data.assign_coords(
            time=data["time"] + step, datetime=data["datetime"] + step
        )

    case.change(shift)


def _repeated_time(case):
    case.change(lambda data: data.isel(time=[0, 1, 1, 2, 3]))


def _twelve_hourly(case):
    case.change(lambda data: _spaced(data, 12))


def _three_hourly(case):
    def extend(data):
        longer = data.isel(time=[0, 1, 2, 3, 3])
        static = {n: f for n, f in data.items() if "time" not in f.dims}
        return _spaced(longer.assign(static), 3)

    case.change(extend)


def _spaced(data, hours):
    """Returns the frames as if so many hours lay between them."""
    step = np.timedelta64(hours, "h").astype("timedelta64[ns]")
    time = step * np.arange(data.sizes["time"])
    dates = data["datetime"].values[:, :1] + time
    return data.assign_coords(time=time, datetime=(("batch", "time"), dates))


def _change_checkpoint(case, change):
    with np.load(case.checkpoint) as stored:
        arrays = dict(stored)
    change(arrays, next(name for name in arrays if name.startswith("params:")))
    with case.checkpoint.open("wb") as file:
        np.savez(file, **arrays)


def _missing_parameter(case):
    _change_checkpoint(case, lambda arrays, name: arrays.pop(name))


def _spare_parameter(case):
    spare = {"params:foo/bar:w": np.zeros(3, np.float32)}
    _change_checkpoint(case, lambda arrays, name: arrays.update(spare))


def _cut_parameter(case):
    def cut(arrays, name):
        arrays[name] = arrays[name][:-1]

    _change_checkpoint(case, cut)


def _stated(variable, units, scale, offset):
    """Returns a change of one variable to another unit, which it states."""

    def convert(data):
        field = data[variable] * scale + offset
        return data.assign({variable: field.assign_attrs(units=units)})

    return convert


def _stated_hectopascals(case):
    case.change(_stated("mean_sea_level_pressure", "hPa", 0.01, 0.0))


def _stated_celsius(case):
    case.change(_stated("temperature", "degC", 1.0, -273.15))


def _stated_height(case):
    case.change(_stated("geopotential", "m", 1 / 9.80665, 0.0))


def _stated_orography(case):
    convert = _stated("geopotential_at_surface", "m", 1 / 9.80665, 0.0)
    case.change(lambda d: convert(d).rename(geopotential_at_surface="orography"))


def _height_of_the_ground(case):
    def convert(data):
        data["geopotential_at_surface"] /= 9.80665
        return data

    case.change(convert)


def _absurdly_many_steps(case):
    case.more += ["--steps", "100000000"]


def _hectopascals_called_pascals(case):
    def convert(data):
        data["mean_sea_level_pressure"] /= 100
        data["mean_sea_level_pressure"].attrs["units"] = "Pa"
        return data

    case.change(convert)


def _hectopascals_unsaid(case):
    def convert(data):
        data["mean_sea_level_pressure"] /= 100
        return data

    case.change(convert)


def _celsius(case):
    def convert(data):
        data["2m_temperature"] -= 273.15
        return data

    case.change(convert)


def _geopotential_height(case):
    def convert(data):
        data["geopotential"] /= 9.80665
        return data

    case.change(convert)


def _missing_values(case):
    def spoil(data):
        data["2m_temperature"][0, -1, 3, 4] = np.nan
        data["2m_temperature"][0, 0, 3, 4] = np.nan
        return data

    case.change(spoil)


def _unknown_variable(case):
    case.more += ["--var", "snow_on_mars"]


def _unknown_level(case):
    case.more += ["--var", "geopotential", "--level", "333"]


def _no_steps(case):
    case.more += ["--steps", "0"]


def _pictures_into_a_file(case):
    case.out = case.dataset / "pictures"


def _output_into_a_file(case):
    case.output = case.dataset / "forecast.nc"


def _output_of_unknown_kind(case):
    case.output = case.folder / "forecast.csv"


def _output_exists(case):
    case.out.mkdir()
    case.output = case.out / "older.nc"
    case.output.write_text("older")


MISTAKES = {
    _missing_dataset: "data.nc: no such file",
    _missing_checkpoint: "params.npz: .*does not exist",
    _missing_statistics: "no statistics, stats_mean_by_level.nc missing",
    _text_for_dataset: "data.nc: not NetCDF, Zarr or GRIB",
    _text_for_checkpoint: "params.npz: ",
    _cut_dataset: "data.nc: damaged or cut short",
    _cut_old_netcdf: "data.nc: damaged or cut short",
    _damaged_zarr: "data.zarr: damaged or cut short",
    _cut_checkpoint: "params.npz: ",
    _cut_statistics: "stats_stddev_by_level.nc: damaged or cut short",
    _another_family: "params.npz: .*GenCast",
    _several_checkpoints: "exactly one file .*found other.ckpt, params.npz",
    _no_checkpoint_in_folder: "exactly one file .*found none",
    _missing_variable: "specific_humidity",
    _missing_level: "850 hPa missing",
    _extra_level: "20 hPa are not levels of the model",
    _wrong_resolution: "30.*15",
    _one_frame: "1 frame",
    _statistics_of_fewer_levels: "statistics.*another model",
    _statistics_of_other_variables: "statistics.*another model(.|\n)*geopotential",
    _statistics_of_other_data: "standard deviations from the mean of the statistics",
    _uneven_times: "uneven: 0 days 06:00:00 in general, but 0 days 09:00:00",
    _repeated_time: "occurs more than once",
    _twelve_hourly: "params.npz: frames are 0 days 12:00:00 apart, and the weights fit "
    "a time step of 0 days 06:00:00",
    _three_hourly: "params.npz: frames are 0 days 03:00:00 apart, and the weights fit "
    "a time step of 0 days 06:00:00",
    _missing_parameter: r"params.npz: (.|\n)*it lacks \S+/\w+",
    _spare_parameter: r"params.npz: (.|\n)*it has foo/bar/w, which this model lacks",
    _cut_parameter: r"params.npz: (.|\n)*has shape \(\d.*, this model needs \(",
    _stated_hectopascals: "mean_sea_level_pressure: units 'hPa', expected 'Pa'"
    "(.|\n)*--conform",
    _stated_celsius: "temperature: units 'degC', expected 'K'(.|\n)*--conform",
    _stated_height: "geopotential: units 'm', expected 'm2 s-2'(.|\n)*--conform",
    _stated_orography: "geopotential_at_surface: units 'm', expected 'm2 s-2'"
    "(.|\n)*--conform",
    _height_of_the_ground: "geopotential_at_surface: .*look like m of geopotential",
    _absurdly_many_steps: "steps: 100000000 are more than the 200000",
    _hectopascals_called_pascals: "mean_sea_level_pressure.*hPa",
    _hectopascals_unsaid: "mean_sea_level_pressure.*hPa",
    _celsius: "2m_temperature: .*look like degC, expected K",
    _geopotential_height: "geopotential: .*look like m of geopotential height",
    _missing_values: "2m_temperature: .*NaN",
    _unknown_variable: "no variable 'snow_on_mars' to draw; there is 10m_u",
    _unknown_level: "no level 333 hPa to draw; it has 50, 100",
    _no_steps: "at least 1 step, found 0",
    _pictures_into_a_file: "cannot write into this folder",
    _output_into_a_file: "found a file",
    _output_of_unknown_kind: r"written as .nc or .zarr, found .csv",
    _output_exists: "older.nc: exists already",
}


@pytest.mark.parametrize("door", cases.DOORS)
@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda f: f.__name__.strip("_"))
def test_a_mistake_ends_with_one_message_and_nothing_written(
    mistake, door, case, capfd, monkeypatch
):
    monkeypatch.chdir(case.folder)
    mistake(case)
    before = sorted(case.out.iterdir()) if case.out.is_dir() else []
    assert cases.DOORS[door](case.arguments()) == 2
    errors = capfd.readouterr().err
    assert errors.count("weatherlib: error:") == 1 and "Traceback" not in errors
    assert re.search(MISTAKES[mistake], errors), errors
    after = sorted(case.out.iterdir()) if case.out.is_dir() else []
    assert after == before


def test_the_script_needs_a_frame_of_truth_and_the_command_does_not(
    case, capfd, monkeypatch
):
    monkeypatch.chdir(case.folder)
    case.change(lambda data: data.isel(time=[0, 1]))
    assert cases.DOORS["script"](case.arguments()) == 2
    errors = capfd.readouterr().err
    assert "2 frame(s), at least 3 are needed to read and compare with" in errors
    case.more += ["--var", "nothing"]
    assert cases.DOORS["command"](case.arguments()) == 2
    assert "no variable 'nothing'" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("option", "what"), [("--model", "the checkpoint"), ("--data", "the source")]
)
def test_an_empty_name_is_refused(option, what, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert cases.DOORS["command"]([option, "", "--steps", "1"]) == 2
    assert f"the name of {what} is empty" in capsys.readouterr().err


@pytest.mark.parametrize("mode", ["random", "Pretrained", ""])
def test_another_mode_is_refused(mode, case, capfd):
    case.more += ["--mode", mode]
    with pytest.raises(SystemExit) as leave:
        cases.DOORS["script"](case.arguments())
    assert leave.value.code == 2
    assert "invalid choice" in capfd.readouterr().err
    assert cases.DOORS["command"](case.arguments()) == 2
    assert "Checkpoint" in capfd.readouterr().err


def test_statistics_of_the_bundled_model_are_not_used_with_another(
    case, capfd, monkeypatch
):
    monkeypatch.chdir(case.folder)
    case.stats.rename(case.folder / "elsewhere")
    arguments = case.arguments()
    at = arguments.index("--stats")
    del arguments[at : at + 2]
    for door in cases.DOORS.values():
        assert door(arguments) == 2
        errors = capfd.readouterr().err
        for name in cases.STATISTICS:
            assert f"stats_{name}.nc" in errors


def test_data_are_brought_into_form_on_request(case, capfd, monkeypatch):
    monkeypatch.chdir(case.folder)
    _hectopascals_unsaid(case)
    case.more += ["--conform", "--var", "nothing"]
    assert cases.DOORS["command"](case.arguments()) == 2
    captured = capfd.readouterr()
    assert "mean_sea_level_pressure" in captured.out
    assert "no variable 'nothing'" in captured.err
